/* SPDX-License-Identifier: Apache-2.0 */
#include "adapters/stomp/stomp_queue.h"

#include "base/base64.h"
#include "base/check.h"
#include "base/mem.h"
#include "message/match.h"

#include <openssl/evp.h>

enum { NAME_MAX_BYTES = 255 };

/* ---- Values ---- */

/* Fills *out. False: *out is not touched. */
typedef bool read_fn(struct hg_bytes text, uint64_t min, uint64_t max, struct hg_value *out);

static bool read_number(struct hg_bytes text, uint64_t min, uint64_t max, struct hg_value *out)
{
    uint64_t n;
    if (!hg_bytes_to_u64(text, max, &n) || n < min) {
        return false;
    }
    *out = (struct hg_value){.kind = HG_VALUE_INT, .u.i = (int64_t)n};
    return true;
}

/* From -max to max. */
static bool read_signed(struct hg_bytes text, uint64_t min, uint64_t max, struct hg_value *out)
{
    bool is_negative = hg_bytes_starts(text, HG_BYTES("-"));
    if (!read_number(hg_bytes_skip(text, is_negative), min, max, out)) {
        return false;
    }
    out->u.i = is_negative ? -out->u.i : out->u.i;
    return true;
}

static bool read_name(struct hg_bytes text, uint64_t min, uint64_t max, struct hg_value *out)
{
    *out = (struct hg_value){.kind = HG_VALUE_STRING, .u.bytes = text};
    return text.n >= min && text.n <= max;
}

static bool read_word(struct hg_bytes text, const char *const *words, struct hg_value *out)
{
    for (; *words != NULL; words++) {
        if (hg_bytes_eq(text, hg_bytes_str(*words))) {
            *out = (struct hg_value){.kind = HG_VALUE_STRING, .u.bytes = text};
            return true;
        }
    }
    return false;
}

static bool read_type(struct hg_bytes text, uint64_t min, uint64_t max, struct hg_value *out)
{
    static const char *const words[] = {"classic", "quorum", "stream", NULL};
    (void)min, (void)max;
    return read_word(text, words, out);
}

static bool read_overflow(struct hg_bytes text, uint64_t min, uint64_t max, struct hg_value *out)
{
    static const char *const words[] = {"drop-head", "reject-publish", "reject-publish-dlx", NULL};
    (void)min, (void)max;
    return read_word(text, words, out);
}

/* "90s", "12h", "7D": RabbitMQ 3.10 ends the connection over what it cannot read. */
static bool read_age(struct hg_bytes text, uint64_t min, uint64_t max, struct hg_value *out)
{
    uint64_t n;
    *out = (struct hg_value){.kind = HG_VALUE_STRING, .u.bytes = text};
    return text.n > 1 && hg_bytes_index(HG_BYTES("YMDhms"), text.p[text.n - 1]) < 6 &&
           hg_bytes_to_u64(hg_bytes(text.p, text.n - 1), max, &n) && n >= min;
}

/* A word, an age, or a number by itself or after offset= or timestamp=. */
static bool read_offset(struct hg_bytes text, uint64_t min, uint64_t max, struct hg_value *out)
{
    static const char *const words[] = {"first", "last", "next", NULL};
    const struct hg_bytes offset = HG_BYTES("offset=");
    const struct hg_bytes timestamp = HG_BYTES("timestamp=");
    if (hg_bytes_starts(text, timestamp)) {
        const uint64_t year_9999_s = 253402300799;
        out->kind = HG_VALUE_TIMESTAMP;
        return hg_bytes_to_u64(hg_bytes_skip(text, timestamp.n), year_9999_s, &out->u.timestamp_s);
    }
    size_t skip = hg_bytes_starts(text, offset) ? offset.n : 0;
    return read_number(hg_bytes_skip(text, skip), min, max, out) || read_word(text, words, out) ||
           read_age(text, 1, UINT32_MAX, out);
}

/* ---- Headers ---- */

