// See csupport_scrypt.h. Any thread.
#include "csupport_scrypt.h"

#include <openssl/err.h>
#include <openssl/evp.h>

int cs_scrypt(
    const void *password, size_t password_count, const void *salt, size_t salt_count, uint64_t rounds,
    uint64_t block_size, uint64_t parallelism, void *key, size_t key_count) {
    int done = EVP_PBE_scrypt(
        password, password_count, salt, salt_count, rounds, block_size, parallelism, CS_SCRYPT_MEMORY_MAX, key,
        key_count);
    if (done != 1) ERR_clear_error();
    return done == 1 ? 0 : -1;
}
