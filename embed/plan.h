/* plan.h: a graph made ready to run: steps, packed weights and one arena, all chosen once at load.
 *
 * A value lives in up to three forms. Kernels make and take the type of their table: a picture [1, C, H, W] as NHWC, everything
 * else as rows of its last dimension. The general executor makes and takes dense float32 (NCHW). A conversion step is inserted
 * when a form is asked for that does not exist; where the table's type is float32, rows and dense are one. */
#ifndef LK_PLAN_H
#define LK_PLAN_H

#include "graph.h"
#include "kernels/q8.h"

typedef enum {
    EMB_STEP_CONV,      /* also Gemm and MatMul with constant weights: 1 x 1 over rows */
    EMB_STEP_WINOGRAD,  /* 3 x 3 of stride 1 by F(4 x 4, 3 x 3) or a smaller one */
    EMB_STEP_DEPTHWISE,
    EMB_STEP_MAX_POOL,
    EMB_STEP_AVG_POOL,
    EMB_STEP_GLOBAL_MEAN,
    EMB_STEP_ADD,
    EMB_STEP_MUL,
    EMB_STEP_AFFINE,    /* constant scale and shift by channel, and clamps alone */
    EMB_STEP_GATE,      /* x[p][c] * s[c], squeeze and excite */
    EMB_STEP_ACT,
    EMB_STEP_CONCAT,    /* channels */
    EMB_STEP_TO_NCHW,   /* NHWC of the table's type to dense float32 */
    EMB_STEP_TO_NHWC,
    EMB_STEP_WIDEN,     /* rows of the table's type to dense float32 */
    EMB_STEP_NARROW,
    EMB_STEP_QUANTIZE,
    EMB_STEP_DEQUANTIZE,
    EMB_STEP_LOOKUP,    /* any function of one quantised value, as a table */
    EMB_STEP_GENERAL,   /* the operator's own run(), dense */
} emb_step_kind;

typedef struct { /* u8 values of a tensor: real = scale * (q - zero) */
    float scale;
    int32_t zero;
} emb_grid;

typedef struct { /* of a quantised step */
    emb_grid x, y;
    float *scale;           /* CONV, DEPTHWISE: packed like the bias, from sums to steps of the result */
    float residual_scale, y_scale, y_zero;
    bool wide;              /* the result is float32 */
    emb_q8_table *table;    /* of the activation, owned, NULL where it is computed */
    uint8_t *padding;       /* a pixel outside the picture; DEPTHWISE: a row of them */
    float by[5];            /* ADD: see emb_kernels_q8; pools: scale and shift; GATE: scale of the product, two zeros */
} emb_q8;

typedef struct { /* what makes tiles of a convolution */
    void (*tile)(const emb_tile *t, uint32_t m);
    uint32_t mr, nr, unit, group, bytes; /* bytes of one weight; unit: see emb_kernels */
    uint32_t round;                /* channels of a tap are filled up to a multiple of this */
    bool strided;                  /* see emb_kernels_q8 */
} emb_tiler;

/* Pixels of tile i of those that n pixels are shared by. */
static inline uint32_t emb_tile_pixels(const emb_tiler *t, uint32_t n, uint32_t tiles, uint32_t i)
{
    if (!t->strided) return n / tiles + (i < n % tiles);
    return i + 1 < tiles ? t->mr : n - i * t->mr;
}

/* n channels of a result are packed as so many; bytes of taps * k channels of the picture for each of n, and of one row of them. All panels
 * but the last are nr wide, so those of n channels take as much as one. */
static inline uint32_t emb_panel_width(const emb_tiler *t, uint32_t n) { return (n + t->unit - 1) / t->unit * t->unit; }
static inline size_t emb_panel_row(const emb_tiler *t, uint32_t n) { return (size_t)t->group * emb_panel_width(t, n) * t->bytes; }
static inline size_t emb_panel_bytes(const emb_tiler *t, uint32_t n, size_t taps, uint32_t k)
{
    return taps * ((k + t->round - 1) / t->round) * (t->round / t->group) * emb_panel_row(t, n);
}

