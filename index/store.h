/* store.h: SQLite, the truth. No SQL elsewhere than in store.c, store_read.c, store_ahead.c and schema.c.
 *
 * One connection writes and alone checkpoints (a WAL race of SQLite before 3.51.3 needs two); readers are opened
 * read-only, one for each thread at a time, from a pool. */
#ifndef LK_STORE_H
#define LK_STORE_H

#include "error.h"
#include "records.h"

#include <sqlite3.h>

typedef struct idx_store idx_store;

idx_status idx_store_fail(sqlite3 *db, const char *what, idx_error *err);
IDX_CHECK idx_status idx_schema_migrate(sqlite3 *db, idx_error *err);
enum { IDX_IMAGE_BYTES = 40 }; /* of what is known of an image in items.images */
void idx_image_pack(const idx_image_info *i, uint8_t out[IDX_IMAGE_BYTES]);
void idx_image_unpack(const uint8_t in[IDX_IMAGE_BYTES], idx_image_info *i);

IDX_CHECK idx_status idx_store_open(const char *dir, idx_store **out, idx_error *err);
void idx_store_close(idx_store *s);
const char *idx_store_path(const idx_store *s); /* of its file */

/* ---- the writer's connection; one thread ---- */
IDX_CHECK idx_status idx_store_begin(idx_store *s, idx_error *err);
IDX_CHECK idx_status idx_store_commit(idx_store *s, idx_error *err);
void idx_store_rollback(idx_store *s);
void idx_store_checkpoint(idx_store *s);
/* What commits have left in the log goes into the file itself once it is much. Not as a part of a commit, where all that wait for it
 * would wait for this, too. A failure means that the file cannot be written or synced. */
IDX_CHECK idx_status idx_store_checkpoint_due(idx_store *s, idx_error *err);
/* Gives some pages that deletions left free back to the file system, if there are many, in a transaction of its own of some
 * milliseconds. *more: another piece is worth it; false before the first. */
IDX_CHECK idx_status idx_store_shrink(idx_store *s, bool *more, idx_error *err);

typedef struct {
    int64_t id;
    idx_catalogue info; /* without counts */
} idx_catalogue_row;
IDX_CHECK idx_status idx_store_catalogue_add(idx_store *s, idx_catalogue_row *row, idx_error *err); /* sets id */
IDX_CHECK idx_status idx_store_catalogue_keep(idx_store *s, int64_t id, idx_storage kept, idx_error *err);
IDX_CHECK idx_status idx_store_catalogue_remove(idx_store *s, int64_t id, idx_error *err);
/* One write of a catalogue: its generation, which is the catalogue's from now on, and a line of the log of changes.
 * THE LOG holds (generation, item, stamp), one line a write, the newest `n`; older ones were trimmed. A derived file of generation
 * G that carries G's stamp is brought up to date by the lines above G: an item of the log that is no longer there was deleted.
 * The stamp, a random number, tells a file of this history from one of another, as a restored backup leaves. */
IDX_CHECK idx_status idx_store_change(idx_store *s, int64_t catalogue, uint64_t generation, int64_t item, int64_t stamp, idx_error *err);
/* Forgets the oldest lines below `keep`, `most` of them at most, so that no commit is long. */
IDX_CHECK idx_status idx_store_changes_trim(idx_store *s, int64_t catalogue, uint64_t keep, uint32_t most, idx_error *err);
/* An item's images have rowids in a row, first_image .. first_image + n_images - 1, which are never used again. */
typedef struct {
    int64_t item; /* rowid; 0 = there is none */
    int64_t first_image;
    uint32_t n_images;
} idx_store_place;
/* attributes: malloc; may be NULL. */
IDX_CHECK idx_status idx_store_item_find(idx_store *s, int64_t catalogue, const char *id, idx_store_place *p, char **attributes, idx_error *err);
/* A new item, its rowid in p->item; its images come by idx_store_images_set. */
IDX_CHECK idx_status idx_store_item_add(idx_store *s, int64_t catalogue, const char *id, const char *attributes, int64_t now, idx_store_place *p,
                                        idx_error *err);
