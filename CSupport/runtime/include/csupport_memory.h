// Fresh memory that is ready before it is needed: see warmer.c. Each function says which thread may call it.
#ifndef KVD_CSUPPORT_MEMORY_H
#define KVD_CSUPPORT_MEMORY_H

#include <stddef.h>
#include <stdint.h>

typedef struct cs_warmth {
    /// Huge pages that were ready, and that were not, when the thread first used them.
    uint64_t ready, unready;
    /// Huge pages ready now; how many are wanted.
    int64_t warm, wanted;
} cs_warmth;

/// From now on a background thread of the process touches ahead what the calling thread will allocate next.
/// `processor` is where the caller is pinned, as in `cs_pin_thread`, or -1: the background thread stays away from it if
/// it can. 1, or 0 if nothing changed (another allocator, no memory, an arena shared with another such thread).
int cs_memory_warm_this_thread(int processor);
/// Before the thread ends: another one may take the arena over.
void cs_memory_leave_this_thread(void);
/// To be called about every 100 ms by a thread that called the above: adapts how many pages are kept ready to how many
/// were used since, gives back what an idle thread does not need, and what was freed a second ago. Once a thread has
/// become idle its cache of small blocks is emptied. O(bytes given back).
void cs_memory_tend(void);
/// Gives back at once what the calling thread's arena holds freed, which `cs_memory_tend` does within a second. For
/// tests: it takes as long as there is much.
void cs_memory_purge(void);
/// The calling thread fills a large block of its own from the lowest address on and is at `at`: the next `bytes` of it
/// are touched ahead. O(bytes / 2 MiB).
void cs_memory_ahead(const void *at, size_t bytes);
/// Of the calling thread; all zero if it is none of those threads.
cs_warmth cs_memory_warmth(void);

#endif
