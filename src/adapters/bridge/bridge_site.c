/* SPDX-License-Identifier: Apache-2.0 */
/* libmosquitto on a worker's loop. The library opens its sockets itself, without blocking, but it
 * resolves names as it does so; that step runs on libuv's thread pool, and the client is touched by
 * nobody else meanwhile. The loop watches a duplicate of the library's descriptor, which the
 * library may close at any time. */
#include "adapters/bridge/bridge_site.h"

#include "adapters/bridge/bridge_repeat.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"

#include <mqtt_protocol.h>
#include <openssl/x509.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    TICK_MS = 1000,
    LINGER_MS = 1000,        /* after DISCONNECT, for the site to close */
    ACCEPT_LIMIT_MS = 20000, /* from the socket to CONNACK */
    DELAY_MIN_MS = 1000,
    DELAY_MAX_MS = 60000,
    WHY_MAX = 256,
    MS_PER_S = 1000,
    SESSION_PRESENT = 1,  /* in CONNACK's flags */
    UNDER_WAY_MAX = 4096, /* of a 3.1.1 site, which says nothing about it; most have 20 to 100 */
};

enum site_state {
    SITE_WAITING, /* for the timer */
    SITE_OPENING, /* the thread pool has the client */
    SITE_ASKING,  /* there is a socket; CONNACK is to come */
    SITE_SUBSCRIBING,
    SITE_UP,
};

struct watch { /* of one connection */
    uv_poll_t poll;
    int fd;
    int events;
    struct hg_bridge_site *site;
};

struct hg_bridge_site {
    struct hg_worker *worker;
    const struct hg_bridge_spec *spec;
    const struct hg_bridge_site_ops *ops;
    void *ctx;
    struct mosquitto *client;
    int *filter_mids; /* of SUBSCRIBE, by route; 0: answered */
    enum site_state state;
    struct watch *watch; /* NULL: no connection */
    unsigned closing_n;  /* watches that are on their way out */
    uv_work_t work;
    int work_rc, work_errno;
    struct hg_timer timer;
    struct hg_defer later;
    uint64_t asking_since_ms;
    unsigned failures_n; /* in a row */
    bool was_opened, is_closing;
    /* set by the library's callbacks, seen to when it has returned */
    bool is_accepted, is_lost, is_dup;
    struct hg_bridge_repeat repeat;
    char why[WHY_MAX];    /* of the end of this connection; "" while unknown */
    char detail[WHY_MAX]; /* the last error that the library has written */
};

static struct hg_bridge_site *site_of(void *ctx)
{
    HG_CHECK(ctx != NULL);
    return ctx;
}

/* ---- Why ---- */

static void set_why(struct hg_bridge_site *s, const char *text)
{
    if (s->why[0] == '\0') { /* what comes first is the cause */
        snprintf(s->why, sizeof(s->why), "%s", text);
    }
}

static void set_why_rc(struct hg_bridge_site *s, int rc, int error)
{
    if (rc >= 0x80) { /* a reason code of MQTT 5.0 */
        set_why(s, mosquitto_reason_string(rc));
    } else if (s->detail[0] != '\0' && (rc == MOSQ_ERR_TLS || error == EPROTO)) {
        set_why(s, s->detail);
    } else if (rc == MOSQ_ERR_ERRNO && error != 0) {
        set_why(s, strerror(error));
    } else {
        set_why(s,
                rc == MOSQ_ERR_SUCCESS ? "the site ended the connection" : mosquitto_strerror(rc));
    }
}

/* ---- What the library tells ---- */

static void on_log(struct mosquitto *client, void *ctx, int level, const char *text)
{
    struct hg_bridge_site *s = site_of(ctx);
    (void)client;
    if (level == MOSQ_LOG_ERR) {
        snprintf(s->detail, sizeof(s->detail), "%s", text);
    }
    /* A message has no field for its DUP flag; the line that precedes it is
     * "Client … received PUBLISH (d1, q1, …". */
    static const char received[] = "received PUBLISH (d";
    const char *at = level == MOSQ_LOG_DEBUG ? strstr(text, received) : NULL;
    if (at != NULL) {
        s->is_dup = at[sizeof(received) - 1] == '1';
    }
}

