/* ops_math.c: functions of one input, products, norms and reductions over dense tensors. These loops are the definition;
 * the plan replaces the frequent ones. Sources: the ONNX operator reference, opsets 9 to 17. */
#include "ops.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- one input ---------------------------------------------------------------------------------- */

typedef struct {
    float a, b;
} params;
typedef float unary_fn(float x, params p);

static float f_abs(float x, params p) { return (void)p, fabsf(x); }
static float f_elu(float x, params p) { return x < 0 ? p.a * (expf(x) - 1) : x; }
static float f_erf(float x, params p) { return (void)p, erff(x); }
static float f_exp(float x, params p) { return (void)p, expf(x); }
static float f_floor(float x, params p) { return (void)p, floorf(x); }
static float f_hard_sigmoid(float x, params p) { return fmaxf(0, fminf(1, p.a * x + p.b)); }
static float f_hard_swish(float x, params p) { return (void)p, x * fmaxf(0, fminf(1, x / 6 + 0.5f)); }
static float f_leaky(float x, params p) { return x < 0 ? p.a * x : x; }
static float f_log(float x, params p) { return (void)p, logf(x); }
static float f_neg(float x, params p) { return (void)p, -x; }
static float f_reciprocal(float x, params p) { return (void)p, 1 / x; }
static float f_relu(float x, params p) { return (void)p, x > 0 ? x : 0; }
static float f_sigmoid(float x, params p) { return (void)p, 1 / (1 + expf(-x)); }
static float f_softplus(float x, params p) { return (void)p, x > 20 ? x : log1pf(expf(x)); }
static float f_sqrt(float x, params p) { return (void)p, sqrtf(x); }
static float f_tanh(float x, params p) { return (void)p, tanhf(x); }

static const struct {
    const char *name;
    unary_fn *fn;
    float alpha, beta; /* defaults of the attributes */
} unaries[] = {
    {"Abs", f_abs, 0, 0},         {"Elu", f_elu, 1, 0},         {"Erf", f_erf, 0, 0},
    {"Exp", f_exp, 0, 0},         {"Floor", f_floor, 0, 0},     {"HardSigmoid", f_hard_sigmoid, 0.2f, 0.5f},
    {"HardSwish", f_hard_swish, 0, 0}, {"LeakyRelu", f_leaky, 0.01f, 0}, {"Log", f_log, 0, 0},
    {"Neg", f_neg, 0, 0},         {"Reciprocal", f_reciprocal, 0, 0}, {"Relu", f_relu, 0, 0},
    {"Sigmoid", f_sigmoid, 0, 0}, {"Softplus", f_softplus, 0, 0}, {"Sqrt", f_sqrt, 0, 0},
    {"Tanh", f_tanh, 0, 0},
};

emb_status emb_op_unary_infer(emb_call *c)
{
    c->out[0].type = c->in[0].type;
    return emb_want_float(c, 0);
}

emb_status emb_op_unary_run(emb_call *c)
{
    const float *x = c->in[0].data;
    float *y = c->out[0].data;
    size_t n = (size_t)emb_elements(&c->in[0].type);
    for (size_t k = 0; k < sizeof unaries / sizeof *unaries; k++) {
        if (strcmp(unaries[k].name, c->node->op->name) != 0) continue;
        params p = {emb_attr_f(c->node->proto, "alpha", unaries[k].alpha), emb_attr_f(c->node->proto, "beta", unaries[k].beta)};
        for (size_t i = 0; i < n; i++) y[i] = unaries[k].fn(x[i], p);
        return EMB_OK;
    }
    return emb_call_fail(c, EMB_EUNSUPPORTED, "no such function");
}

emb_status emb_op_clip_infer(emb_call *c)
{
    c->out[0].type = c->in[0].type;
    for (uint32_t i = 1; i < 3; i++)
        if (emb_has(c, i) && (c->in[i].type.dtype != c->in[0].type.dtype || emb_elements(&c->in[i].type) != 1))
            return emb_call_fail(c, EMB_EFORMAT, "input %u is not one number of the data's type", i);
    return emb_is_whole(c->in[0].type.dtype) ? EMB_OK : emb_want_float(c, 0);
}

