/* SPDX-License-Identifier: Apache-2.0 */
/* What waits for a slow client, and what goes when there is no room. */
#include "core/backlog.h"

#include "base/mem.h"
#include "core/session.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>

enum { SUBS_N = 3, TEXT_N = 512 };

struct bench {
    struct hg_backlog backlog;
    struct hg_sub subs[SUBS_N];
    unsigned older_n, replaced_n, latest_n; /* dropped */
};

static void on_dropped(void *ctx, bool is_latest, bool is_replaced)
{
    struct bench *b = ctx;
    b->replaced_n += is_replaced;
    b->latest_n += is_latest;
    b->older_n += !is_replaced;
}

static struct hg_message *message_of(const char *body)
{
    const struct hg_message_parts parts = {
        .exchange = HG_BYTES("x"), .routing_key = HG_BYTES("k"), .body = hg_bytes_str(body)};
    return hg_message_new(&parts);
}

/* What one such item counts, but for key and subscriptions. */
static size_t cost_of(const char *body)
{
    struct hg_message *m = message_of(body);
    size_t n = hg_message_cost_bytes(m);
    hg_message_unref(m);
    return n;
}

/* subs: digits; key: "" for none. */
static enum hg_status push(struct bench *b, const char *body, const char *key, const char *subs)
{
    struct hg_sub *first = NULL;
    struct hg_sub **last = &first;
    struct hg_message *m = message_of(body);
    if (m == NULL) {
        return HG_NO_MEMORY;
    }
    for (const char *p = subs; *p != '\0'; p++) {
        *last = &b->subs[*p - '0'];
        last = &(*last)->next_match;
    }
    *last = NULL;
    const struct hg_backlog_item item = {.message = m, .subs = first, .key = hg_bytes_str(key)};
    enum hg_status status = hg_backlog_push(&b->backlog, &item);
    hg_message_unref(m);
    return status;
}

static void open_bench(struct bench *b, size_t limit_bytes)
{
    memset(b, 0, sizeof(*b));
    hg_backlog_open(&b->backlog);
    b->backlog.limit_bytes = limit_bytes;
    b->backlog.on_dropped = on_dropped;
    b->backlog.ctx = b;
}

/* Takes out everything: "body:subs body:subs". */
static void take_all(struct bench *b, char out[TEXT_N])
{
    const struct hg_backlog_entry *e;
    size_t n = 0;
    out[0] = '\0';
    while ((e = hg_backlog_first(&b->backlog)) != NULL) {
        struct hg_bytes body = hg_message_body(hg_backlog_message(e));
        n +=
            (size_t)snprintf(out + n, TEXT_N - n, "%s%.*s:", n == 0 ? "" : " ", HG_BYTES_FMT(body));
        for (struct hg_sub *s = hg_backlog_subs(e); s != NULL; s = s->next_match) {
            n += (size_t)snprintf(out + n, TEXT_N - n, "%d", (int)(s - b->subs));
        }
        hg_backlog_pop(&b->backlog);
    }
    assert_int_equal(b->backlog.n, 0);
    assert_int_equal(b->backlog.bytes, 0);
}

static void close_bench(struct bench *b)
{
    hg_backlog_close(&b->backlog);
    assert_int_equal(seam_live(), 0);
}

struct item {
    const char *body, *key, *subs;
};

#define LONG_50 "longer, by far, than what was there before, and as "
#define LONG    LONG_50 LONG_50 LONG_50 LONG_50 LONG_50

enum { ITEMS_MAX = 8 };

static const struct script {
    const char *title;
    size_t room_n; /* items without a key that fit */
    struct item items[ITEMS_MAX];
    const char *left;
    unsigned older_n, replaced_n;
} scripts[] = {
    {"the order stays", 9, {{"1", "", "0"}, {"2", "", "0"}, {"3", "", "0"}}, "1:0 2:0 3:0", 0, 0},
    {"the oldest goes first",
     2,
     {{"1", "", "0"}, {"2", "", "0"}, {"3", "", "0"}, {"4", "", "0"}},
     "3:0 4:0",
     2,
     0},
    {"the newest takes the place of its key's older one",
     9,
     {{"1", "a", "0"}, {"2", "b", "0"}, {"3", "a", "0"}, {"4", "c", "0"}, {"5", "b", "0"}},
     "3:0 5:0 4:0",
     0,
     2},
    {"keys and none do not meet",
     9,
     {{"1", "", "0"}, {"2", "a", "0"}, {"3", "", "0"}, {"4", "a", "0"}},
     "1:0 4:0 3:0",
     0,
     1},
    {"one that goes for room has no place to take",
     2,
     {{"1", "a", "0"}, {"2", "", "0"}, {"3", "", "0"}, {"4", "a", "0"}},
     "3:0 4:0",
     2,
     0},
    {"who takes the first place does not go for itself",
     2,
     {{"1", "a", "0"}, {"2", "", "0"}, {LONG, "a", "0"}},
     LONG ":0",
     1,
     1},
    {"subscriptions stay together",
     9,
     {{"1", "", "021"}, {"2", "a", "2"}, {"3", "a", "01"}},
     "1:021 3:01",
     0,
     1},
};

