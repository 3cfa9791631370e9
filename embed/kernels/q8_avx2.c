/* q8_avx2.c: quantised kernels with AVX2. vpmaddubsw would saturate: two products of u8 x s8 need 17 bits. So the four products of a
 * sum go in two pairs, the even and the odd ones, widened to 16 bits, of which vpmaddwd makes exact sums of 32. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "avx2.inc"

#define MR          6
#define OWN_TILE
#define TILE_PIXELS PIXELS
#define Q8_TABLE    emb_q8_avx2
#define Q8_NAME     "avx2"

/* Pixels of a tile, bytes of each that are widened together. */
enum { PIXELS = 18, DEPTH = 128, STEPS = DEPTH / 4 };

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

/* ---- tile: pixels and weights are widened once, and then multiplied 6 pixels x 16 channels at a time -------- */

typedef struct {
    __m256i w[2][STEPS][NV];       /* even and odd weights */
    uint32_t px[2][PIXELS][STEPS]; /* two bytes each, as two words */
    __m256i sums[PIXELS][NV];
} scratch;

static inline __attribute__((always_inline)) void multiply(scratch *k, uint32_t i0, uint32_t steps, const uint32_t m)
{
    const uint32_t nv = NV;
    __m256i acc[MR][NV];
    EACH_SUM acc[i][j] = k->sums[i0 + i][j];
    for (uint32_t half = 0; half < 2; half++) {
        const __m256i *w = k->w[half][0];
        const uint32_t *px = k->px[half][i0];
        for (uint32_t s = 0; s < steps; s++, w += NV) {
            UNROLL for (uint32_t i = 0; i < m; i++)
            {
                __m256i v = _mm256_set1_epi32((int32_t)px[i * STEPS + s]);
                for (uint32_t j = 0; j < NV; j++) acc[i][j] = plus(acc[i][j], v, w[j]);
            }
        }
    }
    EACH_SUM k->sums[i0 + i][j] = acc[i][j];
}

/* Out of line, so that nothing else wants a register: 12 sums, two vectors of weights, a pixel and a product are all that there are. */
#define MULTIPLY(m)                                                                             \
    static __attribute__((noinline)) void multiply_##m(scratch *k, uint32_t i0, uint32_t steps) \
    {                                                                                           \
        multiply(k, i0, steps, m);                                                              \
    }
MULTIPLY(1) MULTIPLY(2) MULTIPLY(3) MULTIPLY(4) MULTIPLY(5) MULTIPLY(6)
#undef MULTIPLY

static inline __attribute__((always_inline)) void finish_some(const emb_tile *t, scratch *k, uint32_t i0, const uint32_t m)
{
    const uint32_t nv = NV;
    __m256i acc[MR][NV];
    EACH_SUM acc[i][j] = k->sums[i0 + i][j];
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

static void tile(const emb_tile *t, uint32_t m)
{
    scratch k;
    const int8_t *b = t->b;
    const char *next = t->next;
    int32_t *sum = t->sum;
    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = 0; j < NV; j++) k.sums[i][j] = t->resume ? vs_load(sum + i * t->lds + j * VW) : vs_zero();
    for (uint32_t tap = 0; tap < t->taps; tap++)
        for (uint32_t x = 0, steps; x < t->k; x += DEPTH) {
            steps = t->k - x < DEPTH ? (t->k - x + 3) / 4 : STEPS;
            for (uint32_t s = 0; s < steps; s++, next += t->next_step) {
                __builtin_prefetch(next, 0, 2);
                for (uint32_t j = 0; j < NV; j++, b += 32) {
                    halves w = widened_s8(_mm256_loadu_si256((const void *)b));
                    k.w[0][s][j] = w.even;
                    k.w[1][s][j] = w.odd;
                }
            }
            for (uint32_t i = 0; i < m; i++) {
                const uint8_t *a = (const uint8_t *)t->a[tap * m + i] + t->x0 + x;
                for (uint32_t s = 0; s < steps; s += 8) { /* behind k are bytes that nobody uses */
                    halves v = widened_u8(_mm256_loadu_si256((const void *)(a + 4 * s)));
                    _mm256_storeu_si256((void *)&k.px[0][i][s], v.even);
                    _mm256_storeu_si256((void *)&k.px[1][i][s], v.odd);
                }
            }
#define MULTIPLY(n) multiply_##n(&k, i, steps)
            for (uint32_t i = 0; i < m; i += MR) FOR_SIZE(m - i, MULTIPLY)
        }
    if (t->more) {
        for (uint32_t i = 0; i < m; i++)
            for (uint32_t j = 0; j < NV; j++) vs_store(sum + i * t->lds + j * VW, k.sums[i][j]);
        return;
    }
#define FINISH(n) finish_some(t, &k, i, n)
    for (uint32_t i = 0; i < m; i += MR) FOR_SIZE(m - i, FINISH)
}
