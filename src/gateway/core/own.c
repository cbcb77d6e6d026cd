/* SPDX-License-Identifier: Apache-2.0 */
#include "core/own.h"

#include "base/mem.h"
#include "base/percent.h"
#include "core/conn.h"
#include "core/identity.h"
#include "core/login_priv.h"
#include "core/routing.h"

#include <stdio.h>

enum { AGAIN_MS = 1000 }; /* it is unused, and RabbitMQ still owes it something */

/* ---- Names ---- */

static bool is_plain(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '@';
}

/* False: it is too long for the names of queues. */
static bool write_prefix(char out[static HG_OWN_PREFIX_MAX], struct hg_bytes user)
{
    static const char begin[] = "headgate.user.";
    uint8_t name[HG_OWN_USER_MAX + 3];
    uint8_t *at = name;
    for (size_t i = 0; i < user.n && at - name <= HG_OWN_USER_MAX; i++) {
        if (is_plain(user.p[i])) {
            *at++ = user.p[i];
        } else {
            at = hg_percent_write(at, user.p[i]);
        }
    }
    if (at - name > HG_OWN_USER_MAX) {
        return false;
    }
    (void)snprintf(out, HG_OWN_PREFIX_MAX, "%s%.*s.", begin, (int)(at - name), (char *)name);
    return true;
}

/* ---- The password ---- */

static void forget_password(struct hg_own *own)
{
    if (own->password != NULL) {
        hg_forget(own->password, strlen(own->password));
        hg_free(own->password);
        own->password = NULL;
    }
}

static bool has_password(const struct hg_own *own, struct hg_bytes password)
{
    return own->password != NULL && hg_bytes_eq(hg_bytes_str(own->password), password);
}

/* Links read it whenever they log in. False when there is no memory: the one before stays. */
static bool take_password(struct hg_own *own, struct hg_bytes password)
{
    char *copy = hg_bytes_dup(password);
    if (copy == NULL) {
        return false;
    }
    forget_password(own);
    own->password = copy;
    for (size_t i = 0; i < own->realm.vhost->spec->endpoints_n; i++) {
        own->endpoints[i].password = copy;
    }
    return true;
}

struct news {
    struct hg_mail mail;
    uint8_t key_n;
    size_t text_n;
    uint8_t text[]; /* the key, the password */
};

static void free_news(struct news *news)
{
    hg_forget(news->text, news->text_n);
    hg_free(news);
}

/* Who has no memory for it goes on with the password before, until that user logs in there. */
static void tell_others(const struct hg_own *own, struct hg_bytes password)
{
    const struct hg_worker *w = own->realm.worker;
    const struct hg_gateway *g = w->gateway;
    for (unsigned i = 0; i < g->workers_n; i++) {
        size_t text_n = own->key_n + password.n;
        struct news *news = i == w->index ? NULL : hg_zalloc(sizeof(*news) + text_n);
        if (news == NULL) {
            continue;
        }
        news->mail.kind = HG_MAIL_OWN_SECRET;
        news->key_n = own->key_n;
        news->text_n = text_n;
        memcpy(news->text, own->key, own->key_n);
        memcpy(news->text + own->key_n, password.p, password.n);
        if (!hg_mailbox_send(g->workers[i]->mailbox, &news->mail)) {
            free_news(news);
        }
    }
}

void hg_own_on_mail(struct hg_worker *w, struct hg_mail *mail)
{
    struct news *news = HG_CONTAINER_OF(mail, struct news, mail);
    struct hg_bytes text = hg_bytes(news->text, news->text_n);
    struct hg_own *own = hg_map_find(&w->own_by_user, hg_bytes(news->text, news->key_n));
    if (own != NULL) {
        (void)take_password(own, hg_bytes_skip(text, news->key_n));
    }
    free_news(news);
}

/* ---- The end ---- */

static void free_own(struct hg_own *own)
{
    struct hg_worker *w = own->realm.worker;
    hg_timer_stop(&own->idle);
    hg_net_undefer(&own->ender);
    if (w->realms[own->realm.index] == &own->realm) {
        w->realms[own->realm.index] = NULL;
        w->own_n--;
        hg_uncount(&w->metrics.login.own_realms, 1);
    }
    while (w->realms_end > w->realms_n && w->realms[w->realms_end - 1] == NULL) {
        w->realms_end--;
    }
    forget_password(own);
    hg_free(own->endpoints);
    hg_free(own);
}

/* Nobody enters any more. */
static void leave_map(struct hg_own *own)
{
    if (!own->is_over) {
        own->is_over = true;
        hg_map_remove(&own->realm.worker->own_by_user, hg_bytes(own->key, own->key_n));
    }
}

