/* cost.c: what a step costs, from the speed of the kernels on operands in the first cache and of memory at every distance.
 *
 * A tile takes a fixed time and one for each channel that is summed. Activations move at the speed of a copy that lies in as much
 * memory as the step touches; weights were last seen a whole run ago and come from that far. What overlaps of all this is left
 * out: the sum is closer to what is measured than the longest part. */
#include "cost.h"
#include "cpu.h"
#include "run.h"
#include "kernels/peak.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SMALLEST = 16 * 1024,
    LARGEST = SMALLEST << (EMB_COST_SIZES - 1),
    PANEL = 24 * 1024,
    ACT_N = 2048,
    WINOGRAD_N = 64,
    MOST_PIXELS = 64, /* of a tile */
    CHAIN = 512 * 1024 /* its rows keep to the second cache */
};

typedef struct { /* what is being timed */
    emb_cost *c;
    char *memory; /* LARGEST, of zeros */
    const emb_peak_loop *loop;
    size_t bytes;
    const emb_tiler *tiler;
    emb_tile tile;
    const emb_kernels *k;
    emb_act act;
} trial;

/* Seconds of one call: the fastest of several batches of about 300 us. */
static double best_of(void (*run)(const trial *), const trial *t)
{
    double start = emb_now();
    run(t);
    run(t);
    double once = (emb_now() - start) / 2, best = INFINITY;
    unsigned calls = once > 3e-4 ? 1 : (unsigned)(3e-4 / (once + 1e-9)) + 1;
    for (int round = 0; round < (once > 1e-3 ? 4 : 12); round++) {
        start = emb_now();
        for (unsigned i = 0; i < calls; i++) run(t);
        double took = (emb_now() - start) / calls;
        if (took < best) best = took;
    }
    return best;
}

static void run_loop(const trial *t) { t->loop->run(1000); }
static void run_copy(const trial *t) { memcpy(t->memory, t->memory + t->bytes / 2, t->bytes / 2); }
static void run_fetch(const trial *t) { emb_peak_read(t->memory, t->bytes); }
static void run_tile(const trial *t) { t->tiler->tile(&t->tile, t->tiler->mr); }
static void run_winograd_in(const trial *t)
{
    const void *px[36];
    for (size_t i = 0; i < 36; i++) px[i] = t->memory + i * WINOGRAD_N * sizeof(float);
    t->c->p->k->winograd_in(px, 6, WINOGRAD_N, t->memory + LARGEST / 2, emb_winograd_plane(1, WINOGRAD_N));
}
static void run_winograd_out(const trial *t)
{
    static const float bias[WINOGRAD_N];
    emb_patch to = {.out = t->memory,
                    .bias = bias,
                    .row = 4 * WINOGRAD_N,
                    .pixel = WINOGRAD_N,
                    .rows = 4,
                    .columns = 4,
                    .lo = -INFINITY,
                    .hi = INFINITY};
    t->c->p->k->winograd_out((const float *)(const void *)(t->memory + LARGEST / 2), emb_winograd_plane(1, WINOGRAD_N),
                             6, WINOGRAD_N, &to);
}
static void run_act(const trial *t) { t->k->act(t->memory, ACT_N, t->act, 1.0f / 6, 0.5f); }

/* ---- measuring -------------------------------------------------------------------------------------------- */

/* The operands are zeros: pixels in the first part of the memory, the panel behind them, then whatever a tile also wants. */
static void set_tile(trial *t, const emb_tiler *tiler, bool quantised, const void *pixels[MOST_PIXELS], uint32_t k)
{
    for (uint32_t i = 0; i < tiler->mr; i++) pixels[i] = t->memory + (size_t)i * k * tiler->bytes;
    char *at = t->memory + 8 * PANEL;
    const float *floats = (const float *)(void *)(at + 2 * PANEL);
    t->tiler = tiler;
    t->tile = (emb_tile){.a = pixels,
                         .taps = 1,
                         .k = k,
                         .step = tiler->strided ? (size_t)k * tiler->bytes : 0,
                         .there = tiler->mr,
                         .b = at,
                         .next = at,
                         .bias = floats,
                         .scale = floats,
                         .c = at + 4 * PANEL,
                         .ldc = tiler->nr,
                         .n = tiler->nr,
                         .lo = quantised ? 0 : -INFINITY,
                         .hi = quantised ? 255 : INFINITY,
                         .sum = at + 8 * PANEL,
                         .lds = tiler->nr};
}

