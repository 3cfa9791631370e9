/* segment.c: see segment.h.
 *
 * SEGMENT FILE, little endian
 *    0  magic "LKSEG\0\1\0"     8  dim u32       12  0 u32
 *   16  rows u64               24  catalogue i64
 *   32  fingerprint, 64 hex digits
 *   96  rows x int64: image rowids of the store, in row order
 *       the FAISS index (IndexHNSWFlat, inner product)
 *       SHA-256 of all before
 * Valid only if the digest matches and the file ends there. Rowids are never used again, so an old file is never wrong:
 * rows whose image is gone are dead, images that no file holds are read from SQLite. A damaged file is deleted. */
#include "segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <nettle/sha2.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[8] = {'L', 'K', 'S', 'E', 'G', 0, 1, 0};

typedef struct {
    char magic[8];
    uint32_t dim, zero;
    uint64_t rows;
    int64_t catalogue;
    char fingerprint[64];
} header;

static void say(const idx_segment_env *env, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void say(const idx_segment_env *env, int level, const char *fmt, ...)
{
    if (env->log == NULL) return;
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    env->log(env->log_ctx, level, text);
}

/* ---- files ---------------------------------------------------------------------------------------------------- */

static bool digest_file(FILE *f, off_t bytes, uint8_t out[SHA256_DIGEST_SIZE])
{
    struct sha256_ctx h;
    sha256_init(&h);
    void *map = bytes > 0 ? mmap(NULL, (size_t)bytes, PROT_READ, MAP_PRIVATE, fileno(f), 0) : MAP_FAILED;
    if (map == MAP_FAILED) return false;
    sha256_update(&h, (size_t)bytes, map);
    munmap(map, (size_t)bytes);
    sha256_digest(&h, SHA256_DIGEST_SIZE, out);
    return true;
}

static void sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

/* Writes beside, checks, renames. seg->path is the final name. */
static idx_status write_file(const idx_cat *c, const idx_segment *seg, const char *dir, idx_error *err)
{
    char tmp[4200];
    snprintf(tmp, sizeof tmp, "%s.tmp", seg->path);
    FILE *f = fopen(tmp, "w+e");
    if (f == NULL) return idx_fail(err, IDX_EIO, "cannot make %s: %s", tmp, strerror(errno));
    header h = {.dim = c->row.info.dim, .rows = seg->rows, .catalogue = c->row.id};
    memcpy(h.magic, magic, sizeof magic);
    memcpy(h.fingerprint, c->row.info.fingerprint, sizeof h.fingerprint);
    idx_status st = IDX_OK;
    if (fwrite(&h, sizeof h, 1, f) != 1 || fwrite(seg->ids, sizeof *seg->ids, seg->rows, f) != seg->rows)
        st = idx_fail(err, IDX_EIO, "cannot write %s: %s", tmp, strerror(errno));
    if (st == IDX_OK) st = idx_ann_write(seg->ann, f, err);
    uint8_t digest[SHA256_DIGEST_SIZE];
    off_t end = ftello(f);
    if (st == IDX_OK && (fflush(f) != 0 || end < 0 || !digest_file(f, end, digest) || fwrite(digest, sizeof digest, 1, f) != 1 ||
                         fflush(f) != 0 || fsync(fileno(f)) != 0))
        st = idx_fail(err, IDX_EIO, "cannot write %s: %s", tmp, strerror(errno));
    if (fclose(f) != 0 && st == IDX_OK) st = idx_fail(err, IDX_EIO, "cannot close %s: %s", tmp, strerror(errno));
    struct stat sb; /* FAISS reports success for a file that a full disk cut short */
    if (st == IDX_OK && (stat(tmp, &sb) != 0 || sb.st_size != end + (off_t)sizeof digest)) st = idx_fail(err, IDX_EIO, "%s came out too short", tmp);
    if (st == IDX_OK && rename(tmp, seg->path) != 0) st = idx_fail(err, IDX_EIO, "cannot rename %s: %s", tmp, strerror(errno));
    if (st != IDX_OK) unlink(tmp);
    else sync_dir(dir);
    return st;
}

static idx_status read_file(const char *path, const idx_cat *c, idx_segment **out, idx_error *err)
{
    FILE *f = fopen(path, "re");
    if (f == NULL) return idx_fail(err, IDX_EIO, "cannot open %s: %s", path, strerror(errno));
    idx_segment *seg = calloc(1, sizeof *seg);
    header h;
    struct stat sb;
    uint8_t want[SHA256_DIGEST_SIZE], got[SHA256_DIGEST_SIZE];
    idx_status st = seg == NULL ? idx_fail(err, IDX_ENOMEM, "no memory for a segment") : IDX_OK;
    if (st == IDX_OK && (fstat(fileno(f), &sb) != 0 || sb.st_size < (off_t)(sizeof h + sizeof want) || fread(&h, sizeof h, 1, f) != 1))
        st = idx_fail(err, IDX_ECORRUPT, "%s is too short", path);
    if (st == IDX_OK && (memcmp(h.magic, magic, sizeof magic) != 0 || h.dim != c->row.info.dim || h.catalogue != c->row.id ||
                         memcmp(h.fingerprint, c->row.info.fingerprint, sizeof h.fingerprint) != 0 || h.rows == 0 ||
                         h.rows > (uint64_t)sb.st_size / sizeof(int64_t) || h.rows >= IDX_NONE))
        st = idx_fail(err, IDX_ECORRUPT, "the header of %s is of something else", path);
    if (st == IDX_OK && (fseeko(f, sb.st_size - (off_t)sizeof want, SEEK_SET) != 0 || fread(want, sizeof want, 1, f) != 1 ||
                         !digest_file(f, sb.st_size - (off_t)sizeof want, got) || memcmp(want, got, sizeof got) != 0))
        st = idx_fail(err, IDX_ECORRUPT, "the digest of %s does not match", path);
    if (st == IDX_OK) {
        seg->rows = (uint32_t)h.rows;
        seg->ids = malloc(h.rows * sizeof *seg->ids);
        seg->image = malloc(h.rows * sizeof *seg->image);
        seg->path = strdup(path);
        if (seg->ids == NULL || seg->image == NULL || seg->path == NULL) st = idx_fail(err, IDX_ENOMEM, "no memory for a segment");
        else if (fseeko(f, sizeof h, SEEK_SET) != 0 || fread(seg->ids, sizeof *seg->ids, h.rows, f) != h.rows)
            st = idx_fail(err, IDX_ECORRUPT, "cannot read %s", path);
        else st = idx_ann_read(f, h.dim, h.rows, &seg->ann, err);
    }
    fclose(f);
    if (st != IDX_OK) idx_segment_free(seg);
    else *out = seg;
    return st;
}

/* Files are named CATALOGUE-NUMBER.seg. */
static bool parse_name(const char *name, int64_t *catalogue, uint64_t *number)
{
    int end = 0;
    return sscanf(name, "%" SCNd64 "-%" SCNu64 ".seg%n", catalogue, number, &end) == 2 && end > 0 && name[end] == 0;
}

void idx_segments_purge(const char *dir, int64_t catalogue)
{
    DIR *d = opendir(dir);
    if (d == NULL) return;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        int64_t of;
        uint64_t number;
        if (parse_name(e->d_name, &of, &number) && of == catalogue) unlinkat(dirfd(d), e->d_name, 0);
    }
    closedir(d);
}

