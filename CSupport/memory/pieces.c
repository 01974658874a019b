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
    for (size_t i = 0; i < CM_SMALL_WORDS; i++) count += (size_t)__builtin_popcountll(words[i]);
    return count;
}

/// Afterwards it reads as zeros.
static void empty(char *from, size_t bytes) {
    if (madvise(from, bytes, MADV_DONTNEED) != 0) memset(from, 0, bytes);
}

/// The warmer may make the page ready again.
static void set_cold(cm_reserve *reserve, size_t page) {
    __atomic_store_n(&reserve->state[page], CM_COLD, __ATOMIC_RELEASE);
    if (page < __atomic_load_n(&reserve->first_cold, __ATOMIC_RELAXED)) {
        __atomic_store_n(&reserve->first_cold, page, __ATOMIC_RELAXED);
    }
}

/// Gives back a huge page of which nothing is in use. `mapping` is held.
static void give_page_back(cm_reserve *reserve, size_t page) {
    cm_page_map *map = &reserve->maps[page];
    empty(reserve->base + page * cm_page_bytes, cm_page_bytes);
    memset(map->stale, 0, sizeof map->stale);
    map->is_broken = 0;
    set_cold(reserve, page);
}

static size_t first_bit(const uint64_t *words, size_t from, int value) {
    for (; from < CM_SMALL_PAGES; from = (from / 64 + 1) * 64) {
        uint64_t word = (value ? words[from / 64] : ~words[from / 64]) >> from % 64;
        if (word != 0) return from + (size_t)__builtin_ctzll(word);
    }
    return CM_SMALL_PAGES;
}

/// Gives back what of a page is worth it, piece by piece. False if there is more when `deadline` is over. `mapping` is
/// held.
static int shed(cm_reserve *reserve, size_t page, int64_t deadline) {
    cm_page_map *map = &reserve->maps[page];
    char *start = reserve->base + page * cm_page_bytes;
    if (__atomic_load_n(&reserve->state[page], __ATOMIC_RELAXED) != CM_USED) return 1;
    int is_unused = count_bits(map->used) == 0;
    if (!map->is_broken) {
        if (is_unused) {
            give_page_back(reserve, page);
            return 1;
        }
        if (count_bits(map->stale) <= CM_UNUSED_MAX) return 1;
        // All that is not in use, as it is in small pages from now on.
        for (size_t i = 0; i < CM_SMALL_WORDS; i++) map->stale[i] = ~map->used[i];
        map->is_broken = 1;
    }
    for (;;) {
        size_t first = first_bit(map->stale, 0, 1), end = first_bit(map->stale, first, 0);
        if (first >= CM_SMALL_PAGES) break;
        if (cs_monotonic_nanos() >= deadline) return 0;
        if (end - first > CM_GIVEN_AT_ONCE_MAX) end = first + CM_GIVEN_AT_ONCE_MAX;
        empty(start + first * cm_small_bytes, (end - first) * cm_small_bytes);
        EACH_WORD(first, end, { map->stale[word] &= ~bits; })
    }
    if (is_unused) give_page_back(reserve, page);
    return 1;
}

void cm_pieces_occupy(cm_owner *owner, cm_reserve *reserve, size_t page, size_t first, size_t end) {
    cm_page_map *map = &reserve->maps[page];
    uint64_t stale[CM_SMALL_WORDS];
    pthread_mutex_lock(&owner->pieces.lock);
    // Of a large block, given back late: clearing all of it here would take the loop longer than that.
    if (end - first == CM_SMALL_PAGES && count_bits(map->stale) > 0) shed(reserve, page, INT64_MAX);
    EACH_WORD(first, end, {
        map->used[word] |= bits;
        stale[word] = map->stale[word] & bits;
        map->stale[word] &= ~bits;
    })
    pthread_mutex_unlock(&owner->pieces.lock);
    // They are the caller's by now. jemalloc has been told that they are zero.
    EACH_WORD(first, end, {
        for (bits = stale[word]; bits != 0; bits &= bits - 1) {
            size_t small = word * 64 + (size_t)__builtin_ctzll(bits);
            memset(reserve->base + page * cm_page_bytes + small * cm_small_bytes, 0, cm_small_bytes);
        }
    })
}

