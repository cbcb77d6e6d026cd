/* SPDX-License-Identifier: Apache-2.0 */
/* From filters to bindings: what each kind of exchange gets, what is refused and why. */
#include "fixture.h"
#include "rules/rules.h"
#include "seam/seam.h"

#define TEN     "0123456789"
#define FIFTY   TEN TEN TEN TEN TEN
#define HUNDRED FIFTY FIFTY

/* A line a plan: rule kind exchange key, and `~wide key` where it may be widened. */
static void write_plan(void *ctx, const struct hg_binding_plan *plan)
{
    static const char *const kinds[] = {"feed", "own", "queue"};
    struct hg_writer *out = ctx;
    hg_writer_printf(out, "%zu %s %.*s %.*s", plan->rule, kinds[plan->kind],
                     HG_BYTES_FMT(plan->exchange), HG_BYTES_FMT(plan->key));
    if (plan->kind == HG_PLAN_QUEUE) {
        assert_true(hg_bytes_eq(plan->queue, plan->key));
    }
    assert_true(plan->is_widenable || plan->widened_with == plan->rule);
    if (plan->is_widenable) {
        hg_writer_printf(out, " ~%.*s", HG_BYTES_FMT(plan->wide_key));
    } else {
        assert_int_equal(plan->wide_key.n, 0);
    }
    hg_writer_str(out, "\n");
}

struct row {
    const char *filter;
    enum hg_status status;
    const char *plans; /* or the reason, where there is one */
};

static void check_rows(const struct hg_rules *r, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct hg_writer out = {0};
        const char *why = "unset";
        enum hg_status s = hg_rules_subscribe(r, NULL, HG_PROTO_MQTT, hg_bytes_str(rows[i].filter),
                                              write_plan, &out, &why);
        struct hg_bytes got = s == HG_OK ? hg_writer_view(&out) : hg_bytes_str(why);
        if (s != rows[i].status || (s != HG_OK && hg_writer_n(&out) > 0) ||
            !hg_bytes_eq(got, hg_bytes_str(rows[i].plans))) {
            fail_msg("%s: %s\n%.*s", rows[i].filter, hg_status_info(s)->name, HG_BYTES_FMT(got));
        }
        assert_true(s != HG_OK || why == NULL);
        hg_writer_close(&out);
    }
}

#define CHECK(specs, rows)                                                           \
    do {                                                                             \
        struct hg_rules *r = fixture_new((specs), sizeof(specs) / sizeof(*(specs))); \
        check_rows(r, (rows), sizeof(rows) / sizeof(*(rows)));                       \
        hg_rules_free(r);                                                            \
    } while (0)

static const char no_direct[] = "a direct exchange takes no wildcard: subscribe to whole addresses";
static const char no_part[] =
    "a queue is consumed whole: subscribe with wildcards for all that its rule captures";
static const char one_way_queue[] =
    "messages in the rule's queue do not tell what it captures, so they have no address";
static const char one_way[] =
    "the rule's key does not hold every capture, so nothing comes back through it";

