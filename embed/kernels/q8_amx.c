/* q8_amx.c: the tile of quantised convolutions with AMX. Everything else is q8_avx512.c's. */
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

#define ELEMENT          1
#define ZEROED           false
#define amx_dot(s, a, b) _tile_dpbusd(s, a, b)
#include "amx.inc"

static inline __attribute__((always_inline)) void finish_some(const emb_tile *t, uint32_t i, const uint32_t n, const uint32_t *sums)
{
    __m512i acc[MR][NV];
    UNROLL for (uint32_t k = 0; k < n; k++) acc[k][0] = vs_load(sums + k * NR), acc[k][1] = vs_load(sums + k * NR + VW);
    finish(t, i, n, acc);
}

static inline __attribute__((always_inline)) void finish_first(const emb_tile *t, uint32_t m, even_run *r, uint32_t sums[PIXELS][NR])
{
    if (by_table(t))
        while (even_next(t, m, r)) finish_table(t, r->pixel, r->n, (const VS(*)[NV])sums[r->from]);
    else even_finish(t, m, r, sums[0], NR, finish_some);
}

/* Half of a tile is finished while the other half's sums are still being made and stored. */
static void tile(const emb_tile *t, uint32_t m)
{
    uint32_t sums[PIXELS][NR] __attribute__((aligned(64)));
    even_run run = even_begin(t);
    amx_products(t, m);
    for (uint32_t end = ROWS;; end += ROWS) {
        amx_store(end > ROWS, sums);
        finish_first(t, m < end ? m : end, &run, sums);
        if (m <= end) return;
    }
}

void emb_q8_amx_init(emb_kernels_q8 *k)
{
    *k = emb_q8_avx512;
    k->name = "amx";
    k->mr = PIXELS;
    k->round = CHANNELS;
    k->parts = false;
    k->strided = true;
    k->begin = amx_begin;
    k->end = amx_end;
    k->tile = tile;
}
