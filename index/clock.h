/* clock.h: what time it is, and until when to wait. */
#ifndef LK_CLOCK_H
#define LK_CLOCK_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

int64_t idx_now_ms(void);
uint64_t idx_mono_ns(void);
uint64_t idx_thread_ns(void); /* of a processor that this thread had */

/* A condition whose pthread_cond_timedwait() takes idx_deadline(): by the clock that nobody sets. */
void idx_cond_init(pthread_cond_t *c);
struct timespec idx_deadline(uint64_t ns); /* so long from now */

#endif
