/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a gateway, moves its wall clock by as many seconds as the file HEADGATE_TEST_CLOCK says, at any time. The monotonic clocks
 * are as they are. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *moved;

__attribute__((constructor)) static void open_file(void)
{
    int fd = open(getenv("HEADGATE_TEST_CLOCK"), O_RDONLY | O_CLOEXEC);
    void *at = mmap(NULL, sizeof(*moved), PROT_READ, MAP_SHARED, fd, 0);
    moved = at == MAP_FAILED ? NULL : at;
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    int result = (int)syscall(SYS_clock_gettime, clock, out);
    if (result == 0 && moved != NULL &&
        (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        out->tv_sec += *moved;
    }
    return result;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return result;
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL) {
        *out = now.tv_sec;
    }
    return now.tv_sec;
}
