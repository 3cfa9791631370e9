/* plan_conv.c: convolutions and products by constants: what follows them is taken in (batch norm, constants by channel,
 * a residual, an activation), then the weights are packed for the kernels' tile. */
#include "run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef struct { /* a convolution on its way into a step; weights as ONNX has them, scaled in place */
    emb_step step;
    float *w, *b; /* [oc][ic / group][kh][kw], [oc] */
    size_t per_channel;
    int32_t residual; /* value, -1 */
    int32_t out;      /* value */
    bool sealed;      /* a residual or an activation is in: nothing linear may follow */
    bool ours;        /* w was the graph's: it may become the step's */
    char fused[64];
} draft;

static void note(draft *d, const char *text)
{
    size_t n = strlen(d->fused);
    snprintf(d->fused + n, sizeof d->fused - n, "+%s", text);
}

static void scale_shift(draft *d, const float *scale, const float *shift)
{
    for (uint32_t o = 0; o < d->step.oc; o++) {
        for (size_t i = 0; scale != NULL && i < d->per_channel; i++) d->w[o * d->per_channel + i] *= scale[o];
        if (scale != NULL) d->b[o] *= scale[o];
        if (shift != NULL) d->b[o] += shift[o];
    }
}

static bool take_batch_norm(const emb_planner *pl, const emb_node *n, draft *d)
{
    const float *p[5];
    for (int i = 1; i < 5; i++)
        if ((p[i] = pl->g->values[n->in[i]].data) == NULL) return false;
    float eps = emb_attr_f(n->proto, "epsilon", 1e-5f);
    for (uint32_t o = 0; o < d->step.oc; o++) {
        float k = p[1][o] / sqrtf(p[4][o] + eps);
        for (size_t i = 0; i < d->per_channel; i++) d->w[o * d->per_channel + i] *= k;
        d->b[o] = d->b[o] * k + p[2][o] - p[3][o] * k;
    }
    return true;
}

bool emb_plan_self_gate(emb_planner *pl, emb_step *step, int32_t *out, const char **name)
{
    int32_t v = *out;
    if (pl->g->values[v].uses != 2) return false;
    for (size_t i = 0; i < pl->g->n_nodes; i++) {
        const emb_node *s = &pl->g->nodes[i];
        bool hard = strcmp(s->op->name, "HardSigmoid") == 0;
        if (s->folded || s->in[0] != v || (!hard && strcmp(s->op->name, "Sigmoid") != 0)) continue;
        const emb_node *m = emb_plan_only_consumer(pl, s->out[0]);
        if (m == NULL || strcmp(m->op->name, "Mul") != 0) return false;
        if (!((m->in[0] == v && m->in[1] == s->out[0]) || (m->in[1] == v && m->in[0] == s->out[0]))) return false;
        if (hard && (fabsf(emb_attr_f(s->proto, "alpha", 0.2f) - 1.0f / 6) > 1e-4f || fabsf(emb_attr_f(s->proto, "beta", 0.5f) - 0.5f) > 1e-4f))
            return false;
        step->act = hard ? EMB_ACT_HSWISH : EMB_ACT_SWISH;
        *name = hard ? "HardSwish" : "Swish";
        pl->done[s - pl->g->nodes] = pl->done[m - pl->g->nodes] = true;
        *out = m->out[0];
        return true;
    }
    return false;
}

/* Takes the next node in, if it can be: true and d->out moves on. */
static bool take_next(emb_planner *pl, draft *d, float *tmp)
{
    if (d->step.act != EMB_ACT_NONE || d->step.lo != -INFINITY || d->step.hi != INFINITY) return false;
    const char *name;
    if (emb_plan_self_gate(pl, &d->step, &d->out, &name)) {
        note(d, name);
        return false; /* an activation ends the chain */
    }
    const emb_node *n = emb_plan_only_consumer(pl, d->out);
    if (n == NULL || n->op->name == NULL) return false;
    const emb_type *t = &pl->g->values[d->out].type;
    const char *op = n->op->name;
    bool taken = false;
    if (strcmp(op, "BatchNormalization") == 0 && !d->sealed && n->in[0] == d->out) {
        taken = take_batch_norm(pl, n, d);
    } else if (strcmp(op, "Add") == 0 || strcmp(op, "Mul") == 0) {
        int32_t other = n->in[0] == d->out ? n->in[1] : n->in[0];
        bool add = op[0] == 'A';
        if (!d->sealed && emb_plan_by_channel(pl, other, t, tmp)) {
            scale_shift(d, add ? NULL : tmp, add ? tmp : NULL);
            taken = true;
        } else if (add && d->residual < 0 && other != d->out && emb_plan_ready(pl, other) &&
                   memcmp(t->dims, pl->g->values[other].type.dims, t->rank * sizeof *t->dims) == 0 &&
                   pl->g->values[other].type.rank == t->rank) {
            d->residual = other;
            d->sealed = taken = true;
        }
    } else {
        taken = emb_plan_activation(pl, n, &d->step);
    }
    if (!taken) return false;
    note(d, op);
    pl->done[n - pl->g->nodes] = true;
    d->out = n->out[0];
    return true;
}

