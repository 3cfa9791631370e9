/* JPEGs of every sampling, size and kind, decoded smaller, beside the whole picture made as small; that none is taken without its
 * end; that progressive ones keep the limits. The files are made here. */
#include "../../embed/image.h"
#include "../../embed/resample.h"
#include "jpegs.h"
#include "test.h"

#include <time.h>

static uint64_t seed = 3;

typedef struct {
    emb_view v;
    bool luma; /* only that */
    double sum;
    uint32_t n;
} difference;

static void compare_row(void *ctx, uint32_t y, const uint8_t *rgb)
{
    difference *d = ctx;
    const uint8_t *row = d->v.px + d->v.stride_bytes * y;
    for (uint32_t i = 0; i < (uint32_t)d->v.part.x1 * 3; i += d->luma ? 3 : 1, d->n++) {
        double by = row[i] - rgb[i];
        if (d->luma) by = 0.299 * by + 0.587 * (row[i + 1] - rgb[i + 1]) + 0.114 * (row[i + 2] - rgb[i + 2]);
        d->sum += by * by;
    }
}

/* The scaled decoding beside all pixels made as small by the sharpest filter. */
static void beside_whole(jpeg_kind k, const uint8_t *jpeg, size_t n, uint32_t denom)
{
    emb_image *whole = NULL, *im = NULL;
    const uint32_t shorter = k.w < k.h ? k.w : k.h;
    REQUIRE(emb_image_decode(jpeg, n, NULL, 0, &whole, NULL, NULL) == EMB_OK);
    REQUIRE(emb_image_decode(jpeg, n, NULL, shorter / denom, &im, NULL, NULL) == EMB_OK);
    difference d = {.v = emb_image_view(im), .luma = k.hs != k.vs}; /* chroma of odd shapes stays as coarse as it is stored */
    CHECK_INT(d.v.width, (k.w + denom - 1) / denom);
    CHECK_INT(d.v.height, (k.h + denom - 1) / denom);
    CHECK_NEAR(d.v.part.x1, (double)k.w / denom, 1e-3);
    CHECK_NEAR(d.v.part.y1, (double)k.h / denom, 1e-3);
    const uint32_t w = k.w / denom, h = k.h / denom;
    const double box[4] = {0, 0, w * denom, h * denom};
    emb_scratch s = {0};
    REQUIRE(emb_resample(emb_image_view(whole), box, w, h, EMB_LANCZOS, &s, compare_row, &d, NULL) == EMB_OK);
    emb_scratch_free(&s);
    const double rms = sqrt(d.sum / d.n);
    test_checks++;
    if (rms > 4)
        TEST_FAIL("%" PRIu32 " x %" PRIu32 ", luma %" PRIu32 " x %" PRIu32 ", %s, at 1/%" PRIu32 ": %.2f from the whole", k.w, k.h,
                  k.hs, k.vs, k.progressive ? "progressive" : "baseline", denom, rms);
    emb_image_free(whole);
    emb_image_free(im);
}

static void test_kinds(void)
{
    static const uint32_t sizes[][2] = {{2571, 40}, {643, 331}, {25, 1303}};
    static const uint32_t samplings[][2] = {{0, 0}, {1, 1}, {2, 1}, {1, 2}, {2, 2}, {4, 1}, {4, 2}, {1, 4}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t j = 0; j < sizeof samplings / sizeof *samplings; j++)
            for (uint32_t way = 0; way < 4; way++) {
                const uint32_t *s = samplings[j], restart = way == 1 ? 1 : way == 3 ? 3 : 0;
                jpeg_kind k = {sizes[i][0], sizes[i][1], s[0], s[1], restart, way >= 2, way == 1};
                const uint32_t longer = k.w > k.h ? k.w : k.h;
                uint8_t *px = jpeg_picture(k.w, k.h);
                unsigned long n = 0;
                uint8_t *jpeg = jpeg_encode(k, px, &n);
                for (uint32_t denom = 2; denom <= 8 && longer / denom >= EMB_KEEP_SIDE; denom *= 2) beside_whole(k, jpeg, n, denom);
                free(jpeg);
                free(px);
            }
}

