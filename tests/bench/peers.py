"""Where the peers of tests/bench come from: a Python of its own in $LIKENESS_PEERS or ~/.cache/likeness-bench/peers, which
`tests/bench/embed --install` makes and fills from PyPI; any Python that has them does as well."""
import importlib.util
import os
import subprocess
import sys

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "likeness-bench")
FOLDER = os.environ.get("LIKENESS_PEERS") or os.path.join(CACHE, "peers")
PYTHON = os.path.join(FOLDER, "bin/python")
PACKAGES = ["numpy", "onnx", "onnxruntime", "pillow", "opencv-python-headless", "pyvips-binary",  # the last two for tests/bench/pixels
            "hnswlib", "usearch", "faiss-cpu"]  # and these for tests/bench/index


def install():
    if not os.path.exists(PYTHON):
        subprocess.run([sys.executable, "-m", "venv", FOLDER], check=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", *PACKAGES], check=True)
    print(f"peers are in {FOLDER}")


def use(*modules):
    """Goes on in the Python of FOLDER where that was asked for, or where this one lacks modules; ends with 77 where none has them."""
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    here = os.path.realpath(sys.prefix) == os.path.realpath(FOLDER)
    if os.path.exists(PYTHON) and not here and (missing or "LIKENESS_PEERS" in os.environ):
        sys.stdout.flush()
        os.execv(PYTHON, [PYTHON, *sys.argv])
    if missing:
        print(f"skipped: {', '.join(missing)} not installed for {sys.executable}; tests/bench/embed --install brings them into {FOLDER}")
        sys.exit(77)
