/* queue.c: two queues, one pool. */
#include "queue.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* While both queues wait, every BULK_SHARE-th piece of work is bulk: shoppers keep nearly all of the machine, and an
 * import still ends. */
enum { BULK_SHARE = 16 };

struct srv_pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    srv_job *first, **last;
    api_task *bulk_first, **bulk_last;
    uint32_t n, n_bulk, max, busy, turn;
    uint64_t max_age_ns, mean_ns; /* of an interactive job, exponentially smoothed */
    uint64_t too_old, refused;
    bool cancel, stop;
    uint32_t n_threads;
    pthread_t *threads;
    api_worker **workers;
};

uint64_t srv_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

static srv_job *take_job(srv_pool *p)
{
    srv_job *j = p->first;
    p->first = j->next;
    if (p->first == NULL) p->last = &p->first;
    p->n--;
    return j;
}

static api_task *take_task(srv_pool *p)
{
    api_task *t = p->bulk_first;
    p->bulk_first = t->next;
    if (p->bulk_first == NULL) p->bulk_last = &p->bulk_first;
    p->n_bulk--;
    return t;
}

/* With the lock held; gives it up while the work runs. */
static void run_job(srv_pool *p, api_worker *w)
{
    srv_job *j = take_job(p);
    uint64_t start = srv_now_ns();
    srv_job_fate fate = p->cancel ? SRV_JOB_CANCELLED : start - j->queued_ns > p->max_age_ns ? SRV_JOB_TOO_OLD : SRV_JOB_RUN;
    p->too_old += fate == SRV_JOB_TOO_OLD;
    p->busy++;
    pthread_mutex_unlock(&p->lock);
    j->run(j, fate == SRV_JOB_RUN ? w : NULL, fate);
    uint64_t took = srv_now_ns() - start;
    pthread_mutex_lock(&p->lock);
    p->busy--;
    if (fate == SRV_JOB_RUN) p->mean_ns = p->mean_ns == 0 ? took : (15 * p->mean_ns + took) / 16;
}

static void run_task(srv_pool *p, api_worker *w)
{
    api_task *t = take_task(p);
    bool cancel = p->cancel;
    p->busy++;
    pthread_mutex_unlock(&p->lock);
    t->run(t, cancel ? NULL : w);
    pthread_mutex_lock(&p->lock);
    p->busy--;
}

typedef struct {
    srv_pool *p;
    api_worker *w;
} thread_arg;

static void *thread_main(void *arg)
{
    thread_arg a = *(thread_arg *) arg;
    free(arg);
    srv_pool *p = a.p;
    pthread_setname_np(pthread_self(), "compute");
    pthread_mutex_lock(&p->lock);
    while (!(p->stop && p->n == 0 && p->n_bulk == 0)) {
        if (p->n == 0 && p->n_bulk == 0) {
            pthread_cond_wait(&p->work, &p->lock);
            continue;
        }
        bool bulk = p->n == 0 || (p->n_bulk > 0 && ++p->turn % BULK_SHARE == 0);
        if (bulk) run_task(p, a.w);
        else run_job(p, a.w);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static bool start_thread(srv_pool *p, api_ctx *cx, char err[320])
{
    thread_arg *a = malloc(sizeof *a);
    if (a == NULL || api_worker_new(cx, &p->workers[p->n_threads], err) != 0) {
        free(a);
        return false;
    }
    *a = (thread_arg){p, p->workers[p->n_threads]};
    int rc = pthread_create(&p->threads[p->n_threads], NULL, thread_main, a);
    if (rc != 0) {
        snprintf(err, 320, "cannot start compute thread %u: %s", p->n_threads, strerror(rc));
        api_worker_free(a->w);
        free(a);
        return false;
    }
    p->n_threads++;
    return true;
}

srv_pool *srv_pool_new(api_ctx *cx, uint32_t threads, uint32_t max_queue, uint64_t max_age_ns, char err[320])
{
    snprintf(err, 320, "no memory for the compute pool");
    srv_pool *p = calloc(1, sizeof *p);
    if (p == NULL) return NULL;
    *p = (srv_pool){.max = max_queue, .max_age_ns = max_age_ns};
    p->last = &p->first;
    p->bulk_last = &p->bulk_first;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    p->threads = calloc(threads, sizeof(pthread_t));
    p->workers = calloc(threads, sizeof(api_worker *));
    if (p->threads == NULL || p->workers == NULL) goto fail;
    while (p->n_threads < threads)
        if (!start_thread(p, cx, err)) goto fail;
    return p;
fail:
    srv_pool_free(p);
    return NULL;
}

/* With the lock held. */
static bool is_full(srv_pool *p, uint32_t *retry_after_s)
{
    if (p->n < p->max) return false;
    uint64_t wait_ns = p->mean_ns * p->n / (p->n_threads > 0 ? p->n_threads : 1);
    *retry_after_s = (uint32_t) (wait_ns / 1000000000u) + 1;
    p->refused++;
    return true;
}

bool srv_pool_is_full(srv_pool *p, uint32_t *retry_after_s)
{
    pthread_mutex_lock(&p->lock);
    bool full = is_full(p, retry_after_s);
    pthread_mutex_unlock(&p->lock);
    return full;
}

bool srv_pool_submit(srv_pool *p, srv_job *j, uint32_t *retry_after_s)
{
    pthread_mutex_lock(&p->lock);
    bool full = is_full(p, retry_after_s);
    if (!full) {
        j->queued_ns = srv_now_ns();
        j->next = NULL;
        *p->last = j;
        p->last = &j->next;
        p->n++;
        pthread_cond_signal(&p->work);
    }
    pthread_mutex_unlock(&p->lock);
    return !full;
}

void srv_pool_submit_bulk(srv_pool *p, api_task *t)
{
    pthread_mutex_lock(&p->lock);
    t->queued_ns = srv_now_ns();
    t->next = NULL;
    *p->bulk_last = t;
    p->bulk_last = &t->next;
    p->n_bulk++;
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

void srv_pool_cancel(srv_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->cancel = true;
    // Here and now: a compute thread may have much to do before it could tell those who wait. What comes meanwhile is left to
    // it: a client may send for ever.
    for (uint32_t k = p->n; k > 0 && p->n > 0; k--) run_job(p, NULL);
    for (uint32_t k = p->n_bulk; k > 0 && p->n_bulk > 0; k--) run_task(p, NULL);
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
}

void srv_pool_free(srv_pool *p)
{
    if (p == NULL) return;
    pthread_mutex_lock(&p->lock);
    p->cancel = p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (uint32_t i = 0; i < p->n_threads; i++) {
        pthread_join(p->threads[i], NULL);
        api_worker_free(p->workers[i]);
    }
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p->threads);
    free(p->workers);
    free(p);
}

void srv_pool_get_stats(srv_pool *p, srv_pool_stats *out)
{
    pthread_mutex_lock(&p->lock);
    *out = (srv_pool_stats){p->n_threads, p->busy, p->n, p->n_bulk, p->too_old, p->refused};
    pthread_mutex_unlock(&p->lock);
}
