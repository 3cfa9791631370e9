/* lower.c: operators over 8-bit numbers that are others in one: QLinearConv is DequantizeLinear, Conv and QuantizeLinear. The file's
 * nodes are replaced by those before the graph is built, so that nothing behind knows more than one form of a quantised model.
 * Sources: the ONNX operator reference (QLinearConv-10, QLinearMatMul-10, ConvInteger-10, MatMulInteger-10); ONNX Runtime's
 * docs/ContribOperators.md for com.microsoft. */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name, *op;
    uint8_t data;  /* tensors that come with scale and zero point, three inputs each; MANY: all from `first` on */
    uint8_t first; /* input where they begin */
    int8_t scale;  /* input that is the scale of the result, its zero point behind it; -1: whole numbers are the result */
    int8_t bias;   /* input that is an int32 bias, whose scale is the product of the others'; 0 = none */
    int8_t axis[2]; /* of the first and second tensor, where they have several scales */
} form;

enum { MANY = 255 };

static const form forms[] = {
    {"ConvInteger", "Conv", 2, 0, -1, 0, {0, 0}},
    {"MatMulInteger", "MatMul", 2, 0, -1, 0, {-2, -1}},
    {"QLinearConv", "Conv", 2, 0, 6, 8, {1, 0}},
    {"QLinearMatMul", "MatMul", 2, 0, 6, 0, {-2, -1}},
    {"com.microsoft.QGemm", "Gemm", 2, 0, 7, 6, {0, 1}}, /* B's axis is 0 when it is transposed */
    {"com.microsoft.QLinearAdd", "Add", 2, 0, 6, 0, {0, 0}},
    {"com.microsoft.QLinearAveragePool", "AveragePool", 1, 0, 3, 0, {0, 0}},
    {"com.microsoft.QLinearConcat", "Concat", MANY, 2, 0, 0, {0, 0}},
    {"com.microsoft.QLinearGlobalAveragePool", "GlobalAveragePool", 1, 0, 3, 0, {0, 0}},
    {"com.microsoft.QLinearLeakyRelu", "LeakyRelu", 1, 0, 3, 0, {0, 0}},
    {"com.microsoft.QLinearMul", "Mul", 2, 0, 6, 0, {0, 0}},
    {"com.microsoft.QLinearReduceMean", "ReduceMean", 1, 0, 3, 0, {0, 0}},
    {"com.microsoft.QLinearSigmoid", "Sigmoid", 1, 0, 3, 0, {0, 0}},
    {"com.microsoft.QLinearSoftmax", "Softmax", 1, 0, 3, 0, {0, 0}},
};

static const form *form_of(const Onnx__Node *n)
{
    const emb_op *op = n->op_type != NULL ? emb_op_find(n->domain, n->op_type) : NULL;
    if (op == NULL || op->infer != NULL) return NULL;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (strcmp(forms[i].name, op->name) == 0) return &forms[i];
    return NULL;
}

/* ---- nodes that protobuf-c can free -------------------------------------------------------------------- */

typedef struct {
    Onnx__Node **node; /* what the graph will hold */
    size_t n, room;
    bool failed;
    const char *base; /* the result of the node that is taken apart */
    unsigned made;
} nodes;

static void push(nodes *to, Onnx__Node *n)
{
    if (to->n == to->room) {
        size_t room = 2 * to->room + 64;
        Onnx__Node **grown = realloc(to->node, room * sizeof(Onnx__Node *));
        if (grown == NULL) {
            to->failed = true;
            onnx__node__free_unpacked(n, NULL);
            return;
        }
        to->node = grown;
        to->room = room;
    }
    to->node[to->n++] = n;
}

static bool set_names(char ***list, size_t *n, const char *const *names, size_t count)
{
    *list = calloc(count, sizeof(char *));
    if (*list == NULL) return false;
    for (*n = 0; *n < count; (*n)++)
        if (((*list)[*n] = strdup(names[*n])) == NULL) return false;
    return true;
}

