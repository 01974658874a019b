// What OpenSSL and the kernel cost by themselves, for Perf/tls.py, which builds and runs it:
//
//   secure null PORT [CERTIFICATE KEY]   a responder that answers each request with the same bytes, with or without TLS
//   secure dial PORT COUNT AT_ONCE full|resumed|plain   COUNT connections with a PING each, so many of them at a time;
//                                                       says how many took up a session
//   secure memory COUNT full|resumed CERTIFICATE KEY   handshakes without a socket, one process doing nothing else;
//                                                      says the median of the server's processor time in µs
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { DESCRIPTORS = 4096, BYTES = 1 << 17, EVENTS = 256 };

static SSL_CTX *context;
static SSL *secured[DESCRIPTORS];
static char received[BYTES], replies[BYTES];
static int queue;

static int die(const char *what) {
    perror(what);
    exit(1);
}

static struct sockaddr_in address(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

static void watch(int fd, int how, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(queue, how, fd, &event) != 0) die("epoll_ctl");
}

static void without_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void end(int fd) {
    // Said to nobody: a session whose end was not said could not be taken up.
    if (secured[fd]) SSL_set_shutdown(secured[fd], SSL_SENT_SHUTDOWN);
    SSL_free(secured[fd]);
    secured[fd] = NULL;
    close(fd);
}

/// Bytes, 0 if there are none, -1 at the end.
static int take(int fd) {
    int count = 0;
    if (!context) {
        count = (int)read(fd, received, BYTES);
        return count > 0 ? count : -1;
    }
    int got;
    while (count < BYTES && (got = SSL_read(secured[fd], received + count, BYTES - count)) > 0) count += got;
    return count > 0 ? count : SSL_get_error(secured[fd], got) == SSL_ERROR_WANT_READ ? 0 : -1;
}

static int give(int fd, const char *bytes, int count) {
    return secured[fd] ? SSL_write(secured[fd], bytes, count) : (int)write(fd, bytes, (size_t)count);
}

// MARK: Responder

/// As a server that wants what kvd wants: TLS 1.3, AES-128-GCM and X25519 first, one ticket and no memory of sessions.
static SSL_CTX *server_context(const char *certificate, const char *key) {
    SSL_CTX *made = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(made, certificate) != 1
        || SSL_CTX_use_PrivateKey_file(made, key, SSL_FILETYPE_PEM) != 1) {
        die(certificate);
    }
    SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_session_id_context(made, (const unsigned char *)"null", 4);
    SSL_CTX_set_num_tickets(made, 1);
    SSL_CTX_set_options(made, SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_ciphersuites(made, "TLS_AES_128_GCM_SHA256");
    SSL_CTX_set1_groups_list(made, "X25519:P-256");
    SSL_CTX_set_mode(made, SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_read_ahead(made, 1);
    return made;
}

static void accept_all(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= DESCRIPTORS) die("too many connections");
        without_delay(fd);
        if (context) {
            secured[fd] = SSL_new(context);
            SSL_set_fd(secured[fd], fd);
            SSL_set_accept_state(secured[fd]);
        }
        watch(fd, EPOLL_CTL_ADD, EPOLLIN);
    }
}

/// The value of a GET for each array that begins in what came.
static void answer(int fd, int count) {
    enum { REPLY_BYTES = 71 };
    if (memmem(received, (size_t)count, "PING", 4)) {
        give(fd, "+PONG\r\n", 7);
        return;
    }
    int requests = 0;
    for (char *at = received; (at = memchr(at, '*', (size_t)(received + count - at))); at++) requests++;
    if (requests > BYTES / REPLY_BYTES) requests = BYTES / REPLY_BYTES;
    if (requests > 0) give(fd, replies, requests * REPLY_BYTES);
}

_Noreturn static void serve(int port) {
    for (int at = 0; at + 71 <= BYTES; at += 71) {
        memset(replies + at, 'x', 71);
        memcpy(replies + at, "$64\r\n", 5);
        memcpy(replies + at + 69, "\r\n", 2);
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in own = address(port);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (void *)&own, sizeof own) != 0 || listen(listener, 512) != 0) die("listen");
    watch(listener, EPOLL_CTL_ADD, EPOLLIN);
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(queue, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_all(listener);
                continue;
            }
            int count = take(fd);
            if (count < 0) end(fd);
            else if (count > 0) answer(fd, count);
        }
    }
}

// MARK: Dialler

static SSL_SESSION *session;
static int left_to_begin, resumed, has_asked[DESCRIPTORS];

static int keep(SSL *ssl, SSL_SESSION *fresh) {
    (void)ssl;
    if (session) SSL_SESSION_free(session);
    session = fresh;
    return 1;
}

