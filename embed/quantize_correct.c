/* quantize_correct.c: the float network and the rounded one side by side, node by node over several photos at once. What rounding has
 * shifted the mean of a channel by is taken out of its bias before the next layer sees it (Nagel et al., 2019, section 4.2). */
#include "quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PHOTOS = 64 };
static const size_t memory = (size_t)1 << 30; /* for what is alive at once, of all photos */

typedef struct { /* of a value, by photo */
    void *exact[MOST_PHOTOS], *rounded[MOST_PHOTOS], *eight[MOST_PHOTOS]; /* eight: rounded on the value's own grid */
    int32_t uses;
} side;

typedef struct {
    emb_quantizer *q;
    side *of;
    size_t n;
    float *w; /* weights of the node, as its int8 numbers say */
} walk;

static emb_status no_memory(const walk *k) { return emb_fail(k->q->err, EMB_ENOMEM, "%s: no memory", k->q->g->file); }

static void let_go(side *s)
{
    for (size_t p = 0; p < MOST_PHOTOS; p++) {
        free(s->exact[p]);
        free(s->rounded[p]);
        free(s->eight[p]);
        s->exact[p] = s->rounded[p] = s->eight[p] = NULL;
    }
}

/* How many photos fit: the values that are alive at once are there three times. */
static size_t room(const emb_quantizer *q)
{
    const emb_graph *g = q->g;
    size_t alive = 0, most = 1, photos = q->n_photos < MOST_PHOTOS ? q->n_photos : MOST_PHOTOS;
    int32_t *uses = malloc((g->n_values + 1) * sizeof *uses);
    if (uses == NULL) return 1;
    for (size_t v = 0; v < g->n_values; v++) uses[v] = g->values[v].uses;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const emb_node *n = &g->nodes[i];
        if (n->folded) continue;
        for (uint32_t k = 0; k < n->n_out; k++) alive += n->out[k] >= 0 ? emb_type_bytes(&g->values[n->out[k]].type) : 0;
        most = alive > most ? alive : most;
        for (uint32_t k = 0; k < n->n_in; k++)
            if (n->in[k] >= 0 && g->values[n->in[k]].producer >= 0 && g->values[n->in[k]].data == NULL && --uses[n->in[k]] == 0)
                alive -= emb_type_bytes(&g->values[n->in[k]].type);
    }
    free(uses);
    size_t fit = memory / (3 * most);
    return fit < 1 ? 1 : fit < photos ? fit : photos;
}

static void put_on_grid(const emb_qvalue *v, const float *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i++) {
        float r = rintf(from[i] / v->scale) + (float)v->zero;
        to[i] = ((r < 0 ? 0 : r > 255 ? 255 : r) - (float)v->zero) * v->scale;
    }
}

static emb_status add_grid(const walk *k, int32_t v, size_t p)
{
    side *s = &k->of[v];
    size_t n = (size_t)emb_elements(&k->q->g->values[v].type);
    if (!k->q->values[v].wanted) return EMB_OK;
    if ((s->eight[p] = malloc(n * sizeof(float) + 64)) == NULL) return no_memory(k);
    put_on_grid(&k->q->values[v], s->rounded[p], n, s->eight[p]);
    return EMB_OK;
}

/* One node for one photo, exactly or as it is rounded. */
static emb_status run(const walk *k, size_t i, size_t p, bool exact)
{
    const emb_graph *g = k->q->g;
    const emb_node *n = &g->nodes[i];
    const emb_qnode *how = &k->q->nodes[i];
    emb_arg in[EMB_MAX_INPUTS], out[EMB_MAX_INPUTS];
    bool weights = !exact && how->eight && how->weighted;
    emb_status st = EMB_OK;
    for (uint32_t a = 0; a < n->n_in; a++) {
        in[a].type.rank = UINT32_MAX;
        if (n->in[a] < 0) continue;
        side *s = &k->of[n->in[a]];
        void *data = g->values[n->in[a]].data;
        if (data == NULL) data = exact ? s->exact[p] : how->eight && s->eight[p] != NULL ? s->eight[p] : s->rounded[p];
        if (weights && a == 1) data = k->w;
        if (weights && a == 2) data = how->bias;
        in[a] = (emb_arg){g->values[n->in[a]].type, data};
    }
    for (uint32_t o = 0; o < n->n_out; o++) {
        out[o] = (emb_arg){{.dtype = EMB_F32}, NULL};
        if (n->out[o] >= 0) out[o].type = g->values[n->out[o]].type;
        if ((out[o].data = malloc(emb_type_bytes(&out[o].type) + 64)) == NULL) st = no_memory(k);
    }
    if (st == EMB_OK) st = emb_node_run(g, n, in, out, k->q->err);
    for (uint32_t o = 0; o < n->n_out; o++) {
        if (n->out[o] < 0) free(out[o].data);
        else if (exact) k->of[n->out[o]].exact[p] = out[o].data;
        else k->of[n->out[o]].rounded[p] = out[o].data;
    }
    return st;
}

