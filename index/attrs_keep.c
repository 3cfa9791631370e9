/* attrs_keep.c: see attrs_keep.h. The file of catalogue N is segments/N.attrs (attrs_file.h).
 *
 * A start takes from the store what the log names since the file's generation: some microseconds an item. While much is written, an eighth of a
 * catalogue's items is what a start after a crash has to catch up with; when nothing is, the file is written again soon. */
#include "attrs_keep.h"
#include "attrs_file.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_CHANGES = 8192, SHARE = 8, MOST_AT_CLOSE = 2048 };

static void path_of(const char *dir, int64_t catalogue, char *out, size_t size) { snprintf(out, size, "%s/%" PRId64 ".attrs", dir, catalogue); }

/* ---- start ------------------------------------------------------------------------------------------------------ */

typedef struct {
    idx_cat *c;
    idx_error *err;
    uint32_t hint;    /* items are asked for in the order of their rowids, mostly */
    idx_bits changed; /* since the file's generation */
    idx_attrs_key key;
    bool joined; /* the log begins with the file's generation and stamp */
    uint32_t at;
} loading;

/* At start item numbers are in the order of rowids. */
static uint32_t item_of(loading *l, int64_t rowid)
{
    const idx_mem_item *items = l->c->items;
    uint32_t lo = 0, hi = l->c->n_items;
    if (l->hint < hi && items[l->hint].rowid == rowid) return l->hint++;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (items[mid].rowid < rowid) lo = mid + 1;
        else hi = mid;
    }
    if (lo >= l->c->n_items || items[lo].rowid != rowid) return UINT32_MAX;
    l->hint = lo + 1;
    return lo;
}

static uint32_t unchanged_item(void *ctx, int64_t rowid)
{
    loading *l = ctx;
    uint32_t item = item_of(l, rowid);
    return item != UINT32_MAX && idx_bit(l->changed.w, item) ? UINT32_MAX : item;
}

static idx_status take_change(void *ctx, uint64_t generation, int64_t item_row, int64_t stamp)
{
    loading *l = ctx;
    if (generation == l->key.generation) {
        l->joined = stamp == l->key.stamp;
        return IDX_OK;
    }
    uint32_t item = item_of(l, item_row);
    if (item != UINT32_MAX) idx_bit_set(l->changed.w, item);
    return IDX_OK;
}

/* IDX_OK: c->attrs holds what the file knows and is not out of date. Any other status: nothing of it is used. */
static idx_status load_file(loading *l, idx_store *s, const char *path)
{
    idx_cat *c = l->c;
    idx_attrs_file *f = NULL;
    idx_error why = {0};
    idx_status st = idx_attrs_file_open(path, &f, &l->key, &why);
    if (st == IDX_OK && (l->key.catalogue != c->row.id || l->key.generation > c->row.info.generation)) st = idx_fail(&why, IDX_ECORRUPT, "%s is of another catalogue", path);
    if (st == IDX_OK) st = idx_store_each_change(s, c->row.id, l->key.generation, take_change, l, &why);
    if (st == IDX_OK && !l->joined && l->key.generation > 0) st = idx_fail(&why, IDX_ECORRUPT, "%s is of another history of the catalogue", path);
    l->hint = 0;
    if (st == IDX_OK) st = idx_attrs_read(c->attrs, f, c->n_items, unchanged_item, l, &why);
    idx_attrs_file_close(f);
    if (st == IDX_OK) return IDX_OK;
    if (l->err != NULL && st != IDX_ENOTFOUND && l->err->status == IDX_OK) *l->err = why;
    return st;
}

static idx_status take_json(void *ctx, int64_t rowid, const char *attributes)
{
    loading *l = ctx;
    uint32_t item = item_of(l, rowid);
    if (item == UINT32_MAX) return idx_fail(l->err, IDX_ECORRUPT, "item %" PRId64 " of the store is not in memory", rowid);
    return idx_attrs_set(l->c->attrs, item, attributes, l->err);
}

static idx_status take_all(void *ctx, const idx_item_row *row) { return take_json(ctx, row->rowid, row->attributes); }

/* Those that the file did not have. */
static idx_status load_rest(loading *l, idx_store *s)
{
    idx_bits set = idx_attrs_items(l->c->attrs);
    idx_status st = IDX_OK;
    for (uint32_t i = 0; st == IDX_OK && i < l->c->n_items; i++)
        if (i / 64 >= set.n_words || !idx_bit(set.w, i)) st = idx_store_attributes(s, l->c->items[i].rowid, take_json, l, l->err), set = idx_attrs_items(l->c->attrs);
    return st;
}

