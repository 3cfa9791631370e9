/* plan_q8_conv.c: convolutions and products of quantised values by quantised constants. */
#include "run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    emb_step step;
    emb_value *floats, *bytes; /* the weights, dequantised and as they are */
    const int8_t *w;        /* the latter: oc rows of per_channel, from w + o * row_step on, col_step apart */
    size_t row_step, col_step, per_channel;
    const float *w_scale;   /* one, or one a channel */
    bool by_channel, unsigned_weights; /* the latter: u8 about 128 */
    const float *bias;      /* or NULL */
    int32_t residual;       /* value, -1 */
    int32_t out;            /* value */
    emb_grid x, y;
    bool wide, image;
    char fused[64];
} draft;

static emb_status no_memory(emb_planner *pl) { return emb_fail(pl->err, EMB_ENOMEM, "%s: no memory to plan", pl->g->file); }

/* Weights that are u8, or lie by input channel, as the rest wants them: i8, by output channel. -> what to free. */
static bool straighten(draft *d, int8_t **copy)
{
    size_t oc = d->step.oc, n = d->per_channel;
    *copy = NULL;
    if (d->col_step == 1 && !d->unsigned_weights) return true;
    if ((*copy = malloc(oc * n + 1)) == NULL) return false;
    for (size_t o = 0; o < oc; o++)
        for (size_t i = 0; i < n; i++) (*copy)[o * n + i] = (int8_t)(d->w[o * d->row_step + i * d->col_step] ^ (d->unsigned_weights ? -128 : 0));
    d->w = *copy;
    return true;
}

/* The 8-bit constant behind a dequantised one: a scale for all or for each index of `axis`, and no zero (128 for u8). */
static bool read_weights(const emb_planner *pl, int32_t v, int64_t axis, draft *d)
{
    emb_value *f = &pl->g->values[v];
    if (!emb_is_constant(f) || f->producer < 0) return false;
    const emb_node *n = &pl->g->nodes[f->producer];
    if (strcmp(n->op->name, "DequantizeLinear") != 0) return false;
    emb_value *w = &pl->g->values[n->in[0]];
    const emb_value *s = &pl->g->values[n->in[1]], *z = n->n_in > 2 && n->in[2] >= 0 ? &pl->g->values[n->in[2]] : NULL;
    if (w->data == NULL || s->data == NULL || s->type.dtype != EMB_F32 || (w->type.dtype != EMB_I8 && w->type.dtype != EMB_U8)) return false;
    d->unsigned_weights = w->type.dtype == EMB_U8;
    int64_t scales = emb_elements(&s->type), own = emb_attr_i(n->proto, "axis", 1);
    d->by_channel = scales > 1;
    if (d->by_channel && (own < 0 ? own + w->type.rank : own) != axis) return false;
    for (int64_t i = 0; i < scales; i++)
        if (!isfinite(((const float *)s->data)[i])) return false;
    d->floats = f, d->bytes = w;
    d->w = w->data;
    d->w_scale = s->data;
    if (z == NULL) return !d->unsigned_weights;
    for (int64_t i = 0; i < emb_elements(&z->type); i++)
        if (((const uint8_t *)z->data)[i] != (d->unsigned_weights ? 128 : 0)) return false;
    return true;
}

static void note(draft *d, const char *text)
{
    size_t n = strlen(d->fused);
    snprintf(d->fused + n, sizeof d->fused - n, "+%s", text);
}

/* Dequantises v ahead of its turn if that is all that it lacks. */
static bool ready_by_now(emb_planner *pl, int32_t v)
{
    if (emb_q8_ready(pl, v)) return true;
    const emb_value *f = &pl->g->values[v];
    const emb_node *n = f->producer >= 0 ? &pl->g->nodes[f->producer] : NULL;
    bool handled = false;
    if (n == NULL || n->folded || strcmp(n->op->name, "DequantizeLinear") != 0 || !emb_q8_ready(pl, n->in[0])) return false;
    if (emb_q8_plan_node(pl, n, &handled) != EMB_OK || !handled) return false;
    pl->done[n - pl->g->nodes] = true;
    return true;
}

