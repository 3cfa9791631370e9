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

/* ---- depthwise: 64 channels at a time, 32 where fewer are left ------------------------------------------- */

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
#include "q8_depthwise.inc"

static void depthwise(const emb_q8_depthwise *d)
{
    size_t taps = (size_t)d->kw * ((d->kh + 3) / 4) * 4;
    const int8_t *w = d->w;
    const float *scale = d->scale, *bias = d->bias;
    for (uint32_t c = 0, lanes; c < d->channels; c += lanes, w += lanes * taps, scale += lanes, bias += lanes) {
        lanes = emb_q8_chunk(LANES, d->channels - c);
        if (lanes == 64) depthwise_64(d, c, w, scale, bias);
        else depthwise_32(d, c, w, scale, bias);
    }
}

#include "q8.inc"
