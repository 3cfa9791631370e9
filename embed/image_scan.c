/* image_scan.c: entropy-coded data to pixels of the wanted size and no further. Libjpeg has read the header; from there on most of
 * its time goes into coefficients that a picture of a quarter or an eighth never shows. Here the bits are read once (image_huffman),
 * what is above the wanted frequencies is stepped over, each component is transformed straight to the resolution of the result
 * (kernels/pixels.h), so that chroma is never enlarged, and a row of blocks becomes RGB while it is warm. */
#include "image_scan.h"
#include "image_huffman.h"
#include "kernels/pixels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PARTS = 3, SPILL = 16, SKIP_FROM = 12, MAX_BLOCKS = 10, BATCH = 8, TABLES = 2 };

typedef struct { /* a component */
    uint32_t h, v;       /* blocks of a unit */
    uint32_t blocks_w, blocks_h; /* of the component itself, without padding to whole units */
    uint32_t last;       /* position of the last coefficient to be read, the rest is stepped over */
    uint32_t dc_table, ac_table;
    int32_t quant[EMB_HUFF_POSITIONS]; /* zigzag order; zero behind the block */
    emb_dct dct;
    const emb_huff *dc;
    const emb_huff_ac *ac;
    int32_t before;      /* DC of the block before */
    uint8_t *strip;      /* samples of one row of units, as wide as the result's and up to SPILL more */
    int16_t *dcs;        /* progressive: of all blocks, whole units */
    int32_t shift;       /* progressive: bits of the DC values that are still to come; -1 before the first scan */
} part;

typedef struct { /* of a block in its unit */
    part *part;
    uint32_t x, y; /* samples */
} place;

typedef struct {
    const struct jpeg_decompress_struct *c;
    const emb_limits *limits;
    const emb_pixels *px;
    emb_image *im;
    uint32_t n, restart, units_w, units_h;
    uint32_t unit_w, unit_h; /* samples of a unit in the result */
    size_t stride;           /* of the strips */
    part parts[MAX_PARTS];
    uint32_t blocks; /* of a unit */
    place place[MAX_BLOCKS];
    uint32_t left, turn; /* units before the next restart marker, and its number */
    bool dc_ready[TABLES], ac_ready[TABLES], skip_ready[TABLES];
    emb_huff dc[TABLES]; /* from here on not cleared at the start */
    emb_huff_ac ac[TABLES];
    emb_bits bits;
    uint8_t top[BATCH * MAX_BLOCKS];
    int16_t coef[BATCH * MAX_BLOCKS * 64 + 1]; /* what lies behind a block lands in the next one's DC, which comes later */
} scan;

/* T.81, figure A.6; positions behind the block land in its 65th place. */
static const uint8_t natural[EMB_HUFF_POSITIONS] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6,  7,  14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64};

/* Rows of the block that coefficients up to a position can touch. */
static const uint8_t rows_of[64] = {1, 1, 2, 3, 3, 3, 3, 3, 3, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
                                    7, 7, 7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8};

/* ---- what is to be done ------------------------------------------------------------------------- */

static double basis(uint32_t frequency, uint32_t at, uint32_t n)
{
    if (frequency >= n || frequency > 7) return 0;
    return frequency == 0 ? sqrt(0.125) : 0.5 * cos(acos(-1.0) * (2 * at + 1) * frequency / (2.0 * n));
}

static void dct_init(emb_dct *t, uint32_t w, uint32_t h)
{
    memset(t, 0, sizeof *t);
    t->w = w;
    t->h = h;
    t->pairs_x = w < 8 ? (w + 1) / 2 : 4;
    t->pairs_y = h < 8 ? (h + 1) / 2 : 4;
    for (uint32_t at = 0; at < 16; at++)
        for (uint32_t f = 0; f < 8; f++) {
            if (at < h) t->col[at][f / 2][f % 2] = (int16_t)lrint(basis(f, at, h) * (1 << EMB_DCT_BITS));
            if (at < w) t->row[f / 2][at][f % 2] = (int16_t)lrint(basis(f, at, w) * (1 << EMB_DCT_BITS));
        }
}

