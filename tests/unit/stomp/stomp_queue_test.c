/* SPDX-License-Identifier: Apache-2.0 */
/* What headers want of a queue: the values that are taken, those that are not, and the names that the
 * plugin gives. */
#include "adapters/stomp/stomp_queue.h"

#include "base/mem.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A frame of header lines, decoded into f, which is to be closed. */
static void decode(const char *command, const char *lines, struct hg_stomp_frame *f)
{
    static const struct hg_stomp_limits limits = {4096, 4096, 40};
    static char text[4096];
    struct hg_stomp_decoder dec = {0};
    struct hg_error err;
    int n = snprintf(text, sizeof(text), "%s\n%s\n", command, lines);
    *f = (struct hg_stomp_frame){0};
    assert_int_equal(
        hg_stomp_decode(&dec, &limits, HG_STOMP_V12, hg_bytes(text, (size_t)n + 1), f, &err),
        n + 1);
}

static void write_all(struct hg_writer *w, const struct hg_header *items, size_t n)
{
    static const char *const kinds[] = {[HG_VALUE_BOOL] = "bool",
                                        [HG_VALUE_INT] = "int",
                                        [HG_VALUE_TIMESTAMP] = "time",
                                        [HG_VALUE_STRING] = "text"};
    for (size_t i = 0; i < n; i++) {
        hg_writer_str(w, hg_writer_n(w) > 0 ? " " : "");
        hg_writer_bytes(w, items[i].name);
        hg_writer_printf(w, "=%s:", kinds[items[i].value.kind]);
        hg_value_write_text(w, &items[i].value);
    }
}

/* clang-format off */
static const struct {
    const char *header, *queue, *consumer; /* of a SUBSCRIBE with this header */
} taken[] = {
    {"x-dead-letter-exchange:",        "x-dead-letter-exchange=text:", ""},
    {"x-dead-letter-routing-key:a b",  "x-dead-letter-routing-key=text:a b", ""},
    {"x-expires:1",                    "x-expires=int:1", ""},
    {"x-expires:4294967295",           "x-expires=int:4294967295", ""},
    {"x-message-ttl:0",                "x-message-ttl=int:0", ""},
    {"x-max-length:5",                 "x-max-length=int:5", ""},
    {"x-max-length-bytes:9223372036854775807", "x-max-length-bytes=int:9223372036854775807", ""},
    {"x-max-priority:255",             "x-max-priority=int:255", ""},
    {"x-overflow:reject-publish-dlx",  "x-overflow=text:reject-publish-dlx", ""},
    {"x-queue-type:quorum",            "x-queue-type=text:quorum", ""},
    {"x-max-age:7D",                   "x-max-age=text:7D", ""},
    {"x-stream-max-segment-size-bytes:3000000000", "x-stream-max-segment-size-bytes=int:3000000000", ""},
    {"x-stream-filter-size-bytes:16",  "x-stream-filter-size-bytes=int:16", ""},
    {"x-priority:-5",                  "", "x-priority=int:-5"},
    {"x-stream-offset:first",          "", "x-stream-offset=text:first"},
    {"x-stream-offset:last",           "", "x-stream-offset=text:last"},
    {"x-stream-offset:next",           "", "x-stream-offset=text:next"},
    {"x-stream-offset:offset=5",       "", "x-stream-offset=int:5"},
    {"x-stream-offset:17",             "", "x-stream-offset=int:17"},
    {"x-stream-offset:timestamp=1600000000", "", "x-stream-offset=time:1600000000"},
    {"x-stream-offset:12h",            "", "x-stream-offset=text:12h"},
    {"x-unknown:1",                    "", ""},
};

