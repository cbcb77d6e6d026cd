/* SPDX-License-Identifier: Apache-2.0 */
/* The index of the state log: each rule by itself, and then readers of one random log that start
 * anywhere, which must all end with what a plain model says. */
#include "core/state_index.h"

#include "../rules/fixture.h"
#include "base/mem.h"
#include "core/retained.h"
#include "seam/seam.h"

#include <stdio.h>
#include <stdlib.h>

#define LOG  "headgate.state"
#define HERE 0xb007ULL /* the boot of the index that is looked at */

static const struct hg_rule_spec rule_specs[] = {
    {.where = "f",
     .name = "fleet",
     .pattern = {"fleet/{path...}", "f/{path...}", NULL},
     .exchange = "telemetry",
     .key = "{path...}",
     .escape = HG_ESCAPE_PLAIN,
     .persistent = HG_UNSET},
    BUILTIN,
};

struct rig {
    struct hg_rules *rules;
    struct hg_state_index *x;
    uint64_t offset;
    struct hg_state_change change;
    size_t live;
};

static struct hg_state_index *index_new(const struct hg_rules *rules, uint64_t log_bytes,
                                        uint64_t boot_id)
{
    const struct hg_state_limits limits = {.log_bytes = log_bytes,
                                           .retained_n = 10000,
                                           .topic_bytes_max = 1000,
                                           .topic_levels_max = 20};
    struct hg_state_index *x = hg_state_index_new(rules, LOG, &limits, boot_id);
    assert_non_null(x);
    return x;
}

static void rig_open(struct rig *r, uint64_t log_bytes)
{
    *r = (struct rig){.live = seam_live()};
    r->rules = fixture_new(rule_specs, sizeof(rule_specs) / sizeof(rule_specs[0]));
    r->x = index_new(r->rules, log_bytes, HERE);
}

static void rig_close(struct rig *r)
{
    hg_state_index_free(r->x);
    hg_rules_free(r->rules);
    assert_int_equal(seam_live(), r->live);
}

/* The message as it is read from the log. */
static void apply(struct rig *r, struct hg_message *m_own)
{
    assert_non_null(m_own);
    hg_state_index_apply(r->x, m_own, r->offset++, seam_wall_ms, &r->change);
    assert_false(r->change.has_failed);
    hg_message_unref(m_own);
}

static struct hg_message *published(const char *exchange, const char *key, const char *body,
                                    const struct hg_properties *properties)
{
    struct hg_message_parts parts = {.exchange = hg_bytes_str(exchange),
                                     .routing_key = hg_bytes_str(key),
                                     .body = hg_bytes_str(body)};
    if (properties != NULL) {
        parts.properties = *properties;
    }
    return hg_message_new(&parts);
}

static void retain(struct rig *r, const char *key, const char *body)
{
    apply(r, published("amq.topic", key, body, NULL));
}

/* The bodies of what matches, joined by blanks. */
static void check_match(struct rig *r, enum hg_protocol proto, const char *filter, const char *want)
{
    struct hg_retained **found = NULL;
    struct hg_writer bodies = {0};
    bool has_failed = true;
    size_t n =
        hg_state_index_match(r->x, proto, hg_bytes_str(filter), seam_wall_ms, &found, &has_failed);
    assert_false(has_failed);
    for (size_t i = 0; i < n; i++) {
        struct hg_message *m = hg_retained_message(found[i]);
        hg_writer_str(&bodies, i == 0 ? "" : " ");
        hg_writer_bytes(&bodies, hg_message_body(m));
        hg_message_unref(m);
        hg_retained_unref(found[i]);
    }
    hg_free(found);
    assert_text(hg_writer_view(&bodies), want);
    hg_writer_close(&bodies);
}

