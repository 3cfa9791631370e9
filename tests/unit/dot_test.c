/* Kernels of the index: every form that this processor has is held to the scalar one, which is held to doubles. Rows end at a page
 * that must not be read. */
#include "../../index/dot.h"
#include "../../index/rows.h"
#include "test.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST = 2048 };

/* bytes of memory that end where a fault begins. */
static void *guarded(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (bytes + page - 1) / page * page;
    uint8_t *p = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(p != MAP_FAILED && mprotect(p + room, page, PROT_NONE) == 0);
    return p + room - bytes;
}

static void test_halves(void)
{
    for (uint32_t h = 0; h < 0x10000; h++) { /* all of them */
        float f = idx_half_to_float((uint16_t)h);
        uint32_t e = h >> 10 & 31, m = h & 1023;
        double want = e == 0 ? (double)m * 0x1p-24 : (1 + (double)m / 1024) * pow(2, (double)e - 15);
        if (e == 31) CHECK(m == 0 ? isinf(f) : isnan(f));
        else CHECK(fabs((double)f) == want && (signbit(f) != 0) == (h >> 15 != 0));
        if (e != 31 || m == 0) CHECK_INT(idx_half_from_float(f), h);
    }
    CHECK(isnan(idx_half_to_float(idx_half_from_float(NAN))));
    uint64_t seed = 3;
    for (int i = 0; i < 300000; i++) { /* to the nearest, of two as near to the even one */
        double x = ((double)test_rand(&seed) * 0x1p-63 - 1) * pow(2, (double)(test_rand(&seed) % 44) - 27);
        float f = (float)x;
        if (i % 3 == 0) { /* exactly between two */
            float a = idx_half_to_float((uint16_t)(test_rand(&seed) % 0x7bff)), b = idx_half_to_float((uint16_t)(idx_half_from_float(a) + 1));
            f = (a + b) / 2;
        }
        uint16_t h = idx_half_from_float(f);
        if ((h & 0x7fff) >= 0x7bff) continue; /* the neighbour above is infinite */
        double d = fabs((double)idx_half_to_float(h) - (double)f);
        for (int k = -1; k <= 1; k += 2) {
            if ((h & 0x7fff) == 0 && k < 0) continue;
            double other = fabs((double)idx_half_to_float((uint16_t)(h + k)) - (double)f);
            CHECK(d < other || (d == other && (h & 1) == 0));
        }
    }
    CHECK_INT(idx_half_from_float(65519.9f), 0x7bff);
    CHECK_INT(idx_half_from_float(65520.0f), 0x7c00);
    CHECK_INT(idx_half_from_float(-1e9f), 0xfc00);
}

static float q[MOST];
static int8_t qb[MOST];

static void test_floats(const idx_kernels *k, size_t n, uint64_t *seed)
{
    float *f32[4], out[4];
    uint16_t *f16[4];
    uint8_t *i8[4];
    for (int r = 0; r < 4; r++) {
        f32[r] = guarded(n * 4);
        f16[r] = guarded(n * 2);
        i8[r] = guarded(n);
        for (size_t i = 0; i < n; i++) {
            f32[r][i] = test_randf(seed);
            f16[r][i] = idx_half_from_float(test_randf(seed));
            i8[r][i] = (uint8_t)(1 + test_rand(seed) % 255);
        }
    }
    for (int r = 0; r < 4; r++) {
        double want[3] = {0}, sum[3] = {0};
        for (size_t i = 0; i < n; i++) {
            double v[3] = {(double)f32[r][i], (double)idx_half_to_float(f16[r][i]), (double)i8[r][i] - 128};
            for (int t = 0; t < 3; t++) want[t] += (double)q[i] * v[t], sum[t] += fabs((double)q[i] * v[t]);
        }
        double ulp = 0x1p-24 * (double)n;
        if (n % 16 == 0) CHECK_NEAR((double)k->f32_one(q, f32[r], n), want[0], ulp * sum[0]);
        if (n % 32 == 0) CHECK_NEAR((double)k->f16_one(q, f16[r], n), want[1], ulp * sum[1]);
        if (n % 64 == 0) CHECK_NEAR((double)k->f32_i8(q, i8[r], n), want[2], ulp * sum[2]);
    }
    /* Four rows at once give the same bits, whatever stands beside a row. */
    k->f32_four(q, (const float *const[]){f32[2], f32[0], f32[3], f32[1]}, n, out);
    CHECK(out[0] == k->f32_one(q, f32[2], n) && out[1] == k->f32_one(q, f32[0], n) && out[2] == k->f32_one(q, f32[3], n) && out[3] == k->f32_one(q, f32[1], n));
    if (n % 32 == 0) {
        float wide[MOST];
        k->f16_four(q, (const uint16_t *const[]){f16[1], f16[1], f16[3], f16[0]}, n, out);
        CHECK(out[0] == out[1] && out[1] == k->f16_one(q, f16[1], n) && out[2] == k->f16_one(q, f16[3], n) && out[3] == k->f16_one(q, f16[0], n));
        k->f16_widen(f16[0], n, wide);
        for (size_t i = 0; i < n; i++) CHECK(wide[i] == idx_half_to_float(f16[0][i]));
    }
}

