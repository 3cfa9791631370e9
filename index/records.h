/* records.h: what the store knows of items that searches found lately, in memory of a fixed size.
 *
 * Each commit empties the page caches of SQLite's readers, so that beside a steady stream of writes a search would read every page
 * of its hits anew; what is kept here outlives the writes to other items.
 *
 * A record goes by its item's rowid, which is never used again, and by the item's version (catalogue.h), which every write to it
 * counts up under the exclusive lock, after its commit. Who has seen a version under the lock and reads the store afterwards gets
 * that version or a later one, and may keep it here as that; nothing is ever taken out, for nobody asks for an old version.
 * Threads: any. */
#ifndef LK_RECORDS_H
#define LK_RECORDS_H

#include "error.h"

typedef struct idx_records idx_records;

typedef struct {
    const char *attributes; /* JSON object text with its NUL */
    size_t attributes_bytes; /* without it */
    const uint8_t *images; /* n_images times IDX_IMAGE_BYTES (store.h) */
    uint32_t n_images;
} idx_record;
typedef void idx_record_fn(void *ctx, const idx_record *r); /* which it borrows */

/* bytes: at most so many of records; they are taken as they are needed. */
IDX_CHECK idx_status idx_records_new(size_t bytes, idx_records **out, idx_error *err);
void idx_records_free(idx_records *s);
/* Asks memory for the records of n rowids, which will be looked for: each lies two jumps away, in memory that nobody read lately. */
void idx_records_ahead(idx_records *s, const int64_t *rowids, size_t n);
/* False: it is not here. fn is short, and calls nothing of this file. */
bool idx_records_find(idx_records *s, int64_t rowid, uint32_t version, idx_record_fn *fn, void *ctx);
/* In the place of the oldest ones. A long record, or without memory for it, is not kept. */
void idx_records_add(idx_records *s, int64_t rowid, uint32_t version, const idx_record *r);
uint64_t idx_records_bytes(idx_records *s);

#endif
