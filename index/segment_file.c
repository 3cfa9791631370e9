/* segment_file.c: see segment_file.h. Files are named CATALOGUE-NUMBER.rows and .graph. Little endian.
 *
 * ROWS FILE: only ever grows, by blocks
 *    0  magic "LKROWS\2\0"      8  storage u32     12  dim u32       16  bytes of a row u32    20  0 u32
 *   24  catalogue i64          32  number u64      40  tag, 16 bytes
 *   56  fingerprint, 64 bytes, NUL-padded         120  XXH3-64 of all before
 *  128  blocks:  0  "LKBK"      4  first row u32    8  rows u32      12  0 u32     16  XXH3-64 of these 16 bytes and of what follows
 *               24  rows x i64: image rowids of the store, 0 = dead     then rows x bytes of a row
 * GRAPH FILE: written beside and renamed
 *    0  magic "LKGRAPH\3"       8  tag, 16 bytes of the rows file
 *   24  m u32                  28  rows u32        32  entry i32     36  top i32        40  links u64
 *   48  careful u32 (ann.h)    52  0 u32
 *   56  rows x u8: levels, padded to 8; links x i32
 *       XXH3-128 of all before
 *
 * BOTH ARE DERIVED from SQLite, and wrong in one of two ways. OUT OF DATE is no harm: rowids are never used again, so a row whose
 * image is gone is dead, and an image that no file has is read from SQLite; a crash while rows are added leaves a last block that does
 * not match its digest, and rows behind those of the graph: the block is cut off, the rows are linked again. DAMAGED (a digest that does
 * not match among rows that the graph has, or in the graph, a header of something else, or none where there is a graph) means that all
 * files of the number are deleted and its images read from SQLite. Every byte is read and digested before it is used: at 10 GB/s that costs less than reading the file
 * does, and so nothing needs to be checked later, or can be found damaged while it serves. For the same reason files are read and not
 * mapped: memory that is a file's page can change or fail under a search, has no huge pages, and would save start only the copy.
 * XXH3 finds accidents. It is no defence against whoever can write to the data folder; nothing in this program is. */
#include "segment_file.h"
#include "derived.h"
#include "ann_shim.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char rows_magic[8] = "LKROWS\2", graph_magic[8] = {'L', 'K', 'G', 'R', 'A', 'P', 'H', 3};

typedef struct {
    char magic[8];
    uint32_t storage, dim, stride, zero;
    int64_t catalogue;
    uint64_t number;
    uint8_t tag[16];
    char fingerprint[64];
    uint64_t digest;
} rows_header;

typedef struct {
    char magic[4];
    uint32_t first, rows, zero;
    uint64_t digest;
} block_header;

typedef struct {
    char magic[8];
    uint8_t tag[16];
    uint32_t m, rows;
    int32_t entry, top;
    uint64_t links;
    uint32_t careful, zero;
} graph_header;

_Static_assert(sizeof(rows_header) == 128 && sizeof(block_header) == 24 && sizeof(graph_header) == 56, "as in the comment");
enum { BLOCK_ROWS = 8192 };

/* ---- names --------------------------------------------------------------------------------------------------------------- */

static void path_of(char *out, size_t size, const char *dir, int64_t catalogue, uint64_t number, const char *kind)
{
    snprintf(out, size, "%s/%" PRId64 "-%" PRIu64 ".%s", dir, catalogue, number, kind);
}

/* CATALOGUE-NUMBER.KIND; true for those of this file, and for those of older versions and of lists.c. */
static bool parse_name(const char *name, int64_t *catalogue, uint64_t *number, char kind[8])
{
    int end = 0;
    if (sscanf(name, "%" SCNd64 "-%" SCNu64 ".%7[a-z]%n", catalogue, number, kind, &end) != 3 || end == 0 || name[end] != 0) return false;
    return strcmp(kind, "rows") == 0 || strcmp(kind, "graph") == 0 || strcmp(kind, "seg") == 0 || strcmp(kind, "parts") == 0;
}

