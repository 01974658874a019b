// epoll for load generators. See cperf_poller.h.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cperf_poller.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

#define READY_MAX 512

int cperf_poller_create(void) {
    // Sleeps end on time, not up to 50 microseconds later: an open-loop generator lives by it.
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    int fd = epoll_create1(EPOLL_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int cperf_poller_watch(int poller, int fd, uint32_t token, int writes, int is_new) {
    struct epoll_event event = {.events = EPOLLIN | (writes ? EPOLLOUT : 0u), .data = {.u32 = token}};
    return epoll_ctl(poller, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) < 0 ? -errno : 0;
}

int cperf_poller_wait(int poller, cperf_ready *ready, int capacity, int64_t timeout_nanos) {
    struct epoll_event events[READY_MAX];
    struct timespec timeout = {.tv_sec = timeout_nanos / 1000000000, .tv_nsec = timeout_nanos % 1000000000};
    int n = epoll_pwait2(poller, events, capacity < READY_MAX ? capacity : READY_MAX, &timeout, NULL);
    if (n < 0) return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < n; i++) {
        ready[i].token = events[i].data.u32;
        ready[i].flags = (events[i].events & EPOLLOUT ? CPERF_READY_TO_WRITE : 0u) |
                         (events[i].events & ~(uint32_t)EPOLLOUT ? CPERF_READY_TO_READ : 0u);
    }
    return n;
}

int cperf_poller_pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) < 0 ? -errno : 0;
}
