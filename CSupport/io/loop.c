// The half of the event loop that both backends share: life of connections, listening, refusing, waiting. Loop's
// thread.
#include "loop_internal.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

cs_conn *cs_conn_make(cs_loop *loop, void *token, int fd, uint32_t kind) {
    cs_conn *conn = loop->unused;
    if (conn) loop->unused = conn->next;
    else if (!(conn = malloc(sizeof *conn))) abort();
    memset(conn, 0, sizeof *conn);
    conn->loop = loop;
    conn->token = token;
    conn->fd = fd;
    conn->kind = kind;
    conn->flags = CS_WANT_READ;
    loop->live++;
    return conn;
}

/// Called once per connection, when the kernel owes nothing any more: closes the descriptor and queues the last event.
void cs_conn_report_closed(cs_conn *conn) {
    cs_loop *loop = conn->loop;
    conn->flags |= CS_CLOSED;
    close(conn->fd);
    conn->fd = -1;
    conn->next = NULL;
    if (loop->closed_last) loop->closed_last->next = conn;
    else loop->closed_first = conn;
    loop->closed_last = conn;
}

/// Puts a connection or listener on the list that the next wait arms, not before monotonic time `at`.
void cs_conn_arm_later(cs_conn *conn, int64_t at) {
    conn->arm_at = at;
    if (conn->flags & CS_TO_ARM) return;
    conn->flags |= CS_TO_ARM;
    conn->next_to_arm = conn->loop->to_arm;
    conn->loop->to_arm = conn;
}

