"""against_ort.py: one ONNX file in ONNX Runtime and here: `likeness model run` (the general executor) and the plan that embeds
(bench_model --check). Differences are the largest one of an element, relative to the output's norm."""
import os
import subprocess
import tempfile

import numpy as np
import onnxruntime as ort


def off_by(got, want):
    got, want = got.astype("f8").ravel(), want.astype("f8").ravel()
    return float(np.abs(got - want).max() / np.linalg.norm(want)) if got.shape == want.shape else float("inf")


def output(session, x):
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def outputs(build, path, precision="fp32"):
    """-> the first output by (theirs, the general executor, the plan), and theirs of a picture with a little noise; the plan's has another
    size when it ends elsewhere. CalledProcessError when ours fails."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given, name = session.get_inputs()[0], session.get_outputs()[0].name
    shape = [d if isinstance(d, int) else 1 for d in given.shape]
    x = np.random.default_rng(5).normal(0, 1, shape).astype("f2" if "float16" in given.type else "f4")
    # How much does the network itself make of rounding? One part in a hundred thousand of noise tells.
    noise = (x.astype("f4") * (1 + np.random.default_rng(6).normal(0, 1e-5, shape))).astype(x.dtype)
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", x)
        (x.transpose(0, 3, 1, 2) if shape[3] == 3 and shape[1] != 3 else x).astype("f4").tofile(f"{folder}/x.f32")
        subprocess.run([f"{build}/server/likeness", "model", "run", path, "--input", f"{given.name}={folder}/x.npy", "--output-dir", folder],
                       check=True, capture_output=True, text=True)
        general = np.load(os.path.join(folder, name.replace("/", "_") + ".npy"))
        subprocess.run([f"{build}/tests/bench/bench_model", path, "--check", f"{folder}/x.f32", f"{folder}/y.f32"], check=True,
                       capture_output=True, text=True, env=dict(os.environ, BENCH_PRECISION=precision))
        return output(session, x), general, np.fromfile(f"{folder}/y.f32", "f4"), output(session, noise)


def compare(build, path):
    """-> (general, plan, note): plan is None when it ends at another output than the file's first one."""
    want, general, planned, shaken = outputs(build, path)
    return off_by(general, want), off_by(planned, want) if planned.size == want.size else None, off_by(shaken, want)
