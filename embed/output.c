/* output.c: which value of a graph is the embedding. Files end in class scores more often than in features: then the input of the
 * classifier is meant. Feature maps are averaged over height and width. */
#include "graph.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_op(const emb_node *n, const char *const *list)
{
    while (*list != NULL && strcmp(*list, n->op->name) != 0) list++;
    return *list != NULL;
}

static const emb_node *maker(const emb_graph *g, int32_t v)
{
    const emb_node *n = v >= 0 && g->values[v].producer >= 0 ? &g->nodes[g->values[v].producer] : NULL;
    return n != NULL && !n->folded && n->n_in > 0 ? n : NULL;
}

static const char *label(const emb_graph *g, const emb_node *n)
{
    return n->proto->name != NULL && n->proto->name[0] != 0 ? n->proto->name : g->values[n->out[0]].name;
}

/* ---- the classifier ------------------------------------------------------------------------------------ */

static bool sounds_like_classes(const char *name)
{
    static const char *const words[] = {"classifier", "logits", "predict", "probab", "softmax", NULL};
    for (const char *const *w = words; name != NULL && *w != NULL; w++)
        if (strcasestr(name, *w) != NULL) return true;
    return false;
}

/* ImageNet-1k (with and without background) and the sets of ImageNet-21k that models are trained on. */
static bool is_known_count(int64_t n)
{
    static const int64_t counts[] = {1000, 1001, 10450, 11221, 21841, 21843};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (counts[i] == n) return true;
    return false;
}

/* Product with a constant matrix, or a convolution of 1 x 1: -> the number of its results, 0 for any other node. */
static int64_t results_of(const emb_graph *g, const emb_node *n)
{
    if (n->n_in < 2 || n->in[1] < 0 || !emb_is_constant(&g->values[n->in[1]])) return 0;
    const emb_type *w = &g->values[n->in[1]].type;
    if (strcmp(n->op->name, "Conv") == 0 && w->rank == 4 && w->dims[2] * w->dims[3] == 1 && emb_attr_i(n->proto, "group", 1) == 1) return w->dims[0];
    if (strcmp(n->op->name, "Gemm") == 0 && w->rank == 2) return w->dims[emb_attr_i(n->proto, "transB", 0) != 0 ? 0 : 1];
    return strcmp(n->op->name, "MatMul") == 0 && w->rank == 2 ? w->dims[1] : 0;
}

/* Back from the output over what changes no features: -> the classifier, or NULL. */
static const emb_node *find_classifier(emb_graph *g, int32_t v)
{
    static const char *const passes[] = {"Softmax", "Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Dropout", "QuantizeLinear",
                                         "DequantizeLinear", "GlobalAveragePool", "AveragePool", "ReduceMean", "Relu", "Transpose", NULL};
    bool softmax = false, pooled = false, relu = false;
    bool named = sounds_like_classes(g->values[v].name);
    const emb_node *n;
    for (n = maker(g, v); n != NULL && is_op(n, passes); n = maker(g, n->in[0])) {
        softmax = softmax || strcmp(n->op->name, "Softmax") == 0;
        relu = relu || strcmp(n->op->name, "Relu") == 0;
        pooled = pooled || strstr(n->op->name, "Pool") != NULL || strcmp(n->op->name, "ReduceMean") == 0;
    }
    if (n != NULL && strcmp(n->op->name, "Add") == 0) /* a bias behind MatMul */
        n = emb_is_constant(&g->values[n->in[0]]) ? maker(g, n->in[1]) : emb_is_constant(&g->values[n->in[1]]) ? maker(g, n->in[0]) : n;
    int64_t classes = n != NULL ? results_of(g, n) : 0;
    if (classes == 0 || maker(g, n->in[0]) == NULL) return NULL;
    const emb_type *t = &g->values[n->out[0]].type;
    bool conv = strcmp(n->op->name, "Conv") == 0, map = conv && t->dims[2] * t->dims[3] > 1;
    if (conv ? map != pooled : pooled || relu) return NULL; /* SqueezeNet's classifier comes before the mean, the others' behind it */
    if (softmax || is_known_count(classes) || named || sounds_like_classes(n->proto->name) || sounds_like_classes(g->values[n->in[1]].name)) return n;
    if (!conv && emb_graph_metadata(g, "likeness.name") == NULL)
        snprintf(g->hint, sizeof g->hint, "if these %" PRId64 " numbers are classes, --output %.150s takes the features before them", classes,
                 g->values[n->in[0]].name);
    return NULL;
}