static int open_spare(void) { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

/// Gives up the spare descriptor to take one connection from the backlog. -1 if there is none to take.
int cs_accept_spare(cs_loop *loop, int listener) {
    struct pollfd waiting = {.fd = listener, .events = POLLIN};
    if (loop->spare_fd < 0 || poll(&waiting, 1, 0) <= 0) return -1;
    close(loop->spare_fd);
    loop->spare_fd = -1;
    int flags = fcntl(listener, F_GETFL);
    fcntl(listener, F_SETFL, flags | O_NONBLOCK);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    fcntl(listener, F_SETFL, flags);
    if (fd < 0) loop->spare_fd = open_spare();
    return fd;
}

/// What to do after accept failed with `error` (positive): accepting goes on in every case, at once or after a pause.
/// 1 if `event` was filled.
int cs_accept_error(cs_conn *listener, int error, cs_event *event) {
    cs_loop *loop = listener->loop;
    if (error == EMFILE || error == ENFILE) {
        int fd = cs_accept_spare(loop, listener->fd);
        if (fd >= 0) {
            cs_conn_arm_later(listener, 0);
            cs_fill(event, listener, CS_EVENT_OVERLOADED, fd, NULL);
            return 1;
        }
    }
    int transient = error == ECONNABORTED || error == EINTR || error == EAGAIN || error == EPROTO || error == ECANCELED;
    if (!transient) cs_counter_add(&loop->statistics.accepts_paused, 1);
    cs_conn_arm_later(listener, transient ? 0 : cs_monotonic_nanos() + CS_ACCEPT_PAUSE_NANOS);
    return 0;
}

void cs_loop_refuse(cs_loop *loop, int fd, const void *farewell, size_t length) {
    if (length > 0) (void)!send(fd, farewell, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(fd, SHUT_WR);
    close(fd);
    if (loop->spare_fd < 0) loop->spare_fd = open_spare();
}

cs_loop *cs_loop_create(uint32_t backend, int *error) {
    cs_loop *loop = aligned_alloc(64, (sizeof(cs_loop) + 63) / 64 * 64);
    if (!loop) {
        *error = -ENOMEM;
        return NULL;
    }
    memset(loop, 0, sizeof *loop);
    loop->backend = backend;
    loop->epoll_fd = -1;
    loop->spare_fd = open_spare();
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int failure = loop->wake_fd < 0 ? -errno : 0;
    if (!failure) failure = backend == CS_BACKEND_URING ? cs_ring_open(loop) : cs_epoll_open(loop);
    if (!failure) return loop;
    if (loop->wake_fd >= 0) close(loop->wake_fd);
    if (loop->spare_fd >= 0) close(loop->spare_fd);
    free(loop);
    *error = failure;
    return NULL;
}

int cs_loop_start(cs_loop *loop) { return loop->backend == CS_BACKEND_URING ? cs_ring_start(loop) : 0; }

static void free_list(cs_conn *conn) {
    while (conn) {
        cs_conn *next = conn->next;
        free(conn);
        conn = next;
    }
}

void cs_loop_destroy(cs_loop *loop) {
    int idle = loop->live == 0;
    if (loop->backend == CS_BACKEND_URING) cs_ring_close(loop);
    else cs_epoll_close(loop);
    close(loop->wake_fd);
    if (loop->spare_fd >= 0) close(loop->spare_fd);
    free_list(loop->unused);
    free_list(loop->reported);
    if (idle) free(loop);
}

uint32_t cs_loop_backend(const cs_loop *loop) { return loop->backend; }
uint64_t cs_loop_live(const cs_loop *loop) { return loop->live; }

cs_loop_statistics cs_loop_read_statistics(const cs_loop *loop) {
    cs_loop_statistics s;
    s.waits = cs_counter_read(&loop->statistics.waits);
    s.events = cs_counter_read(&loop->statistics.events);
    s.buffers_exhausted = cs_counter_read(&loop->statistics.buffers_exhausted);
    s.accepts_paused = cs_counter_read(&loop->statistics.accepts_paused);
    return s;
}

void cs_loop_wake(cs_loop *loop) {
    uint64_t one = 1;
    while (write(loop->wake_fd, &one, sizeof one) < 0 && errno == EINTR) {}
}

static int take_closed(cs_loop *loop, cs_event *events, int count, int capacity) {
    while (loop->closed_first && count < capacity) {
        cs_conn *conn = loop->closed_first;
        // A connection still on the arming list must leave it before its memory can be reused.
        if (conn->flags & CS_TO_ARM) {
            cs_conn **link = &loop->to_arm;
            while (*link && *link != conn) link = &(*link)->next_to_arm;
            if (*link) *link = conn->next_to_arm;
        }
        loop->closed_first = conn->next;
        if (!loop->closed_first) loop->closed_last = NULL;
        cs_fill(&events[count++], conn, CS_EVENT_CLOSED, conn->reason, NULL);
        conn->next = loop->reported;
        loop->reported = conn;
        loop->live--;
    }
    return count;
}

/// Takes some of those that wait in the queue of a listener with CS_LAST, and closes it when there are none.
static int take_last(cs_conn *listener, cs_event *events, int count, int capacity) {
    int uring = listener->loop->backend == CS_BACKEND_URING;
    if (uring) fcntl(listener->fd, F_SETFL, fcntl(listener->fd, F_GETFL) | O_NONBLOCK);
    for (int i = 0; i < CS_ACCEPTS_PER_TURN && count < capacity; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | (uring ? 0 : SOCK_NONBLOCK));
        if (fd >= 0) {
            cs_fill(&events[count++], listener, CS_EVENT_ACCEPTED, fd, NULL);
        } else if (errno != EINTR && errno != ECONNABORTED) {
            int refuses = cs_accept_error(listener, errno, &events[count]);
            count += refuses;
            if (!refuses) cs_conn_start_close(listener, 0);
            break;
        }
    }
    if (!(listener->flags & CS_CLOSING)) cs_conn_arm_later(listener, 0);
    return count;
}

/// Arms what is due, and lets listeners end; returns the timeout shortened to the next one that is not.
static int64_t arm_due(cs_loop *loop, cs_event *events, int *count, int capacity, int64_t timeout) {
    cs_conn *conn = loop->to_arm;
    if (!conn) return timeout;
    loop->to_arm = NULL;
    int64_t now = cs_monotonic_nanos();
    while (conn) {
        cs_conn *next = conn->next_to_arm;
        conn->flags &= ~CS_TO_ARM;
        if ((conn->flags & (CS_LAST | CS_CLOSING)) == CS_LAST) {
            // While the kernel still accepts for it, its last completion ends the wait.
            if (conn->flags & CS_ARMED) cs_conn_arm_later(conn, 0);
            else *count = take_last(conn, events, *count, capacity);
        } else if (conn->arm_at > now) {
            int64_t left = conn->arm_at - now;
            if (timeout < 0 || left < timeout) timeout = left;
            cs_conn_arm_later(conn, conn->arm_at);
        } else if (!(conn->flags & (CS_CLOSING | CS_ARMED | CS_PEER_ENDED)) && (conn->flags & CS_WANT_READ)) {
            conn->arm_at = 0;
            if (loop->backend == CS_BACKEND_URING) cs_ring_arm(conn);
            else cs_epoll_update(conn);
        }
        conn = next;
    }
    return timeout;
}

void cs_loop_tend(cs_loop *loop) {
    if (loop->backend == CS_BACKEND_URING) cs_ring_tend(loop);
}

int cs_loop_wait(cs_loop *loop, cs_event *events, int capacity, int64_t timeout_nanos) {
    while (loop->reported) {
        cs_conn *conn = loop->reported;
        loop->reported = conn->next;
        conn->next = loop->unused;
        loop->unused = conn;
    }
    int count = 0;
    timeout_nanos = arm_due(loop, events, &count, capacity / 2, timeout_nanos);
    // A mass of closings can neither starve fresh events nor make a turn long. What is left has the next turn at once.
    int closings_max = capacity / 2 < CS_CLOSINGS_PER_TURN ? capacity / 2 : CS_CLOSINGS_PER_TURN;
    int taken = count;
    count = take_closed(loop, events, count, count + closings_max);
    int closings = count - taken;
    if (count > 0) timeout_nanos = 0;
    count = loop->backend == CS_BACKEND_URING ? cs_ring_wait(loop, events, count, capacity, timeout_nanos)
                                              : cs_epoll_wait(loop, events, count, capacity, timeout_nanos);
    int most = count + closings_max - closings;
    count = take_closed(loop, events, count, most < capacity ? most : capacity);
    cs_counter_add(&loop->statistics.waits, 1);
    cs_counter_add(&loop->statistics.events, (uint64_t)count);
    return count;
}

static void set_stream_options(int fd) {
    int on = 1, idle = CS_KEEP_ALIVE_SECONDS, interval = CS_KEEP_ALIVE_SECONDS / 3, probes = 3;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

/// io_uring wants blocking sockets (it waits itself; a non-blocking one only ever reports EAGAIN), epoll the opposite.
static int open_socket(const cs_loop *loop, const cs_address *address) {
    int flags = SOCK_STREAM | SOCK_CLOEXEC | (loop->backend == CS_BACKEND_EPOLL ? SOCK_NONBLOCK : 0);
    int fd = socket(((const struct sockaddr *)address->bytes)->sa_family, flags, 0);
    if (fd >= 0) set_stream_options(fd);
    return fd;
}

cs_conn *cs_loop_listen(cs_loop *loop, void *token, const cs_address *address, int reuse_port, int *error) {
    int on = 1;
    int fd = open_socket(loop, address);
    if (fd < 0) {
        *error = -errno;
        return NULL;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (((const struct sockaddr *)address->bytes)->sa_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    }
    if ((reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0)
        || bind(fd, (const struct sockaddr *)address->bytes, address->length) < 0 || listen(fd, CS_BACKLOG) < 0) {
        *error = -errno;
        close(fd);
        return NULL;
    }
    cs_conn *conn = cs_conn_make(loop, token, fd, CS_KIND_LISTENER);
    cs_conn_arm_later(conn, 0);
    return conn;
}

/// Whether a path may be bound: 0, or -errno. Removes a socket that nobody listens on.
static int clear_path(const struct sockaddr_un *address) {
    struct stat status;
    if (lstat(address->sun_path, &status) < 0) return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(status.st_mode)) return -ENOTSOCK;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -errno;
    int failure = connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 ? 0 : errno;
    close(fd);
    if (failure != ECONNREFUSED) return -EADDRINUSE;
    return unlink(address->sun_path) == 0 ? 0 : -errno;
}

cs_conn *cs_loop_listen_path(cs_loop *loop, void *token, const char *path, uint32_t mode, int *error) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length == 0 || length > CS_PATH_BYTES_MAX) {
        *error = -ENAMETOOLONG;
        return NULL;
    }
    memcpy(address.sun_path, path, length);
    *error = clear_path(&address);
    if (*error < 0) return NULL;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (loop->backend == CS_BACKEND_EPOLL ? SOCK_NONBLOCK : 0), 0);
    // Before it listens nobody reaches it, and by then its mode is set.
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 || chmod(path, mode) < 0
        || listen(fd, CS_BACKLOG) < 0) {
        *error = -errno;
        if (fd >= 0) close(fd);
        return NULL;
    }
    cs_conn *conn = cs_conn_make(loop, token, fd, CS_KIND_LISTENER);
    cs_conn_arm_later(conn, 0);
    return conn;
}

