/* run_q8.c: steps over quantised values, but for convolutions by tiles, which are run_conv.c's. */
#include "run.h"

#include <math.h>
#include <string.h>

void emb_run_q8_depthwise(const emb_walk *w, const emb_step *s, const emb_rows *r)
{
    const emb_window *v = &s->w;
    size_t row = (size_t)s->iw * s->ic;
    const uint8_t **rows = (const uint8_t **)(void *)w->ptr;
    emb_q8_depthwise d = {.rows = rows, .w = s->weights, .scale = s->q8->scale, .bias = s->bias, .columns = emb_at(w, s->scratch), .width = (int32_t)s->iw,
                          .left = (int32_t)v->left, .stride = (int32_t)v->sw, .dilation = (int32_t)v->dw, .kh = (uint32_t)v->kh, .kw = (uint32_t)v->kw,
                          .pixels = s->ow, .channels = s->oc, .zero = (uint8_t)s->q8->x.zero, .lo = s->lo, .hi = s->hi, .act = s->act, .act_a = s->act_a,
                          .act_b = s->act_b, .y_scale = s->q8->y_scale, .y_zero = s->q8->y_zero, .table = s->q8->table, .down = (uint32_t)v->sh};
    const uint32_t most = v->dh == 1 ? emb_q8_more_rows(w->p->q8, d.kh, d.down) : 0;
    for (uint32_t oy = r->oy0; oy < r->oy1; oy += 1 + d.more) {
        d.more = r->oy1 - oy - 1 < most ? r->oy1 - oy - 1 : most;
        for (int64_t i = 0; i < d.kh + d.more * d.down; i++) {
            int64_t y = oy * v->sh - v->top + i * v->dh;
            rows[i] = y >= 0 && y < s->ih ? (const uint8_t *)r->x + (size_t)(y - r->x_first) * row : s->q8->padding;
        }
        d.out = (uint8_t *)r->y + (size_t)(oy - r->oy0) * s->ow * s->oc;
        w->p->q8->depthwise(&d);
    }
}

static void concat(const emb_walk *w, const emb_step *s)
{
    size_t pixels = (size_t)s->oh * s->ow, offset = 0;
    for (int32_t i = 0; i < s->n_in; i++) {
        size_t c = (size_t)s->args[i].type.dims[1];
        const uint8_t *x = s->in[i] >= 0 ? emb_at(w, s->in[i]) : NULL, *table = (const uint8_t *)s->weights + i * 256;
        uint8_t *y = (uint8_t *)emb_at(w, s->out) + offset;
        for (size_t p = 0; x != NULL && p < pixels; p++, x += c, y += s->oc) w->p->q8->lookup(x, c, table, y);
        offset += c;
    }
}

static void gate(const emb_walk *w, const emb_step *s)
{
    float *factor = emb_at(w, s->scratch), *shift = factor + s->oc;
    const float *by = s->q8->by;
    w->p->q8->dequantize(emb_at(w, s->in[1]), s->oc, by[0], -by[1] * by[0], factor);
    for (uint32_t c = 0; c < s->oc; c++) shift[c] = (float)s->q8->y.zero - by[2] * factor[c];
    w->p->q8->gate(emb_at(w, s->in[0]), s->ow, s->oc, factor, shift, emb_at(w, s->out));
}

void emb_run_q8(const emb_walk *w, const emb_step *s)
{
    const emb_kernels_q8 *k = w->p->q8;
    const emb_q8 *q = s->q8;
    size_t n = (size_t)s->ow * s->oc;
    void *y = emb_at(w, s->out);
    const void *x = s->n_in > 0 && s->in[0] >= 0 ? emb_at(w, s->in[0]) : NULL;
    float scale = q->x.scale, zero = (float)q->x.zero, pixels = (float)s->ih * (float)s->iw;
    switch (s->kind) {
    case EMB_STEP_WINOGRAD: emb_run_q8_winograd(w, s); break;
    case EMB_STEP_QUANTIZE: k->quantize(x, n, 1 / scale, zero, y); break;
    case EMB_STEP_DEQUANTIZE: k->dequantize(x, n, scale, -zero * scale, y); break;
    case EMB_STEP_LOOKUP: k->lookup(x, n, s->weights, y); break;
    case EMB_STEP_GLOBAL_MEAN: k->global_sum(x, (size_t)s->ih * s->iw, s->ic, scale / pixels, -zero * scale, y); break;
    case EMB_STEP_ADD: k->add(x, emb_at(w, s->in[1]), n, q->by, y); break;
    case EMB_STEP_GATE: gate(w, s); break;
    case EMB_STEP_CONCAT: concat(w, s); break;
    default: break;
    }
}
