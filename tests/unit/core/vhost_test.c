/* SPDX-License-Identifier: Apache-2.0 */
/* [[vhost]]: what belongs to which, what clients call them, and who gets into which. */
#include "core/config.h"
#include "core/conn.h"
#include "core/login_priv.h"
#include "core/own.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LISTENER "[[listener]]\nserve='web'\nbind='127.0.0.1:1'\n" /* three lines */
#define TWO      "[[vhost]]\nname='/'\n[[vhost]]\nname='b'\n"      /* lines 4 to 7 */

static struct hg_config *load(const char *toml, struct hg_writer *errors)
{
    char name[] = "/tmp/headgate-vhost-XXXXXX";
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, toml, strlen(toml)), strlen(toml));
    close(fd);
    struct hg_config *c = hg_config_load(name, NULL, 0, errors);
    unlink(name);
    return c;
}

static struct hg_config *load_good(const char *toml)
{
    struct hg_writer errors = {0};
    struct hg_config *c = load(toml, &errors);
    if (c == NULL) {
        print_error("%.*s", HG_BYTES_FMT(hg_writer_view(&errors)));
    }
    assert_non_null(c);
    hg_writer_close(&errors);
    return c;
}

/* ---- What is written ---- */

static void without_any_there_is_the_endpoints_own(void **state)
{
    (void)state;
    struct hg_config *c = load_good(LISTENER "[rabbitmq]\nendpoints=['amqp://h/x']");
    assert_false(c->has_vhosts);
    assert_int_equal(c->vhosts_n, 1);
    assert_string_equal(c->vhosts[0].name, "x");
    assert_string_equal(c->vhosts[0].endpoints[0].vhost, "x");
    assert_int_equal(c->all_rules_n, 1);
    hg_config_free(c);
}

static void everything_belongs_to_the_one_that_it_names(void **state)
{
    (void)state;
    struct hg_config *c = load_good(
        LISTENER "[rabbitmq]\nendpoints=['amqp://h/x', 'amqps://i:1/x?auth=external']\n"
                 "[rabbitmq.tls]\ninsecure=true\n"
                 "[[exchange]]\nname='e'\nvhost='b'\ntype='topic'\n"
                 "[[exchange]]\nname='e'\ntype='fanout'\n"
                 "[[queue]]\nname='q'\nvhost='b'\n"
                 "[[rule]]\nname='r'\nvhost='b'\ntopic='r/{x}'\nexchange='e'\nkey='{x}'\n"
                 "on_reject='park'\n"
                 "[[rule]]\nname='r'\ntopic='r'\nexchange='e'\n"
                 "[[rule]]\nname='s'\nvhost='b'\ntopic='s'\nqueue='q'\n"
                 "[[access]]\nqueue='q'\nvhost='b'\npublish=['x']\n"
                 "[[bridge]]\nname='b'\nvhost='b'\naddress='mqtt://s'\nout=[{filter='#'}]\n"
                 "[[vhost]]\nname='b'\naliases=['two', 'three']\nendpoints=['amqp://u:p@own']\n"
                 "[[vhost]]\nname='a'\ndefault=true\n");
    const struct hg_vhost_spec *a = &c->vhosts[0];
    const struct hg_vhost_spec *b = &c->vhosts[1];
    assert_int_equal(c->vhosts_n, 2);
    assert_string_equal(a->name, "a");
    assert_true(a->is_default && !b->is_default);
    assert_int_equal(a->endpoints_n, 2);
    assert_string_equal(a->endpoints[1].vhost, "a");
    assert_true(a->endpoints[1].is_tls && a->endpoints[1].is_external);
    assert_int_equal(b->endpoints_n, 1);
    assert_string_equal(b->endpoints[0].host, "own");
    assert_string_equal(b->endpoints[0].vhost, "b");
    assert_int_equal(a->exchanges_n, 1);
    assert_string_equal(a->exchanges[0].type, "fanout");
    assert_string_equal(b->exchanges[0].type, "topic");
    assert_int_equal(a->queues_n, 0);
    assert_int_equal(b->queues_n, 2); /* the rule parks what is rejected */
    assert_string_equal(b->queues[1].name, "headgate.parked");
    assert_int_equal(a->rules_n, 2);
    assert_int_equal(b->rules_n, 3);
    assert_int_equal(b->first_rule, 2);
    assert_int_equal(c->all_rules_n, 5);
    assert_true(a->rules[1].is_builtin && b->rules[2].is_builtin);
    assert_string_equal(hg_rules_spec(b->table, 1)->name, "s");
    assert_int_equal(hg_access_queue_roles(c, 0, HG_ACCESS_PUBLISH, HG_BYTES("q")), 0);
    assert_int_equal(hg_access_queue_roles(c, 1, HG_ACCESS_PUBLISH, HG_BYTES("q")), 2);
    assert_int_equal(c->bridges[0].vhost, 2);
    hg_config_free(c);
}

