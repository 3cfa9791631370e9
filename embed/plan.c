/* plan.c: graph -> steps. One function for each kind of node that kernels know; everything else goes to the general
 * executor, so every graph that loads also runs. */
#include "plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *emb_step_name(emb_step_kind k)
{
    static const char *const name[] = {"conv", "winograd", "depthwise", "max_pool", "avg_pool", "global_mean", "add", "mul",
                                       "affine", "gate", "act", "concat", "to_nchw", "to_nhwc", "widen", "narrow", "quantize",
                                       "dequantize", "lookup", "general"};
    return name[k];
}

bool emb_is_image(const emb_type *t)
{
    return t->rank == 4 && t->dims[0] == 1 && t->dtype == EMB_F32 && t->dims[1] > 0 && t->dims[2] > 0 && t->dims[3] > 0;
}

/* NHWC and NCHW are the same bytes. */
bool emb_plan_same_bytes(const emb_type *t) { return !emb_is_image(t) || t->dims[1] == 1 || t->dims[2] * t->dims[3] == 1; }

emb_step *emb_plan_step(emb_planner *pl, emb_step_kind kind, const emb_node *n)
{
    emb_plan *p = pl->p;
    if (p->n_steps == p->cap_steps) {
        size_t cap = p->cap_steps * 2 + 32;
        emb_step *s = realloc(p->steps, cap * sizeof *s);
        if (s == NULL) return NULL;
        p->steps = s;
        p->cap_steps = cap;
    }
    emb_step *s = &p->steps[p->n_steps++];
    *s = (emb_step){.kind = kind, .node = n, .x_bytes = p->k->bytes, .y_bytes = p->k->bytes, .r_bytes = p->k->bytes, .out = -1, .residual = -1, .scratch = -1, .gate = -1, .lo = -INFINITY, .hi = INFINITY};
    return s;
}

int32_t emb_plan_buffer(emb_planner *pl, size_t bytes)
{
    emb_plan *p = pl->p;
    if (p->n_buffers == p->cap_buffers) {
        size_t cap = p->cap_buffers * 2 + 32;
        emb_buffer *b = realloc(p->buffers, cap * sizeof *b);
        if (b == NULL) return -1;
        p->buffers = b;
        p->cap_buffers = cap;
    }
    p->buffers[p->n_buffers] = (emb_buffer){.bytes = (bytes + EMB_KERNEL_SLACK + 63) / 64 * 64, .first = INT32_MAX, .last = -1};
    return (int32_t)p->n_buffers++;
}

size_t emb_plan_bytes(const emb_planner *pl, const emb_type *t) { return (size_t)emb_elements(t) * pl->p->k->bytes; }

static bool set_inputs(emb_step *s, const int32_t *in, int32_t n)
{
    s->in = malloc((size_t)(n > 0 ? n : 1) * sizeof *s->in);
    if (s->in == NULL) return false;
    memcpy(s->in, in, (size_t)n * sizeof *in);
    s->n_in = n;
    return true;
}

static void picture(emb_step *s, const emb_type *in, const emb_type *out)
{
    s->ic = (uint32_t)in->dims[1], s->ih = (uint32_t)in->dims[2], s->iw = (uint32_t)in->dims[3];
    s->oc = s->y_pixel = (uint32_t)out->dims[1], s->oh = (uint32_t)out->dims[2], s->ow = (uint32_t)out->dims[3];
}

emb_step *emb_plan_simple(emb_planner *pl, emb_step_kind kind, const emb_node *n, const int32_t *in, int32_t n_in, const emb_type *out, bool bytes)
{
    bool wide = kind == EMB_STEP_TO_NCHW || kind == EMB_STEP_WIDEN || kind == EMB_STEP_DEQUANTIZE;
    uint32_t size = bytes ? 1 : wide ? (uint32_t)sizeof(float) : pl->p->k->bytes;
    int32_t b = emb_plan_buffer(pl, (size_t)emb_elements(out) * size);
    emb_step *s = b >= 0 ? emb_plan_step(pl, kind, n) : NULL;
    if (s == NULL || !set_inputs(s, in, n_in)) return NULL;
    s->out = b;
    s->y_bytes = size;
    if (bytes) s->x_bytes = s->r_bytes = 1;
    return s;
}

static emb_step *new_step(emb_planner *pl, emb_step_kind kind, const emb_node *n, const int32_t *in, int32_t n_in, const emb_type *out)
{
    return emb_plan_simple(pl, kind, n, in, n_in, out, false);
}