static void a_filter_becomes_the_topic_bindings_of_every_rule_it_meets(void **state)
{
    static const struct hg_rule_spec specs[] = {
        {.name = "0",
         .pattern = ALL("Sensor/{kind}/{room}"),
         .exchange = "telemetry",
         .key = "sensor.{kind}.{room}"},
        {.name = "1", .pattern = ALL("log/{r...}"), .exchange = "events", .key = "log.{r...}"},
        {.name = "2",
         .pattern = ALL("{site}/m/{r...}"),
         .exchange = "events",
         .key = "{r...}.{site}"},
        {.name = "3", .pattern = ALL("fixed/x"), .exchange = "events", .key = "fix"},
        {.name = "4", .pattern = ALL("$dev/{x}"), .exchange = "events", .key = "dev.{x}"},
        {.name = "5", .pattern = ALL("log/{x}"), .exchange = "dead", .key = "l.{x}"},
    };
    static const struct row rows[] = {
        {"Sensor/temp/hall", HG_OK, "0 feed telemetry sensor.temp.hall ~sensor.*.*\n"},
        {"Sensor/+/ha.ll", HG_OK,
         "0 feed telemetry sensor.*.ha%2Ell ~sensor.*.*\n2 feed events ha%2Ell.Sensor\n"},
        {"Sensor/*/hall", HG_OK, "0 feed telemetry sensor.%2A.hall ~sensor.*.*\n"},
        {"Sensor/#", HG_OK, "0 feed telemetry sensor.*.* ~sensor.*.*\n2 feed events #.Sensor\n"},
        {"Sensor/a/#", HG_OK, "0 feed telemetry sensor.a.* ~sensor.*.*\n"},
        {"Sensor/a/b/#", HG_OK, "0 feed telemetry sensor.a.b ~sensor.*.*\n"},
        {"Sensor/a/b/c", HG_NO_RULE, NULL},
        {"Sensor/a", HG_NO_RULE, NULL},
        {"Sensor/m/#", HG_OK, "0 feed telemetry sensor.m.* ~sensor.*.*\n2 feed events #.Sensor\n"},
        {"log", HG_OK, "1 feed events log ~log.#\n"},
        {"log/", HG_OK, "1 feed events log. ~log.#\n5 feed dead l. ~l.*\n"},
        {"log/#", HG_OK, "1 feed events log.# ~log.#\n2 feed events #.log\n5 feed dead l.* ~l.*\n"},
        {"log/+/x/#", HG_OK, "1 feed events log.*.x.# ~log.#\n2 feed events x.#.log\n"},
        {"log/+/+", HG_OK, "1 feed events log.*.* ~log.#\n2 feed events *.log\n"},
        {"+/+", HG_OK,
         "1 feed events log.* ~log.#\n2 feed events *\n3 feed events fix\n5 feed dead l.* ~l.*\n"},
        {"a/m", HG_OK, "2 feed events a\n"},
        {"+/m/x/+", HG_OK, "1 feed events log.m.x.* ~log.#\n2 feed events x.*.*\n"},
        {"fixed/#", HG_OK, "2 feed events #.fixed\n3 feed events fix\n"},
        {"fixed/x", HG_OK, "3 feed events fix\n"},
        {"fixed/x/#", HG_OK, "3 feed events fix\n"},
        {"$dev/+", HG_OK, "2 feed events $dev\n4 feed events dev.* ~dev.*\n"},
        {"+/x", HG_OK, "1 feed events log.x ~log.#\n3 feed events fix\n5 feed dead l.x ~l.*\n"},
        {"#", HG_OK,
         "0 feed telemetry sensor.*.* ~sensor.*.*\n1 feed events log.# ~log.#\n2 feed events #.*\n"
         "3 feed events fix\n5 feed dead l.* ~l.*\n"},
        {"", HG_BAD_FILTER, NULL},
        {"a/b+", HG_BAD_FILTER, NULL},
        {"a/#/b", HG_BAD_FILTER, NULL},
        {"#a", HG_BAD_FILTER, NULL},
        {"log/" HUNDRED HUNDRED HUNDRED, HG_KEY_TOO_LONG, NULL},
        {"log/+/" HUNDRED HUNDRED HUNDRED, HG_KEY_TOO_LONG, NULL},
        {"+/" HUNDRED HUNDRED HUNDRED, HG_KEY_TOO_LONG, NULL},
    };
    (void)state;
    CHECK(specs, rows);
}

