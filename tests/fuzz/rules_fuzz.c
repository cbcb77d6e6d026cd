/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of text as a rule table, then as addresses, keys and filters asked of it: nothing faults, a
 * delivery that comes back through the rule it left by has its address, and a lossless address
 * leads to the key that it was made of. */
#include "base/check.h"
#include "message/topic.h"
#include "rules/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { LINES_MAX = 24, RULES_MAX = 6, TEXT_MAX = 400 };

static const struct hg_exchange_spec exchanges[] = {
    {"f", "t", HG_EXCHANGE_TOPIC},
    {"f", "d", HG_EXCHANGE_DIRECT},
    {"f", "f", HG_EXCHANGE_FANOUT},
    {"f", "o", HG_EXCHANGE_OTHER},
};

struct input {
    char lines[LINES_MAX][TEXT_MAX];
    size_t n;
};

static void cut(struct input *in, const uint8_t *data, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i < n && in->n < LINES_MAX; i++) {
        if (data[i] == '\n' || data[i] == '\0' || at == TEXT_MAX - 1) {
            in->lines[in->n++][at] = '\0';
            at = 0;
        } else {
            in->lines[in->n][at++] = (char)data[i];
        }
    }
}

static void on_plan(void *ctx, const struct hg_binding_plan *plan)
{
    (void)ctx;
    HG_CHECK(plan->key.n <= HG_KEY_MAX && plan->wide_key.n <= HG_KEY_MAX);
}

static const struct hg_topic_limits limits = {HG_TOPIC_MAX_BYTES, HG_TOPIC_MAX_LEVELS};

static void look_up(const struct hg_rules *r, const struct hg_rule_spec *specs, const char *line)
{
    struct hg_bytes text = hg_bytes_str(line);
    struct hg_route route;
    struct hg_writer out = {0};
    size_t rule;
    const char *why;
    if (hg_topic_check_address(text, &limits) == NULL && /* sessions let nothing else come here */
        hg_rules_publish(r, HG_PROTO_MQTT, text, &route) == HG_OK) {
        HG_CHECK(route.key.n <= HG_KEY_MAX);
        bool has = hg_rules_deliver(r, HG_PROTO_MQTT, route.exchange, route.key,
                                    route.is_hashed ? text : HG_BYTES(""), &out, &rule);
        bool is_same = has && rule == route.rule && specs[rule].escape == HG_ESCAPE_LOSSLESS;
        HG_CHECK(!is_same || hg_bytes_eq(hg_writer_view(&out), text));
    }
    hg_writer_reset(&out);
    if (text.n <= HG_KEY_MAX &&
        hg_rules_deliver(r, HG_PROTO_MQTT, HG_BYTES("t"), text, HG_BYTES(""), &out, &rule) &&
        hg_rules_publish(r, HG_PROTO_MQTT, hg_writer_view(&out), &route) == HG_OK &&
        route.rule == rule && specs[rule].escape == HG_ESCAPE_LOSSLESS) {
        HG_CHECK(hg_bytes_eq(route.key, text));
    }
    (void)hg_rules_subscribe(r, NULL, HG_PROTO_MQTT, text, on_plan, NULL, &why);
    hg_writer_close(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const names[] = {"t", "d", "f", "o"};
    struct input in = {.n = 0};
    struct hg_rule_spec specs[RULES_MAX] = {0};
    struct hg_writer text = {0};
    if (n == 0) {
        return 0;
    }
    uint8_t kind = data[0];
    cut(&in, data + 1, n - 1);
    size_t rules_n = in.n / 2 < RULES_MAX ? in.n / 2 : RULES_MAX;
    for (size_t i = 0; i < rules_n; i++) {
        const char *pattern = in.lines[2 * i];
        specs[i] = (struct hg_rule_spec){
            .name = "r",
            .pattern = {pattern, pattern, pattern},
            .exchange = names[i == 0 ? 0 : (kind >> (i % 4)) & 3],
            .key = in.lines[2 * i + 1],
            .escape = (kind & 16) != 0 ? HG_ESCAPE_PLAIN : HG_ESCAPE_LOSSLESS,
            .overlong = (kind & 32) != 0 ? HG_OVERLONG_HASH : HG_OVERLONG_REFUSE};
    }
    struct hg_rules *r = hg_rules_new(specs, rules_n, exchanges, 4, &text);
    if (r != NULL) {
        for (size_t i = 0; i < in.n; i++) {
            look_up(r, specs, in.lines[i]);
        }
        (void)hg_rules_report(r, &text);
    }
    hg_writer_close(&text);
    hg_rules_free(r);
    return 0;
}
