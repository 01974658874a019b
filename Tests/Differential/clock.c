// A wall clock that another program sets: preloaded into servers under test, so that both see the same time, and time
// that passes when a test says so. The file named by CLOCK_FILE holds nanoseconds since 1970.

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shared;

__attribute__((constructor)) static void open_clock(void) {
    const char *name = getenv("CLOCK_FILE");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    void *at = file < 0 ? MAP_FAILED : mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
    if (at == MAP_FAILED) abort();
    shared = at;
    close(file);
}

static int64_t nanos(void) { return __atomic_load_n(shared, __ATOMIC_ACQUIRE); }

int clock_gettime(clockid_t id, struct timespec *time) {
    if (!shared || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE)) {
        return (int)syscall(SYS_clock_gettime, id, time);
    }
    int64_t now = nanos();
    time->tv_sec = now / 1000000000;
    time->tv_nsec = now % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec now;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return result;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}
