// How jemalloc is set up for every executable that links the shim. Read by jemalloc before main; no code of ours calls
// it.

#ifndef KVD_NO_JEMALLOC
/// A store is large, long-lived and read at random, so most of the cost of a look-up is finding the page: with huge
/// pages one TLB entry covers 2 MiB. Measured at 1 M keys, 64-byte values, pipeline 16 and 100: 19 and 25 % less CPU
/// per GET. The threads whose memory is made ready (warmer.c) have them in all they allocate. The rest of a process
/// has not: with `thp:always` each thread that ever allocated cost 4 MiB, and each actor's map of pages 2. Neither have
/// jemalloc's own blocks: nobody makes those ready, and on a machine whose host has to find the memory each huge one
/// held the loop for 3 ms. MALLOC_CONF in the environment overrides it.
/// Blocks of 8 MiB and more come from the thread's arena like others, not from one of their own that gives them back at
/// once: so what warmer.c does serves them too.
const char *malloc_conf = "thp:default,metadata_thp:disabled,oversize_threshold:0";
#endif
