/* SPDX-License-Identifier: Apache-2.0 */
/* The connection: handshake, heartbeats, blocked, its end; methods of channel 0 (AMQP 0-9-1 section
 * 1.4). */
#include "amqp/amqp_conn.h"

#include "amqp/amqp_priv.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    HANDSHAKE_MS = 10000,
    CLOSE_MS = 5000,
    SILENT_INTERVALS = 2, /* of the heartbeat, after which the peer is taken for dead */
    POOL_PAGE_BYTES = 4096,
    TAKEN_MAX = 64 * 1024,
    POOL_PAGES_KEPT = 16 /* one large message must not cost memory for ever */
};

/* -- ending ----------------------------------------------------------------------------------- */

void hg_amqp_conn_end(struct hg_amqp_conn *c, const struct hg_amqp_close *why)
{
    if (c->state == HG_AMQP_ENDED) {
        return;
    }
    c->state = HG_AMQP_ENDED;
    c->deadline_ms = 0;
    c->why = *why;
    size_t n = why->text.n < sizeof c->why_text ? why->text.n : sizeof c->why_text;
    if (n > 0) {
        memmove(c->why_text, why->text.p, n);
    }
    c->why.text = hg_bytes(c->why_text, n);
}

static void end_with(struct hg_amqp_conn *c, enum hg_status status, const char *text)
{
    hg_amqp_conn_end(c, &(struct hg_amqp_close){.status = status, .text = hg_bytes_str(text)});
}

void hg_amqp_conn_end_no_memory(struct hg_amqp_conn *c)
{
    end_with(c, HG_NO_MEMORY, "out of memory");
}

static void enter(struct hg_amqp_conn *c)
{
    c->depth++;
}

/* Only the outermost call tells the end: an ops function never sees on_close from inside its own
 * doing. */
static void leave(struct hg_amqp_conn *c)
{
    if (c->depth == 1 && c->state == HG_AMQP_ENDED && !c->has_told) {
        c->has_told = true;
        c->ops->on_close(c->ctx, &c->why);
        hg_amqp_channels_free(c);
    }
    c->depth--;
}

/* -- sending ---------------------------------------------------------------------------------- */

static void recycle(amqp_pool_t *pool)
{
    if (pool->pages.num_blocks > POOL_PAGES_KEPT) {
        empty_amqp_pool(pool);
    } else {
        recycle_amqp_pool(pool);
    }
}

enum hg_status hg_amqp_conn_sent(struct hg_amqp_conn *c, size_t n_before, enum hg_status status)
{
    if (status == HG_OK && c->out.failed) {
        status = HG_NO_MEMORY;
    }
    recycle(&c->out_pool);
    if (status != HG_OK) {
        hg_amqp_rollback(&c->out, n_before);
    } else if (n_before == 0) {
        c->ops->on_output(c->ctx);
    }
    return status;
}

static enum hg_status send_always(struct hg_amqp_conn *c, uint16_t channel, amqp_method_number_t id,
                                  void *method)
{
    size_t n = hg_writer_n(&c->out);
    return hg_amqp_conn_sent(c, n,
                             hg_amqp_encode_method(&c->out, channel, id, method, c->frame_max));
}

enum hg_status hg_amqp_conn_send(struct hg_amqp_conn *c, uint16_t channel, amqp_method_number_t id,
                                 void *method)
{
    return c->state == HG_AMQP_OPEN ? send_always(c, channel, id, method) : HG_BROKER_AWAY;
}

void hg_amqp_conn_must_send(struct hg_amqp_conn *c, uint16_t channel, amqp_method_number_t id,
                            void *method)
{
    if (c->state != HG_AMQP_ENDED && send_always(c, channel, id, method) != HG_OK) {
        hg_amqp_conn_end_no_memory(c);
    }
}

void hg_amqp_conn_fail(struct hg_amqp_conn *c, uint16_t code, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (c->state == HG_AMQP_OPEN) {
        amqp_connection_close_t close = {.reply_code = code,
                                         .reply_text = amqp_cstring_bytes(text)};
        hg_amqp_conn_must_send(c, 0, AMQP_CONNECTION_CLOSE_METHOD, &close);
    }
    end_with(c, HG_PROTOCOL_ERROR, text);
}

