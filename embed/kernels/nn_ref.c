/* nn_ref.c: the scalar definition over float32, and what runs where no vector unit is known. */
#define T            float
#define GET(p, i)    ((p)[i])
#define PUT(p, i, v) ((void)((p)[i] = (v)))
#define TYPE         EMB_F32
#define NAME         "ref"
#define GROUP        1u
#define TABLE        emb_kernels_ref

#include "ref.inc"
