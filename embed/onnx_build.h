/* onnx_build.h: an ONNX file made in memory, node by node. The first thing that fails (no memory) makes every later call do
 * nothing, and emb_build_pack says so. */
#ifndef LK_ONNX_BUILD_H
#define LK_ONNX_BUILD_H

#include "graph.h"

typedef struct emb_build emb_build;

/* Name, producer and metadata are those of `like`, which must outlive the build. NULL = no memory. */
emb_build *emb_build_new(const Onnx__Model *like, int64_t opset);
void emb_build_free(emb_build *b); /* NULL is fine */

/* Text that lives as long as the build; "" when there is no memory. */
const char *emb_build_text(emb_build *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void emb_build_input(emb_build *b, const char *name, const emb_type *t);
void emb_build_output(emb_build *b, const char *name, const emb_type *t);
void emb_build_tensor(emb_build *b, const char *name, const emb_type *t, const void *data); /* copied */
void emb_build_scalar(emb_build *b, const char *name, emb_dtype dtype, const void *data);   /* rank 0 */
/* Names are borrowed until the build is freed (a graph's, or emb_build_text); "" is an argument left out. */
void emb_build_node(emb_build *b, const char *op, const char *name, const char *const *in, size_t n_in, const char *const *out, size_t n_out);
/* Attributes of the node that was added last. */
void emb_build_borrow(emb_build *b, const Onnx__Attribute *a);
void emb_build_attribute(emb_build *b, const char *name, int64_t value);
void emb_build_ints(emb_build *b, const char *name, const int64_t *v, size_t n);

/* *bytes: malloc. */
EMB_CHECK emb_status emb_build_pack(emb_build *b, void **bytes, size_t *n, emb_error *err);

#endif