/* librabbitmq 0.11 does not know these (RabbitMQ's extension; librabbitmq's names, later). */
#define UPDATE_SECRET    0x000A0046u
#define UPDATE_SECRET_OK 0x000A0047u

enum hg_status hg_amqp_conn_update_secret(struct hg_amqp_conn *c, struct hg_bytes secret)
{
    static const char reason[] = "renewed";
    enum { FRAME_BYTES = 8, FIXED_BYTES = 4 + 4 + 1 + sizeof(reason) - 1 };
    if (c->state != HG_AMQP_OPEN) {
        return HG_BROKER_AWAY;
    }
    if (secret.n > c->frame_max - FRAME_BYTES - FIXED_BYTES) {
        return HG_BAD_PROPERTY;
    }
    size_t n = hg_writer_n(&c->out);
    hg_writer_u8(&c->out, AMQP_FRAME_METHOD);
    hg_writer_u16(&c->out, 0);
    hg_writer_u32(&c->out, (uint32_t)(FIXED_BYTES + secret.n));
    hg_writer_u32(&c->out, UPDATE_SECRET);
    hg_writer_u32(&c->out, (uint32_t)secret.n);
    hg_writer_bytes(&c->out, secret);
    hg_writer_u8(&c->out, sizeof(reason) - 1);
    hg_writer_str(&c->out, reason);
    hg_writer_u8(&c->out, AMQP_FRAME_END);
    enum hg_status status = hg_amqp_conn_sent(c, n, HG_OK);
    c->secrets_n += status == HG_OK;
    return status;
}

bool hg_amqp_conn_awaits_secret(const struct hg_amqp_conn *c)
{
    return c->secrets_n > 0;
}

/* -- receiving -------------------------------------------------------------------------------- */

enum hg_status hg_amqp_status_of_code(uint16_t code, struct hg_bytes text, uint16_t class_id,
                                      uint16_t method_id)
{
    enum { CLASS_EXCHANGE = 40, BASIC_PUBLISH = 40 };
    switch (code) {
    case AMQP_NOT_FOUND:
        /* queue.bind may miss either: only RabbitMQ's text tells */
        if (hg_bytes_starts(text, HG_BYTES("NOT_FOUND - no exchange")) ||
            class_id == CLASS_EXCHANGE ||
            (class_id == AMQP_BASIC_CLASS && method_id == BASIC_PUBLISH)) {
            return HG_NO_EXCHANGE;
        }
        return HG_NO_QUEUE;
    case AMQP_ACCESS_REFUSED: return HG_NOT_ALLOWED;
    case AMQP_RESOURCE_LOCKED:
    case AMQP_PRECONDITION_FAILED:
    case AMQP_NOT_ALLOWED:
    case AMQP_NOT_IMPLEMENTED: return HG_REFUSED;
    case AMQP_CONNECTION_FORCED:
    case AMQP_INTERNAL_ERROR: return HG_BROKER_AWAY;
    default: return HG_PROTOCOL_ERROR;
    }
}

void *hg_amqp_conn_decode(struct hg_amqp_conn *c, struct hg_bytes payload)
{
    void *decoded = NULL;
    int res = amqp_decode_method(hg_amqp_method_id(payload), &c->in_pool,
                                 hg_amqp_bytes(hg_bytes_skip(payload, 4)), &decoded);
    if (res == AMQP_STATUS_NO_MEMORY) {
        hg_amqp_conn_end_no_memory(c);
    } else if (res != AMQP_STATUS_OK) {
        hg_amqp_conn_fail(c, AMQP_SYNTAX_ERROR, "RabbitMQ sent a malformed method 0x%08x",
                          (unsigned)hg_amqp_method_id(payload));
    } else {
        return decoded;
    }
    return NULL;
}

static bool has_word(struct hg_bytes words, struct hg_bytes word)
{
    while (words.n > 0) {
        size_t n = hg_bytes_index(words, ' ');
        if (hg_bytes_eq(hg_bytes(words.p, n), word)) {
            return true;
        }
        words = hg_bytes_skip(words, n < words.n ? n + 1 : n);
    }
    return false;
}

static struct hg_bytes server_property(const amqp_table_t *table, const char *name)
{
    for (int i = 0; i < table->num_entries; i++) {
        if (table->entries[i].value.kind == AMQP_FIELD_KIND_UTF8 &&
            hg_bytes_eq(hg_amqp_view(table->entries[i].key), hg_bytes_str(name))) {
            return hg_amqp_view(table->entries[i].value.value.bytes);
        }
    }
    return HG_BYTES("");
}

