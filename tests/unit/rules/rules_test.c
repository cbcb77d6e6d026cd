/* SPDX-License-Identifier: Apache-2.0 */
/* Publishes out and deliveries back through tables that show each promise about addresses; what is
 * refused; what is reported. */
#include "rules/rules.h"

#include "base/mem.h"
#include "fixture.h"
#include "seam/seam.h"

#include <stdio.h>

#define TEN     "0123456789"
#define FIFTY   TEN TEN TEN TEN TEN
#define HUNDRED FIFTY FIFTY

static const struct hg_rule_spec home[] = {
    {.name = "sensors",
     .pattern = ALL("Sensor/{kind}/{room}"),
     .exchange = "telemetry",
     .key = "sensor.{kind}.{room}",
     .via = (const char *const[]){"dead"},
     .via_n = 1},
    {.name = "swap", .pattern = ALL("swap/{a}/{b}"), .exchange = "events", .key = "s.{b}.{a}"},
    {.name = "logs", .pattern = ALL("log/{rest...}"), .exchange = "events", .key = "log.{rest...}"},
    {.name = "middle",
     .pattern = ALL("mid/{kind}/{rest...}"),
     .exchange = "events",
     .key = "mid.{rest...}.{kind}"},
    {.name = "bare", .pattern = ALL("bare/{x}"), .exchange = "orders", .key = "{x}"},
    {.name = "bare_rest", .pattern = ALL("all/{r...}"), .exchange = "dead", .key = "{r...}"},
    {.name = "order",
     .pattern = {NULL, NULL, "/orders/{id}"},
     .exchange = "orders",
     .key = "order.{id}.created"},
    {.name = "news",
     .pattern = ALL("news"),
     .exchange = "news",
     .key = "n",
     .via = (const char *const[]){"spread"},
     .via_n = 1},
    {.name = "alerts", .pattern = ALL("alerts"), .exchange = "news", .key = "a"},
    {.name = "work", .pattern = ALL("work"), .queue = "work.items"},
    {.name = "cmd", .pattern = ALL("cmd/{id}"), .exchange = "events", .key = "cmd"},
    {.name = "typed", .pattern = ALL("typed/{x}"), .exchange = "typed", .key = "t.{x}"},
    {.name = "plain",
     .pattern = ALL("plain/{x}/{rest...}"),
     .exchange = "telemetry",
     .key = "plain.{x}.{rest...}",
     .escape = HG_ESCAPE_PLAIN},
    {.name = "dialects",
     .pattern = {"m/{x}/{y}", "/s/{y}/{x}", "/h/{x}/{y}"},
     .exchange = "events",
     .key = "d.{x}.{y}"},
    {.name = "slash", .pattern = ALL("/lead/{x}"), .exchange = "events", .key = "lead.{x}"},
    {.name = "long",
     .pattern = ALL("long/{x}/{rest...}"),
     .exchange = "telemetry",
     .key = "long.{x}.{rest...}",
     .overlong = HG_OVERLONG_HASH},
    BUILTIN,
};

static struct hg_rules *home_new(void)
{
    return fixture_new(home, sizeof(home) / sizeof(home[0]));
}

static void an_address_becomes_the_key_of_its_first_rule(void **state)
{
    static const struct {
        enum hg_protocol proto;
        const char *address, *rule, *exchange, *key;
    } rows[] = {
        {HG_PROTO_MQTT, "Sensor/temp/hall", "sensors", "telemetry", "sensor.temp.hall"},
        {HG_PROTO_STOMP, "Sensor/temp/hall", "sensors", "telemetry", "sensor.temp.hall"},
        {HG_PROTO_HTTP, "Sensor/te.mp/", "sensors", "telemetry", "sensor.te%2Emp."},
        {HG_PROTO_MQTT, "Sensor//hall", "sensors", "telemetry", "sensor..hall"},
        {HG_PROTO_MQTT, "Sensor/a/b/c", "builtin", "amq.topic", "Sensor.a.b.c"},
        {HG_PROTO_MQTT, "sensor/a/b", "builtin", "amq.topic", "sensor.a.b"},
        {HG_PROTO_MQTT, "swap/1/2", "swap", "events", "s.2.1"},
        {HG_PROTO_MQTT, "log", "logs", "events", "log"},
        {HG_PROTO_MQTT, "log/", "logs", "events", "log."},
        {HG_PROTO_MQTT, "log//x", "logs", "events", "log..x"},
        {HG_PROTO_MQTT, "log/a.b/*", "logs", "events", "log.a%2Eb.%2A"},
        {HG_PROTO_MQTT, "log/%2F%252F", "logs", "events", "log./%2F"},
        {HG_PROTO_MQTT, "mid/k", "middle", "events", "mid.k"},
        {HG_PROTO_MQTT, "mid/k/", "middle", "events", "mid..k"},
        {HG_PROTO_MQTT, "mid/k/a/b", "middle", "events", "mid.a.b.k"},
        {HG_PROTO_MQTT, "bare/x", "bare", "orders", "x"},
        {HG_PROTO_MQTT, "all", "bare_rest", "dead", ""},
        {HG_PROTO_MQTT, "all//", "bare_rest", "dead", "."},
        {HG_PROTO_HTTP, "orders/17", "order", "orders", "order.17.created"},
        {HG_PROTO_MQTT, "orders/17", "builtin", "amq.topic", "orders.17"},
        {HG_PROTO_MQTT, "news", "news", "news", "n"},
        {HG_PROTO_MQTT, "alerts", "alerts", "news", "a"},
        {HG_PROTO_MQTT, "work", "work", "", "work.items"},
        {HG_PROTO_MQTT, "cmd/1", "cmd", "events", "cmd"},
        {HG_PROTO_MQTT, "plain/a.b/c/d", "plain", "telemetry", "plain.a.b.c.d"},
        {HG_PROTO_MQTT, "m/1/2", "dialects", "events", "d.1.2"},
        {HG_PROTO_STOMP, "s/2/1", "dialects", "events", "d.1.2"},
        {HG_PROTO_HTTP, "h/1/2", "dialects", "events", "d.1.2"},
        {HG_PROTO_MQTT, "/lead/x", "slash", "events", "lead.x"},
        {HG_PROTO_STOMP, "lead/x", "slash", "events", "lead.x"},
        {HG_PROTO_MQTT, "lead/x", "builtin", "amq.topic", "lead.x"},
        {HG_PROTO_MQTT, "a.b/c", "builtin", "amq.topic", "a.b.c"},
        {HG_PROTO_MQTT, "/", "builtin", "amq.topic", "."},
        {HG_PROTO_MQTT, "/a", "builtin", "amq.topic", ".a"},
    };
    struct hg_rules *r = home_new();
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hg_route route;
        enum hg_status s =
            hg_rules_publish(r, rows[i].proto, hg_bytes_str(rows[i].address), &route);
        if (s != HG_OK || strcmp(hg_rules_spec(r, route.rule)->name, rows[i].rule) != 0 ||
            !hg_bytes_eq(route.exchange, hg_bytes_str(rows[i].exchange)) ||
            !hg_bytes_eq(route.key, hg_bytes_str(rows[i].key)) || route.is_hashed) {
            fail_msg("%s: %s, key %.*s", rows[i].address, hg_status_info(s)->name,
                     s == HG_OK ? (int)route.key.n : 0, (const char *)route.key.p);
        }
    }
    hg_rules_free(r);
}

