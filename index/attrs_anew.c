/* attrs_anew.c: see attrs_anew.h. The old ones remember who changes while the new ones are filled (idx_attrs.to_copy); once hardly anybody is
 * left, the new take the place of the old. */
#include "attrs_anew.h"
#include "attrs_priv.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

enum {
    PIECE = 64,         /* items under one lock: some hundred microseconds */
    REST_NS = 200000,   /* between two pieces: it is not urgent */
};

bool idx_attrs_anew_wanted(const idx_cat *c, const idx *ix)
{
    uint32_t gone = idx_attrs_gone(c->attrs);
    return gone > idx_attrs_count(c->attrs) / 4 && gone > ix->opts.segment_images / 20;
}

/* With the same fields and room for the same texts; NULL = no memory. */
static idx_attrs *new_like(const idx_attrs *a)
{
    idx_attrs *new = idx_attrs_new();
    bool ok = new != NULL;
    for (uint32_t i = 0; ok && i < a->n_fields; i++) {
        const idx_values *texts = &a->fields[i]->values;
        ok = idx_attrs_make_field(new, a->fields[i]->name) == i && (texts->live == 0 || idx_values_room_like(&new->fields[i]->values, texts));
    }
    if (ok) return new;
    idx_attrs_free(new);
    return NULL;
}

/* Under the exclusive lock. */
static idx_attrs *begin(idx_attrs *a)
{
    size_t bytes = a->all.n_words * sizeof *a->all.w;
    idx_attrs *new = new_like(a);
    if (new != NULL) a->to_copy = (idx_bits){malloc(bytes + 1), a->all.n_words};
    if (new != NULL && a->to_copy.w != NULL) {
        memcpy(a->to_copy.w, a->all.w, bytes);
        return new;
    }
    a->to_copy = (idx_bits){0};
    idx_attrs_free(new);
    return NULL;
}

static void end(idx_attrs *a)
{
    free(a->to_copy.w);
    a->to_copy = (idx_bits){0};
}

/* Under the lock: some of those that are to be copied, from word *at on. */
static bool copy_some(idx_attrs *a, idx_attrs *new, uint32_t *at, uint32_t most)
{
    for (; *at < a->to_copy.n_words; ++*at)
        for (uint64_t *w = &a->to_copy.w[*at]; *w != 0; *w &= *w - 1) {
            if (most-- == 0) return true;
            if (!idx_attrs_copy_item(a, *at * 64 + (uint32_t)__builtin_ctzll(*w), new)) return false;
        }
    return true;
}

/* Not yet known to anybody else: what came in order is packed. */
static void pack(idx_attrs *new)
{
    for (uint32_t i = 0; i < new->n_fields; i++) {
        idx_field *f = new->fields[i];
        roaring_bitmap_run_optimize(f->there);
        for (int k = 0; k < 2; k++)
            if (f->truth[k] != NULL) roaring_bitmap_run_optimize(f->truth[k]);
    }
}

/* Under the exclusive lock: the last few, and the change. The old ones are the caller's. */
static bool swap(idx_cat *c, idx_attrs *new, idx_attrs **old)
{
    idx_attrs *a = c->attrs;
    uint32_t at = 0;
    if (!copy_some(a, new, &at, UINT32_MAX)) return false;
    end(a);
    new->changes = a->changes;
    memcpy(new->changed, a->changed, sizeof new->changed);
    c->attrs = new;
    *old = a;
    return true;
}

/* Everybody, and then those that changed meanwhile, until they are few enough for one piece. */
static bool copy_all(idx_cat *c, idx *ix, idx_attrs *new, idx_attrs **old)
{
    bool ok = true, packed = false, removed = false;
    for (uint32_t at = 0; ok && *old == NULL && !ix->stop && !removed;) {
        pthread_rwlock_rdlock(&c->lock);
        removed = c->removed;
        ok = copy_some(c->attrs, new, &at, PIECE);
        bool through = at == c->attrs->to_copy.n_words;
        pthread_rwlock_unlock(&c->lock);
        if (through && !packed) pack(new), packed = true;
        if (through && ok) {
            idx_cat_lock(c);
            if (idx_bits_count(c->attrs->to_copy.w, c->attrs->to_copy.n_words) <= PIECE) ok = swap(c, new, old);
            pthread_rwlock_unlock(&c->lock);
            at = 0;
        }
        nanosleep(&(struct timespec){0, REST_NS}, NULL);
    }
    return ok;
}

idx_status idx_attrs_anew(idx_cat *c, idx *ix, bool *worked, idx_error *err)
{
    idx_attrs *new = NULL, *old = NULL;
    idx_cat_lock(c);
    *worked = !c->removed && idx_attrs_anew_wanted(c, ix);
    uint32_t gone = idx_attrs_gone(c->attrs);
    if (*worked) new = begin(c->attrs);
    pthread_rwlock_unlock(&c->lock);
    if (!*worked) return IDX_OK;
    bool ok = new != NULL && copy_all(c, ix, new, &old);
    if (old == NULL) { /* nothing came of it */
        idx_cat_lock(c);
        end(c->attrs);
        pthread_rwlock_unlock(&c->lock);
        idx_attrs_free(new);
        *worked = false;
        return ok ? IDX_OK : idx_fail(err, IDX_ENOMEM, "no memory to make attributes anew");
    }
    idx_attrs_free(old);
    malloc_trim(0); /* what they left goes back to the system */
    pthread_rwlock_rdlock(&c->lock); /* they are the writer's since */
    uint32_t left = idx_attrs_count(new);
    pthread_rwlock_unlock(&c->lock);
    c->attrs_generation = UINT64_MAX; /* the next file has what is left */
    idx_say(ix, 0, "catalogue %s: the attributes of %" PRIu32 " items were made anew, %" PRIu32 " are gone", c->row.info.name, left, gone);
    return IDX_OK;
}
