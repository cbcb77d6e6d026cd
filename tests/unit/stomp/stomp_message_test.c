/* SPDX-License-Identifier: Apache-2.0 */
/* Properties: what SEND's headers become, and what MESSAGE shows of a message. */
#include "adapters/stomp/stomp_message.h"

#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>

#define TEXT(s)                  \
    {                            \
        HG_VALUE_STRING,         \
        {                        \
            .bytes = HG_BYTES(s) \
        }                        \
    }

/* A SEND frame of these header lines, decoded; it borrows from `text`. */
static void decode(const char *lines, char text[static 1024], struct hg_stomp_frame *frame)
{
    const struct hg_stomp_limits limits = {1 << 20, 1 << 20, 100};
    struct hg_stomp_decoder dec = {0};
    struct hg_error err;
    int n = snprintf(text, 1024, "SEND\n%s\n", lines);
    *frame = (struct hg_stomp_frame){0};
    assert_int_equal(
        hg_stomp_decode(&dec, &limits, HG_STOMP_V12, hg_bytes(text, (size_t)n + 1), frame, &err),
        n + 1);
}

/* What was understood, a line per property. */
static void show(struct hg_writer *w, const struct hg_properties *p)
{
    const struct {
        const char *name;
        struct hg_bytes value;
    } texts[] = {
        {"content_type", p->content_type},
        {"content_encoding", p->content_encoding},
        {"correlation_id", p->correlation_id},
        {"reply_to", p->reply_to},
        {"expiration", p->expiration},
        {"message_id", p->message_id},
        {"type", p->type},
        {"user_id", p->user_id},
        {"app_id", p->app_id},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (texts[i].value.n > 0) {
            hg_writer_printf(w, "%s=%.*s\n", texts[i].name, HG_BYTES_FMT(texts[i].value));
        }
    }
    if (p->has_priority) {
        hg_writer_printf(w, "priority=%u\n", p->priority);
    }
    if (p->has_timestamp) {
        hg_writer_printf(w, "timestamp=%llu\n", (unsigned long long)p->timestamp_s);
    }
    if (p->delivery_mode != 0) {
        hg_writer_printf(w, "delivery_mode=%u\n", p->delivery_mode);
    }
    for (size_t i = 0; i < p->headers_n; i++) {
        hg_writer_printf(w, "[%.*s]=%.*s\n", HG_BYTES_FMT(p->headers[i].name),
                         HG_BYTES_FMT(p->headers[i].value.u.bytes));
    }
    hg_writer_u8(w, 0);
}

