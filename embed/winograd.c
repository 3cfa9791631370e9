/* winograd.c: 3 x 3 convolutions of stride 1 by Winograd's F(4 x 4, 3 x 3), F(3 x 3, 3 x 3) or F(2 x 2, 3 x 3) (Lavin and Gray,
 * arXiv:1509.09308): a quarter of the multiplications, 0.31 or 0.44 of them, for transforms of the picture before and of the result behind
 * and for four, 2.8 or 1.8 times the weights. A tile is 6 x 6 pixels that give 4 x 4, or 5 x 5 that give 3 x 3, or 4 x 4 that give 2 x 2; each
 * of the 36, 25 or 16 places of the transformed tiles is one product, tiles x ic by ic x oc.
 *
 * Rounding: the transforms of 6 x 6 grow values by up to 100 and 2.25 and shrink them again, which costs about five bits, those of 5 x 5
 * by up to 36, a bit less, and those of 4 x 4 by 4. tests/unit/plan_test.c holds each result within 2e-7 of the sum as it is defined, relative
 * to the norm of all of them (seen: 6.4e-8, 3.8e-8 and 2.6e-8). */
#include "run.h"

#include <stdlib.h>
#include <string.h>

enum {
    MOST = 36,
    NEAR = 40 * 1024, /* for a panel that all tiles of a place read behind each other */
    CACHE = 2 << 20
};

static uint32_t places(const emb_step *s) { return s->side * s->side; }

uint32_t emb_winograd_tiles(const emb_step *s)
{
    const uint32_t each = s->side - 2;
    return (s->oh + each - 1) / each * ((s->ow + each - 1) / each);
}

/* Counted in vector operations of the direct way: products of every place, transforms of about 14 operations a place, and weights
 * that are as many for each of 9 as there are places and have to come through the caches once for each block, from further away where
 * the second cannot hold them. */
static double operations(const emb_step *s, uint32_t side)
{
    const emb_step with = {.oh = s->oh, .ow = s->ow, .side = side};
    const double tiles = emb_winograd_tiles(&with), all = places(&with), ic = s->ic, oc = s->oc;
    const double far = all * ic * oc * sizeof(float) > CACHE ? 28 : 16;
    return tiles * all * ic * oc + tiles * all * 14 * (ic + oc) + (all - 9) * ic * oc * far;
}

bool emb_winograd_pays(emb_step *s)
{
    const emb_window *w = &s->w;
    bool fits = s->kind == EMB_STEP_CONV && w->kh == 3 && w->kw == 3 && w->sh == 1 && w->sw == 1 && w->dh == 1 && w->dw == 1 && w->group == 1;
    if (!fits || s->ic < 16 || s->oc < 16) return false;
    s->side = 6;
    for (uint32_t side = 5; side >= 4; side--)
        if (operations(s, side) < operations(s, s->side)) s->side = side;
    return operations(s, s->side) < (double)s->oh * s->ow * 9 * s->ic * s->oc;
}

/* Planes lie an odd number of cache lines apart, so that the 36 places of a tile do not fall into the same few sets. */
size_t emb_winograd_plane(uint32_t tiles, uint32_t channels)
{
    size_t lines = ((size_t)tiles * channels + 15) / 16;
    return (lines | 1) * 16;
}

enum { LANES = 16 }; /* weights of so many channels together: whole lines of the 36 places, which lie at distances of a power of two */

/* One dimension of U = G g G^T: three values, `from` apart, to `side`, `to` apart. */
static void transform_three(double (*g)[LANES], int from, double (*u)[LANES], int to, uint32_t side)
{
    for (int l = 0; l < LANES; l++) {
        const double a = g[0][l], b = g[from][l], c = g[2 * from][l];
        if (side == 4) {
            u[0][l] = a;
            u[to][l] = (a + b + c) / 2;
            u[2 * to][l] = (a - b + c) / 2;
            u[3 * to][l] = c;
            continue;
        }
        if (side == 5) {
            u[0][l] = a / 2;
            u[to][l] = -(a + b + c) / 2;
            u[2 * to][l] = (b - a - c) * (1.0 / 6);
            u[3 * to][l] = (a + 2 * b + 4 * c) * (1.0 / 6);
            u[4 * to][l] = c;
            continue;
        }
        double even = (a + c) * (1.0 / 6), odd = b * (1.0 / 6), wide = a * (1.0 / 24) + c * (1.0 / 6), half = b * (1.0 / 12);
        u[0][l] = a / 4;
        u[to][l] = -even - odd;
        u[2 * to][l] = odd - even;
        u[3 * to][l] = wide + half;
        u[4 * to][l] = wide - half;
        u[5 * to][l] = c;
    }
}

/* g: 3 x 3 weights, those of the next of n channels `next` behind; place e of them goes to u + e * place, zeros up to `row`. */
static void transform_weights(const float *g, size_t next, uint32_t n, uint32_t side, float *u, size_t place, uint32_t row)
{
    double d[9][LANES] = {{0}}, t[18][LANES], v[MOST][LANES];
    for (uint32_t l = 0; l < n; l++)
        for (int i = 0; i < 9; i++) d[i][l] = (double)g[l * next + (size_t)i];
    for (int i = 0; i < 3; i++) transform_three(d + i, 3, t + i, 3, side);
    for (uint32_t i = 0; i < side; i++) transform_three(t + 3 * i, 1, v + side * i, 1, side);
    for (size_t e = 0; e < side * side; e++)
        for (uint32_t l = 0; l < row; l++) u[e * place + l] = (float)v[e][l];
}