static bool part_init(scan *s, part *p, const jpeg_component_info *ci, uint32_t eighths)
{
    const struct jpeg_decompress_struct *c = s->c;
    uint32_t h = (uint32_t)c->max_h_samp_factor / (uint32_t)ci->h_samp_factor, v = (uint32_t)c->max_v_samp_factor / (uint32_t)ci->v_samp_factor;
    if ((int)h * ci->h_samp_factor != c->max_h_samp_factor || (int)v * ci->v_samp_factor != c->max_v_samp_factor) return false;
    if (h * eighths > 16 || v * eighths > 16 || ci->quant_tbl_no < 0 || ci->quant_tbl_no > 3 || c->quant_tbl_ptrs[ci->quant_tbl_no] == NULL)
        return false;
    dct_init(&p->dct, h * eighths, v * eighths);
    p->h = s->n == 1 ? 1 : (uint32_t)ci->h_samp_factor;
    p->v = s->n == 1 ? 1 : (uint32_t)ci->v_samp_factor;
    p->blocks_w = ci->width_in_blocks;
    p->blocks_h = ci->height_in_blocks;
    p->dc_table = (uint32_t)ci->dc_tbl_no;
    p->ac_table = (uint32_t)ci->ac_tbl_no;
    p->shift = -1;
    for (uint32_t k = 0; k < 64; k++) {
        p->quant[k] = c->quant_tbl_ptrs[ci->quant_tbl_no]->quantval[natural[k]];
        if (natural[k] % 8u < p->dct.w && natural[k] / 8u < p->dct.h) p->last = k;
    }
    if (p->last > SKIP_FROM) p->last = 63; /* too little lies behind to be worth a table */
    return true;
}

static emb_scan_result prepare(scan *s, uint32_t eighths)
{
    const struct jpeg_decompress_struct *c = s->c;
    uint32_t max_h = (uint32_t)c->max_h_samp_factor, max_v = (uint32_t)c->max_v_samp_factor;
    s->n = (uint32_t)c->num_components;
    s->restart = c->restart_interval;
    for (uint32_t i = 0; i < s->n; i++) {
        part *p = &s->parts[i];
        if (!part_init(s, p, &c->comp_info[i], eighths)) return EMB_SCAN_LEFT;
        if (s->blocks + p->h * p->v > MAX_BLOCKS) return EMB_SCAN_LEFT;
        for (uint32_t y = 0; y < p->v; y++)
            for (uint32_t x = 0; x < p->h; x++) s->place[s->blocks++] = (place){p, x * p->dct.w, y * p->dct.h};
    }
    if (s->n == 1) max_h = max_v = 1; /* one component is never interleaved: its units are blocks */
    s->unit_w = max_h * eighths;
    s->unit_h = max_v * eighths;
    s->units_w = (c->image_width + max_h * 8 - 1) / (max_h * 8);
    s->units_h = (c->image_height + max_v * 8 - 1) / (max_v * 8);
    s->stride = (size_t)s->units_w * s->unit_w + SPILL;
    for (uint32_t i = 0; i < s->n; i++) {
        part *p = &s->parts[i];
        if ((p->strip = malloc(s->stride * (s->unit_h + SPILL))) == NULL) return EMB_SCAN_NOMEM;
        if (!c->progressive_mode) continue;
        if ((p->dcs = calloc((size_t)s->units_w * p->h * s->units_h * p->v, sizeof *p->dcs)) == NULL) return EMB_SCAN_NOMEM;
    }
    uint32_t w = (c->image_width * eighths + 7) / 8, h = (c->image_height * eighths + 7) / 8;
    return emb_image_new(w, h, &s->im, NULL) == EMB_OK ? EMB_SCAN_DONE : EMB_SCAN_NOMEM;
}

