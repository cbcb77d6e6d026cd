/* SPDX-License-Identifier: Apache-2.0 */
/* The policies for slow clients, with a connection whose output the test fills and empties. Addresses are an exchange and a key,
 * "old/a": rules are called by their exchange, and their policies by its first letters. */
#include "core/slow.h"

#include "base/mem.h"
#include "core/access.h"
#include "core/conn.h"
#include "core/routing_priv.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>
#include <stdlib.h>

enum { LOW = 20, HIGH = 100 };

struct hg_conn { /* the whole world */
    struct hg_session session;
    struct hg_sub sub;
    struct hg_gateway gateway;
    struct hg_config config;
    struct hg_worker worker;
    struct hg_realm realm, *realms[1];
    struct hg_routing routing;
    size_t pending;
    char sent[2000];
    unsigned awaits_n, dropped_n, too_slow_n;
    bool is_closing, is_hidden;
};

/* ---- What it stands on ---- */

size_t hg_conn_pending(const struct hg_conn *c)
{
    return c->pending;
}

bool hg_conn_is_full(const struct hg_conn *c, size_t n)
{
    return c->pending + n > HIGH;
}

bool hg_conn_is_closing(const struct hg_conn *c)
{
    return c->is_closing;
}

void hg_conn_finish(struct hg_conn *c, enum hg_status why)
{
    assert_int_equal(why, HG_TOO_SLOW);
    c->is_closing = true;
}

void hg_conn_await_drained(struct hg_conn *c)
{
    c->awaits_n++;
}

const char *hg_conn_peer(const struct hg_conn *c)
{
    (void)c;
    return "";
}

uint64_t hg_conn_id(const struct hg_conn *c)
{
    (void)c;
    return 1;
}

struct hg_rare *hg_session_rare(struct hg_session *s)
{
    s->rare = s->rare != NULL ? s->rare : hg_zalloc(sizeof(*s->rare));
    return s->rare;
}

void hg_session_trim(struct hg_session *s)
{
    if (s->rare != NULL && s->rare->slow == NULL) {
        hg_free(s->rare);
        s->rare = NULL;
    }
}

bool hg_routing_map(struct hg_routing *r, enum hg_protocol proto, const struct hg_message *m,
                    struct hg_bytes *address_out, size_t *rule_out)
{
    struct hg_bytes exchange = hg_message_exchange(m);
    (void)proto;
    hg_writer_reset(&r->text);
    hg_writer_printf(&r->text, "%.*s/%.*s", HG_BYTES_FMT(exchange),
                     HG_BYTES_FMT(hg_message_routing_key(m)));
    *address_out = hg_writer_view(&r->text);
    while (*rule_out < hg_rules_n(r->realm->rules) &&
           !hg_bytes_eq(exchange, hg_bytes_str(hg_rules_spec(r->realm->rules, *rule_out)->name))) {
        ++*rule_out;
    }
    return !r->text.failed && *rule_out < hg_rules_n(r->realm->rules);
}

static bool may_see(const struct hg_session *s)
{
    return !s->conn->is_hidden;
}

bool hg_access_may_see(struct hg_session *s, struct hg_bytes address, size_t mapped_by)
{
    (void)address;
    (void)mapped_by;
    return may_see(s);
}

bool hg_access_may_see_source(struct hg_session *s, const struct hg_message *m)
{
    (void)m;
    return may_see(s);
}

/* ---- The session ---- */

/* As an adapter does it. What it sends is "address=body ", or the body alone without an address. */
static void deliver(struct hg_session *s, struct hg_delivery *d, struct hg_sub *matches)
{
    struct hg_conn *c = s->conn;
    struct hg_bytes body = hg_message_body(d->message);
    assert_ptr_equal(matches, &c->sub);
    assert_null(matches->next_match);
    if (hg_slow_admits(s, d, matches, body.n)) {
        size_t n = strlen(c->sent);
        (void)snprintf(c->sent + n, sizeof(c->sent) - n, "%.*s=%.*s ", HG_BYTES_FMT(d->address),
                       HG_BYTES_FMT(body));
        c->pending += body.n;
    }
}

static void describe(struct hg_session *s, struct hg_session_info *out)
{
    (void)s;
    *out = (struct hg_session_info){.version = "1"};
}

static void dropped(struct hg_session *s)
{
    s->conn->dropped_n++;
}

static void too_slow(struct hg_session *s)
{
    s->conn->too_slow_n++;
    hg_conn_finish(s->conn, HG_TOO_SLOW);
}