static void the_last_value_of_a_key_is_found(void **state)
{
    static const struct {
        enum hg_protocol proto;
        const char *filter, *want;
    } cases[] = {
        {HG_PROTO_MQTT, "#", "1 2 3 9"}, {HG_PROTO_MQTT, "a", "1"},
        {HG_PROTO_MQTT, "a/#", "1 2 3"}, {HG_PROTO_MQTT, "a/+", "2 3"},
        {HG_PROTO_MQTT, "+/c", "3"},     {HG_PROTO_MQTT, "b", ""},
        {HG_PROTO_MQTT, "fleet/#", "9"}, {HG_PROTO_STOMP, "f/+", "9"},
        {HG_PROTO_HTTP, "#", "1 2 3"},   {HG_PROTO_MQTT, "$s/#", "7"},
        {HG_PROTO_MQTT, "+/x", ""},      {HG_PROTO_STOMP, "#", "1 2 3 9"},
    };
    struct rig r;
    (void)state;
    rig_open(&r, 1 << 20);
    retain(&r, "a", "0");
    retain(&r, "b", "5");
    retain(&r, "a.c", "3");
    retain(&r, "a", "1");
    assert_int_equal(r.change.kind, HG_STATE_RETAINED);
    retain(&r, "a.b", "2");
    retain(&r, "$s.x", "7");
    apply(&r, published("telemetry", "t1", "9", NULL));
    apply(&r, published("orders", "o", "of no rule", NULL));
    retain(&r, "b", "");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        check_match(&r, cases[i].proto, cases[i].filter, cases[i].want);
    }
    struct hg_state_index_stats stats;
    hg_state_index_stats(r.x, &stats);
    assert_int_equal(stats.retained_n, 6);
    assert_int_equal(stats.tombstones_n, 1);
    assert_int_equal(stats.applied_n, 9);
    assert_int_equal(stats.last_offset, 8);
    rig_close(&r);
}

/* A client can publish to the key by which the log is bound, and means nothing by it. */
static void what_is_not_meant_for_the_log_is_passed_over(void **state)
{
    const struct hg_header retain_header = {HG_BYTES("x-headgate-retain"),
                                            {.kind = HG_VALUE_BOOL, .u.b = true}};
    const struct hg_header kind = {HG_BYTES("x-headgate-kind"),
                                   {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("later")}};
    struct rig r;
    (void)state;
    rig_open(&r, 1 << 20);
    retain(&r, "headgate.retain", "1");
    assert_int_equal(r.change.kind, HG_STATE_NOTHING);
    apply(&r, published("", LOG, "2", NULL));
    apply(&r, published("amq.topic", "k", "3",
                        &(struct hg_properties){.headers = &kind, .headers_n = 1}));
    check_match(&r, HG_PROTO_MQTT, "#", "");
    apply(&r, published("amq.topic", "headgate.retain", "4",
                        &(struct hg_properties){.headers = &retain_header, .headers_n = 1}));
    check_match(&r, HG_PROTO_MQTT, "#", "4");
    rig_close(&r);
}

static void a_retained_message_keeps_what_lasts(void **state)
{
    const struct hg_header headers[] = {
        {HG_BYTES("BCC"), {.kind = HG_VALUE_JSON, .u.bytes = HG_BYTES("[\"headgate.retain\"]")}},
        {HG_BYTES("CC"), {.kind = HG_VALUE_JSON, .u.bytes = HG_BYTES("[\"k\"]")}},
        {HG_BYTES("x-stream-offset"), {.kind = HG_VALUE_INT, .u.i = 7}},
        {HG_BYTES("x-headgate-retain"), {.kind = HG_VALUE_BOOL, .u.b = true}},
        {HG_BYTES("x-headgate-ms"), {.kind = HG_VALUE_INT, .u.i = 1767323045678}},
        {HG_BYTES("d"), {.kind = HG_VALUE_DOUBLE, .u.d = -0.5}},
        {HG_BYTES("n"), {.kind = HG_VALUE_NULL}},
        {HG_BYTES("s"), {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("")}},
        {HG_BYTES("t"), {.kind = HG_VALUE_TIMESTAMP, .u.timestamp_s = 5}},
    };
    const struct hg_properties properties = {.content_type = HG_BYTES("text/plain"),
                                             .user_id = HG_BYTES("guest"),
                                             .app_id = HG_BYTES("app"),
                                             .timestamp_s = 17,
                                             .has_timestamp = true,
                                             .priority = 3,
                                             .has_priority = true,
                                             .delivery_mode = 2,
                                             .headers = headers,
                                             .headers_n = sizeof(headers) / sizeof(headers[0])};
    struct hg_retained **found = NULL;
    bool has_failed = false;
    struct rig r;
    (void)state;
    rig_open(&r, 1 << 20);
    apply(&r, published("amq.topic", "a.b", "body", &properties));
    assert_int_equal(hg_state_index_match(r.x, HG_PROTO_MQTT, HG_BYTES("a/b"), seam_wall_ms, &found,
                                          &has_failed),
                     1);
    struct hg_message *m = hg_retained_message(found[0]);
    const struct hg_properties *p = hg_message_properties(m);
    assert_text(hg_message_exchange(m), "amq.topic");
    assert_text(hg_message_routing_key(m), "a.b");
    assert_text(hg_message_body(m), "body");
    assert_text(p->content_type, "text/plain");
    assert_text(p->app_id, "app");
    assert_int_equal(p->user_id.n, 0);
    assert_true(p->has_timestamp && p->timestamp_s == 17 && p->has_priority && p->priority == 3);
    assert_int_equal(p->delivery_mode, 2);
    assert_int_equal(p->headers_n, 5);
    assert_text(p->headers[0].name, "x-headgate-ms");
    assert_true(p->headers[1].value.u.d == -0.5);
    assert_int_equal(p->headers[4].value.u.timestamp_s, 5);
    hg_message_unref(m);
    hg_retained_unref(found[0]);
    hg_free(found);
    rig_close(&r);
}

