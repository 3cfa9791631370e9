/* ops_reduce.c: sums, means, extremes and their kin over axes. Sources: the ONNX operator reference, opsets 9 to 28. */
#include "ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static emb_status reduced_axes(emb_call *c, bool reduced[EMB_MAX_RANK])
{
    bool none;
    emb_status st = emb_axes_of(c, c->in[0].type.rank, reduced, &none);
    const bool all = st == EMB_OK && none && emb_attr_i(c->node->proto, "noop_with_empty_axes", 0) == 0;
    for (uint32_t d = 0; all && d < EMB_MAX_RANK; d++) reduced[d] = true;
    return st;
}

emb_status emb_op_reduce_infer(emb_call *c)
{
    bool reduced[EMB_MAX_RANK];
    const emb_type *x = &c->in[0].type;
    emb_type *y = &c->out[0].type;
    if (x->dtype != EMB_F32 && !emb_is_whole(x->dtype) && x->dtype != EMB_BOOL) return emb_call_fail(c, EMB_EUNSUPPORTED, "of %s", emb_dtype_name(x->dtype));
    emb_status st = reduced_axes(c, reduced);
    if (st != EMB_OK) return st;
    *y = (emb_type){.dtype = x->dtype};
    for (uint32_t d = 0; d < x->rank; d++) {
        if (!reduced[d]) y->dims[y->rank++] = x->dims[d];
        else if (emb_attr_i(c->node->proto, "keepdims", 1) != 0) y->dims[y->rank++] = 1;
    }
    return EMB_OK;
}

typedef enum { L1, L2, LOG_SUM, LOG_SUM_EXP, MAX, MEAN, MIN, PROD, SUM, SUM_SQUARE } reduction;

static reduction reduction_of(const emb_call *c)
{
    static const char *const name[] = {"L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"};
    size_t i = 0;
    while (strcmp(name[i], c->node->op->name + strlen("Reduce")) != 0) i++;
    return (reduction)i;
}

static double gather(reduction op, double sum, double v)
{
    switch (op) {
    case L1: return sum + fabs(v);
    case L2: case SUM_SQUARE: return sum + v * v;
    case LOG_SUM_EXP: return sum + exp(v);
    case MAX: return fmax(sum, v);
    case MIN: return fmin(sum, v);
    case PROD: return sum * v;
    default: return sum + v;
    }
}

static double finish(reduction op, double sum, int64_t per)
{
    switch (op) {
    case L2: return sqrt(sum);
    case LOG_SUM: case LOG_SUM_EXP: return log(sum);
    case MEAN: return sum / (double)per;
    default: return sum;
    }
}

/* In double: whole numbers are exact as long as the result is below 2^53. */
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
    reduction op = reduction_of(c);
    bool f = x->dtype == EMB_F32;
    size_t outs = (size_t)emb_elements(&c->out[0].type);
    double *sum = malloc((outs + 1) * sizeof *sum), none = op == MAX ? -INFINITY : op == MIN ? INFINITY : op == PROD ? 1 : 0;
    if (sum == NULL) return emb_call_fail(c, EMB_ENOMEM, "no memory");
    for (size_t i = 0; i < outs; i++) sum[i] = none;
    for (int64_t i = 0; i < n; i++, emb_broadcast_advance(x, index, steps, &at, 1))
        sum[at] = gather(op, sum[at], f ? (double)((const float *)c->in[0].data)[i] : (double)emb_whole(&c->in[0], i));
    for (size_t i = 0; i < outs; i++) {
        double v = finish(op, sum[i], per);
        if (f) ((float *)c->out[0].data)[i] = (float)v;
        else if (x->dtype == EMB_BOOL) ((uint8_t *)c->out[0].data)[i] = v >= 1; /* of nothing: false is the most and true the least */
        else emb_put_whole(&c->out[0], (int64_t)i, v >= 9.2e18 ? INT64_MAX : v <= -9.2e18 ? INT64_MIN : v == v ? (int64_t)v : 0);
    }
    free(sum);
    return EMB_OK;
}
