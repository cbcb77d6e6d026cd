/* SPDX-License-Identifier: Apache-2.0 */
/* CONNECT, its answer, and the will. Sections are those of MQTT 5.0. */
#include "adapters/mqtt/mqtt_message.h"
#include "adapters/mqtt/mqtt_session_priv.h"
#include "adapters/mqtt/mqtt_subscribe.h"
#include "base/clock.h"
#include "base/mem.h"
#include "core/access.h"
#include "message/topic.h"

#include <inttypes.h>
#include <stdio.h>

#define ANOTHERS "another user's client is connected with this client identifier"

enum {
    CLIENT_ID_MAX_BYTES = 1024,
    NEVER = UINT16_MAX, /* a Receive Maximum that is not said */
    /* a Maximum Packet Size from here on says nothing: section 2.1.4 */
    PACKET_MAX = HG_MQTT_REMAINING_MAX + HG_MQTT_HEAD_MAX
};

/* ---- CONNACK (section 3.2) ---- */

static uint8_t code_of_3(enum hg_status status)
{
    switch (status) {
    case HG_OK: return HG_MQTT_ACCEPTED;
    case HG_BAD_VERSION: return HG_MQTT_BAD_VERSION;
    case HG_BAD_CLIENT_ID: return HG_MQTT_BAD_CLIENT_ID;
    case HG_EXPIRED:
    case HG_BAD_LOGIN: return HG_MQTT_BAD_LOGIN;
    case HG_NOT_ALLOWED:
    case HG_NO_RULE:
    case HG_BAD_ADDRESS: return HG_MQTT_NOT_ALLOWED;
    default: return HG_MQTT_UNAVAILABLE;
    }
}

/* False, and nothing is sent: the client takes no packet so large [MQTT-3.1.2-24]. */
static bool send_connack(struct hg_mqtt_session *s, uint8_t level, bool is_present, uint8_t code,
                         struct hg_bytes properties)
{
    struct hg_writer w = {0};
    hg_mqtt_write_connack(&w, level, is_present, code, properties);
    if (s->v5 != NULL && hg_writer_n(&w) > s->v5->max_packet_bytes) {
        hg_writer_close(&w);
        return false;
    }
    hg_mqtt_send_written(s, &w);
    return true;
}

void hg_mqtt_refuse(struct hg_mqtt_session *s, enum hg_status status, const char *text)
{
    struct hg_writer properties = {0};
    uint8_t level = s->decoder.level; /* 0 for one that is not supported: as 3.1.1 has it */
    uint8_t code = code_of_3(status);
    if (level == HG_MQTT_V50) {
        code = hg_mqtt_reason_for(HG_MQTT_CONNACK, status);
        if (s->v5 == NULL || s->v5->wants_problem_information) {
            hg_mqtt_property_bytes(&properties, HG_MQTT_REASON_STRING,
                                   hg_bytes_str(text != NULL ? text : hg_status_text(status)));
        }
    }
    struct hg_bytes told = properties.failed ? HG_BYTES("") : hg_writer_view(&properties);
    if (!send_connack(s, level, false, code, told)) { /* [MQTT-3.2.2-19] */
        (void)send_connack(s, level, false, code, HG_BYTES(""));
    }
    hg_writer_close(&properties);
    hg_conn_finish(s->base.conn, status);
}

void hg_mqtt_refuse_anothers(struct hg_mqtt_session *s, struct hg_bytes client_id, const char *text)
{
    struct hg_worker *w = s->base.worker;
    hg_count(&w->metrics.login.client_ids_refused, 1);
    HG_LOG_LIMITED(w->log, HG_LOG_WARN, "mqtt.client_id_refused", client_id,
                   HG_F_BYTES("client", client_id), HG_F_BYTES("user", hg_mqtt_user(s)),
                   HG_F_STR("peer", hg_conn_peer(s->base.conn)), HG_F_STR("reason", text));
    if (s->state == HG_MQTT_CONNECTED) {
        hg_mqtt_end(s, 0, HG_NOT_ALLOWED, text);
    } else {
        hg_mqtt_refuse(s, HG_NOT_ALLOWED, text);
    }
}