static int32_t convert(emb_planner *pl, emb_step_kind kind, int32_t from, const emb_type *t)
{
    emb_step *s = new_step(pl, kind, NULL, &from, 1, t);
    if (s == NULL) return -1;
    if (kind == EMB_STEP_TO_NCHW || kind == EMB_STEP_TO_NHWC) picture(s, t, t);
    else s->oc = s->ic = s->ih = s->oh = 1, s->iw = s->ow = (uint32_t)emb_elements(t);
    return s->out;
}

/* The floats of a value of which only 8 bits are there, in the form that these have: NHWC or rows. */
static bool widen_view(emb_planner *pl, int32_t v, bool image)
{
    const emb_type *t = &pl->g->values[v].type;
    if (!emb_q8_ready(pl, v)) return false;
    pl->retreat = pl->retreat || t->dtype != EMB_F32;
    if (t->dtype != EMB_F32) return false;
    emb_q8_view *w = &pl->views[v];
    bool nhwc = w->nhwc >= 0 && (image || w->rows < 0);
    emb_step *s = emb_plan_simple(pl, EMB_STEP_DEQUANTIZE, NULL, nhwc ? &w->nhwc : &w->rows, 1, t, false);
    if (s == NULL || (s->q8 = emb_q8_new(w->grid, w->grid)) == NULL) return false;
    s->oc = s->ic = s->ih = s->oh = 1, s->iw = s->ow = (uint32_t)emb_elements(t);
    (nhwc ? pl->nhwc : pl->rows)[v] = s->out;
    return !image || nhwc || (emb_plan_same_bytes(t) && (pl->nhwc[v] = s->out) >= 0);
}

int32_t emb_plan_nhwc(emb_planner *pl, int32_t v)
{
    const emb_type *t = &pl->g->values[v].type;
    if (pl->nhwc[v] >= 0) return pl->nhwc[v];
    if (pl->dense[v] < 0 && widen_view(pl, v, true)) return pl->nhwc[v];
    if (emb_plan_same_bytes(t)) return pl->nhwc[v] = emb_plan_rows(pl, v);
    int32_t from = emb_plan_dense(pl, v);
    return from < 0 ? -1 : (pl->nhwc[v] = convert(pl, EMB_STEP_TO_NHWC, from, t));
}

int32_t emb_plan_rows(emb_planner *pl, int32_t v)
{
    const emb_type *t = &pl->g->values[v].type;
    if (pl->rows[v] >= 0) return pl->rows[v];
    if (pl->nhwc[v] < 0 && pl->dense[v] < 0 && widen_view(pl, v, false) && pl->rows[v] >= 0) return pl->rows[v];
    if (pl->nhwc[v] >= 0 && emb_plan_same_bytes(t)) return pl->rows[v] = pl->nhwc[v];
    int32_t from = emb_plan_dense(pl, v);
    if (pl->rows[v] >= 0 || from < 0) return pl->rows[v]; /* float32: they are one */
    return pl->rows[v] = convert(pl, EMB_STEP_NARROW, from, t);
}

int32_t emb_plan_dense(emb_planner *pl, int32_t v)
{
    const emb_type *t = &pl->g->values[v].type;
    if (pl->dense[v] >= 0) return pl->dense[v];
    if (pl->nhwc[v] < 0 && pl->rows[v] < 0 && widen_view(pl, v, false) && pl->dense[v] >= 0) return pl->dense[v];
    if (pl->rows[v] >= 0) return pl->dense[v] = convert(pl, EMB_STEP_WIDEN, pl->rows[v], t);
    if (pl->nhwc[v] < 0) return -1;
    if (!emb_plan_same_bytes(t)) return pl->dense[v] = convert(pl, EMB_STEP_TO_NCHW, pl->nhwc[v], t);
    return pl->dense[v] = pl->p->k->type == EMB_F32 ? pl->nhwc[v] : convert(pl, EMB_STEP_WIDEN, pl->nhwc[v], t);
}

bool emb_plan_ready(const emb_planner *pl, int32_t v)
{
    return v >= 0 && (pl->nhwc[v] >= 0 || pl->rows[v] >= 0 || pl->dense[v] >= 0 || emb_q8_ready(pl, v));
}

const emb_node *emb_plan_only_consumer(const emb_planner *pl, int32_t v)
{
    if (v < 0 || pl->g->values[v].uses != 1 || pl->consumer[v] < 0 || pl->done[pl->consumer[v]]) return NULL;
    return &pl->g->nodes[pl->consumer[v]];
}

