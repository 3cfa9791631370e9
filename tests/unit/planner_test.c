/* The planner: at every selectivity, and whether a filter chooses the query's neighbourhood or shuts it out, answers hold recall with
 * the effort that it takes without a filter, never fall short of `limit`, and cost less than looking at everything. planner_test ITEMS
 * for larger catalogues. */
#include "index.h"
#include "test.h"

#include <unistd.h>

enum { DIM = 32, QUERIES = 60, CLUSTERS = 80 };
static const char fp[] = "00000000000000000000000000000000000000000000000000000000000000aa";
static uint64_t seed = 17;
static char dir[64];
static float centre[CLUSTERS][DIM];
static int n_items = 12000;
static uint32_t effort; /* where audits would take searches without a filter */
static float *rank_of; /* [item] where its projection stands among all, 0..1 */

static void unit(float *v)
{
    double n = 0;
    for (int i = 0; i < DIM; i++) n += (double)v[i] * (double)v[i];
    for (int i = 0; i < DIM; i++) v[i] = (float)((double)v[i] / sqrt(n));
}

static void random_row(float *v)
{
    const float *c = centre[test_rand(&seed) % CLUSTERS];
    for (int i = 0; i < DIM; i++) v[i] = c[i] + 0.45f * test_randf(&seed);
    unit(v);
}

static float project(const float *v)
{
    float sum = 0;
    for (int i = 0; i < DIM; i++) sum += v[i] * centre[0][i];
    return sum;
}

typedef struct {
    float p;
    int item;
} place;
static int by_place(const void *a, const void *b)
{
    float x = ((const place *)a)->p, y = ((const place *)b)->p;
    return x < y ? -1 : x > y;
}

static idx *fill(float **rows_out, place **places_out)
{
    idx *ix = NULL;
    bool created;
    idx_opts o = {.no_background = true, .segment_images = (uint32_t)n_items / 3, .disk_floor_bytes = 1};
    REQUIRE(idx_open(dir, &o, &ix, NULL) == IDX_OK);
    REQUIRE(idx_catalogue_put(ix, "shop", "test", fp, DIM, &created, NULL) == IDX_OK);
    float *rows = malloc((size_t)n_items * DIM * sizeof *rows);
    place *places = malloc((size_t)n_items * sizeof *places);
    rank_of = malloc((size_t)n_items * sizeof *rank_of);
    for (int i = 0; i < n_items; i++) {
        random_row(rows + (size_t)i * DIM);
        places[i] = (place){project(rows + (size_t)i * DIM), i};
    }
    qsort(places, (size_t)n_items, sizeof *places, by_place);
    for (int i = 0; i < n_items; i++) rank_of[places[i].item] = (float)i / (float)n_items;
    for (int i = 0; i < n_items; i++) {
        char id[32], attributes[100];
        snprintf(id, sizeof id, "item-%06d", i);
        snprintf(attributes, sizeof attributes, "{\"u\":%.6f,\"p\":%.6f}", (double)(test_rand(&seed) >> 11) * 0x1p-53, (double)rank_of[i]);
        idx_op *op = idx_op_new(IDX_PUT, "shop", id);
        op->attributes = strdup(attributes);
        op->dim = DIM;
        op->n_images = i % 5 == 0 ? 2 : 1;
        memcpy(op->fingerprint, fp, sizeof fp);
        op->images = calloc(op->n_images, sizeof *op->images);
        for (size_t k = 0; k < op->n_images; k++) { /* a second image is like another item's */
            op->images[k].embedding = malloc(DIM * sizeof(float));
            memcpy(op->images[k].embedding, rows + (size_t)i * (k + 1) % (size_t)n_items * DIM, DIM * sizeof(float));
        }
        if (i % 1000 == 999 || i == n_items - 1) REQUIRE(idx_write_take(ix, op, NULL, NULL) == IDX_OK);
        else REQUIRE(idx_submit_take(ix, op, NULL) == IDX_OK);
        if (i == n_items * 9 / 10) REQUIRE(idx_maintain(ix, NULL) == IDX_OK); /* the last tenth stays fresh */
    }
    *rows_out = rows;
    *places_out = places;
    return ix;
}

