/* SPDX-License-Identifier: Apache-2.0 */
/* MQTT packets: what is read from which bytes at every split point, what is refused where, and the
 * bytes that are written. */
#include "adapters/mqtt/mqtt_codec.h"

#include "message/message.h"
#include "seam/hex.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>
#include <stdlib.h>

static const struct hg_mqtt_limits limits = {.max_packet_bytes = 200};

/* ---- Wire cases ----------------------------------------------------------------------------------------------------- */

struct wire_case {
    const char *title;
    const char *hex;
    const char *out; /* a line a packet; an error ends it: "status at: rule" */
};

#define MQTT "10 0d 0004 4d515454 04 02 0000 0001 63 " /* CONNECT, clean session, client id "c" */
#define OLD  "10 0f 0006 4d5149736470 03 02 0000 0001 63 " /* the same in 3.1 */
#define HI   "connect 4 clean ka=0 id=c\n"
#define HI31 "connect 3 clean ka=0 id=c\n"

/* clang-format off */
static const struct wire_case wire_cases[] = {
    /* 3.1 CONNECT */
    {"the smallest", MQTT, HI},
    {"without clean session, with keep-alive", "10 0d 0004 4d515454 04 00 1234 0001 63", "connect 4 ka=4660 id=c\n"},
    {"an empty client identifier", "10 0c 0004 4d515454 04 02 0000 0000", "connect 4 clean ka=0 id=\n"},
    {"everything",
     "10 1e 0004 4d515454 04 f6 000a 0001 63" /* user, password, will retain, QoS 2, will, clean */
     "0003 772f74 0002 00ff" /* will topic w/t, payload */
     "0001 75 0003 70 00 71", /* user u, password p\0q */
     "connect 4 clean ka=10 id=c will=w/t [00 ff] qos=2 retain user=u password=70 00 71\n"},
    {"a will without payload", "10 12 0004 4d515454 04 06 0000 0001 63 0001 77 0000", "connect 4 clean ka=0 id=c will=w [] qos=0\n"},
    {"a user without a password", "10 10 0004 4d515454 04 82 0000 0001 63 0001 75", "connect 4 clean ka=0 id=c user=u\n"},
    {"3.1", OLD, HI31},
    {"3.1 with the reserved flag, which it leaves open", "10 0f 0006 4d5149736470 03 03 0000 0001 63", HI31},
    {"3.1: the remaining length wins over the user name flag", "10 0f 0006 4d5149736470 03 c2 0000 0001 63", HI31},
    {"3.1: and over the password flag", "10 12 0006 4d5149736470 03 c2 0000 0001 63 0001 75", "connect 3 clean ka=0 id=c user=u\n"},
    {"5.0 is left to be refused", "10 0e 0004 4d515454 05 02 0000 00 0001 63", "connect 5 not supported\n"},
    {"as is a level that nobody knows", "10 07 0004 4d515454 84", "connect 132 not supported\n"},
    {"MQTT with 3.1's level", "10 0d 0004 4d515454 03 02 0000 0001 63", "connect 3 not supported\n"},
    {"MQIsdp with 3.1.1's level", "10 0f 0006 4d5149736470 04 02 0000 0001 63", "connect 4 not supported\n"},
    {"another protocol name", "10 0d 0004 4d515455 04 02 0000 0001 63", "MALFORMED 4: the protocol name must be MQTT\n"},
    {"no protocol name", "10 02 0000", "MALFORMED 4: the protocol name must be MQTT\n"},
    {"the reserved flag", "10 0d 0004 4d515454 04 03 0000 0001 63", "MALFORMED 9: the reserved CONNECT flag must be 0\n"},
    {"a will of QoS 3", "10 12 0004 4d515454 04 1e 0000 0001 63 0001 77 0000", "MALFORMED 9: the will's QoS must not be 3\n"},
    {"QoS without a will", "10 0d 0004 4d515454 04 0a 0000 0001 63", "MALFORMED 9: without a will, its QoS and retain flags must be 0\n"},
    {"retain without a will", "10 0d 0004 4d515454 04 22 0000 0001 63", "MALFORMED 9: without a will, its QoS and retain flags must be 0\n"},
    {"a password without a user", "10 10 0004 4d515454 04 42 0000 0001 63 0001 70", "MALFORMED 9: a password needs a user name\n"},
    {"an empty will topic", "10 11 0004 4d515454 04 06 0000 0001 63 0000 0000", "MALFORMED 17: a will topic must not be empty\n"},
    {"a wildcard in the will topic", "10 14 0004 4d515454 04 06 0000 0001 63 0003 612f23 0000", "MALFORMED 17: a will topic must not hold wildcards\n"},
    {"flags that announce more than there is", "10 0d 0004 4d515454 04 82 0000 0001 63", "MALFORMED 15: a field reaches past the end of its packet\n"},
    {"more than the flags announce", "10 0e 0004 4d515454 04 02 0000 0001 63 00", "MALFORMED 15: the packet has bytes after its last field\n"},
    {"a client identifier with U+0000", "10 0d 0004 4d515454 04 02 0000 0001 00", "MALFORMED 14: the client identifier is not clean UTF-8\n"},
    {"fixed header flags", "11 0d 0004 4d515454 04 02 0000 0001 63", "MALFORMED 0: CONNECT flags must be 0000\n"},
    {"once only", MQTT MQTT, HI "PROTOCOL_ERROR 0: CONNECT must be sent only once\n"},
    {"before everything else", "c0 00", "PROTOCOL_ERROR 0: the first packet must be CONNECT\n"},
    {"told by the first byte", "47", "PROTOCOL_ERROR 0: the first packet must be CONNECT\n"},

    /* 3.3 PUBLISH */
    {"QoS 0", MQTT "30 06 0003 612f62 78", HI "publish a/b qos=0 [78]\n"},
    {"QoS 1 without payload", MQTT "32 05 0001 74 1234", HI "publish t qos=1 id=4660 []\n"},
    {"QoS 2, DUP, retain", MQTT "3d 06 0001 74 ffff 00", HI "publish t qos=2 id=65535 dup retain [00]\n"},
    {"retain", MQTT "31 03 0001 74", HI "publish t qos=0 retain []\n"},
    {"any Unicode in the topic", MQTT "30 09 0007 c3a9 f09f9880 2f", HI "publish \xc3\xa9\xf0\x9f\x98\x80/ qos=0 []\n"},
    {"QoS 3", MQTT "36 06 0001 74 1234 00", HI "MALFORMED 0: QoS must be 0, 1 or 2\n"},
    {"DUP with QoS 0", MQTT "38 03 0001 74", HI "MALFORMED 0: DUP must be 0 where the QoS is 0\n"},
    {"no packet identifier", MQTT "32 03 0001 74", HI "MALFORMED 5: a field reaches past the end of its packet\n"},
    {"packet identifier 0", MQTT "32 05 0001 74 0000", HI "MALFORMED 5: a packet identifier must not be 0\n"},
    {"no topic", MQTT "30 00", HI "MALFORMED 2: a field reaches past the end of its packet\n"},
    {"an empty topic", MQTT "30 02 0000", HI "MALFORMED 4: a topic must not be empty\n"},
    {"a topic longer than its packet", MQTT "30 03 0002 74", HI "MALFORMED 4: a field reaches past the end of its packet\n"},
    {"+ in the topic", MQTT "30 05 0003 612f2b", HI "MALFORMED 4: a topic must not hold wildcards\n"},
    {"# in the topic", MQTT "30 05 0003 612f23", HI "MALFORMED 4: a topic must not hold wildcards\n"},
    {"U+0000 in the topic", MQTT "30 05 0003 610062", HI "MALFORMED 4: the topic is not clean UTF-8\n"},
    {"a surrogate in the topic", MQTT "30 05 0003 eda080", HI "MALFORMED 4: the topic is not clean UTF-8\n"},
    {"an overlong slash in the topic", MQTT "30 04 0002 c0af", HI "MALFORMED 4: the topic is not clean UTF-8\n"},
    {"a character cut off", MQTT "30 03 0001 c3", HI "MALFORMED 4: the topic is not clean UTF-8\n"},
    {"a control character in the topic", MQTT "30 03 0001 07", HI "MALFORMED 4: the topic is not clean UTF-8\n"},

    /* 3.4 to 3.7 */
    {"the four acknowledgements", MQTT "40 02 0001" "50 02 0002" "62 02 0003" "70 02 0004", HI "puback 1\npubrec 2\npubrel 3\npubcomp 4\n"},
    {"PUBACK flags", MQTT "42 02 0001", HI "MALFORMED 0: PUBACK flags must be 0000\n"},
    {"PUBREC flags", MQTT "58 02 0001", HI "MALFORMED 0: PUBREC flags must be 0000\n"},
    {"PUBREL flags", MQTT "60 02 0001", HI "MALFORMED 0: PUBREL flags must be 0010\n"},
    {"PUBREL with DUP", MQTT "6a 02 0001", HI "MALFORMED 0: PUBREL flags must be 0010\n"},
    {"which 3.1 has", OLD "6a 02 0001", HI31 "pubrel 1\n"},
    {"PUBCOMP flags", MQTT "71 02 0001", HI "MALFORMED 0: PUBCOMP flags must be 0000\n"},
    {"PUBACK of nothing", MQTT "40 02 0000", HI "MALFORMED 2: a packet identifier must not be 0\n"},
    {"PUBACK that is too short", MQTT "40 01", HI "MALFORMED 1: PUBACK must have 2 bytes\n"},
    {"PUBREL that is too long, told by its header", MQTT "62 03", HI "MALFORMED 1: PUBREL must have 2 bytes\n"},

    /* 3.8 SUBSCRIBE, 3.10 UNSUBSCRIBE */
    {"one filter", MQTT "82 06 0001 0001 74 01", HI "subscribe 1 t:1\n"},
    {"several", MQTT "82 11 000a 0003 612f2b 00 0001 23 02 0002 2b2f 01", HI "subscribe 10 a/+:0 #:2 +/:1\n"},
    {"unsubscribe", MQTT "a2 09 0002 0001 74 0002 2b2f", HI "unsubscribe 2 t +/\n"},
    {"3.1 has DUP on both", OLD "8a 06 0001 0001 74 01" "aa 05 0002 0001 74", HI31 "subscribe 1 t:1\nunsubscribe 2 t\n"},
    {"SUBSCRIBE flags", MQTT "80 06 0001 0001 74 01", HI "MALFORMED 0: SUBSCRIBE flags must be 0010\n"},
    {"UNSUBSCRIBE flags", MQTT "a0 05 0001 0001 74", HI "MALFORMED 0: UNSUBSCRIBE flags must be 0010\n"},
    {"SUBSCRIBE with DUP", MQTT "8a 06 0001 0001 74 01", HI "MALFORMED 0: SUBSCRIBE flags must be 0010\n"},
    {"SUBSCRIBE identifier 0", MQTT "82 06 0000 0001 74 01", HI "MALFORMED 2: a packet identifier must not be 0\n"},
    {"SUBSCRIBE to nothing", MQTT "82 02 0001", HI "MALFORMED 4: SUBSCRIBE must have a topic filter\n"},
    {"UNSUBSCRIBE from nothing", MQTT "a2 02 0001", HI "MALFORMED 4: UNSUBSCRIBE must have a topic filter\n"},
    {"a filter without its QoS", MQTT "82 05 0001 0001 74", HI "MALFORMED 7: a field reaches past the end of its packet\n"},
    {"QoS 3", MQTT "82 06 0001 0001 74 03", HI "MALFORMED 7: a requested QoS must be 0, 1 or 2\n"},
    {"reserved bits beside the QoS", MQTT "82 06 0001 0001 74 81", HI "MALFORMED 7: a requested QoS must be 0, 1 or 2\n"},
    {"an empty filter", MQTT "82 05 0001 0000 00", HI "MALFORMED 6: a topic filter must not be empty\n"},
    {"# before the end", MQTT "82 08 0001 0003 232f61 00", HI "MALFORMED 6: a topic filter has a wildcard where none may be\n"},
    {"# beside something", MQTT "a2 06 0001 0002 6123", HI "MALFORMED 6: a topic filter has a wildcard where none may be\n"},
    {"+ beside something", MQTT "82 07 0001 0002 2b61 00", HI "MALFORMED 6: a topic filter has a wildcard where none may be\n"},
    {"the second filter counts as well", MQTT "82 0b 0001 0001 74 00 0002 eda0 00", HI "MALFORMED 10: a topic filter is not clean UTF-8\n"},

    /* 3.12 PINGREQ, 3.14 DISCONNECT */
    {"ping and goodbye", MQTT "c0 00" "e0 00", HI "pingreq\ndisconnect\n"},
    {"PINGREQ flags", MQTT "c1 00", HI "MALFORMED 0: PINGREQ flags must be 0000\n"},
    {"DISCONNECT flags", MQTT "e8 00", HI "MALFORMED 0: DISCONNECT flags must be 0000\n"},
    {"PINGREQ with something in it", MQTT "c0 80 80 01", HI "MALFORMED 1: PINGREQ must be empty\n"},

    /* What clients do not send */
    {"CONNACK", MQTT "20 02 0000", HI "PROTOCOL_ERROR 0: a packet type that clients do not send\n"},
    {"SUBACK", MQTT "90 03 0001 00", HI "PROTOCOL_ERROR 0: a packet type that clients do not send\n"},
    {"type 0", MQTT "00", HI "PROTOCOL_ERROR 0: a packet type that clients do not send\n"},
    {"type 15", MQTT "f0", HI "PROTOCOL_ERROR 0: a packet type that clients do not send\n"},

    /* 2.2.3 Remaining length */
    {"in more bytes than it needs", MQTT "c0 80 80 80 00" "e0 00", HI "pingreq\ndisconnect\n"},
    {"in five bytes", MQTT "30 80 80 80 80", HI "MALFORMED 1: the remaining length has more than 4 bytes\n"},
    {"past the limit, told by the header", MQTT "30 c7 01", HI "TOO_LARGE 1: the packet exceeds the limit on packets\n"},
    {"up to the limit: the rest is awaited", MQTT "30 c5 01", HI},
};
/* clang-format on */

