/* image_webp.c: libwebp; the first frame of an animation on its canvas; large photos scaled while decoding. */
#include "image.h"

#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>
#include <webp/demux.h>

static emb_profile chunk(const WebPDemuxer *dm, const char *name)
{
    WebPChunkIterator it;
    emb_profile p = {0};
    if (WebPDemuxGetChunk(dm, name, 1, &it)) {
        p = (emb_profile){it.chunk.bytes, it.chunk.size}; /* points into the file, valid after release */
        WebPDemuxReleaseChunkIterator(&it);
    }
    return p;
}

/* The canvas from the first bytes, before the demuxer walks the file. */
static emb_status features(const uint8_t *b, size_t n, const emb_limits *l, WebPBitstreamFeatures *f, emb_error *err)
{
    VP8StatusCode code = WebPGetFeatures(b, n, f);
    if (code != VP8_STATUS_OK) return emb_fail(err, EMB_EFORMAT, "the WebP is damaged: its header cannot be read");
    return emb_limits_check(l, (uint64_t)f->width, (uint64_t)f->height, err);
}

static WebPDemuxer *demux(const uint8_t *b, size_t n) { return WebPDemux(&(WebPData){b, n}); }

emb_status emb_webp_probe(const uint8_t *b, size_t n, const emb_limits *l, emb_image_info *info, emb_error *err)
{
    WebPBitstreamFeatures f;
    emb_status st = features(b, n, l, &f, err);
    if (st != EMB_OK) return st;
    WebPDemuxer *dm = demux(b, n);
    if (dm == NULL) return emb_fail(err, EMB_EFORMAT, "the WebP is damaged: the file ends before the picture does");
    emb_profile exif = chunk(dm, "EXIF"), icc = chunk(dm, "ICCP");
    info->width = (uint32_t)f.width;
    info->height = (uint32_t)f.height;
    info->animated = f.has_animation != 0;
    if (exif.n + icc.n > l->max_meta_bytes)
        st = emb_fail(err, EMB_ELIMIT, "the WebP carries %zu bytes of metadata, the limit is %zu", exif.n + icc.n,
                      l->max_meta_bytes);
    else if (exif.n > 0)
        info->orientation = emb_exif_orientation(exif.bytes, exif.n);
    WebPDemuxDelete(dm);
    return st;
}

/* Lays w x h RGBA pixels on the white canvas at (x0, y0), all inside it. */
static void paste(emb_image *im, const uint8_t *rgba, uint32_t x0, uint32_t y0, uint32_t w, uint32_t h)
{
    for (uint32_t y = 0; y < h; y++) {
        uint8_t *to = im->px + ((size_t)(y0 + y) * im->width + x0) * 3;
        for (size_t x = 0; x < w; x++)
            for (size_t c = 0; c < 3; c++)
                to[x * 3 + c] = emb_over_white(rgba[((size_t)y * w + x) * 4 + c], rgba[((size_t)y * w + x) * 4 + 3]);
    }
}

/* One still bitstream of w x h as stored, shrunk by r: into RGB rows directly, or over white. */
static emb_status decode_still(const uint8_t *b, size_t n, emb_image *im, uint32_t x0, uint32_t y0, uint32_t w, uint32_t h,
                               bool scaled, bool alpha, emb_error *err)
{
    WebPDecoderConfig cfg;
    if (!WebPInitDecoderConfig(&cfg)) return emb_fail(err, EMB_EIO, "libwebp is another version than it was built with");
    uint8_t *rgba = NULL;
    if (alpha && (rgba = malloc((size_t)w * h * 4)) == NULL) return emb_fail(err, EMB_ENOMEM, "no memory for the picture");
    cfg.options.use_scaling = scaled;
    cfg.options.scaled_width = (int)w;
    cfg.options.scaled_height = (int)h;
    cfg.output.colorspace = alpha ? MODE_RGBA : MODE_RGB;
    cfg.output.is_external_memory = 1;
    cfg.output.u.RGBA.rgba = alpha ? rgba : im->px + ((size_t)y0 * im->width + x0) * 3;
    cfg.output.u.RGBA.stride = (int)(alpha ? w * 4 : im->width * 3);
    cfg.output.u.RGBA.size = alpha ? (size_t)w * h * 4 : ((size_t)(h - 1) * im->width + w) * 3;
    VP8StatusCode code = WebPDecode(b, n, &cfg);
    WebPFreeDecBuffer(&cfg.output);
    if (code == VP8_STATUS_OK && alpha) paste(im, rgba, x0, y0, w, h);
    free(rgba);
    if (code == VP8_STATUS_OUT_OF_MEMORY) return emb_fail(err, EMB_ENOMEM, "no memory for the picture");
    if (code == VP8_STATUS_NOT_ENOUGH_DATA || code == VP8_STATUS_SUSPENDED)
        return emb_fail(err, EMB_EFORMAT, "the WebP is damaged: the file ends before the picture does");
    if (code != VP8_STATUS_OK) return emb_fail(err, EMB_EFORMAT, "the WebP is damaged: its picture cannot be decoded");
    return EMB_OK;
}

static emb_status decode_frame(const WebPDemuxer *dm, const WebPBitstreamFeatures *f, emb_image **out, emb_error *err)
{
    WebPIterator it;
    if (!WebPDemuxGetFrame(dm, 1, &it)) return emb_fail(err, EMB_EFORMAT, "the WebP is damaged: it has no frame");
    emb_status st = EMB_OK;
    if (it.x_offset < 0 || it.y_offset < 0 || it.width <= 0 || it.height <= 0 || it.x_offset + it.width > f->width ||
        it.y_offset + it.height > f->height)
        st = emb_fail(err, EMB_EFORMAT, "the WebP is damaged: its first frame lies outside the canvas");
    if (st == EMB_OK) st = emb_image_new((uint32_t)f->width, (uint32_t)f->height, out, err);
    if (st == EMB_OK) {
        memset((*out)->px, 255, (size_t)f->width * (size_t)f->height * 3);
        st = decode_still(it.fragment.bytes, it.fragment.size, *out, (uint32_t)it.x_offset, (uint32_t)it.y_offset,
                          (uint32_t)it.width, (uint32_t)it.height, false, true, err);
    }
    WebPDemuxReleaseIterator(&it);
    return st;
}

emb_status emb_webp_decode(const uint8_t *b, size_t n, const emb_limits *l, uint32_t min_side, emb_image **out,
                           emb_error *err)
{
    WebPBitstreamFeatures f;
    emb_status st = features(b, n, l, &f, err);
    if (st != EMB_OK) return st;
    WebPDemuxer *dm = demux(b, n);
    if (dm == NULL) return emb_fail(err, EMB_EFORMAT, "the WebP is damaged: the file ends before the picture does");
    emb_image *im = NULL;
    if (f.has_animation) {
        st = decode_frame(dm, &f, &im, err);
    } else {
        uint32_t r = emb_reduction((uint32_t)f.width, (uint32_t)f.height, min_side);
        uint32_t w = ((uint32_t)f.width + r - 1) / r, h = ((uint32_t)f.height + r - 1) / r;
        st = emb_image_new(w, h, &im, err);
        if (st == EMB_OK) st = decode_still(b, n, im, 0, 0, w, h, r > 1, f.has_alpha != 0, err);
    }
    if (st == EMB_OK) {
        emb_color_rgb_to_srgb(im->px, (size_t)im->width * im->height, chunk(dm, "ICCP"));
        *out = im;
    } else {
        emb_image_free(im);
    }
    WebPDemuxDelete(dm);
    return st;
}
