/* SPDX-License-Identifier: Apache-2.0 */
/* [[webhook]]: a URL that messages are posted to. */
#include "base/base64.h"
#include "core/config_schema.h"
#include "core/config_value.h"
#include "message/topic.h"

enum {
    NAME_MAX_BYTES = 64,
    SHORT_MAX = 255,
    DELAYS_MAX = 16,
    /* Standard Webhooks, "Signature scheme": secrets have 24 to 64 bytes. */
    SECRET_MIN_BYTES = 24,
    SECRET_MAX_BYTES = 64,
    MS_PER_S = 1000,
    MS_PER_MIN = 60 * MS_PER_S,
    MS_PER_HOUR = 60 * MS_PER_MIN,
    /* of RabbitMQ's consumer timeout, 30 minutes */
    ACK_WAIT_MAX_MS = 25 * MS_PER_MIN,
    DELAY_MAX_MS = 7 * 24 * MS_PER_HOUR,
};

#define SECRET_PREFIX "whsec_"

/* ---- Values ---- */

static void read_url(struct hg_config_reader *r, const struct hg_config_node *node, void *into)
{
    struct hg_webhook_spec *spec = into;
    struct hg_config_url url = {0};
    if (hg_config_read_kind(r, node, HG_CONFIG_STRING) == NULL) {
        return;
    }
    const char *problem = hg_config_value_url(&r->arena, node->u.string.p, &url);
    if (problem != NULL) {
        hg_config_read_error(r, &node->at, "url %s", problem);
        return;
    }
    spec->url = node->u.string.p;
    spec->host = url.host;
    spec->origin = url.origin;
    spec->port = url.port;
    spec->is_tls = url.is_tls;
}

static const char *secret_problem(const char *text)
{
    struct hg_writer bytes = {0};
    bool has_prefix = strncmp(text, SECRET_PREFIX, strlen(SECRET_PREFIX)) == 0;
    bool is_base64 =
        has_prefix && hg_base64_decode(&bytes, hg_bytes_str(text + strlen(SECRET_PREFIX)));
    size_t n = hg_writer_n(&bytes);
    hg_writer_close(&bytes);
    return !is_base64 ? "a secret is \"" SECRET_PREFIX "\" and base64 behind it"
           : n < SECRET_MIN_BYTES || n > SECRET_MAX_BYTES
               ? "a secret has 24 to 64 bytes in its base64"
               : NULL;
}

static void read_secrets(struct hg_config_reader *r, const struct hg_config_node *node, void *into)
{
    struct hg_webhook_spec *spec = into;
    spec->secrets = node == NULL ? NULL : hg_config_read_texts(r, node, &spec->secrets_n);
    if (spec->secrets == NULL) {
        return;
    }
    for (const struct hg_config_node *n = node->u.first; n != NULL; n = n->next) {
        const char *problem = n->kind != HG_CONFIG_STRING ? NULL : secret_problem(n->u.string.p);
        if (problem != NULL) {
            hg_config_read_error(r, &n->at, "%s", problem);
        }
    }
}

static bool is_token(const char *text)
{
    static const char letters[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    return text[0] != '\0' && text[strspn(text, letters)] == '\0';
}

/* What a request says by itself, or the message does. */
static bool is_own_header(struct hg_bytes name)
{
    static const char *const own[] = {
        "Host",         "Content-Length", "Transfer-Encoding", "Connection",       "Expect",
        "Content-Type", "webhook-id",     "webhook-timestamp", "webhook-signature"};
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        if (hg_bytes_eq_nocase(name, hg_bytes_str(own[i]))) {
            return true;
        }
    }
    return false;
}

static const char *header_problem(const struct hg_config_node *h)
{
    if (!is_token(h->key)) {
        return "is no name of an HTTP header";
    }
    if (is_own_header(hg_bytes_str(h->key))) {
        return "is set by the request itself";
    }
    for (size_t i = 0; i < h->u.string.n; i++) {
        if ((uint8_t)h->u.string.p[i] < ' ' || h->u.string.p[i] == 0x7f) {
            return "holds a control character";
        }
    }
    return NULL;
}

