/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket handshakes, files and the admin site, each on one connection. */
#include "adapters/admin/admin.h"
#include "adapters/http/web.h"
#include "seam/seam.h"
#include "seam/unit.h"
#include "world.h"

#include <stdlib.h>
#include <unistd.h>

#define H   "Host: a\r\n"
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" /* RFC 6455 section 1.3 */
#define SHAKE \
    "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"

/* ---- WebSocket ---- */

static void a_handshake_is_answered_as_the_rfc_says(void **state)
{
    (void)state;
    world_open(&hg_http_adapter);
    world_send("GET /ws HTTP/1.1\r\n" H SHAKE KEY
               "Sec-WebSocket-Protocol: x, v11.stomp\r\nSec-WebSocket-Protocol: v12.stomp\r\n\r\n"
               "early");
    assert_string_equal(world_out(), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                     "Connection: Upgrade\r\n"
                                     "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                                     "Sec-WebSocket-Protocol: v12.stomp\r\n\r\n");
    assert_string_equal(world.conn.upgraded->name, "stomp");
    assert_string_equal(world.conn.subprotocol, "v12.stomp");
    assert_string_equal(world.conn.early, "early");
    world_close();
}

static void the_sub_protocol_chooses_or_else_the_path(void **state)
{
    (void)state;
    static const struct {
        const char *path, *offer, *adapter; /* NULL: 400 */
    } table[] = {
        {"/ws", "", "stomp"},
        {"/mqtt", "", NULL},
        {"/mqtt", "Sec-WebSocket-Protocol: mqtt\r\n", "mqtt"},
        {"/ws", "Sec-WebSocket-Protocol: mqttv3.1, v12.stomp\r\n", "mqtt"},
        {"/mqtt", "Sec-WebSocket-Protocol: v12.stomp\r\n", "stomp"},
        {"/ws", "Sec-WebSocket-Protocol: soap\r\n", NULL},
        {"/ws", "Sec-WebSocket-Protocol: V12.STOMP\r\n", NULL},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char request[400];
        world_open(&hg_http_adapter);
        snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n" H SHAKE KEY "%s\r\n",
                 table[i].path, table[i].offer);
        world_send(request);
        if (table[i].adapter != NULL) {
            assert_has(world_out(), "HTTP/1.1 101 ");
            assert_string_equal(world.conn.upgraded->name, table[i].adapter);
            assert_int_equal(world.conn.subprotocol != NULL, table[i].offer[0] != '\0');
        } else {
            assert_has(world_out(), "HTTP/1.1 400 ");
            assert_false(world.conn.is_ended);
        }
        world_close();
    }
}

static void a_handshake_that_is_wrong_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *request, *line;
    } table[] = {
        {"GET /ws HTTP/1.1\r\n" H, "426 Upgrade Required"},
        {"GET /ws HTTP/1.1\r\n" H "Upgrade: h2c\r\nConnection: Upgrade\r\n", "426 "},
        {"GET /ws HTTP/1.1\r\n" H "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" KEY,
         "426 "},
        {"GET /ws HTTP/1.0\r\n" SHAKE KEY, "426 "},
        {"GET /ws HTTP/1.1\r\n" H "Upgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Version: 8\r\n" KEY,
         "426 "},
        {"GET /ws HTTP/1.1\r\n" H SHAKE, "400 "},
        {"GET /ws HTTP/1.1\r\n" H SHAKE KEY KEY, "400 "},
        {"GET /ws HTTP/1.1\r\n" H SHAKE "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n", "400 "},
        {"GET /ws HTTP/1.1\r\n" H SHAKE "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n", "400 "},
        {"HEAD /ws HTTP/1.1\r\n" H SHAKE KEY, "400 "},
        {"POST /ws HTTP/1.1\r\n" H SHAKE KEY, "405 "},
        {"GET /wss HTTP/1.1\r\n" H SHAKE KEY, "404 "},
        {"GET /ws HTTP/1.1\r\n" SHAKE KEY, "400 "},
        {"GET /ws HTTP/1.1\r\n" H SHAKE KEY "Sec-WebSocket-Version: 13\r\n", "400 "},
        {"GET /ws HTTP/1.1\r\n" H SHAKE KEY "Sec-WebSocket-Protocol: v12 stomp\r\n", "400 "},
        {"GET /ws HTTP/1.1\r\n" H SHAKE KEY "Sec-WebSocket-Protocol: \"v12.stomp\"\r\n", "400 "},
        {"GET /ws HTTP/1.1\r\n" H SHAKE KEY "Sec-WebSocket-Extensions: a b\r\n", "400 "},
        {"GET /ws HTTP/1.1\r\n" H SHAKE KEY "Sec-WebSocket-Extensions: a;\r\n", "400 "},
        {"GET /ws HTTP/1.1\r\n" H SHAKE KEY "Sec-WebSocket-Extensions: a; b=\r\n", "400 "},
        {"GET /ws HTTP/1.1\r\n" H SHAKE KEY "Sec-WebSocket-Extensions: a; b=\"c d\"\r\n", "400 "},
        {"GET /ws HTTP/1.1\r\n" H SHAKE KEY "Sec-WebSocket-Extensions: a; b=\"c\r\n", "400 "},
        {"GET /ws HTTP/1.1\r\n" H SHAKE KEY "Sec-WebSocket-Extensions: ;b\r\n", "400 "},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        world_open(&hg_http_adapter);
        world_send(table[i].request);
        world_send("\r\n");
        const char *out = world_out();
        assert_has(out, table[i].line);
        if (strncmp(table[i].line, "426", 3) == 0) {
            assert_has(out, "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                            "Sec-WebSocket-Version: 13\r\n");
        }
        assert_null(world.conn.upgraded);
        world_close();
    }
}