static void what_cannot_be_published_is_told_apart(void **state)
{
    static const struct {
        const char *address;
        enum hg_status status;
    } rows[] = {
        {"", HG_BAD_ADDRESS},
        {"a/+", HG_BAD_ADDRESS},
        {"#", HG_BAD_ADDRESS},
        {"a+b", HG_BAD_ADDRESS},
        {"bare/", HG_BAD_ADDRESS}, /* RabbitMQ and we read an empty key as no word */
        {"all/", HG_BAD_ADDRESS},
        {"log/" HUNDRED HUNDRED FIFTY, HG_OK},
        {"log/" HUNDRED HUNDRED FIFTY "1", HG_OK},
        {"log/" HUNDRED HUNDRED FIFTY "12", HG_KEY_TOO_LONG},
        {"log/" HUNDRED HUNDRED FIFTY ".", HG_KEY_TOO_LONG}, /* three bytes as %2E */
        {HUNDRED HUNDRED HUNDRED, HG_KEY_TOO_LONG},
    };
    struct hg_rules *r = home_new();
    struct hg_route route;
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum hg_status s =
            hg_rules_publish(r, HG_PROTO_MQTT, hg_bytes_str(rows[i].address), &route);
        if (s != rows[i].status) {
            fail_msg("%s: %s", rows[i].address, hg_status_info(s)->name);
        }
    }
    assert_string_equal(hg_rules_spec(r, route.rule)->name, "builtin");
    hg_rules_free(r);
    r = fixture_new(home, 1);
    assert_int_equal(hg_rules_publish(r, HG_PROTO_MQTT, HG_BYTES("x"), &route), HG_NO_RULE);
    hg_rules_free(r);
}