static void read_headers(struct hg_config_reader *r, const struct hg_config_node *node, void *into)
{
    struct hg_webhook_spec *spec = into;
    if (hg_config_read_kind(r, node, HG_CONFIG_TABLE) == NULL || node->u.first == NULL) {
        return;
    }
    const char **lines =
        hg_config_arena_get(&r->arena, hg_config_tree_n(node) * sizeof(const char *));
    for (const struct hg_config_node *h = node->u.first; h != NULL && lines != NULL; h = h->next) {
        if (hg_config_read_kind(r, h, HG_CONFIG_STRING) == NULL) {
            continue;
        }
        const char *problem = header_problem(h);
        if (problem != NULL) {
            hg_config_read_error(r, &h->key_at, "\"%s\" %s", h->key, problem);
            continue;
        }
        /* libcurl's way to say a header without a value is a semicolon */
        lines[spec->headers_n++] =
            h->u.string.n == 0 ? hg_config_arena_printf(&r->arena, "%s;", h->key)
                               : hg_config_arena_printf(&r->arena, "%s: %s", h->key, h->u.string.p);
    }
    spec->headers = lines;
}

static void set_delays(struct hg_webhook_spec *spec, uint64_t *delays_ms, size_t n)
{
    spec->delays_ms = delays_ms;
    spec->delays_n = n;
}

static void read_delays(struct hg_config_reader *r, const struct hg_config_node *node, void *into)
{
    static const uint64_t preset[] = {MS_PER_MIN, 5 * MS_PER_MIN, 15 * MS_PER_MIN, MS_PER_HOUR,
                                      4 * MS_PER_HOUR};
    struct hg_webhook_spec *spec = into;
    size_t n = 0;
    const char *const *texts = node == NULL ? NULL : hg_config_read_texts(r, node, &n);
    uint64_t *delays = hg_config_arena_get(&r->arena, sizeof(preset) + n * sizeof(uint64_t));
    if (delays == NULL) {
        return;
    }
    if (node == NULL) {
        memcpy(delays, preset, sizeof(preset));
        set_delays(spec, delays, sizeof(preset) / sizeof(preset[0]));
        return;
    }
    if (n == 0 || n > DELAYS_MAX) {
        hg_config_read_error(r, &node->at, "delay_steps are 1 to %d durations", DELAYS_MAX);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (!hg_config_value_duration(texts[i], &delays[i]) || delays[i] == 0 ||
            delays[i] > DELAY_MAX_MS || (i > 0 && delays[i] <= delays[i - 1])) {
            hg_config_read_error(r, &node->at,
                                 "delay_steps are durations that rise, such as [\"1m\", \"5m\"], "
                                 "of 168h at most");
            return;
        }
    }
    set_delays(spec, delays, n);
}

static void read_order(struct hg_config_reader *r, const struct hg_config_node *node, void *into)
{
    static const char prefix[] = "header:";
    struct hg_webhook_spec *spec = into;
    if (hg_config_read_kind(r, node, HG_CONFIG_STRING) == NULL) {
        return;
    }
    const char *text = node->u.string.p;
    if (strcmp(text, "routing_key") == 0) {
        spec->order = HG_WEBHOOK_BY_ROUTING_KEY;
    } else if (strncmp(text, prefix, strlen(prefix)) == 0 && text[strlen(prefix)] != '\0') {
        spec->order = HG_WEBHOOK_BY_HEADER;
        spec->order_header = text + strlen(prefix);
    } else if (strcmp(text, "none") != 0) {
        hg_config_read_error(r, &node->at,
                             "order_by must be \"none\", \"routing_key\" or \"header:NAME\"");
    }
}

static void read_allow(struct hg_config_reader *r, const struct hg_config_node *node, void *into)
{
    struct hg_webhook_spec *spec = into;
    size_t n = 0;
    const char *const *texts = node == NULL ? NULL : hg_config_read_texts(r, node, &n);
    struct hg_inet_net *nets =
        n == 0 ? NULL : hg_config_arena_get(&r->arena, n * sizeof(struct hg_inet_net));
    for (size_t i = 0; i < n && nets != NULL; i++) {
        if (!hg_inet_net_parse(texts[i], &nets[i])) {
            hg_config_read_error(r, &node->at,
                                 "allow: \"%s\" is no network such as \"127.0.0.0/8\" or \"::1\"",
                                 texts[i]);
        }
    }
    spec->allowed = nets;
    spec->allowed_n = nets == NULL ? 0 : n;
}

/* ---- The table ---- */

/* clang-format off */
#define MEMBER(name) HG_CONFIG_MEMBER(hg_webhook_spec, name)

static const struct hg_config_field tls_fields[] = {
    {.key = "ca",   .kind = HG_READ_TEXT, MEMBER(ca), .min = 1},
    {.key = "cert", .kind = HG_READ_TEXT, MEMBER(cert), .min = 1},
    {.key = "key",  .kind = HG_READ_TEXT, MEMBER(key), .min = 1},
    {.key = NULL},
};

