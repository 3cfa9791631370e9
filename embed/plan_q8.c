/* plan_q8.c: steps over quantised values. A graph says "quantise" and "dequantise" around every operator; here a value that was
 * quantised stays in 8 bits, the pair in between costs nothing, and an operator whose result is quantised again becomes one step.
 * Values of int8 are kept as uint8 with 128 more. Whatever finds no step here gets floats. */
#include "plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static emb_status no_memory(emb_planner *pl) { return emb_fail(pl->err, EMB_ENOMEM, "%s: no memory to plan", pl->g->file); }

emb_q8 *emb_q8_new(emb_grid x, emb_grid y)
{
    emb_q8 *q = calloc(1, sizeof *q);
    if (q != NULL) q->x = x, q->y = y;
    return q;
}

void emb_q8_free(emb_q8 *q)
{
    if (q == NULL) return;
    free(q->scale);
    free(q->padding);
    free(q->table);
    free(q);
}

void emb_q8_tabulate(const emb_kernels_q8 *k, emb_step *s)
{
    emb_q8 *q = s->q8;
    free(q->table);
    q->table = NULL;
    if (!k->tables || s->act == EMB_ACT_NONE || q->wide || (q->table = malloc(sizeof *q->table)) == NULL) return;
    if (emb_q8_table_make(q->table, s->act, s->act_a, s->act_b, q->y_scale, q->y_zero)) return;
    free(q->table);
    q->table = NULL;
}

bool emb_q8_ready(const emb_planner *pl, int32_t v)
{
    return pl->views != NULL && v >= 0 && (pl->views[v].nhwc >= 0 || pl->views[v].rows >= 0);
}

/* [1, C, H, W], whether in bytes or in floats. */
static bool is_image(const emb_type *t)
{
    emb_type f = *t;
    f.dtype = EMB_F32;
    return emb_is_image(&f);
}

static bool same_bytes(const emb_type *t) { return !is_image(t) || t->dims[1] == 1 || t->dims[2] * t->dims[3] == 1; }

int32_t emb_q8_nhwc(emb_planner *pl, int32_t v)
{
    emb_q8_view *w = &pl->views[v];
    if (w->nhwc < 0 && same_bytes(&pl->g->values[v].type)) w->nhwc = w->rows;
    return w->nhwc;
}

int32_t emb_q8_rows(emb_planner *pl, int32_t v)
{
    emb_q8_view *w = &pl->views[v];
    if (w->rows < 0 && same_bytes(&pl->g->values[v].type)) w->rows = w->nhwc;
    return w->rows;
}

static bool same_grid(emb_grid a, emb_grid b) { return a.scale == b.scale && a.zero == b.zero; }

static bool is_byte(const emb_value *v) { return v->type.dtype == EMB_U8 || v->type.dtype == EMB_I8; }

bool emb_q8_grid(const emb_graph *g, const emb_node *n, emb_grid *out)
{
    const emb_value *s = &g->values[n->in[1]], *z = n->n_in > 2 && n->in[2] >= 0 ? &g->values[n->in[2]] : NULL;
    if (s->data == NULL || s->type.dtype != EMB_F32 || emb_elements(&s->type) != 1) return false;
    emb_dtype eight = g->values[strcmp(n->op->name, "QuantizeLinear") == 0 ? n->out[0] : n->in[0]].type.dtype;
    if ((eight != EMB_U8 && eight != EMB_I8) || (z != NULL && (z->data == NULL || emb_elements(&z->type) != 1 || z->type.dtype != eight))) return false;
    out->scale = *(const float *)s->data;
    out->zero = (eight == EMB_I8 ? 128 : 0) + (z == NULL ? 0 : eight == EMB_U8 ? *(const uint8_t *)z->data : *(const int8_t *)z->data);
    return isnormal(out->scale) && out->scale > 0;
}

bool emb_q8_never_retreats(const emb_graph *g)
{
    for (size_t i = 0; i < g->n_nodes; i++) {
        const emb_node *n = &g->nodes[i];
        emb_grid grid;
        if (n->folded) continue;
        bool from = strcmp(n->op->name, "DequantizeLinear") == 0, to = strcmp(n->op->name, "QuantizeLinear") == 0;
        if ((from || to) && !emb_q8_grid(g, n, &grid)) return false;
        for (uint32_t k = 0; k < n->n_in; k++)
            if (n->in[k] >= 0 && !from && !emb_is_constant(&g->values[n->in[k]]) && is_byte(&g->values[n->in[k]])) return false;
        for (uint32_t k = 0; k < n->n_out; k++)
            if (n->out[k] >= 0 && !to && is_byte(&g->values[n->out[k]])) return false;
    }
    return !is_byte(&g->values[g->outputs[0]]);
}

