/* SPDX-License-Identifier: Apache-2.0 */
/* Who decides about a login, and what becomes of it. */
#include "core/login.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/allowance.h"
#include "core/conn.h"
#include "core/failures.h"
#include "core/login_priv.h"
#include "core/own.h"
#include "core/password.h"

#include <sodium.h>

enum {
    KEY_BYTES = 32,
    USER_MAX_BYTES = 255,
    /* The wall clock may be set meanwhile: an end that is far away is looked at from time to time. */
    LOOK_AT_MOST_MS = 60 * 1000,
};

struct hg_logins {          /* of the process; frozen but for what is locked */
    uint8_t key[KEY_BYTES]; /* of the MACs: random, and nowhere else */
    struct hg_failures *failures;
};

/* Of a session whose client is being checked, or whose identity ends. */
struct hg_login {
    struct hg_session *session;
    struct hg_login_check *check; /* under way */
    bool is_done;                 /* it is over, and the session has not taken the outcome */
    enum hg_status status;
    const char *why;
    struct hg_identity *identity;
    struct hg_timer timer; /* until the identity ends */
};

/* ---- The process's part ---- */

struct hg_logins *hg_logins_new(const struct hg_config *config)
{
    struct hg_logins *l = hg_zalloc(sizeof(*l));
    if (l == NULL || sodium_init() < 0) {
        hg_free(l);
        return NULL;
    }
    randombytes_buf(l->key, sizeof(l->key));
    l->failures = hg_failures_new(config->users.max_failures);
    if (l->failures == NULL) {
        hg_logins_free(l);
        return NULL;
    }
    return l;
}

void hg_logins_free(struct hg_logins *logins)
{
    if (logins != NULL) {
        hg_failures_free(logins->failures);
        hg_forget(logins->key, sizeof(logins->key));
        hg_free(logins);
    }
}

void hg_logins_limit(struct hg_logins *logins, const struct hg_config *config)
{
    hg_failures_limit(logins->failures, config->users.max_failures);
}

/* What RabbitMQ said holds for the virtual host that it was asked about: what chooses that one is a
 * part of it. */
static void mac_of(const struct hg_session *s, const struct hg_credentials *c,
                   uint8_t out[HG_LOGIN_MAC_BYTES])
{
    const struct hg_logins *l = s->worker->gateway->logins;
    crypto_generichash_state state;
    const uint64_t sizes[] = {c->user.n, c->vhost.n, hg_conn_listener(s->conn)->vhost};
    crypto_generichash_init(&state, l->key, sizeof(l->key), HG_LOGIN_MAC_BYTES);
    crypto_generichash_update(&state, (const uint8_t *)sizes, sizeof(sizes));
    crypto_generichash_update(&state, c->vhost.p, c->vhost.n);
    crypto_generichash_update(&state, (const uint8_t *)&c->is_token, sizeof(c->is_token));
    crypto_generichash_update(&state, c->user.p, c->user.n);
    crypto_generichash_update(&state, c->secret.p, c->secret.n);
    crypto_generichash_final(&state, out, HG_LOGIN_MAC_BYTES);
    hg_forget(&state, sizeof(state));
}

void hg_session_mac(const struct hg_session *s, const struct hg_credentials *c,
                    uint8_t out[HG_LOGIN_MAC_BYTES])
{
    hg_net_forget_input(&s->worker->net);
    mac_of(s, c, out);
}

/* ---- The end of an identity ---- */

static void forget_login(struct hg_session *s)
{
    struct hg_login *login = s->login;
    if (login == NULL) {
        return;
    }
    if (login->check != NULL) {
        login->check->login = NULL;
    }
    hg_timer_stop(&login->timer);
    hg_identity_unref(login->identity);
    hg_free(login);
    s->login = NULL;
}

bool hg_session_is_expired(const struct hg_session *s)
{
    uint64_t end = hg_identity_expires_wall_ms(s->identity);
    return end != 0 && hg_clock_wall_ms() >= end;
}

