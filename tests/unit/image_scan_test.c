/* The quick way through JPEGs beside libjpeg: every sampling, size and eighth, restart markers, progressive files; and that it
 * leaves alone whatever is irregular. The files are made here. */
#include "../../embed/image_scan.h"
#include "../../embed/resample.h"
#include "jpegs.h"
#include "test.h"

#include <setjmp.h>

static uint64_t seed = 3;

/* ---- both ways ---------------------------------------------------------------------------------- */

typedef struct {
    struct jpeg_error_mgr base;
    jmp_buf back;
} errors;

static void on_error(j_common_ptr c) { longjmp(((errors *)(void *)c->err)->back, 1); }
static void on_message(j_common_ptr c, int level) { (void)c, (void)level; }

/* What the quick way says to the file; EMB_SCAN_LEFT also where libjpeg refuses the header. */
static emb_scan_result quick(const uint8_t *b, size_t n, uint32_t eighths, emb_limits l, emb_image **out)
{
    struct jpeg_decompress_struct c;
    errors e;
    volatile emb_scan_result r = EMB_SCAN_LEFT;
    emb_limits limits = emb_limits_or_default(&l);
    c.err = jpeg_std_error(&e.base);
    e.base.error_exit = on_error;
    e.base.emit_message = on_message;
    if (setjmp(e.back) == 0) {
        jpeg_create_decompress(&c);
        jpeg_mem_src(&c, b, (unsigned long)n);
        jpeg_read_header(&c, TRUE);
        if ((uint64_t)c.image_width * c.image_height <= 4000000) r = emb_scan_decode(&c, &limits, eighths, out);
    }
    jpeg_destroy_decompress(&c);
    return r;
}

/* All pixels by libjpeg. Caller frees. */
static uint8_t *full(const uint8_t *b, size_t n)
{
    struct jpeg_decompress_struct c;
    struct jpeg_error_mgr e;
    c.err = jpeg_std_error(&e);
    jpeg_create_decompress(&c);
    jpeg_mem_src(&c, b, (unsigned long)n);
    jpeg_read_header(&c, TRUE);
    c.out_color_space = JCS_RGB;
    jpeg_start_decompress(&c);
    uint8_t *px = malloc((size_t)c.output_width * c.output_height * 3);
    REQUIRE(px != NULL);
    while (c.output_scanline < c.output_height) {
        JSAMPROW row = px + (size_t)c.output_scanline * c.output_width * 3;
        jpeg_read_scanlines(&c, &row, 1);
    }
    jpeg_destroy_decompress(&c);
    return px;
}

typedef struct {
    const emb_image *im;
    uint32_t w;
    bool luma; /* only that */
    double sum;
    uint32_t n;
    double worst;
} difference;

static void compare_row(void *ctx, uint32_t y, const uint8_t *rgb)
{
    difference *d = ctx;
    const uint8_t *row = d->im->px + (size_t)y * d->im->width * 3;
    for (uint32_t i = 0; i < d->w * 3; i++) {
        double by = row[i] - rgb[i];
        if (d->luma) by = i % 3 > 0 ? 0 : 0.299 * by + 0.587 * (row[i + 1] - rgb[i + 1]) + 0.114 * (row[i + 2] - rgb[i + 2]);
        d->sum += by * by;
        d->worst = fmax(d->worst, fabs(by));
    }
    d->n += d->luma ? d->w : d->w * 3;
}

