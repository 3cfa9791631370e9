/* graph.c: ONNX bytes -> emb_graph. Trusts nothing: counts, dims and products are checked before memory is taken. */
#include "graph.h"
#include "ops.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- names -------------------------------------------------------------------------------------- */

typedef struct { /* open addressing; slots hold value + 1 */
    uint32_t *slot;
    size_t mask, seed; /* nobody can make names in advance that all meet in one slot */
} names;

static size_t hash(const names *nm, const char *s)
{
    size_t h = 1469598103934665603u ^ nm->seed;
    for (; *s; s++) h = (h ^ (uint8_t)*s) * 1099511628211u;
    return h ^ h >> 29;
}

static int32_t name_find(const names *nm, const emb_graph *g, const char *name)
{
    for (size_t i = hash(nm, name) & nm->mask;; i = (i + 1) & nm->mask) {
        if (nm->slot[i] == 0) return -1;
        if (strcmp(g->values[nm->slot[i] - 1].name, name) == 0) return (int32_t)(nm->slot[i] - 1);
    }
}

static int32_t name_add(names *nm, emb_graph *g, const char *name)
{
    size_t i = hash(nm, name) & nm->mask;
    while (nm->slot[i] != 0) i = (i + 1) & nm->mask;
    nm->slot[i] = (uint32_t)++g->n_values;
    g->values[g->n_values - 1] = (emb_value){.name = name, .producer = -1};
    return (int32_t)(g->n_values - 1);
}

/* ---- attributes --------------------------------------------------------------------------------- */

const Onnx__Attribute *emb_attr(const Onnx__Node *n, const char *name)
{
    for (size_t i = 0; i < n->n_attribute; i++)
        if (n->attribute[i]->name != NULL && strcmp(n->attribute[i]->name, name) == 0) return n->attribute[i];
    return NULL;
}

int64_t emb_attr_i(const Onnx__Node *n, const char *name, int64_t otherwise)
{
    const Onnx__Attribute *a = emb_attr(n, name);
    return a != NULL && a->has_i ? a->i : otherwise;
}

float emb_attr_f(const Onnx__Node *n, const char *name, float otherwise)
{
    const Onnx__Attribute *a = emb_attr(n, name);
    return a != NULL && a->has_f ? a->f : otherwise;
}

int emb_attr_ints(const Onnx__Node *n, const char *name, int64_t *out, int max)
{
    const Onnx__Attribute *a = emb_attr(n, name);
    if (a == NULL) return -1;
    int k = 0;
    for (; k < max && (size_t)k < a->n_ints; k++) out[k] = a->ints[k];
    return (size_t)k < a->n_ints ? max + 1 : k;
}

bool emb_attr_is(const Onnx__Node *n, const char *name, const char *text)
{
    const Onnx__Attribute *a = emb_attr(n, name);
    return a != NULL && a->has_s && a->s.len == strlen(text) && (a->s.len == 0 || memcmp(a->s.data, text, a->s.len) == 0);
}

const char *emb_graph_metadata(const emb_graph *g, const char *key)
{
    for (size_t i = 0; i < g->proto->n_metadata_props; i++) {
        const Onnx__Pair *p = g->proto->metadata_props[i];
        if (p->key != NULL && strcmp(p->key, key) == 0) return p->value;
    }
    return NULL;
}

/* ---- nodes -------------------------------------------------------------------------------------- */

static const char *node_name(const Onnx__Node *p)
{
    if (p->name != NULL && p->name[0] != 0) return p->name;
    return p->n_output > 0 ? p->output[0] : "(unnamed)";
}

emb_status emb_call_fail(const emb_call *c, emb_status st, const char *fmt, ...)
{
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return emb_fail(c->err, st, "%s: node %.80s (%s): %s", c->g->file, node_name(c->node->proto), c->node->op->name, text);
}

bool emb_has(const emb_call *c, uint32_t in) { return in < c->n_in && c->in[in].type.rank != UINT32_MAX; }

emb_status emb_node_run(const emb_graph *g, const emb_node *n, emb_arg *in, emb_arg *out, emb_error *err)
{
    emb_call c = {g, n, in, out, n->n_in, n->n_out, err};
    return n->op->run(&c);
}

