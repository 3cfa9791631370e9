"""kill.py BUILD_DIR [--kills N] [--seed S] [--keep]: SIGKILL in the middle of writes, again and again, on one data folder.

After each kill: the dead folder is whole (SQLite's integrity_check, every invariant of the index on a copy), and the next
server shows what was acknowledged exactly, and everything else wholly or not at all. The moments of the kill take turns:
  random   some time after the clients began
  build    a segment file is being written beside
  swap     a segment file has just got its name; the one that it replaces is still there
  start    some time after the clients began, and again while the next server starts
  drain    after SIGTERM, before its end
The seed decides what is sent and when the kill is wanted; threads and the disk decide the rest."""

import argparse
import ctypes
import json
import os
import pathlib
import random
import select
import shutil
import signal
import struct
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "http"))

import clients  # noqa: E402
import photos  # noqa: E402
import verify  # noqa: E402
from harness import PROGRAM, SLOW, Server  # noqa: E402
from ledger import Catalogue, Ledger  # noqa: E402

MODES = ("random", "build", "swap", "start", "drain")
IN_MOVED_TO, IN_CREATE = 0x80, 0x100


class FolderEvents:
    """inotify: wakes within microseconds when a name appears in a folder."""

    def __init__(self, folder):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_CLOEXEC)
        if self.fd < 0 or self.libc.inotify_add_watch(self.fd, os.fsencode(folder), IN_MOVED_TO | IN_CREATE) < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def wait(self, mask, suffix, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and select.select([self.fd], [], [], left)[0]:
            data, at = os.read(self.fd, 65536), 0
            while at < len(data):
                length = int.from_bytes(data[at + 12:at + 16], sys.byteorder)
                name = data[at + 16:at + 16 + length].rstrip(b"\0")
                if int.from_bytes(data[at + 4:at + 8], sys.byteorder) & mask and name.endswith(suffix):
                    return True
                at += 16 + length
        return False

    def drop(self):
        """Forgets what has happened so far."""
        while select.select([self.fd], [], [], 0)[0]:
            os.read(self.fd, 65536)

    def close(self):
        os.close(self.fd)


class Killer:
    def __init__(self, seed):
        self.rng, self.seed, self.server = random.Random(f"kills {seed}"), seed, None
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="likeness-crash-"))
        self.data = self.base / "data"
        self.photos = photos.make(140 // SLOW, seed)
        self.ledger = Ledger()
        self.ledger.catalogues = {"default": Catalogue(True)} | {n: Catalogue() for n in ("race", "season-1", "season-2")}
        self.renditions = {}
        self.start_seconds = 0.2
        self.total = dict.fromkeys(("sent", "answered", "there", "not there", "mid-build", "mid-swap", "wanted", "seen"), 0)

    def new_server(self):
        """Small segments, so that one is always being built; a wide graph makes that take longer."""
        flags = ["--segment-images", str(self.rng.choice([16, 16, 48])), "--hnsw-m", str(self.rng.choice([16, 64])),
                 "--ef-construction", str(self.rng.choice([40, 400])), "--threads", "2"]
        return Server(*flags, data=self.data)

    def start(self):
        begin = time.monotonic()
        self.server = self.new_server()
        self.server.start()
        self.start_seconds = time.monotonic() - begin

    # ---- one kill

    def wait_for(self, mode, seconds):
        """Returns when the server is to die."""
        events = FolderEvents(self.data / "segments")
        try:
            time.sleep(seconds)
            events.drop()
            if mode not in ("build", "swap"):
                return
            seen = events.wait(*((IN_CREATE, b".tmp") if mode == "build" else (IN_MOVED_TO, b".graph")), 10 * SLOW)
            self.total["wanted"] += 1
            self.total["seen"] += seen
            if mode == "build" and seen:
                time.sleep(self.rng.choice([0, 0, 0.001, 0.003]))
        finally:
            events.close()

    def kill(self, number):
        """Writes, kills, looks at the dead folder, starts again, verifies. Returns what is wrong."""
        mode, server = MODES[number % len(MODES)], self.server
        round_ = clients.Round(server, self.ledger, self.photos, f"{self.seed}/{number}")
        begin = time.monotonic()
        crowd = clients.start(round_)
        self.wait_for(mode, self.rng.uniform(0.3, 1.5) * SLOW)
        if mode == "drain":
            round_.draining = True
            server.terminate()
            time.sleep(self.rng.uniform(0, 0.15))
        round_.ending = True
        wrong = []
        if server.process.poll() not in ((None, 0) if mode == "drain" else (None,)):
            wrong.append(f"the server ended by itself with {server.process.returncode}")
        server.kill()
        lived = time.monotonic() - begin
        for client in crowd:
            client.join(60 * SLOW)
            if client.is_alive():
                wrong.append(f"{client.name} hangs")
        wrong += round_.errors + self.complaints(server)
        files = sorted((self.data / "segments").iterdir())
        marks = self.marks(files)
        dead, living = verify.folder(self.data, self.base / "copy")
        wrong += dead
        if mode == "start":
            self.kill_again()
        self.start()
        v = verify.Verify(self.server, self.ledger, self.photos, self.renditions)
        wrong += v.everything() + self.complaints(self.server) + self.strays(living)
        for what, n in (("sent", round_.sent), ("answered", round_.answered), ("there", v.late), ("not there", v.lost)):
            self.total[what] += n
        print(f"kill {number + 1:3} {mode:6} after {lived:4.2f} s: {round_.sent:4} sent, {round_.answered:4} answered, open "
              f"ones: {v.late:2} there, {v.lost:2} not; {v.items} items, {v.images} images, {len(files)} segment files{marks}; "
              f"{'WRONG' if wrong else 'good'}", flush=True)
        return wrong

    def marks(self, files):
        """What the kill has cut off, as the files of segments show it."""
        marks, rows = "", set()
        if any(f.name.endswith(".tmp") for f in files):
            self.total["mid-build"] += 1
            marks += ", one half-written"
        for f in files:
            if f.suffix != ".rows":
                continue
            ids = self.images_of(f.read_bytes())
            if not rows.isdisjoint(ids):  # an image is in one segment, unless the old one was not yet deleted
                self.total["mid-swap"] += 1
                return marks + ", one replaced but there"
            rows |= ids
        return marks

    @staticmethod
    def images_of(data):
        """Rowids of the images in a file of rows; index/segment_file.c describes it."""
        if len(data) < 128:  # killed before its header was there
            return set()
        stride, at, ids = struct.unpack_from("<I", data, 16)[0], 128, set()
        while at + 24 <= len(data):
            n, = struct.unpack_from("<I", data, at + 8)
            if at + 24 + n * (8 + stride) > len(data):
                break  # cut off
            ids |= set(struct.unpack_from(f"<{n}q", data, at + 24))
            at += 24 + n * (8 + stride)
        return ids - {0}

    def kill_again(self):
        for _ in range(self.rng.randint(1, 3)):
            self.server = self.new_server()
            self.server.start(wait=False)
            time.sleep(self.rng.uniform(0, self.start_seconds))
            self.server.kill()

    @staticmethod
    def complaints(server):
        """A killed process is no reason to warn, except of what --no-keys means and of clients that leave."""
        lines = list(server.err)
        while lines and not lines[-1].endswith("\n"):
            lines.pop()  # cut by the kill
        logged = [json.loads(line) for line in lines]
        bad = [line["msg"] for line in logged if line["level"] != "info"]
        return [f"logged: {msg}" for msg in bad if not msg.startswith(("no-keys", "http: "))]

    def strays(self, living):
        """Files of catalogues that are gone would stay for ever."""
        names = [p.name for p in (self.data / "segments").iterdir()]
        return [f"segments/{name} belongs to no catalogue" for name in names if name.split("-")[0].split(".")[0] not in living]

    def run(self, kills):
        begin = time.monotonic()
        wrong = []
        try:
            self.start()
            for number in range(kills):
                wrong = self.kill(number)
                if wrong:
                    break
            if not wrong:
                self.server.stop()
                if self.total["wanted"] >= 6 and self.total["seen"] == 0:
                    wrong = [f"in {self.total['wanted']} times {10 * SLOW} s of writes no graph was written: the kills were not where they belong"]
        finally:
            if self.server.process is not None and self.server.process.poll() is None:
                self.server.kill()
        for text in wrong[:40]:
            print(f"  wrong: {text}")
        t = self.total
        answered = f"{t['answered']} answered" + ("" if wrong else ", all of those there")
        print(f"{number + 1} kills in {time.monotonic() - begin:.0f} s, seed {self.seed}: {t['sent']} sent, {answered}; "
              f"of the open ones {t['there']} there, {t['not there']} not; {t['seen']} of {t['wanted']} times a graph was "
              f"being written, {t['mid-build']} kills left a half-written segment, {t['mid-swap']} a replaced one: {'WRONG' if wrong else 'good'}")
        return not wrong


def main():
    parser = argparse.ArgumentParser(description="Kills the server in the middle of writes and looks at what is left.")
    parser.add_argument("build")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave the data folder")
    args = parser.parse_args()
    if args.kills < 1 or not PROGRAM.exists() or not verify.CHECKER.exists():
        sys.exit(f"--kills is at least 1, and {PROGRAM} and {verify.CHECKER} must be there")
    sys.setswitchinterval(0.0005)  # the killer must not wait for the clients' turn
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of every "finally"
    killer = Killer(args.seed)
    good = False
    try:
        good = killer.run(args.kills)
    finally:
        if args.keep or not good:
            print(f"the data folder is {killer.data}")
        else:
            shutil.rmtree(killer.base, ignore_errors=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
