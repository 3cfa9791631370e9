/* image_huffman.h: the bits of a JPEG scan and its Huffman codes, for image_scan.c. ITU-T T.81, annexes C and F.2.2.
 *
 * One lookup by the next EMB_HUFF_LOOK bits gives a symbol and, where it fits, the value behind it. A second table gives two of them
 * by fewer bits, and a third, built only where much is skipped, steps over as many as fit. */
#ifndef LK_IMAGE_HUFFMAN_H
#define LK_IMAGE_HUFFMAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ---- bits --------------------------------------------------------------------------------------- */

enum {
    EMB_BITS_MCU = 10 * 64 * 4,   /* bytes that a unit of at most ten blocks can take: 31 bits a coefficient */
    EMB_BITS_PAD = EMB_BITS_MCU + 64,
    EMB_BITS_WINDOW = 32768,
};

typedef struct { /* what the inner loops keep in registers */
    uint64_t bits;     /* the next bits from the left, at least `n` of them */
    uint32_t n;
    const uint8_t *at; /* the next byte to load */
} emb_cursor;

typedef struct {
    const uint8_t *in, *in_end; /* coded bytes that are not in the window yet, with their stuffing */
    emb_cursor c;
    const uint8_t *end; /* of the plain bytes in the window; EMB_BITS_PAD zeros follow */
    bool last;          /* nothing follows in this interval: a marker or the end of the file is next */
    uint8_t window[EMB_BITS_WINDOW + EMB_BITS_PAD];
} emb_bits;

/* Begins an interval at b->in. */
void emb_bits_start(emb_bits *b);
/* Makes EMB_BITS_MCU bytes readable; zeros where the interval ends before. */
void emb_bits_feed(emb_bits *b);
static inline void emb_bits_need(emb_bits *b)
{
    if (b->end - b->c.at < EMB_BITS_MCU && !b->last) emb_bits_feed(b);
}
/* More was read than the interval holds. */
static inline bool emb_bits_overrun(const emb_bits *b)
{
    return b->c.at - b->c.n / 8 > b->end;
}
/* All was read but the padding of the last byte. */
static inline bool emb_bits_done(const emb_bits *b)
{
    return b->last && b->c.at - b->c.n / 8 == b->end;
}

