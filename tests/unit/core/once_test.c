/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that are done once among two processes with one log: who has a key, for how long, and
 * what the other is told. */
#include "core/once.h"

#include "base/mem.h"
#include "state_world.h"

#include <stdio.h>

enum { WINDOW_MS = 60000, CLAIM_MS = 2000, KEYS_MAX = 4 };

struct asking {
    struct hg_once *once;
    unsigned told_n;
    enum hg_once_state state;
    struct hg_request_answer answer;
};

static int open_none(void **state)
{
    open_world(state);
    the->config.http_idempotency_max = KEYS_MAX;
    the->config.http_idempotency_buffer_bytes = 1 << 20;
    the->config.http_idempotency_window_ms = WINDOW_MS;
    the->config.http_idempotency_claim_ms = CLAIM_MS;
    return 0;
}

static int open_all(void **state)
{
    open_none(state);
    for (size_t i = 0; i < PROCESSES_N; i++) {
        open_process(i);
    }
    run();
    return 0;
}

#define TEST_ALL(name)  cmocka_unit_test_setup_teardown(name, open_all, close_world)
#define TEST_NONE(name) cmocka_unit_test_setup_teardown(name, open_none, close_world)

static void on_known(void *ctx)
{
    ((struct asking *)ctx)->told_n++;
}

/* Begins, on the process's second worker; nothing has happened yet. */
static void begin(struct asking *a, size_t process, const char *key, const char *body)
{
    *a = (struct asking){.told_n = 0};
    const struct hg_once_ask ask = {
        .realm = realm(process, 1),
        .key = hg_bytes_str(key),
        .target = HG_BYTES("/a"),
        .body = hg_bytes_str(body),
        .on_known = on_known,
        .ctx = a,
    };
    a->state = hg_once_begin(&ask, &a->once, &a->answer);
    assert_int_equal(a->once != NULL, a->state == HG_ONCE_WAITING);
}

/* What it comes to. */
static enum hg_once_state settle(struct asking *a)
{
    run();
    if (a->once != NULL) {
        assert_int_equal(a->told_n, 1);
        a->state = hg_once_look(a->once, &a->answer);
    }
    return a->state;
}

static void end(struct asking *a, unsigned status, const char *body)
{
    struct hg_bytes bytes = body == NULL ? hg_bytes(NULL, 0) : hg_bytes_str(body);
    if (a->once != NULL) {
        hg_once_end(a->once, status, body == NULL ? NULL : "text/plain",
                    body == NULL ? NULL : &bytes);
        a->once = NULL;
    }
    hg_writer_close(&a->answer.body);
    run();
}

/* Asks, and gives back what it got. */
static enum hg_once_state ask(size_t process, const char *key, const char *body)
{
    struct asking a;
    begin(&a, process, key, body);
    enum hg_once_state state = settle(&a);
    end(&a, 0, NULL);
    return state;
}

/* Asks, has it and answers. */
static void answer(size_t process, const char *key, const char *body, const char *answer)
{
    struct asking a;
    begin(&a, process, key, body);
    assert_int_equal(settle(&a), HG_ONCE_OURS);
    end(&a, 202, answer);
}

static void check_answer(size_t process, const char *key, unsigned status, const char *type,
                         const char *body)
{
    struct asking a;
    begin(&a, process, key, "x");
    assert_int_equal(settle(&a), HG_ONCE_ANSWERED);
    assert_int_equal(a.answer.status, status);
    assert_string_equal(a.answer.type, type);
    if (body != NULL) {
        assert_text(hg_writer_view(&a.answer.body), body);
    }
    end(&a, 0, NULL);
}

static void the_first_in_the_log_has_it_and_the_other_hears_its_answer(void **state)
{
    (void)state;
    struct asking first;
    begin(&first, 0, "k", "x");
    assert_int_equal(first.state, HG_ONCE_WAITING);
    assert_int_equal(first.told_n, 0); /* never from inside */
    assert_int_equal(settle(&first), HG_ONCE_OURS);
    assert_int_equal(ask(1, "k", "x"), HG_ONCE_UNDER_WAY);
    assert_int_equal(ask(1, "k", "y"), HG_ONCE_DIFFERS);
    size_t records_n = count("request");
    end(&first, 202, "{}");
    for (size_t i = 0; i < PROCESSES_N; i++) {
        check_answer(i, "k", 202, "text/plain", "{}");
        assert_int_equal(ask(i, "k", "y"), HG_ONCE_DIFFERS);
    }
    assert_int_equal(count("request"), records_n + 1); /* what is known costs no write */
    pass(WINDOW_MS + 1000);
    assert_int_equal(ask(1, "k", "y"), HG_ONCE_OURS);
}

