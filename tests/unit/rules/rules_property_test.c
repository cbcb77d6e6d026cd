/* SPDX-License-Identifier: Apache-2.0 */
/* Random tables against what their rules say one by one. The oracle for first-match is a table of
 * one rule each, asked in order; for subscriptions it is hg_topic_matches over the addresses of all
 * messages, against hg_binding_matches over their keys. */
#include "fixture.h"
#include "message/topic.h"
#include "rules/rules.h"

#include <stdio.h>

enum { TABLES_N = 800, RULES_MAX = 8, MESSAGES_N = 48, FILTERS_N = 24, TEXT_MAX = 4096 };

static const char *const level_words[] = {"a",   "b",     "c",  "",  "d.e", "*",    "%2E",
                                          "%23", "%252F", "$x", "~", "%",   "f%25", "c"};
static const char *const key_words[] = {"a",   "b",   "c",     "",  "/", "+", "#",
                                        "%2E", "%2F", "%252A", "~", "%", "x", "*"};
#define PICK(words, seed) ((words)[unit_random_below((seed), sizeof(words) / sizeof((words)[0]))])

struct table {
    size_t n;
    struct hg_rule_spec specs[RULES_MAX];
    char pattern[RULES_MAX][256];
    char key[RULES_MAX][256];
    struct hg_rules *all;
    struct hg_rules *alone[RULES_MAX]; /* a table of this rule only */
};

struct message {
    struct hg_bytes exchange;
    uint8_t key[HG_KEY_MAX];
    size_t key_n;
    char original[TEXT_MAX]; /* the header, or "" */
    char address[TEXT_MAX];  /* what it is delivered under, "" if unmapped */
    size_t by;               /* published through this rule; RULES_MAX: straight to the exchange */
};

static struct hg_bytes key_of(const struct message *m)
{
    return hg_bytes(m->key, m->key_n);
}

/* A pattern of up to four levels and a key with all its captures in any order, literals between. */
static void random_rule(uint64_t *seed, char pattern[256], char key[256])
{
    static const char names[] = "stuv";
    char parts[4][8];
    size_t parts_n = 0;
    size_t levels_n = 1 + unit_random_below(seed, 4);
    pattern[0] = key[0] = '\0';
    for (size_t i = 0; i < levels_n; i++) {
        size_t kind = unit_random_below(seed, 8);
        strcat(pattern, i > 0 ? "/" : "");
        if (kind < 4 - (i == 0)) {
            strcat(pattern, i == 0 ? (kind == 0   ? "a"
                                      : kind == 1 ? "b"
                                                  : "$x")
                                   : PICK(level_words, seed));
            continue;
        }
        bool is_rest = kind == 7 && i + 1 == levels_n;
        (void)snprintf(parts[parts_n], sizeof(parts[0]), "{%c%s}", names[i], is_rest ? "..." : "");
        strcat(pattern, parts[parts_n++]);
    }
    if (pattern[0] == '\0') {
        strcpy(pattern, "c");
    }
    for (size_t i = parts_n; i > 1; i--) {
        size_t j = unit_random_below(seed, i);
        char t[8];
        memcpy(t, parts[i - 1], sizeof(t));
        memcpy(parts[i - 1], parts[j], sizeof(t));
        memcpy(parts[j], t, sizeof(t));
    }
    for (size_t i = 0; i <= parts_n; i++) {
        const char *literal = unit_random_below(seed, 2) == 0 ? PICK(key_words, seed) : "*";
        if (literal[0] != '*' && literal[0] != '#') {
            strcat(key, key[0] == '\0' && i == 0 ? "" : ".");
            strcat(key, literal);
        }
        if (i < parts_n) {
            strcat(key, i == 0 && key[0] == '\0' ? "" : ".");
            strcat(key, parts[i]);
        }
    }
    if (key[0] == '.' && key[1] == '\0') {
        strcpy(key, "a");
    }
}

