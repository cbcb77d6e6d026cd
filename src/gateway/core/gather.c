/* SPDX-License-Identifier: Apache-2.0 */
/* A question to every worker. The gather itself is the mail: one ask per worker, and who answers
 * last sends it home. */
#include "core/gather.h"

#include "base/mem.h"

struct ask {
    struct hg_mail mail;
    struct hg_gather *gather;
    struct hg_buf *answer; /* moves with the mail: written there, read and freed at home */
};

struct hg_gather {
    struct hg_mail home;
    struct hg_worker *owner;
    hg_gather_ask_fn *question;
    const char *separator;
    hg_gather_done_fn *done; /* NULL: cancelled */
    void *ctx;
    _Atomic unsigned waiting_n;
    unsigned asks_n;
    struct ask asks[];
};

static void gather_free(struct hg_gather *g)
{
    for (unsigned i = 0; i < g->asks_n; i++) {
        hg_buf_unref(g->asks[i].answer);
    }
    hg_free(g);
}

static void answered(struct hg_gather *g)
{
    if (atomic_fetch_sub_explicit(&g->waiting_n, 1, memory_order_acq_rel) == 1 &&
        !hg_mailbox_send(g->owner->mailbox, &g->home)) {
        gather_free(g); /* its worker has stopped */
    }
}

struct hg_gather *hg_gather(struct hg_worker *w, hg_gather_ask_fn *ask, const char *separator,
                            hg_gather_done_fn *done, void *ctx)
{
    struct hg_gateway *gateway = w->gateway;
    struct hg_gather *g = hg_zalloc(sizeof(*g) + gateway->workers_n * sizeof(g->asks[0]));
    if (g == NULL) {
        return NULL;
    }
    g->home.kind = HG_MAIL_GATHER_DONE;
    g->owner = w;
    g->question = ask;
    g->separator = separator;
    g->done = done;
    g->ctx = ctx;
    g->asks_n = gateway->workers_n;
    atomic_store(&g->waiting_n, g->asks_n);
    /* Our own comes last: until then, whatever the others do, somebody is still waited for. */
    for (unsigned i = 0; i < g->asks_n; i++) {
        unsigned to = (w->index + 1 + i) % g->asks_n;
        g->asks[to].gather = g;
        g->asks[to].mail.kind = HG_MAIL_GATHER_ASK;
        if (!hg_mailbox_send(gateway->workers[to]->mailbox, &g->asks[to].mail)) {
            answered(g);
        }
    }
    return g;
}

void hg_gather_cancel(struct hg_gather *g)
{
    g->done = NULL;
}

void hg_gather_on_ask(struct hg_worker *w, struct hg_mail *mail)
{
    struct ask *a = HG_CONTAINER_OF(mail, struct ask, mail);
    struct hg_writer out = {0};
    a->gather->question(w, &out);
    if (hg_writer_n(&out) > 0 && !out.failed) {
        a->answer = hg_writer_take(&out);
    }
    hg_writer_close(&out);
    answered(a->gather);
}

void hg_gather_on_done(struct hg_mail *mail)
{
    struct hg_gather *g = HG_CONTAINER_OF(mail, struct hg_gather, home);
    if (g->done != NULL) {
        struct hg_writer text = {0};
        for (unsigned i = 0; i < g->asks_n; i++) {
            if (g->asks[i].answer != NULL) {
                hg_writer_str(&text, hg_writer_n(&text) > 0 ? g->separator : "");
                hg_writer_bytes(&text, hg_buf_bytes(g->asks[i].answer));
            }
        }
        g->done(g->ctx, hg_writer_view(&text));
        hg_writer_close(&text);
    }
    gather_free(g);
}
