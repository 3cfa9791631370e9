/* catalogue.h: a catalogue in memory: items, images, attributes, and where each image's vector is.
 *
 * Items and images have dense numbers that are used again after a deletion. A vector lies in the fresh segment (rows in
 * arrival order, scanned exactly) or in a sealed one (HNSW). The lock covers everything; searches hold it shared, the
 * writer exclusively for the microseconds that it takes to apply a commit. */
#ifndef LK_CATALOGUE_H
#define LK_CATALOGUE_H

#include "ann.h"
#include "attrs.h"
#include "audit.h"
#include "parts.h"
#include "store.h"

#include <pthread.h>

#define IDX_NONE       UINT32_MAX
#define IDX_BLOCK_ROWS 1024 /* fresh vectors are kept in blocks, so that growing moves nothing */

typedef struct {
    idx_ann *ann;
    uint32_t rows, dead;
    int64_t *ids;    /* [row] image rowid */
    uint32_t *image; /* [row] image number, IDX_NONE when deleted */
    char *path;
    idx_parts *parts; /* NULL = not made yet (lists.h) */
} idx_segment;

typedef struct {
    int64_t rowid;
    uint32_t item; /* IDX_NONE = this number is free */
    uint32_t n;
    idx_segment *segment; /* NULL = fresh */
    uint32_t row;
} idx_mem_image;

typedef struct {
    char *id; /* NULL = this number is free */
    int64_t rowid;
    uint32_t n_images;
    uint32_t *images; /* image numbers in order */
} idx_mem_item;

typedef struct idx_cat {
    idx_catalogue_row row;
    uint64_t generation; /* counted ahead of row.info.generation by the writer, in the transaction; no lock */
    int64_t stamp;       /* of row.info.generation in the log of changes */
    _Atomic uint64_t log_from; /* the oldest generation whose line of the log a derived file needs; UINT64_MAX = none does */
    int refs;     /* under the index's table lock */
    bool removed; /* deleted; memory goes with the last reference */
    pthread_rwlock_t lock;
    idx_mem_item *items;
    uint32_t n_items, cap_items, live_items;
    int64_t newest; /* rowid of the item that came last */
    uint32_t *slots, slot_mask; /* id -> item + 1 */
    idx_mem_image *images;
    uint32_t n_images, cap_images, live_images;
    uint32_t *free_items, n_free_items, *free_images, n_free_images;
    float **blocks; /* fresh rows */
    uint32_t n_blocks, fresh_rows, fresh_dead;
    uint32_t *fresh_image; /* [row] image number, IDX_NONE when deleted */
    idx_segment **segments;
    uint32_t n_segments;
    idx_attrs *attrs;
    idx_audit audit[IDX_AUDIT_KINDS]; /* has its own locks */
} idx_cat;

/* effort: where searches begin (audit.h). */
IDX_CHECK idx_status idx_cat_new(const idx_catalogue_row *row, uint32_t effort, idx_cat **out, idx_error *err);
void idx_cat_free(idx_cat *c);

/* Under the exclusive lock. */
IDX_CHECK idx_status idx_cat_item_add(idx_cat *c, const char *id, int64_t rowid, const char *attributes, uint32_t *item, idx_error *err);
/* vector NULL: the image waits for a segment to claim it (start only). */
IDX_CHECK idx_status idx_cat_image_add(idx_cat *c, uint32_t item, int64_t rowid, uint32_t n, const float *vector, uint32_t *image, idx_error *err);
IDX_CHECK idx_status idx_cat_fresh_add(idx_cat *c, uint32_t image, const float *vector, idx_error *err);
void idx_cat_images_remove(idx_cat *c, uint32_t item);
void idx_cat_item_remove(idx_cat *c, uint32_t item);
/* Removes the first `rows` rows of the fresh segment; cheap when they fill whole blocks. */
void idx_cat_fresh_drop(idx_cat *c, uint32_t rows);

/* Under the shared lock. */
uint32_t idx_cat_find(const idx_cat *c, const char *id); /* IDX_NONE */
static inline const float *idx_cat_fresh(const idx_cat *c, uint32_t row)
{
    return c->blocks[row / IDX_BLOCK_ROWS] + (size_t)(row % IDX_BLOCK_ROWS) * c->row.info.dim;
}
static inline const char *idx_item_id(const idx_cat *c, uint32_t item) { return c->items[item].id; }
/* Is it the item that had this number when `newest` was the newest one, and still lives? */
static inline bool idx_item_lives(const idx_cat *c, uint32_t item, int64_t newest)
{
    return item < c->n_items && c->items[item].id != NULL && c->items[item].rowid <= newest;
}
/* The vector of an image: where it is, or a copy in `room`. NULL = FAISS failed. */
const float *idx_cat_vector(const idx_cat *c, uint32_t image, float *room);
IDX_CHECK idx_status idx_cat_check(idx_cat *c, idx_store *s, idx_error *err);

void idx_segment_free(idx_segment *s);

#endif
