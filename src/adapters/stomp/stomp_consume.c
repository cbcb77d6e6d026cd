/* SPDX-License-Identifier: Apache-2.0 */
/* Subscriptions that consume a queue: one that the client names, one that outlives its session, or
 * one made for the subscription because its client answers or wants it to be special. */
#include "adapters/stomp/stomp_sub.h"
#include "base/mem.h"
#include "core/access.h"
#include "core/conn.h"
#include "core/own.h"
#include "core/worker.h"

#include <stdio.h>

enum { AUTO_PREFETCH = 100 }; /* a fair share among competing subscribers */

/* ---- What SUBSCRIBE asks for ---- */

static bool read_ack(const struct hg_stomp_frame *frame, struct hg_stomp_wish *out,
                     struct hg_stomp_failure *f)
{
    static const char *const modes[] = {
        [HG_STOMP_AUTO] = "auto",
        [HG_STOMP_CUMULATIVE] = "client",
        [HG_STOMP_INDIVIDUAL] = "client-individual",
    };
    const struct hg_bytes *ack = hg_stomp_find(frame, "ack");
    for (unsigned i = 0; ack != NULL && i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (hg_bytes_eq(*ack, hg_bytes_str(modes[i]))) {
            out->ack = i;
            return true;
        }
    }
    if (ack != NULL) {
        f->reason = *ack;
        (void)hg_stomp_fails(f, HG_PROTOCOL_ERROR,
                             "the header ack is none of auto, client, client-individual");
    }
    return ack == NULL;
}

bool hg_stomp_wish_read(struct hg_stomp_session *s, const struct hg_stomp_frame *subscribe,
                        struct hg_stomp_wish *out, struct hg_stomp_failure *f)
{
    struct hg_stomp_misfit misfit = {0};
    *out = (struct hg_stomp_wish){.id = hg_stomp_get(subscribe, "id")};
    if (!read_ack(subscribe, out, f)) {
        return false;
    }
    enum hg_status status = hg_stomp_dest_parse(hg_stomp_get(subscribe, "destination"),
                                                hg_stomp_topic_exchange(s), &out->dest, &f->detail);
    if (status != HG_OK) {
        (void)hg_stomp_fails(f, status, "the destination cannot be read");
        return false;
    }
    status = hg_stomp_queue_read(subscribe, &out->queue, &misfit);
    if (status == HG_OK) {
        status = hg_stomp_match_read(subscribe, &out->match_own, &out->match_n, &misfit);
    }
    if (status != HG_OK) {
        f->reason = misfit.value;
        (void)hg_stomp_fails(f, status, misfit.why);
        return false;
    }
    if (out->queue.durable == HG_STOMP_TRUE && out->id.n == 0) {
        (void)hg_stomp_fails(f, HG_PROTOCOL_ERROR, "a durable subscription needs the header id");
        return false;
    }
    return true;
}

void hg_stomp_wish_free(struct hg_stomp_wish *wish)
{
    hg_free(wish->match_own);
}

/* The queue of the first rule that takes the address, if it has one. */
static enum hg_status rule_queue(struct hg_stomp_session *s, struct hg_bytes address,
                                 struct hg_bytes *queue_out, const char **why)
{
    struct hg_writer filter = {0};
    hg_stomp_dest_write_filter(&filter, address);
    enum hg_status status =
        filter.failed ? HG_NO_MEMORY
                      : hg_queue_of_filter(&s->base, hg_writer_view(&filter), queue_out, why);
    hg_writer_close(&filter);
    return status;
}

bool hg_stomp_wish_needs_queue(struct hg_stomp_session *s, const struct hg_stomp_wish *wish)
{
    const struct hg_stomp_queue *q = &wish->queue;
    switch (wish->dest.kind) {
    case HG_STOMP_DEST_QUEUE:
    case HG_STOMP_DEST_AMQ_QUEUE: return true;
    case HG_STOMP_DEST_REPLY_QUEUE: return false;
    case HG_STOMP_DEST_ADDRESS:
    case HG_STOMP_DEST_EXCHANGE: break;
    }
    if (wish->ack != HG_STOMP_AUTO || q->durable == HG_STOMP_TRUE || q->name.n > 0 ||
        q->queue.n > 0 || q->consumer.n > 0 || wish->match_n > 0) {
        return true;
    }
    struct hg_bytes queue;
    const char *why;
    bool says_how = q->has_prefetch || q->exclusive == HG_STOMP_TRUE;
    return says_how && wish->dest.kind == HG_STOMP_DEST_ADDRESS &&
           rule_queue(s, wish->dest.address, &queue, &why) == HG_OK && queue.n > 0;
}

