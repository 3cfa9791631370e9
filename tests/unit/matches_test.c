/* What is kept of filters (index/matches.h) while items come, change and go and lists are made anew: a search with a kept filter sees
 * what one sees that nobody asked before, and what is kept stays within its bounds. matches_test STEPS [SEED] for longer runs. */
#include "../../index/index_priv.h"
#include "test.h"

#include <unistd.h>

enum { DIM = 16, ITEMS = 3000 };
static const char fp[] = "00000000000000000000000000000000000000000000000000000000000000aa";
static uint64_t seed = 5;
static char dir[64];
static unsigned most_images; /* of an item */
static idx *ix;

static const char *const filters[] = {"colour = red", "colour = \"blue\" AND n < 500", "NOT new = true", "n >= 10 AND n <= 40", "tags:a", "tags:* AND colour != red",
                                      "colour = r*", "n > 990", "nothing = 1", "new = true OR n = 7",
                                      "first > 0"}; /* in half of all directions */
enum { FILTERS = sizeof filters / sizeof *filters };

static unsigned below(unsigned n) { return (unsigned)(test_rand(&seed) % n); }

static void unit(float *v)
{
    double n = 0;
    for (int i = 0; i < DIM; i++) n += (double)v[i] * (double)v[i];
    for (int i = 0; i < DIM; i++) v[i] = (float)((double)v[i] / sqrt(n));
}

static void random_unit(float *v)
{
    for (int i = 0; i < DIM; i++) v[i] = test_randf(&seed);
    unit(v);
}

static void submit(unsigned item, idx_op_kind kind, bool wait)
{
    static const char *const colours[] = {"red", "blue", "rose", "green"}, *const tags[] = {"", ",\"tags\":[]", ",\"tags\":[\"a\",\"b\"]", ",\"tags\":[\"c\"]"};
    char id[32], attributes[200];
    snprintf(id, sizeof id, "item-%05u", item);
    idx_op *op = idx_op_new(kind, "shop", id);
    int n = snprintf(attributes, sizeof attributes, "{\"colour\":\"%s\",\"n\":%u%s,\"new\":%s", colours[below(4)], below(1000), tags[below(4)], below(2) ? "true" : "false");
    if (kind == IDX_PUT) {
        op->dim = DIM;
        memcpy(op->fingerprint, fp, sizeof fp);
        op->n_images = 1 + below(most_images);
        op->images = calloc(op->n_images, sizeof *op->images);
        for (size_t i = 0; i < op->n_images; i++) random_unit(op->images[i].embedding = malloc(DIM * sizeof(float)));
        n += snprintf(attributes + n, sizeof attributes - (size_t)n, ",\"first\":%g", (double)op->images[0].embedding[0]);
    }
    snprintf(attributes + n, sizeof attributes - (size_t)n, "}");
    if (kind != IDX_DELETE) op->attributes = strdup(attributes);
    if (!wait) {
        REQUIRE(idx_submit_take(ix, op, NULL) == IDX_OK);
        return;
    }
    idx_status st = idx_write_take(ix, op, NULL, NULL);
    CHECK(st == IDX_OK || (st == IDX_ENOTFOUND && kind != IDX_PUT));
}

static idx_result *search(const float *v, const char *filter, bool exact)
{
    idx_result *r = NULL;
    idx_error e = {0};
    idx_query q = {.embedding = v, .dim = DIM, .limit = 10, .min_score = -2, .filter = filter, .exact = exact, .ef_search = 64};
    if (idx_search(ix, "shop", &q, &r, &e) != IDX_OK) TEST_FAIL("%s: %s", filter, e.text);
    REQUIRE(r != NULL);
    return r;
}

