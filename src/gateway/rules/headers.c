/* SPDX-License-Identifier: Apache-2.0 */
/* AMQP headers that a rule sets on publish: templates over captures and what is known of the
 * client. */
#include "message/message.h"
#include "rules/rules_priv.h"

static const char *const var_names[] = {"client_id", "user", "protocol", "address"};

static bool is_var(struct hg_bytes name)
{
    for (size_t i = 0; i < sizeof(var_names) / sizeof(var_names[0]); i++) {
        if (hg_bytes_eq(name, hg_bytes_str(var_names[i]))) {
            return true;
        }
    }
    return false;
}

bool hg_header_next(struct hg_bytes *rest, struct hg_bytes *text_out, struct hg_bytes *name_out)
{
    *name_out = (struct hg_bytes){0};
    if (rest->n == 0) {
        return false;
    }
    size_t open = hg_bytes_index(*rest, '{');
    size_t n = open > 0 ? open : hg_bytes_index(*rest, '}') + 1;
    if (n > rest->n) {
        n = rest->n; /* never closed: hg_header_check refuses it */
    }
    *text_out = hg_bytes(rest->p, n);
    if (open == 0 && n >= 2 && rest->p[n - 1] == '}') {
        bool is_rest = n > 5 && memcmp(rest->p + n - 4, "...", 3) == 0;
        *name_out = hg_bytes(rest->p + 1, n - (is_rest ? 5 : 2));
    }
    *rest = hg_bytes_skip(*rest, n);
    return true;
}

uint8_t hg_rule_request_find(const struct hg_rule *rule, const struct hg_request_name *name)
{
    uint8_t i = 0;
    while (i < rule->request_n && (rule->request[i].is_header != name->is_header ||
                                   !hg_bytes_eq(rule->request[i].name, name->name))) {
        i++;
    }
    return i;
}

static const char *check_name(const struct hg_rule *rule, struct hg_bytes name, bool is_rest)
{
    struct hg_request_name request;
    if (!is_rest && hg_request_name_parse(name, &request)) {
        return NULL;
    }
    bool is_captured = false;
    for (unsigned p = 0; p < HG_PROTO_N; p++) {
        const struct hg_template *pattern = &rule->pattern[p];
        uint8_t at = pattern->parts == NULL ? HG_NO_PART : hg_template_find(pattern, name);
        if (at == HG_NO_PART) {
            continue;
        }
        is_captured = true;
        if ((pattern->parts[at].kind == HG_PART_REST) != is_rest) {
            return is_rest ? "captures one level: write it without the dots"
                           : "captures the rest: write it {name...}";
        }
    }
    if (is_captured && is_var(name)) {
        return "is a capture and also something known of the client: rename the capture";
    }
    for (unsigned p = 0; p < HG_PROTO_N && !is_var(name); p++) {
        if (hg_rule_serves(rule, p) && hg_template_find(&rule->pattern[p], name) == HG_NO_PART) {
            return "is not captured by every pattern, nor is it client_id, user, protocol, "
                   "address, query.NAME or header.NAME";
        }
    }
    return NULL;
}

const char *hg_header_check(const struct hg_rule *rule, size_t i, struct hg_bytes *piece_out)
{
    struct hg_bytes rest = hg_bytes_str(rule->spec->header_values[i]);
    struct hg_bytes name;
    while (hg_header_next(&rest, piece_out, &name)) {
        if (name.p != NULL) {
            const char *wrong = check_name(rule, name, piece_out->n - name.n > 2);
            if (wrong != NULL) {
                return wrong;
            }
        } else if (piece_out->p[0] == '{') {
            return "opens a { that is not closed";
        }
    }
    return NULL;
}

static void write_var(struct hg_bytes name, const struct hg_rule_vars *vars, struct hg_writer *out)
{
    if (hg_bytes_eq(name, HG_BYTES("client_id"))) {
        hg_writer_bytes(out, vars->client_id);
    } else if (hg_bytes_eq(name, HG_BYTES("user"))) {
        hg_writer_bytes(out, vars->user);
    } else if (hg_bytes_eq(name, HG_BYTES("protocol"))) {
        hg_writer_str(out, hg_protocol_name(vars->protocol));
    } else if (hg_bytes_eq(name, HG_BYTES("address"))) {
        hg_writer_bytes(out, vars->address);
    }
}

void hg_rules_header(const struct hg_rules *r, const struct hg_route *route, size_t i,
                     const struct hg_rule_vars *vars, struct hg_writer *out)
{
    const struct hg_rule *rule = &r->rules[route->rule];
    const struct hg_template *pattern = &rule->pattern[vars->protocol];
    struct hg_bytes rest = hg_bytes_str(rule->spec->header_values[i]);
    struct hg_bytes text;
    struct hg_bytes name;
    while (hg_header_next(&rest, &text, &name)) {
        uint8_t at = name.p == NULL ? HG_NO_PART : hg_template_find(pattern, name);
        struct hg_request_name request;
        if (name.p == NULL) {
            hg_writer_bytes(out, text);
        } else if (hg_request_name_parse(name, &request)) {
            hg_writer_bytes(out, route->request[hg_rule_request_find(rule, &request)]);
        } else if (at != HG_NO_PART) {
            hg_writer_bytes(out, route->captures[hg_template_capture_index(pattern, at)]);
        } else {
            write_var(name, vars, out);
        }
    }
}
