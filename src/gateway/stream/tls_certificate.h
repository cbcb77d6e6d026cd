/* SPDX-License-Identifier: Apache-2.0 */
/* The name in a certificate. */
#ifndef HG_STREAM_TLS_CERTIFICATE_H
#define HG_STREAM_TLS_CERTIFICATE_H

#include "stream/stream.h"

#include <openssl/x509.h>

/* Appends it. False: there is none of that kind, or several common names, or bytes in it that no
 * name has. */
bool hg_tls_certificate_name(const X509 *certificate, enum hg_certificate_name which,
                             struct hg_writer *out);

#endif
