/* Every kernel of the table in use against the scalar reference: all tails, inputs that end at an unmapped page, outputs
 * in poison whose border must stay. Tolerance grows with the sum of |a * b|. */
#include "../../embed/cpu.h"
#include "../../embed/embed.h"
#include "../../embed/plan.h"
#include "../test.h"

#include <float.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

static const emb_kernels *k, *ref;
static uint64_t seed = 12;

enum { GUARDS = 512 };
static struct {
    char *map;
    size_t bytes;
} guards[GUARDS];
static size_t n_guards;

/* Memory whose end is the end of the mapped page. */
static void *guarded_bytes(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (n + page - 1) / page * page + page;
    char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(map != MAP_FAILED && n_guards < GUARDS);
    REQUIRE(mprotect(map + bytes - page, page, PROT_NONE) == 0);
    guards[n_guards].map = map;
    guards[n_guards++].bytes = bytes;
    return map + bytes - page - n;
}

/* n random floats. */
static float *guarded(size_t n)
{
    float *p = guarded_bytes(n * sizeof *p);
    for (size_t i = 0; i < n; i++) p[i] = test_randf(&seed);
    return p;
}

/* n random elements of the table's type. */
static void *elements(size_t n)
{
    void *p = guarded_bytes(n * k->bytes);
    for (size_t i = 0; i < n; i++) k->narrow(&(float){test_randf(&seed)}, 1, (char *)p + i * k->bytes);
    return p;
}

static void *poison(size_t n)
{
    void *p = guarded_bytes(n * k->bytes);
    for (size_t i = 0; i < n; i++) k->narrow(&(float){768}, 1, (char *)p + i * k->bytes);
    return p;
}

static double at(const void *p, size_t i)
{
    float v;
    ref->widen((const char *)p + i * k->bytes, 1, &v);
    return (double)v;
}

static void release(void)
{
    while (n_guards > 0) {
        n_guards--;
        munmap(guards[n_guards].map, guards[n_guards].bytes);
    }
}

/* What storing a value of this size in the table's type may change. */
static double rounding(double size) { return size * (k->type == EMB_F16 ? 0x1p-10 : k->type == EMB_BF16 ? 0x1p-7 : 0x1p-22); }

static void same(const char *what, const void *got, const void *want, size_t n, double tolerance)
{
    test_checks++;
    for (size_t i = 0; i < n; i++)
        if (!(fabs(at(got, i) - at(want, i)) <= tolerance + (tolerance > 0 ? rounding(fabs(at(want, i))) : 0))) {
            TEST_FAIL("%s of %s: [%zu] is %.9g, want %.9g within %.3g", what, k->name, i, at(got, i), at(want, i), tolerance);
            return;
        }
}

/* ---- tile ------------------------------------------------------------------------------------------------ */

static uint32_t width_of(uint32_t n) { return (n + k->unit - 1) / k->unit * k->unit; }

static size_t panel_elements(uint32_t taps, uint32_t kk, uint32_t width) { return (size_t)taps * ((kk + k->round - 1) / k->round) * k->round * width; }

/* [taps][kk][width] floats, packed channels x0 to x0 + n of each tap as a panel. */
static void *packed(const float *w, uint32_t taps, uint32_t kk, uint32_t width, uint32_t x0, uint32_t n)
{
    char *b = guarded_bytes(panel_elements(taps, n, width) * k->bytes);
    for (uint32_t tap = 0; tap < taps; tap++)
        emb_plan_pack_panel(k, w + ((size_t)tap * kk + x0) * width, n, width, b + panel_elements(tap, n, width) * k->bytes);
    return b;
}

static double sum_of(const void **a, uint32_t m, uint32_t i, uint32_t j, uint32_t taps, uint32_t kk, const float *w, uint32_t width, double *size)
{
    double sum = 0;
    for (uint32_t tap = 0; tap < taps; tap++)
        for (uint32_t x = 0; x < kk; x++) {
            double v = at(a[tap * m + i], x) * (double)w[((size_t)tap * kk + x) * width + j];
            sum += v;
            *size += fabs(v);
        }
    return sum;
}

