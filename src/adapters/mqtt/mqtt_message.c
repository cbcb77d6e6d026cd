/* SPDX-License-Identifier: Apache-2.0 */
/* MQTT 5.0 properties <-> AMQP properties. What AMQP has no property for travels in headers of the
 * plugin's names where it has one. User Properties are headers in their order [MQTT-3.3.2-18], a name
 * that is repeated is repeated: AMQP calls that illegal, but RabbitMQ's queues carry such a table as
 * it is, and an array in its place would lose the order among names. A stream sorts it by name and
 * keeps the order within a name, hence USER_ORDER. */
#include "adapters/mqtt/mqtt_message.h"

#include "base/utf8.h"
#include "message/topic.h"

#include <stddef.h>
#include <stdio.h>

#define CONTENT_TYPE   HG_BYTES("x-content-type") /* empty, or longer than AMQP takes it */
#define CORRELATION_ID HG_BYTES("x-correlation-id")
#define REPLY_TOPIC    HG_BYTES("x-reply-to-topic")    /* the routing key that it leads to */
#define REPLY_EXCHANGE HG_BYTES("x-reply-to-exchange") /* unless it is amq.topic */
#define PAYLOAD_FORMAT HG_BYTES("x-payload-format")
#define USER_ORDER     HG_BYTES("x-user-property-order") /* see hg_mqtt_message_keep_order */
#define DATED          HG_BYTES("x-headgate-dated")      /* the timestamp is the gateway's own */
#define NUMBERED       HG_BYTES("x-headgate-numbered")   /* so is the message-id */

enum { SHORT_MAX = 255 };

/* User Properties that are AMQP properties. */
struct named {
    const char *name;
    size_t offset; /* of a text in struct hg_properties; 0: PRIORITY or TIMESTAMP by its name */
};
static const struct named named[] = {
    {"content-encoding", offsetof(struct hg_properties, content_encoding)},
    {"priority", 0},
    {"message-id", offsetof(struct hg_properties, message_id)},
    {"timestamp", 0},
    {"type", offsetof(struct hg_properties, type)},
    {"user-id", offsetof(struct hg_properties, user_id)},
    {"app-id", offsetof(struct hg_properties, app_id)},
};

/* Headers that say what is no User Property. */
static bool is_taken(struct hg_bytes name)
{
    return hg_bytes_eq(name, CONTENT_TYPE) || hg_bytes_eq(name, CORRELATION_ID) ||
           hg_bytes_eq(name, REPLY_TOPIC) || hg_bytes_eq(name, REPLY_EXCHANGE) ||
           hg_bytes_eq(name, PAYLOAD_FORMAT) || hg_bytes_eq(name, USER_ORDER);
}

/* Whether a header is shown as a User Property. */
static bool is_user(struct hg_bytes name)
{
    return !is_taken(name) && !hg_bytes_starts(name, HG_BYTES("x-headgate-"));
}

static void add_header(struct hg_mqtt_inbound *in, struct hg_bytes name, struct hg_value value)
{
    in->headers[in->properties.headers_n++] = (struct hg_header){name, value};
}

/* ---- The order of User Properties ---- */

/* As a stream compares names. */
static int compare(struct hg_bytes a, struct hg_bytes b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int by_bytes = n == 0 ? 0 : memcmp(a.p, b.p, n);
    return by_bytes != 0 ? by_bytes : (a.n > b.n) - (a.n < b.n);
}

/* The headers that are shown: how many, and in out the first HG_MQTT_USERS_MAX of them. */
static size_t list_users(const struct hg_properties *p, const struct hg_header **out,
                         bool *is_sorted_out)
{
    const struct hg_header *last = NULL;
    size_t n = 0;
    *is_sorted_out = true;
    for (size_t i = 0; i < p->headers_n; i++) {
        const struct hg_header *h = &p->headers[i];
        if (!is_user(h->name)) {
            continue;
        }
        if (n < HG_MQTT_USERS_MAX) {
            out[n] = h;
        }
        *is_sorted_out = *is_sorted_out && (last == NULL || compare(last->name, h->name) <= 0);
        last = h;
        n++;
    }
    return n;
}

