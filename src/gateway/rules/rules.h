/* SPDX-License-Identifier: Apache-2.0 */
/* The rule table: client addresses <-> exchange and routing key, both ways. Made once from the
 * configuration, then frozen; shared by all workers without a lock. A look-up costs the depth of
 * the address, not the number of rules. */
#ifndef HG_RULES_RULES_H
#define HG_RULES_RULES_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/meter.h"
#include "base/status.h"

enum hg_protocol { HG_PROTO_MQTT, HG_PROTO_STOMP, HG_PROTO_HTTP, HG_PROTO_N };
const char *hg_protocol_name(enum hg_protocol p); /* "mqtt", "stomp", "http" */

enum hg_exchange_type {
    HG_EXCHANGE_DIRECT,
    HG_EXCHANGE_FANOUT,
    HG_EXCHANGE_TOPIC,
    HG_EXCHANGE_HEADERS,
    HG_EXCHANGE_OTHER
};
/* "direct", "fanout", "topic", "headers"; everything else (x-…) is OTHER. */
enum hg_exchange_type hg_exchange_type_of(struct hg_bytes type);

enum hg_escape { HG_ESCAPE_LOSSLESS, HG_ESCAPE_PLAIN };
enum hg_overlong { HG_OVERLONG_REFUSE, HG_OVERLONG_HASH };
enum hg_on_reject { HG_REJECT_CLOSE, HG_REJECT_WITHHOLD, HG_REJECT_PARK };
/* What becomes of messages that may be dropped while their client is slow. */
enum hg_slow {
    HG_SLOW_DROP_NEW,
    HG_SLOW_DROP_OLDEST,
    HG_SLOW_LATEST,
    HG_SLOW_DISCONNECT,
    HG_SLOW_N
};
const char *hg_slow_name(enum hg_slow slow); /* as the configuration writes it: "drop-new", … */
enum hg_scope { HG_SCOPE_AUTO, HG_SCOPE_EXACT, HG_SCOPE_WIDE };
enum hg_tristate { HG_UNSET = -1, HG_NO, HG_YES };

enum { HG_CAPTURES_MAX = 16, HG_REQUEST_MAX = 8, HG_KEY_MAX = 255 };

/* A rule as written; it and its strings, NUL-terminated, belong to the configuration, which
 * outlives the table. */
struct hg_rule_spec {
    const char *where; /* "file:line:column", for messages */
    const char *name;
    const char *pattern[HG_PROTO_N]; /* NULL: not served for this protocol */
    const char *exchange;            /* NULL if queue is set; "" never */
    const char *queue;  /* publish through the default exchange; subscribers consume it */
    const char *key;    /* NULL: "" (it is not guessed from the pattern) */
    const char *replay; /* a stream that holds what the exchange got; NULL: none is named */
    const char *const *header_names; /* AMQP headers set on publish */
    /* Templates: {capture}, {client_id}, {user}, {protocol}, {address}, {query.NAME}, {header.NAME};
     * the last two, in the key as well, only where HTTP alone is served. A header x-headgate-address may only be "{address}": then the address travels, and the key need not hold every
     * capture. */
    const char *const *header_values;
    size_t headers_n;
    struct hg_rates rates;                   /* of what is published through it */
    struct hg_rule_meter *meter;             /* NULL: at any rate */
    uint64_t publish_roles, subscribe_roles; /* bits: who may; none: nobody */
    const char *const *via; /* exchanges whose deliveries this rule also maps back */
    size_t via_n;
    enum hg_tristate persistent; /* UNSET: as the client says */
    bool is_mandatory, is_builtin;
    enum hg_escape escape;
    enum hg_overlong overlong;
    enum hg_on_reject on_reject;
    enum hg_scope scope;
    enum hg_slow slow;
};

struct hg_exchange_spec {
    const char *where, *name;
    enum hg_exchange_type type;
};

struct hg_rules;

/* NULL: err_out holds one line "where: message" per problem. the standard
 * amq.* exchanges need no spec; any other exchange must have one. */
struct hg_rules *hg_rules_new(const struct hg_rule_spec *specs, size_t specs_n,
                              const struct hg_exchange_spec *exchanges, size_t exchanges_n,
                              struct hg_writer *err_out);
void hg_rules_free(struct hg_rules *r);
size_t hg_rules_n(const struct hg_rules *r);
const struct hg_rule_spec *hg_rules_spec(const struct hg_rules *r, size_t index);
enum hg_exchange_type hg_rules_exchange_type(const struct hg_rules *r, struct hg_bytes exchange,
                                             bool *is_known_out);

/* A value of an HTTP request, {query.NAME} or {header.NAME}, and who finds it: false where the
 * request has none that could be used. Found values stay in place as long as the route is used. */
struct hg_request_name {
    struct hg_bytes name;
    bool is_header;
};
struct hg_request_source {
    bool (*find)(void *ctx, const struct hg_request_name *name, struct hg_bytes *value_out);
    void *ctx;
};

/* Where an address leads. Captured levels borrow from the address. */
struct hg_route {
    size_t rule;              /* index */
    struct hg_bytes exchange; /* "" for a queue rule */
    struct hg_bytes key;      /* in key_buf or in the rule */
    /* overlong = "hash" took effect: the address must travel in the header x-headgate-address. */
    bool is_hashed;
    uint8_t captures_n;
    struct hg_bytes captures[HG_CAPTURES_MAX]; /* in the order of the pattern, as in the address */
    struct hg_bytes request[HG_REQUEST_MAX];   /* values, as hg_rules_request_name counts */
    uint8_t key_buf[HG_KEY_MAX + 1];
};

