/* SPDX-License-Identifier: Apache-2.0 */
/* Which delivery an answer is for. */
#ifndef HG_UPSTREAM_TICKET_H
#define HG_UPSTREAM_TICKET_H

#include <stdint.h>

struct hg_ticket {
    uint64_t tag;   /* delivery tag on its channel */
    uint32_t epoch; /* of the channel: another one has come since, if it differs */
};

#endif
