/* SPDX-License-Identifier: Apache-2.0 */
/* MQTT 5.0 properties of bridged messages, both ways. */
#include "adapters/bridge/bridge_property.h"

#include "message/expiry.h"
#include "seam/unit.h"

#include <mqtt_protocol.h>

static void what_the_site_says_becomes_properties_of_amqp(void **state)
{
    mosquitto_property *list = NULL;
    struct hg_bridge_inbound in;
    (void)state;
    mosquitto_property_add_string(&list, MQTT_PROP_CONTENT_TYPE, "text/plain");
    mosquitto_property_add_string(&list, MQTT_PROP_RESPONSE_TOPIC, "answers");
    mosquitto_property_add_binary(&list, MQTT_PROP_CORRELATION_DATA, "17", 2);
    mosquitto_property_add_int32(&list, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL, 90);
    mosquitto_property_add_string_pair(&list, MQTT_PROP_USER_PROPERTY, "a", "1");
    mosquitto_property_add_string_pair(&list, MQTT_PROP_USER_PROPERTY, "a", "2");
    mosquitto_property_add_string_pair(&list, MQTT_PROP_USER_PROPERTY, "", "nameless");
    hg_bridge_property_read(&in, list);
    assert_text(in.properties.content_type, "text/plain");
    assert_text(in.properties.correlation_id, "17");
    assert_text(in.properties.expiration, "90000");
    assert_int_equal(in.properties.reply_to.n, 0);
    assert_int_equal(in.properties.headers_n, 2);
    assert_text(in.properties.headers[1].name, "a");
    assert_text(in.properties.headers[1].value.u.bytes, "2");
    hg_bridge_property_close(&in);
    mosquitto_property_free_all(&list);
    hg_bridge_property_read(&in, NULL);
    assert_int_equal(in.properties.headers_n, 0);
    hg_bridge_property_close(&in);
}

static void correlation_data_that_is_no_text_travels_in_a_header(void **state)
{
    mosquitto_property *list = NULL;
    struct hg_bridge_inbound in;
    (void)state;
    mosquitto_property_add_binary(&list, MQTT_PROP_CORRELATION_DATA, "\xff\x00", 2);
    hg_bridge_property_read(&in, list);
    mosquitto_property_free_all(&list);
    assert_int_equal(in.properties.correlation_id.n, 0);
    assert_text(in.headers[0].name, "x-correlation-id");
    assert_int_equal(in.headers[0].value.kind, HG_VALUE_BINARY);

    const struct hg_message_parts parts = {.properties = in.properties};
    struct hg_message *m = hg_message_new(&parts);
    hg_bridge_property_close(&in);
    assert_true(hg_bridge_property_write(m, HG_EXPIRY_NONE, &list));
    assert_int_equal(mosquitto_property_identifier(list), MQTT_PROP_CORRELATION_DATA);
    assert_null(mosquitto_property_next(list));
    hg_bridge_property_read(&in, list);
    assert_bytes(in.headers[0].value.u.bytes, 2, "\xff\x00");
    hg_bridge_property_close(&in);
    mosquitto_property_free_all(&list);
    hg_message_unref(m);
}

static void user_properties_past_the_limit_are_left_out(void **state)
{
    mosquitto_property *list = NULL;
    struct hg_bridge_inbound in;
    (void)state;
    for (int i = 0; i < HG_BRIDGE_USERS_MAX + 10; i++) {
        mosquitto_property_add_string_pair(&list, MQTT_PROP_USER_PROPERTY, "n", "v");
    }
    mosquitto_property_add_binary(&list, MQTT_PROP_CORRELATION_DATA, "\xff", 1);
    hg_bridge_property_read(&in, list);
    assert_int_equal(in.properties.headers_n, HG_BRIDGE_USERS_MAX + 1);
    hg_bridge_property_close(&in);
    mosquitto_property_free_all(&list);
}

static void what_amqp_says_goes_to_the_site(void **state)
{
    const struct hg_header headers[] = {
        {HG_BYTES("n"), {.kind = HG_VALUE_INT, .u.i = 7}},
        {HG_BYTES("x-headgate-bridge"), {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("b")}},
        {HG_BYTES("bad"), {.kind = HG_VALUE_STRING, .u.bytes = HG_BYTES("a\001b")}},
    };
    const struct hg_message_parts parts = {.properties = {.content_type = HG_BYTES("a/b"),
                                                          .correlation_id = HG_BYTES("c"),
                                                          .reply_to = HG_BYTES("q"),
                                                          .headers = headers,
                                                          .headers_n = 3}};
    struct hg_message *m = hg_message_new(&parts);
    mosquitto_property *list = NULL;
    struct hg_bridge_inbound in;
    (void)state;
    assert_true(hg_bridge_property_write(m, 1001, &list));
    hg_bridge_property_read(&in, list);
    assert_text(in.properties.content_type, "a/b");
    assert_text(in.properties.correlation_id, "c");
    assert_text(in.properties.expiration, "2000"); /* never shorter than what is left */
    assert_int_equal(in.properties.headers_n, 1);
    assert_text(in.properties.headers[0].name, "n");
    assert_text(in.properties.headers[0].value.u.bytes, "7");
    hg_bridge_property_close(&in);
    mosquitto_property_free_all(&list);
    hg_message_unref(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_site_says_becomes_properties_of_amqp),
        cmocka_unit_test(correlation_data_that_is_no_text_travels_in_a_header),
        cmocka_unit_test(user_properties_past_the_limit_are_left_out),
        cmocka_unit_test(what_amqp_says_goes_to_the_site),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