/* Its codes, built when the first component asks for them. */
static bool part_tables(scan *s, part *p)
{
    const struct jpeg_decompress_struct *c = s->c;
    uint32_t d = p->dc_table, a = p->ac_table;
    if (d >= TABLES || a >= TABLES) return false;
    const JHUFF_TBL *dc = c->dc_huff_tbl_ptrs[d], *ac = c->ac_huff_tbl_ptrs[a];
    if (!s->dc_ready[d]) s->dc_ready[d] = dc != NULL && emb_huff_build(&s->dc[d], dc->bits, dc->huffval, true);
    if (!s->ac_ready[a]) {
        s->ac_ready[a] = ac != NULL && emb_huff_build(&s->ac[a].code, ac->bits, ac->huffval, false);
        if (s->ac_ready[a]) emb_huff_build_pairs(&s->ac[a]);
    }
    if (!s->dc_ready[d] || !s->ac_ready[a]) return false;
    if (p->last < 63 && !s->skip_ready[a]) emb_huff_build_skip(&s->ac[a]);
    s->skip_ready[a] = s->skip_ready[a] || p->last < 63;
    p->dc = &s->dc[d];
    p->ac = &s->ac[a];
    return true;
}

/* ---- samples to RGB ----------------------------------------------------------------------------- */

/* A block without detail: the rounded eighth of its DC. */
static inline void fill(uint8_t *out, size_t stride, const emb_dct *t, int32_t dc)
{
    int32_t v = ((dc + 4) >> 3) + 128;
    uint8_t b = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    for (uint32_t y = 0; y < t->h; y++) {
        if (t->w == 1) out[y * stride] = b;
        else memset(out + y * stride, b, t->w);
    }
}

static void strips_to_rgb(scan *s, uint32_t unit_y)
{
    emb_image *im = s->im;
    uint32_t y0 = unit_y * s->unit_h;
    for (uint32_t y = 0; y < s->unit_h && y0 + y < im->height; y++) {
        uint8_t *to = im->px + (size_t)(y0 + y) * im->width * 3;
        const uint8_t *l = s->parts[0].strip + y * s->stride;
        if (s->n == 3) {
            s->px->ycc(l, s->parts[1].strip + y * s->stride, s->parts[2].strip + y * s->stride, im->width, to);
        } else {
            for (size_t x = 0; x < im->width; x++) to[3 * x] = to[3 * x + 1] = to[3 * x + 2] = l[x];
        }
    }
}

/* ---- baseline ----------------------------------------------------------------------------------- */

#define INLINE static inline __attribute__((always_inline)) /* the cursor must stay in registers */

INLINE bool read_dc(emb_cursor *c, const emb_huff *h, int32_t *dc)
{
    emb_refill(c);
    uint32_t e = emb_huff_next(h, c, true);
    *dc = (int32_t)((uint32_t)*dc + (uint32_t)emb_huff_value(e));
    return emb_huff_advance(e) != 0;
}

INLINE void keep(int16_t *coef, const int32_t *quant, uint32_t k, int32_t value)
{
    coef[natural[k]] = (int16_t)(uint32_t)(value * quant[k]);
}

/* One coefficient or end; false: no such code. */
INLINE bool read_ac(emb_cursor *c, const emb_huff *h, const int32_t *quant, uint32_t *k, int16_t *coef)
{
    uint32_t e = emb_huff_next(h, c, false);
    *k += emb_huff_advance(e);
    keep(coef, quant, *k, emb_huff_value(e));
    return emb_huff_advance(e) != 0;
}

