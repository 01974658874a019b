// Umbrella of the C shim: event loop backends, MPSC queue, sockets, clocks, affinity. Only KVRuntime, its
// tests and what measures it import it.
#ifndef KVD_CSUPPORT_H
#define KVD_CSUPPORT_H

#include "csupport_system.h"
#include "csupport_mpsc.h"
#include "csupport_loop.h"

#endif
