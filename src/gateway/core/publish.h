/* SPDX-License-Identifier: Apache-2.0 */
/* What a session publishes, and what it hears of it. */
#ifndef HG_CORE_PUBLISH_H
#define HG_CORE_PUBLISH_H

#include "base/status.h"
#include "message/message.h"
#include "rules/rules.h"

struct hg_session;
struct hg_upload_ask;

struct hg_publish_args {
    struct hg_bytes address;       /* through the rules; or, if is_direct: */
    struct hg_bytes exchange, key; /* as they are */
    /* reserved headers and user_id are left out by the gateway; rule headers win */
    struct hg_properties properties;
    struct hg_bytes body;
    struct hg_buf *body_buf;         /* as hg_message_parts.body_buf; may be NULL */
    struct hg_bytes client_id, user; /* for the rule's header templates */
    uint64_t id;                     /* given back by settled() */
    uint64_t timeout_ms; /* longest wait for the outcome; 0: the configuration's. Then TIMED_OUT */
    struct hg_bytes sender; /* client identifier for x-headgate-from (No Local); empty: none */
    const struct hg_header *marks; /* further headers, of the gateway's own: reserved names stay */
    size_t marks_n;
    const struct hg_request_source *request; /* for rules that name its values; may be NULL */
    struct hg_upload_ask *upload;            /* not NULL: the body follows, core/upload.h */
    bool is_direct, is_exactly_once; /* the latter: MQTT's QoS 2, which a header then says */
    /* kept as the last value of its exchange and key as well (an empty body clears it); settled()
     * then waits until this process has it */
    bool is_retained;
    bool is_mandatory;  /* or by the rule */
    bool wants_outcome; /* false (QoS 0, no receipt): settled() is not called */
    bool is_free;       /* the gateway's own doing: no rate is charged */
    bool is_vouched;    /* the gateway itself chose where: nobody is asked for permission */
    bool never_held;    /* false: HELD while there is no room; true: BUSY or BROKER_AWAY instead */
};

struct hg_published { /* where it went; key borrows from `route` */
    struct hg_bytes exchange, key;
    enum hg_on_reject on_reject;
    struct hg_route route;
};

/* OK: under way, settled() comes later, never from inside this call. HELD: no room or RabbitMQ
 * away; the connection is held, return from feed without using the packet. Anything else: refused
 * now, settled() will not come; *why_out is static text or NULL, published_out may be NULL. */
enum hg_status hg_publish(struct hg_session *s, const struct hg_publish_args *args,
                          struct hg_published *published_out, const char **why_out);
/* What hg_publish would refuse whenever it were called: OK, or its status. Publishes nothing. */
enum hg_status hg_publish_check(struct hg_session *s, const struct hg_publish_args *args,
                                const char **why_out);
bool hg_publish_has_room(const struct hg_session *s); /* for a small message, now */

#endif
