/* index_priv.h: the open index, for index.c, writer.c and search.c. */
#ifndef LK_INDEX_PRIV_H
#define LK_INDEX_PRIV_H

#include "catalogue.h"
#include "clock.h"
#include "low.h"

#include <stdatomic.h>

struct idx {
    char *dir, *segment_dir;
    idx_opts opts;
    idx_store *store;
    idx_records *records;
    _Atomic bool stop;

    pthread_mutex_t table; /* catalogues and their reference counts */
    idx_cat **cats;
    size_t n_cats;

    pthread_mutex_t queue_lock;
    pthread_cond_t queue_filled;
    idx_op *head, *tail;
    size_t queued;
    bool closing;
    pthread_t writer;
    bool has_writer;
    uint32_t behind; /* the writer's own: idx_links_behind() of the last batch */
    atomic_bool read_only, full;
    atomic_ullong commits, committed_ops, fsync_ns;
    atomic_ullong searches; /* begun */

    pthread_mutex_t maintain_lock; /* one piece of background work at a time */
    uint64_t round;                /* of the keeper, or of idx_maintain(); from 1; under it */
    pthread_mutex_t wake_lock;
    pthread_cond_t wake;
    bool woken;
    atomic_bool asleep; /* the keeper, or it will be when it has done what is worth doing now */
    pthread_t keeper;
    bool has_keeper;
    idx_low *fair, *low, *idle; /* for its heavy work, under maintain_lock; NULL = in its own thread */
    double spare;               /* of the time that it took lately, they had a processor; links.c */

    pthread_mutex_t audit_lock;
    pthread_cond_t audit_wake; /* ends a rest early */
    pthread_t auditor;
    bool has_auditor;
};

/* The writer's own kinds, beside idx_op_kind. */
enum { IDX_OP_CATALOGUE_PUT = 100, IDX_OP_CATALOGUE_DELETE, IDX_OP_CATALOGUE_KEEP /* op->dim: the idx_storage */ };
typedef struct { /* in op->attributes of a put */
    idx_catalogue_row row;
    bool any_storage;
} idx_new_catalogue;

/* Takes a reference; NULL and IDX_ENOTFOUND when there is none of that name. */
idx_cat *idx_take_cat(idx *ix, const char *name, idx_error *err);
/* The i-th of the table, to be given back; NULL behind the last. */
idx_cat *idx_take_cat_at(idx *ix, size_t i);
void idx_give_cat(idx *ix, idx_cat *c);
IDX_CHECK bool idx_table_add(idx *ix, idx_cat *c);
void idx_table_remove(idx *ix, idx_cat *c); /* gives back the table's reference */
void idx_say(const idx *ix, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
IDX_CHECK idx_status idx_catalogue_keep(idx *ix, const idx_cat *c, idx_storage kept, idx_error *err); /* waits for the writer */

IDX_CHECK idx_status idx_load_all(idx *ix, idx_error *err);

/* keeper.c */
IDX_CHECK idx_status idx_keeper_start(idx *ix, idx_error *err);
void idx_keeper_stop(idx *ix);
void idx_keeper_save_all(idx *ix); /* without other threads */
void idx_wake_keeper(idx *ix);
bool idx_keeper_is_wanted(const idx *ix, const idx_cat *c); /* under the catalogue's lock, by the writer: is there something to do */

IDX_CHECK idx_status idx_writer_start(idx *ix, idx_error *err);
void idx_writer_stop(idx *ix); /* drains */

#endif
