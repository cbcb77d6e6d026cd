/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that many streams get alike in one wave of writes. They lie behind each other in blocks, one
 * after the other as they came, so that of several messages a stream's queue holds one slice, and
 * all streams are written from the same memory. A wave ends when every stream's output has been
 * tried; what one could not send it takes with it (hg_outq_own). */
#ifndef HG_STREAM_JOINT_H
#define HG_STREAM_JOINT_H

#include "stream/stream.h"

enum {
    HG_JOINT_BLOCK_BYTES = 16 * 1024,
    HG_JOINT_PART_MAX = 2048, /* more is worth a slice of its own */
    HG_JOINT_FRAMES = 4,
    HG_JOINT_LANES = 64, /* the last HG_JOINT_FRAMES of them for hg_joint_frame */
    HG_JOINT_ANSWERS = HG_JOINT_LANES - HG_JOINT_FRAMES - 1 /* and one for what one client gets:
                                                               * it shares the block, not the bytes */
};

struct hg_joint_frame { /* what was framed last, of those from one block */
    struct hg_part of, framed;
    uint8_t kind;
};

struct hg_joints {                         /* a worker's; zero-initialise to start */
    struct hg_buf *blocks[HG_JOINT_LANES]; /* a lane has those who get the same messages */
    uint64_t used;                         /* a bit for each lane of this wave */
    struct hg_joint_frame frames[HG_JOINT_FRAMES];
    unsigned oldest, latest; /* of the frames */
};

/* Appends to a lane. False: too large, or no memory. The part is borrowed until the lane's next
 * use: hg_buf_ref keeps it. */
bool hg_joint_put(struct hg_joints *j, unsigned lane, struct hg_bytes bytes, struct hg_part *out);
/* The same bytes behind a header, made once for all streams that are given this part one after the
 * other. `kind`: tells headers apart that are not alike. False: make it yourself. */
bool hg_joint_frame(struct hg_joints *j, const struct hg_part *part, uint8_t kind,
                    struct hg_bytes header, struct hg_part *out);
/* What that was for the last stream, if it is for this one too; NULL: ask. */
static inline const struct hg_part *hg_joint_framed(const struct hg_joints *j,
                                                    const struct hg_part *part, uint8_t kind)
{
    const struct hg_joint_frame *f = &j->frames[j->latest];
    bool is_it = part->buf != NULL && f->of.buf == part->buf && f->of.bytes.p == part->bytes.p &&
                 f->of.bytes.n == part->bytes.n && f->kind == kind;
    return is_it ? &f->framed : NULL;
}
/* The wave is over: everything may be overwritten. */
void hg_joints_reset(struct hg_joints *j);
void hg_joints_close(struct hg_joints *j);

#endif