/// Gives back what of a page is worth it while there is time, the rest in a later call of `settle`. `mapping` is held.
static void shed_or_defer(cm_owner *owner, cm_reserve *reserve, size_t page) {
    int64_t now = cs_monotonic_nanos();
    if (now - owner->pieces.giving_since >= 1000000) {
        owner->pieces.giving_since = now;
        owner->pieces.giving_nanos = 0;
    }
    cm_page_map *map = &reserve->maps[page];
    int is_full = owner->pieces.due_count == CM_DUE_MAX && !map->is_due;
    int64_t left = CM_GIVING_NANOS_MAX - owner->pieces.giving_nanos;
    if (is_full || left > 0) {
        int is_done = shed(reserve, page, is_full ? INT64_MAX : now + left);
        owner->pieces.giving_nanos += cs_monotonic_nanos() - now;
        if (is_done) return;
    }
    if (map->is_due) return;
    map->is_due = 1;
    uint32_t at = (owner->pieces.due_first + owner->pieces.due_count++) % CM_DUE_MAX;
    owner->pieces.due[at].reserve = reserve;
    owner->pieces.due[at].page = page;
}

void cm_pieces_vacate(cm_owner *owner, cm_reserve *reserve, size_t page, size_t first, size_t end) {
    cm_page_map *map = &reserve->maps[page];
    pthread_mutex_lock(&owner->pieces.lock);
    EACH_WORD(first, end, { map->used[word] &= ~bits; })
    if (__atomic_load_n(&reserve->state[page], __ATOMIC_RELAXED) == CM_USED) {
        EACH_WORD(first, end, { map->stale[word] |= bits; })
        if (map->is_broken || count_bits(map->stale) > CM_UNUSED_MAX || count_bits(map->used) == 0) {
            shed_or_defer(owner, reserve, page);
        }
    } else if (count_bits(map->used) == 0) {
        give_page_back(reserve, page);
    } else {
        char *start = reserve->base + page * cm_page_bytes;
        empty(start + first * cm_small_bytes, (end - first) * cm_small_bytes);
    }
    pthread_mutex_unlock(&owner->pieces.lock);
}

void cm_pieces_settle(cm_owner *owner, int64_t deadline) {
    pthread_mutex_lock(&owner->pieces.lock);
    while (owner->pieces.due_count > 0 && cs_monotonic_nanos() < deadline) {
        cm_reserve *reserve = owner->pieces.due[owner->pieces.due_first].reserve;
        size_t page = owner->pieces.due[owner->pieces.due_first].page;
        if (!shed(reserve, page, deadline)) break;
        reserve->maps[page].is_due = 0;
        owner->pieces.due_first = (owner->pieces.due_first + 1) % CM_DUE_MAX;
        owner->pieces.due_count--;
    }
    pthread_mutex_unlock(&owner->pieces.lock);
}

void cm_pieces_sweep(cm_owner *owner) {
    int broken = 0;
    for (int looked = 0; looked < CM_SWEPT_MAX && broken < CM_BROKEN_UP_MAX; looked++) {
        if (owner->own.swept_reserves >= owner->space.count) return;
        cm_reserve *reserve = owner->space.reserves[owner->own.swept_reserves];
        size_t page = owner->own.swept_pages++;
        if (page * cm_page_bytes >= reserve->bytes_taken) {
            owner->own.swept_reserves++;
            owner->own.swept_pages = 0;
            continue;
        }
        cm_page_map *map = &reserve->maps[page];
        if (__atomic_load_n(&reserve->state[page], __ATOMIC_RELAXED) != CM_USED) continue;
        pthread_mutex_lock(&owner->pieces.lock);
        size_t used = count_bits(map->used);
        if (!map->is_broken && used > 0 && CM_SMALL_PAGES - used > CM_UNUSED_MAX) {
            for (size_t i = 0; i < CM_SMALL_WORDS; i++) map->stale[i] = ~map->used[i];
            shed_or_defer(owner, reserve, page);
            broken++;
        }
        pthread_mutex_unlock(&owner->pieces.lock);
    }
}

void cm_pieces_give_back(cm_owner *owner, int64_t count) {
    for (uint32_t i = owner->space.count; i-- > 0 && count > 0;) {
        cm_reserve *reserve = owner->space.reserves[i];
        // Nothing behind what was taken, and behind what was ever warmed, needs looking at.
        size_t page = reserve->bytes_taken / cm_page_bytes + CM_WANTED_MAX + 1;
        if (page > reserve->pages) page = reserve->pages;
        while (page-- > 0 && count > 0) {
            uint8_t expected = CM_WARM;
            if (__atomic_load_n(&reserve->state[page], __ATOMIC_RELAXED) != CM_WARM) continue;
            if (!__atomic_compare_exchange_n(
                    &reserve->state[page], &expected, CM_LEAVING, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
            __atomic_fetch_sub(&owner->shared.warm, 1, __ATOMIC_RELAXED);
            madvise(reserve->base + page * cm_page_bytes, cm_page_bytes, MADV_DONTNEED);
            set_cold(reserve, page);
            count--;
        }
    }
}

#endif
