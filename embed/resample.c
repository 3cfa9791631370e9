/* resample.c: windows, the scalar reference, and the walk of two passes. The vertical pass comes first: it runs over whole
 * rows of bytes, which vector code likes best, and leaves fewer rows for the horizontal one, whose windows are short. The
 * picture is read once and nothing larger than a row is held. */
#include "resample.h"
#include "cpu.h"
#include "image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void emb_scratch_free(emb_scratch *s)
{
    free(s->mem);
    *s = (emb_scratch){0};
}

void emb_resample_row_ref(const uint8_t *row, const emb_axis *axis, uint32_t out_w, uint8_t *out)
{
    for (uint32_t o = 0; o < out_w; o++) {
        const uint8_t *p = row + (size_t)axis->first[o] * 3;
        const int16_t *k = axis->weight + (size_t)o * axis->taps;
        int32_t sum[3] = {1 << (EMB_RESAMPLE_BITS - 1), 1 << (EMB_RESAMPLE_BITS - 1), 1 << (EMB_RESAMPLE_BITS - 1)};
        for (uint32_t t = 0; t < axis->count[o]; t++)
            for (int c = 0; c < 3; c++) sum[c] += p[t * 3 + (uint32_t)c] * k[t];
        for (int c = 0; c < 3; c++) {
            int32_t v = sum[c] >> EMB_RESAMPLE_BITS;
            out[o * 3 + (uint32_t)c] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
        }
    }
}

