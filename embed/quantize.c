/* quantize.c: a float model and photos -> the same model with 8-bit weights and activations, as a standard ONNX file. */
#include "quantize.h"

#include <stdlib.h>
#include <string.h>

static emb_status check(emb_quantizer *q)
{
    const emb_graph *g = q->g;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (!g->nodes[i].folded && strstr(g->nodes[i].op->name, "QuantizeLinear") != NULL)
            return emb_fail(q->err, EMB_EUNSUPPORTED, "%s is quantised already", g->file);
    const emb_type *t = &g->values[g->inputs[0]].type;
    q->nhwc = t->dims[3] == 3 && t->dims[1] != 3;
    return emb_preproc_read(g, (uint32_t)t->dims[q->nhwc ? 2 : 3], (uint32_t)t->dims[q->nhwc ? 1 : 2], &q->pp, q->err);
}

/* A name that is misspelt would keep nothing. */
static emb_status check_kept(const emb_quantizer *q)
{
    for (size_t k = 0; k < q->opts->n_keep; k++) {
        const char *name = q->opts->keep[k];
        bool found = false;
        for (size_t i = 0; !found && i < q->g->n_nodes; i++) {
            const emb_node *node = &q->g->nodes[i];
            found = (node->proto->name != NULL && strcmp(node->proto->name, name) == 0) ||
                    (node->n_out > 0 && node->out[0] >= 0 && strcmp(q->g->values[node->out[0]].name, name) == 0);
        }
        if (!found) return emb_fail(q->err, EMB_EFORMAT, "%s: \"%.100s\", which is to be kept, is neither a node nor the output of one", q->g->file, name);
    }
    return EMB_OK;
}

static emb_status make(emb_quantizer *q, void **onnx, size_t *n)
{
    emb_status st = check(q);
    if (st == EMB_OK) st = check_kept(q);
    if (st == EMB_OK) st = emb_quantize_fold(q);
    if (st != EMB_OK) return st;
    q->n_values = q->g->n_values;
    q->values = calloc(q->n_values + 1, sizeof *q->values);
    q->nodes = calloc(q->g->n_nodes + 1, sizeof *q->nodes);
    if (q->values == NULL || q->nodes == NULL) return emb_fail(q->err, EMB_ENOMEM, "%s: no memory", q->g->file);
    emb_quantize_rules(q);
    st = emb_quantize_ranges(q);
    if (st == EMB_OK) st = emb_quantize_weights(q);
    if (st == EMB_OK) st = emb_quantize_correct(q);
    return st == EMB_OK ? emb_quantize_write(q, onnx, n) : st;
}

static void release(emb_quantizer *q)
{
    for (size_t i = 0; q->values != NULL && i < q->n_values; i++) free(q->values[i].seen);
    for (size_t i = 0; q->nodes != NULL && i < q->g->n_nodes; i++) {
        free(q->nodes[i].w);
        free(q->nodes[i].w_scale);
        free(q->nodes[i].bias);
    }
    free(q->values);
    free(q->nodes);
    emb_scratch_free(&q->scratch);
    emb_graph_free(q->g);
}

emb_status emb_model_quantize(const void *bytes, size_t n, const char *name, const emb_view *photos, size_t n_photos,
                              const emb_quantize_opts *opts, void **onnx, size_t *n_onnx, emb_error *err)
{
    if (bytes == NULL) emb_builtin_bytes(&bytes, &n);
    if (n_photos == 0) return emb_fail(err, EMB_EINVAL, "quantising needs photos");
    emb_model *m;
    emb_status st = emb_model_open_memory(bytes, n, name, &(emb_model_options){.precision = EMB_PRECISION_F32}, &m, err); /* an image encoder: one input of a known size */
    if (st != EMB_OK) return st;
    emb_model_close(m);
    emb_quantizer q = {.opts = opts, .photos = photos, .n_photos = n_photos, .err = err};
    st = emb_graph_load(&(emb_onnx_source){name, bytes, n}, NULL, 0, &q.g, err);
    if (st == EMB_OK) st = emb_graph_settle(q.g, NULL, err);
    if (st == EMB_OK) st = make(&q, onnx, n_onnx);
    if (q.g != NULL) release(&q);
    return st;
}
