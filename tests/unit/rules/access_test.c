/* SPDX-License-Identifier: Apache-2.0 */
/* Who may use which rule: publishing, subscribing, and what a delivery shows. */
#include "rules/access.h"

#include "fixture.h"

enum { EVERYBODY = 1, DEVICE = 2, ADMIN = 4 };

static const struct hg_rule_spec specs[] = {
    {.name = "secret",
     .pattern = ALL("secret/{x...}"),
     .exchange = "events",
     .key = "secret.{x...}",
     .publish_roles = ADMIN,
     .subscribe_roles = ADMIN},
    {.name = "own",
     .pattern = ALL("user/{user}/{x...}"),
     .exchange = "events",
     .key = "user.{user}.{x...}",
     .publish_roles = EVERYBODY,
     .subscribe_roles = EVERYBODY},
    {.name = "device",
     .pattern = ALL("dev/{client_id}/{claim.site}/{x}"),
     .exchange = "events",
     .key = "dev.{client_id}.{claim.site}.{x}",
     .publish_roles = DEVICE,
     .subscribe_roles = DEVICE | ADMIN},
    {.name = "rest",
     .pattern = ALL("home/{claim.path...}"),
     .exchange = "events",
     .key = "home.{claim.path...}",
     .publish_roles = EVERYBODY,
     .subscribe_roles = EVERYBODY},
    {.name = "write",
     .pattern = ALL("write/{x}"),
     .exchange = "events",
     .key = "write.{x}",
     .publish_roles = EVERYBODY},
    {.name = "work", .pattern = ALL("work"), .queue = "w", .subscribe_roles = ADMIN},
    {.name = "none", .pattern = ALL("none/{x}"), .exchange = "telemetry", .key = "none.{x}"},
    {.name = "all",
     .pattern = ALL("{x...}"),
     .exchange = "events",
     .key = "{x...}",
     .publish_roles = EVERYBODY,
     .subscribe_roles = EVERYBODY},
};

static bool claim(const void *claims, struct hg_bytes name, struct hg_bytes *value_out)
{
    const char *const *texts = claims;
    *value_out = hg_bytes_str(hg_bytes_eq(name, HG_BYTES("site")) ? texts[0] : texts[1]);
    return value_out->n > 0;
}

static const char *const at_home[] = {"north", "a/b"};
static const char *const nowhere[] = {"", ""};

enum { NOBODY, ANON, ANN, SENSOR, BOSS, TRUSTED };
static const struct hg_rule_who people[] = {
    [NOBODY] = {.roles = 0, .claims = nowhere, .claim = claim},
    [ANON] = {.roles = EVERYBODY, .claims = nowhere, .claim = claim},
    [ANN] = {.roles = EVERYBODY,
             .user = {(const uint8_t *)"ann", 3},
             .claims = at_home,
             .claim = claim},
    [SENSOR] = {.roles = EVERYBODY | DEVICE,
                .user = {(const uint8_t *)"s", 1},
                .client_id = {(const uint8_t *)"s7", 2},
                .claims = at_home,
                .claim = claim},
    [BOSS] = {.roles = EVERYBODY | ADMIN, .user = {(const uint8_t *)"b", 1}},
};

static const struct hg_rule_who *person(int i)
{
    return i == TRUSTED ? NULL : &people[i];
}

static void the_first_rule_decides_about_a_publish(void **state)
{
    static const struct {
        const char *address;
        bool may[TRUSTED + 1];
    } rows[] = {
        {"secret/a", {[BOSS] = true, [TRUSTED] = true}},
        {"user/ann/x", {[ANN] = true, [TRUSTED] = true}},
        {"user/ann", {[ANN] = true, [TRUSTED] = true}},
        {"user/bob/x", {[TRUSTED] = true}},
        {"user//x", {[TRUSTED] = true}},
        {"dev/s7/north/x", {[SENSOR] = true, [TRUSTED] = true}},
        {"dev/s7/south/x", {[TRUSTED] = true}},
        {"dev/s8/north/x", {[TRUSTED] = true}},
        {"home/a/b", {[ANN] = true, [SENSOR] = true, [TRUSTED] = true}},
        {"home/a", {[TRUSTED] = true}},
        {"home", {[TRUSTED] = true}},
        {"none/a", {[TRUSTED] = true}},
        {"write/a", {false, true, true, true, true, true}},
        {"a/b", {false, true, true, true, true, true}},
    };
    struct hg_rules *r = fixture_new(specs, sizeof(specs) / sizeof(specs[0]));
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hg_route route;
        enum hg_status status =
            hg_rules_publish(r, HG_PROTO_STOMP, hg_bytes_str(rows[i].address), &route);
        assert_int_equal(status, HG_OK);
        for (int p = 0; p <= TRUSTED; p++) {
            if (hg_rules_may_publish(r, person(p), HG_PROTO_STOMP, &route) != rows[i].may[p]) {
                fail_msg("%s as person %d", rows[i].address, p);
            }
        }
    }
    hg_rules_free(r);
}

