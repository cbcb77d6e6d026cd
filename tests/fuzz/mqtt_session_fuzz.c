/* SPDX-License-Identifier: Apache-2.0 */
/* A whole MQTT session between a client that sends anything and a RabbitMQ that does anything it may:
 * nothing is read outside its bounds, nothing is left behind, and what the client gets are whole
 * packets that a server sends, each in the form of the client's version. */
#include "adapters/mqtt/mqtt_codec.h"
#include "adapters/mqtt/mqtt_property.h"
#include "adapters/mqtt/mqtt_reason.h"
#include "adapters/mqtt/mqtt_session.h"
#include "base/check.h"
#include "core/session.h"
#include "seam/core_fake.h"
#include "seam/core_state.h"
#include "seam/seam.h"

#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return setenv("CMOCKA_TEST_ABORT", "1", 1); /* the fake core's assertions */
}

/* The next byte of the input, 0 at its end. */
static uint8_t next(struct hg_bytes *in)
{
    uint8_t byte = in->n == 0 ? 0 : in->p[0];
    *in = hg_bytes_skip(*in, in->n == 0 ? 0 : 1);
    return byte;
}

static enum hg_status next_outcome(struct hg_bytes *in)
{
    static const enum hg_status outcomes[] = {HG_OK,          HG_OK,         HG_UNROUTABLE,
                                              HG_REJECTED,    HG_TIMED_OUT,  HG_BROKER_AWAY,
                                              HG_NO_EXCHANGE, HG_NOT_ALLOWED};
    return outcomes[next(in) % (sizeof(outcomes) / sizeof(outcomes[0]))];
}

/* ---- What the client gets ---- */

/* Properties with their length; a server's: subscription identifiers may come in a PUBLISH, and
 * several times, which hg_mqtt_property_check lets no client do. */
static struct hg_bytes check_properties(enum hg_mqtt_type type, struct hg_bytes rest)
{
    uint32_t n;
    int digits_n = hg_mqtt_varint_decode(rest, &n);
    HG_CHECK(digits_n > 0 && rest.n - (size_t)digits_n >= n);
    struct hg_bytes properties = hg_bytes(rest.p + digits_n, n);
    struct hg_mqtt_properties p;
    struct hg_error err;
    if (type != HG_MQTT_PUBLISH) {
        HG_CHECK(hg_mqtt_property_check((uint8_t)(type << 4), properties, &err) == 0);
    }
    hg_mqtt_property_read(properties, &p);
    return hg_bytes_skip(rest, (size_t)digits_n + n);
}

static void check_sent_publish(bool is_new, uint8_t flags, struct hg_bytes rest)
{
    uint8_t qos = flags >> 1 & 3;
    HG_CHECK(qos <= 2 && (qos > 0 || flags < 8) && rest.n >= 2);
    size_t head_n = 2U + (size_t)(rest.p[0] << 8 | rest.p[1]) + (qos > 0 ? 2U : 0U);
    HG_CHECK(rest.n >= head_n && (is_new || head_n > 2U + (qos > 0 ? 2U : 0U)));
    if (qos > 0) {
        HG_CHECK(rest.p[head_n - 2] != 0 || rest.p[head_n - 1] != 0);
    }
    if (is_new) {
        (void)check_properties(HG_MQTT_PUBLISH, hg_bytes_skip(rest, head_n));
    }
}

static void check_sent_ack(bool is_new, enum hg_mqtt_type type, struct hg_bytes rest)
{
    HG_CHECK(is_new ? rest.n >= 2 : rest.n == 2);
    HG_CHECK(rest.n == 2 || hg_mqtt_reason_is_allowed(type, rest.p[2]));
    HG_CHECK(rest.n <= 3 || check_properties(type, hg_bytes_skip(rest, 3)).n == 0);
}

