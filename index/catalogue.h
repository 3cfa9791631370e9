/* catalogue.h: a catalogue in memory: items, their ids and attributes, and where the vector of each of their images is.
 *
 * Items have dense numbers that are used again after a deletion. The lock covers everything; searches hold it shared, the writer
 * exclusively for the microseconds that it takes to apply some commits. */
#ifndef LK_CATALOGUE_H
#define LK_CATALOGUE_H

#include "attrs.h"
#include "audit.h"
#include "ids.h"
#include "matches.h"
#include "segment.h"
#include "slots.h"
#include "store.h"

#include <pthread.h>

enum { IDX_VERSIONS = 0xffffff };
typedef struct { /* where an image's vector is */
    uint32_t row;
    uint32_t slot; /* of the segment; IDX_NONE = nowhere yet (start only) */
} idx_place;

typedef struct {
    int64_t rowid;       /* of the item in the store; 0 = this number is free */
    int64_t first_image; /* rowid of its image 0; the others follow it */
    union {
        idx_place one;   /* of an item with one image */
        idx_place *many;
        struct {
            uint32_t next, before; /* of the free numbers; IDX_NONE = none */
        } free;
    } at;
    idx_id_at id;
    uint32_t n_images : 8;
    uint32_t version : 24; /* counts the writes to it since it came or since the start; see records.h */
} idx_mem_item;

typedef struct idx_cat {
    idx_catalogue_row row;
    uint64_t generation; /* counted ahead of row.info.generation by the writer, in the transaction; no lock */
    int64_t stamp;       /* of row.info.generation in the log of changes */
    _Atomic uint64_t attrs_generation; /* of the attributes' file (attrs_keep.h); UINT64_MAX = there is none */
    _Atomic uint64_t log_from; /* the oldest generation whose line of the log a derived file needs; UINT64_MAX = none does */
    int refs;     /* under the index's table lock */
    bool removed; /* deleted; memory goes with the last reference */
    uint64_t failed_in; /* the keeper's, under maintain_lock: the round in which something failed, and that it sits out */
    pthread_rwlock_t lock;
    idx_mem_item *items;
    uint32_t n_items, cap_items, live_items, live_images;
    int64_t newest; /* rowid of the item that came last */
    uint32_t free_item; /* the first of the free numbers, IDX_NONE = none */
    idx_ids ids;
    idx_slots slots; /* id -> item */
    idx_segment **segments; /* the last takes new rows */
    uint32_t n_segments;
    idx_segment **by_slot; /* NULL = free */
    uint32_t n_slots;
    uint64_t next_number; /* for the files of a new segment */
    idx_attrs *attrs;
    idx_matches matches; /* has its own lock */
    idx_audit audit[IDX_AUDIT_KINDS]; /* has its own locks */
} idx_cat;

/* effort: where searches begin (audit.h). */
IDX_CHECK idx_status idx_cat_new(const idx_catalogue_row *row, uint32_t effort, idx_cat **out, idx_error *err);
void idx_cat_free(idx_cat *c);

/* How vectors are kept: as decided, or float32 until then. */
static inline idx_storage idx_cat_storage(const idx_cat *c) { return c->row.info.kept != IDX_STORAGE_AUTO ? c->row.info.kept : IDX_FLOAT32; }

/* The exclusive lock, for who can wait some milliseconds: a thread that waits for it keeps new searches out until those that run
 * have come to their end, and one of them may have lost its processor. So it is taken when no search runs, if there is such a
 * moment soon. */
void idx_cat_lock(idx_cat *c);
/* The shared lock, for a search: it waits awake for the tenths of a millisecond that a writer takes. A processor that falls asleep meanwhile is back in
 * some microseconds, but on a virtual machine now and then only after 5 to 80 ms. */
void idx_cat_enter(idx_cat *c);
/* Between two pieces under the exclusive lock: who takes it again at once has it before those that waited have woken up, and searches would
 * wait for all of the pieces. */
void idx_cat_let_in(void);

/* Under the exclusive lock. An item without images, then its images in order: with vectors, or (start only) waiting for a segment or
 * the store to give them. */
IDX_CHECK idx_status idx_cat_item_add(idx_cat *c, const char *id, int64_t rowid, const char *attributes, uint32_t *item, idx_error *err);
/* At the start: items of an empty catalogue one after the other, whose attributes come later, and then what finds them by their ids. */
IDX_CHECK idx_status idx_cat_item_load(idx_cat *c, const char *id, int64_t rowid, uint32_t *item, idx_error *err);
IDX_CHECK idx_status idx_cat_items_loaded(idx_cat *c, idx_error *err);
IDX_CHECK idx_status idx_cat_images_add(idx_cat *c, uint32_t item, int64_t first_image, const float *const *vectors, uint32_t n, idx_error *err);
IDX_CHECK idx_status idx_cat_images_expect(idx_cat *c, uint32_t item, int64_t first_image, uint32_t n, idx_error *err);
void idx_cat_images_remove(idx_cat *c, uint32_t item);
void idx_cat_item_remove(idx_cat *c, uint32_t item);
/* Gives back what free numbers behind the last living item take, and finishes what the table of ids has begun; a piece of some hundred
 * microseconds. False: there is nothing to do, or nothing left. */
bool idx_cat_tidy(idx_cat *c);
bool idx_cat_untidy(const idx_cat *c); /* under the shared lock: it is worth it */

IDX_CHECK idx_status idx_cat_segment_add(idx_cat *c, idx_segment *g, idx_error *err); /* becomes the last */
void idx_cat_segment_remove(idx_cat *c, idx_segment *g); /* all its rows are dead; the caller frees it */
/* The segment for `more` new rows: the last, or a new one. */
IDX_CHECK idx_status idx_cat_segment_for(idx_cat *c, uint32_t more, idx_segment **out, idx_error *err);
/* Image n of the item is at this row, which belonged to nobody. */
void idx_cat_place(idx_cat *c, uint32_t item, uint32_t n, idx_segment *g, uint32_t row);

/* Under the shared lock. */
uint32_t idx_cat_find(const idx_cat *c, const char *id); /* IDX_NONE */
static inline const char *idx_item_id(const idx_cat *c, uint32_t item) { return idx_ids_get(&c->ids, c->items[item].id); }
/* Is it the item that had this number when `newest` was the newest one, and still lives? */
static inline bool idx_item_lives(const idx_cat *c, uint32_t item, int64_t newest)
{
    return item < c->n_items && c->items[item].rowid != 0 && c->items[item].rowid <= newest;
}
static inline idx_place idx_item_place(const idx_mem_item *it, uint32_t n) { return it->n_images == 1 ? it->at.one : it->at.many[n]; }
static inline const idx_segment *idx_place_segment(const idx_cat *c, idx_place p) { return c->by_slot[p.slot]; }
uint32_t idx_cat_fresh(const idx_cat *c); /* living rows that no graph has */
uint64_t idx_cat_bytes(const idx_cat *c); /* of items, ids and places; without vectors, graphs and attributes */
IDX_CHECK idx_status idx_cat_check(idx_cat *c, idx_store *s, idx_error *err);

#endif
