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
    test_resize();
    test_normalise();
    return test_end();
}