static void on_drained(struct hg_realm *realm)
{
    struct hg_worker *w = realm->worker;
    hg_routing_close(realm);
    free_own(hg_own_of(realm));
    if (w->own_drained != NULL) {
        w->own_drained(w);
    }
}

static void drain(struct hg_own *own)
{
    leave_map(own);
    if (!own->is_draining) {
        own->is_draining = true;
        hg_timer_stop(&own->idle);
        hg_routing_drain(&own->realm, on_drained);
    }
}

static void fire_idle(struct hg_timer *timer)
{
    struct hg_own *own = HG_CONTAINER_OF(timer, struct hg_own, idle);
    if (own->holds_n > 0) {
        return;
    }
    if (hg_routing_is_idle(&own->realm)) {
        HG_LOG(own->realm.worker->log, HG_LOG_DEBUG, "own.closed", HG_F_STR("user", own->user),
               HG_F_STR("vhost", own->realm.vhost->spec->name));
        drain(own);
    } else {
        hg_worker_timer(own->realm.worker, &own->idle, AGAIN_MS);
    }
}

static void on_unused(struct hg_own *own)
{
    struct hg_worker *w = own->realm.worker;
    if (!own->is_draining) {
        hg_worker_timer(w, &own->idle, own->is_over ? 1 : w->config->users.own_connection_idle_ms);
    }
}

/* ---- RabbitMQ does not let the user in any more ---- */

static void end_session(void *ctx, struct hg_session *s)
{
    const struct hg_own *own = ctx;
    if (hg_realm_of(s) != &own->realm || hg_conn_is_closing(s->conn)) {
        return;
    }
    if (s->ops->expired != NULL) {
        s->ops->expired(s, HG_NOT_ALLOWED);
    } else {
        hg_session_logout(s); /* its next request has to log in, and it goes from here */
    }
}

static void run_ender(struct hg_defer *defer)
{
    struct hg_own *own = HG_CONTAINER_OF(defer, struct hg_own, ender);
    struct hg_worker *w = own->realm.worker;
    hg_own_hold(&own->realm); /* until all of them have been told */
    hg_conn_each(w, end_session, own);
    hg_own_release(&own->realm);
}

/* From inside a link, whose attempts go on until the last session has gone. */
static void on_refused(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_own *own = ctx;
    struct hg_worker *w = own->realm.worker;
    if (own->is_over) {
        return;
    }
    leave_map(own);
    hg_count(&w->metrics.login.own_realms_refused, 1);
    hg_login_forget_user(w, hg_bytes_str(own->user));
    HG_LOG_LIMITED(w->log, HG_LOG_WARN, "own.refused", hg_bytes_str(own->user),
                   HG_F_STR("user", own->user), HG_F_STR("vhost", own->realm.vhost->spec->name),
                   HG_F_UINT("sessions", own->holds_n), HG_F_UINT("code", why->code),
                   HG_F_BYTES("reason", why->text));
    hg_net_defer(&w->net, &own->ender);
}

/* ---- The beginning ---- */

static struct hg_bytes write_key(uint8_t out[static 1 + UINT8_MAX], unsigned vhost,
                                 struct hg_bytes user)
{
    out[0] = (uint8_t)vhost;
    memcpy(out + 1, user.p, user.n);
    return hg_bytes(out, user.n + 1);
}

static unsigned free_slot(const struct hg_worker *w)
{
    unsigned at = w->realms_n;
    while (at < w->realms_end && w->realms[at] != NULL) {
        at++;
    }
    return at;
}

/* The configured endpoints, each with this name; the password follows. */
static bool copy_endpoints(struct hg_own *own)
{
    const struct hg_vhost_spec *vhost = own->realm.vhost->spec;
    own->endpoints = hg_alloc(vhost->endpoints_n * sizeof(*own->endpoints));
    for (size_t i = 0; own->endpoints != NULL && i < vhost->endpoints_n; i++) {
        own->endpoints[i] = vhost->endpoints[i];
        own->endpoints[i].is_external = false;
        own->endpoints[i].user = own->user;
        own->endpoints[i].password = NULL;
    }
    return own->endpoints != NULL;
}

