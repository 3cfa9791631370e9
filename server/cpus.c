/* cpus.c: processors, as a container sees them. */
#include "cpus.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

static double quota(void)
{
    char max[32] = "";
    double period = 0, limit = 0;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re"); // cgroup v2: "200000 100000" or "max 100000"
    if (f == NULL) return 0;
    if (fscanf(f, "%31s %lf", max, &period) != 2 || sscanf(max, "%lf", &limit) != 1 || period <= 0) limit = 0;
    fclose(f);
    return limit > 0 ? limit / period : 0;
}

unsigned srv_cpus(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    double q = quota();
    if (q > 0 && q < n) n = (int) (q + 0.5);
    return n < 1 ? 1 : (unsigned) n;
}
