#!/usr/bin/env python3
"""generate.py [OUT]: draws the demo catalogue (pictures, catalog.csv) and the query photos into OUT (default: here).

Everything is our own drawing, so the pictures are as free as the program. Needs rsvg-convert (librsvg2-bin),
pngtopnm (netpbm) and cjpeg (libjpeg-turbo-progs); the rendered JPEGs are kept in the tree, so only who changes a drawing runs this.
"""

import csv
import pathlib
import random
import subprocess
import sys
import tempfile

from drawing import COLOURS, CONTRAST, METALS, WOODS, Drawing, packshot, scene
from products import PRODUCTS

EACH = 6  # items of every kind
PATTERNS = ["plain", "plain", "stripes", "dots", "check", "floral", "zigzag", "pinstripes"]
BACKDROPS = ["#f7f7f5", "#ffffff", "#f3f1ee", "#f2f5f8"]
QUERIES = [ # kind, colour, pattern, then how the photo was taken
    ("t-shirt", "blue", "stripes", dict(wall="#b9ad9c", floor="#7a5a3e", turn=-9, skew=5, zoom=.84, light=.88)),
    ("dress", "red", "floral", dict(wall="#9fb1ad", floor="#8a8378", turn=6, squeeze=.86, zoom=.88)),
    ("sneaker", "white", "plain", dict(wall="#8c8f99", floor="#5c5f66", turn=12, zoom=.74, light=1.12)),
    ("handbag", "brown", "plain", dict(wall="#c9c3b4", floor="#a07a55", skew=-8, zoom=.8, light=.84)),
    ("armchair", "green", "plain", dict(wall="#d6cdbd", floor="#93714d", squeeze=.85, zoom=.82, light=.92)),
    ("mug", "yellow", "dots", dict(wall="#77808c", floor="#b58a5c", turn=-5, zoom=.66, light=1.15)),
    ("kettle", "red", "plain", dict(wall="#cfd6d4", floor="#4a4a4e", turn=4, skew=4, zoom=.76, light=.9)),
    ("backpack", "navy", "plain", dict(wall="#a8987f", floor="#6b7a58", turn=-7, squeeze=.9, zoom=.8, light=.95)),
]


def material_of(kind, r):
    if kind in ("table", "shelf"): return r.choice(list(WOODS))
    if kind in ("chair",): return "wood"
    if kind in ("pan", "kettle", "pot"): return r.choice(list(METALS) + ["enamel", "enamel"])
    return {"mug": "stoneware", "plate": "stoneware", "bowl": "stoneware", "lamp": "linen", "boot": "leather",
            "heel": "leather", "handbag": "leather", "sandal": "leather", "sneaker": "canvas"}.get(kind, r.choice(["cotton", "linen", "wool"]))


def draw(kind, function, colour, pattern, material, r):
    base = COLOURS[colour]
    if material in WOODS: base = WOODS[material]
    if material in METALS: base = METALS[material]
    d = Drawing(base, pattern, COLOURS[CONTRAST[colour]], scale=r.uniform(.8, 1.5))
    return d, function(d, r)


def render(svg, path, quality, width=384, height=384):
    """SVG text -> JPEG file, by way of PNG and PPM: rsvg-convert writes the one, cjpeg reads the other."""
    with tempfile.NamedTemporaryFile(suffix=".png") as png, tempfile.NamedTemporaryFile(suffix=".ppm") as ppm:
        subprocess.run(["rsvg-convert", "-w", str(width), "-h", str(height), "-o", png.name], input=svg.encode(), check=True)
        subprocess.run(["pngtopnm", png.name], stdout=ppm, check=True)
        subprocess.run(["cjpeg", "-quality", str(quality), "-optimize", "-outfile", str(path), ppm.name], check=True)


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    (out / "images").mkdir(parents=True, exist_ok=True)
    (out / "queries").mkdir(exist_ok=True)
    by_kind = {p[0]: p for p in PRODUCTS}
    r = random.Random(20)
    rows = []
    for kind, function, category, patterned, (low, high) in PRODUCTS:
        colours = r.sample(list(COLOURS), EACH)
        wanted = [(q[1], q[2]) for q in QUERIES if q[0] == kind]
        for i in range(EACH):
            colour, pattern = (wanted[i] if i < len(wanted) else
                               (colours[i], r.choice(PATTERNS) if patterned else "plain"))
            material = material_of(kind, r)
            if wanted and i < len(wanted) and material in METALS: material = "enamel"
            name = f"{kind}-{i + 1}"
            drawing, shadow = draw(kind, function, colour, pattern, material, r)
            shown = material if material in WOODS or material in METALS else colour
            render(packshot(drawing, r.choice(BACKDROPS), shadow, zoom=r.uniform(.9, 1.04)), out / "images" / f"{name}.jpg", 84)
            title = " ".join(w for w in (shown.capitalize(), pattern if pattern != "plain" else "", kind) if w)
            rows.append([name, f"images/{name}.jpg", title, f"{category}/{kind}", shown, pattern, material,
                         f"{r.randint(low, high - 1) + r.choice([.0, .5, .9, .95]):.2f}"])
    with open(out / "catalog.csv", "w", newline="", encoding="utf-8") as f:
        w = csv.writer(f, lineterminator="\n")
        w.writerow("id image title category colour pattern material price".split())
        w.writerows(rows)
    for n, (kind, colour, pattern, view) in enumerate(QUERIES):
        r = random.Random(500 + n) # other proportions than any item of the catalogue
        material = "enamel" if kind == "kettle" else material_of(kind, r)
        drawing, shadow = draw(kind, by_kind[kind][1], colour, pattern, material, r)
        render(scene(drawing, shadow=shadow, seed=n + 1, **view), out / "queries" / f"{colour}-{kind}.jpg", 80, 640, 480)
    print(f"{len(rows)} items, {len(QUERIES)} queries in {out}")


if __name__ == "__main__":
    main()