static void show_connect(struct hg_writer *w, const struct hg_mqtt_connect *c)
{
    hg_writer_printf(w, "connect %u", c->level);
    if (!c->is_supported) {
        hg_writer_str(w, " not supported");
        return;
    }
    hg_writer_printf(w, "%s ka=%u id=%.*s", c->is_clean ? " clean" : "", c->keep_alive_s,
                     HG_BYTES_FMT(c->client_id));
    if (c->has_will) {
        hg_writer_printf(w, " will=%.*s [", HG_BYTES_FMT(c->will_topic));
        hex_write(w, c->will_payload);
        hg_writer_printf(w, "] qos=%u%s", c->will_qos, c->will_retain ? " retain" : "");
    }
    if (c->has_user) {
        hg_writer_printf(w, " user=%.*s", HG_BYTES_FMT(c->user));
    }
    if (c->has_password) {
        hg_writer_str(w, " password=");
        hex_write(w, c->password);
    }
}

static void show_publish(struct hg_writer *w, const struct hg_mqtt_publish *p)
{
    hg_writer_printf(w, "publish %.*s qos=%u", HG_BYTES_FMT(p->topic), p->qos);
    if (p->packet_id != 0) {
        hg_writer_printf(w, " id=%u", p->packet_id);
    }
    hg_writer_printf(w, "%s%s [", p->is_dup ? " dup" : "", p->is_retained ? " retain" : "");
    hex_write(w, p->payload);
    hg_writer_str(w, "]");
}

