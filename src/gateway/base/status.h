/* SPDX-License-Identifier: Apache-2.0 */
/* What can go wrong, in one table with each protocol's wire code, and the error that says which
 * rule and where. */
#ifndef HG_BASE_STATUS_H
#define HG_BASE_STATUS_H

#include <stddef.h>
#include <stdint.h>

/* Columns: name; MQTT 5 reason code in CONNACK, PUBACK/PUBREC, SUBACK, DISCONNECT (0: never sent
 * there, the session chooses another way to tell); HTTP status; text. Codes: MQTT 5.0 sections
 * 3.2.2.2, 3.4.2.1, 3.9.3, 3.14.2.1. */
/* clang-format off */
#define HG_STATUS_MAP(X)                                                                            \
    X(OK,              0x00, 0x00, 0x00, 0x00, 200, "done")                                         \
    X(HELD,            0,    0,    0,    0,    503, "waiting for room towards RabbitMQ")            \
    X(NO_MEMORY,       0x80, 0x80, 0x80, 0x83, 503, "out of memory")                                \
    X(SERVER_ERROR,    0x80, 0x80, 0x80, 0x83, 500, "unexpected error in the gateway")              \
    X(MALFORMED,       0x81, 0,    0,    0x81, 400, "malformed packet")                             \
    X(PROTOCOL_ERROR,  0x82, 0,    0,    0x82, 400, "protocol error")                               \
    X(BAD_VERSION,     0x84, 0,    0,    0,    505, "protocol version not supported")               \
    X(BAD_CLIENT_ID,   0x85, 0,    0,    0,    400, "client identifier not valid")                  \
    X(BAD_LOGIN,       0x86, 0,    0,    0,    401, "bad user name or password")                    \
    X(EXPIRED,         0x87, 0x87, 0x87, 0x87, 401, "the token has expired")                        \
    X(BAD_AUTH_METHOD, 0x8c, 0,    0,    0,    401, "authentication method not supported")          \
    X(NOT_ALLOWED,     0x87, 0x87, 0x87, 0x87, 403, "not permitted")                                \
    X(BROKER_AWAY,     0x88, 0x83, 0x83, 0x89, 503, "RabbitMQ cannot be reached")                   \
    X(BUSY,            0x89, 0x97, 0x97, 0x89, 503, "server busy")                                  \
    X(SHUTTING_DOWN,   0x88, 0,    0,    0x8b, 503, "server is shutting down")                      \
    X(KEEP_ALIVE,      0,    0,    0,    0x8d, 408, "nothing heard within the keep-alive time")     \
    X(TAKEN_OVER,      0,    0,    0,    0x8e, 409, "another connection uses the same client id")   \
    X(BAD_FILTER,      0,    0,    0x8f, 0x8f, 400, "filter not valid")                             \
    X(BAD_ADDRESS,     0x90, 0x90, 0,    0x90, 400, "address not valid")                            \
    X(BAD_ALIAS,       0,    0,    0,    0x94, 400, "topic alias not valid")                        \
    X(BAD_PAYLOAD,     0x99, 0x99, 0,    0x99, 400, "the body is not what its format says")         \
    X(NO_RULE,         0x90, 0x90, 0x8f, 0x90, 404, "no rule takes this address")                   \
    X(NO_VALUE,        0,    0,    0,    0,    400, "the request lacks a value that its rule needs") \
    X(KEY_TOO_LONG,    0x90, 0x90, 0x8f, 0x90, 414, "the routing key would exceed 255 bytes")       \
    X(NO_WILDCARD,     0,    0,    0x83, 0x83, 400, "the exchange cannot express this wildcard")    \
    X(TOO_LARGE,       0x95, 0x97, 0x97, 0x95, 413, "larger than the limit")                        \
    X(TOO_MANY,        0x97, 0x97, 0x97, 0x97, 429, "a limit of the gateway is reached")            \
    X(TOO_FAST,        0x9f, 0x97, 0x97, 0x96, 429, "faster than the limit allows")                 \
    X(TOO_MANY_INFLIGHT, 0,  0,    0,    0x93, 429, "more unacknowledged than was agreed")          \
    X(UNROUTABLE,      0,    0x10, 0,    0,    404, "no queue takes this message")                  \
    X(REJECTED,        0x97, 0x97, 0,    0x97, 429, "RabbitMQ rejected the message")                \
    X(NO_EXCHANGE,     0x83, 0x83, 0x83, 0x83, 404, "no such exchange")                             \
    X(NO_QUEUE,        0x83, 0x83, 0x83, 0x83, 404, "no such queue")                                \
    X(UNFIT_QUEUE,     0,    0,    0,    0,    409, "messages cannot be taken out of this queue")   \
    X(REFUSED,         0x83, 0x83, 0x83, 0x83, 400, "RabbitMQ refused the request")                 \
    X(BAD_PROPERTY,    0x83, 0x83, 0x83, 0x83, 400, "a property has a value RabbitMQ cannot take")  \
    X(TIMED_OUT,       0x83, 0x83, 0x83, 0x83, 503, "no answer in time, outcome unknown")           \
    X(NO_REPLY,        0,    0,    0,    0,    504, "no reply came in time")                        \
    X(STALE,           0,    0,    0,    0,    410, "its link to RabbitMQ was lost since")          \
    X(NO_RETAIN,       0x9a, 0,    0,    0x9a, 400, "retained messages are switched off")           \
    X(TOO_SLOW,        0,    0,    0,    0x97, 429, "the client reads too slowly")                  \
    X(CLOSED,          0,    0,    0,    0x00, 400, "the client closed the connection")             \
    X(PEER_LOST,       0,    0,    0,    0,    400, "the connection broke")
/* clang-format on */

enum hg_status {
#define X(name, connack, puback, suback, disconnect, http, text) HG_##name,
    HG_STATUS_MAP(X)
#undef X
        HG_STATUS_N
};

/* One row of the table. */
struct hg_status_info {
    const char *name; /* "NOT_ALLOWED" */
    uint8_t connack, puback, suback, disconnect;
    uint16_t http;
    const char *text;
};
const struct hg_status_info *hg_status_info(enum hg_status s);
static inline const char *hg_status_text(enum hg_status s)
{
    return hg_status_info(s)->text;
}

struct hg_error {
    enum hg_status status; /* decides the wire code in every protocol */
    const char *rule;      /* static text for people: "SUBSCRIBE flags must be 0010" */
    size_t at;             /* offset in the input, bytes */
};

/* Fills *err and returns -1, for `return hg_error_set(err, …)` in decoders. */
static inline int hg_error_set(struct hg_error *err, enum hg_status status, const char *rule,
                               size_t at)
{
    *err = (struct hg_error){status, rule, at};
    return -1;
}

#endif
