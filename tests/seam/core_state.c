/* SPDX-License-Identifier: Apache-2.0 */
/* The state log that sessions see: what they write goes into a real index, in the order of the calls,
 * when the test says that it has come back. */
#include "seam/core_state.h"

#include "base/clock.h"
#include "core/state.h"
#include "core/state_message.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdlib.h>

enum { LISTS_MAX = 4 };

struct core_state {
    struct hg_state_index *index;
    struct hg_list asked; /* struct asked, oldest first */
    uint64_t offset;
};

struct asked { /* of the log: a write, or a barrier */
    struct hg_list link;
    struct hg_list waiter;      /* hg_state_wait.link; empty: nobody waits (any more) */
    struct hg_message *message; /* NULL: a barrier */
};

static const char *const act_names[] = {"claim", "update", "handover", "end", "forget"};

static struct core_fake *core_of(const struct hg_vhost *vhost)
{
    return HG_CONTAINER_OF(vhost, struct core_fake, vhost);
}

void core_state_open(struct core_fake *f)
{
    const struct hg_state_limits limits = {
        .log_bytes = 1 << 20, .retained_n = 10, .topic_bytes_max = 1024, .topic_levels_max = 64};
    seam_spare(true);
    f->state = calloc(1, sizeof(*f->state));
    assert_non_null(f->state);
    f->gateway.boot_id = CORE_BOOT_ID;
    hg_list_init(&f->state->asked);
    f->state->index = hg_state_index_new(f->rules, "state", &limits, CORE_BOOT_ID);
    assert_non_null(f->state->index);
    seam_spare(false);
}

static void free_asked(struct asked *a)
{
    hg_list_remove(&a->link);
    hg_message_unref(a->message);
    free(a);
}

void core_state_close(struct core_fake *f)
{
    if (f->state == NULL) {
        return;
    }
    HG_LIST_FOREACH_SAFE (it, &f->state->asked) {
        struct asked *a = HG_LIST_ENTRY(it, struct asked, link);
        assert_true(hg_list_is_empty(&a->waiter)); /* it would be told after its end */
        free_asked(a);
    }
    hg_state_index_free(f->state->index);
    free(f->state);
    f->state = NULL;
}

/* The log has come to this message. */
static void apply(struct core_fake *f, const struct hg_message *m)
{
    struct hg_state_change change;
    seam_spare(true);
    hg_state_index_apply(f->state->index, m, ++f->state->offset, hg_clock_wall_ms(), &change);
    seam_spare(false);
    assert_false(change.has_failed);
    if (change.has_lost) {
        core_evict(f, change.lost_epoch);
    }
}

static void ask(struct core_fake *f, struct hg_state_wait *wait, struct hg_message *message)
{
    struct asked *a = calloc(1, sizeof(*a));
    assert_non_null(a);
    hg_list_init(&a->waiter);
    if (wait != NULL) {
        hg_list_add_last(&a->waiter, &wait->link);
    }
    a->message = message;
    hg_list_add_last(&f->state->asked, &a->link);
}

bool core_state_is_asked(const struct core_fake *f)
{
    return f->state != NULL && !hg_list_is_empty(&f->state->asked);
}

void core_state_answer(struct core_fake *f, enum hg_status status)
{
    assert_true(core_state_is_asked(f));
    struct asked *a = HG_LIST_ENTRY(f->state->asked.next, struct asked, link);
    struct hg_state_wait *wait = NULL;
    if (!hg_list_is_empty(&a->waiter)) {
        wait = HG_LIST_ENTRY(a->waiter.next, struct hg_state_wait, link);
        hg_list_remove(&wait->link);
    }
    if (a->message != NULL && status == HG_OK) {
        apply(f, a->message);
    }
    free_asked(a);
    if (wait != NULL) {
        wait->done(wait, status);
    }
}

/* ---- core/state.h ---- */

bool hg_state_is_enabled(const struct hg_vhost *vhost)
{
    return core_of(vhost)->state != NULL;
}

bool hg_state_is_ready(const struct hg_vhost *vhost)
{
    const struct core_fake *f = core_of(vhost);
    return f->state != NULL && !f->is_state_away;
}

struct hg_state_index *hg_state_index_of(const struct hg_vhost *vhost)
{
    const struct core_fake *f = core_of(vhost);
    return f->state == NULL ? NULL : f->state->index;
}

void hg_state_barrier(struct hg_realm *realm, struct hg_state_wait *wait)
{
    core_log(core_of(realm->vhost), "barrier");
    ask(core_of(realm->vhost), wait, NULL);
}

void hg_state_stats(const struct hg_vhost *vhost, struct hg_state_stats *out)
{
    *out = (struct hg_state_stats){.is_enabled = hg_state_is_enabled(vhost),
                                   .is_ready = hg_state_is_ready(vhost)};
    if (out->is_enabled) {
        hg_state_index_stats(hg_state_index_of(vhost), &out->index);
    }
}

static void log_record(struct core_fake *f, const struct hg_session_record *r)
{
    hg_writer_printf(&f->calls, " %.*s", HG_BYTES_FMT(r->client_id));
    if (r->expiry_ms > 0) {
        hg_writer_printf(&f->calls, " expiry=%llu", (unsigned long long)r->expiry_ms / 1000);
    }
    hg_writer_str(&f->calls, r->inherits ? " inherits" : "");
    hg_writer_str(&f->calls, r->disconnected_ms > 0 ? " gone" : "");
    for (size_t i = 0; i < r->filters_n; i++) {
        hg_writer_printf(&f->calls, " filter=%.*s:%u", HG_BYTES_FMT(r->filters[i].filter),
                         r->filters[i].qos);
    }
    for (size_t i = 0; i < r->rx_n; i++) {
        hg_writer_printf(&f->calls, " rx=%u", r->rx[i]);
    }
    for (size_t i = 0; i < r->tx_n; i++) {
        hg_writer_printf(&f->calls, " tx=%u%s", r->tx[i].packet_id,
                         r->tx[i].is_released ? "r" : "");
    }
    if (r->has_will) {
        hg_writer_printf(&f->calls, " will=%.*s", HG_BYTES_FMT(r->will.topic));
    }
    if (r->will_at_ms > 0) {
        hg_writer_printf(&f->calls, " due=%llu",
                         (unsigned long long)(r->will_at_ms - hg_clock_wall_ms()) / 1000);
    }
}