static void table_open(struct table *t, uint64_t *seed, const char *const *exchanges,
                       size_t exchanges_n, enum hg_overlong overlong)
{
    memset(t, 0, sizeof(*t));
    t->n = 1 + unit_random_below(seed, RULES_MAX);
    for (size_t i = 0; i < t->n; i++) {
        random_rule(seed, t->pattern[i], t->key[i]);
        t->specs[i] =
            (struct hg_rule_spec){.name = t->pattern[i],
                                  .where = t->key[i],
                                  .pattern = ALL(t->pattern[i]),
                                  .exchange = exchanges[unit_random_below(seed, exchanges_n)],
                                  .key = t->key[i],
                                  .overlong = overlong,
                                  .persistent = HG_UNSET};
        t->alone[i] = fixture_new(&t->specs[i], 1);
    }
    t->all = fixture_new(t->specs, t->n);
}

static void table_close(struct table *t)
{
    for (size_t i = 0; i < t->n; i++) {
        hg_rules_free(t->alone[i]);
    }
    hg_rules_free(t->all);
}

static void random_text(uint64_t *seed, const char *const *words, size_t words_n, const char *sep,
                        bool has_long, char out[TEXT_MAX])
{
    size_t n = 1 + unit_random_below(seed, 5);
    out[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        strcat(out, i > 0 ? sep : "");
        strcat(out, words[unit_random_below(seed, words_n)]);
        if (has_long && unit_random_below(seed, 3) == 0) {
            size_t at = strlen(out);
            size_t more = 60 + unit_random_below(seed, 100);
            memset(out + at, 'z', more);
            out[at + more] = '\0';
        }
    }
}

/* Half of the filters grow out of an address, so that they match something. */
static void random_filter(uint64_t *seed, const struct message *like, char out[TEXT_MAX])
{
    char text[TEXT_MAX];
    struct hg_bytes rest;
    struct hg_bytes level;
    bool has_more = true;
    size_t n = 0;
    if (like->address[0] != '\0' && unit_random_below(seed, 4) > 0) {
        strcpy(text, like->address);
    } else {
        random_text(seed, level_words, sizeof(level_words) / sizeof(level_words[0]), "/", false,
                    text);
    }
    rest = hg_bytes_str(text);
    while (hg_topic_next(&rest, &has_more, '/', &level)) {
        size_t dice = unit_random_below(seed, 6);
        if (dice == 0) {
            n += (size_t)sprintf(out + n, "#");
            return;
        }
        n += (size_t)sprintf(out + n, "%.*s%s", dice < 3 ? 1 : (int)level.n,
                             dice < 3 ? "+" : (const char *)level.p, has_more ? "/" : "");
    }
    if (unit_random_below(seed, 6) == 0) {
        strcpy(out + n, "/#");
    }
}

static bool deliver(const struct hg_rules *r, const struct message *m, char out[TEXT_MAX],
                    size_t *rule)
{
    struct hg_writer w = {0};
    bool has = hg_rules_deliver(r, HG_PROTO_MQTT, m->exchange, key_of(m), hg_bytes_str(m->original),
                                &w, rule);
    (void)snprintf(out, TEXT_MAX, "%.*s", HG_BYTES_FMT(hg_writer_view(&w)));
    assert_int_equal(strlen(out), hg_writer_n(&w));
    hg_writer_close(&w);
    return has;
}

/* Published to a random address. False if that is not possible. */
static bool publish_random(const struct table *t, uint64_t *seed, bool has_long, struct message *m,
                           char address[TEXT_MAX])
{
    struct hg_route route;
    struct hg_route alone;
    random_text(seed, level_words, sizeof(level_words) / sizeof(level_words[0]), "/", has_long,
                address);
    enum hg_status s = hg_rules_publish(t->all, HG_PROTO_MQTT, hg_bytes_str(address), &route);
    enum hg_status first = HG_NO_RULE;
    size_t i = 0;
    while (i < t->n && (first = hg_rules_publish(t->alone[i], HG_PROTO_MQTT, hg_bytes_str(address),
                                                 &alone)) == HG_NO_RULE) {
        i++;
    }
    assert_int_equal(s, address[0] == '\0' ? HG_BAD_ADDRESS : first);
    if (s != HG_OK) {
        return false;
    }
    assert_int_equal(route.rule, i);
    assert_true(hg_bytes_eq(route.key, alone.key) && hg_bytes_eq(route.exchange, alone.exchange));
    assert_true(route.key.n <= HG_KEY_MAX);
    *m = (struct message){.exchange = route.exchange, .key_n = route.key.n, .by = i};
    memcpy(m->key, route.key.p, route.key.n);
    if (route.is_hashed) {
        strcpy(m->original, address);
    }
    return true;
}