/* Of what both tiles make in a cycle: wide ones read the least for each product, and both lose where a panel is one vector. */
void emb_plan_shape(emb_tiler *t, const emb_kernels *k, uint32_t oc)
{
    if (k->wide_nr == 0) return;
    const uint32_t unit = k->unit, vectors = (oc + unit - 1) / unit, tall = k->nr / unit, wide = k->wide_nr / unit;
    const uint32_t left = vectors % tall, left_wide = vectors % wide;
    const bool better = left_wide == 0 || (left != 0 && left_wide > left) || (left == 1 && left_wide > 1);
    t->mr = better ? k->wide_mr : k->mr;
    t->nr = better ? k->wide_nr : k->nr;
}

/* Few channels of many pixels by thin(), where one vector and the pixels that pointers can be kept for would not fill the processor. */
static void take_thin(emb_step *s, const emb_kernels *k)
{
    enum { MOST = 512, LEAST = 256 }; /* products of a sum, whose weights stay in the first cache without being parted; pixels */
    const bool fits = k->thin != NULL && s->oc / (uint32_t)s->w.group <= k->unit && emb_conv_taps(s) * emb_conv_run(s) <= MOST && s->oh * s->ow >= LEAST;
    if (!fits) return;
    const emb_tiler before = s->t;
    s->t.tile = k->thin, s->t.mr = k->thin_mr, s->t.nr = k->unit, s->t.strided = true;
    emb_plan_even(s);
    if (!s->even) s->t = before;
}

/* ---- packing ---------------------------------------------------------------------------------------- */

void emb_plan_pack_panel(const emb_kernels *t, const float *from, uint32_t k, uint32_t width, void *to)
{
    uint32_t group = t->group, nr = width, end = (k + t->round - 1) / t->round * t->round;
    float row[EMB_MAX_NR * EMB_MAX_GROUP];
    char *out = to;
    for (uint32_t x = 0; x < end; x += group, out += nr * group * t->bytes) {
        for (uint32_t j = 0; j < nr; j++)
            for (uint32_t i = 0; i < group; i++) row[j * group + i] = x + i < k ? from[(size_t)(x + i) * nr + j] : 0;
        t->narrow(row, nr * group, out);
    }
}

typedef float four __attribute__((vector_size(16), aligned(4)));

/* Four numbers of each of four channels, `apart` from channel to channel, to column j of four rows. */
static void turn_four(const float *w, size_t apart, float *const *row, size_t j)
{
    const four a = *(const four *)w, b = *(const four *)(w + apart), c = *(const four *)(w + 2 * apart), d = *(const four *)(w + 3 * apart);
    const four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    const four ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7), cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(four *)(row[0] + j) = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(four *)(row[1] + j) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    *(four *)(row[2] + j) = __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5);
    *(four *)(row[3] + j) = __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7);
}

/* Weights of n channels, [channel][ic][tap], to rows of nr: row x of tap t begins at to + t * tap + x * nr. A line of each channel at a
 * time, so that neither the lines that are read nor those that are written leave the first cache half used. */