static const struct hg_session_ops ops = {
    .deliver = deliver, .describe = describe, .dropped = dropped, .too_slow = too_slow};

static const char *const names[HG_SLOW_N] = {"new", "old", "val", "cut"};

static void open_world(struct hg_conn *c)
{
    static const struct hg_exchange_spec exchanges[] = {{"f:1:1", "new", HG_EXCHANGE_TOPIC},
                                                        {"f:2:1", "old", HG_EXCHANGE_TOPIC},
                                                        {"f:3:1", "val", HG_EXCHANGE_TOPIC},
                                                        {"f:4:1", "cut", HG_EXCHANGE_TOPIC}};
    struct hg_rule_spec specs[HG_SLOW_N];
    static struct hg_rule_spec kept[HG_SLOW_N];
    static char patterns[HG_SLOW_N][16];
    struct hg_writer problems = {0};
    memset(c, 0, sizeof(*c));
    for (enum hg_slow p = 0; p < HG_SLOW_N; p++) {
        (void)snprintf(patterns[p], sizeof(patterns[p]), "%s/{x}", names[p]);
        specs[p] = (struct hg_rule_spec){.where = "f:5:1",
                                         .name = names[p],
                                         .pattern = {patterns[p], patterns[p], patterns[p]},
                                         .exchange = names[p],
                                         .key = "{x}",
                                         .slow = p};
    }
    memcpy(kept, specs, sizeof(kept));
    seam_spare(true);
    c->realm.rules = hg_rules_new(kept, HG_SLOW_N, exchanges, HG_SLOW_N, &problems);
    seam_spare(false);
    assert_non_null(c->realm.rules);
    c->config.outbound_low_bytes = LOW;
    c->config.outbound_high_bytes = HIGH;
    c->config.slow_backlog_bytes = 10000;
    c->worker.config = &c->config;
    c->worker.gateway = &c->gateway;
    c->worker.realms = c->realms;
    c->worker.realms_n = 1;
    c->realms[0] = &c->realm;
    c->realm.worker = c->routing.worker = &c->worker;
    c->realm.routing = &c->routing;
    c->routing.realm = &c->realm;
    c->session =
        (struct hg_session){.ops = &ops, .conn = c, .worker = &c->worker, .proto = HG_PROTO_STOMP};
    c->sub.session = &c->session;
}

static const struct hg_proto_metrics *metrics(const struct hg_conn *c)
{
    return &c->worker.metrics.proto[HG_PROTO_STOMP];
}

static void close_world(struct hg_conn *c)
{
    hg_slow_end(&c->session);
    assert_null(c->session.rare);
    assert_int_equal(hg_counted(&metrics(c)->slow_clients), 0);
    assert_int_equal(hg_counted(&metrics(c)->backlog_messages), 0);
    assert_int_equal(hg_counted(&metrics(c)->backlog_bytes), 0);
    hg_writer_close(&c->routing.text);
    seam_spare(true);
    hg_rules_free((struct hg_rules *)c->realm.rules);
    seam_spare(false);
    assert_int_equal(seam_live(), 0);
}

/* "old/a=body"; without a slash before it, "old a=body", by RabbitMQ's names. */
static void come(struct hg_conn *c, const char *text)
{
    struct hg_bytes all = hg_bytes_str(text);
    struct hg_bytes name = hg_bytes(all.p, hg_bytes_index(all, '='));
    struct hg_bytes exchange = hg_bytes(name.p, 3);
    const struct hg_message_parts parts = {.exchange = exchange,
                                           .routing_key = hg_bytes_skip(name, 4),
                                           .body = hg_bytes_skip(all, name.n + 1)};
    seam_spare(true);
    struct hg_delivery d = {.message = hg_message_new(&parts)};
    seam_spare(false);
    bool is_source = text[3] == ' ';
    for (enum hg_slow p = 0; p < HG_SLOW_N && !is_source; p++) {
        if (hg_bytes_eq(exchange, hg_bytes_str(names[p]))) {
            d.address = name;
            d.rule = hg_rules_spec(c->realm.rules, p);
        }
    }
    c->routing.by_address[HG_PROTO_STOMP] = (struct hg_trie *)(void *)c; /* only compared */
    c->sub.index = is_source ? NULL : c->routing.by_address[HG_PROTO_STOMP];
    c->sub.next_match = NULL;
    if (!c->is_closing) {
        deliver(&c->session, &d, &c->sub);
    }
    hg_message_unref(d.message);
}

