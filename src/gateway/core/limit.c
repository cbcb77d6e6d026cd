/* SPDX-License-Identifier: Apache-2.0 */
#include "core/limit.h"

const char *hg_limit_name(enum hg_limit limit)
{
    static const char *const names[HG_LIMIT_N] = {
#define X(name, label) label,
        HG_LIMITS(X)
#undef X
    };
    return names[limit];
}
