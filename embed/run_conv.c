/* run_conv.c: convolutions as sums of small products. Pixels go in blocks that stay in the second cache; of the weights, the
 * part of one panel that fits the first cache serves all tiles of a block before the next part is touched. */
#include "run.h"

#include <string.h>

/* Pointers of one output pixel, m apart: ptr[tap * m]. Taps outside the picture point to zeros. */
static void edge_pointers(const emb_walk *w, const emb_step *s, const emb_rows *r, uint32_t c, int64_t y0, int64_t x0, uint32_t m, const void **ptr)
{
    const void *padding = s->q8 != NULL ? s->q8->padding : w->p->zeros;
    for (int64_t ky = 0; ky < s->w.kh; ky++)
        for (int64_t kx = 0; kx < s->w.kw; kx++, ptr += m) {
            int64_t yy = y0 + ky * s->w.dh, xx = x0 + kx * s->w.dw;
            bool in = yy >= 0 && yy < s->ih && xx >= 0 && xx < s->iw;
            *ptr = in ? emb_x(s, r->x, (size_t)((yy - r->x_first) * s->iw + xx) * s->ic + c) : padding;
        }
}

/* The same where the taps of a row are one run of elements: the window is copied with its padding, to be one there, too. */
static void edge_window(const emb_step *s, const emb_rows *r, int64_t y0, int64_t x0, uint32_t m, char *to, const void **ptr)
{
    const size_t pixel = (size_t)s->ic * s->x_bytes, run = (size_t)s->w.kw * pixel;
    const int64_t from = x0 < 0 ? -x0 : 0, end = s->iw - x0 < s->w.kw ? s->iw - x0 : s->w.kw;
    for (int64_t ky = 0; ky < s->w.kh; ky++, to += run, ptr += m) {
        const int64_t y = y0 + ky * s->w.dh;
        memset(to, s->q8 != NULL ? s->q8->x.zero : 0, run);
        if (y >= 0 && y < s->ih && from < end)
            memcpy(to + (size_t)from * pixel, emb_x(s, r->x, (size_t)((y - r->x_first) * s->iw + x0 + from) * s->ic), (size_t)(end - from) * pixel);
        *ptr = to;
    }
}

/* Pointers of n neighbours in a row of the result whose taps all lie in the picture, the first tap of the first at `at`; as above,
 * ptr[tap * m + i]. */
static void inner_pointers(const emb_step *s, const char *at, uint32_t n, uint32_t m, size_t row, const void **ptr)
{
    int64_t kw = s->merged ? 1 : s->w.kw;
    size_t pixel = (size_t)s->w.sw * s->ic * s->x_bytes, tap = (size_t)s->w.dw * s->ic * s->x_bytes;
    for (int64_t ky = 0; ky < s->w.kh; ky++, at += row)
        for (int64_t kx = 0; kx < kw; kx++, ptr += m) {
            const char *x = at + (size_t)kx * tap;
            for (uint32_t i = 0; i < n; i++) ptr[i] = x + i * pixel;
        }
}

/* Pointers of m output pixels from `pixel` on, to channel c of the picture: ptr[tap][m]. Windows that have to be copied go to `copies`,
 * which has room for one of every pixel. */
