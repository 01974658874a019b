// The io_uring backend: multishot accept and receive, provided buffers, one send in flight. Loop's thread.
//
// Every request carries the address of its cs_conn with the operation in the low bits, and the struct lives until the
// kernel has completed all of them (`inflight`), so a completion can never meet a reused descriptor or struct.
#include "loop_internal.h"

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OP_RECEIVE 0ull
#define OP_SEND 1ull
#define OP_ACCEPT 2ull
#define OP_CONNECT 3ull
#define OP_CANCEL 4ull
#define OP_WAKE 5ull
#define OP_MASK 7ull
#define BUFFER_GROUP 0

/// Best flags first: DEFER_TASKRUN (6.1) runs completions only when we wait; kernels before 6.0 know no SINGLE_ISSUER
/// and no multishot receive, so they are refused here and get epoll.
static const unsigned setups[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN,
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,
};

int cs_ring_open(cs_loop *loop) {
    int failure = -ENOSYS;
    for (size_t i = 0; i < sizeof setups / sizeof setups[0]; i++) {
        struct io_uring_params params;
        memset(&params, 0, sizeof params);
        // Disabled until cs_ring_start: the thread that enables a single-issuer ring is the one that may use it.
        params.flags = setups[i] | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
        params.cq_entries = CS_COMPLETIONS;
        failure = io_uring_queue_init_params(CS_SUBMISSIONS, &loop->ring, &params);
        if (failure == 0 && !(params.features & IORING_FEAT_EXT_ARG)) {
            io_uring_queue_exit(&loop->ring);
            return -ENOSYS;
        }
        if (failure != -EINVAL) break;
    }
    if (failure) return failure;
    size_t bytes = (size_t)CS_BUFFER_COUNT * CS_BUFFER_BYTES;
    size_t ring_bytes = CS_BUFFER_SLOTS * sizeof(struct io_uring_buf);
    loop->buffers = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    loop->buffer_ring = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (loop->buffers == MAP_FAILED || loop->buffer_ring == MAP_FAILED) return -ENOMEM;
    struct io_uring_buf_reg registration;
    memset(&registration, 0, sizeof registration);
    registration.ring_addr = (uintptr_t)loop->buffer_ring;
    registration.ring_entries = CS_BUFFER_SLOTS;
    registration.bgid = BUFFER_GROUP;
    failure = io_uring_register_buf_ring(&loop->ring, &registration, 0);
    if (failure) {
        io_uring_queue_exit(&loop->ring);
        munmap(loop->buffers, bytes);
        munmap(loop->buffer_ring, ring_bytes);
        return failure;
    }
    io_uring_buf_ring_init(loop->buffer_ring);
    for (unsigned i = 0; i < CS_BUFFER_COUNT; i++) {
        io_uring_buf_ring_add(loop->buffer_ring, loop->buffers + (size_t)i * CS_BUFFER_BYTES, CS_BUFFER_BYTES,
                              (unsigned short)i, io_uring_buf_ring_mask(CS_BUFFER_SLOTS), (int)i);
    }
    io_uring_buf_ring_advance(loop->buffer_ring, CS_BUFFER_COUNT);
    return 0;
}

/// By hand: liburing 2.3 declares io_uring_enable_rings without exporting it.
static int enable(cs_loop *loop) {
    long result = syscall(__NR_io_uring_register, loop->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    return result < 0 ? -errno : 0;
}

static struct io_uring_sqe *next_sqe(cs_loop *loop) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);
    // The queue is full only when thousands of connections are closed at once: hand over what is there. The kernel
    // takes submissions without waiting for anything, so this ends.
    for (int attempt = 0; !sqe; attempt++) {
        io_uring_submit(&loop->ring);
        sqe = io_uring_get_sqe(&loop->ring);
        if (attempt > 1000000) {
            fputs("kvd: the kernel takes no more io_uring submissions\n", stderr);
            abort();
        }
        if (!sqe && attempt > 16) sched_yield();
    }
    return sqe;
}

static void tag(struct io_uring_sqe *sqe, cs_conn *conn, uint64_t op) {
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)conn | op);
    conn->inflight++;
}

