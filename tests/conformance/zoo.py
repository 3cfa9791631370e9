"""Models for the comparison with ONNX Runtime: torchvision's architectures with random weights, exported to ONNX once and
kept in a cache folder. The batch norms get random statistics, so that folding them is really tested.
    zoo.py --list                                every classifier that this torchvision has
    zoo.py NAME OUT.onnx OPSET [unfolded]...     exports; unfolded: batch norms and constants stay as they are
"""
import inspect
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


def names():
    return torchvision.models.list_models(module=torchvision.models)


def build(name):
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
    return model


def write(name, model, path, opset, unfolded=False):
    side = 299 if name == "inception_v3" else 224
    how = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False} if unfolded else {}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        how["dynamo"] = False
    # Not under no_grad(): attention would become one operator of torch's own that has no form in ONNX.
    torch.onnx.export(model, (torch.randn(1, 3, side, side),), path + ".part", opset_version=opset, input_names=["image"], output_names=["out"], **how)
    os.rename(path + ".part", path)


def export(name, folder=FOLDER):
    path = os.path.join(folder, name + ".onnx")
    if not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        write(name, build(name), path, 17)
    return path


if __name__ == "__main__":
    if sys.argv[1] == "--list":
        print(torch.__version__, torchvision.__version__, *names(), sep="\n")
    else:
        write(sys.argv[1], build(sys.argv[1]), sys.argv[2], int(sys.argv[3]), "unfolded" in sys.argv[4:])