/* The coefficients behind position k, to `last` or a few more: two symbols at once as long as both belong to the block. */
INLINE bool read_acs(emb_cursor *c, const emb_huff_ac *h, const int32_t *quant, uint32_t last, uint32_t *at, int16_t *coef)
{
    uint32_t k = *at;
    while (k < last) {
        emb_refill(c);
        for (int i = 0; i < 4 && k < last; i++) { /* 10 bits at most each */
            uint64_t e = h->pair[c->bits >> (64 - EMB_HUFF_PAIR)];
            uint32_t first = k + emb_huff_pair_advance1(e);
            if (first < 63) {
                k = first + emb_huff_pair_advance2(e);
                emb_consume(c, emb_huff_pair_bits(e));
                keep(coef, quant, k, emb_huff_pair_value2(e)); /* of none: where the first one's is kept next */
                keep(coef, quant, first, emb_huff_pair_value1(e));
            } else if (first < EMB_HUFF_NONE) { /* the end, or the 63rd */
                k = first;
                emb_consume(c, emb_huff_pair_bits1(e));
                keep(coef, quant, k, emb_huff_pair_value1(e));
            } else {
                emb_refill(c);
                if (!read_ac(c, &h->code, quant, &k, coef)) return false;
                break;
            }
        }
    }
    *at = k;
    return true;
}

/* To the end of the block without looking at values; several symbols at once as long as they all belong to it. */
INLINE bool skip_acs(emb_cursor *c, const emb_huff_ac *h, uint32_t *k)
{
    static const int32_t zero[EMB_HUFF_POSITIONS];
    int16_t none[65];
    while (*k < 63) {
        emb_refill(c);
        for (int i = 0; i < 4; i++) { /* 12 bits at most each */
            uint32_t e = h->skip[c->bits >> (64 - EMB_HUFF_SKIP)], to = *k + (e >> 4);
            if (to < 63) {
                *k = to;
                emb_consume(c, e & 15);
                continue;
            }
            if (to >= EMB_HUFF_SKIP_EOB && to < EMB_HUFF_SKIP_EOB + 63) {
                *k = EMB_HUFF_EOB;
                emb_consume(c, e & 15);
                return true;
            }
            emb_refill(c);
            if (!read_ac(c, &h->code, zero, k, none)) return false;
            break;
        }
    }
    return true;
}

/* One block into coef, zero before; *top: the last position that holds a value. */
INLINE bool read_block(part *p, emb_cursor *c, int16_t *coef, uint32_t *top)
{
    uint32_t k = 0;
    const emb_huff_ac *ac = p->ac;
    if (!read_dc(c, p->dc, &p->before)) return false;
    coef[0] = (int16_t)((uint32_t)p->before * (uint32_t)p->quant[0]);
    if (!read_acs(c, ac, p->quant, p->last, &k, coef)) return false;
    *top = k >= EMB_HUFF_EOB ? k - EMB_HUFF_EOB : k;
    if (p->last < 63 && k < 63 && !skip_acs(c, ac, &k)) return false;
    return k == 63 || k >= EMB_HUFF_EOB; /* otherwise a run leaves the block */
}

/* Between intervals: all bits used, and the next marker in turn. */
static bool next_interval(scan *s)
{
    emb_bits *b = &s->bits;
    if (!emb_bits_done(b)) return false;
    while (b->in_end - b->in >= 2 && b->in[1] == 0xff) b->in++;
    if (b->in_end - b->in < 2 || b->in[1] != 0xd0 + s->turn) return false;
    s->turn = (s->turn + 1) % 8;
    b->in += 2;
    emb_bits_start(b);
    for (uint32_t i = 0; i < s->n; i++) s->parts[i].before = 0;
    return true;
}

/* The bits of the next unit are there. */
static inline bool next_unit(scan *s)
{
    if (s->restart != 0 && s->left == 0) {
        if (!next_interval(s)) return false;
        s->left = s->restart;
    }
    s->left--;
    emb_bits_need(&s->bits);
    return true;
}