/* ---- Scripts ---- */

enum kind { END, COME, PENDING, DRAINED, SENT, WAITS, LOST, HIDE, LEAVE, OVER };

static const struct script {
    const char *title;
    struct {
        enum kind kind;
        const char *text;
    } steps[16];
} scripts[] = {
    /* clang-format off */
    {"who keeps up gets everything", {
        {COME, "new/a=1"}, {COME, "old/a=2"}, {COME, "val/a=3"}, {COME, "cut/a=4"}, {COME, "old a=5"},
        {SENT, "new/a=1 old/a=2 val/a=3 cut/a=4 =5 "}, {WAITS, "0"}, {LOST, "0"}}},
    {"drop-new: what comes meanwhile is lost", {
        {PENDING, "100"}, {COME, "new/a=1"}, {COME, "new/a=2"}, {SENT, ""}, {WAITS, "0"}, {LOST, "2"},
        {PENDING, "90"}, {COME, "new/a=3"}, {SENT, "new/a=3 "},
        {PENDING, "0"}, {DRAINED, ""}, {SENT, ""}, {COME, "new/a=4"}, {SENT, "new/a=4 "}, {LOST, "2"}}},
    {"drop-oldest: it waits", {
        {PENDING, "100"}, {COME, "old/a=1"}, {COME, "old/b=2"}, {SENT, ""}, {WAITS, "2"}, {LOST, "0"},
        {PENDING, "20"}, {DRAINED, ""}, {SENT, "old/a=1 old/b=2 "}, {WAITS, "0"}}},
    {"what comes behind those that wait waits, too, though there is room", {
        {PENDING, "100"}, {COME, "old/a=1"}, {PENDING, "50"}, {COME, "old/a=2"}, {COME, "val/a=3"}, {SENT, ""},
        {COME, "new/a=4"}, {SENT, "new/a=4 "}, {PENDING, "0"}, {DRAINED, ""}, {SENT, "old/a=1 old/a=2 val/a=3 "}}},
    {"latest: one of each address", {
        {PENDING, "100"}, {COME, "val/a=1"}, {COME, "val/b=2"}, {COME, "val/a=3"}, {SENT, ""}, {WAITS, "2"}, {LOST, "0"},
        {PENDING, "0"}, {DRAINED, ""}, {SENT, "val/a=3 val/b=2 "}}},
    {"by RabbitMQ's names it is the rule that maps back", {
        {PENDING, "100"}, {COME, "val a=1"}, {COME, "val b=2"}, {COME, "val a=3"}, {COME, "new a=4"}, {COME, "oth a=5"},
        {WAITS, "2"}, {LOST, "2"}, {PENDING, "0"}, {DRAINED, ""}, {SENT, "=3 =2 "}}},
    {"disconnect: the first that has no room is the last", {
        {PENDING, "99"}, {COME, "cut/a=1"}, {SENT, "cut/a=1 "}, {COME, "cut/a=2"}, {SENT, ""}, {OVER, ""}, {LOST, "0"}}},
    {"as much goes out as there is room for", {
        {PENDING, "100"}, {COME, "old/a=0123456789012345678901234567890123456789"},
        {COME, "old/b=0123456789012345678901234567890123456789"}, {COME, "old/c=0123456789"},
        {PENDING, "50"}, {DRAINED, ""}, {SENT, "old/a=0123456789012345678901234567890123456789 "}, {WAITS, "2"},
        {DRAINED, ""}, {SENT, ""}, {PENDING, "20"}, {DRAINED, ""},
        {SENT, "old/b=0123456789012345678901234567890123456789 old/c=0123456789 "}, {WAITS, "0"}}},
    {"what the drained output would have no room for does not wait", {
        {PENDING, "100"},
        {COME, "old/a=012345678901234567890123456789012345678901234567890123456789012345678901234567890"},
        {WAITS, "0"}, {LOST, "1"}, {PENDING, "0"}, {DRAINED, ""}, {SENT, ""}}},
    {"whoever may not see it any more does not", {
        {PENDING, "100"}, {COME, "old/a=1"}, {COME, "old a=2"}, {HIDE, ""}, {PENDING, "0"}, {DRAINED, ""},
        {SENT, ""}, {WAITS, "0"}}},
    {"it goes with its subscription", {
        {PENDING, "100"}, {COME, "old/a=1"}, {COME, "val/a=1"}, {LEAVE, ""}, {WAITS, "0"}, {LOST, "0"},
        {PENDING, "0"}, {DRAINED, ""}, {SENT, ""}}},
    /* clang-format on */
};