static void check_sent_codes(bool is_new, enum hg_mqtt_type type, struct hg_bytes rest)
{
    HG_CHECK(rest.n >= 2);
    rest = hg_bytes_skip(rest, 2);
    if (is_new) {
        rest = check_properties(type, rest);
        HG_CHECK(rest.n > 0);
        for (size_t i = 0; i < rest.n; i++) {
            HG_CHECK(hg_mqtt_reason_is_allowed(type, rest.p[i]));
        }
    }
}

static void check_packet(bool is_new, uint8_t first, struct hg_bytes rest)
{
    enum hg_mqtt_type type = first >> 4;
    switch (type) {
    case HG_MQTT_CONNACK:
        HG_CHECK(rest.n >= 2 && rest.p[0] <= 1 && (rest.p[1] == 0 || rest.p[0] == 0));
        HG_CHECK(!is_new || rest.n == 2 || check_properties(type, hg_bytes_skip(rest, 2)).n == 0);
        break;
    case HG_MQTT_PUBLISH: check_sent_publish(is_new, first & 15, rest); break;
    case HG_MQTT_PUBACK:
    case HG_MQTT_PUBREC:
    case HG_MQTT_PUBREL:
    case HG_MQTT_PUBCOMP: check_sent_ack(is_new, type, rest); break;
    case HG_MQTT_SUBACK:
    case HG_MQTT_UNSUBACK: check_sent_codes(is_new, type, rest); break;
    case HG_MQTT_PINGRESP: HG_CHECK(rest.n == 0); break;
    case HG_MQTT_DISCONNECT:
        HG_CHECK(is_new && (rest.n == 0 || hg_mqtt_reason_is_allowed(type, rest.p[0])));
        HG_CHECK(rest.n <= 1 || check_properties(type, hg_bytes_skip(rest, 1)).n == 0);
        break;
    default: HG_CHECK(false);
    }
}

/* ---- What happens ---- */

struct play {
    struct core_fake f;
    struct hg_bytes in;          /* what is left of the input */
    bool is_new[CORE_CONNS_MAX]; /* connections whose client speaks 5.0 */
    size_t conns_n, at;          /* at: f.conn's place */
};

static void check_sent(struct play *p)
{
    struct hg_session *s = core_session(p->f.conn);
    struct hg_session_info info;
    if (s != NULL) {
        s->ops->describe(s, &info);
        p->is_new[p->at] = strcmp(info.version, "5.0") == 0;
    }
    struct hg_bytes sent = core_sent(&p->f);
    while (sent.n > 0) {
        uint32_t n = 0;
        int digits_n = hg_mqtt_varint_decode(hg_bytes_skip(sent, 1), &n);
        size_t head_n = 1 + (size_t)digits_n;
        HG_CHECK(digits_n > 0 && sent.n - head_n >= n);
        check_packet(p->is_new[p->at], sent.p[0], hg_bytes(sent.p + head_n, n));
        sent = hg_bytes_skip(sent, head_n + n);
    }
    core_forget(&p->f);
}

static void feed(struct play *p)
{
    size_t n = next(&p->in);
    n = n < p->in.n ? n : p->in.n;
    core_feed(&p->f, hg_bytes(p->in.p, n));
    p->in = hg_bytes_skip(p->in, n);
    check_sent(p);
    core_turn(&p->f);
}

/* Another connection, a new one or one that is there. */
static void change_connection(struct play *p)
{
    uint8_t which = next(&p->in);
    check_sent(p);
    if (which % 2 == 0 && p->conns_n < CORE_CONNS_MAX) {
        (void)core_connect(&p->f, &hg_mqtt_adapter, NULL);
        p->at = p->conns_n++;
    } else {
        p->at = which / 2 % p->conns_n;
        p->f.conn = p->f.conns[p->at];
    }
}

static void answer(struct play *p)
{
    struct core_fake *f = &p->f;
    uint8_t what = next(&p->in);
    enum hg_status outcome = next_outcome(&p->in);
    if (what % 4 == 0 && core_has_waiting(f)) {
        core_answer(f, 0, outcome, "because");
    } else if (what % 4 == 1 && !hg_list_is_empty(&f->queues)) {
        core_queue_is(f, 0, outcome, "because");
    } else if (what % 4 == 2 && f->state != NULL && core_state_is_asked(f)) {
        core_state_answer(f, outcome == HG_BROKER_AWAY ? outcome : HG_OK);
    } else if (!hg_list_is_empty(&f->publishes)) {
        core_settle(f, 0, outcome, "because");
    }
}

