/* SPDX-License-Identifier: Apache-2.0 */
/* Headers are never taken from clients, so whoever wrote them may write to the log. */
#include "core/state_message.h"

#include "base/hex.h"
#include "core/retained.h"
#include "message/topic.h"

#include <inttypes.h>
#include <stdio.h>

#define KIND           HG_BYTES("x-headgate-kind")
#define RETAIN         HG_BYTES("x-headgate-retain")
#define EXCHANGE       HG_BYTES("x-headgate-exchange")
#define KEY            HG_BYTES("x-headgate-key")
#define ACT            HG_BYTES("x-headgate-act")
#define CLIENT         HG_BYTES("x-headgate-client")
#define BOOT           HG_BYTES("x-headgate-boot")
#define EPOCH          HG_BYTES("x-headgate-epoch")
#define PREVIOUS_BOOT  HG_BYTES("x-headgate-previous-boot")
#define PREVIOUS_EPOCH HG_BYTES("x-headgate-previous-epoch")
#define BY             HG_BYTES("x-headgate-by")
#define FORCE          HG_BYTES("x-headgate-force")
#define NUMBER         HG_BYTES("x-headgate-number")
#define AS_OF          HG_BYTES("x-headgate-as-of")
#define REQUEST        HG_BYTES("x-headgate-request")
#define TARGET_HASH    HG_BYTES("x-headgate-target-hash")
#define BODY_HASH      HG_BYTES("x-headgate-body-hash")
#define AT             HG_BYTES("x-headgate-at")
#define ENDS           HG_BYTES("x-headgate-ends")
#define STATUS         HG_BYTES("x-headgate-status")

#define RETAIN_KEY HG_BYTES("headgate.retain")

/* FORGET is END, forced. */
static const char *const acts[] = {"claim", "update", "handover", "end"};
enum { ACTS_N = sizeof(acts) / sizeof(acts[0]) };
_Static_assert((int)HG_SESSION_END == (int)ACTS_N - 1, "in the order of enum hg_session_act");

static const char *const request_acts[] = {"claim", "free", "answer"};
enum { REQUEST_ACTS_N = sizeof(request_acts) / sizeof(request_acts[0]) };
_Static_assert((int)HG_REQUEST_ANSWER == (int)REQUEST_ACTS_N - 1,
               "in the order of enum hg_request_act");

/* ---- Reading ---- */

static struct hg_bytes read_text(const struct hg_message *m, struct hg_bytes name)
{
    const struct hg_value *v = hg_message_header(m, name);
    bool is_text = v != NULL && (v->kind == HG_VALUE_STRING || v->kind == HG_VALUE_BINARY);
    return is_text ? v->u.bytes : hg_bytes(NULL, 0);
}

static bool read_number(const struct hg_message *m, struct hg_bytes name, uint64_t *out)
{
    const struct hg_value *v = hg_message_header(m, name);
    bool is_number = v != NULL && v->kind == HG_VALUE_INT && v->u.i >= 0;
    *out = is_number ? (uint64_t)v->u.i : 0;
    return is_number;
}

static bool read_true(const struct hg_message *m, struct hg_bytes name)
{
    const struct hg_value *v = hg_message_header(m, name);
    return v != NULL && v->kind == HG_VALUE_BOOL && v->u.b;
}

static uint64_t read_hex(const struct hg_message *m, struct hg_bytes name)
{
    struct hg_bytes text = read_text(m, name);
    uint64_t v = 0;
    for (size_t i = 0; i < text.n && i < 16; i++) {
        int digit = hg_hex_value(text.p[i]);
        if (digit < 0) {
            return 0;
        }
        v = v << 4 | (uint64_t)digit;
    }
    return v;
}

/* Which of the words the act is; words_n: of a version to come. */
static size_t read_act(const struct hg_message *m, const char *const *words, size_t words_n)
{
    struct hg_bytes act = read_text(m, ACT);
    size_t at = 0;
    while (at < words_n && !hg_bytes_eq(act, hg_bytes_str(words[at]))) {
        at++;
    }
    return at;
}

