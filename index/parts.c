/* parts.c: see parts.h. Centroids come from FAISS's k-means on a sample: first those of the groups, then, among the rows of each
 * group, those of its lists.
 *
 * PARTS FILE (derived.h), little endian: "LKPART\4\0", tag[32], rows u32, dim u32, groups u32, lists u32,
 * trained u32, 0 u32, then the arrays of
 * idx_parts in their order, without item, near, spread and what idx_parts_index() makes */
#include "parts.h"
#include "derived.h"
#include "dot.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ROWS_PER_ROOT = 4, MAX_LISTS = 16384, SMALL = 1024, SAMPLE = 48, GROUP_SAMPLE = 256, ITERATIONS = 8, BLOCK = 16384, HUGE_PAGE = 2 << 20,
       SPARSE = 4 }; /* items between the first and the last for each row, at most, for an index from items */

static const char magic[8] = {'L', 'K', 'P', 'A', 'R', 'T', 4, 0};

typedef struct {
    char magic[8];
    uint8_t tag[32];
    uint32_t rows, dim, groups, lists, trained, zero;
} header;

/* About four times the root of the rows: 250 in each of a million's; a small segment is one list. */
static uint32_t lists_for(uint32_t rows)
{
    double n = rows < SMALL ? 1 : ROWS_PER_ROOT * sqrt(rows);
    return n > MAX_LISTS ? MAX_LISTS : (uint32_t)n;
}

static idx_parts *parts_new(uint32_t rows, uint32_t dim, uint32_t groups, uint32_t lists)
{
    idx_parts *p = calloc(1, sizeof *p);
    if (p == NULL) return NULL;
    static atomic_ullong serial;
    *p = (idx_parts){groups, lists, rows, dim, ++serial, 0, calloc(groups + 1u, sizeof *p->group_start), calloc(lists + 1u, sizeof *p->start),
                     malloc((rows + 1u) * sizeof *p->row), malloc((rows + 1u) * sizeof *p->item), calloc((size_t)groups * dim, sizeof(float)),
                     calloc((size_t)lists * dim, sizeof(float)), NULL, NULL, 0, 0, NULL, NULL, NULL, NULL};
    if (p->group_start != NULL && p->start != NULL && p->row != NULL && p->item != NULL && p->group_centroid != NULL && p->centroid != NULL) return p;
    idx_parts_free(p);
    return NULL;
}

void idx_parts_free(idx_parts *p)
{
    if (p == NULL) return;
    free(p->group_start);
    free(p->start);
    free(p->row);
    free(p->item);
    free(p->group_centroid);
    free(p->centroid);
    idx_rows_free(p->near);
    free(p->spread);
    free(p->index);
    free(p->next);
    free(p);
}

static size_t lists_bytes(uint32_t n_items) { return (n_items + n_items % 2u) * sizeof(uint16_t); }
static size_t index_bytes(uint32_t n_items) { return lists_bytes(n_items) + n_items * sizeof(uint32_t); }

uint64_t idx_parts_bytes(const idx_parts *p)
{
    if (p == NULL) return 0;
    uint64_t centroids = ((uint64_t)p->n_groups + p->n_lists) * p->dim * sizeof(float);
    uint64_t index = (p->index != NULL ? index_bytes(p->n_items) : 0) + (p->next != NULL ? p->rows * sizeof *p->next : 0);
    return centroids + index + (uint64_t)p->rows * (sizeof *p->row + sizeof *p->item) + ((uint64_t)p->n_lists + p->n_groups) * sizeof(uint32_t);
}

