// Touches the memory that a loop's thread will use next, so that the loop does not wait while the kernel clears it. A
// thread of its own; reserve.c is what it walks, pieces.c what is given back, owner.c decides how much of both.
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
// The second way is that of blocks of several huge pages. They may be much larger than what is ever written to them, so
// nothing but their beginning is touched until their owner says how far it is.
//
// Populating never changes what memory holds, so the warmer may be late or lose every race: the owner's thread never
// waits for it, it only finds a page it has to clear itself, as it would without. Only giving memory back destroys
// content, so that is done on the arena's own thread, which otherwise is the one that commits (another thread that
// does, by enlarging a block in place, waits while the page is LEAVING), and by whoever decommits a piece, which is
// nobody else's then.
#include "memory_internal.h"

#ifndef KVD_NO_JEMALLOC

#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/// 0 while the warmer sleeps or is about to.
static uint32_t awake;
static int is_running;
/// Those the process may use; those no owner is pinned to.
static cpu_set_t processors, others;
static pthread_t warmer;

void cs_warmer_wake(void) {
    if (__atomic_load_n(&awake, __ATOMIC_SEQ_CST) != 0) return;
    if (__atomic_exchange_n(&awake, 1, __ATOMIC_SEQ_CST) != 0) return;
    syscall(SYS_futex, &awake, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

int cs_warmer_is_awake(void) { return __atomic_load_n(&awake, __ATOMIC_RELAXED) != 0; }

/// Zero in place of zero: a write to the kernel, none to the owner, who may be writing already.
static void touch(char *at) {
    uint32_t zero = 0;
    __atomic_compare_exchange_n((volatile uint32_t *)at, &zero, 0, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/// Not by madvise alone: it holds the lock of the process's whole address space while the kernel finds the page, and
/// jemalloc, which takes that lock now and then for room of its own, would have the loop wait for milliseconds. A fault
/// holds the lock of the one mapping only. Then, if the kernel had no huge page, the rest.
static int populate(char *page_start) {
    touch(page_start);
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

int cs_warmer_ask(owner *owner, char *page_start) {
    uint32_t at = owner->asked_count;
    if (at - __atomic_load_n(&owner->answered_count, __ATOMIC_ACQUIRE) == ASKED_MAX) return 0;
    owner->asked[at % ASKED_MAX] = page_start;
    __atomic_store_n(&owner->asked_count, at + 1, __ATOMIC_RELEASE);
    cs_warmer_wake();
    return 1;
}

/// One of the pages asked for.
static int answer_one(owner *owner) {
    uint32_t at = owner->answered_count;
    if (at == __atomic_load_n(&owner->asked_count, __ATOMIC_ACQUIRE)) return 0;
    char *page_start = owner->asked[at % ASKED_MAX];
    __atomic_store_n(&owner->answered_count, at + 1, __ATOMIC_RELEASE);
    reserve *reserve = cs_reserve_of(owner, page_start);
    if (!reserve) {
        // In small pages.
        for (size_t small = 0; small < SMALL_PAGES; small++) touch(page_start + small * small_bytes);
        return 1;
    }
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
    uint32_t count = __atomic_load_n(&cs_owner_count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < count; i++) {
        owner *owner = cs_owners[i];
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

void cs_warmer_place(int processor) {
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

#endif