/* Up to `n` units into s->coef and s->top; nothing else happens between them, so that the transforms find stores settled. */
static bool read_units(scan *s, uint32_t n)
{
    int16_t *coef = s->coef;
    uint8_t *top = s->top;
    memset(coef, 0, (size_t)n * s->blocks * 64 * sizeof *coef);
    for (uint32_t u = 0; u < n; u++) {
        if (!next_unit(s)) return false;
        emb_cursor c = s->bits.c;
        for (uint32_t i = 0; i < s->blocks; i++, coef += 64, top++) {
            uint32_t t;
            if (!read_block(s->place[i].part, &c, coef, &t)) return false;
            *top = (uint8_t)t;
        }
        s->bits.c = c;
        if (emb_bits_overrun(&s->bits)) return false;
    }
    return true;
}

static void transform_units(scan *s, uint32_t first, uint32_t n)
{
    const int16_t *coef = s->coef;
    const uint8_t *top = s->top;
    for (uint32_t u = first; u < first + n; u++)
        for (uint32_t i = 0; i < s->blocks; i++, coef += 64, top++) {
            const place *at = &s->place[i];
            const emb_dct *t = &at->part->dct;
            uint8_t *out = at->part->strip + at->y * s->stride + at->x + (size_t)u * s->unit_w;
            if (*top == 0) fill(out, s->stride, t, coef[0]);
            else s->px->dct(t, coef, rows_of[*top], out, s->stride);
        }
}

static emb_scan_result baseline(scan *s)
{
    s->left = s->restart;
    for (uint32_t i = 0; i < s->n; i++) {
        part *p = &s->parts[i];
        if (!part_tables(s, p)) return EMB_SCAN_LEFT;
    }
    emb_bits_start(&s->bits);
    for (uint32_t uy = 0; uy < s->units_h; uy++) {
        if (emb_deadline_check(s->limits, NULL) != EMB_OK) return EMB_SCAN_LATE;
        for (uint32_t ux = 0; ux < s->units_w; ux += BATCH) {
            uint32_t n = s->units_w - ux < BATCH ? s->units_w - ux : BATCH;
            if (!read_units(s, n)) return EMB_SCAN_LEFT;
            transform_units(s, ux, n);
        }
        strips_to_rgb(s, uy);
    }
    return s->bits.last && s->bits.in_end - s->bits.in < 2 ? EMB_SCAN_LEFT : EMB_SCAN_DONE; /* cut off at the very end */
}

/* ---- progressive, at an eighth ------------------------------------------------------------------ */

/* Only DC shows: its scans are read, those of the rest are stepped over from marker to marker. */

INLINE bool read_progressive_dc(part *p, emb_cursor *c, uint32_t high, uint32_t low, int16_t *dc)
{
    if (high != 0) { /* T.81, G.1.2.1: one more bit of a value */
        emb_refill(c);
        *dc = (int16_t)(*dc | (int16_t)(c->bits >> 63 << low));
        emb_consume(c, 1);
        return true;
    }
    if (!read_dc(c, p->dc, &p->before)) return false;
    *dc = (int16_t)((uint32_t)p->before << low);
    return true;
}

/* One scan of n components, at s->bits.in. */
static emb_scan_result dc_scan(scan *s, part *const *of, uint32_t n, uint32_t high, uint32_t low)
{
    const bool single = n == 1; /* then its units are its blocks */
    uint32_t w = single ? of[0]->blocks_w : s->units_w, h = single ? of[0]->blocks_h : s->units_h;
    for (uint32_t i = 0; i < s->n; i++) s->parts[i].before = 0;
    s->left = s->restart;
    s->turn = 0;
    emb_bits_start(&s->bits);
    for (uint32_t uy = 0; uy < h; uy++) {
        if (emb_deadline_check(s->limits, NULL) != EMB_OK) return EMB_SCAN_LATE;
        for (uint32_t ux = 0; ux < w; ux++) {
            if (!next_unit(s)) return EMB_SCAN_LEFT;
            emb_cursor c = s->bits.c;
            for (uint32_t i = 0; i < n; i++) {
                part *p = of[i];
                uint32_t bw = single ? 1 : p->h, bh = single ? 1 : p->v;
                int16_t *to = p->dcs + (size_t)uy * bh * s->units_w * p->h + (size_t)ux * bw;
                for (uint32_t y = 0; y < bh; y++, to += (size_t)s->units_w * p->h)
                    for (uint32_t x = 0; x < bw; x++)
                        if (!read_progressive_dc(p, &c, high, low, to + x)) return EMB_SCAN_LEFT;
            }
            s->bits.c = c;
            if (emb_bits_overrun(&s->bits)) return EMB_SCAN_LEFT;
        }
    }
    return emb_bits_done(&s->bits) ? EMB_SCAN_DONE : EMB_SCAN_LEFT;
}