enum { FIRST_PLACE = '0' }; /* a place is one printable character */

void hg_mqtt_message_keep_order(struct hg_mqtt_inbound *in)
{
    const struct hg_header *users[HG_MQTT_USERS_MAX];
    bool is_sorted;
    size_t n = list_users(&in->properties, users, &is_sorted);
    if (is_sorted) {
        return;
    }
    for (size_t i = 0; i < n; i++) { /* where the i-th comes when they are sorted */
        size_t place = 0;
        for (size_t k = 0; k < n; k++) {
            int order = compare(users[k]->name, users[i]->name);
            place += order < 0 || (order == 0 && k < i);
        }
        in->order[i] = (char)(FIRST_PLACE + place);
    }
    add_header(in, USER_ORDER,
               (struct hg_value){HG_VALUE_STRING, .u.bytes = hg_bytes(in->order, n)});
}

/* Puts sorted headers back into the order that they had. */
static void restore_order(const struct hg_message *m, const struct hg_header **users, size_t n)
{
    const struct hg_value *order = hg_message_header(m, USER_ORDER);
    const struct hg_header *sorted[HG_MQTT_USERS_MAX];
    uint64_t seen = 0;
    if (order == NULL || order->kind != HG_VALUE_STRING || order->u.bytes.n != n) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        size_t place = (size_t)order->u.bytes.p[i] - FIRST_PLACE;
        if (place >= n || (seen >> place & 1) != 0) {
            return; /* not ours */
        }
        seen |= 1ULL << place;
        sorted[i] = users[place];
    }
    memcpy(users, sorted, n * sizeof(users[0]));
}

/* ---- In ---- */

static struct hg_value text_value(struct hg_bytes text)
{
    return (struct hg_value){hg_utf8_is_valid(text) ? HG_VALUE_STRING : HG_VALUE_BINARY,
                             .u.bytes = text};
}

/* Into an AMQP property if it can be one: text of 1 to 255 bytes. */
static void set_short(struct hg_mqtt_inbound *in, struct hg_bytes *field, struct hg_bytes text,
                      struct hg_bytes header)
{
    struct hg_value value = text_value(text);
    if (value.kind == HG_VALUE_STRING && text.n > 0 && text.n <= SHORT_MAX) {
        *field = text;
    } else {
        add_header(in, header, value);
    }
}

static enum hg_status set_reply(struct hg_mqtt_inbound *in, const struct hg_rules *rules,
                                struct hg_bytes topic, const char **why_out)
{
    enum hg_status status = hg_rules_publish(rules, HG_PROTO_MQTT, topic, &in->reply);
    if (status == HG_OK && in->reply.is_hashed) {
        status = HG_KEY_TOO_LONG; /* an answer could not be mapped back */
    }
    if (status != HG_OK) {
        *why_out = "the response topic leads nowhere";
        return status;
    }
    if (in->reply.exchange.n == 0) { /* a queue: what reply_to is for */
        in->properties.reply_to = in->reply.key;
        return HG_OK;
    }
    add_header(in, REPLY_TOPIC, text_value(in->reply.key));
    if (!hg_bytes_eq(in->reply.exchange, HG_BYTES("amq.topic"))) {
        add_header(in, REPLY_EXCHANGE, text_value(in->reply.exchange));
    }
    return HG_OK;
}

static void set_expiration(struct hg_mqtt_inbound *in, uint32_t expiry_s)
{
    uint64_t ms = (uint64_t)expiry_s * 1000;
    int n = snprintf(in->expiration, sizeof(in->expiration), "%llu",
                     (unsigned long long)(ms > UINT32_MAX ? UINT32_MAX : ms));
    in->properties.expiration = hg_bytes(in->expiration, (size_t)n);
}

