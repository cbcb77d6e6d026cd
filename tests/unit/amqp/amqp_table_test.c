/* SPDX-License-Identifier: Apache-2.0 */
/* Field tables: every type in both directions, and what hostile ones come to. */
#include "amqp/amqp_table.h"

#include "rig.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>

struct table_case {
    const char *hex;  /* the inside of a table: name, type, value … */
    const char *text; /* kind name=value of each header; NULL: broken */
};

static const struct table_case read_cases[] = {
    {"", ""},
    {"01 61 74 01", "BOOL a=true\n"},
    {"01 61 74 00", "BOOL a=false\n"},
    {"01 61 62 80", "INT a=-128\n"},
    {"01 61 42 ff", "INT a=255\n"},
    {"01 61 73 8000", "INT a=-32768\n"},
    {"01 61 75 ffff", "INT a=65535\n"},
    {"01 61 49 80000000", "INT a=-2147483648\n"},
    {"01 61 69 ffffffff", "INT a=4294967295\n"},
    {"01 61 6c 8000000000000000", "INT a=-9223372036854775808\n"},
    {"01 61 4c 7fffffffffffffff", "INT a=9223372036854775807\n"},
    {"01 61 4c ffffffffffffffff", "STRING a=18446744073709551615\n"}, /* past int64 */
    {"01 61 66 3fc00000", "DOUBLE a=1.5\n"},
    {"01 61 64 3fb999999999999a", "DOUBLE a=0.1\n"},
    {"01 61 44 02 0000007b", "DOUBLE a=1.23\n"}, /* decimal: 123, scale 2 */
    {"01 61 54 000000006553f100", "TIMESTAMP a=1700000000\n"},
    {"01 61 53 00000002 c3a9", "STRING a=\xc3\xa9\n"},
    {"01 61 53 00000002 ff00", "BINARY a=/wA=\n"}, /* a longstr that is not UTF-8 */
    {"01 61 78 00000002 4142", "BINARY a=QUI=\n"},
    {"01 61 56", "NULL a=\n"},
    {"01 61 46 00000000", "JSON a={}\n"},
    {"01 61 41 00000000", "JSON a=[]\n"},
    {"00 74 01", "BOOL =true\n"}, /* an empty name */
    {"01 61 41 0000001f"          /* array of 31 bytes */
     "6c 0000000000000001 64 3ff0000000000000 56 74 01 53 00000005 2201 61 62 63",
     "JSON a=[1,1.0,null,true,\"\\\"\\u0001abc\"]\n"},
    {"01 61 46 0000001b 01 6b 54 0000000000000007 01 78 78 00000002 ff00 01 6e 66 7f80 0000",
     "JSON a={\"k\":7,\"x\":\"/wA=\",\"n\":null}\n"}, /* infinity has no JSON */
    {"01 61 41 00000009 4c ffffffffffffffff", "JSON a=[18446744073709551615]\n"},
    {"01 61 46 0000000b 01 62 46 00000004 01 63 74 00", "JSON a={\"b\":{\"c\":false}}\n"},
    {"01 61 46 00000000 01 62 74 01 01 63 41 00000001 56 01 64 53 00000001 7a",
     "JSON a={}\nBOOL b=true\nJSON c=[null]\nSTRING d=z\n"},
    /* broken */
    {"01", NULL},
    {"01 61", NULL},
    {"02 61", NULL},
    {"01 61 7a 00", NULL},
    {"01 61 74", NULL},
    {"01 61 6c 00000000000000", NULL},
    {"01 61 53 00000002 61", NULL},
    {"01 61 53 ffffffff 61", NULL},
    {"01 61 46 00000001", NULL},
    {"01 61 46 00000003 01 62 74 01", NULL}, /* the inner value runs over its table */
    {"01 61 41 00000001 7a", NULL},
};

static const char *const kinds[] = {"NULL",      "BOOL",   "INT",    "DOUBLE",
                                    "TIMESTAMP", "STRING", "BINARY", "JSON"};

static void write_headers(struct hg_writer *w, const struct hg_header *headers, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        hg_writer_printf(w, "%s %.*s=", kinds[headers[i].value.kind],
                         HG_BYTES_FMT(headers[i].name));
        hg_value_write_text(w, &headers[i].value);
        hg_writer_u8(w, '\n');
    }
}

/* With its length in front. */
static void write_table(struct hg_writer *w, const char *hex)
{
    hg_writer_u32(w, 0);
    rig_hex(w, hex);
    size_t n = hg_writer_n(w) - 4;
    w->buf->data[2] = (uint8_t)(n >> 8);
    w->buf->data[3] = (uint8_t)n;
}

