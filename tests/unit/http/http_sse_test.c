/* SPDX-License-Identifier: Apache-2.0 */
/* Server-sent events on one connection, from the request to its end. */
#include "adapters/http/web.h"
#include "seam/seam.h"
#include "seam/unit.h"
#include "world.h"

#include <stdio.h>

#define H           "Host: a\r\n"
#define GET(target) "GET /v1/topics/" target " HTTP/1.1\r\n" H "Accept: text/event-stream\r\n\r\n"

static const struct hg_message_parts hello = {.body = {(const uint8_t *)"hello", 5}};

/* A stream with this request, live. */
static void open_stream(const char *request)
{
    world_open(&hg_http_adapter);
    world_send(request);
    world_subscribed(0, HG_OK, "");
    assert_has(world_out(), "HTTP/1.1 200 OK\r\n");
}

static void a_stream_begins_once_its_subscription_is_live(void **state)
{
    (void)state;
    world_open(&hg_http_adapter);
    world_send(GET("a/+/%23"));
    assert_string_equal(world.subs[0].filter, "a/+/#");
    assert_string_equal(world_out(), "");
    world_subscribed(0, HG_OK, "");
    const char *out = world_out();
    assert_has(out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                    "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n"
                    "Connection: close\r\n\r\nretry: ");
    assert_null(strstr(out, "Content-Length"));
    assert_string_equal(out + strlen(out) - 2, "\n\n");
    world_deliver(0, &hello, "a/b/c", false);
    assert_string_equal(world_out(), "id: \ndata: hello\n\n");
    assert_false(world.conn.is_ended);
    world_hang_up();
    assert_int_equal(world.live_n, 0);
    world_close();
}

static void an_asterisk_is_a_plus_and_filters_may_be_many(void **state)
{
    (void)state;
    world_open(&hg_http_adapter);
    world_send(GET("*/x*?filter=b/*&filter=c/%2B&filter=%23"));
    assert_int_equal(world.subs_n, 4);
    assert_string_equal(world.subs[0].filter, "b/+");
    assert_string_equal(world.subs[1].filter, "c/+");
    assert_string_equal(world.subs[2].filter, "#");
    assert_string_equal(world.subs[3].filter, "+/x*");
    for (size_t i = 0; i < 3; i++) {
        world_subscribed(i, HG_OK, "");
        assert_string_equal(world_out(), "");
    }
    world_subscribed(3, HG_OK, "");
    assert_has(world_out(), "200 OK");
    world_close();

    world_open(&hg_http_adapter);
    world_send(GET("?filter=b"));
    assert_int_equal(world.subs_n, 1);
    world_close();
}

static void a_message_before_the_last_answer_is_not_lost(void **state)
{
    (void)state;
    world_open(&hg_http_adapter);
    world_send(GET("a?filter=b"));
    world_subscribed(0, HG_OK, "");
    world_deliver(0, &hello, "b", false);
    assert_has(world_out(), "data: hello\n\n");
    world_subscribed(1, HG_NO_EXCHANGE, "");
    assert_true(world.conn.is_finished);
    assert_string_equal(world_out(), "");
    world_close();
}

