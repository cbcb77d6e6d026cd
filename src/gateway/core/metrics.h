/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of one worker. Only the worker writes them; anybody reads (relaxed), the admin listener
 * adds up. */
#ifndef HG_CORE_METRICS_H
#define HG_CORE_METRICS_H

#include "base/counter.h"
#include "core/limit.h"
#include "rules/rules.h"
#include "upstream/upstream_metrics.h"

/* name, type, help; for each protocol. */
/* clang-format off */
#define HG_PROTO_METRICS(X) \
    X(connections,        gauge,   "Open client sessions") \
    X(connections_total,  counter, "Client sessions opened") \
    X(subscriptions,      gauge,   "Live subscriptions") \
    X(messages_in,        counter, "Messages accepted from clients") \
    X(messages_out,       counter, "Messages handed to clients") \
    X(bytes_in,           counter, "Body bytes accepted from clients") \
    X(bytes_out,          counter, "Body bytes handed to clients") \
    X(confirmed,          counter, "Publishes that RabbitMQ confirmed") \
    X(refused,            counter, "Publishes that ended in anything but a confirm") \
    X(dropped,            counter, "Messages dropped for a slow client") \
    X(slow_clients,       gauge,   "Clients whose output had no room for a message and has not drained since") \
    X(backlog_messages,   gauge,   "Messages that wait for slow clients, beside what is in their output") \
    X(backlog_bytes,      gauge,   "Memory that those messages take, counted for each client") \
    X(expired,            counter, "Messages whose time was over before they could be handed over") \
    X(too_large,          counter, "Messages dropped because the client takes none so large") \
    X(slow_closed,        counter, "Clients closed because they read too slowly") \
    X(errors,             counter, "Connections ended by a client's mistake") \
    X(keepalive_timeouts, counter, "Connections ended by silence") \
    X(held,               counter, "Times a client was held for room towards RabbitMQ") \
    X(denied,             counter, "Publishes, subscriptions and declarations refused for want of permission") \
    X(withheld,           counter, "Messages not shown to a subscriber for want of permission")

/* A worker's part in the state log. */
#define HG_STATE_METRICS(X) \
    X(state_records,      counter, "Messages read from the state log") \
    X(state_barriers,     counter, "Barriers written to the state log") \
    X(state_writes,       counter, "Session records written to the state log") \
    X(state_request_writes, counter, "Records of requests written to the state log") \
    X(requests_claimed,   counter, "Requests with an Idempotency-Key that this instance had first, among all") \
    X(requests_repeated,  counter, "Requests answered as another instance had answered them") \
    X(requests_refused,   counter, "Requests refused: another instance had the key, there was no room, or no log") \
    X(requests_again,     counter, "Requests done although another instance may have done them before it died") \
    X(state_copies,       counter, "Records written again for the log's truncation") \
    X(state_announced,    counter, "Clients announced to the other gateways") \
    X(state_wills,        counter, "Wills published for sessions without a connection") \
    X(retained_refused,   counter, "Retained messages refused: the quota is used up")

/* A worker's leases (core/lease.h). */
#define HG_LEASE_METRICS(X) \
    X(lease_polls,         gauge,   "Requests for messages of a queue under way") \
    X(lease_polls_refused, counter, "Requests for messages of a queue refused: a limit is reached, or not permitted") \
    X(leases,              gauge,   "Messages that are leased now") \
    X(leases_taken,        counter, "Messages that were leased") \
    X(leases_expired,      counter, "Leases that ran out: the message went back") \
    X(leases_lost,         counter, "Leases lost with their link to RabbitMQ") \
    X(leases_forwarded,    counter, "Answers passed on to another worker or instance")

/* Of a worker's STOMP sessions. */
#define HG_STOMP_METRICS(X) \
    X(stomp_transactions,       gauge,   "Transactions begun and not ended") \
    X(stomp_transaction_bytes,  gauge,   "Bytes of frames that wait in transactions") \
    X(stomp_temp_queues,        gauge,   "Queues for answers, of SENDs with a reply-to of /temp-queue") \
    X(stomp_commits,            counter, "Transactions committed") \
    X(stomp_aborts,             counter, "Transactions aborted, or abandoned with their connection")

/* Of who comes in. */
#define HG_LOGIN_METRICS(X) \
    X(logins,          counter, "Logins that were granted; over HTTP for each request that does not say what the one before did") \
    X(logins_cached,   counter, "Of them, passwords that were good a moment ago") \
    X(logins_refused,  counter, "Logins that were refused") \
    X(logins_limited,  counter, "Of them, unseen: too many wrong passwords came from the address") \
    X(client_ids_refused, counter, "MQTT clients refused or ended: their client identifier is another user's") \
    X(login_checks,    gauge,   "Passwords being checked, or waiting for it") \
    X(login_renewals,  counter, "Tokens renewed by a newer one") \
    X(login_expired,   counter, "Sessions ended because their token's time was over") \
    X(logins_ended,    counter, "Sessions ended because a new configuration would not let them in") \
    X(own_realms,         gauge,   "Users that have connections to RabbitMQ of their own, of each worker") \
    X(own_realms_opened,  counter, "Times such connections were opened") \
    X(own_realms_refused, counter, "Times RabbitMQ refused to let such a user in again: its sessions were ended")

