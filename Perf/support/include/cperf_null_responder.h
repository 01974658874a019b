// The floor that a server's cost per request is judged by: answers requests without reading them. One thread, for ever.
#ifndef KVD_CPERF_NULL_RESPONDER_H
#define KVD_CPERF_NULL_RESPONDER_H

#include <stdint.h>

/// A listening socket on a numeric IPv4 address, or -errno.
int cperf_null_responder_listen(const char *host, uint16_t port);

/// Serves `listener` with io_uring (multishot accept and receive, one ring of provided buffers): counts the '*' in
/// what arrived and answers that many bulks of `reply_bytes` bytes with one send per received buffer. Requests
/// therefore must not hold a '*' elsewhere. Returns only on failure, with -errno.
int cperf_null_responder_run(int listener, uint32_t reply_bytes);

#endif