static void deliver(struct play *p)
{
    static const char *const addresses[] = {"t", "a/b", "a", "$x", "\xc3\xa9/", ""};
    static const char *const replies[] = {"", "amq.gen-1", "amq.gen-2", "\xff"};
    const struct hg_header headers[] = {
        {HG_BYTES("x-headgate-qos"), {HG_VALUE_INT, .u.i = 2}},
        {HG_BYTES("x-reply-to-topic"), {HG_VALUE_STRING, .u.bytes = HG_BYTES("a.b")}},
        {HG_BYTES("x-headgate-from"), {HG_VALUE_STRING, .u.bytes = HG_BYTES("c")}},
        {HG_BYTES("h\n"), {HG_VALUE_BINARY, .u.bytes = HG_BYTES("\0\xff")}},
    };
    uint8_t kind = next(&p->in);
    uint8_t more = next(&p->in);
    struct core_delivery d = {
        .address = addresses[kind % (sizeof(addresses) / sizeof(addresses[0]))],
        .exchange = "amq.topic",
        .key = "k",
        .from = (more & 1) != 0 ? core_queue(&p->f, kind / 8 % 2) : NULL,
        .must_keep = (more & 1) != 0,
        .properties = {.delivery_mode = (more & 2) != 0 ? 2 : 1,
                       .reply_to = hg_bytes_str(replies[more >> 2 & 3]),
                       .expiration = (more & 16) != 0 ? HG_BYTES("1") : HG_BYTES(""),
                       .headers = headers,
                       .headers_n = more >> 6 == 3 ? 4 : more >> 6},
        .body = hg_bytes(p->in.p, p->in.n < kind ? p->in.n : kind),
        .is_redelivered = (more & 32) != 0,
    };
    core_deliver(&p->f, &d);
}

static void drain(struct play *p)
{
    p->f.gateway.is_draining = true;
    for (size_t i = 0; i < p->conns_n; i++) {
        struct hg_session *s = core_session(p->f.conns[i]);
        if (s != NULL && !hg_conn_is_closing(p->f.conns[i])) {
            s->ops->drain(s);
        }
    }
}

static void step(struct play *p)
{
    switch (next(&p->in) % 8) {
    case 0:
    case 1: feed(p); break;
    case 2: answer(p); break;
    case 3: deliver(p); break;
    case 4: core_pass(&p->f, 64U * next(&p->in)); break;
    case 5: change_connection(p); break;
    case 6: hg_conn_close(p->f.conn, HG_PEER_LOST); break;
    default:
        if (next(&p->in) == 0) {
            drain(p);
        } else {
            core_set_pending(p->f.conn, 1000U * next(&p->in));
        }
        break;
    }
    check_sent(p);
    core_turn(&p->f);
    check_sent(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct play p = {.in = hg_bytes(data, n)};
    uint8_t how = next(&p.in);
    core_open(&p.f);
    if ((how & 1) != 0) {
        core_state_open(&p.f);
    }
    p.f.is_answering = (how & 2) == 0;
    p.f.has_queues = (how & 4) != 0;
    p.f.is_state_held = (how & 8) != 0;
    p.f.on_reject = how >> 4 & 1 ? HG_REJECT_CLOSE : HG_REJECT_WITHHOLD;
    p.f.config.mqtt_sys_interval_ms = 1000;
    (void)core_connect(&p.f, &hg_mqtt_adapter, NULL);
    p.conns_n = 1;
    for (size_t i = 0; i < 200 && p.in.n > 0; i++) {
        step(&p);
    }
    core_close(&p.f);
    HG_CHECK(seam_live() == 0);
    return 0;
}