const emb_node *emb_q8_quantizer(const emb_planner *pl, int32_t v, emb_grid *grid)
{
    const emb_node *n = emb_plan_only_consumer(pl, v);
    return n != NULL && strcmp(n->op->name, "QuantizeLinear") == 0 && n->in[0] == v && emb_q8_grid(pl->g, n, grid) ? n : NULL;
}

/* ---- helpers for steps ---------------------------------------------------------------------------------- */

/* A step over bytes from the views of values, whose result is q's. NULL = no memory. */
static emb_step *step_of(emb_planner *pl, emb_step_kind kind, const emb_node *n, const int32_t *in, int32_t n_in, const emb_type *t, emb_grid x, emb_grid y)
{
    emb_step *s = emb_plan_simple(pl, kind, n, in, n_in, t, true);
    if (s == NULL || (s->q8 = emb_q8_new(x, y)) == NULL) return NULL;
    bool image = t->rank == 4 && t->dims[0] == 1;
    uint32_t c = (uint32_t)(image ? t->dims[1] : t->rank > 0 ? t->dims[t->rank - 1] : 1);
    s->oc = s->ic = s->y_pixel = c;
    s->oh = s->ih = 1;
    s->ow = s->iw = c > 0 ? (uint32_t)(emb_elements(t) / c) : 0;
    return s;
}

/* The quantised value that node q makes, and what is dequantised of it later, lie in this buffer. */
static void bind(emb_planner *pl, int32_t v, int32_t buffer, bool image, emb_grid g)
{
    pl->views[v] = (emb_q8_view){image ? buffer : -1, image ? -1 : buffer, g};
}

static int32_t either(emb_planner *pl, int32_t v, bool *image)
{
    *image = pl->views[v].nhwc >= 0;
    return *image ? pl->views[v].nhwc : pl->views[v].rows;
}

static uint8_t quantised(float real, emb_grid g)
{
    float v = rintf(real / g.scale) + (float)g.zero;
    return !(v > 0) ? 0 : v > 255 ? 255 : (uint8_t)v;
}

/* ---- functions of one value ------------------------------------------------------------------------------ */

/* A step that looks the view of v up in a table; a table that was looked up before is part of it then. */
static emb_status plan_lookup(emb_planner *pl, const emb_node *n, int32_t v, int32_t to, const uint8_t table[256], emb_grid y)
{
    bool image;
    int32_t in = either(pl, v, &image);
    emb_type t = pl->g->values[v].type;
    emb_step *s = step_of(pl, EMB_STEP_LOOKUP, n, &in, 1, &t, pl->views[v].grid, y);
    if (s == NULL || (s->weights = emb_weights_memory(256)) == NULL) return no_memory(pl);
    memcpy(s->weights, table, 256);
    bind(pl, to, s->out, image, y);
    return EMB_OK;
}

/* f of every value that the grid has, by the operator itself; false when it is none of one value. */
static bool tabulate(emb_planner *pl, const emb_node *n, emb_grid x, float out[256])
{
    static const char *const of_one[] = {"Abs", "Clip", "Elu", "Erf", "Exp", "HardSigmoid", "HardSwish", "LeakyRelu", "Neg", "Relu", "Sigmoid",
                                         "Softplus", "Sqrt", "Tanh"};
    bool known = false;
    for (size_t i = 0; i < sizeof of_one / sizeof *of_one; i++) known = known || strcmp(of_one[i], n->op->name) == 0;
    if (!known || n->n_in > 3 || n->n_out != 1) return false;
    float in[256];
    for (int i = 0; i < 256; i++) in[i] = x.scale * (float)(i - x.zero);
    emb_type t = {EMB_F32, 1, {256}};
    emb_arg args[3] = {{t, in}, {{.rank = UINT32_MAX}, NULL}, {{.rank = UINT32_MAX}, NULL}}, result = {t, out};
    for (uint32_t i = 1; i < n->n_in; i++) {
        if (n->in[i] < 0) continue;
        args[i] = (emb_arg){pl->g->values[n->in[i]].type, pl->g->values[n->in[i]].data};
        if (args[i].data == NULL) return false;
    }
    return emb_node_run(pl->g, n, args, &result, NULL) == EMB_OK;
}

