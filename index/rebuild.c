/* rebuild.c: see rebuild.h. */
#include "rebuild.h"
#include "clock.h"
#include "links.h"
#include "segment_file.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    MOVE_ROWS = 512, /* change places under one lock: some hundred microseconds */
    COPY_ROWS = 4096, /* before it is seen to those that are written meanwhile; some milliseconds */
    LINK_ROWS = 64,  /* the same; or a tenth of a second beside many searches */
    INHERIT_ROWS = 512, /* the same: they take an eighth of the time each */
    PIECE_MS = 50, /* that a piece may take and give way to everybody: what is written meanwhile waits for its links */
    PAUSE_MS = 100,
    LONGEST_MS = 30000, /* that is waited for calm */
    CALM = 1000, /* of so many rows at most one dies in a pause */
    LOST_PERCENT = 60, /* of the linked rows; when more died, the others are linked anew. Where rows of all kinds die, a graph inherited from a quarter
                        * finds as much as a new one; where whole kinds do, 3 of 100 neighbours less for queries of these kinds, with two fifths gone */
};

/* ---- which of them --------------------------------------------------------------------------------------------------- */

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

/* ---- a segment anew ---------------------------------------------------------------------------------------------------------- */

typedef struct {
    idx *ix;
    idx_cat *c;
    idx_segment *old, *new;
    bool joined;    /* the new one is among the others */
    uint32_t *from; /* [row of new] row of old */
    uint32_t *now;  /* [row of old] row of new, UINT32_MAX = none; while the graph is inherited */
    uint32_t room, copied; /* rows of old that were looked at */
    uint32_t rows;         /* of old, there are to be copied */
    uint32_t dead;         /* of old, when they had been copied */
    uint32_t heirs;        /* the first rows of new, whose links in old are inherited */
    bool insists;          /* it takes its share of the machine, and is made even if it is outlived */
    bool outlived;         /* so many died since that the new segment would have to be made anew itself */
    idx_error *err;
} rebuild;

/* A piece. What takes no new memory gives way to searches and writes first, in `idle`: nobody waits for it. What does must not: who loses its processor in
 * the midst of that may leave a lock of the kernel's behind, for which everybody waits. */
static idx_status work(rebuild *b, idx_low *idle, idx_low_work *what)
{
    idx_status st = idx_low_run_patiently(idle, b->ix->low, what, b, PIECE_MS, &b->ix->stop);
    if (st == IDX_OK) *b->err = (idx_error){0}; /* what was said of giving up */
    return st;
}

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

static idx_status copy_low(void *ctx, const _Atomic bool *stop)
{
    rebuild *b = ctx;
    float *v = malloc(b->old->v->dim * sizeof *v);
    idx_status st = v == NULL ? idx_fail(b->err, IDX_ENOMEM, "no memory for a segment") : IDX_OK;
    const uint32_t left = b->rows - b->copied, to = b->copied + (left < COPY_ROWS ? left : COPY_ROWS);
    for (; st == IDX_OK && b->copied < to; b->copied++) {
        if (*stop) {
            st = idx_fail(b->err, IDX_EBUSY, "stopping");
            break;
        }
        uint64_t alive = __atomic_load_n(&b->old->alive[b->copied >> 6], __ATOMIC_RELAXED);
        if (alive >> (b->copied & 63) & 1) st = copy_row(b, b->copied, v);
    }
    free(v);
    return st;
}

static uint32_t dead_of_old(const rebuild *b)
{
    pthread_rwlock_rdlock(&b->c->lock);
    uint32_t dead = b->old->dead;
    pthread_rwlock_unlock(&b->c->lock);
    return dead;
}

/* Between pieces what is written meanwhile is linked: searches must not have long lists of fresh rows to compare. */
static idx_status see_to_others(rebuild *b) { return idx_links_maintain_all(b->ix, b->err); }

