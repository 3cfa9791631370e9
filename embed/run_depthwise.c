/* run_depthwise.c: depthwise convolutions, a row of the result at a time; the edges see fewer taps instead of padding. */
#include "run.h"

#include <math.h>

void emb_taps_inside(int64_t x0, int64_t k, int64_t d, int64_t n, int64_t *from, int64_t *to)
{
    *from = x0 < 0 ? (-x0 + d - 1) / d : 0;
    *to = x0 >= n ? 0 : (n - x0 + d - 1) / d;
    if (*to > k) *to = k;
    if (*from > *to) *from = *to;
}

/* Windows that kernels know take whole rows. */
static bool takes_rows(const emb_window *v) { return (v->kw == 3 || v->kw == 5) && v->dw == 1 && v->sw <= 2; }

/* One row of results, or two: all at once, or runs of pixels that see the same taps, which is every inner pixel together. */
static void depthwise_row(const emb_walk *w, const emb_step *s, const emb_depthwise *row, const emb_rows *r, int64_t y0, int64_t ky0)
{
    const emb_window *v = &s->w;
    const int64_t y = row->kh > 0 ? y0 + ky0 * v->dh - r->x_first : 0; /* where taps begin in x */
    if (takes_rows(v)) {
        emb_depthwise d = *row;
        d.width = s->iw;
        d.column = -(int32_t)v->left;
        d.pixels = s->ow;
        d.kw = (uint32_t)v->kw;
        d.x = emb_x(s, r->x, (size_t)y * s->iw * s->ic);
        d.w = emb_x(s, s->weights, (size_t)(ky0 * v->kw) * s->oc);
        w->p->k->depthwise(&d);
        return;
    }
    for (int64_t ox = 0, next; ox < s->ow; ox = next) {
        int64_t kx0, kx1, x0 = ox * v->sw - v->left;
        emb_taps_inside(x0, v->kw, v->dw, s->iw, &kx0, &kx1);
        next = ox + 1;
        if (kx0 == 0 && kx1 == v->kw) { /* and so do all whose last tap is inside */
            int64_t last = (s->iw - 1 - (v->kw - 1) * v->dw + v->left) / v->sw;
            next = last + 1 < s->ow ? last + 1 : s->ow;
        }
        emb_depthwise d = *row;
        d.pixels = (uint32_t)(next - ox);
        d.out = emb_y(s, row->out, (size_t)ox * s->oc);
        if (kx1 > kx0 && d.kh > 0) {
            d.kw = (uint32_t)(kx1 - kx0);
            d.x = emb_x(s, r->x, (size_t)(y * s->iw + x0 + kx0 * v->dw) * s->ic);
            d.w = emb_x(s, s->weights, (size_t)(ky0 * v->kw + kx0) * s->oc);
        } else {
            d.kh = 0; /* only the bias is left */
        }
        w->p->k->depthwise(&d);
    }
}

/* The taps of a row of the result that lie in the picture. */
static void rows_inside(const emb_step *s, uint32_t oy, int64_t *ky0, int64_t *ky1)
{
    emb_taps_inside(oy * s->w.sh - s->w.top, s->w.kh, s->w.dh, s->ih, ky0, ky1);
}

void emb_run_depthwise(const emb_walk *w, const emb_step *s, const emb_rows *r)
{
    const emb_window *v = &s->w;
    size_t row = (size_t)s->ow * s->oc;
    bool later = r->residual != NULL; /* the clamp comes after the residual */
    emb_depthwise d = {.x = r->x, .w = s->weights, .bias = s->bias, .x_row = (size_t)(v->dh * s->iw) * s->ic, .x_pixel = (size_t)v->sw * s->ic,
                       .x_tap = (size_t)v->dw * s->ic, .w_row = (size_t)v->kw * s->oc, .channels = s->oc, .out_row = row,
                       .lo = later ? -INFINITY : s->lo, .hi = later ? INFINITY : s->hi};
    for (uint32_t oy = r->oy0; oy < r->oy1; oy += d.rows) {
        int64_t ky0, ky1, next0 = 0, next1 = 0;
        rows_inside(s, oy, &ky0, &ky1);
        if (oy + 1 < r->oy1) rows_inside(s, oy + 1, &next0, &next1);
        bool pair = takes_rows(v) && v->sw == 1 && v->sh == 1 && v->dh == 1 && ky0 == 0 && ky1 == v->kh && next0 == 0 && next1 == v->kh;
        void *y = d.out = emb_y(s, r->y, (oy - r->oy0) * row);
        d.rows = pair ? 2 : 1;
        d.kh = (uint32_t)(ky1 - ky0);
        depthwise_row(w, s, &d, r, oy * v->sh - v->top, ky0);
        size_t n = d.rows * row;
        if (later) w->p->k->add(y, (const char *)r->residual + (oy - r->oy0) * row * s->r_bytes, n, y, s->lo, s->hi);
        if (s->act != EMB_ACT_NONE) w->p->k->act(y, n, s->act, s->act_a, s->act_b);
    }
}