static emb_status plan_of_one(emb_planner *pl, const emb_node *n, bool *handled)
{
    emb_grid y, x = pl->views[n->in[0]].grid;
    float f[256];
    uint8_t table[256];
    const emb_node *q = emb_q8_quantizer(pl, n->out[0], &y);
    if (strcmp(n->op->name, "Relu") == 0 && x.zero == 0) { /* nothing is below */
        pl->views[n->out[0]] = pl->views[n->in[0]];
        *handled = true;
        return EMB_OK;
    }
    if (q == NULL || !tabulate(pl, n, x, f)) return EMB_OK;
    for (int i = 0; i < 256; i++) table[i] = quantised(f[i], y);
    *handled = true;
    pl->done[q - pl->g->nodes] = true;
    return plan_lookup(pl, n, n->in[0], q->out[0], table, y);
}

/* The step that looked up `buffer`, last in the plan and read by nobody else. */
static emb_step *lookup_before(emb_planner *pl, int32_t v)
{
    emb_step *last = pl->p->n_steps > 0 ? &pl->p->steps[pl->p->n_steps - 1] : NULL;
    bool image;
    if (last == NULL || last->kind != EMB_STEP_LOOKUP || last->out != either(pl, v, &image) || pl->g->values[v].uses != 1) return NULL;
    return last;
}

/* x * f(x), where f was a table of x: one table. */
static emb_status plan_self_gate(emb_planner *pl, const emb_node *n, int32_t x, int32_t fx, bool *handled)
{
    emb_grid y, gx = pl->views[x].grid, gf = pl->views[fx].grid;
    const emb_node *q = emb_q8_quantizer(pl, n->out[0], &y);
    emb_step *before = lookup_before(pl, fx);
    bool image;
    if (q == NULL || before == NULL || before->in[0] != either(pl, x, &image)) return EMB_OK;
    uint8_t table[256];
    for (int i = 0; i < 256; i++) table[i] = quantised(gx.scale * (float)(i - gx.zero) * gf.scale * (float)(((const uint8_t *)before->weights)[i] - gf.zero), y);
    memcpy(before->weights, table, 256);
    before->q8->y = y;
    bind(pl, q->out[0], before->out, image, y);
    pl->done[q - pl->g->nodes] = true;
    *handled = true;
    return EMB_OK;
}

/* ---- between floats and bytes ------------------------------------------------------------------------------ */

static emb_status plan_quantize(emb_planner *pl, const emb_node *n, bool *handled)
{
    emb_grid y;
    int32_t x = n->in[0];
    if (!emb_q8_grid(pl->g, n, &y) || pl->g->values[x].type.dtype != EMB_F32 || emb_elements(&pl->g->values[x].type) == 0) return EMB_OK;
    *handled = true;
    if (emb_q8_ready(pl, x)) { /* from grid to grid */
        emb_grid gx = pl->views[x].grid;
        uint8_t table[256];
        pl->views[n->out[0]] = pl->views[x];
        if (same_grid(gx, y)) return EMB_OK;
        for (int i = 0; i < 256; i++) table[i] = quantised(gx.scale * (float)(i - gx.zero), y);
        return plan_lookup(pl, n, x, n->out[0], table, y);
    }
    bool image = pl->nhwc[x] >= 0 && emb_is_image(&pl->g->values[x].type);
    int32_t in = image ? pl->nhwc[x] : emb_plan_rows(pl, x);
    emb_step *s = in < 0 ? NULL : step_of(pl, EMB_STEP_QUANTIZE, n, &in, 1, &pl->g->values[x].type, y, y);
    if (s == NULL) return no_memory(pl);
    s->x_bytes = pl->p->k->bytes;
    bind(pl, n->out[0], s->out, image, y);
    return EMB_OK;
}

static emb_status plan_dequantize(emb_planner *pl, const emb_node *n, bool *handled)
{
    emb_grid g;
    *handled = emb_q8_ready(pl, n->in[0]) && emb_q8_grid(pl->g, n, &g);
    if (!*handled) return EMB_OK;
    pl->views[n->out[0]] = pl->views[n->in[0]];
    pl->views[n->out[0]].grid = g; /* its own, should a graph read bytes as something else than they were written */
    return EMB_OK;
}

