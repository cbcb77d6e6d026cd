/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the log, barriers and writes, other processes, the end. */
#include "state_world.h"

/* ---- Reading ---- */

static void it_is_ready_when_the_log_was_read_to_its_end(void **state)
{
    (void)state;
    open_process(0);
    assert_true(hg_state_is_enabled(vhost(0)));
    assert_false(hg_state_is_settled(vhost(0)));
    run();
    assert_true(hg_state_is_ready(vhost(0)));
    assert_true(hg_state_is_settled(vhost(0)));
    assert_int_equal(the->processes[0].workers[0].reports_n, 1);
    assert_true(hg_state_is_bound(vhost(0), HG_BYTES("amq.topic")));
    assert_true(hg_state_is_bound(vhost(0), HG_BYTES("")));
    assert_false(hg_state_is_bound(vhost(0), HG_BYTES("other")));
    struct hg_session_record r = record("c", 0, 1);
    claim(0, &r);
    open_process(1);
    run();
    assert_true(is_known(1, "c"));
    assert_int_equal(hg_state_index_digest(hg_state_index_of(vhost(0))),
                     hg_state_index_digest(hg_state_index_of(vhost(1))));
}

static void without_streams_it_is_switched_off(void **state)
{
    (void)state;
    the->has_no_streams = true;
    open_process(0);
    run();
    assert_false(hg_state_is_enabled(vhost(0)));
    assert_true(hg_state_is_settled(vhost(0)));
    assert_null(hg_state_index_of(vhost(0)));
    assert_int_equal(atomic_load(&realm(0, 0)->worker->state), HG_WORKER_STARTING);
    struct hg_session_record r = record("c", 0, 1);
    assert_int_equal(hg_state_write(realm(0, 0), HG_SESSION_CLAIM, &r, NULL), HG_BROKER_AWAY);
    struct waiter w = WAITER;
    hg_state_barrier(realm(0, 1), &w.wait);
    pass(500);
    assert_int_equal(w.status, HG_BROKER_AWAY);
    hg_state_announce(realm(0, 1), HG_BYTES("c"));
}

static void without_streams_it_does_not_start_where_they_are_required(void **state)
{
    (void)state;
    the->has_no_streams = true;
    the->config.state_required = true;
    open_process(0);
    run();
    assert_int_equal(atomic_load(&realm(0, 0)->worker->state), HG_WORKER_FAILED);
}

static void a_gap_makes_the_index_anew(void **state)
{
    (void)state;
    open_process(0);
    open_process(1);
    run();
    struct hg_session_record old = record("old", 0, 1), new = record("new", 0, 2);
    claim(0, &old);
    assert_true(is_known(1, "old"));
    seam_net_cut(&the->sn, state_link(1));
    claim(0, &new);
    for (size_t i = 0; i + 1 < the->log_n; i++) { /* all that came before is truncated */
        hg_message_unref(the->log[i]);
        the->log[i] = NULL;
    }
    assert_false(hg_state_is_ready(vhost(1)));
    pass(3000);
    assert_true(hg_state_is_ready(vhost(1)));
    assert_false(is_known(1, "old"));
}

/* ---- Barriers and writes ---- */

static void a_barrier_comes_back_to_every_worker(void **state)
{
    (void)state;
    open_process(0);
    run();
    size_t barriers_n = count("barrier");
    struct waiter w[4] = {WAITER, WAITER, WAITER, WAITER};
    for (size_t i = 0; i < 4; i++) {
        hg_state_barrier(realm(0, i % 2), &w[i].wait);
    }
    hg_state_cancel(&w[3].wait);
    assert_int_equal(w[0].told_n, 0);
    assert_false(hg_state_is_idle(realm(0, 1)));
    run();
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(w[i].told_n, 1);
        assert_int_equal(w[i].status, HG_OK);
        hg_state_cancel(&w[i].wait);
    }
    assert_int_equal(w[3].told_n, 0);
    assert_true(count("barrier") - barriers_n <= 2); /* however many wait */
    assert_true(hg_state_is_idle(realm(0, 1)));
}

