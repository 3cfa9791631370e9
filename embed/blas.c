/* blas.c: what the loaded OpenBLAS runs. The products of the general executor (Gemm, MatMul, Conv over NCHW) are its. */
#include "embed.h"

#include <cblas.h>

/* Declared here because Debian's cblas.h of OpenBLAS and the reference cblas.h differ in it. */
extern char *openblas_get_corename(void);

const char *emb_blas_core(void) { return openblas_get_corename(); }
