/* quantize.h: a float graph on its way to 8 bits; shared by the quantize*.c files.
 *
 * Order: quantize_fold.c folds batch norms; quantize_rules.c says which values and weights become 8 bits;
 * quantize_range.c finds the range of each value over the photos; quantize_weights.c rounds weights, quantize_correct.c mends biases;
 * quantize_write.c writes the file. quantize.c is the way through. */
#ifndef LK_QUANTIZE_H
#define LK_QUANTIZE_H

#include "model.h"

typedef struct emb_histogram emb_histogram;

typedef struct { /* of a value */
    bool wanted;  /* 8 bits: a pair of QuantizeLinear and DequantizeLinear stands behind it */
    int32_t same; /* has the grid of this other value, which only moves or picks its numbers; -1 = one of its own */
    float scale;
    uint8_t zero;
    emb_histogram *seen;
} emb_qvalue;

typedef struct { /* of a node */
    bool eight;         /* takes what it can in 8 bits */
    bool weighted;      /* in[1] are constant weights that become int8, one scale for each output channel */
    uint32_t axis;      /* of the output channels in the weights */
    uint32_t oc;
    int8_t *w;          /* in the order of the file's weights */
    float *w_scale;     /* oc */
    float *bias;        /* oc, or NULL */
} emb_qnode;

typedef struct {
    emb_graph *g;
    const emb_quantize_opts *opts;
    emb_preproc pp;
    bool nhwc; /* the input is [1, H, W, 3] */
    emb_qvalue *values;
    emb_qnode *nodes;
    size_t n_values; /* of which values has room */
    const emb_view *photos;
    size_t n_photos;
    emb_scratch scratch;
    emb_error *err;
} emb_quantizer;

/* quantize_fold.c */
EMB_CHECK emb_status emb_quantize_fold(emb_quantizer *q); /* batch norms and constants by channel go into the weights before them */
const emb_node *emb_quantize_only_user(const emb_quantizer *q, int32_t v); /* NULL: several, none, or an output of the graph */

/* quantize_rules.c */
void emb_quantize_rules(emb_quantizer *q);

/* quantize_range.c */
EMB_CHECK emb_status emb_quantize_ranges(emb_quantizer *q);
/* Runs n of the photos, spread over all. */
EMB_CHECK emb_status emb_quantize_photos(emb_quantizer *q, size_t n, const char *what, const emb_watch *watch);
/* A picture as the graph takes it; in: emb_type_bytes of the input. */
EMB_CHECK emb_status emb_quantize_input(emb_quantizer *q, size_t photo, float *in);

/* quantize_weights.c */
EMB_CHECK emb_status emb_quantize_weights(emb_quantizer *q);

/* quantize_correct.c */
EMB_CHECK emb_status emb_quantize_correct(emb_quantizer *q);

/* quantize_write.c */
EMB_CHECK emb_status emb_quantize_write(emb_quantizer *q, void **bytes, size_t *n);

#endif
