/* ops.c: the one table of operators, and checks that several of them share. */
#include "ops.h"

#include <inttypes.h>
#include <string.h>

#define OP(onnx, min, max, fn, note) {onnx, min, max, emb_op_##fn##_infer, emb_op_##fn##_run, note}
#define LOWERED(onnx, min, max, note) {onnx, min, max, NULL, NULL, note} /* lower.c replaces it by others */

const emb_op emb_ops[] = {
    OP("Abs", 1, 1, unary, NULL),
    OP("Add", 2, 2, binary, NULL),
    OP("And", 2, 2, logic, NULL),
    OP("AveragePool", 1, 1, average_pool, "one or two spatial dimensions"),
    OP("BatchNormalization", 5, 5, affine, NULL),
    OP("Cast", 1, 1, cast, NULL),
    OP("CastLike", 2, 2, cast_like, NULL),
    OP("Ceil", 1, 1, unary, NULL),
    OP("Celu", 1, 1, unary, NULL),
    OP("Clip", 1, 3, clip, NULL),
    OP("Concat", 1, 255, concat, NULL),
    OP("Constant", 0, 0, constant, NULL),
    OP("ConstantOfShape", 1, 1, constant_of_shape, NULL),
    OP("Conv", 2, 3, conv, "one or two spatial dimensions"),
    LOWERED("ConvInteger", 2, 4, "one or two spatial dimensions; sums beyond 2^24 are rounded"),
    OP("DepthToSpace", 1, 1, blocks, NULL),
    OP("DequantizeLinear", 2, 3, dequantize, "not in blocks"),
    OP("Div", 2, 2, binary, NULL),
    OP("Dropout", 1, 3, identity, "inference only"),
    OP("DynamicQuantizeLinear", 1, 1, dynamic_quantize, NULL),
    OP("Einsum", 1, 8, einsum, "of floats"),
    OP("Elu", 1, 1, unary, NULL),
    OP("Equal", 2, 2, compare, NULL),
    OP("Erf", 1, 1, unary, NULL),
    OP("Exp", 1, 1, unary, NULL),
    OP("Expand", 2, 2, expand, NULL),
    OP("Flatten", 1, 1, flatten, NULL),
    OP("Floor", 1, 1, unary, NULL),
    OP("Gather", 2, 2, gather, NULL),
    OP("Gelu", 1, 1, unary, NULL),
    OP("Gemm", 2, 3, gemm, NULL),
    OP("GlobalAveragePool", 1, 1, global_pool, NULL),
    OP("GlobalMaxPool", 1, 1, global_pool, NULL),
    OP("Greater", 2, 2, compare, NULL),
    OP("GreaterOrEqual", 2, 2, compare, NULL),
    OP("GroupNormalization", 3, 3, group_norm, NULL),
    OP("HardSigmoid", 1, 1, unary, NULL),
    OP("HardSwish", 1, 1, unary, NULL),
    OP("Identity", 1, 1, identity, NULL),
    OP("InstanceNormalization", 3, 3, group_norm, NULL),
    OP("LRN", 1, 1, lrn, NULL),
    OP("LayerNormalization", 2, 3, layer_norm, NULL),
    OP("LeakyRelu", 1, 1, unary, NULL),
    OP("Less", 2, 2, compare, NULL),
    OP("LessOrEqual", 2, 2, compare, NULL),
    OP("Log", 1, 1, unary, NULL),
    OP("LogSoftmax", 1, 1, softmax, NULL),
    OP("LpNormalization", 1, 1, lp_norm, NULL),
    OP("MatMul", 2, 2, matmul, NULL),
    LOWERED("MatMulInteger", 2, 4, "sums beyond 2^24 are rounded"),
    OP("Max", 1, 255, binary, NULL),
    OP("MaxPool", 1, 1, max_pool, "one or two spatial dimensions, no indices"),
    OP("Mean", 1, 255, binary, NULL),
    OP("Min", 1, 255, binary, NULL),
    OP("Mish", 1, 1, unary, NULL),
    OP("Mod", 2, 2, binary, NULL),
    OP("Mul", 2, 2, binary, NULL),
    OP("Neg", 1, 1, unary, NULL),
    OP("Not", 1, 1, not, NULL),
    OP("Or", 2, 2, logic, NULL),
    OP("PRelu", 2, 2, prelu, NULL),
    OP("Pad", 1, 4, pad, NULL),
    OP("Pow", 2, 2, binary, NULL),
    LOWERED("QLinearConv", 8, 9, "one or two spatial dimensions"),
    LOWERED("QLinearMatMul", 8, 8, NULL),
    OP("QuantizeLinear", 2, 3, quantize, "to int8 and uint8, not in blocks"),
    OP("Range", 3, 3, range, "of constants"),
    OP("Reciprocal", 1, 1, unary, NULL),
    OP("ReduceL1", 1, 2, reduce, NULL),
    OP("ReduceL2", 1, 2, reduce, NULL),
    OP("ReduceLogSum", 1, 2, reduce, NULL),
    OP("ReduceLogSumExp", 1, 2, reduce, NULL),
    OP("ReduceMax", 1, 2, reduce, NULL),
    OP("ReduceMean", 1, 2, reduce, NULL),
    OP("ReduceMin", 1, 2, reduce, NULL),
    OP("ReduceProd", 1, 2, reduce, NULL),
    OP("ReduceSum", 1, 2, reduce, NULL),
    OP("ReduceSumSquare", 1, 2, reduce, NULL),
    OP("Relu", 1, 1, unary, NULL),
    OP("Reshape", 2, 2, reshape, NULL),
    OP("Resize", 1, 4, resize, "without cropping"),
    OP("Round", 1, 1, unary, NULL),
    OP("ScatterND", 3, 3, scatter_nd, "no reduction"),
    OP("Selu", 1, 1, unary, NULL),
    OP("Shape", 1, 1, shape, NULL),
    OP("Sigmoid", 1, 1, unary, NULL),
    OP("Sign", 1, 1, unary, NULL),
    OP("Size", 1, 1, size, NULL),
    OP("Slice", 1, 5, slice, NULL),
    OP("Softmax", 1, 1, softmax, NULL),
    OP("Softplus", 1, 1, unary, NULL),
    OP("Softsign", 1, 1, unary, NULL),
    OP("SpaceToDepth", 1, 1, blocks, NULL),
    OP("Split", 1, 2, split, NULL),
    OP("Sqrt", 1, 1, unary, NULL),
    OP("Squeeze", 1, 2, squeeze, NULL),
    OP("Sub", 2, 2, binary, NULL),
    OP("Sum", 1, 255, binary, NULL),
    OP("Tanh", 1, 1, unary, NULL),
    OP("ThresholdedRelu", 1, 1, unary, NULL),
    OP("Tile", 2, 2, tile, NULL),
    OP("Transpose", 1, 1, transpose, NULL),
    OP("Unsqueeze", 1, 2, unsqueeze, NULL),
    OP("Upsample", 1, 2, resize, NULL),
    OP("Where", 3, 3, where, NULL),
    OP("Xor", 2, 2, logic, NULL),
    OP("com.microsoft.DequantizeLinear", 2, 3, dequantize, "not in blocks"),
    OP("com.microsoft.Gelu", 1, 1, unary, NULL),
    LOWERED("com.microsoft.QGemm", 6, 9, NULL),
    LOWERED("com.microsoft.QLinearAdd", 7, 8, NULL),
    LOWERED("com.microsoft.QLinearAveragePool", 4, 5, "channels first, two spatial dimensions"),
    LOWERED("com.microsoft.QLinearConcat", 5, 255, NULL),
    LOWERED("com.microsoft.QLinearGlobalAveragePool", 4, 5, "channels first"),
    LOWERED("com.microsoft.QLinearLeakyRelu", 4, 5, NULL),
    LOWERED("com.microsoft.QLinearMul", 7, 8, NULL),
    LOWERED("com.microsoft.QLinearReduceMean", 4, 5, NULL),
    LOWERED("com.microsoft.QLinearSigmoid", 4, 5, NULL),
    LOWERED("com.microsoft.QLinearSoftmax", 4, 5, NULL),
    OP("com.microsoft.QuantizeLinear", 2, 3, quantize, "to int8 and uint8, not in blocks"),
};
const emb_op emb_op_batch_stats = OP("BatchNormalization in training", 5, 5, batch_stats, NULL);
const size_t emb_ops_count = sizeof emb_ops / sizeof *emb_ops;

