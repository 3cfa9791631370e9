/* ops_resize.c: Resize and its forerunner Upsample: axis by axis, each result a weighted sum of a few numbers of the axis.
 * Source: the ONNX operator reference, Resize of opsets 10 to 19, Upsample of 7 and 9. */
#include "ops.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    double scale[EMB_MAX_RANK]; /* result / input */
    int64_t dims[EMB_MAX_RANK];
} sizes;

static bool is_empty(const emb_call *c, uint32_t in) { return !emb_has(c, in) || emb_elements(&c->in[in].type) == 0; }

/* The input or attribute with a factor for each axis of `axes`. */
static emb_status read_scales(emb_call *c, uint32_t in, float *scale, uint32_t n)
{
    const Onnx__Attribute *a = emb_attr(c->node->proto, "scales");
    if (in == UINT32_MAX) { /* Upsample-7 */
        if (a == NULL || a->n_floats != n) return emb_call_fail(c, EMB_EFORMAT, "no scales, or not one for each axis");
        memcpy(scale, a->floats, n * sizeof *scale);
        return EMB_OK;
    }
    if (c->in[in].data == NULL) return emb_call_fail(c, EMB_EUNSUPPORTED, "scales depend on the picture; they must be constant");
    if (c->in[in].type.dtype != EMB_F32 || emb_elements(&c->in[in].type) != n) return emb_call_fail(c, EMB_EFORMAT, "not one scale for each axis");
    memcpy(scale, c->in[in].data, n * sizeof *scale);
    return EMB_OK;
}

static void keep_aspect(const emb_call *c, sizes *s, const int64_t *axes, uint32_t n)
{
    bool smaller = emb_attr_is(c->node->proto, "keep_aspect_ratio_policy", "not_smaller");
    if (!smaller && !emb_attr_is(c->node->proto, "keep_aspect_ratio_policy", "not_larger")) return;
    double all = smaller ? 0 : INFINITY;
    for (uint32_t i = 0; i < n; i++) all = smaller ? fmax(all, s->scale[axes[i]]) : fmin(all, s->scale[axes[i]]);
    for (uint32_t i = 0; i < n; i++) {
        s->scale[axes[i]] = all;
        s->dims[axes[i]] = (int64_t)floor(all * (double)c->in[0].type.dims[axes[i]] + 0.5);
    }
}

static emb_status read_sizes(emb_call *c, sizes *s)
{
    const emb_type *x = &c->in[0].type;
    int64_t axes[EMB_MAX_RANK], want[EMB_MAX_RANK];
    float scale[EMB_MAX_RANK];
    uint32_t n = x->rank, n_want, axis;
    bool upsample = c->node->op->name[0] == 'U', old = c->g->opset < 11 || upsample;
    for (uint32_t d = 0; d < EMB_MAX_RANK; d++) axes[d] = d, s->scale[d] = 1, s->dims[d] = d < x->rank ? x->dims[d] : 1;
    int given = emb_attr_ints(c->node->proto, "axes", axes, EMB_MAX_RANK);
    if (given > (int)x->rank) return emb_call_fail(c, EMB_EFORMAT, "more axes than the input has");
    if (given > 0) n = (uint32_t)given;
    emb_status st = EMB_OK;
    for (uint32_t i = 0; st == EMB_OK && i < n; i++) {
        st = emb_axis_of(c, axes[i], x->rank, &axis);
        axes[i] = axis;
    }
    bool by_size = !old && !is_empty(c, 3);
    if (st == EMB_OK && by_size) {
        st = emb_const_ints(c, 3, want, EMB_MAX_RANK, &n_want);
        if (st == EMB_OK && n_want != n) st = emb_call_fail(c, EMB_EFORMAT, "not one size for each axis");
    } else if (st == EMB_OK) {
        if (!old && is_empty(c, 2)) return emb_call_fail(c, EMB_EFORMAT, "neither scales nor sizes");
        st = read_scales(c, old ? (c->n_in > 1 ? 1 : UINT32_MAX) : 2, scale, n);
    }
    for (uint32_t i = 0; st == EMB_OK && i < n; i++) {
        int64_t dim = x->dims[axes[i]];
        double f = by_size ? (dim > 0 ? (double)want[i] / (double)dim : 1) : (double)scale[i];
        if (!(f > 0 && f < 1e6)) return emb_call_fail(c, EMB_EFORMAT, "a scale of %g", f);
        s->scale[axes[i]] = f;
        s->dims[axes[i]] = by_size ? want[i] : (int64_t)floor((double)dim * f);
        if (s->dims[axes[i]] > EMB_MAX_ELEMENTS) return emb_call_fail(c, EMB_EFORMAT, "a size of %" PRId64, s->dims[axes[i]]);
    }
    if (st == EMB_OK && by_size) keep_aspect(c, s, axes, n);
    return st;
}

