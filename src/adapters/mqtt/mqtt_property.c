/* SPDX-License-Identifier: Apache-2.0 */
/* MQTT 5.0 properties. Which of them a packet may have is libmosquitto's public check; numbers in
 * square brackets are the conformance statements of MQTT 5.0. */
#include "adapters/mqtt/mqtt_property.h"

#include "base/check.h"
#include "base/utf8.h"
#include "message/topic.h"

#include <mosquitto.h>

enum { PUBLISH_COMMAND = 0x30, WILL_COMMAND = 0x100 /* libmosquitto's for a will's properties */ };

enum form { NONE, FLAG, U16, U32, VARINT, TEXT, BINARY, PAIR };

struct spec { /* of one property: section 2.2.2.2 */
    uint8_t form;
    uint8_t zero_status;   /* enum hg_status; of zero_rule */
    uint16_t field;        /* offset in struct hg_mqtt_properties */
    const char *zero_rule; /* NULL: it may be 0 */
};

/* clang-format off */
#define FIELD(name) offsetof(struct hg_mqtt_properties, name)
static const struct spec specs[] = {
    [HG_MQTT_PAYLOAD_FORMAT]             = {FLAG,   0, FIELD(payload_format), NULL},
    [HG_MQTT_MESSAGE_EXPIRY]             = {U32,    0, FIELD(message_expiry_s), NULL},
    [HG_MQTT_CONTENT_TYPE]               = {TEXT,   0, FIELD(content_type), NULL},
    [HG_MQTT_RESPONSE_TOPIC]             = {TEXT,   HG_PROTOCOL_ERROR, FIELD(response_topic), "a response topic must not be empty"},
    [HG_MQTT_CORRELATION_DATA]           = {BINARY, 0, FIELD(correlation_data), NULL},
    [HG_MQTT_SUBSCRIPTION_ID]            = {VARINT, HG_PROTOCOL_ERROR, FIELD(subscription_id), "a subscription identifier must not be 0"},
    [HG_MQTT_SESSION_EXPIRY]             = {U32,    0, FIELD(session_expiry_s), NULL},
    [HG_MQTT_ASSIGNED_CLIENT_ID]         = {TEXT,   0, FIELD(assigned_client_id), NULL},
    [HG_MQTT_SERVER_KEEP_ALIVE]          = {U16,    0, FIELD(server_keep_alive_s), NULL},
    [HG_MQTT_AUTH_METHOD]                = {TEXT,   0, FIELD(auth_method), NULL},
    [HG_MQTT_AUTH_DATA]                  = {BINARY, 0, FIELD(auth_data), NULL},
    [HG_MQTT_REQUEST_PROBLEM]            = {FLAG,   0, FIELD(request_problem), NULL},
    [HG_MQTT_WILL_DELAY]                 = {U32,    0, FIELD(will_delay_s), NULL},
    [HG_MQTT_REQUEST_RESPONSE]           = {FLAG,   0, FIELD(request_response), NULL},
    [HG_MQTT_RESPONSE_INFORMATION]       = {TEXT,   0, FIELD(response_information), NULL},
    [HG_MQTT_SERVER_REFERENCE]           = {TEXT,   0, FIELD(server_reference), NULL},
    [HG_MQTT_REASON_STRING]              = {TEXT,   0, FIELD(reason_string), NULL},
    [HG_MQTT_RECEIVE_MAXIMUM]            = {U16,    HG_PROTOCOL_ERROR, FIELD(receive_maximum), "a receive maximum must not be 0"},
    [HG_MQTT_TOPIC_ALIAS_MAXIMUM]        = {U16,    0, FIELD(topic_alias_maximum), NULL},
    [HG_MQTT_TOPIC_ALIAS]                = {U16,    HG_BAD_ALIAS, FIELD(topic_alias), "a topic alias must not be 0"},
    [HG_MQTT_MAXIMUM_QOS]                = {FLAG,   0, FIELD(maximum_qos), NULL},
    [HG_MQTT_RETAIN_AVAILABLE]           = {FLAG,   0, FIELD(retain_available), NULL},
    [HG_MQTT_USER_PROPERTY]              = {PAIR,   0, 0, NULL},
    [HG_MQTT_MAXIMUM_PACKET_SIZE]        = {U32,    HG_PROTOCOL_ERROR, FIELD(max_packet_bytes), "a maximum packet size must not be 0"},
    [HG_MQTT_WILDCARD_AVAILABLE]         = {FLAG,   0, FIELD(wildcard_available), NULL},
    [HG_MQTT_SUBSCRIPTION_IDS_AVAILABLE] = {FLAG,   0, FIELD(subscription_ids_available), NULL},
    [HG_MQTT_SHARED_AVAILABLE]           = {FLAG,   0, FIELD(shared_available), NULL},
};
#undef FIELD
/* clang-format on */

/* ---- Variable byte integers ---- */