static void show_subscribe(struct hg_writer *w, const struct hg_mqtt_packet *packet)
{
    const struct hg_mqtt_subscribe *s = &packet->u.subscribe;
    bool is_subscribe = packet->type == HG_MQTT_SUBSCRIBE;
    struct hg_bytes rest = s->filters;
    struct hg_mqtt_filter f;
    size_t n = 0;
    hg_writer_printf(w, "%s %u", is_subscribe ? "subscribe" : "unsubscribe", s->packet_id);
    while (hg_mqtt_next_filter(&rest, packet->type, &f)) {
        hg_writer_printf(w, " %.*s", HG_BYTES_FMT(f.filter));
        if (is_subscribe) {
            hg_writer_printf(w, ":%u", f.qos);
        }
        n++;
    }
    assert_int_equal(n, s->filters_n);
}

static void show(struct hg_writer *w, const struct hg_mqtt_packet *packet)
{
    static const char *const acks[] = {"puback", "pubrec", "pubrel", "pubcomp"};
    switch (packet->type) {
    case HG_MQTT_CONNECT: show_connect(w, &packet->u.connect); break;
    case HG_MQTT_PUBLISH: show_publish(w, &packet->u.publish); break;
    case HG_MQTT_PUBACK:
    case HG_MQTT_PUBREC:
    case HG_MQTT_PUBREL:
    case HG_MQTT_PUBCOMP:
        hg_writer_printf(w, "%s %u", acks[packet->type - HG_MQTT_PUBACK], packet->u.ack.packet_id);
        break;
    case HG_MQTT_SUBSCRIBE:
    case HG_MQTT_UNSUBSCRIBE: show_subscribe(w, packet); break;
    case HG_MQTT_PINGREQ: hg_writer_str(w, "pingreq"); break;
    case HG_MQTT_DISCONNECT: hg_writer_str(w, "disconnect"); break;
    default: fail_msg("packet type %d", packet->type);
    }
    hg_writer_u8(w, '\n');
}