static void arm(struct hg_login *login)
{
    uint64_t now = hg_clock_wall_ms();
    uint64_t end = hg_identity_expires_wall_ms(login->session->identity);
    uint64_t left_ms = end > now ? end - now : 0;
    hg_worker_timer(login->session->worker, &login->timer,
                    left_ms < LOOK_AT_MOST_MS ? left_ms : LOOK_AT_MOST_MS);
}

static void on_timer(struct hg_timer *timer)
{
    struct hg_login *login = HG_CONTAINER_OF(timer, struct hg_login, timer);
    struct hg_session *s = login->session;
    if (!hg_session_is_expired(s)) {
        arm(login);
    } else if (s->conn != NULL && !hg_conn_is_closing(s->conn)) {
        hg_count(&s->worker->metrics.login.login_expired, 1);
        s->ops->expired(s, HG_EXPIRED);
    }
}

static struct hg_login *login_new(struct hg_session *s)
{
    struct hg_login *login = hg_zalloc(sizeof(*login));
    if (login != NULL) {
        login->session = s;
        hg_timer_init(&login->timer, on_timer);
        s->login = login;
    }
    return login;
}

bool hg_session_identify(struct hg_session *s, struct hg_identity *identity_own)
{
    hg_identity_unref(s->identity);
    s->identity = identity_own;
    bool must_end = hg_identity_expires_wall_ms(identity_own) != 0 && s->ops->expired != NULL;
    if (!must_end) {
        forget_login(s);
        return true;
    }
    if (s->login == NULL && login_new(s) == NULL) {
        return false;
    }
    arm(s->login);
    return true;
}

bool hg_session_inherit(struct hg_session *s, const struct hg_session *from)
{
    hg_own_follow(s, from);
    return from->identity == NULL || hg_session_identify(s, hg_identity_ref(from->identity));
}

void hg_session_logout(struct hg_session *s)
{
    forget_login(s);
    hg_identity_unref(s->identity);
    s->identity = NULL;
    hg_own_leave(s);
}

/* ---- Tokens ---- */

struct roles {
    const struct hg_config *config;
    uint64_t bits;
};

static void add_role(void *ctx, struct hg_bytes name)
{
    struct roles *r = ctx;
    for (size_t i = 1; i < r->config->roles_n; i++) { /* "*" is no role that a token gives */
        if (hg_bytes_eq(name, hg_bytes_str(r->config->roles[i]))) {
            r->bits |= UINT64_C(1) << i;
        }
    }
}

static enum hg_status check_token(struct hg_session *s, struct hg_bytes text,
                                  struct hg_identity **out, const char **why)
{
    const struct hg_config *config = s->worker->config;
    const struct hg_token_spec *spec = &config->users.token;
    struct hg_token_claim claims[HG_TOKEN_CLAIMS_MAX];
    size_t claims_n = 0;
    struct hg_token token;
    bool is_expired;
    void *at = NULL;
    *why = hg_token_check(spec, text, hg_clock_wall_ms(), &token, &is_expired);
    if (*why != NULL) {
        return is_expired ? HG_EXPIRED : HG_BAD_LOGIN;
    }
    struct roles roles = {.config = config};
    hg_token_roles(spec, &token, add_role, &roles);
    const struct hg_user_spec *user = hg_config_find_user(&s->worker->config->users, token.user);
    while (claims_n < HG_TOKEN_CLAIMS_MAX &&
           hg_token_next_claim(&token, &at, &claims[claims_n].name, &claims[claims_n].value)) {
        claims_n++;
    }
    *out = hg_identity_new(&(struct hg_identity_parts){.source = HG_IDENTITY_TOKEN,
                                                       .user = token.user,
                                                       .roles = roles.bits,
                                                       .vhosts = hg_login_limits(config, user),
                                                       .expires_wall_ms = token.expires_wall_ms,
                                                       .claims = claims,
                                                       .claims_n = claims_n});
    hg_token_close(&token);
    return *out == NULL ? HG_NO_MEMORY : HG_OK;
}

