/* SPDX-License-Identifier: Apache-2.0 */
/* MQTT control packets. Numbers in square brackets are the conformance statements of MQTT 3.1.1, or
 * of 5.0 where they follow "5.0". What breaks the layout is MALFORMED, what breaks its meaning a
 * PROTOCOL_ERROR (5.0 section 4.13), as far as 5.0 says which; 3.1.1 knows no difference. */
#include "adapters/mqtt/mqtt_codec.h"

#include "adapters/mqtt/mqtt_property.h"
#include "adapters/mqtt/mqtt_reason.h"
#include "message/topic.h"

/* ---- Reading fields ---- */

/* The rest of one packet. After the first failure err.rule is set and nothing more is read. */
struct cursor {
    struct hg_bytes rest;
    size_t at; /* of rest, in the input */
    struct hg_error err;
    uint8_t level;
    uint8_t flags; /* of the fixed header */
};

/* `back_n`: bytes read since the field that is wrong began. */
static void fail(struct cursor *c, enum hg_status status, size_t back_n, const char *rule)
{
    if (c->err.rule == NULL) {
        (void)hg_error_set(&c->err, status, rule, c->at - back_n);
    }
}

static bool has_failed(const struct cursor *c)
{
    return c->err.rule != NULL;
}

static struct hg_bytes take(struct cursor *c, size_t n)
{
    if (c->rest.n < n) {
        fail(c, HG_MALFORMED, 0, "a field reaches past the end of its packet");
    }
    if (has_failed(c)) {
        return HG_BYTES("");
    }
    struct hg_bytes taken = hg_bytes(c->rest.p, n);
    c->rest = hg_bytes_skip(c->rest, n);
    c->at += n;
    return taken;
}

static uint8_t read_u8(struct cursor *c)
{
    struct hg_bytes b = take(c, 1);
    return b.n == 0 ? 0 : b.p[0];
}

static uint16_t read_u16(struct cursor *c)
{
    struct hg_bytes b = take(c, 2);
    return (uint16_t)(b.n == 0 ? 0 : b.p[0] << 8 | b.p[1]);
}

static struct hg_bytes read_binary(struct cursor *c)
{
    return take(c, read_u16(c));
}

static bool is_printable_ascii(struct hg_bytes b)
{
    for (size_t i = 0; i < b.n; i++) {
        if (b.p[i] < 0x20 || b.p[i] > 0x7e) {
            return false;
        }
    }
    return true;
}

/* Ill-formed UTF-8 and U+0000 end the connection [MQTT-1.5.3-1, -2]. Other control characters and
 * noncharacters may (section 1.5.3): clients end theirs when they get one, so none is let in. */
static struct hg_bytes read_string(struct cursor *c, const char *rule)
{
    struct hg_bytes s = read_binary(c);
    if (!is_printable_ascii(s) && !hg_utf8_is_clean(s)) {
        fail(c, HG_MALFORMED, s.n, rule);
    }
    return s;
}

static uint16_t read_packet_id(struct cursor *c)
{
    uint16_t id = read_u16(c);
    if (id == 0) {
        fail(c, HG_MALFORMED, 2, "a packet identifier must not be 0"); /* [MQTT-2.3.1-1] */
    }
    return id;
}

/* 5.0 section 2.2.2: a length, then as many bytes of properties. `command`: as
 * hg_mqtt_property_check wants it. Below 5.0 there are none. */
static struct hg_bytes read_properties(struct cursor *c, uint8_t command)
{
    uint32_t n = 0;
    if (c->level < HG_MQTT_V50 || has_failed(c)) {
        return HG_BYTES("");
    }
    int digits_n = hg_mqtt_varint_decode(c->rest, &n);
    if (digits_n <= 0) {
        fail(c, HG_MALFORMED, 0, "the length of the properties is malformed");
        return HG_BYTES("");
    }
    (void)take(c, (size_t)digits_n);
    struct hg_bytes properties = take(c, n);
    struct hg_error err;
    if (hg_mqtt_property_check(command, properties, &err) < 0) {
        fail(c, err.status, properties.n - err.at, err.rule);
    }
    return properties;
}

/* ---- CONNECT (section 3.1) ---- */

