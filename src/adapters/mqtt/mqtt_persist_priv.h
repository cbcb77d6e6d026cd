/* SPDX-License-Identifier: Apache-2.0 */
/* A kept session's part that comes and goes with its record: mqtt_persist.c while its client connects
 * and is there, mqtt_leave.c afterwards. */
#ifndef HG_MQTT_PERSIST_PRIV_H
#define HG_MQTT_PERSIST_PRIV_H

#include "adapters/mqtt/mqtt_message.h"
#include "adapters/mqtt/mqtt_session_priv.h"

enum hg_mqtt_step {
    STEP_NONE,       /* the client identifier is not granted yet */
    STEP_LOOKING,    /* for what is there */
    STEP_CLAIMING,   /* the claim is under way */
    STEP_OPENING,    /* the queue is */
    STEP_TAKING,     /* what the predecessor hands over is */
    STEP_TIDYING,    /* the record is written without what was in flight */
    STEP_RESTORING,  /* subscriptions are not live yet: CONNACK promises that they are */
    STEP_FORGETTING, /* an earlier session ends */
    STEP_DELETING,   /* and its queue is opened anew to be deleted */
    STEP_READY,
    /* The connection is gone. */
    STEP_SETTLING, /* publishes are under way */
    STEP_WRITING,  /* the record is */
    STEP_HANDING,  /* to a successor in another process */
    STEP_DONE
};

struct hg_mqtt_persist {
    struct hg_mqtt_session *session;
    struct hg_state_wait wait;        /* of the step */
    struct hg_state_wait saving;      /* of hg_mqtt_save */
    struct hg_timer timer;            /* for what must not be told at once, and for SETTLE_MS */
    struct hg_leaver leaver;          /* in the worker's list while leaving */
    struct hg_queue *queue;           /* NULL: not open */
    struct hg_session_record *before; /* what was there; NULL: nothing, or known no more */
    struct hg_session_record *record; /* ours: after the claim, and what is written at the end */
    struct hg_list early;             /* struct early */
    uint64_t will_at_ms;
    uint32_t expiry_s;      /* after the connection; UINT32_MAX: never */
    uint32_t saved_n;       /* numbers given out by hg_mqtt_save */
    uint32_t saving_number; /* under way; 0: none */
    enum hg_status save_status;
    uint8_t step; /* enum hg_mqtt_step */
    bool is_clean;
    bool was_there;    /* the queue was */
    bool must_save;    /* again, when the present one is done */
    bool was_claiming; /* left before the claim came back: the index knows nothing of it yet */
};

static inline struct hg_worker *worker_of(const struct hg_mqtt_persist *p)
{
    return p->session->base.worker;
}

static inline struct hg_realm *realm_of(const struct hg_mqtt_persist *p)
{
    return hg_realm_of(&p->session->base);
}

/* ---- mqtt_persist.c ---- */

/* What is always in the record; and the will as well, which borrows from *scratch. */
struct hg_session_record hg_mqtt_persist_head(const struct hg_mqtt_persist *p);
struct hg_session_record hg_mqtt_persist_head_with_will(const struct hg_mqtt_persist *p,
                                                        struct hg_mqtt_inbound *scratch);
/* The record as this process knows it, a copy; NULL: there is none. */
struct hg_session_record *hg_mqtt_persist_find(const struct hg_mqtt_session *s, bool *has_failed);
bool hg_mqtt_persist_is_ours(const struct hg_mqtt_persist *p, const struct hg_session_record *r);
void hg_mqtt_persist_log(const struct hg_mqtt_persist *p, const char *event, enum hg_status status,
                         struct hg_bytes reason);

/* ---- mqtt_leave.c ---- */

/* hg_leaver.abandon. */
void hg_mqtt_leave_abandon(struct hg_leaver *leaver);
/* The timer has fired: publishes are settled, or no longer waited for; or it is to end. */
void hg_mqtt_leave_fired(struct hg_mqtt_persist *p);
/* What was written last has come back, or not. */
void hg_mqtt_leave_written(struct hg_mqtt_persist *p, enum hg_status status);

#endif
