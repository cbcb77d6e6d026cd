/* SPDX-License-Identifier: Apache-2.0 */
/* Who makes a request: what is read of it, what it waits for, and that one request's user is not the
 * next one's. The world's passwords and tokens are all "secret". */
#include "adapters/http/web.h"
#include "core/identity.h"
#include "seam/unit.h"
#include "world.h"

#include <stdio.h>

#define H     "Host: x\r\n"
#define POST  "POST /v1/topics/a HTTP/1.1\r\n" H "Content-Length: 2\r\n"
#define ALICE "Authorization: Basic YWxpY2U6c2VjcmV0\r\n"
#define WRONG "Authorization: Basic YWxpY2U6d3Jvbmc=\r\n"
#define TOKEN "Authorization: Bearer secret\r\n"
#define UPGRADE                                                                    \
    H "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

static uint8_t keys;

static void open_site(void)
{
    world_open(&hg_http_adapter);
    world.config.has_identities = true;
    world.config.users.token.keys = (struct hg_token_keys *)(void *)&keys;
    world.config.users.asks_broker = true;
    world.config.users.max_failures = 10;
    world.login_status = HG_BAD_LOGIN;
}

static void a_request_says_who_makes_it(void **state)
{
    (void)state;
    static const struct {
        const char *fields;
        unsigned status;
        const char *user;
    } rows[] = {
        {ALICE, 202, "alice"},
        {"authorization: basic   YWxpY2U6c2VjcmV0\r\n", 202, "alice"},
        {TOKEN, 202, ""},
        {WRONG, 401, ""},
        {"", 401, ""},
        {"Authorization: Basic YWxpY2U\r\n", 401, ""},  /* no base64 */
        {"Authorization: Basic YWxpY2U=\r\n", 401, ""}, /* no colon */
        {"Authorization: Digest x\r\n", 401, ""},
        {"Authorization: Bearer\r\n", 401, ""},
        {ALICE TOKEN, 401, ""}, /* which of them? */
        {"Cookie: token=secret\r\n", 401, ""},
        {"Sec-WebSocket-Protocol: bearer.secret\r\n", 401, ""},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char request[512], want[16];
        open_site();
        world.config.users.cookie = "token";
        snprintf(request, sizeof(request), POST "%s\r\nhi", rows[i].fields);
        world_send(request);
        bool is_taken = rows[i].status == 202;
        assert_int_equal(world.publishes_n, is_taken);
        if (is_taken) {
            assert_true(hg_bytes_eq(hg_identity_user(world.conn.session->identity),
                                    hg_bytes_str(rows[i].user)));
            world_settle(0, HG_OK, "");
        }
        snprintf(want, sizeof(want), "HTTP/1.1 %u", rows[i].status);
        assert_has(world_out(), want);
        world_close();
    }
}