static void an_expired_message_is_not_found_and_is_swept(void **state)
{
    struct hg_header at = {HG_BYTES("x-headgate-ms"), {.kind = HG_VALUE_INT}};
    const struct hg_properties properties = {
        .expiration = HG_BYTES("5000"), .headers = &at, .headers_n = 1};
    struct hg_state_index_stats stats;
    struct rig r;
    (void)state;
    rig_open(&r, 1 << 20);
    uint64_t start_ms = seam_wall_ms;
    uint64_t empty = hg_state_index_digest(r.x);
    at.value.u.i = (int64_t)start_ms;
    apply(&r, published("amq.topic", "a", "1", &properties));
    at.value.u.i = (int64_t)start_ms - 5000;
    apply(&r, published("amq.topic", "b", "2", &properties)); /* over already */
    seam_wall_ms = start_ms + 4999;
    check_match(&r, HG_PROTO_MQTT, "#", "1");
    seam_wall_ms = start_ms + 5000;
    check_match(&r, HG_PROTO_MQTT, "#", "");
    hg_state_index_sweep(r.x, seam_wall_ms);
    hg_state_index_stats(r.x, &stats);
    assert_int_equal(stats.retained_n, 0);
    assert_int_equal(stats.live_bytes, 0);
    assert_int_equal(stats.tombstones_n, 1);
    seam_wall_ms = start_ms + 600000;
    hg_state_index_sweep(r.x, seam_wall_ms);
    hg_state_index_stats(r.x, &stats);
    assert_int_equal(stats.tombstones_n, 0);
    assert_true(hg_state_index_digest(r.x) == empty);
    seam_wall_ms = start_ms;
    rig_close(&r);
}

static void past_the_quotas_only_what_is_there_may_be_replaced(void **state)
{
    const struct hg_bytes exchange = HG_BYTES("amq.topic");
    struct rig r;
    (void)state;
    rig_open(&r, 4 * 4096);
    assert_int_equal(hg_state_index_admits(r.x, exchange, HG_BYTES("a"), 100), HG_OK);
    assert_int_equal(hg_state_index_admits(r.x, exchange, HG_BYTES("a"), 4096), HG_TOO_MANY);
    char body[3001];
    memset(body, 'x', sizeof(body) - 1);
    body[3000] = '\0';
    retain(&r, "a", body);
    assert_int_equal(hg_state_index_admits(r.x, exchange, HG_BYTES("b"), 2000), HG_TOO_MANY);
    assert_int_equal(hg_state_index_admits(r.x, exchange, HG_BYTES("a"), 2000), HG_OK);
    rig_close(&r);
}

/* ---- Sessions ---- */

static const struct hg_session_filter one_filter = {.filter = {(const uint8_t *)"f/1", 3},
                                                    .qos = 1};
static const struct hg_session_filter two_filter = {.filter = {(const uint8_t *)"f/2", 3},
                                                    .qos = 2};

static struct hg_session_record record_of(uint64_t boot_id, uint64_t epoch)
{
    return (struct hg_session_record){.client_id = HG_BYTES("c"),
                                      .boot_id = boot_id,
                                      .epoch = epoch,
                                      .expiry_ms = 1000,
                                      .filters = &one_filter,
                                      .filters_n = 1};
}

static void write(struct rig *r, enum hg_session_act act, const struct hg_session_record *record)
{
    apply(r, hg_state_index_session(r->x, act, record));
}

static struct hg_session_record *find(struct rig *r)
{
    bool has_failed = true;
    struct hg_session_record *found = hg_state_index_find(r->x, HG_BYTES("c"), &has_failed);
    assert_false(has_failed);
    return found;
}

static void check_owner(struct rig *r, uint64_t boot_id, uint64_t epoch)
{
    struct hg_session_record *found = find(r);
    assert_non_null(found);
    assert_text(found->client_id, "c");
    assert_true(found->boot_id == boot_id && found->epoch == epoch);
    hg_session_record_free(found);
}