/* The quick picture beside libjpeg's whole one, made as small by the sharpest filter. */
static void beside_libjpeg(jpeg_kind k, const uint8_t *whole, const emb_image *im, uint32_t eighths)
{
    uint32_t w = k.w * eighths / 8, h = k.h * eighths / 8;
    CHECK_INT(im->width, (k.w * eighths + 7) / 8);
    CHECK_INT(im->height, (k.h * eighths + 7) / 8);
    if (w == 0 || h == 0) return;
    difference d = {.im = im, .w = w, .luma = k.progressive && k.hs > 0}; /* chroma is not enlarged there but repeated */
    emb_scratch s = {0};
    emb_view v = {.px = whole, .width = k.w, .height = k.h, .stride_bytes = (size_t)k.w * 3};
    const double box[4] = {0, 0, w * 8.0 / eighths, h * 8.0 / eighths};
    REQUIRE(emb_resample(v, box, w, h, EMB_LANCZOS, &s, compare_row, &d, NULL) == EMB_OK);
    emb_scratch_free(&s);
    double rms = sqrt(d.sum / d.n), most = eighths == 8 ? 3 : 6; /* small ones are all edge */
    test_checks++;
    if (rms > most)
        TEST_FAIL("%" PRIu32 " x %" PRIu32 ", luma %" PRIu32 " x %" PRIu32 ", %s, at %" PRIu32 "/8: %.2f from libjpeg's", k.w, k.h, k.hs, k.vs,
                  k.progressive ? "progressive" : "baseline", eighths, rms);
    if (eighths == 8 && k.hs <= 1 && k.vs <= 1) CHECK(d.worst <= 3); /* the same samples but for rounding */
}

static void test_kinds(void)
{
    static const uint32_t sizes[][2] = {{1, 1}, {7, 3}, {8, 8}, {17, 33}, {64, 48}, {129, 65}, {300, 7}, {5, 257}, {331, 203}};
    static const uint32_t samplings[][2] = {{0, 0}, {1, 1}, {2, 1}, {1, 2}, {2, 2}, {4, 1}, {4, 2}, {1, 4}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t j = 0; j < sizeof samplings / sizeof *samplings; j++)
            for (uint32_t way = 0; way < 4; way++) {
                jpeg_kind k = {sizes[i][0], sizes[i][1], samplings[j][0], samplings[j][1], way == 1 ? 1 : way == 3 ? 3 : 0, way >= 2, way == 1};
                uint8_t *px = jpeg_picture(k.w, k.h);
                unsigned long n = 0;
                uint8_t *jpeg = jpeg_encode(k, px, &n), *whole = full(jpeg, n);
                for (uint32_t eighths = 1; eighths <= (k.progressive ? 1u : 8u); eighths++) {
                    emb_image *im = NULL;
                    bool taken = k.hs * eighths <= 16 && k.vs * eighths <= 16;
                    CHECK_INT(quick(jpeg, n, eighths, (emb_limits){0}, &im), taken ? EMB_SCAN_DONE : EMB_SCAN_LEFT);
                    if (im != NULL) beside_libjpeg(k, whole, im, eighths);
                    emb_image_free(im);
                }
                free(whole);
                free(jpeg);
                free(px);
            }
}

/* At an eighth only DC counts: baseline and progressive files of one grey picture give the same bytes. */
static void test_progressive_is_baseline(void)
{
    jpeg_kind k = {331, 203, 0, 0, 0, false, false};
    uint8_t *px = jpeg_picture(k.w, k.h);
    unsigned long n = 0, m = 0;
    uint8_t *a = jpeg_encode(k, px, &n);
    k.progressive = true;
    k.restart = 7;
    uint8_t *b = jpeg_encode(k, px, &m);
    emb_image *x = NULL, *y = NULL;
    REQUIRE(quick(a, n, 1, (emb_limits){0}, &x) == EMB_SCAN_DONE && quick(b, m, 1, (emb_limits){0}, &y) == EMB_SCAN_DONE);
    CHECK(memcmp(x->px, y->px, (size_t)x->width * x->height * 3) == 0);
    emb_image_free(x);
    emb_image_free(y);
    CHECK_INT(quick(b, m, 2, (emb_limits){0}, &x), EMB_SCAN_LEFT);
    CHECK_INT(quick(b, m, 1, (emb_limits){.max_scans = 3}, &x), EMB_SCAN_LEFT); /* libjpeg names the limit */
    CHECK_INT(quick(b, m, 1, (emb_limits){.deadline_ns = 1}, &x), EMB_SCAN_LATE);
    CHECK_INT(quick(a, n, 1, (emb_limits){.deadline_ns = 1}, &x), EMB_SCAN_LATE);
    free(a);
    free(b);
    free(px);
}

