/* image_png.c: libpng, row by row into RGB; every colour type becomes 8-bit, transparency is laid on white. */
#include "image.h"

#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    png_structp png;
    png_infop info;
    const uint8_t *b;
    size_t n, at;
    emb_status status;
    char text[160];
    emb_image *im;
    uint8_t *rgba; /* a row, or the whole picture when interlaced */
    const emb_limits *limits;
} decoder;

static void on_error(png_structp png, png_const_charp text)
{
    decoder *d = png_get_error_ptr(png);
    if (d->status == EMB_OK) {
        d->status = EMB_EFORMAT;
        snprintf(d->text, sizeof d->text, "the PNG is damaged: %.120s", text);
    }
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text) { (void)png, (void)text; }

static void on_read(png_structp png, png_bytep out, size_t n)
{
    decoder *d = png_get_io_ptr(png);
    if (n > d->n - d->at) png_error(png, "the file ends before the picture does");
    memcpy(out, d->b + d->at, n);
    d->at += n;
}

static void stop(decoder *d, emb_status st, const char *text)
{
    d->status = st;
    snprintf(d->text, sizeof d->text, "%s", text);
    png_longjmp(d->png, 1);
}

static emb_status decoder_init(decoder *d, const uint8_t *b, size_t n, const emb_limits *l, emb_error *err)
{
    *d = (decoder){.b = b, .n = n, .limits = l};
    d->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, d, on_error, on_warning);
    if (d->png != NULL) d->info = png_create_info_struct(d->png);
    if (d->info == NULL) {
        png_destroy_read_struct(&d->png, &d->info, NULL);
        return emb_fail(err, EMB_ENOMEM, "no memory to read a PNG");
    }
    png_set_read_fn(d->png, d, on_read);
    png_set_user_limits(d->png, 0x7fffffff, 0x7fffffff); /* ours are checked below, with a better sentence */
    png_set_chunk_malloc_max(d->png, l->max_meta_bytes);
    png_set_chunk_cache_max(d->png, 64);
    return EMB_OK;
}

static emb_status decoder_fini(decoder *d, emb_error *err)
{
    png_destroy_read_struct(&d->png, &d->info, NULL);
    free(d->rgba);
    if (d->status == EMB_OK) return EMB_OK;
    emb_image_free(d->im);
    return emb_fail(err, d->status, "%s", d->text);
}

/* IHDR is the first chunk and 33 bytes in: no need to walk a hostile file to know its size. */
static emb_status check_size(const uint8_t *b, size_t n, const emb_limits *l, emb_error *err)
{
    if (n < 33 || memcmp(b + 12, "IHDR", 4) != 0) return emb_fail(err, EMB_EFORMAT, "the PNG is damaged: no IHDR");
    uint64_t w = (uint64_t)b[16] << 24 | (uint64_t)b[17] << 16 | (uint64_t)b[18] << 8 | b[19];
    uint64_t h = (uint64_t)b[20] << 24 | (uint64_t)b[21] << 16 | (uint64_t)b[22] << 8 | b[23];
    return emb_limits_check(l, w, h, err);
}

emb_status emb_png_probe(const uint8_t *b, size_t n, const emb_limits *l, emb_image_info *info, emb_error *err)
{
    emb_status st = check_size(b, n, l, err);
    decoder d;
    if (st == EMB_OK) st = decoder_init(&d, b, n, l, err);
    if (st != EMB_OK) return st;
    if (setjmp(png_jmpbuf(d.png)) == 0) {
        png_read_info(d.png, d.info);
        info->width = png_get_image_width(d.png, d.info);
        info->height = png_get_image_height(d.png, d.info);
        png_uint_32 bytes = 0;
        png_bytep exif = NULL;
        if (png_get_eXIf_1(d.png, d.info, &bytes, &exif) != 0) info->orientation = emb_exif_orientation(exif, bytes);
    }
    return decoder_fini(&d, err);
}

static void flatten_row(const uint8_t *rgba, uint8_t *rgb, uint32_t w)
{
    for (size_t x = 0; x < w; x++)
        for (size_t c = 0; c < 3; c++) rgb[x * 3 + c] = emb_over_white(rgba[x * 4 + c], rgba[x * 4 + 3]);
}

static void read_rows(decoder *d, uint32_t w, uint32_t h, bool alpha, bool grey)
{
    int passes = png_set_interlace_handling(d->png);
    png_read_update_info(d->png, d->info);
    size_t stride = png_get_rowbytes(d->png, d->info);
    if (stride != (size_t)w * (alpha ? 4u : 3u)) png_error(d->png, "unexpected row size");
    if (emb_image_new(w, h, &d->im, NULL) != EMB_OK) stop(d, EMB_ENOMEM, "no memory for the picture");
    bool whole = passes > 1 && alpha;
    if (alpha && (d->rgba = calloc(whole ? h : 1, stride)) == NULL) stop(d, EMB_ENOMEM, "no memory for the picture");
    for (int pass = 0; pass < passes; pass++)
        for (uint32_t y = 0; y < h; y++) {
            uint8_t *row = d->im->px + (size_t)y * w * 3;
            uint8_t *into = !alpha ? row : whole ? d->rgba + y * stride : d->rgba;
            png_read_row(d->png, into, NULL);
            if (alpha && pass == passes - 1) flatten_row(into, row, w);
            if (y % 64 == 0 && emb_deadline_check(d->limits, NULL) != EMB_OK)
                stop(d, EMB_EDEADLINE, "the deadline passed while the picture was decoded");
        }
    png_charp name;
    png_bytep bytes;
    png_uint_32 n;
    int compression;
    if (png_get_iCCP(d->png, d->info, &name, &compression, &bytes, &n) != 0) {
        if (grey) emb_color_grey_to_srgb(d->im->px, (size_t)w * h, (emb_profile){bytes, n});
        else emb_color_rgb_to_srgb(d->im->px, (size_t)w * h, (emb_profile){bytes, n});
    }
}

emb_status emb_png_decode(const uint8_t *b, size_t n, const emb_limits *l, emb_image **out, emb_error *err)
{
    emb_status st = check_size(b, n, l, err);
    decoder d;
    if (st == EMB_OK) st = decoder_init(&d, b, n, l, err);
    if (st != EMB_OK) return st;
    if (setjmp(png_jmpbuf(d.png)) == 0) {
        png_read_info(d.png, d.info);
        int type = png_get_color_type(d.png, d.info);
        bool transparent = png_get_valid(d.png, d.info, PNG_INFO_tRNS) != 0;
        png_set_scale_16(d.png);
        png_set_expand(d.png); /* palette, low bit depths and tRNS */
        if ((type & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(d.png);
        read_rows(&d, png_get_image_width(d.png, d.info), png_get_image_height(d.png, d.info),
                  (type & PNG_COLOR_MASK_ALPHA) != 0 || transparent, (type & PNG_COLOR_MASK_COLOR) == 0);
    }
    st = decoder_fini(&d, err);
    if (st == EMB_OK) *out = d.im;
    return st;
}