/* Element i of the result belongs to channel i / inner % oc. */
static void correct(const walk *k, size_t i)
{
    const emb_node *n = &k->q->g->nodes[i];
    emb_qnode *how = &k->q->nodes[i];
    const emb_type *t = &k->q->g->values[n->out[0]].type;
    side *s = &k->of[n->out[0]];
    size_t count = (size_t)emb_elements(t), inner = strcmp(n->op->name, "Conv") == 0 ? (size_t)(t->dims[2] * t->dims[3]) : 1, oc = how->oc;
    size_t outer = count / (inner * oc);
    for (size_t c = 0; c < oc; c++) {
        double sum = 0, squares = 0;
        for (size_t p = 0; p < k->n; p++) {
            double shift = 0;
            for (size_t o = 0; o < outer; o++)
                for (size_t x = 0; x < inner; x++) {
                    size_t at = (o * oc + c) * inner + x;
                    shift += (double)((float *)s->exact[p])[at] - (double)((float *)s->rounded[p])[at];
                }
            shift /= (double)(outer * inner);
            sum += shift;
            squares += shift * shift;
        }
        /* As sure as the photos agree: the square of the mean against that of its own error. */
        double mean = sum / (double)k->n, error = k->n > 1 ? (squares / (double)k->n - mean * mean) / (double)(k->n - 1) : mean * mean;
        double by = mean * fmax(0, 1 - error / fmax(mean * mean, 1e-30));
        how->bias[c] += (float)by;
        for (size_t p = 0; p < k->n; p++)
            for (size_t o = 0; o < outer; o++)
                for (size_t x = 0; x < inner; x++) ((float *)s->rounded[p])[(o * oc + c) * inner + x] += (float)by;
    }
}

static emb_status node(walk *k, size_t i)
{
    const emb_graph *g = k->q->g;
    const emb_node *n = &g->nodes[i];
    const emb_qnode *how = &k->q->nodes[i];
    emb_status st = EMB_OK;
    k->w = NULL;
    if (how->eight && how->weighted) {
        const emb_type *t = &g->values[n->in[1]].type;
        size_t count = (size_t)emb_elements(t), inner = 1;
        for (uint32_t d = how->axis + 1; d < t->rank; d++) inner *= (size_t)t->dims[d];
        if ((k->w = malloc(count * sizeof(float) + 64)) == NULL) return no_memory(k);
        for (size_t e = 0; e < count; e++) k->w[e] = (float)how->w[e] * how->w_scale[e / inner % how->oc];
    }
    for (size_t p = 0; st == EMB_OK && p < k->n; p++) {
        st = run(k, i, p, true);
        if (st == EMB_OK) st = run(k, i, p, false);
    }
    if (st == EMB_OK && k->w != NULL && how->bias != NULL) correct(k, i);
    free(k->w);
    for (uint32_t o = 0; st == EMB_OK && o < n->n_out; o++)
        for (size_t p = 0; st == EMB_OK && n->out[o] >= 0 && p < k->n; p++) st = add_grid(k, n->out[o], p);
    for (uint32_t a = 0; a < n->n_in; a++)
        if (n->in[a] >= 0 && g->values[n->in[a]].data == NULL && --k->of[n->in[a]].uses == 0) let_go(&k->of[n->in[a]]);
    return st;
}

emb_status emb_quantize_correct(emb_quantizer *q)
{
    const emb_graph *g = q->g;
    walk k = {q, calloc(g->n_values + 1, sizeof(side)), room(q), NULL};
    if (k.of == NULL) return no_memory(&k);
    emb_status st = EMB_OK;
    int32_t in = g->inputs[0];
    size_t bytes = emb_type_bytes(&g->values[in].type);
    for (size_t v = 0; v < g->n_values; v++) k.of[v].uses = g->values[v].uses;
    for (size_t p = 0; st == EMB_OK && p < k.n; p++) {
        side *s = &k.of[in];
        s->exact[p] = malloc(bytes + 64);
        s->rounded[p] = malloc(bytes + 64);
        if (s->exact[p] == NULL || s->rounded[p] == NULL) st = no_memory(&k);
        if (st == EMB_OK) st = emb_quantize_input(q, p * q->n_photos / k.n, s->exact[p]);
        if (st == EMB_OK) memcpy(s->rounded[p], s->exact[p], bytes);
        if (st == EMB_OK) st = add_grid(&k, in, p);
    }
    for (size_t i = 0; st == EMB_OK && i < g->n_nodes; i++) {
        if (!g->nodes[i].folded) st = node(&k, i);
        if (q->opts->progress != NULL) q->opts->progress(q->opts->progress_ctx, "biases", i + 1, g->n_nodes);
    }
    for (size_t v = 0; v < g->n_values; v++) let_go(&k.of[v]);
    free(k.of);
    return st;
}
