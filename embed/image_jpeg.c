/* image_jpeg.c: libjpeg-turbo with its exits closed: errors jump back here, nothing is printed, scans and time are
 * bounded by a progress monitor, and large photos are decoded at a half, quarter or eighth by the scaled DCT. */
#include "image.h"
#include "resample.h"

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jpeglib.h>
#include <jerror.h>

typedef struct {
    struct jpeg_error_mgr base; /* first: libjpeg hands back a pointer to it */
    jmp_buf back;
    emb_status status;
    char text[JMSG_LENGTH_MAX];
    bool truncated;
} errors;

typedef struct {
    struct jpeg_progress_mgr base;
    const emb_limits *limits;
} progress;

typedef struct { /* everything that outlives a longjmp lives here, behind one pointer */
    struct jpeg_decompress_struct c;
    errors e;
    progress p;
    emb_image *im;
    uint8_t *row;     /* CMYK rows */
    uint8_t *profile; /* assembled ICC */
    size_t profile_bytes;
} decoder;

static void on_error(j_common_ptr c)
{
    errors *e = (errors *)(void *)c->err;
    if (e->status == EMB_OK) {
        e->status = EMB_EFORMAT;
        switch (c->err->msg_code) {
        case JERR_ARITH_NOTIMPL:
        case JERR_BAD_PRECISION:
        case JERR_SOF_UNSUPPORTED:
        case JERR_CONVERSION_NOTIMPL: e->status = EMB_EUNSUPPORTED; break;
        case JERR_OUT_OF_MEMORY: e->status = EMB_ENOMEM; break;
        default: break;
        }
        c->err->format_message(c, e->text);
    }
    longjmp(e->back, 1);
}

static void on_message(j_common_ptr c, int level)
{
    errors *e = (errors *)(void *)c->err;
    if (level < 0) c->err->num_warnings++;
    if (level < 0 && c->err->msg_code == JWRN_JPEG_EOF) e->truncated = true;
}

static void no_output(j_common_ptr c) { (void)c; }

static void stop(decoder *d, emb_status st, const char *text)
{
    d->e.status = st;
    snprintf(d->e.text, sizeof d->e.text, "%s", text);
    longjmp(d->e.back, 1);
}

static void on_progress(j_common_ptr c)
{
    progress *p = (progress *)(void *)c->progress;
    decoder *d = c->client_data;
    int scan = ((j_decompress_ptr)c)->input_scan_number;
    if (scan > 0 && (uint32_t)scan > p->limits->max_scans) {
        char text[80];
        snprintf(text, sizeof text, "the JPEG has more than %u scans, which is the limit", p->limits->max_scans);
        stop(d, EMB_ELIMIT, text);
    }
    if (emb_deadline_check(p->limits, NULL) != EMB_OK)
        stop(d, EMB_EDEADLINE, "the deadline passed while the picture was decoded");
}

static void decoder_init(decoder *d, const emb_limits *l)
{
    memset(d, 0, sizeof *d);
    d->c.err = jpeg_std_error(&d->e.base);
    d->e.base.error_exit = on_error;
    d->e.base.emit_message = on_message;
    d->e.base.output_message = no_output;
    d->p.base.progress_monitor = on_progress;
    d->p.limits = l;
}

/* Inside the setjmp: create, feed, read the header, apply the limits. */
static void read_header(decoder *d, const uint8_t *b, size_t n, const emb_limits *l)
{
    jpeg_create_decompress(&d->c);
    d->c.client_data = d;
    d->c.progress = &d->p.base;
    jpeg_mem_src(&d->c, b, (unsigned long)n);
    jpeg_save_markers(&d->c, JPEG_APP0 + 1, 0xffff);
    jpeg_save_markers(&d->c, JPEG_APP0 + 2, 0xffff);
    jpeg_read_header(&d->c, TRUE);
    size_t meta = 0;
    for (jpeg_saved_marker_ptr m = d->c.marker_list; m != NULL; m = m->next) meta += m->data_length;
    if (meta > l->max_meta_bytes) {
        char text[96];
        snprintf(text, sizeof text, "the JPEG carries %zu bytes of metadata, the limit is %zu", meta, l->max_meta_bytes);
        stop(d, EMB_ELIMIT, text);
    }
}

