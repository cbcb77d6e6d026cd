/* SPDX-License-Identifier: Apache-2.0 */
/* What `headgate route` prints, as text and as JSON, and its exit codes. */
#include "route.h"

#include "fixture.h"
#include "rules/access.h"

#include <stdlib.h>

static const char *const header_names[] = {"device", "room"};
static const char *const header_values[] = {"{client_id}", "{room} \"{protocol}\""};
static const char *const roles[] = {"*", "device", "admin"};

static const struct hg_rule_spec rules[] = {
    {.where = "f:1:1",
     .name = "sensors",
     .pattern = {"Sensor/{kind}/{room}", "/Sensor/{kind}/{room}", NULL},
     .exchange = "telemetry",
     .key = "sensor.{kind}.{room}",
     .header_names = header_names,
     .header_values = header_values,
     .headers_n = 2,
     .publish_roles = 6,
     .subscribe_roles = 1,
     .persistent = HG_YES,
     .is_mandatory = false},
    {.where = "f:2:1",
     .name = "orders",
     .pattern = {NULL, NULL, "/orders/{id}"},
     .exchange = "orders",
     .key = "order.{id}",
     .publish_roles = 1,
     .subscribe_roles = 1,
     .persistent = HG_UNSET,
     .is_mandatory = true},
    {.where = "f:3:1",
     .name = "work",
     .pattern = ALL("work"),
     .queue = "w",
     .publish_roles = 1,
     .subscribe_roles = 1,
     .persistent = HG_UNSET},
    {.where = "f:4:1",
     .name = "spread",
     .pattern = ALL("s/{x}"),
     .exchange = "spread",
     .key = "s.{x}",
     .publish_roles = 1,
     .subscribe_roles = 1,
     .persistent = HG_UNSET},
    {.where = "f:6:1",
     .name = "sold",
     .pattern = {NULL, NULL, "/sold/{id}"},
     .exchange = "orders",
     .key = "sold.{id}.{query.region}",
     .publish_roles = 1,
     .subscribe_roles = 1,
     .persistent = HG_UNSET},
    {.where = "f:5:1",
     .name = "b",
     .pattern = ALL("b/{x}"),
     .exchange = "orders",
     .key = "{x}",
     .publish_roles = 1,
     .subscribe_roles = 1},
};
static const struct hg_exchange_decl exchanges[] = {
    {.spec = {"f:9:1", "spread", HG_EXCHANGE_OTHER}, .type = "x-random"},
};

static int ask(const struct hg_rule_who *who, bool is_json, const char *const words[4], char **out,
               char **err)
{
    size_t out_n;
    size_t err_n;
    FILE *to = open_memstream(out, &out_n);
    FILE *errors = open_memstream(err, &err_n);
    const struct hg_vhost_spec spec = {.table =
                                           fixture_new(rules, sizeof(rules) / sizeof(rules[0])),
                                       .exchanges = exchanges,
                                       .exchanges_n = 1};
    const struct hg_config config = {.vhosts = &spec,
                                     .vhosts_n = 1,
                                     .stomp_rabbitmq_destinations = true,
                                     .has_identities = true,
                                     .roles = roles,
                                     .roles_n = 3,
                                     .max_topic_bytes = 100,
                                     .max_topic_levels = 8};
    int code =
        hg_route_command(&config, who, is_json, words[0], words[1], words[2], words[3], to, errors);
    assert_int_equal(fclose(to), 0);
    assert_int_equal(fclose(errors), 0);
    hg_rules_free(spec.table);
    return code;
}

struct row {
    const char *words[4];
    int code;
    const char *text, *json, *err;
};

