/* kernels.h: the vectorised core. One table of functions, chosen once by processor; nn_ref.c defines what each computes.
 *
 * Activations are NHWC float32. A kernel sees no shapes of a network: it gets pointers to pixels (rows of channels), so
 * padding is a pointer to zeros and stride, dilation and groups are a matter of who makes the pointers.
 * Readable behind every tensor and packed weight: EMB_KERNEL_SLACK bytes. Kernels write exactly what they say. */
#ifndef LK_KERNELS_H
#define LK_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define EMB_KERNEL_SLACK 256
#define EMB_MAX_MR       14
#define EMB_MAX_NR       64

typedef struct {
    const float *const *a; /* [taps][m]: pixel pointers, k floats readable at each */
    uint32_t taps, k;
    const float *b;        /* packed panel [taps][k][nr] */
    const float *bias;     /* nr floats */
    const float *residual; /* rows like c, or NULL */
    float *c;              /* m rows of ldc floats */
    size_t ldc;
    uint32_t n;            /* columns to write, 1..nr */
    float lo, hi;          /* clamp after bias and residual; -inf and inf for none */
} emb_tile;

typedef enum { EMB_ACT_NONE, EMB_ACT_SIGMOID, EMB_ACT_SWISH, EMB_ACT_HSWISH, EMB_ACT_HSIGMOID, EMB_ACT_GELU } emb_act;

typedef struct {
    const char *name;
    uint32_t mr, nr; /* tile: pixels x channels */
    /* c[i][j] = clamp(bias[j] + residual[i][j] + sum over tap, x of a[tap][i][x] * b[tap][x][j]), 1 <= m <= mr. */
    void (*tile)(const emb_tile *t, uint32_t m);
    /* Depthwise: out[p][c] = clamp(bias[c] + sum over tap of a[p][tap][c] * w[tap][c]); p < pixels, c < channels. */
    void (*depthwise)(const float *const *a, uint32_t taps, const float *w, const float *bias, uint32_t channels,
                      uint32_t pixels, float *out, float lo, float hi);
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
