/* SPDX-License-Identifier: Apache-2.0 */
/* SIGHUP: the configuration's file is read again, and what it says now takes effect in all workers,
 * or, if anything about it is wrong, nothing does. Of the supervisor, but for what says otherwise. */
#ifndef HG_CORE_RELOAD_H
#define HG_CORE_RELOAD_H

#include "core/config.h"

#include <uv.h>

struct hg_gateway;
struct hg_mail;
struct hg_reload;
struct hg_worker;

/* NULL when there is no memory. */
struct hg_reload *hg_reload_new(struct hg_gateway *gateway, uv_loop_t *loop);
/* The gateway runs: what was asked for before begins. */
void hg_reload_start(struct hg_reload *r);
/* It is about to end: nothing more comes of what is under way. */
void hg_reload_stop(struct hg_reload *r);
void hg_reload_close(struct hg_reload *r); /* before the loop's end */
void hg_reload_free(struct hg_reload *r);  /* after the workers; NULL is fine */

/* Reads the file and begins to swap it in; later, if the gateway does not run yet or a reload is under
 * way. */
void hg_reload_begin(struct hg_reload *r);
/* HG_MAIL_RELOADED came. */
void hg_reload_on_report(struct hg_reload *r);

/* In force. */
const struct hg_config *hg_reload_current(const struct hg_reload *r);

enum hg_reload_step {
    HG_RELOAD_OFF,
    HG_RELOAD_IDLE,
    HG_RELOAD_PREPARE,
    HG_RELOAD_SWAP,
    HG_RELOAD_RELEASE,
    HG_RELOAD_FAILED
};

struct hg_reload_stats {
    uint64_t loaded_wall_ms; /* when what is in force was read */
    uint64_t done_n, refused_n;
    uint64_t refused_wall_ms; /* the last time that one was refused; 0: none was */
    char problem[512];        /* why, if it was the last one; "" */
};
/* Any thread. */
void hg_reload_stats(const struct hg_gateway *gateway, struct hg_reload_stats *out);

/* ---- A worker's part, on its thread ---- */

/* HG_MAIL_RELOAD came. */
void hg_reload_on_order(struct hg_worker *w);
/* What its subscriptions need by the next configuration is bound, as far as it can be. */
void hg_reload_is_prepared(struct hg_worker *w);

/* Of every realm, in core/resubscribe.c: has RabbitMQ bind what the subscriptions need by the rules of
 * `next`, then calls hg_reload_is_prepared, now or later. False when there is no memory. */
bool hg_resubscribe_prepare(struct hg_worker *w, const struct hg_config *next);
/* Prepared, and the worker has another configuration than `before`: its rules hold from here on, and every
 * subscription has what it needs by them, or has been ended. */
void hg_resubscribe(struct hg_worker *w, const struct hg_config *before);
/* What only the old rules needed is let go of. */
void hg_resubscribe_release(struct hg_worker *w);

#endif
