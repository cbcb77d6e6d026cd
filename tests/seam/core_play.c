/* SPDX-License-Identifier: Apache-2.0 */
/* Scripts for sessions: see core_fake.h. */
#include "seam/core_fake.h"
#include "seam/hex.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdlib.h>

enum { WHOLE = 0, EVERY = -1 };

struct player {
    const struct core_script *script;
    const struct hg_adapter *adapter;
    const char *subprotocol;
    struct core_fake *f;
    size_t step;
    size_t sent_n; /* client's bytes so far */
    long cut_at;   /* after so many of them the input is cut; WHOLE, EVERY */
};

/* As a step's text has it. */
static void show(struct hg_writer *w, struct hg_bytes text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == 0) {
            hg_writer_str(w, "^@");
        } else {
            hg_writer_u8(w, text.p[i]);
        }
    }
}

static void complain(const struct player *p, struct hg_bytes want, struct hg_bytes got)
{
    struct hg_writer w = {0};
    hg_writer_printf(&w, "%s, step %zu, cut at %ld\nwant ", p->script->title, p->step + 1,
                     p->cut_at);
    show(&w, want);
    hg_writer_str(&w, "\ngot  ");
    show(&w, got);
    fail_msg("%.*s", HG_BYTES_FMT(hg_writer_view(&w)));
}

/* ---- Words ---- */

static struct hg_bytes next_word(struct hg_bytes *rest)
{
    while (rest->n > 0 && rest->p[0] == ' ') {
        *rest = hg_bytes_skip(*rest, 1);
    }
    struct hg_bytes word = hg_bytes(rest->p, hg_bytes_index(*rest, ' '));
    *rest = hg_bytes_skip(*rest, word.n);
    return word;
}

static enum hg_status status_named(struct hg_bytes name)
{
    for (int i = 0; i < HG_STATUS_N; i++) {
        if (hg_bytes_eq(name, hg_bytes_str(hg_status_info((enum hg_status)i)->name))) {
            return (enum hg_status)i;
        }
    }
    fail_msg("no status %.*s", HG_BYTES_FMT(name));
    return HG_OK;
}

/* "", "REJECTED", "2", "2 REJECTED" */
static enum hg_status read_outcome(const char *text, size_t *n_out)
{
    struct hg_bytes rest = hg_bytes_str(text);
    struct hg_bytes word = next_word(&rest);
    uint64_t n = 1;
    if (hg_bytes_to_u64(word, 100, &n)) {
        word = next_word(&rest);
    }
    *n_out = (size_t)n - 1;
    return word.n == 0 ? HG_OK : status_named(word);
}

enum { HEADERS_MAX = 4 };

static struct hg_header header_of(struct hg_bytes name, struct hg_bytes value)
{
    struct hg_header header = {.name = name};
    uint64_t n = 0;
    if (hg_bytes_to_u64(value, INT64_MAX, &n)) {
        header.value = (struct hg_value){HG_VALUE_INT, {.i = (int64_t)n}};
    } else if (hg_bytes_eq(value, HG_BYTES("true"))) {
        header.value = (struct hg_value){HG_VALUE_BOOL, {.b = true}};
    } else {
        header.value = (struct hg_value){HG_VALUE_STRING, {.bytes = value}};
    }
    return header;
}

/* A word that is no place. */
static void read_property(struct core_delivery *d, struct hg_header *headers, struct hg_bytes name,
                          struct hg_bytes value)
{
    if (hg_bytes_starts(name, HG_BYTES("x-"))) {
        assert_in_range(d->properties.headers_n, 0, HEADERS_MAX - 1);
        headers[d->properties.headers_n++] = header_of(name, value);
    } else if (hg_bytes_eq(name, HG_BYTES("mode"))) {
        d->properties.delivery_mode = (uint8_t)(value.p[0] - '0');
    } else if (hg_bytes_eq(name, HG_BYTES("redelivered"))) {
        d->is_redelivered = true;
    } else if (hg_bytes_eq(name, HG_BYTES("keep"))) {
        d->must_keep = true;
    } else {
        struct hg_bytes *property = core_property(&d->properties, name);
        assert_non_null(property);
        *property = value;
    }
}

static void deliver(struct core_fake *f, const char *text, bool is_retained)
{
    enum { NAMES = 4 };
    static const char *const names[NAMES] = {"address", "exchange", "key", "from"};
    char values[NAMES][128] = {{0}};
    struct hg_header headers[HEADERS_MAX];
    struct core_delivery d = {.is_retained = is_retained, .properties = {.headers = headers}};
    struct hg_bytes rest = hg_bytes_str(text);
    for (struct hg_bytes word = next_word(&rest); word.n > 0; word = next_word(&rest)) {
        size_t name_n = hg_bytes_index(word, '=');
        struct hg_bytes name = hg_bytes(word.p, name_n);
        struct hg_bytes value = hg_bytes_skip(word, name_n == word.n ? name_n : name_n + 1);
        int which = 0;
        while (which < NAMES && !hg_bytes_eq(name, hg_bytes_str(names[which]))) {
            which++;
        }
        if (which < NAMES) {
            assert_in_range(value.n, 0, sizeof(values[0]) - 1);
            memcpy(values[which], value.p, value.n);
        } else if (hg_bytes_eq(name, HG_BYTES("body"))) {
            d.body = hg_bytes(value.p, value.n + rest.n);
            rest.n = 0;
        } else {
            read_property(&d, headers, name, value);
        }
    }
    const char **places[NAMES] = {&d.address, &d.exchange, &d.key, &d.from};
    for (int i = 0; i < NAMES; i++) {
        *places[i] = values[i][0] == '\0' ? NULL : values[i];
    }
    core_deliver(f, &d);
}