/* Calls `doomed` for each file that has a name of ours, or is half-written, and removes those it wants gone. */
static void sweep(const char *dir, bool (*doomed)(const void *ctx, int64_t catalogue, uint64_t number, const char *kind), const void *ctx)
{
    DIR *d = opendir(dir);
    if (d == NULL) return;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t n = strlen(e->d_name);
        int64_t catalogue;
        uint64_t number;
        char kind[8];
        bool gone = n > 4 && strcmp(e->d_name + n - 4, ".tmp") == 0;
        if (gone ? ctx != NULL && doomed(ctx, -1, 0, "tmp") : parse_name(e->d_name, &catalogue, &number, kind) && doomed(ctx, catalogue, number, kind))
            unlinkat(dirfd(d), e->d_name, 0);
    }
    closedir(d);
}

static bool is_of(const void *ctx, int64_t catalogue, uint64_t number, const char *kind)
{
    (void)number, (void)kind;
    return catalogue == *(const int64_t *)ctx;
}

void idx_segments_purge(const char *dir, int64_t catalogue) { sweep(dir, is_of, &catalogue); }

typedef struct {
    const idx_catalogue_row *row;
    size_t n;
} living_rows;

static bool is_stray(const void *ctx, int64_t catalogue, uint64_t number, const char *kind)
{
    const living_rows *l = ctx;
    (void)number;
    if (strcmp(kind, "tmp") == 0 || strcmp(kind, "seg") == 0) return true; /* .seg: the form of version 1 */
    for (size_t i = 0; i < l->n; i++)
        if (l->row[i].id == catalogue) return false;
    return true;
}

void idx_segments_clean(const char *dir, const idx_catalogue_row *living, size_t n_living) { sweep(dir, is_stray, &(living_rows){living, n_living}); }

void idx_segment_remove_files(int64_t catalogue, uint64_t number, const char *dir)
{
    static const char *const kinds[] = {"graph", "parts", "rows"};
    for (int i = 0; i < 3; i++) {
        char path[4200];
        path_of(path, sizeof path, dir, catalogue, number, kinds[i]);
        unlink(path);
    }
}

void idx_segment_unlink(const idx_cat *c, const idx_segment *g, const char *dir) { idx_segment_remove_files(c->row.id, g->number, dir); }

uint64_t idx_segments_bytes(const char *dir)
{
    uint64_t sum = 0;
    DIR *d = opendir(dir);
    if (d == NULL) return 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        struct stat sb;
        if (e->d_name[0] != '.' && fstatat(dirfd(d), e->d_name, &sb, 0) == 0) sum += (uint64_t)sb.st_size;
    }
    closedir(d);
    return sum;
}

static void sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

/* ---- writing --------------------------------------------------------------------------------------------------------------- */

typedef struct {
    int fd;
    uint64_t end, synced; /* bytes written, and of them those that the disk has */
} out_file;

static bool put(out_file *f, const void *p, size_t n)
{
    for (const char *at = p; n > 0;) {
        ssize_t w = write(f->fd, at, n < (1u << 20) ? n : (1u << 20));
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return false;
        at += w;
        n -= (size_t)w;
        f->end += (uint64_t)w;
        idx_derived_pace(f->fd, f->end, &f->synced);
    }
    return true;
}

static void fill_header(const idx_cat *c, const idx_segment *g, rows_header *h)
{
    *h = (rows_header){.storage = (uint32_t)g->v->storage, .dim = g->v->dim, .stride = (uint32_t)g->v->stride, .catalogue = c->row.id, .number = g->number};
    memcpy(h->magic, rows_magic, sizeof h->magic);
    memcpy(h->tag, g->tag, sizeof h->tag);
    memcpy(h->fingerprint, c->row.info.fingerprint, strnlen(c->row.info.fingerprint, sizeof h->fingerprint));
    h->digest = XXH3_64bits(h, offsetof(rows_header, digest));
}