static void of_two_that_ask_at_once_one_has_it(void **state)
{
    (void)state;
    struct asking both[2];
    begin(&both[0], 0, "k", "x");
    begin(&both[1], 1, "k", "x");
    assert_int_equal(both[0].state, HG_ONCE_WAITING);
    assert_int_equal(both[1].state, HG_ONCE_WAITING);
    enum hg_once_state a = settle(&both[0]), b = settle(&both[1]);
    assert_true((a == HG_ONCE_OURS && b == HG_ONCE_UNDER_WAY) ||
                (b == HG_ONCE_OURS && a == HG_ONCE_UNDER_WAY));
    size_t winner = a == HG_ONCE_OURS ? 0 : 1;
    end(&both[1 - winner], 0, NULL); /* which gives nothing back: it has nothing */
    assert_int_equal(ask(1 - winner, "k", "x"), HG_ONCE_UNDER_WAY);
    end(&both[winner], 202, "won");
    check_answer(1 - winner, "k", 202, "text/plain", "won");
}

static void what_came_to_nothing_may_be_tried_by_another(void **state)
{
    (void)state;
    struct asking first;
    begin(&first, 0, "k", "x");
    settle(&first);
    end(&first, 503, NULL);
    answer(1, "k", "x", "later");
    check_answer(0, "k", 202, "text/plain", "later");
    begin(&first, 0, "left", "x"); /* its client goes before the log has said anything */
    end(&first, 0, NULL);
    assert_int_equal(ask(1, "left", "x"), HG_ONCE_OURS);
}

static void a_claim_lasts_while_its_owner_lives_and_then_for_its_time(void **state)
{
    (void)state;
    struct asking first;
    begin(&first, 0, "k", "x");
    assert_int_equal(settle(&first), HG_ONCE_OURS);
    pass(5 * CLAIM_MS);
    assert_int_equal(ask(1, "k", "x"), HG_ONCE_UNDER_WAY);
    assert_int_equal(hg_once_look(first.once, &first.answer), HG_ONCE_OURS);
    seam_net_cut(&the->sn, state_link(0));
    hg_state_close(realm(0, 1)); /* writes nothing any more: as if it had died */
    end(&first, 0, NULL);
    assert_int_equal(ask(1, "k", "x"), HG_ONCE_UNDER_WAY);
    pass(CLAIM_MS + 200);
    assert_int_equal(hg_counted(&realm(1, 1)->worker->metrics.state.requests_again), 0);
    answer(1, "k", "x", "again");
    assert_int_equal(hg_counted(&realm(1, 1)->worker->metrics.state.requests_again), 1);
}

static void an_answer_that_is_too_long_is_not_given_again(void **state)
{
    (void)state;
    struct hg_writer body = {0};
    the->config.state_max_bytes = 1 << 20;
    open_process(0);
    open_process(1);
    run();
    for (size_t i = 0; i < HG_REQUEST_BODY_MAX; i++) {
        hg_writer_u8(&body, 'a');
    }
    hg_writer_u8(&body, 0);
    const char *text = (const char *)hg_writer_view(&body).p;
    answer(0, "fits", "x", text);
    check_answer(1, "fits", 202, "text/plain", text);
    hg_writer_reset(&body);
    for (size_t i = 0; i <= HG_REQUEST_BODY_MAX; i++) {
        hg_writer_u8(&body, 'a');
    }
    hg_writer_u8(&body, 0);
    answer(0, "long", "x", (const char *)hg_writer_view(&body).p);
    check_answer(1, "long", 409, "application/problem+json", NULL);
    hg_writer_close(&body);
}

