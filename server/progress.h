/* progress.h: how far a long command is: a bar with rate and time left on a terminal, a plain line every few seconds
 * elsewhere. On stderr. */
#ifndef LK_PROGRESS_H
#define LK_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t total, start_ns, shown_ns;
    bool terminal, quiet;
} srv_progress;

void srv_progress_start(srv_progress *p, uint64_t total, bool quiet);
/* One thread at a time. `failed` is shown when it is not 0. */
void srv_progress_show(srv_progress *p, uint64_t done, uint64_t failed, bool last);
double srv_progress_seconds(const srv_progress *p);

#endif
