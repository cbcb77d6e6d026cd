/* SPDX-License-Identifier: Apache-2.0 */
/* MQTT control packets. Numbers in square brackets are the conformance statements of MQTT 3.1.1. */
#include "adapters/mqtt/mqtt_codec.h"

#include "message/topic.h"

/* ---- Reading fields ---- */

/* The rest of one packet. After the first failure `rule` is set and nothing more is read. */
struct cursor {
    struct hg_bytes rest;
    size_t at; /* of rest, in the input */
    const char *rule;
    uint8_t level;
    uint8_t flags; /* of the fixed header */
};

static void fail(struct cursor *c, const char *rule)
{
    if (c->rule == NULL) {
        c->rule = rule;
    }
}

/* Like fail, for what has been read already: n bytes back. */
static void fail_back(struct cursor *c, size_t n, const char *rule)
{
    if (c->rule == NULL) {
        c->rule = rule;
        c->at -= n;
    }
}

static struct hg_bytes take(struct cursor *c, size_t n)
{
    if (c->rule == NULL && c->rest.n < n) {
        c->rule = "a field reaches past the end of its packet";
    }
    if (c->rule != NULL) {
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
        fail_back(c, s.n, rule);
    }
    return s;
}

static uint16_t read_packet_id(struct cursor *c)
{
    uint16_t id = read_u16(c);
    if (id == 0) {
        fail_back(c, 2, "a packet identifier must not be 0"); /* [MQTT-2.3.1-1] */
    }
    return id;
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
    if ((flags & 1) != 0 && c->level >= HG_MQTT_V311) {
        fail_back(c, 1, "the reserved CONNECT flag must be 0"); /* [MQTT-3.1.2-3] */
    }
    if (out->will_qos == 3) {
        fail_back(c, 1, "the will's QoS must not be 3"); /* [MQTT-3.1.2-14] */
    }
    if (!out->has_will && (out->will_qos != 0 || out->will_retain)) {
        fail_back(c, 1,
                  "without a will, its QoS and retain flags must be 0"); /* [MQTT-3.1.2-13, -15] */
    }
    if (out->has_password && !out->has_user) {
        fail_back(c, 1, "a password needs a user name"); /* [MQTT-3.1.2-22] */
    }
}

static void read_will(struct cursor *c, struct hg_mqtt_connect *out)
{
    out->will_topic = read_string(c, "the will topic is not clean UTF-8");
    if (out->will_topic.n == 0) {
        fail(c, "a will topic must not be empty"); /* [MQTT-4.7.3-1] */
    }
    if (hg_topic_has_wildcard(out->will_topic)) {
        fail_back(c, out->will_topic.n, "a will topic must not hold wildcards");
    }
    out->will_payload = read_binary(c);
}

