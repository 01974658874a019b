// The threads whose memory is made ready: what each of them uses, how busy it is, and so how many pages are kept ready
// and how long what it frees is kept. Each function on the thread it is about. What for: warmer.c.
#include "memory_internal.h"

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

__thread owner *cs_memory_mine;
owner *cs_owners[OWNERS_MAX];
uint32_t cs_owner_count;
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;

/// With an arena of its own under these hooks, from its first block on: what jemalloc notes of each piece comes from
/// there as well.
static owner *make_owner(void) {
    owner *made = mmap(NULL, sizeof *made, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED) return NULL;
    made->hooks = cs_reserve_hooks;
    pthread_mutex_init(&made->taking, NULL);
    pthread_mutex_init(&made->mapping, NULL);
    extent_hooks_t *hooks = &made->hooks;
    size_t size = sizeof made->fallback, arena_size = sizeof made->arena;
    if (mallctl("arena.0.extent_hooks", &made->fallback, &size, NULL, 0) == 0
        && mallctl("arenas.create", &made->arena, &arena_size, &hooks, sizeof hooks) == 0) {
        char name[64];
        size_t parts = 3;
        snprintf(name, sizeof name, "arena.%u.dirty_decay_ms", made->arena);
        mallctlnametomib(name, made->kept, &parts);
        snprintf(name, sizeof name, "arena.%u.decay", made->arena);
        mallctlnametomib(name, made->decay, &parts);
        snprintf(name, sizeof name, "arena.%u.purge", made->arena);
        mallctlnametomib(name, made->purge, &parts);
        made->is_made = 1;
        return made;
    }
    // Its reserve, if it has one already, stays: addresses alone.
    munmap(made, sizeof *made);
    return NULL;
}

static void keep_freed(owner *owner, ssize_t millis) {
    mallctlbymib(owner->kept, 3, NULL, NULL, &millis, sizeof millis);
}

/// One whose thread has ended, or a new one; the calling thread allocates from its arena then. NULL with another
/// allocator than jemalloc, or none left.
static owner *find_owner(void) {
    owner *found = NULL;
    for (uint32_t i = 0; i < cs_owner_count && !found; i++) {
        if (cs_owners[i]->is_free) found = cs_owners[i];
    }
    if (!found) {
        if (cs_owner_count == OWNERS_MAX || !(found = make_owner())) return NULL;
        cs_owners[cs_owner_count] = found;
        __atomic_store_n(&cs_owner_count, cs_owner_count + 1, __ATOMIC_RELEASE);
    }
    found->is_free = mallctl("thread.arena", NULL, NULL, &found->arena, sizeof found->arena) != 0;
    return found->is_free ? NULL : found;
}

int cs_memory_warm_this_thread(int processor) {
    if (cs_memory_mine) return 1;
    pthread_mutex_lock(&starting);
    owner *found = find_owner();
    if (found) {
        found->idle_ticks = 0;
        found->is_tended = 0;
        size_t size = sizeof found->allocated;
        static const uint64_t uncounted;
        if (mallctl("thread.allocatedp", &found->allocated, &size, NULL, 0) != 0) found->allocated = &uncounted;
        found->allocated_before = *found->allocated;
        memset(found->taken, 0, sizeof found->taken);
        found->pace = QUIET;
        found->slower_ticks = found->steps_left = found->has_grown = 0;
        keep_freed(found, KEPT_FREE_MILLIS);
        // Now, not when room is needed first: what is to be ready then needs an address.
        if (found->reserve_count == 0) {
            pthread_mutex_lock(&found->taking);
            cs_reserve_open(found, 0);
            pthread_mutex_unlock(&found->taking);
        }
        cs_memory_mine = found;
        cs_warmer_place(processor);
    }
    pthread_mutex_unlock(&starting);
    if (cs_memory_mine) cs_warmer_wake();
    return cs_memory_mine != NULL;
}

void cs_memory_leave_this_thread(void) {
    if (!cs_memory_mine) return;
    pthread_mutex_lock(&starting);
    __atomic_store_n(&cs_memory_mine->wanted, 0, __ATOMIC_RELAXED);
    cs_memory_mine->is_free = 1;
    cs_memory_mine = NULL;
    pthread_mutex_unlock(&starting);
}

// MARK: Tending

/// Fresh huge pages taken within the last second, `pages` of them since the last call.
static int64_t recently_taken(owner *owner, int64_t pages) {
    owner->taken[owner->taken_at++ % GROWING_TICKS] = pages;
    int64_t sum = 0;
    for (int i = 0; i < GROWING_TICKS; i++) sum += owner->taken[i];
    return sum;
}