static void note_rule(void *ctx, const struct hg_binding_plan *plan)
{
    *(unsigned *)ctx |= 1U << plan->rule;
}

static void a_filter_comes_through_the_rules_that_are_permitted(void **state)
{
    enum { SECRET = 1, OWN = 2, DEV = 4, REST = 8, WRITE = 16, WORK = 32, NONE = 64, ALL_ = 128 };
    static const struct {
        const char *filter;
        int person;
        enum hg_status status;
        unsigned rules;
    } rows[] = {
        {"#", TRUSTED, HG_OK, SECRET | OWN | DEV | REST | WRITE | NONE | ALL_},
        {"#", NOBODY, HG_NOT_ALLOWED, 0},
        {"#", ANON, HG_OK, ALL_},
        {"#", ANN, HG_OK, OWN | REST | ALL_},
        {"#", SENSOR, HG_OK, OWN | DEV | REST | ALL_},
        {"#", BOSS, HG_OK, SECRET | OWN | ALL_},
        {"secret/#", ANN, HG_NOT_ALLOWED, 0},
        {"secret/a", ANN, HG_NOT_ALLOWED, 0},
        {"secret/#", BOSS, HG_OK, SECRET},
        {"user/ann/#", ANN, HG_OK, OWN},
        {"user/+/x", ANN, HG_OK, OWN},
        {"user/bob/#", ANN, HG_NOT_ALLOWED, 0},
        {"dev/+/north/x", SENSOR, HG_OK, DEV},
        {"dev/s7/+/x", SENSOR, HG_OK, DEV},
        {"dev/s7/south/x", SENSOR, HG_NOT_ALLOWED, 0},
        {"dev/s8/+/x", SENSOR, HG_NOT_ALLOWED, 0},
        {"dev/s7/north/x", BOSS, HG_NOT_ALLOWED, 0}, /* it has no client_id */
        {"home/+/b", ANN, HG_OK, REST},
        {"home/+/c", ANN, HG_NOT_ALLOWED, 0},
        {"home/a/b/c", ANN, HG_NOT_ALLOWED, 0},
        {"write/+", BOSS, HG_NOT_ALLOWED, 0},
        {"none/a", BOSS, HG_NOT_ALLOWED, 0},
        {"work", ANN, HG_NOT_ALLOWED, 0},
        {"work", BOSS, HG_OK, WORK},
        {"else/+", ANON, HG_OK, ALL_},
        {"else/+", NOBODY, HG_NOT_ALLOWED, 0},
    };
    struct hg_rules *r = fixture_new(specs, sizeof(specs) / sizeof(specs[0]));
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        unsigned met = 0;
        const char *why;
        enum hg_status status =
            hg_rules_subscribe(r, person(rows[i].person), HG_PROTO_MQTT,
                               hg_bytes_str(rows[i].filter), note_rule, &met, &why);
        /* A later rule may stand behind; the ones that count are all there, and no other. */
        unsigned must = rows[i].rules;
        if (status != rows[i].status || (met & must) != must || (met & ~(must | ALL_)) != 0) {
            fail_msg("%s as person %d: %s, rules %x", rows[i].filter, rows[i].person,
                     hg_status_info(status)->name, met);
        }
    }
    hg_rules_free(r);
}

