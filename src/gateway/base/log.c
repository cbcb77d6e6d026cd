/* SPDX-License-Identifier: Apache-2.0 */
/* Lines are built in memory of their own and leave in one write; only the tables of kinds and causes
 * are shared. */
#include "base/log.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FIELD_BYTES = 512, MAX_CAUSES = 256, WINDOW_MS = 1000, MAX_KINDS = 128 };
/* Of one kind: whoever changes its cause each time fills no disk. All kinds together come to 26
 * lines a second in the long run. */
enum { KIND_BURST_N = 50, KIND_PERIOD_MS = 5000 };

struct cause {
    uint64_t hash;     /* of event and cause; 0: slot never used */
    const char *event; /* static text */
    uint64_t since_ms; /* when its last line passed */
    uint64_t suppressed_n;
};

struct kind {
    uint64_t hash; /* of event and kind; 0: slot never used */
    const char *event;
    uint64_t paid_ms; /* when all its lines are paid for, at one a period */
    uint64_t suppressed_n;
};

struct hg_log {
    int fd;            /* borrowed */
    _Atomic int level; /* enum hg_log_level */
    bool is_json;
    _Atomic uint64_t suppressed_n;
    uint64_t seed[2];
    pthread_mutex_t lock; /* of what follows */
    struct cause causes[MAX_CAUSES];
    struct kind kinds[MAX_KINDS];
    struct kind overflow; /* all kinds that found no slot share its lines */
};

static const char *const level_names[] = {"error", "warn", "info", "debug"};

void hg_log_set_level(struct hg_log *log, enum hg_log_level level)
{
    atomic_store(&log->level, (int)level);
}

struct hg_log *hg_log_new(int fd, enum hg_log_level level, bool is_json)
{
    struct hg_log *log = hg_zalloc(sizeof(*log));
    if (log == NULL) {
        return NULL;
    }
    log->fd = fd;
    hg_log_set_level(log, level);
    log->is_json = is_json;
    log->seed[0] = hg_random_u64();
    log->seed[1] = hg_random_u64();
    HG_CHECK(pthread_mutex_init(&log->lock, NULL) == 0);
    return log;
}

void hg_log_free(struct hg_log *log)
{
    if (log != NULL) {
        (void)pthread_mutex_destroy(&log->lock);
        hg_free(log);
    }
}

/* ISO 8601, UTC, milliseconds. */
static void write_time(struct hg_writer *w)
{
    uint64_t now_ms = hg_clock_wall_ms();
    time_t now_s = (time_t)(now_ms / 1000);
    struct tm tm;
    char text[32];
    if (gmtime_r(&now_s, &tm) == NULL ||
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm) == 0) {
        text[0] = '\0';
    }
    hg_writer_printf(w, "%s.%03uZ", text, (unsigned)(now_ms % 1000));
}

/* A value that a reader of `key=value` could not tell from what follows it. */
static bool needs_quotes(struct hg_bytes b)
{
    for (size_t i = 0; i < b.n; i++) {
        if (b.p[i] <= ' ' || b.p[i] >= 0x7f || b.p[i] == '"' || b.p[i] == '=' || b.p[i] == '\\') {
            return true;
        }
    }
    return b.n == 0;
}

static void write_text_value(struct hg_writer *w, struct hg_bytes b, bool is_json)
{
    bool is_cut = b.n > MAX_FIELD_BYTES;
    if (is_cut) {
        b.n = MAX_FIELD_BYTES;
        while (b.n > 0 && (b.p[b.n] & 0xc0) == 0x80) {
            b.n--; /* not inside a character */
        }
    }
    if (!is_json && !is_cut && !needs_quotes(b)) {
        hg_writer_bytes(w, b);
        return;
    }
    hg_writer_u8(w, '"');
    hg_writer_json(w, b);
    hg_writer_str(w, is_cut ? "\xe2\x80\xa6\"" : "\""); /* U+2026 */
}

static void write_field(struct hg_writer *w, const struct hg_log_field *f, bool is_json)
{
    if (f->kind == HG_FIELD_STR && f->u.str == NULL) {
        return;
    }
    hg_writer_printf(w, is_json ? ",\"%s\":" : " %s=", f->key);
    switch (f->kind) {
    case HG_FIELD_STR: write_text_value(w, hg_bytes_str(f->u.str), is_json); break;
    case HG_FIELD_BYTES: write_text_value(w, f->u.bytes, is_json); break;
    case HG_FIELD_INT: hg_writer_printf(w, "%lld", (long long)f->u.i); break;
    case HG_FIELD_UINT: hg_writer_dec(w, f->u.u); break;
    }
}

static void write_line(const struct hg_log *log, enum hg_log_level level, const char *event,
                       const struct hg_log_field *fields, uint64_t suppressed_n, uint64_t others_n)
{
    struct hg_writer w = {0};
    hg_writer_str(&w, log->is_json ? "{\"time\":\"" : "");
    write_time(&w);
    hg_writer_printf(&w, log->is_json ? "\",\"level\":\"%s\",\"event\":\"%s\"" : " %s %s",
                     level_names[level], event);
    for (const struct hg_log_field *f = fields; f->key != NULL; f++) {
        write_field(&w, f, log->is_json);
    }
    if (suppressed_n > 0) {
        write_field(&w, &HG_F_UINT("suppressed", suppressed_n), log->is_json);
    }
    if (others_n > 0) {
        write_field(&w, &HG_F_UINT("suppressed_others", others_n), log->is_json);
    }
    hg_writer_str(&w, log->is_json ? "}\n" : "\n");
    struct hg_bytes line = hg_writer_view(&w);
    /* A log that cannot be written must not stop the gateway: the line is lost. */
    while (!w.failed && write(log->fd, line.p, line.n) < 0 && errno == EINTR) {
    }
    hg_writer_close(&w);
}

