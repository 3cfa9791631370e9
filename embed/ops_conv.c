/* ops_conv.c: convolution and pooling over NCHW, the definition that the plan's kernels are held to.
 * Source: the ONNX operator reference, Conv-11, MaxPool-12, AveragePool-11. */
#include "ops.h"

#include <cblas.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One spatial dimension is two of which the first is 1. */
static emb_type as_picture(const emb_type *t)
{
    emb_type p = *t;
    if (t->rank == 3) p = (emb_type){t->dtype, 4, {t->dims[0], t->dims[1], 1, t->dims[2]}};
    return p;
}

static void as_given(emb_type *picture, const emb_type *like)
{
    if (like->rank == 3) *picture = (emb_type){picture->dtype, 3, {picture->dims[0], picture->dims[1], picture->dims[3]}};
}

static emb_status read_pair(emb_call *c, const char *name, int64_t otherwise, int64_t out[2])
{
    int want = c->in[0].type.rank == 3 ? 1 : 2;
    out[0] = out[1] = otherwise;
    int n = emb_attr_ints(c->node->proto, name, out, 2);
    if (n >= 0 && n != want)
        return emb_call_fail(c, EMB_EUNSUPPORTED, "%s has %d values; one or two spatial dimensions are supported, and the input has %d", name, n, want);
    if (n == 1) out[1] = out[0], out[0] = 1;
    if (n < 0 && want == 1) out[0] = 1;
    if (out[0] < 1 || out[1] < 1 || out[0] > 65536 || out[1] > 65536)
        return emb_call_fail(c, EMB_EFORMAT, "%s is %" PRId64 " x %" PRId64, name, out[0], out[1]);
    return EMB_OK;
}

static int64_t out_size(int64_t in, int64_t k, int64_t d, int64_t s, int64_t before, int64_t after, bool up)
{
    int64_t room = in + before + after - ((k - 1) * d + 1);
    if (room < 0) return 0;
    int64_t n = (room + (up ? s - 1 : 0)) / s + 1;
    if (up && (n - 1) * s >= in + before) n--; /* a window must start inside the picture or its left padding */
    return n;
}

static void same_pads(int64_t in, int64_t k, int64_t d, int64_t s, bool lower, int64_t *before, int64_t *after)
{
    int64_t out = (in + s - 1) / s, total = (out - 1) * s + (k - 1) * d + 1 - in;
    if (total < 0) total = 0;
    *before = lower ? (total + 1) / 2 : total / 2;
    *after = total - *before;
}