/* The features before they were rounded to 8 bits, and before what only moved the rounded ones. */
static int32_t before_rounding(const emb_graph *g, int32_t v)
{
    static const char *const rounds[] = {"QuantizeLinear", "com.microsoft.QuantizeLinear", NULL};
    static const char *const moves[] = {"DequantizeLinear", "com.microsoft.DequantizeLinear", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", NULL};
    int32_t best = v;
    for (const emb_node *n; (n = maker(g, v)) != NULL && (is_op(n, rounds) || is_op(n, moves));) {
        v = n->in[0];
        if (is_op(n, rounds)) best = v;
    }
    return best;
}

/* ---- the mean over height and width ------------------------------------------------------------------- */

static emb_status append_mean(emb_graph *g, int32_t v, const char *op, const int64_t *axes, size_t n_axes, emb_error *err)
{
    char name[200];
    snprintf(name, sizeof name, "%.150s:mean", g->values[v].name);
    const char *in = g->values[v].name;
    Onnx__Graph *p = g->proto->graph;
    Onnx__Node *proto = emb_proto_node(op, name, &in, 1, name), **protos = realloc(p->node, (p->n_node + 1) * sizeof(Onnx__Node *));
    if (protos != NULL) p->node = protos;
    emb_value *values = realloc(g->values, (g->n_values + 1) * sizeof *values);
    if (values != NULL) g->values = values;
    emb_node *nodes = realloc(g->nodes, (g->n_nodes + 1) * sizeof *nodes);
    if (nodes != NULL) g->nodes = nodes;
    int32_t *args = malloc(2 * sizeof *args);
    bool ok = proto != NULL && protos != NULL && values != NULL && nodes != NULL && args != NULL;
    if (ok && n_axes > 0) ok = emb_proto_ints(proto, "axes", axes, n_axes) && emb_proto_ints(proto, "keepdims", &(int64_t){0}, 1);
    if (!ok) {
        if (proto != NULL) onnx__node__free_unpacked(proto, NULL);
        free(args);
        return emb_fail(err, EMB_ENOMEM, "%s: no memory", g->file);
    }
    p->node[p->n_node++] = proto;
    args[0] = v;
    args[1] = (int32_t)g->n_values;
    emb_type t = g->values[v].type;
    if (n_axes > 0) t = (emb_type){EMB_F32, 2, {t.dims[0], t.dims[t.rank - 1]}};
    else t.dims[2] = t.dims[3] = 1;
    g->values[g->n_values++] = (emb_value){.name = proto->output[0], .type = t, .known = true, .producer = (int32_t)g->n_nodes};
    g->nodes[g->n_nodes++] = (emb_node){.op = emb_op_find(NULL, op), .proto = proto, .in = args, .out = args + 1, .n_in = 1, .n_out = 1};
    g->outputs[0] = args[1];
    return EMB_OK;
}

static const int64_t to_last[4] = {0, 2, 3, 1}, to_second[4] = {0, 3, 1, 2};

static bool transposes(const emb_node *n, const int64_t want[4])
{
    int64_t perm[4];
    return n != NULL && strcmp(n->op->name, "Transpose") == 0 && emb_attr_ints(n->proto, "perm", perm, 4) == 4 && memcmp(perm, want, sizeof perm) == 0;
}

/* Are the channels of a picture its last dimension? What made it knows. */
static bool channels_last(const emb_graph *g, int32_t v)
{
    static const char *const second[] = {"Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "BatchNormalization", "LRN", NULL};
    for (const emb_node *n; (n = maker(g, v)) != NULL; v = n->in[n->n_in > 1 && emb_is_constant(&g->values[n->in[0]]) ? 1 : 0]) {
        if (is_op(n, second) || transposes(n, to_second)) return false;
        if (transposes(n, to_last)) return true;
    }
    const emb_type *in = &g->values[g->inputs[0]].type;
    return in->rank == 4 && in->dims[3] == 3 && in->dims[1] != 3;
}

static emb_status mean(emb_graph *g, int32_t v, emb_error *err)
{
    bool last = channels_last(g, v);
    const emb_node *n = maker(g, v);
    if (transposes(n, to_last)) v = n->in[0], last = false;
    emb_type t = g->values[v].type;
    g->outputs[0] = v;
    if (t.dtype != EMB_F32 || t.rank < 3 || t.rank > 4) return EMB_OK;
    int64_t a = t.dims[t.rank == 3 || last ? 1 : 2], b = t.rank == 3 ? 1 : t.dims[last ? 2 : 3];
    if (t.dims[0] != 1 || a * b <= 1) return EMB_OK;
    size_t len = strlen(g->chosen);
    snprintf(g->chosen + len, sizeof g->chosen - len, "%sthe mean over its %" PRId64 " x %" PRId64, len > 0 ? ", " : "", a, b);
    if (t.rank == 4 && !last) return append_mean(g, v, "GlobalAveragePool", NULL, 0, err);
    return append_mean(g, v, "ReduceMean", (const int64_t[]){1, 2}, t.rank == 3 ? 1 : 2, err);
}

/* ---- the choice ---------------------------------------------------------------------------------------- */

static emb_status find_named(const emb_graph *g, const char *name, int32_t *out, emb_error *err)
{
    *out = -1;
    for (size_t v = 0; v < g->n_values; v++)
        if (strcmp(g->values[v].name, name) == 0) *out = (int32_t)v;
    for (size_t i = 0; *out < 0 && i < g->n_nodes; i++)
        if (g->nodes[i].proto->name != NULL && strcmp(g->nodes[i].proto->name, name) == 0) *out = g->nodes[i].out[0];
    if (*out < 0) return emb_fail(err, EMB_EINVAL, "%s: output \"%.100s\" is neither a value nor a node of the file", g->file, name);
    if (emb_is_constant(&g->values[*out]) || g->values[*out].producer < 0 || g->values[*out].type.dtype != EMB_F32)
        return emb_fail(err, EMB_EINVAL, "%s: output \"%.100s\" is not made of the picture, or not of floats", g->file, name);
    return EMB_OK;
}

/* Nodes that the output does not need will not run. */
static emb_status prune(emb_graph *g, emb_error *err)
{
    bool *needed = calloc(g->n_values + 1, sizeof *needed);
    if (needed == NULL) return emb_fail(err, EMB_ENOMEM, "%s: no memory", g->file);
    g->n_outputs = 1;
    needed[g->outputs[0]] = true;
    for (size_t i = g->n_nodes; i-- > 0;) {
        emb_node *n = &g->nodes[i];
        bool use = false;
        for (uint32_t k = 0; k < n->n_out; k++) use = use || (n->out[k] >= 0 && needed[n->out[k]]);
        n->folded = n->folded || !use;
        for (uint32_t k = 0; use && k < n->n_in; k++)
            if (n->in[k] >= 0) needed[n->in[k]] = true;
    }
    free(needed);
    emb_graph_count_uses(g);
    return EMB_OK;
}

emb_status emb_graph_choose(emb_graph *g, const char *wanted, emb_error *err)
{
    int32_t v = g->outputs[0];
    g->chosen[0] = g->hint[0] = 0;
    if (wanted == NULL) wanted = emb_graph_metadata(g, "likeness.output");
    bool as_it_is = wanted != NULL && strcmp(wanted, "-") == 0;
    const emb_node *classifier = wanted == NULL ? find_classifier(g, v) : NULL;
    emb_status st = EMB_OK;
    if (wanted != NULL && !as_it_is) {
        st = find_named(g, wanted, &v, err);
        if (st == EMB_OK && v != g->outputs[0]) snprintf(g->chosen, sizeof g->chosen, "as asked for");
    } else if (classifier != NULL) {
        v = before_rounding(g, classifier->in[0]);
        snprintf(g->chosen, sizeof g->chosen, "the input of the classifier %.120s (%" PRId64 " classes)", label(g, classifier), results_of(g, classifier));
    }
    if (st != EMB_OK) return st;
    g->outputs[0] = v;
    if (!as_it_is && g->n_inputs == 1) st = mean(g, v, err);
    return st == EMB_OK ? prune(g, err) : st;
}
