/* SPDX-License-Identifier: Apache-2.0 */
/* The connection under test, and the ways to run a scenario. */
#include "rig.h"

#include "base/mem.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

const struct hg_amqp_conn_config rig_config = {
    .vhost = "/",
    .user = "guest",
    .password = "guest",
    .name = "unit",
    .heartbeat_s = 10,
    .frame_max = 4096, /* the least: bodies need not be long to be split */
    .channel_max = 2047,
    .max_body_bytes = 1 << 24,
};

/* -- events ----------------------------------------------------------------------------------- */

static void say(struct rig *r, const char *fmt, ...) HG_PRINTF(2, 3);
static void say(struct rig *r, const char *fmt, ...)
{
    char line[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    assert_int_equal(r->closes_n, 0); /* on_close is the last of all */
    uint8_t *p = r->events.buf == NULL ? NULL : r->events.buf->data + r->events.buf->n;
    if (p != NULL && r->events.buf->cap - r->events.buf->n > strlen(line) + 2) {
        r->events.buf->n += (uint32_t)sprintf((char *)p, "%s\n", line);
    }
    r->events_n++;
    if (r->on_event != NULL) {
        r->on_event(r, line);
    }
}

const char *rig_events(struct rig *r)
{
    static char text[1 << 16];
    struct hg_bytes all = hg_writer_view(&r->events);
    (void)snprintf(text, sizeof text, "%.*s", HG_BYTES_FMT(all));
    r->events.buf->n = 0;
    return text;
}

static void say_message(char *line, size_t n, const struct hg_message *m)
{
    struct hg_bytes body = hg_message_body(m);
    uint32_t sum = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < body.n; i++) {
        sum = (sum ^ body.p[i]) * 16777619u;
    }
    const struct hg_properties *p = hg_message_properties(m);
    struct hg_writer headers = {0};
    for (size_t i = 0; i < p->headers_n; i++) {
        hg_writer_printf(&headers, " %.*s=", HG_BYTES_FMT(p->headers[i].name));
        hg_value_write_text(&headers, &p->headers[i].value);
    }
    (void)snprintf(line, n, "%.*s %.*s [%.*s] %zu:%08x%.*s", HG_BYTES_FMT(hg_message_exchange(m)),
                   HG_BYTES_FMT(hg_message_routing_key(m)), (int)(body.n < 16 ? body.n : 16),
                   (const char *)body.p, body.n, sum, HG_BYTES_FMT(hg_writer_view(&headers)));
    hg_writer_close(&headers);
}

static void on_open(void *ctx)
{
    say(ctx, "open");
}

static void on_close(void *ctx, const struct hg_amqp_close *why)
{
    struct rig *r = ctx;
    say(r, "close %s %u %u.%u %.*s", hg_status_info(why->status)->name, why->code, why->class_id,
        why->method_id, HG_BYTES_FMT(why->text));
    r->closes_n++;
    r->closed_with = why->status;
    memset(r->ch, 0, sizeof r->ch);
}

static void on_blocked(void *ctx, bool is_blocked, struct hg_bytes reason)
{
    say(ctx, "%s %.*s", is_blocked ? "blocked" : "unblocked", HG_BYTES_FMT(reason));
}

static void on_secret(void *ctx)
{
    say(ctx, "secret");
}

static void on_output(void *ctx)
{
    struct rig *r = ctx;
    assert_true(r->conn == NULL || hg_amqp_conn_output_n(r->conn) > 0);
}

static void on_reply(void *ctx, uint64_t cookie, const struct hg_amqp_reply *reply)
{
    static const char *const kinds[] = {"channel.open-ok", "confirm-ok", "exchange-ok",
                                        "queue-ok",        "qos-ok",     "consume-ok",
                                        "cancel-ok",       "get-ok",     "get-empty"};
    char message[512] = "";
    if (reply->message != NULL) {
        say_message(message, sizeof message, reply->message);
    }
    say(ctx, "reply %llu %s %.*s %u %u%s%s", (unsigned long long)cookie, kinds[reply->kind],
        HG_BYTES_FMT(reply->name), reply->message_n, reply->consumer_n,
        message[0] == '\0' ? "" : " ", message);
}

static void on_channel_close(void *ctx, const struct hg_amqp_close *why)
{
    struct rig *r = ctx;
    say(r, "channel closed %s %u %u.%u %.*s", hg_status_info(why->status)->name, why->code,
        why->class_id, why->method_id, HG_BYTES_FMT(why->text));
}

static void on_confirm(void *ctx, uint64_t tag, bool is_multiple, bool is_ack)
{
    say(ctx, "%s %llu%s", is_ack ? "ack" : "nack", (unsigned long long)tag,
        is_multiple ? " multiple" : "");
}