/* First rule that matches. OK; NO_RULE; KEY_TOO_LONG, NO_VALUE where the key names a value of the
 * request (route_out->rule says which); BAD_ADDRESS:
 * empty, with a wildcard, or its key would be one empty word, which RabbitMQ and the way back take
 * for no word. */
enum hg_status hg_rules_publish(const struct hg_rules *r, enum hg_protocol proto,
                                struct hg_bytes address, struct hg_route *route_out);
/* The same for a request with its values (NULL: it has none): NO_VALUE where key or headers name one
 * that it lacks. Each is escaped as a level is, and stays one word under
 * `lossless`. */
enum hg_status hg_rules_publish_request(const struct hg_rules *r, enum hg_protocol proto,
                                        struct hg_bytes address,
                                        const struct hg_request_source *source,
                                        struct hg_route *route_out);
/* The i-th value of the request that the rule names; false past the last. */
bool hg_rules_request_name(const struct hg_rules *r, size_t rule, size_t i,
                           struct hg_request_name *out);

/* Name of the i-th capture of the rule's pattern, as route.captures counts them. */
struct hg_bytes hg_rules_capture_name(const struct hg_rules *r, size_t rule, enum hg_protocol proto,
                                      size_t i);

struct hg_rule_vars { /* what header templates may name besides captures */
    struct hg_bytes client_id, user, address;
    enum hg_protocol protocol;
};
/* The i-th header of the route's rule, expanded. */
void hg_rules_header(const struct hg_rules *r, const struct hg_route *route, size_t i,
                     const struct hg_rule_vars *vars, struct hg_writer *out);

/* Maps a delivery back: the address for this protocol by the first rule that fits, appended to
 * `out`; false if none does, if the address could not be shown (not UTF-8, a wildcard in it), or
 * when there is no memory, and then nothing is appended. `original` is the message's
 * x-headgate-address header, empty if it has none; it is believed only if publishing to it leads to
 * this exchange and key. */
bool hg_rules_deliver(const struct hg_rules *r, enum hg_protocol proto, struct hg_bytes exchange,
                      struct hg_bytes key, struct hg_bytes original, struct hg_writer *out,
                      size_t *rule_out);

/* What a subscription needs in RabbitMQ, a plan per rule that the filter can meet; two where
 * overlong = "hash" needs a second binding for hashed keys. Borrowed during the call. */
struct hg_binding_plan {
    size_t rule;
    enum hg_plan_kind {
        HG_PLAN_FEED,      /* bind the worker's feed to exchange with key */
        HG_PLAN_OWN_QUEUE, /* a queue of the subscriber's own, bound to exchange (headers, x-…) */
        HG_PLAN_QUEUE      /* consume `queue`, competing with others */
    } kind;
    struct hg_bytes exchange, key, queue;
    /* The rule's whole pattern as binding key, empty unless it may be widened: a topic exchange,
     * and scope wide, or auto with a literal first word; never with mandatory. Behind a rule that
     * takes all of the filter, and may be widened: all that can come of that one's addresses. */
    struct hg_bytes wide_key;
    size_t widened_with; /* the rule whose scope and bindings decide: itself, or that one */
    bool is_widenable;
    enum hg_scope scope;
};
typedef void hg_plan_fn(void *ctx, const struct hg_binding_plan *plan);
struct hg_rule_who; /* rules/access.h; NULL: somebody who may everything */
/* filter: MQTT syntax (`+`, `#`); callers translate STOMP's and HTTP's `*` to `+` first. OK;
 * BAD_FILTER; NO_RULE: no rule meets it, or nothing comes back through the one that does;
 * NO_WILDCARD: a rule that what it matches goes through cannot express it (bindings.c says which
 * count); KEY_TOO_LONG; NO_MEMORY; NOT_ALLOWED: `who` may use none of those that it would come
 * through. Plans come only with OK, in table order, and not of rules that `who` may not use.
 * *why_out: static text, or NULL where the status says all. */
enum hg_status hg_rules_subscribe(const struct hg_rules *r, const struct hg_rule_who *who,
                                  enum hg_protocol proto, struct hg_bytes filter, hg_plan_fn *each,
                                  void *ctx, const char **why_out);

/* Whether one rule is the first to take every address that the filter matches, so that no other has
 * to do with what is published there. */
bool hg_rules_owner(const struct hg_rules *r, enum hg_protocol proto, struct hg_bytes filter,
                    size_t *rule_out);

/* The prefix ("/topic") that the gateway takes for itself over this protocol before any rule, if
 * the address begins with it; NULL if none does. STOMP's are RabbitMQ's destinations, which [stomp]
 * rabbitmq_destinations can switch off. */
const char *hg_rules_reserved(enum hg_protocol proto, struct hg_bytes address);

/* Findings for `headgate check`, one line each "where: rule NAME: …": rules that collide (same
 * exchange and overlapping keys, so that a delivery maps back to the other one), cannot be
 * reversed, are never reached, begin with a reserved prefix. Returns how many. */
size_t hg_rules_report(const struct hg_rules *r, struct hg_writer *out);

#endif
