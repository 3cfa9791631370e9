/* timings.c: every step of a plan, timed, beside what the cost model and the peaks of this machine say. */
#include "cost.h"
#include "cpu.h"
#include "model.h"
#include "run.h"
#include "kernels/peak.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_RUNS = 10 };

/* The fastest run and the fastest time of every step: a neighbour on the machine makes both longer, never shorter. The input is
 * written before every run, as preprocessing does: its place in the arena serves other steps, too. */
static emb_status measure(const emb_model *m, double budget, emb_timings *to, emb_error *err)
{
    size_t n = m->plan->n_steps, floats = (size_t)m->plan->in_h * m->plan->in_w * 3;
    double *round = calloc(n + 1, sizeof *round);
    float *picture = calloc(floats, sizeof *picture);
    emb_workspace *ws = NULL;
    const float *out;
    emb_status st = round == NULL || picture == NULL ? emb_fail(err, EMB_ENOMEM, "no memory to measure %zu steps", n)
                                                     : emb_workspace_new(m, &ws, err);
    for (size_t i = 0; st == EMB_OK && i < floats; i++) picture[i] = (float)(i % 17) / 17.0f - 0.5f;
    to->seconds = INFINITY;
    for (size_t i = 0; i < n; i++) to->layers[i].seconds = INFINITY;
    for (double start = emb_now(); st == EMB_OK && (to->runs < LEAST_RUNS || emb_now() - start < budget); to->runs++) {
        memcpy(emb_workspace_input(m, ws), picture, floats * sizeof *picture);
        double t = emb_now(); /* alternately with clocks at every step, which cost a little themselves */
        st = emb_workspace_run(m, ws, NULL, &out, err);
        to->seconds = fmin(to->seconds, emb_now() - t);
        memcpy(emb_workspace_input(m, ws), picture, floats * sizeof *picture);
        memset(round, 0, n * sizeof *round);
        if (st == EMB_OK) st = emb_workspace_run(m, ws, round, &out, err);
        for (size_t i = 0; i < n; i++)
            to->layers[i].seconds = fmin(to->layers[i].seconds, fmax(round[i], 1e-9)); /* a tick of the clock */
    }
    for (size_t i = 0; i < n; i++) to->sum += to->layers[i].seconds;
    emb_workspace_free(ws);
    free(picture);
    free(round);
    return st;
}

static bool has_window(const emb_step *s)
{
    return s->kind == EMB_STEP_CONV || s->kind == EMB_STEP_WINOGRAD || s->kind == EMB_STEP_DEPTHWISE ||
           s->kind == EMB_STEP_MAX_POOL || s->kind == EMB_STEP_AVG_POOL;
}

static void describe(const emb_plan *p, const emb_step *s, emb_layer *l)
{
    const emb_node *n = s->node;
    l->node = n == NULL                                          ? ""
              : n->proto->name != NULL && n->proto->name[0] != 0 ? n->proto->name
                                                                 : p->graph->values[n->out[0]].name;
    l->kernel = s->kind == EMB_STEP_GENERAL ? n->op->name : emb_step_name(s->kind);
    l->table = s->kind == EMB_STEP_GENERAL ? "" : s->q8 != NULL ? p->q8->name : p->k->name;
    l->fused = s->fused != NULL ? s->fused : "";
    l->ih = s->ih, l->iw = s->iw, l->ic = s->ic, l->oh = s->oh, l->ow = s->ow, l->oc = s->oc;
    l->rows = s->strip;
    l->macs = s->macs;
    if (!has_window(s)) return;
    const emb_window *w = &s->w;
    l->kh = (uint32_t)w->kh, l->kw = (uint32_t)w->kw, l->sh = (uint32_t)w->sh, l->sw = (uint32_t)w->sw, l->dh = (uint32_t)w->dh,
    l->dw = (uint32_t)w->dw;
    l->top = (uint32_t)w->top, l->left = (uint32_t)w->left, l->bottom = (uint32_t)w->bottom, l->right = (uint32_t)w->right;
    l->groups = (uint32_t)w->group;
}

