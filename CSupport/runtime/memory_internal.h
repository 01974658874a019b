// What the parts of the memory made ready share: reserve.c, pieces.c, warmer.c, owner.c. Included by those only.
#ifndef KVD_MEMORY_INTERNAL_H
#define KVD_MEMORY_INTERNAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "csupport_memory.h"
#include "csupport_system.h"

#ifndef KVD_NO_JEMALLOC

#include <jemalloc/jemalloc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/// Of a huge page: see warmer.c.
enum { COLD, WARMING, WARM, LEAVING, USED, UNTOUCHED, ASKED };
/// How much memory a thread takes.
typedef enum pace { QUIET, BUSY, GROWING } pace;

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
    /// Fewer are short: what one turn takes may begin two.
    SHORT_PAGES = 2,
    WANTED_MAX = 48,
    /// The beginning of a large block that is touched at once.
    BLOCK_PAGES = 2,
    /// Pages asked for and not looked at yet by the warmer; a power of two.
    ASKED_MAX = 64,
    /// Freed memory is kept for reuse for so long at most. By a busy thread as long as jemalloc does by itself: what
    /// messages free is what they take next, and giving it back in between costs system calls now and page faults
    /// then. By a growing one until it grows no more (-1): of what tables that grow free, a twentieth of what they
    /// take, much does not fit what they take next, and jemalloc takes half a millisecond for a hundred pieces of it,
    /// one that has to wait for another processor three. By a quiet one for a second: it would hold what its last
    /// burst took; at first for four if it has grown, as that is much.
    KEPT_FREE_BUSY_MILLIS = 10000,
    KEPT_FREE_GROWING_MILLIS = -1,
    KEPT_FREE_MILLIS = 1000,
    KEPT_FREE_GROWN_MILLIS = 4000,
    /// Busy is who allocates so much between two calls of cs_memory_tend, until so many calls without that; growing,
    /// who took so many fresh huge pages in the last so many calls, which is a second.
    BUSY_BYTES = 1 << 20,
    SLOWER_TICKS = 3,
    GROWING_PAGES = 8,
    GROWING_TICKS = 10,
    /// A thread that has become quiet gives back in calls of cs_memory_step, so many milliseconds apart, until a second
    /// after all of it is due: each a hundredth of it or less, since jemalloc takes a microsecond for a piece and a
    /// server that has grown has thousands.
    STEP_MILLIS = 10,
    STEPS_MORE = 100,
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
    /// Of 4 KiB: given back in one system call, which takes 0.6 us for each.
    GIVEN_AT_ONCE_MAX = 64,
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
    /// Of the owner's thread: bytes it has ever allocated, as jemalloc counts them; as many at the last tick; pages
    /// taken in each of the last ticks, a ring; what it does, ticks since it did less; calls of cs_memory_step left.
    const uint64_t *allocated;
    uint64_t allocated_before;
    int64_t taken[GROWING_TICKS];
    uint32_t taken_at;
    pace pace;
    uint32_t slower_ticks, steps_left;
    /// Since it was quiet last.
    int has_grown;
    /// It has its arena, and other threads may use that too.
    int is_made;
    /// Its thread has ended; another one may take it over.
    int is_free;
    /// The first call of cs_memory_tend only begins to count.
    int is_tended;
} owner;

/// The calling thread's; NULL if its memory is not made ready.
extern __thread owner *cs_memory_mine;
/// Only added to, by one thread at a time; `cs_owner_count` tells how many may be read.
extern owner *cs_owners[OWNERS_MAX];
extern uint32_t cs_owner_count;

// reserve.c
/// The reserve an address belongs to, or NULL.
reserve *cs_reserve_of(const owner *owner, const char *address);
/// A new one of at least so many bytes; NULL if there is no room. `taking` is held.
reserve *cs_reserve_open(owner *owner, size_t bytes);
/// Those of jemalloc's hooks that take address space from an owner's reserves.
extern const extent_hooks_t cs_reserve_hooks;

// pieces.c
/// Small pages `first ..< end` are about to be used.
void cs_pieces_occupy(owner *owner, reserve *reserve, size_t page, size_t first, size_t end);
/// Small pages `first ..< end` are free.
void cs_pieces_vacate(owner *owner, reserve *reserve, size_t page, size_t first, size_t end);
/// Of the owner's thread: gives back what there was no time for.
void cs_pieces_settle(owner *owner, int64_t deadline);
/// Of an idle thread: breaks up pages that were only begun, too. Looks at all pages once, in several calls.
void cs_pieces_sweep(owner *owner);
/// Owner's thread: takes WARM pages out of reach of the warmer and itself, highest first, and empties them.
void cs_pieces_give_back(owner *owner, int64_t count);

// warmer.c
/// Any thread; a system call only if the warmer sleeps.
void cs_warmer_wake(void);
/// The owner's thread: asks for 2 MiB to be touched, of a reserve (whose state is ASKED then) or not. False if it has
/// asked for too much.
int cs_warmer_ask(owner *owner, char *page_start);
/// Whether it is awake, or was told to be.
int cs_warmer_is_awake(void);
/// Starts it if need be, and keeps it away from the processor that one more owner is pinned to. One thread at a time.
void cs_warmer_place(int processor);

#endif
#endif
