/* The quantised kernels in use against the scalar definition, to the bit: all tails, inputs that end at an unmapped page (behind
 * EMB_KERNEL_SLACK where the contract gives them that), outputs in poison whose border must stay. */
#include "../../embed/cpu.h"
#include "../../embed/kernels/q8.h"
#include "../../embed/plan.h"
#include "../test.h"

#include <sys/mman.h>
#include <unistd.h>

static const emb_kernels_q8 *k, *ref = &emb_q8_ref;
static uint64_t seed = 21;

enum { GUARDS = 4096 };
static struct {
    char *map;
    size_t bytes;
} guards[GUARDS];
static size_t n_guards;

/* n random bytes; `slack` more lie between them and the unmapped page. */
static void *guarded(size_t n, size_t slack)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (n + slack + page - 1) / page * page + page;
    char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(map != MAP_FAILED && n_guards < GUARDS);
    REQUIRE(mprotect(map + bytes - page, page, PROT_NONE) == 0);
    guards[n_guards].map = map;
    guards[n_guards++].bytes = bytes;
    char *p = map + bytes - page - slack - n;
    for (size_t i = 0; i < n + slack; i++) p[i] = (char)test_rand(&seed);
    return p;
}

static float *floats(size_t n, float size, float middle)
{
    float *p = guarded(n * sizeof *p, 0);
    for (size_t i = 0; i < n; i++) p[i] = middle + size * (test_randf(&seed) - 0.5f);
    return p;
}

static void release(void)
{
    while (n_guards > 0) {
        n_guards--;
        munmap(guards[n_guards].map, guards[n_guards].bytes);
    }
}

/* Bytes that differ by at most one step: smooth activations are approximated. */
static void close_to(const char *what, const uint8_t *got, const uint8_t *want, size_t n)
{
    test_checks++;
    for (size_t i = 0; i < n; i++)
        if (abs(got[i] - want[i]) > 1) {
            TEST_FAIL("%s of %s: byte %zu is %u, want %u", what, k->name, i, got[i], want[i]);
            return;
        }
}

static void near_floats(const char *what, const float *got, const float *want, size_t n)
{
    test_checks++;
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(got[i] - want[i]) <= 0.02f + 1e-3f * fabsf(want[i]))) {
            TEST_FAIL("%s of %s: [%zu] is %g, want %g", what, k->name, i, (double)got[i], (double)want[i]);
            return;
        }
}

static void same(const char *what, const void *got, const void *want, size_t bytes)
{
    test_checks++;
    for (size_t i = 0; i < bytes; i++)
        if (((const uint8_t *)got)[i] != ((const uint8_t *)want)[i]) {
            TEST_FAIL("%s of %s: byte %zu is %u, want %u", what, k->name, i, ((const uint8_t *)got)[i], ((const uint8_t *)want)[i]);
            return;
        }
}

/* ---- activations by table ------------------------------------------------------------------------------------- */

static struct { /* of what is activated: 1 / scale of the result, its zero, and a table or NULL */
    float scale, zero;
    const emb_q8_table *table;
} grid = {11.5f, 14, NULL};

/* What a table says of x, in steps of the result, unrounded; false: nothing. */
static bool table_says(const emb_q8_table *t, float x, double *out)
{
    const float v = rintf(fmaf(x, t->scale, t->shift));
    const int32_t u = (int32_t)fminf(fmaxf(v, INT16_MIN), INT16_MAX), s = (u >> 10) & 63;
    const double sum = t->base[0][s] + 256 * t->base[1][s] + (double)(int16_t)((t->slope[s] & 255) * 257) * u / 32768;
    *out = (sum - 65536 * rint(sum / 65536)) * t->round / 32768;
    return !t->partial || u > INT16_MIN;
}

