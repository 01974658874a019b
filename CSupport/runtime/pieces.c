// Giving freed memory back, as far as it is worth it. On the thread that frees, and on the owner's when it is tended.
//
// Freed pieces are not given back one by one: the first one would break its huge page up, and finding memory in small
// pages costs a look-up an eighth more. They stay, and are cleared when they are used again, unless their page has so
// many of them that they are worth it; and then for a part of the owner's time only.
#include "memory_internal.h"

#ifndef KVD_NO_JEMALLOC

/// Runs `body` with each word of the map that `first ..< end` has bits in, `bits`.
#define EACH_WORD(first, end, body)                                                                                    \
    for (size_t word = (first) / 64; word * 64 < (end); word++) {                                                      \
        size_t low = word * 64 < (first) ? (first) % 64 : 0, high = (end)-word * 64 < 64 ? (end)-word * 64 : 64;       \
        uint64_t bits = (high - low == 64 ? ~0ull : ((1ull << (high - low)) - 1) << low);                              \
        body;                                                                                                          \
    }

static size_t count_bits(const uint64_t *words) {
    size_t count = 0;
    for (size_t i = 0; i < SMALL_WORDS; i++) count += (size_t)__builtin_popcountll(words[i]);
    return count;
}

/// Afterwards it reads as zeros.
static void empty(char *from, size_t bytes) {
    if (madvise(from, bytes, MADV_DONTNEED) != 0) memset(from, 0, bytes);
}

/// The warmer may make the page ready again.
static void set_cold(reserve *reserve, size_t page) {
    __atomic_store_n(&reserve->state[page], COLD, __ATOMIC_RELEASE);
    if (page < __atomic_load_n(&reserve->first_cold, __ATOMIC_RELAXED)) {
        __atomic_store_n(&reserve->first_cold, page, __ATOMIC_RELAXED);
    }
}

/// Gives back a huge page of which nothing is in use. `mapping` is held.
static void give_page_back(reserve *reserve, size_t page) {
    page_map *map = &reserve->maps[page];
    empty(reserve->base + page * page_bytes, page_bytes);
    memset(map->stale, 0, sizeof map->stale);
    map->is_broken = 0;
    set_cold(reserve, page);
}

static size_t first_bit(const uint64_t *words, size_t from, int value) {
    for (; from < SMALL_PAGES; from = (from / 64 + 1) * 64) {
        uint64_t word = (value ? words[from / 64] : ~words[from / 64]) >> from % 64;
        if (word != 0) return from + (size_t)__builtin_ctzll(word);
    }
    return SMALL_PAGES;
}

/// Gives back what of a page is worth it, piece by piece. False if there is more when `deadline` is over. `mapping` is
/// held.
static int shed(reserve *reserve, size_t page, int64_t deadline) {
    page_map *map = &reserve->maps[page];
    char *start = reserve->base + page * page_bytes;
    if (__atomic_load_n(&reserve->state[page], __ATOMIC_RELAXED) != USED) return 1;
    int is_unused = count_bits(map->used) == 0;
    if (!map->is_broken) {
        if (is_unused) {
            give_page_back(reserve, page);
            return 1;
        }
        if (count_bits(map->stale) <= UNUSED_MAX) return 1;
        // All that is not in use, as it is in small pages from now on.
        for (size_t i = 0; i < SMALL_WORDS; i++) map->stale[i] = ~map->used[i];
        map->is_broken = 1;
    }
    for (;;) {
        size_t first = first_bit(map->stale, 0, 1), end = first_bit(map->stale, first, 0);
        if (first >= SMALL_PAGES) break;
        if (cs_monotonic_nanos() >= deadline) return 0;
        if (end - first > GIVEN_AT_ONCE_MAX) end = first + GIVEN_AT_ONCE_MAX;
        empty(start + first * small_bytes, (end - first) * small_bytes);
        EACH_WORD(first, end, { map->stale[word] &= ~bits; })
    }
    if (is_unused) give_page_back(reserve, page);
    return 1;
}

void cs_pieces_occupy(owner *owner, reserve *reserve, size_t page, size_t first, size_t end) {
    page_map *map = &reserve->maps[page];
    uint64_t stale[SMALL_WORDS];
    pthread_mutex_lock(&owner->mapping);
    // Of a large block, given back late: clearing all of it here would take the loop longer than that.
    if (end - first == SMALL_PAGES && count_bits(map->stale) > 0) shed(reserve, page, INT64_MAX);
    EACH_WORD(first, end, {
        map->used[word] |= bits;
        stale[word] = map->stale[word] & bits;
        map->stale[word] &= ~bits;
    })
    pthread_mutex_unlock(&owner->mapping);
    // They are the caller's by now. jemalloc has been told that they are zero.
    EACH_WORD(first, end, {
        for (bits = stale[word]; bits != 0; bits &= bits - 1) {
            size_t small = word * 64 + (size_t)__builtin_ctzll(bits);
            memset(reserve->base + page * page_bytes + small * small_bytes, 0, small_bytes);
        }
    })
}

