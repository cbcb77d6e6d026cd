/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker runs besides its clients' connections: a bridge to a site, a webhook. An adapter's `start` adds
 * it to hg_worker.services; everything on that worker's thread. */
#ifndef HG_CORE_SERVICE_H
#define HG_CORE_SERVICE_H

#include "base/list.h"

#include <stdbool.h>

struct hg_service;

struct hg_service_ops {
    /* The gateway shuts down: finish what is under way, begin nothing. */
    void (*drain)(struct hg_service *service);
    /* After drain: nothing is under way any more. */
    bool (*is_idle)(const struct hg_service *service);
    /* The last call, drained or not, while the routing is still there: gives up what is under way,
     * and removes itself from the worker's list: now, or in a callback of its last libuv handle. */
    void (*close)(struct hg_service *service);
};

struct hg_session;

struct hg_service {
    const struct hg_service_ops *ops;
    struct hg_session *session; /* that it subscribes with; NULL: none */
    struct hg_list link;        /* in hg_worker.services */
};

#endif