static void measure_tile(trial *t, const emb_tiler *tiler, bool quantised)
{
    emb_cost *c = t->c;
    const void *pixels[MOST_PIXELS];
    uint32_t k = PANEL / (tiler->nr * tiler->bytes) / 64 * 64, few = k >= 256 ? k / 4 / 64 * 64 : k / 4;
    if (c->n_tilers == EMB_COST_TILERS || tiler->mr > MOST_PIXELS) return;
    void (*begin)(void) = quantised ? c->p->q8->begin : c->p->k->begin, (*end)(void) = quantised ? c->p->q8->end : c->p->k->end;
    set_tile(t, tiler, quantised, pixels, k);
    if (begin != NULL) begin();
    double long_sum = best_of(run_tile, t);
    t->tile.k = few;
    double short_sum = best_of(run_tile, t);
    if (end != NULL) end();
    double row = fmax((long_sum - short_sum) / (k - few), 0);
    c->tiler[c->n_tilers].t = *tiler;
    c->tiler[c->n_tilers].table = quantised ? c->p->q8->name : c->p->k->name;
    c->tiler[c->n_tilers].row = row;
    c->tiler[c->n_tilers++].call = fmax(short_sum - few * row, 0);
}

/* What an activation by table adds to a tile, for each of its numbers. */
static double measure_table(trial *t, const emb_step *s)
{
    enum { SHORT = 64 };
    const emb_kernels_q8 *k = t->c->p->q8;
    const void *pixels[MOST_PIXELS];
    set_tile(t, &s->t, true, pixels, SHORT);
    if (k->begin != NULL) k->begin();
    double without = best_of(run_tile, t);
    t->tile.act = s->act;
    t->tile.table = s->q8->table;
    double with = best_of(run_tile, t);
    if (k->end != NULL) k->end();
    return fmax(with - without, 0) / (s->t.mr * s->t.nr);
}

static void measure_step(trial *t, const emb_step *s)
{
    emb_cost *c = t->c;
    bool known = s->kind != EMB_STEP_CONV && s->kind != EMB_STEP_WINOGRAD;
    for (size_t i = 0; i < c->n_tilers; i++) known |= c->tiler[i].t.tile == s->t.tile && c->tiler[i].t.nr == s->t.nr;
    if (!known) measure_tile(t, &s->t, s->q8 != NULL);
    if (s->kind == EMB_STEP_WINOGRAD && c->winograd_in <= 0) {
        c->winograd_in = best_of(run_winograd_in, t) / WINOGRAD_N;
        c->winograd_out = best_of(run_winograd_out, t) / WINOGRAD_N;
    }
    double *act = &c->act[s->q8 != NULL][s->act];
    t->act = s->act;
    t->k = s->q8 != NULL && emb_kernels_f16_get() != NULL ? emb_kernels_f16_get() : c->p->k; /* as brief as those of float16 */
    if (s->act != EMB_ACT_NONE && *act <= 0) *act = s->q8 != NULL && s->q8->table != NULL ? measure_table(t, s) : best_of(run_act, t) / ACT_N;
    c->weights_bytes += emb_step_weights(c->p, s);
}