/* True: the User Property is an AMQP property now, the first of its name. */
static bool set_named(struct hg_properties *p, struct hg_bytes name, struct hg_bytes value)
{
    uint64_t number;
    for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++) {
        if (!hg_bytes_eq(name, hg_bytes_str(named[i].name))) {
            continue;
        }
        if (named[i].offset != 0) {
            struct hg_bytes *field = (struct hg_bytes *)(void *)((char *)p + named[i].offset);
            bool is_free = field->n == 0 && value.n > 0 && value.n <= SHORT_MAX;
            *field = is_free ? value : *field;
            return is_free;
        }
        if (name.p[0] == 'p' && !p->has_priority && hg_bytes_to_u64(value, UINT8_MAX, &number)) {
            p->has_priority = true;
            p->priority = (uint8_t)number;
            return true;
        }
        if (name.p[0] == 't' && !p->has_timestamp && hg_bytes_to_u64(value, UINT64_MAX, &number)) {
            p->has_timestamp = true;
            p->timestamp_s = number;
            return true;
        }
        return false;
    }
    return false;
}

static enum hg_status add_users(struct hg_mqtt_inbound *in, struct hg_bytes raw, uint32_t users_n,
                                const char **why_out)
{
    struct hg_bytes name;
    struct hg_bytes value;
    if (users_n > HG_MQTT_USERS_MAX) {
        *why_out = "more than 64 user properties";
        return HG_TOO_MANY;
    }
    while (hg_mqtt_property_next_user(&raw, &name, &value)) {
        if (name.n > SHORT_MAX) {
            *why_out = "the name of a user property exceeds 255 bytes";
            return HG_BAD_PROPERTY;
        }
        if (!hg_header_is_reserved(name) && !is_taken(name) &&
            !set_named(&in->properties, name, value)) {
            add_header(in, name, text_value(value));
        }
    }
    return HG_OK;
}

enum hg_status hg_mqtt_message_in(struct hg_mqtt_inbound *out, const struct hg_rules *rules,
                                  struct hg_bytes raw, struct hg_bytes payload, uint8_t qos,
                                  const char **why_out)
{
    struct hg_mqtt_properties p;
    enum hg_status status = HG_OK;
    out->properties =
        (struct hg_properties){.delivery_mode = qos > 0 ? 2 : 1, .headers = out->headers};
    if (raw.n == 0) {
        return HG_OK;
    }
    hg_mqtt_property_read(raw, &p);
    if (hg_mqtt_property_has(&p, HG_MQTT_PAYLOAD_FORMAT)) {
        if (p.payload_format == 1 && !hg_utf8_is_valid(payload)) {
            *why_out = "the payload is not UTF-8, as its format says";
            return HG_BAD_PAYLOAD;
        }
        add_header(out, PAYLOAD_FORMAT, (struct hg_value){HG_VALUE_INT, .u.i = p.payload_format});
    }
    if (hg_mqtt_property_has(&p, HG_MQTT_MESSAGE_EXPIRY)) {
        set_expiration(out, p.message_expiry_s);
    }
    if (hg_mqtt_property_has(&p, HG_MQTT_CONTENT_TYPE)) {
        set_short(out, &out->properties.content_type, p.content_type, CONTENT_TYPE);
    }
    if (hg_mqtt_property_has(&p, HG_MQTT_CORRELATION_DATA)) {
        set_short(out, &out->properties.correlation_id, p.correlation_data, CORRELATION_ID);
    }
    if (hg_mqtt_property_has(&p, HG_MQTT_RESPONSE_TOPIC)) {
        status = set_reply(out, rules, p.response_topic, why_out);
    }
    return status == HG_OK ? add_users(out, raw, p.users_n, why_out) : status;
}

/* ---- Out ---- */

/* Replaces what clients may end their connection for. */
static void write_clean(struct hg_writer *w, struct hg_bytes text)
{
    while (text.n > 0) {
        uint32_t code;
        size_t n = hg_utf8_step(text, &code);
        bool is_fine = n > 0 && hg_utf8_is_clean(hg_bytes(text.p, n));
        n = n == 0 ? 1 : n;
        hg_writer_bytes(w, is_fine ? hg_bytes(text.p, n) : HG_BYTES("\xef\xbf\xbd"));
        text = hg_bytes_skip(text, n);
    }
}