/// Every write to the eventfd completes this poll once more; nobody reads the descriptor, its count just grows.
static void arm_wake(cs_loop *loop) {
    struct io_uring_sqe *sqe = next_sqe(loop);
    io_uring_prep_poll_multishot(sqe, loop->wake_fd, POLLIN);
    io_uring_sqe_set_data64(sqe, OP_WAKE);
}

int cs_ring_start(cs_loop *loop) {
    int failure = enable(loop);
    if (failure) return failure;
    arm_wake(loop);
    return 0;
}

void cs_ring_close(cs_loop *loop) {
    io_uring_queue_exit(&loop->ring);
    // With receives still under way the kernel may write into the buffers after this: leak them.
    if (loop->live > 0) return;
    munmap(loop->buffers, (size_t)CS_BUFFER_COUNT * CS_BUFFER_BYTES);
    munmap(loop->buffer_ring, CS_BUFFER_SLOTS * sizeof(struct io_uring_buf));
}

int cs_probe_uring(void) {
    int error = 0;
    cs_loop *loop = cs_loop_create(CS_BACKEND_URING, &error);
    if (!loop) return error;
    error = enable(loop);
    if (!error) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);
        struct io_uring_cqe *cqe = NULL;
        io_uring_prep_nop(sqe);
        int submitted = io_uring_submit_and_wait(&loop->ring, 1);
        error = submitted < 0 ? submitted : io_uring_peek_cqe(&loop->ring, &cqe);
        if (!error) io_uring_cqe_seen(&loop->ring, cqe);
    }
    cs_loop_destroy(loop);
    return error;
}

/// Starts the multishot receive or accept.
void cs_ring_arm(cs_conn *conn) {
    struct io_uring_sqe *sqe = next_sqe(conn->loop);
    if (conn->kind == CS_KIND_LISTENER) {
        io_uring_prep_multishot_accept(sqe, conn->fd, NULL, NULL, SOCK_CLOEXEC);
        tag(sqe, conn, OP_ACCEPT);
    } else {
        io_uring_prep_recv_multishot(sqe, conn->fd, NULL, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = BUFFER_GROUP;
        tag(sqe, conn, OP_RECEIVE);
    }
    conn->flags |= CS_ARMED;
}

void cs_ring_connect(cs_conn *conn) {
    struct io_uring_sqe *sqe = next_sqe(conn->loop);
    io_uring_prep_connect(sqe, conn->fd, (const struct sockaddr *)conn->address.bytes, conn->address.length);
    tag(sqe, conn, OP_CONNECT);
}

void cs_ring_send(cs_conn *conn) {
    struct io_uring_sqe *sqe = next_sqe(conn->loop);
    size_t length = conn->send_left < (1u << 30) ? conn->send_left : (1u << 30);
    // WAITALL: the kernel itself goes on after a partial send, which saves a round through us.
    io_uring_prep_send(sqe, conn->fd, conn->send_at, length, MSG_NOSIGNAL | MSG_WAITALL);
    tag(sqe, conn, OP_SEND);
}

/// Ends the multishot receive or accept; what it has completed already is still delivered.
void cs_ring_cancel(cs_conn *conn) {
    struct io_uring_sqe *sqe = next_sqe(conn->loop);
    uint64_t op = conn->kind == CS_KIND_LISTENER ? OP_ACCEPT : OP_RECEIVE;
    io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)conn | op, 0);
    tag(sqe, conn, OP_CANCEL);
}

/// Shutdown ends what is under way on the socket; the cancellation ends what shutdown does not (a connect in progress).
/// Both come after everything submitted before, so nothing can start behind them.
void cs_ring_start_close(cs_conn *conn) {
    shutdown(conn->fd, SHUT_RDWR);
    if (conn->inflight == 0) {
        cs_conn_report_closed(conn);
        return;
    }
    struct io_uring_sqe *sqe = next_sqe(conn->loop);
    io_uring_prep_cancel_fd(sqe, conn->fd, IORING_ASYNC_CANCEL_ALL);
    tag(sqe, conn, OP_CANCEL);
}