static void on_connect(struct mosquitto *client, void *ctx, int rc, int flags,
                       const mosquitto_property *properties)
{
    struct hg_bridge_site *s = site_of(ctx);
    (void)client;
    (void)properties;
    if (rc == 0 && (flags & SESSION_PRESENT) == 0) {
        hg_bridge_repeat_clear(&s->repeat);
    }
    if (rc == 0) {
        s->is_accepted = true;
    } else {
        set_why(s, s->spec->is_v5 ? mosquitto_reason_string(rc) : mosquitto_connack_string(rc));
    }
}

static void on_disconnect(struct mosquitto *client, void *ctx, int rc,
                          const mosquitto_property *properties)
{
    struct hg_bridge_site *s = site_of(ctx);
    int error = errno;
    (void)client;
    (void)properties;
    s->is_lost = true;
    set_why_rc(s, rc, error);
}

static void on_subscribe(struct mosquitto *client, void *ctx, int mid, int granted_n,
                         const int *granted, const mosquitto_property *properties)
{
    struct hg_bridge_site *s = site_of(ctx);
    (void)client;
    (void)properties;
    for (size_t i = 0; i < s->spec->in_n; i++) {
        if (s->filter_mids[i] != mid) {
            continue;
        }
        s->filter_mids[i] = 0;
        if (granted_n > 0 && granted[0] >= 0x80) {
            s->ops->on_filter_refused(s->ctx, s->spec->in[i].remote_filter,
                                      mosquitto_reason_string(granted[0]));
        }
    }
}

static void on_message(struct mosquitto *client, void *ctx, const struct mosquitto_message *m,
                       const mosquitto_property *properties)
{
    struct hg_bridge_site *s = site_of(ctx);
    (void)client;
    bool is_repeated =
        m->qos > 0 && hg_bridge_repeat_came(&s->repeat, (uint16_t)m->mid, hg_bytes_str(m->topic),
                                            hg_bytes(m->payload, (size_t)m->payloadlen), s->is_dup);
    if (!s->is_closing && !is_repeated) {
        s->ops->on_message(s->ctx, m, properties);
    }
}

static void on_publish(struct mosquitto *client, void *ctx, int mid, int reason,
                       const mosquitto_property *properties)
{
    struct hg_bridge_site *s = site_of(ctx);
    (void)client;
    (void)properties;
    if (!s->is_closing) {
        s->ops->on_acknowledged(s->ctx, (uint16_t)mid, (uint8_t)reason);
    }
}

/* ---- The descriptor ---- */

static void finish_closing(struct hg_bridge_site *s)
{
    if (s->is_closing && s->state != SITE_OPENING && s->watch == NULL && s->closing_n == 0) {
        s->ops->on_closed(s->ctx);
        hg_net_undefer(&s->later);
        hg_bridge_repeat_close(&s->repeat);
        hg_free(s->filter_mids);
        hg_free(s);
    }
}

static void on_watch_closed(uv_handle_t *handle)
{
    struct watch *watch = handle->data;
    struct hg_bridge_site *s = watch->site;
    close(watch->fd);
    hg_free(watch);
    s->closing_n--;
    finish_closing(s);
}

static void unwatch(struct hg_bridge_site *s)
{
    if (s->watch != NULL) {
        uv_close((uv_handle_t *)&s->watch->poll, on_watch_closed);
        s->watch = NULL;
        s->closing_n++;
    }
}

