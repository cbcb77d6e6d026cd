/* SPDX-License-Identifier: Apache-2.0 */
/* What a message goes through, one path a function: decoders, the rule table, the subscription index, encoders. guard.py counts
 * the instructions of each under callgrind; the program itself counts allocations. It prints what it was made with, then a line
 * a path: name, rounds, allocations. Inputs are fixed: 128 bytes of body, and what clients usually send around it. */
#include "adapters/http/http_codec.h"
#include "adapters/http/http_encode.h"
#include "adapters/http/http_props.h"
#include "adapters/http/http_uri.h"
#include "adapters/mqtt/mqtt_codec.h"
#include "adapters/stomp/stomp_message.h"
#include "amqp/amqp_channel.h"
#include "base/check.h"
#include "core/fanout.h"
#include "rules/rules.h"
#include "seam/broker.h"
#include "stream/joint.h"
#include "stream/outq.h"
#include "stream/ws_decoder.h"

#include <gnu/libc-version.h>
#include <inttypes.h>
#include <stdio.h>

enum {
    ROUNDS = 1000,
    WARM_ROUNDS = 20,
    BODY_N = 128,
    RULES_N = 1000,
    SUBSCRIPTIONS_N = 10000,
    BATCH = 20,
    QUEUES_N = 10,
    WAVE_N = 8 /* messages that go out together */
};

#define ADDRESS "site/s12/line/line-3/press-4/k100"
#define CLIENT_BODY                                                    \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* Everything the paths need; what one changes, no other reads. */
struct world {
    struct hg_rules *rules;
    struct hg_route route;
    struct hg_trie *trie;
    struct hg_fanout_entry *entries;
    size_t matched_n;
    struct hg_message *message; /* as RabbitMQ delivers it */
    struct hg_writer out, why;
    struct hg_random random;
    struct hg_writer mqtt_in, ws_in;
    struct hg_http_decoder http;
    struct hg_http_date date;
    struct hg_stomp_frame stomp_frame;
    struct hg_ws_decoder *ws;
    struct broker *broker;
    struct hg_amqp_conn *amqp;
    struct hg_amqp_channel *channel;
    struct hg_buf *deliveries; /* BATCH of them */
    size_t delivered_n;
    struct hg_joints joints;
    struct hg_outq queues[QUEUES_N];
};

/* ---- counting allocations: whoever makes them, libraries too ---- */

static uint64_t allocations_n;

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t each);
extern void *__libc_realloc(void *p, size_t n);
void *malloc(size_t n);
void *calloc(size_t n, size_t each);
void *realloc(void *p, size_t n);

void *malloc(size_t n)
{
    allocations_n++;
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t each)
{
    allocations_n++;
    return __libc_calloc(n, each);
}

void *realloc(void *p, size_t n)
{
    allocations_n++;
    return __libc_realloc(p, n);
}

/* ---- MQTT ---- */

static void mqtt_decode(struct world *w)
{
    static const struct hg_mqtt_limits limits = {.max_packet_bytes = 1 << 20};
    struct hg_mqtt_decoder d = {.level = HG_MQTT_V311};
    struct hg_mqtt_packet packet;
    struct hg_error err;
    HG_CHECK(hg_mqtt_decode(&d, &limits, hg_writer_view(&w->mqtt_in), &packet, &err) > 0);
    HG_CHECK(packet.u.publish.payload.n == BODY_N);
}

static void mqtt_encode(struct world *w)
{
    const struct hg_mqtt_publish p = {
        .topic = HG_BYTES(ADDRESS), .payload = HG_BYTES(CLIENT_BODY), .qos = 1, .packet_id = 7};
    hg_writer_reset(&w->out);
    HG_CHECK(hg_mqtt_write_publish(&w->out, HG_MQTT_V311, &p));
}

/* ---- STOMP ---- */

