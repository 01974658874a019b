// Makes the certificates of a cluster: an authority, and what it signs.
#include "csupport_tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// What a certificate of an hour ago says is true everywhere, where clocks differ by minutes.
enum { BEFORE_SECONDS = 3600, SERIAL_BYTES = 16, TEXT_BYTES = 4096 };

static int fail(char *error, const char *what, const char *why) {
    unsigned long code = ERR_get_error();
    const char *reason = why ? why : code ? ERR_reason_error_string(code) : "memory is short";
    snprintf(error, CS_TLS_ERROR_BYTES, "%s: %s", what, reason ? reason : "OpenSSL does not say why");
    ERR_clear_error();
    return -1;
}

/// A file that must not be there yet: no key is ever overwritten.
static FILE *create(const char *path, mode_t mode, char *error) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!file) fail(error, path, strerror(errno));
    return file;
}

static int write_both(X509 *certificate, EVP_PKEY *pair, const char *path, const char *key_path, char *error) {
    FILE *key = create(key_path, 0600, error);
    if (!key) return -1;
    int ok = PEM_write_PrivateKey(key, pair, NULL, NULL, 0, NULL, NULL) == 1;
    if (fclose(key) != 0 || !ok) return fail(error, key_path, "cannot be written");
    FILE *file = create(path, 0644, error);
    if (!file) return -1;
    ok = PEM_write_X509(file, certificate) == 1;
    if (fclose(file) != 0 || !ok) return fail(error, path, "cannot be written");
    return 0;
}

static int add(X509 *certificate, X509 *issuer, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    int ok = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

static int set_name(X509_NAME *name, const cs_tls_subject *subject) {
    return X509_NAME_add_entry_by_txt(
               name, "O", MBSTRING_UTF8, (const unsigned char *)subject->cluster, -1, -1, 0)
        && X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)subject->name, -1, -1, 0);
}

static int set_serial(X509 *certificate) {
    unsigned char bytes[SERIAL_BYTES];
    if (cs_tls_random(bytes, sizeof bytes) < 0) return 0;
    // Positive, and of the same length always.
    bytes[0] = (unsigned char)((bytes[0] & 0x3f) | 0x40);
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    int ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
    BN_free(number);
    return ok;
}

static int set_extensions(X509 *certificate, X509 *issuer, const cs_tls_subject *subject) {
    if (!add(certificate, issuer, NID_subject_key_identifier, "hash")) return 0;
    if (issuer == certificate) {
        return add(certificate, issuer, NID_basic_constraints, "critical,CA:TRUE,pathlen:0")
            && add(certificate, issuer, NID_key_usage, "critical,keyCertSign,cRLSign");
    }
    char names[TEXT_BYTES];
    const char *more = subject->names && subject->names[0] ? subject->names : "";
    int count = snprintf(
        names, sizeof names, "URI:kvd://%s/%s%s%s", subject->cluster, subject->name, more[0] ? "," : "", more);
    return count > 0 && count < (int)sizeof names && add(certificate, issuer, NID_basic_constraints, "critical,CA:FALSE")
        && add(certificate, issuer, NID_authority_key_identifier, "keyid")
        && add(certificate, issuer, NID_key_usage, "critical,digitalSignature")
        && add(
               certificate, issuer, NID_ext_key_usage, subject->is_client ? "clientAuth" : "serverAuth,clientAuth")
        && add(certificate, issuer, NID_subject_alt_name, names);
}

static X509 *make(const cs_tls_subject *subject, EVP_PKEY *pair, X509 *authority, EVP_PKEY *authority_pair) {
    X509 *certificate = X509_new();
    if (!certificate) return NULL;
    X509 *issuer = authority ? authority : certificate;
    int ok = X509_set_version(certificate, X509_VERSION_3) && set_serial(certificate)
        && X509_gmtime_adj(X509_getm_notBefore(certificate), -BEFORE_SECONDS)
        && X509_time_adj_ex(
               X509_getm_notAfter(certificate), (int)(subject->seconds / 86400), (long)(subject->seconds % 86400), NULL)
        && set_name(X509_get_subject_name(certificate), subject)
        && X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) && X509_set_pubkey(certificate, pair)
        && set_extensions(certificate, issuer, subject)
        && X509_sign(certificate, authority ? authority_pair : pair, EVP_sha256()) != 0;
    if (ok) return certificate;
    X509_free(certificate);
    return NULL;
}

static int load(const char *path, const char *key_path, X509 **certificate, EVP_PKEY **pair, char *error) {
    FILE *file = fopen(path, "r");
    if (!file) return fail(error, path, strerror(errno));
    *certificate = PEM_read_X509(file, NULL, NULL, NULL);
    fclose(file);
    if (!*certificate) return fail(error, path, "is no certificate");
    FILE *key = fopen(key_path, "r");
    if (!key) return fail(error, key_path, strerror(errno));
    *pair = PEM_read_PrivateKey(key, NULL, NULL, NULL);
    fclose(key);
    if (!*pair) return fail(error, key_path, "is no key");
    if (X509_check_private_key(*certificate, *pair) != 1) return fail(error, key_path, "is not the key of the authority");
    return 0;
}

int cs_tls_make_certificate(
    const cs_tls_subject *subject, const char *authority, const char *authority_key, const char *certificate,
    const char *key, char *error) {
    X509 *issuer = NULL, *made = NULL;
    EVP_PKEY *issuer_pair = NULL, *pair = NULL;
    int result = authority ? load(authority, authority_key, &issuer, &issuer_pair, error) : 0;
    if (result == 0) {
        pair = EVP_EC_gen("P-256");
        made = pair ? make(subject, pair, issuer, issuer_pair) : NULL;
        result = made ? write_both(made, pair, certificate, key, error) : fail(error, subject->name, NULL);
    }
    X509_free(made);
    X509_free(issuer);
    EVP_PKEY_free(pair);
    EVP_PKEY_free(issuer_pair);
    return result;
}