static void tile_pointers(const emb_walk *w, const emb_step *s, const emb_rows *r, uint32_t c, uint32_t pixel, uint32_t m, char *copies, const void **ptr)
{
    const emb_window *v = &s->w;
    const int64_t reach_y = (v->kh - 1) * v->dh, reach_x = (v->kw - 1) * v->dw;
    const size_t window = (size_t)(v->kh * v->kw) * s->ic * s->x_bytes;
    size_t step = (size_t)s->ic * s->x_bytes;
    if (s->dense) {
        const char *x = emb_x(s, r->x, ((size_t)pixel - (size_t)r->x_first * s->iw) * s->ic + c);
        for (uint32_t i = 0; i < m; i++, x += step) ptr[i] = x;
        return;
    }
    uint32_t oy = pixel / s->ow, ox = pixel % s->ow;
    for (uint32_t i = 0, n; i < m; i += n) {
        int64_t y0 = oy * v->sh - v->top, x0 = ox * v->sw - v->left;
        n = m - i < s->ow - ox ? m - i : s->ow - ox;
        bool inside = y0 >= 0 && x0 >= 0 && y0 + reach_y < s->ih;
        int64_t fit = (s->iw - reach_x - x0 + v->sw - 1) / v->sw; /* neighbours from here on that end in the picture */
        if (!inside || fit < 1) {
            n = 1;
            if (s->merged) edge_window(s, r, y0, x0, m, copies + i * window, ptr + i);
            else edge_pointers(w, s, r, c, y0, x0, m, ptr + i);
        } else {
            if (fit < n) n = (uint32_t)fit;
            inner_pointers(s, emb_x(s, r->x, (size_t)((y0 - r->x_first) * s->iw + x0) * s->ic + c), n, m, (size_t)(v->dh * s->iw) * step, ptr + i);
        }
        ox += n;
        if (ox == s->ow) ox = 0, oy++;
    }
}

void emb_run_tiles(const emb_step *s, const emb_tile *first, const void **ptr, uint32_t n, uint32_t tiles, uint32_t taps, uint32_t tap0, size_t ahead)
{
    emb_tile t = *first;
    const size_t rows = emb_panel_bytes(&s->t, t.n, t.taps, t.k) / emb_panel_row(&s->t, t.n);
    t.next_step = (uint32_t)(ahead / (rows * tiles));
    for (uint32_t i = 0, pixel = 0, m; i < tiles; i++, pixel += m) {
        m = emb_tile_pixels(&s->t, n, tiles, i);
        t.a = ptr + (size_t)pixel * taps + (size_t)tap0 * m;
        t.c = emb_y(s, first->c, pixel * t.ldc);
        t.residual = first->residual != NULL ? (const char *)first->residual + pixel * t.ldc * s->r_bytes : NULL;
        t.sum = (float *)first->sum + pixel * t.lds;
        s->t.tile(&t, m);
        t.next += rows * t.next_step;
    }
}

/* One panel of weights over a block: part after part of the sum. `then` are the bytes that are read after the panel, or NULL where these
 * are the weights behind it. */
static void run_panel(const emb_walk *w, const emb_step *s, emb_tile *t, uint32_t n, uint32_t tiles, uint32_t taps, uint32_t run,
                      const void *then, size_t then_bytes)
{
    const char *b = t->b;
    for (uint32_t tap = 0; tap < taps; tap += s->part_taps) {
        t->taps = taps - tap < s->part_taps ? taps - tap : s->part_taps;
        for (uint32_t x = 0; x < run; x += s->part_k) {
            t->k = run - x < s->part_k ? run - x : s->part_k;
            t->x0 = x;
            t->b = b;
            const size_t part = emb_panel_bytes(&s->t, t->n, t->taps, t->k);
            b += part;
            t->resume = tap > 0 || x > 0;
            t->more = tap + t->taps < taps || x + t->k < run;
            const bool here = t->more || then == NULL;
            t->next = here ? b : then;
            emb_run_tiles(s, t, w->ptr, n, tiles, taps, tap, here ? part : then_bytes);
        }
    }
}

/* The weights, each row of channels times its factor. */
static void gate_weights(const emb_walk *w, const emb_step *s)
{
    const emb_kernels *k = w->p->k;
    const char *from = s->weights;
    char *to = emb_at(w, s->scratch);
    for (uint32_t o = 0, n; o < s->oc; o += n) {
        n = s->oc - o < s->t.nr ? s->oc - o : s->t.nr;
        k->gate_panel(from, emb_at(w, s->gate), s->ic, n, to);
        from += emb_panel_bytes(&s->t, n, 1, s->ic);
        to += emb_panel_bytes(&s->t, n, 1, s->ic);
    }
}