static void what_cannot_be_served_is_refused_and_the_connection_stays(void **state)
{
    (void)state;
    static const struct {
        const char *request, *status;
        enum hg_status subscribe_status;
    } table[] = {
        {"GET /v1/topics/a HTTP/1.1\r\n" H "Accept: text/html\r\n\r\n", "406 ", HG_OK},
        {"GET /v1/topics/a HTTP/1.1\r\n" H "Accept: */*, text/event-stream;q=0\r\n\r\n", "406 ",
         HG_OK},
        {"GET /v1/topics/a HTTP/1.1\r\n" H "Accept: text/event-stream ; x=y; q=0.000\r\n\r\n",
         "406 ", HG_OK},
        {GET("a%2Fb"), "400 ", HG_OK},
        {GET("a%0"), "400 ", HG_OK},
        {GET("a?x=1"), "400 ", HG_OK},
        {GET("a?envelope=yes"), "400 ", HG_OK},
        {GET("a?colour=red"), "and with x-match the headers to match by", HG_OK},
        {GET("a?x-match=some"), "x-match must be all, any, all-with-x or any-with-x", HG_OK},
        {GET("a?x-match=all&x-match=any"), "x-match is given twice", HG_OK},
        {GET("a?x-match=all&size=int:x"), "is not what int: or bool: before it says", HG_OK},
        {GET("a?x-match=all&deep=bool:1"), "is not what int: or bool: before it says", HG_OK},
        {GET("a?x-match=all&=1"), "its name is not 1 to 255 bytes", HG_OK},
        {GET("a?x-match=all&a=%FF"), "is not UTF-8", HG_OK},
        {GET("a?x-match=all&from=first"), "not with retained, nor with from", HG_OK},
        {"HEAD /v1/topics/a?x-match=all HTTP/1.1\r\n" H "\r\n", "400 ", HG_OK},
        {GET("a?retained=true"), "\"code\":\"NO_RETAIN\"", HG_OK},
        {GET("a"), "400 Bad Request", HG_BAD_FILTER},
        {GET("a"), "404 Not Found", HG_NO_RULE},
        {GET("a"), "429 Too Many Requests\r\nContent-Type: application/problem+json\r\nRetry-After",
         HG_TOO_MANY},
        {GET("a?filter=b&filter=c&filter=d&filter=e"), "429 ", HG_OK},
        {"HEAD /v1/topics/a HTTP/1.1\r\n" H "\r\n", "404 ", HG_NO_RULE},
        {"HEAD /v1/topics/a%23 HTTP/1.1\r\n" H "\r\n", "400 ", HG_OK},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        world_open(&hg_http_adapter);
        world.subscribe_status = table[i].subscribe_status;
        world_send(table[i].request);
        assert_has(world_out(), table[i].status);
        assert_int_equal(world.live_n, 0);
        assert_false(world.conn.is_ended);
        world_send("GET /none HTTP/1.1\r\n" H "\r\n");
        assert_has(world_out(), "HTTP/1.1 404 ");
        world_close();
    }
}

static void with_x_match_the_rest_of_the_query_is_headers(void **state)
{
    (void)state;
    static const struct {
        const char *request, *match;
    } table[] = {
        {GET("a?x-match=all"), "x-match=all "},
        {GET("a?colour=light+red&size=int:-5&x-match=any&deep=bool:true&envelope=1&word=string:int:5"),
         "x-match=any colour=light red size=int -5 deep=bool 1 word=int:5 "},
        {GET("a?x-match=all-with-x&x-kind=%C3%A4&empty="),
         "x-match=all-with-x x-kind=\xc3\xa4 empty= "},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        world_open(&hg_http_adapter);
        world_send(table[i].request);
        assert_int_equal(world.subs_n, 1);
        assert_string_equal(world.subs[0].match, table[i].match);
        world_subscribed(0, HG_OK, "");
        assert_has(world_out(), "HTTP/1.1 200 OK\r\n");
        world_close();
    }
}

static void what_accept_leaves_open_is_a_stream(void **state)
{
    (void)state;
    static const char *const table[] = {
        "",
        "Accept: */*\r\n",
        "Accept: text/*;q=0.1\r\n",
        "Accept: text/html, TEXT/Event-Stream\r\n",
        "Accept: text/html\r\nAccept: text/event-stream\r\n",
        "Accept: text/event-stream, */*;q=0\r\n",
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char request[300];
        world_open(&hg_http_adapter);
        snprintf(request, sizeof(request), "GET /v1/topics/a HTTP/1.1\r\n" H "%s\r\n", table[i]);
        world_send(request);
        assert_int_equal(world.live_n, 1);
        world_close();
    }
}

static void a_refusal_by_rabbitmq_is_a_problem_and_the_end(void **state)
{
    (void)state;
    world_open(&hg_http_adapter);
    world_send(GET("a"));
    world_subscribed(0, HG_NO_EXCHANGE, "no exchange 'x'");
    const char *out = world_out();
    assert_has(out, "HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\n");
    assert_has(out, "Connection: close\r\n\r\n{\"type\":\"about:blank\",\"title\":\"Not Found\","
                    "\"status\":404,\"detail\":\"no such exchange: no exchange 'x'\","
                    "\"code\":\"NO_EXCHANGE\"}\n");
    assert_true(world.conn.is_finished);
    world_close();
}

static void without_rabbitmq_the_wait_ends(void **state)
{
    (void)state;
    world_open(&hg_http_adapter);
    world_send(GET("a"));
    world_wait(4900);
    assert_string_equal(world_out(), "");
    world_wait(300);
    const char *out = world_out();
    assert_has(out, "HTTP/1.1 503 Service Unavailable\r\n");
    assert_has(out, "Retry-After: 1\r\n");
    assert_true(world.conn.is_finished);
    world_close();
}