/* Less than half a step off everywhere, and so one step after rounding, mostly none. */
static void test_table(emb_act act, float step, float zero)
{
    emb_q8_table t;
    REQUIRE(emb_q8_table_make(&t, act, 0.3f, 0.4f, 1 / step, zero));
    const float far = 300 * step > 20 ? 300 * step : 20;
    double most = 0;
    uint32_t n = 0, other = 0;
    for (float x = -far; x < far; x += far / 50000) {
        float y = x;
        double says;
        emb_kernels_ref.act(&y, 1, act, 0.3f, 0.4f);
        const double wants = fmin(fmax((double)(y / step) + (double)zero, -0.5), 255.5);
        if (!table_says(&t, x, &says)) continue;
        says = fmin(fmax(says, -0.5), 255.5);
        most = fmax(most, fabs(says - wants));
        n += wants > 0 && wants < 255;
        other += wants > 0 && wants < 255 && rint(says) != rint(wants);
    }
    test_checks++;
    if (most >= 0.45 || other * 5 > n) TEST_FAIL("table of activation %d, steps of %g from %g: %.3f off, %u of %u rounded to another step", (int)act, (double)step, (double)zero, most, other, n);
}

static void test_no_tables(void)
{
    emb_q8_table t;
    CHECK(!emb_q8_table_make(&t, EMB_ACT_NONE, 0, 0, 10, 3));
    CHECK(!emb_q8_table_make(&t, EMB_ACT_SWISH, 0, 0, 0, 3));
    CHECK(!emb_q8_table_make(&t, EMB_ACT_SWISH, 0, 0, NAN, 3));
    CHECK(!emb_q8_table_make(&t, EMB_ACT_SWISH, 0, 0, 3, INFINITY));
    CHECK(!emb_q8_table_make(&t, EMB_ACT_HSIGMOID, INFINITY, 0, 10, 3));
    CHECK(!emb_q8_table_make(&t, EMB_ACT_HSIGMOID, 0, 0.5f, 10, 3));
}

/* ---- tile: the same weights, packed for each table ---------------------------------------------------------- */

typedef struct {
    uint32_t m, n, taps, kk, split;
    bool residual, wide;
    emb_act act;
    float lo, hi;
    struct {
        uint32_t step, there, at, row, gap;
    } even; /* of tables that are strided; step 0: they do not lie evenly */
} tile_case;

typedef struct { /* of a case, before packing */
    const void *a[EMB_MAX_MR * 8];
    const int8_t *w; /* [taps][kk][n] */
    const float *scale, *bias;
    const uint8_t *residual;
} tile_data;

static void *packed(const emb_kernels_q8 *t, const tile_case *c, const int8_t *w, uint32_t x0, uint32_t n)
{
    uint32_t rows = (n + t->round - 1) / t->round * (t->round / 4);
    int8_t *b = guarded((size_t)c->taps * rows * t->nr * 4, 0);
    memset(b, 0, (size_t)c->taps * rows * t->nr * 4);
    for (uint32_t tap = 0; tap < c->taps; tap++)
        for (uint32_t x = 0; x < n; x++)
            for (uint32_t j = 0; j < c->n; j++)
                b[((size_t)(tap * rows + x / 4) * t->nr + emb_q8_column(t->nr, j)) * 4 + x % 4] = w[((size_t)tap * c->kk + x0 + x) * c->n + j];
    return b;
}

static const float *columns(const emb_kernels_q8 *t, const tile_case *c, const float *from)
{
    float *to = guarded(t->nr * sizeof *to, 0);
    memset(to, 0, t->nr * sizeof *to);
    for (uint32_t j = 0; j < c->n; j++) to[emb_q8_column(t->nr, j)] = from[j];
    return to;
}

/* Without its pixels, weights and sums. */
static emb_tile tile_of(const emb_kernels_q8 *t, const tile_case *c, const tile_data *d, void *out, size_t ldc)
{
    return (emb_tile){.taps = c->taps, .k = c->kk, .scale = columns(t, c, d->scale), .bias = columns(t, c, d->bias), .residual = c->residual ? d->residual : NULL,
                      .residual_scale = 0.37f, .c = out, .ldc = ldc, .n = c->n, .lo = c->lo, .hi = c->hi, .act = c->act, .act_a = 0.3f, .act_b = 0.4f, .y_scale = grid.scale,
                      .y_zero = grid.zero, .table = grid.table, .wide = c->wide};
}

