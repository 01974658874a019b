// A record's share of the digest: rounds of AES (FIPS 197), of which a processor with the instruction does two per
// cycle. Called by RecordDigest.swift, any thread. Without the instruction the same is computed with a table, so that
// the servers of a cluster agree whatever they run on (little-endian machines).
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

/// For each byte in the first row of a column: the standard's substitute times the first column of its matrix.
static const uint32_t products[256] = {
    0xA56363C6, 0x847C7CF8, 0x997777EE, 0x8D7B7BF6, 0x0DF2F2FF, 0xBD6B6BD6, 0xB16F6FDE, 0x54C5C591,
    0x50303060, 0x03010102, 0xA96767CE, 0x7D2B2B56, 0x19FEFEE7, 0x62D7D7B5, 0xE6ABAB4D, 0x9A7676EC,
    0x45CACA8F, 0x9D82821F, 0x40C9C989, 0x877D7DFA, 0x15FAFAEF, 0xEB5959B2, 0xC947478E, 0x0BF0F0FB,
    0xECADAD41, 0x67D4D4B3, 0xFDA2A25F, 0xEAAFAF45, 0xBF9C9C23, 0xF7A4A453, 0x967272E4, 0x5BC0C09B,
    0xC2B7B775, 0x1CFDFDE1, 0xAE93933D, 0x6A26264C, 0x5A36366C, 0x413F3F7E, 0x02F7F7F5, 0x4FCCCC83,
    0x5C343468, 0xF4A5A551, 0x34E5E5D1, 0x08F1F1F9, 0x937171E2, 0x73D8D8AB, 0x53313162, 0x3F15152A,
    0x0C040408, 0x52C7C795, 0x65232346, 0x5EC3C39D, 0x28181830, 0xA1969637, 0x0F05050A, 0xB59A9A2F,
    0x0907070E, 0x36121224, 0x9B80801B, 0x3DE2E2DF, 0x26EBEBCD, 0x6927274E, 0xCDB2B27F, 0x9F7575EA,
    0x1B090912, 0x9E83831D, 0x742C2C58, 0x2E1A1A34, 0x2D1B1B36, 0xB26E6EDC, 0xEE5A5AB4, 0xFBA0A05B,
    0xF65252A4, 0x4D3B3B76, 0x61D6D6B7, 0xCEB3B37D, 0x7B292952, 0x3EE3E3DD, 0x712F2F5E, 0x97848413,
    0xF55353A6, 0x68D1D1B9, 0x00000000, 0x2CEDEDC1, 0x60202040, 0x1FFCFCE3, 0xC8B1B179, 0xED5B5BB6,
    0xBE6A6AD4, 0x46CBCB8D, 0xD9BEBE67, 0x4B393972, 0xDE4A4A94, 0xD44C4C98, 0xE85858B0, 0x4ACFCF85,
    0x6BD0D0BB, 0x2AEFEFC5, 0xE5AAAA4F, 0x16FBFBED, 0xC5434386, 0xD74D4D9A, 0x55333366, 0x94858511,
    0xCF45458A, 0x10F9F9E9, 0x06020204, 0x817F7FFE, 0xF05050A0, 0x443C3C78, 0xBA9F9F25, 0xE3A8A84B,
    0xF35151A2, 0xFEA3A35D, 0xC0404080, 0x8A8F8F05, 0xAD92923F, 0xBC9D9D21, 0x48383870, 0x04F5F5F1,
    0xDFBCBC63, 0xC1B6B677, 0x75DADAAF, 0x63212142, 0x30101020, 0x1AFFFFE5, 0x0EF3F3FD, 0x6DD2D2BF,
    0x4CCDCD81, 0x140C0C18, 0x35131326, 0x2FECECC3, 0xE15F5FBE, 0xA2979735, 0xCC444488, 0x3917172E,
    0x57C4C493, 0xF2A7A755, 0x827E7EFC, 0x473D3D7A, 0xAC6464C8, 0xE75D5DBA, 0x2B191932, 0x957373E6,
    0xA06060C0, 0x98818119, 0xD14F4F9E, 0x7FDCDCA3, 0x66222244, 0x7E2A2A54, 0xAB90903B, 0x8388880B,
    0xCA46468C, 0x29EEEEC7, 0xD3B8B86B, 0x3C141428, 0x79DEDEA7, 0xE25E5EBC, 0x1D0B0B16, 0x76DBDBAD,
    0x3BE0E0DB, 0x56323264, 0x4E3A3A74, 0x1E0A0A14, 0xDB494992, 0x0A06060C, 0x6C242448, 0xE45C5CB8,
    0x5DC2C29F, 0x6ED3D3BD, 0xEFACAC43, 0xA66262C4, 0xA8919139, 0xA4959531, 0x37E4E4D3, 0x8B7979F2,
    0x32E7E7D5, 0x43C8C88B, 0x5937376E, 0xB76D6DDA, 0x8C8D8D01, 0x64D5D5B1, 0xD24E4E9C, 0xE0A9A949,
    0xB46C6CD8, 0xFA5656AC, 0x07F4F4F3, 0x25EAEACF, 0xAF6565CA, 0x8E7A7AF4, 0xE9AEAE47, 0x18080810,
    0xD5BABA6F, 0x887878F0, 0x6F25254A, 0x722E2E5C, 0x241C1C38, 0xF1A6A657, 0xC7B4B473, 0x51C6C697,
    0x23E8E8CB, 0x7CDDDDA1, 0x9C7474E8, 0x211F1F3E, 0xDD4B4B96, 0xDCBDBD61, 0x868B8B0D, 0x858A8A0F,
    0x907070E0, 0x423E3E7C, 0xC4B5B571, 0xAA6666CC, 0xD8484890, 0x05030306, 0x01F6F6F7, 0x120E0E1C,
    0xA36161C2, 0x5F35356A, 0xF95757AE, 0xD0B9B969, 0x91868617, 0x58C1C199, 0x271D1D3A, 0xB99E9E27,
    0x38E1E1D9, 0x13F8F8EB, 0xB398982B, 0x33111122, 0xBB6969D2, 0x70D9D9A9, 0x898E8E07, 0xA7949433,
    0xB69B9B2D, 0x221E1E3C, 0x92878715, 0x20E9E9C9, 0x49CECE87, 0xFF5555AA, 0x78282850, 0x7ADFDFA5,
    0x8F8C8C03, 0xF8A1A159, 0x80898909, 0x170D0D1A, 0xDABFBF65, 0x31E6E6D7, 0xC6424284, 0xB86868D0,
    0xC3414182, 0xB0999929, 0x772D2D5A, 0x110F0F1E, 0xCBB0B07B, 0xFC5454A8, 0xD6BBBB6D, 0x3A16162C,
};

/// The product of the byte at place `i` of the block, which is in row `i % 4` of its column.
CI_INLINE uint32_t product(ci_block x, int i) {
    uint32_t p = products[(uint8_t)((i < 8 ? x.low : x.high) >> (i % 8 * 8))];
    return i % 4 == 0 ? p : p << (i % 4 * 8) | p >> (32 - i % 4 * 8);
}

/// One column of the result: a byte from each of four columns.
CI_INLINE uint64_t column(ci_block x, int c) {
    return product(x, c * 4) ^ product(x, (c * 4 + 5) % 16) ^ product(x, (c * 4 + 10) % 16)
           ^ product(x, (c * 4 + 15) % 16);
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
