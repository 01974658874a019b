// The address space of a loop's arena: taken in reserves, noted page by page as it is taken into use, handed to
// jemalloc by hooks. On the thread that allocates or frees. What for: README.md.
#include "memory_internal.h"

#ifndef KVD_NO_JEMALLOC

#include <sched.h>

cm_reserve *cm_reserve_of(const cm_owner *owner, const char *address) {
    uint32_t count = __atomic_load_n(&owner->space.count, __ATOMIC_ACQUIRE);
    while (count-- > 0) {
        cm_reserve *reserve = owner->space.reserves[count];
        if (address >= reserve->base && address < reserve->base + reserve->pages * cm_page_bytes) return reserve;
    }
    return NULL;
}

cm_reserve *cm_reserve_open(cm_owner *owner, size_t bytes) {
    if (owner->space.count == CM_RESERVES_MAX) return NULL;
    // One page more than is used, so that two reserves are never one to jemalloc.
    size_t pages = bytes / cm_page_bytes + 2;
    if (pages < CM_RESERVE_PAGES) pages = CM_RESERVE_PAGES;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *raw = mmap(NULL, (pages + 2) * cm_page_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (raw == MAP_FAILED) return NULL;
    size_t states = (sizeof(cm_reserve) + pages + 63) & ~(size_t)63;
    cm_reserve *reserve = mmap(
        NULL, states + pages * sizeof(cm_page_map), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (reserve == MAP_FAILED) {
        munmap(raw, (pages + 2) * cm_page_bytes);
        return NULL;
    }
    reserve->base = (char *)(((uintptr_t)raw + cm_page_bytes - 1) & ~(uintptr_t)(cm_page_bytes - 1));
    reserve->maps = (cm_page_map *)((char *)reserve + states);
    reserve->pages = pages;
    madvise(reserve->base, pages * cm_page_bytes, MADV_HUGEPAGE);
    // Each map is read first: that would give a page of zeros, and writing to it interrupts the other processors.
    madvise(reserve, states + pages * sizeof(cm_page_map), MADV_POPULATE_WRITE);
    owner->space.reserves[owner->space.count] = reserve;
    __atomic_store_n(&owner->space.count, owner->space.count + 1, __ATOMIC_RELEASE);
    return reserve;
}

static char *take(cm_reserve *reserve, size_t size, size_t alignment) {
    uintptr_t at = ((uintptr_t)reserve->base + reserve->bytes_taken + alignment - 1) & ~(uintptr_t)(alignment - 1);
    size_t end = at - (uintptr_t)reserve->base + size;
    if (end > reserve->pages * cm_page_bytes) return NULL;
    reserve->bytes_taken = end;
    return (char *)at;
}

// MARK: Taking into use

/// Asks the warmer for the untouched ones of up to `count` pages from `page` on. Arena's thread.
static void ask(cm_owner *owner, cm_reserve *reserve, size_t page, size_t count) {
    for (; count > 0 && page + 1 < reserve->pages; page++, count--) {
        if (__atomic_load_n(&reserve->state[page], __ATOMIC_RELAXED) != CM_UNTOUCHED) continue;
        // Back if there is no room: before, so that the warmer sees it.
        __atomic_store_n(&reserve->state[page], CM_ASKED, __ATOMIC_RELAXED);
        if (cm_warmer_ask(owner, reserve->base + page * cm_page_bytes)) continue;
        __atomic_store_n(&reserve->state[page], CM_UNTOUCHED, __ATOMIC_RELAXED);
        return;
    }
}

/// The owner is about to use these bytes.
static void use(cm_owner *owner, char *from, size_t bytes) {
    char *end = from + bytes;
    int untouched = 0, used = 0;
    while (from < end) {
        cm_reserve *reserve = cm_reserve_of(owner, from);
        if (!reserve) return;
        size_t page = (size_t)(from - reserve->base) / cm_page_bytes;
        char *start = from, *page_start = reserve->base + page * cm_page_bytes;
        from = page_start + cm_page_bytes;
        cm_pieces_occupy(owner, reserve, page, (size_t)(start - page_start) / cm_small_bytes,
               (size_t)((from < end ? from : end) - page_start) / cm_small_bytes);
        uint8_t before = __atomic_load_n(&reserve->state[page], __ATOMIC_ACQUIRE);
        if (before >= CM_USED) continue;
        used++;
        // Never on the arena's own thread.
        while (before == CM_LEAVING) {
            sched_yield();
            before = __atomic_load_n(&reserve->state[page], __ATOMIC_ACQUIRE);
        }
        int is_whole = from - start == (ptrdiff_t)cm_page_bytes && from <= end && bytes >= 2 * cm_page_bytes;
        before = __atomic_exchange_n(&reserve->state[page], is_whole ? CM_UNTOUCHED : CM_USED, __ATOMIC_RELAXED);
        if (before == CM_WARM) {
            if (is_whole) __atomic_store_n(&reserve->state[page], CM_USED, __ATOMIC_RELAXED);
            __atomic_fetch_sub(&owner->shared.warm, 1, __ATOMIC_RELAXED);
            cs_counter_add_shared(&owner->shared.ready, 1);
        } else if (is_whole) {
            if (owner == cm_mine && untouched++ < CM_BLOCK_PAGES) ask(owner, reserve, page, 1);
        } else {
            cs_counter_add_shared(&owner->shared.unready, 1);
        }
    }
    if (used == 0) return;
    int64_t wanted = __atomic_load_n(&owner->shared.wanted, __ATOMIC_RELAXED);
    if (wanted < CM_FIRST_PAGES && owner == cm_mine && owner->own.is_tended) {
        wanted = CM_FIRST_PAGES;
        __atomic_store_n(&owner->shared.wanted, wanted, __ATOMIC_RELAXED);
    }
    if (__atomic_load_n(&owner->shared.warm, __ATOMIC_RELAXED) * 4 < wanted * 3) cm_warmer_wake();
}

void cm_ahead(const void *at, size_t bytes) {
    if (!cm_mine) return;
    cm_reserve *reserve = cm_reserve_of(cm_mine, at);
    if (!reserve) return;
    size_t page = (size_t)((const char *)at - reserve->base) / cm_page_bytes;
    // The page written to now is no business of the warmer any more.
    if (__atomic_load_n(&reserve->state[page], __ATOMIC_RELAXED) == CM_UNTOUCHED) {
        __atomic_store_n(&reserve->state[page], CM_USED, __ATOMIC_RELAXED);
    }
    ask(cm_mine, reserve, page + 1, bytes / cm_page_bytes);
}

// MARK: jemalloc's hooks

/// What jemalloc does by itself.
static void *fall_back(
    cm_owner *owner, void *wanted, size_t size, size_t alignment, bool *zero, bool *commit, unsigned arena) {
    const extent_hooks_t *hooks = owner->fixed.fallback;
    return hooks->alloc((extent_hooks_t *)hooks, wanted, size, alignment, zero, commit, arena);
}

/// A block in which jemalloc notes what pieces there are: the only kind that it wants committed and aligned to a huge
/// page. In small pages, made ready one after the other by the warmer, as nothing tells how far jemalloc has come in
/// it. (By itself it reads each page first, which gives a page of zeros, and writing to that interrupts the other
/// processors and waits for them, 5 ms once: 968 times while a table grows to 3 M keys.)
static void *alloc_notes(cm_owner *owner, size_t size, size_t alignment, bool *zero, bool *commit, unsigned arena) {
    char *at = fall_back(owner, NULL, size, alignment, zero, commit, arena);
    // Others who free what is the owner's may need room for notes as well, but only the owner asks.
    if (!at || (owner->fixed.is_made && owner != cm_mine)) return at;
    for (size_t offset = 0; offset < size; offset += cm_page_bytes) {
        if (!cm_warmer_ask(owner, at + offset)) break;
    }
    return at;
}

static void *alloc_hook(
    extent_hooks_t *hooks, void *wanted, size_t size, size_t alignment, bool *zero, bool *commit, unsigned arena) {
    cm_owner *owner = (cm_owner *)hooks;
    if (*commit && !wanted && alignment == cm_page_bytes) {
        return alloc_notes(owner, size, alignment, zero, commit, arena);
    }
    if (wanted || alignment > cm_page_bytes) {
        return fall_back(owner, wanted, size, alignment, zero, commit, arena);
    }
    pthread_mutex_lock(&owner->space.lock);
    char *at = NULL;
    if (owner->space.count > 0) at = take(owner->space.reserves[owner->space.count - 1], size, alignment);
    if (!at) {
        cm_reserve *fresh = cm_reserve_open(owner, size);
        if (fresh) at = take(fresh, size, alignment);
    }
    pthread_mutex_unlock(&owner->space.lock);
    if (!at) {
        return fall_back(owner, wanted, size, alignment, zero, commit, arena);
    }
    *zero = true;
    // Only with "retain:false" in MALLOC_CONF.
    if (*commit) use(owner, at, size);
    return at;
}

static bool commit_hook(
    extent_hooks_t *hooks, void *at, size_t size, size_t offset, size_t length, unsigned arena) {
    use((cm_owner *)hooks, (char *)at + offset, length);
    return false;
}

/// Gives the memory back, now or when it is worth it, keeps the addresses.
static bool decommit_hook(
    extent_hooks_t *hooks, void *at, size_t size, size_t offset, size_t length, unsigned arena) {
    char *from = (char *)at + offset, *end = from + length;
    while (from < end) {
        cm_reserve *reserve = cm_reserve_of((cm_owner *)hooks, from);
        // Of the time before the hooks.
        if (!reserve) return madvise(from, (size_t)(end - from), MADV_DONTNEED) != 0;
        size_t page = (size_t)(from - reserve->base) / cm_page_bytes;
        char *page_start = reserve->base + page * cm_page_bytes, *next = page_start + cm_page_bytes;
        cm_pieces_vacate((cm_owner *)hooks, reserve, page, (size_t)(from - page_start) / cm_small_bytes,
               (size_t)((next < end ? next : end) - page_start) / cm_small_bytes);
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

const extent_hooks_t cm_reserve_hooks = {
    .alloc = alloc_hook, .commit = commit_hook, .decommit = decommit_hook, .purge_forced = purge_hook,
    .split = split_hook, .merge = merge_hook,
};

#endif
