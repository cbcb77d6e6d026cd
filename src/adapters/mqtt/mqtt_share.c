/* SPDX-License-Identifier: Apache-2.0 */
/* A message's expiry is the first property of the shared packet: who sends it later than others
 * leaves these bytes out and writes its own. */
#include "adapters/mqtt/mqtt_share.h"

#include "adapters/mqtt/mqtt_codec.h"
#include "base/check.h"

enum { EXPIRY_N = 5 /* bytes of the property */ };

struct hg_buf *hg_mqtt_share_encode(uint8_t level, struct hg_bytes topic,
                                    struct hg_bytes properties, uint32_t expiry_s,
                                    struct hg_bytes payload)
{
    struct hg_writer all = {0};
    struct hg_writer packet = {0};
    struct hg_mqtt_publish publish = {.topic = topic, .payload = payload, .properties = properties};
    struct hg_buf *buf = NULL;
    if (level == HG_MQTT_V50 && expiry_s != UINT32_MAX) {
        hg_mqtt_property_u32(&all, HG_MQTT_MESSAGE_EXPIRY, expiry_s);
        hg_writer_bytes(&all, properties);
        publish.properties = hg_writer_view(&all);
    }
    if (!all.failed && hg_mqtt_write_publish(&packet, level, &publish) && !packet.failed) {
        buf = hg_writer_take(&packet);
    }
    hg_writer_close(&all);
    hg_writer_close(&packet);
    return buf;
}

/* Reads a number of a packet that we have written. */
static uint32_t take_varint(struct hg_bytes *rest)
{
    uint32_t v = 0;
    int n = hg_mqtt_varint_decode(*rest, &v);
    HG_CHECK(n > 0);
    *rest = hg_bytes_skip(*rest, (size_t)n);
    return v;
}

struct hg_mqtt_shared hg_mqtt_share(uint8_t level, struct hg_bytes packet)
{
    struct hg_bytes rest = hg_bytes_skip(packet, 1);
    (void)take_varint(&rest);
    size_t topic_n = 2 + (size_t)(rest.p[0] << 8 | rest.p[1]);
    struct hg_mqtt_shared shared = {.topic = hg_bytes(rest.p, topic_n),
                                    .has_properties = level == HG_MQTT_V50};
    rest = hg_bytes_skip(rest, topic_n);
    if (shared.has_properties) {
        shared.properties_n = take_varint(&rest);
        shared.has_expiry = shared.properties_n > 0 && rest.p[0] == HG_MQTT_MESSAGE_EXPIRY;
    }
    if (shared.has_expiry) {
        shared.properties_n -= EXPIRY_N;
        rest = hg_bytes_skip(rest, EXPIRY_N);
    }
    shared.rest = rest;
    return shared;
}

static void put_u16(uint8_t *out, size_t *n, uint16_t v)
{
    out[(*n)++] = (uint8_t)(v >> 8);
    out[(*n)++] = (uint8_t)v;
}

static void put_u32(uint8_t *out, size_t *n, uint32_t v)
{
    put_u16(out, n, (uint16_t)(v >> 16));
    put_u16(out, n, (uint16_t)v);
}

/* Packet identifier, and the properties as far as they have a length that is known. */
static size_t put_middle(uint8_t out[HG_MQTT_PIECE_MAX], const struct hg_mqtt_shared *shared,
                         const struct hg_mqtt_copy *copy)
{
    size_t n = 0;
    if (copy->qos > 0) {
        put_u16(out, &n, copy->packet_id);
    }
    if (!shared->has_properties) {
        return n;
    }
    size_t properties_n = shared->properties_n + copy->own.n + (shared->has_expiry ? EXPIRY_N : 0) +
                          (copy->topic_alias != 0 ? 3 : 0);
    n += hg_mqtt_varint_encode(out + n, (uint32_t)properties_n);
    if (shared->has_expiry) {
        out[n++] = HG_MQTT_MESSAGE_EXPIRY;
        put_u32(out, &n, copy->expiry_s);
    }
    if (copy->topic_alias != 0) {
        out[n++] = HG_MQTT_TOPIC_ALIAS;
        put_u16(out, &n, copy->topic_alias);
    }
    return n;
}

bool hg_mqtt_share_copy(const struct hg_mqtt_shared *shared, const struct hg_mqtt_copy *copy,
                        struct hg_mqtt_pieces *out)
{
    bool has_topic = copy->has_topic || !shared->has_properties;
    size_t own_n = shared->has_properties ? copy->own.n : 0;
    if (shared->properties_n + own_n > HG_MQTT_REMAINING_MAX - 16) {
        return false; /* their length could not be written */
    }
    size_t middle_n = put_middle(out->middle_bytes, shared, copy);
    size_t remaining = (has_topic ? shared->topic.n : 2) + middle_n + own_n + shared->rest.n;
    if (remaining > HG_MQTT_REMAINING_MAX) {
        return false;
    }
    size_t head_n = 1;
    out->head_bytes[0] =
        (uint8_t)(HG_MQTT_PUBLISH << 4 | copy->is_dup << 3 | copy->qos << 1 | copy->is_retained);
    head_n += hg_mqtt_varint_encode(out->head_bytes + 1, (uint32_t)remaining);
    out->n = head_n + remaining;
    if (!has_topic) {
        put_u16(out->head_bytes, &head_n, 0);
    }
    out->head = hg_bytes(out->head_bytes, head_n);
    out->topic = has_topic ? shared->topic : HG_BYTES("");
    out->middle = hg_bytes(out->middle_bytes, middle_n);
    out->own = hg_bytes(copy->own.p, own_n);
    out->rest = shared->rest;
    return true;
}
