/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration, typed: a snapshot that never changes and lives as long as somebody holds a
 * reference. config/headgate.toml documents every key. */
#ifndef HG_CORE_CONFIG_H
#define HG_CORE_CONFIG_H

#include "base/log.h"
#include "core/config_bridge.h"
#include "core/config_users.h"
#include "core/config_vhost.h"
#include "core/config_webhook.h"
#include "message/message.h"
#include "stream/tls_context.h"

enum hg_serve { HG_SERVE_WEB, HG_SERVE_MQTT, HG_SERVE_STOMP, HG_SERVE_ADMIN };

struct hg_listener_spec {
    const char *where;
    enum hg_serve serve;
    const char *host;
    uint16_t port;
    uint32_t max_connections;        /* over all workers */
    const char *token;               /* what an admin listener's clients must show; NULL: nothing */
    const char *const *cors_origins; /* "*" or origins; none: no CORS headers */
    size_t cors_origins_n;
    const char *const *origins; /* who may open WebSockets; likewise; none: our own pages */
    size_t origins_n;
    const char *const *websocket_paths; /* /ws and /mqtt if nothing is configured */
    size_t websocket_paths_n;
    bool has_proxy;                      /* proxy_protocol = true */
    struct hg_tls_certificate tls_first; /* for those who ask for no name or an unknown one */
    const struct hg_tls_certificate *tls_more;
    size_t tls_more_n;
    struct hg_tls_spec tls;
    struct hg_tls_context *tls_context; /* made from it; NULL: plain */
    bool takes_anonymous;               /* clients without credentials are let in */
};

