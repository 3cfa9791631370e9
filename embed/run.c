/* run.c: walks the plan. No allocation, no decision that the plan could have made. */
#include "run.h"

#include <string.h>
#include <time.h>

void emb_run_rows(const emb_walk *w, const emb_step *s, const emb_rows *r)
{
    if (s->kind == EMB_STEP_CONV) emb_run_conv(w, s, r);
    else if (s->kind == EMB_STEP_DEPTHWISE && s->q8 != NULL) emb_run_q8_depthwise(w, s, r);
    else if (s->kind == EMB_STEP_DEPTHWISE) emb_run_depthwise(w, s, r);
    else emb_run_pool(w, s, r);
}

/* What the makers of the parts have not written in place themselves. */
static void run_concat(const emb_walk *w, const emb_step *s)
{
    size_t pixels = (size_t)s->oh * s->ow, offset = 0, row = (size_t)s->oc * s->y_bytes;
    char *y = emb_at(w, s->out);
    for (int32_t i = 0; i < s->n_in; i++) {
        size_t c = (size_t)s->args[i].type.dims[1] * s->y_bytes;
        const char *x = s->in[i] >= 0 ? emb_at(w, s->in[i]) : NULL;
        for (size_t p = 0; x != NULL && p < pixels; p++) memcpy(y + p * row + offset, x + p * c, c);
        offset += c;
    }
}

/* A few channels of all pixels at a time, brought to float32 or from it in passing. */
static void run_transpose(const emb_walk *w, const emb_step *s, bool to_nchw)
{
    enum { SOME = 64 };
    float some[SOME];
    size_t pixels = (size_t)s->ih * s->iw, c = s->ic;
    const emb_kernels *k = w->p->k;
    for (size_t c0 = 0; c0 < c; c0 += SOME) {
        size_t n = c - c0 < SOME ? c - c0 : SOME;
        float *dense = (float *)emb_at(w, to_nchw ? s->out : s->in[0]) + c0 * pixels;
        char *nhwc = (char *)emb_at(w, to_nchw ? s->in[0] : s->out) + c0 * k->bytes;
        for (size_t p = 0; p < pixels; p++, nhwc += c * k->bytes) {
            if (to_nchw) k->widen(nhwc, n, some);
            for (size_t i = 0; i < n; i++) {
                if (to_nchw) dense[i * pixels + p] = some[i];
                else some[i] = dense[i * pixels + p];
            }
            if (!to_nchw) k->narrow(some, n, nhwc);
        }
    }
}

static emb_status run_general(const emb_walk *w, const emb_step *s, emb_error *err)
{
    emb_arg args[EMB_MAX_INPUTS], outs[EMB_MAX_INPUTS];
    for (int32_t i = 0; i < s->n_in; i++) {
        args[i] = s->args[i];
        if (s->in[i] >= 0) args[i].data = emb_at(w, s->in[i]);
    }
    emb_call c = {.node = s->node, .in = args, .out = outs, .n_in = (uint32_t)s->n_in, .n_out = s->node->n_out, .err = err};
    for (uint32_t i = 0; i < s->node->n_out; i++) outs[i] = (emb_arg){s->outs[i].type, emb_at(w, s->out_bufs[i])};
    c.g = w->p->graph;
    return s->node->op->run(&c);
}

static emb_status run_step(const emb_walk *w, const emb_step *s, emb_error *err)
{
    const emb_kernels *k = w->p->k;
    size_t n = (size_t)s->ow * s->oc;
    bool rowwise = s->kind == EMB_STEP_CONV || s->kind == EMB_STEP_DEPTHWISE || s->kind == EMB_STEP_MAX_POOL || s->kind == EMB_STEP_AVG_POOL;
    if (s->q8 != NULL && !rowwise) {
        emb_run_q8(w, s);
        return EMB_OK;
    }
    switch (s->kind) {
    case EMB_STEP_CONV:
    case EMB_STEP_DEPTHWISE:
    case EMB_STEP_MAX_POOL:
    case EMB_STEP_AVG_POOL: {
        emb_rows rows = emb_all_rows(w, s);
        emb_run_rows(w, s, &rows);
        break;
    }
    case EMB_STEP_WINOGRAD: emb_run_winograd(w, s); break;
    case EMB_STEP_QUANTIZE:
    case EMB_STEP_DEQUANTIZE:
    case EMB_STEP_LOOKUP: break; /* quantised, every one of them */
    case EMB_STEP_GLOBAL_MEAN: k->global_mean(emb_at(w, s->in[0]), (size_t)s->ih * s->iw, s->ic, emb_at(w, s->out)); break;
    case EMB_STEP_ADD: k->add(emb_at(w, s->in[0]), emb_at(w, s->in[1]), n, emb_at(w, s->out), s->lo, s->hi); break;
    case EMB_STEP_MUL: k->mul(emb_at(w, s->in[0]), emb_at(w, s->in[1]), n, emb_at(w, s->out)); break;
    case EMB_STEP_GATE:
        k->gate(emb_at(w, s->in[0]), s->ow, s->oc, emb_at(w, s->in[1]), emb_at(w, s->out));
        break;
    case EMB_STEP_AFFINE:
        k->affine(emb_at(w, s->in[0]), s->ow, s->oc, s->weights, s->bias, emb_at(w, s->out), s->lo, s->hi);
        if (s->act != EMB_ACT_NONE) k->act(emb_at(w, s->out), n, s->act, s->act_a, s->act_b);
        break;
    case EMB_STEP_ACT:
        memcpy(emb_at(w, s->out), emb_at(w, s->in[0]), n * s->y_bytes);
        k->act(emb_at(w, s->out), n, s->act, s->act_a, s->act_b);
        break;
    case EMB_STEP_CONCAT: run_concat(w, s); break;
    case EMB_STEP_TO_NCHW: run_transpose(w, s, true); break;
    case EMB_STEP_TO_NHWC: run_transpose(w, s, false); break;
    case EMB_STEP_WIDEN: k->widen(emb_at(w, s->in[0]), n, emb_at(w, s->out)); break;
    case EMB_STEP_NARROW: k->narrow(emb_at(w, s->in[0]), n, emb_at(w, s->out)); break;
    case EMB_STEP_GENERAL: return run_general(w, s, err);
    }
    return EMB_OK;
}

double emb_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static emb_status walk(const emb_walk *w, double *timings, emb_error *err)
{
    const emb_plan *p = w->p;
    for (size_t i = 0; i < p->n_steps; i++) {
        if (p->steps[i].chain > 1) {
            emb_run_chain(w, &p->steps[i], timings != NULL ? timings + i : NULL);
            i += p->steps[i].chain - 1;
            continue;
        }
        double t = timings != NULL ? emb_now() : 0;
        emb_status st = run_step(w, &p->steps[i], err);
        if (st != EMB_OK) return st;
        if (timings != NULL) timings[i] += emb_now() - t;
    }
    return EMB_OK;
}

emb_status emb_plan_run(const emb_plan *p, char *arena, const void **pointers, double *timings, emb_error *err)
{
    emb_walk w = {p, arena, pointers};
    void (*begin)(void) = p->k->begin != NULL ? p->k->begin : p->q8->begin, (*end)(void) = p->k->end != NULL ? p->k->end : p->q8->end;
    if (begin != NULL) begin();
    emb_status st = walk(&w, timings, err);
    if (end != NULL) end();
    return st;
}