static void a_refusal_says_what_would_do(void **state)
{
    (void)state;
    static const struct {
        enum hg_status status;
        const char *fields, *want;
    } rows[] = {
        {HG_BAD_LOGIN, "",
         "WWW-Authenticate: Bearer realm=\"headgate\"\r\nWWW-Authenticate: Basic"},
        {HG_BAD_LOGIN, "Authorization: Bearer x\r\n",
         "realm=\"headgate\", error=\"invalid_token\""},
        {HG_EXPIRED, "", "\"code\":\"EXPIRED\""},
        {HG_TOO_MANY, "", "Retry-After: 7\r\n"},
        {HG_BUSY, "", "HTTP/1.1 503"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char request[512];
        open_site();
        world.login_status = rows[i].status;
        snprintf(request, sizeof(request), POST "%s\r\nhi", rows[i].fields);
        world_send(request);
        assert_has(world_out(), rows[i].want);
        world_close();
    }
}

static void a_request_waits_for_its_login_wherever_it_is_cut(void **state)
{
    (void)state;
    static const char request[] = POST ALICE "\r\nhi" POST "\r\nho";
    for (size_t cut = 0; cut < sizeof(request); cut++) {
        open_site();
        world.login_status = HG_HELD;
        world_send_bytes(hg_bytes(request, cut));
        world_send_bytes(hg_bytes(request + cut, sizeof(request) - 1 - cut));
        assert_int_equal(world.publishes_n, 0);
        assert_string_equal(world_out(), "");
        world_wait(60000);                 /* however long it takes */
        world.login_status = HG_BAD_LOGIN; /* of who says nothing */
        world_release(HG_HOLD_LOGIN);
        assert_int_equal(world.publishes_n, 1);
        assert_string_equal(world.publishes[0].body, "hi");
        world_settle(0, HG_OK, "");
        const char *out = world_out();
        assert_has(out, "HTTP/1.1 202");
        assert_int_equal(world_count(out, "HTTP/1.1 401"), 1); /* the second is not alice's */
        world_close();
    }
}

static void the_same_again_on_the_same_connection_is_not_checked_again(void **state)
{
    (void)state;
    open_site();
    for (size_t i = 0; i < 3; i++) {
        world_send(POST ALICE "\r\nhi");
        assert_int_equal(world.publishes_n, i + 1);
        world_settle(i, HG_OK, "");
    }
    assert_int_equal(world.logins_n, 1);
    world_send(POST WRONG "\r\nhi");
    assert_int_equal(world.logins_n, 2);
    world_send(POST ALICE "\r\nhi");
    assert_int_equal(world.logins_n, 3);
    assert_int_equal(world.publishes_n, 4);
    world_settle(3, HG_OK, "");
    world_close();
}

static void no_body_is_awaited_of_a_stranger(void **state)
{
    (void)state;
    open_site();
    world_send("POST /v1/topics/a HTTP/1.1\r\n" H
               "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    const char *out = world_out();
    assert_has(out, "HTTP/1.1 401");
    assert_has(out, "Connection: close");
    world_close();
    open_site();
    world_send("POST /v1/topics/a HTTP/1.1\r\n" H ALICE
               "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_has(world_out(), "HTTP/1.1 100 Continue");
    world_send("hello");
    assert_int_equal(world.publishes_n, 1);
    world_settle(0, HG_OK, "");
    world_close();
}

static void what_everybody_may_see_asks_nobody(void **state)
{
    (void)state;
    open_site();
    world_send("GET /v1/openapi.json HTTP/1.1\r\n" H "\r\n"
               "OPTIONS /v1/topics/a HTTP/1.1\r\n" H "\r\n"
               "GET /nowhere HTTP/1.1\r\n" H "\r\n");
    const char *out = world_out();
    assert_has(out, "HTTP/1.1 200");
    assert_has(out, "HTTP/1.1 204");
    assert_has(out, "HTTP/1.1 404");
    assert_int_equal(world.logins_n, 0);
    world_close();
}

static void a_handshake_brings_its_token_in_several_ways(void **state)
{
    (void)state;
    static const struct {
        const char *target, *fields;
        unsigned status, logins_n;
    } rows[] = {
        {"/ws", "", 101, 0}, /* CONNECT will say */
        {"/ws", ALICE, 101, 1},
        {"/ws", WRONG, 401, 1},
        {"/ws", "Cookie: a=b; token=secret; c=d\r\n", 101, 1},
        {"/ws", "Cookie: a=b;token=wrong\r\n", 401, 1},
        {"/ws", "Cookie: xtoken=secret\r\n", 101, 0},
        {"/ws?access_token=secret", "", 101, 1},
        {"/ws?x=y&access_token=s%65cret", "", 101, 1},
        {"/ws?access_token=wrong", "", 401, 1},
        {"/ws?access_token=wrong", TOKEN, 101, 1}, /* the first that is there decides */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char request[1024], want[16];
        open_site();
        world.config.users.cookie = "token";
        world.config.users.query = "access_token";
        snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n" UPGRADE "%s\r\n", rows[i].target,
                 rows[i].fields);
        snprintf(want, sizeof(want), "HTTP/1.1 %u", rows[i].status);
        world_send(request);
        assert_has(world_out(), want);
        assert_int_equal(world.logins_n, rows[i].logins_n);
        world_close();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_says_who_makes_it),
        cmocka_unit_test(a_refusal_says_what_would_do),
        cmocka_unit_test(a_request_waits_for_its_login_wherever_it_is_cut),
        cmocka_unit_test(the_same_again_on_the_same_connection_is_not_checked_again),
        cmocka_unit_test(no_body_is_awaited_of_a_stranger),
        cmocka_unit_test(what_everybody_may_see_asks_nobody),
        cmocka_unit_test(a_handshake_brings_its_token_in_several_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
