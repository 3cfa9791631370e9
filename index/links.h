/* links.h: the keeper's first work: fresh rows get their links in the graph, a piece at a time, and the graph its room. */
#ifndef LK_LINKS_H
#define LK_LINKS_H

#include "index_priv.h"

/* Under the catalogue's lock: are there rows that are worth it; idle: nothing is written, so that few are, too. */
bool idx_links_wanted(const idx *ix, const idx_cat *c, bool idle);
/* Under the catalogue's lock: rows that wait beyond those that nobody should wait for. */
uint32_t idx_links_behind(const idx *ix, const idx_cat *c);
/* Links a piece. *worked says so. Takes the lock itself; nobody else changes segments meanwhile. */
IDX_CHECK idx_status idx_links_maintain(idx_cat *c, idx *ix, bool idle, bool *worked, idx_error *err);
/* Rows that were linked in a hurry, because the machine had no time to spare, get better links when it has, or nothing is written: some, in a thread that
 * gives way to everybody, or few where that one gets no processor. */
IDX_CHECK idx_status idx_links_mend(idx_cat *c, idx *ix, bool idle, bool *worked, idx_error *err);
/* All fresh rows of all catalogues. */
IDX_CHECK idx_status idx_links_maintain_all(idx *ix, idx_error *err);

/* Room for so many rows in the graph of a segment, in a graph that takes its place: *out, NULL: there is room. */
IDX_CHECK idx_status idx_link_room(idx *ix, const idx_segment *g, uint32_t rows, idx_ann **out, idx_error *err);
/* Links a piece of those up to `rows` that are not, in a thread that gives way to everybody, unless many are waiting or it got no processor lately;
 * what it has not done in four times the time that it takes alone, in one, or several, that get their share of a busy machine. waiting: rows,
 * these among them. hurry: see idx_ann_link(). */
IDX_CHECK idx_status idx_link_piece(idx *ix, idx_ann *ann, uint32_t rows, const uint64_t *alive, uint32_t waiting, bool hurry, idx_error *err);

#endif
