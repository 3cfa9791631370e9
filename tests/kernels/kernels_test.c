/* Every kernel of the table in use against the scalar reference: all tails, inputs that end at an unmapped page, outputs
 * in poison whose border must stay. Tolerance grows with the sum of |a * b|. */
#include "../../embed/cpu.h"
#include "../../embed/kernels/kernels.h"
#include "../test.h"

#include <float.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

static const emb_kernels *k, *ref = &emb_kernels_ref;
static uint64_t seed = 12;

enum { GUARDS = 64 };
static struct {
    char *map;
    size_t bytes;
} guards[GUARDS];
static size_t n_guards;

/* n random floats whose end is the end of the mapped page. */
static float *guarded(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (n * sizeof(float) + page - 1) / page * page + page;
    char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(map != MAP_FAILED && n_guards < GUARDS);
    REQUIRE(mprotect(map + bytes - page, page, PROT_NONE) == 0);
    guards[n_guards].map = map;
    guards[n_guards++].bytes = bytes;
    float *p = (float *)(void *)(map + bytes - page) - n;
    for (size_t i = 0; i < n; i++) p[i] = test_randf(&seed);
    return p;
}

static void release(void)
{
    while (n_guards > 0) {
        n_guards--;
        munmap(guards[n_guards].map, guards[n_guards].bytes);
    }
}

static void same(const char *what, const float *got, const float *want, size_t n, double tolerance)
{
    test_checks++;
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= tolerance)) {
            TEST_FAIL("%s of %s: [%zu] is %.9g, want %.9g within %.3g", what, k->name, i, (double)got[i], (double)want[i], tolerance);
            return;
        }
}

static double sum_of(const float **a, uint32_t m, uint32_t i, uint32_t j, uint32_t taps, uint32_t kk, const float *w, double *size)
{
    double sum = 0;
    for (uint32_t tap = 0; tap < taps; tap++)
        for (uint32_t x = 0; x < kk; x++) {
            double v = (double)a[tap * m + i][x] * (double)w[((size_t)tap * kk + x) * k->nr + j];
            sum += v;
            *size += fabs(v);
        }
    return sum;
}

/* In one go, or in two halves of the channels, the second of which resumes (weights are packed for each then). */
static void run_tile(emb_tile t, uint32_t m, uint32_t split)
{
    if (split == 0) {
        k->tile(&t, m);
        return;
    }
    const float *whole = t.b;
    uint32_t kk = t.k, nr = k->nr;
    for (int half = 0; half < 2; half++) {
        t.x0 = half ? split : 0;
        t.k = half ? kk - split : split;
        float *b = guarded((size_t)t.taps * t.k * nr);
        for (uint32_t tap = 0; tap < t.taps; tap++)
            memcpy(b + (size_t)tap * t.k * nr, whole + ((size_t)tap * kk + t.x0) * nr, (size_t)t.k * nr * sizeof *b);
        t.b = b;
        t.resume = half == 1;
        t.more = half == 0;
        k->tile(&t, m);
    }
}

static void test_tile(uint32_t m, uint32_t n, uint32_t taps, uint32_t kk, bool residual, float lo, float hi, uint32_t split)
{
    const float *a[EMB_MAX_MR * 16];
    for (uint32_t i = 0; i < taps * m; i++) a[i] = guarded(kk);
    size_t ldc = n + 3;
    float *w = guarded((size_t)taps * kk * k->nr), *bias = guarded(k->nr), *res = guarded(m * ldc), *c = guarded(m * ldc);
    for (size_t i = 0; i < m * ldc; i++) c[i] = 777;
    run_tile((emb_tile){.a = a, .taps = taps, .k = kk, .b = w, .bias = bias, .residual = residual ? res : NULL, .c = c, .ldc = ldc, .n = n,
                        .lo = lo, .hi = hi}, m, split);
    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = 0; j < ldc; j++) {
            if (j >= n) {
                CHECK(c[i * ldc + j] == 777.0f); /* beyond the columns nothing is written */
                continue;
            }
            double size = fabs((double)bias[j]), sum = (double)bias[j] + sum_of(a, m, i, j, taps, kk, w, &size);
            if (residual) sum += (double)res[i * ldc + j];
            sum = fmin(fmax(sum, (double)lo), (double)hi);
            CHECK_NEAR((double)c[i * ldc + j], sum, FLT_EPSILON * (size + 1) * (4 + sqrt((double)taps * kk)));
        }
    release();
}

static void test_depthwise(uint32_t channels, uint32_t pixels, uint32_t kh, uint32_t kw, uint32_t stride, uint32_t dilation)
{
    uint32_t wide = (pixels - 1) * stride + (kw - 1) * dilation + 1;
    float *x = guarded((size_t)kh * wide * channels), *w = guarded((size_t)kh * kw * channels), *bias = guarded(channels);
    float *got = guarded((size_t)pixels * channels), *want = guarded((size_t)pixels * channels);
    emb_depthwise d = {.x = x, .w = w, .bias = bias, .out = got, .x_row = (size_t)wide * channels, .x_pixel = (size_t)stride * channels,
                       .x_tap = (size_t)dilation * channels, .w_row = (size_t)kw * channels, .kh = kh, .kw = kw, .pixels = pixels,
                       .channels = channels, .lo = -0.5f, .hi = 2};
    k->depthwise(&d);
    d.out = want;
    ref->depthwise(&d);
    same("depthwise", got, want, (size_t)pixels * channels, 1e-5);
    release();
}

