/* pixels_avx512.c: the vertical pass with AVX-512 VNNI, the rest as with AVX2. vpdpbusd sums four products of a pixel and 8 bits
 * of weight, so a weight is 256 high + low, both signed bytes: exact, and four rows a time without widening a pixel. */
#include "pixels.h"

#include <immintrin.h>
#include <string.h>

enum { QUADS = 64 }; /* taller windows are nobody's photo */

typedef struct { /* the rows of a window by fours, those that are missing with weights of zero */
    const uint8_t *row[4 * QUADS];
    int32_t high[QUADS], low[QUADS];
} quads;

static void quads_init(quads *q, const uint8_t *const *rows, const int16_t *weight, uint32_t taps)
{
    for (uint32_t t = 0; t < (taps + 3) / 4 * 4; t++) {
        const int32_t k = t < taps ? weight[t] : 0, high = (k + 128) >> 8;
        const int8_t h = (int8_t)high, l = (int8_t)(k - 256 * high);
        q->row[t] = rows[t < taps ? t : 0];
        memcpy((char *)&q->high[t / 4] + t % 4, &h, 1);
        memcpy((char *)&q->low[t / 4] + t % 4, &l, 1);
    }
}

/* 16 columns of all rows: high and low sums to rounded int32. */
static inline __m512i sum_of(__m512i high, __m512i low)
{
    const __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(high, 8), low);
    return _mm512_srai_epi32(_mm512_add_epi32(sum, _mm512_set1_epi32(1 << (EMB_RESAMPLE_BITS - 1))), EMB_RESAMPLE_BITS);
}

static void resample_col(const uint8_t *const *rows, const int16_t *weight, uint32_t taps, size_t n, uint8_t *out)
{
    quads q;
    if (taps > 4 * QUADS) {
        emb_pixels_avx2.resample_col(rows, weight, taps, n, out);
        return;
    }
    quads_init(&q, rows, weight, taps);
    for (size_t i = 0; i < n; i += 64) {
        const __mmask64 some = n - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - i)) - 1;
        __m512i high[4], low[4];
        for (int v = 0; v < 4; v++) high[v] = low[v] = _mm512_setzero_si512();
        for (uint32_t f = 0; f < (taps + 3) / 4; f++) {
            const uint8_t *const *r = q.row + 4 * f;
            const __m512i a = _mm512_maskz_loadu_epi8(some, r[0] + i), b = _mm512_maskz_loadu_epi8(some, r[1] + i);
            const __m512i c = _mm512_maskz_loadu_epi8(some, r[2] + i), d = _mm512_maskz_loadu_epi8(some, r[3] + i);
            const __m512i ab[2] = {_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b)};
            const __m512i cd[2] = {_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d)};
            const __m512i h = _mm512_set1_epi32(q.high[f]), l = _mm512_set1_epi32(q.low[f]);
            for (int v = 0; v < 4; v++) { /* columns 4 v to 4 v + 3 of every 16 */
                const __m512i x = ab[v / 2], y = cd[v / 2],
                              px = v % 2 ? _mm512_unpackhi_epi16(x, y) : _mm512_unpacklo_epi16(x, y);
                high[v] = _mm512_dpbusd_epi32(high[v], px, h);
                low[v] = _mm512_dpbusd_epi32(low[v], px, l);
            }
        }
        const __m512i lo = _mm512_packs_epi32(sum_of(high[0], low[0]), sum_of(high[1], low[1]));
        const __m512i hi = _mm512_packs_epi32(sum_of(high[2], low[2]), sum_of(high[3], low[3]));
        _mm512_mask_storeu_epi8(out + i, some, _mm512_packus_epi16(lo, hi));
    }
}

static void spread(const uint8_t *rgb, size_t pixels, int16_t *out) { emb_pixels_avx2.spread(rgb, pixels, out); }

static void resample_row(const int16_t *spread_row, const emb_axis *axis, uint32_t out_w, uint8_t *out)
{
    emb_pixels_avx2.resample_row(spread_row, axis, out_w, out);
}

static void normalise(const uint8_t *rgb, size_t pixels, const float mean[3], const float scale[3], float *out)
{
    emb_pixels_avx2.normalise(rgb, pixels, mean, scale, out);
}

const emb_pixels emb_pixels_avx512 = {"avx512", resample_col, spread, resample_row, normalise};
