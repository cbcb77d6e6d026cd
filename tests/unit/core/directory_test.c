/* SPDX-License-Identifier: Apache-2.0 */
/* Claims on client identifiers and questions to all workers, between real threads. */
#include "core/directory.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/mem.h"
#include "core/gather.h"
#include "seam/unit.h"

#include <string.h>

/* ---- Workers that are a loop and a mailbox ---- */

enum { WORKERS_N = 4 };

struct bench {
    struct hg_gateway gateway;
    struct hg_vhost vhost;
    struct hg_worker workers[WORKERS_N];
    struct hg_realm realms[WORKERS_N];
    struct hg_worker *all[WORKERS_N];
};

static void on_mail(void *ctx, struct hg_mail *mail)
{
    struct hg_worker *w = ctx;
    switch (mail->kind) {
    case HG_MAIL_CLAIM: hg_claim_on_mail(mail); break;
    case HG_MAIL_GATHER_ASK: hg_gather_on_ask(w, mail); break;
    case HG_MAIL_GATHER_DONE: hg_gather_on_done(mail); break;
    default: uv_stop(&w->loop);
    }
}

static void bench_open(struct bench *b)
{
    memset(b, 0, sizeof(*b));
    b->vhost = (struct hg_vhost){.gateway = &b->gateway, .directory = hg_directory_new()};
    b->gateway.workers = b->all;
    b->gateway.workers_n = WORKERS_N;
    for (unsigned i = 0; i < WORKERS_N; i++) {
        struct hg_worker *w = b->all[i] = &b->workers[i];
        w->gateway = &b->gateway;
        b->realms[i] = (struct hg_realm){.worker = w, .vhost = &b->vhost};
        w->index = i;
        uv_loop_init(&w->loop);
        w->mailbox = hg_mailbox_new(&w->loop, on_mail, w);
        assert_non_null(w->mailbox);
    }
}

/* Every worker's loop turns on this one thread until nothing more happens. */
static void settle(struct bench *b)
{
    for (int round = 0; round < 10; round++) {
        for (unsigned i = 0; i < WORKERS_N; i++) {
            uv_run(&b->workers[i].loop, UV_RUN_NOWAIT);
        }
    }
}

static void bench_close(struct bench *b)
{
    for (unsigned i = 0; i < WORKERS_N; i++) {
        hg_mailbox_close(b->workers[i].mailbox);
        uv_run(&b->workers[i].loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&b->workers[i].loop), 0);
    }
    for (unsigned i = 0; i < WORKERS_N; i++) {
        hg_mailbox_free(b->workers[i].mailbox);
    }
    hg_directory_free(b->vhost.directory);
}

struct client {
    struct hg_claim claim;
    unsigned granted_n, lost_n;
    enum hg_status why; /* it is lost */
    bool keeps;         /* does not close when it is lost */
};

static void on_granted(struct hg_claim *claim)
{
    HG_CONTAINER_OF(claim, struct client, claim)->granted_n++;
}

static void on_lost(struct hg_claim *claim, enum hg_status why)
{
    struct client *c = HG_CONTAINER_OF(claim, struct client, claim);
    c->lost_n++;
    c->why = why;
    if (!c->keeps) {
        hg_claim_close(claim);
    }
}

static const struct hg_claim_ops ops = {on_granted, on_lost};

static void claim(struct bench *b, unsigned worker, struct client *c, const char *id)
{
    const struct hg_claim_who who = {.client_id = hg_bytes_str(id)};
    assert_int_equal(hg_claim_open(&b->realms[worker], &c->claim, &who, &ops), HG_OK);
    assert_int_equal(c->granted_n + c->lost_n, 0); /* nothing from inside */
}

/* "id", for a user, NULL: for who says it. */
static struct hg_claim_who of_user(const char *user)
{
    return (struct hg_claim_who){
        .client_id = HG_BYTES("id"), .user = hg_bytes_str(user), .is_owned = user != NULL};
}

static enum hg_status claim_as(struct bench *b, unsigned worker, struct client *c, const char *user)
{
    const struct hg_claim_who who = of_user(user);
    return hg_claim_open(&b->realms[worker], &c->claim, &who, &ops);
}

static uint64_t claimed_ms(struct bench *b, const char *user)
{
    struct hg_writer w = {0};
    struct hg_claimed claimed = hg_directory_claimed(b->vhost.directory, HG_BYTES("id"), &w);
    assert_int_equal(claimed.is_owned, user != NULL);
    assert_true(hg_bytes_eq(hg_writer_view(&w), hg_bytes_str(user)));
    hg_writer_close(&w);
    return claimed.at_ms;
}

