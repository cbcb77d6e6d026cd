/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/link.h"

#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/secret.h"
#include "stream/tls.h"
#include "upstream/topology.h"
#include "upstream/upstream_metrics.h"

#include <stdio.h>

enum { BACKOFF_FIRST_MS = 100, BACKOFF_MAX_MS = 5000, BACKOFF_DOUBLINGS = 6 };

/* Half of the delay is fixed, half is random, so that many gateways do not return to a restarted
 * RabbitMQ all at once. */
static uint64_t backoff_ms(const struct hg_link *link)
{
    unsigned doublings =
        link->failures_n < BACKOFF_DOUBLINGS ? link->failures_n : BACKOFF_DOUBLINGS;
    uint64_t delay = (uint64_t)BACKOFF_FIRST_MS << doublings;
    if (delay > BACKOFF_MAX_MS) {
        delay = BACKOFF_MAX_MS;
    }
    return delay / 2 + hg_random_u64() % (delay / 2 + 1);
}

static void attempt_later(struct hg_link *link)
{
    if (link->is_stopping || link->stream != NULL || link->conn != NULL) {
        return;
    }
    hg_wheel_set(link->net->wheel, &link->timer, hg_clock_ms() + backoff_ms(link));
    link->failures_n++;
    link->endpoint = (link->endpoint + 1) % link->config.endpoints_n;
}

static void log_down(struct hg_link *link, const struct hg_amqp_close *why)
{
    const struct hg_endpoint *e = &link->config.endpoints[link->endpoint];
    bool is_ours = link->is_stopping || why->status == HG_CLOSED;
    enum hg_log_level level = is_ours || link->config.is_quiet ? HG_LOG_DEBUG : HG_LOG_WARN;
    const char *event = is_ours       ? "rabbitmq.closed"
                        : link->is_up ? "rabbitmq.lost"
                                      : "rabbitmq.unreachable";
    HG_LOG_LIMITED(link->net->log, level, event, hg_bytes_str(link->name),
                   HG_F_STR("link", link->name), HG_F_STR("vhost", e->vhost),
                   HG_F_STR("host", e->host), HG_F_UINT("port", e->port),
                   HG_F_STR("status", hg_status_text(why->status)), HG_F_UINT("code", why->code),
                   HG_F_BYTES("reason", why->text));
}

/* ---- The secret, where it is renewed ---- */

/* Of the present endpoint: NULL where it logs in without a password of ours. */
static struct hg_secret *secret_of(const struct hg_link *link)
{
    bool is_external = link->config.endpoints[link->endpoint].is_external;
    return is_external ? NULL : link->config.secret;
}

/* For hg_forget; NULL when there is no memory. */
static char *take_secret(struct hg_link *link)
{
    hg_secret_look(link->config.secret, hg_clock_ms(), false, link->net->log);
    return hg_secret_copy(link->config.secret, &link->secret_version);
}

static void forget_secret(char *secret)
{
    if (secret != NULL) {
        hg_forget(secret, strlen(secret));
    }
    hg_free(secret);
}

static void give_secret(struct hg_link *link)
{
    uint64_t before = link->secret_version;
    char *secret = take_secret(link);
    enum hg_status status = secret == NULL
                                ? HG_NO_MEMORY
                                : hg_amqp_conn_update_secret(link->conn, hg_bytes_str(secret));
    forget_secret(secret);
    if (status != HG_OK && status != HG_BAD_PROPERTY) {
        link->secret_version = before; /* at the next look */
    } else if (status == HG_BAD_PROPERTY) {
        HG_LOG(link->net->log, HG_LOG_ERROR, "rabbitmq.secret_refused",
               HG_F_STR("link", link->name), HG_F_STR("reason", "is longer than an AMQP frame"));
    }
}

static void fire_secret(struct hg_timer *timer)
{
    struct hg_link *link = HG_CONTAINER_OF(timer, struct hg_link, secret_timer);
    uint64_t now = hg_clock_ms();
    hg_secret_look(link->config.secret, now, false, link->net->log);
    if (link->conn != NULL && hg_amqp_conn_is_open(link->conn) && secret_of(link) != NULL &&
        hg_secret_version(link->config.secret) != link->secret_version) {
        give_secret(link);
    }
    hg_wheel_set(link->net->wheel, &link->secret_timer, now + HG_SECRET_LOOK_MS);
}

static void on_amqp_secret(void *ctx)
{
    struct hg_link *link = ctx;
    if (link->config.metrics != NULL) {
        hg_count(&link->config.metrics->secrets_taken, 1);
    }
    HG_LOG(link->net->log, HG_LOG_INFO, "rabbitmq.secret_taken", HG_F_STR("link", link->name),
           HG_F_UINT("version", link->secret_version));
}

