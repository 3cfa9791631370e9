"""data.py: the labelled photos as one uint8 array, the split by class, and augmentation on whole batches."""

import csv
import hashlib
import io
import tarfile

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

STORED = 144  # side at which photos are kept: a little more than the input, so that crops stay sharp
EVALUATED = ("caltech101", "clothing", "grocery", "trashnet")  # more than one photo of a class


def held_out(dataset, name):
    """About one class in six is never trained on; the choice depends on its name alone."""
    return dataset in EVALUATED and hashlib.sha256(f"{dataset}/{name}".encode()).digest()[0] % 6 == 0


def load(tar_path, side=STORED):
    """-> (uint8 [n, side, side, 3], list of (dataset, class)); photos are squashed to a square as in serving."""
    with tarfile.open(tar_path) as tar:
        blobs = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}
    labels = next(v for k, v in blobs.items() if k.endswith("labels.csv"))
    rows = list(csv.DictReader(io.StringIO(labels.decode())))
    pixels = np.empty((len(rows), side, side, 3), np.uint8)
    for i, row in enumerate(rows):
        image = Image.open(io.BytesIO(blobs[row["path"]])).convert("RGB")
        pixels[i] = np.asarray(image.resize((side, side), Image.BILINEAR))
    return pixels, [(r["dataset"], r["class"]) for r in rows]


def augment(batch, side, rng):
    """uint8 [n, s, s, 3] -> float [n, 3, side, side] in 0..1: crop, stretch, turn, flip, colour, sometimes a wide border.

    Colour changes stay moderate: in a shop, colour is part of what looks alike."""
    n = batch.shape[0]
    x = torch.from_numpy(batch).permute(0, 3, 1, 2).float().div_(255)

    def uniform(low, high):
        return torch.empty(n).uniform_(low, high, generator=rng)

    zoom = torch.exp(uniform(np.log(0.5), np.log(1.0)))
    wide = uniform(0, 1) < 0.15
    zoom = torch.where(wide, uniform(1.0, 1.35), zoom)
    stretch = torch.exp(uniform(-0.22, 0.22))
    angle = uniform(-0.2, 0.2) * (uniform(0, 1) < 0.4)
    sx = zoom * stretch * torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    sy = zoom / stretch
    room_x, room_y = (1 - (zoom * stretch)).clamp(min=0), (1 - sy).clamp(min=0)
    tx, ty = uniform(-1, 1) * room_x, uniform(-1, 1) * room_y
    theta = torch.stack([torch.stack([sx * angle.cos(), -sy * angle.sin(), tx], 1),
                         torch.stack([sx * angle.sin(), sy * angle.cos(), ty], 1)], 1)
    grid = F.affine_grid(theta, (n, 3, side, side), align_corners=False)
    x = 1 - F.grid_sample(1 - x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)  # border is white

    def per_image(v):
        return v.view(n, 1, 1, 1)

    grey = (x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    x = grey + (x - grey) * per_image(uniform(0.6, 1.4) * (uniform(0, 1) > 0.04))
    mean = grey.mean((2, 3), keepdim=True)
    x = mean + (x - mean) * per_image(uniform(0.65, 1.35))
    x = x * per_image(uniform(0.7, 1.3))
    x = x * (1 + 0.06 * torch.randn(n, 3, 1, 1, generator=rng))  # white balance
    x = x + 0.03 * per_image((uniform(0, 1) < 0.3).float()) * torch.randn(x.shape, generator=rng)
    return x.clamp_(0, 1)
