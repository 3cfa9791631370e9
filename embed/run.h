/* run.h: what the files that walk a plan share. */
#ifndef LK_RUN_H
#define LK_RUN_H

#include "plan.h"

typedef struct {
    const emb_plan *p;
    char *arena;
    const void **ptr;
} emb_walk;

static inline void *emb_at(const emb_walk *w, int32_t buffer) { return w->arena + w->p->buffers[buffer].offset; }
/* `elements` of a step's picture or of its result behind p. */
static inline const void *emb_x(const emb_step *s, const void *p, size_t elements) { return (const char *)p + elements * s->x_bytes; }
static inline void *emb_y(const emb_step *s, void *p, size_t elements) { return (char *)p + elements * s->y_bytes; }

/* The rows of a result that are wanted, and where they and the picture lie. */
typedef struct {
    const void *x;        /* row x_first of the picture and those behind it, as many as the window touches */
    const void *residual; /* row oy0, or NULL */
    void *y;              /* row oy0 */
    uint32_t x_first, oy0, oy1;
} emb_rows;

static inline emb_rows emb_all_rows(const emb_walk *w, const emb_step *s)
{
    return (emb_rows){emb_at(w, s->in[0]), s->residual >= 0 ? emb_at(w, s->residual) : NULL, emb_y(s, emb_at(w, s->out), s->y_offset), 0, 0, s->oh};
}

/* Tiles over n pixels, which share them evenly. first: of the first pixel, all but a set; ptr: pointers as made for tiles of those
 * sizes, [pixel * taps] onwards, of which the tile begins at tap0. Each fetches its share of the `ahead` bytes from first->next on. */
void emb_run_tiles(const emb_step *s, const emb_tile *first, const void **ptr, uint32_t n, uint32_t tiles, uint32_t taps, uint32_t tap0, size_t ahead);
/* What tiles of a convolution have in common for n channels whose constants begin at `column`: all but pixels, weights and results. */
emb_tile emb_conv_tile(const emb_step *s, size_t column, uint32_t n);
const void *emb_conv_weights(const emb_walk *w, const emb_step *s, const emb_rows *r); /* packed, gated by now */
double emb_now(void); /* seconds */

void emb_run_conv(const emb_walk *w, const emb_step *s, const emb_rows *r); /* gated weights are made when oy0 is 0, and must stay */
void emb_run_even(const emb_walk *w, const emb_step *s, const emb_rows *r); /* one whose pixels lie evenly */
void emb_run_depthwise(const emb_walk *w, const emb_step *s, const emb_rows *r);
void emb_run_pool(const emb_walk *w, const emb_step *s, const emb_rows *r);
void emb_run_q8_depthwise(const emb_walk *w, const emb_step *s, const emb_rows *r);
void emb_run_q8(const emb_walk *w, const emb_step *s); /* what works on quantised values and is none of those */
void emb_run_rows(const emb_walk *w, const emb_step *s, const emb_rows *r); /* one of them */
void emb_run_winograd(const emb_walk *w, const emb_step *s);
void emb_run_q8_winograd(const emb_walk *w, const emb_step *s);
/* The side * side pixels of a tile that begins at y0, x0; those outside the picture are `padding`. */
void emb_winograd_pixels(const emb_step *s, const void *x, const void *padding, int64_t y0, int64_t x0, const void **px);

/* Of k taps that start at x0, dilation d, those inside 0..n: [*from, *to). */
void emb_taps_inside(int64_t x0, int64_t k, int64_t d, int64_t n, int64_t *from, int64_t *to);

/* chain.c: steps that work on each other's rows while these are still in the second cache. */
void emb_run_chain(const emb_walk *w, const emb_step *first, double *timings);

#endif
