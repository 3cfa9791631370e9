/* quantize_fold.c: batch norms, scales and shifts by channel go into the convolution before them, in the graph itself. */
#include "quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const emb_node *emb_quantize_only_user(const emb_quantizer *q, int32_t v)
{
    const emb_graph *g = q->g;
    if (v < 0 || g->values[v].uses != 1) return NULL;
    for (size_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; !g->nodes[i].folded && k < g->nodes[i].n_in; k++)
            if (g->nodes[i].in[k] == v) return &g->nodes[i];
    return NULL;
}

static void replace_uses(emb_graph *g, int32_t from, int32_t to)
{
    for (size_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; !g->nodes[i].folded && k < g->nodes[i].n_in; k++)
            if (g->nodes[i].in[k] == from) g->nodes[i].in[k] = to;
}

/* Identity, and Dropout, which is that outside training; the outputs of the graph keep their names. */
static void drop_copies(emb_graph *g)
{
    for (size_t i = 0; i < g->n_nodes; i++) {
        emb_node *n = &g->nodes[i];
        bool copy = strcmp(n->op->name, "Identity") == 0 || (strcmp(n->op->name, "Dropout") == 0 && (n->n_out == 1 || n->out[1] < 0));
        if (n->folded || !copy) continue;
        bool output = false;
        for (size_t k = 0; k < g->n_outputs; k++) output = output || g->outputs[k] == n->out[0];
        if (output) continue;
        replace_uses(g, n->out[0], n->in[0]);
        n->folded = true;
    }
    emb_graph_count_uses(g);
}

typedef struct { /* weights of a Conv or Gemm: element i belongs to output channel i / inner % oc */
    float *w, *bias;
    size_t n, inner, oc;
} layer;

/* A constant of its own, so that changing it changes nobody else's. */
static float *own(emb_graph *g, emb_node *n, uint32_t in, size_t floats)
{
    if (n->n_in <= in || n->in[in] < 0) {
        int32_t v = emb_graph_add_constant(g, n, in, &(emb_type){EMB_F32, 1, {(int64_t)floats}}, NULL);
        return v < 0 ? NULL : g->values[v].data;
    }
    emb_value *v = &g->values[n->in[in]];
    if (v->uses == 1) return v->data;
    int32_t copy = emb_graph_add_constant(g, n, in, &v->type, v->data);
    return copy < 0 ? NULL : g->values[copy].data;
}

static bool open_layer(emb_graph *g, emb_node *n, layer *l)
{
    emb_type w = g->values[n->in[1]].type;
    bool conv = strcmp(n->op->name, "Conv") == 0, tb = conv || emb_attr_i(n->proto, "transB", 0) != 0;
    l->oc = (size_t)w.dims[tb ? 0 : 1];
    l->n = (size_t)emb_elements(&w);
    l->inner = tb ? l->n / l->oc : 1;
    l->w = own(g, n, 1, l->n);
    l->bias = own(g, n, 2, l->oc);
    return l->w != NULL && l->bias != NULL;
}

static void scale_shift(layer *l, const float *scale, const float *shift)
{
    for (size_t i = 0; scale != NULL && i < l->n; i++) l->w[i] *= scale[i / l->inner % l->oc];
    for (size_t o = 0; o < l->oc; o++) l->bias[o] = l->bias[o] * (scale != NULL ? scale[o] : 1) + (shift != NULL ? shift[o] : 0);
}

/* The factor and the summand by channel that `n` stands for, when it is nothing else: [oc] each. */
static bool linear(const emb_quantizer *q, const emb_node *n, int32_t from, size_t oc, float *scale, float *shift)
{
    emb_graph *g = q->g;
    const char *op = n->op->name;
    bool add = strcmp(op, "Add") == 0, mul = strcmp(op, "Mul") == 0;
    for (size_t i = 0; i < oc; i++) scale[i] = 1, shift[i] = 0;
    if (strcmp(op, "BatchNormalization") == 0 && n->in[0] == from) {
        const float *p[5];
        for (int i = 1; i < 5; i++)
            if ((p[i] = g->values[n->in[i]].data) == NULL) return false;
        float eps = emb_attr_f(n->proto, "epsilon", 1e-5f);
        for (size_t o = 0; o < oc; o++) {
            scale[o] = p[1][o] / sqrtf(p[4][o] + eps);
            shift[o] = p[2][o] - p[3][o] * scale[o];
        }
        return true;
    }
    if (!add && !mul) return false;
    emb_planner pl = {.g = g};
    return emb_plan_by_channel(&pl, n->in[0] == from ? n->in[1] : n->in[0], &g->values[from].type, add ? shift : scale);
}

static bool can_take(const emb_graph *g, const emb_node *n)
{
    bool conv = strcmp(n->op->name, "Conv") == 0, gemm = strcmp(n->op->name, "Gemm") == 0;
    if (n->folded || (!conv && !gemm) || g->values[n->in[1]].data == NULL) return false;
    if (n->n_in > 2 && n->in[2] >= 0) {
        const emb_value *b = &g->values[n->in[2]], *w = &g->values[n->in[1]];
        int64_t oc = w->type.dims[conv || emb_attr_i(n->proto, "transB", 0) != 0 ? 0 : 1];
        if (b->data == NULL || emb_elements(&b->type) != oc) return false;
    }
    return conv || (emb_attr_f(n->proto, "alpha", 1) == 1 && emb_attr_f(n->proto, "beta", 1) == 1);
}

emb_status emb_quantize_fold(emb_quantizer *q)
{
    emb_graph *g = q->g;
    drop_copies(g);
    for (size_t i = 0; i < g->n_nodes; i++) {
        emb_node *n = &g->nodes[i];
        if (!can_take(g, n)) continue;
        layer l;
        if (!open_layer(g, n, &l)) return emb_fail(q->err, EMB_ENOMEM, "%s: no memory", g->file);
        float *k = malloc(2 * l.oc * sizeof *k);
        if (k == NULL) return emb_fail(q->err, EMB_ENOMEM, "%s: no memory", g->file);
        for (const emb_node *next; (next = emb_quantize_only_user(q, n->out[0])) != NULL && linear(q, next, n->out[0], l.oc, k, k + l.oc);) {
            scale_shift(&l, k, k + l.oc);
            emb_node *gone = &g->nodes[next - g->nodes];
            n->out[0] = gone->out[0];
            g->values[n->out[0]].producer = (int32_t)i;
            gone->folded = true;
            emb_graph_count_uses(g);
        }
        free(k);
    }
    return EMB_OK;
}
