/* SPDX-License-Identifier: Apache-2.0 */
/* A session record survives its JSON, whatever bytes are in it. */
#include "core/session_record.h"

#include "seam/seam.h"
#include "seam/unit.h"

/* As HG_BYTES, for constants. */
#define TEXT(literal)                                   \
    {                                                   \
        (const uint8_t *)(literal), sizeof(literal) - 1 \
    }

static const struct hg_header headers[] = {
    {TEXT("n"), {.kind = HG_VALUE_NULL}},
    {TEXT("b"), {.kind = HG_VALUE_BOOL, .u.b = true}},
    {TEXT("i"), {.kind = HG_VALUE_INT, .u.i = INT64_MIN}},
    {TEXT("d"), {.kind = HG_VALUE_DOUBLE, .u.d = 0.1}},
    {TEXT("t"), {.kind = HG_VALUE_TIMESTAMP, .u.timestamp_s = 1700000000}},
    {TEXT("s"), {.kind = HG_VALUE_STRING, .u.bytes = TEXT("a \"quote\" \\ \n \xc3\xa4")}},
    {TEXT("x"), {.kind = HG_VALUE_BINARY, .u.bytes = TEXT("\xff\x00\xfe")}},
    {TEXT("j"), {.kind = HG_VALUE_JSON, .u.bytes = TEXT("[1,{\"a\":null}]")}},
};
static const struct hg_session_filter filters[] = {
    {.filter = TEXT("a/+/#"), .subscription_id = 268435455, .qos = 2, .retain_handling = 2},
    {.filter = TEXT("$share/g/\xe2\x82\xac"), .qos = 1, .is_no_local = true},
    {.filter = TEXT("b"), .is_retain_as_published = true},
};
static const struct hg_session_tx tx[] = {
    {.fingerprint = UINT64_MAX, .packet_id = 65535, .is_released = true},
    {.fingerprint = 1, .packet_id = 7},
};
static const uint16_t rx[] = {1, 65535};

static const struct hg_session_record full = {
    .user = TEXT("\xc3\xa4nne"),
    .instance = TEXT("gw-1"),
    .expiry_ms = 4294967294000,
    .disconnected_ms = 1767323045678,
    .will_at_ms = 1767323050000,
    .inherits = true,
    .has_will = true,
    .will = {.topic = TEXT("w/t"),
             .payload = TEXT("\x00\x80\xff"),
             .properties = {.content_type = TEXT("text/plain"),
                            .correlation_id = TEXT("\xff\xfe"),
                            .reply_to = TEXT("r"),
                            .expiration = TEXT("1000"),
                            .message_id = TEXT("m/1"),
                            .timestamp_s = 0,
                            .has_timestamp = true,
                            .has_priority = true,
                            .priority = 0,
                            .delivery_mode = 2,
                            .headers = headers,
                            .headers_n = sizeof(headers) / sizeof(headers[0])},
             .is_retained = true,
             .delay_ms = 30000},
    .filters = filters,
    .filters_n = 3,
    .rx = rx,
    .rx_n = 2,
    .tx = tx,
    .tx_n = 2,
};
static const struct hg_session_record bare = {.expiry_ms = UINT64_MAX};

static void check_equal(const struct hg_session_record *a, const struct hg_session_record *b)
{
    struct hg_writer x = {0};
    struct hg_writer y = {0};
    hg_session_record_write(a, &x);
    hg_session_record_write(b, &y);
    assert_bytes(hg_writer_view(&x), hg_writer_n(&y), hg_writer_view(&y).p);
    hg_writer_close(&x);
    hg_writer_close(&y);
}

static struct hg_session_record *read_back(const struct hg_session_record *r)
{
    struct hg_writer w = {0};
    const char *why = NULL;
    hg_session_record_write(r, &w);
    struct hg_session_record *back = hg_session_record_read(hg_writer_view(&w), &why);
    hg_writer_close(&w);
    return back;
}

