// What both backends share. Included by loop.c, ring.c and epoll.c only.
#ifndef KVD_LOOP_INTERNAL_H
#define KVD_LOOP_INTERNAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <liburing.h>
#include <sys/socket.h>

#include "csupport.h"

// Buffers of one ring: as many receives can complete in one turn. 4 MiB per loop. A value of 16 KiB fits with the
// command around it, so it is parsed where the kernel put it; and a stride that is no power of two does not send the
// beginnings of all buffers to the same few sets of the caches.
#define CS_BUFFER_COUNT 240u
#define CS_BUFFER_SLOTS 256u
#define CS_BUFFER_BYTES (17u * 1024u)
// Their memory goes back to the system after so many quiet calls of cs_loop_tend, at most one every two seconds, if as
// many were used since as are worth the call. A call is quiet if at most so many were used since the one before.
#define CS_QUIET_TICKS 20u
#define CS_QUIET_BUFFERS 16u
#define CS_RELEASED_BUFFERS_MIN 32u
/// Given back in one wait, whole pages of 4 KiB: 102 of them.
#define CS_RELEASED_AT_ONCE 24u
#define CS_SUBMISSIONS 1024u
#define CS_COMPLETIONS 8192u
// The epoll backend packs what it receives in one turn into an arena of this size, in pieces of at most a chunk.
#define CS_ARENA_BYTES (1024u * 1024u)
#define CS_CHUNK_BYTES (64u * 1024u)
#define CS_CHUNK_BYTES_MIN (16u * 1024u)
// Beginnings and ends of connections cost their turn ten to thirty microseconds each.
#define CS_ACCEPTS_PER_TURN 16
#define CS_CLOSINGS_PER_TURN 32
#define CS_BACKLOG 4096
// How long accept rests when the kernel has neither descriptors nor memory.
#define CS_ACCEPT_PAUSE_NANOS 100000000ll
#define CS_KEEP_ALIVE_SECONDS 300

// Kinds of cs_conn.
#define CS_KIND_STREAM 1u
#define CS_KIND_CONNECTING 2u
#define CS_KIND_LISTENER 3u

// Flags of cs_conn.
#define CS_WANT_READ 1u     // the owner wants bytes
#define CS_ARMED 2u         // io_uring: a multishot receive or accept is with the kernel
#define CS_SENDING 4u       // a send is under way
#define CS_CLOSING 8u       // cs_conn_close was called or an error was seen
#define CS_CLOSED 16u       // the descriptor is closed; on the closed list
#define CS_TO_ARM 32u       // on the list of those to arm at the next wait
#define CS_PEER_ENDED 64u   // nothing more to receive
#define CS_LAST 128u        // a listener that takes who has come, then closes; on the list of those to arm

struct cs_conn {
    cs_loop *loop;
    void *token;
    int fd;
    uint32_t kind;
    uint32_t flags;
    uint32_t inflight;      // io_uring: completions still owed by the kernel; the struct lives while there are any
    const uint8_t *send_at;
    size_t send_left;
    int64_t arm_at;         // a paused listener: monotonic nanoseconds when to try again, 0 at once
    int32_t reason;         // result of the CLOSED event
    uint32_t interest;      // epoll: registered mask
    cs_conn *next;          // in the closed list or the free list
    cs_conn *next_to_arm;
    cs_address address;     // where to connect to: must stay in place until the kernel has read it
};

struct cs_loop {
    uint32_t backend;
    int wake_fd;
    int spare_fd;           // given up for a moment to accept and refuse a connection when descriptors run out
    uint64_t live;
    cs_conn *closed_first, *closed_last;
    cs_conn *reported;      // CLOSED was returned by the last wait: reusable from the next one on
    cs_conn *unused;
    cs_conn *to_arm;
    cs_loop_statistics statistics;
    // io_uring
    struct io_uring ring;
    struct io_uring_buf_ring *buffer_ring;
    uint8_t *buffers;
    unsigned used_count;
    uint16_t used[CS_BUFFER_COUNT];
    uint64_t buffers_used;  // so far; as of the last cs_loop_tend; as of when their memory was last given back
    uint64_t used_at_tick, used_at_release;
    unsigned quiet_ticks;
    unsigned release_left;  // buffers whose memory the next waits give back, from the last one on
    // epoll
    int epoll_fd;
    uint8_t *arena;
    size_t arena_used;
};

// loop.c
void cs_conn_report_closed(cs_conn *conn);
void cs_conn_arm_later(cs_conn *conn, int64_t at);
int cs_accept_spare(cs_loop *loop, int listener);
int cs_accept_error(cs_conn *listener, int error, cs_event *event);
cs_conn *cs_conn_make(cs_loop *loop, void *token, int fd, uint32_t kind);

// ring.c
int cs_ring_open(cs_loop *loop);
int cs_ring_start(cs_loop *loop);
void cs_ring_close(cs_loop *loop);
void cs_ring_tend(cs_loop *loop);
int cs_ring_wait(cs_loop *loop, cs_event *events, int count, int capacity, int64_t timeout_nanos);
void cs_ring_arm(cs_conn *conn);
void cs_ring_connect(cs_conn *conn);
void cs_ring_send(cs_conn *conn);
void cs_ring_cancel(cs_conn *conn);
void cs_ring_start_close(cs_conn *conn);

// epoll.c
int cs_epoll_open(cs_loop *loop);
void cs_epoll_close(cs_loop *loop);
int cs_epoll_wait(cs_loop *loop, cs_event *events, int count, int capacity, int64_t timeout_nanos);
void cs_epoll_update(cs_conn *conn);
void cs_epoll_connect(cs_conn *conn);
int cs_epoll_send(cs_conn *conn);
void cs_epoll_start_close(cs_conn *conn);

/// The one way into the closing state.
CS_INLINE void cs_conn_start_close(cs_conn *conn, int32_t reason) {
    if (conn->flags & CS_CLOSING) return;
    conn->flags = (conn->flags | CS_CLOSING) & ~CS_WANT_READ;
    conn->reason = reason;
    if (conn->loop->backend == CS_BACKEND_URING) cs_ring_start_close(conn);
    else cs_epoll_start_close(conn);
}

CS_INLINE void cs_fill(cs_event *event, const cs_conn *conn, uint32_t kind, int32_t result, const void *data) {
    event->token = conn->token;
    event->data = data;
    event->kind = kind;
    event->result = result;
}

#endif
