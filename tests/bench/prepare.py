"""What tests/bench/embed and tests/bench/layers compare: models as ONNX files in float32 and in 8 bits, made once and kept in a
cache folder ($XDG_CACHE_HOME/likeness-bench), and the photos that 8 bits are calibrated and judged with."""
import csv
import glob
import hashlib
import os
import random
import subprocess
import sys

from peers import CACHE, PYTHON

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILTIN = os.path.join(ROOT, "embed/training/likeness-v1.onnx")
ZOO = os.path.join(ROOT, "tests/conformance/zoo.py")
SIX = ["resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large", "squeezenet1_1", "efficientnet_b0"]
CALIBRATION = 96


def photos_of(source):
    """(path, class) of every photo below a folder or in a tar file, and whether they are real ones: without a source those of
    ../shared/data/train.tar or, where it is not there, the drawings of deploy/demo. The class is a photo's folder, or what
    labels.csv (path, dataset, class) says."""
    wanted = source or os.path.join(ROOT, "../shared/data/train.tar")
    if not source and not os.path.exists(wanted):
        return below(os.path.join(ROOT, "deploy/demo")), False
    if os.path.isdir(wanted):
        return below(wanted), True
    folder = os.path.join(CACHE, f"photos-{os.path.basename(wanted)}-{os.path.getsize(wanted)}")

    def unpack(to):
        os.makedirs(to, exist_ok=True)
        subprocess.run(["tar", "xf", wanted, "-C", to], check=True)
    return below(remake(folder, unpack)), True


def below(folder):
    for labels in glob.glob(f"{folder}/labels.csv") + glob.glob(f"{folder}/*/labels.csv"):
        with open(labels) as f:
            rows = list(csv.DictReader(f))
        root = os.path.dirname(os.path.dirname(os.path.abspath(labels)))
        return [(os.path.join(root, r["path"]), r["dataset"] + "/" + r["class"]) for r in rows]
    found = sorted(p for e in ("jpg", "jpeg", "png", "webp") for p in glob.glob(f"{folder}/**/*.{e}", recursive=True))
    return [(p, os.path.dirname(p)) for p in found]


def sample(photos, n):
    return random.Random(1).sample(photos, min(n, len(photos)))


def fp32(name):
    if name == "builtin":
        return BUILTIN

    def export(out):
        for python in dict.fromkeys([sys.executable, "/usr/bin/python3"]):
            if subprocess.run([python, ZOO, name, out, "17"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
                return
        print(f"skipped: neither {sys.executable} nor /usr/bin/python3 exports {name}: they lack torch and torchvision (Debian: python3-torchvision)")
        sys.exit(77)
    return remake(os.path.join(CACHE, "models", name + ".onnx"), export)


def remake(path, make):
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        print(f"making {path}", file=sys.stderr, flush=True)
        make(path + ".part")
        os.rename(path + ".part", path)
    return path


def plain(path):
    """The network with Relu for every Swish and HardSwish (plain.py); None where no Python has onnx."""
    with open(path, "rb") as f:
        to = os.path.join(CACHE, "plain", hashlib.sha256(f.read()).hexdigest()[:16] + ".onnx")
    os.makedirs(os.path.dirname(to), exist_ok=True)
    for python in dict.fromkeys([sys.executable, PYTHON, "/usr/bin/python3"]):
        if os.path.exists(to):
            break
        make = [python, os.path.join(ROOT, "tests/bench/plain.py"), path, to + ".part"]
        if os.path.exists(python) and subprocess.run(make, stderr=subprocess.DEVNULL).returncode == 0:
            os.rename(to + ".part", to)
    return to if os.path.exists(to) else None


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
