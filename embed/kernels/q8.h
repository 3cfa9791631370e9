/* q8.h: kernels over quantised activations: u8, real value = scale * (q - zero), one scale and zero for a tensor. Weights are s8
 * with a scale for each output channel and no zero. q8_ref.c defines every result to the bit (activations: to a step); float steps are one fmaf after the
 * other, and rounding is to nearest, ties to even. Source of the arithmetic: ONNX QLinearConv-10, QuantizeLinear-13. */
#ifndef LK_Q8_H
#define LK_Q8_H

#include "kernels.h"

/* An activation as lines, for tables of kernels that have `tables`: x is u = fmaf(x, scale, shift) rounded and saturated to int16, and its
 * result base + slope * u, in parts of a step, of which 32768 / round make one. Segment s is of u whose upper six bits are s. */
enum { EMB_Q8_TABLE_LINES = 64 };
typedef struct {
    float scale, shift;
    uint8_t base[2][EMB_Q8_TABLE_LINES]; /* lower and upper bytes; modulo 65536, as the sum is */
    int8_t slope[EMB_Q8_TABLE_LINES];    /* both bytes of a word, which is 32768 times it; base makes up in a segment's middle for what this is off */
    int16_t round;
    bool partial;                        /* it says nothing about x whose u is the lowest */
} emb_q8_table;
/* Of act(x) * y_scale + y_zero; false where no table comes close, or a step is more than an eighth. Off by less than 0.5 steps before rounding, so at most one after it. */
bool emb_q8_table_make(emb_q8_table *t, emb_act act, float a, float b, float y_scale, float y_zero);

/* One row of a depthwise convolution: out[p][c] = q(bias[c] + scale[c] * sum over ky, kx of rows[ky][pixel p * stride - left + kx *
 * dilation][c] * w[ky][kx][c]), q rounding and clamping to lo..hi. Pixels outside 0..width are `zero`. */
typedef struct {
    const uint8_t *const *rows; /* kh of them, each `width` pixels; a row outside the picture points to zeros of the same length */
    const int8_t *w;            /* packed by emb_q8_pack_depthwise() */
    const float *scale, *bias;  /* packed by emb_q8_pack_channels() */
    uint8_t *out;               /* [pixels][channels] */
    uint8_t *columns;           /* scratch: emb_q8_columns_bytes() */
    int32_t width, left, stride, dilation;
    uint32_t kh, kw, pixels, channels;
    uint8_t zero;
    float lo, hi;               /* bytes; not used when there is an activation: act(v) * y_scale + y_zero is rounded then */
    emb_act act;
    float act_a, act_b, y_scale, y_zero;
    const emb_q8_table *table;  /* of the activation, or NULL */
    uint32_t more, down;        /* rows of the result made besides, up to emb_q8_more_rows(): each lies behind the one before it, and its taps
                                   begin `down` rows further on; `rows` are then kh + more * down */
} emb_q8_depthwise;

/* Convolutions over pixels that are widened to words once, for all panels. */
typedef struct {
    /* to[i * row + tap * k4 + x] = a[tap][i][x], k4 being k up to a multiple of 4, of m pixels. Anything may lie between, and within 32 bytes behind
     * the last of them. */
    void (*widen)(const void *const *a, uint32_t taps, uint32_t k, uint32_t m, uint16_t *to, size_t row);
    /* What tile() does, of n such pixels; t->a is not used, and t->sum has room for n * nr sums. */
    void (*panel)(const emb_tile *t, const uint16_t *px, size_t row, uint32_t n);
} emb_q8_words;

/* Convolutions of 3 x 3 taps, stride 1, by Winograd's F(4 x 4, 3 x 3) (Lavin and Gray, arXiv:1509.09308), points 0, 1, -1, 2, -2 and infinity, and
 * to the bit: the fractions of its transforms are left out, which makes results up to 576 = 9 * 2^6 times as large, and those are divided
 * modulo 2^32. So sums within +-2^25 come out right, whatever overflows on the way: EMB_Q8_WINOGRAD_MOST bounds a channel's weights. A tile is 6 x 6
 * pixels that give 4 x 4; its 36 places lie `plane` elements apart. */
typedef struct {
    /* v[e * plane + c] = (B^T d B)[e] of channel c, d the pixels at px[6 * row + column]; up to a multiple of 16 channels are written, words with a sign. */
    void (*in)(const void *const px[36], uint32_t channels, uint16_t *v, size_t plane);
    /* sums[e * sums_plane + i * nr + j] = sum over x of v[e * plane + i * row + x] * weights[e][x / 2][j][x % 2], modulo 2^32, for n tiles, 2 * pairs
     * channels and the nr columns of a panel. */
    void (*sums)(const uint16_t *v, size_t plane, uint32_t row, uint32_t n, const void *weights, uint32_t pairs, int32_t *sums, size_t sums_plane);
    /* `rows` x `columns` of the 4 x 4 sums that A^T m A is, finished as those of a tile are: t is the first row's, `row` elements above the next. */
    void (*out)(const int32_t *sums, size_t plane, const emb_tile *t, uint32_t rows, uint32_t columns, size_t row);
} emb_q8_winograd;
#define EMB_Q8_WINOGRAD_MOST ((1 << 25) / 255) /* neither a channel's positive weights nor its negative ones may add up to more */

