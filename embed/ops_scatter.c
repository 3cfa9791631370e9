/* ops_scatter.c: writes at places that a tensor names. Source: the ONNX operator reference, ScatterND of opsets 11 to 16. */
#include "ops.h"

#include <inttypes.h>
#include <string.h>

emb_status emb_op_scatter_nd_infer(emb_call *c)
{
    const emb_type *x = &c->in[0].type, *at = &c->in[1].type, *from = &c->in[2].type;
    c->out[0].type = *x;
    if (emb_attr(c->node->proto, "reduction") != NULL && !emb_attr_is(c->node->proto, "reduction", "none"))
        return emb_call_fail(c, EMB_EUNSUPPORTED, "a reduction");
    if (at->dtype != EMB_I64 || at->rank < 1 || x->dtype != from->dtype) return emb_call_fail(c, EMB_EFORMAT, "needs int64 indices and updates of the data's type");
    int64_t depth = at->dims[at->rank - 1];
    if (depth < 1 || depth > x->rank || from->rank != at->rank - 1 + x->rank - (uint32_t)depth)
        return emb_call_fail(c, EMB_EFORMAT, "indices of %" PRId64 " numbers into a tensor of rank %" PRIu32, depth, x->rank);
    for (uint32_t d = 0; d < from->rank; d++) {
        int64_t want = d < at->rank - 1 ? at->dims[d] : x->dims[(uint32_t)depth + d - (at->rank - 1)];
        if (from->dims[d] != want) return emb_call_fail(c, EMB_EFORMAT, "dimension %" PRIu32 " of the updates is %" PRId64 ", not %" PRId64, d, from->dims[d], want);
    }
    return EMB_OK;
}

emb_status emb_op_scatter_nd_run(emb_call *c)
{
    const emb_type *x = &c->in[0].type, *at = &c->in[1].type;
    const int64_t *index = c->in[1].data;
    uint32_t depth = (uint32_t)at->dims[at->rank - 1];
    size_t slice = emb_dtype_size(x->dtype), places = 1;
    for (uint32_t d = depth; d < x->rank; d++) slice *= (size_t)x->dims[d];
    for (uint32_t d = 0; d + 1 < at->rank; d++) places *= (size_t)at->dims[d];
    memcpy(c->out[0].data, c->in[0].data, emb_type_bytes(x));
    for (size_t i = 0; i < places; i++, index += depth) {
        size_t place = 0;
        for (uint32_t d = 0; d < depth; d++) {
            int64_t k = index[d] < 0 ? index[d] + x->dims[d] : index[d];
            if (k < 0 || k >= x->dims[d]) return emb_call_fail(c, EMB_EFORMAT, "index %" PRId64 " of %" PRId64, index[d], x->dims[d]);
            place = place * (size_t)x->dims[d] + (size_t)k;
        }
        memcpy((char *)c->out[0].data + place * slice, (const char *)c->in[2].data + i * slice, slice);
    }
    return EMB_OK;
}
