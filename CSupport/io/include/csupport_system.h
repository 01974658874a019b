// Clocks, addresses, affinity and single-writer counters. No state of its own; any thread.
#ifndef KVD_CSUPPORT_SYSTEM_H
#define KVD_CSUPPORT_SYSTEM_H

#include <stddef.h>
#include <stdint.h>

#define CS_INLINE static inline __attribute__((always_inline))

/// An IPv4 or IPv6 socket address as the kernel wants it; `length` is 0 for none.
typedef struct cs_address {
    uint8_t bytes[28];
    uint32_t length;
} cs_address;

/// Numeric `host` only. 0, or -EINVAL.
int cs_address_parse(const char *host, uint16_t port, cs_address *out);
/// Host names too, by getaddrinfo: blocks, so never on a loop's thread. Number of addresses; -ENXIO for a name that
/// does not exist, -EAGAIN where no name server answers, else -EADDRNOTAVAIL.
int cs_address_resolve(const char *host, uint16_t port, cs_address *out, int capacity);
/// Whether nobody listens on the address, with or without SO_REUSEPORT: 0, or -errno.
int cs_address_check_free(const cs_address *address);
/// Writes the numeric host into `host` (at least 46 bytes) and returns the port; 0 length of text on failure.
uint16_t cs_address_format(const cs_address *address, char *host, size_t capacity);

int64_t cs_monotonic_nanos(void);
/// What of a file is in the page cache only is on its way to the disk when this returns. No promise.
void cs_begin_writing(int fd);
/// Processor time of the calling thread. A system call.
int64_t cs_thread_nanos(void);
int64_t cs_wall_millis(void);

/// Number of processors this process may run on.
int cs_processor_count(void);
/// Pins the calling thread to the n-th allowed processor (modulo their number). 0 or -errno.
int cs_pin_thread(int processor);
void cs_name_thread(const char *name);
/// Raises the soft limit of open files to the hard one; returns the limit now in force.
int64_t cs_raise_open_files(void);
void cs_ignore_broken_pipes(void);
/// 64 bits from the kernel's generator.
uint64_t cs_random(void);

/// 1 in a build for the thread or address sanitizer, where everything takes many times longer.
CS_INLINE int cs_is_sanitized(void) {
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
    return 1;
#endif
#endif
    return 0;
}

/// One pointer per thread: the loop this thread runs, or NULL.
void *cs_thread_loop(void);
void cs_set_thread_loop(void *loop);

/// A counter with one writing thread and readers anywhere. Relaxed: a reader wants a recent figure and orders nothing
/// by it; the single writer makes load, add, store safe without a locked instruction.
CS_INLINE void cs_counter_add(uint64_t *counter, uint64_t n) {
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}
CS_INLINE void cs_counter_raise(uint64_t *counter, uint64_t n) {
    if (__atomic_load_n(counter, __ATOMIC_RELAXED) < n) __atomic_store_n(counter, n, __ATOMIC_RELAXED);
}
CS_INLINE uint64_t cs_counter_read(const uint64_t *counter) { return __atomic_load_n(counter, __ATOMIC_RELAXED); }
/// The same with several writers.
CS_INLINE void cs_counter_add_shared(uint64_t *counter, uint64_t n) {
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/// A pointer or flag published once: the release store makes everything written before visible to whoever loads it.
CS_INLINE void *cs_load_pointer(void *const *at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
CS_INLINE void cs_publish_pointer(void **at, void *value) { __atomic_store_n(at, value, __ATOMIC_RELEASE); }
CS_INLINE uint32_t cs_load_flag(const uint32_t *at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
CS_INLINE void cs_publish_flag(uint32_t *at, uint32_t value) { __atomic_store_n(at, value, __ATOMIC_RELEASE); }

#endif
