/* The parts that attributes in memory are made of, against plain arrays: columns, sorted numbers with enough items for marks,
 * texts, postings. */
#include "../../index/attrs.h"
#include "test.h"

static uint64_t seed = 3;
static uint32_t below(uint32_t n) { return (uint32_t)(test_rand(&seed) % n); }

static void test_column(uint32_t span, uint32_t steps)
{
    idx_column c = {0};
    uint64_t *plain = calloc(span, sizeof *plain);
    uint32_t used = 0;
    for (uint32_t s = 0; s < steps; s++) {
        uint32_t item = below(span);
        uint64_t v = below(3) == 0 ? 0 : test_rand(&seed) >> below(64);
        used += (v != 0) - (plain[item] != 0 ? 1u : 0u);
        plain[item] = v;
        CHECK(idx_column_set(&c, item, v));
        item = below(span);
        CHECK(idx_column_get(&c, item) == plain[item]);
    }
    for (uint32_t i = 0; i < span; i++) CHECK(idx_column_get(&c, i) == plain[i]);
    CHECK_INT(idx_column_get(&c, span + 5000), 0);
    CHECK_INT(c.used, used);
    for (uint32_t i = 0; i < span; i++) CHECK(idx_column_set(&c, i, 0));
    CHECK_INT(c.used, 0);
    idx_column_free(&c);
    free(plain);
}

/* Few items of a wide catalogue must not cost what the catalogue is wide. */
static void test_sparse_column(void)
{
    idx_column c = {0};
    for (uint32_t i = 0; i < 10000; i++) CHECK(idx_column_set(&c, i * 1000, i + 1));
    CHECK(idx_column_bytes(&c) < 10000 * 32);
    idx_column_free(&c);
    for (uint32_t i = 0; i < 1000000; i++) REQUIRE(idx_column_set(&c, i, i % 200 + 1));
    CHECK(idx_column_bytes(&c) < 1100000);
    idx_column_free(&c);
}

static double some_number(int kind) { return kind == 0 ? (double)below(1000) / 10 : kind == 1 ? (double)below(3) : (double)test_randf(&seed) * 1e6; }

static void check_range(const idx_sorted *s, const double *plain, const bool *there, uint32_t n, double lo, double hi)
{
    uint32_t from = idx_sorted_rank(s, lo, false), to = idx_sorted_rank(s, hi, true), want = 0, wrong = 0;
    idx_bits b;
    REQUIRE(idx_bits_new(&b, n));
    idx_sorted_range(s, from, to, b);
    for (uint32_t i = 0; i < n; i++) {
        bool in = there[i] && plain[i] >= lo && plain[i] <= hi;
        want += in;
        wrong += idx_bit(b.w, i) != in;
    }
    CHECK_INT(wrong, 0);
    if (lo <= hi) CHECK_INT(to - from, want);
    CHECK_INT(idx_bits_count(b.w, b.n_words), lo <= hi ? want : 0);
    idx_bits_free(&b);
}

/* kind: of the numbers. 2 % of the steps look at ranges. */
static void test_sorted(uint32_t n, uint32_t steps, int kind)
{
    idx_column c = {0};
    idx_sorted *s = idx_sorted_new(&c);
    double *plain = calloc(n, sizeof *plain);
    bool *there = calloc(n, sizeof *there);
    for (uint32_t i = 0; i < n; i++) {
        if (below(10) == 0) continue;
        plain[i] = some_number(kind);
        there[i] = true;
        REQUIRE(idx_column_set(&c, i, idx_number_pack(plain[i])));
    }
    REQUIRE(idx_sorted_fill(s));
    CHECK(idx_sorted_check(s));
    for (uint32_t k = 0; k < steps; k++) {
        uint32_t i = below(n);
        if (there[i]) idx_sorted_remove(s, i);
        there[i] = below(k % 2000 < 1000 ? 3 : 8) != 0; /* it shrinks and grows */
        plain[i] = some_number(kind);
        REQUIRE(idx_column_set(&c, i, there[i] ? idx_number_pack(plain[i]) : 0));
        if (there[i]) REQUIRE(idx_sorted_add(s, i));
        if (k % 50 != 0) continue;
        double lo = below(4) == 0 ? -1e9 : some_number(kind), hi = below(4) == 0 ? 1e9 : some_number(kind);
        check_range(s, plain, there, n, lo, hi);
    }
    CHECK(idx_sorted_check(s));
    for (uint32_t r = 0; r < idx_sorted_count(s); r += 97) CHECK(there[idx_sorted_at(s, r)]);
    for (uint32_t i = 0; i < n; i++)
        if (there[i]) {
            idx_sorted_remove(s, i);
            REQUIRE(idx_column_set(&c, i, 0));
        }
    CHECK_INT(idx_sorted_count(s), 0);
    CHECK(idx_sorted_check(s));
    idx_sorted_free(s);
    idx_column_free(&c);
    free(plain);
    free(there);
}

/* One after the other from nothing, as an import does: marks come by themselves. */
static void test_sorted_growth(uint32_t n)
{
    idx_column c = {0};
    idx_sorted *s = idx_sorted_new(&c);
    double *plain = calloc(n, sizeof *plain);
    bool *there = calloc(n, sizeof *there);
    for (uint32_t i = 0; i < n; i++) {
        plain[i] = below(2) ? i : some_number(0);
        there[i] = true;
        REQUIRE(idx_column_set(&c, i, idx_number_pack(plain[i])) && idx_sorted_add(s, i));
    }
    CHECK(idx_sorted_check(s));
    CHECK(idx_sorted_bytes(s) < n * 16ull); /* marks do not run away */
    for (int k = 0; k < 50; k++) check_range(s, plain, there, n, below(n), below(n));
    idx_sorted_free(s);
    idx_column_free(&c);
    free(plain);
    free(there);
}

