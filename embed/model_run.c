/* model_run.c: any graph with any inputs, operator by operator over dense tensors: what `likeness model run` shows. */
#include "half.h"
#include "model.h"

#include <stdlib.h>
#include <string.h>

void emb_tensors_free(emb_tensor *t, size_t n)
{
    for (size_t i = 0; t != NULL && i < n; i++) free(t[i].data);
    free(t);
}

static emb_status check_inputs(const emb_graph *g, const emb_tensor *in, size_t n, emb_error *err)
{
    for (size_t k = 0; k < n; k++) { /* first: a wrong name explains the one that is missing */
        size_t i = 0;
        while (i < g->n_inputs && strcmp(in[k].name, g->values[g->inputs[i]].name) != 0) i++;
        if (i == g->n_inputs) return emb_fail(err, EMB_EINVAL, "%s has no input %s", g->file, in[k].name);
        size_t need = (size_t)emb_elements(&g->values[g->inputs[i]].type) * emb_dtype_size(in[k].dtype);
        if (in[k].bytes != need)
            return emb_fail(err, EMB_EINVAL, "%s: input %s has %zu bytes, its shape needs %zu", g->file, in[k].name, in[k].bytes, need);
    }
    for (size_t i = 0; i < g->n_inputs; i++) {
        size_t k = 0;
        while (k < n && strcmp(in[k].name, g->values[g->inputs[i]].name) != 0) k++;
        if (k == n) return emb_fail(err, EMB_EINVAL, "%s: input %s is not given", g->file, g->values[g->inputs[i]].name);
    }
    return EMB_OK;
}

/* What is computed with: float16 and double as float32, anything else as it is. *made: malloc, or NULL when `t` itself will do. */
static emb_status widen(const emb_graph *g, const emb_tensor *t, float **made, emb_error *err)
{
    size_t n = t->bytes / emb_dtype_size(t->dtype);
    *made = NULL;
    if (t->dtype != EMB_F16 && t->dtype != EMB_F64) return EMB_OK;
    if ((*made = malloc(n * sizeof(float) + 64)) == NULL) return emb_fail(err, EMB_ENOMEM, "%s: no memory", g->file);
    for (size_t i = 0; i < n; i++)
        (*made)[i] = t->dtype == EMB_F16 ? emb_half_to_float(((const uint16_t *)t->data)[i]) : (float)((const double *)t->data)[i];
    return EMB_OK;
}

/* A result as the file has it. */
static void narrow(const emb_value *v, const void *data, emb_tensor *t)
{
    const float *x = data;
    size_t n = t->bytes / emb_dtype_size(t->dtype);
    if (t->dtype == v->type.dtype) memcpy(t->data, data, t->bytes);
    else if (t->dtype == EMB_F16)
        for (size_t i = 0; i < n; i++) ((uint16_t *)t->data)[i] = emb_float_to_half(x[i]);
    else
        for (size_t i = 0; i < n; i++) ((double *)t->data)[i] = (double)x[i];
}

static emb_status run_node(const emb_graph *g, const emb_node *n, void **data, emb_error *err)
{
    emb_arg *in = calloc((size_t)n->n_in + n->n_out, sizeof *in), *out = in + n->n_in;
    if (in == NULL) return emb_fail(err, EMB_ENOMEM, "%s: no memory", g->file);
    emb_status st = EMB_OK;
    for (uint32_t k = 0; k < n->n_in; k++) {
        in[k].type.rank = UINT32_MAX;
        if (n->in[k] >= 0) in[k] = (emb_arg){g->values[n->in[k]].type, data[n->in[k]]};
    }
    for (uint32_t k = 0; k < n->n_out; k++) {
        if (n->out[k] >= 0) out[k].type = g->values[n->out[k]].type;
        out[k].data = malloc(emb_type_bytes(&out[k].type) + 64);
        if (out[k].data == NULL) st = emb_fail(err, EMB_ENOMEM, "%s: no memory", g->file);
    }
    if (st == EMB_OK) st = emb_node_run(g, n, in, out, err);
    for (uint32_t k = 0; k < n->n_out; k++) {
        if (n->out[k] >= 0) data[n->out[k]] = out[k].data;
        else free(out[k].data);
    }
    free(in);
    return st;
}

void emb_graph_release(const emb_graph *g, void **data)
{
    for (size_t i = 0; i < g->n_values; i++) {
        if (g->values[i].producer < 0 || data[i] == g->values[i].data) continue;
        free(data[i]);
        data[i] = NULL;
    }
}