/* ---- The queue ---- */

static void on_queue_state(void *ctx, enum hg_status status, bool has_existed,
                           struct hg_bytes reason)
{
    struct hg_stomp_sub *sub = ctx;
    struct hg_stomp_acks *acks = sub->acks;
    struct hg_stomp_session *s = hg_stomp_session_of(sub->base.session);
    (void)has_existed;
    if (status != HG_OK) {
        acks->queue = NULL; /* it has ended by itself */
        hg_stomp_sub_is(sub, status, reason);
    } else if (acks->is_consumed) { /* again, after a lost link: all of it comes again */
        hg_stomp_pending_reset(&acks->pending);
        acks->lost_to = s->messages;
    } else {
        acks->is_consumed = true;
        if (acks->is_temp) {
            hg_stomp_queue_came(s);
        } else if (sub->base.is_live) {
            hg_stomp_sub_is(sub, HG_OK, HG_BYTES(""));
        }
    }
    hg_stomp_resume_send(s);
}

static const struct hg_queue_ops queue_ops = {.on_state = on_queue_state};

static enum hg_status open_queue(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                 struct hg_queue_options *options)
{
    options->sub = &sub->base;
    options->prefetch = sub->acks->prefetch;
    options->is_auto = sub->acks->is_auto;
    sub->acks->queue = hg_queue_open(&s->base, options, &queue_ops, sub);
    return sub->acks->queue == NULL ? HG_NO_MEMORY : HG_OK;
}

/* Whether it may consume the queue, and declare it. */
static enum hg_status may_use(struct hg_stomp_session *s, struct hg_bytes queue, bool is_declared,
                              const char **why)
{
    enum hg_status status = hg_access_queue(&s->base, HG_ACCESS_SUBSCRIBE, queue, why);
    return status == HG_OK && is_declared
               ? hg_access_queue(&s->base, HG_ACCESS_CONFIGURE, queue, why)
               : status;
}

/* A queue that others know. */
static enum hg_status open_known_queue(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                       struct hg_queue_options *options)
{
    sub->acks->name_own = hg_bytes_dup(options->name);
    sub->acks->end = options->is_private ? HG_QUEUE_DELETE : HG_QUEUE_KEEP;
    return sub->acks->name_own == NULL ? HG_NO_MEMORY : open_queue(s, sub, options);
}

/* One that is in no index, and with nothing to bind. */
static enum hg_status consume_known_queue(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                          struct hg_queue_options *options, const char **why)
{
    enum hg_status status = hg_subscribe_index(&s->base, &sub->base, NULL, HG_BYTES(""), why);
    return status != HG_OK ? status : open_known_queue(s, sub, options);
}

static bool has_argument(const struct hg_stomp_arguments *arguments, struct hg_bytes name)
{
    for (size_t i = 0; i < arguments->n; i++) {
        if (hg_bytes_eq(arguments->items[i].name, name)) {
            return true;
        }
    }
    return false;
}

static void add_argument(struct hg_stomp_arguments *arguments, struct hg_bytes name,
                         struct hg_value value)
{
    if (!has_argument(arguments, name)) {
        arguments->items[arguments->n++] = (struct hg_header){name, value};
    }
}

struct hg_bytes hg_stomp_acks_own_name(const struct hg_stomp_session *s,
                                       const struct hg_stomp_sub *sub,
                                       char room[static HG_STOMP_OWN_NAME_MAX])
{
    int n = snprintf(
        room, HG_STOMP_OWN_NAME_MAX, "%sstomp.%llx.%llx.%llx", hg_own_prefix(hg_realm_of(&s->base)),
        (unsigned long long)s->base.worker->gateway->boot_id,
        (unsigned long long)hg_conn_id(s->base.conn), (unsigned long long)sub->acks->own_number);
    return hg_bytes(room, (size_t)n);
}

/* A queue for this subscription alone. It is not exclusive, so that it outlives a lost link with
 * what is in it; x-expires sees to it when nobody is left to delete it. */
static enum hg_status open_own_queue(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                     struct hg_stomp_queue *wanted,
                                     struct hg_queue_options *options)
{
    const struct hg_worker *w = s->base.worker;
    char name[HG_STOMP_OWN_NAME_MAX];
    add_argument(&wanted->queue, HG_BYTES("x-queue-type"),
                 (struct hg_value){HG_VALUE_STRING, {.bytes = HG_BYTES("classic")}});
    add_argument(
        &wanted->queue, HG_BYTES("x-expires"),
        (struct hg_value){HG_VALUE_INT, {.i = (int64_t)w->config->stomp_queue_expires_ms}});
    sub->acks->own_number = ++s->messages;
    options->name = hg_stomp_acks_own_name(s, sub, name);
    options->arguments = wanted->queue.items;
    options->arguments_n = wanted->queue.n;
    sub->acks->end = HG_QUEUE_DELETE;
    return open_queue(s, sub, options);
}