typedef struct {
    emb_step_kind kind;
    const emb_node *node;
    char *fused;            /* what was taken in, for people */
    int32_t *in, n_in;      /* buffers; GENERAL: -1 where the argument is a constant */
    int32_t out, residual, scratch; /* buffers, -1 none; scratch: padded pixels of a merged or even convolution,
                             * Winograd's planes, gated weights */
    emb_arg *args, *outs;   /* GENERAL: types and constants, n_in and n_out of them */
    int32_t *out_bufs;
    uint32_t ih, iw, ic, oh, ow, oc; /* NHWC; rows without picture are oh = 1, ow = rows */
    uint32_t x_bytes, y_bytes, r_bytes; /* of an element of the picture, of the result and of the residual */
    uint32_t y_pixel, y_offset; /* elements from pixel to pixel of the result, oc unless it lies in a concat; where it begins there */
    int32_t gate;           /* CONV, dense: a factor for each channel of the picture, which goes into a copy of the weights; -1 none */
    emb_window w;
    bool merged;            /* taps of a row are one run of kw * ic elements, those at the edges in a padded copy */
    bool upright;           /* all taps are one run: of an even convolution's picture a copy is made for each row of the result, in columns
                               of emb_column() bytes: sw pixels of the first row of taps, then those below them */
    bool dense;             /* CONV: pixel p of the result is made of pixel p of the picture */
    bool even;              /* CONV: run_even.c runs it */
    uint32_t chain, strip;  /* steps that run together from this one on, 1 = alone; rows that this one makes at a time */
    uint32_t block;         /* CONV: pixels, WINOGRAD: tiles that are worked on together, for each panel of weights */
    uint32_t part_taps, part_k; /* CONV: how much of a panel's taps and channels is summed at a time */
    float lo, hi;
    emb_act act;
    float act_a, act_b;
    uint32_t side;          /* WINOGRAD: 6, 5 or 4, of a tile before its transform */
    emb_tiler t;            /* CONV, WINOGRAD */
    void *weights;          /* packed, of the table's type, owned; AFFINE: float scales; LOOKUP: tables */
    float *bias;            /* packed, owned; AFFINE: shifts */
    emb_q8 *q8;             /* owned; NULL unless the step works on quantised values */
    uint64_t macs;
} emb_step;

/* Of a convolution: runs of elements that make a sum of one group, and how long each is. */
static inline uint32_t emb_conv_taps(const emb_step *s) { return (uint32_t)(s->upright ? 1 : s->merged ? s->w.kh : s->w.kh * s->w.kw); }
#define EMB_PIECE 8 /* bytes that pixels are moved to a column by, whose last ones may be more than they are */
static inline uint32_t emb_column(const emb_step *s) { return (uint32_t)((s->w.kh - 1) * s->w.sw) * s->ic + EMB_PIECE; }
static inline uint32_t emb_conv_run(const emb_step *s)
{
    if (s->upright) return (uint32_t)((s->w.kw + s->w.sw - 1) / s->w.sw) * emb_column(s);
    return s->ic / (uint32_t)s->w.group * (s->merged ? (uint32_t)s->w.kw : 1);
}

typedef struct {
    size_t bytes, offset;
    int32_t first, last; /* steps between which it is alive */
} emb_buffer;

typedef struct {
    const emb_kernels *k;
    const emb_kernels_q8 *q8;
    const emb_graph *graph;
    emb_step *steps;
    size_t n_steps, cap_steps;
    emb_buffer *buffers;
    size_t n_buffers, cap_buffers;
    size_t arena_bytes, pointers; /* what a workspace needs */
    size_t sums_offset;           /* in the arena: partial sums of a block of tiles */
    void *zeros;                  /* a row of them, what padding points to */
    uint32_t row;                 /* its length */
    int32_t input, output;        /* buffers, float32; the picture comes with its channels last */
    uint32_t in_w, in_h, dim;
    uint64_t macs;
} emb_plan;