/* The body of an SOS marker, T.81, B.2.3, and its scan if it holds DC. */
static emb_scan_result progressive_scan(scan *s, const uint8_t *b, size_t bytes)
{
    part *of[MAX_PARTS];
    uint32_t n = bytes > 0 ? b[0] : 0;
    if (n < 1 || n > s->n || bytes != 4 + 2 * (size_t)n) return EMB_SCAN_LEFT;
    uint32_t first = b[1 + 2 * n], last = b[2 + 2 * n], high = b[3 + 2 * n] >> 4, low = b[3 + 2 * n] & 15;
    if (first != 0) return EMB_SCAN_DONE;
    if (last != 0 || low > 13 || (high != 0 && high != low + 1)) return EMB_SCAN_LEFT;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = 0, t = b[2 + 2 * i] >> 4;
        while (k < s->n && s->c->comp_info[k].component_id != b[1 + 2 * i]) k++;
        if (k == s->n || t >= TABLES) return EMB_SCAN_LEFT;
        part *p = of[i] = &s->parts[k];
        if (p->shift != (high == 0 ? -1 : (int32_t)high)) return EMB_SCAN_LEFT; /* a scan twice, or out of turn */
        p->shift = (int32_t)low;
        const JHUFF_TBL *dc = s->c->dc_huff_tbl_ptrs[t];
        if (high == 0 && !s->dc_ready[t]) s->dc_ready[t] = dc != NULL && emb_huff_build(&s->dc[t], dc->bits, dc->huffval, true);
        if (high == 0 && !s->dc_ready[t]) return EMB_SCAN_LEFT;
        p->dc = &s->dc[t];
    }
    s->bits.in = b + bytes;
    return dc_scan(s, of, n, high, low);
}

/* The body of a DHT marker, T.81, B.2.4.2. */
static bool new_tables(scan *s, const uint8_t *b, size_t n)
{
    while (n >= 17) {
        uint8_t counts[17], symbols[256] = {0};
        size_t sum = 0;
        memcpy(counts, b, 17);
        for (uint32_t i = 1; i <= 16; i++) sum += counts[i];
        if (sum > 256 || sum > n - 17 || (b[0] & 15) >= TABLES) return false;
        memcpy(symbols, b + 17, sum);
        if (b[0] < 16) s->dc_ready[b[0]] = true;
        if (b[0] < 16 && !emb_huff_build(&s->dc[b[0]], counts, symbols, true)) return false;
        b += 17 + sum;
        n -= 17 + sum;
    }
    return n == 0;
}

/* Behind entropy-coded data: the 0xff of the next marker, or NULL. */
static const uint8_t *next_marker(const uint8_t *b, const uint8_t *end)
{
    while (b < end && (b = memchr(b, 0xff, (size_t)(end - b))) != NULL) {
        if (end - b < 2) return NULL;
        if (b[1] != 0 && b[1] != 0xff && (b[1] < 0xd0 || b[1] > 0xd7)) return b;
        b += b[1] == 0xff ? 1 : 2;
    }
    return NULL;
}

