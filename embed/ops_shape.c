/* ops_shape.c: operators that move, cut, join or name data without computing on it.
 * Source: the ONNX operator reference, opsets 9 to 17. */
#include "ops.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static emb_status copy_all(emb_call *c)
{
    memcpy(c->out[0].data, c->in[0].data, emb_type_bytes(&c->in[0].type));
    return EMB_OK;
}

emb_status emb_op_identity_infer(emb_call *c)
{
    const emb_arg *ratio = emb_has(c, 1) && c->in[1].type.dtype == EMB_F32 && emb_elements(&c->in[1].type) == 1 ? &c->in[1] : NULL;
    bool drops = ratio == NULL || ratio->data == NULL || *(const float *)ratio->data != 0; /* Swin's exports are in training and drop nothing */
    if (emb_has(c, 2) && drops && (c->in[2].data == NULL || *(const uint8_t *)c->in[2].data != 0))
        return emb_call_fail(c, EMB_EUNSUPPORTED, "training mode"); /* Dropout's third input */
    c->out[0].type = c->in[0].type;
    for (uint32_t i = 1; i < c->n_out; i++) {
        c->out[i].type = c->in[0].type;
        c->out[i].type.dtype = EMB_BOOL;
    }
    return EMB_OK;
}

emb_status emb_op_identity_run(emb_call *c)
{
    for (uint32_t i = 1; i < c->n_out; i++) memset(c->out[i].data, 1, emb_type_bytes(&c->out[i].type)); /* Dropout's mask */
    return copy_all(c);
}

/* ---- same data, other shape ------------------------------------------------------------------------ */

emb_status emb_op_reshape_infer(emb_call *c)
{
    emb_type t = {.dtype = c->in[0].type.dtype};
    emb_status st = emb_const_ints(c, 1, t.dims, EMB_MAX_RANK, &t.rank);
    if (st != EMB_OK) return st;
    int64_t known = 1, total = emb_elements(&c->in[0].type);
    int free_at = -1;
    bool zero_is_zero = emb_attr_i(c->node->proto, "allowzero", 0) != 0;
    for (uint32_t d = 0; d < t.rank; d++) {
        if (t.dims[d] == 0 && !zero_is_zero) {
            if (d >= c->in[0].type.rank) return emb_call_fail(c, EMB_EFORMAT, "dimension %u is copied from nowhere", d);
            t.dims[d] = c->in[0].type.dims[d];
        }
        if (t.dims[d] == -1 && free_at < 0) free_at = (int)d;
        else if (t.dims[d] < 0 || __builtin_mul_overflow(known, t.dims[d], &known) || known > EMB_MAX_ELEMENTS)
            return emb_call_fail(c, EMB_EFORMAT, "impossible shape");
    }
    if (free_at >= 0) {
        if (known == 0 || total % known != 0) return emb_call_fail(c, EMB_EFORMAT, "%" PRId64 " elements do not fit the shape", total);
        t.dims[free_at] = total / known;
        known *= t.dims[free_at];
    }
    if (known != total) return emb_call_fail(c, EMB_EFORMAT, "%" PRId64 " elements do not fit a shape of %" PRId64, total, known);
    c->out[0].type = t;
    return EMB_OK;
}

emb_status emb_op_flatten_infer(emb_call *c)
{
    const emb_type *x = &c->in[0].type;
    int64_t axis = emb_attr_i(c->node->proto, "axis", 1);
    if (axis < 0) axis += x->rank;
    if (axis < 0 || axis > x->rank) return emb_call_fail(c, EMB_EFORMAT, "axis %" PRId64, axis);
    emb_type t = {x->dtype, 2, {1, 1}};
    for (uint32_t d = 0; d < x->rank; d++) t.dims[d >= axis] *= x->dims[d];
    c->out[0].type = t;
    return EMB_OK;
}