Onnx__Node *emb_proto_node(const char *op, const char *label, const char *const *in, size_t n_in, const char *out)
{
    Onnx__Node *n = malloc(sizeof *n);
    if (n == NULL) return NULL;
    onnx__node__init(n);
    n->op_type = strdup(op);
    n->name = strdup(label);
    if (n->op_type != NULL && n->name != NULL && set_names(&n->input, &n->n_input, in, n_in) && set_names(&n->output, &n->n_output, &out, 1)) return n;
    onnx__node__free_unpacked(n, NULL);
    return NULL;
}

bool emb_proto_ints(Onnx__Node *n, const char *name, const int64_t *v, size_t count)
{
    Onnx__Attribute *a = malloc(sizeof *a), **list = realloc(n->attribute, (n->n_attribute + 1) * sizeof(Onnx__Attribute *));
    if (list != NULL) n->attribute = list;
    if (a != NULL) onnx__attribute__init(a);
    if (a == NULL || list == NULL || (a->name = strdup(name)) == NULL || (a->ints = malloc((count + 1) * sizeof *a->ints)) == NULL) {
        if (a != NULL) free(a->name);
        free(a);
        return false;
    }
    memcpy(a->ints, v, count * sizeof *v);
    a->n_ints = count;
    a->has_i = count == 1;
    a->i = v[0];
    n->attribute[n->n_attribute++] = a;
    return true;
}

/* -> the name of the result: `out`, or a new one; NULL = no memory. */
static const char *add(nodes *to, const char *op, const char *label, const char *const *in, size_t n_in, const char *out)
{
    char fresh[300];
    if (out == NULL) {
        snprintf(fresh, sizeof fresh, "%.200s:likeness%u", to->base, to->made++);
        out = fresh;
    }
    Onnx__Node *n = to->failed ? NULL : emb_proto_node(op, label, in, n_in, out);
    if (n == NULL) {
        to->failed = true;
        return NULL;
    }
    const char *name = n->output[0];
    push(to, n);
    return to->failed ? NULL : name;
}

static void set_int(nodes *to, const char *name, int64_t value)
{
    if (!to->failed && !emb_proto_ints(to->node[to->n - 1], name, &value, 1)) to->failed = true;
}

/* ---- taking apart ---------------------------------------------------------------------------------------- */

static const char *input(const Onnx__Node *n, size_t i) { return i < n->n_input && n->input[i] != NULL ? n->input[i] : ""; }

static const char *dequantize(nodes *to, const Onnx__Node *n, const char *x, const char *scale, const char *zero, int64_t axis)
{
    const char *name = add(to, "DequantizeLinear", n->name != NULL ? n->name : "", (const char *const[]){x, scale, zero}, 3, NULL);
    set_int(to, "axis", axis);
    return name;
}

/* The inputs of the operator on floats; -> how many. */
static size_t float_inputs(nodes *to, const Onnx__Node *n, const form *f, const char **in)
{
    size_t count = f->data == MANY ? n->n_input > f->first ? (n->n_input - f->first) / 3 : 0 : f->data;
    const char *label = n->name != NULL ? n->name : "";
    bool transposed = strcmp(f->op, "Gemm") == 0 && emb_attr_i(n, "transB", 0) != 0;
    for (size_t i = 0; i < count && !to->failed; i++) {
        size_t at = f->first + 3 * i;
        if (f->scale < 0) in[i] = dequantize(to, n, input(n, i), EMB_LOWER_ONE, input(n, 2 + i), f->axis[i]); /* X, W, their zero points */
        else in[i] = dequantize(to, n, input(n, at), input(n, at + 1), input(n, at + 2), i < 2 && !transposed ? f->axis[i] : 0);
    }
    if (f->bias == 0 || input(n, (size_t)f->bias)[0] == 0 || to->failed) return count;
    const char *scale = add(to, "Mul", label, (const char *const[]){input(n, 1), input(n, 4)}, 2, NULL);
    if (scale != NULL) in[count++] = dequantize(to, n, input(n, (size_t)f->bias), scale, "", -1);
    return count;
}

