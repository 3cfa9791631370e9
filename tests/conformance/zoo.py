"""Models for the comparison with ONNX Runtime: torchvision's architectures with random weights, exported to ONNX once and
kept in a cache folder. The batch norms get random statistics, so that folding them is really tested."""
import os
import sys

import torch

try:
    import torchvision
except RuntimeError:  # a torchvision whose compiled operators are for another build of torch: classifiers need none of them
    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for name in [n for n in sys.modules if n.startswith("torchvision")]:
        del sys.modules[name]
    import torchvision

FOLDER = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "likeness-bench", "models")


def export(name, folder=FOLDER):
    path = os.path.join(folder, name + ".onnx")
    if os.path.exists(path):
        return path
    os.makedirs(folder, exist_ok=True)
    torch.manual_seed(7)
    extra = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    model = getattr(torchvision.models, name)(weights=None, **extra).eval()
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
            m.weight.data.uniform_(0.5, 1.5)
            m.bias.data.normal_(0, 0.1)
        elif isinstance(m, torch.nn.Linear) and not m.weight.any():
            m.weight.data.normal_(0, 0.02)  # heads that start as zeros would compare nothing
    side = 299 if name == "inception_v3" else 224
    torch.onnx.export(model, (torch.randn(1, 3, side, side),), path + ".part", opset_version=17, input_names=["image"],
                      output_names=["out"], dynamo=False)
    os.rename(path + ".part", path)
    return path