static bool watch_socket(struct hg_bridge_site *s)
{
    struct watch *watch = hg_zalloc(sizeof(*watch));
    int fd = watch == NULL ? -1 : fcntl(mosquitto_socket(s->client), F_DUPFD_CLOEXEC, 0);
    if (fd < 0 || uv_poll_init(&s->worker->loop, &watch->poll, fd) != 0) {
        if (fd >= 0) {
            close(fd);
        }
        hg_free(watch);
        return false;
    }
    watch->fd = fd;
    watch->site = s;
    watch->poll.data = watch;
    s->watch = watch;
    return true;
}

/* ---- Its life ---- */

static void wait_again(struct hg_bridge_site *s)
{
    unsigned doublings = s->failures_n < 6 ? s->failures_n : 6;
    uint64_t delay = (uint64_t)DELAY_MIN_MS << doublings;
    delay = delay < DELAY_MAX_MS ? delay : DELAY_MAX_MS;
    delay += hg_random_u64() % (delay / 4); /* not all bridges at once */
    s->failures_n++;
    s->state = SITE_WAITING;
    hg_worker_timer(s->worker, &s->timer, delay);
}

static void go_down(struct hg_bridge_site *s)
{
    bool was_up = s->state == SITE_UP;
    unwatch(s);
    wait_again(s);
    s->ops->on_down(s->ctx, was_up, s->why);
}

/* The library's memory of QoS 2 messages that come in is not made for lost connections: what the
 * site repeats, it keeps twice, and gives out the second in place of a later one that has the same
 * packet identifier. So QoS 2 is asked for as QoS 1, which the library does not remember, and what
 * is repeated is known by `repeat`. */
static int asked_qos(const struct hg_bridge_route *r)
{
    return r->qos > 1 ? 1 : r->qos;
}

static void subscribe_all(struct hg_bridge_site *s)
{
    int options =
        MQTT_SUB_OPT_NO_LOCAL | MQTT_SUB_OPT_RETAIN_AS_PUBLISHED |
        (s->spec->is_clean ? MQTT_SUB_OPT_SEND_RETAIN_ALWAYS : MQTT_SUB_OPT_SEND_RETAIN_NEW);
    for (size_t i = 0; i < s->spec->in_n; i++) {
        const struct hg_bridge_route *r = &s->spec->in[i];
        int rc = mosquitto_subscribe_v5(s->client, &s->filter_mids[i], r->remote_filter,
                                        asked_qos(r), s->spec->is_v5 ? options : 0, NULL);
        if (rc != MOSQ_ERR_SUCCESS && rc != MOSQ_ERR_NO_CONN && rc != MOSQ_ERR_CONN_LOST) {
            s->filter_mids[i] = 0;
            s->ops->on_filter_refused(s->ctx, r->remote_filter, mosquitto_strerror(rc));
        }
    }
}

