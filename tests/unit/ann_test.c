/* The graph: our walk and our links beside FAISS's own over the same rows; searches while rows are linked; who may be in an answer. */
#include "../../index/ann.h"
#include "../../index/ann_shim.h"
#include "../faiss_plain.h"
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>

enum { DIM = 40, ROWS = 3000, QUERIES = 60, K = 10 };

static float rows[ROWS][DIM], queries[QUERIES][DIM];
static uint32_t truth[QUERIES][K];

static void unit(float *v, uint64_t *seed, const float *near)
{
    double norm = 0;
    for (int i = 0; i < DIM; i++) {
        v[i] = (near != NULL ? near[i] * 3 : 0) + test_randf(seed);
        norm += (double)v[i] * (double)v[i];
    }
    for (int i = 0; i < DIM; i++) v[i] = (float)((double)v[i] / sqrt(norm));
}

static void make_data(void)
{
    uint64_t seed = 11;
    float centre[30][DIM];
    for (int i = 0; i < 30; i++) unit(centre[i], &seed, NULL);
    for (int i = 0; i < ROWS; i++) unit(rows[i], &seed, centre[i % 30]);
    for (int i = 0; i < QUERIES; i++) {
        float best[K];
        unit(queries[i], &seed, centre[i % 30]);
        for (int k = 0; k < K; k++) best[k] = -2;
        for (uint32_t r = 0; r < ROWS; r++) {
            float s = idx_dot(queries[i], rows[r], DIM);
            int k = K - 1;
            if (s <= best[k]) continue;
            for (; k > 0 && s > best[k - 1]; k--) best[k] = best[k - 1], truth[i][k] = truth[i][k - 1];
            best[k] = s;
            truth[i][k] = r;
        }
    }
}

static idx_rows *make_rows(idx_storage s)
{
    idx_rows *v;
    REQUIRE(idx_rows_new(s, DIM, &v, NULL) == IDX_OK);
    for (uint32_t i = 0; i < ROWS; i++) {
        REQUIRE(idx_rows_room(v, i, NULL) == IDX_OK);
        idx_rows_encode(v, rows[i], idx_rows_at(v, i));
    }
    return v;
}

static uint32_t search(const idx_ann *a, const float *query, uint32_t ef, const idx_allow *allow, idx_near *out, uint32_t most)
{
    const idx_near *near = NULL;
    uint32_t n;
    uint64_t distances = 0;
    idx_probe p;
    idx_scratch *s = idx_scratch_take(a->g.capacity);
    REQUIRE(s != NULL);
    _Alignas(IDX_ROW_ALIGN) uint8_t room[1024];
    idx_probe_query(&p, a->g.rows, query, room);
    REQUIRE(idx_ann_search(a, s, &p, ef, allow, &near, &n, &distances, NULL) == IDX_OK);
    CHECK(distances >= n);
    if (n > most) n = most;
    if (n > 0) memcpy(out, near, n * sizeof *out);
    idx_scratch_give(s);
    return n;
}

static double recall(const idx_ann *a, uint32_t ef)
{
    uint32_t hits = 0;
    for (int q = 0; q < QUERIES; q++) {
        idx_near near[K];
        uint32_t n = search(a, queries[q], ef, NULL, near, K);
        for (uint32_t i = 0; i < n; i++)
            for (int k = 0; k < K; k++) hits += near[i].row == truth[q][k];
    }
    return (double)hits / (QUERIES * K);
}

