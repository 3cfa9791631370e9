/* run_pool.c: the greatest or the mean of a window. Taps outside the picture do not exist. */
#include "run.h"

#include <math.h>
#include <string.h>

/* 1 / what a mean is divided by: padding counts when the model says so, what ceil_mode adds does not. */
static float weight(const emb_step *s, int64_t y0, int64_t x0, uint32_t inside)
{
    if (!s->w.count_pad) return 1.0f / (float)inside;
    int64_t rows = 0, columns = 0;
    for (int64_t k = 0; k < s->w.kh; k++) rows += y0 + k * s->w.dh < s->ih + s->w.bottom;
    for (int64_t k = 0; k < s->w.kw; k++) columns += x0 + k * s->w.dw < s->iw + s->w.right;
    return 1.0f / (float)(rows * columns);
}

/* Of quantised values: what lies outside is zero in a mean, too, where padding counts. */
static void pool_q8(const emb_walk *w, const emb_step *s, uint32_t n, void *y, float share)
{
    const emb_q8 *q = s->q8;
    float by = share * q->x.scale / q->y.scale, zeros = by * (float)n * (float)q->x.zero;
    if (n == 0) memset(y, s->kind == EMB_STEP_MAX_POOL ? 0 : q->y.zero, s->oc);
    else if (s->kind == EMB_STEP_MAX_POOL) w->p->q8->max_pool(w->ptr, n, s->oc, y);
    else w->p->q8->sum_pool(w->ptr, n, s->oc, by, (float)q->y.zero - zeros, y);
}

/* The pixels of a window that are in the picture, to ptr; -> how many. */
static uint32_t gather(const emb_step *s, const emb_rows *r, int64_t y0, int64_t x0, int64_t ky0, int64_t ky1, const void **ptr)
{
    const emb_window *v = &s->w;
    int64_t kx0, kx1;
    uint32_t n = 0;
    emb_taps_inside(x0, v->kw, v->dw, s->iw, &kx0, &kx1);
    for (int64_t ky = ky0; ky < ky1; ky++)
        for (int64_t kx = kx0; kx < kx1; kx++) ptr[n++] = emb_x(s, r->x, (size_t)((y0 + ky * v->dh - r->x_first) * s->iw + x0 + kx * v->dw) * s->ic);
    return n;
}

void emb_run_pool(const emb_walk *w, const emb_step *s, const emb_rows *r)
{
    const emb_window *v = &s->w;
    const bool max = s->kind == EMB_STEP_MAX_POOL;
    const size_t step = (size_t)v->sw * s->ic * s->x_bytes;
    char *y = r->y;
    for (uint32_t oy = r->oy0; oy < r->oy1; oy++) {
        int64_t y0 = oy * v->sh - v->top, ky0, ky1;
        uint32_t n = 0;
        bool inner = false;
        emb_taps_inside(y0, v->kh, v->dh, s->ih, &ky0, &ky1);
        for (uint32_t ox = 0; ox < s->ow; ox++, y += (size_t)s->oc * s->y_bytes) {
            const int64_t x0 = ox * v->sw - v->left;
            const bool whole = x0 >= 0 && x0 + (v->kw - 1) * v->dw < s->iw;
            if (whole && inner) for (uint32_t i = 0; i < n; i++) w->ptr[i] = (const char *)w->ptr[i] + step; /* the window moves on */
            else n = gather(s, r, y0, x0, ky0, ky1, w->ptr);
            inner = whole;
            if (s->q8 != NULL) pool_q8(w, s, n, y, n > 0 && !max ? weight(s, y0, x0, n) : 0);
            else if (n > 0 && max) w->p->k->max_pool(w->ptr, n, s->oc, y);
            else if (n > 0) w->p->k->sum_pool(w->ptr, n, weight(s, y0, x0, n), s->oc, y);
            else for (uint32_t c = 0; c < s->oc; c++) w->p->k->narrow(max ? &(float){-INFINITY} : &(float){0}, 1, y + c * s->y_bytes);
        }
    }
}