static void gather_args(const emb_graph *g, const emb_node *n, emb_arg *in)
{
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (n->in[i] < 0) in[i] = (emb_arg){.type.rank = UINT32_MAX};
        else in[i] = (emb_arg){g->values[n->in[i]].type, g->values[n->in[i]].data};
    }
}

#define LATE_ELEMENTS 1024 /* below, a constant may be a scale of channels, at whose floats many look */

/* Multiply-adds or elements touched, roughly: what a run of the node takes, in double so that nothing overflows. */
static double work_of(const emb_call *c)
{
    const char *op = c->node->op->name;
    double in = 0, out = 0, per = 1;
    for (uint32_t i = 0; i < c->n_in; i++)
        if (emb_has(c, i)) in += (double)emb_elements(&c->in[i].type);
    for (uint32_t i = 0; i < c->n_out; i++) out += (double)emb_elements(&c->out[i].type);
    const emb_type *w = c->n_in > 1 ? &c->in[1].type : NULL;
    for (uint32_t d = 1; strcmp(op, "Conv") == 0 && d < w->rank; d++) per *= (double)w->dims[d];
    if (strcmp(op, "Gemm") == 0) per = (double)w->dims[emb_attr_i(c->node->proto, "transB", 0) != 0];
    if (strcmp(op, "MatMul") == 0) per = (double)c->in[0].type.dims[c->in[0].type.rank - 1];
    if (strcmp(op, "Einsum") == 0) return in + emb_einsum_products(c);
    if (strcmp(op, "LRN") == 0) per = (double)emb_attr_i(c->node->proto, "size", 1);
    if (strcmp(op, "MaxPool") == 0 || strcmp(op, "AveragePool") == 0) {
        int64_t k[2] = {1, 1};
        (void)emb_attr_ints(c->node->proto, "kernel_shape", k, 2);
        per = (double)k[0] * (double)k[1];
    }
    return in + out * per;
}

/* Before anything is computed with constants, or planned to be computed in every run. */
static emb_status afford(emb_graph *g, const emb_call *c, bool fold)
{
    double work = work_of(c);
    size_t bytes = 0;
    for (uint32_t i = 0; i < c->n_out; i++) bytes += emb_type_bytes(&c->out[i].type);
    if (fold) g->folded_work += work, g->folded_bytes += bytes;
    else g->run_work += work;
    if (g->folded_bytes > EMB_FOLDED_BYTES(g->file_bytes))
        return emb_call_fail(c, EMB_ELIMIT, "its constants bring what is computed while loading to %zu MB, the limit for this file is %zu MB", g->folded_bytes >> 20,
                             EMB_FOLDED_BYTES(g->file_bytes) >> 20);
    if (g->folded_work > EMB_FOLDED_WORK(g->file_bytes))
        return emb_call_fail(c, EMB_ELIMIT, "its constants take too long to compute (%.3g steps so far)", g->folded_work);
    if (g->run_work > EMB_RUN_WORK) return emb_call_fail(c, EMB_ELIMIT, "a run would take %.3g multiply-adds, the limit is %.3g", g->run_work, EMB_RUN_WORK);
    return EMB_OK;
}

static bool is_op(const emb_node *n, const char *name) { return strcmp(n->op->name, name) == 0; }

static emb_status settle_value(emb_graph *g, emb_value *v, emb_error *err)
{
    const emb_node *n = &g->nodes[v->producer];
    emb_arg in[3], out = {v->type, malloc(emb_type_bytes(&v->type) + 64)};
    gather_args(g, n, in);
    emb_status st = out.data == NULL ? emb_fail(err, EMB_ENOMEM, "%s: no memory for %s", g->file, v->name) : emb_node_run(g, n, in, &out, err);
    if (st != EMB_OK) {
        free(out.data);
        return st;
    }
    v->data = out.data;
    v->late = false;
    return EMB_OK;
}

emb_status emb_graph_settle(emb_graph *g, const emb_node *n, emb_error *err)
{
    emb_status st = EMB_OK;
    size_t count = n != NULL ? n->n_in : g->n_values;
    for (size_t i = 0; st == EMB_OK && i < count; i++) {
        int32_t v = n != NULL ? n->in[i] : (int32_t)i;
        if (v >= 0 && g->values[v].late) st = settle_value(g, &g->values[v], err);
    }
    return st;
}