/* FAISS's search over our graph finds what ours finds, and the other way round; what FAISS links is as good as what we link. */
static void test_beside_faiss(idx_storage s)
{
    idx_rows *v = make_rows(s);
    idx_ann *ours, *theirs;
    REQUIRE(idx_ann_new(v, 12, 60, ROWS, &ours, NULL) == IDX_OK && idx_ann_new(v, 12, 60, ROWS, &theirs, NULL) == IDX_OK);
    REQUIRE(idx_ann_link(ours, ROWS, NULL, false, NULL, NULL) == IDX_OK);
    REQUIRE(idx_faiss_insert(&theirs->g, 0, ROWS) == 0);
    atomic_store(&theirs->linked, ROWS);
    CHECK_INT(idx_ann_linked(ours), ROWS);
    uint32_t agree = 0, of = 0;
    double sum[2] = {0, 0};
    uint64_t walks = idx_ann_walks();
    for (int g = 0; g < 2; g++)
        for (int q = 0; q < QUERIES; q++) {
            idx_near near[40];
            float scores[40];
            int64_t labels[40];
            uint32_t n = search(g == 0 ? ours : theirs, queries[q], 40, NULL, near, 40);
            CHECK_INT(n, 40);
            REQUIRE(idx_faiss_search(g == 0 ? &ours->g : &theirs->g, ROWS, queries[q], 40, 40, NULL, scores, labels) == 0);
            for (uint32_t i = 0; i < n; i++) {
                agree += near[i].row == labels[i];
                sum[0] += (double)near[i].score, sum[1] += (double)scores[i];
                of++;
                if (i > 0) CHECK(near[i].score <= near[i - 1].score);
                if (near[i].row == labels[i]) CHECK_NEAR((double)near[i].score, (double)scores[i], 1e-6);
            }
        }
    CHECK_INT(idx_ann_walks() - walks, 2 * QUERIES);
    CHECK(agree >= of * 9 / 10);        /* FAISS gives up a little earlier */
    CHECK(sum[0] >= sum[1] - 1e-3); /* and never finds better ones */
    double a = recall(ours, 40), b = recall(theirs, 40);
    CHECK(a >= 0.95 - (s == IDX_INT8 ? 0.05 : 0));
    CHECK(a >= b - 0.02);
    CHECK(recall(ours, 200) >= recall(ours, 10));
    idx_ann_free(ours);
    idx_ann_free(theirs);
    idx_rows_free(v);
}

/* And all of it beside FAISS as the package has it. */
static void test_beside_plain(void)
{
    faiss_plain *p = faiss_plain_new(DIM, 12, 60);
    idx_rows *v = make_rows(IDX_FLOAT32);
    idx_ann *a;
    uint32_t hits = 0;
    REQUIRE(p != NULL && faiss_plain_add(p, ROWS, rows[0]) == 0);
    REQUIRE(idx_ann_new(v, 12, 60, ROWS, &a, NULL) == IDX_OK && idx_ann_link(a, ROWS, NULL, false, NULL, NULL) == IDX_OK);
    for (int q = 0; q < QUERIES; q++) {
        float scores[K];
        int64_t labels[K];
        REQUIRE(faiss_plain_search(p, queries[q], K, 40, scores, labels) == 0);
        for (int i = 0; i < K; i++)
            for (int k = 0; k < K; k++) hits += labels[i] == truth[q][k];
    }
    CHECK(recall(a, 40) >= (double)hits / (QUERIES * K) - 0.02);
    faiss_plain_free(p);
    idx_ann_free(a);
    idx_rows_free(v);
}

