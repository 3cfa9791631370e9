/* kernels.h: the vectorised core. One table of functions, chosen once by processor; nn_ref.c defines what each computes.
 *
 * Activations are NHWC float32. A kernel sees no shapes of a network: it gets pointers to pixels (rows of channels), so
 * padding is a pointer to zeros and stride, dilation and groups are a matter of who makes the pointers.
 * Readable behind every tensor and packed weight: EMB_KERNEL_SLACK bytes. Kernels write exactly what they say. */
#ifndef LK_KERNELS_H
#define LK_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EMB_KERNEL_SLACK 256
#define EMB_MAX_MR       14
#define EMB_MAX_NR       64

typedef struct {
    const float *const *a; /* [taps][m]: pixel pointers, floats x0 to x0 + k readable at each */
    uint32_t taps, k, x0;
    const float *b;        /* packed panel [taps][k][nr] */
    const char *next;      /* what will be read soon is fetched on the way, next_step bytes further at each of taps * k steps; or */
    uint32_t next_step;    /* NULL and 0 */
    const float *bias;     /* nr floats */
    const float *residual; /* rows like c, or NULL */
    float *c;              /* m rows of ldc floats */
    size_t ldc;
    uint32_t n;            /* columns to write, 1..nr */
    float lo, hi;          /* clamp after bias and residual; -inf and inf for none */
    bool resume, more;     /* a long sum in parts: all but the first resume from c instead of the bias, and all but the last
                            * leave the bare sum in c */
} emb_tile;

/* Pixels of one row of a depthwise convolution whose taps all lie in the picture (or the part of the taps that does):
 * out[p][c] = clamp(bias[c] + sum over ky, kx of x[ky * x_row + p * x_pixel + kx * x_tap + c] * w[ky * w_row + kx * channels + c]). */
typedef struct {
    const float *x, *w, *bias;
    float *out; /* [pixels][channels] */
    size_t x_row, x_pixel, x_tap, w_row; /* in floats */
    uint32_t kh, kw, pixels, channels;
    float lo, hi;
} emb_depthwise;

typedef struct { /* up to 4 x 4 pixels of a result */
    float *out;
    const float *residual; /* NULL, or strides as of out */
    const float *bias;
    size_t row, pixel;     /* strides in floats */
    uint32_t rows, columns;
    float lo, hi;
} emb_patch;

typedef enum { EMB_ACT_NONE, EMB_ACT_SIGMOID, EMB_ACT_SWISH, EMB_ACT_HSWISH, EMB_ACT_HSIGMOID, EMB_ACT_GELU } emb_act;

typedef struct {
    const char *name;
    uint32_t mr, nr; /* tile: pixels x channels */
    /* c[i][j] = clamp(bias[j] + residual[i][j] + sum over tap, x of a[tap][i][x0 + x] * b[tap][x][j]), 1 <= m <= mr. */
    void (*tile)(const emb_tile *t, uint32_t m);
    /* Winograd's F(4 x 4, 3 x 3) (Lavin and Gray, arXiv:1509.09308), points 0, 1, -1, 2, -2 and infinity.
     * v[e * plane + c] = (B^T d B)[e] of channel c, d the 6 x 6 pixels at px[row * 6 + column]. */
    void (*winograd_in)(const float *const *px, uint32_t channels, float *v, size_t plane);
    /* out[y * row + x * pixel + c] = clamp(bias[c] + residual[same] + (A^T m A)[y][x]), y < rows, x < columns of the 4 x 4;
     * m[e * plane + c]; residual may be NULL. */
    void (*winograd_out)(const float *m, size_t plane, uint32_t channels, const emb_patch *to);
    void (*depthwise)(const emb_depthwise *d);
    /* out[c] = max over tap of a[tap][c]. */
    void (*max_pool)(const float *const *a, uint32_t taps, uint32_t channels, float *out);
    /* out[c] = scale * sum over tap of a[tap][c]. */
    void (*sum_pool)(const float *const *a, uint32_t taps, float scale, uint32_t channels, float *out);
    /* out[c] = mean over pixel of x[pixel][c]. */
    void (*global_mean)(const float *x, size_t pixels, uint32_t channels, float *out);
    void (*add)(const float *a, const float *b, size_t n, float *out, float lo, float hi);
    void (*mul)(const float *a, const float *b, size_t n, float *out);
    /* out[p][c] = clamp(x[p][c] * scale[c] + shift[c]); shift may be NULL. */
    void (*affine)(const float *x, size_t pixels, uint32_t channels, const float *scale, const float *shift, float *out,
                   float lo, float hi);
    /* In place. sigmoid and gelu within 2e-6 absolute of the exact function. hsigmoid is a * x + b clamped to 0..1. */
    void (*act)(float *x, size_t n, emb_act act, float a, float b);
} emb_kernels;

extern const emb_kernels emb_kernels_ref;
#if defined(__x86_64__)
extern const emb_kernels emb_kernels_avx2, emb_kernels_avx512;
#elif defined(__aarch64__)
extern const emb_kernels emb_kernels_neon;
#endif
const emb_kernels *emb_kernels_get(void); /* by emb_cpu_features(), the same for the life of the process */

#endif