/* What is not as the specification assumes it (section 3.2.2.3). */
static void write_restrictions(const struct hg_mqtt_session *s, struct hg_writer *w)
{
    const struct hg_config *config = s->base.worker->config;
    uint32_t expiry_s = hg_mqtt_expiry_s(s, s->v5->session_expiry_s);
    if (expiry_s != s->v5->session_expiry_s) {
        hg_mqtt_property_u32(w, HG_MQTT_SESSION_EXPIRY, expiry_s);
    }
    if (config->mqtt_receive_max < NEVER) {
        hg_mqtt_property_u16(w, HG_MQTT_RECEIVE_MAXIMUM, config->mqtt_receive_max);
    }
    if (!hg_state_is_enabled(hg_realm_of(&s->base)->vhost)) {
        hg_mqtt_property_u8(w, HG_MQTT_RETAIN_AVAILABLE, 0);
    }
    if (config->mqtt_max_packet_bytes < PACKET_MAX) {
        hg_mqtt_property_u32(w, HG_MQTT_MAXIMUM_PACKET_SIZE,
                             (uint32_t)config->mqtt_max_packet_bytes);
    }
    if (s->is_id_made) {
        hg_mqtt_property_bytes(w, HG_MQTT_ASSIGNED_CLIENT_ID, hg_mqtt_client_id(s));
    }
    if (config->mqtt_topic_alias_max > 0) {
        hg_mqtt_property_u16(w, HG_MQTT_TOPIC_ALIAS_MAXIMUM, config->mqtt_topic_alias_max);
    }
    if (s->v5->is_bearer) { /* [MQTT-4.12.0-5] */
        hg_mqtt_property_bytes(w, HG_MQTT_AUTH_METHOD, HG_MQTT_BEARER);
    }
    if (s->v5->is_keep_alive_ours) {
        hg_mqtt_property_u16(w, HG_MQTT_SERVER_KEEP_ALIVE, s->keep_alive_s);
    }
}

void hg_mqtt_accept(struct hg_mqtt_session *s, bool is_present)
{
    struct hg_writer properties = {0};
    if (s->v5 != NULL) {
        write_restrictions(s, &properties);
    }
    enum hg_status status = properties.failed ? HG_NO_MEMORY : HG_OK;
    if (status == HG_OK && !send_connack(s, s->decoder.level, is_present, HG_MQTT_ACCEPTED,
                                         hg_writer_view(&properties))) {
        status = HG_TOO_LARGE;
    }
    hg_writer_close(&properties);
    if (status != HG_OK) {
        hg_mqtt_refuse(s, status, NULL);
        return;
    }
    s->state = HG_MQTT_CONNECTED;
    hg_mqtt_start_keep_alive(s);
    if (!s->is_draining) {
        hg_conn_release(s->base.conn, HG_HOLD_SESSION);
    }
}

/* ---- The will (section 3.1.2.5) ---- */

static void put(uint8_t **at, struct hg_bytes b)
{
    if (b.n > 0) {
        memcpy(*at, b.p, b.n);
        *at += b.n;
    }
}

static struct hg_bytes will_topic(const struct hg_mqtt_will *will)
{
    return hg_bytes(will->text, will->topic_n);
}

static struct hg_bytes will_properties(const struct hg_mqtt_will *will)
{
    return hg_bytes(will->text + will->topic_n, will->properties_n);
}

static struct hg_bytes will_payload(const struct hg_mqtt_will *will)
{
    return hg_bytes(will->text + will->topic_n + will->properties_n, will->payload_n);
}

static bool keep_will(struct hg_mqtt_session *s, const struct hg_mqtt_connect *c)
{
    if (!c->has_will) {
        return true;
    }
    struct hg_mqtt_properties properties;
    hg_mqtt_property_read(c->will_properties, &properties);
    s->will =
        hg_alloc(sizeof(*s->will) + c->will_topic.n + c->will_properties.n + c->will_payload.n);
    if (s->will == NULL) {
        return false;
    }
    *s->will = (struct hg_mqtt_will){.topic_n = (uint16_t)c->will_topic.n,
                                     .properties_n = (uint32_t)c->will_properties.n,
                                     .payload_n = (uint32_t)c->will_payload.n,
                                     .delay_s = properties.will_delay_s,
                                     .qos = c->will_qos,
                                     .is_retained = c->will_retain};
    uint8_t *at = s->will->text;
    put(&at, c->will_topic);
    put(&at, c->will_properties);
    put(&at, c->will_payload);
    return true;
}

