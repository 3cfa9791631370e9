/* rewrite.c: activations that a file spells out become the operator that they are: x * min(max(x + 3, 0), 6) / 6 in all its orders is
 * HardSwish, which kernels know. Exporters of Keras, of Paddle and of older PyTorch write it so. */
#include "graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static emb_node *maker(const emb_graph *g, int32_t v, const char *op)
{
    emb_node *n = v >= 0 && g->values[v].producer >= 0 ? &g->nodes[g->values[v].producer] : NULL;
    return n != NULL && !n->folded && strcmp(n->op->name, op) == 0 ? n : NULL;
}

static bool is_number(const emb_graph *g, int32_t v, double want)
{
    const emb_value *x = v >= 0 ? &g->values[v] : NULL;
    if (x == NULL || x->data == NULL || x->type.dtype != EMB_F32 || emb_elements(&x->type) != 1) return false;
    return fabs((double)*(const float *)x->data - want) <= 1e-5 * fabs(want);
}

/* n = other op number, in either order: -> the other value, -1. */
static int32_t beside(const emb_graph *g, const emb_node *n, double number)
{
    if (is_number(g, n->in[1], number)) return n->in[0];
    return is_number(g, n->in[0], number) ? n->in[1] : -1;
}

/* v = min(max(x + 3, 0), 6): -> x, -1. */
static int32_t six_times_hard_sigmoid(const emb_graph *g, int32_t v)
{
    const emb_node *clip = maker(g, v, "Clip");
    if (clip == NULL) return -1;
    bool inputs = clip->n_in == 3 && is_number(g, clip->in[1], 0) && is_number(g, clip->in[2], 6);
    bool attributes = clip->n_in == 1 && emb_attr_f(clip->proto, "min", -1) == 0 && emb_attr_f(clip->proto, "max", 0) == 6;
    const emb_node *add = inputs || attributes ? maker(g, clip->in[0], "Add") : NULL;
    return add != NULL && g->values[v].uses == 1 && g->values[clip->in[0]].uses == 1 ? beside(g, add, 3) : -1;
}

/* v = that / 6 */
static int32_t hard_sigmoid(const emb_graph *g, int32_t v)
{
    const emb_node *div = maker(g, v, "Div"), *mul = maker(g, v, "Mul");
    if (div != NULL && is_number(g, div->in[1], 6)) return six_times_hard_sigmoid(g, div->in[0]);
    int32_t h = mul != NULL ? beside(g, mul, 1.0 / 6) : -1;
    return h >= 0 ? six_times_hard_sigmoid(g, h) : -1;
}

/* v = x * h, where h is made of x by `of`: -> x, -1. */
static int32_t gated(const emb_graph *g, int32_t v, int32_t (*of)(const emb_graph *, int32_t))
{
    const emb_node *mul = maker(g, v, "Mul");
    for (int k = 0; mul != NULL && k < 2; k++)
        if (g->values[mul->in[k]].uses == 1 && of(g, mul->in[k]) == mul->in[1 - k] && mul->in[1 - k] >= 0) return mul->in[1 - k];
    return -1;
}

static int32_t hard_swish(const emb_graph *g, int32_t v)
{
    int32_t x = gated(g, v, hard_sigmoid);
    const emb_node *div = maker(g, v, "Div"), *mul = maker(g, v, "Mul");
    if (x >= 0) return x;
    int32_t six = div != NULL && is_number(g, div->in[1], 6) ? div->in[0] : mul != NULL ? beside(g, mul, 1.0 / 6) : -1;
    return six >= 0 && g->values[six].uses == 1 ? gated(g, six, six_times_hard_sigmoid) : -1;
}

/* One use of v less; nodes whose results nobody needs then are folded. */
static void let_go(emb_graph *g, int32_t v)
{
    if (--g->values[v].uses > 0 || g->values[v].producer < 0) return;
    emb_node *n = &g->nodes[g->values[v].producer];
    n->folded = true;
    for (uint32_t k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0) let_go(g, n->in[k]); /* the parts of an activation, and no further: x is used by what takes their place */
}

/* The node that makes v becomes op(x). */
static void become(emb_graph *g, int32_t v, const char *op, int32_t x)
{
    emb_node *n = &g->nodes[g->values[v].producer];
    g->values[x].uses++;
    for (uint32_t k = 0; k < n->n_in; k++)
        if (n->in[k] >= 0) let_go(g, n->in[k]);
    n->op = emb_op_find(NULL, op);
    n->in[0] = x;
    n->n_in = 1;
}

static bool same_shape(const emb_graph *g, int32_t a, int32_t b)
{
    const emb_type *x = &g->values[a].type, *y = &g->values[b].type;
    return x->dtype == y->dtype && x->rank == y->rank && memcmp(x->dims, y->dims, x->rank * sizeof *x->dims) == 0;
}

void emb_rewrite(emb_graph *g)
{
    for (size_t i = 0; i < g->n_nodes; i++) {
        const emb_node *n = &g->nodes[i];
        if (n->folded || n->n_out != 1 || (strcmp(n->op->name, "Mul") != 0 && strcmp(n->op->name, "Div") != 0)) continue;
        int32_t x = hard_swish(g, n->out[0]);
        if (x >= 0 && same_shape(g, x, n->out[0])) become(g, n->out[0], "HardSwish", x);
    }
}
