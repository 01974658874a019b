// The null responder: nothing but the kernel's work and one pass over the bytes. See cperf_null_responder.h.
#include "cperf_null_responder.h"

#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define RING_ENTRIES 4096u
#define BUFFERS 1024u
#define BUFFER_BYTES 16384u
#define BUFFER_GROUP 1
#define CONNECTIONS_MAX 65536u
/// Replies that one send carries at most; the rest follows when it completed.
#define REPLIES_PER_SEND_MAX 8192u

// A request's kind is in the low bits of its user data, the descriptor above.
#define KIND_ACCEPT 0u
#define KIND_RECEIVE 1u
#define KIND_SEND 2u

struct responder {
    struct io_uring ring;
    struct io_uring_buf_ring *buffers;
    char *memory;
    /// The one reply, repeated, so that any number of them is one contiguous send.
    char *replies;
    uint32_t reply_length;
    /// Replies owed to each descriptor and replies in its send under way: one send at a time keeps the stream in order.
    uint32_t *owed;
    uint32_t *sending;
};

int cperf_null_responder_listen(const char *host, uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) return -EINVAL;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    // Accepted sockets inherit it.
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

static struct io_uring_sqe *next_sqe(struct responder *r) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);
    if (sqe == NULL) {
        io_uring_submit(&r->ring);
        sqe = io_uring_get_sqe(&r->ring);
    }
    return sqe;
}

static void accept_more(struct responder *r, int listener) {
    struct io_uring_sqe *sqe = next_sqe(r);
    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    sqe->user_data = KIND_ACCEPT;
}

static void receive_more(struct responder *r, int fd) {
    struct io_uring_sqe *sqe = next_sqe(r);
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    sqe->user_data = (uint64_t)fd << 8 | KIND_RECEIVE;
}

static void send_owed(struct responder *r, int fd) {
    uint32_t n = r->owed[fd];
    if (n == 0 || r->sending[fd] != 0) return;
    if (n > REPLIES_PER_SEND_MAX) n = REPLIES_PER_SEND_MAX;
    r->owed[fd] -= n;
    r->sending[fd] = n;
    struct io_uring_sqe *sqe = next_sqe(r);
    // MSG_WAITALL: the kernel finishes a short send itself.
    io_uring_prep_send(sqe, fd, r->replies, (size_t)n * r->reply_length, MSG_NOSIGNAL | MSG_WAITALL);
    sqe->user_data = (uint64_t)fd << 8 | KIND_SEND;
}

static void return_buffer(struct responder *r, unsigned id) {
    io_uring_buf_ring_add(r->buffers, r->memory + (size_t)id * BUFFER_BYTES, BUFFER_BYTES, (unsigned short)id,
        io_uring_buf_ring_mask(BUFFERS), 0);
    io_uring_buf_ring_advance(r->buffers, 1);
}

/// Vectorised by the compiler: sums of at most 255 bytes at a time.
static uint32_t count_stars(const char *p, size_t n) {
    uint32_t total = 0;
    while (n > 0) {
        size_t block = n < 255 ? n : 255;
        uint8_t sum = 0;
        for (size_t i = 0; i < block; i++) sum += p[i] == '*';
        total += sum;
        p += block;
        n -= block;
    }
    return total;
}

static int set_up(struct responder *r, uint32_t reply_bytes) {
    struct io_uring_params parameters = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
                 IORING_SETUP_CQSIZE,
        .cq_entries = RING_ENTRIES * 4,
    };
    int error = io_uring_queue_init_params(RING_ENTRIES, &r->ring, &parameters);
    if (error < 0) return error;
    size_t ring_bytes = BUFFERS * sizeof(struct io_uring_buf);
    r->buffers = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    r->memory = malloc((size_t)BUFFERS * BUFFER_BYTES);
    if (r->buffers == MAP_FAILED || r->memory == NULL) return -ENOMEM;
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)r->buffers, .ring_entries = BUFFERS, .bgid = BUFFER_GROUP};
    error = io_uring_register_buf_ring(&r->ring, &registration, 0);
    if (error < 0) return error;
    io_uring_buf_ring_init(r->buffers);
    for (unsigned id = 0; id < BUFFERS; id++) return_buffer(r, id);

    char header[16];
    int header_length = snprintf(header, sizeof header, "$%u\r\n", reply_bytes);
    r->reply_length = (uint32_t)header_length + reply_bytes + 2;
    r->replies = malloc((size_t)r->reply_length * REPLIES_PER_SEND_MAX);
    r->owed = calloc(CONNECTIONS_MAX, sizeof *r->owed);
    r->sending = calloc(CONNECTIONS_MAX, sizeof *r->sending);
    if (r->replies == NULL || r->owed == NULL || r->sending == NULL) return -ENOMEM;
    for (uint32_t i = 0; i < REPLIES_PER_SEND_MAX; i++) {
        char *reply = r->replies + (size_t)i * r->reply_length;
        memcpy(reply, header, (size_t)header_length);
        memset(reply + header_length, 'v', reply_bytes);
        memcpy(reply + header_length + reply_bytes, "\r\n", 2);
    }
    return 0;
}

static void handle(struct responder *r, int listener, const struct io_uring_cqe *cqe) {
    unsigned kind = (unsigned)(cqe->user_data & 0xFF);
    int fd = (int)(cqe->user_data >> 8);
    int more = cqe->flags & IORING_CQE_F_MORE;
    switch (kind) {
    case KIND_ACCEPT:
        if (cqe->res >= 0 && (uint32_t)cqe->res < CONNECTIONS_MAX) {
            r->owed[cqe->res] = 0;
            r->sending[cqe->res] = 0;
            receive_more(r, cqe->res);
        } else if (cqe->res >= 0) {
            close(cqe->res);
        }
        if (!more) accept_more(r, listener);
        break;
    case KIND_RECEIVE:
        if (cqe->res > 0) {
            unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
            r->owed[fd] += count_stars(r->memory + (size_t)id * BUFFER_BYTES, (size_t)cqe->res);
            return_buffer(r, id);
            send_owed(r, fd);
            if (!more) receive_more(r, fd);
        } else if (cqe->res == -ENOBUFS) {
            receive_more(r, fd);
        } else {
            close(fd);
        }
        break;
    default:
        r->sending[fd] = 0;
        if (cqe->res > 0) send_owed(r, fd);
        break;
    }
}

int cperf_null_responder_run(int listener, uint32_t reply_bytes) {
    static struct responder r;
    int error = set_up(&r, reply_bytes);
    if (error < 0) return error;
    accept_more(&r, listener);
    for (;;) {
        error = io_uring_submit_and_wait(&r.ring, 1);
        if (error < 0 && error != -EINTR) return error;
        struct io_uring_cqe *cqes[256];
        unsigned n = io_uring_peek_batch_cqe(&r.ring, cqes, 256);
        for (unsigned i = 0; i < n; i++) handle(&r, listener, cqes[i]);
        io_uring_cq_advance(&r.ring, n);
    }
}