/* What takes weights needs no more than their type before it is planned. */
static bool can_wait(const emb_graph *g, const emb_node *n)
{
    bool foldable = true;
    for (uint32_t i = 0; i < n->n_in; i++) foldable = foldable && (n->in[i] < 0 || emb_is_constant(&g->values[n->in[i]]));
    return !foldable && (is_op(n, "Conv") || is_op(n, "Gemm") || is_op(n, "MatMul"));
}

static bool worth_waiting(const emb_node *n, const emb_arg *in)
{
    bool bytes = in[0].type.dtype == EMB_I8 || in[0].type.dtype == EMB_U8;
    return bytes && is_op(n, "DequantizeLinear") && emb_elements(&in[0].type) >= LATE_ELEMENTS;
}

/* Types of the outputs; runs the node when nothing it needs is variable. */
static emb_status node_infer(emb_graph *g, emb_node *n, emb_error *err)
{
    emb_status st = can_wait(g, n) ? EMB_OK : emb_graph_settle(g, n, err);
    if (st != EMB_OK) return st;
    emb_arg *in = calloc((size_t)n->n_in + n->n_out + 1, sizeof *in), *out = in + n->n_in;
    if (in == NULL) return emb_fail(err, EMB_ENOMEM, "%s: no memory", g->file);
    gather_args(g, n, in);
    emb_call c = {g, n, in, out, n->n_in, n->n_out, err};
    st = n->op->infer(&c);
    bool foldable = is_op(n, "Shape");
    if (!foldable) {
        foldable = true;
        for (uint32_t i = 0; i < n->n_in; i++)
            if (n->in[i] >= 0 && in[i].data == NULL) foldable = false;
    }
    for (uint32_t i = 0; st == EMB_OK && i < n->n_out; i++)
        if (!emb_type_sane(&out[i].type)) st = emb_call_fail(&c, EMB_EFORMAT, "output %u is impossibly large", i);
    if (st == EMB_OK) st = afford(g, &c, foldable);
    bool late = st == EMB_OK && foldable && worth_waiting(n, in);
    for (uint32_t i = 0; st == EMB_OK && i < n->n_out; i++) {
        if (foldable && !late && (out[i].data = malloc(emb_type_bytes(&out[i].type) + 64)) == NULL)
            st = emb_fail(err, EMB_ENOMEM, "%s: no memory", g->file);
    }
    if (st == EMB_OK && foldable && !late) st = n->op->run(&c);
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (st != EMB_OK || n->out[i] < 0) {
            free(out[i].data);
            continue;
        }
        emb_value *v = &g->values[n->out[i]];
        v->type = out[i].type;
        v->known = true;
        v->late = late;
        v->data = out[i].data;
    }
    n->folded = st == EMB_OK && foldable;
    free(in);
    return st;
}

static emb_status node_init(emb_graph *g, names *nm, const Onnx__Node *p, emb_node *n, int32_t at, emb_error *err)
{
    n->proto = p;
    if (p->op_type == NULL) return emb_fail(err, EMB_EFORMAT, "%s: node %s has no operator", g->file, node_name(p));
    bool standard = p->domain == NULL || p->domain[0] == 0 || strcmp(p->domain, "ai.onnx") == 0;
    n->op = emb_op_find(p->domain, p->op_type);
    if (n->op != NULL && strcmp(n->op->name, "BatchNormalization") == 0 && emb_attr_i(p, "training_mode", 0) != 0) n->op = &emb_op_batch_stats;
    if (n->op == NULL || n->op->infer == NULL)
        return emb_fail(err, EMB_EUNSUPPORTED, "%s: node %.100s: operator %.60s%s%.40s is not supported", g->file, node_name(p),
                        standard ? "" : p->domain, standard ? "" : ".", p->op_type);
    if (p->n_input > EMB_MAX_INPUTS || p->n_output > EMB_MAX_INPUTS || p->n_input < n->op->min_in || p->n_output == 0 ||
        (n->op->max_in != 255 && p->n_input > n->op->max_in))
        return emb_fail(err, EMB_EFORMAT, "%s: node %.100s (%s) has %zu inputs and %zu outputs", g->file, node_name(p),
                        n->op->name, p->n_input, p->n_output);
    n->n_in = (uint32_t)p->n_input;
    n->n_out = (uint32_t)p->n_output;
    n->in = malloc((p->n_input + p->n_output) * sizeof *n->in);
    if (n->in == NULL) return emb_fail(err, EMB_ENOMEM, "%s: no memory", g->file);
    n->out = n->in + n->n_in;
    for (uint32_t i = 0; i < n->n_in; i++) {
        n->in[i] = p->input[i][0] == 0 ? -1 : name_find(nm, g, p->input[i]);
        if (p->input[i][0] != 0 && n->in[i] < 0)
            return emb_fail(err, EMB_EFORMAT, "%s: node %.80s (%s): input %.80s is made by no earlier node (missing, or a cycle)",
                            g->file, node_name(p), n->op->name, p->input[i]);
        if (i < n->op->min_in && n->in[i] < 0)
            return emb_fail(err, EMB_EFORMAT, "%s: node %.80s (%s): input %u is missing", g->file, node_name(p), n->op->name, i);
    }
    for (uint32_t i = 0; i < n->n_out; i++) {
        n->out[i] = -1;
        if (p->output[i][0] == 0) continue;
        if (name_find(nm, g, p->output[i]) >= 0)
            return emb_fail(err, EMB_EFORMAT, "%s: %.100s is made twice", g->file, p->output[i]);
        n->out[i] = name_add(nm, g, p->output[i]);
        g->values[n->out[i]].producer = at;
    }
    return EMB_OK;
}

