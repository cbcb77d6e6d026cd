/* SPDX-License-Identifier: Apache-2.0 */
#include "base/inet.h"

#include "base/bytes.h"

#include <arpa/inet.h>
#include <netinet/in.h>

enum { V4_AT = 12, V4_PREFIX_BITS = 96, BITS_MAX = 128, TEXT_MAX = INET6_ADDRSTRLEN + 4 };

static const uint8_t mapped[V4_AT] = {[10] = 0xff, [11] = 0xff};

static bool is_v4(const struct hg_inet *a)
{
    return memcmp(a->bytes, mapped, sizeof(mapped)) == 0;
}

static void set_v4(struct hg_inet *out, const void *four)
{
    memcpy(out->bytes, mapped, sizeof(mapped));
    memcpy(out->bytes + V4_AT, four, sizeof(out->bytes) - V4_AT);
}

bool hg_inet_parse(const char *text, struct hg_inet *out)
{
    struct in_addr four;
    if (inet_pton(AF_INET, text, &four) == 1) {
        set_v4(out, &four);
        return true;
    }
    return inet_pton(AF_INET6, text, out->bytes) == 1;
}

/* `want` is asked for as many bits as it says; the last byte of a prefix may count in part. */
static bool starts(const uint8_t *bytes, const uint8_t *want, unsigned bits)
{
    unsigned whole = bits / 8;
    unsigned rest = bits % 8;
    return memcmp(bytes, want, whole) == 0 &&
           (rest == 0 || (bytes[whole] ^ want[whole]) >> (8 - rest) == 0);
}

bool hg_inet_net_parse(const char *text, struct hg_inet_net *out)
{
    char address[TEXT_MAX];
    struct hg_bytes all = hg_bytes_str(text);
    size_t slash = hg_bytes_index(all, '/');
    if (slash >= sizeof(address)) {
        return false;
    }
    memcpy(address, text, slash);
    address[slash] = '\0';
    if (!hg_inet_parse(address, &out->address)) {
        return false;
    }
    uint64_t bits = BITS_MAX;
    if (slash < all.n) {
        unsigned before = memchr(address, ':', slash) == NULL ? V4_PREFIX_BITS : 0;
        if (!hg_bytes_to_u64(hg_bytes_skip(all, slash + 1), BITS_MAX - before, &bits)) {
            return false;
        }
        bits += before;
    }
    out->bits = (uint8_t)bits;
    for (unsigned i = out->bits; i < BITS_MAX; i++) {
        if ((out->address.bytes[i / 8] & (0x80u >> i % 8)) != 0) {
            return false;
        }
    }
    return true;
}

bool hg_inet_of(const struct sockaddr *address, struct hg_inet *out)
{
    if (address->sa_family == AF_INET) {
        set_v4(out, &((const struct sockaddr_in *)(const void *)address)->sin_addr);
        return true;
    }
    if (address->sa_family == AF_INET6) {
        memcpy(out->bytes, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr,
               sizeof(out->bytes));
        return true;
    }
    return false;
}

bool hg_inet_is_in(const struct hg_inet *address, const struct hg_inet_net *net)
{
    return starts(address->bytes, net->address.bytes, net->bits);
}

struct range {
    uint8_t prefix[V4_AT];
    uint8_t bits;
    enum hg_inet_kind kind;
    uint8_t v4_at; /* where an IPv4 address stands that decides instead; 0: none does */
};