/* An addition of another quantised value of the same shape. */
static bool take_residual(emb_planner *pl, const emb_node *n, draft *d, int32_t out)
{
    int32_t other = n->in[0] == out ? n->in[1] : n->in[0];
    const emb_type *t = &pl->g->values[out].type, *o = &pl->g->values[other].type;
    if (d->residual >= 0 || other == out || !ready_by_now(pl, other) || t->rank != o->rank || memcmp(t->dims, o->dims, t->rank * sizeof *t->dims) != 0)
        return false;
    if ((d->image ? emb_q8_nhwc(pl, other) : emb_q8_rows(pl, other)) < 0) return false;
    d->residual = other;
    d->out = n->out[0];
    note(d, "Add");
    pl->done[n - pl->g->nodes] = true;
    return true;
}

/* A pair of nodes between a convolution and an addition only rounds: it is left out, unless its range cuts one side off, or the two are
 * of different grids. */
static bool take_pair(emb_planner *pl, const emb_node *q, emb_grid g, draft *d)
{
    const emb_node *dq = emb_plan_only_consumer(pl, q->out[0]);
    emb_grid back;
    if (d->residual >= 0 || g.zero < 48 || g.zero > 207 || dq == NULL || strcmp(dq->op->name, "DequantizeLinear") != 0) return false;
    if (!emb_q8_grid(pl->g, dq, &back) || back.scale != g.scale || back.zero != g.zero) return false;
    const emb_node *add = emb_plan_only_consumer(pl, dq->out[0]);
    if (add == NULL || strcmp(add->op->name, "Add") != 0 || !take_residual(pl, add, d, dq->out[0])) return false;
    pl->done[q - pl->g->nodes] = pl->done[dq - pl->g->nodes] = true;
    return true;
}

/* Takes in what follows, up to the node that quantises the result. */
static void take_all(emb_planner *pl, draft *d, bool residuals)
{
    emb_step *s = &d->step;
    d->wide = true;
    for (;;) {
        emb_grid g;
        bool plain = s->act == EMB_ACT_NONE && s->lo == -INFINITY && s->hi == INFINITY;
        const char *name;
        if (plain && emb_plan_self_gate(pl, s, &d->out, &name)) {
            note(d, name);
            continue;
        }
        const emb_node *n = emb_plan_only_consumer(pl, d->out), *q = emb_q8_quantizer(pl, d->out, &g);
        if (n == NULL) return;
        if (q != NULL) {
            if (plain && residuals && take_pair(pl, q, g, d)) continue;
            pl->done[q - pl->g->nodes] = true;
            d->out = q->out[0];
            d->y = g;
            d->wide = false;
            return;
        }
        if (plain && residuals && strcmp(n->op->name, "Add") == 0 && take_residual(pl, n, d, d->out)) continue;
        if (!plain || !emb_plan_activation(pl, n, s)) return;
        note(d, n->op->name);
        pl->done[n - pl->g->nodes] = true;
        d->out = n->out[0];
    }
}

/* Eight bytes at a time, as unsigned (128 more each) in four lanes of 16 bits: so many rounds fit these. */
static int64_t sum_of(const int8_t *w, size_t n)
{
    enum { ROUNDS = UINT16_MAX / (2 * UINT8_MAX) };
    const uint64_t low = 0x00ff00ff00ff00ff;
    uint64_t sum = 0;
    size_t i = 0;
    while (i + 8 <= n) {
        uint64_t lanes = 0, v;
        for (uint32_t r = 0; r < ROUNDS && i + 8 <= n; r++, i += 8) {
            memcpy(&v, w + i, 8);
            v ^= 0x8080808080808080;
            lanes += (v & low) + (v >> 8 & low);
        }
        for (; lanes != 0; lanes >>= 16) sum += lanes & 0xffff;
    }
    int64_t total = (int64_t)sum - 128 * (int64_t)i;
    for (; i < n; i++) total += w[i];
    return total;
}