/* ---- Passwords ---- */

struct hashing {
    struct hg_login_check check;
    uv_work_t work;
    const char *line; /* of the check's configuration */
    bool is_nobody;   /* the line is another's: the outcome is known, the time is not to tell */
    bool is_right;
    size_t user_n, secret_n;
    uint8_t text[]; /* user, then password */
};

void hg_login_check_begin(struct hg_login_check *check, struct hg_worker *w, uint64_t roles)
{
    check->worker = w;
    check->config = hg_config_ref(w->config);
    check->roles = roles;
    w->logins->checks_n++;
    hg_count(&w->metrics.login.login_checks, 1);
}

void hg_login_check_end(struct hg_login_check *check)
{
    check->worker->logins->checks_n--;
    hg_uncount(&check->worker->metrics.login.login_checks, 1);
    hg_config_free(check->config);
}

void hg_login_checked(struct hg_login_check *check, struct hg_bytes user, enum hg_status outcome,
                      const char *why)
{
    struct hg_login *login = check->login;
    struct hg_worker *w = check->worker;
    struct hg_identity *identity = NULL;
    bool is_of_before = check->config != w->config; /* what it says may not hold any more */
    if (outcome == HG_OK && !is_of_before) {
        identity = hg_identity_new(&(struct hg_identity_parts){
            .source = check->source, .user = user, .roles = check->roles, .vhosts = check->vhosts});
        outcome = identity == NULL ? HG_NO_MEMORY : HG_OK;
    }
    if (identity != NULL) {
        hg_login_cache_put(&w->logins->cache, check->mac, identity, hg_clock_ms());
    }
    if (login == NULL) {
        hg_identity_unref(identity);
        return;
    }
    check->login = NULL;
    login->check = NULL;
    login->is_done = !is_of_before; /* else it is asked once more */
    login->status = outcome;
    login->why = why;
    login->identity = identity;
    if (login->session->conn != NULL) {
        hg_conn_release(login->session->conn, HG_HOLD_LOGIN);
    }
}

static void hash(uv_work_t *work) /* on a thread of libuv's pool */
{
    struct hashing *h = work->data;
    h->is_right = hg_password_is(h->line, hg_bytes(h->text + h->user_n, h->secret_n));
    hg_forget(h->text + h->user_n, h->secret_n);
}

static void on_hashed(uv_work_t *work, int status)
{
    struct hashing *h = work->data;
    bool is_good = status == 0 && h->is_right && !h->is_nobody;
    hg_login_checked(&h->check, hg_bytes(h->text, h->user_n), is_good ? HG_OK : HG_BAD_LOGIN, NULL);
    hg_forget(h->text, h->user_n + h->secret_n);
    hg_login_check_end(&h->check);
    hg_free(h);
}

static struct hg_login_check *start_hash(struct hg_worker *w, const struct hg_user_spec *user,
                                         const struct hg_credentials *c)
{
    struct hashing *h = hg_zalloc(sizeof(*h) + c->user.n + c->secret.n);
    if (h == NULL) {
        return NULL;
    }
    h->is_nobody = user == NULL || user->password == NULL;
    h->line = h->is_nobody ? w->config->users.dummy : user->password;
    hg_login_check_begin(&h->check, w, h->is_nobody ? 0 : user->roles);
    h->check.source = HG_IDENTITY_PASSWORD;
    h->work.data = h;
    h->user_n = c->user.n;
    h->secret_n = c->secret.n;
    memcpy(h->text, c->user.p, c->user.n);
    memcpy(h->text + c->user.n, c->secret.p, c->secret.n);
    HG_CHECK(uv_queue_work(&w->loop, &h->work, hash, on_hashed) == 0);
    return &h->check;
}

static bool is_loopback(const char *peer)
{
    return strncmp(peer, "127.", 4) == 0 || strncmp(peer, "[::1]", 5) == 0 ||
           strncmp(peer, "[::ffff:127.", 12) == 0;
}

