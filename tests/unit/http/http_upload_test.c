/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies that are passed on while they arrive, and what becomes of their connection. */
#include "adapters/http/web.h"
#include "core/idempotency.h"
#include "seam/seam.h"
#include "seam/unit.h"
#include "world.h"

#include <stdio.h>

#define HEAD(path, n, fields) \
    "POST " path " HTTP/1.1\r\nHost: a\r\nContent-Length: " n "\r\n" fields "\r\n"
#define TEN "0123456789"

static int open_web(void **state)
{
    (void)state;
    seam_fail_alloc(0);
    world_open(&hg_http_adapter);
    world.config.http_stream_from_bytes = 10;
    world.config.http_max_body_bytes = 8 << 20;
    return 0;
}

static int close_web(void **state)
{
    (void)state;
    seam_fail_alloc(0);
    world_hang_up();
    hg_idempotency_free(world.vhost.idempotency);
    world_close();
    return 0;
}

static const char *body(void)
{
    static char text[256];
    (void)snprintf(text, sizeof(text), "%.*s", HG_BYTES_FMT(hg_writer_view(&world.upload.body)));
    return text;
}

static void pieces_go_on_as_they_come_and_the_confirm_answers(void **state)
{
    (void)state;
    world_send(HEAD("/v1/topics/a/b?mandatory=true", "15", "Amqp-Priority: 3\r\n") "012");
    assert_int_equal(world.publishes_n, 1);
    assert_true(world.publishes[0].is_mandatory);
    assert_string_equal(world.publishes[0].address, "a/b");
    assert_int_equal(world.upload.body_bytes, 15);
    assert_string_equal(body(), ""); /* RabbitMQ has not asked for it */
    world_room(0);
    assert_string_equal(body(), "012");
    world_send("3456");
    assert_string_equal(body(), "0123456");
    world_send("789abcde" HEAD("/v1/topics/next", "2", "") "xy");
    assert_string_equal(body(), TEN "abcde");
    assert_int_equal(world.publishes_n, 2);
    assert_string_equal(world.publishes[1].body, "xy");
    world_settle(1, HG_OK, "");
    assert_string_equal(world_out(), "");
    world_settle(0, HG_OK, "");
    assert_int_equal(world_count(world_out(), "HTTP/1.1 202 "), 2);
    assert_false(world.conn.is_ended || world.upload.is_forgotten);
}

static void what_is_small_chunked_repeated_or_retained_is_gathered(void **state)
{
    (void)state;
    static const char *const table[] = {
        HEAD("/v1/topics/a", "10", "") TEN,
        HEAD("/v1/topics/a", "11", "Idempotency-Key: k\r\n") TEN "a",
        HEAD("/v1/topics/a?retain=true", "11", "") TEN "a",
        HEAD("/v1/topics/a", "11", "Amqp-Header-retain: true\r\n") TEN "a",
        "POST /v1/topics/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "b\r\n" TEN "a\r\n0\r\n\r\n",
    };
    world.vhost.idempotency = hg_idempotency_new(
        &(struct hg_idempotency_limits){.max_n = 3, .max_bytes = 1000, .window_ms = 60000});
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        world_send(table[i]);
        assert_int_equal(world.publishes_n, i + 1);
        assert_int_equal(world.publishes[i].body_n, i == 0 ? 10 : 11);
        world_settle(i, HG_OK, "");
        assert_has(world_out(), "HTTP/1.1 202 ");
    }
    assert_int_equal(world.upload.body_bytes, 0);
}

static void nothing_is_read_while_rabbitmq_has_no_room(void **state)
{
    (void)state;
    world_send(HEAD("/orders/1", "15", ""));
    assert_int_not_equal(world.conn.held, 0);
    world_send("01");
    assert_string_equal(body(), "");
    world_wait(world.config.http_request_timeout_ms * 2); /* it is not the client's fault */
    world.upload.has_room = false;
    world_room(0);
    assert_string_equal(body(), "01");
    assert_int_not_equal(world.conn.held, 0);
    world_send("23");
    assert_string_equal(body(), "01");
    world.upload.has_room = true;
    world_room(0);
    assert_string_equal(body(), "0123");
    assert_int_equal(world.conn.held, 0);
}