static void the_later_claim_has_the_session(void **state)
{
    struct hg_session_record mine = record_of(HERE, 1);
    struct hg_session_record other = record_of(2, 9);
    struct rig r;
    (void)state;
    rig_open(&r, 1 << 20);
    write(&r, HG_SESSION_UPDATE, &mine);
    assert_null(find(&r));
    write(&r, HG_SESSION_CLAIM, &mine);
    assert_int_equal(r.change.kind, HG_STATE_SESSION);
    assert_text(r.change.client_id, "c");
    assert_false(r.change.has_lost);
    write(&r, HG_SESSION_CLAIM, &other);
    assert_true(r.change.has_lost && r.change.lost_epoch == 1);
    check_owner(&r, 2, 9);
    mine.expiry_ms = 7;
    write(&r, HG_SESSION_UPDATE, &mine); /* not its any more */
    assert_int_equal(r.change.kind, HG_STATE_NOTHING);
    write(&r, HG_SESSION_END, &mine);
    assert_int_equal(r.change.kind, HG_STATE_NOTHING);
    check_owner(&r, 2, 9);
    write(&r, HG_SESSION_END, &other);
    assert_int_equal(r.change.kind, HG_STATE_ENDED);
    assert_null(find(&r));
    write(&r, HG_SESSION_UPDATE, &other); /* too late: the leader says so again */
    assert_true(r.change.must_clear);
    rig_close(&r);
}

static void only_the_owner_before_hands_over(void **state)
{
    static const uint16_t rx[] = {3, 4};
    static const struct hg_session_tx tx[] = {{.fingerprint = 5, .packet_id = 6}};
    struct hg_session_record first = record_of(1, 1);
    struct hg_session_record second = record_of(2, 2);
    struct rig r;
    (void)state;
    rig_open(&r, 1 << 20);
    write(&r, HG_SESSION_CLAIM, &first);
    write(&r, HG_SESSION_CLAIM, &second);
    second.rx = rx;
    second.rx_n = 1;
    write(&r, HG_SESSION_HANDOVER, &second); /* it is the owner now */
    assert_int_equal(r.change.kind, HG_STATE_NOTHING);
    first.filters_n = 0;
    first.rx = rx;
    first.rx_n = 2;
    first.tx = tx;
    first.tx_n = 1;
    write(&r, HG_SESSION_HANDOVER, &first);
    assert_int_equal(r.change.kind, HG_STATE_SESSION);
    check_owner(&r, 2, 2);
    struct hg_session_record *found = find(&r);
    assert_int_equal(found->filters_n, 1);
    assert_int_equal(found->rx_n, 2);
    assert_int_equal(found->tx[0].packet_id, 6);
    hg_session_record_free(found);
    rig_close(&r);
}

static void a_claim_inherits_what_was_written_before_it(void **state)
{
    static const uint16_t rx[] = {3};
    struct hg_session_record first = record_of(1, 1);
    struct hg_session_record second = record_of(2, 2);
    struct rig r;
    (void)state;
    rig_open(&r, 1 << 20);
    second.inherits = true;
    write(&r, HG_SESSION_CLAIM, &second);
    struct hg_session_record *found = find(&r);
    assert_int_equal(found->filters_n, 0); /* there was nothing */
    hg_session_record_free(found);
    write(&r, HG_SESSION_CLAIM, &first);
    first.filters = &two_filter;
    first.rx = rx;
    first.rx_n = 1;
    write(&r, HG_SESSION_UPDATE, &first);
    write(&r, HG_SESSION_CLAIM, &second);
    found = find(&r);
    assert_int_equal(found->filters_n, 1);
    assert_text(found->filters[0].filter, "f/2");
    assert_int_equal(found->rx_n, 1);
    assert_false(found->inherits);
    hg_session_record_free(found);
    rig_close(&r);
}

static void anybody_may_forget_a_session(void **state)
{
    struct hg_session_record mine = record_of(HERE, 1);
    struct rig r;
    (void)state;
    rig_open(&r, 1 << 20);
    struct hg_state_index *elsewhere = index_new(r.rules, 1 << 20, 2);
    write(&r, HG_SESSION_CLAIM, &mine);
    apply(&r, hg_state_index_session(elsewhere, HG_SESSION_FORGET, &mine));
    assert_int_equal(r.change.kind, HG_STATE_ENDED);
    assert_true(r.change.has_lost && r.change.lost_epoch == 1);
    assert_null(find(&r));
    hg_state_index_free(elsewhere);
    rig_close(&r);
}