static void each_kind_of_exchange_gets_its_plan(void **state)
{
    static const char *const header[] = {"x-headgate-address"};
    static const char *const value[] = {"{address}"};
    static const struct hg_rule_spec specs[] = {
        {.name = "0", .pattern = ALL("order/{id}"), .exchange = "orders", .key = "o.{id}"},
        {.name = "1", .pattern = ALL("news/{x}"), .exchange = "news", .key = "{x}"},
        {.name = "2", .pattern = ALL("typed/{x}"), .exchange = "typed", .key = "t.{x}"},
        {.name = "3", .pattern = ALL("spread/{x}"), .exchange = "spread", .key = "s.{x}"},
        {.name = "4", .pattern = ALL("work"), .queue = "w"},
        {.name = "5",
         .pattern = ALL("jobs/{id}/{r...}"),
         .queue = "j",
         .header_names = header,
         .header_values = value,
         .headers_n = 1},
        {.name = "6", .pattern = ALL("cmd/{id}"), .exchange = "events", .key = "cmd"},
        {.name = "7", .pattern = ALL("same/{id}"), .exchange = "orders", .key = "s.{id}"},
        {.name = "8", .pattern = ALL("fixed/x"), .exchange = "orders", .key = "fixed"},
        {.name = "9", .pattern = ALL("mute/{id}"), .queue = "m"},
    };
    static const struct row rows[] = {
        {"order/17", HG_OK, "0 feed orders o.17\n"},
        {"order/+", HG_NO_WILDCARD, no_direct},
        {"order/#", HG_NO_WILDCARD, no_direct},
        {"order/17/#", HG_OK, "0 feed orders o.17\n"},
        {"fixed/+", HG_OK, "8 feed orders fixed\n"}, /* one key all the same */
        {"news/1", HG_OK, "1 feed news \n"},
        {"news/+", HG_OK, "1 feed news \n"},
        {"typed/1", HG_OK, "2 own typed \n"},
        {"typed/#", HG_OK, "2 own typed \n"},
        {"spread/1", HG_OK, "3 own spread s.1\n"},
        {"spread/+", HG_OK, "3 own spread s.*\n"},
        {"work", HG_OK, "4 queue  w\n"},
        {"work/#", HG_OK, "4 queue  w\n"},
        {"jobs/+/#", HG_OK, "5 queue  j\n"},
        {"jobs/#", HG_OK, "5 queue  j\n"},
        {"jobs/+", HG_NO_WILDCARD, no_part},
        {"jobs/7/#", HG_NO_WILDCARD, no_part},
        {"jobs/7/x", HG_NO_WILDCARD, no_part},
        {"mute/+", HG_NO_RULE, one_way_queue},
        {"cmd/1", HG_NO_RULE, one_way},
        {"cmd/#", HG_NO_RULE, one_way},
        {"+", HG_NO_WILDCARD, no_part}, /* nothing but a queue, which is not meant */
        {"+/1", HG_OK,
         "0 feed orders o.1\n1 feed news \n2 own typed \n3 own spread s.1\n7 feed orders s.1\n"},
        {"#", HG_OK, "1 feed news \n2 own typed \n3 own spread s.*\n8 feed orders fixed\n"},
    };
    (void)state;
    CHECK(specs, rows);
}

static void a_wildcard_is_refused_only_up_to_the_rule_that_takes_all_of_it(void **state)
{
    static const struct hg_rule_spec specs[] = {
        {.name = "0", .pattern = ALL("s/{x}"), .exchange = "telemetry", .key = "s.{x}"},
        {.name = "1", .pattern = ALL("o/{x}"), .exchange = "orders", .key = "o.{x}"},
        {.name = "2", .pattern = ALL("o/{x}/{y}"), .exchange = "events", .key = "o.{x}.{y}"},
        {.name = "3", .pattern = ALL("c/{x}"), .exchange = "events", .key = "c"},
        {.name = "4", .pattern = ALL("w"), .queue = "w"},
        {.name = "5", .pattern = ALL("{a}/{b}"), .exchange = "orders", .key = "all.{a}.{b}"},
        BUILTIN,
    };
    static const struct row rows[] = {
        {"s/+", HG_OK,
         "0 feed telemetry s.* ~s.*\n6 feed amq.topic s.* ~s.*\n"}, /* not 5: 0 takes all before */
        {"o/+", HG_NO_WILDCARD, no_direct},
        {"o/#", HG_NO_WILDCARD, no_direct},
        {"o/1", HG_OK, "1 feed orders o.1\n5 feed orders all.o.1\n6 feed amq.topic o.1\n"},
        {"o/+/+", HG_OK, "2 feed events o.*.* ~o.*.*\n6 feed amq.topic o.*.* ~o.*.*\n"},
        {"c/+", HG_NO_RULE, one_way},
        {"z/+", HG_NO_WILDCARD, no_direct},
        {"+/+", HG_NO_WILDCARD, no_direct}, /* 5 takes all of it */
        {"+/1", HG_NO_WILDCARD, no_direct},
        {"w", HG_OK, "4 queue  w\n6 feed amq.topic w\n"},
        {"+", HG_OK, "6 feed amq.topic *\n"},
        {"#", HG_OK, "0 feed telemetry s.* ~s.*\n2 feed events o.*.* ~o.*.*\n6 feed amq.topic #\n"},
        {"a.b/#", HG_NO_WILDCARD, no_direct},
        {"a.b/c/#", HG_OK, "5 feed orders all.a%2Eb.c\n6 feed amq.topic a.b.c.#\n"},
    };
    (void)state;
    CHECK(specs, rows);
}