void idx_segments_clean(const char *dir, const idx_catalogue_row *living, size_t n_living)
{
    DIR *d = opendir(dir);
    if (d == NULL) return;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t n = strlen(e->d_name);
        int64_t of;
        uint64_t number;
        bool stray = n > 4 && strcmp(e->d_name + n - 4, ".tmp") == 0;
        if (parse_name(e->d_name, &of, &number)) {
            stray = true;
            for (size_t i = 0; i < n_living && stray; i++) stray = living[i].id != of;
        }
        if (stray) unlinkat(dirfd(d), e->d_name, 0);
    }
    closedir(d);
}

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

static char *next_path(const idx_cat *c, const char *dir)
{
    uint64_t top = 0, number;
    int64_t of;
    DIR *d = opendir(dir);
    if (d == NULL) return NULL;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (parse_name(e->d_name, &of, &number) && of == c->row.id && number >= top) top = number + 1;
    closedir(d);
    char *path;
    return asprintf(&path, "%s/%" PRId64 "-%" PRIu64 ".seg", dir, c->row.id, top) < 0 ? NULL : path;
}

/* ---- start ------------------------------------------------------------------------------------------------------ */

static int by_number_down(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Newest first: after a crash between rename and unlink the newer file holds all of the older one. */
static size_t list_files(const idx_cat *c, const char *dir, uint64_t **numbers)
{
    size_t n = 0;
    *numbers = NULL;
    DIR *d = opendir(dir);
    if (d == NULL) return 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        int64_t of;
        uint64_t number;
        if (!parse_name(e->d_name, &of, &number) || of != c->row.id) continue;
        uint64_t *more = realloc(*numbers, (n + 1) * sizeof *more);
        if (more == NULL) break;
        *numbers = more;
        more[n++] = number;
    }
    closedir(d);
    if (n > 0) qsort(*numbers, n, sizeof **numbers, by_number_down);
    return n;
}

