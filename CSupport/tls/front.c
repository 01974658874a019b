// TLS with clients by OpenSSL 3 over the caller's own bytes: see the header for what it promises.
#include "csupport_front.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char SUITES[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static const char CIPHERS[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
static const char GROUPS[] = "X25519:P-256:P-384";
static const unsigned char SESSIONS_OF[] = "kvd clients";

enum {
    TICKET_SECONDS = 7200,
    /// Certificates in the file of the authority.
    AUTHORITIES_MAX = 1024,
    VERIFY_DEPTH_MAX = 4,
    /// What one record adds: header, explicit nonce or type, tag.
    RECORD_OVERHEAD = 64,
};

struct cs_front_context {
    atomic_int users;
    SSL_CTX *ssl;
    int64_t ends;
    int rsa_bits;
    int is_dialer;
};

struct cs_front {
    SSL *ssl;
    cs_front_context *context;
    // What came and was not read yet.
    const uint8_t *in;
    size_t in_left;
    // Where records go, and what does not fit there or has no such place.
    uint8_t *out;
    size_t out_room, out_count;
    uint8_t *held;
    size_t held_count, held_capacity;
    int is_done;
    uint32_t key_changes;
    char error[CS_FRONT_ERROR_BYTES];
};

// MARK: Bytes

static int bytes_read(BIO *bio, char *to, size_t count, size_t *read) {
    cs_front *front = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (front->in_left == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    if (count > front->in_left) count = front->in_left;
    memcpy(to, front->in, count);
    front->in += count;
    front->in_left -= count;
    *read = count;
    return 1;
}

static int hold(cs_front *front, const char *from, size_t count) {
    size_t needed = front->held_count + count;
    if (needed > front->held_capacity) {
        size_t capacity = needed < 1024 ? 1024 : needed * 2;
        uint8_t *grown = realloc(front->held, capacity);
        if (!grown) return 0;
        front->held = grown;
        front->held_capacity = capacity;
    }
    memcpy(front->held + front->held_count, from, count);
    front->held_count = needed;
    return 1;
}

static int bytes_write(BIO *bio, const char *from, size_t count, size_t *written) {
    cs_front *front = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    // Nothing overtakes what is held.
    if (front->held_count > 0 || count > front->out_room - front->out_count) {
        if (!hold(front, from, count)) return 0;
    } else {
        memcpy(front->out + front->out_count, from, count);
        front->out_count += count;
    }
    *written = count;
    return 1;
}

/// Nothing but what must be: an answer of 1 to what it does not know would be taken for TLS in the kernel.
static long bytes_control(BIO *bio, int command, long number, void *pointer) {
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static int bytes_create(BIO *bio) {
    BIO_set_init(bio, 1);
    return 1;
}

static BIO_METHOD *bytes_method(void) {
    static _Atomic(BIO_METHOD *) made;
    BIO_METHOD *method = atomic_load(&made), *none = NULL;
    if (method) return method;
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "kvd");
    if (!method) return NULL;
    BIO_meth_set_create(method, bytes_create);
    BIO_meth_set_read_ex(method, bytes_read);
    BIO_meth_set_write_ex(method, bytes_write);
    BIO_meth_set_ctrl(method, bytes_control);
    if (atomic_compare_exchange_strong(&made, &none, method)) return method;
    BIO_meth_free(method);
    return none;
}

// MARK: Contexts

static int fault(char *error, int *file, int which, const char *what) {
    unsigned long code = ERR_peek_last_error();
    const char *reason = what ? what : code ? ERR_reason_error_string(code) : NULL;
    snprintf(error, CS_FRONT_ERROR_BYTES, "%s", reason ? reason : "memory is short");
    *file = which;
    ERR_clear_error();
    return 0;
}

/// A key that needs a password is refused: nobody is there to be asked.
static int no_password(char *to, int size, int writes, void *user) {
    (void)to, (void)size, (void)writes, (void)user;
    return -1;
}

static BIO *memory(const void *bytes, size_t count) { return BIO_new_mem_buf(bytes, (int)count); }

static int use_certificate(SSL_CTX *ssl, const cs_front_files *files, int *file, char *error) {
    BIO *bio = memory(files->certificate, files->certificate_count);
    X509 *own = bio ? PEM_read_bio_X509_AUX(bio, NULL, no_password, NULL) : NULL;
    int ok = own && SSL_CTX_use_certificate(ssl, own) == 1;
    if (!ok) {
        fault(error, file, CS_FRONT_CERTIFICATE, own ? NULL : "is no certificate");
    } else if (X509_cmp_current_time(X509_get0_notBefore(own)) > 0) {
        ok = fault(error, file, CS_FRONT_CERTIFICATE, "is not valid yet");
    } else if (X509_cmp_current_time(X509_get0_notAfter(own)) < 0) {
        ok = fault(error, file, CS_FRONT_CERTIFICATE, "has expired");
    }
    X509_free(own);
    for (X509 *signer; ok && (signer = PEM_read_bio_X509(bio, NULL, no_password, NULL));) {
        ok = SSL_CTX_add0_chain_cert(ssl, signer) == 1;
        if (!ok) {
            X509_free(signer);
            fault(error, file, CS_FRONT_CERTIFICATE, NULL);
        }
    }
    if (ok && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
        ok = fault(error, file, CS_FRONT_CERTIFICATE, "has something else behind its first certificate");
    }
    ERR_clear_error();
    BIO_free(bio);
    return ok;
}

static int use_key(cs_front_context *context, const cs_front_files *files, int *file, char *error) {
    BIO *bio = memory(files->key, files->key_count);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    BIO_free(bio);
    if (!key) return fault(error, file, CS_FRONT_KEY, "is no key, or one that needs a password");
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA) context->rsa_bits = EVP_PKEY_get_bits(key);
    int ok = SSL_CTX_use_PrivateKey(context->ssl, key) == 1 && SSL_CTX_check_private_key(context->ssl) == 1;
    EVP_PKEY_free(key);
    return ok ? 1 : fault(error, file, CS_FRONT_KEY, "is not the key of the certificate");
}

