/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of HG_STATUS_MAP. */
#include "base/status.h"

#include "base/check.h"

static const struct hg_status_info infos[HG_STATUS_N] = {
#define X(name, connack, puback, suback, disconnect, http, text) \
    {#name, connack, puback, suback, disconnect, http, text},
    HG_STATUS_MAP(X)
#undef X
};

const struct hg_status_info *hg_status_info(enum hg_status s)
{
    HG_CHECK((unsigned)s < HG_STATUS_N);
    return &infos[s];
}
