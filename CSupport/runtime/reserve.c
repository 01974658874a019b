// The address space of a loop's arena: taken in reserves, noted page by page as it is taken into use, handed to
// jemalloc by hooks. On the thread that allocates or frees. What for: warmer.c.
#include "memory_internal.h"

#ifndef KVD_NO_JEMALLOC

#include <sched.h>

reserve *cs_reserve_of(const owner *owner, const char *address) {
    uint32_t count = __atomic_load_n(&owner->reserve_count, __ATOMIC_ACQUIRE);
    while (count-- > 0) {
        reserve *reserve = owner->reserves[count];
        if (address >= reserve->base && address < reserve->base + reserve->pages * page_bytes) return reserve;
    }
    return NULL;
}

reserve *cs_reserve_open(owner *owner, size_t bytes) {
    if (owner->reserve_count == RESERVES_MAX) return NULL;
    // One page more than is used, so that two reserves are never one to jemalloc.
    size_t pages = bytes / page_bytes + 2;
    if (pages < RESERVE_PAGES) pages = RESERVE_PAGES;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *raw = mmap(NULL, (pages + 2) * page_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (raw == MAP_FAILED) return NULL;
    size_t states = (sizeof(reserve) + pages + 63) & ~(size_t)63;
    reserve *reserve = mmap(
        NULL, states + pages * sizeof(page_map), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (reserve == MAP_FAILED) {
        munmap(raw, (pages + 2) * page_bytes);
        return NULL;
    }
    reserve->base = (char *)(((uintptr_t)raw + page_bytes - 1) & ~(uintptr_t)(page_bytes - 1));
    reserve->maps = (page_map *)((char *)reserve + states);
    reserve->pages = pages;
    madvise(reserve->base, pages * page_bytes, MADV_HUGEPAGE);
    // Each map is read first: that would give a page of zeros, and writing to it interrupts the other processors.
    madvise(reserve, states + pages * sizeof(page_map), MADV_POPULATE_WRITE);
    owner->reserves[owner->reserve_count] = reserve;
    __atomic_store_n(&owner->reserve_count, owner->reserve_count + 1, __ATOMIC_RELEASE);
    return reserve;
}

static char *take(reserve *reserve, size_t size, size_t alignment) {
    uintptr_t at = ((uintptr_t)reserve->base + reserve->bytes_taken + alignment - 1) & ~(uintptr_t)(alignment - 1);
    size_t end = at - (uintptr_t)reserve->base + size;
    if (end > reserve->pages * page_bytes) return NULL;
    reserve->bytes_taken = end;
    return (char *)at;
}

// MARK: Taking into use

/// Asks the warmer for the untouched ones of up to `count` pages from `page` on. Arena's thread.
static void ask(owner *owner, reserve *reserve, size_t page, size_t count) {
    for (; count > 0 && page + 1 < reserve->pages; page++, count--) {
        if (__atomic_load_n(&reserve->state[page], __ATOMIC_RELAXED) != UNTOUCHED) continue;
        // Back if there is no room: before, so that the warmer sees it.
        __atomic_store_n(&reserve->state[page], ASKED, __ATOMIC_RELAXED);
        if (cs_warmer_ask(owner, reserve->base + page * page_bytes)) continue;
        __atomic_store_n(&reserve->state[page], UNTOUCHED, __ATOMIC_RELAXED);
        return;
    }
}

/// The owner is about to use these bytes.
static void use(owner *owner, char *from, size_t bytes) {
    char *end = from + bytes;
    int untouched = 0, used = 0;
    while (from < end) {
        reserve *reserve = cs_reserve_of(owner, from);
        if (!reserve) return;
        size_t page = (size_t)(from - reserve->base) / page_bytes;
        char *start = from, *page_start = reserve->base + page * page_bytes;
        from = page_start + page_bytes;
        cs_pieces_occupy(owner, reserve, page, (size_t)(start - page_start) / small_bytes,
               (size_t)((from < end ? from : end) - page_start) / small_bytes);
        uint8_t before = __atomic_load_n(&reserve->state[page], __ATOMIC_ACQUIRE);
        if (before >= USED) continue;
        used++;
        // Never on the arena's own thread.
        while (before == LEAVING) {
            sched_yield();
            before = __atomic_load_n(&reserve->state[page], __ATOMIC_ACQUIRE);
        }
        int is_whole = from - start == (ptrdiff_t)page_bytes && from <= end && bytes >= 2 * page_bytes;
        before = __atomic_exchange_n(&reserve->state[page], is_whole ? UNTOUCHED : USED, __ATOMIC_RELAXED);
        if (before == WARM) {
            if (is_whole) __atomic_store_n(&reserve->state[page], USED, __ATOMIC_RELAXED);
            __atomic_fetch_sub(&owner->warm, 1, __ATOMIC_RELAXED);
            cs_counter_add_shared(&owner->ready, 1);
        } else if (is_whole) {
            if (owner == cs_memory_mine && untouched++ < BLOCK_PAGES) ask(owner, reserve, page, 1);
        } else {
            cs_counter_add_shared(&owner->unready, 1);
        }
    }
    if (used == 0) return;
    int64_t wanted = __atomic_load_n(&owner->wanted, __ATOMIC_RELAXED);
    if (wanted < FIRST_PAGES && owner == cs_memory_mine && owner->is_tended) {
        wanted = FIRST_PAGES;
        __atomic_store_n(&owner->wanted, wanted, __ATOMIC_RELAXED);
    }
    if (__atomic_load_n(&owner->warm, __ATOMIC_RELAXED) * 4 < wanted * 3) cs_warmer_wake();
}

void cs_memory_ahead(const void *at, size_t bytes) {
    if (!cs_memory_mine) return;
    reserve *reserve = cs_reserve_of(cs_memory_mine, at);
    if (!reserve) return;
    size_t page = (size_t)((const char *)at - reserve->base) / page_bytes;
    // The page written to now is no business of the warmer any more.
    if (__atomic_load_n(&reserve->state[page], __ATOMIC_RELAXED) == UNTOUCHED) {
        __atomic_store_n(&reserve->state[page], USED, __ATOMIC_RELAXED);
    }
    ask(cs_memory_mine, reserve, page + 1, bytes / page_bytes);
}

// MARK: jemalloc's hooks

/// A block in which jemalloc notes what pieces there are: the only kind that it wants committed and aligned to a huge
/// page. In small pages, made ready one after the other by the warmer, as nothing tells how far jemalloc has come in
/// it. (By itself it reads each page first, which gives a page of zeros, and writing to that interrupts the other
/// processors and waits for them, 5 ms once: 968 times while a table grows to 3 M keys.)
static void *alloc_notes(owner *owner, size_t size, size_t alignment, bool *zero, bool *commit, unsigned arena) {
    char *at = owner->fallback->alloc((extent_hooks_t *)owner->fallback, NULL, size, alignment, zero, commit, arena);
    // Others who free what is the owner's may need room for notes as well, but only the owner asks.
    if (!at || (owner->is_made && owner != cs_memory_mine)) return at;
    for (size_t offset = 0; offset < size; offset += page_bytes) {
        if (!cs_warmer_ask(owner, at + offset)) break;
    }
    return at;
}

static void *alloc_hook(
    extent_hooks_t *hooks, void *wanted, size_t size, size_t alignment, bool *zero, bool *commit, unsigned arena) {
    owner *owner = (struct owner *)hooks;
    if (*commit && !wanted && alignment == page_bytes) {
        return alloc_notes(owner, size, alignment, zero, commit, arena);
    }
    if (wanted || alignment > page_bytes) {
        return owner->fallback->alloc((extent_hooks_t *)owner->fallback, wanted, size, alignment, zero, commit, arena);
    }
    pthread_mutex_lock(&owner->taking);
    char *at = NULL;
    if (owner->reserve_count > 0) at = take(owner->reserves[owner->reserve_count - 1], size, alignment);
    if (!at) {
        reserve *fresh = cs_reserve_open(owner, size);
        if (fresh) at = take(fresh, size, alignment);
    }
    pthread_mutex_unlock(&owner->taking);
    if (!at) {
        return owner->fallback->alloc((extent_hooks_t *)owner->fallback, wanted, size, alignment, zero, commit, arena);
    }
    *zero = true;
    // Only with "retain:false" in MALLOC_CONF.
    if (*commit) use(owner, at, size);
    return at;
}

static bool commit_hook(
    extent_hooks_t *hooks, void *at, size_t size, size_t offset, size_t length, unsigned arena) {
    use((owner *)hooks, (char *)at + offset, length);
    return false;
}

/// Gives the memory back, now or when it is worth it, keeps the addresses.
static bool decommit_hook(
    extent_hooks_t *hooks, void *at, size_t size, size_t offset, size_t length, unsigned arena) {
    char *from = (char *)at + offset, *end = from + length;
    while (from < end) {
        reserve *reserve = cs_reserve_of((owner *)hooks, from);
        // Of the time before the hooks.
        if (!reserve) return madvise(from, (size_t)(end - from), MADV_DONTNEED) != 0;
        size_t page = (size_t)(from - reserve->base) / page_bytes;
        char *page_start = reserve->base + page * page_bytes, *next = page_start + page_bytes;
        cs_pieces_vacate((owner *)hooks, reserve, page, (size_t)(from - page_start) / small_bytes,
               (size_t)((next < end ? next : end) - page_start) / small_bytes);
        from = next;
    }
    return false;
}

static bool split_hook(
    extent_hooks_t *hooks, void *at, size_t size, size_t a, size_t b, bool committed, unsigned arena) {
    return false;
}

static bool merge_hook(
    extent_hooks_t *hooks, void *a, size_t a_size, void *b, size_t b_size, bool committed, unsigned arena) {
    return false;
}

static bool purge_hook(
    extent_hooks_t *hooks, void *at, size_t size, size_t offset, size_t length, unsigned arena) {
    return madvise((char *)at + offset, length, MADV_DONTNEED) != 0;
}

const extent_hooks_t cs_reserve_hooks = {
    .alloc = alloc_hook, .commit = commit_hook, .decommit = decommit_hook, .purge_forced = purge_hook,
    .split = split_hook, .merge = merge_hook,
};

#endif
