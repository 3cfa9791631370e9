"""model.py: the network of the built-in model: a small residual CNN of ordinary 3x3 convolutions.

Ordinary convolutions rather than depthwise ones: at this size they use a CPU's multiply-add units best, both in training
and in serving. Input [n, 3, 128, 128], pixels (x / 255 - 0.5) / 0.25; output [n, 256], not normalised.
"""

import torch
from torch import nn
import torch.nn.functional as F

INPUT = 128
DIM = 256
MEAN, STD = 0.5, 0.25
WIDTHS = (24, 40, 80, 128, 192)


def conv_bn(cin, cout, stride=1):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout))


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity; the second starts at zero, so a new block changes nothing."""

    def __init__(self, c):
        super().__init__()
        self.a, self.b = conv_bn(c, c), conv_bn(c, c)
        nn.init.zeros_(self.b[1].weight)

    def forward(self, x):
        return F.relu(x + self.b(F.relu(self.a(x))))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        w0, w1, w2, w3, w4 = WIDTHS
        self.stem = conv_bn(3, w0, 2)
        self.down1, self.block1 = conv_bn(w0, w1, 2), Residual(w1)
        self.down2, self.block2 = conv_bn(w1, w2, 2), Residual(w2)
        self.down3, self.block3 = conv_bn(w2, w3, 2), Residual(w3)
        self.down4 = conv_bn(w3, w4, 2)
        self.embed = nn.Linear(w4, DIM)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = self.block1(F.relu(self.down1(x)))
        x = self.block2(F.relu(self.down2(x)))
        x = self.block3(F.relu(self.down3(x)))
        x = F.relu(self.down4(x))
        return self.embed(F.adaptive_avg_pool2d(x, 1).flatten(1))


class CosineHead(nn.Module):
    """CosFace (Wang et al., 2018): cosine to a class vector, less a margin for the true class, times a scale."""

    def __init__(self, classes, scale=18.0, margin=0.15):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, DIM) * 0.05)
        self.scale, self.margin = scale, margin

    def forward(self, e, y, margin_share=1.0):
        cosine = F.normalize(e) @ F.normalize(self.weight).t()
        cosine = cosine - F.one_hot(y, cosine.shape[1]) * (self.margin * margin_share)
        return F.cross_entropy(self.scale * cosine, y, label_smoothing=0.05)
