/* SPDX-License-Identifier: Apache-2.0 */
/* Every key has the version of the last message about it, whether that had an effect or not: what a
 * copy says is taken where it is as new as that. A key's position is where a reader of the log may
 * start at the latest to know it: a retained message moves it, of a session only its first record
 * and copies that nothing overtook, since what comes in between builds on what was. Keys are copied
 * in the order of their positions, before retention reaches them. */
#include "core/state_index.h"

#include "base/mem.h"
#include "core/state_index_priv.h"

enum {
    GONE_KEEP_MS = 600000, /* longer than a copy can be on its way */
    SWEEP_SLOTS = 16384    /* of the table of retained messages, at once */
};

struct hg_state_index *hg_state_index_new(const struct hg_rules *rules, const char *log_name,
                                          const struct hg_state_limits *limits, uint64_t boot_id)
{
    struct hg_state_index *x = hg_zalloc(sizeof(*x));
    if (x == NULL || uv_rwlock_init(&x->lock) != 0) {
        hg_free(x);
        return NULL;
    }
    x->rules = rules;
    x->log_name = hg_bytes_str(log_name);
    x->limits = *limits;
    x->boot_id = boot_id;
    hg_map_open(&x->retained);
    hg_map_open(&x->sessions);
    hg_map_open(&x->requests);
    hg_address_tree_open(&x->addresses);
    hg_list_init(&x->live);
    hg_list_init(&x->copying);
    hg_list_init(&x->gone);
    hg_list_init(&x->answered);
    hg_list_init(&x->open);
    return x;
}

/* ---- Items ---- */

static uint64_t hash_of(struct hg_bytes b)
{
    static const uint64_t seed[2] = {0x6865616467617465, 0x7374617465}; /* the same everywhere */
    return hg_siphash(seed, b);
}

static uint64_t digest_of(const struct item *item)
{
    const uint64_t both[2] = {item->hash, item->version};
    return hash_of(hg_bytes(both, sizeof(both)));
}

