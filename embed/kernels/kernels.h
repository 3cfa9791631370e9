/* kernels.h: the vectorised core. Tables of functions, chosen once by processor; nn_ref.c defines what each computes.
 *
 * Activations are NHWC. A kernel sees no shapes of a network: it gets pointers to pixels (rows of channels), so padding is a
 * pointer to zeros and stride, dilation and groups are a matter of who makes the pointers.
 *
 * A table stores activations and weights as one type, `type`: float32, float16 or bfloat16. Sums, biases and whatever else says float
 * here are float32 in every table. Where a pointer is void, it is to elements of the table's type, and sizes are in elements.
 * Readable behind every tensor and packed weight: EMB_KERNEL_SLACK bytes. Kernels write exactly what they say. */
#ifndef LK_KERNELS_H
#define LK_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EMB_KERNEL_SLACK 256
#define EMB_MAX_MR       48
#define EMB_MAX_NR       64
#define EMB_MAX_TILE     1024 /* pixels x channels */
#define EMB_MAX_GROUP    4

typedef enum { EMB_ACT_NONE, EMB_ACT_SIGMOID, EMB_ACT_SWISH, EMB_ACT_HSWISH, EMB_ACT_HSIGMOID, EMB_ACT_GELU } emb_act;

typedef struct {
    const void *const *a;  /* [taps][m]: pixel pointers, elements x0 to x0 + k readable at each */
    uint32_t taps, k, x0;
    const void *b;         /* packed panel [taps][ceil(k / group)][width][group], zeros behind k; width: n up to a multiple of unit */
    const char *next;      /* what will be read soon is fetched on the way, next_step bytes further at each row of the panel; or */
    uint32_t next_step;    /* NULL and 0 */
    const float *bias;     /* width floats */
    const void *residual;  /* rows like c, which they may be, or NULL */
    void *c;               /* m rows of ldc elements */
    size_t ldc;
    uint32_t n;            /* columns to write, 1..nr */
    float lo, hi;          /* clamp after bias and residual; -inf and inf for none */
    emb_act act;           /* after the clamp, with act_a and act_b */
    float act_a, act_b;
    void *sum;             /* m rows of lds floats: a long sum in parts. All parts but the first resume from them instead of the */
    size_t lds;            /* bias, and all but the last leave the bare sum there and c alone */
    bool resume, more;
    /* Tables that are `strided`, and thin(), only: pixels that lie `step` bytes apart, a[tap] the first; of them, `there` may be read, with numbers
     * behind each up to the table's `round` of channels. Not all of the m are wanted: the first is number `at` of a line in which
     * `row` are (0: all), and the `gap` behind them are not; c and residual go on without those. step 0: as above. */
    size_t step;
    uint32_t there, at, row, gap;
    /* Quantised tables only, see q8.h. */
    const float *scale;    /* nr floats */
    float residual_scale, y_scale, y_zero;
    bool wide;
    const void *table;     /* emb_q8_table of the activation, or NULL */
} emb_tile;

/* Pixels of one row of a depthwise convolution whose taps all lie in the picture (or the part of the taps that does):
 * out[p][c] = clamp(bias[c] + sum over ky, kx of x[ky * x_row + p * x_pixel + kx * x_tap + c] * w[ky * w_row + kx * channels + c]).
 * width > 0, for kw of 3 or 5 and x_pixel of x_tap or twice that: x is the first of `width` columns, x_tap apart, and the first pixel
 * begins at `column`; columns beside the picture are zeros. Then rows may be 2, where x_pixel is x_tap: the row below as well, out_row
 * further, from x + x_row (so neighbouring rows of taps are neighbours of the result). */
typedef struct {
    const void *x, *w;
    const float *bias;
    void *out; /* [pixels][channels] */
    size_t x_row, x_pixel, x_tap, w_row; /* in elements */
    uint32_t kh, kw, pixels, channels, rows, width;
    int32_t column;
    size_t out_row;
    float lo, hi;
} emb_depthwise;

typedef struct { /* up to 4 x 4 pixels of a result */
    void *out;
    const void *residual; /* NULL, or strides as of out, which it may be */
    const float *bias;
    size_t row, pixel;    /* strides in elements */
    uint32_t rows, columns;
    float lo, hi;
} emb_patch;

