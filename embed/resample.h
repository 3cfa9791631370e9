/* resample.h: the antialiased resize behind renditions and model inputs.
 *
 * Definition (the scalar code is the reference, variants are bit-exact): two passes, vertical then horizontal, each a
 * triangle filter whose support grows with the reduction, as Pillow's BILINEAR: weight of the sample at i for the output
 * at o is max(0, 1 - |i + 0.5 - c| / s), c = box0 + (o + 0.5) * scale, s = max(scale, 1). Weights are int16 that sum to
 * exactly 1 << 14; a pass rounds half up and clips to 8 bits. */
#ifndef LK_RESAMPLE_H
#define LK_RESAMPLE_H

#include "embed.h"
#include "error.h"

#define EMB_RESAMPLE_BITS 14
/* The tap count of a window is padded to this with zero weights, so that vector code needs no tail. */
#define EMB_RESAMPLE_PAD 4

typedef struct { /* windows of one axis */
    uint32_t taps;   /* weights per output, a multiple of EMB_RESAMPLE_PAD */
    uint32_t *first; /* [out] first source sample */
    uint32_t *count; /* [out] samples that exist, <= taps */
    int16_t *weight; /* [out][taps], zero behind count */
} emb_axis;

/* One 8-bit RGB row: out[o] = window o of `row`. The row has EMB_IMAGE_SLACK readable bytes behind it; one byte behind out
 * may be overwritten. */
typedef void emb_resample_row_fn(const uint8_t *row, const emb_axis *axis, uint32_t out_w, uint8_t *out);
/* out[i] = sum over t of rows[t][i] * weight[t], n bytes. */
typedef void emb_resample_col_fn(const uint8_t *const *rows, const int16_t *weight, uint32_t taps, size_t n, uint8_t *out);

typedef struct { /* grow-only memory of one thread; zero to begin with */
    void *mem;
    size_t bytes;
} emb_scratch;
void emb_scratch_free(emb_scratch *s);

typedef void emb_row_sink(void *ctx, uint32_t y, const uint8_t *rgb);

/* Resizes the box (in source pixels, inside the picture) to w x h and hands out row after row. */
EMB_CHECK emb_status emb_resample(emb_view src, double x0, double y0, double x1, double y1, uint32_t w, uint32_t h,
                                  emb_scratch *scratch, emb_row_sink *sink, void *ctx, emb_error *err);
/* The crop in source pixels; EMB_EINVAL with field and value when it leaves the picture or is empty. */
EMB_CHECK emb_status emb_crop_box(emb_view src, const emb_crop *crop, double box[4], emb_error *err);

emb_resample_row_fn emb_resample_row_ref, emb_resample_row_avx2;
emb_resample_col_fn emb_resample_col_ref, emb_resample_col_avx2;

#endif
