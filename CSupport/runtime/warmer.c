// Touches the memory that a loop's thread will use next, so that the loop does not wait while the kernel clears it.
// Hooks: called by jemalloc on the thread that allocates or frees; `warm`: a thread of its own.
//
// A fresh huge page costs its first toucher 0.2 ms, and some milliseconds on a virtual machine whose host has to find
// the memory first. So each loop's arena takes its address space from a reserve, and tells page by page what it takes
// into use: jemalloc calls the commit hook for every piece of address space before the first byte of it is used. The
// warmer walks the reserve in the same order and keeps a few pages ahead populated. A page is in one of these states:
//
//   COLD ──warmer──▶ WARMING ──warmer──▶ WARM          COLD, WARMING, WARM ──commit hook──▶ USED
//   WARM ──cs_memory_tend──▶ LEAVING ──▶ COLD          USED ──decommit hook──▶ COLD
//   COLD ──commit hook──▶ UNTOUCHED ──cs_memory_ahead──▶ ASKED ──warmer──▶ USED
//
// Freed pieces are not given back one by one: the first one would break its huge page up, and finding memory in small
// pages costs a look-up an eighth more. They stay, and are cleared when they are used again, unless their page has so
// many of them that they are worth it; and then for a part of the owner's time only. See `vacate`, `settle`, `sweep`.
//
// The second way is that of blocks of several huge pages. They may be much larger than what is ever written to them, so
// nothing but their beginning is touched until their owner says how far it is.
//
// Populating never changes what memory holds, so the warmer may be late or lose every race: the owner's thread never
// waits for it, it only finds a page it has to clear itself, as it would without. Only giving memory back destroys
// content, so that is done on the arena's own thread, which otherwise is the one that commits (another thread that
// does, by enlarging a block in place, waits while the page is LEAVING), and by whoever decommits a piece, which is
// nobody else's then.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "csupport_memory.h"
#include "csupport_system.h"

#ifdef KVD_NO_JEMALLOC

int cs_memory_warm_this_thread(int processor) { return 0; }
void cs_memory_leave_this_thread(void) {}
int cs_memory_tend(void) { return 0; }
int cs_memory_step(void) { return 0; }
int cs_memory_is_short(void) { return 0; }
void cs_memory_purge(void) {}
void cs_memory_ahead(const void *at, size_t bytes) {}
cs_warmth cs_memory_warmth(void) { return (cs_warmth){0, 0, 0, 0}; }

#else

#include <jemalloc/jemalloc.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum { COLD, WARMING, WARM, LEAVING, USED, UNTOUCHED, ASKED };

