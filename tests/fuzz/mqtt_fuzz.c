/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes to the packet decoder: however they are split the outcome is the same, what is decoded
 * keeps what the header promises, and what can be written again is written as it was. */
#include "adapters/mqtt/mqtt_codec.h"
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

static void check_connect(const struct hg_mqtt_connect *c)
{
    if (c->is_supported) {
        HG_CHECK(hg_utf8_is_clean(c->client_id) && hg_utf8_is_clean(c->user));
        HG_CHECK(!c->has_will || (c->will_topic.n > 0 && !hg_topic_has_wildcard(c->will_topic)));
        HG_CHECK(c->will_qos <= 2 && (c->has_user || !c->has_password || c->level == HG_MQTT_V31));
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

static void check_publish(struct hg_bytes packet, const struct hg_mqtt_publish *p)
{
    HG_CHECK(p->topic.n > 0 && hg_utf8_is_clean(p->topic) && !hg_topic_has_wildcard(p->topic));
    HG_CHECK(p->qos <= 2 && (p->qos > 0) == (p->packet_id > 0));
    struct hg_writer w = {0};
    HG_CHECK(hg_mqtt_write_publish(&w, p) && !w.failed);
    check_written(packet, hg_writer_view(&w));
    struct hg_mqtt_publish bare = {.topic = p->topic, .payload = p->payload};
    hg_writer_reset(&w);
    HG_CHECK(hg_mqtt_write_publish(&w, &bare));
    struct hg_mqtt_shared shared = hg_mqtt_share(hg_writer_view(&w));
    HG_CHECK(hg_bytes_eq(hg_bytes_skip(shared.topic, 2), p->topic));
    HG_CHECK(hg_bytes_eq(shared.payload, p->payload));
    hg_writer_close(&w);
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
        HG_CHECK(f.qos <= 2 && (wrong == NULL || strcmp(wrong, "has too many levels") == 0));
        n++;
    }
    HG_CHECK(n == s->filters_n);
}

static void check(struct hg_bytes bytes, const struct hg_mqtt_packet *packet)
{
    uint8_t room[HG_MQTT_SMALL_MAX];
    switch (packet->type) {
    case HG_MQTT_CONNECT: check_connect(&packet->u.connect); break;
    case HG_MQTT_PUBLISH: check_publish(bytes, &packet->u.publish); break;
    case HG_MQTT_SUBSCRIBE:
    case HG_MQTT_UNSUBSCRIBE: check_subscribe(packet); break;
    case HG_MQTT_PUBACK:
    case HG_MQTT_PUBREC:
    case HG_MQTT_PUBCOMP:
        check_written(bytes, hg_mqtt_encode_ack(room, packet->type, packet->u.ack.packet_id));
        break;
    default: HG_CHECK(packet->type == HG_MQTT_PUBREL || bytes.n >= 2); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2) {
        return 0;
    }
    struct hg_bytes in = hg_bytes(data + 2, n - 2);
    /* 3.1, 3.1.1, or a connection that has not begun */
    struct hg_mqtt_decoder whole = {.level = data[0] % 3 == 0 ? 0 : (uint8_t)(2 + data[0] % 3)};
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
        check(hg_bytes(in.p, (size_t)used), &packet);
        in = hg_bytes_skip(in, (size_t)used);
    }
}