static void step(struct hg_conn *c, const char *title, enum kind kind, const char *text)
{
    struct hg_slow_stats stats;
    size_t n = strtoul(text, NULL, 10);
    switch (kind) {
    case COME: come(c, text); break;
    case PENDING: c->pending = n; break;
    case DRAINED: hg_slow_resume(&c->session); break;
    case HIDE: c->is_hidden = true; break;
    case LEAVE: hg_slow_forget(&c->sub); break;
    case SENT:
        if (strcmp(c->sent, text) != 0) {
            fail_msg("%s: sent %s, not %s", title, c->sent, text);
        }
        c->sent[0] = '\0';
        break;
    case WAITS:
        hg_slow_stats(&c->session, &stats);
        if (stats.waiting_n != n || hg_counted(&metrics(c)->backlog_messages) != n ||
            hg_counted(&metrics(c)->backlog_bytes) != stats.waiting_bytes) {
            fail_msg("%s: %zu wait, not %zu", title, stats.waiting_n, n);
        }
        break;
    case LOST: assert_int_equal(c->dropped_n, n); break;
    case OVER: assert_int_equal(c->too_slow_n, 1); break;
    case END: break;
    }
}

static void every_policy_does_what_it_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        struct hg_conn c;
        open_world(&c);
        for (size_t k = 0; scripts[i].steps[k].kind != END; k++) {
            step(&c, scripts[i].title, scripts[i].steps[k].kind, scripts[i].steps[k].text);
        }
        assert_int_equal(hg_counted(&metrics(&c)->slow_closed), c.too_slow_n);
        close_world(&c);
    }
}

static void each_policy_counts_for_itself(void **state)
{
    struct hg_conn c;
    (void)state;
    open_world(&c);
    c.config.slow_backlog_bytes = 1500;
    c.pending = HIGH;
    for (unsigned i = 0; i < 20; i++) {
        come(&c, "new/a=1");
        come(&c, "old/a=1");
        come(&c, "val/a=1");
    }
    const struct hg_proto_metrics *m = metrics(&c);
    assert_int_equal(hg_counted(&m->slow_dropped[HG_SLOW_DROP_NEW]), 20);
    assert_in_range(hg_counted(&m->slow_dropped[HG_SLOW_DROP_OLDEST]), 15, 19);
    assert_in_range(hg_counted(&m->slow_dropped[HG_SLOW_LATEST]), 15, 19);
    assert_int_equal(hg_counted(&m->slow_clients), 1);
    struct hg_slow_stats stats;
    assert_true(hg_slow_stats(&c.session, &stats));
    assert_int_equal(stats.dropped_n, hg_counted(&m->dropped));
    assert_int_equal(stats.dropped_n + stats.waiting_n, 60);
    assert_in_range(c.dropped_n, 20,
                    stats.dropped_n); /* of those that were replaced nobody is told */
    come(&c, "cut/a=1");
    assert_int_equal(hg_counted(&m->slow_dropped[HG_SLOW_DISCONNECT]), 1);
    close_world(&c);
}

static void what_must_not_be_lost_is_always_sent(void **state)
{
    struct hg_conn c;
    (void)state;
    open_world(&c);
    c.pending = HIGH;
    come(&c, "old/a=1");
    assert_true(hg_slow_admits(&c.session, &(struct hg_delivery){.must_keep = true}, NULL, 1));
    assert_true(hg_slow_admits(&c.session, &(struct hg_delivery){.is_retained = true}, NULL, 1));
    assert_int_equal(c.awaits_n, 1);
    close_world(&c);
}

static void any_allocation_may_fail(void **state)
{
    (void)state;
    bool has_failed = true;
    for (size_t nth = 1; has_failed; nth++) {
        struct hg_conn c;
        open_world(&c);
        seam_fail_alloc(nth);
        c.pending = HIGH;
        come(&c, "old/a=1");
        come(&c, "val/a=2");
        come(&c, "val/a=3");
        c.pending = 0;
        hg_slow_resume(&c.session);
        has_failed = seam_allocs() >= nth;
        seam_fail_alloc(0);
        assert_true(has_failed || strcmp(c.sent, "old/a=1 val/a=3 ") == 0);
        close_world(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_policy_does_what_it_says),
        cmocka_unit_test(each_policy_counts_for_itself),
        cmocka_unit_test(what_must_not_be_lost_is_always_sent),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
