#!/usr/bin/env python3
"""quantised_test.py BUILD [MODEL.onnx...]: what `likeness model quantize` writes, in ONNX Runtime and here: the general executor and the
plan in 8 bits. By the cosine between the outputs, which must be at least 0.995, of the built-in model and of networks that use every
step. Calibrated with deploy/demo. Needs PyPI's onnxruntime; skips (77) with a line without it."""
import glob
import os
import subprocess
import sys
import tempfile

try:
    import against_ort
    import numpy as np
except ImportError as e:
    print(f"skipped: {e.name} is not installed for {sys.executable}")
    sys.exit(77)

BOUND = 0.995
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def cosine(a, b):
    a, b = a.astype("f8").ravel(), b.astype("f8").ravel()
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) if a.shape == b.shape else 0.0


def main():
    build = sys.argv[1]
    paths = sys.argv[2:] or [f"{ROOT}/embed/training/likeness-v1.onnx"] + [
        p for p in sorted(glob.glob(f"{ROOT}/tests/data/onnx/*.onnx")) if not os.path.basename(p).startswith("int8")]
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            out = os.path.join(folder, "eight.onnx")
            done = subprocess.run([f"{build}/server/likeness", "model", "quantize", path, out, "--calibrate", f"{ROOT}/deploy/demo", "--photos", "24",
                                   "--evaluate", "0", "--quiet"], capture_output=True, text=True)
            if done.returncode != 0:
                print(f"{os.path.basename(path):28} FAILED: {done.stderr.strip()}", flush=True)
                bad += 1
                continue
            want, general, planned, _ = against_ort.outputs(build, out, "int8")
            near = [cosine(general, want)] + ([cosine(planned, want)] if planned.size == want.size else [])
            ok = min(near) >= BOUND
            bad += not ok
            print(f"{os.path.basename(path):28} model run {near[0]:.6f}   plan {f'{near[1]:.6f}' if len(near) > 1 else 'other output'}   {'ok' if ok else 'TOO FAR'}", flush=True)
    sys.exit(1 if bad else 0)


main()
