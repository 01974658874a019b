// TLS by OpenSSL 3 over two memory buffers: see the header for what it promises.
#include "csupport_tls.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SECRET_BYTES = 32, HINT_BYTES = 4 };

// What a dialler shows before it has proved anything: "kvd1", the hint of its key, its id.
enum { IDENTITY_BYTES = 4 + HINT_BYTES + 8 };
static const char IDENTITY_MARK[4] = {'k', 'v', 'd', '1'};

static const char CIPHER_SUITE[] = "TLS_AES_128_GCM_SHA256";
static const unsigned char CIPHER_ID[2] = {0x13, 0x01};
static const char GROUP[] = "X25519";

struct cs_tls_context {
    atomic_int users;
    SSL_CTX *ssl;
    uint64_t self;
    int key_count;
    uint8_t keys[CS_TLS_KEYS_MAX][CS_TLS_KEY_BYTES];
    uint8_t hints[CS_TLS_KEYS_MAX][HINT_BYTES];
    char cluster[CS_TLS_CLUSTER_BYTES_MAX + 1];
    int64_t ends;
};

struct cs_tls {
    SSL *ssl;
    cs_tls_context *context;
    BIO *in, *out; // Owned by ssl.
    int is_dialer;
    int is_done;
    uint64_t peer;
    char name[CS_TLS_NAME_BYTES_MAX + 1];
    char error[CS_TLS_ERROR_BYTES];
};

// MARK: Keys

int cs_tls_derive(
    const uint8_t *key, size_t key_count, const void *salt, size_t salt_count, const void *info, size_t info_count,
    uint8_t *out, size_t out_count) {
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    EVP_KDF_free(kdf);
    if (!context) return -1;
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)key, key_count),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt, salt_count),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info, info_count),
        OSSL_PARAM_construct_end(),
    };
    int ok = EVP_KDF_derive(context, out, out_count, params);
    EVP_KDF_CTX_free(context);
    return ok == 1 ? 0 : -1;
}

int cs_tls_sha256(const void *bytes, size_t count, uint8_t *out) {
    return EVP_Digest(bytes, count, out, NULL, EVP_sha256(), NULL) == 1 ? 0 : -1;
}

int cs_tls_equal(const void *a, const void *b, size_t count) { return CRYPTO_memcmp(a, b, count) == 0; }

int cs_tls_random(void *out, size_t count) { return RAND_bytes(out, (int)count) == 1 ? 0 : -1; }

static void put_id(uint8_t *out, uint64_t id) {
    for (int i = 0; i < 8; i++) out[i] = (uint8_t)(id >> (8 * i));
}

static uint64_t get_id(const uint8_t *in) {
    uint64_t id = 0;
    for (int i = 0; i < 8; i++) id |= (uint64_t)in[i] << (8 * i);
    return id;
}

/// The key of one dialler's links: whoever sends words of a server back to it does not have it.
static SSL_SESSION *session_of(const cs_tls_context *context, SSL *ssl, int key, uint64_t dialer) {
    uint8_t info[16] = "kvd link", secret[SECRET_BYTES];
    put_id(info + 8, dialer);
    if (cs_tls_derive(
            context->keys[key], CS_TLS_KEY_BYTES, context->cluster, strlen(context->cluster), info, sizeof info, secret,
            sizeof secret)
        < 0) {
        return NULL;
    }
    SSL_SESSION *session = SSL_SESSION_new();
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, CIPHER_ID);
    int ok = session && cipher && SSL_SESSION_set1_master_key(session, secret, sizeof secret)
        && SSL_SESSION_set_cipher(session, cipher) && SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION);
    OPENSSL_cleanse(secret, sizeof secret);
    if (ok) return session;
    SSL_SESSION_free(session);
    return NULL;
}

static int use_session(
    SSL *ssl, const EVP_MD *digest, const unsigned char **identity, size_t *identity_count, SSL_SESSION **session) {
    (void)digest;
    cs_tls *tls = SSL_get_app_data(ssl);
    const cs_tls_context *context = tls->context;
    static _Thread_local unsigned char bytes[IDENTITY_BYTES];
    memcpy(bytes, IDENTITY_MARK, sizeof IDENTITY_MARK);
    memcpy(bytes + 4, context->hints[0], HINT_BYTES);
    put_id(bytes + 4 + HINT_BYTES, context->self);
    *identity = bytes;
    *identity_count = sizeof bytes;
    *session = session_of(context, ssl, 0, context->self);
    return *session != NULL;
}

