/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and networks are read strictly, and each address is known for what it is. */
#include "base/inet.h"

#include "seam/unit.h"

#include <netinet/in.h>

static void an_address_is_of_its_kind(void **state)
{
    static const struct {
        const char *text;
        enum hg_inet_kind kind;
    } rows[] = {
        {"93.184.216.34", HG_INET_PUBLIC},
        {"0.0.0.0", HG_INET_UNSPECIFIED},
        {"0.1.2.3", HG_INET_UNSPECIFIED},
        {"9.255.255.255", HG_INET_PUBLIC},
        {"10.0.0.0", HG_INET_PRIVATE},
        {"10.255.255.255", HG_INET_PRIVATE},
        {"11.0.0.0", HG_INET_PUBLIC},
        {"100.63.255.255", HG_INET_PUBLIC},
        {"100.64.0.0", HG_INET_PRIVATE},
        {"100.127.255.255", HG_INET_PRIVATE},
        {"100.128.0.0", HG_INET_PUBLIC},
        {"126.255.255.255", HG_INET_PUBLIC},
        {"127.0.0.1", HG_INET_LOOPBACK},
        {"127.255.255.255", HG_INET_LOOPBACK},
        {"128.0.0.0", HG_INET_PUBLIC},
        {"169.253.255.255", HG_INET_PUBLIC},
        {"169.254.169.254", HG_INET_LINK_LOCAL},
        {"172.15.255.255", HG_INET_PUBLIC},
        {"172.16.0.0", HG_INET_PRIVATE},
        {"172.31.255.255", HG_INET_PRIVATE},
        {"172.32.0.0", HG_INET_PUBLIC},
        {"192.0.0.8", HG_INET_RESERVED},
        {"192.168.1.1", HG_INET_PRIVATE},
        {"192.169.0.0", HG_INET_PUBLIC},
        {"198.19.255.255", HG_INET_PRIVATE},
        {"224.0.0.1", HG_INET_MULTICAST},
        {"239.255.255.255", HG_INET_MULTICAST},
        {"240.0.0.1", HG_INET_RESERVED},
        {"255.255.255.255", HG_INET_RESERVED},
        {"::", HG_INET_UNSPECIFIED},
        {"::1", HG_INET_LOOPBACK},
        {"2606:2800:220:1::1", HG_INET_PUBLIC},
        {"fe80::1", HG_INET_LINK_LOCAL},
        {"febf::1", HG_INET_LINK_LOCAL},
        {"fec0::1", HG_INET_PRIVATE},
        {"fc00::1", HG_INET_PRIVATE},
        {"fdff::1", HG_INET_PRIVATE},
        {"fe00::1", HG_INET_PUBLIC},
        {"ff02::1", HG_INET_MULTICAST},
        /* an IPv4 address inside */
        {"::ffff:127.0.0.1", HG_INET_LOOPBACK},
        {"::ffff:a9fe:a9fe", HG_INET_LINK_LOCAL},
        {"::ffff:93.184.216.34", HG_INET_PUBLIC},
        {"::127.0.0.1", HG_INET_LOOPBACK},
        {"::10.1.2.3", HG_INET_PRIVATE},
        {"64:ff9b::7f00:1", HG_INET_LOOPBACK},
        {"64:ff9b::5db8:d822", HG_INET_PUBLIC},
        {"64:ff9b:1::1", HG_INET_PRIVATE},
        {"2002:7f00:1::", HG_INET_LOOPBACK},
        {"2002:a00:1::1", HG_INET_PRIVATE},
        {"2001:0:1::1", HG_INET_RESERVED},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hg_inet a;
        assert_true(hg_inet_parse(rows[i].text, &a));
        if (hg_inet_kind(&a) != rows[i].kind) {
            fail_msg("%s is %s, not %s", rows[i].text, hg_inet_kind_text(hg_inet_kind(&a)),
                     hg_inet_kind_text(rows[i].kind));
        }
    }
}