void hg_mqtt_forget_will(struct hg_mqtt_session *s)
{
    hg_free(s->will);
    s->will = NULL;
}

/* As of a PUBLISH. */
static enum hg_status make_will(const struct hg_mqtt_session *s, struct hg_mqtt_inbound *out,
                                const char **why)
{
    const struct hg_mqtt_will *will = s->will;
    if (s->v5 == NULL) {
        out->properties = (struct hg_properties){.delivery_mode = will->qos > 0 ? 2 : 1};
        return HG_OK;
    }
    enum hg_status status =
        hg_mqtt_message_in(out, hg_realm_of(&s->base)->rules, will_properties(will),
                           will_payload(will), will->qos, why);
    if (status == HG_OK && will->is_retained) {
        hg_mqtt_message_keep_order(out);
    }
    return status;
}

bool hg_mqtt_will_for_record(const struct hg_mqtt_session *s, struct hg_mqtt_inbound *scratch,
                             struct hg_session_will *out)
{
    const char *why = NULL;
    /* Who publishes what is in the record has the gateway's rights. */
    bool is_own = hg_realm_of(&s->base)->home != NULL;
    if (s->will == NULL || is_own || make_will(s, scratch, &why) != HG_OK) {
        return false;
    }
    *out = (struct hg_session_will){.topic = will_topic(s->will),
                                    .payload = will_payload(s->will),
                                    .properties = scratch->properties,
                                    .is_retained = s->will->is_retained,
                                    .is_exactly_once = s->will->qos == 2,
                                    .delay_ms = (uint64_t)s->will->delay_s * 1000};
    return true;
}

void hg_mqtt_publish_will(struct hg_mqtt_session *s)
{
    if (s->will == NULL) {
        return;
    }
    struct hg_mqtt_inbound inbound;
    const char *why = NULL;
    enum hg_status status = make_will(s, &inbound, &why);
    struct hg_publish_args args = {
        .is_free = true, /* it is said once, and cannot wait */
        .address = will_topic(s->will),
        .properties = inbound.properties,
        .body = will_payload(s->will),
        .client_id = hg_mqtt_client_id(s),
        .user = hg_mqtt_user(s),
        .is_exactly_once = s->will->qos == 2,
        .is_retained = s->will->is_retained && hg_state_is_enabled(hg_realm_of(&s->base)->vhost),
        .never_held = true,
    };
    if (s->v5 != NULL && s->v5->no_local_n > 0) {
        args.sender = args.client_id;
    }
    if (status == HG_OK) {
        status = hg_publish(&s->base, &args, NULL, &why);
    }
    if (status != HG_OK) {
        hg_mqtt_log_refused(s, args.address, 0, status, hg_bytes_str(why));
    }
    hg_mqtt_forget_will(s);
}

/* How long the client asks its session to be kept. */
static uint32_t asked_expiry_s(const struct hg_mqtt_session *s, const struct hg_mqtt_connect *c)
{
    if (s->v5 != NULL) {
        return s->v5->session_expiry_s;
    }
    return c->is_clean ? 0 : UINT32_MAX;
}