static bool is_subscribed(const struct hg_bridge_site *s)
{
    for (size_t i = 0; i < s->spec->in_n; i++) {
        if (s->filter_mids[i] != 0) {
            return false;
        }
    }
    return true;
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void update_watch(struct hg_bridge_site *s)
{
    bool may_read = s->state == SITE_ASKING || s->ops->may_read(s->ctx);
    int events = (may_read ? UV_READABLE : 0) | (mosquitto_want_write(s->client) ? UV_WRITABLE : 0);
    if (events != s->watch->events) {
        s->watch->events = events;
        if (events == 0) {
            uv_poll_stop(&s->watch->poll);
        } else {
            uv_poll_start(&s->watch->poll, events, on_poll);
        }
    }
}

/* After every call of the library that may have called back. */
static void see_to(struct hg_bridge_site *s, int rc)
{
    if (rc != MOSQ_ERR_SUCCESS && !s->is_lost) {
        int error = errno;
        s->is_lost = true;
        set_why_rc(s, rc, error);
    }
    if (s->is_lost || mosquitto_socket(s->client) < 0) {
        go_down(s);
        return;
    }
    if (s->is_accepted && s->state == SITE_ASKING) {
        s->state = SITE_SUBSCRIBING;
        subscribe_all(s);
    }
    if (s->state == SITE_SUBSCRIBING && is_subscribed(s)) {
        s->state = SITE_UP;
        s->failures_n = 0;
        s->ops->on_up(s->ctx);
    }
    update_watch(s);
}

static int read_and_write(struct hg_bridge_site *s, int events)
{
    int rc = MOSQ_ERR_SUCCESS;
    if ((events & UV_READABLE) != 0) {
        rc = mosquitto_loop_read(s->client, 1);
    }
    if (rc == MOSQ_ERR_SUCCESS && !s->is_lost && (events & UV_WRITABLE) != 0) {
        rc = mosquitto_loop_write(s->client, 1);
    }
    return rc;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    struct hg_bridge_site *s = watch->site;
    see_to(s, read_and_write(s, status < 0 ? UV_READABLE : events));
}

/* ---- Connecting ---- */

static void open_socket(uv_work_t *work)
{
    struct hg_bridge_site *s = work->data;
    const struct hg_bridge_spec *spec = s->spec;
    s->work_rc = s->was_opened ? mosquitto_reconnect_async(s->client)
                               : mosquitto_connect_async(s->client, spec->host, spec->port,
                                                         (int)(spec->keepalive_ms / MS_PER_S));
    s->work_errno = errno;
}

static void on_socket(uv_work_t *work, int status)
{
    struct hg_bridge_site *s = work->data;
    s->state = SITE_ASKING;
    s->was_opened = true;
    if (s->is_closing) {
        mosquitto_destroy(s->client);
        finish_closing(s);
        return;
    }
    if (status == 0 && s->work_rc <= 0 && mosquitto_socket(s->client) >= 0 && watch_socket(s)) {
        s->asking_since_ms = hg_clock_ms();
        hg_worker_timer(s->worker, &s->timer, TICK_MS);
        update_watch(s);
        return;
    }
    set_why_rc(s, s->work_rc > 0 ? s->work_rc : MOSQ_ERR_NOMEM, s->work_errno);
    go_down(s);
}

static void connect_site(struct hg_bridge_site *s)
{
    s->is_accepted = s->is_lost = false;
    s->why[0] = s->detail[0] = '\0';
    s->state = SITE_OPENING;
    s->work.data = s;
    if (uv_queue_work(&s->worker->loop, &s->work, open_socket, on_socket) != 0) {
        wait_again(s);
    }
}

static void on_timer(struct hg_timer *timer)
{
    struct hg_bridge_site *s = HG_CONTAINER_OF(timer, struct hg_bridge_site, timer);
    if (s->is_closing) {
        unwatch(s);
        return;
    }
    if (s->state == SITE_WAITING) {
        if (s->ops->may_connect(s->ctx)) {
            connect_site(s);
        } else {
            hg_worker_timer(s->worker, timer, TICK_MS);
        }
        return;
    }
    if (s->state == SITE_ASKING && hg_clock_ms() - s->asking_since_ms >= ACCEPT_LIMIT_MS) {
        set_why(s, "the site did not answer in time");
        go_down(s); /* its socket is closed when the next one is opened */
        return;
    }
    hg_worker_timer(s->worker, timer, TICK_MS);
    /* also reads what TLS has kept back while the socket had nothing to write to */
    int rc = s->watch->events == 0 ? MOSQ_ERR_SUCCESS : read_and_write(s, s->watch->events);
    if (rc == MOSQ_ERR_SUCCESS && !s->is_lost && s->state != SITE_ASKING) {
        rc = mosquitto_loop_misc(s->client);
    }
    see_to(s, rc);
}

static void run_later(struct hg_defer *later)
{
    struct hg_bridge_site *s = HG_CONTAINER_OF(later, struct hg_bridge_site, later);
    if (s->watch != NULL && !s->is_closing) {
        bool was_paused = (s->watch->events & UV_READABLE) == 0;
        update_watch(s);
        if (was_paused && (s->watch->events & UV_READABLE) != 0) {
            see_to(s, mosquitto_loop_read(s->client, 1)); /* perhaps TLS has it already */
        }
    }
}

void hg_bridge_site_update(struct hg_bridge_site *s)
{
    hg_net_defer(&s->worker->net, &s->later);
}

bool hg_bridge_site_is_up(const struct hg_bridge_site *s)
{
    return s->state == SITE_UP && !s->is_lost;
}

/* ---- Publishing ---- */

enum hg_status hg_bridge_site_publish(struct hg_bridge_site *s, const struct hg_bridge_publish *p,
                                      uint16_t *mid_out, const char **why_out)
{
    int mid = 0;
    int rc = mosquitto_publish_v5(s->client, &mid, p->topic, (int)p->body.n, p->body.p, p->qos,
                                  p->is_retained, p->properties);
    *mid_out = (uint16_t)mid;
    hg_bridge_site_update(s);
    switch (rc) {
    case MOSQ_ERR_INVAL:
    case MOSQ_ERR_NOMEM:
    case MOSQ_ERR_PROTOCOL:
    case MOSQ_ERR_NOT_SUPPORTED:
    case MOSQ_ERR_PAYLOAD_SIZE:
    case MOSQ_ERR_MALFORMED_UTF8:
    case MOSQ_ERR_DUPLICATE_PROPERTY:
    case MOSQ_ERR_QOS_NOT_SUPPORTED:
    case MOSQ_ERR_OVERSIZE_PACKET:
        *why_out = mosquitto_strerror(rc);
        return rc == MOSQ_ERR_NOMEM ? HG_NO_MEMORY : HG_REFUSED;
    default: return HG_OK; /* with a broken socket as well: it is sent when there is another */
    }
}

/* ---- The client ---- */

/* Without it, a key that needs a password would be asked for on the terminal. */
static int refuse_password(char *buf, int size, int is_write, void *ctx)
{
    (void)buf;
    (void)size;
    (void)is_write;
    (void)ctx;
    return 0;
}

static int set_tls(struct mosquitto *client, const struct hg_bridge_spec *spec)
{
    const char *folder = spec->ca == NULL ? X509_get_default_cert_dir() : NULL;
    int rc = mosquitto_tls_set(client, spec->ca, folder, spec->cert, spec->key, refuse_password);
    return rc != MOSQ_ERR_SUCCESS ? rc : mosquitto_tls_insecure_set(client, spec->is_insecure);
}

/* A session that the site keeps for as long as it likes. The library takes CONNECT's properties
 * only where it connects at once and blocks, but remembers them for every later attempt: this one
 * ends before it begins, by its keep-alive of 1 s. */
static int set_session(struct mosquitto *client, const struct hg_bridge_spec *spec)
{
    mosquitto_property *list = NULL;
    int rc = mosquitto_property_add_int32(&list, MQTT_PROP_SESSION_EXPIRY_INTERVAL, UINT32_MAX);
    if (rc == MOSQ_ERR_SUCCESS) {
        rc = mosquitto_connect_bind_v5(client, spec->host, spec->port, 1, NULL, list);
    }
    mosquitto_property_free_all(&list);
    return rc == MOSQ_ERR_INVAL ? MOSQ_ERR_SUCCESS : rc;
}

static int configure(struct mosquitto *client, const struct hg_bridge_spec *spec)
{
    int rc = mosquitto_int_option(client, MOSQ_OPT_PROTOCOL_VERSION,
                                  spec->is_v5 ? MQTT_PROTOCOL_V5 : MQTT_PROTOCOL_V311);
    if (rc == MOSQ_ERR_SUCCESS) {
        rc = mosquitto_int_option(client, MOSQ_OPT_SEND_MAXIMUM, spec->window);
    }
    if (rc == MOSQ_ERR_SUCCESS) {
        rc = mosquitto_int_option(client, MOSQ_OPT_RECEIVE_MAXIMUM, spec->window);
    }
    if (rc == MOSQ_ERR_SUCCESS) {
        rc = mosquitto_int_option(client, MOSQ_OPT_TCP_NODELAY, 1);
    }
    if (rc == MOSQ_ERR_SUCCESS && spec->username != NULL) {
        rc = mosquitto_username_pw_set(client, spec->username, spec->password);
    }
    if (rc == MOSQ_ERR_SUCCESS && spec->will_topic != NULL) {
        rc = mosquitto_will_set(client, spec->will_topic, (int)strlen(spec->will_payload),
                                spec->will_payload, spec->will_qos, spec->will_is_retained);
    }
    if (rc == MOSQ_ERR_SUCCESS && spec->is_tls) {
        rc = set_tls(client, spec);
    }
    if (rc == MOSQ_ERR_SUCCESS && spec->is_v5 && !spec->is_clean) {
        rc = set_session(client, spec);
    }
    return rc;
}

struct hg_bridge_site *hg_bridge_site_new(struct hg_worker *worker,
                                          const struct hg_bridge_spec *spec,
                                          const struct hg_bridge_site_ops *ops, void *ctx,
                                          const char **why_out)
{
    struct hg_bridge_site *s = hg_zalloc(sizeof(*s));
    int *mids = hg_zalloc((spec->in_n + 1) * sizeof(*mids));
    size_t under_way = spec->is_v5 ? spec->window : UNDER_WAY_MAX;
    bool has_memory = s != NULL && mids != NULL && hg_bridge_repeat_open(&s->repeat, under_way);
    struct mosquitto *client =
        has_memory ? mosquitto_new(spec->client_id, spec->is_clean, s) : NULL;
    int rc = client == NULL ? MOSQ_ERR_NOMEM : configure(client, spec);
    if (rc != MOSQ_ERR_SUCCESS) {
        *why_out = mosquitto_strerror(rc);
        mosquitto_destroy(client);
        hg_free(mids);
        if (s != NULL) {
            hg_bridge_repeat_close(&s->repeat);
        }
        hg_free(s);
        return NULL;
    }
    mosquitto_log_callback_set(client, on_log);
    mosquitto_connect_v5_callback_set(client, on_connect);
    mosquitto_disconnect_v5_callback_set(client, on_disconnect);
    mosquitto_subscribe_v5_callback_set(client, on_subscribe);
    mosquitto_message_v5_callback_set(client, on_message);
    mosquitto_publish_v5_callback_set(client, on_publish);
    s->worker = worker;
    s->spec = spec;
    s->ops = ops;
    s->ctx = ctx;
    s->client = client;
    s->filter_mids = mids;
    s->later.run = run_later;
    hg_timer_init(&s->timer, on_timer);
    hg_worker_timer(worker, &s->timer, 0);
    return s;
}

static void on_linger(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    char unwanted[4096];
    ssize_t n;
    (void)events;
    do {
        n = status < 0 ? 0 : read(watch->fd, unwanted, sizeof(unwanted));
    } while (n > 0 || (n < 0 && errno == EINTR));
    if (n == 0 || errno != EAGAIN) {
        hg_timer_stop(&watch->site->timer);
        unwatch(watch->site);
    }
}

/* A socket that is closed with input unread resets the connection, and the site would never read
 * our last acknowledgements. So what it still sends is read, and goes nowhere. */
static void linger(struct hg_bridge_site *s)
{
    mosquitto_disconnect(s->client);
    shutdown(s->watch->fd, SHUT_WR);
    uv_poll_start(&s->watch->poll, UV_READABLE, on_linger);
    hg_worker_timer(s->worker, &s->timer, LINGER_MS);
}

void hg_bridge_site_close(struct hg_bridge_site *s)
{
    s->is_closing = true;
    hg_timer_stop(&s->timer);
    if (s->state == SITE_OPENING) {
        return; /* the pool's thread has the client; see on_socket */
    }
    if (s->state == SITE_SUBSCRIBING || s->state == SITE_UP) {
        linger(s);
    } else {
        unwatch(s);
    }
    mosquitto_destroy(s->client);
    finish_closing(s);
}