static void where_many_wait_the_next_barrier_is_sent_a_little_later(void **state)
{
    (void)state;
    open_process(0);
    run();
    enum { CROWD_N = 16 };
    size_t barriers_n = count("barrier");
    struct waiter crowd[CROWD_N], late[2] = {WAITER, WAITER};
    for (size_t i = 0; i < CROWD_N; i++) {
        crowd[i] = (struct waiter)WAITER;
        hg_state_barrier(realm(0, i % 2), &crowd[i].wait);
    }
    run();
    for (size_t i = 0; i < CROWD_N; i++) {
        assert_int_equal(crowd[i].told_n, 1);
    }
    assert_int_equal(count("barrier") - barriers_n, 1);
    hg_state_barrier(realm(0, 0), &late[0].wait);
    run();
    hg_state_barrier(realm(0, 1), &late[1].wait);
    run();
    assert_int_equal(late[0].told_n + late[1].told_n, 0);
    seam_now_ms += 4;
    while (late[0].told_n == 0 || late[1].told_n == 0) { /* the loop's own timer */
        run();
    }
    assert_int_equal(count("barrier") - barriers_n, 2);
    hg_state_barrier(realm(0, 0), &late[0].wait); /* two are no crowd */
    run();
    assert_int_equal(late[0].told_n, 2);
}

static void a_write_is_in_the_index_when_it_is_done(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct hg_session_record r = record("c", 0, 1);
    claim(0, &r);
    assert_true(is_known(0, "c"));
    struct waiter gone = WAITER;
    assert_int_equal(hg_state_write(realm(0, 1), HG_SESSION_END, &r, &gone.wait), HG_OK);
    hg_state_cancel(&gone.wait);
    run();
    assert_int_equal(gone.told_n, 0);
    assert_false(is_known(0, "c")); /* written none the less */
}

static void waits_go_on_after_a_cut(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct waiter w = WAITER;
    seam_net_cut(&the->sn, state_link(0));
    assert_false(hg_state_is_ready(vhost(0)));
    hg_state_barrier(realm(0, 1), &w.wait);
    run();
    assert_int_equal(w.told_n, 0);
    pass(3000);
    assert_int_equal(w.status, HG_OK);
    assert_int_equal(w.told_n, 1);
    assert_true(hg_state_is_ready(vhost(0)));
}

static void waits_end_where_rabbitmq_stays_away(void **state)
{
    (void)state;
    open_process(0);
    run();
    the->sn.is_refusing = true;
    seam_net_cut(&the->sn, state_link(0));
    struct waiter w = WAITER;
    hg_state_barrier(realm(0, 1), &w.wait);
    pass(4500);
    assert_int_equal(w.told_n, 0);
    pass(1000);
    assert_int_equal(w.told_n, 1);
    assert_int_equal(w.status, HG_BROKER_AWAY);
    the->sn.is_refusing = false;
}

static void nobody_waits_long_for_a_log_that_rabbitmq_has_not_got_ready(void **state)
{
    (void)state;
    the->config.unavailable_timeout_ms = 60000;
    open_process(0);
    run();
    the->is_log_down = true;
    seam_net_cut(&the->sn, state_link(0));
    struct waiter early = WAITER, late = WAITER, after = WAITER;
    hg_state_barrier(realm(0, 1), &early.wait);
    pass(9000);
    assert_int_equal(early.status, HG_BROKER_AWAY);
    hg_state_barrier(realm(0, 1), &late.wait);
    pass(500);
    assert_int_equal(late.told_n, 1);
    assert_true(hg_state_is_enabled(vhost(0)));
    the->is_log_down = false;
    pass(4000);
    hg_state_barrier(realm(0, 1), &after.wait);
    run();
    assert_int_equal(after.told_n, 1);
    assert_int_equal(after.status, HG_OK);
}