/* The case on this table. */
static void run(const emb_kernels_q8 *t, const tile_case *c, const tile_data *d, void *out, size_t ldc)
{
    for (uint32_t part = 0, parts = c->split > 0 ? 2 : 1; part < parts; part++) {
        static int32_t sums[EMB_MAX_MR * EMB_MAX_NR];
        uint32_t x0 = part > 0 ? c->split : 0, n = part > 0 ? c->kk - c->split : parts > 1 ? c->split : c->kk;
        emb_tile tile = tile_of(t, c, d, out, ldc);
        tile.a = d->a, tile.k = n, tile.x0 = x0, tile.b = packed(t, c, d->w, x0, n);
        tile.sum = sums, tile.lds = t->nr, tile.resume = part > 0, tile.more = part + 1 < parts;
        tile.step = c->even.step, tile.there = c->even.there, tile.at = c->even.at, tile.row = c->even.row, tile.gap = c->even.gap;
        t->tile(&tile, c->m);
    }
}

/* The reference's panels are narrower: its columns are made some at a time. */
static void run_ref(const tile_case *c, const tile_data *d, char *out, size_t ldc)
{
    size_t bytes = c->wide ? 4 : 1;
    for (uint32_t j0 = 0; j0 < c->n; j0 += ref->nr)
        for (uint32_t i0 = 0; i0 < c->m; i0 += ref->mr) {
            tile_case some = *c;
            tile_data part = {.scale = d->scale + j0, .bias = d->bias + j0, .residual = d->residual + i0 * ldc + j0};
            some.n = c->n - j0 < ref->nr ? c->n - j0 : ref->nr;
            some.m = c->m - i0 < ref->mr ? c->m - i0 : ref->mr;
            int8_t *w = guarded((size_t)c->taps * c->kk * some.n, 0);
            for (size_t x = 0; x < (size_t)c->taps * c->kk; x++) memcpy(w + x * some.n, d->w + x * c->n + j0, some.n);
            part.w = w;
            for (uint32_t tap = 0; tap < c->taps; tap++)
                for (uint32_t i = 0; i < some.m; i++) part.a[tap * some.m + i] = d->a[tap * c->m + i0 + i];
            run(ref, &some, &part, out + (i0 * ldc + j0) * bytes, ldc);
        }
}

/* Bytes and weights at the ends of their range, signs by `pattern`: sums of neighbouring products do not fit 16 bits. */
static void extremes(const tile_case *c, tile_data *d, uint32_t pattern)
{
    for (uint32_t i = 0; i < c->taps * c->m; i++) memset((uint8_t *)(uintptr_t)d->a[i], 255, c->kk);
    int8_t *w = (int8_t *)(uintptr_t)d->w;
    for (size_t i = 0; i < (size_t)c->taps * c->kk * c->n; i++) w[i] = (i / c->n & pattern) != 0 ? 127 : -128;
}

static tile_data random_data(const tile_case *c)
{
    tile_data d;
    float size = c->act != EMB_ACT_NONE || c->wide ? 1e-4f : 3e-3f;
    for (uint32_t i = 0; i < c->taps * c->m; i++) d.a[i] = guarded(c->kk, EMB_KERNEL_SLACK);
    d.w = guarded((size_t)c->taps * c->kk * c->n, 0);
    d.scale = floats(c->n, size, size);
    d.bias = floats(c->n, grid.table != NULL ? 24 : 100, c->wide || c->act != EMB_ACT_NONE ? 0 : 100);
    d.residual = guarded(c->m * ((size_t)c->n + 3), 0);
    return d;
}

static void compare(const char *what, const tile_case *c, const char *got, const char *want)
{
    const size_t ldc = c->n + 3, bytes = c->wide ? 4 : 1;
    for (size_t i = 0; i < c->m; i++) {
        size_t at = i * ldc * bytes;
        if (c->act == EMB_ACT_NONE) same(what, got + at, want + at, ldc * bytes);
        else if (c->wide) near_floats(what, (const float *)(const void *)(got + at), (const float *)(const void *)(want + at), c->n);
        else close_to(what, (const uint8_t *)got + at, (const uint8_t *)want + at, ldc);
    }
}

static void test_tile_of(tile_case c, uint32_t pattern)
{
    tile_data d = random_data(&c);
    const size_t ldc = c.n + 3, all = c.m * ldc * (c.wide ? 4 : 1);
    if (pattern > 0) extremes(&c, &d, pattern);
    char *got = guarded(all, 0), *want = guarded(all, 0);
    memcpy(got, want, all);
    run(k, &c, &d, got, ldc);
    run_ref(&c, &d, want, ldc);
    compare("tile", &c, got, want);
    release();
}
static void test_tile(tile_case c) { test_tile_of(c, 0); }

#include "q8_words.inc"

