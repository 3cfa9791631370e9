/* index.c: opening and closing, the table of catalogues, reads, and the thread that keeps segments in shape. */
#include "attrs_keep.h"
#include "filter.h"
#include "index_priv.h"
#include "segment_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { RECORDS_BYTES = 16 << 20 }; /* of the items that searches show: some ten thousand */

/* ---- table of catalogues ------------------------------------------------------------------------------------------ */

idx_cat *idx_take_cat(idx *ix, const char *name, idx_error *err)
{
    idx_cat *c = NULL;
    pthread_mutex_lock(&ix->table);
    for (size_t i = 0; i < ix->n_cats && c == NULL; i++)
        if (strcmp(ix->cats[i]->row.info.name, name) == 0) c = ix->cats[i];
    if (c != NULL) c->refs++;
    pthread_mutex_unlock(&ix->table);
    if (c == NULL) idx_fail(err, IDX_ENOTFOUND, "there is no catalogue %.80s", name);
    return c;
}

idx_cat *idx_take_cat_at(idx *ix, size_t i)
{
    pthread_mutex_lock(&ix->table);
    idx_cat *c = i < ix->n_cats ? ix->cats[i] : NULL;
    if (c != NULL) c->refs++;
    pthread_mutex_unlock(&ix->table);
    return c;
}

void idx_give_cat(idx *ix, idx_cat *c)
{
    pthread_mutex_lock(&ix->table);
    bool last = --c->refs == 0;
    pthread_mutex_unlock(&ix->table);
    if (!last) return;
    if (c->removed) { /* only now can nobody write one any more */
        idx_segments_purge(ix->segment_dir, c->row.id);
        idx_attrs_purge(ix->segment_dir, c->row.id);
    }
    idx_cat_free(c);
}

bool idx_table_add(idx *ix, idx_cat *c)
{
    pthread_mutex_lock(&ix->table);
    idx_cat **cats = realloc(ix->cats, (ix->n_cats + 1) * sizeof(idx_cat *));
    if (cats != NULL) {
        ix->cats = cats;
        cats[ix->n_cats++] = c;
    }
    pthread_mutex_unlock(&ix->table);
    return cats != NULL;
}

void idx_table_remove(idx *ix, idx_cat *c)
{
    pthread_mutex_lock(&ix->table);
    for (size_t i = 0; i < ix->n_cats; i++)
        if (ix->cats[i] == c) {
            ix->cats[i] = ix->cats[--ix->n_cats];
            c->refs--; /* the caller holds another */
            break;
        }
    pthread_mutex_unlock(&ix->table);
    idx_cat_lock(c);
    c->removed = true; /* its files go with the last reference: the keeper may hold one for as long as it builds a graph */
    pthread_rwlock_unlock(&c->lock);
}

/* ---- open and close ---------------------------------------------------------------------------------------------- */

static idx_status make_dirs(idx *ix, const char *dir, idx_error *err)
{
    ix->dir = strdup(dir);
    if (ix->dir == NULL || asprintf(&ix->segment_dir, "%s/segments", dir) < 0) return idx_fail(err, IDX_ENOMEM, "no memory");
    if ((mkdir(dir, 0750) != 0 && errno != EEXIST) || (mkdir(ix->segment_dir, 0750) != 0 && errno != EEXIST))
        return idx_fail(err, IDX_EIO, "cannot make the data folder %s: %s", dir, strerror(errno));
    return IDX_OK;
}

static void defaults(idx_opts *o)
{
    if (o->max_queue == 0) o->max_queue = 4096;
    if (o->segment_images == 0) o->segment_images = 10000;
    if (o->hnsw_m == 0) o->hnsw_m = 16;
    if (o->ef_construction == 0) o->ef_construction = 100;
    if (o->ef_search == 0) o->ef_search = 64;
    if (o->recall_target == 0) o->recall_target = 0.98;
    if (o->disk_floor_bytes == 0) o->disk_floor_bytes = (uint64_t)256 << 20;
}