/* Read here and there: what fills huge pages gets them (rows.h says why). The lists come first, which are read most. */
static bool index_new(idx_parts *p, uint32_t first, uint32_t n_items)
{
    size_t bytes = index_bytes(n_items), pages = bytes / HUGE_PAGE * HUGE_PAGE;
    char *at = pages > 0 ? aligned_alloc(HUGE_PAGE, (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE) : malloc(bytes);
    if (at == NULL) return false;
    if (pages > 0) (void)madvise(at, pages, MADV_HUGEPAGE);
    p->index = at;
    p->list_of = (uint16_t *)(void *)at;
    p->place_of = (uint32_t *)(void *)(at + lists_bytes(n_items));
    p->first_item = first;
    p->n_items = n_items;
    return true;
}

static void index_drop(idx_parts *p)
{
    free(p->index);
    free(p->next);
    p->index = NULL;
    p->next = p->place_of = NULL;
    p->list_of = NULL;
}

/* Row j is in list i. False: no memory. */
static bool index_row(idx_parts *p, uint32_t i, uint32_t j)
{
    uint32_t item = p->item[j] - p->first_item, before = p->place_of[item];
    p->list_of[item] = (uint16_t)i;
    p->place_of[item] = j + 1;
    if (before == 0) return true;
    if (p->next == NULL && (p->next = calloc(p->rows, sizeof *p->next)) == NULL) return false;
    p->next[j] = before;
    return true;
}

void idx_parts_index(idx_parts *p)
{
    uint32_t first = UINT32_MAX, last = 0;
    bool ok = true;
    if (p->n_lists == 1) return;
    for (uint32_t j = 0; j < p->rows; j++) {
        if (p->item[j] == UINT32_MAX) continue;
        if (p->item[j] < first) first = p->item[j];
        if (p->item[j] > last) last = p->item[j];
    }
    if (first > last || last - first >= (uint64_t)p->rows * SPARSE || !index_new(p, first, last - first + 1)) return;
    memset(p->place_of, 0, p->n_items * sizeof *p->place_of);
    for (uint32_t i = 0; i < p->n_items; i++) p->list_of[i] = (uint16_t)p->n_lists;
    for (uint32_t i = 0; ok && i < p->n_lists; i++)
        for (uint32_t j = p->start[i]; ok && j < p->start[i + 1]; j++)
            if (p->item[j] != UINT32_MAX) ok = index_row(p, i, j);
    if (p->next != NULL) p->list_of = NULL;
    if (!ok) index_drop(p);
}

/* ---- building ------------------------------------------------------------------------------------------------- */

typedef struct {
    const idx_rows *v;
    idx_parts *p;
    const _Atomic bool *stop;
    idx_error *err;
} builder;

static idx_status copy_rows(builder *b, uint32_t from, uint32_t step, uint32_t n, float *out)
{
    if (*b->stop) return idx_fail(b->err, IDX_EBUSY, "stopping");
    for (uint32_t i = 0; i < n; i++) idx_rows_decode(b->v, idx_rows_at(b->v, from + i * step), out + (size_t)i * b->p->dim);
    return IDX_OK;
}

static idx_status cluster(builder *b, const float *rows, uint32_t n, uint32_t k, float *centroid)
{
    idx_status st = IDX_OK;
    for (int i = 0; st == IDX_OK && i < ITERATIONS; i++)
        st = *b->stop ? idx_fail(b->err, IDX_EBUSY, "stopping") : idx_ann_cluster(rows, n, b->p->dim, k, i > 0, centroid, b->err);
    return st;
}

/* The lists of a group from the `n` rows of the sample that are its own; at least one. */
static idx_status make_group(builder *b, uint32_t group, const float *rows, uint32_t n, uint32_t lists)
{
    idx_parts *p = b->p;
    float *centroid = p->centroid + (size_t)p->group_start[group] * p->dim, *own = p->group_centroid + (size_t)group * p->dim;
    idx_status st = IDX_OK;
    if (lists > 1) st = cluster(b, rows, n, lists, centroid);
    else memcpy(centroid, own, p->dim * sizeof *own);
    p->group_start[group + 1] = p->group_start[group] + lists;
    return st;
}

/* As many lists for a group as its share of the sample, such that they come out at n_lists together. */
static void share_lists(const uint32_t *members, uint32_t n, const idx_parts *p, uint32_t *lists)
{
    uint32_t spare = p->n_lists - p->n_groups, given = 0;
    uint64_t sum = 0;
    for (uint32_t g = 0; g < p->n_groups; g++) {
        sum += members[g];
        uint32_t upto = (uint32_t)(sum * spare / n);
        lists[g] = 1 + upto - given;
        given = upto;
    }
}

static idx_status train(builder *b)
{
    idx_parts *p = b->p;
    uint32_t n = p->n_lists * SAMPLE < p->rows ? p->n_lists * SAMPLE : p->rows, few = p->n_groups * GROUP_SAMPLE < n ? p->n_groups * GROUP_SAMPLE : n;
    float *sample = malloc((size_t)n * p->dim * sizeof *sample), *own = malloc((size_t)n * p->dim * sizeof *own);
    uint32_t *label = malloc(n * sizeof *label), *members = calloc(p->n_groups, sizeof *members), *lists = calloc(p->n_groups, sizeof *lists);
    idx_status st = sample == NULL || own == NULL || label == NULL || members == NULL || lists == NULL ? idx_fail(b->err, IDX_ENOMEM, "no memory for lists") : IDX_OK;
    if (st == IDX_OK) st = copy_rows(b, 0, p->rows / few, few, sample);
    if (st == IDX_OK) st = cluster(b, sample, few, p->n_groups, p->group_centroid);
    if (st == IDX_OK) st = copy_rows(b, 0, p->rows / n, n, sample);
    if (st == IDX_OK) st = idx_ann_nearest(p->group_centroid, p->n_groups, p->dim, sample, n, label, b->err);
    for (uint32_t i = 0; st == IDX_OK && i < n; i++) members[label[i]]++;
    if (st == IDX_OK) share_lists(members, n, p, lists);
    for (uint32_t g = 0; st == IDX_OK && g < p->n_groups; g++) {
        uint32_t m = 0;
        for (uint32_t i = 0; i < n; i++)
            if (label[i] == g) memcpy(own + (size_t)m++ * p->dim, sample + (size_t)i * p->dim, p->dim * sizeof *own);
        st = make_group(b, g, own, m, lists[g]);
    }
    free(sample);
    free(own);
    free(label);
    free(members);
    free(lists);
    return st;
}

/* label[i]: the list of each of n rows: the nearest one of its group. */
static idx_status assign_block(builder *b, const float *rows, uint32_t n, float *own, uint32_t *group, uint32_t *label)
{
    const idx_parts *p = b->p;
    uint32_t *which = malloc(2 * n * sizeof *which);
    idx_status st = which == NULL ? idx_fail(b->err, IDX_ENOMEM, "no memory for lists") : idx_ann_nearest(p->group_centroid, p->n_groups, p->dim, rows, n, group, b->err);
    for (uint32_t g = 0; st == IDX_OK && g < p->n_groups; g++) {
        uint32_t m = 0, first = p->group_start[g], lists = p->group_start[g + 1] - first;
        for (uint32_t i = 0; i < n; i++) {
            if (group[i] != g) continue;
            memcpy(own + (size_t)m * p->dim, rows + (size_t)i * p->dim, p->dim * sizeof *own);
            which[m++] = i;
        }
        if (m > 0) st = idx_ann_nearest(p->centroid + (size_t)first * p->dim, lists, p->dim, own, m, which + n, b->err);
        for (uint32_t i = 0; st == IDX_OK && i < m; i++) label[which[i]] = first + which[n + i];
    }
    free(which);
    return st;
}

/* label[i]: the list of row from + i. */
static idx_status assign(builder *b, uint32_t from, uint32_t *label)
{
    size_t floats = (size_t)BLOCK * b->p->dim;
    float *rows = malloc(2 * floats * sizeof *rows);
    uint32_t *group = malloc(BLOCK * sizeof *group);
    idx_status st = rows == NULL || group == NULL ? idx_fail(b->err, IDX_ENOMEM, "no memory for lists") : IDX_OK;
    for (uint32_t at = from; st == IDX_OK && b->p->n_lists > 1 && at < b->p->rows; at += BLOCK) {
        uint32_t n = b->p->rows - at < BLOCK ? b->p->rows - at : BLOCK;
        st = copy_rows(b, at, 1, n, rows);
        if (st == IDX_OK) st = assign_block(b, rows, n, rows + floats, group, label + (at - from));
    }
    free(rows);
    free(group);
    return st;
}

static uint32_t list_rows(const idx_parts *p, uint32_t list) { return p->start[list + 1] - p->start[list]; }

/* The lists of `old`, NULL = empty ones, and behind its rows those that came since: label[i] is the list of the i-th of them. */
static void fill(idx_parts *p, const idx_parts *old, const uint32_t *label)
{
    const uint32_t from = old != NULL ? old->rows : 0;
    for (uint32_t r = from; r < p->rows; r++) p->start[label[r - from] + 1]++;
    for (uint32_t i = 0; i < p->n_lists; i++) {
        const uint32_t n = old != NULL ? list_rows(old, i) : 0;
        p->start[i + 1] += p->start[i] + n;
        if (n > 0) memcpy(p->row + p->start[i], old->row + old->start[i], n * sizeof *p->row);
        p->start[i] += n;
    }
    for (uint32_t r = from; r < p->rows; r++) p->row[p->start[label[r - from]]++] = r;
    memmove(p->start + 1, p->start, p->n_lists * sizeof *p->start);
    p->start[0] = 0;
}

/* What searches use of the lists. */
static idx_status make_ready(idx_parts *p, idx_error *err)
{
    if (p->n_lists == 1) return IDX_OK;
    idx_status st = idx_rows_new(IDX_INT8, p->dim, &p->near, err);
    if (st == IDX_OK) st = idx_rows_room(p->near, p->n_lists - 1, err);
    for (uint32_t i = 0; st == IDX_OK && i < p->n_lists; i++) idx_rows_encode(p->near, p->centroid + (size_t)i * p->dim, idx_rows_at(p->near, i));
    if (st == IDX_OK && (p->spread = calloc(p->n_groups, sizeof *p->spread)) == NULL) st = idx_fail(err, IDX_ENOMEM, "no memory for lists");
    for (uint32_t g = 0; st == IDX_OK && g < p->n_groups; g++)
        for (uint32_t i = p->group_start[g]; i < p->group_start[g + 1]; i++)
            p->spread[g] += idx_dot(p->group_centroid + (size_t)g * p->dim, p->centroid + (size_t)i * p->dim, p->dim) / (float)(p->group_start[g + 1] - p->group_start[g]);
    return st;
}

static idx_status finish(idx_parts *p, const idx_parts *old, uint32_t *label, idx_status st, idx_parts **out, idx_error *err)
{
    if (st == IDX_OK) {
        fill(p, old, label);
        st = make_ready(p, err);
    }
    if (st == IDX_OK) {
        *out = p;
    } else {
        idx_parts_free(p);
    }
    free(label);
    return st;
}

idx_status idx_parts_build(const idx_rows *v, uint32_t rows, const _Atomic bool *stop, idx_parts **out, idx_error *err)
{
    uint32_t lists = lists_for(rows), groups = (uint32_t)sqrt(lists);
    idx_parts *p = parts_new(rows, v->dim, groups, lists);
    uint32_t *label = calloc(rows + 1u, sizeof *label);
    builder b = {v, p, stop, err};
    idx_status st = p == NULL || label == NULL ? idx_fail(err, IDX_ENOMEM, "no memory for lists") : IDX_OK;
    if (st == IDX_OK) p->trained = rows;
    if (st == IDX_OK && lists == 1) p->group_start[1] = 1;
    if (st == IDX_OK && lists > 1) st = train(&b);
    if (st == IDX_OK) st = assign(&b, 0, label);
    return finish(p, NULL, label, st, out, err);
}

idx_status idx_parts_extend(const idx_parts *old, const idx_rows *v, uint32_t rows, const _Atomic bool *stop, idx_parts **out, idx_error *err)
{
    idx_parts *p = parts_new(rows, v->dim, old->n_groups, old->n_lists);
    uint32_t *label = calloc(rows - old->rows + 1u, sizeof *label);
    builder b = {v, p, stop, err};
    idx_status st = p == NULL || label == NULL ? idx_fail(err, IDX_ENOMEM, "no memory for lists") : IDX_OK;
    if (st == IDX_OK) {
        p->trained = old->trained;
        memcpy(p->group_start, old->group_start, (p->n_groups + 1u) * sizeof *p->group_start);
        memcpy(p->group_centroid, old->group_centroid, (size_t)p->n_groups * p->dim * sizeof(float));
        memcpy(p->centroid, old->centroid, (size_t)p->n_lists * p->dim * sizeof(float));
        st = assign(&b, old->rows, label);
    }
    return finish(p, old, label, st, out, err);
}

/* ---- the file ------------------------------------------------------------------------------------------------------ */

typedef struct {
    void *p;
    size_t bytes;
} array;

enum { ARRAYS = 5 };
static void arrays_of(const idx_parts *p, array out[ARRAYS])
{
    out[0] = (array){p->group_start, (p->n_groups + 1u) * sizeof *p->group_start};
    out[1] = (array){p->start, (p->n_lists + 1u) * sizeof *p->start};
    out[2] = (array){p->row, p->rows * sizeof *p->row};
    out[3] = (array){p->group_centroid, (size_t)p->n_groups * p->dim * sizeof(float)};
    out[4] = (array){p->centroid, (size_t)p->n_lists * p->dim * sizeof(float)};
}

idx_status idx_parts_write(const idx_parts *p, const char *path, const uint8_t tag[32], idx_error *err)
{
    header h = {.rows = p->rows, .dim = p->dim, .groups = p->n_groups, .lists = p->n_lists, .trained = p->trained};
    memcpy(h.magic, magic, sizeof magic);
    memcpy(h.tag, tag, sizeof h.tag);
    idx_derived_out o;
    array a[ARRAYS];
    idx_status st = idx_derived_create(&o, path, err);
    if (st != IDX_OK) return st;
    arrays_of(p, a);
    idx_derived_put(&o, &h, sizeof h);
    for (int i = 0; i < ARRAYS; i++) idx_derived_put(&o, a[i].p, a[i].bytes);
    return idx_derived_close(&o, true, err);
}

/* The digest says that it is what was written; this, that it can be used. */
static bool sound(const idx_parts *p)
{
    if (p->group_start[0] != 0 || p->group_start[p->n_groups] != p->n_lists || p->start[0] != 0 || p->start[p->n_lists] != p->rows) return false;
    for (uint32_t g = 0; g < p->n_groups; g++)
        if (p->group_start[g] >= p->group_start[g + 1]) return false;
    for (uint32_t i = 0; i < p->n_lists; i++) {
        if (p->start[i] > p->start[i + 1]) return false;
        for (uint32_t j = p->start[i]; j < p->start[i + 1]; j++)
            if (p->row[j] >= p->rows || (j > p->start[i] && p->row[j] <= p->row[j - 1])) return false;
    }
    return true;
}

idx_status idx_parts_read(const char *path, uint32_t rows, uint32_t dim, const uint8_t tag[32], idx_parts **out, idx_error *err)
{
    idx_derived_in in;
    idx_status st = idx_derived_open(&in, path, err);
    if (st != IDX_OK) return st;
    const header *h = idx_derived_take(&in, sizeof *h);
    bool ok = h != NULL && memcmp(h->magic, magic, sizeof magic) == 0 && memcmp(h->tag, tag, sizeof h->tag) == 0 && h->rows <= rows && h->dim == dim &&
              h->lists >= 1 && h->lists <= MAX_LISTS && h->groups >= 1 && h->groups <= h->lists;
    idx_parts *p = ok ? parts_new(h->rows, dim, h->groups, h->lists) : NULL;
    if (p != NULL) {
        p->trained = h->trained;
        array a[ARRAYS];
        arrays_of(p, a);
        for (int i = 0; ok && i < ARRAYS; i++) {
            const void *from = idx_derived_take(&in, a[i].bytes);
            if ((ok = from != NULL)) memcpy(a[i].p, from, a[i].bytes);
        }
        ok = ok && sound(p);
    }
    idx_derived_unmap(&in);
    if (ok && p != NULL && (st = make_ready(p, err)) == IDX_OK) {
        *out = p;
        return IDX_OK;
    }
    st = ok ? idx_fail(err, IDX_ENOMEM, "no memory for lists") : idx_fail(err, IDX_ECORRUPT, "%s is of something else", path);
    idx_parts_free(p);
    return st;
}
