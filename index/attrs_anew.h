/* attrs_anew.h: a catalogue's attributes made anew in memory when many of its items are gone: what waits there for others goes, as it would
 * at a start. */
#ifndef LK_ATTRS_ANEW_H
#define LK_ATTRS_ANEW_H

#include "index_priv.h"

bool idx_attrs_anew_wanted(const idx_cat *c, const idx *ix); /* under the lock */
/* Takes the lock in pieces itself. */
IDX_CHECK idx_status idx_attrs_anew(idx_cat *c, idx *ix, bool *worked, idx_error *err);

#endif
