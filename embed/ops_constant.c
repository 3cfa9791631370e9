/* ops_constant.c: constants, what is known of shapes, and other types for the same numbers.
 * Source: the ONNX operator reference, opsets 9 to 28. */
#include "ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

emb_status emb_op_constant_infer(emb_call *c)
{
    const Onnx__Attribute *v = emb_attr(c->node->proto, "value"), *a;
    emb_type *t = &c->out[0].type;
    if (v != NULL && v->t != NULL) return emb_tensor_type(v->t, c->g->file, t, c->err);
    if ((a = emb_attr(c->node->proto, "value_float")) != NULL) *t = (emb_type){.dtype = EMB_F32};
    else if ((a = emb_attr(c->node->proto, "value_int")) != NULL) *t = (emb_type){.dtype = EMB_I64};
    else if ((a = emb_attr(c->node->proto, "value_floats")) != NULL) *t = (emb_type){EMB_F32, 1, {(int64_t)a->n_floats}};
    else if ((a = emb_attr(c->node->proto, "value_ints")) != NULL) *t = (emb_type){EMB_I64, 1, {(int64_t)a->n_ints}};
    else return emb_call_fail(c, EMB_EUNSUPPORTED, "no value of a supported kind");
    return EMB_OK;
}

emb_status emb_op_constant_run(emb_call *c)
{
    const Onnx__Node *p = c->node->proto;
    const Onnx__Attribute *v = emb_attr(p, "value"), *a;
    size_t bytes = emb_type_bytes(&c->out[0].type);
    void *to = c->out[0].data;
    if (v != NULL && v->t != NULL) emb_tensor_copy(v->t, to);
    else if ((a = emb_attr(p, "value_float")) != NULL) memcpy(to, &a->f, 4);
    else if ((a = emb_attr(p, "value_int")) != NULL) memcpy(to, &a->i, 8);
    else if (bytes > 0 && (a = emb_attr(p, "value_floats")) != NULL) memcpy(to, a->floats, bytes);
    else if (bytes > 0 && (a = emb_attr(p, "value_ints")) != NULL) memcpy(to, a->ints, bytes);
    return EMB_OK;
}

emb_status emb_op_constant_of_shape_infer(emb_call *c)
{
    emb_type *t = &c->out[0].type, one = {.dtype = EMB_F32};
    const Onnx__Attribute *v = emb_attr(c->node->proto, "value");
    if (v != NULL && v->t != NULL) {
        emb_status st = emb_tensor_type(v->t, c->g->file, &one, c->err);
        if (st != EMB_OK) return st;
        if (emb_elements(&one) != 1) return emb_call_fail(c, EMB_EFORMAT, "value must be one number");
    }
    t->dtype = one.dtype;
    return emb_const_ints(c, 0, t->dims, EMB_MAX_RANK, &t->rank);
}

emb_status emb_op_constant_of_shape_run(emb_call *c)
{
    const Onnx__Attribute *v = emb_attr(c->node->proto, "value");
    size_t size = emb_dtype_size(c->out[0].type.dtype), n = (size_t)emb_elements(&c->out[0].type);
    uint8_t one[8] = {0};
    if (v != NULL && v->t != NULL) emb_tensor_copy(v->t, one);
    for (size_t i = 0; i < n; i++) memcpy((uint8_t *)c->out[0].data + i * size, one, size);
    return EMB_OK;
}

/* Opset 11: start, start + delta, ... before limit; the number of them must be known when the graph is loaded. */
static emb_status range_numbers(emb_call *c, double v[3])
{
    for (uint32_t i = 0; i < 3; i++) {
        const emb_arg *a = &c->in[i];
        if (a->data == NULL) return emb_call_fail(c, EMB_EUNSUPPORTED, "input %u depends on the picture; it must be a constant", i);
        if (emb_elements(&a->type) != 1 || a->type.dtype != c->in[0].type.dtype) return emb_call_fail(c, EMB_EFORMAT, "input %u is not one number", i);
        if (a->type.dtype == EMB_F32) v[i] = (double)*(const float *)a->data;
        else if (a->type.dtype == EMB_I64) v[i] = (double)*(const int64_t *)a->data;
        else if (a->type.dtype == EMB_I32) v[i] = *(const int32_t *)a->data;
        else return emb_call_fail(c, EMB_EUNSUPPORTED, "of %s", emb_dtype_name(a->type.dtype));
    }
    return EMB_OK;
}

