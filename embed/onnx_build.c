/* onnx_build.c: protobuf-c structures over blocks of memory that are freed together. */
#include "onnx_build.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

typedef struct block {
    struct block *next;
    max_align_t bytes[];
} block;

typedef struct { /* what a repeated field points to */
    void **items;
    size_t n, room;
} list;

struct emb_build {
    block *blocks;
    Onnx__Model model;
    Onnx__Graph graph;
    Onnx__OperatorSet opset, *opsets[1];
    list nodes, tensors, inputs, outputs;
    bool failed;
};

static void *take(emb_build *b, size_t bytes)
{
    block *k = b->failed ? NULL : calloc(1, sizeof *k + bytes);
    if (k == NULL) {
        b->failed = true;
        return NULL;
    }
    k->next = b->blocks;
    b->blocks = k;
    return k->bytes;
}

static void add(emb_build *b, list *l, void *item)
{
    if (item == NULL || b->failed) return;
    if (l->n == l->room) {
        size_t room = l->room * 2 + 64;
        void **grown = realloc(l->items, room * sizeof *grown);
        if (grown == NULL) {
            b->failed = true;
            return;
        }
        l->items = grown;
        l->room = room;
    }
    l->items[l->n++] = item;
}

emb_build *emb_build_new(const Onnx__Model *like, int64_t opset)
{
    emb_build *b = calloc(1, sizeof *b);
    if (b == NULL) return NULL;
    int64_t ir = opset >= 15 ? 8 : 7; /* the versions that came with those operator sets */
    onnx__model__init(&b->model);
    onnx__graph__init(&b->graph);
    onnx__operator_set__init(&b->opset);
    b->model.has_ir_version = true;
    b->model.ir_version = like->ir_version > ir ? like->ir_version : ir;
    b->model.producer_name = (char *)"likeness";
    b->model.producer_version = (char *)LK_VERSION;
    b->model.metadata_props = like->metadata_props;
    b->model.n_metadata_props = like->n_metadata_props;
    b->model.graph = &b->graph;
    b->opset.domain = (char *)"";
    b->opset.has_version = true;
    b->opset.version = opset;
    b->opsets[0] = &b->opset;
    b->model.opset_import = b->opsets;
    b->model.n_opset_import = 1;
    b->graph.name = like->graph->name != NULL && like->graph->name[0] != 0 ? like->graph->name : (char *)"graph";
    return b;
}

void emb_build_free(emb_build *b)
{
    if (b == NULL) return;
    for (block *k = b->blocks, *next; k != NULL; k = next) {
        next = k->next;
        free(k);
    }
    free(b->nodes.items);
    free(b->tensors.items);
    free(b->inputs.items);
    free(b->outputs.items);
    free(b);
}