static void read_session(const struct hg_message *m, struct hg_state_message *out)
{
    size_t at = read_act(m, acts, ACTS_N);
    if (at == ACTS_N) {
        return;
    }
    out->kind = HG_STATE_MESSAGE_SESSION;
    out->act = (enum hg_session_act)at;
    if (out->act == HG_SESSION_END && read_true(m, FORCE)) {
        out->act = HG_SESSION_FORGET;
    }
    out->client_id = read_text(m, CLIENT);
    out->owner.boot_id = read_hex(m, BOOT);
    out->previous.boot_id = read_hex(m, PREVIOUS_BOOT);
    (void)read_number(m, EPOCH, &out->owner.epoch);
    (void)read_number(m, PREVIOUS_EPOCH, &out->previous.epoch);
}

static void read_request(const struct hg_message *m, struct hg_state_message *out)
{
    struct hg_request_record *r = &out->request;
    size_t at = read_act(m, request_acts, REQUEST_ACTS_N);
    uint64_t status;
    if (at == REQUEST_ACTS_N) {
        return;
    }
    out->kind = HG_STATE_MESSAGE_REQUEST;
    r->act = (enum hg_request_act)at;
    r->key = read_text(m, REQUEST);
    r->boot_id = read_hex(m, BOOT);
    r->fingerprint[0] = read_hex(m, TARGET_HASH);
    r->fingerprint[1] = read_hex(m, BODY_HASH);
    (void)read_number(m, EPOCH, &r->number);
    (void)read_number(m, AT, &r->at_ms);
    (void)read_number(m, ENDS, &r->ends_ms);
    (void)read_number(m, STATUS, &status);
    r->status = (unsigned)status;
    r->type = hg_message_properties(m)->content_type;
    r->body = hg_message_body(m);
}

/* Without a kind it was published by somebody: retained if it says so, or if it came by BCC. A
 * message published to the log's own key without saying so was not meant. */
static bool is_published(const struct hg_message *m, struct hg_bytes log_name)
{
    struct hg_bytes exchange = hg_message_exchange(m);
    struct hg_bytes key = hg_message_routing_key(m);
    if (exchange.n == 0 && hg_bytes_eq(key, log_name)) {
        return false;
    }
    return read_true(m, RETAIN) || !hg_bytes_eq(key, RETAIN_KEY);
}

void hg_state_message_read(const struct hg_message *m, struct hg_bytes log_name,
                           struct hg_state_message *out)
{
    struct hg_bytes kind = read_text(m, KIND);
    *out = (struct hg_state_message){.kind = HG_STATE_MESSAGE_OTHER, .by = read_hex(m, BY)};
    out->is_copy = read_number(m, AS_OF, &out->as_of);
    if (kind.n == 0 && is_published(m, log_name)) {
        out->kind = HG_STATE_MESSAGE_RETAINED;
        out->exchange = hg_message_exchange(m);
        out->key = hg_message_routing_key(m);
        out->is_copy = false;
    } else if (hg_bytes_eq(kind, HG_BYTES("retained"))) {
        out->kind = HG_STATE_MESSAGE_RETAINED;
        out->exchange = read_text(m, EXCHANGE);
        out->key = read_text(m, KEY);
    } else if (hg_bytes_eq(kind, HG_BYTES("session"))) {
        read_session(m, out);
    } else if (hg_bytes_eq(kind, HG_BYTES("request"))) {
        read_request(m, out);
    } else if (hg_bytes_eq(kind, HG_BYTES("barrier"))) {
        out->kind = HG_STATE_MESSAGE_BARRIER;
        (void)read_number(m, NUMBER, &out->number);
    }
}

/* ---- Writing ---- */

enum { HEADERS_MAX = 12, HEX_N = 16 };

struct headers {
    struct hg_header at[HEADERS_MAX];
    char hex[3][HEX_N + 1];
    size_t n, hex_n;
};

static void add_text(struct headers *h, struct hg_bytes name, struct hg_bytes text)
{
    enum hg_value_kind kind = hg_utf8_is_valid(text) ? HG_VALUE_STRING : HG_VALUE_BINARY;
    h->at[h->n++] = (struct hg_header){name, {.kind = kind, .u.bytes = text}};
}

static void add_number(struct headers *h, struct hg_bytes name, uint64_t n)
{
    h->at[h->n++] = (struct hg_header){name, {.kind = HG_VALUE_INT, .u.i = (int64_t)n}};
}

