/* resample_avx2.c: bit-exact AVX2 forms of the two passes: 16-bit products summed in pairs (vpmaddwd). */
#include "../resample.h"

#include <immintrin.h>
#include <string.h>

/* Rounds and clips r g b . of one pixel, in 32 bits, to four bytes; the fourth is rubbish that the next pixel overwrites. */
static inline void store_pixel(__m128i sum, uint8_t *out)
{
    const __m128i half = _mm_set1_epi32(1 << (EMB_RESAMPLE_BITS - 1));
    __m128i s = _mm_srai_epi32(_mm_add_epi32(sum, half), EMB_RESAMPLE_BITS);
    s = _mm_packus_epi16(_mm_packs_epi32(s, s), s);
    uint32_t rgb = (uint32_t)_mm_cvtsi128_si32(s);
    memcpy(out, &rgb, 4);
}

static inline __m128i load8(const void *p) { return _mm_loadl_epi64((const __m128i *)p); }
static inline __m128i loadu16(const void *p) { return _mm_loadu_si128((const __m128i *)p); }

/* Windows of at most four samples, which is what enlarging and small reductions have: four outputs at a time, one in each
 * half of two vectors. Bytes become 16-bit pairs of neighbours (r0 r1 | g0 g1 | b0 b1 and r2 r3 | ...) in one shuffle. */
static void row_of_four(const uint8_t *row, const emb_axis *axis, uint32_t out_w, uint8_t *out)
{
    const __m256i near = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, 0, -1, 3, -1, 1, -1, 4, -1,
                                          2, -1, 5, -1, -1, -1, -1, -1);
    const __m256i far = _mm256_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1, 6, -1, 9, -1, 7, -1, 10,
                                         -1, 8, -1, 11, -1, -1, -1, -1, -1);
    const __m128i dense = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    const __m256i half = _mm256_set1_epi32(1 << (EMB_RESAMPLE_BITS - 1));
    uint32_t o = 0;
    for (; o + 6 <= out_w; o += 4) { /* outputs o and o + 1 in one vector, o + 2 and o + 3 in another; two follow that a store may spoil */
        const int16_t *k = axis->weight + (size_t)o * 4;
        __m256i sum[2];
        for (uint32_t p = 0; p < 2; p++) {
            const uint32_t *first = axis->first + o + 2 * p;
            __m256i px = _mm256_inserti128_si256(_mm256_castsi128_si256(loadu16(row + (size_t)first[0] * 3)), loadu16(row + (size_t)first[1] * 3), 1);
            __m256i w = _mm256_inserti128_si256(_mm256_castsi128_si256(load8(k + 8 * p)), load8(k + 8 * p + 4), 1);
            sum[p] = _mm256_add_epi32(_mm256_madd_epi16(_mm256_shuffle_epi8(px, near), _mm256_shuffle_epi32(w, 0x00)),
                                      _mm256_madd_epi16(_mm256_shuffle_epi8(px, far), _mm256_shuffle_epi32(w, 0x55)));
            sum[p] = _mm256_srai_epi32(_mm256_add_epi32(sum[p], half), EMB_RESAMPLE_BITS);
        }
        __m256i bytes = _mm256_packs_epi32(sum[0], sum[1]);
        bytes = _mm256_packus_epi16(bytes, bytes);
        __m128i four = _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
        _mm_storeu_si128((__m128i *)(void *)(out + (size_t)o * 3), _mm_shuffle_epi8(four, dense));
    }
    for (; o < out_w; o++) {
        __m128i px = loadu16(row + (size_t)axis->first[o] * 3), w = load8(axis->weight + (size_t)o * 4);
        __m128i sum = _mm_add_epi32(
            _mm_madd_epi16(_mm_shuffle_epi8(px, _mm256_castsi256_si128(near)), _mm_shuffle_epi32(w, 0x00)),
            _mm_madd_epi16(_mm_shuffle_epi8(px, _mm256_castsi256_si128(far)), _mm_shuffle_epi32(w, 0x55)));
        store_pixel(sum, out + (size_t)o * 3);
    }
}

