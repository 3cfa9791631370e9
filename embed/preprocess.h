/* preprocess.h: an upright photo -> the float tensor that a model takes. One path for index and query. */
#ifndef LK_PREPROCESS_H
#define LK_PREPROCESS_H

#include "embed.h"
#include "resample.h"

/* Part of every fingerprint: raise it when the arithmetic below changes, so that old embeddings are not mixed with new. */
#define EMB_PREPROC_VERSION "likeness-preprocess-4"

typedef enum {
    EMB_FIT_CROP,   /* short side to `resize`, then the centre w x h */
    EMB_FIT_SQUASH, /* both sides to w x h, proportions lost */
    EMB_FIT_PAD,    /* long side fits, white beside */
} emb_fit;

typedef struct {
    uint32_t w, h;
    uint32_t resize; /* EMB_FIT_CROP only; >= w and h */
    emb_fit fit;
    float mean[3], std[3]; /* of pixels scaled to 0..1 */
    emb_filter filter;
} emb_preproc;

typedef enum { EMB_NHWC, EMB_NCHW } emb_layout;

/* out: h * w * 3 floats in the given layout. Allocates only when `scratch` must grow. */
EMB_CHECK emb_status emb_preprocess(emb_view src, const emb_crop *crop, const emb_preproc *pp, emb_layout layout, float *out,
                                    emb_scratch *scratch, emb_error *err);
/* The short side that a photo is decoded to at least, 1.4 times what the filter makes of it: below that, what the scaled
 * decoding leaves out begins to show (49 dB against a full decoding at 1.4, 54 at 2). */
uint32_t emb_preproc_decode_side(const emb_preproc *pp);
const char *emb_filter_name(emb_filter f);
/* What models were trained with: "bilinear" (torchvision; also where `name` is NULL), "bicubic" (timm) or "lanczos". */
EMB_CHECK emb_status emb_preproc_filter(emb_preproc *pp, const char *name, const char *file, emb_error *err);

#endif