/* The node's attributes go to the operator on floats: it is gone afterwards. */
static void take_apart(nodes *to, Onnx__Node *n, const form *f)
{
    const char *in[EMB_MAX_INPUTS], *label = n->name != NULL ? n->name : "", *out = n->output[0];
    to->base = out;
    bool rounds = f->scale >= 0 && input(n, (size_t)f->scale)[0] != 0, whole = f->scale < 0; /* QGemm without a scale has floats as its result */
    size_t n_in = float_inputs(to, n, f, in);
    const char *y = to->failed ? NULL : add(to, f->op, label, in, n_in, rounds || whole ? NULL : out);
    if (y != NULL) {
        Onnx__Node *made = to->node[to->n - 1];
        made->attribute = n->attribute;
        made->n_attribute = n->n_attribute;
        n->attribute = NULL;
        n->n_attribute = 0;
        if (rounds) add(to, "QuantizeLinear", label, (const char *const[]){y, input(n, (size_t)f->scale), input(n, (size_t)f->scale + 1)}, 3, out);
        if (whole) {
            add(to, "Cast", label, &y, 1, out);
            set_int(to, "to", EMB_I32);
        }
    }
    onnx__node__free_unpacked(n, NULL);
}

static bool add_one(Onnx__Graph *g)
{
    static const float one = 1;
    Onnx__Tensor **grown = realloc(g->initializer, (g->n_initializer + 1) * sizeof(Onnx__Tensor *)), *t = malloc(sizeof *t);
    if (grown != NULL) g->initializer = grown;
    if (grown == NULL || t == NULL) {
        free(t);
        return false;
    }
    onnx__tensor__init(t);
    g->initializer[g->n_initializer++] = t;
    t->has_data_type = true;
    t->data_type = EMB_F32;
    t->name = strdup(EMB_LOWER_ONE);
    t->raw_data.data = malloc(sizeof one);
    if (t->name == NULL || t->raw_data.data == NULL) return false;
    t->has_raw_data = true;
    t->raw_data.len = sizeof one;
    memcpy(t->raw_data.data, &one, sizeof one);
    return true;
}

emb_status emb_lower(Onnx__Graph *g, const char *file, emb_error *err)
{
    nodes to = {0};
    bool integers = false, any = false;
    for (size_t i = 0; i < g->n_node; i++) {
        const form *f = form_of(g->node[i]);
        any = any || f != NULL;
        integers = integers || (f != NULL && f->scale < 0);
        if (f == NULL) continue;
        const Onnx__Node *n = g->node[i];
        size_t least = f->scale < 0 ? 2 : f->first + (f->data == MANY ? 3 : 3u * f->data);
        if (n->n_input < least || n->n_input > EMB_MAX_INPUTS || n->n_output != 1 || (f->data == MANY && (n->n_input - f->first) % 3 != 0))
            return emb_fail(err, EMB_EFORMAT, "%s: node %.100s (%s) has %zu inputs and %zu outputs", file, n->name != NULL ? n->name : "(unnamed)",
                            f->name, n->n_input, n->n_output);
    }
    if (!any) return EMB_OK;
    for (size_t i = 0; i < g->n_node; i++) {
        const form *f = form_of(g->node[i]);
        if (f != NULL && !to.failed) take_apart(&to, g->node[i], f);
        else push(&to, g->node[i]);
    }
    free(g->node);
    g->node = to.node;
    g->n_node = to.n;
    if (to.failed || (integers && !add_one(g))) return emb_fail(err, EMB_ENOMEM, "%s: no memory", file);
    return EMB_OK;
}