static void test_members(const idx_kernels *k, uint64_t *seed)
{
    enum { BITS = 1024, NUMBERS = 70 };
    uint64_t w[BITS / 64 + 1] = {0};
    for (int i = 0; i < BITS / 64; i++) w[i] = i % 3 == 0 ? 0 : i % 3 == 1 ? UINT64_MAX : test_rand(seed);
    for (uint32_t n = 0; n <= NUMBERS; n++) {
        uint32_t *number = guarded(n * sizeof *number), out[NUMBERS + 16], found = 0;
        for (uint32_t i = 0; i < n; i++) number[i] = i % 11 == 3 ? UINT32_MAX - i : (uint32_t)(test_rand(seed) % (BITS + 100));
        uint32_t got = k->members(w, BITS, number, n, out);
        for (uint32_t i = 0; i < n; i++) {
            if (number[i] >= BITS || (w[number[i] / 64] >> number[i] % 64 & 1) == 0) continue;
            CHECK(found < got && out[found] == i);
            found++;
        }
        CHECK_INT(got, found);
    }
}

static void test_bytes(const idx_kernels *k, size_t n, uint64_t *seed, bool extreme)
{
    uint8_t *row[4];
    int32_t dot[4], square[4], d, s;
    for (int r = 0; r < 4; r++) {
        row[r] = guarded(n);
        for (size_t i = 0; i < n; i++) row[r][i] = extreme ? (r % 2 ? 255 : 1) : (uint8_t)(1 + test_rand(seed) % 255);
    }
    for (size_t i = 0; i < n; i++) qb[i] = (int8_t)(extreme ? (i % 7 ? -127 : 127) : (int)(test_rand(seed) % 255) - 127);
    k->i8_four(qb, (const uint8_t *const[]){row[0], row[1], row[2], row[3]}, n, dot, square);
    for (int r = 0; r < 4; r++) {
        int64_t want = 0, length = 0;
        for (size_t i = 0; i < n; i++) want += qb[i] * (row[r][i] - 128), length += (row[r][i] - 128) * (row[r][i] - 128);
        k->i8_one(qb, row[r], n, &d, &s);
        CHECK_INT(d, want);
        CHECK_INT(s, length);
        CHECK_INT(dot[r], want);
        CHECK_INT(square[r], length);
    }
}

