/* cost.h: how long a step should take on this machine, by a model of a few numbers that are measured first. */
#ifndef LK_COST_H
#define LK_COST_H

#include "plan.h"

#define EMB_COST_SIZES  12 /* 16 KiB, 32 KiB ... 32 MiB */
#define EMB_COST_PEAKS  16
#define EMB_COST_TILERS 4

typedef struct emb_cost emb_cost;
struct emb_cost {
    const emb_plan *p;
    double peak[EMB_COST_PEAKS]; /* operations a second, of emb_peak_loops */
    double copy[EMB_COST_SIZES],
        fetch[EMB_COST_SIZES]; /* bytes a second that are copied (read and written) or read, by how much memory they lie in */
    struct {
        emb_tiler t;
        const char *table;
        double call, row; /* seconds of a full tile: fixed, and for one of the channels that are summed */
    } tiler[EMB_COST_TILERS];
    size_t n_tilers;
    double act[2][EMB_ACT_GELU + 1];  /* seconds for an element; [1]: of quantised steps */
    double winograd_in, winograd_out; /* seconds for a tile's channel */
    size_t weights_bytes;             /* of the whole plan */
};

typedef enum {
    EMB_COST_SUMS,       /* multiply-adds that the definition asks for, at the speed of the tile */
    EMB_COST_PADDING,    /* those of a tile's channels and pixels that nobody asked for */
    EMB_COST_CALLS,      /* what a tile takes apart from its sums */
    EMB_COST_ACT,        /* the activation behind a convolution */
    EMB_COST_TRANSFORMS, /* Winograd's */
    EMB_COST_TAPS,       /* windows without tiles: each tap comes from the first cache once */
    EMB_COST_MOVES,      /* activations, through whatever cache they lie in */
    EMB_COST_WEIGHTS,    /* their way from where the last run has left them */
    EMB_COST_PARTS,
} emb_cost_part;

/* Measures, about half a second. */
EMB_CHECK emb_status emb_cost_new(const emb_plan *p, emb_cost **out, emb_error *err);
void emb_cost_free(emb_cost *c);
double emb_cost_step(const emb_cost *c, const emb_step *s, double parts[EMB_COST_PARTS]); /* seconds */
const char *emb_cost_part_name(emb_cost_part p);
double emb_cost_peak(const emb_cost *c, const char *table, bool quantised); /* 0 where there is no loop for it */
double emb_cost_bandwidth(const double by_size[EMB_COST_SIZES], size_t bytes);

size_t emb_step_weights(const emb_plan *p, const emb_step *s); /* bytes */
size_t emb_step_moves(const emb_step *s);                      /* bytes of activations read and written, each once */

#endif
