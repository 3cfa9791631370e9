/* graph.h: a loaded ONNX graph: values with known shapes, nodes in topological order, constants folded.
 *
 * Loading walks the nodes once. Each operator says the type of its outputs; when all its inputs are constants it is run at
 * once and its outputs become constants. What remains are the nodes that depend on the model's input. A folded node and the
 * constants it was made of stay until emb_graph_drop: the int8 weights behind a DequantizeLinear are found through
 * values[v].producer. Their floats are made late, when somebody asks for them: a plan in 8 bits never does. */
#ifndef LK_GRAPH_H
#define LK_GRAPH_H

#include "embed.h"
#include "error.h"
#include "onnx.pb-c.h"
#include "onnx_read.h"

#define EMB_MAX_NODES       20000
#define EMB_MAX_ELEMENTS    ((int64_t)1 << 28) /* of one tensor */
#define EMB_MAX_INPUTS      512                /* of one node */
#define EMB_MAX_VALUES      200000
/* What loading may cost beside the file itself: constants that are computed, and how long that takes (some 3e8 a second). A small file
 * cannot ask for much; a large one has weights to convert. */
#define EMB_FOLDED_BYTES(file) (((size_t)256 << 20) + 16 * (file))
#define EMB_FOLDED_WORK(file)  (5e8 + 64 * (double)(file))
#define EMB_RUN_WORK           8e12 /* multiply-adds of one run, roughly: a minute */
#define EMB_RUN_BYTES          ((size_t)4 << 30)
#define EMB_OPSET_FIRST     7
#define EMB_OPSET_LAST      28

typedef struct {
    emb_dtype dtype; /* EMB_F32, EMB_I64, EMB_I32, EMB_BOOL, EMB_U8; float16 and double become float32 */
    uint32_t rank;
    int64_t dims[EMB_MAX_RANK];
} emb_type;

typedef struct {
    const char *name; /* borrowed from the file */
    emb_type type;
    bool known, late; /* late: a constant without data yet, see emb_graph_settle */
    void *data;       /* constants only, owned */
    emb_dtype stored; /* inputs and outputs: what the file says; float16 and double are float32 here. 0 = nothing */
    int32_t producer; /* node, or -1 */
    int32_t uses;     /* by nodes that remain or are late, and 1 for being an output */
} emb_value;

typedef struct emb_op emb_op;

typedef struct {
    const emb_op *op;
    const Onnx__Node *proto;
    int32_t *in, *out; /* values; -1 = left out */
    uint32_t n_in, n_out;
    bool folded;
} emb_node;

typedef struct {
    Onnx__Model *proto;
    const char *file;
    emb_value *values;
    size_t n_values;
    emb_node *nodes;
    size_t n_nodes;
    int32_t *inputs, *outputs;
    size_t n_inputs, n_outputs;
    int64_t opset;
    size_t file_bytes, folded_bytes;
    emb_hasher hasher; /* of the file: reads the constants that came with it until it has finished */
    double folded_work, run_work;
    char chosen[300]; /* by emb_graph_choose: what the embedding is, when it is not the file's first output; for people, and part of
                       * the fingerprint */
    char hint[300];   /* for people: what else it might be */
} emb_graph;

/* Reads and parses. Types given in `inputs` (may be NULL) replace those of the file, so that free dimensions become known; otherwise
 * they are those of one picture (likeness.size of the metadata, 224 x 224). from->name is borrowed by the graph. */
EMB_CHECK emb_status emb_graph_load(emb_onnx_source *from, const emb_tensor *inputs, size_t n_inputs, emb_graph **out, emb_error *err);
void emb_graph_free(emb_graph *g);
/* A constant's data leave the graph: the caller's, to change and to free. */
void *emb_graph_take(emb_graph *g, emb_value *v);
/* Frees the constants that nobody needs any more; the graph is good for its names, its types and the digest of its file then. */
void emb_graph_drop(emb_graph *g, bool (*needed)(const void *data, const void *ctx), const void *ctx);
static inline bool emb_is_constant(const emb_value *v) { return v->data != NULL || v->late; }
/* Computes the late constants among n's inputs; n == NULL: all that there are. */
EMB_CHECK emb_status emb_graph_settle(emb_graph *g, const emb_node *n, emb_error *err);
void emb_graph_count_uses(emb_graph *g); /* anew, after nodes were folded or their arguments changed */
/* A new constant with a copy of data (NULL = zeros) becomes argument `in` of n; -> the value, -1 = no memory. */
int32_t emb_graph_add_constant(emb_graph *g, emb_node *n, uint32_t in, const emb_type *t, const void *data);
const char *emb_graph_metadata(const emb_graph *g, const char *key); /* NULL when absent */

/* ---- operators ---------------------------------------------------------------------------------- */

typedef struct {
    emb_type type;
    void *data; /* NULL in infer() unless the value is a constant */
} emb_arg;

