/* SPDX-License-Identifier: Apache-2.0 */
#include "adapters/mqtt/mqtt_group.h"

#include "base/check.h"
#include "base/hex.h"
#include "message/topic.h"

#include <openssl/evp.h>

bool hg_mqtt_group_is(struct hg_bytes filter)
{
    return hg_bytes_starts(filter, HG_BYTES("$share/"));
}

bool hg_mqtt_group_read(struct hg_bytes filter, struct hg_mqtt_group *out)
{
    if (!hg_mqtt_group_is(filter)) {
        return false;
    }
    struct hg_bytes rest = hg_bytes_skip(filter, sizeof("$share/") - 1);
    size_t name_n = hg_bytes_index(rest, '/');
    if (name_n == 0 || name_n + 1 >= rest.n) {
        return false;
    }
    out->name = hg_bytes(rest.p, name_n);
    out->filter = hg_bytes_skip(rest, name_n + 1);
    return !hg_topic_has_wildcard(out->name); /* [MQTT-4.8.2-2] */
}

static size_t put(uint8_t *out, size_t n, struct hg_bytes b)
{
    memcpy(out + n, b.p, b.n);
    return n + b.n;
}

/* In hex. Of the same bytes that would have been the rest of the name. */
static size_t put_digest(uint8_t *out, size_t n, struct hg_bytes b)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned digest_n = 0;
    HG_CHECK(EVP_Digest(b.p, b.n, digest, &digest_n, EVP_sha256(), NULL) == 1);
    return n + hg_hex_write(out + n, hg_bytes(digest, digest_n)).n;
}

struct hg_bytes hg_mqtt_group_queue(const struct hg_mqtt_group *group, const char *prefix,
                                    uint8_t out[HG_MQTT_GROUP_QUEUE_MAX])
{
    /* name and filter stand behind each other in what they were read from */
    struct hg_bytes both = hg_bytes(group->name.p, group->name.n + 1 + group->filter.n);
    size_t n = put(out, put(out, 0, hg_bytes_str(prefix)), HG_BYTES("share."));
    n = n + both.n <= HG_MQTT_GROUP_QUEUE_MAX ? put(out, n, both) : put_digest(out, n, both);
    return hg_bytes(out, n);
}