emb_status emb_op_range_infer(emb_call *c)
{
    double v[3];
    emb_status st = range_numbers(c, v);
    if (st != EMB_OK) return st;
    double n = ceil((v[1] - v[0]) / v[2]);
    if (!(n <= (double)EMB_MAX_ELEMENTS)) return emb_call_fail(c, EMB_EFORMAT, "from %g to %g by %g has no end", v[0], v[1], v[2]);
    c->out[0].type = (emb_type){c->in[0].type.dtype, 1, {n > 0 ? (int64_t)n : 0}};
    return EMB_OK;
}

emb_status emb_op_range_run(emb_call *c)
{
    double v[3];
    emb_status st = range_numbers(c, v);
    for (int64_t i = 0; st == EMB_OK && i < c->out[0].type.dims[0]; i++) {
        if (c->in[0].type.dtype == EMB_F32) ((float *)c->out[0].data)[i] = (float)(v[0] + (double)i * v[2]);
        else if (c->in[0].type.dtype == EMB_I64) ((int64_t *)c->out[0].data)[i] = *(const int64_t *)c->in[0].data + i * *(const int64_t *)c->in[2].data;
        else ((int32_t *)c->out[0].data)[i] = (int32_t)(v[0] + (double)i * v[2]);
    }
    return st;
}

/* Opset 15: start and end count from the back when negative, and are cut to the rank. */
static void shape_range(const emb_call *c, int64_t *from, int64_t *to)
{
    int64_t rank = c->in[0].type.rank;
    *from = emb_attr_i(c->node->proto, "start", 0);
    *to = emb_attr_i(c->node->proto, "end", rank);
    if (*from < 0) *from = *from < -rank ? 0 : *from + rank;
    if (*to < 0) *to = *to < -rank ? 0 : *to + rank;
    if (*to > rank) *to = rank;
    if (*from > *to) *from = *to;
}

emb_status emb_op_shape_infer(emb_call *c)
{
    int64_t from, to;
    shape_range(c, &from, &to);
    c->out[0].type = (emb_type){EMB_I64, 1, {to - from}};
    return EMB_OK;
}

emb_status emb_op_shape_run(emb_call *c)
{
    int64_t from, to;
    shape_range(c, &from, &to);
    memcpy(c->out[0].data, c->in[0].type.dims + from, (size_t)(to - from) * sizeof(int64_t));
    return EMB_OK;
}

emb_status emb_op_cast_infer(emb_call *c)
{
    emb_dtype to = (emb_dtype)emb_attr_i(c->node->proto, "to", 0), from = c->in[0].type.dtype;
    if (to == EMB_F16 || to == EMB_F64) to = EMB_F32; /* all floating point is float32 here */
    c->out[0].type = c->in[0].type;
    c->out[0].type.dtype = to;
    if (emb_dtype_size(to) > 0 && emb_dtype_size(from) > 0) return EMB_OK;
    return emb_call_fail(c, EMB_EUNSUPPORTED, "from %s to %s (data type %d)", emb_dtype_name(from), emb_dtype_name(to), (int)to);
}

emb_status emb_op_cast_run(emb_call *c)
{
    emb_dtype from = c->in[0].type.dtype, to = c->out[0].type.dtype;
    for (int64_t i = 0, n = emb_elements(&c->in[0].type); i < n; i++) {
        float f = from == EMB_F32 ? ((const float *)c->in[0].data)[i] : 0;
        int64_t k = from != EMB_F32 ? emb_whole(&c->in[0], i) : f >= 9.2e18f ? INT64_MAX : f <= -9.2e18f ? INT64_MIN : f == f ? (int64_t)f : 0;
        if (to == EMB_F32) ((float *)c->out[0].data)[i] = from == EMB_F32 ? f : (float)k;
        else if (to == EMB_BOOL) ((uint8_t *)c->out[0].data)[i] = from == EMB_F32 ? f != 0 : k != 0;
        else emb_put_whole(&c->out[0], i, k);
    }
    return EMB_OK;
}

emb_status emb_op_cast_like_infer(emb_call *c)
{
    c->out[0].type = c->in[0].type;
    c->out[0].type.dtype = c->in[1].type.dtype;
    return EMB_OK;
}

emb_status emb_op_cast_like_run(emb_call *c) { return emb_op_cast_run(c); }

emb_status emb_op_size_infer(emb_call *c)
{
    c->out[0].type = (emb_type){.dtype = EMB_I64};
    return EMB_OK;
}

emb_status emb_op_size_run(emb_call *c)
{
    *(int64_t *)c->out[0].data = emb_elements(&c->in[0].type);
    return EMB_OK;
}
