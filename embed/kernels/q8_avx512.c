/* q8_avx512.c: quantised kernels with AVX-512 VNNI (vpdpbusd: four u8 x s8 products to an int32, 64 at a time) and VBMI's lookup in
 * 128 bytes. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "avx512.inc"

#define BRIEF
#define vrecip_brief(v) _mm512_rcp14_ps(v)

#define MR       8
#define NV       2u
#define LANES    64
#define Q8_TABLE emb_q8_avx512
#define Q8_NAME  "avx512vnni"

/* The compiler's own form of this instruction copies every sum before and behind it (gcc 12). */
static inline __m512i dot(__m512i sum, __m512i u, __m512i s)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u), "vm"(s));
    return sum;
}
static inline __m256i dot256(__m256i sum, __m256i u, __m256i s)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u), "vm"(s));
    return sum;
}

#define VS              __m512i
#define vs_zero()       _mm512_setzero_si512()
#define vs_load(p)      _mm512_loadu_si512(p)
#define vs_store(p, v)  _mm512_storeu_si512(p, v)
#define vs_add(a, b)    _mm512_add_epi32(a, b)
#define vs_float(v)     _mm512_cvtepi32_ps(v)
#define vs_weights(p)   _mm512_loadu_si512(p)
#define vs_fma(a, w, s) dot(s, a, w)
static inline __m512i vs_bring(const uint8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
}
#define vs_bring_last(p, n) vs_bring(p) /* what lies behind is multiplied by zeros */

#define vs_u8(p)      _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(p)))
#define vs_u8_n(p, n) _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask(n), p))
static inline __m128i bytes_of(__m512 v) { return _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(v)); }
static inline void store_u8(uint8_t *p, __m512 v) { _mm_storeu_si128((void *)p, bytes_of(v)); }
static inline void store_u8_n(uint8_t *p, __m512 v, uint32_t n) { _mm_mask_storeu_epi8(p, mask(n), bytes_of(v)); }

static inline __mmask32 mask32(uint32_t n) { return (__mmask32)((1ull << n) - 1u); }

static inline void pair_u8(__m512 a[2], __m512 b[2], uint8_t lo, uint8_t hi, uint32_t n, uint8_t *to, uint8_t *other)
{
    __m512i pa = _mm512_packs_epi32(_mm512_cvtps_epi32(a[0]), _mm512_cvtps_epi32(a[1]));
    __m512i pb = _mm512_packs_epi32(_mm512_cvtps_epi32(b[0]), _mm512_cvtps_epi32(b[1]));
    __m512i both = _mm512_packus_epi16(pa, pb); /* eight channels of each in turn */
    both = _mm512_min_epu8(_mm512_max_epu8(both, _mm512_set1_epi8((char)lo)), _mm512_set1_epi8((char)hi));
    both = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), both);
    __m256i first = _mm512_castsi512_si256(both), second = _mm512_extracti64x4_epi64(both, 1);
    if (n == 32) {
        _mm256_storeu_si256((void *)to, first);
        _mm256_storeu_si256((void *)other, second);
    } else {
        _mm256_mask_storeu_epi8(to, mask32(n), first);
        _mm256_mask_storeu_epi8(other, mask32(n), second);
    }
}

static inline void residual_u8(const uint8_t *p, uint32_t n, __m512 out[2])
{
    __m256i b = n == 32 ? _mm256_loadu_si256((const void *)p) : _mm256_maskz_loadu_epi8(mask32(n), p);
    b = _mm256_permutevar8x32_epi32(b, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
    out[0] = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm256_castsi256_si128(b)));
    out[1] = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm256_extracti128_si256(b, 1)));
}

static inline void pair_floats(const __m512 v[2], float *to)
{
    const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    _mm512_storeu_ps(to, _mm512_permutex2var_ps(v[0], low, v[1]));
    _mm512_storeu_ps(to + 16, _mm512_permutex2var_ps(v[0], _mm512_add_epi32(low, _mm512_set1_epi32(8)), v[1]));
}

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

#include "q8.h"

#include <stdbool.h>

static inline VF vclamp(VF v, VF lo, VF hi) { return vmin(vmax(v, lo), hi); }
#include "act.inc"

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
