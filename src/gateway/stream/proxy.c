/* SPDX-License-Identifier: Apache-2.0 */
/* The PROXY header: a line of text, or a signature and a block of addresses. */
#include "stream/proxy.h"

#include <arpa/inet.h>
#include <stdio.h>

enum {
    V2_FIXED_N = 16, /* signature, version and command, family, length */
    V2_IPV4_N = 12,
    V2_IPV6_N = 36,
    V2_LOCAL = 0,
    V2_PROXY = 1,
    V2_STREAM_IPV4 = 0x11,
    V2_STREAM_IPV6 = 0x21,
};

static const uint8_t signature[] = {'\r', '\n', '\r', '\n', 0,   '\r',
                                    '\n', 'Q',  'U',  'I',  'T', '\n'};
enum { SIGNATURE_N = sizeof(signature) };

static int refuse(const struct hg_proxy_decoder *d, const char *rule, struct hg_error *err)
{
    return hg_error_set(err, HG_MALFORMED, rule, d->n);
}

static void set_peer(struct hg_proxy_decoder *d, int family, const void *address, unsigned port)
{
    char host[INET6_ADDRSTRLEN];
    if (inet_ntop(family, address, host, sizeof(host)) != NULL) {
        snprintf(d->peer, sizeof(d->peer), family == AF_INET6 ? "[%s]:%u" : "%s:%u", host, port);
    }
}

/* ---- Version 1: "PROXY TCP4 192.0.2.7 198.51.100.1 1234 80\r\n" ---- */

/* Takes the text up to the next blank into out, NUL-terminated; false if there is none or it is too
 * long. */
static bool take_word(struct hg_bytes *line, char *out, size_t out_n)
{
    size_t n = hg_bytes_index(*line, ' ');
    if (n == 0 || n >= out_n) {
        return false;
    }
    memcpy(out, line->p, n);
    out[n] = '\0';
    *line = hg_bytes_skip(*line, n < line->n ? n + 1 : n);
    return true;
}

static bool read_port(const char *text, unsigned *port_out)
{
    uint64_t port;
    bool is_padded = text[0] == '0' && text[1] != '\0';
    if (is_padded || !hg_bytes_to_u64(hg_bytes_str(text), UINT16_MAX, &port)) {
        return false;
    }
    *port_out = (unsigned)port;
    return true;
}

/* The line without its CR LF. False if it is none. */
static bool read_line(struct hg_proxy_decoder *d, struct hg_bytes line)
{
    char word[4][INET6_ADDRSTRLEN]; /* source, destination, and their ports */
    char family_name[8];
    uint8_t address[2][sizeof(struct in6_addr)];
    unsigned port[2];
    line = hg_bytes_skip(line, sizeof("PROXY ") - 1);
    bool ends_in_blank = line.n > 0 && line.p[line.n - 1] == ' ';
    bool has_nul = hg_bytes_index(line, 0) < line.n;
    if (has_nul || !take_word(&line, family_name, sizeof(family_name))) {
        return false;
    }
    if (strcmp(family_name, "UNKNOWN") == 0) {
        return true; /* what follows says nothing (section 2.1) */
    }
    int family = strcmp(family_name, "TCP4") == 0 ? AF_INET : AF_INET6;
    if (family == AF_INET6 && strcmp(family_name, "TCP6") != 0) {
        return false;
    }
    for (size_t i = 0; i < 4; i++) {
        if (!take_word(&line, word[i], sizeof(word[i]))) {
            return false;
        }
    }
    if (line.n > 0 || ends_in_blank || inet_pton(family, word[0], address[0]) != 1 ||
        inet_pton(family, word[1], address[1]) != 1 || !read_port(word[2], &port[0]) ||
        !read_port(word[3], &port[1])) {
        return false;
    }
    set_peer(d, family, address[0], port[0]);
    return true;
}