enum {
    CLEAN = 0x02,
    WILL = 0x04,
    WILL_QOS = 0x18,
    WILL_RETAIN = 0x20,
    PASSWORD = 0x40,
    USER = 0x80
};

static void read_connect_flags(struct cursor *c, struct hg_mqtt_connect *out)
{
    uint8_t flags = read_u8(c);
    out->is_clean = (flags & CLEAN) != 0;
    out->has_will = (flags & WILL) != 0;
    out->will_qos = (uint8_t)((flags & WILL_QOS) >> 3);
    out->will_retain = (flags & WILL_RETAIN) != 0;
    out->has_user = (flags & USER) != 0;
    out->has_password = (flags & PASSWORD) != 0;
    const char *rule = NULL;
    if ((flags & 1) != 0 && c->level >= HG_MQTT_V311) {
        rule = "the reserved CONNECT flag must be 0"; /* [MQTT-3.1.2-3] */
    } else if (out->will_qos == 3) {
        rule = "the will's QoS must not be 3"; /* [MQTT-3.1.2-14] */
    } else if (!out->has_will && (out->will_qos != 0 || out->will_retain)) {
        rule = "without a will, its QoS and retain flags must be 0"; /* [MQTT-3.1.2-13, -15] */
    } else if (out->has_password && !out->has_user && c->level < HG_MQTT_V50) {
        rule = "a password needs a user name"; /* [MQTT-3.1.2-22] */
    }
    if (rule != NULL) {
        fail(c, HG_MALFORMED, 1, rule);
    }
}

static void read_will(struct cursor *c, struct hg_mqtt_connect *out)
{
    out->will_properties = read_properties(c, 0);
    out->will_topic = read_string(c, "the will topic is not clean UTF-8");
    if (out->will_topic.n == 0) {
        fail(c, HG_BAD_ADDRESS, 0, "a will topic must not be empty"); /* [MQTT-4.7.3-1] */
    }
    if (hg_topic_has_wildcard(out->will_topic)) {
        fail(c, HG_BAD_ADDRESS, out->will_topic.n, "a will topic must not hold wildcards");
    }
    out->will_payload = read_binary(c);
}

static void decode_connect(struct cursor *c, struct hg_mqtt_packet *packet)
{
    struct hg_mqtt_connect *out = &packet->u.connect;
    struct hg_bytes name = read_binary(c);
    bool is_old = hg_bytes_eq(name, HG_BYTES("MQIsdp")); /* MQTT 3.1 */
    if (!is_old && !hg_bytes_eq(name, HG_BYTES("MQTT"))) {
        fail(c, HG_MALFORMED, name.n, "the protocol name must be MQTT"); /* [MQTT-3.1.2-1] */
    }
    out->level = read_u8(c);
    out->is_supported = is_old ? out->level == HG_MQTT_V31
                               : out->level == HG_MQTT_V311 || out->level == HG_MQTT_V50;
    if (!out->is_supported) {
        c->rest.n = 0; /* laid out in a way that is not known here */
        return;
    }
    c->level = out->level;
    read_connect_flags(c, out);
    out->keep_alive_s = read_u16(c);
    out->properties = read_properties(c, HG_MQTT_CONNECT << 4);
    out->client_id = read_string(c, "the client identifier is not clean UTF-8");
    if (out->has_will) {
        read_will(c, out);
    }
    /* In 3.1 (section 3.1) the remaining length takes precedence over these two flags. */
    bool may_lack = is_old && c->rest.n == 0;
    out->has_user = out->has_user && !may_lack;
    if (out->has_user) {
        out->user = read_string(c, "the user name is not clean UTF-8");
    }
    may_lack = is_old && c->rest.n == 0;
    out->has_password = out->has_password && !may_lack;
    if (out->has_password) {
        out->password = read_binary(c);
    }
}

/* ---- PUBLISH and its acknowledgements (sections 3.3 to 3.7) ---- */

