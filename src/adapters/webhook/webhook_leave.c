/* SPDX-License-Identifier: Apache-2.0 */
/* What goes back to RabbitMQ: into a delay queue, from which it returns to where it was consumed, or
 * away as a dead letter. The copy is confirmed before the original is acknowledged. */
#include "adapters/webhook/webhook_priv.h"
#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>

enum {
    AGAIN_MS = 1000, /* until a publish that could not be made is tried again */
    MARKS_MAX = 9,   /* of ours; see make_marks */
    NAME_SIZE = 128,
    TTL_ARGUMENTS_N = 3
};

/* ---- Queues of its own ---- */

static size_t delays_n(const struct hg_webhook *h)
{
    return h->spec->order == HG_WEBHOOK_UNORDERED ? h->spec->delays_n : 0;
}

static bool has_dead_queue(const struct hg_webhook *h)
{
    return h->spec->dead_exchange == NULL;
}

/* The delay queues, and then the one for dead letters. */
size_t hg_webhook_own_queues_n(const struct hg_webhook *h)
{
    return delays_n(h) + has_dead_queue(h);
}

static struct hg_bytes queue_name(const struct hg_webhook *h, size_t i, char out[NAME_SIZE])
{
    int n = i < delays_n(h) ? snprintf(out, NAME_SIZE, "headgate.webhook.%s.delay.%llu",
                                       h->spec->name, (unsigned long long)h->spec->delays_ms[i])
                            : snprintf(out, NAME_SIZE, "headgate.webhook.%s.dead", h->spec->name);
    return hg_bytes(out, (size_t)n);
}

static struct hg_value text_value(struct hg_bytes text)
{
    return (struct hg_value){.kind = HG_VALUE_STRING, .u.bytes = text};
}

static struct hg_value number_value(uint64_t n)
{
    return (struct hg_value){.kind = HG_VALUE_INT, .u.i = n > INT64_MAX ? INT64_MAX : (int64_t)n};
}

enum hg_status hg_webhook_declare(struct hg_webhook *h, size_t i)
{
    char name[NAME_SIZE];
    bool is_delay = i < delays_n(h);
    const struct hg_header arguments[TTL_ARGUMENTS_N] = {
        {HG_BYTES("x-message-ttl"), number_value(is_delay ? h->spec->delays_ms[i] : 0)},
        {HG_BYTES("x-dead-letter-exchange"), text_value(HG_BYTES(""))},
        {HG_BYTES("x-dead-letter-routing-key"), text_value(h->source)},
    };
    const struct hg_queue_spec spec = {.name = queue_name(h, i, name),
                                       .is_durable = true,
                                       .arguments = arguments,
                                       .arguments_n = is_delay ? TTL_ARGUMENTS_N : 0};
    return hg_declare_queue(&h->session, &spec, i);
}

/* ---- The copy ---- */

static bool is_gateways_own(struct hg_bytes name)
{
    return hg_bytes_starts(name, HG_BYTES("x-headgate-")) &&
           !hg_bytes_starts(name, HG_BYTES(HG_WEBHOOK_HEADER));
}

/* Headers that a publish leaves out unless they are given as marks: those that the gateway set on
 * the original, and ours. */
static size_t make_marks(const struct hg_webhook *h, const struct hg_webhook_letter *letter,
                         struct hg_header *out)
{
    const struct hg_message *m = letter->message;
    const struct hg_properties *p = hg_message_properties(m);
    size_t n = 0;
    for (size_t i = 0; i < p->headers_n; i++) {
        if (is_gateways_own(p->headers[i].name) &&
            !hg_bytes_eq(p->headers[i].name, HG_BYTES("x-headgate-ms"))) {
            out[n++] = p->headers[i];
        }
    }
#define MARK(name, value) out[n++] = (struct hg_header){HG_BYTES(name), value}
    MARK(HG_WEBHOOK_HEADER, text_value(hg_bytes_str(h->spec->name)));
    MARK(HG_WEBHOOK_ATTEMPTS, number_value(letter->attempts));
    MARK(HG_WEBHOOK_ID, text_value(hg_bytes_str(letter->id)));
    MARK(HG_WEBHOOK_EXCHANGE, text_value(hg_webhook_exchange(h, m)));
    MARK(HG_WEBHOOK_KEY, text_value(hg_webhook_key(h, m)));
    if (letter->is_dead) {
        const char *why = letter->why_own == NULL ? "" : letter->why_own;
        MARK(HG_WEBHOOK_URL, text_value(hg_bytes_str(h->spec->origin)));
        MARK(HG_WEBHOOK_STATUS, number_value(letter->status));
        MARK(HG_WEBHOOK_ERROR, text_value(hg_bytes_str(why)));
        return n;
    }
    MARK(HG_WEBHOOK_DUE, number_value(hg_clock_wall_ms() + letter->pause_ms));
    if (letter->expires_ms != HG_WEBHOOK_NEVER) {
        MARK(HG_WEBHOOK_EXPIRES, number_value(letter->expires_ms));
    }
#undef MARK
    return n;
}