/* ---- Steps ---- */

static void feed(struct player *p, struct hg_bytes in)
{
    while (in.n > 0) {
        size_t n = in.n;
        size_t cut = p->cut_at > 0 ? (size_t)p->cut_at : 0;
        if (p->cut_at == EVERY) {
            n = 1;
        } else if (cut > p->sent_n && cut < p->sent_n + in.n) {
            n = cut - p->sent_n;
        }
        core_feed(p->f, hg_bytes(in.p, n));
        core_turn(p->f);
        p->sent_n += n;
        in = hg_bytes_skip(in, n);
    }
}

static void expect_sent(struct player *p, struct hg_bytes want, bool is_text)
{
    struct hg_bytes got = core_sent(p->f);
    if (!hg_bytes_eq(want, got)) {
        struct hg_writer want_hex = {0};
        struct hg_writer got_hex = {0};
        hex_write(&want_hex, want);
        hex_write(&got_hex, got);
        complain(p, is_text ? want : hg_writer_view(&want_hex),
                 is_text ? got : hg_writer_view(&got_hex));
    }
    core_forget_sent(p->f);
}

/* Whether the pieces of `want` between its … are in `got` in this order, the first at its start and
 * the last at its end. */
static bool is_like(struct hg_bytes got, struct hg_bytes want)
{
    const struct hg_bytes gap = HG_BYTES("…");
    bool is_first = true;
    for (;;) {
        const uint8_t *end = memmem(want.p, want.n, gap.p, gap.n);
        struct hg_bytes piece = hg_bytes(want.p, end == NULL ? want.n : (size_t)(end - want.p));
        if (end == NULL && !is_first) {
            return got.n >= piece.n && hg_bytes_eq(hg_bytes_skip(got, got.n - piece.n), piece);
        }
        const uint8_t *at = memmem(got.p, got.n, piece.p, piece.n);
        if (at == NULL || (is_first && at != got.p)) {
            return false;
        }
        got = hg_bytes_skip(got, (size_t)(at - got.p) + piece.n);
        if (end == NULL) {
            return got.n == 0;
        }
        want = hg_bytes_skip(want, piece.n + gap.n);
        is_first = false;
    }
}

static void expect_like(struct player *p, struct hg_bytes want)
{
    if (!is_like(core_sent(p->f), want)) {
        complain(p, want, core_sent(p->f));
    }
    core_forget_sent(p->f);
}

static void expect_calls(struct player *p, const char *text)
{
    struct hg_bytes want = hg_bytes_str(text);
    if (!hg_bytes_eq(want, hg_writer_view(&p->f->calls))) {
        complain(p, want, hg_writer_view(&p->f->calls));
    }
    hg_writer_reset(&p->f->calls);
}

static void switch_to(struct player *p, const char *text)
{
    size_t n = (size_t)(text[0] - '1');
    assert_in_range(n, 0, CORE_CONNS_MAX - 1);
    while (p->f->conns[n] == NULL) {
        core_connect(p->f, p->adapter, p->subprotocol);
    }
    p->f->conn = p->f->conns[n];
}

static void set_login(struct core_fake *f, const char *text)
{
    f->login_status = status_named(hg_bytes_str(text));
    for (size_t i = 0; i < CORE_CONNS_MAX && f->conns[i] != NULL; i++) {
        hg_conn_release(f->conns[i], HG_HOLD_LOGIN);
    }
    core_turn(f);
}

static void set_publish(struct core_fake *f, const char *text)
{
    f->publish_status = status_named(hg_bytes_str(text));
    for (size_t i = 0; i < CORE_CONNS_MAX && f->conns[i] != NULL; i++) {
        if (f->publish_status != HG_HELD) {
            hg_conn_release(f->conns[i], HG_HOLD_UPSTREAM);
        }
    }
}

static void set_state(struct core_fake *f, const char *text)
{
    if (strcmp(text, "AWAY") == 0 || strcmp(text, "BACK") == 0) {
        f->is_state_away = text[0] == 'A';
    } else {
        core_state_answer(f, status_named(hg_bytes_str(text)));
    }
}

static void expect_why(struct player *p, enum hg_status want)
{
    enum hg_status got = core_why(p->f->conn);
    if (got != want) {
        complain(p, hg_bytes_str(hg_status_info(want)->name),
                 hg_bytes_str(hg_status_info(got)->name));
    }
}

static uint64_t number(const char *text)
{
    uint64_t n = 0;
    assert_true(hg_bytes_to_u64(hg_bytes_str(text), UINT64_MAX, &n));
    return n;
}

