/* SPDX-License-Identifier: Apache-2.0 */
/* IP addresses as numbers, networks of them, and what kind of place an address is (the special-purpose
 * registries of RFC 6890, RFC 4291 and RFC 6052). */
#ifndef HG_BASE_INET_H
#define HG_BASE_INET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sockaddr;

enum { HG_INET_CLIENT_BYTES = 8 };

struct hg_inet { /* IPv4 as ::ffff:a.b.c.d */
    uint8_t bytes[16];
};

struct hg_inet_net {
    struct hg_inet address; /* zeros behind the prefix */
    uint8_t bits;           /* 0 to 128 */
};

enum hg_inet_kind {
    HG_INET_PUBLIC,
    HG_INET_PRIVATE, /* of one organisation or provider */
    HG_INET_LOOPBACK,
    HG_INET_LINK_LOCAL,
    HG_INET_MULTICAST,
    HG_INET_UNSPECIFIED,
    HG_INET_RESERVED
};

/* "127.0.0.1", "::1"; neither brackets, zones nor short forms of IPv4. */
bool hg_inet_parse(const char *text, struct hg_inet *out);
/* "10.0.0.0/8", "fc00::/7"; without a `/`, one address. False, too, where a bit is set behind the
 * prefix. */
bool hg_inet_net_parse(const char *text, struct hg_inet_net *out);
/* False: neither IPv4 nor IPv6. */
bool hg_inet_of(const struct sockaddr *address, struct hg_inet *out);
bool hg_inet_is_in(const struct hg_inet *address, const struct hg_inet_net *net);
/* Of an IPv6 address with an IPv4 one inside (mapped, compatible, NAT64, 6to4): what that one is. */
enum hg_inet_kind hg_inet_kind(const struct hg_inet *address);
/* "a loopback address" */
const char *hg_inet_kind_text(enum hg_inet_kind kind);

/* Whom the limits on clients count: what "192.0.2.1:4711" or "[2001:db8::1]:4711" has in common with
 * the other connections of that client. Of an IPv6 address its first 64 bits count, since whoever has
 * one has all of them. Returns how many bytes: 4, 8, or 0 for what is no address, all of these
 * together. */
size_t hg_inet_client(const char *peer, uint8_t out[HG_INET_CLIENT_BYTES]);

#endif
