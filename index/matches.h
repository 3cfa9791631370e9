/* matches.h: what the filters of late searches match, kept for the next search with the same filter: a shop's pages ask for a few dozen
 * filters over and over. Kept are the items and, once it has paid to look for them, their places in the lists (places.h).
 *
 * Attributes count their changes and know the last items that changed (attrs.h). A filter that was kept before some of these is
 * asked about those items alone; after many, or while an older search still reads what it matched, it is evaluated anew. So what a
 * search takes is what the filter matches at that moment, and stays that while the search holds it.
 *
 * Where there is no more room, a filter is kept from the second time on that it is asked: those that are asked but once push none out, and are
 * evaluated in memory that is in the processor's cache.
 *
 * Threads: any, under the catalogue's shared lock, but for idx_matches_give(). */
#ifndef LK_MATCHES_H
#define LK_MATCHES_H

#include "filter.h"
#include "places.h"

#include <pthread.h>
#include <stdatomic.h>

enum { IDX_MATCHES_KEPT = 256 }; /* filters of a catalogue, at most */
struct idx_cat;

typedef struct idx_match_places { /* in the lists of this serial */
    uint64_t serial, bytes;
    idx_places in;
    struct idx_match_places *next;
} idx_match_places;

typedef struct {
    idx_bits items;
    uint64_t n;          /* of them */
    atomic_ullong asked; /* rows of lists that searches asked for want of places */
    _Atomic(idx_match_places *) places; /* the latest first; they stay while `refs` is not 0 */
    /* Under the lock of idx_matches: */
    char *text;
    idx_filter *filter;
    uint64_t changes, used, bytes; /* changes: of the attributes, when it was up to date */
    uint32_t refs; /* searches that hold it */
    bool kept;
} idx_match;

typedef struct {
    pthread_mutex_t lock;
    idx_match *at[IDX_MATCHES_KEPT];
    uint32_t hash[IDX_MATCHES_KEPT]; /* of their texts */
    uint32_t n;
    uint32_t turned_away[IDX_MATCHES_KEPT], n_turned_away; /* the latest hashes of those that there was no room for, in a ring */
    uint64_t bytes, clock;
} idx_matches;

void idx_matches_init(idx_matches *m);
void idx_matches_fini(idx_matches *m); /* no search holds any */
/* What `text` matches in a catalogue, out of those that it keeps or evaluated. */
IDX_CHECK idx_status idx_matches_take(struct idx_cat *c, const char *text, idx_match **out, idx_error *err);
void idx_matches_give(struct idx_cat *c, idx_match *x); /* NULL is fine */
/* The places in lists, or their counts alone; NULL = not known. As long as `x` is held. */
const idx_places *idx_match_places_in(const idx_match *x, const idx_parts *p);
/* Finds them in lists that have an index from items, or, where counts alone will do and may be had, these. NULL = no memory. */
const idx_places *idx_match_find_places(struct idx_cat *c, idx_match *x, const idx_parts *p, bool counts);
uint64_t idx_matches_bytes(idx_matches *m);
/* All that is kept is what its filters match. NULL, or a filter for which it is not; borrowed. For idx_check. */
const char *idx_matches_check(struct idx_cat *c);

#endif
