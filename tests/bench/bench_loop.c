/* bench_loop.c: the path of a query without a server: decode + embed + search in a loop, one loop a thread, nothing
 * between. What an HTTP server could reach at most.
 *   bench_loop DIR|- PHOTO... --threads T --seconds S [--rendition]     DIR "-": no search (the rate of an import)
 * Prints one JSON line. With several photos each thread takes the next one. --rendition: also the kept picture. */
#include "../../server/environment.h"
#include "embed.h"
#include "index.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
    uint8_t *bytes;
    size_t n;
} photo;

static photo *photos;
static size_t n_photos;
static _Atomic size_t next_photo;
static emb_model *model;
static idx *ix;
static bool with_rendition;
static uint64_t end_ns;
static _Atomic uint64_t done;

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "bench_loop: %s: %s\n", what, why);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

static void one(emb_workspace *ws, const photo *p, float *v)
{
    const emb_model_info *info = emb_model_get_info(model);
    emb_image *im = NULL;
    emb_error e = {0};
    if (emb_image_decode(p->bytes, p->n, NULL, info->decode_side, &im, NULL, &e) != EMB_OK ||
        emb_embed(model, ws, emb_image_view(im), NULL, v, &e) != EMB_OK)
        fail("photo", e.text);
    if (with_rendition) {
        uint8_t *jpeg = NULL;
        size_t n = 0;
        if (emb_image_rendition(emb_image_view(im), 320, 80, &jpeg, &n, &e) != EMB_OK) fail("rendition", e.text);
        free(jpeg);
    }
    emb_image_free(im);
    if (ix == NULL) return;
    idx_query q = {.embedding = v, .dim = info->dim, .limit = 10, .min_score = -2.0f};
    idx_result *r = NULL;
    idx_error ie = {0};
    if (idx_search(ix, "default", &q, &r, &ie) != IDX_OK) fail("search", ie.text);
    idx_result_free(r);
}

static void *loop(void *arg)
{
    (void) arg;
    emb_workspace *ws = NULL;
    emb_error e = {0};
    if (emb_workspace_new(model, &ws, &e) != EMB_OK) fail("workspace", e.text);
    float *v = malloc(emb_model_get_info(model)->dim * sizeof *v);
    if (v == NULL) fail("workspace", "no memory");
    while (now_ns() < end_ns) {
        one(ws, &photos[atomic_fetch_add(&next_photo, 1) % n_photos], v);
        atomic_fetch_add(&done, 1);
    }
    free(v);
    emb_workspace_free(ws);
    return NULL;
}

static photo read_photo(const char *path)
{
    photo p = {0};
    FILE *f = fopen(path, "rb");
    if (f == NULL || fseek(f, 0, SEEK_END) != 0) fail(path, "cannot read");
    p.n = (size_t) ftell(f);
    rewind(f);
    p.bytes = malloc(p.n);
    if (p.bytes == NULL || fread(p.bytes, 1, p.n, f) != p.n) fail(path, "cannot read");
    fclose(f);
    return p;
}

int main(int argc, char **argv)
{
    srv_settle_environment(argv);
    unsigned threads = 1;
    double seconds = 5;
    const char *dir = argc > 1 ? argv[1] : "-";
    photos = calloc((size_t) argc, sizeof *photos);
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) threads = (unsigned) atoi(argv[++i]);
        else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) seconds = atof(argv[++i]);
        else if (strcmp(argv[i], "--rendition") == 0) with_rendition = true;
        else photos[n_photos++] = read_photo(argv[i]);
    }
    if (n_photos == 0 || threads == 0 || threads > 256) fail("usage", "bench_loop DIR|- PHOTO... [--threads T] [--seconds S] [--rendition]");
    emb_error ee = {0};
    idx_error ie = {0};
    if (emb_model_open_builtin(&model, &ee) != EMB_OK) fail("model", ee.text);
    if (strcmp(dir, "-") != 0 && idx_open(dir, &(idx_opts){.no_background = true}, &ix, &ie) != IDX_OK) fail("index", ie.text);
    pthread_t t[256];
    uint64_t start = now_ns();
    end_ns = start + (uint64_t) (seconds * 1e9);
    for (unsigned i = 0; i < threads; i++)
        if (pthread_create(&t[i], NULL, loop, NULL) != 0) fail("thread", "cannot start");
    for (unsigned i = 0; i < threads; i++) pthread_join(t[i], NULL);
    double took = (double) (now_ns() - start) / 1e9;
    printf("{\"threads\":%u,\"done\":%llu,\"seconds\":%.3f,\"rate\":%.2f}\n", threads, (unsigned long long) done, took, (double) done / took);
    idx_close(ix);
    emb_model_close(model);
    return 0;
}
