/* bench_fill.c: a data folder with N items for benchmarks: embeddings in clusters, as those of real catalogues are, and a
 * small rendition each. Written through the index's own write path.
 *   bench_fill DIR N [CLUSTERS] */
#include "../../server/environment.h"
#include "embed.h"
#include "index.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t rng = 88172645463325252u;

static float uniform(void) /* -1..1, xorshift64* */
{
    rng ^= rng >> 12;
    rng ^= rng << 25;
    rng ^= rng >> 27;
    return (float) (int32_t) ((rng * 2685821657736338717u) >> 32) / 2147483648.0f;
}

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "bench_fill: %s: %s\n", what, why);
    exit(1);
}

static void fill_embedding(float *v, const float *centre, uint32_t dim)
{
    double norm = 0;
    for (uint32_t i = 0; i < dim; i++) {
        v[i] = centre[i] + 0.7f * uniform();
        norm += (double) v[i] * v[i];
    }
    for (uint32_t i = 0; i < dim; i++) v[i] = (float) (v[i] / sqrt(norm));
}

static idx_op *make_op(uint64_t n, const float *centre, const emb_model_info *info)
{
    static const char *const colours[] = {"red", "blue", "green", "black", "white", "yellow", "brown", "grey"};
    char id[32], attributes[160];
    snprintf(id, sizeof id, "item-%08llu", (unsigned long long) n);
    snprintf(attributes, sizeof attributes, "{\"title\":\"Item %llu\",\"colour\":\"%s\",\"price\":%.2f,\"new\":%s}", (unsigned long long) n,
             colours[n % 8], (double) (n % 10000) / 50.0, n % 3 == 0 ? "true" : "false");
    idx_op *op = idx_op_new(IDX_PUT, "default", id);
    if (op == NULL || (op->attributes = strdup(attributes)) == NULL || (op->images = calloc(1, sizeof *op->images)) == NULL)
        fail("item", "no memory");
    op->n_images = 1;
    op->dim = info->dim;
    memcpy(op->fingerprint, info->fingerprint, sizeof op->fingerprint);
    idx_image *im = op->images;
    im->embedding = malloc(info->dim * sizeof(float));
    im->rendition_bytes = 2048; /* bytes that only renditions would read */
    im->rendition = calloc(1, im->rendition_bytes);
    if (im->embedding == NULL || im->rendition == NULL) fail("image", "no memory");
    im->width = 640;
    im->height = 480;
    memcpy(im->sha256, &n, sizeof n);
    fill_embedding(im->embedding, centre, info->dim);
    return op;
}

int main(int argc, char **argv)
{
    srv_settle_environment(argv);
    if (argc < 3) fail("usage", "bench_fill DIR N [CLUSTERS]");
    uint64_t n = strtoull(argv[2], NULL, 10), clusters = argc > 3 ? strtoull(argv[3], NULL, 10) : 1000;
    emb_error ee = {0};
    idx_error ie = {0};
    emb_model *m = NULL;
    idx *ix = NULL;
    if (emb_model_open_builtin(&m, &ee) != EMB_OK) fail("model", ee.text);
    const emb_model_info *info = emb_model_get_info(m);
    if (idx_open(argv[1], &(idx_opts){0}, &ix, &ie) != IDX_OK) fail("index", ie.text);
    bool created;
    if (idx_catalogue_put(ix, "default", info->name, info->fingerprint, info->dim, &created, &ie) != IDX_OK) fail("catalogue", ie.text);
    float *centres = malloc(clusters * info->dim * sizeof *centres);
    if (centres == NULL) fail("clusters", "no memory");
    for (uint64_t i = 0; i < clusters * info->dim; i++) centres[i] = uniform();
    for (uint64_t i = 0; i < n; i++) {
        idx_status st;
        while ((st = idx_submit_take(ix, make_op(i, centres + (i % clusters) * info->dim, info), &ie)) == IDX_EBUSY) usleep(20000);
        if (st != IDX_OK) fail("write", ie.text);
    }
    if (idx_maintain(ix, &ie) != IDX_OK) fail("maintain", ie.text);
    idx_close(ix);
    if (idx_open(argv[1], &(idx_opts){0}, &ix, &ie) != IDX_OK) fail("index", ie.text);
    if (idx_maintain(ix, &ie) != IDX_OK) fail("maintain", ie.text);
    idx_catalogue c;
    if (idx_catalogue_get(ix, "default", &c, &ie) != IDX_OK || c.items != n) fail("count", "items are missing");
    printf("{\"items\":%llu,\"fresh\":%llu,\"sealed\":%llu,\"segments\":%u}\n", (unsigned long long) c.items,
           (unsigned long long) c.fresh_images, (unsigned long long) c.sealed_images, c.segments);
    idx_close(ix);
    emb_model_close(m);
    free(centres);
    return 0;
}