bool hg_log_is_on(const struct hg_log *log, enum hg_log_level level)
{
    return log != NULL && (int)level <= atomic_load_explicit(&log->level, memory_order_relaxed);
}

void hg_log_event(struct hg_log *log, enum hg_log_level level, const char *event,
                  const struct hg_log_field *fields)
{
    if (hg_log_is_on(log, level)) {
        write_line(log, level, event, fields, 0, 0);
    }
}

static uint64_t hash_of(const struct hg_log *log, const char *event, struct hg_bytes b)
{
    uint64_t hash = hg_siphash(log->seed, b) ^ hg_siphash(log->seed, hg_bytes_str(event)) << 1;
    return hash == 0 ? 1 : hash;
}

/* The slot of this kind; else one whose lines are paid for (what it held back goes to *evicted);
 * else the common one. */
static struct kind *kind_of(struct hg_log *log, uint64_t hash, const char *event, uint64_t now_ms,
                            struct kind *evicted)
{
    struct kind *oldest = &log->kinds[0];
    for (size_t i = 0; i < MAX_KINDS; i++) {
        struct kind *k = &log->kinds[i];
        if (k->hash == hash) {
            return k;
        }
        oldest = k->paid_ms < oldest->paid_ms ? k : oldest;
    }
    if (oldest->paid_ms > now_ms) {
        return &log->overflow;
    }
    *evicted = *oldest;
    *oldest = (struct kind){.hash = hash, .event = event};
    return oldest;
}

/* True where one more line of it may be written, which is then paid for. */
static bool pay(struct kind *k, uint64_t now_ms)
{
    uint64_t from_ms = k->paid_ms > now_ms ? k->paid_ms : now_ms;
    if (from_ms - now_ms > (KIND_BURST_N - 1) * (uint64_t)KIND_PERIOD_MS) {
        return false;
    }
    k->paid_ms = from_ms + KIND_PERIOD_MS;
    return true;
}

/* The slot of this cause, NULL: it has none. *oldest: the one that it may take. */
static struct cause *cause_of(struct hg_log *log, uint64_t hash, struct cause **oldest)
{
    *oldest = &log->causes[0];
    for (size_t i = 0; i < MAX_CAUSES; i++) {
        struct cause *c = &log->causes[i];
        if (c->hash == hash) {
            return c;
        }
        *oldest = c->since_ms < (*oldest)->since_ms ? c : *oldest;
    }
    return NULL;
}

struct passage { /* of a line that came to be written, or not */
    bool passes;
    uint64_t suppressed_n, others_n;
    struct cause lost_cause; /* what made room for it */
    struct kind lost_kind;
};

/* A cause has a place only once its line has passed, so that a flood of them throws out few. */
static void remember(struct cause *c, struct cause *oldest, uint64_t hash, const char *event,
                     uint64_t now_ms, struct passage *out)
{
    if (c == NULL && oldest->hash != 0 && now_ms - oldest->since_ms < WINDOW_MS) {
        return;
    }
    if (c == NULL) {
        out->lost_cause = *oldest;
        c = oldest;
    }
    out->suppressed_n = c->hash == hash ? c->suppressed_n : 0;
    *c = (struct cause){.hash = hash, .event = event, .since_ms = now_ms == 0 ? 1 : now_ms};
}

static void try_to_pass(struct hg_log *log, const char *event, const char *kind,
                        struct hg_bytes cause, struct passage *out)
{
    struct cause *oldest;
    uint64_t now_ms = hg_clock_ms();
    uint64_t hash = hash_of(log, event, cause);
    struct cause *c = cause_of(log, hash, &oldest);
    if (c != NULL && now_ms - c->since_ms < WINDOW_MS) {
        c->suppressed_n++;
        return;
    }
    struct kind *k =
        kind_of(log, hash_of(log, event, hg_bytes_str(kind)), event, now_ms, &out->lost_kind);
    if (!pay(k, now_ms)) {
        k->suppressed_n++;
        return;
    }
    out->passes = true;
    out->others_n = k->suppressed_n;
    k->suppressed_n = 0;
    remember(c, oldest, hash, event, now_ms, out);
}

uint64_t hg_log_suppressed_n(const struct hg_log *log)
{
    return log == NULL ? 0 : atomic_load_explicit(&log->suppressed_n, memory_order_relaxed);
}

static void tell_lost(const struct hg_log *log, enum hg_log_level level, const char *event,
                      uint64_t suppressed_n)
{
    if (suppressed_n > 0) {
        write_line(log, level, "log.suppressed",
                   (const struct hg_log_field[]){HG_F_STR("of", event), {.key = NULL}},
                   suppressed_n, 0);
    }
}

void hg_log_event_limited(struct hg_log *log, enum hg_log_level level, const char *event,
                          const char *kind, struct hg_bytes cause,
                          const struct hg_log_field *fields)
{
    struct passage p = {.passes = false};
    if (!hg_log_is_on(log, level)) {
        return;
    }
    (void)pthread_mutex_lock(&log->lock);
    try_to_pass(log, event, kind, cause, &p);
    (void)pthread_mutex_unlock(&log->lock);
    tell_lost(log, level, p.lost_kind.event, p.lost_kind.suppressed_n);
    tell_lost(log, level, p.lost_cause.event, p.lost_cause.suppressed_n);
    if (p.passes) {
        write_line(log, level, event, fields, p.suppressed_n, p.others_n);
    } else {
        atomic_fetch_add_explicit(&log->suppressed_n, 1, memory_order_relaxed);
    }
}