/* Rows that are dead when they come are not linked; a graph grows and stays what it was; several threads link as well as one. */
static void test_links(void)
{
    idx_rows *v = make_rows(IDX_FLOAT16);
    idx_ann *a, *grown, *many;
    uint64_t alive[ROWS / 64 + 1];
    memset(alive, 0xff, sizeof alive);
    for (uint32_t i = 0; i < ROWS; i += 7) alive[i / 64] &= ~(UINT64_C(1) << i % 64);
    REQUIRE(idx_ann_new(v, 12, 60, 1000, &a, NULL) == IDX_OK);
    CHECK(idx_ann_link(a, 1001, NULL, false, NULL, NULL) == IDX_ENOMEM);
    REQUIRE(idx_ann_link(a, 1000, alive, false, NULL, NULL) == IDX_OK);
    REQUIRE(idx_ann_grown(a, ROWS, &grown, NULL) == IDX_OK);
    CHECK_INT(idx_ann_linked(grown), 1000);
    for (int q = 0; q < QUERIES; q++) {
        idx_near x[20], y[20];
        uint32_t n = search(a, queries[q], 20, NULL, x, 20);
        CHECK_INT(search(grown, queries[q], 20, NULL, y, 20), n);
        for (uint32_t i = 0; i < n; i++) CHECK(x[i].row == y[i].row && x[i].score == y[i].score && x[i].row % 7 != 0);
    }
    REQUIRE(idx_ann_link(grown, ROWS, NULL, false, NULL, NULL) == IDX_OK);
    idx_ann_free(a);
    idx_ann_free(grown);
    _Atomic bool stop = true;
    REQUIRE(idx_ann_new(v, 12, 60, ROWS, &many, NULL) == IDX_OK);
    CHECK(idx_ann_link(many, ROWS, NULL, false, &stop, NULL) == IDX_EBUSY);
    REQUIRE(idx_ann_link_many(many, ROWS, NULL, 4, NULL, NULL) == IDX_OK);
    CHECK(recall(many, 40) >= 0.95);
    idx_ann_free(many);
    idx_rows_free(v);
}

/* Rows that were linked in a hurry are found; once they are mended, as well as those that never were. */
static void test_hurry(idx_storage s)
{
    idx_rows *v = make_rows(s);
    idx_ann *a, *grown, *careful, *heir;
    static uint32_t same[ROWS];
    uint64_t alive[ROWS / 64 + 1];
    idx_near x[ROWS];
    memset(alive, 0xff, sizeof alive);
    for (uint32_t i = 0; i < ROWS; i++) same[i] = i;
    REQUIRE(idx_ann_new(v, 6, 80, ROWS, &careful, NULL) == IDX_OK && idx_ann_link(careful, ROWS, NULL, false, NULL, NULL) == IDX_OK);
    CHECK_INT(idx_ann_careful(careful), ROWS);
    REQUIRE(idx_ann_new(v, 6, 80, 2000, &a, NULL) == IDX_OK && idx_ann_link(a, 500, NULL, false, NULL, NULL) == IDX_OK);
    REQUIRE(idx_ann_link(a, 1000, NULL, true, NULL, NULL) == IDX_OK && idx_ann_link(a, 1500, NULL, false, NULL, NULL) == IDX_OK);
    CHECK_INT(idx_ann_careful(a), 500); /* of those behind, some were not */
    REQUIRE(idx_ann_grown(a, ROWS, &grown, NULL) == IDX_OK && idx_ann_link(grown, ROWS, NULL, true, NULL, NULL) == IDX_OK);
    CHECK_INT(idx_ann_careful(grown), 500);
    CHECK_INT(idx_ann_linked(grown), ROWS);
    REQUIRE(idx_ann_heir(grown, v, same, ROWS, ROWS, &heir, NULL) == IDX_OK && idx_ann_inherit(heir, ROWS, grown, same, same, ROWS, NULL, NULL) == IDX_OK);
    CHECK_INT(idx_ann_careful(heir), 500);
    const double best = recall(careful, 40), before = recall(grown, 40);
    _Atomic bool stop = true;
    alive[700 / 64] &= ~(UINT64_C(1) << 700 % 64);
    const int32_t dead = grown->g.links[grown->g.offsets[700]];
    CHECK(idx_ann_mend(grown, ROWS, alive, &stop, NULL) == IDX_EBUSY);
    CHECK_INT(idx_ann_careful(grown), 500);
    REQUIRE(idx_ann_mend(grown, 1200, alive, NULL, NULL) == IDX_OK);
    CHECK_INT(idx_ann_careful(grown), 1200);
    CHECK_INT(grown->g.links[grown->g.offsets[700]], dead); /* it is left alone */
    REQUIRE(idx_ann_mend(grown, ROWS, alive, NULL, NULL) == IDX_OK);
    CHECK_INT(idx_ann_careful(grown), ROWS);
    CHECK(before < best - 0.005); /* else this says nothing */
    CHECK(recall(grown, 40) >= best - 0.005);
    CHECK_INT(search(grown, queries[0], ROWS, NULL, x, ROWS), ROWS); /* nothing is out of reach */
    for (uint32_t r = 0; r < ROWS; r++) { /* no list names a row twice, or its own, or goes on behind its end */
        const int32_t *l = grown->g.links + grown->g.offsets[r];
        for (uint32_t i = 0; i < 12; i++) {
            CHECK(l[i] < 0 || l[i] != (int32_t)r);
            CHECK(i == 0 || l[i] < 0 || l[i - 1] >= 0);
            for (uint32_t k = 0; k < i; k++) CHECK(l[i] < 0 || l[i] != l[k]);
        }
    }
    idx_ann_free(a);
    idx_ann_free(grown);
    idx_ann_free(careful);
    idx_ann_free(heir);
    idx_rows_free(v);
}

