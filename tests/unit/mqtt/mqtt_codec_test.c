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
#define NEW  "10 0e 0004 4d515454 05 02 0000 00 0001 63 "  /* and in 5.0 */
#define HI   "connect 4 clean ka=0 id=c\n"
#define HI31 "connect 3 clean ka=0 id=c\n"
#define HI5  "connect 5 clean ka=0 id=c\n"

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
    {"a level that nobody knows", "10 07 0004 4d515454 84", "connect 132 not supported\n"},
    {"and nothing more is read from it", "10 07 0004 4d515454 84 c000", "connect 132 not supported\nPROTOCOL_ERROR 0: an earlier packet was refused\n"},
    {"MQTT with 3.1's level", "10 0d 0004 4d515454 03 02 0000 0001 63", "connect 3 not supported\n"},
    {"MQIsdp with 3.1.1's level", "10 0f 0006 4d5149736470 04 02 0000 0001 63", "connect 4 not supported\n"},
    {"another protocol name", "10 0d 0004 4d515455 04 02 0000 0001 63", "MALFORMED 4: the protocol name must be MQTT\n"},
    {"no protocol name", "10 02 0000", "MALFORMED 4: the protocol name must be MQTT\n"},
    {"the reserved flag", "10 0d 0004 4d515454 04 03 0000 0001 63", "MALFORMED 9: the reserved CONNECT flag must be 0\n"},
    {"a will of QoS 3", "10 12 0004 4d515454 04 1e 0000 0001 63 0001 77 0000", "MALFORMED 9: the will's QoS must not be 3\n"},
    {"QoS without a will", "10 0d 0004 4d515454 04 0a 0000 0001 63", "MALFORMED 9: without a will, its QoS and retain flags must be 0\n"},
    {"retain without a will", "10 0d 0004 4d515454 04 22 0000 0001 63", "MALFORMED 9: without a will, its QoS and retain flags must be 0\n"},
    {"a password without a user", "10 10 0004 4d515454 04 42 0000 0001 63 0001 70", "MALFORMED 9: a password needs a user name\n"},
    {"an empty will topic", "10 11 0004 4d515454 04 06 0000 0001 63 0000 0000", "BAD_ADDRESS 17: a will topic must not be empty\n"},
    {"a wildcard in the will topic", "10 14 0004 4d515454 04 06 0000 0001 63 0003 612f23 0000", "BAD_ADDRESS 17: a will topic must not hold wildcards\n"},
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
    {"an empty topic", MQTT "30 02 0000", HI "BAD_ADDRESS 4: a topic must not be empty\n"},
    {"a topic longer than its packet", MQTT "30 03 0002 74", HI "MALFORMED 4: a field reaches past the end of its packet\n"},
    {"+ in the topic", MQTT "30 05 0003 612f2b", HI "BAD_ADDRESS 4: a topic must not hold wildcards\n"},
    {"# in the topic", MQTT "30 05 0003 612f23", HI "BAD_ADDRESS 4: a topic must not hold wildcards\n"},
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
    {"SUBSCRIBE to nothing", MQTT "82 02 0001", HI "PROTOCOL_ERROR 4: SUBSCRIBE must have a topic filter\n"},
    {"UNSUBSCRIBE from nothing", MQTT "a2 02 0001", HI "PROTOCOL_ERROR 4: UNSUBSCRIBE must have a topic filter\n"},
    {"a filter without its QoS", MQTT "82 05 0001 0001 74", HI "MALFORMED 7: a field reaches past the end of its packet\n"},
    {"QoS 3", MQTT "82 06 0001 0001 74 03", HI "MALFORMED 7: a requested QoS must be 0, 1 or 2\n"},
    {"reserved bits beside the QoS", MQTT "82 06 0001 0001 74 81", HI "MALFORMED 7: a requested QoS must be 0, 1 or 2\n"},
    {"an empty filter", MQTT "82 05 0001 0000 00", HI "BAD_FILTER 6: a topic filter must not be empty\n"},
    {"# before the end", MQTT "82 08 0001 0003 232f61 00", HI "BAD_FILTER 6: a topic filter has a wildcard where none may be\n"},
    {"# beside something", MQTT "a2 06 0001 0002 6123", HI "BAD_FILTER 6: a topic filter has a wildcard where none may be\n"},
    {"+ beside something", MQTT "82 07 0001 0002 2b61 00", HI "BAD_FILTER 6: a topic filter has a wildcard where none may be\n"},
    {"the second filter counts as well", MQTT "82 0b 0001 0001 74 00 0002 eda0 00", HI "MALFORMED 10: a topic filter is not clean UTF-8\n"},

    /* 3.12 PINGREQ, 3.14 DISCONNECT */
    {"ping and goodbye", MQTT "c0 00" "e0 00", HI "pingreq\ndisconnect\n"},
    {"PINGREQ flags", MQTT "c1 00", HI "MALFORMED 0: PINGREQ flags must be 0000\n"},
    {"DISCONNECT flags", MQTT "e8 00", HI "MALFORMED 0: DISCONNECT flags must be 0000\n"},
    {"PINGREQ with something in it", MQTT "c0 80 80 01", HI "MALFORMED 1: PINGREQ must be empty\n"},

    /* 5.0: 2.2.2 properties, which the test of mqtt_property looks at one by one */
    {"5.0", NEW, HI5},
    {"MQIsdp with 5.0's level", "10 0f 0006 4d5149736470 05 02 0000 0001 63", "connect 5 not supported\n"},
    {"5.0 with everything",
     "10 38 0004 4d515454 05 ee 000a" /* user, password, will retain, QoS 1, will, clean */
     "11 11 0000003c 21 0014 22 0005 26 0001 61 0000" /* session expiry, receive maximum, aliases, a = "" */
     "0001 63" "07 18 00000005 01 01" /* will delay, payload format */
     "0003 772f74 0002 00ff 0001 75 0003 700071",
     "connect 5 clean ka=10 id=c will=w/t [00 ff] qos=1 retain user=u password=70 00 71 {11 00 00 00 3c 21 00 14 22 00 05 26 00 01 61 00 00} will {18 00 00 00 05 01 01}\n"},
    {"5.0: a password without a user", "10 11 0004 4d515454 05 42 0000 00 0001 63 0001 70", "connect 5 clean ka=0 id=c password=70\n"},
    {"5.0: the reserved flag", "10 0e 0004 4d515454 05 03 0000 00 0001 63", "MALFORMED 9: the reserved CONNECT flag must be 0\n"},
    {"5.0: no properties' length", "10 0a 0004 4d515454 05 02 0000", "MALFORMED 12: the length of the properties is malformed\n"},
    {"properties longer than the packet", "10 0e 0004 4d515454 05 02 0000 04 0001 63", "MALFORMED 13: a field reaches past the end of its packet\n"},
    {"a length with a byte too many", "10 0f 0004 4d515454 05 02 0000 8000 0001 63", "MALFORMED 12: the length of the properties is malformed\n"},
    {"a length of five bytes", "10 12 0004 4d515454 05 02 0000 8080808001 0001 63", "MALFORMED 12: the length of the properties is malformed\n"},
    {"a property that does not exist", "10 10 0004 4d515454 05 02 0000 02 7f00 0001 63", "MALFORMED 13: a property that does not exist\n"},
    {"a property of another packet", "10 11 0004 4d515454 05 02 0000 03 230001 0001 63", "MALFORMED 13: a property that this packet cannot have\n"},
    {"a property twice", "10 14 0004 4d515454 05 02 0000 06 210001 210001 0001 63", "PROTOCOL_ERROR 16: a property that came before\n"},
    {"receive maximum 0", "10 11 0004 4d515454 05 02 0000 03 210000 0001 63", "PROTOCOL_ERROR 13: a receive maximum must not be 0\n"},
    {"maximum packet size 0", "10 13 0004 4d515454 05 02 0000 05 2700000000 0001 63", "PROTOCOL_ERROR 13: a maximum packet size must not be 0\n"},
    {"request problem 2", "10 10 0004 4d515454 05 02 0000 02 1702 0001 63", "PROTOCOL_ERROR 13: a property must be 0 or 1\n"},
    {"authentication data without a method", "10 11 0004 4d515454 05 02 0000 03 160000 0001 63", "PROTOCOL_ERROR 13: authentication data without a method\n"},
    {"a will's property among the connection's", "10 13 0004 4d515454 05 02 0000 05 1800000000 0001 63", "MALFORMED 13: a property that this packet cannot have\n"},
    {"the connection's among a will's", "10 16 0004 4d515454 05 06 0000 00 0001 63 03 210001 0001 77 0000", "MALFORMED 17: a property that this packet cannot have\n"},
    {"5.0: an empty will topic", "10 13 0004 4d515454 05 06 0000 00 0001 63 00 0000 0000", "BAD_ADDRESS 19: a will topic must not be empty\n"},

    /* 5.0: 3.3 PUBLISH */
    {"5.0: QoS 0", NEW "30 07 0003 612f62 00 78", HI5 "publish a/b qos=0 [78]\n"},
    {"5.0: QoS 1 with properties and no payload", NEW "32 0b 0001 74 1234 05 02 0000003c", HI5 "publish t qos=1 id=4660 [] {02 00 00 00 3c}\n"},
    {"5.0: no properties' length", NEW "30 03 0001 74", HI5 "MALFORMED 5: the length of the properties is malformed\n"},
    {"5.0: a topic alias alone", NEW "30 06 0000 03 230001", HI5 "publish  qos=0 [] {23 00 01}\n"},
    {"5.0: neither topic nor alias", NEW "30 05 0000 02 0101", HI5 "PROTOCOL_ERROR 5: a topic must not be empty without a topic alias\n"},
    {"5.0: topic alias 0", NEW "30 07 0001 74 03 230000", HI5 "BAD_ALIAS 6: a topic alias must not be 0\n"},
    {"5.0: + in the topic", NEW "30 04 0001 2b 00", HI5 "BAD_ADDRESS 4: a topic must not hold wildcards\n"},
    {"5.0: payload format 2", NEW "30 06 0001 74 02 0102", HI5 "PROTOCOL_ERROR 6: a property must be 0 or 1\n"},
    {"5.0: a subscription identifier", NEW "30 06 0001 74 02 0b01", HI5 "PROTOCOL_ERROR 6: a client's PUBLISH must not have a subscription identifier\n"},
    {"5.0: the same user property twice", NEW "30 12 0001 74 0e 26 0001 61 0001 62 26 0001 61 0001 62", HI5 "publish t qos=0 [] {26 00 01 61 00 01 62 26 00 01 61 00 01 62}\n"},
    {"5.0: a wildcard in the response topic", NEW "30 08 0001 74 04 08 0001 23", HI5 "PROTOCOL_ERROR 6: a response topic must not hold wildcards\n"},
    {"5.0: packet identifier 0", NEW "32 06 0001 74 0000 00", HI5 "MALFORMED 5: a packet identifier must not be 0\n"},
    {"5.0: a remaining length with a byte too many", NEW "30 8400 0001 74 00", HI5 "MALFORMED 1: the remaining length is longer than it must be\n"},

    /* 5.0: 3.4 to 3.7 */
    {"5.0: the four without a reason", NEW "40 02 0001" "50 02 0002" "62 02 0003" "70 02 0004", HI5 "puback 1\npubrec 2\npubrel 3\npubcomp 4\n"},
    {"5.0: with a reason", NEW "40 03 0001 83" "50 03 0002 97" "62 03 0003 92" "70 03 0004 92", HI5 "puback 1 reason=83\npubrec 2 reason=97\npubrel 3 reason=92\npubcomp 4 reason=92\n"},
    {"5.0: with a reason and its string", NEW "40 08 0001 80 04 1f 0001 78", HI5 "puback 1 reason=80 {1f 00 01 78}\n"},
    {"5.0: with no properties, said", NEW "40 04 0001 00 00", HI5 "puback 1\n"},
    {"5.0: a reason that only servers send", NEW "40 03 0001 10", HI5 "PROTOCOL_ERROR 4: a reason code that a client cannot send in this packet\n"},
    {"5.0: a reason of another packet", NEW "62 03 0001 80", HI5 "PROTOCOL_ERROR 4: a reason code that a client cannot send in this packet\n"},
    {"5.0: a reason that does not exist", NEW "70 03 0001 ff", HI5 "PROTOCOL_ERROR 4: a reason code that a client cannot send in this packet\n"},
    {"5.0: PUBACK that is too short", NEW "40 01 00", HI5 "MALFORMED 2: a field reaches past the end of its packet\n"},
    {"5.0: something behind its properties", NEW "40 05 0001 00 00 00", HI5 "MALFORMED 6: the packet has bytes after its last field\n"},
    {"5.0: a property of PUBLISH", NEW "40 06 0001 00 02 0101", HI5 "MALFORMED 6: a property that this packet cannot have\n"},
    {"a reason below 5.0", MQTT "40 03 0001 00", HI "MALFORMED 1: PUBACK must have 2 bytes\n"},

    /* 5.0: 3.8 SUBSCRIBE, 3.10 UNSUBSCRIBE */
    {"5.0: every option", NEW "82 0b 0001 00 0001 74 2e 0001 75 10", HI5 "subscribe 1 t:2 no-local as-published retain=2 u:0 retain=1\n"},
    {"5.0: with an identifier", NEW "82 0a 0001 03 0bff7f 0001 74 01", HI5 "subscribe 1 t:1 {0b ff 7f}\n"},
    {"5.0: subscription identifier 0", NEW "82 09 0001 02 0b00 0001 74 01", HI5 "PROTOCOL_ERROR 5: a subscription identifier must not be 0\n"},
    {"5.0: two of them", NEW "82 0b 0001 04 0b01 0b02 0001 74 01", HI5 "PROTOCOL_ERROR 7: a property that came before\n"},
    {"5.0: one with a byte too many", NEW "82 0a 0001 03 0b8100 0001 74 01", HI5 "MALFORMED 5: a property's value is cut off or malformed\n"},
    {"5.0: reserved options, bit 6", NEW "82 07 0001 00 0001 74 40", HI5 "MALFORMED 8: reserved subscription options must be 0\n"},
    {"5.0: reserved options, bit 7", NEW "82 07 0001 00 0001 74 80", HI5 "MALFORMED 8: reserved subscription options must be 0\n"},
    {"5.0: QoS 3", NEW "82 07 0001 00 0001 74 03", HI5 "PROTOCOL_ERROR 8: a requested QoS must be 0, 1 or 2\n"},
    {"5.0: retain handling 3", NEW "82 07 0001 00 0001 74 30", HI5 "PROTOCOL_ERROR 8: retain handling must be 0, 1 or 2\n"},
    {"5.0's options below it", MQTT "82 06 0001 0001 74 04", HI "MALFORMED 7: a requested QoS must be 0, 1 or 2\n"},
    {"5.0: SUBSCRIBE to nothing", NEW "82 03 0001 00", HI5 "PROTOCOL_ERROR 5: SUBSCRIBE must have a topic filter\n"},
    {"5.0: UNSUBSCRIBE from nothing", NEW "a2 03 0001 00", HI5 "PROTOCOL_ERROR 5: UNSUBSCRIBE must have a topic filter\n"},
    {"5.0: UNSUBSCRIBE", NEW "a2 0d 0001 07 26 0001 61 0001 62 0001 74", HI5 "unsubscribe 1 t {26 00 01 61 00 01 62}\n"},
    {"5.0: UNSUBSCRIBE with a subscription identifier", NEW "a2 08 0001 02 0b01 0001 74", HI5 "MALFORMED 5: a property that this packet cannot have\n"},
    /* 4.8.2 */
    {"shared", NEW "82 10 0001 00 000a 2473686172652f672f61 01", HI5 "subscribe 1 $share/g/a:1\n"},
    {"shared, everything", NEW "82 10 0001 00 000a 2473686172652f672f23 01", HI5 "subscribe 1 $share/g/#:1\n"},
    {"shared, an empty level", NEW "82 10 0001 00 000a 2473686172652f672f2f 01", HI5 "subscribe 1 $share/g//:1\n"},
    {"shared without a name", NEW "82 0f 0001 00 0009 2473686172652f2f61 01", HI5 "BAD_FILTER 7: a shared subscription needs a name without wildcards\n"},
    {"shared with nothing behind it", NEW "82 0d 0001 00 0007 2473686172652f 01", HI5 "BAD_FILTER 7: a shared subscription needs a name without wildcards\n"},
    {"shared with + in its name", NEW "82 11 0001 00 000b 2473686172652f672b2f61 01", HI5 "BAD_FILTER 7: a shared subscription needs a name without wildcards\n"},
    {"shared with # for a name", NEW "82 10 0001 00 000a 2473686172652f232f61 01", HI5 "BAD_FILTER 7: a shared subscription needs a name without wildcards\n"},
    {"shared without a filter", NEW "82 0e 0001 00 0008 2473686172652f67 01", HI5 "BAD_FILTER 7: a shared subscription needs a filter behind its name\n"},
    {"shared with an empty filter", NEW "82 0f 0001 00 0009 2473686172652f672f 01", HI5 "BAD_FILTER 7: a shared subscription needs a filter behind its name\n"},
    {"shared with a wrong filter", NEW "a2 10 0001 00 000b 2473686172652f672f6123", HI5 "BAD_FILTER 7: a topic filter has a wildcard where none may be\n"},
    {"shared and no-local", NEW "82 10 0001 00 000a 2473686172652f672f61 04", HI5 "PROTOCOL_ERROR 17: a shared subscription must not be no-local\n"},
    {"$share alone is a filter", NEW "82 0c 0001 00 0006 247368617265 01", HI5 "subscribe 1 $share:1\n"},
    {"$share means nothing below 5.0", MQTT "82 0c 0001 0007 2473686172652f 01", HI "subscribe 1 $share/:1\n"},

    /* 5.0: 3.14 DISCONNECT, 3.15 AUTH */
    {"5.0: goodbye", NEW "e0 00", HI5 "disconnect\n"},
    {"5.0: with the will", NEW "e0 01 04", HI5 "disconnect reason=04\n"},
    {"5.0: with an expiry", NEW "e0 07 00 05 11 00000000", HI5 "disconnect {11 00 00 00 00}\n"},
    {"5.0: for a server's reason", NEW "e0 01 8b", HI5 "PROTOCOL_ERROR 2: a reason code that a client cannot send in this packet\n"},
    {"5.0: DISCONNECT flags", NEW "e1 00", HI5 "MALFORMED 0: DISCONNECT flags must be 0000\n"},
    {"5.0: PINGREQ with something in it", NEW "c0 01", HI5 "MALFORMED 1: PINGREQ must be empty\n"},
    {"a reason for DISCONNECT below 5.0", MQTT "e0 01", HI "MALFORMED 1: DISCONNECT must be empty\n"},
    {"more authentication", NEW "f0 09 18 07 15 0001 6d 16 0000", HI5 "auth reason=18 {15 00 01 6d 16 00 00}\n"},
    {"authentication again", NEW "f0 06 19 04 15 0001 6d", HI5 "auth reason=19 {15 00 01 6d}\n"},
    {"AUTH that says success", NEW "f0 00", HI5 "PROTOCOL_ERROR 2: a reason code that a client cannot send in this packet\n"},
    {"AUTH flags", NEW "f1 00", HI5 "MALFORMED 0: AUTH flags must be 0000\n"},
    {"AUTH below 5.0", MQTT "f0", HI "PROTOCOL_ERROR 0: a packet type that clients do not send\n"},

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

