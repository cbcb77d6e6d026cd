/* SPDX-License-Identifier: Apache-2.0 */
/* Taking messages out of queues and answering for them: what is asked of the core, and how its
 * answers read. */
#include "adapters/http/web.h"
#include "seam/seam.h"
#include "seam/unit.h"
#include "world.h"

#include <stdio.h>

static int open_web(void **state)
{
    (void)state;
    world_open(&hg_http_adapter);
    return 0;
}

static int close_web(void **state)
{
    (void)state;
    world_close();
    return 0;
}

static void post(const char *path, const char *fields, const char *body)
{
    char request[1000];
    int n = snprintf(request, sizeof(request),
                     "POST %s HTTP/1.1\r\nHost: a\r\n%sContent-Length: %zu\r\n\r\n%s", path, fields,
                     strlen(body), body);
    assert_true(n > 0 && (size_t)n < sizeof(request));
    world_send(request);
}

/* One message, as it comes from the queue. */
static void leased(const struct hg_message_parts *parts, const char *id)
{
    struct hg_leased one = {.message = hg_message_new(parts), .is_redelivered = true};
    snprintf(one.id, sizeof(one.id), "%s", id);
    world_leased(&(struct hg_lease_result){.messages = &one, .n = 1, .left_n = 4});
    hg_message_unref(one.message);
}

/* HG_BYTES where only a constant will do. */
#define TEXT(literal)                                   \
    {                                                   \
        (const uint8_t *)(literal), sizeof(literal) - 1 \
    }

static const struct hg_header headers[] = {
    {TEXT("n"), {.kind = HG_VALUE_INT, .u.i = 7}},
    {TEXT("a b"), {.kind = HG_VALUE_STRING, .u.bytes = TEXT("no field")}},
    {TEXT("tracestate"), {.kind = HG_VALUE_STRING, .u.bytes = TEXT("x\r\nForged: 1")}},
};
static const struct hg_message_parts rich = {
    .exchange = TEXT("ex"),
    .routing_key = TEXT("k\""),
    .properties = {.content_type = TEXT("t/p"),
                   .message_id = TEXT("m"),
                   .expiration = TEXT("50"),
                   .delivery_mode = 2,
                   .has_priority = true,
                   .priority = 9,
                   .headers = headers,
                   .headers_n = 3},
    .body = TEXT("b\xc3\xbc"),
};
static const struct hg_message_parts plain = {.body = TEXT("\xff")};

#define JSON "Accept: text/html, application/json; q=0.5\r\n"
#define ANY  "Accept: */*\r\n"

/* ---- Taking ---- */

static void the_query_says_how_many_and_for_how_long(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        uint32_t max;
        uint64_t wait_ms, lease_ms;
        enum hg_lease_end end;
        const char *queue;
    } table[] = {
        {"/v1/queues/q/lease", 1, 0, 30000, HG_LEASE_KEEP, "q"},
        {"/v1/queues/a%2Fb%20c/lease?max=9&wait=20s&lease=5m", 9, 20000, 300000, HG_LEASE_KEEP,
         "a/b c"},
        {"/v1/queues/q/lease?ack=auto&wait=0s&lease=1ms", 1, 0, 1, HG_LEASE_ACK, "q"},
        {"/v1/queues/q/lease?ack=manual&wait=1m&lease=25m", 1, 60000, 1500000, HG_LEASE_KEEP, "q"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        post(table[i].path, "", "");
        const struct hg_lease_spec *spec = &world.lease.spec;
        assert_true(world.lease.is_polling);
        assert_string_equal(world.lease.queue, table[i].queue);
        assert_int_equal(spec->max, table[i].max);
        assert_int_equal(spec->wait_ms, table[i].wait_ms);
        assert_int_equal(spec->lease_ms, table[i].lease_ms);
        assert_int_equal(spec->end, table[i].end);
        world_leased(&(struct hg_lease_result){.n = 0});
        assert_has(world_out(), "{\"messages\":[]}");
    }
}

