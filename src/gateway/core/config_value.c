/* SPDX-License-Identifier: Apache-2.0 */
/* Durations, sizes, environment variables and addresses of the configuration. */
#include "core/config_value.h"

#include "base/buf.h"
#include "base/inet.h"
#include "base/percent.h"

#include <arpa/inet.h>
#include <stdlib.h>

struct unit {
    const char *name;
    uint64_t factor;
};
static const struct unit duration_units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
static const struct unit size_units[] = {
    {"B", 1}, {"KiB", 1024}, {"MiB", 1024 * 1024}, {"GiB", 1024 * 1024 * 1024}};
enum { UNITS_N = 4 };

static bool number_with_unit(const char *text, const struct unit *units, uint64_t *out)
{
    size_t digits_n = strspn(text, "0123456789");
    uint64_t v;
    if (!hg_bytes_to_u64(hg_bytes(text, digits_n), UINT64_MAX, &v)) {
        return false;
    }
    for (size_t i = 0; i < UNITS_N; i++) {
        if (strcmp(text + digits_n, units[i].name) == 0) {
            return !__builtin_mul_overflow(v, units[i].factor, out);
        }
    }
    return false;
}

static const char *text_with_unit(struct hg_config_arena *a, const struct unit *units, uint64_t v)
{
    size_t i = v == 0 ? 1 : UNITS_N - 1; /* "0s", and "0KiB" */
    while (v % units[i].factor != 0) {
        i--;
    }
    return hg_config_arena_printf(a, "%llu%s", (unsigned long long)(v / units[i].factor),
                                  units[i].name);
}

bool hg_config_value_duration(const char *text, uint64_t *ms_out)
{
    return number_with_unit(text, duration_units, ms_out);
}

bool hg_config_value_size(const char *text, uint64_t *bytes_out)
{
    return number_with_unit(text, size_units, bytes_out);
}

const char *hg_config_value_duration_text(struct hg_config_arena *a, uint64_t ms)
{
    return text_with_unit(a, duration_units, ms);
}

const char *hg_config_value_size_text(struct hg_config_arena *a, uint64_t bytes)
{
    return text_with_unit(a, size_units, bytes);
}