/* Input on its way through a decoder: arrives in pieces, unused bytes come again. */
struct reader {
    struct hg_mqtt_decoder dec;
    struct hg_writer out;
    size_t used;
    bool is_over;
};

/* in[0, n) has arrived. The bytes are a block of exactly their size, so that reading past them is
 * found. */
static void arrive(struct reader *r, struct hg_bytes in, size_t n)
{
    uint8_t *block = malloc(n - r->used + 1);
    assert_non_null(block);
    memcpy(block, in.p + r->used, n - r->used);
    struct hg_bytes rest = hg_bytes(block, n - r->used);
    while (!r->is_over) {
        struct hg_mqtt_packet packet;
        struct hg_error err = {0};
        ssize_t rc = hg_mqtt_decode(&r->dec, &limits, rest, &packet, &err);
        if (rc < 0) {
            hg_writer_printf(&r->out, "%s %zu: %s\n", hg_status_info(err.status)->name, err.at,
                             err.rule);
            r->is_over = true;
            assert_true(hg_mqtt_decode(&r->dec, &limits, rest, &packet, &err) < 0);
        }
        if (rc <= 0) {
            break;
        }
        show(&r->out, &packet);
        r->used += (size_t)rc;
        rest = hg_bytes_skip(rest, (size_t)rc);
    }
    free(block);
}

