/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/upload.h"

#include "rig.h"

enum { PLACES = 2, MOST = 4, FRAME_MAX_BYTES = 4096 };

struct bench {
    struct seam_net sn;
    struct hg_uploads uploads;
    struct hg_upstream_metrics metrics;
    struct hg_upload *handles[MOST]; /* by id, as the next */
    enum hg_status outcomes[MOST];   /* HG_STATUS_N: none yet */
    char reasons[MOST][128];
    unsigned told[MOST], rooms[MOST];
};

static void on_settled(void *owner, uint64_t id, enum hg_status outcome, struct hg_bytes reason)
{
    struct bench *t = owner;
    t->outcomes[id] = outcome;
    t->told[id]++;
    (void)snprintf(t->reasons[id], sizeof(t->reasons[id]), "%.*s", HG_BYTES_FMT(reason));
}

static void on_room(void *owner, uint64_t id)
{
    ((struct bench *)owner)->rooms[id]++;
}

static void small_frames(struct broker *b)
{
    b->frame_max = FRAME_MAX_BYTES;
}

static struct bench *open_bench(void)
{
    struct bench *t = calloc(1, sizeof(*t));
    assert_non_null(t);
    seam_net_open(&t->sn);
    t->sn.prepare = small_frames;
    for (size_t i = 0; i < MOST; i++) {
        t->outcomes[i] = HG_STATUS_N;
    }
    const struct hg_uploads_config config = {.link = rig_link(&t->metrics),
                                             .instance = "test",
                                             .most_n = PLACES,
                                             .metrics = &t->metrics};
    assert_true(hg_uploads_open(&t->uploads, &t->sn.net, &config));
    return t;
}

static void close_bench(struct bench *t)
{
    hg_uploads_close(&t->uploads);
    seam_net_close(&t->sn);
    free(t);
}

static enum hg_status begin(struct bench *t, uint64_t id, uint64_t body_bytes)
{
    const struct hg_message_parts parts = {.exchange = HG_BYTES("amq.topic"),
                                           .routing_key = HG_BYTES("k"),
                                           .properties = {.message_id = HG_BYTES("m")},
                                           .is_mandatory = true};
    struct hg_message *m = hg_message_new(&parts);
    if (m == NULL) {
        return HG_NO_MEMORY;
    }
    const struct hg_upload_order order = {
        .message_own = &m,
        .body_bytes = body_bytes,
        .owner = t,
        .id = id,
        .on_room = on_room,
        .on_settled = on_settled,
        .timeout_ms = 10000,
    };
    enum hg_status status = hg_upload_begin(&t->uploads, &order, &t->handles[id]);
    assert_null(m);
    return status;
}

/* Begins, and waits until the body may come. */
static struct broker *begin_open(struct bench *t, uint64_t id, uint64_t body_bytes)
{
    assert_int_equal(begin(t, id, body_bytes), HG_OK);
    assert_int_equal(t->rooms[id], 0);
    seam_net_run(&t->sn);
    assert_int_equal(t->rooms[id], 1);
    return rig_broker(&t->sn);
}

static struct hg_bytes pattern(size_t n)
{
    static uint8_t bytes[64 * 1024];
    assert_true(n <= sizeof(bytes));
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    }
    return hg_bytes(bytes, n);
}

/* As one does: a piece, then room, then the next. */
static void write_all(struct bench *t, uint64_t id, struct hg_bytes body, size_t step)
{
    while (body.n > 0) {
        struct hg_bytes piece = hg_bytes(body.p, step < body.n ? step : body.n);
        body = hg_bytes_skip(body, piece.n);
        unsigned rooms = t->rooms[id];
        bool has_more_room = hg_upload_write(t->handles[id], piece);
        seam_net_run(&t->sn);
        assert_true(body.n == 0 || has_more_room || t->rooms[id] == rooms + 1);
    }
}

static size_t open_links(const struct bench *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->sn.links_n; i++) {
        n += t->sn.links[i]->is_open && !t->sn.links[i]->is_closed;
    }
    return n;
}