static void a_delivery_comes_back_by_the_first_rule_that_fits(void **state)
{
    static const struct {
        enum hg_protocol proto;
        const char *exchange, *key, *address; /* NULL: it has none */
    } rows[] = {
        {HG_PROTO_MQTT, "telemetry", "sensor.temp.hall", "Sensor/temp/hall"},
        {HG_PROTO_MQTT, "dead", "sensor.temp.hall", "Sensor/temp/hall"}, /* via */
        {HG_PROTO_MQTT, "events", "sensor.temp.hall", NULL},
        {HG_PROTO_MQTT, "telemetry", "sensor.te%2Emp.", "Sensor/te.mp/"},
        {HG_PROTO_MQTT, "telemetry", "sensor.a.b.c", NULL},
        {HG_PROTO_MQTT, "telemetry", "sensor.a/b.#", "Sensor/a%2Fb/%23"},
        {HG_PROTO_MQTT, "telemetry", "sensor.*.b", NULL}, /* no address becomes this key */
        {HG_PROTO_MQTT, "telemetry", "sensor.\xff.b", NULL},
        {HG_PROTO_STOMP, "telemetry", "sensor.\xc3\xa4.b", "Sensor/\xc3\xa4/b"},
        {HG_PROTO_MQTT, "events", "s.2.1", "swap/1/2"},
        {HG_PROTO_MQTT, "events", "log", "log"},
        {HG_PROTO_MQTT, "events", "log.", "log/"},
        {HG_PROTO_MQTT, "events", "log..", "log//"},
        {HG_PROTO_MQTT, "events", "mid.k", "mid/k"},
        {HG_PROTO_MQTT, "events", "mid..k", "mid/k/"},
        {HG_PROTO_MQTT, "events", "mid.a.b.k", "mid/k/a/b"},
        {HG_PROTO_MQTT, "events", "mid", NULL},
        {HG_PROTO_MQTT, "orders", "x", "bare/x"},
        {HG_PROTO_MQTT, "orders", "", NULL},
        {HG_PROTO_MQTT, "dead", "", "all"},
        {HG_PROTO_MQTT, "dead", "a.b", "all/a/b"},
        {HG_PROTO_HTTP, "orders", "order.17.created", "orders/17"},
        {HG_PROTO_MQTT, "orders", "order.17.created", NULL},
        {HG_PROTO_MQTT, "news", "n", "news"},
        {HG_PROTO_MQTT, "news", "a", "alerts"},
        {HG_PROTO_MQTT, "news", "whatever", "news"}, /* a fanout exchange does not look at it */
        {HG_PROTO_MQTT, "spread", "whatever", "news"},
        {HG_PROTO_MQTT, "", "work.items", "work"},
        {HG_PROTO_MQTT, "", "other", NULL},
        {HG_PROTO_MQTT, "events", "cmd", NULL}, /* publish-only */
        {HG_PROTO_MQTT, "typed", "t.1", "typed/1"},
        {HG_PROTO_MQTT, "telemetry", "plain.a.b.c", "plain/a/b/c"},
        {HG_PROTO_MQTT, "telemetry", "plain.a.b/c", "plain/a/b/c"},
        {HG_PROTO_MQTT, "telemetry", "plain.a/b.c", NULL}, /* {x} is one level */
        {HG_PROTO_MQTT, "telemetry", "plain.a.#", NULL},   /* never in an address */
        {HG_PROTO_MQTT, "events", "d.1.2", "m/1/2"},
        {HG_PROTO_STOMP, "events", "d.1.2", "s/2/1"},
        {HG_PROTO_HTTP, "events", "d.1.2", "h/1/2"},
        {HG_PROTO_MQTT, "events", "lead.x", "/lead/x"},
        {HG_PROTO_STOMP, "events", "lead.x", "lead/x"},
        {HG_PROTO_MQTT, "amq.topic", "a.b.c", "a/b/c"},
        {HG_PROTO_MQTT, "amq.topic", "a.b/c", "a/b/c"},
        {HG_PROTO_MQTT, "amq.topic", ".", "/"},
        {HG_PROTO_MQTT, "amq.topic", "", NULL},
        {HG_PROTO_MQTT, "amq.topic", "a.*", "a/*"},
        {HG_PROTO_MQTT, "amq.topic", "a.#", NULL},
        {HG_PROTO_MQTT, "amq.direct", "a", NULL},
        {HG_PROTO_MQTT, "unheard-of", "a", NULL},
    };
    struct hg_rules *r = home_new();
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hg_writer out = {0};
        size_t rule;
        hg_writer_str(&out, ">");
        bool has = hg_rules_deliver(r, rows[i].proto, hg_bytes_str(rows[i].exchange),
                                    hg_bytes_str(rows[i].key), HG_BYTES(""), &out, &rule);
        struct hg_bytes got = hg_bytes_skip(hg_writer_view(&out), 1);
        if (has != (rows[i].address != NULL) || !hg_bytes_eq(got, hg_bytes_str(rows[i].address))) {
            fail_msg("%s %s: \"%.*s\"", rows[i].exchange, rows[i].key, HG_BYTES_FMT(got));
        }
        hg_writer_close(&out);
    }
    hg_rules_free(r);
}

static void captures_are_as_in_the_address(void **state)
{
    struct hg_rules *r = home_new();
    struct hg_route route;
    (void)state;
    assert_int_equal(hg_rules_publish(r, HG_PROTO_STOMP, HG_BYTES("s/%2F/a.b"), &route), HG_OK);
    assert_int_equal(route.captures_n, 2);
    assert_text(route.captures[0], "%2F");
    assert_text(route.captures[1], "a.b");
    assert_int_equal(hg_rules_publish(r, HG_PROTO_MQTT, HG_BYTES("mid/k"), &route), HG_OK);
    assert_int_equal(route.captures_n, 2);
    assert_text(route.captures[1], "");
    assert_int_equal(hg_rules_publish(r, HG_PROTO_MQTT, HG_BYTES("mid/k/a/b"), &route), HG_OK);
    assert_text(route.captures[1], "a/b");
    hg_rules_free(r);
}

static bool deliver_is(const struct hg_rules *r, enum hg_protocol proto, const char *exchange,
                       struct hg_bytes key, const char *original, const char *want)
{
    struct hg_writer out = {0};
    size_t rule;
    bool has = hg_rules_deliver(r, proto, hg_bytes_str(exchange), key, hg_bytes_str(original), &out,
                                &rule);
    bool is_so = has == (want != NULL) && hg_bytes_eq(hg_writer_view(&out), hg_bytes_str(want));
    hg_writer_close(&out);
    return is_so;
}

static void an_overlong_key_is_hashed_and_its_address_believed_only_if_it_is_true(void **state)
{
    static const char address[] = "long/x/" HUNDRED "/" HUNDRED "/" HUNDRED "/.";
    static const char other[] = "long/x/" HUNDRED "/" HUNDRED "/" HUNDRED "/,";
    struct hg_rules *r = home_new();
    struct hg_route route;
    struct hg_route second;
    (void)state;
    assert_int_equal(hg_rules_publish(r, HG_PROTO_MQTT, HG_BYTES("long/x/y"), &route), HG_OK);
    assert_false(route.is_hashed);
    assert_int_equal(hg_rules_publish(r, HG_PROTO_MQTT, hg_bytes_str(address), &route), HG_OK);
    assert_true(route.is_hashed);
    assert_true(route.key.n <= HG_KEY_MAX);
    assert_true(hg_bytes_starts(route.key, HG_BYTES("long.x." HUNDRED "." HUNDRED ".~.")));
    assert_int_equal(hg_rules_publish(r, HG_PROTO_MQTT, hg_bytes_str(other), &second), HG_OK);
    assert_false(hg_bytes_eq(route.key, second.key));
    assert_true(deliver_is(r, HG_PROTO_MQTT, "telemetry", route.key, address, address));
    /* Not its address: taken for a key like any other. */
    struct hg_writer as_key = {0};
    size_t rule;
    assert_true(hg_rules_deliver(r, HG_PROTO_MQTT, HG_BYTES("telemetry"), route.key,
                                 hg_bytes_str(other), &as_key, &rule));
    assert_true(hg_bytes_starts(hg_writer_view(&as_key), HG_BYTES("long/x/" HUNDRED "/")));
    assert_true(hg_writer_n(&as_key) < 300);
    hg_writer_close(&as_key);
    assert_false(deliver_is(r, HG_PROTO_MQTT, "events", route.key, address, address));
    assert_true(
        deliver_is(r, HG_PROTO_MQTT, "telemetry", HG_BYTES("sensor.a.b"), address, "Sensor/a/b"));
    assert_true(deliver_is(r, HG_PROTO_MQTT, "telemetry", HG_BYTES("sensor.a.b"), "Sensor/+/b",
                           "Sensor/a/b"));
    hg_rules_free(r);
}