static void stomp_decode(struct world *w)
{
    static const struct hg_stomp_limits limits = {
        .max_frame_bytes = 1 << 20, .max_header_bytes = 8192, .max_headers_n = 64};
    static const uint8_t in[] =
        "SEND\ndestination:/topic/" ADDRESS "\nreceipt:r-17\n"
        "content-type:text/plain\npersistent:true\ncontent-length:128\n\n" CLIENT_BODY;
    struct hg_stomp_decoder d = {0};
    struct hg_stomp_properties properties;
    struct hg_error err;
    const char *why;
    HG_CHECK(hg_stomp_decode(&d, &limits, HG_STOMP_V12, hg_bytes(in, sizeof(in)), &w->stomp_frame,
                             &err) > 0);
    HG_CHECK(hg_stomp_properties_read(&w->stomp_frame, &properties, &why) == HG_OK);
    hg_stomp_properties_close(&properties);
}

static void stomp_encode(struct world *w)
{
    hg_writer_reset(&w->out);
    hg_stomp_write_command(&w->out, HG_STOMP_MESSAGE);
    hg_stomp_write_header(&w->out, HG_STOMP_V12, HG_BYTES("subscription"), HG_BYTES("sub-0"));
    hg_stomp_write_header(&w->out, HG_STOMP_V12, HG_BYTES("destination"), HG_BYTES(ADDRESS));
    hg_stomp_message_write(&w->out, HG_STOMP_V12, w->message);
}

/* ---- HTTP ---- */

static void http_decode(struct world *w)
{
    static const struct hg_http_limits limits = {.max_url_bytes = 8192,
                                                 .max_header_bytes = 16384,
                                                 .max_headers_n = 64,
                                                 .max_body_bytes = 1 << 20};
    static const char in[] =
        "POST /v1/topics/" ADDRESS
        " HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/7.88.1\r\n"
        "Accept: */*\r\nContent-Type: application/json\r\nContent-Length: 128\r\n\r\n" CLIENT_BODY;
    struct hg_bytes rest = hg_bytes_str(in);
    struct hg_http_decoder *d = &w->http;
    struct hg_http_props props;
    struct hg_error err;
    hg_http_decoder_again(d, &limits);
    while (d->state < HG_HTTP_STATE_DONE) {
        ssize_t used_n = hg_http_decode(d, rest, &err);
        HG_CHECK(used_n > 0);
        rest = hg_bytes_skip(rest, (size_t)used_n);
    }
    hg_writer_reset(&w->out);
    HG_CHECK(hg_http_decode_path(hg_bytes_skip(d->head.path, sizeof("/v1/topics/") - 1), &w->out) ==
             NULL);
    hg_writer_reset(&w->why);
    HG_CHECK(hg_http_props_open(&props, &d->head, &w->random, &w->why));
    hg_http_props_close(&props);
    hg_http_decoder_reset(d, 4096);
}

static void http_encode(struct world *w)
{
    hg_writer_reset(&w->out);
    hg_http_write_status(&w->out, 202, hg_http_date(&w->date, 1600000000000));
    hg_http_write_field(&w->out, "Content-Type", HG_BYTES("application/json"));
    hg_http_write_field(&w->out, "Content-Length", HG_BYTES("96"));
    hg_writer_str(&w->out, "\r\n");
}

/* ---- WebSocket ---- */

static void ws_decode(struct world *w)
{
    static const struct hg_ws_limits limits = {.max_message_bytes = 1 << 20};
    struct hg_bytes in = hg_writer_view(&w->ws_in);
    struct hg_bytes payload;
    uint16_t code;
    size_t n = 0;
    while (hg_ws_decoder_next(w->ws, &in, &limits, &payload, &code) == HG_WS_PAYLOAD) {
        n += payload.n;
    }
    HG_CHECK(n == BODY_N);
}

/* ---- AMQP ---- */

