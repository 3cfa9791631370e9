/* plan_arena.c: one arena for all buffers of a plan; those that are not alive together share memory. */
#include "plan.h"

#include <stdlib.h>

static void touch(emb_plan *p, int32_t b, int32_t step)
{
    if (b < 0) return;
    if (step < p->buffers[b].first) p->buffers[b].first = step;
    if (step > p->buffers[b].last) p->buffers[b].last = step;
}

static int by_size(const void *a, const void *b)
{
    const emb_buffer *const *x = a, *const *y = b;
    if ((*x)->bytes != (*y)->bytes) return (*x)->bytes < (*y)->bytes ? 1 : -1;
    return (*x)->first < (*y)->first ? -1 : (*x)->first > (*y)->first;
}

static void rename_buffer(emb_plan *p, int32_t from, int32_t to)
{
    for (size_t i = 0; i < p->n_steps; i++) {
        emb_step *s = &p->steps[i];
        for (int32_t k = 0; k < s->n_in; k++)
            if (s->in[k] == from) s->in[k] = to;
        if (s->out == from) s->out = to;
        if (s->residual == from) s->residual = to;
        if (s->gate == from) s->gate = to;
    }
    if (p->output == from) p->output = to;
}

/* Step i is part of a chain from step `from` to step `to`. Where nobody else reads its residual there or later, the sum takes its place,
 * number by number. */
static void add_in_place(emb_plan *p, int32_t i, int32_t from, int32_t to)
{
    emb_step *s = &p->steps[i];
    if ((s->kind != EMB_STEP_CONV && s->kind != EMB_STEP_WINOGRAD) || s->residual < 0 || s->y_pixel != s->oc || s->y_bytes != s->r_bytes) return;
    emb_buffer *r = &p->buffers[s->residual], *y = &p->buffers[s->out];
    if (r->bytes != y->bytes || r->last != to || y->first != from) return;
    for (int32_t j = from; j <= to; j++) {
        const emb_step *o = &p->steps[j];
        for (int32_t k = 0; k < o->n_in; k++)
            if (o->in[k] == s->residual) return;
        if (o->gate == s->residual || (j != i && o->residual == s->residual)) return;
    }
    r->last = y->last;
    y->bytes = 0;
    rename_buffer(p, s->out, s->residual);
}

/* Largest first, each at the lowest offset where it overlaps no buffer that is alive with it. */
emb_status emb_plan_layout(emb_planner *pl)
{
    emb_plan *p = pl->p;
    int32_t n = (int32_t)p->n_steps;
    for (int32_t i = 0, from = 0, to = -1; i < n; i++) {
        const emb_step *s = &p->steps[i];
        if (i > to) from = i, to = i + (int32_t)s->chain - 1; /* of a chain all is alive from end to end */
        for (int32_t k = 0; k < s->n_in; k++) touch(p, s->in[k], from), touch(p, s->in[k], to);
        touch(p, s->out, from), touch(p, s->out, to);
        touch(p, s->residual, to), touch(p, s->gate, to);
        touch(p, s->scratch, from), touch(p, s->scratch, to);
        for (uint32_t k = 0; s->kind == EMB_STEP_GENERAL && k < s->node->n_out; k++) touch(p, s->out_bufs[k], i);
    }
    touch(p, p->input, -1);
    touch(p, p->output, n);
    for (int32_t i = 0, from = 0, to = -1; i < n; i++) {
        if (i > to) from = i, to = i + (int32_t)p->steps[i].chain - 1;
        add_in_place(p, i, from, to);
    }
    emb_buffer **order = malloc((p->n_buffers + 1) * sizeof(emb_buffer *));
    if (order == NULL) return emb_fail(pl->err, EMB_ENOMEM, "%s: no memory to plan", pl->g->file);
    for (size_t i = 0; i < p->n_buffers; i++) order[i] = &p->buffers[i];
    qsort(order, p->n_buffers, sizeof *order, by_size);
    for (size_t i = 0; i < p->n_buffers; i++) {
        emb_buffer *b = order[i];
        bool moved = true;
        while (moved) {
            moved = false;
            for (size_t j = 0; j < i; j++) {
                const emb_buffer *o = order[j];
                if (o->last < b->first || b->last < o->first || o->offset + o->bytes <= b->offset || b->offset + b->bytes <= o->offset) continue;
                b->offset = o->offset + o->bytes;
                moved = true;
            }
        }
        if (b->offset + b->bytes > p->arena_bytes) p->arena_bytes = b->offset + b->bytes;
    }
    free(order);
    p->sums_offset = p->arena_bytes;
    p->arena_bytes += (size_t)EMB_BLOCK_TILES * EMB_MAX_TILE * sizeof(float) + EMB_KERNEL_SLACK;
    return EMB_OK;
}