/* ---- pictures ----------------------------------------------------------------------------------------------- */

static emb_status plan_pool(emb_planner *pl, const emb_node *n, bool *handled)
{
    const emb_type *x = &pl->g->values[n->in[0]].type, *y = &pl->g->values[n->out[0]].type;
    bool max = strcmp(n->op->name, "MaxPool") == 0;
    emb_grid gx = pl->views[n->in[0]].grid, gy = gx;
    int32_t in = emb_q8_nhwc(pl, n->in[0]), out = n->out[0];
    const emb_node *q = max ? NULL : emb_q8_quantizer(pl, out, &gy);
    if (in < 0 || !is_image(x) || !is_image(y) || (!max && q == NULL)) return EMB_OK;
    emb_arg a = {*x, NULL}, b = {*y, NULL};
    emb_call c = {pl->g, n, &a, &b, 1, 1, pl->err};
    emb_window w;
    emb_status st = emb_window_read(&c, x, 0, 0, &w);
    if (st != EMB_OK) return st;
    emb_step *s = step_of(pl, max ? EMB_STEP_MAX_POOL : EMB_STEP_AVG_POOL, n, &in, 1, y, gx, gy);
    if (s == NULL) return no_memory(pl);
    s->ih = (uint32_t)x->dims[2], s->iw = (uint32_t)x->dims[3], s->oh = (uint32_t)y->dims[2], s->ow = (uint32_t)y->dims[3];
    s->w = w;
    if (q != NULL) pl->done[q - pl->g->nodes] = true, out = q->out[0];
    bind(pl, out, s->out, true, gy);
    *handled = true;
    return EMB_OK;
}

/* The mean of a picture is a row of floats. */
static emb_status plan_global_mean(emb_planner *pl, const emb_node *n, bool *handled)
{
    const emb_type *x = &pl->g->values[n->in[0]].type;
    int32_t in = emb_q8_nhwc(pl, n->in[0]);
    if (in < 0 || !emb_is_image(x)) return EMB_OK;
    emb_type row = {EMB_F32, 4, {1, x->dims[1], 1, 1}};
    emb_step *s = emb_plan_simple(pl, EMB_STEP_GLOBAL_MEAN, n, &in, 1, &row, false);
    if (s == NULL || (s->q8 = emb_q8_new(pl->views[n->in[0]].grid, pl->views[n->in[0]].grid)) == NULL) return no_memory(pl);
    s->x_bytes = 1;
    s->ic = s->oc = (uint32_t)x->dims[1], s->ih = (uint32_t)x->dims[2], s->iw = (uint32_t)x->dims[3];
    s->oh = s->ow = 1;
    pl->nhwc[n->out[0]] = pl->rows[n->out[0]] = s->out;
    *handled = true;
    return EMB_OK;
}

static emb_status plan_add(emb_planner *pl, const emb_node *n, bool *handled)
{
    int32_t a = n->in[0], b = n->in[1], out = n->out[0];
    const emb_type *ta = &pl->g->values[a].type, *tb = &pl->g->values[b].type;
    emb_step clamp = {.lo = -INFINITY, .hi = INFINITY};
    if (!emb_q8_ready(pl, b) || ta->rank != tb->rank || memcmp(ta->dims, tb->dims, ta->rank * sizeof *ta->dims) != 0) return EMB_OK;
    const emb_node *next = emb_plan_only_consumer(pl, out);
    if (next == NULL || !emb_plan_activation(pl, next, &clamp) || clamp.act != EMB_ACT_NONE) next = NULL, clamp.lo = -INFINITY, clamp.hi = INFINITY;
    emb_grid ga = pl->views[a].grid, gb = pl->views[b].grid, y;
    const emb_node *q = emb_q8_quantizer(pl, next != NULL ? next->out[0] : out, &y);
    bool image = pl->views[a].nhwc >= 0 && emb_q8_nhwc(pl, b) >= 0;
    int32_t in[2] = {image ? emb_q8_nhwc(pl, a) : emb_q8_rows(pl, a), image ? emb_q8_nhwc(pl, b) : emb_q8_rows(pl, b)};
    if (q == NULL || in[0] < 0 || in[1] < 0) return EMB_OK;
    emb_step *s = step_of(pl, EMB_STEP_ADD, n, in, 2, ta, ga, y);
    if (s == NULL) return no_memory(pl);
    float *by = s->q8->by, zero = (float)y.zero;
    by[0] = ga.scale / y.scale;
    by[1] = gb.scale / y.scale;
    by[2] = zero - by[0] * (float)ga.zero - by[1] * (float)gb.zero;
    by[3] = fmaxf(rintf(clamp.lo / y.scale) + zero, 0);
    by[4] = fminf(rintf(clamp.hi / y.scale) + zero, 255);
    if (next != NULL) pl->done[next - pl->g->nodes] = true;
    pl->done[q - pl->g->nodes] = true;
    bind(pl, q->out[0], s->out, image, y);
    *handled = true;
    return EMB_OK;
}

