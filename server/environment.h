/* environment.h: what must be in the environment before the numeric libraries and malloc look at it. The benches that stand for the
 * server include it, too. */
#ifndef LK_SERVER_ENVIRONMENT_H
#define LK_SERVER_ENVIRONMENT_H

#include "embed.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* One thread for each BLAS call and OpenMP region: the compute pool is the parallelism. Both libraries read this when they are loaded, so
 * that it must be there before main(): set it and start again. Debian 12's OpenBLAS does not know newer processors and takes kernels of
 * 2004 for them; emb_cpu_blas_coretype() knows better.
 *   Bounded memory beats the last percent of malloc's speed. By itself it takes blocks of up to 32 MB from its heaps once such a one was
 * freed, and what lies behind them keeps the holes: after half of 100,000 images were deleted, 14 MB of 55. */
static inline void srv_settle_environment(char **argv)
{
    bool again = false;
    const struct {
        const char *name, *value;
        bool force;
    } wanted[] = {
        {"OMP_NUM_THREADS", "1", true},
        {"OPENBLAS_NUM_THREADS", "1", true},
        {"OPENBLAS_CORETYPE", emb_cpu_blas_coretype(), false},
        {"MALLOC_ARENA_MAX", "4", false},
        {"MALLOC_MMAP_THRESHOLD_", "1048576", false},
        {"MALLOC_TRIM_THRESHOLD_", "1048576", false}, /* of each heap; otherwise 128 KB, and requests would take and give back the same pages */
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        const char *is = getenv(wanted[i].name);
        if (wanted[i].value == NULL || (is != NULL && (!wanted[i].force || strcmp(is, wanted[i].value) == 0))) continue;
        if (setenv(wanted[i].name, wanted[i].value, 1) == 0) again = true;
    }
    if (again) execv("/proc/self/exe", argv); /* returns only on failure: go on, slower but right */
    prctl(PR_SET_NAME, program_invocation_short_name); /* the kernel has named it after the last part of that path */
}

#endif