static void image_rowids(idx_cat *c, const idx_segment *g, uint32_t from, uint32_t n, int64_t *out)
{
    pthread_rwlock_rdlock(&c->lock);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t item = g->item[from + i];
        out[i] = item != IDX_NONE ? c->items[item].first_image + g->n[from + i] : 0;
    }
    pthread_rwlock_unlock(&c->lock);
}

/* The rows of a block lie in runs, one for each chunk. fn: hashes or writes. */
static bool each_run(const idx_rows *v, uint32_t from, uint32_t n, bool (*fn)(void *ctx, const void *p, size_t bytes), void *ctx)
{
    while (n > 0) {
        uint32_t run = (1u << v->shift) - (from & ((1u << v->shift) - 1));
        if (run > n) run = n;
        if (!fn(ctx, idx_rows_at(v, from), run * v->stride)) return false;
        from += run;
        n -= run;
    }
    return true;
}

static bool run_hash(void *ctx, const void *p, size_t bytes) { return XXH3_64bits_update(ctx, p, bytes) == XXH_OK; }
static bool run_put(void *ctx, const void *p, size_t bytes) { return put(ctx, p, bytes); }

static bool put_block(out_file *f, idx_cat *c, const idx_segment *g, uint32_t from, uint32_t n, int64_t *images)
{
    block_header b = {.magic = {'L', 'K', 'B', 'K'}, .first = from, .rows = n};
    XXH3_state_t *x = XXH3_createState();
    if (x == NULL) return false;
    image_rowids(c, g, from, n, images);
    XXH3_64bits_reset(x);
    XXH3_64bits_update(x, &b, offsetof(block_header, digest));
    XXH3_64bits_update(x, images, n * sizeof *images);
    each_run(g->v, from, n, run_hash, x);
    b.digest = XXH3_64bits_digest(x);
    XXH3_freeState(x);
    return put(f, &b, sizeof b) && put(f, images, n * sizeof *images) && each_run(g->v, from, n, run_put, f);
}

static uint64_t block_bytes(const idx_rows *v, uint32_t n) { return sizeof(block_header) + n * (sizeof(int64_t) + v->stride); }

static idx_status save_rows(idx_cat *c, idx_segment *g, uint32_t to, const char *dir, idx_error *err)
{
    char path[4200];
    path_of(path, sizeof path, dir, c->row.id, g->number, "rows");
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0) return idx_fail(err, IDX_EIO, "cannot open %s: %s", path, strerror(errno));
    int64_t *images = malloc(BLOCK_ROWS * sizeof *images);
    /* From where the last good block ends: a torn one may lie there. */
    bool ok = images != NULL && ftruncate(fd, (off_t)g->file_bytes) == 0 && lseek(fd, (off_t)g->file_bytes, SEEK_SET) == (off_t)g->file_bytes;
    out_file f = {fd, g->file_bytes, g->file_bytes};
    if (ok && f.end == 0) {
        rows_header h;
        fill_header(c, g, &h);
        ok = put(&f, &h, sizeof h);
    }
    for (uint32_t at = g->saved, n; ok && at < to; at += n) {
        n = to - at < BLOCK_ROWS ? to - at : BLOCK_ROWS;
        ok = put_block(&f, c, g, at, n, images);
    }
    ok = ok && fdatasync(fd) == 0;
    idx_status st = ok ? IDX_OK : idx_fail(err, IDX_EIO, "cannot write %s: %s", path, strerror(errno));
    if (close(fd) != 0 && st == IDX_OK) st = idx_fail(err, IDX_EIO, "cannot close %s: %s", path, strerror(errno));
    free(images);
    if (st != IDX_OK) return st;
    if (g->file_bytes == 0) sync_dir(dir);
    g->file_bytes = f.end;
    g->saved = to;
    return IDX_OK;
}