static void bindings_are_widened_where_that_is_allowed_and_bounded(void **state)
{
    static const struct hg_rule_spec specs[] = {
        {.name = "0", .pattern = ALL("a/{x}"), .exchange = "events", .key = "a.{x}"},
        {.name = "1", .pattern = ALL("b/{x}"), .exchange = "events", .key = "{x}"},
        {.name = "2",
         .pattern = ALL("c/{x}"),
         .exchange = "events",
         .key = "{x}",
         .scope = HG_SCOPE_WIDE},
        {.name = "3",
         .pattern = ALL("d/{x}"),
         .exchange = "events",
         .key = "d.{x}",
         .scope = HG_SCOPE_EXACT},
        {.name = "4",
         .pattern = ALL("e/{x}"),
         .exchange = "events",
         .key = "e.{x}",
         .scope = HG_SCOPE_WIDE,
         .is_mandatory = true},
        {.name = "5",
         .pattern = ALL("f/{x}"),
         .exchange = "orders",
         .key = "f.{x}",
         .scope = HG_SCOPE_WIDE},
    };
    static const struct row rows[] = {
        {"a/1", HG_OK, "0 feed events a.1 ~a.*\n"}, {"b/1", HG_OK, "1 feed events 1\n"},
        {"c/1", HG_OK, "2 feed events 1 ~*\n"},     {"d/1", HG_OK, "3 feed events d.1\n"},
        {"e/1", HG_OK, "4 feed events e.1\n"},      {"f/1", HG_OK, "5 feed orders f.1\n"},
    };
    (void)state;
    CHECK(specs, rows);
}

static void rules_behind_one_that_is_widened_are_widened_along_with_it(void **state)
{
    static const struct hg_rule_spec specs[] = {
        {.name = "0", .pattern = ALL("a/{x}"), .exchange = "amq.topic", .key = "a.{x}"},
        {.name = "1",
         .pattern = ALL("b/{r...}"),
         .exchange = "amq.topic",
         .key = "b.{r...}",
         .scope = HG_SCOPE_EXACT},
        {.name = "2",
         .pattern = ALL("c/{x}"),
         .exchange = "events",
         .key = "{x}.c",
         .scope = HG_SCOPE_WIDE},
        {.name = "3",
         .pattern = ALL("d/{r...}"),
         .exchange = "events",
         .key = "d.{r...}",
         .is_mandatory = true},
        {.name = "4", .pattern = ALL("e/{x}/y"), .exchange = "events", .key = "e.{x}"},
        {.name = "5",
         .pattern = ALL("e/{r...}"),
         .exchange = "telemetry",
         .key = "e.{r...}",
         .scope = HG_SCOPE_EXACT},
        {.name = "6", .pattern = ALL("f/{x}"), .exchange = "orders", .key = "f.{x}"},
        BUILTIN,
    };
    static const struct row rows[] = {
        {"a/1", HG_OK, "0 feed amq.topic a.1 ~a.*\n"}, /* 7 would have the same */
        {"a/1.2", HG_OK, "0 feed amq.topic a.1%2E2 ~a.*\n7 feed amq.topic a.1.2 ~a.*\n"},
        {"a/+", HG_OK, "0 feed amq.topic a.* ~a.*\n"},
        {"a/#", HG_OK, "0 feed amq.topic a.* ~a.*\n7 feed amq.topic a.#\n"}, /* 7 is the owner */
        {"b/1", HG_OK, "1 feed amq.topic b.1\n"},
        {"c/1", HG_OK, "2 feed events 1.c ~*.c\n7 feed amq.topic c.1 ~c.*\n"},
        {"d/1", HG_OK, "3 feed events d.1\n7 feed amq.topic d.1\n"},
        {"e/1/y", HG_OK,
         "4 feed events e.1 ~e.*\n5 feed telemetry e.1.y\n7 feed amq.topic e.1.y ~e.*.y\n"},
        {"f/1", HG_OK, "6 feed orders f.1\n7 feed amq.topic f.1\n"},
    };
    (void)state;
    CHECK(specs, rows);
}