static void what_cannot_be_asked_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *path, *body, *status, *detail;
    } table[] = {
        {"/v1/queues/q/lease?max=10", "", "400", "lease_max"},
        {"/v1/queues/q/lease?max=x", "", "400", "max"},
        {"/v1/queues/q/lease?wait=61s", "", "400", "lease_wait"},
        {"/v1/queues/q/lease?wait=1", "", "400", "wait"},
        {"/v1/queues/q/lease?lease=26m", "", "400", "lease_time"},
        {"/v1/queues/q/lease?lease=0s", "", "400", "lease"},
        {"/v1/queues/q/lease?lease=", "", "400", "lease"},
        {"/v1/queues/q/lease?ack=on", "", "400", "ack"},
        {"/v1/queues/q/lease?%zz", "", "400", "hex"},
        {"/v1/queues/%00/lease", "", "400", "%00"},
        {"/v1/queues//lease", "", "404", "nothing is served"},
        {"/v1/queues/q/lease/x", "", "404", "nothing is served"},
        {"/v1/queues/q/ack", "", "400", "JSON"},
        {"/v1/queues/q/ack", "{}", "400", "leases"},
        {"/v1/queues/q/ack", "{\"leases\":\"a\"}", "400", "array"},
        {"/v1/queues/q/ack", "{\"leases\":[\"a\",1]}", "400", "strings"},
        {"/v1/queues/q/ack", "{\"leases\":[\"a\"],\"more\":1}", "400", "leases"},
        {"/v1/queues/q/ack?lease=5s", "{\"leases\":[\"a\"]}", "400", "query"},
        {"/v1/queues/q/nack", "{\"leases\":[\"a\"],\"requeue\":0}", "400", "requeue"},
        {"/v1/queues/q/extend?lease=1h", "{\"leases\":[\"a\"]}", "400", "lease_time"},
        {"/v1/queues/q/extend", "{\"leases\":[\"a\"],\"requeue\":true}", "400", "leases"},
        {"/v1/queues/q/extend", "{\"leases\":[0,1,2,3,4,5,6,7,8,9]}", "400", "lease_max"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        post(table[i].path, "", table[i].body);
        const char *out = world_out();
        assert_has(out, table[i].status);
        assert_has(out, table[i].detail);
        assert_has(out, "application/problem+json");
        assert_false(world.lease.is_polling || world.lease.is_calling);
    }
    world.config.lease_max = 0;
    post("/v1/queues/q/lease", "", "");
    assert_has(world_out(), "404");
}

static void a_message_is_json_or_as_it_is(void **state)
{
    (void)state;
    static const char as_json[] =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n"
        "Content-Length: 256\r\n\r\n"
        "{\"messages\":[{\"lease\":\"L\",\"redelivered\":true,\"exchange\":\"ex\",\"key\":\"k\\\"\","
        "\"properties\":{\"content_type\":\"t/p\",\"message_id\":\"m\",\"expiration\":\"50\","
        "\"delivery_mode\":2,\"priority\":9},\"headers\":{\"n\":7,\"a b\":\"no field\","
        "\"tracestate\":\"x\\r\\nForged: 1\"},\"body\":\"b\xc3\xbc\"}]}\n";
    static const char as_it_is[] =
        "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nLease: L\r\nAmqp-Redelivered: true\r\n"
        "Amqp-Exchange: ex\r\nAmqp-Key: k\"\r\nContent-Type: t/p\r\nMessage-Id: m\r\n"
        "Amqp-Expiration: 50\r\nAmqp-Priority: 9\r\nAmqp-Persistent: true\r\nAmqp-Header-n: 7\r\n"
        "Content-Length: 3\r\n\r\nb\xc3\xbc";
    static const struct {
        const char *path, *fields, *answer;
    } table[] = {
        {"/v1/queues/q/lease", "", as_json},
        {"/v1/queues/q/lease", JSON, as_json},
        {"/v1/queues/q/lease", "Accept: application/*\r\n", as_json},
        {"/v1/queues/q/lease?max=2", ANY, as_json},
        {"/v1/queues/q/lease", ANY, as_it_is},
        {"/v1/queues/q/lease?max=1", "Accept: text/plain\r\n", as_it_is},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        post(table[i].path, table[i].fields, "");
        leased(&rich, "L");
        assert_string_equal(world_out(), table[i].answer);
    }
    post("/v1/queues/q/lease?ack=auto", "", "");
    leased(&plain, "");
    assert_has(world_out(), "{\"messages\":[{\"redelivered\":true,\"exchange\":\"\",\"key\":\"\","
                            "\"properties\":{},\"headers\":{},\"base64\":\"/w==\"}]}\n");
    post("/v1/queues/q/lease?ack=auto", ANY, "");
    leased(&plain, "");
    const char *out = world_out();
    assert_has(out, "Content-Type: application/octet-stream\r\n");
    assert_null(strstr(out, "Lease"));
    post("/v1/queues/q/lease", ANY, "");
    world_leased(&(struct hg_lease_result){.n = 0});
    assert_string_equal(world_out(), "HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n\r\n");
    assert_int_equal(hg_counted(&world.worker.metrics.proto[HG_PROTO_HTTP].messages_out), 8);
}

