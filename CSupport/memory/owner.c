// The threads whose memory is made ready: what each of them uses, how busy it is, and so how many pages are kept ready
// and how long what it frees is kept. Each function on the thread it is about. What for: README.md.
#include "memory_internal.h"

#ifdef KVD_NO_JEMALLOC

int cm_warm_this_thread(int processor) { return 0; }
void cm_leave_this_thread(void) {}
int cm_tend(void) { return 0; }
int cm_step(void) { return 0; }
int cm_is_short(void) { return 0; }
void cm_purge(void) {}
void cm_ahead(const void *at, size_t bytes) {}
cm_warmth cm_read_warmth(void) { return (cm_warmth){0, 0, 0, 0}; }

#else

__thread cm_owner *cm_mine;
cm_owner *cm_owners[CM_OWNERS_MAX];
uint32_t cm_owner_count;
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;

/// With an arena of its own under these hooks, from its first block on: what jemalloc notes of each piece comes from
/// there as well.
static cm_owner *make_owner(void) {
    cm_owner *made = mmap(NULL, sizeof *made, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED) return NULL;
    made->hooks = cm_reserve_hooks;
    pthread_mutex_init(&made->space.lock, NULL);
    pthread_mutex_init(&made->pieces.lock, NULL);
    extent_hooks_t *hooks = &made->hooks;
    size_t size = sizeof made->fixed.fallback, arena_size = sizeof made->fixed.arena;
    if (mallctl("arena.0.extent_hooks", &made->fixed.fallback, &size, NULL, 0) == 0
        && mallctl("arenas.create", &made->fixed.arena, &arena_size, &hooks, sizeof hooks) == 0) {
        char name[64];
        size_t parts = 3;
        snprintf(name, sizeof name, "arena.%u.dirty_decay_ms", made->fixed.arena);
        mallctlnametomib(name, made->fixed.kept, &parts);
        snprintf(name, sizeof name, "arena.%u.decay", made->fixed.arena);
        mallctlnametomib(name, made->fixed.decay, &parts);
        snprintf(name, sizeof name, "arena.%u.purge", made->fixed.arena);
        mallctlnametomib(name, made->fixed.purge, &parts);
        made->fixed.is_made = 1;
        return made;
    }
    // Its reserve, if it has one already, stays: addresses alone.
    munmap(made, sizeof *made);
    return NULL;
}

static void keep_freed(cm_owner *owner, ssize_t millis) {
    mallctlbymib(owner->fixed.kept, 3, NULL, NULL, &millis, sizeof millis);
}

/// One whose thread has ended, or a new one; the calling thread allocates from its arena then. NULL with another
/// allocator than jemalloc, or none left.
static cm_owner *find_owner(void) {
    cm_owner *found = NULL;
    for (uint32_t i = 0; i < cm_owner_count && !found; i++) {
        if (cm_owners[i]->is_free) found = cm_owners[i];
    }
    if (!found) {
        if (cm_owner_count == CM_OWNERS_MAX || !(found = make_owner())) return NULL;
        cm_owners[cm_owner_count] = found;
        __atomic_store_n(&cm_owner_count, cm_owner_count + 1, __ATOMIC_RELEASE);
    }
    found->is_free = mallctl("thread.arena", NULL, NULL, &found->fixed.arena, sizeof found->fixed.arena) != 0;
    return found->is_free ? NULL : found;
}

int cm_warm_this_thread(int processor) {
    if (cm_mine) return 1;
    pthread_mutex_lock(&starting);
    cm_owner *found = find_owner();
    if (found) {
        found->own.idle_ticks = 0;
        found->own.is_tended = 0;
        size_t size = sizeof found->own.allocated;
        static const uint64_t uncounted;
        if (mallctl("thread.allocatedp", &found->own.allocated, &size, NULL, 0) != 0) found->own.allocated = &uncounted;
        found->own.allocated_before = *found->own.allocated;
        memset(found->own.taken, 0, sizeof found->own.taken);
        found->own.pace = CM_QUIET;
        found->own.slower_ticks = found->own.steps_left = found->own.has_grown = 0;
        keep_freed(found, CM_KEPT_FREE_MILLIS);
        // Now, not when room is needed first: what is to be ready then needs an address.
        if (found->space.count == 0) {
            pthread_mutex_lock(&found->space.lock);
            cm_reserve_open(found, 0);
            pthread_mutex_unlock(&found->space.lock);
        }
        cm_mine = found;
        cm_warmer_place(processor);
    }
    pthread_mutex_unlock(&starting);
    if (cm_mine) cm_warmer_wake();
    return cm_mine != NULL;
}

void cm_leave_this_thread(void) {
    if (!cm_mine) return;
    pthread_mutex_lock(&starting);
    __atomic_store_n(&cm_mine->shared.wanted, 0, __ATOMIC_RELAXED);
    cm_mine->is_free = 1;
    cm_mine = NULL;
    pthread_mutex_unlock(&starting);
}

// MARK: Tending

/// Fresh huge pages taken within the last second, `pages` of them since the last call.
static int64_t recently_taken(cm_owner *owner, int64_t pages) {
    owner->own.taken[owner->own.taken_at++ % CM_GROWING_TICKS] = pages;
    int64_t sum = 0;
    for (int i = 0; i < CM_GROWING_TICKS; i++) sum += owner->own.taken[i];
    return sum;
}

