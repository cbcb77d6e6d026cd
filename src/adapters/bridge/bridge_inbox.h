/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of a site that RabbitMQ has not confirmed. The site believes that they are safe here (the
 * MQTT library acknowledges before it shows them), so each is kept until it is. A pure ledger. */
#ifndef HG_BRIDGE_INBOX_H
#define HG_BRIDGE_INBOX_H

#include "base/list.h"
#include "message/message.h"

struct hg_bridge_arrival {
    struct hg_list link;
    uint64_t id;
    struct hg_message *message; /* its routing key is the address; a reference */
    uint8_t qos;
    bool is_retained;
    bool is_under_way; /* published, no outcome yet */
};

struct hg_bridge_inbox {
    struct hg_list arrivals; /* oldest first */
    size_t n, waiting_n;
    uint64_t last_id;
};

void hg_bridge_inbox_open(struct hg_bridge_inbox *i);
void hg_bridge_inbox_close(struct hg_bridge_inbox *i);
/* Takes the message over (also when it fails, and NULL fails). False when there is no memory. */
bool hg_bridge_inbox_add(struct hg_bridge_inbox *i, struct hg_message *message_own, uint8_t qos,
                         bool is_retained);
/* The oldest that is not under way; NULL: none. */
struct hg_bridge_arrival *hg_bridge_inbox_next(struct hg_bridge_inbox *i);
void hg_bridge_inbox_sent(struct hg_bridge_inbox *i, struct hg_bridge_arrival *a);
/* What is under way with this id; NULL: nothing. */
struct hg_bridge_arrival *hg_bridge_inbox_find(struct hg_bridge_inbox *i, uint64_t id);
/* Is to be published again, in its old place. */
void hg_bridge_inbox_again(struct hg_bridge_inbox *i, struct hg_bridge_arrival *a);
void hg_bridge_inbox_end(struct hg_bridge_inbox *i, struct hg_bridge_arrival *a);

#endif