emb_status emb_op_squeeze_infer(emb_call *c)
{
    bool set[EMB_MAX_RANK], none;
    const emb_type *x = &c->in[0].type;
    emb_status st = emb_axes_of(c, x->rank, set, &none);
    if (st != EMB_OK) return st;
    emb_type t = {.dtype = x->dtype};
    for (uint32_t d = 0; d < x->rank; d++) {
        if (set[d] && x->dims[d] != 1) return emb_call_fail(c, EMB_EFORMAT, "axis %u has %" PRId64 " elements", d, x->dims[d]);
        if (!set[d] && !(none && x->dims[d] == 1)) t.dims[t.rank++] = x->dims[d];
    }
    c->out[0].type = t;
    return EMB_OK;
}

emb_status emb_op_unsqueeze_infer(emb_call *c)
{
    bool set[EMB_MAX_RANK], none;
    const emb_type *x = &c->in[0].type;
    int64_t axes[EMB_MAX_RANK + 1];
    uint32_t n = 0;
    int given = emb_attr_ints(c->node->proto, "axes", axes, EMB_MAX_RANK);
    if (given > 0) n = (uint32_t)given;
    if (emb_has(c, 1)) {
        emb_status st = emb_const_ints(c, 1, axes, EMB_MAX_RANK, &n);
        if (st != EMB_OK) return st;
    }
    if (x->rank + n > EMB_MAX_RANK) return emb_call_fail(c, EMB_EUNSUPPORTED, "rank above %d", EMB_MAX_RANK);
    emb_status st = emb_axes_of(c, x->rank + n, set, &none);
    if (st != EMB_OK) return st;
    emb_type t = {.dtype = x->dtype, .rank = x->rank + n};
    uint32_t from = 0;
    for (uint32_t d = 0; d < t.rank; d++) {
        if (!set[d] && from >= x->rank) return emb_call_fail(c, EMB_EFORMAT, "an axis is given twice");
        t.dims[d] = set[d] ? 1 : x->dims[from++];
    }
    c->out[0].type = t;
    return EMB_OK;
}

emb_status emb_op_reshape_run(emb_call *c) { return copy_all(c); }
emb_status emb_op_flatten_run(emb_call *c) { return copy_all(c); }
emb_status emb_op_squeeze_run(emb_call *c) { return copy_all(c); }
emb_status emb_op_unsqueeze_run(emb_call *c) { return copy_all(c); }

/* ---- moved, cut and joined --------------------------------------------------------------------------- */

static void row_major(const emb_type *t, int64_t step[EMB_MAX_RANK])
{
    int64_t s = 1;
    for (uint32_t d = t->rank; d-- > 0;) step[d] = s, s *= t->dims[d];
}

/* out[index] = in[base + sum index * step], for steps of any sign. */
static void gather_strided(const emb_call *c, int64_t base, const int64_t step[EMB_MAX_RANK])
{
    const emb_type *t = &c->out[0].type;
    size_t size = emb_dtype_size(t->dtype);
    int64_t index[EMB_MAX_RANK] = {0}, at = base;
    for (int64_t i = 0, n = emb_elements(t); i < n; i++) {
        memcpy((char *)c->out[0].data + (size_t)i * size, (const char *)c->in[0].data + (size_t)at * size, size);
        for (uint32_t d = t->rank; d-- > 0;) {
            at += step[d];
            if (++index[d] < t->dims[d]) break;
            at -= step[d] * t->dims[d];
            index[d] = 0;
        }
    }
}

static emb_status read_perm(emb_call *c, int64_t perm[EMB_MAX_RANK])
{
    uint32_t rank = c->in[0].type.rank, seen = 0;
    int n = emb_attr_ints(c->node->proto, "perm", perm, EMB_MAX_RANK);
    if (n < 0)
        for (uint32_t d = 0; d < rank; d++) perm[d] = rank - 1 - d;
    for (uint32_t d = 0; (n < 0 || n == (int)rank) && d < rank; d++)
        if (perm[d] >= 0 && perm[d] < (int64_t)rank) seen |= 1u << perm[d];
    return seen == (1u << rank) - 1 ? EMB_OK : emb_call_fail(c, EMB_EFORMAT, "perm is not a permutation");
}