/* By the plugin's rules: with durable:true it stays unless auto-delete, which is true by default,
 * takes it away with its last consumer. */
static enum hg_status open_bound_queue(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                       const struct hg_stomp_wish *wish, struct hg_bytes key,
                                       struct hg_queue_options *options, const char **why)
{
    struct hg_stomp_queue wanted = wish->queue;
    char room[HG_STOMP_QUEUE_NAME_BYTES];
    options->consumer_arguments = wanted.consumer.items;
    options->consumer_arguments_n = wanted.consumer.n;
    options->binding_arguments = wish->match_own;
    options->binding_arguments_n = wish->match_n;
    bool is_durable = wanted.durable == HG_STOMP_TRUE;
    if (!is_durable && wanted.name.n == 0) {
        return open_own_queue(s, sub, &wanted, options);
    }
    enum hg_status status = wanted.name.n == 0 ? HG_OK : may_use(s, wanted.name, true, why);
    if (status != HG_OK) {
        return status;
    }
    options->name = wanted.name.n > 0 ? wanted.name : hg_stomp_durable_name(key, wish->id, room);
    if (options->name.n == 0) {
        return HG_NO_MEMORY;
    }
    options->arguments = wanted.queue.items;
    options->arguments_n = wanted.queue.n;
    options->is_transient = !is_durable;
    options->is_auto_delete = wanted.auto_delete != HG_STOMP_FALSE;
    options->is_private = options->is_exclusive = wanted.exclusive == HG_STOMP_TRUE;
    options->must_match = true;
    sub->acks->is_durable = is_durable && !options->is_private;
    return open_known_queue(s, sub, options);
}

/* ---- By kind of destination ---- */

static enum hg_status consume_address(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                      const struct hg_stomp_wish *wish, struct hg_bytes filter,
                                      const char **why)
{
    struct hg_queue_options options = {.filter = filter};
    enum hg_status status = hg_queue_of_filter(&s->base, filter, &options.name, why);
    if (status == HG_OK && options.name.n > 0) {
        options.is_whole = options.must_exist = true;
        options.is_exclusive = wish->queue.exclusive == HG_STOMP_TRUE;
        options.consumer_arguments = wish->queue.consumer.items;
        options.consumer_arguments_n = wish->queue.consumer.n;
        return consume_known_queue(s, sub, &options, why);
    }
    struct hg_writer key = {0}; /* no topic's key, so that they do not share a queue */
    hg_writer_u8(&key, '/');
    hg_writer_bytes(&key, wish->dest.address);
    if (status == HG_OK) {
        status = key.failed ? HG_NO_MEMORY
                            : open_bound_queue(s, sub, wish, hg_writer_view(&key), &options, why);
    }
    hg_writer_close(&key);
    return status != HG_OK
               ? status
               : hg_subscribe_queue_filter(&s->base, &sub->base, filter, sub->acks->queue, why);
}

static enum hg_status consume_exchange(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                       const struct hg_stomp_wish *wish, const char **why)
{
    const struct hg_source source = {.exchange = wish->dest.exchange, .key = wish->dest.key};
    struct hg_queue_options options = {.is_by_name = true};
    enum hg_status status = open_bound_queue(s, sub, wish, wish->dest.key, &options, why);
    return status != HG_OK
               ? status
               : hg_subscribe_queue_source(&s->base, &sub->base, &source, sub->acks->queue, why);
}

/* By the plugin's rules: durable and kept, or with durable:false exclusive and auto-delete, unless
 * the headers say otherwise. */