static void on_return(void *ctx, const struct hg_amqp_return *ret)
{
    char message[512];
    say_message(message, sizeof message, ret->message);
    say(ctx, "return %u %.*s %s", ret->code, HG_BYTES_FMT(ret->text), message);
}

static void on_delivery(void *ctx, const struct hg_amqp_delivery *d)
{
    char message[512];
    say_message(message, sizeof message, d->message);
    say(ctx, "delivery %.*s %llu%s %s", HG_BYTES_FMT(d->consumer_tag),
        (unsigned long long)d->delivery_tag, d->is_redelivered ? " again" : "", message);
}

static void on_cancel(void *ctx, struct hg_bytes consumer_tag)
{
    say(ctx, "cancel %.*s", HG_BYTES_FMT(consumer_tag));
}

const struct hg_amqp_conn_ops rig_conn_ops = {on_open, on_close, on_blocked, on_secret, on_output};
const struct hg_amqp_channel_ops rig_channel_ops = {
    on_reply, on_channel_close, on_confirm, on_return, on_delivery, on_cancel,
};

/* -- the connection --------------------------------------------------------------------------- */

void rig_open(struct rig *r, const struct hg_amqp_conn_config *config)
{
    memset(r, 0, sizeof *r);
    r->now_ms = 1000;
    (void)hg_writer_reserve(&r->events, 1 << 15);
    r->conn = hg_amqp_conn_new(config, &rig_conn_ops, r);
}

void rig_close(struct rig *r)
{
    hg_amqp_conn_free(r->conn);
    hg_writer_close(&r->events);
}

void rig_feed(struct rig *r, struct hg_bytes in)
{
    hg_amqp_conn_feed(r->conn, in, r->now_ms);
}

void rig_pump(struct rig *r, struct broker *b)
{
    for (bool is_quiet = false; !is_quiet;) {
        struct hg_buf *to_broker = hg_amqp_conn_take_output(r->conn);
        if (to_broker != NULL) {
            broker_feed(b, hg_buf_bytes(to_broker));
        }
        struct hg_buf *to_client = broker_take_output(b);
        if (to_client != NULL) {
            rig_feed(r, hg_buf_bytes(to_client));
        }
        is_quiet = to_broker == NULL && to_client == NULL;
        hg_buf_unref(to_broker);
        hg_buf_unref(to_client);
    }
}

void rig_connect(struct rig *r, struct broker *b, size_t channels_n)
{
    broker_open(b);
    rig_open(r, &rig_config);
    assert_non_null(r->conn);
    hg_amqp_conn_start(r->conn, r->now_ms);
    rig_pump(r, b);
    assert_true(hg_amqp_conn_is_open(r->conn));
    for (size_t i = 0; i < channels_n; i++) {
        r->ch[i] = hg_amqp_channel_open(r->conn, &rig_channel_ops, r, 100 + i);
        assert_non_null(r->ch[i]);
    }
    rig_pump(r, b);
    (void)rig_events(r);
    broker_forget(b);
}

struct hg_message *rig_message(const char *key, const char *body)
{
    struct hg_message *m = hg_message_new(&(struct hg_message_parts){
        .exchange = HG_BYTES("x"), .routing_key = hg_bytes_str(key), .body = hg_bytes_str(body)});
    return m;
}

void rig_hex(struct hg_writer *w, const char *hex)
{
    static const char digits[] = "0123456789abcdef";
    int high = -1;
    for (; *hex != '\0'; hex++) {
        const char *digit = strchr(digits, *hex | ((*hex >= 'A' && *hex <= 'F') ? 32 : 0));
        if (*hex == ' ') {
            continue;
        }
        assert_non_null(digit);
        int v = (int)(digit - digits);
        if (high < 0) {
            high = v;
        } else {
            hg_writer_u8(w, (uint8_t)(high << 4 | v));
            high = -1;
        }
    }
    assert_int_equal(high, -1);
}

/* -- scenarios -------------------------------------------------------------------------------- */

/* What RabbitMQ said in each step of a scenario. */
struct recording {
    struct hg_writer said[RIG_STEPS];
    size_t total_n;
};

static bool is_last(const struct rig_step *step)
{
    return step->client == NULL && step->broker == NULL;
}

static void record_talk(struct rig *r, struct broker *b, struct hg_writer *said)
{
    for (bool is_quiet = false; !is_quiet;) {
        struct hg_buf *to_broker = hg_amqp_conn_take_output(r->conn);
        if (to_broker != NULL) {
            broker_feed(b, hg_buf_bytes(to_broker));
        }
        struct hg_buf *to_client = broker_take_output(b);
        if (to_client != NULL) {
            hg_writer_bytes(said, hg_buf_bytes(to_client));
            rig_feed(r, hg_buf_bytes(to_client));
        }
        is_quiet = to_broker == NULL && to_client == NULL;
        hg_buf_unref(to_broker);
        hg_buf_unref(to_client);
    }
}