/// What the thread does decides how long what it frees is kept. That it does more is noticed at once, that it does less
/// after a while.
static void note_pace(cm_owner *owner, int64_t pages) {
    static const ssize_t kept[] = {[CM_QUIET] = CM_KEPT_FREE_MILLIS, [CM_BUSY] = CM_KEPT_FREE_BUSY_MILLIS,
        [CM_GROWING] = CM_KEPT_FREE_GROWING_MILLIS};
    uint64_t allocated = *owner->own.allocated, bytes = allocated - owner->own.allocated_before;
    owner->own.allocated_before = allocated;
    cm_pace pace = bytes >= CM_BUSY_BYTES ? CM_BUSY : CM_QUIET;
    if (recently_taken(owner, pages) >= CM_GROWING_PAGES) pace = CM_GROWING;
    int is_slower = pace < owner->own.pace;
    owner->own.slower_ticks = is_slower ? owner->own.slower_ticks + 1 : 0;
    if (pace == owner->own.pace || (is_slower && owner->own.slower_ticks < CM_SLOWER_TICKS)) return;
    owner->own.slower_ticks = 0;
    owner->own.pace = pace;
    owner->own.has_grown |= pace == CM_GROWING;
    ssize_t millis = pace == CM_QUIET && owner->own.has_grown ? CM_KEPT_FREE_GROWN_MILLIS : kept[pace];
    owner->own.steps_left = pace == CM_QUIET ? (uint32_t)millis / CM_STEP_MILLIS + CM_STEPS_MORE : 0;
    keep_freed(owner, millis);
}

int cm_step(void) {
    cm_owner *owner = cm_mine;
    if (!owner || owner->own.steps_left == 0) return 0;
    owner->own.steps_left--;
    if (owner->own.steps_left == 0 && owner->own.has_grown) {
        owner->own.has_grown = 0;
        keep_freed(owner, CM_KEPT_FREE_MILLIS);
    }
    mallctlbymib(owner->fixed.decay, 3, NULL, NULL, NULL, 0);
    cm_pieces_settle(owner, cs_monotonic_nanos() + CM_TENDING_NANOS_MAX);
    return owner->own.steps_left > 0;
}

int cm_tend(void) {
    cm_owner *owner = cm_mine;
    if (!owner) return 0;
    uint64_t used = cs_counter_read(&owner->shared.ready) + cs_counter_read(&owner->shared.unready);
    int64_t recent = (int64_t)(used - owner->own.seen);
    owner->own.seen = used;
    note_pace(owner, owner->own.is_tended ? recent : 0);
    if (owner->own.idle_ticks == CM_FLUSH_TICKS) mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
    // By itself jemalloc only looks at the time as a thread allocates.
    if (owner->own.pace == CM_QUIET) mallctlbymib(owner->fixed.decay, 3, NULL, NULL, NULL, 0);
    cm_pieces_settle(owner, cs_monotonic_nanos() + CM_TENDING_NANOS_MAX);
    // What a thread allocates as it starts tells nothing.
    if (!owner->own.is_tended) {
        owner->own.is_tended = 1;
        owner->own.idle_ticks = CM_IDLE_TICKS;
        owner->own.swept_reserves = CM_RESERVES_MAX;
        recent = 0;
    }
    owner->own.idle_ticks = recent > 0 ? 0 : owner->own.idle_ticks + 1;
    if (recent > 0) owner->own.swept_reserves = owner->own.swept_pages = 0;
    if (owner->own.idle_ticks >= CM_IDLE_TICKS) cm_pieces_sweep(owner);
    int64_t before = __atomic_load_n(&owner->shared.wanted, __ATOMIC_RELAXED), wanted = recent + CM_SPARE_PAGES;
    if (recent <= 1 && before <= CM_FIRST_PAGES) wanted = recent > 0 ? CM_FIRST_PAGES : before;
    if (owner->own.idle_ticks >= CM_IDLE_TICKS) wanted = CM_IDLE_PAGES;
    // Falls in steps: what comes in bursts finds some of the last burst's still there.
    if (recent > 0 && wanted < before / 2) wanted = before / 2;
    if (wanted > CM_WANTED_MAX) wanted = CM_WANTED_MAX;
    __atomic_store_n(&owner->shared.wanted, wanted, __ATOMIC_RELAXED);
    int64_t warm = __atomic_load_n(&owner->shared.warm, __ATOMIC_RELAXED);
    int64_t surplus = warm - wanted < CM_GIVEN_BACK_MAX ? warm - wanted : CM_GIVEN_BACK_MAX;
    if (surplus < 0) cm_warmer_wake();
    else if (surplus > 0) cm_pieces_give_back(owner, surplus);
    return owner->own.steps_left > 0;
}

void cm_purge(void) {
    if (!cm_mine) return;
    mallctlbymib(cm_mine->fixed.purge, 3, NULL, NULL, NULL, 0);
    cm_pieces_settle(cm_mine, INT64_MAX);
}

int cm_is_short(void) {
    cm_owner *owner = cm_mine;
    // Not if the warmer sleeps: then it cannot help, as the kernel gave it no memory.
    return owner && __atomic_load_n(&owner->shared.wanted, __ATOMIC_RELAXED) > CM_FIRST_PAGES
        && __atomic_load_n(&owner->shared.warm, __ATOMIC_RELAXED) < CM_SHORT_PAGES && cm_warmer_is_awake();
}

cm_warmth cm_read_warmth(void) {
    cm_warmth warmth = {0, 0, 0, 0};
    cm_owner *owner = cm_mine;
    if (!owner) return warmth;
    warmth.ready = cs_counter_read(&owner->shared.ready);
    warmth.unready = cs_counter_read(&owner->shared.unready);
    warmth.warm = __atomic_load_n(&owner->shared.warm, __ATOMIC_RELAXED);
    warmth.wanted = __atomic_load_n(&owner->shared.wanted, __ATOMIC_RELAXED);
    return warmth;
}

#endif