static void decode_publish(struct cursor *c, struct hg_mqtt_packet *packet)
{
    struct hg_mqtt_publish *out = &packet->u.publish;
    out->is_dup = (c->flags & 8) != 0;
    out->qos = (c->flags >> 1) & 3;
    out->is_retained = (c->flags & 1) != 0;
    out->topic = read_string(c, "the topic is not clean UTF-8");
    if (hg_topic_has_wildcard(out->topic)) { /* [MQTT-3.3.2-2] */
        fail(c, HG_BAD_ADDRESS, out->topic.n, "a topic must not hold wildcards");
    }
    if (out->topic.n == 0 && c->level < HG_MQTT_V50) {
        fail(c, HG_BAD_ADDRESS, 0, "a topic must not be empty"); /* [MQTT-4.7.3-1] */
    }
    if (out->qos > 0) {
        out->packet_id = read_packet_id(c);
    }
    out->properties = read_properties(c, HG_MQTT_PUBLISH << 4);
    if (out->topic.n == 0 && !has_failed(c)) { /* 5.0 section 3.3.2.1 */
        struct hg_mqtt_properties properties;
        hg_mqtt_property_read(out->properties, &properties);
        if (properties.topic_alias == 0) {
            fail(c, HG_PROTOCOL_ERROR, out->properties.n,
                 "a topic must not be empty without a topic alias");
        }
    }
    out->payload = take(c, c->rest.n);
}

/* 5.0: a reason and properties, both of which may be left out together (sections 3.4.2, 3.14.2,
 * 3.15.2), or the properties alone. */
static uint8_t read_reason(struct cursor *c, enum hg_mqtt_type type, struct hg_bytes *properties)
{
    uint8_t reason = c->rest.n > 0 ? read_u8(c) : HG_MQTT_SUCCESS;
    if (c->level == HG_MQTT_V50 && !hg_mqtt_reason_is_from_client(type, reason)) {
        fail(c, HG_PROTOCOL_ERROR, c->rest.n > 0 || reason != 0,
             "a reason code that a client cannot send in this packet");
    }
    *properties = c->rest.n > 0 ? read_properties(c, (uint8_t)(type << 4)) : HG_BYTES("");
    return reason;
}

static void decode_ack(struct cursor *c, struct hg_mqtt_packet *packet)
{
    struct hg_mqtt_ack *out = &packet->u.ack;
    out->packet_id = read_packet_id(c);
    out->reason = read_reason(c, packet->type, &out->properties);
}

/* ---- SUBSCRIBE and UNSUBSCRIBE (sections 3.8 and 3.10) ---- */

enum { NO_LOCAL = 0x04, RETAIN_AS_PUBLISHED = 0x08, RETAIN_HANDLING = 0x30, RESERVED = 0xc0 };

/* Section 4.7.1: a wildcard fills its level, `#` only the last one. */
static bool is_well_formed(struct hg_bytes filter)
{
    struct hg_bytes level;
    bool has_more = true;
    while (hg_topic_next(&filter, &has_more, '/', &level)) {
        if (hg_topic_has_wildcard(level) && (level.n > 1 || (level.p[0] == '#' && has_more))) {
            return false;
        }
    }
    return true;
}

/* What is wrong with the filter; NULL: nothing. *is_shared_out: it begins with `$share/` (5.0). */
static const char *check_filter(const struct cursor *c, struct hg_bytes filter, bool *is_shared_out)
{
    static const char *const prefix = "$share/";
    *is_shared_out = c->level == HG_MQTT_V50 && hg_bytes_starts(filter, hg_bytes_str(prefix));
    if (*is_shared_out) { /* 5.0 section 4.8.2 */
        filter = hg_bytes_skip(filter, strlen(prefix));
        size_t group_n = hg_bytes_index(filter, '/');
        if (group_n == 0 || hg_topic_has_wildcard(hg_bytes(filter.p, group_n))) {
            return "a shared subscription needs a name without wildcards"; /* 5.0 [MQTT-4.8.2-1] */
        }
        if (filter.n - group_n < 2) {
            return "a shared subscription needs a filter behind its name"; /* 5.0 [MQTT-4.8.2-2] */
        }
        filter = hg_bytes_skip(filter, group_n + 1);
    }
    if (filter.n == 0) {
        return "a topic filter must not be empty"; /* [MQTT-4.7.3-1] */
    }
    return is_well_formed(filter) ? NULL /* [MQTT-4.7.1-1] */
                                  : "a topic filter has a wildcard where none may be";
}

