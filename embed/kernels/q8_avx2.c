/* q8_avx2.c: quantised kernels with AVX2. vpmaddubsw would saturate: two products of u8 x s8 need 17 bits. So bytes are widened to 16 bits, of
 * which vpmaddwd makes exact sums of 32. For depthwise sums the four products go in two pairs, the even and the odd ones, which takes the
 * least to widen; for the others pairs are of neighbours, since all that is widened is used many times. */
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "avx2.inc"

#define MR          6
#define OWN_TILE
#define WORDS       &words
#define WINOGRAD    &winograd
#define TILE_PIXELS PIXELS
#define Q8_TABLE    emb_q8_avx2
#define Q8_NAME     "avx2"

/* Pixels of a tile, and steps of four channels whose weights are widened together: as words these take half of the first cache. */
enum { PIXELS = 48, STEPS = 128 };

typedef struct {
    __m256i even, odd;
} halves;

static inline halves widened_u8(__m256i v) { return (halves){_mm256_and_si256(v, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(v, 8)}; }
static inline halves widened_s8(__m256i v) { return (halves){_mm256_maddubs_epi16(_mm256_set1_epi16(1), v), _mm256_srai_epi16(v, 8)}; }
/* sum + the products of words, neighbours together. Left to itself the compiler adds products to each other first and runs out of
 * registers (gcc 12). */
static inline __m256i plus(__m256i sum, __m256i a, __m256i w)
{
    __m256i products;
    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(products) : "x"(a), "xm"(w));
    return sum;
}
/* The same where a is not needed any more: it holds the products. */
static inline __m256i plus_last(__m256i sum, __m256i a, __m256i w)
{
    __asm__("vpmaddwd %2, %1, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "+x"(a) : "xm"(w));
    return sum;
}
static inline __m256i dot(halves a, halves w, __m256i sum) { return plus(plus(sum, a.even, w.even), a.odd, w.odd); }

#define DP       2u
#define DA       halves
#define DA_BYTES 64
static inline halves da_load(const uint8_t *p) { return (halves){_mm256_loadu_si256((const void *)p), _mm256_loadu_si256((const void *)(p + 32))}; }
static inline void da_store(uint8_t *p, __m256i v)
{
    halves h = widened_u8(v);
    _mm256_storeu_si256((void *)p, h.even);
    _mm256_storeu_si256((void *)(p + 32), h.odd);
}
#define DW8             halves
#define dw8_load(p)     widened_s8(_mm256_loadu_si256((const void *)(p)))
#define di_dot(a, w, s) dot(a, w, s)

#include "q8_avx2.inc"

/* ---- sums: a part of the panel is widened once for many pixels, and each pixel once for all panels; then words are multiplied, 6 pixels x 16
 * channels at a time -------------------------------------------------------------------------------------------- */

typedef struct {
    __m256i w[2 * STEPS][NV];
    uint16_t px[MR][4 * STEPS + 32]; /* 32: so that six of them fall into different sets */
    int32_t sums[PIXELS][NR];
} scratch;

/* Weights of `steps` steps of four channels as words of two. */
static void widen_weights(const int8_t *b, uint32_t steps, const char *next, uint32_t next_step, __m256i (*w)[NV])
{
    const __m256i fours = _mm256_setr_epi32(0, 0x04000400, 0x08000800, 0x0c000c00, 0, 0x04000400, 0x08000800, 0x0c000c00);
    const __m256i low = _mm256_add_epi32(fours, _mm256_set1_epi32(0x01800080)), high = _mm256_add_epi32(fours, _mm256_set1_epi32(0x03800280)); /* to upper bytes */
    for (uint32_t s = 0; s < steps; s++, b += 32 * NV, next += next_step, w += 2) {
        __builtin_prefetch(next, 0, 2);
        UNROLL for (uint32_t j = 0; j < NV; j++)
        {
            const __m256i v = _mm256_loadu_si256((const void *)(b + 32 * j));
            w[0][j] = _mm256_srai_epi16(_mm256_shuffle_epi8(v, low), 8);
            w[1][j] = _mm256_srai_epi16(_mm256_shuffle_epi8(v, high), 8);
        }
    }
}

/* n bytes as words; up to the next multiple of 16 more of both are touched. */
static inline void widen_pixel(const uint8_t *a, uint32_t n, uint16_t *to)
{
    for (uint32_t x = 0; x < n; x += 16) _mm256_storeu_si256((void *)(to + x), _mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)(a + x))));
}

static inline __m256i bring(const uint16_t *p)
{
    int32_t two;
    memcpy(&two, p, sizeof two);
    return _mm256_set1_epi32(two);
}

/* sums + pixels * weights: `pairs` of words of each pixel, of which the next is `apart` words further, by as many rows of weights. */
static inline __attribute__((always_inline)) void multiply(int32_t *sums, const uint16_t *px, size_t apart, const __m256i *w, uint32_t pairs, bool resume,
                                                           const uint32_t m)
{
    const uint32_t nv = NV;
    __m256i acc[MR][NV];
    if (resume) EACH_SUM acc[i][j] = vs_load(sums + i * NR + j * VW);
    else EACH_SUM acc[i][j] = vs_zero();
    const uint16_t *row[MR];
    for (uint32_t i = 0; i < m; i++) row[i] = px + i * apart;
#define ADD_PAIR(r)                                                       \
    {                                                                     \
        const __m256i w0 = w[(r) * NV], w1 = w[(r) * NV + 1];             \
        UNROLL for (uint32_t i = 0; i < m; i++)                           \
        {                                                                 \
            const __m256i v = bring(row[i] + 2 * (p + (r)));              \
            acc[i][0] = plus(acc[i][0], v, w0);                           \
            acc[i][1] = plus_last(acc[i][1], v, w1);                      \
        }                                                                 \
    }
    size_t p = 0;
    for (; p + 4 <= pairs; p += 4, w += 4 * NV) { /* together, as in nn_avx2.c */
        ADD_PAIR(0) ADD_PAIR(1) ADD_PAIR(2) ADD_PAIR(3)
    }
    for (; p < pairs; p++, w += NV) ADD_PAIR(0)
#undef ADD_PAIR
    EACH_SUM vs_store(sums + i * NR + j * VW, acc[i][j]);
}