/* A message of a client's onto RabbitMQ's connection. */
static void amqp_publish(struct world *w)
{
    struct hg_message *m = hg_message_new(&(struct hg_message_parts){
        .exchange = HG_BYTES("plant"),
        .routing_key = w->route.key,
        .properties = {.delivery_mode = 2, .content_type = HG_BYTES("application/json")},
        .body = HG_BYTES(CLIENT_BODY)});
    HG_CHECK(m != NULL && hg_amqp_basic_publish(w->channel, m) == HG_OK);
    hg_message_unref(m);
    hg_buf_unref(hg_amqp_conn_take_output(w->amqp));
}

/* BATCH deliveries, as a read brings them. */
static void amqp_deliver(struct world *w)
{
    hg_amqp_conn_feed(w->amqp, hg_buf_bytes(w->deliveries), 1000);
    hg_buf_unref(hg_amqp_conn_take_output(w->amqp));
}

/* ---- rules, subscriptions ---- */

static void rule_publish(struct world *w)
{
    HG_CHECK(hg_rules_publish(w->rules, HG_PROTO_MQTT, HG_BYTES(ADDRESS), &w->route) == HG_OK);
}

static void rule_deliver(struct world *w)
{
    size_t rule;
    hg_writer_reset(&w->out);
    HG_CHECK(hg_rules_deliver(w->rules, HG_PROTO_MQTT, w->route.exchange, w->route.key,
                              HG_BYTES(""), &w->out, &rule));
}

static void on_match(void *ctx, struct hg_fanout_entry *entry)
{
    struct world *w = ctx;
    (void)entry;
    w->matched_n++;
}

/* Ten of ten thousand, by three kinds of filter. */
static void fanout(struct world *w)
{
    w->matched_n = 0;
    hg_trie_match(w->trie, HG_BYTES("site/7/line/4/machine/temperature"), on_match, w);
    HG_CHECK(w->matched_n == 10);
}

/* Eight messages that ten clients get alike, from an encoded packet to what the kernel is given. */
static void joint_send(struct world *w)
{
    struct iovec slice;
    struct hg_part part;
    for (int i = 0; i < WAVE_N; i++) {
        HG_CHECK(hg_joint_put(&w->joints, 0, hg_writer_view(&w->mqtt_in), &part));
        for (int k = 0; k < QUEUES_N; k++) {
            HG_CHECK(hg_outq_push(&w->queues[k], &part, 1));
        }
    }
    for (int k = 0; k < QUEUES_N; k++) {
        HG_CHECK(hg_outq_peek(&w->queues[k], &slice, 1) == 1);
        hg_outq_consume(&w->queues[k], slice.iov_len);
        HG_CHECK(hg_outq_is_empty(&w->queues[k]));
    }
    hg_joints_reset(&w->joints);
}

/* ---- each path, by a name that callgrind finds ---- */

#define PATHS(X)    \
    X(mqtt_decode)  \
    X(mqtt_encode)  \
    X(stomp_decode) \
    X(stomp_encode) \
    X(http_decode)  \
    X(http_encode)  \
    X(ws_decode)    \
    X(rule_publish) \
    X(rule_deliver) \
    X(amqp_publish) \
    X(amqp_deliver) \
    X(fanout)       \
    X(joint_send)

#ifdef __clang__
#    define OF_ITS_OWN __attribute__((noinline))
#else
#    define OF_ITS_OWN __attribute__((noipa)) /* nor cloned, which would change its name */
#endif

#define X(name)                                         \
    static OF_ITS_OWN void path_##name(struct world *w) \
    {                                                   \
        for (int i = 0; i < ROUNDS; i++) {              \
            name(w);                                    \
        }                                               \
    }
PATHS(X)
#undef X

static const struct path {
    const char *name;
    void (*warm)(struct world *w);
    void (*run)(struct world *w);
} paths[] = {
#define X(name) {#name, name, path_##name},
    PATHS(X)
#undef X
};

/* ---- the world ---- */