static emb_status decoder_fini(decoder *d, emb_error *err)
{
    jpeg_destroy_decompress(&d->c);
    free(d->row);
    free(d->profile);
    if (d->e.status == EMB_OK) return EMB_OK;
    emb_image_free(d->im);
    if (d->e.status == EMB_EFORMAT) return emb_fail(err, EMB_EFORMAT, "the JPEG is damaged: %s", d->e.text);
    if (d->e.status == EMB_EUNSUPPORTED)
        return emb_fail(err, EMB_EUNSUPPORTED, "this kind of JPEG is not supported: %s", d->e.text);
    return emb_fail(err, d->e.status, "%s", d->e.text);
}

emb_status emb_jpeg_probe(const uint8_t *b, size_t n, const emb_limits *l, emb_image_info *info, emb_error *err)
{
    decoder d;
    decoder_init(&d, l);
    if (setjmp(d.e.back) == 0) {
        read_header(&d, b, n, l);
        info->width = d.c.image_width;
        info->height = d.c.image_height;
        for (jpeg_saved_marker_ptr m = d.c.marker_list; m != NULL; m = m->next)
            if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 && memcmp(m->data, "Exif\0", 5) == 0) {
                info->orientation = emb_exif_orientation(m->data, m->data_length);
                break;
            }
    }
    return decoder_fini(&d, err);
}

/* ICC.1:2010, B.4: APP2 "ICC_PROFILE\0", number, count, then the piece. Out of order or incomplete: no profile. */
static void assemble_profile(decoder *d)
{
    size_t total = 0, count = 0;
    for (jpeg_saved_marker_ptr m = d->c.marker_list; m != NULL; m = m->next)
        if (m->marker == JPEG_APP0 + 2 && m->data_length > 14 && memcmp(m->data, "ICC_PROFILE", 12) == 0) {
            if (m->data[12] != ++count) return;
            total += m->data_length - 14;
        }
    if (count == 0 || (d->profile = malloc(total)) == NULL) return;
    for (jpeg_saved_marker_ptr m = d->c.marker_list; m != NULL; m = m->next)
        if (m->marker == JPEG_APP0 + 2 && m->data_length > 14 && memcmp(m->data, "ICC_PROFILE", 12) == 0) {
            memcpy(d->profile + d->profile_bytes, m->data + 14, m->data_length - 14);
            d->profile_bytes += m->data_length - 14;
        }
}

static void read_rows(decoder *d, emb_error *err)
{
    struct jpeg_decompress_struct *c = &d->c;
    bool cmyk = c->out_color_space == JCS_CMYK;
    uint32_t w = c->output_width, h = c->output_height;
    emb_status st = emb_image_new(w, h, &d->im, err);
    if (st == EMB_OK && cmyk && (d->row = malloc((size_t)w * h * 4)) == NULL) st = EMB_ENOMEM;
    if (st != EMB_OK) stop(d, st, "no memory for the picture");
    uint8_t *base = cmyk ? d->row : d->im->px;
    size_t stride = (size_t)w * (cmyk ? 4u : 3u);
    while (c->output_scanline < h) {
        JSAMPROW rows[8];
        uint32_t at = c->output_scanline;
        for (uint32_t i = 0; i < 8; i++) rows[i] = base + stride * (at + i < h ? at + i : h - 1);
        jpeg_read_scanlines(c, rows, h - at < 8 ? h - at : 8);
    }
    if (d->e.truncated) stop(d, EMB_EFORMAT, "the file ends before the picture does");
    const size_t n = (size_t)w * h;
    emb_profile p = {d->profile, d->profile_bytes};
    if (cmyk) {
        if (c->saw_Adobe_marker) /* Adobe writes ink inverted */
            for (size_t i = 0; i < n * 4; i++) base[i] = (uint8_t)(255 - base[i]);
        emb_color_cmyk_to_srgb(base, d->im->px, n, p);
    } else if (c->jpeg_color_space == JCS_GRAYSCALE) {
        emb_color_grey_to_srgb(d->im->px, n, p);
    } else {
        emb_color_rgb_to_srgb(d->im->px, n, p);
    }
}

emb_status emb_jpeg_decode(const uint8_t *b, size_t n, const emb_limits *l, uint32_t min_side, emb_image **out,
                           emb_error *err)
{
    decoder d;
    decoder_init(&d, l);
    if (setjmp(d.e.back) == 0) {
        read_header(&d, b, n, l);
        assemble_profile(&d);
        bool cmyk = d.c.jpeg_color_space == JCS_CMYK || d.c.jpeg_color_space == JCS_YCCK;
        d.c.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
        d.c.scale_num = 1;
        d.c.scale_denom = emb_reduction(d.c.image_width, d.c.image_height, min_side);
        jpeg_start_decompress(&d.c);
        read_rows(&d, err);
        const float denom = (float)d.c.scale_denom;
        if (denom > 1) d.im->part = (emb_part){0, 0, (float)d.c.image_width / denom, (float)d.c.image_height / denom};
        jpeg_abort_decompress(&d.c); /* what follows the last row does not matter */
    }
    emb_status st = decoder_fini(&d, err);
    if (st == EMB_OK) *out = d.im;
    return st;
}