static void turn(const float *w, uint32_t n, uint32_t ic, uint32_t taps, float *to, size_t tap, uint32_t nr)
{
    enum { LINE = 16 };
    const size_t all = (size_t)ic * taps;
    float *row[LINE];
    if (n < nr)
        for (uint32_t t = 0; t < taps; t++) memset(to + t * tap, 0, (size_t)ic * nr * sizeof *to);
    for (size_t from = 0; from < all; from += LINE) {
        const uint32_t m = all - from < LINE ? (uint32_t)(all - from) : LINE, quick = n / 4 * 4, whole = m / 4 * 4;
        for (uint32_t i = 0; i < m; i++) row[i] = to + (from + i) % taps * tap + (from + i) / taps * nr;
        for (uint32_t j = 0; j < quick; j += 4) {
            const float *at = w + j * all + from;
            for (uint32_t i = 0; i < whole; i += 4) turn_four(at + i, all, row + i, j);
        }
        for (uint32_t j = 0; j < n; j++)
            for (uint32_t i = j < quick ? whole : 0; i < m; i++) row[i][j] = w[j * all + from + i];
    }
}

/* The first n weights will not be read again before they are freed, so that a large layer need not be there twice. *gone: what went before. */
static void give_back(float *w, size_t *gone, size_t n)
{
    enum { PIECE = 2 << 20 }; /* a large page */
    const uintptr_t from = ((uintptr_t)w + *gone + PIECE - 1) / PIECE * PIECE, to = (uintptr_t)(w + n) / PIECE * PIECE;
    if (to <= from) return;
    (void)madvise((void *)from, to - from, MADV_DONTNEED);
    *gone = to - (uintptr_t)w;
}

/* [group][panel][tap][rows of a panel] and biases to match; a merged convolution has kh taps of kw * ic, which are the rows of kw taps
 * behind each other. */
static bool pack(draft *d, const emb_kernels *k)
{
    emb_step *s = &d->step;
    uint32_t groups = (uint32_t)s->w.group, oc = s->oc / groups, ic = s->ic / groups, nr = s->t.nr, all = (uint32_t)(s->w.kh * s->w.kw);
    uint32_t panels = (oc + nr - 1) / nr, merged = s->merged ? (uint32_t)s->w.kw : 1, taps = all / merged, run = merged * ic;
    size_t biases = (size_t)nr * panels * groups;
    bool plain = k->type == EMB_F32 && k->group == 1;
    const bool stays = d->ours && plain && oc % s->t.unit == 0; /* panels take as much as the channels that they hold: one at a time is turned */
    char *to = s->weights = stays ? (void *)d->w : emb_weights_memory(groups * emb_panel_bytes(&s->t, oc, taps, run));
    float *turned = plain && !stays ? NULL : malloc((size_t)run * nr * taps * sizeof *turned);
    s->bias = emb_weights_memory(biases * sizeof(float));
    if (to == NULL || s->bias == NULL || ((!plain || stays) && turned == NULL)) {
        free(turned);
        return false;
    }
    size_t gone = 0;
    for (uint32_t g = 0; g < groups; g++)
        for (uint32_t p = 0; p < panels; p++) {
            uint32_t first = g * oc + p * nr, n = oc - p * nr < nr ? oc - p * nr : nr, width = emb_panel_width(&s->t, n);
            size_t part = emb_panel_bytes(&s->t, n, 1, run), rows = (size_t)run * width;
            for (uint32_t j = 0; j < nr; j++) s->bias[(size_t)(g * panels + p) * nr + j] = j < n ? d->b[first + j] : 0;
            turn(d->w + (size_t)first * d->per_channel, n, ic, all, turned != NULL ? turned : (float *)(void *)to, rows / merged, width);
            if (stays) memcpy(to, turned, part * taps);
            for (uint32_t t = 0; !plain && t < taps; t++) emb_plan_pack_panel(k, turned + t * rows, run, width, to + t * part);
            to += part * taps;
            if (d->ours && !stays) give_back(d->w, &gone, (size_t)(first + n) * d->per_channel);
        }
    free(turned);
    return true;
}

static bool pack_depthwise(draft *d, const emb_kernels *k)
{
    emb_step *s = &d->step;
    uint32_t taps = (uint32_t)(s->w.kh * s->w.kw);
    size_t n = (size_t)taps * s->oc;
    s->weights = emb_weights_memory(n * k->bytes);
    s->bias = emb_weights_memory(s->oc * sizeof(float));
    float *w = malloc(n * sizeof *w);
    bool ok = s->weights != NULL && s->bias != NULL && w != NULL;
    for (uint32_t c = 0; ok && c < s->oc; c++) {
        s->bias[c] = d->b[c];
        for (uint32_t t = 0; t < taps; t++) w[(size_t)t * s->oc + c] = d->w[(size_t)c * taps + t];
    }
    if (ok) k->narrow(w, n, s->weights);
    free(w);
    return ok;
}