static void the_address_travels_between_dialects(void **state)
{
    static const char *const name[] = {"x-headgate-address"};
    static const char *const value[] = {"{address}"};
    static const struct hg_rule_spec specs[] = {
        {.name = "long",
         .pattern = {"m/{x}/{y}", "/s/{y}/{x}", NULL},
         .exchange = "telemetry",
         .key = "l.{x}.{y}",
         .overlong = HG_OVERLONG_HASH},
        {.name = "told",
         .pattern = {"tell/{x}", "/say/{x}", NULL},
         .exchange = "news",
         .key = "told",
         .header_names = name,
         .header_values = value,
         .headers_n = 1},
    };
    struct hg_rules *r = fixture_new(specs, 2);
    struct hg_route route;
    (void)state;
    assert_int_equal(
        hg_rules_publish(r, HG_PROTO_MQTT, HG_BYTES("m/1/" HUNDRED HUNDRED HUNDRED), &route),
        HG_OK);
    assert_true(route.is_hashed);
    assert_true(deliver_is(r, HG_PROTO_STOMP, "telemetry", route.key,
                           "m/1/" HUNDRED HUNDRED HUNDRED, "s/" HUNDRED HUNDRED HUNDRED "/1"));
    assert_true(
        deliver_is(r, HG_PROTO_HTTP, "telemetry", route.key, "m/1/" HUNDRED HUNDRED HUNDRED, NULL));
    /* A rule that sets the header itself needs no capture in its key. */
    assert_int_equal(hg_rules_publish(r, HG_PROTO_MQTT, HG_BYTES("tell/7"), &route), HG_OK);
    assert_false(route.is_hashed);
    assert_true(deliver_is(r, HG_PROTO_MQTT, "news", route.key, "tell/7", "tell/7"));
    assert_true(deliver_is(r, HG_PROTO_STOMP, "news", route.key, "tell/7", "say/7"));
    assert_true(deliver_is(r, HG_PROTO_STOMP, "news", route.key, "say/7", "say/7"));
    assert_true(deliver_is(r, HG_PROTO_MQTT, "news", route.key, "", NULL));
    hg_rules_free(r);
}

static void headers_are_filled_in(void **state)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    static const char *const values[] = {"{client_id}", "{protocol}:{user}/{address}",
                                         "{kind} in {room}, fixed }", "{rest...}"};
    static const char *const want[] = {"dev-1", "mqtt:ann/x/temp/hall/a/b", "temp in hall, fixed }",
                                       "a/b"};
    static const struct hg_rule_spec spec = {.name = "h",
                                             .pattern = {"x/{kind}/{room}/{rest...}", NULL, NULL},
                                             .exchange = "events",
                                             .key = "x.{kind}.{room}.{rest...}",
                                             .header_names = names,
                                             .header_values = values,
                                             .headers_n = 4};
    struct hg_rules *r = fixture_new(&spec, 1);
    struct hg_bytes address = HG_BYTES("x/temp/hall/a/b");
    struct hg_rule_vars vars = {HG_BYTES("dev-1"), HG_BYTES("ann"), address, HG_PROTO_MQTT};
    struct hg_route route;
    (void)state;
    assert_int_equal(hg_rules_publish(r, HG_PROTO_MQTT, address, &route), HG_OK);
    for (size_t i = 0; i < 4; i++) {
        struct hg_writer out = {0};
        hg_rules_header(r, &route, i, &vars, &out);
        assert_text(hg_writer_view(&out), want[i]);
        hg_writer_close(&out);
    }
    hg_rules_free(r);
}

/* Finds {query.region} and {header.X-Shop}, unless told not to. */
static bool find_value(void *ctx, const struct hg_request_name *name, struct hg_bytes *value_out)
{
    const char *lacking = ctx;
    bool is_region = !name->is_header && hg_bytes_eq(name->name, HG_BYTES("region"));
    assert_true(is_region || (name->is_header && hg_bytes_eq(name->name, HG_BYTES("X-Shop"))));
    *value_out = is_region ? HG_BYTES("e.u/*") : HG_BYTES("seven");
    return !hg_bytes_eq(name->name, hg_bytes_str(lacking));
}

