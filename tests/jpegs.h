/* jpegs.h: JPEGs of every kind, made here: for the tests of the decoder and for damaging them. */
#ifndef LK_TEST_JPEGS_H
#define LK_TEST_JPEGS_H

#include "test.h"

#include <stdbool.h>
#include <jpeglib.h>

typedef struct {
    uint32_t w, h, hs, vs; /* size, sampling of luma over chroma; 0 x 0 is grey */
    uint32_t restart;
    bool progressive, optimise;
} jpeg_kind;

/* Waves, coarse enough that what remains of them at an eighth is known. Caller frees. */
static inline uint8_t *jpeg_picture(uint32_t w, uint32_t h)
{
    uint8_t *px = malloc((size_t)w * h * 3);
    REQUIRE(px != NULL);
    for (uint32_t y = 0; y < h; y++)
        for (uint32_t x = 0; x < w; x++)
            for (uint32_t c = 0; c < 3; c++)
                px[((size_t)y * w + x) * 3 + c] = (uint8_t)(128 + 50 * sin(x * 0.11 + y * 0.03 + c) + 50 * cos(y * 0.08 - x * 0.02 * c));
    return px;
}

static inline uint8_t *jpeg_encode(jpeg_kind k, const uint8_t *px, unsigned long *n)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr e;
    uint8_t *bytes = NULL;
    c.err = jpeg_std_error(&e);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &bytes, n);
    c.image_width = k.w;
    c.image_height = k.h;
    c.input_components = 3;
    c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    if (k.hs == 0) jpeg_set_colorspace(&c, JCS_GRAYSCALE);
    jpeg_set_quality(&c, 92, TRUE);
    if (k.hs > 0) {
        c.comp_info[0].h_samp_factor = (int)k.hs;
        c.comp_info[0].v_samp_factor = (int)k.vs;
    }
    c.restart_interval = k.restart;
    c.optimize_coding = k.optimise;
    if (k.progressive) jpeg_simple_progression(&c);
    jpeg_start_compress(&c, TRUE);
    while (c.next_scanline < c.image_height) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(px + (size_t)c.next_scanline * k.w * 3);
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    return bytes;
}

#endif