/* By an AMQP client, straight to an exchange. */
static void send_random(uint64_t *seed, const char *const *exchanges, size_t exchanges_n,
                        struct message *m)
{
    char key[TEXT_MAX];
    random_text(seed, key_words, sizeof(key_words) / sizeof(key_words[0]), ".", false, key);
    *m = (struct message){.exchange = hg_bytes_str(exchanges[unit_random_below(seed, exchanges_n)]),
                          .key_n = strlen(key),
                          .by = RULES_MAX};
    memcpy(m->key, key, m->key_n);
}

/* reverse(forward(x)) = x, and forward(reverse(y)) = y, wherever one rule is asked. */
static void check_identities(const struct table *t, const struct message *m, const char *address)
{
    char back[TEXT_MAX];
    struct hg_route route;
    size_t rule;
    if (m->by < t->n) {
        assert_true(deliver(t->alone[m->by], m, back, &rule));
        assert_string_equal(back, address);
    }
    for (size_t i = 0; i < t->n; i++) {
        if (deliver(t->alone[i], m, back, &rule)) {
            assert_int_equal(
                hg_rules_publish(t->alone[i], HG_PROTO_MQTT, hg_bytes_str(back), &route), HG_OK);
            bool is_any_key =
                strcmp(t->specs[i].exchange, "news") == 0 && strchr(t->pattern[i], '{') == NULL;
            if (!is_any_key && !hg_bytes_eq(route.key, key_of(m))) {
                fail_msg("%s -> %s: %.*s -> %s -> %.*s", t->pattern[i], t->key[i],
                         HG_BYTES_FMT(key_of(m)), back, HG_BYTES_FMT(route.key));
            }
        }
    }
}

/* The table maps back as the first of its rules that does; sets m->address. */
static void check_first_match(const struct table *t, struct message *m)
{
    char alone[TEXT_MAX];
    size_t rule;
    size_t unused;
    bool has = deliver(t->all, m, m->address, &rule);
    if (m->original[0] != '\0') {
        assert_true(has); /* by the address that travels, whichever rule made it */
        return;
    }
    for (size_t i = 0; i < t->n; i++) {
        if (deliver(t->alone[i], m, alone, &unused)) {
            bool is_fallback = strcmp(t->specs[i].exchange, "news") == 0;
            assert_true(has);
            assert_true(is_fallback || rule == i);
            assert_true(is_fallback || strcmp(alone, m->address) == 0);
            return;
        }
    }
    assert_false(has);
}

struct bound {
    const struct table *t;
    const struct message *messages;
    bool is_in[MESSAGES_N];      /* some binding takes it */
    bool is_in_wide[MESSAGES_N]; /* the same once all that may be widened is */
};

static void note_plan(void *ctx, const struct hg_binding_plan *plan)
{
    struct bound *b = ctx;
    assert_int_equal(plan->kind, HG_PLAN_FEED);
    for (size_t i = 0; i < MESSAGES_N; i++) {
        const struct message *m = &b->messages[i];
        if (!hg_bytes_eq(plan->exchange, m->exchange)) {
            continue;
        }
        struct hg_bytes wide = plan->is_widenable ? plan->wide_key : plan->key;
        bool is_fanout = hg_bytes_eq(plan->exchange, HG_BYTES("news"));
        bool is_direct = hg_bytes_eq(plan->exchange, HG_BYTES("orders"));
        b->is_in[i] |= is_fanout || (is_direct ? hg_bytes_eq(plan->key, key_of(m))
                                               : hg_binding_matches(plan->key, key_of(m)));
        b->is_in_wide[i] |= is_fanout || (is_direct ? hg_bytes_eq(wide, key_of(m))
                                                    : hg_binding_matches(wide, key_of(m)));
    }
}