typedef struct {
    out_file f;
    XXH3_state_t *x;
    bool ok;
} hashed;

static void hashed_put(hashed *h, const void *p, size_t n)
{
    h->ok = h->ok && XXH3_128bits_update(h->x, p, n) == XXH_OK && put(&h->f, p, n);
}

static idx_status save_graph(const idx_cat *c, idx_segment *g, uint32_t rows, const char *dir, idx_error *err)
{
    const idx_graph *a = &g->ann->g;
    char path[4200], tmp[4210];
    path_of(path, sizeof path, dir, c->row.id, g->number, "graph");
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    size_t level_bytes = (rows + 7u) / 8 * 8;
    uint8_t *levels = calloc(1, level_bytes + 1);
    hashed h = {{open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640), 0, 0}, XXH3_createState(), true};
    h.ok = h.f.fd >= 0 && h.x != NULL && levels != NULL && XXH3_128bits_reset(h.x) == XXH_OK;
    const uint32_t careful = idx_segment_careful(g);
    graph_header head = {.m = a->m, .rows = rows, .entry = *a->entry, .top = *a->top, .links = a->offsets[rows] - a->offsets[0], .careful = careful};
    memcpy(head.magic, graph_magic, sizeof head.magic);
    memcpy(head.tag, g->tag, sizeof head.tag);
    for (uint32_t i = 0; h.ok && i < rows; i++) levels[i] = (uint8_t)a->levels[i];
    hashed_put(&h, &head, sizeof head);
    hashed_put(&h, levels, level_bytes);
    hashed_put(&h, a->links + a->offsets[0], head.links * sizeof *a->links); /* nobody links meanwhile: this is the thread that does */
    if (h.ok) {
        XXH128_canonical_t digest;
        XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(h.x));
        h.ok = put(&h.f, &digest, sizeof digest) && fsync(h.f.fd) == 0;
    }
    idx_status st = h.ok ? IDX_OK : idx_fail(err, IDX_EIO, "cannot write %s: %s", tmp, strerror(errno));
    if (h.f.fd >= 0 && close(h.f.fd) != 0 && st == IDX_OK) st = idx_fail(err, IDX_EIO, "cannot close %s: %s", tmp, strerror(errno));
    if (st == IDX_OK && rename(tmp, path) != 0) st = idx_fail(err, IDX_EIO, "cannot rename %s: %s", tmp, strerror(errno));
    if (st != IDX_OK) unlink(tmp);
    else sync_dir(dir);
    XXH3_freeState(h.x);
    free(levels);
    if (st == IDX_OK) g->graph_saved = rows, g->careful_saved = careful;
    return st;
}

idx_status idx_segment_save(idx_cat *c, idx_segment *g, const char *dir, idx_error *err)
{
    uint32_t rows = idx_segment_linked(g);
    idx_status st = rows > g->saved ? save_rows(c, g, rows, dir, err) : IDX_OK; /* synced before a graph speaks of them */
    return st == IDX_OK && (rows > g->graph_saved || idx_segment_careful(g) > g->careful_saved) ? save_graph(c, g, rows, dir, err) : st;
}

/* ---- reading ----------------------------------------------------------------------------------------------------------------- */

/* All n bytes, or false. */
static bool get(int fd, void *p, size_t n)
{
    for (char *at = p; n > 0;) {
        ssize_t r = read(fd, at, n < (16u << 20) ? n : (16u << 20));
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return false;
        at += r;
        n -= (size_t)r;
    }
    return true;
}

typedef struct {
    int fd;
    XXH3_state_t *x;
} into;

static bool run_get(void *ctx, const void *p, size_t bytes)
{
    into *i = ctx;
    return get(i->fd, (void *)(uintptr_t)p, bytes) && XXH3_64bits_update(i->x, p, bytes) == XXH_OK;
}

