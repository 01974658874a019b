// Level-triggered readiness for load generators, which must not run on the loop they measure. One thread per poller.
#ifndef KVD_CPERF_POLLER_H
#define KVD_CPERF_POLLER_H

#include <stdint.h>

#define CPERF_READY_TO_READ 1u
#define CPERF_READY_TO_WRITE 2u

typedef struct cperf_ready {
    uint32_t token;
    uint32_t flags;
} cperf_ready;

/// Descriptor of the poller, to be closed by the caller; or -errno.
int cperf_poller_create(void);
/// Reports `fd` as `token` when it can be read (or has failed), and also when it can be written if `writes`. 0 or
/// -errno.
int cperf_poller_watch(int poller, int fd, uint32_t token, int writes, int is_new);
/// Fills up to `capacity` (at most 512); waits up to `timeout_nanos`. Number of entries, or -errno.
int cperf_poller_wait(int poller, cperf_ready *ready, int capacity, int64_t timeout_nanos);
/// Pins the calling thread. 0 or -errno.
int cperf_poller_pin(int cpu);

#endif