/// Gives back what of a page is worth it while there is time, the rest in a later call of `settle`. `mapping` is held.
static void shed_or_defer(owner *owner, reserve *reserve, size_t page) {
    int64_t now = cs_monotonic_nanos();
    if (now - owner->giving_since >= 1000000) {
        owner->giving_since = now;
        owner->giving_nanos = 0;
    }
    page_map *map = &reserve->maps[page];
    int is_full = owner->due_count == DUE_MAX && !map->is_due;
    int64_t left = GIVING_NANOS_MAX - owner->giving_nanos;
    if (is_full || left > 0) {
        int is_done = shed(reserve, page, is_full ? INT64_MAX : now + left);
        owner->giving_nanos += cs_monotonic_nanos() - now;
        if (is_done) return;
    }
    if (map->is_due) return;
    map->is_due = 1;
    uint32_t at = (owner->due_first + owner->due_count++) % DUE_MAX;
    owner->due[at].reserve = reserve;
    owner->due[at].page = page;
}

void cs_pieces_vacate(owner *owner, reserve *reserve, size_t page, size_t first, size_t end) {
    page_map *map = &reserve->maps[page];
    pthread_mutex_lock(&owner->mapping);
    EACH_WORD(first, end, { map->used[word] &= ~bits; })
    if (__atomic_load_n(&reserve->state[page], __ATOMIC_RELAXED) == USED) {
        EACH_WORD(first, end, { map->stale[word] |= bits; })
        if (map->is_broken || count_bits(map->stale) > UNUSED_MAX || count_bits(map->used) == 0) {
            shed_or_defer(owner, reserve, page);
        }
    } else if (count_bits(map->used) == 0) {
        give_page_back(reserve, page);
    } else {
        char *start = reserve->base + page * page_bytes;
        empty(start + first * small_bytes, (end - first) * small_bytes);
    }
    pthread_mutex_unlock(&owner->mapping);
}

void cs_pieces_settle(owner *owner, int64_t deadline) {
    pthread_mutex_lock(&owner->mapping);
    while (owner->due_count > 0 && cs_monotonic_nanos() < deadline) {
        reserve *reserve = owner->due[owner->due_first].reserve;
        size_t page = owner->due[owner->due_first].page;
        if (!shed(reserve, page, deadline)) break;
        reserve->maps[page].is_due = 0;
        owner->due_first = (owner->due_first + 1) % DUE_MAX;
        owner->due_count--;
    }
    pthread_mutex_unlock(&owner->mapping);
}

void cs_pieces_sweep(owner *owner) {
    int broken = 0;
    for (int looked = 0; looked < SWEPT_MAX && broken < BROKEN_UP_MAX; looked++) {
        if (owner->swept_reserves >= owner->reserve_count) return;
        reserve *reserve = owner->reserves[owner->swept_reserves];
        size_t page = owner->swept_pages++;
        if (page * page_bytes >= reserve->bytes_taken) {
            owner->swept_reserves++;
            owner->swept_pages = 0;
            continue;
        }
        page_map *map = &reserve->maps[page];
        if (__atomic_load_n(&reserve->state[page], __ATOMIC_RELAXED) != USED) continue;
        pthread_mutex_lock(&owner->mapping);
        size_t used = count_bits(map->used);
        if (!map->is_broken && used > 0 && SMALL_PAGES - used > UNUSED_MAX) {
            for (size_t i = 0; i < SMALL_WORDS; i++) map->stale[i] = ~map->used[i];
            shed_or_defer(owner, reserve, page);
            broken++;
        }
        pthread_mutex_unlock(&owner->mapping);
    }
}

void cs_pieces_give_back(owner *owner, int64_t count) {
    for (uint32_t i = owner->reserve_count; i-- > 0 && count > 0;) {
        reserve *reserve = owner->reserves[i];
        // Nothing behind what was taken, and behind what was ever warmed, needs looking at.
        size_t page = reserve->bytes_taken / page_bytes + WANTED_MAX + 1;
        if (page > reserve->pages) page = reserve->pages;
        while (page-- > 0 && count > 0) {
            uint8_t expected = WARM;
            if (__atomic_load_n(&reserve->state[page], __ATOMIC_RELAXED) != WARM) continue;
            if (!__atomic_compare_exchange_n(
                    &reserve->state[page], &expected, LEAVING, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
            __atomic_fetch_sub(&owner->warm, 1, __ATOMIC_RELAXED);
            madvise(reserve->base + page * page_bytes, page_bytes, MADV_DONTNEED);
            set_cold(reserve, page);
            count--;
        }
    }
}

#endif
