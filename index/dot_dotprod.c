/* dot_dotprod.c: byte products with the dot product instructions of Armv8.2. */
#include "dot.h"

#include <arm_neon.h>

static inline __attribute__((always_inline)) void rows(int count, const int8_t *q, const uint8_t *const *row, size_t n, int32_t *dot,
                                                       int32_t *square)
{
    int32x4_t d[4], s[4];
    for (int r = 0; r < count; r++) d[r] = s[r] = vdupq_n_s32(0);
    for (size_t i = 0; i < n; i += 16) {
        int8x16_t v = vld1q_s8(q + i);
        for (int r = 0; r < count; r++) {
            int8x16_t b = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(row[r] + i), vdupq_n_u8(0x80)));
            d[r] = vdotq_s32(d[r], v, b);
            s[r] = vdotq_s32(s[r], b, b);
        }
    }
    for (int r = 0; r < count; r++) {
        dot[r] = vaddvq_s32(d[r]);
        square[r] = vaddvq_s32(s[r]);
    }
}

static void i8_one(const int8_t *q, const uint8_t *row, size_t n, int32_t *dot, int32_t *square)
{
    rows(1, q, (const uint8_t *const[]){row}, n, dot, square);
}

static void i8_four(const int8_t *q, const uint8_t *const row[4], size_t n, int32_t dot[4], int32_t square[4])
{
    rows(4, q, (const uint8_t *const[]){row[0], row[1], row[2], row[3]}, n, dot, square);
}

void idx_kernels_dotprod(idx_kernels *k)
{
    k->i8_one = i8_one;
    k->i8_four = i8_four;
}
