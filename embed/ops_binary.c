/* ops_binary.c: operators of several inputs that broadcast, over dense tensors. These loops are the definition; the plan
 * replaces the frequent ones. Sources: the ONNX operator reference, opsets 9 to 17. */
#include "ops.h"

#include <math.h>
#include <string.h>

/* ---- multidirectional broadcasting ---------------------------------------------------- */

emb_status emb_broadcast_type(emb_call *c, uint32_t first, uint32_t n, emb_type *out)
{
    out->rank = 0;
    for (uint32_t k = first; k < first + n; k++)
        if (c->in[k].type.rank > out->rank) out->rank = c->in[k].type.rank;
    for (uint32_t d = 0; d < out->rank; d++) {
        out->dims[d] = 1;
        for (uint32_t k = first; k < first + n; k++) {
            const emb_type *t = &c->in[k].type;
            if (d + t->rank < out->rank) continue;
            int64_t v = t->dims[d + t->rank - out->rank];
            if (v == 1) continue;
            if (out->dims[d] != 1 && out->dims[d] != v) return emb_call_fail(c, EMB_EFORMAT, "the inputs' shapes do not broadcast");
            out->dims[d] = v;
        }
    }
    return EMB_OK;
}

void emb_broadcast_steps(const emb_type *t, const emb_type *out, int64_t step[EMB_MAX_RANK])
{
    int64_t s = 1;
    memset(step, 0, EMB_MAX_RANK * sizeof *step);
    for (uint32_t d = t->rank; d-- > 0;) {
        step[d + out->rank - t->rank] = t->dims[d] == 1 ? 0 : s;
        s *= t->dims[d];
    }
}

void emb_broadcast_advance(const emb_type *out, int64_t index[EMB_MAX_RANK], int64_t (*steps)[EMB_MAX_RANK], int64_t *offset, int n)
{
    for (uint32_t d = out->rank; d-- > 0;) {
        index[d]++;
        for (int k = 0; k < n; k++) offset[k] += steps[k][d];
        if (index[d] < out->dims[d]) return;
        for (int k = 0; k < n; k++) offset[k] -= steps[k][d] * out->dims[d];
        index[d] = 0;
    }
}

static double real(const emb_arg *a, int64_t i)
{
    return a->type.dtype == EMB_F32 ? (double)((const float *)a->data)[i] : (double)emb_whole(a, i);
}

/* ---- arithmetic --------------------------------------------------------------------------------------- */

typedef enum { ADD, SUB, MUL, DIV, POW, MAX, MIN, MOD, FMOD } binary_op;

static binary_op binary_of(const emb_call *c)
{
    static const char *const name[] = {"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Mod"};
    size_t i = 0;
    if (strcmp(c->node->op->name, "Sum") == 0 || strcmp(c->node->op->name, "Mean") == 0) return ADD;
    while (strcmp(name[i], c->node->op->name) != 0) i++;
    return i == MOD && emb_attr_i(c->node->proto, "fmod", 0) != 0 ? FMOD : (binary_op)i;
}

static float f_binary(binary_op op, float a, float b)
{
    switch (op) {
    case ADD: return a + b;
    case SUB: return a - b;
    case MUL: return a * b;
    case DIV: return a / b;
    case POW: return powf(a, b);
    case MAX: return a > b || isnan(a) ? a : b;
    case MIN: return a < b || isnan(a) ? a : b;
    case FMOD: return fmodf(a, b);
    default: { /* of the divisor's sign */
        float r = fmodf(a, b);
        return r != 0 && (r < 0) != (b < 0) ? r + b : r == 0 ? copysignf(0, b) : r;
    }
    }
}

static int64_t i_mod(binary_op op, int64_t a, int64_t b)
{
    if (b == 0 || b == -1) return 0;
    int64_t r = a % b;
    return op == MOD && r != 0 && (r < 0) != (b < 0) ? r + b : r; /* of the divisor's sign; fmod: of the dividend's */
}

static int64_t i_binary(binary_op op, int64_t a, int64_t b)
{
    switch (op) { /* unsigned, so that hostile constants wrap instead of being undefined */
    case ADD: return (int64_t)((uint64_t)a + (uint64_t)b);
    case SUB: return (int64_t)((uint64_t)a - (uint64_t)b);
    case MUL: return (int64_t)((uint64_t)a * (uint64_t)b);
    case DIV: return b == 0 || (a == INT64_MIN && b == -1) ? 0 : a / b;
    case MAX: return a > b ? a : b;
    case MIN: return a < b ? a : b;
    default: return i_mod(op, a, b);
    }
}

/* A power as a whole number, of any base and exponent; 0 where there is none. */
static int64_t i_power(double base, double exponent)
{
    double v = pow(base, exponent);
    return v > -9.2e18 && v < 9.2e18 ? (int64_t)v : 0;
}

