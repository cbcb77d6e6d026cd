/* SPDX-License-Identifier: Apache-2.0 */
/* What the leader does for instances that died, sessions whose time is over, and records that get old. */
#include "state_world.h"

static void sessions_of_a_dead_instance_are_disconnected_and_their_wills_published(void **state)
{
    (void)state;
    open_process(0);
    run();
    open_process(1);
    run();
    struct hg_session_record r = record("c", 1, 7);
    r.has_will = true;
    r.will = (struct hg_session_will){
        .topic = HG_BYTES("gone"), .payload = HG_BYTES("c"), .is_retained = true, .delay_ms = 3000};
    claim(1, &r);
    pass(15000);
    struct hg_session_record *known = find(0, "c");
    assert_int_equal(known->disconnected_ms, 0); /* its instance lives */
    hg_session_record_free(known);
    close_process(1);
    pass(8000);
    known = find(0, "c");
    assert_int_equal(known->disconnected_ms, 0); /* it may come back */
    hg_session_record_free(known);
    pass(6000);
    known = find(0, "c");
    assert_int_not_equal(known->disconnected_ms, 0);
    assert_int_equal(known->will_at_ms, known->disconnected_ms + 3000);
    hg_session_record_free(known);
    assert_int_equal(the->wills_n, 0);
    the->will_status = HG_BUSY; /* no room at first */
    pass(4000);
    the->will_status = HG_OK;
    pass(2500);
    assert_int_equal(the->wills_n, 1);
    assert_string_equal(the->wills[0], "gone=c retained");
    pass(3000);
    assert_int_equal(the->wills_n, 1); /* while it is under way */
    the->will_session->ops->settled(the->will_session, the->will_id, HG_OK, HG_BYTES(""));
    pass(5000);
    assert_int_equal(the->wills_n, 1);
    known = find(0, "c");
    assert_false(known->has_will);
    assert_int_not_equal(known->disconnected_ms, 0);
    hg_session_record_free(known);
}

static void an_instance_that_is_seen_again_is_not_dead(void **state)
{
    (void)state;
    open_process(0);
    run();
    open_process(1);
    run();
    struct hg_session_record r = record("c", 1, 7);
    claim(1, &r);
    for (int i = 0; i < 3; i++) {
        the->is_hiding = true;
        pass(8000);
        the->is_hiding = false;
        pass(4000);
    }
    struct hg_session_record *known = find(0, "c");
    assert_int_equal(known->disconnected_ms, 0);
    hg_session_record_free(known);
}

static void an_instance_taken_for_dead_loses_its_clients_when_it_reads_of_it(void **state)
{
    (void)state;
    open_process(0);
    run();
    open_process(1);
    run();
    struct client c;
    connect_client(1, 1, &c, "c");
    struct hg_session_record r = record("c", 1, c.claim.epoch);
    claim(1, &r);
    the->is_hiding = true;
    seam_net_cut(&the->sn, state_link(1));
    the->sn.is_refusing = true;
    pass(15000);
    the->sn.is_refusing = false;
    assert_int_equal(c.lost_n, 0);
    pass(8000);
    assert_int_equal(c.lost_n, 1);
    hg_claim_close(&c.claim);
}

static void a_session_whose_time_is_over_ends_with_its_will_and_queue(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct hg_session_record r = record("c", 0, 7);
    r.expiry_ms = 5000;
    r.disconnected_ms = seam_wall_ms;
    r.has_will = true;
    r.will_at_ms = seam_wall_ms + 60000;
    r.will = (struct hg_session_will){
        .topic = HG_BYTES("gone"), .payload = HG_BYTES("c"), .delay_ms = 60000};
    claim(0, &r);
    struct hg_session_record kept = record("kept", 0, 8);
    kept.expiry_ms = UINT64_MAX;
    kept.disconnected_ms = 1;
    claim(0, &kept);
    pass(4000);
    assert_int_equal(the->wills_n, 0);
    pass(4000);
    assert_int_equal(the->wills_n, 1);
    assert_true(is_known(0, "c")); /* until the will is out */
    the->will_session->ops->settled(the->will_session, the->will_id, HG_UNROUTABLE, HG_BYTES(""));
    run();
    assert_false(is_known(0, "c"));
    assert_string_equal(the->deleted, "mqtt-subscription-cqos1");
    assert_true(is_known(0, "kept"));
}

static void a_session_that_comes_back_meanwhile_is_left_alone(void **state)
{
    (void)state;
    open_process(0);
    run();
    struct hg_session_record r = record("c", 0, 7);
    r.expiry_ms = 1000;
    r.disconnected_ms = seam_wall_ms;
    r.has_will = true;
    r.will = (struct hg_session_will){.topic = HG_BYTES("gone"), .payload = HG_BYTES("c")};
    claim(0, &r);
    pass(4000);
    assert_int_equal(the->wills_n, 1);
    struct hg_session_record back = record("c", 0, 9);
    claim(0, &back);
    the->will_session->ops->settled(the->will_session, the->will_id, HG_OK, HG_BYTES(""));
    pass(3000);
    assert_true(is_known(0, "c"));
    assert_string_equal(the->deleted, "");
}

static void what_is_old_is_written_again_by_the_leader(void **state)
{
    (void)state;
    open_process(0);
    run();
    open_process(1);
    run();
    struct hg_session_record r = record("c", 1, 7);
    claim(1, &r);
    size_t sessions_n = count("session");
    for (int i = 0; i < 200; i++) { /* 64 KiB of log is soon written */
        struct waiter w = WAITER;
        hg_state_barrier(realm(1, 0), &w.wait);
        run();
        assert_int_equal(w.status, HG_OK);
    }
    pass(3000);
    assert_true(count("session") > sessions_n);
    assert_int_equal(hg_state_index_digest(hg_state_index_of(vhost(0))),
                     hg_state_index_digest(hg_state_index_of(vhost(1))));
    assert_true(hg_counted(&realm(0, 0)->worker->metrics.state.state_copies) > 0);
    assert_int_equal(hg_counted(&realm(1, 0)->worker->metrics.state.state_copies), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sessions_of_a_dead_instance_are_disconnected_and_their_wills_published),
        TEST(an_instance_that_is_seen_again_is_not_dead),
        TEST(an_instance_taken_for_dead_loses_its_clients_when_it_reads_of_it),
        TEST(a_session_whose_time_is_over_ends_with_its_will_and_queue),
        TEST(a_session_that_comes_back_meanwhile_is_left_alone),
        TEST(what_is_old_is_written_again_by_the_leader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