static void head_says_what_get_would_and_subscribes_nothing(void **state)
{
    (void)state;
    world_open(&hg_http_adapter);
    world_send("HEAD /v1/topics/a/* HTTP/1.1\r\n" H "\r\n");
    assert_string_equal(world_out(), "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                     "Cache-Control: no-store\r\n\r\n");
    assert_int_equal(world.subs_n, 0);
    assert_false(world.conn.is_ended);
    world_close();
}

static void a_stream_waits_for_the_answers_before_it_and_takes_none_behind_it(void **state)
{
    (void)state;
    world_open(&hg_http_adapter);
    world_send("POST /v1/topics/a HTTP/1.1\r\n" H "\r\n" GET("a") GET("b"));
    assert_int_equal(world.subs_n, 0);
    world_settle(0, HG_OK, "");
    assert_int_equal(world.subs_n, 1);
    assert_has(world_out(), "HTTP/1.1 202 ");
    world_subscribed(0, HG_OK, "");
    world_send(GET("c"));
    assert_int_equal(world_count(world_out(), "HTTP/1.1"), 1);
    assert_int_equal(world.subs_n, 1);
    world_close();
}

static void other_origins_read_it_where_the_listener_lets_them(void **state)
{
    (void)state;
    static const char *const origins[] = {"https://a.example"};
    world_open(&hg_http_adapter);
    world.conn.listener.cors_origins = origins;
    world.conn.listener.cors_origins_n = 1;
    world_send("GET /v1/topics/a HTTP/1.1\r\n" H "Origin: https://a.example\r\n\r\n");
    world_subscribed(0, HG_OK, "");
    assert_has(world_out(), "Access-Control-Allow-Origin: https://a.example\r\n");
    world_close();
}

static void silence_is_broken_by_comments(void **state)
{
    (void)state;
    open_stream(GET("a"));
    world_wait(14900);
    assert_string_equal(world_out(), "");
    world_wait(200);
    assert_string_equal(world_out(), ":\n\n");
    world_wait(10000);
    world_deliver(0, &hello, "a", false);
    world_out();
    world_wait(14000); /* counted from the message on */
    assert_string_equal(world_out(), "");
    world_wait(1200);
    assert_string_equal(world_out(), ":\n\n");
    world_close();
}

static void a_slow_reader_loses_messages_and_is_told_how_many(void **state)
{
    (void)state;
    open_stream(GET("a"));
    world.conn.pending = 1000;
    for (int i = 0; i < 3; i++) {
        world_deliver(0, &hello, "a", false);
    }
    assert_string_equal(world_out(), "");
    assert_int_equal(world.worker.metrics.proto[HG_PROTO_HTTP].dropped, 3);
    world_deliver(0, &hello, "a", true); /* what is retained keeps to the room there is by itself */
    assert_string_equal(world_out(), "id: \ndata: hello\n\n");
    world.conn.pending = 0;
    world.conn.session->ops->drained(world.conn.session);
    assert_string_equal(world_out(), "event: headgate.lost\ndata: 3\n\n");
    assert_int_equal(world.resumes, 1);
    world.conn.pending = 1000;
    world_deliver(0, &hello, "a", false);
    world.conn.pending = 100;
    world_deliver(0, &hello, "a", false);
    assert_string_equal(world_out(), "event: headgate.lost\ndata: 1\n\nid: \ndata: hello\n\n");
    world_close();
}

static void who_has_to_keep_up_is_told_why_the_stream_ends(void **state)
{
    (void)state;
    open_stream(GET("a"));
    world.slow = HG_SLOW_DISCONNECT;
    world.conn.pending = 1000;
    world_deliver(0, &hello, "a", false);
    assert_string_equal(world_out(), ": the client reads too slowly\n\n");
    assert_true(world.conn.is_ended);
    assert_int_equal(world.conn.why, HG_TOO_SLOW);
    world_close();
}

static void what_is_retained_is_served_on_request(void **state)
{
    (void)state;
    world_open(&hg_http_adapter);
    world.state.is_enabled = true;
    world_send(GET("a/*?retained=true&envelope=1"));
    assert_false(world.subs[0].is_served);
    world_subscribed(0, HG_OK, "");
    assert_true(world.subs[0].is_served);
    world_out();
    world_deliver(0, &hello, "a/b", true);
    assert_string_equal(world_out(), "id: \ndata: {\"address\":\"a/b\",\"retained\":true,"
                                     "\"properties\":{},\"headers\":{},\"body\":\"hello\"}\n\n");
    world_close();
}

static void a_shutdown_ends_the_stream(void **state)
{
    (void)state;
    open_stream(GET("a"));
    world.conn.session->ops->drain(world.conn.session);
    assert_true(world.conn.is_finished);
    assert_int_equal(world.conn.why, HG_SHUTTING_DOWN);
    world_close();
    world_open(&hg_http_adapter); /* not live yet: it is to come back all the same */
    world_send(GET("a"));
    world.conn.session->ops->drain(world.conn.session);
    assert_has(world_out(), "200 OK");
    assert_true(world.conn.is_finished);
    world_close();
    world_open(&hg_http_adapter); /* behind another request, which kept the connection */
    world.gateway.is_draining = true;
    world_send(GET("a"));
    assert_has(world_out(), "200 OK");
    assert_true(world.conn.is_finished);
    world_close();
}

static void the_outcome_is_the_same_however_the_request_is_split(void **state)
{
    (void)state;
    const struct hg_bytes request = hg_bytes_str(GET("a/*?envelope=1"));
    for (size_t at = 1; at < request.n; at++) {
        world_open(&hg_http_adapter);
        world_send_bytes(hg_bytes(request.p, at));
        world_send_bytes(hg_bytes_skip(request, at));
        assert_int_equal(world.live_n, 1);
        assert_string_equal(world.subs[0].filter, "a/+");
        world_close();
    }
}

/* ---- Out of a stream ---- */

static void send_with(const char *target, const char *last_id)
{
    char request[300];
    snprintf(request, sizeof(request),
             "GET /v1/topics/%s HTTP/1.1\r\n" H "Accept: text/event-stream\r\n%s%s\r\n\r\n", target,
             last_id == NULL ? "X: y" : "Last-Event-ID: ", last_id == NULL ? "" : last_id);
    world_send(request);
}

static void a_reader_begins_where_it_was_or_asks_to(void **state)
{
    (void)state;
    static const struct {
        const char *target, *last_id, *word; /* word NULL: an offset or a time */
        enum hg_value_kind kind;
        int64_t offset;
    } table[] = {
        {"a", NULL, "next", HG_VALUE_STRING, 0},
        {"a?from=first", NULL, "first", HG_VALUE_STRING, 0},
        {"a?from=next", "", "next", HG_VALUE_STRING, 0},
        {"a?from=17", NULL, NULL, HG_VALUE_INT, 17},
        {"a?from=1970-01-02T00:00:01Z", NULL, NULL, HG_VALUE_TIMESTAMP, 86401},
        {"a", "41", NULL, HG_VALUE_INT, 42},
        {"a?from=first", "0", NULL, HG_VALUE_INT, 1},
        {"a?from=first", "not one of ours", "first", HG_VALUE_STRING, 0},
        {"a", "-1", "next", HG_VALUE_STRING, 0},
        {"a", "9223372036854775807", "next", HG_VALUE_STRING, 0},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        world_open(&hg_http_adapter);
        world.replay = "log";
        send_with(table[i].target, table[i].last_id);
        assert_true(world.queue.is_open);
        assert_string_equal(world.queue.name, "log");
        assert_string_equal(world.queue.filter, "a");
        const struct hg_value *offset = &world.queue.offset;
        assert_int_equal(offset->kind, table[i].kind);
        if (table[i].word != NULL) {
            assert_text(offset->u.bytes, table[i].word);
        } else {
            assert_int_equal(offset->u.i, table[i].offset);
        }
        world_hang_up();
        assert_false(world.queue.is_open);
        assert_int_equal(world.live_n, 0);
        world_close();
    }
}

static void offsets_are_ids_and_come_once(void **state)
{
    (void)state;
    world_open(&hg_http_adapter);
    world.replay = "log";
    world_send(GET("a?envelope=0"));
    assert_string_equal(world_out(), "");
    world_queue_state(HG_OK);
    assert_has(world_out(), "200 OK");
    world_queue_deliver(7, "seven");
    world_queue_deliver(9, "nine");
    assert_string_equal(world_out(), "id: 7\ndata: seven\n\nid: 9\ndata: nine\n\n");
    world_queue_state(HG_OK); /* the link is back, and some of it comes again */
    world_queue_deliver(7, "seven");
    world_queue_deliver(9, "nine");
    world_queue_deliver(10, "ten");
    assert_string_equal(world_out(), "id: 10\ndata: ten\n\n");
    world.conn.pending = world.config.outbound_high_bytes; /* is waited for, and loses nothing */
    world_queue_deliver(11, "eleven");
    assert_string_equal(world_out(), "id: 11\ndata: eleven\n\n");
    world_queue_state(HG_NO_QUEUE);
    assert_true(world.conn.is_finished);
    assert_string_equal(world_out(), "");
    world_close();
}

static void what_cannot_be_read_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *target, *replay, *status;
    } table[] = {
        {"a?from=first", NULL, "there is no stream to read"},
        {"a?from=first&filter=b", "log", "there is no stream to read"},
        {"a?from=", "log", "from must be"},
        {"a?from=-1", "log", "from must be"},
        {"a?from=9223372036854775808", "log", "from must be"},
        {"a?from=1970-01-02T00:00:01", "log", "from must be"},
        {"a?from=1969-12-31T23:59:59Z", "log", "from must be"},
        {"a?from=2025-02-29T00:00:00Z", "log", "from must be"},
        {"a?from=2025-01-01T24:00:00Z", "log", "from must be"},
        {"a?from=2025-01-01t00:00:00Z", "log", "from must be"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        world_open(&hg_http_adapter);
        world.replay = table[i].replay;
        send_with(table[i].target, NULL);
        const char *out = world_out();
        assert_has(out, "HTTP/1.1 400 ");
        assert_has(out, table[i].status);
        assert_int_equal(world.live_n, 0);
        world_close();
    }
    world_open(&hg_http_adapter);
    world.replay = "log";
    world_send(GET("a"));
    world_queue_state(HG_NO_QUEUE);
    assert_has(world_out(), "HTTP/1.1 404 ");
    world_close();
    world_open(&hg_http_adapter);
    world.replay = "log"; /* several filters, or what is retained: live */
    world_send(GET("a?filter=b"));
    assert_int_equal(world.subs_n, 2);
    assert_null(world.queue.ops);
    world_close();
}