uint32_t hg_state_log_bytes(const struct hg_message *m)
{
    const struct hg_properties *p = hg_message_properties(m);
    size_t n = HG_STATE_MESSAGE_EXTRA + hg_message_cost_bytes(m) + p->headers_n * 2;
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static void set_version(struct hg_state_index *x, struct item *item, uint64_t version)
{
    x->digest -= item->is_gone ? 0 : digest_of(item);
    item->version = version;
    x->digest += item->is_gone ? 0 : digest_of(item);
}

/* Out of every count; what follows is go_live or go. */
static void take_out(struct hg_state_index *x, struct item *item)
{
    hg_list_remove(&item->link);
    if (item->is_gone) {
        x->stats.tombstones_n--;
        return;
    }
    x->digest -= digest_of(item);
    x->stats.live_bytes -= item->bytes;
    if (item->kind == ITEM_RETAINED) {
        x->stats.retained_n--;
        x->stats.retained_bytes -= item->bytes;
    } else {
        x->stats.sessions_n--;
    }
}

static void go_live(struct hg_state_index *x, struct item *item, uint64_t hash, uint32_t bytes)
{
    item->is_gone = false;
    item->is_copying = false;
    item->hash = hash;
    item->bytes = bytes;
    item->at = x->read_bytes;
    hg_list_add_last(&x->live, &item->link);
    x->digest += digest_of(item);
    x->stats.live_bytes += bytes;
    if (item->kind == ITEM_RETAINED) {
        x->stats.retained_n++;
        x->stats.retained_bytes += bytes;
    } else {
        x->stats.sessions_n++;
    }
}

static void go(struct hg_state_index *x, struct item *item, uint64_t now_ms)
{
    item->is_gone = true;
    item->is_haunted = false;
    item->is_copying = false;
    item->bytes = 0;
    item->at = now_ms;
    hg_list_add_last(&x->gone, &item->link);
    x->stats.tombstones_n++;
}

void hg_state_item_copy_again(struct hg_state_index *x, struct item *item)
{
    if (item->is_copying) {
        item->is_copying = false;
        hg_list_remove(&item->link);
        hg_list_add_last(x->live.next, &item->link); /* in front */
    }
}

/* A copy that is older than what is known. */
static void refuse_copy(struct hg_state_index *x, struct item *item, bool is_of_live,
                        struct hg_state_change *out)
{
    hg_state_item_copy_again(x, item);
    out->must_clear = item->is_gone && is_of_live;
    item->is_haunted = item->is_haunted || out->must_clear;
    out->version = item->version;
}

/* ---- Retained messages ---- */

static struct retained *retained_of(struct item *item)
{
    return HG_CONTAINER_OF(item, struct retained, item);
}

static void free_nodes(struct hg_address_node *nodes)
{
    while (nodes != NULL) {
        struct hg_address_node *next = nodes->next;
        hg_free(nodes);
        nodes = next;
    }
}

/* A node for each address that it has, with the protocols in which it has it. False when there is
 * no memory. */
static bool make_nodes(const struct hg_state_index *x, const struct hg_message *m,
                       const struct hg_state_message *what, struct retained *entry,
                       struct hg_address_node **out)
{
    const struct hg_value *header = hg_message_header(m, HG_BYTES("x-headgate-address"));
    struct hg_bytes original =
        header != NULL && header->kind == HG_VALUE_STRING ? header->u.bytes : HG_BYTES("");
    struct hg_writer text = {0};
    bool has_failed = false;
    *out = NULL;
    for (int proto = 0; proto < HG_PROTO_N && !has_failed; proto++) {
        size_t rule;
        hg_writer_reset(&text);
        if (!hg_rules_deliver(x->rules, (enum hg_protocol)proto, what->exchange, what->key,
                              original, &text, &rule) ||
            hg_writer_n(&text) > UINT16_MAX) {
            continue;
        }
        struct hg_address_node *node = *out;
        struct hg_bytes address = hg_writer_view(&text);
        while (node != NULL && !hg_bytes_eq(hg_bytes(node->text, node->n), address)) {
            node = node->next;
        }
        if (node == NULL) {
            node = hg_address_node_new(address, entry);
            has_failed = node == NULL;
            if (has_failed) {
                break;
            }
            node->next = *out;
            *out = node;
        }
        node->protocols |= (uint8_t)(1U << proto);
    }
    has_failed = has_failed || text.failed;
    hg_writer_close(&text);
    if (has_failed) {
        free_nodes(*out);
        *out = NULL;
    }
    return !has_failed;
}

static void drop_nodes(struct hg_state_index *x, struct retained *entry)
{
    for (struct hg_address_node *it = entry->nodes; it != NULL; it = it->next) {
        hg_address_tree_remove(&x->addresses, it);
    }
    free_nodes(entry->nodes);
    entry->nodes = NULL;
}

static void set_nodes(struct hg_state_index *x, struct retained *entry,
                      struct hg_address_node *nodes_own)
{
    entry->nodes = nodes_own;
    for (struct hg_address_node *it = nodes_own; it != NULL; it = it->next) {
        hg_address_tree_add(&x->addresses, it);
    }
}

static void drop_retained(struct hg_state_index *x, struct retained *entry)
{
    drop_nodes(x, entry);
    hg_retained_unref(entry->blob);
    entry->blob = NULL;
}

static void forget_retained(struct hg_state_index *x, struct retained *entry)
{
    hg_map_remove(&x->retained, hg_retained_name(entry->blob));
    take_out(x, &entry->item);
    drop_retained(x, entry);
    hg_free(entry);
}

static void apply_retained(struct hg_state_index *x, const struct hg_message *m,
                           const struct hg_state_message *what, uint64_t version, uint64_t now_ms,
                           struct hg_state_change *out)
{
    uint8_t room[HG_RETAINED_NAME_MAX];
    struct hg_bytes name = hg_retained_name_of(what->exchange, what->key, room);
    struct retained *entry = hg_map_find(&x->retained, name);
    if (entry != NULL && what->is_copy && version < entry->item.version) {
        refuse_copy(x, &entry->item, hg_message_body(m).n > 0, out);
        out->exchange = hg_retained_exchange(entry->blob);
        out->key = hg_retained_key(entry->blob);
        return;
    }
    bool is_new = entry == NULL;
    struct hg_address_node *nodes = NULL;
    struct hg_retained *blob = hg_retained_new(what->exchange, what->key, m);
    out->has_failed = blob == NULL || (is_new && (entry = hg_zalloc(sizeof(*entry))) == NULL);
    bool is_over =
        !out->has_failed && (hg_retained_body_n(blob) == 0 || hg_retained_ends_ms(blob) <= now_ms);
    if (out->has_failed || (!is_over && !make_nodes(x, m, what, entry, &nodes)) ||
        !hg_map_put(&x->retained, hg_retained_name(blob), entry)) {
        free_nodes(nodes);
        hg_retained_unref(blob);
        hg_free(is_new ? entry : NULL);
        out->has_failed = true;
        return;
    }
    if (!is_new) {
        take_out(x, &entry->item);
        drop_retained(x, entry);
    }
    hg_list_init(&entry->item.link);
    entry->item.kind = ITEM_RETAINED;
    entry->item.version = version;
    entry->blob = blob;
    set_nodes(x, entry, nodes);
    if (is_over) {
        go(x, &entry->item, now_ms);
    } else {
        go_live(x, &entry->item, hash_of(hg_retained_bytes(blob)), hg_state_log_bytes(m));
    }
    out->kind = HG_STATE_RETAINED;
    out->exchange = hg_retained_exchange(blob);
    out->key = hg_retained_key(blob);
    out->version = version;
}

void hg_state_index_set_rules(struct hg_state_index *x, const struct hg_rules *rules)
{
    x->rules = rules;
}

/* Readers come in between: nobody waits for all of them. */
size_t hg_state_index_readdress(struct hg_state_index *x)
{
    size_t failed_n = 0;
    size_t at = 0;
    struct hg_bytes name;
    void *value;
    while (hg_map_next(&x->retained, &at, &name, &value)) {
        struct retained *entry = value;
        struct hg_message *m = entry->item.is_gone ? NULL : hg_retained_message(entry->blob);
        const struct hg_state_message what = {.exchange = hg_retained_exchange(entry->blob),
                                              .key = hg_retained_key(entry->blob)};
        struct hg_address_node *nodes = NULL;
        if (m != NULL && make_nodes(x, m, &what, entry, &nodes)) {
            uv_rwlock_wrlock(&x->lock);
            drop_nodes(x, entry);
            set_nodes(x, entry, nodes);
            uv_rwlock_wrunlock(&x->lock);
        } else {
            failed_n += !entry->item.is_gone;
        }
        hg_message_unref(m);
    }
    return failed_n;
}

/* ---- Sessions ---- */

static struct session *session_of(struct item *item)
{
    return HG_CONTAINER_OF(item, struct session, item);
}

static bool is_same(struct hg_state_owner a, struct hg_state_owner b)
{
    return a.boot_id == b.boot_id && a.epoch == b.epoch;
}

static struct hg_state_owner owner_of(const struct session *s)
{
    return s->record == NULL ? (struct hg_state_owner){0, 0}
                             : (struct hg_state_owner){s->record->boot_id, s->record->epoch};
}

/* Equal for equal records; *has_failed: no memory. */
static uint64_t hash_record(const struct hg_session_record *r, struct hg_state_owner previous,
                            bool *has_failed)
{
    struct hg_writer w = {0};
    hg_writer_bytes(&w, r->client_id);
    hg_writer_printf(&w, "\n%llx %llx %llx %llx\n", (unsigned long long)r->boot_id,
                     (unsigned long long)r->epoch, (unsigned long long)previous.boot_id,
                     (unsigned long long)previous.epoch);
    hg_session_record_write(r, &w);
    *has_failed = *has_failed || w.failed;
    uint64_t hash = hash_of(hg_writer_view(&w));
    hg_writer_close(&w);
    return hash;
}

/* The record that the message makes out of the one that is there (NULL: none), in *out_own. False
 * when there is no memory; NULL and true: the message holds none. */
static bool make_record(const struct hg_message *m, const struct hg_state_message *what,
                        const struct hg_session_record *there, struct hg_session_record **out_own)
{
    const char *why = NULL;
    struct hg_session_record *read = hg_session_record_read(hg_message_body(m), &why);
    *out_own = NULL;
    if (read == NULL) {
        return why != NULL;
    }
    bool is_handover = what->act == HG_SESSION_HANDOVER;
    bool inherits = what->act == HG_SESSION_CLAIM && !what->is_copy && read->inherits;
    struct hg_session_record made = is_handover ? *there : *read;
    const struct hg_session_record none = {0};
    const struct hg_session_record *in_flight = !inherits ? read : there != NULL ? there : &none;
    made.rx = in_flight->rx;
    made.rx_n = in_flight->rx_n;
    made.tx = in_flight->tx;
    made.tx_n = in_flight->tx_n;
    if (inherits) {
        made.filters = in_flight->filters;
        made.filters_n = in_flight->filters_n;
    }
    made.inherits = false;
    if (!is_handover) {
        made.client_id = what->client_id;
        made.boot_id = what->owner.boot_id;
        made.epoch = what->owner.epoch;
    }
    *out_own = hg_session_record_copy(&made);
    hg_session_record_free(read);
    return *out_own != NULL;
}

static struct session *session_new(struct hg_state_index *x, struct hg_bytes id)
{
    struct session *s = hg_zalloc(sizeof(*s) + id.n);
    if (s == NULL) {
        return NULL;
    }
    hg_list_init(&s->item.link);
    s->id_n = (uint16_t)id.n;
    memcpy(s->id, id.p, id.n);
    if (!hg_map_put(&x->sessions, hg_bytes(s->id, s->id_n), s)) {
        hg_free(s);
        return NULL;
    }
    s->item.is_gone = true;
    x->stats.tombstones_n++; /* which take_out takes back */
    return s;
}

static void drop_record(struct hg_state_index *x, struct session *s)
{
    if (s->record != NULL) {
        x->stats.sessions_connected_n -= s->record->disconnected_ms == 0;
        hg_session_record_free(s->record);
        s->record = NULL;
    }
}

static void forget_session(struct hg_state_index *x, struct session *s)
{
    hg_map_remove(&x->sessions, hg_bytes(s->id, s->id_n));
    take_out(x, &s->item);
    drop_record(x, s);
    hg_free(s);
}

/* Takes the record. `moves`: who starts to read the log here knows all of it. */
static void set_record(struct hg_state_index *x, struct session *s,
                       struct hg_session_record *record_own, uint64_t hash, uint32_t bytes,
                       bool moves)
{
    drop_record(x, s);
    s->record = record_own;
    x->stats.sessions_connected_n += record_own->disconnected_ms == 0;
    if (moves) {
        take_out(x, &s->item);
        go_live(x, &s->item, hash, bytes);
        if (s->item.is_haunted) { /* it is to be copied at once */
            s->item.is_haunted = false;
            s->item.at = x->read_bytes - x->limits.log_bytes;
            hg_list_remove(&s->item.link);
            hg_list_add_last(x->live.next, &s->item.link); /* in front */
        }
        return;
    }
    x->digest -= digest_of(&s->item);
    x->stats.live_bytes += bytes - (uint64_t)s->item.bytes;
    s->item.hash = hash;
    s->item.bytes = bytes;
    x->digest += digest_of(&s->item);
}

static void end_session(struct hg_state_index *x, struct session *s, uint64_t now_ms,
                        struct hg_state_change *out)
{
    take_out(x, &s->item);
    drop_record(x, s);
    s->previous = (struct hg_state_owner){0, 0};
    go(x, &s->item, now_ms);
    out->kind = HG_STATE_ENDED;
}

static bool is_entitled(const struct session *s, const struct hg_state_message *what)
{
    bool is_live = s != NULL && s->record != NULL;
    switch (what->act) {
    case HG_SESSION_CLAIM:
    case HG_SESSION_FORGET: return true;
    case HG_SESSION_UPDATE:
    case HG_SESSION_END: return is_live && is_same(owner_of(s), what->owner);
    case HG_SESSION_HANDOVER: return is_live && is_same(s->previous, what->owner);
    }
    return false;
}

static void write_session(struct hg_state_index *x, struct session *s, const struct hg_message *m,
                          const struct hg_state_message *what, struct hg_state_change *out)
{
    struct hg_session_record *record = NULL;
    struct hg_state_owner owner = owner_of(s);
    bool is_new = s->record == NULL;
    struct hg_state_owner previous = s->previous;
    if (what->is_copy) {
        previous = what->previous;
    } else if (what->act == HG_SESSION_CLAIM && !is_same(owner, what->owner)) {
        previous = owner;
    }
    bool has_failed = !make_record(m, what, s->record, &record);
    uint64_t hash = record == NULL ? 0 : hash_record(record, previous, &has_failed);
    if (has_failed || record == NULL) {
        hg_session_record_free(record);
        out->has_failed = has_failed;
        return;
    }
    s->previous = previous;
    set_record(x, s, record, hash, hg_state_log_bytes(m), is_new || what->is_copy);
    out->kind = HG_STATE_SESSION;
}

static void apply_session(struct hg_state_index *x, const struct hg_message *m,
                          const struct hg_state_message *what, uint64_t version, uint64_t now_ms,
                          struct hg_state_change *out)
{
    if (what->client_id.n == 0 || what->client_id.n > UINT16_MAX) {
        return;
    }
    struct session *s = hg_map_find(&x->sessions, what->client_id);
    bool is_known = s != NULL;
    if (is_known && what->is_copy && version < s->item.version) {
        refuse_copy(x, &s->item, what->act == HG_SESSION_CLAIM, out);
    } else if (is_entitled(s, what)) {
        if (!is_known && (s = session_new(x, what->client_id)) == NULL) {
            out->has_failed = true;
            return;
        }
        struct hg_state_owner lost = owner_of(s);
        bool is_end = what->act == HG_SESSION_END || what->act == HG_SESSION_FORGET;
        uint64_t winner = is_end ? what->by : what->owner.boot_id;
        out->has_lost = what->act != HG_SESSION_HANDOVER && lost.boot_id == x->boot_id &&
                        lost.epoch != 0 && winner != x->boot_id;
        out->lost_epoch = lost.epoch;
        if (is_end) {
            end_session(x, s, now_ms, out);
        } else {
            write_session(x, s, m, what, out);
        }
        if (out->kind == HG_STATE_NOTHING && !is_known) {
            forget_session(x, s);
            return;
        }
    }
    if (s == NULL || out->has_failed) {
        return;
    }
    out->client_id = hg_bytes(s->id, s->id_n);
    if (out->kind != HG_STATE_NOTHING || !what->is_copy) {
        set_version(x, &s->item, version);
        out->must_clear = out->kind == HG_STATE_NOTHING && s->record == NULL;
    }
    out->version = s->item.version;
}

/* ---- The writer ---- */

static void forget(struct hg_state_index *x, struct item *item)
{
    switch ((enum item_kind)item->kind) {
    case ITEM_SESSION: forget_session(x, session_of(item)); break;
    case ITEM_RETAINED: forget_retained(x, retained_of(item)); break;
    case ITEM_REQUEST: hg_state_request_forget(x, item); break;
    }
}

void hg_state_index_free(struct hg_state_index *x)
{
    if (x == NULL) {
        return;
    }
    struct hg_list *const lists[] = {&x->live, &x->copying, &x->gone};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        HG_LIST_FOREACH_SAFE (it, lists[i]) {
            forget(x, HG_LIST_ENTRY(it, struct item, link));
        }
    }
    hg_map_close(&x->retained);
    hg_map_close(&x->sessions);
    hg_map_close(&x->requests);
    uv_rwlock_destroy(&x->lock);
    hg_free(x);
}