static void a_refusal_before_the_body_is_not_kept_waiting_for_it(void **state)
{
    (void)state;
    static const struct {
        const char *request, *answer;
        enum hg_status status;
    } table[] = {
        {HEAD("/v1/topics/a?x=1", "15", ""), "HTTP/1.1 400 ", HG_OK},
        {HEAD("/v1/topics/a", "15", "Amqp-Priority: x\r\n"), "HTTP/1.1 400 ", HG_OK},
        {HEAD("/v1/topics/a", "15", "Expect: 100-continue\r\n"), "HTTP/1.1 404 ", HG_NO_RULE},
        {HEAD("/v1/topics/a", "15", "") "01", "HTTP/1.1 503 ", HG_BUSY},
        {HEAD("/v1/topics/a", "15", ""), "\r\nRetry-After: 1\r\n", HG_BUSY},
        {HEAD("/v1/topics/a", "99999999", ""), "HTTP/1.1 413 ", HG_OK},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        world.publish_status = table[i].status;
        world_send(table[i].request);
        const char *out = world_out();
        assert_has(out, table[i].answer);
        assert_has(out, "\r\nConnection: close\r\n");
        assert_int_equal(world_count(out, "100 Continue"), 0);
        assert_true(world.conn.is_finished);
        assert_int_equal(world.publishes_n, 0);
        close_web(NULL);
        open_web(NULL);
    }
}

static void continue_waits_for_rabbitmq(void **state)
{
    (void)state;
    world_send(HEAD("/v1/topics/a", "15", "Expect: 100-continue\r\n"));
    assert_string_equal(world_out(), "");
    world_room(0);
    assert_string_equal(world_out(), "HTTP/1.1 100 Continue\r\n\r\n");
    world_send(TEN "abcde");
    world_settle(0, HG_UNROUTABLE, "NO_ROUTE");
    assert_has(world_out(), "HTTP/1.1 404 ");
    assert_false(world.conn.is_ended);
}

static void an_outcome_within_the_body_ends_the_connection(void **state)
{
    (void)state;
    world_send(HEAD("/v1/topics/a", "15", ""));
    world_room(0);
    world_send("012");
    world_settle(0, HG_BROKER_AWAY, "the link was lost");
    const char *out = world_out();
    assert_has(out, "HTTP/1.1 503 ");
    assert_has(out, "the link was lost");
    assert_true(world.conn.is_finished);
    assert_false(world.upload.is_forgotten);
}

static void who_goes_or_is_too_slow_is_forgotten(void **state)
{
    (void)state;
    uint64_t limit_ms = world.config.http_request_timeout_ms;
    for (unsigned i = 0; i < 2; i++) {
        world_send(HEAD("/v1/topics/a", "3000000", ""));
        world_room(0);
        for (unsigned k = 0; k < 2; k++) { /* a mebibyte in each time limit is enough */
            static char piece[(1 << 20) + 1];
            memset(piece, 'x', sizeof(piece) - 1);
            world_wait(limit_ms - 1000);
            world_send(piece);
        }
        assert_string_equal(world_out(), "");
        for (unsigned k = 0; i == 0 && k < 4; k++) { /* a byte is not */
            world_send("x");
            world_wait(limit_ms / 3);
        }
        if (i == 0) {
            assert_has(world_out(), "HTTP/1.1 408 ");
            assert_true(world.conn.is_finished);
        } else {
            world_hang_up();
        }
        assert_true(world.upload.is_forgotten);
        close_web(NULL);
        open_web(NULL);
    }
}

static void no_allocation_is_missed_when_it_fails(void **state)
{
    (void)state;
    for (unsigned n = 1; n < 60; n++) {
        seam_fail_alloc(n);
        world_send(HEAD("/v1/topics/a", "15", "X-A: b\r\n"));
        if (world.publishes_n == 1) {
            world_room(0);
            world_send(TEN "abcde");
        }
        if (world.publishes_n == 1 && !world.upload.is_forgotten) {
            world_settle(0, HG_OK, "");
        }
        seam_fail_alloc(0);
        close_web(NULL);
        open_web(NULL);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_web, close_web)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pieces_go_on_as_they_come_and_the_confirm_answers),
        TEST(what_is_small_chunked_repeated_or_retained_is_gathered),
        TEST(nothing_is_read_while_rabbitmq_has_no_room),
        TEST(a_refusal_before_the_body_is_not_kept_waiting_for_it),
        TEST(continue_waits_for_rabbitmq),
        TEST(an_outcome_within_the_body_ends_the_connection),
        TEST(who_goes_or_is_too_slow_is_forgotten),
        TEST(no_allocation_is_missed_when_it_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
