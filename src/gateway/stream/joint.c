/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/joint.h"

/* The lane's block with room for n bytes more; NULL: no memory. A block never moves nor grows: there
 * are slices of it. */
static struct hg_buf *block_of(struct hg_joints *j, unsigned lane, size_t n)
{
    struct hg_buf *block = j->blocks[lane];
    if (block == NULL || block->cap - block->n < n) {
        struct hg_buf *fresh = hg_buf_new(HG_JOINT_BLOCK_BYTES);
        if (fresh == NULL) {
            return NULL;
        }
        hg_buf_unref(block);
        j->blocks[lane] = block = fresh;
    }
    j->used |= 1ULL << lane;
    return block;
}

static void append(struct hg_buf *block, struct hg_bytes bytes)
{
    memcpy(block->data + block->n, bytes.p, bytes.n);
    block->n += (uint32_t)bytes.n;
}

static struct hg_part tail_of(struct hg_buf *block, size_t n)
{
    return (struct hg_part){block, hg_bytes(block->data + block->n - n, n)};
}

bool hg_joint_put(struct hg_joints *j, unsigned lane, struct hg_bytes bytes, struct hg_part *out)
{
    struct hg_buf *block =
        bytes.n == 0 || bytes.n > HG_JOINT_PART_MAX ? NULL : block_of(j, lane, bytes.n);
    if (block == NULL) {
        return false;
    }
    append(block, bytes);
    *out = tail_of(block, bytes.n);
    return true;
}

static void forget_frame(struct hg_joint_frame *f)
{
    hg_buf_unref(f->of.buf);
    hg_buf_unref(f->framed.buf);
    *f = (struct hg_joint_frame){0};
}

/* Frames keep to the lane of those from the same block, so that they lie behind each other where
 * the parts do. */
static unsigned frame_of(struct hg_joints *j, const struct hg_buf *block, uint8_t kind)
{
    for (unsigned i = 0; i < HG_JOINT_FRAMES; i++) {
        if (j->frames[i].of.buf == block && j->frames[i].kind == kind) {
            return i;
        }
    }
    return j->oldest++ % HG_JOINT_FRAMES;
}

bool hg_joint_frame(struct hg_joints *j, const struct hg_part *part, uint8_t kind,
                    struct hg_bytes header, struct hg_part *out)
{
    if (part->buf == NULL || header.n + part->bytes.n > HG_JOINT_PART_MAX) {
        return false;
    }
    unsigned at = frame_of(j, part->buf, kind);
    struct hg_joint_frame *f = &j->frames[at];
    size_t n = header.n + part->bytes.n;
    if (f->of.buf != part->buf || f->kind != kind || f->of.bytes.p != part->bytes.p ||
        f->of.bytes.n != part->bytes.n) {
        struct hg_buf *block = block_of(j, HG_JOINT_LANES - HG_JOINT_FRAMES + at, n);
        if (block == NULL) {
            return false;
        }
        append(block, header);
        append(block, part->bytes);
        forget_frame(f);
        f->kind = kind;
        f->of = (struct hg_part){hg_buf_ref(part->buf), part->bytes};
        f->framed = tail_of(hg_buf_ref(block), n);
    }
    j->latest = at;
    *out = f->framed;
    return true;
}

void hg_joints_reset(struct hg_joints *j)
{
    for (unsigned i = 0; i < HG_JOINT_FRAMES; i++) {
        forget_frame(&j->frames[i]);
    }
    for (; j->used != 0; j->used &= j->used - 1) {
        struct hg_buf **block = &j->blocks[__builtin_ctzll(j->used)];
        if ((*block)->refs == 1) {
            (*block)->n = 0;
        } else { /* somebody may send of it yet */
            hg_buf_unref(*block);
            *block = NULL;
        }
    }
}

void hg_joints_close(struct hg_joints *j)
{
    hg_joints_reset(j);
    for (unsigned i = 0; i < HG_JOINT_LANES; i++) {
        hg_buf_unref(j->blocks[i]);
        j->blocks[i] = NULL;
    }
}
