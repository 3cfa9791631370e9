#!/usr/bin/env python3
"""torchvision_test.py BUILD [MODEL...]: torchvision's networks, random weights, in ONNX Runtime and here: `likeness model run`
(the general executor) and the plan that embeds (bench_model --check). The largest difference, relative to the output's norm,
must stay within 1e-4. Needs PyPI's torch, torchvision, onnxruntime, onnx; skips (77) with a line without them."""
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import onnx  # noqa: F401  torch.onnx.export needs it
    import onnxruntime as ort
    import zoo
except ImportError as e:
    print(f"skipped: {e.name} is not installed for {sys.executable}")
    sys.exit(77)

BOUND = 1e-4


def off_by(got, want):
    got, want = got.ravel(), want.ravel()
    return float(np.abs(got - want).max() / np.linalg.norm(want)) if got.shape == want.shape else float("inf")


def compare(build, name, folder):
    path = zoo.export(name)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(5).normal(0, 1, session.get_inputs()[0].shape).astype("f4")
    want = session.run(None, {"image": x})[0]
    np.save(os.path.join(folder, "image.npy"), x)
    x.tofile(os.path.join(folder, "image.f32"))
    subprocess.run([os.path.join(build, "server/likeness"), "model", "run", path, "--input", f"image={folder}/image.npy", "--output-dir", folder],
                   check=True, capture_output=True, text=True)
    general = off_by(np.load(os.path.join(folder, "out.npy")), want)
    # The plan stops at the last pooled feature or at the logits; only equal shapes can be compared.
    subprocess.run([os.path.join(build, "tests/bench/bench_model"), path, "--check", f"{folder}/image.f32", f"{folder}/plan.f32"], check=True,
                   capture_output=True, text=True)
    planned = np.fromfile(os.path.join(folder, "plan.f32"), "f4")
    return general, off_by(planned, want) if planned.size == want.size else None


def main():
    build, names = sys.argv[1], sys.argv[2:] or ["resnet18", "mobilenet_v2", "mobilenet_v3_large", "squeezenet1_1", "efficientnet_b0"]
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            try:
                general, planned = compare(build, name, folder)
            except subprocess.CalledProcessError as e:
                print(f"{name:24} FAILED: {e.stderr.strip()}")
                bad += 1
                continue
            ok = general <= BOUND and (planned is None or planned <= BOUND)
            bad += not ok
            print(f"{name:24} model run {general:.2e}   plan {'other output' if planned is None else f'{planned:.2e}'}   {'ok' if ok else 'TOO FAR'}")
    sys.exit(1 if bad else 0)


main()
