/* quantize_rules.c: which values become 8 bits. Convolutions and products by constants take their picture in 8 bits, and so does
 * what lies between them in a CNN; what an activation follows is not rounded before it. Norms, softmax and the streams of
 * transformers stay as they are. */
#include "quantize.h"

#include <string.h>

static bool is_one_of(const char *op, const char *const *list)
{
    while (*list != NULL && strcmp(*list, op) != 0) list++;
    return *list != NULL;
}

/* Numbers are moved, left out or picked, never computed: the result has the grid of the input. */
static bool moves(const emb_node *n)
{
    static const char *const ops[] = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "MaxPool", "Pad", NULL};
    return is_one_of(n->op->name, ops);
}

static bool is_activation(const emb_node *n)
{
    static const char *const ops[] = {"Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "Softplus", "Mish", NULL};
    return is_one_of(n->op->name, ops);
}

static bool is_picture(const emb_quantizer *q, int32_t v)
{
    const emb_value *x = &q->g->values[v];
    return x->data == NULL && x->type.dtype == EMB_F32 && x->type.rank == 4;
}

/* A product with constants, whose result has a channel for each row or column of them. */
static bool weighted(const emb_quantizer *q, const emb_node *n, uint32_t *axis)
{
    const char *op = n->op->name;
    bool conv = strcmp(op, "Conv") == 0, gemm = strcmp(op, "Gemm") == 0, product = strcmp(op, "MatMul") == 0;
    if (!conv && !gemm && !product) return false;
    const emb_value *x = &q->g->values[n->in[0]], *w = &q->g->values[n->in[1]];
    if (w->data == NULL || x->data != NULL || emb_elements(&w->type) == 0 || (!conv && w->type.rank != 2)) return false;
    if (gemm && (emb_attr_i(n->proto, "transA", 0) != 0 || emb_attr_f(n->proto, "alpha", 1) != 1 || emb_attr_f(n->proto, "beta", 1) != 1)) return false;
    if (n->n_in > 2 && n->in[2] >= 0 && q->g->values[n->in[2]].data == NULL) return false;
    *axis = conv || (gemm && emb_attr_i(n->proto, "transB", 0) != 0) ? 0 : 1;
    return true;
}

/* Operators of a CNN that can work on 8 bits, and whose inputs come as 8 bits. */
static bool takes_eight(const emb_quantizer *q, const emb_node *n)
{
    static const char *const pools[] = {"AveragePool", "GlobalAveragePool", "ReduceMean", "BatchNormalization", "MaxPool", NULL};
    static const char *const several[] = {"Add", "Mul", "Concat", NULL};
    const char *op = n->op->name;
    uint32_t axis;
    if (weighted(q, n, &axis)) return true;
    if (!is_picture(q, n->in[0])) return false;
    if (is_one_of(op, pools) || is_activation(n)) return true;
    if (!is_one_of(op, several)) return false;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (!is_picture(q, n->in[i])) return false;
        int32_t by = q->g->values[n->in[i]].producer;
        if (strcmp(op, "Concat") != 0 && by >= 0 && strcmp(q->g->nodes[by].op->name, "Transpose") == 0) return false; /* a transformer's stream */
    }
    return true;
}

/* x * sigmoid(x) as two nodes: the users of x are both of them. */
static bool is_self_gate(const emb_quantizer *q, int32_t v)
{
    const emb_graph *g = q->g;
    const emb_node *gate = NULL, *mul = NULL;
    if (g->values[v].uses != 2) return false;
    for (size_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; !g->nodes[i].folded && k < g->nodes[i].n_in; k++)
            if (g->nodes[i].in[k] == v) {
                if (strcmp(g->nodes[i].op->name, "Mul") == 0) mul = &g->nodes[i];
                else gate = &g->nodes[i];
            }
    if (gate == NULL || mul == NULL || (strcmp(gate->op->name, "Sigmoid") != 0 && strcmp(gate->op->name, "HardSigmoid") != 0)) return false;
    return emb_quantize_only_user(q, gate->out[0]) == mul;
}

/* What makes v and what follows are one step for everybody who computes them: nothing is rounded between. */
static bool inside_a_step(const emb_quantizer *q, int32_t v)
{
    static const char *const firsts[] = {"Conv", "Gemm", "MatMul", "Add", "BatchNormalization", NULL};
    int32_t by = q->g->values[v].producer;
    if (by < 0) return false;
    const emb_node *maker = &q->g->nodes[by], *user = emb_quantize_only_user(q, v);
    if (is_one_of(maker->op->name, firsts) && is_self_gate(q, v)) return true;
    if (user == NULL) return false;
    if (is_one_of(maker->op->name, firsts) && is_activation(user)) return true;
    bool gate = strcmp(maker->op->name, "Sigmoid") == 0 || strcmp(maker->op->name, "HardSigmoid") == 0;
    return gate && strcmp(user->op->name, "Mul") == 0 && is_self_gate(q, maker->in[0]) && emb_quantize_only_user(q, v) != NULL &&
           (user->in[0] == maker->in[0] || user->in[1] == maker->in[0]);
}

static bool is_kept(const emb_quantizer *q, const emb_node *n)
{
    for (size_t i = 0; i < q->opts->n_keep; i++)
        if ((n->proto->name != NULL && strcmp(q->opts->keep[i], n->proto->name) == 0) || strcmp(q->opts->keep[i], q->g->values[n->out[0]].name) == 0) return true;
    return false;
}

void emb_quantize_rules(emb_quantizer *q)
{
    emb_graph *g = q->g;
    for (size_t v = 0; v < q->n_values; v++) q->values[v].same = -1;
    for (size_t i = g->n_nodes; i-- > 0;) { /* from the end, so that what moves numbers knows who wants them */
        const emb_node *n = &g->nodes[i];
        emb_qnode *k = &q->nodes[i];
        if (n->folded || n->n_in == 0 || n->in[0] < 0 || is_kept(q, n)) continue;
        k->weighted = weighted(q, n, &k->axis);
        k->eight = takes_eight(q, n);
        if (moves(n) && g->values[n->in[0]].data == NULL && g->values[n->in[0]].type.dtype == EMB_F32)
            for (uint32_t o = 0; o < n->n_out; o++) k->eight = k->eight || (n->out[o] >= 0 && q->values[n->out[o]].wanted);
        if (!k->eight) continue;
        uint32_t data = k->weighted || moves(n) ? 1 : n->n_in;
        for (uint32_t a = 0; a < data; a++)
            if (n->in[a] >= 0 && g->values[n->in[a]].data == NULL && !inside_a_step(q, n->in[a])) q->values[n->in[a]].wanted = true;
    }
    for (size_t i = 0; i < g->n_nodes; i++) {
        const emb_node *n = &g->nodes[i];
        if (n->folded || !q->nodes[i].eight || !moves(n) || !q->values[n->in[0]].wanted) continue;
        for (uint32_t o = 0; o < n->n_out; o++)
            if (n->out[o] >= 0) q->values[n->out[o]].same = q->values[n->in[0]].same >= 0 ? q->values[n->in[0]].same : n->in[0];
    }
}