static bool pack_winograd(draft *d, const emb_kernels *k, size_t *scratch_bytes)
{
    d->step.weights = emb_winograd_pack(&d->step, d->w, k, scratch_bytes);
    d->step.bias = emb_weights_memory(d->step.oc * sizeof(float));
    if (d->step.weights == NULL || d->step.bias == NULL) return false;
    memcpy(d->step.bias, d->b, d->step.oc * sizeof(float));
    return true;
}

/* Blocks of at most EMB_BLOCK_TILES, evenly: their rows and results stay in the second cache. Of a panel, 24 KiB at a time stay in
 * the first while all tiles of the block use them; a single tile would only pay for the interruptions. */
void emb_plan_block(emb_step *s, uint32_t longest, bool whole)
{
    uint32_t pixels = s->oh * s->ow, most = EMB_BLOCK_TILES * s->t.mr, blocks = (pixels + most - 1) / most;
    uint32_t taps = emb_conv_taps(s), run = emb_conv_run(s);
    s->block = (pixels + blocks - 1) / blocks;
    s->part_taps = taps;
    s->part_k = run;
    if (whole) return;
    uint32_t rows = 24 * 1024 / (s->t.nr * s->t.bytes);
    bool brief = longest > 0 && (size_t)taps * run > longest;
    if (brief && rows > longest) rows = longest;
    else if (!brief && (s->block <= s->t.mr || (size_t)taps * run <= rows + rows / 2)) return;
    if (run >= rows) {
        uint32_t parts = (run + rows - 1) / rows;
        s->part_taps = 1;
        s->part_k = ((run + parts - 1) / parts + s->t.group - 1) / s->t.group * s->t.group;
    } else {
        uint32_t most_taps = rows / run, parts = (taps + most_taps - 1) / most_taps;
        s->part_taps = (taps + parts - 1) / parts;
    }
}

/* A gate in front of a convolution of few channels over many pixels: the factors go into its weights instead. */
static int32_t take_gate(emb_planner *pl, emb_step *s, int32_t in, int32_t value)
{
    emb_plan *p = pl->p;
    emb_step *gate = p->n_steps > 0 ? &p->steps[p->n_steps - 1] : NULL;
    if (gate == NULL || gate->kind != EMB_STEP_GATE || gate->out != in || pl->g->values[value].uses != 1 || s->kind != EMB_STEP_CONV ||
        !s->dense || s->w.group != 1 || s->oh * s->ow < 8 * s->oc)
        return in;
    s->gate = gate->in[1];
    in = gate->in[0];
    p->buffers[gate->out].bytes = 0;
    free(gate->in);
    p->n_steps--;
    return in;
}

/* ---- steps ------------------------------------------------------------------------------------------ */

