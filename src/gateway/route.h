/* SPDX-License-Identifier: Apache-2.0 */
/* `headgate route`: what the rule table makes of an address, a filter or a delivery, without a
 * broker. */
#ifndef HG_ROUTE_H
#define HG_ROUTE_H

#include "core/config.h"

#include <stdio.h>

/* proto "mqtt", "stomp" or "http" with verb "publish" (subject: an address) or "subscribe" (a
 * filter), key_or_null NULL; or proto "amqp" with verb "deliver" (subject: an exchange, and a key).
 * The leading `/` of a STOMP destination or an HTTP path may stand there. Answers on `out`, as text
 * or one JSON object; what is wrong with the question goes to `err` (as JSON: to `out` as well).
 * vhost: whose rules are asked. who: the client that asks, whom a rule may deny; NULL: one that may everything. Returns the process's exit code: 0; 1 if no rule answers or the question makes no sense; 2 when
 * there is no memory or `out` cannot be written. */
int hg_route_command(const struct hg_config *config, const struct hg_vhost_spec *vhost,
                     const struct hg_rule_who *who, bool is_json, const char *proto,
                     const char *verb, const char *subject, const char *key_or_null, FILE *out,
                     FILE *err);

#endif