#define ASSERT_HEARD(client, granted, lost)              \
    do {                                                 \
        assert_int_equal((client).granted_n, (granted)); \
        assert_int_equal((client).lost_n, (lost));       \
    } while (0)

/* ---- Claims ---- */

static void a_free_identifier_is_granted(void **state)
{
    (void)state;
    struct bench b;
    struct client x = {0}, y = {0}, empty = {0};
    bench_open(&b);
    claim(&b, 0, &x, "x");
    claim(&b, 1, &y, "y");
    claim(&b, 1, &empty, "");
    settle(&b);
    ASSERT_HEARD(x, 1, 0);
    ASSERT_HEARD(y, 1, 0);
    ASSERT_HEARD(empty, 1, 0);
    assert_true(hg_bytes_eq(hg_claim_id(&x.claim), HG_BYTES("x")));
    hg_claim_close(&x.claim);
    hg_claim_close(&x.claim); /* as good as zeroed */
    assert_int_equal(hg_claim_id(&x.claim).n, 0);
    hg_claim_close(&y.claim);
    hg_claim_close(&empty.claim);
    bench_close(&b);
}

static void the_later_claim_waits_until_the_earlier_is_closed(void **state)
{
    (void)state;
    for (unsigned worker = 0; worker < 2; worker++) { /* the same one, another one */
        struct bench b;
        struct client first = {.keeps = true}, second = {0};
        bench_open(&b);
        claim(&b, 0, &first, "id");
        settle(&b);
        claim(&b, worker, &second, "id");
        settle(&b);
        ASSERT_HEARD(first, 1, 1);
        ASSERT_HEARD(second, 0, 0);
        hg_claim_close(&first.claim);
        assert_int_equal(second.granted_n, 0); /* from the loop */
        settle(&b);
        ASSERT_HEARD(second, 1, 0);
        hg_claim_close(&second.claim);
        bench_close(&b);
    }
}

static void only_the_last_of_many_is_granted(void **state)
{
    (void)state;
    struct bench b;
    struct client c[20] = {0};
    bench_open(&b);
    c[0].keeps = true;
    for (unsigned i = 0; i < 20; i++) {
        claim(&b, i % WORKERS_N, &c[i], "id");
    }
    settle(&b);
    ASSERT_HEARD(c[0], 0, 1); /* lost before it heard of the grant */
    for (unsigned i = 1; i < 19; i++) {
        ASSERT_HEARD(c[i], 0, 1);
    }
    ASSERT_HEARD(c[19], 0, 0);
    hg_claim_close(&c[0].claim);
    settle(&b);
    ASSERT_HEARD(c[19], 1, 0);
    hg_claim_close(&c[19].claim);
    bench_close(&b);
}

static void a_cancelled_claim_changes_nothing_for_the_others(void **state)
{
    (void)state;
    struct bench b;
    struct client first = {.keeps = true}, middle = {0}, last = {0};
    bench_open(&b);
    claim(&b, 0, &first, "id");
    claim(&b, 1, &middle, "id");
    hg_claim_close(&middle.claim); /* with mail under way to it */
    claim(&b, 2, &last, "id");
    settle(&b);
    ASSERT_HEARD(middle, 0, 0);
    hg_claim_close(&first.claim);
    hg_claim_close(&last.claim); /* granted a moment ago, and not told yet */
    settle(&b);
    ASSERT_HEARD(last, 0, 0);
    struct client next = {0};
    claim(&b, 3, &next, "id");
    settle(&b);
    ASSERT_HEARD(next, 1, 0);
    hg_claim_close(&next.claim);
    bench_close(&b);
}

/* ---- Other processes ---- */

static void another_process_takes_exactly_the_claim_it_names(void **state)
{
    (void)state;
    struct bench b;
    struct client a = {0}, other = {0}, next = {0};
    bench_open(&b);
    claim(&b, 0, &a, "id");
    claim(&b, 1, &other, "other");
    settle(&b);
    uint64_t epoch = a.claim.epoch;
    assert_int_not_equal(epoch, other.claim.epoch);
    hg_directory_evict(b.vhost.directory, HG_BYTES("id"), other.claim.epoch);
    hg_directory_evict(b.vhost.directory, HG_BYTES("nobody"), epoch);
    settle(&b);
    ASSERT_HEARD(a, 1, 0);
    hg_directory_evict(b.vhost.directory, HG_BYTES("id"), epoch);
    hg_directory_evict(b.vhost.directory, HG_BYTES("id"), epoch);
    settle(&b);
    ASSERT_HEARD(a, 1, 1);
    ASSERT_HEARD(other, 1, 0);
    claim(&b, 0, &next, "id"); /* the way is free */
    hg_directory_evict(b.vhost.directory, HG_BYTES("id"), epoch);
    settle(&b);
    ASSERT_HEARD(next, 1, 0);
    hg_claim_close(&next.claim);
    hg_claim_close(&other.claim);
    bench_close(&b);
}

