/* store_read.h: the connections that read, one for each thread at a time; between store.c, which has them closed, and store_read.c. */
#ifndef LK_STORE_READ_H
#define LK_STORE_READ_H

#include "store.h"

#include <pthread.h>

typedef struct idx_reader idx_reader;
typedef struct {
    const char *path; /* the store's file; borrowed */
    pthread_mutex_t lock;
    idx_reader *idle;
} idx_readers;

void idx_readers_init(idx_readers *p, const char *path);
void idx_readers_fini(idx_readers *p);
idx_readers *idx_store_readers(idx_store *s);

#endif