static const char *const sold_names[] = {"shop", "again"};
static const char *const sold_values[] = {"<{header.X-Shop}>", "{query.region}{id}"};
static const struct hg_rule_spec sold[] = {
    {.where = "f:1:1",
     .name = "sold",
     .pattern = {NULL, NULL, "/sold/{id}"},
     .exchange = "events",
     .key = "sold.{query.region}.{id}",
     .header_names = sold_names,
     .header_values = sold_values,
     .headers_n = 2},
    {.where = "f:2:1",
     .name = "told",
     .pattern = {NULL, NULL, "/told/{id}"},
     .exchange = "telemetry",
     .key = "told.{id}",
     .header_names = sold_names,
     .header_values = sold_values,
     .headers_n = 1},
    {.where = "f:3:1",
     .name = "plain",
     .pattern = {NULL, NULL, "/plain"},
     .exchange = "dead",
     .key = "plain.{query.region}",
     .escape = HG_ESCAPE_PLAIN},
};

static void no_plan(void *ctx, const struct hg_binding_plan *plan)
{
    (void)ctx;
    fail_msg("a plan for %.*s", HG_BYTES_FMT(plan->key));
}

static void a_value_of_the_request_is_a_word_and_nothing_comes_back_by_it(void **state)
{
    struct hg_rules *r = fixture_new(sold, 3);
    const struct hg_request_source source = {find_value, (void *)(uintptr_t) ""};
    const struct hg_request_source no_shop = {find_value, (void *)(uintptr_t) "X-Shop"};
    struct hg_route route;
    struct hg_writer out = {0};
    size_t rule;
    const char *why;
    (void)state;
    struct hg_bytes address = HG_BYTES("sold/1.7");
    assert_int_equal(hg_rules_publish_request(r, HG_PROTO_HTTP, address, &source, &route), HG_OK);
    assert_text(route.key, "sold.e%2Eu/%2A.1%2E7");
    const struct hg_rule_vars vars = {.protocol = HG_PROTO_HTTP, .address = address};
    hg_rules_header(r, &route, 0, &vars, &out);
    hg_rules_header(r, &route, 1, &vars, &out);
    assert_text(hg_writer_view(&out), "<seven>e.u/*1.7");
    assert_int_equal(hg_rules_publish_request(r, HG_PROTO_HTTP, address, &no_shop, &route),
                     HG_NO_VALUE);
    assert_int_equal(route.rule, 0);
    assert_int_equal(hg_rules_publish_request(r, HG_PROTO_HTTP, address, NULL, &route),
                     HG_NO_VALUE);
    assert_int_equal(hg_rules_publish(r, HG_PROTO_HTTP, address, &route), HG_NO_VALUE);
    hg_writer_reset(&out);
    assert_false(hg_rules_deliver(r, HG_PROTO_HTTP, HG_BYTES("events"), HG_BYTES("sold.eu.1"),
                                  HG_BYTES("sold/1"), &out, &rule));
    assert_int_equal(
        hg_rules_subscribe(r, NULL, HG_PROTO_HTTP, HG_BYTES("sold/+"), no_plan, NULL, &why),
        HG_NO_RULE);
    assert_string_equal(
        why, "the rule's key holds what only a request says, so nothing comes back through it");

    address = HG_BYTES("told/1"); /* where only headers name one, all else is as ever */
    assert_int_equal(hg_rules_publish_request(r, HG_PROTO_HTTP, address, &no_shop, &route),
                     HG_NO_VALUE);
    assert_int_equal(hg_rules_publish(r, HG_PROTO_HTTP, address, &route), HG_OK);
    assert_true(hg_rules_deliver(r, HG_PROTO_HTTP, HG_BYTES("telemetry"), HG_BYTES("told.1"),
                                 HG_BYTES(""), &out, &rule));
    assert_text(hg_writer_view(&out), "told/1");

    assert_int_equal(hg_rules_publish_request(r, HG_PROTO_HTTP, HG_BYTES("plain"), &source, &route),
                     HG_OK);
    assert_text(route.key, "plain.e.u/*");
    hg_writer_reset(&out);
    assert_int_equal(hg_rules_report(r, &out), 2);
    assert_text(hg_writer_view(&out),
                "f:1:1: rule sold: its key holds what only a request says: publish-only, nothing "
                "comes back through it\n"
                "f:3:1: rule plain: its key holds what only a request says: publish-only, nothing "
                "comes back through it\n");
    hg_writer_close(&out);
    hg_rules_free(r);
    assert_int_equal(seam_live(), 0);
}

