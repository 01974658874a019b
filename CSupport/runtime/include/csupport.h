// Umbrella of the C shim: event loop backends, MPSC queue, wakeups, affinity.
#ifndef KVD_CSUPPORT_H
#define KVD_CSUPPORT_H
#endif
