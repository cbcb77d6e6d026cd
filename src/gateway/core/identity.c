/* SPDX-License-Identifier: Apache-2.0 */
#include "core/identity.h"

#include "base/mem.h"

struct hg_identity { /* texts follow the claims, in one block */
    unsigned refs;
    enum hg_identity_source source;
    struct hg_bytes user;
    uint64_t roles, expires_wall_ms;
    size_t claims_n;
    struct hg_token_claim claims[];
};

static struct hg_bytes keep(uint8_t **at, struct hg_bytes text)
{
    struct hg_bytes kept = hg_bytes(*at, text.n);
    if (text.n > 0) {
        memcpy(*at, text.p, text.n);
    }
    *at += text.n;
    return kept;
}

struct hg_identity *hg_identity_new(const struct hg_identity_parts *parts)
{
    size_t texts_n = parts->user.n;
    for (size_t c = 0; c < parts->claims_n; c++) {
        texts_n += parts->claims[c].name.n + parts->claims[c].value.n;
    }
    struct hg_identity *i = hg_alloc(sizeof(*i) + parts->claims_n * sizeof(i->claims[0]) + texts_n);
    if (i == NULL) {
        return NULL;
    }
    uint8_t *at = (uint8_t *)(i->claims + parts->claims_n);
    i->refs = 1;
    i->source = parts->source;
    i->user = keep(&at, parts->user);
    i->roles = parts->roles | HG_ROLE_EVERYBODY;
    i->expires_wall_ms = parts->expires_wall_ms;
    i->claims_n = parts->claims_n;
    for (size_t c = 0; c < parts->claims_n; c++) {
        i->claims[c].name = keep(&at, parts->claims[c].name);
        i->claims[c].value = keep(&at, parts->claims[c].value);
    }
    return i;
}

struct hg_identity *hg_identity_with_roles(const struct hg_identity *i, uint64_t roles)
{
    return hg_identity_new(&(struct hg_identity_parts){.source = i->source,
                                                       .user = i->user,
                                                       .roles = roles,
                                                       .expires_wall_ms = i->expires_wall_ms,
                                                       .claims = i->claims,
                                                       .claims_n = i->claims_n});
}

enum hg_identity_source hg_identity_source(const struct hg_identity *i)
{
    return i->source;
}

struct hg_identity *hg_identity_ref(struct hg_identity *i)
{
    if (i != NULL) {
        i->refs++;
    }
    return i;
}

void hg_identity_unref(struct hg_identity *i)
{
    if (i != NULL && --i->refs == 0) {
        hg_free(i);
    }
}

struct hg_bytes hg_identity_user(const struct hg_identity *i)
{
    return i == NULL ? HG_BYTES("") : i->user;
}

uint64_t hg_identity_roles(const struct hg_identity *i)
{
    return i == NULL ? UINT64_MAX : i->roles;
}

uint64_t hg_identity_expires_wall_ms(const struct hg_identity *i)
{
    return i == NULL ? 0 : i->expires_wall_ms;
}

bool hg_identity_claim(const struct hg_identity *i, struct hg_bytes name,
                       struct hg_bytes *value_out)
{
    for (size_t c = 0; i != NULL && c < i->claims_n; c++) {
        if (hg_bytes_eq(i->claims[c].name, name)) {
            *value_out = i->claims[c].value;
            return true;
        }
    }
    return false;
}