static void show_properties(struct hg_writer *w, const char *before, struct hg_bytes properties)
{
    if (properties.n > 0) {
        hg_writer_printf(w, "%s{", before);
        hex_write(w, properties);
        hg_writer_str(w, "}");
    }
}

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
    show_properties(w, " ", c->properties);
    show_properties(w, " will ", c->will_properties);
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
    show_properties(w, " ", p->properties);
}

static void show_reason(struct hg_writer *w, uint8_t reason, struct hg_bytes properties)
{
    if (reason != 0) {
        hg_writer_printf(w, " reason=%02x", reason);
    }
    show_properties(w, " ", properties);
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
            hg_writer_printf(w, ":%u%s%s", f.qos, f.is_no_local ? " no-local" : "",
                             f.is_retain_as_published ? " as-published" : "");
        }
        if (f.retain_handling != 0) {
            hg_writer_printf(w, " retain=%u", f.retain_handling);
        }
        n++;
    }
    assert_int_equal(n, s->filters_n);
    show_properties(w, " ", s->properties);
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
        show_reason(w, packet->u.ack.reason, packet->u.ack.properties);
        break;
    case HG_MQTT_SUBSCRIBE:
    case HG_MQTT_UNSUBSCRIBE: show_subscribe(w, packet); break;
    case HG_MQTT_PINGREQ: hg_writer_str(w, "pingreq"); break;
    case HG_MQTT_DISCONNECT:
    case HG_MQTT_AUTH:
        hg_writer_str(w, packet->type == HG_MQTT_AUTH ? "auth" : "disconnect");
        show_reason(w, packet->u.end.reason, packet->u.end.properties);
        break;
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
    assert_hex(hg_mqtt_encode_ack(out, 4, HG_MQTT_PUBACK, 0x1234, 0), "40 02 1234");
    assert_hex(hg_mqtt_encode_ack(out, 3, HG_MQTT_PUBREC, 1, 0), "50 02 0001");
    assert_hex(hg_mqtt_encode_ack(out, 4, HG_MQTT_PUBREL, 0xffff, 0), "62 02 ffff");
    assert_hex(hg_mqtt_encode_ack(out, 4, HG_MQTT_PUBCOMP, 2, 0x92), "70 02 0002");
    assert_hex(hg_mqtt_encode_ack(out, 4, HG_MQTT_UNSUBACK, 3, 0), "b0 02 0003");
    assert_hex(hg_mqtt_encode_ack(out, 5, HG_MQTT_PUBACK, 0x1234, 0), "40 02 1234");
    assert_hex(hg_mqtt_encode_ack(out, 5, HG_MQTT_PUBREL, 0x1234, 0x92), "62 03 1234 92");
    assert_hex(hg_mqtt_encode_pingresp(out), "d0 00");
}

