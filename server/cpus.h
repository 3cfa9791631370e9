/* cpus.h: how many processors this process may keep busy. */
#ifndef LK_CPUS_H
#define LK_CPUS_H

/* At least 1: the affinity mask, and the quota of the control group (`docker run --cpus`), whichever is smaller. */
unsigned srv_cpus(void);

#endif
