/* lists.h: keeps the lists (parts.h) of a catalogue's sealed segments: reads them at start, makes them in the background. */
#ifndef LK_LISTS_H
#define LK_LISTS_H

#include "segment.h"

/* Exclusive, at start: reads what files there are; those that do not fit go. */
void idx_lists_load(idx_cat *c, const idx_segment_env *env);
/* One segment without lists gets some. *worked says so. Takes the lock itself; nobody else changes segments meanwhile. */
IDX_CHECK idx_status idx_lists_maintain(idx_cat *c, const idx_segment_env *env, bool *worked, idx_error *err);
/* Deletes the files of segments that are gone. */
void idx_lists_sweep(const char *dir);

#endif
