/* links.c: see links.h. */
#include "links.h"
#include "clock.h"

enum {
    PIECE_ROWS = 1024,   /* some tenths of a second */
    HURRY_ROWS = 256,    /* that wait: comparing them costs the searches more than linking them, which is not put off any more */
    CROWD_ROWS = 8192,   /* that wait, as in an import: a search that compares them takes several times as long; every processor that may links */
    BEHIND_ROWS = 16384, /* more than these, and puts wait with them */
    LARGE = 8,           /* times as many rows as make a graph: one that has them may be added to in a hurry. In a smaller one a row is linked in little
                          * time, and one that no path leads to, which a hurry leaves now and then, is missed where somebody reads page after page */
    MEND_MS = 50,        /* at a time: so long may what comes meanwhile wait for its links */
    MEND_ROWS = 64,      /* at a time where nothing gives way: some hundredths of a second */
    FRESH_ROWS = 64,     /* that are worth waking for once there is a graph: each search compares them, some hundred cost as much as a walk */
};

/* ---- what is done at low priority ------------------------------------------------------------------------------------------ */

/* Of the time that linking in one thread took lately, it had a processor for at least so much: else the machine has none to spare. */
static const double SPARE = 0.75;

typedef struct {
    idx_ann *ann;
    uint32_t to, threads;
    bool hurry, mend;
    double had; /* of the time it took, the share in which it had a processor */
    const uint64_t *alive;
    const _Atomic bool *stop;
    idx_status st;
    idx_error err;
} linking;

static double share(uint64_t began, uint64_t had)
{
    const uint64_t took = idx_mono_ns() - began;
    return took > 0 ? (double)(idx_thread_ns() - had) / (double)took : 1;
}

static void note(idx *ix, const linking *l) { ix->spare = (ix->spare + l->had) / 2; }

/* After each row it gives way once more: a scheduler that counts what everybody had (EEVDF) may let it run, for half a millisecond or several,
 * before a search that has had more. */
static void work_one(void *ctx)
{
    linking *l = ctx;
    l->err = (idx_error){0};
    l->st = IDX_OK;
    const uint64_t began = idx_mono_ns(), had = idx_thread_ns();
    for (uint32_t next; l->st == IDX_OK && (next = (l->mend ? idx_ann_careful(l->ann) : idx_ann_linked(l->ann)) + 1) <= l->to; idx_low_give_way())
        l->st = l->mend ? idx_ann_mend(l->ann, next, l->alive, l->stop, &l->err) : idx_ann_link(l->ann, next, l->alive, l->hurry, l->stop, &l->err);
    l->had = share(began, had);
}

/* In one thread, of this priority; and what it had of a processor. */
static void run_one(idx *ix, idx_low *at, linking *l)
{
    idx_low_run(at, work_one, l);
    note(ix, l);
}

/* The same in the thread that gives way to everybody, for so long: IDX_EBUSY. */
static void run_idle(idx *ix, linking *l, uint32_t ms)
{
    _Atomic bool enough = false;
    l->st = IDX_EBUSY;
    l->stop = &enough;
    if (idx_low_run_for(ix->idle, work_one, l, ms, &enough)) note(ix, l);
}

static void link_many(void *ctx)
{
    linking *l = ctx;
    l->err = (idx_error){0};
    l->st = idx_ann_link_many(l->ann, l->to, l->alive, l->threads, l->stop, &l->err);
}