/* Pixels that lie evenly, some of which may not be wanted or are the last that may be read. */
static void test_even(tile_case c)
{
    uint32_t pixels = c.even.there > c.m ? c.even.there : c.m, wanted = 0, width = c.even.row + c.even.gap;
    tile_data evenly, each;
    tile_case plain = c;
    plain.even.step = 0;
    for (uint32_t i = 0; i < c.m; i++) wanted += c.even.row == 0 || (c.even.at + i) % width < c.even.row;
    plain.m = wanted;
    for (uint32_t tap = 0; tap < c.taps; tap++) {
        const uint8_t *x = evenly.a[tap] = guarded((size_t)(pixels - 1) * c.even.step + c.kk, EMB_KERNEL_SLACK);
        for (uint32_t i = 0, n = 0; i < c.m; i++)
            if (c.even.row == 0 || (c.even.at + i) % width < c.even.row) each.a[tap * wanted + n++] = x + (size_t)i * c.even.step;
    }
    each.w = evenly.w = guarded((size_t)c.taps * c.kk * c.n, 0);
    each.scale = evenly.scale = floats(c.n, 3e-3f, 3e-3f);
    each.bias = evenly.bias = floats(c.n, 100, 100);
    each.residual = evenly.residual = guarded(wanted * c.n, 0);
    char *got = guarded(wanted * c.n, 0), *want = guarded(wanted * c.n, 0);
    run(k, &c, &evenly, got, c.n);
    run_ref(&plain, &each, want, c.n);
    same("tile of even pixels", got, want, (size_t)wanted * c.n);
    release();
}

static void test_evens(void)
{
    for (uint32_t m = 1; m <= k->mr; m++)
        for (uint32_t i = 0; i < 12; i++) {
            static const uint32_t there[] = {0, 16, 32};
            uint32_t kk = 1 + (m * 11 + i * 17) % 150, row = i % 4 == 0 ? 0 : 1 + (m + 5 * i) % 40, gap = row == 0 ? 0 : 1 + i % 6;
            uint32_t least = there[i % 3] > m ? there[i % 3] : i % 2 == 0 ? m : 0;
            test_even((tile_case){.m = m, .n = 1 + (m * 5 + i) % k->nr, .taps = 1 + i % 3, .kk = kk, .residual = i % 2 == 0, .act = EMB_ACT_NONE, .lo = 0, .hi = 255,
                                  .even = {kk + i % 3 * 7, least, row == 0 ? 0 : (m * 3 + i) % (row + gap), row, gap}});
        }
}

static const struct {
    float step, zero;
} grids[] = {{0.0246f, 11}, {0.07f, 3}, {0.0106f, 26}, {0.0045f, 62}, {0.0040f, 68}, {0.0024f, 94}, {0.0008f, 162}, {0.0009f, 0}, {1 / 255.0f, 0}, {1 / 86.0f, 14}};
enum { GRIDS = sizeof grids / sizeof *grids };

/* Numbers that a table knows, and on some of the grids those that it does not. */
static void test_tables(void)
{
    for (int act = EMB_ACT_SIGMOID; act <= EMB_ACT_GELU; act++)
        for (uint32_t i = 0; i < GRIDS; i++) test_table((emb_act)act, grids[i].step, grids[i].zero);
    test_no_tables();
    for (uint32_t m = 1; k->tables && m <= k->mr; m++)
        for (uint32_t i = 0; i < GRIDS; i++) {
            const emb_act act = (emb_act)(1 + (m + i) % (EMB_ACT_GELU - 1));
            emb_q8_table t;
            grid.scale = 1 / grids[i].step, grid.zero = grids[i].zero, grid.table = &t;
            REQUIRE(emb_q8_table_make(&t, act, 0.3f, 0.4f, grid.scale, grid.zero));
            test_tile((tile_case){m, 1 + (m * 5 + i * 3) % k->nr, 1, 1 + i, 0, i % 4 == 3, false, act, 0, 255, {0}});
        }
    grid.scale = 11.5f, grid.zero = 14, grid.table = NULL;
}