/* Out of line, so that nothing else wants a register: 12 sums, two vectors of weights, a pixel and a product are all that there are. */
#define MULTIPLY(m)                                                                                                                                            \
    static __attribute__((noinline)) void multiply_##m(int32_t *sums, const uint16_t *px, size_t apart, const __m256i *w, uint32_t pairs, bool resume) \
    {                                                                                                                                                          \
        multiply(sums, px, apart, w, pairs, resume, m);                                                                                                        \
    }
MULTIPLY(1) MULTIPLY(2) MULTIPLY(3) MULTIPLY(4) MULTIPLY(5) MULTIPLY(6)
#undef MULTIPLY

static inline __attribute__((always_inline)) void finish_some(const emb_tile *t, uint32_t i0, const uint32_t m, const int32_t *sums)
{
    const uint32_t nv = NV;
    __m256i acc[MR][NV];
    EACH_SUM acc[i][j] = vs_load(sums + i * NR + j * VW);
    finish(t, i0, m, acc);
}

#define FOR_SIZE(n, f)    \
    switch (n) {          \
    case 1: f(1); break;  \
    case 2: f(2); break;  \
    case 3: f(3); break;  \
    case 4: f(4); break;  \
    case 5: f(5); break;  \
    default: f(6); break; \
    }
static void multiply_some(uint32_t m, int32_t *sums, const uint16_t *px, size_t apart, const __m256i *w, uint32_t pairs, bool resume)
{
#define MULTIPLY(n) multiply_##n(sums, px, apart, w, pairs, resume)
    FOR_SIZE(m, MULTIPLY)
#undef MULTIPLY
}
#define FINISH(n) finish_some(t, i, n, sums)
static void finish_group(const emb_tile *t, uint32_t i, uint32_t m, const int32_t *sums) { FOR_SIZE(m, FINISH) }
#undef FINISH

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }
/* Pixels of group g of those that share n evenly. */
static uint32_t group_of(uint32_t n, uint32_t g)
{
    const uint32_t groups = (n + MR - 1) / MR;
    return n / groups + (g < n % groups);
}

static void words_widen(const void *const *a, uint32_t taps, uint32_t k, uint32_t m, uint16_t *to, size_t row)
{
    for (uint32_t i = 0; i < m; i++)
        for (uint32_t tap = 0; tap < taps; tap++) widen_pixel(a[tap * m + i], k, to + i * row + tap * ((k + 3) / 4 * 4));
}

static void words_panel(const emb_tile *t, const uint16_t *px, size_t row, uint32_t n)
{
    __m256i w[2 * STEPS][NV];
    int32_t *sums = t->sum;
    const int8_t *b = t->b;
    const char *next = t->next;
    const uint32_t all = t->taps * ((t->k + 3) / 4);
    for (uint32_t done = 0, steps; done < all; done += steps, px += 4 * steps, b += (size_t)steps * 32 * NV, next += (size_t)steps * t->next_step) {
        steps = least(all - done, STEPS);
        widen_weights(b, steps, next, t->next_step, w);
        for (uint32_t g = 0, i = 0, m; i < n; g++, i += m) {
            m = group_of(n, g);
            multiply_some(m, sums + i * NR, px + i * row, row, w[0], 2 * steps, done > 0);
            if (done + steps == all) finish_group(t, i, m, sums + i * NR);
        }
    }
}

/* For what comes in tiles: the same, of a tap and of so many channels at a time as there is room for. */
static void tile(const emb_tile *t, uint32_t m)
{
    scratch k;
    const int8_t *b = t->b;
    const char *next = t->next;
    int32_t *sum = t->sum;
    bool resume = t->resume;
    for (uint32_t i = 0; resume && i < m; i++) memcpy(k.sums[i], sum + i * t->lds, sizeof k.sums[i]);
    for (uint32_t tap = 0; tap < t->taps; tap++)
        for (uint32_t x = 0, n, steps; x < t->k; x += n, b += (size_t)steps * 32 * NV, next += (size_t)steps * t->next_step, resume = true) {
            n = least(t->k - x, 4 * STEPS);
            steps = (n + 3) / 4;
            widen_weights(b, steps, next, t->next_step, k.w);
            for (uint32_t g = 0, i = 0, some; i < m; g++, i += some) {
                some = group_of(m, g);
                for (uint32_t o = 0; o < some; o++) widen_pixel((const uint8_t *)t->a[tap * m + i + o] + t->x0 + x, n, k.px[o]);
                multiply_some(some, k.sums[i], k.px[0], 4 * STEPS + 32, k.w[0], 2 * steps, resume);
            }
        }
    for (uint32_t i = 0; t->more && i < m; i++) memcpy(sum + i * t->lds, k.sums[i], sizeof k.sums[i]);
    for (uint32_t g = 0, i = 0, some; !t->more && i < m; g++, i += some) finish_group(t, i, some = group_of(m, g), k.sums[i]);
}

static const emb_q8_words words = {words_widen, words_panel};

#include "q8_avx2_winograd.inc"