/* From sums of products to the result: real = x.scale * w.scale * (sum - x.zero * sum of w) + bias. */
static void constants(const emb_planner *pl, draft *d, float *scale, float *bias)
{
    emb_step *s = &d->step;
    emb_q8 *q = s->q8;
    bool direct = !d->wide && s->act == EMB_ACT_NONE; /* in steps of the result at once */
    float step = direct ? d->y.scale : 1, zero = direct ? (float)d->y.zero : 0;
    emb_grid r = d->residual >= 0 ? pl->views[d->residual].grid : (emb_grid){0, 0};
    for (uint32_t o = 0; o < s->oc; o++) {
        double sum = (double)sum_of(d->w + o * d->per_channel, d->per_channel);
        double m = (double)d->x.scale * (double)d->w_scale[d->by_channel ? o : 0];
        double b = (d->bias != NULL ? (double)d->bias[o] : 0) - m * d->x.zero * sum - (double)r.scale * r.zero;
        scale[o] = (float)(m / (double)step);
        bias[o] = (float)(b / (double)step) + zero;
    }
    q->residual_scale = r.scale / step;
    q->y_scale = d->wide ? 1 : 1 / d->y.scale;
    q->y_zero = d->wide ? 0 : (float)d->y.zero;
    q->wide = d->wide;
    if (!direct) return;
    s->lo = fmaxf(rintf(s->lo / step) + zero, 0);
    s->hi = fminf(rintf(s->hi / step) + zero, 255);
}

/* Weights [n channels][ic][all taps], `apart` bytes from channel to channel, to a panel: [tap][ic / 4, rounded up][nr][4], `tap`
 * bytes each. A line of the panel is filled before the next is begun: a channel at a time would fetch each line once for each. */
static void pack_panel(const int8_t *w, size_t apart, uint32_t n, uint32_t ic, uint32_t all, uint32_t nr, size_t tap, int8_t *to)
{
    for (uint32_t x = 0; x < ic; x += 4, to += (size_t)nr * 4)
        for (uint32_t j = 0; j < n; j++) {
            const int8_t *from = w + j * apart + (size_t)x * all;
            int8_t *at = to + (size_t)emb_q8_column(nr, j) * 4;
            if (all == 1 && x + 4 <= ic) {
                memcpy(at, from, 4);
                continue;
            }
            for (uint32_t t = 0; x + 4 <= ic && t < all; t++, from++, at += tap) {
                const int8_t four[4] = {from[0], from[all], from[2 * all], from[3 * all]};
                memcpy(at, four, 4);
            }
            for (uint32_t t = 0; x + 4 > ic && t < all; t++, from++, at += tap)
                for (uint32_t k = 0; x + k < ic; k++) at[k] = from[(size_t)k * all];
        }
}

/* The same where channels are few, and those of a row of taps, or of all, follow each other as one run: see emb_step. */
static void pack_merged(const emb_step *s, const int8_t *w, size_t apart, uint32_t n, size_t tap, int8_t *to)
{
    const uint32_t kh = (uint32_t)s->w.kh, kw = (uint32_t)s->w.kw, ic = s->ic, nr = s->t.nr, taps = emb_conv_taps(s), run = emb_conv_run(s);
    const uint32_t piece = s->upright ? (uint32_t)s->w.sw * ic : run, column = s->upright ? emb_column(s) : run;
    for (uint32_t j = 0; j < n; j++, w += apart)
        for (uint32_t t = 0; t < taps; t++)
            for (uint32_t x = 0; x < run; x++) {
                const uint32_t ky = t + x % column / piece, kx = x / column * (piece / ic) + x % column % piece / ic;
                if (ky < kh && kx < kw) to[t * tap + ((size_t)(x / 4) * nr + emb_q8_column(nr, j)) * 4 + x % 4] = w[(size_t)(x % column % piece % ic * kh + ky) * kw + kx];
            }
}

