/* audit.h: how good approximate searches are, seen on those that people make: some are made again exactly, in small pieces with
 * long rests, and compared. What a search looks at (its effort) grows until the recall target holds, and shrinks while it does. */
#ifndef LK_AUDIT_H
#define LK_AUDIT_H

#include "index.h"

#include <pthread.h>
#include <stdatomic.h>

enum { IDX_AUDIT_PLAIN, IDX_AUDIT_FILTERED, IDX_AUDIT_KINDS };
enum { IDX_AUDIT_K = 10, IDX_AUDIT_WINDOW = 64 };

typedef struct { /* a search to be made again */
    float *embedding;
    char *filter, *exclude_item;
    uint32_t k;
    float score[IDX_AUDIT_K]; /* of its results */
    uint32_t n;
    uint64_t generation;
    bool instead; /* idx_result.instead */
} idx_sample;

typedef struct { /* of one catalogue and one kind of search */
    _Atomic uint32_t effort; /* of searches that do not say theirs */
    _Atomic bool wanted;     /* the next search of the kind leaves a sample */
    pthread_mutex_t lock;    /* of what follows */
    bool taken;              /* `sample` waits */
    idx_sample sample;
    float window[IDX_AUDIT_WINDOW]; /* the latest recalls with this effort */
    uint32_t n_window, at;
    uint64_t audits;
    double recall; /* mean of the window; when it is empty, of the one before */
    bool instead;  /* the latest search needed no graph: nothing was missed, and `recall` is what walks would have had */
} idx_audit;

struct idx_cat;
void idx_audit_init(idx_audit a[IDX_AUDIT_KINDS], uint32_t effort);
void idx_audit_fini(idx_audit a[IDX_AUDIT_KINDS]);
/* After a search: keeps it if one is wanted. */
void idx_audit_offer(idx_audit a[IDX_AUDIT_KINDS], const idx_query *q, const idx_result *r);
/* Makes one sample of each kind again, of each catalogue that has some. True when there was one. rest: see search.h. */
bool idx_audit_once(idx *ix, void (*rest)(void *ctx, uint64_t busy_ns), void *rest_ctx);
/* What a recall means for the effort: the new effort, or 0 = as it is. Resets the window when it changes. */
uint32_t idx_audit_judge(idx_audit *a, float recall, double target);
IDX_CHECK idx_status idx_audit_start(idx *ix, idx_error *err);
void idx_audit_stop(idx *ix);

#endif