/* One block, whole; `left`: bytes of the file from here on. */
static idx_status read_block(int fd, idx_segment *g, int64_t **images, uint64_t left, XXH3_state_t *x, idx_error *err)
{
    block_header b;
    if (left < sizeof b || !get(fd, &b, sizeof b)) return idx_fail(err, IDX_ENOTFOUND, "the last block is not whole");
    if (memcmp(b.magic, "LKBK", 4) != 0 || b.first != g->rows || b.rows == 0 || b.rows > IDX_MAX_ROWS - g->rows)
        return idx_fail(err, IDX_ECORRUPT, "the head of a block is damaged");
    if (block_bytes(g->v, b.rows) > left) return idx_fail(err, IDX_ENOTFOUND, "the last block is not whole");
    int64_t *more = realloc(*images, ((size_t)g->rows + b.rows) * sizeof *more);
    if (more == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for rows");
    *images = more;
    idx_status st = idx_rows_room(g->v, g->rows + b.rows - 1, err);
    if (st != IDX_OK) return st;
    XXH3_64bits_reset(x);
    XXH3_64bits_update(x, &b, offsetof(block_header, digest));
    if (!get(fd, more + g->rows, b.rows * sizeof *more)) return idx_fail(err, IDX_EIO, "%s", strerror(errno));
    XXH3_64bits_update(x, more + g->rows, b.rows * sizeof *more);
    if (!each_run(g->v, g->rows, b.rows, run_get, &(into){fd, x})) return idx_fail(err, IDX_EIO, "%s", strerror(errno));
    if (XXH3_64bits_digest(x) != b.digest) return idx_fail(err, IDX_ECORRUPT, "the digest of a block does not match");
    for (uint32_t i = 0; i < b.rows; i++) g->item[g->rows + i] = IDX_NONE;
    g->rows += b.rows;
    g->dead += b.rows;
    g->file_bytes += block_bytes(g->v, b.rows);
    return IDX_OK;
}

static idx_status read_rows(const idx_cat *c, const char *path, uint64_t number, idx_segment_found *f, idx_error *err)
{
    rows_header h, want;
    struct stat sb;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return idx_fail(err, IDX_EIO, "%s", strerror(errno));
    XXH3_state_t *x = XXH3_createState();
    idx_status st = x == NULL ? idx_fail(err, IDX_ENOMEM, "no memory") : IDX_OK;
    if (st == IDX_OK && fstat(fd, &sb) != 0) st = idx_fail(err, IDX_EIO, "%s", strerror(errno));
    if (st == IDX_OK && sb.st_size < (off_t)sizeof h) st = idx_fail(err, IDX_ENOTFOUND, "it was cut off before it held anything");
    if (st == IDX_OK && !get(fd, &h, sizeof h)) st = idx_fail(err, IDX_ECORRUPT, "it is too short");
    if (st == IDX_OK && (h.storage < IDX_FLOAT32 || h.storage > IDX_INT8 || h.dim != c->row.info.dim))
        st = idx_fail(err, IDX_ECORRUPT, "its header is of something else");
    if (st == IDX_OK) st = idx_segment_new((idx_storage)h.storage, h.dim, number, &f->g, err);
    if (st == IDX_OK) {
        memcpy(f->g->tag, h.tag, sizeof h.tag);
        fill_header(c, f->g, &want);
        if (memcmp(&h, &want, sizeof h) != 0) st = idx_fail(err, IDX_ECORRUPT, "its header is of something else");
        f->g->file_bytes = sizeof h;
        uint64_t most = ((uint64_t)sb.st_size - sizeof h) / (sizeof(int64_t) + f->g->v->stride);
        f->g->v->expected = most < IDX_MAX_ROWS ? (uint32_t)most : IDX_MAX_ROWS;
    }
    idx_error why = {0};
    idx_status block = st;
    while (block == IDX_OK && f->g->file_bytes < (uint64_t)sb.st_size) block = read_block(fd, f->g, &f->images, (uint64_t)sb.st_size - f->g->file_bytes, x, &why);
    if (st == IDX_OK && (block == IDX_ENOMEM || block == IDX_EIO)) st = idx_fail(err, block, "%s", why.text);
    if (st == IDX_OK) f->g->saved = f->g->rows; /* what does not match is cut off when the file is written to again, unless the graph knows of it */
    XXH3_freeState(x);
    close(fd);
    return st;
}

static bool links_sound(const idx_graph *g, uint32_t rows, uint64_t links)
{
    const int32_t *l = g->links + g->offsets[0];
    uint32_t bad = 0;
    for (uint64_t i = 0; i < links; i++) bad |= (uint32_t)(l[i] < -1) | (uint32_t)(l[i] >= (int32_t)rows);
    return bad == 0;
}

static idx_status read_graph(const char *path, idx_segment *g, uint32_t ef_construction, idx_error *err)
{
    graph_header h;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? IDX_OK : idx_fail(err, IDX_EIO, "%s", strerror(errno)); /* rows without a graph are fresh */
    XXH128_canonical_t want, got;
    XXH3_state_t *x = XXH3_createState();
    uint8_t *levels = NULL;
    idx_graph a = {0};
    idx_status st = x == NULL ? idx_fail(err, IDX_ENOMEM, "no memory") : IDX_OK;
    if (st == IDX_OK && !get(fd, &h, sizeof h)) st = idx_fail(err, IDX_ECORRUPT, "it is too short");
    if (st == IDX_OK && (memcmp(h.magic, graph_magic, sizeof h.magic) != 0 || memcmp(h.tag, g->tag, sizeof h.tag) != 0 || h.m < 2 || h.m > 256 || h.rows == 0 ||
                         h.rows > g->rows || h.entry < 0 || h.entry >= (int32_t)h.rows || h.careful > h.rows))
        st = idx_fail(err, IDX_ECORRUPT, "its header is of something else");
    size_t level_bytes = st == IDX_OK ? (h.rows + 7u) / 8 * 8 : 0;
    if (st == IDX_OK && (levels = malloc(level_bytes)) == NULL) st = idx_fail(err, IDX_ENOMEM, "no memory for a graph");
    if (st == IDX_OK && !get(fd, levels, level_bytes)) st = idx_fail(err, IDX_ECORRUPT, "it is too short");
    if (st == IDX_OK) {
        XXH3_128bits_reset(x);
        XXH3_128bits_update(x, &h, sizeof h);
        XXH3_128bits_update(x, levels, level_bytes);
        if (idx_hnsw_restore(h.m, ef_construction, levels, h.rows, idx_segment_graph_capacity(h.rows), &a) != 0)
            st = idx_fail(err, IDX_ECORRUPT, "its levels are damaged: %.100s", idx_faiss_text());
    }
    if (st == IDX_OK && a.offsets[h.rows] - a.offsets[0] != h.links) st = idx_fail(err, IDX_ECORRUPT, "its levels are damaged");
    if (st == IDX_OK && !get(fd, a.links + a.offsets[0], h.links * sizeof *a.links)) st = idx_fail(err, IDX_ECORRUPT, "it is too short");
    char more;
    if (st == IDX_OK) {
        XXH3_128bits_update(x, a.links + a.offsets[0], h.links * sizeof *a.links);
        XXH128_canonicalFromHash(&got, XXH3_128bits_digest(x));
        if (!get(fd, &want, sizeof want) || memcmp(&want, &got, sizeof got) != 0 || read(fd, &more, 1) != 0 || !links_sound(&a, h.rows, h.links) ||
            h.top != a.levels[h.entry] - 1)
            st = idx_fail(err, IDX_ECORRUPT, "its digest does not match");
    }
    if (st == IDX_OK) {
        a.rows = g->v;
        a.m = h.m;
        a.ef_construction = ef_construction;
        *a.entry = h.entry;
        *a.top = h.top;
        st = idx_ann_wrap(&a, h.rows, h.careful, &g->ann, err);
        g->graph_saved = h.rows;
        g->careful_saved = h.careful;
    } else if (a.hnsw != NULL) {
        idx_hnsw_free(a.hnsw);
    }
    XXH3_freeState(x);
    free(levels);
    close(fd);
    return st;
}

/* ---- start --------------------------------------------------------------------------------------------------------------------- */

struct idx_segment_reader {
    const idx_cat *c;
    const char *dir;
    uint32_t ef_construction;
    idx_segment_found *found;
    size_t n;
    pthread_t thread;
    bool running;
};

static int by_number_down(const void *a, const void *b)
{
    uint64_t x = ((const idx_segment_found *)a)->number, y = ((const idx_segment_found *)b)->number;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Newest first: after a crash while a segment took another's place, the newer file has what both have. */
static bool list_files(idx_segment_reader *r)
{
    DIR *d = opendir(r->dir);
    if (d == NULL) return true;
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(d)) != NULL;) {
        int64_t of;
        uint64_t number;
        char kind[8];
        if (!parse_name(e->d_name, &of, &number, kind) || of != r->c->row.id || strcmp(kind, "rows") != 0) continue;
        idx_segment_found *more = realloc(r->found, (r->n + 1) * sizeof *more);
        if ((ok = more != NULL)) {
            r->found = more;
            more[r->n++] = (idx_segment_found){.number = number};
        }
    }
    closedir(d);
    if (r->n > 0) qsort(r->found, r->n, sizeof *r->found, by_number_down);
    return ok;
}

