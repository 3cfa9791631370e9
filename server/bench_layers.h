/* bench_layers.h: `likeness bench model`: where the time of a model goes. */
#ifndef LK_BENCH_LAYERS_H
#define LK_BENCH_LAYERS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *precision, *output; /* NULL = auto, chosen */
    uint64_t seconds;
    bool layers, worst, json; /* every step; those that are slow and matter; all of it as one JSON line */
} srv_layers_opts;

bool srv_bench_model(const char *path, const srv_layers_opts *o, char err[400]); /* path NULL: the built-in model */

#endif
