/* quantize_write.c: the graph with its pairs of QuantizeLinear and DequantizeLinear as an ONNX file, of opset 13 or newer: int8
 * weights behind a DequantizeLinear by channel, int32 biases of scale input x weight, as ONNX Runtime writes and expects them. */
#include "quantize.h"
#include "onnx_build.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    emb_quantizer *q;
    emb_build *b;
    bool *written; /* constants */
} writer;

static const char *name_of(const writer *w, int32_t v) { return v >= 0 ? w->q->g->values[v].name : ""; }

static void constant(writer *w, int32_t v)
{
    const emb_value *x = &w->q->g->values[v];
    if (x->data == NULL || w->written[v]) return;
    emb_build_tensor(w->b, x->name, &x->type, x->data);
    w->written[v] = true;
}

static const char *integers(writer *w, const char *of, const char *what, const int64_t *v, uint32_t n)
{
    const char *name = emb_build_text(w->b, "%s:%s", of, what);
    emb_build_tensor(w->b, name, &(emb_type){EMB_I64, 1, {n}}, v);
    return name;
}

/* ---- pairs ------------------------------------------------------------------------------------------- */

static const char *eight_name(writer *w, int32_t v) { return emb_build_text(w->b, "%s:8", name_of(w, v)); }

static void pair(writer *w, int32_t v)
{
    const emb_qvalue *k = &w->q->values[v];
    const char *name = name_of(w, v), *scale = emb_build_text(w->b, "%s:scale", name), *zero = emb_build_text(w->b, "%s:zero", name);
    const char *q = emb_build_text(w->b, "%s:q", name), *dq = eight_name(w, v);
    emb_build_scalar(w->b, scale, EMB_F32, &k->scale);
    emb_build_scalar(w->b, zero, EMB_U8, &k->zero);
    emb_build_node(w->b, "QuantizeLinear", q, (const char *const[]){name, scale, zero}, 3, &q, 1);
    emb_build_node(w->b, "DequantizeLinear", dq, (const char *const[]){q, scale, zero}, 3, &dq, 1);
}

/* -> the name of the weights as floats again */
static const char *weights(writer *w, const emb_node *n, const emb_qnode *k)
{
    const emb_value *x = &w->q->g->values[n->in[1]];
    const char *base = name_of(w, n->out[0]), *name = emb_build_text(w->b, "%s:w8", base), *scale = emb_build_text(w->b, "%s:w_scale", base);
    const char *zero = emb_build_text(w->b, "%s:w_zero", base), *dq = emb_build_text(w->b, "%s:w", base);
    emb_type t = x->type, by_channel = {EMB_F32, 1, {k->oc}};
    t.dtype = EMB_I8;
    emb_build_tensor(w->b, name, &t, k->w);
    emb_build_tensor(w->b, scale, &by_channel, k->w_scale);
    by_channel.dtype = EMB_I8;
    int8_t *zeros = calloc(k->oc, 1);
    if (zeros != NULL) emb_build_tensor(w->b, zero, &by_channel, zeros);
    free(zeros);
    emb_build_node(w->b, "DequantizeLinear", dq, (const char *const[]){name, scale, zero}, 3, &dq, 1);
    emb_build_attribute(w->b, "axis", k->axis);
    return dq;
}