cs_conn *cs_loop_connect(cs_loop *loop, void *token, const cs_address *address, int *error) {
    int fd = open_socket(loop, address);
    if (fd < 0) {
        *error = -errno;
        return NULL;
    }
    cs_conn *conn = cs_conn_make(loop, token, fd, CS_KIND_CONNECTING);
    conn->address = *address;
    if (loop->backend == CS_BACKEND_URING) cs_ring_connect(conn);
    else cs_epoll_connect(conn);
    return conn;
}

cs_conn *cs_conn_adopt(cs_loop *loop, void *token, int fd) {
    cs_conn *conn = cs_conn_make(loop, token, fd, CS_KIND_STREAM);
    if (loop->backend == CS_BACKEND_URING) cs_ring_arm(conn);
    else cs_epoll_update(conn);
    return conn;
}

int cs_conn_send(cs_conn *conn, const void *data, size_t length) {
    if (conn->flags & CS_CLOSING) return 0;
    conn->send_at = data;
    conn->send_left = length;
    conn->flags |= CS_SENDING;
    if (conn->loop->backend == CS_BACKEND_EPOLL) return cs_epoll_send(conn);
    cs_ring_send(conn);
    return 0;
}

void cs_conn_pause(cs_conn *conn) {
    if (!(conn->flags & CS_WANT_READ)) return;
    conn->flags &= ~CS_WANT_READ;
    if (conn->loop->backend == CS_BACKEND_EPOLL) cs_epoll_update(conn);
    else if (conn->flags & CS_ARMED) cs_ring_cancel(conn);
}