emb_status emb_cost_new(const emb_plan *p, emb_cost **out, emb_error *err)
{
    emb_cost *c = calloc(1, sizeof *c);
    trial t = {.c = c, .memory = emb_weights_memory(LARGEST)};
    if (c == NULL || t.memory == NULL) {
        free(c);
        free(t.memory);
        return emb_fail(err, EMB_ENOMEM, "no memory to measure this machine");
    }
    c->p = p;
    memset(t.memory, 0, LARGEST);
    for (size_t i = 0; i < emb_peak_loops_count && i < EMB_COST_PEAKS; i++) {
        t.loop = &emb_peak_loops[i];
        if ((t.loop->needs & ~emb_cpu_features()) == 0 && t.loop->run != NULL)
            c->peak[i] = 1000 * t.loop->operations / best_of(run_loop, &t);
    }
    for (size_t i = 0; i < EMB_COST_SIZES; i++) {
        t.bytes = (size_t)SMALLEST << i;
        c->copy[i] = (double)t.bytes / best_of(run_copy, &t);
        c->fetch[i] = (double)t.bytes / best_of(run_fetch, &t);
    }
    for (size_t i = 0; i < p->n_steps; i++) measure_step(&t, &p->steps[i]);
    free(t.memory);
    *out = c;
    return EMB_OK;
}

void emb_cost_free(emb_cost *c) { free(c); }

double emb_cost_peak(const emb_cost *c, const char *table, bool quantised)
{
    for (size_t i = 0; i < emb_peak_loops_count && i < EMB_COST_PEAKS; i++)
        if (strcmp(emb_peak_loops[i].table, table) == 0 && (strcmp(emb_peak_loops[i].numbers, "int8") == 0) == quantised)
            return c->peak[i];
    return 0;
}

double emb_cost_bandwidth(const double by_size[EMB_COST_SIZES], size_t bytes)
{
    double at = log2((double)(bytes + 1) / SMALLEST);
    if (at <= 0) return by_size[0];
    if (at >= EMB_COST_SIZES - 1) return by_size[EMB_COST_SIZES - 1];
    size_t i = (size_t)at;
    return by_size[i] + (at - (double)i) * (by_size[i + 1] - by_size[i]);
}

/* ---- steps -------------------------------------------------------------------------------------------------- */

typedef struct {   /* of a convolution's tiles */
    size_t panels; /* of all groups */
    double full;   /* as many full ones are that wide */
    uint32_t taps, run;
} sums;

static uint32_t groups_of(const emb_step *s) { return (uint32_t)s->w.group; }

static sums sums_of(const emb_step *s)
{
    uint32_t groups = groups_of(s), nr = s->t.nr;
    sums r = {(size_t)groups * ((s->oc / groups + nr - 1) / nr), (double)groups * emb_panel_width(&s->t, s->oc / groups) / nr, emb_conv_taps(s), emb_conv_run(s)};
    if (s->kind == EMB_STEP_WINOGRAD) r.taps = s->side * s->side;
    return r;
}

size_t emb_step_weights(const emb_plan *p, const emb_step *s)
{
    switch (s->kind) {
    case EMB_STEP_CONV:
    case EMB_STEP_WINOGRAD: {
        sums n = sums_of(s);
        return groups_of(s) * emb_panel_bytes(&s->t, s->oc / groups_of(s), n.taps, n.run);
    }
    case EMB_STEP_DEPTHWISE: return (size_t)(s->w.kh * s->w.kw) * s->oc * (s->q8 != NULL ? 1 : p->k->bytes);
    case EMB_STEP_AFFINE: return (size_t)s->oc * 2 * sizeof(float);
    default: return 0;
    }
}

size_t emb_step_moves(const emb_step *s)
{
    size_t bytes = 0;
    if (s->kind == EMB_STEP_GENERAL) {
        for (int32_t i = 0; i < s->n_in; i++) bytes += emb_type_bytes(&s->args[i].type);
        for (uint32_t i = 0; i < s->node->n_out; i++) bytes += emb_type_bytes(&s->outs[i].type);
        return bytes;
    }
    size_t in = (size_t)s->ih * s->iw * s->ic * s->x_bytes, out = (size_t)s->oh * s->ow * s->oc;
    bool two = (s->kind == EMB_STEP_ADD || s->kind == EMB_STEP_MUL) && s->n_in > 1;
    return in * (two ? 2 : 1) + out * s->y_bytes + (s->residual >= 0 ? out * s->r_bytes : 0);
}