static void check_options(struct cursor *c, uint8_t options, bool is_shared)
{
    bool is_new = c->level == HG_MQTT_V50;
    if ((options & (is_new ? RESERVED : 0xfc)) != 0) { /* [MQTT-3.8.3-4] */
        fail(c, HG_MALFORMED, 1,
             is_new ? "reserved subscription options must be 0"
                    : "a requested QoS must be 0, 1 or 2");
    }
    if ((options & 3) == 3) {
        fail(c, is_new ? HG_PROTOCOL_ERROR : HG_MALFORMED, 1, "a requested QoS must be 0, 1 or 2");
    }
    if ((options & RETAIN_HANDLING) == RETAIN_HANDLING) {
        fail(c, HG_PROTOCOL_ERROR, 1, "retain handling must be 0, 1 or 2");
    }
    if (is_shared && (options & NO_LOCAL) != 0) { /* 5.0 [MQTT-3.8.3-4] */
        fail(c, HG_PROTOCOL_ERROR, 1, "a shared subscription must not be no-local");
    }
}

static void decode_subscribe(struct cursor *c, struct hg_mqtt_packet *packet)
{
    struct hg_mqtt_subscribe *out = &packet->u.subscribe;
    out->packet_id = read_packet_id(c);
    out->properties = read_properties(c, (uint8_t)(packet->type << 4));
    out->filters = c->rest;
    while (c->rest.n > 0 && !has_failed(c)) {
        struct hg_bytes filter = read_string(c, "a topic filter is not clean UTF-8");
        bool is_shared;
        const char *rule = check_filter(c, filter, &is_shared);
        if (rule != NULL) {
            fail(c, HG_BAD_FILTER, filter.n, rule);
        }
        if (packet->type == HG_MQTT_SUBSCRIBE) {
            check_options(c, read_u8(c), is_shared);
        }
        out->filters_n++;
    }
    if (out->filters_n == 0) { /* [MQTT-3.8.3-3], [MQTT-3.10.3-2] */
        fail(c, HG_PROTOCOL_ERROR, 0,
             packet->type == HG_MQTT_SUBSCRIBE ? "SUBSCRIBE must have a topic filter"
                                               : "UNSUBSCRIBE must have a topic filter");
    }
}

bool hg_mqtt_next_filter(struct hg_bytes *rest, enum hg_mqtt_type type, struct hg_mqtt_filter *out)
{
    struct cursor c = {.rest = *rest};
    if (rest->n == 0) {
        return false;
    }
    out->filter = read_binary(&c);
    uint8_t options = type == HG_MQTT_SUBSCRIBE ? read_u8(&c) : 0;
    out->qos = options & 3;
    out->is_no_local = (options & NO_LOCAL) != 0;
    out->is_retain_as_published = (options & RETAIN_AS_PUBLISHED) != 0;
    out->retain_handling = (uint8_t)((options & RETAIN_HANDLING) >> 4);
    *rest = c.rest;
    return true;
}

/* ---- The others ---- */

static void decode_empty(struct cursor *c, struct hg_mqtt_packet *packet)
{
    (void)c;
    (void)packet;
}

/* DISCONNECT, AUTH: sections 3.14 and 3.15 of 5.0. */
static void decode_end(struct cursor *c, struct hg_mqtt_packet *packet)
{
    struct hg_mqtt_end *out = &packet->u.end;
    out->reason = read_reason(c, packet->type, &out->properties);
}

/* ---- The packet as a whole ---- */

enum {
    ANY = -1,
    /* Five strings and what is before them (section 3.1): a stranger gets no more memory. What 5.0
     * adds has room in that. */
    CONNECT_MAX_BYTES = 12 + 5 * (2 + UINT16_MAX)
};

struct form { /* what a packet's fixed header must say, and who reads the rest */
    void (*decode)(struct cursor *c, struct hg_mqtt_packet *packet); /* NULL: no client sends it */
    int flags;                                                       /* [MQTT-2.2.2-1], or ANY */
    int remaining;                                                   /* or ANY */
    uint8_t remaining_level; /* the highest in which `remaining` is the only length */
    const char *flags_rule, *remaining_rule;
};

