/* outlook.c: see outlook.h. Centroids and queries have length 1: scores are cosines, in bins of 1/64. */
#include "outlook.h"

#include <math.h>
#include <string.h>

static const double LEAST = -1.125, BIN = 1.0 / 64;

/* Until rows have shown their differences: those around a centroid at a cosine of 0.87, in all directions alike. As good as so many rows. */
static const double FIRST_SQUARE = 0.25, FIRST_ROWS = 32;

static const double HOPELESS = 6; /* deviations that no row is beyond */

void idx_outlook_init(idx_outlook *o, uint32_t dim) { *o = (idx_outlook){.dim = dim}; }

void idx_outlook_clear(idx_outlook *o) { memset(o->rows, 0, sizeof o->rows); }

void idx_outlook_add(idx_outlook *o, float score, double rows)
{
    double at = ((double)score - LEAST) / BIN;
    o->rows[at <= 0 ? 0 : at >= IDX_OUTLOOK_BINS ? IDX_OUTLOOK_BINS - 1 : (int)at] += rows;
}

/* Three scores that have the normal distribution's first moments. */
void idx_outlook_add_group(idx_outlook *o, float score, float deviation, double rows)
{
    idx_outlook_add(o, score, rows * 2 / 3);
    idx_outlook_add(o, score - 1.732f * deviation, rows / 6);
    idx_outlook_add(o, score + 1.732f * deviation, rows / 6);
}

double idx_outlook_better(const idx_outlook *o, float floor)
{
    double mean = o->n > 0 ? o->sum / o->n : 0, own = o->n > 0 ? fmax(0, o->square / o->n - mean * mean) : 0, better = 0;
    double deviation = sqrt((own * o->n + FIRST_ROWS * FIRST_SQUARE / o->dim) / (o->n + FIRST_ROWS));
    for (int i = IDX_OUTLOOK_BINS; i-- > 0;) {
        double above = ((double)floor - mean - (LEAST + (i + 0.5) * BIN)) / deviation;
        if (above > HOPELESS) break;
        if (o->rows[i] > 0) better += o->rows[i] * 0.5 * erfc(above * M_SQRT1_2);
    }
    return better;
}