static void send_start_ok(struct hg_amqp_conn *c, struct hg_bytes mechanism)
{
    const struct hg_header properties[] = {
        {HG_BYTES("product"), {HG_VALUE_STRING, .u.bytes = HG_BYTES("Headgate")}},
        {HG_BYTES("version"), {HG_VALUE_STRING, .u.bytes = HG_BYTES(HG_VERSION)}},
        {HG_BYTES("platform"), {HG_VALUE_STRING, .u.bytes = HG_BYTES("C")}},
        {HG_BYTES("capabilities"),
         {HG_VALUE_JSON,
          .u.bytes = HG_BYTES("{\"publisher_confirms\":true,\"consumer_cancel_notify\":true,"
                              "\"basic.nack\":true,\"connection.blocked\":true,"
                              "\"authentication_failure_close\":true,"
                              "\"exchange_exchange_bindings\":true,\"per_consumer_qos\":true}")}},
        {HG_BYTES("connection_name"), {HG_VALUE_STRING, .u.bytes = hg_bytes_str(c->name)}},
    };
    struct hg_writer response = {.is_secret = true};
    if (!c->is_external) {
        hg_writer_u8(&response, 0);
        hg_writer_str(&response, c->user);
        hg_writer_u8(&response, 0);
        hg_writer_str(&response, c->password);
    }
    amqp_connection_start_ok_t ok = {.mechanism = hg_amqp_bytes(mechanism),
                                     .response = hg_amqp_bytes(hg_writer_view(&response)),
                                     .locale = amqp_cstring_bytes("en_US")};
    size_t n = sizeof properties / sizeof properties[0];
    if (response.failed ||
        hg_amqp_table_make(&c->out_pool, properties, n, &ok.client_properties) != HG_OK) {
        hg_amqp_conn_end_no_memory(c);
    } else {
        hg_amqp_conn_must_send(c, 0, AMQP_CONNECTION_START_OK_METHOD, &ok);
    }
    hg_writer_close(&response);
}

static void on_start(struct hg_amqp_conn *c, struct hg_bytes payload)
{
    size_t table_n;
    if (payload.n < 6 ||
        hg_amqp_table_check(hg_bytes_skip(payload, 6), &table_n) != HG_AMQP_TABLE_SOUND) {
        end_with(c, HG_PROTOCOL_ERROR, "RabbitMQ sent malformed server properties");
        return;
    }
    const amqp_connection_start_t *start = hg_amqp_conn_decode(c, payload);
    if (start == NULL) {
        return;
    }
    struct hg_bytes product = server_property(&start->server_properties, "product");
    struct hg_bytes version = server_property(&start->server_properties, "version");
    (void)snprintf(c->server, sizeof c->server, "%.*s %.*s", HG_BYTES_FMT(product),
                   HG_BYTES_FMT(version));
    struct hg_bytes mechanism = c->is_external ? HG_BYTES("EXTERNAL") : HG_BYTES("PLAIN");
    struct hg_bytes offered = hg_amqp_view(start->mechanisms);
    if (!has_word(offered, mechanism)) {
        char text[256];
        (void)snprintf(text, sizeof text,
                       "RabbitMQ does not offer the login mechanism %s, only %.*s",
                       (const char *)mechanism.p, (int)(offered.n < 128 ? offered.n : 128),
                       (const char *)offered.p);
        end_with(c, HG_BAD_LOGIN, text);
        return;
    }
    c->state = HG_AMQP_WAIT_TUNE;
    send_start_ok(c, mechanism);
}

static void on_secure(struct hg_amqp_conn *c, struct hg_bytes payload)
{
    (void)payload;
    end_with(c, HG_BAD_LOGIN,
             "RabbitMQ asks for a further login step, which PLAIN and EXTERNAL do not have");
}

/* 0 means no limit (connection.tune). */
static uint32_t lower(uint32_t ours, uint32_t theirs)
{
    return theirs == 0 || ours < theirs ? ours : theirs;
}