emb_status emb_op_transpose_infer(emb_call *c)
{
    int64_t perm[EMB_MAX_RANK];
    emb_status st = read_perm(c, perm);
    if (st != EMB_OK) return st;
    c->out[0].type = c->in[0].type;
    for (uint32_t d = 0; d < c->in[0].type.rank; d++) c->out[0].type.dims[d] = c->in[0].type.dims[perm[d]];
    return EMB_OK;
}

emb_status emb_op_transpose_run(emb_call *c)
{
    int64_t perm[EMB_MAX_RANK], in[EMB_MAX_RANK], step[EMB_MAX_RANK];
    emb_status st = read_perm(c, perm);
    if (st != EMB_OK) return st;
    row_major(&c->in[0].type, in);
    for (uint32_t d = 0; d < c->in[0].type.rank; d++) step[d] = in[perm[d]];
    gather_strided(c, 0, step);
    return EMB_OK;
}

typedef struct {
    int64_t start[EMB_MAX_RANK], count[EMB_MAX_RANK], step[EMB_MAX_RANK];
} cut;

static emb_status slice_values(emb_call *c, const char *attr, uint32_t in, int64_t *v, uint32_t *n)
{
    if (emb_has(c, in)) return emb_const_ints(c, in, v, EMB_MAX_RANK, n);
    int k = emb_attr_ints(c->node->proto, attr, v, EMB_MAX_RANK);
    if (k > EMB_MAX_RANK) return emb_call_fail(c, EMB_EFORMAT, "too many %s", attr);
    *n = k < 0 ? UINT32_MAX : (uint32_t)k;
    return EMB_OK;
}

static emb_status read_slice(emb_call *c, cut *s)
{
    const emb_type *x = &c->in[0].type;
    int64_t start[EMB_MAX_RANK], end[EMB_MAX_RANK], axes[EMB_MAX_RANK], step[EMB_MAX_RANK];
    uint32_t n, n_end, n_axes, n_step;
    emb_status st = slice_values(c, "starts", 1, start, &n);
    if (st == EMB_OK) st = slice_values(c, "ends", 2, end, &n_end);
    if (st == EMB_OK) st = slice_values(c, "axes", 3, axes, &n_axes);
    if (st == EMB_OK) st = slice_values(c, "steps", 4, step, &n_step);
    if (st != EMB_OK) return st;
    if (n == UINT32_MAX || n != n_end || (n_axes != UINT32_MAX && n_axes != n) || (n_step != UINT32_MAX && n_step != n) || n > x->rank)
        return emb_call_fail(c, EMB_EFORMAT, "starts, ends, axes and steps have different lengths");
    for (uint32_t d = 0; d < x->rank; d++) s->start[d] = 0, s->count[d] = x->dims[d], s->step[d] = 1;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t a = i;
        if (n_axes != UINT32_MAX && (st = emb_axis_of(c, axes[i], x->rank, &a)) != EMB_OK) return st;
        int64_t by = n_step != UINT32_MAX ? step[i] : 1, dim = x->dims[a];
        if (by == 0 || by < -EMB_MAX_ELEMENTS || by > EMB_MAX_ELEMENTS) return emb_call_fail(c, EMB_EFORMAT, "a step of %" PRId64, by);
        int64_t from = start[i] < 0 && start[i] >= -dim ? start[i] + dim : start[i] < 0 ? (by > 0 ? 0 : -1) : start[i];
        int64_t to = end[i] < 0 && end[i] >= -dim ? end[i] + dim : end[i] < 0 ? (by > 0 ? 0 : -1) : end[i];
        if (by > 0) {
            if (from > dim) from = dim;
            if (to > dim) to = dim;
            s->count[a] = to > from ? (to - from + by - 1) / by : 0;
        } else {
            if (from > dim - 1) from = dim - 1;
            if (to > dim - 1) to = dim - 1;
            s->count[a] = from > to ? (from - to - by - 1) / -by : 0;
        }
        s->start[a] = from;
        s->step[a] = by;
    }
    return EMB_OK;
}