/* A row of each storage stands for what was put in, nearly; its score is the cosine of the two. */
static void test_rows(void)
{
    static const double tolerance[] = {0, 1e-7, 6e-4, 6e-3};
    uint64_t seed = 21;
    for (int s = IDX_FLOAT32; s <= IDX_INT8; s++)
        for (uint32_t dim = 1; dim <= 200; dim += 1 + dim / 9) {
            idx_rows *v;
            float x[200], y[200], back[200], scores[37];
            uint32_t numbers[37];
            REQUIRE(idx_rows_new((idx_storage)s, dim, &v, NULL) == IDX_OK);
            CHECK_INT(v->stride % IDX_ROW_ALIGN, 0);
            _Alignas(IDX_ROW_ALIGN) uint8_t room[8192];
            REQUIRE(idx_probe_bytes(v) <= sizeof room);
            double nx = 0;
            for (uint32_t i = 0; i < dim; i++) x[i] = test_randf(&seed), nx += (double)x[i] * (double)x[i];
            for (uint32_t i = 0; i < dim; i++) x[i] = (float)((double)x[i] / sqrt(nx));
            idx_probe p;
            idx_probe_query(&p, v, x, room);
            for (uint32_t r = 0; r < 37; r++) {
                double ny = 0, want = 0, apart = 0;
                for (uint32_t i = 0; i < dim; i++) y[i] = test_randf(&seed), ny += (double)y[i] * (double)y[i];
                for (uint32_t i = 0; i < dim; i++) y[i] = (float)((double)y[i] / sqrt(ny));
                REQUIRE(idx_rows_room(v, r, NULL) == IDX_OK);
                idx_rows_encode(v, y, idx_rows_at(v, r));
                idx_rows_decode(v, idx_rows_at(v, r), back);
                for (uint32_t i = 0; i < dim; i++) want += (double)x[i] * (double)back[i], apart += pow((double)y[i] - (double)back[i], 2);
                CHECK(sqrt(apart) <= tolerance[s]);
                CHECK_NEAR((double)idx_probe_score(&p, idx_rows_at(v, r)), want, 2e-6);
                numbers[r] = r;
            }
            idx_probe_scores(&p, numbers, 37, scores);
            for (uint32_t r = 0; r < 37; r++) CHECK(scores[r] == idx_probe_score(&p, idx_rows_at(v, r)));
            idx_probe_near(&p, numbers, 37, scores);
            for (uint32_t r = 0; r < 37; r++) CHECK_NEAR((double)scores[r], (double)idx_probe_score(&p, idx_rows_at(v, r)), s == IDX_INT8 ? 0.012 : 0);
            /* A row as the query: what it scores with another one is symmetric. */
            _Alignas(IDX_ROW_ALIGN) uint8_t other[8192];
            idx_probe a, b;
            uint32_t three = 3, nine = 9;
            idx_probe_row(&a, v, idx_rows_at(v, 3), room);
            idx_probe_row(&b, v, idx_rows_at(v, 9), other);
            idx_probe_near(&a, &nine, 1, &scores[0]);
            idx_probe_near(&b, &three, 1, &scores[1]);
            CHECK_NEAR((double)scores[0], (double)scores[1], 1e-6);
            idx_probe_near(&a, &three, 1, &scores[2]);
            CHECK_NEAR((double)scores[2], 1, 1e-3);
            idx_rows_free(v);
        }
    idx_rows *v;
    REQUIRE(idx_rows_new(IDX_FLOAT32, IDX_MAX_DIM, &v, NULL) == IDX_OK); /* rows of many chunks */
    for (uint32_t r = 0; r < 300; r++) {
        REQUIRE(idx_rows_room(v, r, NULL) == IDX_OK);
        memset(idx_rows_at(v, r), (int)r, v->stride);
    }
    for (uint32_t r = 0; r < 300; r++) CHECK_INT(idx_rows_at(v, r)[v->stride - 1], (uint8_t)r);
    CHECK(idx_rows_room(v, IDX_MAX_ROWS, NULL) == IDX_EINVAL);
    idx_rows_free(v);
}

static long huge_kb(void)
{
    char line[200];
    long kb = 0;
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) sscanf(line, "AnonHugePages: %ld", &kb);
    if (f != NULL) fclose(f);
    return kb;
}

/* Whether this machine gives huge pages at all. */
static bool are_huge_pages(void)
{
    enum { BYTES = 8 << 20 };
    const long before = huge_kb();
    uint8_t *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(p != MAP_FAILED);
    madvise(p, BYTES, MADV_HUGEPAGE);
    memset(p, 1, BYTES);
    const bool are = huge_kb() > before;
    munmap(p, BYTES);
    return are;
}

enum { SETTLED = 10000 }; /* rows, of some chunks */
static _Atomic bool settled;

