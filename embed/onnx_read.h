/* onnx_read.h: an ONNX file's bytes -> its messages. */
#ifndef LK_ONNX_READ_H
#define LK_ONNX_READ_H

#include "embed.h"
#include "hasher.h"
#include "onnx.pb-c.h"

typedef struct {          /* where the bytes are */
    const char *name;     /* for messages; the path where memory is NULL */
    const void *memory;   /* borrowed during the call */
    size_t n;             /* of memory; set for a file */
} emb_onnx_source;

/* Reads once, from the beginning to the end; the hasher, which this starts, takes every byte. *out is as protobuf-c unpacks it, and
 * onnx__model__free_unpacked(*out, NULL) frees it: all of its memory is malloc's. Messages may take EMB_FOLDED_BYTES(from->n), and weights
 * as many as they have in the file. The raw_data of initializers may still be hashed when this returns: emb_hasher_release() or
 * emb_hasher_finish() goes before they change or are freed. After a failure it has finished. */
EMB_CHECK emb_status emb_onnx_read(emb_onnx_source *from, emb_hasher *hasher, Onnx__Model **out, emb_error *err);

#endif