const struct hg_config_field hg_config_schema_webhook[] = {
    {.key = "name",             .kind = HG_READ_TEXT,     MEMBER(name), .min = 1, .max = NAME_MAX_BYTES, .is_required = true},
    {.key = "url",              .kind = HG_READ_OTHER,    .read = read_url, .is_required = true},
    {.key = "vhost",            .kind = HG_READ_VHOST,    MEMBER(vhost)},
    {.key = "queue",            .kind = HG_READ_TEXT,     MEMBER(queue), .min = 1, .max = SHORT_MAX},
    {.key = "filter",           .kind = HG_READ_TEXT,     MEMBER(filter), .min = 1, .max = 65535},
    {.key = "secrets",          .kind = HG_READ_OTHER,    .read = read_secrets},
    {.key = "headers",          .kind = HG_READ_OTHER,    .read = read_headers},
    {.key = "tls",              .kind = HG_READ_TABLE,    .fields = tls_fields},
    {.key = "concurrency",      .kind = HG_READ_NUMBER,   MEMBER(concurrency), .preset = "8", .min = 1, .max = 1000},
    {.key = "prefetch",         .kind = HG_READ_NUMBER,   MEMBER(prefetch), .preset = "64", .min = 1, .max = 1000},
    {.key = "timeout",          .kind = HG_READ_DURATION, MEMBER(timeout_ms), .preset = "15s", .min = 100, .max = 5 * MS_PER_MIN},
    {.key = "max_attempts",     .kind = HG_READ_NUMBER,   MEMBER(max_attempts), .preset = "12", .min = 1, .max = 1000},
    {.key = "retry_first",      .kind = HG_READ_DURATION, MEMBER(first_ms), .preset = "1s", .min = 1, .max = MS_PER_HOUR},
    {.key = "retry_max",        .kind = HG_READ_DURATION, MEMBER(most_ms), .preset = "4h", .min = 1, .max = DELAY_MAX_MS},
    {.key = "max_hold",         .kind = HG_READ_DURATION, MEMBER(max_hold_ms), .preset = "1m", .min = 1, .max = 5 * MS_PER_MIN},
    {.key = "max_ack_wait",     .kind = HG_READ_DURATION, MEMBER(max_ack_wait_ms), .preset = "10m", .min = MS_PER_S, .max = ACK_WAIT_MAX_MS},
    {.key = "delay_steps",      .kind = HG_READ_OTHER,    .read = read_delays},
    {.key = "dead_letter_exchange", .kind = HG_READ_TEXT, MEMBER(dead_exchange), .max = SHORT_MAX},
    {.key = "dead_letter_key",  .kind = HG_READ_TEXT,     MEMBER(dead_key), .max = SHORT_MAX},
    {.key = "order_by",         .kind = HG_READ_OTHER,    .read = read_order},
    {.key = "breaker_failures", .kind = HG_READ_NUMBER,   MEMBER(breaker_failures), .preset = "20", .max = 1000000},
    {.key = "breaker_pause",    .kind = HG_READ_DURATION, MEMBER(breaker_pause_ms), .preset = "30s", .min = 1, .max = MS_PER_HOUR},
    {.key = "allow",            .kind = HG_READ_OTHER,    .read = read_allow},
    {.key = "allow_private",    .kind = HG_READ_BOOLEAN,  MEMBER(allows_private), .preset = "true"},
    {.key = "max_answer",       .kind = HG_READ_SIZE,     MEMBER(max_answer_bytes), .preset = "64KiB", .min = 1024, .max = 64 << 20},
    {.key = NULL},
};
/* clang-format on */

/* ---- What holds between keys ---- */

static void check_source(struct hg_config_reader *r, const struct hg_config_node *element,
                         const struct hg_webhook_spec *spec)
{
    static const struct hg_topic_limits limits = {HG_TOPIC_MAX_BYTES, HG_TOPIC_MAX_LEVELS};
    const struct hg_config_node *filter = hg_config_tree_find(element, "filter");
    if ((hg_config_tree_find(element, "queue") == NULL) == (filter == NULL)) {
        hg_config_read_error(r, &element->at, "a webhook has a queue or a filter, one of them");
    }
    if (filter == NULL || spec->filter == NULL) {
        return;
    }
    const char *problem = hg_topic_check_filter(hg_bytes_str(spec->filter), &limits);
    if (problem != NULL) {
        hg_config_read_error(r, &filter->at, "filter %s", problem);
    } else if (spec->filter[0] == '$') {
        hg_config_read_error(r, &filter->at,
                             "addresses that begin with $ are Headgate's own; instances share a "
                             "webhook's queue without $share");
    }
}