/* Whether it could be published as things are. */
static enum hg_status check_will(struct hg_mqtt_session *s, const struct hg_mqtt_connect *c,
                                 const char **why)
{
    const struct hg_config *config = s->base.worker->config;
    const struct hg_rules *rules = hg_realm_of(&s->base)->rules;
    const struct hg_topic_limits limits = {.max_bytes = (size_t)config->max_topic_bytes,
                                           .max_levels = (size_t)config->max_topic_levels};
    if (!c->has_will) {
        return HG_OK;
    }
    *why = hg_topic_check_address(c->will_topic, &limits);
    if (*why != NULL) {
        return HG_BAD_ADDRESS;
    }
    if (hg_mqtt_sys_is_topic(c->will_topic)) {
        *why = "$SYS is the gateway's own";
        return HG_NOT_ALLOWED;
    }
    if (c->will_retain && s->v5 != NULL && !hg_state_is_enabled(hg_realm_of(&s->base)->vhost)) {
        return HG_NO_RETAIN; /* [MQTT-3.2.2-13] */
    }
    struct hg_mqtt_properties properties = {0};
    hg_mqtt_property_read(c->will_properties, &properties);
    if (hg_realm_of(&s->base)->home != NULL && properties.will_delay_s > 0 &&
        asked_expiry_s(s, c) > 0) {
        *why = "a will with a delay cannot go over a connection of the user's own";
        return HG_NOT_ALLOWED;
    }
    struct hg_route route;
    struct hg_mqtt_inbound inbound;
    struct hg_rule_who room;
    const struct hg_rule_who *who = hg_session_who(&s->base, &room);
    room.client_id = c->client_id; /* which nobody has claimed yet */
    enum hg_status status = hg_rules_publish(rules, HG_PROTO_MQTT, c->will_topic, &route);
    if (status == HG_OK && !hg_rules_may_publish(rules, who, HG_PROTO_MQTT, &route)) {
        return hg_access_deny(&s->base, "will", c->will_topic,
                              hg_rules_spec(rules, route.rule)->name);
    }
    if (status == HG_OK && s->v5 != NULL) {
        status = hg_mqtt_message_in(&inbound, rules, c->will_properties, c->will_payload,
                                    c->will_qos, why);
    }
    return status;
}

/* ---- CONNECT (section 3.1) ---- */

/* Who it is, or, where nobody is known, who it says it is. */
static bool keep_user(struct hg_mqtt_session *s, const struct hg_mqtt_connect *c)
{
    const struct hg_config *config = s->base.worker->config;
    struct hg_bytes vhost, user;
    hg_vhost_split(config, c->user, &vhost, &user);
    user = config->has_identities ? hg_identity_user(s->base.identity) : user;
    if (user.n == 0) {
        return true;
    }
    s->user = hg_bytes_dup(user);
    return s->user != NULL;
}

static bool is_bearer(const struct hg_mqtt_properties *p)
{
    return hg_bytes_eq(p->auth_method, HG_MQTT_BEARER);
}

/* False when there is no memory. */
static bool open_v5(struct hg_mqtt_session *s, const struct hg_mqtt_properties *p)
{
    s->v5 = hg_zalloc(sizeof(*s->v5));
    if (s->v5 == NULL) {
        return false;
    }
    s->v5->receive_maximum =
        hg_mqtt_property_has(p, HG_MQTT_RECEIVE_MAXIMUM) ? p->receive_maximum : UINT16_MAX;
    s->v5->alias_max_out = p->topic_alias_maximum;
    s->v5->max_packet_bytes =
        hg_mqtt_property_has(p, HG_MQTT_MAXIMUM_PACKET_SIZE) ? p->max_packet_bytes : UINT32_MAX;
    s->v5->session_expiry_s = p->session_expiry_s;
    s->v5->wants_problem_information =
        !hg_mqtt_property_has(p, HG_MQTT_REQUEST_PROBLEM) || p->request_problem != 0;
    return true;
}

static enum hg_status log_in(struct hg_mqtt_session *s, const struct hg_mqtt_connect *c,
                             const struct hg_mqtt_properties *p, const char **why)
{
    const struct hg_config *config = s->base.worker->config;
    struct hg_credentials credentials = {.secret = c->password};
    hg_vhost_split(config, c->user, &credentials.vhost, &credentials.user);
    if (!c->is_supported) {
        return HG_BAD_VERSION;
    }
    /* First: a refusal must fit the client, too. A packet that was held comes with it made. */
    if (c->level == HG_MQTT_V50 && s->v5 == NULL && !open_v5(s, p)) {
        return HG_NO_MEMORY;
    }
    if (hg_mqtt_property_has(p, HG_MQTT_AUTH_METHOD)) {
        if (!is_bearer(p) || config->users.token.keys == NULL) {
            return HG_BAD_AUTH_METHOD; /* [MQTT-4.12.0-1] */
        }
        credentials = (struct hg_credentials){
            .secret = p->auth_data, .is_token = true, .vhost = credentials.vhost};
    }
    return hg_session_login(&s->base, &credentials, why);
}