static void a_barrier_comes_back_as_it_went(void **state)
{
    struct rig r;
    (void)state;
    rig_open(&r, 1 << 20);
    apply(&r, hg_state_index_barrier(r.x, 77));
    assert_int_equal(r.change.kind, HG_STATE_BARRIER);
    assert_true(r.change.boot_id == HERE && r.change.number == 77);
    rig_close(&r);
}

/* ---- Copies ---- */

static void what_the_log_would_lose_is_copied_in_its_order(void **state)
{
    struct rig r;
    (void)state;
    rig_open(&r, 8000);
    retain(&r, "a", "1");
    struct hg_session_record record = record_of(1, 1);
    write(&r, HG_SESSION_CLAIM, &record);
    retain(&r, "b", "2");
    assert_null(hg_state_index_next_copy(r.x));
    for (int i = 0; i < 20; i++) {
        retain(&r, "c", "3");
    }
    uint64_t digest = hg_state_index_digest(r.x);
    struct hg_message *copies[4] = {NULL};
    for (size_t i = 0; i < 3; i++) {
        copies[i] = hg_state_index_next_copy(r.x);
        assert_non_null(copies[i]);
    }
    assert_null(hg_state_index_next_copy(r.x));
    assert_text(hg_message_body(copies[0]), "1");
    assert_text(hg_message_body(copies[2]), "2");
    assert_text(hg_message_routing_key(copies[0]), LOG);
    hg_message_unref(copies[0]);
    hg_state_index_recopy(r.x); /* they were lost: the same again */
    copies[0] = hg_state_index_next_copy(r.x);
    assert_text(hg_message_body(copies[0]), "1");
    retain(&r, "b", "4"); /* overtakes its copy, which is due no more */
    apply(&r, copies[0]);
    apply(&r, copies[1]);
    apply(&r, copies[2]);
    assert_false(r.change.must_clear);
    check_match(&r, HG_PROTO_MQTT, "#", "1 4 3");
    assert_null(hg_state_index_next_copy(r.x));
    retain(&r, "b", "2");
    assert_true(hg_state_index_digest(r.x) != digest); /* of another version */
    rig_close(&r);
}

static void what_was_cleared_is_cleared_again_behind_its_copy(void **state)
{
    struct rig r;
    (void)state;
    rig_open(&r, 4000);
    retain(&r, "a", "1");
    struct hg_session_record record = record_of(1, 1);
    write(&r, HG_SESSION_CLAIM, &record);
    for (int i = 0; i < 20; i++) {
        retain(&r, "c", "3");
    }
    struct hg_message *copies[2] = {hg_state_index_next_copy(r.x), hg_state_index_next_copy(r.x)};
    struct hg_message *again[2];
    retain(&r, "a", "");
    write(&r, HG_SESSION_END, &record);
    struct hg_state_index *late = index_new(r.rules, 4000, 3); /* starts to read here */
    for (size_t i = 0; i < 2; i++) {
        struct hg_state_change change;
        hg_state_index_apply(late, copies[i], r.offset, seam_wall_ms, &change);
        apply(&r, copies[i]);
        assert_true(r.change.must_clear);
        again[i] = hg_state_index_gone(r.x, &r.change);
    }
    for (size_t i = 0; i < 2; i++) {
        struct hg_state_change change;
        hg_state_index_apply(late, again[i], r.offset, seam_wall_ms, &change);
        apply(&r, again[i]);
        assert_false(r.change.must_clear);
    }
    struct hg_state_index_stats stats;
    hg_state_index_stats(late, &stats);
    assert_int_equal(stats.retained_n + stats.sessions_n, 0);
    hg_state_index_free(late);
    rig_close(&r);
}

/* ---- Readers of one random log ---- */

enum {
    STREAM_MAX = 6000,
    STREAM_BYTES = 60000,
    READERS = 5,
    KEYS = 6,
    CLIENTS = 4,
    OUTBOX = 64,
    COPIES = 4
};

struct stream { /* as RabbitMQ keeps it: what is too long ago is gone */
    struct hg_message *at[STREAM_MAX];
    size_t n, first;
    uint64_t bytes;
};

static uint64_t bytes_of(const struct hg_message *m)
{
    return 160 + hg_message_cost_bytes(m) + hg_message_properties(m)->headers_n * 2;
}