size_t hg_mqtt_varint_encode(uint8_t out[HG_MQTT_VARINT_MAX], uint32_t v)
{
    size_t n = 0;
    HG_CHECK(v < 1U << 28);
    do {
        uint8_t digit = v & 0x7f;
        v >>= 7;
        out[n++] = v > 0 ? digit | 0x80 : digit;
    } while (v > 0);
    return n;
}

int hg_mqtt_varint_decode(struct hg_bytes in, uint32_t *out)
{
    uint32_t v = 0;
    for (size_t i = 0; i < HG_MQTT_VARINT_MAX; i++) {
        if (i >= in.n) {
            return 0;
        }
        v |= (uint32_t)(in.p[i] & 0x7f) << 7 * i;
        if (in.p[i] < 0x80) {
            *out = v;
            return i > 0 && in.p[i] == 0 ? -1 : (int)i + 1; /* the shortest form [MQTT-1.5.5-1] */
        }
    }
    return -1;
}

/* ---- Reading ---- */

struct property {
    uint8_t id;
    uint32_t number;             /* FLAG to VARINT; else the length of text */
    struct hg_bytes text, value; /* value: of a PAIR */
};

/* 2 bytes of length and as many as they say. */
static bool take_bytes(struct hg_bytes *rest, struct hg_bytes *out)
{
    size_t n = rest->n < 2 ? 0 : (size_t)(rest->p[0] << 8 | rest->p[1]);
    if (rest->n < 2 || rest->n - 2 < n) {
        return false;
    }
    *out = hg_bytes(rest->p + 2, n);
    *rest = hg_bytes_skip(*rest, 2 + n);
    return true;
}

static bool take_number(struct hg_bytes *rest, size_t n, uint32_t *out)
{
    *out = 0;
    if (rest->n < n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        *out = *out << 8 | rest->p[i];
    }
    *rest = hg_bytes_skip(*rest, n);
    return true;
}

static bool take_varint(struct hg_bytes *rest, uint32_t *out)
{
    int n = hg_mqtt_varint_decode(*rest, out);
    *rest = hg_bytes_skip(*rest, n > 0 ? (size_t)n : 0);
    return n > 0;
}

/* Takes the next property, of a known form; false if its bytes are not all there. */
static bool take_property(struct hg_bytes *rest, struct property *out)
{
    out->id = rest->p[0];
    *rest = hg_bytes_skip(*rest, 1);
    bool is_whole = false;
    switch ((enum form)specs[out->id].form) {
    case FLAG: return take_number(rest, 1, &out->number);
    case U16: return take_number(rest, 2, &out->number);
    case U32: return take_number(rest, 4, &out->number);
    case VARINT: return take_varint(rest, &out->number);
    case TEXT:
    case BINARY: is_whole = take_bytes(rest, &out->text); break;
    case PAIR: is_whole = take_bytes(rest, &out->text) && take_bytes(rest, &out->value); break;
    case NONE: HG_CHECK(false);
    }
    out->number = is_whole ? (uint32_t)out->text.n : 0;
    return is_whole;
}

/* Where each may stand is checked before its value. */
static const char *check_identifier(uint8_t command, uint8_t id, uint64_t seen,
                                    enum hg_status *status)
{
    *status = HG_MALFORMED;
    if (id >= sizeof(specs) / sizeof(specs[0]) || specs[id].form == NONE) {
        return "a property that does not exist";
    }
    int packet = command == 0 ? WILL_COMMAND : command;
    bool is_overlooked = packet == WILL_COMMAND && id == HG_MQTT_REASON_STRING;
    if (is_overlooked || mosquitto_property_check_command(packet, id) != MOSQ_ERR_SUCCESS) {
        return "a property that this packet cannot have";
    }
    *status = HG_PROTOCOL_ERROR;
    if (id == HG_MQTT_SUBSCRIPTION_ID && command == PUBLISH_COMMAND) {
        return "a client's PUBLISH must not have a subscription identifier"; /* [MQTT-3.3.4-6] */
    }
    return id != HG_MQTT_USER_PROPERTY && (seen >> id & 1) != 0 ? "a property that came before"
                                                                : NULL;
}

static const char *check_value(const struct property *p, enum hg_status *status)
{
    const struct spec *spec = &specs[p->id];
    *status = HG_MALFORMED;
    if ((spec->form == TEXT && !hg_utf8_is_clean(p->text)) ||
        (spec->form == PAIR && !(hg_utf8_is_clean(p->text) && hg_utf8_is_clean(p->value)))) {
        return "a property is not clean UTF-8"; /* [MQTT-1.5.4-1, -2] */
    }
    *status = HG_PROTOCOL_ERROR;
    if (spec->form == FLAG && p->number > 1) {
        return "a property must be 0 or 1";
    }
    if (p->id == HG_MQTT_RESPONSE_TOPIC && hg_topic_has_wildcard(p->text)) {
        return "a response topic must not hold wildcards"; /* [MQTT-3.3.2-14] */
    }
    if (spec->zero_rule != NULL && p->number == 0) {
        *status = spec->zero_status;
        return spec->zero_rule;
    }
    return NULL;
}