/* The least of a ladder that finds enough: the data is harder the more there is of it. */
static void choose_effort(idx *ix)
{
    double recall = 0;
    for (effort = 64; effort <= 512; effort += effort / 2) {
        uint64_t was = seed;
        double found = 0, asked = 0;
        for (int q = 0; q < QUERIES; q++) {
            float v[DIM];
            random_row(v);
            idx_query query = {.embedding = v, .dim = DIM, .limit = 10, .min_score = -2, .ef_search = effort};
            idx_result *r = NULL, *e = NULL;
            REQUIRE(idx_search(ix, "shop", &query, &r, NULL) == IDX_OK);
            query.exact = true;
            REQUIRE(idx_search(ix, "shop", &query, &e, NULL) == IDX_OK);
            for (size_t i = 0; i < e->n; i++)
                for (size_t k = 0; k < r->n; k++) found += strcmp(e->hits[i].id, r->hits[k].id) == 0;
            asked += (double)e->n;
            idx_result_free(r);
            idx_result_free(e);
        }
        seed = was;
        if ((recall = found / asked) >= 0.985) break;
    }
    printf("without a filter: recall %.4f with effort %u\n", recall, effort);
    CHECK(recall >= 0.985);
}

/* kind 0: the filter knows nothing of the query; 1: it is the query's neighbourhood; 2: it is far from it. */
static void measure(idx *ix, const place *places, double share, int kind)
{
    double found = 0, asked = 0, work = 0;
    int plans[4] = {0};
    for (int q = 0; q < QUERIES; q++) {
        static const char *const names[] = {"scan", "lists", "hnsw+filter", "flat"};
        char filter[64];
        float v[DIM];
        double at;
        do { /* where the query stands among the items */
            random_row(v);
            float p = project(v);
            int lo = 0, hi = n_items;
            while (lo < hi) {
                int mid = (lo + hi) / 2;
                if (places[mid].p < p) lo = mid + 1;
                else hi = mid;
            }
            at = (double)lo / n_items;
        } while ((kind == 1 && at < 1 - fmax(share, 0.02)) || (kind == 2 && at > 0.5));
        if (kind == 0) snprintf(filter, sizeof filter, "u < %.6f", share);
        else snprintf(filter, sizeof filter, "p >= %.6f", 1 - share);
        idx_query query = {.embedding = v, .dim = DIM, .limit = 10, .min_score = -2, .filter = filter, .ef_search = effort};
        idx_result *r = NULL, *e = NULL;
        REQUIRE(idx_search(ix, "shop", &query, &r, NULL) == IDX_OK);
        query.exact = true;
        REQUIRE(idx_search(ix, "shop", &query, &e, NULL) == IDX_OK);
        CHECK_INT(r->n, e->n); /* as many as there are */
        CHECK_INT(r->matches, e->matches);
        CHECK_NEAR((double)r->matches / n_items, share, 0.02 + share / 5);
        for (size_t i = 0; i < e->n; i++)
            for (size_t k = 0; k < r->n; k++) found += strcmp(e->hits[i].id, r->hits[k].id) == 0;
        asked += (double)e->n;
        work += (double)r->distances;
        for (int k = 0; k < 4; k++) plans[k] += strcmp(r->plan, names[k]) == 0;
        CHECK_STR(e->plan, "scan");
        CHECK(r->segments <= 4 && r->effort == effort);
        idx_result_free(r);
        idx_result_free(e);
    }
    double recall = asked > 0 ? found / asked : 1;
    printf("%6.2f %% kind %d: recall %.4f, %.0f compared; scan %d lists %d graph %d\n", 100 * share, kind, recall, work / QUERIES, plans[0], plans[1], plans[2]);
    CHECK(recall >= 0.98);
    CHECK_INT(plans[3], 0);
    CHECK(work / QUERIES < n_items * 0.5);
    if (share < 0.005) CHECK_INT(plans[0], QUERIES);
    if (share >= 0.5) CHECK_INT(plans[0], 0);
}

