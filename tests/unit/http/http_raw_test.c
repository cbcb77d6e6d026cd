/* SPDX-License-Identifier: Apache-2.0 */
/* raw_requests.json, at every split: what is a request and what is refused, by the whole of the web listener. The same table is
 * sent to a gateway by tests/e2e/http_server_test.py. */
#include "adapters/http/web.h"
#include "base/utf8.h"
#include "seam/seam.h"
#include "seam/unit.h"
#include "world.h"

#include <jansson.h>
#include <stdio.h>

/* Sent behind each row: it shows that the connection goes on, or that nothing more is answered. */
#define TAIL "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"

static json_t *rows;

/* The table has a byte as the code point of its number. */
static struct hg_bytes read_bytes(const json_t *text, uint8_t *out, size_t max_n)
{
    size_t out_n = 0;
    struct hg_bytes b = hg_bytes(json_string_value(text), json_string_length(text));
    while (b.n > 0) {
        uint32_t code;
        size_t n = hg_utf8_step(b, &code);
        assert_true(n > 0 && code < 256 && out_n < max_n);
        out[out_n++] = (uint8_t)code;
        b = hg_bytes_skip(b, n);
    }
    return hg_bytes(out, out_n);
}

/* "202 400" */
static void read_statuses(const char *out, char *text, size_t text_n)
{
    size_t n = 0;
    text[0] = '\0';
    for (const char *p = out; (p = strstr(p, "HTTP/1.1 ")) != NULL; p += 9) {
        if (p[9] >= '1' && p[9] <= '5' && p[12] == ' ') {
            n += (size_t)snprintf(text + n, text_n - n, "%s%.3s", n == 0 ? "" : " ", p + 9);
        }
    }
}

static void check_answers(const json_t *row, const char *out, size_t split)
{
    char want[64];
    char got[64];
    size_t n = 0;
    size_t i;
    json_t *item;
    const char *name = json_string_value(json_object_get(row, "name"));
    bool closes = json_is_true(json_object_get(row, "closes"));
    json_array_foreach(json_object_get(row, "answers"), i, item)
    {
        n += (size_t)snprintf(want + n, sizeof(want) - n, "%s%lld", n == 0 ? "" : " ",
                              (long long)json_integer_value(item));
    }
    snprintf(want + n, sizeof(want) - n, "%s", closes ? "" : " 204");
    read_statuses(out, got, sizeof(got));
    if (strcmp(got, want) != 0) {
        fail_msg("%s, split %zu: %s, not %s\n%s", name, split, got, want, out);
    }
    json_array_foreach(json_object_get(row, "has"), i, item)
    {
        assert_has(out, json_string_value(item));
    }
    if (world.conn.is_ended != closes) {
        fail_msg("%s, split %zu: %s", name, split, closes ? "goes on" : "is closed");
    }
}

static void check_publishes(const json_t *row, size_t split)
{
    const json_t *published = json_object_get(row, "published");
    const char *name = json_string_value(json_object_get(row, "name"));
    size_t i;
    json_t *item;
    if (world.publishes_n != json_array_size(published)) {
        fail_msg("%s, split %zu: %zu messages", name, split, world.publishes_n);
    }
    json_array_foreach(published, i, item)
    {
        uint8_t want[128];
        if (!hg_bytes_eq(read_bytes(item, want, sizeof(want)),
                         hg_bytes(world.publishes[i].body, world.publishes[i].body_n))) {
            fail_msg("%s, split %zu: message %zu is another", name, split, i);
        }
    }
}

static void play(const json_t *row, struct hg_bytes in, size_t split)
{
    world_open(&hg_http_adapter);
    world_send_bytes(hg_bytes(in.p, split));
    world_send_bytes(hg_bytes_skip(in, split));
    for (size_t i = 0; i < world.publishes_n; i++) {
        world_settle(i, HG_OK, "");
    }
    check_answers(row, world_out(), split);
    check_publishes(row, split);
    world_close();
}

static void every_split_of_a_raw_request_is_answered_alike(void **state)
{
    size_t i;
    json_t *row;
    (void)state;
    json_array_foreach(rows, i, row)
    {
        uint8_t bytes[4096];
        struct hg_bytes in =
            read_bytes(json_object_get(row, "send"), bytes, sizeof(bytes) - sizeof(TAIL));
        memcpy(bytes + in.n, TAIL, sizeof(TAIL) - 1);
        in.n += sizeof(TAIL) - 1;
        for (size_t split = 0; split <= in.n; split++) {
            play(row, in, split);
        }
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_split_of_a_raw_request_is_answered_alike),
    };
    json_error_t err;
    rows =
        argc == 2 ? json_load_file(argv[1], JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &err) : NULL;
    if (rows == NULL) {
        fprintf(stderr, "usage: http_raw_test raw_requests.json\n");
        return 2;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(rows);
    return failed;
}