static void assert_reads(const struct wire_case *c, struct hg_bytes in, const size_t *ends,
                         size_t ends_n)
{
    struct reader r = {0};
    for (size_t i = 0; i < ends_n; i++) {
        arrive(&r, in, ends[i]);
    }
    arrive(&r, in, in.n);
    hg_writer_u8(&r.out, 0);
    if (strcmp((const char *)r.out.buf->data, c->out) != 0) {
        print_error("%s, split at %zu\nwant %sgot  %s", c->title, ends_n > 0 ? ends[0] : 0, c->out,
                    (const char *)r.out.buf->data);
        fail();
    }
    hg_writer_close(&r.out);
}

static void wire_cases_read_the_same_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(wire_cases) / sizeof(wire_cases[0]); i++) {
        const struct wire_case *c = &wire_cases[i];
        struct hg_writer bytes = {0};
        hex_read(&bytes, c->hex);
        struct hg_bytes in = hg_writer_view(&bytes);
        size_t every[256];
        assert_true(in.n <= 256);
        for (size_t at = 0; at < in.n; at++) {
            assert_reads(c, in, &at, 1);
            every[at] = at;
        }
        assert_reads(c, in, every, in.n); /* byte by byte */
        hg_writer_close(&bytes);
    }
    assert_int_equal(seam_live(), 0);
}

static void the_limit_holds_to_the_byte(void **state)
{
    uint8_t in[256] = {0x30, 0xc5, 0x01, 0x00, 0x01, 't'}; /* 3 + 197 bytes */
    struct hg_mqtt_packet packet;
    struct hg_error err;
    (void)state;
    struct hg_mqtt_decoder dec = {.level = HG_MQTT_V311};
    assert_int_equal(hg_mqtt_decode(&dec, &limits, hg_bytes(in, 199), &packet, &err), 0);
    assert_int_equal(hg_mqtt_decode(&dec, &limits, hg_bytes(in, 200), &packet, &err), 200);
    assert_int_equal(packet.u.publish.payload.n, 194);
    in[1] = 0xc6;
    assert_true(hg_mqtt_decode(&dec, &limits, hg_bytes(in, 3), &packet, &err) < 0);
    assert_int_equal(err.status, HG_TOO_LARGE);
}

