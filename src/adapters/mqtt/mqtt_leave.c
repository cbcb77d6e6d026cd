/* SPDX-License-Identifier: Apache-2.0 */
/* A kept session whose connection is gone: what the client published is settled, its record is
 * written, for a successor in another process what was in flight as well; then the queue and the
 * client identifier are given up. */
#include "adapters/mqtt/mqtt_deliver.h"
#include "adapters/mqtt/mqtt_persist_priv.h"
#include "adapters/mqtt/mqtt_subscribe.h"
#include "base/clock.h"
#include "base/mem.h"

enum { SETTLE_MS = 4000 }; /* for publishes under way: less than a successor's patience */

/* Gives up everything. Not from inside a call of the session. */
static void release(struct hg_mqtt_persist *p)
{
    struct hg_mqtt_session *s = p->session;
    bool is_over = p->expiry_s == 0 && p->step == STEP_DONE;
    struct hg_queue *queue = p->queue;
    p->queue = NULL;
    hg_queue_close(queue, is_over ? HG_QUEUE_DELETE : HG_QUEUE_KEEP);
    hg_mqtt_free(s);
}

void hg_mqtt_leave_abandon(struct hg_leaver *leaver)
{
    struct hg_mqtt_persist *p = HG_CONTAINER_OF(leaver, struct hg_mqtt_persist, leaver);
    hg_mqtt_persist_log(p, "mqtt.session_lost", HG_SHUTTING_DOWN, HG_BYTES(""));
    p->step = STEP_HANDING;
    release(p);
}

/* What is to be written of a session that was connected. */
static bool make_last(struct hg_mqtt_persist *p)
{
    struct hg_mqtt_session *s = p->session;
    struct hg_mqtt_inbound scratch;
    struct hg_session_filter *filters = NULL;
    struct hg_session_tx *tx = NULL;
    struct hg_session_record r = hg_mqtt_persist_head_with_will(p, &scratch);
    r.disconnected_ms = hg_clock_wall_ms();
    bool is_ok =
        hg_mqtt_list_filters(s, &filters, &r.filters_n) && hg_mqtt_list_deliveries(s, &tx, &r.tx_n);
    if (is_ok) {
        r.filters = filters;
        r.tx = tx;
        hg_session_record_free(p->record);
        p->record = hg_session_record_copy(&r);
        is_ok = p->record != NULL;
    }
    hg_free(filters);
    hg_free(tx);
    return is_ok;
}

/* And of one that was claimed, but not accepted: as it was before. */
static bool make_last_of_claimed(struct hg_mqtt_persist *p)
{
    const struct hg_session_record *was = p->record != NULL ? p->record : p->before;
    struct hg_session_record r = hg_mqtt_persist_head(p);
    r.disconnected_ms = hg_clock_wall_ms();
    if (was != NULL && !p->is_clean) {
        bool is_known = p->record != NULL || was->disconnected_ms > 0;
        r.filters = was->filters;
        r.filters_n = was->filters_n;
        r.rx = was->rx;
        r.rx_n = is_known ? was->rx_n : 0;
        r.tx = was->tx;
        r.tx_n = is_known ? was->tx_n : 0;
    }
    struct hg_session_record *last = hg_session_record_copy(&r);
    hg_session_record_free(p->record);
    p->record = last;
    return last != NULL;
}

static void decide_will(struct hg_mqtt_persist *p)
{
    struct hg_mqtt_session *s = p->session;
    if (s->state != HG_MQTT_CONNECTED) {
        hg_mqtt_forget_will(s); /* it was never connected: its will stays unsaid */
    } else if (s->will != NULL && s->will->delay_s > 0 && p->expiry_s > 0) {
        uint32_t wait_s = s->will->delay_s < p->expiry_s ? s->will->delay_s : p->expiry_s;
        p->will_at_ms = hg_clock_wall_ms() + (uint64_t)wait_s * 1000;
    } else {
        hg_mqtt_publish_will(s);
    }
}

