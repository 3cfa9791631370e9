/* metrics.h: counters and histograms of the requests, as Prometheus text (exposition format 0.0.4). Any thread. */
#ifndef LK_METRICS_H
#define LK_METRICS_H

#include "api.h"
#include "queue.h"

typedef struct {
    const char *method; /* static */
    const char *route;  /* static: the template, so that ids never become label values */
    int status;
    uint64_t ns, bytes_in, bytes_out;
    const uint64_t *stage_ns; /* API_STAGE_COUNT; 0 = the stage did not run */
    uint64_t images;
    const char *problem_code; /* static or NULL */
} srv_request_record;

void srv_metrics_request(const srv_request_record *r);
void srv_metrics_batch(const api_batch_stats *b); /* lines, images and stages of a finished batch */
void srv_metrics_cut(void);                       /* a connection ended by a deadline */

typedef struct { /* what is looked up when somebody asks */
    idx *ix;         /* NULL before the index is open */
    srv_pool *pool;  /* likewise */
    api_ctx *cx;     /* likewise */
    const char *model, *precision, *kernels, *blas_core;
    uint32_t connections;
    bool ready;
    uint64_t start_to_ready_ns;
} srv_metrics_now;

/* malloc'd text of *n bytes, or NULL without memory. */
char *srv_metrics_text(const srv_metrics_now *now, size_t *n);

#endif
