/* tensor.c: element types, shapes, and the tensors of an ONNX file as dense arrays. */
#include "graph.h"
#include "half.h"
#include "kernels/kernels.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* By ONNX's numbers; size 0: not handled. */
static const struct {
    const char *name;
    size_t size;
} kinds[] = {
    {"undefined", 0}, {"float32", 4},      {"uint8", 1},          {"int8", 1},       {"uint16", 0},         {"int16", 0},  {"int32", 4}, {"int64", 8},
    {"string", 0},    {"bool", 1},         {"float16", 2},        {"float64", 8},    {"uint32", 0},         {"uint64", 0}, {"complex64", 0},
    {"complex128", 0}, {"bfloat16", 0},    {"float8e4m3fn", 0},   {"float8e4m3fnuz", 0}, {"float8e5m2", 0}, {"float8e5m2fnuz", 0},
    {"uint4", 0},     {"int4", 0},         {"float4e2m1", 0},     {"float8e8m0", 0},
};
_Static_assert(EMB_F64 == 11 && EMB_BF16 == 16, "they stand in ONNX's order");

size_t emb_dtype_size(emb_dtype t) { return (size_t)t < sizeof kinds / sizeof *kinds ? kinds[t].size : 0; }

const char *emb_dtype_name(emb_dtype t) { return (size_t)t < sizeof kinds / sizeof *kinds ? kinds[t].name : "unknown"; }

int64_t emb_elements(const emb_type *t)
{
    int64_t n = 1;
    for (uint32_t i = 0; i < t->rank; i++) n *= t->dims[i];
    return n;
}

size_t emb_type_bytes(const emb_type *t) { return (size_t)emb_elements(t) * emb_dtype_size(t->dtype); }

bool emb_type_sane(const emb_type *t)
{
    int64_t n = 1;
    if (t->rank > EMB_MAX_RANK) return false;
    for (uint32_t i = 0; i < t->rank; i++) {
        if (t->dims[i] < 0 || __builtin_mul_overflow(n, t->dims[i] > 0 ? t->dims[i] : 1, &n) || n > EMB_MAX_ELEMENTS) return false;
    }
    return true;
}

/* Weights are read from end to end in every run: large pages spare the address translation most of its misses. The end that fills none
 * has small ones. */
void *emb_weights_memory(size_t n)
{
    enum { LARGE = 2 << 20, MANY = 128 << 10, PAGE = 4096 };
    size_t bytes = n + EMB_KERNEL_SLACK, align = bytes >= LARGE ? LARGE : 64;
    void *p;
    if (posix_memalign(&p, align, bytes) != 0) return NULL;
#ifdef MADV_HUGEPAGE
    if (align == LARGE) (void)madvise(p, bytes / LARGE * LARGE, MADV_HUGEPAGE);
#endif
#ifdef MADV_POPULATE_WRITE
    const uintptr_t first = ((uintptr_t)p + PAGE - 1) / PAGE * PAGE, end = ((uintptr_t)p + bytes) / PAGE * PAGE;
    if (align < LARGE && bytes >= MANY) (void)madvise((void *)first, end - first, MADV_POPULATE_WRITE); /* instead of a fault for each page */
#endif
    return p;
}

/* ---- tensors of the file ----------------------------------------------------------------------------- */

static bool becomes_float(const Onnx__Tensor *t) { return t->data_type == EMB_F16 || t->data_type == EMB_F64; }

bool emb_tensor_is_raw(const Onnx__Tensor *t) { return t->has_raw_data && !becomes_float(t); }

emb_status emb_tensor_type(const Onnx__Tensor *t, const char *file, emb_type *type, emb_error *err)
{
    const char *name = t->name != NULL ? t->name : "(constant)";
    emb_dtype dtype = (emb_dtype)t->data_type;
    size_t size = emb_dtype_size(dtype);
    if (t->n_dims > EMB_MAX_RANK)
        return emb_fail(err, EMB_EFORMAT, "%s: tensor %.100s has rank %zu, the limit is %d", file, name, t->n_dims, EMB_MAX_RANK);
    if (t->n_external_data > 0 || t->data_location == 1)
        return emb_fail(err, EMB_EUNSUPPORTED, "%s: tensor %.100s lies in another file; models must be one file", file, name);
    if (size == 0)
        return emb_fail(err, EMB_EUNSUPPORTED, "%s: tensor %.100s has data type %s (%d), which is not supported", file, name, emb_dtype_name(dtype),
                        (int)t->data_type);
    emb_type is = {.dtype = dtype, .rank = (uint32_t)t->n_dims};
    for (size_t i = 0; i < t->n_dims; i++) is.dims[i] = t->dims[i];
    if (!emb_type_sane(&is)) return emb_fail(err, EMB_EFORMAT, "%s: tensor %.100s has impossible dimensions", file, name);
    size_t n = (size_t)emb_elements(&is), have;
    if (t->has_raw_data && t->raw_data.len % size != 0)
        return emb_fail(err, EMB_EFORMAT, "%s: tensor %.100s has %zu bytes, its shape needs %zu", file, name, t->raw_data.len, n * size);
    if (t->has_raw_data) have = t->raw_data.len / size;
    else if (dtype == EMB_F32) have = t->n_float_data;
    else if (dtype == EMB_F64) have = t->n_double_data;
    else if (dtype == EMB_I64) have = t->n_int64_data;
    else have = t->n_int32_data;
    if (have != n)
        return emb_fail(err, EMB_EFORMAT, "%s: tensor %.100s has %zu elements, its shape needs %zu", file, name, have, n);
    if (becomes_float(t)) is.dtype = EMB_F32;
    *type = is;
    return EMB_OK;
}

static float as_float(const Onnx__Tensor *t, size_t i)
{
    uint16_t h;
    double d;
    if (t->data_type == EMB_F64) {
        if (!t->has_raw_data) return (float)t->double_data[i];
        memcpy(&d, t->raw_data.data + i * 8, 8);
        return (float)d;
    }
    if (!t->has_raw_data) return emb_half_to_float((uint16_t)t->int32_data[i]);
    memcpy(&h, t->raw_data.data + i * 2, 2);
    return emb_half_to_float(h);
}

void emb_tensor_copy(const Onnx__Tensor *t, void *to)
{
    size_t n = 1;
    for (size_t i = 0; i < t->n_dims; i++) n *= (size_t)t->dims[i];
    if (n == 0) return;
    if (becomes_float(t))
        for (size_t i = 0; i < n; i++) ((float *)to)[i] = as_float(t, i);
    else if (t->has_raw_data)
        memcpy(to, t->raw_data.data, t->raw_data.len);
    else if (t->data_type == EMB_F32)
        memcpy(to, t->float_data, n * sizeof(float));
    else if (t->data_type == EMB_I64)
        memcpy(to, t->int64_data, n * sizeof(int64_t));
    else if (t->data_type == EMB_I32)
        memcpy(to, t->int32_data, n * sizeof(int32_t));
    else
        for (size_t i = 0; i < n; i++) ((uint8_t *)to)[i] = (uint8_t)t->int32_data[i];
}
