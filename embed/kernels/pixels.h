/* pixels.h: what is done to every pixel: inverse DCT at any size, YCbCr to RGB, the two passes of a resize. pixels_ref.c is the
 * definition, and every variant gives its bytes. */
#ifndef LK_PIXELS_H
#define LK_PIXELS_H

#include <stddef.h>
#include <stdint.h>

/* ---- inverse DCT -------------------------------------------------------------------------------- */

/* A block of 8 x 8 coefficients becomes w x h samples, 1 to 16 each: the lowest min(8, w) x min(8, h) frequencies, read at w x h
 * points. Columns first, then rows: int32 sums of products with bases of 14 bits; between the passes 6 bits of fraction in int16,
 * saturated; then rounded, 128 added, clipped to 8 bits. */
enum { EMB_DCT_BITS = 14, EMB_DCT_KEEP = 6 };

typedef struct {
    uint32_t w, h;
    uint32_t pairs_x, pairs_y;  /* frequencies used, in pairs */
    int16_t col[16][4][2];      /* [y][pair]: the basis of row y at frequencies 2 pair and 2 pair + 1 */
    int16_t row[4][16][2];      /* [pair][x] */
} emb_dct;

/* coef: dequantised, natural order; rows: those of its 8 rows that may hold a value (at least 1). h rows at out, each with room for
 * 16 bytes, of which those from w on may be overwritten. */
typedef void emb_dct_fn(const emb_dct *t, const int16_t coef[64], uint32_t rows, uint8_t *out, size_t stride);

/* ---- colour ------------------------------------------------------------------------------------- */

/* JFIF's YCbCr, n pixels. With a = (cb - 128) * 32, b = (cr - 128) * 32 and m(x, k) = (x * k + (1 << 14)) >> 15:
 * r = y + b / 32 + m(b, 0.402), g = y - m(a, 0.344) - b / 32 + m(b, 0.286), b = y + 2 a / 32 - m(a, 0.228), summed in 32nds,
 * rounded, clipped. */
typedef void emb_ycc_fn(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, size_t n, uint8_t *rgb);

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
    emb_dct_fn *dct;
    emb_ycc_fn *ycc;
    emb_resample_col_fn *resample_col;
    emb_spread_fn *spread;
    emb_resample_row_fn *resample_row;
    emb_normalise_fn *normalise;
} emb_pixels;

extern const emb_pixels emb_pixels_ref, emb_pixels_avx2, emb_pixels_neon;
/* Those in use on this processor, after the EMB_CPU mask. */
const emb_pixels *emb_pixels_get(void);

#endif