static emb_scan_result progressive_scans(scan *s)
{
    enum { DHT = 0xc4, EOI = 0xd9, SOS = 0xda, DRI = 0xdd, APP0 = 0xe0, APP15 = 0xef, COM = 0xfe };
    const uint8_t *end = s->bits.in_end, *b = s->bits.in - 8 - 2 * (size_t)s->c->comps_in_scan; /* the first SOS, which libjpeg has read */
    for (uint32_t scans = 0; b != NULL;) {
        if (b[1] == EOI) return EMB_SCAN_DONE;
        size_t n = end - b >= 4 ? (size_t)b[2] << 8 | b[3] : 0;
        if (n < 2 || n + 2 > (size_t)(end - b)) return EMB_SCAN_LEFT;
        const uint8_t *body = b + 4, kind = b[1];
        b += n + 2;
        n -= 2;
        emb_scan_result r = EMB_SCAN_DONE;
        if (kind == SOS) {
            if (++scans > s->limits->max_scans) return EMB_SCAN_LEFT;
            r = progressive_scan(s, body, n);
        } else if (kind == DRI && n == 2) {
            s->restart = (uint32_t)body[0] << 8 | body[1];
        } else if (!(kind == DHT && new_tables(s, body, n)) && !(kind >= APP0 && kind <= APP15) && kind != COM) {
            r = EMB_SCAN_LEFT;
        }
        if (r != EMB_SCAN_DONE) return r;
        if (emb_deadline_check(s->limits, NULL) != EMB_OK) return EMB_SCAN_LATE;
        b = next_marker(b, end);
    }
    return EMB_SCAN_LEFT;
}

static emb_scan_result progressive(scan *s)
{
    emb_scan_result r = progressive_scans(s);
    if (r != EMB_SCAN_DONE) return r;
    for (uint32_t i = 0; i < s->n; i++)
        if (s->parts[i].shift != 0) return EMB_SCAN_LEFT;
    for (uint32_t uy = 0; uy < s->units_h; uy++) {
        for (uint32_t i = 0; i < s->n; i++) {
            const part *p = &s->parts[i];
            const int16_t *dc = p->dcs + (size_t)uy * p->v * s->units_w * p->h;
            for (uint32_t y = 0; y < p->v; y++)
                for (uint32_t x = 0; x < s->units_w * p->h; x++, dc++)
                    fill(p->strip + (size_t)y * p->dct.h * s->stride + (size_t)x * p->dct.w, s->stride, &p->dct, (int16_t)(*dc * p->quant[0]));
        }
        strips_to_rgb(s, uy);
    }
    return EMB_SCAN_DONE;
}

/* ---- one way in --------------------------------------------------------------------------------- */

static bool usual(const struct jpeg_decompress_struct *c, uint32_t eighths)
{
    if (c->data_precision != 8 || c->arith_code || (c->progressive_mode && eighths > 1)) return false;
    if (!(c->num_components == 1 && c->jpeg_color_space == JCS_GRAYSCALE) && !(c->num_components == 3 && c->jpeg_color_space == JCS_YCbCr))
        return false;
    if (c->progressive_mode) return true;
    return c->comps_in_scan == c->num_components && c->Ss == 0 && c->Se == 63 && c->Ah == 0 && c->Al == 0;
}

emb_scan_result emb_scan_decode(const struct jpeg_decompress_struct *c, const emb_limits *l, uint32_t eighths, emb_image **out)
{
    if (!usual(c, eighths)) return EMB_SCAN_LEFT;
    scan *s = malloc(sizeof *s);
    if (s == NULL) return EMB_SCAN_NOMEM;
    memset(s, 0, offsetof(scan, dc));
    s->c = c;
    s->limits = l;
    s->px = emb_pixels_get();
    s->bits.in = c->src->next_input_byte;
    s->bits.in_end = s->bits.in + c->src->bytes_in_buffer;
    emb_scan_result r = prepare(s, eighths);
    if (r == EMB_SCAN_DONE) r = c->progressive_mode ? progressive(s) : baseline(s);
    for (uint32_t i = 0; i < MAX_PARTS; i++) {
        free(s->parts[i].strip);
        free(s->parts[i].dcs);
    }
    if (r == EMB_SCAN_DONE) *out = s->im;
    else emb_image_free(s->im);
    free(s);
    return r;
}