static int received(cs_conn *conn, int result, unsigned flags, cs_event *event) {
    cs_loop *loop = conn->loop;
    const void *data = NULL;
    if (flags & IORING_CQE_F_BUFFER) {
        unsigned buffer = flags >> IORING_CQE_BUFFER_SHIFT;
        loop->used[loop->used_count++] = (uint16_t)buffer;
        loop->buffers_used++;
        data = loop->buffers + (size_t)buffer * CS_BUFFER_BYTES;
    }
    if (!(flags & IORING_CQE_F_MORE)) {
        conn->flags &= ~CS_ARMED;
        conn->inflight--;
    }
    if (conn->flags & CS_CLOSING) return 0;
    if (result > 0) {
        if (!(conn->flags & CS_ARMED)) cs_conn_arm_later(conn, 0);
        cs_fill(event, conn, CS_EVENT_RECEIVED, result, data);
        return 1;
    }
    if (result == 0) {
        conn->flags |= CS_PEER_ENDED;
        cs_fill(event, conn, CS_EVENT_ENDED, 0, NULL);
        return 1;
    }
    if (result == -ENOBUFS || result == -ECANCELED || result == -EINTR || result == -EAGAIN) {
        // The next wait gives the buffers back first, then arms again, if the owner still wants bytes.
        if (result == -ENOBUFS) cs_counter_add(&loop->statistics.buffers_exhausted, 1);
        if (!(conn->flags & CS_ARMED)) cs_conn_arm_later(conn, 0);
        return 0;
    }
    cs_conn_start_close(conn, result);
    return 0;
}

static int sent(cs_conn *conn, int result, cs_event *event) {
    conn->inflight--;
    if (conn->flags & CS_CLOSING) return 0;
    if (result < 0 && result != -EINTR && result != -EAGAIN) {
        cs_conn_start_close(conn, result);
        return 0;
    }
    if (result > 0) {
        conn->send_at += result;
        conn->send_left -= (size_t)result;
    }
    if (conn->send_left > 0) {
        cs_ring_send(conn);
        return 0;
    }
    conn->flags &= ~CS_SENDING;
    cs_fill(event, conn, CS_EVENT_SENT, 0, NULL);
    return 1;
}

static int accepted(cs_conn *conn, int result, unsigned flags, cs_event *event) {
    if (!(flags & IORING_CQE_F_MORE)) {
        conn->flags &= ~CS_ARMED;
        conn->inflight--;
    }
    if (conn->flags & CS_CLOSING) {
        if (result >= 0) close(result);
        return 0;
    }
    if (result < 0) return cs_accept_error(conn, -result, event);
    if (!(conn->flags & CS_ARMED)) cs_conn_arm_later(conn, 0);
    cs_fill(event, conn, CS_EVENT_ACCEPTED, result, NULL);
    return 1;
}

static int connected(cs_conn *conn, int result, cs_event *event) {
    conn->inflight--;
    if (conn->flags & CS_CLOSING) return 0;
    if (result < 0) {
        cs_conn_start_close(conn, result);
        return 0;
    }
    conn->kind = CS_KIND_STREAM;
    if (conn->flags & CS_WANT_READ) cs_ring_arm(conn);
    cs_fill(event, conn, CS_EVENT_CONNECTED, 0, NULL);
    return 1;
}

/// 1 if `event` was filled.
static int complete(cs_loop *loop, const struct io_uring_cqe *cqe, cs_event *event) {
    uint64_t op = cqe->user_data & OP_MASK;
    cs_conn *conn = (cs_conn *)(uintptr_t)(cqe->user_data & ~OP_MASK);
    int filled = 0;
    switch (op) {
    case OP_RECEIVE: filled = received(conn, cqe->res, cqe->flags, event); break;
    case OP_SEND: filled = sent(conn, cqe->res, event); break;
    case OP_ACCEPT: filled = accepted(conn, cqe->res, cqe->flags, event); break;
    case OP_CONNECT: filled = connected(conn, cqe->res, event); break;
    case OP_CANCEL: conn->inflight--; break;
    default:
        if (!(cqe->flags & IORING_CQE_F_MORE)) arm_wake(loop);
        return 0;
    }
    if (conn->inflight == 0 && (conn->flags & (CS_CLOSING | CS_CLOSED)) == CS_CLOSING) cs_conn_report_closed(conn);
    return filled;
}