static const struct {
    const char *header, *why;
} refused[] = {
    {"x-expires:0",           "the header x-expires is not a number of milliseconds from 1 to 4294967295"},
    {"x-expires:-1",          "the header x-expires is not a number of milliseconds from 1 to 4294967295"},
    {"x-message-ttl:soon",    "the header x-message-ttl is not a number of milliseconds from 0 to 4294967295"},
    {"x-message-ttl: 5",      "the header x-message-ttl is not a number of milliseconds from 0 to 4294967295"},
    {"x-message-ttl:4294967296", "the header x-message-ttl is not a number of milliseconds from 0 to 4294967295"},
    {"x-max-length:9223372036854775808", "the header x-max-length is not a number of messages"},
    {"x-max-length-bytes:",   "the header x-max-length-bytes is not a number of bytes"},
    {"x-max-priority:256",    "the header x-max-priority is not a number from 0 to 255"},
    {"x-overflow:drop",       "the header x-overflow is none of drop-head, reject-publish, reject-publish-dlx"},
    {"x-queue-type:Stream",   "the header x-queue-type is none of classic, quorum, stream"},
    {"x-max-age:bogus",       "the header x-max-age is not a number and a unit (Y, M, D, h, m, s)"},
    {"x-max-age:0h",          "the header x-max-age is not a number and a unit (Y, M, D, h, m, s)"},
    {"x-max-age:h",           "the header x-max-age is not a number and a unit (Y, M, D, h, m, s)"},
    {"x-stream-max-segment-size-bytes:3000000001", "the header x-stream-max-segment-size-bytes is not a number from 0 to 3000000000"},
    {"x-stream-filter-size-bytes:15", "the header x-stream-filter-size-bytes is not a number from 16 to 255"},
    {"x-priority:--1",        "the header x-priority is not an integer from -2147483647 to 2147483647"},
    {"x-stream-offset:bogus", "the header x-stream-offset is none of first, last, next, offset=NUMBER, timestamp=SECONDS, or a number and a unit (Y, M, D, h, m, s)"},
    {"x-stream-offset:0s",    "the header x-stream-offset is none of first, last, next, offset=NUMBER, timestamp=SECONDS, or a number and a unit (Y, M, D, h, m, s)"},
    {"x-stream-offset:1W",    "the header x-stream-offset is none of first, last, next, offset=NUMBER, timestamp=SECONDS, or a number and a unit (Y, M, D, h, m, s)"},
    {"x-stream-offset:-1",    "the header x-stream-offset is none of first, last, next, offset=NUMBER, timestamp=SECONDS, or a number and a unit (Y, M, D, h, m, s)"},
    {"x-stream-offset:offset=", "the header x-stream-offset is none of first, last, next, offset=NUMBER, timestamp=SECONDS, or a number and a unit (Y, M, D, h, m, s)"},
    {"x-stream-offset:timestamp=253402300800", "the header x-stream-offset is none of first, last, next, offset=NUMBER, timestamp=SECONDS, or a number and a unit (Y, M, D, h, m, s)"},
    {"x-queue-name:",         "the header x-queue-name is not a name of 1 to 255 bytes"},
    {"x-queue-name:headgate.state",
     "the header x-queue-name begins with headgate., as the gateway's own queues do"},
    {"prefetch-count:65536",  "the header prefetch-count is not a number from 0 to 65535"},
    {"durable:TRUE",          "the header durable is neither true nor false"},
    {"persistent:1",          "the header persistent is neither true nor false"},
    {"auto-delete:",          "the header auto-delete is neither true nor false"},
    {"exclusive:yes",         "the header exclusive is neither true nor false"},
    {"x-match:some",          "the header x-match is none of all, any, all-with-x, any-with-x"},
    {"x-match:all\na:int:x",  "a header to match by is not what int: or bool: before it says, or its name is over 255 bytes"},
    {"x-match:all\na:bool:1", "a header to match by is not what int: or bool: before it says, or its name is over 255 bytes"},
};

static const struct {
    const char *headers, *arguments;
} matches[] = {
    {"colour:red", ""},
    {"x-match:all", "x-match=text:all"},
    {"id:1\ndestination:/exchange/amq.headers\nack:auto\nreceipt:r\nx-match:any\ncolour:red\nsize:int:-5\nbig:bool:true\nword:string:int:5\n"
     "x-max-length:3\nprefetch-count:3\ndurable:true\nauto-delete:false\nx-queue-name:q",
     "x-match=text:any colour=text:red size=int:-5 big=bool:true word=text:int:5"},
    {"x-match:all-with-x\nx-colour:red", "x-match=text:all-with-x x-colour=text:red"},
};
/* clang-format on */

static void every_argument_has_its_type(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(taken); i++) {
        struct hg_stomp_frame f;
        struct hg_stomp_queue q;
        struct hg_stomp_misfit misfit;
        char line[300];
        (void)snprintf(line, sizeof(line), "%s\n", taken[i].header);
        decode("SUBSCRIBE", line, &f);
        assert_int_equal(hg_stomp_queue_read(&f, &q, &misfit), HG_OK);
        struct hg_writer w = {0};
        write_all(&w, q.queue.items, q.queue.n);
        assert_text(hg_writer_view(&w), taken[i].queue);
        hg_writer_reset(&w);
        write_all(&w, q.consumer.items, q.consumer.n);
        assert_text(hg_writer_view(&w), taken[i].consumer);
        hg_writer_close(&w);
        hg_stomp_frame_close(&f);
    }
}