emb_status emb_op_clip_run(emb_call *c)
{
    int64_t n = emb_elements(&c->in[0].type);
    if (c->in[0].type.dtype != EMB_F32) {
        int64_t lo = emb_has(c, 1) ? emb_whole(&c->in[1], 0) : INT64_MIN, hi = emb_has(c, 2) ? emb_whole(&c->in[2], 0) : INT64_MAX;
        for (int64_t i = 0; i < n; i++) {
            int64_t v = emb_whole(&c->in[0], i);
            v = v < lo ? lo : v;
            emb_put_whole(&c->out[0], i, v > hi ? hi : v);
        }
        return EMB_OK;
    }
    float lo = emb_attr_f(c->node->proto, "min", -INFINITY), hi = emb_attr_f(c->node->proto, "max", INFINITY);
    if (emb_has(c, 1)) lo = *(const float *)c->in[1].data;
    if (emb_has(c, 2)) hi = *(const float *)c->in[2].data;
    const float *x = c->in[0].data;
    float *y = c->out[0].data;
    for (int64_t i = 0; i < n; i++) y[i] = fminf(fmaxf(x[i], lo), hi);
    return EMB_OK;
}

/* ---- products ------------------------------------------------------------------------------------ */

emb_status emb_op_gemm_infer(emb_call *c)
{
    emb_status st = emb_want_float(c, 0);
    if (st == EMB_OK) st = emb_want_float(c, 1);
    if (st == EMB_OK && emb_has(c, 2)) st = emb_want_float(c, 2);
    if (st != EMB_OK) return st;
    const emb_type *a = &c->in[0].type, *b = &c->in[1].type;
    if (a->rank != 2 || b->rank != 2) return emb_call_fail(c, EMB_EFORMAT, "needs two matrices");
    bool ta = emb_attr_i(c->node->proto, "transA", 0) != 0, tb = emb_attr_i(c->node->proto, "transB", 0) != 0;
    if (a->dims[!ta] != b->dims[tb]) return emb_call_fail(c, EMB_EFORMAT, "the matrices' inner dimensions differ");
    emb_type t = {EMB_F32, 2, {a->dims[ta], b->dims[!tb]}};
    if (emb_has(c, 2)) { /* unidirectional: C must fit */
        const emb_type *x = &c->in[2].type;
        for (uint32_t d = 0; d < x->rank; d++)
            if (x->rank > 2 || (x->dims[d] != 1 && x->dims[d] != t.dims[d + 2 - x->rank]))
                return emb_call_fail(c, EMB_EFORMAT, "C does not broadcast to the product");
    }
    c->out[0].type = t;
    return EMB_OK;
}

emb_status emb_op_gemm_run(emb_call *c)
{
    bool ta = emb_attr_i(c->node->proto, "transA", 0) != 0, tb = emb_attr_i(c->node->proto, "transB", 0) != 0;
    float alpha = emb_attr_f(c->node->proto, "alpha", 1), beta = emb_attr_f(c->node->proto, "beta", 1);
    const emb_type *t = &c->out[0].type;
    int64_t m = t->dims[0], n = t->dims[1], k = c->in[0].type.dims[!ta];
    float *y = c->out[0].data;
    memset(y, 0, emb_type_bytes(t));
    if (emb_has(c, 2)) {
        int64_t step[EMB_MAX_RANK];
        emb_broadcast_steps(&c->in[2].type, t, step);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) y[i * n + j] = beta * ((const float *)c->in[2].data)[i * step[0] + j * step[1]];
    }
    if (m > 0 && n > 0 && k > 0)
        cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, alpha,
                    c->in[0].data, (int)(ta ? m : k), c->in[1].data, (int)(tb ? k : n), 1, y, (int)n);
    return EMB_OK;
}