static void read_files(idx_segment_reader *r)
{
    for (size_t i = 0; i < r->n; i++) {
        idx_segment_found *f = &r->found[i];
        char rows[4200], graph[4200];
        const char *bad = rows;
        idx_error why = {0};
        path_of(rows, sizeof rows, r->dir, r->c->row.id, f->number, "rows");
        path_of(graph, sizeof graph, r->dir, r->c->row.id, f->number, "graph");
        idx_status st = read_rows(r->c, rows, f->number, f, &why);
        if (st == IDX_OK) bad = graph, st = read_graph(graph, f->g, r->ef_construction, &why);
        else if (st == IDX_ENOTFOUND && access(graph, F_OK) == 0) st = IDX_ECORRUPT; /* no kill does that: rows are synced before a graph speaks of them */
        if (st == IDX_OK) continue;
        idx_segment_free(f->g);
        f->g = NULL;
        idx_fail(&f->why, st, "%.200s: %.100s", bad, why.text);
    }
}

static void *reader_main(void *arg)
{
    read_files(arg);
    return NULL;
}

idx_segment_reader *idx_segment_reader_start(const idx_cat *c, const char *dir, uint32_t ef_construction)
{
    idx_segment_reader *r = calloc(1, sizeof *r);
    if (r == NULL) return NULL;
    *r = (idx_segment_reader){.c = c, .dir = dir, .ef_construction = ef_construction};
    if (!list_files(r)) {
        idx_segment_reader_free(r);
        return NULL;
    }
    r->running = r->n > 0 && pthread_create(&r->thread, NULL, reader_main, r) == 0;
    if (!r->running) read_files(r);
    return r;
}

idx_segment_found *idx_segment_reader_wait(idx_segment_reader *r, size_t *n)
{
    if (r->running) pthread_join(r->thread, NULL);
    r->running = false;
    *n = r->n;
    return r->found;
}

void idx_segment_reader_free(idx_segment_reader *r)
{
    if (r == NULL) return;
    size_t n;
    idx_segment_found *f = idx_segment_reader_wait(r, &n);
    for (size_t i = 0; i < n; i++) {
        idx_segment_free(f[i].g);
        free(f[i].images);
    }
    free(f);
    free(r);
}
