"""damage_test.py: index files that were damaged, exchanged or lost are made again and the answers stay; a store that is
damaged, full or held by another process is told as what it is, and searches go on."""

import os
import pathlib
import resource
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time

from harness import CATALOGUE, PATIENCE, SANITIZED, Server, TestCase, huge_png, item_path, main, photo, photos, put_line

BOOT = photo("boot-1")
QUERIES = [data for _, data in photos()[::15]]
BLOCK_AT = 128  # index/segment_file.c describes the files


class Segments(TestCase):
    """One folder with two catalogues and a few segments; every test damages a copy."""

    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp(prefix="likeness-damage-"))
        cls.flags = ("--segment-images", "16")
        with Server(*cls.flags, data=cls.base / "whole") as s:
            s.fill()
            assert s.request("PUT", "/v1/catalogues/other").status == 201
            s.fill(40, "other")
            s.wait(lambda: cls.sealed(s) and cls.sealed(s, "other"), PATIENCE, "segments")
            cls.want = cls.answers(s)
        cls.files = sorted(p.name for p in (cls.base / "whole/segments").iterdir())
        assert len({name.split("-")[0] for name in cls.files}) == 2, cls.files

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base, ignore_errors=True)

    @staticmethod
    def sealed(server, catalogue="default"):
        index = server.get(f"/v1/catalogues/{catalogue}").json()["index"]
        return index["segments"] > 0 and index["fresh"] < 16

    @staticmethod
    def answers(server):
        """The top 10 of some queries, by graph, exactly, and filtered."""
        out = []
        for catalogue in ("default", "other"):
            for data in QUERIES:
                for how in ("", "&exact=true", "&filter=n%3E20"):
                    reply = server.search(data, f"?limit=10{how}", catalogue)
                    assert reply.status == 200, reply
                    out.append([(r["id"], r["score"], r["attributes"]) for r in reply.json()["results"]])
        return out

    @staticmethod
    def said(server):
        """What the start has logged about index files."""
        server.wait(lambda: any(line["msg"] == "ready" for line in server.log()), PATIENCE, "the end of the start")
        return [line["msg"] for line in server.log() if "index file" in line["msg"]]

    def survives(self, damage, logged):
        """damage(folder of segments); logged: what a line of the log says, or None for nothing at all."""
        data = self.base / "copy"
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(self.base / "whole", data)
        damage(data / "segments")
        with Server(*self.flags, data=data) as s:
            said = self.said(s)
            self.assertEqual(self.answers(s), self.want)
            if logged is None:
                self.assertEqual(said, [])
            else:
                self.assertTrue(any(logged in text for text in said), said)
            s.wait(lambda: self.sealed(s) and self.sealed(s, "other"), PATIENCE, "segments made again")
            self.assertEqual(self.answers(s), self.want)
            s.stop()
            s.start()
            self.assertEqual(self.said(s), [], "the second start complains, too")
            self.assertEqual(self.answers(s), self.want)

    @staticmethod
    def of_default(folder, kind="rows"):
        return sorted(folder.glob(f"1-*.{kind}"))[-1]

    def test_untouched(self):
        self.survives(lambda folder: None, None)

    def size(self, kind):
        return self.of_default(self.base / "whole/segments", kind).stat().st_size

    def test_flipped_bits(self):
        rows, graph = self.size("rows"), self.size("graph")
        # Every field, and 600 damaged files of each kind: tests/fuzz/mutate_index.c. Here, that a server lives with it.
        places = {"rows": {"tag": 40, "image": BLOCK_AT + 24, "middle": rows // 2}, "graph": {"rows": 28, "middle": graph // 2}}
        for kind, at in ((kind, at) for kind, named in places.items() for at in named.items()):
            def flip(folder):
                path = self.of_default(folder, kind)
                data = bytearray(path.read_bytes())
                data[at[1]] ^= 1 << (at[1] % 8)
                path.write_bytes(data)
            with self.subTest(f"{kind}: {at[0]}"):
                self.survives(flip, "index files dropped")

    def test_wrong_length(self):
        for kind, size in (("rows", self.size("rows")), ("graph", self.size("graph"))):
            for length in (0, size - 1):
                with self.subTest(f"{kind}: {length}"):
                    self.survives(lambda folder: os.truncate(self.of_default(folder, kind), length), "index files dropped")

        def longer(folder, kind):
            with self.of_default(folder, kind).open("ab") as f:
                f.write(b"\0")
        self.survives(lambda folder: longer(folder, "graph"), "index files dropped")
        self.survives(lambda folder: longer(folder, "rows"), None)  # as a crash while rows are added leaves it

    def test_something_else(self):
        """A photo, a file of another catalogue, in the place of a segment; and strangers beside."""
        def other(folder):
            shutil.copy(sorted(folder.glob("2-*.rows"))[0], self.of_default(folder))

        def no_file_of_ours(folder):
            (folder / "notes.txt").write_text("mine")
            (folder / "1-x.rows").write_text("nor is this")
            (folder / "1-0.rows.old").write_text("or this")
        self.survives(lambda folder: self.of_default(folder).write_bytes(BOOT), "index files dropped")
        self.survives(lambda folder: self.of_default(folder).write_bytes(bytes(100000)), "index files dropped")
        self.survives(other, "index files dropped")
        self.survives(no_file_of_ours, None)
        self.assertEqual((self.base / "copy/segments/notes.txt").read_text(), "mine")

    def test_twice(self):
        """A copy under another number is not what it says it is, and does no harm to the file that is."""
        for name in ("1-99.rows", "2-99.rows"):
            self.survives(lambda folder: shutil.copy(self.of_default(folder), folder / name), "index files dropped")

    def test_missing(self):
        for name, lost in (("one", self.of_default), ("all", None)):
            def remove(folder):
                for path in [lost(folder)] if lost else list(folder.iterdir()):
                    path.unlink()
            with self.subTest(name):
                self.survives(remove, "in no index file")
        with self.subTest("folder"):
            self.survives(lambda folder: shutil.rmtree(folder), "in no index file")

    def test_stale(self):
        """A file from before later writes: what it says about images that are gone or new does not count."""
        data = self.base / "copy"
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(self.base / "whole", data)
        with Server(*self.flags, data=data) as s:
            gone = [name for name, _ in photos()[:60]]
            for line in s.batch([{"op": "delete", "id": name} for name in gone]).lines():
                self.assertEqual(line["status"], 204)
            s.batch([put_line(f"{name}-again", data) for name, data in photos()[60:90]])
            s.wait(lambda: self.sealed(s), PATIENCE, "compaction")
            want = self.answers(s)
        shutil.rmtree(data / "segments")
        shutil.copytree(self.base / "whole/segments", data / "segments")
        with Server(*self.flags, data=data) as s:
            self.assertEqual(self.answers(s), want)
            self.assertEqual(s.get(CATALOGUE).json()["items"], len(photos()) - 30)


class Store(TestCase):
    def setUp(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="likeness-damage-"))
        self.addCleanup(shutil.rmtree, self.base, True)
        self.data = self.base / "data"

    def is_read_only(self, s):
        """Nothing is written any more, and everybody who asks is told; what is there is found."""
        self.is_problem(s.put("late", BOOT), 503, "storage_failed")
        self.assertEqual(s.batch([put_line("late", BOOT)]).lines()[0]["code"], "storage_failed")
        self.assertIn(b"\nlikeness_storage_read_only 1\n", s.get("/metrics").body)
        self.assertEqual(s.search(BOOT).ids()[0], "boot-1")
        self.assertTrue(any(line["level"] == "error" for line in s.log()))

    def test_damaged_pages(self):
        """Pages of SQLite's file that went bad while nobody looked: those who need them are told, the others are served."""
        with Server(data=self.data) as s:
            s.fill(40)
        db = sqlite3.connect(self.data / "catalogue.sqlite3")
        root, = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'renditions'").fetchone()
        page, = db.execute("PRAGMA page_size").fetchone()
        db.close()
        with open(self.data / "catalogue.sqlite3", "r+b") as f:
            f.seek((root - 1) * page)
            f.write(b"\xa5" * page)
        with Server(data=self.data) as s:
            self.assertEqual(s.search(BOOT).ids()[0], "boot-1")
            self.is_problem(s.get(item_path("boot-1") + "/images/0"), 500, "index_corrupt")
            self.is_problem(s.put("new", BOOT), 500, "index_corrupt")
            self.is_read_only(s)
            self.assertEqual(s.get(item_path("new")).status, 404)

    def test_limit_of_file_size(self):
        """A write that the system refuses (ulimit -f, a quota) fails the write, not the process."""
        with Server(data=self.data) as s:
            s.fill(40)
            largest = max(p.stat().st_size for p in self.data.rglob("*"))
            resource.prlimit(s.process.pid, resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
            for i in range(1000):
                reply = s.put(f"more-{i}", BOOT)
                if reply.status != 201:
                    break
            self.is_problem(reply, 503, "storage_failed")
            self.is_read_only(s)
            self.assertEqual(s.get(CATALOGUE).json()["items"], 40 + i)
            s.stop()
            s.start()
            self.assertEqual(s.get(CATALOGUE).json()["items"], 40 + i)
            self.ok(s.put("late", BOOT), 201)

    def test_held_by_another(self):
        """Another program has locked SQLite's file: a write waits, then is refused; when it is let go everything works again."""
        with Server(data=self.data) as s:
            s.fill(5)
            other = sqlite3.connect(self.data / "catalogue.sqlite3", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            waiting = []
            thread = threading.Thread(target=lambda: waiting.append(s.put("waits", BOOT)), daemon=True)
            thread.start()
            time.sleep(1)
            other.execute("COMMIT")
            thread.join(PATIENCE)
            self.ok(waiting[0], 201)
            other.execute("BEGIN IMMEDIATE")
            try:
                self.is_problem(s.put("refused", BOOT), 503, "index_busy")
                self.assertEqual(len(s.search(BOOT).ids()), 6)
            finally:
                other.execute("ROLLBACK")
                other.close()
            self.assertEqual(s.get(item_path("refused")).status, 404)
            self.ok(s.put("later", BOOT), 201)
            self.assertIn(b"\nlikeness_storage_read_only 0\n", s.get("/metrics").body)

    def test_memory_runs_out(self):
        """A large photo does not fit: that request is refused, and the server goes on."""
        if SANITIZED:
            self.skipTest("its shadow is larger than any limit")
        with Server("--threads", "1", data=self.data) as s:
            s.fill(5)
            large = huge_png()
            status = pathlib.Path(f"/proc/{s.process.pid}/status").read_text()
            size = int(status.split("VmSize:")[1].split()[0]) * 1024
            resource.prlimit(s.process.pid, resource.RLIMIT_AS, (size + (1 << 20), resource.RLIM_INFINITY))
            self.is_problem(s.search(large), 503, "out_of_memory")
            self.is_problem(s.put("large", large), 503, "out_of_memory")
            self.assertEqual(s.batch([put_line("large", large)]).lines()[0]["code"], "out_of_memory")
            self.ok(s.search(BOOT))
            resource.prlimit(s.process.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            self.ok(s.search(large))
            self.assertEqual(s.get(CATALOGUE).json()["items"], 5)

    def small_disk(self, megabytes, ballast_megabytes, server):
        """The server's data folder on a file system of its own; the ballast goes when the file "release" appears."""
        script = ('mkdir -p "$1" && mount -t tmpfs -o size=$2m tmpfs "$1" && chmod 755 "$1" && '
                  'dd if=/dev/zero of="$1/ballast" bs=1M count=$3 2>/dev/null && '
                  '{ while [ ! -e "$4" ]; do sleep 0.05; done; rm "$1/ballast"; : >"$4.done"; } >/dev/null 2>&1 & '
                  'd=$1; r=$4; shift 4; while [ ! -e "$d/ballast" ] && [ ! -e "$r" ]; do sleep 0.05; done; exec "$@"')
        plain = server.command
        arguments = [str(self.data), str(megabytes), str(ballast_megabytes), str(self.base / "release")]
        server.command = lambda: ["unshare", "-Urm", "sh", "-c", script, "sh", *arguments, *plain()]

    def test_full_disk(self):
        """No byte is left, below the floor that should have prevented it: writes get 507, searches go on, and when there is
        room again so do writes. Nothing that was answered is lost, nothing that was refused is there."""
        can = ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"]
        if shutil.which("unshare") is None or subprocess.run(can, capture_output=True).returncode != 0:
            self.skipTest("no user namespaces here")
        s = Server("--disk-floor", "1", "--segment-images", "16", data=self.data)
        self.small_disk(12, 8, s)
        try:
            with s:
                answered, refused = [], []
                for k in range(1000):
                    for name, data in photos():
                        reply = s.put(f"{name}-{k}", data, {"k": k})
                        (answered if reply.status == 201 else refused).append(f"{name}-{k}")
                        if reply.status != 201:
                            self.is_problem(reply, 507, "storage_full")
                        if len(refused) == 30:
                            break
                    if len(refused) == 30:
                        break
                self.assertGreater(len(answered), 30)
                self.assertIn(s.batch([put_line("x", BOOT)]).lines()[0].get("code"), ("storage_full", None))
                self.ok(s.search(BOOT))
                self.assertLess(len([line for line in s.log() if line["msg"] != "request"]), 40, "the log is flooded")
                (self.base / "release").touch()
                s.wait(lambda: (self.base / "release.done").exists(), PATIENCE, "room")
                self.ok(s.put("after", BOOT), 201)
                self.assertIn(b"\nlikeness_storage_read_only 0\n", s.get("/metrics").body)
                for item in refused:
                    self.assertEqual(s.get(item_path(item)).status, 404, item)
                for item in answered:
                    self.assertEqual(s.get(item_path(item)).status, 200, item)
                s.wait(lambda: s.get(CATALOGUE).json()["index"]["fresh"] < 16, PATIENCE, "the segments that did not fit before")
        finally:
            (self.base / "release").touch()


if __name__ == "__main__":
    main(__file__)
