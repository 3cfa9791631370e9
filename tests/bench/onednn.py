"""Every convolution of a network beside oneDNN's: what tests/bench/layers and tests/bench/embed compare."""
import collections
import json
import os
import statistics
import subprocess

import prepare

WAYS = {"fp32": ["AVX512_CORE"], "int8": ["", "AVX512_CORE_VNNI"]}  # what oneDNN is held to; "": whatever it finds, AMX say
Way = collections.namedtuple("Way", "isa fused")  # fused: with the activation and the residual that ours has taken in
MISSING = "bench_onednn was not built (libdnnl-dev 2 was not there when CMake looked)"


def there(build):
    return os.path.exists(f"{build}/tests/bench/bench_onednn")


def ours(build, path, precision, seconds):
    out = subprocess.run([f"{build}/server/likeness", "bench", "model", path, "--precision", precision, "--seconds", str(seconds), "--json"],
                         check=True, capture_output=True, text=True).stdout
    return [layer for layer in json.loads(out)["layers"] if layer["kernel"] in ("conv", "winograd", "depthwise") and "window" in layer]


def theirs(build, layers, precision, seconds, way):
    """(ms, implementation) of the better of its ways for each layer."""
    lines = "".join(" ".join(map(str, l["in"] + l["out"] + l["window"] + l["stride"] + l["dilation"] + l["pads"] + [l["groups"], l["fused"] or "-"])) + "\n"
                    for l in layers)
    env = dict(os.environ, OMP_NUM_THREADS="1", **({"ONEDNN_MAX_CPU_ISA": way.isa} if way.isa else {}))
    out = subprocess.run([f"{build}/tests/bench/bench_onednn", precision, str(seconds)] + (["fused"] if way.fused else []), input=lines, env=env, check=True,
                         capture_output=True, text=True).stdout
    found = [line.split() for line in out.splitlines()]
    return [min((float(w[i]), w[i + 1]) for i in range(0, len(w), 2)) for w in found]


def medians(runs):
    """Of each layer, over runs of ours()."""
    return [statistics.median(r[i]["ms"] for r in runs) for i in range(len(runs[0]))]


def compare(build, path, precision, rounds, seconds):
    """Our layers, milliseconds of each, for each Way their (milliseconds, implementation), and our sum with Relu for every Swish and
    HardSwish (None where that network cannot be made); medians of interleaved rounds."""
    ways = [Way(isa, fused) for isa in WAYS[precision] for fused in (False, True)]
    mine, others, relus = [], {way: [] for way in ways}, []
    for k in range(rounds):
        mine.append(ours(build, path, precision, seconds))
        if k == 0:
            swish = any("Swish" in (l["fused"] or "") for l in mine[0])
            relu_path = prepare.plain(path) if swish else None
        if relu_path is not None:
            relus.append(ours(build, relu_path, precision, seconds))
        for way in ways:
            others[way].append(theirs(build, mine[0], precision, seconds, way))
    ms = medians(mine)
    best = {way: [(statistics.median(r[i][0] for r in seen), seen[0][i][1]) for i in range(len(mine[0]))] for way, seen in others.items()}
    return mine[0], ms, best, sum(medians(relus)) if relus else None if swish else sum(ms)


def mostly(best):
    """The instruction set that takes most of their time."""
    by = collections.Counter()
    for t, kernel in best:
        by[kernel.split(":")[-1]] += t
    return by.most_common(1)[0][0]
