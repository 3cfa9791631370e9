/* run_even.c: convolutions by kernels that want their pixels a fixed distance apart (AMX, thin()). A picture that needs padding is copied
 * with it first, as many rows at a time as stay in the second cache. With a stride of 1 the pixels of a result then lie evenly even across
 * the ends of rows: those over the padding give sums that nobody wants, two in 58 for a 3 x 3 over 56 pixels, which is less than what
 * ending every tile with its row would leave empty. With other strides tiles do end with their row. Of few channels in 8 bits the copy
 * stands upright (emb_step): a window of 7 x 7 pixels of 3 channels takes three multiplications of 64 bytes instead of seven. */
#include "run.h"

#include <string.h>

enum {
    SHORT_LINE = 12, /* lines of fewer pixels leave so much of their tiles empty that gathering pixels is better */
    NEAR = 128 * 1024
};

static uint32_t pitch(const emb_step *s) { return s->iw + (uint32_t)(s->w.left + s->w.right); } /* pixels of a row with padding */

static bool padded(const emb_step *s) { return s->w.top != 0 || s->w.left != 0 || s->w.bottom != 0 || s->w.right != 0; }

static bool one_line(const emb_step *s) { return s->w.sw == 1 && s->w.sh == 1; }

static uint32_t rounds(const emb_step *s, uint32_t channels) { return (channels + s->t.round - 1) / s->t.round; }

void emb_plan_even(emb_step *s)
{
    const uint32_t kw = (uint32_t)s->w.kw;
    s->even = s->t.strided && (one_line(s) || s->ow >= SHORT_LINE);
    const bool fewer = s->even && rounds(s, kw * s->ic) < kw * rounds(s, s->ic); /* multiplications by what fills a tap up */
    s->merged = s->w.group == 1 && s->w.dw == 1 && kw > 1 && (s->ic <= 8 || fewer);
    emb_step upright = *s;
    upright.upright = true;
    const int64_t saved = s->w.kh * rounds(s, kw * s->ic) - rounds(s, emb_conv_run(&upright)), panels = (s->oc + s->t.nr - 1) / s->t.nr;
    s->upright = s->even && s->merged && s->q8 != NULL && s->ow >= SHORT_LINE && s->w.sw * s->ic <= EMB_PIECE &&
                 saved * panels >= s->w.kh; /* pieces of all pixels of a tile take as long to move as it takes to multiply them by a panel */
}

/* Bytes of an upright copy for a row of the result. */
static size_t columns(const emb_step *s) { return (s->ow - 1) * (size_t)emb_column(s) + emb_conv_run(s); }

/* Rows of the result whose picture is copied at a time: enough for a block of full tiles, few enough to stay in the second cache. */
static uint32_t band(const emb_step *s)
{
    const size_t row = s->upright ? columns(s) : (size_t)s->w.sh * pitch(s) * s->ic * s->x_bytes, most = NEAR / row, least = EMB_BLOCK_TILES * s->t.mr / s->ow + 1;
    const size_t rows = most > least ? most : least;
    return (padded(s) || s->upright) && rows < s->oh ? (uint32_t)rows : s->oh;
}

size_t emb_padded_bytes(const emb_step *s)
{
    if (!s->even) return s->merged ? (size_t)s->block * (size_t)(s->w.kh * s->w.kw) * s->ic * s->x_bytes : 0; /* at worst all windows of a block */
    if (s->upright) return band(s) * columns(s) + s->t.mr * (size_t)emb_column(s);
    if (!padded(s)) return 0;
    const size_t rows = (size_t)((band(s) - 1) * s->w.sh + (s->w.kh - 1) * s->w.dh + 1), beyond = s->t.mr * (size_t)s->w.sw;
    return (rows * pitch(s) + beyond) * s->ic * s->x_bytes;
}

/* The rows of the picture that r is made of, with their padding. */
static void pad_rows(const emb_step *s, const emb_rows *r, char *to)
{
    size_t pixel = (size_t)s->ic * s->x_bytes, row = pitch(s) * pixel, left = (size_t)s->w.left * pixel, mid = s->iw * pixel;
    const int pad = s->q8 != NULL ? s->q8->x.zero : 0;
    const int64_t first = r->oy0 * s->w.sh - s->w.top, end = (r->oy1 - 1) * s->w.sh - s->w.top + (s->w.kh - 1) * s->w.dh + 1;
    for (int64_t y = first; y < end; y++, to += row) {
        if (y < 0 || y >= s->ih) {
            memset(to, pad, row);
            continue;
        }
        memset(to, pad, left);
        memcpy(to + left, (const char *)r->x + (size_t)(y - r->x_first) * mid, mid);
        memset(to + left + mid, pad, row - left - mid);
    }
    memset(to, 0, s->t.mr * (size_t)s->w.sw * pixel); /* what is read beyond, but not wanted, are numbers of the right type */
}