struct written { /* what a writer made, next to what is specified */
    const char *hex;
    uint8_t type, level, code;
    const char *properties; /* hex */
};

/* clang-format off */
static const struct written written[] = {
    {"20 02 00 00",                        HG_MQTT_CONNACK, 4, 0,    "2100ff"},
    {"20 02 00 02",                        HG_MQTT_CONNACK, 3, 2,    ""},
    {"20 02 00 01",                        HG_MQTT_CONNACK, 132, 1,  ""},
    {"20 03 00 84 00",                     HG_MQTT_CONNACK, 5, 0x84, ""},
    {"20 06 00 00 03 2100ff",              HG_MQTT_CONNACK, 5, 0,    "2100ff"},
    {"40 02 000a",                         HG_MQTT_PUBACK,  5, 0,    ""},
    {"50 03 000a 97",                      HG_MQTT_PUBREC,  5, 0x97, ""},
    {"62 08 000a 92 04 1f000178",          HG_MQTT_PUBREL,  5, 0x92, "1f000178"},
    {"70 08 000a 00 04 1f000178",          HG_MQTT_PUBCOMP, 5, 0,    "1f000178"},
    {"90 03 000a 80",                      HG_MQTT_SUBACK,  4, 0x80, ""},
    {"90 04 000a 00 87",                   HG_MQTT_SUBACK,  5, 0x87, ""},
    {"90 08 000a 04 1f000178 87",          HG_MQTT_SUBACK,  5, 0x87, "1f000178"},
    {"b0 02 000a",                         HG_MQTT_UNSUBACK, 4, 0,   ""},
    {"b0 04 000a 00 11",                   HG_MQTT_UNSUBACK, 5, 0x11, ""},
    {"e0 00",                              HG_MQTT_DISCONNECT, 5, 0, ""},
    {"e0 01 8b",                           HG_MQTT_DISCONNECT, 5, 0x8b, ""},
    {"e0 06 8b 04 1f000178",               HG_MQTT_DISCONNECT, 5, 0x8b, "1f000178"},
    {"f0 00",                              HG_MQTT_AUTH, 5, 0,       ""},
    {"f0 06 18 04 1500016d",               HG_MQTT_AUTH, 5, 0x18,    "1500016d"},
};
/* clang-format on */

