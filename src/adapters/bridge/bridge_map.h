/* SPDX-License-Identifier: Apache-2.0 */
/* Which route of a bridge takes an address, and what the address is on the other side. */
#ifndef HG_BRIDGE_MAP_H
#define HG_BRIDGE_MAP_H

#include "base/buf.h"
#include "core/config.h"

/* The first route that takes the site's address, and what the message's address is here; NULL: none
 * does. `local_out` is reset first. */
const struct hg_bridge_route *hg_bridge_map_in(const struct hg_bridge_spec *spec,
                                               struct hg_bytes remote, struct hg_writer *local_out);
/* The other way round. */
const struct hg_bridge_route *hg_bridge_map_out(const struct hg_bridge_spec *spec,
                                                struct hg_bytes local,
                                                struct hg_writer *remote_out);
/* Whether what is published at the site under this address is subscribed to there as well. */
bool hg_bridge_map_returns(const struct hg_bridge_spec *spec, struct hg_bytes remote);

#endif