static void a_bad_value_is_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(refused); i++) {
        struct hg_stomp_frame f;
        struct hg_stomp_queue q;
        struct hg_stomp_misfit misfit = {0};
        struct hg_header *own = NULL;
        size_t n = 0;
        char line[300];
        (void)snprintf(line, sizeof(line), "%s\n", refused[i].header);
        decode("SUBSCRIBE", line, &f);
        enum hg_status status = hg_stomp_queue_read(&f, &q, &misfit);
        status = status == HG_OK ? hg_stomp_match_read(&f, &own, &n, &misfit) : status;
        assert_int_equal(status, HG_BAD_PROPERTY);
        assert_string_equal(misfit.why, refused[i].why);
        assert_null(own);
        hg_stomp_frame_close(&f);
    }
}

static void a_consumer_is_nothing_that_send_speaks_of(void **state)
{
    struct hg_stomp_frame f;
    struct hg_stomp_queue q;
    struct hg_stomp_misfit misfit;
    (void)state;
    decode(
        "SEND",
        "persistent:maybe\nx-stream-offset:bogus\nprefetch-count:x\nx-queue-name:\ndurable:false\nx-max-length:1\n",
        &f);
    assert_int_equal(hg_stomp_queue_read(&f, &q, &misfit), HG_OK);
    assert_int_equal(q.durable, HG_STOMP_FALSE);
    assert_int_equal(q.queue.n, 1);
    assert_int_equal(q.consumer.n, 0);
    hg_stomp_frame_close(&f);
}

static void durable_has_an_older_name(void **state)
{
    static const struct {
        const char *lines;
        enum hg_stomp_flag durable;
    } cases[] = {
        {"", HG_STOMP_UNSAID},
        {"durable:True\n", HG_STOMP_TRUE},
        {"persistent:true\n", HG_STOMP_TRUE},
        {"persistent:true\ndurable:false\n", HG_STOMP_FALSE},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct hg_stomp_frame f;
        struct hg_stomp_queue q;
        struct hg_stomp_misfit misfit;
        decode("SUBSCRIBE", cases[i].lines, &f);
        assert_int_equal(hg_stomp_queue_read(&f, &q, &misfit), HG_OK);
        assert_int_equal(q.durable, cases[i].durable);
        hg_stomp_frame_close(&f);
    }
}

static void with_x_match_every_other_header_is_an_argument(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(matches); i++) {
        struct hg_stomp_frame f;
        struct hg_stomp_misfit misfit;
        struct hg_header *own = NULL;
        size_t n = 0;
        char lines[512];
        (void)snprintf(lines, sizeof(lines), "%s\n", matches[i].headers);
        decode("SUBSCRIBE", lines, &f);
        assert_int_equal(hg_stomp_match_read(&f, &own, &n, &misfit), HG_OK);
        struct hg_writer w = {0};
        write_all(&w, own, n);
        assert_text(hg_writer_view(&w), matches[i].arguments);
        hg_writer_close(&w);
        hg_free(own);
        hg_stomp_frame_close(&f);
    }
}

/* As RabbitMQ's plugin, 3.10.8, named them. */
static void durable_subscriptions_have_the_plugins_names(void **state)
{
    static const struct {
        const char *key, *id, *name;
    } cases[] = {
        {"a.b", "id2", "stomp-subscription-qEUqFFu4NzR_4w9i3iRskQ"},
        {"a.b", "id3", "stomp-subscription-hjNdEFIlAECqvbpxKGWJqA"},
        {"k", "id4", "stomp-subscription-Rzy0047T3aKj6-cpVwGtkg"},
        {"", "id5", "stomp-subscription-vOe7rCW2JhexVPf4RW9uuA"},
        {"u/v", "id\xc3\xa9", "stomp-subscription-SdHw6OS-_knD26pK2yjqXg"},
        {"n\xc3\xa9", "idx", "stomp-subscription-IJv0ZN3Ba-Eqh4vfbwf9dg"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char room[HG_STOMP_QUEUE_NAME_BYTES];
        assert_text(
            hg_stomp_durable_name(hg_bytes_str(cases[i].key), hg_bytes_str(cases[i].id), room),
            cases[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_argument_has_its_type),
        cmocka_unit_test(a_bad_value_is_refused_by_name),
        cmocka_unit_test(a_consumer_is_nothing_that_send_speaks_of),
        cmocka_unit_test(durable_has_an_older_name),
        cmocka_unit_test(with_x_match_every_other_header_is_an_argument),
        cmocka_unit_test(durable_subscriptions_have_the_plugins_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