static enum hg_status publish(struct hg_webhook *h, const struct hg_webhook_letter *letter,
                              const char **why)
{
    char name[NAME_SIZE];
    const struct hg_message *m = letter->message;
    const struct hg_properties *p = hg_message_properties(m);
    struct hg_header *marks = hg_alloc((p->headers_n + MARKS_MAX) * sizeof(*marks));
    if (marks == NULL) {
        return HG_NO_MEMORY;
    }
    struct hg_publish_args args = {.properties = *p,
                                   .body = hg_message_body(m),
                                   .id = letter->number,
                                   .marks = marks,
                                   .marks_n = make_marks(h, letter, marks),
                                   .is_direct = true,
                                   .is_mandatory = true,
                                   .wants_outcome = true,
                                   .never_held = true};
    args.properties.expiration =
        hg_bytes(NULL, 0); /* in a header instead: it would end the delay */
    args.properties.delivery_mode = 2;
    if (!letter->is_dead) {
        size_t i = hg_webhook_delay(h->spec->delays_ms, h->spec->delays_n, letter->pause_ms);
        args.key = queue_name(h, i, name);
    } else if (has_dead_queue(h)) {
        args.key = queue_name(h, delays_n(h), name);
    } else {
        args.exchange = hg_bytes_str(h->spec->dead_exchange);
        args.key =
            h->spec->dead_key != NULL ? hg_bytes_str(h->spec->dead_key) : hg_webhook_key(h, m);
    }
    enum hg_status status = hg_publish(&h->session, &args, NULL, why);
    hg_free(marks);
    return status;
}

/* ---- Going, and what came of it ---- */

static void note_refusal(struct hg_webhook *h, const struct hg_webhook_letter *letter,
                         struct hg_bytes why)
{
    HG_LOG_LIMITED(h->worker->log, HG_LOG_ERROR, "webhook.refused", hg_bytes_str(h->spec->name),
                   HG_F_STR("webhook", h->spec->name),
                   HG_F_STR("way", letter->is_dead ? "dead letter" : "delay"),
                   HG_F_STR("id", letter->id), HG_F_BYTES("reason", why));
}

/* Nothing is given up for it: a dead letter is tried again, a delay that RabbitMQ can never take (the
 * message is too large for a publish) is spent in the gateway. */
static void not_now(struct hg_webhook *h, struct hg_webhook_letter *letter, enum hg_status status,
                    struct hg_bytes why)
{
    bool is_for_ever = status == HG_TOO_LARGE || status == HG_BAD_PROPERTY;
    uint64_t pause_ms = AGAIN_MS;
    letter->state = HG_WEBHOOK_LEAVING;
    if (is_for_ever && !letter->is_dead) {
        letter->state = HG_WEBHOOK_WAITING;
        pause_ms = h->spec->max_hold_ms;
    }
    letter->due_ms = hg_clock_ms() + pause_ms;
    if (status != HG_BUSY && status != HG_BROKER_AWAY) {
        note_refusal(h, letter, why.n > 0 ? why : hg_bytes_str(hg_status_text(status)));
    }
}

void hg_webhook_leave_due(struct hg_webhook *h, uint64_t now_ms)
{
    struct hg_webhook_letter *letter;
    while ((letter = hg_webhook_ledger_leaving(&h->ledger, now_ms)) != NULL) {
        const char *why = NULL;
        enum hg_status status = publish(h, letter, &why);
        if (status == HG_OK) {
            letter->state = HG_WEBHOOK_LEFT;
            h->left_n++;
        } else {
            not_now(h, letter, status, hg_bytes_str(why));
        }
    }
}

static void count_left(struct hg_webhook *h, const struct hg_webhook_letter *letter)
{
    if (!letter->is_dead) {
        hg_count(&h->metrics->webhook_delayed, 1);
        return;
    }
    hg_count(&h->metrics->webhook_dead_lettered, 1);
    HG_LOG_LIMITED(h->worker->log, HG_LOG_ERROR, "webhook.dead_lettered",
                   hg_bytes_str(h->spec->name), HG_F_STR("webhook", h->spec->name),
                   HG_F_STR("url", h->spec->origin), HG_F_STR("id", letter->id),
                   HG_F_UINT("attempts", letter->attempts), HG_F_STR("reason", letter->why_own));
}

void hg_webhook_on_settled(struct hg_session *s, uint64_t id, enum hg_status outcome,
                           struct hg_bytes reason)
{
    struct hg_webhook *h = HG_CONTAINER_OF(s, struct hg_webhook, session);
    struct hg_webhook_letter *letter = hg_webhook_ledger_find(&h->ledger, id);
    h->left_n--;
    hg_webhook_look_later(h);
    if (outcome == HG_OK) {
        count_left(h, letter);
        hg_webhook_finish(h, letter);
    } else if (letter->is_stale) { /* RabbitMQ delivers it again */
        hg_webhook_ledger_end(&h->ledger, letter);
    } else {
        not_now(h, letter, outcome, reason);
        if (outcome == HG_UNROUTABLE) { /* its queue was deleted */
            for (size_t i = 0; i < hg_webhook_own_queues_n(h); i++) {
                (void)hg_webhook_declare(h, i);
            }
        }
    }
}