/* rest begins behind "${". Appends the variable's value and moves on behind the brace. */
static const char *expand_one(struct hg_config_arena *a, struct hg_bytes *rest,
                              struct hg_writer *out)
{
    static const char name_bytes[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
    size_t n = hg_bytes_index(*rest, '}');
    char *name = hg_config_arena_copy(a, (const char *)rest->p, n);
    if (name == NULL) {
        return "out of memory";
    }
    if (n == rest->n) {
        return "`${` without a closing `}` (`$${` stands for a plain `${`)";
    }
    if (n == 0 || strspn(name, name_bytes) != n || (name[0] >= '0' && name[0] <= '9')) {
        return hg_config_arena_printf(a, "`${%s}` does not name an environment variable", name);
    }
    const char *value = getenv(name);
    if (value == NULL) {
        return hg_config_arena_printf(a, "the environment variable %s is not set", name);
    }
    hg_writer_str(out, value);
    *rest = hg_bytes_skip(*rest, n + 1);
    return NULL;
}

const char *hg_config_value_expand(struct hg_config_arena *a, const char *text, size_t n,
                                   const char **text_out, size_t *n_out)
{
    struct hg_bytes rest = hg_bytes(text, n);
    struct hg_writer out = {0};
    const char *problem = NULL;
    while (rest.n > 0 && problem == NULL) {
        if (hg_bytes_starts(rest, HG_BYTES("$${"))) {
            hg_writer_str(&out, "${");
            rest = hg_bytes_skip(rest, 3);
        } else if (hg_bytes_starts(rest, HG_BYTES("${"))) {
            rest = hg_bytes_skip(rest, 2);
            problem = expand_one(a, &rest, &out);
        } else {
            hg_writer_u8(&out, rest.p[0]);
            rest = hg_bytes_skip(rest, 1);
        }
    }
    struct hg_bytes whole = hg_writer_view(&out);
    const char *expanded =
        problem == NULL ? hg_config_arena_copy(a, (const char *)whole.p, whole.n) : NULL;
    if (expanded != NULL && !out.failed) {
        *text_out = expanded;
        *n_out = whole.n;
    } else if (problem == NULL) {
        problem = "out of memory";
    }
    hg_writer_close(&out);
    return problem;
}

/* NULL: not well-formed (or no memory, which the arena remembers). */
static const char *percent_decoded(struct hg_config_arena *a, struct hg_bytes in)
{
    char *out = hg_config_arena_copy(a, (const char *)in.p, in.n);
    if (out == NULL) {
        return NULL;
    }
    size_t n = 0;
    for (size_t i = 0; i < in.n; i++) {
        if (in.p[i] != '%') {
            out[n++] = (char)in.p[i];
            continue;
        }
        uint8_t c;
        if (!hg_percent_read(hg_bytes_skip(in, i), &c) || c == 0) {
            return NULL;
        }
        out[n++] = (char)c;
        i += HG_PERCENT_N - 1;
    }
    out[n] = '\0';
    return out;
}

/* Splits at the first c: *head_out is what precedes it; `text` becomes what follows. False, and
 * nothing moved, where c is not. */
static bool cut(struct hg_bytes *text, uint8_t c, struct hg_bytes *head_out)
{
    size_t i = hg_bytes_index(*text, c);
    if (i == text->n) {
        return false;
    }
    *head_out = hg_bytes(text->p, i);
    *text = hg_bytes_skip(*text, i + 1);
    return true;
}

static bool read_port(struct hg_bytes text, uint16_t *out)
{
    uint64_t port;
    if (!hg_bytes_to_u64(text, UINT16_MAX, &port)) {
        return false;
    }
    *out = (uint16_t)port;
    return true;
}

/* "host", "host:port", "[v6]", "[v6]:port"; *port_out keeps its value where there is none. */
static bool read_host_port(struct hg_config_arena *a, struct hg_bytes text, const char **host_out,
                           uint16_t *port_out)
{
    struct hg_bytes host = text;
    struct hg_bytes port = {0};
    bool has_port;
    if (hg_bytes_starts(text, HG_BYTES("["))) {
        port = hg_bytes_skip(text, 1);
        if (!cut(&port, ']', &host)) {
            return false;
        }
        has_port = hg_bytes_starts(port, HG_BYTES(":"));
        if (port.n > 0 && !has_port) {
            return false;
        }
        port = hg_bytes_skip(port, has_port ? 1 : 0);
    } else {
        port = text;
        has_port = cut(&port, ':', &host);
    }
    *host_out = percent_decoded(a, host);
    return *host_out != NULL && **host_out != '\0' && (!has_port || read_port(port, port_out));
}

static const char *read_userinfo(struct hg_config_arena *a, struct hg_bytes text,
                                 struct hg_endpoint *out)
{
    struct hg_bytes user = text;
    struct hg_bytes password = text;
    if (cut(&password, ':', &user)) {
        out->password = percent_decoded(a, password);
    }
    out->user = percent_decoded(a, user);
    return out->user == NULL || out->password == NULL
               ? "user or password is not percent-encoded as it should be"
               : NULL;
}

static const char *read_query(struct hg_bytes query, struct hg_endpoint *out)
{
    if (query.n == 0 || hg_bytes_eq(query, HG_BYTES("auth=plain"))) {
        return NULL;
    }
    out->is_external = hg_bytes_eq(query, HG_BYTES("auth=external"));
    return out->is_external ? NULL : "after `?`, only auth=plain and auth=external are known";
}

const char *hg_config_value_endpoint(struct hg_config_arena *a, const char *url,
                                     struct hg_endpoint *out)
{
    struct hg_bytes rest = hg_bytes_str(url);
    *out = (struct hg_endpoint){.port = 5672, .user = "guest", .password = "guest", .vhost = "/"};
    out->is_tls = hg_bytes_starts(rest, HG_BYTES("amqps://"));
    if (out->is_tls) {
        out->port = 5671;
    } else if (!hg_bytes_starts(rest, HG_BYTES("amqp://"))) {
        return "must be an address such as \"amqp://user:password@host:5672/%2f\", or amqps://…";
    }
    rest = hg_bytes_skip(rest, strlen(out->is_tls ? "amqps://" : "amqp://"));
    struct hg_bytes before = rest;
    struct hg_bytes query = {0};
    if (cut(&rest, '?', &before)) {
        query = rest;
    }
    struct hg_bytes path = before;
    struct hg_bytes authority = before;
    bool has_path = cut(&path, '/', &authority);
    struct hg_bytes userinfo;
    const char *problem = NULL;
    if (cut(&authority, '@', &userinfo)) {
        problem = read_userinfo(a, userinfo, out);
    }
    if (problem == NULL && !read_host_port(a, authority, &out->host, &out->port)) {
        problem = "host or port cannot be read; an IPv6 address stands in [ ], and other than "
                  "letters and digits are percent-encoded in user and password";
    }
    if (problem == NULL && out->port == 0) {
        problem = "port 0 cannot be connected to";
    }
    if (problem == NULL && has_path) {
        out->vhost = percent_decoded(a, path);
        if (path.n == 0 || out->vhost == NULL || hg_bytes_index(path, '/') < path.n) {
            problem = "the virtual host after the last `/` cannot be read; the one named \"/\" is "
                      "written %2f";
        }
    }
    return problem != NULL ? problem : read_query(query, out);
}

const char *hg_config_value_site(struct hg_config_arena *a, const char *url, const char **host_out,
                                 uint16_t *port_out, bool *is_tls_out)
{
    struct hg_bytes rest = hg_bytes_str(url);
    bool is_tls = hg_bytes_starts(rest, HG_BYTES("mqtts://"));
    *is_tls_out = is_tls;
    *port_out = is_tls ? 8883 : 1883;
    if (!is_tls && !hg_bytes_starts(rest, HG_BYTES("mqtt://"))) {
        return "must be an address such as \"mqtt://host:1883\" or \"mqtts://host:8883\"";
    }
    rest = hg_bytes_skip(rest, strlen(is_tls ? "mqtts://" : "mqtt://"));
    if (hg_bytes_index(rest, '@') < rest.n) {
        return "must not hold a user: say username and password";
    }
    if (hg_bytes_index(rest, '/') < rest.n || hg_bytes_index(rest, '?') < rest.n) {
        return "ends with the host or its port";
    }
    if (!read_host_port(a, rest, host_out, port_out)) {
        return "has a host or port that cannot be read; an IPv6 address stands in [ ]";
    }
    return *port_out == 0 ? "has port 0, which cannot be connected to" : NULL;
}

/* Forms of IPv4 that only some programs read so (127.1, 0x7f000001) would go round a check. */
static bool is_plain_host(const char *host, bool is_v6)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    struct hg_inet address;
    if (is_v6) {
        return strchr(host, ':') != NULL && hg_inet_parse(host, &address);
    }
    if (host[strspn(host, letters)] != '\0' || host[strspn(host, ".")] == '\0') {
        return false;
    }
    const char *last = host + strlen(host);
    last -= last[-1] == '.';
    size_t last_n = 0;
    while (last > host && last[-1] != '.') {
        last--;
        last_n++;
    }
    bool is_number = strspn(last, "0123456789") == last_n ||
                     (last[0] == '0' && (last[1] == 'x' || last[1] == 'X'));
    return !is_number || hg_inet_parse(host, &address);
}

