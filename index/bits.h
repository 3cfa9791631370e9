/* bits.h: a set of item numbers as plain words, which is what filters compute with and the walk of a graph asks; postings
 * wait as CRoaring bitmaps, which are small. */
#ifndef LK_BITS_H
#define LK_BITS_H

#include "error.h"

#include <roaring/roaring.h>

typedef struct {
    uint64_t *w;
    uint32_t n_words;
} idx_bits;

static inline uint32_t idx_bits_words(uint32_t n) { return n / 64 + (n % 64 != 0); }
static inline bool idx_bit(const uint64_t *w, uint32_t i) { return w[i / 64] >> i % 64 & 1; }
static inline void idx_bit_set(uint64_t *w, uint32_t i) { w[i / 64] |= (uint64_t)1 << i % 64; }
static inline void idx_bit_clear(uint64_t *w, uint32_t i) { w[i / 64] &= ~((uint64_t)1 << i % 64); }

/* All of `n` bits clear, as are those of one more word behind them; false = no memory. idx_bits_free() keeps some for the next that are
 * asked for: every search wants some, and memory in such pieces comes from the system anew each time. */
IDX_CHECK bool idx_bits_new(idx_bits *b, uint32_t n);
void idx_bits_free(idx_bits *b); /* leaves it empty, as which it may be, too */
void idx_bits_drop_all(void);    /* frees those that are kept */
uint64_t idx_bits_count(const uint64_t *w, size_t n_words);
/* count[i]: set bits of start[i] .. start[i + 1] - 1, of n such runs. There is a word behind the last bit. */
void idx_bits_count_runs(const uint64_t *w, const uint32_t *start, uint32_t n, uint32_t *count);
/* Members of `r` beyond the words are left out. */
void idx_bits_or_roaring(idx_bits b, const roaring_bitmap_t *r);
/* b = b AND c, b OR c, b AND NOT c; of the same length. */
void idx_bits_and(idx_bits b, idx_bits c);
void idx_bits_or(idx_bits b, idx_bits c);
void idx_bits_andnot(idx_bits b, const uint64_t *c, uint32_t c_words);

/* for (uint32_t i; idx_bits_next(&it, &i);) */
typedef struct {
    const uint64_t *w;
    uint64_t word;
    uint32_t at, n;
} idx_bits_iter;
static inline idx_bits_iter idx_bits_begin(idx_bits b) { return (idx_bits_iter){b.w, b.n_words > 0 ? b.w[0] : 0, 0, b.n_words}; }
static inline bool idx_bits_next(idx_bits_iter *it, uint32_t *i)
{
    while (it->word == 0) {
        if (++it->at >= it->n) return false;
        it->word = it->w[it->at];
    }
    *i = it->at * 64 + (uint32_t)__builtin_ctzll(it->word);
    it->word &= it->word - 1;
    return true;
}

#endif
