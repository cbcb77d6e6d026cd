/* SPDX-License-Identifier: Apache-2.0 */
/* For tls.c and tls_context.c only. */
#ifndef HG_STREAM_TLS_CONTEXT_PRIV_H
#define HG_STREAM_TLS_CONTEXT_PRIV_H

#include "stream/tls_context.h"

#include <openssl/ssl.h>

#include <stdatomic.h>

/* What was read from the files at one time. Lives as long as a connection that began with it. */
struct hg_tls_files {
    _Atomic unsigned refs;
    size_t n;
    SSL_CTX *all[]; /* one for each certificate; the first is the default */
};

/* A new connection's state, and a reference to the files it was made of. NULL when there is no
 * memory. */
SSL *hg_tls_context_begin(struct hg_tls_context *context, struct hg_tls_files **files_out);
void hg_tls_files_unref(struct hg_tls_files *files);
bool hg_tls_context_is_insecure(const struct hg_tls_context *context);
/* What OpenSSL complained about on this thread, for people; valid until the next call here. The
 * queue of its errors is empty then. */
const char *hg_tls_complaint(void);

#endif
