/* load.c: start: the catalogues as the store has them, with the vectors and graphs that files of segments have. */
#include "attrs_keep.h"
#include "lists.h"
#include "segment_file.h"
#include "store_ahead.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { /* an item's images, to find it by one of them */
    int64_t first;
    uint32_t n, item;
} run;

typedef struct { /* of a catalogue */
    idx *ix;
    idx_cat *c; /* NULL = none, or it is in the table */
    idx_segment_reader *reader;
    run *runs; /* of all items, by `first` once sorted */
    uint32_t n_runs, cap_runs;
    bool sorted;
    idx_error *err;
} loader;

void idx_say(const idx *ix, int level, const char *fmt, ...)
{
    if (ix->opts.log == NULL) return;
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ix->opts.log(ix->opts.log_ctx, level, text);
}

typedef struct { /* of all, by the catalogues' ids */
    loader *at, *last; /* last: of the item before; NULL = nobody's */
    size_t n;
} loaders;

static int by_id(const void *a, const void *b)
{
    int64_t x = ((const idx_catalogue_row *)a)->id, y = ((const idx_catalogue_row *)b)->id;
    return x < y ? -1 : x > y;
}

static int by_catalogue(const void *id, const void *at)
{
    int64_t x = *(const int64_t *)id, y = ((const loader *)at)->c->row.id;
    return x < y ? -1 : x > y;
}

static loader *loader_of(loaders *all, int64_t catalogue)
{
    if (all->last == NULL || all->last->c->row.id != catalogue) all->last = bsearch(&catalogue, all->at, all->n, sizeof *all->at, by_catalogue);
    return all->last;
}

static idx_status load_item(void *ctx, const idx_item_row *r)
{
    loader *l = loader_of(ctx, r->catalogue);
    uint32_t item;
    if (l == NULL) return IDX_OK; /* nobody could ask for it */
    idx_status st = idx_cat_item_load(l->c, r->id, r->rowid, &item, l->err); /* idx_attrs_load has their attributes, all at once */
    if (st != IDX_OK || r->n_images == 0) return st;
    if (l->n_runs == l->cap_runs) {
        uint32_t cap = l->cap_runs + l->cap_runs / 2 + 1024;
        run *more = realloc(l->runs, cap * sizeof *more);
        if (more == NULL) return idx_fail(l->err, IDX_ENOMEM, "no memory to load images");
        l->runs = more;
        l->cap_runs = cap;
    }
    l->sorted = l->sorted && (l->n_runs == 0 || l->runs[l->n_runs - 1].first < r->first_image);
    l->runs[l->n_runs++] = (run){r->first_image, r->n_images, item};
    return idx_cat_images_expect(l->c, item, r->first_image, r->n_images, l->err);
}

static idx_status load_change(void *ctx, uint64_t generation, int64_t item, int64_t stamp)
{
    loader *l = ctx;
    (void)item;
    if (generation == l->c->row.info.generation) l->c->stamp = stamp;
    return IDX_OK;
}

static int by_first(const void *a, const void *b)
{
    int64_t x = ((const run *)a)->first, y = ((const run *)b)->first;
    return x < y ? -1 : x > y;
}

/* The run that holds an image; `hint`: where the last one was, and often the next one is. */
static const run *find_run(const loader *l, int64_t image, uint32_t *hint)
{
    for (uint32_t i = *hint; i < l->n_runs && i < *hint + 2; i++)
        if (image >= l->runs[i].first && image < l->runs[i].first + l->runs[i].n) {
            *hint = i;
            return &l->runs[i];
        }
    uint32_t lo = 0, hi = l->n_runs;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (l->runs[mid].first + l->runs[mid].n <= image) lo = mid + 1;
        else hi = mid;
    }
    if (lo == l->n_runs || image < l->runs[lo].first) return NULL;
    *hint = lo;
    return &l->runs[lo];
}

