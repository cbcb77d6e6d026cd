/* SPDX-License-Identifier: Apache-2.0 */
/* The rule table: nanoseconds a look-up each way with 10, 1,000 and 100,000 rules, and at growing
 * depth. They must follow the depth of the address, not the number of rules: see the *hot* figures,
 * over 64 addresses; the others walk over 4,096, whose parts of a large table no cache holds. Also
 * time and memory to compile, time to subscribe and to report. */
#include "bench.h"
#include "rules/rules.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOT_N = 64, ADDRESSES_N = 4096, TEXT_MAX = 160 };

struct rule_text {
    char name[32], pattern[TEXT_MAX], key[TEXT_MAX];
};

/* Site, line, captures; every eighth rule is for one machine only and every eighth takes the rest.
 */
static void rule_of(size_t i, struct rule_text *t)
{
    (void)snprintf(t->name, sizeof(t->name), "r%zu", i);
    if (i % 8 == 0) {
        (void)snprintf(t->pattern, TEXT_MAX, "site/s%zu/line/l%zu/{m}/state", i / 8, i);
        (void)snprintf(t->key, TEXT_MAX, "state.s%zu.l%zu.{m}", i / 8, i);
    } else if (i % 8 == 1) {
        (void)snprintf(t->pattern, TEXT_MAX, "site/s%zu/log/{rest...}", i / 8);
        (void)snprintf(t->key, TEXT_MAX, "log.s%zu.{rest...}", i / 8);
    } else {
        (void)snprintf(t->pattern, TEXT_MAX, "site/s%zu/line/{l}/{m}/k%zu", i / 8, i);
        (void)snprintf(t->key, TEXT_MAX, "s%zu.{l}.{m}.k%zu", i / 8, i);
    }
}

static void address_of(size_t i, char out[TEXT_MAX])
{
    if (i % 8 == 0) {
        (void)snprintf(out, TEXT_MAX, "site/s%zu/line/l%zu/press-4/state", i / 8, i);
    } else if (i % 8 == 1) {
        (void)snprintf(out, TEXT_MAX, "site/s%zu/log/boot/kernel/7", i / 8);
    } else {
        (void)snprintf(out, TEXT_MAX, "site/s%zu/line/line-3/press-4/k%zu", i / 8, i);
    }
}

struct hit {
    char address[TEXT_MAX];
    struct hg_route route;
};

static void count_plan(void *ctx, const struct hg_binding_plan *plan)
{
    size_t *n = ctx;
    (void)plan;
    (*n)++;
}

static double measure_publish(const struct hg_rules *r, struct hit *hits, size_t hits_n,
                              uint64_t rounds_n)
{
    uint64_t started_ns = bench_now_ns();
    for (uint64_t i = 0; i < rounds_n; i++) {
        struct hit *h = &hits[i % hits_n];
        if (hg_rules_publish(r, HG_PROTO_MQTT, hg_bytes_str(h->address), &h->route) != HG_OK) {
            bench_die("%s has no rule", h->address);
        }
    }
    return (double)(bench_now_ns() - started_ns) / (double)rounds_n;
}

static double measure_deliver(const struct hg_rules *r, const struct hit *hits, size_t hits_n,
                              uint64_t rounds_n)
{
    struct hg_writer out = {0};
    uint64_t started_ns = bench_now_ns();
    for (uint64_t i = 0; i < rounds_n; i++) {
        const struct hit *h = &hits[i % hits_n];
        size_t rule;
        hg_writer_reset(&out);
        if (!hg_rules_deliver(r, HG_PROTO_MQTT, h->route.exchange, h->route.key, HG_BYTES(""), &out,
                              &rule) ||
            !hg_bytes_eq(hg_writer_view(&out), hg_bytes_str(h->address))) {
            bench_die("%s does not come back", h->address);
        }
    }
    double ns = (double)(bench_now_ns() - started_ns) / (double)rounds_n;
    hg_writer_close(&out);
    return ns;
}

/* The site's every rule. */
static double measure_subscribe(const struct hg_rules *r, const struct hit *hits, uint64_t rounds_n)
{
    size_t plans_n = 0;
    uint64_t started_ns = bench_now_ns();
    for (uint64_t i = 0; i < rounds_n; i++) {
        const char *why;
        char filter[TEXT_MAX];
        int site_n =
            (int)(strchr(hits[i % ADDRESSES_N].address + 5, '/') - hits[i % ADDRESSES_N].address);
        (void)snprintf(filter, sizeof(filter), "%.*s/#", site_n, hits[i % ADDRESSES_N].address);
        (void)hg_rules_subscribe(r, NULL, HG_PROTO_MQTT, hg_bytes_str(filter), count_plan, &plans_n,
                                 &why);
    }
    return (double)(bench_now_ns() - started_ns) / (double)rounds_n;
}

