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

static inline __attribute__((always_inline)) void finish_runs(const emb_tile *t, const table_by *with, uint32_t m, even_run *r, uint32_t sums[PIXELS][NR])
{
    if (by_table(t))
        while (even_next(t, m, r)) finish_table(t, with, r->pixel, r->n, (const VS(*)[NV])sums[r->from]);
    else even_finish(t, m, r, sums[0], NR, finish_some);
}

/* Half of a tile is finished while the other half's sums are still being made and stored. */
static void tile(const emb_tile *t, uint32_t m)
{
    uint32_t sums[PIXELS][NR] __attribute__((aligned(64)));
    even_run run = even_begin(t);
    amx_products(t, m);
    table_by with;
    if (by_table(t)) with = table_with(t);
    for (uint32_t end = ROWS;; end += ROWS) {
        amx_store(end > ROWS, sums + end - ROWS);
        finish_runs(t, &with, m < end ? m : end, &run, sums);
        if (m <= end) return;
    }
}

typedef struct { /* up to ROWS pixels of a tile, from number `first` on */
    const emb_tile_place *of;
    uint32_t first;
} half;

static inline half half_behind(half h) { return h.first == 0 && h.of->m > ROWS ? (half){h.of, ROWS} : (half){h.of + 1, 0}; }

/* Its sums, by a panel of one pair of registers, which hold it. */
static inline __attribute__((always_inline)) void half_products(const emb_tile *t, half h, const bool other)
{
    const uint8_t *const *a = (const uint8_t *const *)h.of->a;
    const uint8_t *from = a[0] + h.first * t->step;
    size_t step = t->step;
    amx_rows copy __attribute__((aligned(64)));
    if (h.of->there < h.first + ROWS) {
        amx_gather(t, a, h.first, h.of->m - h.first < ROWS ? h.of->m - h.first : ROWS, 0, DEPTH, &copy);
        from = copy.bytes[0], step = DEPTH;
    }
    if (other) {
        _tile_zero(S10);
        _tile_zero(S11);
        _tile_loadd(A1, from, step);
        amx_dot(S10, A1, B0);
        amx_dot(S11, A1, B1);
    } else {
        _tile_zero(S00);
        _tile_zero(S01);
        _tile_loadd(A0, from, step);
        amx_dot(S00, A0, B0);
        amx_dot(S01, A0, B1);
    }
}

static inline __attribute__((always_inline)) void half_finish(emb_tile *t, const table_by *with, half h, even_run *run, uint32_t sums[PIXELS][NR])
{
    if (h.first == 0) {
        t->at = h.of->at, t->c = h.of->c, t->residual = h.of->residual;
        *run = even_begin(t);
    }
    finish_runs(t, with, h.of->m < h.first + ROWS ? h.of->m : h.first + ROWS, run, sums);
}

/* Half a tile is finished while the next one's sums are being made. */
static void tiles(const emb_tile *shared, const emb_tile_place *of, uint32_t n)
{
    uint32_t sums[PIXELS][NR] __attribute__((aligned(64)));
    emb_tile t = *shared;
    even_run run;
    table_by with;
    if (by_table(&t)) with = table_with(&t);
    for (const char *next = t.next, *to = next + (size_t)n * ROWS * t.next_step; next < to; next += 64) __builtin_prefetch(next, 0, 2);
    _tile_loadd(B0, t.b, NR * 4);
    _tile_loadd(B1, (const char *)t.b + ROWS * 4, NR * 4);
    const emb_tile_place *const end = of + n;
    half one = {of, 0}, two;
    half_products(&t, one, false);
    for (;;) {
        two = half_behind(one);
        if (two.of < end) half_products(&t, two, true);
        amx_store(false, sums + one.first);
        half_finish(&t, &with, one, &run, sums);
        if (two.of == end) return;
        one = half_behind(two);
        if (one.of < end) half_products(&t, one, false);
        amx_store(true, sums + two.first);
        half_finish(&t, &with, two, &run, sums);
        if (one.of == end) return;
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
    k->tiles = tiles;
}
