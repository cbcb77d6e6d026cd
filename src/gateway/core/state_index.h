/* SPDX-License-Identifier: Apache-2.0 */
/* What the log says, last value per key: retained messages by address, session records by client
 * identifier, requests by the key that they came with. One writer (who reads the log), any number of readers; locked inside. Two processes
 * that have read the same log have equal indexes. */
#ifndef HG_CORE_STATE_INDEX_H
#define HG_CORE_STATE_INDEX_H

#include "core/request_record.h"
#include "core/session_record.h"
#include "message/message.h"
#include "rules/rules.h"

struct hg_state_index;

struct hg_state_limits {
    uint64_t log_bytes;  /* x-max-length-bytes of the log: live records may fill a quarter of it */
    uint32_t retained_n; /* messages at most */
    uint32_t requests_n; /* at most, */
    uint64_t request_bytes; /* and of their records: the oldest answers are forgotten first */
    size_t topic_bytes_max, topic_levels_max;
};

/* NULL when there is no memory. `log_name` and rules outlive it (or see hg_state_index_set_rules). */
struct hg_state_index *hg_state_index_new(const struct hg_rules *rules, const char *log_name,
                                          const struct hg_state_limits *limits, uint64_t boot_id);
void hg_state_index_free(struct hg_state_index *x);

/* ---- The writer ---- */

/* Other rules hold, which outlive the index or the next call. */
void hg_state_index_set_rules(struct hg_state_index *x, const struct hg_rules *rules);
/* From here on retained messages are found by the addresses that the rules give them. Returns how
 * many are left as they were for want of memory. */
size_t hg_state_index_readdress(struct hg_state_index *x);

/* What a message of the log meant for this process. Texts are borrowed until the next apply. */
struct hg_state_change {
    enum hg_state_change_kind {
        HG_STATE_NOTHING,
        HG_STATE_BARRIER,  /* boot_id, number */
        HG_STATE_RETAINED, /* set or cleared */
        HG_STATE_SESSION, /* a record was set; has_lost: this process's (client_id, epoch) had it */
        HG_STATE_ENDED    /* a session is over; has_lost as above */
    } kind;
    uint64_t boot_id, number;
    struct hg_bytes client_id;
    uint64_t lost_epoch;
    bool has_lost;
    /* something came too late for a key that is gone: it has to be cleared again
     * (hg_state_index_gone), by the leader, for the sake of who reads the log only from here */
    bool must_clear;
    struct hg_bytes exchange, key; /* of a retained message */
    uint64_t version;              /* that the key has now */
    /* Out of memory, and nothing was done: this message has to be applied again, before any that
     * follows it. */
    bool has_failed;
};
/* The next message of the log; one whose offset was seen before means nothing. now_ms: since 1970,
 * for tombstones. */
void hg_state_index_apply(struct hg_state_index *x, const struct hg_message *m, uint64_t offset,
                          uint64_t now_ms, struct hg_state_change *out);

/* Messages that go to the log (default exchange, key = its name), new and the caller's; NULL: no
 * memory. */
struct hg_message *hg_state_index_barrier(struct hg_state_index *x, uint64_t number);
struct hg_message *hg_state_index_session(struct hg_state_index *x, enum hg_session_act act,
                                          const struct hg_session_record *r);
struct hg_message *hg_state_index_request(struct hg_state_index *x,
                                          const struct hg_request_record *record);
/* After must_clear: what clears it again. */
struct hg_message *hg_state_index_gone(struct hg_state_index *x,
                                       const struct hg_state_change *change);
/* The oldest live record if it has come so near to the log's end that it must be written again: a
 * copy of it, marked as under way (until it is read back, or hg_state_index_recopy). NULL: none. */
struct hg_message *hg_state_index_next_copy(struct hg_state_index *x);
/* Copies that were under way were lost: they are due again. */
void hg_state_index_recopy(struct hg_state_index *x);
/* Forgets tombstones that are old enough, and retained messages and requests whose time is over. */
void hg_state_index_sweep(struct hg_state_index *x, uint64_t now_ms);

/* ---- Readers, any thread ---- */

/* A copy of the session's record, the caller's; NULL: none (or no memory: *has_failed). */
struct hg_session_record *hg_state_index_find(struct hg_state_index *x, struct hg_bytes client_id,
                                              bool *has_failed);
/* Calls each for every record that is_wanted agrees to; both under the lock, neither may call
 * back. */
typedef void hg_state_record_fn(void *ctx, const struct hg_session_record *r);
void hg_state_index_each_session(struct hg_state_index *x, hg_state_record_fn *each, void *ctx);

/* Whether a retained message of `bytes` to this exchange and key would keep the quotas: OK or
 * TOO_MANY. */
enum hg_status hg_state_index_admits(struct hg_state_index *x, struct hg_bytes exchange,
                                     struct hg_bytes key, size_t bytes);

/* A retained message, shared between threads by an atomic count. */
struct hg_retained;
/* All that match the filter now (expired ones left out), in the order of their addresses; each has
 * a reference for the caller, in an array of hg_alloc. Returns how many; *has_failed: no memory. */
size_t hg_state_index_match(struct hg_state_index *x, enum hg_protocol proto,
                            struct hg_bytes filter, uint64_t now_ms, struct hg_retained ***out_own,
                            bool *has_failed);
void hg_retained_unref(struct hg_retained *r);
/* The message, copied for the calling worker; NULL: no memory. */
struct hg_message *hg_retained_message(const struct hg_retained *r);

enum hg_request_state {
    HG_REQUEST_UNKNOWN,
    HG_REQUEST_OURS,       /* the claim by this owner has it, */
    HG_REQUEST_OURS_AGAIN, /* after another's ran out: that one may have done it or not */
    HG_REQUEST_ANSWERED,
    HG_REQUEST_UNDER_WAY, /* somebody else has it */
    HG_REQUEST_DIFFERS    /* the key belongs to another request */
};
struct hg_request_answer {
    unsigned status;
    char type[HG_REQUEST_TYPE_MAX + 1]; /* empty: none */
    struct hg_writer body; /* the caller's to close; if it failed, there was no memory */
};
/* What is known of asked->key, by this owner and fingerprint; ANSWERED fills *answer_out. */
enum hg_request_state hg_state_index_look(struct hg_state_index *x,
                                          const struct hg_request_record *asked, uint64_t now_ms,
                                          struct hg_request_answer *answer_out);

struct hg_state_index_stats {
    uint64_t retained_n, retained_bytes, sessions_n, sessions_connected_n, tombstones_n, live_bytes;
    uint64_t requests_n, request_bytes; /* not among live_bytes: their share is their own */
    uint64_t applied_n, last_offset;
};
void hg_state_index_stats(struct hg_state_index *x, struct hg_state_index_stats *out);
/* A hash over all keys, values and versions but requests, which each process forgets by its own
 * clock: equal where indexes are equal. For /api/status. */
uint64_t hg_state_index_digest(struct hg_state_index *x);

#endif