/// What the thread does decides how long what it frees is kept. That it does more is noticed at once, that it does less
/// after a while.
static void note_pace(owner *owner, int64_t pages) {
    static const ssize_t kept[] = {[QUIET] = KEPT_FREE_MILLIS, [BUSY] = KEPT_FREE_BUSY_MILLIS,
        [GROWING] = KEPT_FREE_GROWING_MILLIS};
    uint64_t allocated = *owner->allocated, bytes = allocated - owner->allocated_before;
    owner->allocated_before = allocated;
    pace pace = recently_taken(owner, pages) >= GROWING_PAGES ? GROWING : bytes >= BUSY_BYTES ? BUSY : QUIET;
    int is_slower = pace < owner->pace;
    owner->slower_ticks = is_slower ? owner->slower_ticks + 1 : 0;
    if (pace == owner->pace || (is_slower && owner->slower_ticks < SLOWER_TICKS)) return;
    owner->slower_ticks = 0;
    owner->pace = pace;
    owner->has_grown |= pace == GROWING;
    ssize_t millis = pace == QUIET && owner->has_grown ? KEPT_FREE_GROWN_MILLIS : kept[pace];
    owner->steps_left = pace == QUIET ? (uint32_t)millis / STEP_MILLIS + STEPS_MORE : 0;
    keep_freed(owner, millis);
}

int cs_memory_step(void) {
    owner *owner = cs_memory_mine;
    if (!owner || owner->steps_left == 0) return 0;
    owner->steps_left--;
    if (owner->steps_left == 0 && owner->has_grown) {
        owner->has_grown = 0;
        keep_freed(owner, KEPT_FREE_MILLIS);
    }
    mallctlbymib(owner->decay, 3, NULL, NULL, NULL, 0);
    cs_pieces_settle(owner, cs_monotonic_nanos() + TENDING_NANOS_MAX);
    return owner->steps_left > 0;
}

int cs_memory_tend(void) {
    owner *owner = cs_memory_mine;
    if (!owner) return 0;
    uint64_t used = cs_counter_read(&owner->ready) + cs_counter_read(&owner->unready);
    int64_t recent = (int64_t)(used - owner->seen);
    owner->seen = used;
    note_pace(owner, owner->is_tended ? recent : 0);
    if (owner->idle_ticks == FLUSH_TICKS) mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
    // By itself jemalloc only looks at the time as a thread allocates.
    if (owner->pace == QUIET) mallctlbymib(owner->decay, 3, NULL, NULL, NULL, 0);
    cs_pieces_settle(owner, cs_monotonic_nanos() + TENDING_NANOS_MAX);
    // What a thread allocates as it starts tells nothing.
    if (!owner->is_tended) {
        owner->is_tended = 1;
        owner->idle_ticks = IDLE_TICKS;
        owner->swept_reserves = RESERVES_MAX;
        recent = 0;
    }
    owner->idle_ticks = recent > 0 ? 0 : owner->idle_ticks + 1;
    if (recent > 0) owner->swept_reserves = owner->swept_pages = 0;
    if (owner->idle_ticks >= IDLE_TICKS) cs_pieces_sweep(owner);
    int64_t before = __atomic_load_n(&owner->wanted, __ATOMIC_RELAXED), wanted = recent + SPARE_PAGES;
    if (recent <= 1 && before <= FIRST_PAGES) wanted = recent > 0 ? FIRST_PAGES : before;
    if (owner->idle_ticks >= IDLE_TICKS) wanted = IDLE_PAGES;
    // Falls in steps: what comes in bursts finds some of the last burst's still there.
    if (recent > 0 && wanted < before / 2) wanted = before / 2;
    if (wanted > WANTED_MAX) wanted = WANTED_MAX;
    __atomic_store_n(&owner->wanted, wanted, __ATOMIC_RELAXED);
    int64_t warm = __atomic_load_n(&owner->warm, __ATOMIC_RELAXED);
    if (warm < wanted) cs_warmer_wake();
    else if (warm > wanted) cs_pieces_give_back(owner, warm - wanted < GIVEN_BACK_MAX ? warm - wanted : GIVEN_BACK_MAX);
    return owner->steps_left > 0;
}

void cs_memory_purge(void) {
    if (!cs_memory_mine) return;
    mallctlbymib(cs_memory_mine->purge, 3, NULL, NULL, NULL, 0);
    cs_pieces_settle(cs_memory_mine, INT64_MAX);
}

int cs_memory_is_short(void) {
    owner *owner = cs_memory_mine;
    // Not if the warmer sleeps: then it cannot help, as the kernel gave it no memory.
    return owner && __atomic_load_n(&owner->wanted, __ATOMIC_RELAXED) > FIRST_PAGES
        && __atomic_load_n(&owner->warm, __ATOMIC_RELAXED) < SHORT_PAGES && cs_warmer_is_awake();
}

cs_warmth cs_memory_warmth(void) {
    cs_warmth warmth = {0, 0, 0, 0};
    owner *owner = cs_memory_mine;
    if (!owner) return warmth;
    warmth.ready = cs_counter_read(&owner->ready);
    warmth.unready = cs_counter_read(&owner->unready);
    warmth.warm = __atomic_load_n(&owner->warm, __ATOMIC_RELAXED);
    warmth.wanted = __atomic_load_n(&owner->wanted, __ATOMIC_RELAXED);
    return warmth;
}

#endif
