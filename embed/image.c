/* image.c: the type from the bytes, limits before memory, one path for every format, and the upright image. */
#include "image.h"
#include "resample.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

emb_format emb_format_detect(const uint8_t *b, size_t n)
{
    if (n >= 3 && b[0] == 0xff && b[1] == 0xd8 && b[2] == 0xff) return EMB_JPEG;
    if (n >= 8 && memcmp(b, "\x89PNG\r\n\x1a\n", 8) == 0) return EMB_PNG;
    if (n >= 12 && memcmp(b, "RIFF", 4) == 0 && memcmp(b + 8, "WEBP", 4) == 0) return EMB_WEBP;
    return EMB_FORMAT_UNKNOWN;
}

const char *emb_format_mime(emb_format f)
{
    static const char *const mime[] = {"application/octet-stream", "image/jpeg", "image/png", "image/webp"};
    return mime[f <= EMB_WEBP ? f : EMB_FORMAT_UNKNOWN];
}

emb_limits emb_limits_or_default(const emb_limits *limits)
{
    emb_limits l = limits != NULL ? *limits : (emb_limits){0};
    if (l.max_pixels == 0) l.max_pixels = 24000000;
    if (l.max_side == 0) l.max_side = 32768;
    if (l.max_scans == 0) l.max_scans = 50;
    if (l.max_meta_bytes == 0) l.max_meta_bytes = (size_t)4 << 20;
    return l;
}

emb_status emb_limits_check(const emb_limits *l, uint64_t w, uint64_t h, emb_error *err)
{
    if (w == 0 || h == 0) return emb_fail(err, EMB_EFORMAT, "the picture is %" PRIu64 " x %" PRIu64 " pixels", w, h);
    if (w > l->max_side || h > l->max_side)
        return emb_fail(err, EMB_ELIMIT, "the picture is %" PRIu64 " x %" PRIu64 " pixels, a side may have %" PRIu32, w, h,
                        l->max_side);
    if (w * h > l->max_pixels)
        return emb_fail(err, EMB_ELIMIT,
                        "the picture has %" PRIu64 " pixels (%" PRIu64 " x %" PRIu64 "), the limit is %" PRIu64, w * h, w, h,
                        l->max_pixels);
    return EMB_OK;
}

