/* SPDX-License-Identifier: Apache-2.0 */
/* Structured log: one line an event, `time level event key=value …` as text or one JSON object.
 * A logger is safe to use from several threads; a line is one write(2). */
#ifndef HG_BASE_LOG_H
#define HG_BASE_LOG_H

#include "base/bytes.h"

enum hg_log_level { HG_LOG_ERROR, HG_LOG_WARN, HG_LOG_INFO, HG_LOG_DEBUG };

struct hg_log;

struct hg_log_field {
    const char *key; /* NULL ends the list */
    enum { HG_FIELD_STR, HG_FIELD_BYTES, HG_FIELD_INT, HG_FIELD_UINT } kind;
    union {
        const char *str; /* NULL: left out */
        struct hg_bytes bytes;
        int64_t i;
        uint64_t u;
    } u;
};

#define HG_F_STR(k, v)   ((struct hg_log_field){.key = (k), .kind = HG_FIELD_STR, .u.str = (v)})
#define HG_F_BYTES(k, v) ((struct hg_log_field){.key = (k), .kind = HG_FIELD_BYTES, .u.bytes = (v)})
#define HG_F_INT(k, v)   ((struct hg_log_field){.key = (k), .kind = HG_FIELD_INT, .u.i = (v)})
#define HG_F_UINT(k, v)  ((struct hg_log_field){.key = (k), .kind = HG_FIELD_UINT, .u.u = (v)})

/* Writes lines up to and including `level` to fd, which stays the caller's. NULL when there is no
 * memory. */
struct hg_log *hg_log_new(int fd, enum hg_log_level level, bool is_json);
void hg_log_free(struct hg_log *log);
/* Any thread. */
void hg_log_set_level(struct hg_log *log, enum hg_log_level level);

/* Whether a line of this level is written; false for a NULL log. */
bool hg_log_is_on(const struct hg_log *log, enum hg_log_level level);

/* event: static words with dots ("mqtt.refused"). A field's bytes are escaped; fields over 512
 * bytes are cut. A NULL log swallows the line. */
void hg_log_event(struct hg_log *log, enum hg_log_level level, const char *event,
                  const struct hg_log_field *fields);
/* The fields are evaluated only where the line is written. */
#define HG_LOG(log, level, event, ...)                                               \
    do {                                                                             \
        if (hg_log_is_on((log), (level))) {                                          \
            hg_log_event((log), (level), (event),                                    \
                         (const struct hg_log_field[]){__VA_ARGS__, {.key = NULL}}); \
        }                                                                            \
    } while (0)

/* As HG_LOG, but at most one line a second for each (event, cause), cause being a client's or
 * rule's name; the next line that passes says how many were left out (suppressed=N). Where a peer
 * can have as many causes as it likes: of each (event, kind), kind being static or configured text
 * (what went wrong), at most 50 lines at once and one in five seconds after that, whatever the
 * causes; the next one says how many others were left out (suppressed_others=N). The tables of
 * kinds and causes are bounded, and with them what is written. */
void hg_log_event_limited(struct hg_log *log, enum hg_log_level level, const char *event,
                          const char *kind, struct hg_bytes cause,
                          const struct hg_log_field *fields);
#define HG_LOG_LIMITED_BY(log, level, event, kind, cause, ...)                               \
    do {                                                                                     \
        if (hg_log_is_on((log), (level))) {                                                  \
            hg_log_event_limited((log), (level), (event), (kind), (cause),                   \
                                 (const struct hg_log_field[]){__VA_ARGS__, {.key = NULL}}); \
        }                                                                                    \
    } while (0)
/* All of the event are of one kind. */
#define HG_LOG_LIMITED(log, level, event, cause, ...) \
    HG_LOG_LIMITED_BY(log, level, event, "", cause, __VA_ARGS__)
/* Lines that were left out since the start. Any thread. */
uint64_t hg_log_suppressed_n(const struct hg_log *log);

#endif
