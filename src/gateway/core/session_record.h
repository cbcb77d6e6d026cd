/* SPDX-License-Identifier: Apache-2.0 */
/* What is kept of an MQTT session that outlives its connection: who has it, its subscriptions, its
 * will, and which packet identifiers were in use when its connection ended. In the log it is a
 * message whose headers say what it does to the index and whose body is JSON. */
#ifndef HG_CORE_SESSION_RECORD_H
#define HG_CORE_SESSION_RECORD_H

#include "base/buf.h"
#include "message/message.h"

/* What a record does (its header x-headgate-act). */
enum hg_session_act {
    HG_SESSION_CLAIM,    /* this owner has it from now on, whoever had it */
    HG_SESSION_UPDATE,   /* by its owner; else without effect */
    HG_SESSION_HANDOVER, /* by the owner before: only what was in flight is taken */
    HG_SESSION_END,      /* by its owner: the session is over */
    HG_SESSION_FORGET    /* by anybody: the session is over */
};

struct hg_session_filter {
    struct hg_bytes filter;   /* as subscribed, `$share/…` included */
    uint32_t subscription_id; /* 0: none */
    uint8_t qos, retain_handling;
    bool is_no_local, is_retain_as_published;
};

struct hg_session_tx {    /* a delivery that the client had not acknowledged to the end */
    uint64_t fingerprint; /* of the message */
    uint16_t packet_id;
    bool is_released; /* PUBREC came: PUBREL is to be sent again, not PUBLISH */
};

struct hg_session_will {
    struct hg_bytes topic, payload;
    struct hg_properties properties;
    bool is_retained, is_exactly_once;
    uint64_t delay_ms;
};

struct hg_session_record { /* texts are borrowed from whoever made it */
    struct hg_bytes client_id, user, instance;
    uint64_t boot_id, epoch;  /* its owner; epochs of one boot differ, and keep to 63 bits */
    uint64_t expiry_ms;       /* after the end of its connection; UINT64_MAX: never */
    uint64_t disconnected_ms; /* since 1970; 0: connected */
    uint64_t will_at_ms;      /* since 1970: when the will is due; 0: not yet decided */
    /* Of a claim: filters, rx and tx are those of the record that it replaces in the log (none if
     * that has ended), so that nothing written in between is lost. Those given are ignored. */
    bool inherits;
    bool has_will;
    struct hg_session_will will;
    const struct hg_session_filter *filters;
    size_t filters_n;
    const uint16_t *rx; /* QoS 2 publishes received, PUBREL is to come */
    size_t rx_n;
    const struct hg_session_tx *tx; /* in the order sent */
    size_t tx_n;
};

/* The session's queue, as RabbitMQ's MQTT plugin names it: `mqtt-subscription-`, the client
 * identifier, `qos1`; in place of an identifier too long for that, its SHA-256. Written to `out`. */
enum { HG_SESSION_QUEUE_NAME_MAX = 255 };
struct hg_bytes hg_session_record_queue_name(struct hg_bytes client_id,
                                             uint8_t out[HG_SESSION_QUEUE_NAME_MAX]);

/* The body as JSON, appended to `out`. */
void hg_session_record_write(const struct hg_session_record *r, struct hg_writer *out);
/* A record with texts and arrays of its own, from a body; NULL: it is none (*why_out: static text),
 * or there is no memory (*why_out: NULL). client_id, boot_id and epoch come from the message's headers. */
struct hg_session_record *hg_session_record_read(struct hg_bytes body, const char **why_out);
struct hg_session_record *hg_session_record_copy(const struct hg_session_record *r);
void hg_session_record_free(
    struct hg_session_record *r); /* of a read or copied one; NULL is fine */

#endif