emb_status emb_op_matmul_infer(emb_call *c)
{
    emb_status st = emb_want_float(c, 0);
    if (st == EMB_OK) st = emb_want_float(c, 1);
    if (st != EMB_OK) return st;
    emb_type a = c->in[0].type, b = c->in[1].type;
    if (a.rank < 2 || b.rank < 2) return emb_call_fail(c, EMB_EUNSUPPORTED, "needs matrices (rank 2 or more)");
    if (a.dims[a.rank - 1] != b.dims[b.rank - 2]) return emb_call_fail(c, EMB_EFORMAT, "the matrices' inner dimensions differ");
    int64_t m = a.dims[a.rank - 2], n = b.dims[b.rank - 1];
    a.dims[a.rank - 1] = a.dims[a.rank - 2] = b.dims[b.rank - 1] = b.dims[b.rank - 2] = 1;
    emb_arg in[2] = {{a, NULL}, {b, NULL}};
    emb_call both = *c;
    both.in = in;
    emb_type *t = &c->out[0].type;
    t->dtype = EMB_F32;
    st = emb_broadcast_type(&both, 0, 2, t);
    if (st != EMB_OK) return st;
    t->dims[t->rank - 2] = m;
    t->dims[t->rank - 1] = n;
    return EMB_OK;
}

emb_status emb_op_matmul_run(emb_call *c)
{
    const emb_type *a = &c->in[0].type, *b = &c->in[1].type;
    emb_type t = c->out[0].type, ta = *a, tb = *b;
    int64_t m = t.dims[t.rank - 2], n = t.dims[t.rank - 1], k = a->dims[a->rank - 1];
    if (m == 0 || n == 0) return EMB_OK;
    t.rank -= 2, ta.rank -= 2, tb.rank -= 2; /* what is left walks the batch */
    int64_t steps[2][EMB_MAX_RANK], index[EMB_MAX_RANK] = {0}, at[2] = {0, 0};
    emb_broadcast_steps(&ta, &t, steps[0]);
    emb_broadcast_steps(&tb, &t, steps[1]);
    for (int64_t i = 0, batch = emb_elements(&t); i < batch; i++, emb_broadcast_advance(&t, index, steps, at, 2)) {
        float *y = (float *)c->out[0].data + i * m * n;
        memset(y, 0, (size_t)(m * n) * sizeof *y);
        if (k > 0)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)m, (int)n, (int)k, 1,
                        (const float *)c->in[0].data + at[0] * m * k, (int)k, (const float *)c->in[1].data + at[1] * k * n, (int)n,
                        0, y, (int)n);
    }
    return EMB_OK;
}

/* ---- norms ---------------------------------------------------------------------------------------- */

emb_status emb_op_affine_infer(emb_call *c) /* BatchNormalization: scale, bias, mean, variance per channel */
{
    const emb_type *x = &c->in[0].type;
    for (uint32_t i = 0; i < 5; i++) {
        emb_status st = emb_want_float(c, i);
        if (st != EMB_OK) return st;
        if (x->rank < 2 || (i > 0 && emb_elements(&c->in[i].type) != x->dims[1]))
            return emb_call_fail(c, EMB_EFORMAT, "input %u must have one element a channel", i);
    }
    if (c->n_out > 1 && emb_attr_i(c->node->proto, "training_mode", 0) != 0)
        return emb_call_fail(c, EMB_EUNSUPPORTED, "training mode");
    for (uint32_t i = 1; i < c->n_out; i++) c->out[i].type = c->in[3].type;
    c->out[0].type = *x;
    return EMB_OK;
}

