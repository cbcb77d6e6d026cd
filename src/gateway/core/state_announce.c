/* SPDX-License-Identifier: Apache-2.0 */
/* Broadcasts among the gateways of one RabbitMQ: which clients have connected where, and when. The
 * body, numbers big-endian: version (1 byte), boot id (8), length of the instance's name (2) and
 * the name, then for each client: ms since 1970 (8), length of its identifier (2), the identifier;
 * and, where the identifier is only its user's, the same with 0 for the time and the user (empty: the
 * anonymous one) for the identifier, which who does not know it takes for a client that is older than
 * all. Another version is left alone. */
#include "base/clock.h"
#include "core/routing_priv.h"
#include "core/state_priv.h"

enum {
    VERSION = 1,
    EVERY_MS = HG_WHEEL_TICK_MS, /* between two broadcasts; the first goes at once */
    BYTES_MAX = 64 * 1024        /* from here on it does not wait */
};

static void begin(struct hg_writer *out, const struct hg_gateway *g)
{
    struct hg_bytes name = hg_bytes_str(g->config->name);
    hg_writer_u8(out, VERSION);
    hg_writer_u64(out, g->boot_id);
    hg_writer_u16(out, (uint16_t)name.n);
    hg_writer_bytes(out, name);
}

static void add(struct hg_writer *out, uint64_t ms, struct hg_bytes text)
{
    hg_writer_u64(out, ms);
    hg_writer_u16(out, (uint16_t)text.n);
    hg_writer_bytes(out, text);
}

/* At the end of this turn; but not each turn: a broadcast costs RabbitMQ, which hands it to every
 * gateway, and each of these more than the client's connection does. */
static void send_soon(struct hg_state_port *port)
{
    uint64_t gone_ms = hg_clock_ms() - port->announced_ms;
    if (gone_ms >= EVERY_MS || hg_writer_n(&port->announcement) >= BYTES_MAX) {
        hg_net_defer(&port->realm->worker->net, &port->announce);
    } else if (port->announce_later.due_ms == 0) {
        hg_worker_timer(port->realm->worker, &port->announce_later, EVERY_MS - gone_ms);
    }
}

void hg_state_announce(struct hg_realm *realm, struct hg_bytes client_id)
{
    struct hg_state_port *port = hg_realm_home(realm)->state_port;
    struct hg_worker *w = realm->worker;
    if (port == NULL || !hg_state_is_enabled(realm->vhost)) {
        return;
    }
    /* The claim's own time: two gateways must agree on which of two claims is the later one. */
    struct hg_writer user = {0};
    struct hg_claimed claimed = hg_directory_claimed(realm->vhost->directory, client_id, &user);
    if (claimed.at_ms != 0) { /* else it has gone again */
        struct hg_writer *out = &port->announcement;
        if (hg_writer_n(out) == 0) {
            begin(out, w->gateway);
        }
        add(out, claimed.at_ms, client_id);
        if (claimed.is_owned) {
            add(out, 0, hg_writer_view(&user));
        }
        out->failed = out->failed || user.failed;
        hg_count(&w->metrics.state.state_announced, 1);
        send_soon(port);
    }
    hg_writer_close(&user);
}

void hg_state_send_announcement(struct hg_state_port *port)
{
    struct hg_publisher *p = &port->realm->routing->publisher;
    struct hg_message_parts parts = {.exchange = HG_BYTES(HG_STATE_GATEWAYS)};
    struct hg_message *message = NULL;
    if (!port->announcement.failed) {
        parts.body = hg_writer_view(&port->announcement);
        message = hg_message_new(&parts);
    }
    enum hg_status status = HG_NO_MEMORY;
    if (message != NULL && !hg_publisher_admits(p, hg_message_cost_bytes(message))) {
        hg_message_unref(message);
        status = HG_BUSY;
    } else if (message != NULL) {
        const struct hg_publish_order order = {.message_own = &message};
        status = hg_publisher_publish(p, &order);
    }
    if (status != HG_OK) {
        HG_LOG_LIMITED(port->realm->worker->log, HG_LOG_WARN, "state.announcement_lost",
                       HG_BYTES(HG_STATE_GATEWAYS), HG_F_STR("reason", hg_status_text(status)));
    }
    hg_writer_close(&port->announcement);
    port->announcement = (struct hg_writer){0};
    port->announced_ms = hg_clock_ms();
    hg_net_undefer(&port->announce);
    hg_timer_stop(&port->announce_later);
}

/* ---- Reading one ---- */

static bool take_text(struct hg_bytes *in, struct hg_bytes *out)
{
    uint64_t n;
    return hg_bytes_take_number(in, 2, &n) && hg_bytes_take(in, (size_t)n, out);
}

static bool take_entry(struct hg_bytes *in, uint64_t *ms, struct hg_bytes *text)
{
    return hg_bytes_take_number(in, 8, ms) && take_text(in, text);
}

/* A client, and whose it is. */
static bool take_client(struct hg_bytes *in, uint64_t *wall_ms, struct hg_claim_who *who)
{
    uint64_t zero;
    *who = (struct hg_claim_who){.is_owned = false};
    if (!take_entry(in, wall_ms, &who->client_id)) {
        return false;
    }
    struct hg_bytes rest = *in;
    if (take_entry(&rest, &zero, &who->user) && zero == 0) {
        who->is_owned = true;
        *in = rest;
    }
    return true;
}

/* Which of two processes gives way to the other where their clients came in the same millisecond:
 * by name, and by boot id where somebody has given two the same name. */
static bool is_ours_first(const struct hg_gateway *g, struct hg_bytes name, uint64_t boot_id)
{
    struct hg_bytes ours = hg_bytes_str(g->config->name);
    size_t n = ours.n < name.n ? ours.n : name.n;
    int order = n == 0 ? 0 : memcmp(ours.p, name.p, n);
    if (order == 0 && ours.n != name.n) {
        order = ours.n < name.n ? -1 : 1;
    }
    return order != 0 ? order < 0 : g->boot_id < boot_id;
}

void hg_state_on_broadcast(struct hg_state *state, struct hg_bytes body)
{
    const struct hg_gateway *g = state->gateway;
    uint64_t version, boot_id, wall_ms;
    struct hg_bytes name;
    struct hg_claim_who who;
    if (!hg_bytes_take_number(&body, 1, &version) || version != VERSION ||
        !hg_bytes_take_number(&body, 8, &boot_id) || boot_id == g->boot_id ||
        !take_text(&body, &name)) {
        return;
    }
    bool gives_way = is_ours_first(g, name, boot_id);
    while (take_client(&body, &wall_ms, &who)) {
        if (hg_directory_meet(state->vhost->directory, &who, wall_ms, gives_way)) {
            hg_state_announce(state->realm, who.client_id);
        }
    }
}
