/* ops.h: the operator functions, one pair each; the table that names them is ops.c. */
#ifndef LK_OPS_H
#define LK_OPS_H

#include "graph.h"

#define EMB_OP_LIST(X) \
    X(affine) X(average_pool) X(batch_stats) X(binary) X(blocks) X(cast) X(cast_like) X(clip) X(compare) X(concat) X(constant) X(constant_of_shape) \
    X(conv) X(dequantize) X(dynamic_quantize) X(einsum) X(expand) X(flatten) X(gather) X(gemm) X(global_pool) X(group_norm) \
    X(identity) X(layer_norm) X(logic) X(lp_norm) X(lrn) X(matmul) X(max_pool) X(not) X(pad) X(prelu) X(quantize) \
    X(range) X(reduce) X(reshape) X(resize) X(scatter_nd) X(shape) X(size) X(slice) X(softmax) X(split) X(squeeze) X(tile) \
    X(transpose) X(unary) X(unsqueeze) X(where)

#define EMB_OP_DECLARE(n) emb_status emb_op_##n##_infer(emb_call *c); emb_status emb_op_##n##_run(emb_call *c);
EMB_OP_LIST(EMB_OP_DECLARE)
#undef EMB_OP_DECLARE

double emb_einsum_products(const emb_call *c); /* multiplications of a run */

/* Checks used by several. */
EMB_CHECK emb_status emb_want_float(emb_call *c, uint32_t in);
/* axis in -rank..rank-1 -> 0..rank-1. */
EMB_CHECK emb_status emb_axis_of(emb_call *c, int64_t axis, uint32_t rank, uint32_t *out);
/* Integers of a constant I64 or I32 input; at most max. */
EMB_CHECK emb_status emb_const_ints(emb_call *c, uint32_t in, int64_t *out, uint32_t max, uint32_t *n);
/* Axes from the attribute (until opset 12) or from input 1, of a tensor of that rank; none: there are none. */
EMB_CHECK emb_status emb_axes_of(emb_call *c, uint32_t rank, bool set[EMB_MAX_RANK], bool *none);

/* Integers of any size, and a bool as 0 or 1. */
bool emb_is_whole(emb_dtype t);
int64_t emb_whole(const emb_arg *a, int64_t i);
void emb_put_whole(emb_arg *a, int64_t i, int64_t v); /* wraps, as the type does */

/* Multidirectional broadcasting. The shape that n inputs from `first` on have together. */
EMB_CHECK emb_status emb_broadcast_type(emb_call *c, uint32_t first, uint32_t n, emb_type *out);
/* Steps of an input when the output is walked row-major; 0 where it is repeated. */
void emb_broadcast_steps(const emb_type *t, const emb_type *out, int64_t step[EMB_MAX_RANK]);
/* Advances the index of the output, and with it n offsets. */
void emb_broadcast_advance(const emb_type *out, int64_t index[EMB_MAX_RANK], int64_t (*steps)[EMB_MAX_RANK], int64_t *offset, int n);

#endif