/* Rows that are there now; more may come. The new segment is nobody's yet. */
static idx_status copy_rows(rebuild *b)
{
    idx_status st = IDX_OK;
    pthread_rwlock_rdlock(&b->c->lock);
    b->rows = b->old->rows;
    b->new->v->expected = b->rows - b->old->dead;
    pthread_rwlock_unlock(&b->c->lock);
    while (st == IDX_OK && b->copied < b->rows) {
        st = work(b, NULL, copy_low);
        if (st == IDX_OK) st = see_to_others(b);
    }
    b->dead = dead_of_old(b);
    return st;
}

/* Once it is linked it is taken in any case: a small one, linked in one piece, is made once more before calm would have come. */
static void look_whether_outlived(rebuild *b)
{
    b->outlived = !b->insists && idx_ann_linked(b->new->ann) < b->new->rows && dead_of_old(b) - b->dead > b->new->rows / 20;
}

static idx_status begin_low(void *ctx, const _Atomic bool *stop)
{
    rebuild *b = ctx;
    (void)stop;
    if ((b->now = malloc((b->rows + 1u) * sizeof *b->now)) == NULL) return idx_fail(b->err, IDX_ENOMEM, "no memory for a segment");
    memset(b->now, 0xff, b->rows * sizeof *b->now);
    for (uint32_t i = 0; i < b->heirs; i++) b->now[b->from[i]] = i;
    return idx_ann_heir(b->old->ann, b->new->v, b->from, b->heirs, idx_segment_graph_capacity(b->new->rows), &b->new->ann, b->err);
}

static idx_status inherit_low(void *ctx, const _Atomic bool *stop)
{
    rebuild *b = ctx;
    uint32_t linked = idx_ann_linked(b->new->ann), left = b->heirs - linked;
    return idx_ann_inherit(b->new->ann, linked + (left < INHERIT_ROWS ? left : INHERIT_ROWS), b->old->ann, b->from, b->now, b->rows, stop, b->err);
}

static idx_status end_low(void *ctx, const _Atomic bool *stop)
{
    rebuild *b = ctx;
    uint32_t mended;
    return idx_ann_inherit_end(b->new->ann, stop, &mended, b->err);
}

/* What is left of the old graph is taken over (inherit.c), where that is most of it. */
static idx_status inherit(rebuild *b)
{
    const idx_graph *g = &b->old->ann->g;
    const uint32_t linked = idx_ann_linked(b->old->ann);
    if (g->m != b->ix->opts.hnsw_m || g->ef_construction != b->ix->opts.ef_construction) return IDX_OK; /* it shall be another one */
    for (b->heirs = 0; b->heirs < b->new->rows && b->from[b->heirs] < linked;) b->heirs++;
    if ((uint64_t)(linked - b->heirs) * 100 > (uint64_t)linked * LOST_PERCENT) return IDX_OK;
    idx_status st = work(b, NULL, begin_low);
    while (st == IDX_OK && idx_ann_linked(b->new->ann) < b->heirs && !b->outlived) {
        st = work(b, b->insists ? NULL : b->ix->idle, inherit_low);
        if (st == IDX_OK) st = see_to_others(b);
        look_whether_outlived(b);
    }
    if (st == IDX_OK && !b->outlived) st = work(b, NULL, end_low);
    free(b->now);
    b->now = NULL;
    return st;
}

static idx_status link_new(rebuild *b)
{
    if (b->old->ann == NULL || b->new->rows < b->ix->opts.segment_images) return IDX_OK; /* it was compared row by row, or can be */
    idx_status st = inherit(b);
    if (st == IDX_OK && b->new->ann == NULL) st = idx_link_room(b->ix, b->new, b->new->rows, &b->new->ann, b->err);
    while (st == IDX_OK && idx_ann_linked(b->new->ann) < b->new->rows && !b->outlived) {
        const uint32_t linked = idx_ann_linked(b->new->ann), left = b->new->rows - linked;
        st = idx_link_piece(b->ix, b->new->ann, linked + (left < LINK_ROWS ? left : LINK_ROWS), NULL, 0, false, b->err);
        if (st == IDX_OK) st = see_to_others(b);
        look_whether_outlived(b);
    }
    return st;
}

static bool is_calm(uint32_t died, uint64_t ns, const idx_segment *g) { return (double)died * CALM * PAUSE_MS * 1e6 <= (double)g->rows * (double)ns; }

