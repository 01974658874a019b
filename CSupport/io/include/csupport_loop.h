// The one interface of both event loop backends: operations on sockets go in, completed events come out.
//
// Thread rule: everything but cs_loop_wake, cs_probe_uring is for the thread that runs the loop. Before cs_loop_start
// the creating thread may call the rest (listen, connect), as long as it hands the loop over properly.
//
// Lifetime rules, the same for both backends
//   - A cs_conn lives until its CS_EVENT_CLOSED has been returned by cs_loop_wait; the event is the last one that
//     carries its token, so the token may be a pointer that the caller releases then. It is sent exactly once, however
//     the connection ended, and only when the kernel owes no completion any more: bytes handed to cs_conn_send are not
//     read after it.
//   - Events already collected when the caller closes a connection may still be in its hands: it has to ignore them.
//   - `data` of an event is valid until the next cs_loop_wait.
#ifndef KVD_CSUPPORT_LOOP_H
#define KVD_CSUPPORT_LOOP_H

#include "csupport_system.h"

#define CS_PATH_BYTES_MAX 107u

#define CS_BACKEND_URING 1u
#define CS_BACKEND_EPOLL 2u

/// `result` bytes at `data` arrived.
#define CS_EVENT_RECEIVED 1u
/// The bytes given to cs_conn_send are with the kernel, all of them.
#define CS_EVENT_SENT 2u
/// A listener (its token) has a new connection: descriptor `result`, to be given to cs_conn_adopt or closed.
#define CS_EVENT_ACCEPTED 3u
/// As accepted, but the process has run out of descriptors: give `result` to cs_loop_refuse.
#define CS_EVENT_OVERLOADED 4u
#define CS_EVENT_CONNECTED 5u
/// The peer sends no more (it may still read).
#define CS_EVENT_ENDED 6u
/// Last event of its token; `result` is 0 for an ordinary end, else -errno.
#define CS_EVENT_CLOSED 7u

typedef struct cs_event {
    void *token;
    const void *data;
    uint32_t kind;
    int32_t result;
} cs_event;

typedef struct cs_loop cs_loop;
typedef struct cs_conn cs_conn;

typedef struct cs_loop_statistics {
    uint64_t waits;
    uint64_t events;
    uint64_t buffers_exhausted;
    uint64_t accepts_paused;
} cs_loop_statistics;

/// Sets up a real ring with its buffers and sends a no-op through it. 0, or -errno of what was refused.
int cs_probe_uring(void);

/// NULL and a negative errno in `error` on failure.
cs_loop *cs_loop_create(uint32_t backend, int *error);
/// On the thread that is going to call cs_loop_wait. 0 or -errno.
int cs_loop_start(cs_loop *loop);
/// Frees everything. Every connection must have been reported closed or abandoned, else memory the kernel may write to
/// is leaked on purpose.
void cs_loop_destroy(cs_loop *loop);
uint32_t cs_loop_backend(const cs_loop *loop);
/// Connections and listeners whose CS_EVENT_CLOSED has not been returned yet.
uint64_t cs_loop_live(const cs_loop *loop);
cs_loop_statistics cs_loop_read_statistics(const cs_loop *loop);

/// Submits what was asked for, waits for at least one event or `timeout_nanos` (negative: for ever, 0: not at all), and
/// fills up to `capacity` (at least 64) events. May return 0 early (a wake-up, a signal).
int cs_loop_wait(cs_loop *loop, cs_event *events, int capacity, int64_t timeout_nanos);
/// To be called about every 100 ms: has the next wait give back the memory of receive buffers that are not needed now.
void cs_loop_tend(cs_loop *loop);
/// Ends a wait under way, or the next one. Any thread. Costs a system call: see cs_mpsc_push for when it is needed.
void cs_loop_wake(cs_loop *loop);

/// Listens on `address`; accepted connections have TCP_NODELAY and keep-alive set. NULL and -errno in `error` on
/// failure.
cs_conn *cs_loop_listen(cs_loop *loop, void *token, const cs_address *address, int reuse_port, int *error);
/// The same on a path of the file system, of at most CS_PATH_BYTES_MAX. Only those whom `mode` lets may connect, from
/// the beginning. A socket that nobody listens on any more is replaced, any other file is left (-EADDRINUSE,
/// -ENOTSOCK).
cs_conn *cs_loop_listen_path(cs_loop *loop, void *token, const char *path, uint32_t mode, int *error);
/// Begins to connect; CS_EVENT_CONNECTED or CS_EVENT_CLOSED follows. NULL and -errno if not even that is possible.
cs_conn *cs_loop_connect(cs_loop *loop, void *token, const cs_address *address, int *error);
/// Takes over an accepted descriptor and begins to receive. Never fails.
cs_conn *cs_conn_adopt(cs_loop *loop, void *token, int fd);
/// Writes what fits of a farewell to the descriptor of CS_EVENT_OVERLOADED, closes it and takes the spare descriptor
/// back.
void cs_loop_refuse(cs_loop *loop, int fd, const void *farewell, size_t length);

/// Sends `length` bytes that must stay unchanged until CS_EVENT_SENT or CS_EVENT_CLOSED; one send at a time. 1 if they
/// are with the kernel already (then no event follows), 0 if an event will say so.
int cs_conn_send(cs_conn *conn, const void *data, size_t length);
/// Stops receiving soon: what the kernel has completed already is still delivered.
void cs_conn_pause(cs_conn *conn);
void cs_conn_resume(cs_conn *conn);
/// No more bytes will be sent: the peer sees the end of the stream.
void cs_conn_end(cs_conn *conn);
/// Closes for good; CS_EVENT_CLOSED follows, other events of this token do not (except those already collected).
void cs_conn_close(cs_conn *conn);
/// Closes a listener when all have been accepted that the kernel has made connections with: who is in its queue when it
/// closes is cut off in the middle of a request.
void cs_listener_finish(cs_conn *listener);
/// Of a loop that will not wait any more, just before it is destroyed: closes the descriptor, and frees the connection
/// unless the kernel owes it something. No event follows.
void cs_conn_abandon(cs_conn *conn);
/// 0 or -errno.
int cs_conn_local_address(const cs_conn *conn, cs_address *out);
int cs_conn_peer_address(const cs_conn *conn, cs_address *out);
int cs_conn_descriptor(const cs_conn *conn);

/// Where the bytes given to a connection's kernel side are.
typedef struct cs_conn_flow {
    /// Not acknowledged by the peer's kernel, those not sent among them.
    uint32_t unacked;
    /// Not sent yet.
    uint32_t unsent;
    /// The kernel's latest estimate, bytes a second; 0 if there is none.
    uint64_t rate;
    /// Smoothed, microseconds; 0 if there is none.
    uint32_t round_trip;
    /// Segments with data that were sent, repetitions included, and those.
    uint32_t segments;
    uint32_t repeated;
} cs_conn_flow;

/// 0 or -errno. Three system calls.
int cs_conn_read_flow(const cs_conn *conn, cs_conn_flow *out);
/// For a connection to another server: retransmissions at least once a second. What the kernel refuses is left as it
/// is.
void cs_conn_set_far(cs_conn *conn);
/// The kernel takes no more while it holds so many bytes that are not sent (TCP_NOTSENT_LOWAT).
void cs_conn_set_unsent_max(cs_conn *conn, uint32_t bytes);
/// Up to `size` bytes with the end, as "cubic". 0 or -errno.
int cs_conn_congestion(const cs_conn *conn, char *name, uint32_t size);
/// 0 or -errno: the system may not have it, or not for everyone.
int cs_conn_set_congestion(cs_conn *conn, const char *name);

#endif