bool emb_plan_by_channel(const emb_planner *pl, int32_t v, const emb_type *t, float *out)
{
    const emb_value *k = v >= 0 ? &pl->g->values[v] : NULL;
    if (k == NULL || k->data == NULL || k->type.dtype != EMB_F32 || t->rank == 0 || k->type.rank > t->rank) return false;
    bool image = emb_is_image(t);
    uint32_t axis = image ? 1 : t->rank - 1; /* the channels of rows are their last dimension */
    int64_t c = t->dims[axis], n = emb_elements(&k->type);
    for (uint32_t d = 0; d < k->type.rank; d++)
        if (k->type.dims[d] != 1 && d + t->rank - k->type.rank != axis) return false;
    if (n != 1 && n != c) return false;
    for (int64_t i = 0; i < c; i++) out[i] = ((const float *)k->data)[n == 1 ? 0 : i];
    return true;
}

bool emb_plan_activation(const emb_planner *pl, const emb_node *n, emb_step *s)
{
    const char *op = n->op->name;
    if (strcmp(op, "Relu") == 0) {
        s->lo = 0;
    } else if (strcmp(op, "Clip") == 0) {
        float bound[2] = {emb_attr_f(n->proto, "min", -INFINITY), emb_attr_f(n->proto, "max", INFINITY)};
        for (uint32_t i = 1; i < n->n_in && i < 3; i++) {
            if (n->in[i] < 0) continue;
            const float *v = pl->g->values[n->in[i]].data;
            if (v == NULL) return false;
            bound[i - 1] = *v;
        }
        s->lo = bound[0];
        s->hi = bound[1];
    } else if (strcmp(op, "Sigmoid") == 0) {
        s->act = EMB_ACT_SIGMOID;
    } else if (strcmp(op, "HardSwish") == 0) {
        s->act = EMB_ACT_HSWISH;
    } else if (strcmp(op, "HardSigmoid") == 0) {
        s->act = EMB_ACT_HSIGMOID;
        s->act_a = emb_attr_f(n->proto, "alpha", 0.2f);
        s->act_b = emb_attr_f(n->proto, "beta", 0.5f);
    } else {
        return false;
    }
    return true;
}

/* ---- nodes that kernels know ------------------------------------------------------------------------- */

static emb_status no_memory(emb_planner *pl) { return emb_fail(pl->err, EMB_ENOMEM, "%s: no memory to plan", pl->g->file); }

static const emb_type *type_of(const emb_planner *pl, int32_t v) { return &pl->g->values[v].type; }

/* The form in which a value already exists, to avoid conversions; sets *image. */
static int32_t any_form(emb_planner *pl, int32_t v, bool *image)
{
    *image = pl->nhwc[v] >= 0 && emb_is_image(type_of(pl, v));
    return *image ? pl->nhwc[v] : emb_plan_rows(pl, v);
}

static void bind(emb_planner *pl, int32_t v, int32_t buffer, bool image) { (image ? pl->nhwc : pl->rows)[v] = buffer; }

static emb_status plan_pool(emb_planner *pl, const emb_node *n, bool *handled)
{
    const emb_type *x = type_of(pl, n->in[0]), *y = type_of(pl, n->out[0]);
    bool global = strcmp(n->op->name, "GlobalAveragePool") == 0;
    *handled = emb_is_image(x);
    if (!*handled) return EMB_OK;
    emb_window w = {0};
    if (!global) {
        emb_arg in[1] = {{*x, NULL}}, out[1] = {{*y, NULL}};
        emb_call c = {pl->g, n, in, out, 1, 1, pl->err};
        emb_status st = emb_window_read(&c, x, 0, 0, &w);
        if (st != EMB_OK) return st;
    }
    int32_t in = emb_plan_nhwc(pl, n->in[0]);
    emb_step *s = in < 0 ? NULL
                         : new_step(pl, global ? EMB_STEP_GLOBAL_MEAN : n->op->name[0] == 'M' ? EMB_STEP_MAX_POOL : EMB_STEP_AVG_POOL,
                                    n, &in, 1, y);
    if (s == NULL) return no_memory(pl);
    picture(s, x, y);
    s->w = w;
    bind(pl, n->out[0], s->out, true);
    return EMB_OK;
}

/* ReduceMean over height and width is the global mean. */
static emb_status plan_reduce_mean(emb_planner *pl, const emb_node *n, bool *handled)
{
    int64_t axes[EMB_MAX_RANK];
    int k = emb_attr_ints(n->proto, "axes", axes, EMB_MAX_RANK);
    const emb_value *given = k < 0 && n->n_in > 1 && n->in[1] >= 0 ? &pl->g->values[n->in[1]] : NULL; /* opset 18 */
    if (given != NULL && given->data != NULL && given->type.dtype == EMB_I64 && emb_elements(&given->type) == 2) {
        k = 2;
        memcpy(axes, given->data, 2 * sizeof *axes);
    }
    const emb_type *x = type_of(pl, n->in[0]);
    *handled = emb_is_image(x) && k == 2 && ((axes[0] == 2 && axes[1] == 3) || (axes[0] == -2 && axes[1] == -1) || (axes[0] == -1 && axes[1] == -2) || (axes[0] == 3 && axes[1] == 2));
    if (!*handled) return EMB_OK;
    int32_t in = emb_plan_nhwc(pl, n->in[0]);
    emb_step *s = in < 0 ? NULL : new_step(pl, EMB_STEP_GLOBAL_MEAN, n, &in, 1, type_of(pl, n->out[0]));
    if (s == NULL) return no_memory(pl);
    emb_type y = {EMB_F32, 4, {1, x->dims[1], 1, 1}};
    picture(s, x, &y);
    pl->nhwc[n->out[0]] = pl->rows[n->out[0]] = s->out; /* one row of channels, whatever the rank */
    return EMB_OK;
}