/* ---- irregular ones ----------------------------------------------------------------------------- */

static uint8_t *exact(const uint8_t *b, size_t n) /* a block of its own, so that a sanitizer sees an overrun */
{
    uint8_t *copy = malloc(n + 1);
    REQUIRE(copy != NULL);
    memcpy(copy, b, n);
    return copy;
}

static void test_irregular(void)
{
    for (uint32_t way = 0; way < 6; way++) {
        jpeg_kind k = {90, 70, way % 3 == 2 ? 0 : 2, way % 3 == 2 ? 0 : 1 + way % 3, way % 3 == 1 ? 2 : 0, way >= 3, false};
        uint8_t *px = jpeg_picture(k.w, k.h);
        unsigned long n = 0;
        uint8_t *jpeg = jpeg_encode(k, px, &n);
        const uint32_t eighths = k.progressive ? 1 : 2 + way;
        for (size_t cut = 0; cut < n; cut++) { /* without its end a file is not taken */
            uint8_t *part = exact(jpeg, cut);
            emb_image *im = NULL;
            CHECK_INT(quick(part, cut, eighths, (emb_limits){0}, &im), EMB_SCAN_LEFT);
            free(part);
        }
        uint32_t done = 0;
        for (uint32_t round = 0; round < 3000; round++) {
            uint8_t *copy = exact(jpeg, n);
            for (uint64_t flips = 1 + test_rand(&seed) % 4; flips > 0; flips--)
                copy[test_rand(&seed) % n] = (uint8_t)(test_rand(&seed) % 5 == 0 ? 0xff : test_rand(&seed));
            emb_image *im = NULL;
            emb_scan_result r = quick(copy, n, k.progressive ? 1 : 1 + round % 8, (emb_limits){0}, &im);
            CHECK(r == EMB_SCAN_DONE || r == EMB_SCAN_LEFT);
            CHECK((r == EMB_SCAN_DONE) == (im != NULL));
            done += r == EMB_SCAN_DONE;
            emb_image_free(im);
            free(copy);
        }
        CHECK(done > 0 && done < 3000);
        free(jpeg);
        free(px);
    }
}

/* A restart marker out of turn, and one where none belongs. */
static void test_restarts(void)
{
    jpeg_kind k = {64, 64, 1, 1, 4, false, false};
    uint8_t *px = jpeg_picture(k.w, k.h);
    unsigned long n = 0;
    uint8_t *jpeg = jpeg_encode(k, px, &n);
    emb_image *im = NULL;
    REQUIRE(quick(jpeg, n, 3, (emb_limits){0}, &im) == EMB_SCAN_DONE);
    emb_image_free(im);
    im = NULL;
    size_t seen = 0;
    for (size_t i = 2; i + 1 < n; i++)
        if (jpeg[i] == 0xff && jpeg[i + 1] >= 0xd0 && jpeg[i + 1] <= 0xd7) {
            uint8_t *copy = exact(jpeg, n);
            copy[i + 1] = (uint8_t)(0xd0 + (jpeg[i + 1] - 0xd0 + 1) % 8);
            CHECK_INT(quick(copy, n, 3, (emb_limits){0}, &im), EMB_SCAN_LEFT);
            copy[i + 1] = 0;
            CHECK_INT(quick(copy, n, 3, (emb_limits){0}, &im), EMB_SCAN_LEFT);
            free(copy);
            seen++;
        }
    CHECK_INT(seen, 15);
    free(jpeg);
    free(px);
}

int main(void)
{
    test_kinds();
    test_progressive_is_baseline();
    test_irregular();
    test_restarts();
    return test_end();
}