static emb_status commit(emb_planner *pl, const emb_node *n, draft *d, int32_t in, bool image)
{
    emb_step *s = &d->step;
    const emb_window *v = &s->w;
    s->y_pixel = s->oc;
    s->dense = v->kh == 1 && v->kw == 1 && v->sh == 1 && v->sw == 1 && s->oh == s->ih && s->ow == s->iw && v->top == 0 && v->left == 0;
    const emb_kernels *k = pl->p->k;
    if (s->kind == EMB_STEP_CONV) {
        emb_plan_shape(&s->t, k, s->oc / (uint32_t)v->group);
        take_thin(s, k);
        emb_plan_even(s);
        emb_plan_block(s, k->longest, !k->parts || s->t.tile == k->thin);
    }
    size_t scratch = 0;
    if (image) in = take_gate(pl, s, in, n->in[0]);
    bool ok = s->kind == EMB_STEP_DEPTHWISE ? pack_depthwise(d, k) : s->kind == EMB_STEP_WINOGRAD ? pack_winograd(d, k, &scratch) : pack(d, k);
    int32_t residual = !ok || d->residual < 0 ? -1 : image ? emb_plan_nhwc(pl, d->residual) : emb_plan_rows(pl, d->residual);
    if (ok && d->residual >= 0 && residual < 0) ok = false;
    if (s->kind == EMB_STEP_CONV) scratch = emb_padded_bytes(s);
    if (s->gate >= 0) scratch = emb_panel_bytes(&s->t, s->oc, 1, s->ic);
    if (ok && scratch > 0) ok = (s->scratch = emb_plan_buffer(pl, scratch)) >= 0;
    int32_t out = ok ? emb_plan_buffer(pl, (size_t)s->oh * s->ow * s->oc * k->bytes) : -1;
    emb_step *step = out >= 0 ? emb_plan_step(pl, s->kind, n) : NULL;
    int32_t *ins = step != NULL ? malloc(sizeof *ins) : NULL;
    char *fused = ins != NULL ? strdup(d->fused) : NULL;
    if (fused == NULL) {
        free(ins);
        free(s->weights);
        free(s->bias);
        if (step != NULL) pl->p->n_steps--;
        return emb_fail(pl->err, EMB_ENOMEM, "%s: no memory to plan", pl->g->file);
    }
    *ins = in;
    s->in = ins;
    s->n_in = 1;
    s->fused = fused;
    s->node = n;
    s->out = out;
    s->residual = residual;
    *step = *s;
    (image ? pl->nhwc : pl->rows)[d->out] = out;
    return EMB_OK;
}

static emb_status finish(emb_planner *pl, const emb_node *n, draft *d, int32_t in_value, bool image)
{
    emb_step *s = &d->step;
    float *tmp = malloc((s->oc + 1u) * sizeof *tmp);
    if (tmp == NULL) return emb_fail(pl->err, EMB_ENOMEM, "%s: no memory to plan", pl->g->file);
    while (take_next(pl, d, tmp)) {}
    free(tmp);
    int32_t in = image ? emb_plan_nhwc(pl, in_value) : emb_plan_rows(pl, in_value);
    if (in < 0) return emb_fail(pl->err, EMB_ENOMEM, "%s: no memory to plan", pl->g->file);
    return commit(pl, n, d, in, image);
}

static float *draft_weights(emb_planner *pl, size_t n)
{
    if (n <= pl->draft_floats) return pl->draft;
    free(pl->draft);
    pl->draft = malloc(n * sizeof(float));
    pl->draft_floats = pl->draft != NULL ? n : 0;
    return pl->draft;
}

static emb_step blank(const emb_kernels *k)
{
    return (emb_step){.x_bytes = k->bytes, .y_bytes = k->bytes, .r_bytes = k->bytes, .t = {k->tile, k->mr, k->nr, k->unit, k->group, k->bytes, k->round, k->strided}, .out = -1, .residual = -1, .scratch = -1, .gate = -1, .lo = -INFINITY, .hi = INFINITY};
}

emb_status emb_plan_conv(emb_planner *pl, const emb_node *n, bool *handled)
{
    const emb_value *x = &pl->g->values[n->in[0]], *y = &pl->g->values[n->out[0]];
    emb_value *w = &pl->g->values[n->in[1]];
    const float *bias = n->n_in > 2 && n->in[2] >= 0 ? pl->g->values[n->in[2]].data : NULL;
    *handled = emb_is_image(&x->type) && w->data != NULL && (n->n_in < 3 || n->in[2] < 0 || bias != NULL);
    if (!*handled) return EMB_OK;
    const bool leaves = pl->last && w->uses == 1;
    draft d = {.step = blank(pl->p->k), .residual = -1, .out = n->out[0], .ours = leaves};
    emb_step *s = &d.step;
    emb_arg in[3] = {{x->type, NULL}, {w->type, w->data}, {{0}, NULL}}, out[1] = {{y->type, NULL}};
    emb_call c = {pl->g, n, in, out, 2, 1, pl->err};
    emb_status st = emb_window_read(&c, &x->type, w->type.dims[2], w->type.dims[3], &s->w);
    if (st != EMB_OK) return st;
    s->ic = (uint32_t)x->type.dims[1], s->ih = (uint32_t)x->type.dims[2], s->iw = (uint32_t)x->type.dims[3];
    s->oc = (uint32_t)y->type.dims[1], s->oh = (uint32_t)y->type.dims[2], s->ow = (uint32_t)y->type.dims[3];
    s->kind = s->w.group == s->ic && s->oc == s->ic && s->ic > 1 ? EMB_STEP_DEPTHWISE : EMB_STEP_CONV;
    if (pl->p->k->type == EMB_F32 && emb_winograd_pays(s)) s->kind = EMB_STEP_WINOGRAD;
    d.per_channel = (size_t)(w->type.dims[1] * s->w.kh * s->w.kw);
    s->macs = (uint64_t)s->oh * s->ow * s->oc * d.per_channel;
    d.w = leaves ? emb_graph_take(pl->g, w) : draft_weights(pl, (size_t)s->oc * d.per_channel);
    d.b = calloc(s->oc, sizeof(float));
    if (d.w == NULL || d.b == NULL) {
        st = emb_fail(pl->err, EMB_ENOMEM, "%s: no memory to plan", pl->g->file);
    } else {
        if (!leaves) memcpy(d.w, w->data, (size_t)s->oc * d.per_channel * sizeof(float));
        if (bias != NULL) memcpy(d.b, bias, s->oc * sizeof(float));
        st = finish(pl, n, &d, n->in[0], true);
    }
    if (leaves && d.step.weights != d.w) free(d.w);
    free(d.b);
    return st;
}