/* In one go, or in two parts of the channels, the second of which resumes (weights are packed for each then). */
static void run_tile(emb_tile t, const float *w, uint32_t m, uint32_t split)
{
    uint32_t kk = t.k;
    t.lds = t.n + 5;
    t.sum = guarded(m * t.lds);
    for (uint32_t part = 0, parts = split > 0 ? 2 : 1; part < parts; part++) {
        t.x0 = part > 0 ? split : 0;
        t.k = part > 0 ? kk - split : parts > 1 ? split : kk;
        t.b = packed(w, t.taps, kk, width_of(t.n), t.x0, t.k);
        t.resume = part > 0;
        t.more = part + 1 < parts;
        k->tile(&t, m);
    }
}

static void test_tile(uint32_t m, uint32_t n, uint32_t taps, uint32_t kk, bool residual, float lo, float hi, uint32_t split)
{
    const void *a[EMB_MAX_MR * 16];
    for (uint32_t i = 0; i < taps * m; i++) a[i] = elements(kk);
    const uint32_t width = width_of(n);
    size_t ldc = n + 3;
    float *w = guarded((size_t)taps * kk * width), *bias = guarded(width);
    for (size_t i = 0; i < (size_t)taps * kk * width; i++) w[i] = (float)lrintf(w[i] * 64) / 64; /* the same in every type */
    void *res = elements(m * ldc), *c = poison(m * ldc);
    emb_act act = lo == 0 && hi > 100 ? (emb_act)(m % EMB_ACT_GELU) : EMB_ACT_NONE;
    /* Whether a row asks for much or little memory decides how many go together. */
    run_tile((emb_tile){.a = a, .taps = taps, .k = kk, .next = (const void *)w, .next_step = 16 * (kk % 3), .bias = bias, .residual = residual ? res : NULL,
                        .c = c, .ldc = ldc, .n = n, .lo = lo, .hi = hi, .act = act, .act_a = 0.3f, .act_b = 0.4f}, w, m, split);
    double unit = k->type == EMB_F16 ? 0x1p-11 : FLT_EPSILON, stored = k->type == EMB_BF16 ? 0x1p-7 : 0;
    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = 0; j < ldc; j++) {
            if (j >= n) {
                CHECK(at(c, i * ldc + j) == (double)768); /* beyond the columns nothing is written */
                continue;
            }
            double size = fabs((double)bias[j]), sum = (double)bias[j] + sum_of(a, m, i, j, taps, kk, w, width, &size);
            if (residual) sum += at(res, i * ldc + j);
            sum = fmin(fmax(sum, (double)lo), (double)hi);
            float v = (float)sum;
            emb_kernels_ref.act(&v, 1, act, 0.3f, 0.4f);
            double off = unit * (size + 1) * (4 + sqrt((double)taps * kk)) + (act != EMB_ACT_NONE ? rounding(1) + 2e-6 : 0) + stored * (fabs((double)v) + 0.01);
            CHECK_NEAR(at(c, i * ldc + j), (double)v, off);
        }
    release();
}

/* Pixels that lie evenly give what the same ones give by their pointers, without those over a gap. */
static void test_even(void (*kernel)(const emb_tile *, uint32_t), uint32_t m, uint32_t n, uint32_t taps, uint32_t kk, uint32_t at, uint32_t row, uint32_t gap, uint32_t there)
{
    const uint32_t step = kk + kk % 3, width = row + gap, pixels = there > m ? there : m;
    const void *first[4], *each[4 * EMB_MAX_MR];
    uint32_t wanted = 0;
    for (uint32_t i = 0; i < m; i++) wanted += row == 0 || (at + i) % width < row;
    for (uint32_t tap = 0; tap < taps; tap++) {
        first[tap] = elements((pixels - 1) * (size_t)step + (kk + k->round - 1) / k->round * k->round); /* numbers behind the last pixel, too */
        for (uint32_t i = 0, to = 0; i < m; i++)
            if (row == 0 || (at + i) % width < row) each[tap * wanted + to++] = (const char *)first[tap] + (size_t)i * step * k->bytes;
    }
    const uint32_t columns = width_of(n);
    float *w = guarded((size_t)taps * kk * columns), *bias = guarded(columns);
    void *got = poison(wanted * (size_t)n), *want = poison(wanted * (size_t)n);
    emb_tile t = {.taps = taps, .k = kk, .b = packed(w, taps, kk, columns, 0, kk), .bias = bias, .ldc = n, .n = n, .lo = -INFINITY, .hi = INFINITY};
    for (uint32_t i = 0, some; i < wanted; i += some) {
        some = wanted - i < k->mr ? wanted - i : k->mr;
        const void *part[4 * EMB_MAX_MR];
        for (uint32_t tap = 0; tap < taps; tap++)
            for (uint32_t j = 0; j < some; j++) part[tap * some + j] = each[tap * wanted + i + j];
        t.a = part;
        t.c = (char *)want + (size_t)i * n * k->bytes;
        k->tile(&t, some);
    }
    t.a = first;
    t.c = got;
    t.step = step * k->bytes, t.there = there, t.at = at, t.row = row, t.gap = gap;
    kernel(&t, m);
    for (size_t i = 0; i < (size_t)wanted * n; i++) CHECK(memcmp((char *)got + i * k->bytes, (char *)want + i * k->bytes, k->bytes) == 0);
    release();
}

