/* winograd_q8.c: quantised 3 x 3 convolutions of stride 1 by Winograd's F(4 x 4, 3 x 3) in whole numbers, for tables that have kernels for it (see
 * emb_q8_winograd, which says why every sum is what its definition says). Panel after panel over a block of tiles: the sums of one panel
 * stay in the first caches. */
#include "run.h"

#include <string.h>

enum { SIDE = 6, EACH = SIDE - 2, PLACES = SIDE * SIDE, NEAR = 1024 * 1024, LEAST = 16 };

static size_t pairs_of(const emb_step *s) { return (s->ic + 1) / 2; }
static size_t row_of(const emb_step *s) { return ((size_t)s->ic + 15) / 16 * 16; }                                  /* words of a tile's place */
static size_t plane_of(const emb_step *s) { return ((row_of(s) * s->block + 31) / 32 | 1) * 32; }                   /* and those of a block, an odd number of lines */
static size_t sums_plane_of(const emb_step *s) { return ((size_t)s->block | 1) * s->t.nr; }
size_t emb_q8_winograd_panel(const emb_step *s) { return PLACES * pairs_of(s) * s->t.nr * 2 * sizeof(int16_t); }

size_t emb_q8_winograd_scratch(const emb_step *s) { return PLACES * (plane_of(s) * sizeof(int16_t) + sums_plane_of(s) * sizeof(int32_t)); }

/* Counted in vector operations: two for 16 products either way, more for what tiles of the direct way widen, about 250 and 450 to transform 16 channels of
 * a tile; a byte of weights, of which there are eight times as many, takes as long as one where they come from memory. */
static bool faster(const emb_step *s, uint32_t tiles)
{
    const double ic = s->ic, oc = s->oc, bytes = PLACES * 2 * ic * oc;
    const double direct = (double)s->oh * s->ow * 9 * ic * oc / 8 * 1.2, products = (double)tiles * PLACES * ic * oc / 8;
    return products + tiles * (ic * 250 + oc * 450) / 16 + bytes < direct;
}

bool emb_q8_winograd_pays(emb_step *s, const int8_t *w)
{
    const emb_window *v = &s->w;
    if (v->kh != 3 || v->kw != 3 || v->sh != 1 || v->sw != 1 || v->dh != 1 || v->dw != 1 || v->group != 1 || s->ic < 16 || s->oc < 16 || s->act == EMB_ACT_GELU) return false;
    s->side = SIDE; /* which says nothing where this is not the way */
    const uint32_t tiles = emb_winograd_tiles(s);
    if (!faster(s, tiles)) return false;
    for (size_t o = 0, n = (size_t)s->ic * 9; o < s->oc; o++, w += n) {
        int32_t more = 0, less = 0;
        for (size_t i = 0; i < n; i++) more += w[i] > 0 ? w[i] : 0, less += w[i] < 0 ? -w[i] : 0;
        if (more > EMB_Q8_WINOGRAD_MOST || less > EMB_Q8_WINOGRAD_MOST) return false;
    }
    uint32_t most = (uint32_t)(NEAR / (PLACES * sizeof(int16_t) * row_of(s)));
    if (most < LEAST) most = LEAST;
    const uint32_t blocks = (tiles + most - 1) / most;
    s->block = (tiles + blocks - 1) / blocks;
    s->t.bytes = sizeof(int16_t);
    return true;
}

typedef int16_t lanes[2 * EMB_MAX_NR]; /* two channels of the picture for each column of a panel, as they lie there */

/* One dimension of G g G^T, without its fractions: three values, `from` apart, to six, `to` apart. */
static void transform_three(const lanes *g, int from, lanes *u, int to, size_t n)
{
    for (size_t l = 0; l < n; l++) {
        const int a = g[0][l], b = g[from][l], c = g[2 * from][l];
        u[0][l] = (int16_t)a;
        u[to][l] = (int16_t)(a + b + c);
        u[2 * to][l] = (int16_t)(a - b + c);
        u[3 * to][l] = (int16_t)(a + 2 * b + 4 * c);
        u[4 * to][l] = (int16_t)(a - 2 * b + 4 * c);
        u[5 * to][l] = (int16_t)c;
    }
}

void emb_q8_winograd_pack(const emb_step *s, const int8_t *w, uint32_t n, int16_t *to)
{
    const size_t row = 2 * (size_t)s->t.nr, place = pairs_of(s) * row;
    for (uint32_t c = 0; c < s->ic; c += 2, to += row) {
        lanes g[9] = {{0}}, t[3 * SIDE], u[PLACES];
        for (uint32_t j = 0; j < n; j++)
            for (uint32_t k = 0; k < 2 && c + k < s->ic; k++)
                for (size_t i = 0; i < 9; i++) g[i][2 * emb_q8_column(s->t.nr, j) + k] = w[((size_t)j * s->ic + c + k) * 9 + i];
        for (int i = 0; i < 3; i++) transform_three((const lanes *)g + i, 3, t + i, 3, row);
        for (int i = 0; i < SIDE; i++) transform_three((const lanes *)t + 3 * i, 1, u + SIDE * i, 1, row);
        for (size_t e = 0; e < PLACES; e++) memcpy(to + e * place, u[e], row * sizeof *to);
    }
}

void emb_run_q8_winograd(const emb_walk *w, const emb_step *s)
{
    const emb_q8_winograd *k = w->p->q8->winograd;
    const uint8_t *x = emb_at(w, s->in[0]), *res = s->residual >= 0 ? emb_at(w, s->residual) : NULL;
    void *y = emb_y(s, emb_at(w, s->out), s->y_offset);
    const uint32_t across = (s->ow + EACH - 1) / EACH, tiles = emb_winograd_tiles(s), nr = s->t.nr;
    const size_t row = row_of(s), plane = plane_of(s), sums_plane = sums_plane_of(s);
    int32_t *sums = emb_at(w, s->scratch); /* first, because they have to lie on whole lines */
    uint16_t *v = (uint16_t *)(void *)(sums + PLACES * sums_plane);
    for (uint32_t t0 = 0; t0 < tiles; t0 += s->block) {
        const uint32_t n = tiles - t0 < s->block ? tiles - t0 : s->block;
        for (uint32_t t = 0; t < n; t++) {
            const void *px[PLACES];
            emb_winograd_pixels(s, x, s->q8->padding, (int64_t)((t0 + t) / across * EACH) - s->w.top, (int64_t)((t0 + t) % across * EACH) - s->w.left, px);
            k->in(px, s->ic, v + t * row, plane);
        }
        const char *weights = s->weights;
        for (uint32_t o = 0; o < s->oc; o += nr, weights += emb_q8_winograd_panel(s)) {
            emb_tile tile = emb_conv_tile(s, o, s->oc - o < nr ? s->oc - o : nr);
            k->sums(v, plane, (uint32_t)row, n, weights, (uint32_t)pairs_of(s), sums, sums_plane);
            for (uint32_t t = 0; t < n; t++) {
                const uint32_t oy = (t0 + t) / across * EACH, ox = (t0 + t) % across * EACH;
                const size_t at = ((size_t)oy * s->ow + ox) * s->y_pixel + o;
                tile.c = emb_y(s, y, at);
                tile.residual = res != NULL ? res + at : NULL;
                k->out(sums + (size_t)t * nr, sums_plane, &tile, s->oh - oy < EACH ? s->oh - oy : EACH, s->ow - ox < EACH ? s->ow - ox : EACH, (size_t)s->ow * s->y_pixel);
            }
        }
    }
}