enum {
    OWNERS_MAX = 128,
    RESERVES_MAX = 256,
    /// Of 2 MiB: address space asked for at a time, 4 GiB.
    RESERVE_PAGES = 2048,
    /// Kept ready by a busy thread beyond what it used in the last tenth of a second; kept ready at most. A thread idle
    /// for long keeps one, so that nothing it begins to do waits for its first; using that asks for two more, in case
    /// it begins to grow.
    SPARE_PAGES = 5,
    FIRST_PAGES = 2,
    IDLE_PAGES = 1,
    WANTED_MAX = 48,
    /// The beginning of a large block that is touched at once.
    BLOCK_PAGES = 2,
    /// Pages asked for and not looked at yet by the warmer; a power of two.
    ASKED_MAX = 64,
    /// Freed memory is kept for reuse for so long at most. By a busy thread as long as jemalloc does by itself: what
    /// growing tables and messages free is what they take next, and giving it back in between costs system calls now
    /// and page faults then. By a quiet one for a second: it would hold what its last burst took.
    KEPT_FREE_BUSY_MILLIS = 10000,
    KEPT_FREE_MILLIS = 1000,
    /// Busy is who allocates so much between two calls of cs_memory_tend; quiet, after so many calls without that.
    BUSY_BYTES = 1 << 20,
    QUIET_TICKS = 3,
    /// Calls of cs_memory_step, 10 ms apart, in which a thread that has become quiet gives back: each a hundredth of
    /// it, since jemalloc takes a microsecond for a piece and a server that has grown has thousands.
    STEPS = 200,
    /// Pages given back, broken up and looked at for that per call of cs_memory_tend.
    GIVEN_BACK_MAX = 4,
    BROKEN_UP_MAX = 4,
    SWEPT_MAX = 1024,
    /// Of 4 KiB: in a huge page; unused ones for which a huge page in use stays in one piece.
    SMALL_PAGES = 512,
    SMALL_WORDS = SMALL_PAGES / 64,
    UNUSED_MAX = 32,
    /// How long giving back may take of each millisecond of the caller, and in one call of cs_memory_tend: it is a
    /// system call for each piece, in which the process's other processors are interrupted and waited for. Pages whose
    /// turn has not come, at most; beyond them there is no limit of time.
    GIVING_NANOS_MAX = 100000,
    TENDING_NANOS_MAX = 100000,
    DUE_MAX = 1024,
    /// Calls of cs_memory_tend without a page used before what is ready is given back, and before what the thread's
    /// cache holds, up to a megabyte in blocks of 20 to 32 KiB, goes to the arena, which keeps it for a second more.
    IDLE_TICKS = 20,
    FLUSH_TICKS = 10,
};
static const size_t page_bytes = (size_t)2 << 20, small_bytes = 4096;

/// What of a huge page is in use, a bit for each 4 KiB. Under the owner's `mapping`.
typedef struct page_map {
    uint64_t used[SMALL_WORDS];
    /// Not in use and not cleared: kept as long as the page is in one piece, given back soon if not.
    uint64_t stale[SMALL_WORDS];
    /// Some of it was given back; it is in the owner's ring `due`.
    uint32_t is_broken, is_due;
} page_map;

typedef struct reserve {
    char *base;
    page_map *maps;
    size_t pages, bytes_taken;
    /// No page before it is COLD, except by decommit, which sets it back. A hint.
    size_t first_cold;
    uint8_t state[];
} reserve;

typedef struct owner {
    extent_hooks_t hooks;
    const extent_hooks_t *fallback;
    /// Taken where address space is taken, which is rare; never by the warmer.
    pthread_mutex_t taking;
    /// Taken for every piece taken into use and freed, of 4 KiB at least; rarely by two threads; never by the warmer.
    pthread_mutex_t mapping;
    reserve *reserves[RESERVES_MAX];
    uint32_t reserve_count;
    int64_t wanted, warm;
    uint64_t ready, unready;
    /// Of the owner's thread: `ready + unready` at the last tick, ticks since that changed.
    uint64_t seen, idle_ticks;
    /// How far `sweep` has come.
    size_t swept_reserves, swept_pages;
    /// Ring of pages of which something is to be given back. Under `mapping`, like the two that follow.
    struct {
        struct reserve *reserve;
        size_t page;
    } due[DUE_MAX];
    uint32_t due_first, due_count;
    /// When the millisecond began in which the owner gives back, and for how long it has in it.
    int64_t giving_since, giving_nanos;
    /// Ring of addresses asked for, written by the owner, read by the warmer.
    char *asked[ASKED_MAX];
    uint32_t asked_count, answered_count;
    unsigned arena;
    /// Names of jemalloc's "arena.N.decay", "arena.N.purge" and "arena.N.dirty_decay_ms".
    size_t decay[3], purge[3], kept[3];
    /// Of the owner's thread: bytes it has ever allocated, as jemalloc counts them; as many at the last tick; whether
    /// it is busy, ticks since it allocated much; calls of cs_memory_step left.
    const uint64_t *allocated;
    uint64_t allocated_before;
    int is_busy;
    uint32_t quiet_ticks, steps_left;
    /// Its thread has ended; another one may take it over.
    int is_free;
    /// The first call of cs_memory_tend only begins to count.
    int is_tended;
} owner;

