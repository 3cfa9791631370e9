/* q8_table.c: activations as tables. What a quantised step stores has 8 bits, so that its activation need not be computed: lines between
 * the points of a curve are as good, and 16-bit arithmetic finds them for twice as many numbers in a third of the time. */
#include "q8.h"

#include <math.h>

enum { LINES = EMB_Q8_TABLE_LINES, WIDTH = 65536 / LINES, PER_LINE = 8, FINEST = 64, COARSEST = 8 /* parts of a step */ };
static const double settled_by = 0.1; /* steps of the result that are nothing: the table ends where so much remains */
static const float fewest_steps = 8;  /* to 1: of fewer, one more or less is much of a number, which then is computed */
static const double tolerable = 0.4;  /* steps that a table is off; a result's rounding is off by 0.5 */

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

/* The lowest u of segment s. */
static int32_t begin(uint32_t s) { return (int32_t)(s < LINES / 2 ? s : s - LINES) * WIDTH; }

static int32_t slope_of(const emb_q8_table *t, uint32_t s) { return t->slope[s] * 256 + (uint8_t)t->slope[s]; }

/* Of each segment the line through the curve at Gauss's two points: off by nothing on average, so that sums over it are right. (The line of the
 * smallest error is off by a third of that.) lo is u = -32768, and a segment `width` wide; false: some line is too steep for `parts`. */
static bool lines(emb_q8_table *t, const curve *c, double lo, double width, uint32_t parts)
{
    t->round = (int16_t)(32768 / parts);
    for (uint32_t s = 0; s < LINES; s++) {
        const double middle = lo + width * ((begin(s) + 32768) / WIDTH + 0.5), apart = width * 0.28867513;
        const double y0 = fmin(at(c, middle - apart), 511), y1 = fmin(at(c, middle + apart), 511);
        const double y = fmin(fmax(0.5 * (y0 + y1), -500), 500), rise = (y1 - y0) * 1.7320508 * parts * (32768.0 / WIDTH);
        if (!(fabs(rise) < 32600)) return false;
        t->slope[s] = (int8_t)lrint((rise < 0 ? rise - 256 : rise) / 257);
        const uint32_t base = (uint32_t)(int32_t)lrint(y * parts - (double)slope_of(t, s) * (begin(s) + WIDTH / 2) / 32768);
        t->base[0][s] = (uint8_t)base;
        t->base[1][s] = (uint8_t)(base >> 8);
    }
    return true;
}

/* By how many steps the table is off, at worst, before rounding. */
static double worst(const emb_q8_table *t, const curve *c, double lo, double width)
{
    double most = 0;
    for (uint32_t s = 0; s < LINES; s++)
        for (uint32_t k = 0; k < PER_LINE; k++) {
            const int32_t u = begin(s) + (int32_t)(k * WIDTH / PER_LINE) + WIDTH / PER_LINE / 2;
            const int32_t sum = t->base[0][s] + 256 * t->base[1][s] + ((slope_of(t, s) * u + 16384) >> 15);
            const double y = (double)(int16_t)(uint16_t)sum * t->round / 32768;
            most = fmax(most, fabs(clipped(y) - clipped(at(c, lo + width * (u + 32768) / WIDTH))));
        }
    return most;
}

bool emb_q8_table_make(emb_q8_table *t, emb_act act, float a, float b, float y_scale, float y_zero)
{
    const curve c = {act, a, b, y_scale, y_zero};
    double lo, hi;
    if (act == EMB_ACT_NONE || !(y_scale >= fewest_steps) || !isfinite(y_scale + y_zero + a + b) || !domain(&c, &lo, &hi, &t->partial)) return false;
    double width = (hi - lo) / LINES;
    if (act == EMB_ACT_HSWISH && lo < 3 && hi > 3) width = (3 - lo) / floor((3 - lo) / width); /* its bend lies between two lines */
    t->scale = (float)(WIDTH / width);
    t->shift = (float)(-32768 - lo * WIDTH / width);
    if (!(width > 0) || !isnormal(t->scale) || fabsf(t->shift) > 1e9f) return false;
    for (uint32_t parts = FINEST; parts >= COARSEST; parts /= 2)
        if (lines(t, &c, lo, width, parts)) return worst(t, &c, lo, width) <= tolerable;
    return false;
}
