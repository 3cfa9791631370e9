/* Every kind of picture against Pillow's reading of it, the resize against Pillow's, hostile files against the clock. */
#include "embed.h"
#include "../../embed/resample.h"
#include "test.h"

#include <dirent.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static uint8_t *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) return NULL;
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    uint8_t *b = malloc(*n + 1);
    REQUIRE(b != NULL && fread(b, 1, *n, f) == *n);
    fclose(f);
    return b;
}

static uint8_t *read_data(const char *name, size_t *n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
    uint8_t *b = read_file(path, n);
    if (b == NULL) TEST_FAIL("cannot read %s", path);
    REQUIRE(b != NULL);
    return b;
}

static double mean_difference(const uint8_t *a, const uint8_t *b, size_t n, int *worst)
{
    double sum = 0;
    *worst = 0;
    for (size_t i = 0; i < n; i++) {
        int d = abs(a[i] - b[i]);
        sum += d;
        if (d > *worst) *worst = d;
    }
    return sum / (double)n;
}

static double rms_difference(const uint8_t *a, const uint8_t *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sqrt(sum / (double)n);
}

static void one_fixture(const char *name)
{
    char file[300];
    size_t n, m;
    snprintf(file, sizeof file, "images/%s", name);
    uint8_t *bytes = read_data(file, &n);
    snprintf(file, sizeof file, "images/%s.rgb", name);
    uint8_t *want = read_data(file, &m);
    uint32_t w, h;
    memcpy(&w, want, 4);
    memcpy(&h, want + 4, 4);
    emb_image *im = NULL;
    emb_image_info info;
    emb_error err = {0};
    emb_status st = emb_image_decode(bytes, n, NULL, 0, &im, &info, &err);
    if (st != EMB_OK) TEST_FAIL("%s: %s", name, err.text);
    REQUIRE(st == EMB_OK);
    emb_view v = emb_image_view(im);
    CHECK_INT(v.width, w);
    CHECK_INT(v.height, h);
    CHECK_INT(info.width, w);
    CHECK_INT(info.height, h);
    int worst;
    double mean = mean_difference(v.px, want + 8, (size_t)w * h * 3, &worst);
    char path[600];
    snprintf(path, sizeof path, "%s/images/%s.truth", TEST_DATA, name);
    uint8_t *truth = read_file(path, &m);
    test_checks++;
    if (truth != NULL) { /* decoders make pixels out of fewer chroma samples in their own ways: be as near as Pillow is */
        double pillow = rms_difference(want + 8, truth + 8, (size_t)w * h * 3), ours = rms_difference(v.px, truth + 8, (size_t)w * h * 3);
        if (ours > 1.05 * pillow + 0.1) TEST_FAIL("%s: %.3f from the picture that was encoded, Pillow's is %.3f", name, ours, pillow);
    } else { /* lossy files: rounding of colours, and WebP's chroma; lossless ones: of alpha only */
        bool lossy = strstr(name, ".jpg") != NULL || strcmp(name, "lossy.webp") == 0;
        if (mean > (lossy ? 1.5 : 0.51) || worst > (lossy ? 60 : 2)) TEST_FAIL("%s: mean %.3f, worst %d", name, mean, worst);
    }
    free(truth);
    emb_image_free(im);

    /* Every truncation is an error or the whole picture, and never a crash. */
    for (size_t cut = 0; cut < n; cut += n > 2000 ? 7 : 1) {
        uint8_t *part = malloc(cut + 1); /* an exact block, so that a sanitizer sees an overrun */
        REQUIRE(part != NULL);
        memcpy(part, bytes, cut);
        emb_error e = {0};
        emb_image *x = NULL;
        if (emb_image_decode(part, cut, NULL, 16, &x, NULL, &e) != EMB_OK) CHECK(e.text[0] != 0);
        emb_image_free(x);
        free(part);
    }
    free(bytes);
    free(want);
}

