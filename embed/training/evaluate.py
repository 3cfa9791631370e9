"""evaluate.py: retrieval figures on classes that were never trained on, beside two classic descriptors.

Every held-out photo is a query against all the others of the held-out classes; a hit is a photo of the same class."""

import numpy as np


def colour_histogram(pixels):
    """HSV histogram, 12 x 4 x 4 bins, Hellinger-mapped (square root), the classic baseline for colour."""
    p = pixels.reshape(-1, 3).astype(np.float32) / 255
    high, low = p.max(1), p.min(1)
    spread = high - low
    safe = np.maximum(spread, 1e-6)
    r, g, b = p.T
    hue = np.where(high == r, (g - b) / safe % 6, np.where(high == g, (b - r) / safe + 2, (r - g) / safe + 4)) / 6
    sat = np.where(high > 0, spread / np.maximum(high, 1e-6), 0)
    bins = (np.minimum((hue * 12).astype(int), 11) * 16 + np.minimum((sat * 4).astype(int), 3) * 4 +
            np.minimum((high * 4).astype(int), 3))
    h = np.bincount(bins, minlength=192).astype(np.float32)
    return np.sqrt(h / h.sum())


def hog(pixels):
    """Histograms of oriented gradients (Dalal and Triggs, 2005): 16 px cells, 9 unsigned bins, 2 x 2 blocks, L2-Hys."""
    grey = pixels[:128, :128].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    gx, gy = np.zeros_like(grey), np.zeros_like(grey)
    gx[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    gy[1:-1] = grey[2:] - grey[:-2]
    size = np.hypot(gx, gy)
    turn = (np.arctan2(gy, gx) % np.pi) / np.pi * 9
    first = np.floor(turn - 0.5).astype(int)
    share = turn - 0.5 - first
    cells = np.zeros((8, 8, 9), np.float32)
    row, col = np.indices(grey.shape) // 16
    np.add.at(cells, (row, col, first % 9), size * (1 - share))
    np.add.at(cells, (row, col, (first + 1) % 9), size * share)
    blocks = np.stack([cells[i:i + 2, j:j + 2].ravel() for i in range(7) for j in range(7)])
    blocks /= np.linalg.norm(blocks, axis=1, keepdims=True) + 1e-3
    blocks = np.minimum(blocks, 0.2)
    blocks /= np.linalg.norm(blocks, axis=1, keepdims=True) + 1e-3
    return blocks.ravel()


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def figures(rows, labels):
    """-> recall@1, recall@10 (any hit among ten), mean average precision."""
    labels = np.asarray(labels)
    similarity = unit(rows) @ unit(rows).T
    np.fill_diagonal(similarity, -np.inf)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :-1]
    hit = labels[order] == labels[:, None]
    rank = np.arange(1, hit.shape[1] + 1)
    precision = np.cumsum(hit, 1) / rank
    return hit[:, 0].mean(), hit[:, :10].any(1).mean(), ((precision * hit).sum(1) / hit.sum(1)).mean()


def report(named_rows, labels, datasets):
    """Prints one line a descriptor, over all held-out classes and within each data set."""
    names = np.array(["/".join(l) for l in labels])
    print(f"{len(names)} photos of {len(set(names))} classes never trained on\n{'':22s}recall@1 recall@10   mAP   recall@1 by data set")
    for name, rows in named_rows.items():
        rows = np.asarray(rows)
        r1, r10, ap = figures(rows, names)
        within = []
        for d in datasets:
            at = np.array([l[0] == d for l in labels])
            if at.sum() > 1:
                within.append(f"{d} {figures(rows[at], names[at])[0]:.3f}")
        print(f"{name:22s}{r1:8.3f} {r10:9.3f} {ap:6.3f}   {', '.join(within)}", flush=True)