static uint8_t *exact(const uint8_t *b, size_t n) /* a block of its own, so that a sanitizer sees an overrun */
{
    uint8_t *copy = malloc(n + 1);
    REQUIRE(copy != NULL);
    memcpy(copy, b, n);
    return copy;
}

/* Cut anywhere before its last marker a file is damaged; changed anywhere it gives a picture or a reason. */
static void test_damaged(void)
{
    for (uint32_t way = 0; way < 6; way++) {
        jpeg_kind k = {330, 70, way % 3 == 2 ? 0 : 2, way % 3 == 2 ? 0 : 1 + way % 3, way % 3 == 1 ? 2 : 0, way >= 3, false};
        const emb_limits l = {.max_pixels = 1000000};
        uint8_t *px = jpeg_picture(k.w, k.h);
        unsigned long n = 0;
        uint8_t *jpeg = jpeg_encode(k, px, &n);
        emb_image *im = NULL;
        emb_error e = {0};
        for (size_t cut = 3; cut + 2 < n; cut += 5) {
            uint8_t *part = exact(jpeg, cut);
            CHECK_INT(emb_image_decode(part, cut, &l, cut % 2 * 10, &im, NULL, &e), EMB_EFORMAT);
            free(part);
        }
        for (uint32_t round = 0; round < 500; round++) {
            uint8_t *copy = exact(jpeg, n);
            for (uint64_t flips = 1 + test_rand(&seed) % 4; flips > 0; flips--)
                copy[test_rand(&seed) % n] = (uint8_t)(test_rand(&seed) % 5 == 0 ? 0xff : test_rand(&seed));
            im = NULL;
            e = (emb_error){0};
            emb_status st = emb_image_decode(copy, n, &l, round % 2 * 10, &im, NULL, &e);
            CHECK((st == EMB_OK) == (im != NULL) && (st == EMB_OK) == (e.text[0] == '\0'));
            emb_image_free(im);
            free(copy);
        }
        free(jpeg);
        free(px);
    }
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The ten scans of a usual progressive file, and the clock between them. */
static void test_progressive_limits(void)
{
    for (uint32_t min_side = 0; min_side < 200; min_side += 100) {
        jpeg_kind k = {2600, 1000, 2, 2, 0, true, false};
        uint8_t *px = jpeg_picture(k.w, k.h);
        unsigned long n = 0;
        uint8_t *jpeg = jpeg_encode(k, px, &n);
        emb_image *im = NULL;
        emb_error e = {0};
        CHECK_INT(emb_image_decode(jpeg, n, &(emb_limits){.max_scans = 9}, min_side, &im, NULL, &e), EMB_ELIMIT);
        CHECK_CONTAINS(e.text, "more than 9 scans");
        CHECK_INT(emb_image_decode(jpeg, n, &(emb_limits){.max_scans = 10}, min_side, &im, NULL, &e), EMB_OK);
        emb_image_free(im);
        uint64_t from = now_ns(), took;
        REQUIRE(emb_image_decode(jpeg, n, NULL, min_side, &im, NULL, &e) == EMB_OK);
        took = now_ns() - from;
        emb_image_free(im);
        from = now_ns();
        e = (emb_error){0};
        const emb_limits late = {.deadline_ns = from + took / 10};
        CHECK_INT(emb_image_decode(jpeg, n, &late, min_side, &im, NULL, &e), EMB_EDEADLINE);
        CHECK_CONTAINS(e.text, "while the picture was decoded");
        free(jpeg);
        free(px);
    }
}

int main(void)
{
    test_kinds();
    test_damaged();
    test_progressive_limits();
    return test_end();
}
