/* resample.h: the antialiased resize behind renditions and model inputs.
 *
 * Definition (the scalar code is the reference, variants are bit-exact): two passes, vertical then horizontal. The weight of the
 * sample at i for the output at o is k((i + 0.5 - c) / s) / sum, c = box0 + (o + 0.5) * scale, s = max(scale, 1), as in Pillow:
 * the filter widens with the reduction. k is 1 - |x| within 1 (bilinear), the cubic with a = -1/2 within 2 (bicubic), or
 * sinc(x) sinc(x / 3) within 3 (Lanczos). Weights are int16 that sum to exactly 1 << 14; a pass rounds half up and clips to 8
 * bits. */
#ifndef LK_RESAMPLE_H
#define LK_RESAMPLE_H

#include "embed.h"
#include "error.h"
#include "kernels/pixels.h"

typedef enum { EMB_BILINEAR, EMB_BICUBIC, EMB_LANCZOS } emb_filter;

typedef struct { /* grow-only memory of one thread, with the windows of its last resize; zero to begin with */
    void *mem;
    size_t bytes;
} emb_scratch;
void emb_scratch_free(emb_scratch *s);

typedef void emb_row_sink(void *ctx, uint32_t y, const uint8_t *rgb);

/* Resizes the box (x0 y0 x1 y1 in source pixels, inside the picture) to w x h and hands out row after row. */
EMB_CHECK emb_status emb_resample(emb_view src, const double box[4], uint32_t w, uint32_t h, emb_filter filter,
                                  emb_scratch *scratch, emb_row_sink *sink, void *ctx, emb_error *err);
/* The crop in source pixels; EMB_EINVAL with field and value when it leaves the picture or is empty. */
EMB_CHECK emb_status emb_crop_box(emb_view src, const emb_crop *crop, double box[4], emb_error *err);

#endif
