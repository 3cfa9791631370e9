/* image_scan.h: the quick way through the JPEGs that shops send. */
#ifndef LK_IMAGE_SCAN_H
#define LK_IMAGE_SCAN_H

#include "image.h"

#include <stdio.h>
#include <jpeglib.h>

typedef enum {
    EMB_SCAN_DONE,
    EMB_SCAN_LEFT,  /* not of the usual kind, or irregular anywhere: libjpeg decides what it is */
    EMB_SCAN_LATE,  /* the deadline passed */
    EMB_SCAN_NOMEM,
} emb_scan_result;

/* Decodes the picture whose header `c` has read (jpeg_read_header; c is not changed) at eighths/8 of its size into *out, RGB, as
 * stored. Takes Huffman-coded pictures of 8 bits, grey or YCbCr, whose components divide the largest sampling evenly and lie in one
 * scan; and progressive ones at 1/8. What it does not take, and every irregularity in the data, leaves *out alone. */
emb_scan_result emb_scan_decode(const struct jpeg_decompress_struct *c, const emb_limits *l, uint32_t eighths, emb_image **out);

#endif