struct hg_config {
    const char *file;
    const char *const *sets; /* that it was read with */
    size_t sets_n;
    const struct hg_config_node *document; /* what was read, overrides included; for config*.c */
    /* [gateway] */
    const char *name;
    unsigned workers; /* resolved: at least 1 */
    enum hg_log_level log_level;
    bool log_is_json;
    uint64_t drain_timeout_ms;
    const char *run_as; /* who runs it once the listeners are open; NULL: whoever started it */
    unsigned user_id, group_id;
    /* [rabbitmq] */
    const struct hg_endpoint *endpoints;
    size_t endpoints_n;
    struct hg_tls_certificate rabbitmq_certificate;
    struct hg_tls_spec rabbitmq_tls_spec;
    struct hg_tls_context *rabbitmq_tls; /* made from it; NULL: no endpoint is amqps:// */
    struct hg_secret *rabbitmq_secret;   /* of password_file; NULL: the endpoints' passwords */
    uint64_t heartbeat_ms, connect_timeout_ms;
    uint32_t confirm_window; /* unconfirmed messages per worker */
    uint64_t buffer_bytes;   /* held per worker while unconfirmed or disconnected */
    /* a publish that RabbitMQ neither confirms nor refuses ends as TIMED_OUT */
    uint64_t publish_timeout_ms;
    uint64_t unavailable_timeout_ms; /* how long a client is held while RabbitMQ is away */
    uint64_t max_message_bytes;
    uint64_t feed_max_bytes;  /* x-max-length-bytes of a feed queue */
    uint64_t feed_expires_ms; /* x-expires of a feed queue */
    uint16_t prefetch;        /* of the feed and of consumed queues */
    uint32_t widen_after;     /* bindings of one rule per worker before scope auto widens */
    /* [limits] */
    uint64_t outbound_low_bytes,
        outbound_high_bytes;     /* per client; past high its slow policy applies */
    uint64_t slow_backlog_bytes; /* per client, of what waits beside its output */
    uint64_t stalled_timeout_ms; /* output waits and none is taken; 0: for ever */
    uint32_t max_subscriptions;  /* per client */
    uint64_t max_topic_bytes, max_topic_levels;
    uint64_t tls_handshake_timeout_ms;
    uint32_t max_tls_handshakes; /* under way, per worker */
    uint32_t tls_handshake_rate; /* begun per second; 0: any number, as the next */
    /* of all listeners but the admin ones */
    uint32_t max_connections, max_connections_per_address, max_connections_per_user;
    struct hg_rates client_rates; /* of what each client publishes */
    uint64_t rate_wait_ms;        /* how long a client is held for its rate or a rule's */
    /* [mqtt] */
    uint64_t mqtt_max_packet_bytes;
    uint64_t mqtt_connect_timeout_ms;
    uint32_t mqtt_max_inflight; /* QoS 1 and 2 deliveries unacknowledged per client */
    /* QoS 1 and 2 deliveries waiting for room in it, per client; past it the client is closed */
    uint32_t mqtt_max_queued;
    uint16_t mqtt_receive_max;      /* publishes with QoS > 0 that a client may have under way */
    uint16_t mqtt_topic_alias_max;  /* both ways; 0: none */
    uint64_t mqtt_max_keepalive_ms; /* longer ones are shortened; 0: any, also none */
    uint64_t mqtt_max_session_expiry_ms; /* longer ones are shortened; 0: no session is kept */
    bool mqtt_session_queue_is_quorum;
    uint64_t mqtt_shared_expires_ms; /* x-expires of a shared subscription's queue */
    uint64_t mqtt_sys_interval_ms;   /* between values of $SYS; 0: there are none */
    uint64_t mqtt_sys_roles;         /* who may see $SYS, once anybody can log in */
    bool mqtt_denied_is_close;       /* 3.1.1: a publish that is not permitted ends the client */
    const char *mqtt_park_queue;     /* where on_reject = "park" puts what RabbitMQ rejected */
    /* [state] */
    const char *state_log; /* the stream's name, or "off" */
    bool state_required;
    uint64_t state_max_bytes;     /* x-max-length-bytes of the stream */
    uint32_t state_max_retained;  /* messages */
    uint64_t state_dead_after_ms; /* an instance that was not there for so long has died */
    /* [stomp] */
    bool stomp_rabbitmq_destinations;
    const char *stomp_topic_exchange; /* of /topic */
    uint64_t stomp_max_frame_bytes, stomp_max_header_bytes;
    uint32_t stomp_max_headers;
    uint64_t stomp_heartbeat_ms; /* what the server offers; 0: none */
    uint64_t stomp_connect_timeout_ms;
    uint64_t stomp_idle_timeout_ms;  /* plain TCP without heart-beats; 0: for ever */
    uint64_t stomp_queue_expires_ms; /* x-expires of a subscription's own queue */
    /* per connection, over all its transactions */
    uint32_t stomp_max_transactions, stomp_max_transaction_frames;
    uint64_t stomp_transaction_buffer_bytes;
    uint32_t stomp_max_temp_queues; /* per connection */
    /* [http] */
    uint64_t http_max_body_bytes, http_max_header_bytes, http_max_url_bytes;
    uint64_t http_stream_from_bytes; /* larger bodies go to RabbitMQ while they arrive, */
    uint32_t http_uploads;           /* so many at once, a worker */
    uint64_t http_idle_timeout_ms, http_request_timeout_ms, http_publish_timeout_ms;
    uint64_t http_sse_heartbeat_ms;  /* of silence before a comment is sent */
    uint64_t http_websocket_ping_ms; /* of silence before a ping; 0: none is sent */
    uint32_t http_max_headers, http_max_pipelined;
    uint32_t http_idempotency_max; /* keys; 0: Idempotency-Key is only the message_id */
    uint64_t http_idempotency_window_ms, http_idempotency_buffer_bytes;
    bool http_idempotency_shared;       /* keys count for all instances, through the state log */
    uint64_t http_idempotency_claim_ms; /* of an instance that is not heard of any more */
    uint32_t http_rpc_max;              /* calls under way per worker */
    uint64_t http_rpc_timeout_ms, http_rpc_max_timeout_ms; /* where a call says nothing; at most */
    uint64_t http_rpc_max_reply_bytes;
    uint32_t http_max_batch; /* lines of one POST /v1/topics */
    uint32_t lease_max;      /* messages of one poll; 0: none can be leased */
    uint64_t lease_wait_ms, lease_time_ms, lease_bytes;
    uint32_t leases_per_queue, leases_per_worker;
    bool http_management_paths;  /* the management API's publish is served */
    const char *http_static_dir; /* served at / by web listeners; NULL: nothing */
    /* [[listener]] [[exchange]] [[queue]] [[rule]] (the built-in rule last) */
    const struct hg_listener_spec *listeners;
    size_t listeners_n;
    const struct hg_exchange_decl *exchanges;
    size_t exchanges_n;
    const struct hg_queue_decl *queues;
    size_t queues_n;
    const struct hg_rule_spec *rules;
    size_t rules_n;
    struct hg_users_config users; /* [users] [[user]] [[access]] */
    bool has_identities;      /* somebody can log in: passwords, tokens, certificates or RabbitMQ */
    const char *const *roles; /* names, in the order of their bits; the first is "*" */
    size_t roles_n;
    /* [[bridge]] */
    const struct hg_bridge_spec *bridges;
    size_t bridges_n;
    /* [[webhook]] */
    const struct hg_webhook_spec *webhooks;
    size_t webhooks_n;
    /* the above, by virtual host; the first is the default one */
    const struct hg_vhost_spec *vhosts;
    size_t vhosts_n;
    size_t all_rules_n; /* of all virtual hosts together */
};

/* Reads and checks a file; sets: "key=value" overrides with dotted keys and TOML values (bare words
 * are strings). NULL: errors_out has one line "file:line:column: message" per problem. */
struct hg_config *hg_config_load(const char *file, const char *const *sets, size_t sets_n,
                                 struct hg_writer *errors_out);
/* Reads the file of `first` again, for a gateway that was started with that and runs. What cannot
 * change while it runs is as in `first`, which must outlive the result; `kept` is told the name and
 * the place of each key that has another value now. NULL: as hg_config_load. */
typedef void hg_config_kept_fn(void *ctx, const char *key, const char *where);
struct hg_config *hg_config_reload(const struct hg_config *first, hg_config_kept_fn *kept,
                                   void *ctx, struct hg_writer *errors_out);
/* Any thread. */
const struct hg_config *hg_config_ref(const struct hg_config *c);
/* Gives a reference back, the first one too; with the last one everything in it goes. Any thread;
 * NULL is fine. */
void hg_config_free(const struct hg_config *c);

/* Whether both have the same under a top-level key, "rule", with the same files' contents or not. */
bool hg_config_says_same(const struct hg_config *a, const struct hg_config *b, const char *key);
/* The bits of one configuration's roles in another's, by their names. */
uint64_t hg_config_translate_roles(const struct hg_config *from, const struct hg_config *to,
                                   uint64_t roles);

#endif