/* ---- graph -------------------------------------------------------------------------------------- */

/* Takes the file's bytes over where they are what is wanted, unpacks them otherwise. */
static emb_status take_tensor(emb_graph *g, Onnx__Tensor *t, emb_value *v, emb_error *err)
{
    emb_status st = emb_tensor_type(t, g->file, &v->type, err);
    if (st != EMB_OK) return st;
    v->known = true;
    if (emb_tensor_is_raw(t) && t->raw_data.len > 0) {
        v->data = t->raw_data.data; /* protobuf-c's memory is malloc's */
        t->raw_data.data = NULL;
        t->raw_data.len = 0;
        return EMB_OK;
    }
    v->data = malloc(emb_type_bytes(&v->type) + 64);
    if (v->data == NULL) return emb_fail(err, EMB_ENOMEM, "%s: no memory for tensor %s", g->file, t->name);
    emb_tensor_copy(t, v->data);
    emb_hasher_release(&g->hasher, t->raw_data.data, t->raw_data.len);
    free(t->raw_data.data);
    t->raw_data = (ProtobufCBinaryData){0, NULL};
    return EMB_OK;
}

static emb_dtype float_of(emb_dtype t) { return t == EMB_F16 || t == EMB_F64 ? EMB_F32 : t; }

/* Dimensions that the file leaves free (absent, named, or -1 as some exporters write): one picture of three channels, as large as the
 * metadata say (likeness.size), 224 a side otherwise. */
static emb_status fixed_dims(const emb_graph *g, const Onnx__ValueInfo *vi, emb_type *type, emb_error *err)
{
    const Onnx__Shape *s = vi->type->tensor_type->shape;
    const char *text = emb_graph_metadata(g, "likeness.size");
    int64_t fixed[EMB_MAX_RANK], side = 224;
    char *end = NULL;
    if (text != NULL) side = strtol(text, &end, 10);
    if (text != NULL && (end == text || *end != 0 || side < 1 || side > 4096))
        return emb_fail(err, EMB_EFORMAT, "%s: likeness.size is \"%.60s\"; it must be 1 to 4096", g->file, text);
    for (uint32_t i = 0; i < type->rank; i++) {
        bool said = s->dim[i]->has_dim_value && s->dim[i]->dim_value != -1;
        fixed[i] = said ? s->dim[i]->dim_value : 0;
        if (said && fixed[i] < 1) return emb_fail(err, EMB_EFORMAT, "%s: dimension %u of input %s is %" PRId64, g->file, i, vi->name, fixed[i]);
    }
    bool picture = type->rank == 4, last = picture && fixed[3] == 3 && fixed[1] != 3;
    const int64_t otherwise[4] = {1, last ? side : 3, side, last ? 3 : side};
    for (uint32_t i = 0; i < type->rank; i++) {
        if (fixed[i] == 0 && i > 0 && !picture)
            return emb_fail(err, EMB_EUNSUPPORTED, "%s: dimension %u of input %s is free; export the model with a fixed size", g->file, i, vi->name);
        type->dims[i] = fixed[i] > 0 ? fixed[i] : otherwise[picture ? i : 0];
    }
    return EMB_OK;
}

