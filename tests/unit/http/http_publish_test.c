/* SPDX-License-Identifier: Apache-2.0 */
/* Ways to publish beside one message a request, on one connection: batches, repeats, the
 * management API's call; and the document that describes all ways. */
#include "adapters/http/web.h"
#include "core/idempotency.h"
#include "seam/seam.h"
#include "seam/unit.h"
#include "world.h"

#include <jansson.h>
#include <stdio.h>

#define H      "Host: a\r\n"
#define NDJSON "Content-Type: application/x-ndjson\r\n"

static int open_web(void **state)
{
    (void)state;
    seam_fail_alloc(0);
    world_open(&hg_http_adapter);
    world.config.http_max_body_bytes = 100000;
    world.vhost.idempotency = hg_idempotency_new(
        &(struct hg_idempotency_limits){.max_n = 3, .max_bytes = 1000, .window_ms = 60000});
    return 0;
}

static int close_web(void **state)
{
    (void)state;
    seam_fail_alloc(0);
    world_hang_up();
    while (!hg_list_is_empty(&world.worker.leavers)) {
        struct hg_leaver *l = HG_LIST_ENTRY(world.worker.leavers.next, struct hg_leaver, link);
        l->abandon(l);
    }
    hg_idempotency_free(world.vhost.idempotency);
    world_close();
    return 0;
}

static void post(const char *path, const char *fields, const char *body)
{
    char request[3000];
    int n = snprintf(request, sizeof(request),
                     "POST %s HTTP/1.1\r\n" H "%sContent-Length: %zu\r\n\r\n%s", path, fields,
                     strlen(body), body);
    assert_true(n > 0 && (size_t)n < sizeof(request));
    world_send(request);
}

/* ---- Values of the request in the key ---- */