emb_status emb_op_slice_infer(emb_call *c)
{
    cut s;
    emb_status st = read_slice(c, &s);
    if (st != EMB_OK) return st;
    c->out[0].type = c->in[0].type;
    for (uint32_t d = 0; d < c->in[0].type.rank; d++) c->out[0].type.dims[d] = s.count[d];
    return EMB_OK;
}

emb_status emb_op_slice_run(emb_call *c)
{
    cut s;
    emb_status st = read_slice(c, &s);
    if (st != EMB_OK) return st;
    int64_t step[EMB_MAX_RANK], base = 0;
    row_major(&c->in[0].type, step);
    for (uint32_t d = 0; d < c->in[0].type.rank; d++) {
        base += s.start[d] * step[d];
        step[d] *= s.step[d];
    }
    gather_strided(c, base, step);
    return EMB_OK;
}

static emb_status split_sizes(emb_call *c, uint32_t *axis, int64_t *sizes)
{
    const emb_type *x = &c->in[0].type;
    emb_status st = emb_axis_of(c, emb_attr_i(c->node->proto, "axis", 0), x->rank, axis);
    if (st != EMB_OK) return st;
    int64_t sum = 0, dim = x->dims[*axis];
    uint32_t n = 0;
    int k = emb_attr_ints(c->node->proto, "split", sizes, EMB_MAX_INPUTS);
    if (k > EMB_MAX_INPUTS) return emb_call_fail(c, EMB_EFORMAT, "too many parts");
    if (k > 0) n = (uint32_t)k;
    if (emb_has(c, 1) && (st = emb_const_ints(c, 1, sizes, EMB_MAX_INPUTS, &n)) != EMB_OK) return st;
    if (n == 0) {
        int64_t parts = emb_attr_i(c->node->proto, "num_outputs", 0), each = (dim + c->n_out - 1) / c->n_out; /* opset 18: the last is the smaller */
        for (; parts == c->n_out && n < c->n_out; n++) sizes[n] = n + 1 < c->n_out ? each : dim - each * (c->n_out - 1);
        if (n == 0 && dim % c->n_out != 0) return emb_call_fail(c, EMB_EFORMAT, "%" PRId64 " do not split into %u equal parts", dim, c->n_out);
        for (; n < c->n_out; n++) sizes[n] = dim / c->n_out;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (sizes[i] < 0 || sizes[i] > dim) return emb_call_fail(c, EMB_EFORMAT, "a part of %" PRId64, sizes[i]);
        sum += sizes[i];
    }
    return n == c->n_out && sum == dim ? EMB_OK : emb_call_fail(c, EMB_EFORMAT, "the parts do not add up");
}

emb_status emb_op_split_infer(emb_call *c)
{
    int64_t sizes[EMB_MAX_INPUTS];
    uint32_t axis;
    emb_status st = split_sizes(c, &axis, sizes);
    for (uint32_t i = 0; st == EMB_OK && i < c->n_out; i++) {
        c->out[i].type = c->in[0].type;
        c->out[i].type.dims[axis] = sizes[i];
    }
    return st;
}

static size_t bytes_behind(const emb_type *t, uint32_t axis)
{
    size_t n = emb_dtype_size(t->dtype);
    for (uint32_t d = axis + 1; d < t->rank; d++) n *= (size_t)t->dims[d];
    return n;
}

static int64_t count_before(const emb_type *t, uint32_t axis)
{
    int64_t n = 1;
    for (uint32_t d = 0; d < axis; d++) n *= t->dims[d];
    return n;
}

emb_status emb_op_split_run(emb_call *c)
{
    int64_t sizes[EMB_MAX_INPUTS];
    uint32_t axis;
    emb_status st = split_sizes(c, &axis, sizes);
    if (st != EMB_OK) return st;
    size_t inner = bytes_behind(&c->in[0].type, axis);
    const char *from = c->in[0].data;
    for (int64_t o = 0, outer = count_before(&c->in[0].type, axis); o < outer; o++)
        for (uint32_t i = 0; i < c->n_out; i++) {
            size_t n = inner * (size_t)sizes[i];
            memcpy((char *)c->out[i].data + (size_t)o * n, from, n);
            from += n;
        }
    return EMB_OK;
}

