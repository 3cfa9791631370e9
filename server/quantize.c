/* quantize.c: reads photos, quantises, then embeds photos with both models and prints how far they are apart. */
#include "quantize.h"
#include "embed.h"
#include "files.h"
#include "import_source.h"
#include "progress.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PHOTO = 256 << 20, MAX_THREADS = 256 };

typedef struct { /* one photo of the source */
    const char *path, *label;
} photo;

typedef struct {
    const srv_quantize_opts *o;
    photo *photos;
    size_t n;
    emb_model *models[2]; /* float and 8 bits */
    float *rows[2];
    uint32_t dim, decode_side;
    bool *good; /* of the photos that are compared */
    _Atomic size_t next, done;
    srv_progress progress;
} job;

/* ---- photos ---------------------------------------------------------------------------------------- */

static const char *label_of(const srv_record *r, const char *name)
{
    const char *const names[] = {name != NULL ? name : "class", name != NULL ? name : "folder"};
    for (int i = 0; i < 2; i++) {
        const json_t *v = json_object_get(r->attributes, names[i]);
        if (json_is_string(v)) return json_string_value(v);
    }
    return NULL;
}

static bool list_photos(job *j, const srv_source *s, char err[400])
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) n += s->records[i].bad == NULL ? s->records[i].n_images : 0;
    j->photos = calloc(n + 1, sizeof *j->photos);
    if (j->photos == NULL) return snprintf(err, 400, "no memory"), false;
    for (size_t i = 0; i < s->n; i++)
        for (size_t k = 0; s->records[i].bad == NULL && k < s->records[i].n_images; k++)
            j->photos[j->n++] = (photo){s->records[i].images[k], label_of(&s->records[i], j->o->label)};
    if (j->n > 0) return true;
    snprintf(err, 400, "%.200s names no photos", j->o->calibrate);
    return false;
}

static emb_image *read_photo(const char *path, uint32_t side)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    char why[320];
    emb_error e = {0};
    emb_image *im = NULL;
    if (!srv_file_read(path, MAX_PHOTO, &bytes, &n, why)) {
        fprintf(stderr, "likeness: model: left out: %s\n", why);
        return NULL;
    }
    if (emb_image_decode(bytes, n, NULL, side, &im, NULL, &e) != EMB_OK) fprintf(stderr, "likeness: model: left out: %.200s: %s\n", path, e.text);
    free(bytes);
    return im;
}

/* Photo i of `want` that are spread over all of them. */
static size_t spread(const job *j, size_t i, size_t want) { return want >= j->n ? i : i * j->n / want; }

/* ---- quantise ---------------------------------------------------------------------------------------- */

static void show(void *ctx, const char *what, size_t done, size_t of)
{
    job *j = ctx;
    (void) what;
    if (done <= 1) srv_progress_start(&j->progress, of, j->o->quiet);
    srv_progress_show(&j->progress, done, 0, done == of);
}

static bool make(job *j, const void *bytes, size_t n, const char *name, void **onnx, size_t *n_onnx, char err[400])
{
    size_t want = j->o->photos < j->n ? j->o->photos : j->n, have = 0;
    emb_image **images = calloc(want + 1, sizeof(emb_image *));
    emb_view *views = calloc(want + 1, sizeof *views);
    emb_error e = {0};
    for (size_t i = 0; images != NULL && views != NULL && i < want; i++) {
        if ((images[have] = read_photo(j->photos[spread(j, i, want)].path, j->decode_side)) == NULL) continue;
        views[have] = emb_image_view(images[have]);
        have++;
    }
    emb_quantize_opts opts = {.percentile = j->o->percentile, .keep = j->o->keep.items, .n_keep = j->o->keep.n, .progress = show, .progress_ctx = j};
    emb_status st = EMB_ENOMEM;
    snprintf(err, 400, "%s", images == NULL || views == NULL ? "no memory" : "no photo could be read");
    if (have > 0) st = emb_model_quantize(bytes, n, name, views, have, &opts, onnx, n_onnx, &e);
    if (st != EMB_OK && e.text[0] != '\0') snprintf(err, 400, "%s", e.text);
    for (size_t i = 0; i < have; i++) emb_image_free(images[i]);
    free(images);
    free(views);
    return st == EMB_OK;
}

static bool write_file(const char *path, const void *bytes, size_t n, char err[400])
{
    FILE *f = fopen(path, "wbe");
    bool ok = f != NULL && fwrite(bytes, 1, n, f) == n;
    if (f != NULL && fclose(f) != 0) ok = false;
    if (!ok) snprintf(err, 400, "cannot write %.200s: %s", path, strerror(errno));
    return ok;
}

/* ---- compare ------------------------------------------------------------------------------------------ */

static void *embed_loop(void *arg)
{
    job *j = arg;
    emb_workspace *ws[2] = {NULL, NULL};
    size_t want = j->o->evaluate < j->n ? j->o->evaluate : j->n;
    bool ok = emb_workspace_new(j->models[0], &ws[0], NULL) == EMB_OK && emb_workspace_new(j->models[1], &ws[1], NULL) == EMB_OK;
    for (size_t i; ok && (i = j->next++) < want; j->done++) {
        emb_image *im = read_photo(j->photos[spread(j, i, want)].path, j->decode_side);
        bool good = im != NULL;
        for (int m = 0; good && m < 2; m++)
            good = emb_embed(j->models[m], ws[m], emb_image_view(im), NULL, j->rows[m] + i * j->dim, NULL) == EMB_OK;
        j->good[i] = good;
        emb_image_free(im);
    }
    emb_workspace_free(ws[0]);
    emb_workspace_free(ws[1]);
    return NULL;
}

