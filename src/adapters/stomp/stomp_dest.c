/* SPDX-License-Identifier: Apache-2.0 */
/* RabbitMQ's destinations. Names are joined by `/`; a `/` inside one is %2F, and nothing else is
 * unescaped, as in the plugin. */
#include "adapters/stomp/stomp_dest.h"

#include "base/check.h"
#include "base/percent.h"
#include "message/topic.h"

#include <string.h>

static const struct prefix {
    const char *text; /* followed by names */
    enum hg_stomp_dest_kind kind;
    bool has_exchange;   /* as the first name */
    bool keeps_slashes;  /* the rest is one name, whatever is in it */
    const char *why_not; /* static text: not served */
} prefixes[] = {
    {"/exchange", HG_STOMP_DEST_EXCHANGE, true, false, NULL},
    {"/topic", HG_STOMP_DEST_EXCHANGE, false, false, NULL},
    {"/queue", HG_STOMP_DEST_QUEUE, false, false, NULL},
    {"/amq/queue", HG_STOMP_DEST_AMQ_QUEUE, false, false, NULL},
    {"/reply-queue", HG_STOMP_DEST_REPLY_QUEUE, false, true, NULL},
    {"/temp-queue", HG_STOMP_DEST_QUEUE, false, false,
     "/temp-queue is for the header reply-to of SEND alone"},
};

/* The one that `destination` begins with, up to its end or a slash; *rest_out is what follows that
 * slash. */
static const struct prefix *prefix_of(struct hg_bytes destination, bool *has_rest_out,
                                      struct hg_bytes *rest_out)
{
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        const struct prefix *p = &prefixes[i];
        struct hg_bytes text = hg_bytes_str(p->text);
        if (!hg_bytes_starts(destination, text)) {
            continue;
        }
        *rest_out = hg_bytes_skip(destination, text.n);
        *has_rest_out = rest_out->n > 0;
        if (!*has_rest_out || rest_out->p[0] == '/') {
            *rest_out = hg_bytes_skip(*rest_out, *has_rest_out);
            return p;
        }
    }
    return NULL;
}

/* name with its %2F taken out, in room; n > HG_STOMP_NAME_MAX: too long. */
static struct hg_bytes unescape(struct hg_bytes name, uint8_t room[static HG_STOMP_NAME_MAX])
{
    size_t n = 0;
    while (name.n > 0) {
        bool is_escape = hg_bytes_starts(name, HG_BYTES("%2F"));
        if (n < HG_STOMP_NAME_MAX) {
            room[n] = is_escape ? '/' : name.p[0];
        }
        n++;
        name = hg_bytes_skip(name, is_escape ? 3 : 1);
    }
    return hg_bytes(room, n);
}

static enum hg_status refuse(enum hg_status status, const char *why, const char **why_out)
{
    *why_out = why;
    return status;
}

/* Exchange and key from the names after the prefix. */
static enum hg_status parse_names(const struct prefix *p, bool has_rest, struct hg_bytes rest,
                                  const char *topic_exchange, struct hg_stomp_dest *out,
                                  const char **why_out)
{
    struct hg_bytes first = rest;
    struct hg_bytes second = {NULL, 0};
    if (!p->keeps_slashes && has_rest) {
        (void)hg_topic_next(&rest, &has_rest, '/', &first);
        bool has_key = p->has_exchange && hg_topic_next(&rest, &has_rest, '/', &second);
        if (has_rest) {
            return refuse(HG_BAD_ADDRESS,
                          has_key ? "it has more parts than exchange and key: a slash inside one "
                                    "is written %2F"
                                  : "it has more parts than one: a slash inside it is written %2F",
                          why_out);
        }
    }
    if (first.n == 0) {
        return refuse(HG_BAD_ADDRESS, "it names nothing", why_out);
    }
    first = unescape(first, out->text[0]);
    if (p->has_exchange) {
        out->exchange = first;
        out->key = unescape(second, out->text[1]);
    } else {
        out->exchange = hg_bytes_str(p->kind == HG_STOMP_DEST_EXCHANGE ? topic_exchange : "");
        out->key = first;
    }
    if (out->exchange.n > HG_STOMP_NAME_MAX || out->key.n > HG_STOMP_NAME_MAX) {
        return refuse(HG_KEY_TOO_LONG, "a name in it is over 255 bytes", why_out);
    }
    return HG_OK;
}

enum hg_status hg_stomp_dest_parse(struct hg_bytes destination, const char *topic_exchange,
                                   struct hg_stomp_dest *out, const char **why_out)
{
    static const struct prefix bare = {NULL, HG_STOMP_DEST_QUEUE, false, false, NULL};
    *why_out = NULL;
    out->address = out->exchange = out->key = hg_bytes(NULL, 0);
    if (destination.n == 0) {
        return refuse(HG_BAD_ADDRESS, "it is empty", why_out);
    }
    bool has_rest = true;
    struct hg_bytes rest = destination;
    const struct prefix *p = NULL;
    if (topic_exchange != NULL) {
        bool has_slash = hg_bytes_index(destination, '/') < destination.n;
        p = has_slash ? prefix_of(destination, &has_rest, &rest) : &bare;
    }
    if (p == NULL) {
        out->kind = HG_STOMP_DEST_ADDRESS;
        out->address = hg_bytes_skip(destination, destination.p[0] == '/');
        return out->address.n > 0 ? HG_OK : refuse(HG_BAD_ADDRESS, "it names nothing", why_out);
    }
    out->kind = p->kind;
    return p->why_not == NULL ? parse_names(p, has_rest, rest, topic_exchange, out, why_out)
                              : refuse(HG_BAD_ADDRESS, p->why_not, why_out);
}

void hg_stomp_dest_write_filter(struct hg_writer *w, struct hg_bytes address)
{
    struct hg_bytes level;
    bool has_more = true;
    for (bool is_first = true; hg_topic_next(&address, &has_more, '/', &level); is_first = false) {
        if (!is_first) {
            hg_writer_u8(w, '/');
        }
        hg_writer_bytes(w, hg_bytes_eq(level, HG_BYTES("*")) ? HG_BYTES("+") : level);
    }
}

static uint8_t *put(uint8_t *at, const char *text)
{
    size_t n = strlen(text);
    memcpy(at, text, n);
    return at + n;
}

/* Slashes, percent signs and whatever is not printable ASCII as %HH. */
static uint8_t *put_escaped(uint8_t *at, struct hg_bytes name)
{
    HG_CHECK(name.n <= HG_STOMP_NAME_MAX);
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];
        if (c == '/' || c == '%' || c < 32 || c > 127) {
            at = hg_percent_write(at, c);
        } else {
            *at++ = c;
        }
    }
    return at;
}

struct hg_bytes hg_stomp_dest_of(struct hg_bytes exchange, struct hg_bytes key,
                                 uint8_t room[static HG_STOMP_DEST_MAX_BYTES])
{
    uint8_t *at = room;
    if (exchange.n == 0) {
        at = put(at, "/queue/");
    } else if (hg_bytes_eq(exchange, HG_BYTES("amq.topic"))) {
        at = put(at, "/topic/");
    } else {
        at = put_escaped(put(at, "/exchange/"), exchange);
        at = put(at, key.n > 0 ? "/" : "");
    }
    at = put_escaped(at, key);
    return hg_bytes(room, (size_t)(at - room));
}
