/* sorted.c: see sorted.h. Order: by number, equal ones by item. */
#include "sorted.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 512, FILL = 384, MARK_ITEMS = 16384, MAX_MARKS = 64 };

typedef struct {
    uint32_t item[BLOCK];
} block;

typedef struct { /* the items whose number is less than `below` */
    double below;
    uint64_t *w;
    uint32_t count;
} mark;

struct idx_sorted {
    const idx_column *numbers;
    block **blocks;
    double *first;   /* [block] the number of its first item */
    uint32_t *count; /* [block] */
    uint32_t n_blocks, cap_blocks, n;
    mark *marks; /* by `below`; the last, once there are any, holds all: its `below` is infinite */
    uint32_t n_marks, mark_words;
    uint32_t stuck; /* so many items lie between two marks and cannot be parted: they share a number */
};

idx_sorted *idx_sorted_new(const idx_column *numbers)
{
    idx_sorted *s = calloc(1, sizeof *s);
    if (s != NULL) s->numbers = numbers;
    return s;
}

static void clear(idx_sorted *s)
{
    for (uint32_t i = 0; i < s->n_blocks; i++) free(s->blocks[i]);
    for (uint32_t i = 0; i < s->n_marks; i++) free(s->marks[i].w);
    s->n_blocks = s->n_marks = s->n = 0;
}

void idx_sorted_free(idx_sorted *s)
{
    if (s == NULL) return;
    clear(s);
    free(s->blocks);
    free(s->first);
    free(s->count);
    free(s->marks);
    free(s);
}

static double number(const idx_sorted *s, uint32_t item) { return idx_number_unpack(idx_column_get(s->numbers, item)); }

static bool before(double a, uint32_t item, double b, uint32_t than) { return a < b || (a == b && item < than); }

/* ---- places ------------------------------------------------------------------------------------------------ */

/* The last block that begins before (v, item), 0 when none does. */
static uint32_t find_block(const idx_sorted *s, double v, uint32_t item)
{
    uint32_t lo = 0, hi = s->n_blocks;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (before(s->first[mid], s->blocks[mid]->item[0], v, item)) lo = mid + 1;
        else hi = mid;
    }
    return lo > 0 ? lo - 1 : 0;
}

/* The first place in a block that is not before (v, item). */
static uint32_t find_in(const idx_sorted *s, uint32_t b, double v, uint32_t item)
{
    uint32_t lo = 0, hi = b < s->n_blocks ? s->count[b] : 0;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2, there = s->blocks[b]->item[mid];
        if (before(number(s, there), there, v, item)) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

uint32_t idx_sorted_count(const idx_sorted *s) { return s->n; }

uint32_t idx_sorted_rank(const idx_sorted *s, double v, bool equal)
{
    uint32_t item = equal ? UINT32_MAX : 0, b = find_block(s, v, item), rank = 0;
    for (uint32_t i = 0; i < b; i++) rank += s->count[i];
    return rank + find_in(s, b, v, item);
}

/* The block and the place in it of a rank that is there. */
static uint32_t place(const idx_sorted *s, uint32_t rank, uint32_t *in)
{
    uint32_t b = 0;
    while (rank >= s->count[b]) rank -= s->count[b++];
    *in = rank;
    return b;
}

uint32_t idx_sorted_at(const idx_sorted *s, uint32_t rank)
{
    uint32_t in, b = place(s, rank, &in);
    return s->blocks[b]->item[in];
}

static void paint(const idx_sorted *s, uint32_t from, uint32_t to, idx_bits b, bool set)
{
    if (from >= to) return;
    uint32_t in, at = place(s, from, &in);
    for (uint32_t left = to - from; left > 0; at++, in = 0)
        for (; in < s->count[at] && left > 0; in++, left--) {
            uint32_t item = s->blocks[at]->item[in];
            if (item / 64 >= b.n_words) continue;
            if (set) idx_bit_set(b.w, item);
            else idx_bit_clear(b.w, item);
        }
}

static uint32_t apart(uint32_t a, uint32_t b) { return a > b ? a - b : b - a; }

static uint32_t nearest(const idx_sorted *s, uint32_t rank)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < s->n_marks; i++)
        if (apart(s->marks[i].count, rank) < apart(s->marks[best].count, rank)) best = i;
    return best;
}

/* By marks where their words, some of which are copied in the time that a bit takes, and the bits between them and the ends are fewer
 * than the bits of the range. */
