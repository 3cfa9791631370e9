/* ops_norm.c: norms and softmax over dense tensors. Sources: the ONNX operator reference, opsets 9 to 28. */
#include "ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

emb_status emb_op_affine_infer(emb_call *c) /* BatchNormalization: scale, bias, mean, variance per channel */
{
    const emb_type *x = &c->in[0].type;
    for (uint32_t i = 0; i < 5; i++) {
        emb_status st = emb_want_float(c, i);
        if (st != EMB_OK) return st;
        if (x->rank < 2 || (i > 0 && emb_elements(&c->in[i].type) != x->dims[1]))
            return emb_call_fail(c, EMB_EFORMAT, "input %u must have one element a channel", i);
    }
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

/* By the mean and variance of the data themselves: exporters write weights that are standardised so. The other outputs are the running
 * mean and variance. */
emb_status emb_op_batch_stats_infer(emb_call *c)
{
    emb_status st = emb_op_affine_infer(c);
    return st == EMB_OK && emb_elements(&c->in[0].type) == 0 ? emb_call_fail(c, EMB_EFORMAT, "of nothing") : st;
}

emb_status emb_op_batch_stats_run(emb_call *c)
{
    const emb_type *t = &c->in[0].type;
    const float *x = c->in[0].data;
    float *y = c->out[0].data, momentum = emb_attr_f(c->node->proto, "momentum", 0.9f);
    double eps = (double)emb_attr_f(c->node->proto, "epsilon", 1e-5f);
    int64_t channels = t->dims[1], plane = 1, n = t->dims[0];
    for (uint32_t d = 2; d < t->rank; d++) plane *= t->dims[d];
    for (int64_t ch = 0; ch < channels; ch++) {
        double mean = 0, var = 0, count = (double)(n * plane);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < plane; j++) mean += (double)x[(i * channels + ch) * plane + j];
        mean /= count;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < plane; j++) {
                double d = (double)x[(i * channels + ch) * plane + j] - mean;
                var += d * d;
            }
        var /= count;
        double k = (double)((const float *)c->in[1].data)[ch] / sqrt(var + eps), shift = (double)((const float *)c->in[2].data)[ch] - mean * k;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < plane; j++) y[(i * channels + ch) * plane + j] = (float)((double)x[(i * channels + ch) * plane + j] * k + shift);
        const double now[2] = {mean, var};
        for (uint32_t o = 1; o < c->n_out && o < 3; o++)
            ((float *)c->out[o].data)[ch] = ((const float *)c->in[o + 2].data)[ch] * momentum + (float)now[o - 1] * (1 - momentum);
    }
    for (uint32_t o = 3; o < c->n_out; o++) memset(c->out[o].data, 0, emb_type_bytes(&c->out[o].type));
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
    bool log = strcmp(c->node->op->name, "LogSoftmax") == 0;
    const float *x = c->in[0].data;
    float *y = c->out[0].data;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            int64_t base = o * n * inner + i;
            float most = -INFINITY, sum = 0;
            for (int64_t k = 0; k < n; k++) most = fmaxf(most, x[base + k * inner]);
            for (int64_t k = 0; k < n; k++) sum += y[base + k * inner] = expf(x[base + k * inner] - most);
            for (int64_t k = 0; k < n; k++) {
                if (log) y[base + k * inner] = x[base + k * inner] - most - logf(sum);
                else y[base + k * inner] /= sum;
            }
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

/* Instances and groups: mean and variance over all that belongs to n / groups channels of one picture. Scale and bias are by channel;
 * until opset 20, GroupNormalization's are by group. */
static int64_t groups_of(const emb_call *c)
{
    return c->node->op->name[0] == 'I' ? c->in[0].type.dims[1] : emb_attr_i(c->node->proto, "num_groups", 0);
}

emb_status emb_op_group_norm_infer(emb_call *c)
{
    const emb_type *t = &c->in[0].type;
    for (uint32_t i = 0; i < 3; i++) {
        emb_status st = emb_want_float(c, i);
        if (st != EMB_OK) return st;
    }
    int64_t groups = t->rank >= 3 ? groups_of(c) : 0;
    if (groups < 1 || t->dims[1] % groups != 0) return emb_call_fail(c, EMB_EFORMAT, "the channels do not make whole groups");
    for (uint32_t i = 1; i < 3; i++)
        if (emb_elements(&c->in[i].type) != t->dims[1] && emb_elements(&c->in[i].type) != groups)
            return emb_call_fail(c, EMB_EFORMAT, "input %u must have one element a channel or a group", i);
    c->out[0].type = *t;
    return EMB_OK;
}

emb_status emb_op_group_norm_run(emb_call *c)
{
    const emb_type *t = &c->in[0].type;
    int64_t groups = groups_of(c), channels = t->dims[1], plane = 1;
    for (uint32_t d = 2; d < t->rank; d++) plane *= t->dims[d];
    double eps = (double)emb_attr_f(c->node->proto, "epsilon", 1e-5f);
    int64_t per = channels / groups, n = per * plane, scales = emb_elements(&c->in[1].type), biases = emb_elements(&c->in[2].type);
    for (int64_t g = 0; n > 0 && g < t->dims[0] * groups; g++) {
        const float *x = (const float *)c->in[0].data + g * n;
        float *y = (float *)c->out[0].data + g * n;
        double mean = 0, var = 0;
        for (int64_t i = 0; i < n; i++) mean += (double)x[i];
        mean /= (double)n;
        for (int64_t i = 0; i < n; i++) var += ((double)x[i] - mean) * ((double)x[i] - mean);
        double k = 1 / sqrt(var / (double)n + eps);
        for (int64_t i = 0; i < n; i++) {
            int64_t channel = g % groups * per + i / plane;
            double s = (double)((const float *)c->in[1].data)[scales == channels ? channel : channel / per];
            double b = (double)((const float *)c->in[2].data)[biases == channels ? channel : channel / per];
            y[i] = (float)(((double)x[i] - mean) * k * s + b);
        }
    }
    return EMB_OK;
}