static void test_pools(uint32_t channels, uint32_t taps)
{
    const float *a[49];
    for (uint32_t i = 0; i < taps; i++) a[i] = i < 40 ? guarded(channels) : a[i % 40];
    float *got = guarded(channels), *want = guarded(channels);
    k->max_pool(a, taps, channels, got);
    ref->max_pool(a, taps, channels, want);
    same("max_pool", got, want, channels, 0);
    k->sum_pool(a, taps, 0.25f, channels, got);
    ref->sum_pool(a, taps, 0.25f, channels, want);
    same("sum_pool", got, want, channels, 1e-5);
    release();
}

/* Against the scalar transforms, and both together with a product of one channel against the sum of nine. */
static void test_winograd(uint32_t channels, uint32_t rows, uint32_t columns, bool residual)
{
    enum { PLANE = 131 };
    const float *px[36];
    for (int i = 0; i < 36; i++) px[i] = i < 20 ? guarded(channels) : px[i % 20];
    float *got = guarded(36 * PLANE), *want = guarded(36 * PLANE);
    for (size_t i = 0; i < 36 * PLANE; i++) got[i] = want[i] = 777;
    k->winograd_in(px, channels, got, PLANE);
    ref->winograd_in(px, channels, want, PLANE);
    same("winograd_in", got, want, 36 * PLANE, 2e-5);
    size_t pixel = channels + 2, row = 4 * pixel + 1, n = 3 * row + 4 * pixel;
    float *m = guarded(36 * PLANE), *bias = guarded(channels), *res = guarded(n), *out = guarded(n), *out_want = guarded(n);
    for (size_t i = 0; i < n; i++) out[i] = out_want[i] = 777;
    emb_patch to = {out, residual ? res : NULL, bias, row, pixel, rows, columns, residual ? -20 : -INFINITY, residual ? 30 : INFINITY};
    k->winograd_out(m, PLANE, channels, &to);
    to.out = out_want;
    ref->winograd_out(m, PLANE, channels, &to);
    same("winograd_out", out, out_want, n, 2e-4);
    release();
}

static void test_rows(uint32_t channels, uint32_t pixels)
{
    size_t n = (size_t)channels * pixels;
    float *a = guarded(n), *b = guarded(n), *scale = guarded(channels), *shift = guarded(channels), *got = guarded(n), *want = guarded(n);
    k->global_mean(a, pixels, channels, got);
    ref->global_mean(a, pixels, channels, want);
    same("global_mean", got, want, channels, 1e-5);
    k->add(a, b, n, got, -0.25f, 1);
    ref->add(a, b, n, want, -0.25f, 1);
    same("add", got, want, n, 0);
    k->mul(a, b, n, got);
    ref->mul(a, b, n, want);
    same("mul", got, want, n, 0);
    for (int with = 0; with < 2; with++) {
        k->affine(a, pixels, channels, scale, with ? shift : NULL, got, -1, INFINITY);
        ref->affine(a, pixels, channels, scale, with ? shift : NULL, want, -1, INFINITY);
        same("affine", got, want, n, 1e-6);
    }
    for (int act = EMB_ACT_NONE; act <= EMB_ACT_GELU; act++) {
        for (size_t i = 0; i < n; i++) got[i] = want[i] = a[i] * (i % 7 == 0 ? 100.0f : 8.0f);
        k->act(got, n, (emb_act)act, 0.2f, 0.5f);
        ref->act(want, n, (emb_act)act, 0.2f, 0.5f);
        for (size_t i = 0; i < n; i++) CHECK_NEAR((double)got[i], (double)want[i], 2e-6 * (1 + fabs((double)want[i])));
    }
    release();
}

int main(void)
{
#ifdef KERNELS_UNDER_TEST
    extern const emb_kernels KERNELS_UNDER_TEST;
    k = &KERNELS_UNDER_TEST;
#else
    const char *cpu = getenv("EMB_CPU");
    k = emb_kernels_get();
    if (cpu != NULL && strcmp(cpu, k->name) != 0) {
        printf("SKIP: this processor has no %s\n", cpu);
        return TEST_SKIP;
    }
#endif
    for (uint32_t m = 1; m <= k->mr; m++)
        for (uint32_t n = 1; n <= k->nr; n++) test_tile(m, n, 1 + n % 3, 1 + (m * 7 + n) % 29, n % 2 == 0, n % 3 ? -INFINITY : 0, n % 5 ? INFINITY : 6, 0);
    for (uint32_t kk = 1; kk < 70; kk++) test_tile(k->mr, k->nr, 1 + kk % 4, kk, kk % 2 == 0, -INFINITY, INFINITY, 0);
    for (uint32_t n = 1; n <= k->nr; n++) test_tile(1 + n % k->mr, n, 1 + n % 3, 9, n % 2 == 0, -0.5f, n % 3 ? 1 : INFINITY, 1 + n % 8);
    for (uint32_t c = 1; c <= 70; c++) {
        test_depthwise(c, 1 + c % 9, 3, 3, 1, 1);
        test_depthwise(c, 1 + c % 17, 5, 5, 1 + c % 2, 1);
        test_depthwise(c, 1 + c % 10, c % 4, 1 + c % 7, 1 + c % 3, 1 + c % 2);
        test_pools(c, c % 2 ? 9 : 25);
        test_winograd(c, 1 + c % 4, 1 + c / 4 % 4, c % 3 == 0);
        test_rows(c, 1 + c % 11);
    }
    return test_end();
}