const char *emb_build_text(emb_build *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *text = n >= 0 ? take(b, (size_t)n + 1) : NULL;
    if (text != NULL) vsnprintf(text, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return text != NULL ? text : "";
}

static Onnx__ValueInfo *value_info(emb_build *b, const char *name, const emb_type *t)
{
    struct {
        Onnx__ValueInfo info;
        Onnx__Type type;
        Onnx__TensorType tensor;
        Onnx__Shape shape;
        Onnx__Dimension dim[EMB_MAX_RANK], *dims[EMB_MAX_RANK];
    } *v = take(b, sizeof *v);
    if (v == NULL) return NULL;
    onnx__value_info__init(&v->info);
    onnx__type__init(&v->type);
    onnx__tensor_type__init(&v->tensor);
    onnx__shape__init(&v->shape);
    v->info.name = (char *)name;
    v->info.type = &v->type;
    v->type.tensor_type = &v->tensor;
    v->tensor.has_elem_type = true;
    v->tensor.elem_type = (int32_t)t->dtype;
    v->tensor.shape = &v->shape;
    v->shape.dim = v->dims;
    v->shape.n_dim = t->rank;
    for (uint32_t i = 0; i < t->rank; i++) {
        onnx__dimension__init(&v->dim[i]);
        v->dim[i].has_dim_value = true;
        v->dim[i].dim_value = t->dims[i];
        v->dims[i] = &v->dim[i];
    }
    return &v->info;
}

void emb_build_input(emb_build *b, const char *name, const emb_type *t) { add(b, &b->inputs, value_info(b, name, t)); }
void emb_build_output(emb_build *b, const char *name, const emb_type *t) { add(b, &b->outputs, value_info(b, name, t)); }

void emb_build_tensor(emb_build *b, const char *name, const emb_type *t, const void *data)
{
    Onnx__Tensor *x = take(b, sizeof *x);
    int64_t *dims = take(b, sizeof t->dims);
    size_t bytes = emb_type_bytes(t);
    uint8_t *copy = take(b, bytes + 1);
    if (copy == NULL) return;
    onnx__tensor__init(x);
    memcpy(dims, t->dims, t->rank * sizeof *dims);
    memcpy(copy, data, bytes);
    x->name = (char *)name;
    x->dims = dims;
    x->n_dims = t->rank;
    x->has_data_type = true;
    x->data_type = (int32_t)t->dtype;
    x->has_raw_data = true;
    x->raw_data.data = copy;
    x->raw_data.len = bytes;
    add(b, &b->tensors, x);
}

void emb_build_scalar(emb_build *b, const char *name, emb_dtype dtype, const void *data)
{
    emb_build_tensor(b, name, &(emb_type){.dtype = dtype}, data);
}

void emb_build_node(emb_build *b, const char *op, const char *name, const char *const *in, size_t n_in, const char *const *out, size_t n_out)
{
    Onnx__Node *n = take(b, sizeof *n);
    const char **names = take(b, (n_in + n_out + 1) * sizeof *names);
    if (names == NULL) return;
    onnx__node__init(n);
    memcpy(names, in, n_in * sizeof *names);
    memcpy(names + n_in, out, n_out * sizeof *names);
    n->op_type = (char *)op;
    n->name = (char *)name;
    n->input = (char **)names;
    n->n_input = n_in;
    n->output = (char **)names + n_in;
    n->n_output = n_out;
    add(b, &b->nodes, n);
}

static void add_attribute(emb_build *b, Onnx__Attribute *a)
{
    if (b->failed || b->nodes.n == 0) return;
    Onnx__Node *n = b->nodes.items[b->nodes.n - 1];
    Onnx__Attribute **grown = take(b, (n->n_attribute + 1) * sizeof(Onnx__Attribute *));
    if (grown == NULL) return;
    if (n->n_attribute > 0) memcpy(grown, n->attribute, n->n_attribute * sizeof *grown);
    grown[n->n_attribute++] = a;
    n->attribute = grown;
}

void emb_build_borrow(emb_build *b, const Onnx__Attribute *a) { add_attribute(b, (Onnx__Attribute *)a); }

static Onnx__Attribute *attribute(emb_build *b, const char *name, int type)
{
    Onnx__Attribute *a = take(b, sizeof *a);
    if (a == NULL) return NULL;
    onnx__attribute__init(a);
    a->name = (char *)name;
    a->has_type = true;
    a->type = type;
    add_attribute(b, a);
    return a;
}

enum { INT = 2, INTS = 7 }; /* AttributeProto.AttributeType */

void emb_build_attribute(emb_build *b, const char *name, int64_t value)
{
    Onnx__Attribute *a = attribute(b, name, INT);
    if (a == NULL) return;
    a->has_i = true;
    a->i = value;
}

void emb_build_ints(emb_build *b, const char *name, const int64_t *v, size_t n)
{
    Onnx__Attribute *a = attribute(b, name, INTS);
    int64_t *copy = take(b, (n + 1) * sizeof *copy);
    if (a == NULL || copy == NULL) return;
    memcpy(copy, v, n * sizeof *copy);
    a->ints = copy;
    a->n_ints = n;
}

emb_status emb_build_pack(emb_build *b, void **bytes, size_t *n, emb_error *err)
{
    Onnx__Graph *g = &b->graph;
    g->node = (Onnx__Node **)b->nodes.items, g->n_node = b->nodes.n;
    g->initializer = (Onnx__Tensor **)b->tensors.items, g->n_initializer = b->tensors.n;
    g->input = (Onnx__ValueInfo **)b->inputs.items, g->n_input = b->inputs.n;
    g->output = (Onnx__ValueInfo **)b->outputs.items, g->n_output = b->outputs.n;
    size_t size = b->failed ? 0 : onnx__model__get_packed_size(&b->model);
    uint8_t *to = size > 0 ? malloc(size) : NULL;
    if (to == NULL) return emb_fail(err, EMB_ENOMEM, "no memory to write a model");
    *n = onnx__model__pack(&b->model, to);
    *bytes = to;
    return EMB_OK;
}
