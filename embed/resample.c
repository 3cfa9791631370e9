/* resample.c: windows, and the walk of two passes. The vertical pass comes first: it runs over whole rows of bytes, which vector
 * code likes best, and leaves fewer rows for the horizontal one. The picture is read once and nothing larger than a row is held. */
#include "resample.h"
#include "image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void emb_scratch_free(emb_scratch *s)
{
    free(s->mem);
    *s = (emb_scratch){0};
}

/* ---- windows ------------------------------------------------------------------------------------ */

static double support(emb_filter f) { return f == EMB_LANCZOS ? 3 : f == EMB_BICUBIC ? 2 : 1; }

/* sin(a), 0 <= a <= pi: Taylor's first six terms about 0, mirrored at pi / 2; within 6e-8, the same everywhere and quicker than
 * the library's, which matters for some thousand weights a picture. */
static double sine(double a)
{
    const double pi = 3.14159265358979323846;
    if (a > pi / 2) a = pi - a;
    const double q = a * a;
    return a * (1 - q * (1 / 6.) * (1 - q * (1 / 20.) * (1 - q * (1 / 42.) * (1 - q * (1 / 72.) * (1 - q * (1 / 110.))))));
}

static double lanczos(double x)
{
    const double pi = 3.14159265358979323846, s = sine(pi / 3 * x); /* sin(pi x) = 3 s - 4 s^3 */
    return x < 1e-6 ? 1 : 3 * s * s * (3 - 4 * s * s) / (pi * pi * x * x);
}

static double weight(emb_filter f, double x)
{
    x = fabs(x);
    if (x >= support(f)) return 0;
    if (f == EMB_LANCZOS) return lanczos(x);
    if (f == EMB_BICUBIC) return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : ((-0.5 * x + 2.5) * x - 4) * x + 2;
    return 1 - x;
}

static uint32_t pad(uint32_t n) { return (n + EMB_RESAMPLE_PAD - 1) / EMB_RESAMPLE_PAD * EMB_RESAMPLE_PAD; }

/* Whole samples that a window can touch, and as many as its beginning may be off its place. */
static uint32_t axis_taps(double scale, emb_filter f, uint32_t align)
{
    return pad((uint32_t)floor(2 * support(f) * fmax(scale, 1)) + align);
}

/* Weights of one output as integers with an exact sum: rounded, and what is missing goes to the largest. */
static void quantise(const double *w, uint32_t n, int16_t *k)
{
    double sum = 0;
    for (uint32_t t = 0; t < n; t++) sum += w[t];
    double scale = (1 << EMB_RESAMPLE_BITS) / sum;
    int32_t left = 1 << EMB_RESAMPLE_BITS;
    uint32_t largest = 0;
    for (uint32_t t = 0; t < n; t++) {
        k[t] = (int16_t)(w[t] * scale + (w[t] < 0 ? -0.5 : 0.5));
        left -= k[t];
        if (k[t] > k[largest]) largest = t;
    }
    k[largest] = (int16_t)(k[largest] + left);
}

/* Windows begin at multiples of `align`. */
static void axis_init(emb_axis *a, double *w, double from, double to, uint32_t in, uint32_t out, emb_filter f, uint32_t align)
{
    double scale = (to - from) / out, stretch = fmax(scale, 1), reach = support(f) * stretch;
    for (uint32_t o = 0; o < out; o++) {
        double centre = from + (o + 0.5) * scale;
        double lo = floor(centre - reach + 0.5), hi = floor(centre + reach + 0.5);
        uint32_t first = lo < 0 ? 0 : (uint32_t)lo, last = hi > in ? in : (uint32_t)hi;
        if (first >= in) first = in - 1;
        if (last <= first) last = first + 1;
        uint32_t off = first % align, n = last - first;
        if (n > a->taps - off) n = a->taps - off;
        for (uint32_t t = 0; t < n; t++) w[t] = weight(f, (first + t + 0.5 - centre) / stretch);
        if (n == 1) w[0] = 1;
        int16_t *k = a->weight + (size_t)o * a->taps;
        memset(k, 0, a->taps * sizeof *k);
        quantise(w, n, k + off);
        a->first[o] = first - off;
        a->count[o] = off + n;
    }
}

/* ---- the walk ----------------------------------------------------------------------------------- */

typedef struct { /* what windows depend on */
    double box[4];
    uint32_t in_w, in_h, w, h;
    emb_filter filter;
} geometry;

typedef struct { /* at the head of the scratch, its arrays behind it */
    geometry of;
    emb_axis x, y;
    size_t column, width; /* first source column that is needed, and how many are */
    uint8_t *wide;        /* one row of the source's columns, with EMB_IMAGE_SLACK readable bytes behind it */
    int16_t *spread;      /* the same for the horizontal pass */
    uint8_t *line;        /* one row of the result */
    const uint8_t **rows; /* the window of one output row */
    double *weights;
} plan;

/* Only the columns that some window touches are worth a vertical pass. */
static void narrow(plan *p, uint32_t w, uint32_t in)
{
    const uint32_t last = w - 1, end = p->x.first[last] + p->x.count[last];
    p->column = p->x.first[0];
    p->width = (end < in ? end : in) - p->column;
    for (uint32_t o = 0; o < w; o++) p->x.first[o] -= (uint32_t)p->column;
}

static void *carve(char **at, size_t bytes)
{
    void *p = *at;
    *at += (bytes + 31) / 32 * 32;
    return p;
}

static bool same(const geometry *a, const geometry *b)
{
    return memcmp(a->box, b->box, sizeof a->box) == 0 && a->in_w == b->in_w && a->in_h == b->in_h && a->w == b->w && a->h == b->h &&
           a->filter == b->filter;
}