static void log_connect(struct hg_mqtt_session *s, const struct hg_mqtt_connect *c,
                        uint32_t expiry_s)
{
    HG_LOG(s->base.worker->log, HG_LOG_DEBUG, "mqtt.connect",
           HG_F_BYTES("client", hg_mqtt_client_id(s)), HG_F_STR("peer", hg_conn_peer(s->base.conn)),
           HG_F_UINT("level", c->level), HG_F_UINT("keep_alive_s", c->keep_alive_s),
           HG_F_STR("session", c->is_clean ? "clean" : "goes on"), HG_F_UINT("expiry_s", expiry_s));
}

/* A session that ends with its connection, and with which everything begins anew: what other
 * processes have of this client goes, if it is this user's. */
static void start_clean(struct hg_mqtt_session *s)
{
    if (s->is_id_made || !hg_state_is_enabled(hg_realm_of(&s->base)->vhost)) {
        hg_mqtt_accept(s, false);
        return;
    }
    if (!hg_mqtt_persist_discard(s)) {
        hg_mqtt_accept(s, false);
    }
}

static void on_granted(struct hg_claim *claim)
{
    struct hg_mqtt_session *s = HG_CONTAINER_OF(claim, struct hg_mqtt_session, claim);
    if (s->state != HG_MQTT_CLAIMING || hg_conn_is_closing(s->base.conn)) {
        return; /* it was never connected: its will stays unsaid */
    }
    if (s->persist != NULL) {
        hg_mqtt_persist_start(s);
    } else {
        start_clean(s);
    }
}

/* [MQTT-3.1.4-3]: the newer connection disconnects the older. The claim is given up when this one
 * has ended and its will is published, so that the newer client speaks after it. */
static void on_lost(struct hg_claim *claim, enum hg_status why)
{
    struct hg_mqtt_session *s = HG_CONTAINER_OF(claim, struct hg_mqtt_session, claim);
    if (s->state == HG_MQTT_LEAVING || hg_conn_is_closing(s->base.conn)) {
        return;
    }
    if (why == HG_NOT_ALLOWED) {
        if (s->persist != NULL) {
            hg_mqtt_persist_set_expiry(s, 0);
        }
        hg_mqtt_refuse_anothers(s, hg_mqtt_client_id(s), ANOTHERS);
    } else {
        hg_mqtt_end(s, 0, why, NULL);
    }
}

static const struct hg_claim_ops claim_ops = {.on_granted = on_granted, .on_lost = on_lost};

static enum hg_status open_claim(struct hg_mqtt_session *s, struct hg_bytes id)
{
    char made[24];
    if (id.n == 0) { /* the server chooses one, section 3.1.3.1 */
        int n = snprintf(made, sizeof(made), "hg-%016" PRIx64, hg_random_u64());
        id = hg_bytes(made, (size_t)n);
        s->is_id_made = true;
    }
    const struct hg_claim_who who = {.client_id = id,
                                     .user = hg_mqtt_user(s),
                                     .is_owned = s->base.worker->config->has_identities};
    return hg_claim_open(hg_realm_of(&s->base), &s->claim, &who, &claim_ops);
}

/* 3.x clients cannot be told of a shorter time. */
static void set_keep_alive(struct hg_mqtt_session *s, uint16_t asked_s)
{
    uint64_t max_s = s->base.worker->config->mqtt_max_keepalive_ms / 1000;
    s->keep_alive_s = asked_s;
    if (s->v5 != NULL && max_s > 0 && max_s <= UINT16_MAX && (asked_s == 0 || asked_s > max_s)) {
        s->keep_alive_s = (uint16_t)max_s;
        s->v5->is_keep_alive_ours = true;
    }
}

static bool is_id_acceptable(const struct hg_mqtt_connect *c)
{
    bool may_be_empty = c->level == HG_MQTT_V50 || (c->is_clean && c->level == HG_MQTT_V311);
    return c->client_id.n <= CLIENT_ID_MAX_BYTES && (c->client_id.n > 0 || may_be_empty);
}

