/* q8_avx512.c: quantised kernels with AVX-512 VNNI (vpdpbusd: four u8 x s8 products to an int32, 64 at a time) and VBMI's lookup in
 * 128 bytes. */
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define MR       8
#define NV       2u
#define LANES    64
#define Q8_TABLE emb_q8_avx512
#define Q8_NAME  "avx512vnni"

#include "q8.h"
#include "avx512_q8.inc"

#define VB            __m512i
#define BYTES         64u
#define b_load(p)     _mm512_loadu_si512(p)
#define b_store(p, v) _mm512_storeu_si512(p, v)
#define b_max(a, b)   _mm512_max_epu8(a, b)

static void lookup(const uint8_t *x, size_t n, const uint8_t table[256], uint8_t *out)
{
    __m512i t[4];
    for (int i = 0; i < 4; i++) t[i] = _mm512_loadu_si512(table + 64 * i);
    for (size_t i = 0; i < n; i += 64) {
        __mmask64 some = n - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - i)) - 1;
        __m512i v = _mm512_maskz_loadu_epi8(some, x + i);
        __m512i low = _mm512_permutex2var_epi8(t[0], v, t[1]), high = _mm512_permutex2var_epi8(t[2], v, t[3]);
        _mm512_mask_storeu_epi8(out + i, some, _mm512_mask_blend_epi8(_mm512_movepi8_mask(v), low, high));
    }
}

/* ---- depthwise: 64 channels at a time, 32 or 16 where fewer are left ------------------------------------------- */

#define UNROLL _Pragma("GCC unroll 16") /* as in tile.inc; clang takes it, too */

#define DB                   __m512i
#define DN                   64u
#define DI                   __m512i
#define DF                   __m512
#define DP                   4u
#define DW_CHUNK             depthwise_64
#define db_load(p)           _mm512_loadu_si512(p)
#define db_store(p, v)       _mm512_storeu_si512(p, v)
#define db_store_n(p, v, n)  _mm512_mask_storeu_epi8(p, ((__mmask64)1 << (n)) - 1, v)
#define db_set1(x)           _mm512_set1_epi8((char)(x))
#define db_lo8(a, b)         _mm512_unpacklo_epi8(a, b)
#define db_hi8(a, b)         _mm512_unpackhi_epi8(a, b)
#define db_lo16(a, b)        _mm512_unpacklo_epi16(a, b)
#define db_hi16(a, b)        _mm512_unpackhi_epi16(a, b)
#define db_round(a, b)       _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b))
#define db_pack(a, b, c, d)  _mm512_packus_epi16(db_round(a, b), db_round(c, d))
#define db_clamp(v, lo, hi)  _mm512_min_epu8(_mm512_max_epu8(v, db_set1(lo)), db_set1(hi))
#define di_dot(a, w, s)      dot(s, a, w)
#define di_zero()            _mm512_setzero_si512()
#define df_of(i)             _mm512_cvtepi32_ps(i)
#define df_load(p)           _mm512_loadu_ps(p)
#define df_set1(x)           _mm512_set1_ps(x)
#define df_act(f, n, k, a, b) vact_all(f, n, k, a, b)
#define df_fma(a, b, c)      _mm512_fmadd_ps(a, b, c)
#define df_mul(a, b)         _mm512_mul_ps(a, b)
static inline __m512i look_64(lines_of *t, bool fine, bool partial, const __m512 f[4])
{
    return _mm512_packus_epi16(table_look(t, fine, partial, vh_round(f)), table_look(t, fine, partial, vh_round(f + 2)));
}
#define db_look(t, fine, partial, f) look_64(t, fine, partial, f)
#include "q8_depthwise.inc"
#undef db_round

/* n is even, 16 at most. */
static void act_of_halves(__m256 *f, uint32_t n, emb_act kind, float a, float b)
{
    __m512 v[8];
    for (uint32_t i = 0; i < n / 2; i++) v[i] = _mm512_insertf32x8(_mm512_castps256_ps512(f[2 * i]), f[2 * i + 1], 1);
    vact_all(v, n / 2, kind, a, b);
    for (uint32_t i = 0; i < n; i++) f[i] = i & 1 ? _mm512_extractf32x8_ps(v[i / 2], 1) : _mm512_castps512_ps256(v[i / 2]);
}