static void each_question_has_its_answer(void **state)
{
    static const struct row rows[] = {
        {{"mqtt", "publish", "Sensor/temp/ha.ll", NULL},
         0,
         "rule      sensors (f:1:1)\n"
         "exchange  telemetry (topic)\n"
         "key       sensor.temp.ha%2Ell\n"
         "capture   kind = temp\n"
         "capture   room = ha.ll\n"
         "header    device = {client_id}\n"
         "header    room = ha.ll \"mqtt\"\n"
         "delivery  persistent\n"
         "allowed   device, admin\n",
         "{\"address\":\"Sensor/temp/ha.ll\",\"rule\":\"sensors\",\"where\":\"f:1:1\",\"exchange\":"
         "\"telemetry\",\"type\":\"topic\",\"key\":\"sensor.temp.ha%2Ell\",\"hashed\":false,"
         "\"mandatory\":false,\"captures\":{\"kind\":\"temp\",\"room\":\"ha.ll\"},\"headers\":{"
         "\"device\":\"{client_id}\",\"room\":\"ha.ll \\\"mqtt\\\"\"}}\n",
         ""},
        {{"http", "publish", "/orders/17", NULL},
         0,
         "rule      orders (f:2:1)\n"
         "exchange  orders (direct)\n"
         "key       order.17\n"
         "capture   id = 17\n"
         "mandatory yes\n",
         "{\"address\":\"orders/17\",\"rule\":\"orders\",\"where\":\"f:2:1\",\"exchange\":"
         "\"orders\",\"type\":\"direct\",\"key\":\"order.17\",\"hashed\":false,\"mandatory\":true,"
         "\"captures\":{\"id\":\"17\"},\"headers\":{}}\n",
         ""},
        {{"http", "publish", "/sold/17", NULL},
         0,
         "rule      sold (f:6:1)\n"
         "exchange  orders (direct)\n"
         "key       sold.17.{region}\n"
         "capture   id = 17\n",
         "{\"address\":\"sold/17\",\"rule\":\"sold\",\"where\":\"f:6:1\",\"exchange\":"
         "\"orders\",\"type\":\"direct\",\"key\":\"sold.17.{region}\",\"hashed\":false,\"mandatory\":"
         "false,\"captures\":{\"id\":\"17\"},\"headers\":{}}\n",
         ""},
        {{"stomp", "publish", "/work", NULL},
         0,
         "rule      work (f:3:1)\nexchange  the default one\nkey       w\n",
         "{\"address\":\"work\",\"rule\":\"work\",\"where\":\"f:3:1\",\"exchange\":\"\",\"type\":"
         "\"direct\",\"key\":\"w\",\"hashed\":false,\"mandatory\":false,\"captures\":{},"
         "\"headers\":{}}\n",
         ""},
        {{"mqtt", "publish", "nowhere", NULL},
         1,
         "",
         "{\"error\":\"NO_RULE\",\"reason\":\"no rule takes this address\"}\n",
         "headgate: nowhere: no rule takes this address\n"},
        {{"mqtt", "publish", "b/", NULL},
         1,
         "",
         "{\"error\":\"BAD_ADDRESS\",\"reason\":\"its key would be a single empty word, which "
         "RabbitMQ takes for none\"}\n",
         "headgate: b/: its key would be a single empty word, which RabbitMQ takes for none\n"},
        {{"mqtt", "publish", "a/+", NULL},
         1,
         "",
         "{\"error\":\"BAD_ADDRESS\",\"reason\":\"holds a wildcard (+ or #)\"}\n",
         "headgate: a/+: holds a wildcard (+ or #)\n"},
        {{"stomp", "publish", "/topic/x", NULL},
         1,
         "",
         "{\"error\":\"NO_RULE\",\"reason\":\"no rule takes this address\"}\n",
         "headgate: note: stomp takes /topic before any rule; this is what the rules say\n"
         "headgate: /topic/x: no rule takes this address\n"},
        {{"stomp", "subscribe", "/Sensor/*/hall", NULL},
         0,
         "rule      sensors (f:1:1)\nexchange  telemetry (topic)\nbinding   sensor.*.hall\n"
         "queue     the worker's feed\nmay widen sensor.*.*\n",
         "{\"filter\":\"Sensor/+/hall\",\"plans\":[{\"rule\":\"sensors\",\"where\":\"f:1:1\","
         "\"kind\":\"feed\",\"exchange\":\"telemetry\",\"type\":\"topic\",\"key\":\"sensor.*.hall\""
         ",\"wide_key\":\"sensor.*.*\",\"is_wide\":false}]}\n",
         ""},
        {{"mqtt", "subscribe", "+/#", NULL},
         0,
         "rule      sensors (f:1:1)\nexchange  telemetry (topic)\nbinding   sensor.*.*\n"
         "queue     the worker's feed\nmay widen sensor.*.*\n\n"
         "rule      spread (f:4:1)\nexchange  spread (x-random)\nbinding   s.*\n"
         "queue     one of the subscriber's own\n",
         "{\"filter\":\"+/#\",\"plans\":[{\"rule\":\"sensors\",\"where\":\"f:1:1\",\"kind\":\"feed\""
         ",\"exchange\":\"telemetry\",\"type\":\"topic\",\"key\":\"sensor.*.*\",\"wide_key\":"
         "\"sensor.*.*\",\"is_wide\":false},{\"rule\":\"spread\",\"where\":\"f:4:1\",\"kind\":"
         "\"own\",\"exchange\":\"spread\",\"type\":\"x-random\",\"key\":\"s.*\"}]}\n",
         ""},
        {{"mqtt", "subscribe", "work", NULL},
         0,
         "rule      work (f:3:1)\nconsumes  w\n",
         "{\"filter\":\"work\",\"plans\":[{\"rule\":\"work\",\"where\":\"f:3:1\",\"kind\":\"queue\","
         "\"queue\":\"w\"}]}\n",
         ""},
        {{"http", "subscribe", "orders/*", NULL},
         1,
         "",
         "{\"error\":\"NO_WILDCARD\",\"reason\":\"a direct exchange takes no wildcard: subscribe to "
         "whole addresses\"}\n",
         "headgate: orders/*: a direct exchange takes no wildcard: subscribe to whole addresses\n"},
        {{"amqp", "deliver", "telemetry", "sensor.temp.ha%2Ell"},
         0,
         "mqtt      Sensor/temp/ha.ll (rule sensors)\nstomp     Sensor/temp/ha.ll (rule sensors)\n"
         "http      -\n",
         "{\"exchange\":\"telemetry\",\"key\":\"sensor.temp.ha%2Ell\",\"addresses\":{\"mqtt\":{"
         "\"address\":\"Sensor/temp/ha.ll\",\"rule\":\"sensors\"},\"stomp\":{\"address\":"
         "\"Sensor/temp/ha.ll\",\"rule\":\"sensors\"},\"http\":null}}\n",
         ""},
        {{"amqp", "deliver", "telemetry", "x"},
         1,
         "mqtt      -\nstomp     -\nhttp      -\n",
         "{\"exchange\":\"telemetry\",\"key\":\"x\",\"addresses\":{\"mqtt\":null,\"stomp\":null,"
         "\"http\":null}}\n",
         "headgate: no rule maps exchange \"telemetry\", key \"x\" back\n"},
        {{"amqp", "deliver", "nope", "x"},
         1,
         "",
         "{\"error\":\"NO_EXCHANGE\",\"reason\":\"is no exchange of the configuration\"}\n",
         "headgate: nope: is no exchange of the configuration\n"},
        {{"amqp", "publish", "x", NULL},
         1,
         "",
         "",
         "headgate: route takes mqtt, stomp or http with publish ADDRESS or subscribe FILTER, or "
         "amqp deliver EXCHANGE KEY\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (int is_json = 0; is_json < 2; is_json++) {
            char *out;
            char *err;
            int code = ask(NULL, is_json != 0, rows[i].words, &out, &err);
            const char *want = is_json ? rows[i].json : rows[i].text;
            if (code != rows[i].code || strcmp(out, want) != 0 || strcmp(err, rows[i].err) != 0) {
                fail_msg("%s %s %s: %d\n%s\nwant\n%s\nerr\n%s", rows[i].words[0], rows[i].words[1],
                         rows[i].words[2], code, out, want, err);
            }
            free(out);
            free(err);
        }
    }
}

static void a_client_is_told_which_rule_denies(void **state)
{
    static const struct {
        struct hg_rule_who who;
        const char *words[4];
        int code;
        const char *err;
    } rows[] = {
        {{.roles = 3}, {"mqtt", "publish", "Sensor/a/b", NULL}, 0, ""},
        {{.roles = 1},
         {"mqtt", "publish", "Sensor/a/b", NULL},
         1,
         "headgate: Sensor/a/b: rule sensors (f:1:1) lets other roles publish\n"},
        {{.roles = 1}, {"mqtt", "subscribe", "Sensor/#", NULL}, 0, ""},
        {{.roles = 0},
         {"mqtt", "subscribe", "Sensor/#", NULL},
         1,
         "headgate: Sensor/#: rule sensors (f:1:1) lets other roles subscribe\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *out;
        char *err;
        assert_int_equal(ask(&rows[i].who, false, rows[i].words, &out, &err), rows[i].code);
        assert_string_equal(err, rows[i].err);
        assert_int_equal(out[0] == '\0', rows[i].code != 0);
        free(out);
        free(err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_question_has_its_answer),
        cmocka_unit_test(a_client_is_told_which_rule_denies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