/* Longer windows: four samples (12 bytes) at a time, r0 r1 g0 g1 b0 b1 . . in one half, r2 r3 ... in the other. */
void emb_resample_row_avx2(const uint8_t *row, const emb_axis *axis, uint32_t out_w, uint8_t *out)
{
    const __m128i pairs = _mm_setr_epi8(0, 3, 1, 4, 2, 5, -1, -1, 6, 9, 7, 10, 8, 11, -1, -1);
    const __m256i spread = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1); /* weights k0 k1 | k2 k3 to every lane of a half */
    if (axis->taps == 4) {
        row_of_four(row, axis, out_w, out);
        return;
    }
    for (uint32_t o = 0; o < out_w; o++) {
        const uint8_t *p = row + (size_t)axis->first[o] * 3;
        const int16_t *k = axis->weight + (size_t)o * axis->taps;
        __m256i sum = _mm256_setzero_si256();
        for (uint32_t t = 0; t < axis->count[o]; t += 4) { /* weights behind count are zero, bytes there are readable */
            __m256i wide = _mm256_cvtepu8_epi16(_mm_shuffle_epi8(loadu16(p + (size_t)t * 3), pairs));
            __m256i kk = _mm256_castsi128_si256(load8(k + t));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(wide, _mm256_permutevar8x32_epi32(kk, spread)));
        }
        store_pixel(_mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1)), out + (size_t)o * 3);
    }
}

static inline __m256i load16(const uint8_t *p)
{
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}

static inline __m128i round_pack(__m256i lo, __m256i hi)
{
    const __m256i half = _mm256_set1_epi32(1 << (EMB_RESAMPLE_BITS - 1));
    lo = _mm256_srai_epi32(_mm256_add_epi32(lo, half), EMB_RESAMPLE_BITS);
    hi = _mm256_srai_epi32(_mm256_add_epi32(hi, half), EMB_RESAMPLE_BITS);
    __m256i w = _mm256_packs_epi32(lo, hi); /* undoes the interleaving of unpack, half by half */
    w = _mm256_packus_epi16(w, w);
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(w, 0x08));
}

static inline __m256i weights_of(const int16_t *weight, uint32_t taps, uint32_t pair)
{
    uint32_t low = (uint16_t)weight[2 * pair], high = 2 * pair + 1 < taps ? (uint16_t)weight[2 * pair + 1] : 0;
    return _mm256_set1_epi32((int32_t)(low | high << 16));
}

/* The first n / 16 * 16 bytes; `pairs` of rows known to the compiler keep their weights in registers. */
static inline __attribute__((always_inline)) void col_of_pairs(const uint8_t *const *rows, const int16_t *weight, uint32_t taps, size_t n,
                                                               uint8_t *out, const uint32_t pairs)
{
    for (size_t i = 0; i + 16 <= n; i += 16) {
        __m256i lo = _mm256_setzero_si256(), hi = lo;
        for (uint32_t p = 0; p < pairs; p++) {
            __m256i a = load16(rows[2 * p] + i), b = load16(rows[2 * p + (2 * p + 1 < taps ? 1 : 0)] + i), k = weights_of(weight, taps, p);
            lo = _mm256_add_epi32(lo, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), k));
            hi = _mm256_add_epi32(hi, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), k));
        }
        _mm_storeu_si128((__m128i *)(void *)(out + i), round_pack(lo, hi));
    }
}

void emb_resample_col_avx2(const uint8_t *const *rows, const int16_t *weight, uint32_t taps, size_t n, uint8_t *out)
{
    switch ((taps + 1) / 2) {
    case 1: col_of_pairs(rows, weight, taps, n, out, 1); break;
    case 2: col_of_pairs(rows, weight, taps, n, out, 2); break;
    case 3: col_of_pairs(rows, weight, taps, n, out, 3); break;
    default: col_of_pairs(rows, weight, taps, n, out, (taps + 1) / 2); break;
    }
    for (size_t i = n / 16 * 16; i < n; i++) {
        int32_t sum = 1 << (EMB_RESAMPLE_BITS - 1);
        for (uint32_t t = 0; t < taps; t++) sum += rows[t][i] * weight[t];
        sum >>= EMB_RESAMPLE_BITS;
        out[i] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
    }
}