idx_status idx_link_piece(idx *ix, idx_ann *ann, uint32_t rows, const uint64_t *alive, uint32_t waiting, bool hurry, idx_error *err)
{
    const uint32_t left = rows - idx_ann_linked(ann), piece = left < PIECE_ROWS ? left : PIECE_ROWS;
    linking l = {.ann = ann, .to = rows - left + piece, .hurry = hurry, .alive = alive, .st = IDX_EBUSY};
    l.threads = waiting > CROWD_ROWS ? ix->opts.link_threads : 1;
    if (waiting <= HURRY_ROWS) run_idle(ix, &l, 20 + piece / 2);
    if (l.st == IDX_EBUSY) {
        l.stop = &ix->stop;
        if (l.threads > 1) idx_low_run(ix->low, link_many, &l);
        else run_one(ix, waiting > HURRY_ROWS ? ix->fair : ix->low, &l);
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

idx_status idx_link_room(idx *ix, const idx_segment *g, uint32_t rows, idx_ann **out, idx_error *err)
{
    growing w = {ix, g, rows, NULL, IDX_OK, err};
    idx_low_run(ix->low, grow_low, &w);
    *out = w.out;
    return w.st;
}

/* ---- of a catalogue --------------------------------------------------------------------------------------------------------------- */

typedef struct {
    idx_rows *v;
    uint32_t rows;
} settling;

static void settle_low(void *ctx)
{
    settling *s = ctx;
    idx_rows_settle(s->v, s->rows);
}

static void settle(idx *ix, idx_rows *v, uint32_t rows)
{
    settling s = {v, rows};
    if (!idx_rows_settled(v, rows)) idx_low_run(ix->low, settle_low, &s);
}

/* Puts a grown graph in the place of the old one. */
static idx_status make_room(idx *ix, idx_cat *c, idx_segment *g, uint32_t rows, idx_error *err)
{
    idx_ann *grown;
    idx_status st = idx_link_room(ix, g, rows, &grown, err);
    if (st != IDX_OK || grown == NULL) return st;
    idx_cat_lock(c);
    idx_ann *old = g->ann;
    g->ann = grown;
    pthread_rwlock_unlock(&c->lock);
    idx_ann_free(old);
    return IDX_OK;
}

static uint32_t fresh_rows(const idx_segment *g) { return g->rows - idx_segment_linked(g); }

static bool wants_links(const idx *ix, const idx_segment *g, bool idle)
{
    uint32_t fresh = fresh_rows(g);
    if (g->ann == NULL) return g->rows - g->dead >= ix->opts.segment_images;
    return fresh > 0 && (idle || fresh >= FRESH_ROWS || fresh >= ix->opts.segment_images);
}

bool idx_links_wanted(const idx *ix, const idx_cat *c, bool idle)
{
    for (uint32_t i = 0; i < c->n_segments; i++)
        if (wants_links(ix, c->segments[i], idle)) return true;
    return false;
}

uint32_t idx_links_behind(const idx *ix, const idx_cat *c)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < c->n_segments; i++)
        if (wants_links(ix, c->segments[i], false)) rows += fresh_rows(c->segments[i]);
    return rows > BEHIND_ROWS ? rows - BEHIND_ROWS : 0;
}

static bool may_hurry(const idx *ix, const idx_segment *g) { return ix->spare < SPARE && idx_segment_linked(g) / LARGE >= ix->opts.segment_images; }

idx_status idx_links_maintain(idx_cat *c, idx *ix, bool idle, bool *worked, idx_error *err)
{
    idx_segment *g = NULL;
    uint32_t rows = 0;
    pthread_rwlock_rdlock(&c->lock);
    for (uint32_t i = 0; i < c->n_segments && g == NULL && !c->removed; i++)
        if (wants_links(ix, c->segments[i], idle)) g = c->segments[i];
    if (g != NULL) rows = g->rows;
    pthread_rwlock_unlock(&c->lock);
    *worked = g != NULL;
    if (g == NULL) return IDX_OK;
    bool first = g->ann == NULL;
    settle(ix, g->v, rows);
    idx_status st = make_room(ix, c, g, rows, err);
    if (st == IDX_OK) st = idx_link_piece(ix, g->ann, rows, g->alive, rows - idx_ann_linked(g->ann), !idle && may_hurry(ix, g), err);
    if (st == IDX_OK && first) idx_say(ix, 0, "catalogue %s: a graph is being made", c->row.info.name);
    return st;
}

/* Nobody links meanwhile, or puts another graph in the place of this one: that is this thread's own work. */
idx_status idx_links_mend(idx_cat *c, idx *ix, bool idle, bool *worked, idx_error *err)
{
    idx_segment *g = NULL;
    pthread_rwlock_rdlock(&c->lock);
    for (uint32_t i = 0; i < c->n_segments && g == NULL && !c->removed; i++)
        if (c->segments[i]->ann != NULL && idx_segment_careful(c->segments[i]) < idx_segment_linked(c->segments[i])) g = c->segments[i];
    pthread_rwlock_unlock(&c->lock);
    *worked = g != NULL && (idle || ix->spare >= SPARE);
    if (!*worked) return IDX_OK;
    const uint32_t linked = idx_segment_linked(g), careful = idx_segment_careful(g);
    linking l = {.ann = g->ann, .to = linked, .mend = true, .alive = g->alive};
    run_idle(ix, &l, MEND_MS);
    if (l.st == IDX_EBUSY && idx_segment_careful(g) == careful) { /* it never had a processor */
        l.to = linked - careful < MEND_ROWS ? linked : careful + MEND_ROWS;
        l.stop = &ix->stop;
        run_one(ix, ix->low, &l);
    }
    return l.st == IDX_OK || (l.st == IDX_EBUSY && !ix->stop) ? IDX_OK : idx_fail(err, l.st, "%s", l.err.text);
}

idx_status idx_links_maintain_all(idx *ix, idx_error *err)
{
    idx_status st = IDX_OK;
    for (size_t i = 0; st == IDX_OK; i++) {
        idx_cat *c = idx_take_cat_at(ix, i);
        if (c == NULL) break;
        for (bool worked = true; st == IDX_OK && worked;) st = idx_links_maintain(c, ix, false, &worked, err);
        idx_give_cat(ix, c);
    }
    return st;
}