static void record(const struct rig_scenario *scenario, struct recording *rec)
{
    struct rig r;
    static struct broker b;
    memset(rec, 0, sizeof *rec);
    broker_open(&b);
    rig_open(&r, &rig_config);
    hg_amqp_conn_start(r.conn, r.now_ms);
    record_talk(&r, &b, &rec->said[0]);
    for (size_t i = 0; !is_last(&scenario->steps[i]); i++) {
        const struct rig_step *step = &scenario->steps[i];
        HG_CHECK(i + 1 < RIG_STEPS);
        if (step->client != NULL) {
            step->client(&r);
        }
        record_talk(&r, &b, &rec->said[i + 1]);
        if (step->broker != NULL) {
            step->broker(&b);
        }
        record_talk(&r, &b, &rec->said[i + 1]);
    }
    for (size_t i = 0; i < RIG_STEPS; i++) {
        rec->total_n += hg_writer_n(&rec->said[i]);
    }
    assert_string_equal(rig_events(&r), scenario->events);
    rig_close(&r);
    broker_close(&b);
}

static void forget(struct recording *rec)
{
    for (size_t i = 0; i < RIG_STEPS; i++) {
        hg_writer_close(&rec->said[i]);
    }
}

/* `cut` counts over the whole session. */
static void feed_cut(struct rig *r, struct hg_bytes in, size_t *seen_n, size_t cut)
{
    size_t at = cut > *seen_n && cut - *seen_n < in.n ? cut - *seen_n : 0;
    *seen_n += in.n;
    if (at > 0) {
        rig_feed(r, hg_bytes(in.p, at));
    }
    rig_feed(r, hg_bytes_skip(in, at));
}

static void feed_bytes(struct rig *r, struct hg_bytes in)
{
    for (size_t i = 0; i < in.n; i++) {
        /* a copy of its own, so that a sanitizer sees what looks past it */
        uint8_t *byte = malloc(1);
        *byte = in.p[i];
        rig_feed(r, hg_bytes(byte, 1));
        free(byte);
    }
}

static void drop_output(struct rig *r)
{
    hg_buf_unref(hg_amqp_conn_take_output(r->conn));
}

/* cut 0: byte by byte */
static void replay(const struct rig_scenario *scenario, const struct recording *rec, struct rig *r,
                   size_t cut)
{
    size_t seen_n = 0;
    hg_amqp_conn_start(r->conn, r->now_ms);
    for (size_t i = 0;; i++) {
        struct hg_bytes said = hg_writer_view(&rec->said[i]);
        if (cut == 0) {
            feed_bytes(r, said);
        } else {
            feed_cut(r, said, &seen_n, cut);
        }
        drop_output(r);
        if (is_last(&scenario->steps[i])) {
            break;
        }
        if (scenario->steps[i].client != NULL) {
            scenario->steps[i].client(r);
        }
    }
}

void rig_scenario_is_split_anywhere(const struct rig_scenario *scenario)
{
    struct recording rec;
    record(scenario, &rec);
    for (size_t cut = 0; cut < rec.total_n; cut += cut < 2048 ? 1 : 7) {
        struct rig r;
        rig_open(&r, &rig_config);
        replay(scenario, &rec, &r, cut);
        const char *events = rig_events(&r);
        if (strcmp(events, scenario->events) != 0) {
            print_error("cut at %zu of %zu\n", cut, rec.total_n);
        }
        assert_string_equal(events, scenario->events);
        rig_close(&r);
    }
    forget(&rec);
}

void rig_scenario_survives_failed_allocations(const struct rig_scenario *scenario)
{
    struct recording rec;
    record(scenario, &rec);
    json_set_alloc_funcs(hg_alloc, hg_free); /* jansson's count and fail as well */
    size_t live = seam_live();
    bool has_failed = true;
    for (size_t n = 1; has_failed; n++) {
        struct rig r;
        seam_fail_alloc(0);
        rig_open(&r, &rig_config);
        hg_amqp_conn_free(r.conn);
        seam_fail_alloc(n);
        r.conn = hg_amqp_conn_new(&rig_config, &rig_conn_ops, &r);
        if (r.conn != NULL) {
            replay(scenario, &rec, &r, 1);
            if (r.closes_n == 0) {
                (void)hg_amqp_conn_tick(r.conn, r.now_ms);
            }
        }
        has_failed = seam_allocs() >= n;
        seam_fail_alloc(0);
        if (!has_failed) {
            assert_string_equal(rig_events(&r), scenario->events);
        }
        rig_close(&r);
        assert_int_equal(seam_live(), live);
    }
    json_set_alloc_funcs(malloc, free);
    forget(&rec);
}
