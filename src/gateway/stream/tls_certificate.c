/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/tls_certificate.h"

#include <openssl/x509v3.h>

/* A NUL or a control character could make one name look like another. */
static bool append(const ASN1_STRING *text, struct hg_writer *out)
{
    unsigned char *utf8 = NULL;
    int n = text == NULL ? -1 : ASN1_STRING_to_UTF8(&utf8, text);
    bool is_fine = n > 0;
    for (int i = 0; i < n && is_fine; i++) {
        is_fine = utf8[i] >= ' ' && utf8[i] != 0x7f;
    }
    if (is_fine) {
        hg_writer_bytes(out, hg_bytes(utf8, (size_t)n));
    }
    OPENSSL_free(utf8);
    return is_fine;
}

static bool append_common_name(const X509 *certificate, struct hg_writer *out)
{
    X509_NAME *subject = X509_get_subject_name(certificate);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0) {
        return false;
    }
    return append(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), out);
}

/* RFC 5280 section 4.2.1.6. */
static bool append_alternative(const X509 *certificate, int type, struct hg_writer *out)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    bool is_found = false;
    bool is_fine = false;
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !is_found; i++) {
        int its_type = 0;
        const ASN1_STRING *value =
            GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &its_type);
        is_found = its_type == type;
        is_fine = is_found && append(value, out);
    }
    GENERAL_NAMES_free(names);
    return is_fine;
}

bool hg_tls_certificate_name(const X509 *certificate, enum hg_certificate_name which,
                             struct hg_writer *out)
{
    switch (which) {
    case HG_CERTIFICATE_COMMON_NAME: return append_common_name(certificate, out);
    case HG_CERTIFICATE_DNS: return append_alternative(certificate, GEN_DNS, out);
    case HG_CERTIFICATE_EMAIL: return append_alternative(certificate, GEN_EMAIL, out);
    case HG_CERTIFICATE_URI: return append_alternative(certificate, GEN_URI, out);
    case HG_CERTIFICATE_OFF: break;
    }
    return false;
}
