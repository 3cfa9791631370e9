/* keeper.c: the thread that keeps segments in shape: it links fresh rows, makes segments of the living anew, decides how vectors are
 * kept, and saves what it made. One piece of work at a time; the catalogue's lock is held exclusively for less than a millisecond at
 * a time, and what takes long is done at low priority without it (low.h). */
#include "lists.h"
#include "attrs_anew.h"
#include "attrs_keep.h"
#include "segment_file.h"
#include "storage.h"

#include <inttypes.h>
#include <malloc.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    LINK_ROWS = 1024,   /* in one piece: some tenths of a second */
    HURRY_ROWS = 512,   /* that wait: comparing them costs the searches more than linking them */
    CROWD_ROWS = 8192,  /* that wait, as in an import: a search that compares them takes several times as long; every processor that may links */
    BEHIND_ROWS = 16384, /* more than these, and puts wait with them */
    FRESH_ROWS = 64,    /* that are worth waking for once there is a graph: each search compares them, some hundred cost as much as a walk */
    SAVE_ROWS = 4096,   /* and SAVE_SHARE of the graph: linked rows that are worth writing the graph for */
    SAVE_SHARE = 32,
    IDLE_SHARE = 1024,  /* of the graph, when nothing else is to be done: fewer are linked again after a start, in some hundredths of a second */
    MOVE_ROWS = 512,    /* change places under one lock: some hundred microseconds */
    IDLE_MS = 1000,
};

/* ---- what is worth doing --------------------------------------------------------------------------------------------------- */

static bool of_other_storage(const idx *ix, const idx_cat *c, const idx_segment *g)
{
    (void)ix;
    return g->v->storage != idx_cat_storage(c);
}

static bool is_dying(const idx *ix, const idx_cat *c, const idx_segment *g)
{
    (void)c;
    return g->dead > g->rows / 5 && g->dead > ix->opts.segment_images / 20;
}

/* ---- what is done at low priority ------------------------------------------------------------------------------------------ */

typedef struct {
    idx_ann *ann;
    uint32_t to, threads;
    const uint64_t *alive;
    const _Atomic bool *stop;
    idx_status st;
    idx_error err;
} linking;

static void link_low(void *ctx)
{
    linking *l = ctx;
    l->err = (idx_error){0};
    l->st = l->threads > 1 ? idx_ann_link_many(l->ann, l->to, l->alive, l->threads, l->stop, &l->err)
                           : idx_ann_link(l->ann, l->to, l->alive, l->stop, &l->err);
}

/* After each row it gives way once more: a scheduler that counts what everybody had (EEVDF) may let it run, for half a millisecond, before a
 * search that has had more. */
static void link_idle(void *ctx)
{
    linking *l = ctx;
    l->err = (idx_error){0};
    l->st = IDX_OK;
    for (uint32_t next; l->st == IDX_OK && (next = idx_ann_linked(l->ann) + 1) <= l->to; sched_yield())
        l->st = idx_ann_link(l->ann, next, l->alive, l->stop, &l->err);
}

/* In a thread that gives way to everybody, unless many rows are waiting; what it has not done in four times the time that it takes alone, in
 * one, or several, that get their share of a busy machine. waiting: rows, those up to `to` among them. */
static idx_status link_rows(idx *ix, idx_ann *ann, uint32_t to, const uint64_t *alive, uint32_t waiting, idx_error *err)
{
    _Atomic bool enough = false;
    linking l = {.ann = ann, .to = to, .alive = alive, .stop = &enough, .st = IDX_EBUSY, .threads = waiting > CROWD_ROWS ? ix->opts.link_threads : 1};
    if (ix->idle != NULL && waiting <= HURRY_ROWS) idx_low_run_for(ix->idle, link_idle, &l, 20 + (to - idx_ann_linked(ann)) / 2, &enough);
    if (l.st == IDX_EBUSY) {
        l.stop = &ix->stop;
        idx_low_run(ix->low, link_low, &l);
    }
    return l.st == IDX_OK ? IDX_OK : idx_fail(err, l.st, "%s", l.err.text);
}

typedef struct {
    idx *ix;
    const idx_segment *g;
    uint32_t rows;
    idx_ann *out;
    idx_status st;
    idx_error *err;
} growing;

static void grow_low(void *ctx)
{
    growing *w = ctx;
    w->st = idx_segment_graph_room(w->g, w->rows, w->ix->opts.hnsw_m, w->ix->opts.ef_construction, &w->out, w->err);
}