void cs_conn_resume(cs_conn *conn) {
    if (conn->flags & (CS_WANT_READ | CS_CLOSING | CS_PEER_ENDED)) return;
    conn->flags |= CS_WANT_READ;
    if (conn->loop->backend == CS_BACKEND_EPOLL) cs_epoll_update(conn);
    else if (!(conn->flags & CS_ARMED)) cs_conn_arm_later(conn, 0);  // else its cancellation arms it again
}

void cs_conn_end(cs_conn *conn) {
    if (!(conn->flags & CS_CLOSING)) shutdown(conn->fd, SHUT_WR);
}

void cs_conn_close(cs_conn *conn) { cs_conn_start_close(conn, 0); }

void cs_listener_finish(cs_conn *listener) {
    if (listener->flags & (CS_CLOSING | CS_LAST)) return;
    listener->flags = (listener->flags | CS_LAST) & ~CS_WANT_READ;
    if (listener->flags & CS_ARMED) cs_ring_cancel(listener);
    cs_conn_arm_later(listener, 0);
}

void cs_conn_abandon(cs_conn *conn) {
    if (conn->flags & CS_CLOSED) return;
    close(conn->fd);
    if (conn->inflight > 0) return;
    conn->loop->live--;
    free(conn);
}

int cs_conn_local_address(const cs_conn *conn, cs_address *out) {
    socklen_t length = sizeof out->bytes;
    if (getsockname(conn->fd, (struct sockaddr *)out->bytes, &length) < 0) return -errno;
    if (((const struct sockaddr *)out->bytes)->sa_family == AF_UNIX) return -EAFNOSUPPORT;
    out->length = length;
    return 0;
}

int cs_conn_peer_address(const cs_conn *conn, cs_address *out) {
    socklen_t length = sizeof out->bytes;
    if (getpeername(conn->fd, (struct sockaddr *)out->bytes, &length) < 0) return -errno;
    if (((const struct sockaddr *)out->bytes)->sa_family == AF_UNIX) return -EAFNOSUPPORT;
    out->length = length;
    return 0;
}

int cs_conn_descriptor(const cs_conn *conn) { return conn->fd; }