/* x * scale + shift by channel, then a clamp or a smooth activation if one follows. scale and shift may be NULL. */
static emb_status plan_affine(emb_planner *pl, const emb_node *n, int32_t v, const float *scale, const float *shift)
{
    const emb_type *t = type_of(pl, v);
    bool image;
    int32_t in = any_form(pl, v, &image), out = n->out[0];
    emb_step *s = in < 0 ? NULL : new_step(pl, EMB_STEP_AFFINE, n, &in, 1, t);
    if (s == NULL) return no_memory(pl);
    uint32_t c = (uint32_t)(image ? t->dims[1] : t->rank > 0 ? t->dims[t->rank - 1] : 1);
    s->oc = s->ic = c;
    s->oh = s->ih = 1;
    s->ow = s->iw = c > 0 ? (uint32_t)(emb_elements(t) / c) : 0;
    float *scales = s->weights = emb_weights_memory(c * sizeof(float));
    s->bias = emb_weights_memory(c * sizeof(float));
    if (s->weights == NULL || s->bias == NULL) return no_memory(pl);
    for (uint32_t i = 0; i < c; i++) {
        scales[i] = scale != NULL ? scale[i] : 1;
        s->bias[i] = shift != NULL ? shift[i] : 0;
    }
    if (scale == NULL && shift == NULL) {
        emb_plan_activation(pl, n, s);
    } else {
        const emb_node *next = emb_plan_only_consumer(pl, out);
        if (next != NULL && emb_plan_activation(pl, next, s)) {
            pl->done[next - pl->g->nodes] = true;
            out = next->out[0];
        }
    }
    if (s->act != EMB_ACT_NONE && scale == NULL && shift == NULL) s->kind = EMB_STEP_ACT;
    bind(pl, out, s->out, image);
    return EMB_OK;
}

static emb_status plan_batch_norm(emb_planner *pl, const emb_node *n, bool *handled)
{
    const emb_type *t = type_of(pl, n->in[0]);
    const float *p[5] = {NULL};
    *handled = emb_is_image(t) && emb_plan_nhwc(pl, n->in[0]) >= 0; /* channels must be the last dimension */
    for (int i = 1; i < 5; i++)
        if ((p[i] = pl->g->values[n->in[i]].data) == NULL) *handled = false;
    if (!*handled) return EMB_OK;
    size_t c = (size_t)t->dims[1];
    float *k = malloc(2 * c * sizeof *k), eps = emb_attr_f(n->proto, "epsilon", 1e-5f);
    if (k == NULL) return no_memory(pl);
    for (size_t i = 0; i < c; i++) {
        k[i] = p[1][i] / sqrtf(p[4][i] + eps);
        k[c + i] = p[2][i] - p[3][i] * k[i];
    }
    emb_status st = plan_affine(pl, n, n->in[0], k, k + c);
    free(k);
    return st;
}

static emb_status plan_activation(emb_planner *pl, const emb_node *n, bool *handled)
{
    emb_step probe = {.lo = -INFINITY, .hi = INFINITY};
    *handled = type_of(pl, n->in[0])->dtype == EMB_F32 && emb_elements(type_of(pl, n->in[0])) > 0 && emb_plan_activation(pl, n, &probe);
    return *handled ? plan_affine(pl, n, n->in[0], NULL, NULL) : EMB_OK;
}