/* clang-format off */
static const struct form forms[16] = {
    [HG_MQTT_CONNECT]     = {decode_connect,   0,   ANY, 0, "CONNECT flags must be 0000",     NULL},
    [HG_MQTT_PUBLISH]     = {decode_publish,   ANY, ANY, 0, NULL,                             NULL},
    [HG_MQTT_PUBACK]      = {decode_ack,       0,   2,   4, "PUBACK flags must be 0000",      "PUBACK must have 2 bytes"},
    [HG_MQTT_PUBREC]      = {decode_ack,       0,   2,   4, "PUBREC flags must be 0000",      "PUBREC must have 2 bytes"},
    [HG_MQTT_PUBREL]      = {decode_ack,       2,   2,   4, "PUBREL flags must be 0010",      "PUBREL must have 2 bytes"},
    [HG_MQTT_PUBCOMP]     = {decode_ack,       0,   2,   4, "PUBCOMP flags must be 0000",     "PUBCOMP must have 2 bytes"},
    [HG_MQTT_SUBSCRIBE]   = {decode_subscribe, 2,   ANY, 0, "SUBSCRIBE flags must be 0010",   NULL},
    [HG_MQTT_UNSUBSCRIBE] = {decode_subscribe, 2,   ANY, 0, "UNSUBSCRIBE flags must be 0010", NULL},
    [HG_MQTT_PINGREQ]     = {decode_empty,     0,   0,   5, "PINGREQ flags must be 0000",     "PINGREQ must be empty"},
    [HG_MQTT_DISCONNECT]  = {decode_end,       0,   0,   4, "DISCONNECT flags must be 0000",  "DISCONNECT must be empty"},
    [HG_MQTT_AUTH]        = {decode_end,       0,   ANY, 0, "AUTH flags must be 0000",        NULL},
};
/* clang-format on */

/* Whether the client may send a packet of this type now; NULL if it may. */
static const char *check_type(const struct hg_mqtt_decoder *dec, enum hg_mqtt_type type)
{
    if (dec->level == 0 && type != HG_MQTT_CONNECT) {
        return "the first packet must be CONNECT"; /* [MQTT-3.1.0-1] */
    }
    if (dec->level != 0 && type == HG_MQTT_CONNECT) {
        return "CONNECT must be sent only once"; /* [MQTT-3.1.0-2] */
    }
    bool is_sent =
        forms[type].decode != NULL && (type != HG_MQTT_AUTH || dec->level == HG_MQTT_V50);
    return is_sent ? NULL : "a packet type that clients do not send";
}

static const char *check_flags(const struct hg_mqtt_decoder *dec, enum hg_mqtt_type type,
                               uint8_t flags)
{
    const struct form *form = &forms[type];
    if (type == HG_MQTT_PUBLISH) {
        uint8_t qos = (flags >> 1) & 3;
        if (qos == 0) {
            return flags >= 8 ? "DUP must be 0 where the QoS is 0" : NULL; /* [MQTT-3.3.1-2] */
        }
        return qos == 3 ? "QoS must be 0, 1 or 2" : NULL; /* [MQTT-3.3.1-4] */
    }
    if (form->flags == 2 && dec->level == HG_MQTT_V31) {
        flags &= 7; /* 3.1 has DUP on these three */
    }
    return flags == form->flags ? NULL : form->flags_rule;
}

/* Section 2.2.3. Bytes of the fixed header; 0 if incomplete, -1 if malformed. */
static int read_head(struct hg_bytes in, size_t *remaining_out)
{
    size_t remaining = 0;
    for (size_t i = 1; i < HG_MQTT_HEAD_MAX; i++) {
        if (i >= in.n) {
            return 0;
        }
        remaining |= (size_t)(in.p[i] & 0x7f) << 7 * (i - 1);
        if (in.p[i] < 0x80) {
            *remaining_out = remaining;
            return (int)i + 1;
        }
    }
    return -1;
}

static int refuse(struct hg_mqtt_decoder *dec, struct hg_error *err, enum hg_status status,
                  const char *rule, size_t at)
{
    dec->has_failed = true;
    return hg_error_set(err, status, rule, at);
}