/* The text as MQTT may hold it; `room` keeps it where it had to be changed. */
static struct hg_bytes clean(struct hg_bytes text, struct hg_writer *room)
{
    if (hg_utf8_is_clean(text)) {
        return text;
    }
    write_clean(room, text);
    return hg_writer_view(room);
}

static void write_text(struct hg_writer *w, enum hg_mqtt_property_id id, struct hg_bytes text)
{
    struct hg_writer room = {0};
    text = clean(text, &room);
    w->failed = w->failed || room.failed;
    if (!w->failed && text.n <= UINT16_MAX) {
        hg_mqtt_property_bytes(w, id, text);
    }
    hg_writer_close(&room);
}

static void write_user(struct hg_writer *w, struct hg_bytes name, struct hg_bytes value)
{
    struct hg_writer name_room = {0};
    struct hg_writer value_room = {0};
    name = clean(name, &name_room);
    value = clean(value, &value_room);
    w->failed = w->failed || name_room.failed || value_room.failed;
    if (!w->failed && name.n <= UINT16_MAX && value.n <= UINT16_MAX) {
        hg_mqtt_property_user(w, name, value);
    }
    hg_writer_close(&name_room);
    hg_writer_close(&value_room);
}

static void write_named(struct hg_writer *w, const struct hg_message *m)
{
    const struct hg_properties *p = hg_message_properties(m);
    bool has_timestamp = p->has_timestamp && hg_message_header(m, DATED) == NULL;
    bool is_numbered = hg_message_header(m, NUMBERED) != NULL;
    for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++) {
        struct hg_bytes name = hg_bytes_str(named[i].name);
        if (named[i].offset != 0) {
            struct hg_bytes value =
                *(const struct hg_bytes *)(const void *)((const char *)p + named[i].offset);
            bool is_ours =
                is_numbered && named[i].offset == offsetof(struct hg_properties, message_id);
            if (value.n > 0 && !is_ours) {
                write_user(w, name, value);
            }
        } else if (name.p[0] == 'p' ? p->has_priority : has_timestamp) {
            char digits[24];
            int n = snprintf(digits, sizeof(digits), "%llu",
                             (unsigned long long)(name.p[0] == 'p' ? p->priority : p->timestamp_s));
            write_user(w, name, hg_bytes(digits, (size_t)n));
        }
    }
}

/* A header's bytes as they are; empty if it has none. */
static struct hg_bytes header_bytes(const struct hg_message *m, struct hg_bytes name)
{
    const struct hg_value *v = hg_message_header(m, name);
    bool has_bytes = v != NULL && (v->kind == HG_VALUE_STRING || v->kind == HG_VALUE_BINARY);
    return has_bytes ? v->u.bytes : HG_BYTES("");
}

/* The Response Topic by the rules, appended to out; false: nothing leads back. *is_private_out:
 * though there is a queue to answer to. */
static bool map_reply(const struct hg_rules *rules, const struct hg_message *m,
                      struct hg_writer *out, bool *is_private_out)
{
    const struct hg_value *topic = hg_message_header(m, REPLY_TOPIC);
    struct hg_bytes reply_to = hg_message_properties(m)->reply_to;
    size_t rule;
    if (topic != NULL) {
        struct hg_bytes exchange = header_bytes(m, REPLY_EXCHANGE);
        exchange = exchange.n == 0 ? HG_BYTES("amq.topic") : exchange;
        if (hg_rules_deliver(rules, HG_PROTO_MQTT, exchange, header_bytes(m, REPLY_TOPIC),
                             HG_BYTES(""), out, &rule)) {
            *is_private_out = false;
            return true;
        }
    }
    bool is_mapped = reply_to.n > 0 && hg_rules_deliver(rules, HG_PROTO_MQTT, HG_BYTES(""),
                                                        reply_to, HG_BYTES(""), out, &rule);
    *is_private_out = reply_to.n > 0 && !is_mapped;
    return is_mapped;
}

