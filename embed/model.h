/* model.h: an open model, for the files of this folder. */
#ifndef LK_MODEL_H
#define LK_MODEL_H

#include "plan.h"
#include "preprocess.h"

struct emb_model {
    char *source;
    emb_graph *graph;
    emb_plan *plan;
    emb_preproc pp;
    emb_model_info info;
};

EMB_CHECK emb_status emb_file_read(const char *path, size_t limit, void **bytes, size_t *n, emb_error *err);
/* The input tensor: in_h * in_w * 3 floats, channels last. */
float *emb_workspace_input(const emb_model *m, emb_workspace *ws);
/* Runs on what the input holds; *out: info.dim floats, not normalised, valid until the next run. */
EMB_CHECK emb_status emb_workspace_run(const emb_model *m, emb_workspace *ws, double *timings, const float **out, emb_error *err);

#endif
