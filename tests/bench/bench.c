/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmark programs share. */
#include "bench.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Noreturn void bench_die(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    (void)fputc('\n', stderr);
    va_end(args);
    exit(2);
}

void *bench_alloc(size_t n)
{
    void *p = calloc(1, n);
    if (p == NULL) {
        bench_die("no memory for %zu bytes", n);
    }
    return p;
}

uint64_t bench_now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static _Noreturn void usage(const struct bench_option *table, const char *wrong)
{
    (void)fprintf(stderr, "not understood: %s; the options are\n", wrong);
    for (const struct bench_option *o = table; o->name != NULL; o++) {
        if (o->number != NULL) {
            (void)fprintf(stderr, "  %-14s %s (%llu)\n", o->name, o->help,
                          (unsigned long long)*o->number);
        } else {
            (void)fprintf(stderr, "  %-14s %s (%s)\n", o->name, o->help, *o->text);
        }
    }
    exit(1);
}

void bench_options(int argc, char **argv, int first, const struct bench_option *table)
{
    for (int i = first; i < argc; i += 2) {
        const struct bench_option *o = table;
        while (o->name != NULL && strcmp(o->name, argv[i]) != 0) {
            o++;
        }
        if (o->name == NULL || i + 1 == argc) {
            usage(table, argv[i]);
        }
        if (o->text != NULL) {
            *o->text = argv[i + 1];
            continue;
        }
        char *end;
        errno = 0;
        *o->number = strtoull(argv[i + 1], &end, 10);
        if (errno != 0 || *end != '\0' || end == argv[i + 1]) {
            usage(table, argv[i + 1]);
        }
    }
}

/* 64 buckets for every power of two. */
static size_t bucket_of(uint64_t ns)
{
    if (ns < 64) {
        return (size_t)ns;
    }
    unsigned top = 63U - (unsigned)__builtin_clzll(ns);
    return (size_t)(top - 5) * 64 + (ns >> (top - 6) & 63);
}

static double bucket_end_ns(size_t bucket)
{
    if (bucket < 64) {
        return (double)bucket;
    }
    size_t top = bucket / 64 + 5;
    return (double)(64 + bucket % 64 + 1) * (double)(1ULL << (top - 6));
}

void bench_latency_add(struct bench_latency *l, uint64_t ns)
{
    l->n++;
    l->counts[bucket_of(ns)]++;
    l->max_ns = ns > l->max_ns ? ns : l->max_ns;
}

double bench_latency_us(const struct bench_latency *l, double q)
{
    uint64_t seen_n = 0;
    for (size_t i = 0; i < BENCH_BUCKETS; i++) {
        seen_n += l->counts[i];
        if (seen_n > 0 && (double)seen_n >= q * (double)l->n) {
            return bucket_end_ns(i) / 1e3;
        }
    }
    return 0;
}

void bench_latency_print(const struct bench_latency *l)
{
    printf("\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f",
           bench_latency_us(l, 0.5), bench_latency_us(l, 0.99), bench_latency_us(l, 0.999),
           (double)l->max_ns / 1e3);
}

double bench_cpu_s(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

bool bench_next(double *seconds, uint64_t *messages_n)
{
    char line[64];
    char *end;
    (void)fflush(stdout);
    if (fgets(line, sizeof(line), stdin) == NULL) {
        return false;
    }
    *seconds = strtod(line, &end);
    *messages_n = strtoull(end, NULL, 10);
    return true;
}
