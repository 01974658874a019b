// A record's share of a store's digest, made with the processor's AES round. See digest.c. No state, any thread.
#ifndef KVD_CDIGEST_H
#define KVD_CDIGEST_H

#include <stdint.h>

/// 16 bytes.
typedef struct ci_block {
    uint64_t low, high;
} ci_block;

/// What the shares are keyed with, all derived from the cluster's secret.
typedef struct ci_digest_keys {
    /// What the first block of a key and of a value is combined with; each further one with a step more.
    ci_block key, value, step;
    /// Round keys.
    ci_block inner, outer;
    /// Not 0: without the processor's instruction, with the same result.
    uint32_t is_software;
} ci_digest_keys;

/// Whether this processor has the instruction; without it `is_software` must be set.
int ci_aes_is_hardware(void);

/// The share of a record of which `header` is the first 16 bytes, with a token in place of what is known to this
/// process only.
uint64_t ci_digest_term(const ci_digest_keys *keys, ci_block header, const void *key, uintptr_t key_count,
                        const void *value, uintptr_t value_count);

/// Writes a value of the same length and a new version into a record in short form that nobody else holds, and returns
/// what its share changes by: one call, in which old and new go side by side, reading while writing. `stamp` is the
/// second word of the header, with the writer of the old one; `token` turns both into what ci_digest_term is given.
uint64_t ci_digest_overwrite(const ci_digest_keys *keys, void *record, const void *value, uint64_t stamp, uint64_t seq,
                             uint64_t token);

#endif
