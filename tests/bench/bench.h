/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmark programs share: options, time, latency quantiles. They are programs of one run: whatever goes wrong
 * ends them with a message. */
#ifndef HG_BENCH_BENCH_H
#define HG_BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "--name value"; the value is a number or a text, whichever pointer is set. */
struct bench_option {
    const char *name; /* NULL ends the table */
    uint64_t *number;
    const char **text;
    const char *help;
};
/* Fills what is given, from argv[first] on; an option that is not in the table ends the program with the table. */
void bench_options(int argc, char **argv, int first, const struct bench_option *table);

_Noreturn void bench_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void *bench_alloc(size_t n); /* zeroed */
uint64_t bench_now_ns(void);

/* Latencies in buckets of 1/64 of their magnitude. */
enum { BENCH_BUCKETS = 64 * 64 };
struct bench_latency {
    uint64_t n, max_ns;
    uint64_t counts[BENCH_BUCKETS];
};
void bench_latency_add(struct bench_latency *l, uint64_t ns);
/* Upper end of the bucket of that quantile, microseconds; 0 when there is none. q: 0 … 1 */
double bench_latency_us(const struct bench_latency *l, double q);
/* `"p50_us":…,"p99_us":…,"p999_us":…,"max_us":…` */
void bench_latency_print(const struct bench_latency *l);

/* User and system time of this process so far. */
double bench_cpu_s(void);
/* Commands come as lines "SECONDS [MESSAGES]" on standard input. false: there are no more. */
bool bench_next(double *seconds, uint64_t *messages_n);

#endif