/* Two graphs of the rows that live: one inherits from that of all, one is linked anew. They find the same, and the first all there are. */
static void test_inherit(idx_storage s, uint32_t gone)
{
    idx_rows *v = make_rows(s), *living;
    idx_ann *old, *heir, *linked;
    static uint32_t from[ROWS], now[ROWS];
    uint32_t n = 0, late = ROWS - 100, mended, hits[2] = {0}, all = 0;
    REQUIRE(idx_ann_new(v, 12, 60, ROWS, &old, NULL) == IDX_OK && idx_ann_link(old, late, NULL, false, NULL, NULL) == IDX_OK);
    REQUIRE(idx_rows_new(s, DIM, &living, NULL) == IDX_OK);
    memset(now, 0xff, sizeof now);
    for (uint32_t i = 0; i < late; i++) {
        if (i * 2654435761u % 4096 % 12 < gone) continue; /* of all clusters */
        REQUIRE(idx_rows_room(living, n, NULL) == IDX_OK);
        memcpy(idx_rows_at(living, n), idx_rows_at(v, i), v->stride);
        from[n] = i;
        now[i] = n++;
    }
    REQUIRE(idx_ann_new(living, 12, 60, n, &linked, NULL) == IDX_OK && idx_ann_link(linked, n, NULL, false, NULL, NULL) == IDX_OK);
    REQUIRE(idx_ann_heir(old, living, from, n, n + 10, &heir, NULL) == IDX_OK);
    CHECK_INT(idx_ann_linked(heir), 0);
    _Atomic bool stop = true;
    CHECK(idx_ann_inherit(heir, n, old, from, now, late, &stop, NULL) == IDX_EBUSY);
    REQUIRE(idx_ann_inherit(heir, n / 2, old, from, now, late, NULL, NULL) == IDX_OK);
    REQUIRE(idx_ann_link(old, ROWS, NULL, false, NULL, NULL) == IDX_OK); /* rows that the heir does not know */
    REQUIRE(idx_ann_inherit(heir, n, old, from, now, late, NULL, NULL) == IDX_OK);
    REQUIRE(idx_ann_inherit_end(heir, NULL, &mended, NULL) == IDX_OK);
    CHECK_INT(idx_ann_linked(heir), n);
    for (int q = 0; q < QUERIES; q++)
        for (int g = 0; g < 2; g++) {
            idx_near x[K], best[ROWS];
            CHECK_INT(search(g == 0 ? heir : linked, queries[q], 40, NULL, x, K), K);
            uint32_t b = search(linked, queries[q], n, NULL, best, K); /* all there are */
            for (uint32_t i = 0; i < K; i++)
                for (uint32_t k = 0; k < b; k++) hits[g] += x[i].row == best[k].row;
            all += g == 0 ? b : 0;
        }
    CHECK(hits[0] >= hits[1] - all / 50);
    idx_near everything[ROWS];
    CHECK_INT(search(heir, queries[0], n, NULL, everything, ROWS), n); /* nothing is out of reach */
    for (uint32_t i = 0; i < n; i++) CHECK(heir->g.levels[i] <= *heir->g.top + 1);
    idx_ann_free(old);
    idx_ann_free(heir);
    idx_ann_free(linked);
    idx_rows_free(v);
    idx_rows_free(living);
}

