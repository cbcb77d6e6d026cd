/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/seats.h"

#include "base/mem.h"

#include <stdio.h>

enum { PER_LINK_MAX = 1000 }; /* channels of one connection; RabbitMQ allows 2047 */

static void run_first(struct hg_defer *defer)
{
    struct hg_seat *seat = HG_CONTAINER_OF(defer, struct hg_seat, first);
    if (hg_link_conn(&seat->home->link) != NULL && seat->channel == NULL) {
        seat->ops->start(seat);
    }
}

/* ---- Links ---- */

static void on_link_up(void *ctx)
{
    struct hg_seat_link *home = ctx;
    HG_LIST_FOREACH (it, &home->seats) {
        hg_seat_start(HG_LIST_ENTRY(it, struct hg_seat, link));
    }
}

static void on_link_down(void *ctx, const struct hg_amqp_close *why)
{
    struct hg_seat_link *home = ctx;
    (void)why;
    HG_LIST_FOREACH (it, &home->seats) {
        struct hg_seat *seat = HG_LIST_ENTRY(it, struct hg_seat, link);
        seat->channel = NULL;
        seat->ops->lost(seat);
    }
    hg_binder_lost(&home->binder);
}

static const struct hg_link_ops link_ops = {.on_up = on_link_up, .on_down = on_link_down};

static struct hg_seat_link *link_with_room(struct hg_seats *s)
{
    HG_LIST_FOREACH (it, &s->links) {
        struct hg_seat_link *home = HG_LIST_ENTRY(it, struct hg_seat_link, all_link);
        if (home->seats_n < PER_LINK_MAX) {
            return home;
        }
    }
    struct hg_seat_link *home = hg_zalloc(sizeof(*home));
    if (home == NULL) {
        return NULL;
    }
    hg_list_init(&home->seats);
    hg_list_add_last(&s->links, &home->all_link);
    hg_binder_open(&home->binder, &home->link, s->config.log, s->config.metrics);
    char what[32];
    snprintf(what, sizeof(what), "consume %u", s->links_n++);
    hg_link_open(&home->link, s->net, &s->config.link, s->config.instance, s->config.worker, what,
                 &link_ops, home);
    return home;
}

/* ---- Public ---- */

void hg_seats_open(struct hg_seats *s, struct hg_net *net, const struct hg_seats_config *config)
{
    *s = (struct hg_seats){.net = net, .config = *config};
    hg_list_init(&s->links);
}

void hg_seats_stop(struct hg_seats *s)
{
    HG_LIST_FOREACH (it, &s->links) {
        hg_link_stop(&HG_LIST_ENTRY(it, struct hg_seat_link, all_link)->link);
    }
}

bool hg_seats_are_stopped(const struct hg_seats *s)
{
    HG_LIST_FOREACH (it, &s->links) {
        if (!hg_link_is_stopped(&HG_LIST_ENTRY(it, struct hg_seat_link, all_link)->link)) {
            return false;
        }
    }
    return true;
}

void hg_seats_close(struct hg_seats *s)
{
    while (!hg_list_is_empty(&s->links)) {
        struct hg_seat_link *home = HG_LIST_ENTRY(s->links.next, struct hg_seat_link, all_link);
        hg_link_close(&home->link);
        while (!hg_list_is_empty(&home->seats)) {
            struct hg_seat *seat = HG_LIST_ENTRY(home->seats.next, struct hg_seat, link);
            seat->channel = NULL;
            seat->ops->abandon(seat);
        }
        hg_binder_close(&home->binder);
        hg_list_remove(&home->all_link);
        hg_free(home);
    }
}

bool hg_seat_take(struct hg_seat *seat, struct hg_seats *of, const struct hg_seat_ops *ops)
{
    struct hg_seat_link *home = link_with_room(of);
    if (home == NULL) {
        return false;
    }
    *seat = (struct hg_seat){.of = of, .home = home, .ops = ops, .first.run = run_first};
    hg_list_add_last(&home->seats, &seat->link);
    home->seats_n++;
    hg_seat_start(seat);
    return true;
}

void hg_seat_start(struct hg_seat *seat)
{
    hg_net_defer(seat->of->net, &seat->first);
}

void hg_seat_leave(struct hg_seat *seat)
{
    hg_net_undefer(&seat->first);
    hg_list_remove(&seat->link);
    seat->home->seats_n--;
}