static void without_memory_nothing_is_left_of_a_reader(void **state)
{
    (void)state;
    for (size_t n = 1; n < 12; n++) {
        world_open(&hg_http_adapter);
        world.replay = "log";
        seam_fail_alloc(n);
        world_send(GET("a?from=3"));
        seam_fail_alloc(0);
        if (world.queue.is_open) {
            world_queue_state(HG_OK);
        }
        world_hang_up();
        assert_false(world.queue.is_open);
        world_close();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_begins_once_its_subscription_is_live),
        cmocka_unit_test(an_asterisk_is_a_plus_and_filters_may_be_many),
        cmocka_unit_test(a_message_before_the_last_answer_is_not_lost),
        cmocka_unit_test(what_cannot_be_served_is_refused_and_the_connection_stays),
        cmocka_unit_test(with_x_match_the_rest_of_the_query_is_headers),
        cmocka_unit_test(what_accept_leaves_open_is_a_stream),
        cmocka_unit_test(a_refusal_by_rabbitmq_is_a_problem_and_the_end),
        cmocka_unit_test(without_rabbitmq_the_wait_ends),
        cmocka_unit_test(head_says_what_get_would_and_subscribes_nothing),
        cmocka_unit_test(a_stream_waits_for_the_answers_before_it_and_takes_none_behind_it),
        cmocka_unit_test(other_origins_read_it_where_the_listener_lets_them),
        cmocka_unit_test(silence_is_broken_by_comments),
        cmocka_unit_test(a_slow_reader_loses_messages_and_is_told_how_many),
        cmocka_unit_test(who_has_to_keep_up_is_told_why_the_stream_ends),
        cmocka_unit_test(what_is_retained_is_served_on_request),
        cmocka_unit_test(a_shutdown_ends_the_stream),
        cmocka_unit_test(the_outcome_is_the_same_however_the_request_is_split),
        cmocka_unit_test(a_reader_begins_where_it_was_or_asks_to),
        cmocka_unit_test(offsets_are_ids_and_come_once),
        cmocka_unit_test(what_cannot_be_read_is_refused),
        cmocka_unit_test(without_memory_nothing_is_left_of_a_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