emb_tile emb_conv_tile(const emb_step *s, size_t column, uint32_t n)
{
    const emb_q8 *q = s->q8;
    emb_tile t = {.bias = s->bias + column, .ldc = s->y_pixel, .n = n, .lo = s->lo, .hi = s->hi, .act = s->act != EMB_ACT_GELU ? s->act : EMB_ACT_NONE,
                  .act_a = s->act_a, .act_b = s->act_b};
    if (q != NULL) t.scale = q->scale + column, t.residual_scale = q->residual_scale, t.y_scale = q->y_scale, t.y_zero = q->y_zero, t.wide = q->wide, t.table = q->table;
    return t;
}

const void *emb_conv_weights(const emb_walk *w, const emb_step *s, const emb_rows *r)
{
    if (s->gate < 0) return s->weights;
    if (r->oy0 == 0) gate_weights(w, s);
    return emb_at(w, s->scratch);
}

/* Words of a widened pixel: an odd number of half lines where they are many, so that pixels do not fall into the same sets. */
static size_t words_row(const emb_step *s)
{
    const size_t halves = ((size_t)emb_conv_taps(s) * ((emb_conv_run(s) + 3) / 4 * 4) + 15) / 16;
    return (halves >= 16 ? halves | 1 : halves) * 16;
}

/* As many pixels as stay in the second cache when they are widened, for weights are widened once for each block. */
void emb_plan_words(emb_step *s)
{
    enum { NEAR = 192 * 1024, LEAST = 48, MOST = EMB_BLOCK_TILES * EMB_MAX_TILE };
    const uint32_t pixels = s->oh * s->ow;
    size_t most = NEAR / (words_row(s) * sizeof(uint16_t));
    if (most < LEAST) most = LEAST;
    if (most > MOST / s->t.nr) most = MOST / s->t.nr;
    const uint32_t blocks = (uint32_t)((pixels + most - 1) / most);
    s->block = (pixels + blocks - 1) / blocks;
}

/* In a step's scratch; copies of windows lie behind. */
size_t emb_words_bytes(const emb_step *s) { return s->block * words_row(s) * sizeof(uint16_t) + EMB_KERNEL_SLACK; }

/* The pixels of a block, widened. */
static uint16_t *widen_block(const emb_walk *w, const emb_step *s, const emb_rows *r, uint32_t c, uint32_t pixel, uint32_t n)
{
    const uint32_t taps = emb_conv_taps(s), run = emb_conv_run(s), mr = s->t.mr;
    const size_t row = words_row(s);
    uint16_t *words = emb_at(w, s->scratch);
    char *copies = (char *)words + emb_words_bytes(s);
    for (uint32_t i = 0, m; i < n; i += m) {
        m = n - i < mr ? n - i : mr;
        tile_pointers(w, s, r, c, pixel + i, m, copies, w->ptr);
        w->p->q8->words->widen(w->ptr, taps, run, m, words + i * row, row);
    }
    return words;
}