/* *out NULL: there is room. */
static idx_status graph_room(idx *ix, const idx_segment *g, uint32_t rows, idx_ann **out, idx_error *err)
{
    growing w = {ix, g, rows, NULL, IDX_OK, err};
    idx_low_run(ix->low, grow_low, &w);
    *out = w.out;
    return w.st;
}

/* ---- links --------------------------------------------------------------------------------------------------------------- */

/* Puts a grown graph in the place of the old one. */
static idx_status make_room(idx *ix, idx_cat *c, idx_segment *g, uint32_t rows, idx_error *err)
{
    idx_ann *grown;
    idx_status st = graph_room(ix, g, rows, &grown, err);
    if (st != IDX_OK || grown == NULL) return st;
    idx_cat_lock(c);
    idx_ann *old = g->ann;
    g->ann = grown;
    pthread_rwlock_unlock(&c->lock);
    idx_ann_free(old);
    return IDX_OK;
}

static uint32_t fresh_rows(const idx_segment *g) { return g->rows - idx_segment_linked(g); }

/* idle: nothing is written, so that few rows are worth it, too. */
static bool wants_links(const idx *ix, const idx_segment *g, bool idle)
{
    uint32_t fresh = fresh_rows(g);
    if (g->ann == NULL) return g->rows - g->dead >= ix->opts.segment_images;
    return fresh > 0 && (idle || fresh >= FRESH_ROWS || fresh >= ix->opts.segment_images);
}

/* What wakes the keeper: when it sleeps, a single row, for which it then waits until nothing is written. Whether it is worth it is decided again when it looks. */
bool idx_keeper_is_wanted(const idx *ix, const idx_cat *c)
{
    for (uint32_t i = 0; i < c->n_segments; i++)
        if (wants_links(ix, c->segments[i], atomic_load(&ix->asleep)) || is_dying(ix, c, c->segments[i])) return true;
    return idx_attrs_wanted(c) || idx_attrs_anew_wanted(c, ix);
}

uint32_t idx_keeper_behind(const idx *ix, const idx_cat *c)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < c->n_segments; i++)
        if (wants_links(ix, c->segments[i], false)) rows += fresh_rows(c->segments[i]);
    return rows > BEHIND_ROWS ? rows - BEHIND_ROWS : 0;
}

static idx_status link_fresh(idx *ix, idx_cat *c, bool idle, bool *worked, idx_error *err)
{
    idx_segment *g = NULL;
    uint32_t to = 0, rows = 0;
    pthread_rwlock_rdlock(&c->lock);
    for (uint32_t i = 0; i < c->n_segments && g == NULL && !c->removed; i++)
        if (wants_links(ix, c->segments[i], idle)) g = c->segments[i];
    if (g != NULL) {
        rows = g->rows;
        to = idx_segment_linked(g) + LINK_ROWS;
        if (to > rows) to = rows;
    }
    pthread_rwlock_unlock(&c->lock);
    *worked = g != NULL;
    if (g == NULL) return IDX_OK;
    bool first = g->ann == NULL;
    idx_rows_settle(g->v, rows);
    idx_status st = make_room(ix, c, g, rows, err);
    if (st == IDX_OK) st = link_rows(ix, g->ann, to, g->alive, rows - idx_ann_linked(g->ann), err);
    if (st == IDX_OK && first) idx_say(ix, 0, "catalogue %s: a graph is being made", c->row.info.name);
    return st;
}

/* ---- files --------------------------------------------------------------------------------------------------------------- */

