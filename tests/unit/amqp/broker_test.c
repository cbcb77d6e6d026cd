/* SPDX-License-Identifier: Apache-2.0 */
/* The scripted broker: that what tests of others rely on is so. */
#include "seam/broker.h"

#include "rig.h"
#include "seam/seam.h"
#include "seam/unit.h"

static void publish(struct rig *r, size_t channel, const char *exchange, const char *key)
{
    struct hg_message *m =
        hg_message_new(&(struct hg_message_parts){.exchange = hg_bytes_str(exchange),
                                                  .routing_key = hg_bytes_str(key),
                                                  .body = HG_BYTES("body")});
    assert_int_equal(hg_amqp_basic_publish(r->ch[channel], m), HG_OK);
    hg_message_unref(m);
}

static void publishes_are_held_until_the_test_confirms(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 2);
    assert_int_equal(hg_amqp_confirm_select(r.ch[0], 1), HG_OK);
    publish(&r, 0, "x", "a");
    publish(&r, 1, "x", "b"); /* a channel without confirms */
    publish(&r, 0, "x", "c");
    rig_pump(&r, &b);
    assert_string_equal(rig_events(&r), "reply 1 confirm-ok  0 0\n");
    assert_int_equal(b.publishes_n, 3);
    assert_int_equal(b.publishes[0].delivery_tag, 1);
    assert_int_equal(b.publishes[1].delivery_tag, 0);
    assert_int_equal(b.publishes[2].delivery_tag, 2);
    broker_ack(&b, 1, 2, true);
    rig_pump(&r, &b);
    assert_string_equal(rig_events(&r), "ack 2 multiple\n");
    rig_close(&r);
    broker_close(&b);
    assert_int_equal(seam_live(), 0);
}

static void auto_confirm_settles_what_was_held_too(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 1);
    assert_int_equal(hg_amqp_confirm_select(r.ch[0], 1), HG_OK);
    publish(&r, 0, "x", "a");
    rig_pump(&r, &b);
    b.has_auto_confirm = true;
    publish(&r, 0, "x", "b");
    rig_pump(&r, &b);
    assert_string_equal(rig_events(&r), "reply 1 confirm-ok  0 0\nack 1\nack 2\n");
    rig_close(&r);
    broker_close(&b);
}

static void missing_names_close_the_channel(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 2);
    b.has_auto_confirm = true;
    b.missing[0] = "gone";
    assert_int_equal(hg_amqp_confirm_select(r.ch[0], 1), HG_OK);
    publish(&r, 0, "gone", "a");
    publish(&r, 0, "x", "b"); /* behind it, on a channel that is closed by then */
    assert_int_equal(
        hg_amqp_basic_consume(r.ch[1], 2, &(struct hg_amqp_consume){.queue = HG_BYTES("gone")}),
        HG_OK);
    rig_pump(&r, &b);
    assert_string_equal(
        rig_events(&r),
        "reply 1 confirm-ok  0 0\n"
        "channel closed NO_EXCHANGE 404 60.40 NOT_FOUND - no exchange 'gone' in vhost '/'\n"
        "channel closed NO_QUEUE 404 60.20 NOT_FOUND - no queue 'gone' in vhost '/'\n");
    assert_int_equal(b.publishes_n, 1);
    r.ch[0] = hg_amqp_channel_open(r.conn, &rig_channel_ops, &r, 3);
    assert_int_equal(hg_amqp_confirm_select(r.ch[0], 4), HG_OK);
    publish(&r, 0, "x", "c");
    rig_pump(&r, &b);
    assert_string_equal(rig_events(&r),
                        "reply 3 channel.open-ok  0 0\nreply 4 confirm-ok  0 0\nack 1\n");
    rig_close(&r);
    broker_close(&b);
}

static void a_mute_broker_only_listens(void **state)
{
    (void)state;
    static struct broker b;
    struct rig r;
    rig_connect(&r, &b, 1);
    b.is_mute = true;
    assert_int_equal(hg_amqp_basic_qos(r.ch[0], 1, 5), HG_OK);
    rig_pump(&r, &b);
    assert_string_equal(rig_events(&r), "");
    assert_text(hg_writer_view(&b.log), "1 basic.qos\n");
    rig_close(&r);
    broker_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(publishes_are_held_until_the_test_confirms),
        cmocka_unit_test(auto_confirm_settles_what_was_held_too),
        cmocka_unit_test(missing_names_close_the_channel),
        cmocka_unit_test(a_mute_broker_only_listens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