emb_status emb_op_binary_infer(emb_call *c)
{
    emb_dtype t = c->in[0].type.dtype;
    binary_op op = binary_of(c);
    bool ok = t == EMB_F32 || emb_is_whole(t);
    for (uint32_t i = 1; ok && i < c->n_in; i++) {
        emb_dtype other = c->in[i].type.dtype;
        ok = op == POW ? other == EMB_F32 || emb_is_whole(other) : other == t;
    }
    if (!ok) return emb_call_fail(c, EMB_EUNSUPPORTED, "of %s, or of several types", emb_dtype_name(t));
    c->out[0].type.dtype = t;
    return emb_broadcast_type(c, 0, c->n_in, &c->out[0].type);
}

/* out = out op in[k], or in[0] for k = 0. */
static void apply(emb_call *c, binary_op op, uint32_t k)
{
    int64_t steps[1][EMB_MAX_RANK], index[EMB_MAX_RANK] = {0}, at = 0;
    emb_arg *y = &c->out[0];
    const emb_arg *x = &c->in[k];
    emb_broadcast_steps(&x->type, &y->type, steps[0]);
    for (int64_t i = 0, n = emb_elements(&y->type); i < n; i++, emb_broadcast_advance(&y->type, index, steps, &at, 1)) {
        if (y->type.dtype == EMB_F32 && x->type.dtype == EMB_F32) {
            float *to = (float *)y->data + i, v = ((const float *)x->data)[at];
            *to = k == 0 ? v : f_binary(op, *to, v);
        } else if (y->type.dtype == EMB_F32) {
            ((float *)y->data)[i] = powf(((const float *)y->data)[i], (float)emb_whole(x, at));
        } else if (k > 0 && op == POW) {
            emb_put_whole(y, i, i_power((double)emb_whole(y, i), real(x, at)));
        } else {
            emb_put_whole(y, i, k == 0 ? emb_whole(x, at) : i_binary(op, emb_whole(y, i), emb_whole(x, at)));
        }
    }
}

emb_status emb_op_binary_run(emb_call *c)
{
    binary_op op = binary_of(c);
    for (uint32_t k = 0; k < c->n_in; k++) apply(c, op, k);
    bool mean = strcmp(c->node->op->name, "Mean") == 0 && c->out[0].type.dtype == EMB_F32;
    for (int64_t i = 0, n = mean ? emb_elements(&c->out[0].type) : 0; i < n; i++) ((float *)c->out[0].data)[i] /= (float)c->n_in;
    return EMB_OK;
}

emb_status emb_op_compare_infer(emb_call *c)
{
    emb_dtype a = c->in[0].type.dtype, b = c->in[1].type.dtype;
    if (a != b || (a != EMB_F32 && a != EMB_BOOL && !emb_is_whole(a)))
        return emb_call_fail(c, EMB_EUNSUPPORTED, "of %s and %s", emb_dtype_name(a), emb_dtype_name(b));
    c->out[0].type.dtype = EMB_BOOL;
    return emb_broadcast_type(c, 0, 2, &c->out[0].type);
}

emb_status emb_op_compare_run(emb_call *c)
{
    int64_t steps[2][EMB_MAX_RANK], index[EMB_MAX_RANK] = {0}, at[2] = {0, 0};
    const emb_type *t = &c->out[0].type;
    for (int k = 0; k < 2; k++) emb_broadcast_steps(&c->in[k].type, t, steps[k]);
    char op = c->node->op->name[0];
    bool or_equal = strstr(c->node->op->name, "OrEqual") != NULL; /* GreaterOrEqual, LessOrEqual */
    bool f = c->in[0].type.dtype == EMB_F32;
    for (int64_t i = 0, n = emb_elements(t); i < n; i++, emb_broadcast_advance(t, index, steps, at, 2)) {
        int order; /* NaN compares false */
        if (f) {
            float a = ((const float *)c->in[0].data)[at[0]], b = ((const float *)c->in[1].data)[at[1]];
            order = a < b ? -1 : a > b ? 1 : a == b ? 0 : 2;
        } else {
            int64_t a = emb_whole(&c->in[0], at[0]), b = emb_whole(&c->in[1], at[1]);
            order = a < b ? -1 : a > b;
        }
        bool yes = op == 'E' || (or_equal && order == 0) ? order == 0 : op == 'G' ? order == 1 : order == -1;
        ((uint8_t *)c->out[0].data)[i] = yes;
    }
    return EMB_OK;
}

emb_status emb_op_logic_infer(emb_call *c) /* And, Or, Xor */
{
    if (c->in[0].type.dtype != EMB_BOOL || c->in[1].type.dtype != EMB_BOOL) return emb_call_fail(c, EMB_EFORMAT, "needs booleans");
    c->out[0].type.dtype = EMB_BOOL;
    return emb_broadcast_type(c, 0, 2, &c->out[0].type);
}

