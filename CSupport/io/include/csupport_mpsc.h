// The unbounded lock-free queue of messages: many producers, one consumer, intrusive. Header only, inlines into Swift.
//
// D. Vyukov's intrusive MPSC node queue (1024cores.net, "Intrusive MPSC node-based queue") with one addition taken from
// Pony's mailboxes: the lowest bit of `head` says that the consumer has found the queue empty and went idle, so that
// push itself tells exactly one producer "you must wake it".
//
//   tail                          head
//    v                             v
//   [n1] -> [n2] -> [n3] -> ... -> [nk]          producers swing `head` to their node, then link the predecessor to it
//
// Rules
//   1. A producer owns a node until the exchange; from then on the queue does; after pop the consumer does, entirely:
//      no other thread keeps a pointer to it (a producer's last access to its predecessor is the link store, and pop
//      returns a node only after it has seen that store), so it may be linked elsewhere or freed at once.
//   2. Only the consumer touches `tail` and `stub` (the stub's `next` is also written by the producer that follows it).
//   3. Between a producer's exchange and its link store the queue looks cut. pop then returns NULL although the queue
//      is not empty, and cs_mpsc_idle refuses, so the consumer comes back; nothing is lost, and a producer suspended in
//      that window delays the consumer but blocks no other producer.
//
// Orderings, each with its partner
//   push: exchange on `head`, ACQ_REL. Release: my `next = NULL` must be visible before another producer can reach my
//     node through `head` and store its own link there; acquire: pairs with that release, so that my link store into
//     the predecessor comes after its owner's `next = NULL`. It is also what orders me after cs_mpsc_idle (below).
//   push: store of predecessor->next, RELEASE. Publishes the contents of the node (written before by the producer) to
//     the consumer; pairs with the ACQUIRE loads of `next` in pop.
//   pop: load of `head`, ACQUIRE, only compared with `tail`: it decides whether the queue is empty or cut;
//     in the first case the stub is pushed by the same exchange as any node.
//   idle: compare-exchange stub -> stub|1 on `head`, ACQ_REL. It succeeds only if no exchange came after the stub's,
//     that is on a really empty queue. Every later push reads the marked value with its exchange, atomically, so
//     exactly the first one after the mark sees the bit and has to wake the consumer; no store-load fence is needed
//     because mark and push compete for the same word.
//   busy: compare-exchange stub|1 -> stub, RELAXED: takes the mark back. If it fails, a producer has taken the mark
//     and wakes, or is about to wake, a consumer that runs already: one spurious wake-up, harmless. It publishes
//     nothing.
#ifndef KVD_CSUPPORT_MPSC_H
#define KVD_CSUPPORT_MPSC_H

#include "csupport_system.h"

typedef struct cs_node {
    struct cs_node *next;
} cs_node;

/// `head` is written by producers, `tail` by the consumer: two cache lines, so that they do not slow each other.
/// Whoever allocates one aligns it to 64 (an alignment attribute would hide the struct from Swift).
typedef struct cs_mpsc {
    cs_node *head;
    uint8_t producers_line[56];
    cs_node *tail;
    cs_node stub;
    uint8_t consumers_line[48];
} cs_mpsc;

_Static_assert(sizeof(cs_mpsc) == 128, "two cache lines");

CS_INLINE void cs_mpsc_init(cs_mpsc *queue) {
    queue->stub.next = NULL;
    queue->head = &queue->stub;
    queue->tail = &queue->stub;
}

/// Appends the chain `first … last`, linked by `next` (the last one's is set here). Any thread, never blocks. 1 if the
/// consumer had gone idle and the caller must wake it, else 0.
CS_INLINE int cs_mpsc_push_chain(cs_mpsc *queue, cs_node *first, cs_node *last) {
    __atomic_store_n(&last->next, NULL, __ATOMIC_RELAXED);
    uintptr_t previous = (uintptr_t)__atomic_exchange_n(&queue->head, last, __ATOMIC_ACQ_REL);
    cs_node *predecessor = (cs_node *)(previous & ~(uintptr_t)1);
    __atomic_store_n(&predecessor->next, first, __ATOMIC_RELEASE);
    return (int)(previous & 1);
}

CS_INLINE int cs_mpsc_push(cs_mpsc *queue, cs_node *node) { return cs_mpsc_push_chain(queue, node, node); }

/// The oldest node, which then belongs to the caller; NULL if empty or cut (rule 3). Consumer's thread only.
CS_INLINE cs_node *cs_mpsc_pop(cs_mpsc *queue) {
    cs_node *tail = queue->tail;
    cs_node *next = __atomic_load_n(&tail->next, __ATOMIC_ACQUIRE);
    if (tail == &queue->stub) {
        if (next == NULL) return NULL;
        queue->tail = next;
        tail = next;
        next = __atomic_load_n(&tail->next, __ATOMIC_ACQUIRE);
    }
    if (next != NULL) {
        queue->tail = next;
        return tail;
    }
    if (tail != __atomic_load_n(&queue->head, __ATOMIC_ACQUIRE)) return NULL;
    // `tail` is the only node. The stub goes behind it so that the queue never runs out of nodes to link to.
    cs_mpsc_push_chain(queue, &queue->stub, &queue->stub);
    next = __atomic_load_n(&tail->next, __ATOMIC_ACQUIRE);
    if (next == NULL) return NULL;
    queue->tail = next;
    return tail;
}

/// True if nothing was pushed that was not popped. Consumer's thread only; a push may come right after.
CS_INLINE int cs_mpsc_is_empty(const cs_mpsc *queue) {
    uintptr_t head = (uintptr_t)__atomic_load_n(&queue->head, __ATOMIC_ACQUIRE) & ~(uintptr_t)1;
    return queue->tail == &queue->stub && head == (uintptr_t)&queue->stub;
}

/// Consumer, before it waits: 1 if the queue is empty and now marked, so that the next push wakes; 0 if there is
/// something to pop (now or as soon as a producer has linked its node) and the consumer must not wait.
CS_INLINE int cs_mpsc_idle(cs_mpsc *queue) {
    if (queue->tail != &queue->stub) return 0;
    cs_node *expected = &queue->stub;
    cs_node *marked = (cs_node *)((uintptr_t)&queue->stub | 1);
    if (__atomic_compare_exchange_n(&queue->head, &expected, marked, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) return 1;
    return expected == marked;
}

/// Consumer, after it waited: takes the mark back if no push has taken it.
CS_INLINE void cs_mpsc_busy(cs_mpsc *queue) {
    cs_node *marked = (cs_node *)((uintptr_t)&queue->stub | 1);
    if (__atomic_load_n(&queue->head, __ATOMIC_RELAXED) != marked) return;
    cs_node *expected = marked;
    __atomic_compare_exchange_n(&queue->head, &expected, &queue->stub, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

#endif