static void a_stranger_gets_memory_for_one_connect_only(void **state)
{
    const struct hg_mqtt_limits wide = {.max_packet_bytes = 16 * 1024 * 1024};
    uint8_t in[] = {0x10, 0x91, 0x80, 0x14}; /* 12 + 5 * 65537 bytes are to come */
    struct hg_mqtt_decoder dec = {0};
    struct hg_mqtt_packet packet;
    struct hg_error err;
    (void)state;
    assert_int_equal(hg_mqtt_decode(&dec, &wide, hg_bytes(in, 4), &packet, &err), 0);
    in[1]++;
    assert_true(hg_mqtt_decode(&dec, &wide, hg_bytes(in, 4), &packet, &err) < 0);
    assert_int_equal(err.status, HG_TOO_LARGE);
}

/* ---- Writing -------------------------------------------------------------------------------------------------------- */

static void assert_hex(struct hg_bytes got, const char *want)
{
    struct hg_writer bytes = {0};
    hex_read(&bytes, want);
    assert_bytes(got, hg_writer_n(&bytes), bytes.buf->data);
    hg_writer_close(&bytes);
}

static void small_packets_are_as_specified(void **state)
{
    uint8_t out[HG_MQTT_SMALL_MAX];
    (void)state;
    assert_hex(hg_mqtt_encode_connack(out, HG_MQTT_V311, false, HG_MQTT_ACCEPTED), "20 02 00 00");
    assert_hex(hg_mqtt_encode_connack(out, HG_MQTT_V311, true, HG_MQTT_ACCEPTED), "20 02 01 00");
    assert_hex(hg_mqtt_encode_connack(out, HG_MQTT_V31, false, HG_MQTT_BAD_CLIENT_ID),
               "20 02 00 02");
    assert_hex(hg_mqtt_encode_connack(out, 132, false, HG_MQTT_BAD_VERSION), "20 02 00 01");
    assert_hex(hg_mqtt_encode_connack(out, HG_MQTT_V50, false, 0x84), "20 03 00 84 00");
    assert_hex(hg_mqtt_encode_ack(out, HG_MQTT_PUBACK, 0x1234), "40 02 1234");
    assert_hex(hg_mqtt_encode_ack(out, HG_MQTT_PUBREC, 1), "50 02 0001");
    assert_hex(hg_mqtt_encode_ack(out, HG_MQTT_PUBREL, 0xffff), "62 02 ffff");
    assert_hex(hg_mqtt_encode_ack(out, HG_MQTT_PUBCOMP, 2), "70 02 0002");
    assert_hex(hg_mqtt_encode_ack(out, HG_MQTT_UNSUBACK, 3), "b0 02 0003");
    assert_hex(hg_mqtt_encode_pingresp(out), "d0 00");
}

static void suback_has_a_code_for_each_filter(void **state)
{
    uint8_t codes[200] = {0, 1, HG_MQTT_SUBACK_FAILURE};
    struct hg_writer w = {0};
    (void)state;
    hg_mqtt_write_suback(&w, 10, hg_bytes(codes, 3));
    assert_hex(hg_writer_view(&w), "90 05 000a 00 01 80");
    hg_writer_reset(&w);
    hg_mqtt_write_suback(&w, 10, hg_bytes(codes, sizeof(codes)));
    assert_hex(hg_bytes(w.buf->data, 5), "90 ca01 000a");
    assert_int_equal(hg_writer_n(&w), 205);
    hg_writer_close(&w);
}

/* Lengths around the steps of the remaining length: each gives what the decoder takes for the same
 * publish. */
