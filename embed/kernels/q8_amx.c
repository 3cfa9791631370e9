/* q8_amx.c: the tile of quantised convolutions with AMX: 32 pixels x 32 channels, whose sums are four tile registers of 16 x 16
 * int32; an instruction multiplies 16 pixels x 64 channels by 64 x 16. Everything else is q8_avx512.c's.
 *
 * A tile register is loaded from rows that lie a fixed distance apart. Neighbouring pixels do, and are loaded where they are; where a
 * picture's row ends, or there are fewer than 16, the rows are copied together first. Channels behind the last of a pixel are read and
 * multiplied by zeros.
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18. */
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "q8.h"
#include "avx512_q8.inc"

#define MR 8 /* pixels that are finished together */
#define NV 2u
#define NR (NV * VW)
#define UNROLL _Pragma("GCC unroll 16")

#include "q8_finish.inc"

enum { ROWS = 16, DEPTH = 64, WIDE = 2 * ROWS }; /* of a tile register: rows, bytes in one; pixels of the whole tile */

/* Tile registers: sums, pixels, weights. The intrinsics want plain numbers. */
#define S00 0
#define S01 1
#define S10 2
#define S11 3
#define A0  4
#define A1  5
#define B0  6
#define B1  7

typedef struct {
    uint8_t bytes[ROWS][DEPTH];
} rows;

static void begin(void)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) config.row_bytes[i] = DEPTH, config.rows[i] = ROWS;
    _tile_loadconfig(&config);
}

static void end(void) { _tile_release(); }

/* The distance between all of 16 pixels, 0 when they have none in common. */
static ptrdiff_t stride_of(const uint8_t *const *a)
{
    ptrdiff_t step = a[1] - a[0];
    const __m512i count = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    __m512i by = _mm512_mullo_epi64(count, _mm512_set1_epi64(step)), first = _mm512_set1_epi64((long long)(intptr_t)a[0]);
    __m512i low = _mm512_add_epi64(first, by), high = _mm512_add_epi64(low, _mm512_set1_epi64(8 * step));
    bool even = _mm512_cmpneq_epi64_mask(_mm512_loadu_si512(a), low) == 0 && _mm512_cmpneq_epi64_mask(_mm512_loadu_si512(a + 8), high) == 0;
    return even ? step : 0;
}

static inline void gather(const uint8_t *const *a, uint32_t n, uint32_t x, rows *to)
{
    for (uint32_t i = 0; i < n; i++) _mm512_store_si512(to->bytes[i], _mm512_loadu_si512(a[i] + x));
}

/* Sums of one or two times 16 pixels; `pixels` in the second. */
static inline __attribute__((always_inline)) void multiply(const emb_tile *t, const uint32_t halves, uint32_t m)
{
    static const size_t panel_row = NR * 4;
    uint32_t blocks = (t->k + DEPTH - 1) / DEPTH, n[2] = {halves > 1 ? ROWS : m, halves > 1 ? m - ROWS : 0};
    const uint8_t *b = t->b;
    const char *next = t->next;
    rows copy[2] __attribute__((aligned(64))); /* rows of pixels that are not there give sums that nobody reads */
    _tile_zero(S00);
    _tile_zero(S01);
    if (halves > 1) {
        _tile_zero(S10);
        _tile_zero(S11);
    }
    for (uint32_t tap = 0; tap < t->taps; tap++) {
        const uint8_t *const *a = (const uint8_t *const *)t->a + (size_t)tap * m;
        ptrdiff_t step0 = n[0] == ROWS ? stride_of(a) : 0, step1 = n[1] == ROWS ? stride_of(a + ROWS) : 0;
        for (uint32_t x = 0; x < blocks * DEPTH; x += DEPTH, b += DEPTH / 4 * panel_row) {
            for (const char *to = next + ROWS * t->next_step; next < to; next += 64) __builtin_prefetch(next, 0, 2);
            _tile_loadd(B0, b, panel_row);
            _tile_loadd(B1, b + ROWS * 4, panel_row);
            if (step0 != 0) {
                _tile_loadd(A0, a[0] + x, step0);
            } else {
                gather(a, n[0], x, &copy[0]);
                _tile_loadd(A0, copy[0].bytes, DEPTH);
            }
            _tile_dpbusd(S00, A0, B0);
            _tile_dpbusd(S01, A0, B1);
            if (halves == 1) continue;
            if (step1 != 0) {
                _tile_loadd(A1, a[ROWS] + x, step1);
            } else {
                gather(a + ROWS, n[1], x, &copy[1]);
                _tile_loadd(A1, copy[1].bytes, DEPTH);
            }
            _tile_dpbusd(S10, A1, B0);
            _tile_dpbusd(S11, A1, B1);
        }
    }
}

static inline __attribute__((always_inline)) void finish_some(const emb_tile *t, uint32_t i, const uint32_t n, const int32_t (*sums)[NR])
{
    __m512i acc[MR][NV];
    UNROLL for (uint32_t k = 0; k < n; k++) acc[k][0] = vs_load(sums[i + k]), acc[k][1] = vs_load(sums[i + k] + VW);
    finish(t, i, n, acc);
}

static void tile(const emb_tile *t, uint32_t m)
{
    int32_t sums[WIDE][NR] __attribute__((aligned(64)));
    if (m > ROWS) multiply(t, 2, m);
    else multiply(t, 1, m);
    _tile_stored(S00, sums[0], sizeof sums[0]);
    _tile_stored(S01, sums[0] + VW, sizeof sums[0]);
    if (m > ROWS) {
        _tile_stored(S10, sums[ROWS], sizeof sums[0]);
        _tile_stored(S11, sums[ROWS] + VW, sizeof sums[0]);
    }
    uint32_t i = 0;
    for (; i + MR <= m; i += MR) finish_some(t, i, MR, (const int32_t(*)[NR])sums);
    if (i + 4 <= m) finish_some(t, i, 4, (const int32_t(*)[NR])sums), i += 4;
    if (i + 2 <= m) finish_some(t, i, 2, (const int32_t(*)[NR])sums), i += 2;
    if (i < m) finish_some(t, i, 1, (const int32_t(*)[NR])sums);
}

void emb_q8_amx_init(emb_kernels_q8 *k)
{
    *k = emb_q8_avx512;
    k->name = "amx";
    k->mr = WIDE;
    k->round = DEPTH;
    k->parts = false;
    k->greedy = true;
    k->begin = begin;
    k->end = end;
    k->tile = tile;
}