static owner *owners[OWNERS_MAX];
static uint32_t owner_count;
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;
static int is_running;
/// 0 while the warmer sleeps or is about to.
static uint32_t awake;
/// Those the process may use; those no owner is pinned to.
static cpu_set_t processors, others;
static pthread_t warmer;
static __thread owner *mine;

static void wake_warmer(void) {
    if (__atomic_load_n(&awake, __ATOMIC_SEQ_CST) != 0) return;
    if (__atomic_exchange_n(&awake, 1, __ATOMIC_SEQ_CST) != 0) return;
    syscall(SYS_futex, &awake, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

// MARK: Address space

static reserve *reserve_of(const owner *owner, const char *address) {
    uint32_t count = __atomic_load_n(&owner->reserve_count, __ATOMIC_ACQUIRE);
    while (count-- > 0) {
        reserve *reserve = owner->reserves[count];
        if (address >= reserve->base && address < reserve->base + reserve->pages * page_bytes) return reserve;
    }
    return NULL;
}

static reserve *open_reserve(owner *owner, size_t bytes) {
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

// MARK: Pieces of huge pages

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
    if (count_bits(map->used) == 0) {
        give_page_back(reserve, page);
        return 1;
    }
    if (!map->is_broken) {
        if (count_bits(map->stale) <= UNUSED_MAX) return 1;
        // All that is not in use, as it is in small pages from now on.
        for (size_t i = 0; i < SMALL_WORDS; i++) map->stale[i] = ~map->used[i];
        map->is_broken = 1;
    }
    for (;;) {
        size_t first = first_bit(map->stale, 0, 1), end = first_bit(map->stale, first, 0);
        if (first >= SMALL_PAGES) return 1;
        if (cs_monotonic_nanos() >= deadline) return 0;
        empty(start + first * small_bytes, (end - first) * small_bytes);
        EACH_WORD(first, end, { map->stale[word] &= ~bits; })
    }
}

/// Small pages `first ..< end` are about to be used.
static void occupy(owner *owner, reserve *reserve, size_t page, size_t first, size_t end) {
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

/// Small pages `first ..< end` are free.
static void vacate(owner *owner, reserve *reserve, size_t page, size_t first, size_t end) {
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

/// Of the owner's thread: gives back what there was no time for.
static void settle(owner *owner, int64_t deadline) {
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

/// Of an idle thread: breaks up pages that were only begun, too. Looks at all pages once, in several calls.
static void sweep(owner *owner) {
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

// MARK: Taking into use

/// Asks the warmer for the untouched ones of up to `count` pages from `page` on. Arena's thread.
static void ask(owner *owner, reserve *reserve, size_t page, size_t count) {
    for (; count > 0 && page + 1 < reserve->pages; page++, count--) {
        if (__atomic_load_n(&reserve->state[page], __ATOMIC_RELAXED) != UNTOUCHED) continue;
        uint32_t at = owner->asked_count;
        if (at - __atomic_load_n(&owner->answered_count, __ATOMIC_ACQUIRE) == ASKED_MAX) return;
        __atomic_store_n(&reserve->state[page], ASKED, __ATOMIC_RELAXED);
        owner->asked[at % ASKED_MAX] = reserve->base + page * page_bytes;
        __atomic_store_n(&owner->asked_count, at + 1, __ATOMIC_RELEASE);
        wake_warmer();
    }
}

/// The owner is about to use these bytes.
static void use(owner *owner, char *from, size_t bytes) {
    char *end = from + bytes;
    int untouched = 0, used = 0;
    while (from < end) {
        reserve *reserve = reserve_of(owner, from);
        if (!reserve) return;
        size_t page = (size_t)(from - reserve->base) / page_bytes;
        char *start = from, *page_start = reserve->base + page * page_bytes;
        from = page_start + page_bytes;
        occupy(owner, reserve, page, (size_t)(start - page_start) / small_bytes,
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
            if (owner == mine && untouched++ < BLOCK_PAGES) ask(owner, reserve, page, 1);
        } else {
            cs_counter_add_shared(&owner->unready, 1);
        }
    }
    if (used == 0) return;
    int64_t wanted = __atomic_load_n(&owner->wanted, __ATOMIC_RELAXED);
    if (wanted < FIRST_PAGES && owner == mine && owner->is_tended) {
        wanted = FIRST_PAGES;
        __atomic_store_n(&owner->wanted, wanted, __ATOMIC_RELAXED);
    }
    if (__atomic_load_n(&owner->warm, __ATOMIC_RELAXED) * 4 < wanted * 3) wake_warmer();
}

void cs_memory_ahead(const void *at, size_t bytes) {
    if (!mine) return;
    reserve *reserve = reserve_of(mine, at);
    if (!reserve) return;
    size_t page = (size_t)((const char *)at - reserve->base) / page_bytes;
    // The page written to now is no business of the warmer any more.
    if (__atomic_load_n(&reserve->state[page], __ATOMIC_RELAXED) == UNTOUCHED) {
        __atomic_store_n(&reserve->state[page], USED, __ATOMIC_RELAXED);
    }
    ask(mine, reserve, page + 1, bytes / page_bytes);
}

// MARK: jemalloc's hooks

static void *alloc_hook(
    extent_hooks_t *hooks, void *wanted, size_t size, size_t alignment, bool *zero, bool *commit, unsigned arena) {
    owner *owner = (struct owner *)hooks;
    if (wanted || alignment > page_bytes) {
        return owner->fallback->alloc((extent_hooks_t *)owner->fallback, wanted, size, alignment, zero, commit, arena);
    }
    pthread_mutex_lock(&owner->taking);
    char *at = NULL;
    if (owner->reserve_count > 0) at = take(owner->reserves[owner->reserve_count - 1], size, alignment);
    if (!at) {
        reserve *fresh = open_reserve(owner, size);
        if (fresh) at = take(fresh, size, alignment);
    }
    pthread_mutex_unlock(&owner->taking);
    if (!at) {
        return owner->fallback->alloc((extent_hooks_t *)owner->fallback, wanted, size, alignment, zero, commit, arena);
    }
    *zero = true;
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
        reserve *reserve = reserve_of((owner *)hooks, from);
        // Of the time before the hooks.
        if (!reserve) return madvise(from, (size_t)(end - from), MADV_DONTNEED) != 0;
        size_t page = (size_t)(from - reserve->base) / page_bytes;
        char *page_start = reserve->base + page * page_bytes, *next = page_start + page_bytes;
        vacate((owner *)hooks, reserve, page, (size_t)(from - page_start) / small_bytes,
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

// MARK: The warmer

/// Not by madvise alone: it holds the lock of the process's whole address space while the kernel finds the page, and
/// jemalloc, which takes that lock now and then for room of its own, would have the loop wait for milliseconds. A fault
/// holds the lock of the one mapping only. Then, if the kernel had no huge page, the rest.
static int populate(char *page_start) {
    uint32_t zero = 0;
    // Zero in place of zero: a write to the kernel, none to the owner, who may be writing already.
    __atomic_compare_exchange_n((volatile uint32_t *)page_start, &zero, 0, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return madvise(page_start, page_bytes, MADV_POPULATE_WRITE);
}

/// The next page the owner will use as far as its order tells: pieces are taken from the lowest address on.
static int warm_one(owner *owner) {
    uint32_t count = __atomic_load_n(&owner->reserve_count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < count; i++) {
        reserve *reserve = owner->reserves[i];
        for (size_t page = __atomic_load_n(&reserve->first_cold, __ATOMIC_RELAXED); page + 1 < reserve->pages; page++) {
            uint8_t expected = COLD;
            if (__atomic_load_n(&reserve->state[page], __ATOMIC_RELAXED) != COLD) continue;
            if (!__atomic_compare_exchange_n(
                    &reserve->state[page], &expected, WARMING, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
            __atomic_store_n(&reserve->first_cold, page + 1, __ATOMIC_RELAXED);
            int failed = populate(reserve->base + page * page_bytes);
            expected = WARMING;
            if (__atomic_compare_exchange_n(&reserve->state[page], &expected, failed ? USED : WARM, 0, __ATOMIC_RELAXED,
                    __ATOMIC_RELAXED) && !failed) {
                __atomic_fetch_add(&owner->warm, 1, __ATOMIC_RELAXED);
            }
            return !failed;
        }
        __atomic_store_n(&reserve->first_cold, reserve->pages, __ATOMIC_RELAXED);
    }
    return 0;
}

/// One of the pages asked for.
static int answer_one(owner *owner) {
    uint32_t at = owner->answered_count;
    if (at == __atomic_load_n(&owner->asked_count, __ATOMIC_ACQUIRE)) return 0;
    char *page_start = owner->asked[at % ASKED_MAX];
    __atomic_store_n(&owner->answered_count, at + 1, __ATOMIC_RELEASE);
    reserve *reserve = reserve_of(owner, page_start);
    uint8_t expected = ASKED;
    size_t page = (size_t)(page_start - reserve->base) / page_bytes;
    // Given back meanwhile otherwise.
    if (__atomic_compare_exchange_n(&reserve->state[page], &expected, USED, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        populate(page_start);
    }
    return 1;
}

static int warm_some(void) {
    int done = 0;
    uint32_t count = __atomic_load_n(&owner_count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < count; i++) {
        owner *owner = owners[i];
        int answered = answer_one(owner);
        done += answered;
        int64_t wanted = __atomic_load_n(&owner->wanted, __ATOMIC_RELAXED);
        if (!answered && __atomic_load_n(&owner->warm, __ATOMIC_RELAXED) < wanted) done += warm_one(owner);
    }
    return done;
}

static void *warm(void *unused) {
    cs_name_thread("kvd-warmer");
    for (;;) {
        // Cleared before looking: a wish that comes meanwhile is not missed.
        __atomic_store_n(&awake, 0, __ATOMIC_SEQ_CST);
        if (warm_some() > 0) continue;
        syscall(SYS_futex, &awake, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    }
    return NULL;
}

static int start_warmer(void) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int failure = pthread_create(&warmer, &attributes, warm, NULL);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failure == 0;
}

// MARK: Owners

/// Puts the arena that jemalloc chose for the calling thread under these hooks.
static owner *make_owner(unsigned arena) {
    owner *made = mmap(NULL, sizeof *made, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED) return NULL;
    made->hooks = (extent_hooks_t){
        .alloc = alloc_hook, .commit = commit_hook, .decommit = decommit_hook, .purge_forced = purge_hook,
        .split = split_hook, .merge = merge_hook,
    };
    pthread_mutex_init(&made->taking, NULL);
    pthread_mutex_init(&made->mapping, NULL);
    made->arena = arena;
    char name[64];
    snprintf(name, sizeof name, "arena.%u.extent_hooks", arena);
    extent_hooks_t *hooks = &made->hooks;
    size_t size = sizeof made->fallback;
    // The old hooks stay in use for what the arena has from them, and the new ones must be able to hand over to them.
    if (mallctl(name, &made->fallback, &size, NULL, 0) == 0 && mallctl(name, NULL, NULL, &hooks, sizeof hooks) == 0) {
        size_t parts = 3;
        snprintf(name, sizeof name, "arena.%u.dirty_decay_ms", arena);
        mallctlnametomib(name, made->kept, &parts);
        snprintf(name, sizeof name, "arena.%u.decay", arena);
        mallctlnametomib(name, made->decay, &parts);
        snprintf(name, sizeof name, "arena.%u.purge", arena);
        mallctlnametomib(name, made->purge, &parts);
        return made;
    }
    munmap(made, sizeof *made);
    return NULL;
}

static void keep_freed(owner *owner, ssize_t millis) {
    mallctlbymib(owner->kept, 3, NULL, NULL, &millis, sizeof millis);
}

/// NULL if the thread shares its arena with one that came first: jemalloc has four arenas for each processor.
static owner *find_owner(void) {
    unsigned arena;
    size_t size = sizeof arena;
    if (mallctl("thread.arena", &arena, &size, NULL, 0) != 0) return NULL;
    for (uint32_t i = 0; i < owner_count; i++) {
        if (owners[i]->arena == arena) return owners[i]->is_free ? owners[i] : NULL;
    }
    owner *made = owner_count < OWNERS_MAX ? make_owner(arena) : NULL;
    if (!made) return NULL;
    owners[owner_count] = made;
    __atomic_store_n(&owner_count, owner_count + 1, __ATOMIC_RELEASE);
    return made;
}

/// The warmer works beside the owners where there is room: not on the processors they are pinned to.
static void place_warmer(int processor) {
    if (CPU_COUNT(&processors) == 0) {
        sched_getaffinity(getpid(), sizeof processors, &processors);
        others = processors;
    }
    int count = CPU_COUNT(&processors), skip = processor >= 0 && count > 0 ? processor % count : count;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &processors) && skip-- == 0) CPU_CLR(cpu, &others);
    }
    if (!is_running) is_running = start_warmer();
    cpu_set_t *wanted = CPU_COUNT(&others) > 0 ? &others : &processors;
    if (is_running) pthread_setaffinity_np(warmer, sizeof *wanted, wanted);
}

int cs_memory_warm_this_thread(int processor) {
    if (mine) return 1;
    pthread_mutex_lock(&starting);
    owner *found = find_owner();
    if (found) {
        found->is_free = 0;
        found->idle_ticks = 0;
        found->is_tended = 0;
        size_t size = sizeof found->allocated;
        static const uint64_t uncounted;
        if (mallctl("thread.allocatedp", &found->allocated, &size, NULL, 0) != 0) found->allocated = &uncounted;
        found->allocated_before = *found->allocated;
        found->is_busy = 0;
        found->quiet_ticks = found->steps_left = 0;
        keep_freed(found, KEPT_FREE_MILLIS);
        // Now, not when room is needed first: what is to be ready then needs an address.
        if (found->reserve_count == 0) {
            pthread_mutex_lock(&found->taking);
            open_reserve(found, 0);
            pthread_mutex_unlock(&found->taking);
        }
        mine = found;
        place_warmer(processor);
    }
    pthread_mutex_unlock(&starting);
    if (mine) wake_warmer();
    return mine != NULL;
}

void cs_memory_leave_this_thread(void) {
    if (!mine) return;
    pthread_mutex_lock(&starting);
    __atomic_store_n(&mine->wanted, 0, __ATOMIC_RELAXED);
    mine->is_free = 1;
    mine = NULL;
    pthread_mutex_unlock(&starting);
}

/// Owner's thread: takes WARM pages out of reach of the warmer and itself, highest first, and empties them.
static void give_back(owner *owner, int64_t count) {
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

/// Whether the thread is busy decides how long what it frees is kept.
static void note_busyness(owner *owner) {
    uint64_t allocated = *owner->allocated;
    if (allocated - owner->allocated_before >= BUSY_BYTES) {
        if (!owner->is_busy) keep_freed(owner, KEPT_FREE_BUSY_MILLIS);
        owner->is_busy = 1;
        owner->quiet_ticks = owner->steps_left = 0;
    } else if (owner->is_busy && ++owner->quiet_ticks == QUIET_TICKS) {
        keep_freed(owner, KEPT_FREE_MILLIS);
        owner->is_busy = 0;
        owner->steps_left = STEPS;
    }
    owner->allocated_before = allocated;
}

int cs_memory_step(void) {
    owner *owner = mine;
    if (!owner || owner->steps_left == 0) return 0;
    owner->steps_left--;
    mallctlbymib(owner->decay, 3, NULL, NULL, NULL, 0);
    settle(owner, cs_monotonic_nanos() + TENDING_NANOS_MAX);
    return owner->steps_left > 0;
}

int cs_memory_tend(void) {
    owner *owner = mine;
    if (!owner) return 0;
    note_busyness(owner);
    if (owner->idle_ticks == FLUSH_TICKS) mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
    // By itself jemalloc only looks at the time as a thread allocates.
    if (!owner->is_busy) mallctlbymib(owner->decay, 3, NULL, NULL, NULL, 0);
    settle(owner, cs_monotonic_nanos() + TENDING_NANOS_MAX);
    uint64_t used = cs_counter_read(&owner->ready) + cs_counter_read(&owner->unready);
    int64_t recent = (int64_t)(used - owner->seen);
    owner->seen = used;
    // What a thread allocates as it starts tells nothing.
    if (!owner->is_tended) {
        owner->is_tended = 1;
        owner->idle_ticks = IDLE_TICKS;
        owner->swept_reserves = RESERVES_MAX;
        recent = 0;
    }
    owner->idle_ticks = recent > 0 ? 0 : owner->idle_ticks + 1;
    if (recent > 0) owner->swept_reserves = owner->swept_pages = 0;
    if (owner->idle_ticks >= IDLE_TICKS) sweep(owner);
    int64_t before = __atomic_load_n(&owner->wanted, __ATOMIC_RELAXED), wanted = recent + SPARE_PAGES;
    if (recent <= 1 && before <= FIRST_PAGES) wanted = recent > 0 ? FIRST_PAGES : before;
    if (owner->idle_ticks >= IDLE_TICKS) wanted = IDLE_PAGES;
    // Falls in steps: what comes in bursts finds some of the last burst's still there.
    if (recent > 0 && wanted < before / 2) wanted = before / 2;
    if (wanted > WANTED_MAX) wanted = WANTED_MAX;
    __atomic_store_n(&owner->wanted, wanted, __ATOMIC_RELAXED);
    int64_t warm = __atomic_load_n(&owner->warm, __ATOMIC_RELAXED);
    if (warm < wanted) wake_warmer();
    else if (warm > wanted) give_back(owner, warm - wanted < GIVEN_BACK_MAX ? warm - wanted : GIVEN_BACK_MAX);
    return owner->steps_left > 0;
}

void cs_memory_purge(void) {
    if (!mine) return;
    mallctlbymib(mine->purge, 3, NULL, NULL, NULL, 0);
    settle(mine, INT64_MAX);
}

int cs_memory_is_short(void) {
    owner *owner = mine;
    // Not if the warmer sleeps: then it cannot help, as the kernel gave it no memory.
    return owner && __atomic_load_n(&owner->wanted, __ATOMIC_RELAXED) > FIRST_PAGES
        && __atomic_load_n(&owner->warm, __ATOMIC_RELAXED) <= 0 && __atomic_load_n(&awake, __ATOMIC_RELAXED) != 0;
}

cs_warmth cs_memory_warmth(void) {
    cs_warmth warmth = {0, 0, 0, 0};
    owner *owner = mine;
    if (!owner) return warmth;
    warmth.ready = cs_counter_read(&owner->ready);
    warmth.unready = cs_counter_read(&owner->unready);
    warmth.warm = __atomic_load_n(&owner->warm, __ATOMIC_RELAXED);
    warmth.wanted = __atomic_load_n(&owner->wanted, __ATOMIC_RELAXED);
    return warmth;
}

#endif