static void add_true(struct headers *h, struct hg_bytes name)
{
    h->at[h->n++] = (struct hg_header){name, {.kind = HG_VALUE_BOOL, .u.b = true}};
}

static void add_hex(struct headers *h, struct hg_bytes name, uint64_t v)
{
    char *text = h->hex[h->hex_n++];
    (void)snprintf(text, HEX_N + 1, "%016" PRIx64, v);
    add_text(h, name, hg_bytes_str(text));
}

static struct hg_message *make(struct hg_bytes log_name, const struct headers *h,
                               struct hg_bytes content_type, struct hg_bytes body)
{
    return hg_message_new(&(struct hg_message_parts){
        .routing_key = log_name,
        .properties = {.content_type = content_type, .headers = h->at, .headers_n = h->n},
        .body = body,
    });
}

struct hg_message *hg_state_message_barrier(struct hg_bytes log_name, uint64_t by, uint64_t number)
{
    struct headers h = {.n = 0};
    add_text(&h, KIND, HG_BYTES("barrier"));
    add_hex(&h, BY, by);
    add_number(&h, NUMBER, number);
    return make(log_name, &h, HG_BYTES(""), HG_BYTES(""));
}

struct hg_message *hg_state_message_session(struct hg_bytes log_name,
                                            const struct hg_state_message *what,
                                            const struct hg_session_record *r)
{
    bool is_forced = what->act == HG_SESSION_FORGET;
    struct headers h = {.n = 0};
    struct hg_writer body = {0};
    add_text(&h, KIND, HG_BYTES("session"));
    add_text(&h, ACT, hg_bytes_str(acts[is_forced ? HG_SESSION_END : what->act]));
    add_text(&h, CLIENT, what->client_id);
    add_hex(&h, BOOT, what->owner.boot_id);
    add_number(&h, EPOCH, what->owner.epoch);
    add_hex(&h, BY, what->by);
    if (is_forced) {
        add_true(&h, FORCE);
    }
    if (what->is_copy) {
        add_number(&h, AS_OF, what->as_of);
        add_hex(&h, PREVIOUS_BOOT, what->previous.boot_id);
        add_number(&h, PREVIOUS_EPOCH, what->previous.epoch);
    }
    if (r != NULL) {
        hg_session_record_write(r, &body);
    }
    struct hg_message *m =
        body.failed ? NULL
                    : make(log_name, &h, HG_BYTES("application/json"), hg_writer_view(&body));
    hg_writer_close(&body);
    return m;
}

struct hg_message *hg_state_message_request(struct hg_bytes log_name,
                                            const struct hg_state_message *what)
{
    const struct hg_request_record *r = &what->request;
    struct headers h = {.n = 0};
    add_text(&h, KIND, HG_BYTES("request"));
    add_text(&h, ACT, hg_bytes_str(request_acts[r->act]));
    add_text(&h, REQUEST, r->key);
    add_hex(&h, BOOT, r->boot_id);
    add_number(&h, EPOCH, r->number);
    add_hex(&h, TARGET_HASH, r->fingerprint[0]);
    add_hex(&h, BODY_HASH, r->fingerprint[1]);
    add_number(&h, AT, r->at_ms);
    add_number(&h, ENDS, r->ends_ms);
    if (r->act == HG_REQUEST_ANSWER) {
        add_number(&h, STATUS, r->status);
    }
    if (what->is_copy) {
        add_number(&h, AS_OF, what->as_of);
    }
    return make(log_name, &h, r->type, r->body);
}

struct hg_message *hg_state_message_retained(struct hg_bytes log_name,
                                             const struct hg_state_message *what,
                                             const struct hg_retained *from)
{
    struct headers h = {.n = 0};
    add_text(&h, KIND, HG_BYTES("retained"));
    add_text(&h, EXCHANGE, what->exchange);
    add_text(&h, KEY, what->key);
    if (what->is_copy) {
        add_number(&h, AS_OF, what->as_of);
    }
    return from == NULL ? make(log_name, &h, HG_BYTES(""), HG_BYTES(""))
                        : hg_retained_unpack(from, HG_BYTES(""), log_name, h.at, h.n);
}
