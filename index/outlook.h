/* outlook.h: how many rows better than those at hand the lists (parts.h) may hold that were not read yet, so that a search can stop when
 * that is next to none, whether it began near the matches or far from them, and whether its filter lets many through or few.
 *
 * A row's score is that of its list's centroid and a difference, whose mean and deviation are those of the rows compared so far,
 * and which is taken to be normal. What is left is kept as a histogram over the centroids' scores; of lists whose scores are not known
 * yet, their group's tell the mean and the deviation. */
#ifndef LK_OUTLOOK_H
#define LK_OUTLOOK_H

#include <stdint.h>

enum { IDX_OUTLOOK_BINS = 144 };

typedef struct {
    double rows[IDX_OUTLOOK_BINS]; /* in what was not read, by score; what was added can be taken away without a rest */
    double sum, square;           /* of the differences */
    double n;                     /* of them */
    uint32_t dim;
} idx_outlook;

void idx_outlook_init(idx_outlook *o, uint32_t dim);
void idx_outlook_clear(idx_outlook *o); /* nothing is left; what was learned of differences stays */
/* So many rows (negative: fewer) in lists of this score; or in lists whose scores lie around it with a deviation. */
void idx_outlook_add(idx_outlook *o, float score, double rows);
void idx_outlook_add_group(idx_outlook *o, float score, float deviation, double rows);
/* A row was compared. */
static inline void idx_outlook_learn(idx_outlook *o, float list_score, float score)
{
    double d = (double)score - (double)list_score;
    o->sum += d;
    o->square += d * d;
    o->n++;
}
/* The number of rows among those left whose score is expected to be above `floor`. */
double idx_outlook_better(const idx_outlook *o, float floor);

#endif
