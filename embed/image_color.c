/* image_color.c: embedded profiles to sRGB through lcms2. A photo is never refused for its profile: a damaged one is
 * as if it were absent, as browsers do. */
#include "image.h"

#include <lcms2.h>
#include <string.h>

/* ICC.1:2010, 7.2: manufacturer at 48, model at 52. The widespread sRGB profiles say so there; skipping them saves
 * most shops the transform. */
static bool says_srgb(emb_profile p)
{
    return p.n >= 128 && memcmp(p.bytes + 52, "sRGB", 4) == 0;
}

static cmsHTRANSFORM to_srgb(emb_profile p, cmsColorSpaceSignature space, cmsUInt32Number format)
{
    if (p.n < 128 || p.n > (16u << 20)) return NULL;
    cmsContext cx = cmsCreateContext(NULL, NULL); /* one per call: errors and caches stay in this thread */
    if (cx == NULL) return NULL;
    cmsHTRANSFORM t = NULL;
    cmsHPROFILE in = cmsOpenProfileFromMemTHR(cx, p.bytes, (cmsUInt32Number)p.n);
    cmsHPROFILE srgb = cmsCreate_sRGBProfileTHR(cx);
    if (in != NULL && srgb != NULL && cmsGetColorSpace(in) == space)
        t = cmsCreateTransformTHR(cx, in, format, srgb, TYPE_RGB_8, INTENT_PERCEPTUAL, 0);
    if (in != NULL) cmsCloseProfile(in);
    if (srgb != NULL) cmsCloseProfile(srgb);
    if (t == NULL) cmsDeleteContext(cx);
    return t;
}

static void finish(cmsHTRANSFORM t)
{
    cmsContext cx = cmsGetTransformContextID(t);
    cmsDeleteTransform(t);
    cmsDeleteContext(cx);
}

static void convert(cmsHTRANSFORM t, const uint8_t *in, size_t in_bytes, uint8_t *out, size_t pixels)
{
    const size_t step = 1u << 20;
    for (size_t i = 0; i < pixels; i += step) {
        size_t n = pixels - i < step ? pixels - i : step;
        cmsDoTransform(t, in + i * in_bytes, out + i * 3, (cmsUInt32Number)n);
    }
}

void emb_color_rgb_to_srgb(uint8_t *px, size_t pixels, emb_profile p)
{
    if (p.n == 0 || says_srgb(p)) return;
    cmsHTRANSFORM t = to_srgb(p, cmsSigRgbData, TYPE_RGB_8);
    if (t == NULL) return;
    convert(t, px, 3, px, pixels);
    finish(t);
}

void emb_color_grey_to_srgb(uint8_t *px, size_t pixels, emb_profile p)
{
    cmsHTRANSFORM t = p.n != 0 ? to_srgb(p, cmsSigGrayData, TYPE_GRAY_8) : NULL;
    if (t == NULL) return;
    uint8_t grey[256], rgb[256 * 3]; /* 256 levels at most: a table, not a transform per pixel */
    for (size_t i = 0; i < 256; i++) grey[i] = (uint8_t)i;
    cmsDoTransform(t, grey, rgb, 256);
    finish(t);
    for (size_t i = 0; i < pixels; i++) memcpy(px + i * 3, rgb + px[i * 3] * 3u, 3);
}

void emb_color_cmyk_to_srgb(const uint8_t *cmyk, uint8_t *rgb, size_t pixels, emb_profile p)
{
    cmsHTRANSFORM t = p.n != 0 ? to_srgb(p, cmsSigCmykData, TYPE_CMYK_8) : NULL;
    if (t != NULL) {
        convert(t, cmyk, 4, rgb, pixels);
        finish(t);
        return;
    }
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < 3; c++)
            rgb[i * 3 + c] = (uint8_t)(((255u - cmyk[i * 4 + c]) * (255u - cmyk[i * 4 + 3]) + 127u) / 255u);
}