/* Clients choose how many keys they clear, so there is an end to what is remembered of that. */
static void bound_gone(struct hg_state_index *x)
{
    while (x->stats.tombstones_n > x->limits.retained_n) {
        forget(x, HG_LIST_ENTRY(x->gone.next, struct item, link));
    }
}

void hg_state_index_apply(struct hg_state_index *x, const struct hg_message *m, uint64_t offset,
                          uint64_t now_ms, struct hg_state_change *out)
{
    struct hg_state_message what;
    *out = (struct hg_state_change){.kind = HG_STATE_NOTHING};
    if (x->stats.applied_n > 0 && offset <= x->stats.last_offset) {
        return;
    }
    hg_state_message_read(m, x->log_name, &what);
    uint64_t version = what.is_copy ? what.as_of : offset;
    uv_rwlock_wrlock(&x->lock);
    bound_gone(x);
    switch (what.kind) {
    case HG_STATE_MESSAGE_RETAINED: apply_retained(x, m, &what, version, now_ms, out); break;
    case HG_STATE_MESSAGE_SESSION: apply_session(x, m, &what, version, now_ms, out); break;
    case HG_STATE_MESSAGE_REQUEST: hg_state_request_apply(x, m, &what, version, out); break;
    case HG_STATE_MESSAGE_BARRIER:
        out->kind = HG_STATE_BARRIER;
        out->boot_id = what.by;
        out->number = what.number;
        break;
    case HG_STATE_MESSAGE_OTHER: break;
    }
    if (!out->has_failed) {
        x->stats.applied_n++;
        x->stats.last_offset = offset;
        x->read_bytes += hg_state_log_bytes(m);
    }
    uv_rwlock_wrunlock(&x->lock);
}

