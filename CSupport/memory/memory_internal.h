// What the parts of the memory made ready share: reserve.c, pieces.c, warmer.c, owner.c. Included by those only.
#ifndef KVD_MEMORY_INTERNAL_H
#define KVD_MEMORY_INTERNAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cmemory.h"
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

/// Of a huge page: see README.md.
enum { CM_COLD, CM_WARMING, CM_WARM, CM_LEAVING, CM_USED, CM_UNTOUCHED, CM_ASKED };
/// How much memory a thread takes.
typedef enum cm_pace { CM_QUIET, CM_BUSY, CM_GROWING } cm_pace;

enum {
    CM_OWNERS_MAX = 128,
    CM_RESERVES_MAX = 256,
    /// Of 2 MiB: address space asked for at a time, 4 GiB.
    CM_RESERVE_PAGES = 2048,
    /// Kept ready by a busy thread beyond what it used in the last tenth of a second; kept ready at most. A thread idle
    /// for long keeps one, so that nothing it begins to do waits for its first; using that asks for two more, in case
    /// it begins to grow.
    CM_SPARE_PAGES = 5,
    CM_FIRST_PAGES = 2,
    CM_IDLE_PAGES = 1,
    /// Fewer are short: what one turn takes may begin two.
    CM_SHORT_PAGES = 2,
    CM_WANTED_MAX = 48,
    /// The beginning of a large block that is touched at once.
    CM_BLOCK_PAGES = 2,
    /// Pages asked for and not looked at yet by the warmer; a power of two.
    CM_ASKED_MAX = 64,
    /// Freed memory is kept for reuse for so long at most. By a busy thread as long as jemalloc does by itself: what
    /// messages free is what they take next, and giving it back in between costs system calls now and page faults
    /// then. By a growing one until it grows no more (-1): of what tables that grow free, a twentieth of what they
    /// take, much does not fit what they take next, and jemalloc takes half a millisecond for a hundred pieces of it,
    /// one that has to wait for another processor three. By a quiet one for a second: it would hold what its last
    /// burst took; at first for four if it has grown, as that is much.
    CM_KEPT_FREE_BUSY_MILLIS = 10000,
    CM_KEPT_FREE_GROWING_MILLIS = -1,
    CM_KEPT_FREE_MILLIS = 1000,
    CM_KEPT_FREE_GROWN_MILLIS = 4000,
    /// Busy is who allocates so much between two calls of cm_tend, until so many calls without that; growing,
    /// who took so many fresh huge pages in the last so many calls, which is a second.
    CM_BUSY_BYTES = 1 << 20,
    CM_SLOWER_TICKS = 3,
    CM_GROWING_PAGES = 8,
    CM_GROWING_TICKS = 10,
    /// A thread that has become quiet gives back in calls of cm_step, so many milliseconds apart, until a second
    /// after all of it is due: each a hundredth of it or less, since jemalloc takes a microsecond for a piece and a
    /// server that has grown has thousands.
    CM_STEP_MILLIS = 10,
    CM_STEPS_MORE = 100,
    /// Pages given back, broken up and looked at for that per call of cm_tend.
    CM_GIVEN_BACK_MAX = 4,
    CM_BROKEN_UP_MAX = 4,
    CM_SWEPT_MAX = 1024,
    /// Of 4 KiB: in a huge page; unused ones for which a huge page in use stays in one piece.
    CM_SMALL_PAGES = 512,
    CM_SMALL_WORDS = CM_SMALL_PAGES / 64,
    CM_UNUSED_MAX = 32,
    /// How long giving back may take of each millisecond of the caller, and in one call of cm_tend: it is a
    /// system call for each piece, in which the process's other processors are interrupted and waited for. Pages whose
    /// turn has not come, at most; beyond them there is no limit of time.
    CM_GIVING_NANOS_MAX = 100000,
    CM_TENDING_NANOS_MAX = 100000,
    /// Of 4 KiB: given back in one system call, which takes 0.6 us for each.
    CM_GIVEN_AT_ONCE_MAX = 64,
    CM_DUE_MAX = 1024,
    /// Calls of cm_tend without a page used before what is ready is given back, and before what the thread's
    /// cache holds, up to a megabyte in blocks of 20 to 32 KiB, goes to the arena, which keeps it for a second more.
    CM_IDLE_TICKS = 20,
    CM_FLUSH_TICKS = 10,
};
static const size_t cm_page_bytes = (size_t)2 << 20, cm_small_bytes = 4096;

/// What of a huge page is in use, a bit for each 4 KiB. Under the owner's `mapping`.
typedef struct cm_page_map {
    uint64_t used[CM_SMALL_WORDS];
    /// Not in use and not cleared: kept as long as the page is in one piece, given back soon if not.
    uint64_t stale[CM_SMALL_WORDS];
    /// Some of it was given back; it is in the owner's ring `due`.
    uint32_t is_broken, is_due;
} cm_page_map;

typedef struct cm_reserve {
    char *base;
    cm_page_map *maps;
    size_t pages, bytes_taken;
    /// No page before it is COLD, except by decommit, which sets it back. A hint.
    size_t first_cold;
    uint8_t state[];
} cm_reserve;

