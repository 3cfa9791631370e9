#!/usr/bin/env python3
"""make_image_fixtures.py: small pictures of every kind that shops send, and what Pillow makes of them.

Writes images/NAME.{jpg,png,webp} and, for each, images/NAME.rgb: Pillow's upright RGB on white, raw bytes; for JPEGs with less
chroma than luma, where decoders rightly differ, also images/NAME.truth: the picture before it was encoded. Also resize/*.rgb:
Pillow's resize of resize/source.png at several sizes. Needs Pillow, numpy and OpenCV; the results are kept in the tree.
"""
import io, pathlib, struct, zlib
import cv2
import numpy as np
from PIL import Image, ImageCms, ImageOps

here = pathlib.Path(__file__).parent
out = here / "images"
out.mkdir(exist_ok=True)
(here / "resize").mkdir(exist_ok=True)


def picture(w, h):
    y, x = np.mgrid[0:h, 0:w].astype(float)
    r = 128 + 100 * np.sin(x / w * 5) * np.cos(y / h * 3)
    g = 255 * x / w
    b = 255 * (1 - y / h) * (0.5 + 0.5 * np.cos(x / w * 9))
    a = np.stack([r, g, b], -1)
    a[h // 5: h // 2, w // 6: w // 3] = (220, 30, 40)
    a[h // 2: h * 4 // 5, w // 2: w * 4 // 5] = (20, 60, 200)
    return Image.fromarray(a.clip(0, 255).astype(np.uint8))


def raw(image):
    image = image.convert("RGB")
    return struct.pack("<II", *image.size) + image.tobytes()


def keep(name, data, shown, truth=None):
    (out / name).write_bytes(data)
    (out / (name + ".rgb")).write_bytes(raw(shown))
    if truth is not None:
        (out / (name + ".truth")).write_bytes(raw(truth))


def saved(image, kind, **options):
    f = io.BytesIO()
    image.save(f, kind, **options)
    return f.getvalue()


def on_white(image):
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def upright(data):
    return on_white(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))


base = picture(60, 44)
for o in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = o
    d = saved(base, "JPEG", quality=90, subsampling=0, exif=exif)
    keep(f"orient{o}.jpg", d, upright(d))
for name, image, options in [
    ("baseline.jpg", base, dict(quality=90)), ("progressive.jpg", base, dict(quality=90, progressive=True)),
    ("444.jpg", base, dict(quality=90, subsampling=0)), ("grey.jpg", base.convert("L"), dict(quality=90)),
    ("odd.jpg", picture(17, 9), dict(quality=90)), ("one.jpg", picture(1, 1), dict(quality=90))]:
    d = saved(image, "JPEG", **options)
    keep(name, d, Image.open(io.BytesIO(d)), image if "subsampling" not in options and image.mode == "RGB" else None)
for name, factor in [("s411.jpg", 0x411111), ("s420.jpg", 0x221111), ("s422.jpg", 0x211111), ("s440.jpg", 0x121111)]:
    image = picture(83, 61)
    bgr = np.ascontiguousarray(np.asarray(image)[..., ::-1])
    d = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor])[1].tobytes()
    keep(name, d, Image.open(io.BytesIO(d)), image)
cmyk = base.convert("CMYK")
d = saved(cmyk, "JPEG", quality=92)
keep("cmyk.jpg", d, Image.open(io.BytesIO(d)))
alpha = base.convert("RGBA")
alpha.putalpha(Image.fromarray((np.mgrid[0:44, 0:60][1] * 255 / 59).astype(np.uint8)))
palette = base.quantize(32)
keyed = base.quantize(31)
for name, image, options in [
    ("rgb.png", base, {}), ("rgba.png", alpha, {}), ("grey.png", base.convert("L"), {}), ("bit.png", base.convert("1"), {}),
    ("la.png", alpha.convert("LA"), {}), ("palette.png", palette, {}), ("palette_keyed.png", keyed, dict(transparency=3))]:
    d = saved(image, "PNG", **options)
    keep(name, d, on_white(Image.open(io.BytesIO(d))))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(w, h, depth, colour, rows, interlace=0, extra=b""):
    head = struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


px = np.asarray(base)
deep = (px.astype(np.uint16) * 257).astype(">u2")
keep("rgb16.png", raw_png(60, 44, 16, 2, b"".join(b"\0" + r.tobytes() for r in deep)), base)
passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
for name, array, colour, shown in [("adam7.png", px, 2, base), ("adam7_alpha.png", np.asarray(alpha), 6, on_white(alpha))]:
    rows = b"".join(b"\0" + array[y, x0::dx].tobytes() for x0, y0, dx, dy in passes for y in range(y0, 44, dy))
    keep(name, raw_png(60, 44, 8, colour, rows, 1), shown)