static void mistakes_are_named(void **state)
{
    static const struct {
        const char *toml, *error;
    } rows[] = {
        {LISTENER "[[rule]]\nname='r'\nvhost='b'\ntopic='r'\nqueue='q'",
         "6:7: no [[vhost]] is called \"b\""},
        {LISTENER TWO "[[queue]]\nname='q'\nvhost='warehouse'",
         "10:7: no [[vhost]] is called \"warehouse\""},
        {LISTENER
         "[[vhost]]\nname='orders'\n[[bridge]]\nname='x'\nvhost='order'\naddress='mqtt://s'\n"
         "out=[{filter='#'}]",
         "8:7: no [[vhost]] is called \"order\", did you mean \"orders\"?"},
        {LISTENER "vhost='warehouse'\n"
                  "[[vhost]]\nname='c'",
         "4:7: no [[vhost]] is called \"warehouse\""},
        {LISTENER TWO "[[vhost]]\nname='b'", "9:6: name \"b\" is taken already at FILE:7:6"},
        {LISTENER "[[vhost]]\nname='a'\naliases=['b']\n[[vhost]]\nname='b'",
         "6:10: \"b\" is a name of \"b\" at FILE:7:1"},
        {LISTENER "[[vhost]]\nname='a'\ndefault=true\n[[vhost]]\nname='b'\ndefault=true",
         "9:9: the default one is named already at FILE:6:9"},
        {LISTENER "[[vhost]]\naliases=['b']", "4:1: name is missing"},
        {LISTENER "[[vhost]]\nname='b'\nendpoints=['amqp://h', 'amqp://h/%2f']",
         "6:24: endpoint 2 leads to the virtual host \"/\""},
        {LISTENER "[[vhost]]\nname='b'\nendpoints=[]", "6:11: endpoints must not be empty"},
        {LISTENER TWO "[[user]]\nname='u'\nvhosts=['b', 'warehouse']",
         "10:14: no [[vhost]] is called \"warehouse\""},
        {LISTENER TWO "[[user]]\nname='u'\nvhosts=[]", "10:8: vhosts must not be empty"},
        {LISTENER TWO "[[listener]]\nserve='admin'\nbind='127.0.0.1:2'\nvhost='b'",
         "11:1: an admin listener is for all virtual hosts"},
        {LISTENER TWO "[[queue]]\nname='q'\n[[queue]]\nname='q'\nvhost='/'",
         "11:6: name \"q\" is taken already at FILE:9:6"},
        {LISTENER TWO
         "[[queue]]\nname='q'\nvhost='b'\n[[rule]]\nname='r'\nvhost='b'\ntopic='r'\nexchange='amq.topic'\nreplay='q'",
         "16:8: q is declared, and it is no stream"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hg_writer errors = {0};
        char want[300];
        char got[300] = "";
        snprintf(want, sizeof(want), "%s\n", rows[i].error);
        assert_null(load(rows[i].toml, &errors));
        /* the file's name, which differs each time, out of both places where it may stand */
        struct hg_bytes text = hg_writer_view(&errors);
        size_t n = 0;
        for (size_t at = 0; at < text.n && n < sizeof(got) - 8; at++) {
            if (text.n - at >= 27 && memcmp(text.p + at, "/tmp/headgate-vhost-", 20) == 0) {
                n += (size_t)snprintf(got + n, sizeof(got) - n, "FILE");
                at += 25;
            } else {
                got[n++] = (char)text.p[at];
            }
        }
        assert_int_equal(strncmp(got, "FILE:", 5), 0);
        assert_string_equal(got + 5, want);
        hg_writer_close(&errors);
    }
}

static void another_vhosts_queue_is_not_what_a_replay_names(void **state)
{
    (void)state;
    hg_config_free(load_good(LISTENER TWO "[[queue]]\nname='q'\n[[rule]]\nname='r'\nvhost='b'\n"
                                          "topic='r'\nexchange='amq.topic'\nreplay='q'"));
}

static void a_user_name_is_split_where_it_names_one(void **state)
{
    static const struct {
        bool refuses;
        const char *text, *vhost, *user;
    } rows[] = {
        {false, "anna", "", "anna"},
        {false, "b:anna", "b", "anna"},
        {false, "/:anna", "/", "anna"},
        {false, "two:anna", "two", "anna"},
        {false, "c:anna", "", "c:anna"},
        {false, "c:b:anna", "", "c:b:anna"},
        {false, ":anna", "", ":anna"},
        {false, "b:", "b", ""},
        {false, "", "", ""},
        {true, "c:anna", "c", "anna"},
        {true, "x:b:anna", "x:b", "anna"},
        {true, "anna", "", "anna"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hg_config *c = load_good(
            rows[i].refuses ? LISTENER "[gateway]\nunknown_vhost='refuse'\n" TWO "aliases=['two']"
                            : LISTENER TWO "aliases=['two']");
        struct hg_bytes vhost, user;
        hg_vhost_split(c, hg_bytes_str(rows[i].text), &vhost, &user);
        assert_text(vhost, rows[i].vhost);
        assert_text(user, rows[i].user);
        hg_config_free(c);
    }
    struct hg_config *c = load_good(LISTENER); /* nothing is split where nobody has a choice */
    struct hg_bytes vhost, user;
    hg_vhost_split(c, HG_BYTES("/:anna"), &vhost, &user);
    assert_text(user, "/:anna");
    hg_config_free(c);
}

/* ---- Who gets where ---- */

static struct hg_listener_spec listener;

const struct hg_listener_spec *hg_conn_listener(const struct hg_conn *c)
{
    (void)c;
    return &listener;
}

void hg_own_leave(struct hg_session *s)
{
    assert_non_null(s); /* nobody has connections of its own */
}

/* Where a client gets, by name; NULL: nowhere. */
static const char *place(const struct hg_config *c, unsigned own, const char *named,
                         struct hg_vhost_limits limits)
{
    enum { BEFORE = 3 }; /* where it is in before */
    struct hg_vhost vhosts[4];
    struct hg_realm realms[4];
    struct hg_realm *all[4];
    for (uint16_t i = 0; i < 4; i++) {
        vhosts[i] = (struct hg_vhost){.index = i};
        realms[i] = (struct hg_realm){.vhost = &vhosts[i], .index = i};
        all[i] = &realms[i];
    }
    struct hg_worker w = {.config = c, .realms = all, .realms_n = 4};
    struct hg_session s = {.worker = &w, .realm = BEFORE};
    const char *why = NULL;
    listener.vhost = (uint8_t)own;
    enum hg_status status = hg_login_choose(&s, hg_bytes_str(named), &limits, &why);
    assert_int_equal(status == HG_OK, why == NULL);
    assert_true(status == HG_OK || (status == HG_NOT_ALLOWED && s.realm == BEFORE));
    return status == HG_OK ? c->vhosts[s.realm].name : NULL;
}

static void the_listener_then_the_name_then_the_user_decide(void **state)
{
#define VHOSTS "[[vhost]]\nname='a'\naliases=['A']\n[[vhost]]\nname='b'\n[[vhost]]\nname='c'\n"
    enum { A = 1, B = 2, C = 4, ALL = 7 };
    static const struct {
        bool refuses;
        unsigned own; /* the listener's place */
        const char *named;
        struct hg_vhost_limits limits;
        const char *wanted; /* NULL: refused */
    } rows[] = {
        {false, 0, "", {.may = ALL}, "a"},
        {false, 0, "A", {.may = ALL}, "a"},
        {false, 0, "b", {.may = ALL}, "b"},
        {false, 0, "d", {.may = ALL}, "a"},
        {true, 0, "d", {.may = ALL}, NULL},
        {true, 0, "", {.may = ALL}, "a"},
        {false, 0, "b", {.may = A}, NULL},
        {false, 0, "", {.may = B | C}, "b"}, /* the first that it may enter */
        {false, 0, "", {.may = A | B | C, .first = 3, .is_bound = true}, "c"},
        {false, 0, "a", {.may = A | C, .first = 3, .is_bound = true}, "a"},
        {false, 0, "b", {.may = A | C, .first = 3, .is_bound = true}, NULL},
        {false, 0, "d", {.may = A | C, .first = 3, .is_bound = true}, "c"},
        {false, 2, "", {.may = A}, "b"}, /* the listener's own is open to who has no [[user]] … */
        {false, 2, "b", {.may = A}, "b"},
        {false, 2, "d", {.may = A}, "b"},
        {true, 2, "d", {.may = A}, NULL},
        {false, 2, "a", {.may = ALL}, NULL}, /* … and nobody gets out of it */
        {false, 2, "", {.may = A, .is_bound = true}, NULL},
        {false, 2, "", {.may = A | B, .first = 1, .is_bound = true}, "b"},
        {false, 0, "c", {.may = UINT64_MAX}, "c"},
    };
    (void)state;
    struct hg_config *configs[2] = {
        load_good(LISTENER VHOSTS),
        load_good(LISTENER "[gateway]\nunknown_vhost='refuse'\n" VHOSTS)};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *got =
            place(configs[rows[i].refuses], rows[i].own, rows[i].named, rows[i].limits);
        if (rows[i].wanted == NULL) {
            assert_null(got);
        } else {
            assert_non_null(got);
            assert_string_equal(got, rows[i].wanted);
        }
    }
    hg_config_free(configs[0]);
    hg_config_free(configs[1]);
}

static void limits_are_the_users_or_everybodys(void **state)
{
    (void)state;
    struct hg_config *c =
        load_good(LISTENER VHOSTS "[users]\nvhosts=['b','c']\n"
                                  "[[user]]\nname='plain'\n"
                                  "[[user]]\nname='one'\nvhost='c'\n"
                                  "[[user]]\nname='two'\nvhosts=['a','b']\n"
                                  "[[user]]\nname='all'\nvhosts=['*']\nvhost='b'\n");
    const struct hg_user_spec *users = c->users.users;
    const struct {
        const struct hg_user_spec *user;
        struct hg_vhost_limits limits;
    } rows[] = {
        {NULL, {6, 0, false}},     {&users[0], {6, 0, false}},         {&users[1], {4, 3, true}},
        {&users[2], {3, 0, true}}, {&users[3], {UINT64_MAX, 2, true}},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hg_vhost_limits got = hg_login_limits(c, rows[i].user);
        assert_int_equal(got.may, rows[i].limits.may);
        assert_int_equal(got.first, rows[i].limits.first);
        assert_int_equal(got.is_bound, rows[i].limits.is_bound);
    }
    hg_config_free(c);
    c = load_good(LISTENER VHOSTS);
    assert_int_equal(hg_login_limits(c, NULL).may, 1); /* nobody said anything */
    hg_config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_any_there_is_the_endpoints_own),
        cmocka_unit_test(everything_belongs_to_the_one_that_it_names),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(another_vhosts_queue_is_not_what_a_replay_names),
        cmocka_unit_test(a_user_name_is_split_where_it_names_one),
        cmocka_unit_test(the_listener_then_the_name_then_the_user_decide),
        cmocka_unit_test(limits_are_the_users_or_everybodys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
