/* SPDX-License-Identifier: Apache-2.0 */
/* Destinations: RabbitMQ's own as its plugin reads them, every other one an address. */
#include "adapters/stomp/stomp_dest.h"

#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>

#define ADDRESS  HG_STOMP_DEST_ADDRESS
#define EXCHANGE HG_STOMP_DEST_EXCHANGE
#define QUEUE    HG_STOMP_DEST_QUEUE
#define AMQ      HG_STOMP_DEST_AMQ_QUEUE
#define REPLY    HG_STOMP_DEST_REPLY_QUEUE

static const struct parse_case {
    const char *destination;
    enum hg_stomp_dest_kind kind;
    const char *exchange, *key; /* ADDRESS: exchange is the address */
} served[] = {
    {"/topic/a.b.#", EXCHANGE, "amq.topic", "a.b.#"},
    {"/topic/a%2Fb", EXCHANGE, "amq.topic", "a/b"},
    {"/topic/a%2fb%25", EXCHANGE, "amq.topic", "a%2fb%25"}, /* the plugin unescapes %2F alone */
    {"/exchange/logs", EXCHANGE, "logs", ""},
    {"/exchange/logs/", EXCHANGE, "logs", ""},
    {"/exchange/logs/a.b", EXCHANGE, "logs", "a.b"},
    {"/exchange/a%2Fb/c%2Fd", EXCHANGE, "a/b", "c/d"},
    {"/queue/jobs", QUEUE, "", "jobs"},
    {"/queue/a%2Fb%2F", QUEUE, "", "a/b/"},
    {"jobs", QUEUE, "", "jobs"},
    {"a%2Fb", QUEUE, "", "a/b"},
    {"/amq/queue/jobs", AMQ, "", "jobs"},
    {"/reply-queue/amq.gen-x", REPLY, "", "amq.gen-x"},
    {"/reply-queue/a/b%2Fc", REPLY, "", "a/b/c"},
    {"/chat/room1", ADDRESS, "chat/room1", NULL},
    {"//chat", ADDRESS, "/chat", NULL},
    {"chat/room1", ADDRESS, "chat/room1", NULL},
    {"chat/", ADDRESS, "chat/", NULL},
    {"/queues/a", ADDRESS, "queues/a", NULL}, /* a prefix ends at a slash */
    {"/topical", ADDRESS, "topical", NULL},
    {"/amq/topic", ADDRESS, "amq/topic", NULL},
    {"queue/a", ADDRESS, "queue/a", NULL},
};

static const struct refusal {
    const char *destination, *why;
} refused[] = {
    {"", "it is empty"},
    {"/", "it names nothing"},
    {"/queue", "it names nothing"},
    {"/queue/", "it names nothing"},
    {"/topic", "it names nothing"},
    {"/exchange", "it names nothing"},
    {"/exchange//key", "it names nothing"},
    {"/amq/queue", "it names nothing"},
    {"/amq/queue/", "it names nothing"},
    {"/reply-queue", "it names nothing"},
    {"/queue/a/b", "it has more parts than one: a slash inside it is written %2F"},
    {"/queue/a/", "it has more parts than one: a slash inside it is written %2F"},
    {"/topic/a/b", "it has more parts than one: a slash inside it is written %2F"},
    {"/amq/queue/a/b", "it has more parts than one: a slash inside it is written %2F"},
    {"/exchange/a/b/c",
     "it has more parts than exchange and key: a slash inside one is written %2F"},
    {"/temp-queue/a", "/temp-queue is for the header reply-to of SEND alone"},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void destinations_lead_where_the_plugin_leads(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(served); i++) {
        struct hg_stomp_dest d;
        const char *why;
        struct hg_bytes in = hg_bytes_str(served[i].destination);
        assert_int_equal(hg_stomp_dest_parse(in, "amq.topic", &d, &why), HG_OK);
        assert_int_equal(d.kind, served[i].kind);
        if (d.kind == ADDRESS) {
            assert_text(d.address, served[i].exchange);
            continue;
        }
        assert_text(d.exchange, served[i].exchange);
        assert_text(d.key, served[i].key);
    }
}

