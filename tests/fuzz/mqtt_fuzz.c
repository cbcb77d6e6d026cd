/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes to the packet decoder, in every version: however they are split the outcome is the same,
 * what is decoded keeps what the header promises, and what can be written again is written as it
 * was. */
#include "adapters/mqtt/mqtt_codec.h"
#include "adapters/mqtt/mqtt_property.h"
#include "adapters/mqtt/mqtt_reason.h"
#include "base/check.h"
#include "message/topic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct hg_mqtt_limits limits = {.max_packet_bytes = 4096};

/* The next packet of in, arriving in pieces of at most piece_n bytes. As hg_mqtt_decode, but 0
 * means that there is none. */
static ssize_t next(struct hg_mqtt_decoder *dec, struct hg_bytes in, size_t piece_n,
                    struct hg_mqtt_packet *out, struct hg_error *err)
{
    ssize_t used = 0;
    for (size_t n = 0; used == 0 && n < in.n;) {
        n = in.n - n < piece_n ? in.n : n + piece_n;
        used = hg_mqtt_decode(dec, &limits, hg_bytes(in.p, n), out, err);
        HG_CHECK(used <= (ssize_t)n);
    }
    return used;
}

/* Properties that were let through can be read. */
static void check_properties(uint8_t command, struct hg_bytes properties)
{
    struct hg_mqtt_properties p;
    struct hg_error err;
    struct hg_bytes name;
    struct hg_bytes value;
    uint32_t users_n = 0;
    HG_CHECK(hg_mqtt_property_check(command, properties, &err) == 0);
    hg_mqtt_property_read(properties, &p);
    while (hg_mqtt_property_next_user(&properties, &name, &value)) {
        HG_CHECK(hg_utf8_is_clean(name) && hg_utf8_is_clean(value));
        users_n++;
    }
    HG_CHECK(users_n == p.users_n && hg_utf8_is_clean(p.content_type));
    HG_CHECK(!hg_topic_has_wildcard(p.response_topic) && p.payload_format <= 1);
    HG_CHECK(hg_mqtt_property_has(&p, HG_MQTT_TOPIC_ALIAS) == (p.topic_alias != 0));
    HG_CHECK(hg_mqtt_property_has(&p, HG_MQTT_RECEIVE_MAXIMUM) == (p.receive_maximum != 0));
    HG_CHECK(hg_mqtt_property_has(&p, HG_MQTT_SUBSCRIPTION_ID) == (p.subscription_id != 0));
}

static void check_connect(const struct hg_mqtt_connect *c)
{
    if (c->is_supported) {
        HG_CHECK(hg_utf8_is_clean(c->client_id) && hg_utf8_is_clean(c->user));
        HG_CHECK(!c->has_will || (c->will_topic.n > 0 && !hg_topic_has_wildcard(c->will_topic)));
        HG_CHECK(c->will_qos <= 2 && (c->has_user || !c->has_password || c->level != HG_MQTT_V311));
        HG_CHECK(c->level == HG_MQTT_V50 || (c->properties.n == 0 && c->will_properties.n == 0));
        check_properties(HG_MQTT_CONNECT << 4, c->properties);
        check_properties(0, c->will_properties);
    }
}

/* Bytes that differ only in how many of them the remaining length took are equal. */
static void check_written(struct hg_bytes packet, struct hg_bytes written)
{
    HG_CHECK(written.n <= packet.n && packet.p[0] == written.p[0]);
    size_t at = 1;
    while (written.p[at++] >= 0x80) {
    }
    struct hg_bytes rest = hg_bytes_skip(written, at);
    HG_CHECK(hg_bytes_eq(hg_bytes_skip(packet, packet.n - rest.n), rest));
}

static void check_publish(uint8_t level, struct hg_bytes packet, const struct hg_mqtt_publish *p)
{
    HG_CHECK(hg_utf8_is_clean(p->topic) && !hg_topic_has_wildcard(p->topic));
    HG_CHECK(p->topic.n > 0 || level == HG_MQTT_V50);
    HG_CHECK(p->qos <= 2 && (p->qos > 0) == (p->packet_id > 0));
    check_properties(HG_MQTT_PUBLISH << 4, p->properties);
    struct hg_writer w = {0};
    HG_CHECK(hg_mqtt_write_publish(&w, level, p) && !w.failed);
    check_written(packet, hg_writer_view(&w));
    hg_writer_close(&w);
}

