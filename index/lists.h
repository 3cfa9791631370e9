/* lists.h: keeps the lists (parts.h) of a catalogue's segments: reads them at start, makes and extends them in the background. */
#ifndef LK_LISTS_H
#define LK_LISTS_H

#include "index_priv.h"

/* Exclusive, at start: reads what files there are; those that do not fit go. */
void idx_lists_load(idx_cat *c, const idx *ix);
/* One segment without lists gets some, or one that has grown gets its new rows into them; idle: few of them are enough. *worked says so.
 * Takes the lock itself; nobody else changes segments meanwhile. */
IDX_CHECK idx_status idx_lists_maintain(idx_cat *c, idx *ix, bool idle, bool *worked, idx_error *err);
/* Deletes the files of segments that are gone. */
void idx_lists_sweep(const char *dir);

#endif