static const char *bias(writer *w, const emb_node *n, const emb_qnode *k)
{
    const char *base = name_of(w, n->out[0]), *name = emb_build_text(w->b, "%s:b32", base), *scale = emb_build_text(w->b, "%s:b_scale", base);
    const char *zero = emb_build_text(w->b, "%s:b_zero", base), *dq = emb_build_text(w->b, "%s:b", base);
    float *s = malloc(k->oc * sizeof *s);
    int32_t *v = calloc(2 * (size_t)k->oc, sizeof *v);
    emb_type t = {EMB_F32, 1, {k->oc}};
    if (s != NULL && v != NULL) {
        for (uint32_t o = 0; o < k->oc; o++) {
            s[o] = w->q->values[n->in[0]].scale * k->w_scale[o];
            v[o] = (int32_t)rint((double)k->bias[o] / (double)s[o]);
        }
        emb_build_tensor(w->b, scale, &t, s);
        t.dtype = EMB_I32;
        emb_build_tensor(w->b, name, &t, v);
        emb_build_tensor(w->b, zero, &t, v + k->oc);
    }
    free(s);
    free(v);
    emb_build_node(w->b, "DequantizeLinear", dq, (const char *const[]){name, scale, zero}, 3, &dq, 1);
    emb_build_attribute(w->b, "axis", 0);
    return dq;
}

/* ---- nodes ------------------------------------------------------------------------------------------- */

/* Arguments that later opsets take as inputs and not as attributes. -> the attribute that went, or NULL. */
static const char *modernise(writer *w, const emb_node *n, const char **in, size_t *n_in)
{
    const char *op = n->op->name, *base = name_of(w, n->out[0]);
    int64_t v[EMB_MAX_INPUTS];
    bool axes = strcmp(op, "Squeeze") == 0 || strcmp(op, "Unsqueeze") == 0 || strcmp(op, "ReduceSum") == 0;
    const char *attr = axes ? "axes" : strcmp(op, "Split") == 0 ? "split" : strcmp(op, "Pad") == 0 ? "pads" : NULL;
    int k = attr != NULL ? emb_attr_ints(n->proto, attr, v, EMB_MAX_INPUTS) : -1;
    if (k >= 0 && k <= EMB_MAX_INPUTS && *n_in == 1) {
        in[(*n_in)++] = integers(w, base, attr, v, (uint32_t)k);
        if (strcmp(op, "Pad") == 0 && emb_attr_f(n->proto, "value", 0) != 0) {
            float value = emb_attr_f(n->proto, "value", 0);
            emb_build_scalar(w->b, in[(*n_in)++] = emb_build_text(w->b, "%s:value", base), EMB_F32, &value);
        }
        return attr;
    }
    if (strcmp(op, "Clip") == 0 && *n_in == 1) {
        static const char *const bound[] = {"min", "max"};
        for (int i = 0; i < 2; i++) {
            float x = emb_attr_f(n->proto, bound[i], i == 0 ? -3.4028235e38f : 3.4028235e38f);
            emb_build_scalar(w->b, in[(*n_in)++] = emb_build_text(w->b, "%s:%s", base, bound[i]), EMB_F32, &x);
        }
    }
    if (strcmp(op, "Slice") == 0 && *n_in == 1) {
        static const char *const list[] = {"starts", "ends", "axes"};
        for (int i = 0; i < 3; i++)
            if ((k = emb_attr_ints(n->proto, list[i], v, EMB_MAX_RANK)) >= 0 && k <= EMB_MAX_RANK) in[(*n_in)++] = integers(w, base, list[i], v, (uint32_t)k);
    }
    return NULL;
}

/* Until opset 12, softmax is over everything behind its axis. */
static emb_status check_softmax(const writer *w, const emb_node *n, int64_t *axis)
{
    const emb_type *t = &w->q->g->values[n->in[0]].type;
    int64_t a = emb_attr_i(n->proto, "axis", 1), behind = 1;
    if (a < 0) a += t->rank;
    for (uint32_t d = (uint32_t)a + 1; d < t->rank; d++) behind *= t->dims[d];
    *axis = a;
    return behind == 1 ? EMB_OK : emb_fail(w->q->err, EMB_EUNSUPPORTED, "%s: node %.80s: a Softmax over several axes cannot be written as opset 13",
                                           w->q->g->file, name_of(w, n->out[0]));
}

