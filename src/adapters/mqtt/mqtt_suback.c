/* SPDX-License-Identifier: Apache-2.0 */
/* Sections are those of MQTT 5.0. */
#include "adapters/mqtt/mqtt_suback.h"

#include "base/mem.h"
#include "core/retain.h"

static struct hg_mqtt_sub *sub_of(struct hg_sub *base)
{
    return HG_CONTAINER_OF(base, struct hg_mqtt_sub, base);
}

static struct hg_bytes filter_of(const struct hg_mqtt_sub *sub)
{
    return hg_bytes(sub->filter, sub->filter_n);
}

uint8_t hg_mqtt_suback_code(const struct hg_mqtt_session *s, enum hg_status status)
{
    return s->v5 == NULL ? (uint8_t)HG_MQTT_SUBACK_FAILURE
                         : hg_mqtt_reason_for(HG_MQTT_SUBACK, status);
}

/* ---- Answers ---- */

static bool write_answer(struct hg_mqtt_session *s, const struct hg_mqtt_suback *p,
                         struct hg_writer *w)
{
    struct hg_writer codes = {0};
    struct hg_writer properties = {0};
    bool has_codes = p->answer == HG_MQTT_SUBACK || s->v5 != NULL;
    for (uint32_t i = 0; i < p->n && has_codes; i++) {
        hg_writer_u8(&codes, p->places[i].code);
    }
    if (s->v5 != NULL && s->v5->wants_problem_information && p->why != NULL) {
        hg_mqtt_property_bytes(&properties, HG_MQTT_REASON_STRING, hg_bytes_str(p->why));
    }
    bool is_ok = !codes.failed && !properties.failed;
    size_t size = hg_writer_n(&codes) + hg_writer_n(&properties) + 16;
    if (s->v5 != NULL && size > s->v5->max_packet_bytes) { /* [MQTT-3.9.2-1] */
        hg_writer_reset(&properties);
    }
    if (is_ok) {
        hg_mqtt_write_suback(w, s->decoder.level, p->answer, p->packet_id, hg_writer_view(&codes),
                             hg_writer_view(&properties));
    }
    hg_writer_close(&codes);
    hg_writer_close(&properties);
    return is_ok && !w->failed;
}

static void on_found(struct hg_session *base, struct hg_sub *sub);

/* Looks for it as soon as the subscription is live. SUBACK waits until it is found: what is retained
 * after SUBACK comes once, as it is published. */
void hg_mqtt_suback_serve(struct hg_mqtt_session *s, struct hg_mqtt_place *place)
{
    struct hg_mqtt_sub *sub = place->sub;
    if (!place->wants_retained || sub->is_sys) {
        return;
    }
    enum hg_status status = hg_retained_serve_then(&s->base, &sub->base, filter_of(sub), on_found);
    place->is_looking = status == HG_HELD;
    if (status == HG_NO_MEMORY) {
        hg_conn_close(s->base.conn, HG_NO_MEMORY);
    }
}

static void free_pending(struct hg_mqtt_session *s, struct hg_mqtt_suback *p)
{
    hg_chain_remove(&p->link);
    hg_free(p);
    if (s->subacks_n-- == HG_MQTT_SUBACKS_MAX && !s->is_draining) {
        hg_conn_release(s->base.conn, HG_HOLD_SESSION);
    }
}

static void answer(struct hg_mqtt_session *s, struct hg_mqtt_suback *p)
{
    struct hg_writer w = {0};
    if (write_answer(s, p, &w)) {
        hg_mqtt_send(s, hg_writer_view(&w));
    } else {
        hg_conn_close(s->base.conn, HG_NO_MEMORY);
    }
    hg_writer_close(&w);
    for (uint32_t i = 0; i < p->n; i++) {
        struct hg_mqtt_sub *sub = p->places[i].sub;
        if (sub != NULL) {
            sub->waiting_n--;
        }
        if (sub != NULL && sub->is_sys && p->places[i].wants_retained) {
            hg_mqtt_sys_serve(s, sub);
        }
    }
    free_pending(s, p);
}

/* RabbitMQ has answered for all of its filters. */
void hg_mqtt_suback_complete(struct hg_mqtt_session *s, struct hg_mqtt_suback *p)
{
    if (p->must_save && p->number == 0) {
        p->number = hg_mqtt_save(s);
    }
    if (p->number == 0) {
        answer(s, p);
    }
}

void hg_mqtt_saved(struct hg_mqtt_session *s, uint32_t number, enum hg_status status)
{
    if (status != HG_OK) { /* it would be forgotten: the client had better ask again */
        hg_mqtt_end(s, 0, status, "the session's subscriptions cannot be saved");
        return;
    }
    HG_CHAIN_FOREACH_SAFE (it, &s->subacks) {
        struct hg_mqtt_suback *p = HG_CHAIN_ENTRY(it, struct hg_mqtt_suback, link);
        if (p->number != 0 && (int32_t)(p->number - number) <= 0) {
            answer(s, p);
        }
    }
}