/* Blanks before a filter make it another one that means the same. Returns the recall of a search by lists, 1 of another. */
static double compare(const char *filter)
{
    static int asked;
    float v[DIM];
    char same[1200];
    asked++;
    snprintf(same, sizeof same, "%*s%s", asked % 1000 + 1, "", filter);
    random_unit(v);
    if (strncmp(filter, "first", 5) == 0) v[0] -= 1, unit(v); /* matches are far away */
    idx_result *kept = search(v, filter, asked % 2 == 0), *fresh = search(v, same, true);
    CHECK_INT(kept->matches, fresh->matches);
    CHECK_INT(kept->n, fresh->n);
    bool lists = strcmp(kept->plan, "lists") == 0;
    double found = 0;
    for (size_t i = 0; i < fresh->n; i++)
        for (size_t k = 0; k < kept->n; k++) found += strcmp(kept->hits[k].id, fresh->hits[i].id) == 0;
    double recall = fresh->n > 0 ? found / (double)fresh->n : 1;
    if (!lists) CHECK(recall == 1);
    idx_result_free(kept);
    idx_result_free(fresh);
    return lists ? recall : 1;
}

static uint32_t with_places, with_counts; /* seen by look() */

static void look(void)
{
    idx_cat *c = idx_take_cat_at(ix, 0);
    for (uint32_t i = 0; i < c->matches.n; i++) {
        const idx_match_places *p = c->matches.at[i]->places;
        with_places += p != NULL && idx_places_are_marked(&p->in);
        with_counts += p != NULL && !idx_places_are_marked(&p->in);
    }
    idx_give_cat(ix, c);
}

static void check(void)
{
    idx_error err = {0};
    if (idx_check(ix, &err) != IDX_OK) TEST_FAIL("%s", err.text);
    idx_cat *c = idx_take_cat_at(ix, 0);
    CHECK(idx_matches_bytes(&c->matches) <= sizeof c->matches + (256 << 10));
    CHECK(c->matches.n > FILTERS && c->matches.n <= IDX_MATCHES_KEPT);
    idx_give_cat(ix, c);
}

static void run(int steps)
{
    bool created;
    idx_opts o = {.no_background = true, .segment_images = 1500, .disk_floor_bytes = 1};
    snprintf(dir, sizeof dir, "/tmp/lk_matches_XXXXXX");
    REQUIRE(mkdtemp(dir) != NULL);
    REQUIRE(idx_open(dir, &o, &ix, NULL) == IDX_OK);
    REQUIRE(idx_catalogue_put(ix, "shop", "m", fp, DIM, &created, NULL) == IDX_OK);
    for (unsigned i = 0; i < ITEMS; i++) submit(i, IDX_PUT, i == ITEMS - 1);
    REQUIRE(idx_maintain(ix, NULL) == IDX_OK);
    double recall = 0, n = 0;
    for (int step = 0; step < steps; step++) {
        unsigned burst = step % 40 == 39 ? 100 : 1 + below(3); /* more than are looked at one by one */
        for (unsigned i = 0; i < burst; i++) {
            unsigned what = below(10);
            submit(below(ITEMS + ITEMS / 20), what < 3 ? IDX_PUT : what < 8 ? IDX_PATCH : IDX_DELETE, i == burst - 1);
        }
        for (int i = 0; i < 3; i++) recall += compare(filters[below(FILTERS)]), n++;
        look();
        if (step % 100 == 50) { /* and what is kept looks at the next change, with places in lists that are gone */
            REQUIRE(idx_maintain(ix, NULL) == IDX_OK);
            submit(below(ITEMS), IDX_PUT, true);
        }
        if (step % 100 == 99 || step % 100 == 50) check();
    }
    printf("recall %.4f, places were kept of %u filters, counts of %u\n", recall / n, with_places, with_counts);
    CHECK(recall / n > 0.98);
    idx_close(ix);
    char cmd[100];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    CHECK_INT(system(cmd), 0);
}

int main(int argc, char **argv)
{
    int steps = argc > 1 ? atoi(argv[1]) : 400;
    seed = argc > 2 ? (uint64_t)atoll(argv[2]) : 5;
    for (most_images = 2; most_images > 0; most_images--) { /* where no item has two, matches may be counted alone */
        run(steps);
        CHECK(with_places > 0 || steps < 100);
    }
    CHECK(with_counts > 0 || steps < 100);
    return test_end();
}
