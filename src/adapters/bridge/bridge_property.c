/* SPDX-License-Identifier: Apache-2.0 */
/* Properties there and back. */
#include "adapters/bridge/bridge_property.h"

#include "message/expiry.h"
#include "message/topic.h"

#include <mqtt_protocol.h>

#include <stdio.h>

enum { SHORT_MAX = 255, BINARY_MAX = 65535, MS_PER_S = 1000 };
#define CORRELATION_ID HG_BYTES("x-correlation-id") /* what AMQP's property cannot hold */

/* ---- From the site ---- */

static struct hg_bytes own(struct hg_bridge_inbound *in, void *p, size_t n)
{
    in->owned[in->owned_n++] = p;
    return hg_bytes(p, n);
}

static void add_header(struct hg_bridge_inbound *in, struct hg_bytes name, struct hg_bytes value)
{
    enum hg_value_kind kind = hg_utf8_is_valid(value) ? HG_VALUE_STRING : HG_VALUE_BINARY;
    in->headers[in->properties.headers_n++] =
        (struct hg_header){name, {.kind = kind, .u.bytes = value}};
}

static void read_content_type(struct hg_bridge_inbound *in, const mosquitto_property *p)
{
    char *text = NULL;
    if (mosquitto_property_read_string(p, MQTT_PROP_CONTENT_TYPE, &text, false) != NULL) {
        struct hg_bytes value = own(in, text, strlen(text));
        in->properties.content_type = value.n <= SHORT_MAX ? value : HG_BYTES("");
    }
}

static void read_correlation(struct hg_bridge_inbound *in, const mosquitto_property *p)
{
    void *data = NULL;
    uint16_t n = 0;
    if (mosquitto_property_read_binary(p, MQTT_PROP_CORRELATION_DATA, &data, &n, false) == NULL) {
        return;
    }
    struct hg_bytes value = own(in, data, n);
    if (n <= SHORT_MAX && hg_utf8_is_valid(value)) {
        in->properties.correlation_id = value;
    } else {
        add_header(in, CORRELATION_ID, value);
    }
}

static void read_expiry(struct hg_bridge_inbound *in, const mosquitto_property *p)
{
    uint32_t seconds = 0;
    if (mosquitto_property_read_int32(p, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL, &seconds, false) !=
        NULL) {
        int n = snprintf(in->expiration, sizeof(in->expiration), "%llu",
                         (unsigned long long)seconds * MS_PER_S);
        in->properties.expiration = hg_bytes(in->expiration, (size_t)n);
    }
}

static void read_user(struct hg_bridge_inbound *in, const mosquitto_property *p)
{
    char *name = NULL;
    char *value = NULL;
    if (mosquitto_property_read_string_pair(p, MQTT_PROP_USER_PROPERTY, &name, &value, false) ==
        NULL) {
        return;
    }
    struct hg_bytes name_text = own(in, name, strlen(name));
    struct hg_bytes value_text = own(in, value, strlen(value));
    if (name_text.n > 0 && name_text.n <= SHORT_MAX) {
        add_header(in, name_text, value_text);
    }
}

void hg_bridge_property_read(struct hg_bridge_inbound *in, const mosquitto_property *list)
{
    unsigned users_n = 0;
    in->properties = (struct hg_properties){.headers = in->headers};
    in->owned_n = 0;
    for (const mosquitto_property *p = list; p != NULL; p = mosquitto_property_next(p)) {
        switch (mosquitto_property_identifier(p)) {
        case MQTT_PROP_CONTENT_TYPE: read_content_type(in, p); break;
        case MQTT_PROP_CORRELATION_DATA: read_correlation(in, p); break;
        case MQTT_PROP_MESSAGE_EXPIRY_INTERVAL: read_expiry(in, p); break;
        case MQTT_PROP_USER_PROPERTY:
            if (users_n++ < HG_BRIDGE_USERS_MAX) {
                read_user(in, p);
            }
            break;
        default: break;
        }
    }
}

/* The library has a public function for memory of its own only inside a message. */
static void give_back(void *p)
{
    struct mosquitto_message carrier = {.payload = p};
    mosquitto_message_free_contents(&carrier);
}

void hg_bridge_property_close(struct hg_bridge_inbound *in)
{
    while (in->owned_n > 0) {
        give_back(in->owned[--in->owned_n]);
    }
}

/* ---- To the site ---- */

/* Refusals of a value's form leave it out; false when there is no memory. */
static bool is_fine(int rc)
{
    return rc != MOSQ_ERR_NOMEM;
}

static bool add_string(mosquitto_property **list, int id, struct hg_bytes text)
{
    struct hg_writer w = {0};
    if (text.n == 0 || !hg_utf8_is_clean(text)) {
        return true;
    }
    hg_writer_bytes(&w, text);
    hg_writer_u8(&w, '\0');
    const char *copy = (const char *)hg_writer_view(&w).p;
    bool ok = !w.failed && is_fine(mosquitto_property_add_string(list, id, copy));
    hg_writer_close(&w);
    return ok;
}

static bool add_correlation(mosquitto_property **list, const struct hg_message *m)
{
    const struct hg_value *header = hg_message_header(m, CORRELATION_ID);
    struct hg_bytes data = hg_message_properties(m)->correlation_id;
    if (data.n == 0 && header != NULL &&
        (header->kind == HG_VALUE_STRING || header->kind == HG_VALUE_BINARY)) {
        data = header->u.bytes;
    }
    return data.n == 0 || data.n > BINARY_MAX ||
           is_fine(mosquitto_property_add_binary(list, MQTT_PROP_CORRELATION_DATA, data.p,
                                                 (uint16_t)data.n));
}

static bool add_user(mosquitto_property **list, const struct hg_header *h)
{
    struct hg_writer w = {0};
    hg_writer_bytes(&w, h->name);
    hg_writer_u8(&w, '\0');
    size_t value_at = hg_writer_n(&w);
    hg_value_write_text(&w, &h->value);
    hg_writer_u8(&w, '\0');
    struct hg_bytes both = hg_writer_view(&w);
    bool ok = !w.failed;
    if (ok && hg_utf8_is_clean(h->name) &&
        hg_utf8_is_clean(hg_bytes(both.p + value_at, both.n - value_at - 1))) {
        const char *text = (const char *)both.p;
        ok = is_fine(mosquitto_property_add_string_pair(list, MQTT_PROP_USER_PROPERTY, text,
                                                        text + value_at));
    }
    hg_writer_close(&w);
    return ok;
}

bool hg_bridge_property_write(const struct hg_message *m, uint64_t left_ms,
                              mosquitto_property **list_out)
{
    const struct hg_properties *p = hg_message_properties(m);
    *list_out = NULL;
    bool ok = add_string(list_out, MQTT_PROP_CONTENT_TYPE, p->content_type) &&
              add_correlation(list_out, m);
    if (ok && left_ms != HG_EXPIRY_NONE) {
        uint64_t seconds = (left_ms + MS_PER_S - 1) / MS_PER_S;
        ok = is_fine(
            mosquitto_property_add_int32(list_out, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL,
                                         seconds > UINT32_MAX ? UINT32_MAX : (uint32_t)seconds));
    }
    for (size_t i = 0; ok && i < p->headers_n && i < HG_BRIDGE_USERS_MAX; i++) {
        const struct hg_header *h = &p->headers[i];
        if (!hg_header_is_reserved(h->name) && !hg_bytes_eq(h->name, CORRELATION_ID)) {
            ok = add_user(list_out, h);
        }
    }
    if (!ok) {
        mosquitto_property_free_all(list_out);
    }
    return ok;
}