/* The connection has ended over it; the next one logs in with what the file says then. */
static void on_secret_refused(struct hg_link *link, const struct hg_amqp_close *why)
{
    if (link->config.metrics != NULL) {
        hg_count(&link->config.metrics->secrets_refused, 1);
    }
    HG_LOG(link->net->log, HG_LOG_ERROR, "rabbitmq.secret_refused", HG_F_STR("link", link->name),
           HG_F_UINT("version", link->secret_version), HG_F_UINT("code", why->code),
           HG_F_BYTES("reason", why->text));
}

/* ---- Events of the AMQP connection ---- */

static bool is_login_refused(const struct hg_link *link, const struct hg_amqp_close *why)
{
    enum { ACCESS_REFUSED = 403, NOT_ALLOWED = 530 };
    return !link->is_up &&
           (why->status == HG_BAD_LOGIN || why->code == ACCESS_REFUSED || why->code == NOT_ALLOWED);
}

static void become_up(struct hg_link *link)
{
    link->is_up = link->was_up = true;
    link->ops->on_up(link->ctx);
}

static void on_restored(void *ctx, unsigned refused_n)
{
    struct hg_link *link = ctx;
    link->restoring = NULL;
    if (refused_n > 0) {
        HG_LOG(link->net->log, HG_LOG_ERROR, "topology.incomplete", HG_F_STR("link", link->name),
               HG_F_UINT("refused", refused_n));
    }
    become_up(link);
}

static void on_amqp_open(void *ctx)
{
    struct hg_link *link = ctx;
    link->failures_n = 0;
    if (link->config.metrics != NULL) {
        hg_count(&link->config.metrics->upstream_connects, 1);
    }
    const struct hg_endpoint *e = &link->config.endpoints[link->endpoint];
    HG_LOG(link->net->log, link->config.is_quiet ? HG_LOG_DEBUG : HG_LOG_INFO, "rabbitmq.connected",
           HG_F_STR("link", link->name), HG_F_STR("vhost", e->vhost), HG_F_STR("host", e->host),
           HG_F_UINT("port", e->port),
           HG_F_BYTES("server", hg_amqp_conn_server_version(link->conn)));
    if (link->config.topology == NULL || !link->was_up) {
        become_up(link);
        return;
    }
    link->restoring =
        hg_topology_start(link->config.topology, link->conn, link->net->log, on_restored, link);
    if (link->restoring == NULL) {
        hg_link_reset(link, "out of memory while declaring the topology");
    }
}

static void on_amqp_close(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_link *link = ctx;
    if (why->code != 0 && hg_amqp_conn_awaits_secret(link->conn)) {
        on_secret_refused(link, why);
    }
    log_down(link, why);
    if (link->config.on_refused != NULL && is_login_refused(link, why)) {
        link->config.on_refused(link->config.refused_ctx, why);
    }
    if (link->is_up && link->config.metrics != NULL) {
        hg_count(&link->config.metrics->upstream_disconnects, 1);
    }
    link->is_up = false;
    link->is_closed = true;
    hg_topology_lost(link->restoring);
    link->restoring = NULL;
    link->is_polite = why->code != 0 || why->status == HG_CLOSED;
    hg_net_defer(link->net, &link->reaper);
    link->ops->on_down(link->ctx, why);
}

static void on_amqp_blocked(void *ctx, bool is_blocked, struct hg_bytes reason)
{
    struct hg_link *link = ctx;
    HG_LOG(link->net->log, HG_LOG_WARN, is_blocked ? "rabbitmq.blocked" : "rabbitmq.unblocked",
           HG_F_STR("link", link->name), HG_F_BYTES("reason", reason));
    if (is_blocked && link->config.metrics != NULL) {
        hg_count(&link->config.metrics->upstream_blocked, 1);
    }
    if (link->ops->on_blocked != NULL) {
        link->ops->on_blocked(link->ctx, is_blocked);
    }
}

static void on_amqp_output(void *ctx)
{
    struct hg_link *link = ctx;
    hg_net_defer(link->net, &link->flush);
}

static const struct hg_amqp_conn_ops amqp_ops = {
    .on_open = on_amqp_open,
    .on_close = on_amqp_close,
    .on_blocked = on_amqp_blocked,
    .on_secret = on_amqp_secret,
    .on_output = on_amqp_output,
};

/* ---- End of the loop turn ---- */

static void run_flush(struct hg_defer *defer)
{
    struct hg_link *link = HG_CONTAINER_OF(defer, struct hg_link, flush);
    if (link->conn == NULL || link->stream == NULL) {
        return;
    }
    if (link->wants_room) {
        link->stream->ops->await_drained(link->stream);
    }
    struct hg_buf *out = hg_amqp_conn_take_output(link->conn);
    if (out == NULL) {
        return;
    }
    struct hg_part part = {out, hg_buf_bytes(out)};
    enum hg_status status = link->stream->ops->write(link->stream, HG_FRAME_BINARY, &part, 1);
    hg_buf_unref(out);
    if (status == HG_NO_MEMORY) {
        /* A hole in the byte stream cannot be mended: start over, what is unconfirmed goes out
         * again. */
        hg_link_reset(link, "out of memory while writing");
    }
}