static void what_only_looks_like_an_address_is_none(void **state)
{
    static const char *const texts[] = {
        "",      "127.1",  "127.0.0.1.", "0x7f.0.0.1", "2130706433", "127.0.0.01", "1.2.3.256",
        "[::1]", "::1%lo", "::g",        "1.2.3.4 ",   "localhost",  ":::"};
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct hg_inet a;
        if (hg_inet_parse(texts[i], &a)) {
            fail_msg("\"%s\" was read", texts[i]);
        }
    }
}

static void a_network_holds_what_begins_as_it_does(void **state)
{
    static const struct {
        const char *net, *in, *out; /* NULL: none */
    } rows[] = {
        {"127.0.0.0/8", "127.1.2.3", "128.0.0.0"},
        {"127.0.0.0/8", "::ffff:127.1.2.3", "::1"},
        {"10.64.0.0/10", "10.127.255.255", "10.128.0.0"},
        {"10.1.2.3", "10.1.2.3", "10.1.2.4"},
        {"10.1.2.3/32", "10.1.2.3", "10.1.2.2"},
        {"0.0.0.0/0", "255.1.2.3", "::1"},
        {"::1", "::1", "::2"},
        {"::/0", "127.0.0.1", NULL},
        {"fc00::/7", "fdff::1", "fe00::1"},
        {"::ffff:0:0/96", "1.2.3.4", "::1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hg_inet_net net;
        struct hg_inet a;
        assert_true(hg_inet_net_parse(rows[i].net, &net));
        assert_true(hg_inet_parse(rows[i].in, &a));
        assert_true(hg_inet_is_in(&a, &net));
        if (rows[i].out != NULL) {
            assert_true(hg_inet_parse(rows[i].out, &a));
            assert_false(hg_inet_is_in(&a, &net));
        }
    }
}

static void a_network_that_is_none_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "::/129",
        "10.0.0.1/8",
        "fc00::1/7",
        "10.0.0.0/8 ",
        "10.0.0.0/-1",
        "10.0.0.0/8/8",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/8"};
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct hg_inet_net net;
        if (hg_inet_net_parse(texts[i], &net)) {
            fail_msg("\"%s\" was read", texts[i]);
        }
    }
}

static void a_sockets_address_is_read(void **state)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr other = {.sa_family = AF_UNIX};
    struct hg_inet a;
    (void)state;
    assert_true(hg_inet_of((const struct sockaddr *)&four, &a));
    assert_int_equal(hg_inet_kind(&a), HG_INET_LOOPBACK);
    assert_true(hg_inet_of((const struct sockaddr *)&six, &a));
    assert_int_equal(hg_inet_kind(&a), HG_INET_LOOPBACK);
    assert_false(hg_inet_of(&other, &a));
}

static void connections_of_one_client_have_one_name(void **state)
{
    (void)state;
    static const struct {
        const char *peer;
        size_t n;
        uint8_t bytes[HG_INET_CLIENT_BYTES];
    } rows[] = {
        {"192.0.2.1:4711", 4, {192, 0, 2, 1}},
        {"[::ffff:192.0.2.1]:1", 4, {192, 0, 2, 1}},
        {"[2001:db8:1:2:3:4:5:6]:1", 8, {0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2}},
        {"[2001:db8:1:2::]:65535", 8, {0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2}},
        {"192.0.2.1", 4, {192, 0, 2, 1}},
        {"", 0, {0}},
        {"[]:1", 0, {0}},
        {"localhost:1", 0, {0}},
        {"[2001:db8:1:2:3:4:5:6:7:8:9:10:11:12:13:14:15:16:17:18:19:20]:1", 0, {0}},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t bytes[HG_INET_CLIENT_BYTES];
        assert_int_equal(hg_inet_client(rows[i].peer, bytes), rows[i].n);
        assert_memory_equal(bytes, rows[i].bytes, rows[i].n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_is_of_its_kind),
        cmocka_unit_test(what_only_looks_like_an_address_is_none),
        cmocka_unit_test(a_network_holds_what_begins_as_it_does),
        cmocka_unit_test(a_network_that_is_none_is_refused),
        cmocka_unit_test(a_sockets_address_is_read),
        cmocka_unit_test(connections_of_one_client_have_one_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