#define DB                   __m256i
#define DN                   32u
#define DI                   __m256i
#define DF                   __m256
#define DP                   4u
#define DW_CHUNK             depthwise_32
#define db_load(p)           _mm256_loadu_si256((const void *)(p))
#define db_store(p, v)       _mm256_storeu_si256((void *)(p), v)
#define db_store_n(p, v, n)  _mm256_mask_storeu_epi8(p, mask32(n), v)
#define db_set1(x)           _mm256_set1_epi8((char)(x))
#define db_lo8(a, b)         _mm256_unpacklo_epi8(a, b)
#define db_hi8(a, b)         _mm256_unpackhi_epi8(a, b)
#define db_lo16(a, b)        _mm256_unpacklo_epi16(a, b)
#define db_hi16(a, b)        _mm256_unpackhi_epi16(a, b)
#define db_round(a, b)       _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b))
#define db_pack(a, b, c, d)  _mm256_packus_epi16(db_round(a, b), db_round(c, d))
#define db_clamp(v, lo, hi)  _mm256_min_epu8(_mm256_max_epu8(v, db_set1(lo)), db_set1(hi))
#define di_dot(a, w, s)      dot256(s, a, w)
#define di_zero()            _mm256_setzero_si256()
#define df_of(i)             _mm256_cvtepi32_ps(i)
#define df_load(p)           _mm256_loadu_ps(p)
#define df_set1(x)           _mm256_set1_ps(x)
#define df_act(f, n, k, a, b) act_of_halves(f, n, k, a, b)
#define df_fma(a, b, c)      _mm256_fmadd_ps(a, b, c)
#define df_mul(a, b)         _mm256_mul_ps(a, b)
static inline __m256i look_32(lines_of *t, bool fine, bool partial, const __m256 f[4])
{
    const __m512i u = _mm512_inserti64x4(_mm512_castsi256_si512(db_round(f[0], f[1])), db_round(f[2], f[3]), 1), v = table_look(t, fine, partial, u);
    return _mm256_packus_epi16(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
}
#define db_look(t, fine, partial, f) look_32(t, fine, partial, f)
#include "q8_depthwise.inc"

/* 16 channels are a quarter of a vector: that of four neighbouring pixels holds four channels of each. So every four channels have a plane of
 * columns, those that are `stride` apart beside each other. */
static inline __attribute__((always_inline)) bool depthwise_16_row(const emb_q8_depthwise *d, uint32_t c0, const int8_t *w, const float *scale, const float *bias, const bool look)
{
    const uint32_t fours = (d->kh + 3) / 4, n = d->channels - c0, stride = (uint32_t)d->stride, dilation = (uint32_t)d->dilation;
    const uint32_t columns = (d->pixels - 1) * stride + (d->kw - 1) * dilation + 1, line = (columns + stride - 1) / stride;
    const size_t plane = (size_t)(stride < columns ? stride : columns) * line * 16;
    for (uint32_t first = 0; first < stride && first < columns; first++) {
        uint8_t *to = d->columns + (size_t)first * line * 16;
        for (uint32_t column = first; column < columns; column += stride, to += 16) {
            const int32_t x = (int32_t)column - d->left;
            for (uint32_t g = 0; g < fours; g++) {
                __m128i t[4];
                UNROLL for (uint32_t i = 0; i < 4; i++)
                {
                    const bool inside = 4 * g + i < d->kh && x >= 0 && x < d->width;
                    t[i] = inside ? _mm_loadu_si128((const void *)(d->rows[4 * g + i] + (size_t)x * d->channels + c0)) : _mm_set1_epi8((char)d->zero);
                }
                const __m128i lo = _mm_unpacklo_epi8(t[0], t[1]), hi = _mm_unpackhi_epi8(t[0], t[1]);
                const __m128i lo2 = _mm_unpacklo_epi8(t[2], t[3]), hi2 = _mm_unpackhi_epi8(t[2], t[3]);
                const __m128i four[4] = {_mm_unpacklo_epi16(lo, lo2), _mm_unpackhi_epi16(lo, lo2), _mm_unpacklo_epi16(hi, hi2), _mm_unpackhi_epi16(hi, hi2)};
                UNROLL for (uint32_t v = 0; v < 4; v++) _mm_storeu_si128((void *)(to + (4 * g + v) * plane), four[v]);
            }
        }
    }
    const bool act = d->act != EMB_ACT_NONE;
    const uint8_t lo = act || d->lo < 0 ? 0 : (uint8_t)d->lo, hi = act || d->hi > 255 ? 255 : (uint8_t)d->hi;
    const bool clamps = !look && (lo > 0 || hi < 255);
    __m512 by[4], plus[4];
    for (uint32_t v = 0; v < 4; v++) by[v] = _mm512_broadcast_f32x4(_mm_loadu_ps(scale + 4 * v)), plus[v] = _mm512_broadcast_f32x4(_mm_loadu_ps(bias + 4 * v));
    const bool fine = look && d->table->fine, partial = look && d->table->partial;
    lines_of lines;
    if (look) {
        lines = table_open(d->table);
        for (uint32_t v = 0; v < 4; v++) {
            plus[v] = _mm512_fmadd_ps(plus[v], _mm512_set1_ps(d->table->scale), _mm512_set1_ps(d->table->shift));
            by[v] = _mm512_mul_ps(by[v], _mm512_set1_ps(d->table->scale));
        }
    }
    uint8_t *out = d->out + c0;
    for (uint32_t p0 = 0; p0 < d->pixels; p0 += 4, out += 4 * (size_t)d->channels) { /* pixels behind the last are made of anything */
        __m512i acc[4];
        for (uint32_t v = 0; v < 4; v++) acc[v] = _mm512_setzero_si512();
        const int8_t *k = w;
        for (uint32_t kx = 0; kx < d->kw; kx++) {
            const uint32_t column = kx * dilation;
            const uint8_t *from = d->columns + ((size_t)(column % stride) * line + column / stride + p0) * 16;
            for (uint32_t i = 0; i < fours; i++, k += 64, from += 4 * plane)
                for (uint32_t v = 0; v < 4; v++)
                    acc[v] = dot(acc[v], _mm512_loadu_si512(from + v * plane), _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)(k + 16 * v))));
        }
        __m512 f[4];
        for (uint32_t v = 0; v < 4; v++) f[v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[v]), by[v], plus[v]);
        if (!look && act) {
            vact_all(f, 4, d->act, d->act_a, d->act_b);
            for (uint32_t v = 0; v < 4; v++) f[v] = _mm512_fmadd_ps(f[v], _mm512_set1_ps(d->y_scale), _mm512_set1_ps(d->y_zero));
        }
        __m512i low = vh_round(f), high = vh_round(f + 2);
        if (look) {
            const uint32_t left = d->pixels - p0;
            if (partial) lines.least = _mm512_mask_min_epi16(lines.least, mask32(left < 4 ? 8 * left : 32), lines.least, _mm512_min_epi16(low, high));
            low = table_look(&lines, fine, false, low);
            high = table_look(&lines, fine, false, high);
        }
        __m512i q = _mm512_packus_epi16(low, high);
        if (clamps) q = _mm512_min_epu8(_mm512_max_epu8(q, _mm512_set1_epi8((char)lo)), _mm512_set1_epi8((char)hi));
        const __m128i four[4] = {_mm512_castsi512_si128(q), _mm512_extracti32x4_epi32(q, 1), _mm512_extracti32x4_epi32(q, 2), _mm512_extracti32x4_epi32(q, 3)};
        UNROLL for (uint32_t p = 0; p < 4; p++)
            if (p0 + p < d->pixels) _mm_mask_storeu_epi8(out + p * (size_t)d->channels, mask(n), four[p]);
    }
    return !partial || table_knew(&lines);
}