/* Until few die, or for so long; whether few do. Fresh rows are linked meanwhile. */
static idx_status wait_for_calm(rebuild *b, bool *calm)
{
    idx_status st = IDX_OK;
    *calm = false;
    for (int i = 0; st == IDX_OK && i < LONGEST_MS / PAUSE_MS && !*calm && !b->ix->stop; i++) {
        const uint32_t dead = dead_of_old(b);
        const uint64_t began = idx_mono_ns();
        nanosleep(&(struct timespec){0, PAUSE_MS * 1000000}, NULL);
        st = see_to_others(b);
        *calm = is_calm(dead_of_old(b) - dead, idx_mono_ns() - began, b->old);
    }
    return st;
}

/* The new segment, in which the living are linked. When many die meanwhile, as when a shop deletes half of a catalogue, it would have to
 * be made anew as soon as it is there: it is begun again, once few do. Where that never ends, one is finished all the same. */
static idx_status make_new(rebuild *b, uint64_t number)
{
    enum { TRIES = 3 };
    idx_status st = IDX_OK;
    bool calm = true;
    for (int i = 1; st == IDX_OK && (b->new == NULL || b->outlived); i++) {
        if (b->new != NULL) st = wait_for_calm(b, &calm);
        b->insists = b->insists || !calm || i == TRIES;
        idx_segment_free(b->new);
        b->new = NULL;
        b->copied = 0;
        b->outlived = false;
        if (st == IDX_OK) st = idx_segment_new(idx_cat_storage(b->c), b->c->row.info.dim, number, &b->new, b->err);
        if (st == IDX_OK) st = copy_rows(b);
        if (st == IDX_OK) st = link_new(b);
    }
    return st;
}

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
        idx_cat_let_in();
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
        idx_cat_let_in();
    }
    return move_tail(b);
}

/* Whether it is time, and whether it shall insist. What is written wakes the keeper, which asks again. */
static bool is_time(idx_segment *g, uint32_t dead, bool idle, bool *insists)
{
    const uint64_t now = idx_mono_ns();
    *insists = g->dying.since_ns != 0 && now - g->dying.since_ns > LONGEST_MS * UINT64_C(1000000);
    if (idle || *insists) return true;
    if (g->dying.since_ns == 0) g->dying.since_ns = g->dying.looked_ns = now, g->dying.dead = dead;
    const uint64_t ns = now - g->dying.looked_ns;
    if (ns < PAUSE_MS * UINT64_C(1000000)) return false;
    const bool calm = is_calm(dead - g->dying.dead, ns, g);
    g->dying.looked_ns = now;
    g->dying.dead = dead;
    return calm;
}

static idx_status rebuild_one(idx *ix, idx_cat *c, bool (*wants)(const idx *, const idx_cat *, const idx_segment *), bool idle, bool *worked, idx_error *err)
{
    rebuild b = {.ix = ix, .c = c, .err = err};
    pthread_rwlock_rdlock(&c->lock);
    for (uint32_t i = 0; i < c->n_segments && b.old == NULL && !c->removed; i++)
        if (wants(ix, c, c->segments[i])) b.old = c->segments[i];
    const uint32_t before = b.old != NULL ? b.old->rows : 0, dead = b.old != NULL ? b.old->dead : 0;
    pthread_rwlock_unlock(&c->lock);
    *worked = b.old != NULL && is_time(b.old, dead, idle, &b.insists);
    if (!*worked) return IDX_OK;
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

bool idx_rebuild_wanted(const idx *ix, const idx_cat *c)
{
    for (uint32_t i = 0; i < c->n_segments; i++)
        if (is_dying(ix, c, c->segments[i])) return true;
    return false;
}

idx_status idx_rebuild_dying(idx_cat *c, idx *ix, bool idle, bool *worked, idx_error *err) { return rebuild_one(ix, c, is_dying, idle, worked, err); }
idx_status idx_rebuild_of_other_storage(idx_cat *c, idx *ix, bool *worked, idx_error *err) { return rebuild_one(ix, c, of_other_storage, true, worked, err); }
