// Header-only helpers that inline into Swift: prefetch, the atomics of shared records, a lock for rare inserts.
// Kept apart from CSupport so that KVCore stays free of liburing and of everything that waits. No state, any thread.
#ifndef KVD_CINTRINSICS_H
#define KVD_CINTRINSICS_H

#include <stdint.h>

#include "cdigest.h"

#define CI_INLINE static inline __attribute__((always_inline))

/// Starts loading the cache line at `p` for reading; never faults.
CI_INLINE void ci_prefetch(const void *p) { __builtin_prefetch(p, 0, 3); }

/// Adds a reference; returns the count before. Relaxed: whoever adds one already holds one (its own, or one handed over
/// through a mailbox that synchronises), so the record cannot be freed meanwhile and nothing needs to be ordered.
CI_INLINE uint8_t ci_count_add(uint8_t *count) { return __atomic_fetch_add(count, 1, __ATOMIC_RELAXED); }

/// Drops a reference; returns the count before. Release orders this thread's reads of the record before the drop;
/// acquire orders the free (or the overwrite in place) after every other holder's drop. One acq_rel operation rather
/// than release plus a fence, because ThreadSanitizer does not model fences and x86 pays the same for both.
CI_INLINE uint8_t ci_count_sub(uint8_t *count) { return __atomic_fetch_sub(count, 1, __ATOMIC_ACQ_REL); }

/// The count now. Acquire: a caller that sees 1 is the only holder and may write; pairs with the release half of
/// ci_count_sub, so every other holder's reads happened before.
CI_INLINE uint8_t ci_count_load(const uint8_t *count) { return __atomic_load_n(count, __ATOMIC_ACQUIRE); }

/// Reads a published word. Acquire: pairs with ci_publish32, so what was written before publishing is visible.
CI_INLINE uint32_t ci_load32(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

/// Publishes a word. Release: everything written before it is visible to whoever reads it with ci_load32.
CI_INLINE void ci_publish32(uint32_t *word, uint32_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

/// Spins until the lock is taken. Acquire: sees all the previous holder wrote; pairs with ci_unlock. Only for
/// sections of a few nanoseconds that run a few times per process.
CI_INLINE void ci_lock(uint32_t *lock) {
    while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE) != 0) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
}

/// Bytes of each of the three runs that ci_crc32c_hardware folds at the same time; its table is made for this length.
#define CI_CRC_LANE 1024

/// Whether ci_crc32c_hardware may be called on this processor.
int ci_crc32c_is_hardware(void);

/// The register of a CRC32C (complemented before and after by the caller) over `count` bytes with the processor's own
/// instruction. Its latency is three cycles and one starts each cycle, so three runs go side by side and are joined by
/// `shift`, four tables of 256 words that move a register over CI_CRC_LANE zero bytes.
uint32_t ci_crc32c_hardware(const void *bytes, uintptr_t count, uint32_t crc, const uint32_t *shift);

/// Four running hashes: each takes 16 bytes of every 64.
typedef struct ci_hash_lanes {
    uint64_t a, b, c, d;
} ci_hash_lanes;

/// Copies `count` bytes, a multiple of 64, and hashes them on the way: the multiplications are done while the stores
/// wait for memory.
ci_hash_lanes ci_copy_hash(void *to, const void *from, uintptr_t count, ci_hash_lanes lanes);

/// The product of 16 bytes, keyed: what the hash of a large value is made of.
CI_INLINE uint64_t ci_hash_block(const uint8_t *at, uint64_t a, uint64_t b) {
    uint64_t low, high;
    __builtin_memcpy(&low, at, 8);
    __builtin_memcpy(&high, at + 8, 8);
    __uint128_t product = (__uint128_t)(low ^ a) * (high ^ b);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/// Gives the lock back. Release: publishes what was written under it; pairs with ci_lock.
CI_INLINE void ci_unlock(uint32_t *lock) { __atomic_store_n(lock, 0, __ATOMIC_RELEASE); }

/// The processor's own clock, in units of its own, at one constant speed on every core: a few nanoseconds, where asking
/// the kernel's page takes some twenty. Not ordered with what is around it.
CI_INLINE uint64_t ci_ticks(void) {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
#error "no clock of the processor is known here"
#endif
}

#endif
