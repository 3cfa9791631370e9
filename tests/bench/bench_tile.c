/* bench_tile.c: the kernels that models spend their time in, alone and in cache, for each table in use: billions of operations a
 * second (a multiplication and an addition are two), the best of many rounds.
 *   bench_tile [CHANNELS]     of the tile's sums, 256 unless told; EMB_CPU chooses tables as everywhere */
#include "../../embed/kernels/q8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 200, WIDTH = 56, CHANNELS = 96, SIDE = 3 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *memory(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + EMB_KERNEL_SLACK + 63) / 64 * 64);
    if (p == NULL) exit(1);
    memset(p, 0, bytes + EMB_KERNEL_SLACK);
    return p;
}

static void say(const char *name, const char *what, double operations, double best) { printf("%-12s %-22s %8.1f GOP/s\n", name, what, operations / best / 1e9); }

static void tile(const char *name, void (*kernel)(const emb_tile *, uint32_t), uint32_t mr, uint32_t nr, size_t bytes, uint32_t k)
{
    const void *a[EMB_MAX_MR];
    for (uint32_t i = 0; i < mr; i++) a[i] = memory(k * bytes);
    float *constants = memory(nr * sizeof *constants);
    emb_tile t = {.a = a, .taps = 1, .k = k, .b = memory(((size_t)k + 4) * nr * bytes), .bias = constants, .scale = constants, .c = memory(mr * nr * 4), .ldc = nr,
                  .n = nr, .lo = 0, .hi = 255};
    double best = 1e9;
    for (int r = 0; r < ROUNDS; r++) {
        double start = now();
        for (int i = 0; i < 100; i++) kernel(&t, mr);
        double took = now() - start;
        if (took < best) best = took;
    }
    char what[40];
    snprintf(what, sizeof what, "tile %u x %u x %u", mr, nr, k);
    say(name, what, 200.0 * mr * nr * k, best);
}

static void depthwise(const emb_kernels *k)
{
    emb_depthwise d = {.x = memory((size_t)SIDE * (WIDTH + SIDE) * CHANNELS * k->bytes), .w = memory((size_t)SIDE * SIDE * CHANNELS * k->bytes),
                       .bias = memory(CHANNELS * sizeof(float)), .out = memory((size_t)WIDTH * CHANNELS * k->bytes), .x_row = (size_t)(WIDTH + SIDE) * CHANNELS,
                       .x_pixel = CHANNELS, .x_tap = CHANNELS, .w_row = (size_t)SIDE * CHANNELS, .kh = SIDE, .kw = SIDE, .pixels = WIDTH, .channels = CHANNELS, .hi = 6};
    double best = 1e9;
    for (int r = 0; r < ROUNDS; r++) {
        double start = now();
        for (int i = 0; i < 10; i++) k->depthwise(&d);
        double took = now() - start;
        if (took < best) best = took;
    }
    say(k->name, "depthwise 3 x 3", 20.0 * WIDTH * CHANNELS * SIDE * SIDE, best);
}

static void depthwise_q8(const emb_kernels_q8 *k)
{
    const uint8_t *rows[SIDE];
    for (int i = 0; i < SIDE; i++) rows[i] = memory((size_t)WIDTH * CHANNELS);
    float *constants = memory(emb_q8_lanes(k, CHANNELS) * sizeof *constants);
    emb_q8_depthwise d = {.rows = rows, .w = memory(emb_q8_depthwise_bytes(k, CHANNELS, SIDE, SIDE)), .scale = constants, .bias = constants,
                          .out = memory((size_t)WIDTH * CHANNELS), .columns = memory(emb_q8_columns_bytes(WIDTH + SIDE, SIDE, SIDE)), .width = WIDTH, .left = 1, .stride = 1,
                          .dilation = 1, .kh = SIDE, .kw = SIDE, .pixels = WIDTH, .channels = CHANNELS, .hi = 255};
    double best = 1e9;
    for (int r = 0; r < ROUNDS; r++) {
        double start = now();
        for (int i = 0; i < 10; i++) k->depthwise(&d);
        double took = now() - start;
        if (took < best) best = took;
    }
    say(k->name, "int8 depthwise 3 x 3", 20.0 * WIDTH * CHANNELS * SIDE * SIDE, best);
}

int main(int argc, char **argv)
{
    uint32_t k = argc > 1 ? (uint32_t)atoi(argv[1]) : 256;
    const emb_kernels *tables[] = {emb_kernels_get(), emb_kernels_f16_get()};
    const emb_kernels_q8 *q = emb_kernels_q8_get();
    for (int i = 0; i < 2; i++) {
        if (tables[i] == NULL) continue;
        if (tables[i]->begin != NULL) tables[i]->begin();
        tile(tables[i]->name, tables[i]->tile, tables[i]->mr, tables[i]->nr, tables[i]->bytes, k);
        if (tables[i]->wide_nr > 0) tile(tables[i]->name, tables[i]->tile, tables[i]->wide_mr, tables[i]->wide_nr, tables[i]->bytes, k);
        if (tables[i]->end != NULL) tables[i]->end();
        depthwise(tables[i]);
    }
    if (q->begin != NULL) q->begin();
    tile(q->name, q->tile, q->mr, q->nr, 1, k);
    if (q->end != NULL) q->end();
    depthwise_q8(q);
    return 0;
}