void *emb_winograd_pack(emb_step *s, const float *w, const emb_kernels *k, size_t *scratch_bytes)
{
    emb_plan_shape(&s->t, k, s->oc);
    while ((size_t)s->ic * s->t.nr * sizeof *w > NEAR && s->t.nr > 2 * k->unit) s->t.mr = k->mr, s->t.nr -= k->unit;
    uint32_t nr = s->t.nr;
    size_t panels = (s->oc + nr - 1) / nr, panel = (size_t)s->ic * nr, place = (size_t)s->ic * emb_panel_width(&s->t, s->oc);
    float *to = emb_weights_memory(places(s) * place * sizeof *to);
    if (to == NULL) return NULL;
    for (size_t p = 0; p < panels; p++) {
        const uint32_t width = emb_panel_width(&s->t, s->oc - (uint32_t)p * nr < nr ? s->oc - (uint32_t)p * nr : nr);
        for (uint32_t i = 0; i < s->ic; i++)
            for (uint32_t j = 0; j < width; j += LANES) {
                size_t o = p * nr + j, left = o < s->oc ? s->oc - o : 0;
                uint32_t row = width - j < LANES ? width - j : LANES;
                transform_weights(left > 0 ? w + (o * s->ic + i) * 9 : w, (size_t)s->ic * 9, left < row ? (uint32_t)left : row, s->side,
                                  to + p * panel + (size_t)i * width + j, place, row);
            }
    }
    uint32_t tiles = emb_winograd_tiles(s);
    uint32_t most = (uint32_t)(1664 * 1024 / (places(s) * sizeof(float) * (s->ic + s->oc))); /* both sets of planes stay in the second cache */
    if (most < 16) most = 16;
    uint32_t blocks = (tiles + most - 1) / most;
    s->block = (tiles + blocks - 1) / blocks;
    *scratch_bytes = places(s) * (emb_winograd_plane(s->block, s->ic) + emb_winograd_plane(s->block, s->oc)) * sizeof(float);
    return to;
}

/* ---- run ------------------------------------------------------------------------------------------------ */

void emb_winograd_pixels(const emb_step *s, const void *x, const void *padding, int64_t y0, int64_t x0, const void **px)
{
    for (int64_t y = y0; y < y0 + s->side; y++)
        for (int64_t at = x0; at < x0 + s->side; at++) {
            bool in = y >= 0 && y < s->ih && at >= 0 && at < s->iw;
            *px++ = in ? emb_x(s, x, ((size_t)y * s->iw + (size_t)at) * s->ic) : padding;
        }
}

/* m[e] = v[e] * U[e] for every place, n tiles. */
static void multiply(const emb_walk *w, const emb_step *s, const void *v, size_t v_plane, float *m, size_t m_plane, uint32_t n)
{
    uint32_t rows = (n + s->t.mr - 1) / s->t.mr, nr = s->t.nr;
    emb_tile t = {.taps = 1, .k = s->ic, .b = s->weights, .bias = w->p->zeros, .lds = s->oc, .more = true};
    for (size_t e = 0; e < places(s); e++) {
        for (uint32_t i = 0; i < n; i++) w->ptr[i] = emb_x(s, v, e * v_plane + (size_t)i * s->ic);
        for (uint32_t o = 0; o < s->oc; o += nr) {
            t.n = s->oc - o < nr ? s->oc - o : nr;
            t.sum = m + e * m_plane + o;
            const size_t panel = emb_panel_bytes(&s->t, t.n, 1, s->ic);
            t.next = (const char *)t.b + panel;
            emb_run_tiles(s, &t, w->ptr, n, rows, 1, 0, panel);
            t.b = t.next;
        }
    }
}

void emb_run_winograd(const emb_walk *w, const emb_step *s)
{
    const emb_kernels *k = w->p->k;
    const void *x = emb_at(w, s->in[0]), *res = s->residual >= 0 ? emb_at(w, s->residual) : NULL;
    void *y = emb_y(s, emb_at(w, s->out), s->y_offset), *v = emb_at(w, s->scratch);
    const uint32_t each = s->side - 2, across = (s->ow + each - 1) / each, tiles = emb_winograd_tiles(s);
    size_t v_plane = emb_winograd_plane(s->block, s->ic), m_plane = emb_winograd_plane(s->block, s->oc);
    float *m = emb_y(s, v, places(s) * v_plane);
    for (uint32_t t0 = 0; t0 < tiles; t0 += s->block) {
        uint32_t n = tiles - t0 < s->block ? tiles - t0 : s->block;
        for (uint32_t t = 0; t < n; t++) {
            const void *px[MOST];
            emb_winograd_pixels(s, x, w->p->zeros, (int64_t)((t0 + t) / across * each) - s->w.top, (int64_t)((t0 + t) % across * each) - s->w.left, px);
            k->winograd_in(px, s->side, s->ic, emb_y(s, v, (size_t)t * s->ic), v_plane);
        }
        multiply(w, s, v, v_plane, m, m_plane, n);
        for (uint32_t t = 0; t < n; t++) {
            uint32_t oy = (t0 + t) / across * each, ox = (t0 + t) % across * each;
            size_t o = ((size_t)oy * s->ow + ox) * s->y_pixel;
            emb_patch to = {.out = emb_y(s, y, o), .residual = res != NULL ? (const char *)res + o * s->r_bytes : NULL, .bias = s->bias, .row = (size_t)s->ow * s->y_pixel, .pixel = s->y_pixel,
                            .rows = s->oh - oy < each ? s->oh - oy : each, .columns = s->ow - ox < each ? s->ow - ox : each, .lo = s->lo, .hi = s->hi};
            k->winograd_out(m + (size_t)t * s->oc, m_plane, s->side, s->oc, &to);
        }
    }
    if (s->act != EMB_ACT_NONE) k->act(y, (size_t)s->oh * s->ow * s->oc, s->act, s->act_a, s->act_b);
}