static void end_soon(struct hg_mqtt_persist *p)
{
    hg_worker_timer(worker_of(p), &p->timer, 0);
}

/* The last record with what was received since it was made. */
static enum hg_status write_last(struct hg_mqtt_persist *p, enum hg_session_act act)
{
    struct hg_mqtt_session *s = p->session;
    struct hg_session_record r = *p->record;
    uint16_t *rx = NULL;
    if (s->in != NULL) {
        if (!hg_mqtt_in_list(s->in, &rx, &r.rx_n)) {
            return HG_NO_MEMORY;
        }
        r.rx = rx;
    }
    enum hg_status status = hg_state_write(realm_of(p), act, &r, &p->wait);
    hg_free(rx);
    return status;
}

/* Another process has claimed the session, and this one knows it. */
static bool has_successor(const struct hg_mqtt_persist *p)
{
    bool has_failed = false;
    struct hg_session_record *now = hg_mqtt_persist_find(p->session, &has_failed);
    bool has_it = now != NULL && !hg_mqtt_persist_is_ours(p, now);
    hg_session_record_free(now);
    return has_it;
}

static void write_or_end(struct hg_mqtt_persist *p, enum hg_session_act act)
{
    enum hg_status status = write_last(p, act);
    if (status != HG_OK) {
        hg_mqtt_persist_log(p, "mqtt.session_lost", status, HG_BYTES(""));
        p->step = STEP_HANDING;
        end_soon(p);
    }
}

static void hand_over(struct hg_mqtt_persist *p)
{
    p->step = STEP_HANDING;
    write_or_end(p, HG_SESSION_HANDOVER);
}

static void write_record(struct hg_mqtt_persist *p)
{
    if (!p->was_claiming && has_successor(p)) {
        hand_over(p);
        return;
    }
    p->step = STEP_WRITING;
    write_or_end(p, p->expiry_s == 0 ? HG_SESSION_END : HG_SESSION_UPDATE);
}

/* Who claimed the session while the record was written takes no notice of it, but of this. */
void hg_mqtt_leave_written(struct hg_mqtt_persist *p, enum hg_status status)
{
    if (status != HG_OK) {
        hg_mqtt_persist_log(p, "mqtt.session_lost", status, HG_BYTES(""));
        p->step = STEP_HANDING;
    } else if (p->step == STEP_WRITING && has_successor(p)) {
        hand_over(p);
        return;
    } else if (p->step == STEP_WRITING) {
        p->step = STEP_DONE;
    }
    release(p);
}

void hg_mqtt_leave_fired(struct hg_mqtt_persist *p)
{
    if (p->step == STEP_SETTLING) {
        write_record(p);
    } else {
        release(p);
    }
}

bool hg_mqtt_persist_leave(struct hg_mqtt_session *s)
{
    struct hg_mqtt_persist *p = s->persist;
    bool is_claimed = p->step >= STEP_CLAIMING && p->step <= STEP_RESTORING;
    if (!is_claimed && p->step != STEP_READY) {
        return false;
    }
    decide_will(p);
    if (is_claimed ? !make_last_of_claimed(p) : !make_last(p)) {
        hg_mqtt_persist_log(p, "mqtt.session_lost", HG_NO_MEMORY, HG_BYTES(""));
        return false;
    }
    hg_state_cancel(&p->wait);
    hg_state_cancel(&p->saving);
    hg_list_add_last(&worker_of(p)->leavers, &p->leaver.link);
    s->state = HG_MQTT_LEAVING;
    hg_claim_yield(&s->claim); /* what is in the record says whose it is */
    p->was_claiming = p->step == STEP_CLAIMING;
    p->step = STEP_SETTLING;
    hg_timer_stop(&p->timer);
    if (hg_mqtt_is_settled(s)) {
        write_record(p);
    } else {
        hg_worker_timer(worker_of(p), &p->timer, SETTLE_MS);
    }
    return true;
}

void hg_mqtt_persist_settled(struct hg_mqtt_session *s)
{
    if (s->persist->step == STEP_SETTLING) {
        end_soon(s->persist);
    }
}