/* The one or two parts of the predicted time that matter, "sums 60%, weights 25%". */
static void describe_parts(const double parts[EMB_COST_PARTS], double total, char *text, size_t n)
{
    int first = 0, second = -1;
    for (int i = 1; i < EMB_COST_PARTS; i++)
        if (parts[i] > parts[first]) first = i;
    for (int i = 0; i < EMB_COST_PARTS; i++)
        if (i != first && parts[i] > 0.15 * total && (second < 0 || parts[i] > parts[second])) second = i;
    int at = snprintf(text, n, "%s %.0f%%", emb_cost_part_name((emb_cost_part)first), 100 * parts[first] / total);
    if (second >= 0)
        snprintf(text + at, n - (size_t)at, ", %s %.0f%%", emb_cost_part_name((emb_cost_part)second),
                 100 * parts[second] / total);
}

/* What keeps a step from its peak: the largest part of its time that is not the sums that were asked for. */
static const char *reason_of(const double parts[EMB_COST_PARTS], double total, double seconds)
{
    static const char *const why[] = {"",     "tiles are not full", "sums are short", "the activation", "transforms",
                                      "taps", "activations move",   "weights move"};
    int most = EMB_COST_PADDING;
    if (seconds > 1.5 * total) return "slower than the model says";
    for (int i = most; i < EMB_COST_PARTS; i++)
        if (parts[i] > parts[most]) most = i;
    return parts[most] > 0.15 * total ? why[most] : "the tile itself";
}

static void judge(const emb_cost *c, const emb_step *s, emb_layer *l)
{
    double parts[EMB_COST_PARTS], total = emb_cost_step(c, s, parts), peak = emb_cost_peak(c, l->table, s->q8 != NULL);
    l->by_bandwidth = s->kind != EMB_STEP_CONV && s->kind != EMB_STEP_WINOGRAD;
    l->bytes = emb_step_moves(s) + emb_step_weights(c->p, s);
    l->predicted = total;
    if (l->by_bandwidth) l->share = fmax(parts[EMB_COST_MOVES], parts[EMB_COST_TAPS]) / l->seconds;
    else l->share = peak > 0 ? 2 * (double)s->macs / l->seconds / peak : 0;
    l->reason = reason_of(parts, total, l->seconds);
    describe_parts(parts, total, l->parts, sizeof l->parts);
}

emb_status emb_model_time(const emb_model *m, double seconds, emb_timings **out, emb_error *err)
{
    emb_timings *p = calloc(1, sizeof *p);
    emb_cost *c = NULL;
    size_t n = m->plan->n_steps;
    if (p == NULL || (p->layers = calloc(n + 1, sizeof *p->layers)) == NULL) {
        free(p);
        return emb_fail(err, EMB_ENOMEM, "no memory to measure %zu steps", n);
    }
    p->n_layers = n;
    emb_status st = emb_cost_new(m->plan, &c, err);
    if (st == EMB_OK) st = measure(m, seconds, p, err);
    for (size_t i = 0; st == EMB_OK && i < n; i++) {
        describe(m->plan, &m->plan->steps[i], &p->layers[i]);
        judge(c, &m->plan->steps[i], &p->layers[i]);
    }
    for (size_t i = 0; st == EMB_OK && i < emb_peak_loops_count && p->n_peaks < sizeof p->peaks / sizeof *p->peaks; i++)
        if (c->peak[i] > 0) p->peaks[p->n_peaks++] = (emb_peak){emb_peak_loops[i].table, emb_peak_loops[i].numbers, c->peak[i], 0, 0};
    for (size_t i = 0; st == EMB_OK && i < c->n_tilers; i++)
        p->tiles[p->n_tiles++] = (emb_peak){c->tiler[i].table, "", 2.0 * c->tiler[i].t.mr * c->tiler[i].t.nr / c->tiler[i].row, c->tiler[i].t.mr, c->tiler[i].t.nr};
    static const size_t sizes[3] = {16 << 10, 512 << 10, 32 << 20};
    for (int i = 0; st == EMB_OK && i < 3; i++) {
        p->memory[i].bytes = sizes[i];
        p->memory[i].fetch = emb_cost_bandwidth(c->fetch, sizes[i]);
        p->memory[i].copy = emb_cost_bandwidth(c->copy, sizes[i]);
    }
    emb_cost_free(c);
    if (st == EMB_OK) *out = p;
    else emb_timings_free(p);
    return st;
}

void emb_timings_free(emb_timings *p)
{
    if (p != NULL) free(p->layers);
    free(p);
}