static void test_lines(void (*kernel)(const emb_tile *, uint32_t), uint32_t mr, uint32_t nr)
{
    for (uint32_t m = 1; kernel != NULL && m <= mr; m++)
        for (uint32_t i = 0; i < 12; i++) {
            uint32_t row = i % 4 == 0 ? 0 : 1 + (m + 5 * i) % 40, gap = row == 0 ? 0 : 1 + i % 6;
            test_even(kernel, m, 1 + (m * 5 + i) % nr, 1 + i % 3, 1 + (m * 11 + i * 17) % 70, row == 0 ? 0 : (m * 3 + i) % (row + gap), row, gap, i % 2 == 0 ? 32 : 0);
        }
}

static void test_gate_panel(uint32_t kk, uint32_t n)
{
    const uint32_t width = width_of(n);
    const size_t all = panel_elements(1, kk, width);
    float *w = guarded((size_t)kk * width);
    void *b = packed(w, 1, kk, width, 0, kk), *by = elements(kk), *got = poison(all), *want = poison(all);
    k->gate_panel(b, by, kk, n, got);
    for (size_t i = 0; i < all; i++) {
        size_t x = i / (width * k->group) * k->group + i % k->group;
        ref->narrow(&(float){x < kk ? (float)(at(b, i) * at(by, x)) : 0}, 1, (char *)want + i * k->bytes);
    }
    same("gate_panel", got, want, all, 1e-7);
    release();
}

/* ---- the others ------------------------------------------------------------------------------------------ */

static void test_depthwise(uint32_t channels, uint32_t pixels, uint32_t kh, uint32_t kw, uint32_t stride, uint32_t dilation)
{
    uint32_t wide = (pixels - 1) * stride + (kw - 1) * dilation + 1;
    void *x = elements((size_t)(kh + 1) * wide * channels), *w = elements((size_t)kh * kw * channels);
    size_t n = (size_t)pixels * channels + 3;
    void *got = poison(n), *want = poison(n);
    emb_depthwise d = {.x = x, .w = w, .bias = guarded(channels), .out = got, .x_row = (size_t)wide * channels, .x_pixel = (size_t)stride * channels,
                       .x_tap = (size_t)dilation * channels, .w_row = (size_t)kw * channels, .kh = kh, .kw = kw, .pixels = pixels,
                       .channels = channels, .rows = 1, .lo = -0.5f, .hi = 2};
    k->depthwise(&d);
    d.out = want;
    ref->depthwise(&d);
    same("depthwise", got, want, n, k->type == EMB_F16 ? 2e-2 : 1e-4);
    release();
}

/* Whole rows of a picture of `width` columns, of which the first pixel begins `left` before the first. */
static void test_windows(uint32_t channels, uint32_t width, uint32_t pixels, uint32_t left, uint32_t kw, uint32_t stride, uint32_t rows)
{
    const uint32_t kh = 1 + (channels + width) % 5;
    const size_t out_row = (size_t)pixels * channels + 3, n = rows * out_row;
    void *x = elements((size_t)(kh + rows - 1) * width * channels), *w = elements((size_t)kh * kw * channels), *got = poison(n), *want = poison(n);
    emb_depthwise d = {.x = x, .w = w, .bias = guarded(channels), .out = got, .x_row = (size_t)width * channels, .x_pixel = (size_t)stride * channels,
                       .x_tap = channels, .w_row = (size_t)kw * channels, .kh = kh, .kw = kw, .pixels = pixels, .channels = channels,
                       .rows = rows, .width = width, .column = -(int32_t)left, .out_row = out_row, .lo = -0.5f, .hi = 2};
    k->depthwise(&d);
    d.out = want;
    ref->depthwise(&d);
    same("windows", got, want, n, k->type == EMB_F16 ? 2e-2 : 1e-4);
    release();
}