static int use_authority(SSL_CTX *ssl, const cs_front_files *files, int *file, char *error) {
    if (files->asks == CS_FRONT_ASKS_NOT) return 1;
    BIO *bio = memory(files->authority, files->authority_count);
    X509_STORE *store = SSL_CTX_get_cert_store(ssl);
    int count = 0, ok = bio != NULL;
    for (X509 *signer; ok && (signer = PEM_read_bio_X509(bio, NULL, no_password, NULL)); count++) {
        ok = count < AUTHORITIES_MAX && X509_STORE_add_cert(store, signer) == 1
            && SSL_CTX_add_client_CA(ssl, signer) == 1;
        X509_free(signer);
    }
    BIO_free(bio);
    if (!ok || count == 0) return fault(error, file, CS_FRONT_AUTHORITY, ok ? "has no certificate" : NULL);
    ERR_clear_error();
    SSL_CTX_set_verify_depth(ssl, VERIFY_DEPTH_MAX);
    SSL_CTX_set_verify(
        ssl, SSL_VERIFY_PEER | (files->asks == CS_FRONT_DEMANDS ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
    return 1;
}

/// Called between the steps of any handshake: counts the peer's changes of keys.
static void note_step(const SSL *ssl, int where, int value) {
    (void)value;
    if (!(where & SSL_CB_LOOP) || SSL_get_state(ssl) != TLS_ST_SR_KEY_UPDATE) return;
    cs_front *front = SSL_get_app_data(ssl);
    if (front) front->key_changes++;
}

static int set_up(SSL_CTX *ssl, const cs_front_files *files) {
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_COMPRESSION);
    // Buffers are given back between records. The chain is sent as the file has it, and not looked for each time.
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_read_ahead(ssl, 1);
    SSL_CTX_set_timeout(ssl, TICKET_SECONDS);
    SSL_CTX_set_info_callback(ssl, note_step);
    return SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) && SSL_CTX_set_ciphersuites(ssl, SUITES)
        && SSL_CTX_set_cipher_list(ssl, CIPHERS) && SSL_CTX_set1_groups_list(ssl, GROUPS)
        && SSL_CTX_set_num_tickets(ssl, 1)
        && SSL_CTX_set_session_id_context(ssl, SESSIONS_OF, sizeof SESSIONS_OF - 1)
        && SSL_CTX_set_tlsext_ticket_keys(ssl, (void *)files->ticket_keys, CS_FRONT_TICKET_BYTES) == 1;
}