/* What a client publishes and the filter matches has to come, whatever rule it came through;
 * likewise what others publish, except to direct exchanges, which may be left out. A filter that
 * begins with a wildcard may leave direct ones out as well. */
static void check_filter(const struct table *t, const struct message *messages, const char *filter)
{
    struct bound b = {.t = t, .messages = messages};
    const char *why;
    enum hg_status s =
        hg_rules_subscribe(t->all, NULL, HG_PROTO_MQTT, hg_bytes_str(filter), note_plan, &b, &why);
    if (filter[0] == '\0') {
        assert_int_equal(s, HG_BAD_FILTER);
        return;
    }
    assert_true(s == HG_OK || s == HG_NO_RULE || s == HG_NO_WILDCARD || s == HG_KEY_TOO_LONG);
    bool has_wildcard = hg_topic_has_wildcard(hg_bytes_str(filter));
    bool begins_wild =
        filter[0] == '#' || (filter[0] == '+' && (filter[1] == '/' || filter[1] == '\0'));
    assert_true(s != HG_NO_WILDCARD || has_wildcard);
    for (size_t i = 0; i < MESSAGES_N && s != HG_NO_WILDCARD; i++) {
        const struct message *m = &messages[i];
        bool is_direct = hg_bytes_eq(m->exchange, HG_BYTES("orders"));
        bool may_miss = is_direct && has_wildcard && (begins_wild || m->by == RULES_MAX);
        bool is_wanted = m->address[0] != '\0' &&
                         hg_topic_matches(hg_bytes_str(filter), hg_bytes_str(m->address));
        if (is_wanted && !(b.is_in[i] && b.is_in_wide[i]) && !may_miss) {
            fail_msg("filter %s misses %s (exchange %.*s, key %.*s, by %zu), status %s", filter,
                     m->address, HG_BYTES_FMT(m->exchange), HG_BYTES_FMT(key_of(m)), m->by,
                     hg_status_info(s)->name);
        }
    }
}

static void check_tables(uint64_t seed, const char *const *exchanges, size_t exchanges_n,
                         enum hg_overlong overlong)
{
    static struct message messages[MESSAGES_N];
    static char address[TEXT_MAX];
    static char filter[TEXT_MAX];
    for (size_t k = 0; k < TABLES_N; k++) {
        struct table t;
        table_open(&t, &seed, exchanges, exchanges_n, overlong);
        for (size_t i = 0; i < MESSAGES_N; i++) {
            bool is_published =
                i % 3 != 0 &&
                publish_random(&t, &seed, overlong == HG_OVERLONG_HASH, &messages[i], address);
            if (!is_published) {
                send_random(&seed, exchanges, exchanges_n, &messages[i]);
            }
            check_identities(&t, &messages[i], address);
            check_first_match(&t, &messages[i]);
        }
        for (size_t i = 0; i < FILTERS_N; i++) {
            random_filter(&seed, &messages[i], filter);
            check_filter(&t, messages, filter);
        }
        table_close(&t);
    }
}

static const char *const topics[] = {"telemetry", "events"};
static const char *const mixed[] = {"telemetry", "orders", "news", "events"};

static void topic_tables_lose_nothing_and_miss_nothing(void **state)
{
    (void)state;
    check_tables(0x1234, topics, 2, HG_OVERLONG_REFUSE);
}

static void mixed_tables_lose_nothing_and_miss_nothing(void **state)
{
    (void)state;
    check_tables(0x5678, mixed, 4, HG_OVERLONG_REFUSE);
}

static void hashing_tables_lose_nothing_and_miss_nothing(void **state)
{
    (void)state;
    check_tables(0x9abc, topics, 2, HG_OVERLONG_HASH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(topic_tables_lose_nothing_and_miss_nothing),
        cmocka_unit_test(mixed_tables_lose_nothing_and_miss_nothing),
        cmocka_unit_test(hashing_tables_lose_nothing_and_miss_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