static void test_fixtures(void)
{
    char path[512];
    snprintf(path, sizeof path, "%s/images", TEST_DATA);
    DIR *d = opendir(path);
    REQUIRE(d != NULL);
    int seen = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.' && strstr(e->d_name, ".rgb") == NULL && strstr(e->d_name, ".truth") == NULL)
            one_fixture(e->d_name), seen++;
    closedir(d);
    CHECK(seen >= 30);
}

/* w x h pixels with some detail. Caller frees. */
static uint8_t *picture(uint32_t w, uint32_t h)
{
    uint8_t *px = malloc((size_t)w * h * 3);
    REQUIRE(px != NULL);
    for (uint32_t y = 0; y < h; y++)
        for (uint32_t x = 0; x < w; x++)
            for (uint32_t c = 0; c < 3; c++)
                px[((size_t)y * w + x) * 3 + c] = (uint8_t)(128 + 60 * sin(x * 0.09 + c) + 60 * cos(y * 0.07 - c));
    return px;
}

static void test_scaled(void)
{
    static const struct {
        uint32_t w, h, min_side, want_w, want_h;
    } cases[] = {
        {700, 500, 100, 350, 250}, /* a half: the long side stays >= 320 */
        {700, 500, 251, 700, 500}, /* the short one stays >= 251 */
        {701, 501, 100, 351, 251}, {700, 500, 0, 700, 500}, {300, 200, 1, 300, 200}, {2561, 9, 1, 321, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t w = cases[i].w, h = cases[i].h;
        uint8_t *px = picture(w, h), *jpeg;
        size_t n;
        emb_view v = {.px = px, .width = w, .height = h, .stride_bytes = (size_t)w * 3};
        REQUIRE(emb_image_rendition(v, 4000, 90, &jpeg, &n, NULL) == EMB_OK);
        emb_image *im;
        emb_image_info info;
        REQUIRE(emb_image_decode(jpeg, n, NULL, cases[i].min_side, &im, &info, NULL) == EMB_OK);
        v = emb_image_view(im);
        CHECK_INT(v.width, cases[i].want_w);
        CHECK_INT(v.height, cases[i].want_h);
        CHECK_INT(info.width, w);
        CHECK_INT(info.height, h);
        if (v.width < w) { /* the part is the exact one */
            CHECK_NEAR(v.part.x1 / v.part.y1, (double)w / h, 1e-4 * w / h);
            CHECK(v.part.x0 == 0 && v.part.x1 > (float)v.width - 1 && v.part.x1 <= (float)v.width);
        }
        emb_image_free(im);
        free(jpeg);
        free(px);
    }
}

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void test_hostile(void)
{
    static const struct {
        const char *name;
        emb_status st;
        const char *says;
        unsigned max_ms;
    } cases[] = {
        {"huge_sof.jpg", EMB_ELIMIT, "60000", 50},     {"huge_ihdr.png", EMB_ELIMIT, "60000", 50},
        {"huge_canvas.webp", EMB_ELIMIT, "16000", 50}, {"many_scans.jpg", EMB_ELIMIT, "50", 400},
        {"truncated.jpg", EMB_EFORMAT, "ends", 50},    {"truncated.png", EMB_EFORMAT, "", 50},
        {"truncated.webp", EMB_EFORMAT, "", 50},       {"text.bin", EMB_EUNSUPPORTED, "not a JPEG", 50},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char file[300];
        size_t n;
        snprintf(file, sizeof file, "hostile/%s", cases[i].name);
        uint8_t *b = read_data(file, &n);
        emb_error err = {0};
        emb_image *im = NULL;
        uint64_t t = now_us();
        emb_status st = emb_image_decode(b, n, NULL, 0, &im, NULL, &err);
        t = now_us() - t;
        if (st != cases[i].st || strstr(err.text, cases[i].says) == NULL)
            TEST_FAIL("%s: status %d, \"%s\"", cases[i].name, (int)st, err.text);
        test_checks++;
        CHECK(t < (uint64_t)cases[i].max_ms * 1000u * 10u); /* ten times the goal: a busy machine is no failure */
        emb_image_free(im);
        free(b);
    }
    /* The profile bomb is ignored as an unusable profile, or refused; either way quickly and within the limit. */
    size_t n;
    uint8_t *b = read_data("hostile/icc_bomb.png", &n);
    emb_image *im = NULL;
    if (emb_image_decode(b, n, NULL, 0, &im, NULL, NULL) == EMB_OK) CHECK_INT(emb_image_view(im).width, 60);
    emb_image_free(im);
    free(b);
    emb_error err = {0};
    CHECK_INT(emb_image_decode((const uint8_t *)"", 0, NULL, 0, &im, NULL, &err), EMB_EUNSUPPORTED);
}

static void test_limits(void)
{
    size_t n;
    uint8_t *b = read_data("images/baseline.jpg", &n);
    emb_image_info info;
    emb_error err = {0};
    CHECK_INT(emb_image_probe(b, n, &(emb_limits){.max_pixels = 60 * 44}, &info, &err), EMB_OK);
    CHECK_INT(emb_image_probe(b, n, &(emb_limits){.max_pixels = 60 * 44 - 1}, &info, &err), EMB_ELIMIT);
    CHECK_CONTAINS(err.text, "2639");
    emb_image *im;
    CHECK_INT(emb_image_decode(b, n, &(emb_limits){.deadline_ns = 1}, 0, &im, NULL, NULL), EMB_EDEADLINE);
    free(b);
}

/* Seeded damage: whatever the bytes, an answer and no crash. */
static void test_mutations(void)
{
    static const char *const names[] = {"images/progressive.jpg", "images/cmyk.jpg", "images/adam7_alpha.png",
                                        "images/palette_keyed.png", "images/animated.webp", "images/icc.jpg"};
    uint64_t seed = 20;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        size_t n;
        uint8_t *b = read_data(names[k], &n), *copy = malloc(n);
        REQUIRE(copy != NULL);
        for (int round = 0; round < 250; round++) {
            memcpy(copy, b, n);
            for (uint64_t flips = 1 + test_rand(&seed) % 6; flips > 0; flips--)
                copy[test_rand(&seed) % n] = (uint8_t)test_rand(&seed);
            emb_image *im = NULL;
            emb_error err = {0};
            emb_limits l = {.max_pixels = 1000000};
            if (emb_image_decode(copy, n, &l, 0, &im, NULL, &err) != EMB_OK) CHECK(err.text[0] != 0);
            emb_image_free(im);
        }
        free(b);
        free(copy);
    }
}

