/* SPDX-License-Identifier: Apache-2.0 */
/* A locked queue that wakes a loop. */
#include "core/mailbox.h"

#include "base/mem.h"

struct hg_mailbox {
    uv_async_t wake;
    hg_mail_fn *on_mail;
    void *ctx;
    uv_mutex_t lock; /* guards what follows, and next and is_queued of the mails */
    bool is_closed;
    struct hg_mail *first, **last;
};

static struct hg_mail *take(struct hg_mailbox *m)
{
    uv_mutex_lock(&m->lock);
    struct hg_mail *mail = m->first;
    if (mail != NULL) {
        m->first = mail->next;
        if (m->first == NULL) {
            m->last = &m->first;
        }
        mail->is_queued = false;
    }
    uv_mutex_unlock(&m->lock);
    return mail;
}

static void deliver_all(struct hg_mailbox *m)
{
    struct hg_mail *mail;
    while ((mail = take(m)) != NULL) {
        m->on_mail(m->ctx, mail);
    }
}

static void on_wake(uv_async_t *wake)
{
    deliver_all(wake->data);
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
    m->last = &m->first;
    return m;
}

bool hg_mailbox_send(struct hg_mailbox *m, struct hg_mail *mail)
{
    uv_mutex_lock(&m->lock);
    bool is_taken = !m->is_closed;
    if (is_taken && !mail->is_queued) {
        mail->is_queued = true;
        mail->next = NULL;
        *m->last = mail;
        m->last = &mail->next;
        uv_async_send(&m->wake); /* under the lock: close cannot come between */
    }
    uv_mutex_unlock(&m->lock);
    return is_taken;
}

void hg_mailbox_close(struct hg_mailbox *m)
{
    uv_mutex_lock(&m->lock);
    m->is_closed = true;
    uv_mutex_unlock(&m->lock);
    deliver_all(m);
    uv_close((uv_handle_t *)&m->wake, NULL);
}

void hg_mailbox_free(struct hg_mailbox *m)
{
    if (m != NULL) {
        uv_mutex_destroy(&m->lock);
        hg_free(m);
    }
}