static void drain_all(struct core_fake *f)
{
    f->gateway.is_draining = true;
    for (size_t i = 0; i < CORE_CONNS_MAX && f->conns[i] != NULL; i++) {
        struct hg_session *s = core_session(f->conns[i]);
        if (s != NULL && !hg_conn_is_closing(f->conns[i])) {
            s->ops->drain(s);
        }
    }
}

/* A step's text: ^@ is a NUL. */
static void write_text(struct hg_writer *w, struct hg_bytes text)
{
    for (size_t i = 0; i < text.n; i++) {
        bool is_nul = text.p[i] == '^' && i + 1 < text.n && text.p[i + 1] == '@';
        hg_writer_u8(w, is_nul ? 0 : text.p[i]);
        i += is_nul;
    }
}

static void play_bytes(struct player *p, const struct core_step *step)
{
    struct hg_writer bytes = {0};
    bool is_text = step->kind != SEND && step->kind != EXPECT;
    if (is_text) {
        write_text(&bytes, hg_bytes_str(step->text));
    } else {
        hex_read(&bytes, step->text);
    }
    if (step->kind == SEND || step->kind == SEND_TEXT) {
        feed(p, hg_writer_view(&bytes));
    } else if (step->kind == EXPECT_LIKE) {
        expect_like(p, hg_writer_view(&bytes));
    } else {
        expect_sent(p, hg_writer_view(&bytes), is_text);
    }
    hg_writer_close(&bytes);
}

static void play_step(struct player *p, const struct core_step *step)
{
    struct core_fake *f = p->f;
    size_t n = 0;
    enum hg_status outcome = HG_OK;
    switch (step->kind) {
    case SEND:
    case SEND_TEXT:
    case EXPECT:
    case EXPECT_TEXT:
    case EXPECT_LIKE: play_bytes(p, step); break;
    case SILENCE: expect_sent(p, HG_BYTES(""), false); break;
    case FORGET: core_forget(f); break;
    case ON: switch_to(p, step->text); break;
    case LEAVE:
        hg_conn_close(f->conn,
                      step->text[0] == '\0' ? HG_CLOSED : status_named(hg_bytes_str(step->text)));
        break;
    case CLOSED: expect_why(p, status_named(hg_bytes_str(step->text))); break;
    case OPEN: expect_why(p, HG_OK); break;
    case CALLS: expect_calls(p, step->text); break;
    case CONFIRM:
        outcome = read_outcome(step->text, &n);
        core_settle(f, n, outcome, "as told");
        break;
    case SUBSCRIBED:
        outcome = read_outcome(step->text, &n);
        core_answer(f, n, outcome, "as told");
        break;
    case DECLARED:
        outcome = read_outcome(step->text, &n);
        core_declared(f, n, outcome, "as told");
        break;
    case ENDED:
        outcome = read_outcome(step->text, &n);
        core_end_sub(f, n, outcome, "as told");
        break;
    case PUBLISH_IS: set_publish(f, step->text); break;
    case LOGIN_IS: set_login(f, step->text); break;
    case LOST: core_lose(f, status_named(hg_bytes_str(step->text))); break;
    case STATE: core_state_write(f, step->text); break;
    case STATE_IS: set_state(f, step->text); break;
    case QUEUE_IS:
        outcome = read_outcome(step->text, &n);
        core_queue_is(f, n, outcome, "as told");
        break;
    case DELIVER: deliver(f, step->text, false); break;
    case SERVE: deliver(f, step->text, true); break;
    case WAIT: core_pass(f, number(step->text)); break;
    case DRAIN: drain_all(f); break;
    case FULL: core_set_pending(f->conn, (size_t)number(step->text)); break;
    case CORE_END: break;
    }
    core_turn(f);
}

/* Returns how many bytes the client sent. */
static size_t play_once(struct player *p)
{
    struct core_fake *f = malloc(sizeof(*f));
    assert_non_null(f);
    size_t live = seam_live();
    core_open(f);
    p->f = f;
    p->sent_n = 0;
    if (p->script->prepare != NULL) {
        p->script->prepare(f);
    }
    core_connect(f, p->adapter, p->subprotocol);
    for (p->step = 0; p->step < CORE_STEPS_MAX; p->step++) {
        if (p->script->steps[p->step].kind == CORE_END) {
            break;
        }
        play_step(p, &p->script->steps[p->step]);
    }
    expect_sent(p, HG_BYTES(""), false); /* every script says all that was sent */
    core_close(f);
    free(f);
    if (seam_live() != live) {
        fail_msg("%s: %zu blocks leaked", p->script->title, seam_live() - live);
    }
    return p->sent_n;
}

void core_play(const struct hg_adapter *adapter, const char *subprotocol,
               const struct core_script *script)
{
    struct player p = {.script = script, .adapter = adapter, .subprotocol = subprotocol};
    p.cut_at = WHOLE;
    long n = (long)play_once(&p);
    for (p.cut_at = 1; p.cut_at < n; p.cut_at++) {
        play_once(&p);
    }
    p.cut_at = EVERY;
    play_once(&p);
}