static void a_message_is_shown_to_who_may_subscribe_to_its_address(void **state)
{
    static const struct {
        const char *address;
        size_t mapped_by;
        bool may[TRUSTED + 1];
    } rows[] = {
        {"secret/a", 0, {[BOSS] = true, [TRUSTED] = true}},
        {"secret/a", 7, {[BOSS] = true, [TRUSTED] = true}}, /* mapped back by a later rule */
        {"a/b", 0, {[BOSS] = true, [TRUSTED] = true}},
        {"a/b", 7, {false, true, true, true, true, true}},
        {"a/b", SIZE_MAX, {false, true, true, true, true, true}},
        {"user/ann/x", 1, {[ANN] = true, [TRUSTED] = true}},
        {"user/bob/x", 1, {[TRUSTED] = true}},
        {"dev/s7/north/x", 2, {[SENSOR] = true, [TRUSTED] = true}},
        {"dev/s7/south/x", 2, {[TRUSTED] = true}},
        {"home/a/b", 3, {[ANN] = true, [SENSOR] = true, [TRUSTED] = true}},
        {"home/a/b/c", 3, {[TRUSTED] = true}},
        {"home", 3, {[TRUSTED] = true}},
        {"write/a", 4, {[TRUSTED] = true}},
        {"none/a", 6, {[TRUSTED] = true}},
    };
    struct hg_rules *r = fixture_new(specs, sizeof(specs) / sizeof(specs[0]));
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hg_rule_gate gate;
        hg_rule_gate_open(&gate, r, HG_PROTO_MQTT, hg_bytes_str(rows[i].address),
                          rows[i].mapped_by);
        for (int p = 0; p <= TRUSTED; p++) {
            if (hg_rule_gate_admits(&gate, person(p)) != rows[i].may[p]) {
                fail_msg("%s (%zu) as person %d", rows[i].address, rows[i].mapped_by, p);
            }
        }
    }
    hg_rules_free(r);
}

static void an_address_that_no_rule_takes_is_shown_to_nobody(void **state)
{
    struct hg_rules *r = fixture_new(specs, 1);
    struct hg_rule_gate gate;
    (void)state;
    hg_rule_gate_open(&gate, r, HG_PROTO_MQTT, HG_BYTES("else"), SIZE_MAX);
    assert_false(hg_rule_gate_admits(&gate, person(BOSS)));
    assert_true(hg_rule_gate_admits(&gate, NULL));
    hg_rules_free(r);
}

static void names_match_like_in_a_shell(void **state)
{
    static const struct {
        const char *pattern, *name;
        bool matches;
    } rows[] = {
        {"a", "a", true},
        {"a", "b", false},
        {"a", "ab", false},
        {"", "", true},
        {"*", "", true},
        {"*", "orders", true},
        {"or*", "orders", true},
        {"*ers", "orders", true},
        {"o*d*s", "orders", true},
        {"o*x*s", "orders", false},
        {"*a*a", "banana", true},
        {"*.new", "orders.new.old", false},
        {"**", "x", true},
        {"a*", "b", false},
        {"*", "headgate.state", false},
        {"h*", "headgate.state", false},
        {"headgate.s*", "headgate.state", true},
        {"headgate*", "headgate.state", false},
        {"headgate*", "headgate", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (hg_access_name_matches(hg_bytes_str(rows[i].pattern), hg_bytes_str(rows[i].name)) !=
            rows[i].matches) {
            fail_msg("%s, %s", rows[i].pattern, rows[i].name);
        }
    }
}

static void keys_match_like_at_a_topic_exchange(void **state)
{
    static const struct {
        const char *pattern, *key;
        bool matches;
    } rows[] = {
        {"a.b", "a.b", true},
        {"a.b", "a", false},
        {"a", "a.b", false},
        {"*", "a", true},
        {"*", "", false},
        {"*", "a.b", false},
        {"#", "", true},
        {"#", "a.b.c", true},
        {"a.#", "a", true},
        {"a.#", "a.b.c", true},
        {"a.#", "b", false},
        {"#.c", "a.b.c", true},
        {"#.c", "c", true},
        {"#.c", "a.c.b", false},
        {"*.b.#", "a.b", true},
        {"*.b.#", "b", false},
        {"#.b.#", "b", true},
        {"#.b.#.d", "a.b.c.d", true},
        {"#.b.#.d", "a.c.d", false},
        {"#.#", "a", true},
        {"a.*.c", "a..c", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (hg_access_key_matches(hg_bytes_str(rows[i].pattern), hg_bytes_str(rows[i].key)) !=
            rows[i].matches) {
            fail_msg("%s, %s", rows[i].pattern, rows[i].key);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_rule_decides_about_a_publish),
        cmocka_unit_test(a_filter_comes_through_the_rules_that_are_permitted),
        cmocka_unit_test(a_message_is_shown_to_who_may_subscribe_to_its_address),
        cmocka_unit_test(an_address_that_no_rule_takes_is_shown_to_nobody),
        cmocka_unit_test(names_match_like_in_a_shell),
        cmocka_unit_test(keys_match_like_at_a_topic_exchange),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
