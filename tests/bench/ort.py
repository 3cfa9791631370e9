"""ONNX Runtime as tests/bench/embed measures it. As a program: ort.py FILE.onnx, one JSON line about its first result."""
import json
import sys
import threading
import time

import numpy as np
import onnxruntime as ort


def session(path, threads):
    o = ort.SessionOptions()
    o.intra_op_num_threads = threads
    o.inter_op_num_threads = 1
    o.log_severity_level = 3
    return ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])


def feed_of(s):
    i = s.get_inputs()[0]
    shape = [d if isinstance(d, int) else 1 for d in i.shape]
    return {i.name: (np.arange(np.prod(shape)) % 17 / 17 - 0.5).astype("f4").reshape(shape)}


class Runner:
    """Sessions that run at the same time, each in a thread of its own."""
    def __init__(self, path, sessions, threads):
        self.sessions = [session(path, threads) for _ in range(sessions)]
        self.feeds = [feed_of(s) for s in self.sessions]
        for s, f in zip(self.sessions, self.feeds):
            s.run(None, f)

    def measure(self, seconds):
        """Runs a second of all together, and the fastest run in milliseconds. As with ours, one run before brings the caches back."""
        for s, f in zip(self.sessions, self.feeds):
            s.run(None, f)
        counts, best, start = [0] * len(self.sessions), [1e9] * len(self.sessions), time.monotonic()

        def loop(n):
            run, feed, t1 = self.sessions[n].run, self.feeds[n], time.perf_counter()
            while time.monotonic() - start < seconds:
                run(None, feed)
                t0, t1 = t1, time.perf_counter()
                best[n] = min(best[n], t1 - t0)
                counts[n] += 1

        threads = [threading.Thread(target=loop, args=(n,)) for n in range(1, len(self.sessions))]
        for t in threads:
            t.start()
        loop(0)
        for t in threads:
            t.join()
        return sum(counts) / (time.monotonic() - start), min(best) * 1e3


def memory():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))


if __name__ == "__main__":
    before, t0 = memory(), time.perf_counter()
    s = session(sys.argv[1], 1)
    t1 = time.perf_counter()
    feed = feed_of(s)
    t2 = time.perf_counter()
    s.run(None, feed)
    t3 = time.perf_counter()
    print(json.dumps({"load_s": t1 - t0, "first_s": t3 - t2 + t1 - t0, "peak_kib": memory(), "grown_kib": memory() - before}))
