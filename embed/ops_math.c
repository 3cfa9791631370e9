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
static float f_ceil(float x, params p) { return (void)p, ceilf(x); }
static float f_celu(float x, params p) { return x > 0 ? x : p.a * expm1f(x / p.a); }
static float f_elu(float x, params p) { return x < 0 ? p.a * (expf(x) - 1) : x; }
static float f_erf(float x, params p) { return (void)p, erff(x); }
static float f_exp(float x, params p) { return (void)p, expf(x); }
static float f_floor(float x, params p) { return (void)p, floorf(x); }
static float f_gelu(float x, params p) /* p.a: by tanh */
{
    if (p.a == 0) return 0.5f * x * (1 + erff(x * 0.70710678f));
    return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
}
static float f_hard_sigmoid(float x, params p) { return fmaxf(0, fminf(1, p.a * x + p.b)); }
static float f_hard_swish(float x, params p) { return (void)p, x * fmaxf(0, fminf(1, x / 6 + 0.5f)); }
static float f_leaky(float x, params p) { return x < 0 ? p.a * x : x; }
static float f_log(float x, params p) { return (void)p, logf(x); }
static float f_mish(float x, params p) { return (void)p, x * tanhf(x > 20 ? x : log1pf(expf(x))); }
static float f_neg(float x, params p) { return (void)p, -x; }
static float f_reciprocal(float x, params p) { return (void)p, 1 / x; }
static float f_relu(float x, params p) { return (void)p, x > 0 ? x : 0; }
static float f_round(float x, params p) { return (void)p, rintf(x); } /* ties to even */
static float f_selu(float x, params p) { return p.b * (x > 0 ? x : p.a * expm1f(x)); }
static float f_sigmoid(float x, params p) { return (void)p, 1 / (1 + expf(-x)); }
static float f_softplus(float x, params p) { return (void)p, x > 20 ? x : log1pf(expf(x)); }
static float f_sign(float x, params p) { return (void)p, (float)((x > 0) - (x < 0)); }
static float f_softsign(float x, params p) { return (void)p, x / (1 + fabsf(x)); }
static float f_sqrt(float x, params p) { return (void)p, sqrtf(x); }
static float f_tanh(float x, params p) { return (void)p, tanhf(x); }
static float f_thresholded(float x, params p) { return x > p.a ? x : 0; }

static const struct {
    const char *name;
    unary_fn *fn;
    float alpha, beta; /* defaults of the attributes */
} unaries[] = {
    {"Abs", f_abs, 0, 0},         {"Ceil", f_ceil, 0, 0},       {"Celu", f_celu, 1, 0},
    {"Gelu", f_gelu, 0, 0},       {"Mish", f_mish, 0, 0},       {"Round", f_round, 0, 0},
    {"Selu", f_selu, 1.67326324f, 1.05070098f}, {"Sign", f_sign, 0, 0}, {"Softsign", f_softsign, 0, 0},
    {"ThresholdedRelu", f_thresholded, 1, 0}, {"com.microsoft.Gelu", f_gelu, 0, 0}, {"Elu", f_elu, 1, 0},         {"Erf", f_erf, 0, 0},
    {"Exp", f_exp, 0, 0},         {"Floor", f_floor, 0, 0},     {"HardSigmoid", f_hard_sigmoid, 0.2f, 0.5f},
    {"HardSwish", f_hard_swish, 0, 0}, {"LeakyRelu", f_leaky, 0.01f, 0}, {"Log", f_log, 0, 0},
    {"Neg", f_neg, 0, 0},         {"Reciprocal", f_reciprocal, 0, 0}, {"Relu", f_relu, 0, 0},
    {"Sigmoid", f_sigmoid, 0, 0}, {"Softplus", f_softplus, 0, 0}, {"Sqrt", f_sqrt, 0, 0},
    {"Tanh", f_tanh, 0, 0},
};

/* Of whole numbers: Abs, Neg, Relu and Sign. */
static bool of_whole(const emb_call *c)
{
    const char *op = c->node->op->name;
    return emb_is_whole(c->in[0].type.dtype) && (strcmp(op, "Abs") == 0 || strcmp(op, "Neg") == 0 || strcmp(op, "Relu") == 0 || strcmp(op, "Sign") == 0);
}

emb_status emb_op_unary_infer(emb_call *c)
{
    c->out[0].type = c->in[0].type;
    return of_whole(c) ? EMB_OK : emb_want_float(c, 0);
}

static emb_status run_whole(emb_call *c)
{
    char op = c->node->op->name[0];
    for (int64_t i = 0, n = emb_elements(&c->in[0].type); i < n; i++) {
        int64_t v = emb_whole(&c->in[0], i), negative = (int64_t)(0 - (uint64_t)v);
        emb_put_whole(&c->out[0], i, op == 'S' ? (v > 0) - (v < 0) : op == 'R' ? (v > 0 ? v : 0) : op == 'N' || v < 0 ? negative : v);
    }
    return EMB_OK;
}

emb_status emb_op_unary_run(emb_call *c)
{
    if (of_whole(c)) return run_whole(c);
    const float *x = c->in[0].data;
    float *y = c->out[0].data;
    size_t n = (size_t)emb_elements(&c->in[0].type);
    for (size_t k = 0; k < sizeof unaries / sizeof *unaries; k++) {
        if (strcmp(unaries[k].name, c->node->op->name) != 0) continue;
        params p = {emb_attr_f(c->node->proto, "alpha", unaries[k].alpha), emb_attr_f(c->node->proto, "beta", unaries[k].beta)};
        if (unaries[k].fn == f_selu) p.b = emb_attr_f(c->node->proto, "gamma", unaries[k].beta);
        if (unaries[k].fn == f_gelu) p.a = emb_attr_is(c->node->proto, "approximate", "tanh");
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

/* A vector on the left is a row, one on the right a column: a dimension of 1, which the result does not have. */
static bool as_matrix(emb_type *t, bool left)
{
    if (t->rank != 1) return false;
    t->dims[1] = left ? t->dims[0] : 1;
    if (left) t->dims[0] = 1;
    t->rank = 2;
    return true;
}

emb_status emb_op_matmul_infer(emb_call *c)
{
    emb_status st = emb_want_float(c, 0);
    if (st == EMB_OK) st = emb_want_float(c, 1);
    if (st != EMB_OK) return st;
    emb_type a = c->in[0].type, b = c->in[1].type;
    if (a.rank < 1 || b.rank < 1) return emb_call_fail(c, EMB_EFORMAT, "needs vectors or matrices");
    bool row = as_matrix(&a, true), column = as_matrix(&b, false);
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
    if (row) t->dims[t->rank - 2] = n, t->rank--;
    if (column) t->rank--;
    return EMB_OK;
}

emb_status emb_op_matmul_run(emb_call *c)
{
    emb_type ta = c->in[0].type, tb = c->in[1].type, t = c->out[0].type;
    bool row = as_matrix(&ta, true), column = as_matrix(&tb, false);
    int64_t m = ta.dims[ta.rank - 2], n = tb.dims[tb.rank - 1], k = ta.dims[ta.rank - 1];
    if (m == 0 || n == 0) return EMB_OK;
    t.rank += (uint32_t)row + (uint32_t)column;
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
