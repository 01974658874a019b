// TLS with clients, as steps of a turn: bytes in, bytes out, no socket and no wait. OpenSSL 3 does the work; TLS 1.2
// and 1.3. The side that dials is for tests and measurements.
//
// OpenSSL reads the received bytes where they are, and writes records where the caller wants them.
//
// A context may be used by any thread once it is made. A connection belongs to one thread at a time.
#ifndef CSUPPORT_FRONT_H
#define CSUPPORT_FRONT_H

#include <stddef.h>
#include <stdint.h>

typedef struct cs_front_context cs_front_context;
typedef struct cs_front cs_front;

enum {
    CS_FRONT_ERROR_BYTES = 256,
    CS_FRONT_TICKET_BYTES = 80,
    CS_FRONT_NAME_BYTES_MAX = 256,
    /// Of plain bytes, in one record; with all that is around them.
    CS_FRONT_PLAIN_BYTES = 16 * 1024,
    CS_FRONT_RECORD_BYTES = 17 * 1024,
};

/// Which file a context could not be made from.
enum { CS_FRONT_NO_FILE = 0, CS_FRONT_CERTIFICATE = 1, CS_FRONT_KEY = 2, CS_FRONT_AUTHORITY = 3 };

/// Whether clients show a certificate of the authority.
enum { CS_FRONT_ASKS_NOT = 0, CS_FRONT_ASKS = 1, CS_FRONT_DEMANDS = 2 };

typedef struct cs_front_files {
    /// PEM. The certificate first, then who signed it.
    const void *certificate;
    size_t certificate_count;
    const void *key;
    size_t key_count;
    /// None if the count is 0.
    const void *authority;
    size_t authority_count;
    int asks;
    /// CS_FRONT_TICKET_BYTES; contexts with the same accept each other's tickets.
    const void *ticket_keys;
} cs_front_files;

/// Null with a line in `error` (CS_FRONT_ERROR_BYTES) and the file it is about in `file`: no certificate, no key, not
/// of each other, not valid yet or any more.
cs_front_context *cs_front_context_new(const cs_front_files *files, int *file, char *error);
/// The side that dials: shows the certificate if there is one, and believes whom the authority signed, or, without one,
/// whoever answers. `version`: 12 or 13 for TLS 1.2 or 1.3 only, 0 for either.
cs_front_context *cs_front_context_dialer(const cs_front_files *files, int version, int *file, char *error);
void cs_front_context_release(cs_front_context *context);

/// Seconds since 1970 at which the certificate ends.
int64_t cs_front_context_ends(const cs_front_context *context);
/// Of an RSA key; 0 for any other kind.
int cs_front_context_rsa_bits(const cs_front_context *context);

/// Keeps the context alive. Null if memory is short.
cs_front *cs_front_new(cs_front_context *context);
void cs_front_free(cs_front *front);

/// Goes on with the handshake, given what came from the peer; all of it is taken, unless the handshake is done in the
/// middle: then `cs_front_open` takes the rest, which has to stay until it has. 1: done. 0: more must come. -1: failed;
/// see cs_front_error, and send what is there, which tells the peer.
int cs_front_handshake(cs_front *front, const void *in, size_t in_count);

/// Decrypts what came; null: the rest of what came with the handshake. `filled`: bytes written to `out`. 0: all is
/// done. 1: there is more than `room`, to be taken with another call and null. -1: failed. -2: the peer has ended.
int cs_front_open(cs_front *front, const void *in, size_t in_count, void *out, size_t room, size_t *filled);

/// Encrypts all of it to `out`. How many bytes that are; -1: failed. Once the handshake is done.
long cs_front_seal(cs_front *front, const void *bytes, size_t count, void *out, size_t room);
/// What that takes at most.
size_t cs_front_sealed_max(size_t count);

/// With the next record this side changes its keys, and the peer has to change its own. TLS 1.3 only; 0, or -1.
int cs_front_change_keys(cs_front *front);

/// Tells the peer that no more follows.
void cs_front_end(cs_front *front);

/// Bytes that wait to be sent besides those that `cs_front_seal` wrote: of the handshake, alerts. And takes them all.
size_t cs_front_pending(const cs_front *front);
void cs_front_take(cs_front *front, void *out);

/// How often the peer has changed its keys.
uint32_t cs_front_key_changes(const cs_front *front);
/// The session of an earlier connection was taken up.
int cs_front_is_resumed(const cs_front *front);
/// The name in the peer's certificate, to `name` (CS_FRONT_NAME_BYTES_MAX): its one URI, or its one common name. How
/// long it is; 0: the certificate has not exactly one, or a longer one; -1: the peer showed none.
int cs_front_peer_name(const cs_front *front, int is_uri, char *name);
/// Why it failed, one line.
const char *cs_front_error(const cs_front *front);

#endif