static void no_extension_is_agreed_to(void **state)
{
    (void)state;
    static const char *const offers[] = {
        "permessage-deflate", "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_max_window_bits=10 , x; y=\"\\z1\"; q , , w"};
    for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++) {
        char request[400];
        world_open(&hg_http_adapter);
        snprintf(request, sizeof(request),
                 "GET /ws HTTP/1.1\r\n" H SHAKE KEY "Sec-WebSocket-Extensions: %s\r\n\r\n",
                 offers[i]);
        world_send(request);
        assert_has(world_out(), "HTTP/1.1 101 ");
        assert_null(strstr(world_out(), "Extensions"));
        world_close();
    }
}

static void pages_of_other_origins_are_refused(void **state)
{
    (void)state;
    static const char *const list[] = {"https://app.example.org", "http://b:8080", "null"};
    static const char *const any[] = {"*"};
    static const struct {
        const char *const *origins;
        size_t origins_n;
        const char *fields;
        bool is_welcome;
    } table[] = {
        {NULL, 0, "Host: a\r\n", true},
        {NULL, 0, "Host: a\r\nOrigin: http://a\r\n", true},
        {NULL, 0, "Host: A:8080\r\nOrigin: HTTP://a:8080\r\n", true},
        {NULL, 0, "Host: a\r\nOrigin: https://a\r\n", true}, /* a proxy ended TLS */
        {NULL, 0, "Host: a:443\r\nOrigin: https://a\r\n", true},
        {NULL, 0, "Host: a\r\nOrigin: http://a:80\r\n", true},
        {NULL, 0, "Host: a:443\r\nOrigin: http://a\r\n", false},
        {NULL, 0, "Host: a:8080\r\nOrigin: http://a\r\n", false},
        {NULL, 0, "Host: a\r\nOrigin: http://b\r\n", false},
        {NULL, 0, "Host: a\r\nOrigin: http://a.b\r\n", false},
        {NULL, 0, "Host: a\r\nOrigin: null\r\n", false},
        {NULL, 0, "Host: a\r\nOrigin: a\r\n", false},
        {NULL, 0, "Host: a\r\nOrigin:\r\n", false},
        {NULL, 0, "Host: a\r\nOrigin: http://a\r\nOrigin: http://a\r\n", false},
        {list, 3, "Host: a\r\nOrigin: https://app.example.org\r\n", true},
        {list, 3, "Host: a\r\nOrigin: http://b:8080\r\n", true},
        {list, 3, "Host: a\r\nOrigin: null\r\n", true},
        {list, 3, "Host: a\r\nOrigin: http://app.example.org\r\n", false},
        {list, 3, "Host: a\r\nOrigin: http://a\r\n", false},
        {list, 3, "Host: a\r\n", true},
        {any, 1, "Host: a\r\nOrigin: http://b\r\n", true},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char request[400];
        world_open(&hg_http_adapter);
        world.conn.listener.origins = table[i].origins;
        world.conn.listener.origins_n = table[i].origins_n;
        snprintf(request, sizeof(request), "GET /ws HTTP/1.1\r\n%s" SHAKE KEY "\r\n",
                 table[i].fields);
        world_send(request);
        const char *out = world_out();
        if (table[i].is_welcome) {
            assert_has(out, "HTTP/1.1 101 ");
        } else {
            assert_has(out, "HTTP/1.1 403 Forbidden\r\n");
            assert_has(out, "Content-Type: application/problem+json\r\n");
            assert_has(out, "\"code\":\"NOT_ALLOWED\"");
            assert_null(world.conn.upgraded);
            assert_false(world.conn.is_ended);
        }
        world_close();
    }
}

