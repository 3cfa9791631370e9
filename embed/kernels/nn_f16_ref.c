/* nn_f16_ref.c: the scalar definition over float16: what is stored is rounded, sums are float32. */
#include "../half.h"

#define T            uint16_t
#define GET(p, i)    emb_half_to_float((p)[i])
#define PUT(p, i, v) ((void)((p)[i] = emb_float_to_half(v)))
#define TYPE         EMB_F16
#define NAME         "ref-f16"
#define GROUP        2u
#define TABLE        emb_kernels_f16_ref

#include "ref.inc"
