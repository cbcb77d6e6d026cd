/* SPDX-License-Identifier: Apache-2.0 */
/* The admin listener: health, readiness, metrics, status, connections, rules. */
#ifndef HG_ADMIN_ADMIN_H
#define HG_ADMIN_ADMIN_H

#include "core/adapter.h"

/* Serves HG_SERVE_ADMIN. */
extern const struct hg_adapter hg_admin_adapter;

/* An HTML page that shows /api/status as it changes. */
extern const char hg_admin_page[];

#endif