/* A reason and properties may have been left out where they say nothing: then less was read. */
static void check_ack(uint8_t level, struct hg_bytes packet, enum hg_mqtt_type type,
                      const struct hg_mqtt_ack *ack)
{
    struct hg_writer w = {0};
    HG_CHECK(ack->packet_id > 0);
    HG_CHECK(level == HG_MQTT_V50 ? hg_mqtt_reason_is_from_client(type, ack->reason)
                                  : ack->reason == 0 && ack->properties.n == 0);
    check_properties((uint8_t)(type << 4), ack->properties);
    hg_mqtt_write_ack(&w, type, ack->packet_id, ack->reason, ack->properties);
    if (ack->properties.n > 0) {
        check_written(packet, hg_writer_view(&w));
    }
    hg_writer_close(&w);
}

static void check_end(enum hg_mqtt_type type, const struct hg_mqtt_end *end)
{
    HG_CHECK(hg_mqtt_reason_is_from_client(type, end->reason));
    check_properties((uint8_t)(type << 4), end->properties);
}

static void check_subscribe(const struct hg_mqtt_packet *packet)
{
    const struct hg_mqtt_subscribe *s = &packet->u.subscribe;
    const struct hg_topic_limits wide = {HG_TOPIC_MAX_BYTES, HG_TOPIC_MAX_LEVELS};
    struct hg_bytes rest = s->filters;
    struct hg_mqtt_filter f;
    size_t n = 0;
    HG_CHECK(s->packet_id > 0 && s->filters_n > 0);
    while (hg_mqtt_next_filter(&rest, packet->type, &f)) {
        const char *wrong = hg_topic_check_filter(f.filter, &wide);
        HG_CHECK(f.retain_handling <= 2);
        HG_CHECK(f.qos <= 2 && (wrong == NULL || strcmp(wrong, "has too many levels") == 0));
        n++;
    }
    HG_CHECK(n == s->filters_n);
    check_properties((uint8_t)(packet->type << 4), s->properties);
}

static void check(uint8_t level, struct hg_bytes bytes, const struct hg_mqtt_packet *packet)
{
    switch (packet->type) {
    case HG_MQTT_CONNECT: check_connect(&packet->u.connect); break;
    case HG_MQTT_PUBLISH: check_publish(level, bytes, &packet->u.publish); break;
    case HG_MQTT_SUBSCRIBE:
    case HG_MQTT_UNSUBSCRIBE: check_subscribe(packet); break;
    case HG_MQTT_PUBACK:
    case HG_MQTT_PUBREC:
    case HG_MQTT_PUBREL:
    case HG_MQTT_PUBCOMP: check_ack(level, bytes, packet->type, &packet->u.ack); break;
    case HG_MQTT_DISCONNECT:
    case HG_MQTT_AUTH: check_end(packet->type, &packet->u.end); break;
    default: HG_CHECK(packet->type == HG_MQTT_PINGREQ); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2) {
        return 0;
    }
    struct hg_bytes in = hg_bytes(data + 2, n - 2);
    /* a connection that has not begun, 3.1, 3.1.1 or 5.0 */
    struct hg_mqtt_decoder whole = {.level = data[0] % 4 == 0 ? 0 : (uint8_t)(2 + data[0] % 4)};
    struct hg_mqtt_decoder split = whole;
    for (;;) {
        struct hg_mqtt_packet packet;
        struct hg_mqtt_packet again;
        struct hg_error err = {0};
        struct hg_error err_again = {0};
        ssize_t used = next(&whole, in, in.n + 1, &packet, &err);
        ssize_t used_again = next(&split, in, 1 + data[1] % 7u, &again, &err_again);
        HG_CHECK(used == used_again && whole.level == split.level);
        if (used <= 0) {
            HG_CHECK(used == 0 || (err.rule == err_again.rule && err.at <= in.n));
            return 0;
        }
        HG_CHECK(packet.type == again.type);
        check(whole.level, hg_bytes(in.p, (size_t)used), &packet);
        in = hg_bytes_skip(in, (size_t)used);
    }
}
