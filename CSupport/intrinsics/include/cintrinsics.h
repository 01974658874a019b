// Header-only helpers that inline into Swift: prefetch and the atomics of shared records. No state, any thread.
// Kept apart from CSupport so that KVCore stays free of liburing and of everything that waits.
#ifndef KVD_CINTRINSICS_H
#define KVD_CINTRINSICS_H

#include <stdint.h>

#define CI_INLINE static inline __attribute__((always_inline))

/// Starts loading the cache line at `p` for reading; never faults.
CI_INLINE void ci_prefetch(const void *p) { __builtin_prefetch(p, 0, 3); }

#endif