/* RabbitMQ lets guest in from its own machine only; it cannot see where our clients are. */
static bool may_ask_broker(const struct hg_session *s, const struct hg_credentials *c)
{
    bool is_text =
        memchr(c->user.p, 0, c->user.n) == NULL && memchr(c->secret.p, 0, c->secret.n) == NULL;
    return is_text &&
           (!hg_bytes_eq(c->user, HG_BYTES("guest")) || is_loopback(hg_conn_peer(s->conn)));
}

/* HELD: under way. */
static enum hg_status check_password(struct hg_session *s, const struct hg_credentials *c,
                                     struct hg_identity **out, const char **why)
{
    struct hg_worker *w = s->worker;
    const struct hg_logins *shared = w->gateway->logins;
    const struct hg_users_config *users = &w->config->users;
    const struct hg_user_spec *user = hg_config_find_user(users, c->user);
    uint8_t mac[HG_LOGIN_MAC_BYTES];
    if (c->user.n == 0 || c->user.n > USER_MAX_BYTES || c->secret.n > HG_PASSWORD_MAX_BYTES) {
        return HG_BAD_LOGIN;
    }
    mac_of(s, c, mac);
    struct hg_identity *known = hg_login_cache_find(&w->logins->cache, mac, hg_clock_ms());
    if (known != NULL) {
        hg_count(&w->metrics.login.logins_cached, 1);
        *out = hg_identity_ref(known);
        return HG_OK;
    }
    if (hg_failures_is_full(shared->failures, hg_conn_peer(s->conn), hg_clock_ms())) {
        hg_count(&w->metrics.login.logins_limited, 1);
        *why = "too many wrong passwords from this address; try again later";
        return HG_TOO_MANY;
    }
    if (w->logins->checks_n >= users->max_hashes) {
        *why = "too many logins are being checked; try again later";
        return HG_BUSY;
    }
    bool is_ours = user != NULL && user->password != NULL;
    bool is_asked = !is_ours && users->asks_broker && may_ask_broker(s, c);
    if (!is_asked && users->dummy == NULL) {
        return HG_BAD_LOGIN; /* nobody has a password here */
    }
    struct hg_vhost_limits limits = hg_login_limits(w->config, user);
    if (is_asked) {
        limits.may = limits.is_bound ? limits.may : UINT64_MAX; /* as RabbitMQ says */
        enum hg_status status = hg_login_choose(s, c->vhost, &limits, why);
        if (status != HG_OK) {
            return status;
        }
        unsigned index = hg_realm_of(s)->vhost->index;
        limits = (struct hg_vhost_limits){
            .may = UINT64_C(1) << index, .first = (uint8_t)(index + 1), .is_bound = true};
    }
    struct hg_login *login = s->login != NULL ? s->login : login_new(s);
    struct hg_login_check *check = login == NULL ? NULL
                                   : is_asked    ? hg_login_ask(hg_realm_of(s), c)
                                                 : start_hash(w, user, c);
    if (check == NULL) {
        return HG_NO_MEMORY;
    }
    if (is_asked && user != NULL) {
        check->roles |= user->roles;
    }
    check->vhosts = limits;
    memcpy(check->mac, mac, sizeof(mac));
    check->login = login;
    login->check = check;
    hg_conn_hold(s->conn, HG_HOLD_LOGIN);
    return HG_HELD;
}

/* ---- Without a secret ---- */

static enum hg_status check_certificate(struct hg_session *s, struct hg_bytes name,
                                        struct hg_identity **out, const char **why)
{
    const struct hg_config *config = s->worker->config;
    if (name.n > USER_MAX_BYTES) {
        *why = "the certificate's name is over 255 bytes";
        return HG_BAD_LOGIN;
    }
    const struct hg_user_spec *user = hg_config_find_user(&config->users, name);
    *out = hg_identity_new(&(struct hg_identity_parts){.source = HG_IDENTITY_CERTIFICATE,
                                                       .user = name,
                                                       .roles = config->users.certificate_roles |
                                                                (user == NULL ? 0 : user->roles),
                                                       .vhosts = hg_login_limits(config, user)});
    return *out == NULL ? HG_NO_MEMORY : HG_OK;
}