/* Add and Mul: by a constant a channel, of equal shapes, or a picture by a row of gates. */
static emb_status plan_binary(emb_planner *pl, const emb_node *n, bool *handled)
{
    bool add = n->op->name[0] == 'A';
    int32_t a = n->in[0], b = n->in[1];
    if (!emb_plan_ready(pl, a) || (emb_plan_ready(pl, b) && emb_elements(type_of(pl, b)) > emb_elements(type_of(pl, a)))) {
        a = n->in[1];
        b = n->in[0];
    }
    const emb_type *ta = type_of(pl, a), *tb = type_of(pl, b), *ty = type_of(pl, n->out[0]);
    bool whole = ta->dtype == EMB_F32 && emb_plan_ready(pl, a) && ta->rank == ty->rank && memcmp(ta->dims, ty->dims, ta->rank * sizeof *ta->dims) == 0;
    *handled = false;
    if (!whole || emb_elements(ta) == 0) return EMB_OK;
    if (!emb_plan_ready(pl, b)) { /* a constant */
        size_t c = (size_t)(emb_is_image(ta) ? ta->dims[1] : ta->rank > 0 ? ta->dims[ta->rank - 1] : 1);
        if (emb_is_image(ta) && emb_plan_nhwc(pl, a) < 0) return no_memory(pl);
        float *k = malloc(c * sizeof *k);
        if (k == NULL) return no_memory(pl);
        emb_status st = EMB_OK;
        if (emb_plan_by_channel(pl, b, ta, k)) {
            *handled = true;
            st = plan_affine(pl, n, a, add ? NULL : k, add ? k : NULL);
        }
        free(k);
        return st;
    }
    bool equal = tb->rank == ta->rank && memcmp(ta->dims, tb->dims, ta->rank * sizeof *ta->dims) == 0;
    bool gate = !add && emb_is_image(ta) && emb_is_image(tb) && ta->dims[1] == tb->dims[1] && tb->dims[2] * tb->dims[3] == 1;
    if (!equal && !gate) return EMB_OK;
    bool image = emb_is_image(ta) && (gate || pl->nhwc[a] >= 0 || pl->nhwc[b] >= 0);
    int32_t in[2] = {image ? emb_plan_nhwc(pl, a) : emb_plan_rows(pl, a), image ? emb_plan_nhwc(pl, b) : emb_plan_rows(pl, b)};
    emb_step *s = in[0] < 0 || in[1] < 0 ? NULL : new_step(pl, gate ? EMB_STEP_GATE : add ? EMB_STEP_ADD : EMB_STEP_MUL, n, in, 2, ta);
    if (s == NULL) return no_memory(pl);
    s->oc = s->ic = emb_is_image(ta) ? (uint32_t)ta->dims[1] : 1;
    s->oh = s->ih = 1;
    s->ow = s->iw = (uint32_t)(emb_elements(ta) / s->oc);
    int32_t out = n->out[0];
    const emb_node *next = emb_plan_only_consumer(pl, out);
    emb_step probe = {.lo = -INFINITY, .hi = INFINITY};
    if (add && next != NULL && emb_plan_activation(pl, next, &probe) && probe.act == EMB_ACT_NONE) {
        s->lo = probe.lo, s->hi = probe.hi;
        pl->done[next - pl->g->nodes] = true;
        out = next->out[0];
    }
    bind(pl, out, s->out, image);
    *handled = true;
    return EMB_OK;
}

/* A convolution whose result nobody else reads writes it where the concat wants it. */
static bool write_in_place(emb_planner *pl, int32_t v, int32_t out, uint32_t channels, uint32_t offset)
{
    emb_step *maker = NULL;
    size_t names = 0; /* a reshape or a change of layout may have given the same bytes another */
    for (size_t i = 0; i < pl->g->n_values; i++) names += pl->nhwc[i] == pl->nhwc[v] || pl->rows[i] == pl->nhwc[v];
    for (size_t i = 0; i < pl->p->n_steps; i++)
        if (pl->p->steps[i].out == pl->nhwc[v]) maker = &pl->p->steps[i];
    if (maker == NULL || names != 1 || pl->g->values[v].uses != 1 || (maker->kind != EMB_STEP_CONV && maker->kind != EMB_STEP_WINOGRAD) ||
        maker->residual >= 0 || maker->act != EMB_ACT_NONE || maker->y_pixel != maker->oc)
        return false;
    pl->p->buffers[maker->out].bytes = 0;
    maker->out = out;
    maker->y_pixel = channels;
    maker->y_offset = offset;
    return true;
}