/* All that linked two halves is gone: what nothing leads to any more is linked again. */
static void test_inherit_bridges(void)
{
    idx_rows *v = make_rows(IDX_FLOAT32), *living;
    idx_ann *old, *heir;
    static uint32_t from[ROWS], now[ROWS];
    uint32_t n = 0, mended;
    REQUIRE(idx_ann_new(v, 12, 60, ROWS, &old, NULL) == IDX_OK && idx_ann_link(old, ROWS, NULL, false, NULL, NULL) == IDX_OK);
    REQUIRE(idx_rows_new(IDX_FLOAT32, DIM, &living, NULL) == IDX_OK);
    memset(now, 0xff, sizeof now);
    for (uint32_t i = 0; i < ROWS; i += 301) { /* of some clusters one row each, between which are no links */
        REQUIRE(idx_rows_room(living, n, NULL) == IDX_OK);
        memcpy(idx_rows_at(living, n), idx_rows_at(v, i), v->stride);
        from[n] = i;
        now[i] = n++;
    }
    REQUIRE(idx_ann_heir(old, living, from, n, n, &heir, NULL) == IDX_OK &&
            idx_ann_inherit(heir, n, old, from, now, ROWS, NULL, NULL) == IDX_OK);
    REQUIRE(idx_ann_inherit_end(heir, NULL, &mended, NULL) == IDX_OK);
    CHECK(mended > 0);
    idx_near x[ROWS];
    CHECK_INT(search(heir, queries[0], n, NULL, x, ROWS), n);
    idx_ann_free(old);
    idx_ann_free(heir);
    idx_rows_free(v);
    idx_rows_free(living);
}

static bool even(const void *ctx, uint32_t row) { return ctx != NULL && row % 2 == 0; }

static void test_allowed(void)
{
    idx_rows *v = make_rows(IDX_FLOAT32);
    idx_ann *a;
    uint64_t bits[ROWS / 64 + 1] = {0};
    uint8_t bytes[ROWS / 8 + 1] = {0};
    for (uint32_t i = 0; i < ROWS; i += 3) bits[i / 64] |= UINT64_C(1) << i % 64, bytes[i / 8] = (uint8_t)(bytes[i / 8] | 1 << i % 8);
    REQUIRE(idx_ann_new(v, 12, 60, ROWS, &a, NULL) == IDX_OK && idx_ann_link(a, ROWS, NULL, false, NULL, NULL) == IDX_OK);
    for (int q = 0; q < QUERIES; q++) {
        idx_near x[ROWS];
        float scores[30];
        int64_t labels[30];
        uint32_t n = search(a, queries[q], 30, &(idx_allow){.rows = bits}, x, 30);
        CHECK_INT(n, 30);
        REQUIRE(idx_faiss_search(&a->g, ROWS, queries[q], 30, 30, bytes, scores, labels) == 0);
        for (uint32_t i = 0; i < n; i++) CHECK_INT(x[i].row % 3, 0);
        CHECK(x[0].score >= scores[0] - 1e-6f); /* FAISS looks less far */
        n = search(a, queries[q], 30, &(idx_allow){.rows = bits, .test = even, .ctx = a}, x, 30);
        for (uint32_t i = 0; i < n; i++) CHECK_INT(x[i].row % 6, 0);
        CHECK_INT(search(a, queries[q], ROWS, &(idx_allow){.rows = bits}, x, ROWS), ROWS / 3); /* all there are */
    }
    uint64_t none[ROWS / 64 + 1] = {0};
    idx_near x[1];
    CHECK_INT(search(a, queries[0], 30, &(idx_allow){.rows = none}, x, 1), 0);
    idx_ann_free(a);
    REQUIRE(idx_ann_new(v, 12, 60, ROWS, &a, NULL) == IDX_OK);
    CHECK_INT(search(a, queries[0], 30, NULL, x, 1), 0); /* nothing is linked */
    idx_ann_free(a);
    idx_rows_free(v);
}