static void a_claim_before_it_is_granted_can_be_taken_too(void **state)
{
    (void)state;
    struct bench b;
    struct client first = {.keeps = true}, second = {0};
    bench_open(&b);
    claim(&b, 0, &first, "id");
    claim(&b, 1, &second, "id");
    hg_directory_evict(b.vhost.directory, HG_BYTES("id"), second.claim.epoch);
    settle(&b);
    ASSERT_HEARD(second, 0, 1);
    hg_claim_close(&first.claim);
    bench_close(&b);
}

static void of_two_processes_claims_one_gives_way(void **state)
{
    (void)state;
    static const struct {
        const char *ours, *theirs;
        int64_t later_ms; /* the other process's claim, seen from ours */
        bool is_ours_first;
        enum hg_status why; /* ours is lost */
        bool is_contested;
    } cases[] = {
        {NULL, NULL, 1, false, HG_TAKEN_OVER, false},
        {NULL, NULL, 0, true, HG_TAKEN_OVER, false},
        {NULL, NULL, 0, false, HG_OK, false},
        {NULL, NULL, -1, true, HG_OK, false},
        {"alice", "alice", 1, false, HG_TAKEN_OVER, false},
        {"alice", "alice", -1, false, HG_OK, false},
        {"alice", NULL, 1, false, HG_TAKEN_OVER, false},
        {NULL, "alice", 1, false, HG_TAKEN_OVER, false},
        {"alice", "bob", 1, false, HG_OK, true},
        {"alice", "bob", 0, true, HG_OK, true},
        {"alice", "bob", 0, false, HG_NOT_ALLOWED, false},
        {"alice", "", -1, true, HG_NOT_ALLOWED, false},
        {"", "", -1, true, HG_OK, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bench b;
        struct client c = {0};
        bench_open(&b);
        assert_int_equal(claim_as(&b, 0, &c, cases[i].ours), HG_OK);
        settle(&b);
        const struct hg_claim_who theirs = of_user(cases[i].theirs);
        uint64_t ms = claimed_ms(&b, cases[i].ours) + (uint64_t)cases[i].later_ms;
        for (unsigned times = 0; times < 2; times++) { /* once it is lost nobody contests */
            assert_int_equal(
                hg_directory_meet(b.vhost.directory, &theirs, ms, cases[i].is_ours_first),
                cases[i].is_contested);
        }
        settle(&b);
        ASSERT_HEARD(c, 1, cases[i].why != HG_OK);
        assert_int_equal(c.why, cases[i].why);
        hg_claim_close(&c.claim);
        assert_int_equal(claimed_ms(&b, NULL), 0);
        bench_close(&b);
    }
}

static void another_users_identifier_is_not_to_be_had(void **state)
{
    (void)state;
    struct bench b;
    struct client alice = {.keeps = true}, again = {0}, bob = {0}, nobody = {0}, anybody = {0};
    bench_open(&b);
    assert_int_equal(claim_as(&b, 0, &alice, "alice"), HG_OK);
    settle(&b);
    assert_int_equal(claim_as(&b, 1, &bob, "bob"), HG_NOT_ALLOWED);
    assert_int_equal(claim_as(&b, 1, &nobody, ""), HG_NOT_ALLOWED);
    assert_int_equal(claim_as(&b, 1, &again, "alice"), HG_OK);
    assert_int_equal(claim_as(&b, 1, &bob, "bob"), HG_NOT_ALLOWED);
    hg_claim_close(&bob.claim); /* as good as zeroed */
    settle(&b);
    ASSERT_HEARD(alice, 1, 1);
    hg_claim_close(&alice.claim);
    settle(&b);
    assert_int_equal(claim_as(&b, 2, &anybody, NULL), HG_OK); /* of before there were users */
    settle(&b);
    ASSERT_HEARD(again, 1, 1);
    ASSERT_HEARD(anybody, 1, 0);
    assert_int_equal(claim_as(&b, 1, &bob, "bob"), HG_OK);
    settle(&b);
    ASSERT_HEARD(anybody, 1, 1);
    ASSERT_HEARD(bob, 1, 0);
    bob.keeps = true;
    hg_claim_yield(&bob.claim); /* is about to be gone */
    assert_int_equal(claim_as(&b, 1, &nobody, ""), HG_OK);
    settle(&b);
    ASSERT_HEARD(nobody, 0, 0);
    hg_claim_close(&bob.claim);
    settle(&b);
    ASSERT_HEARD(nobody, 1, 0);
    hg_claim_close(&nobody.claim);
    bench_close(&b);
}

/* ---- Four threads that take one identifier from each other ---- */

enum { ROUNDS = 300 };

struct racer {
    struct hg_worker *worker;
    struct hg_realm *realm;
    struct client_racer {
        struct hg_claim claim;
        struct racer *racer;
    } now;
    unsigned rounds_n;
    _Atomic int *owners; /* how many believe that it is theirs */
    _Atomic int *done;
    bool is_granted;
    uv_async_t go;
};

static struct racer *racer_of(struct hg_claim *c)
{
    return HG_CONTAINER_OF(c, struct client_racer, claim)->racer;
}

static void race_granted(struct hg_claim *c)
{
    struct racer *r = racer_of(c);
    HG_CHECK(atomic_fetch_add(r->owners, 1) == 0);
    r->is_granted = true;
    uv_async_send(&r->go);
}

static void release(struct racer *r)
{
    if (r->is_granted) {
        r->is_granted = false;
        atomic_fetch_sub(r->owners, 1);
    }
    hg_claim_close(&r->now.claim);
}

static void race_lost(struct hg_claim *c, enum hg_status why)
{
    (void)why;
    struct racer *r = racer_of(c);
    release(r);
    uv_async_send(&r->go);
}

static const struct hg_claim_ops race_ops = {race_granted, race_lost};

static void race(uv_async_t *go)
{
    struct racer *r = go->data;
    release(r);
    if (r->rounds_n++ == ROUNDS) {
        if (atomic_fetch_add(r->done, 1) + 1 == WORKERS_N) {
            for (unsigned i = 0; i < WORKERS_N; i++) {
                struct hg_worker *w = r->worker->gateway->workers[i];
                hg_mailbox_send(w->mailbox, &w->stop_mail);
            }
        }
        return;
    }
    const struct hg_claim_who who = {.client_id = HG_BYTES("contested")};
    HG_CHECK(hg_claim_open(r->realm, &r->now.claim, &who, &race_ops) == HG_OK);
    if (r->rounds_n % 3 == 0) {
        uv_async_send(go); /* gives it up before it has heard anything */
    }
}

static void run_racer(void *arg)
{
    struct racer *r = arg;
    uv_async_send(&r->go);
    uv_run(&r->worker->loop, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&r->go, NULL);
}

static void at_most_one_owns_it_and_everybody_gets_on(void **state)
{
    (void)state;
    struct bench b;
    struct racer racers[WORKERS_N] = {0};
    uv_thread_t threads[WORKERS_N];
    _Atomic int owners = 0, done = 0;
    bench_open(&b);
    for (unsigned i = 0; i < WORKERS_N; i++) {
        b.workers[i].stop_mail.kind = HG_MAIL_STOP;
        racers[i] = (struct racer){
            .worker = &b.workers[i], .realm = &b.realms[i], .owners = &owners, .done = &done};
        racers[i].now.racer = &racers[i];
        uv_async_init(&b.workers[i].loop, &racers[i].go, race);
        racers[i].go.data = &racers[i];
    }
    for (unsigned i = 0; i < WORKERS_N; i++) {
        assert_int_equal(uv_thread_create(&threads[i], run_racer, &racers[i]), 0);
    }
    for (unsigned i = 0; i < WORKERS_N; i++) {
        uv_thread_join(&threads[i]);
    }
    assert_int_equal(owners, 0);
    bench_close(&b);
}

/* ---- Questions to every worker ---- */

static void ask_index(struct hg_worker *w, struct hg_writer *out)
{
    if (w->index != 2) { /* which has nothing to say */
        hg_writer_printf(out, "worker %u", w->index);
    }
}

struct asker {
    unsigned done_n;
    char text[200];
};

static void on_done(void *ctx, struct hg_bytes text)
{
    struct asker *a = ctx;
    a->done_n++;
    assert_true(text.n < sizeof(a->text));
    memcpy(a->text, text.p, text.n);
}

static void answers_come_joined_in_the_workers_order(void **state)
{
    (void)state;
    struct bench b;
    struct asker a = {0};
    bench_open(&b);
    assert_non_null(hg_gather(&b.workers[1], ask_index, ", ", on_done, &a));
    assert_int_equal(a.done_n, 0);
    settle(&b);
    assert_int_equal(a.done_n, 1);
    assert_string_equal(a.text, "worker 0, worker 1, worker 3");
    bench_close(&b);
}

static void a_cancelled_question_is_not_answered(void **state)
{
    (void)state;
    struct bench b;
    struct asker a = {0};
    bench_open(&b);
    struct hg_gather *g = hg_gather(&b.workers[1], ask_index, ", ", on_done, &a);
    uv_run(&b.workers[0].loop, UV_RUN_NOWAIT);
    hg_gather_cancel(g);
    settle(&b);
    assert_int_equal(a.done_n, 0);
    bench_close(&b);
}

static void a_worker_that_has_stopped_is_left_out(void **state)
{
    (void)state;
    struct bench b;
    struct asker a = {0};
    bench_open(&b);
    hg_mailbox_close(b.workers[0].mailbox);
    uv_run(&b.workers[0].loop, UV_RUN_DEFAULT);
    assert_non_null(hg_gather(&b.workers[1], ask_index, ", ", on_done, &a));
    settle(&b);
    assert_string_equal(a.text, "worker 1, worker 3");
    /* And one whose asker stops is freed by whoever answers last. */
    struct hg_gather *g = hg_gather(&b.workers[1], ask_index, ", ", on_done, &a);
    hg_gather_cancel(g);
    hg_mailbox_close(b.workers[1].mailbox);
    uv_run(&b.workers[1].loop, UV_RUN_DEFAULT);
    settle(&b);
    assert_int_equal(a.done_n, 1);
    for (unsigned i = 2; i < WORKERS_N; i++) {
        hg_mailbox_close(b.workers[i].mailbox);
        uv_run(&b.workers[i].loop, UV_RUN_DEFAULT);
    }
    for (unsigned i = 0; i < WORKERS_N; i++) {
        assert_int_equal(uv_loop_close(&b.workers[i].loop), 0);
        hg_mailbox_free(b.workers[i].mailbox);
    }
    hg_directory_free(b.vhost.directory);
}

/* ---- Mail to oneself ---- */

static void end_turn(struct hg_net *net)
{
    while (!hg_list_is_empty(&net->deferred)) {
        struct hg_defer *defer = HG_LIST_ENTRY(net->deferred.next, struct hg_defer, link);
        hg_net_undefer(defer);
        defer->run(defer);
    }
}

static void mail_to_oneself_comes_at_the_end_of_the_turn_without_a_wake_up(void **state)
{
    (void)state;
    struct bench b;
    struct hg_net net = {0};
    struct client mine = {0}, other = {0}, later = {0};
    bench_open(&b);
    hg_list_init(&net.deferred);
    hg_mailbox_belongs(b.workers[0].mailbox, &net);
    claim(&b, 0, &mine, "mine");
    claim(&b, 1, &other, "other");
    settle(&b);
    ASSERT_HEARD(other, 1, 0);
    ASSERT_HEARD(mine, 0, 0);
    end_turn(&net);
    ASSERT_HEARD(mine, 1, 0);
    claim(&b, 1, &later, "mine"); /* on this thread as well, which is that of mine */
    settle(&b);
    ASSERT_HEARD(mine, 1, 0);
    end_turn(&net);
    ASSERT_HEARD(mine, 1, 1);
    settle(&b);
    ASSERT_HEARD(later, 1, 0);
    hg_claim_close(&other.claim);
    hg_claim_close(&later.claim);
    struct client last = {0};
    claim(&b, 0, &last, "last"); /* its mail is there when the mailbox closes */
    hg_claim_close(&last.claim);
    bench_close(&b);
    assert_true(hg_list_is_empty(&net.deferred));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mail_to_oneself_comes_at_the_end_of_the_turn_without_a_wake_up),
        cmocka_unit_test(a_free_identifier_is_granted),
        cmocka_unit_test(the_later_claim_waits_until_the_earlier_is_closed),
        cmocka_unit_test(only_the_last_of_many_is_granted),
        cmocka_unit_test(a_cancelled_claim_changes_nothing_for_the_others),
        cmocka_unit_test(another_process_takes_exactly_the_claim_it_names),
        cmocka_unit_test(a_claim_before_it_is_granted_can_be_taken_too),
        cmocka_unit_test(of_two_processes_claims_one_gives_way),
        cmocka_unit_test(another_users_identifier_is_not_to_be_had),
        cmocka_unit_test(at_most_one_owns_it_and_everybody_gets_on),
        cmocka_unit_test(answers_come_joined_in_the_workers_order),
        cmocka_unit_test(a_cancelled_question_is_not_answered),
        cmocka_unit_test(a_worker_that_has_stopped_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