/* At start image numbers are in rowid order. */
static uint32_t image_by_rowid(const idx_cat *c, int64_t rowid)
{
    uint32_t lo = 0, hi = c->n_images;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (c->images[mid].rowid < rowid) lo = mid + 1;
        else hi = mid;
    }
    return lo < c->n_images && c->images[lo].rowid == rowid ? lo : IDX_NONE;
}

static bool adopt(idx_cat *c, idx_segment *seg)
{
    idx_segment **list = realloc(c->segments, (c->n_segments + 1u) * sizeof(idx_segment *));
    if (list == NULL) return false;
    c->segments = list;
    c->segments[c->n_segments++] = seg;
    return true;
}

typedef struct {
    idx_cat *c;
    const uint32_t *image;
    idx_error *err;
} loader;

static idx_status load_vector(void *ctx, int64_t rowid, const float *vector, uint32_t dim)
{
    loader *l = ctx;
    (void)rowid, (void)dim;
    return idx_cat_fresh_add(l->c, *l->image++, vector, l->err);
}

static idx_status load_rest(idx_cat *c, idx_store *s, idx_error *err)
{
    int64_t *rowids = malloc((c->n_images + 1u) * sizeof *rowids);
    uint32_t *images = malloc((c->n_images + 1u) * sizeof *images);
    size_t n = 0;
    for (uint32_t i = 0; rowids != NULL && images != NULL && i < c->n_images; i++)
        if (c->images[i].segment == NULL) rowids[n] = c->images[i].rowid, images[n++] = i;
    loader l = {c, images, err};
    idx_status st = rowids == NULL || images == NULL ? idx_fail(err, IDX_ENOMEM, "no memory to load images")
                                                     : idx_store_vectors(s, rowids, n, c->row.info.dim, load_vector, &l, err);
    free(rowids);
    free(images);
    return st;
}

struct idx_segment_reader {
    const idx_cat *c;
    const idx_segment_env *env;
    uint64_t *numbers;
    size_t n;
    struct {
        char path[4200];
        idx_segment *seg; /* NULL: why says what is wrong with the file */
        idx_error why;
    } *files;
    pthread_t thread;
    bool threaded;
};

static void *read_files(void *arg)
{
    idx_segment_reader *r = arg;
    for (size_t i = 0; i < r->n; i++) {
        snprintf(r->files[i].path, sizeof r->files[i].path, "%s/%" PRId64 "-%" PRIu64 ".seg", r->env->dir, r->c->row.id, r->numbers[i]);
        if (read_file(r->files[i].path, r->c, &r->files[i].seg, &r->files[i].why) != IDX_OK) r->files[i].seg = NULL;
    }
    return NULL;
}