emb_status emb_window_read(emb_call *c, const emb_type *x, int64_t kh, int64_t kw, emb_window *w)
{
    int64_t k[2], s[2], d[2], pads[4] = {0, 0, 0, 0};
    const Onnx__Node *p = c->node->proto;
    if (x->rank != 4) return emb_call_fail(c, EMB_EUNSUPPORTED, "the input has rank %" PRIu32 "; one or two spatial dimensions are supported", x->rank);
    emb_status st = read_pair(c, "kernel_shape", kh, k);
    if (st == EMB_OK) st = read_pair(c, "strides", 1, s);
    if (st == EMB_OK) st = read_pair(c, "dilations", 1, d);
    if (st != EMB_OK) return st;
    if (emb_attr(p, "kernel_shape") == NULL) k[0] = kh, k[1] = kw;
    if (kh != 0 && (k[0] != kh || k[1] != kw)) return emb_call_fail(c, EMB_EFORMAT, "kernel_shape differs from the weights");
    int n = emb_attr_ints(p, "pads", pads, 4), want = c->in[0].type.rank == 3 ? 2 : 4;
    if (n >= 0 && n != want) return emb_call_fail(c, EMB_EFORMAT, "pads has %d values, not %d", n, want);
    if (n == 2) pads[3] = pads[1], pads[1] = pads[0], pads[0] = pads[2] = 0;
    for (int i = 0; i < 4; i++)
        if (pads[i] < 0 || pads[i] > 65536) return emb_call_fail(c, EMB_EUNSUPPORTED, "a pad of %" PRId64, pads[i]);
    *w = (emb_window){k[0], k[1], s[0], s[1], d[0], d[1], pads[0], pads[1], pads[2], pads[3], 0, 0, emb_attr_i(p, "group", 1),
                      emb_attr_i(p, "ceil_mode", 0) != 0, emb_attr_i(p, "count_include_pad", 0) != 0};
    bool upper = emb_attr_is(p, "auto_pad", "SAME_UPPER"), lower = emb_attr_is(p, "auto_pad", "SAME_LOWER");
    if (upper || lower) {
        same_pads(x->dims[2], w->kh, w->dh, w->sh, lower, &w->top, &w->bottom);
        same_pads(x->dims[3], w->kw, w->dw, w->sw, lower, &w->left, &w->right);
    } else if (emb_attr_is(p, "auto_pad", "VALID")) {
        w->top = w->left = w->bottom = w->right = 0;
    } else if (emb_attr(p, "auto_pad") != NULL && !emb_attr_is(p, "auto_pad", "NOTSET") && !emb_attr_is(p, "auto_pad", "")) {
        return emb_call_fail(c, EMB_EFORMAT, "auto_pad is none of NOTSET, VALID, SAME_UPPER and SAME_LOWER");
    }
    w->oh = out_size(x->dims[2], w->kh, w->dh, w->sh, w->top, w->bottom, w->ceil_mode);
    w->ow = out_size(x->dims[3], w->kw, w->dw, w->sw, w->left, w->right, w->ceil_mode);
    if (w->oh < 1 || w->ow < 1) return emb_call_fail(c, EMB_EFORMAT, "the window is larger than the padded input");
    return EMB_OK;
}

emb_status emb_op_conv_infer(emb_call *c)
{
    emb_type xp = as_picture(&c->in[0].type), kp = as_picture(&c->in[1].type), *x = &xp, *k = &kp;
    emb_window w;
    emb_status st = emb_want_float(c, 0);
    if (st == EMB_OK) st = emb_want_float(c, 1);
    if (st == EMB_OK && (k->rank != 4 || c->in[0].type.rank != c->in[1].type.rank))
        st = emb_call_fail(c, EMB_EUNSUPPORTED, "weights of rank %" PRIu32 "; one or two spatial dimensions are supported", c->in[1].type.rank);
    if (st == EMB_OK && (k->dims[2] < 1 || k->dims[3] < 1)) st = emb_call_fail(c, EMB_EFORMAT, "an empty kernel");
    if (st == EMB_OK) st = emb_window_read(c, x, k->dims[2], k->dims[3], &w);
    if (st != EMB_OK) return st;
    if (w.group < 1 || w.group > x->dims[1] || k->dims[0] < 1 || k->dims[0] % w.group != 0 || k->dims[1] < 1 ||
        k->dims[1] > x->dims[1] || x->dims[1] != k->dims[1] * w.group)
        return emb_call_fail(c, EMB_EFORMAT, "%" PRId64 " channels, weights for %" PRId64 " in %" PRId64 " groups", x->dims[1],
                             k->dims[1], w.group);
    if (emb_has(c, 2) && (c->in[2].type.dtype != EMB_F32 || emb_elements(&c->in[2].type) != k->dims[0]))
        return emb_call_fail(c, EMB_EFORMAT, "the bias does not match the weights");
    c->out[0].type = (emb_type){EMB_F32, 4, {x->dims[0], k->dims[0], w.oh, w.ow}};
    as_given(&c->out[0].type, &c->in[0].type);
    return EMB_OK;
}

