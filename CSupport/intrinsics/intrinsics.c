// The checksum instruction of each processor family, and copying with a hash; the rest of cintrinsics.h is header-only.
// No state, any thread.
#include "cintrinsics.h"

ci_hash_lanes ci_copy_hash(void *to, const void *from, uintptr_t count, ci_hash_lanes lanes) {
    const uint8_t *source = from;
    uint8_t *target = to;
    for (uintptr_t i = 0; i < count; i += 64) {
        const uint8_t *at = source + i;
        __builtin_memcpy(target + i, at, 64);
        lanes.a = ci_hash_block(at, lanes.a, 0x8EBC6AF09C88C6E3ull);
        lanes.b = ci_hash_block(at + 16, lanes.b, 0x589965CC75374CC3ull);
        lanes.c = ci_hash_block(at + 32, lanes.c, 0x1D8E4E27C47D124Full);
        lanes.d = ci_hash_block(at + 48, lanes.d, 0xE7037ED1A0B428DBull);
    }
    return lanes;
}

#if defined(__x86_64__)
#include <nmmintrin.h>
#define CI_TARGET __attribute__((target("sse4.2")))
#define CI_STEP64(crc, word) ((uint32_t)_mm_crc32_u64((crc), (word)))
#define CI_STEP8(crc, byte) ((uint32_t)_mm_crc32_u8((crc), (byte)))
int ci_crc32c_is_hardware(void) { return __builtin_cpu_supports("sse4.2") != 0; }

#elif defined(__aarch64__) && (defined(__ARM_FEATURE_CRC32) || defined(__linux__))
#if defined(__ARM_FEATURE_CRC32)
#define CI_TARGET
int ci_crc32c_is_hardware(void) { return 1; }
#else
#define CI_TARGET __attribute__((target("crc")))
/// Declared by hand: the headers that declare these are not needed for anything else. AT_HWCAP, HWCAP_CRC32.
extern unsigned long getauxval(unsigned long type);
int ci_crc32c_is_hardware(void) { return (getauxval(16) & (1ul << 7)) != 0; }
#endif
#define CI_STEP64(crc, word) __builtin_arm_crc32cd((crc), (word))
#define CI_STEP8(crc, byte) __builtin_arm_crc32cb((crc), (byte))

#else
int ci_crc32c_is_hardware(void) { return 0; }
uint32_t ci_crc32c_hardware(const void *bytes, uintptr_t count, uint32_t crc, const uint32_t *shift) {
    (void)bytes, (void)count, (void)shift;
    return crc;
}
#endif

#ifdef CI_TARGET
CI_INLINE uint64_t word(const uint8_t *at) {
    uint64_t value;
    __builtin_memcpy(&value, at, sizeof value);
    return value;
}

CI_INLINE uint32_t shifted(uint32_t crc, const uint32_t *shift) {
    return shift[crc & 0xFF] ^ shift[256 + (crc >> 8 & 0xFF)] ^ shift[512 + (crc >> 16 & 0xFF)]
           ^ shift[768 + (crc >> 24)];
}

CI_TARGET uint32_t ci_crc32c_hardware(const void *bytes, uintptr_t count, uint32_t crc, const uint32_t *shift) {
    const uint8_t *at = bytes;
    while (count >= 3 * CI_CRC_LANE) {
        uint32_t second = 0, third = 0;
        for (uintptr_t i = 0; i < CI_CRC_LANE; i += 8) {
            crc = CI_STEP64(crc, word(at + i));
            second = CI_STEP64(second, word(at + CI_CRC_LANE + i));
            third = CI_STEP64(third, word(at + 2 * CI_CRC_LANE + i));
        }
        crc = shifted(shifted(crc, shift) ^ second, shift) ^ third;
        at += 3 * CI_CRC_LANE;
        count -= 3 * CI_CRC_LANE;
    }
    for (; count >= 8; at += 8, count -= 8) crc = CI_STEP64(crc, word(at));
    for (; count > 0; at++, count--) crc = CI_STEP8(crc, *at);
    return crc;
}
#endif