emb_status emb_graph_run(const emb_graph *g, void **data, const emb_watch *watch, emb_error *err)
{
    int32_t *uses = malloc((g->n_values + 1) * sizeof *uses);
    if (uses == NULL) return emb_fail(err, EMB_ENOMEM, "%s: no memory", g->file);
    for (size_t i = 0; i < g->n_values; i++) uses[i] = g->values[i].uses;
    emb_status st = EMB_OK;
    size_t alive = 0;
    for (size_t i = 0; st == EMB_OK && i < g->n_nodes; i++) {
        const emb_node *n = &g->nodes[i];
        if (n->folded) continue;
        for (uint32_t k = 0; k < n->n_out; k++) alive += n->out[k] >= 0 ? emb_type_bytes(&g->values[n->out[k]].type) : 0;
        if (alive > EMB_RUN_BYTES) st = emb_fail(err, EMB_ELIMIT, "%s: a run needs more than %zu MB", g->file, EMB_RUN_BYTES >> 20);
        if (st == EMB_OK) st = run_node(g, n, data, err);
        for (uint32_t k = 0; st == EMB_OK && watch != NULL && k < n->n_out; k++)
            if (n->out[k] >= 0) watch->made(watch->ctx, n->out[k], data[n->out[k]]);
        for (uint32_t k = 0; k < n->n_in; k++)
            if (n->in[k] >= 0 && g->values[n->in[k]].producer >= 0 && g->values[n->in[k]].data == NULL && --uses[n->in[k]] == 0) {
                alive -= emb_type_bytes(&g->values[n->in[k]].type);
                free(data[n->in[k]]);
                data[n->in[k]] = NULL;
            }
    }
    free(uses);
    return st;
}

static emb_status collect(const emb_graph *g, void **data, emb_tensor **out, size_t *n, emb_error *err)
{
    emb_tensor *t = calloc(g->n_outputs, sizeof *t);
    if (t == NULL) return emb_fail(err, EMB_ENOMEM, "%s: no memory", g->file);
    for (size_t i = 0; i < g->n_outputs; i++) {
        const emb_value *v = &g->values[g->outputs[i]];
        snprintf(t[i].name, sizeof t[i].name, "%s", v->name);
        t[i].dtype = v->stored != 0 ? v->stored : v->type.dtype;
        t[i].rank = v->type.rank;
        memcpy(t[i].dims, v->type.dims, sizeof t[i].dims);
        t[i].bytes = (size_t)emb_elements(&v->type) * emb_dtype_size(t[i].dtype);
        t[i].data = malloc(t[i].bytes + 1);
        if (t[i].data == NULL) {
            emb_tensors_free(t, g->n_outputs);
            return emb_fail(err, EMB_ENOMEM, "%s: no memory", g->file);
        }
        narrow(v, data[g->outputs[i]], &t[i]);
    }
    *out = t;
    *n = g->n_outputs;
    return EMB_OK;
}

static emb_status run_graph(const emb_graph *g, const emb_tensor *inputs, size_t n_inputs, emb_tensor **outputs,
                            size_t *n_outputs, emb_error *err)
{
    emb_status st = check_inputs(g, inputs, n_inputs, err);
    if (st != EMB_OK) return st;
    void **data = calloc(g->n_values + 1, sizeof *data);
    float **wide = calloc(n_inputs + 1, sizeof(float *));
    if (data == NULL || wide == NULL) st = emb_fail(err, EMB_ENOMEM, "%s: no memory", g->file);
    for (size_t i = 0; st == EMB_OK && i < g->n_values; i++) data[i] = g->values[i].data;
    for (size_t i = 0; st == EMB_OK && i < g->n_inputs; i++)
        for (size_t k = 0; st == EMB_OK && k < n_inputs; k++) {
            if (strcmp(inputs[k].name, g->values[g->inputs[i]].name) != 0) continue;
            st = widen(g, &inputs[k], &wide[k], err);
            data[g->inputs[i]] = wide[k] != NULL ? wide[k] : inputs[k].data;
        }
    if (st == EMB_OK) st = emb_graph_run(g, data, NULL, err);
    if (st == EMB_OK) st = collect(g, data, outputs, n_outputs, err);
    if (data != NULL) emb_graph_release(g, data);
    for (size_t k = 0; wide != NULL && k < n_inputs; k++) free(wide[k]);
    free(wide);
    free(data);
    return st;
}

emb_status emb_model_run(const char *path, const emb_tensor *inputs, size_t n_inputs, emb_tensor **outputs,
                         size_t *n_outputs, emb_error *err)
{
    emb_graph *g;
    emb_status st = emb_graph_load(&(emb_onnx_source){.name = path}, inputs, n_inputs, &g, err);
    if (st != EMB_OK) return st;
    st = emb_graph_settle(g, NULL, err);
    if (st == EMB_OK) st = run_graph(g, inputs, n_inputs, outputs, n_outputs, err);
    emb_graph_free(g);
    return st;
}
