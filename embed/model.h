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

typedef struct { /* called after each node, for each value that it made */
    void (*made)(void *ctx, int32_t value, void *data);
    void *ctx;
} emb_watch;
/* Operator by operator over dense tensors. data: one pointer a value; those of constants (the graph's own) and of inputs are set.
 * A value is freed after its last use; what is left then (outputs, and all after an error) is freed by emb_graph_release. */
EMB_CHECK emb_status emb_graph_run(const emb_graph *g, void **data, const emb_watch *watch, emb_error *err);
void emb_graph_release(const emb_graph *g, void **data);
/* How pictures become the input of `g`, which is in_w x in_h: from the metadata. */
EMB_CHECK emb_status emb_preproc_read(const emb_graph *g, uint32_t in_w, uint32_t in_h, emb_preproc *out, emb_error *err);
void emb_builtin_bytes(const void **bytes, size_t *n);
/* The input tensor: in_h * in_w * 3 floats, channels last. */
float *emb_workspace_input(const emb_model *m, emb_workspace *ws);
/* Runs on what the input holds; *out: info.dim floats, not normalised, valid until the next run. */
EMB_CHECK emb_status emb_workspace_run(const emb_model *m, emb_workspace *ws, double *timings, const float **out, emb_error *err);

#endif