/* clang-format off */
static const struct argument {
    const char *header;
    bool is_consumers;
    read_fn *read;
    uint64_t min, max; /* of a number, or a text's bytes */
    const char *why;
} known[] = {
    {"x-dead-letter-exchange",    false, read_name,     0, NAME_MAX_BYTES, "the header x-dead-letter-exchange is over 255 bytes"},
    {"x-dead-letter-routing-key", false, read_name,     0, NAME_MAX_BYTES, "the header x-dead-letter-routing-key is over 255 bytes"},
    {"x-expires",                 false, read_number,   1, UINT32_MAX,     "the header x-expires is not a number of milliseconds from 1 to 4294967295"},
    {"x-message-ttl",             false, read_number,   0, UINT32_MAX,     "the header x-message-ttl is not a number of milliseconds from 0 to 4294967295"},
    {"x-max-length",              false, read_number,   0, INT64_MAX,      "the header x-max-length is not a number of messages"},
    {"x-max-length-bytes",        false, read_number,   0, INT64_MAX,      "the header x-max-length-bytes is not a number of bytes"},
    {"x-max-priority",            false, read_number,   0, 255,            "the header x-max-priority is not a number from 0 to 255"},
    {"x-overflow",                false, read_overflow, 0, 0,              "the header x-overflow is none of drop-head, reject-publish, reject-publish-dlx"},
    {"x-queue-type",              false, read_type,     0, 0,              "the header x-queue-type is none of classic, quorum, stream"},
    {"x-max-age",                 false, read_age,      1, UINT32_MAX,     "the header x-max-age is not a number and a unit (Y, M, D, h, m, s)"},
    {"x-stream-max-segment-size-bytes", false, read_number, 0, 3000000000, "the header x-stream-max-segment-size-bytes is not a number from 0 to 3000000000"},
    {"x-stream-filter-size-bytes", false, read_number, 16, 255,            "the header x-stream-filter-size-bytes is not a number from 16 to 255"},
    {"x-priority",                true,  read_signed,   0, INT32_MAX,      "the header x-priority is not an integer from -2147483647 to 2147483647"},
    {"x-stream-offset",           true,  read_offset,   0, INT64_MAX,
     "the header x-stream-offset is none of first, last, next, offset=NUMBER, timestamp=SECONDS, or a number and a unit (Y, M, D, h, m, s)"},
};
/* clang-format on */
enum { KNOWN_N = sizeof(known) / sizeof(known[0]) };
_Static_assert((int)KNOWN_N <= (int)HG_STOMP_ARGUMENTS_MAX, "there is room for all of them");

static enum hg_status refuse(const char *why, struct hg_bytes value, struct hg_stomp_misfit *misfit)
{
    *misfit = (struct hg_stomp_misfit){why, value};
    return HG_BAD_PROPERTY;
}

static enum hg_status read_arguments(const struct hg_stomp_frame *frame, struct hg_stomp_queue *out,
                                     struct hg_stomp_misfit *misfit)
{
    bool has_consumer = frame->command == HG_STOMP_SUBSCRIBE;
    for (size_t i = 0; i < KNOWN_N; i++) {
        const struct hg_bytes *value = hg_stomp_find(frame, known[i].header);
        if (value == NULL || (known[i].is_consumers && !has_consumer)) {
            continue;
        }
        struct hg_stomp_arguments *to = known[i].is_consumers ? &out->consumer : &out->queue;
        struct hg_header *h = &to->items[to->n++];
        h->name = hg_bytes_str(known[i].header);
        if (!known[i].read(*value, known[i].min, known[i].max, &h->value)) {
            return refuse(known[i].why, *value, misfit);
        }
    }
    out->is_stream = hg_bytes_eq(hg_stomp_get(frame, "x-queue-type"), HG_BYTES("stream"));
    return HG_OK;
}

static bool is_true(struct hg_bytes text)
{
    return hg_bytes_eq(text, HG_BYTES("true")) || hg_bytes_eq(text, HG_BYTES("True"));
}

static bool is_false(struct hg_bytes text)
{
    return hg_bytes_eq(text, HG_BYTES("false")) || hg_bytes_eq(text, HG_BYTES("False"));
}

static enum hg_status read_flags(const struct hg_stomp_frame *frame, struct hg_stomp_queue *out,
                                 struct hg_stomp_misfit *misfit)
{
    const struct {
        const char *header;
        uint8_t *flag;
        const char *why;
        bool is_not_for_send;
    } flags[] = {
        {"persistent", &out->durable, "the header persistent is neither true nor false", true},
        {"durable", &out->durable, "the header durable is neither true nor false", false},
        {"auto-delete", &out->auto_delete, "the header auto-delete is neither true nor false",
         false},
        {"exclusive", &out->exclusive, "the header exclusive is neither true nor false", false},
    };
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        const struct hg_bytes *value = hg_stomp_find(frame, flags[i].header);
        if (value == NULL || (flags[i].is_not_for_send && frame->command == HG_STOMP_SEND)) {
            continue;
        }
        if (!is_true(*value) && !is_false(*value)) {
            return refuse(flags[i].why, *value, misfit);
        }
        *flags[i].flag = is_true(*value) ? HG_STOMP_TRUE : HG_STOMP_FALSE;
    }
    return HG_OK;
}

static enum hg_status read_consumer(const struct hg_stomp_frame *frame, struct hg_stomp_queue *out,
                                    struct hg_stomp_misfit *misfit)
{
    const struct hg_bytes *name = hg_stomp_find(frame, "x-queue-name");
    const struct hg_bytes *count = hg_stomp_find(frame, "prefetch-count");
    uint64_t prefetch = 0;
    if (name != NULL && (name->n == 0 || name->n > NAME_MAX_BYTES)) {
        return refuse("the header x-queue-name is not a name of 1 to 255 bytes", *name, misfit);
    }
    if (name != NULL && hg_bytes_starts(*name, HG_BYTES("headgate."))) {
        return refuse(
            "the header x-queue-name begins with headgate., as the gateway's own queues do", *name,
            misfit);
    }
    if (count != NULL && !hg_bytes_to_u64(*count, UINT16_MAX, &prefetch)) {
        return refuse("the header prefetch-count is not a number from 0 to 65535", *count, misfit);
    }
    out->name = name == NULL ? hg_bytes(NULL, 0) : *name;
    out->has_prefetch = count != NULL;
    out->prefetch = (uint32_t)prefetch;
    return HG_OK;
}

