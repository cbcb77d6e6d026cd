/* SPDX-License-Identifier: Apache-2.0 */
/* Webhooks: messages of a queue or a filter, posted to URLs ([[webhook]]). */
#ifndef HG_WEBHOOK_WEBHOOK_H
#define HG_WEBHOOK_WEBHOOK_H

#include "core/adapter.h"

extern const struct hg_adapter hg_webhook_adapter;

#endif
