/* ops_quant.c: between floats and the 8-bit numbers that stand for them. Source: the ONNX operator reference, QuantizeLinear and
 * DequantizeLinear of opsets 10 and 13. */
#include "ops.h"

#include <inttypes.h>
#include <math.h>

/* A scale (and a zero point) for all, or one for each index of an axis: elements of in[0] go [outer][n][inner]. */
typedef struct {
    const float *scale;
    const emb_arg *zero; /* NULL = 0 */
    int64_t outer, n, inner;
} grid;

static emb_status read_grid(emb_call *c, grid *g)
{
    const emb_type *x = &c->in[0].type, *s = &c->in[1].type;
    uint32_t axis = 0;
    if (s->dtype != EMB_F32) return emb_call_fail(c, EMB_EUNSUPPORTED, "a scale of %s", emb_dtype_name(s->dtype));
    if (emb_attr_i(c->node->proto, "block_size", 0) != 0) return emb_call_fail(c, EMB_EUNSUPPORTED, "quantised in blocks");
    *g = (grid){c->in[1].data, emb_has(c, 2) ? &c->in[2] : NULL, 1, emb_elements(s), emb_elements(x)};
    if (g->zero != NULL && emb_elements(&g->zero->type) != g->n)
        return emb_call_fail(c, EMB_EFORMAT, "%" PRId64 " scales and %" PRId64 " zero points", g->n, emb_elements(&g->zero->type));
    if (g->n == 1 && s->rank <= 1) return EMB_OK;
    emb_status st = emb_axis_of(c, emb_attr_i(c->node->proto, "axis", 1), x->rank, &axis);
    if (st != EMB_OK) return st;
    if (s->rank != 1 || x->dims[axis] != g->n)
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
            int64_t zero = g.zero != NULL ? emb_whole(g.zero, k) : 0;
            for (int64_t i = 0; i < g.inner; i++, at++) y[at] = (float)(emb_whole(&c->in[0], at) - zero) * g.scale[k];
        }
    return st;
}

emb_status emb_op_quantize_infer(emb_call *c)
{
    grid g;
    emb_dtype from = c->in[0].type.dtype, to = emb_has(c, 2) ? c->in[2].type.dtype : EMB_U8;
    if (from != EMB_F32 && from != EMB_I32) return emb_call_fail(c, EMB_EUNSUPPORTED, "of %s", emb_dtype_name(from));
    if (to != EMB_U8 && to != EMB_I8) return emb_call_fail(c, EMB_EUNSUPPORTED, "to %s", emb_dtype_name(to));
    c->out[0].type = c->in[0].type;
    c->out[0].type.dtype = to;
    return read_grid(c, &g);
}

emb_status emb_op_quantize_run(emb_call *c)
{
    grid g;
    emb_status st = read_grid(c, &g);
    bool f = c->in[0].type.dtype == EMB_F32;
    int lo = c->out[0].type.dtype == EMB_U8 ? 0 : -128, hi = lo + 255;
    for (int64_t o = 0, at = 0; st == EMB_OK && o < g.outer; o++)
        for (int64_t k = 0; k < g.n; k++) {
            float zero = g.zero != NULL ? (float)emb_whole(g.zero, k) : 0;
            for (int64_t i = 0; i < g.inner; i++, at++) {
                float x = f ? ((const float *)c->in[0].data)[at] : (float)((const int32_t *)c->in[0].data)[at];
                float v = rintf(x / g.scale[k]) + zero; /* ties to even */
                int q = !(v > (float)lo) ? lo : v > (float)hi ? hi : (int)v; /* NaN is the least */
                ((uint8_t *)c->out[0].data)[at] = (uint8_t)q;
            }
        }
    return st;
}
