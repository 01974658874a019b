// Fresh memory that is ready before it is needed: see README.md. Each function says which thread may call it.
#ifndef KVD_CMEMORY_H
#define KVD_CMEMORY_H

#include <stddef.h>
#include <stdint.h>

typedef struct cm_warmth {
    /// Huge pages that were ready, and that were not, when the thread first used them.
    uint64_t ready, unready;
    /// Huge pages ready now; how many are wanted.
    int64_t warm, wanted;
} cm_warmth;

/// From now on a background thread of the process touches ahead what the calling thread will allocate next.
/// `processor` is where the caller is pinned, as in `cs_pin_thread`, or -1: the background thread stays away from it if
/// it can. 1, or 0 if nothing changed (another allocator, no memory).
int cm_warm_this_thread(int processor);
/// Before the thread ends: another one may take the arena over.
void cm_leave_this_thread(void);
/// To be called about every 100 ms by a thread that called the above: adapts how many pages are kept ready to how many
/// were used since, and gives back what an idle thread does not need. Once a thread has become idle its cache of small
/// blocks is emptied. 1 if the thread has become quiet: then what it freed is to be given back by `cm_step`.
/// O(pages given back), a tenth of a millisecond and a few system calls at most.
int cm_tend(void);
/// To be called about every 10 ms from then on while it returns 1, two seconds in all, or five if the thread has grown:
/// gives back a small part of what the calling thread has freed, until what was freed more than a second ago is given
/// back.
int cm_step(void);
/// Gives back at once what the calling thread's arena holds freed. For tests: it takes as long as there is much.
void cm_purge(void);
/// The calling thread fills a large block of its own from the lowest address on and is at `at`: the next `bytes` of it
/// are touched ahead. O(bytes / 2 MiB).
void cm_ahead(const void *at, size_t bytes);
/// 1 if the calling thread uses fresh memory faster than it is made ready: none is ready and the background thread is
/// at it. Whoever can wait a moment before it takes more waits for that instead of for the kernel. O(1), no call.
int cm_is_short(void);
/// Of the calling thread; all zero if it is none of those threads.
cm_warmth cm_read_warmth(void);

#endif
