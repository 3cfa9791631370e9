/* bench_layers.h: `likeness bench model`: where the time of a model goes. */
#ifndef LK_BENCH_LAYERS_H
#define LK_BENCH_LAYERS_H

#include "model_opts.h"

typedef struct {
    uint64_t seconds;
    bool layers, worst, json; /* every step; those that are slow and matter; all of it as one JSON line */
} srv_layers_opts;

bool srv_bench_model(const srv_model_opts *how, const srv_layers_opts *o, char err[400]);

#endif