struct hg_message *hg_state_index_barrier(struct hg_state_index *x, uint64_t number)
{
    return hg_state_message_barrier(x->log_name, x->boot_id, number);
}

struct hg_message *hg_state_index_session(struct hg_state_index *x, enum hg_session_act act,
                                          const struct hg_session_record *r)
{
    const struct hg_state_message what = {
        .act = act,
        .client_id = r->client_id,
        .owner = {.boot_id = r->boot_id, .epoch = r->epoch},
        .by = x->boot_id,
    };
    bool has_body = act != HG_SESSION_END && act != HG_SESSION_FORGET;
    return hg_state_message_session(x->log_name, &what, has_body ? r : NULL);
}

struct hg_message *hg_state_index_gone(struct hg_state_index *x,
                                       const struct hg_state_change *change)
{
    const struct hg_state_message what = {
        .act = HG_SESSION_FORGET,
        .client_id = change->client_id,
        .exchange = change->exchange,
        .key = change->key,
        .by = x->boot_id,
        .is_copy = true,
        .as_of = change->version,
    };
    return change->client_id.p != NULL ? hg_state_message_session(x->log_name, &what, NULL)
                                       : hg_state_message_retained(x->log_name, &what, NULL);
}

static struct hg_message *copy_of(struct hg_state_index *x, struct item *item)
{
    struct hg_state_message what = {.by = x->boot_id, .is_copy = true, .as_of = item->version};
    if (item->kind == ITEM_REQUEST) {
        return hg_state_request_copy(x, item);
    }
    if (item->kind == ITEM_RETAINED) {
        const struct hg_retained *blob = retained_of(item)->blob;
        what.exchange = hg_retained_exchange(blob);
        what.key = hg_retained_key(blob);
        return hg_state_message_retained(x->log_name, &what, blob);
    }
    const struct session *s = session_of(item);
    what.act = HG_SESSION_CLAIM;
    what.client_id = hg_bytes(s->id, s->id_n);
    what.owner = owner_of(s);
    what.previous = s->previous;
    return hg_state_message_session(x->log_name, &what, s->record);
}