static SSL_CTX *client_context(void) {
    SSL_CTX *made = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(made, TLS1_3_VERSION);
    SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(made, keep);
    return made;
}

/// The next step of one: its handshake, its question, or the answer. 1 when it is done.
static int go_on(int fd) {
    if (context && !has_asked[fd]) {
        int result = SSL_do_handshake(secured[fd]);
        if (result != 1) return SSL_get_error(secured[fd], result) == SSL_ERROR_WANT_READ ? 0 : die("handshake");
        resumed += SSL_session_reused(secured[fd]);
    }
    if (!has_asked[fd]) {
        has_asked[fd] = 1;
        give(fd, "PING\r\n", 6);
        return 0;
    }
    int count = take(fd);
    if (count < 0) die("closed");
    return count > 0;
}

static void begin(int port, int resumes) {
    left_to_begin--;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in peer = address(port);
    if (fd < 0 || fd >= DESCRIPTORS || connect(fd, (void *)&peer, sizeof peer) != 0) die("connect");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    without_delay(fd);
    has_asked[fd] = 0;
    if (context) {
        secured[fd] = SSL_new(context);
        SSL_set_fd(secured[fd], fd);
        if (resumes && session) SSL_set_session(secured[fd], session);
        SSL_set_connect_state(secured[fd]);
    }
    watch(fd, EPOLL_CTL_ADD, EPOLLIN);
    go_on(fd);
}

static int dial(int port, int count, int at_once, const char *how) {
    int resumes = strcmp(how, "resumed") == 0, left = count;
    if (strcmp(how, "plain") != 0) context = client_context();
    left_to_begin = count;
    while (left_to_begin > 0 && at_once-- > 0) begin(port, resumes);
    struct epoll_event events[EVENTS];
    while (left > 0) {
        int ready = epoll_wait(queue, events, EVENTS, 20000);
        if (ready <= 0) die("no answer");
        for (int i = 0; i < ready; i++) {
            if (!go_on(events[i].data.fd)) continue;
            end(events[i].data.fd);
            left--;
            if (left_to_begin > 0) begin(port, resumes);
        }
    }
    printf("%d\n", resumed);
    return 0;
}

// MARK: Without a socket

static double micros(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static SSL *in_memory(SSL_CTX *of) {
    SSL *made = SSL_new(of);
    SSL_set_bio(made, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    return made;
}

static void pass(SSL *from, SSL *to) {
    char *bytes = NULL;
    long count = BIO_get_mem_data(SSL_get_wbio(from), &bytes);
    if (count > 0) BIO_write(SSL_get_rbio(to), bytes, (int)count);
    (void)BIO_reset(SSL_get_wbio(from));
}

/// What the server's side took.
static double shake_hands(SSL_CTX *servers, int resumes) {
    SSL *client = in_memory(context);
    if (resumes && session) SSL_set_session(client, session);
    SSL_set_connect_state(client);
    SSL_do_handshake(client);
    double before = micros();
    SSL *server = in_memory(servers);
    SSL_set_accept_state(server);
    double took = micros() - before;
    for (int done = 0; !done;) {
        pass(client, server);
        before = micros();
        done = SSL_do_handshake(server) == 1;
        took += micros() - before;
        pass(server, client);
        if (SSL_do_handshake(client) != 1) die("no handshake");
    }
    // The ticket.
    SSL_read(client, received, BYTES);
    resumed += SSL_session_reused(client);
    SSL_set_shutdown(client, SSL_SENT_SHUTDOWN);
    SSL_free(client);
    before = micros();
    SSL_free(server);
    return took + micros() - before;
}

static int measure(int count, const char *how, SSL_CTX *servers) {
    int resumes = strcmp(how, "resumed") == 0;
    double *took = calloc((size_t)count, sizeof *took);
    context = client_context();
    for (int i = 0; i < count; i++) took[i] = shake_hands(servers, resumes);
    if (resumed != (resumes ? count - 1 : 0)) die("other handshakes than asked for");
    qsort(took, (size_t)count, sizeof *took, compare);
    printf("%.0f\n", took[count / 2]);
    free(took);
    return 0;
}

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    queue = epoll_create1(EPOLL_CLOEXEC);
    if (count >= 3 && strcmp(words[1], "null") == 0) {
        if (count == 5) context = server_context(words[3], words[4]);
        serve(atoi(words[2]));
    }
    if (count == 6 && strcmp(words[1], "memory") == 0) {
        return measure(atoi(words[2]), words[3], server_context(words[4], words[5]));
    }
    if (count == 6 && strcmp(words[1], "dial") == 0) {
        return dial(atoi(words[2]), atoi(words[3]), atoi(words[4]), words[5]);
    }
    fprintf(stderr, "see the top of Perf/secure.c\n");
    return 2;
}
