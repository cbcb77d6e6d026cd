/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of the state log: their headers, both ways. A retained message is there as it was
 * published, or with what it is about in headers. */
#ifndef HG_CORE_STATE_MESSAGE_H
#define HG_CORE_STATE_MESSAGE_H

#include "core/request_record.h"
#include "core/session_record.h"

struct hg_state_owner { /* of a session; {0, 0}: nobody */
    uint64_t boot_id, epoch;
};

struct hg_state_message { /* read; texts are borrowed from the message */
    enum hg_state_message_kind {
        HG_STATE_MESSAGE_OTHER,
        HG_STATE_MESSAGE_BARRIER,
        HG_STATE_MESSAGE_RETAINED,
        HG_STATE_MESSAGE_SESSION,
        HG_STATE_MESSAGE_REQUEST
    } kind;
    struct hg_bytes exchange, key; /* of a retained message */
    enum hg_session_act act;
    struct hg_bytes client_id;
    struct hg_state_owner owner, previous;
    uint64_t by;     /* boot id of the process that wrote it */
    uint64_t number; /* of a barrier */
    struct hg_request_record request;
    /* It repeats what was so after the message at offset `as_of`. */
    bool is_copy;
    uint64_t as_of;
};
void hg_state_message_read(const struct hg_message *m, struct hg_bytes log_name,
                           struct hg_state_message *out);

/* Each a new message for the log (default exchange, key: its name), of which only what its kind
 * needs is looked at; NULL: no memory. */
struct hg_message *hg_state_message_barrier(struct hg_bytes log_name, uint64_t by, uint64_t number);
struct hg_message *hg_state_message_session(struct hg_bytes log_name,
                                            const struct hg_state_message *what,
                                            const struct hg_session_record *r);
struct hg_message *hg_state_message_request(struct hg_bytes log_name,
                                            const struct hg_state_message *what);
/* `from` NULL: it is cleared. */
struct hg_retained;
struct hg_message *hg_state_message_retained(struct hg_bytes log_name,
                                             const struct hg_state_message *what,
                                             const struct hg_retained *from);

#endif
