"""cli_test.py: the commands, as a user types them, against a real server: import, search, embed, model, key, bench, health."""
import array
import json
import math
import re
import shutil
import signal
import struct
import subprocess
import time

import harness
from harness import DEMO, PATIENCE, PROGRAM, Server, run

ONNX = harness.TREE / "tests/data/onnx"


def metric(server, name):
    for line in server.get("/metrics").body.decode().splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise AssertionError(f"no metric {name}")


class Folder(harness.Folder):
    def copy(self, name, to):
        path = self.folder / to
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DEMO / f"{name}.jpg", path)
        return path


class Import(Folder):
    @classmethod
    def setUpClass(cls):
        cls.server = Server().start()
        cls.url = f"http://127.0.0.1:{cls.server.port}"

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()

    def load(self, source, *flags, **how):
        return run("import", source, "--url", self.url, *flags, cwd=self.folder, **how)

    def items(self, catalogue):
        reply = self.server.get(f"/v1/catalogues/{catalogue}/items?limit=100")
        return {item["id"]: item for item in self.ok(reply).json()["items"]}

    def rejects(self):
        return [json.loads(line) for line in (self.folder / "likeness-rejects.ndjson").read_text().splitlines()]

    def test_a_folder(self):
        self.copy("boot-1", "shoes/boot-1.jpg")
        self.copy("lamp-1", "lamp-1.JPG")
        self.copy("mug-1", ".hidden/mug.jpg")
        (self.folder / "notes.txt").write_text("no photo")
        done = self.load(".", "--catalogue", "folder")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("2 written, 0 unchanged, 0 refused", done.stdout)
        items = self.items("folder")
        self.assertEqual(sorted(items), ["lamp-1", "shoes/boot-1"])
        self.assertEqual(items["shoes/boot-1"]["attributes"], {"file": "shoes/boot-1.jpg", "folder": "shoes"})

    def test_links(self):
        """Links to folders are followed, but not in circles; a link to nothing is said to be one."""
        self.copy("boot-1", "real/a.jpg")
        self.copy("boot-2", "other/deep/b.jpg")
        (self.folder / "real/up").symlink_to("..")
        (self.folder / "real/here").symlink_to(".")
        (self.folder / "real/again").symlink_to("here")
        (self.folder / "real/linked").symlink_to(self.folder / "other")
        (self.folder / "real/gone.jpg").symlink_to("nowhere.jpg")
        done = self.load("real", "--catalogue", "links", timeout=30 * harness.SLOW)
        self.assertIn("3 written, 0 unchanged, 1 refused", done.stdout, done.stderr)
        self.assertEqual(sorted(self.items("links")), ["a", "linked/deep/b", "up/other/deep/b"])
        self.assertIn("gone.jpg", self.rejects()[0]["error"]["detail"])

    def test_deep_folders(self):
        self.copy("boot-1", "/".join(["d"] * 100) + "/a.jpg")
        self.assertIn("1 written", self.load("d", "--catalogue", "deep").stdout)
        self.copy("boot-1", "/".join(["d"] * 140) + "/a.jpg")
        done = self.load("d", "--catalogue", "deep")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("128 folders deep", done.stderr)

    def test_a_mark_before_ndjson(self):
        self.copy("boot-1", "a.jpg")
        (self.folder / "t.ndjson").write_text('\ufeff{"id":"a","images":["a.jpg"]}\n{"id":"b","images":["a.jpg"]}\n')
        self.assertIn("2 written", self.load("t.ndjson", "--catalogue", "mark").stdout)

    def test_a_table(self):
        self.copy("boot-1", "p/a.jpg")
        self.copy("boot-2", "p/b.jpg")
        (self.folder / "t.csv").write_bytes(
            '\ufeffid,images,"na""me",price,new,ean,zip,note\r\n'
            '"x,1",p/a.jpg | p/b.jpg,"two\nlines",12.50,true,4006381333931,0012,\r\n'
            "\r\n"
            "y,p/a.jpg,é,-3,false,99999999999999999999,1e3,n/a".encode())
        done = self.load("t.csv", "--catalogue", "table")
        self.assertEqual(done.returncode, 0, done.stderr)
        items = self.items("table")
        self.assertEqual(items["x,1"]["attributes"],
                         {'na"me': "two\nlines", "price": 12.5, "new": True, "ean": 4006381333931, "zip": "0012"})
        self.assertEqual(len(items["x,1"]["images"]), 2)
        self.assertEqual(items["y"]["attributes"],
                         {'na"me': "é", "price": -3, "new": False, "ean": "99999999999999999999", "zip": 1000.0, "note": "n/a"})
        done = self.load("t.csv", "--catalogue", "table", "--strings")
        self.assertIn("2 written, 0 unchanged", done.stdout)
        self.assertEqual(self.items("table")["y"]["attributes"]["price"], "-3")

    def test_tables_that_are_wrong(self):
        for text, part in (("image,name\na.jpg,b\n", 'no column "id"'), ("id,name\na,b\n", 'no column "image'), ("id,image,id\n", "there twice"),
                           ("", "must name the columns")):
            (self.folder / "t.csv").write_text(text)
            done = self.load("t.csv")
            self.assertEqual(done.returncode, 1)
            self.assertIn(part, done.stderr)
        self.assertIn("neither a folder nor", self.load(harness.TREE / "README.md").stderr)
        self.assertIn("No such file", self.load("nope.csv").stderr)
        self.assertIn("holds no photos", self.load(".").stderr)

    def test_what_is_refused_can_be_imported_again(self):
        self.copy("boot-1", "a.jpg")
        (self.folder / "bad.jpg").write_text("not a photo")
        (self.folder / "t.csv").write_text("id,image,n\nfine,a.jpg,1\nbad,bad.jpg,2\nmissing,nope.jpg,3\nfine,a.jpg,4\nshort,a.jpg\n,a.jpg,6\n")
        done = self.load("t.csv", "--catalogue", "rejects")
        self.assertEqual(done.returncode, 1)
        self.assertIn("1 written, 0 unchanged, 5 refused", done.stdout)
        reasons = {r["error"]["line"]: (r["error"]["code"], r["error"]["detail"]) for r in self.rejects()}
        self.assertEqual(reasons[3][0], "image_format_unsupported")
        self.assertIn("nope.jpg", reasons[4][1])
        self.assertIn("twice", reasons[5][1])
        self.assertIn("2 cells, the header has 3", reasons[6][1])
        self.assertIn("no id", reasons[7][1])
        self.copy("boot-2", "bad.jpg")
        self.copy("boot-3", "nope.jpg")
        shutil.move(self.folder / "likeness-rejects.ndjson", self.folder / "again.ndjson")
        self.load("again.ndjson", "--catalogue", "rejects")
        self.assertEqual(self.items("rejects")["bad"]["attributes"], {"n": 2})
        self.assertEqual(sorted(self.items("rejects")), ["bad", "fine", "missing", "short"])

    def test_only_changes_are_sent(self):
        self.copy("boot-1", "a.jpg")
        self.copy("boot-2", "b.jpg")

        def table(price):
            (self.folder / "t.csv").write_text(f"id,image,price\na,a.jpg,{price}\nb,b.jpg,20.00\n")
            return self.load("t.csv", "--catalogue", "changes").stdout

        self.assertIn("2 written", table(1))
        embedded = metric(self.server, "likeness_images_embedded_total")
        self.assertIn("0 written, 2 unchanged", table(1))
        self.assertIn("1 written, 1 unchanged", table(2))
        self.assertEqual(metric(self.server, "likeness_images_embedded_total"), embedded, "new attributes need no embedding")
        self.assertEqual(self.items("changes")["a"]["attributes"], {"price": 2})
        before = self.items("changes")["a"]["images"][0]["sha256"]
        self.copy("boot-3", "a.jpg")
        self.assertIn("1 written, 1 unchanged", table(2))
        self.assertNotEqual(self.items("changes")["a"]["images"][0]["sha256"], before)
        self.assertEqual(metric(self.server, "likeness_images_embedded_total"), embedded + 1)
        self.assertIn("2 written, 0 unchanged", self.load("t.csv", "--catalogue", "changes", "--force").stdout)

    def test_lines_from_stdin(self):
        self.copy("boot-1", "a.jpg")
        lines = ['{"id":"one","image":"a.jpg","attributes":{"tags":["x","y"]}}', "", '{"id":"two","images":["a.jpg","a.jpg"]}', "[1]",
                 '{"id":"three","images":["a.jpg"],"colour":"red"}', '{"id":"four","id":"five"}']
        done = self.load("-", "--catalogue", "lines", feed="\n".join(lines))
        self.assertIn("2 written, 0 unchanged, 3 refused", done.stdout)
        self.assertEqual(self.items("lines")["one"]["attributes"], {"tags": ["x", "y"]})
        self.assertEqual({r["error"]["line"] for r in self.rejects()}, {4, 5, 6})
        self.assertIn("colour", json.dumps(self.rejects()))

    def test_many(self):
        for i in range(5):
            self.copy(f"boot-{i + 1}", f"{i}.jpg")
        count = 300 if harness.SANITIZED else 1500
        (self.folder / "t.csv").write_text("id,image,n\n" + "".join(f"item-{i},{i % 5}.jpg,{i}\n" for i in range(count)))
        done = self.load("t.csv", "--catalogue", "many", "--parallel", "4")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"{count} written", done.stdout)
        self.assertEqual(self.server.get("/v1/catalogues/many").json()["items"], count)


