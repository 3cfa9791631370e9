/* ops_pad.c: more of the same numbers, or the same in another order of space and channels.
 * Source: the ONNX operator reference, opsets 9 to 28. */
#include "ops.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void row_major(const emb_type *t, int64_t step[EMB_MAX_RANK])
{
    int64_t s = 1;
    for (uint32_t d = t->rank; d-- > 0;) step[d] = s, s *= t->dims[d];
}

/* ---- pad ----------------------------------------------------------------------------------------------- */

typedef struct {
    int64_t before[EMB_MAX_RANK], after[EMB_MAX_RANK];
    enum { CONSTANT, REFLECT, EDGE, WRAP } mode;
} padding;

static emb_status read_pads(emb_call *c, padding *p)
{
    int64_t pads[2 * EMB_MAX_RANK], axes[EMB_MAX_RANK];
    uint32_t rank = c->in[0].type.rank, n = 0, n_axes = rank;
    const Onnx__Node *proto = c->node->proto;
    int k = emb_attr_ints(proto, "pads", pads, 2 * EMB_MAX_RANK);
    if (k > 0) n = (uint32_t)k;
    emb_status st = emb_has(c, 1) ? emb_const_ints(c, 1, pads, 2 * EMB_MAX_RANK, &n) : EMB_OK;
    for (uint32_t d = 0; d < EMB_MAX_RANK; d++) axes[d] = d, p->before[d] = p->after[d] = 0;
    if (st == EMB_OK && emb_has(c, 3)) st = emb_const_ints(c, 3, axes, EMB_MAX_RANK, &n_axes);
    if (st != EMB_OK) return st;
    if (n != 2 * n_axes) return emb_call_fail(c, EMB_EFORMAT, "%" PRIu32 " pads for %" PRIu32 " axes", n, n_axes);
    p->mode = emb_attr_is(proto, "mode", "reflect") ? REFLECT : emb_attr_is(proto, "mode", "edge") ? EDGE : emb_attr_is(proto, "mode", "wrap") ? WRAP : CONSTANT;
    for (uint32_t i = 0; i < n_axes; i++) {
        uint32_t d;
        if ((st = emb_axis_of(c, axes[i], rank, &d)) != EMB_OK) return st;
        int64_t a = p->before[d] = pads[i], b = p->after[d] = pads[i + n_axes], dim = c->in[0].type.dims[d];
        if (a < -65536 || b < -65536 || a > 65536 || b > 65536 || dim + a + b < 0)
            return emb_call_fail(c, EMB_EUNSUPPORTED, "pads of %" PRId64 " and %" PRId64, a, b);
        if (p->mode == REFLECT && (a < 0 || b < 0)) return emb_call_fail(c, EMB_EUNSUPPORTED, "negative pads that reflect");
        if ((p->mode == REFLECT && (a >= dim || b >= dim) && a + b > 0) || ((p->mode == EDGE || p->mode == WRAP) && dim == 0))
            return emb_call_fail(c, EMB_EFORMAT, "axis %" PRIu32 " is too short for its pads", d);
    }
    return EMB_OK;
}

emb_status emb_op_pad_infer(emb_call *c)
{
    padding p;
    emb_status st = read_pads(c, &p);
    if (st != EMB_OK) return st;
    if (emb_has(c, 2) && (c->in[2].type.dtype != c->in[0].type.dtype || emb_elements(&c->in[2].type) != 1))
        return emb_call_fail(c, EMB_EFORMAT, "the value is not one number of the data's type");
    c->out[0].type = c->in[0].type;
    for (uint32_t d = 0; d < c->in[0].type.rank; d++) c->out[0].type.dims[d] += p.before[d] + p.after[d];
    return EMB_OK;
}

/* Where in 0..dim-1 the number for place k comes from, -1: from nowhere. */
static int64_t source(const padding *p, int64_t k, int64_t dim)
{
    if (k >= 0 && k < dim) return k;
    switch (p->mode) {
    case REFLECT: return k < 0 ? -k : 2 * dim - 2 - k;
    case EDGE: return k < 0 ? 0 : dim - 1;
    case WRAP: return ((k % dim) + dim) % dim;
    default: return -1;
    }
}

emb_status emb_op_pad_run(emb_call *c)
{
    padding p;
    int64_t step[EMB_MAX_RANK], index[EMB_MAX_RANK] = {0};
    emb_status st = read_pads(c, &p);
    if (st != EMB_OK) return st;
    const emb_type *x = &c->in[0].type, *y = &c->out[0].type;
    uint8_t value[8] = {0};
    float attribute = emb_attr_f(c->node->proto, "value", 0);
    size_t size = emb_dtype_size(x->dtype);
    if (emb_has(c, 2)) memcpy(value, c->in[2].data, size);
    else if (x->dtype == EMB_F32) memcpy(value, &attribute, sizeof attribute);
    row_major(x, step);
    for (int64_t i = 0, n = emb_elements(y); i < n; i++) {
        int64_t at = 0;
        bool outside = false;
        for (uint32_t d = 0; d < y->rank; d++) {
            int64_t k = source(&p, index[d] - p.before[d], x->dims[d]);
            outside = outside || k < 0;
            at += k * step[d];
        }
        memcpy((char *)c->out[0].data + (size_t)i * size, outside ? (const char *)value : (const char *)c->in[0].data + (size_t)at * size, size);
        for (uint32_t d = y->rank; d-- > 0;) {
            if (++index[d] < y->dims[d]) break;
            index[d] = 0;
        }
    }
    return EMB_OK;
}