static void on_tune(struct hg_amqp_conn *c, struct hg_bytes payload)
{
    const amqp_connection_tune_t *tune = hg_amqp_conn_decode(c, payload);
    if (tune == NULL) {
        return;
    }
    c->frame_max = lower(c->frame_max, tune->frame_max);
    c->channel_max = (uint16_t)lower(c->channel_max, tune->channel_max);
    c->heartbeat_s = (uint16_t)lower(c->heartbeat_s, tune->heartbeat);
    if (c->frame_max < AMQP_FRAME_MIN_SIZE) {
        end_with(c, HG_PROTOCOL_ERROR, "RabbitMQ asks for a frame-max below 4096 bytes");
        return;
    }
    c->in.frame_max = c->frame_max;
    c->state = HG_AMQP_WAIT_OPEN_OK;
    amqp_connection_tune_ok_t ok = {
        .channel_max = c->channel_max, .frame_max = c->frame_max, .heartbeat = c->heartbeat_s};
    amqp_connection_open_t open = {.virtual_host = amqp_cstring_bytes(c->vhost), .insist = 1};
    hg_amqp_conn_must_send(c, 0, AMQP_CONNECTION_TUNE_OK_METHOD, &ok);
    hg_amqp_conn_must_send(c, 0, AMQP_CONNECTION_OPEN_METHOD, &open);
}

static void on_open_ok(struct hg_amqp_conn *c, struct hg_bytes payload)
{
    (void)payload;
    c->state = HG_AMQP_OPEN;
    c->deadline_ms = 0;
    c->ops->on_open(c->ctx);
}

static void on_blocked(struct hg_amqp_conn *c, struct hg_bytes payload)
{
    const amqp_connection_blocked_t *blocked = hg_amqp_conn_decode(c, payload);
    if (blocked != NULL) {
        c->ops->on_blocked(c->ctx, true, hg_amqp_view(blocked->reason));
    }
}

static void on_unblocked(struct hg_amqp_conn *c, struct hg_bytes payload)
{
    (void)payload;
    c->ops->on_blocked(c->ctx, false, HG_BYTES(""));
}

/* RabbitMQ's reason, and during the handshake what it was that it refused. */
static void end_by_peer(struct hg_amqp_conn *c, const amqp_connection_close_t *close)
{
    struct hg_bytes reason = hg_amqp_view(close->reply_text);
    struct hg_amqp_close why = {
        .status =
            hg_amqp_status_of_code(close->reply_code, reason, close->class_id, close->method_id),
        .code = close->reply_code,
        .text = reason,
        .class_id = close->class_id,
        .method_id = close->method_id,
    };
    char text[sizeof c->why_text];
    int n = -1;
    if (c->state == HG_AMQP_WAIT_TUNE && close->reply_code == AMQP_ACCESS_REFUSED) {
        why.status = HG_BAD_LOGIN;
        n = snprintf(text, sizeof text, "RabbitMQ refused the login of user \"%.64s\": %.*s",
                     c->user, HG_BYTES_FMT(reason));
    } else if (c->state == HG_AMQP_WAIT_OPEN_OK && why.status == HG_REFUSED) {
        n = snprintf(text, sizeof text, "RabbitMQ refused virtual host \"%.128s\": %.*s", c->vhost,
                     HG_BYTES_FMT(reason));
    }
    if (n >= 0) {
        why.text = hg_bytes_str(text);
    }
    hg_amqp_conn_end(c, &why);
}