static void websockets_open_on_the_configured_paths(void **state)
{
    (void)state;
    static const char *const paths[] = {"/", "/live/stomp", "/live/mqtt"};
    static const struct {
        const char *request, *line;
    } table[] = {
        {"GET / HTTP/1.1\r\n" H SHAKE KEY, "101 "},
        {"GET / HTTP/1.1\r\n" H, "404 "}, /* no page is there, but could be */
        {"GET /live/stomp?a=b HTTP/1.1\r\n" H SHAKE KEY, "101 "},
        {"GET /live/stomp HTTP/1.1\r\n" H, "426 "},
        {"GET /live/mqtt HTTP/1.1\r\n" H SHAKE KEY, "400 "},
        {"GET /live/mqtt HTTP/1.1\r\n" H SHAKE KEY "Sec-WebSocket-Protocol: mqtt\r\n", "101 "},
        {"GET /live/stom HTTP/1.1\r\n" H SHAKE KEY, "404 "},
        {"GET /ws HTTP/1.1\r\n" H SHAKE KEY, "404 "},
        {"GET /mqtt HTTP/1.1\r\n" H SHAKE KEY "Sec-WebSocket-Protocol: mqtt\r\n", "404 "},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        world_open(&hg_http_adapter);
        world.conn.listener.websocket_paths = paths;
        world.conn.listener.websocket_paths_n = 3;
        world_send(table[i].request);
        world_send("\r\n");
        assert_has(world_out(), table[i].line);
        world_close();
    }
}

static void an_upgrade_waits_for_the_answers_before_it(void **state)
{
    (void)state;
    world_open(&hg_http_adapter);
    world_send("POST /v1/topics/a HTTP/1.1\r\n" H "\r\nGET /ws HTTP/1.1\r\n" H SHAKE KEY
               "\r\nearly");
    assert_null(world.conn.upgraded);
    assert_int_equal(world.conn.held, HG_HOLD_SESSION);
    world_settle(0, HG_OK, "");
    const char *out = world_out();
    assert_true(strstr(out, "HTTP/1.1 202 ") < strstr(out, "HTTP/1.1 101 "));
    assert_non_null(world.conn.upgraded);
    assert_string_equal(world.conn.early, "early");
    world_close();
}

/* ---- Files ---- */

static char folder[] = "/tmp/hg_static_XXXXXX";