/* Gemm (A not transposed, alpha = beta = 1) and MatMul with a constant matrix: rows of the dense input times it. */
emb_status emb_plan_matrix(emb_planner *pl, const emb_node *n, bool *handled)
{
    const emb_value *x = &pl->g->values[n->in[0]];
    emb_value *w = &pl->g->values[n->in[1]];
    bool gemm = strcmp(n->op->name, "Gemm") == 0;
    bool tb = gemm && emb_attr_i(n->proto, "transB", 0) != 0;
    const emb_value *b = gemm && n->n_in > 2 && n->in[2] >= 0 ? &pl->g->values[n->in[2]] : NULL;
    *handled = w->data != NULL && w->type.rank == 2 && x->data == NULL && x->type.rank >= 2 && emb_elements(&x->type) > 0;
    if (gemm)
        *handled = *handled && emb_attr_i(n->proto, "transA", 0) == 0 && emb_attr_f(n->proto, "alpha", 1) == 1 &&
                   emb_attr_f(n->proto, "beta", 1) == 1;
    if (!*handled) return EMB_OK;
    uint32_t k = (uint32_t)w->type.dims[tb ? 1 : 0], oc = (uint32_t)w->type.dims[tb ? 0 : 1];
    if (b != NULL && (b->data == NULL || emb_elements(&b->type) != oc || k == 0 || oc == 0)) {
        *handled = false;
        return EMB_OK;
    }
    const bool leaves = pl->last && w->uses == 1 && tb; /* as it lies there */
    draft d = {.step = blank(pl->p->k), .residual = -1, .out = n->out[0], .per_channel = k, .ours = leaves};
    emb_step *s = &d.step;
    s->kind = EMB_STEP_CONV;
    s->w = (emb_window){.kh = 1, .kw = 1, .sh = 1, .sw = 1, .dh = 1, .dw = 1, .group = 1};
    s->ic = k, s->oc = oc, s->ih = s->oh = 1;
    s->iw = s->ow = (uint32_t)(emb_elements(&x->type) / k);
    s->macs = (uint64_t)s->ow * k * oc;
    d.w = leaves ? emb_graph_take(pl->g, w) : draft_weights(pl, (size_t)oc * k);
    d.b = calloc(oc, sizeof(float));
    emb_status st = EMB_OK;
    if (d.w == NULL || d.b == NULL) {
        st = emb_fail(pl->err, EMB_ENOMEM, "%s: no memory to plan", pl->g->file);
    } else {
        const float *from = w->data;
        if (tb && !leaves) memcpy(d.w, from, (size_t)oc * k * sizeof *from);
        else if (!tb) turn(from, k, oc, 1, d.w, 0, k);
        if (b != NULL) memcpy(d.b, b->data, oc * sizeof(float));
        if (pl->last && w->uses == 1 && !tb) free(emb_graph_take(pl->g, w));
        st = finish(pl, n, &d, n->in[0], false);
    }
    if (leaves && d.step.weights != d.w) free(d.w);
    free(d.b);
    return st;
}