static void check_tls(struct hg_config_reader *r, const struct hg_config_node *element,
                      const struct hg_webhook_spec *spec)
{
    const struct hg_config_node *tls = hg_config_tree_find(element, "tls");
    if (tls == NULL || tls->kind != HG_CONFIG_TABLE || spec->url == NULL) {
        return;
    }
    if (!spec->is_tls) {
        hg_config_read_error(r, &tls->key_at, "tls belongs to a url that begins with https://");
    }
    if ((spec->cert == NULL) != (spec->key == NULL)) {
        hg_config_read_error(r, &tls->at, "cert and key go together");
    }
    hg_config_schema_check_file(r, tls, "ca", spec->ca);
    hg_config_schema_check_file(r, tls, "cert", spec->cert);
    hg_config_schema_check_file(r, tls, "key", spec->key);
}

bool hg_webhook_spec_allows(const struct hg_webhook_spec *spec, const struct hg_inet *address)
{
    for (size_t i = 0; i < spec->allowed_n; i++) {
        if (hg_inet_is_in(address, &spec->allowed[i])) {
            return true;
        }
    }
    enum hg_inet_kind kind = hg_inet_kind(address);
    return kind == HG_INET_PUBLIC || (kind == HG_INET_PRIVATE && spec->allows_private);
}

/* An address written out is known to be refused before the first message is. */
static void check_address(struct hg_config_reader *r, const struct hg_config_node *element,
                          const struct hg_webhook_spec *spec)
{
    struct hg_inet address;
    if (spec->host != NULL && hg_inet_parse(spec->host, &address) &&
        !hg_webhook_spec_allows(spec, &address)) {
        hg_config_read_error(r, &hg_config_schema_or_table(element, "url")->at,
                             "url names %s, which has to be in allow",
                             hg_inet_kind_text(hg_inet_kind(&address)));
    }
}

static void check_times(struct hg_config_reader *r, const struct hg_config_node *element,
                        const struct hg_webhook_spec *spec)
{
    if (spec->first_ms > spec->most_ms) {
        hg_config_read_error(r, &hg_config_schema_or_table(element, "retry_first")->at,
                             "retry_first must not be more than retry_max");
    }
    if (spec->prefetch < spec->concurrency) {
        hg_config_read_error(r, &hg_config_schema_or_table(element, "prefetch")->at,
                             "prefetch must not be less than concurrency");
    }
    if (spec->max_hold_ms > spec->max_ack_wait_ms) {
        hg_config_read_error(r, &hg_config_schema_or_table(element, "max_hold")->at,
                             "max_hold must not be more than max_ack_wait");
    }
}

void hg_config_schema_check_webhook(struct hg_config_reader *r,
                                    const struct hg_config_node *element, void *into)
{
    struct hg_webhook_spec *spec = into;
    spec->where = hg_config_read_where(r, &element->at);
    if (!HG_HAS_WEBHOOK) {
        hg_config_read_error(r, &element->at, "this Headgate was built without webhooks");
    }
    if (spec->name != NULL && !hg_config_schema_is_name(spec->name)) {
        hg_config_read_error(r, &hg_config_schema_or_table(element, "name")->at,
                             "name holds letters, digits, and . _ - only");
    }
    if (spec->dead_key != NULL && spec->dead_exchange == NULL) {
        hg_config_read_error(r, &hg_config_schema_or_table(element, "dead_letter_key")->key_at,
                             "dead_letter_key needs a dead_letter_exchange; \"\" is RabbitMQ's "
                             "default one, whose keys are queues");
    }
    if (spec->dead_exchange != NULL && spec->dead_exchange[0] == '\0' &&
        (spec->dead_key == NULL || spec->dead_key[0] == '\0')) {
        hg_config_read_error(r, &hg_config_schema_or_table(element, "dead_letter_exchange")->at,
                             "the default exchange needs a dead_letter_key, the queue's name");
    }
    if (spec->order != HG_WEBHOOK_UNORDERED &&
        hg_config_tree_find(element, "delay_steps") != NULL) {
        hg_config_read_error(r, &hg_config_tree_find(element, "delay_steps")->key_at,
                             "an ordered webhook has no delay queues: others would overtake");
    }
    check_source(r, element, spec);
    check_tls(r, element, spec);
    check_address(r, element, spec);
    check_times(r, element, spec);
}
