/* SPDX-License-Identifier: Apache-2.0 */
#include "core/systemd.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

void hg_systemd_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t n = path == NULL ? 0 : strlen(path);
    if (n < 2 || n >= sizeof(address.sun_path)) {
        return;
    }
    memcpy(address.sun_path, path, n);
    if (path[0] == '@') { /* in the abstract namespace */
        address.sun_path[0] = '\0';
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address,
                     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
        close(fd);
    }
}

void hg_systemd_notify_reloading(void)
{
    struct timespec now;
    char text[64];
    if (clock_gettime(CLOCK_MONOTONIC, &now) == 0) {
        snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%lld%06ld", (long long)now.tv_sec,
                 now.tv_nsec / 1000);
        hg_systemd_notify(text);
    }
}

uint64_t hg_systemd_watchdog_ms(void)
{
    const char *interval_us = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    if (interval_us == NULL || (pid != NULL && strtol(pid, NULL, 10) != getpid())) {
        return 0;
    }
    return strtoull(interval_us, NULL, 10) / 2000;
}