/* [group][panel], and scales and biases to match. */
static bool pack(draft *d, const float *scale, const float *bias)
{
    emb_step *s = &d->step;
    uint32_t groups = (uint32_t)s->w.group, oc = s->oc / groups, ic = s->ic / groups, nr = s->t.nr, all = (uint32_t)(s->w.kh * s->w.kw);
    uint32_t panels = (oc + nr - 1) / nr;
    size_t tap = emb_panel_bytes(&s->t, nr, 1, emb_conv_run(s)), columns = (size_t)nr * panels * groups;
    size_t panel = s->kind == EMB_STEP_WINOGRAD ? emb_q8_winograd_panel(s) : tap * emb_conv_taps(s);
    int8_t *to = s->weights = emb_weights_memory(panel * panels * groups);
    s->bias = emb_weights_memory(columns * sizeof(float));
    s->q8->scale = emb_weights_memory(columns * sizeof(float));
    if (to == NULL || s->bias == NULL || s->q8->scale == NULL) return false;
    memset(to, 0, panel * panels * groups);
    memset(s->bias, 0, columns * sizeof(float));
    memset(s->q8->scale, 0, columns * sizeof(float));
    for (uint32_t g = 0; g < groups; g++)
        for (uint32_t p = 0; p < panels; p++, to += panel) {
            uint32_t first = g * oc + p * nr, n = oc - p * nr < nr ? oc - p * nr : nr;
            size_t base = (size_t)(g * panels + p) * nr;
            const int8_t *w = d->w + first * d->per_channel;
            for (uint32_t j = 0; j < n; j++) {
                s->bias[base + emb_q8_column(nr, j)] = bias[first + j];
                s->q8->scale[base + emb_q8_column(nr, j)] = scale[first + j];
            }
            if (s->kind == EMB_STEP_WINOGRAD) emb_q8_winograd_pack(s, w, n, (int16_t *)(void *)to);
            else if (s->merged) pack_merged(s, w, d->per_channel, n, tap, to);
            else pack_panel(w, d->per_channel, n, ic, all, nr, tap, to);
        }
    return true;
}

static bool pack_depthwise(draft *d, const emb_kernels_q8 *k, const float *scale, const float *bias)
{
    emb_step *s = &d->step;
    uint32_t kh = (uint32_t)s->w.kh, kw = (uint32_t)s->w.kw;
    s->weights = emb_weights_memory(emb_q8_depthwise_bytes(k, s->oc, kh, kw));
    s->bias = emb_weights_memory(emb_q8_lanes(k, s->oc) * sizeof(float));
    s->q8->scale = emb_weights_memory(emb_q8_lanes(k, s->oc) * sizeof(float));
    if (s->weights == NULL || s->bias == NULL || s->q8->scale == NULL) return false;
    emb_q8_pack_depthwise(k, d->w, s->oc, kh, kw, s->weights);
    emb_q8_pack_channels(k, scale, s->oc, s->q8->scale);
    emb_q8_pack_channels(k, bias, s->oc, s->bias);
    return true;
}

/* Pixels outside the picture are zero, which is x.zero in 8 bits: a pixel of them, for depthwise convolutions a row. */
static bool padding(emb_step *s)
{
    size_t n = (size_t)s->ic * (s->kind == EMB_STEP_DEPTHWISE ? s->iw : 1);
    s->q8->padding = emb_weights_memory(n);
    if (s->q8->padding != NULL) memset(s->q8->padding, s->q8->x.zero, n + EMB_KERNEL_SLACK);
    return s->q8->padding != NULL;
}

static size_t scratch_bytes(const emb_step *s, const emb_kernels_q8 *k)
{
    if (s->kind == EMB_STEP_DEPTHWISE) {
        size_t columns = (size_t)(s->ow - 1) * (size_t)s->w.sw + (size_t)((s->w.kw - 1) * s->w.dw) + 1;
        return emb_q8_columns_bytes((uint32_t)columns, (uint32_t)s->w.kh, (uint32_t)s->w.kw);
    }
    return s->kind == EMB_STEP_WINOGRAD ? emb_q8_winograd_scratch(s) : emb_padded_bytes(s) + (k->words != NULL ? emb_words_bytes(s) : 0);
}

