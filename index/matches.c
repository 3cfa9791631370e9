/* matches.c: see matches.h. */
#include "catalogue.h"

#include <stdlib.h>
#include <string.h>

enum { FEW = 64 }; /* changes that are looked at one by one under the lock, in some microseconds */
enum { BYTES_EACH = 8, LEAST_BYTES = 256 << 10 }; /* that may be kept: for each image, and in a small catalogue */

static void places_free(idx_match_places *p)
{
    if (p == NULL) return;
    idx_places_fini(&p->in);
    free(p);
}

static void match_free(idx_match *x)
{
    if (x == NULL) return;
    for (idx_match_places *p = x->places, *next; p != NULL; p = next) {
        next = p->next;
        places_free(p);
    }
    idx_bits_free(&x->items);
    idx_filter_free(x->filter);
    free(x->text);
    free(x);
}

void idx_matches_init(idx_matches *m)
{
    *m = (idx_matches){0};
    pthread_mutex_init(&m->lock, NULL);
}

void idx_matches_fini(idx_matches *m)
{
    for (uint32_t i = 0; i < m->n; i++) match_free(m->at[i]);
    pthread_mutex_destroy(&m->lock);
}

/* ---- what is kept; under the lock ------------------------------------------------------------------------------------------- */

static uint32_t find(const idx_matches *m, uint32_t hash, const char *text)
{
    uint32_t i = 0;
    while (i < m->n && (m->hash[i] != hash || strcmp(m->at[i]->text, text) != 0)) i++;
    return i;
}

/* Freed when no search holds it. */
static void drop(idx_matches *m, uint32_t i)
{
    idx_match *x = m->at[i];
    m->at[i] = m->at[--m->n];
    m->hash[i] = m->hash[m->n];
    m->bytes -= x->bytes;
    x->kept = false;
    if (x->refs == 0) match_free(x);
}

/* The least recently used go. */
static void make_room(idx_matches *m, uint64_t room)
{
    while (m->n > 0 && (m->bytes > room || m->n == IDX_MATCHES_KEPT)) {
        uint32_t oldest = 0;
        for (uint32_t i = 1; i < m->n; i++)
            if (m->at[i]->used < m->at[oldest]->used) oldest = i;
        drop(m, oldest);
    }
}

static bool admitted(idx_matches *m, uint32_t hash, uint64_t room, uint64_t bytes)
{
    if (m->n < IDX_MATCHES_KEPT && m->bytes + bytes <= room) return true;
    for (uint32_t i = 0; i < IDX_MATCHES_KEPT; i++)
        if (m->turned_away[i] == hash) return true;
    m->turned_away[m->n_turned_away++ % IDX_MATCHES_KEPT] = hash;
    return false;
}

static uint64_t room_of(const idx_cat *c)
{
    uint64_t bytes = (uint64_t)c->live_images * BYTES_EACH;
    return bytes > LEAST_BYTES ? bytes : LEAST_BYTES;
}

static const idx_parts *lists_of(const idx_cat *c, uint64_t serial)
{
    for (uint32_t i = 0; i < c->n_segments; i++)
        if (c->segments[i]->parts != NULL && c->segments[i]->parts->serial == serial) return c->segments[i]->parts;
    return NULL;
}

/* Places in lists that are gone. */
static void sweep(const idx_cat *c, idx_matches *m, idx_match *x)
{
    idx_match_places *p = x->places, *left = NULL;
    for (idx_match_places *next; p != NULL; p = next) {
        next = p->next;
        if (lists_of(c, p->serial) != NULL) {
            p->next = left;
            left = p;
        } else {
            x->bytes -= p->bytes;
            m->bytes -= p->bytes;
            places_free(p);
        }
    }
    x->places = left;
}

static void change(const idx_cat *c, idx_match *x, uint32_t item)
{
    bool holds = idx_filter_holds(x->filter, c->attrs, item);
    if (idx_bit(x->items.w, item) == holds) return;
    x->n += holds ? 1 : UINT64_MAX;
    if (holds) idx_bit_set(x->items.w, item);
    else idx_bit_clear(x->items.w, item);
    for (idx_match_places *p = x->places; p != NULL; p = p->next) idx_places_set(&p->in, lists_of(c, p->serial), item, holds);
}

/* What changed since is looked at. False: it must be evaluated anew. */
static bool refresh(const idx_cat *c, idx_matches *m, idx_match *x)
{
    uint64_t now = idx_attrs_changes(c->attrs);
    if (x->changes == now) return true;
    if (x->refs > 0 || now - x->changes > FEW || x->items.n_words != idx_attrs_items(c->attrs).n_words) return false;
    sweep(c, m, x);
    for (; x->changes < now; x->changes++) change(c, x, idx_attrs_change(c->attrs, x->changes));
    return true;
}

/* ---- for searches ------------------------------------------------------------------------------------------------------- */

static idx_status evaluate(const idx_cat *c, const char *text, idx_match **out, idx_error *err)
{
    idx_match *x = calloc(1, sizeof *x);
    if (x == NULL || (x->text = strdup(text)) == NULL) {
        free(x);
        return idx_fail(err, IDX_ENOMEM, "no memory for a filter");
    }
    idx_status st = idx_filter_parse(text, &x->filter, err);
    if (st == IDX_OK) st = idx_filter_eval(x->filter, c->attrs, &x->items, err);
    if (st != IDX_OK) {
        match_free(x);
        return st;
    }
    x->n = idx_bits_count(x->items.w, x->items.n_words);
    x->changes = idx_attrs_changes(c->attrs);
    x->bytes = sizeof *x + strlen(text) + 1 + (x->items.n_words + 1u) * sizeof *x->items.w;
    *out = x;
    return IDX_OK;
}