static int find_session(SSL *ssl, const unsigned char *identity, size_t count, SSL_SESSION **session) {
    cs_tls *tls = SSL_get_app_data(ssl);
    const cs_tls_context *context = tls->context;
    *session = NULL;
    if (count != IDENTITY_BYTES || memcmp(identity, IDENTITY_MARK, sizeof IDENTITY_MARK) != 0) {
        snprintf(tls->error, sizeof tls->error, "the peer does not speak of a cluster's key");
        return 0;
    }
    uint64_t dialer = get_id(identity + 4 + HINT_BYTES);
    if (dialer == 0 || dialer == context->self) {
        snprintf(tls->error, sizeof tls->error, "the peer uses this server's own id");
        return 0;
    }
    for (int i = 0; i < context->key_count; i++) {
        if (memcmp(identity + 4, context->hints[i], HINT_BYTES) != 0) continue;
        *session = session_of(context, ssl, i, dialer);
        if (*session) tls->peer = dialer;
        return *session != NULL;
    }
    snprintf(tls->error, sizeof tls->error, "the peer has another cluster's key");
    return 0;
}

// MARK: Contexts

static void release(cs_tls_context *context) {
    SSL_CTX_free(context->ssl);
    OPENSSL_cleanse(context->keys, sizeof context->keys);
    free(context);
}

void cs_tls_context_release(cs_tls_context *context) {
    if (context && atomic_fetch_sub(&context->users, 1) == 1) release(context);
}

int64_t cs_tls_context_ends(const cs_tls_context *context) { return context->ends; }

static cs_tls_context *make(const char *cluster) {
    if (strlen(cluster) > CS_TLS_CLUSTER_BYTES_MAX) return NULL;
    cs_tls_context *context = calloc(1, sizeof *context);
    if (!context) return NULL;
    atomic_init(&context->users, 1);
    strcpy(context->cluster, cluster);
    context->ssl = SSL_CTX_new(TLS_method());
    SSL_CTX *ssl = context->ssl;
    int ok = ssl && SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) && SSL_CTX_set_ciphersuites(ssl, CIPHER_SUITE)
        && SSL_CTX_set1_groups_list(ssl, GROUP) && SSL_CTX_set_num_tickets(ssl, 0);
    if (!ok) {
        release(context);
        return NULL;
    }
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    // Buffers are given back between records: a thousand silent strangers cost little.
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    return context;
}

cs_tls_context *cs_tls_context_keys(const char *cluster, uint64_t self, const uint8_t *keys, int count) {
    if (count < 1 || count > CS_TLS_KEYS_MAX || self == 0) return NULL;
    cs_tls_context *context = make(cluster);
    if (!context) return NULL;
    context->self = self;
    context->key_count = count;
    memcpy(context->keys, keys, (size_t)count * CS_TLS_KEY_BYTES);
    for (int i = 0; i < count; i++) {
        if (cs_tls_derive(
                context->keys[i], CS_TLS_KEY_BYTES, context->cluster, strlen(cluster), "kvd hint", 8, context->hints[i],
                HINT_BYTES)
            < 0) {
            release(context);
            return NULL;
        }
    }
    SSL_CTX_set_psk_use_session_callback(context->ssl, use_session);
    SSL_CTX_set_psk_find_session_callback(context->ssl, find_session);
    return context;
}

/// The first line of what OpenSSL has to say.
static void say(char *error, const char *what) {
    unsigned long code = ERR_get_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    switch (code ? ERR_GET_REASON(code) : 0) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_HTTP_REQUEST: reason = "the peer does not speak TLS 1.3"; break;
    case SSL_R_TLSV1_ALERT_INTERNAL_ERROR:
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA: reason = "the peer does not accept this server's key or certificate"; break;
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
        reason = "the peer says that this server's certificate has expired";
        break;
    default: break;
    }
    snprintf(error, CS_TLS_ERROR_BYTES, "%s%s%s", what, reason ? ": " : "", reason ? reason : "");
    ERR_clear_error();
}

/// NAME of kvd://CLUSTER/NAME in the URI field; 0 if it has none of this cluster.
static int name_in(X509 *certificate, const char *cluster, char *name) {
    char prefix[CS_TLS_CLUSTER_BYTES_MAX + 16];
    int prefix_count = snprintf(prefix, sizeof prefix, "kvd://%s/", cluster), found = 0;
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++) {
        const GENERAL_NAME *entry = sk_GENERAL_NAME_value(names, i);
        if (entry->type != GEN_URI) continue;
        const ASN1_IA5STRING *uri = entry->d.uniformResourceIdentifier;
        int count = ASN1_STRING_length(uri) - prefix_count;
        const char *bytes = (const char *)ASN1_STRING_get0_data(uri);
        if (count < 1 || count > CS_TLS_NAME_BYTES_MAX || memcmp(bytes, prefix, (size_t)prefix_count) != 0
            || memchr(bytes, 0, (size_t)(count + prefix_count))) {
            continue;
        }
        memcpy(name, bytes + prefix_count, (size_t)count);
        name[count] = 0;
        found = 1;
    }
    GENERAL_NAMES_free(names);
    return found;
}