struct hg_message *hg_state_index_next_copy(struct hg_state_index *x)
{
    if (hg_list_is_empty(&x->live)) {
        return NULL;
    }
    struct item *item = HG_LIST_ENTRY(x->live.next, struct item, link);
    if (x->read_bytes - item->at <= x->limits.log_bytes / 2) {
        return NULL;
    }
    struct hg_message *m = copy_of(x, item);
    if (m != NULL) {
        uv_rwlock_wrlock(&x->lock);
        hg_list_remove(&item->link);
        hg_list_add_last(&x->copying, &item->link);
        item->is_copying = true;
        uv_rwlock_wrunlock(&x->lock);
    }
    return m;
}

void hg_state_index_recopy(struct hg_state_index *x)
{
    uv_rwlock_wrlock(&x->lock);
    HG_LIST_FOREACH (it, &x->copying) {
        HG_LIST_ENTRY(it, struct item, link)->is_copying = false;
    }
    hg_list_take_all(&x->copying, &x->live); /* which are younger */
    hg_list_take_all(&x->live, &x->copying);
    uv_rwlock_wrunlock(&x->lock);
}

void hg_state_index_sweep(struct hg_state_index *x, uint64_t now_ms)
{
    uv_rwlock_wrlock(&x->lock);
    while (!hg_list_is_empty(&x->gone)) {
        struct item *item = HG_LIST_ENTRY(x->gone.next, struct item, link);
        if (now_ms < item->at + GONE_KEEP_MS) {
            break;
        }
        forget(x, item);
    }
    hg_state_request_sweep(x, now_ms);
    size_t end = x->swept_at + SWEEP_SLOTS;
    struct hg_bytes name;
    void *value;
    while (x->swept_at < end && hg_map_next(&x->retained, &x->swept_at, &name, &value)) {
        struct retained *entry = value;
        if (!entry->item.is_gone && hg_retained_ends_ms(entry->blob) <= now_ms) {
            forget_retained(x, entry);
            x->swept_at--; /* another may have moved here */
        }
    }
    x->swept_at = x->swept_at < end ? 0 : x->swept_at;
    uv_rwlock_wrunlock(&x->lock);
}
