#!/usr/bin/env python3
"""torchvision_test.py BUILD [--all] [--opsets 11,17] [--unfolded] [MODEL...]: torchvision's classifiers, random weights, exported by
`torch.onnx.export` as it comes, in ONNX Runtime and here (against_ort.py). The largest difference, relative to the output's norm, must
stay within 1e-3.
  --all        every classifier of torchvision, not the few of the short form
  --opsets     which (11 to 17 in the long form)
  --unfolded   also with batch norms and constants as they are in training
Needs PyPI's onnxruntime; exports with this Python's torch and torchvision or else with Debian's (/usr/bin/python3, python3-torchvision).
Skips (77) with a line without them."""
import argparse
import os
import subprocess
import sys
import tempfile

try:
    import against_ort
except ImportError as e:
    print(f"skipped: {e.name} is not installed for {sys.executable}")
    sys.exit(77)

BOUND = 1e-3
ZOO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "zoo.py")
SHORT = ["resnet18", "mobilenet_v2", "mobilenet_v3_large", "squeezenet1_1", "efficientnet_b0", "shufflenet_v2_x1_0", "googlenet", "convnext_tiny"]


def exporter(wanted):
    """A Python that has torch, torchvision and what torch.onnx needs, and what it has."""
    for python in [wanted] if wanted else ["/usr/bin/python3", sys.executable]:
        done = subprocess.run([python, ZOO, "--list"], capture_output=True, text=True)
        if done.returncode == 0:
            torch, torchvision, *names = done.stdout.split()
            print(f"exported by torch {torch}, torchvision {torchvision} ({python}); onnxruntime {against_ort.ort.__version__}")
            return python, names
    print(f"skipped: neither /usr/bin/python3 nor {sys.executable} has torch and torchvision (Debian: python3-torchvision)")
    sys.exit(77)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build")
    p.add_argument("--all", action="store_true")
    p.add_argument("--opsets")
    p.add_argument("--unfolded", action="store_true")
    p.add_argument("--python", help="the one that exports")
    p.add_argument("models", nargs="*")
    args = p.parse_intermixed_args()
    python, names = exporter(args.python)
    names = args.models or (names if args.all else SHORT)
    opsets = [int(o) for o in args.opsets.split(",")] if args.opsets else list(range(11, 18)) if args.all else [11, 17]
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        for name in names:
            for opset in opsets:
                for how in [[], ["unfolded"]] if args.unfolded else [[]]:
                    bad += not one(args.build, python, path, name, opset, how)
    sys.exit(1 if bad else 0)


def one(build, python, path, name, opset, how):
    label = f"{name:24} opset {opset}{' unfolded' if how else ''}"
    done = subprocess.run([python, ZOO, name, path, str(opset), *how], capture_output=True, text=True)
    if done.returncode != 0:  # torch's own limit: an operator that this opset does not have, a file of 2 GB
        print(f"{label:42} not exported: {done.stderr.strip().splitlines()[-1][:150]}", flush=True)
        return True
    try:
        general, planned, shake = against_ort.compare(build, path)
    except subprocess.CalledProcessError as e:
        print(f"{label:42} FAILED: {e.stderr.strip()}", flush=True)
        return False
    ok = general <= BOUND and (planned is None or planned <= BOUND)
    print(f"{label:42} model run {general:.1e}   plan {'other output' if planned is None else f'{planned:.1e}'}   {'ok' if ok else 'TOO FAR'}"
          f"{'' if ok else f' (noise of 1e-5 in the picture makes {shake:.1e})'}", flush=True)
    return ok


main()