static __attribute__((noinline)) void depthwise_16_computed(const emb_q8_depthwise *d, uint32_t c0, const int8_t *w, const float *scale, const float *bias)
{
    depthwise_16_row(d, c0, w, scale, bias, false);
}

static __attribute__((noinline)) bool depthwise_16_looked_up(const emb_q8_depthwise *d, uint32_t c0, const int8_t *w, const float *scale, const float *bias)
{
    return depthwise_16_row(d, c0, w, scale, bias, true);
}

static void depthwise_16(const emb_q8_depthwise *d, uint32_t c0, const int8_t *w, const float *scale, const float *bias)
{
    if (d->table == NULL || !depthwise_16_looked_up(d, c0, w, scale, bias)) depthwise_16_computed(d, c0, w, scale, bias);
}

static void depthwise(const emb_q8_depthwise *d)
{
    size_t taps = (size_t)d->kw * ((d->kh + 3) / 4) * 4;
    const int8_t *w = d->w;
    const float *scale = d->scale, *bias = d->bias;
    for (uint32_t c = 0, lanes; c < d->channels; c += lanes, w += lanes * taps, scale += lanes, bias += lanes) {
        lanes = emb_q8_chunk(LANES, d->channels - c);
        if (lanes == 64) depthwise_64(d, c, w, scale, bias);
        else if (lanes == 32) depthwise_32(d, c, w, scale, bias);
        else depthwise_16(d, c, w, scale, bias);
    }
}

#include "q8.inc"