/* One picture, one group: [ic * kh * kw][oh * ow]. */
static void im2col(const float *x, int64_t ic, int64_t h, int64_t wd, const emb_window *w, float *col)
{
    for (int64_t ch = 0; ch < ic; ch++)
        for (int64_t ky = 0; ky < w->kh; ky++)
            for (int64_t kx = 0; kx < w->kw; kx++)
                for (int64_t oy = 0; oy < w->oh; oy++) {
                    int64_t y = oy * w->sh - w->top + ky * w->dh;
                    for (int64_t ox = 0; ox < w->ow; ox++) {
                        int64_t xx = ox * w->sw - w->left + kx * w->dw;
                        *col++ = y >= 0 && y < h && xx >= 0 && xx < wd ? x[(ch * h + y) * wd + xx] : 0;
                    }
                }
}

emb_status emb_op_conv_run(emb_call *c)
{
    const emb_type xp = as_picture(&c->in[0].type), kp = as_picture(&c->in[1].type), *x = &xp, *k = &kp;
    emb_window w;
    emb_status st = emb_window_read(c, x, k->dims[2], k->dims[3], &w);
    if (st != EMB_OK) return st;
    int64_t ic = k->dims[1], oc = k->dims[0] / w.group, depth = ic * w.kh * w.kw, plane = w.oh * w.ow, bytes;
    if (__builtin_mul_overflow(depth * 4, plane, &bytes) || bytes > (int64_t)EMB_RUN_BYTES)
        return emb_call_fail(c, EMB_ELIMIT, "the convolution is too large");
    float *col = malloc((size_t)bytes);
    if (col == NULL) return emb_call_fail(c, EMB_ENOMEM, "no memory");
    for (int64_t n = 0; n < x->dims[0]; n++)
        for (int64_t g = 0; g < w.group; g++) {
            im2col((const float *)c->in[0].data + (n * w.group + g) * ic * x->dims[2] * x->dims[3], ic, x->dims[2], x->dims[3], &w, col);
            float *y = (float *)c->out[0].data + (n * w.group + g) * oc * plane;
            for (int64_t o = 0; o < oc; o++) {
                float b = emb_has(c, 2) ? ((const float *)c->in[2].data)[g * oc + o] : 0;
                for (int64_t i = 0; i < plane; i++) y[o * plane + i] = b;
            }
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)oc, (int)plane, (int)depth, 1,
                        (const float *)c->in[1].data + g * oc * depth, (int)depth, col, (int)plane, 1, y, (int)plane);
        }
    free(col);
    return EMB_OK;
}

/* ---- pools ---------------------------------------------------------------------------------------- */

static emb_status pool_infer(emb_call *c)
{
    emb_window w;
    emb_dtype t = c->in[0].type.dtype;
    bool bytes = c->node->op->name[0] == 'M' && (t == EMB_U8 || t == EMB_I8); /* MaxPool takes them, since opset 12 */
    emb_status st = bytes ? EMB_OK : emb_want_float(c, 0);
    if (st == EMB_OK && emb_attr(c->node->proto, "kernel_shape") == NULL) st = emb_call_fail(c, EMB_EFORMAT, "no kernel_shape");
    emb_type xp = as_picture(&c->in[0].type), *x = &xp;
    if (st == EMB_OK) st = emb_window_read(c, x, 0, 0, &w);
    if (st != EMB_OK) return st;
    if (c->n_out > 1) return emb_call_fail(c, EMB_EUNSUPPORTED, "indices are not supported");
    c->out[0].type = (emb_type){t, 4, {x->dims[0], x->dims[1], w.oh, w.ow}};
    as_given(&c->out[0].type, &c->in[0].type);
    return EMB_OK;
}