cs_front_context *cs_front_context_new(const cs_front_files *files, int *file, char *error) {
    *file = CS_FRONT_NO_FILE;
    cs_front_context *context = calloc(1, sizeof *context);
    if (context) {
        atomic_init(&context->users, 1);
        context->ssl = SSL_CTX_new(TLS_server_method());
    }
    if (!context || !context->ssl || !set_up(context->ssl, files)) {
        fault(error, file, CS_FRONT_NO_FILE, NULL);
    } else if (
        use_certificate(context->ssl, files, file, error) && use_key(context, files, file, error)
        && use_authority(context->ssl, files, file, error)) {
        struct tm ends;
        if (ASN1_TIME_to_tm(X509_get0_notAfter(SSL_CTX_get0_certificate(context->ssl)), &ends) == 1) {
            context->ends = (int64_t)timegm(&ends);
        }
        return context;
    }
    cs_front_context_release(context);
    return NULL;
}

cs_front_context *cs_front_context_dialer(const cs_front_files *files, int version, int *file, char *error) {
    *file = CS_FRONT_NO_FILE;
    cs_front_context *context = calloc(1, sizeof *context);
    if (context) {
        atomic_init(&context->users, 1);
        context->is_dialer = 1;
        context->ssl = SSL_CTX_new(TLS_client_method());
    }
    int least = version == 13 ? TLS1_3_VERSION : TLS1_2_VERSION, most = version == 12 ? TLS1_2_VERSION : TLS1_3_VERSION;
    if (!context || !context->ssl || !SSL_CTX_set_min_proto_version(context->ssl, least)
        || !SSL_CTX_set_max_proto_version(context->ssl, most)) {
        fault(error, file, CS_FRONT_NO_FILE, NULL);
    } else if (
        (files->certificate_count == 0
         || (use_certificate(context->ssl, files, file, error) && use_key(context, files, file, error)))
        && use_authority(context->ssl, files, file, error)) {
        SSL_CTX_set_mode(context->ssl, SSL_MODE_RELEASE_BUFFERS);
        SSL_CTX_set_read_ahead(context->ssl, 1);
        return context;
    }
    cs_front_context_release(context);
    return NULL;
}

void cs_front_context_release(cs_front_context *context) {
    if (!context || atomic_fetch_sub(&context->users, 1) != 1) return;
    SSL_CTX_free(context->ssl);
    free(context);
}

int64_t cs_front_context_ends(const cs_front_context *context) { return context->ends; }
int cs_front_context_rsa_bits(const cs_front_context *context) { return context->rsa_bits; }

// MARK: Connections

cs_front *cs_front_new(cs_front_context *context) {
    cs_front *front = calloc(1, sizeof *front);
    BIO_METHOD *method = bytes_method();
    BIO *bio = front && method ? BIO_new(method) : NULL;
    SSL *ssl = bio ? SSL_new(context->ssl) : NULL;
    if (!ssl) {
        BIO_free(bio);
        free(front);
        ERR_clear_error();
        return NULL;
    }
    atomic_fetch_add(&context->users, 1);
    front->context = context;
    front->ssl = ssl;
    BIO_set_data(bio, front);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_app_data(ssl, front);
    if (context->is_dialer) SSL_set_connect_state(ssl);
    else SSL_set_accept_state(ssl);
    return front;
}

void cs_front_free(cs_front *front) {
    if (!front) return;
    SSL_free(front->ssl);
    cs_front_context_release(front->context);
    free(front->held);
    free(front);
}

/// Of the first call that failed. No error is left behind: it would be taken for one of the next connection's.
static int fail(cs_front *front, const char *what) {
    if (front->error[0] == 0) {
        unsigned long code = ERR_peek_error();
        long verified = SSL_get_verify_result(front->ssl);
        const char *reason = verified != X509_V_OK ? X509_verify_cert_error_string(verified)
            : code                                 ? ERR_reason_error_string(code)
                                                   : NULL;
        snprintf(front->error, sizeof front->error, "%s%s%s", what, reason ? ": " : "", reason ? reason : "");
    }
    ERR_clear_error();
    return -1;
}

