/* SPDX-License-Identifier: Apache-2.0 */
/* `headgate check --live`: what RabbitMQ says to a configuration. */
#ifndef HG_CHECK_LIVE_H
#define HG_CHECK_LIVE_H

#include "core/config.h"

enum hg_live {
    HG_LIVE_FINE,
    HG_LIVE_REFUSED, /* RabbitMQ does not permit, or has otherwise, what the configuration wants */
    HG_LIVE_AWAY     /* an endpoint cannot be reached (and no worse), or there is no memory */
};

/* Asks each endpoint in turn, and changes nothing: it makes and deletes queues that begin with
 * headgate.check. Takes as long as they need. */
enum hg_live hg_check_live_command(const struct hg_config *c, struct hg_writer *out);

#endif
