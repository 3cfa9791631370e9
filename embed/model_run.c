/* model_run.c: any graph with any inputs, operator by operator over dense tensors: what `likeness model run` shows. */
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
    }
    for (size_t i = 0; i < g->n_inputs; i++) {
        const emb_value *v = &g->values[g->inputs[i]];
        size_t k = 0;
        while (k < n && strcmp(in[k].name, v->name) != 0) k++;
        if (k == n) return emb_fail(err, EMB_EINVAL, "%s: input %s is not given", g->file, v->name);
        if (in[k].bytes != emb_type_bytes(&v->type))
            return emb_fail(err, EMB_EINVAL, "%s: input %s has %zu bytes, its shape needs %zu", g->file, v->name, in[k].bytes,
                            emb_type_bytes(&v->type));
    }
    return EMB_OK;
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
    for (size_t i = 0; st == EMB_OK && i < g->n_nodes; i++) {
        const emb_node *n = &g->nodes[i];
        if (n->folded) continue;
        st = run_node(g, n, data, err);
        for (uint32_t k = 0; st == EMB_OK && watch != NULL && k < n->n_out; k++)
            if (n->out[k] >= 0) watch->made(watch->ctx, n->out[k], data[n->out[k]]);
        for (uint32_t k = 0; k < n->n_in; k++)
            if (n->in[k] >= 0 && g->values[n->in[k]].producer >= 0 && g->values[n->in[k]].data == NULL && --uses[n->in[k]] == 0) {
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
        t[i].dtype = v->type.dtype;
        t[i].rank = v->type.rank;
        memcpy(t[i].dims, v->type.dims, sizeof t[i].dims);
        t[i].bytes = emb_type_bytes(&v->type);
        t[i].data = malloc(t[i].bytes + 1);
        if (t[i].data == NULL) {
            emb_tensors_free(t, g->n_outputs);
            return emb_fail(err, EMB_ENOMEM, "%s: no memory", g->file);
        }
        memcpy(t[i].data, data[g->outputs[i]], t[i].bytes);
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
    if (data == NULL) return emb_fail(err, EMB_ENOMEM, "%s: no memory", g->file);
    for (size_t i = 0; i < g->n_values; i++) data[i] = g->values[i].data;
    for (size_t i = 0; i < g->n_inputs; i++)
        for (size_t k = 0; k < n_inputs; k++)
            if (strcmp(inputs[k].name, g->values[g->inputs[i]].name) == 0) data[g->inputs[i]] = inputs[k].data;
    st = emb_graph_run(g, data, NULL, err);
    if (st == EMB_OK) st = collect(g, data, outputs, n_outputs, err);
    emb_graph_release(g, data);
    free(data);
    return st;
}

emb_status emb_model_run(const char *path, const emb_tensor *inputs, size_t n_inputs, emb_tensor **outputs,
                         size_t *n_outputs, emb_error *err)
{
    void *bytes;
    size_t n;
    emb_graph *g;
    emb_status st = emb_file_read(path, EMB_MAX_MODEL_BYTES, &bytes, &n, err);
    if (st != EMB_OK) return st;
    st = emb_graph_load(bytes, n, path, inputs, n_inputs, &g, err);
    free(bytes);
    if (st != EMB_OK) return st;
    st = run_graph(g, inputs, n_inputs, outputs, n_outputs, err);
    emb_graph_free(g);
    return st;
}