/// A thread whose memory is made ready, in parts by who writes them.
typedef struct cm_owner {
    /// First: jemalloc calls the hooks with its address.
    extent_hooks_t hooks;
    /// Written before other threads can see the owner.
    struct {
        const extent_hooks_t *fallback;
        unsigned arena;
        /// Names of jemalloc's "arena.N.decay", "arena.N.purge" and "arena.N.dirty_decay_ms".
        size_t decay[3], purge[3], kept[3];
        /// It has its arena, and other threads may use that too.
        int is_made;
    } fixed;
    /// Its thread has ended; another one may take it over. Under `starting` (owner.c).
    int is_free;

    /// Written under `lock` by whoever takes address space, which is rare; never by the warmer. `count` is published by
    /// a release store: any thread may read the reserves below it.
    struct {
        pthread_mutex_t lock;
        cm_reserve *reserves[CM_RESERVES_MAX];
        uint32_t count;
    } space;

    /// Written under `lock`, like the maps of the pages: for every piece taken into use and freed, of 4 KiB at least;
    /// rarely by two threads; never by the warmer.
    struct {
        pthread_mutex_t lock;
        /// Ring of pages of which something is to be given back.
        struct {
            cm_reserve *reserve;
            size_t page;
        } due[CM_DUE_MAX];
        uint32_t due_first, due_count;
        /// When the millisecond began in which the owner gives back, and for how long it has in it.
        int64_t giving_since, giving_nanos;
    } pieces;

    /// Written and read by the owner's thread alone.
    struct {
        /// `ready + unready` at the last tick, ticks since that changed.
        uint64_t seen, idle_ticks;
        /// How far `cm_pieces_sweep` has come.
        size_t swept_reserves, swept_pages;
        /// Bytes it has ever allocated, as jemalloc counts them; as many at the last tick.
        const uint64_t *allocated;
        uint64_t allocated_before;
        /// Pages taken in each of the last ticks, a ring.
        int64_t taken[CM_GROWING_TICKS];
        uint32_t taken_at;
        /// What it does, ticks since it did less, calls of cm_step left.
        cm_pace pace;
        uint32_t slower_ticks, steps_left;
        /// Since it was quiet last.
        int has_grown;
        /// The first call of cm_tend only begins to count.
        int is_tended;
    } own;

    /// Written by the owner's thread: a ring of addresses asked for. `count` is published by a release store.
    struct {
        char *pages[CM_ASKED_MAX];
        uint32_t count;
    } asked __attribute__((aligned(64)));
    /// Written by the warmer: how many of them it has taken.
    struct {
        uint32_t count;
    } answered __attribute__((aligned(64)));

    /// Relaxed atomics. `wanted` is written by the owner's thread; `warm` by it and the warmer, which both add and
    /// subtract; `ready` and `unready` by whoever takes memory of the arena into use.
    struct {
        int64_t wanted, warm;
        uint64_t ready, unready;
    } shared __attribute__((aligned(64)));
} cm_owner;

/// The calling thread's; NULL if its memory is not made ready.
extern __thread cm_owner *cm_mine;
/// Only added to, by one thread at a time; `cs_owner_count` tells how many may be read.
extern cm_owner *cm_owners[CM_OWNERS_MAX];
extern uint32_t cm_owner_count;

// reserve.c
/// The reserve an address belongs to, or NULL.
cm_reserve *cm_reserve_of(const cm_owner *owner, const char *address);
/// A new one of at least so many bytes; NULL if there is no room. `taking` is held.
cm_reserve *cm_reserve_open(cm_owner *owner, size_t bytes);
/// Those of jemalloc's hooks that take address space from an owner's reserves.
extern const extent_hooks_t cm_reserve_hooks;

// pieces.c
/// Small pages `first ..< end` are about to be used.
void cm_pieces_occupy(cm_owner *owner, cm_reserve *reserve, size_t page, size_t first, size_t end);
/// Small pages `first ..< end` are free.
void cm_pieces_vacate(cm_owner *owner, cm_reserve *reserve, size_t page, size_t first, size_t end);
/// Of the owner's thread: gives back what there was no time for.
void cm_pieces_settle(cm_owner *owner, int64_t deadline);
/// Of an idle thread: breaks up pages that were only begun, too. Looks at all pages once, in several calls.
void cm_pieces_sweep(cm_owner *owner);
/// Owner's thread: takes WARM pages out of reach of the warmer and itself, highest first, and empties them.
void cm_pieces_give_back(cm_owner *owner, int64_t count);

// warmer.c
/// Any thread; a system call only if the warmer sleeps.
void cm_warmer_wake(void);
/// The owner's thread: asks for 2 MiB to be touched, of a reserve (whose state is ASKED then) or not. False if it has
/// asked for too much.
int cm_warmer_ask(cm_owner *owner, char *page_start);
/// Whether it is awake, or was told to be.
int cm_warmer_is_awake(void);
/// Starts it if need be, and keeps it away from the processor that one more owner is pinned to. One thread at a time.
void cm_warmer_place(int processor);

#endif
#endif
