/* SPDX-License-Identifier: Apache-2.0 */
/* RabbitMQ as the judge: a name and a password are good if a connection with them is opened. */
#include "base/clock.h"
#include "base/mem.h"
#include "core/login_priv.h"
#include "upstream/link.h"

enum { CLOSE_MS = 5000 };

struct hg_login_question {
    struct hg_login_check check;
    struct hg_list link; /* in hg_login_port.asking */
    struct hg_link amqp;
    struct hg_timer timer; /* the longest wait */
    struct hg_defer reaper;
    struct hg_endpoint *endpoints;
    unsigned failures_n; /* endpoints that gave no answer */
    bool is_answered;
    size_t user_n, text_n;
    char text[]; /* user, NUL, password, NUL */
};

static void answer(struct hg_login_question *q, enum hg_status outcome, const char *why)
{
    if (!q->is_answered) {
        q->is_answered = true;
        hg_login_checked(&q->check, hg_bytes(q->text, q->user_n), outcome, why);
    }
}

static void free_question(struct hg_login_question *q)
{
    hg_link_close(&q->amqp);
    hg_timer_stop(&q->timer);
    hg_net_undefer(&q->reaper);
    hg_list_remove(&q->link);
    hg_forget(q->text, q->text_n);
    hg_free(q->endpoints);
    hg_login_check_end(&q->check);
    hg_free(q);
}

static void reap(struct hg_defer *defer)
{
    free_question(HG_CONTAINER_OF(defer, struct hg_login_question, reaper));
}

static void on_up(void *ctx)
{
    struct hg_login_question *q = ctx;
    answer(q, HG_OK, NULL);
    hg_link_stop(&q->amqp); /* on_down follows */
}

static void on_down(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_login_question *q = ctx;
    bool is_no = why->status == HG_BAD_LOGIN || why->status == HG_NOT_ALLOWED ||
                 why->status == HG_REFUSED; /* the last: not for this virtual host */
    if (is_no) {
        answer(q, HG_BAD_LOGIN, "RabbitMQ refused the user name or password");
    } else if (!q->is_answered && ++q->failures_n < q->amqp.config.endpoints_n) {
        return; /* the next one is tried */
    }
    answer(q, HG_BROKER_AWAY, "RabbitMQ cannot be asked");
    hg_net_defer(q->amqp.net, &q->reaper);
}

static void on_timer(struct hg_timer *timer)
{
    struct hg_login_question *q = HG_CONTAINER_OF(timer, struct hg_login_question, timer);
    answer(q, HG_BROKER_AWAY, "RabbitMQ cannot be asked");
    free_question(q);
}

static const struct hg_link_ops link_ops = {.on_up = on_up, .on_down = on_down};

/* The configured endpoints, each with this name and password. */
static bool copy_endpoints(struct hg_login_question *q, const struct hg_vhost_spec *vhost)
{
    q->endpoints = hg_alloc(vhost->endpoints_n * sizeof(*q->endpoints));
    for (size_t i = 0; q->endpoints != NULL && i < vhost->endpoints_n; i++) {
        q->endpoints[i] = vhost->endpoints[i];
        q->endpoints[i].is_external = false;
        q->endpoints[i].user = q->text;
        q->endpoints[i].password = q->text + q->user_n + 1;
    }
    return q->endpoints != NULL;
}

struct hg_login_check *hg_login_ask(struct hg_realm *realm, const struct hg_credentials *c)
{
    const struct hg_vhost_spec *vhost = realm->vhost->spec;
    struct hg_worker *w = realm->worker;
    const struct hg_config *config = w->config;
    size_t text_n = c->user.n + c->secret.n + 2;
    struct hg_login_question *q = hg_zalloc(sizeof(*q) + text_n);
    if (q == NULL) {
        return NULL;
    }
    q->user_n = c->user.n;
    q->text_n = text_n;
    memcpy(q->text, c->user.p, c->user.n);
    memcpy(q->text + c->user.n + 1, c->secret.p, c->secret.n);
    if (!copy_endpoints(q, vhost)) {
        hg_forget(q->text, q->text_n);
        hg_free(q);
        return NULL;
    }
    hg_login_check_begin(&q->check, w, config->users.broker_roles);
    q->check.source = HG_IDENTITY_BROKER;
    q->reaper.run = reap;
    hg_list_init(&q->link);
    hg_list_add_last(&w->logins->asking, &q->link);
    hg_timer_init(&q->timer, on_timer);
    hg_worker_timer(w, &q->timer, config->connect_timeout_ms + CLOSE_MS);
    const struct hg_link_config link = {.endpoints = q->endpoints,
                                        .endpoints_n = vhost->endpoints_n,
                                        .tls = config->rabbitmq_tls,
                                        .heartbeat_ms = config->heartbeat_ms,
                                        .connect_timeout_ms = config->connect_timeout_ms,
                                        .max_body_bytes = config->max_message_bytes,
                                        .is_quiet = true};
    hg_link_open(&q->amqp, &w->net, &link, config->name, w->index, "login", &link_ops, q);
    return &q->check;
}

void hg_login_ask_close(struct hg_worker *w)
{
    while (!hg_list_is_empty(&w->logins->asking)) {
        free_question(HG_LIST_ENTRY(w->logins->asking.next, struct hg_login_question, link));
    }
}