emb_status emb_op_concat_infer(emb_call *c)
{
    uint32_t axis;
    emb_type t = c->in[0].type;
    const Onnx__Attribute *a = emb_attr(c->node->proto, "axis");
    emb_status st = emb_axis_of(c, a != NULL ? a->i : 1, t.rank, &axis);
    if (st != EMB_OK) return st;
    for (uint32_t i = 1; i < c->n_in; i++) {
        const emb_type *x = &c->in[i].type;
        bool same = x->rank == t.rank && x->dtype == t.dtype;
        for (uint32_t d = 0; same && d < t.rank; d++)
            if (d != axis && x->dims[d] != t.dims[d]) same = false;
        if (!same) return emb_call_fail(c, EMB_EFORMAT, "input %u does not fit the first", i);
        t.dims[axis] += x->dims[axis];
    }
    c->out[0].type = t;
    return EMB_OK;
}

emb_status emb_op_concat_run(emb_call *c)
{
    uint32_t axis;
    const Onnx__Attribute *a = emb_attr(c->node->proto, "axis");
    emb_status st = emb_axis_of(c, a != NULL ? a->i : 1, c->in[0].type.rank, &axis);
    if (st != EMB_OK) return st;
    size_t inner = bytes_behind(&c->out[0].type, axis);
    char *to = c->out[0].data;
    for (int64_t o = 0, outer = count_before(&c->out[0].type, axis); o < outer; o++)
        for (uint32_t i = 0; i < c->n_in; i++) {
            size_t n = inner * (size_t)c->in[i].type.dims[axis];
            memcpy(to, (const char *)c->in[i].data + (size_t)o * n, n);
            to += n;
        }
    return EMB_OK;
}

emb_status emb_op_gather_infer(emb_call *c)
{
    uint32_t axis;
    const emb_type *x = &c->in[0].type, *k = &c->in[1].type;
    emb_status st = emb_axis_of(c, emb_attr_i(c->node->proto, "axis", 0), x->rank, &axis);
    if (st != EMB_OK) return st;
    if (k->dtype != EMB_I64 && k->dtype != EMB_I32) return emb_call_fail(c, EMB_EFORMAT, "indices must be integers");
    if (x->rank - 1 + k->rank > EMB_MAX_RANK) return emb_call_fail(c, EMB_EUNSUPPORTED, "rank above %d", EMB_MAX_RANK);
    emb_type t = {.dtype = x->dtype};
    for (uint32_t d = 0; d < axis; d++) t.dims[t.rank++] = x->dims[d];
    for (uint32_t d = 0; d < k->rank; d++) t.dims[t.rank++] = k->dims[d];
    for (uint32_t d = axis + 1; d < x->rank; d++) t.dims[t.rank++] = x->dims[d];
    c->out[0].type = t;
    return EMB_OK;
}

emb_status emb_op_gather_run(emb_call *c)
{
    uint32_t axis;
    emb_status st = emb_axis_of(c, emb_attr_i(c->node->proto, "axis", 0), c->in[0].type.rank, &axis);
    if (st != EMB_OK) return st;
    size_t inner = bytes_behind(&c->in[0].type, axis);
    int64_t dim = c->in[0].type.dims[axis], count = emb_elements(&c->in[1].type);
    char *to = c->out[0].data;
    for (int64_t o = 0, outer = count_before(&c->in[0].type, axis); o < outer; o++)
        for (int64_t i = 0; i < count; i++) {
            int64_t k = c->in[1].type.dtype == EMB_I64 ? ((const int64_t *)c->in[1].data)[i] : ((const int32_t *)c->in[1].data)[i];
            if (k < -dim || k >= dim) return emb_call_fail(c, EMB_EFORMAT, "index %" PRId64 " of %" PRId64, k, dim);
            memcpy(to, (const char *)c->in[0].data + (size_t)(o * dim + (k < 0 ? k + dim : k)) * inner, inner);
            to += inner;
        }
    return EMB_OK;
}