static void publishes_read_back(void **state)
{
    static const size_t sizes[] = {0,     1,     121,   122,   123,     124,     125,    126,
                                   16376, 16377, 16380, 16381, 2097143, 2097146, 2097148};
    static uint8_t payload[2097152];
    const struct hg_mqtt_limits wide = {.max_packet_bytes = 1 << 28};
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (uint8_t flags = 0; flags < 12; flags++) {
            const struct hg_mqtt_publish p = {.topic = HG_BYTES("a"),
                                              .payload = hg_bytes(payload, sizes[i]),
                                              .qos = flags % 3,
                                              .is_dup = flags >= 6 && flags % 3 > 0,
                                              .is_retained = flags % 6 >= 3,
                                              .packet_id = flags % 3 > 0 ? 0x1234 : 0};
            struct hg_writer w = {0};
            assert_true(hg_mqtt_write_publish(&w, &p));
            struct hg_mqtt_decoder dec = {.level = HG_MQTT_V311};
            struct hg_mqtt_packet got;
            struct hg_error err;
            assert_int_equal(hg_mqtt_decode(&dec, &wide, hg_writer_view(&w), &got, &err),
                             hg_writer_n(&w));
            assert_int_equal(got.type, HG_MQTT_PUBLISH);
            assert_true(hg_bytes_eq(got.u.publish.topic, p.topic));
            assert_int_equal(got.u.publish.payload.n, p.payload.n);
            assert_int_equal(got.u.publish.qos, p.qos);
            assert_int_equal(got.u.publish.packet_id, p.packet_id);
            assert_int_equal(got.u.publish.is_dup, p.is_dup);
            assert_int_equal(got.u.publish.is_retained, p.is_retained);
            hg_writer_close(&w);
        }
    }
}

/* Head, topic, identifier, payload: the slices of one QoS 0 packet make every QoS 1 packet. */
static void a_shared_publish_is_the_one_that_would_be_written(void **state)
{
    static const size_t sizes[] = {0, 5, 122, 123, 124, 125, 16378, 16379};
    static uint8_t payload[16384];
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct hg_mqtt_publish p = {.topic = HG_BYTES("a/b"),
                                    .payload = hg_bytes(payload, sizes[i])};
        struct hg_writer shared = {0};
        assert_true(hg_mqtt_write_publish(&shared, &p));
        p.qos = 1;
        p.is_dup = i % 2 == 0;
        p.packet_id = 0x1234;
        struct hg_writer want = {0};
        assert_true(hg_mqtt_write_publish(&want, &p));
        struct hg_mqtt_shared parts = hg_mqtt_share(hg_writer_view(&shared));
        uint8_t room[HG_MQTT_HEAD_MAX];
        struct hg_bytes head;
        assert_true(hg_mqtt_encode_head(room, &parts, 1, p.is_dup, &head));
        struct hg_writer got = {0};
        hg_writer_bytes(&got, head);
        hg_writer_bytes(&got, parts.topic);
        hg_writer_u16(&got, 0x1234);
        hg_writer_bytes(&got, parts.payload);
        assert_bytes(hg_writer_view(&got), hg_writer_n(&want), want.buf->data);
        hg_writer_close(&got);
        hg_writer_close(&want);
        hg_writer_close(&shared);
    }
}

static void what_cannot_be_a_publish_is_not_written(void **state)
{
    static uint8_t much[65536];
    struct hg_writer w = {0};
    (void)state;
    struct hg_mqtt_publish p = {.topic = hg_bytes(much, sizeof(much))};
    assert_false(hg_mqtt_write_publish(&w, &p));
    p.topic.n--;
    p.payload =
        hg_bytes(much, HG_MQTT_REMAINING_MAX - 2 - 65535 + 1); /* only its length is looked at */
    assert_false(hg_mqtt_write_publish(&w, &p));
    p.payload.n = 0;
    seam_fail_alloc(1);
    (void)hg_mqtt_write_publish(&w, &p);
    seam_fail_alloc(0);
    assert_int_equal(hg_writer_n(&w), 65535 + 2 + 4);
    hg_writer_close(&w);
    assert_int_equal(seam_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wire_cases_read_the_same_at_every_split),
        cmocka_unit_test(the_limit_holds_to_the_byte),
        cmocka_unit_test(a_stranger_gets_memory_for_one_connect_only),
        cmocka_unit_test(small_packets_are_as_specified),
        cmocka_unit_test(suback_has_a_code_for_each_filter),
        cmocka_unit_test(publishes_read_back),
        cmocka_unit_test(a_shared_publish_is_the_one_that_would_be_written),
        cmocka_unit_test(what_cannot_be_a_publish_is_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
