/* q8_table.c: activations as tables. What a quantised step stores has 8 bits, so that its activation need not be computed: lines between
 * the points of a curve are as good, and 16-bit arithmetic finds them for twice as many numbers in a third of the time. */
#include "q8.h"

#include <math.h>

enum { STEP = EMB_Q8_TABLE_STEP, PER_LINE = 8 };
static const double settled_by = 0.1;              /* steps of the result that are nothing: the table ends where so much remains */
static const double good = 0.125, tolerable = 0.4; /* steps that a table is off; a result's rounding is off by 0.5 */

typedef struct {
    emb_act act;
    float a, b, scale, zero;
} curve;

/* In steps of the result, before it is rounded. */
static double at(const curve *c, double x)
{
    float v = (float)x;
    emb_kernels_ref.act(&v, 1, c->act, c->a, c->b);
    return (double)v * (double)c->scale + (double)c->zero;
}

static double clipped(double y) { return fmin(fmax(y, -0.5), 255.5); }
static bool settled(const curve *c, double x, double end) { return fabs(clipped(at(c, x)) - clipped(at(c, end))) <= settled_by; }

/* How far from `end` towards `from`, where it is not, the curve is settled. */
static double border(const curve *c, double end, double from)
{
    double in = end, out = from;
    for (int i = 0; i < 48; i++) {
        double middle = 0.5 * (in + out);
        if (settled(c, middle, end)) in = middle;
        else out = middle;
    }
    return in;
}

/* The numbers x that the table is about, and whether those below need the function itself. */
static bool domain(const curve *c, double *lo, double *hi, bool *partial)
{
    const double far = fmin(fmax(32, 512 / (double)c->scale), 1e30);
    const double valley = c->act == EMB_ACT_SWISH ? -1.2784645 : c->act == EMB_ACT_HSWISH ? -1.5 : c->act == EMB_ACT_GELU ? -0.7517916 : -far;
    *partial = false;
    if (settled(c, valley, far)) return false;
    *hi = border(c, far, valley);
    if (settled(c, valley, -far)) {
        *lo = border(c, valley, *hi);
        return true;
    }
    if (at(c, valley) > -0.5) {
        *lo = border(c, -far, valley);
        return true;
    }
    /* A grid that has no place for the valley, because nobody has seen numbers from there, needs none for what lies behind it, which would make
     * up most of the table. */
    const double floor = border(c, valley, *hi);
    *lo = fmax(valley, floor - (*hi - floor));
    *partial = true;
    return true;
}

/* Of each of n segments the line through the curve at Gauss's two points: off by nothing on average, so that sums over it are right. (The line
 * of the smallest error is off by a third of that.) */
static void lines(emb_q8_table *t, const curve *c, double lo, double width, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const double middle = lo + width * (i + 0.5), apart = width * 0.28867513;
        const double y0 = fmin(at(c, middle - apart), 511), y1 = fmin(at(c, middle + apart), 511), rise = (y1 - y0) * 1.7320508;
        const double low = fmax(0.5 * (y0 + y1 - rise), -511), high = fmax(0.5 * (y0 + y1 + rise), -511);
        const uint32_t s = (i + n / 2) % n; /* u is negative in the first half */
        t->slope[s] = (int16_t)lrint((high - low) * STEP);
        t->base[s] = (int16_t)lrint((i % 2 == 0 ? low : high) * STEP);
    }
}

/* By how many steps the table is off, at worst, before rounding. */
static double worst(const emb_q8_table *t, const curve *c, double lo, double width, uint32_t n)
{
    double most = 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < PER_LINE; k++) {
            const double part = (k + 0.5) / PER_LINE;
            const uint32_t s = (i + n / 2) % n;
            const double y = (t->base[s] + (part - (i % 2 == 0 ? 0 : 1)) * t->slope[s]) / STEP;
            most = fmax(most, fabs(clipped(y) - clipped(at(c, lo + width * (i + part)))));
        }
    return most;
}

bool emb_q8_table_make(emb_q8_table *t, emb_act act, float a, float b, float y_scale, float y_zero)
{
    const curve c = {act, a, b, y_scale, y_zero};
    double lo, hi;
    if (act == EMB_ACT_NONE || !(y_scale > 0) || !isfinite(y_scale + y_zero + a + b) || !domain(&c, &lo, &hi, &t->partial)) return false;
    for (uint32_t n = EMB_Q8_TABLE_LINES / 2; n <= EMB_Q8_TABLE_LINES; n *= 2) {
        double width = (hi - lo) / n;
        if (act == EMB_ACT_HSWISH && lo < 3 && hi > 3) width = (3 - lo) / floor((3 - lo) / width); /* its bend lies between two lines */
        t->fine = n == EMB_Q8_TABLE_LINES;
        t->scale = (float)(65536 / (width * n));
        t->shift = (float)(-32768 - lo * 65536 / (width * n));
        if (!(width > 0) || !isnormal(t->scale) || fabsf(t->shift) > 1e9f) return false;
        lines(t, &c, lo, width, n);
        if (worst(t, &c, lo, width, n) <= (t->fine ? tolerable : good)) return true;
    }
    return false;
}
