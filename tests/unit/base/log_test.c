/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines as a reader of the descriptor sees them. */
#include "base/log.h"

#include "seam/seam.h"
#include "seam/unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

struct fixture {
    struct hg_log *log;
    int in, out;
    char text[8192];
};

static void open_fixture(struct fixture *f, enum hg_log_level level, bool is_json)
{
    int fds[2];
    assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
    f->in = fds[0];
    f->out = fds[1];
    f->log = hg_log_new(f->out, level, is_json);
    assert_non_null(f->log);
}

static void close_fixture(struct fixture *f)
{
    hg_log_free(f->log);
    close(f->in);
    close(f->out);
    assert_int_equal(seam_live(), 0);
}

/* Everything written since the last call. */
static const char *read_text(struct fixture *f)
{
    ssize_t n = read(f->in, f->text, sizeof(f->text) - 1);
    f->text[n < 0 ? 0 : n] = '\0';
    return f->text;
}

static void text_lines_are_key_value(void **state)
{
    struct fixture f;
    (void)state;
    open_fixture(&f, HG_LOG_INFO, false);
    HG_LOG(f.log, HG_LOG_WARN, "mqtt.refused", HG_F_STR("client", "c1"), HG_F_STR("gone", NULL),
           HG_F_STR("reason", "not permitted"), HG_F_STR("empty", ""), HG_F_INT("a", -5),
           HG_F_UINT("b", UINT64_MAX), HG_F_BYTES("topic", HG_BYTES("a=b")));
    assert_string_equal(read_text(&f), "2026-01-02T03:04:05.678Z warn mqtt.refused client=c1 "
                                       "reason=\"not permitted\" empty=\"\" a=-5 "
                                       "b=18446744073709551615 topic=\"a=b\"\n");
    hg_log_event(f.log, HG_LOG_INFO, "start", &(struct hg_log_field){.key = NULL});
    assert_string_equal(read_text(&f), "2026-01-02T03:04:05.678Z info start\n");
    close_fixture(&f);
}

static void json_lines_are_one_object(void **state)
{
    struct fixture f;
    (void)state;
    open_fixture(&f, HG_LOG_DEBUG, true);
    HG_LOG(f.log, HG_LOG_DEBUG, "x.y", HG_F_STR("s", "say \"hi\"\n"), HG_F_INT("n", -1),
           HG_F_BYTES("raw", HG_BYTES("\xff")));
    assert_string_equal(read_text(&f),
                        "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"debug\",\"event\":"
                        "\"x.y\",\"s\":\"say \\\"hi\\\"\\n\",\"n\":-1,\"raw\":\"\xef\xbf\xbd\"}\n");
    close_fixture(&f);
}

static void what_a_peer_says_cannot_start_a_line(void **state)
{
    struct fixture f;
    (void)state;
    open_fixture(&f, HG_LOG_INFO, false);
    HG_LOG(f.log, HG_LOG_INFO, "e", HG_F_BYTES("client", HG_BYTES("x\n2026 error \x1b[31m\x7f")));
    assert_string_equal(read_text(&f), "2026-01-02T03:04:05.678Z info e "
                                       "client=\"x\\n2026 error \\u001b[31m\\u007f\"\n");
    close_fixture(&f);
}

static void long_fields_are_cut_between_characters(void **state)
{
    char value[700];
    char want[700];
    struct fixture f;
    (void)state;
    open_fixture(&f, HG_LOG_INFO, false);
    memset(value, 'a', 511);
    strcpy(value + 511, "\xc3\xbc and more"); /* the cut at 512 falls inside it */
    HG_LOG(f.log, HG_LOG_INFO, "e", HG_F_STR("k", value));
    (void)snprintf(want, sizeof(want), "2026-01-02T03:04:05.678Z info e k=\"%.511s\xe2\x80\xa6\"\n",
                   value);
    assert_string_equal(read_text(&f), want);
    close_fixture(&f);
}

