/* chain.c: convolutions one behind the other, a few rows at a time: what lies between two of them stays in the second cache and
 * is never a whole picture. Every row is computed once; the rows that the next strip needs again move to the top. */
#include "run.h"

#include <string.h>

enum {
    WORTH = 512 * 1024, /* bytes between two steps from which on they would leave the second cache */
    STRIPS = 512 * 1024 /* for the rows between all steps of a chain */
};

static size_t row_bytes(const emb_step *s) { return (size_t)s->ow * s->oc * s->y_bytes; }

/* ---- plan --------------------------------------------------------------------------------------------- */

static bool can_link(const emb_step *s)
{
    bool rows = s->kind == EMB_STEP_CONV || s->kind == EMB_STEP_DEPTHWISE || s->kind == EMB_STEP_MAX_POOL || s->kind == EMB_STEP_AVG_POOL;
    return rows && s->oh > 1;
}

static uint32_t readers(const emb_plan *p, int32_t buffer)
{
    uint32_t n = buffer == p->output;
    for (size_t i = 0; i < p->n_steps; i++) {
        for (int32_t k = 0; k < p->steps[i].n_in; k++) n += p->steps[i].in[k] == buffer;
        n += (uint32_t)(p->steps[i].residual == buffer) + (uint32_t)(p->steps[i].gate == buffer);
    }
    return n;
}

/* Rows of the picture that `rows` rows of the result are made of, at most. */
static uint32_t rows_in(const emb_step *s, uint32_t rows)
{
    int64_t n = (rows - 1) * s->w.sh + (s->w.kh - 1) * s->w.dh + 1;
    return n < s->ih ? (uint32_t)n : s->ih;
}

/* Bytes between the steps of a chain whose last one makes `rows` rows at a time; sets strip of each when asked. */
static size_t strips_bytes(emb_step *first, uint32_t n, uint32_t rows, bool set)
{
    size_t sum = 0;
    for (uint32_t i = n; i-- > 0;) {
        if (set) first[i].strip = rows;
        if (i < n - 1) sum += rows * row_bytes(&first[i]);
        rows = rows_in(&first[i], rows);
    }
    return sum;
}

/* Step i + 1 can follow step i in a chain, with so many others reading what is between. */
static bool linked(const emb_plan *p, size_t i, uint32_t others)
{
    const emb_step *s = &p->steps[i];
    return i + 1 < p->n_steps && can_link(s) && can_link(&s[1]) && s[1].in[0] == s->out && s->y_pixel == s->oc && s[1].residual != s->out &&
           p->buffers[s->out].bytes > WORTH && readers(p, s->out) == 1 + others;
}

/* What the step after the next adds may lie between the two as well: the rows that a window needs are all there when it adds them. */
static bool is_added_next(const emb_plan *p, size_t i) { return linked(p, i, 1) && linked(p, i + 1, 0) && p->steps[i + 2].residual == p->steps[i].out; }

void emb_plan_chains(emb_plan *p)
{
    for (size_t i = 0, n; i < p->n_steps; i += n) {
        emb_step *s = &p->steps[i];
        n = 1;
        while (n < EMB_CHAIN_MAX && (linked(p, i + n - 1, 0) || (n + 1 < EMB_CHAIN_MAX && is_added_next(p, i + n - 1)))) n++;
        s->chain = (uint32_t)n;
        if (n == 1) continue;
        uint32_t rows = s[n - 1].oh;
        while (rows > 1 && strips_bytes(s, s->chain, rows, false) > STRIPS) rows--;
        (void)strips_bytes(s, s->chain, rows, true);
        for (size_t k = 0; k + 1 < n; k++) p->buffers[s[k].out].bytes = (s[k].strip * row_bytes(&s[k]) + EMB_KERNEL_SLACK + 63) / 64 * 64;
    }
}

/* ---- run ------------------------------------------------------------------------------------------------ */

typedef struct { /* rows first to end of a step's result are in its buffer */
    uint32_t first, end;
} held;

/* The rows of the picture that rows from to `to` of the result touch. */
static void touched(const emb_step *s, uint32_t from, uint32_t to, uint32_t *in_from, uint32_t *in_to)
{
    int64_t a = from * s->w.sh - s->w.top, b = (to - 1) * s->w.sh - s->w.top + (s->w.kh - 1) * s->w.dh + 1;
    *in_from = a < 0 ? 0 : a > s->ih ? s->ih : (uint32_t)a;
    *in_to = b < *in_from ? *in_from : b > s->ih ? s->ih : (uint32_t)b;
}

/* Forgets the rows before `from`. */
static void drop_rows(const emb_walk *w, const emb_step *s, held *h, uint32_t from)
{
    void *y = emb_at(w, s->out);
    size_t row = (size_t)s->ow * s->oc;
    if (from > h->first && from < h->end) memmove(y, emb_y(s, y, (from - h->first) * row), (h->end - from) * row * s->y_bytes);
    if (from > h->first) h->first = from;
    if (h->end < from) h->end = from;
}

/* Rows have[i].end to `to` of step i. */
static void extend(const emb_walk *w, const emb_step *first, uint32_t i, held *have, uint32_t to)
{
    const emb_step *s = &first[i];
    held *h = &have[i];
    emb_rows r = emb_all_rows(w, s);
    size_t row = (size_t)s->ow * s->y_pixel;
    const uint32_t added = i >= 2 && s->residual == first[i - 2].out ? have[i - 2].first : 0; /* the first row of the residual that is there */
    r.oy0 = h->end;
    r.oy1 = to;
    r.y = emb_y(s, r.y, (h->end - h->first) * row);
    if (r.residual != NULL) r.residual = (const char *)r.residual + (h->end - added) * row * s->r_bytes;
    if (i > 0) r.x_first = have[i - 1].first;
    emb_run_rows(w, s, &r);
    h->end = to;
}

void emb_run_chain(const emb_walk *w, const emb_step *first, double *timings)
{
    uint32_t n = first->chain, from[EMB_CHAIN_MAX], to[EMB_CHAIN_MAX];
    held have[EMB_CHAIN_MAX] = {{0, 0}};
    const emb_step *last = &first[n - 1];
    for (uint32_t y = 0; y < last->oh; y = to[n - 1]) {
        from[n - 1] = y;
        to[n - 1] = last->oh - y < last->strip ? last->oh : y + last->strip;
        for (uint32_t i = n - 1; i > 0; i--) touched(&first[i], from[i], to[i], &from[i - 1], &to[i - 1]);
        for (uint32_t i = 0; i < n; i++) {
            double t = timings != NULL ? emb_now() : 0;
            if (i < n - 1) drop_rows(w, &first[i], &have[i], from[i]);
            if (to[i] > have[i].end) extend(w, first, i, have, to[i]);
            if (timings != NULL) timings[i] += emb_now() - t;
        }
    }
}
