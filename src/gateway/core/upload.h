/* SPDX-License-Identifier: Apache-2.0 */
/* hg_publish of a body that goes to RabbitMQ while it still arrives: hg_publish_args.upload points
 * to a struct hg_upload_ask. Such a publish is never HELD (BUSY instead: all places are taken), nor
 * retained, and its session has to say hg_upload_forget when it goes before settled(). */
#ifndef HG_CORE_UPLOAD_H
#define HG_CORE_UPLOAD_H

#include "core/session.h"
#include "upstream/upload.h"

struct hg_upload_ask {
    uint64_t body_bytes; /* at least 1 */
    /* The next piece may be written; as hg_upload_order has it. `owner` is the session. */
    void (*on_room)(void *owner, uint64_t id);
    struct hg_upload *upload; /* OK: the handle */
};

#endif
