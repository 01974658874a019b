// The epoll backend, for machines and containers that refuse io_uring: the same completions, made by hand. Loop's
// thread.
//
// Level triggered: at most one receive per connection and turn, a send is tried at once and finished on EPOLLOUT.
#include "loop_internal.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define READY_MAX 256

int cs_epoll_open(cs_loop *loop) {
    loop->arena = malloc(CS_ARENA_BYTES);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event wake = {.events = EPOLLIN, .data.ptr = NULL};
    if (loop->arena && loop->epoll_fd >= 0
        && epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &wake) == 0) {
        return 0;
    }
    int failure = -errno;
    if (loop->epoll_fd >= 0) close(loop->epoll_fd);
    free(loop->arena);
    return failure;
}

void cs_epoll_close(cs_loop *loop) {
    close(loop->epoll_fd);
    free(loop->arena);
}

/// Registers what the flags ask for. Costs a system call only when that changed.
void cs_epoll_update(cs_conn *conn) {
    if (conn->flags & CS_CLOSING) return;
    uint32_t mask = 0;
    int reads = (conn->flags & CS_WANT_READ) && !(conn->flags & CS_PEER_ENDED);
    if (reads && conn->kind != CS_KIND_CONNECTING) mask |= EPOLLIN;
    if (conn->kind == CS_KIND_LISTENER && conn->arm_at != 0) mask = 0;
    if ((conn->flags & CS_SENDING) || conn->kind == CS_KIND_CONNECTING) mask |= EPOLLOUT;
    // The highest bit marks a registered descriptor: a mask of 0 is a registration too.
    uint32_t registered = mask | 1u << 31;
    if (conn->interest == registered) return;
    struct epoll_event event = {.events = mask, .data.ptr = conn};
    if (epoll_ctl(conn->loop->epoll_fd, conn->interest ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, conn->fd, &event) < 0) {
        cs_conn_start_close(conn, -errno);
        return;
    }
    conn->interest = registered;
}

void cs_epoll_start_close(cs_conn *conn) { cs_conn_report_closed(conn); }

void cs_epoll_connect(cs_conn *conn) {
    int result = connect(conn->fd, (const struct sockaddr *)conn->address.bytes, conn->address.length);
    if (result == 0 || errno == EINPROGRESS || errno == EINTR) cs_epoll_update(conn);
    else cs_conn_start_close(conn, -errno);
}

/// 1 if everything is with the kernel. An error closes; the peer's bytes that came before are lost, as with io_uring.
static int send_more(cs_conn *conn) {
    while (conn->send_left > 0) {
        ssize_t n = send(conn->fd, conn->send_at, conn->send_left, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK) cs_conn_start_close(conn, -errno);
            return 0;
        }
        conn->send_at += n;
        conn->send_left -= (size_t)n;
    }
    conn->flags &= ~CS_SENDING;
    return 1;
}

int cs_epoll_send(cs_conn *conn) {
    if (conn->kind == CS_KIND_CONNECTING) return 0;
    if (send_more(conn)) return 1;
    cs_epoll_update(conn);
    return 0;
}

static int receive(cs_conn *conn, cs_event *event) {
    cs_loop *loop = conn->loop;
    size_t room = CS_ARENA_BYTES - loop->arena_used;
    if (room < CS_CHUNK_BYTES_MIN) return 0;  // still readable at the next turn
    uint8_t *at = loop->arena + loop->arena_used;
    ssize_t n;
    do n = recv(conn->fd, at, room < CS_CHUNK_BYTES ? room : CS_CHUNK_BYTES, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        loop->arena_used += ((size_t)n + 63) / 64 * 64;
        if (loop->arena_used > CS_ARENA_BYTES) loop->arena_used = CS_ARENA_BYTES;
        cs_fill(event, conn, CS_EVENT_RECEIVED, (int32_t)n, at);
        return 1;
    }
    if (n == 0) {
        conn->flags |= CS_PEER_ENDED;
        cs_epoll_update(conn);
        cs_fill(event, conn, CS_EVENT_ENDED, 0, NULL);
        return 1;
    }
    if (errno != EAGAIN && errno != EWOULDBLOCK) cs_conn_start_close(conn, -errno);
    return 0;
}

static int pending_error(const cs_conn *conn) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    return error;
}

static int finish_connect(cs_conn *conn, cs_event *event) {
    int error = pending_error(conn);
    if (error) {
        cs_conn_start_close(conn, -error);
        return 0;
    }
    conn->kind = CS_KIND_STREAM;
    cs_fill(event, conn, CS_EVENT_CONNECTED, 0, NULL);
    if ((conn->flags & CS_SENDING) && send_more(conn)) cs_conn_start_close(conn, -EINVAL);
    cs_epoll_update(conn);
    return 1;
}

static int accept_all(cs_conn *listener, cs_event *events, int count, int capacity) {
    for (int i = 0; i < CS_ACCEPTS_PER_TURN && count < capacity; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            cs_fill(&events[count++], listener, CS_EVENT_ACCEPTED, fd, NULL);
            continue;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) break;
        count += cs_accept_error(listener, errno, &events[count]);
        cs_epoll_update(listener);
        break;
    }
    return count;
}

/// At most two events per connection (sent, then received), hence the room kept below.
static int ready(cs_conn *conn, uint32_t mask, cs_event *events, int count, int capacity) {
    if (conn->flags & CS_CLOSING) return count;
    if (conn->kind == CS_KIND_LISTENER) return accept_all(conn, events, count, capacity);
    if (conn->kind == CS_KIND_CONNECTING) return count + finish_connect(conn, &events[count]);
    if ((mask & (EPOLLOUT | EPOLLERR | EPOLLHUP)) && (conn->flags & CS_SENDING)) {
        if (send_more(conn)) {
            cs_fill(&events[count++], conn, CS_EVENT_SENT, 0, NULL);
            cs_epoll_update(conn);
        }
        if (conn->flags & CS_CLOSING) return count;
    }
    int reading = (conn->flags & CS_WANT_READ) && !(conn->flags & CS_PEER_ENDED);
    if (reading && (mask & (EPOLLIN | EPOLLERR | EPOLLHUP))) return count + receive(conn, &events[count]);
    // Errors are reported even when nothing was asked for; without reading there is no other way to learn of them.
    if (mask & (EPOLLERR | EPOLLHUP)) cs_conn_start_close(conn, -pending_error(conn));
    return count;
}

int cs_epoll_wait(cs_loop *loop, cs_event *events, int count, int capacity, int64_t timeout_nanos) {
    struct epoll_event found[READY_MAX];
    loop->arena_used = 0;
    // Rounded up, so that a timer is due when the wait ends; at most a day, so that it fits.
    int64_t rounded = (timeout_nanos + 999999) / 1000000;
    int millis = timeout_nanos < 0 ? -1 : rounded > 86400000 ? 86400000 : (int)rounded;
    int room = (capacity - count) / 2;
    int n = epoll_wait(loop->epoll_fd, found, room < READY_MAX ? room : READY_MAX, millis);
    for (int i = 0; i < n && count + 2 <= capacity; i++) {
        if (found[i].data.ptr == NULL) {
            uint64_t count_of_wakes;
            (void)!read(loop->wake_fd, &count_of_wakes, sizeof count_of_wakes);
        } else {
            count = ready(found[i].data.ptr, found[i].events, events, count, capacity);
        }
    }
    return count;
}