/* The piece of a column from pixel x of a row on, where some of it lies beside the picture; of a row that does (NULL), all. */
static void turn_edge(const emb_step *s, const char *row, int64_t x, char *to)
{
    for (int64_t end = x + s->w.sw; x < end; x++, to += s->ic)
        if (row != NULL && x >= 0 && x < s->iw) memcpy(to, row + x * s->ic, s->ic);
        else memset(to, s->q8->x.zero, s->ic);
}

/* An upright copy of what the rows r are made of. */
static void turn_rows(const emb_step *s, const emb_rows *r, char *to)
{
    const emb_window *v = &s->w;
    const int64_t column = emb_column(s), n = (int64_t)columns(s) / column, piece = v->sw * s->ic;
    const int64_t inside = (v->left + v->sw - 1) / v->sw, beyond = (s->iw + v->left) / v->sw, end = beyond < n ? beyond : n;
    for (int64_t oy = r->oy0; oy < r->oy1; oy++, to += n * column)
        for (int64_t ky = 0; ky < v->kh; ky++) {
            const int64_t y = oy * v->sh - v->top + ky * v->dh;
            const char *row = y >= 0 && y < s->ih ? emb_x(s, r->x, (size_t)(y - r->x_first) * s->iw * s->ic) : NULL;
            char *at = to + ky * piece;
            int64_t i = 0;
            for (; i < n && (i < inside || row == NULL); i++) turn_edge(s, row, i * v->sw - v->left, at + i * column);
            for (; i < end; i++) memcpy(at + i * column, row + (i * v->sw - v->left) * s->ic, EMB_PIECE);
            for (; i < n; i++) turn_edge(s, row, i * v->sw - v->left, at + i * column);
        }
}

/* Lines of pixels of the result, each made from pixels `step` bytes apart. */
typedef struct {
    const char *x, *end; /* the first tap of the first pixel; what may be read */
    size_t step, line;   /* bytes from pixel to pixel and from line to line */
    uint32_t lines, pixels, row, gap; /* of each line: `row` wanted ones, `gap` others, and again */
    size_t tap_row, tap;
} grid;

static grid grid_of(const emb_walk *w, const emb_step *s, const emb_rows *r)
{
    const emb_window *v = &s->w;
    const size_t pixel = (size_t)s->ic * s->x_bytes, row = pitch(s) * pixel;
    const uint32_t rows = r->oy1 - r->oy0;
    grid g = {.step = (size_t)v->sw * pixel, .line = (size_t)v->sh * row, .lines = rows, .pixels = s->ow, .row = s->ow, .tap_row = (size_t)v->dh * row,
              .tap = (size_t)v->dw * pixel};
    if (s->upright) {
        char *to = emb_at(w, s->scratch);
        turn_rows(s, r, to);
        g.x = to;
        g.end = to + w->p->buffers[s->scratch].bytes;
        g.step = emb_column(s);
        g.line = columns(s);
        return g;
    }
    if (padded(s)) {
        char *to = emb_at(w, s->scratch);
        pad_rows(s, r, to);
        g.x = to;
        g.end = to + w->p->buffers[s->scratch].bytes;
    } else {
        g.x = emb_x(s, r->x, (size_t)(r->oy0 * v->sh - r->x_first) * s->iw * s->ic);
        g.end = g.x + ((size_t)(rows - 1) * (size_t)v->sh + (size_t)((v->kh - 1) * v->dh) + 1) * row;
    }
    if (one_line(s)) {
        g.lines = 1;
        g.gap = pitch(s) - s->ow;
        g.pixels = rows * pitch(s) - g.gap;
    }
    return g;
}

typedef struct { /* a tile: its first pixel among those of a line, and among those of the result */
    const char *x;
    uint32_t m, at, there;
    size_t pixel;
} spot;

typedef struct { /* where the next tile begins */
    uint32_t line, first, at; /* its line, its pixel there, and that among `row` wanted ones and `gap` others */
    size_t pixel;             /* of the result, that these begin with */
} place;

/* The next tile. Counted on from the last one: a division takes a tenth of the time of a tile that AMX multiplies. */
static spot next_spot(const emb_step *s, const grid *g, place *p, size_t reach)
{
    const uint32_t mr = s->t.mr, left = g->pixels - p->first, width = g->row + g->gap;
    spot t = {.x = g->x + p->line * g->line + p->first * g->step, .m = left < mr ? left : mr, .at = p->at};
    t.pixel = p->pixel + (p->at < g->row ? p->at : g->row);
    const size_t there = (size_t)(g->end - t.x);
    t.there = there >= reach + (mr - 1) * g->step ? mr : there < reach ? 0 : (uint32_t)((there - reach) / g->step) + 1;
    p->first += mr;
    p->at += mr;
    for (; p->at >= width; p->at -= width) p->pixel += g->row;
    if (p->first >= g->pixels) p->line++, p->first = p->at = 0, p->pixel = (size_t)p->line * g->row;
    return t;
}