static void lines_above_the_level_and_a_null_log_are_silent(void **state)
{
    struct fixture f;
    (void)state;
    open_fixture(&f, HG_LOG_WARN, false);
    HG_LOG(f.log, HG_LOG_INFO, "e", HG_F_INT("n", 1));
    HG_LOG_LIMITED(f.log, HG_LOG_INFO, "e", HG_BYTES("c"), HG_F_INT("n", 1));
    HG_LOG((struct hg_log *)NULL, HG_LOG_ERROR, "e", HG_F_INT("n", 1));
    HG_LOG_LIMITED((struct hg_log *)NULL, HG_LOG_ERROR, "e", HG_BYTES("c"), HG_F_INT("n", 1));
    assert_string_equal(read_text(&f), "");
    assert_int_equal(hg_log_suppressed_n(NULL), 0);
    hg_log_free(NULL);
    close_fixture(&f);
}

static void one_line_a_second_and_cause_counts_the_rest(void **state)
{
    struct fixture f;
    (void)state;
    open_fixture(&f, HG_LOG_INFO, false);
    for (int i = 0; i < 5; i++) {
        HG_LOG_LIMITED(f.log, HG_LOG_WARN, "e", HG_BYTES("one"), HG_F_INT("n", i));
    }
    assert_string_equal(read_text(&f), "2026-01-02T03:04:05.678Z warn e n=0\n");
    HG_LOG_LIMITED(f.log, HG_LOG_WARN, "e", HG_BYTES("two"), HG_F_INT("n", 9));
    HG_LOG_LIMITED(f.log, HG_LOG_WARN, "other", HG_BYTES("one"), HG_F_INT("n", 9));
    assert_string_equal(read_text(&f), "2026-01-02T03:04:05.678Z warn e n=9\n"
                                       "2026-01-02T03:04:05.678Z warn other n=9\n");
    seam_now_ms += 999;
    HG_LOG_LIMITED(f.log, HG_LOG_WARN, "e", HG_BYTES("one"), HG_F_INT("n", 5));
    assert_string_equal(read_text(&f), "");
    seam_now_ms += 1;
    HG_LOG_LIMITED(f.log, HG_LOG_WARN, "e", HG_BYTES("one"), HG_F_INT("n", 6));
    assert_string_equal(read_text(&f), "2026-01-02T03:04:05.678Z warn e n=6 suppressed=5\n");
    seam_now_ms += 1000;
    HG_LOG_LIMITED(f.log, HG_LOG_WARN, "e", HG_BYTES("one"), HG_F_INT("n", 7));
    assert_string_equal(read_text(&f), "2026-01-02T03:04:05.678Z warn e n=7\n");
    close_fixture(&f);
}

/* Logs of that kind under causes "0" … "n-1" once each; returns how many lines passed. */
static size_t log_causes(struct fixture *f, const char *kind, size_t n)
{
    size_t lines_n = 0;
    for (size_t i = 0; i < n; i++) {
        char cause[24];
        (void)snprintf(cause, sizeof(cause), "%s %zu", kind, i);
        HG_LOG_LIMITED_BY(f->log, HG_LOG_WARN, "e", kind, hg_bytes_str(cause), HG_F_UINT("i", i));
        lines_n += read_text(f)[0] != '\0';
    }
    return lines_n;
}

enum { BURST_N = 50, PERIOD_MS = 5000, KINDS_N = 128 };

static void a_flood_of_causes_leaves_room_for_another_kind(void **state)
{
    struct fixture f;
    (void)state;
    open_fixture(&f, HG_LOG_INFO, false);
    assert_int_equal(log_causes(&f, "flood", 5000), BURST_N);
    assert_int_equal(log_causes(&f, "flood", 5000), 0);
    assert_int_equal(hg_log_suppressed_n(f.log), 10000 - BURST_N);
    assert_int_equal(log_causes(&f, "honest", 3), 3);
    seam_now_ms += PERIOD_MS - 1;
    HG_LOG_LIMITED_BY(f.log, HG_LOG_WARN, "e", "flood", HG_BYTES("new"), HG_F_UINT("i", 1));
    assert_string_equal(read_text(&f), "");
    seam_now_ms += 1;
    HG_LOG_LIMITED_BY(f.log, HG_LOG_WARN, "e", "flood", HG_BYTES("new"), HG_F_UINT("i", 2));
    /* Of the second round, 50 had had a line the moment before: those are counted to their cause. */
    assert_string_equal(read_text(&f), "2026-01-02T03:04:05.678Z warn e i=2 "
                                       "suppressed_others=9901\n");
    assert_int_equal(log_causes(&f, "flood", 100), 0);
    seam_now_ms += BURST_N * PERIOD_MS;
    assert_int_equal(log_causes(&f, "flood", 100), BURST_N);
    close_fixture(&f);
}