emb_status emb_deadline_check(const emb_limits *l, emb_error *err)
{
    if (l->deadline_ns == 0) return EMB_OK;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    if ((uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec < l->deadline_ns) return EMB_OK;
    return emb_fail(err, EMB_EDEADLINE, "the deadline passed while the picture was decoded");
}

uint32_t emb_reduction(uint32_t w, uint32_t h, uint32_t min_side)
{
    const uint32_t shorter = w < h ? w : h, longer = w < h ? h : w;
    uint32_t r = 1;
    if (min_side == 0) return 1;
    while (r < 8 && shorter / (r * 2) >= min_side && longer / (r * 2) >= EMB_KEEP_SIDE) r *= 2;
    return r;
}

emb_status emb_image_new(uint32_t w, uint32_t h, emb_image **out, emb_error *err)
{
    size_t bytes = (size_t)w * h * 3;
    emb_image *im = malloc(sizeof *im);
    uint8_t *px = malloc(bytes + EMB_IMAGE_SLACK);
    if (im == NULL || px == NULL) {
        free(im);
        free(px);
        return emb_fail(err, EMB_ENOMEM, "no memory for a picture of %" PRIu32 " x %" PRIu32 " pixels", w, h);
    }
    memset(px + bytes, 0, EMB_IMAGE_SLACK);
    *im = (emb_image){.width = w, .height = h, .px = px};
    *out = im;
    return EMB_OK;
}

void emb_image_free(emb_image *im)
{
    if (im == NULL) return;
    free(im->px);
    free(im);
}

emb_view emb_image_view(const emb_image *im)
{
    return (emb_view){im->px, im->width, im->height, (size_t)im->width * 3, im->part};
}

/* ---- orientation -------------------------------------------------------------------------------- */

static void flip_rows(emb_image *im, bool horizontally, bool vertically)
{
    size_t n = (size_t)im->width * im->height;
    uint8_t *px = im->px;
    if (horizontally && vertically) { /* half a turn: reverse the pixels */
        for (size_t i = 0, j = n - 1; i < j; i++, j--)
            for (int c = 0; c < 3; c++) {
                uint8_t t = px[i * 3 + (size_t)c];
                px[i * 3 + (size_t)c] = px[j * 3 + (size_t)c];
                px[j * 3 + (size_t)c] = t;
            }
        return;
    }
    size_t stride = (size_t)im->width * 3;
    if (vertically)
        for (size_t a = 0, b = im->height - 1; a < b; a++, b--)
            for (size_t i = 0; i < stride; i++) {
                uint8_t t = px[a * stride + i];
                px[a * stride + i] = px[b * stride + i];
                px[b * stride + i] = t;
            }
    if (horizontally)
        for (size_t y = 0; y < im->height; y++)
            for (size_t a = 0, b = im->width - 1; a < b; a++, b--)
                for (size_t c = 0; c < 3; c++) {
                    uint8_t t = px[y * stride + a * 3 + c];
                    px[y * stride + a * 3 + c] = px[y * stride + b * 3 + c];
                    px[y * stride + b * 3 + c] = t;
                }
}

/* Where the part lies after the turn. */
static emb_part part_orient(emb_part p, float w, float h, uint32_t o)
{
    if (p.x1 <= 0 || o < 2) return p;
    if (o == 2 || o == 3 || o == 7 || o == 8) p = (emb_part){w - p.x1, p.y0, w - p.x0, p.y1};
    if (o == 3 || o == 4 || o == 6 || o == 7) p = (emb_part){p.x0, h - p.y1, p.x1, h - p.y0};
    return o >= 5 ? (emb_part){p.y0, p.x0, p.y1, p.x1} : p;
}

emb_status emb_image_orient(emb_image **im, uint32_t o, emb_error *err)
{
    if (o < 2 || o > 8) return EMB_OK;
    (*im)->part = part_orient((*im)->part, (float)(*im)->width, (float)(*im)->height, o);
    if (o <= 4) {
        flip_rows(*im, o == 2 || o == 3, o == 3 || o == 4);
        return EMB_OK;
    }
    const emb_image *src = *im;
    uint32_t w = src->height, h = src->width;
    emb_image *dst = NULL;
    emb_status st = emb_image_new(w, h, &dst, err);
    if (st != EMB_OK) return st;
    for (uint32_t y = 0; y < h; y++) /* 5: transpose, 6: quarter turn right, 7: transverse, 8: quarter turn left */
        for (uint32_t x = 0; x < w; x++) {
            uint32_t sx = o == 5 || o == 6 ? y : h - 1 - y;
            uint32_t sy = o == 5 || o == 8 ? x : w - 1 - x;
            memcpy(dst->px + ((size_t)y * w + x) * 3, src->px + ((size_t)sy * src->width + sx) * 3, 3);
        }
    dst->part = src->part;
    emb_image_free(*im);
    *im = dst;
    return EMB_OK;
}

/* ---- resize ------------------------------------------------------------------------------------- */

static void keep_row(void *ctx, uint32_t y, const uint8_t *rgb)
{
    emb_image *im = ctx;
    size_t stride = (size_t)im->width * 3;
    memcpy(im->px + stride * y, rgb, stride);
}

emb_status emb_image_resize(emb_view src, const emb_crop *crop, uint32_t w, uint32_t h, emb_image **out, emb_error *err)
{
    double box[4];
    emb_status st = emb_crop_box(src, crop, box, err);
    if (st == EMB_OK && (w == 0 || h == 0 || w > 32768 || h > 32768))
        st = emb_fail(err, EMB_EINVAL, "a picture cannot be resized to %" PRIu32 " x %" PRIu32, w, h);
    emb_image *im = NULL;
    if (st == EMB_OK) st = emb_image_new(w, h, &im, err);
    emb_scratch s = {0};
    if (st == EMB_OK) st = emb_resample(src, box, w, h, EMB_BILINEAR, &s, keep_row, im, err);
    emb_scratch_free(&s);
    if (st != EMB_OK) {
        emb_image_free(im);
        return st;
    }
    *out = im;
    return EMB_OK;
}

/* ---- one way in --------------------------------------------------------------------------------- */

emb_status emb_image_probe(const uint8_t *b, size_t n, const emb_limits *limits, emb_image_info *out, emb_error *err)
{
    emb_limits l = emb_limits_or_default(limits);
    emb_image_info info = {.format = emb_format_detect(b, n), .orientation = 1};
    emb_status st;
    switch (info.format) {
    case EMB_JPEG: st = emb_jpeg_probe(b, n, &l, &info, err); break;
    case EMB_PNG: st = emb_png_probe(b, n, &l, &info, err); break;
    case EMB_WEBP: st = emb_webp_probe(b, n, &l, &info, err); break;
    default:
        return emb_fail(err, EMB_EUNSUPPORTED, n == 0 ? "the picture is empty"
                                                      : "the bytes are not a JPEG, PNG or WebP picture");
    }
    if (st == EMB_OK) st = emb_limits_check(&l, info.width, info.height, err);
    if (st != EMB_OK) return st;
    if (info.orientation >= 5) {
        uint32_t t = info.width;
        info.width = info.height;
        info.height = t;
    }
    *out = info;
    return EMB_OK;
}

emb_status emb_image_decode(const uint8_t *b, size_t n, const emb_limits *limits, uint32_t min_side, emb_image **out,
                            emb_image_info *info_out, emb_error *err)
{
    emb_limits l = emb_limits_or_default(limits);
    emb_image_info info;
    emb_status st = emb_image_probe(b, n, &l, &info, err);
    if (st == EMB_OK) st = emb_deadline_check(&l, err);
    if (st != EMB_OK) return st;
    emb_image *im = NULL;
    switch (info.format) {
    case EMB_JPEG: st = emb_jpeg_decode(b, n, &l, min_side, &im, err); break;
    case EMB_PNG: st = emb_png_decode(b, n, &l, &im, err); break;
    default: st = emb_webp_decode(b, n, &l, min_side, &im, err); break;
    }
    if (st == EMB_OK) st = emb_image_orient(&im, info.orientation, err);
    if (st != EMB_OK) {
        emb_image_free(im);
        return st;
    }
    *out = im;
    if (info_out != NULL) *info_out = info;
    return EMB_OK;
}
