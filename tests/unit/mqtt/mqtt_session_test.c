/* SPDX-License-Identifier: Apache-2.0 */
/* An MQTT session on the wire: what the client hears for what it says and for what RabbitMQ does. */
#include "adapters/mqtt/mqtt_session.h"

#include "seam/core_fake.h"
#include "seam/seam.h"
#include "seam/unit.h"

/* Clean session, keep-alive 0, client identifier "c"; and its answer. */
#define HELLO   {SEND, "10 0d 0004 4d515454 04 02 0000 0001 63"}, {EXPECT, "20 02 00 00"}
/* The same with a will: topic "w", payload "x", QoS 1. */
#define HELLO_WILL {SEND, "10 13 0004 4d515454 04 0e 0000 0001 63 0001 77 0001 78"}, {EXPECT, "20 02 00 00"}
/* Subscribed to "t" with QoS 1; with QoS 0. */
#define TAKES_QOS1 {SEND, "82 06 0001 0001 74 01"}, {EXPECT, "90 03 0001 01"}
#define TAKES_QOS0 {SEND, "82 06 0001 0001 74 00"}, {EXPECT, "90 03 0001 00"}

/* clang-format off */
static const struct core_script scripts[] = {
    {"connect and disconnect", NULL, {
        HELLO,
        {SEND, "e0 00"},
        {CLOSED, "CLOSED"}}},
};
/* clang-format on */

static void scripts_hold_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        core_play(&hg_mqtt_adapter, NULL, &scripts[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scripts_hold_at_every_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