static void what_the_plugin_cannot_read_is_refused_with_a_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(refused); i++) {
        struct hg_stomp_dest d;
        const char *why;
        struct hg_bytes in = hg_bytes_str(refused[i].destination);
        assert_int_equal(hg_stomp_dest_parse(in, "amq.topic", &d, &why), HG_BAD_ADDRESS);
        assert_string_equal(why, refused[i].why);
    }
}

static void every_destination_is_an_address_once_rabbitmqs_are_off(void **state)
{
    static const char *const cases[][2] = {
        {"/queue/a", "queue/a"}, {"/temp-queue/a", "temp-queue/a"}, {"a", "a"}, {"/a", "a"}};
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct hg_stomp_dest d;
        const char *why;
        assert_int_equal(hg_stomp_dest_parse(hg_bytes_str(cases[i][0]), NULL, &d, &why), HG_OK);
        assert_int_equal(d.kind, ADDRESS);
        assert_text(d.address, cases[i][1]);
    }
}

static void names_have_255_bytes_once_unescaped(void **state)
{
    static const char *const prefix[] = {"/queue/", "/topic/", "/exchange/", "/exchange/x/", ""};
    char text[300];
    (void)state;
    for (size_t i = 0; i < COUNT(prefix); i++) {
        struct hg_stomp_dest d;
        const char *why;
        int n = snprintf(text, sizeof(text), "%s%%2F%0254d", prefix[i], 0);
        assert_int_equal(hg_stomp_dest_parse(hg_bytes(text, (size_t)n), "amq.topic", &d, &why),
                         HG_OK);
        n = snprintf(text, sizeof(text), "%s%0256d", prefix[i], 0);
        assert_int_equal(hg_stomp_dest_parse(hg_bytes(text, (size_t)n), "amq.topic", &d, &why),
                         HG_KEY_TOO_LONG);
        assert_string_equal(why, "a name in it is over 255 bytes");
    }
}

static void stars_become_pluses_where_they_stand_alone(void **state)
{
    static const char *const cases[][2] = {
        {"chat/*", "chat/+"}, {"*", "+"},       {"*/a/*/#", "+/a/+/#"},
        {"a*/*b", "a*/*b"},   {"a/+", "a/+"},   {"**", "**"},
        {"/*/", "/+/"},       {"a//b", "a//b"}, {"a/", "a/"}};
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct hg_writer w = {0};
        hg_stomp_dest_write_filter(&w, hg_bytes_str(cases[i][0]));
        assert_text(hg_writer_view(&w), cases[i][1]);
        hg_writer_close(&w);
    }
}

static void deliveries_are_named_by_exchange_and_key(void **state)
{
    static const struct {
        const char *exchange, *key, *destination;
    } cases[] = {
        {"", "jobs", "/queue/jobs"},
        {"amq.topic", "a.b", "/topic/a.b"},
        {"logs", "a.b", "/exchange/logs/a.b"},
        {"logs", "", "/exchange/logs"},
        {"a/b", "c%d\x1f\x7f\x80", "/exchange/a%2Fb/c%25d%1F\x7f%80"},
        {"", "a/b:c\\", "/queue/a%2Fb:c\\"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint8_t room[HG_STOMP_DEST_MAX_BYTES];
        assert_text(
            hg_stomp_dest_of(hg_bytes_str(cases[i].exchange), hg_bytes_str(cases[i].key), room),
            cases[i].destination);
    }
    uint8_t longest[HG_STOMP_NAME_MAX];
    uint8_t room[HG_STOMP_DEST_MAX_BYTES];
    memset(longest, '/', sizeof(longest));
    struct hg_bytes name = hg_bytes(longest, sizeof(longest));
    assert_int_equal(hg_stomp_dest_of(name, name, room).n, HG_STOMP_DEST_MAX_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(destinations_lead_where_the_plugin_leads),
        cmocka_unit_test(what_the_plugin_cannot_read_is_refused_with_a_reason),
        cmocka_unit_test(every_destination_is_an_address_once_rabbitmqs_are_off),
        cmocka_unit_test(names_have_255_bytes_once_unescaped),
        cmocka_unit_test(stars_become_pluses_where_they_stand_alone),
        cmocka_unit_test(deliveries_are_named_by_exchange_and_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