static void a_barrier_that_is_rejected_is_sent_again(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct seam_link *link =
        HG_CONTAINER_OF(realm(0, 0)->routing->publisher.link.stream, struct seam_link, stream);
    link->broker.has_auto_confirm = false;
    struct waiter w = WAITER;
    hg_state_barrier(realm(0, 1), &w.wait);
    run();
    assert_int_equal(w.told_n, 0);
    link->broker.has_auto_confirm = true;
    pass(1500);
    assert_int_equal(w.told_n, 1);
    assert_int_equal(w.status, HG_OK);
}

static void a_write_that_is_rejected_says_so(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct seam_link *link =
        HG_CONTAINER_OF(realm(0, 1)->routing->publisher.link.stream, struct seam_link, stream);
    link->broker.has_auto_confirm = false;
    struct hg_session_record r = record("c", 0, 1);
    struct waiter w = WAITER;
    assert_int_equal(hg_state_write(realm(0, 1), HG_SESSION_CLAIM, &r, &w.wait), HG_OK);
    run();
    assert_int_equal(w.told_n, 1);
    assert_int_equal(w.status, HG_REJECTED);
    assert_false(is_known(0, "c"));
}

static void a_log_that_was_made_anew_behind_its_back_is_noticed(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct hg_session_record r = record("c", 0, 1);
    claim(0, &r);
    struct reader *reader = &the->readers[0];
    reader->next = LOG_MAX; /* RabbitMQ waits for offsets that do not come */
    struct waiter w = WAITER;
    hg_state_barrier(realm(0, 1), &w.wait);
    pass(20000);
    assert_int_equal(w.status, HG_BROKER_AWAY); /* overdue meanwhile */
    struct waiter after = WAITER;
    hg_state_barrier(realm(0, 1), &after.wait);
    run();
    assert_int_equal(after.told_n, 1);
    assert_int_equal(after.status, HG_OK);
    assert_true(hg_state_is_ready(vhost(0)));
    assert_true(is_known(0, "c"));
}

static void no_failed_allocation_leaves_anybody_waiting(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct client connected;
    connect_user(0, 1, &connected, "alice");
    for (size_t n = 1; n < 60; n++) {
        struct waiter written = WAITER, waited = WAITER;
        struct hg_session_record r = record("c", 0, n);
        seam_fail_alloc(n);
        enum hg_status status = hg_state_write(realm(0, 1), HG_SESSION_CLAIM, &r, &written.wait);
        hg_state_barrier(realm(0, 0), &waited.wait);
        hg_state_announce(realm(0, 1), HG_BYTES("c"));
        run();
        seam_fail_alloc(0);
        pass(5500);
        assert_int_equal(written.told_n, status == HG_OK);
        assert_int_equal(waited.told_n, 1);
        assert_true(hg_state_is_ready(vhost(0)));
    }
    struct hg_session_record r = record("c", 0, 100);
    claim(0, &r);
    hg_claim_close(&connected.claim);
}

/* ---- Other processes ---- */

static void a_session_taken_by_another_process_is_lost_here(void **state)
{
    (void)state;
    open_process(0);
    open_process(1);
    run();
    struct client here, there;
    connect_client(0, 1, &here, "c");
    struct hg_session_record first = record("c", 0, here.claim.epoch);
    claim(0, &first);
    connect_client(1, 0, &there, "c");
    struct hg_session_record second = record("c", 1, there.claim.epoch);
    claim(1, &second);
    run();
    assert_int_equal(here.lost_n, 1);
    assert_int_equal(there.lost_n, 0);
    hg_claim_close(&here.claim);
    hg_claim_close(&there.claim);
}