static emb_status input_type(const emb_graph *g, const Onnx__ValueInfo *vi, emb_value *v, const emb_tensor *given,
                             size_t n_given, emb_error *err)
{
    const Onnx__TensorType *t = vi->type != NULL ? vi->type->tensor_type : NULL;
    size_t k = 0;
    while (k < n_given && strcmp(given[k].name, vi->name) != 0) k++;
    if (k < n_given) {
        v->type.dtype = given[k].dtype;
        v->type.rank = given[k].rank;
        memcpy(v->type.dims, given[k].dims, sizeof v->type.dims);
    } else {
        if (t == NULL || t->shape == NULL || t->shape->n_dim > EMB_MAX_RANK)
            return emb_fail(err, EMB_EUNSUPPORTED, "%s: input %s has no tensor shape", g->file, vi->name);
        v->type.dtype = (emb_dtype)t->elem_type;
        v->type.rank = (uint32_t)t->shape->n_dim;
    }
    if (k == n_given) {
        emb_status st = fixed_dims(g, vi, &v->type, err);
        if (st != EMB_OK) return st;
    }
    if (emb_dtype_size(v->type.dtype) == 0 || !emb_type_sane(&v->type))
        return emb_fail(err, EMB_EFORMAT, "%s: input %s has an impossible type or shape", g->file, vi->name);
    v->stored = v->type.dtype;
    v->type.dtype = float_of(v->stored);
    v->known = true;
    return EMB_OK;
}

/* Whole numbers that are given, and a few numbers of any kind, are shapes, axes, indices and scales more often than data: they count as
 * constants of this graph. */
static emb_status take_constant(const emb_graph *g, emb_value *v, const emb_tensor *given, size_t n_given, emb_error *err)
{
    size_t bytes = emb_type_bytes(&v->type), k = 0;
    while (k < n_given && strcmp(given[k].name, v->name) != 0) k++;
    if (k == n_given || given[k].data == NULL || given[k].bytes != bytes || given[k].dtype != v->type.dtype) return EMB_OK;
    bool whole = v->type.dtype == EMB_I64 || v->type.dtype == EMB_I32, few = v->type.rank <= 1 && emb_elements(&v->type) <= EMB_MAX_RANK;
    if (!whole && !few) return EMB_OK;
    v->data = malloc(bytes + 64);
    if (v->data == NULL) return emb_fail(err, EMB_ENOMEM, "%s: no memory for input %s", g->file, v->name);
    memcpy(v->data, given[k].data, bytes);
    return EMB_OK;
}

static emb_status add_values(emb_graph *g, names *nm, const emb_tensor *given, size_t n_given, emb_error *err)
{
    const Onnx__Graph *p = g->proto->graph;
    emb_status st = EMB_OK;
    for (size_t i = 0; st == EMB_OK && i < p->n_initializer; i++) {
        Onnx__Tensor *t = p->initializer[i];
        if (t->name == NULL || t->name[0] == 0 || name_find(nm, g, t->name) >= 0)
            return emb_fail(err, EMB_EFORMAT, "%s: an initializer has no name or one that is taken", g->file);
        st = take_tensor(g, t, &g->values[name_add(nm, g, t->name)], err);
    }
    for (size_t i = 0; st == EMB_OK && i < p->n_input; i++) {
        if (p->input[i]->name == NULL) return emb_fail(err, EMB_EFORMAT, "%s: an input has no name", g->file);
        if (name_find(nm, g, p->input[i]->name) >= 0) continue; /* old exports list initializers as inputs too */
        int32_t v = name_add(nm, g, p->input[i]->name);
        g->inputs[g->n_inputs++] = v;
        st = input_type(g, p->input[i], &g->values[v], given, n_given, err);
        if (st == EMB_OK) st = take_constant(g, &g->values[v], given, n_given, err);
    }
    return st;
}

