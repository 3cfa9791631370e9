/* nn_bf16_ref.c: the scalar definition over bfloat16: what is stored is rounded, sums are float32. */
#include "../half.h"

#define T            uint16_t
#define GET(p, i)    emb_bf16_to_float((p)[i])
#define PUT(p, i, v) ((void)((p)[i] = emb_float_to_bf16(v)))
#define TYPE         EMB_BF16
#define NAME         "ref-bf16"
#define GROUP        2u
#define TABLE        emb_kernels_bf16_ref

#include "ref.inc"