static emb_status max_pool_bytes(emb_call *c, const emb_window *w)
{
    const emb_type xp = as_picture(&c->in[0].type), *t = &xp;
    int64_t h = t->dims[2], wd = t->dims[3], out = 0;
    for (int64_t p = 0; p < t->dims[0] * t->dims[1]; p++)
        for (int64_t oy = 0; oy < w->oh; oy++)
            for (int64_t ox = 0; ox < w->ow; ox++) {
                int64_t best = INT64_MIN;
                for (int64_t ky = 0; ky < w->kh; ky++)
                    for (int64_t kx = 0; kx < w->kw; kx++) {
                        int64_t y = oy * w->sh - w->top + ky * w->dh, x = ox * w->sw - w->left + kx * w->dw;
                        if (y < 0 || y >= h || x < 0 || x >= wd) continue;
                        int64_t v = emb_whole(&c->in[0], (p * h + y) * wd + x);
                        best = v > best ? v : best;
                    }
                emb_put_whole(&c->out[0], out++, best);
            }
    return EMB_OK;
}

static emb_status pool_run(emb_call *c, bool most)
{
    emb_window w;
    const emb_type xp = as_picture(&c->in[0].type), *t = &xp;
    emb_status st = emb_window_read(c, t, 0, 0, &w);
    if (st != EMB_OK) return st;
    if (t->dtype != EMB_F32) return max_pool_bytes(c, &w);
    int64_t h = t->dims[2], wd = t->dims[3];
    float *out = c->out[0].data;
    for (int64_t p = 0; p < t->dims[0] * t->dims[1]; p++) {
        const float *x = (const float *)c->in[0].data + p * h * wd;
        for (int64_t oy = 0; oy < w.oh; oy++)
            for (int64_t ox = 0; ox < w.ow; ox++) {
                float best = -INFINITY;
                double sum = 0;
                int64_t inside = 0, padded = 0;
                for (int64_t ky = 0; ky < w.kh; ky++)
                    for (int64_t kx = 0; kx < w.kw; kx++) {
                        int64_t y = oy * w.sh - w.top + ky * w.dh, xx = ox * w.sw - w.left + kx * w.dw;
                        if (y < h + w.bottom && xx < wd + w.right) padded++; /* what ceil_mode adds counts in no mean */
                        if (y < 0 || y >= h || xx < 0 || xx >= wd) continue;
                        inside++;
                        best = fmaxf(best, x[y * wd + xx]);
                        sum += (double)x[y * wd + xx];
                    }
                int64_t n = w.count_pad ? padded : inside;
                *out++ = most ? best : (float)(sum / (double)(n > 0 ? n : 1));
            }
    }
    return EMB_OK;
}

emb_status emb_op_max_pool_infer(emb_call *c) { return pool_infer(c); }
emb_status emb_op_max_pool_run(emb_call *c) { return pool_run(c, true); }
emb_status emb_op_average_pool_infer(emb_call *c) { return pool_infer(c); }
emb_status emb_op_average_pool_run(emb_call *c) { return pool_run(c, false); }

emb_status emb_op_global_pool_infer(emb_call *c)
{
    emb_status st = emb_want_float(c, 0);
    if (st != EMB_OK) return st;
    if (c->in[0].type.rank < 3) return emb_call_fail(c, EMB_EFORMAT, "nothing to pool");
    c->out[0].type = c->in[0].type;
    for (uint32_t d = 2; d < c->in[0].type.rank; d++) c->out[0].type.dims[d] = 1;
    return EMB_OK;
}

emb_status emb_op_global_pool_run(emb_call *c)
{
    const emb_type *t = &c->in[0].type;
    bool most = strcmp(c->node->op->name, "GlobalMaxPool") == 0;
    int64_t plane = 1;
    for (uint32_t d = 2; d < t->rank; d++) plane *= t->dims[d];
    const float *x = c->in[0].data;
    for (int64_t i = 0; i < t->dims[0] * t->dims[1]; i++) {
        double sum = 0;
        float best = -INFINITY;
        for (int64_t k = 0; k < plane; k++) sum += (double)x[i * plane + k], best = fmaxf(best, x[i * plane + k]);
        ((float *)c->out[0].data)[i] = most ? best : (float)(sum / (double)(plane > 0 ? plane : 1));
    }
    return EMB_OK;
}