emb_status emb_op_logic_run(emb_call *c)
{
    int64_t steps[2][EMB_MAX_RANK], index[EMB_MAX_RANK] = {0}, at[2] = {0, 0};
    const emb_type *t = &c->out[0].type;
    for (int k = 0; k < 2; k++) emb_broadcast_steps(&c->in[k].type, t, steps[k]);
    char op = c->node->op->name[0];
    for (int64_t i = 0, n = emb_elements(t); i < n; i++, emb_broadcast_advance(t, index, steps, at, 2)) {
        bool a = ((const uint8_t *)c->in[0].data)[at[0]] != 0, b = ((const uint8_t *)c->in[1].data)[at[1]] != 0;
        ((uint8_t *)c->out[0].data)[i] = op == 'A' ? a && b : op == 'O' ? a || b : a != b;
    }
    return EMB_OK;
}

emb_status emb_op_not_infer(emb_call *c)
{
    c->out[0].type = c->in[0].type;
    return c->in[0].type.dtype == EMB_BOOL ? EMB_OK : emb_call_fail(c, EMB_EFORMAT, "needs booleans");
}

emb_status emb_op_not_run(emb_call *c)
{
    for (int64_t i = 0, n = emb_elements(&c->in[0].type); i < n; i++) ((uint8_t *)c->out[0].data)[i] = ((const uint8_t *)c->in[0].data)[i] == 0;
    return EMB_OK;
}

emb_status emb_op_where_infer(emb_call *c)
{
    c->out[0].type.dtype = c->in[1].type.dtype;
    if (c->in[0].type.dtype != EMB_BOOL || c->in[1].type.dtype != c->in[2].type.dtype)
        return emb_call_fail(c, EMB_EFORMAT, "needs a boolean and two tensors of one type");
    return emb_broadcast_type(c, 0, 3, &c->out[0].type);
}

emb_status emb_op_where_run(emb_call *c)
{
    int64_t steps[3][EMB_MAX_RANK], index[EMB_MAX_RANK] = {0}, at[3] = {0, 0, 0};
    const emb_type *t = &c->out[0].type;
    size_t size = emb_dtype_size(t->dtype);
    for (int k = 0; k < 3; k++) emb_broadcast_steps(&c->in[k].type, t, steps[k]);
    for (int64_t i = 0, n = emb_elements(t); i < n; i++, emb_broadcast_advance(t, index, steps, at, 3)) {
        int from = ((const uint8_t *)c->in[0].data)[at[0]] ? 1 : 2;
        memcpy((char *)c->out[0].data + (size_t)i * size, (const char *)c->in[from].data + (size_t)at[from] * size, size);
    }
    return EMB_OK;
}

emb_status emb_op_prelu_infer(emb_call *c)
{
    c->out[0].type.dtype = EMB_F32;
    emb_status st = emb_want_float(c, 0);
    if (st == EMB_OK) st = emb_want_float(c, 1);
    return st == EMB_OK ? emb_broadcast_type(c, 0, 2, &c->out[0].type) : st;
}

emb_status emb_op_prelu_run(emb_call *c)
{
    int64_t steps[2][EMB_MAX_RANK], index[EMB_MAX_RANK] = {0}, at[2] = {0, 0};
    const emb_type *t = &c->out[0].type;
    for (int k = 0; k < 2; k++) emb_broadcast_steps(&c->in[k].type, t, steps[k]);
    for (int64_t i = 0, n = emb_elements(t); i < n; i++, emb_broadcast_advance(t, index, steps, at, 2)) {
        float x = ((const float *)c->in[0].data)[at[0]];
        ((float *)c->out[0].data)[i] = x < 0 ? x * ((const float *)c->in[1].data)[at[1]] : x;
    }
    return EMB_OK;
}

emb_status emb_op_expand_infer(emb_call *c)
{
    int64_t dims[EMB_MAX_RANK];
    uint32_t n;
    emb_status st = emb_const_ints(c, 1, dims, EMB_MAX_RANK, &n);
    if (st != EMB_OK) return st;
    emb_type t = c->in[0].type, want = {.dtype = t.dtype, .rank = n};
    memcpy(want.dims, dims, sizeof dims);
    emb_arg in[2] = {{t, NULL}, {want, NULL}};
    emb_call both = *c;
    both.in = in;
    c->out[0].type.dtype = t.dtype;
    return emb_broadcast_type(&both, 0, 2, &c->out[0].type);
}

emb_status emb_op_expand_run(emb_call *c)
{
    int64_t steps[1][EMB_MAX_RANK], index[EMB_MAX_RANK] = {0}, at = 0;
    const emb_type *t = &c->out[0].type;
    size_t size = emb_dtype_size(t->dtype);
    emb_broadcast_steps(&c->in[0].type, t, steps[0]);
    for (int64_t i = 0, n = emb_elements(t); i < n; i++, emb_broadcast_advance(t, index, steps, &at, 1))
        memcpy((char *)c->out[0].data + (size_t)i * size, (const char *)c->in[0].data + (size_t)at * size, size);
    return EMB_OK;
}