static emb_status plan_concat(emb_planner *pl, const emb_node *n, bool *handled)
{
    const emb_type *y = type_of(pl, n->out[0]);
    int64_t axis = emb_attr_i(n->proto, "axis", 1);
    *handled = emb_is_image(y) && (axis == 1 || axis == -3) && n->n_in <= 64;
    for (uint32_t i = 0; *handled && i < n->n_in; i++) *handled = emb_plan_ready(pl, n->in[i]) && emb_is_image(type_of(pl, n->in[i]));
    if (!*handled) return EMB_OK;
    int32_t in[64], out = emb_plan_buffer(pl, emb_plan_bytes(pl, y));
    emb_arg *args = calloc(n->n_in, sizeof *args);
    bool ok = args != NULL && out >= 0;
    uint32_t offset = 0, left = 0;
    for (uint32_t i = 0; ok && i < n->n_in; i++) {
        args[i].type = *type_of(pl, n->in[i]);
        ok = (in[i] = emb_plan_nhwc(pl, n->in[i])) >= 0;
        if (ok && write_in_place(pl, n->in[i], out, (uint32_t)y->dims[1], offset)) in[i] = -1;
        left += ok && in[i] >= 0;
        offset += (uint32_t)args[i].type.dims[1];
    }
    if (ok && left == 0) {
        free(args);
        bind(pl, n->out[0], out, true);
        return EMB_OK;
    }
    emb_step *s = ok ? emb_plan_step(pl, EMB_STEP_CONCAT, n) : NULL;
    if (s == NULL || !set_inputs(s, in, (int32_t)n->n_in)) {
        free(args);
        return no_memory(pl);
    }
    picture(s, y, y);
    s->out = out;
    s->args = args; /* for the channels of each */
    bind(pl, n->out[0], out, true);
    return EMB_OK;
}

/* Reshape and its kin change no byte of the rows, nor of the dense form. */
static emb_status plan_rename(emb_planner *pl, const emb_node *n)
{
    const emb_type *t = type_of(pl, n->in[0]);
    if (emb_q8_ready(pl, n->in[0]) && emb_q8_rows(pl, n->in[0]) >= 0) {
        pl->views[n->out[0]] = (emb_q8_view){-1, emb_q8_rows(pl, n->in[0]), pl->views[n->in[0]].grid};
        return EMB_OK;
    }
    if (t->dtype == EMB_F32 && (pl->rows[n->in[0]] >= 0 || (pl->nhwc[n->in[0]] >= 0 && emb_plan_same_bytes(t)))) {
        pl->rows[n->out[0]] = emb_plan_rows(pl, n->in[0]);
        return EMB_OK;
    }
    int32_t b = emb_plan_dense(pl, n->in[0]);
    if (b < 0) return no_memory(pl);
    pl->dense[n->out[0]] = b;
    return EMB_OK;
}

/* Transposes between the two layouts only rename as well. */
static bool plan_layout_change(emb_planner *pl, const emb_node *n)
{
    static const int64_t to_nchw[4] = {0, 3, 1, 2}, to_nhwc[4] = {0, 2, 3, 1};
    int64_t perm[4];
    const emb_type *x = type_of(pl, n->in[0]), *y = type_of(pl, n->out[0]);
    if (!emb_is_image(x) || emb_attr_ints(n->proto, "perm", perm, 4) != 4) return false;
    if (memcmp(perm, to_nchw, sizeof perm) == 0 && (pl->rows[n->in[0]] >= 0 || pl->dense[n->in[0]] >= 0) && emb_is_image(y)) {
        pl->nhwc[n->out[0]] = emb_plan_rows(pl, n->in[0]);
        return true;
    }
    if (memcmp(perm, to_nhwc, sizeof perm) == 0 && pl->nhwc[n->in[0]] >= 0) {
        pl->rows[n->out[0]] = pl->nhwc[n->in[0]];
        return true;
    }
    return false;
}

static emb_status plan_general(emb_planner *pl, const emb_node *n)
{
    int32_t in[EMB_MAX_INPUTS];
    emb_arg *args = calloc((size_t)n->n_in + n->n_out, sizeof *args);
    int32_t *out_bufs = calloc(n->n_out, sizeof *out_bufs);
    bool ok = args != NULL && out_bufs != NULL;
    for (uint32_t i = 0; ok && i < n->n_in; i++) {
        in[i] = -1;
        args[i].type.rank = UINT32_MAX;
        if (n->in[i] < 0) continue;
        const emb_value *v = &pl->g->values[n->in[i]];
        args[i] = (emb_arg){v->type, v->data};
        if (v->data == NULL) ok = (in[i] = emb_plan_dense(pl, n->in[i])) >= 0;
    }
    for (uint32_t i = 0; ok && i < n->n_out; i++) {
        if (n->out[i] >= 0) args[n->n_in + i].type = pl->g->values[n->out[i]].type;
        ok = (out_bufs[i] = emb_plan_buffer(pl, emb_type_bytes(&args[n->n_in + i].type))) >= 0;
        if (ok && n->out[i] >= 0) pl->dense[n->out[i]] = out_bufs[i];
    }
    emb_step *s = ok ? emb_plan_step(pl, EMB_STEP_GENERAL, n) : NULL;
    if (s == NULL || !set_inputs(s, in, (int32_t)n->n_in)) {
        free(args);
        free(out_bufs);
        return no_memory(pl);
    }
    s->args = args;
    s->outs = args + n->n_in;
    s->out_bufs = out_bufs;
    return EMB_OK;
}