/* The graph must outlive the plan. k: the table to plan for. */
/* Whether activations are in 8 bits somewhere. */
bool emb_graph_quantised(const emb_graph *g);
typedef struct {
    bool quantised; /* activations in 8 bits stay so, beside the float32 table; false: what the operators do to floats */
    bool last;      /* nobody plans this graph again: weights leave it as they are packed */
} emb_plan_options;
EMB_CHECK emb_status emb_plan_new(emb_graph *g, const emb_kernels *k, emb_plan_options o, emb_plan **out, emb_error *err);
void emb_plan_free(emb_plan *p);
bool emb_plan_needs(const void *data, const void *plan); /* a step reads this constant of the graph in every run */
/* arena: arena_bytes, 64-aligned, input written; pointers: that many. Walks the steps; timings: NULL or n_steps seconds
 * that are added to. */
EMB_CHECK emb_status emb_plan_run(const emb_plan *p, char *arena, const void **pointers, double *timings, emb_error *err);
const char *emb_step_name(emb_step_kind k);

/* ---- between the planning files ------------------------------------------------------------------- */

typedef struct { /* a value whose bytes are there in 8 bits, whether the graph says so or has dequantised them already */
    int32_t nhwc, rows; /* buffers, -1 */
    emb_grid grid;
} emb_q8_view;

typedef struct {
    emb_graph *g; /* late constants are computed, packed weights leave it */
    emb_plan *p;
    emb_error *err;
    int32_t *nhwc, *rows, *dense; /* value -> buffer, -1; float32 tables: rows is dense */
    emb_q8_view *views;    /* value -> its 8 bits; NULL: this plan has none */
    bool last;             /* weights leave the graph as they are packed */
    bool retreat;          /* somebody needs a number of 8 bits as such: plan again without views */
    int32_t *consumer;     /* value -> last node that takes it, -1 */
    bool *done;            /* node is part of an earlier step */
    float *draft;          /* weights while they are scaled, before they are packed: grows, and is used again */
    size_t draft_floats;
} emb_planner;

emb_step *emb_plan_step(emb_planner *pl, emb_step_kind kind, const emb_node *n); /* NULL = no memory */
int32_t emb_plan_buffer(emb_planner *pl, size_t bytes);                         /* -1 = no memory */
size_t emb_plan_bytes(const emb_planner *pl, const emb_type *t);                /* of a value in the table's type */
bool emb_is_image(const emb_type *t);                                           /* float [1, C, H, W] */
/* The value in the form asked for, converting when needed; -1 = no memory. */
int32_t emb_plan_nhwc(emb_planner *pl, int32_t v);
int32_t emb_plan_rows(emb_planner *pl, int32_t v);
int32_t emb_plan_dense(emb_planner *pl, int32_t v);
bool emb_plan_ready(const emb_planner *pl, int32_t v); /* computed by an earlier step */
const emb_node *emb_plan_only_consumer(const emb_planner *pl, int32_t v);
/* A constant with one float a channel of `t` (or one in all): fills out[c]; false when it is not that. */
bool emb_plan_by_channel(const emb_planner *pl, int32_t v, const emb_type *t, float *out);
/* Relu, Clip and the smooth ones: sets lo, hi or act of the step; false for any other node. */
bool emb_plan_activation(const emb_planner *pl, const emb_node *n, emb_step *s);
/* n's output becomes the last value of the step. *handled false: leave the node to the general executor. */
EMB_CHECK emb_status emb_plan_conv(emb_planner *pl, const emb_node *n, bool *handled);
/* A convolution whose kind, shapes and window are set: is WINOGRAD the faster way? Sets side. */
bool emb_winograd_pays(emb_step *s);
uint32_t emb_winograd_tiles(const emb_step *s);
/* Sets the form of tile, block and the size of scratch; packs w, which is [oc][ic][3][3], as [side * side][panel][ic][its width]. NULL = no memory. */
void *emb_winograd_pack(emb_step *s, const float *w, const emb_kernels *k, size_t *scratch_bytes);
/* Elements between two of the planes of `channels` for a block of tiles. */
size_t emb_winograd_plane(uint32_t tiles, uint32_t channels);
#define EMB_CHAIN_MAX   16
#define EMB_BLOCK_TILES 16 /* that a block of pixels has at most */
void emb_plan_chains(emb_plan *p); /* finds them; before buffers get their places */
EMB_CHECK emb_status emb_plan_layout(emb_planner *pl); /* offsets of all buffers, arena_bytes; when all steps are there */
/* Packs one panel: rows of k channels, each with `width` floats, become [ceil(k / group)][width][group] of the table's type. */
void emb_plan_pack_panel(const emb_kernels *t, const float *from, uint32_t k, uint32_t width, void *to);
/* The form of tile that makes oc channels fastest. */
void emb_plan_shape(emb_tiler *t, const emb_kernels *k, uint32_t oc);
EMB_CHECK emb_status emb_plan_matrix(emb_planner *pl, const emb_node *n, bool *handled);
/* NHWC and rows of a value are the same bytes. */
bool emb_plan_same_bytes(const emb_type *t);
/* A step with these inputs and one output buffer of the type's elements (in float32 for TO_NCHW, WIDEN and DEQUANTIZE, in bytes for
 * what `bytes` says, otherwise in the table's type). NULL = no memory. */