static void write_reply(struct hg_writer *w, const struct hg_rules *rules,
                        const struct hg_message *m, struct hg_bytes reply_topic)
{
    struct hg_writer mapped = {0};
    bool is_private;
    if (map_reply(rules, m, &mapped, &is_private)) {
        reply_topic = hg_writer_view(&mapped);
    } else if (!is_private) {
        reply_topic.n = 0;
    }
    if (reply_topic.n > 0) {
        write_text(w, HG_MQTT_RESPONSE_TOPIC, reply_topic);
    }
    w->failed = w->failed || mapped.failed;
    hg_writer_close(&mapped);
}

static void write_correlation(struct hg_writer *w, const struct hg_message *m)
{
    struct hg_bytes data = hg_message_properties(m)->correlation_id;
    if (data.n == 0) {
        if (hg_message_header(m, CORRELATION_ID) == NULL) {
            return;
        }
        data = header_bytes(m, CORRELATION_ID);
    }
    if (data.n <= UINT16_MAX) {
        hg_mqtt_property_bytes(w, HG_MQTT_CORRELATION_DATA, data);
    }
}

static void write_header(struct hg_writer *w, const struct hg_header *h)
{
    struct hg_writer text = {0};
    hg_value_write_text(&text, &h->value);
    w->failed = w->failed || text.failed;
    write_user(w, h->name, hg_writer_view(&text));
    hg_writer_close(&text);
}

static void write_headers(struct hg_writer *w, const struct hg_message *m)
{
    const struct hg_properties *p = hg_message_properties(m);
    const struct hg_header *users[HG_MQTT_USERS_MAX];
    bool is_sorted;
    size_t n = list_users(p, users, &is_sorted);
    if (n <= HG_MQTT_USERS_MAX) {
        if (is_sorted) {
            restore_order(m, users, n);
        }
        for (size_t i = 0; i < n; i++) {
            write_header(w, users[i]);
        }
        return;
    }
    for (size_t i = 0; i < p->headers_n; i++) { /* an AMQP publisher's */
        if (is_user(p->headers[i].name)) {
            write_header(w, &p->headers[i]);
        }
    }
}

void hg_mqtt_message_out(struct hg_writer *w, const struct hg_rules *rules,
                         const struct hg_message *m, uint32_t left_s, struct hg_bytes reply_topic)
{
    const struct hg_properties *p = hg_message_properties(m);
    const struct hg_value *format = hg_message_header(m, PAYLOAD_FORMAT);
    if (format != NULL && format->kind == HG_VALUE_INT &&
        (format->u.i == 0 || (format->u.i == 1 && hg_utf8_is_valid(hg_message_body(m))))) {
        hg_mqtt_property_u8(w, HG_MQTT_PAYLOAD_FORMAT, (uint8_t)format->u.i);
    }
    if (left_s != UINT32_MAX) {
        hg_mqtt_property_u32(w, HG_MQTT_MESSAGE_EXPIRY, left_s);
    }
    if (p->content_type.n > 0) {
        write_text(w, HG_MQTT_CONTENT_TYPE, p->content_type);
    } else if (hg_message_header(m, CONTENT_TYPE) != NULL) {
        write_text(w, HG_MQTT_CONTENT_TYPE, header_bytes(m, CONTENT_TYPE));
    }
    write_reply(w, rules, m, reply_topic);
    write_correlation(w, m);
    write_named(w, m);
    write_headers(w, m);
}

bool hg_mqtt_message_has_private_reply(const struct hg_rules *rules, const struct hg_message *m)
{
    struct hg_writer mapped = {0};
    bool is_private;
    (void)map_reply(rules, m, &mapped, &is_private);
    hg_writer_close(&mapped);
    return is_private;
}
