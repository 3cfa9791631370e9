/* low.h: threads of low priority for work that takes processor time and no lock.
 *
 * Who holds a lock must not be of low priority: on a busy machine it may be some hundredths of a second until it gets its processor
 * back, and all that wait for the lock would wait with it. So the keeper itself is of normal priority, and has heavy work done here.
 *
 * IDX_FAIR gets half of a processor that another thread wants, IDX_NICE (nice 5) a quarter, but whoever else wakes may have to wait for the
 * end of its turn: a tenth of a millisecond where the kernel grants it such turns, else some milliseconds. IDX_IDLE (SCHED_IDLE) gives way at
 * once, and gets next to nothing while others want the processor. */
#ifndef LK_LOW_H
#define LK_LOW_H

#include "error.h"

typedef struct idx_low idx_low;

typedef enum { IDX_FAIR, IDX_NICE, IDX_IDLE } idx_low_kind;
IDX_CHECK idx_status idx_low_start(idx_low **out, idx_low_kind kind, idx_error *err);
void idx_low_stop(idx_low *l); /* nothing runs */
/* Runs fn(ctx) there and waits for it; one caller at a time. l NULL: runs it here. */
void idx_low_run(idx_low *l, void (*fn)(void *ctx), void *ctx);
/* The same in a thread of IDX_IDLE; after some milliseconds *enough becomes true, upon which fn ends soon. On a machine that never rests it may be
 * seconds until that thread gets a processor to notice: then others do the work for a while, so that what it loses stays a small part.
 * False: so it is, or l is NULL; fn did not run. */
bool idx_low_run_for(idx_low *l, void (*fn)(void *ctx), void *ctx, uint32_t ms, _Atomic bool *enough);
/* What can be given up (*stop, upon which it returns IDX_EBUSY) and begun again or gone on with: in `idle` for some milliseconds, and the rest in
 * `low`, there with this stop. */
typedef idx_status idx_low_work(void *ctx, const _Atomic bool *stop);
idx_status idx_low_run_patiently(idx_low *idle, idx_low *low, idx_low_work *work, void *ctx, uint32_t ms, const _Atomic bool *stop);
/* What runs there lets others go first, where the scheduler does not make it wait for its next long turn. */
void idx_low_give_way(void);
/* The calling thread's turns are a tenth of a millisecond instead of some milliseconds, where the kernel grants a thread its own (Linux 6.12 and newer;
 * else false): its share of a busy machine is the same, who wakes up meanwhile waits less, and who gives way early (sched_yield) loses no more than
 * such a turn. It stays so with another policy (SCHED_BATCH). */
bool idx_low_short_turns(void);

#endif