static enum hg_status check_silent(struct hg_session *s, const struct hg_credentials *c,
                                   struct hg_identity **out, const char **why)
{
    const struct hg_config *config = s->worker->config;
    struct hg_writer name = {0};
    enum hg_status status = HG_BAD_LOGIN;
    if (s->identity != NULL) { /* the WebSocket's handshake */
        *out = hg_identity_ref(s->identity);
        return hg_session_is_expired(s) ? HG_EXPIRED : HG_OK;
    }
    if (config->users.certificate != HG_CERTIFICATE_OFF &&
        hg_conn_certificate(s->conn, config->users.certificate, &name)) {
        status = name.failed ? HG_NO_MEMORY : check_certificate(s, hg_writer_view(&name), out, why);
    } else if (c->user.n > 0) {
        *why = "a user name needs a password";
    } else if (!hg_conn_listener(s->conn)->takes_anonymous) {
        *why = "this listener does not take anonymous clients";
    } else {
        *out = hg_identity_new(&(struct hg_identity_parts){
            .roles = config->users.anonymous_roles, .vhosts = hg_login_limits(config, NULL)});
        status = *out == NULL ? HG_NO_MEMORY : HG_OK;
    }
    hg_writer_close(&name);
    return status;
}

/* ---- A login ---- */

static enum hg_status check(struct hg_session *s, const struct hg_credentials *c,
                            struct hg_identity **out, const char **why)
{
    bool takes_tokens = s->worker->config->users.token.keys != NULL;
    if (c->secret.n == 0 && !c->is_token) {
        return check_silent(s, c, out, why);
    }
    if (takes_tokens && (c->is_token || hg_token_is_like(c->secret))) {
        return check_token(s, c->secret, out, why);
    }
    if (c->is_token) {
        *why = "tokens are not taken here";
        return HG_BAD_LOGIN;
    }
    return check_password(s, c, out, why);
}

static void note_refused(struct hg_session *s, const struct hg_credentials *c,
                         enum hg_status status, const char *why)
{
    struct hg_worker *w = s->worker;
    const char *peer = hg_conn_peer(s->conn);
    size_t host_n = strrchr(peer, ':') == NULL ? strlen(peer) : (size_t)(strrchr(peer, ':') - peer);
    hg_count(&w->metrics.login.logins_refused, 1);
    HG_LOG_LIMITED_BY(
        w->log, HG_LOG_WARN, "login.refused", hg_status_text(status), hg_bytes(peer, host_n),
        HG_F_STR("protocol", hg_protocol_name((enum hg_protocol)s->proto)), HG_F_STR("peer", peer),
        HG_F_BYTES("user", c->user), HG_F_BYTES("vhost", c->vhost),
        HG_F_STR("reason", why != NULL ? why : hg_status_text(status)));
}

/* What the check has found, if it has come to an end. */
static bool take_outcome(struct hg_session *s, enum hg_status *status, struct hg_identity **out,
                         const char **why)
{
    struct hg_login *login = s->login;
    if (login == NULL || !login->is_done) {
        return false;
    }
    *status = login->status;
    *why = login->why;
    *out = login->identity;
    login->identity = NULL;
    login->is_done = false;
    if (*status == HG_BAD_LOGIN) {
        hg_failures_add(s->worker->gateway->logins->failures, hg_conn_peer(s->conn), hg_clock_ms());
    }
    return true;
}

/* Where RabbitMQ vouches for it and the configuration says so, what it does goes over connections of
 * the user's own. Without a secret it comes out of a WebSocket's handshake, which has led there. */
