/* bench_pixels.c: decode + preprocess of one picture in a loop, from memory to the tensor of a model.
 *   bench_pixels FILE SIDE FILTER THREADS SECONDS [--at T] [--out RAW]      SIDE x SIDE floats; bilinear, bicubic or lanczos
 * Prints one JSON line: pictures a second of all threads, the median of one, and what of it decoding takes. --at T: begins when
 * CLOCK_MONOTONIC says T seconds. --out: the tensor as bytes of RGB. */
#include "../../embed/preprocess.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 200000 };

static uint8_t *bytes;
static size_t n_bytes;
static emb_preproc pp;
static uint64_t start_ns, end_ns;

typedef struct {
    pthread_t thread;
    uint64_t *took, decode; /* nanoseconds of each picture, and of decoding all */
    size_t n;
    double rate;
    float *out;
} loop;

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "bench_pixels: %s: %s\n", what, why);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

static uint64_t one(emb_scratch *s, float *out)
{
    emb_image *im = NULL;
    emb_error e = {0};
    uint64_t t = now_ns();
    if (emb_image_decode(bytes, n_bytes, NULL, emb_preproc_decode_side(&pp), &im, NULL, &e) != EMB_OK) fail("photo", e.text);
    t = now_ns() - t;
    if (emb_preprocess(emb_image_view(im), NULL, &pp, EMB_NHWC, out, s, &e) != EMB_OK) fail("photo", e.text);
    emb_image_free(im);
    return t;
}

static void *run(void *arg)
{
    loop *l = arg;
    emb_scratch s = {0};
    (void) one(&s, l->out);
    while (now_ns() < start_ns) {}
    uint64_t begin = now_ns();
    for (uint64_t t0 = begin, t1; t0 < end_ns && l->n < MOST; t0 = t1) {
        l->decode += one(&s, l->out);
        t1 = now_ns();
        l->took[l->n++] = t1 - t0;
    }
    l->rate = (double) l->n * 1e9 / (double) (now_ns() - begin);
    emb_scratch_free(&s);
    return NULL;
}

static int by_size(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;
    return (x > y) - (x < y);
}

static void read_picture(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL || fseek(f, 0, SEEK_END) != 0) fail(path, "cannot read");
    long n = ftell(f);
    rewind(f);
    bytes = malloc((size_t) n + 1);
    n_bytes = (size_t) n;
    if (bytes == NULL || fread(bytes, 1, n_bytes, f) != n_bytes) fail(path, "cannot read");
    fclose(f);
}

static void write_tensor(const char *path, const float *x, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (f == NULL) fail(path, "cannot write");
    for (size_t i = 0; i < n; i++) fputc((int) (x[i] * 255 + 0.5f), f);
    if (fclose(f) != 0) fail(path, "cannot write");
}

int main(int argc, char **argv)
{
    if (argc < 6) fail("usage", "bench_pixels FILE SIDE FILTER THREADS SECONDS [--at T] [--out RAW]");
    read_picture(argv[1]);
    uint32_t side = (uint32_t) atoi(argv[2]);
    int threads = atoi(argv[4]);
    emb_error e = {0};
    if (side < 1 || side > 4096 || threads < 1 || threads > 256) fail("usage", "SIDE is 1..4096, THREADS 1..256");
    pp = (emb_preproc){side, side, side, EMB_FIT_SQUASH, {0, 0, 0}, {1, 1, 1}, EMB_BILINEAR};
    if (emb_preproc_filter(&pp, argv[3], "FILTER", &e) != EMB_OK) fail("usage", e.text);
    start_ns = now_ns();
    const char *out = NULL;
    for (int i = 6; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--at") == 0) start_ns = (uint64_t) (atof(argv[i + 1]) * 1e9);
        else if (strcmp(argv[i], "--out") == 0) out = argv[i + 1];
        else fail("usage", "only --at and --out are known");
    }
    end_ns = start_ns + (uint64_t) (atof(argv[5]) * 1e9);
    loop *l = calloc((size_t) threads, sizeof *l);
    if (l == NULL) fail("memory", "none");
    for (int i = 0; i < threads; i++) {
        l[i].took = malloc(MOST * sizeof *l[i].took);
        l[i].out = malloc((size_t) side * side * 3 * sizeof *l[i].out);
        if (l[i].took == NULL || l[i].out == NULL) fail("memory", "none");
        if (pthread_create(&l[i].thread, NULL, run, &l[i]) != 0) fail("thread", "cannot start");
    }
    double rate = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(l[i].thread, NULL);
        rate += l[i].rate;
    }
    qsort(l[0].took, l[0].n, sizeof *l[0].took, by_size);
    printf("{\"threads\":%d,\"rate\":%.3f,\"median_ms\":%.4f,\"decode_ms\":%.4f,\"kernels\":\"%s\"}\n", threads, rate,
           l[0].n > 0 ? (double) l[0].took[l[0].n / 2] / 1e6 : 0, l[0].n > 0 ? (double) l[0].decode / 1e6 / (double) l[0].n : 0,
           emb_pixels_get()->name);
    if (out != NULL) write_tensor(out, l[0].out, (size_t) side * side * 3);
    for (int i = 0; i < threads; i++) {
        free(l[i].took);
        free(l[i].out);
    }
    free(l);
    free(bytes);
    return 0;
}