emb_status emb_op_resize_infer(emb_call *c)
{
    sizes s;
    bool nearest = emb_attr_is(c->node->proto, "mode", "nearest") || emb_attr(c->node->proto, "mode") == NULL;
    if (emb_attr_is(c->node->proto, "coordinate_transformation_mode", "tf_crop_and_resize")) return emb_call_fail(c, EMB_EUNSUPPORTED, "tf_crop_and_resize");
    emb_status st = nearest ? EMB_OK : emb_want_float(c, 0);
    if (st == EMB_OK) st = read_sizes(c, &s);
    if (st != EMB_OK) return st;
    c->out[0].type = c->in[0].type;
    memcpy(c->out[0].type.dims, s.dims, sizeof s.dims);
    return EMB_OK;
}

/* ---- one axis --------------------------------------------------------------------------------------- */

/* Where on the axis of `n` numbers result i of m lies. */
static double place(const emb_call *c, int64_t i, int64_t n, int64_t m, double scale)
{
    const Onnx__Node *p = c->node->proto;
    const char *name = "coordinate_transformation_mode";
    bool old = c->g->opset < 11 || c->node->op->name[0] == 'U';
    if (old || emb_attr_is(p, name, "asymmetric")) return (double)i / scale;
    if (emb_attr_is(p, name, "align_corners")) {
        double last = (double)n * scale - 1; /* of the result, where scales are given not a whole number */
        return m == 1 || last == 0 ? 0 : (double)i * (double)(n - 1) / last;
    }
    if (emb_attr_is(p, name, "tf_half_pixel_for_nn")) return ((double)i + 0.5) / scale; /* opset 11 only */
    double x = ((double)i + 0.5) / scale - 0.5;
    if (emb_attr_is(p, name, "pytorch_half_pixel")) return m > 1 ? x : 0;
    if (emb_attr_is(p, name, "half_pixel_symmetric")) return x + (double)n / 2 * (1 - (double)m / (scale * (double)n));
    return x;
}

static int64_t nearest(const emb_call *c, double x, int64_t n)
{
    const Onnx__Node *p = c->node->proto;
    bool old = c->g->opset < 11 || c->node->op->name[0] == 'U';
    double k = ceil(x - 0.5);
    if (old || emb_attr_is(p, "nearest_mode", "floor")) k = floor(x);
    else if (emb_attr_is(p, "nearest_mode", "ceil")) k = ceil(x);
    else if (emb_attr_is(p, "nearest_mode", "round_prefer_ceil")) k = floor(x + 0.5);
    return k < 0 ? 0 : k > (double)(n - 1) ? n - 1 : (int64_t)k;
}

