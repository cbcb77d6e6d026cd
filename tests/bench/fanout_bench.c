/* SPDX-License-Identifier: Apache-2.0 */
/* The subscription index with many subscriptions of which some match: nanoseconds a match, bytes a subscription. */
#include "bench.h"
#include "core/fanout.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

static void on_match(void *ctx, struct hg_fanout_entry *entry)
{
    uint64_t *n = ctx;
    (void)entry;
    (*n)++;
}

/* `percent` of the subscriptions are wildcard filters that meet site/7/…; the others are topics and filters of other devices. */
static void pattern_of(size_t i, uint64_t percent, char out[64])
{
    static const char *const meeting[] = {"site/+/line/4/#", "site/7/line/4/+/temperature",
                                          "+/7/line/4/+/+"};
    static const char *const ten[] = {"plant/9/#",      "plant/+/oven/state", "+/9/oven/state",
                                      "plant/#",        "plant/9/+/state",    "plant/9/oven/state",
                                      "plant/9/oven/#", "+/+/oven/state",     "plant/9/oven/+",
                                      "plant/+/+/state"};
    if (i >= 10 && i < 10 + sizeof(ten) / sizeof(ten[0])) {
        (void)snprintf(out, 64, "%s", ten[i - 10]);
    } else if (i % 100 < percent) {
        (void)snprintf(out, 64, "%s", meeting[i / 100 % 3]);
    } else if (i % 3 == 0) {
        (void)snprintf(out, 64, "site/%zu/line/1/machine/2/temperature", i + 1000);
    } else {
        (void)snprintf(out, 64, i % 3 == 1 ? "site/%zu/line/+/state" : "cmd/%zu/#", i + 1000);
    }
}

static void measure(const char *name, const struct hg_trie *t, const char *subject,
                    uint64_t rounds_n)
{
    uint64_t found_n = 0;
    uint64_t started_ns = bench_now_ns();
    for (uint64_t i = 0; i < rounds_n; i++) {
        hg_trie_match(t, hg_bytes_str(subject), on_match, &found_n);
    }
    double ns = (double)(bench_now_ns() - started_ns) / (double)rounds_n;
    double each = (double)found_n / (double)rounds_n;
    printf(
        "{\"run\":\"trie\",\"case\":\"%s\",\"subscriptions\":%zu,\"matching\":%.0f,\"ns_per_match\":%.1f,"
        "\"ns_per_entry\":%.2f}\n",
        name, hg_trie_n(t), each, ns, each > 0 ? ns / each : 0);
}

int main(int argc, char **argv)
{
    uint64_t subs_n = 100000;
    uint64_t percent = 1;
    uint64_t rounds_n = 2000;
    const struct bench_option options[] = {
        {"--subscriptions", &subs_n, NULL, "in the index"},
        {"--percent", &percent, NULL, "of them that match"},
        {"--rounds", &rounds_n, NULL, "matches of each kind"},
        {NULL, NULL, NULL, NULL},
    };
    bench_options(argc, argv, 1, options);
    struct hg_fanout_entry *entries = bench_alloc(subs_n * sizeof(*entries));
    struct hg_trie *t = hg_trie_new(HG_TRIE_ADDRESS);
    if (t == NULL) {
        bench_die("no memory");
    }
    size_t before = mallinfo2().uordblks;
    uint64_t started_ns = bench_now_ns();
    for (size_t i = 0; i < subs_n; i++) {
        char pattern[64];
        pattern_of(i, percent, pattern);
        if (!hg_trie_add(t, hg_bytes_str(pattern), &entries[i])) {
            bench_die("no memory");
        }
    }
    double added_ns = (double)(bench_now_ns() - started_ns) / (double)subs_n;
    printf("{\"run\":\"trie\",\"case\":\"add\",\"subscriptions\":%" PRIu64
           ",\"ns_per_add\":%.1f,\"bytes_per_subscription\":%.1f}\n",
           subs_n, added_ns, (double)(mallinfo2().uordblks - before) / (double)subs_n);
    measure("wildcards match", t, "site/7/line/4/machine/temperature", rounds_n);
    measure("ten match", t, "plant/9/oven/state", rounds_n);
    measure("one topic matches", t, "site/1003/line/1/machine/2/temperature", rounds_n);
    measure("nothing matches", t, "site/none/of/these", rounds_n);
    for (size_t i = 0; i < subs_n; i++) {
        hg_trie_remove(t, &entries[i]);
    }
    hg_trie_free(t);
    free(entries);
    return 0;
}
