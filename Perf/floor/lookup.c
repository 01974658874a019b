// What a look-up costs at least on this machine: plain C over the layout of HashTable.swift and Record.swift (buckets
// of seven tagged slots, records of 96 bytes, 1 M keys), memory asked for as LookAhead.swift does it, nothing else.
//
//     cc -O2 -o /tmp/lookup Perf/floor/lookup.c && taskset -c 0 /tmp/lookup
//
// `lines`: the bucket and the two lines of each key's record are read, found without hashing or comparing. `first
// bucket`: keys are hashed and tags compared; keys that overflowed into the next bucket are not looked for. `whole`:
// keys are compared, and looked for wherever they are.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { KEYS = 1000000, RECORD = 96, BUCKET = 64, BATCH = 64, STEP = 4, DISTANCE = 12, ROUNDS = 7 };
static const double load = 0.8;
static const uint64_t tag_bits = 0x0080808080808080u, address_bits = 0xFFFFFFFFFFFFu;
static uint64_t buckets;
static char *records, *table, *keys;
/// By place in `keys`: offset in the table of the slot.
static uint32_t *slots;

static uint64_t next_random(void) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state * 2685821657736338717u;
}

static double nanos(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static char *huge(size_t bytes) {
    const size_t page = (size_t)2 << 20;
    char *raw = mmap(NULL, bytes + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED) exit(1);
    char *start = (char *)(((uintptr_t)raw + page - 1) & ~(uintptr_t)(page - 1));
    madvise(start, bytes, MADV_HUGEPAGE);
    memset(start, 0, bytes);
    return start;
}

static uint64_t mix(uint64_t a, uint64_t b) {
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)(product >> 64) ^ (uint64_t)product;
}

static uint64_t hash(const char *key) {
    uint64_t a, b;
    memcpy(&a, key, 8), memcpy(&b, key + 8, 8);
    return mix(0xE7037ED1A0B428DBu ^ 16, mix(a ^ 0xE7037ED1A0B428DBu, b ^ 0x5EED5EED5EED5EEDu));
}

static char *bucket_at(uint64_t index) { return table + index * BUCKET; }
static uint64_t home(uint64_t h) { return ((h >> 32) * buckets) >> 32; }
static uint64_t after(uint64_t index) { return index + 1 == buckets ? 0 : index + 1; }
static uint64_t tag(uint64_t h) { return ((h >> 25) & 0x7F) | 0x80; }
static uint64_t part(uint64_t h) { return (h >> 8) & 0xFFFF; }
static uint64_t word_at(const char *at) { uint64_t word; memcpy(&word, at, 8); return word; }
static uint64_t slot(const char *bucket, uint64_t flags) { return word_at(bucket + 8 + (__builtin_ctzll(flags) & 56)); }

static uint64_t matches(uint64_t tags, uint64_t tag) {
    uint64_t x = tags ^ (tag * 0x0101010101010101u), low = (x & 0x7F7F7F7F7F7F7F7Fu) + 0x7F7F7F7F7F7F7F7Fu;
    return ~(low | x) & tag_bits;
}

static void prefetch_record(const char *at) {
    __builtin_prefetch(at);
    __builtin_prefetch(at + 64);
}

/// The last record's second line is there too: 64 bytes more are allocated.
static uint64_t both_lines(const char *record) { return word_at(record) + word_at(record + 64); }

static void fill(void) {
    uint32_t *order = malloc(KEYS * sizeof *order);
    uint64_t overflowed = 0;
    for (uint32_t i = 0; i < KEYS; i++) order[i] = i;
    for (uint32_t i = KEYS - 1; i > 0; i--) {
        uint32_t other = (uint32_t)(next_random() % (i + 1)), kept = order[i];
        order[i] = order[other], order[other] = kept;
    }
    for (uint32_t i = 0; i < KEYS; i++) {
        char *record = records + (size_t)RECORD * i;
        memset(record, 0x76, RECORD);
        char text[32];
        snprintf(text, sizeof text, "key:%012u", i);
        memcpy(record + 16, text, 16);
        uint64_t h = hash(text), at = home(h), steps = 0;
        for (;; at = after(at), steps++) {
            unsigned char *bucket = (unsigned char *)bucket_at(at);
            int free_slot = 0;
            while (free_slot < 7 && bucket[free_slot]) free_slot++;
            if (free_slot < 7) {
                bucket[free_slot] = (unsigned char)tag(h);
                uint64_t word = (uint64_t)(uintptr_t)record | part(h) << 48;
                memcpy(bucket + 8 + 8 * free_slot, &word, 8);
                slots[order[i]] = (uint32_t)(at * BUCKET + 8 + 8 * (uint64_t)free_slot);
                break;
            }
            if (bucket[7] < 255) bucket[7]++;
        }
        overflowed += steps > 0;
        memcpy(keys + (size_t)16 * order[i], text, 16);
    }
    free(order);
    printf("%d keys, %.1f %% not in their first bucket\n", KEYS, 100.0 * (double)overflowed / KEYS);
}