static void the_older_of_two_unkept_sessions_is_lost(void **state)
{
    (void)state;
    open_process(0);
    open_process(1);
    run();
    struct client older, newer;
    connect_client(0, 1, &older, "c");
    seam_wall_ms += 1;
    connect_client(1, 1, &newer, "c");
    seam_wall_ms += 1;
    hg_state_announce(realm(1, 1), HG_BYTES("c")); /* in whichever order they are told */
    hg_state_announce(realm(0, 1), HG_BYTES("who has gone again"));
    hg_state_announce(realm(0, 1), HG_BYTES("c"));
    run();
    assert_int_equal(older.lost_n, 1);
    assert_int_equal(newer.lost_n, 0);
    hg_claim_close(&older.claim);
    hg_claim_close(&newer.claim);
}

static void who_comes_right_after_an_announcement_is_announced_with_those_that_follow(void **state)
{
    (void)state;
    open_process(0);
    open_process(1);
    run();
    struct client older, newer, first, last;
    connect_client(0, 0, &older, "c");
    seam_wall_ms += 1;
    connect_client(1, 1, &newer, "c");
    connect_client(1, 1, &first, "first");
    connect_client(1, 1, &last, "last");
    hg_state_announce(realm(1, 1), HG_BYTES("first"));
    run();
    hg_state_announce(realm(1, 1), HG_BYTES("c"));
    run();
    hg_state_announce(realm(1, 1), HG_BYTES("last"));
    run();
    assert_int_equal(older.lost_n, 0);
    assert_false(hg_state_is_idle(realm(1, 1)));
    pass((uint64_t)2 * HG_WHEEL_TICK_MS);
    assert_int_equal(older.lost_n, 1);
    assert_true(hg_state_is_idle(realm(1, 1)));
    assert_int_equal(the->broadcasts_n, 2);
    hg_claim_close(&older.claim);
    hg_claim_close(&newer.claim);
    hg_claim_close(&first.claim);
    hg_claim_close(&last.claim);
}

/* Whichever gateway is told first. */
static void of_two_users_sessions_the_newer_is_lost(void **state)
{
    (void)state;
    open_process(0);
    open_process(1);
    run();
    for (size_t there = 0; there < 2; there++) {
        for (int is_same = 0; is_same < 2; is_same++) {
            struct client older, newer;
            connect_user(1 - there, 1, &older, "alice");
            seam_wall_ms += 1;
            connect_user(there, 0, &newer, is_same ? "alice" : "");
            hg_state_announce(realm(there, 0), HG_BYTES("c"));
            pass((uint64_t)4 * HG_WHEEL_TICK_MS);
            assert_int_equal(older.lost_n, is_same);
            assert_int_equal(newer.lost_n, !is_same);
            assert_int_equal(newer.why, is_same ? HG_OK : HG_NOT_ALLOWED);
            hg_claim_close(&older.claim);
            hg_claim_close(&newer.claim);
            seam_wall_ms += 1;
        }
    }
}

static void announcements_wait_for_no_more_than_a_message_should_hold(void **state)
{
    (void)state;
    open_process(0);
    run();
    char id[1024 + 1] = "";
    memset(id, 'c', sizeof(id) - 1);
    struct client c;
    connect_client(0, 0, &c, id);
    hg_state_announce(realm(0, 0), hg_bytes_str(id));
    run();
    for (int i = 0; i < 64 * 1024 / (1024 + 10) + 1; i++) {
        hg_state_announce(realm(0, 0), hg_bytes_str(id));
    }
    assert_int_equal(the->broadcasts_n, 1);
    run();
    assert_int_equal(the->broadcasts_n, 2);
    hg_claim_close(&c.claim);
}

static void a_broadcast_of_another_version_or_cut_short_does_nothing(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct client c;
    connect_client(0, 0, &c, "c");
    uint8_t body[] = {1,    0,    0,    0,    0,    0,    0,    0,    9, 0, 1,  'x',
                      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0, 1, 'c'};
    for (size_t n = 0; n < sizeof(body); n++) {
        hg_state_on_broadcast(vhost(0)->state, hg_bytes(body, n));
    }
    body[0] = 2;
    hg_state_on_broadcast(vhost(0)->state, hg_bytes(body, sizeof(body)));
    run();
    assert_int_equal(c.lost_n, 0);
    body[0] = 1;
    hg_state_on_broadcast(vhost(0)->state, hg_bytes(body, sizeof(body)));
    run();
    assert_int_equal(c.lost_n, 1);
    hg_claim_close(&c.claim);
}