/* `times` runs of that many pixels. Every call makes its share of a block's; half a tile takes more than half the time of a whole
 * one. */
static void add_tiles(const emb_cost *c, const emb_step *s, uint32_t pixels, uint32_t times, double parts[EMB_COST_PARTS])
{
    size_t i = 0;
    while (i < c->n_tilers && (c->tiler[i].t.tile != s->t.tile || c->tiler[i].t.nr != s->t.nr)) i++;
    if (i == c->n_tilers) return;
    sums n = sums_of(s);
    bool winograd = s->kind == EMB_STEP_WINOGRAD;
    uint32_t block = s->block < pixels ? s->block : pixels, part_taps = winograd ? 1 : s->part_taps,
             part_k = winograd ? n.run : s->part_k;
    double blocks = ceil((double)pixels / block), tiles = blocks * ceil((double)pixels / blocks / s->t.mr);
    double cuts = ceil((double)n.taps / part_taps) * ceil((double)n.run / part_k), full = fmax(pixels / (tiles * s->t.mr), 0.5);
    double round = s->t.round, rows = n.taps * ceil(n.run / round) * round, calls = times * (double)n.panels * tiles;
    double share = n.full / (double)n.panels, sums = calls * share * rows * full * c->tiler[i].row;
    double wanted = (double)times * pixels * s->oc * n.taps * n.run, made = calls * share * full * s->t.mr * s->t.nr * rows;
    parts[EMB_COST_CALLS] = calls * cuts * c->tiler[i].call;
    parts[EMB_COST_SUMS] = sums * wanted / made;
    parts[EMB_COST_PADDING] = fmax(sums - parts[EMB_COST_SUMS], 0); /* which may round below */
}

double emb_cost_step(const emb_cost *c, const emb_step *s, double parts[EMB_COST_PARTS])
{
    size_t moves = emb_step_moves(s), near = moves, weights = emb_step_weights(c->p, s);
    double total = 0;
    memset(parts, 0, EMB_COST_PARTS * sizeof *parts);
    switch (s->kind) {
    case EMB_STEP_WINOGRAD: {
        const uint32_t n = emb_winograd_tiles(s), places = s->side * s->side;
        add_tiles(c, s, n, 1, parts);
        parts[EMB_COST_TRANSFORMS] = n * places / 36.0 * (s->ic * c->winograd_in + s->oc * c->winograd_out); /* measured with 36 */
        weights *= (n + s->block - 1) / s->block;
        moves += (size_t)2 * places * n * (s->ic + s->oc) * sizeof(float); /* the planes before and behind the products */
        near = (size_t)places * s->block * (s->ic + s->oc) * sizeof(float);
        break;
    }
    case EMB_STEP_CONV: {
        uint32_t rows = s->strip > 0 && s->strip < s->oh ? s->strip : s->oh;
        add_tiles(c, s, rows * s->ow, (s->oh + rows - 1) / rows, parts);
        break;
    }
    case EMB_STEP_DEPTHWISE:
    case EMB_STEP_MAX_POOL:
    case EMB_STEP_AVG_POOL:
        parts[EMB_COST_TAPS] = (double)s->oh * s->ow * s->oc * (double)(s->w.kh * s->w.kw) * s->x_bytes / c->fetch[0];
        break;
    default: break;
    }
    if (s->strip > 0 && near > CHAIN) near = CHAIN;
    if (s->act != EMB_ACT_NONE) parts[EMB_COST_ACT] = c->act[s->q8 != NULL][s->act] * (double)s->oh * s->ow * s->oc;
    parts[EMB_COST_MOVES] = (double)moves / emb_cost_bandwidth(c->copy, near);
    parts[EMB_COST_WEIGHTS] = (double)weights / emb_cost_bandwidth(c->fetch, c->weights_bytes);
    for (int i = 0; i < EMB_COST_PARTS; i++) total += parts[i];
    return total;
}

const char *emb_cost_part_name(emb_cost_part p)
{
    static const char *const name[] = {"sums", "padding", "calls", "activation", "transforms", "taps", "moves", "weights"};
    return name[p];
}
