/* attrs_keep.h: a catalogue's attributes at start, from their file and the log of changes, and the file kept fresh enough for
 * the next one. */
#ifndef LK_ATTRS_KEEP_H
#define LK_ATTRS_KEEP_H

#include "index_priv.h"

/* At start, exclusive, when every living item has its number: fills c->attrs. Without a file that fits, from the store's JSON. */
IDX_CHECK idx_status idx_attrs_load(idx_cat *c, idx *ix, idx_error *err);
/* Writes the file when so much changed since that a start would feel it; *worked says so. Takes the lock in pieces itself.
 * While others write much, more may change before it is worth it; when closing, less, as nothing will change any more. */
typedef enum { IDX_ATTRS_BUSY, IDX_ATTRS_IDLE, IDX_ATTRS_CLOSING } idx_attrs_when;
IDX_CHECK idx_status idx_attrs_maintain(idx_cat *c, idx *ix, idx_attrs_when when, bool *worked, idx_error *err);
bool idx_attrs_wanted(const idx_cat *c); /* under the lock: it is, even while others write */
void idx_attrs_purge(const char *dir, int64_t catalogue);
/* Deletes the files of catalogues that are gone. */
void idx_attrs_clean(const char *dir, const idx_catalogue_row *living, size_t n_living);

#endif