static void a_poll_that_fails_says_why(void **state)
{
    (void)state;
    static const struct {
        enum hg_status status;
        const char *line;
    } table[] = {
        {HG_NO_QUEUE, "HTTP/1.1 404 "},    {HG_UNFIT_QUEUE, "HTTP/1.1 409 "},
        {HG_NOT_ALLOWED, "HTTP/1.1 403 "}, {HG_BROKER_AWAY, "HTTP/1.1 503 "},
        {HG_TOO_MANY, "HTTP/1.1 429 "},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        post("/v1/queues/q/lease", "", "");
        world_leased(
            &(struct hg_lease_result){.status = table[i].status, .reason = HG_BYTES("it said so")});
        const char *out = world_out();
        assert_has(out, table[i].line);
        assert_has(out, "it said so");
        world.lease.status = table[i].status;
        post("/v1/queues/q/lease", "", "");
        out = world_out();
        assert_has(out, table[i].line);
        assert_has(out, "told to");
        world.lease.status = HG_OK;
    }
}

static void who_goes_takes_its_poll_along(void **state)
{
    (void)state;
    post("/v1/queues/q/lease?wait=20s", "", "");
    assert_true(world.lease.is_polling);
    world_hang_up();
    assert_false(world.lease.is_polling);
}

/* ---- Answering ---- */

static void each_lease_gets_its_answer(void **state)
{
    (void)state;
    static const struct {
        const char *path, *body;
        enum hg_lease_act act;
        uint64_t ms;
    } table[] = {
        {"/v1/queues/q/ack", "{\"leases\":[\"a\",\"b\",\"c\"]}", HG_LEASE_DO_ACK, 30000},
        {"/v1/queues/q/nack", "{\"leases\":[\"a\",\"b\",\"c\"]}", HG_LEASE_DO_REQUEUE, 30000},
        {"/v1/queues/q/nack", "{\"leases\":[\"a\",\"b\",\"c\"],\"requeue\":true}",
         HG_LEASE_DO_REQUEUE, 30000},
        {"/v1/queues/q/nack", "{\"requeue\":false,\"leases\":[\"a\",\"b\",\"c\"]}",
         HG_LEASE_DO_REJECT, 30000},
        {"/v1/queues/q/extend", "{\"leases\":[\"a\",\"b\",\"c\"]}", HG_LEASE_DO_EXTEND, 30000},
        {"/v1/queues/q/extend?lease=2m", "{\"leases\":[\"a\",\"b\",\"c\"]}", HG_LEASE_DO_EXTEND,
         120000},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        post(table[i].path, "", table[i].body);
        assert_string_equal(world.lease.queue, "q");
        assert_string_equal(world.lease.ids, "a b c ");
        assert_int_equal(world.lease.order.act, table[i].act);
        assert_int_equal(world.lease.order.lease_ms, table[i].ms);
        assert_string_equal(world_out(), "");
        world_answered("dgu");
        const char *out = world_out();
        assert_has(out, "HTTP/1.1 207 Multi-Status\r\n");
        assert_has(out, "{\"leases\":[{\"lease\":\"a\",\"status\":\"done\"},{\"lease\":\"b\","
                        "\"status\":\"gone\"},{\"lease\":\"c\",\"status\":\"unknown\"}]}\n");
    }
    world.lease.is_here = true;
    post("/v1/queues/q/ack", "", "{\"leases\":[\"x\\\"\"]}");
    const char *out = world_out();
    assert_has(out, "HTTP/1.1 200 OK\r\n");
    assert_has(out, "{\"leases\":[{\"lease\":\"x\\\"\",\"status\":\"done\"}]}\n");
}