static void every_problem_is_reported(void **state)
{
    static const char *const bad_headers[] = {
        "BCC", "ok", "open", "dots", "amb", "", "x-headgate-address"};
    static const char *const bad_values[] = {"x", "{nope}", "{a", "{r}", "{user}", "x", "{a}"};
    static const char *const via[] = {"nowhere"};
    static const struct hg_rule_spec specs[] = {
        {.where = "f:1:1", .name = "r1", .exchange = "events"},
        {.where = "f:2:1", .name = "r2", .pattern = ALL("a")},
        {.where = "f:3:1", .name = "r3", .pattern = ALL("a"), .exchange = "x", .queue = "q"},
        {.where = "f:4:1",
         .name = "r4",
         .pattern = ALL("a"),
         .exchange = "x",
         .via = via,
         .via_n = 1},
        {.where = "f:5:1", .name = "r5", .pattern = ALL("a/{x}/{x}"), .exchange = "events"},
        {.where = "f:6:1", .name = "r6", .pattern = ALL("{x...}/a"), .exchange = "events"},
        {.where = "f:7:1", .name = "r7", .pattern = ALL("a/b{x}"), .exchange = "events"},
        {.where = "f:8:1", .name = "r8", .pattern = ALL("a/+"), .exchange = "events"},
        {.where = "f:9:1", .name = "r9", .pattern = ALL("a"), .exchange = "events", .key = "k.{y}"},
        {.where = "f:10:1",
         .name = "r10",
         .pattern = ALL("{r...}"),
         .exchange = "events",
         .key = "{r}"},
        {.where = "f:11:1",
         .name = "r11",
         .pattern = ALL("{r}"),
         .exchange = "events",
         .key = "a.{r...}"},
        {.where = "f:12:1",
         .name = "r12",
         .pattern = ALL("{r}"),
         .exchange = "events",
         .key = "{r}.{r}"},
        {.where = "f:13:1",
         .name = "r13",
         .pattern = ALL("{r}"),
         .exchange = "events",
         .key = "x{r}"},
        {.where = "f:14:1",
         .name = "r14",
         .pattern = ALL("{r}"),
         .exchange = "events",
         .key = "*.{r}"},
        {.where = "f:15:1",
         .name = "r15",
         .pattern = {"{r}", "x", NULL},
         .exchange = "events",
         .key = "{r}"},
        {.where = "f:16:1", .name = "r16", .pattern = {NULL, "/", NULL}, .exchange = "events"},
        {.where = "f:17:1", .name = "r17", .pattern = ALL("a"), .queue = "q", .key = "k"},
        {.where = "f:18:1", .name = "r18", .pattern = ALL("{q}"), .queue = "{q}"},
        {.where = "f:19:1",
         .name = "r19",
         .pattern = ALL("{a}/{user}/{r...}"),
         .exchange = "events",
         .header_names = bad_headers,
         .header_values = bad_values,
         .headers_n = 7},
        {.where = "f:20:1", .name = "r20", .pattern = ALL("a/{ }"), .exchange = "events"},
        {.where = "f:21:1",
         .name = "r21",
         .pattern = ALL("a"),
         .exchange = "events",
         .key = HUNDRED HUNDRED HUNDRED},
        {.where = "f:22:1",
         .name = "r22",
         .pattern = ALL("{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}/{j}/{k}/{l}/{m}/{n}/{o}/{p}/{q}"),
         .exchange = "events"},
        {.where = "f:23:1",
         .name = "r23",
         .pattern = ALL("a"),
         .exchange = "events",
         .key = "{query.x}"},
        {.where = "f:24:1",
         .name = "r24",
         .pattern = {NULL, NULL, "a/{query.x}"},
         .exchange = "events"},
        {.where = "f:25:1",
         .name = "r25",
         .pattern = {NULL, NULL, "a"},
         .exchange = "events",
         .key = "a.{cookie.x}.{query.}.{query.a.b}"},
        {.where = "f:26:1",
         .name = "r26",
         .pattern = {NULL, NULL, "a"},
         .exchange = "events",
         .key = "{query.a}.{query.b}.{query.c}.{query.d}.{header.a}.{header.b}.{header.c}."
                "{header.d}.{query.e}"},
        {.where = "f:27:1", .name = "r27", .pattern = {NULL, NULL, "a"}, .queue = "{query.x}"},
        {.where = "f:28:1",
         .name = "r28",
         .pattern = ALL("a/{x}"),
         .exchange = "events",
         .key = "a",
         .slow = HG_SLOW_LATEST},
        {.where = "f:29:1",
         .name = "r29",
         .pattern = {NULL, NULL, "a"},
         .exchange = "events",
         .key = "{query.x}",
         .slow = HG_SLOW_DISCONNECT},
        {.where = "f:29:2",
         .name = "r30",
         .pattern = ALL("a/{x}"),
         .exchange = "amq.headers",
         .key = "{x}",
         .slow = HG_SLOW_LATEST},
    };
    static const struct hg_exchange_spec exchanges[] = {
        {"f:30:1", "events", HG_EXCHANGE_TOPIC},
        {"f:31:1", "events", HG_EXCHANGE_TOPIC},
        {"f:32:1", "amq.topic", HG_EXCHANGE_DIRECT},
        {"f:33:1", "amq.fanout", HG_EXCHANGE_FANOUT}, /* as it is */
    };
    static const char want[] =
        "f:31:1: exchange events: is declared twice\n"
        "f:32:1: exchange amq.topic: exists in every RabbitMQ, with another type\n"
        "f:1:1: rule r1: has no pattern: set topic, or one of mqtt, stomp and http\n"
        "f:2:1: rule r2: leads nowhere: set exchange or queue\n"
        "f:3:1: rule r3: has both exchange and queue: one of them decides\n"
        "f:4:1: rule r4: exchange: \"x\" is not declared: add an [[exchange]] with this name\n"
        "f:4:1: rule r4: via: \"nowhere\" is not declared: add an [[exchange]] with this name\n"
        "f:5:1: rule r5: mqtt: \"{x}\" is captured twice\n"
        "f:6:1: rule r6: mqtt: \"a\" follows a {name...}, which has to be the last level\n"
        "f:7:1: rule r7: mqtt: \"b{x}\" mixes text and braces: a level is a literal or one {name}\n"
        "f:8:1: rule r8: mqtt: \"+\" holds + or #, which stand in filters only: a pattern has {name} and {name...}\n"
        "f:9:1: rule r9: key: \"{y}\" is not captured by every pattern\n"
        "f:10:1: rule r10: key: \"{r}\" captures the rest: write it {name...}\n"
        "f:11:1: rule r11: key: \"{r...}\" captures one level: write it {name}, without the dots\n"
        "f:12:1: rule r12: key: \"{r}\" is captured twice\n"
        "f:13:1: rule r13: key: \"x{r}\" mixes text and braces: a word is a literal or one {name}\n"
        "f:14:1: rule r14: key: \"*\" would be a wildcard in a binding: a key has {name} and {name...}\n"
        "f:15:1: rule r15: key: \"{r}\" is not captured by every pattern\n"
        "f:16:1: rule r16: stomp: \"\" is an empty pattern\n"
        "f:17:1: rule r17: has a queue, whose name is the key: remove key\n"
        "f:18:1: rule r18: queue: \"{q}\" is a queue's name and takes no captures\n"
        "f:19:1: rule r19: headers: \"BCC\" is reserved\n"
        "f:19:1: rule r19: headers: \"{nope}\" is not captured by every pattern, nor is it client_id, user, protocol, address, query.NAME or header.NAME\n"
        "f:19:1: rule r19: headers: \"{a\" opens a { that is not closed\n"
        "f:19:1: rule r19: headers: \"{r}\" captures the rest: write it {name...}\n"
        "f:19:1: rule r19: headers: \"{user}\" is a capture and also something known of the client: rename the capture\n"
        "f:19:1: rule r19: headers: \"\" is not a name of 1 to 255 bytes\n"
        "f:19:1: rule r19: headers: \"x-headgate-address\" is reserved\n"
        "f:20:1: rule r20: mqtt: \"{ }\" is no capture: its name is made of letters, digits, _ and -\n"
        "f:21:1: rule r21: key: \"" HUNDRED HUNDRED HUNDRED "\" is longer than 255 bytes\n"
        "f:22:1: rule r22: mqtt: \"{q}\" is the 17th capture, and a rule may have 16\n"
        "f:23:1: rule r23: key: \"{query.x}\" is known over HTTP only: give the rule http = \"…\" and no other pattern\n"
        "f:24:1: rule r24: http: \"{query.x}\" is no capture: its name is made of letters, digits, _ and -\n"
        "f:25:1: rule r25: key: \"{cookie.x}\" is neither a capture, whose name is made of letters, digits, _ and -, nor {query.NAME} or {header.NAME}\n"
        "f:26:1: rule r26: key: \"{query.e}\" is the 9th value of the request, and a rule may name 8\n"
        "f:27:1: rule r27: queue: \"{query.x}\" is a queue's name and takes no captures\n"
        "f:28:1: rule r28: has slow, but its key does not hold its address: nothing comes back\n"
        "f:29:1: rule r29: has slow, but its key does not hold its address: nothing comes back\n"
        "f:29:2: rule r30: has slow, but its exchange's subscribers have a queue each: messages wait there\n";
    struct hg_writer err = {0};
    (void)state;
    assert_null(hg_rules_new(specs, sizeof(specs) / sizeof(specs[0]), exchanges, 4, &err));
    const char *got = (const char *)hg_writer_view(&err).p;
    hg_writer_u8(&err, 0);
    got = (const char *)hg_writer_view(&err).p;
    const char *at = want;
    while (*got != '\0' || *at != '\0') { /* line by line, to see which */
        size_t got_n = strcspn(got, "\n");
        size_t want_n = strcspn(at, "\n");
        if (got_n != want_n || memcmp(got, at, got_n) != 0) {
            fail_msg("\ngot  %.*s\nwant %.*s", (int)got_n, got, (int)want_n, at);
        }
        got += got_n + (got[got_n] != '\0');
        at += want_n + (at[want_n] != '\0');
    }
    hg_writer_close(&err);
}

