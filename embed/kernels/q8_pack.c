/* q8_pack.c: the order in which quantised kernels want depthwise weights, and which table is in use. */
#include "q8.h"
#include "../cpu.h"

#include <pthread.h>
#include <string.h>

uint32_t emb_q8_lanes(const emb_kernels_q8 *k, uint32_t channels)
{
    uint32_t n = 0;
    while (n < channels) n += emb_q8_chunk(k->lanes, channels - n);
    return n;
}

/* Byte interleaving brings channels 4 i to 4 i + 3 of every 128 bits into vector i. */
static uint32_t place(uint32_t lanes, uint32_t c) { return c % 16 / 4 * (lanes / 4) + c / 16 * 4 + c % 4; }

size_t emb_q8_depthwise_bytes(const emb_kernels_q8 *k, uint32_t channels, uint32_t kh, uint32_t kw)
{
    return (size_t)emb_q8_lanes(k, channels) * kw * ((kh + 3) / 4) * 4;
}

void emb_q8_pack_depthwise(const emb_kernels_q8 *k, const int8_t *w, uint32_t channels, uint32_t kh, uint32_t kw, int8_t *to)
{
    uint32_t fours = (kh + 3) / 4;
    memset(to, 0, emb_q8_depthwise_bytes(k, channels, kh, kw));
    for (uint32_t c0 = 0, lanes; c0 < channels; c0 += lanes, to += (size_t)lanes * kw * fours * 4) {
        lanes = emb_q8_chunk(k->lanes, channels - c0);
        for (uint32_t c = 0; c < lanes && c0 + c < channels; c++)
            for (uint32_t ky = 0; ky < kh; ky++)
                for (uint32_t kx = 0; kx < kw; kx++)
                    to[((size_t)(kx * fours + ky / 4) * lanes + place(lanes, c)) * 4 + ky % 4] = w[((size_t)(c0 + c) * kh + ky) * kw + kx];
    }
}

void emb_q8_pack_channels(const emb_kernels_q8 *k, const float *from, uint32_t channels, float *to)
{
    memset(to, 0, emb_q8_lanes(k, channels) * sizeof *to);
    for (uint32_t c0 = 0, lanes; c0 < channels; c0 += lanes, to += lanes) {
        lanes = emb_q8_chunk(k->lanes, channels - c0);
        for (uint32_t c = 0; c < lanes && c0 + c < channels; c++) to[place(lanes, c)] = from[c0 + c];
    }
}

/* With the weights of a chunk, moved for another row. */
size_t emb_q8_columns_bytes(uint32_t width, uint32_t kh, uint32_t kw) { return ((size_t)width + kw) * ((kh + 3) / 4) * 64 * 4; }

#if defined(__x86_64__)
static emb_kernels_q8 amx;
static pthread_once_t amx_once = PTHREAD_ONCE_INIT;
static void init_amx(void) { emb_q8_amx_init(&amx); }
#endif

const emb_kernels_q8 *emb_kernels_q8_get(void)
{
#if defined(__x86_64__)
    uint32_t f = emb_cpu_features();
    if (f & EMB_CPU_AMX) {
        pthread_once(&amx_once, init_amx);
        return &amx;
    }
    if (f & EMB_CPU_VNNI) return &emb_q8_avx512;
    if (f & EMB_CPU_AVXVNNI) return &emb_q8_avxvnni;
    if (f & EMB_CPU_AVX2) return &emb_q8_avx2;
#elif defined(__aarch64__)
    uint32_t f = emb_cpu_features();
    if (f & EMB_CPU_I8MM) return &emb_q8_neon_i8mm;
    if (f & EMB_CPU_DOTPROD) return &emb_q8_neon_dot;
    if (f & EMB_CPU_NEON) return &emb_q8_neon;
#endif
    return &emb_q8_ref;
}
