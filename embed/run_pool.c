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

void emb_run_pool(const emb_walk *w, const emb_step *s, const emb_rows *r)
{
    const emb_window *v = &s->w;
    bool max = s->kind == EMB_STEP_MAX_POOL;
    char *y = r->y;
    for (uint32_t oy = r->oy0; oy < r->oy1; oy++)
        for (uint32_t ox = 0; ox < s->ow; ox++, y += (size_t)s->oc * s->y_bytes) {
            int64_t y0 = oy * v->sh - v->top, x0 = ox * v->sw - v->left, ky0, ky1, kx0, kx1;
            uint32_t n = 0;
            emb_taps_inside(y0, v->kh, v->dh, s->ih, &ky0, &ky1);
            emb_taps_inside(x0, v->kw, v->dw, s->iw, &kx0, &kx1);
            for (int64_t ky = ky0; ky < ky1; ky++)
                for (int64_t kx = kx0; kx < kx1; kx++) w->ptr[n++] = emb_x(s, r->x, (size_t)((y0 + ky * v->dh - r->x_first) * s->iw + x0 + kx * v->dw) * s->ic);
            if (s->q8 != NULL) pool_q8(w, s, n, y, n > 0 && !max ? weight(s, y0, x0, n) : 0);
            else if (n > 0 && max) w->p->k->max_pool(w->ptr, n, s->oc, y);
            else if (n > 0) w->p->k->sum_pool(w->ptr, n, weight(s, y0, x0, n), s->oc, y);
            else for (uint32_t c = 0; c < s->oc; c++) w->p->k->narrow(max ? &(float){-INFINITY} : &(float){0}, 1, y + c * s->y_bytes);
        }
}