emb_status emb_op_affine_run(emb_call *c)
{
    const emb_type *t = &c->in[0].type;
    const float *x = c->in[0].data, *s = c->in[1].data, *b = c->in[2].data, *mean = c->in[3].data, *var = c->in[4].data;
    float *y = c->out[0].data, eps = emb_attr_f(c->node->proto, "epsilon", 1e-5f);
    int64_t channels = t->dims[1], plane = 1;
    for (uint32_t d = 2; d < t->rank; d++) plane *= t->dims[d];
    for (int64_t i = 0; i < t->dims[0] * channels; i++) {
        int64_t ch = i % channels;
        float k = s[ch] / sqrtf(var[ch] + eps), shift = b[ch] - mean[ch] * k;
        for (int64_t j = 0; j < plane; j++) y[i * plane + j] = x[i * plane + j] * k + shift;
    }
    for (uint32_t o = 1; o < c->n_out; o++) memset(c->out[o].data, 0, emb_type_bytes(&c->out[o].type));
    return EMB_OK;
}

/* [outer][n][inner] around an axis. */
static void around(const emb_type *t, uint32_t axis, int64_t *outer, int64_t *n, int64_t *inner)
{
    *outer = *inner = 1;
    for (uint32_t d = 0; d < axis; d++) *outer *= t->dims[d];
    for (uint32_t d = axis + 1; d < t->rank; d++) *inner *= t->dims[d];
    *n = t->dims[axis];
}

emb_status emb_op_softmax_infer(emb_call *c)
{
    uint32_t axis;
    c->out[0].type = c->in[0].type;
    emb_status st = emb_want_float(c, 0);
    return st != EMB_OK ? st : emb_axis_of(c, emb_attr_i(c->node->proto, "axis", c->g->opset < 13 ? 1 : -1), c->in[0].type.rank, &axis);
}

emb_status emb_op_softmax_run(emb_call *c)
{
    uint32_t axis;
    int64_t outer, n, inner;
    emb_status st = emb_axis_of(c, emb_attr_i(c->node->proto, "axis", c->g->opset < 13 ? 1 : -1), c->in[0].type.rank, &axis);
    if (st != EMB_OK) return st;
    around(&c->in[0].type, axis, &outer, &n, &inner);
    if (c->g->opset < 13) n *= inner, inner = 1; /* until 12 everything behind the axis is one row */
    const float *x = c->in[0].data;
    float *y = c->out[0].data;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            int64_t base = o * n * inner + i;
            float most = -INFINITY, sum = 0;
            for (int64_t k = 0; k < n; k++) most = fmaxf(most, x[base + k * inner]);
            for (int64_t k = 0; k < n; k++) sum += y[base + k * inner] = expf(x[base + k * inner] - most);
            for (int64_t k = 0; k < n; k++) y[base + k * inner] /= sum;
        }
    return EMB_OK;
}

emb_status emb_op_layer_norm_infer(emb_call *c)
{
    uint32_t axis;
    emb_status st = emb_want_float(c, 0);
    if (st == EMB_OK) st = emb_axis_of(c, emb_attr_i(c->node->proto, "axis", -1), c->in[0].type.rank, &axis);
    if (st != EMB_OK) return st;
    int64_t outer, n, inner;
    around(&c->in[0].type, axis, &outer, &n, &inner);
    for (uint32_t i = 1; i < c->n_in; i++)
        if (emb_has(c, i) && (c->in[i].type.dtype != EMB_F32 || emb_elements(&c->in[i].type) != n * inner))
            return emb_call_fail(c, EMB_EUNSUPPORTED, "scale and bias must have the normalised shape");
    for (uint32_t i = 0; i < c->n_out; i++) { /* the second and third are the mean and 1 / deviation */
        c->out[i].type = c->in[0].type;
        for (uint32_t d = axis; i > 0 && d < c->in[0].type.rank; d++) c->out[i].type.dims[d] = 1;
    }
    return EMB_OK;
}