static void write_one(struct hg_writer *w, const struct written *c, struct hg_bytes properties)
{
    switch (c->type) {
    case HG_MQTT_CONNACK: hg_mqtt_write_connack(w, c->level, false, c->code, properties); break;
    case HG_MQTT_SUBACK:
    case HG_MQTT_UNSUBACK:
        hg_mqtt_write_suback(w, c->level, c->type, 10, hg_bytes(&c->code, 1), properties);
        break;
    case HG_MQTT_DISCONNECT:
    case HG_MQTT_AUTH: hg_mqtt_write_end(w, c->type, c->code, properties); break;
    default: hg_mqtt_write_ack(w, c->type, 10, c->code, properties); break;
    }
}

static void answers_are_as_specified(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(written) / sizeof(written[0]); i++) {
        struct hg_writer properties = {0};
        struct hg_writer w = {0};
        hex_read(&properties, written[i].properties);
        write_one(&w, &written[i], hg_writer_view(&properties));
        assert_hex(hg_writer_view(&w), written[i].hex);
        hg_writer_close(&w);
        hg_writer_close(&properties);
    }
}

static void connack_tells_of_a_session(void **state)
{
    struct hg_writer w = {0};
    (void)state;
    hg_mqtt_write_connack(&w, HG_MQTT_V50, true, 0, HG_BYTES(""));
    assert_hex(hg_writer_view(&w), "20 03 01 00 00");
    hg_writer_close(&w);
}