static void on_close(struct hg_amqp_conn *c, struct hg_bytes payload)
{
    const amqp_connection_close_t *close = hg_amqp_conn_decode(c, payload);
    if (close == NULL) {
        return;
    }
    amqp_connection_close_ok_t ok = {0};
    hg_amqp_conn_must_send(c, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
    if (c->state == HG_AMQP_WAIT_CLOSE_OK) {
        end_with(c, HG_CLOSED, "closed"); /* both asked at once: as good as close-ok */
    }
    end_by_peer(c, close);
}

static void on_secret_ok(struct hg_amqp_conn *c, struct hg_bytes payload)
{
    (void)payload;
    if (c->secrets_n == 0) {
        hg_amqp_conn_fail(c, AMQP_COMMAND_INVALID, "RabbitMQ took a secret that it was not given");
        return;
    }
    c->secrets_n--;
    if (c->ops->on_secret != NULL) {
        c->ops->on_secret(c->ctx);
    }
}

static void on_close_ok(struct hg_amqp_conn *c, struct hg_bytes payload)
{
    (void)payload;
    end_with(c, HG_CLOSED, "closed");
}

#define IN(state) (1u << HG_AMQP_##state)
static const struct conn_method {
    amqp_method_number_t id;
    unsigned states; /* in which it may come */
    void (*handle)(struct hg_amqp_conn *c, struct hg_bytes payload);
} methods[] = {
    {AMQP_CONNECTION_START_METHOD, IN(WAIT_START), on_start},
    {AMQP_CONNECTION_SECURE_METHOD, IN(WAIT_TUNE), on_secure},
    {AMQP_CONNECTION_TUNE_METHOD, IN(WAIT_TUNE), on_tune},
    {AMQP_CONNECTION_OPEN_OK_METHOD, IN(WAIT_OPEN_OK), on_open_ok},
    {AMQP_CONNECTION_BLOCKED_METHOD, IN(OPEN), on_blocked},
    {AMQP_CONNECTION_UNBLOCKED_METHOD, IN(OPEN), on_unblocked},
    {UPDATE_SECRET_OK, IN(OPEN), on_secret_ok},
    {AMQP_CONNECTION_CLOSE_METHOD,
     IN(WAIT_START) | IN(WAIT_TUNE) | IN(WAIT_OPEN_OK) | IN(OPEN) | IN(WAIT_CLOSE_OK), on_close},
    {AMQP_CONNECTION_CLOSE_OK_METHOD, IN(WAIT_CLOSE_OK), on_close_ok},
};

static void handle_method(struct hg_amqp_conn *c, struct hg_bytes payload)
{
    amqp_method_number_t id = hg_amqp_method_id(payload);
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (methods[i].id == id && (methods[i].states & 1u << c->state) != 0) {
            methods[i].handle(c, payload);
            return;
        }
    }
    if (c->state != HG_AMQP_WAIT_CLOSE_OK) {
        hg_amqp_conn_fail(c, AMQP_COMMAND_INVALID, "RabbitMQ sent method 0x%08x out of turn",
                          (unsigned)id);
    }
}

static void handle_frame(struct hg_amqp_conn *c, const struct hg_amqp_frame *frame)
{
    if (frame->type == AMQP_FRAME_HEARTBEAT) {
        return; /* that it came is all it says */
    }
    if (frame->channel != 0) {
        if (c->state == HG_AMQP_OPEN) {
            hg_amqp_channel_frame(c, frame);
        } else if (c->state != HG_AMQP_WAIT_CLOSE_OK) {
            hg_amqp_conn_fail(c, AMQP_CHANNEL_ERROR,
                              "RabbitMQ used a channel during the handshake");
        }
    } else if (frame->type == AMQP_FRAME_METHOD) {
        handle_method(c, frame->payload);
    } else {
        hg_amqp_conn_fail(c, AMQP_UNEXPECTED_FRAME, "RabbitMQ sent content on channel 0");
    }
}

/* -- the interface ---------------------------------------------------------------------------- */

/* RabbitMQ has it, or the connection has ended. */
static void forget_password(struct hg_amqp_conn *c)
{
    if (c->password != NULL) {
        hg_forget(c->password, strlen(c->password));
    }
    hg_free(c->password);
    c->password = NULL;
}

static bool copy_config(struct hg_amqp_conn *c, const struct hg_amqp_conn_config *config)
{
    enum { FRAME_MAX_MOST = 1 << 24 };
    c->is_external = config->is_external;
    c->heartbeat_s = config->heartbeat_s;
    c->channel_max = config->channel_max == 0 ? UINT16_MAX : config->channel_max;
    c->max_body_bytes = config->max_body_bytes;
    c->frame_max = config->frame_max;
    if (c->frame_max < AMQP_FRAME_MIN_SIZE) {
        c->frame_max = AMQP_FRAME_MIN_SIZE;
    } else if (c->frame_max > FRAME_MAX_MOST) {
        c->frame_max = FRAME_MAX_MOST;
    }
    c->vhost = hg_strdup(config->vhost);
    c->user = hg_strdup(config->user == NULL ? "" : config->user);
    c->password = hg_strdup(config->password == NULL ? "" : config->password);
    c->name = hg_strdup(config->name == NULL ? "" : config->name);
    return c->vhost != NULL && c->user != NULL && c->password != NULL && c->name != NULL;
}

