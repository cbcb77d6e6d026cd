/* SPDX-License-Identifier: Apache-2.0 */
/* What the load generators speak: names of protocols, WebSocket frames, MQTT packets, STOMP frames, the body of a message that
 * is timed. Only as much of each as a well-behaved peer needs. */
#ifndef HG_BENCH_WIRE_H
#define HG_BENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum proto { PROTO_MQTT, PROTO_STOMP, PROTO_HTTP, PROTO_SSE };
struct wire {
    const char *name; /* "mqtt-ws", "stomp-wss", "https" … */
    enum proto proto;
    bool is_ws, is_tls;
};
/* Ends the program, with the names there are, if there is none of that name. */
const struct wire *wire_find(const char *name);

/* ---- WebSocket (RFC 6455 section 5) */
enum { WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10, WS_HEAD_MAX = 14 };
struct ws_frame {
    uint8_t opcode;
    size_t head_n, n;
};
/* The frame at the beginning of at[0 … n), unmasked in place; false if it is not complete. */
bool ws_read(uint8_t *at, size_t n, struct ws_frame *out);
/* The head of an unfragmented frame, its length returned. Masked: by zero, which changes no byte. */
size_t ws_head(uint8_t out[WS_HEAD_MAX], uint8_t opcode, size_t n, bool is_masked);

/* ---- MQTT 3.1.1 */
enum { MQTT_HEAD_MAX = 5 };
/* Fixed header, its length returned. */
size_t mqtt_head(uint8_t out[MQTT_HEAD_MAX], uint8_t first, size_t remaining_n);
/* Bytes of the first packet in at[0 … n), with the length of its fixed header; 0 if it is not complete. */
size_t mqtt_packet(const uint8_t *at, size_t n, size_t *head_n);

/* ---- STOMP 1.2, and the heads of HTTP/1.1, which are built alike */
/* Bytes up to and with the empty line; 0 if it is not there. */
size_t head_bytes(const uint8_t *at, size_t n);
/* The number behind "\nNAME" (which ends with its colon, and is in lower case), or `otherwise`. */
size_t head_number(const uint8_t *at, size_t n, const char *name, size_t otherwise);
/* Bytes of the first frame in at[0 … n), with the length of its head; 0 if it is not complete. Line ends before it count to it. */
size_t stomp_frame(const uint8_t *at, size_t n, size_t *head_n);

/* ---- The first bytes of a body that is timed: readable, so that it may be text. */
enum { STAMP_BYTES = 11 + 6 + 3 };
struct stamp {
    uint64_t sent_ns;
    uint32_t sequence;
    uint16_t run;
};
void stamp_write(uint8_t out[STAMP_BYTES], const struct stamp *s);
/* false: n is too short for one. */
bool stamp_read(const uint8_t *at, size_t n, struct stamp *out);

#endif