static idx_segment_reader *reader_new(const idx_cat *c, const idx_segment_env *env)
{
    idx_segment_reader *r = calloc(1, sizeof *r);
    if (r == NULL) return NULL;
    r->c = c;
    r->env = env;
    r->n = list_files(c, env->dir, &r->numbers);
    r->files = calloc(r->n + 1, sizeof *r->files);
    if (r->files != NULL) return r;
    idx_segments_read_free(r);
    return NULL;
}

idx_segment_reader *idx_segments_read_start(const idx_cat *c, const idx_segment_env *env)
{
    idx_segment_reader *r = reader_new(c, env);
    if (r == NULL || (r->threaded = pthread_create(&r->thread, NULL, read_files, r) == 0)) return r;
    idx_segments_read_free(r);
    return NULL;
}

void idx_segments_read_free(idx_segment_reader *r)
{
    if (r == NULL) return;
    if (r->threaded) pthread_join(r->thread, NULL);
    for (size_t i = 0; r->files != NULL && i < r->n; i++) idx_segment_free(r->files[i].seg);
    free(r->files);
    free(r->numbers);
    free(r);
}

/* Gives the rows of a file to the images that have no vector yet; how many it got. */
static uint32_t claim(idx_cat *c, idx_segment *seg)
{
    uint32_t claimed = 0;
    for (uint32_t r = 0; r < seg->rows; r++) {
        uint32_t im = image_by_rowid(c, seg->ids[r]);
        if (im != IDX_NONE && c->images[im].segment != NULL) im = IDX_NONE;
        seg->image[r] = im;
        if (im == IDX_NONE) {
            seg->dead++;
            continue;
        }
        claimed++;
        c->images[im].segment = seg;
        c->images[im].row = r;
    }
    return claimed;
}

idx_status idx_segments_load(idx_cat *c, idx_store *s, const idx_segment_env *env, idx_segment_reader *reader_take, idx_error *err)
{
    idx_segment_reader *reader = reader_take;
    if (reader != NULL) {
        pthread_join(reader->thread, NULL);
        reader->threaded = false;
    } else if ((reader = reader_new(c, env)) == NULL) {
        return idx_fail(err, IDX_ENOMEM, "no memory to read index files");
    } else {
        read_files(reader);
    }
    for (size_t i = 0; i < reader->n; i++) {
        idx_segment *seg = reader->files[i].seg;
        if (seg == NULL) say(env, 1, "index file dropped, its vectors are read from the store: %s", reader->files[i].why.text);
        else if (claim(c, seg) > 0 && adopt(c, seg)) reader->files[i].seg = NULL; // the catalogue's now
        if (seg == NULL || reader->files[i].seg != NULL) unlink(reader->files[i].path);
    }
    idx_segments_read_free(reader);
    idx_status st = load_rest(c, s, err);
    if (st == IDX_OK && c->fresh_rows >= env->segment_images)
        say(env, 0, "catalogue %s: %" PRIu32 " images are in no index file and are read from the store; a graph is made of them", c->row.info.name, c->fresh_rows);
    return st;
}

/* ---- background --------------------------------------------------------------------------------------------------- */

typedef struct { /* rows on their way into a new segment */
    idx_segment *seg;
    uint32_t *from; /* [row]: the row in the old segment, or the fresh row | FRESH */
    uint32_t fresh; /* fresh rows consumed, dead ones too */
    idx_segment *old;
} work;
#define FRESH 0x80000000u

static void work_free(work *w)
{
    idx_segment_free(w->seg);
    free(w->from);
}

