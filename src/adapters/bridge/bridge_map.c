/* SPDX-License-Identifier: Apache-2.0 */
/* Prefixes there and back. */
#include "adapters/bridge/bridge_map.h"

#include "message/topic.h"

/* `a/#` matches `a` as well, which lies outside the prefix `a/`. */
static bool is_taken(const char *filter, const char *prefix, struct hg_bytes address)
{
    return hg_bytes_starts(address, hg_bytes_str(prefix)) &&
           hg_topic_matches(hg_bytes_str(filter), address);
}

static void replace(struct hg_writer *out, struct hg_bytes address, const char *prefix,
                    const char *by)
{
    hg_writer_reset(out);
    hg_writer_str(out, by);
    hg_writer_bytes(out, hg_bytes_skip(address, strlen(prefix)));
}

const struct hg_bridge_route *hg_bridge_map_in(const struct hg_bridge_spec *spec,
                                               struct hg_bytes remote, struct hg_writer *local_out)
{
    for (size_t i = 0; i < spec->in_n; i++) {
        const struct hg_bridge_route *r = &spec->in[i];
        if (is_taken(r->remote_filter, r->remote_prefix, remote)) {
            replace(local_out, remote, r->remote_prefix, r->local_prefix);
            return r;
        }
    }
    return NULL;
}

const struct hg_bridge_route *hg_bridge_map_out(const struct hg_bridge_spec *spec,
                                                struct hg_bytes local, struct hg_writer *remote_out)
{
    for (size_t i = 0; i < spec->out_n; i++) {
        const struct hg_bridge_route *r = &spec->out[i];
        if (is_taken(r->local_filter, r->local_prefix, local)) {
            replace(remote_out, local, r->local_prefix, r->remote_prefix);
            return r;
        }
    }
    return NULL;
}

bool hg_bridge_map_returns(const struct hg_bridge_spec *spec, struct hg_bytes remote)
{
    for (size_t i = 0; i < spec->in_n; i++) {
        if (hg_topic_matches(hg_bytes_str(spec->in[i].remote_filter), remote)) {
            return true;
        }
    }
    return false;
}