/* Gives the rows of a segment to the images that have no vector yet; how many it got. */
static uint32_t claim(loader *l, idx_segment *g, const int64_t *images)
{
    uint32_t claimed = 0, hint = 0;
    for (uint32_t r = 0; r < g->rows; r++) {
        const run *u = images[r] != 0 ? find_run(l, images[r], &hint) : NULL;
        if (u == NULL) continue;
        uint32_t n = (uint32_t)(images[r] - u->first);
        if (idx_item_place(&l->c->items[u->item], n).slot != IDX_NONE) continue;
        idx_cat_place(l->c, u->item, n, g, r);
        claimed++;
    }
    return claimed;
}

static idx_status load_segments(loader *l)
{
    size_t n;
    idx_segment_found *found = idx_segment_reader_wait(l->reader, &n);
    idx_cat *c = l->c;
    idx_status st = IDX_OK;
    for (size_t i = 0; i < n && found[i].number >= c->next_number; i++) c->next_number = found[i].number + 1;
    for (size_t i = 0; st == IDX_OK && i < n; i++) {
        idx_segment *g = found[i].g;
        const int level = found[i].why.status == IDX_ENOTFOUND ? 0 : 1; /* a kill may come before a file's first byte */
        if (g == NULL) idx_say(l->ix, level, "index files dropped, their vectors are read from the store: %s", found[i].why.text);
        if (g != NULL) st = idx_cat_segment_add(c, g, l->err);
        if (g != NULL && st == IDX_OK && claim(l, g, found[i].images) > 0) {
            found[i].g = NULL; /* the catalogue's now */
            continue;
        }
        if (g != NULL && st == IDX_OK) idx_cat_segment_remove(c, g);
        idx_segment_remove_files(c->row.id, found[i].number, l->ix->segment_dir);
    }
    for (uint32_t i = 0; i < c->n_segments / 2; i++) { /* the newest takes new rows */
        idx_segment *g = c->segments[i];
        c->segments[i] = c->segments[c->n_segments - 1 - i];
        c->segments[c->n_segments - 1 - i] = g;
    }
    return st;
}

typedef struct {
    idx_cat *c;
    const run *at;
    uint32_t n; /* of at's images */
    idx_error *err;
} filler;

static idx_status load_vector(void *ctx, int64_t image, const float *vector, uint32_t dim)
{
    filler *f = ctx;
    (void)dim;
    while (image >= f->at->first + f->at->n) f->at++;
    uint32_t n = (uint32_t)(image - f->at->first), row;
    if (idx_item_place(&f->c->items[f->at->item], n).slot != IDX_NONE) return IDX_OK;
    idx_segment *g;
    idx_status st = idx_cat_segment_for(f->c, 1, &g, f->err);
    if (st == IDX_OK) st = idx_segment_append(g, vector, &row, f->err);
    if (st == IDX_OK) idx_cat_place(f->c, f->at->item, n, g, row);
    return st;
}

static bool complete(const idx_cat *c, const run *u)
{
    for (uint32_t i = 0; i < u->n; i++)
        if (idx_item_place(&c->items[u->item], i).slot == IDX_NONE) return false;
    return true;
}

/* Images that no file has, in stretches of rowids without a hole. */
static idx_status load_rest(loader *l, uint64_t *images)
{
    idx_status st = IDX_OK;
    for (uint32_t i = 0, j; st == IDX_OK && i < l->n_runs; i = j) {
        j = i + 1;
        if (complete(l->c, &l->runs[i])) continue;
        uint32_t n = l->runs[i].n;
        for (; j < l->n_runs && n < 4096 && l->runs[j].first == l->runs[j - 1].first + l->runs[j - 1].n && !complete(l->c, &l->runs[j]); j++) n += l->runs[j].n;
        filler f = {.c = l->c, .at = &l->runs[i], .err = l->err};
        st = idx_store_vectors(l->ix->store, l->runs[i].first, n, l->c->row.info.dim, load_vector, &f, l->err);
        *images += n;
    }
    return st;
}