static emb_status plan_node(emb_planner *pl, const emb_node *n)
{
    static const struct {
        const char *op;
        emb_status (*plan)(emb_planner *pl, const emb_node *n, bool *handled);
    } known[] = {
        {"Conv", emb_plan_conv},        {"Gemm", emb_plan_matrix},      {"MatMul", emb_plan_matrix},
        {"MaxPool", plan_pool},         {"AveragePool", plan_pool},     {"GlobalAveragePool", plan_pool},
        {"ReduceMean", plan_reduce_mean}, {"BatchNormalization", plan_batch_norm}, {"Relu", plan_activation},
        {"Clip", plan_activation},      {"Sigmoid", plan_activation},   {"HardSwish", plan_activation},
        {"HardSigmoid", plan_activation}, {"Add", plan_binary},         {"Mul", plan_binary},
        {"Concat", plan_concat},
    };
    const char *op = n->op->name;
    bool quantised = false;
    emb_status q8 = pl->views != NULL ? emb_q8_plan_node(pl, n, &quantised) : EMB_OK;
    if (q8 != EMB_OK || quantised) return q8;
    q8 = emb_graph_settle(pl->g, n, pl->err);
    if (q8 != EMB_OK) return q8;
    if (strcmp(op, "Reshape") == 0 || strcmp(op, "Flatten") == 0 || strcmp(op, "Squeeze") == 0 || strcmp(op, "Unsqueeze") == 0 ||
        strcmp(op, "Identity") == 0 || (strcmp(op, "Dropout") == 0 && (n->n_out == 1 || n->out[1] < 0)))
        return plan_rename(pl, n);
    if (strcmp(op, "Transpose") == 0 && plan_layout_change(pl, n)) return EMB_OK;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].op, op) != 0) continue;
        bool handled = false;
        emb_status st = known[i].plan(pl, n, &handled);
        if (st != EMB_OK || handled) return st;
    }
    return plan_general(pl, n);
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

static emb_status bind_input(emb_planner *pl)
{
    const emb_graph *g = pl->g;
    if (g->n_inputs != 1)
        return emb_fail(pl->err, EMB_EUNSUPPORTED, "%s has %zu inputs; an image encoder has one", g->file, g->n_inputs);
    const emb_type *t = type_of(pl, g->inputs[0]);
    bool nchw = emb_is_image(t) && t->dims[1] == 3, nhwc = emb_is_image(t) && t->dims[3] == 3 && t->dims[1] != 3;
    if ((!nchw && !nhwc) || t->dims[2] > 4096 || t->dims[3 - 2 * nhwc] > 4096)
        return emb_fail(pl->err, EMB_EUNSUPPORTED, "%s: input %s is not float [1, 3, height, width] of at most 4096 a side", g->file,
                        g->values[g->inputs[0]].name);
    emb_plan *p = pl->p;
    p->in_h = (uint32_t)t->dims[nchw ? 2 : 1];
    p->in_w = (uint32_t)t->dims[nchw ? 3 : 2];
    if ((p->input = emb_plan_buffer(pl, emb_type_bytes(t))) < 0) return no_memory(pl);
    /* Both are written channels-last: [1, H, W, 3] is that in its dense form. */
    if (nhwc) pl->dense[g->inputs[0]] = p->input;
    else pl->nhwc[g->inputs[0]] = p->k->type == EMB_F32 ? p->input : convert(pl, EMB_STEP_NARROW, p->input, t);
    return nchw && pl->nhwc[g->inputs[0]] < 0 ? no_memory(pl) : EMB_OK;
}

