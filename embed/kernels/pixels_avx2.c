/* pixels_avx2.c: bit-exact AVX2 forms of pixels_ref.c; sums of 16-bit products in pairs (vpmaddwd) carry most of it. */
#include "pixels.h"

#include <immintrin.h>
#include <string.h>

/* ---- resize ------------------------------------------------------------------------------------- */

static inline __m256i shift_round(__m256i sum, const int bits)
{
    return _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(1 << (bits - 1))), bits);
}

static inline __m256i words(const uint8_t *p) { return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p)); }

static inline __m128i load16(const void *p) { return _mm_loadu_si128((const __m128i *)p); }

static inline __m256i weights_of(const int16_t *weight, uint32_t pair)
{
    int32_t both;
    memcpy(&both, weight + 2 * pair, 4);
    return _mm256_set1_epi32(both);
}

/* The first n / 16 * 16 bytes; where the compiler knows `pairs` the weights stay in registers. */
static inline __attribute__((always_inline)) void col_of_pairs(const uint8_t *const *rows, const int16_t *weight, uint32_t taps, size_t n,
                                                               uint8_t *out, const uint32_t pairs)
{
    for (size_t i = 0; i + 16 <= n; i += 16) {
        __m256i lo = _mm256_setzero_si256(), hi = lo;
        for (uint32_t p = 0; p < pairs; p++) {
            __m256i a = words(rows[2 * p] + i), b = words(rows[2 * p + (2 * p + 1 < taps ? 1 : 0)] + i), k = weights_of(weight, p);
            lo = _mm256_add_epi32(lo, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), k));
            hi = _mm256_add_epi32(hi, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), k));
        }
        __m256i both = _mm256_packs_epi32(shift_round(lo, EMB_RESAMPLE_BITS), shift_round(hi, EMB_RESAMPLE_BITS));
        both = _mm256_packus_epi16(both, both); /* packing undoes the interleaving of unpack, half by half */
        _mm_storeu_si128((__m128i *)(void *)(out + i), _mm256_castsi256_si128(_mm256_permute4x64_epi64(both, 0x08)));
    }
}

static void resample_col_avx2(const uint8_t *const *rows, const int16_t *weight, uint32_t taps, size_t n, uint8_t *out)
{
    switch ((taps + 1) / 2) {
    case 1: col_of_pairs(rows, weight, taps, n, out, 1); break;
    case 2: col_of_pairs(rows, weight, taps, n, out, 2); break;
    case 3: col_of_pairs(rows, weight, taps, n, out, 3); break;
    case 4: col_of_pairs(rows, weight, taps, n, out, 4); break;
    default: col_of_pairs(rows, weight, taps, n, out, (taps + 1) / 2); break;
    }
    for (size_t i = n / 16 * 16; i < n; i++) {
        int32_t sum = 1 << (EMB_RESAMPLE_BITS - 1);
        for (uint32_t t = 0; t < taps; t++) sum += rows[t][i] * weight[t];
        sum >>= EMB_RESAMPLE_BITS;
        out[i] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
    }
}

static void spread_avx2(const uint8_t *rgb, size_t pixels, int16_t *out)
{
    const __m128i planes = _mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1);
    for (size_t i = 0; i < pixels; i += 4, rgb += 12, out += 16)
        _mm256_storeu_si256((__m256i *)(void *)out, _mm256_cvtepu8_epi16(_mm_shuffle_epi8(load16(rgb), planes)));
}

/* Four outputs at a time: sums of their windows are r r g g | b b . . */
static inline __attribute__((always_inline)) void row_of_groups(const int16_t *spread, const emb_axis *axis, uint32_t out_w, uint8_t *out,
                                                                const uint32_t groups)
{
    const __m128i rgb = _mm_setr_epi8(0, 1, 8, 2, 3, 10, 4, 5, 12, 6, 7, 14, -1, -1, -1, -1);
    for (uint32_t o = 0; o < out_w; o += 4) { /* behind the last output it is done again */
        const int16_t *p[4], *k[4];
        __m256i s[4];
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t at = o + i < out_w ? o + i : out_w - 1;
            p[i] = spread + (size_t)axis->first[at] * 4;
            k[i] = axis->weight + (size_t)at * axis->taps;
            s[i] = _mm256_setzero_si256();
        }
        for (uint32_t g = 0; g < groups; g++)
            for (uint32_t i = 0; i < 4; i++) {
                int64_t four;
                memcpy(&four, k[i] + 4 * g, 8);
                const __m256i px = _mm256_loadu_si256((const __m256i *)(const void *)(p[i] + 16 * g));
                s[i] = _mm256_add_epi32(s[i], _mm256_madd_epi16(px, _mm256_set1_epi64x(four)));
            }
        __m256i a = shift_round(_mm256_hadd_epi32(s[0], s[1]), EMB_RESAMPLE_BITS); /* r g r g | b . b . */
        __m256i b = shift_round(_mm256_hadd_epi32(s[2], s[3]), EMB_RESAMPLE_BITS);
        __m256i bytes = _mm256_packs_epi32(a, b);
        bytes = _mm256_packus_epi16(bytes, bytes);
        __m128i four = _mm_unpacklo_epi64(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
        _mm_storeu_si128((__m128i *)(void *)(out + (size_t)o * 3), _mm_shuffle_epi8(four, rgb));
    }
}

static void resample_row_avx2(const int16_t *spread, const emb_axis *axis, uint32_t out_w, uint8_t *out)
{
    switch (axis->taps / 4) {
    case 1: row_of_groups(spread, axis, out_w, out, 1); break;
    case 2: row_of_groups(spread, axis, out_w, out, 2); break;
    case 3: row_of_groups(spread, axis, out_w, out, 3); break;
    case 4: row_of_groups(spread, axis, out_w, out, 4); break;
    case 5: row_of_groups(spread, axis, out_w, out, 5); break;
    case 6: row_of_groups(spread, axis, out_w, out, 6); break;
    default: row_of_groups(spread, axis, out_w, out, axis->taps / 4); break;
    }
}

/* ---- normalise ---------------------------------------------------------------------------------- */

static void normalise_avx2(const uint8_t *rgb, size_t pixels, const float mean[3], const float scale[3], float *out)
{
    __m256 m[3], s[3]; /* the channels come round every three vectors */
    for (int i = 0; i < 3; i++) {
        const int a = (8 * i) % 3, b = (a + 1) % 3, c = (a + 2) % 3;
        m[i] = _mm256_setr_ps(mean[a], mean[b], mean[c], mean[a], mean[b], mean[c], mean[a], mean[b]);
        s[i] = _mm256_setr_ps(scale[a], scale[b], scale[c], scale[a], scale[b], scale[c], scale[a], scale[b]);
    }
    size_t i = 0;
    for (; i + 8 <= pixels; i += 8)
        for (size_t v = 0; v < 3; v++) {
            const size_t at = 3 * i + 8 * v;
            __m256 x = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(rgb + at))));
            _mm256_storeu_ps(out + at, _mm256_mul_ps(_mm256_sub_ps(x, m[v]), s[v]));
        }
    emb_pixels_ref.normalise(rgb + 3 * i, pixels - i, mean, scale, out + 3 * i);
}

const emb_pixels emb_pixels_avx2 = {"avx2", resample_col_avx2, spread_avx2, resample_row_avx2, normalise_avx2};