/* What to do, decided and copied under the shared lock; false when there is nothing. rows: vectors to add, malloc. */
static bool choose(idx_cat *c, const idx_segment_env *env, work *w, float **rows, uint32_t *n_rows, bool *grow)
{
    idx_segment *old = NULL;
    uint32_t fresh = 0;
    *grow = false;
    for (uint32_t i = 0; i < c->n_segments && old == NULL; i++) {
        idx_segment *g = c->segments[i];
        if (g->dead > g->rows / 5 && g->dead > env->segment_images / 20) old = g;
    }
    if (old == NULL && c->fresh_rows >= env->segment_images) {
        fresh = c->fresh_rows / IDX_BLOCK_ROWS * IDX_BLOCK_ROWS;
        if (fresh == 0) fresh = c->fresh_rows;
        idx_segment *last = c->n_segments > 0 ? c->segments[c->n_segments - 1] : NULL;
        if (last != NULL && last->rows < env->segment_images * 10u) old = last, *grow = true;
    }
    if (old == NULL && fresh == 0) return false;
    uint32_t kept = old != NULL ? old->rows : 0, n = 0;
    size_t dim = c->row.info.dim, most = (size_t)kept + fresh + 1;
    w->seg = calloc(1, sizeof *w->seg);
    w->from = malloc(most * sizeof *w->from);
    *rows = malloc((*grow ? fresh + 1u : most) * dim * sizeof **rows);
    if (w->seg == NULL || w->from == NULL || *rows == NULL) return true; /* the caller sees what is missing */
    w->seg->ids = malloc(most * sizeof *w->seg->ids);
    w->seg->image = malloc(most * sizeof *w->seg->image);
    if (w->seg->ids == NULL || w->seg->image == NULL) return true;
    *n_rows = 0;
    for (uint32_t r = 0; r < kept; r++) {
        if (!*grow) { /* compaction keeps the living and builds anew */
            if (old->image[r] == IDX_NONE || idx_ann_row(old->ann, r, *rows + (size_t)*n_rows * dim, NULL) != IDX_OK) continue;
            ++*n_rows;
        }
        w->from[n] = r;
        w->seg->ids[n++] = old->ids[r];
    }
    for (uint32_t r = 0; r < fresh; r++) {
        if (c->fresh_image[r] == IDX_NONE) continue;
        memcpy(*rows + (size_t)*n_rows * dim, idx_cat_fresh(c, r), dim * sizeof **rows);
        ++*n_rows;
        w->from[n] = r | FRESH;
        w->seg->ids[n++] = c->images[c->fresh_image[r]].rowid;
    }
    w->seg->rows = n;
    w->fresh = fresh;
    w->old = old;
    return true;
}

static idx_status build(const idx_cat *c, const idx_segment_env *env, work *w, const float *rows, uint32_t n_rows, bool grow, idx_error *err)
{
    idx_status st;
    if (grow) { /* a second copy of the old index, from its file: searches go on in the first */
        idx_segment *copy = NULL;
        st = read_file(w->old->path, c, &copy, err);
        if (st == IDX_OK) {
            w->seg->ann = copy->ann;
            copy->ann = NULL;
        }
        idx_segment_free(copy);
    } else {
        st = idx_ann_new(c->row.info.dim, env->hnsw_m, env->ef_construction, &w->seg->ann, err);
    }
    for (uint32_t i = 0; st == IDX_OK && i < n_rows; i += 256) {
        if (*env->stop) return idx_fail(err, IDX_EBUSY, "stopping");
        st = idx_ann_add(w->seg->ann, n_rows - i < 256 ? n_rows - i : 256, rows + (size_t)i * c->row.info.dim, err);
    }
    if (st == IDX_OK && (w->seg->path = next_path(c, env->dir)) == NULL) st = idx_fail(err, IDX_EIO, "cannot read %s", env->dir);
    return st == IDX_OK ? write_file(c, w->seg, env->dir, err) : st;
}

