/* dot.c: the scalar kernels, which define the others, and the choice among them. */
#include "dot.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

/* ---- halves ------------------------------------------------------------------------------------------------------------ */

float idx_half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff, bits;
    float f;
    if (rest >= 0x7c00) bits = sign | 0x7f800000u | (rest & 0x3ff) << 13; /* infinite, NaN */
    else if (rest >= 0x400) bits = sign | ((rest << 13) + ((127u - 15u) << 23));
    else { /* subnormal: a whole number of 2^-24 */
        f = (float)rest * 0x1p-24f;
        memcpy(&bits, &f, sizeof bits);
        bits |= sign;
    }
    memcpy(&f, &bits, sizeof f);
    return f;
}

uint16_t idx_half_from_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest >= 0x7f800000u) return (uint16_t)(sign | 0x7c00 | (rest > 0x7f800000u ? 0x200 : 0));
    if (rest >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); /* rounds to more than 65504 */
    if (rest < 0x38800000u) {                                  /* below 2^-14: a whole number of 2^-24 */
        float f;
        memcpy(&f, &rest, sizeof f);
        f += 0.5f; /* the sum's last bit is worth 2^-24: the processor rounds */
        memcpy(&rest, &f, sizeof rest);
        return (uint16_t)(sign | (rest - 0x3f000000u));
    }
    rest += 0xfffu + (rest >> 13 & 1); /* half of the last bit that stays, a tie to even */
    return (uint16_t)(sign | (rest - ((127u - 15u) << 23)) >> 13);
}

/* ---- the scalar forms: eight sums, which compilers turn into the baseline's vectors ------------------------------------------ */

static float eight(const float s[8]) { return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])); }

static float f32_one(const float *q, const float *row, size_t n)
{
    float s[8] = {0};
    for (size_t i = 0; i < n; i += 8)
        for (size_t k = 0; k < 8; k++) s[k] += q[i + k] * row[i + k];
    return eight(s);
}

static float f16_one(const float *q, const uint16_t *row, size_t n)
{
    float s[8] = {0};
    for (size_t i = 0; i < n; i += 8)
        for (size_t k = 0; k < 8; k++) s[k] += q[i + k] * idx_half_to_float(row[i + k]);
    return eight(s);
}

static float f32_i8(const float *q, const uint8_t *row, size_t n)
{
    float s[8] = {0};
    for (size_t i = 0; i < n; i += 8)
        for (size_t k = 0; k < 8; k++) s[k] += q[i + k] * (float)(row[i + k] - 128);
    return eight(s);
}

static void i8_one(const int8_t *q, const uint8_t *row, size_t n, int32_t *dot, int32_t *square)
{
    int32_t d = 0, s = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t r = row[i] - 128;
        d += q[i] * r;
        s += r * r;
    }
    *dot = d;
    *square = s;
}

static void f32_four(const float *q, const float *const row[4], size_t n, float out[4])
{
    for (int r = 0; r < 4; r++) out[r] = f32_one(q, row[r], n);
}

static void f16_four(const float *q, const uint16_t *const row[4], size_t n, float out[4])
{
    for (int r = 0; r < 4; r++) out[r] = f16_one(q, row[r], n);
}

static void i8_four(const int8_t *q, const uint8_t *const row[4], size_t n, int32_t dot[4], int32_t square[4])
{
    for (int r = 0; r < 4; r++) i8_one(q, row[r], n, &dot[r], &square[r]);
}

static void f16_widen(const uint16_t *row, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = idx_half_to_float(row[i]);
}

float idx_dot(const float *a, const float *b, size_t n)
{
    size_t whole = n / 8 * 8;
    float sum = f32_one(a, b, whole);
    for (size_t i = whole; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* ---- the choice ------------------------------------------------------------------------------------------------------------- */

/* Half of them may be, in no order that a branch could learn. */
static uint32_t members(const uint64_t *w, uint32_t none, const uint32_t *number, uint32_t n, uint32_t *out)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t bit = number[i] < none ? number[i] : none;
        out[found] = i;
        found += (uint32_t)(w[bit / 64] >> bit % 64 & 1);
    }
    return found;
}

static idx_kernels table[4] = {{"scalar", f32_one, f32_four, f16_one, f16_four, i8_one, i8_four, f32_i8, f16_widen, members}};
static size_t n_tables = 1;
static const idx_kernels *chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void offer(const char *name, void (*fill)(idx_kernels *))
{
    table[n_tables] = table[n_tables - 1];
    table[n_tables].name = name;
    fill(&table[n_tables++]);
}

static void choose(void)
{
#if defined(__x86_64__)
    /* GCC's runtime asks CPUID and whether the operating system saves the registers. Processors with AVX2 and FMA have F16C;
     * clang 14 does not know its name here. */
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f");
    if (avx2) offer("avx2", idx_kernels_avx2);
    if (avx512) offer("avx512", idx_kernels_avx512);
    if (avx512 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni")) offer("vnni", idx_kernels_vnni);
#elif defined(__aarch64__)
    offer("neon", idx_kernels_neon);
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) offer("dotprod", idx_kernels_dotprod);
#endif
    chosen = &table[n_tables - 1];
    const char *name = getenv("IDX_CPU");
    for (size_t i = 0; name != NULL && i < n_tables; i++)
        if (strcmp(table[i].name, name) == 0) chosen = &table[i];
}

const idx_kernels *idx_kernels_get(void)
{
    pthread_once(&once, choose);
    return chosen;
}

const idx_kernels *idx_kernels_at(size_t i)
{
    pthread_once(&once, choose);
    return i < n_tables ? &table[i] : NULL;
}
