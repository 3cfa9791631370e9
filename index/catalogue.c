/* catalogue.c: the maps of catalogue.h. */
#include "catalogue.h"
#include "clock.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint32_t hash_of_item(const void *ctx, uint32_t item) { return idx_text_hash(idx_item_id(ctx, item)); }
static bool item_is(const void *ctx, uint32_t item, const void *id) { return strcmp(idx_item_id(ctx, item), id) == 0; }
static idx_slots_keys keys_of(const idx_cat *c) { return (idx_slots_keys){hash_of_item, item_is, c}; }

idx_status idx_cat_new(const idx_catalogue_row *row, uint32_t effort, idx_cat **out, idx_error *err)
{
    idx_cat *c = calloc(1, sizeof *c);
    if (c == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for a catalogue");
    c->row = *row;
    c->generation = row->info.generation;
    c->log_from = c->attrs_generation = UINT64_MAX;
    idx_audit_init(c->audit, effort);
    c->free_item = IDX_NONE;
    c->next_number = 1;
    c->attrs = idx_attrs_new();
    idx_matches_init(&c->matches);
    pthread_rwlockattr_t attr; /* glibc prefers readers by default: steady searches would starve the writer */
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&c->lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    idx_slots_keys k = keys_of(c);
    if (c->attrs == NULL || !idx_slots_resize(&c->slots, &k, 255)) {
        idx_cat_free(c);
        return idx_fail(err, IDX_ENOMEM, "no memory for a catalogue");
    }
    *out = c;
    return IDX_OK;
}

void idx_cat_free(idx_cat *c)
{
    if (c == NULL) return;
    for (uint32_t i = 0; i < c->n_items; i++)
        if (c->items[i].rowid != 0 && c->items[i].n_images > 1) free(c->items[i].at.many);
    for (uint32_t i = 0; i < c->n_segments; i++) idx_segment_free(c->segments[i]);
    free(c->items);
    idx_ids_fini(&c->ids);
    idx_slots_fini(&c->slots);
    free(c->segments);
    free(c->by_slot);
    idx_matches_fini(&c->matches);
    idx_attrs_free(c->attrs);
    idx_audit_fini(c->audit);
    pthread_rwlock_destroy(&c->lock);
    free(c);
}

void idx_cat_lock(idx_cat *c)
{
    enum { PATIENCE_NS = 1000000, PAUSE_NS = 20000 }; /* by the clock: on busy processors the writer comes back from a pause a millisecond later or two */
    for (const uint64_t until = idx_mono_ns() + PATIENCE_NS; idx_mono_ns() < until;) {
        if (pthread_rwlock_trywrlock(&c->lock) == 0) return;
        nanosleep(&(struct timespec){0, PAUSE_NS}, NULL);
    }
    pthread_rwlock_wrlock(&c->lock);
}

void idx_cat_enter(idx_cat *c)
{
    enum { AWAKE_NS = 200000 };
    bool in = pthread_rwlock_tryrdlock(&c->lock) == 0;
    for (const uint64_t until = in ? 0 : idx_mono_ns() + AWAKE_NS; !in && idx_mono_ns() < until;) in = pthread_rwlock_tryrdlock(&c->lock) == 0;
    if (!in) pthread_rwlock_rdlock(&c->lock);
}

void idx_cat_let_in(void) { nanosleep(&(struct timespec){0, 200000}, NULL); }

/* ---- ids ------------------------------------------------------------------------------------------------ */

uint32_t idx_cat_find(const idx_cat *c, const char *id)
{
    idx_slots_keys k = keys_of(c);
    return idx_slots_find(&c->slots, &k, idx_text_hash(id), id);
}

static void id_moved(void *ctx, uint32_t item, idx_id_at at)
{
    idx_cat *c = ctx;
    c->items[item].id = at;
}

/* ---- items ------------------------------------------------------------------------------------------------------ */

static void unlink_free(idx_cat *c, uint32_t item)
{
    uint32_t next = c->items[item].at.free.next, before = c->items[item].at.free.before;
    if (next != IDX_NONE) c->items[next].at.free.before = before;
    *(before != IDX_NONE ? &c->items[before].at.free.next : &c->free_item) = next;
}

static bool items_room(idx_cat *c)
{
    if (c->free_item != IDX_NONE || c->n_items < c->cap_items) return true;
    uint32_t more = c->cap_items + c->cap_items / 8 + 64;
    idx_mem_item *items = realloc(c->items, more * sizeof *items);
    if (items == NULL) return false;
    c->items = items;
    c->cap_items = more;
    return true;
}

static bool slots_suffice(uint32_t mask, uint32_t items) { return items * UINT64_C(5) <= mask * UINT64_C(4); }

/* But for the slots. */
static idx_status item_new(idx_cat *c, const char *id, int64_t rowid, const char *attributes, uint32_t *out, idx_error *err)
{
    bool ok = items_room(c);
    uint32_t item = ok && c->free_item != IDX_NONE ? c->free_item : c->n_items;
    idx_id_at at = 0;
    if (!ok || !idx_ids_add(&c->ids, id, item, &at)) return idx_fail(err, IDX_ENOMEM, "no memory for an item");
    idx_status st = attributes != NULL ? idx_attrs_set(c->attrs, item, attributes, err) : IDX_OK;
    if (st != IDX_OK) {
        idx_ids_remove(&c->ids, at, id_moved, c);
        return st;
    }
    if (c->free_item != IDX_NONE) unlink_free(c, item);
    else c->n_items++;
    c->items[item] = (idx_mem_item){.rowid = rowid, .id = at};
    c->live_items++;
    if (rowid > c->newest) c->newest = rowid;
    *out = item;
    return IDX_OK;
}

idx_status idx_cat_item_add(idx_cat *c, const char *id, int64_t rowid, const char *attributes, uint32_t *out, idx_error *err)
{
    idx_slots_keys k = keys_of(c);
    if (!slots_suffice(c->slots.mask, c->live_items + 1) && !idx_slots_resize(&c->slots, &k, c->slots.mask * 2 + 1))
        return idx_fail(err, IDX_ENOMEM, "no memory for an item");
    idx_status st = item_new(c, id, rowid, attributes, out, err);
    if (st == IDX_OK) idx_slots_add(&c->slots, &k, idx_text_hash(id), *out);
    return st;
}

idx_status idx_cat_item_load(idx_cat *c, const char *id, int64_t rowid, uint32_t *out, idx_error *err) { return item_new(c, id, rowid, NULL, out, err); }

idx_status idx_cat_items_loaded(idx_cat *c, idx_error *err)
{
    idx_slots_keys k = keys_of(c);
    uint32_t mask = c->slots.mask;
    while (!slots_suffice(mask, c->live_items)) mask = mask * 2 + 1;
    if (mask != c->slots.mask && !idx_slots_resize(&c->slots, &k, mask)) return idx_fail(err, IDX_ENOMEM, "no memory for items");
    idx_slots_fill(&c->slots, &k, NULL, c->n_items);
    return IDX_OK;
}

idx_status idx_cat_images_expect(idx_cat *c, uint32_t item, int64_t first_image, uint32_t n, idx_error *err)
{
    idx_mem_item *it = &c->items[item];
    idx_place *many = n > 1 ? malloc(n * sizeof *many) : NULL;
    if (n > 1 && many == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for images");
    for (uint32_t i = 0; i < n; i++) *(n > 1 ? &many[i] : &it->at.one) = (idx_place){0, IDX_NONE};
    if (n > 1) it->at.many = many;
    it->first_image = first_image;
    it->n_images = (uint8_t)n;
    c->live_images += n;
    return IDX_OK;
}

void idx_cat_place(idx_cat *c, uint32_t item, uint32_t n, idx_segment *g, uint32_t row)
{
    idx_mem_item *it = &c->items[item];
    *(it->n_images == 1 ? &it->at.one : &it->at.many[n]) = (idx_place){row, g->slot};
    idx_segment_own(g, row, item, n);
}

idx_status idx_cat_images_add(idx_cat *c, uint32_t item, int64_t first_image, const float *const *vectors, uint32_t n, idx_error *err)
{
    idx_segment *g;
    uint32_t rows[IDX_MAX_IMAGES];
    idx_status st = idx_cat_segment_for(c, n, &g, err);
    for (uint32_t i = 0; st == IDX_OK && i < n; i++) st = idx_segment_append(g, vectors[i], &rows[i], err); /* rows of a failure stay dead */
    if (st == IDX_OK) st = idx_cat_images_expect(c, item, first_image, n, err);
    for (uint32_t i = 0; st == IDX_OK && i < n; i++) idx_cat_place(c, item, i, g, rows[i]);
    return st;
}

void idx_cat_images_remove(idx_cat *c, uint32_t item)
{
    idx_mem_item *it = &c->items[item];
    for (uint32_t i = 0; i < it->n_images; i++) {
        idx_place p = idx_item_place(it, i);
        if (p.slot != IDX_NONE) idx_segment_kill(c->by_slot[p.slot], p.row);
    }
    if (it->n_images > 1) free(it->at.many);
    c->live_images -= it->n_images;
    it->n_images = 0;
}

void idx_cat_item_remove(idx_cat *c, uint32_t item)
{
    idx_mem_item *it = &c->items[item];
    idx_cat_images_remove(c, item);
    idx_attrs_remove(c->attrs, item);
    idx_slots_keys k = keys_of(c);
    idx_slots_remove(&c->slots, &k, idx_text_hash(idx_item_id(c, item)), item);
    it->rowid = 0;
    it->at.free.next = c->free_item;
    it->at.free.before = IDX_NONE;
    if (c->free_item != IDX_NONE) c->items[c->free_item].at.free.before = item;
    c->free_item = item;
    c->live_items--;
    idx_ids_remove(&c->ids, it->id, id_moved, c);
    if (c->slots.mask > 255 && c->live_items * UINT64_C(4) < c->slots.mask) (void)!idx_slots_resize(&c->slots, &k, c->slots.mask / 2); /* it can stay as it is */
}

static uint32_t fitting(const idx_cat *c) { return c->n_items + c->n_items / 8 + 64; }

bool idx_cat_untidy(const idx_cat *c)
{
    enum { FEW = 1024 };
    return c->slots.old != NULL || c->cap_items > fitting(c) + FEW || (c->n_items > FEW && c->items[c->n_items - 1].rowid == 0);
}

bool idx_cat_tidy(idx_cat *c)
{
    enum { SLOTS = 1024, ITEMS = 2048, CUT = 32768 /* a megabyte */ };
    idx_slots_keys k = keys_of(c);
    if (idx_slots_go_on(&c->slots, &k, SLOTS)) return true;
    uint32_t was = c->n_items;
    while (c->n_items > 0 && c->items[c->n_items - 1].rowid == 0 && was - c->n_items < ITEMS) unlink_free(c, --c->n_items);
    if (was - c->n_items == ITEMS) return true;
    if (c->cap_items <= fitting(c)) return false;
    uint32_t cap = c->cap_items - fitting(c) > CUT ? c->cap_items - CUT : fitting(c);
    idx_mem_item *items = realloc(c->items, cap * sizeof *items);
    if (items == NULL) return false;
    c->items = items;
    c->cap_items = cap;
    return cap > fitting(c);
}

/* ---- segments ----------------------------------------------------------------------------------------------------- */

idx_status idx_cat_segment_add(idx_cat *c, idx_segment *g, idx_error *err)
{
    idx_segment **list = realloc(c->segments, (c->n_segments + 1u) * sizeof(idx_segment *));
    if (list == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for a segment");
    c->segments = list;
    uint32_t slot = 0;
    while (slot < c->n_slots && c->by_slot[slot] != NULL) slot++;
    if (slot == c->n_slots) {
        idx_segment **by_slot = realloc(c->by_slot, (slot + 1u) * sizeof(idx_segment *));
        if (by_slot == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for a segment");
        c->by_slot = by_slot;
        c->n_slots++;
    }
    g->slot = slot;
    c->by_slot[slot] = g;
    c->segments[c->n_segments++] = g;
    return IDX_OK;
}

void idx_cat_segment_remove(idx_cat *c, idx_segment *g)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_segments; i++)
        if (c->segments[i] != g) c->segments[n++] = c->segments[i];
    c->n_segments = n;
    c->by_slot[g->slot] = NULL;
}

idx_status idx_cat_segment_for(idx_cat *c, uint32_t more, idx_segment **out, idx_error *err)
{
    idx_segment *last = c->n_segments > 0 ? c->segments[c->n_segments - 1] : NULL;
    if (last != NULL && last->rows + more <= IDX_MAX_ROWS && last->v->storage == idx_cat_storage(c)) {
        *out = last;
        return IDX_OK;
    }
    idx_segment *g;
    idx_status st = idx_segment_new(idx_cat_storage(c), c->row.info.dim, c->next_number, &g, err);
    if (st != IDX_OK) return st;
    st = idx_cat_segment_add(c, g, err);
    if (st != IDX_OK) {
        idx_segment_free(g);
        return st;
    }
    c->next_number++;
    *out = g;
    return IDX_OK;
}

uint32_t idx_cat_fresh(const idx_cat *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_segments; i++) n += idx_segment_fresh_alive(c->segments[i]);
    return n;
}

uint64_t idx_cat_bytes(const idx_cat *c)
{
    uint64_t n = c->cap_items * sizeof *c->items + idx_slots_bytes(&c->slots) + idx_ids_bytes(&c->ids);
    for (uint32_t i = 0; i < c->n_segments; i++) n += c->segments[i]->rows * (sizeof(uint32_t) + 1) + c->segments[i]->rows / 8;
    return n;
}

/* ---- invariants ----------------------------------------------------------------------------------------------- */

typedef struct {
    idx_cat *c;
    idx_error *err;
    uint64_t items, images;
    uint32_t item, n; /* whose vector is looked at */
    uint8_t *row;
} counter;

static idx_status check_item(void *ctx, const idx_item_row *r)
{
    counter *k = ctx;
    uint32_t item = idx_cat_find(k->c, r->id);
    k->items++;
    k->images += r->n_images;
    const idx_mem_item *it = item != IDX_NONE ? &k->c->items[item] : NULL;
    if (it == NULL || it->rowid != r->rowid || it->n_images != r->n_images || it->first_image != r->first_image)
        return idx_fail(k->err, IDX_ECORRUPT, "item %.100s of the store is not in memory as it is there", r->id);
    return idx_attrs_agree(k->c->attrs, item, r->attributes) ? IDX_OK : idx_fail(k->err, IDX_ECORRUPT, "the postings of item %.100s differ from its attributes", r->id);
}

static idx_status check_vector(void *ctx, int64_t image, const float *vector, uint32_t dim)
{
    counter *k = ctx;
    (void)dim;
    idx_place p = idx_item_place(&k->c->items[k->item], k->n++);
    const idx_segment *g = idx_place_segment(k->c, p);
    idx_rows_encode(g->v, vector, k->row);
    return memcmp(k->row, idx_rows_at(g->v, p.row), g->v->stride) == 0
               ? IDX_OK
               : idx_fail(k->err, IDX_ECORRUPT, "the vector of image %" PRId64 " differs from the store's", image);
}

static idx_status check_segment(const idx_cat *c, const idx_segment *g, uint32_t *placed, idx_error *err)
{
    uint32_t dead = 0;
    for (uint32_t r = 0; r < g->rows; r++) {
        bool alive = g->alive[r >> 6] >> (r & 63) & 1;
        if (alive != (g->item[r] != IDX_NONE)) return idx_fail(err, IDX_ECORRUPT, "catalogue %s: a row is dead and alive", c->row.info.name);
        dead += !alive;
        if (!alive) continue;
        const idx_mem_item *it = &c->items[g->item[r]];
        idx_place p = it->n_images > g->n[r] ? idx_item_place(it, g->n[r]) : (idx_place){0, IDX_NONE};
        *placed += it->rowid != 0 && p.row == r && p.slot == g->slot && c->by_slot[g->slot] == g;
    }
    if (dead != g->dead || idx_segment_linked(g) > g->rows) return idx_fail(err, IDX_ECORRUPT, "catalogue %s: a segment counts wrongly", c->row.info.name);
    return IDX_OK;
}

idx_status idx_cat_check(idx_cat *c, idx_store *s, idx_error *err)
{
    counter k = {.c = c, .err = err};
    idx_status st = idx_store_each_item(s, c->row.id, check_item, &k, err);
    if (st != IDX_OK) return st;
    const char *why = idx_attrs_check(c->attrs);
    if (why != NULL || idx_attrs_count(c->attrs) != c->live_items)
        return idx_fail(err, IDX_ECORRUPT, "catalogue %s: the attributes in memory: %s", c->row.info.name, why != NULL ? why : "they are of another number of items");
    if ((why = idx_matches_check(c)) != NULL) return idx_fail(err, IDX_ECORRUPT, "catalogue %s: what is kept of the filter %.100s is not what it matches", c->row.info.name, why);
    if (k.items != c->live_items || k.images != c->live_images)
        return idx_fail(err, IDX_ECORRUPT, "catalogue %s: the store has %" PRIu64 " items and %" PRIu64 " images, memory %" PRIu32 " and %" PRIu32,
                        c->row.info.name, k.items, k.images, c->live_items, c->live_images);
    uint32_t placed = 0;
    for (uint32_t i = 0; st == IDX_OK && i < c->n_segments; i++) st = check_segment(c, c->segments[i], &placed, err);
    if (st != IDX_OK) return st;
    if (placed != c->live_images)
        return idx_fail(err, IDX_ECORRUPT, "catalogue %s: %" PRIu32 " of %" PRIu32 " images have one place", c->row.info.name, placed, c->live_images);
    k.row = malloc(idx_rows_stride(IDX_FLOAT32, c->row.info.dim));
    if (k.row == NULL) return idx_fail(err, IDX_ENOMEM, "no memory");
    for (k.item = 0; st == IDX_OK && k.item < c->n_items; k.item++) {
        const idx_mem_item *it = &c->items[k.item];
        if (it->rowid == 0 || it->n_images == 0) continue;
        k.n = 0;
        st = idx_store_vectors(s, it->first_image, it->n_images, c->row.info.dim, check_vector, &k, err);
    }
    free(k.row);
    return st;
}