emb_status emb_op_layer_norm_run(emb_call *c)
{
    uint32_t axis;
    int64_t outer, n, inner;
    emb_status st = emb_axis_of(c, emb_attr_i(c->node->proto, "axis", -1), c->in[0].type.rank, &axis);
    if (st != EMB_OK) return st;
    around(&c->in[0].type, axis, &outer, &n, &inner);
    n *= inner;
    float eps = emb_attr_f(c->node->proto, "epsilon", 1e-5f);
    const float *s = c->in[1].data, *b = emb_has(c, 2) ? c->in[2].data : NULL;
    for (int64_t o = 0; o < outer; o++) {
        const float *x = (const float *)c->in[0].data + o * n;
        float *y = (float *)c->out[0].data + o * n;
        double mean = 0, var = 0;
        for (int64_t i = 0; i < n; i++) mean += (double)x[i];
        mean /= (double)n;
        for (int64_t i = 0; i < n; i++) var += ((double)x[i] - mean) * ((double)x[i] - mean);
        float k = (float)(1 / sqrt(var / (double)n + (double)eps));
        for (int64_t i = 0; i < n; i++) y[i] = (x[i] - (float)mean) * k * s[i] + (b != NULL ? b[i] : 0);
        if (c->n_out > 1) ((float *)c->out[1].data)[o] = (float)mean;
        if (c->n_out > 2) ((float *)c->out[2].data)[o] = k;
    }
    return EMB_OK;
}

emb_status emb_op_lp_norm_infer(emb_call *c)
{
    uint32_t axis;
    c->out[0].type = c->in[0].type;
    emb_status st = emb_want_float(c, 0);
    return st != EMB_OK ? st : emb_axis_of(c, emb_attr_i(c->node->proto, "axis", -1), c->in[0].type.rank, &axis);
}

emb_status emb_op_lp_norm_run(emb_call *c)
{
    uint32_t axis;
    int64_t outer, n, inner;
    emb_status st = emb_axis_of(c, emb_attr_i(c->node->proto, "axis", -1), c->in[0].type.rank, &axis);
    if (st != EMB_OK) return st;
    around(&c->in[0].type, axis, &outer, &n, &inner);
    bool l1 = emb_attr_i(c->node->proto, "p", 2) == 1;
    const float *x = c->in[0].data;
    float *y = c->out[0].data;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            int64_t base = o * n * inner + i;
            double sum = 0;
            for (int64_t k = 0; k < n; k++) {
                double v = (double)x[base + k * inner];
                sum += l1 ? fabs(v) : v * v;
            }
            sum = l1 ? sum : sqrt(sum);
            for (int64_t k = 0; k < n; k++) y[base + k * inner] = sum == 0 ? 0 : (float)((double)x[base + k * inner] / sum);
        }
    return EMB_OK;
}

emb_status emb_op_lrn_infer(emb_call *c)
{
    c->out[0].type = c->in[0].type;
    if (c->in[0].type.rank < 2 || emb_attr_i(c->node->proto, "size", 0) < 1) return emb_call_fail(c, EMB_EFORMAT, "needs channels and a size");
    return emb_want_float(c, 0);
}

emb_status emb_op_lrn_run(emb_call *c)
{
    const Onnx__Node *p = c->node->proto;
    double alpha = (double)emb_attr_f(p, "alpha", 1e-4f), beta = (double)emb_attr_f(p, "beta", 0.75f), bias = (double)emb_attr_f(p, "bias", 1);
    int64_t size = emb_attr_i(p, "size", 1), outer, n, inner;
    around(&c->in[0].type, 1, &outer, &n, &inner);
    const float *x = c->in[0].data;
    float *y = c->out[0].data;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t ch = 0; ch < n; ch++)
            for (int64_t i = 0; i < inner; i++) {
                double sum = 0;
                int64_t from = ch - (size - 1) / 2, to = ch + size / 2;
                for (int64_t k = from < 0 ? 0 : from; k <= to && k < n; k++) {
                    double v = (double)x[(o * n + k) * inner + i];
                    sum += v * v;
                }
                int64_t at = (o * n + ch) * inner + i;
                y[at] = (float)((double)x[at] / pow(bias + alpha / (double)size * sum, beta));
            }
    return EMB_OK;
}