void idx_sorted_range(const idx_sorted *s, uint32_t from, uint32_t to, idx_bits b)
{
    if (to > s->n) to = s->n;
    const mark *hi = s->n_marks > 0 ? &s->marks[nearest(s, to)] : NULL, *lo = s->n_marks > 0 ? &s->marks[nearest(s, from)] : NULL;
    if (lo != NULL && lo->count > from * 2) lo = NULL; /* the start is nearer than any mark */
    uint32_t start = lo != NULL ? lo->count : 0;
    if (from >= to || hi == NULL || hi->count <= start || to - from <= apart(start, from) + apart(hi->count, to) + s->mark_words / 16) {
        paint(s, from, to, b, true);
        return;
    }
    uint32_t n = b.n_words < s->mark_words ? b.n_words : s->mark_words;
    if (lo == NULL) memcpy(b.w, hi->w, n * sizeof *b.w);
    for (uint32_t i = 0; lo != NULL && i < n; i++) b.w[i] = hi->w[i] & ~lo->w[i];
    paint(s, start, from, b, false);
    paint(s, from, start, b, true);
    paint(s, hi->count > from ? hi->count : from, to, b, true);
    paint(s, to, hi->count, b, false);
}

void idx_sorted_each(const idx_sorted *s, bool backwards, idx_sorted_fn *fn, void *ctx)
{
    for (uint32_t k = 0; k < s->n_blocks; k++) {
        uint32_t b = backwards ? s->n_blocks - 1 - k : k;
        for (uint32_t i = 0; i < s->count[b]; i++) {
            uint32_t item = s->blocks[b]->item[backwards ? s->count[b] - 1 - i : i];
            if (!fn(ctx, item, number(s, item))) return;
        }
    }
}

void idx_sorted_run(const idx_sorted *s, uint32_t from, uint32_t to, idx_sorted_fn *fn, void *ctx)
{
    if (from >= to) return;
    uint32_t in, b = place(s, from, &in);
    for (uint32_t left = to - from; left > 0; b++, in = 0)
        for (; in < s->count[b] && left > 0; in++, left--)
            if (!fn(ctx, s->blocks[b]->item[in], number(s, s->blocks[b]->item[in]))) return;
}

/* ---- marks ---------------------------------------------------------------------------------------------------- */

static bool marks_reach(idx_sorted *s, uint32_t item)
{
    if (item / 64 < s->mark_words) return true;
    uint32_t words = item / 64 + item / 128 + 64;
    for (uint32_t i = 0; i < s->n_marks; i++) {
        uint64_t *w = realloc(s->marks[i].w, words * sizeof *w);
        if (w == NULL) return false; /* those that have grown keep their room */
        memset(w + s->mark_words, 0, (words - s->mark_words) * sizeof *w);
        s->marks[i].w = w;
    }
    s->mark_words = words;
    return true;
}

static bool mark_at(idx_sorted *s, uint32_t m, uint32_t rank, double below)
{
    mark *marks = realloc(s->marks, (s->n_marks + 1u) * sizeof *marks);
    if (marks == NULL) return false;
    s->marks = marks;
    uint64_t *w = calloc(s->mark_words + 1u, sizeof *w);
    if (w == NULL) return false;
    uint32_t start = m > 0 ? marks[m - 1].count : 0;
    if (m > 0) memcpy(w, marks[m - 1].w, s->mark_words * sizeof *w);
    paint(s, start, rank, (idx_bits){w, s->mark_words}, true);
    memmove(marks + m + 1, marks + m, (s->n_marks - m) * sizeof *marks);
    marks[m] = (mark){below, w, rank};
    s->n_marks++;
    return true;
}

/* A mark at a rank where a number begins, behind mark m - 1. */
static bool mark_add(idx_sorted *s, uint32_t m, uint32_t rank)
{
    return (s->n_marks > 0 || mark_at(s, 0, s->n, INFINITY)) && mark_at(s, m, rank, number(s, idx_sorted_at(s, rank)));
}

static void thin_out(idx_sorted *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_marks; i++)
        if (i % 2 == 0 || i + 1 == s->n_marks) s->marks[n++] = s->marks[i];
        else free(s->marks[i].w);
    s->n_marks = n;
}

static uint32_t step(const idx_sorted *s) { return s->n / 32 > MARK_ITEMS ? s->n / 32 : MARK_ITEMS; }