static void a_pattern_has_at_most_64_levels(void **state)
{
    char pattern[2 * 65 + 1];
    struct hg_rule_spec spec = {.name = "deep", .pattern = ALL(pattern), .exchange = "events"};
    struct hg_writer err = {0};
    struct hg_route route;
    (void)state;
    for (size_t i = 0; i < 65; i++) {
        memcpy(pattern + 2 * i, "a/", 2);
    }
    pattern[2 * 64 - 1] = '\0';
    struct hg_rules *r = fixture_new(&spec, 1);
    assert_int_equal(hg_rules_publish(r, HG_PROTO_MQTT, hg_bytes_str(pattern), &route), HG_OK);
    pattern[2 * 64 - 1] = '/';
    pattern[2 * 65 - 1] = '\0';
    assert_int_equal(hg_rules_publish(r, HG_PROTO_MQTT, hg_bytes_str(pattern), &route), HG_NO_RULE);
    hg_rules_free(r);
    assert_null(hg_rules_new(&spec, 1, fixture_exchanges, FIXTURE_EXCHANGES_N, &err));
    hg_writer_close(&err);
}

static void the_report_shows_what_was_hardly_meant(void **state)
{
    static const char *const dead[] = {"dead"};
    static const struct hg_rule_spec specs[] = {
        {.where = "f:1:1",
         .name = "one",
         .pattern = ALL("a/{x}"),
         .exchange = "events",
         .key = "k.{x}"},
        {.where = "f:2:1",
         .name = "two",
         .pattern = ALL("b/{y}"),
         .exchange = "events",
         .key = "k.{y}"},
        {.where = "f:3:1",
         .name = "special",
         .pattern = ALL("c/1"),
         .exchange = "events",
         .key = "c.1"},
        {.where = "f:4:1",
         .name = "general",
         .pattern = ALL("c/{z}"),
         .exchange = "events",
         .key = "c.{z}"},
        {.where = "f:5:1",
         .name = "late",
         .pattern = ALL("a/7"),
         .exchange = "events",
         .key = "late"},
        {.where = "f:6:1",
         .name = "cmd",
         .pattern = ALL("cmd/{id}/{r...}"),
         .exchange = "events",
         .key = "cmd"},
        {.where = "f:7:1", .name = "jobs", .pattern = ALL("jobs/{id}"), .queue = "jobs"},
        {.where = "f:8:1",
         .name = "http",
         .pattern = {NULL, NULL, "/v1/{x}"},
         .exchange = "orders",
         .key = "v.{x}"},
        {.where = "f:9:1",
         .name = "stomp",
         .pattern = {NULL, "/amq/queue/{x}", NULL},
         .exchange = "orders",
         .key = "q.{x}"},
        {.where = "f:10:1",
         .name = "fine",
         .pattern = {NULL, "/amq/queues/{x}", "/v2/{x}"},
         .exchange = "orders",
         .key = "f.{x}"},
        {.where = "f:11:1",
         .name = "via1",
         .pattern = ALL("v/{x}"),
         .exchange = "telemetry",
         .key = "{x}.v",
         .via = dead,
         .via_n = 1},
        {.where = "f:12:1",
         .name = "via2",
         .pattern = ALL("w/{x...}"),
         .exchange = "amq.direct",
         .key = "w.{x...}",
         .via = dead,
         .via_n = 1},
        {.where = "f:13:1",
         .name = "half",
         .pattern = {"a/8", "/a8", NULL},
         .exchange = "events",
         .key = "half"},
        BUILTIN,
    };
    static const char want[] =
        "f:2:1: rule two: collides with rule one: mqtt address b/y becomes key k.y, which comes back from exchange \"events\" as a/y\n"
        "f:5:1: rule late: is never reached by a publish: rule one before it takes every such address\n"
        "f:6:1: rule cmd: its key does not hold {id} {r...}: publish-only, nothing comes back through it; a header x-headgate-address = \"{address}\" would carry it\n"
        "f:7:1: rule jobs: its queue's name does not hold {id}: its consumers do not learn the address; a header x-headgate-address = \"{address}\" would carry it\n"
        "f:8:1: rule http: http takes /v1 for itself: only /v1/topics/ reaches this rule\n"
        "f:9:1: rule stomp: stomp takes /amq/queue for itself, unless [stomp] rabbitmq_destinations = false\n"
        "f:12:1: rule via2: collides with rule via1: mqtt address w/v becomes key w.v, which comes back from exchange \"dead\" as v/w\n"
        "f:13:1: rule half: is never reached by a publish over mqtt: rule one before it takes every such address\n";
    struct hg_rules *r = fixture_new(specs, sizeof(specs) / sizeof(specs[0]));
    struct hg_writer out = {0};
    (void)state;
    assert_int_equal(hg_rules_report(r, &out), 8);
    struct hg_bytes got = hg_writer_view(&out);
    if (!hg_bytes_eq(got, hg_bytes_str(want))) {
        fail_msg("\ngot\n%.*s\nwant\n%s", HG_BYTES_FMT(got), want);
    }
    hg_writer_close(&out);
    hg_rules_free(r);
}