static void read_case(const struct table_case *c)
{
    struct hg_writer in = {0}, json = {0}, text = {0};
    write_table(&in, c->hex);
    size_t n = 0;
    enum hg_amqp_table_shape shape = hg_amqp_table_check(hg_writer_view(&in), &n);
    assert_int_equal(shape, c->text == NULL ? HG_AMQP_TABLE_BROKEN : HG_AMQP_TABLE_SOUND);
    if (c->text != NULL) {
        assert_int_equal(n, hg_writer_n(&in));
        amqp_pool_t pool;
        init_amqp_pool(&pool, 4096);
        amqp_table_t table;
        size_t at = 0;
        assert_int_equal(amqp_decode_table(hg_amqp_bytes(hg_writer_view(&in)), &pool, &table, &at),
                         0);
        const struct hg_header *headers;
        assert_true(hg_amqp_table_read(&table, &pool, &json, &headers));
        write_headers(&text, headers, (size_t)table.num_entries);
        assert_text(hg_writer_view(&text), c->text);
        empty_amqp_pool(&pool);
    }
    hg_writer_close(&in);
    hg_writer_close(&json);
    hg_writer_close(&text);
}

static void every_field_type_becomes_a_header(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof read_cases / sizeof read_cases[0]; i++) {
        read_case(&read_cases[i]);
    }
}

/* depth tables (or arrays) inside one another, the outermost included */
static enum hg_amqp_table_shape shape_of_depth(size_t depth, uint8_t kind)
{
    struct hg_writer w = {0};
    size_t step = kind == 'F' ? 7 : 5; /* name "a", type, length; an array has no names */
    size_t inner_n = depth == 1 ? 0 : 7 + (depth - 2) * step;
    hg_writer_u32(&w, (uint32_t)inner_n);
    for (size_t i = 1; i < depth; i++) {
        size_t head_n = i == 1 ? 7 : step;
        if (head_n == 7) {
            hg_writer_str(&w, "\x01"
                              "a");
        }
        hg_writer_u8(&w, kind);
        inner_n -= head_n;
        hg_writer_u32(&w, (uint32_t)inner_n);
    }
    size_t n;
    enum hg_amqp_table_shape shape = hg_amqp_table_check(hg_writer_view(&w), &n);
    assert_int_equal(n, hg_writer_n(&w));
    hg_writer_close(&w);
    return shape;
}

static void nesting_has_a_limit(void **state)
{
    (void)state;
    assert_int_equal(shape_of_depth(1, 'F'), HG_AMQP_TABLE_SOUND);
    assert_int_equal(shape_of_depth(HG_AMQP_TABLE_DEPTH, 'F'), HG_AMQP_TABLE_SOUND);
    assert_int_equal(shape_of_depth(HG_AMQP_TABLE_DEPTH, 'A'), HG_AMQP_TABLE_SOUND);
    assert_int_equal(shape_of_depth(HG_AMQP_TABLE_DEPTH + 1, 'F'), HG_AMQP_TABLE_DEEP);
    assert_int_equal(shape_of_depth(HG_AMQP_TABLE_DEPTH + 1, 'A'), HG_AMQP_TABLE_DEEP);
    assert_int_equal(shape_of_depth(20000, 'F'), HG_AMQP_TABLE_DEEP);
    assert_int_equal(shape_of_depth(26000, 'A'), HG_AMQP_TABLE_DEEP);
}

static enum hg_status make(const struct hg_header *headers, size_t n, struct hg_writer *text)
{
    amqp_pool_t pool;
    init_amqp_pool(&pool, 4096);
    amqp_table_t table;
    enum hg_status status = hg_amqp_table_make(&pool, headers, n, &table);
    if (status == HG_OK) {
        static uint8_t wire[1 << 16];
        size_t end = 0;
        assert_int_equal(amqp_encode_table((amqp_bytes_t){sizeof wire, wire}, &table, &end), 0);
        size_t seen;
        assert_int_equal(hg_amqp_table_check(hg_bytes(wire, end), &seen), HG_AMQP_TABLE_SOUND);
        assert_int_equal(seen, end);
        size_t at = 0;
        assert_int_equal(amqp_decode_table((amqp_bytes_t){end, wire}, &pool, &table, &at), 0);
        struct hg_writer json = {0};
        const struct hg_header *back;
        assert_true(hg_amqp_table_read(&table, &pool, &json, &back));
        write_headers(text, back, (size_t)table.num_entries);
        hg_writer_close(&json);
    }
    empty_amqp_pool(&pool);
    return status;
}

