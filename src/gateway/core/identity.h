/* SPDX-License-Identifier: Apache-2.0 */
/* Who a client is, once it has been found out: a name, roles, claims of its token, and when that
 * ends. Immutable and reference-counted; belongs to one worker. */
#ifndef HG_CORE_IDENTITY_H
#define HG_CORE_IDENTITY_H

#include "base/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Roles are bits, in the order in which the configuration names them; bit 0 is "*", which everybody
 * has who was let in. */
enum { HG_ROLES_MAX = 64 };
static const uint64_t HG_ROLE_EVERYBODY = 1;

struct hg_token_claim {
    struct hg_bytes name, value;
};

/* Who vouched for it. */
enum hg_identity_source {
    HG_IDENTITY_ANONYMOUS,
    HG_IDENTITY_PASSWORD, /* a [[user]]'s */
    HG_IDENTITY_BROKER,
    HG_IDENTITY_CERTIFICATE,
    HG_IDENTITY_TOKEN
};

struct hg_identity;

struct hg_identity_parts {
    enum hg_identity_source source;
    struct hg_bytes user;                /* "" for an anonymous client */
    uint64_t roles;                      /* HG_ROLE_EVERYBODY is added */
    uint64_t expires_wall_ms;            /* 0: never */
    const struct hg_token_claim *claims; /* text claims, for {claim.NAME} in patterns */
    size_t claims_n;
};

/* Copies everything. NULL when there is no memory. */
struct hg_identity *hg_identity_new(const struct hg_identity_parts *parts);
struct hg_identity *hg_identity_ref(struct hg_identity *i); /* NULL is fine, as below */
void hg_identity_unref(struct hg_identity *i);

/* The same with other roles. NULL when there is no memory. */
struct hg_identity *hg_identity_with_roles(const struct hg_identity *i, uint64_t roles);

enum hg_identity_source hg_identity_source(const struct hg_identity *i); /* not of NULL */
/* NULL is a client of a gateway without identities: no name, every role. */
struct hg_bytes hg_identity_user(const struct hg_identity *i);
uint64_t hg_identity_roles(const struct hg_identity *i);
uint64_t hg_identity_expires_wall_ms(const struct hg_identity *i);
/* False if there is no such claim. */
bool hg_identity_claim(const struct hg_identity *i, struct hg_bytes name,
                       struct hg_bytes *value_out);

#endif