const emb_op *emb_op_find(const char *domain, const char *name)
{
    size_t prefix = domain != NULL && strcmp(domain, "ai.onnx") != 0 ? strlen(domain) : 0;
    for (size_t i = 0; i < emb_ops_count; i++) {
        const char *known = emb_ops[i].name;
        if (prefix > 0 && (strncmp(known, domain, prefix) != 0 || known[prefix] != '.')) continue;
        if (strcmp(known + (prefix > 0 ? prefix + 1 : 0), name) == 0) return &emb_ops[i];
    }
    return NULL;
}

bool emb_is_whole(emb_dtype t) { return t == EMB_I64 || t == EMB_I32 || t == EMB_U8 || t == EMB_I8; }

int64_t emb_whole(const emb_arg *a, int64_t i)
{
    switch (a->type.dtype) {
    case EMB_I64: return ((const int64_t *)a->data)[i];
    case EMB_I32: return ((const int32_t *)a->data)[i];
    case EMB_I8: return ((const int8_t *)a->data)[i];
    default: return ((const uint8_t *)a->data)[i];
    }
}

void emb_put_whole(emb_arg *a, int64_t i, int64_t v)
{
    switch (a->type.dtype) {
    case EMB_I64: ((int64_t *)a->data)[i] = v; break;
    case EMB_I32: ((int32_t *)a->data)[i] = (int32_t)v; break;
    default: ((uint8_t *)a->data)[i] = (uint8_t)v; break;
    }
}

