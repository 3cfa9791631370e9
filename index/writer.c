/* writer.c: the one thread that writes. Everything that waits becomes one transaction; after the commit the catalogues in
 * memory follow, then the callbacks say so. */
#include "links.h"

#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <time.h>

enum { BATCH_OPS = 512, APPLY_OPS = 32 /* under one lock: some hundred microseconds */, LOG_LINES = 4096 };

/* ---- a batch ---------------------------------------------------------------------------------------------------- */

typedef struct { /* an operation between the transaction and memory */
    idx_op *op;
    idx_cat *cat;
    idx_store_place place; /* of the item, as the transaction leaves it */
    int64_t stamp; /* of its line in the log */
    char *attributes; /* as stored */
    bool is_new, keeps_images, keeps_attributes;
} applied;

static idx_status store_put(idx *ix, applied *a, idx_error *err)
{
    idx_op *op = a->op;
    const idx_catalogue *info = &a->cat->row.info;
    if (op->n_images > 0 && (op->dim != info->dim || (op->fingerprint[0] != 0 && strcmp(op->fingerprint, info->fingerprint) != 0)))
        return idx_fail(err, IDX_EMODEL, "catalogue %s holds embeddings of model %.60s (%.12s), not of this one", info->name, info->model, info->fingerprint);
    char *old = NULL;
    idx_status st = idx_store_item_find(ix->store, a->cat->row.id, op->item, &a->place, &old, err);
    if (st != IDX_OK) return st;
    const char *new = op->attributes != NULL ? op->attributes : "{}";
    a->keeps_attributes = old != NULL && strcmp(old, new) == 0;
    free(old);
    a->is_new = a->place.item == 0;
    a->keeps_images = op->n_images == 0;
    if (!a->is_new && op->must_not_exist) return idx_fail(err, IDX_EEXISTS, "item %.200s exists", op->item);
    if (a->is_new && a->keeps_images) return idx_fail(err, IDX_ENOTFOUND, "there is no item %.200s whose images could be kept", op->item);
    a->attributes = strdup(new);
    if (a->attributes == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for attributes");
    int64_t now = idx_now_ms();
    st = a->is_new ? idx_store_item_add(ix->store, a->cat->row.id, op->item, a->attributes, now, &a->place, err)
                   : idx_store_item_update(ix->store, a->place.item, a->attributes, now, err);
    /* A shop that sends its whole catalogue every night sends mostly what is here: its rows stay where they are, with their links. */
    if (st == IDX_OK && !a->is_new && !a->keeps_images) st = idx_store_images_same(ix->store, &a->place, op->images, (uint32_t)op->n_images, op->dim, &a->keeps_images, err);
    if (st != IDX_OK || a->keeps_images) return st;
    return idx_store_images_set(ix->store, &a->place, op->images, (uint32_t)op->n_images, op->dim, err);
}

static idx_status store_patch(idx *ix, applied *a, idx_error *err)
{
    char *old = NULL;
    idx_status st = idx_store_item_find(ix->store, a->cat->row.id, a->op->item, &a->place, &old, err);
    if (st == IDX_OK && a->place.item == 0) st = idx_fail(err, IDX_ENOTFOUND, "there is no item %.200s", a->op->item);
    if (st == IDX_OK) st = idx_attrs_merge(old, a->op->attributes != NULL ? a->op->attributes : "{}", &a->attributes, err);
    free(old);
    return st == IDX_OK ? idx_store_item_update(ix->store, a->place.item, a->attributes, idx_now_ms(), err) : st;
}

static idx_status store_delete(idx *ix, applied *a, idx_error *err)
{
    idx_status st = idx_store_item_find(ix->store, a->cat->row.id, a->op->item, &a->place, NULL, err);
    if (st == IDX_OK && a->place.item == 0) return idx_fail(err, IDX_ENOTFOUND, "there is no item %.200s", a->op->item);
    return st == IDX_OK ? idx_store_item_remove(ix->store, &a->place, err) : st;
}

/* A new catalogue travels in op->attributes as its row; see catalogue_op() in index.c. */
static idx_status store_new_catalogue(idx *ix, applied *a, idx_error *err)
{
    static const char *const storage[] = {"auto", "float32", "float16", "int8"}; /* by idx_storage */
    idx_new_catalogue what;
    memcpy(&what, a->op->attributes, sizeof what);
    idx_catalogue_row row = what.row;
    idx_cat *there = idx_take_cat(ix, row.info.name, NULL);
    if (there != NULL) {
        const idx_catalogue *is = &there->row.info;
        bool same = is->dim == row.info.dim && strcmp(is->fingerprint, row.info.fingerprint) == 0;
        idx_status st = IDX_OK;
        if (!same) st = idx_fail(err, IDX_EEXISTS, "catalogue %s exists with model %.60s (%.12s) and dim %" PRIu32, row.info.name, is->model, is->fingerprint, is->dim);
        else if (!what.any_storage && is->storage != row.info.storage) st = idx_fail(err, IDX_EEXISTS, "catalogue %s exists with storage %s, which cannot be changed", row.info.name, storage[is->storage]);
        idx_give_cat(ix, there);
        return st;
    }
    idx_status st = idx_store_catalogue_add(ix->store, &row, err);
    if (st == IDX_OK) st = idx_cat_new(&row, ix->opts.ef_search, &a->cat, err);
    a->is_new = st == IDX_OK;
    if (st == IDX_OK) a->cat->refs = 1; /* the table's, once it is in */
    return st;
}

static idx_status store_catalogue(idx *ix, applied *a, idx_error *err)
{
    if ((int)a->op->kind == IDX_OP_CATALOGUE_PUT) return store_new_catalogue(ix, a, err);
    if ((a->cat = idx_take_cat(ix, a->op->catalogue, err)) == NULL) return IDX_ENOTFOUND;
    if ((int)a->op->kind == IDX_OP_CATALOGUE_DELETE) return idx_store_catalogue_remove(ix->store, a->cat->row.id, err);
    return idx_store_catalogue_keep(ix->store, a->cat->row.id, (idx_storage)a->op->dim, err);
}

static int64_t random_stamp(void)
{
    int64_t r;
    if (getrandom(&r, sizeof r, GRND_NONBLOCK) != (ssize_t)sizeof r) r = (int64_t)idx_mono_ns(); /* before the kernel has entropy */
    return r;
}

/* Lines of the log that no derived file needs go, in the transaction of the batch that last wrote to the catalogue. The newest
 * stay: a file may be about to be written whose generation is not known here yet. A million may be waiting after an import: they go
 * some faster than new ones come. */
static idx_status trim_log(idx *ix, const applied *a, size_t n, idx_error *err)
{
    while (n > 0 && (a[n - 1].op->status != IDX_OK || a[n - 1].cat == NULL || (int)a[n - 1].op->kind >= IDX_OP_CATALOGUE_PUT)) n--;
    if (n == 0) return IDX_OK;
    idx_cat *c = a[n - 1].cat;
    const uint32_t most = 64 + 4 * (uint32_t)n;
    uint64_t keep = atomic_load(&c->log_from), newest = c->generation > LOG_LINES ? c->generation - LOG_LINES : 0;
    return idx_store_changes_trim(ix->store, c->row.id, keep < newest ? keep : newest, most, err);
}

static idx_status store_one(idx *ix, applied *a, idx_error *err)
{
    if ((int)a->op->kind >= IDX_OP_CATALOGUE_PUT) return store_catalogue(ix, a, err);
    if ((a->cat = idx_take_cat(ix, a->op->catalogue, err)) == NULL) return IDX_ENOTFOUND;
    idx_status st = a->op->kind == IDX_PUT ? store_put(ix, a, err) : a->op->kind == IDX_PATCH ? store_patch(ix, a, err) : store_delete(ix, a, err);
    if (st != IDX_OK) return st;
    a->op->generation = ++a->cat->generation;
    a->stamp = random_stamp();
    return idx_store_change(ix->store, a->cat->row.id, a->op->generation, a->place.item, a->stamp, err);
}

/* Memory follows the store. Out of memory here leaves the two apart: the index goes read-only and says so. */
static idx_status apply_catalogue(idx *ix, applied *a, idx_error *err)
{
    idx_cat *c = a->cat;
    if ((int)a->op->kind == IDX_OP_CATALOGUE_PUT) {
        if (a->is_new && !idx_table_add(ix, c)) return idx_fail(err, IDX_ENOMEM, "no memory for a catalogue");
        a->op->created = a->is_new;
        a->cat = NULL; /* the reference is the table's now */
    } else if ((int)a->op->kind == IDX_OP_CATALOGUE_DELETE) {
        idx_table_remove(ix, c);
    } else {
        idx_cat_lock(c);
        c->row.info.kept = (idx_storage)a->op->dim;
        pthread_rwlock_unlock(&c->lock);
    }
    return IDX_OK;
}

/* Under the exclusive lock. */
static idx_status apply_item(applied *a, idx_error *err)
{
    idx_op *op = a->op;
    idx_cat *c = a->cat;
    idx_status st = IDX_OK;
    uint32_t item = idx_cat_find(c, op->item);
    if (op->kind == IDX_DELETE) {
        if (item != IDX_NONE) idx_cat_item_remove(c, item);
    } else if (a->is_new) {
        st = idx_cat_item_add(c, op->item, a->place.item, a->attributes, &item, err);
    } else {
        c->items[item].version = (c->items[item].version + 1) & IDX_VERSIONS;
        if (!a->keeps_attributes) st = idx_attrs_set(c->attrs, item, a->attributes, err);
        if (st == IDX_OK && op->kind == IDX_PUT && !a->keeps_images) idx_cat_images_remove(c, item);
    }
    if (st == IDX_OK && op->kind == IDX_PUT && !a->keeps_images) {
        const float *vectors[IDX_MAX_IMAGES];
        for (size_t i = 0; i < op->n_images; i++) vectors[i] = op->images[i].embedding;
        st = idx_cat_images_add(c, item, a->place.first_image, vectors, (uint32_t)op->n_images, err);
    }
    c->row.info.generation = op->generation;
    c->stamp = a->stamp;
    op->created = op->kind == IDX_PUT && a->is_new;
    return st;
}

static void lost(idx *ix, const idx_error *why)
{
    atomic_store(&ix->read_only, true);
    if (ix->opts.log != NULL) ix->opts.log(ix->opts.log_ctx, 2, why->text);
}

/* Some writes of one catalogue, a[0..n), under one lock: each alone would wait for the searches that run. */
static void apply_items(idx *ix, applied *a, size_t n)
{
    idx_cat *c = a->cat;
    idx_error why = {0};
    idx_cat_lock(c);
    for (size_t i = 0; i < n; i++) {
        if (a[i].op->status != IDX_OK) continue;
        why = (idx_error){0};
        if (apply_item(&a[i], &why) != IDX_OK) lost(ix, &why);
    }
    bool work = idx_keeper_is_wanted(ix, c);
    ix->behind = ix->has_keeper ? idx_links_behind(ix, c) : 0;
    pthread_rwlock_unlock(&c->lock);
    if (work) idx_wake_keeper(ix);
}

static void apply(idx *ix, applied *a, size_t n)
{
    for (size_t i = 0, j; i < n; i = j) {
        j = i + 1;
        if (a[i].op->status != IDX_OK || a[i].cat == NULL) continue; /* a catalogue that was there already has none */
        if ((int)a[i].op->kind >= IDX_OP_CATALOGUE_PUT) {
            idx_error why = {0};
            if (apply_catalogue(ix, &a[i], &why) != IDX_OK) lost(ix, &why);
            continue;
        }
        while (j < n && j < i + APPLY_OPS && (a[j].op->status != IDX_OK || a[j].cat == a[i].cat)) j++;
        apply_items(ix, a + i, j - i);
    }
}

static bool disk_low(idx *ix)
{
    struct statvfs v;
    if (statvfs(ix->dir, &v) != 0) return false;
    uint64_t left = (uint64_t)v.f_bavail * v.f_frsize, floor_bytes = ix->opts.disk_floor_bytes;
    if (atomic_load(&ix->full)) floor_bytes *= 2; /* hysteresis */
    atomic_store(&ix->full, left < floor_bytes);
    return left < floor_bytes;
}

/* What may leave a write half done in the transaction, which must then go as a whole. SQLite has rolled it back already after
 * some of these, and everything behind would commit by itself. */
static bool storage_failed(idx_status st)
{
    return st == IDX_EIO || st == IDX_ECORRUPT || st == IDX_EFULL || st == IDX_ENOMEM || st == IDX_EBUSY;
}

/* A failed transaction takes every operation of the batch with it. */
static void fail_all(idx *ix, applied *a, size_t n, idx_status st, const idx_error *err)
{
    if (st == IDX_EIO || st == IDX_ECORRUPT) {
        atomic_store(&ix->read_only, true);
        if (ix->opts.log != NULL) ix->opts.log(ix->opts.log_ctx, 2, err->text);
    }
    for (size_t i = 0; i < n; i++) {
        a[i].op->status = st;
        a[i].op->error = *err;
        /* Generations counted up for rows that were rolled back; only gaps, which nobody minds. */
    }
}

/* With gives_way, searches that wait for this processor go first before the commit and before the lock: who holds it should not lose its turn. */
static void write_batch(idx *ix, applied *a, size_t n, bool gives_way)
{
    idx_error err = {0};
    if (atomic_load(&ix->read_only)) {
        idx_fail(&err, IDX_EIO, "the storage failed earlier; nothing is written until the server is restarted");
        for (size_t i = 0; i < n; i++) a[i].op->status = IDX_EIO, a[i].op->error = err;
        return;
    }
    bool low = disk_low(ix);
    idx_status st = idx_store_begin(ix->store, &err);
    size_t wrote = 0;
    for (size_t i = 0; st == IDX_OK && i < n; i++) {
        idx_op *op = a[i].op;
        op->error = (idx_error){0};
        bool frees = op->kind == IDX_DELETE || (int)op->kind == IDX_OP_CATALOGUE_DELETE;
        op->status = low && !frees ? idx_fail(&op->error, IDX_EFULL, "less than %" PRIu64 " MB of disk are free", ix->opts.disk_floor_bytes >> 20)
                                   : store_one(ix, &a[i], &op->error);
        if (storage_failed(op->status) && !(low && !frees)) st = op->status, err = op->error;
        wrote += op->status == IDX_OK;
    }
    if (st == IDX_OK) st = trim_log(ix, a, n, &err);
    if (gives_way) sched_yield();
    uint64_t t = idx_mono_ns();
    if (st == IDX_OK) st = idx_store_commit(ix->store, &err);
    atomic_fetch_add(&ix->fsync_ns, idx_mono_ns() - t);
    if (st != IDX_OK) {
        idx_store_rollback(ix->store);
        fail_all(ix, a, n, st, &err);
        return;
    }
    atomic_fetch_add(&ix->commits, 1);
    atomic_fetch_add(&ix->committed_ops, wrote);
    if (gives_way) sched_yield();
    apply(ix, a, n);
}

/* After a batch has been answered for: what comes meanwhile waits, but nobody who was there before. */
static void take_in_log(idx *ix)
{
    idx_error why = {0};
    if (!atomic_load(&ix->read_only) && idx_store_checkpoint_due(ix->store, &why) != IDX_OK) lost(ix, &why);
}

/* What deletions leave in the store goes back to the file system in pieces: when nothing waits, and now and then when something
 * always does. */
typedef struct {
    bool wanted, begun;
    uint32_t batches; /* since the last piece */
} shrinking;

static bool frees_pages(const idx_op *op)
{
    return op->status == IDX_OK && (op->kind == IDX_DELETE || (op->kind == IDX_PUT && !op->created) || (int)op->kind == IDX_OP_CATALOGUE_DELETE);
}

static void shrink(idx *ix, shrinking *s)
{
    idx_error err = {0};
    s->batches = 0;
    if (atomic_load(&ix->read_only) || atomic_load(&ix->full)) s->begun = false; /* the log of the piece would take room first */
    else if (idx_store_shrink(ix->store, &s->begun, &err) != IDX_OK) s->begun = false, idx_say(ix, 1, "%s", err.text);
    s->wanted = s->begun;
}

/* Beside searches the writer takes a processor that is free, or its turn, but does not stop a search in the middle (SCHED_BATCH), which is done in
 * less than a tenth of a millisecond and would wait for a commit. Where its turn is long in coming, as beside searches that keep every processor
 * busy, it insists: a commit wakes up some times, and each time it would wait again. Without searches there is nobody to be polite to, and the
 * threads of low priority would profit. */
typedef struct {
    bool polite;
    uint32_t insists; /* for so many batches more */
} manners;

/* A batch, and how long the writer neither worked nor waited for the disk. */
static void write_politely(idx *ix, applied *a, size_t n, bool beside_searches, manners *m)
{
    enum { LATE_NS = 8000000, INSIST = 200 };
    const bool polite = beside_searches && m->insists == 0;
    if (polite != m->polite && sched_setscheduler(0, polite ? SCHED_BATCH : SCHED_OTHER, &(struct sched_param){0}) == 0) m->polite = polite;
    const uint64_t began = idx_mono_ns(), own = idx_thread_ns(), disk = atomic_load(&ix->fsync_ns);
    write_batch(ix, a, n, beside_searches);
    const uint64_t took = idx_mono_ns() - began, busy = idx_thread_ns() - own + (atomic_load(&ix->fsync_ns) - disk);
    if (took > busy + LATE_NS) m->insists = INSIST;
    else if (m->insists > 0) m->insists--;
}

/* Under the queue's lock. Waits for operations; with something to give back, only for a moment. */
static void wait_for_ops(idx *ix, const shrinking *s)
{
    const struct timespec until = idx_deadline((s->begun ? 2 : 500) * UINT64_C(1000000));
    for (int late = 0; ix->head == NULL && !ix->closing && late == 0;)
        late = s->wanted ? pthread_cond_timedwait(&ix->queue_filled, &ix->queue_lock, &until) : pthread_cond_wait(&ix->queue_filled, &ix->queue_lock);
}

typedef struct { /* the last batch */
    uint64_t began_ns;
    unsigned long long searches; /* begun before it */
    bool beside_searches;        /* some began since the one before */
} last_batch;

/* Under the queue's lock, with something in it. A commit, and the lock after it, take some tenths of a millisecond from searches: beside
 * them commits keep a distance, and what comes meanwhile goes together; a longer one where so many searches run that the processors have
 * little left, and a commit costs all that wait behind it. Without searches nobody waits. */
static void keep_distance(idx *ix, last_batch *last)
{
    enum { DISTANCE_NS = 2000000, LONG_NS = 6000000, BUSY_NS = 100000 /* from search to search */, MANY = 64 };
    uint64_t now = idx_mono_ns(), ran = atomic_load(&ix->searches) - last->searches;
    uint64_t until = last->began_ns + (ran * BUSY_NS > now - last->began_ns ? LONG_NS : DISTANCE_NS);
    if (ran > 0 && ix->queued < MANY && !ix->closing && now < until) {
        pthread_mutex_unlock(&ix->queue_lock);
        nanosleep(&(struct timespec){0, (long)(until - now)}, NULL);
        pthread_mutex_lock(&ix->queue_lock);
        now = idx_mono_ns();
    }
    *last = (last_batch){now, atomic_load(&ix->searches), ran > 0};
}

/* Searches compare with every row that waits for its links. An import that is faster than linking would make them slow for as long as it
 * takes and a while longer: beyond some ten thousand rows its puts are slowed to the pace of linking, as other engines stall writers that
 * their merges cannot follow. Fewer go together then, so that none waits long. */
enum { BEHIND_OPS = 64 };

static void wait_for_links(uint32_t behind, size_t ops)
{
    enum { LINK_NS = 120000, /* for a row, on a machine of few processors that writes as well */ TWICE = 8192 /* rows behind: it takes longer */ };
    nanosleep(&(struct timespec){0, (long)ops * (LINK_NS + (long)(behind < TWICE ? behind : TWICE) * LINK_NS / TWICE)}, NULL);
}

static void *writer_main(void *arg)
{
    idx *ix = arg;
    pthread_setname_np(pthread_self(), "index writer"); /* for who looks at threads, in top -H and in perf */
    (void)idx_low_short_turns(); /* a search that wakes up while a batch is computed need not wait for its end */
    applied *a = calloc(BATCH_OPS, sizeof *a);
    shrinking spare = {.wanted = true}; /* what an earlier process left */
    last_batch last = {0};
    manners m = {0};
    for (;;) {
        pthread_mutex_lock(&ix->queue_lock);
        wait_for_ops(ix, &spare);
        if (ix->head != NULL) keep_distance(ix, &last);
        size_t n = 0;
        bool alone = false; /* a catalogue is made or removed in a transaction of its own: others may name it */
        while (ix->head != NULL && n < (ix->behind > 0 ? BEHIND_OPS : BATCH_OPS) && !alone) {
            bool catalogue = (int)ix->head->kind >= IDX_OP_CATALOGUE_PUT;
            if (catalogue && n > 0) break;
            alone = catalogue;
            a[n] = (applied){.op = ix->head};
            ix->head = ix->head->next;
            n++;
        }
        if (ix->head == NULL) ix->tail = NULL;
        ix->queued -= n;
        bool end = n == 0 && ix->closing, slow = ix->behind > 0 && !ix->closing;
        pthread_mutex_unlock(&ix->queue_lock);
        if (end) break;
        if (slow) wait_for_links(ix->behind, n);
        ix->behind = 0;
        if (n > 0) write_politely(ix, a, n, last.beside_searches, &m);
        for (size_t i = 0; i < n && !spare.wanted; i++) spare.wanted = frees_pages(a[i].op);
        for (size_t i = 0; i < n; i++) {
            if (a[i].cat != NULL) idx_give_cat(ix, a[i].cat);
            free(a[i].attributes);
            if (a[i].op->done != NULL) a[i].op->done(a[i].op, a[i].op->ctx);
            idx_op_free(a[i].op);
        }
        take_in_log(ix);
        if (spare.wanted && (n == 0 || ++spare.batches >= 64)) shrink(ix, &spare);
    }
    free(a);
    return NULL;
}

idx_status idx_writer_start(idx *ix, idx_error *err)
{
    if (pthread_create(&ix->writer, NULL, writer_main, ix) != 0) return idx_fail(err, IDX_ENOMEM, "cannot start the writer thread");
    ix->has_writer = true;
    return IDX_OK;
}

void idx_writer_stop(idx *ix)
{
    if (!ix->has_writer) return;
    pthread_mutex_lock(&ix->queue_lock);
    ix->closing = true;
    pthread_cond_signal(&ix->queue_filled);
    pthread_mutex_unlock(&ix->queue_lock);
    pthread_join(ix->writer, NULL);
    ix->has_writer = false;
}
