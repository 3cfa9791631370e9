/* peak.h: what a core can do at most, by loops of nothing but multiply-adds or loads. For judging kernels, not used by them. */
#ifndef LK_PEAK_H
#define LK_PEAK_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *table;   /* name of the table of kernels that lives on this instruction */
    const char *numbers; /* "fp32", "fp16", "bf16" or "int8" */
    uint32_t needs;      /* of emb_cpu_features() */
    double operations;   /* in one turn; a multiplication and an addition are two */
    void (*run)(uint64_t turns);
} emb_peak_loop;

extern const emb_peak_loop emb_peak_loops[];
extern const size_t emb_peak_loops_count;

void emb_peak_read(const void *from, size_t bytes); /* a multiple of 256, from end to end, in the widest loads */

#endif