/* At least 56 bits. */
static inline void emb_refill(emb_cursor *c)
{
    uint64_t next;
    memcpy(&next, c->at, 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    next = __builtin_bswap64(next);
#endif
    c->bits |= next >> c->n;
    c->at += (63 - c->n) >> 3;
    c->n |= 56;
}

static inline void emb_consume(emb_cursor *c, uint32_t n)
{
    c->bits <<= n;
    c->n -= n;
}

/* ---- codes -------------------------------------------------------------------------------------- */

/* Positions in a block count in zigzag order from DC = 0. "End of block" adds EMB_HUFF_EOB, so that a position of 64 to 79 can
 * only be a run that leaves the block. */
enum { EMB_HUFF_EOB = 80, EMB_HUFF_SKIP_EOB = 128, EMB_HUFF_POSITIONS = 64 + EMB_HUFF_EOB };

/* Bits of the indices. Two tables of 8 KiB stay in the first cache beside the rest; larger ones do not, and are slower. */
enum { EMB_HUFF_LOOK = 11, EMB_HUFF_PAIR = 10, EMB_HUFF_SKIP = 12 };

typedef struct {
    uint32_t look[1 << EMB_HUFF_LOOK]; /* entries, see below */
    uint32_t limit[18];                /* [n]: codes of at most n bits are below, as 16 bits from the left */
    int32_t offset[18];                /* [n]: index of a symbol of n bits, less its code */
    uint8_t symbol[256];
} emb_huff;

typedef struct { /* of coefficients behind DC */
    emb_huff code;
    uint64_t pair[1 << EMB_HUFF_PAIR]; /* see emb_huff_pair_* below */
    uint16_t skip[1 << EMB_HUFF_SKIP]; /* advance << 4 | bits of all symbols that lie in the index; advance 64: none does */
} emb_huff_ac;

/* From the counts of lengths 1..16 ([0] is not used) and the symbols; false if they are no code. dc: symbols are sizes only. */
bool emb_huff_build(emb_huff *h, const uint8_t counts[17], const uint8_t symbols[256], bool dc);
void emb_huff_build_pairs(emb_huff_ac *h);
void emb_huff_build_skip(emb_huff_ac *h);

/* An entry: value << 16 | advance << 8 | rest << 6 | bits. Where `rest` is set, the bits are those of the code alone and the value
 * is the size of one that is still to be read; no bits at all: the code is longer than the index. */
enum { EMB_HUFF_REST = 1 << 6 };
static inline uint32_t emb_huff_bits(uint32_t e) { return e & 63; }
static inline uint32_t emb_huff_advance(uint32_t e) { return e >> 8 & 255; }
static inline int32_t emb_huff_value(uint32_t e) { return (int32_t)e >> 16; }

static inline uint32_t emb_huff_entry(int32_t value, uint32_t advance, uint32_t bits)
{
    return (uint32_t)value << 16 | advance << 8 | bits;
}

static inline uint32_t emb_huff_symbol_advance(uint32_t symbol, bool dc)
{
    return dc ? 1 : (symbol & 15) > 0 ? (symbol >> 4) + 1 : symbol == 0xf0 ? 16 : EMB_HUFF_EOB;
}

/* `size` bits as T.81's EXTEND makes a signed number of them. */
static inline int32_t emb_huff_extend(uint32_t v, uint32_t size)
{
    return size == 0 ? 0 : v < 1u << (size - 1) ? (int32_t)v - (int32_t)(1u << size) + 1 : (int32_t)v;
}

/* The entry of the next symbol, which is consumed: at most EMB_HUFF_LOOK bits, or up to 31 with a refill behind them where it is
 * not whole. Advance 0: there is no such code. */
static inline __attribute__((always_inline)) uint32_t emb_huff_next(const emb_huff *h, emb_cursor *c, bool dc)
{
    uint32_t e = h->look[c->bits >> (64 - EMB_HUFF_LOOK)];
    if ((e & EMB_HUFF_REST) == 0) {
        emb_consume(c, emb_huff_bits(e));
        return e;
    }
    if (emb_huff_bits(e) == 0) {
        uint32_t next = (uint32_t)(c->bits >> 48), n = EMB_HUFF_LOOK + 1;
        while (n <= 16 && next >= h->limit[n]) n++;
        if (n > 16) return 0;
        uint32_t symbol = h->symbol[(h->offset[n] + (int32_t)(next >> (16 - n))) & 255];
        e = emb_huff_entry((int32_t)(symbol & 15), emb_huff_symbol_advance(symbol, dc), n);
    }
    emb_consume(c, emb_huff_bits(e));
    uint32_t size = e >> 16, v = (uint32_t)(c->bits >> 32 >> (32 - size));
    emb_consume(c, size);
    emb_refill(c);
    return emb_huff_entry(emb_huff_extend(v, size), emb_huff_advance(e), 0);
}

/* A pair: value 2 << 48 | value 1 << 32 | bits of the first << 24 | advance 2 << 16 | advance 1 << 8 | bits of both. Advance 2 and
 * value 2 are 0 where only one symbol lies in the index, and advance 1 is EMB_HUFF_NONE where none does. */
enum { EMB_HUFF_NONE = 255 };
static inline uint32_t emb_huff_pair_bits(uint64_t e) { return e & 63; }
static inline uint32_t emb_huff_pair_advance1(uint64_t e) { return e >> 8 & 255; }
static inline uint32_t emb_huff_pair_advance2(uint64_t e) { return e >> 16 & 255; }
static inline uint32_t emb_huff_pair_bits1(uint64_t e) { return e >> 24 & 63; }
static inline int32_t emb_huff_pair_value1(uint64_t e) { return (int16_t)(e >> 32); }
static inline int32_t emb_huff_pair_value2(uint64_t e) { return (int16_t)(e >> 48); }

#endif