static void run_reaper(struct hg_defer *defer)
{
    struct hg_link *link = HG_CONTAINER_OF(defer, struct hg_link, reaper);
    run_flush(&link->flush); /* close-ok, if that was the last word */
    hg_net_undefer(&link->flush);
    hg_amqp_conn_free(link->conn);
    link->conn = NULL;
    link->is_closed = false;
    hg_timer_stop(&link->timer);
    if (link->stream == NULL) {
        attempt_later(link);
    } else if (link->is_polite) {
        link->stream->ops->finish(link->stream, HG_CLOSED);
    } else {
        link->stream->ops->close(link->stream, HG_PEER_LOST);
    }
}

/* ---- Events of the stream ---- */

static void tick(struct hg_link *link)
{
    uint64_t now = hg_clock_ms();
    uint64_t next = hg_amqp_conn_tick(link->conn, now);
    if (!link->is_closed && next != UINT64_MAX) {
        hg_wheel_set(link->net->wheel, &link->timer, next > now ? next : now + 1);
    }
}

static void on_stream_open(void *ctx)
{
    struct hg_link *link = ctx;
    link->was_open = true;
    const struct hg_endpoint *e = &link->config.endpoints[link->endpoint];
    char *secret = secret_of(link) == NULL ? NULL : take_secret(link);
    const struct hg_amqp_conn_config config = {
        .vhost = e->vhost,
        .user = e->user,
        .password = secret != NULL ? secret : e->password,
        .is_external = e->is_external,
        .name = link->name,
        .heartbeat_s = (uint16_t)((link->config.heartbeat_ms + 999) / 1000),
        .frame_max = 131072,
        .channel_max = 2047,
        .max_body_bytes = (size_t)link->config.max_body_bytes,
    };
    bool has_secret = secret != NULL || secret_of(link) == NULL;
    link->conn = has_secret ? hg_amqp_conn_new(&config, &amqp_ops, link) : NULL;
    forget_secret(secret);
    if (link->conn == NULL) {
        link->stream->ops->close(link->stream, HG_NO_MEMORY);
        return;
    }
    hg_amqp_conn_start(link->conn, hg_clock_ms());
    link->stream->ops->read_start(link->stream);
    tick(link);
}

static void on_stream_read(void *ctx, struct hg_bytes in)
{
    struct hg_link *link = ctx;
    if (link->conn != NULL && !link->is_closed) {
        bool was_open = hg_amqp_conn_is_open(link->conn);
        hg_amqp_conn_feed(link->conn, in, hg_clock_ms());
        if (!was_open && hg_amqp_conn_is_open(link->conn)) {
            tick(link); /* the heartbeat interval is known now */
        }
    }
}

static void on_stream_closed(void *ctx, enum hg_status why)
{
    struct hg_link *link = ctx;
    const char *text = link->broken[0] != '\0' ? link->broken : hg_status_text(why);
    link->stream = NULL;
    if (link->conn != NULL && !link->is_closed) {
        hg_amqp_conn_lost(link->conn, text);
    } else if (link->conn == NULL) {
        if (!link->was_open && !link->is_stopping) {
            struct hg_amqp_close close = {.status = HG_BROKER_AWAY, .text = hg_bytes_str(text)};
            log_down(link, &close);
            link->ops->on_down(link->ctx, &close);
        }
        attempt_later(link);
    }
}

static void on_stream_drained(void *ctx)
{
    struct hg_link *link = ctx;
    if (link->wants_room && link->is_up) {
        link->wants_room = false;
        if (link->ops->on_room != NULL) {
            link->ops->on_room(link->ctx);
        }
    }
}

/* Why TLS failed is told here, and only here; on_stream_closed follows. */
static void on_stream_broken(void *ctx, enum hg_status why, const char *rule)
{
    struct hg_link *link = ctx;
    (void)why;
    snprintf(link->broken, sizeof(link->broken), "%s", rule);
}

static const struct hg_stream_user stream_user = {
    .on_read = on_stream_read,
    .on_open = on_stream_open,
    .on_drained = on_stream_drained,
    .on_closed = on_stream_closed,
    .on_broken = on_stream_broken,
};

static void ignore_read(void *ctx, struct hg_bytes in)
{
    (void)ctx;
    (void)in;
}

static void ignore_open(void *ctx)
{
    (void)ctx;
}

static void ignore_closed(void *ctx, enum hg_status why)
{
    (void)ctx;
    (void)why;
}