/* Nobody else has read, or will read, the weights that were packed. */
static void let_go(emb_planner *pl, draft *d)
{
    free(emb_graph_take(pl->g, d->bytes));
    d->floats->late = false;
}

static emb_status commit(emb_planner *pl, const emb_node *n, draft *d, int32_t in)
{
    emb_step *s = &d->step;
    const emb_window *v = &s->w;
    float *scale = malloc(2 * (size_t)s->oc * sizeof *scale), *bias = scale + s->oc;
    int8_t *copy;
    s->q8 = emb_q8_new(d->x, d->y);
    bool ok = straighten(d, &copy) && scale != NULL && s->q8 != NULL;
    s->y_pixel = s->oc;
    s->y_bytes = d->wide ? sizeof(float) : 1;
    s->dense = v->kh == 1 && v->kw == 1 && v->sh == 1 && v->sw == 1 && s->oh == s->ih && s->ow == s->iw && v->top == 0 && v->left == 0;
    if (ok && s->kind == EMB_STEP_CONV && pl->p->q8->winograd != NULL && emb_q8_winograd_pays(s, d->w)) s->kind = EMB_STEP_WINOGRAD;
    if (s->kind == EMB_STEP_CONV) {
        emb_plan_even(s);
        emb_plan_block(s, 0, !pl->p->q8->parts);
        if (pl->p->q8->words != NULL) emb_plan_words(s);
    }
    if (ok) {
        constants(pl, d, scale, bias);
        emb_q8_tabulate(pl->p->q8, s);
    }
    ok = ok && (s->kind == EMB_STEP_DEPTHWISE ? pack_depthwise(d, pl->p->q8, scale, bias) : pack(d, scale, bias)) && padding(s);
    free(scale);
    free(copy);
    if (pl->last && d->floats->uses == 1 && d->bytes->uses == 1) let_go(pl, d);
    size_t scratch = scratch_bytes(s, pl->p->q8);
    if (ok && scratch > 0) ok = (s->scratch = emb_plan_buffer(pl, scratch)) >= 0;
    s->out = ok ? emb_plan_buffer(pl, (size_t)s->oh * s->ow * s->oc * s->y_bytes) : -1;
    if (d->residual >= 0) s->residual = d->image ? emb_q8_nhwc(pl, d->residual) : emb_q8_rows(pl, d->residual);
    emb_step *step = s->out >= 0 ? emb_plan_step(pl, s->kind, n) : NULL;
    s->in = step != NULL ? malloc(sizeof *s->in) : NULL;
    s->fused = s->in != NULL ? strdup(d->fused) : NULL;
    if (s->fused == NULL) {
        if (step != NULL) pl->p->n_steps--;
        free(s->in), free(s->weights), free(s->bias);
        emb_q8_free(s->q8);
        return no_memory(pl);
    }
    s->in[0] = in;
    s->n_in = 1;
    s->node = n;
    *step = *s;
    if (d->wide) (d->image ? pl->nhwc : pl->rows)[d->out] = s->out;
    else pl->views[d->out] = (emb_q8_view){d->image ? s->out : -1, d->image ? -1 : s->out, d->y};
    return EMB_OK;
}

static draft blank(const emb_planner *pl, const emb_node *n)
{
    const emb_kernels_q8 *k = pl->p->q8;
    return (draft){.step = {.kind = EMB_STEP_CONV, .x_bytes = 1, .y_bytes = 1, .r_bytes = 1, .t = {k->tile, k->mr, k->nr, k->nr, 4, 1, k->round, k->strided}, .out = -1, .residual = -1,
                            .scratch = -1, .gate = -1, .lo = -INFINITY, .hi = INFINITY},
                   .residual = -1, .out = n->out[0], .x = pl->views[n->in[0]].grid};
}

/* A constant bias of one float a channel, or none. */
static bool read_bias(const emb_planner *pl, const emb_node *n, uint32_t oc, const float **out)
{
    *out = NULL;
    if (n->n_in < 3 || n->in[2] < 0) return true;
    const emb_value *b = &pl->g->values[n->in[2]];
    *out = b->data;
    return b->data != NULL && b->type.dtype == EMB_F32 && emb_elements(&b->type) == oc;
}