static double dot(const float *a, const float *b, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (double) a[i] * (double) b[i];
    return sum;
}

/* Of the photos whose class has another one: the share whose nearest other photo is of their class. */
static double recall(const job *j, const float *rows, size_t want, size_t *queries)
{
    size_t hits = 0;
    *queries = 0;
    for (size_t i = 0; i < want; i++) {
        const char *mine = j->photos[spread(j, i, want)].label, *nearest = NULL;
        bool mates = false;
        float best = -2;
        for (size_t k = 0; j->good[i] && mine != NULL && k < want; k++) {
            const char *label = j->photos[spread(j, k, want)].label;
            if (k == i || !j->good[k] || label == NULL) continue;
            mates = mates || strcmp(label, mine) == 0;
            float s = 0;
            for (uint32_t d = 0; d < j->dim; d++) s += rows[i * j->dim + d] * rows[k * j->dim + d];
            if (s > best) best = s, nearest = label;
        }
        if (!mates) continue;
        (*queries)++;
        hits += strcmp(nearest, mine) == 0;
    }
    return *queries > 0 ? (double) hits / (double) *queries : 0;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

static void report(const job *j, size_t want)
{
    double *cosine = malloc((want + 1) * sizeof *cosine), sum = 0;
    size_t n = 0, queries = 0;
    if (cosine == NULL) return;
    for (size_t i = 0; i < want; i++)
        if (j->good[i]) sum += cosine[n++] = dot(j->rows[0] + i * j->dim, j->rows[1] + i * j->dim, j->dim);
    qsort(cosine, n, sizeof *cosine, ascending);
    if (n > 0)
        printf("cosine       to float32 over %zu photos: mean %.5f, median %.5f, 1st percentile %.5f, least %.5f\n", n, sum / (double) n, cosine[n / 2],
               cosine[n / 100], cosine[0]);
    double a = recall(j, j->rows[0], want, &queries), b = recall(j, j->rows[1], want, &queries);
    if (queries > 0)
        printf("recall@1     float32 %.2f %%, int8 %.2f %%: %+.2f points (%zu photos of classes with several)\n", a * 100, b * 100, (b - a) * 100, queries);
    else puts("recall@1     not measured: no two photos share a class (a folder, or the attribute that --label names)");
    free(cosine);
}

static bool compare(job *j, char err[400])
{
    size_t want = j->o->evaluate < j->n ? j->o->evaluate : j->n;
    pthread_t threads[MAX_THREADS];
    uint64_t started = 0;
    if (want == 0) return true;
    j->dim = emb_model_get_info(j->models[0])->dim;
    j->good = calloc(want, sizeof *j->good);
    for (int m = 0; m < 2; m++) j->rows[m] = calloc(want * j->dim, sizeof(float));
    if (j->good == NULL || j->rows[0] == NULL || j->rows[1] == NULL) return snprintf(err, 400, "no memory for %zu embeddings", want), false;
    srv_progress_start(&j->progress, want, j->o->quiet);
    while (started < j->o->threads && pthread_create(&threads[started], NULL, embed_loop, j) == 0) started++;
    for (uint64_t i = 0; i < started; i++) pthread_join(threads[i], NULL);
    srv_progress_show(&j->progress, j->done, 0, true);
    report(j, want);
    return true;
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

static const emb_model_options exact = {.precision = EMB_PRECISION_F32};

static bool go(job *j, const char *in, const char *out, char err[400])
{
    emb_error e = {0};
    uint8_t *bytes = NULL;
    void *onnx = NULL;
    size_t n = 0, n_onnx = 0;
    bool builtin = strcmp(in, "-") == 0;
    if (!builtin && !srv_file_read(in, EMB_MAX_MODEL_BYTES, &bytes, &n, err)) return false;
    emb_status st = builtin ? emb_model_open_with(NULL, &exact, &j->models[0], &e) : emb_model_open_memory(bytes, n, in, &exact, &j->models[0], &e);
    bool ok = st == EMB_OK;
    if (ok) j->decode_side = emb_model_get_info(j->models[0])->decode_side;
    if (ok) ok = make(j, bytes, n, in, &onnx, &n_onnx, err) && write_file(out, onnx, n_onnx, err);
    if (ok) ok = (st = emb_model_open_memory(onnx, n_onnx, out, NULL, &j->models[1], &e)) == EMB_OK;
    if (st != EMB_OK) snprintf(err, 400, "%s", e.text);
    if (ok) printf("written      %s, %.2f MB\n", out, (double) n_onnx / 1e6);
    free(bytes);
    free(onnx);
    return ok && compare(j, err);
}

bool srv_quantize(const char *in, const char *out, const srv_quantize_opts *o, char err[400])
{
    srv_source s = {0};
    job j = {.o = o};
    if (!srv_source_read(o->calibrate, true, &s, err)) return false;
    bool ok = list_photos(&j, &s, err) && go(&j, in, out, err);
    for (int m = 0; m < 2; m++) {
        emb_model_close(j.models[m]);
        free(j.rows[m]);
    }
    free(j.good);
    free(j.photos);
    srv_source_fini(&s);
    return ok;
}