static void keep_row(void *ctx, uint32_t y, const uint8_t *rgb)
{
    const emb_view *v = ctx;
    memcpy((uint8_t *)(uintptr_t)v->px + v->stride_bytes * y, rgb, v->stride_bytes);
}

/* One size with one filter beside Pillow's; with memory that has seen other sizes, and once more with this one's windows in it. */
static void one_resize(emb_scratch *s, emb_view src, emb_filter filter, const char *name, const emb_crop *crop, uint32_t w, uint32_t h)
{
    char file[100];
    size_t n;
    double box[4];
    snprintf(file, sizeof file, "resize/%s%" PRIu32 "x%" PRIu32 ".rgb", name, w, h);
    uint8_t *want = read_data(file, &n), *got = malloc(n), *again = malloc(n);
    REQUIRE(got != NULL && again != NULL && n == (size_t)w * h * 3);
    emb_view to = {.px = got, .width = w, .height = h, .stride_bytes = (size_t)w * 3};
    REQUIRE(emb_crop_box(src, crop, box, NULL) == EMB_OK);
    REQUIRE(emb_resample(src, box, w, h, filter, s, keep_row, &to, NULL) == EMB_OK);
    to.px = again;
    REQUIRE(emb_resample(src, box, w, h, filter, s, keep_row, &to, NULL) == EMB_OK);
    CHECK(memcmp(got, again, n) == 0);
    int worst;
    double mean = mean_difference(got, want, n, &worst);
    test_checks++;
    /* Where a filter overshoots and a pass clips, it shows that Pillow's horizontal pass is the first. */
    if (mean > 0.6 || worst > (filter == EMB_BILINEAR ? 2 : 20)) TEST_FAIL("%s: mean %.3f, worst %d", file, mean, worst);
    free(got);
    free(again);
    free(want);
}