/* NULL when there is no memory. */
static struct hg_own *own_new(struct hg_realm *home, struct hg_bytes key, struct hg_bytes password)
{
    struct hg_worker *w = home->worker;
    struct hg_own *own = hg_zalloc(sizeof(*own) + key.n + 1); /* and a NUL */
    if (own == NULL) {
        return NULL;
    }
    own->realm = (struct hg_realm){.worker = w,
                                   .vhost = home->vhost,
                                   .home = home,
                                   .index = (uint16_t)free_slot(w),
                                   .spec = home->spec,
                                   .rules = home->rules};
    own->on_refused = on_refused;
    own->on_unused = on_unused;
    own->key_n = (uint8_t)key.n;
    memcpy(own->key, key.p, key.n);
    own->user = (const char *)own->key + 1;
    hg_timer_init(&own->idle, fire_idle);
    own->ender.run = run_ender;
    if (!copy_endpoints(own) || !take_password(own, password) ||
        !write_prefix(own->prefix, hg_bytes_skip(key, 1)) ||
        !hg_map_put(&w->own_by_user, hg_bytes(own->key, own->key_n), own)) {
        free_own(own);
        return NULL;
    }
    return own;
}

static struct hg_own *open_realm(struct hg_realm *home, struct hg_bytes key,
                                 struct hg_bytes password)
{
    struct hg_worker *w = home->worker;
    struct hg_own *own = own_new(home, key, password);
    if (own == NULL) {
        return NULL;
    }
    unsigned index = own->realm.index;
    w->realms[index] = &own->realm;
    w->realms_end = index >= w->realms_end ? index + 1 : w->realms_end;
    w->own_n++;
    hg_count(&w->metrics.login.own_realms, 1);
    if (!hg_routing_open(&own->realm)) {
        leave_map(own);
        free_own(own);
        return NULL;
    }
    hg_count(&w->metrics.login.own_realms_opened, 1);
    HG_LOG(w->log, HG_LOG_DEBUG, "own.opened", HG_F_STR("user", own->user),
           HG_F_STR("vhost", home->vhost->spec->name));
    return own;
}

static void move(struct hg_session *s, struct hg_realm *to)
{
    struct hg_realm *from = hg_realm_of(s);
    if (from != to) {
        hg_own_hold(to);
        hg_session_enter(s, to);
        hg_own_release(from);
    }
}

enum hg_status hg_own_enter(struct hg_session *s, struct hg_bytes user, struct hg_bytes password,
                            bool is_fresh, const char **why_out)
{
    struct hg_worker *w = s->worker;
    struct hg_realm *home = hg_realm_home(hg_realm_of(s));
    uint8_t room[1 + UINT8_MAX];
    char prefix[HG_OWN_PREFIX_MAX];
    if (!write_prefix(prefix, user)) {
        *why_out = "the user's name is too long for a connection of its own";
        return HG_BAD_LOGIN;
    }
    struct hg_bytes key = write_key(room, home->vhost->index, user);
    struct hg_own *own = hg_map_find(&w->own_by_user, key);
    unsigned most_n = w->config->users.own_connections_max;
    if (own == NULL && w->own_n >= (most_n < HG_OWN_REALMS_MAX ? most_n : HG_OWN_REALMS_MAX)) {
        hg_worker_refused(w, HG_LIMIT_OWN_CONNECTIONS);
        *why_out = "as many users have connections of their own as [users] own_connections_max "
                   "allows; try again later";
        return HG_BUSY;
    }
    bool is_news = is_fresh && (own == NULL || !has_password(own, password));
    bool is_whole = own == NULL ? (own = open_realm(home, key, password)) != NULL
                                : !is_news || take_password(own, password);
    if (!is_whole) {
        return HG_NO_MEMORY;
    }
    if (is_news) {
        tell_others(own, password);
    }
    move(s, &own->realm);
    return HG_OK;
}

void hg_own_leave(struct hg_session *s)
{
    struct hg_realm *realm = hg_realm_of(s);
    if (realm->home != NULL) {
        move(s, realm->home);
    }
}

void hg_own_follow(struct hg_session *s, const struct hg_session *from)
{
    if (s->realm != from->realm) {
        move(s, hg_realm_of(from));
    }
}

/* ---- For core/realm.c ---- */

void hg_own_drain(struct hg_worker *w)
{
    for (unsigned i = w->realms_n; i < w->realms_end; i++) {
        if (w->realms[i] != NULL) {
            drain(hg_own_of(w->realms[i]));
        }
    }
}

void hg_own_close(struct hg_worker *w)
{
    while (w->realms_end > w->realms_n) { /* the last one is there */
        struct hg_own *own = hg_own_of(w->realms[w->realms_end - 1]);
        leave_map(own);
        hg_routing_close(&own->realm);
        free_own(own);
    }
    hg_map_close(&w->own_by_user);
}