static void open_rules(struct world *w)
{
    static const struct hg_exchange_spec exchange = {"guard", "plant", HG_EXCHANGE_TOPIC};
    static struct hg_rule_spec specs[RULES_N];
    static char patterns[RULES_N][64], keys[RULES_N][64];
    struct hg_writer err = {0};
    for (size_t i = 0; i < RULES_N; i++) {
        (void)snprintf(patterns[i], sizeof(patterns[i]), "site/s%zu/line/{l}/{m}/k%zu", i / 8, i);
        (void)snprintf(keys[i], sizeof(keys[i]), "s%zu.{l}.{m}.k%zu", i / 8, i);
        specs[i] = (struct hg_rule_spec){.where = "guard",
                                         .name = keys[i],
                                         .pattern = {patterns[i], patterns[i], patterns[i]},
                                         .exchange = "plant",
                                         .key = keys[i]};
    }
    w->rules = hg_rules_new(specs, RULES_N, &exchange, 1, &err);
    HG_CHECK(w->rules != NULL);
    hg_writer_close(&err);
    rule_publish(w);
}

static void open_trie(struct world *w)
{
    static const char *const meeting[] = {"site/+/line/4/#", "site/7/line/4/+/temperature",
                                          "+/7/line/4/+/+"};
    static struct hg_fanout_entry entries[SUBSCRIPTIONS_N];
    w->entries = entries;
    w->trie = hg_trie_new(HG_TRIE_ADDRESS);
    HG_CHECK(w->trie != NULL);
    for (size_t i = 0; i < SUBSCRIPTIONS_N; i++) {
        char filter[64];
        if (i % 1000 == 0) {
            (void)snprintf(filter, sizeof(filter), "%s", meeting[i / 1000 % 3]);
        } else {
            (void)snprintf(filter, sizeof(filter),
                           i % 2 == 0 ? "site/%zu/line/1/state" : "site/%zu/line/+/#", i + 1000);
        }
        HG_CHECK(hg_trie_add(w->trie, hg_bytes_str(filter), &entries[i]));
    }
}

static void open_inputs(struct world *w)
{
    const struct hg_header headers[] = {
        {HG_BYTES("x-headgate-from"), {HG_VALUE_STRING, {.bytes = HG_BYTES("client-17")}}}};
    w->message = hg_message_new(
        &(struct hg_message_parts){.exchange = HG_BYTES("plant"),
                                   .routing_key = w->route.key,
                                   .properties = {.delivery_mode = 2,
                                                  .content_type = HG_BYTES("application/json"),
                                                  .headers = headers,
                                                  .headers_n = 1},
                                   .body = HG_BYTES(CLIENT_BODY)});
    HG_CHECK(w->message != NULL);
    const struct hg_mqtt_publish publish = {
        .topic = HG_BYTES(ADDRESS), .payload = HG_BYTES(CLIENT_BODY), .qos = 1, .packet_id = 7};
    HG_CHECK(hg_mqtt_write_publish(&w->mqtt_in, HG_MQTT_V311, &publish));
    static const uint8_t mask[] = {0x12, 0x34, 0x56, 0x78};
    hg_writer_u8(&w->ws_in, 0x82); /* a binary message in one frame */
    hg_writer_u8(&w->ws_in, 0x80 | 126);
    hg_writer_u16(&w->ws_in, BODY_N);
    hg_writer_bytes(&w->ws_in, hg_bytes(mask, sizeof(mask)));
    for (size_t i = 0; i < BODY_N; i++) {
        hg_writer_u8(&w->ws_in, (uint8_t)(CLIENT_BODY[i] ^ mask[i % 4]));
    }
    w->ws = hg_ws_decoder_new();
    HG_CHECK(w->ws != NULL);
}

