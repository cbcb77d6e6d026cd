/* SPDX-License-Identifier: Apache-2.0 */
/* The web site on one connection: answers and their order, what waits for what, and how a connection ends. */
#include "adapters/http/http_server.h"

#include "adapters/http/web.h"
#include "seam/seam.h"
#include "seam/unit.h"
#include "world.h"

#define H "Host: a\r\n"

static int open_web(void **state)
{
    (void)state;
    seam_fail_alloc(0);
    world_open(&hg_http_adapter);
    return 0;
}

static int close_web(void **state)
{
    (void)state;
    world_close();
    return 0;
}

/* ---- Publishing ---- */

static void a_publish_is_answered_after_the_confirm(void **state)
{
    (void)state;
    world_send("POST /v1/topics/a/b%20c?mandatory=true HTTP/1.1\r\n" H
               "Message-Id: m1\r\nContent-Length: 5\r\nAmqp-Header-x: 1\r\n\r\nhello");
    assert_string_equal(world_out(), "");
    assert_int_equal(world.publishes_n, 1);
    assert_string_equal(world.publishes[0].address, "a/b c");
    assert_string_equal(world.publishes[0].body, "hello");
    assert_int_equal(world.publishes[0].delivery_mode, 2);
    assert_int_equal(world.publishes[0].headers_n, 1);
    assert_true(world.publishes[0].is_mandatory);
    world_settle(0, HG_OK, "");
    assert_string_equal(world_out(),
                        "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\n"
                        "Content-Length: 49\r\n\r\n"
                        "{\"id\":\"m1\",\"exchange\":\"amq.topic\",\"key\":\"a/b c\"}\n");
    assert_false(world.conn.is_ended);
}

static void a_message_is_retained_by_the_query_or_a_header(void **state)
{
    (void)state;
    static const struct {
        const char *request;
        bool is_retained;
    } table[] = {
        {"POST /v1/topics/a?retain=true HTTP/1.1\r\n" H "\r\n", true},
        {"POST /v1/topics/a?mandatory=true&retain=true HTTP/1.1\r\n" H "\r\n", true},
        {"POST /v1/topics/a?retain=false HTTP/1.1\r\n" H "\r\n", false},
        {"POST /v1/topics/a HTTP/1.1\r\n" H "amqp-header-retain: true\r\n\r\n", true},
        {"POST /v1/topics/a HTTP/1.1\r\n" H "Amqp-Header-Retain: false\r\n\r\n", false},
        {"POST /orders/17?retain=true HTTP/1.1\r\n" H "\r\n", true},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        world_send(table[i].request);
        assert_int_equal(world.publishes_n, i + 1);
        assert_true(world.publishes[i].is_retained == table[i].is_retained);
        assert_int_equal(world.publishes[i].headers_n, 0);
        world_settle(i, HG_OK, "");
        assert_has(world_out(), "202 Accepted");
    }
}

static void a_generated_id_is_the_one_that_is_answered(void **state)
{
    (void)state;
    world_send("PUT /v1/topics/a HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n");
    world_settle(0, HG_OK, "");
    assert_int_equal(strlen(world.publishes[0].message_id), 36);
    assert_has(world_out(), world.publishes[0].message_id);
}