# A profile that is far from sRGB: LittleCMS's built-in XYZ has no RGB device, so swap the primaries of sRGB's own file.
profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
tags = {bytes(profile[132 + i * 12:136 + i * 12]): 132 + i * 12 for i in range(struct.unpack(">I", profile[128:132])[0])}
r, g = tags[b"rXYZ"], tags[b"gXYZ"]
profile[r + 4:r + 12], profile[g + 4:g + 12] = profile[g + 4:g + 12], profile[r + 4:r + 12]
swapped = ImageCms.profileToProfile(base, ImageCms.ImageCmsProfile(io.BytesIO(bytes(profile))), ImageCms.createProfile("sRGB"))
keep("icc.png", saved(base, "PNG", icc_profile=bytes(profile)), swapped)
d = saved(base, "JPEG", quality=95, subsampling=0, icc_profile=bytes(profile))
keep("icc.jpg", d, ImageCms.profileToProfile(Image.open(io.BytesIO(d)), ImageCms.ImageCmsProfile(io.BytesIO(bytes(profile))),
                                             ImageCms.createProfile("sRGB")))
exif = Image.Exif()
exif[0x0112] = 6
for name, image, options in [
    ("lossy.webp", base, dict(quality=90)), ("lossless.webp", base, dict(lossless=True)),
    ("alpha.webp", alpha, dict(lossless=True, exact=True)), ("turned.webp", base, dict(lossless=True, exif=exif.tobytes()))]:
    d = saved(image, "WEBP", **options)
    keep(name, d, upright(d))
d = saved(base, "WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", base.size, "black")], duration=100)
keep("animated.webp", d, base)

# Damaged and hostile ones: refused, never decoded.
bad = here / "hostile"
bad.mkdir(exist_ok=True)
jpeg = saved(base, "JPEG", quality=90)
sof = jpeg.index(b"\xff\xc0")
(bad / "huge_sof.jpg").write_bytes(jpeg[:sof + 5] + struct.pack(">HH", 60000, 60000) + jpeg[sof + 9:])
prog = saved(base, "JPEG", quality=90, progressive=True)
last = prog.rindex(b"\xff\xda")
(bad / "many_scans.jpg").write_bytes(prog[:-2] + prog[last:-2] * 500 + prog[-2:])
(bad / "truncated.jpg").write_bytes(jpeg[:len(jpeg) * 2 // 3])
(bad / "huge_ihdr.png").write_bytes(raw_png(60000, 60000, 8, 2, b"\0" * 100))
bomb = chunk(b"iCCP", b"x\0\0" + zlib.compress(b"\0" * 40000000, 9))
(bad / "icc_bomb.png").write_bytes(raw_png(60, 44, 8, 2, b"".join(b"\0" + r.tobytes() for r in px), 0, bomb))
(bad / "truncated.png").write_bytes(saved(base, "PNG")[:300])
webp = bytearray(saved(alpha, "WEBP", lossless=True))
(bad / "truncated.webp").write_bytes(bytes(webp[:len(webp) // 2]))
bits = (16000 - 1) | (16000 - 1) << 14
vp8l = b"\x2f" + struct.pack("<I", bits) + b"\0" * 95
vp8l = b"VP8L" + struct.pack("<I", len(vp8l)) + vp8l
(bad / "huge_canvas.webp").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(vp8l)) + b"WEBP" + vp8l)
(bad / "text.bin").write_bytes(b"this is not a picture, whatever its name says\n")

source = picture(97, 71)
noise = np.random.default_rng(5).integers(-40, 40, (71, 97, 3))
source = Image.fromarray((np.asarray(source).astype(int) + noise).clip(0, 255).astype(np.uint8))
source.save(here / "resize" / "source.png")
for w, h in [(97, 71), (48, 35), (31, 50), (13, 9), (128, 128), (1, 1), (97, 9), (200, 20)]:
    (here / "resize" / f"{w}x{h}.rgb").write_bytes(source.resize((w, h), Image.BILINEAR).tobytes())
for name, f in ("bicubic", Image.BICUBIC), ("lanczos", Image.LANCZOS):
    for w, h in [(97, 71), (48, 35), (13, 9), (128, 128), (200, 20)]:
        (here / "resize" / f"{name}_{w}x{h}.rgb").write_bytes(source.resize((w, h), f).tobytes())
(here / "resize" / "crop_24x24.rgb").write_bytes(source.resize((24, 24), Image.BILINEAR, box=(97 * .25, 71 * .125, 97 * .75, 71 * .875)).tobytes())