static void append(struct stream *s, struct hg_message *m_own)
{
    assert_true(m_own != NULL && s->n < STREAM_MAX);
    s->at[s->n++] = m_own;
    s->bytes += bytes_of(m_own);
    while (s->bytes > STREAM_BYTES) {
        s->bytes -= bytes_of(s->at[s->first++]);
    }
}

struct reader {
    struct hg_state_index *x;
    size_t next; /* offset */
};

/* What the rules say, applied to all that was ever written but copies. */
struct model_session {
    bool is_live;
    uint64_t boot_id, epoch, previous_boot, previous_epoch;
    unsigned user, filter, rx;
};

struct model {
    unsigned retained[2][KEYS]; /* the number that is its value; 0: none */
    struct model_session sessions[CLIENTS];
};

struct world {
    struct rig rig;
    struct stream stream;
    struct reader readers[READERS];    /* the first one leads */
    struct hg_message *outbox[OUTBOX]; /* of the leader, on its way */
    size_t outbox_n;
    struct model model;
    uint64_t seed;
    unsigned numbers; /* given out */
};

static size_t below(struct world *w, size_t n)
{
    return unit_random_below(&w->seed, n);
}

static void write_retained(struct world *w)
{
    static const char *const exchanges[] = {"amq.topic", "telemetry"};
    size_t exchange = below(w, 2);
    size_t at = below(w, KEYS);
    char key[8];
    char body[16];
    unsigned number = below(w, 3) == 0 ? 0 : ++w->numbers;
    (void)snprintf(key, sizeof(key), "k.%zu", at);
    (void)snprintf(body, sizeof(body), "%.*u", number == 0 ? 0 : 1, number); /* 0: no text */
    w->model.retained[exchange][at] = number;
    struct hg_bytes kinds[] = {HG_BYTES("retained"), hg_bytes_str(exchanges[exchange]),
                               hg_bytes_str(key)};
    const struct hg_header headers[] = {
        {HG_BYTES("x-headgate-kind"), {.kind = HG_VALUE_STRING, .u.bytes = kinds[0]}},
        {HG_BYTES("x-headgate-exchange"), {.kind = HG_VALUE_STRING, .u.bytes = kinds[1]}},
        {HG_BYTES("x-headgate-key"), {.kind = HG_VALUE_STRING, .u.bytes = kinds[2]}},
    };
    const struct hg_properties direct = {.headers = headers, .headers_n = 3};
    append(&w->stream, below(w, 2) == 0 ? published(exchanges[exchange], key, body, NULL)
                                        : published("", LOG, body, &direct));
}

static void model_session(struct world *w, size_t at, enum hg_session_act act,
                          const struct hg_session_record *r, const unsigned numbers[3])
{
    struct model_session *s = &w->model.sessions[at];
    bool is_owner = s->is_live && s->boot_id == r->boot_id && s->epoch == r->epoch;
    bool is_previous =
        s->is_live && s->previous_boot == r->boot_id && s->previous_epoch == r->epoch;
    bool keeps = act == HG_SESSION_CLAIM && r->inherits;
    if (act == HG_SESSION_FORGET || (act == HG_SESSION_END && is_owner)) {
        memset(s, 0, sizeof(*s));
    } else if (act == HG_SESSION_HANDOVER && is_previous) {
        s->rx = numbers[2];
    } else if (act == HG_SESSION_CLAIM || (act == HG_SESSION_UPDATE && is_owner)) {
        if (!is_owner) {
            s->previous_boot = s->boot_id;
            s->previous_epoch = s->epoch;
        }
        s->is_live = true;
        s->boot_id = r->boot_id;
        s->epoch = r->epoch;
        s->user = numbers[0];
        s->filter = keeps ? s->filter : numbers[1];
        s->rx = keeps ? s->rx : numbers[2];
    }
}