static void each_outcome_has_its_status(void **state)
{
    (void)state;
    static const struct {
        enum hg_status outcome;
        const char *line, *retry, *detail;
    } table[] = {
        {HG_UNROUTABLE, "404 Not Found", NULL, "no queue takes this message: why"},
        {HG_NO_EXCHANGE, "404 Not Found", NULL, "no such exchange: why"},
        {HG_NO_RULE, "404 Not Found", NULL, "no rule takes this address: why"},
        {HG_REJECTED, "429 Too Many Requests", "Retry-After: 1", "RabbitMQ rejected"},
        {HG_TOO_FAST, "429 Too Many Requests", "Retry-After: 7", "faster than the limit"},
        {HG_BROKER_AWAY, "503 Service Unavailable", "Retry-After: 1", "cannot be reached"},
        {HG_BUSY, "503 Service Unavailable", "Retry-After: 1", "server busy"},
        {HG_TIMED_OUT, "503 Service Unavailable", "Retry-After: 1", "outcome unknown"},
        {HG_NOT_ALLOWED, "403 Forbidden", NULL, "not permitted"},
        {HG_TOO_LARGE, "413 Content Too Large", NULL, "larger than the limit"},
        {HG_KEY_TOO_LONG, "414 URI Too Long", NULL, "255 bytes"},
        {HG_BAD_PROPERTY, "400 Bad Request", NULL, "property"},
        {HG_REFUSED, "400 Bad Request", NULL, "RabbitMQ refused the request: why"},
        {HG_NO_RETAIN, "400 Bad Request", NULL, "retained messages are switched off"},
        {HG_TOO_MANY, "429 Too Many Requests", "Retry-After: 1", "a limit of the gateway"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        for (int at_once = 0; at_once < 2; at_once++) {
            world.publish_status = at_once ? table[i].outcome : HG_OK;
            world_send("POST /v1/topics/a HTTP/1.1\r\n" H "\r\n");
            if (!at_once) {
                world_settle(world.publishes_n - 1, table[i].outcome, "why");
            }
            const char *out = world_out();
            assert_has(out, table[i].line);
            assert_has(out, "Content-Type: application/problem+json");
            if (!at_once) {
                assert_has(out, table[i].detail);
            }
            if (table[i].retry != NULL) {
                assert_has(out, table[i].retry);
            }
        }
    }
    assert_false(world.conn.is_ended);
}

static void a_request_that_says_nonsense_is_told_so(void **state)
{
    (void)state;
    static const char *const table[][2] = {
        {"/v1/topics/a%2Fb HTTP/1.1\r\n" H, "%252F"},
        {"/v1/topics/a%zz HTTP/1.1\r\n" H, "two hex digits"},
        {"/v1/topics/a?mandatory=yes HTTP/1.1\r\n" H, "mandatory must be true or false"},
        {"/v1/topics/a?mandtory=true HTTP/1.1\r\n" H, "the query parameters here are"},
        {"/v1/topics/a?retain=1 HTTP/1.1\r\n" H, "retain must be true or false"},
        {"/v1/topics/a HTTP/1.1\r\n" H "Amqp-Header-Retain: 1\r\n", "must be true or false"},
        {"/v1/topics/a HTTP/1.1\r\n" H "Amqp-Priority: 300\r\n", "Amqp-Priority must be"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char request[300];
        snprintf(request, sizeof(request), "POST %s\r\n", table[i][0]);
        world_send(request);
        const char *out = world_out();
        assert_has(out, "HTTP/1.1 400 ");
        assert_has(out, table[i][1]);
    }
    assert_int_equal(world.publishes_n, 0);
}

static void a_rules_path_publishes_at_the_root(void **state)
{
    (void)state;
    world_send("POST /orders/17?source=x HTTP/1.1\r\n" H "\r\n");
    world_settle(0, HG_OK, "");
    assert_has(world_out(), "\"exchange\":\"shop\",\"key\":\"orders/17\"");
    world_send("POST /other/17 HTTP/1.1\r\n" H "\r\n");
    assert_has(world_out(), "HTTP/1.1 404 ");
    world_send("GET /orders/17 HTTP/1.1\r\n" H "\r\n");
    assert_has(world_out(), "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: "
                            "application/problem+json\r\nAllow: POST, PUT, OPTIONS\r\n");
    world_send("POST /v1 HTTP/1.1\r\n" H "\r\nPOST /api/x HTTP/1.1\r\n" H "\r\n"
               "POST /%761/orders HTTP/1.1\r\n" H "\r\n");
    assert_int_equal(world_count(world_out(), "HTTP/1.1 404 "), 3);
    assert_int_equal(world.publishes_n, 1);
}

/* ---- Order ---- */

static void answers_keep_the_order_of_the_requests(void **state)
{
    (void)state;
    world_send("POST /v1/topics/a HTTP/1.1\r\n" H "\r\nPOST /v1/topics/b HTTP/1.1\r\n" H "\r\n"
               "GET /nowhere HTTP/1.1\r\n" H "\r\n");
    world_settle(1, HG_OK, "");
    assert_string_equal(world_out(), "");
    world_settle(0, HG_REJECTED, "");
    const char *out = world_out();
    const char *first = strstr(out, "HTTP/1.1 429");
    const char *second = strstr(out, "HTTP/1.1 202");
    const char *third = strstr(out, "HTTP/1.1 404");
    assert_true(first != NULL && first < second && second < third);
}

static void a_full_pipeline_holds_the_connection(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        world_send("POST /v1/topics/a HTTP/1.1\r\n" H "\r\n");
    }
    assert_int_equal(world.publishes_n, 4);
    assert_int_equal(world.conn.held, HG_HOLD_SESSION);
    world_settle(2, HG_OK, ""); /* out of turn: still four in the queue */
    assert_int_equal(world.publishes_n, 4);
    world_settle(0, HG_OK, "");
    assert_int_equal(world.publishes_n, 5);
    world_settle(1, HG_OK, "");
    assert_int_equal(world.publishes_n, 6);
    assert_int_equal(world.conn.held, 0);
    assert_int_equal(world_count(world_out(), "HTTP/1.1 202"), 3);
}

static void a_client_that_does_not_read_is_not_read_from(void **state)
{
    (void)state;
    world.conn.pending = 5000;
    world_send("GET /x HTTP/1.1\r\n" H "\r\nGET /x HTTP/1.1\r\n" H "\r\n");
    assert_int_equal(world_count(world_out(), "HTTP/1.1 404"), 1);
    assert_int_equal(world.conn.held, HG_HOLD_SESSION);
    world.conn.pending = 10;
    world.conn.session->ops->drained(world.conn.session);
    world_send("");
    assert_int_equal(world_count(world_out(), "HTTP/1.1 404"), 1);
    assert_int_equal(world.conn.held, 0);
}

static const char conversation[] =
    "POST /v1/topics/a HTTP/1.1\r\n" H "Content-Length: 3\r\nMessage-Id: 1\r\n\r\nabc"
    "POST /orders/1 HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nMessage-Id: 2\r\n\r\n"
    "2\r\nde\r\n1;x\r\nf\r\n0\r\nT: t\r\n\r\n"
    "\r\nPOST /nowhere HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\nPOST"
    "HEAD /nowhere HTTP/1.1\r\n" H "\r\n"
    "OPTIONS /orders/1 HTTP/1.1\r\n" H "\r\n"
    "DELETE /orders/1 HTTP/1.1\r\n" H "\r\n"
    "POST /v1/topics/c HTTP/1.1\r\n" H "Content-Length: 2\r\nMessage-Id: 3\r\n"
    "Connection: close\r\n\r\nghPOST /v1/topics/never HTTP/1.1\r\n" H "\r\n";

/* One run of the conversation; what was answered. */
static const char *converse(size_t split, enum hg_status status)
{
    world.publish_status = status;
    world_send_bytes(hg_bytes(conversation, split));
    world_send_bytes(hg_bytes(conversation + split, sizeof(conversation) - 1 - split));
    for (size_t i = 0; i < 9; i++) {
        world.publish_status = HG_OK;
        world_release(HG_HOLD_UPSTREAM);
        world.publish_status = status;
        for (size_t p = 0; p < world.publishes_n; p++) {
            world_settle(p, HG_OK, "");
        }
        world_send("");
    }
    assert_int_equal(world.publishes_n, 3);
    assert_string_equal(world.publishes[0].body, "abc");
    assert_string_equal(world.publishes[1].body, "def");
    assert_string_equal(world.publishes[2].body, "gh");
    assert_true(world.conn.is_finished);
    return world_out();
}

static void a_conversation_is_the_same_at_every_split(void **state)
{
    (void)state;
    static char want[8192];
    world_open(&hg_http_adapter);
    snprintf(want, sizeof(want), "%s", converse(0, HG_OK));
    world_close();
    assert_int_equal(world_count(want, "HTTP/1.1 "), 7);
    assert_has(want, "HTTP/1.1 204 No Content\r\nAllow: POST, PUT, OPTIONS\r\n\r\n");
    assert_has(want, "Connection: close\r\n\r\n{\"id\":\"3\"");
    for (size_t split = 0; split < sizeof(conversation); split++) {
        world_open(&hg_http_adapter);
        assert_string_equal(converse(split, HG_OK), want);
        world_close();
        world_open(&hg_http_adapter); /* and with every publish held at first */
        assert_string_equal(converse(split, HG_HELD), want);
        world_close();
    }
}

/* ---- Holding ---- */

static void a_held_publish_goes_out_once_when_there_is_room(void **state)
{
    (void)state;
    world.publish_status = HG_HELD;
    world_send("POST /v1/topics/a HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nhi"
               "POST /v1/topics/b HTTP/1.1\r\n" H "\r\n");
    assert_int_equal(world.conn.held, HG_HOLD_UPSTREAM);
    world_release(HG_HOLD_UPSTREAM);
    assert_int_equal(world.conn.held, HG_HOLD_UPSTREAM);
    world.publish_status = HG_OK;
    world_release(HG_HOLD_UPSTREAM);
    assert_int_equal(world.publishes_n, 2);
    assert_string_equal(world.publishes[0].body, "hi");
    assert_string_equal(world.publishes[1].address, "b");
    world_settle(0, HG_OK, "");
    world_settle(1, HG_OK, "");
    assert_int_equal(world_count(world_out(), "HTTP/1.1 202"), 2);
}

static void a_publish_held_too_long_is_answered_503(void **state)
{
    (void)state;
    world_send("POST /v1/topics/a HTTP/1.1\r\n" H "\r\n");
    world.publish_status = HG_HELD;
    world_send("POST /v1/topics/b HTTP/1.1\r\n" H "\r\n");
    world_wait(19900);
    assert_string_equal(world_out(), "");
    world_wait(300);
    assert_false(world.conn.is_ended); /* the first one is still to be answered */
    world_settle(0, HG_OK, "");
    const char *out = world_out();
    assert_has(out, "HTTP/1.1 202 ");
    assert_has(out, "HTTP/1.1 503 ");
    assert_has(out, "Retry-After: 1\r\n");
    assert_has(out, "nothing was published");
    assert_has(out, "Connection: close\r\n");
    assert_true(world.conn.is_finished);
}

/* ---- Bodies that are asked for ---- */

static void continue_is_said_when_the_body_is_wanted(void **state)
{
    (void)state;
    world_send("POST /v1/topics/a HTTP/1.1\r\n" H
               "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_string_equal(world_out(), "HTTP/1.1 100 Continue\r\n\r\n");
    world_send("hi");
    world_settle(0, HG_OK, "");
    assert_has(world_out(), "HTTP/1.1 202 ");
}

static void continue_waits_for_the_answers_before_it(void **state)
{
    (void)state;
    world_send("POST /v1/topics/a HTTP/1.1\r\n" H "\r\nPOST /v1/topics/b HTTP/1.1\r\n" H
               "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_string_equal(world_out(), "");
    world_settle(0, HG_OK, "");
    const char *out = world_out();
    assert_true(strstr(out, "HTTP/1.1 202 ") < strstr(out, "HTTP/1.1 100 "));
}

static void continue_is_not_said_when_it_is_not_needed(void **state)
{
    (void)state;
    world_send("POST /v1/topics/a HTTP/1.1\r\n" H
               "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi");
    assert_string_equal(world_out(), ""); /* the body is there */
    world_settle(0, HG_OK, "");
    world_out();
    world_send("POST /nowhere HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    const char *out = world_out();
    assert_int_equal(strncmp(out, "HTTP/1.1 404 ", 13), 0);
    assert_has(out, "Connection: close\r\n");
    assert_true(world.conn.is_finished);
}

static void a_body_over_the_limit_is_refused_before_it_comes(void **state)
{
    (void)state;
    world_send("POST /v1/topics/a HTTP/1.1\r\n" H
               "Expect: 100-continue\r\nContent-Length: 101\r\n\r\n");
    const char *out = world_out();
    assert_int_equal(strncmp(out, "HTTP/1.1 413 ", 13), 0);
    assert_has(out, "Connection: close\r\n");
    assert_true(world.conn.is_finished);
}

/* ---- How a connection ends ---- */

static void a_malformed_request_is_answered_in_its_turn(void **state)
{
    (void)state;
    world_send("POST /v1/topics/a HTTP/1.1\r\n" H "\r\nGET / HTTP/1.1\r\nHost: a\n\r\n"
               "POST /v1/topics/smuggled HTTP/1.1\r\n" H "\r\n");
    assert_string_equal(world_out(), "");
    world_settle(0, HG_OK, "");
    const char *out = world_out();
    assert_true(strstr(out, "HTTP/1.1 202 ") < strstr(out, "HTTP/1.1 400 "));
    assert_has(out, "a line must end in CR LF");
    assert_has(out, "Connection: close\r\n");
    assert_int_equal(world.publishes_n, 1);
    assert_true(world.conn.is_finished);
    assert_int_equal(hg_counted(&world.worker.metrics.proto[HG_PROTO_HTTP].errors), 1);
}

static void http_10_closes_unless_asked_otherwise(void **state)
{
    (void)state;
    world_send("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_has(world_out(), "Connection: keep-alive\r\n");
    assert_false(world.conn.is_ended);
    world_send("GET /x HTTP/1.0\r\n\r\n");
    assert_has(world_out(), "Connection: close\r\n");
    assert_true(world.conn.is_finished);
}

static void an_idle_connection_ends_quietly(void **state)
{
    (void)state;
    world_wait(30000);
    world_send("GET /x HTTP/1.1\r\n" H "\r\n");
    world_out();
    world_wait(59000);
    assert_false(world.conn.is_ended);
    world_wait(1200);
    assert_true(world.conn.is_finished);
    assert_string_equal(world_out(), "");
}

static void a_client_that_still_reads_is_not_idle(void **state)
{
    (void)state;
    world_send("GET /x HTTP/1.1\r\n" H "\r\n");
    world.conn.pending = 500;
    world_wait(61000);
    world.conn.pending = 400;
    world_wait(61000);
    assert_false(world.conn.is_ended);
    world_wait(61000);
    assert_true(world.conn.is_ended);
    assert_int_equal(world.conn.why, HG_TOO_SLOW);
}

static void a_request_that_dribbles_is_answered_408(void **state)
{
    (void)state;
    for (int i = 0; i < 11; i++) {
        world_send(i == 0 ? "GET / HTTP/1.1\r\n" : "X: y\r\n");
        world_wait(900);
    }
    assert_false(world.conn.is_ended);
    world_wait(300);
    const char *out = world_out();
    assert_has(out, "HTTP/1.1 408 ");
    assert_has(out, "Connection: close\r\n");
    assert_true(world.conn.is_finished);
}

static void each_request_has_its_own_time(void **state)
{
    (void)state;
    world_send("GET /x HTTP/1.1\r\n");
    for (int i = 0; i < 10; i++) { /* a request ends and the next begins in each read */
        world_wait(5000);
        world_send(H "\r\nGET /x HTTP/1.1\r\n");
    }
    assert_int_equal(world_count(world_out(), "HTTP/1.1 404 "), 10);
    assert_false(world.conn.is_ended);
}

static void draining_closes_behind_the_last_answer(void **state)
{
    (void)state;
    world_send("POST /v1/topics/a HTTP/1.1\r\n" H "\r\nPOST /v1/topics/b HTTP/1.1\r\n" H "\r\n");
    world.conn.session->ops->drain(world.conn.session);
    world_settle(0, HG_OK, "");
    assert_null(strstr(world_out(), "Connection: close"));
    world_settle(1, HG_OK, "");
    assert_has(world_out(), "Connection: close\r\n");
    assert_true(world.conn.is_finished);
}

static void draining_ends_an_idle_connection_at_once(void **state)
{
    (void)state;
    world.conn.session->ops->drain(world.conn.session);
    assert_true(world.conn.is_finished);
    assert_int_equal(world.conn.why, HG_SHUTTING_DOWN);
}

static void a_client_that_hangs_up_is_forgotten(void **state)
{
    (void)state;
    world_send("POST /v1/topics/a HTTP/1.1\r\n" H "\r\nPOST /v1/topics/b HTTP/1.1\r\n" H
               "Content-Length: 5\r\n\r\nab");
    world_hang_up();
    world_settle(0, HG_OK, "");
    world_wait(100000);
    assert_string_equal(world_out(), "");
}

/* ---- CORS ---- */

static void cors_follows_the_listener(void **state)
{
    (void)state;
    static const char *const some[] = {"https://a.example", "https://b.example"};
    static const char *const any[] = {"*"};
    world_send("GET /x HTTP/1.1\r\n" H "Origin: https://b.example\r\n\r\n");
    assert_null(strstr(world_out(), "Access-Control"));
    world.conn.listener.cors_origins = some;
    world.conn.listener.cors_origins_n = 2;
    world_send("GET /x HTTP/1.1\r\n" H "Origin: https://b.example\r\n\r\n");
    const char *out = world_out();
    assert_has(out, "Access-Control-Allow-Origin: https://b.example\r\n");
    assert_has(out, "Vary: Origin\r\n");
    world_send("GET /x HTTP/1.1\r\n" H "Origin: https://c.example\r\n\r\n");
    out = world_out();
    assert_null(strstr(out, "Access-Control"));
    assert_has(out, "Vary: Origin\r\n");
    world.conn.listener.cors_origins = any;
    world.conn.listener.cors_origins_n = 1;
    world_send("OPTIONS /v1/topics/x HTTP/1.1\r\n" H "Origin: null\r\n"
               "Access-Control-Request-Method: POST\r\n"
               "Access-Control-Request-Headers: content-type, amqp-header-a\r\n\r\n");
    out = world_out();
    assert_has(out, "HTTP/1.1 204 ");
    assert_has(out, "Access-Control-Allow-Origin: *\r\n");
    assert_has(out, "Access-Control-Allow-Methods: GET, HEAD, POST, PUT, OPTIONS\r\n");
    assert_has(out, "Access-Control-Allow-Headers: content-type, amqp-header-a\r\n");
}

static void options_of_the_server_names_all_methods(void **state)
{
    (void)state;
    world_send("OPTIONS * HTTP/1.1\r\n" H "\r\n");
    assert_has(world_out(), "Allow: GET, HEAD, POST, PUT, OPTIONS\r\n");
}

/* ---- Memory ---- */

static void no_allocation_is_missed_when_it_fails(void **state)
{
    (void)state;
    for (size_t nth = 1; nth < 60; nth++) {
        world_open(&hg_http_adapter);
        seam_fail_alloc(nth);
        world_send("POST /v1/topics/a HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nhi");
        world_settle(0, HG_OK, "");
        world_send("OPTIONS /x HTTP/1.1\r\n" H "\r\nGET /x HTTP/1.0\r\n\r\n");
        seam_fail_alloc(0);
        world.conn.in.failed = world.conn.out.failed = false;
        world_close();
    }
}

#define ON_WEB(test) cmocka_unit_test_setup_teardown(test, open_web, close_web)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_WEB(a_publish_is_answered_after_the_confirm),
        ON_WEB(a_message_is_retained_by_the_query_or_a_header),
        ON_WEB(a_generated_id_is_the_one_that_is_answered),
        ON_WEB(each_outcome_has_its_status),
        ON_WEB(a_request_that_says_nonsense_is_told_so),
        ON_WEB(a_rules_path_publishes_at_the_root),
        ON_WEB(answers_keep_the_order_of_the_requests),
        ON_WEB(a_full_pipeline_holds_the_connection),
        ON_WEB(a_client_that_does_not_read_is_not_read_from),
        cmocka_unit_test(a_conversation_is_the_same_at_every_split),
        ON_WEB(a_held_publish_goes_out_once_when_there_is_room),
        ON_WEB(a_publish_held_too_long_is_answered_503),
        ON_WEB(continue_is_said_when_the_body_is_wanted),
        ON_WEB(continue_waits_for_the_answers_before_it),
        ON_WEB(continue_is_not_said_when_it_is_not_needed),
        ON_WEB(a_body_over_the_limit_is_refused_before_it_comes),
        ON_WEB(a_malformed_request_is_answered_in_its_turn),
        ON_WEB(http_10_closes_unless_asked_otherwise),
        ON_WEB(an_idle_connection_ends_quietly),
        ON_WEB(a_client_that_still_reads_is_not_idle),
        ON_WEB(a_request_that_dribbles_is_answered_408),
        ON_WEB(each_request_has_its_own_time),
        ON_WEB(draining_closes_behind_the_last_answer),
        ON_WEB(draining_ends_an_idle_connection_at_once),
        ON_WEB(a_client_that_hangs_up_is_forgotten),
        ON_WEB(cors_follows_the_listener),
        ON_WEB(options_of_the_server_names_all_methods),
        cmocka_unit_test(no_allocation_is_missed_when_it_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
