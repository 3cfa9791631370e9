/* image_huffman.c: stuffed bytes to plain ones, and the tables of a Huffman code. */
#include "image_huffman.h"

void emb_bits_start(emb_bits *b)
{
    b->c = (emb_cursor){0, 0, b->window};
    b->end = b->window;
    b->last = false;
    emb_bits_feed(b);
}

/* T.81, B.1.1.5: 0xff 0x00 stands for a byte 0xff, and 0xff before anything else begins a marker. */
void emb_bits_feed(emb_bits *b)
{
    size_t kept = (size_t)(b->end - b->c.at);
    memmove(b->window, b->c.at, kept);
    uint8_t *to = b->window + kept, *full = b->window + EMB_BITS_WINDOW;
    b->last = true;
    for (;;) {
        size_t room = (size_t)(full - to), left = (size_t)(b->in_end - b->in), n = left < room ? left : room;
        const uint8_t *ff = n > 0 ? memchr(b->in, 0xff, n) : NULL;
        if (ff != NULL) n = (size_t)(ff - b->in);
        memcpy(to, b->in, n);
        to += n;
        b->in += n;
        if (ff == NULL) {
            b->last = n < room;
            break;
        }
        if (left - n < 2 || b->in[1] != 0) break;
        *to++ = 0xff;
        b->in += 2;
    }
    memset(to, 0, EMB_BITS_PAD);
    b->c.at = b->window;
    b->end = to;
}

bool emb_huff_build(emb_huff *h, const uint8_t counts[17], const uint8_t symbols[256], bool dc)
{
    const uint32_t all = 1u << EMB_HUFF_LOOK;
    uint32_t code = 0, k = 0, filled = 0; /* T.81, C.2: codes of a length follow each other, a longer one begins at twice the next */
    for (uint32_t n = 1; n <= 16; n++, code <<= 1) {
        h->offset[n] = (int32_t)k - (int32_t)code;
        if (k + counts[n] > 256 || code + counts[n] > 1u << n) return false;
        for (uint32_t i = 0; i < counts[n]; i++, k++, code++) {
            uint32_t s = h->symbol[k] = symbols[k], size = s & 15, advance = emb_huff_symbol_advance(s, dc);
            if (dc && s > 15) return false;
            if (n > EMB_HUFF_LOOK) continue;
            bool whole = size <= EMB_HUFF_LOOK - n;
            uint32_t values = whole ? 1u << size : 1;
            for (uint32_t v = 0; v < values; v++) {
                uint32_t e = whole ? emb_huff_entry(emb_huff_extend(v, size), advance, n + size)
                                   : emb_huff_entry((int32_t)size, advance, n | EMB_HUFF_REST);
                for (uint32_t end = filled + (all >> n) / values; filled < end; filled++) h->look[filled] = e;
            }
        }
        h->limit[n] = code << (16 - n);
    }
    while (filled < all) h->look[filled++] = EMB_HUFF_REST; /* longer, or none */
    return true;
}

void emb_huff_build_pairs(emb_huff_ac *h)
{
    const uint32_t more = EMB_HUFF_LOOK - EMB_HUFF_PAIR, all = 1u << EMB_HUFF_PAIR;
    for (uint32_t i = 0; i < all; i++) {
        uint32_t a = h->code.look[i << more], bits = emb_huff_bits(a);
        if ((a & EMB_HUFF_REST) != 0 || bits > EMB_HUFF_PAIR) {
            h->pair[i] = EMB_HUFF_NONE << 8;
            continue;
        }
        uint32_t b = h->code.look[(i << bits & (all - 1)) << more];
        if (emb_huff_advance(a) == EMB_HUFF_EOB || (b & EMB_HUFF_REST) != 0 || bits + emb_huff_bits(b) > EMB_HUFF_PAIR) b = 0;
        uint32_t values = (b & 0xffff0000) | a >> 16;
        h->pair[i] = (uint64_t)values << 32 | bits << 24 | emb_huff_advance(b) << 16 | emb_huff_advance(a) << 8 | (bits + emb_huff_bits(b));
    }
}

void emb_huff_build_skip(emb_huff_ac *h)
{
    for (uint32_t i = 0; i < 1u << EMB_HUFF_SKIP; i++) {
        uint32_t bits = 0, advance = 0;
        while (advance <= 48) {
            uint32_t e = h->code.look[(i << bits & ((1u << EMB_HUFF_SKIP) - 1)) >> (EMB_HUFF_SKIP - EMB_HUFF_LOOK)];
            uint32_t takes = emb_huff_bits(e) + (e & EMB_HUFF_REST ? e >> 16 : 0);
            if (emb_huff_bits(e) == 0 || bits + takes > EMB_HUFF_SKIP) break;
            bits += takes;
            advance += emb_huff_advance(e) == EMB_HUFF_EOB ? EMB_HUFF_SKIP_EOB : emb_huff_advance(e);
        }
        h->skip[i] = (uint16_t)((bits > 0 ? advance : 64) << 4 | bits);
    }
}