static void hashed_keys_are_bound_as_well(void **state)
{
    static const struct hg_rule_spec specs[] = {
        {.name = "0",
         .pattern = ALL("l/{x}/{r...}"),
         .exchange = "events",
         .key = "l.{x}.{r...}",
         .overlong = HG_OVERLONG_HASH},
        {.name = "1",
         .pattern = ALL("s/{x}"),
         .exchange = "spread",
         .key = "s.{x}",
         .overlong = HG_OVERLONG_HASH},
    };
    static const struct row rows[] = {
        {"l/a/b", HG_OK, "0 feed events l.a.b ~l.#\n"},
        {"l/a/+", HG_OK, "0 feed events l.a.* ~l.#\n0 feed events l.a.#.~.* ~l.#\n"},
        {"l/+/b", HG_OK, "0 feed events l.*.b ~l.#\n0 feed events l.#.~.* ~l.#\n"},
        {"l/" HUNDRED HUNDRED HUNDRED "/#", HG_OK, "0 feed events l.#.~.* ~l.#\n"},
        {"l/" HUNDRED HUNDRED "/" FIFTY "/#", HG_OK,
         "0 feed events l." HUNDRED HUNDRED "." FIFTY ".# ~l.#\n"
         "0 feed events l." HUNDRED HUNDRED ".#.~.* ~l.#\n"},
        {"s/+", HG_OK, "1 own spread s.#\n"},
    };
    (void)state;
    CHECK(specs, rows);
}

static void a_subscription_without_memory_says_so(void **state)
{
    static const struct hg_rule_spec specs[] = {BUILTIN};
    struct hg_rules *r = fixture_new(specs, 1);
    struct hg_writer out = {0};
    const char *why;
    (void)state;
    seam_fail_alloc(1);
    assert_int_equal(
        hg_rules_subscribe(r, NULL, HG_PROTO_MQTT, HG_BYTES("a"), write_plan, &out, &why),
        HG_NO_MEMORY);
    seam_fail_alloc(0);
    assert_int_equal(hg_writer_n(&out), 0);
    hg_writer_close(&out);
    hg_rules_free(r);
}

static void a_filter_belongs_to_the_rule_that_takes_all_of_it_first(void **state)
{
    (void)state;
    static const struct hg_rule_spec specs[] = {
        {.name = "0", .pattern = ALL("a/{x}"), .exchange = "events", .key = "a.{x}"},
        {.name = "1", .pattern = ALL("b/{r...}"), .exchange = "events", .key = "b.{r...}"},
        {.name = "2", .pattern = ALL("b/c"), .exchange = "telemetry", .key = "c"},
        BUILTIN,
    };
    static const struct {
        const char *filter;
        int rule; /* -1: none */
    } table[] = {
        {"a/1", 0}, {"a/+", 0},  {"a/#", -1}, {"a", 3},   {"b", 1}, {"b/c", 1},
        {"b/#", 1}, {"+/c", -1}, {"#", -1},   {"z/y", 3}, {"", -1}, {"a/#/b", -1},
    };
    struct hg_rules *r = fixture_new(specs, sizeof(specs) / sizeof(specs[0]));
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        size_t rule = 99;
        bool is_owned = hg_rules_owner(r, HG_PROTO_HTTP, hg_bytes_str(table[i].filter), &rule);
        if (is_owned != (table[i].rule >= 0) || (is_owned && (int)rule != table[i].rule)) {
            fail_msg("%s: %d %zu", table[i].filter, is_owned, rule);
        }
    }
    hg_rules_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_filter_becomes_the_topic_bindings_of_every_rule_it_meets),
        cmocka_unit_test(each_kind_of_exchange_gets_its_plan),
        cmocka_unit_test(a_wildcard_is_refused_only_up_to_the_rule_that_takes_all_of_it),
        cmocka_unit_test(bindings_are_widened_where_that_is_allowed_and_bounded),
        cmocka_unit_test(rules_behind_one_that_is_widened_are_widened_along_with_it),
        cmocka_unit_test(hashed_keys_are_bound_as_well),
        cmocka_unit_test(a_filter_belongs_to_the_rule_that_takes_all_of_it_first),
        cmocka_unit_test(a_subscription_without_memory_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
