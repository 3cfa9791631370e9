/* dot.h: inner products of a query with stored rows, the one distance of this folder.
 *
 * Rows are kept as float32, as float16 (IEEE half), or as int8: one byte a number, value + 128, without a scale, because a
 * direction needs none. What a row stands for has length 1: the product with an int8 row is divided by the row's own length.
 * Rows are padded to whole cache lines (IDX_ROW_ALIGN) with what counts as zero, and so are queries: kernels have no tails.
 *
 * THE SCALAR FORMS (dot.c) DEFINE THE RESULT. The forms for a processor sum in another order, so that floats differ in the last
 * bits between processors; within a process `one` and `four` give the same bits for the same row, so that an item's score does
 * not depend on how it was found. The integer products are exact and the same everywhere. */
#ifndef LK_DOT_H
#define LK_DOT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { IDX_ROW_ALIGN = 64 };

typedef struct {
    const char *name;
    /* n: numbers of a padded row. q: as padded. rows: on cache lines. */
    float (*f32_one)(const float *q, const float *row, size_t n);
    void (*f32_four)(const float *q, const float *const row[4], size_t n, float out[4]);
    float (*f16_one)(const float *q, const uint16_t *row, size_t n);
    void (*f16_four)(const float *q, const uint16_t *const row[4], size_t n, float out[4]);
    /* dot: sum of q * (row - 128); square: sum of (row - 128)^2. q: -127..127, row: 1..255 */
    void (*i8_one)(const int8_t *q, const uint8_t *row, size_t n, int32_t *dot, int32_t *square);
    void (*i8_four)(const int8_t *q, const uint8_t *const row[4], size_t n, int32_t dot[4], int32_t square[4]);
    /* A float query with an int8 row: sum of q * (row - 128). */
    float (*f32_i8)(const float *q, const uint8_t *row, size_t n);
    void (*f16_widen)(const uint16_t *row, size_t n, float *out);
    /* Which of n numbers are in the set of bits w, in order: i of number[i] to out, which has room for n + 16. Returns how many. none: the
     * bit to ask in place of larger numbers; a multiple of 64. */
    uint32_t (*members)(const uint64_t *w, uint32_t none, const uint32_t *number, uint32_t n, uint32_t *out);
} idx_kernels;

/* Chosen once by processor, and by IDX_CPU (scalar, avx2, avx512, vnni, neon) where that is set to one this processor has. */
const idx_kernels *idx_kernels_get(void);
/* Those that this processor has, the scalar one first; for tests. NULL behind the last. */
const idx_kernels *idx_kernels_at(size_t i);

/* Two float rows of any length and alignment. */
float idx_dot(const float *a, const float *b, size_t n);

uint16_t idx_half_from_float(float x); /* to nearest, ties to even */
float idx_half_to_float(uint16_t h);

/* One for each file of kernels; each takes what it does not improve from the table it is given. */
void idx_kernels_avx2(idx_kernels *k);   /* AVX2, FMA, F16C */
void idx_kernels_avx512(idx_kernels *k); /* AVX-512F */
void idx_kernels_vnni(idx_kernels *k);   /* AVX-512F, BW, VNNI */
void idx_kernels_neon(idx_kernels *k);   /* arm64's baseline */
void idx_kernels_dotprod(idx_kernels *k); /* Armv8.2's dot product of bytes */

#ifdef __cplusplus
}
#endif

#endif