static void what_waits_is_what_the_policies_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        const struct script *script = &scripts[i];
        struct bench b;
        char left[TEXT_N];
        open_bench(&b, SIZE_MAX);
        assert_int_equal(push(&b, "1", "", "0"), HG_OK);
        size_t one = b.backlog.bytes;
        hg_backlog_pop(&b.backlog);
        /* A key takes more: half an item is left over for it. */
        b.backlog.limit_bytes = script->room_n * one + one / 2;
        for (const struct item *item = script->items; item->body != NULL; item++) {
            assert_int_equal(push(&b, item->body, item->key, item->subs), HG_OK);
            assert_true(b.backlog.bytes <= b.backlog.limit_bytes);
        }
        take_all(&b, left);
        if (strcmp(left, script->left) != 0 || b.older_n != script->older_n ||
            b.replaced_n != script->replaced_n) {
            fail_msg("%s: %s, %u went, %u replaced", script->title, left, b.older_n, b.replaced_n);
        }
        close_bench(&b);
    }
}

static void what_never_fits_changes_nothing(void **state)
{
    struct bench b;
    char left[TEXT_N];
    char large[1000];
    (void)state;
    memset(large, 'x', sizeof(large));
    large[sizeof(large) - 1] = '\0';
    open_bench(&b, cost_of("small") + 300);
    assert_int_equal(push(&b, "small", "a", "0"), HG_OK);
    assert_int_equal(push(&b, large, "a", "0"), HG_TOO_LARGE);
    assert_int_equal(b.older_n + b.replaced_n, 0);
    take_all(&b, left);
    assert_string_equal(left, "small:0");
    close_bench(&b);
}

static void only_one_subscription_is_taken_where_each_gets_a_copy(void **state)
{
    struct bench b;
    char left[TEXT_N];
    struct hg_message *m = message_of("1");
    (void)state;
    open_bench(&b, 10000);
    b.subs[0].next_match = &b.subs[1];
    const struct hg_backlog_item item = {.message = m, .subs = b.subs, .takes_only_one = true};
    assert_int_equal(hg_backlog_push(&b.backlog, &item), HG_OK);
    hg_message_unref(m);
    take_all(&b, left);
    assert_string_equal(left, "1:0");
    close_bench(&b);
}

static void what_waits_for_nobody_any_more_is_gone(void **state)
{
    struct bench b;
    char left[TEXT_N];
    (void)state;
    open_bench(&b, 10000);
    push(&b, "1", "", "0");
    push(&b, "2", "a", "01");
    push(&b, "3", "b", "0");
    push(&b, "4", "", "2");
    hg_backlog_forget(&b.backlog, &b.subs[0]);
    assert_int_equal(b.backlog.n, 2);
    assert_int_equal(b.older_n + b.replaced_n, 0); /* nobody misses them */
    push(&b, "5", "b", "2");
    push(&b, "6", "a", "12");
    take_all(&b, left);
    assert_string_equal(left, "6:12 4:2 5:2");
    close_bench(&b);
}

static void any_allocation_may_fail(void **state)
{
    (void)state;
    bool has_failed = true;
    for (size_t nth = 1; has_failed; nth++) {
        struct bench b;
        char left[TEXT_N];
        open_bench(&b, 100000);
        unsigned pushed_n = 0;
        seam_fail_alloc(nth);
        for (unsigned i = 0; i < 40; i++) { /* the map grows meanwhile */
            char key[8];
            (void)snprintf(key, sizeof(key), "%u", i % 20);
            pushed_n += push(&b, "1", key, "0") == HG_OK;
        }
        has_failed = seam_allocs() >= nth;
        seam_fail_alloc(0);
        /* One is missing, or could not be replaced; nothing else. */
        assert_in_range(pushed_n, has_failed ? 39 : 40, 40);
        assert_in_range(b.backlog.n, 20, 21);
        assert_int_equal(b.backlog.n + b.replaced_n, pushed_n);
        take_all(&b, left);
        close_bench(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_waits_is_what_the_policies_say),
        cmocka_unit_test(what_never_fits_changes_nothing),
        cmocka_unit_test(only_one_subscription_is_taken_where_each_gets_a_copy),
        cmocka_unit_test(what_waits_for_nobody_any_more_is_gone),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
