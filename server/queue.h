/* queue.h: the compute pool. A fixed number of threads, each with its own workspace, runs one piece of work at a time:
 * interactive jobs first, then tasks of batches. Admission is bounded in length (submit says no) and in age (a job that
 * waited too long is told so instead of being run: its client has gone, or will soon). */
#ifndef LK_QUEUE_H
#define LK_QUEUE_H

#include "api.h"

typedef enum {
    SRV_JOB_RUN,       /* w is the thread's worker */
    SRV_JOB_TOO_OLD,   /* waited longer than max_age; w is NULL */
    SRV_JOB_CANCELLED, /* the pool stops; w is NULL */
} srv_job_fate;

typedef struct srv_job { /* part of the caller's request; lives until run returns */
    void (*run)(struct srv_job *j, api_worker *w, srv_job_fate fate); /* exactly once, on a pool thread or in stop */
    uint64_t queued_ns;
    struct srv_job *next;
} srv_job;

typedef struct srv_pool srv_pool;

EMB_CHECK srv_pool *srv_pool_new(api_ctx *cx, uint32_t threads, uint32_t max_queue, uint64_t max_age_ns, char err[320]);
/* false: the queue is full; *retry_after_s says when it is likely to have room. */
EMB_CHECK bool srv_pool_submit(srv_pool *p, srv_job *j, uint32_t *retry_after_s);
/* Whether submit would say no: asked before a body is read. */
bool srv_pool_is_full(srv_pool *p, uint32_t *retry_after_s);
void srv_pool_submit_bulk(srv_pool *p, api_task *t);
/* Cancels what waits; what runs goes on. Work that comes later is cancelled at once. */
void srv_pool_cancel(srv_pool *p);
/* Cancels, waits for the threads, frees. */
void srv_pool_free(srv_pool *p);

typedef struct {
    uint32_t threads, busy, interactive, bulk; /* waiting */
    uint64_t too_old, refused;
} srv_pool_stats;
void srv_pool_get_stats(srv_pool *p, srv_pool_stats *out);

uint64_t srv_now_ns(void); /* CLOCK_MONOTONIC */

#endif