static void test_resize(void)
{
    static const uint32_t sizes[][2] = {{97, 71}, {48, 35}, {13, 9}, {128, 128}, {200, 20}, {31, 50}, {1, 1}, {97, 9}};
    size_t n;
    uint8_t *b = read_data("resize/source.png", &n);
    emb_image *src, *im;
    REQUIRE(emb_image_decode(b, n, NULL, 0, &src, NULL, NULL) == EMB_OK);
    emb_view v = emb_image_view(src);
    emb_scratch s = {0};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint32_t w = sizes[i][0], h = sizes[i][1];
        one_resize(&s, v, EMB_BILINEAR, "", NULL, w, h);
        if (i < 5) one_resize(&s, v, EMB_BICUBIC, "bicubic_", NULL, w, h);
        if (i < 5) one_resize(&s, v, EMB_LANCZOS, "lanczos_", NULL, w, h);
    }
    one_resize(&s, v, EMB_BILINEAR, "crop_", &(emb_crop){.25f, .125f, .5f, .75f}, 24, 24);
    emb_scratch_free(&s);
    emb_error err = {0};
    CHECK_INT(emb_image_resize(v, &(emb_crop){.5f, .5f, .6f, .1f}, 8, 8, &im, &err), EMB_EINVAL);
    CHECK_CONTAINS(err.text, "0.6");
    emb_image_free(src);
    free(b);
}

/* A view is read to its last byte and not further: it ends where memory ends. */
static void test_resize_at_the_end_of_memory(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *two = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(two != MAP_FAILED && mprotect(two + page, page, PROT_NONE) == 0);
    memset(two, 77, page);
    for (uint32_t side = 1; side <= 32; side++) {
        size_t row = (size_t)side * 3;
        emb_view v = {.px = two + page - row * side, .width = side, .height = side, .stride_bytes = row};
        emb_image *im;
        REQUIRE(emb_image_resize(v, NULL, 9, 7, &im, NULL) == EMB_OK);
        emb_view got = emb_image_view(im);
        for (size_t i = 0; i < (size_t)9 * 3; i++) CHECK_INT(got.px[6 * got.stride_bytes + i], 77);
        emb_image_free(im);
    }
    munmap(two, 2 * page);
}

static void test_rendition(void)
{
    size_t n, m;
    uint8_t *b = read_data("images/rgb.png", &n), *jpeg;
    emb_image *im, *back;
    REQUIRE(emb_image_decode(b, n, NULL, 0, &im, NULL, NULL) == EMB_OK);
    REQUIRE(emb_image_rendition(emb_image_view(im), 30, 85, &jpeg, &m, NULL) == EMB_OK);
    REQUIRE(emb_image_decode(jpeg, m, NULL, 0, &back, NULL, NULL) == EMB_OK);
    CHECK_INT(emb_image_view(back).width, 30);
    CHECK_INT(emb_image_view(back).height, 22);
    emb_image_free(back);
    free(jpeg);
    REQUIRE(emb_image_rendition(emb_image_view(im), 500, 85, &jpeg, &m, NULL) == EMB_OK);
    REQUIRE(emb_image_decode(jpeg, m, NULL, 0, &back, NULL, NULL) == EMB_OK);
    CHECK_INT(emb_image_view(back).width, 60); /* never enlarged */
    emb_image_free(back);
    free(jpeg);
    emb_image_free(im);
    free(b);
}

int main(void)
{
    test_fixtures();
    test_scaled();
    test_hostile();
    test_limits();
    test_mutations();
    test_resize();
    test_resize_at_the_end_of_memory();
    test_rendition();
    return test_end();
}