typedef struct {
    const char *name;
    uint32_t mr, nr; /* tile: pixels x channels; its group is 4; columns of a panel lie as emb_q8_column() says */
    uint32_t lanes;  /* channels that a depthwise convolution takes together, at most */
    uint32_t round;  /* to a multiple of this many channels each tap of a packed panel is filled up with zeros */
    bool parts;      /* sums may be made in parts */
    bool strided;    /* prefers pixels that lie evenly, see emb_tile, and tiles of mr of them to tiles of equal size */
    bool tables;     /* activations are faster with a table */
    bool several;    /* depthwise() makes rows besides the first */
    void (*begin)(void), (*end)(void); /* around a run in its thread, NULL when nothing has to be done */
    /* v = fmaf(sum, scale[j], bias[j]), then if there is a residual fmaf(residual, residual_scale, v), then clamped to lo..hi; or if
     * act is set, that (which alone may differ between tables), and fmaf(v, y_scale, y_zero), clamped to 0..255. c is float32 where `wide` is set, otherwise u8, rounded.
     * sum and resume are over int32. */
    void (*tile)(const emb_tile *t, uint32_t m);
    void (*depthwise)(const emb_q8_depthwise *d);
    void (*lookup)(const uint8_t *x, size_t n, const uint8_t table[256], uint8_t *out);
    void (*max_pool)(const void *const *a, uint32_t taps, uint32_t channels, void *out);
    /* out[c] = q(fmaf(sum over taps, scale, shift)). */
    void (*sum_pool)(const void *const *a, uint32_t taps, uint32_t channels, float scale, float shift, void *out);
    /* out[c] = fmaf(sum over pixels, scale, shift). */
    void (*global_sum)(const uint8_t *x, size_t pixels, uint32_t channels, float scale, float shift, float *out);
    /* out = q(fmaf(a, a_scale, fmaf(b, b_scale, shift))), clamped to lo..hi. */
    void (*add)(const uint8_t *a, const uint8_t *b, size_t n, const float by[5], uint8_t *out); /* a_scale, b_scale, shift, lo, hi */
    /* out[p][c] = q(fmaf(x[p][c], factor[c], shift[c])). */
    void (*gate)(const uint8_t *x, size_t pixels, uint32_t channels, const float *factor, const float *shift, uint8_t *out);
    /* out = q(fmaf(x, scale, zero)). */
    void (*quantize)(const float *x, size_t n, float scale, float zero, uint8_t *out);
    /* out = fmaf(x, scale, shift). */
    void (*dequantize)(const uint8_t *x, size_t n, float scale, float shift, float *out);
    const emb_q8_words *words;       /* NULL: none */
    const emb_q8_winograd *winograd; /* NULL: none */
} emb_kernels_q8;

extern const emb_kernels_q8 emb_q8_ref;
#if defined(__x86_64__)
extern const emb_kernels_q8 emb_q8_avx2, emb_q8_avxvnni, emb_q8_avx512;
void emb_q8_amx_init(emb_kernels_q8 *k);
#elif defined(__aarch64__)
extern const emb_kernels_q8 emb_q8_neon, emb_q8_neon_dot, emb_q8_neon_i8mm;
#endif
const emb_kernels_q8 *emb_kernels_q8_get(void); /* by emb_cpu_features() */

/* Where channel c of a panel of nr lies: in pieces of four that packing instructions, which work within 128 bits, bring into order. */
static inline uint32_t emb_q8_column(uint32_t nr, uint32_t c) { return c % 8 / 4 * (nr / 2) + c / 8 * 4 + c % 4; }

/* How many of `left` channels a depthwise convolution takes next (or the room for them). */
static inline uint32_t emb_q8_chunk(uint32_t lanes, uint32_t left) { return lanes < 64 || left > 32 ? lanes : left > 16 ? 32 : 16; }
/* Channels with what fills the last chunk up. */
uint32_t emb_q8_lanes(const emb_kernels_q8 *k, uint32_t channels);
/* Depthwise weights [channels][kh][kw]: for each chunk [kw][ceil(kh / 4)][4][lanes / 4][4], the last being taps of a column. */
size_t emb_q8_depthwise_bytes(const emb_kernels_q8 *k, uint32_t channels, uint32_t kh, uint32_t kw);
void emb_q8_pack_depthwise(const emb_kernels_q8 *k, const int8_t *w, uint32_t channels, uint32_t kh, uint32_t kw, int8_t *to);
/* The order of channels in a chunk, for scales and biases: emb_q8_lanes() floats. */
void emb_q8_pack_channels(const emb_kernels_q8 *k, const float *from, uint32_t channels, float *to);
/* Of pictures `width` pixels wide (with what is beside them). */
size_t emb_q8_columns_bytes(uint32_t width, uint32_t kh, uint32_t kw);
/* Taps of a column lie in fours: as many rows as those of the next results fit where some are left over. */
static inline uint32_t emb_q8_more_rows(const emb_kernels_q8 *k, uint32_t kh, uint32_t down) { return k->several ? (3 - (kh + 3) % 4) / down : 0; }

#endif
