/* SPDX-License-Identifier: Apache-2.0 */
/* What systemd is told of a service's state (sd_notify(3)): a datagram to the socket that it names
 * in the environment. Without one nothing is done. */
#ifndef HG_CORE_SYSTEMD_H
#define HG_CORE_SYSTEMD_H

#include <stdint.h>

/* "READY=1", "STOPPING=1", "WATCHDOG=1". That it cannot be said is no error. */
void hg_systemd_notify(const char *state);
/* "RELOADING=1", with the time, which systemd wants to know which reload that is; "READY=1" ends
 * it. */
void hg_systemd_notify_reloading(void);
/* How often "WATCHDOG=1" has to be said, half of what systemd waits for; 0: not at all. */
uint64_t hg_systemd_watchdog_ms(void);

#endif