/* Of a worker's calls. */
#define HG_CALL_METRICS(X) \
    X(calls,             gauge,   "Calls that wait for their reply") \
    X(calls_total,       counter, "Calls sent") \
    X(call_replies,      counter, "Calls that got their reply") \
    X(call_timeouts,     counter, "Calls that got none in time") \
    X(call_losses,       counter, "Calls ended by a lost link to RabbitMQ, outcome unknown") \
    X(call_late_replies, counter, "Replies that no call waited for, dropped")

/* Of one bridge. */
#define HG_BRIDGE_METRICS(X) \
    X(bridge_active,       gauge,   "1: this gateway runs the bridge; 0: another one may") \
    X(bridge_connected,    gauge,   "1: the site is connected") \
    X(bridge_messages_in,  counter, "Messages taken from the site") \
    X(bridge_messages_out, counter, "Messages handed to the site") \
    X(bridge_bytes_in,     counter, "Body bytes taken from the site") \
    X(bridge_bytes_out,    counter, "Body bytes handed to the site") \
    X(bridge_window_in,    gauge,   "Messages of the site that RabbitMQ has not confirmed") \
    X(bridge_window_out,   gauge,   "Messages to the site that it has not acknowledged") \
    X(bridge_connects,     counter, "Connections to the site that it accepted") \
    X(bridge_failures,     counter, "Connections to the site that failed or were lost") \
    X(bridge_refused,      counter, "Messages that the site or RabbitMQ refused, dropped") \
    X(bridge_echoes,       counter, "Messages of the bridge's own that came back, dropped")

/* Of one webhook. */
#define HG_WEBHOOK_METRICS(X) \
    X(webhook_active,            gauge,   "1: this gateway takes the webhook's messages") \
    X(webhook_in_flight,         gauge,   "Requests under way") \
    X(webhook_held,              gauge,   "Messages held, under way or waiting") \
    X(webhook_breaker,           gauge,   "Circuit breaker: 0 closed, 1 open, 2 one request tries it") \
    X(webhook_gone,              gauge,   "1: the receiver answered 410, and nothing is sent any more") \
    X(webhook_attempts,          counter, "Requests sent") \
    X(webhook_delivered,         counter, "Messages that the receiver took, answering 2xx") \
    X(webhook_failed_3xx,        counter, "Requests answered with a redirect, or anything below 200") \
    X(webhook_failed_4xx,        counter, "Requests answered 4xx") \
    X(webhook_failed_5xx,        counter, "Requests answered 5xx") \
    X(webhook_failed_timeout,    counter, "Requests without an answer in time") \
    X(webhook_failed_connection, counter, "Requests that found no connection or lost it") \
    X(webhook_failed_address,    counter, "Requests not sent: the address is not allowed") \
    X(webhook_delayed,           counter, "Messages put into a delay queue") \
    X(webhook_dead_lettered,     counter, "Messages given up as dead letters") \
    X(webhook_expired,           counter, "Messages whose time was over, not sent") \
    X(webhook_duration_ms,       counter, "Milliseconds that all requests took together")

/* clang-format on */

struct hg_webhook_metrics {
#define X(name, type, help) hg_counter name;
    HG_WEBHOOK_METRICS(X)
#undef X
};

struct hg_bridge_metrics {
#define X(name, type, help) hg_counter name;
    HG_BRIDGE_METRICS(X)
#undef X
};

struct hg_state_metrics {
#define X(name, type, help) hg_counter name;
    HG_STATE_METRICS(X)
#undef X
};

struct hg_login_metrics {
#define X(name, type, help) hg_counter name;
    HG_LOGIN_METRICS(X)
#undef X
};

struct hg_lease_metrics {
#define X(name, type, help) hg_counter name;
    HG_LEASE_METRICS(X)
#undef X
};

struct hg_stomp_metrics {
#define X(name, type, help) hg_counter name;
    HG_STOMP_METRICS(X)
#undef X
};

struct hg_call_metrics {
#define X(name, type, help) hg_counter name;
    HG_CALL_METRICS(X)
#undef X
};

struct hg_proto_metrics {
#define X(name, type, help) hg_counter name;
    HG_PROTO_METRICS(X)
#undef X
    hg_counter slow_dropped[HG_SLOW_N]; /* part of dropped, by the rule's policy */
};

struct hg_metrics {
    struct hg_proto_metrics proto[HG_PROTO_N];
    struct hg_upstream_metrics upstream;
    struct hg_state_metrics state;
    struct hg_lease_metrics lease;
    struct hg_stomp_metrics stomp;
    struct hg_login_metrics login;
    struct hg_call_metrics call;
    struct hg_rate_metrics rate;
    hg_counter limits[HG_LIMIT_N]; /* what each has refused */
};

struct hg_worker;
/* All workers' counters, added up, as Prometheus text (version 0.0.4), by one of them. */
void hg_metrics_write(const struct hg_worker *w, struct hg_writer *out);

#endif