static void a_flood_of_kinds_is_bounded(void **state)
{
    struct fixture f;
    char kind[24];
    size_t lines_n = 0;
    (void)state;
    open_fixture(&f, HG_LOG_INFO, false);
    for (unsigned i = 0; i < 1000; i++) {
        (void)snprintf(kind, sizeof(kind), "%u", i);
        lines_n += log_causes(&f, kind, 100);
    }
    assert_int_equal(lines_n, (KINDS_N + 1) * BURST_N); /* the table, and one for all others */
    /* A new one takes the place of one that is paid for, and says what that one held back. */
    seam_now_ms += BURST_N * PERIOD_MS;
    HG_LOG_LIMITED(f.log, HG_LOG_WARN, "new", HG_BYTES("new"), HG_F_UINT("i", 1));
    assert_string_equal(read_text(&f),
                        "2026-01-02T03:04:05.678Z warn log.suppressed of=e suppressed=50\n"
                        "2026-01-02T03:04:05.678Z warn new i=1\n");
    close_fixture(&f);
}

static void a_cause_that_makes_room_says_what_it_held_back(void **state)
{
    struct fixture f;
    (void)state;
    open_fixture(&f, HG_LOG_INFO, false);
    for (int i = 0; i < 3; i++) {
        HG_LOG_LIMITED(f.log, HG_LOG_WARN, "e", HG_BYTES("first"), HG_F_INT("i", i));
    }
    seam_now_ms++;
    for (unsigned i = 0; i < 6; i++) {
        (void)log_causes(&f, (const char[]){(char)('a' + i), '\0'}, BURST_N);
    }
    seam_now_ms += PERIOD_MS;
    (void)read_text(&f);
    HG_LOG_LIMITED(f.log, HG_LOG_WARN, "new", HG_BYTES("new"), HG_F_UINT("i", 1));
    assert_string_equal(read_text(&f),
                        "2026-01-02T03:04:05.678Z warn log.suppressed of=e suppressed=2\n"
                        "2026-01-02T03:04:05.678Z warn new i=1\n");
    close_fixture(&f);
}

static void no_memory_loses_the_line_only(void **state)
{
    struct fixture f;
    (void)state;
    open_fixture(&f, HG_LOG_INFO, false);
    seam_fail_alloc(1);
    HG_LOG(f.log, HG_LOG_INFO, "e", HG_F_INT("n", 1));
    assert_string_equal(read_text(&f), "");
    HG_LOG(f.log, HG_LOG_INFO, "e", HG_F_INT("n", 2));
    assert_string_equal(read_text(&f), "2026-01-02T03:04:05.678Z info e n=2\n");
    seam_fail_alloc(1);
    assert_null(hg_log_new(f.out, HG_LOG_INFO, false));
    seam_fail_alloc(0);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_lines_are_key_value),
        cmocka_unit_test(json_lines_are_one_object),
        cmocka_unit_test(what_a_peer_says_cannot_start_a_line),
        cmocka_unit_test(long_fields_are_cut_between_characters),
        cmocka_unit_test(lines_above_the_level_and_a_null_log_are_silent),
        cmocka_unit_test(one_line_a_second_and_cause_counts_the_rest),
        cmocka_unit_test(a_flood_of_causes_leaves_room_for_another_kind),
        cmocka_unit_test(a_flood_of_kinds_is_bounded),
        cmocka_unit_test(a_cause_that_makes_room_says_what_it_held_back),
        cmocka_unit_test(no_memory_loses_the_line_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
