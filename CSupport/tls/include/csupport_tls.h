// TLS between servers, as steps of a turn: bytes in, bytes out, no socket and no wait. OpenSSL 3 does the work.
//
// Two ways to be believed. With the key of the cluster: TLS 1.3 with an external pre-shared key and a fresh
// Diffie-Hellman exchange (RFC 8446 4.2.9 psk_dhe_ke). With certificates: both sides show one of the cluster's
// authority. One cipher suite, one group, no tickets, no resumption. Clients have csupport_front.h.
//
// A context may be used by any thread once it is made. A connection belongs to one thread at a time.
#ifndef CSUPPORT_TLS_H
#define CSUPPORT_TLS_H

#include <stddef.h>
#include <stdint.h>

typedef struct cs_tls_context cs_tls_context;
typedef struct cs_tls cs_tls;

enum {
    CS_TLS_KEY_BYTES = 32,
    CS_TLS_KEYS_MAX = 2,
    CS_TLS_CLUSTER_BYTES_MAX = 128,
    CS_TLS_ERROR_BYTES = 256,
    CS_TLS_NAME_BYTES_MAX = 128,
};

/// `keys`: one or two keys of CS_TLS_KEY_BYTES one behind the other. The first is used to dial, all are accepted.
/// `self` is this server's id: a peer that uses it is refused, since whoever has no key could only send our own words
/// back to us (RFC 9257, reflection). Null if the cluster's name is too long, there are no keys, or memory is short.
cs_tls_context *cs_tls_context_keys(const char *cluster, uint64_t self, const uint8_t *keys, int count);

/// PEM files. Peers must show a certificate that `authority` signed, for `kvd://CLUSTER/NAME` in its URI field. Null
/// with a line in `error` (CS_TLS_ERROR_BYTES) if a file cannot be used.
cs_tls_context *cs_tls_context_certificates(
    const char *cluster, const char *certificate, const char *key, const char *authority, char *error);

/// Seconds since 1970 at which this side's certificate ends; 0 with keys.
int64_t cs_tls_context_ends(const cs_tls_context *context);

void cs_tls_context_release(cs_tls_context *context);

/// Keeps the context alive. Null if memory is short.
cs_tls *cs_tls_new(cs_tls_context *context, int is_dialer);
void cs_tls_free(cs_tls *tls);

/// What came from the peer. 0, or -1 if memory is short.
int cs_tls_feed(cs_tls *tls, const void *bytes, size_t count);

/// 1: the peer has proved itself. 0: more must come, and what is to be sent is there. -1: failed; see cs_tls_error, and
/// send what is there, which tells the peer.
int cs_tls_handshake(cs_tls *tls);

/// Takes up to `count` decrypted bytes: how many; 0 if more must come; -1 at an error; -2 if the peer has ended.
long cs_tls_read(cs_tls *tls, void *bytes, size_t count);

/// Encrypts all of it. Only once the handshake is done. 0, or -1.
int cs_tls_write(cs_tls *tls, const void *bytes, size_t count);

/// Tells the peer that no more follows.
void cs_tls_end(cs_tls *tls);

/// Encrypted bytes that wait to be sent, and up to `count` of them.
size_t cs_tls_pending(const cs_tls *tls);
size_t cs_tls_take(cs_tls *tls, void *bytes, size_t count);

/// With keys, at the side that was dialled: the id that the dialler proved. Else 0.
uint64_t cs_tls_peer(const cs_tls *tls);

/// With certificates: NAME of the peer's `kvd://CLUSTER/NAME`. Else empty.
const char *cs_tls_peer_name(const cs_tls *tls);

/// Why it failed, one line.
const char *cs_tls_error(const cs_tls *tls);

/// A key for another purpose: HKDF-SHA-256 of `key` (RFC 5869). 0, or -1 if memory is short.
int cs_tls_derive(
    const uint8_t *key, size_t key_count, const void *salt, size_t salt_count, const void *info, size_t info_count,
    uint8_t *out, size_t out_count);

/// What a certificate is for.
typedef struct cs_tls_subject {
    const char *cluster;
    const char *name;
    /// Seconds from now.
    int64_t seconds;
    /// Of clients; else of servers, which are both ends of links.
    int is_client;
    /// More names, as OpenSSL writes them with commas between: "DNS:a.example,IP:10.0.0.7". Empty for none.
    const char *names;
} cs_tls_subject;

/// A new authority, if `authority` is null, or a certificate that it signs: PEM files are read and written, keys of 256
/// bits on P-256, readable by their owner only. 0, or -1 with a line in `error` (CS_TLS_ERROR_BYTES).
int cs_tls_make_certificate(
    const cs_tls_subject *subject, const char *authority, const char *authority_key, const char *certificate,
    const char *key, char *error);

/// SHA-256 of some bytes, 32 of them, to `out`. 0, or -1 if memory is short.
int cs_tls_sha256(const void *bytes, size_t count, uint8_t *out);

/// Whether two runs of bytes are equal, in a time that only depends on `count`.
int cs_tls_equal(const void *a, const void *b, size_t count);

/// `count` bytes nobody can guess. 0, or -1.
int cs_tls_random(void *out, size_t count);

#endif
