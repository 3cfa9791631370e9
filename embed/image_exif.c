/* image_exif.c: the one EXIF tag that changes what is seen, read without trusting any offset. TIFF 6.0, section 2. */
#include "image.h"

typedef struct {
    const uint8_t *b;
    size_t n;
    bool big;
} tiff;

static uint32_t u16(const tiff *t, size_t at)
{
    if (at + 2 > t->n) return 0;
    return t->big ? (uint32_t)t->b[at] << 8 | t->b[at + 1] : (uint32_t)t->b[at + 1] << 8 | t->b[at];
}

static uint32_t u32(const tiff *t, size_t at)
{
    return t->big ? u16(t, at) << 16 | u16(t, at + 2) : u16(t, at + 2) << 16 | u16(t, at);
}

uint32_t emb_exif_orientation(const uint8_t *bytes, size_t n)
{
    if (n >= 6 && bytes[0] == 'E' && bytes[1] == 'x' && bytes[2] == 'i' && bytes[3] == 'f') bytes += 6, n -= 6;
    if (n < 14 || (bytes[0] != 'I' && bytes[0] != 'M') || bytes[0] != bytes[1]) return 1;
    tiff t = {bytes, n, bytes[0] == 'M'};
    if (u16(&t, 2) != 42) return 1;
    size_t ifd = u32(&t, 4);
    if (ifd > n - 2) return 1;
    size_t entries = u16(&t, ifd);
    for (size_t i = 0; i < entries && ifd + 2 + i * 12 + 12 <= n; i++) {
        size_t at = ifd + 2 + i * 12;
        if (u16(&t, at) != 0x0112) continue;
        uint32_t o = u16(&t, at + 2) == 3 /* SHORT */ ? u16(&t, at + 8) : u32(&t, at + 8);
        return o >= 1 && o <= 8 ? o : 1;
    }
    return 1;
}