static void test_tiles(void)
{
    for (uint32_t m = 1; m <= k->mr; m++)
        for (uint32_t n = 1; n <= k->nr; n++)
            test_tile((tile_case){m, n, 1 + n % 3, 1 + (m * 7 + n) % 29, 0, n % 2 == 0, n % 7 == 6, n % 5 == 4 ? (emb_act)(m % EMB_ACT_GELU) : EMB_ACT_NONE, n % 3 ? 0 : 13,
                                n % 4 ? 255 : 200, {0}});
    for (uint32_t kk = 1; kk < 140; kk++) test_tile((tile_case){k->mr, k->nr, 1 + kk % 4, kk, 0, kk % 2 == 0, kk % 5 == 0, EMB_ACT_NONE, 0, 255, {0}});
    for (uint32_t kk = 1; kk < 300; kk += 23)
        for (uint32_t pattern = 1; pattern <= 16; pattern *= 2) test_tile_of((tile_case){k->mr, k->nr, 2, kk, 0, false, true, EMB_ACT_NONE, -INFINITY, INFINITY, {0}}, pattern);
    for (uint32_t kk = 509; kk < 516; kk++) test_tile((tile_case){k->mr, k->nr, 2, kk, 0, true, false, EMB_ACT_NONE, 0, 255, {0}});
    for (uint32_t n = 1; k->parts && n <= k->nr; n++) test_tile((tile_case){1 + n % k->mr, n, 1 + n % 3, 9, 4, n % 2 == 0, false, EMB_ACT_NONE, 0, 255, {0}});
}

/* ---- the others ------------------------------------------------------------------------------------------------ */

static void depthwise_of(const emb_kernels_q8 *t, emb_q8_depthwise d, const int8_t *w, const float *scale, const float *bias)
{
    int8_t *packed_w = guarded(emb_q8_depthwise_bytes(t, d.channels, d.kh, d.kw), 0);
    float *packed_scale = guarded(emb_q8_lanes(t, d.channels) * sizeof(float), 0), *packed_bias = guarded(emb_q8_lanes(t, d.channels) * sizeof(float), 0);
    emb_q8_pack_depthwise(t, w, d.channels, d.kh, d.kw, packed_w);
    emb_q8_pack_channels(t, scale, d.channels, packed_scale);
    emb_q8_pack_channels(t, bias, d.channels, packed_bias);
    uint32_t columns = (d.pixels - 1) * (uint32_t)d.stride + (d.kw - 1) * (uint32_t)d.dilation + 1;
    d.w = packed_w, d.scale = packed_scale, d.bias = packed_bias;
    d.columns = guarded(emb_q8_columns_bytes(columns, d.kh, d.kw), 0);
    t->depthwise(&d);
}

static void test_depthwise(uint32_t channels, uint32_t pixels, uint32_t kh, uint32_t kw, int32_t stride, int32_t dilation, int32_t left)
{
    const uint8_t *rows[12];
    const uint32_t down = 1 + channels % 2, most = emb_q8_more_rows(k, kh, down), more = most < pixels % 4 ? most : pixels % 4; /* rows of the result, besides */
    int32_t width = ((int32_t)pixels - 1) * stride + ((int32_t)kw - 1) * dilation + 1 - left - (int32_t)(channels % 3);
    if (width < 1) width = 1;
    for (uint32_t i = 0; i < kh + more * down; i++) rows[i] = guarded((size_t)width * channels, EMB_KERNEL_SLACK);
    int8_t *w = guarded((size_t)channels * kh * kw, 0);
    float *scale = floats(channels, 2e-3f, 4e-3f), *bias = floats(channels, 100, 100);
    size_t row = (size_t)pixels * channels, n = row * (1 + more);
    uint8_t *got = guarded(n, 0), *want = guarded(n, 0);
    emb_act act = channels % 7 == 0 ? (emb_act)(pixels % EMB_ACT_GELU) : EMB_ACT_NONE;
    emb_q8_table table;
    const uint32_t on = channels / 7 % (GRIDS + 1); /* one of the grids, by a table if there are any, or another */
    grid.scale = on < GRIDS ? 1 / grids[on].step : 37, grid.zero = on < GRIDS ? grids[on].zero : 25;
    grid.table = k->tables && on < GRIDS && emb_q8_table_make(&table, act, 0.3f, 0.4f, grid.scale, grid.zero) ? &table : NULL;
    if (act != EMB_ACT_NONE)
        for (uint32_t i = 0; i < channels; i++) scale[i] *= 0.01f, bias[i] = (bias[i] - 100) * (i % 2 ? 0.1f : 0.01f);
    emb_q8_depthwise d = {.act = act, .act_a = 0.3f, .act_b = 0.4f, .y_scale = grid.scale, .y_zero = grid.zero, .table = grid.table, .rows = rows, .out = got, .width = width, .left = left, .stride = stride, .dilation = dilation, .kh = kh, .kw = kw,
                          .pixels = pixels, .channels = channels, .zero = 77, .lo = channels % 2 ? 0 : 20, .hi = channels % 5 ? 255 : 190, .more = more, .down = down};
    depthwise_of(k, d, w, scale, bias);
    d.more = 0;
    for (uint32_t i = 0; i <= more; i++) {
        d.out = want + i * row, d.rows = rows + i * down;
        depthwise_of(ref, d, w, scale, bias);
    }
    grid.table = NULL;
    if (act == EMB_ACT_NONE) same("depthwise", got, want, n);
    else close_to("activated depthwise", got, want, n);
    release();
}