static void *read_rows(void *arg)
{
    const idx_rows *v = arg;
    for (uint32_t r = 0; !settled; r = (r + 7) % SETTLED) {
        const uint8_t *row = idx_rows_at(v, r);
        if (row[0] != (uint8_t)r || row[v->stride - 1] != (uint8_t)r) {
            TEST_FAIL("row %" PRIu32 " is not what it was", r);
            break;
        }
    }
    return NULL;
}

/* Full chunks come to lie on huge pages, where they were, while somebody reads them. */
static void test_settle(void)
{
    idx_rows *v;
    pthread_t reader;
    REQUIRE(idx_rows_new(IDX_FLOAT32, 512, &v, NULL) == IDX_OK);
    for (uint32_t r = 0; r < SETTLED; r++) {
        REQUIRE(idx_rows_room(v, r, NULL) == IDX_OK);
        memset(idx_rows_at(v, r), (int)r, v->stride);
    }
    REQUIRE(v->n_chunks > 3);
    const uint8_t *was = idx_rows_at(v, SETTLED / 2);
    const bool are_huge = are_huge_pages();
    const long before = huge_kb();
    CHECK(!idx_rows_settled(v, SETTLED));
    REQUIRE(pthread_create(&reader, NULL, read_rows, v) == 0);
    idx_rows_settle(v, SETTLED);
    settled = true;
    pthread_join(reader, NULL);
    CHECK(idx_rows_settled(v, SETTLED));
    CHECK(idx_rows_at(v, SETTLED / 2) == was);
    for (uint32_t r = 0; r < SETTLED; r++)
        for (size_t i = 0; i < v->stride; i += 64) REQUIRE(idx_rows_at(v, r)[i] == (uint8_t)r);
    if (are_huge) CHECK(huge_kb() > before);
    idx_rows_free(v);
}

/* Rows are compared by the last of the kernels that this processor has, or by those that IDX_CPU names. */
static void test_in_use(void)
{
    const idx_kernels *want = idx_kernels_at(0);
    const char *name = getenv("IDX_CPU");
    idx_rows *v;
    bool named = false;
    CHECK_STR(want->name, "scalar");
    for (size_t i = 0; idx_kernels_at(i) != NULL && !named; i++) {
        want = idx_kernels_at(i);
        named = name != NULL && strcmp(want->name, name) == 0;
    }
    REQUIRE(idx_rows_new(IDX_FLOAT16, 24, &v, NULL) == IDX_OK);
    CHECK(idx_kernels_get() == want);
    CHECK(v->k == want);
#if defined(__x86_64__)
    if (name == NULL && __builtin_cpu_supports("avx512f")) CHECK(want->f32_four != idx_kernels_at(0)->f32_four && strcmp(want->name, "avx2") != 0);
    if (name == NULL && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) CHECK(want != idx_kernels_at(0));
#elif defined(__aarch64__)
    if (name == NULL) CHECK(want != idx_kernels_at(0));
#endif
    idx_rows_free(v);
}

int main(void)
{
    test_in_use();
    test_settle();
    uint64_t seed = 7;
    test_halves();
    for (size_t i = 0; i < MOST; i++) q[i] = test_randf(&seed);
    for (size_t t = 0; idx_kernels_at(t) != NULL; t++) {
        const idx_kernels *k = idx_kernels_at(t);
        printf("%s%s\n", k->name, k == idx_kernels_get() ? " (in use)" : "");
        for (size_t n = 16; n <= MOST; n += n < 512 ? 16 : 256) test_floats(k, n, &seed);
        for (size_t n = 64; n <= MOST; n += n < 512 ? 64 : 512) {
            test_bytes(k, n, &seed, false);
            test_bytes(k, n, &seed, true);
        }
        test_members(k, &seed);
    }
    for (size_t n = 0; n < 70; n++) { /* rows of any length and alignment */
        double want = 0;
        for (size_t i = 0; i < n; i++) want += (double)q[i + 1] * (double)q[i + 200];
        CHECK_NEAR((double)idx_dot(q + 1, q + 200, n), want, 1e-5);
    }
    test_rows();
    return test_end();
}
