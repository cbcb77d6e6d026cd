/* SPDX-License-Identifier: Apache-2.0 */
/* tls = { … } of a listener and of [rabbitmq]: the files are read here, so that a wrong one has a
 * line and a column. */
#include "core/config_schema.h"

#define LISTENER(member) HG_CONFIG_MEMBER(hg_listener_spec, member)
#define CONFIG(member)   HG_CONFIG_MEMBER(hg_config, member)

/* clang-format off */
static const struct hg_config_field certificate_fields[] = {
    {.key = "cert", .kind = HG_READ_TEXT, HG_CONFIG_MEMBER(hg_tls_certificate, cert), .min = 1, .is_required = true},
    {.key = "key",  .kind = HG_READ_TEXT, HG_CONFIG_MEMBER(hg_tls_certificate, key), .min = 1, .is_required = true},
    {.key = NULL},
};

const struct hg_config_field hg_config_schema_listener_tls[] = {
    {.key = "cert",            .kind = HG_READ_TEXT,    LISTENER(tls_first.cert), .min = 1},
    {.key = "key",             .kind = HG_READ_TEXT,    LISTENER(tls_first.key), .min = 1},
    {.key = "more",            .kind = HG_READ_TABLES,  LISTENER(tls_more), .n_offset = offsetof(struct hg_listener_spec, tls_more_n),
     .element_bytes = sizeof(struct hg_tls_certificate), .fields = certificate_fields},
    {.key = "client_ca",       .kind = HG_READ_TEXT,    LISTENER(tls.ca), .min = 1},
    {.key = "client_optional", .kind = HG_READ_BOOLEAN, LISTENER(tls.is_optional), .preset = "false"},
    {.key = NULL},
};

const struct hg_config_field hg_config_schema_rabbitmq_tls[] = {
    {.key = "ca",       .kind = HG_READ_TEXT,    CONFIG(rabbitmq_tls_spec.ca), .min = 1},
    {.key = "cert",     .kind = HG_READ_TEXT,    CONFIG(rabbitmq_certificate.cert), .min = 1},
    {.key = "key",      .kind = HG_READ_TEXT,    CONFIG(rabbitmq_certificate.key), .min = 1},
    {.key = "insecure", .kind = HG_READ_BOOLEAN, CONFIG(rabbitmq_tls_spec.is_insecure), .preset = "false"},
    {.key = NULL},
};
/* clang-format on */

static struct hg_tls_context *make(struct hg_config_reader *r, const struct hg_config_at *at,
                                   const struct hg_tls_spec *spec,
                                   struct hg_tls_context *of(const struct hg_tls_spec *,
                                                             struct hg_writer *))
{
    struct hg_writer problem = {0};
    struct hg_tls_context *context = of(spec, &problem);
    if (context == NULL) {
        struct hg_bytes text = hg_writer_view(&problem);
        hg_config_read_error(r, at, "tls: %.*s", (int)text.n, (const char *)text.p);
    }
    hg_writer_close(&problem);
    return context;
}

static const char *alpn_of(enum hg_serve serve)
{
    switch (serve) {
    case HG_SERVE_WEB:
    case HG_SERVE_ADMIN: return "http/1.1";
    case HG_SERVE_MQTT: return "mqtt";
    default: return NULL; /* nothing is registered for STOMP */
    }
}

void hg_config_schema_check_listener_tls(struct hg_config_reader *r,
                                         const struct hg_config_node *element,
                                         struct hg_listener_spec *l)
{
    const struct hg_config_node *tls = hg_config_tree_find(element, "tls");
    if (tls == NULL || tls->kind != HG_CONFIG_TABLE) {
        return;
    }
    if (l->tls_first.cert == NULL || l->tls_first.key == NULL) {
        hg_config_read_error(r, &tls->at, "tls needs cert and key");
        return;
    }
    if (l->tls.is_optional && l->tls.ca == NULL) {
        hg_config_read_error(r, &tls->at, "client_optional without client_ca: nobody is asked");
        return;
    }
    size_t n = 1 + l->tls_more_n;
    struct hg_tls_certificate *all = hg_config_arena_get(&r->arena, n * sizeof(*all));
    if (all == NULL) {
        return;
    }
    all[0] = l->tls_first;
    if (l->tls_more_n > 0) {
        memcpy(all + 1, l->tls_more, l->tls_more_n * sizeof(*all));
    }
    l->tls.certificates = all;
    l->tls.certificates_n = n;
    l->tls.alpn = alpn_of(l->serve);
    l->tls_context = make(r, &tls->at, &l->tls, hg_tls_context_server);
}

void hg_config_schema_check_rabbitmq_tls(struct hg_config_reader *r,
                                         const struct hg_config_node *root, struct hg_config *c)
{
    const struct hg_config_node *rabbitmq = hg_config_tree_find(root, "rabbitmq");
    const struct hg_config_node *tls =
        rabbitmq == NULL ? NULL : hg_config_tree_find(rabbitmq, "tls");
    bool is_wanted = false;
    for (size_t i = 0; i < c->endpoints_n; i++) {
        is_wanted |= c->endpoints[i].is_tls;
    }
    for (size_t v = 0; v < c->vhosts_n; v++) {
        for (size_t i = 0; i < c->vhosts[v].endpoints_n; i++) {
            is_wanted |= c->vhosts[v].endpoints[i].is_tls;
        }
    }
    if (!is_wanted) {
        if (tls != NULL) {
            hg_config_read_error(r, &tls->key_at,
                                 "tls belongs to endpoints that begin with amqps://");
        }
        return;
    }
    const struct hg_config_at *at = tls != NULL        ? &tls->at
                                    : rabbitmq != NULL ? &rabbitmq->at
                                                       : &root->at;
    if ((c->rabbitmq_certificate.cert == NULL) != (c->rabbitmq_certificate.key == NULL)) {
        hg_config_read_error(r, at, "cert and key go together");
        return;
    }
    c->rabbitmq_tls_spec.certificates = &c->rabbitmq_certificate;
    c->rabbitmq_tls_spec.certificates_n = c->rabbitmq_certificate.cert != NULL ? 1 : 0;
    c->rabbitmq_tls = make(r, at, &c->rabbitmq_tls_spec, hg_tls_context_client);
}