static double kernel(bool cubic, double a, double d)
{
    d = fabs(d);
    if (!cubic) return d < 1 ? 1 - d : 0;
    if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

typedef struct { /* of one result: weights of the numbers first, first + 1, ... */
    int64_t first;
    uint32_t n;
    double w[];
} taps;

static taps *find_taps(const emb_call *c, int64_t i, int64_t n, int64_t m, double scale)
{
    const Onnx__Node *p = c->node->proto;
    bool cubic = emb_attr_is(p, "mode", "cubic"), exclude = emb_attr_i(p, "exclude_outside", 0) != 0;
    double shrink = emb_attr_i(p, "antialias", 0) != 0 && scale < 1 ? scale : 1, a = (double)emb_attr_f(p, "cubic_coeff_a", -0.75f);
    double x = place(c, i, n, m, scale), reach = (cubic ? 2 : 1) / shrink, sum = 0;
    if (emb_attr(p, "mode") == NULL || emb_attr_is(p, "mode", "nearest")) {
        taps *one = malloc(sizeof *one + sizeof(double));
        if (one != NULL) *one = (taps){nearest(c, x, n), 1}, one->w[0] = 1;
        return one;
    }
    int64_t first = (int64_t)floor(x - reach) + 1, last = (int64_t)ceil(x + reach) - 1;
    if (last < first) last = first;
    int64_t from = first < 0 ? 0 : first > n - 1 ? n - 1 : first, to = last > n - 1 ? n - 1 : last < 0 ? 0 : last;
    taps *t = calloc(1, sizeof *t + (size_t)(to - from + 1) * sizeof(double));
    if (t == NULL) return NULL;
    t->first = from;
    t->n = (uint32_t)(to - from + 1);
    for (int64_t k = first; k <= last; k++) {
        bool inside = k >= 0 && k < n;
        double w = exclude && !inside ? 0 : kernel(cubic, a, ((double)k - x) * shrink);
        t->w[(k < from ? from : k > to ? to : k) - from] += w; /* what lies outside is as the edge */
        sum += w;
    }
    for (uint32_t k = 0; k < t->n; k++) t->w[k] /= sum != 0 ? sum : 1;
    return t;
}

/* from [outer][n][inner] -> to [outer][m][inner] */
static emb_status resize_axis(const emb_call *c, const void *from, void *to, int64_t outer, int64_t n, int64_t m, size_t inner, double scale)
{
    size_t size = emb_dtype_size(c->in[0].type.dtype);
    for (int64_t i = 0; i < m; i++) {
        taps *t = find_taps(c, i, n, m, scale);
        if (t == NULL) return emb_call_fail(c, EMB_ENOMEM, "no memory");
        for (int64_t o = 0; o < outer; o++) {
            const char *x = (const char *)from + ((size_t)(o * n + t->first) * inner) * size;
            char *y = (char *)to + ((size_t)(o * m + i) * inner) * size;
            if (t->n == 1 && t->w[0] == 1) {
                memcpy(y, x, inner * size);
                continue;
            }
            for (size_t k = 0; k < inner; k++) {
                double sum = 0;
                for (uint32_t e = 0; e < t->n; e++) sum += t->w[e] * (double)((const float *)(const void *)x)[e * inner + k];
                ((float *)(void *)y)[k] = (float)sum;
            }
        }
        free(t);
    }
    return EMB_OK;
}

emb_status emb_op_resize_run(emb_call *c)
{
    sizes s;
    emb_status st = read_sizes(c, &s);
    if (st != EMB_OK) return st;
    emb_type now = c->in[0].type;
    const void *from = c->in[0].data;
    void *mine = NULL;
    if (emb_elements(&c->out[0].type) == 0) return EMB_OK;
    for (uint32_t d = 0; st == EMB_OK && d < now.rank; d++) {
        if (s.dims[d] == now.dims[d] && s.scale[d] == 1) continue;
        emb_type next = now;
        next.dims[d] = s.dims[d];
        int64_t outer = 1;
        size_t inner = 1;
        for (uint32_t k = 0; k < d; k++) outer *= now.dims[k];
        for (uint32_t k = d + 1; k < now.rank; k++) inner *= (size_t)now.dims[k];
        void *to = emb_type_sane(&next) ? malloc(emb_type_bytes(&next) + 64) : NULL;
        st = to != NULL ? resize_axis(c, from, to, outer, now.dims[d], s.dims[d], inner, s.scale[d]) : emb_call_fail(c, EMB_ENOMEM, "no memory");
        free(mine);
        from = mine = to;
        now = next;
    }
    if (st == EMB_OK) memcpy(c->out[0].data, from, emb_type_bytes(&c->out[0].type));
    free(mine);
    return st;
}
