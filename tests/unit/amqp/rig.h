/* SPDX-License-Identifier: Apache-2.0 */
/* A connection under test whose events become lines of text, and scenarios that run against the scripted broker once and are
 * then replayed: in two parts at every place (past 2 KiB every seventh), byte by byte, with every allocation failing. */
#ifndef HG_TESTS_AMQP_RIG_H
#define HG_TESTS_AMQP_RIG_H

#include "amqp/amqp_channel.h"
#include "base/check.h"
#include "seam/broker.h"

enum { RIG_CHANNELS = 4, RIG_STEPS = 32 };

struct rig {
    struct hg_amqp_conn *conn;
    struct hg_amqp_channel *ch[RIG_CHANNELS]; /* NULL once closed */
    struct hg_writer events; /* a line an event; never fails with the code under test */
    size_t events_n, closes_n;
    enum hg_status closed_with;
    uint64_t now_ms;
    void (*on_event)(struct rig *r,
                     const char *line); /* NULL, or what the user does inside an event */
    void *ctx;
};

extern const struct hg_amqp_conn_ops rig_conn_ops; /* ctx: struct rig */
extern const struct hg_amqp_channel_ops rig_channel_ops;

/* The configuration that broker_open expects. */
extern const struct hg_amqp_conn_config rig_config;

void rig_open(struct rig *r, const struct hg_amqp_conn_config *config);
void rig_close(struct rig *r);
/* What happened since the last call, NUL-terminated, borrowed until the next event. */
const char *rig_events(struct rig *r);
/* Bytes both ways until nobody has more to say. */
void rig_pump(struct rig *r, struct broker *b);
/* rig_open and pump until open, with r->ch[0..channels_n) opened (cookies 100 and up); forgets the events. */
void rig_connect(struct rig *r, struct broker *b, size_t channels_n);
void rig_feed(struct rig *r, struct hg_bytes in);
/* A message with exchange "x" and this key and body. */
struct hg_message *rig_message(const char *key, const char *body);
/* Hex digits to bytes; blanks between them do not count. */
void rig_hex(struct hg_writer *w, const char *hex);

struct rig_step {
    void (*client)(struct rig *r);    /* NULL: nothing */
    void (*broker)(struct broker *b); /* then this, NULL: nothing; then both talk until quiet */
};
/* Ends with a step of two NULLs; starts with the connection started. */
struct rig_scenario {
    const struct rig_step *steps;
    const char *events; /* what must have been seen at the end */
};

void rig_scenario_is_split_anywhere(const struct rig_scenario *scenario);
void rig_scenario_survives_failed_allocations(const struct rig_scenario *scenario);

#endif