static void test_pools(uint32_t channels, uint32_t taps)
{
    const void *a[49];
    for (uint32_t i = 0; i < taps; i++) a[i] = i < 40 ? elements(channels) : a[i % 40];
    void *got = poison(channels), *want = poison(channels);
    k->max_pool(a, taps, channels, got);
    ref->max_pool(a, taps, channels, want);
    same("max_pool", got, want, channels, 0);
    k->sum_pool(a, taps, 0.25f, channels, got);
    ref->sum_pool(a, taps, 0.25f, channels, want);
    same("sum_pool", got, want, channels, 1e-5);
    release();
}

/* Against the scalar transforms, and both together with a product of one channel against the sum of nine. */
static void test_winograd(uint32_t side, uint32_t channels, uint32_t rows, uint32_t columns, bool residual)
{
    enum { PLANE = 131 };
    const void *px[36];
    for (int i = 0; i < 36; i++) px[i] = i < 20 ? elements(channels) : px[i % 20];
    void *got = poison(36 * PLANE), *want = poison(36 * PLANE);
    k->winograd_in(px, side, channels, got, PLANE);
    ref->winograd_in(px, side, channels, want, PLANE);
    same("winograd_in", got, want, 36 * PLANE, 2e-5);
    size_t pixel = channels + 2, row = 4 * pixel + 1, n = 3 * row + 4 * pixel;
    void *res = elements(n), *out = poison(n), *out_want = poison(n);
    float *m = guarded(36 * PLANE);
    emb_patch to = {out, residual ? res : NULL, guarded(channels), row, pixel, rows, columns, residual ? -20 : -INFINITY, residual ? 30 : INFINITY};
    k->winograd_out(m, PLANE, side, channels, &to);
    to.out = out_want;
    ref->winograd_out(m, PLANE, side, channels, &to);
    same("winograd_out", out, out_want, n, 2e-4);
    release();
}

static void test_act(uint32_t n)
{
    for (int act = EMB_ACT_NONE; act <= EMB_ACT_GELU; act++) {
        void *got = poison(n), *want = poison(n);
        for (size_t i = 0; i < n; i++) {
            float v = test_randf(&seed) * (i % 7 == 0 ? 100.0f : 8.0f);
            k->narrow(&v, 1, (char *)got + i * k->bytes);
            k->narrow(&v, 1, (char *)want + i * k->bytes);
        }
        k->act(got, n, (emb_act)act, 0.2f, 0.5f);
        ref->act(want, n, (emb_act)act, 0.2f, 0.5f);
        for (size_t i = 0; i < n; i++) CHECK_NEAR(at(got, i), at(want, i), (k->type != EMB_F32 ? 0x1p-11 : 2e-6) * (1 + fabs(at(want, i))) + rounding(fabs(at(want, i))));
    }
    release();
}

static void test_rows(uint32_t channels, uint32_t pixels)
{
    size_t n = (size_t)channels * pixels;
    void *a = elements(n), *b = elements(n), *by = elements(channels), *got = poison(n), *want = poison(n);
    float *scale = guarded(channels), *shift = guarded(channels), *wide = guarded(n), *wide_want = guarded(n);
    k->global_mean(a, pixels, channels, got);
    ref->global_mean(a, pixels, channels, want);
    same("global_mean", got, want, channels, 1e-5);
    k->add(a, b, n, got, -0.25f, 1);
    ref->add(a, b, n, want, -0.25f, 1);
    same("add", got, want, n, 1e-9);
    k->mul(a, b, n, got);
    ref->mul(a, b, n, want);
    same("mul", got, want, n, 1e-9);
    k->affine(a, pixels, channels, scale, shift, got, -1, INFINITY);
    ref->affine(a, pixels, channels, scale, shift, want, -1, INFINITY);
    same("affine", got, want, n, 1e-6);
    k->gate(a, pixels, channels, by, got);
    ref->gate(a, pixels, channels, by, want);
    same("gate", got, want, n, 1e-7);
    k->widen(a, n, wide);
    ref->widen(a, n, wide_want);
    CHECK(memcmp(wide, wide_want, n * sizeof *wide) == 0);
    for (size_t i = 0; i < n; i++) wide[i] = (wide[i] - 0.5f) * (i % 5 == 0 ? 1e-6f : i % 5 == 1 ? 1e5f : 1);
    k->narrow(wide, n, got);
    ref->narrow(wide, n, want);
    CHECK(memcmp(got, want, n * k->bytes) == 0);
    release();
}

