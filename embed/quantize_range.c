/* quantize_range.c: the numbers of every value over the photos, and from them its grid: 256 steps over the range in which rounding
 * and clipping together do least harm. */
#include "quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BINS = 4096 }; /* over -reach..reach; reach doubles when a number lies outside */

struct emb_histogram {
    float reach, lo, hi;
    uint64_t n, count[BINS];
};

static void widen(emb_histogram *h, float to)
{
    if (h->reach == 0) h->reach = to;
    while (h->reach < to) {
        uint64_t half[BINS] = {0};
        for (int i = 0; i < BINS; i++) half[BINS / 2 + (i - BINS / 2 - (i < BINS / 2)) / 2] += h->count[i];
        memcpy(h->count, half, sizeof half);
        h->reach *= 2;
    }
}

static void see(emb_histogram *h, const float *x, size_t n)
{
    float lo = INFINITY, hi = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) continue;
        lo = fminf(lo, x[i]);
        hi = fmaxf(hi, x[i]);
    }
    if (!(lo <= hi)) return;
    h->lo = h->n == 0 ? lo : fminf(h->lo, lo);
    h->hi = h->n == 0 ? hi : fmaxf(h->hi, hi);
    float most = fmaxf(fmaxf(-lo, hi), 1e-30f);
    if (most > h->reach) widen(h, most);
    float scale = (float)(BINS / 2) / h->reach;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) continue;
        int k = (int)floorf(x[i] * scale) + BINS / 2;
        h->count[k < 0 ? 0 : k >= BINS ? BINS - 1 : k]++;
    }
    h->n += n;
}

/* ---- the range ---------------------------------------------------------------------------------------- */

static void set_grid(emb_qvalue *v, float lo, float hi)
{
    lo = fminf(lo, 0);
    hi = fmaxf(hi, 0);
    v->scale = fmaxf((hi - lo) / 255, 1e-12f);
    float zero = rintf(-lo / v->scale);
    v->zero = (uint8_t)(zero < 0 ? 0 : zero > 255 ? 255 : zero);
}

/* Mean square of what rounding to the grid does to the numbers seen. */
static double harm(const emb_histogram *h, float lo, float hi)
{
    emb_qvalue v = {0};
    set_grid(&v, lo, hi);
    double sum = 0, width = (double)h->reach / (BINS / 2), inv = 1 / (double)v.scale;
    for (int i = 0; i < BINS; i++) {
        if (h->count[i] == 0) continue;
        double x = ((double)(i - BINS / 2) + 0.5) * width, r = rint(x * inv) + v.zero;
        r = r < 0 ? 0 : r > 255 ? 255 : r;
        double d = (r - v.zero) * (double)v.scale - x;
        sum += d * d * (double)h->count[i];
    }
    return sum;
}

/* Both ends together first, then each of its own, as long as it helps. */
static void least_harm(const emb_histogram *h, float *lo, float *hi)
{
    float l = fminf(h->lo, 0), u = fmaxf(h->hi, 0);
    double best = harm(h, l, u);
    *lo = l, *hi = u;
    for (int i = 1; i < 64; i++) {
        float f = (float)(64 - i) / 64;
        double e = harm(h, l * f, u * f);
        if (e < best) best = e, *lo = l * f, *hi = u * f;
    }
    for (int round = 0; round < 12; round++) {
        static const float by[4][2] = {{0.96f, 1}, {1.04f, 1}, {1, 0.96f}, {1, 1.04f}};
        bool better = false;
        for (int i = 0; i < 4; i++) {
            float a = fmaxf(*lo * by[i][0], l), b = fminf(*hi * by[i][1], u);
            double e = harm(h, a, b);
            if (e < best) best = e, *lo = a, *hi = b, better = true;
        }
        if (!better) break;
    }
}

/* Between the (100 - p)th and the pth percentile. */
static void percentile(const emb_histogram *h, double p, float *lo, float *hi)
{
    double outside = (double)h->n * (1 - p / 100), sum = 0, width = (double)h->reach / (BINS / 2);
    int a = 0, b = BINS - 1;
    for (; a < BINS && sum + (double)h->count[a] <= outside; a++) sum += (double)h->count[a];
    for (sum = 0; b > a && sum + (double)h->count[b] <= outside; b--) sum += (double)h->count[b];
    *lo = fmaxf((float)((a - BINS / 2) * width), h->lo);
    *hi = fminf((float)((b + 1 - BINS / 2) * width), h->hi);
}

static void choose(emb_quantizer *q)
{
    for (size_t v = 0; v < q->n_values; v++) {
        emb_qvalue *k = &q->values[v];
        if (!k->wanted || k->same >= 0) continue;
        float lo = 0, hi = 0;
        if (k->seen->n == 0) continue;
        if (q->opts->percentile > 0) percentile(k->seen, q->opts->percentile, &lo, &hi);
        else least_harm(k->seen, &lo, &hi);
        set_grid(k, lo, hi);
    }
    for (size_t v = 0; v < q->n_values; v++) {
        emb_qvalue *k = &q->values[v];
        if (k->same >= 0) k->scale = q->values[k->same].scale, k->zero = q->values[k->same].zero;
    }
}

/* ---- the photos ---------------------------------------------------------------------------------------- */

emb_status emb_quantize_input(emb_quantizer *q, size_t photo, float *in)
{
    return emb_preprocess(q->photos[photo], NULL, &q->pp, q->nhwc ? EMB_NHWC : EMB_NCHW, in, &q->scratch, q->err);
}

static void made(void *ctx, int32_t v, void *data)
{
    emb_quantizer *q = ctx;
    if (q->values[v].seen != NULL) see(q->values[v].seen, data, (size_t)emb_elements(&q->g->values[v].type));
}

emb_status emb_quantize_photos(emb_quantizer *q, size_t n, const char *what, const emb_watch *watch)
{
    const emb_graph *g = q->g;
    int32_t in = g->inputs[0];
    float *x = malloc(emb_type_bytes(&g->values[in].type) + 64);
    void **data = calloc(g->n_values, sizeof *data);
    emb_status st = x != NULL && data != NULL ? EMB_OK : emb_fail(q->err, EMB_ENOMEM, "%s: no memory", g->file);
    for (size_t i = 0; st == EMB_OK && i < n; i++) {
        for (size_t v = 0; v < g->n_values; v++) data[v] = g->values[v].data;
        data[in] = x;
        st = emb_quantize_input(q, i * q->n_photos / n, x);
        if (st == EMB_OK) watch->made(watch->ctx, in, x);
        if (st == EMB_OK) st = emb_graph_run(g, data, watch, q->err);
        emb_graph_release(g, data);
        if (q->opts->progress != NULL) q->opts->progress(q->opts->progress_ctx, what, i + 1, n);
    }
    free(x);
    free(data);
    return st;
}

emb_status emb_quantize_ranges(emb_quantizer *q)
{
    for (size_t v = 0; v < q->n_values; v++)
        if (q->values[v].wanted && q->values[v].same < 0 && (q->values[v].seen = calloc(1, sizeof(emb_histogram))) == NULL)
            return emb_fail(q->err, EMB_ENOMEM, "%s: no memory", q->g->file);
    emb_status st = emb_quantize_photos(q, q->n_photos, "ranges", &(emb_watch){made, q});
    if (st == EMB_OK) choose(q);
    return st;
}
