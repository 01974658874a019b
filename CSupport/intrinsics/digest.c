// A record's share of the digest: rounds of AES (FIPS 197), of which a processor with the instruction does two per cycle.
// Called by RecordDigest.swift, any thread. Without the instruction the same is computed with a table, so that the
// servers of a cluster agree whatever they run on (little-endian machines).
#include "cdigest.h"

#include "cintrinsics.h"

#if defined(__x86_64__)
#include <wmmintrin.h>
/// AVX is for instructions with three operands.
int ci_aes_is_hardware(void) { return __builtin_cpu_supports("aes") != 0 && __builtin_cpu_supports("avx") != 0; }
#define DIGEST_HARDWARE __attribute__((target("aes,avx")))
#define DIGEST_TARGET DIGEST_HARDWARE
#define DIGEST_NAME(name) hardware_##name
#define DIGEST_BLOCK __m128i
CI_INLINE DIGEST_TARGET __m128i hardware_load(const void *at) { return _mm_loadu_si128(at); }
CI_INLINE DIGEST_TARGET void hardware_store(void *at, __m128i x) { _mm_storeu_si128(at, x); }
CI_INLINE DIGEST_TARGET __m128i hardware_pair(uint64_t low, uint64_t high) {
    return _mm_set_epi64x((long long)high, (long long)low);
}
CI_INLINE DIGEST_TARGET __m128i hardware_xor(__m128i x, __m128i y) { return _mm_xor_si128(x, y); }
CI_INLINE DIGEST_TARGET __m128i hardware_add(__m128i x, __m128i y) { return _mm_add_epi64(x, y); }
CI_INLINE DIGEST_TARGET uint64_t hardware_low(__m128i x) { return (uint64_t)_mm_cvtsi128_si64(x); }
CI_INLINE DIGEST_TARGET __m128i hardware_round(__m128i x, __m128i key) { return _mm_aesenc_si128(x, key); }
#define DIGEST_WHOLE CI_INLINE DIGEST_TARGET
#include "digest_body.h"

#elif defined(__aarch64__) && (defined(__ARM_FEATURE_AES) || defined(__linux__))
#include <arm_neon.h>
#if defined(__ARM_FEATURE_AES)
int ci_aes_is_hardware(void) { return 1; }
#define DIGEST_HARDWARE
#else
/// Declared by hand: the headers that declare these are not needed for anything else. AT_HWCAP, HWCAP_AES.
extern unsigned long getauxval(unsigned long type);
int ci_aes_is_hardware(void) { return (getauxval(16) & (1ul << 3)) != 0; }
#define DIGEST_HARDWARE __attribute__((target("aes")))
#endif
#define DIGEST_TARGET DIGEST_HARDWARE
#define DIGEST_NAME(name) hardware_##name
#define DIGEST_BLOCK uint64x2_t
CI_INLINE uint64x2_t hardware_load(const void *at) { return vreinterpretq_u64_u8(vld1q_u8(at)); }
CI_INLINE void hardware_store(void *at, uint64x2_t x) { vst1q_u8(at, vreinterpretq_u8_u64(x)); }
CI_INLINE uint64x2_t hardware_pair(uint64_t low, uint64_t high) {
    return vcombine_u64(vcreate_u64(low), vcreate_u64(high));
}
CI_INLINE uint64x2_t hardware_xor(uint64x2_t x, uint64x2_t y) { return veorq_u64(x, y); }
CI_INLINE uint64x2_t hardware_add(uint64x2_t x, uint64x2_t y) { return vaddq_u64(x, y); }
CI_INLINE uint64_t hardware_low(uint64x2_t x) { return vgetq_lane_u64(x, 0); }
/// This family combines with the key before the round, the other one after it.
CI_INLINE DIGEST_TARGET uint64x2_t hardware_round(uint64x2_t x, uint64x2_t key) {
    uint8x16_t mixed = vaesmcq_u8(vaeseq_u8(vreinterpretq_u8_u64(x), vdupq_n_u8(0)));
    return veorq_u64(vreinterpretq_u64_u8(mixed), key);
}
#define DIGEST_WHOLE CI_INLINE DIGEST_TARGET
#include "digest_body.h"

#else
int ci_aes_is_hardware(void) { return 0; }
#endif

#undef DIGEST_TARGET
#undef DIGEST_WHOLE
#undef DIGEST_NAME
#undef DIGEST_BLOCK

