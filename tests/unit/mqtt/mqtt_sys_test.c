/* SPDX-License-Identifier: Apache-2.0 */
/* `$SYS/#`: which values a client gets, when, and that RabbitMQ hears nothing of it. */
#include "adapters/mqtt/mqtt_session.h"
#include "base/clock.h"
#include "seam/core_fake.h"
#include "seam/hex.h"
#include "seam/seam.h"
#include "seam/unit.h"

static struct hg_worker *workers[1];

static void every_second(struct core_fake *f)
{
    f->config.mqtt_sys_interval_ms = 1000;
    f->gateway.started_ms = hg_clock_ms();
    f->gateway.workers = workers;
    f->gateway.workers_n = 1;
    workers[0] = &f->worker;
}

static void never(struct core_fake *f)
{
    every_second(f);
    f->config.mqtt_sys_interval_ms = 0;
}

/* clang-format off */
#define HELLO  {SEND, "10 0d 0004 4d515454 04 02 0000 0001 63"}, {EXPECT, "20 02 00 00"}
#define HELLO5 {SEND, "10 10 0004 4d515454 05 02 0000 02 17 00 0001 64"}, {FORGET, ""}
#define UPTIME "0012 245359532f62726f6b65722f757074696d65 " /* $SYS/broker/uptime */
#define DROPPED "0024 245359532f62726f6b65722f7075626c6973682f6d657373616765732f64726f70706564 "
#define TAKES  {SEND, "82 17 0001 " UPTIME "00"}, {EXPECT, "90 03 0001 00 31 1d " UPTIME "30207365636f6e6473"}

static const struct core_script scripts[] = {
    {"the first value comes at once, retained", every_second, {
        HELLO,
        TAKES,
        {CALLS, ""}}},
    {"then at every interval, not retained", every_second, {
        HELLO,
        TAKES,
        {WAIT, "900"},
        {SILENCE, ""},
        {WAIT, "164"},
        {EXPECT, "30 1d " UPTIME "31207365636f6e6473"},
        {WAIT, "1064"},
        {EXPECT, "30 1d " UPTIME "32207365636f6e6473"}}},
    {"until the client unsubscribes", every_second, {
        HELLO,
        TAKES,
        {SEND, "a2 16 0002 " UPTIME},
        {EXPECT, "b0 02 0002"},
        {WAIT, "3000"},
        {SILENCE, ""},
        {CALLS, ""}}},
    {"and again when it comes back", every_second, {
        HELLO,
        TAKES,
        {SEND, "a2 16 0002 " UPTIME},
        {EXPECT, "b0 02 0002"},
        {WAIT, "2000"},
        {SEND, "82 17 0001 " UPTIME "00"},
        {EXPECT, "90 03 0001 00 31 1d " UPTIME "32207365636f6e6473"},
        {WAIT, "1064"},
        {EXPECT, "30 1d " UPTIME "33207365636f6e6473"}}},
    {"a wildcard at the beginning does not meet it", every_second, {
        HELLO,
        {SEND, "82 06 0001 0001 23 00"},
        {CALLS, "subscribe #; serve #"},
        {EXPECT, "90 03 0001 00"},
        {WAIT, "2000"},
        {SILENCE, ""}}},
    {"whoever asks for QoS 1 gets QoS 0", every_second, {
        HELLO,
        {SEND, "82 17 0001 " UPTIME "01"},
        {EXPECT, "90 03 0001 01 31 1d " UPTIME "30207365636f6e6473"}}},
    {"5.0: with the subscription identifier, and no retained one where none is wanted", every_second, {
        HELLO5,
        {SEND, "82 1a 0001 02 0b07 " UPTIME "20"},
        {EXPECT, "90 04 0001 00 00"},
        {WAIT, "1064"},
        {EXPECT, "30 20 " UPTIME "02 0b07 31207365636f6e6473"}}},
    {"a counter counts", every_second, {
        HELLO,
        {SEND, "82 29 0001 " DROPPED "00"},
        {EXPECT, "90 03 0001 00 31 27 " DROPPED "30"}}},
    {"a filter that meets no value is granted and silent", every_second, {
        HELLO,
        {SEND, "82 0b 0001 0006 245359532f78 00"},
        {EXPECT, "90 03 0001 00"},
        {WAIT, "2000"},
        {SILENCE, ""},
        {SEND, "a2 0a 0002 0006 245359532f78"},
        {EXPECT, "b0 02 0002"},
        {CALLS, ""}}},
    {"an interval of 0: so are all", never, {
        HELLO,
        {SEND, "82 17 0001 " UPTIME "00"},
        {EXPECT, "90 03 0001 00"},
        {WAIT, "3000"},
        {SILENCE, ""},
        {CALLS, ""}}},
    {"two clients get the same value", every_second, {
        HELLO,
        TAKES,
        {ON, "2"},
        HELLO5,
        {SEND, "82 18 0001 00 " UPTIME "20"},
        {EXPECT, "90 04 0001 00 00"},
        {WAIT, "1064"},
        {EXPECT, "30 1e " UPTIME "00 31207365636f6e6473"},
        {ON, "1"},
        {EXPECT, "30 1d " UPTIME "31207365636f6e6473"}}},
    {"RabbitMQ's messages do not pass for it", every_second, {
        HELLO,
        TAKES,
        {DELIVER, "address=$SYS/broker/uptime body=false"},
        {SILENCE, ""}}},
};
/* clang-format on */

static void scripts_hold_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        core_play(&hg_mqtt_adapter, NULL, &scripts[i]);
    }
}

static void hash_brings_every_value_once(void **state)
{
    struct core_fake f;
    struct hg_writer in = {0};
    (void)state;
    core_open(&f);
    every_second(&f);
    (void)core_connect(&f, &hg_mqtt_adapter, NULL);
    hex_read(&in, "10 0d 0004 4d515454 04 02 0000 0001 63" /* and SUBSCRIBE to $SYS/# */
                  "82 0b 0001 0006 245359532f23 00");
    core_feed(&f, hg_writer_view(&in));
    core_turn(&f);
    struct hg_bytes sent = hg_bytes_skip(core_sent(&f), 4 + 5);
    size_t n = 0;
    while (sent.n > 0) {
        assert_int_equal(sent.p[0], 0x31);
        assert_true(sent.p[1] < 0x80);
        assert_memory_equal(sent.p + 4, "$SYS/broker/", 12);
        sent = hg_bytes_skip(sent, 2U + sent.p[1]);
        n++;
    }
    assert_int_equal(n, 16);
    hg_writer_close(&in);
    core_close(&f);
    assert_int_equal(seam_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scripts_hold_at_every_split),
        cmocka_unit_test(hash_brings_every_value_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
