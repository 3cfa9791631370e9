/* catalogue.c: the maps of catalogue.h. */
#include "catalogue.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static uint32_t hash(const char *s)
{
    uint64_t h = 1469598103934665603u;
    for (; *s; s++) h = (h ^ (uint8_t)*s) * 1099511628211u;
    return (uint32_t)(h ^ h >> 32);
}

idx_status idx_cat_new(const idx_catalogue_row *row, uint32_t effort, idx_cat **out, idx_error *err)
{
    idx_cat *c = calloc(1, sizeof *c);
    if (c == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for a catalogue");
    c->row = *row;
    c->generation = row->info.generation;
    c->log_from = UINT64_MAX;
    idx_audit_init(c->audit, effort);
    c->slot_mask = 255;
    c->slots = calloc(c->slot_mask + 1u, sizeof *c->slots);
    c->attrs = idx_attrs_new();
    pthread_rwlockattr_t attr; /* glibc prefers readers by default: steady searches would starve the writer */
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&c->lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    if (c->slots == NULL || c->attrs == NULL) {
        idx_cat_free(c);
        return idx_fail(err, IDX_ENOMEM, "no memory for a catalogue");
    }
    *out = c;
    return IDX_OK;
}

void idx_segment_free(idx_segment *s)
{
    if (s == NULL) return;
    idx_ann_free(s->ann);
    idx_parts_free(s->parts);
    free(s->ids);
    free(s->image);
    free(s->path);
    free(s);
}

void idx_cat_free(idx_cat *c)
{
    if (c == NULL) return;
    for (uint32_t i = 0; i < c->n_items; i++) {
        free(c->items[i].id);
        free(c->items[i].images);
    }
    for (uint32_t i = 0; i < c->n_blocks; i++) free(c->blocks[i]);
    for (uint32_t i = 0; i < c->n_segments; i++) idx_segment_free(c->segments[i]);
    free(c->items);
    free(c->slots);
    free(c->images);
    free(c->free_items);
    free(c->free_images);
    free(c->blocks);
    free(c->fresh_image);
    free(c->segments);
    idx_attrs_free(c->attrs);
    idx_audit_fini(c->audit);
    pthread_rwlock_destroy(&c->lock);
    free(c);
}

/* ---- ids ------------------------------------------------------------------------------------------------ */

uint32_t idx_cat_find(const idx_cat *c, const char *id)
{
    for (uint32_t i = hash(id) & c->slot_mask; c->slots[i] != 0; i = (i + 1) & c->slot_mask)
        if (strcmp(c->items[c->slots[i] - 1].id, id) == 0) return c->slots[i] - 1;
    return IDX_NONE;
}

static void slot_put(uint32_t *slots, uint32_t mask, const char *id, uint32_t item)
{
    uint32_t i = hash(id) & mask;
    while (slots[i] != 0) i = (i + 1) & mask;
    slots[i] = item + 1;
}

/* Linear probing without tombstones: the run behind the hole moves up. */
static void slot_remove(idx_cat *c, uint32_t item)
{
    uint32_t i = hash(c->items[item].id) & c->slot_mask;
    while (c->slots[i] != item + 1) i = (i + 1) & c->slot_mask;
    uint32_t hole = i;
    for (;;) {
        i = (i + 1) & c->slot_mask;
        if (c->slots[i] == 0) break;
        uint32_t home = hash(c->items[c->slots[i] - 1].id) & c->slot_mask;
        if (((i - home) & c->slot_mask) >= ((i - hole) & c->slot_mask)) {
            c->slots[hole] = c->slots[i];
            hole = i;
        }
    }
    c->slots[hole] = 0;
}

static bool slots_grow(idx_cat *c)
{
    uint32_t mask = c->slot_mask * 2 + 1, *slots = calloc((size_t)mask + 1, sizeof *slots);
    if (slots == NULL) return false;
    for (uint32_t i = 0; i < c->n_items; i++)
        if (c->items[i].id != NULL) slot_put(slots, mask, c->items[i].id, i);
    free(c->slots);
    c->slots = slots;
    c->slot_mask = mask;
    return true;
}

/* Grows *array (of `size` bytes each) and its list of free numbers together. */
static bool room(void **array, size_t size, uint32_t n, uint32_t *cap, uint32_t **free_list)
{
    if (n < *cap) return true;
    uint32_t more = *cap * 2 + 64;
    void *a = realloc(*array, more * size);
    if (a == NULL) return false;
    *array = a;
    uint32_t *f = realloc(*free_list, more * sizeof *f);
    if (f == NULL) return false;
    *free_list = f;
    *cap = more;
    return true;
}

/* ---- items and images ------------------------------------------------------------------------------------- */

idx_status idx_cat_item_add(idx_cat *c, const char *id, int64_t rowid, const char *attributes, uint32_t *out, idx_error *err)
{
    void *items = c->items;
    char *copy = strdup(id);
    bool ok = copy != NULL && room(&items, sizeof *c->items, c->n_items, &c->cap_items, &c->free_items);
    c->items = items;
    if (ok && (c->live_items + 1) * 2 > c->slot_mask) ok = slots_grow(c);
    if (!ok) {
        free(copy);
        return idx_fail(err, IDX_ENOMEM, "no memory for an item");
    }
    uint32_t item = c->n_free_items > 0 ? c->free_items[c->n_free_items - 1] : c->n_items;
    idx_status st = idx_attrs_set(c->attrs, item, attributes, err);
    if (st != IDX_OK) {
        free(copy);
        return st;
    }
    if (c->n_free_items > 0) c->n_free_items--;
    else c->n_items++;
    c->items[item] = (idx_mem_item){.id = copy, .rowid = rowid};
    slot_put(c->slots, c->slot_mask, copy, item);
    c->live_items++;
    if (rowid > c->newest) c->newest = rowid;
    *out = item;
    return IDX_OK;
}

idx_status idx_cat_fresh_add(idx_cat *c, uint32_t image, const float *vector, idx_error *err)
{
    size_t dim = c->row.info.dim;
    if (c->fresh_rows == c->n_blocks * IDX_BLOCK_ROWS) {
        float **blocks = realloc(c->blocks, (c->n_blocks + 1u) * sizeof *blocks);
        if (blocks != NULL) c->blocks = blocks;
        uint32_t *map = realloc(c->fresh_image, (c->n_blocks + 1u) * IDX_BLOCK_ROWS * sizeof *map);
        if (map != NULL) c->fresh_image = map;
        float *block = malloc(IDX_BLOCK_ROWS * dim * sizeof *block);
        if (blocks == NULL || map == NULL || block == NULL) {
            free(block);
            return idx_fail(err, IDX_ENOMEM, "no memory for vectors");
        }
        c->blocks[c->n_blocks++] = block;
    }
    uint32_t row = c->fresh_rows++;
    memcpy(c->blocks[row / IDX_BLOCK_ROWS] + (row % IDX_BLOCK_ROWS) * dim, vector, dim * sizeof *vector);
    c->fresh_image[row] = image;
    c->images[image].segment = NULL;
    c->images[image].row = row;
    return IDX_OK;
}

idx_status idx_cat_image_add(idx_cat *c, uint32_t item, int64_t rowid, uint32_t n, const float *vector, uint32_t *out, idx_error *err)
{
    void *images = c->images;
    bool ok = room(&images, sizeof *c->images, c->n_images, &c->cap_images, &c->free_images);
    c->images = images;
    idx_mem_item *it = &c->items[item];
    uint32_t *list = ok ? realloc(it->images, (it->n_images + 1u) * sizeof *list) : NULL;
    if (list == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for an image");
    it->images = list;
    uint32_t image = c->n_free_images > 0 ? c->free_images[--c->n_free_images] : c->n_images++;
    c->images[image] = (idx_mem_image){.rowid = rowid, .item = item, .n = n, .row = IDX_NONE};
    idx_status st = vector != NULL ? idx_cat_fresh_add(c, image, vector, err) : IDX_OK;
    if (st != IDX_OK) {
        c->images[image].item = IDX_NONE;
        c->free_images[c->n_free_images++] = image;
        return st;
    }
    it->images[it->n_images++] = image;
    c->live_images++;
    if (out != NULL) *out = image;
    return IDX_OK;
}

void idx_cat_images_remove(idx_cat *c, uint32_t item)
{
    idx_mem_item *it = &c->items[item];
    for (uint32_t i = 0; i < it->n_images; i++) {
        idx_mem_image *im = &c->images[it->images[i]];
        if (im->segment != NULL) {
            im->segment->image[im->row] = IDX_NONE;
            im->segment->dead++;
        } else if (im->row != IDX_NONE) {
            c->fresh_image[im->row] = IDX_NONE;
            c->fresh_dead++;
        }
        im->item = IDX_NONE;
        c->free_images[c->n_free_images++] = it->images[i];
        c->live_images--;
    }
    free(it->images);
    it->images = NULL;
    it->n_images = 0;
}

void idx_cat_item_remove(idx_cat *c, uint32_t item)
{
    idx_cat_images_remove(c, item);
    idx_attrs_remove(c->attrs, item);
    slot_remove(c, item);
    free(c->items[item].id);
    c->items[item].id = NULL;
    c->free_items[c->n_free_items++] = item;
    c->live_items--;
}

void idx_cat_fresh_drop(idx_cat *c, uint32_t rows)
{
    size_t dim = c->row.info.dim;
    uint32_t left = c->fresh_rows - rows, blocks = rows / IDX_BLOCK_ROWS, shift = rows % IDX_BLOCK_ROWS;
    for (uint32_t r = 0; r < rows; r++)
        if (c->fresh_image[r] == IDX_NONE) c->fresh_dead--;
    for (uint32_t i = 0; i < blocks; i++) free(c->blocks[i]);
    memmove(c->blocks, c->blocks + blocks, (c->n_blocks - blocks) * sizeof *c->blocks);
    memmove(c->fresh_image, c->fresh_image + rows, left * sizeof *c->fresh_image);
    c->n_blocks -= blocks;
    c->fresh_rows = left;
    for (uint32_t r = 0; r < left; r++) {
        if (shift != 0) /* what is left does not begin at a block: it moves down, row by row */
            memcpy(c->blocks[r / IDX_BLOCK_ROWS] + (r % IDX_BLOCK_ROWS) * dim, idx_cat_fresh(c, r + shift), dim * sizeof(float));
        if (c->fresh_image[r] != IDX_NONE) c->images[c->fresh_image[r]].row = r;
    }
    while (c->n_blocks > (left + IDX_BLOCK_ROWS - 1) / IDX_BLOCK_ROWS) free(c->blocks[--c->n_blocks]);
}

const float *idx_cat_vector(const idx_cat *c, uint32_t image, float *copy)
{
    const idx_mem_image *im = &c->images[image];
    if (im->segment == NULL) return idx_cat_fresh(c, im->row);
    return idx_ann_row(im->segment->ann, im->row, copy, NULL) == IDX_OK ? copy : NULL;
}

/* ---- invariants ----------------------------------------------------------------------------------------------- */

typedef struct {
    idx_cat *c;
    idx_error *err;
    uint64_t items, images;
} counter;

static idx_status check_item(void *ctx, int64_t rowid, const char *id, const char *attributes)
{
    counter *k = ctx;
    uint32_t item = idx_cat_find(k->c, id);
    k->items++;
    if (item == IDX_NONE || k->c->items[item].rowid != rowid) return idx_fail(k->err, IDX_ECORRUPT, "item %.100s of the store is not in memory", id);
    return idx_attrs_agree(k->c->attrs, item, attributes) ? IDX_OK : idx_fail(k->err, IDX_ECORRUPT, "the postings of item %.100s differ from its attributes", id);
}

static idx_status check_image(void *ctx, int64_t rowid, int64_t item_row, uint32_t n)
{
    counter *k = ctx;
    (void)item_row, (void)rowid, (void)n;
    k->images++;
    return IDX_OK;
}

static idx_status check_vector(void *ctx, int64_t rowid, const float *vector, uint32_t dim)
{
    counter *k = ctx;
    float *copy = malloc(dim * sizeof *copy);
    idx_status st = copy == NULL ? idx_fail(k->err, IDX_ENOMEM, "no memory") : IDX_OK;
    const float *v = st == IDX_OK ? idx_cat_vector(k->c, (uint32_t)k->items, copy) : NULL;
    if (st == IDX_OK && (v == NULL || memcmp(v, vector, dim * sizeof *v) != 0))
        st = idx_fail(k->err, IDX_ECORRUPT, "the vector of image %" PRId64 " differs from the store's", rowid);
    free(copy);
    return st;
}

idx_status idx_cat_check(idx_cat *c, idx_store *s, idx_error *err)
{
    counter k = {c, err, 0, 0};
    idx_status st = idx_store_each_item(s, c->row.id, check_item, &k, err);
    if (st == IDX_OK) st = idx_store_each_image(s, c->row.id, check_image, &k, err);
    if (st != IDX_OK) return st;
    const char *why = idx_attrs_check(c->attrs);
    if (why != NULL || idx_attrs_count(c->attrs) != c->live_items)
        return idx_fail(err, IDX_ECORRUPT, "catalogue %s: the attributes in memory: %s", c->row.info.name, why != NULL ? why : "they are of another number of items");
    if (k.items != c->live_items || k.images != c->live_images)
        return idx_fail(err, IDX_ECORRUPT, "catalogue %s: the store has %" PRIu64 " items and %" PRIu64 " images, memory %" PRIu32 " and %" PRIu32,
                        c->row.info.name, k.items, k.images, c->live_items, c->live_images);
    uint32_t placed = 0, dead = 0;
    for (uint32_t r = 0; r < c->fresh_rows; r++) {
        if (c->fresh_image[r] == IDX_NONE) dead++;
        else placed += c->images[c->fresh_image[r]].segment == NULL && c->images[c->fresh_image[r]].row == r;
    }
    if (dead != c->fresh_dead) return idx_fail(err, IDX_ECORRUPT, "catalogue %s: the fresh segment counts its dead wrongly", c->row.info.name);
    for (uint32_t i = 0; i < c->n_segments; i++) {
        const idx_segment *g = c->segments[i];
        dead = 0;
        for (uint32_t r = 0; r < g->rows; r++) {
            if (g->image[r] == IDX_NONE) dead++;
            else placed += c->images[g->image[r]].segment == g && c->images[g->image[r]].row == r && c->images[g->image[r]].rowid == g->ids[r];
        }
        if (dead != g->dead || idx_ann_count(g->ann) != g->rows) return idx_fail(err, IDX_ECORRUPT, "catalogue %s: a segment counts wrongly", c->row.info.name);
    }
    if (placed != c->live_images)
        return idx_fail(err, IDX_ECORRUPT, "catalogue %s: %" PRIu32 " of %" PRIu32 " images have one place", c->row.info.name, placed, c->live_images);
    for (uint32_t i = 0; st == IDX_OK && i < c->n_images; i++) {
        if (c->images[i].item == IDX_NONE) continue;
        k.items = i; /* which image check_vector looks at */
        st = idx_store_vectors(s, &c->images[i].rowid, 1, c->row.info.dim, check_vector, &k, err);
    }
    return st;
}