/* ---- reductions ----------------------------------------------------------------------------------- */

static emb_status reduced_axes(emb_call *c, bool reduced[EMB_MAX_RANK])
{
    int64_t axes[EMB_MAX_RANK];
    uint32_t n = 0, rank = c->in[0].type.rank, axis;
    int given = emb_attr_ints(c->node->proto, "axes", axes, EMB_MAX_RANK);
    if (given > EMB_MAX_RANK) return emb_call_fail(c, EMB_EFORMAT, "too many axes");
    if (given > 0) n = (uint32_t)given;
    if (emb_has(c, 1)) {
        emb_status st = emb_const_ints(c, 1, axes, EMB_MAX_RANK, &n);
        if (st != EMB_OK) return st;
    }
    bool all = n == 0 && emb_attr_i(c->node->proto, "noop_with_empty_axes", 0) == 0;
    for (uint32_t d = 0; d < EMB_MAX_RANK; d++) reduced[d] = all;
    for (uint32_t i = 0; i < n; i++) {
        emb_status st = emb_axis_of(c, axes[i], rank, &axis);
        if (st != EMB_OK) return st;
        reduced[axis] = true;
    }
    return EMB_OK;
}

emb_status emb_op_reduce_infer(emb_call *c)
{
    bool reduced[EMB_MAX_RANK];
    emb_status st = emb_want_float(c, 0);
    if (st == EMB_OK) st = reduced_axes(c, reduced);
    if (st != EMB_OK) return st;
    const emb_type *x = &c->in[0].type;
    emb_type *y = &c->out[0].type;
    *y = (emb_type){.dtype = EMB_F32};
    for (uint32_t d = 0; d < x->rank; d++) {
        if (!reduced[d]) y->dims[y->rank++] = x->dims[d];
        else if (emb_attr_i(c->node->proto, "keepdims", 1) != 0) y->dims[y->rank++] = 1;
    }
    return EMB_OK;
}

emb_status emb_op_reduce_run(emb_call *c)
{
    bool reduced[EMB_MAX_RANK];
    emb_status st = reduced_axes(c, reduced);
    if (st != EMB_OK) return st;
    const emb_type *x = &c->in[0].type;
    int64_t steps[1][EMB_MAX_RANK] = {{0}}, index[EMB_MAX_RANK] = {0}, at = 0, s = 1, n = emb_elements(x), per = 1;
    for (uint32_t d = x->rank; d-- > 0;) {
        if (reduced[d]) per *= x->dims[d];
        else steps[0][d] = s, s *= x->dims[d];
    }
    const char *op = c->node->op->name + 6;
    bool most = strcmp(op, "Max") == 0, least = strcmp(op, "Min") == 0, square = strcmp(op, "L2") == 0;
    size_t outs = (size_t)emb_elements(&c->out[0].type);
    double *sum = malloc((outs + 1) * sizeof *sum);
    if (sum == NULL) return emb_call_fail(c, EMB_ENOMEM, "no memory");
    for (size_t i = 0; i < outs; i++) sum[i] = most ? -INFINITY : least ? INFINITY : 0;
    for (int64_t i = 0; i < n; i++, emb_broadcast_advance(x, index, steps, &at, 1)) {
        double v = (double)((const float *)c->in[0].data)[i];
        if (most) sum[at] = fmax(sum[at], v);
        else if (least) sum[at] = fmin(sum[at], v);
        else sum[at] += square ? v * v : v;
    }
    for (size_t i = 0; i < outs; i++) {
        double v = strcmp(op, "Mean") == 0 ? sum[i] / (double)per : square ? sqrt(sum[i]) : sum[i];
        ((float *)c->out[0].data)[i] = (float)v;
    }
    free(sum);
    return EMB_OK;
}