static void write_session(struct world *w)
{
    static const enum hg_session_act acts[] = {
        HG_SESSION_CLAIM,    HG_SESSION_CLAIM,  HG_SESSION_UPDATE,
        HG_SESSION_UPDATE,   HG_SESSION_UPDATE, HG_SESSION_HANDOVER,
        HG_SESSION_HANDOVER, HG_SESSION_END,    HG_SESSION_FORGET};
    enum hg_session_act act = acts[below(w, sizeof(acts) / sizeof(acts[0]))];
    size_t at = below(w, CLIENTS);
    unsigned numbers[3];
    char texts[3][16];
    for (size_t i = 0; i < 3; i++) {
        numbers[i] = ++w->numbers % 65000 + 1;
        (void)snprintf(texts[i], sizeof(texts[i]), "%u", numbers[i]);
    }
    (void)snprintf(texts[2], sizeof(texts[2]), "c%zu", at);
    const uint16_t rx = (uint16_t)numbers[2];
    const struct hg_session_filter filter = {.filter = hg_bytes_str(texts[1])};
    const struct hg_session_record r = {
        .client_id = hg_bytes_str(texts[2]),
        .user = hg_bytes_str(texts[0]),
        .boot_id = below(w, 2) + 1,
        .epoch = below(w, 2) + 1,
        .expiry_ms = UINT64_MAX,
        .inherits = below(w, 2) == 0,
        .filters = &filter,
        .filters_n = 1,
        .rx = &rx,
        .rx_n = 1,
    };
    model_session(w, at, act, &r, numbers);
    append(&w->stream, hg_state_index_session(w->rig.x, act, &r));
}

static void send_later(struct world *w, struct hg_message *m_own)
{
    assert_true(m_own != NULL && w->outbox_n < OUTBOX);
    w->outbox[w->outbox_n++] = m_own;
}

static void restart(struct world *w, struct reader *r)
{
    hg_state_index_free(r->x);
    r->x = index_new(w->rig.rules, STREAM_BYTES, 1);
    r->next = w->stream.first;
}

/* Reads one message. The leader answers what it has to. */
static bool read_one(struct world *w, struct reader *r)
{
    struct hg_state_change change;
    if (r->next < w->stream.first) { /* it was too slow: it begins again */
        restart(w, r);
    }
    if (r->next == w->stream.n) {
        return false;
    }
    hg_state_index_apply(r->x, w->stream.at[r->next], r->next, seam_wall_ms, &change);
    r->next++;
    if (r == &w->readers[0]) {
        if (change.must_clear) {
            send_later(w, hg_state_index_gone(r->x, &change));
        }
        struct hg_message *copy = w->outbox_n < COPIES ? hg_state_index_next_copy(r->x) : NULL;
        if (copy != NULL) {
            send_later(w, copy);
        }
    }
    return true;
}

static void flush(struct world *w)
{
    for (size_t i = 0; i < w->outbox_n; i++) {
        append(&w->stream, w->outbox[i]);
    }
    w->outbox_n = 0;
}

/* The leader's link broke: copies are made again. */
static void lose_copies(struct world *w)
{
    size_t kept_n = 0;
    for (size_t i = 0; i < w->outbox_n; i++) {
        if (hg_message_body(w->outbox[i]).n == 0) {
            w->outbox[kept_n++] = w->outbox[i];
        } else {
            hg_message_unref(w->outbox[i]);
        }
    }
    w->outbox_n = kept_n;
    hg_state_index_recopy(w->readers[0].x);
}

static void step(struct world *w)
{
    size_t what = below(w, 20);
    if (what < 4) {
        write_retained(w);
    } else if (what < 9) {
        write_session(w);
    } else if (what < 12) {
        flush(w);
    } else if (what < 13 && below(w, 8) == 0) {
        restart(w, &w->readers[1 + below(w, READERS - 1)]);
    } else if (what < 13 && below(w, 8) == 0) {
        lose_copies(w);
    } else {
        read_one(w, &w->readers[below(w, READERS)]);
    }
    while (w->stream.n - w->readers[0].next > 4) { /* who leads keeps up */
        if (w->outbox_n > COPIES) {
            flush(w);
        }
        read_one(w, &w->readers[0]);
    }
}

static void check_sessions(struct world *w, struct hg_state_index *x)
{
    for (size_t i = 0; i < CLIENTS; i++) {
        const struct model_session *s = &w->model.sessions[i];
        char id[8];
        char text[16];
        bool has_failed;
        (void)snprintf(id, sizeof(id), "c%zu", i);
        struct hg_session_record *r = hg_state_index_find(x, hg_bytes_str(id), &has_failed);
        assert_true((r != NULL) == s->is_live);
        if (r == NULL) {
            continue;
        }
        (void)snprintf(text, sizeof(text), "%u", s->user);
        assert_text(r->user, text);
        assert_true(r->boot_id == s->boot_id && r->epoch == s->epoch);
        assert_int_equal(r->filters_n, s->filter != 0);
        (void)snprintf(text, sizeof(text), "%u", s->filter);
        if (s->filter != 0) {
            assert_text(r->filters[0].filter, text);
        }
        assert_int_equal(r->rx_n == 0 ? 0 : r->rx[0], s->rx);
        hg_session_record_free(r);
    }
}

