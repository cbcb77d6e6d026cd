/* SPDX-License-Identifier: Apache-2.0 */
/* Frames and packets as the load generators read and write them. */
#include "wire.h"

#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

const struct wire *wire_find(const char *name)
{
    static const struct wire wires[] = {
        {"mqtt", PROTO_MQTT, false, false},     {"mqtt-ws", PROTO_MQTT, true, false},
        {"mqtt-tls", PROTO_MQTT, false, true},  {"mqtt-wss", PROTO_MQTT, true, true},
        {"stomp", PROTO_STOMP, false, false},   {"stomp-ws", PROTO_STOMP, true, false},
        {"stomp-wss", PROTO_STOMP, true, true}, {"http", PROTO_HTTP, false, false},
        {"https", PROTO_HTTP, false, true},     {"sse", PROTO_SSE, false, false},
    };
    for (size_t i = 0; i < sizeof(wires) / sizeof(wires[0]); i++) {
        if (strcmp(wires[i].name, name) == 0) {
            return &wires[i];
        }
    }
    bench_die(
        "there is no %s: mqtt, mqtt-ws, mqtt-tls, mqtt-wss, stomp, stomp-ws, stomp-wss, http, "
        "https, sse",
        name);
}

bool ws_read(uint8_t *at, size_t n, struct ws_frame *out)
{
    if (n < 2) {
        return false;
    }
    size_t length_n = (at[1] & 0x7f) == 126 ? 2 : (at[1] & 0x7f) == 127 ? 8 : 0;
    bool is_masked = (at[1] & 0x80) != 0;
    out->opcode = at[0] & 0x0f;
    out->head_n = 2 + length_n + (is_masked ? 4 : 0);
    if (n < out->head_n) {
        return false;
    }
    out->n = length_n == 0 ? at[1] & 0x7f : 0;
    for (size_t i = 0; i < length_n; i++) {
        out->n = out->n << 8 | at[2 + i];
    }
    if (n - out->head_n < out->n) {
        return false;
    }
    const uint8_t *key = at + out->head_n - 4;
    if (is_masked && memcmp(key, "\0\0\0\0", 4) != 0) {
        for (size_t i = 0; i < out->n; i++) {
            at[out->head_n + i] ^= key[i % 4];
        }
    }
    return true;
}

size_t ws_head(uint8_t out[WS_HEAD_MAX], uint8_t opcode, size_t n, bool is_masked)
{
    size_t length_n = n < 126 ? 0 : n < 65536 ? 2 : 8;
    size_t head_n = 2 + length_n + (is_masked ? 4 : 0);
    memset(out, 0, head_n);
    out[0] = 0x80 | opcode;
    out[1] = (uint8_t)((is_masked ? 0x80 : 0) | (length_n == 0 ? n : length_n == 2 ? 126 : 127));
    for (size_t i = 0; i < length_n; i++) {
        out[2 + i] = (uint8_t)(n >> 8 * (length_n - 1 - i));
    }
    return head_n;
}

size_t mqtt_head(uint8_t out[MQTT_HEAD_MAX], uint8_t first, size_t remaining_n)
{
    size_t n = 1;
    out[0] = first;
    do {
        out[n] = (uint8_t)(remaining_n & 0x7f);
        remaining_n >>= 7;
        out[n++] |= remaining_n > 0 ? 0x80 : 0;
    } while (remaining_n > 0);
    return n;
}

size_t mqtt_packet(const uint8_t *at, size_t n, size_t *head_n)
{
    size_t remaining_n = 0;
    for (size_t i = 1; i < MQTT_HEAD_MAX; i++) {
        if (i >= n) {
            return 0;
        }
        remaining_n |= (size_t)(at[i] & 0x7f) << (7 * (i - 1));
        if ((at[i] & 0x80) == 0) {
            *head_n = i + 1;
            return n < i + 1 + remaining_n ? 0 : i + 1 + remaining_n;
        }
    }
    bench_die("malformed remaining length");
}

size_t head_bytes(const uint8_t *at, size_t n)
{
    const uint8_t *lf;
    for (const uint8_t *line = at; (lf = memchr(line, '\n', (size_t)(at + n - line))) != NULL;) {
        if (lf == line || (lf == line + 1 && *line == '\r')) {
            return (size_t)(lf + 1 - at);
        }
        line = lf + 1;
    }
    return 0;
}

size_t head_number(const uint8_t *at, size_t n, const char *name, size_t otherwise)
{
    size_t name_n = strlen(name);
    const uint8_t *end = at + n;
    for (const uint8_t *line = at; (line = memchr(line, '\n', (size_t)(end - line))) != NULL;) {
        line++;
        if ((size_t)(end - line) > name_n && strncasecmp((const char *)line, name, name_n) == 0) {
            return (size_t)strtoull((const char *)line + name_n, NULL, 10);
        }
    }
    return otherwise;
}

size_t stomp_frame(const uint8_t *at, size_t n, size_t *head_n)
{
    size_t skipped_n = 0;
    while (skipped_n < n && (at[skipped_n] == '\n' || at[skipped_n] == '\r')) {
        skipped_n++;
    }
    size_t own_n = head_bytes(at + skipped_n, n - skipped_n);
    if (own_n == 0) {
        return 0;
    }
    *head_n = skipped_n + own_n;
    size_t body_n = head_number(at + skipped_n, own_n, "content-length:", SIZE_MAX);
    if (body_n != SIZE_MAX) {
        return n - *head_n <= body_n ? 0 : *head_n + body_n + 1;
    }
    const uint8_t *end = memchr(at + *head_n, '\0', n - *head_n);
    return end == NULL ? 0 : (size_t)(end + 1 - at);
}

/* Six bits a character, from '0' on. */
static uint8_t *put_digits(uint8_t *out, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = (uint8_t)('0' + (v >> 6 * i & 63));
    }
    return out + n;
}

static uint64_t take_digits(const uint8_t **at, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        v |= (uint64_t)((*at)[i] - '0') << 6 * i;
    }
    *at += n;
    return v;
}

void stamp_write(uint8_t out[STAMP_BYTES], const struct stamp *s)
{
    out = put_digits(out, s->sent_ns, 11);
    out = put_digits(out, s->sequence, 6);
    (void)put_digits(out, s->run, 3);
}

bool stamp_read(const uint8_t *at, size_t n, struct stamp *out)
{
    if (n < STAMP_BYTES) {
        return false;
    }
    out->sent_ns = take_digits(&at, 11);
    out->sequence = (uint32_t)take_digits(&at, 6);
    out->run = (uint16_t)take_digits(&at, 3);
    return true;
}