int cs_front_handshake(cs_front *front, const void *in, size_t in_count) {
    front->in = in;
    front->in_left = in_count;
    int result = SSL_do_handshake(front->ssl);
    if (result == 1) {
        front->is_done = 1;
        return 1;
    }
    if (SSL_get_error(front->ssl, result) == SSL_ERROR_WANT_READ) return 0;
    return fail(front, "the handshake failed");
}

int cs_front_open(cs_front *front, const void *in, size_t in_count, void *out, size_t room, size_t *filled) {
    if (in) {
        front->in = in;
        front->in_left = in_count;
    }
    *filled = 0;
    while (front->in_left > 0 || SSL_has_pending(front->ssl)) {
        if (*filled == room) return 1;
        size_t count = 0;
        if (SSL_read_ex(front->ssl, (uint8_t *)out + *filled, room - *filled, &count) == 1) {
            *filled += count;
            continue;
        }
        switch (SSL_get_error(front->ssl, 0)) {
        case SSL_ERROR_WANT_READ: return 0;
        case SSL_ERROR_ZERO_RETURN: return -2;
        default: return fail(front, "a record could not be read");
        }
    }
    return 0;
}

size_t cs_front_sealed_max(size_t count) {
    return count + (count / CS_FRONT_PLAIN_BYTES + 1) * RECORD_OVERHEAD;
}

long cs_front_seal(cs_front *front, const void *bytes, size_t count, void *out, size_t room) {
    if (count == 0) return 0;
    front->out = out;
    front->out_room = room;
    front->out_count = 0;
    size_t written = 0;
    int result = SSL_write_ex(front->ssl, bytes, count, &written);
    long sealed = (long)front->out_count;
    front->out = NULL;
    front->out_room = front->out_count = 0;
    return result == 1 && written == count ? sealed : fail(front, "a record could not be written");
}

int cs_front_change_keys(cs_front *front) {
    return SSL_key_update(front->ssl, SSL_KEY_UPDATE_REQUESTED) == 1 ? 0 : fail(front, "keys cannot be changed");
}

void cs_front_end(cs_front *front) {
    if (front->is_done && front->error[0] == 0) SSL_shutdown(front->ssl);
    ERR_clear_error();
}

size_t cs_front_pending(const cs_front *front) { return front->held_count; }

void cs_front_take(cs_front *front, void *out) {
    memcpy(out, front->held, front->held_count);
    free(front->held);
    front->held = NULL;
    front->held_count = front->held_capacity = 0;
}

uint32_t cs_front_key_changes(const cs_front *front) { return front->key_changes; }
int cs_front_is_resumed(const cs_front *front) { return SSL_session_reused(front->ssl); }

/// Exactly one, whole: an end in the middle is no name.
static int copy(const unsigned char *bytes, int count, char *name) {
    if (count < 1 || count > CS_FRONT_NAME_BYTES_MAX || memchr(bytes, 0, (size_t)count)) return 0;
    memcpy(name, bytes, (size_t)count);
    return count;
}

static int common_name(X509 *certificate, char *name) {
    X509_NAME *subject = X509_get_subject_name(certificate);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0) return 0;
    unsigned char *text = NULL;
    int count = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    int length = count > 0 ? copy(text, count, name) : 0;
    OPENSSL_free(text);
    return length;
}

static int uri(X509 *certificate, char *name) {
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    int found = 0, length = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *entry = sk_GENERAL_NAME_value(names, i);
        if (entry->type != GEN_URI) continue;
        const ASN1_IA5STRING *text = entry->d.uniformResourceIdentifier;
        length = copy(ASN1_STRING_get0_data(text), ASN1_STRING_length(text), name);
        found++;
    }
    GENERAL_NAMES_free(names);
    return found == 1 ? length : 0;
}

int cs_front_peer_name(const cs_front *front, int is_uri, char *name) {
    X509 *certificate = SSL_get0_peer_certificate(front->ssl);
    if (!certificate) return -1;
    int length = is_uri ? uri(certificate, name) : common_name(certificate, name);
    ERR_clear_error();
    return length;
}

const char *cs_front_error(const cs_front *front) { return front->error; }
