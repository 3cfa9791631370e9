/* low.c: see low.h. */
#include "low.h"
#include "clock.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct idx_low {
    pthread_mutex_t lock;
    pthread_cond_t given, done;
    void (*fn)(void *ctx); /* NULL = nothing to do */
    void *ctx;
    bool stop;
    idx_low_kind kind;
    pthread_t thread;
    uint64_t from_ns; /* until then it is left alone; of who has things run here */
};

enum { NICE = 5, SLICE_NS = 100000 };

/* sched_attr(2), which not every C library declares. */
typedef struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
} sched_attributes;

static _Thread_local bool loses_little; /* by giving way */

bool idx_low_short_turns(void)
{
    const int nice = getpriority(PRIO_PROCESS, 0); /* of this thread alone, on Linux, as what sets it */
    sched_attributes a = {.size = sizeof a, .policy = SCHED_OTHER, .nice = nice, .runtime = SLICE_NS}, got = {.size = sizeof got};
    return syscall(SYS_sched_setattr, 0, &a, 0) == 0 && syscall(SYS_sched_getattr, 0, &got, sizeof got, 0) == 0 && got.runtime == SLICE_NS;
}

static void *low_main(void *arg)
{
    idx_low *l = arg;
    static const char *const names[] = {"index fair", "index nice", "index idle"};
    pthread_setname_np(pthread_self(), names[l->kind]);
    loses_little = l->kind == IDX_IDLE && sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0}) == 0;
    if (!loses_little) {
        if (l->kind != IDX_FAIR) setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
        loses_little = idx_low_short_turns();
    }
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (l->fn == NULL && !l->stop) pthread_cond_wait(&l->given, &l->lock);
        if (l->stop) break;
        pthread_mutex_unlock(&l->lock);
        l->fn(l->ctx);
        pthread_mutex_lock(&l->lock);
        l->fn = NULL;
        pthread_cond_signal(&l->done);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

idx_status idx_low_start(idx_low **out, idx_low_kind kind, idx_error *err)
{
    idx_low *l = calloc(1, sizeof *l);
    if (l == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for a thread");
    l->kind = kind;
    pthread_mutex_init(&l->lock, NULL);
    idx_cond_init(&l->given);
    idx_cond_init(&l->done);
    if (pthread_create(&l->thread, NULL, low_main, l) != 0) {
        free(l);
        return idx_fail(err, IDX_ENOMEM, "cannot start a thread");
    }
    *out = l;
    return IDX_OK;
}

void idx_low_stop(idx_low *l)
{
    if (l == NULL) return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_signal(&l->given);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->given);
    pthread_cond_destroy(&l->done);
    free(l);
}

void idx_low_give_way(void)
{
    if (loses_little) sched_yield();
}

/* Under the lock. */
static void give(idx_low *l, void (*fn)(void *ctx), void *ctx)
{
    l->ctx = ctx;
    l->fn = fn;
    pthread_cond_signal(&l->given);
}

void idx_low_run(idx_low *l, void (*fn)(void *ctx), void *ctx)
{
    if (l == NULL) {
        fn(ctx);
        return;
    }
    pthread_mutex_lock(&l->lock);
    give(l, fn, ctx);
    while (l->fn != NULL) pthread_cond_wait(&l->done, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

bool idx_low_run_for(idx_low *l, void (*fn)(void *ctx), void *ctx, uint32_t ms, _Atomic bool *enough)
{
    enum { LATE_MS = 200, LEAVE = 32 };
    const uint64_t began = idx_mono_ns();
    if (l == NULL || began < l->from_ns) return false;
    const struct timespec until = idx_deadline(ms * UINT64_C(1000000));
    pthread_mutex_lock(&l->lock);
    give(l, fn, ctx);
    for (int late = 0; l->fn != NULL && late == 0;) late = pthread_cond_timedwait(&l->done, &l->lock, &until);
    if (l->fn != NULL) atomic_store(enough, true);
    while (l->fn != NULL) pthread_cond_wait(&l->done, &l->lock);
    pthread_mutex_unlock(&l->lock);
    const uint64_t ended = idx_mono_ns(), took = ended - began;
    if (took > (uint64_t)(ms + LATE_MS) * 1000000) l->from_ns = ended + LEAVE * took;
    return true;
}

typedef struct {
    idx_low_work *work;
    void *ctx;
    const _Atomic bool *stop;
    idx_status st;
} patience;

static void work_patiently(void *ctx)
{
    patience *p = ctx;
    p->st = p->work(p->ctx, p->stop);
}

idx_status idx_low_run_patiently(idx_low *idle, idx_low *low, idx_low_work *work, void *ctx, uint32_t ms, const _Atomic bool *stop)
{
    _Atomic bool enough = false;
    patience p = {work, ctx, &enough, IDX_EBUSY};
    (void)idx_low_run_for(idle, work_patiently, &p, ms, &enough);
    p.stop = stop;
    if (p.st == IDX_EBUSY) idx_low_run(low, work_patiently, &p);
    return p.st;
}