static idx_status loader_init(loader *l, idx *ix, const idx_catalogue_row *row, idx_error *err)
{
    *l = (loader){.ix = ix, .sorted = true, .err = err};
    idx_status st = idx_cat_new(row, ix->opts.ef_search, &l->c, err);
    if (st == IDX_OK) l->c->refs = 1;
    return st;
}

static void loader_fini(loader *l)
{
    idx_segment_reader_free(l->reader);
    if (l->c != NULL) idx_cat_free(l->c);
    free(l->runs);
}

/* In another thread the files of its segments are read from here on. */
static idx_status read_ahead(loader *l)
{
    l->reader = idx_segment_reader_start(l->c, l->ix->segment_dir, l->ix->opts.ef_construction);
    return l->reader != NULL ? IDX_OK : idx_fail(l->err, IDX_ENOMEM, "no memory to read index files");
}

/* All but its items, which it has: what needs no vector first, because these are still being read. */
static idx_status load_catalogue(loader *l)
{
    idx *ix = l->ix;
    idx_cat *c = l->c;
    idx_error *err = l->err;
    uint64_t rest = 0;
    idx_status st = idx_cat_items_loaded(c, err);
    if (st == IDX_OK) st = idx_store_each_change(ix->store, c->row.id, c->row.info.generation, load_change, l, err);
    if (st == IDX_OK) st = idx_attrs_load(c, ix, err);
    if (st == IDX_OK && !l->sorted) qsort(l->runs, l->n_runs, sizeof *l->runs, by_first);
    if (st == IDX_OK) st = load_segments(l);
    if (st == IDX_OK) st = load_rest(l, &rest);
    if (st == IDX_OK && rest >= ix->opts.segment_images)
        idx_say(ix, 0, "catalogue %s: %" PRIu64 " images are in no index file and are read from the store; a graph is made of them", c->row.info.name, rest);
    if (st == IDX_OK) idx_lists_load(c, ix);
    if (st == IDX_OK && !idx_table_add(ix, c)) st = idx_fail(err, IDX_ENOMEM, "no memory for a catalogue");
    if (st == IDX_OK) l->c = NULL;
    return st;
}

static idx_status load_catalogues(loaders *all, idx *ix, const idx_catalogue_row *rows, size_t n, idx_error *err)
{
    idx_status st = IDX_OK;
    for (; st == IDX_OK && all->n < n; all->n++) st = loader_init(&all->at[all->n], ix, &rows[all->n], err);
    if (st == IDX_OK && n > 0) st = read_ahead(&all->at[0]);
    if (st == IDX_OK && n > 0) st = idx_store_all_items(ix->store, load_item, all, err);
    for (size_t i = 0; st == IDX_OK && i < n; i++) {
        if (i + 1 < n) st = read_ahead(&all->at[i + 1]);
        if (st == IDX_OK) st = load_catalogue(&all->at[i]);
        loader_fini(&all->at[i]);
        all->at[i] = (loader){0};
    }
    return st;
}

idx_status idx_load_all(idx *ix, idx_error *err)
{
    idx_catalogue_row *rows;
    size_t n;
    idx_status st = idx_store_catalogues(ix->store, &rows, &n, err);
    if (st != IDX_OK) return st;
    if (n > 0) qsort(rows, n, sizeof *rows, by_id);
    idx_segments_clean(ix->segment_dir, rows, n);
    idx_attrs_clean(ix->segment_dir, rows, n);
    loaders all = {.at = calloc(n + 1, sizeof *all.at)};
    idx_ahead *ahead = idx_ahead_start(idx_store_path(ix->store));
    st = all.at != NULL ? load_catalogues(&all, ix, rows, n, err) : idx_fail(err, IDX_ENOMEM, "no memory to load catalogues");
    idx_ahead_end(ahead);
    for (size_t i = 0; i < all.n; i++) loader_fini(&all.at[i]);
    free(all.at);
    free(rows);
    malloc_trim(0); /* what reading took */
    idx_lists_sweep(ix->segment_dir);
    return st;
}