/* Many equal rows: a list of links is full of them, and they are found all the same. */
static void test_equal_rows(void)
{
    idx_rows *v;
    idx_ann *a;
    idx_near x[10];
    REQUIRE(idx_rows_new(IDX_INT8, DIM, &v, NULL) == IDX_OK);
    for (uint32_t i = 0; i < 500; i++) {
        REQUIRE(idx_rows_room(v, i, NULL) == IDX_OK);
        idx_rows_encode(v, rows[i % 5], idx_rows_at(v, i));
    }
    REQUIRE(idx_ann_new(v, 8, 40, 500, &a, NULL) == IDX_OK && idx_ann_link(a, 500, NULL, false, NULL, NULL) == IDX_OK);
    for (uint32_t i = 0; i < 5; i++) {
        REQUIRE(search(a, rows[i], 10, NULL, x, 10) > 0);
        CHECK_INT(x[0].row % 5, i);
    }
    idx_ann_free(a);
    idx_rows_free(v);
}

typedef struct {
    const idx_ann *a;
    atomic_bool end;
    atomic_uint searches;
} reader;

static void *search_on(void *arg)
{
    reader *r = arg;
    for (uint32_t q = 0; !r->end; q++) {
        idx_near x[20];
        uint32_t before = idx_ann_linked(r->a), n = search(r->a, queries[q % QUERIES], 20, NULL, x, 20);
        CHECK(n == 20 || before < 200);
        for (uint32_t i = 0; i < n; i++) CHECK(x[i].row < ROWS && (i == 0 || x[i].score <= x[i - 1].score));
        atomic_fetch_add(&r->searches, 1);
    }
    return NULL;
}

static void test_search_while_linking(void)
{
    idx_rows *v = make_rows(IDX_FLOAT16);
    reader r = {0};
    idx_ann *a;
    pthread_t t[2];
    REQUIRE(idx_ann_new(v, 12, 60, ROWS, &a, NULL) == IDX_OK);
    r.a = a;
    for (int i = 0; i < 2; i++) REQUIRE(pthread_create(&t[i], NULL, search_on, &r) == 0);
    for (uint32_t to = 100; to <= ROWS; to += 100) REQUIRE(idx_ann_link(a, to, NULL, to % 200 == 0, NULL, NULL) == IDX_OK);
    while (r.searches < 10) sched_yield();
    REQUIRE(idx_ann_mend(a, ROWS, NULL, NULL, NULL) == IDX_OK);
    r.end = true;
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
    CHECK(recall(a, 40) >= 0.95);
    idx_ann_free(a);
    idx_rows_free(v);
}

int main(void)
{
    make_data();
    for (int s = IDX_FLOAT32; s <= IDX_INT8; s++) test_beside_faiss((idx_storage)s);
    test_beside_plain();
    test_links();
    test_hurry(IDX_FLOAT32);
    test_hurry(IDX_INT8);
    for (int s = IDX_FLOAT32; s <= IDX_INT8; s++)
        for (uint32_t gone = 0; gone < 12; gone += 3) test_inherit((idx_storage)s, gone);
    test_inherit_bridges();
    test_allowed();
    test_equal_rows();
    test_search_while_linking();
    idx_scratch_drop_all();
    return test_end();
}