/* A byte of a line has been added. */
static int step_v1(struct hg_proxy_decoder *d, struct hg_error *err)
{
    static const uint8_t start[] = {'P', 'R', 'O', 'X', 'Y', ' '};
    if (d->n <= sizeof(start) && d->buf[d->n - 1] != start[d->n - 1]) {
        return refuse(d, "the connection does not begin with a PROXY header", err);
    }
    bool is_after_cr = d->n >= 2 && d->buf[d->n - 2] == '\r';
    bool is_lf = d->buf[d->n - 1] == '\n';
    if (is_after_cr || is_lf) {
        d->is_done = is_after_cr && is_lf && read_line(d, hg_bytes(d->buf, d->n - 2u));
        return d->is_done ? 0 : refuse(d, "the PROXY line is malformed", err);
    }
    return d->n < HG_PROXY_V1_MAX ? 0 : refuse(d, "the PROXY line is too long", err);
}

/* ---- Version 2 ---- */

static unsigned u16_at(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

/* Bytes of addresses that are needed of a header whose first V2_FIXED_N are there; < 0: none. */
static int v2_addresses_n(const struct hg_proxy_decoder *d)
{
    bool is_local = (d->buf[12] & 15) == V2_LOCAL;
    return is_local                       ? 0
           : d->buf[13] == V2_STREAM_IPV4 ? V2_IPV4_N
           : d->buf[13] == V2_STREAM_IPV6 ? V2_IPV6_N
                                          : 0;
}

static int check_v2(const struct hg_proxy_decoder *d, struct hg_error *err)
{
    unsigned command = d->buf[12] & 15;
    if (d->buf[12] >> 4 != 2 || (command != V2_LOCAL && command != V2_PROXY)) {
        return refuse(d, "the PROXY header has an unknown version or command", err);
    }
    if (d->buf[13] >> 4 > 3 || (d->buf[13] & 15) > 2) {
        return refuse(d, "the PROXY header has an unknown address family or transport", err);
    }
    return (int)u16_at(d->buf + 14) >= v2_addresses_n(d)
               ? 0
               : refuse(d, "the PROXY header is shorter than its addresses", err);
}

/* A byte of a version 2 header has been added. */
static int step_v2(struct hg_proxy_decoder *d, struct hg_error *err)
{
    if (d->n <= SIGNATURE_N && d->buf[d->n - 1] != signature[d->n - 1]) {
        return refuse(d, "the connection does not begin with a PROXY header", err);
    }
    if (d->n == V2_FIXED_N && check_v2(d, err) < 0) {
        return -1;
    }
    if (d->n < V2_FIXED_N || d->n < V2_FIXED_N + v2_addresses_n(d)) {
        return 0;
    }
    const uint8_t *at = d->buf + V2_FIXED_N;
    int addresses_n = v2_addresses_n(d);
    if (addresses_n == V2_IPV4_N) {
        set_peer(d, AF_INET, at, u16_at(at + 8));
    } else if (addresses_n == V2_IPV6_N) {
        set_peer(d, AF_INET6, at, u16_at(at + 32));
    }
    d->skip_n = u16_at(d->buf + 14) - (unsigned)addresses_n;
    d->is_done = d->skip_n == 0;
    return 0;
}

ssize_t hg_proxy_decode(struct hg_proxy_decoder *d, struct hg_bytes in, struct hg_error *err)
{
    size_t used = 0;
    while (!d->is_done && used < in.n) {
        if (d->skip_n > 0) {
            size_t n = in.n - used < d->skip_n ? in.n - used : d->skip_n;
            used += n;
            d->skip_n -= (uint32_t)n;
            d->is_done = d->skip_n == 0;
            continue;
        }
        d->buf[d->n++] = in.p[used++];
        if ((d->buf[0] == signature[0] ? step_v2 : step_v1)(d, err) < 0) {
            return -1;
        }
    }
    return (ssize_t)used;
}
