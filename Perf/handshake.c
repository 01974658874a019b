// What a handshake of a link costs each side: processor time of OpenSSL's work in both directions, in one process and
// without a socket. Built and run by Perf/trust.py.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "csupport_tls.h"

static double micros(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

/// One step of a side; what it has to say goes to the other. Returns the time it took.
static double step(cs_tls *from, cs_tls *to, int *state) {
    static char bytes[1 << 16];
    double before = micros();
    if (*state == 0) *state = cs_tls_handshake(from);
    size_t count = cs_tls_take(from, bytes, sizeof bytes);
    double took = micros() - before;
    if (count) cs_tls_feed(to, bytes, count);
    return took;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int count, char **words) {
    int rounds = count > 1 ? atoi(words[1]) : 2000;
    uint8_t key[CS_TLS_KEY_BYTES];
    memset(key, 7, sizeof key);
    cs_tls_context *one = cs_tls_context_keys("kvd", 1, key, 1), *two = cs_tls_context_keys("kvd", 2, key, 1);
    double *dialler = calloc(rounds, sizeof *dialler), *acceptor = calloc(rounds, sizeof *acceptor);
    for (int i = 0; i < rounds; i++) {
        double begun = micros();
        cs_tls *a = cs_tls_new(one, 1);
        double made = micros();
        cs_tls *b = cs_tls_new(two, 0);
        dialler[i] = made - begun;
        acceptor[i] = micros() - made;
        int left = 0, right = 0;
        for (int flight = 0; flight < 4 && (left != 1 || right != 1); flight++) {
            dialler[i] += step(a, b, &left);
            acceptor[i] += step(b, a, &right);
        }
        if (left != 1 || right != 1) return fprintf(stderr, "no handshake\n"), 1;
        cs_tls_free(a);
        cs_tls_free(b);
    }
    qsort(dialler, rounds, sizeof *dialler, compare);
    qsort(acceptor, rounds, sizeof *acceptor, compare);
    printf("%.0f %.0f %.0f %.0f\n", dialler[rounds / 2], dialler[rounds * 99 / 100], acceptor[rounds / 2],
           acceptor[rounds * 99 / 100]);
    return 0;
}