static void expect_free(struct bench *t)
{
    assert_int_equal(t->uploads.busy_n, 0);
    assert_int_equal(t->metrics.uploads, 0);
}

/* ---- Whole ---- */

static void the_message_is_whole_however_its_body_was_cut(void **state)
{
    (void)state;
    static const struct {
        size_t body, step;
    } table[] = {{1, 1},     {10, 3},       {4088, 4088},  {4089, 4089},
                 {20000, 1}, {20000, 4087}, {20000, 20000}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct bench *t = open_bench();
        struct broker *b = begin_open(t, 0, table[i].body);
        write_all(t, 0, pattern(table[i].body), table[i].step);
        assert_int_equal(b->publishes_n, 1);
        const struct hg_message *m = b->publishes[0].message;
        assert_true(hg_bytes_eq(hg_message_body(m), pattern(table[i].body)));
        assert_true(hg_bytes_eq(hg_message_properties(m)->message_id, HG_BYTES("m")));
        assert_true(hg_message_is_mandatory(m));
        assert_int_equal(t->told[0], 0);
        broker_ack(b, b->publishes[0].channel, 1, false);
        seam_net_run(&t->sn);
        assert_int_equal(t->outcomes[0], HG_OK);
        assert_int_equal(t->told[0], 1);
        assert_int_equal(t->metrics.upload_bytes, table[i].body);
        expect_free(t);
        close_bench(t);
    }
}

static void a_connection_is_kept_for_the_next(void **state)
{
    (void)state;
    struct bench *t = open_bench();
    for (unsigned i = 0; i < 3; i++) {
        struct broker *b = begin_open(t, i, 10);
        write_all(t, i, pattern(10), 10);
        broker_ack(b, b->publishes[i].channel, 1, false);
        seam_net_run(&t->sn);
        assert_int_equal(t->outcomes[i], HG_OK);
    }
    assert_int_equal(t->sn.links_n, 1);
    assert_int_equal(rig_asked(&t->sn, "channel.close"), 3);
    close_bench(t);
}

static void each_has_a_connection_and_past_the_last_place_it_is_busy(void **state)
{
    (void)state;
    struct bench *t = open_bench();
    begin_open(t, 0, 10);
    begin_open(t, 1, 10);
    assert_int_equal(open_links(t), 2);
    assert_int_equal(begin(t, 2, 10), HG_BUSY);
    assert_int_equal(t->metrics.uploads_refused, 1);
    hg_upload_forget(t->handles[0]);
    seam_net_pass(&t->sn, 1000);
    begin_open(t, 2, 10);
    assert_int_equal(t->told[1], 0);
    close_bench(t);
}

/* ---- Outcomes ---- */

static void every_answer_of_rabbitmq_is_told_once(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        enum hg_status outcome;
    } table[] = {{"ack", HG_OK},          {"nack", HG_REJECTED},     {"return", HG_UNROUTABLE},
                 {"403", HG_NOT_ALLOWED}, {"406", HG_TOO_LARGE},     {"404", HG_NO_EXCHANGE},
                 {"cut", HG_TIMED_OUT},   {"silence", HG_TIMED_OUT}, {"forgotten", HG_STATUS_N}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct bench *t = open_bench();
        struct broker *b = begin_open(t, 0, 5000);
        write_all(t, 0, pattern(5000), 5000);
        const char *what = table[i].what;
        uint16_t ch = b->publishes[0].channel;
        if (strcmp(what, "return") == 0) {
            broker_return(b, ch, b->publishes[0].message);
        } else if (what[0] == '4') {
            broker_close_channel(b, ch, (uint16_t)atoi(what), "message size 9 is larger than max 1",
                                 AMQP_BASIC_PUBLISH_METHOD);
        } else if (strcmp(what, "cut") == 0) {
            seam_net_cut(&t->sn, seam_net_last(&t->sn));
        } else if (strcmp(what, "silence") == 0) {
            seam_net_pass(&t->sn, 10100);
        } else if (strcmp(what, "forgotten") == 0) {
            hg_upload_forget(t->handles[0]);
            assert_int_equal(t->uploads.busy_n, 1); /* RabbitMQ has it: it goes on */
        }
        if (strcmp(what, "nack") == 0) {
            broker_nack(b, ch, 1, false);
        } else if (what[0] == 'a' || what[0] == 'r' || what[0] == 'f') {
            broker_ack(b, ch, 1, false);
        }
        seam_net_run(&t->sn);
        assert_int_equal(t->outcomes[0], table[i].outcome);
        assert_int_equal(t->told[0], table[i].outcome != HG_STATUS_N);
        expect_free(t);
        close_bench(t);
    }
}