idx_status idx_matches_take(idx_cat *c, const char *text, idx_match **out, idx_error *err)
{
    idx_matches *m = &c->matches;
    uint32_t hash = idx_text_hash(text);
    idx_match *x = NULL;
    pthread_mutex_lock(&m->lock);
    uint32_t i = find(m, hash, text);
    if (i < m->n && refresh(c, m, m->at[i])) x = m->at[i];
    else if (i < m->n) drop(m, i);
    if (x != NULL) {
        x->refs++;
        x->used = ++m->clock;
    }
    pthread_mutex_unlock(&m->lock);
    *out = x;
    if (x != NULL) return IDX_OK;
    idx_status st = evaluate(c, text, &x, err);
    if (st != IDX_OK) return st;
    x->refs = 1;
    pthread_mutex_lock(&m->lock);
    if (find(m, hash, text) == m->n && admitted(m, hash, room_of(c), x->bytes)) { /* nobody was faster */
        make_room(m, room_of(c) > x->bytes ? room_of(c) - x->bytes : 0);
        m->hash[m->n] = hash;
        m->at[m->n++] = x;
        m->bytes += x->bytes;
        x->kept = true;
        x->used = ++m->clock;
    }
    pthread_mutex_unlock(&m->lock);
    *out = x;
    return IDX_OK;
}

void idx_matches_give(idx_cat *c, idx_match *x)
{
    if (x == NULL) return;
    pthread_mutex_lock(&c->matches.lock);
    bool last = --x->refs == 0 && !x->kept;
    pthread_mutex_unlock(&c->matches.lock);
    if (last) match_free(x);
}

const idx_places *idx_match_places_in(const idx_match *x, const idx_parts *p)
{
    const idx_match_places *at = x->places;
    while (at != NULL && at->serial != p->serial) at = at->next;
    return at != NULL ? &at->in : NULL;
}

const idx_places *idx_match_find_places(idx_cat *c, idx_match *x, const idx_parts *p, bool counts)
{
    idx_matches *m = &c->matches;
    counts = counts && p->list_of != NULL;
    const idx_places *known = idx_match_places_in(x, p);
    if (known != NULL && (counts || idx_places_are_marked(known))) return known;
    idx_match_places *new = calloc(1, sizeof *new);
    if (new == NULL || !(counts ? idx_places_count(p, x->items, &new->in) : idx_places_find(p, x->items, &new->in))) {
        free(new);
        return NULL;
    }
    new->serial = p->serial;
    new->bytes = sizeof *new + idx_places_bytes(&new->in, p);
    pthread_mutex_lock(&m->lock);
    known = idx_match_places_in(x, p);
    if (known == NULL || (!counts && !idx_places_are_marked(known))) { /* no other search was faster */
        known = NULL;
        new->next = x->places;
        x->places = new;
        x->bytes += new->bytes;
        m->bytes += x->kept ? new->bytes : 0;
        if (x->kept) make_room(m, room_of(c));
    }
    pthread_mutex_unlock(&m->lock);
    if (known != NULL) places_free(new);
    return known != NULL ? known : &new->in;
}

uint64_t idx_matches_bytes(idx_matches *m)
{
    pthread_mutex_lock(&m->lock);
    uint64_t bytes = sizeof *m + m->bytes;
    pthread_mutex_unlock(&m->lock);
    return bytes;
}

/* ---- checks ---------------------------------------------------------------------------------------------------------------- */

static bool same_bits(idx_bits a, idx_bits b) { return a.n_words == b.n_words && memcmp(a.w, b.w, a.n_words * sizeof *a.w) == 0; }

static bool agrees(const idx_cat *c, const idx_match *x)
{
    idx_bits items;
    if (idx_filter_eval(x->filter, c->attrs, &items, NULL) != IDX_OK) return true; /* no memory to tell */
    bool ok = same_bits(items, x->items) && x->n == idx_bits_count(items.w, items.n_words);
    for (const idx_match_places *p = x->places; ok && p != NULL; p = p->next) {
        const idx_parts *lists = lists_of(c, p->serial);
        idx_places in;
        if (lists == NULL || !idx_places_find(lists, items, &in)) continue;
        ok = (!idx_places_are_marked(&p->in) || same_bits(in.bits, p->in.bits)) && memcmp(in.count, p->in.count, lists->n_lists * sizeof *in.count) == 0;
        idx_places_fini(&in);
    }
    idx_bits_free(&items);
    return ok;
}

const char *idx_matches_check(idx_cat *c)
{
    idx_matches *m = &c->matches;
    const char *bad = NULL;
    uint64_t bytes = 0;
    pthread_mutex_lock(&m->lock);
    for (uint32_t i = 0; i < m->n && bad == NULL; i++) {
        if (m->at[i]->changes == idx_attrs_changes(c->attrs) || refresh(c, m, m->at[i]))
            if (!agrees(c, m->at[i])) bad = m->at[i]->text;
        bytes += m->at[i]->bytes; /* some less, where lists went since */
    }
    if (bad == NULL && bytes != m->bytes) bad = "(their bytes)";
    pthread_mutex_unlock(&m->lock);
    return bad;
}