emb_status emb_want_float(emb_call *c, uint32_t in)
{
    if (c->in[in].type.dtype == EMB_F32) return EMB_OK;
    return emb_call_fail(c, EMB_EUNSUPPORTED, "input %u is %s, only floating point is supported here", in,
                         emb_dtype_name(c->in[in].type.dtype));
}

emb_status emb_axis_of(emb_call *c, int64_t axis, uint32_t rank, uint32_t *out)
{
    if (axis < -(int64_t)rank || axis >= (int64_t)rank)
        return emb_call_fail(c, EMB_EFORMAT, "axis %" PRId64 " of a tensor of rank %" PRIu32, axis, rank);
    *out = (uint32_t)(axis < 0 ? axis + rank : axis);
    return EMB_OK;
}

emb_status emb_const_ints(emb_call *c, uint32_t in, int64_t *out, uint32_t max, uint32_t *n)
{
    const emb_arg *a = &c->in[in];
    if (a->data == NULL)
        return emb_call_fail(c, EMB_EUNSUPPORTED, "input %u depends on the picture; it must be a constant", in);
    if (a->type.dtype != EMB_I64 && a->type.dtype != EMB_I32)
        return emb_call_fail(c, EMB_EFORMAT, "input %u must hold integers", in);
    int64_t count = emb_elements(&a->type);
    if (count > max) return emb_call_fail(c, EMB_EFORMAT, "input %u has %" PRId64 " elements, at most %" PRIu32, in, count, max);
    *n = (uint32_t)count;
    for (uint32_t i = 0; i < *n; i++)
        out[i] = a->type.dtype == EMB_I64 ? ((const int64_t *)a->data)[i] : ((const int32_t *)a->data)[i];
    return EMB_OK;
}

emb_status emb_axes_of(emb_call *c, uint32_t rank, bool set[EMB_MAX_RANK], bool *none)
{
    int64_t axes[EMB_MAX_RANK];
    uint32_t n = 0, axis = 0;
    memset(set, 0, EMB_MAX_RANK * sizeof *set);
    int given = emb_attr_ints(c->node->proto, "axes", axes, EMB_MAX_RANK);
    if (given > EMB_MAX_RANK) return emb_call_fail(c, EMB_EFORMAT, "too many axes");
    if (given > 0) n = (uint32_t)given;
    if (emb_has(c, 1)) {
        emb_status st = emb_const_ints(c, 1, axes, EMB_MAX_RANK, &n);
        if (st != EMB_OK) return st;
    }
    *none = n == 0;
    for (uint32_t i = 0; i < n; i++) {
        emb_status st = emb_axis_of(c, axes[i], rank, &axis);
        if (st != EMB_OK) return st;
        set[axis] = true;
    }
    return EMB_OK;
}