static bool wants_saving(const idx_segment *g, bool idle)
{
    uint32_t unsaved = idx_segment_linked(g) - g->graph_saved;
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

/* ---- a segment anew ---------------------------------------------------------------------------------------------------------- */

typedef struct {
    idx *ix;
    idx_cat *c;
    idx_segment *old, *new;
    bool joined;    /* the new one is among the others */
    uint32_t *from; /* [row of new] row of old */
    uint32_t room, copied; /* rows of old that were looked at */
    uint32_t rows;         /* of old, there are to be copied */
    uint32_t dead;         /* of old, when they had been copied */
    bool outlived;         /* so many died since that the new segment would have to be made anew itself */
    idx_status st;         /* of copy_low */
    idx_error *err;
} rebuild;

/* A living row of the old segment, as the new one keeps vectors. */
static idx_status copy_row(rebuild *b, uint32_t row, float *v)
{
    uint32_t to;
    if (b->new->rows == b->room) {
        uint32_t room = b->room + b->room / 2 + 1024, *from = realloc(b->from, room * sizeof *from);
        if (from == NULL) return idx_fail(b->err, IDX_ENOMEM, "no memory for a segment");
        b->from = from;
        b->room = room;
    }
    b->from[b->new->rows] = row;
    if (b->new->v->storage == b->old->v->storage) return idx_segment_append_row(b->new, idx_rows_at(b->old->v, row), &to, b->err);
    idx_rows_decode(b->old->v, idx_rows_at(b->old->v, row), v);
    return idx_segment_append(b->new, v, &to, b->err);
}

static void copy_low(void *ctx)
{
    rebuild *b = ctx;
    float *v = malloc(b->old->v->dim * sizeof *v);
    b->st = v == NULL ? idx_fail(b->err, IDX_ENOMEM, "no memory for a segment") : IDX_OK;
    for (; b->st == IDX_OK && b->copied < b->rows; b->copied++) {
        uint64_t alive = __atomic_load_n(&b->old->alive[b->copied >> 6], __ATOMIC_RELAXED);
        if (alive >> (b->copied & 63) & 1) b->st = copy_row(b, b->copied, v);
        if (b->ix->stop) b->st = idx_fail(b->err, IDX_EBUSY, "stopping");
    }
    free(v);
}

static uint32_t dead_of_old(const rebuild *b)
{
    pthread_rwlock_rdlock(&b->c->lock);
    uint32_t dead = b->old->dead;
    pthread_rwlock_unlock(&b->c->lock);
    return dead;
}

/* Rows that are there now; more may come. The new segment is nobody's yet. */
static idx_status copy_rows(rebuild *b)
{
    pthread_rwlock_rdlock(&b->c->lock);
    b->rows = b->old->rows;
    b->new->v->expected = b->rows - b->old->dead;
    pthread_rwlock_unlock(&b->c->lock);
    idx_low_run(b->ix->low, copy_low, b);
    b->dead = dead_of_old(b);
    return b->st;
}

/* Fresh rows of any catalogue. */
static idx_status link_others(idx *ix, idx_error *err)
{
    idx_status st = IDX_OK;
    for (size_t i = 0; st == IDX_OK; i++) {
        idx_cat *c = idx_take_cat_at(ix, i);
        if (c == NULL) break;
        for (bool worked = true; st == IDX_OK && worked;) st = link_fresh(ix, c, false, &worked, err);
        idx_give_cat(ix, c);
    }
    return st;
}

/* Links the new segment, and between pieces what is written meanwhile: searches must not have long lists of fresh rows to compare.
 * all: even if it is outlived before it is done. */
static idx_status link_new(rebuild *b, bool all)
{
    idx_status st = IDX_OK;
    if (b->old->ann == NULL || b->new->rows < b->ix->opts.segment_images) return st; /* it was compared row by row, or can be */
    st = graph_room(b->ix, b->new, b->new->rows, &b->new->ann, b->err);
    while (st == IDX_OK && idx_ann_linked(b->new->ann) < b->new->rows) {
        uint32_t to = idx_ann_linked(b->new->ann) + LINK_ROWS;
        st = link_rows(b->ix, b->new->ann, to < b->new->rows ? to : b->new->rows, NULL, 0, b->err);
        if (st == IDX_OK) st = link_others(b->ix, b->err);
        if (!all && (b->outlived = dead_of_old(b) - b->dead > b->new->rows / 20)) break;
    }
    return st;
}

/* Until few die, or for so long. Fresh rows are linked meanwhile. */
static idx_status wait_for_calm(rebuild *b)
{
    enum { PAUSE_MS = 100, PAUSES = 300, CALM = 1000 /* one of so many rows in a pause */ };
    idx_status st = IDX_OK;
    uint32_t dead = dead_of_old(b), was = 0;
    for (int i = 0; st == IDX_OK && i < PAUSES && dead - was > b->old->rows / CALM && !b->ix->stop; i++) {
        nanosleep(&(struct timespec){0, PAUSE_MS * 1000000}, NULL);
        st = link_others(b->ix, b->err);
        was = dead;
        dead = dead_of_old(b);
    }
    return st;
}

/* The new segment, in which the living are linked. When many die meanwhile, as when a shop deletes half of a catalogue, it would have to
 * be made anew as soon as it is there: it is begun again, once few do. Where that never ends, one is finished all the same. */
static idx_status make_new(rebuild *b, uint64_t number)
{
    enum { TRIES = 3 };
    idx_status st = IDX_OK;
    for (int i = 1; st == IDX_OK && (b->new == NULL || b->outlived); i++) {
        if (b->new != NULL) st = wait_for_calm(b);
        idx_segment_free(b->new);
        b->new = NULL;
        b->copied = 0;
        b->outlived = false;
        if (st == IDX_OK) st = idx_segment_new(idx_cat_storage(b->c), b->c->row.info.dim, number, &b->new, b->err);
        if (st == IDX_OK) st = copy_rows(b);
        if (st == IDX_OK) st = link_new(b, i == TRIES);
    }
    return st;
}

/* Between two pieces under the exclusive lock: who takes it again at once has it before those that waited have woken up, and searches would
 * wait for all of the pieces. */
static void let_in(void) { nanosleep(&(struct timespec){0, 200000}, NULL); }

/* Under the exclusive lock: rows from..to of the new segment take the place of those they are copies of. */
static void move_rows(rebuild *b, uint32_t from, uint32_t to)
{
    for (uint32_t r = from; r < to; r++) {
        uint32_t was = b->from[r], item = b->old->item[was], n = b->old->n[was];
        if (item == IDX_NONE) continue; /* died meanwhile */
        idx_segment_kill(b->old, was);
        idx_cat_place(b->c, item, n, b->new, r);
    }
}

/* The new segment joins the others, and takes new rows where the old one did. */
static idx_status join(rebuild *b)
{
    idx_cat *c = b->c;
    idx_cat_lock(c);
    bool last = c->segments[c->n_segments - 1] == b->old || c->segments[c->n_segments - 1]->v->storage != b->new->v->storage;
    idx_status st = c->removed ? idx_fail(b->err, IDX_EBUSY, "the catalogue is gone") : idx_cat_segment_add(c, b->new, b->err);
    if (st == IDX_OK && !last) {
        c->segments[c->n_segments - 1] = c->segments[c->n_segments - 2];
        c->segments[c->n_segments - 2] = b->new;
    }
    b->joined = st == IDX_OK;
    pthread_rwlock_unlock(&c->lock);
    return st;
}

/* What came to the old segment since it was copied goes where new rows go. */
static idx_status move_tail(rebuild *b)
{
    idx_cat *c = b->c;
    idx_status st = IDX_OK;
    float *v = malloc(b->old->v->dim * sizeof *v);
    if (v == NULL) return idx_fail(b->err, IDX_ENOMEM, "no memory for a segment");
    for (bool more = true; st == IDX_OK && more;) {
        idx_cat_lock(c);
        for (uint32_t end = b->copied + MOVE_ROWS / 4; st == IDX_OK && b->copied < end && b->copied < b->old->rows; b->copied++) {
            uint32_t item = b->old->item[b->copied], n = b->old->n[b->copied], to;
            if (item == IDX_NONE) continue;
            idx_segment *g;
            st = idx_cat_segment_for(c, 1, &g, b->err);
            idx_rows_decode(b->old->v, idx_rows_at(b->old->v, b->copied), v);
            if (st == IDX_OK && g->v->storage == b->old->v->storage) st = idx_segment_append_row(g, idx_rows_at(b->old->v, b->copied), &to, b->err);
            else if (st == IDX_OK) st = idx_segment_append(g, v, &to, b->err);
            if (st != IDX_OK) break;
            idx_segment_kill(b->old, b->copied);
            idx_cat_place(c, item, n, g, to);
        }
        more = b->copied < b->old->rows;
        pthread_rwlock_unlock(&c->lock);
        let_in();
    }
    free(v);
    return st;
}

static idx_status replace(rebuild *b)
{
    uint32_t rows = b->new->rows; /* those that were copied; the writer adds behind them once it has joined */
    idx_status st = join(b);
    if (st != IDX_OK) return st;
    for (uint32_t r = 0; r < rows; r += MOVE_ROWS) {
        idx_cat_lock(b->c);
        move_rows(b, r, rows - r < MOVE_ROWS ? rows : r + MOVE_ROWS);
        pthread_rwlock_unlock(&b->c->lock);
        let_in();
    }
    return move_tail(b);
}

static idx_status rebuild_one(idx *ix, idx_cat *c, bool (*wants)(const idx *, const idx_cat *, const idx_segment *), bool *worked, idx_error *err)
{
    rebuild b = {.ix = ix, .c = c, .err = err};
    pthread_rwlock_rdlock(&c->lock);
    for (uint32_t i = 0; i < c->n_segments && b.old == NULL && !c->removed; i++)
        if (wants(ix, c, c->segments[i])) b.old = c->segments[i];
    uint32_t before = b.old != NULL ? b.old->rows : 0;
    pthread_rwlock_unlock(&c->lock);
    *worked = b.old != NULL;
    if (b.old == NULL) return IDX_OK;
    idx_cat_lock(c);
    uint64_t number = c->next_number++;
    pthread_rwlock_unlock(&c->lock);
    idx_status st = make_new(&b, number);
    if (st == IDX_OK) st = replace(&b);
    free(b.from);
    if (!b.joined) idx_segment_free(b.new);
    if (st == IDX_EBUSY && !ix->stop) *err = (idx_error){0}, st = IDX_OK; /* the catalogue was removed meanwhile: nothing to do, nothing to say */
    if (st != IDX_OK || !b.joined) return st;
    idx_error why = {0}; /* without files the old ones stay, and are as good at the next start */
    bool saved = b.new->ann == NULL || idx_segment_save(c, b.new, ix->segment_dir, &why) == IDX_OK;
    if (!saved) idx_say(ix, 1, "%s", why.text);
    idx_cat_lock(c);
    uint32_t rows = b.new->rows;
    idx_cat_segment_remove(c, b.old);
    pthread_rwlock_unlock(&c->lock);
    if (saved) idx_segment_unlink(c, b.old, ix->segment_dir);
    idx_segment_free(b.old);
    malloc_trim(0); /* what the living left behind goes back to the system */
    idx_say(ix, 0, "catalogue %s: a segment of %" PRIu32 " rows was made anew of the %" PRIu32 " that live", c->row.info.name, before, rows);
    return IDX_OK;
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
        let_in();
    }
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

void idx_wake_keeper(idx *ix)
{
    pthread_mutex_lock(&ix->wake_lock);
    ix->woken = true;
    pthread_cond_signal(&ix->wake);
    pthread_mutex_unlock(&ix->wake_lock);
}

static idx_status maintain_cat(idx *ix, idx_cat *c, bool idle, bool *worked, idx_error *err)
{
    idx_status st = decide(ix, c, worked, err);
    if (st == IDX_OK && !*worked) st = rebuild_one(ix, c, of_other_storage, worked, err);
    if (st == IDX_OK && !*worked) st = link_fresh(ix, c, idle, worked, err);
    if (st == IDX_OK && !*worked) st = save(ix, c, idle, worked, err);
    if (st == IDX_OK && !*worked) st = rebuild_one(ix, c, is_dying, worked, err);
    if (st == IDX_OK && !*worked) st = idx_attrs_anew(c, ix, worked, err);
    if (st == IDX_OK && !*worked) tidy(c);
    if (st == IDX_OK && !*worked) st = idx_lists_maintain(c, ix, idle, worked, err);
    if (st == IDX_OK && !*worked) st = idx_attrs_maintain(c, ix, idle ? IDX_ATTRS_IDLE : IDX_ATTRS_BUSY, worked, err);
    return st;
}

/* One piece of work on any catalogue. */
static idx_status maintain_once(idx *ix, bool idle, bool *worked, idx_error *err)
{
    idx_status st = IDX_OK;
    *worked = false;
    for (size_t i = 0; st == IDX_OK && !*worked; i++) {
        idx_cat *c = idx_take_cat_at(ix, i);
        if (c == NULL) break;
        pthread_mutex_lock(&ix->maintain_lock);
        st = maintain_cat(ix, c, idle, worked, err);
        pthread_mutex_unlock(&ix->maintain_lock);
        idx_give_cat(ix, c);
    }
    return st;
}

static idx_status maintain(idx *ix, bool idle, idx_error *err)
{
    bool worked = true;
    idx_status st = IDX_OK;
    while (st == IDX_OK && worked) st = maintain_once(ix, idle, &worked, err);
    return st;
}

idx_status idx_maintain(idx *ix, idx_error *err) { return maintain(ix, true, err); }

/* Waits until there is something to do; *idle: until nothing was for a while. */
static bool wait(idx *ix, bool *idle)
{
    const struct timespec until = idx_deadline(IDLE_MS * UINT64_C(1000000));
    pthread_mutex_lock(&ix->wake_lock);
    int late = 0;
    while (!ix->woken && !ix->stop && late == 0) late = *idle ? pthread_cond_wait(&ix->wake, &ix->wake_lock) : pthread_cond_timedwait(&ix->wake, &ix->wake_lock, &until);
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
    while (wait(ix, &idle)) {
        idx_error err = {0};
        if (maintain(ix, idle, &err) != IDX_OK && !ix->stop) idx_say(ix, 1, "%s", err.text);
    }
    return NULL;
}

idx_status idx_keeper_start(idx *ix, idx_error *err)
{
    idx_status st = idx_low_start(&ix->low, IDX_NICE, err);
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
    idx_low_stop(ix->low);
    idx_low_stop(ix->idle);
    ix->low = ix->idle = NULL;
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
