/* plan.c: see plan.h.
 *
 * The constants are nanoseconds on one core of a Xeon of 2023 (2 MB of L2), by bench_filter under perf, of vectors of 256
 * floats in a million rows; what a vector's bytes cost grows with them. Only their ratios matter. */
#include "plan.h"

#include <math.h>

static const double ROW_NS = 25, BYTE_NS = 0.05; /* an image of a matching item, anywhere in memory */
static const double TEST_NS = 0.9;               /* a row of a list is asked whether it matches */
static const double PLACE_NS = 8, COUNT_NS = 4;  /* the place in the lists of a matching image is found; is counted */
static const double CENTROID_NS = 8, CENTROID_BYTE_NS = 0.04;

/* Of searches without a filter, 10,000 to 100,000 rows of 256 dimensions as int8 and float16: a row of many that are compared in their
 * order, and a row that a walk keeps (up to `ef` of them), with its links and all that it compares. */
static const double FLAT_NS = 6, FLAT_BYTE_NS = 0.043;
static const double STEP_NS = 340, STEP_BYTE_NS = 0.16;

/* With less effort a walk takes some ten microseconds whatever it could be compared with. */
enum { ASKED_FROM = 128 };

/* So large a share of the items leaves graphs connected wherever the query is, and a walk steps over few. */
static const double WIDE = 0.7;

/* Matches' worth of rows that have as many matches as all, before any was asked. */
static const double GUESS = 4;

/* Rows that a walk compares for each that is wanted, or more. Where there are no more rows than that, comparing all of them in a row
 * takes no longer, and misses none: a graph of some hundred rows may not lead to all of them. */
static const double WALK_ROWS = 16;

/* Matching images that lists compare, mostly: times the effort, times what is wanted. */
enum { LIST_ROWS = 8, LIST_WANTED = 3 };

/* A share of this may be expected to be missed with so much effort; a quarter of it with twice as much. Mostly fewer are: of a million rows, with
 * filters of all kinds and an effort of 20 (bench_filter), where 1.8 % may be, 0.4 to 1.6 % were. */
static const double MISSES = 0.0125, MISSES_EFFORT = 24;

const char *idx_plan_name(idx_plan plan, bool filtered)
{
    switch (plan) {
    case IDX_PLAN_FLAT: return "flat";
    case IDX_PLAN_SCAN: return "scan";
    case IDX_PLAN_LISTS: return "lists";
    default: return filtered ? "hnsw+filter" : "hnsw";
    }
}

static double list_rows(const idx_plan_query *q) { return fmax((double)q->effort * LIST_ROWS, (double)q->want * LIST_WANTED); }

double idx_plan_list_misses(const idx_plan_query *q) { return MISSES * pow(MISSES_EFFORT / fmax(q->effort, 1), 2); }

double idx_plan_images(const idx_cat *c, const idx_plan_query *q) { return c->live_items > 0 ? (double)q->matches * c->live_images / c->live_items : 0; }

idx_plan_find idx_plan_find_places(const idx_cat *c, const idx_plan_query *q, bool countable, uint64_t tests, uint64_t compared, uint64_t before)
{
    double images = idx_plan_images(c, q), spent = (double)tests * TEST_NS; /* of which some was worth trying it without */
    double rows_each = c->live_items > 0 && q->matches > 0 ? (double)c->live_items / (double)q->matches : 1; /* until they say otherwise */
    if ((double)(tests + before) * TEST_NS >= images * PLACE_NS) return IDX_FIND_PLACES;
    bool thin = countable && (double)compared * rows_each * 2 < (double)tests; /* most matches are elsewhere */
    double cost = images * (thin ? COUNT_NS : PLACE_NS), rest = list_rows(q) * ((double)tests + GUESS * rows_each) / ((double)compared + GUESS) * TEST_NS;
    if (spent < cost / 32 || rest <= cost) return IDX_FIND_NOTHING;
    return thin ? IDX_FIND_COUNTS : IDX_FIND_PLACES;
}

static double scan_cost(const idx_cat *c, const idx_plan_query *q)
{
    return idx_plan_images(c, q) * (ROW_NS + BYTE_NS * (double)idx_rows_stride(idx_cat_storage(c), c->row.info.dim));
}

bool idx_plan_is_flat(const idx_cat *c, const idx_plan_query *q)
{
    if (q->filtered || q->exact || q->walk || q->effort < ASKED_FROM) return false;
    double rows = 0, kept = 0, bytes = (double)idx_rows_stride(idx_cat_storage(c), c->row.info.dim), ef = fmax(q->effort, (double)idx_plan_room(q));
    for (uint32_t i = 0; i < c->n_segments; i++) {
        uint32_t linked = idx_segment_linked(c->segments[i]), dead = c->segments[i]->dead;
        if (linked <= dead) continue;
        rows += linked - dead;
        kept += fmin(ef, linked - dead);
    }
    return rows > 0 && rows * (FLAT_NS + FLAT_BYTE_NS * bytes) <= kept * (STEP_NS + STEP_BYTE_NS * bytes);
}

static double lists_cost(const idx_cat *c, const idx_plan_query *q)
{
    double lists = 0, share = c->live_items > 0 ? (double)q->matches / c->live_items : 0, rows = list_rows(q);
    double bytes = (double)idx_rows_stride(idx_cat_storage(c), c->row.info.dim), centroid = (double)idx_rows_stride(IDX_INT8, c->row.info.dim);
    for (uint32_t i = 0; i < c->n_segments; i++) lists += c->segments[i]->parts != NULL ? c->segments[i]->parts->n_lists : 0;
    return lists * (CENTROID_NS + CENTROID_BYTE_NS * centroid) + rows * (ROW_NS + BYTE_NS * bytes) + fmin(rows / share * TEST_NS, idx_plan_images(c, q) * PLACE_NS);
}

idx_plan idx_plan_choose(const idx_cat *c, const idx_plan_query *q)
{
    bool graph = false;
    for (uint32_t i = 0; i < c->n_segments; i++) graph |= c->segments[i]->ann != NULL;
    if (!q->filtered) return q->exact || !graph || c->live_images <= WALK_ROWS * q->want || idx_plan_is_flat(c, q) ? IDX_PLAN_FLAT : IDX_PLAN_GRAPH;
    if (q->exact || !graph || q->matches <= q->want || scan_cost(c, q) <= lists_cost(c, q)) return IDX_PLAN_SCAN;
    return (double)q->matches >= WIDE * c->live_items ? IDX_PLAN_GRAPH : IDX_PLAN_LISTS;
}