emb_status emb_op_tile_infer(emb_call *c)
{
    int64_t times[EMB_MAX_RANK];
    uint32_t n;
    emb_status st = emb_const_ints(c, 1, times, EMB_MAX_RANK, &n);
    if (st != EMB_OK) return st;
    if (n != c->in[0].type.rank) return emb_call_fail(c, EMB_EFORMAT, "%" PRIu32 " repeats for rank %" PRIu32, n, c->in[0].type.rank);
    c->out[0].type = c->in[0].type;
    for (uint32_t d = 0; d < n; d++)
        if (times[d] < 0 || __builtin_mul_overflow(c->out[0].type.dims[d], times[d], &c->out[0].type.dims[d])) return emb_call_fail(c, EMB_EFORMAT, "%" PRId64 " repeats", times[d]);
    return EMB_OK;
}

emb_status emb_op_tile_run(emb_call *c)
{
    const emb_type *x = &c->in[0].type, *y = &c->out[0].type;
    int64_t step[EMB_MAX_RANK], index[EMB_MAX_RANK] = {0};
    size_t size = emb_dtype_size(x->dtype);
    row_major(x, step);
    for (int64_t i = 0, n = emb_elements(y); i < n; i++) {
        int64_t at = 0;
        for (uint32_t d = 0; d < y->rank; d++) at += index[d] % x->dims[d] * step[d];
        memcpy((char *)c->out[0].data + (size_t)i * size, (const char *)c->in[0].data + (size_t)at * size, size);
        for (uint32_t d = y->rank; d-- > 0;) {
            if (++index[d] < y->dims[d]) break;
            index[d] = 0;
        }
    }
    return EMB_OK;
}

/* SpaceToDepth and DepthToSpace: blocks of b x b pixels <-> b * b channels; CRD: the channel counts before the place in the block. */
emb_status emb_op_blocks_infer(emb_call *c)
{
    const emb_type *x = &c->in[0].type;
    int64_t b = emb_attr_i(c->node->proto, "blocksize", 0);
    bool to_depth = c->node->op->name[0] == 'S';
    if (x->rank != 4 || b < 1 || b > 65536) return emb_call_fail(c, EMB_EFORMAT, "blocks of %" PRId64 " of a tensor of rank %" PRIu32, b, x->rank);
    if (to_depth ? x->dims[2] % b != 0 || x->dims[3] % b != 0 : x->dims[1] % (b * b) != 0) return emb_call_fail(c, EMB_EFORMAT, "no whole blocks of %" PRId64, b);
    if (to_depth) c->out[0].type = (emb_type){x->dtype, 4, {x->dims[0], x->dims[1] * b * b, x->dims[2] / b, x->dims[3] / b}};
    else c->out[0].type = (emb_type){x->dtype, 4, {x->dims[0], x->dims[1] / (b * b), x->dims[2] * b, x->dims[3] * b}};
    return EMB_OK;
}

emb_status emb_op_blocks_run(emb_call *c)
{
    bool to_depth = c->node->op->name[0] == 'S', crd = emb_attr_is(c->node->proto, "mode", "CRD");
    const emb_type *wide = to_depth ? &c->in[0].type : &c->out[0].type, *deep = to_depth ? &c->out[0].type : &c->in[0].type;
    int64_t b = emb_attr_i(c->node->proto, "blocksize", 1), n = wide->dims[0], channels = wide->dims[1], h = wide->dims[2], w = wide->dims[3];
    size_t size = emb_dtype_size(wide->dtype);
    for (int64_t i = 0, at = 0; i < n; i++)
        for (int64_t ch = 0; ch < channels; ch++)
            for (int64_t y = 0; y < h; y++)
                for (int64_t x = 0; x < w; x++, at++) {
                    int64_t place = y % b * b + x % b, d = crd ? ch * b * b + place : place * channels + ch;
                    size_t other = (size_t)(((i * deep->dims[1] + d) * deep->dims[2] + y / b) * deep->dims[3] + x / b), this = (size_t)at;
                    size_t to = to_depth ? other : this, from = to_depth ? this : other;
                    memcpy((char *)c->out[0].data + to * size, (const char *)c->in[0].data + from * size, size);
                }
    return EMB_OK;
}