static void one_leads_and_then_the_other(void **state)
{
    (void)state;
    open_process(0);
    run();
    open_process(1);
    run();
    struct hg_state_stats a, b;
    hg_state_stats(vhost(0), &a);
    hg_state_stats(vhost(1), &b);
    assert_true(a.is_leader);
    assert_false(b.is_leader);
    close_process(0);
    pass(3100);
    hg_state_stats(vhost(1), &b);
    assert_true(b.is_leader);
}

/* ---- The end ---- */

static void the_first_worker_stays_until_the_others_need_it_no_more(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct hg_session_record r = record("c", 0, 7);
    assert_true(hg_state_is_idle(realm(0, 1)));
    assert_false(hg_state_is_idle(realm(0, 0)));
    struct waiter w = WAITER;
    assert_int_equal(hg_state_write(realm(0, 1), HG_SESSION_CLAIM, &r, &w.wait), HG_OK);
    assert_false(hg_state_is_idle(realm(0, 1)));
    run();
    assert_int_equal(w.status, HG_OK);
    assert_true(hg_state_is_idle(realm(0, 1)));
    hg_state_stop(realm(0, 1));
    assert_true(hg_state_is_stopped(realm(0, 1)));
    assert_true(hg_state_is_idle(realm(0, 0)));
    assert_false(hg_state_is_stopped(realm(0, 0)));
    hg_state_stop(realm(0, 0));
    run();
    assert_true(hg_state_is_stopped(realm(0, 0)));
}

static void whoever_still_waits_at_the_end_is_not_told(void **state)
{
    (void)state;
    open_process(0);
    run();
    static struct waiter w[2]; /* outlive the process */
    struct hg_session_record r = record("c", 0, 7);
    w[0] = w[1] = (struct waiter)WAITER;
    hg_state_barrier(realm(0, 1), &w[0].wait);
    assert_int_equal(hg_state_write(realm(0, 1), HG_SESSION_CLAIM, &r, &w[1].wait), HG_OK);
    hg_state_announce(realm(0, 1), HG_BYTES("c"));
    close_process(0);
    assert_int_equal(w[0].told_n + w[1].told_n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_is_ready_when_the_log_was_read_to_its_end),
        TEST(without_streams_it_is_switched_off),
        TEST(without_streams_it_does_not_start_where_they_are_required),
        TEST(a_gap_makes_the_index_anew),
        TEST(a_barrier_comes_back_to_every_worker),
        TEST(where_many_wait_the_next_barrier_is_sent_a_little_later),
        TEST(a_write_is_in_the_index_when_it_is_done),
        TEST(waits_go_on_after_a_cut),
        TEST(waits_end_where_rabbitmq_stays_away),
        TEST(nobody_waits_long_for_a_log_that_rabbitmq_has_not_got_ready),
        TEST(a_barrier_that_is_rejected_is_sent_again),
        TEST(a_write_that_is_rejected_says_so),
        TEST(a_log_that_was_made_anew_behind_its_back_is_noticed),
        TEST(no_failed_allocation_leaves_anybody_waiting),
        TEST(a_session_taken_by_another_process_is_lost_here),
        TEST(the_older_of_two_unkept_sessions_is_lost),
        TEST(who_comes_right_after_an_announcement_is_announced_with_those_that_follow),
        TEST(of_two_users_sessions_the_newer_is_lost),
        TEST(announcements_wait_for_no_more_than_a_message_should_hold),
        TEST(a_broadcast_of_another_version_or_cut_short_does_nothing),
        TEST(one_leads_and_then_the_other),
        TEST(the_first_worker_stays_until_the_others_need_it_no_more),
        TEST(whoever_still_waits_at_the_end_is_not_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