/* Panel after panel of words. */
static void run_words(const emb_walk *w, const emb_step *s, const emb_rows *r)
{
    const uint32_t groups = (uint32_t)s->w.group, oc = s->oc / groups, ic = s->ic / groups, nr = s->t.nr, taps = emb_conv_taps(s), run = emb_conv_run(s);
    const uint32_t panels = (oc + nr - 1) / nr, first = r->oy0 * s->ow, end = r->oy1 * s->ow;
    const size_t panel = emb_panel_bytes(&s->t, nr, taps, run);
    for (uint32_t p0 = first; p0 < end; p0 += s->block) {
        const uint32_t n = end - p0 < s->block ? end - p0 : s->block;
        const size_t before = (size_t)(p0 - first);
        for (uint32_t g = 0; g < groups; g++) {
            const uint16_t *words = widen_block(w, s, r, g * ic, p0, n);
            for (uint32_t i = 0; i < panels; i++) {
                const size_t c = (size_t)g * oc + i * nr, column = (size_t)nr * (g * panels + i);
                emb_tile t = emb_conv_tile(s, column, oc - i * nr < nr ? oc - i * nr : nr);
                t.taps = taps, t.k = run;
                t.b = (const char *)s->weights + panel * (g * panels + i);
                t.next = (const char *)t.b + panel;
                t.next_step = (uint32_t)emb_panel_row(&s->t, nr);
                t.c = emb_y(s, r->y, before * s->y_pixel + c);
                t.residual = r->residual != NULL ? (const char *)r->residual + (before * s->oc + c) * s->r_bytes : NULL;
                t.sum = w->arena + w->p->sums_offset;
                w->p->q8->words->panel(&t, words, words_row(s), n);
            }
        }
        if (s->act == EMB_ACT_GELU) w->p->k->act(emb_y(s, r->y, before * s->y_pixel), (size_t)n * s->oc, s->act, s->act_a, s->act_b);
    }
}

void emb_run_conv(const emb_walk *w, const emb_step *s, const emb_rows *r)
{
    if (s->even) {
        emb_run_even(w, s, r);
        return;
    }
    if (s->q8 != NULL && w->p->q8->words != NULL) {
        run_words(w, s, r);
        return;
    }
    const emb_kernels *k = w->p->k;
    uint32_t groups = (uint32_t)s->w.group, oc = s->oc / groups, ic = s->ic / groups, mr = s->t.mr, nr = s->t.nr;
    uint32_t taps = emb_conv_taps(s), panels = (oc + nr - 1) / nr;
    uint32_t run = emb_conv_run(s), first = r->oy0 * s->ow, end = r->oy1 * s->ow;
    size_t panel = emb_panel_bytes(&s->t, nr, taps, run), group = emb_panel_bytes(&s->t, oc, taps, run);
    const size_t window = (size_t)taps * run * s->x_bytes;
    char *copies = s->merged ? emb_at(w, s->scratch) : NULL;
    const char *weights = emb_conv_weights(w, s, r);
    for (uint32_t p0 = first; p0 < end; p0 += s->block) {
        uint32_t n = end - p0 < s->block ? end - p0 : s->block, tiles = (n + mr - 1) / mr;
        size_t before = (size_t)(p0 - first);
        void *y = emb_y(s, r->y, before * s->y_pixel);
        for (uint32_t g = 0; g < groups; g++) {
            for (uint32_t i = 0, pixel = 0, m; i < tiles; i++, pixel += m) {
                m = emb_tile_pixels(&s->t, n, tiles, i);
                tile_pointers(w, s, r, g * ic, p0 + pixel, m, s->merged ? copies + pixel * window : NULL, w->ptr + (size_t)pixel * taps);
            }
            for (uint32_t i = 0; i < panels; i++) {
                size_t c = (size_t)g * oc + i * nr, column = (size_t)nr * (g * panels + i);
                emb_tile t = emb_conv_tile(s, column, oc - i * nr < nr ? oc - i * nr : nr);
                t.b = weights + group * g + panel * i;
                t.c = emb_y(s, y, c);
                t.residual = r->residual != NULL ? (const char *)r->residual + (before * s->oc + c) * s->r_bytes : NULL;
                t.sum = (float *)(void *)(w->arena + w->p->sums_offset);
                t.lds = nr;
                const bool leave = s->dense && i + 1 == panels && end - p0 > n; /* the next thing to be read are other pixels */
                run_panel(w, s, &t, n, tiles, taps, run, leave ? emb_x(s, r->x, ((size_t)p0 + n - (size_t)r->x_first * s->iw) * s->ic) : NULL,
                          (size_t)(end - p0 - n < n ? end - p0 - n : n) * s->ic * s->x_bytes);
            }
        }
        if (s->act == EMB_ACT_GELU) k->act(y, (size_t)n * s->oc, s->act, s->act_a, s->act_b);
    }
}