static void a_table_without_memory_is_no_table_and_no_leak(void **state)
{
    size_t live = seam_live();
    (void)state;
    for (size_t n = 1;; n++) {
        struct hg_writer err = {0};
        seam_fail_alloc(n);
        struct hg_rules *r = hg_rules_new(home, sizeof(home) / sizeof(home[0]), fixture_exchanges,
                                          FIXTURE_EXCHANGES_N, &err);
        size_t asked = seam_allocs();
        seam_fail_alloc(0);
        hg_writer_close(&err);
        if (r != NULL) {
            hg_rules_free(r);
            assert_int_equal(seam_live(), live);
            assert_true(n > asked);
            return;
        }
        assert_int_equal(seam_live(), live);
    }
}

static void a_delivery_without_memory_has_no_address(void **state)
{
    struct hg_rules *r = home_new();
    struct hg_writer out = {0};
    size_t rule;
    (void)state;
    seam_fail_alloc(1);
    assert_false(hg_rules_deliver(r, HG_PROTO_MQTT, HG_BYTES("events"), HG_BYTES("log.a"),
                                  HG_BYTES(""), &out, &rule));
    assert_true(out.failed);
    seam_fail_alloc(0);
    hg_writer_close(&out);
    hg_rules_free(r);
}

static void an_exchange_has_its_type(void **state)
{
    struct hg_rules *r = home_new();
    bool is_known;
    (void)state;
    assert_int_equal(hg_rules_exchange_type(r, HG_BYTES("news"), &is_known), HG_EXCHANGE_FANOUT);
    assert_true(is_known);
    assert_int_equal(hg_rules_exchange_type(r, HG_BYTES("amq.match"), &is_known),
                     HG_EXCHANGE_HEADERS);
    assert_true(is_known);
    hg_rules_exchange_type(r, HG_BYTES("nope"), &is_known);
    assert_false(is_known);
    assert_int_equal(hg_exchange_type_of(HG_BYTES("x-random")), HG_EXCHANGE_OTHER);
    assert_int_equal(hg_exchange_type_of(HG_BYTES("headers")), HG_EXCHANGE_HEADERS);
    hg_rules_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_becomes_the_key_of_its_first_rule),
        cmocka_unit_test(what_cannot_be_published_is_told_apart),
        cmocka_unit_test(a_delivery_comes_back_by_the_first_rule_that_fits),
        cmocka_unit_test(captures_are_as_in_the_address),
        cmocka_unit_test(an_overlong_key_is_hashed_and_its_address_believed_only_if_it_is_true),
        cmocka_unit_test(the_address_travels_between_dialects),
        cmocka_unit_test(headers_are_filled_in),
        cmocka_unit_test(a_value_of_the_request_is_a_word_and_nothing_comes_back_by_it),
        cmocka_unit_test(every_problem_is_reported),
        cmocka_unit_test(a_pattern_has_at_most_64_levels),
        cmocka_unit_test(the_report_shows_what_was_hardly_meant),
        cmocka_unit_test(a_table_without_memory_is_no_table_and_no_leak),
        cmocka_unit_test(a_delivery_without_memory_has_no_address),
        cmocka_unit_test(an_exchange_has_its_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