void emb_resample_col_ref(const uint8_t *const *rows, const int16_t *weight, uint32_t taps, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        int32_t sum = 1 << (EMB_RESAMPLE_BITS - 1);
        for (uint32_t t = 0; t < taps; t++) sum += rows[t][i] * weight[t];
        int32_t v = sum >> EMB_RESAMPLE_BITS;
        out[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
}

static uint32_t axis_taps(double scale)
{
    double support = scale > 1 ? scale : 1;
    uint32_t taps = (uint32_t)floor(2 * support) + 1; /* whole samples that a window of 2 x support can touch */
    return (taps + EMB_RESAMPLE_PAD - 1) / EMB_RESAMPLE_PAD * EMB_RESAMPLE_PAD;
}

/* Weights of one output as integers with an exact sum: rounded, and what is missing goes to the largest. */
static void quantise(const double *w, uint32_t n, int16_t *k)
{
    double sum = 0;
    for (uint32_t t = 0; t < n; t++) sum += w[t];
    int32_t left = 1 << EMB_RESAMPLE_BITS;
    uint32_t largest = 0;
    for (uint32_t t = 0; t < n; t++) {
        k[t] = (int16_t)lrint(w[t] / sum * (1 << EMB_RESAMPLE_BITS));
        left -= k[t];
        if (k[t] > k[largest]) largest = t;
    }
    k[largest] = (int16_t)(k[largest] + left);
}

static void axis_init(emb_axis *a, double *w, double from, double to, uint32_t in, uint32_t out)
{
    double scale = (to - from) / out, support = scale > 1 ? scale : 1;
    for (uint32_t o = 0; o < out; o++) {
        double centre = from + (o + 0.5) * scale;
        double lo = floor(centre - support + 0.5), hi = floor(centre + support + 0.5);
        uint32_t first = lo < 0 ? 0 : (uint32_t)lo, last = hi > in ? in : (uint32_t)hi;
        if (first >= in) first = in - 1;
        if (last <= first) last = first + 1;
        uint32_t n = last - first < a->taps ? last - first : a->taps;
        for (uint32_t t = 0; t < n; t++) {
            double v = 1 - fabs((first + t + 0.5 - centre) / support);
            w[t] = v > 0 ? v : 0;
        }
        if (n == 1) w[0] = 1;
        int16_t *k = a->weight + (size_t)o * a->taps;
        memset(k, 0, a->taps * sizeof *k);
        quantise(w, n, k);
        a->first[o] = first;
        a->count[o] = n;
    }
}

typedef struct {
    emb_axis x, y;
    size_t column, width; /* first source column that is needed, and how many are */
    uint8_t *wide;        /* one row of the source's columns, with EMB_IMAGE_SLACK readable bytes behind it */
    uint8_t *line;        /* one row of the result */
    const uint8_t **rows; /* the window of one output row */
    double *weights;
} plan;

/* Only the columns that some window touches are worth a vertical pass. */
static void narrow(plan *p, uint32_t w)
{
    const uint32_t last = w - 1;
    p->column = p->x.first[0];
    p->width = p->x.first[last] + p->x.count[last] - p->column;
    for (uint32_t o = 0; o < w; o++) p->x.first[o] -= (uint32_t)p->column;
}

/* Carves the plan out of the scratch, which grows only when a larger picture than ever comes. */
static emb_status plan_init(plan *p, const double box[4], emb_view src, uint32_t w, uint32_t h, emb_scratch *s,
                            emb_error *err)
{
    p->x.taps = axis_taps((box[2] - box[0]) / w);
    p->y.taps = axis_taps((box[3] - box[1]) / h);
    size_t taps = p->x.taps > p->y.taps ? p->x.taps : p->y.taps;
    size_t line = (size_t)w * 3 + EMB_IMAGE_SLACK, wide = (size_t)src.width * 3 + EMB_IMAGE_SLACK;
    size_t need = taps * sizeof(double) + p->y.taps * sizeof(void *) + 2 * ((size_t)w + h) * sizeof(uint32_t) +
                  ((size_t)w * p->x.taps + (size_t)h * p->y.taps) * sizeof(int16_t) + line + wide;
    if (s->bytes < need) {
        void *mem = realloc(s->mem, need);
        if (mem == NULL) return emb_fail(err, EMB_ENOMEM, "no memory to resize a picture");
        s->mem = mem;
        s->bytes = need;
    }
    char *at = s->mem; /* larger alignments first */
    p->weights = (double *)(void *)at, at += taps * sizeof(double);
    p->rows = (const uint8_t **)(void *)at, at += p->y.taps * sizeof(void *);
    p->x.first = (uint32_t *)(void *)at, at += w * sizeof(uint32_t);
    p->x.count = (uint32_t *)(void *)at, at += w * sizeof(uint32_t);
    p->y.first = (uint32_t *)(void *)at, at += h * sizeof(uint32_t);
    p->y.count = (uint32_t *)(void *)at, at += h * sizeof(uint32_t);
    p->x.weight = (int16_t *)(void *)at, at += (size_t)w * p->x.taps * sizeof(int16_t);
    p->y.weight = (int16_t *)(void *)at, at += (size_t)h * p->y.taps * sizeof(int16_t);
    p->line = (uint8_t *)at, at += line;
    p->wide = (uint8_t *)at;
    axis_init(&p->x, p->weights, box[0], box[2], src.width, w);
    axis_init(&p->y, p->weights, box[1], box[3], src.height, h);
    narrow(p, w);
    memset(p->wide + p->width * 3, 0, EMB_IMAGE_SLACK);
    return EMB_OK;
}

emb_status emb_resample(emb_view src, double x0, double y0, double x1, double y1, uint32_t w, uint32_t h,
                        emb_scratch *scratch, emb_row_sink *sink, void *ctx, emb_error *err)
{
    emb_resample_row_fn *row_fn = emb_resample_row_ref;
    emb_resample_col_fn *col_fn = emb_resample_col_ref;
#if defined(__x86_64__)
    if (emb_cpu_features() & EMB_CPU_AVX2) {
        row_fn = emb_resample_row_avx2;
        col_fn = emb_resample_col_avx2;
    }
#endif
    plan p;
    emb_status st = plan_init(&p, (double[4]){x0, y0, x1, y1}, src, w, h, scratch, err);
    if (st != EMB_OK) return st;
    for (uint32_t o = 0; o < h; o++) {
        const uint8_t *first = src.px + src.stride_bytes * p.y.first[o] + p.column * 3;
        for (uint32_t t = 0; t < p.y.count[o]; t++) p.rows[t] = first + src.stride_bytes * t;
        col_fn(p.rows, p.y.weight + (size_t)o * p.y.taps, p.y.count[o], p.width * 3, p.wide);
        row_fn(p.wide, &p.x, w, p.line);
        sink(ctx, o, p.line);
    }
    return EMB_OK;
}

emb_status emb_crop_box(emb_view src, const emb_crop *c, double box[4], emb_error *err)
{
    box[0] = box[1] = 0;
    box[2] = src.width;
    box[3] = src.height;
    if (c == NULL || (c->x == 0 && c->y == 0 && c->w == 0 && c->h == 0)) return EMB_OK;
    const double over = 1e-5; /* sums of decimal fractions may miss 1 by a rounding */
    if (!(c->x >= 0 && c->y >= 0 && c->w > 0 && c->h > 0 && c->x + c->w <= 1 + over && c->y + c->h <= 1 + over))
        return emb_fail(err, EMB_EINVAL, "crop is x %g, y %g, w %g, h %g; it must be a part of 0..1 with w and h above 0",
                        (double)c->x, (double)c->y, (double)c->w, (double)c->h);
    box[0] = (double)c->x * src.width;
    box[1] = (double)c->y * src.height;
    box[2] = fmin(((double)c->x + (double)c->w) * src.width, src.width);
    box[3] = fmin(((double)c->y + (double)c->h) * src.height, src.height);
    return EMB_OK;
}
