// Clocks, addresses, affinity. Any thread.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "csupport_system.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

void cs_begin_writing(int fd) { sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); }

static __thread void *thread_loop;

void *cs_thread_loop(void) { return thread_loop; }
void cs_set_thread_loop(void *loop) { thread_loop = loop; }

static void fill_in(cs_address *out, const struct in_addr *address, uint16_t port) {
    struct sockaddr_in socket_address;
    memset(&socket_address, 0, sizeof socket_address);
    socket_address.sin_family = AF_INET;
    socket_address.sin_port = htons(port);
    socket_address.sin_addr = *address;
    memset(out, 0, sizeof *out);
    memcpy(out->bytes, &socket_address, sizeof socket_address);
    out->length = sizeof socket_address;
}

static void fill_in6(cs_address *out, const struct in6_addr *address, uint16_t port, uint32_t scope) {
    struct sockaddr_in6 socket_address;
    memset(&socket_address, 0, sizeof socket_address);
    socket_address.sin6_family = AF_INET6;
    socket_address.sin6_port = htons(port);
    socket_address.sin6_addr = *address;
    socket_address.sin6_scope_id = scope;
    memset(out, 0, sizeof *out);
    memcpy(out->bytes, &socket_address, sizeof socket_address);
    out->length = sizeof socket_address;
}

int cs_address_parse(const char *host, uint16_t port, cs_address *out) {
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, host, &four) == 1) fill_in(out, &four, port);
    else if (inet_pton(AF_INET6, host, &six) == 1) fill_in6(out, &six, port, 0);
    else return -EINVAL;
    return 0;
}

int cs_address_resolve(const char *host, uint16_t port, cs_address *out, int capacity) {
    if (capacity > 0 && cs_address_parse(host, port, out) == 0) return 1;
    struct addrinfo hints, *found = NULL;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    int failure = getaddrinfo(host, NULL, &hints, &found);
    if (failure == EAI_NONAME || failure == EAI_NODATA) return -ENXIO;
    if (failure == EAI_AGAIN) return -EAGAIN;
    if (failure != 0) return -EADDRNOTAVAIL;
    int count = 0;
    for (struct addrinfo *at = found; at && count < capacity; at = at->ai_next) {
        if (at->ai_family == AF_INET) {
            fill_in(&out[count++], &((struct sockaddr_in *)(void *)at->ai_addr)->sin_addr, port);
        } else if (at->ai_family == AF_INET6) {
            const struct sockaddr_in6 *six = (struct sockaddr_in6 *)(void *)at->ai_addr;
            fill_in6(&out[count++], &six->sin6_addr, port, six->sin6_scope_id);
        }
    }
    freeaddrinfo(found);
    return count > 0 ? count : -EADDRNOTAVAIL;
}

int cs_address_check_free(const cs_address *address) {
    int on = 1, result = 0;
    int fd = socket(((const struct sockaddr *)address->bytes)->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    // Not for what lingers of former connections.
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (const struct sockaddr *)address->bytes, address->length) < 0) result = -errno;
    close(fd);
    return result;
}

uint16_t cs_address_format(const cs_address *address, char *host, size_t capacity) {
    struct sockaddr_in four;
    struct sockaddr_in6 six;
    host[0] = 0;
    memcpy(&four, address->bytes, sizeof four);
    if (four.sin_family == AF_INET) {
        inet_ntop(AF_INET, &four.sin_addr, host, (socklen_t)capacity);
        return ntohs(four.sin_port);
    }
    memcpy(&six, address->bytes, sizeof six);
    if (six.sin6_family != AF_INET6) return 0;
    inet_ntop(AF_INET6, &six.sin6_addr, host, (socklen_t)capacity);
    return ntohs(six.sin6_port);
}

static int64_t read_clock(clockid_t id, int64_t per_second) {
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * per_second + now.tv_nsec / (1000000000 / per_second);
}

int64_t cs_monotonic_nanos(void) { return read_clock(CLOCK_MONOTONIC, 1000000000); }
int64_t cs_thread_nanos(void) { return read_clock(CLOCK_THREAD_CPUTIME_ID, 1000000000); }
int64_t cs_wall_millis(void) { return read_clock(CLOCK_REALTIME, 1000); }

int cs_processor_count(void) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
    int count = CPU_COUNT(&allowed);
    return count > 0 ? count : 1;
}

int cs_pin_thread(int processor) {
    cpu_set_t allowed, wanted;
    // The main thread's mask, not this thread's, so that a thread can be moved again.
    if (sched_getaffinity(getpid(), sizeof allowed, &allowed) != 0) return -errno;
    int count = CPU_COUNT(&allowed);
    if (count <= 0 || processor < 0) return -EINVAL;
    int skip = processor % count;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || skip-- > 0) continue;
        CPU_ZERO(&wanted);
        CPU_SET(cpu, &wanted);
        return -pthread_setaffinity_np(pthread_self(), sizeof wanted, &wanted);
    }
    return -EINVAL;
}

void cs_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

int64_t cs_raise_open_files(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
    }
    return limit.rlim_cur == RLIM_INFINITY ? INT64_MAX : (int64_t)limit.rlim_cur;
}

void cs_ignore_broken_pipes(void) { signal(SIGPIPE, SIG_IGN); }

uint64_t cs_random(void) {
    uint64_t value = 0;
    if (getrandom(&value, sizeof value, 0) != (ssize_t)sizeof value) {
        value = (uint64_t)cs_monotonic_nanos() * 0x9E3779B97F4A7C15ull;
    }
    return value;
}