ssize_t hg_mqtt_decode(struct hg_mqtt_decoder *dec, const struct hg_mqtt_limits *limits,
                       struct hg_bytes in, struct hg_mqtt_packet *out, struct hg_error *err)
{
    if (in.n == 0) {
        return 0;
    }
    if (dec->has_failed) {
        return hg_error_set(err, HG_PROTOCOL_ERROR, "an earlier packet was refused", 0);
    }
    enum hg_mqtt_type type = in.p[0] >> 4;
    uint8_t flags = in.p[0] & 0x0f;
    const char *rule = check_type(dec, type);
    if (rule != NULL) {
        return refuse(dec, err, HG_PROTOCOL_ERROR, rule, 0);
    }
    rule = check_flags(dec, type, flags);
    if (rule != NULL) {
        return refuse(dec, err, HG_MALFORMED, rule, 0);
    }
    size_t remaining = 0;
    int head_n = read_head(in, &remaining);
    if (head_n < 0) {
        return refuse(dec, err, HG_MALFORMED, "the remaining length has more than 4 bytes", 1);
    }
    if (head_n == 0) {
        return 0;
    }
    if (dec->level == HG_MQTT_V50 && head_n > 2 && in.p[head_n - 1] == 0) { /* 5.0 [MQTT-1.5.5-1] */
        return refuse(dec, err, HG_MALFORMED, "the remaining length is longer than it must be", 1);
    }
    const struct form *form = &forms[type];
    if (form->remaining != ANY && dec->level <= form->remaining_level &&
        remaining != (size_t)form->remaining) {
        return refuse(dec, err, HG_MALFORMED, form->remaining_rule, 1);
    }
    if (type == HG_MQTT_CONNECT && remaining > CONNECT_MAX_BYTES) {
        return refuse(dec, err, HG_TOO_LARGE, "CONNECT is larger than its fields can be", 1);
    }
    if (remaining + (size_t)head_n > limits->max_packet_bytes) {
        return refuse(dec, err, HG_TOO_LARGE, "the packet exceeds the limit on packets", 1);
    }
    if (in.n - (size_t)head_n < remaining) {
        return 0;
    }
    struct cursor c = {.rest = hg_bytes(in.p + head_n, remaining),
                       .at = (size_t)head_n,
                       .level = dec->level,
                       .flags = flags};
    *out = (struct hg_mqtt_packet){.type = type};
    form->decode(&c, out);
    if (c.rest.n > 0) {
        fail(&c, HG_MALFORMED, 0, "the packet has bytes after its last field");
    }
    dec->level = c.level;
    if (has_failed(&c)) {
        return refuse(dec, err, c.err.status, c.err.rule, c.err.at);
    }
    dec->has_failed = dec->level == 0; /* a version of which nothing more is understood */
    return head_n + (ssize_t)remaining;
}

/* ---- Encoding ---- */

static uint8_t first_byte(enum hg_mqtt_type type)
{
    return (uint8_t)(type << 4 | (type == HG_MQTT_PUBREL ? 2 : 0)); /* [MQTT-3.6.1-1] */
}

static void write_head(struct hg_writer *w, uint8_t first, size_t remaining)
{
    uint8_t head[HG_MQTT_HEAD_MAX] = {first};
    hg_writer_bytes(w, hg_bytes(head, 1 + hg_mqtt_varint_encode(head + 1, (uint32_t)remaining)));
}

/* Bytes of the properties with their length. */
static size_t properties_bytes(uint8_t level, struct hg_bytes properties)
{
    if (level != HG_MQTT_V50) {
        return 0;
    }
    uint8_t digits[HG_MQTT_VARINT_MAX];
    return hg_mqtt_varint_encode(digits, (uint32_t)properties.n) + properties.n;
}

static void write_properties(struct hg_writer *w, uint8_t level, struct hg_bytes properties)
{
    if (level == HG_MQTT_V50) {
        uint8_t digits[HG_MQTT_VARINT_MAX];
        size_t n = hg_mqtt_varint_encode(digits, (uint32_t)properties.n);
        hg_writer_bytes(w, hg_bytes(digits, n));
        hg_writer_bytes(w, properties);
    }
}