enum hg_status hg_state_write(struct hg_realm *realm, enum hg_session_act act,
                              const struct hg_session_record *record, struct hg_state_wait *wait)
{
    struct core_fake *f = core_of(realm->vhost);
    if (f->is_state_away) {
        return HG_BROKER_AWAY;
    }
    struct hg_message *m = hg_state_index_session(f->state->index, act, record);
    if (m == NULL) {
        return HG_NO_MEMORY;
    }
    core_log(f, act_names[act]);
    log_record(f, record);
    ask(f, wait, m);
    return HG_OK;
}

void hg_state_cancel(struct hg_state_wait *wait)
{
    if (wait->link.next != NULL) {
        hg_list_remove(&wait->link);
    }
}

void hg_state_announce(struct hg_realm *realm, struct hg_bytes client_id)
{
    core_log(core_of(realm->vhost), "announce ");
    hg_writer_bytes(&core_of(realm->vhost)->calls, client_id);
}

/* ---- Other processes ---- */

static struct hg_bytes next_word(struct hg_bytes *rest)
{
    struct hg_bytes word = hg_bytes(rest->p, hg_bytes_index(*rest, ' '));
    *rest = hg_bytes_skip(*rest, word.n < rest->n ? word.n + 1 : word.n);
    return word;
}

static uint64_t number(struct hg_bytes text)
{
    uint64_t n = 0;
    assert_true(hg_bytes_to_u64(text, UINT64_MAX, &n));
    return n;
}

struct lists {
    struct hg_session_filter filters[LISTS_MAX];
    uint16_t rx[LISTS_MAX];
    struct hg_session_tx tx[LISTS_MAX];
};

static void read_filter(struct hg_session_filter *f, struct hg_bytes value)
{
    *f = (struct hg_session_filter){.filter = hg_bytes(value.p, value.n - 2),
                                    .qos = (uint8_t)(value.p[value.n - 1] - '0')};
}

static void read_word(struct hg_session_record *r, struct lists *lists, struct hg_bytes word)
{
    struct hg_bytes name = hg_bytes(word.p, hg_bytes_index(word, '='));
    struct hg_bytes value = hg_bytes_skip(word, name.n < word.n ? name.n + 1 : name.n);
    assert_true(r->filters_n < LISTS_MAX && r->rx_n < LISTS_MAX && r->tx_n < LISTS_MAX);
    if (hg_bytes_eq(name, HG_BYTES("boot"))) {
        r->boot_id = number(value);
    } else if (hg_bytes_eq(name, HG_BYTES("epoch"))) {
        r->epoch = number(value);
    } else if (hg_bytes_eq(name, HG_BYTES("gone"))) {
        r->disconnected_ms = hg_clock_wall_ms() - 1000 * (value.n == 0 ? 1 : number(value));
    } else if (hg_bytes_eq(name, HG_BYTES("inherits"))) {
        r->inherits = true;
    } else if (hg_bytes_eq(name, HG_BYTES("expiry"))) {
        r->expiry_ms = 1000 * number(value);
    } else if (hg_bytes_eq(name, HG_BYTES("filter"))) {
        read_filter(&lists->filters[r->filters_n++], value);
    } else if (hg_bytes_eq(name, HG_BYTES("rx"))) {
        lists->rx[r->rx_n++] = (uint16_t)number(value);
    } else if (hg_bytes_eq(name, HG_BYTES("released"))) {
        lists->tx[r->tx_n++] =
            (struct hg_session_tx){.packet_id = (uint16_t)number(value), .is_released = true};
    } else if (hg_bytes_eq(name, HG_BYTES("will"))) {
        r->has_will = true;
        r->will_at_ms = hg_clock_wall_ms() + 1000;
        r->will = (struct hg_session_will){.topic = value, .payload = HG_BYTES("x")};
    } else {
        fail_msg("no word %.*s", HG_BYTES_FMT(word));
    }
}

void core_state_write(struct core_fake *f, const char *text)
{
    struct hg_bytes rest = hg_bytes_str(text);
    struct hg_bytes act_name = next_word(&rest);
    struct lists lists;
    struct hg_session_record r = {.client_id = next_word(&rest),
                                  .boot_id = 99,
                                  .epoch = 1,
                                  .filters = lists.filters,
                                  .rx = lists.rx,
                                  .tx = lists.tx};
    while (rest.n > 0) {
        read_word(&r, &lists, next_word(&rest));
    }
    size_t act = 0;
    while (act < HG_SESSION_FORGET && !hg_bytes_eq(act_name, hg_bytes_str(act_names[act]))) {
        act++;
    }
    seam_spare(true);
    const struct hg_state_message what = {.act = (enum hg_session_act)act,
                                          .client_id = r.client_id,
                                          .owner = {r.boot_id, r.epoch},
                                          .by = r.boot_id};
    struct hg_message *m = hg_state_message_session(HG_BYTES("state"), &what, &r);
    assert_non_null(m);
    seam_spare(false);
    apply(f, m);
    hg_message_unref(m);
}
