/* store_ahead.h: reads ahead of who reads all items of the store at start.
 *
 * Pages of items lie among those of the vectors that were written with them. Who reads one after the other, from a disk, waits for each:
 * a million items took four seconds of which one was work. Some threads that read other stretches at the same time have them in the page
 * cache before they are asked for. When most is there already, nothing is done. */
#ifndef LK_STORE_AHEAD_H
#define LK_STORE_AHEAD_H

#include "store.h"

typedef struct idx_ahead idx_ahead;

/* path: the store's file. NULL: not needed, or not possible, which costs time only. */
idx_ahead *idx_ahead_start(const char *path);
/* Ends what is not done. NULL is fine. */
void idx_ahead_end(idx_ahead *a);

#endif