static void write_file(const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void shell(const char *script)
{
    char command[400];
    snprintf(command, sizeof(command), "cd %s && %s", folder, script);
    assert_int_equal(system(command), 0);
}

static int make_folder(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    shell("mkdir chat && ln -s /etc/passwd link");
    write_file("index.html", "<p>root");
    write_file("chat/index.html", "<p>chat");
    write_file("chat/a b.js", "x");
    write_file(".secret", "no");
    shell("ln -s index.html inside && mkfifo fifo");
    shell("truncate -s 4194305 large && truncate -s 0 empty");
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    shell("rm -r ../$(basename $PWD)");
    return 0;
}

static void files_of_the_folder_are_served_and_no_others(void **state)
{
    (void)state;
    static const struct {
        const char *target, *has, *has_too;
    } table[] = {
        {"GET /", "200 OK", "text/html; charset=utf-8\r\nCache-Control: no-cache"},
        {"GET /index.html?v=1", "200 OK", "\r\n\r\n<p>root"},
        {"GET /chat/", "200 OK", "<p>chat"},
        {"GET /chat", "301 Moved Permanently", "Location: /chat/\r\n"},
        {"GET /chat/a%20b.js", "text/javascript", "\r\n\r\nx"},
        {"GET /inside", "200 OK", "<p>root"},
        {"GET /empty", "Content-Length: 0\r\n", "200 OK"},
        {"HEAD /", "Content-Length: 7\r\n", "200 OK"},
        {"GET /none", "404 ", "no such file"},
        {"GET /.secret", "404 ", ""},
        {"GET /%2esecret", "404 ", ""},
        {"GET /../etc/passwd", "404 ", ""},
        {"GET /chat/%2e%2e/index.html", "404 ", ""},
        {"GET /..%2fetc/passwd", "404 ", ""},
        {"GET //chat", "404 ", ""},
        {"GET /link", "404 ", ""},
        {"GET /fifo", "404 ", ""},
        {"GET /large", "500 ", "4 MiB"},
        {"DELETE /v1/topics/x", "405 ", "Allow: GET, HEAD, POST, PUT, OPTIONS"},
        {"POST /index.html", "404 ", ""},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char request[300];
        world_open(&hg_http_adapter);
        world.config.http_static_dir = folder;
        snprintf(request, sizeof(request), "%s HTTP/1.1\r\n" H "\r\n", table[i].target);
        world_send(request);
        const char *out = world_out();
        assert_has(out, table[i].has);
        assert_has(out, table[i].has_too);
        if (table[i].target[0] == 'H') {
            assert_null(strstr(out, "<p>"));
        }
        world_close();
    }
}

/* ---- Admin ---- */

static const char *ask_admin(const char *path)
{
    char request[200];
    snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n" H "\r\n", path);
    world_send(request);
    return world_out();
}

static void the_admin_site_tells_how_it_is(void **state)
{
    (void)state;
    world_open(&hg_admin_adapter);
    assert_has(ask_admin("/healthz"), "\r\n\r\nok\n");
    assert_has(ask_admin("/metrics"), "headgate_connections 1\n");
    const char *out = ask_admin("/api/status");
    assert_has(out, "{\"name\":\"gw-test\",\"version\":\"");
    assert_has(out, "\"uptime_s\":5,\"draining\":false,\"rules\":3,\"workers\":[{\"worker\":0,"
                    "\"state\":\"ready\",\"upstream_up\":true,\"window_messages\":0,");
    assert_has(out, "\"state\":null,\"configuration\":{\"loaded_unix_s\":");
    world.state = (struct hg_state_stats){
        .is_enabled = true, .is_ready = true, .index = {.last_offset = 7, .retained_n = 3}};
    world.config.state_log = "headgate.state";
    assert_has(ask_admin("/api/status"),
               "\"state\":{\"log\":\"headgate.state\",\"ready\":true,\"leader\":false,\"offset\":7,"
               "\"replay_ms\":0,\"retained\":3,\"sessions\":0,\"sessions_connected\":0,"
               "\"digest\":\"0000000000000abc\"},\"configuration\"");
    out = ask_admin("/api/rules");
    assert_has(out, "[{\"name\":\"orders\",\"patterns\":{\"mqtt\":null,\"stomp\":null,"
                    "\"http\":\"/orders/{id}\"},\"exchange\":\"shop\",\"queue\":null,");
    assert_has(out,
               "\"escape\":\"plain\",\"slow\":\"drop-new\",\"mandatory\":false,\"builtin\":true");
    assert_has(ask_admin("/"), "<title>Headgate</title>");
    assert_has(ask_admin("/ws"), "HTTP/1.1 404 ");
    world_send("POST /healthz HTTP/1.1\r\n" H "\r\n");
    assert_has(world_out(), "Allow: GET, HEAD, OPTIONS\r\n");
    world_close();
}

static void readiness_says_what_is_missing(void **state)
{
    (void)state;
    world_open(&hg_admin_adapter);
    assert_has(ask_admin("/readyz"), "200 OK");
    world.realm.is_up = false;
    world.gateway.is_draining = true;
    const char *out = ask_admin("/readyz");
    assert_has(out, "503 Service Unavailable");
    assert_has(out, "{\"ready\":false,\"reasons\":[\"draining\","
                    "\"worker 0: RabbitMQ is not connected\"]}");
    world.realm.is_up = true;
    world.gateway.is_draining = false;
    world.state.is_enabled = true;
    assert_has(ask_admin("/readyz"), "[\"the state log is not read up to its end\"]}");
    world.state.is_ready = true;
    assert_has(ask_admin("/readyz"), "200 OK");
    world_close();
}

static void connections_come_from_every_worker(void **state)
{
    (void)state;
    world_open(&hg_admin_adapter);
    assert_string_equal(ask_admin("/api/connections"), "");
    world_gather();
    assert_has(world_out(), "\r\n\r\n[{\"worker\":0}]\n");
    ask_admin("/api/connections");
    world_hang_up();
    assert_null(world.gather_ask); /* nobody is told after the end */
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_handshake_is_answered_as_the_rfc_says),
        cmocka_unit_test(the_sub_protocol_chooses_or_else_the_path),
        cmocka_unit_test(a_handshake_that_is_wrong_is_refused),
        cmocka_unit_test(no_extension_is_agreed_to),
        cmocka_unit_test(pages_of_other_origins_are_refused),
        cmocka_unit_test(websockets_open_on_the_configured_paths),
        cmocka_unit_test(an_upgrade_waits_for_the_answers_before_it),
        cmocka_unit_test_setup_teardown(files_of_the_folder_are_served_and_no_others, make_folder,
                                        remove_folder),
        cmocka_unit_test(the_admin_site_tells_how_it_is),
        cmocka_unit_test(readiness_says_what_is_missing),
        cmocka_unit_test(connections_come_from_every_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