struct hg_mqtt_suback *hg_mqtt_suback_new(struct hg_mqtt_session *s, enum hg_mqtt_type type,
                                          const struct hg_mqtt_subscribe *packet)
{
    struct hg_mqtt_suback *p = hg_zalloc(sizeof(*p) + packet->filters_n * sizeof(p->places[0]));
    if (p != NULL) {
        p->answer = type;
        p->packet_id = packet->packet_id;
        p->n = (uint32_t)packet->filters_n;
        hg_chain_add_last(&s->subacks, &p->link);
        s->subacks_n++;
    }
    return p;
}

/* ---- Places that wait for a subscription ---- */

static void resolve_place(struct hg_mqtt_session *s, struct hg_mqtt_suback *p,
                          struct hg_mqtt_place *place, enum hg_status outcome)
{
    place->is_waiting = false;
    if (outcome == HG_OK) {
        p->must_save = true;
        hg_mqtt_suback_serve(s, place);
        p->waiting_n -= !place->is_looking;
        return;
    }
    p->waiting_n--;
    place->code = hg_mqtt_suback_code(s, outcome);
    place->sub->waiting_n--;
    place->sub = NULL;
    p->why = p->why != NULL ? p->why : hg_status_text(outcome);
}

/* places_n: how many know the subscription, in this packet and those after it. */
static void resolve_in(struct hg_mqtt_session *s, struct hg_mqtt_suback *p, struct hg_mqtt_sub *sub,
                       enum hg_status outcome, uint32_t *places_n)
{
    for (uint32_t i = p->first; *places_n > 0 && i < p->n; i++) {
        struct hg_mqtt_place *place = &p->places[i];
        if (place->sub == sub) {
            --*places_n;
        }
        if (place->sub == sub && place->is_waiting) {
            resolve_place(s, p, place, outcome);
        } else if (place->sub == sub && place->is_looking && outcome != HG_OK) {
            place->is_looking = false; /* it was granted all the same */
            p->waiting_n--;
        }
    }
    while (p->first < p->n && !p->places[p->first].is_waiting && !p->places[p->first].is_looking) {
        p->first++; /* RabbitMQ answers in order: the next is found at once */
    }
}

/* Every place that waits for this subscription learns its outcome. */
void hg_mqtt_suback_resolve(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub,
                            enum hg_status outcome)
{
    uint32_t places_n = sub->waiting_n;
    HG_CHAIN_FOREACH_SAFE (it, &s->subacks) {
        struct hg_mqtt_suback *p = HG_CHAIN_ENTRY(it, struct hg_mqtt_suback, link);
        if (p->waiting_n == 0) {
            continue;
        }
        resolve_in(s, p, sub, outcome, &places_n);
        if (p->waiting_n == 0) {
            hg_mqtt_suback_complete(s, p);
        }
    }
}

/* What a subscription is to be served is found: the oldest place that waits for that is done. */
static void on_found(struct hg_session *base, struct hg_sub *sub)
{
    struct hg_mqtt_session *s = hg_mqtt_session_of(base);
    HG_CHAIN_FOREACH (it, &s->subacks) {
        struct hg_mqtt_suback *p = HG_CHAIN_ENTRY(it, struct hg_mqtt_suback, link);
        for (uint32_t i = 0; i < p->n; i++) {
            struct hg_mqtt_place *place = &p->places[i];
            if (!place->is_looking || place->sub != sub_of(sub)) {
                continue;
            }
            place->is_looking = false;
            if (--p->waiting_n == 0) {
                hg_mqtt_suback_complete(s, p);
            }
            return;
        }
    }
}

/* No place knows it any more (or all of them know `heir` instead, and look anew once that is live). */
void hg_mqtt_suback_pass(struct hg_mqtt_session *s, struct hg_mqtt_sub *sub,
                         struct hg_mqtt_sub *heir)
{
    HG_CHAIN_FOREACH (it, &s->subacks) {
        struct hg_mqtt_suback *p = HG_CHAIN_ENTRY(it, struct hg_mqtt_suback, link);
        for (uint32_t i = 0; i < p->n && sub->waiting_n > 0; i++) {
            struct hg_mqtt_place *place = &p->places[i];
            if (place->sub != sub) {
                continue;
            }
            place->sub = heir;
            sub->waiting_n--;
            if (place->is_looking) {
                place->is_looking = false;
                place->is_waiting = heir != NULL;
                p->waiting_n -= heir == NULL;
                p->first = i < p->first ? i : p->first;
            }
            if (heir != NULL) {
                heir->waiting_n++;
            }
        }
    }
}