typedef struct {
    const emb_graph *g;
    const emb_node *node;
    emb_arg *in, *out; /* dense, row-major (NCHW); an input left out has type.rank = UINT32_MAX */
    uint32_t n_in, n_out;
    emb_error *err;
} emb_call;

struct emb_op {
    const char *name; /* those of other domains begin with them: com.microsoft.QGemm */
    uint8_t min_in, max_in; /* max 255 = any number */
    emb_status (*infer)(emb_call *c); /* sets out[].type; NULL: lower.c replaces the node by others */
    emb_status (*run)(emb_call *c);   /* fills out[].data */
    const char *note;                 /* what of the operator is not covered, for the documentation */
};

/* The one table of operators claimed; the loader, `model inspect` and the tests share it. */
extern const emb_op emb_ops[];
extern const size_t emb_ops_count;
extern const emb_op emb_op_batch_stats; /* BatchNormalization whose training_mode is set: another operator to everybody */
const emb_op *emb_op_find(const char *domain, const char *name); /* domain: NULL, "" and "ai.onnx" are the standard's */

#define EMB_LOWER_ONE "likeness:one" /* a constant 1 */
/* Replaces nodes by those that they are made of, in place. */
EMB_CHECK emb_status emb_lower(Onnx__Graph *g, const char *file, emb_error *err);

/* A node of the file's kind, which protobuf-c can free; NULL, false = no memory. */
Onnx__Node *emb_proto_node(const char *op, const char *label, const char *const *in, size_t n_in, const char *out);
bool emb_proto_ints(Onnx__Node *n, const char *name, const int64_t *v, size_t count); /* count 1 is an int, too */

void emb_rewrite(emb_graph *g); /* activations that are spelt out become one operator (rewrite.c) */

/* Makes one value of the graph its only output, the embedding; nodes that it does not need are marked as folded (output.c).
 * wanted: NULL = what the metadata name (likeness.output), or else the file's first output, but the input of its classifier where
 * it ends in one, averaged over height and width; "-" = the file's first output as it is; anything else = that value or node, averaged.
 * g->chosen says what was done. */
EMB_CHECK emb_status emb_graph_choose(emb_graph *g, const char *wanted, emb_error *err);

/* ---- types and tensors (tensor.c) ------------------------------------------------------------------ */

size_t emb_dtype_size(emb_dtype t); /* 0 = not handled */
const char *emb_dtype_name(emb_dtype t); /* of those not handled, too; "unknown" = ONNX has no such number */
int64_t emb_elements(const emb_type *t);
size_t emb_type_bytes(const emb_type *t);
bool emb_type_sane(const emb_type *t); /* dims >= 0 with a bounded product, so that the two above cannot overflow */
void *emb_weights_memory(size_t bytes); /* 64-aligned, with EMB_KERNEL_SLACK behind; free() */
/* The type that a tensor of the file has here (float16 and double become float32), when its bytes are as many as that needs. */
EMB_CHECK emb_status emb_tensor_type(const Onnx__Tensor *t, const char *file, emb_type *type, emb_error *err);
void emb_tensor_copy(const Onnx__Tensor *t, void *to); /* one whose type was found; emb_type_bytes */
bool emb_tensor_is_raw(const Onnx__Tensor *t);          /* its raw_data are what emb_tensor_copy would write */

/* ---- nodes ------------------------------------------------------------------------------------------ */

bool emb_has(const emb_call *c, uint32_t in); /* the optional input is given */
/* EMB_EFORMAT or EMB_EUNSUPPORTED with file, node, operator and the sentence. */
emb_status emb_call_fail(const emb_call *c, emb_status st, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

const Onnx__Attribute *emb_attr(const Onnx__Node *n, const char *name);
int64_t emb_attr_i(const Onnx__Node *n, const char *name, int64_t otherwise);
float emb_attr_f(const Onnx__Node *n, const char *name, float otherwise);
/* Copies at most max; -1 when absent. */
int emb_attr_ints(const Onnx__Node *n, const char *name, int64_t *out, int max);
bool emb_attr_is(const Onnx__Node *n, const char *name, const char *text); /* string attribute equals text */

typedef struct { /* Conv and pools, two spatial dimensions */
    int64_t kh, kw, sh, sw, dh, dw, top, left, bottom, right, oh, ow, group;
    bool ceil_mode, count_pad;
} emb_window;
/* Reads kernel_shape, strides, dilations, pads, auto_pad, group, ceil_mode; checks; computes the output size. */
EMB_CHECK emb_status emb_window_read(emb_call *c, const emb_type *x, int64_t kh, int64_t kw, emb_window *out);

/* Runs one node over dense tensors. */
EMB_CHECK emb_status emb_node_run(const emb_graph *g, const emb_node *n, emb_arg *in, emb_arg *out, emb_error *err);

#endif