static void a_record_survives_its_json(void **state)
{
    (void)state;
    struct hg_session_record *r = read_back(&full);
    assert_non_null(r);
    check_equal(r, &full);
    assert_int_equal(r->expiry_ms, full.expiry_ms);
    assert_text(r->user, "\xc3\xa4nne");
    assert_bytes(r->will.payload, 3, "\x00\x80\xff");
    assert_bytes(r->will.properties.correlation_id, 2, "\xff\xfe");
    assert_int_equal(r->will.properties.headers_n, 8);
    assert_true(r->will.properties.headers[2].value.u.i == INT64_MIN);
    assert_true(r->will.properties.headers[3].value.u.d == 0.1);
    assert_bytes(r->will.properties.headers[6].value.u.bytes, 3, "\xff\x00\xfe");
    assert_true(r->will.properties.has_timestamp && r->will.properties.has_priority);
    assert_text(r->filters[1].filter, "$share/g/\xe2\x82\xac");
    assert_int_equal(r->filters[0].subscription_id, 268435455);
    assert_true(r->tx[0].fingerprint == UINT64_MAX && r->tx[0].is_released);
    assert_int_equal(r->rx[1], 65535);
    struct hg_session_record *copy = hg_session_record_copy(r);
    hg_session_record_free(r);
    check_equal(copy, &full);
    hg_session_record_free(copy);
    r = read_back(&bare);
    check_equal(r, &bare);
    assert_true(r->expiry_ms == UINT64_MAX && !r->has_will && r->filters_n == 0);
    hg_session_record_free(r);
}

static void what_another_version_wrote_is_read(void **state)
{
    static const struct {
        const char *body;
        bool is_record;
    } cases[] = {
        {"{}", true},
        {"{\"new\":{\"a\":[1]},\"expiry_ms\":5}", true},
        {"{\"filters\":7,\"rx\":\"x\",\"tx\":{},\"will\":3}", true},
        {"{\"rx\":[-1,\"a\",70000],\"tx\":[1,[],[1,2,3]],\"filters\":[1,{}]}", true},
        {"{\"will\":{\"headers\":[1,{\"kind\":\"later\"}],\"payload\":{\"base64\":\"=\"}}}", true},
        {"", false},
        {"[]", false},
        {"{\"a\":", false},
        {"{\"user\":\"\xff\"}", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *why = NULL;
        struct hg_session_record *r = hg_session_record_read(hg_bytes_str(cases[i].body), &why);
        if ((r != NULL) != cases[i].is_record || (why == NULL) != cases[i].is_record) {
            fail_msg("%s", cases[i].body);
        }
        hg_session_record_free(r);
    }
}

static void without_memory_there_is_no_record(void **state)
{
    (void)state;
    struct hg_writer w = {0};
    size_t live = seam_live();
    hg_session_record_write(&full, &w);
    for (size_t n = 1;; n++) {
        const char *why = "";
        seam_fail_alloc(n);
        struct hg_session_record *r = hg_session_record_read(hg_writer_view(&w), &why);
        bool has_failed = seam_allocs() >= n;
        seam_fail_alloc(0);
        assert_true((r == NULL) == has_failed);
        assert_true(why == NULL);
        hg_session_record_free(r);
        if (!has_failed) {
            break;
        }
    }
    hg_writer_close(&w);
    assert_int_equal(seam_live(), live);
}

static void the_queue_is_named_as_the_plugin_names_it(void **state)
{
    (void)state;
    char id[300];
    uint8_t out[HG_SESSION_QUEUE_NAME_MAX];
    memset(id, 'x', sizeof(id));
    assert_text(hg_session_record_queue_name(HG_BYTES("c1"), out), "mqtt-subscription-c1qos1");
    assert_int_equal(hg_session_record_queue_name(hg_bytes(id, 233), out).n, 255);
    assert_text(hg_session_record_queue_name(hg_bytes(id, 234), out),
                "mqtt-subscription-"
                "5e49947899449e853405aa8c52d35998bcc003fd1299e721f6990b38a698ca6c"
                "qos1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_survives_its_json),
        cmocka_unit_test(what_another_version_wrote_is_read),
        cmocka_unit_test(without_memory_there_is_no_record),
        cmocka_unit_test(the_queue_is_named_as_the_plugin_names_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