/* A picture times a factor for each channel, and x times a function of x. */
static emb_status plan_mul(emb_planner *pl, const emb_node *n, bool *handled)
{
    int32_t a = n->in[0], b = n->in[1];
    if (!emb_q8_ready(pl, b)) return EMB_OK;
    emb_status st = plan_self_gate(pl, n, a, b, handled);
    if (st == EMB_OK && !*handled) st = plan_self_gate(pl, n, b, a, handled);
    if (st != EMB_OK || *handled) return st;
    if (emb_elements(&pl->g->values[a].type) < emb_elements(&pl->g->values[b].type)) a = n->in[1], b = n->in[0];
    const emb_type *ta = &pl->g->values[a].type, *tb = &pl->g->values[b].type;
    emb_grid ga = pl->views[a].grid, gb = pl->views[b].grid, y;
    const emb_node *q = emb_q8_quantizer(pl, n->out[0], &y);
    int32_t in[2] = {emb_q8_nhwc(pl, a), emb_q8_nhwc(pl, b)};
    if (q == NULL || !emb_is_image(ta) || !emb_is_image(tb) || in[0] < 0 || in[1] < 0 || tb->dims[2] * tb->dims[3] != 1 || ta->dims[1] != tb->dims[1])
        return EMB_OK;
    emb_step *s = step_of(pl, EMB_STEP_GATE, n, in, 2, ta, ga, y);
    if (s == NULL || (s->scratch = emb_plan_buffer(pl, 2 * (size_t)s->oc * sizeof(float) + 64)) < 0) return no_memory(pl);
    s->q8->by[0] = ga.scale * gb.scale / y.scale;
    s->q8->by[1] = (float)gb.zero;
    s->q8->by[2] = (float)ga.zero;
    pl->done[q - pl->g->nodes] = true;
    bind(pl, q->out[0], s->out, true, y);
    *handled = true;
    return EMB_OK;
}

/* ---- concat -------------------------------------------------------------------------------------------------- */

void emb_q8_regrid(const emb_kernels_q8 *k, emb_step *s, emb_grid to)
{
    emb_q8 *q = s->q8;
    emb_grid from = q->y;
    float by = from.scale / to.scale, zero = (float)to.zero;
    size_t n = (size_t)s->t.nr * ((s->oc / (uint32_t)s->w.group + s->t.nr - 1) / s->t.nr) * (size_t)s->w.group;
    if (s->act != EMB_ACT_NONE) {
        q->y_scale *= by;
        q->y_zero = zero;
        emb_q8_tabulate(k, s);
    } else {
        for (size_t i = 0; i < n; i++) {
            q->scale[i] *= by;
            s->bias[i] = (s->bias[i] - (float)from.zero) * by + zero;
        }
        q->residual_scale *= by;
        s->lo = fmaxf(rintf((s->lo - (float)from.zero) * by) + zero, 0);
        s->hi = fminf(rintf((s->hi - (float)from.zero) * by) + zero, 255);
    }
    q->y = to;
}

/* The convolution that made v, if only this concat reads it: it may write on the concat's grid, and in its place. */
static emb_step *maker_of(emb_planner *pl, int32_t v)
{
    emb_step *maker = NULL;
    int32_t b = pl->views[v].nhwc;
    size_t names = 0; /* a value and what is dequantised of it are two; a third is somebody else's */
    for (size_t i = 0; i < pl->g->n_values; i++) names += pl->views[i].nhwc == b || pl->views[i].rows == b;
    for (size_t i = 0; i < pl->p->n_steps; i++) {
        emb_step *s = &pl->p->steps[i];
        if (s->out == b) maker = s;
        for (int32_t k = 0; k < s->n_in; k++)
            if (s->in[k] == b) return NULL;
        if (s->residual == b) return NULL;
    }
    if (maker == NULL || names > 2 || pl->g->values[v].uses != 1 || (maker->kind != EMB_STEP_CONV && maker->kind != EMB_STEP_WINOGRAD) || maker->residual >= 0 || maker->y_pixel != maker->oc)
        return NULL;
    return maker;
}

