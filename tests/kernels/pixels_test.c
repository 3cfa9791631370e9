/* The vector forms of what is done to pixels give the reference's bytes, for every size, tail and window, and write nothing
 * beyond what they may. The reference itself against the formulas. */
#include "test.h"

#include <stdbool.h>
#include "../../embed/cpu.h"
#include "../../embed/kernels/pixels.h"

static const emb_pixels *px;
static uint64_t seed = 7;

static void noise(uint8_t *to, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = (uint8_t)test_rand(&seed);
}

/* ---- inverse DCT -------------------------------------------------------------------------------- */

static double basis(uint32_t f, uint32_t at, uint32_t n)
{
    return f >= n || f > 7 ? 0 : f == 0 ? sqrt(0.125) : 0.5 * cos(acos(-1) * (2 * at + 1) * f / (2.0 * n));
}

static emb_dct dct_of(uint32_t w, uint32_t h)
{
    emb_dct t = {.w = w, .h = h, .pairs_x = w < 8 ? (w + 1) / 2 : 4, .pairs_y = h < 8 ? (h + 1) / 2 : 4};
    for (uint32_t at = 0; at < 16; at++)
        for (uint32_t f = 0; f < 8; f++) {
            if (at < h) t.col[at][f / 2][f % 2] = (int16_t)lrint(basis(f, at, h) * (1 << EMB_DCT_BITS));
            if (at < w) t.row[f / 2][at][f % 2] = (int16_t)lrint(basis(f, at, w) * (1 << EMB_DCT_BITS));
        }
    return t;
}

/* Rows of 8 coefficients: usual ones, or whatever a hostile file may make of them. */
static void coefficients(int16_t coef[64], uint32_t rows, bool wild)
{
    memset(coef, 0, 64 * sizeof *coef);
    for (uint32_t i = 0; i < rows * 8; i++) {
        uint64_t r = test_rand(&seed);
        coef[i] = (int16_t)(wild ? (r % 3 == 0 ? -32768 : r % 3 == 1 ? 32767 : (int)(r >> 8)) : r % 4 == 0 ? (int)(r >> 8 & 63) - 32 : 0);
    }
}

static void test_dct(void)
{
    enum { STRIDE = 40 };
    for (uint32_t w = 1; w <= 16; w++)
        for (uint32_t h = 1; h <= 16; h++)
            for (uint32_t round = 0; round < 12; round++) {
                emb_dct t = dct_of(w, h);
                int16_t coef[64];
                uint32_t rows = 1 + round % 8;
                uint8_t want[24 * STRIDE], got[24 * STRIDE];
                coefficients(coef, rows, round >= 8);
                memset(want, 99, sizeof want);
                memset(got, 99, sizeof got);
                emb_pixels_ref.dct(&t, coef, rows, want, STRIDE);
                px->dct(&t, coef, rows, got, STRIDE);
                for (uint32_t y = 0; y < h; y++) CHECK(memcmp(want + y * STRIDE, got + y * STRIDE, w) == 0);
                for (uint32_t y = 0; y < 24; y++) /* up to 16 bytes a row, up to 4 rows more */
                    for (uint32_t x = 0; x < STRIDE; x++)
                        if (x >= 16 || y >= (h + 3) / 4 * 4) CHECK_INT(got[y * STRIDE + x], 99);
                for (uint32_t y = 0; y < h && round < 8; y++)
                    for (uint32_t x = 0; x < w; x++) {
                        double v = 128;
                        for (uint32_t f = 0; f < 64; f++) v += coef[f] * basis(f / 8, y, h) * basis(f % 8, x, w);
                        CHECK_NEAR(want[y * STRIDE + x], v < 0 ? 0 : v > 255 ? 255 : v, 0.6);
                    }
            }
}

/* ---- colour ------------------------------------------------------------------------------------- */

static void test_ycc(void)
{
    enum { N = 16 * 256 };
    static uint8_t y[N], cb[N], cr[N], want[N * 3], got[N * 3 + 1];
    double worst = 0;
    for (uint32_t all = 0; all < 4096; all++) { /* a sixteenth of all colours, and all tails */
        for (uint32_t i = 0; i < 256; i++) y[i] = (uint8_t)i, cb[i] = (uint8_t)(4 * (all & 63)), cr[i] = (uint8_t)(4 * (all >> 6) + 1);
        size_t n = 256 - all % 64;
        got[3 * n] = 77;
        emb_pixels_ref.ycc(y, cb, cr, n, want);
        px->ycc(y, cb, cr, n, got);
        CHECK(memcmp(want, got, 3 * n) == 0 && got[3 * n] == 77);
        for (size_t i = 0; i < n; i += 5) {
            double b = cb[i] - 128.0, r = cr[i] - 128.0;
            double rgb[3] = {y[i] + 1.402 * r, y[i] - 0.344136 * b - 0.714136 * r, y[i] + 1.772 * b};
            for (size_t c = 0; c < 3; c++) worst = fmax(worst, fabs(want[3 * i + c] - fmin(fmax(rgb[c], 0), 255)));
        }
    }
    for (size_t n = 0; n < 40; n++) {
        noise(y, n), noise(cb, n), noise(cr, n);
        got[3 * n] = 77;
        emb_pixels_ref.ycc(y, cb, cr, n, want);
        px->ycc(y, cb, cr, n, got);
        CHECK(memcmp(want, got, 3 * n) == 0 && got[3 * n] == 77);
    }
    CHECK_NEAR(worst, 0.5, 0.06);
}