static void test_pools(uint32_t channels, uint32_t taps)
{
    const void *a[25];
    for (uint32_t i = 0; i < taps; i++) a[i] = guarded(channels, 0);
    uint8_t *got = guarded(channels, 0), *want = guarded(channels, 0);
    k->max_pool(a, taps, channels, got);
    ref->max_pool(a, taps, channels, want);
    same("max_pool", got, want, channels);
    k->sum_pool(a, taps, channels, 1.7f / (float)taps, -40, got);
    ref->sum_pool(a, taps, channels, 1.7f / (float)taps, -40, want);
    same("sum_pool", got, want, channels);
    release();
}

static void test_rows(uint32_t channels, uint32_t pixels)
{
    size_t n = (size_t)channels * pixels;
    uint8_t *a = guarded(n, 0), *b = guarded(n, 0), *got = guarded(n, 0), *want = guarded(n, 0), *table = guarded(256, 0);
    float *factor = floats(channels, 1, 1), *shift = floats(channels, 90, -20), *x = floats(n, 8, 1), *wide = floats(n, 1, 0), *wide_want = floats(n, 1, 0);
    k->lookup(a, n, table, got);
    ref->lookup(a, n, table, want);
    same("lookup", got, want, n);
    k->add(a, b, n, (const float[5]){0.83f, 0.61f, -31, 10, 250}, got);
    ref->add(a, b, n, (const float[5]){0.83f, 0.61f, -31, 10, 250}, want);
    same("add", got, want, n);
    k->gate(a, pixels, channels, factor, shift, got);
    ref->gate(a, pixels, channels, factor, shift, want);
    same("gate", got, want, n);
    k->quantize(x, n, 41.7f, 100, got);
    ref->quantize(x, n, 41.7f, 100, want);
    same("quantize", got, want, n);
    k->dequantize(a, n, 0.031f, -2.5f, wide);
    ref->dequantize(a, n, 0.031f, -2.5f, wide_want);
    same("dequantize", wide, wide_want, n * sizeof *wide);
    k->global_sum(a, pixels, channels, 0.01f, -3, wide);
    ref->global_sum(a, pixels, channels, 0.01f, -3, wide_want);
    same("global_sum", wide, wide_want, channels * sizeof *wide);
    release();
}

int main(void)
{
    const char *cpu = getenv("EMB_CPU");
    k = emb_kernels_q8_get();
    if (cpu != NULL && strncmp(cpu, k->name, strlen(cpu)) != 0) {
        printf("SKIP: this processor has no %s for int8\n", cpu);
        return TEST_SKIP;
    }
    if (k->begin != NULL) k->begin();
    test_tables();
    test_tiles();
    if (k->strided) test_evens();
    if (k->words != NULL) test_all_words();
    if (k->winograd != NULL) test_winograds();
    for (uint32_t c = 1; c <= 150; c++) {
        test_depthwise(c, 1 + c % 9, 3, 3, 1, 1, 1);
        test_depthwise(c, 1 + c % 17, 5, 5, 1 + (int32_t)(c % 2), 1, 2);
        test_depthwise(c, 1 + c % 10, 1 + c % 8, 1 + c % 7, 1 + (int32_t)(c % 3), 1 + (int32_t)(c % 2), (int32_t)(c % 3));
        test_pools(c, c % 2 ? 9 : 25);
        test_rows(c, 1 + c % 11);
    }
    if (k->end != NULL) k->end();
    return test_end();
}