static const uint8_t substitutes[256] = {
    0x63, 0x7C, 0x77, 0x7B, 0xF2, 0x6B, 0x6F, 0xC5, 0x30, 0x01, 0x67, 0x2B, 0xFE, 0xD7, 0xAB, 0x76,
    0xCA, 0x82, 0xC9, 0x7D, 0xFA, 0x59, 0x47, 0xF0, 0xAD, 0xD4, 0xA2, 0xAF, 0x9C, 0xA4, 0x72, 0xC0,
    0xB7, 0xFD, 0x93, 0x26, 0x36, 0x3F, 0xF7, 0xCC, 0x34, 0xA5, 0xE5, 0xF1, 0x71, 0xD8, 0x31, 0x15,
    0x04, 0xC7, 0x23, 0xC3, 0x18, 0x96, 0x05, 0x9A, 0x07, 0x12, 0x80, 0xE2, 0xEB, 0x27, 0xB2, 0x75,
    0x09, 0x83, 0x2C, 0x1A, 0x1B, 0x6E, 0x5A, 0xA0, 0x52, 0x3B, 0xD6, 0xB3, 0x29, 0xE3, 0x2F, 0x84,
    0x53, 0xD1, 0x00, 0xED, 0x20, 0xFC, 0xB1, 0x5B, 0x6A, 0xCB, 0xBE, 0x39, 0x4A, 0x4C, 0x58, 0xCF,
    0xD0, 0xEF, 0xAA, 0xFB, 0x43, 0x4D, 0x33, 0x85, 0x45, 0xF9, 0x02, 0x7F, 0x50, 0x3C, 0x9F, 0xA8,
    0x51, 0xA3, 0x40, 0x8F, 0x92, 0x9D, 0x38, 0xF5, 0xBC, 0xB6, 0xDA, 0x21, 0x10, 0xFF, 0xF3, 0xD2,
    0xCD, 0x0C, 0x13, 0xEC, 0x5F, 0x97, 0x44, 0x17, 0xC4, 0xA7, 0x7E, 0x3D, 0x64, 0x5D, 0x19, 0x73,
    0x60, 0x81, 0x4F, 0xDC, 0x22, 0x2A, 0x90, 0x88, 0x46, 0xEE, 0xB8, 0x14, 0xDE, 0x5E, 0x0B, 0xDB,
    0xE0, 0x32, 0x3A, 0x0A, 0x49, 0x06, 0x24, 0x5C, 0xC2, 0xD3, 0xAC, 0x62, 0x91, 0x95, 0xE4, 0x79,
    0xE7, 0xC8, 0x37, 0x6D, 0x8D, 0xD5, 0x4E, 0xA9, 0x6C, 0x56, 0xF4, 0xEA, 0x65, 0x7A, 0xAE, 0x08,
    0xBA, 0x78, 0x25, 0x2E, 0x1C, 0xA6, 0xB4, 0xC6, 0xE8, 0xDD, 0x74, 0x1F, 0x4B, 0xBD, 0x8B, 0x8A,
    0x70, 0x3E, 0xB5, 0x66, 0x48, 0x03, 0xF6, 0x0E, 0x61, 0x35, 0x57, 0xB9, 0x86, 0xC1, 0x1D, 0x9E,
    0xE1, 0xF8, 0x98, 0x11, 0x69, 0xD9, 0x8E, 0x94, 0x9B, 0x1E, 0x87, 0xE9, 0xCE, 0x55, 0x28, 0xDF,
    0x8C, 0xA1, 0x89, 0x0D, 0xBF, 0xE6, 0x42, 0x68, 0x41, 0x99, 0x2D, 0x0F, 0xB0, 0x54, 0xBB, 0x16,
};

CI_INLINE uint8_t byte_of(ci_block x, int i) { return (uint8_t)((i < 8 ? x.low : x.high) >> (i % 8 * 8)); }

/// One column: four substituted bytes, each from the next column, then the product with the matrix of the standard.
CI_INLINE uint64_t column(ci_block x, int c) {
    uint32_t w = 0;
    for (int row = 0; row < 4; row++) w |= (uint32_t)substitutes[byte_of(x, (c * 4 + row * 5) % 16)] << (row * 8);
    uint32_t twice = (w & 0x7F7F7F7Fu) << 1 ^ (w >> 7 & 0x01010101u) * 0x1B, sum = twice ^ w;
    return twice ^ (sum >> 8 | sum << 24) ^ (w >> 16 | w << 16) ^ (w >> 24 | w << 8);
}

#define DIGEST_TARGET
#define DIGEST_WHOLE static __attribute__((noinline))
#define DIGEST_NAME(name) software_##name
#define DIGEST_BLOCK ci_block
CI_INLINE ci_block software_pair(uint64_t low, uint64_t high) { return (ci_block){low, high}; }
CI_INLINE ci_block software_load(const void *at) {
    ci_block x;
    __builtin_memcpy(&x, at, sizeof x);
    return x;
}
CI_INLINE void software_store(void *at, ci_block x) { __builtin_memcpy(at, &x, sizeof x); }
CI_INLINE ci_block software_xor(ci_block x, ci_block y) { return (ci_block){x.low ^ y.low, x.high ^ y.high}; }
CI_INLINE ci_block software_add(ci_block x, ci_block y) { return (ci_block){x.low + y.low, x.high + y.high}; }
CI_INLINE uint64_t software_low(ci_block x) { return x.low; }
static ci_block software_round(ci_block x, ci_block key) {
    return (ci_block){(column(x, 0) | column(x, 1) << 32) ^ key.low, (column(x, 2) | column(x, 3) << 32) ^ key.high};
}
#include "digest_body.h"

#if defined(DIGEST_HARDWARE)
#define DIGEST_ENTRY DIGEST_HARDWARE
#define DIGEST_CALL(name, ...) \
    return __builtin_expect(keys->is_software, 0) ? software_##name(__VA_ARGS__) : hardware_##name(__VA_ARGS__)
#else
#define DIGEST_ENTRY
#define DIGEST_CALL(name, ...) return software_##name(__VA_ARGS__)
#endif

DIGEST_ENTRY uint64_t ci_digest_term(const ci_digest_keys *keys, ci_block header, const void *key, uintptr_t key_count,
                                     const void *value, uintptr_t value_count) {
    DIGEST_CALL(term, keys, header, key, key_count, value, value_count);
}

DIGEST_ENTRY uint64_t ci_digest_overwrite(const ci_digest_keys *keys, void *record, const void *value, uint64_t stamp,
                                          uint64_t seq, uint64_t token) {
    DIGEST_CALL(overwrite, keys, record, value, stamp, seq, token);
}