static void suback_has_a_code_for_each_filter(void **state)
{
    uint8_t codes[200] = {0, 1, HG_MQTT_SUBACK_FAILURE};
    struct hg_writer w = {0};
    (void)state;
    hg_mqtt_write_suback(&w, 4, HG_MQTT_SUBACK, 10, hg_bytes(codes, 3), HG_BYTES(""));
    assert_hex(hg_writer_view(&w), "90 05 000a 00 01 80");
    hg_writer_reset(&w);
    hg_mqtt_write_suback(&w, 4, HG_MQTT_SUBACK, 10, hg_bytes(codes, sizeof(codes)), HG_BYTES(""));
    assert_hex(hg_bytes(w.buf->data, 5), "90 ca01 000a");
    assert_int_equal(hg_writer_n(&w), 205);
    hg_writer_close(&w);
}

static void a_refused_connect_leaves_its_level(void **state)
{
    uint8_t in[] = {0x10, 0x0e, 0, 4, 'M', 'Q', 'T', 'T', 5, 3, 0, 0, 0, 0, 1, 'c'};
    struct hg_mqtt_decoder dec = {0};
    struct hg_mqtt_packet packet;
    struct hg_error err;
    (void)state;
    assert_true(hg_mqtt_decode(&dec, &limits, hg_bytes(in, sizeof(in)), &packet, &err) < 0);
    assert_int_equal(dec.level, HG_MQTT_V50);
    dec = (struct hg_mqtt_decoder){0};
    in[4] = 'm';
    assert_true(hg_mqtt_decode(&dec, &limits, hg_bytes(in, sizeof(in)), &packet, &err) < 0);
    assert_int_equal(dec.level, 0);
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
                                              .properties = HG_BYTES("\x02\0\0\0\x3c"),
                                              .qos = flags % 3,
                                              .is_dup = flags >= 6 && flags % 3 > 0,
                                              .is_retained = flags % 6 >= 3,
                                              .packet_id = flags % 3 > 0 ? 0x1234 : 0};
            struct hg_writer w = {0};
            uint8_t level = i % 2 == 0 ? HG_MQTT_V311 : HG_MQTT_V50;
            assert_true(hg_mqtt_write_publish(&w, level, &p));
            struct hg_mqtt_decoder dec = {.level = level};
            struct hg_mqtt_packet got;
            struct hg_error err;
            assert_int_equal(hg_mqtt_decode(&dec, &wide, hg_writer_view(&w), &got, &err),
                             hg_writer_n(&w));
            assert_int_equal(got.type, HG_MQTT_PUBLISH);
            assert_true(hg_bytes_eq(got.u.publish.topic, p.topic));
            assert_int_equal(got.u.publish.payload.n, p.payload.n);
            assert_int_equal(got.u.publish.properties.n, level == HG_MQTT_V50 ? 5 : 0);
            assert_int_equal(got.u.publish.qos, p.qos);
            assert_int_equal(got.u.publish.packet_id, p.packet_id);
            assert_int_equal(got.u.publish.is_dup, p.is_dup);
            assert_int_equal(got.u.publish.is_retained, p.is_retained);
            hg_writer_close(&w);
        }
    }
}

static void what_cannot_be_a_publish_is_not_written(void **state)
{
    static uint8_t much[65536];
    struct hg_writer w = {0};
    (void)state;
    struct hg_mqtt_publish p = {.topic = hg_bytes(much, sizeof(much))};
    assert_false(hg_mqtt_write_publish(&w, HG_MQTT_V311, &p));
    p.topic.n--;
    p.payload =
        hg_bytes(much, HG_MQTT_REMAINING_MAX - 2 - 65535 + 1); /* only its length is looked at */
    assert_false(hg_mqtt_write_publish(&w, HG_MQTT_V311, &p));
    p.payload.n = 0;
    seam_fail_alloc(1);
    (void)hg_mqtt_write_publish(&w, HG_MQTT_V311, &p);
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
        cmocka_unit_test(answers_are_as_specified),
        cmocka_unit_test(connack_tells_of_a_session),
        cmocka_unit_test(a_refused_connect_leaves_its_level),
        cmocka_unit_test(suback_has_a_code_for_each_filter),
        cmocka_unit_test(publishes_read_back),
        cmocka_unit_test(what_cannot_be_a_publish_is_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