/* Inputs that nothing is computed with are none, unless they are given: some exporters leave the constants of a preprocessing behind. */
static void drop_unused_inputs(emb_graph *g, const emb_tensor *given, size_t n_given)
{
    size_t used = 0, kept = 0;
    for (size_t i = 0; i < g->n_inputs; i++) used += g->values[g->inputs[i]].uses > 0;
    for (size_t i = 0; used > 0 && i < g->n_inputs; i++) {
        const emb_value *v = &g->values[g->inputs[i]];
        size_t k = 0;
        while (k < n_given && strcmp(given[k].name, v->name) != 0) k++;
        if (v->uses > 0 || k < n_given) g->inputs[kept++] = g->inputs[i];
    }
    if (used > 0) g->n_inputs = kept;
}

static emb_status build(emb_graph *g, const emb_tensor *given, size_t n_given, emb_error *err)
{
    Onnx__Graph *p = g->proto->graph;
    if (p == NULL || p->n_node == 0) return emb_fail(err, EMB_EFORMAT, "%s: the file holds no graph", g->file);
    emb_status st = emb_lower(p, g->file, err);
    if (st != EMB_OK) return st;
    if (p->n_node > EMB_MAX_NODES)
        return emb_fail(err, EMB_ELIMIT, "%s: %zu nodes, the limit is %d", g->file, p->n_node, EMB_MAX_NODES);
    for (size_t i = 0; i < g->proto->n_opset_import; i++) {
        const Onnx__OperatorSet *o = g->proto->opset_import[i];
        if (o->domain == NULL || o->domain[0] == 0 || strcmp(o->domain, "ai.onnx") == 0) g->opset = o->version;
    }
    if (g->opset < EMB_OPSET_FIRST || g->opset > EMB_OPSET_LAST)
        return emb_fail(err, EMB_EUNSUPPORTED, "%s: opset %" PRId64 "; supported are %d to %d", g->file, g->opset,
                        EMB_OPSET_FIRST, EMB_OPSET_LAST);
    size_t count = p->n_initializer + p->n_input;
    for (size_t i = 0; i < p->n_node; i++) count += p->node[i]->n_output;
    if (count > EMB_MAX_VALUES) return emb_fail(err, EMB_ELIMIT, "%s: %zu values, the limit is %d", g->file, count, EMB_MAX_VALUES);
    size_t slots = 16;
    while (slots < count * 2 + 2) slots *= 2;
    names nm = {calloc(slots, sizeof *nm.slot), slots - 1, 0};
    nm.seed = (size_t)(uintptr_t)nm.slot * 0x9e3779b97f4a7c15u;
    g->values = calloc(count + 1, sizeof *g->values);
    g->nodes = calloc(p->n_node, sizeof *g->nodes);
    g->inputs = calloc(p->n_input + 1, sizeof *g->inputs);
    g->outputs = calloc(p->n_output + 1, sizeof *g->outputs);
    if (nm.slot == NULL || g->values == NULL || g->nodes == NULL || g->inputs == NULL || g->outputs == NULL)
        st = emb_fail(err, EMB_ENOMEM, "%s: no memory", g->file);
    if (st == EMB_OK) st = add_values(g, &nm, given, n_given, err);
    for (size_t i = 0; st == EMB_OK && i < p->n_node; i++) {
        g->n_nodes = i + 1;
        st = node_init(g, &nm, p->node[i], &g->nodes[i], (int32_t)i, err);
        if (st == EMB_OK) st = node_infer(g, &g->nodes[i], err);
    }
    for (size_t i = 0; st == EMB_OK && i < p->n_output; i++) {
        int32_t v = p->output[i]->name != NULL ? name_find(&nm, g, p->output[i]->name) : -1;
        if (v < 0) st = emb_fail(err, EMB_EFORMAT, "%s: output %zu is made by no node", g->file, i);
        else g->outputs[g->n_outputs++] = v;
        const Onnx__Type *t = p->output[i]->type;
        if (st == EMB_OK && t != NULL && t->tensor_type != NULL && float_of((emb_dtype)t->tensor_type->elem_type) == g->values[v].type.dtype)
            g->values[v].stored = (emb_dtype)t->tensor_type->elem_type;
    }
    if (st == EMB_OK && g->n_outputs == 0) st = emb_fail(err, EMB_EFORMAT, "%s: the graph has no output", g->file);
    free(nm.slot);
    if (st != EMB_OK) return st;
    emb_graph_count_uses(g);
    drop_unused_inputs(g, given, n_given);
    emb_rewrite(g);
    return EMB_OK;
}