static enum hg_status consume_queue(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                    const struct hg_stomp_wish *wish, const char **why)
{
    struct hg_stomp_queue wanted = wish->queue;
    bool is_transient = wanted.durable == HG_STOMP_FALSE;
    bool must_exist = wish->dest.kind == HG_STOMP_DEST_AMQ_QUEUE;
    enum hg_status status = may_use(s, wish->dest.key, !must_exist, why);
    if (status != HG_OK) {
        return status;
    }
    bool is_private = wanted.exclusive == HG_STOMP_TRUE ||
                      (!must_exist && is_transient && wanted.exclusive == HG_STOMP_UNSAID);
    if (wanted.is_stream && !must_exist) { /* so that it is known where to go on */
        add_argument(&wanted.consumer, HG_BYTES("x-stream-offset"),
                     (struct hg_value){HG_VALUE_STRING, {.bytes = HG_BYTES("next")}});
    }
    struct hg_queue_options options = {
        .name = wish->dest.key,
        .is_exclusive = is_private,
        .must_exist = must_exist,
        .is_by_name = true,
        .consumer_arguments = wanted.consumer.items,
        .consumer_arguments_n = wanted.consumer.n,
    };
    if (!must_exist) {
        options.arguments = wanted.queue.items;
        options.arguments_n = wanted.queue.n;
        options.must_match = true;
        options.is_transient = is_transient;
        options.is_private = is_private;
        options.is_auto_delete = wanted.auto_delete == HG_STOMP_TRUE ||
                                 (is_transient && wanted.auto_delete == HG_STOMP_UNSAID);
    }
    return consume_known_queue(s, sub, &options, why);
}

/* As many as AMQP can count where there is to be no limit; but of what nobody answers no more than
 * of anything else. */
static uint16_t prefetch_of(struct hg_stomp_session *s, const struct hg_stomp_wish *wish)
{
    uint32_t most = s->base.worker->config->prefetch;
    uint32_t n = wish->queue.prefetch;
    if (wish->ack == HG_STOMP_AUTO) {
        return (uint16_t)(n == 0 ? AUTO_PREFETCH : n < most ? n : most);
    }
    return (uint16_t)(!wish->queue.has_prefetch ? most : n == 0 ? UINT16_MAX : n);
}

enum hg_status hg_stomp_consume(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                const struct hg_stomp_wish *wish, const char **why)
{
    sub->acks = hg_zalloc(sizeof(*sub->acks));
    if (sub->acks == NULL) {
        return HG_NO_MEMORY;
    }
    sub->acks->is_auto = wish->ack == HG_STOMP_AUTO;
    sub->acks->is_cumulative = wish->ack == HG_STOMP_CUMULATIVE;
    sub->acks->prefetch = prefetch_of(s, wish);
    if (wish->dest.kind == HG_STOMP_DEST_EXCHANGE) {
        return consume_exchange(s, sub, wish, why);
    }
    if (wish->dest.kind != HG_STOMP_DEST_ADDRESS) {
        return consume_queue(s, sub, wish, why);
    }
    struct hg_writer filter = {0};
    hg_stomp_dest_write_filter(&filter, wish->dest.address);
    enum hg_status status =
        filter.failed ? HG_NO_MEMORY : consume_address(s, sub, wish, hg_writer_view(&filter), why);
    hg_writer_close(&filter);
    return status;
}

enum hg_status hg_stomp_acks_open_temp(struct hg_stomp_session *s, struct hg_stomp_sub *sub,
                                       const char **why)
{
    struct hg_stomp_queue wanted = {0};
    struct hg_queue_options options = {.is_by_name = true};
    enum hg_status status = hg_subscribe_index(&s->base, &sub->base, NULL, HG_BYTES(""), why);
    if (status != HG_OK) {
        return status;
    }
    sub->acks = hg_zalloc(sizeof(*sub->acks));
    if (sub->acks == NULL) {
        return HG_NO_MEMORY;
    }
    sub->acks->is_temp = sub->acks->is_auto = true;
    sub->acks->prefetch = s->base.worker->config->prefetch;
    hg_count(&s->base.worker->metrics.stomp.stomp_temp_queues, 1);
    return open_own_queue(s, sub, &wanted, &options);
}

void hg_stomp_acks_free(struct hg_stomp_sub *sub)
{
    if (sub->acks == NULL) {
        return;
    }
    if (sub->acks->is_temp) {
        hg_uncount(&sub->base.session->worker->metrics.stomp.stomp_temp_queues, 1);
    }
    hg_queue_close(sub->acks->queue, sub->acks->end);
    hg_stomp_pending_reset(&sub->acks->pending);
    hg_free(sub->acks->name_own);
    hg_free(sub->acks);
    sub->acks = NULL;
}

enum hg_stomp_consumes hg_stomp_consumes(const struct hg_stomp_session *s, struct hg_bytes queue)
{
    HG_LIST_FOREACH (it, &s->base.subs) {
        struct hg_stomp_sub *sub = hg_stomp_sub_of(HG_LIST_ENTRY(it, struct hg_sub, session_link));
        if (sub->acks != NULL && hg_bytes_eq(hg_bytes_str(sub->acks->name_own), queue)) {
            return sub->acks->is_consumed ? HG_STOMP_CONSUMES : HG_STOMP_WAITING;
        }
    }
    return HG_STOMP_NOT;
}