int main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
#ifdef KERNELS_UNDER_TEST
    extern const emb_kernels KERNELS_UNDER_TEST;
    k = &KERNELS_UNDER_TEST;
#else
    const char *cpu = getenv("EMB_CPU"), *type = argc > 1 ? argv[1] : "f32";
    bool scalar = cpu != NULL && strcmp(cpu, "ref") == 0, half = strcmp(type, "f16") == 0, brain = strcmp(type, "bf16") == 0;
    k = half ? emb_kernels_f16_get() : brain ? emb_kernels_bf16_get() : emb_kernels_get();
    if (scalar) k = half ? &emb_kernels_f16_ref : brain ? &emb_kernels_bf16_ref : &emb_kernels_ref;
    if (k == NULL || (cpu != NULL && strncmp(cpu, k->name, strlen(cpu)) != 0)) {
        printf("SKIP: this processor has no %s for %s\n", cpu != NULL ? cpu : "arithmetic", type);
        return TEST_SKIP;
    }
#endif
    ref = k->type == EMB_F16 ? &emb_kernels_f16_ref : k->type == EMB_BF16 ? &emb_kernels_bf16_ref : &emb_kernels_ref;
    if (k->begin != NULL) k->begin();
    const uint32_t most = k->wide_nr > 0 ? k->wide_nr : k->nr;
    for (uint32_t m = 1; m <= k->mr; m++)
        for (uint32_t n = 1; n <= (m <= k->wide_mr ? most : k->nr); n++)
            test_tile(m, n, 1 + n % 3, 1 + (m * 7 + n) % 29, n % 2 == 0, n % 3 ? -INFINITY : 0, n % 5 ? INFINITY : 6, 0);
    for (uint32_t kk = 1; kk < 70; kk++) test_tile(k->mr, k->nr, 1 + kk % 4, kk, kk % 2 == 0, -INFINITY, INFINITY, 0);
    test_lines(k->strided ? k->tile : NULL, k->mr, k->nr);
    test_lines(k->thin, k->thin_mr, k->unit);
    for (uint32_t kk = 1; k->wide_nr > 0 && kk < 70; kk++) test_tile(k->wide_mr, most, 1 + kk % 4, kk, kk % 2 == 0, -INFINITY, INFINITY, 0);
    for (uint32_t n = 1; k->parts && n <= most; n++) test_tile(1 + n % (n <= k->nr ? k->mr : k->wide_mr), n, 1 + n % 3, 9, n % 2 == 0, -0.5f, n % 3 ? 1 : INFINITY, 1 + n % 8);
    for (uint32_t c = 1; c <= 70; c++) {
        test_depthwise(c, 1 + c % 9, 3, 3, 1, 1);
        test_depthwise(c, 1 + c % 17, 5, 5, 1 + c % 2, 1);
        test_depthwise(c, 1 + c % 10, c % 4, 1 + c % 7, 1 + c % 3, 1 + c % 2);
        for (uint32_t kw = 3; kw <= 5; kw += 2)
            for (uint32_t pixels = 1; pixels <= 17; pixels += 1 + c % 3) {
                test_windows(c, pixels + c % 4, pixels, kw / 2, kw, 1, 1 + (c + pixels) % 2);
                test_windows(c, pixels * 2 - c % 2, pixels, c % kw, kw, 2, 1);
            }
        test_pools(c, c % 2 ? 9 : 25);
        test_winograd(6, c, 1 + c % 4, 1 + c / 4 % 4, c % 3 == 0);
        test_winograd(5, c, 1 + c % 3, 1 + c / 3 % 3, c % 4 == 0);
        test_winograd(4, c, 1 + c % 2, 1 + c / 2 % 2, c % 5 == 0);
        test_rows(c, 1 + c % 11);
        test_act(c);
        test_gate_panel(c, 1 + c * 5 % most);
    }
    if (k->end != NULL) k->end();
    return test_end();
}