/* All panels of a group over some tiles. */
static void run_group(const emb_walk *w, const emb_step *s, const emb_rows *r, const grid *g, const spot *spots, uint32_t n, uint32_t group, const char *weights)
{
    const uint32_t groups = (uint32_t)s->w.group, oc = s->oc / groups, ic = s->ic / groups, nr = s->t.nr, panels = (oc + nr - 1) / nr;
    const uint32_t taps = emb_conv_taps(s), run = emb_conv_run(s), kh = s->upright ? 1 : (uint32_t)s->w.kh, kw = taps / kh;
    const size_t panel = emb_panel_bytes(&s->t, nr, taps, run), row = emb_panel_row(&s->t, nr);
    const void **ptr = w->ptr;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t ky = 0; ky < kh; ky++)
            for (uint32_t kx = 0; kx < kw; kx++) *ptr++ = spots[i].x + (size_t)group * ic * s->x_bytes + ky * g->tap_row + kx * g->tap;
    for (uint32_t p = 0; p < panels; p++) {
        const size_t c = (size_t)group * oc + p * nr, column = (size_t)nr * (group * panels + p);
        emb_tile t = emb_conv_tile(s, column, oc - p * nr < nr ? oc - p * nr : nr);
        t.b = weights + emb_panel_bytes(&s->t, oc, taps, run) * group + panel * p;
        t.taps = taps, t.k = run;
        t.step = g->step, t.row = g->gap > 0 ? g->row : 0, t.gap = g->gap;
        t.next = (const char *)t.b + panel;
        t.next_step = (uint32_t)row / n;
        for (uint32_t i = 0; i < n; i++, t.next += panel / row * t.next_step) {
            const spot *at = &spots[i];
            t.a = w->ptr + (size_t)i * taps;
            t.at = at->at;
            t.there = at->there;
            t.c = emb_y(s, r->y, at->pixel * s->y_pixel + c);
            t.residual = r->residual != NULL ? (const char *)r->residual + (at->pixel * s->y_pixel + c) * s->r_bytes : NULL;
            s->t.tile(&t, at->m);
        }
    }
}

static void run_band(const emb_walk *w, const emb_step *s, const emb_rows *r, const char *weights)
{
    const grid g = grid_of(w, s, r);
    const uint32_t run = rounds(s, emb_conv_run(s)) * s->t.round;
    const size_t last = (size_t)(s->w.group - 1) * (s->ic / (uint32_t)s->w.group) + run; /* channels behind the first of a pixel that are read */
    const size_t below = s->upright ? 0 : (size_t)(s->w.kh - 1) * g.tap_row, reach = below + (s->merged ? 0 : (size_t)(s->w.kw - 1) * g.tap) + last * s->x_bytes;
    const uint32_t tiles = g.lines * ((g.pixels + s->t.mr - 1) / s->t.mr), blocks = (tiles + EMB_BLOCK_TILES - 1) / EMB_BLOCK_TILES;
    spot spots[EMB_BLOCK_TILES];
    place at = {0};
    for (uint32_t b = 0, n; b < blocks; b++) {
        n = tiles / blocks + (b < tiles % blocks);
        for (uint32_t i = 0; i < n; i++) spots[i] = next_spot(s, &g, &at, reach);
        for (uint32_t group = 0; group < (uint32_t)s->w.group; group++) run_group(w, s, r, &g, spots, n, group, weights);
    }
}

void emb_run_even(const emb_walk *w, const emb_step *s, const emb_rows *r)
{
    const char *weights = emb_conv_weights(w, s, r);
    const size_t row = (size_t)s->ow * s->y_pixel;
    const uint32_t rows = band(s);
    emb_rows some = *r;
    for (; some.oy0 < r->oy1; some.oy0 = some.oy1) {
        some.oy1 = r->oy1 - some.oy0 < rows ? r->oy1 : some.oy0 + rows;
        run_band(w, s, &some, weights);
        const size_t made = (some.oy1 - some.oy0) * row;
        some.y = emb_y(s, some.y, made);
        if (some.residual != NULL) some.residual = (const char *)some.residual + made * s->r_bytes;
    }
    if (s->act == EMB_ACT_GELU) w->p->k->act(r->y, (size_t)(r->oy1 - r->oy0) * s->ow * s->oc, s->act, s->act_a, s->act_b);
}