const char *hg_config_value_url(struct hg_config_arena *a, const char *url,
                                struct hg_config_url *out)
{
    struct hg_bytes rest = hg_bytes_str(url);
    for (size_t i = 0; i < rest.n; i++) {
        if (rest.p[i] <= ' ' || rest.p[i] > '~' || rest.p[i] == '#' || rest.p[i] == '\\') {
            return "must be printable ASCII without blanks, `\\` and `#`; the rest is percent-encoded";
        }
    }
    out->is_tls = hg_bytes_starts(rest, HG_BYTES("https://"));
    out->port = out->is_tls ? 443 : 80;
    if (!out->is_tls && !hg_bytes_starts(rest, HG_BYTES("http://"))) {
        return "must be an address such as \"https://host/path\"";
    }
    rest = hg_bytes_skip(rest, strlen(out->is_tls ? "https://" : "http://"));
    struct hg_bytes authority =
        hg_bytes(rest.p, strcspn((const char *)rest.p, "/?")); /* it ends in NUL */
    if (hg_bytes_index(authority, '@') < authority.n) {
        return "must not hold a user: say it in headers";
    }
    bool is_v6 = hg_bytes_starts(authority, HG_BYTES("["));
    if (hg_bytes_index(authority, '%') < authority.n ||
        !read_host_port(a, authority, &out->host, &out->port) || !is_plain_host(out->host, is_v6)) {
        return "has a host or port that cannot be read; an IPv4 address has four decimal numbers, an "
               "IPv6 address stands in [ ]";
    }
    size_t origin_n = (size_t)(authority.p + authority.n - (const uint8_t *)url);
    out->origin = hg_config_arena_copy(a, url, origin_n);
    return out->port == 0 ? "has port 0, which cannot be connected to" : NULL;
}

const char *hg_config_value_bind(struct hg_config_arena *a, const char *text, const char **host_out,
                                 uint16_t *port_out)
{
    static const char help[] =
        "must be an IP address and a port, such as \"127.0.0.1:1883\" or \"[::]:1883\"";
    size_t text_n = strlen(text);
    const char *colon = strrchr(text, ':');
    uint8_t address[sizeof(struct in6_addr)];
    if (colon == NULL || !read_host_port(a, hg_bytes(text, text_n), host_out, port_out)) {
        return help;
    }
    bool is_v6 = text[0] == '[';
    bool has_port = is_v6 ? colon > strchr(text, ']') : true;
    return has_port && inet_pton(is_v6 ? AF_INET6 : AF_INET, *host_out, address) == 1 ? NULL : help;
}