static emb_status build(emb_planner *pl)
{
    const emb_graph *g = pl->g;
    emb_plan *p = pl->p;
    for (size_t i = 0; i < g->n_values; i++) {
        pl->nhwc[i] = pl->rows[i] = pl->dense[i] = pl->consumer[i] = -1;
        if (pl->views != NULL) pl->views[i] = (emb_q8_view){-1, -1, {0, 0}};
    }
    for (size_t i = 0; i < g->n_nodes; i++)
        for (uint32_t k = 0; !g->nodes[i].folded && k < g->nodes[i].n_in; k++)
            if (g->nodes[i].in[k] >= 0) pl->consumer[g->nodes[i].in[k]] = (int32_t)i;
    emb_status st = bind_input(pl);
    for (size_t i = 0; st == EMB_OK && i < g->n_nodes; i++)
        if (!g->nodes[i].folded && !pl->done[i]) st = plan_node(pl, &g->nodes[i]);
    if (st != EMB_OK) return st;
    int32_t out = g->outputs[0];
    const emb_type *t = type_of(pl, out);
    if (!emb_plan_ready(pl, out) || t->dtype != EMB_F32 || emb_elements(t) < 1 || emb_elements(t) > 16384)
        return emb_fail(pl->err, EMB_EUNSUPPORTED, "%s: output %s is not a vector of 1 to 16384 floats", g->file, g->values[out].name);
    if ((p->output = emb_plan_dense(pl, out)) < 0) return no_memory(pl);
    p->dim = (uint32_t)emb_elements(t);
    size_t row = 64;
    for (size_t i = 0; i < p->n_steps; i++) {
        const emb_step *s = &p->steps[i];
        p->macs += s->macs;
        if (s->ic > row) row = s->ic;
        size_t taps = (size_t)(s->w.kh * s->w.kw), need = 0;
        if (s->kind == EMB_STEP_CONV) need = taps * (s->even && s->block < EMB_BLOCK_TILES ? EMB_BLOCK_TILES : s->block);
        if (s->kind == EMB_STEP_WINOGRAD) need = s->block;
        if (s->kind == EMB_STEP_MAX_POOL || s->kind == EMB_STEP_AVG_POOL) need = taps;
        if (s->kind == EMB_STEP_DEPTHWISE && s->q8 != NULL) need = (size_t)(s->w.kh + 3); /* see emb_q8_more_rows() */
        if (need > p->pointers) p->pointers = need;
    }
    p->row = (uint32_t)row;
    p->zeros = calloc(row + 64, sizeof(float)); /* zeros of any type */
    emb_plan_chains(p);
    return p->zeros == NULL ? no_memory(pl) : emb_plan_layout(pl);
}

bool emb_graph_quantised(const emb_graph *g)
{
    for (size_t i = 0; i < g->n_nodes; i++)
        if (!g->nodes[i].folded && strcmp(g->nodes[i].op->name, "QuantizeLinear") == 0) return true;
    return false;
}

static emb_status plan_with(emb_graph *g, const emb_kernels *k, emb_plan_options o, bool *retreat, emb_plan **out, emb_error *err)
{
    emb_plan *p = calloc(1, sizeof *p);
    emb_planner pl = {.g = g, .p = p, .err = err, .last = o.last && (!o.quantised || emb_q8_never_retreats(g))};
    pl.nhwc = malloc((g->n_values + 1) * sizeof *pl.nhwc);
    pl.dense = malloc((g->n_values + 1) * sizeof *pl.dense);
    pl.rows = k->type == EMB_F32 ? pl.dense : malloc((g->n_values + 1) * sizeof *pl.rows);
    pl.views = o.quantised ? malloc((g->n_values + 1) * sizeof *pl.views) : NULL;
    pl.consumer = malloc((g->n_values + 1) * sizeof *pl.consumer);
    pl.done = calloc(g->n_nodes + 1, sizeof *pl.done);
    emb_status st;
    if (p == NULL || pl.nhwc == NULL || pl.dense == NULL || pl.rows == NULL || (o.quantised && pl.views == NULL) || pl.consumer == NULL || pl.done == NULL) {
        st = emb_fail(err, EMB_ENOMEM, "%s: no memory to plan", g->file);
    } else {
        p->k = k;
        p->q8 = emb_kernels_q8_get();
        p->graph = g;
        p->input = p->output = -1;
        st = build(&pl);
    }
    *retreat = pl.retreat;
    free(pl.nhwc);
    if (pl.rows != pl.dense) free(pl.rows);
    free(pl.dense);
    free(pl.views);
    free(pl.consumer);
    free(pl.done);
    free(pl.draft);
    if (st != EMB_OK) {
        emb_plan_free(p);
        return st;
    }
    *out = p;
    return EMB_OK;
}

emb_status emb_plan_new(emb_graph *g, const emb_kernels *k, emb_plan_options o, emb_plan **out, emb_error *err)
{
    bool retreat = false;
    emb_status st = plan_with(g, k, o, &retreat, out, err);
    return st != EMB_OK && retreat ? plan_with(g, k, (emb_plan_options){false, o.last}, &retreat, out, err) : st;
}

bool emb_plan_needs(const void *data, const void *plan)
{
    const emb_plan *p = plan;
    for (size_t i = 0; i < p->n_steps; i++)
        for (int32_t k = 0; p->steps[i].kind == EMB_STEP_GENERAL && k < p->steps[i].n_in; k++)
            if (p->steps[i].args[k].data == data) return true;
    return false;
}

void emb_plan_free(emb_plan *p)
{
    if (p == NULL) return;
    for (size_t i = 0; i < p->n_steps; i++) {
        emb_step *s = &p->steps[i];
        free(s->in);
        free(s->args);
        free(s->out_bufs);
        free(s->weights);
        free(s->bias);
        free(s->fused);
        emb_q8_free(s->q8);
    }
    free(p->steps);
    free(p->buffers);
    free(p->zeros);
    free(p);
}
