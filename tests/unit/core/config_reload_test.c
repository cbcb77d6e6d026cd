/* SPDX-License-Identifier: Apache-2.0 */
/* A file that is read again: what changes, what is named and stays, what is refused whole; who holds a configuration; counters by name. */
#include "base/mem.h"
#include "core/config.h"
#include "core/rule_counts.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LISTENER "[[listener]]\nserve='mqtt'\nbind='127.0.0.1:0'\n"
#define OPEN     "[[listener]]\nserve='mqtt'\nbind='0.0.0.0:0'\n"
#define RULE(name, key) \
    "[[rule]]\nname='" name "'\ntopic='" name "/{x}'\nexchange='amq.topic'\nkey='" key ".{x}'\n"
#define LINE                                 \
    "$argon2id$v=19$m=19456,t=2,p=1$"        \
    "c29tZXNhbHRzb21lc2FsdA$0Y7TEQLQMCKYlU2" \
    "NWkxxzZXHdAwbYf2LWgNdC0XIWkU"
#define USER(name, roles) "[[user]]\nname='" name "'\npassword='" LINE "'\nroles=[" roles "]\n"

static char path[] = "/tmp/headgate-reload-XXXXXX";

static void write_file(const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

static struct hg_config *load_first(const char *text)
{
    static const char *const sets[] = {"stomp.heartbeat=7s"};
    struct hg_writer errors = {0};
    write_file(text);
    struct hg_config *c = hg_config_load(path, sets, 1, &errors);
    assert_int_equal(hg_writer_n(&errors), 0);
    assert_non_null(c);
    return c;
}

/* The keys that are kept, a space behind each. */
static void note_kept(void *ctx, const char *key, const char *where)
{
    assert_true(where[0] != '\0');
    hg_writer_printf(ctx, "%s ", key);
}

static struct hg_config *reload(const struct hg_config *first, const char *text,
                                const char *want_kept, struct hg_writer *errors)
{
    struct hg_writer kept = {0};
    write_file(text);
    struct hg_config *c = hg_config_reload(first, note_kept, &kept, errors);
    hg_writer_u8(&kept, '\0');
    assert_string_equal((const char *)hg_writer_view(&kept).p, want_kept);
    hg_writer_close(&kept);
    return c;
}

static void what_cannot_change_is_named_and_stays(void **state)
{
    static const struct {
        const char *before, *after, *kept;
    } rows[] = {
        {LISTENER, LISTENER, ""},
        {LISTENER, LISTENER "[gateway]\nworkers=0\n[rabbitmq]\nheartbeat='30s'\n", ""},
        {LISTENER, LISTENER "[gateway]\nname='x'\n", "gateway.name "},
        {LISTENER "[gateway]\nname='x'\nlog={level='info'}\n",
         LISTENER "[gateway]\nname='y'\ndrain_timeout='1s'\nlog={level='debug',format='json'}\n",
         "gateway.name gateway.log.format "},
        {LISTENER, LISTENER LISTENER, "listener "},
        {LISTENER LISTENER,
         LISTENER "[[listener]]\nserve='web'\nbind='127.0.0.1:0'\norigins=['https://a']\n",
         "listener[1].serve "},
        {LISTENER, LISTENER "[limits]\nmax_subscriptions=1\n[mqtt]\ndenied='close'\n", ""},
        {LISTENER, LISTENER "[mqtt]\nmax_packet='1MiB'\n[state]\nlog='off'\n",
         "mqtt.max_packet state.log "},
        {LISTENER, LISTENER RULE("a", "a") USER("u", "") "[[exchange]]\nname='x'\ntype='topic'\n",
         ""},
        {LISTENER, LISTENER "[[webhook]]\nname='h'\nurl='http://x/'\nqueue='q'\n", "webhook "},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hg_writer errors = {0};
        struct hg_config *first = load_first(rows[i].before);
        struct hg_config *c = reload(first, rows[i].after, rows[i].kept, &errors);
        assert_non_null(c);
        assert_string_equal(c->name, first->name);
        assert_ptr_equal(c->endpoints, first->endpoints);
        assert_int_equal(c->listeners_n, first->listeners_n);
        assert_int_equal(c->listeners[0].serve, HG_SERVE_MQTT);
        assert_ptr_not_equal(c->vhosts[0].table, first->vhosts[0].table);
        assert_int_equal(c->stomp_heartbeat_ms, 7000); /* --set still holds */
        hg_config_free(c);
        hg_config_free(first);
    }
}

static void what_may_change_does(void **state)
{
    (void)state;
    struct hg_writer errors = {0};
    struct hg_config *first = load_first(LISTENER RULE("a", "a") USER("u", "'x','y'"));
    struct hg_config *c = reload(first,
                                 LISTENER RULE("b", "b") RULE("a", "c") USER("v", "'y'")
                                     USER("u", "'x','z'") "[limits]\nmax_subscriptions=3\n",
                                 "", &errors);
    assert_non_null(c);
    assert_int_equal(c->max_subscriptions, 3);
    assert_int_equal(c->vhosts[0].rules_n, 3);
    assert_string_equal(c->vhosts[0].rules[1].key, "c.{x}");
    assert_int_equal(hg_rules_n(c->vhosts[0].table), 3);
    assert_non_null(hg_config_find_user(&c->users, HG_BYTES("v")));
    assert_null(hg_config_find_user(&first->users, HG_BYTES("v")));
    assert_false(hg_config_says_same(first, c, "rule"));
    assert_true(hg_config_says_same(first, c, "exchange"));
    /* x, y are 2, 4; then y, x, z are 2, 4, 8. */
    assert_int_equal(hg_config_translate_roles(first, c, 1 | 2 | 4), 1 | 4 | 2);
    assert_int_equal(hg_config_translate_roles(first, c, 4), 2);
    assert_int_equal(hg_config_translate_roles(c, first, 8 | 4), 2);
    hg_config_free(c);
    hg_config_free(first);
}

static void what_is_wrong_is_refused_whole(void **state)
{
    static const struct {
        const char *before, *after, *problem;
    } rows[] = {
        {LISTENER, LISTENER "[gateway]\nnmae='x'\n", "unknown key"},
        {LISTENER, "", "listener is missing"},
        {OPEN USER("u", ""), LISTENER, "everybody could use"},
        {LISTENER, LISTENER "[rabbitmq]\nendpoints=['amqp://x/other']\n", "virtual hosts"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hg_writer errors = {0};
        struct hg_config *first = load_first(rows[i].before);
        write_file(rows[i].after);
        struct hg_writer kept = {0};
        assert_null(hg_config_reload(first, note_kept, &kept, &errors));
        hg_writer_u8(&errors, '\0');
        assert_non_null(strstr((const char *)hg_writer_view(&errors).p, rows[i].problem));
        hg_writer_close(&kept);
        hg_writer_close(&errors);
        hg_config_free(first);
    }
}

static void it_lives_as_long_as_somebody_holds_it(void **state)
{
    (void)state;
    struct hg_config *c = load_first(LISTENER);
    const struct hg_config *held = hg_config_ref(c);
    hg_config_free(c);
    assert_int_equal(held->listeners_n, 1);
    hg_config_free(held); /* the sanitizer says whether that was the last */
}

static void no_allocation_that_fails_leaks(void **state)
{
    (void)state;
    struct hg_config *first = load_first(LISTENER RULE("a", "a") USER("u", "'x'"));
    struct hg_config *c = NULL;
    write_file(LISTENER RULE("b", "a") USER("u", "'y'"));
    for (size_t n = 1; c == NULL; n++) {
        struct hg_writer errors = {0};
        struct hg_writer kept = {0};
        seam_fail_allocs_from(n);
        c = hg_config_reload(first, note_kept, &kept, &errors);
        seam_fail_allocs_from(0);
        hg_writer_close(&errors);
        hg_writer_close(&kept);
    }
    hg_config_free(c);
    hg_config_free(first);
}

static void counters_follow_a_rules_name(void **state)
{
    (void)state;
    struct hg_writer errors = {0};
    struct hg_config *first = load_first(LISTENER RULE("a", "a") RULE("b", "b"));
    struct hg_rule_counts *before = hg_rule_counts_new(first, NULL);
    hg_rule_counts_add(before, 0, HG_RULE_IN, 0);
    hg_rule_counts_add(before, 1, HG_RULE_OUT, 0);
    struct hg_config *c = reload(first, LISTENER RULE("c", "c") RULE("a", "a"), "", &errors);
    struct hg_rule_counts *now = hg_rule_counts_new(c, before);
    hg_rule_counts_add(now, 1, HG_RULE_IN, first->workers - 1);
    hg_rule_counts_add(before, 0, HG_RULE_IN, 0); /* a worker that has not swapped yet */
    hg_rule_counts_unref(before);
    assert_int_equal(hg_rule_counts_sum(now, 0, HG_RULE_IN), 0);
    assert_int_equal(hg_rule_counts_sum(now, 1, HG_RULE_IN), 3);
    assert_int_equal(hg_rule_counts_sum(now, 1, HG_RULE_OUT), 0);
    hg_rule_counts_unref(hg_rule_counts_ref(now));
    hg_rule_counts_unref(now);
    hg_config_free(c);
    hg_config_free(first);
}

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_change_is_named_and_stays),
        cmocka_unit_test(what_may_change_does),
        cmocka_unit_test(what_is_wrong_is_refused_whole),
        cmocka_unit_test(it_lives_as_long_as_somebody_holds_it),
        cmocka_unit_test(no_allocation_that_fails_leaks),
        cmocka_unit_test(counters_follow_a_rules_name),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
