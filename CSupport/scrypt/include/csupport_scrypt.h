// scrypt (RFC 7914), by OpenSSL's libcrypto. Any thread.
#ifndef CSUPPORT_SCRYPT_H
#define CSUPPORT_SCRYPT_H

#include <stddef.h>
#include <stdint.h>

/// What a derivation may take at most; parameters that need more are refused.
enum { CS_SCRYPT_MEMORY_MAX = 64 * 1024 * 1024 };

/// Derives `key_count` bytes. `rounds` is a power of two above 1, RFC 7914's N; `block_size` is its r, `parallelism`
/// its p. Takes 128 * rounds * block_size bytes meanwhile. Returns 0, or -1 if the parameters are not allowed or memory
/// is short.
int cs_scrypt(
    const void *password, size_t password_count, const void *salt, size_t salt_count, uint64_t rounds,
    uint64_t block_size, uint64_t parallelism, void *key, size_t key_count);

#endif