enum hg_status hg_stomp_queue_read(const struct hg_stomp_frame *frame, struct hg_stomp_queue *out,
                                   struct hg_stomp_misfit *misfit_out)
{
    *out = (struct hg_stomp_queue){0};
    enum hg_status status = read_arguments(frame, out, misfit_out);
    if (status == HG_OK) {
        status = read_flags(frame, out, misfit_out);
    }
    if (status == HG_OK && frame->command == HG_STOMP_SUBSCRIBE) {
        status = read_consumer(frame, out, misfit_out);
    }
    return status;
}

bool hg_stomp_says_durable(const struct hg_stomp_frame *frame)
{
    return is_true(hg_stomp_get(frame, "durable")) || is_true(hg_stomp_get(frame, "persistent"));
}

/* ---- Bindings of headers exchanges ---- */

static bool means_something_else(struct hg_bytes header)
{
    static const char *const others[] = {
        "id",          "destination",    "ack",          "receipt",    "selector",
        "transaction", "content-length", "content-type", "persistent", "durable",
        "auto-delete", "exclusive",      "x-queue-name", "retained",   "prefetch-count",
    };
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (hg_bytes_eq(header, hg_bytes_str(others[i]))) {
            return true;
        }
    }
    for (size_t i = 0; i < KNOWN_N; i++) {
        if (hg_bytes_eq(header, hg_bytes_str(known[i].header))) {
            return true;
        }
    }
    return false;
}

enum hg_status hg_stomp_match_read(const struct hg_stomp_frame *frame, struct hg_header **own_out,
                                   size_t *n_out, struct hg_stomp_misfit *misfit_out)
{
    const struct hg_bytes *match = hg_stomp_find(frame, "x-match");
    *own_out = NULL;
    *n_out = 0;
    if (match == NULL) {
        return HG_OK;
    }
    if (!hg_match_is_word(*match)) {
        return refuse("the header x-match is none of all, any, all-with-x, any-with-x", *match,
                      misfit_out);
    }
    struct hg_header *items = hg_alloc(frame->headers_n * sizeof(*items));
    if (items == NULL) {
        return HG_NO_MEMORY;
    }
    size_t n = 0;
    for (size_t i = 0; i < frame->headers_n; i++) {
        const struct hg_stomp_header *h = &frame->headers[i];
        if (means_something_else(h->name)) {
            continue;
        }
        items[n].name = h->name;
        if (h->name.n > HG_MATCH_NAME_MAX || !hg_match_read_value(h->value, &items[n++].value)) {
            hg_free(items);
            return refuse("a header to match by is not what int: or bool: before it says, or its "
                          "name is over 255 bytes",
                          h->value, misfit_out);
        }
    }
    *own_out = items;
    *n_out = n;
    return HG_OK;
}

/* ---- Names ---- */

/* A list of characters as Erlang writes it. */
static void write_term(struct hg_writer *w, struct hg_bytes text)
{
    enum { NIL = 106, STRING = 107 };
    hg_writer_u8(w, text.n == 0 ? NIL : STRING);
    if (text.n > 0) {
        hg_writer_u16(w, (uint16_t)text.n);
        hg_writer_bytes(w, text);
    }
}

struct hg_bytes hg_stomp_durable_name(struct hg_bytes key, struct hg_bytes id,
                                      char room[static HG_STOMP_QUEUE_NAME_BYTES])
{
    static const char prefix[] = "stomp-subscription-";
    enum { PREFIX_N = sizeof(prefix) - 1, DIGEST_N = 16 }; /* MD5's */
    _Static_assert(HG_STOMP_QUEUE_NAME_BYTES == PREFIX_N + HG_BASE64URL_N(DIGEST_N), "all of it");
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned digest_n = 0;
    struct hg_writer term = {0};
    hg_writer_bytes(&term, HG_BYTES("\x83\x68\x02")); /* version, a tuple of two */
    write_term(&term, key);
    write_term(&term, id);
    struct hg_bytes view = hg_writer_view(&term);
    bool is_made = !term.failed && EVP_Digest(view.p, view.n, digest, &digest_n, EVP_md5(), NULL);
    hg_writer_close(&term);
    if (!is_made) {
        return hg_bytes(room, 0);
    }
    memcpy(room, prefix, PREFIX_N);
    hg_base64url_write(room + PREFIX_N, hg_bytes(digest, DIGEST_N));
    return hg_bytes(room, HG_STOMP_QUEUE_NAME_BYTES);
}
