/* SPDX-License-Identifier: Apache-2.0 */
/* Calls by HTTP: which requests begin one, and what its outcome is answered with. */
#include "adapters/http/web.h"
#include "seam/seam.h"
#include "seam/unit.h"
#include "world.h"

#include <stdio.h>

static int open_web(void **state)
{
    (void)state;
    seam_fail_alloc(0);
    world_open(&hg_http_adapter);
    world.config.http_max_body_bytes = 1000;
    world.config.http_rpc_timeout_ms = 10000;
    world.config.http_rpc_max_timeout_ms = 60000;
    world.config.http_rpc_max_reply_bytes = 10;
    return 0;
}

static int close_web(void **state)
{
    (void)state;
    seam_fail_alloc(0);
    world_hang_up();
    world_close();
    return 0;
}

static void post(const char *path, const char *fields)
{
    char request[1000];
    int n = snprintf(request, sizeof(request),
                     "POST %s HTTP/1.1\r\nHost: a\r\n%sContent-Length: 3\r\n\r\nask", path, fields);
    assert_true(n > 0 && (size_t)n < sizeof(request));
    world_send(request);
}

static void a_reply_is_the_answer(void **state)
{
    (void)state;
    post("/v1/rpc/orders/17?timeout=2s", "Correlation-Id: c\r\n");
    post("/v1/rpc/a", "Amqp-Expiration: 5\r\nAmqp-Persistent: true\r\n");
    assert_int_equal(world.calls_n, 2);
    const struct world_call *c = world.calls;
    assert_string_equal(c[0].address, "orders/17");
    assert_string_equal(c[0].body, "ask");
    assert_string_equal(c[0].correlation_id, "c");
    assert_int_equal(c[0].timeout_ms, 2000);
    assert_string_equal(c[0].expiration, "2000");
    assert_int_equal(c[0].delivery_mode, 1);
    assert_int_equal(c[1].timeout_ms, 10000);
    assert_string_equal(c[1].expiration, "5");
    assert_int_equal(c[1].delivery_mode, 2);
    world_reply(1, HG_OK, &(struct hg_message_parts){.body = HG_BYTES("1234567890")});
    assert_string_equal(world_out(), ""); /* in the order of the requests */
    world_reply(0, HG_OK,
                &(struct hg_message_parts){.properties = {.content_type = HG_BYTES("a/b"),
                                                          .correlation_id = HG_BYTES("ours")},
                                           .body = HG_BYTES("told")});
    assert_string_equal(
        world_out(),
        "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nCorrelation-Id: c\r\n"
        "Content-Length: 4\r\n\r\ntold"
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 10\r\n\r\n1234567890");
}

static void every_other_outcome_has_its_status(void **state)
{
    (void)state;
    static const struct {
        enum hg_status outcome;
        const char *status, *code;
        bool is_worth_a_retry;
    } table[] = {
        {HG_NO_REPLY, "504 Gateway Timeout", "NO_REPLY", false},
        {HG_UNROUTABLE, "404 ", "UNROUTABLE", false},
        {HG_NO_EXCHANGE, "404 ", "NO_EXCHANGE", false},
        {HG_NOT_ALLOWED, "403 ", "NOT_ALLOWED", false},
        {HG_REJECTED, "429 ", "REJECTED", true},
        {HG_TIMED_OUT, "503 ", "TIMED_OUT", true},
        {HG_BROKER_AWAY, "503 ", "BROKER_AWAY", true},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        post("/v1/rpc/a", "");
        world_reply(i, table[i].outcome, NULL);
        const char *out = world_out();
        assert_has(out, table[i].status);
        assert_has(out, table[i].code);
        assert_int_equal(strstr(out, "Retry-After") != NULL, table[i].is_worth_a_retry);
    }
    post("/v1/rpc/a", "");
    world_reply(world.calls_n - 1, HG_OK,
                &(struct hg_message_parts){.body = HG_BYTES("12345678901")});
    const char *out = world_out();
    assert_has(out, "502 Bad Gateway");
    assert_has(out, "rpc_max_reply");
}

static void what_is_no_call_is_refused(void **state)
{
    (void)state;
    static const char *const table[][3] = {
        /* path, fields, answer */
        {"/v1/rpc/a?timeout=1", "", "timeout is a number and a unit"},
        {"/v1/rpc/a?timeout=", "", "timeout is a number and a unit"},
        {"/v1/rpc/a?timeout=0s", "", "timeout is a number and a unit"},
        {"/v1/rpc/a?timeout=1%00s", "", "%00"},
        {"/v1/rpc/a?timeout=00000000000000000000000000000001s", "", "timeout is a number"},
        {"/v1/rpc/a?timeout=61s", "", "longer than [http] rpc_max_timeout"},
        {"/v1/rpc/a?wait=1s", "", "the query parameter here is timeout"},
        {"/v1/rpc/a%2Fb", "", "BAD_ADDRESS"},
        {"/v1/rpc/a", "Reply-To: q\r\n", "Reply-To"},
        {"/v1/rpc/a", "Amqp-Header-retain: true\r\n", "a call is not retained"},
        {"/v1/rpc/a", "Amqp-Colour: red\r\n", "Amqp-Colour is not known"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        post(table[i][0], table[i][1]);
        const char *out = world_out();
        assert_has(out, "HTTP/1.1 400 ");
        assert_has(out, table[i][2]);
    }
    world_send("GET /v1/rpc/a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_has(world_out(), "HTTP/1.1 405 ");
    world.publish_status = HG_TOO_MANY;
    post("/v1/rpc/a", "");
    assert_has(world_out(), "HTTP/1.1 429 ");
    assert_int_equal(world.calls_n, 0);
}

static void a_call_waits_for_room_and_its_client_may_go(void **state)
{
    (void)state;
    world.publish_status = HG_HELD;
    post("/v1/rpc/a", "");
    world.publish_status = HG_OK;
    world_release(HG_HOLD_UPSTREAM);
    assert_int_equal(world.calls_n, 1);
    world_hang_up();
    assert_null(world.calls[0].done);
}

static void no_allocation_of_a_call_is_missed_when_it_fails(void **state)
{
    (void)state;
    for (size_t n = 1; n < 30; n++) {
        world_hang_up();
        world_close();
        open_web(state);
        seam_fail_alloc(n);
        post("/v1/rpc/a", "Correlation-Id: c\r\nAmqp-Header-a: b\r\n");
        seam_fail_alloc(0);
        if (world.calls_n == 1 && world.calls[0].done != NULL) {
            seam_fail_alloc(n);
            seam_spare(true);
            const struct hg_message_parts parts = {.properties = {.type = HG_BYTES("t")},
                                                   .body = HG_BYTES("told")};
            seam_spare(false);
            world_reply(0, HG_OK, &parts);
            seam_fail_alloc(0);
            const char *out = world_out();
            assert_true(world.conn.is_ended || strstr(out, "told") != NULL ||
                        strstr(out, " 503 ") != NULL);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_web, close_web)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_reply_is_the_answer),
        TEST(every_other_outcome_has_its_status),
        TEST(what_is_no_call_is_refused),
        TEST(a_call_waits_for_room_and_its_client_may_go),
        TEST(no_allocation_of_a_call_is_missed_when_it_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