static enum hg_status choose_links(struct hg_session *s, const struct hg_credentials *c,
                                   bool is_fresh, const char **why)
{
    bool has_own = s->worker->config->users.has_own_connection &&
                   hg_identity_source(s->identity) == HG_IDENTITY_BROKER;
    if (!has_own) {
        hg_own_leave(s);
        return HG_OK;
    }
    if (c->secret.n > 0) {
        return hg_own_enter(s, hg_identity_user(s->identity), c->secret, is_fresh, why);
    }
    *why = "the password is needed once more";
    return hg_realm_of(s)->home != NULL ? HG_OK : HG_BAD_LOGIN;
}

enum hg_status hg_session_login(struct hg_session *s, const struct hg_credentials *c,
                                const char **why_out)
{
    struct hg_identity *identity = NULL;
    enum hg_status status;
    *why_out = NULL;
    if (!s->worker->config->has_identities) {
        status = hg_session_choose(s, c->vhost, why_out);
        if (status != HG_OK) {
            note_refused(s, c, status, *why_out);
        }
        return status;
    }
    hg_net_forget_input(&s->worker->net);
    if (s->login != NULL && s->login->check != NULL) {
        return HG_HELD;
    }
    bool is_fresh = take_outcome(s, &status, &identity, why_out);
    if (!is_fresh) {
        status = check(s, c, &identity, why_out);
    }
    if (status == HG_OK) {
        status = hg_allowance_be_user(s, hg_identity_user(identity), why_out);
    }
    if (status != HG_OK) {
        hg_identity_unref(identity);
    } else if (!hg_session_identify(s, identity)) {
        status = HG_NO_MEMORY;
    }
    if (status == HG_OK && ((status = hg_session_choose(s, c->vhost, why_out)) != HG_OK ||
                            (status = choose_links(s, c, is_fresh, why_out)) != HG_OK)) {
        hg_session_logout(s);
    }
    if (status == HG_OK) {
        hg_count(&s->worker->metrics.login.logins, 1);
    } else if (status != HG_HELD) {
        note_refused(s, c, status, *why_out);
    }
    return status;
}

enum hg_status hg_session_renew(struct hg_session *s, struct hg_bytes token, const char **why_out)
{
    struct hg_identity *identity = NULL;
    struct hg_bytes user = hg_identity_user(s->identity);
    *why_out = "tokens are not taken here";
    hg_net_forget_input(&s->worker->net);
    enum hg_status status = HG_BAD_LOGIN;
    if (s->worker->config->users.token.keys != NULL) {
        status = check_token(s, token, &identity, why_out);
    }
    if (status == HG_OK && (s->identity == NULL || hg_identity_expires_wall_ms(s->identity) == 0 ||
                            !hg_bytes_eq(hg_identity_user(identity), user))) {
        *why_out = "the token is not of the user who logged in with one";
        hg_identity_unref(identity);
        status = HG_NOT_ALLOWED;
    }
    if (status == HG_OK && !hg_session_identify(s, identity)) {
        status = HG_NO_MEMORY;
    }
    if (status != HG_OK) {
        note_refused(s, &(struct hg_credentials){.user = user}, status, *why_out);
    } else {
        hg_count(&s->worker->metrics.login.login_renewals, 1);
    }
    return status;
}

/* ---- A worker's part ---- */

void hg_login_forget_user(struct hg_worker *w, struct hg_bytes user)
{
    hg_login_cache_drop(&w->logins->cache, user);
}

bool hg_login_open(struct hg_worker *w)
{
    const struct hg_users_config *users = &w->config->users;
    w->logins = hg_zalloc(sizeof(*w->logins));
    if (w->logins == NULL) {
        return false;
    }
    hg_login_cache_open(&w->logins->cache, users->cache_ms, users->max_cached);
    hg_list_init(&w->logins->asking);
    return true;
}

void hg_login_close(struct hg_worker *w)
{
    if (w->logins == NULL) {
        return;
    }
    hg_login_ask_close(w);
    while (w->logins->checks_n > 0) { /* hashes: a thread of the pool has them */
        (void)hg_net_turn(&w->net, true);
    }
    hg_login_cache_close(&w->logins->cache);
    hg_free(w->logins);
    w->logins = NULL;
}