int hg_mqtt_property_check(uint8_t command, struct hg_bytes properties, struct hg_error *err)
{
    struct hg_bytes rest = properties;
    uint64_t seen = 0;
    while (rest.n > 0) {
        size_t at = properties.n - rest.n;
        struct property p;
        enum hg_status status;
        const char *rule = check_identifier(command, rest.p[0], seen, &status);
        if (rule != NULL) {
            return hg_error_set(err, status, rule, at);
        }
        if (!take_property(&rest, &p)) {
            return hg_error_set(err, HG_MALFORMED, "a property's value is cut off or malformed",
                                at);
        }
        rule = check_value(&p, &status);
        if (rule != NULL) {
            return hg_error_set(err, status, rule, at);
        }
        seen |= 1ULL << p.id;
    }
    if ((seen >> HG_MQTT_AUTH_DATA & 1) != 0 && (seen >> HG_MQTT_AUTH_METHOD & 1) == 0) {
        return hg_error_set(err, HG_PROTOCOL_ERROR, "authentication data without a method", 0);
    }
    return 0;
}

void hg_mqtt_property_read(struct hg_bytes properties, struct hg_mqtt_properties *out)
{
    *out = (struct hg_mqtt_properties){0};
    while (properties.n > 0) {
        struct property p;
        HG_CHECK(take_property(&properties, &p));
        uint8_t *field = (uint8_t *)out + specs[p.id].field;
        uint8_t u8 = (uint8_t)p.number;
        uint16_t u16 = (uint16_t)p.number;
        switch ((enum form)specs[p.id].form) {
        case FLAG: *field = u8; break;
        case U16: memcpy(field, &u16, sizeof(u16)); break;
        case U32:
        case VARINT: memcpy(field, &p.number, sizeof(p.number)); break;
        case TEXT:
        case BINARY: memcpy(field, &p.text, sizeof(p.text)); break;
        case PAIR: out->users_n++; break;
        case NONE: break;
        }
        out->has |= 1ULL << p.id;
    }
}

bool hg_mqtt_property_next_user(struct hg_bytes *rest, struct hg_bytes *name_out,
                                struct hg_bytes *value_out)
{
    while (rest->n > 0) {
        struct property p;
        HG_CHECK(take_property(rest, &p));
        if (p.id == HG_MQTT_USER_PROPERTY) {
            *name_out = p.text;
            *value_out = p.value;
            return true;
        }
    }
    return false;
}

/* ---- Writing ---- */

void hg_mqtt_property_u8(struct hg_writer *w, enum hg_mqtt_property_id id, uint8_t v)
{
    hg_writer_u8(w, (uint8_t)id);
    hg_writer_u8(w, v);
}

void hg_mqtt_property_u16(struct hg_writer *w, enum hg_mqtt_property_id id, uint16_t v)
{
    hg_writer_u8(w, (uint8_t)id);
    hg_writer_u16(w, v);
}

void hg_mqtt_property_u32(struct hg_writer *w, enum hg_mqtt_property_id id, uint32_t v)
{
    hg_writer_u8(w, (uint8_t)id);
    hg_writer_u32(w, v);
}

void hg_mqtt_property_varint(struct hg_writer *w, enum hg_mqtt_property_id id, uint32_t v)
{
    uint8_t digits[HG_MQTT_VARINT_MAX];
    hg_writer_u8(w, (uint8_t)id);
    hg_writer_bytes(w, hg_bytes(digits, hg_mqtt_varint_encode(digits, v)));
}

static void write_bytes(struct hg_writer *w, struct hg_bytes b)
{
    HG_CHECK(b.n <= UINT16_MAX);
    hg_writer_u16(w, (uint16_t)b.n);
    hg_writer_bytes(w, b);
}

/* What fits into a text of MQTT, without the start of a character that does not. */
static struct hg_bytes cut(struct hg_bytes text)
{
    size_t n = text.n < UINT16_MAX ? text.n : UINT16_MAX;
    while (n < text.n && n > 0 && (text.p[n] & 0xc0) == 0x80) {
        n--;
    }
    return hg_bytes(text.p, n);
}

void hg_mqtt_property_bytes(struct hg_writer *w, enum hg_mqtt_property_id id, struct hg_bytes v)
{
    hg_writer_u8(w, (uint8_t)id);
    write_bytes(w, id == HG_MQTT_REASON_STRING ? cut(v) : v);
}

void hg_mqtt_property_user(struct hg_writer *w, struct hg_bytes name, struct hg_bytes value)
{
    hg_writer_u8(w, HG_MQTT_USER_PROPERTY);
    write_bytes(w, name);
    write_bytes(w, value);
}