typedef struct {
    const char *name;
    uint32_t type;      /* of what is stored: EMB_F32, EMB_F16 or EMB_BF16 */
    uint32_t bytes;     /* of one element */
    uint32_t mr, nr;    /* tile: pixels x channels */
    uint32_t wide_mr, wide_nr; /* another one, of fewer pixels and more channels; 0 = none */
    uint32_t unit;      /* panels are filled up to a multiple of this many channels */
    uint32_t group;     /* neighbouring channels that lie together in packed weights */
    uint32_t round;     /* to a multiple of this many channels each tap of a packed panel is filled up with zeros */
    uint32_t longest;   /* a sum of more products than this has to be made in parts, or it loses digits; 0 = any */
    bool parts;         /* sums may be made in parts */
    bool strided;       /* prefers pixels that lie evenly, see emb_tile, and tiles of mr of them to tiles of equal size */
    void (*begin)(void), (*end)(void); /* around a run in its thread, NULL when nothing has to be done */
    /* c[i][j] = clamp(bias[j] + residual[i][j] + sum over tap, x of a[tap][i][x0 + x] * b[tap][x][j]), 1 <= m <= mr; for more than
     * nr columns wide_mr. */
    void (*tile)(const emb_tile *t, uint32_t m);
    /* The same for `unit` columns at most, whole sums, and up to thin_mr pixels that lie evenly, as tables that are strided want them.
     * NULL: none. */
    void (*thin)(const emb_tile *t, uint32_t m);
    uint32_t thin_mr;
    /* out[x][j] = b[x][j] * gate[x] for a panel of k rows of n channels, packed as for a tile. */
    void (*gate_panel)(const void *b, const void *gate, uint32_t k, uint32_t n, void *out);
    /* Winograd's F(4 x 4, 3 x 3) (Lavin and Gray, arXiv:1509.09308), points 0, 1, -1, 2, -2 and infinity, where side is 6; F(3 x 3, 3 x 3),
     * without -2, where it is 5; F(2 x 2, 3 x 3), without 2 either, where it is 4. v[e * plane + c] = (B^T d B)[e] of channel c, d the side x side pixels at px[row * side + column]. */
    void (*winograd_in)(const void *const *px, uint32_t side, uint32_t channels, void *v, size_t plane);
    /* out[y * row + x * pixel + c] = clamp(bias[c] + residual[same] + (A^T m A)[y][x]), y < rows, x < columns of those that a tile has;
     * m[e * plane + c]; residual may be NULL. */
    void (*winograd_out)(const float *m, size_t plane, uint32_t side, uint32_t channels, const emb_patch *to);
    void (*depthwise)(const emb_depthwise *d);
    /* out[c] = max over tap of a[tap][c]. */
    void (*max_pool)(const void *const *a, uint32_t taps, uint32_t channels, void *out);
    /* out[c] = scale * sum over tap of a[tap][c]. */
    void (*sum_pool)(const void *const *a, uint32_t taps, float scale, uint32_t channels, void *out);
    /* out[c] = mean over pixel of x[pixel][c]. */
    void (*global_mean)(const void *x, size_t pixels, uint32_t channels, void *out);
    void (*add)(const void *a, const void *b, size_t n, void *out, float lo, float hi);
    void (*mul)(const void *a, const void *b, size_t n, void *out);
    /* out[p][c] = clamp(x[p][c] * scale[c] + shift[c]). */
    void (*affine)(const void *x, size_t pixels, uint32_t channels, const float *scale, const float *shift, void *out, float lo, float hi);
    /* out[p][c] = x[p][c] * gate[c]. */
    void (*gate)(const void *x, size_t pixels, uint32_t channels, const void *gate, void *out);
    /* In place. Within 2e-6 of the exact function, relative to 1 or its value; float16 and quantised tables within 2^-11.
     * hsigmoid is a * x + b clamped to 0..1, hswish x * (x / 6 + 1/2 clamped to 0..1). */
    void (*act)(void *x, size_t n, emb_act act, float a, float b);
    /* Between the table's type and float32. */
    void (*widen)(const void *x, size_t n, float *out);
    void (*narrow)(const float *x, size_t n, void *out);
} emb_kernels;

extern const emb_kernels emb_kernels_ref, emb_kernels_f16_ref, emb_kernels_bf16_ref;
#if defined(__x86_64__)
extern const emb_kernels emb_kernels_avx2, emb_kernels_avx512, emb_kernels_f16_avx512, emb_kernels_bf16_amx;
#elif defined(__aarch64__)
extern const emb_kernels emb_kernels_neon, emb_kernels_f16_neon;
#endif
/* By emb_cpu_features(), the same for the life of the process. */
const emb_kernels *emb_kernels_get(void);
/* NULL where the type has no arithmetic of its own. */
const emb_kernels *emb_kernels_f16_get(void);
const emb_kernels *emb_kernels_bf16_get(void);

#endif