static void decode_connect(struct cursor *c, struct hg_mqtt_packet *packet)
{
    struct hg_mqtt_connect *out = &packet->u.connect;
    struct hg_bytes name = read_binary(c);
    bool is_old = hg_bytes_eq(name, HG_BYTES("MQIsdp")); /* MQTT 3.1 */
    if (!is_old && !hg_bytes_eq(name, HG_BYTES("MQTT"))) {
        fail_back(c, name.n, "the protocol name must be MQTT"); /* [MQTT-3.1.2-1] */
    }
    c->level = out->level = read_u8(c);
    out->is_supported = out->level == (is_old ? HG_MQTT_V31 : HG_MQTT_V311);
    if (!out->is_supported) {
        c->rest.n = 0; /* laid out in a way that is not known here */
        return;
    }
    read_connect_flags(c, out);
    out->keep_alive_s = read_u16(c);
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

/* ---- The others ---- */

/* Section 3.3. */
static void decode_publish(struct cursor *c, struct hg_mqtt_packet *packet)
{
    struct hg_mqtt_publish *out = &packet->u.publish;
    out->is_dup = (c->flags & 8) != 0;
    out->qos = (c->flags >> 1) & 3;
    out->is_retained = (c->flags & 1) != 0;
    out->topic = read_string(c, "the topic is not clean UTF-8");
    if (out->topic.n == 0) {
        fail(c, "a topic must not be empty"); /* [MQTT-4.7.3-1] */
    }
    if (hg_topic_has_wildcard(out->topic)) {
        fail_back(c, out->topic.n, "a topic must not hold wildcards"); /* [MQTT-3.3.2-2] */
    }
    if (out->qos > 0) {
        out->packet_id = read_packet_id(c);
    }
    out->payload = take(c, c->rest.n);
}

/* Sections 3.4 to 3.7. */
static void decode_ack(struct cursor *c, struct hg_mqtt_packet *packet)
{
    packet->u.ack.packet_id = read_packet_id(c);
}

static void decode_empty(struct cursor *c, struct hg_mqtt_packet *packet)
{
    (void)c;
    (void)packet;
}

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

/* Sections 3.8 and 3.10. */
static void decode_subscribe(struct cursor *c, struct hg_mqtt_packet *packet)
{
    struct hg_mqtt_subscribe *out = &packet->u.subscribe;
    out->packet_id = read_packet_id(c);
    out->filters = c->rest;
    while (c->rest.n > 0 && c->rule == NULL) {
        struct hg_bytes filter = read_string(c, "a topic filter is not clean UTF-8");
        if (filter.n == 0) {
            fail(c, "a topic filter must not be empty"); /* [MQTT-4.7.3-1] */
        }
        if (!is_well_formed(filter)) {
            fail_back(c, filter.n,
                      "a topic filter has a wildcard where none may be"); /* [MQTT-4.7.1-1] */
        }
        if (packet->type == HG_MQTT_SUBSCRIBE && read_u8(c) > 2) {
            fail_back(c, 1, "a requested QoS must be 0, 1 or 2"); /* [MQTT-3.8.3-4] */
        }
        out->filters_n++;
    }
    if (out->filters_n == 0) { /* [MQTT-3.8.3-3], [MQTT-3.10.3-2] */
        fail(c, packet->type == HG_MQTT_SUBSCRIBE ? "SUBSCRIBE must have a topic filter"
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
    out->qos = type == HG_MQTT_SUBSCRIBE ? read_u8(&c) : 0;
    *rest = c.rest;
    return true;
}

/* ---- The packet as a whole ---- */

enum {
    ANY = -1,
    /* Five strings and what is before them (section 3.1): a stranger gets no more memory. */
    CONNECT_MAX_BYTES = 12 + 5 * (2 + UINT16_MAX)
};

struct form { /* what a packet's fixed header must say, and who reads the rest */
    void (*decode)(struct cursor *c, struct hg_mqtt_packet *packet); /* NULL: no client sends it */
    int flags;                                                       /* [MQTT-2.2.2-1], or ANY */
    int remaining;                                                   /* or ANY */
    const char *flags_rule, *remaining_rule;
};

/* clang-format off */
static const struct form forms[16] = {
    [HG_MQTT_CONNECT]     = {decode_connect,   0,   ANY, "CONNECT flags must be 0000",     NULL},
    [HG_MQTT_PUBLISH]     = {decode_publish,   ANY, ANY, NULL,                             NULL},
    [HG_MQTT_PUBACK]      = {decode_ack,       0,   2,   "PUBACK flags must be 0000",      "PUBACK must have 2 bytes"},
    [HG_MQTT_PUBREC]      = {decode_ack,       0,   2,   "PUBREC flags must be 0000",      "PUBREC must have 2 bytes"},
    [HG_MQTT_PUBREL]      = {decode_ack,       2,   2,   "PUBREL flags must be 0010",      "PUBREL must have 2 bytes"},
    [HG_MQTT_PUBCOMP]     = {decode_ack,       0,   2,   "PUBCOMP flags must be 0000",     "PUBCOMP must have 2 bytes"},
    [HG_MQTT_SUBSCRIBE]   = {decode_subscribe, 2,   ANY, "SUBSCRIBE flags must be 0010",   NULL},
    [HG_MQTT_UNSUBSCRIBE] = {decode_subscribe, 2,   ANY, "UNSUBSCRIBE flags must be 0010", NULL},
    [HG_MQTT_PINGREQ]     = {decode_empty,     0,   0,   "PINGREQ flags must be 0000",     "PINGREQ must be empty"},
    [HG_MQTT_DISCONNECT]  = {decode_empty,     0,   0,   "DISCONNECT flags must be 0000",  "DISCONNECT must be empty"},
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
    return forms[type].decode == NULL ? "a packet type that clients do not send" : NULL;
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
    if (dec->has_failed) {
        return hg_error_set(err, HG_PROTOCOL_ERROR, "an earlier packet was refused", 0);
    }
    if (in.n == 0) {
        return 0;
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
    const struct form *form = &forms[type];
    if (form->remaining != ANY && remaining != (size_t)form->remaining) {
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
        fail(&c, "the packet has bytes after its last field");
    }
    if (c.rule != NULL) {
        return refuse(dec, err, HG_MALFORMED, c.rule, c.at);
    }
    dec->level = c.level;
    return head_n + (ssize_t)remaining;
}

/* ---- Encoding ---- */

static size_t put_head(uint8_t *out, uint8_t first, size_t remaining)
{
    size_t n = 0;
    out[n++] = first;
    do {
        uint8_t digit = remaining & 0x7f;
        remaining >>= 7;
        out[n++] = remaining > 0 ? digit | 0x80 : digit;
    } while (remaining > 0);
    return n;
}

struct hg_bytes hg_mqtt_encode_connack(uint8_t out[HG_MQTT_SMALL_MAX], uint8_t level,
                                       bool is_session_present, uint8_t code)
{
    bool has_properties = level == HG_MQTT_V50; /* of which there are none: a length of 0 */
    const uint8_t packet[] = {HG_MQTT_CONNACK << 4, has_properties ? 3 : 2, is_session_present,
                              code, 0};
    memcpy(out, packet, sizeof(packet));
    return hg_bytes(out, has_properties ? 5 : 4);
}

struct hg_bytes hg_mqtt_encode_ack(uint8_t out[HG_MQTT_SMALL_MAX], enum hg_mqtt_type type,
                                   uint16_t packet_id)
{
    out[0] = (uint8_t)(type << 4 | (type == HG_MQTT_PUBREL ? 2 : 0)); /* [MQTT-3.6.1-1] */
    out[1] = 2;
    out[2] = (uint8_t)(packet_id >> 8);
    out[3] = (uint8_t)packet_id;
    return hg_bytes(out, 4);
}

struct hg_bytes hg_mqtt_encode_pingresp(uint8_t out[HG_MQTT_SMALL_MAX])
{
    out[0] = HG_MQTT_PINGRESP << 4;
    out[1] = 0;
    return hg_bytes(out, 2);
}

void hg_mqtt_write_suback(struct hg_writer *w, uint16_t packet_id, struct hg_bytes codes)
{
    uint8_t head[HG_MQTT_HEAD_MAX];
    hg_writer_bytes(w, hg_bytes(head, put_head(head, HG_MQTT_SUBACK << 4, 2 + codes.n)));
    hg_writer_u16(w, packet_id);
    hg_writer_bytes(w, codes);
}

static uint8_t publish_byte(uint8_t qos, bool is_dup, bool is_retained)
{
    return (uint8_t)(HG_MQTT_PUBLISH << 4 | is_dup << 3 | qos << 1 | is_retained);
}

bool hg_mqtt_write_publish(struct hg_writer *w, const struct hg_mqtt_publish *p)
{
    size_t fixed_n = 2 + p->topic.n + (p->qos > 0 ? 2 : 0);
    if (p->topic.n > HG_TOPIC_MAX_BYTES || p->payload.n > HG_MQTT_REMAINING_MAX - fixed_n) {
        return false;
    }
    uint8_t head[HG_MQTT_HEAD_MAX];
    size_t head_n =
        put_head(head, publish_byte(p->qos, p->is_dup, p->is_retained), fixed_n + p->payload.n);
    if (w->buf == NULL && !w->failed) {
        w->buf =
            hg_buf_new(head_n + fixed_n + p->payload.n); /* to size: it may be shared for long */
    }
    hg_writer_bytes(w, hg_bytes(head, head_n));
    hg_writer_u16(w, (uint16_t)p->topic.n);
    hg_writer_bytes(w, p->topic);
    if (p->qos > 0) {
        hg_writer_u16(w, p->packet_id);
    }
    hg_writer_bytes(w, p->payload);
    return true;
}

struct hg_mqtt_shared hg_mqtt_share(struct hg_bytes packet)
{
    size_t remaining = 0;
    struct hg_bytes rest = hg_bytes_skip(packet, (size_t)read_head(packet, &remaining));
    size_t topic_n = 2 + (size_t)(rest.p[0] << 8 | rest.p[1]);
    return (struct hg_mqtt_shared){.topic = hg_bytes(rest.p, topic_n),
                                   .payload = hg_bytes_skip(rest, topic_n)};
}

bool hg_mqtt_encode_head(uint8_t out[HG_MQTT_HEAD_MAX], const struct hg_mqtt_shared *shared,
                         uint8_t qos, bool is_dup, struct hg_bytes *head_out)
{
    size_t remaining = shared->topic.n + 2 + shared->payload.n;
    if (remaining > HG_MQTT_REMAINING_MAX) {
        return false;
    }
    *head_out = hg_bytes(out, put_head(out, publish_byte(qos, is_dup, false), remaining));
    return true;
}
