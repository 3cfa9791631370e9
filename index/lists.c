/* lists.c: see lists.h. The file of segments/A-B.seg is segments/A-B.parts; its tag is the digest of the rowids, which name
 * vectors that never change. */
#include "lists.h"
#include "parts.h"

#include <dirent.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 16384 }; /* rows a lock is held for: below a millisecond */

static bool path_of(const idx_segment *g, char *out, size_t size)
{
    size_t n = strlen(g->path);
    if (n < 4 || strcmp(g->path + n - 4, ".seg") != 0) return false;
    return (size_t)snprintf(out, size, "%.*s.parts", (int)(n - 4), g->path) < size;
}

static void tag_of(const idx_segment *g, uint8_t tag[32])
{
    struct sha256_ctx sha;
    sha256_init(&sha);
    sha256_update(&sha, g->rows * sizeof *g->ids, (const uint8_t *)g->ids);
    sha256_digest(&sha, 32, tag);
}

/* A row's item stays as long as the row lives; of one that died since, whoever reads it finds the image gone. */
static void fill_items(const idx_cat *c, const idx_segment *g, idx_parts *p, uint32_t from, uint32_t to)
{
    for (uint32_t j = from; j < to; j++) {
        uint32_t im = g->image[p->row[j]];
        p->item[j] = im != IDX_NONE ? c->images[im].item : IDX_NONE;
    }
}

void idx_lists_load(idx_cat *c, const idx_segment_env *env)
{
    for (uint32_t i = 0; i < c->n_segments; i++) {
        idx_segment *g = c->segments[i];
        char path[4200];
        uint8_t tag[32];
        idx_error why = {0};
        if (!path_of(g, path, sizeof path)) continue;
        tag_of(g, tag);
        idx_status st = idx_parts_read(path, g->rows, c->row.info.dim, tag, &g->parts, &why);
        if (st == IDX_OK) fill_items(c, g, g->parts, 0, g->rows);
        else g->parts = NULL;
        if (st == IDX_OK || st == IDX_ENOTFOUND) continue;
        if (env->log != NULL) env->log(env->log_ctx, 1, why.text);
        unlink(path);
    }
}

idx_status idx_lists_maintain(idx_cat *c, const idx_segment_env *env, bool *worked, idx_error *err)
{
    idx_segment *g = NULL;
    pthread_rwlock_rdlock(&c->lock);
    for (uint32_t i = 0; i < c->n_segments && g == NULL && !c->removed; i++)
        if (c->segments[i]->parts == NULL) g = c->segments[i];
    pthread_rwlock_unlock(&c->lock);
    *worked = g != NULL;
    if (g == NULL) return IDX_OK;
    idx_parts *p = NULL;
    idx_status st = idx_parts_build(g->ann, g->rows, c->row.info.dim, env->stop, &p, err);
    if (st != IDX_OK) return st;
    char path[4200];
    uint8_t tag[32];
    tag_of(g, tag);
    idx_error why = {0}; /* without its file they are made again at the next start */
    if (path_of(g, path, sizeof path) && idx_parts_write(p, path, tag, &why) != IDX_OK && env->log != NULL) env->log(env->log_ctx, 1, why.text);
    for (uint32_t at = 0; at < g->rows; at += CHUNK) {
        pthread_rwlock_rdlock(&c->lock);
        fill_items(c, g, p, at, g->rows - at < CHUNK ? g->rows : at + CHUNK);
        pthread_rwlock_unlock(&c->lock);
    }
    pthread_rwlock_wrlock(&c->lock);
    g->parts = p;
    pthread_rwlock_unlock(&c->lock);
    return IDX_OK;
}

void idx_lists_sweep(const char *dir)
{
    DIR *d = opendir(dir);
    if (d == NULL) return;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t n = strlen(e->d_name);
        char seg[300];
        if (n < 6 || n > 200 || strcmp(e->d_name + n - 6, ".parts") != 0) continue;
        snprintf(seg, sizeof seg, "%.*s.seg", (int)(n - 6), e->d_name);
        if (faccessat(dirfd(d), seg, F_OK, 0) != 0) unlinkat(dirfd(d), e->d_name, 0);
    }
    closedir(d);
}
