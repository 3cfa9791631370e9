/* What is made for rows to come takes no memory before they do: the last chunk of vectors, and the room of a graph. */
#include "../../index/ann.h"
#include "test.h"

enum { DIM = 256, ROWS = 40000, STEP = 1000 };

static int64_t resident_kib(void)
{
#if defined(__SANITIZE_THREAD__)
    return 0; /* its own records of every byte count, too */
#endif
    char line[200];
    long long kib = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) sscanf(line, "RssAnon: %lld", &kib);
    if (f != NULL) fclose(f);
    return kib;
}

static void fill_row(const idx_rows *r, uint32_t i) { memset(idx_rows_at(r, i), (int)(i * 7 % 251 + 1), r->stride); }

static bool is_filled(const idx_rows *r, uint32_t i)
{
    const uint8_t *p = idx_rows_at(r, i), is = (uint8_t)(i * 7 % 251 + 1);
    return p[0] == is && memcmp(p, p + 1, r->stride - 1) == 0;
}

/* With pages for all that is expected, or gathered as chunks become full. */
static void vectors(uint32_t expected)
{
    idx_rows *r = NULL;
    idx_error e = {0};
    REQUIRE(idx_rows_new(IDX_INT8, DIM, &r, &e) == IDX_OK);
    r->expected = expected;
    const int64_t before = resident_kib();
    for (uint32_t i = 0; i < ROWS; i++) {
        REQUIRE(idx_rows_room(r, i, &e) == IDX_OK);
        fill_row(r, i);
        if (i % STEP != STEP - 1) continue;
        idx_rows_settle(r, i + 1);
        const int64_t took = resident_kib() - before, want = (int64_t)(i + 1) * (int64_t)r->stride / 1024;
        if (took > want + 600 + (expected > 0 ? 2048 : 0) /* a huge page that is not full yet */) TEST_FAIL("%u rows of %zu bytes take %" PRId64 " KiB", i + 1, r->stride, took);
    }
    CHECK_INT(idx_rows_bytes(r), ROWS * r->stride);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < ROWS; i++) wrong += !is_filled(r, i);
    CHECK_INT(wrong, 0);
    idx_rows_free(r);
}

static void graph(void)
{
    enum { LINKED = 500, ROOM = 200000 };
    idx_rows *r = NULL;
    idx_ann *a = NULL, *grown = NULL;
    idx_error e = {0};
    uint64_t seed = 1, alive[LINKED / 64 + 1];
    REQUIRE(idx_rows_new(IDX_FLOAT32, 16, &r, &e) == IDX_OK && idx_rows_room(r, 2 * LINKED, &e) == IDX_OK);
    for (uint32_t i = 0; i < 2 * LINKED; i++)
        for (int k = 0; k < 16; k++) ((float *)(void *)idx_rows_at(r, i))[k] = test_randf(&seed);
    for (size_t i = 0; i < sizeof alive / sizeof *alive; i++) alive[i] = ~(UINT64_C(1) << 5); /* one of 64 is not linked */
    const int64_t before = resident_kib();
    REQUIRE(idx_ann_new(r, 16, 40, ROOM, &a, &e) == IDX_OK && idx_ann_link(a, LINKED, alive, false, NULL, &e) == IDX_OK);
    CHECK(resident_kib() - before < ROOM * 16 / 1024 + 6000); /* levels and offsets; and a page or two of 2 MiB */
    for (size_t i = a->g.offsets[5]; i < a->g.offsets[6]; i++) CHECK_INT(a->g.links[i], -1);
    REQUIRE(idx_ann_grown(a, 2 * ROOM, &grown, &e) == IDX_OK && idx_ann_link(grown, 2 * LINKED, NULL, false, NULL, &e) == IDX_OK);
    uint32_t found = 0;
    for (uint32_t i = 0; i < 2 * LINKED; i++) {
        idx_scratch *s = idx_scratch_take(grown->g.capacity);
        REQUIRE(s != NULL);
        idx_probe p;
        const idx_near *near;
        uint32_t n;
        uint64_t distances = 0;
        idx_probe_row(&p, r, idx_rows_at(r, i), NULL);
        REQUIRE(idx_ann_search(grown, s, &p, 200, NULL, &near, &n, &distances, &e) == IDX_OK);
        for (uint32_t k = 0; k < n; k++) found += near[k].row == i;
        idx_scratch_give(s);
    }
    CHECK(found >= 2 * LINKED - LINKED / 64 - 15); /* but for those that were left out */
    idx_ann_free(a);
    idx_ann_free(grown);
    idx_rows_free(r);
    idx_scratch_drop_all();
}

int main(void)
{
    vectors(0);
    vectors(ROWS);
    graph();
    return test_end();
}