/* Parts the stretch before mark m (the last one: before the end) when it has become long. */
static bool part(idx_sorted *s, uint32_t m)
{
    uint32_t start = m > 0 ? s->marks[m - 1].count : 0, end = m < s->n_marks ? s->marks[m].count : s->n, long_ = 2 * step(s);
    if (end - start <= long_ || end - start <= s->stuck) return true;
    double middle = number(s, idx_sorted_at(s, start + (end - start) / 2));
    uint32_t rank = idx_sorted_rank(s, middle, false);
    if (rank <= start + step(s) / 4) rank = idx_sorted_rank(s, middle, true);
    if (rank <= start || rank >= end) {
        s->stuck = 2 * (end - start);
        return true;
    }
    if (!mark_add(s, m, rank)) return false;
    if (s->n_marks > MAX_MARKS) thin_out(s);
    return true;
}

/* ---- change ------------------------------------------------------------------------------------------------------ */

static bool insert_block(idx_sorted *s, uint32_t at)
{
    if (s->n_blocks == s->cap_blocks) {
        uint32_t cap = s->cap_blocks * 2 + 8;
        block **blocks = realloc(s->blocks, cap * sizeof(block *));
        if (blocks != NULL) s->blocks = blocks;
        double *first = realloc(s->first, cap * sizeof *first);
        if (first != NULL) s->first = first;
        uint32_t *count = realloc(s->count, cap * sizeof *count);
        if (count != NULL) s->count = count;
        if (blocks == NULL || first == NULL || count == NULL) return false;
        s->cap_blocks = cap;
    }
    block *b = malloc(sizeof *b);
    if (b == NULL) return false;
    uint32_t behind = s->n_blocks - at;
    memmove(s->blocks + at + 1, s->blocks + at, behind * sizeof(block *));
    memmove(s->first + at + 1, s->first + at, behind * sizeof *s->first);
    memmove(s->count + at + 1, s->count + at, behind * sizeof *s->count);
    s->blocks[at] = b;
    s->count[at] = 0;
    s->n_blocks++;
    return true;
}

static bool split(idx_sorted *s, uint32_t b)
{
    if (!insert_block(s, b + 1)) return false;
    uint32_t half = s->count[b] / 2, rest = s->count[b] - half;
    memcpy(s->blocks[b + 1]->item, s->blocks[b]->item + half, rest * sizeof(uint32_t));
    s->count[b] = half;
    s->count[b + 1] = rest;
    s->first[b + 1] = number(s, s->blocks[b + 1]->item[0]);
    return true;
}

bool idx_sorted_add(idx_sorted *s, uint32_t item)
{
    double v = number(s, item);
    if (s->n_blocks == 0 && !insert_block(s, 0)) return false;
    uint32_t b = find_block(s, v, item);
    if (s->count[b] == BLOCK) {
        if (!split(s, b)) return false;
        if (!before(v, item, s->first[b + 1], s->blocks[b + 1]->item[0])) b++;
    }
    if (!marks_reach(s, item)) return false;
    uint32_t at = find_in(s, b, v, item), *items = s->blocks[b]->item;
    memmove(items + at + 1, items + at, (s->count[b] - at) * sizeof *items);
    items[at] = item;
    s->count[b]++;
    if (at == 0) s->first[b] = v;
    s->n++;
    uint32_t m = s->n_marks;
    while (m > 0 && s->marks[m - 1].below > v) {
        m--;
        idx_bit_set(s->marks[m].w, item);
        s->marks[m].count++;
    }
    return part(s, m);
}

void idx_sorted_remove(idx_sorted *s, uint32_t item)
{
    double v = number(s, item);
    uint32_t b = find_block(s, v, item), at = find_in(s, b, v, item);
    if (b + 1 < s->n_blocks && at == s->count[b]) b++, at = find_in(s, b, v, item); /* the first of the next block */
    if (b >= s->n_blocks || at == s->count[b] || s->blocks[b]->item[at] != item) return;
    uint32_t *items = s->blocks[b]->item;
    memmove(items + at, items + at + 1, (s->count[b] - at - 1) * sizeof *items);
    s->count[b]--;
    s->n--;
    if (s->count[b] == 0) {
        free(s->blocks[b]);
        uint32_t behind = --s->n_blocks - b;
        memmove(s->blocks + b, s->blocks + b + 1, behind * sizeof(block *));
        memmove(s->first + b, s->first + b + 1, behind * sizeof *s->first);
        memmove(s->count + b, s->count + b + 1, behind * sizeof *s->count);
    } else if (at == 0) {
        s->first[b] = number(s, items[0]);
    }
    for (uint32_t m = s->n_marks; m > 0 && s->marks[m - 1].below > v; m--) {
        idx_bit_clear(s->marks[m - 1].w, item);
        s->marks[m - 1].count--;
    }
    while (s->n_marks > 0 && s->marks[0].count == 0) { /* what it marked is gone */
        free(s->marks[0].w);
        memmove(s->marks, s->marks + 1, --s->n_marks * sizeof *s->marks);
    }
}

