/* keeper.c: the thread that keeps segments in shape: it links fresh rows (links.c), makes segments of the living anew (rebuild.c), decides
 * how vectors are kept, keeps lists (lists.c) and attributes (attrs_keep.c, attrs_anew.c) in step, and saves what it made. One piece of work
 * at a time; the catalogue's lock is held exclusively for less than a millisecond at a time, and what takes long is done at low priority
 * without it (low.h). */
#include "attrs_anew.h"
#include "attrs_keep.h"
#include "links.h"
#include "lists.h"
#include "rebuild.h"
#include "segment_file.h"
#include "storage.h"

#include <stdlib.h>
#include <time.h>

enum {
    SAVE_ROWS = 4096,  /* and SAVE_SHARE of the graph: linked rows that are worth writing the graph for, or such as have better links */
    SAVE_SHARE = 32,
    IDLE_SHARE = 1024, /* of the graph, when nothing else is to be done: fewer are linked again after a start, in some hundredths of a second */
    IDLE_MS = 1000,
    MOST_FAILED = 6, /* rounds in a row: it doubles with each, to a minute */
};

/* ---- files --------------------------------------------------------------------------------------------------------------- */

static bool wants_saving(const idx_segment *g, bool idle)
{
    const uint32_t linked = idx_segment_linked(g), mended = idx_segment_careful(g) == linked ? linked - g->careful_saved : 0;
    const uint32_t fresh = linked - g->graph_saved, unsaved = mended > fresh ? mended : fresh;
    if (idle) return unsaved > 0 && unsaved >= g->graph_saved / IDLE_SHARE;
    return unsaved >= SAVE_ROWS && unsaved >= g->graph_saved / SAVE_SHARE;
}

static idx_status save(idx *ix, idx_cat *c, bool idle, bool *worked, idx_error *err)
{
    idx_segment *g = NULL;
    pthread_rwlock_rdlock(&c->lock);
    for (uint32_t i = 0; i < c->n_segments && g == NULL && !c->removed; i++)
        if (wants_saving(c->segments[i], idle)) g = c->segments[i];
    pthread_rwlock_unlock(&c->lock);
    *worked = g != NULL;
    return g != NULL ? idx_segment_save(c, g, ix->segment_dir, err) : IDX_OK;
}

/* ---- how vectors are kept ----------------------------------------------------------------------------------------------------- */

typedef struct {
    idx *ix;
    const idx_rows *v;
    const uint32_t *rows;
    uint32_t n;
    idx_storage kept;
    double recall[2];
    idx_status st;
    idx_error *err;
} trial;

static void try_low(void *ctx)
{
    trial *t = ctx;
    t->st = idx_storage_choose(t->v, t->rows, t->n, &t->ix->stop, &t->kept, t->recall, t->err);
}