static void measure(size_t rules_n, uint64_t rounds_n)
{
    static struct hit hits[ADDRESSES_N];
    static const struct hg_exchange_spec exchange = {"bench", "plant", HG_EXCHANGE_TOPIC};
    struct rule_text *texts = bench_alloc(rules_n * sizeof(*texts));
    struct hg_rule_spec *specs = bench_alloc(rules_n * sizeof(*specs));
    for (size_t i = 0; i < rules_n; i++) {
        rule_of(i, &texts[i]);
        const char *p = texts[i].pattern;
        specs[i] = (struct hg_rule_spec){.where = "bench",
                                         .name = texts[i].name,
                                         .pattern = {p, p, p},
                                         .exchange = "plant",
                                         .key = texts[i].key};
    }
    struct hg_writer text = {0};
    size_t heap_bytes = mallinfo2().uordblks + mallinfo2().hblkhd;
    uint64_t started_ns = bench_now_ns();
    struct hg_rules *r = hg_rules_new(specs, rules_n, &exchange, 1, &text);
    if (r == NULL) {
        bench_die("%.*s", HG_BYTES_FMT(hg_writer_view(&text)));
    }
    double compile_ms = (double)(bench_now_ns() - started_ns) / 1e6;
    heap_bytes = mallinfo2().uordblks + mallinfo2().hblkhd - heap_bytes;
    for (size_t i = 0; i < ADDRESSES_N; i++) {
        address_of((i * 7919) % rules_n, hits[i].address);
    }
    (void)measure_publish(r, hits, ADDRESSES_N, ADDRESSES_N); /* fills in the routes */
    double publish_ns = measure_publish(r, hits, ADDRESSES_N, rounds_n);
    double deliver_ns = measure_deliver(r, hits, ADDRESSES_N, rounds_n);
    double hot_publish_ns = measure_publish(r, hits, HOT_N, rounds_n);
    double hot_deliver_ns = measure_deliver(r, hits, HOT_N, rounds_n);
    double subscribe_ns = measure_subscribe(r, hits, rounds_n / 10);
    started_ns = bench_now_ns();
    size_t findings_n = hg_rules_report(r, &text);
    printf(
        "{\"run\":\"rules\",\"rules\":%zu,\"compile_ms\":%.1f,\"bytes_per_rule\":%.0f,"
        "\"hot_ns_per_publish\":%.0f,\"hot_ns_per_deliver\":%.0f,\"ns_per_publish\":%.0f,\"ns_per_deliver\":%.0f,\"ns_per_subscribe\":%.0f,"
        "\"report_ms\":%.1f,\"findings\":%zu}\n",
        rules_n, compile_ms, (double)heap_bytes / (double)rules_n, hot_publish_ns, hot_deliver_ns,
        publish_ns, deliver_ns, subscribe_ns, (double)(bench_now_ns() - started_ns) / 1e6,
        findings_n);
    hg_writer_close(&text);
    hg_rules_free(r);
    free(specs);
    free(texts);
}

/* One rule for each of many addresses of that depth, all levels but the last alike. */
static void measure_depth(size_t depth, uint64_t rounds_n)
{
    enum { RULES_N = 1000 };
    static struct hit hits[HOT_N];
    static struct rule_text texts[RULES_N];
    static struct hg_rule_spec specs[RULES_N];
    static const struct hg_exchange_spec exchange = {"bench", "plant", HG_EXCHANGE_TOPIC};
    for (size_t i = 0; i < RULES_N; i++) {
        size_t n = 0;
        for (size_t level = 1; level < depth; level++) {
            n += (size_t)snprintf(texts[i].pattern + n, TEXT_MAX - n, "l%zu/", level % 10);
        }
        (void)snprintf(texts[i].pattern + n, TEXT_MAX - n, "r%zu", i);
        (void)snprintf(texts[i].key, TEXT_MAX, "r%zu", i);
        specs[i] = (struct hg_rule_spec){.name = texts[i].key,
                                         .pattern = {texts[i].pattern, NULL, NULL},
                                         .exchange = "plant",
                                         .key = texts[i].key};
    }
    struct hg_writer text = {0};
    struct hg_rules *r = hg_rules_new(specs, RULES_N, &exchange, 1, &text);
    if (r == NULL) {
        bench_die("%.*s", HG_BYTES_FMT(hg_writer_view(&text)));
    }
    for (size_t i = 0; i < HOT_N; i++) {
        (void)snprintf(hits[i].address, TEXT_MAX, "%s", texts[i * 15].pattern);
    }
    printf("{\"run\":\"rules_depth\",\"rules\":%d,\"depth\":%zu,\"hot_ns_per_publish\":%.0f}\n",
           RULES_N, depth, measure_publish(r, hits, HOT_N, rounds_n));
    hg_writer_close(&text);
    hg_rules_free(r);
}

int main(int argc, char **argv)
{
    uint64_t rounds_n = 1000000;
    const struct bench_option options[] = {
        {"--rounds", &rounds_n, NULL, "look-ups of each kind"},
        {NULL, NULL, NULL, NULL},
    };
    bench_options(argc, argv, 1, options);
    static const size_t sizes[] = {10, 1000, 100000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        measure(sizes[i], rounds_n);
    }
    for (size_t depth = 2; depth <= 32; depth *= 2) {
        measure_depth(depth, rounds_n);
    }
    return 0;
}