static void no_open(void *ctx)
{
    (void)ctx;
}
static void no_close(void *ctx, const struct hg_amqp_close *why)
{
    (void)ctx;
    (void)why;
}
static void no_blocked(void *ctx, bool is_blocked, struct hg_bytes reason)
{
    (void)ctx;
    (void)is_blocked;
    (void)reason;
}
static void no_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    (void)ctx;
    (void)cookie;
    (void)reply;
}
static void on_delivery(void *ctx, const struct hg_amqp_delivery *delivery)
{
    struct world *w = ctx;
    w->delivered_n += hg_message_body(delivery->message).n == BODY_N;
}

static void pump(struct world *w)
{
    struct hg_buf *to_broker;
    while ((to_broker = hg_amqp_conn_take_output(w->amqp)) != NULL) {
        broker_feed(w->broker, hg_buf_bytes(to_broker));
        hg_buf_unref(to_broker);
        struct hg_buf *back = broker_take_output(w->broker);
        if (back != NULL) {
            hg_amqp_conn_feed(w->amqp, hg_buf_bytes(back), 1000);
        }
        hg_buf_unref(back);
    }
}

static void open_amqp(struct world *w)
{
    static const struct hg_amqp_conn_ops conn_ops = {
        .on_open = no_open, .on_close = no_close, .on_blocked = no_blocked, .on_output = no_open};
    static const struct hg_amqp_channel_ops channel_ops = {
        .on_reply = no_reply, .on_close = no_close, .on_delivery = on_delivery};
    static const struct hg_amqp_conn_config config = {.vhost = "/",
                                                      .user = "guest",
                                                      .password = "guest",
                                                      .name = "guard",
                                                      .frame_max = 131072,
                                                      .channel_max = 2047,
                                                      .max_body_bytes = 1 << 24};
    static struct broker broker;
    w->broker = &broker;
    broker_open(&broker);
    w->amqp = hg_amqp_conn_new(&config, &conn_ops, w);
    HG_CHECK(w->amqp != NULL);
    hg_amqp_conn_start(w->amqp, 1000);
    pump(w);
    w->channel = hg_amqp_channel_open(w->amqp, &channel_ops, w, 0);
    HG_CHECK(w->channel != NULL);
    pump(w);
    for (uint64_t tag = 1; tag <= BATCH; tag++) {
        broker_deliver(&broker, hg_amqp_channel_number(w->channel), "feed", tag, false, w->message);
    }
    w->deliveries = broker_take_output(&broker);
}

static void close_world(struct world *w)
{
    hg_amqp_conn_free(w->amqp);
    broker_close(w->broker);
    hg_buf_unref(w->deliveries);
    hg_message_unref(w->message);
    hg_ws_decoder_free(w->ws);
    for (size_t i = 0; i < SUBSCRIPTIONS_N; i++) {
        hg_trie_remove(w->trie, &w->entries[i]);
    }
    hg_trie_free(w->trie);
    hg_rules_free(w->rules);
    hg_stomp_frame_close(&w->stomp_frame);
    hg_writer_close(&w->out);
    hg_writer_close(&w->why);
    hg_writer_close(&w->mqtt_in);
    hg_writer_close(&w->ws_in);
    hg_http_decoder_close(&w->http);
}

int main(void)
{
    static struct world w;
#ifdef __clang__
    printf("clang " __clang_version__);
#else
    printf("gcc " __VERSION__);
#endif
    printf(", glibc %s\n", gnu_get_libc_version());
    open_rules(&w);
    open_trie(&w);
    open_inputs(&w);
    open_amqp(&w);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        for (int warm = 0; warm < WARM_ROUNDS; warm++) {
            paths[i].warm(&w);
        }
        uint64_t before = allocations_n;
        paths[i].run(&w);
        printf("%s %d %" PRIu64 "\n", paths[i].name, ROUNDS, allocations_n - before);
    }
    HG_CHECK(w.delivered_n == (size_t)BATCH * (ROUNDS + WARM_ROUNDS));
    close_world(&w);
    return 0;
}