/* Of a catalogue whose vectors are float32 because nobody said otherwise: once there are enough to tell. */
static idx_status decide(idx *ix, idx_cat *c, bool *worked, idx_error *err)
{
    pthread_rwlock_rdlock(&c->lock);
    const idx_segment *g = c->n_segments > 0 && !c->removed ? c->segments[c->n_segments - 1] : NULL;
    *worked = c->row.info.kept == IDX_STORAGE_AUTO && g != NULL && g->rows - g->dead >= ix->opts.segment_images;
    uint32_t *rows = *worked ? malloc(g->rows * sizeof *rows) : NULL, n = 0;
    for (uint32_t r = 0; rows != NULL && r < g->rows; r++)
        if (g->item[r] != IDX_NONE) rows[n++] = r;
    pthread_rwlock_unlock(&c->lock);
    if (!*worked) return IDX_OK;
    if (rows == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for a trial");
    trial t = {.ix = ix, .v = g->v, .rows = rows, .n = n, .kept = IDX_FLOAT32, .err = err};
    idx_low_run(ix->low, try_low, &t);
    free(rows);
    if (t.st != IDX_OK) return t.st;
    static const char *const names[] = {"auto", "float32", "float16", "int8"};
    idx_say(ix, 0, "catalogue %s: vectors are kept as %s (recall@10 of int8 %.4f, of float16 %.4f)", c->row.info.name, names[t.kept], t.recall[0], t.recall[1]);
    return idx_catalogue_keep(ix, c, t.kept, err);
}

/* ---- the thread ------------------------------------------------------------------------------------------------------------------ */

/* What wakes the keeper: when it sleeps, a single row, for which it then waits until nothing is written. Whether it is worth it is decided again when it looks. */
bool idx_keeper_is_wanted(const idx *ix, const idx_cat *c)
{
    return idx_links_wanted(ix, c, atomic_load(&ix->asleep)) || idx_rebuild_wanted(ix, c) || idx_attrs_wanted(c) || idx_attrs_anew_wanted(c, ix);
}

void idx_wake_keeper(idx *ix)
{
    pthread_mutex_lock(&ix->wake_lock);
    ix->woken = true;
    pthread_cond_signal(&ix->wake);
    pthread_mutex_unlock(&ix->wake_lock);
}

static void tidy(idx_cat *c)
{
    pthread_rwlock_rdlock(&c->lock);
    bool more = !c->removed && idx_cat_untidy(c);
    pthread_rwlock_unlock(&c->lock);
    while (more) {
        idx_cat_lock(c);
        more = idx_cat_tidy(c);
        pthread_rwlock_unlock(&c->lock);
        idx_cat_let_in();
    }
}

static idx_status maintain_cat(idx *ix, idx_cat *c, bool idle, bool *worked, idx_error *err)
{
    idx_status st = decide(ix, c, worked, err);
    if (st == IDX_OK && !*worked) st = idx_rebuild_of_other_storage(c, ix, worked, err);
    if (st == IDX_OK && !*worked) st = idx_links_maintain(c, ix, idle, worked, err);
    if (st == IDX_OK && !*worked) st = save(ix, c, idle, worked, err);
    if (st == IDX_OK && !*worked) st = idx_rebuild_dying(c, ix, idle, worked, err);
    if (st == IDX_OK && !*worked) st = idx_attrs_anew(c, ix, worked, err);
    if (st == IDX_OK && !*worked) st = idx_links_mend(c, ix, idle, worked, err);
    if (st == IDX_OK && !*worked) tidy(c);
    if (st == IDX_OK && !*worked) st = idx_lists_maintain(c, ix, idle, worked, err);
    if (st == IDX_OK && !*worked) st = idx_attrs_maintain(c, ix, idle ? IDX_ATTRS_IDLE : IDX_ATTRS_BUSY, worked, err);
    return st;
}

/* One piece of work on any catalogue but those that cannot be worked on. */
static idx_status maintain_once(idx *ix, bool idle, bool *worked, idx_error *err)
{
    idx_status st = IDX_OK;
    *worked = false;
    for (size_t i = 0; !*worked && !ix->stop; i++) {
        idx_cat *c = idx_take_cat_at(ix, i);
        if (c == NULL) break;
        idx_error why = {0};
        pthread_mutex_lock(&ix->maintain_lock);
        idx_status now = c->failed_in == ix->round ? IDX_OK : maintain_cat(ix, c, idle, worked, &why);
        if (now != IDX_OK) {
            c->failed_in = ix->round;
            *worked = false;
            idx_fail(err, now, "%s", why.text);
            if (st == IDX_OK) st = now;
        }
        pthread_mutex_unlock(&ix->maintain_lock);
        idx_give_cat(ix, c);
    }
    return st;
}

static bool is_woken(idx *ix)
{
    pthread_mutex_lock(&ix->wake_lock);
    bool woken = ix->woken;
    pthread_mutex_unlock(&ix->wake_lock);
    return woken;
}

/* Until there is nothing left to do. A catalogue on which something fails is left alone for this time, the others are not; the first error is returned.
 * wakes: whether somebody writes again is seen to between two pieces, as to mend links may take minutes. */
static idx_status maintain(idx *ix, bool idle, bool wakes, idx_error *err)
{
    idx_status st = IDX_OK, now;
    pthread_mutex_lock(&ix->maintain_lock);
    ix->round++;
    pthread_mutex_unlock(&ix->maintain_lock);
    for (bool worked = true; worked;)
        if ((now = maintain_once(ix, idle && !(wakes && is_woken(ix)), &worked, err)) != IDX_OK && st == IDX_OK) st = now;
    return st;
}

idx_status idx_maintain(idx *ix, idx_error *err) { return maintain(ix, true, false, err); }

/* Waits until there is something to do; *idle: until nothing was for a while. What failed so many times in a row, as on a full disk, is tried again
 * even if nobody writes. */
static bool wait(idx *ix, bool *idle, uint32_t failed)
{
    const struct timespec until = idx_deadline((IDLE_MS << failed) * UINT64_C(1000000));
    const bool forever = *idle && failed == 0;
    pthread_mutex_lock(&ix->wake_lock);
    int late = 0;
    while (!ix->woken && !ix->stop && late == 0) late = forever ? pthread_cond_wait(&ix->wake, &ix->wake_lock) : pthread_cond_timedwait(&ix->wake, &ix->wake_lock, &until);
    *idle = !ix->woken;
    ix->woken = false;
    atomic_store(&ix->asleep, *idle); /* from before it looks for the last time: what comes behind that wakes it */
    bool stop = ix->stop;
    pthread_mutex_unlock(&ix->wake_lock);
    return !stop;
}

static void *keeper_main(void *arg)
{
    idx *ix = arg;
    pthread_setname_np(pthread_self(), "index keeper");
    bool idle = false;
    uint32_t failed = 0;
    while (wait(ix, &idle, failed)) {
        idx_error err = {0};
        const bool ok = maintain(ix, idle, true, &err) == IDX_OK;
        failed = ok ? 0 : failed < MOST_FAILED ? failed + 1 : failed;
        if (!ok && !ix->stop) idx_say(ix, 1, "%s", err.text);
    }
    return NULL;
}

idx_status idx_keeper_start(idx *ix, idx_error *err)
{
    idx_status st = idx_low_start(&ix->fair, IDX_FAIR, err);
    if (st == IDX_OK) st = idx_low_start(&ix->low, IDX_NICE, err);
    if (st == IDX_OK) st = idx_low_start(&ix->idle, IDX_IDLE, err);
    if (st != IDX_OK) return st;
    ix->has_keeper = pthread_create(&ix->keeper, NULL, keeper_main, ix) == 0;
    if (!ix->has_keeper) return idx_fail(err, IDX_ENOMEM, "cannot start a thread");
    idx_wake_keeper(ix);
    return IDX_OK;
}

void idx_keeper_stop(idx *ix)
{
    pthread_mutex_lock(&ix->wake_lock);
    ix->stop = true;
    pthread_cond_signal(&ix->wake);
    pthread_mutex_unlock(&ix->wake_lock);
    if (ix->has_keeper) pthread_join(ix->keeper, NULL);
    ix->has_keeper = false;
    idx_low_stop(ix->fair);
    idx_low_stop(ix->low);
    idx_low_stop(ix->idle);
    ix->fair = ix->low = ix->idle = NULL;
}

/* What was linked since the last save: the next start need not link it again. */
void idx_keeper_save_all(idx *ix)
{
    for (size_t i = 0; i < ix->n_cats; i++) {
        idx_error err = {0};
        bool worked = true;
        while (worked && save(ix, ix->cats[i], true, &worked, &err) == IDX_OK) {}
        if (idx_attrs_maintain(ix->cats[i], ix, IDX_ATTRS_CLOSING, &worked, &err) != IDX_OK || err.status != IDX_OK) idx_say(ix, 1, "%s", err.text);
    }
}
