/* lists.c: see lists.h. The file of segments/A-B.rows is segments/A-B.parts; its tag is that of the rows, which never change. */
#include "lists.h"
#include "parts.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MORE_ROWS = 4096, /* that are worth extending lists for, and a hundredth of what is in them */
       IDLE_MS = 1000 };  /* that they have for it in a thread that gives way to everybody */

static void path_of(const idx_cat *c, const idx_segment *g, const char *dir, char *out, size_t size)
{
    snprintf(out, size, "%s/%" PRId64 "-%" PRIu64 ".parts", dir, c->row.id, g->number);
}

static void tag_of(const idx_segment *g, uint8_t tag[32])
{
    memset(tag, 0, 32);
    memcpy(tag, g->tag, sizeof g->tag);
}

/* Without the lock: a row's item stays as long as the row lives; of one that died since, whoever reads it finds it gone. */
static void fill_items(const idx_segment *g, idx_parts *p)
{
    for (uint32_t j = 0; j < p->rows; j++) p->item[j] = __atomic_load_n(&g->item[p->row[j]], __ATOMIC_RELAXED);
    idx_parts_index(p);
}

void idx_lists_load(idx_cat *c, const idx *ix)
{
    for (uint32_t i = 0; i < c->n_segments; i++) {
        idx_segment *g = c->segments[i];
        char path[4200];
        uint8_t tag[32];
        idx_error why = {0};
        path_of(c, g, ix->segment_dir, path, sizeof path);
        tag_of(g, tag);
        idx_status st = idx_parts_read(path, idx_segment_linked(g), c->row.info.dim, tag, &g->parts, &why);
        if (st == IDX_OK) {
            fill_items(g, g->parts);
        } else {
            g->parts = NULL;
        }
        if (st == IDX_OK || st == IDX_ENOTFOUND) continue;
        idx_say(ix, 1, "%s", why.text);
        unlink(path);
    }
}

static bool wants_lists(const idx_segment *g, bool idle)
{
    enum { IDLE_SHARE = 4096 }; /* of what is in them, when nothing else is to be done: so many are compared one by one */
    uint32_t linked = idx_segment_linked(g), in = g->parts != NULL ? g->parts->rows : 0, more = linked - in;
    return linked > 0 && (in == 0 || (idle && more > 0 && more >= in / IDLE_SHARE) || (more >= MORE_ROWS && more >= in / 100));
}

typedef struct {
    const idx_segment *g;
    uint32_t rows;
    bool anew;
    idx_parts *out;
    idx_error *err;
} making;

static idx_status make_low(void *ctx, const _Atomic bool *stop)
{
    making *m = ctx;
    *m->err = (idx_error){0}; /* what the first thread said of giving up */
    idx_status st = m->anew ? idx_parts_build(m->g->v, m->rows, stop, &m->out, m->err) : idx_parts_extend(m->g->parts, m->g->v, m->rows, stop, &m->out, m->err);
    if (st == IDX_OK) fill_items(m->g, m->out);
    return st;
}

idx_status idx_lists_maintain(idx_cat *c, idx *ix, bool idle, bool *worked, idx_error *err)
{
    idx_segment *g = NULL;
    pthread_rwlock_rdlock(&c->lock);
    for (uint32_t i = 0; i < c->n_segments && g == NULL && !c->removed; i++)
        if (wants_lists(c->segments[i], idle)) g = c->segments[i];
    pthread_rwlock_unlock(&c->lock);
    *worked = g != NULL;
    if (g == NULL) return IDX_OK;
    idx_parts *old = g->parts;
    uint32_t rows = idx_segment_linked(g);
    bool anew = old == NULL || rows > old->trained * 2; /* centroids of half the rows know nothing of the rest */
    making m = {.g = g, .rows = rows, .anew = anew, .err = err};
    idx_status st = idx_low_run_patiently(anew ? NULL : ix->idle, ix->low, make_low, &m, IDLE_MS, &ix->stop);
    if (st != IDX_OK) return st;
    idx_parts *p = m.out;
    idx_error why = {0}; /* without its file they are made again at the next start */
    if (rows <= g->saved && (anew || idle)) {
        char path[4200];
        uint8_t tag[32];
        path_of(c, g, ix->segment_dir, path, sizeof path);
        tag_of(g, tag);
        if (idx_parts_write(p, path, tag, &why) != IDX_OK) idx_say(ix, 1, "%s", why.text);
    }
    idx_cat_lock(c);
    g->parts = p;
    pthread_rwlock_unlock(&c->lock);
    idx_parts_free(old);
    return IDX_OK;
}

void idx_lists_sweep(const char *dir)
{
    DIR *d = opendir(dir);
    if (d == NULL) return;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t n = strlen(e->d_name);
        char rows[300];
        if (n < 6 || n > 200 || strcmp(e->d_name + n - 6, ".parts") != 0) continue;
        snprintf(rows, sizeof rows, "%.*s.rows", (int)(n - 6), e->d_name);
        if (faccessat(dirfd(d), rows, F_OK, 0) != 0) unlinkat(dirfd(d), e->d_name, 0);
    }
    closedir(d);
}