static void who_goes_does_not_wait_for_answers(void **state)
{
    (void)state;
    post("/v1/queues/q/ack", "", "{\"leases\":[\"a\"]}");
    assert_true(world.lease.is_calling);
    world_hang_up();
    assert_false(world.lease.is_calling);
}

/* ---- The management API's get ---- */

#define GET "/api/queues/%2f/q/get"

static void the_management_apis_get_has_its_json(void **state)
{
    (void)state;
    static const struct {
        const char *body, *payload;
        uint32_t max;
        enum hg_lease_end end;
    } table[] = {
        {"{\"count\":2,\"ackmode\":\"ack_requeue_true\",\"encoding\":\"auto\"}",
         "\"payload\":\"b\xc3\xbc\",\"payload_encoding\":\"string\"}]", 2, HG_LEASE_REQUEUE},
        {"{\"count\":99,\"ackmode\":\"reject_requeue_true\",\"encoding\":\"auto\",\"truncate\":2}",
         "\"payload\":\"YsM=\",\"payload_encoding\":\"base64\"}]", 9, HG_LEASE_REQUEUE},
        {"{\"count\":1,\"ackmode\":\"ack_requeue_false\",\"encoding\":\"auto\",\"truncate\":1}",
         "\"payload\":\"b\",\"payload_encoding\":\"string\"}]", 1, HG_LEASE_ACK},
        {"{\"count\":1,\"ackmode\":\"reject_requeue_false\",\"encoding\":\"base64\",\"vhost\":\"/\"}",
         "\"payload\":\"YsO8\",\"payload_encoding\":\"base64\"}]", 1, HG_LEASE_REJECT},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        post(GET, "", table[i].body);
        assert_true(world.lease.is_polling && world.lease.spec.wants_left);
        assert_int_equal(world.lease.spec.wait_ms, 0);
        assert_int_equal(world.lease.spec.max, table[i].max);
        assert_int_equal(world.lease.spec.end, table[i].end);
        leased(&rich, "");
        const char *out = world_out();
        assert_has(out, "[{\"payload_bytes\":3,\"redelivered\":true,\"exchange\":\"ex\","
                        "\"routing_key\":\"k\\\"\",\"message_count\":4,\"properties\":{"
                        "\"content_type\":\"t/p\",\"message_id\":\"m\",\"expiration\":\"50\","
                        "\"delivery_mode\":2,\"priority\":9,\"headers\":{\"n\":7,");
        assert_has(out, table[i].payload);
    }
    post(GET, "", table[0].body);
    leased(&plain, "");
    assert_has(world_out(), "\"properties\":[],\"payload\":\"/w==\"");
}

static void a_get_without_what_it_needs_is_refused(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "",
        "[]",
        "{}",
        "{\"count\":1}",
        "{\"count\":0,\"ackmode\":\"ack_requeue_true\",\"encoding\":\"auto\"}",
        "{\"count\":1,\"ackmode\":\"get\",\"encoding\":\"auto\"}",
        "{\"count\":1,\"ackmode\":\"ack_requeue_true\",\"encoding\":\"text\"}",
        "{\"count\":1,\"ackmode\":\"ack_requeue_true\",\"encoding\":\"auto\",\"truncate\":\"1\"}"};
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        post(GET, "", bodies[i]);
        assert_has(world_out(), "HTTP/1.1 400 ");
    }
    post("/api/queues/other/q/get", "", "{}");
    assert_has(world_out(), "HTTP/1.1 404 ");
    world.config.http_management_paths = false;
    post(GET, "", "{}");
    assert_has(world_out(), "nothing is served");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_web, close_web)
    const struct CMUnitTest tests[] = {
        TEST(the_query_says_how_many_and_for_how_long),
        TEST(what_cannot_be_asked_is_refused),
        TEST(a_message_is_json_or_as_it_is),
        TEST(a_poll_that_fails_says_why),
        TEST(who_goes_takes_its_poll_along),
        TEST(each_lease_gets_its_answer),
        TEST(who_goes_does_not_wait_for_answers),
        TEST(the_management_apis_get_has_its_json),
        TEST(a_get_without_what_it_needs_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