emb_step *emb_plan_simple(emb_planner *pl, emb_step_kind kind, const emb_node *n, const int32_t *in, int32_t n_in, const emb_type *out, bool bytes);
/* x * sigmoid(x) and x * hardsigmoid(x), which exporters write as two nodes: takes them in, sets s->act; *out moves on. */
bool emb_plan_self_gate(emb_planner *pl, emb_step *s, int32_t *out, const char **name);
/* Decides on `even`, `merged` and `upright`, once a convolution's window and sizes are known. */
void emb_plan_even(emb_step *s);
size_t emb_padded_bytes(const emb_step *s); /* of the copy of padded pixels that it needs, 0 = none; when block is set, too */
/* Sets block, part_taps and part_k. longest: 0, or how many products may be in one sum; whole: no parts. */
void emb_plan_block(emb_step *s, uint32_t longest, bool whole);

/* ---- quantised values (plan_q8.c, plan_q8_conv.c) ------------------------------------------------------------ */

bool emb_q8_ready(const emb_planner *pl, int32_t v);
/* Buffers of its 8 bits, -1 when they are not there in that form. */
int32_t emb_q8_nhwc(emb_planner *pl, int32_t v);
int32_t emb_q8_rows(emb_planner *pl, int32_t v);
bool emb_q8_grid(const emb_graph *g, const emb_node *n, emb_grid *out); /* of a QuantizeLinear or DequantizeLinear: one for all */
bool emb_q8_never_retreats(const emb_graph *g); /* 8 bits lead from a QuantizeLinear to a DequantizeLinear and nowhere else, each of one grid */
/* The node that quantises v and is its only consumer, with its grid; NULL otherwise. */
const emb_node *emb_q8_quantizer(const emb_planner *pl, int32_t v, emb_grid *grid);
EMB_CHECK emb_status emb_q8_plan_node(emb_planner *pl, const emb_node *n, bool *handled);
EMB_CHECK emb_status emb_q8_plan_conv(emb_planner *pl, const emb_node *n, bool *handled);
/* The step's result on another grid: for a concat whose parts become one. */
void emb_q8_regrid(const emb_kernels_q8 *k, emb_step *s, emb_grid to);
/* Makes the table of a step's activation, whose y_scale and y_zero are set; none where that does not pay, or without memory. */
void emb_q8_tabulate(const emb_kernels_q8 *k, emb_step *s);
/* Of a convolution by words, see emb_q8_words: sets block; the bytes that a block takes, in its scratch, in front of what emb_padded_bytes() says. */
void emb_plan_words(emb_step *s);
size_t emb_words_bytes(const emb_step *s);
/* A convolution whose kind, shapes, window and form of tile are set, of weights w: is Winograd's way to the same sums the faster one? Sets side and block. */
bool emb_q8_winograd_pays(emb_step *s, const int8_t *w);
size_t emb_q8_winograd_panel(const emb_step *s);   /* bytes of a packed panel */
size_t emb_q8_winograd_scratch(const emb_step *s); /* bytes */
/* Weights [n][ic][3][3] to a panel [36][ic / 2, rounded up][nr][2], zeros behind n and ic being there. */
void emb_q8_winograd_pack(const emb_step *s, const int8_t *w, uint32_t n, int16_t *to);
emb_q8 *emb_q8_new(emb_grid x, emb_grid y); /* NULL = no memory; emb_q8_free() */
void emb_q8_free(emb_q8 *q);

#endif