cs_tls_context *cs_tls_context_certificates(
    const char *cluster, const char *certificate, const char *key, const char *authority, char *error) {
    cs_tls_context *context = make(cluster);
    if (!context) {
        say(error, "TLS cannot be set up");
        return NULL;
    }
    SSL_CTX *ssl = context->ssl;
    char name[CS_TLS_NAME_BYTES_MAX + 1];
    if (SSL_CTX_use_certificate_chain_file(ssl, certificate) != 1) {
        say(error, certificate);
    } else if (SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ssl) != 1) {
        say(error, key);
    } else if (SSL_CTX_load_verify_file(ssl, authority) != 1) {
        say(error, authority);
    } else if (!name_in(SSL_CTX_get0_certificate(ssl), cluster, name)) {
        snprintf(error, CS_TLS_ERROR_BYTES, "%s: not for kvd://%s/NAME", certificate, cluster);
    } else {
        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        struct tm ends;
        if (ASN1_TIME_to_tm(X509_get0_notAfter(SSL_CTX_get0_certificate(ssl)), &ends) == 1) {
            context->ends = (int64_t)timegm(&ends);
        }
        return context;
    }
    release(context);
    return NULL;
}

// MARK: Connections

cs_tls *cs_tls_new(cs_tls_context *context, int is_dialer) {
    cs_tls *tls = calloc(1, sizeof *tls);
    if (!tls) return NULL;
    tls->ssl = SSL_new(context->ssl);
    tls->in = BIO_new(BIO_s_mem());
    tls->out = BIO_new(BIO_s_mem());
    if (!tls->ssl || !tls->in || !tls->out) {
        BIO_free(tls->in);
        BIO_free(tls->out);
        SSL_free(tls->ssl);
        free(tls);
        return NULL;
    }
    atomic_fetch_add(&context->users, 1);
    tls->context = context;
    tls->is_dialer = is_dialer;
    SSL_set_bio(tls->ssl, tls->in, tls->out);
    SSL_set_app_data(tls->ssl, tls);
    if (is_dialer) {
        SSL_set_connect_state(tls->ssl);
    } else {
        SSL_set_accept_state(tls->ssl);
    }
    return tls;
}

void cs_tls_free(cs_tls *tls) {
    if (!tls) return;
    SSL_free(tls->ssl);
    cs_tls_context_release(tls->context);
    free(tls);
}

int cs_tls_feed(cs_tls *tls, const void *bytes, size_t count) {
    size_t written = 0;
    return count == 0 || (BIO_write_ex(tls->in, bytes, count, &written) == 1 && written == count) ? 0 : -1;
}

/// Before the reason of the first call that failed is replaced.
static int fail(cs_tls *tls, const char *what) {
    if (tls->error[0] == 0) say(tls->error, what);
    ERR_clear_error();
    return -1;
}

int cs_tls_handshake(cs_tls *tls) {
    if (tls->is_done) return 1;
    ERR_clear_error();
    int result = SSL_do_handshake(tls->ssl);
    if (result != 1) {
        int why = SSL_get_error(tls->ssl, result);
        if (why == SSL_ERROR_WANT_READ) return 0;
        long verified = SSL_get_verify_result(tls->ssl);
        if (verified != X509_V_OK && tls->error[0] == 0) {
            snprintf(
                tls->error, sizeof tls->error, "the peer's certificate: %s", X509_verify_cert_error_string(verified));
        }
        return fail(tls, "the handshake failed");
    }
    if (tls->context->key_count > 0) {
        // With keys nothing else counts: a peer that shows a certificate instead has proved nothing.
        if (!SSL_session_reused(tls->ssl)) return fail(tls, "the peer did not use the cluster's key");
    } else {
        X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
        if (!certificate || !name_in(certificate, tls->context->cluster, tls->name)) {
            return fail(tls, "the peer's certificate is for another cluster");
        }
    }
    tls->is_done = 1;
    return 1;
}

long cs_tls_read(cs_tls *tls, void *bytes, size_t count) {
    size_t read = 0;
    ERR_clear_error();
    if (SSL_read_ex(tls->ssl, bytes, count, &read) == 1) return (long)read;
    switch (SSL_get_error(tls->ssl, 0)) {
    case SSL_ERROR_WANT_READ: return 0;
    case SSL_ERROR_ZERO_RETURN: return -2;
    default: return fail(tls, "a record could not be read");
    }
}

int cs_tls_write(cs_tls *tls, const void *bytes, size_t count) {
    size_t written = 0;
    ERR_clear_error();
    if (count == 0) return 0;
    if (SSL_write_ex(tls->ssl, bytes, count, &written) == 1 && written == count) return 0;
    return fail(tls, "a record could not be written");
}

void cs_tls_end(cs_tls *tls) {
    if (tls->is_done) SSL_shutdown(tls->ssl);
    ERR_clear_error();
}

size_t cs_tls_pending(const cs_tls *tls) { return BIO_ctrl_pending(tls->out); }

size_t cs_tls_take(cs_tls *tls, void *bytes, size_t count) {
    size_t read = 0;
    return BIO_read_ex(tls->out, bytes, count, &read) == 1 ? read : 0;
}

uint64_t cs_tls_peer(const cs_tls *tls) { return tls->is_done ? tls->peer : 0; }
const char *cs_tls_peer_name(const cs_tls *tls) { return tls->name; }
const char *cs_tls_error(const cs_tls *tls) { return tls->error; }
