/* rebuild.h: segments made anew of the living: when many have died, and when vectors are to be kept otherwise. Searches and writes go on
 * meanwhile: the living are copied and linked aside, and change places with the old ones some hundred at a time. */
#ifndef LK_REBUILD_H
#define LK_REBUILD_H

#include "index_priv.h"

/* Under the catalogue's lock: have enough died. */
bool idx_rebuild_wanted(const idx *ix, const idx_cat *c);
/* One segment in which many have died: when nobody writes (idle), or few more die, or that has been so for long. *worked says so. Takes the lock
 * itself; nobody else changes segments meanwhile. */
IDX_CHECK idx_status idx_rebuild_dying(idx_cat *c, idx *ix, bool idle, bool *worked, idx_error *err);
/* The same with one that keeps vectors otherwise than the catalogue does. */
IDX_CHECK idx_status idx_rebuild_of_other_storage(idx_cat *c, idx *ix, bool *worked, idx_error *err);

#endif