struct hg_amqp_conn *hg_amqp_conn_new(const struct hg_amqp_conn_config *config,
                                      const struct hg_amqp_conn_ops *ops, void *ctx)
{
    struct hg_amqp_conn *c = hg_zalloc(sizeof *c);
    if (c == NULL) {
        return NULL;
    }
    c->ops = ops;
    c->ctx = ctx;
    c->free_hint = 1;
    init_amqp_pool(&c->in_pool, POOL_PAGE_BYTES);
    init_amqp_pool(&c->out_pool, POOL_PAGE_BYTES);
    if (!copy_config(c, config)) {
        hg_amqp_conn_free(c);
        return NULL;
    }
    /* server-properties come before any limit is agreed on, and may be over the least that both
     * must take */
    c->in.frame_max =
        c->frame_max < AMQP_DEFAULT_FRAME_SIZE ? AMQP_DEFAULT_FRAME_SIZE : c->frame_max;
    return c;
}

void hg_amqp_conn_free(struct hg_amqp_conn *c)
{
    if (c == NULL) {
        return;
    }
    HG_CHECK(c->depth == 0);
    hg_amqp_channels_free(c);
    hg_amqp_decoder_close(&c->in);
    hg_writer_close(&c->out);
    hg_writer_close(&c->json);
    empty_amqp_pool(&c->in_pool);
    empty_amqp_pool(&c->out_pool);
    hg_free(c->vhost);
    hg_free(c->user);
    forget_password(c);
    hg_free(c->name);
    hg_free(c);
}

void hg_amqp_conn_start(struct hg_amqp_conn *c, uint64_t now_ms)
{
    HG_CHECK(c->state == HG_AMQP_NEW);
    c->now_ms = c->heard_ms = c->taken_ms = now_ms;
    c->deadline_ms = now_ms + HANDSHAKE_MS;
    c->state = HG_AMQP_WAIT_START;
    hg_writer_bytes(&c->out, HG_BYTES("AMQP\x00\x00\x09\x01"));
    if (hg_amqp_conn_sent(c, 0, HG_OK) != HG_OK) {
        hg_amqp_conn_end_no_memory(c);
    }
}

void hg_amqp_conn_feed(struct hg_amqp_conn *c, struct hg_bytes in, uint64_t now_ms)
{
    HG_CHECK(c->depth == 0); /* bytes cannot come from inside an ops function */
    enter(c);
    c->now_ms = now_ms;
    c->heard_ms = in.n > 0 ? now_ms : c->heard_ms;
    while (c->state != HG_AMQP_ENDED && c->state != HG_AMQP_NEW) {
        struct hg_amqp_frame frame;
        struct hg_error err;
        enum hg_amqp_step step = hg_amqp_decoder_next(&c->in, &in, &frame, &err);
        if (step == HG_AMQP_STEP_MORE) {
            break;
        }
        if (step == HG_AMQP_STEP_FRAME) {
            handle_frame(c, &frame);
            recycle(&c->in_pool);
        } else if (err.status == HG_NO_MEMORY) {
            hg_amqp_conn_end_no_memory(c);
        } else {
            hg_amqp_conn_fail(c, AMQP_FRAME_ERROR, "%s", err.rule);
        }
    }
    leave(c);
}

static bool has_heartbeat(const struct hg_amqp_conn *c)
{
    return c->heartbeat_s > 0 && (c->state == HG_AMQP_OPEN || c->state == HG_AMQP_WAIT_CLOSE_OK);
}

static void check_deadlines(struct hg_amqp_conn *c)
{
    if (c->deadline_ms != 0 && c->now_ms >= c->deadline_ms) {
        if (c->state == HG_AMQP_WAIT_CLOSE_OK) {
            end_with(c, HG_CLOSED, "RabbitMQ did not answer connection.close within 5 s");
        } else {
            end_with(c, HG_BROKER_AWAY, "the server did not finish the AMQP handshake within 10 s");
        }
    } else if (has_heartbeat(c) &&
               c->now_ms - c->heard_ms >= (uint64_t)c->heartbeat_s * 1000 * SILENT_INTERVALS) {
        char text[64];
        (void)snprintf(text, sizeof text, "nothing was heard from RabbitMQ for %d s",
                       c->heartbeat_s * SILENT_INTERVALS);
        end_with(c, HG_BROKER_AWAY, text);
    }
}

