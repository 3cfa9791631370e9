/* preprocess.c: where the picture lands in the input tensor, and bytes to normalised floats. */
#include "preprocess.h"

#include <math.h>
#include <string.h>

typedef struct {
    const emb_pixels *px;
    float mean[3], scale[3]; /* of bytes */
    float *out;
    uint32_t w, h, x0, y0, content_w;
    emb_layout layout;
} sink;

static void take_row(void *ctx, uint32_t y, const uint8_t *rgb)
{
    const sink *s = ctx;
    const size_t at = (size_t)(s->y0 + y) * s->w + s->x0, plane = (size_t)s->w * s->h;
    if (s->layout == EMB_NHWC) {
        s->px->normalise(rgb, s->content_w, s->mean, s->scale, s->out + 3 * at);
        return;
    }
    for (size_t x = 0; x < s->content_w; x++)
        for (size_t c = 0; c < 3; c++) s->out[c * plane + at + x] = ((float)rgb[3 * x + c] - s->mean[c]) * s->scale[c];
}

/* White all over, for the content to lie on. */
static void whiten(const sink *s)
{
    const size_t plane = (size_t)s->w * s->h;
    for (size_t i = 0; i < plane; i++)
        for (size_t c = 0; c < 3; c++) s->out[s->layout == EMB_NHWC ? 3 * i + c : c * plane + i] = (255 - s->mean[c]) * s->scale[c];
}

/* The centre of the box that shows when its short side becomes `resize` and w x h are cut out. */
static void centre(double box[4], const emb_preproc *pp)
{
    double bw = box[2] - box[0], bh = box[3] - box[1], scale = fmin(bw, bh) / pp->resize;
    double w = fmin(pp->w * scale, bw), h = fmin(pp->h * scale, bh);
    box[0] += (bw - w) / 2;
    box[1] += (bh - h) / 2;
    box[2] = box[0] + w;
    box[3] = box[1] + h;
}

emb_status emb_preprocess(emb_view src, const emb_crop *crop, const emb_preproc *pp, emb_layout layout, float *out,
                          emb_scratch *scratch, emb_error *err)
{
    double box[4];
    emb_status st = emb_crop_box(src, crop, box, err);
    if (st != EMB_OK) return st;
    sink s = {.px = emb_pixels_get(), .out = out, .w = pp->w, .h = pp->h, .content_w = pp->w, .layout = layout};
    uint32_t content_h = pp->h;
    for (int c = 0; c < 3; c++) {
        s.mean[c] = 255.0f * pp->mean[c];
        s.scale[c] = 1.0f / (255.0f * pp->std[c]);
    }
    if (pp->fit == EMB_FIT_CROP) centre(box, pp);
    if (pp->fit == EMB_FIT_PAD) {
        double bw = box[2] - box[0], bh = box[3] - box[1], scale = fmin(pp->w / bw, pp->h / bh);
        s.content_w = (uint32_t)fmin(fmax(1, rint(bw * scale)), pp->w);
        content_h = (uint32_t)fmin(fmax(1, rint(bh * scale)), pp->h);
        s.x0 = (pp->w - s.content_w) / 2;
        s.y0 = (pp->h - content_h) / 2;
        whiten(&s);
    }
    return emb_resample(src, box, s.content_w, content_h, pp->filter, scratch, take_row, &s, err);
}

uint32_t emb_preproc_decode_side(const emb_preproc *pp)
{
    uint32_t side = pp->w > pp->h ? pp->w : pp->h;
    if (pp->fit == EMB_FIT_CROP && pp->resize > side) side = pp->resize;
    return (side * 7 + 4) / 5;
}

static const char *const names[] = {[EMB_BILINEAR] = "bilinear", [EMB_BICUBIC] = "bicubic", [EMB_LANCZOS] = "lanczos"};

const char *emb_filter_name(emb_filter f) { return names[f]; }

emb_status emb_preproc_filter(emb_preproc *pp, const char *name, const char *file, emb_error *err)
{
    pp->filter = EMB_BILINEAR;
    if (name == NULL) return EMB_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) {
            pp->filter = (emb_filter)i;
            return EMB_OK;
        }
    return emb_fail(err, EMB_EFORMAT, "%s: likeness.filter is \"%.60s\", not bilinear, bicubic or lanczos", file, name);
}