static void send_headers_become_properties(void **state)
{
    static const struct {
        const char *in, *out;
        enum hg_status status;
        const char *why;
    } cases[] = {
        {"destination:/a\nreceipt:1\ncontent-length:0\nsubscription:s\nack:x\nredelivered:true\n",
         "", HG_OK, NULL},
        {"content-type:text/plain\ncontent-encoding:gzip\ncorrelation-id:c\nreply-to:/queue/r\n"
         "expiration:60\namqp-message-id:m\ntype:t\napp-id:a\n",
         "content_type=text/plain\ncontent_encoding=gzip\ncorrelation_id=c\nreply_to=/queue/r\n"
         "expiration=60\nmessage_id=m\ntype=t\napp_id=a\n",
         HG_OK, NULL},
        {"user-id:root\n", "", HG_OK, NULL}, /* nobody says who they are */
        {"priority:9\ntimestamp:1700000000\npersistent:true\n",
         "priority=9\ntimestamp=1700000000\ndelivery_mode=2\n", HG_OK, NULL},
        {"persistent:false\n", "delivery_mode=1\n", HG_OK, NULL},
        {"x-colour:blue\nempty:\nContent-Type:x\n", "[x-colour]=blue\n[empty]=\n[Content-Type]=x\n",
         HG_OK, NULL},
        {"priority:0\nx:1\npriority:7\nx:2\n", "priority=0\n[x]=1\n", HG_OK, NULL},
        {"priority:256\n", NULL, HG_BAD_PROPERTY,
         "the header priority is not a number from 0 to 255"},
        {"priority:high\n", NULL, HG_BAD_PROPERTY,
         "the header priority is not a number from 0 to 255"},
        {"timestamp:-1\n", NULL, HG_BAD_PROPERTY,
         "the header timestamp is not a number of seconds since 1970"},
        {"message-id:1\n", NULL, HG_PROTOCOL_ERROR,
         "SEND must not have the header message-id: the server gives that one"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[1024];
        struct hg_stomp_frame frame;
        struct hg_stomp_properties p;
        const char *why = NULL;
        decode(cases[i].in, text, &frame);
        assert_int_equal(hg_stomp_properties_read(&frame, &p, &why), cases[i].status);
        if (cases[i].why != NULL) {
            assert_string_equal(why, cases[i].why);
        } else {
            struct hg_writer w = {0};
            show(&w, &p.amqp);
            assert_string_equal((const char *)w.buf->data, cases[i].out);
            hg_writer_close(&w);
        }
        hg_stomp_properties_close(&p);
        hg_stomp_frame_close(&frame);
    }
    assert_int_equal(seam_live(), 0);
}

static void a_long_correlation_id_travels_as_a_header_and_comes_back(void **state)
{
    char lines[512];
    char text[1024];
    struct hg_stomp_frame frame;
    struct hg_stomp_properties p;
    const char *why;
    (void)state;
    for (int n = 255; n <= 256; n++) {
        (void)snprintf(lines, sizeof(lines), "correlation-id:%0*d\n", n, 7);
        decode(lines, text, &frame);
        assert_int_equal(hg_stomp_properties_read(&frame, &p, &why), HG_OK);
        assert_int_equal(p.amqp.correlation_id.n, n == 255 ? 255 : 0);
        assert_int_equal(p.amqp.headers_n, n == 255 ? 0 : 1);
        struct hg_message *m = hg_message_new(&(struct hg_message_parts){.properties = p.amqp});
        struct hg_writer w = {0};
        hg_stomp_message_write(&w, HG_STOMP_V12, m);
        assert_memory_equal(w.buf->data, lines, strlen(lines));
        hg_writer_close(&w);
        hg_message_unref(m);
        hg_stomp_properties_close(&p);
        hg_stomp_frame_close(&frame);
    }
}

static void message_shows_every_property_once(void **state)
{
    const struct hg_header headers[] = {
        {HG_BYTES("s"), TEXT("a:b")},
        {HG_BYTES("i"), {HG_VALUE_INT, {.i = -5}}},
        {HG_BYTES("b"), {HG_VALUE_BOOL, {.b = true}}},
        {HG_BYTES("d"), {HG_VALUE_DOUBLE, {.d = 0.5}}},
        {HG_BYTES("when"), {HG_VALUE_TIMESTAMP, {.timestamp_s = 7}}},
        {HG_BYTES("j"), {HG_VALUE_JSON, {.bytes = HG_BYTES("{\"k\":1}")}}},
        {HG_BYTES("bin"), {HG_VALUE_BINARY, {.bytes = HG_BYTES("\xff\xfe")}}},
        {HG_BYTES("none"), {HG_VALUE_NULL, {.b = false}}},
        {HG_BYTES("x-correlation-id"), TEXT("other")}, /* there is a property: shown as it is */
        {HG_BYTES("destination"), TEXT("forged")},     /* MESSAGE says its own */
        {HG_BYTES("message-id"), TEXT("forged")},
        {HG_BYTES("content-type"), TEXT("forged")},
        {HG_BYTES("x-headgate-address"), TEXT("internal")},
    };
    struct hg_message_parts parts = {
        .properties = {.content_type = HG_BYTES("text/plain"),
                       .content_encoding = HG_BYTES("gzip"),
                       .correlation_id = HG_BYTES("c\n"),
                       .reply_to = HG_BYTES("amq.gen-1"),
                       .expiration = HG_BYTES("60"),
                       .message_id = HG_BYTES("m"),
                       .type = HG_BYTES("t"),
                       .user_id = HG_BYTES("u"),
                       .app_id = HG_BYTES("a"),
                       .timestamp_s = 9,
                       .has_timestamp = true,
                       .has_priority = true,
                       .priority = 3,
                       .delivery_mode = 2,
                       .headers = headers,
                       .headers_n = sizeof(headers) / sizeof(headers[0])},
        .body = HG_BYTES("a\0b"),
    };
    static const char want[] =
        "content-type:text/plain\ncontent-encoding:gzip\ncorrelation-id:c\\n\n"
        "reply-to:/reply-queue/amq.gen-1\nexpiration:60\namqp-message-id:m\ntype:t\napp-id:a\n"
        "user-id:u\npriority:3\ntimestamp:9\npersistent:true\ns:a\\cb\ni:-5\nb:true\nd:0.5\nwhen:7\n"
        "j:{\"k\"\\c1}\nbin://4=\nnone:\nx-correlation-id:other\ncontent-length:3\n\na\0b";
    (void)state;
    struct hg_message *m = hg_message_new(&parts);
    struct hg_writer w = {0};
    hg_stomp_message_write(&w, HG_STOMP_V12, m);
    assert_bytes(hg_writer_view(&w), sizeof(want), want);
    hg_writer_close(&w);
    hg_message_unref(m);
}

static void a_reply_to_that_is_a_destination_stays_as_it_is(void **state)
{
    (void)state;
    struct hg_message_parts parts = {.properties = {.reply_to = HG_BYTES("/chat/answers")}};
    struct hg_message *m = hg_message_new(&parts);
    struct hg_writer w = {0};
    hg_stomp_message_write(&w, HG_STOMP_V12, m);
    assert_bytes(hg_writer_view(&w), 42, "reply-to:/chat/answers\ncontent-length:0\n\n");
    hg_writer_close(&w);
    hg_message_unref(m);
}

static void running_out_of_memory_is_seen(void **state)
{
    char text[1024];
    struct hg_stomp_frame frame;
    struct hg_stomp_properties p;
    const char *why;
    (void)state;
    decode("a:1\n", text, &frame);
    seam_fail_alloc(1);
    assert_int_equal(hg_stomp_properties_read(&frame, &p, &why), HG_NO_MEMORY);
    seam_fail_alloc(0);
    hg_stomp_properties_close(&p);
    hg_stomp_frame_close(&frame);
    const struct hg_header header = {HG_BYTES("i"), {HG_VALUE_INT, {.i = 1}}};
    struct hg_message_parts parts = {.properties = {.headers = &header, .headers_n = 1}};
    struct hg_message *m = hg_message_new(&parts);
    for (size_t i = 1; i <= 2; i++) {
        struct hg_writer w = {0};
        seam_fail_alloc(i);
        hg_stomp_message_write(&w, HG_STOMP_V12, m);
        assert_true(w.failed);
        seam_fail_alloc(0);
        hg_writer_close(&w);
    }
    hg_message_unref(m);
    assert_int_equal(seam_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(send_headers_become_properties),
        cmocka_unit_test(a_long_correlation_id_travels_as_a_header_and_comes_back),
        cmocka_unit_test(message_shows_every_property_once),
        cmocka_unit_test(a_reply_to_that_is_a_destination_stays_as_it_is),
        cmocka_unit_test(running_out_of_memory_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