class Interrupted(Folder):
    def table(self, n):
        self.copy("boot-1", "a.jpg")
        (self.folder / "t.csv").write_text("id,image\n" + "".join(f"item-{i},a.jpg\n" for i in range(n)))

    def start(self, port, *flags):
        return subprocess.Popen([str(PROGRAM), "import", "t.csv", "--url", f"http://127.0.0.1:{port}", *flags], cwd=self.folder,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_a_second_run_goes_on(self):
        self.table(3000)
        with Server() as server:
            process = self.start(server.port, "--parallel", "1")
            server.wait(lambda: server.get("/v1/catalogues/default").json()["items"] > 0, PATIENCE, "the first batch")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
            self.assertEqual(process.returncode, 1)
            self.assertIn("run it again", err)
            there = server.get("/v1/catalogues/default").json()["items"]
            self.assertLess(there, 3000)
            shorter = (self.folder / "t.csv").read_text().splitlines()[:there + 201]  # the rest would take long here
            (self.folder / "t.csv").write_text("\n".join(shorter) + "\n")
            done = run("import", "t.csv", "--url", f"http://127.0.0.1:{server.port}", cwd=self.folder)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(f"200 written, {there} unchanged", done.stdout)

    def test_a_server_that_goes_away_and_comes_back(self):
        count = 1200 // harness.SLOW
        self.table(count)
        with Server() as server:
            port = server.port
            process = self.start(port, "--parallel", "2", "--retries", "40")
            server.wait(lambda: server.get("/v1/catalogues/default").json()["items"] > 0, PATIENCE, "the first batch")
            server.kill()
            time.sleep(0.5)
            server.command = lambda: [str(PROGRAM), "serve", "--listen", f"127.0.0.1:{port}", "--data", str(server.data), "--no-keys"]
            server.start()
            out, err = process.communicate(timeout=PATIENCE)
            self.assertEqual(process.returncode, 0, err)
            self.assertEqual(server.get("/v1/catalogues/default").json()["items"], count)

    def test_nobody_is_there(self):
        self.table(1)
        done = run("import", "t.csv", "--url", "http://127.0.0.1:1", cwd=self.folder)
        self.assertEqual(done.returncode, 1)
        self.assertIn("http://127.0.0.1:1", done.stderr)
        self.assertIn("does not begin with http", run("import", "t.csv", "--url", "ftp://x", cwd=self.folder).stderr)


class Search(Folder):
    def test_tables_errors_and_keys(self):
        with Server(keys=True) as server:
            server.fill(40)
            env = {"LIKENESS_URL": f"http://127.0.0.1:{server.port}", "LIKENESS_KEY": server.key}
            done = run("search", DEMO / "backpack-1.jpg", "--limit", "2", env=env)
            rows = done.stdout.splitlines()
            self.assertEqual(rows[1].split()[:3], ["1", "1.000", "backpack-1"], done.stdout + done.stderr)
            self.assertEqual(len(rows), 4)
            reply = json.loads(run("search", "--item", "backpack-1", "--json", env=env).stdout)
            self.assertEqual(reply["results"][0]["id"].split("-")[0], "backpack")
            self.assertEqual(run("search", DEMO / "boot-1.jpg", "--filter", 'kind = "bowl" AND n < 3', env=env).stdout.count("bowl"), 0)
            bad = run("search", DEMO / "boot-1.jpg", "--filter", "price <", env=env)
            self.assertEqual(bad.returncode, 1)
            self.assertIn("400 filter_invalid", bad.stderr)
            self.assertIn("column 8", bad.stderr)
            self.assertIn("404 item_not_found", run("search", "--item", "nope", env=env).stderr)
            del env["LIKENESS_KEY"]
            self.assertIn("401 unauthorized", run("search", DEMO / "boot-1.jpg", env=env).stderr)
            (self.folder / "key").write_text(server.key + "\n")
            self.assertEqual(run("search", DEMO / "boot-1.jpg", "--key-file", self.folder / "key", env=env).returncode, 0)
            self.assertIn("cannot read the key file", run("search", DEMO / "boot-1.jpg", "--key-file", "/nope", env=env).stderr)

    def test_a_new_key_works_at_once(self):
        with Server(keys=True) as server:
            shown = run("key", "show", "--data", server.data).stdout
            self.assertTrue(server.key.startswith(shown.strip().removesuffix("...")))
            fresh = run("key", "create", "--data", server.data).stdout.strip()
            self.assertEqual(server.get("/v1/catalogues").status, 401)
            server.key = fresh
            self.ok(server.get("/v1/catalogues"))
            self.assertNotIn(fresh[3:], (server.data / "admin-key").read_text())
        self.assertIn("has no key", run("key", "show", "--data", self.folder).stderr)

    def test_bench_model(self):
        layers = json.loads(run("bench", "model", "--seconds", "1", "--json").stdout)
        self.assertAlmostEqual(sum(layer["ms"] for layer in layers["layers"]), layers["sum_ms"], places=2)
        self.assertEqual(sum(layer["macs"] for layer in layers["layers"]), layers["macs"])
        self.assertAlmostEqual(sum(layer["time"] for layer in layers["layers"]), 1, places=3)
        self.assertGreater(layers["ms"], 0)
        done = run("bench", "model", "--seconds", "1", "--layers", "--worst")
        self.assertEqual(done.returncode, 0, done.stderr)
        steps = run("model", "inspect", "--layers").stdout.split("step kernel", 1)[1].splitlines()[1:]
        shown = done.stdout.split("step kernel", 2)[1].splitlines()[1:]
        self.assertGreaterEqual(len(shown), len(steps))
        for i in range(len(steps)):
            self.assertEqual(shown[i].split()[0], str(i))
        for precision in "auto", "fp32", "fp16", "bf16":
            done = run("bench", "model", "--seconds", "1", "--precision", precision)
            if precision in ("auto", "fp32") or "needs a processor with" not in done.stderr:
                self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("likeness model quantize", run("bench", "model", "--precision", "int8").stderr)
        self.assertIn('"fp8"', run("bench", "model", "--precision", "fp8").stderr)
        self.assertEqual(run("bench", "model", "missing.onnx").returncode, 1)

    def test_bench_and_health(self):
        with Server() as server:
            server.fill(10)
            url = f"http://127.0.0.1:{server.port}"
            done = run("bench", "search", DEMO / "boot-1.jpg", "--url", url, "--seconds", "1", "--connections", "2", "--json")
            row = json.loads(done.stdout)
            self.assertGreater(row["done"], 0, done.stderr)
            self.assertEqual(row["failed"], 0)
            row = json.loads(run("bench", "recall", "--url", url, "--queries", "6", "--json").stdout)
            self.assertEqual((row["queries"], row["recall"], row["perfect"], row["plans"]), (6, 1.0, 6, {"flat": 6}))
            done = run("bench", "recall", "--url", url, "--filter", 'kind = "boot"', "--limit", "3")
            self.assertIn("recall@3 1.0000 over 10 queries", done.stdout)
            self.assertIn("plans: scan 10", done.stdout)
            self.assertIn("no catalogue", run("bench", "recall", "--url", url, "--catalogue", "none").stderr)
            self.assertEqual(run("bench", "recall", "--url", url, "--filter", "kind =").returncode, 1)
            done = run("search", DEMO / "boot-1.jpg", "--url", url, "--facets", "kind:2,n:..4|4..", "--explain")
            self.assertRegex(done.stdout, r"kind: \w+ \(\d+\), \w+ \(\d+\)\nn: \.\.4 \(4\), 4\.\. \(6\)\nexplain: {\"plan\":\"flat\"")
            done = run("search", DEMO / "boot-1.jpg", "--url", url, "--facets", "n:..4|4..", "--facets-top", "3")
            low, high = map(int, re.search(r"^n: \.\.4 \((\d)\), 4\.\. \((\d)\)$", done.stdout, re.M).groups())
            self.assertEqual(low + high, 3, done.stdout)
            self.assertIn("--facets-top", run("search", DEMO / "boot-1.jpg", "--facets-top", "1001").stderr)
            self.assertEqual(run("health", "--listen", f"127.0.0.1:{server.port}").returncode, 0)
        row = json.loads(run("bench", "embed", DEMO / "boot-1.jpg", "--seconds", "1", "--json").stdout)
        self.assertGreater(row["done"], 0)
        self.assertEqual(run("health", "--listen", "127.0.0.1:1").returncode, 1)


class Embed(Folder):
    def rows(self, path):
        values = array.array("f", path.read_bytes())
        return [values[i:i + 256] for i in range(0, len(values), 256)]

    def test_rows_are_those_of_the_server(self):
        names = ["boot-1", "lamp-1", "mug-1", "sofa-1" if (DEMO / "sofa-1.jpg").exists() else "boot-2"] * 5
        out = self.folder / "rows.f32"
        (self.folder / "list").write_text("".join(f"{DEMO}/{n}.jpg\n" for n in names[1:]))
        done = run("embed", "--out", out, "--threads", "3", "--list", self.folder / "list", DEMO / f"{names[0]}.jpg")
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = self.rows(out)
        self.assertEqual(len(rows), len(names))
        with Server() as server:
            for name, row in list(zip(names, rows))[:4]:
                want = server.request("POST", "/v1/embed", harness.photo(name), "image/jpeg").json()["embedding"]
                self.assertLess(max(abs(a - b) for a, b in zip(row, want)), 1e-6)
        for i, name in enumerate(names):
            self.assertEqual(rows[i], rows[names.index(name)], "the order of the files")
            self.assertAlmostEqual(math.fsum(v * v for v in rows[i]), 1, 5)

    def test_bad_images(self):
        bad = self.folder / "bad.jpg"
        bad.write_text("no photo")
        done = run("embed", "--out", self.folder / "r", bad)
        self.assertEqual(done.returncode, 1)
        self.assertIn("bad.jpg", done.stderr)
        done = run("embed", "--out", self.folder / "r", "--skip-bad", DEMO / "boot-1.jpg", bad, DEMO / "boot-2.jpg")
        self.assertEqual(done.returncode, 1)
        rows = self.rows(self.folder / "r")
        self.assertEqual([any(r) for r in rows], [True, False, True])
        self.assertEqual(run("embed", DEMO / "boot-1.jpg").returncode, 2)
        self.assertIn("cannot write", run("embed", "--out", "/nope/x", DEMO / "boot-1.jpg").stderr)


def npy(values, shape, descr="<f4", fortran=False):
    header = str({"descr": descr, "fortran_order": fortran, "shape": tuple(shape)}).encode()
    header += b" " * ((64 - (10 + len(header) + 1) % 64) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + values


class Model(Folder):
    def describe(self, model):
        """Name and shape of the input and the name of the output, as inspect says them."""
        text = run("model", "inspect", model, "--output", "-").stdout
        first = next(line.split(None, 1)[1] for line in text.splitlines() if line.startswith("input"))
        out = next(line.split()[1] for line in text.splitlines() if line.startswith("output"))
        return first.split()[0], json.loads(first[first.index("["):first.index("]") + 1]), out

    def test_every_fixture_gives_what_onnx_runtime_gave(self):
        models = sorted(m for m in ONNX.glob("*.onnx") if m.stem != "half")  # its output is no float32
        self.assertGreater(len(models), 8)
        for model in models:
            name, shape, out = self.describe(model)
            (self.folder / "x.npy").write_bytes(npy(model.with_suffix(".in.f32").read_bytes(), shape))
            done = run("model", "run", model, "--input", f"{name}={self.folder}/x.npy", "--output-dir", self.folder / "out")
            self.assertEqual(done.returncode, 0, f"{model.name}: {done.stderr}")
            want = array.array("f", model.with_suffix(".out.f32").read_bytes())
            got = array.array("f", (self.folder / f"out/{out}.npy").read_bytes()[-4 * len(want):])
            norm = math.sqrt(math.fsum(v * v for v in want))
            bound = 1e-2 if model.stem.startswith("int8") else 1e-4  # a number on the edge of two steps falls to either side
            self.assertLess(max(abs(a - b) for a, b in zip(got, want)) / norm, bound, model.name)

    def test_what_is_wrong_is_named(self):
        model = ONNX / "residual.onnx"
        name, shape, _ = self.describe(model)
        data = model.with_suffix(".in.f32").read_bytes()
        cases = {
            "no_npy": (b"hello, this is no array", "is not a .npy file"),
            "short": (npy(data[:-4], shape), "more or fewer bytes"),
            "fortran": (npy(data, shape, fortran=True), "C order"),
            "strings": (npy(data, shape, "<U4"), "type other than"),
            "huge": (npy(data, (1 << 40, 1 << 40)), "shape"),
        }
        for case, (content, part) in cases.items():
            (self.folder / f"{case}.npy").write_bytes(content)
            done = run("model", "run", model, "--input", f"{name}={self.folder}/{case}.npy", "--output-dir", self.folder / "out")
            self.assertEqual(done.returncode, 1, case)
            self.assertIn(part, done.stderr, case)
            self.assertIn(f"{case}.npy", done.stderr)
        (self.folder / "x.npy").write_bytes(npy(data, shape))
        for given in (f"wrong={self.folder}/x.npy", "no-equals-sign"):
            done = run("model", "run", model, "--input", given, "--output-dir", self.folder / "out")
            self.assertEqual(done.returncode, 1)
            self.assertIn(given.split("=")[0], done.stderr)
        self.assertIn("README.md", run("model", "inspect", harness.TREE / "README.md").stderr)

    def test_inspect_runs_the_model(self):
        good = (harness.TREE / "tests/data/onnx/dense.onnx").read_bytes()
        nan, at = self.folder / "nan.onnx", len(good) * 37 // 40  # of the last convolution, which no Relu follows
        nan.write_bytes(good[:at] + b"\xff" * 256 + good[at + 256:])  # numbers that are none
        done = run("model", "inspect", nan)
        self.assertEqual(done.returncode, 1)
        self.assertIn("does not run", done.stderr)

    def test_operators(self):
        *operators, last = run("model", "operators").stdout.splitlines()
        names = [line.split()[0] for line in operators]
        self.assertEqual(names, sorted(names))
        self.assertLessEqual({"Conv", "QLinearConv", "com.microsoft.QGemm"}, set(names))
        self.assertEqual(int(last.split()[0]), len(names))
        self.assertIn(f"{len(names)} ONNX operators of opset {last.split()[-3]} to {last.split()[-1]}", (harness.TREE / "README.md").read_text())

    def test_inspect(self):
        text = run("model", "inspect", "--layers").stdout
        for part in ("built-in", "fingerprint", "parameters", "128x128", "Conv"):
            self.assertIn(part, text)

    def test_quantize(self):
        out = self.folder / "eight.onnx"
        done = run("model", "quantize", "-", out, "--calibrate", harness.TREE / "deploy/demo/catalog.csv", "--label", "category", "--photos", "40",
                   timeout=60 * harness.SLOW)
        self.assertEqual(done.returncode, 0, done.stderr)
        figures = {line.split()[0]: line for line in done.stdout.splitlines()}
        self.assertGreater(float(figures["cosine"].split("mean ")[1].split(",")[0]), 0.99, done.stdout)
        change = float(figures["recall@1"].split(": ")[1].split()[0])
        self.assertLessEqual(abs(change), 3, done.stdout)  # some photos of a few dozen
        self.assertLess(out.stat().st_size, (harness.TREE / "embed/training/likeness-v1.onnx").stat().st_size / 3)
        inspected = run("model", "inspect", out).stdout
        self.assertIn("DequantizeLinear", inspected)
        self.assertIn("likeness-v1", inspected)
        again = run("model", "quantize", out, self.folder / "twice.onnx", "--calibrate", harness.TREE / "deploy/demo/catalog.csv")
        self.assertEqual(again.returncode, 1)
        self.assertIn("quantised already", again.stderr)
        for source, part in (("nowhere", "nowhere"), (self.folder, "names no photos")):
            done = run("model", "quantize", "-", self.folder / "x.onnx", "--calibrate", source)
            self.assertEqual(done.returncode, 1)
            self.assertIn(part, done.stderr)
        self.assertEqual(run("model", "quantize", "-", out).returncode, 2)
        for percentile in ("49", "101", "-5"):
            refused = run("model", "quantize", "-", out, "--calibrate", DEMO, "--percentile", percentile)
            self.assertEqual(refused.returncode, 2)
            self.assertIn("not within 50..100", refused.stderr)
        refused = run("model", "quantize", "-", self.folder / "y.onnx", "--calibrate", DEMO, "--keep", "no-such-node")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("no-such-node", refused.stderr)
        self.assertFalse((self.folder / "y.onnx").exists())


class CommandLine(Folder):
    COMMANDS = ["serve", "import", "search", "embed", "model", "bench", "key", "health"]

    def test_help_and_mistakes(self):
        for command in self.COMMANDS:
            done = run(command, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, ""), command)
            self.assertIn(f"usage: likeness {command}", done.stdout)
            self.assertIn(command, run("--help").stdout)
            done = run(command, "--nope")
            self.assertEqual(done.returncode, 2, command)
            self.assertIn("--nope", done.stderr)
        self.assertEqual(run("frobnicate").returncode, 2)
        self.assertIn("frobnicate", run("frobnicate").stderr)
        self.assertEqual(run().returncode, 2)
        self.assertRegex(run("--version").stdout, r"^likeness \d+\.\d+\.\d+\n$")

    def serve_fails(self, *flags, env=None):
        done = run("serve", "--data", self.folder / "d", *flags, env=env)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done.stderr

    def test_settings_that_are_wrong_stop_the_start(self):
        self.assertIn("0 is not within 1..1024", self.serve_fails("--threads", "0"))
        self.assertIn('"many" is not a whole number', self.serve_fails("--threads", "many"))
        self.assertIn('"10x"', self.serve_fails("--request-timeout", "10x"))
        self.assertIn("needs a value", self.serve_fails("--listen"))
        self.assertIn("LIKENESS_TREADS", self.serve_fails(env={"LIKENESS_TREADS": "2"}))
        self.assertIn("LIKENESS_THREADS", self.serve_fails(env={"LIKENESS_THREADS": "-1"}))
        self.assertIn("exclude each other", self.serve_fails("--no-keys", "--admin-key-file", "/x"))
        self.assertIn("not HOST:PORT", self.serve_fails("--no-keys", "--listen", "8080"))
        self.assertIn("the port 99999, 0 to 65535", self.serve_fails("--no-keys", "--listen", "127.0.0.1:99999"))
        self.assertIn("unexpected argument", self.serve_fails("now"))
        (self.folder / "c").write_text("# fine\nthreads = 2\nmax-quue = 3\n")
        self.assertIn(f"{self.folder}/c:3: unknown setting \"max-quue\"", self.serve_fails("--config", self.folder / "c"))
        self.assertIn("cannot read", self.serve_fails("--config", self.folder / "none"))

    def test_flags_before_variables_before_the_file(self):
        (self.folder / "c").write_text("threads = 4\nrendition-side=64\nno-keys = true\n")

        def threads(*flags, env=None):
            server = Server("--config", str(self.folder / "c"), *flags, keys=True, env=env)
            with server:
                return server.get("/readyz").json()["compute_threads"]

        self.assertEqual(threads(), 4)
        self.assertEqual(threads(env={"LIKENESS_THREADS": "3"}), 3)
        self.assertEqual(threads("--threads", "2", env={"LIKENESS_THREADS": "3"}), 2)
        self.assertEqual(threads("--threads=1", env={"LIKENESS_THREADS": "3"}), 1)


if __name__ == "__main__":
    harness.main(__file__)