struct hg_bytes hg_mqtt_encode_ack(uint8_t out[HG_MQTT_SMALL_MAX], uint8_t level,
                                   enum hg_mqtt_type type, uint16_t packet_id, uint8_t reason)
{
    bool has_reason = level == HG_MQTT_V50 && reason != HG_MQTT_SUCCESS;
    const uint8_t packet[] = {first_byte(type), has_reason ? 3 : 2, (uint8_t)(packet_id >> 8),
                              (uint8_t)packet_id, reason};
    memcpy(out, packet, sizeof(packet));
    return hg_bytes(out, has_reason ? 5 : 4);
}

struct hg_bytes hg_mqtt_encode_pingresp(uint8_t out[HG_MQTT_SMALL_MAX])
{
    out[0] = first_byte(HG_MQTT_PINGRESP);
    out[1] = 0;
    return hg_bytes(out, 2);
}

void hg_mqtt_write_connack(struct hg_writer *w, uint8_t level, bool is_session_present,
                           uint8_t code, struct hg_bytes properties)
{
    write_head(w, first_byte(HG_MQTT_CONNACK), 2 + properties_bytes(level, properties));
    hg_writer_u8(w, is_session_present);
    hg_writer_u8(w, code);
    write_properties(w, level, properties);
}

void hg_mqtt_write_ack(struct hg_writer *w, enum hg_mqtt_type type, uint16_t packet_id,
                       uint8_t reason, struct hg_bytes properties)
{
    if (properties.n == 0) { /* may be left out: sections 3.4.2 to 3.7.2 of 5.0 */
        uint8_t small[HG_MQTT_SMALL_MAX];
        hg_writer_bytes(w, hg_mqtt_encode_ack(small, HG_MQTT_V50, type, packet_id, reason));
        return;
    }
    write_head(w, first_byte(type), 3 + properties_bytes(HG_MQTT_V50, properties));
    hg_writer_u16(w, packet_id);
    hg_writer_u8(w, reason);
    write_properties(w, HG_MQTT_V50, properties);
}

void hg_mqtt_write_suback(struct hg_writer *w, uint8_t level, enum hg_mqtt_type type,
                          uint16_t packet_id, struct hg_bytes codes, struct hg_bytes properties)
{
    if (type == HG_MQTT_UNSUBACK && level < HG_MQTT_V50) {
        codes.n = 0;
    }
    write_head(w, first_byte(type), 2 + properties_bytes(level, properties) + codes.n);
    hg_writer_u16(w, packet_id);
    write_properties(w, level, properties);
    hg_writer_bytes(w, codes);
}

void hg_mqtt_write_end(struct hg_writer *w, enum hg_mqtt_type type, uint8_t reason,
                       struct hg_bytes properties)
{
    if (properties.n > 0) {
        write_head(w, first_byte(type), 1 + properties_bytes(HG_MQTT_V50, properties));
        hg_writer_u8(w, reason);
        write_properties(w, HG_MQTT_V50, properties);
        return;
    }
    write_head(w, first_byte(type), reason != HG_MQTT_SUCCESS);
    if (reason != HG_MQTT_SUCCESS) {
        hg_writer_u8(w, reason);
    }
}

bool hg_mqtt_write_publish(struct hg_writer *w, uint8_t level, const struct hg_mqtt_publish *p)
{
    if (p->topic.n > HG_TOPIC_MAX_BYTES || p->properties.n > HG_MQTT_REMAINING_MAX / 2) {
        return false;
    }
    size_t fixed_n = 2 + p->topic.n + (p->qos > 0 ? 2 : 0) + properties_bytes(level, p->properties);
    if (p->payload.n > HG_MQTT_REMAINING_MAX - fixed_n) {
        return false;
    }
    size_t all_n = HG_MQTT_HEAD_MAX + fixed_n + p->payload.n;
    if (w->buf == NULL && !w->failed) {
        w->buf = hg_buf_new(all_n); /* to size: it may be shared for long */
    }
    write_head(w, (uint8_t)(HG_MQTT_PUBLISH << 4 | p->is_dup << 3 | p->qos << 1 | p->is_retained),
               fixed_n + p->payload.n);
    hg_writer_u16(w, (uint16_t)p->topic.n);
    hg_writer_bytes(w, p->topic);
    if (p->qos > 0) {
        hg_writer_u16(w, p->packet_id);
    }
    write_properties(w, level, p->properties);
    hg_writer_bytes(w, p->payload);
    return true;
}