idx_status idx_attrs_load(idx_cat *c, idx *ix, idx_error *err)
{
    char path[4200];
    idx_error why = {0};
    loading l = {.c = c, .err = &why};
    path_of(ix->segment_dir, c->row.id, path, sizeof path);
    if (!idx_bits_new(&l.changed, c->n_items)) return idx_fail(err, IDX_ENOMEM, "no memory for attributes");
    idx_status st = load_file(&l, ix->store, path);
    if (st == IDX_OK) {
        l.err = err;
        l.hint = 0;
        c->log_from = c->attrs_generation = l.key.generation;
        st = load_rest(&l, ix->store);
        idx_bits_free(&l.changed);
        return st;
    }
    if (st != IDX_ENOTFOUND) {
        idx_say(ix, 1, "%s", why.text);
        unlink(path);
    }
    idx_attrs_free(c->attrs);
    idx_bits_free(&l.changed);
    if ((c->attrs = idx_attrs_new()) == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for attributes");
    l = (loading){.c = c, .err = err};
    return idx_store_each_item(ix->store, c->row.id, take_all, &l, err);
}

/* ---- the file --------------------------------------------------------------------------------------------------------- */

typedef struct {
    idx_cat *c;
    int64_t newest;
    bool removed;
} keeping;

static void hold(void *ctx)
{
    keeping *k = ctx;
    pthread_rwlock_rdlock(&k->c->lock);
}

static void let_go(void *ctx)
{
    keeping *k = ctx;
    pthread_rwlock_unlock(&k->c->lock);
}

static int64_t rowid_of(void *ctx, uint32_t item)
{
    keeping *k = ctx;
    return idx_item_lives(k->c, item, k->newest) ? k->c->items[item].rowid : 0;
}

static bool is_wanted(const idx_cat *c, idx_attrs_when when)
{
    uint64_t was = c->attrs_generation, changes = c->row.info.generation - (was != UINT64_MAX ? was : 0);
    uint64_t least = when == IDX_ATTRS_CLOSING ? MOST_AT_CLOSE : MOST_CHANGES;
    return changes > least && (when != IDX_ATTRS_BUSY || changes > c->live_items / SHARE);
}

bool idx_attrs_wanted(const idx_cat *c) { return is_wanted(c, IDX_ATTRS_BUSY); }

idx_status idx_attrs_maintain(idx_cat *c, idx *ix, idx_attrs_when when, bool *worked, idx_error *err)
{
    pthread_rwlock_rdlock(&c->lock);
    idx_attrs_key key = {c->row.id, c->row.info.generation, c->stamp};
    keeping k = {.c = c, .newest = c->newest};
    *worked = !c->removed && is_wanted(c, when);
    pthread_rwlock_unlock(&c->lock);
    if (!*worked) return IDX_OK;
    char path[4200];
    path_of(ix->segment_dir, c->row.id, path, sizeof path);
    idx_attrs_writer w = {hold, let_go, rowid_of, &k};
    idx_status st = idx_attrs_write(c->attrs, path, &key, &w, err);
    if (st != IDX_OK) return st;
    c->attrs_generation = key.generation;
    atomic_store(&c->log_from, key.generation);
    pthread_rwlock_rdlock(&c->lock);
    if (c->removed) unlink(path);
    pthread_rwlock_unlock(&c->lock);
    return IDX_OK;
}

static bool parse_name(const char *name, int64_t *catalogue)
{
    int end = 0;
    return sscanf(name, "%" SCNd64 ".attrs%n", catalogue, &end) == 1 && end > 0 && name[end] == 0;
}

void idx_attrs_purge(const char *dir, int64_t catalogue)
{
    char path[4200];
    path_of(dir, catalogue, path, sizeof path);
    unlink(path);
}

void idx_attrs_clean(const char *dir, const idx_catalogue_row *living, size_t n_living)
{
    DIR *d = opendir(dir);
    if (d == NULL) return;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        int64_t of;
        bool stray = parse_name(e->d_name, &of);
        for (size_t i = 0; i < n_living && stray; i++) stray = living[i].id != of;
        if (stray) unlinkat(dirfd(d), e->d_name, 0);
    }
    closedir(d);
}