/* Under the exclusive lock: microseconds a thousand rows. What died while the segment was built is dead in it. */
static void swap(idx_cat *c, work *w)
{
    idx_segment *seg = w->seg;
    for (uint32_t r = 0; r < seg->rows; r++) {
        uint32_t im = w->from[r] & FRESH ? c->fresh_image[w->from[r] & ~FRESH] : w->old->image[w->from[r]];
        seg->image[r] = im;
        if (im == IDX_NONE) {
            seg->dead++;
            continue;
        }
        c->images[im].segment = seg;
        c->images[im].row = r;
    }
    if (w->fresh > 0) idx_cat_fresh_drop(c, w->fresh);
    for (uint32_t i = 0; i < c->n_segments; i++)
        if (c->segments[i] == w->old) c->segments[i] = seg;
    w->seg = NULL;
}

/* Fresh rows that are mostly dead (an item replaced again and again) are closed up instead of sealed. */
static bool close_up(idx_cat *c, const idx_segment_env *env)
{
    if (c->fresh_rows < env->segment_images || c->fresh_dead * 2 < c->fresh_rows) return false;
    size_t dim = c->row.info.dim;
    uint32_t n = 0;
    for (uint32_t r = 0; r < c->fresh_rows; r++) {
        uint32_t im = c->fresh_image[r];
        if (im == IDX_NONE) continue;
        if (n != r) memcpy(c->blocks[n / IDX_BLOCK_ROWS] + (n % IDX_BLOCK_ROWS) * dim, idx_cat_fresh(c, r), dim * sizeof(float));
        c->fresh_image[n] = im;
        c->images[im].row = n++;
    }
    c->fresh_rows = n;
    c->fresh_dead = 0;
    while (c->n_blocks > (n + IDX_BLOCK_ROWS - 1) / IDX_BLOCK_ROWS) free(c->blocks[--c->n_blocks]);
    return true;
}

idx_status idx_segments_maintain(idx_cat *c, const idx_segment_env *env, bool *worked, idx_error *err)
{
    work w = {0};
    float *rows = NULL;
    uint32_t n_rows = 0;
    bool grow = false;
    pthread_rwlock_wrlock(&c->lock);
    *worked = !c->removed && close_up(c, env);
    pthread_rwlock_unlock(&c->lock);
    if (*worked) return IDX_OK;
    pthread_rwlock_rdlock(&c->lock);
    *worked = !c->removed && choose(c, env, &w, &rows, &n_rows, &grow);
    pthread_rwlock_unlock(&c->lock);
    if (!*worked) return IDX_OK;
    idx_status st = w.seg == NULL || w.from == NULL || rows == NULL || w.seg->ids == NULL || w.seg->image == NULL
                        ? idx_fail(err, IDX_ENOMEM, "no memory to build a segment")
                        : IDX_OK;
    bool empty = st == IDX_OK && w.seg->rows == 0;
    if (st == IDX_OK && !empty) st = build(c, env, &w, rows, n_rows, grow, err);
    free(rows);
    idx_segment *old = w.old;
    if (st == IDX_OK) {
        uint32_t made = w.seg->rows;
        pthread_rwlock_wrlock(&c->lock);
        bool ok = true;
        if (c->removed) ok = false;
        else if (empty) {
            if (w.fresh > 0) idx_cat_fresh_drop(c, w.fresh);
            for (uint32_t i = 0; old != NULL && i < c->n_segments; i++)
                if (c->segments[i] == old) c->segments[i--] = c->segments[--c->n_segments];
        } else {
            if (old == NULL) ok = adopt(c, w.seg);
            if (ok) swap(c, &w);
        }
        pthread_rwlock_unlock(&c->lock);
        if (!ok && w.seg != NULL && w.seg->path != NULL) unlink(w.seg->path);
        if (ok) say(env, 0, "catalogue %s: segment of %" PRIu32 " images %s", c->row.info.name, made, old == NULL ? "sealed" : grow ? "grown" : "compacted");
        if (ok && old != NULL) {
            unlink(old->path);
            idx_segment_free(old);
        }
    }
    work_free(&w);
    return st;
}