static void what_the_rule_names_is_taken_from_query_and_headers(void **state)
{
    (void)state;
    static const struct {
        const char *path, *fields, *key; /* key NULL: 400, for `why` */
        const char *why;
    } table[] = {
        {"/sold/1?region=eu", "X-Shop: 7\r\n", ".eu.7", NULL},
        {"/sold/1?a=b&region=%C3%A9+%2F", "x-shop: a b\r\n", ".\xc3\xa9 /.a b", NULL},
        {"/v1/topics/sold/1?region=eu&mandatory=true", "X-Shop: 7\r\n", ".eu.7", NULL},
        {"/v1/topics/sold/1?region=eu&colour=red", "X-Shop: 7\r\n", NULL, "query parameters here"},
        {"/v1/topics/x/1?region=eu", "X-Shop: 7\r\n", NULL, "query parameters here"},
        {"/sold/1", "X-Shop: 7\r\n", NULL, "needs the query parameter region, which is missing"},
        {"/sold/1?region=", "X-Shop: 7\r\n", NULL, "parameter region, which is missing"},
        {"/sold/1?region=a&region=a", "X-Shop: 7\r\n", NULL, "region, which is given twice"},
        {"/sold/1?region=%0A", "X-Shop: 7\r\n", NULL, "region, which must be UTF-8"},
        {"/sold/1?region=%FF", "X-Shop: 7\r\n", NULL, "region, which must be UTF-8"},
        {"/sold/1?region=eu", "", NULL, "needs the header X-Shop, which is missing"},
        {"/sold/1?region=eu", "X-Shop: 1\r\nx-shop: 2\r\n", NULL, "X-Shop, which is given twice"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        size_t before = world.publishes_n;
        char key[64];
        post(table[i].path, table[i].fields, "body");
        assert_int_equal(world.publishes_n, before + (table[i].key != NULL));
        if (table[i].key == NULL) {
            const char *out = world_out();
            assert_has(out, "HTTP/1.1 400 ");
            assert_has(out, table[i].why);
            continue;
        }
        snprintf(key, sizeof(key), "\"key\":\"%s\"", table[i].key);
        world_settle(before, HG_OK, "");
        assert_has(world_out(), key);
    }
}

/* ---- Batches ---- */

static void a_batch_is_answered_by_a_line_each_once_all_have_an_outcome(void **state)
{
    (void)state;
    post("/v1/topics", NDJSON,
         "{\"address\":\"a/b\",\"body\":\"one\",\"properties\":{\"message_id\":\"m1\"}}\n"
         "\r\n"
         "{\"address\":\"c\",\"base64\":\"dHdv\",\"mandatory\":true,\"retain\":true,"
         "\"properties\":{\"message_id\":\"m2\",\"delivery_mode\":1,\"content_type\":\"t/p\","
         "\"expiration\":5000},\"headers\":{\"n\":1,\"o\":{\"x\":[1]}}}");
    assert_int_equal(world.publishes_n, 2);
    const struct world_publish *p = world.publishes;
    assert_string_equal(p[0].address, "a/b");
    assert_string_equal(p[0].body, "one");
    assert_int_equal(p[0].delivery_mode, 2);
    assert_false(p[0].is_mandatory);
    assert_string_equal(p[1].body, "two");
    assert_int_equal(p[1].delivery_mode, 1);
    assert_true(p[1].is_mandatory && p[1].is_retained);
    assert_string_equal(p[1].content_type, "t/p");
    assert_string_equal(p[1].expiration, "5000");
    assert_int_equal(p[1].headers_n, 2);
    assert_int_equal(p[1].header_kind, HG_VALUE_INT);
    world_settle(1, HG_OK, "");
    assert_string_equal(world_out(), "");
    world_settle(0, HG_OK, "");
    assert_string_equal(
        world_out(),
        "HTTP/1.1 202 Accepted\r\nContent-Type: application/x-ndjson\r\nContent-Length: 118\r\n\r\n"
        "{\"status\":202,\"id\":\"m1\",\"exchange\":\"amq.topic\",\"key\":\"a/b\"}\n"
        "{\"status\":202,\"id\":\"m2\",\"exchange\":\"amq.topic\",\"key\":\"c\"}\n");
}

static void one_bad_line_leaves_the_others_alone(void **state)
{
    (void)state;
    post("/v1/topics?mandatory=true", NDJSON,
         "{\"address\":\"a\"}\n{\"address\":\"b\"\n{\"address\":\"c\",\"mandatory\":false}\n");
    assert_int_equal(world.publishes_n, 2);
    assert_true(world.publishes[0].is_mandatory);
    assert_false(world.publishes[1].is_mandatory);
    world_settle(0, HG_UNROUTABLE, "NO_ROUTE");
    world_settle(1, HG_OK, "");
    const char *out = world_out();
    assert_has(out, "HTTP/1.1 207 Multi-Status\r\n");
    const char *first =
        strstr(out, "{\"status\":404,\"title\":\"Not Found\",\"detail\":\"no queue takes "
                    "this message: NO_ROUTE\",\"code\":\"UNROUTABLE\"}\n");
    const char *second = strstr(out, "{\"status\":400,\"title\":\"Bad Request\",");
    const char *third = strstr(out, "{\"status\":202,");
    assert_true(first != NULL && first < second && second < third);
    assert_false(world.conn.is_ended);
}

static void a_line_that_says_nonsense_is_told_so(void **state)
{
    (void)state;
    static const char *const table[][2] = {
        {"x", "it is not JSON"},
        {"[]", "it is not a JSON object"},
        {"{}", "address must be there"},
        {"{\"address\":1}", "address must be there"},
        {"{\"address\":\"a\",\"address\":\"b\"}", "a name comes twice"},
        {"{\"address\":\"a\",\"bdy\":\"\"}", "\\\"bdy\\\" is not known"},
        {"{\"address\":\"a\",\"body\":{}}", "must be strings"},
        {"{\"address\":\"a\",\"body\":\"\",\"base64\":\"\"}", "exclude each other"},
        {"{\"address\":\"a\",\"base64\":\"?\"}", "base64 must be base64"},
        {"{\"address\":\"a\",\"retain\":1}", "must be true or false"},
        {"{\"address\":\"a\",\"properties\":[]}", "properties must be an object"},
        {"{\"address\":\"a\",\"properties\":{\"colour\":1}}", "colour is not a property"},
        {"{\"address\":\"a\",\"properties\":{\"priority\":256}}", "priority must be a number"},
        {"{\"address\":\"a\",\"properties\":{\"expiration\":\"1s\"}}", "expiration must be"},
        {"{\"address\":\"a\",\"properties\":{\"timestamp\":-1}}", "timestamp must be"},
        {"{\"address\":\"a\",\"properties\":{\"type\":1}}", "type must be a string"},
        {"{\"address\":\"a\",\"properties\":{\"delivery_mode\":3}}", "delivery_mode must be 1"},
        {"{\"address\":\"a\",\"headers\":{\"\":1}}", "names of 1 to 255"},
        {"{\"address\":\"a\",\"properties\":{\"headers\":{}},\"headers\":{}}", "come once"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        post("/v1/topics", NDJSON, table[i][0]);
        const char *out = world_out();
        assert_has(out, "HTTP/1.1 207 ");
        assert_has(out, "{\"status\":400,");
        assert_has(out, table[i][1]);
    }
    assert_int_equal(world.publishes_n, 0);
}

static void a_batch_that_is_none_is_refused_whole(void **state)
{
    (void)state;
    static const char *const table[][4] = {
        /* path, fields, body, answer */
        {"/v1/topics", "Content-Type: application/json\r\n", "{}", "HTTP/1.1 415 "},
        {"/v1/topics", "", "{}", "HTTP/1.1 415 "},
        {"/v1/topics", NDJSON, "", "HTTP/1.1 400 "},
        {"/v1/topics", NDJSON, " \r\n\n", "HTTP/1.1 400 "},
        {"/v1/topics?x=1", NDJSON, "{}", "HTTP/1.1 400 "},
        {"/v1/topics", NDJSON "Amqp-Priority: 1\r\n", "{}", "Amqp-Priority belongs to one message"},
        {"/v1/topics", NDJSON "Content-Encoding: gzip\r\n", "{}",
         "\r\nAccept-Encoding: identity\r\n"},
        {"/v1/topics", "", "{}", "\r\nAccept: application/x-ndjson\r\n"},
        {"/v1/topics", NDJSON "ce-id: 1\r\n", "{}", "ce-id belongs"},
        {"/v1/topics/a", "Content-Type: application/cloudevents-batch+json\r\n", "[]",
         "HTTP/1.1 415 "},
        {"/api/exchanges/%2F/a/publish", "Content-Encoding: br\r\n", "{}",
         "\r\nAccept-Encoding: identity\r\n"},
        {"/v1/topics", NDJSON, "{}\n{}\n{}\n{}\n{}", "HTTP/1.1 413 "},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        post(table[i][0], table[i][1], table[i][2]);
        assert_has(world_out(), table[i][3]);
    }
    world_send("GET /v1/topics HTTP/1.1\r\n" H "\r\n");
    assert_has(world_out(), "Allow: POST, OPTIONS\r\n");
    post("/v1/topics", "Content-Type: Application/X-NDJSON ; charset=utf-8\r\n", "{}");
    assert_has(world_out(), "HTTP/1.1 207 ");
    assert_int_equal(world.publishes_n, 0);
}

static void a_batch_waits_for_room_and_then_gives_up(void **state)
{
    (void)state;
    world.publish_status = HG_HELD;
    post("/v1/topics", NDJSON, "{\"address\":\"a\"}\n{\"address\":\"b\"}\n");
    world_wait(1000);
    assert_int_equal(world.publishes_n, 0);
    world.publish_status = HG_OK;
    world_wait(100);
    assert_int_equal(world.publishes_n, 2);
    world_settle(0, HG_OK, "");
    world_settle(1, HG_OK, "");
    assert_has(world_out(), "HTTP/1.1 202 ");
    world.publish_status = HG_HELD;
    post("/v1/topics", NDJSON, "{\"address\":\"a\"}\nnonsense\n");
    world_wait(world.config.http_publish_timeout_ms + 1000);
    const char *out = world_out();
    assert_int_equal(world_count(out, "{\"status\":503,"), 2);
    assert_false(world.conn.is_ended);
}

static void a_batch_that_is_too_fast_waits_too(void **state)
{
    (void)state;
    world.publish_status = HG_TOO_FAST;
    post("/v1/topics", NDJSON, "{\"address\":\"a\"}\n");
    world_wait(1000);
    world.publish_status = HG_OK;
    world_wait(100);
    world_settle(world.publishes_n - 1, HG_OK, "");
    assert_has(world_out(), "HTTP/1.1 202 ");
    world.publish_status = HG_TOO_FAST;
    post("/v1/topics", NDJSON, "{\"address\":\"a\"}\n{\"address\":\"b\"}\n");
    world_wait(world.config.http_publish_timeout_ms + 1000);
    assert_int_equal(world_count(world_out(), "{\"status\":429,"), 2);
}

static void a_batch_is_answered_in_its_order_whatever_is_confirmed_first(void **state)
{
    (void)state;
    static char body[60 * 400 + 1];
    static char request[sizeof(body) + 200];
    world.config.http_max_batch = 1000;
    size_t n = 0;
    for (int i = 0; i < 60; i++) {
        n += (size_t)snprintf(body + n, sizeof(body) - n, "{\"address\":\"%d\"}\n", i);
    }
    snprintf(request, sizeof(request),
             "POST /v1/topics HTTP/1.1\r\n" H NDJSON "Content-Length: %zu\r\n\r\n%s", n, body);
    world_send(request);
    assert_int_equal(world.publishes_n, 60);
    for (size_t i = 60; i > 0; i--) {
        world_settle(i - 1, HG_OK, "");
    }
    const char *out = world_out();
    assert_int_equal(world_count(out, "{\"status\":202,"), 60);
    assert_true(strstr(out, "\"key\":\"7\"") < strstr(out, "\"key\":\"8\""));
}

static void a_client_that_goes_takes_its_batch_along(void **state)
{
    (void)state;
    post("/v1/topics", NDJSON, "{\"address\":\"a\"}\n{\"address\":\"b\"}\n");
    world_hang_up();
}

static void no_allocation_of_a_batch_is_missed_when_it_fails(void **state)
{
    (void)state;
    for (size_t nth = 1; nth < 60; nth++) {
        close_web(state);
        open_web(state);
        seam_fail_alloc(nth);
        post("/v1/topics", NDJSON "Idempotency-Key: k\r\n",
             "{\"address\":\"a\",\"base64\":\"dHdv\",\"headers\":{\"o\":{\"x\":[1]}}}\nx\n");
        world_settle(0, HG_OK, "");
        seam_fail_alloc(0);
        world.conn.in.failed = world.conn.out.failed = false;
    }
}

/* ---- Repeats ---- */

static void reconnect(void)
{
    hg_writer_close(&world.conn.in);
    hg_writer_close(&world.conn.out);
    world.conn = (struct hg_conn){.session = NULL};
    world.conn.session =
        hg_http_adapter.open(&world.worker, &world.conn, &world.conn.listener, NULL);
}

static void a_repeat_is_answered_as_the_first_was(void **state)
{
    (void)state;
    post("/v1/topics/a", "Idempotency-Key: k\r\n", "x");
    post("/v1/topics/a", "Idempotency-Key: \"k\"\r\n", "x");
    world_settle(0, HG_OK, "");
    const char *out = world_out();
    assert_has(out, "HTTP/1.1 202 ");
    assert_has(
        out,
        "HTTP/1.1 409 Conflict\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n");
    post("/v1/topics/a", "Idempotency-Key: k\r\n", "x");
    assert_string_equal(world_out(), "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\n"
                                     "Idempotency-Replayed: true\r\nContent-Length: 44\r\n\r\n"
                                     "{\"id\":\"k\",\"exchange\":\"amq.topic\",\"key\":\"a\"}\n");
    assert_int_equal(world.publishes_n, 1);
}

static void a_key_belongs_to_one_request(void **state)
{
    (void)state;
    post("/v1/topics/a", "Idempotency-Key: k\r\n", "x");
    world_settle(0, HG_OK, "");
    world_out();
    static const char *const others[][2] = {
        {"/v1/topics/b", "x"}, {"/v1/topics/a", "y"}, {"/v1/topics/a?retain=true", "x"}};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        post(others[i][0], "Idempotency-Key: k\r\n", others[i][1]);
        assert_has(world_out(), "HTTP/1.1 422 Unprocessable Content\r\n");
    }
    post("/v1/topics/a", "Idempotency-Key: \r\n", "x");
    assert_has(world_out(), "must have 1 to 255 bytes");
    assert_int_equal(world.publishes_n, 1);
}

static void what_may_end_otherwise_next_time_is_tried_again(void **state)
{
    (void)state;
    static const struct {
        enum hg_status outcome;
        bool is_kept;
    } table[] = {
        {HG_UNROUTABLE, true}, {HG_REFUSED, true}, {HG_REJECTED, false}, {HG_TIMED_OUT, false}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char key[40];
        snprintf(key, sizeof(key), "Idempotency-Key: k%zu\r\n", i);
        size_t before = world.publishes_n;
        post("/v1/topics/a", key, "x");
        world_settle(before, table[i].outcome, "");
        world_out();
        post("/v1/topics/a", key, "x");
        assert_int_equal(world.publishes_n, before + (table[i].is_kept ? 1 : 2));
        world_settle(before + 1, HG_OK, "");
        assert_has(world_out(), table[i].is_kept ? "Idempotency-Replayed: true" : "HTTP/1.1 202 ");
    }
}

/* ---- Among all instances ---- */

static void share(enum hg_once_state state)
{
    world.config.http_idempotency_shared = true;
    world.once.state = state;
}

static void a_shared_key_is_claimed_before_anything_is_published(void **state)
{
    (void)state;
    share(HG_ONCE_WAITING);
    post("/v1/topics/a", "Idempotency-Key: k\r\n", "x");
    post("/v1/topics/b", "", "y"); /* waits its turn */
    assert_int_equal(world.publishes_n, 0);
    assert_string_equal(world.once.key, "k");
    world_once(HG_ONCE_OURS);
    assert_int_equal(world.publishes_n, 2);
    assert_string_equal(world.publishes[0].address, "a");
    world_settle(0, HG_OK, "");
    assert_has(world_out(), "HTTP/1.1 202 ");
    assert_string_equal(
        world.once.end,
        "202 application/json {\"id\":\"k\",\"exchange\":\"amq.topic\",\"key\":\"a\"}\n");
    world_settle(1, HG_OK, "");
    world_out();
    post("/v1/topics/a", "Idempotency-Key: k\r\n", "x"); /* this instance knows it by now */
    assert_has(world_out(), "Idempotency-Replayed: true");
    assert_null(world.once.ask.ctx);
    share(HG_ONCE_WAITING);
    post("/v1/topics", NDJSON "Idempotency-Key: b\r\n", "{\"address\":\"a\"}\n");
    assert_int_equal(world.publishes_n, 2);
    world_once(HG_ONCE_OURS);
    assert_int_equal(world.publishes_n, 3);
}

static void what_another_instance_has_is_answered_without_a_publish(void **state)
{
    (void)state;
    static const struct {
        enum hg_once_state state;
        const char *answer;
    } table[] = {
        {HG_ONCE_ANSWERED, "HTTP/1.1 207 Multi-Status\r\nContent-Type: text/plain\r\n"
                           "Idempotency-Replayed: true\r\nContent-Length: 9\r\n\r\nelsewhere"},
        {HG_ONCE_UNDER_WAY, "HTTP/1.1 409 "},
        {HG_ONCE_DIFFERS, "HTTP/1.1 422 "},
        {HG_ONCE_FULL, "HTTP/1.1 503 "},
        {HG_ONCE_AWAY, "the state log, which cannot be had; nothing was published"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        share(table[i].state); /* known at once */
        post("/v1/topics/a", "Idempotency-Key: k\r\n", "x");
        assert_has(world_out(), table[i].answer);
        share(HG_ONCE_WAITING); /* and known once the claim is back */
        post("/v1/topics/a", "Idempotency-Key: k\r\n", "x");
        assert_string_equal(world_out(), "");
        world_once(table[i].state);
        assert_has(world_out(), table[i].answer);
        assert_string_equal(world.once.end, "0 - -");
    }
    assert_int_equal(world.publishes_n, 0);
}

static void a_claim_is_given_back_where_the_request_comes_to_nothing(void **state)
{
    (void)state;
    share(HG_ONCE_WAITING);
    post("/v1/topics/a", "Idempotency-Key: k\r\n", "x");
    world_once(HG_ONCE_OURS);
    world_settle(0, HG_REJECTED, "");
    assert_has(world_out(), "HTTP/1.1 429 ");
    assert_has(world.once.end, " -");
    world.once.end[0] = '\0';
    share(HG_ONCE_WAITING);
    post("/v1/topics/a", "Idempotency-Key: k\r\n", "x"); /* the log does not answer */
    world.config.http_publish_timeout_ms = 5000;
    world_wait(60000);
    assert_has(world_out(), "HTTP/1.1 503 ");
    assert_has(world.once.end, " -");
    assert_null(world.once.ask.ctx);
    assert_int_equal(world.publishes_n, 1);
}

static void who_goes_before_the_claim_is_back_gives_it_back(void **state)
{
    (void)state;
    share(HG_ONCE_WAITING);
    post("/v1/topics/a", "Idempotency-Key: k\r\n", "x");
    world_hang_up();
    assert_string_equal(world.once.end, "0 - -");
    assert_int_equal(world.publishes_n, 0);
}

static void who_lost_the_connection_gets_the_answer_on_the_next(void **state)
{
    (void)state;
    post("/v1/topics/a", "Idempotency-Key: k\r\n", "x");
    post("/v1/topics", NDJSON "Idempotency-Key: b\r\n", "{\"address\":\"a\"}\n{}\n");
    world_hang_up();
    assert_false(hg_list_is_empty(&world.worker.leavers)); /* draining waits for it */
    reconnect();
    post("/v1/topics/a", "Idempotency-Key: k\r\n", "x");
    assert_has(world_out(), "HTTP/1.1 409 ");
    world_settle(0, HG_OK, "");
    world_settle(1, HG_OK, "");
    assert_true(hg_list_is_empty(&world.worker.leavers));
    post("/v1/topics/a", "Idempotency-Key: k\r\n", "x");
    assert_has(world_out(), "HTTP/1.1 202 ");
    post("/v1/topics", NDJSON "Idempotency-Key: b\r\n", "{\"address\":\"a\"}\n{}\n");
    assert_has(world_out(), "HTTP/1.1 207 ");
    assert_int_equal(world.publishes_n, 2);
}

static void a_key_is_free_when_its_request_did_not_get_through(void **state)
{
    (void)state;
    world.publish_status = HG_HELD;
    post("/v1/topics/a", "Idempotency-Key: k\r\n", "x");
    world_hang_up();
    assert_true(hg_list_is_empty(&world.worker.leavers));
    world.publish_status = HG_OK;
    reconnect();
    post("/v1/topics/a", "Idempotency-Key: k\r\n", "x");
    world_settle(0, HG_OK, "");
    assert_has(world_out(), "HTTP/1.1 202 ");
    world.publish_status = HG_HELD;
    post("/v1/topics/a", "Idempotency-Key: k2\r\n", "x");
    world.publish_status = HG_OK;
    world_release(HG_HOLD_UPSTREAM);
    world_settle(1, HG_OK, "");
    assert_has(world_out(), "HTTP/1.1 202 ");
}

static void keys_are_forgotten_by_time_and_number(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        char key[40];
        snprintf(key, sizeof(key), "Idempotency-Key: k%zu\r\n", i);
        post("/v1/topics/a", key, "x");
        world_settle(i, HG_OK, "");
    }
    world_out();
    post("/v1/topics/a", "Idempotency-Key: k3\r\n", "x");
    assert_has(world_out(), "Idempotency-Replayed");
    post("/v1/topics/a", "Idempotency-Key: k0\r\n", "x"); /* the oldest of four */
    assert_int_equal(world.publishes_n, 5);
    world_settle(4, HG_OK, "");
    seam_now_ms += 60000;
    world_out();
    post("/v1/topics/a", "Idempotency-Key: k3\r\n", "x");
    assert_int_equal(world.publishes_n, 6);
}

/* ---- The management API's call ---- */

#define MANAGE "/api/exchanges/%2F/a%2fb/publish"

static void the_management_call_tells_whether_a_queue_took_it(void **state)
{
    (void)state;
    post(
        MANAGE, "",
        "{\"properties\":{\"content_type\":\"t/p\",\"headers\":{\"n\":true}},\"routing_key\":\"k\","
        "\"payload\":\"x\",\"payload_encoding\":\"string\",\"vhost\":\"/\"}");
    post(
        "/api/exchanges/%2F/amq.default/publish", "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n",
        "{\"properties\":{},\"routing_key\":\"q\",\"payload\":\"dHdv\",\"payload_encoding\":\"base64\"}");
    assert_int_equal(world.publishes_n, 2);
    const struct world_publish *p = world.publishes;
    assert_string_equal(p[0].exchange, "a/b");
    assert_string_equal(p[0].address, "k");
    assert_string_equal(p[0].content_type, "t/p");
    assert_int_equal(p[0].header_kind, HG_VALUE_BOOL);
    assert_int_equal(p[0].delivery_mode, 0); /* as the script said, or did not say */
    assert_true(p[0].is_mandatory && p[1].is_mandatory);
    assert_string_equal(p[1].exchange, "");
    assert_string_equal(p[1].body, "two");
    world_settle(0, HG_OK, "");
    world_settle(1, HG_UNROUTABLE, "NO_ROUTE");
    assert_string_equal(world_out(), "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                     "Content-Length: 15\r\n\r\n{\"routed\":true}"
                                     "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                     "Content-Length: 16\r\n\r\n{\"routed\":false}");
}

static void a_management_call_that_is_wrong_is_refused(void **state)
{
    (void)state;
#define FINE \
    "{\"properties\":{},\"routing_key\":\"k\",\"payload\":\"x\",\"payload_encoding\":\"string\"}"
    static const char *const table[][3] = {
        {"/api/exchanges/other/x/publish", FINE, "HTTP/1.1 404 "},
        {"/api/exchanges/%2F/publish", FINE, "HTTP/1.1 404 "},
        {"/api/exchanges/%2F//publish", FINE, "HTTP/1.1 404 "},
        {"/api/exchanges/%2F/x/publish/y", FINE, "HTTP/1.1 404 "},
        {"/api/exchanges/%zz/x/publish", FINE, "two hex digits"},
        {MANAGE, "{", "it is not JSON"},
        {MANAGE, "{\"routing_key\":\"k\",\"payload\":\"x\",\"payload_encoding\":\"string\"}",
         "properties must be there"},
        {MANAGE, "{\"properties\":{},\"payload\":\"x\",\"payload_encoding\":\"string\"}",
         "routing_key and payload"},
        {MANAGE, "{\"properties\":{},\"routing_key\":\"k\",\"payload\":\"x\"}",
         "payload_encoding must be"},
        {MANAGE,
         "{\"properties\":{},\"routing_key\":\"k\",\"payload\":\"x\",\"payload_encoding\":\"base64\"}",
         "payload must be base64"},
        {MANAGE,
         "{\"properties\":1,\"routing_key\":\"k\",\"payload\":\"x\",\"payload_encoding\":\"string\"}",
         "properties must be an object"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        post(table[i][0], "", table[i][1]);
        assert_has(world_out(), table[i][2]);
    }
    world.config.http_management_paths = false;
    post(MANAGE, "", FINE);
    assert_has(world_out(), "HTTP/1.1 404 ");
    world.config.http_management_paths = true;
    assert_int_equal(world.publishes_n, 0);
    post(MANAGE, "", FINE);
    world_settle(0, HG_NO_EXCHANGE, "no exchange 'a/b'");
    assert_has(world_out(), "HTTP/1.1 404 ");
    world.publish_status = HG_HELD;
    post(MANAGE, "Idempotency-Key: k\r\n", FINE);
    world.publish_status = HG_OK;
    world_release(HG_HOLD_UPSTREAM);
    world_settle(1, HG_OK, "");
    assert_has(world_out(), "{\"routed\":true}");
}

/* ---- The description ---- */

static void the_description_is_json_that_lists_every_route(void **state)
{
    (void)state;
    static const char *const names[] = {"get", "head", "post", "put", "delete", "patch"};
    world.conn.pending = 0;
    world_send("GET /v1/openapi.json HTTP/1.1\r\n" H "\r\n");
    const char *out = world_out();
    assert_has(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n");
    json_error_t err;
    json_t *doc = json_loads(strstr(out, "\r\n\r\n") + 4, JSON_REJECT_DUPLICATES, &err);
    if (doc == NULL) {
        fail_msg("%s at %d", err.text, err.position);
    }
    json_t *paths = json_object_get(doc, "paths");
    for (size_t i = 0; i < hg_http_site.routes_n; i++) {
        const struct hg_http_route *r = &hg_http_site.routes[i];
        const char *path;
        json_t *item;
        unsigned listed = 0;
        json_object_foreach(paths, path, item)
        {
            struct hg_bytes prefix = hg_bytes_str(r->path);
            bool is_it = r->is_prefix
                             ? hg_bytes_starts(hg_bytes_str(path), prefix) && path[prefix.n] == '{'
                             : strcmp(path, r->path) == 0;
            for (unsigned m = 0; is_it && m < sizeof(names) / sizeof(names[0]); m++) {
                listed |= json_is_object(json_object_get(item, names[m])) ? 1u << m : 0;
            }
        }
        if ((r->methods & ~listed) != 0) {
            fail_msg("%s: methods %x of %x are listed", r->path, listed, r->methods);
        }
    }
    json_decref(doc);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_web, close_web)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_the_rule_names_is_taken_from_query_and_headers),
        TEST(a_batch_is_answered_by_a_line_each_once_all_have_an_outcome),
        TEST(one_bad_line_leaves_the_others_alone),
        TEST(a_line_that_says_nonsense_is_told_so),
        TEST(a_batch_that_is_none_is_refused_whole),
        TEST(a_batch_waits_for_room_and_then_gives_up),
        TEST(a_batch_that_is_too_fast_waits_too),
        TEST(a_batch_is_answered_in_its_order_whatever_is_confirmed_first),
        TEST(a_client_that_goes_takes_its_batch_along),
        TEST(a_repeat_is_answered_as_the_first_was),
        TEST(a_key_belongs_to_one_request),
        TEST(what_may_end_otherwise_next_time_is_tried_again),
        TEST(a_shared_key_is_claimed_before_anything_is_published),
        TEST(what_another_instance_has_is_answered_without_a_publish),
        TEST(a_claim_is_given_back_where_the_request_comes_to_nothing),
        TEST(who_goes_before_the_claim_is_back_gives_it_back),
        TEST(who_lost_the_connection_gets_the_answer_on_the_next),
        TEST(a_key_is_free_when_its_request_did_not_get_through),
        TEST(keys_are_forgotten_by_time_and_number),
        TEST(the_management_call_tells_whether_a_queue_took_it),
        TEST(a_management_call_that_is_wrong_is_refused),
        TEST(the_description_is_json_that_lists_every_route),
        TEST(no_allocation_of_a_batch_is_missed_when_it_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
