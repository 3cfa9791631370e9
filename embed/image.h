/* image.h: what the image files of this folder share. */
#ifndef LK_IMAGE_H
#define LK_IMAGE_H

#include "embed.h"
#include "error.h"

#define EMB_IMAGE_SLACK 64 /* readable bytes behind the last row, so that vector loads may run over */

struct emb_image { /* RGB, rows without gaps */
    uint32_t width, height;
    uint8_t *px;
    emb_part part; /* see emb_view */
};

typedef struct { /* embedded profile, borrowed from the file or owned by the decoder */
    const uint8_t *bytes;
    size_t n;
} emb_profile;

emb_limits emb_limits_or_default(const emb_limits *limits);
/* The checks on what a header says, before any memory is taken. */
EMB_CHECK emb_status emb_limits_check(const emb_limits *l, uint64_t width, uint64_t height, emb_error *err);
EMB_CHECK emb_status emb_deadline_check(const emb_limits *l, emb_error *err);

EMB_CHECK emb_status emb_image_new(uint32_t w, uint32_t h, emb_image **out, emb_error *err);

/* One per format. probe fills everything of info but the format, width and height not yet turned by the orientation;
 * decode returns pixels as stored, already sRGB and flattened. */
EMB_CHECK emb_status emb_jpeg_probe(const uint8_t *b, size_t n, const emb_limits *l, emb_image_info *info, emb_error *err);
EMB_CHECK emb_status emb_jpeg_decode(const uint8_t *b, size_t n, const emb_limits *l, uint32_t min_side, emb_image **out,
                                     emb_error *err);
EMB_CHECK emb_status emb_png_probe(const uint8_t *b, size_t n, const emb_limits *l, emb_image_info *info, emb_error *err);
EMB_CHECK emb_status emb_png_decode(const uint8_t *b, size_t n, const emb_limits *l, emb_image **out, emb_error *err);
EMB_CHECK emb_status emb_webp_probe(const uint8_t *b, size_t n, const emb_limits *l, emb_image_info *info, emb_error *err);
EMB_CHECK emb_status emb_webp_decode(const uint8_t *b, size_t n, const emb_limits *l, uint32_t min_side, emb_image **out,
                                     emb_error *err);

/* Orientation 1..8 from a TIFF block (after "Exif\0\0"); 1 when there is none or it is damaged. */
uint32_t emb_exif_orientation(const uint8_t *tiff, size_t n);
/* Turns the image upright; may replace *im. */
EMB_CHECK emb_status emb_image_orient(emb_image **im, uint32_t orientation, emb_error *err);

/* Pixels of the profile's space to sRGB, in place. A profile that is damaged, of another colour space, or sRGB itself
 * leaves them as they are. */
void emb_color_rgb_to_srgb(uint8_t *px, size_t pixels, emb_profile profile);
void emb_color_grey_to_srgb(uint8_t *px, size_t pixels, emb_profile profile); /* px is RGB with r = g = b */
/* CMYK (0 = no ink) to RGB; without a usable profile by (255 - c) * (255 - k) / 255. */
void emb_color_cmyk_to_srgb(const uint8_t *cmyk, uint8_t *rgb, size_t pixels, emb_profile profile);
/* One colour over white, rounded. */
static inline uint8_t emb_over_white(uint32_t v, uint32_t alpha)
{
    return (uint8_t)((v * alpha + 255u * (255u - alpha) + 127u) / 255u);
}

/* What the sides of a w x h picture are divided by while it is decoded, 1, 2, 4 or 8 (for which libjpeg-turbo has vector code): the
 * most that keeps the short side >= min_side and the long one >= EMB_KEEP_SIDE; 1 for min_side 0. */
uint32_t emb_reduction(uint32_t w, uint32_t h, uint32_t min_side);

#endif