/// Starts loading the record that the first bucket names, or the next bucket; whether it was the record. Without a
/// branch, which would wait for the bucket.
static uint64_t look(uint64_t h) {
    const char *bucket = bucket_at(home(h));
    uint64_t word = slot(bucket, matches(word_at(bucket), tag(h)) | (uint64_t)1 << 55), is_here = word >> 48 == part(h);
    uint64_t behind = (uint64_t)(uintptr_t)bucket + BUCKET, record = word & address_bits;
    uint64_t line = behind ^ ((behind ^ record) & (0 - is_here));
    __asm__ volatile("" : "+r"(line));
    prefetch_record((const char *)line);
    return is_here;
}

static void look_behind(uint64_t h) {
    uint64_t at = home(h);
    for (int i = 0; i < 16; i++) {
        at = after(at);
        const char *bucket = bucket_at(at);
        for (uint64_t flags = matches(word_at(bucket), tag(h)); flags; flags &= flags - 1) {
            if (slot(bucket, flags) >> 48 != part(h)) continue;
            prefetch_record((const char *)(slot(bucket, flags) & address_bits));
            return;
        }
        if (word_at(bucket) >> 56 == 0) return;
    }
}

static const char *find(const char *key, uint64_t h) {
    for (uint64_t at = home(h);; at = after(at)) {
        const char *bucket = bucket_at(at);
        for (uint64_t flags = matches(word_at(bucket), tag(h)); flags; flags &= flags - 1) {
            const char *record = (const char *)(slot(bucket, flags) & address_bits);
            if (slot(bucket, flags) >> 48 == part(h) && memcmp(record + 16, key, 16) == 0) return record;
        }
        if (word_at(bucket) >> 56 == 0) return NULL;
    }
}

/// ns a look-up, the best of some rounds over all keys in random order.
static double measure(int is_whole) {
    static uint64_t hashes[BATCH];
    double best = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t sum = 0;
        double start = nanos();
        for (int from = 0; from + BATCH <= KEYS; from += BATCH) {
            const char *batch = keys + (size_t)16 * (size_t)from;
            for (int i = 0; i < BATCH; i++) {
                hashes[i] = hash(batch + 16 * i);
                if (i < 2 * DISTANCE) __builtin_prefetch(bucket_at(home(hashes[i])));
            }
            int asked = 0, buckets_asked = 2 * DISTANCE;
            uint64_t behind = 0;
            for (int i = 0; i < BATCH; i++) {
                if (i + DISTANCE > asked && asked < BATCH) {
                    for (; behind; behind &= behind - 1) look_behind(hashes[__builtin_ctzll(behind)]);
                    int to = asked == 0 ? 2 * STEP : asked + STEP;
                    for (; asked < to && asked < BATCH; asked++) {
                        if (!look(hashes[asked]) && is_whole) behind |= (uint64_t)1 << asked;
                    }
                    for (; buckets_asked < asked + DISTANCE && buckets_asked < BATCH; buckets_asked++) {
                        __builtin_prefetch(bucket_at(home(hashes[buckets_asked])));
                    }
                }
                const char *record;
                if (is_whole) {
                    record = find(batch + 16 * i, hashes[i]);
                } else {
                    const char *bucket = bucket_at(home(hashes[i]));
                    uint64_t flags = matches(word_at(bucket), tag(hashes[i]));
                    record = flags ? (const char *)(slot(bucket, flags) & address_bits) : bucket;
                }
                if (record) sum += both_lines(record);
            }
        }
        double cost = (nanos() - start) / KEYS;
        if (cost < best) best = cost;
        __asm__ volatile("" ::"r"(sum));
    }
    return best;
}

/// Nothing but reading each key's three lines, asked for all the time.
static double measure_lines(void) {
    double best = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t sum = 0;
        double start = nanos();
        for (int i = 0; i + 2 * DISTANCE < KEYS; i++) {
            __builtin_prefetch(table + slots[i + 2 * DISTANCE]);
            prefetch_record((const char *)(word_at(table + slots[i + DISTANCE]) & address_bits));
            sum += both_lines((const char *)(word_at(table + slots[i]) & address_bits));
        }
        double cost = (nanos() - start) / KEYS;
        if (cost < best) best = cost;
        __asm__ volatile("" ::"r"(sum));
    }
    return best;
}

int main(void) {
    buckets = (uint64_t)(KEYS / 7 / load);
    records = huge((size_t)KEYS * RECORD + 64);
    table = huge((buckets + 1) * BUCKET);
    keys = huge((size_t)KEYS * 16);
    slots = malloc(KEYS * sizeof *slots);
    if (!slots) return 1;
    fill();
    printf("lines         %5.1f ns\n", measure_lines());
    printf("first bucket  %5.1f ns\n", measure(0));
    printf("whole         %5.1f ns\n", measure(1));
    return 0;
}
