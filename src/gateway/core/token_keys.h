/* SPDX-License-Identifier: Apache-2.0 */
/* The keys that verify tokens: from files of secrets, PEM files and a JSON Web Key Set. */
#ifndef HG_CORE_TOKEN_KEYS_H
#define HG_CORE_TOKEN_KEYS_H

#include "core/token.h"

enum hg_token_algorithm { HG_TOKEN_HS256, HG_TOKEN_RS256, HG_TOKEN_ES256, HG_TOKEN_ALGORITHM_N };

/* HG_TOKEN_ALGORITHM_N for any other name. */
enum hg_token_algorithm hg_token_algorithm(struct hg_bytes name);

struct hg_token_signed {
    enum hg_token_algorithm algorithm;
    struct hg_bytes key_id; /* empty: the header names none */
    struct hg_bytes text, signature;
};

/* By a key of this algorithm and identifier; keys without one, and all of them where the token
 * names none, are tried in turn. */
bool hg_token_keys_verify(const struct hg_token_keys *keys, const struct hg_token_signed *what);

#endif
