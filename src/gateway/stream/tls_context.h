/* SPDX-License-Identifier: Apache-2.0 */
/* What the TLS streams of one listener, or of the links to RabbitMQ, have in common: certificates,
 * keys and whom they trust. TLS 1.2 (RFC 5246) and 1.3 (RFC 8446), by OpenSSL; forward secrecy and
 * authenticated encryption only, no renegotiation, no compression. */
#ifndef HG_STREAM_TLS_CONTEXT_H
#define HG_STREAM_TLS_CONTEXT_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

struct hg_tls_certificate { /* PEM files */
    const char *cert;       /* the chain, the peer's own first */
    const char *key;        /* without a passphrase */
};

struct hg_tls_spec {
    /* A server's first is the default, the others are chosen by the name that a client asks for
     * (SNI, RFC 6066 section 3) and their own names. A client has one or none. */
    const struct hg_tls_certificate *certificates;
    size_t certificates_n;
    /* PEM file of the authorities that may sign the peer's certificate. NULL: clients are not asked
     * for one; a server's is checked against the system's authorities. */
    const char *ca;
    bool is_optional; /* of a server with `ca`: clients may come without a certificate */
    bool is_insecure; /* of a client: the server's certificate may have any name */
    /* The one protocol that is spoken inside (ALPN, RFC 7301), "http/1.1"; NULL: any. */
    const char *alpn;
};

/* May be used by several threads. */
struct hg_tls_context;

/* Reads the files. NULL, and in *problem_out what is wrong and with which file. The spec is
 * borrowed. */
struct hg_tls_context *hg_tls_context_server(const struct hg_tls_spec *spec,
                                             struct hg_writer *problem_out);
struct hg_tls_context *hg_tls_context_client(const struct hg_tls_spec *spec,
                                             struct hg_writer *problem_out);
/* Reads the files again, for connections that begin from here on. False, and everything as it was,
 * if one of them is not good. */
bool hg_tls_context_reload(struct hg_tls_context *context, struct hg_writer *problem_out);
/* After every stream that was made with it. NULL is fine. */
void hg_tls_context_free(struct hg_tls_context *context);

#endif
