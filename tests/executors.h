/* executors.h: one graph by the general executor, operator by operator over dense tensors, and by a plan, over the same picture. */
#ifndef LK_TEST_EXECUTORS_H
#define LK_TEST_EXECUTORS_H

#include "../embed/model.h"
#include "test.h"

/* Largest difference relative to the norm of what is wanted. */
static inline double executors_distance(const float *got, const float *want, size_t n)
{
    double worst = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)got[i] - (double)want[i]));
        norm += (double)want[i] * (double)want[i];
        if (isnan(got[i])) return INFINITY;
    }
    return worst / fmax(sqrt(norm), 1e-12);
}

typedef struct { /* what the general executor met on its way */
    const emb_graph *g;
    double most;   /* the largest magnitude of a float, constants included; INFINITY when one is none */
    bool cut;      /* a grid of 8 bits around zero is coarser than that, or cut something off: plans leave some such grids out */
} executors_seen;

static inline void executors_size(executors_seen *k, const emb_type *t, const float *x)
{
    for (int64_t i = 0; t->dtype == EMB_F32 && i < emb_elements(t); i++) k->most = isfinite(x[i]) ? fmax(k->most, fabs((double)x[i])) : INFINITY;
}

static inline void executors_grid(executors_seen *k, const emb_node *n, const float *x)
{
    const emb_value *scale = &k->g->values[n->in[1]], *zero = n->n_in > 2 && n->in[2] >= 0 ? &k->g->values[n->in[2]] : NULL;
    if (scale->data == NULL || emb_elements(&scale->type) != 1 || (zero != NULL && (zero->data == NULL || emb_elements(&zero->type) != 1))) return;
    double s = (double)*(const float *)scale->data, z = zero == NULL ? 0 : zero->type.dtype == EMB_U8 ? *(const uint8_t *)zero->data : *(const int8_t *)zero->data + 128;
    if (!isnormal(s) || s > k->most) k->cut = true;
    for (int64_t i = 0; z > 40 && z < 215 && i < emb_elements(&k->g->values[n->in[0]].type); i++)
        if ((double)x[i] / s + z < -4 || (double)x[i] / s + z > 259) k->cut = true;
}

static inline void executors_made(void *ctx, int32_t v, void *data)
{
    executors_seen *k = ctx;
    executors_size(k, &k->g->values[v].type, data);
    for (size_t i = 0; i < k->g->n_nodes; i++) {
        const emb_node *n = &k->g->nodes[i];
        if (!n->folded && strcmp(n->op->name, "QuantizeLinear") == 0 && n->in[0] == v && k->g->values[v].type.dtype == EMB_F32) executors_grid(k, n, data);
    }
}

/* picture: channels last. seen may be NULL. out: as many floats as the graph's first output has, which must be float. */
static inline emb_status executors_general(const emb_graph *g, const float *picture, float *out, executors_seen *seen, emb_error *err)
{
    const emb_type *t = &g->values[g->inputs[0]].type, *to = &g->values[g->outputs[0]].type;
    size_t n = (size_t)emb_elements(t), hw = n / 3;
    bool last = t->dims[1] != 3;
    float *in = malloc(n * sizeof *in + 64);
    void **data = calloc(g->n_values + 1, sizeof *data);
    executors_seen own = {0};
    if (seen == NULL) seen = &own;
    *seen = (executors_seen){.g = g};
    REQUIRE(in != NULL && data != NULL);
    for (size_t i = 0; i < n; i++) in[last ? i : i % 3 * hw + i / 3] = picture[i];
    for (size_t v = 0; v < g->n_values; v++)
        if ((data[v] = g->values[v].data) != NULL) executors_size(seen, &g->values[v].type, data[v]);
    executors_made(seen, g->inputs[0], in);
    data[g->inputs[0]] = in;
    emb_status st = emb_graph_run(g, data, &(emb_watch){executors_made, seen}, err);
    if (st == EMB_OK) memcpy(out, data[g->outputs[0]], emb_type_bytes(to));
    emb_graph_release(g, data);
    free(data);
    free(in);
    return st;
}

static inline emb_status executors_plan(const emb_plan *p, const float *picture, float *out, emb_error *err)
{
    char *arena = aligned_alloc(64, (p->arena_bytes + 127) / 64 * 64);
    const void **pointers = malloc((p->pointers + 1) * sizeof *pointers);
    REQUIRE(arena != NULL && pointers != NULL);
    memset(arena, 0xff, p->arena_bytes); /* not a number, in any type of float */
    memcpy(arena + p->buffers[p->input].offset, picture, (size_t)p->in_h * p->in_w * 3 * sizeof *picture);
    emb_status st = emb_plan_run(p, arena, pointers, NULL, err);
    if (st == EMB_OK) memcpy(out, arena + p->buffers[p->output].offset, p->dim * sizeof *out);
    free(arena);
    free(pointers);
    return st;
}

#endif