idx_status idx_open(const char *dir, const idx_opts *opts, idx **out, idx_error *err)
{
    idx *ix = calloc(1, sizeof *ix);
    if (ix == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for the index");
    if (opts != NULL) ix->opts = *opts;
    defaults(&ix->opts);
    ix->spare = 1;
    pthread_mutex_init(&ix->table, NULL);
    pthread_mutex_init(&ix->queue_lock, NULL);
    pthread_mutex_init(&ix->maintain_lock, NULL);
    pthread_mutex_init(&ix->wake_lock, NULL);
    idx_cond_init(&ix->queue_filled);
    idx_cond_init(&ix->wake);
    pthread_mutex_init(&ix->audit_lock, NULL);
    idx_cond_init(&ix->audit_wake);
    idx_status st = make_dirs(ix, dir, err);
    if (st == IDX_OK) st = idx_store_open(dir, &ix->store, err);
    if (st == IDX_OK) st = idx_records_new(RECORDS_BYTES, &ix->records, err);
    if (st == IDX_OK) st = idx_load_all(ix, err);
    if (st == IDX_OK) st = idx_writer_start(ix, err);
    if (st == IDX_OK && !ix->opts.no_background) st = idx_keeper_start(ix, err);
    if (st == IDX_OK && !ix->opts.no_background && ix->opts.recall_target > 0) st = idx_audit_start(ix, err);
    if (st != IDX_OK) {
        idx_close(ix);
        return st;
    }
    *out = ix;
    return IDX_OK;
}

void idx_close(idx *ix)
{
    if (ix == NULL) return;
    idx_writer_stop(ix);
    idx_keeper_stop(ix);
    idx_audit_stop(ix);
    idx_keeper_save_all(ix);
    if (ix->store != NULL) idx_store_checkpoint(ix->store);
    for (size_t i = 0; i < ix->n_cats; i++) idx_cat_free(ix->cats[i]);
    idx_store_close(ix->store);
    idx_records_free(ix->records);
    pthread_mutex_destroy(&ix->table);
    pthread_mutex_destroy(&ix->queue_lock);
    pthread_mutex_destroy(&ix->maintain_lock);
    pthread_mutex_destroy(&ix->wake_lock);
    pthread_cond_destroy(&ix->queue_filled);
    pthread_cond_destroy(&ix->wake);
    pthread_mutex_destroy(&ix->audit_lock);
    pthread_cond_destroy(&ix->audit_wake);
    free(ix->cats);
    free(ix->segment_dir);
    idx_scratch_drop_all();
    idx_bits_drop_all();
    free(ix->dir);
    free(ix);
}

/* ---- catalogues ---------------------------------------------------------------------------------------------------------------- */

static bool name_ok(const char *s)
{
    size_t n = strlen(s);
    if (n < 1 || n > IDX_MAX_CATALOGUE_BYTES || s[0] == '-' || s[0] == '_') return false;
    return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

static idx_status catalogue_op(const idx_catalogue_spec *spec, idx_op **out, idx_error *err)
{
    if (!name_ok(spec->name))
        return idx_fail(err, IDX_EINVAL, "catalogue name %.80s: 1 to %d of a-z, 0-9, _ and -, starting with a letter or digit", spec->name, IDX_MAX_CATALOGUE_BYTES);
    if (spec->dim < 1 || spec->dim > IDX_MAX_DIM) return idx_fail(err, IDX_EINVAL, "dim is %" PRIu32 "; 1 to %d are allowed", spec->dim, IDX_MAX_DIM);
    if ((unsigned)spec->storage > IDX_INT8) return idx_fail(err, IDX_EINVAL, "storage is %d", (int)spec->storage);
    idx_op *op = idx_op_new((idx_op_kind)IDX_OP_CATALOGUE_PUT, spec->name, "");
    idx_new_catalogue what = {.row = {.info = {.dim = spec->dim, .storage = spec->storage, .kept = spec->storage, .created_ms = idx_now_ms()}},
                              .any_storage = spec->any_storage};
    snprintf(what.row.info.name, sizeof what.row.info.name, "%s", spec->name);
    snprintf(what.row.info.model, sizeof what.row.info.model, "%s", spec->model);
    snprintf(what.row.info.fingerprint, sizeof what.row.info.fingerprint, "%s", spec->fingerprint);
    if (op != NULL && (op->attributes = malloc(sizeof what)) != NULL) memcpy(op->attributes, &what, sizeof what);
    if (op == NULL || op->attributes == NULL) {
        idx_op_free(op);
        return idx_fail(err, IDX_ENOMEM, "no memory for a catalogue");
    }
    *out = op;
    return IDX_OK;
}

idx_status idx_catalogue_create(idx *ix, const idx_catalogue_spec *spec, bool *created, idx_error *err)
{
    idx_op *op = NULL;
    idx_status st = catalogue_op(spec, &op, err);
    return st == IDX_OK ? idx_write_take(ix, op, created, err) : st;
}

idx_status idx_catalogue_put(idx *ix, const char *name, const char *model, const char *fingerprint, uint32_t dim, bool *created, idx_error *err)
{
    return idx_catalogue_create(ix, &(idx_catalogue_spec){name, model, fingerprint, dim, IDX_STORAGE_AUTO, true}, created, err);
}

idx_status idx_catalogue_keep(idx *ix, const idx_cat *c, idx_storage kept, idx_error *err)
{
    idx_op *op = idx_op_new((idx_op_kind)IDX_OP_CATALOGUE_KEEP, c->row.info.name, "");
    if (op == NULL) return idx_fail(err, IDX_ENOMEM, "no memory");
    op->dim = (uint32_t)kept;
    return idx_write_take(ix, op, NULL, err);
}

static idx_status submit(idx *ix, idx_op *op, idx_done *done, void *ctx, idx_error *err)
{
    op->done = done;
    op->ctx = ctx;
    return idx_submit_take(ix, op, err);
}

idx_status idx_catalogue_create_submit(idx *ix, const idx_catalogue_spec *spec, idx_done *done, void *ctx, idx_error *err)
{
    idx_op *op = NULL;
    idx_status st = catalogue_op(spec, &op, err);
    return st == IDX_OK ? submit(ix, op, done, ctx, err) : st;
}

idx_status idx_catalogue_delete(idx *ix, const char *name, idx_error *err)
{
    idx_op *op = idx_op_new((idx_op_kind)IDX_OP_CATALOGUE_DELETE, name, "");
    if (op == NULL) return idx_fail(err, IDX_ENOMEM, "no memory");
    return idx_write_take(ix, op, NULL, err);
}

idx_status idx_catalogue_delete_submit(idx *ix, const char *name, idx_done *done, void *ctx, idx_error *err)
{
    idx_op *op = idx_op_new((idx_op_kind)IDX_OP_CATALOGUE_DELETE, name, "");
    return op != NULL ? submit(ix, op, done, ctx, err) : idx_fail(err, IDX_ENOMEM, "no memory");
}

static void describe(idx_cat *c, idx_catalogue *out)
{
    pthread_rwlock_rdlock(&c->lock);
    *out = c->row.info;
    out->items = c->live_items;
    out->images = c->live_images;
    out->fresh_images = idx_cat_fresh(c);
    out->sealed_images = c->live_images - out->fresh_images;
    for (int i = 0; i < IDX_AUDIT_KINDS; i++) {
        idx_audit *a = &c->audit[i];
        pthread_mutex_lock(&a->lock);
        out->recall[i] = a->instead ? 1 : a->recall;
        out->audits[i] = a->audits;
        out->effort[i] = a->effort;
        pthread_mutex_unlock(&a->lock);
    }
    for (uint32_t i = 0; i < c->n_segments; i++) {
        out->segments += c->segments[i]->ann != NULL;
        out->deleted_images += c->segments[i]->dead;
    }
    pthread_rwlock_unlock(&c->lock);
}

idx_status idx_catalogue_get(idx *ix, const char *name, idx_catalogue *out, idx_error *err)
{
    idx_cat *c = idx_take_cat(ix, name, err);
    if (c == NULL) return IDX_ENOTFOUND;
    describe(c, out);
    idx_give_cat(ix, c);
    return IDX_OK;
}

static int by_name(const void *a, const void *b) { return strcmp(((const idx_catalogue *)a)->name, ((const idx_catalogue *)b)->name); }

idx_status idx_catalogue_list(idx *ix, idx_catalogue **out, size_t *n, idx_error *err)
{
    pthread_mutex_lock(&ix->table);
    idx_catalogue *list = calloc(ix->n_cats + 1, sizeof *list);
    for (size_t i = 0; list != NULL && i < ix->n_cats; i++) describe(ix->cats[i], &list[i]);
    *n = ix->n_cats;
    pthread_mutex_unlock(&ix->table);
    if (list == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for a list");
    qsort(list, *n, sizeof *list, by_name);
    *out = list;
    return IDX_OK;
}

/* ---- items ------------------------------------------------------------------------------------------------------------------------ */

void idx_item_free(idx_item *it)
{
    if (it == NULL) return;
    free(it->id);
    free(it->attributes);
    free(it->images);
    free(it);
}

void idx_items_free(idx_item **it, size_t n)
{
    for (size_t i = 0; it != NULL && i < n; i++) idx_item_free(it[i]);
    free(it);
}

idx_status idx_item_get(idx *ix, const char *catalogue, const char *id, idx_item **out, idx_error *err)
{
    idx_cat *c = idx_take_cat(ix, catalogue, err);
    if (c == NULL) return IDX_ENOTFOUND;
    idx_status st = idx_store_item_get(ix->store, c->row.id, id, out, err);
    idx_give_cat(ix, c);
    return st;
}

idx_status idx_rendition_get(idx *ix, const char *catalogue, const char *id, uint32_t n, uint8_t **bytes, size_t *len, idx_error *err)
{
    idx_cat *c = idx_take_cat(ix, catalogue, err);
    if (c == NULL) return IDX_ENOTFOUND;
    idx_status st = idx_store_rendition(ix->store, c->row.id, id, n, bytes, len, err);
    idx_give_cat(ix, c);
    return st;
}

idx_status idx_embeddings_get(idx *ix, const char *catalogue, const char *id, float **out, size_t *n_images, uint32_t *dim, idx_error *err)
{
    idx_cat *c = idx_take_cat(ix, catalogue, err);
    if (c == NULL) return IDX_ENOTFOUND;
    idx_status st = idx_store_embeddings(ix->store, c->row.id, id, out, n_images, dim, err);
    idx_give_cat(ix, c);
    return st;
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Ids that match, above `after`, sorted: all of them are looked at, which costs less than walking the store. */
static idx_status matching_ids(idx_cat *c, const idx_filter *f, const char *after, uint32_t limit, char ***out, size_t *n, idx_error *err)
{
    idx_bits items = {0};
    char **ids = NULL;
    size_t count = 0;
    pthread_rwlock_rdlock(&c->lock);
    idx_status st = idx_filter_eval(f, c->attrs, &items, err);
    if (st == IDX_OK && (ids = malloc((idx_bits_count(items.w, items.n_words) + 1) * sizeof *ids)) == NULL) st = idx_fail(err, IDX_ENOMEM, "no memory for a page");
    if (st == IDX_OK) {
        idx_bits_iter it = idx_bits_begin(items);
        for (uint32_t i; idx_bits_next(&it, &i);)
            if (after == NULL || strcmp(idx_item_id(c, i), after) > 0) ids[count++] = (char *)(uintptr_t)idx_item_id(c, i); /* borrowed under the lock */
        qsort(ids, count, sizeof *ids, by_text);
        if (count > limit) count = limit;
        for (size_t i = 0; i < count; i++)
            if ((ids[i] = strdup(ids[i])) == NULL) {
                count = i;
                st = idx_fail(err, IDX_ENOMEM, "no memory for a page");
                break;
            }
    }
    pthread_rwlock_unlock(&c->lock);
    idx_bits_free(&items);
    *out = ids;
    *n = count;
    return st;
}

idx_status idx_item_list(idx *ix, const char *catalogue, const char *filter, const char *after, uint32_t limit, idx_item ***out, size_t *n, bool *more,
                         idx_error *err)
{
    if (limit < 1 || limit > 1000) return idx_fail(err, IDX_EINVAL, "limit is %" PRIu32 "; 1 to 1000 are allowed", limit);
    idx_cat *c = idx_take_cat(ix, catalogue, err);
    if (c == NULL) return IDX_ENOTFOUND;
    idx_filter *f = NULL;
    char **ids = NULL;
    size_t count = 0, got = 0;
    idx_item **items = calloc(limit + 1u, sizeof *items);
    idx_status st = items == NULL ? idx_fail(err, IDX_ENOMEM, "no memory for a page") : IDX_OK;
    if (st == IDX_OK && filter != NULL && filter[0] != 0) st = idx_filter_parse(filter, &f, err);
    if (st == IDX_OK)
        st = f != NULL ? matching_ids(c, f, after, limit + 1, &ids, &count, err) : idx_store_ids(ix->store, c->row.id, after, limit + 1, &ids, &count, err);
    for (size_t i = 0; st == IDX_OK && i < count && i < limit; i++) {
        idx_error why = {0};
        idx_status one = idx_store_item_get(ix->store, c->row.id, ids[i], &items[got], &why);
        if (one == IDX_OK) got++;
        else if (one != IDX_ENOTFOUND) st = idx_fail(err, one, "%s", why.text);
    }
    for (size_t i = 0; ids != NULL && i < count; i++) free(ids[i]);
    free(ids);
    idx_filter_free(f);
    idx_give_cat(ix, c);
    if (st != IDX_OK) {
        idx_items_free(items, got);
        return st;
    }
    *out = items;
    *n = got;
    *more = count > limit;
    return IDX_OK;
}

/* ---- care --------------------------------------------------------------------------------------------------------------------------- */

idx_status idx_check(idx *ix, idx_error *err)
{
    idx_status st = idx_store_quick_check(ix->store, err);
    for (size_t i = 0; st == IDX_OK; i++) {
        idx_cat *c = idx_take_cat_at(ix, i);
        if (c == NULL) break;
        pthread_rwlock_rdlock(&c->lock);
        st = idx_cat_check(c, ix->store, err);
        pthread_rwlock_unlock(&c->lock);
        idx_give_cat(ix, c);
    }
    return st;
}

void idx_get_stats(idx *ix, idx_stats *out)
{
    *out = (idx_stats){.commits = atomic_load(&ix->commits), .committed_ops = atomic_load(&ix->committed_ops),
                       .fsync_ns_total = atomic_load(&ix->fsync_ns), .read_only = atomic_load(&ix->read_only), .full = atomic_load(&ix->full)};
    pthread_mutex_lock(&ix->queue_lock);
    out->queue = ix->queued;
    pthread_mutex_unlock(&ix->queue_lock);
    pthread_mutex_lock(&ix->table);
    for (size_t i = 0; i < ix->n_cats; i++) {
        idx_cat *c = ix->cats[i];
        pthread_rwlock_rdlock(&c->lock);
        for (uint32_t k = 0; k < c->n_segments; k++) {
            out->rss_vectors_bytes += idx_rows_bytes(c->segments[k]->v);
            out->rss_graph_bytes += idx_ann_bytes(c->segments[k]->ann);
            out->rss_lists_bytes += idx_parts_bytes(c->segments[k]->parts);
        }
        out->rss_items_bytes += idx_cat_bytes(c);
        out->rss_attributes_bytes += idx_attrs_bytes(c->attrs) + idx_matches_bytes(&c->matches);
        pthread_rwlock_unlock(&c->lock);
    }
    pthread_mutex_unlock(&ix->table);
    out->rss_attributes_bytes += idx_records_bytes(ix->records);
    out->disk_bytes = idx_store_bytes(ix->store) + idx_segments_bytes(ix->segment_dir);
}