static void what_is_returned_is_not_kept(void **state)
{
    (void)state;
    struct bench *t = open_bench();
    t->uploads.config.link.max_body_bytes = 100; /* of what is kept */
    struct broker *b = begin_open(t, 0, 60000);
    write_all(t, 0, pattern(60000), 60000);
    broker_return(b, b->publishes[0].channel, b->publishes[0].message);
    broker_ack(b, b->publishes[0].channel, 1, false);
    seam_net_run(&t->sn);
    assert_int_equal(t->outcomes[0], HG_UNROUTABLE);
    close_bench(t);
}

static void missing_exchange(struct broker *b)
{
    b->missing[0] = "amq.topic";
}

static void nothing_is_written_to_an_exchange_that_is_not_there(void **state)
{
    (void)state;
    struct bench *t = open_bench();
    t->sn.prepare = missing_exchange;
    assert_int_equal(begin(t, 0, 10), HG_OK);
    seam_net_run(&t->sn);
    assert_int_equal(t->outcomes[0], HG_NO_EXCHANGE);
    assert_int_equal(t->rooms[0], 0);
    assert_int_equal(rig_asked(&t->sn, "basic.publish"), 0);
    assert_int_equal(open_links(t), 1);
    expect_free(t);
    close_bench(t);
}

/* ---- Half-way ---- */

static void half_a_body_ends_its_connection_and_no_other(void **state)
{
    (void)state;
    static const char *const table[] = {"forgotten", "cut", "channel closed", "stalled"};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct bench *t = open_bench();
        begin_open(t, 1, 10);
        struct seam_link *other = seam_net_last(&t->sn);
        struct broker *b = begin_open(t, 0, 20000);
        struct seam_link *link = seam_net_last(&t->sn);
        seam_net_stall(&t->sn, link, i == 3);
        assert_false(hg_upload_write(t->handles[0], pattern(10000)));
        seam_net_run(&t->sn);
        switch (i) {
        case 0: hg_upload_forget(t->handles[0]); break;
        case 1: seam_net_cut(&t->sn, link); break;
        case 2: broker_close_channel(b, 1, 541, "INTERNAL_ERROR", 0); break;
        default: seam_net_pass(&t->sn, 10100); break;
        }
        seam_net_run(&t->sn);
        assert_int_equal(t->told[0], i > 0);
        assert_int_equal(t->outcomes[0], i == 0   ? HG_STATUS_N
                                         : i == 2 ? HG_REFUSED
                                                  : HG_BROKER_AWAY);
        assert_int_equal(t->uploads.busy_n, 1);
        assert_int_equal(b->publishes_n, 0);
        if (i == 3) {
            seam_net_stall(&t->sn, link, false);
        }
        assert_true(link->is_closed && !other->is_closed);
        assert_int_equal(b->is_done, i != 1); /* politely */
        seam_net_pass(&t->sn, 1000);
        b = begin_open(t, 2, 10); /* on a new one */
        write_all(t, 2, pattern(10), 10);
        assert_int_equal(b->publishes_n, 1);
        close_bench(t);
    }
}