IDX_CHECK idx_status idx_store_item_update(idx_store *s, int64_t item, const char *attributes, int64_t now, idx_error *err);
/* Whether the images of `p` are these already, vectors and renditions to the bit. */
IDX_CHECK idx_status idx_store_images_same(idx_store *s, const idx_store_place *p, const idx_image *images, uint32_t n, uint32_t dim, bool *same,
                                           idx_error *err);
/* In the place of those of `p`, which is brought up to date. */
IDX_CHECK idx_status idx_store_images_set(idx_store *s, idx_store_place *p, const idx_image *images, uint32_t n, uint32_t dim,
                                          idx_error *err);
IDX_CHECK idx_status idx_store_item_remove(idx_store *s, const idx_store_place *p, idx_error *err); /* and its images */

/* ---- readers; any thread ---- */
IDX_CHECK idx_status idx_store_catalogues(idx_store *s, idx_catalogue_row **out, size_t *n, idx_error *err);
typedef struct {
    int64_t rowid, catalogue;
    const char *id, *attributes;
    int64_t first_image;
    uint32_t n_images;
} idx_item_row;
typedef idx_status idx_item_fn(void *ctx, const idx_item_row *row);
typedef idx_status idx_attributes_fn(void *ctx, int64_t item, const char *attributes);
typedef idx_status idx_vector_fn(void *ctx, int64_t image, const float *vector, uint32_t dim);
typedef idx_status idx_change_fn(void *ctx, uint64_t generation, int64_t item, int64_t stamp);
/* At most `limit` ids above `after`, by id; caller frees each and the array, also on failure. */
IDX_CHECK idx_status idx_store_ids(idx_store *s, int64_t catalogue, const char *after, uint32_t limit, char ***out, size_t *n, idx_error *err);
/* By rowid; stop at the first status that is not IDX_OK. Of all catalogues: as they lie in the file, which is faster than finding those of each,
 * and without their attributes (NULL). */
IDX_CHECK idx_status idx_store_each_item(idx_store *s, int64_t catalogue, idx_item_fn *fn, void *ctx, idx_error *err);
IDX_CHECK idx_status idx_store_all_items(idx_store *s, idx_item_fn *fn, void *ctx, idx_error *err);
/* Of one item, by its rowid; IDX_OK without a call when there is none. */
IDX_CHECK idx_status idx_store_attributes(idx_store *s, int64_t item, idx_attributes_fn *fn, void *ctx, idx_error *err);
/* The log from generation `from` on, in its order. */
IDX_CHECK idx_status idx_store_each_change(idx_store *s, int64_t catalogue, uint64_t from, idx_change_fn *fn, void *ctx, idx_error *err);
/* The vectors of n images from `first` on. A missing one is IDX_ECORRUPT. */
IDX_CHECK idx_status idx_store_vectors(idx_store *s, int64_t first, uint32_t n, uint32_t dim, idx_vector_fn *fn, void *ctx, idx_error *err);
IDX_CHECK idx_status idx_store_item_get(idx_store *s, int64_t catalogue, const char *id, idx_item **out, idx_error *err);
/* What searches show of n items, by their rowids, all as of one moment: fn is called for those that are there, with their place in `rowids`. */
typedef idx_status idx_store_record_fn(void *ctx, size_t i, const idx_record *r);
IDX_CHECK idx_status idx_store_records(idx_store *s, const int64_t *rowids, size_t n, idx_store_record_fn *fn, void *ctx, idx_error *err);
IDX_CHECK idx_status idx_store_rendition(idx_store *s, int64_t catalogue, const char *id, uint32_t n, uint8_t **jpeg, size_t *len, idx_error *err);
IDX_CHECK idx_status idx_store_embeddings(idx_store *s, int64_t catalogue, const char *id, float **out, size_t *n, uint32_t *dim, idx_error *err);
IDX_CHECK idx_status idx_store_quick_check(idx_store *s, idx_error *err);
uint64_t idx_store_bytes(const idx_store *s); /* files on disk */

#endif