/* clang-format off */
static const struct range v4_ranges[] = {
    {{0},         8,  HG_INET_UNSPECIFIED, 0}, /* "this network" */
    {{10},        8,  HG_INET_PRIVATE,     0},
    {{100, 64},   10, HG_INET_PRIVATE,     0}, /* behind a provider's NAT */
    {{127},       8,  HG_INET_LOOPBACK,    0},
    {{169, 254},  16, HG_INET_LINK_LOCAL,  0}, /* clouds' metadata, too */
    {{172, 16},   12, HG_INET_PRIVATE,     0},
    {{192, 0, 0}, 24, HG_INET_RESERVED,    0}, /* protocol assignments */
    {{192, 168},  16, HG_INET_PRIVATE,     0},
    {{198, 18},   15, HG_INET_PRIVATE,     0}, /* benchmarks between networks */
    {{224},       4,  HG_INET_MULTICAST,   0},
    {{240},       4,  HG_INET_RESERVED,    0}, /* broadcast, too */
};
static const struct range v6_ranges[] = { /* the more special first */
    {{[10] = 0xff, [11] = 0xff},            96, HG_INET_RESERVED,   V4_AT}, /* mapped */
    {{0x00, 0x64, 0xff, 0x9b},              96, HG_INET_RESERVED,   V4_AT}, /* NAT64 */
    {{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01},  48, HG_INET_PRIVATE,    0},     /* a local NAT64 */
    {{0},                                   96, HG_INET_RESERVED,   V4_AT}, /* compatible; ::, ::1 apart */
    {{0x20, 0x01, 0x00, 0x00},              32, HG_INET_RESERVED,   0},     /* Teredo */
    {{0x20, 0x02},                          16, HG_INET_RESERVED,   2},     /* 6to4 */
    {{0xfc},                                7,  HG_INET_PRIVATE,    0},
    {{0xfe, 0x80},                          10, HG_INET_LINK_LOCAL, 0},
    {{0xfe, 0xc0},                          10, HG_INET_PRIVATE,    0},     /* site-local, of old */
    {{0xff},                                8,  HG_INET_MULTICAST,  0},
};
/* clang-format on */

static const struct range *range_of(const uint8_t *bytes, const struct range *ranges, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (starts(bytes, ranges[i].prefix, ranges[i].bits)) {
            return &ranges[i];
        }
    }
    return NULL;
}

static enum hg_inet_kind v4_kind(const uint8_t *four)
{
    const struct range *r = range_of(four, v4_ranges, sizeof(v4_ranges) / sizeof(v4_ranges[0]));
    return r == NULL ? HG_INET_PUBLIC : r->kind;
}

enum hg_inet_kind hg_inet_kind(const struct hg_inet *address)
{
    static const uint8_t loopback[sizeof(address->bytes)] = {[15] = 1};
    if (memcmp(address->bytes, loopback, sizeof(loopback)) == 0) {
        return HG_INET_LOOPBACK;
    }
    if (is_v4(address)) {
        return v4_kind(address->bytes + V4_AT);
    }
    const struct range *r =
        range_of(address->bytes, v6_ranges, sizeof(v6_ranges) / sizeof(v6_ranges[0]));
    if (r == NULL) {
        return HG_INET_PUBLIC;
    }
    return r->v4_at == 0 ? r->kind : v4_kind(address->bytes + r->v4_at);
}

const char *hg_inet_kind_text(enum hg_inet_kind kind)
{
    static const char *const texts[] = {
        [HG_INET_PUBLIC] = "a public address",
        [HG_INET_PRIVATE] = "a private address",
        [HG_INET_LOOPBACK] = "a loopback address",
        [HG_INET_LINK_LOCAL] = "a link-local address",
        [HG_INET_MULTICAST] = "a multicast address",
        [HG_INET_UNSPECIFIED] = "an unspecified address",
        [HG_INET_RESERVED] = "a reserved address",
    };
    return texts[kind];
}

size_t hg_inet_client(const char *peer, uint8_t out[HG_INET_CLIENT_BYTES])
{
    char text[TEXT_MAX];
    struct hg_inet address;
    const char *colon = strrchr(peer, ':');
    size_t n = colon == NULL ? strlen(peer) : (size_t)(colon - peer);
    bool is_bracketed = n >= 2 && peer[0] == '[' && peer[n - 1] == ']';
    n -= is_bracketed ? 2 : 0;
    if (n >= sizeof(text)) {
        return 0;
    }
    memcpy(text, peer + is_bracketed, n);
    text[n] = '\0';
    if (!hg_inet_parse(text, &address)) {
        return 0;
    }
    n = is_v4(&address) ? sizeof(address.bytes) - V4_AT : HG_INET_CLIENT_BYTES;
    memcpy(out, address.bytes + (is_v4(&address) ? V4_AT : 0), n);
    return n;
}