static void check_retained(struct world *w, struct hg_state_index *x)
{
    struct hg_retained **found = NULL;
    bool has_failed;
    for (size_t exchange = 0; exchange < 2; exchange++) {
        for (size_t i = 0; i < KEYS; i++) {
            char address[16];
            char text[16];
            unsigned number = w->model.retained[exchange][i];
            (void)snprintf(address, sizeof(address), exchange == 0 ? "k/%zu" : "fleet/k/%zu", i);
            (void)snprintf(text, sizeof(text), "%u", number);
            size_t n = hg_state_index_match(x, HG_PROTO_MQTT, hg_bytes_str(address), seam_wall_ms,
                                            &found, &has_failed);
            assert_int_equal(n, number != 0);
            if (n > 0) {
                struct hg_message *m = hg_retained_message(found[0]);
                assert_text(hg_message_body(m), text);
                hg_message_unref(m);
                hg_retained_unref(found[0]);
            }
            hg_free(found);
        }
    }
}

static void play(struct world *w, uint64_t seed)
{
    *w = (struct world){.seed = seed};
    rig_open(&w->rig, STREAM_BYTES);
    for (size_t i = 0; i < READERS; i++) {
        w->readers[i].x = index_new(w->rig.rules, STREAM_BYTES, 1);
    }
    for (int i = 0; i < 3000; i++) {
        step(w);
    }
    do { /* what the leader still has to say */
        flush(w);
        while (read_one(w, &w->readers[0])) {
        }
    } while (w->outbox_n > 0);
    assert_true(w->stream.first > 0);
    uint64_t digest = hg_state_index_digest(w->readers[0].x);
    restart(w, &w->readers[1]);
    for (size_t i = 0; i < READERS; i++) {
        while (read_one(w, &w->readers[i])) {
        }
        check_retained(w, w->readers[i].x);
        check_sessions(w, w->readers[i].x);
        assert_true(hg_state_index_digest(w->readers[i].x) == digest);
        hg_state_index_free(w->readers[i].x);
    }
    for (size_t i = 0; i < w->stream.n; i++) {
        hg_message_unref(w->stream.at[i]);
    }
    rig_close(&w->rig);
}

static void readers_that_start_anywhere_end_with_the_same(void **state)
{
    struct world *w = hg_alloc(sizeof(*w));
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        play(w, seed);
    }
    hg_free(w);
}

/* Every allocation fails once: either the message had its whole effect, or none. */
static void without_memory_a_message_has_no_effect(void **state)
{
    struct hg_session_record record = record_of(1, 1);
    (void)state;
    for (size_t kind = 0; kind < 2; kind++) {
        struct rig r;
        rig_open(&r, 1 << 20);
        retain(&r, "a", "1");
        write(&r, HG_SESSION_CLAIM, &record);
        uint64_t before = hg_state_index_digest(r.x);
        record.epoch = 2;
        struct hg_message *m = kind == 0 ? published("amq.topic", "b.c", "2", NULL)
                                         : hg_state_index_session(r.x, HG_SESSION_CLAIM, &record);
        record.epoch = 1;
        for (size_t n = 1;; n++) {
            seam_fail_alloc(n);
            hg_state_index_apply(r.x, m, 10, seam_wall_ms, &r.change);
            seam_fail_alloc(0);
            assert_true(r.change.has_failed == (hg_state_index_digest(r.x) == before));
            if (!r.change.has_failed) {
                break;
            }
            assert_int_equal(r.change.kind, HG_STATE_NOTHING);
        }
        hg_message_unref(m);
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_value_of_a_key_is_found),
        cmocka_unit_test(what_is_not_meant_for_the_log_is_passed_over),
        cmocka_unit_test(a_retained_message_keeps_what_lasts),
        cmocka_unit_test(an_expired_message_is_not_found_and_is_swept),
        cmocka_unit_test(past_the_quotas_only_what_is_there_may_be_replaced),
        cmocka_unit_test(the_later_claim_has_the_session),
        cmocka_unit_test(only_the_owner_before_hands_over),
        cmocka_unit_test(a_claim_inherits_what_was_written_before_it),
        cmocka_unit_test(anybody_may_forget_a_session),
        cmocka_unit_test(a_barrier_comes_back_as_it_went),
        cmocka_unit_test(what_the_log_would_lose_is_copied_in_its_order),
        cmocka_unit_test(what_was_cleared_is_cleared_again_behind_its_copy),
        cmocka_unit_test(readers_that_start_anywhere_end_with_the_same),
        cmocka_unit_test(without_memory_a_message_has_no_effect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
