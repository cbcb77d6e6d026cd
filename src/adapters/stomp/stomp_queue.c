/* SPDX-License-Identifier: Apache-2.0 */
#include "adapters/stomp/stomp_queue.h"

static const struct {
    const char *header;
    enum hg_value_kind kind; /* INT or STRING */
} known[HG_STOMP_QUEUE_ARGUMENTS_MAX] = {
    {"x-dead-letter-exchange", HG_VALUE_STRING},
    {"x-dead-letter-routing-key", HG_VALUE_STRING},
    {"x-expires", HG_VALUE_INT},
    {"x-message-ttl", HG_VALUE_INT},
    {"x-max-length", HG_VALUE_INT},
    {"x-max-length-bytes", HG_VALUE_INT},
    {"x-max-priority", HG_VALUE_INT},
    {"x-queue-type", HG_VALUE_STRING},
    {"x-max-age", HG_VALUE_STRING},
    {"x-stream-max-segment-size-bytes", HG_VALUE_INT},
    {"x-stream-filter-size-bytes", HG_VALUE_INT},
};

enum hg_status hg_stomp_queue_read(const struct hg_stomp_frame *frame, struct hg_stomp_queue *out,
                                   const char **why_out)
{
    out->arguments_n = 0;
    for (size_t i = 0; i < HG_STOMP_QUEUE_ARGUMENTS_MAX; i++) {
        const struct hg_bytes *value = hg_stomp_find(frame, known[i].header);
        if (value == NULL) {
            continue;
        }
        struct hg_header *h = &out->arguments[out->arguments_n++];
        *h = (struct hg_header){hg_bytes_str(known[i].header), {.kind = known[i].kind}};
        uint64_t number;
        if (known[i].kind == HG_VALUE_STRING) {
            h->value.u.bytes = *value;
        } else if (hg_bytes_to_u64(*value, INT64_MAX, &number)) {
            h->value.u.i = (int64_t)number;
        } else {
            *why_out = "a header that says how to declare the queue is not a number";
            return HG_BAD_PROPERTY;
        }
    }
    return HG_OK;
}
