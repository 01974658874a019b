// Touches the memory that a loop's thread will use next, so that the loop does not wait while the kernel clears it. A
// thread of its own; reserve.c is what it walks, pieces.c what is given back, owner.c decides how much of both.
//
// What for, and the states of a page with what each promises: README.md.
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

void cm_warmer_wake(void) {
    if (__atomic_load_n(&awake, __ATOMIC_SEQ_CST) != 0) return;
    if (__atomic_exchange_n(&awake, 1, __ATOMIC_SEQ_CST) != 0) return;
    syscall(SYS_futex, &awake, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

int cm_warmer_is_awake(void) { return __atomic_load_n(&awake, __ATOMIC_RELAXED) != 0; }

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
    return madvise(page_start, cm_page_bytes, MADV_POPULATE_WRITE);
}

/// The next page the owner will use as far as its order tells: pieces are taken from the lowest address on.
static int warm_one(cm_owner *owner) {
    uint32_t count = __atomic_load_n(&owner->space.count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < count; i++) {
        cm_reserve *reserve = owner->space.reserves[i];
        for (size_t page = __atomic_load_n(&reserve->first_cold, __ATOMIC_RELAXED); page + 1 < reserve->pages; page++) {
            uint8_t expected = CM_COLD;
            if (__atomic_load_n(&reserve->state[page], __ATOMIC_RELAXED) != CM_COLD) continue;
            if (!__atomic_compare_exchange_n(
                    &reserve->state[page], &expected, CM_WARMING, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
            __atomic_store_n(&reserve->first_cold, page + 1, __ATOMIC_RELAXED);
            int failed = populate(reserve->base + page * cm_page_bytes);
            expected = CM_WARMING;
            uint8_t done = failed ? CM_USED : CM_WARM;
            if (__atomic_compare_exchange_n(
                    &reserve->state[page], &expected, done, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED) && !failed) {
                __atomic_fetch_add(&owner->shared.warm, 1, __ATOMIC_RELAXED);
            }
            return !failed;
        }
        __atomic_store_n(&reserve->first_cold, reserve->pages, __ATOMIC_RELAXED);
    }
    return 0;
}

int cm_warmer_ask(cm_owner *owner, char *page_start) {
    uint32_t at = owner->asked.count;
    if (at - __atomic_load_n(&owner->answered.count, __ATOMIC_ACQUIRE) == CM_ASKED_MAX) return 0;
    owner->asked.pages[at % CM_ASKED_MAX] = page_start;
    __atomic_store_n(&owner->asked.count, at + 1, __ATOMIC_RELEASE);
    cm_warmer_wake();
    return 1;
}

/// One of the pages asked for.
static int answer_one(cm_owner *owner) {
    uint32_t at = owner->answered.count;
    if (at == __atomic_load_n(&owner->asked.count, __ATOMIC_ACQUIRE)) return 0;
    char *page_start = owner->asked.pages[at % CM_ASKED_MAX];
    __atomic_store_n(&owner->answered.count, at + 1, __ATOMIC_RELEASE);
    cm_reserve *reserve = cm_reserve_of(owner, page_start);
    if (!reserve) {
        // In small pages.
        for (size_t small = 0; small < CM_SMALL_PAGES; small++) touch(page_start + small * cm_small_bytes);
        return 1;
    }
    uint8_t expected = CM_ASKED;
    size_t page = (size_t)(page_start - reserve->base) / cm_page_bytes;
    // Given back meanwhile otherwise.
    if (__atomic_compare_exchange_n(&reserve->state[page], &expected, CM_USED, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        populate(page_start);
    }
    return 1;
}

static int warm_some(void) {
    int done = 0;
    uint32_t count = __atomic_load_n(&cm_owner_count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < count; i++) {
        cm_owner *owner = cm_owners[i];
        int answered = answer_one(owner);
        done += answered;
        int64_t wanted = __atomic_load_n(&owner->shared.wanted, __ATOMIC_RELAXED);
        if (!answered && __atomic_load_n(&owner->shared.warm, __ATOMIC_RELAXED) < wanted) done += warm_one(owner);
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

void cm_warmer_place(int processor) {
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
