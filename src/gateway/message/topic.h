/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and filters: levels joined by `/` (MQTT 3.1.1 section 4.7), the one address space of
 * all three protocols. */
#ifndef HG_MESSAGE_TOPIC_H
#define HG_MESSAGE_TOPIC_H

#include "base/bytes.h"

enum { HG_TOPIC_MAX_BYTES = 65535, HG_TOPIC_MAX_LEVELS = 201 }; /* whatever the limits say */

struct hg_topic_limits {
    size_t max_bytes;
    size_t max_levels;
};

/* Valid UTF-8 without control characters, surrogates and noncharacters (MQTT 3.1.1 section 1.5.3,
 * MQTT 5.0 section 1.5.4). */
bool hg_utf8_is_clean(struct hg_bytes b);
/* Valid UTF-8, any code point (RFC 3629). */
bool hg_utf8_is_valid(struct hg_bytes b);

/* NULL if fine, or static text that says what is wrong: an address has no wildcard, no NUL, is not
 * empty, keeps the limits. */
const char *hg_topic_check_address(struct hg_bytes address, const struct hg_topic_limits *limits);
/* The same for a filter: `+` and `#` stand alone in their level, `#` only last. */
const char *hg_topic_check_filter(struct hg_bytes filter, const struct hg_topic_limits *limits);
bool hg_topic_has_wildcard(struct hg_bytes filter);

/* Whether the filter matches the address (MQTT 3.1.1 section 4.7.1; `$` rule of 4.7.2 included).
 * The slow, obviously right way: the fan-out index is tested against it. */
bool hg_topic_matches(struct hg_bytes filter, struct hg_bytes address);

/* Whether a topic exchange's binding key (words joined by `.`, `*`, `#` anywhere) matches a routing
 * key (RabbitMQ's rules). */
bool hg_binding_matches(struct hg_bytes binding_key, struct hg_bytes routing_key);

/* Takes the next level off *rest, split at `sep`: false when there is none left. Start with
 * `*rest_has_more = true`. An empty string has one empty level. */
static inline bool hg_topic_next(struct hg_bytes *rest, bool *rest_has_more, uint8_t sep,
                                 struct hg_bytes *level)
{
    if (!*rest_has_more) {
        return false;
    }
    size_t at = hg_bytes_index(*rest, sep);
    *level = (struct hg_bytes){rest->p, at};
    *rest_has_more = at < rest->n;
    *rest = hg_bytes_skip(*rest, *rest_has_more ? at + 1 : at);
    return true;
}

#endif
