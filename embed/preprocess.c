/* preprocess.c: where the picture lands in the input tensor, and bytes to normalised floats. */
#include "preprocess.h"

#include <math.h>

typedef struct {
    float table[3][256]; /* a byte of each channel, normalised: 3 KiB, cheaper than arithmetic */
    float *out;
    uint32_t w, h, x0, y0, content_w;
    emb_layout layout;
} sink;

static void put(const sink *s, uint32_t x, uint32_t y, const uint8_t *rgb)
{
    if (s->layout == EMB_NHWC) {
        float *p = s->out + ((size_t)y * s->w + x) * 3;
        for (int c = 0; c < 3; c++) p[c] = s->table[c][rgb[c]];
    } else {
        for (size_t c = 0; c < 3; c++) s->out[(c * s->h + y) * s->w + x] = s->table[c][rgb[c]];
    }
}

static void take_row(void *ctx, uint32_t y, const uint8_t *rgb)
{
    const sink *s = ctx;
    for (uint32_t x = 0; x < s->content_w; x++) put(s, s->x0 + x, s->y0 + y, rgb + (size_t)x * 3);
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
    sink s = {.out = out, .w = pp->w, .h = pp->h, .content_w = pp->w, .layout = layout};
    uint32_t content_h = pp->h;
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) s.table[c][v] = ((float)v / 255.0f - pp->mean[c]) / pp->std[c];
    if (pp->fit == EMB_FIT_CROP) centre(box, pp);
    if (pp->fit == EMB_FIT_PAD) {
        double bw = box[2] - box[0], bh = box[3] - box[1], scale = fmin(pp->w / bw, pp->h / bh);
        s.content_w = (uint32_t)fmin(fmax(1, rint(bw * scale)), pp->w);
        content_h = (uint32_t)fmin(fmax(1, rint(bh * scale)), pp->h);
        s.x0 = (pp->w - s.content_w) / 2;
        s.y0 = (pp->h - content_h) / 2;
        for (uint32_t y = 0; y < pp->h; y++)
            for (uint32_t x = 0; x < pp->w; x++) put(&s, x, y, (const uint8_t[3]){255, 255, 255});
    }
    return emb_resample(src, box[0], box[1], box[2], box[3], s.content_w, content_h, scratch, take_row, &s, err);
}