void emb_graph_count_uses(emb_graph *g)
{
    for (size_t i = 0; i < g->n_values; i++) g->values[i].uses = 0;
    for (size_t i = 0; i < g->n_outputs; i++) g->values[g->outputs[i]].uses++;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const emb_node *n = &g->nodes[i];
        bool over = n->folded && (n->out[0] < 0 || !g->values[n->out[0]].late);
        for (uint32_t k = 0; !over && k < n->n_in; k++)
            if (n->in[k] >= 0) g->values[n->in[k]].uses++;
    }
}

int32_t emb_graph_add_constant(emb_graph *g, emb_node *n, uint32_t in, const emb_type *t, const void *data)
{
    const emb_type type = *t; /* which may be that of a value, and these move */
    uint32_t n_in = in + 1 > n->n_in ? in + 1 : n->n_in;
    char name[64];
    int len = snprintf(name, sizeof name, "likeness:constant_%zu", g->n_values);
    size_t bytes = emb_type_bytes(&type);
    emb_value *values = realloc(g->values, (g->n_values + 1) * sizeof *values);
    if (values != NULL) g->values = values;
    int32_t *args = values != NULL ? malloc((n_in + n->n_out) * sizeof *args) : NULL;
    char *copy = args != NULL ? malloc(bytes + 64 + (size_t)len + 1) : NULL;
    if (copy == NULL) {
        free(args);
        return -1;
    }
    for (uint32_t k = 0; k < n_in; k++) args[k] = k < n->n_in ? n->in[k] : -1;
    memcpy(args + n_in, n->out, n->n_out * sizeof *args);
    args[in] = (int32_t)g->n_values;
    free(n->in);
    n->in = args;
    n->out = args + n_in;
    n->n_in = n_in;
    if (data != NULL) memcpy(copy, data, bytes);
    else memset(copy, 0, bytes);
    memcpy(copy + bytes + 64, name, (size_t)len + 1); /* lives and goes with the data */
    g->values[g->n_values] = (emb_value){.name = copy + bytes + 64, .type = type, .known = true, .data = copy, .producer = -1, .uses = 1};
    return (int32_t)g->n_values++;
}

/* Empty messages take two bytes in a file and a hundred in memory: what a file may make of itself is bounded. */
emb_status emb_graph_load(emb_onnx_source *from, const emb_tensor *inputs, size_t n_inputs, emb_graph **out, emb_error *err)
{
    emb_graph *g = calloc(1, sizeof *g);
    if (g == NULL) return emb_fail(err, EMB_ENOMEM, "%s: no memory", from->name);
    g->file = from->name;
    emb_status st = emb_onnx_read(from, &g->hasher, &g->proto, err);
    g->file_bytes = from->n;
    if (st == EMB_OK) st = build(g, inputs, n_inputs, err);
    if (st != EMB_OK) {
        emb_graph_free(g);
        return st;
    }
    *out = g;
    return EMB_OK;
}

void *emb_graph_take(emb_graph *g, emb_value *v)
{
    void *data = v->data;
    emb_hasher_release(&g->hasher, data, emb_type_bytes(&v->type));
    v->data = NULL;
    return data;
}

void emb_graph_drop(emb_graph *g, bool (*needed)(const void *data, const void *ctx), const void *ctx)
{
    emb_hasher_finish(&g->hasher);
    for (size_t i = 0; i < g->n_values; i++) {
        if (g->values[i].data == NULL || needed(g->values[i].data, ctx)) continue;
        free(g->values[i].data);
        g->values[i].data = NULL;
    }
}

void emb_graph_free(emb_graph *g)
{
    if (g == NULL) return;
    emb_hasher_finish(&g->hasher);
    for (size_t i = 0; i < g->n_values; i++) free(g->values[i].data);
    for (size_t i = 0; i < g->n_nodes; i++) free(g->nodes[i].in);
    if (g->proto != NULL) onnx__model__free_unpacked(g->proto, NULL);
    free(g->values);
    free(g->nodes);
    free(g->inputs);
    free(g->outputs);
    free(g);
}