static void headers_come_back_as_they_went(void **state)
{
    (void)state;
    const struct hg_header headers[] = {
        {HG_BYTES("null"), {.kind = HG_VALUE_NULL}},
        {HG_BYTES("bool"), {HG_VALUE_BOOL, .u.b = true}},
        {HG_BYTES("int"), {HG_VALUE_INT, .u.i = INT64_MIN}},
        {HG_BYTES("double"), {HG_VALUE_DOUBLE, .u.d = 1e300}},
        {HG_BYTES("time"), {HG_VALUE_TIMESTAMP, .u.timestamp_s = 5}},
        {HG_BYTES("string"), {HG_VALUE_STRING, .u.bytes = HG_BYTES("\xc3\xa9")}},
        {HG_BYTES("empty"), {HG_VALUE_STRING, .u.bytes = HG_BYTES("")}},
        {HG_BYTES("binary"), {HG_VALUE_BINARY, .u.bytes = HG_BYTES("\x00\xff")}},
        {HG_BYTES("json"),
         {HG_VALUE_JSON,
          .u.bytes = HG_BYTES("{\"a\":[1,-2.5,null,false,\"x\\u0000y\",{}],\"b\":1.0}")}},
        {HG_BYTES("json"), {HG_VALUE_JSON, .u.bytes = HG_BYTES("[]")}},
    };
    size_t n = sizeof headers / sizeof headers[0];
    struct hg_writer want = {0}, got = {0};
    write_headers(&want, headers, n);
    assert_int_equal(make(headers, n, &got), HG_OK);
    struct hg_bytes view = hg_writer_view(&want);
    assert_bytes(hg_writer_view(&got), view.n, view.p);
    hg_writer_close(&want);
    hg_writer_close(&got);
}

static void what_no_table_can_hold_is_refused(void **state)
{
    (void)state;
    static char deep[2 * 40 + 1], long_key[300];
    memset(deep, '[', 40);
    memset(deep + 40, ']', 40);
    memset(long_key, 'k', 256);
    memcpy(long_key, "{\"", 2);
    memcpy(long_key + 2 + 256, "\":1}", 5);
    memset(long_key + 2, 'k', 256);
    const char *const bad_json[] = {
        "", "5", "\"text\"", "null", "{", "[1,]", "[18446744073709551616]", "[] x", deep, long_key,
    };
    struct hg_writer text = {0};
    for (size_t i = 0; i < sizeof bad_json / sizeof bad_json[0]; i++) {
        struct hg_header h = {HG_BYTES("a"), {HG_VALUE_JSON, .u.bytes = hg_bytes_str(bad_json[i])}};
        assert_int_equal(make(&h, 1, &text), HG_BAD_PROPERTY);
    }
    static uint8_t name[256];
    struct hg_header long_name = {hg_bytes(name, 256), {.kind = HG_VALUE_NULL}};
    assert_int_equal(make(&long_name, 1, &text), HG_BAD_PROPERTY);
    long_name.name.n = 255;
    assert_int_equal(make(&long_name, 1, &text), HG_OK);
    hg_writer_close(&text);
}

static void random_tables_are_read_or_refused(void **state)
{
    (void)state;
    static const char types[] = "tbBsuIilLfdDTSxVFA";
    uint64_t seed = 11;
    for (int round = 0; round < 20000; round++) {
        uint8_t wire[64];
        size_t n = 4 + unit_random_below(&seed, sizeof wire - 4);
        for (size_t i = 0; i < n; i++) {
            size_t kind = unit_random_below(&seed, 3);
            wire[i] =
                (uint8_t)(kind == 0   ? 0
                          : kind == 1 ? (size_t)types[unit_random_below(&seed, sizeof types - 1)]
                                      : unit_random_below(&seed, 8));
        }
        wire[0] = wire[1] = wire[2] = 0;
        wire[3] = (uint8_t)(n - 4);
        size_t seen;
        enum hg_amqp_table_shape shape = hg_amqp_table_check(hg_bytes(wire, n), &seen);
        amqp_pool_t pool;
        init_amqp_pool(&pool, 4096);
        amqp_table_t table;
        size_t at = 0;
        int res = amqp_decode_table((amqp_bytes_t){n, wire}, &pool, &table, &at);
        if (shape == HG_AMQP_TABLE_SOUND) { /* ours is the stricter of the two */
            assert_int_equal(res, AMQP_STATUS_OK);
            assert_int_equal(at, n);
        }
        empty_amqp_pool(&pool);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_type_becomes_a_header),
        cmocka_unit_test(nesting_has_a_limit),
        cmocka_unit_test(headers_come_back_as_they_went),
        cmocka_unit_test(what_no_table_can_hold_is_refused),
        cmocka_unit_test(random_tables_are_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
