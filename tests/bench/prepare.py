"""What tests/bench/embed and tests/bench/layers compare: models as ONNX files in float32 and in 8 bits, made once and kept in a
cache folder ($XDG_CACHE_HOME/likeness-bench), and the photos that 8 bits are calibrated and judged with."""
import csv
import glob
import hashlib
import os
import random
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "likeness-bench")
BUILTIN = os.path.join(ROOT, "embed/training/likeness-v1.onnx")
SIX = ["resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large", "squeezenet1_1", "efficientnet_b0"]
CALIBRATION = 96


def photos_of(folder):
    """(path, class) of every photo: from labels.csv (path,class of train.tar) where there is one, otherwise by folder."""
    labels = os.path.join(folder, "labels.csv")
    if os.path.exists(labels):
        with open(labels) as f:
            rows = list(csv.DictReader(f))
        return [(os.path.join(os.path.dirname(os.path.abspath(folder)), r["path"]), r["dataset"] + "/" + r["class"]) for r in rows]
    found = sorted(p for e in ("jpg", "jpeg", "png", "webp") for p in glob.glob(f"{folder}/**/*.{e}", recursive=True))
    return [(p, os.path.dirname(p)) for p in found]


def sample(photos, n):
    return random.Random(1).sample(photos, min(n, len(photos)))


def fp32(name):
    if name == "builtin":
        return BUILTIN
    path = os.path.join(CACHE, "models", name + ".onnx")
    if not os.path.exists(path):
        sys.path.insert(0, os.path.join(ROOT, "tests/conformance"))
        import zoo  # wants torch and torchvision, but only to make the file
        zoo.export(name)
    return path


def remake(path, make):
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        print(f"making {path}", file=sys.stderr, flush=True)
        make(path + ".part")
        os.rename(path + ".part", path)
    return path


def stamp(photos):
    """Changes with the photos and with the source of our quantiser."""
    h = hashlib.sha256()
    for path in sorted(glob.glob(f"{ROOT}/embed/quantize*.c")):
        with open(path, "rb") as f:
            h.update(f.read())
    h.update("\n".join(p for p, _ in photos).encode())
    return h.hexdigest()[:10]


def int8(name, photos, build):
    """By our quantiser."""
    picked = sample(photos, CALIBRATION)

    def make(out):
        with open(out + ".csv", "w") as f:
            f.write("id,image\n" + "".join(f"{i},{os.path.abspath(p)}\n" for i, (p, _) in enumerate(picked)))
        subprocess.run([f"{build}/server/likeness", "model", "quantize", fp32(name), out, "--calibrate", out + ".csv", "--evaluate", "0", "--quiet"],
                       check=True, stdout=subprocess.DEVNULL)
        os.remove(out + ".csv")
    return remake(os.path.join(CACHE, f"int8-{stamp(picked)}", name + ".onnx"), make)


def tensor(path, name):
    """As our preprocessing does, but for the filter's last digit: 8 bits are calibrated with it, nothing is compared."""
    import numpy as np
    from PIL import Image
    im = Image.open(path).convert("RGB")
    if name == "builtin":
        x = (np.asarray(im.resize((128, 128), Image.BILINEAR), "f4") / 255 - 0.5) / 0.25
    else:
        k = 256 / min(im.size)
        im = im.resize((round(im.width * k), round(im.height * k)), Image.BILINEAR)
        left, top = (im.width - 224) // 2, (im.height - 224) // 2
        x = (np.asarray(im.crop((left, top, left + 224, top + 224)), "f4") / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return x.transpose(2, 0, 1)[None].astype("f4")


def int8_ort(name, photos):
    """By ONNX Runtime's own quantiser: pairs of QuantizeLinear and DequantizeLinear, int8 weights by channel."""
    picked = sample(photos, CALIBRATION)

    def make(out):
        import logging
        logging.disable(logging.WARNING)
        import onnxruntime as ort
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        entry = ort.InferenceSession(fp32(name), providers=["CPUExecutionProvider"]).get_inputs()[0].name

        class Reader(CalibrationDataReader):
            left = iter(picked)

            def get_next(self):
                p = next(self.left, None)
                return None if p is None else {entry: tensor(p[0], name)}
        quantize_static(fp32(name), out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8,
                        activation_type=QuantType.QUInt8)
    folder = f"int8-onnxruntime-{hashlib.sha256(chr(10).join(p for p, _ in picked).encode()).hexdigest()[:10]}"
    return remake(os.path.join(CACHE, folder, name + ".onnx"), make)