/* The plan in the scratch: the one that is there where the last picture was of the same size, as most of a shop's are; else carved
 * anew. The scratch grows only when a larger picture than ever comes. */
static emb_status plan_get(const geometry *g, emb_scratch *s, plan **out, emb_error *err)
{
    const uint32_t w = g->w, h = g->h, x_taps = axis_taps((g->box[2] - g->box[0]) / w, g->filter, EMB_RESAMPLE_PAD);
    const uint32_t y_taps = axis_taps((g->box[3] - g->box[1]) / h, g->filter, 1);
    const size_t taps = x_taps > y_taps ? x_taps : y_taps, wide = (size_t)g->in_w * 3 + EMB_IMAGE_SLACK;
    const size_t spread = emb_spread_bytes(g->in_w + x_taps), line = (size_t)w * 3 + EMB_IMAGE_SLACK;
    const size_t need = sizeof(plan) + taps * sizeof(double) + y_taps * sizeof(void *) + 2 * ((size_t)w + h) * sizeof(uint32_t) +
                        ((size_t)w * x_taps + (size_t)h * y_taps) * sizeof(int16_t) + line + wide + spread + 13 * 32;
    if (s->bytes < need) {
        free(s->mem);
        *s = (emb_scratch){.mem = calloc(1, need)};
        if (s->mem == NULL) return emb_fail(err, EMB_ENOMEM, "no memory to resize a picture");
        s->bytes = need;
    }
    char *at = (char *)(((uintptr_t)s->mem + 31) / 32 * 32);
    plan *p = *out = carve(&at, sizeof *p);
    if (same(&p->of, g)) return EMB_OK;
    p->of = *g;
    p->x.taps = x_taps;
    p->y.taps = y_taps;
    p->weights = carve(&at, taps * sizeof(double));
    p->rows = carve(&at, p->y.taps * sizeof(void *));
    p->x.first = carve(&at, w * sizeof(uint32_t));
    p->x.count = carve(&at, w * sizeof(uint32_t));
    p->y.first = carve(&at, h * sizeof(uint32_t));
    p->y.count = carve(&at, h * sizeof(uint32_t));
    p->x.weight = carve(&at, (size_t)w * p->x.taps * sizeof(int16_t));
    p->y.weight = carve(&at, (size_t)h * p->y.taps * sizeof(int16_t));
    p->line = carve(&at, line);
    p->wide = carve(&at, wide);
    p->spread = carve(&at, spread);
    axis_init(&p->x, p->weights, g->box[0], g->box[2], g->in_w, w, g->filter, EMB_RESAMPLE_PAD);
    axis_init(&p->y, p->weights, g->box[1], g->box[3], g->in_h, h, g->filter, 1);
    narrow(p, w, g->in_w);
    memset(p->wide + p->width * 3, 0, EMB_IMAGE_SLACK);
    memset(p->spread, 0, spread); /* windows may end behind the row, with weights of zero */
    return EMB_OK;
}

emb_status emb_resample(emb_view src, const double box[4], uint32_t w, uint32_t h, emb_filter filter, emb_scratch *scratch,
                        emb_row_sink *sink, void *ctx, emb_error *err)
{
    const emb_pixels *px = emb_pixels_get();
    const geometry g = {{box[0], box[1], box[2], box[3]}, src.width, src.height, w, h, filter};
    plan *p = NULL;
    emb_status st = plan_get(&g, scratch, &p, err);
    if (st != EMB_OK) return st;
    for (uint32_t o = 0; o < h; o++) {
        const uint8_t *first = src.px + src.stride_bytes * p->y.first[o] + p->column * 3;
        for (uint32_t t = 0; t < p->y.count[o]; t++) p->rows[t] = first + src.stride_bytes * t;
        px->resample_col(p->rows, p->y.weight + (size_t)o * p->y.taps, p->y.count[o], p->width * 3, p->wide);
        px->spread(p->wide, p->width, p->spread);
        px->resample_row(p->spread, &p->x, w, p->line);
        sink(ctx, o, p->line);
    }
    return EMB_OK;
}

emb_status emb_crop_box(emb_view src, const emb_crop *c, double box[4], emb_error *err)
{
    const bool partial = src.part.x1 > 0;
    const double x0 = partial ? (double)src.part.x0 : 0, w = partial ? (double)(src.part.x1 - src.part.x0) : src.width;
    const double y0 = partial ? (double)src.part.y0 : 0, h = partial ? (double)(src.part.y1 - src.part.y0) : src.height;
    const emb_crop whole = {0, 0, 1, 1};
    if (c == NULL || (c->x == 0 && c->y == 0 && c->w == 0 && c->h == 0)) c = &whole;
    const double over = 1e-5; /* sums of decimal fractions may miss 1 by a rounding */
    if (!(c->x >= 0 && c->y >= 0 && c->w > 0 && c->h > 0 && c->x + c->w <= 1 + over && c->y + c->h <= 1 + over))
        return emb_fail(err, EMB_EINVAL, "crop is x %g, y %g, w %g, h %g; it must be a part of 0..1 with w and h above 0",
                        (double)c->x, (double)c->y, (double)c->w, (double)c->h);
    box[0] = x0 + (double)c->x * w;
    box[1] = y0 + (double)c->y * h;
    box[2] = fmin(x0 + ((double)c->x + (double)c->w) * w, x0 + w);
    box[3] = fmin(y0 + ((double)c->y + (double)c->h) * h, y0 + h);
    return EMB_OK;
}
