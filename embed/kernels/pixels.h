/* pixels.h: what is done to every pixel: the two passes of a resize, and normalising. pixels_ref.c is the definition, and every
 * variant gives its bytes. */
#ifndef LK_PIXELS_H
#define LK_PIXELS_H

#include <stddef.h>
#include <stdint.h>

/* ---- resize ------------------------------------------------------------------------------------- */

#define EMB_RESAMPLE_BITS 14
/* Windows of a row begin at multiples of this and their tap counts are padded to it with zero weights: vector code has no tails. */
#define EMB_RESAMPLE_PAD 4

typedef struct { /* windows of one axis */
    uint32_t taps;   /* weights per output, a multiple of EMB_RESAMPLE_PAD */
    uint32_t *first; /* [out] first source sample */
    uint32_t *count; /* [out] samples that exist, <= taps */
    int16_t *weight; /* [out][taps], zero behind count */
} emb_axis;

/* out[i] = sum over t of rows[t][i] * weight[t], n bytes; the weights are padded with a zero to an even count. */
typedef void emb_resample_col_fn(const uint8_t *const *rows, const int16_t *weight, uint32_t taps, size_t n, uint8_t *out);

/* A row of RGB pixels as the horizontal pass reads it: for every four pixels r r r r g g g g b b b b 0 0 0 0. The row has
 * EMB_IMAGE_SLACK readable bytes behind it; all of the last four are written. */
typedef void emb_spread_fn(const uint8_t *rgb, size_t pixels, int16_t *out);
static inline size_t emb_spread_bytes(size_t pixels) { return (pixels + 3) / 4 * 16 * sizeof(int16_t); }

/* out[o] = window o of a spread row that holds all taps of every window; up to 13 bytes behind out may be overwritten. */
typedef void emb_resample_row_fn(const int16_t *spread, const emb_axis *axis, uint32_t out_w, uint8_t *out);

/* ---- normalise ---------------------------------------------------------------------------------- */

/* RGB pixels to floats: out = (in - mean) * scale, each channel with its own. */
typedef void emb_normalise_fn(const uint8_t *rgb, size_t pixels, const float mean[3], const float scale[3], float *out);

typedef struct {
    const char *name;
    emb_resample_col_fn *resample_col;
    emb_spread_fn *spread;
    emb_resample_row_fn *resample_row;
    emb_normalise_fn *normalise;
} emb_pixels;

extern const emb_pixels emb_pixels_ref, emb_pixels_avx2, emb_pixels_avx512, emb_pixels_neon;
/* Those in use on this processor, after the EMB_CPU mask. */
const emb_pixels *emb_pixels_get(void);

#endif
