/* machine.h: what the machine does to a program that measures itself: what others of it take, for how long a thread is kept from its
 * processor that has nothing to wait for, and how long the disk takes to sync. */
#ifndef LK_BENCH_MACHINE_H
#define LK_BENCH_MACHINE_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static inline double machine_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Of all processors, what a hypervisor gave to others (proc_stat(5)): such time is nobody's, neither computed nor waited for a processor. */
static inline double machine_stolen(void)
{
    unsigned long long stolen = 0;
    FILE *f = fopen("/proc/stat", "r");
    if (f == NULL) return 0;
    if (fscanf(f, "cpu %*u %*u %*u %*u %*u %*u %*u %llu", &stolen) != 1) stolen = 0;
    fclose(f);
    return (double)stolen / (double)sysconf(_SC_CLK_TCK);
}

/* Each on a processor of its own, where there are as many: what is measured is not where a scheduler puts them. */
static inline void machine_own_processor(void)
{
    static _Atomic uint32_t threads;
    const uint32_t cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t mine;
    CPU_ZERO(&mine);
    CPU_SET(threads++ % cpus, &mine);
    sched_setaffinity(0, sizeof mine, &mine); /* not allowed: wherever it may be */
}

typedef struct {
    double end, gap; /* seconds */
} machine_watch;

static inline void *machine_watch_thread(void *arg)
{
    machine_watch *w = arg;
    machine_own_processor();
    double last = machine_now();
    for (double t; (t = machine_now()) < w->end; last = t)
        if (t - last > w->gap) w->gap = t - last;
    return NULL;
}

/* The longest that one of some threads (64 at most) could not look at the clock, which is all they do; in seconds, below 0: there was no thread. */
static inline double machine_longest_gap(double seconds, uint32_t threads)
{
    pthread_t t[64];
    machine_watch w[64];
    uint32_t n = 0;
    double gap = 0;
    for (; n < threads; n++) {
        w[n] = (machine_watch){.end = machine_now() + seconds};
        if (pthread_create(&t[n], NULL, machine_watch_thread, &w[n]) != 0) break;
    }
    for (uint32_t i = 0; i < n; i++) {
        pthread_join(t[i], NULL);
        if (w[i].gap > gap) gap = w[i].gap;
    }
    return n < threads ? -1 : gap;
}

/* Writes and syncs 150 KiB, about what 16 rows are in the store's log, in a file that grows to some MiB; in seconds, below 0: it failed. */
static inline double machine_sync(int fd, uint32_t i)
{
    enum { BYTES = 150 << 10, TIMES = 64 };
    static char block[BYTES];
    memset(block, (int)i, sizeof block);
    const double t = machine_now();
    return pwrite(fd, block, sizeof block, (off_t)(i % TIMES) * BYTES) == BYTES && fdatasync(fd) == 0 ? machine_now() - t : -1;
}

#endif