static void give_buffers_back(cs_loop *loop) {
    if (loop->used_count == 0) return;
    for (unsigned i = 0; i < loop->used_count; i++) {
        uint8_t *buffer = loop->buffers + (size_t)loop->used[i] * CS_BUFFER_BYTES;
        io_uring_buf_ring_add(loop->buffer_ring, buffer, CS_BUFFER_BYTES, loop->used[i],
                              io_uring_buf_ring_mask(CS_BUFFER_SLOTS), (int)i);
    }
    io_uring_buf_ring_advance(loop->buffer_ring, (int)loop->used_count);
    loop->used_count = 0;
}

void cs_ring_tend(cs_loop *loop) {
    uint64_t used = loop->buffers_used - loop->used_at_tick;
    loop->used_at_tick = loop->buffers_used;
    loop->quiet_ticks = used <= CS_QUIET_BUFFERS ? loop->quiet_ticks + 1 : 0;
    if (loop->quiet_ticks < CS_QUIET_TICKS) return;
    loop->quiet_ticks = 0;
    // Other rings fill buffers whenever this thread is interrupted.
    if (!(loop->ring.flags & IORING_SETUP_DEFER_TASKRUN)) return;
    if (loop->buffers_used - loop->used_at_release >= CS_RELEASED_BUFFERS_MIN) {
        loop->release_left = CS_BUFFER_COUNT;
        loop->used_at_release = loop->buffers_used;
    }
}

/// Gives the memory of some buffers back, which the kernel hands out in turn, so that a few connections touch them all.
/// (Of all at once it took 0.4 ms.) Only while no buffer holds anything: all are with the kernel, and it can fill none
/// before the next wait, as this thread has to enter it for that.
static void release_buffers(cs_loop *loop) {
    struct io_uring *ring = &loop->ring;
    if (io_uring_cq_ready(ring) > 0 || io_uring_cq_has_overflow(ring)) return;
    unsigned count = loop->release_left < CS_RELEASED_AT_ONCE ? loop->release_left : CS_RELEASED_AT_ONCE;
    loop->release_left -= count;
    madvise(loop->buffers + (size_t)loop->release_left * CS_BUFFER_BYTES, (size_t)count * CS_BUFFER_BYTES,
            MADV_DONTNEED);
}

int cs_ring_wait(cs_loop *loop, cs_event *events, int count, int capacity, int64_t timeout_nanos) {
    give_buffers_back(loop);
    if (loop->release_left > 0) release_buffers(loop);
    if (timeout_nanos == 0) {
        // Waiting no time at all would arm a timer that interrupts at once: 15 µs of the processor. While something is
        // left from before nothing more is asked for: who has much to say would use up the buffers of all others.
        if (io_uring_cq_ready(&loop->ring) > 0) io_uring_submit(&loop->ring);
        else io_uring_submit_and_get_events(&loop->ring);
    } else if (timeout_nanos < 0) {
        io_uring_submit_and_wait(&loop->ring, 1);
    } else {
        struct __kernel_timespec timeout = {
            .tv_sec = timeout_nanos / 1000000000, .tv_nsec = timeout_nanos % 1000000000};
        struct io_uring_cqe *first = NULL;
        io_uring_submit_and_wait_timeout(&loop->ring, &first, 1, &timeout, NULL);
    }
    // Timeouts and signals are no errors: whatever is there is collected, and the caller comes back.
    unsigned head, seen = 0, accepts = 0;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&loop->ring, head, cqe) {
        // What stays in the queue ends the next wait at once.
        if (count >= capacity || accepts == CS_ACCEPTS_PER_TURN) break;
        accepts += (cqe->user_data & OP_MASK) == OP_ACCEPT;
        count += complete(loop, cqe, &events[count]);
        seen++;
    }
    io_uring_cq_advance(&loop->ring, seen);
    return count;
}