/* ---- all at once --------------------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t key; /* orders as the number does */
    uint32_t item;
} pair;

static void gather(const idx_sorted *s, pair *out)
{
    const idx_column *c = s->numbers;
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->top; i++) {
        uint64_t packed = idx_column_get(c, i);
        if (packed == 0) continue;
        uint64_t u = ~packed;
        out[n++] = (pair){u >> 63 ? ~u : u | (uint64_t)1 << 63, i};
    }
}

/* By digits of 11 bits, the last first; stable, so that equal numbers stay in the order of their items. */
static void sort_pairs(pair *p, pair *room, uint32_t n)
{
    pair *from = p, *to = room;
    for (uint32_t shift = 0; shift < 64; shift += 11) {
        uint32_t at[2048] = {0}, sum = 0;
        for (uint32_t i = 0; i < n; i++) at[from[i].key >> shift & 2047]++;
        if (n > 0 && at[from[0].key >> shift & 2047] == n) continue;
        for (uint32_t d = 0; d < 2048; d++) {
            uint32_t here = at[d];
            at[d] = sum;
            sum += here;
        }
        for (uint32_t i = 0; i < n; i++) to[at[from[i].key >> shift & 2047]++] = from[i];
        pair *t = from;
        from = to;
        to = t;
    }
    if (from != p) memcpy(p, from, n * sizeof *p);
}

bool idx_sorted_fill(idx_sorted *s)
{
    clear(s);
    uint32_t n = s->numbers->used;
    pair *p = malloc(2 * ((size_t)n + 1) * sizeof *p);
    bool ok = p != NULL;
    if (ok) {
        gather(s, p);
        sort_pairs(p, p + n, n);
    }
    for (uint32_t at = 0; ok && at < n; at += FILL) {
        uint32_t b = s->n_blocks, k = n - at < FILL ? n - at : FILL;
        if (!(ok = insert_block(s, b))) break;
        for (uint32_t i = 0; i < k; i++) s->blocks[b]->item[i] = p[at + i].item;
        s->count[b] = k;
        s->first[b] = number(s, p[at].item);
        s->n += k;
    }
    free(p);
    ok = ok && (n == 0 || marks_reach(s, s->numbers->top - 1));
    for (uint32_t m = 0, was; ok && s->n - (m > 0 ? s->marks[m - 1].count : 0) > 2 * step(s); m++) {
        was = s->n_marks;
        uint32_t start = m > 0 ? s->marks[m - 1].count : 0;
        double v = number(s, idx_sorted_at(s, start + step(s)));
        uint32_t rank = idx_sorted_rank(s, v, false);
        if (rank <= start) rank = idx_sorted_rank(s, v, true);
        if (rank >= s->n) break;
        ok = mark_add(s, m, rank);
        if (s->n_marks == was) break;
    }
    return ok;
}

uint64_t idx_sorted_bytes(const idx_sorted *s)
{
    return s->n_blocks * (uint64_t)sizeof(block) + s->cap_blocks * (sizeof(block *) + sizeof *s->first + sizeof *s->count) +
           s->n_marks * (sizeof *s->marks + s->mark_words * sizeof(uint64_t));
}

bool idx_sorted_check(const idx_sorted *s)
{
    uint32_t seen = 0, last = 0;
    double was = 0;
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        if (s->count[b] == 0 || s->count[b] > BLOCK || s->first[b] != number(s, s->blocks[b]->item[0])) return false;
        for (uint32_t i = 0; i < s->count[b]; i++, seen++) {
            uint32_t item = s->blocks[b]->item[i];
            double v = number(s, item);
            if (idx_column_get(s->numbers, item) == 0 || (seen > 0 && !before(was, last, v, item))) return false;
            was = v;
            last = item;
            for (uint32_t m = 0; m < s->n_marks; m++)
                if (idx_bit(s->marks[m].w, item) != (v < s->marks[m].below)) return false;
        }
    }
    for (uint32_t m = 0; m < s->n_marks; m++)
        if (idx_bits_count(s->marks[m].w, s->mark_words) != s->marks[m].count || (m > 0 && s->marks[m].below <= s->marks[m - 1].below)) return false;
    if (s->n_marks > 0 && s->marks[s->n_marks - 1].count != s->n) return false;
    return seen == s->n && seen == s->numbers->used;
}
