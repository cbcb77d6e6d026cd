/* SPDX-License-Identifier: Apache-2.0 */
/* Two locked queues: one that wakes the loop, and one whose thread is awake, since it writes itself. */
#include "core/mailbox.h"

#include "base/mem.h"

struct mail_queue {
    struct hg_mail *first, *last; /* last: if there is a first */
};

struct hg_mailbox {
    uv_async_t wake;
    hg_mail_fn *on_mail;
    void *ctx;
    struct hg_net *net; /* NULL: whoever sends, the loop is woken; as the next, set once */
    _Atomic bool has_thread;
    uv_thread_t thread; /* the net's */
    struct hg_defer turn_end;
    uv_mutex_t lock; /* guards what follows, and next and is_queued of the mails */
    bool is_closed;
    struct mail_queue from_others, from_itself;
};

static void put(struct mail_queue *q, struct hg_mail *mail)
{
    mail->is_queued = true;
    mail->next = NULL;
    if (q->first == NULL) {
        q->first = mail;
    } else {
        q->last->next = mail;
    }
    q->last = mail;
}

static struct hg_mail *take(struct hg_mailbox *m, struct mail_queue *q)
{
    uv_mutex_lock(&m->lock);
    struct hg_mail *mail = q->first;
    if (mail != NULL) {
        q->first = mail->next;
        mail->is_queued = false;
    }
    uv_mutex_unlock(&m->lock);
    return mail;
}

static void deliver_all(struct hg_mailbox *m, struct mail_queue *q)
{
    struct hg_mail *mail;
    while ((mail = take(m, q)) != NULL) {
        m->on_mail(m->ctx, mail);
    }
}

static void on_wake(uv_async_t *wake)
{
    struct hg_mailbox *m = wake->data;
    deliver_all(m, &m->from_others);
}

static void run_turn_end(struct hg_defer *defer)
{
    struct hg_mailbox *m = HG_CONTAINER_OF(defer, struct hg_mailbox, turn_end);
    deliver_all(m, &m->from_itself);
}

struct hg_mailbox *hg_mailbox_new(uv_loop_t *loop, hg_mail_fn *on_mail, void *ctx)
{
    struct hg_mailbox *m = hg_zalloc(sizeof(*m));
    if (m == NULL) {
        return NULL;
    }
    if (uv_mutex_init(&m->lock) != 0) {
        hg_free(m);
        return NULL;
    }
    if (uv_async_init(loop, &m->wake, on_wake) != 0) {
        uv_mutex_destroy(&m->lock);
        hg_free(m);
        return NULL;
    }
    m->wake.data = m;
    m->on_mail = on_mail;
    m->ctx = ctx;
    m->turn_end.run = run_turn_end;
    return m;
}

void hg_mailbox_belongs(struct hg_mailbox *m, struct hg_net *net)
{
    m->net = net;
    m->thread = uv_thread_self();
    atomic_store(&m->has_thread, true);
}

static bool is_own_thread(const struct hg_mailbox *m)
{
    uv_thread_t self = uv_thread_self();
    return atomic_load(&m->has_thread) && uv_thread_equal(&self, &m->thread) != 0;
}

bool hg_mailbox_send(struct hg_mailbox *m, struct hg_mail *mail)
{
    uv_mutex_lock(&m->lock);
    bool is_taken = !m->is_closed;
    if (is_taken && !mail->is_queued) {
        if (is_own_thread(m)) {
            put(&m->from_itself, mail);
            hg_net_defer(m->net, &m->turn_end);
        } else {
            put(&m->from_others, mail);
            uv_async_send(&m->wake); /* under the lock: close cannot come between */
        }
    }
    uv_mutex_unlock(&m->lock);
    return is_taken;
}

void hg_mailbox_close(struct hg_mailbox *m)
{
    uv_mutex_lock(&m->lock);
    m->is_closed = true;
    uv_mutex_unlock(&m->lock);
    deliver_all(m, &m->from_itself);
    deliver_all(m, &m->from_others);
    hg_net_undefer(&m->turn_end);
    uv_close((uv_handle_t *)&m->wake, NULL);
}

void hg_mailbox_free(struct hg_mailbox *m)
{
    if (m != NULL) {
        uv_mutex_destroy(&m->lock);
        hg_free(m);
    }
}