static emb_status plan_conv(emb_planner *pl, const emb_node *n, bool *handled)
{
    const emb_value *x = &pl->g->values[n->in[0]], *w = &pl->g->values[n->in[1]], *y = &pl->g->values[n->out[0]];
    draft d = blank(pl, n);
    emb_step *s = &d.step;
    int32_t in = emb_q8_nhwc(pl, n->in[0]);
    if (in < 0 || !emb_is_image(&x->type) || !read_weights(pl, n->in[1], 0, &d) || !read_bias(pl, n, (uint32_t)y->type.dims[1], &d.bias)) return EMB_OK;
    emb_arg args[3] = {{x->type, NULL}, {w->type, w->data}, {{0}, NULL}}, out[1] = {{y->type, NULL}};
    emb_call c = {pl->g, n, args, out, 2, 1, pl->err};
    emb_status st = emb_window_read(&c, &x->type, w->type.dims[2], w->type.dims[3], &s->w);
    if (st != EMB_OK) return st;
    s->ic = (uint32_t)x->type.dims[1], s->ih = (uint32_t)x->type.dims[2], s->iw = (uint32_t)x->type.dims[3];
    s->oc = (uint32_t)y->type.dims[1], s->oh = (uint32_t)y->type.dims[2], s->ow = (uint32_t)y->type.dims[3];
    bool depthwise = s->w.group == s->ic && s->oc == s->ic && s->ic > 1;
    d.row_step = d.per_channel = (size_t)(w->type.dims[1] * s->w.kh * s->w.kw);
    d.col_step = 1;
    d.image = *handled = true;
    s->macs = (uint64_t)s->oh * s->ow * s->oc * d.per_channel;
    take_all(pl, &d, !depthwise);
    if (depthwise && !d.wide && s->w.kh <= 64) s->kind = EMB_STEP_DEPTHWISE;
    return commit(pl, n, &d, in);
}

/* Gemm and MatMul by a constant matrix: rows of x times it. */
static emb_status plan_matrix(emb_planner *pl, const emb_node *n, bool *handled)
{
    const emb_value *x = &pl->g->values[n->in[0]], *w = &pl->g->values[n->in[1]];
    bool gemm = n->op->name[0] == 'G', tb = gemm && emb_attr_i(n->proto, "transB", 0) != 0;
    draft d = blank(pl, n);
    emb_step *s = &d.step;
    int32_t in = emb_q8_rows(pl, n->in[0]);
    if (in < 0 || w->type.rank != 2 || x->type.rank < 2 || emb_elements(&x->type) == 0 || emb_elements(&w->type) == 0) return EMB_OK;
    if (gemm && (emb_attr_i(n->proto, "transA", 0) != 0 || emb_attr_f(n->proto, "alpha", 1) != 1 || emb_attr_f(n->proto, "beta", 1) != 1)) return EMB_OK;
    uint32_t k = (uint32_t)w->type.dims[tb ? 1 : 0], oc = (uint32_t)w->type.dims[tb ? 0 : 1];
    if (!read_weights(pl, n->in[1], tb ? 0 : 1, &d) || !read_bias(pl, n, oc, &d.bias)) return EMB_OK;
    s->w = (emb_window){.kh = 1, .kw = 1, .sh = 1, .sw = 1, .dh = 1, .dw = 1, .group = 1};
    s->ic = k, s->oc = oc, s->ih = s->oh = 1;
    s->iw = s->ow = (uint32_t)(emb_elements(&x->type) / k);
    s->macs = (uint64_t)s->ow * k * oc;
    d.per_channel = k;
    d.row_step = tb ? k : 1;
    d.col_step = tb ? 1 : oc;
    *handled = true;
    take_all(pl, &d, true);
    return commit(pl, n, &d, in);
}

emb_status emb_q8_plan_conv(emb_planner *pl, const emb_node *n, bool *handled)
{
    return n->op->name[0] == 'C' ? plan_conv(pl, n, handled) : plan_matrix(pl, n, handled);
}
