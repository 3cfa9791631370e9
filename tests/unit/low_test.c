/* Threads of low priority: each kind runs what it is given, in order and in a thread that is not the caller's; what the one that gives way to everybody
 * gives up is gone on with in another. And turns that were made short stay so under another policy. */
#include "../../index/low.h"
#include "test.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TIMES = 200, RUNS = 8 /* of which one at the lowest priority may wait for seconds, on a machine that never rests */ };

typedef struct {
    pthread_t caller;
    uint32_t ran, wrong;
} task;

static void count(void *ctx)
{
    task *t = ctx;
    t->ran++;
    t->wrong += pthread_equal(t->caller, pthread_self()) != 0;
    idx_low_give_way();
}

static void test_kinds(void)
{
    for (idx_low_kind kind = IDX_FAIR; kind <= IDX_IDLE; kind++) {
        idx_low *l;
        task t = {.caller = pthread_self()};
        REQUIRE(idx_low_start(&l, kind, NULL) == IDX_OK);
        for (uint32_t i = 0; i < RUNS; i++) {
            idx_low_run(l, count, &t);
            CHECK_INT(t.ran, i + 1);
        }
        CHECK_INT(t.wrong, 0);
        idx_low_stop(l);
    }
    task here = {.caller = pthread_self()};
    idx_low_run(NULL, count, &here);
    CHECK(here.ran == 1 && here.wrong == 1);
    idx_low_stop(NULL);
}

/* A third of it wherever it is told to stop. */
static idx_status some(void *ctx, const _Atomic bool *stop)
{
    task *t = ctx;
    for (uint32_t end = t->ran + TIMES / 3; t->ran < TIMES; t->ran++)
        if (t->ran >= end) {
            while (!*stop) usleep(100);
            return IDX_EBUSY;
        }
    return IDX_OK;
}

static void test_patience(void)
{
    idx_low *idle, *fair;
    task t = {0}, alone = {0};
    _Atomic bool stop = true;
    REQUIRE(idx_low_start(&idle, IDX_IDLE, NULL) == IDX_OK && idx_low_start(&fair, IDX_FAIR, NULL) == IDX_OK);
    CHECK(idx_low_run_patiently(idle, fair, some, &t, 5, &stop) == IDX_EBUSY);
    CHECK_INT(t.ran, TIMES / 3 * 2); /* each thread did its part */
    CHECK(idx_low_run_patiently(NULL, fair, some, &alone, 5, &stop) == IDX_EBUSY);
    CHECK_INT(alone.ran, TIMES / 3);
    idx_low_stop(idle);
    idx_low_stop(fair);
}

static uint64_t turn_ns(void)
{
    struct { /* sched_attr(2) */
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } a = {.size = sizeof a};
    return syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) == 0 ? a.runtime : 0;
}

static void *take_short_turns(void *arg)
{
    (void)arg;
    if (!idx_low_short_turns()) {
        printf("the kernel grants no turns of their own: not looked at\n");
        return NULL;
    }
    const uint64_t granted = turn_ns();
    CHECK(granted > 0 && granted < 1000000);
    static const int policies[] = {SCHED_BATCH, SCHED_OTHER};
    for (int i = 0; i < 2; i++) {
        CHECK(sched_setscheduler(0, policies[i], &(struct sched_param){0}) == 0);
        CHECK_INT(turn_ns(), granted);
    }
    return NULL;
}

int main(void)
{
    pthread_t t;
    test_kinds();
    test_patience();
    REQUIRE(pthread_create(&t, NULL, take_short_turns, NULL) == 0);
    pthread_join(t, NULL);
    return test_end();
}