/* Runs of any length, empty ones and some that end with the last bit. */
static void check_runs(idx_bits b, uint32_t n)
{
    uint32_t start[100], count[99];
    start[0] = below(100);
    for (int i = 1; i < 100; i++) {
        uint32_t to = start[i - 1] + below(4) * below(60);
        start[i] = to < n ? to : n;
    }
    idx_bits_count_runs(b.w, start, 99, count);
    for (int i = 0; i < 99; i++) {
        uint32_t want = 0;
        for (uint32_t k = start[i]; k < start[i + 1]; k++) want += idx_bit(b.w, k);
        CHECK_INT(count[i], want);
    }
}

static void test_postings(void)
{
    enum { N = 3000 };
    static bool plain[N];
    for (int round = 0; round < 40; round++) {
        idx_posting p = {0};
        memset(plain, 0, sizeof plain);
        uint32_t most = round % 4 == 0 ? 1 : round % 4 == 1 ? 6 : round % 4 == 2 ? 25 : N, n = 0;
        for (int k = 0; k < 200; k++) {
            uint32_t i = below(most) * (N / most);
            if (below(3) != 0) {
                CHECK(idx_posting_add(&p, i));
                n += !plain[i];
                plain[i] = true;
            } else {
                idx_posting_remove(&p, i);
                n -= plain[i];
                plain[i] = false;
            }
            CHECK_INT(idx_posting_count(&p), n);
            CHECK(idx_posting_empty(&p) == (n == 0));
        }
        idx_bits b, half;
        REQUIRE(idx_bits_new(&b, N) && idx_bits_new(&half, N / 2));
        idx_posting_or(&p, b);
        idx_posting_or(&p, half); /* what is beyond it is left out */
        uint32_t odd = 0;
        idx_bits odds;
        REQUIRE(idx_bits_new(&odds, N));
        for (uint32_t i = 0; i < N; i++) {
            CHECK(idx_bit(b.w, i) == plain[i] && idx_posting_has(&p, i) == plain[i]);
            if (i < N / 2) CHECK(idx_bit(half.w, i) == plain[i]);
            if (i % 2) idx_bit_set(odds.w, i), odd += plain[i];
        }
        CHECK_INT(idx_posting_count_and(&p, odds), odd);
        check_runs(b, N);
        idx_bits_free(&b);
        idx_bits_free(&half);
        idx_bits_free(&odds);
        idx_posting_free(&p);
    }
}

/* A bitmap of every kind of container. */
static void test_words(void)
{
    roaring_bitmap_t *r = roaring_bitmap_create();
    uint32_t n = 400000;
    for (uint32_t i = 0; i < n; i++)
        if (i < 65536 ? i % 1000 == 3 : i < 200000 ? i % 3 != 0 : i > 250000 && i < 390000) roaring_bitmap_add(r, i);
    roaring_bitmap_run_optimize(r);
    idx_bits b, cut;
    REQUIRE(idx_bits_new(&b, n) && idx_bits_new(&cut, 300000));
    idx_bits_or_roaring(b, r);
    idx_bits_or_roaring(cut, r);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < n; i++) wrong += idx_bit(b.w, i) != roaring_bitmap_contains(r, i);
    for (uint32_t i = 0; i < 300000; i++) wrong += idx_bit(cut.w, i) != roaring_bitmap_contains(r, i);
    CHECK_INT(wrong, 0);
    CHECK_INT(idx_bits_count(b.w, b.n_words), roaring_bitmap_get_cardinality(r));
    idx_bits_iter it = idx_bits_begin(b);
    uint64_t seen = 0;
    for (uint32_t i, last = 0; idx_bits_next(&it, &i); last = i, seen++) CHECK(roaring_bitmap_contains(r, i) && (seen == 0 || i > last));
    CHECK_INT(seen, roaring_bitmap_get_cardinality(r));
    idx_bits_free(&b);
    idx_bits_free(&cut);
    roaring_bitmap_free(r);
}

/* Texts that come and go leave nothing behind. */
static void test_values(void)
{
    idx_values d = {0};
    char text[40];
    for (uint32_t i = 0; i < 100000; i++) {
        snprintf(text, sizeof text, "updated-%u", i);
        uint32_t v = idx_values_make(&d, text);
        REQUIRE(v != UINT32_MAX && idx_values_add(&d, v, i, i % 2));
        if (i < 100) continue;
        snprintf(text, sizeof text, "updated-%u", i - 100);
        v = idx_values_find(&d, text);
        REQUIRE(v != UINT32_MAX);
        idx_values_drop(&d, v, i - 100, i % 2);
        CHECK_INT(idx_values_find(&d, text), UINT32_MAX);
    }
    CHECK_INT(d.live, 100);
    CHECK(d.n <= 101);
    idx_values_free(&d);
}

int main(void)
{
    test_column(300, 5000);
    test_column(20000, 60000);
    test_column(5000000, 3000);
    test_sparse_column();
    for (int kind = 0; kind < 3; kind++) {
        test_sorted(2000, 4000, kind);
        test_sorted(150000, 8000, kind);
    }
    test_sorted_growth(200000);
    test_postings();
    test_words();
    test_values();
    return test_end();
}