static void the_oldest_answer_goes_first_and_what_is_under_way_never(void **state)
{
    (void)state;
    char key[16];
    for (int i = 0; i <= KEYS_MAX; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        answer(i % 2 == 0 ? 0 : 1, key, "x", key);
    }
    check_answer(0, "k4", 202, "text/plain", "k4");
    check_answer(1, "k1", 202, "text/plain", "k1");
    struct asking held[KEYS_MAX];
    for (int i = 0; i < KEYS_MAX; i++) {
        snprintf(key, sizeof(key), "h%d", i);
        begin(&held[i], 0, key, "x");
        assert_int_equal(settle(&held[i]), HG_ONCE_OURS);
    }
    assert_int_equal(ask(1, "k1", "x"), HG_ONCE_FULL); /* forgotten, and there is no room */
    end(&held[0], 202, "done");
    assert_int_equal(ask(1, "k1", "x"), HG_ONCE_OURS);
    for (int i = 1; i < KEYS_MAX; i++) {
        end(&held[i], 202, "done");
    }
}

static void who_comes_late_knows_what_was_written_long_ago(void **state)
{
    (void)state;
    open_process(0);
    run();
    answer(0, "k", "x", "long ago");
    struct asking open;
    begin(&open, 0, "open", "x");
    settle(&open);
    for (uint64_t i = 0; i < 400; i++) { /* several times the size of the log */
        struct hg_session_record r = record("busy", 0, 1);
        claim(0, &r);
        pass(20);
    }
    assert_true(hg_counted(&realm(0, 0)->worker->metrics.state.state_copies) > 0);
    size_t bytes = 0;
    for (size_t i = the->log_n; i-- > 0;) { /* RabbitMQ keeps no more than state_max_bytes */
        bytes += 160 + hg_message_cost_bytes(the->log[i]);
        if (bytes > the->config.state_max_bytes) {
            hg_message_unref(the->log[i]);
            the->log[i] = NULL;
        }
    }
    open_process(1);
    run();
    check_answer(1, "k", 202, "text/plain", "long ago");
    assert_int_equal(ask(1, "open", "x"), HG_ONCE_UNDER_WAY);
    end(&open, 202, "{}");
}

static void without_a_log_nothing_is_claimed(void **state)
{
    (void)state;
    the->has_no_streams = true;
    open_process(0);
    run();
    assert_int_equal(ask(0, "k", "x"), HG_ONCE_AWAY);
}

static void a_claim_that_cannot_be_written_is_refused_in_time(void **state)
{
    (void)state;
    struct asking a;
    for (size_t i = 0; i < the->sn.links_n; i++) {
        the->sn.links[i]->broker.has_auto_confirm = false; /* it is rejected */
    }
    begin(&a, 0, "k", "x");
    assert_int_equal(settle(&a), HG_ONCE_AWAY);
    end(&a, 503, NULL);
}

static void no_allocation_is_missed_when_it_fails(void **state)
{
    (void)state;
    enum hg_once_state known = HG_ONCE_AWAY;
    for (unsigned i = 1; known != HG_ONCE_OURS; i++) {
        struct asking a;
        char key[16];
        snprintf(key, sizeof(key), "k%u", i);
        seam_fail_alloc(i);
        begin(&a, 0, key, "x");
        seam_fail_alloc(0);
        known = settle(&a);
        assert_true(known == HG_ONCE_OURS || known == HG_ONCE_AWAY);
        end(&a, 503, NULL);
        pass(CLAIM_MS + 12000); /* for which it is remembered */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_ALL(the_first_in_the_log_has_it_and_the_other_hears_its_answer),
        TEST_ALL(of_two_that_ask_at_once_one_has_it),
        TEST_ALL(what_came_to_nothing_may_be_tried_by_another),
        TEST_ALL(a_claim_lasts_while_its_owner_lives_and_then_for_its_time),
        TEST_NONE(an_answer_that_is_too_long_is_not_given_again),
        TEST_ALL(the_oldest_answer_goes_first_and_what_is_under_way_never),
        TEST_NONE(who_comes_late_knows_what_was_written_long_ago),
        TEST_NONE(without_a_log_nothing_is_claimed),
        TEST_ALL(a_claim_that_cannot_be_written_is_refused_in_time),
        TEST_ALL(no_allocation_is_missed_when_it_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
