/* SPDX-License-Identifier: Apache-2.0 */
/* What the state log keeps of a request that is to be done once among all instances: who does it,
 * and then how it was answered. Each record says everything there is to say. */
#ifndef HG_CORE_REQUEST_RECORD_H
#define HG_CORE_REQUEST_RECORD_H

#include "base/buf.h"

enum hg_request_act {
    HG_REQUEST_CLAIM, /* this owner does it, unless somebody else does or did */
    HG_REQUEST_FREE,  /* by its owner: it came to nothing, and may be tried again */
    HG_REQUEST_ANSWER /* by its owner */
};

enum { HG_REQUEST_KEY_MAX = 1024, HG_REQUEST_TYPE_MAX = 63, HG_REQUEST_BODY_MAX = 64 * 1024 };

struct hg_request_record { /* texts are borrowed */
    enum hg_request_act act;
    struct hg_bytes key;
    uint64_t boot_id, number; /* its owner; numbers of one boot differ, and keep to 63 bits */
    uint64_t fingerprint[2];  /* what makes two requests the same one */
    uint64_t at_ms, ends_ms;  /* since 1970, by its owner's clock: written, and forgotten */
    unsigned status;          /* of an answer, as are its Content-Type and body */
    struct hg_bytes type, body;
};

#endif