/* Half an interval after the last output, so that one lost tick does no harm. */
static uint64_t heartbeat_due_ms(const struct hg_amqp_conn *c)
{
    return c->taken_ms + (uint64_t)c->heartbeat_s * 500;
}

uint64_t hg_amqp_conn_tick(struct hg_amqp_conn *c, uint64_t now_ms)
{
    enter(c);
    c->now_ms = now_ms;
    check_deadlines(c);
    uint64_t next_ms = c->deadline_ms == 0 ? UINT64_MAX : c->deadline_ms;
    if (has_heartbeat(c)) {
        if (now_ms >= heartbeat_due_ms(c) && hg_writer_n(&c->out) == 0) {
            hg_amqp_encode_heartbeat(&c->out);
            if (hg_amqp_conn_sent(c, 0, HG_OK) != HG_OK) {
                hg_amqp_conn_end_no_memory(c);
            }
        }
        uint64_t half_ms = (uint64_t)c->heartbeat_s * 500;
        uint64_t send_ms = heartbeat_due_ms(c) > now_ms ? heartbeat_due_ms(c) : now_ms + half_ms;
        uint64_t dead_ms = c->heard_ms + half_ms * 2 * SILENT_INTERVALS;
        next_ms = send_ms < next_ms ? send_ms : next_ms;
        next_ms = dead_ms < next_ms ? dead_ms : next_ms;
    }
    leave(c);
    return next_ms;
}

struct hg_buf *hg_amqp_conn_take_output(struct hg_amqp_conn *c)
{
    if (hg_writer_n(&c->out) == 0) {
        return NULL;
    }
    c->taken_ms = c->now_ms; /* may be a little old: heartbeats are rather early than late */
    c->taken_n = hg_writer_n(&c->out) < TAKEN_MAX ? hg_writer_n(&c->out) : TAKEN_MAX;
    return hg_writer_take(&c->out);
}

size_t hg_amqp_conn_output_n(const struct hg_amqp_conn *c)
{
    return hg_writer_n(&c->out);
}

void hg_amqp_conn_close(struct hg_amqp_conn *c, uint64_t now_ms)
{
    enter(c);
    c->now_ms = now_ms;
    if (c->state == HG_AMQP_OPEN) {
        c->state = HG_AMQP_WAIT_CLOSE_OK;
        c->deadline_ms = now_ms + CLOSE_MS;
        amqp_connection_close_t close = {.reply_code = AMQP_REPLY_SUCCESS,
                                         .reply_text = amqp_cstring_bytes("closed by the gateway")};
        hg_amqp_conn_must_send(c, 0, AMQP_CONNECTION_CLOSE_METHOD, &close);
    } else if (c->state != HG_AMQP_WAIT_CLOSE_OK) {
        end_with(c, HG_CLOSED, "closed before it was open");
    }
    leave(c);
}

void hg_amqp_conn_lost(struct hg_amqp_conn *c, const char *why)
{
    enter(c);
    end_with(c, c->state == HG_AMQP_WAIT_CLOSE_OK ? HG_CLOSED : HG_BROKER_AWAY, why);
    leave(c);
}

bool hg_amqp_conn_is_open(const struct hg_amqp_conn *c)
{
    return c->state == HG_AMQP_OPEN;
}

static bool has_opened(const struct hg_amqp_conn *c)
{
    return c->state == HG_AMQP_OPEN || c->state == HG_AMQP_WAIT_CLOSE_OK;
}

uint32_t hg_amqp_conn_frame_max(const struct hg_amqp_conn *c)
{
    return has_opened(c) ? c->frame_max : 0;
}

uint16_t hg_amqp_conn_channel_max(const struct hg_amqp_conn *c)
{
    return has_opened(c) ? c->channel_max : 0;
}

uint16_t hg_amqp_conn_heartbeat_s(const struct hg_amqp_conn *c)
{
    return has_opened(c) ? c->heartbeat_s : 0;
}

struct hg_bytes hg_amqp_conn_server_version(const struct hg_amqp_conn *c)
{
    return has_opened(c) ? hg_bytes_str(c->server) : HG_BYTES("");
}