/* ---- renditions --------------------------------------------------------------------------------- */

enum { ROWS = 16 }; /* what libjpeg takes at once with chroma of half the height */

typedef struct {
    struct jpeg_compress_struct c;
    errors e;
    emb_scratch scratch;
    uint8_t *rows; /* ROWS of the result, where it is resized */
    uint8_t *bytes;
    unsigned long n;
} encoder;

static void write_rows(encoder *x, const uint8_t *first, size_t stride_bytes, uint32_t n)
{
    JSAMPROW rows[ROWS];
    for (uint32_t i = 0; i < n; i++) rows[i] = (JSAMPROW)(uintptr_t)(first + stride_bytes * i);
    jpeg_write_scanlines(&x->c, rows, n);
}

/* From the resize, row by row. An error leaves through it: it holds nothing that is not in x. */
static void take_row(void *ctx, uint32_t y, const uint8_t *rgb)
{
    encoder *x = ctx;
    const size_t stride = (size_t)x->c.image_width * 3;
    memcpy(x->rows + stride * (y % ROWS), rgb, stride);
    if (y % ROWS == ROWS - 1 || y + 1 == x->c.image_height) write_rows(x, x->rows, stride, y % ROWS + 1);
}

/* Inside the setjmp. w x h: the view itself, or what its box is resized to. */
static emb_status write_picture(encoder *x, emb_view v, const double box[4], uint32_t w, uint32_t h, int quality, emb_error *err)
{
    jpeg_create_compress(&x->c);
    jpeg_mem_dest(&x->c, &x->bytes, &x->n);
    x->c.image_width = w;
    x->c.image_height = h;
    x->c.input_components = 3;
    x->c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&x->c); /* 4:2:0 */
    jpeg_set_quality(&x->c, quality, TRUE);
    jpeg_start_compress(&x->c, TRUE);
    if (box != NULL) {
        emb_status st = emb_resample(v, box, w, h, EMB_BILINEAR, &x->scratch, take_row, x, err);
        if (st != EMB_OK) return st;
    } else {
        for (uint32_t y = 0; y < h; y += ROWS) write_rows(x, v.px + v.stride_bytes * y, v.stride_bytes, h - y < ROWS ? h - y : ROWS);
    }
    jpeg_finish_compress(&x->c);
    return EMB_OK;
}

static emb_status encode(encoder *x, emb_view v, const double box[4], uint32_t w, uint32_t h, int quality, emb_error *err)
{
    x->c.err = jpeg_std_error(&x->e.base);
    x->e.base.error_exit = on_error;
    x->e.base.emit_message = on_message;
    x->e.base.output_message = no_output;
    if (setjmp(x->e.back) == 0) x->e.status = write_picture(x, v, box, w, h, quality, err);
    jpeg_destroy_compress(&x->c);
    if (x->e.status == EMB_OK) return EMB_OK;
    free(x->bytes);
    return emb_fail(err, EMB_ENOMEM, "the rendition could not be written: %s", x->e.text); /* unless the resize has said why */
}

emb_status emb_image_rendition(emb_view src, uint32_t max_side, int quality, uint8_t **bytes, size_t *n, emb_error *err)
{
    double box[4];
    emb_status st = emb_crop_box(src, NULL, box, err);
    if (st != EMB_OK) return st;
    const double w = box[2] - box[0], h = box[3] - box[1], side = fmax(w, h);
    const uint32_t longer = src.width > src.height ? src.width : src.height;
    encoder x;
    memset(&x, 0, sizeof x);
    if (longer > max_side) {
        const uint32_t out_w = (uint32_t)fmax(1, rint(w * max_side / side)), out_h = (uint32_t)fmax(1, rint(h * max_side / side));
        x.rows = malloc((size_t)out_w * 3 * ROWS);
        st = x.rows != NULL ? encode(&x, src, box, out_w, out_h, quality, err) : emb_fail(err, EMB_ENOMEM, "no memory for a rendition");
        emb_scratch_free(&x.scratch);
        free(x.rows);
    } else {
        st = encode(&x, src, NULL, src.width, src.height, quality, err);
    }
    if (st != EMB_OK) return st;
    *bytes = x.bytes;
    *n = x.n;
    return EMB_OK;
}