static void before_its_body_it_waits_for_rabbitmq_and_then_gives_up(void **state)
{
    (void)state;
    struct bench *t = open_bench();
    t->sn.is_refusing = true;
    assert_int_equal(begin(t, 0, 10), HG_OK);
    assert_int_equal(begin(t, 1, 10), HG_OK);
    seam_net_pass(&t->sn, 3000);
    assert_int_equal(t->told[0] + t->told[1], 0);
    hg_upload_forget(t->handles[1]);
    t->sn.is_refusing = false;
    seam_net_pass(&t->sn, 6000);
    assert_int_equal(t->rooms[0], 1);
    assert_int_equal(t->rooms[1], 0);
    t->sn.is_refusing = true;
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    assert_int_equal(t->outcomes[0], HG_BROKER_AWAY);
    assert_int_equal(begin(t, 2, 10), HG_OK);
    seam_net_pass(&t->sn, 10100);
    assert_int_equal(t->outcomes[2], HG_BROKER_AWAY);
    expect_free(t);
    close_bench(t);
}

static void there_is_no_room_while_rabbitmq_does_not_read(void **state)
{
    (void)state;
    struct bench *t = open_bench();
    t->sn.net.limits.low_bytes = 3000;
    begin_open(t, 0, 50000);
    struct seam_link *link = seam_net_last(&t->sn);
    assert_true(hg_upload_write(t->handles[0], pattern(1000)));
    seam_net_run(&t->sn);
    seam_net_stall(&t->sn, link, true);
    assert_true(hg_upload_write(t->handles[0], pattern(1000)));
    assert_true(hg_upload_write(t->handles[0], pattern(1000)));
    assert_false(hg_upload_write(t->handles[0], pattern(1000)));
    seam_net_pass(&t->sn, 5000);
    assert_int_equal(t->rooms[0], 1);
    seam_net_stall(&t->sn, link, false);
    assert_int_equal(t->rooms[0], 2);
    broker_block(&link->broker, "low on memory");
    seam_net_run(&t->sn);
    assert_false(hg_upload_write(t->handles[0], pattern(1000)));
    seam_net_pass(&t->sn, 9000);
    assert_int_equal(t->rooms[0], 2);
    broker_block(&link->broker, NULL);
    seam_net_run(&t->sn);
    assert_int_equal(t->rooms[0], 3);
    seam_net_pass(&t->sn, 20000); /* that a client is slow is somebody else's business */
    assert_int_equal(t->told[0], 0);
    close_bench(t);
}

static void no_allocation_is_missed_when_it_fails(void **state)
{
    (void)state;
    for (unsigned n = 1; n < 200; n++) {
        struct bench *t = open_bench();
        seam_fail_alloc(n);
        enum hg_status status = begin(t, 0, 9000);
        seam_net_pass(&t->sn, 1000);
        if (status == HG_OK && t->rooms[0] > 0 && t->told[0] == 0) {
            (void)hg_upload_write(t->handles[0], pattern(9000));
            seam_net_run(&t->sn);
        }
        struct seam_link *link = seam_net_last(&t->sn);
        if (t->told[0] == 0 && link != NULL && link->broker.publishes_n == 1) {
            seam_spare(true);
            broker_ack(&link->broker, 1, 1, false);
            seam_spare(false);
        }
        seam_net_pass(&t->sn, 20000);
        seam_fail_alloc(0);
        assert_int_equal(t->told[0], status == HG_OK);
        expect_free(t);
        close_bench(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_message_is_whole_however_its_body_was_cut),
        cmocka_unit_test(a_connection_is_kept_for_the_next),
        cmocka_unit_test(each_has_a_connection_and_past_the_last_place_it_is_busy),
        cmocka_unit_test(every_answer_of_rabbitmq_is_told_once),
        cmocka_unit_test(what_is_returned_is_not_kept),
        cmocka_unit_test(nothing_is_written_to_an_exchange_that_is_not_there),
        cmocka_unit_test(half_a_body_ends_its_connection_and_no_other),
        cmocka_unit_test(before_its_body_it_waits_for_rabbitmq_and_then_gives_up),
        cmocka_unit_test(there_is_no_room_while_rabbitmq_does_not_read),
        cmocka_unit_test(no_allocation_is_missed_when_it_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
