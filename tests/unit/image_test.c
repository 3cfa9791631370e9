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
    /* Lossy files: decoders differ in chroma upsampling and rounding. Lossless ones: alpha rounding only. */
    bool lossy = strstr(name, ".jpg") != NULL || strcmp(name, "lossy.webp") == 0;
    test_checks++;
    if (mean > (lossy ? 1.5 : 0.51) || worst > (lossy ? 60 : 2)) TEST_FAIL("%s: mean %.3f, worst %d", name, mean, worst);
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
        if (e->d_name[0] != '.' && strstr(e->d_name, ".rgb") == NULL) one_fixture(e->d_name), seen++;
    closedir(d);
    CHECK(seen >= 30);
}

static void test_scaled(void)
{
    size_t n;
    uint8_t *b = read_data("images/baseline.jpg", &n);
    emb_image *im;
    REQUIRE(emb_image_decode(b, n, NULL, 11, &im, NULL, NULL) == EMB_OK);
    CHECK_INT(emb_image_view(im).width, 15); /* 60 x 44 at a quarter: the short side stays >= 11 */
    CHECK_INT(emb_image_view(im).height, 11);
    emb_image_free(im);
    free(b);
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

static void test_resize(void)
{
    static const uint32_t sizes[][2] = {{97, 71}, {48, 35}, {31, 50}, {13, 9}, {128, 128}, {1, 1}, {97, 9}, {200, 20}};
    size_t n;
    uint8_t *b = read_data("resize/source.png", &n);
    emb_image *src;
    REQUIRE(emb_image_decode(b, n, NULL, 0, &src, NULL, NULL) == EMB_OK);
    for (size_t i = 0; i <= sizeof sizes / sizeof *sizes; i++) {
        bool crop = i == sizeof sizes / sizeof *sizes;
        uint32_t w = crop ? 24 : sizes[i][0], h = crop ? 24 : sizes[i][1];
        char file[100];
        snprintf(file, sizeof file, "resize/%s%" PRIu32 "x%" PRIu32 ".rgb", crop ? "crop_" : "", w, h);
        size_t m;
        uint8_t *want = read_data(file, &m);
        emb_image *im;
        REQUIRE(emb_image_resize(emb_image_view(src), crop ? &(emb_crop){.25f, .125f, .5f, .75f} : NULL, w, h, &im, NULL) ==
                EMB_OK);
        int worst;
        double mean = mean_difference(emb_image_view(im).px, want, m, &worst);
        test_checks++;
        if (mean > 0.6 || worst > 2) TEST_FAIL("%s: mean %.3f, worst %d", file, mean, worst);
        emb_image_free(im);
        free(want);
    }
    emb_error err = {0};
    emb_image *im;
    CHECK_INT(emb_image_resize(emb_image_view(src), &(emb_crop){.5f, .5f, .6f, .1f}, 8, 8, &im, &err), EMB_EINVAL);
    CHECK_CONTAINS(err.text, "0.6");
    emb_image_free(src);
    free(b);
}

/* The vector forms give the reference's bytes, for all tails and windows. */
static void test_resample_variants(void)
{
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx2")) return;
    uint64_t seed = 7;
    for (int round = 0; round < 300; round++) {
        enum { MAX_TAPS = 40, MAX_N = 90 };
        static uint8_t rows[MAX_TAPS][(MAX_N + MAX_TAPS) * 3 + 64];
        const uint8_t *ptr[MAX_TAPS];
        int16_t k[MAX_TAPS];
        uint32_t taps = 1 + (uint32_t)(test_rand(&seed) % MAX_TAPS), n = 1 + (uint32_t)(test_rand(&seed) % MAX_N);
        int32_t left = 1 << EMB_RESAMPLE_BITS;
        for (uint32_t t = 0; t < MAX_TAPS; t++) {
            for (size_t i = 0; i < sizeof rows[t]; i++) rows[t][i] = (uint8_t)test_rand(&seed);
            ptr[t] = rows[t];
            k[t] = (int16_t)(t + 1 < taps ? (int32_t)(test_rand(&seed) % (uint32_t)(left + 1)) / 2 : t + 1 == taps ? left : 0);
            left -= k[t];
        }
        uint8_t a[MAX_N * 3 + 2], b[MAX_N * 3 + 2];
        a[n * 3] = b[n * 3] = b[n * 3 + 1] = 77;
        emb_resample_col_ref(ptr, k, taps, (size_t)n * 3, a);
        emb_resample_col_avx2(ptr, k, taps, (size_t)n * 3, b);
        CHECK(memcmp(a, b, n * 3 + 1) == 0);
        uint32_t padded = (taps + 3) / 4 * 4, first[MAX_N], count[MAX_N];
        int16_t *w = calloc((size_t)n * padded, sizeof *w);
        REQUIRE(w != NULL);
        for (uint32_t o = 0; o < n; o++) {
            first[o] = (uint32_t)(test_rand(&seed) % MAX_N);
            count[o] = taps;
            memcpy(w + (size_t)o * padded, k, taps * sizeof *k);
        }
        emb_axis axis = {padded, first, count, w};
        emb_resample_row_ref(rows[0], &axis, n, a);
        emb_resample_row_avx2(rows[0], &axis, n, b); /* one byte behind is its own */
        CHECK(memcmp(a, b, n * 3) == 0 && b[n * 3 + 1] == 77);
        free(w);
    }
#endif
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
        emb_view v = {two + page - row * side, side, side, row};
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
    test_resample_variants();
    test_resize_at_the_end_of_memory();
    test_rendition();
    return test_end();
}