/* Lists far from the query hold the matches, those near it few: mostly their places are looked for, and few rows are asked. Scores are
 * those of the exact search, also of items with two images. */
static void measure_far(idx *ix)
{
    double found = 0, all = 0;
    int few = 0;
    for (int q = 0; q < QUERIES; q++) {
        float v[DIM], p;
        idx_result *r = NULL, *e = NULL;
        do random_row(v);
        while ((p = project(v)) > -0.2f);
        idx_query query = {.embedding = v, .dim = DIM, .limit = 10, .min_score = -2, .filter = "p >= 0.9", .ef_search = 32};
        REQUIRE(idx_search(ix, "shop", &query, &r, NULL) == IDX_OK);
        query.exact = true;
        REQUIRE(idx_search(ix, "shop", &query, &e, NULL) == IDX_OK);
        CHECK_STR(r->plan, "lists");
        few += r->tests < (uint64_t)n_items / 3;
        CHECK_INT(r->n, e->n);
        for (size_t i = 0; i < e->n; i++)
            for (size_t k = 0; k < r->n; k++) {
                if (strcmp(e->hits[i].id, r->hits[k].id) != 0) continue;
                found++;
                CHECK(e->hits[i].score == r->hits[k].score && e->hits[i].image == r->hits[k].image);
            }
        all += (double)e->n;
        idx_result_free(r);
        idx_result_free(e);
    }
    printf("far with little effort: recall %.4f\n", found / all);
    CHECK(found / all > 0.9);
    CHECK(few > QUERIES / 2);
}

int main(int argc, char **argv)
{
    if (argc > 1) n_items = atoi(argv[1]);
    snprintf(dir, sizeof dir, "/tmp/lk_plan_XXXXXX");
    REQUIRE(mkdtemp(dir) != NULL);
    for (int c = 0; c < CLUSTERS; c++) {
        for (int i = 0; i < DIM; i++) centre[c][i] = test_randf(&seed);
        unit(centre[c]);
    }
    float *rows;
    place *places;
    idx *ix = fill(&rows, &places);
    choose_effort(ix);
    static const double shares[] = {0.9, 0.5, 0.1, 0.01, 0.001};
    for (size_t s = 0; s < sizeof shares / sizeof *shares; s++)
        for (int kind = 0; kind < 3; kind++) measure(ix, places, shares[s], kind);
    measure_far(ix);
    idx_result *r = NULL;
    idx_query plain = {.embedding = rows, .dim = DIM, .limit = 10, .min_score = -2};
    REQUIRE(idx_search(ix, "shop", &plain, &r, NULL) == IDX_OK);
    CHECK_STR(r->plan, "hnsw");
    CHECK_INT(r->matches, n_items);
    CHECK(r->segments > 0 && r->distances > 10 && r->tests == 0);
    idx_result_free(r);
    plain.ef_search = (uint32_t)n_items / 4; /* a walk that keeps so much takes longer than comparing all in their order */
    REQUIRE(idx_search(ix, "shop", &plain, &r, NULL) == IDX_OK);
    CHECK_STR(r->plan, "flat");
    idx_result_free(r);
    plain.ef_search = (uint32_t)n_items / 100;
    REQUIRE(idx_search(ix, "shop", &plain, &r, NULL) == IDX_OK);
    CHECK_STR(r->plan, "hnsw");
    idx_result_free(r);
    idx_close(ix);
    free(rows);
    free(places);
    free(rank_of);
    char cmd[100];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    CHECK_INT(system(cmd), 0);
    return test_end();
}
