/* ops_quant.c: between floats and the 8-bit numbers that stand for them. Source: the ONNX operator reference, QuantizeLinear and
 * DequantizeLinear of opsets 10 and 13. */
#include "ops.h"

#include <inttypes.h>
#include <math.h>

/* A scale (and a zero point) for all, or one for each index of an axis: elements of in[0] go [outer][n][inner]. */
typedef struct {
    const float *scale;
    const emb_arg *zero; /* NULL = 0 */
    int64_t outer, n, inner, scales, zeros;
} grid;

static float scale_of(const grid *g, int64_t k) { return g->scale[g->scales == 1 ? 0 : k]; }
static int64_t zero_of(const grid *g, int64_t k) { return g->zero != NULL ? emb_whole(g->zero, g->zeros == 1 ? 0 : k) : 0; }

static emb_status read_grid(emb_call *c, grid *g)
{
    const emb_type *x = &c->in[0].type, *s = &c->in[1].type;
    uint32_t axis = 0;
    if (s->dtype != EMB_F32) return emb_call_fail(c, EMB_EUNSUPPORTED, "a scale of %s", emb_dtype_name(s->dtype));
    if (emb_attr_i(c->node->proto, "block_size", 0) != 0) return emb_call_fail(c, EMB_EUNSUPPORTED, "quantised in blocks");
    *g = (grid){c->in[1].data, emb_has(c, 2) ? &c->in[2] : NULL, 1, emb_elements(s), emb_elements(x), emb_elements(s), 1};
    if (g->zero != NULL) g->zeros = emb_elements(&g->zero->type);
    if (g->n == 1) g->n = g->zeros; /* one scale, several zero points: MatMulInteger */
    if ((g->scales != g->n && g->scales != 1) || (g->zeros != g->n && g->zeros != 1) || g->n < 1 || s->rank > 1)
        return emb_call_fail(c, EMB_EFORMAT, "%" PRId64 " scales and %" PRId64 " zero points", g->scales, g->zeros);
    if (g->n == 1) return EMB_OK;
    emb_status st = emb_axis_of(c, emb_attr_i(c->node->proto, "axis", 1), x->rank, &axis);
    if (st != EMB_OK) return st;
    if (x->dims[axis] != g->n)
        return emb_call_fail(c, EMB_EFORMAT, "%" PRId64 " scales for the %" PRId64 " elements of axis %" PRIu32, g->n, x->dims[axis], axis);
    g->inner = 1;
    for (uint32_t d = 0; d < axis; d++) g->outer *= x->dims[d];
    for (uint32_t d = axis + 1; d < x->rank; d++) g->inner *= x->dims[d];
    return EMB_OK;
}

emb_status emb_op_dequantize_infer(emb_call *c)
{
    grid g;
    emb_dtype t = c->in[0].type.dtype;
    if (t != EMB_U8 && t != EMB_I8 && t != EMB_I32) return emb_call_fail(c, EMB_EUNSUPPORTED, "of %s", emb_dtype_name(t));
    if (emb_has(c, 2) && c->in[2].type.dtype != t) return emb_call_fail(c, EMB_EFORMAT, "the zero point has another type than the data");
    c->out[0].type = c->in[0].type;
    c->out[0].type.dtype = EMB_F32;
    return read_grid(c, &g);
}

emb_status emb_op_dequantize_run(emb_call *c)
{
    grid g;
    emb_status st = read_grid(c, &g);
    float *y = c->out[0].data;
    for (int64_t o = 0, at = 0; st == EMB_OK && o < g.outer; o++)
        for (int64_t k = 0; k < g.n; k++) {
            int64_t zero = zero_of(&g, k);
            float scale = scale_of(&g, k);
            for (int64_t end = at + g.inner; at < end; at++) y[at] = (float)(emb_whole(&c->in[0], at) - zero) * scale;
        }
    return st;
}

emb_status emb_op_quantize_infer(emb_call *c)
{
    grid g;
    emb_dtype from = c->in[0].type.dtype, to = emb_has(c, 2) ? c->in[2].type.dtype : (emb_dtype)emb_attr_i(c->node->proto, "output_dtype", EMB_U8);
    if (to == 0) to = EMB_U8; /* what the attribute says when it is written out and means nothing */
    if (from != EMB_F32 && from != EMB_I32) return emb_call_fail(c, EMB_EUNSUPPORTED, "of %s", emb_dtype_name(from));
    if (to != EMB_U8 && to != EMB_I8) return emb_call_fail(c, EMB_EUNSUPPORTED, "to %s (data type %d), not uint8 or int8", emb_dtype_name(to), (int)to);
    c->out[0].type = c->in[0].type;
    c->out[0].type.dtype = to;
    return read_grid(c, &g);
}

static uint8_t rounded(float x, float scale, float zero, float lo)
{
    float v = rintf(x / scale) + zero; /* ties to even; NaN is the least */
    return (uint8_t)(int)(!(v > lo) ? lo : v > lo + 255 ? lo + 255 : v);
}

emb_status emb_op_quantize_run(emb_call *c)
{
    grid g;
    emb_status st = read_grid(c, &g);
    bool f = c->in[0].type.dtype == EMB_F32;
    float lo = c->out[0].type.dtype == EMB_U8 ? 0 : -128;
    uint8_t *y = c->out[0].data;
    for (int64_t o = 0, at = 0; st == EMB_OK && o < g.outer; o++)
        for (int64_t k = 0; k < g.n; k++) {
            float zero = (float)zero_of(&g, k), scale = scale_of(&g, k);
            for (int64_t end = at + g.inner; at < end; at++)
                y[at] = rounded(f ? ((const float *)c->in[0].data)[at] : (float)((const int32_t *)c->in[0].data)[at], scale, zero, lo);
        }
    return st;
}

/* Of the numbers that come: y, its scale and its zero point, so that 0 is a number of the grid. */
emb_status emb_op_dynamic_quantize_infer(emb_call *c)
{
    if (c->n_out != 3) return emb_call_fail(c, EMB_EFORMAT, "%" PRIu32 " outputs", c->n_out);
    c->out[0].type = c->in[0].type;
    c->out[0].type.dtype = EMB_U8;
    c->out[1].type = (emb_type){.dtype = EMB_F32};
    c->out[2].type = (emb_type){.dtype = EMB_U8};
    return emb_want_float(c, 0);
}

emb_status emb_op_dynamic_quantize_run(emb_call *c)
{
    const float *x = c->in[0].data;
    float lo = 0, hi = 0;
    int64_t n = emb_elements(&c->in[0].type);
    for (int64_t i = 0; i < n; i++) lo = fminf(lo, x[i]), hi = fmaxf(hi, x[i]);
    float scale = (hi - lo) / 255, zero = scale > 0 ? rintf(fminf(255, fmaxf(0, -lo / scale))) : 0;
    for (int64_t i = 0; i < n; i++) ((uint8_t *)c->out[0].data)[i] = scale > 0 ? rounded(x[i], scale, zero, 0) : 0;
    *(float *)c->out[1].data = scale;
    *(uint8_t *)c->out[2].data = (uint8_t)zero;
    return EMB_OK;
}