static bool is_old_attribute(const emb_node *n, const char *name)
{
    return (strcmp(n->op->name, "Clip") == 0 && (strcmp(name, "min") == 0 || strcmp(name, "max") == 0)) ||
           (strcmp(n->op->name, "Pad") == 0 && (strcmp(name, "pads") == 0 || strcmp(name, "value") == 0)) ||
           (strcmp(n->op->name, "Slice") == 0 && (strcmp(name, "starts") == 0 || strcmp(name, "ends") == 0 || strcmp(name, "axes") == 0));
}

static emb_status node(writer *w, size_t i)
{
    const emb_graph *g = w->q->g;
    const emb_node *n = &g->nodes[i];
    const emb_qnode *k = &w->q->nodes[i];
    const char *in[EMB_MAX_INPUTS + 4], *out[EMB_MAX_INPUTS], *gone = NULL;
    size_t n_in = n->n_in;
    int64_t axis = 0;
    bool old = g->opset < 13, softmax = old && strcmp(n->op->name, "Softmax") == 0;
    emb_status st = softmax ? check_softmax(w, n, &axis) : EMB_OK;
    if (st != EMB_OK) return st;
    for (uint32_t a = 0; a < n->n_in; a++) {
        in[a] = name_of(w, n->in[a]);
        if (n->in[a] < 0) continue;
        if (k->eight && k->weighted && a == 1) in[a] = weights(w, n, k);
        else if (k->eight && k->weighted && a == 2) in[a] = bias(w, n, k);
        else if (k->eight && w->q->values[n->in[a]].wanted) in[a] = eight_name(w, n->in[a]);
        else constant(w, n->in[a]);
    }
    for (uint32_t a = 0; a < n->n_out; a++) out[a] = name_of(w, n->out[a]);
    if (old) gone = modernise(w, n, in, &n_in);
    emb_build_node(w->b, n->op->name, n->proto->name != NULL ? n->proto->name : "", in, n_in, out, n->n_out);
    if (softmax) gone = "axis";
    for (size_t a = 0; a < n->proto->n_attribute; a++) {
        const Onnx__Attribute *t = n->proto->attribute[a];
        if ((gone != NULL && strcmp(t->name, gone) == 0) || (old && is_old_attribute(n, t->name))) continue;
        emb_build_borrow(w->b, t);
    }
    if (softmax) emb_build_attribute(w->b, "axis", axis);
    for (uint32_t a = 0; a < n->n_out; a++)
        if (n->out[a] >= 0 && w->q->values[n->out[a]].wanted) pair(w, n->out[a]);
    return EMB_OK;
}

emb_status emb_quantize_write(emb_quantizer *q, void **bytes, size_t *n)
{
    const emb_graph *g = q->g;
    int64_t opset = g->opset < 13 ? 13 : g->opset;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (!g->nodes[i].folded && strcmp(g->nodes[i].op->name, "HardSwish") == 0 && opset < 14) opset = 14; /* rewrite.c found it in its parts */
    writer w = {q, emb_build_new(g->proto, opset), calloc(g->n_values + 1, sizeof(bool))};
    emb_status st = w.b != NULL && w.written != NULL ? EMB_OK : emb_fail(q->err, EMB_ENOMEM, "%s: no memory", g->file);
    for (size_t i = 0; st == EMB_OK && i < g->n_inputs; i++) {
        emb_build_input(w.b, g->values[g->inputs[i]].name, &g->values[g->inputs[i]].type);
        if (q->values[g->inputs[i]].wanted) pair(&w, g->inputs[i]);
    }
    for (size_t i = 0; st == EMB_OK && i < g->n_nodes; i++)
        if (!g->nodes[i].folded) st = node(&w, i);
    for (size_t i = 0; st == EMB_OK && i < g->n_outputs; i++) {
        constant(&w, g->outputs[i]);
        emb_build_output(w.b, g->values[g->outputs[i]].name, &g->values[g->outputs[i]].type);
    }
    if (st == EMB_OK) st = emb_build_pack(w.b, bytes, n, q->err);
    emb_build_free(w.b);
    free(w.written);
    return st;
}