/* Of a stream whose link is gone. */
static const struct hg_stream_user nobody = {
    .on_read = ignore_read,
    .on_open = ignore_open,
    .on_drained = ignore_open,
    .on_closed = ignore_closed,
};

static void attempt(struct hg_link *link)
{
    const struct hg_endpoint *e = &link->config.endpoints[link->endpoint];
    link->was_open = link->wants_room = false;
    link->broken[0] = '\0';
    uint64_t timeout_ms = link->config.connect_timeout_ms;
    link->stream =
        e->is_tls ? hg_tls_connect(link->net, link->config.tls, e->host, e->port, timeout_ms,
                                   &stream_user, link)
                  : hg_tcp_connect(link->net, e->host, e->port, timeout_ms, &stream_user, link);
    if (link->stream == NULL) {
        attempt_later(link);
    }
}

static void fire(struct hg_timer *timer)
{
    struct hg_link *link = HG_CONTAINER_OF(timer, struct hg_link, timer);
    if (link->conn != NULL) {
        tick(link);
    } else if (link->stream == NULL && !link->is_stopping) {
        attempt(link);
    }
}

void hg_link_open(struct hg_link *link, struct hg_net *net, const struct hg_link_config *config,
                  const char *instance, unsigned worker, const char *what,
                  const struct hg_link_ops *ops, void *ctx)
{
    *link = (struct hg_link){.net = net, .config = *config, .ops = ops, .ctx = ctx};
    int n = snprintf(link->name, sizeof(link->name), "headgate %.48s worker %u %s", instance,
                     worker, what);
    if (config->user != NULL && (size_t)n < sizeof(link->name)) {
        snprintf(link->name + n, sizeof(link->name) - (size_t)n, " for %s", config->user);
    }
    link->flush.run = run_flush;
    link->reaper.run = run_reaper;
    hg_timer_init(&link->timer, fire);
    hg_timer_init(&link->secret_timer, fire_secret);
    if (config->secret != NULL) {
        hg_wheel_set(net->wheel, &link->secret_timer, hg_clock_ms() + HG_SECRET_LOOK_MS);
    }
    link->endpoint = (size_t)(hg_random_u64() % config->endpoints_n);
    attempt(link);
}

struct hg_amqp_conn *hg_link_conn(const struct hg_link *link)
{
    return link->is_up && !link->is_stopping ? link->conn : NULL;
}

void hg_link_reset(struct hg_link *link, const char *why)
{
    if (link->conn != NULL && !link->is_closed && !link->is_stopping) {
        hg_amqp_conn_lost(link->conn, why);
    }
}

bool hg_link_has_room(struct hg_link *link)
{
    if (link->conn == NULL || link->stream == NULL) {
        return false;
    }
    size_t waiting = hg_amqp_conn_output_n(link->conn) + link->stream->ops->pending(link->stream);
    link->wants_room = waiting > link->net->limits.low_bytes;
    if (link->wants_room) {
        hg_net_defer(link->net, &link->flush);
    }
    return !link->wants_room;
}

void hg_link_renew(struct hg_link *link)
{
    if (link->conn != NULL && !link->is_closed) {
        link->is_up = false;
        hg_amqp_conn_close(link->conn, hg_clock_ms());
        if (!link->is_closed) {
            tick(link);
        }
    }
}

void hg_link_stop(struct hg_link *link)
{
    if (link->is_stopping) {
        return;
    }
    link->is_stopping = true;
    if (link->net == NULL) {
        return; /* never opened */
    }
    hg_timer_stop(&link->secret_timer);
    if (link->conn != NULL && !link->is_closed) {
        hg_amqp_conn_close(link->conn, hg_clock_ms());
        if (!link->is_closed) {
            tick(link);
        }
    } else if (link->conn == NULL) {
        hg_timer_stop(&link->timer);
        if (link->stream != NULL) {
            link->stream->ops->close(link->stream, HG_CLOSED);
        }
    }
}

bool hg_link_is_stopped(const struct hg_link *link)
{
    return link->is_stopping && link->stream == NULL && link->conn == NULL;
}

void hg_link_close(struct hg_link *link)
{
    if (link->net == NULL) {
        return; /* never opened */
    }
    link->is_stopping = true;
    link->is_up = false;
    hg_timer_stop(&link->timer);
    hg_timer_stop(&link->secret_timer);
    hg_net_undefer(&link->flush);
    hg_net_undefer(&link->reaper);
    hg_topology_cancel(link->restoring);
    link->restoring = NULL;
    hg_amqp_conn_free(link->conn);
    link->conn = NULL;
    if (link->stream != NULL) {
        hg_stream_set_user(link->stream, &nobody, NULL);
        link->stream->ops->close(link->stream, HG_CLOSED);
        link->stream = NULL;
    }
}