/* What is wrong with it, or OK. */
static enum hg_status check(struct hg_mqtt_session *s, const struct hg_mqtt_connect *c,
                            const struct hg_mqtt_properties *p, const char **why)
{
    if (s->v5 != NULL) {
        s->v5->is_bearer = hg_mqtt_property_has(p, HG_MQTT_AUTH_METHOD);
    }
    if (!is_id_acceptable(c)) {
        return HG_BAD_CLIENT_ID;
    }
    return check_will(s, c, why);
}

static enum hg_status begin(struct hg_mqtt_session *s, const struct hg_mqtt_connect *c)
{
    uint32_t expiry_s = hg_mqtt_expiry_s(s, asked_expiry_s(s, c));
    if (!keep_user(s, c) || !keep_will(s, c)) {
        return HG_NO_MEMORY;
    }
    set_keep_alive(s, c->keep_alive_s);
    bool is_ready = hg_state_is_ready(hg_realm_of(&s->base)->vhost);
    bool goes_on = is_ready && !c->is_clean && c->client_id.n > 0;
    if (expiry_s > 0 && !is_ready) {
        return HG_BROKER_AWAY;
    }
    if ((expiry_s > 0 || goes_on) && !hg_mqtt_persist_open(s, expiry_s, c->is_clean)) {
        return HG_NO_MEMORY;
    }
    enum hg_status status = open_claim(s, c->client_id);
    if (status == HG_OK) {
        log_connect(s, c, expiry_s);
    }
    return status;
}

enum hg_status hg_mqtt_on_connect(struct hg_mqtt_session *s, const struct hg_mqtt_connect *c,
                                  const char **rule)
{
    struct hg_mqtt_properties properties = {0};
    hg_mqtt_property_read(c->properties, &properties);
    enum hg_status status = log_in(s, c, &properties, rule);
    if (status == HG_HELD) { /* the same packet comes again, as the first of its connection */
        s->decoder = (struct hg_mqtt_decoder){0};
        return status;
    }
    status = status == HG_OK ? check(s, c, &properties, rule) : status;
    if (status == HG_OK) {
        s->state = HG_MQTT_CLAIMING;
        status = begin(s, c);
        if (status == HG_NOT_ALLOWED) {
            hg_mqtt_refuse_anothers(s, c->client_id, ANOTHERS);
            return HG_OK;
        }
    }
    if (status == HG_OK) {
        hg_conn_hold(s->base.conn, HG_HOLD_SESSION);
        hg_worker_timer(s->base.worker, &s->timer, s->base.worker->config->unavailable_timeout_ms);
    } else {
        hg_mqtt_refuse(s, status, *rule);
    }
    return HG_OK;
}

/* ---- AUTH (section 3.15) ---- */

static void send_auth(struct hg_mqtt_session *s)
{
    struct hg_writer properties = {0};
    struct hg_writer w = {0};
    hg_mqtt_property_bytes(&properties, HG_MQTT_AUTH_METHOD, HG_MQTT_BEARER);
    hg_mqtt_write_end(&w, HG_MQTT_AUTH, HG_MQTT_SUCCESS, hg_writer_view(&properties));
    w.failed = w.failed || properties.failed;
    hg_writer_close(&properties);
    hg_mqtt_send_written(s, &w);
}

enum hg_status hg_mqtt_on_auth(struct hg_mqtt_session *s, const struct hg_mqtt_end *auth,
                               const char **rule)
{
    struct hg_mqtt_properties properties;
    const char *why = NULL;
    if (s->v5 == NULL || !s->v5->is_bearer) {
        *rule = "AUTH without an authentication method in CONNECT"; /* [MQTT-4.12.0-6] */
        return HG_PROTOCOL_ERROR;
    }
    hg_mqtt_property_read(auth->properties, &properties);
    if (auth->reason != HG_MQTT_RE_AUTHENTICATE || !is_bearer(&properties)) {
        *rule = "AUTH must re-authenticate by the method of CONNECT"; /* [MQTT-4.12.1-1] */
        return HG_PROTOCOL_ERROR;
    }
    enum hg_status status = hg_session_renew(&s->base, properties.auth_data, &why);
    if (status == HG_OK) {
        send_auth(s);
    } else { /* [MQTT-4.12.1-2] */
        hg_mqtt_end(s, HG_MQTT_NOT_AUTHORIZED, status, why);
    }
    return HG_OK;
}