/* ---- resize ------------------------------------------------------------------------------------- */

static void weights(int16_t *k, uint32_t taps, uint32_t padded, bool lobes)
{
    int32_t left = 1 << EMB_RESAMPLE_BITS;
    memset(k, 0, padded * sizeof *k);
    for (uint32_t t = 0; t + 1 < taps; t++) {
        k[t] = (int16_t)((int32_t)(test_rand(&seed) % 4000) - (lobes ? 1500 : 0));
        if (!lobes && k[t] > left) k[t] = 0;
        left -= k[t];
    }
    k[taps - 1] = (int16_t)(left < INT16_MIN ? INT16_MIN : left > INT16_MAX ? INT16_MAX : left);
}

static void test_resize(void)
{
    enum { MAX_TAPS = 40, MAX_N = 90 };
    static uint8_t rows[MAX_TAPS][(MAX_N + MAX_TAPS) * 3 + 64];
    static int16_t spread[(MAX_N + 2 * MAX_TAPS) * 4], other[(MAX_N + 2 * MAX_TAPS) * 4];
    for (int round = 0; round < 400; round++) {
        const uint8_t *ptr[MAX_TAPS];
        int16_t k[MAX_TAPS];
        uint32_t taps = 1 + (uint32_t)(test_rand(&seed) % MAX_TAPS), n = 1 + (uint32_t)(test_rand(&seed) % MAX_N);
        for (uint32_t t = 0; t < MAX_TAPS; t++) noise(rows[t], sizeof rows[t]), ptr[t] = rows[t];
        weights(k, taps, MAX_TAPS, round % 2 == 1);
        uint8_t a[MAX_N * 3 + 16], b[MAX_N * 3 + 16];
        a[n * 3] = b[n * 3] = 77;
        emb_pixels_ref.resample_col(ptr, k, taps, (size_t)n * 3, a);
        px->resample_col(ptr, k, taps, (size_t)n * 3, b);
        CHECK(memcmp(a, b, n * 3 + 1) == 0);

        uint32_t padded = (taps + 3) / 4 * 4, columns = n + padded, first[MAX_N], count[MAX_N];
        memset(spread, 1, sizeof spread);
        memset(other, 1, sizeof other);
        emb_pixels_ref.spread(rows[0], columns, spread);
        px->spread(rows[0], columns, other);
        CHECK(emb_spread_bytes(columns) / 2 >= columns / 4 * 16);
        for (uint32_t i = 0; i < columns; i++)
            for (uint32_t c = 0; c < 3; c++) CHECK_INT(other[i / 4 * 16 + c * 4 + i % 4], rows[0][3 * i + c]);
        for (size_t i = emb_spread_bytes(columns) / 2; i < sizeof other / 2; i++) CHECK_INT(other[i], 0x0101);
        int16_t *w = calloc((size_t)n * padded, sizeof *w);
        REQUIRE(w != NULL);
        for (uint32_t o = 0; o < n; o++) {
            first[o] = (uint32_t)(test_rand(&seed) % n) / 4 * 4;
            count[o] = taps;
            weights(w + (size_t)o * padded, taps, padded, round % 2 == 1);
        }
        emb_axis axis = {padded, first, count, w};
        b[n * 3 + 13] = 77;
        emb_pixels_ref.resample_row(spread, &axis, n, a);
        px->resample_row(other, &axis, n, b);
        CHECK(memcmp(a, b, n * 3) == 0 && b[n * 3 + 13] == 77);
        free(w);
    }
}

static void test_normalise(void)
{
    const float mean[3] = {123.675f, 116.28f, 103.53f}, scale[3] = {0.0171f, 0.0175f, 0.0174f};
    uint8_t in[90];
    float want[91], got[91];
    for (size_t n = 0; n <= 30; n++) {
        noise(in, sizeof in);
        want[3 * n] = got[3 * n] = 5;
        emb_pixels_ref.normalise(in, n, mean, scale, want);
        px->normalise(in, n, mean, scale, got);
        CHECK(memcmp(want, got, (3 * n + 1) * sizeof *got) == 0);
        for (size_t i = 0; i < 3 * n; i++) CHECK_NEAR(want[i], (in[i] - mean[i % 3]) * scale[i % 3], 1e-5);
    }
}

int main(void)
{
    const char *wanted = getenv("EMB_CPU");
    px = emb_pixels_get();
    if (wanted != NULL && strcmp(wanted, px->name) != 0) {
        printf("skipped: this processor or build has no %s for pixels\n", wanted);
        return 77;
    }
    test_dct();
    test_ycc();
    test_resize();
    test_normalise();
    return test_end();
}