static emb_status plan_concat(emb_planner *pl, const emb_node *n, bool *handled)
{
    const emb_type *t = &pl->g->values[n->out[0]].type;
    int64_t axis = emb_attr_i(n->proto, "axis", 1);
    emb_grid y;
    const emb_node *q = emb_q8_quantizer(pl, n->out[0], &y);
    if (q == NULL || !emb_is_image(t) || (axis != 1 && axis != -3) || n->n_in > 64) return EMB_OK;
    for (uint32_t i = 0; i < n->n_in; i++)
        if (!emb_q8_ready(pl, n->in[i]) || emb_q8_nhwc(pl, n->in[i]) < 0) return EMB_OK;
    int32_t in[64];
    for (uint32_t i = 0; i < n->n_in; i++) in[i] = pl->views[n->in[i]].nhwc;
    emb_step *s = step_of(pl, EMB_STEP_CONCAT, n, in, (int32_t)n->n_in, t, y, y);
    if (s == NULL || (s->args = calloc(n->n_in, sizeof *s->args)) == NULL) return no_memory(pl);
    size_t last = pl->p->n_steps - 1; /* a pointer to it would not survive */
    int32_t out = s->out;
    uint8_t *tables = s->weights = emb_weights_memory((size_t)n->n_in * 256);
    if (tables == NULL) return no_memory(pl);
    s->oh = (uint32_t)t->dims[2], s->ow = (uint32_t)t->dims[3];
    uint32_t offset = 0, left = 0;
    for (uint32_t i = 0; i < n->n_in; i++) {
        emb_q8_view *v = &pl->views[n->in[i]];
        pl->p->steps[last].in[i] = -1; /* not a reader while the maker is asked for */
        emb_step *maker = maker_of(pl, n->in[i]);
        if (maker != NULL && (!same_grid(maker->q8->y, v->grid) || v->grid.scale > 2 * y.scale)) maker = NULL; /* its rounding is to be seen */
        pl->p->steps[last].args[i].type = pl->g->values[n->in[i]].type;
        if (maker != NULL) {
            if (!same_grid(maker->q8->y, y)) emb_q8_regrid(pl->p->q8, maker, y);
            pl->p->buffers[maker->out].bytes = 0;
            maker->out = out;
            maker->y_pixel = (uint32_t)t->dims[1];
            maker->y_offset = offset;
        } else {
            pl->p->steps[last].in[i] = in[i];
            left++;
            for (int k = 0; k < 256; k++) tables[i * 256 + (uint32_t)k] = quantised(v->grid.scale * (float)(k - v->grid.zero), y);
        }
        offset += (uint32_t)pl->g->values[n->in[i]].type.dims[1];
    }
    if (left == 0) { /* everybody writes in place */
        s = &pl->p->steps[last];
        free(s->in), free(s->args), free(s->weights);
        emb_q8_free(s->q8);
        pl->p->n_steps--;
    }
    pl->done[q - pl->g->nodes] = true;
    bind(pl, q->out[0], out, true, y);
    *handled = true;
    return EMB_OK;
}

emb_status emb_q8_plan_node(emb_planner *pl, const emb_node *n, bool *handled)
{
    static const struct {
        const char *op;
        emb_status (*plan)(emb_planner *pl, const emb_node *n, bool *handled);
    } known[] = {
        {"DequantizeLinear", plan_dequantize}, {"Conv", emb_q8_plan_conv}, {"Gemm", emb_q8_plan_conv}, {"MatMul", emb_q8_plan_conv}, {"MaxPool", plan_pool},
        {"AveragePool", plan_pool}, {"GlobalAveragePool", plan_global_mean}, {"Add", plan_add}, {"Mul", plan_mul}, {"Concat", plan_concat},
    };
    const char *op = n->op->name;
    if (strcmp(op, "QuantizeLinear") == 0) return plan_quantize(pl, n, handled);
    if (n->n_in == 0 || !emb_q8_ready(pl, n->in[0])) return EMB_OK;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].op, op) == 0) return known[i].plan(pl, n, handled);
    return plan_of_one(pl, n, handled);
}
