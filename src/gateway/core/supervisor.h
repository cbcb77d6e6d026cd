/* SPDX-License-Identifier: Apache-2.0 */
/* Starts the workers, waits for signals, drains and stops: the life of the process between
 * `headgate run` and its end. */
#ifndef HG_CORE_SUPERVISOR_H
#define HG_CORE_SUPERVISOR_H

#include "core/adapter.h"
#include "core/config.h"

/* Declares the topology (a mismatch is an error with RabbitMQ's reason), starts the workers, opens
 * listeners, logs `ready` with the bound ports, runs until SIGTERM or SIGINT, drains, stops. 0:
 * stopped as asked; 1: the configuration is at fault; 2: a problem while running. */
int hg_supervisor_run(const struct hg_config *config, const struct hg_adapter *const *adapters,
                      struct hg_log *log);

#endif
