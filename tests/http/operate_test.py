"""operate_test.py: what an operator relies on: a log that machines read, a start that refuses what is wrong, an end that
finishes what has begun."""

import http.client
import json
import os
import pathlib
import shutil
import socket
import sqlite3
import subprocess
import threading
import time

from harness import (BATCH, CATALOGUE, ITEMS, NDJSON, PATIENCE, PROGRAM, SEARCH, SLOW, Folder, Server, TestCase, b64, huge_png,
                     item_path, main, ndjson, photo, photos, put_line, run)

BOOT = photo("boot-1")
NOBODY = 65534


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Log(Folder):
    EVERY = {"ts": str, "level": str, "msg": str}
    REQUEST = EVERY | {"id": str, "method": str, "path": str, "route": str, "status": int, "remote": str, "bytes_in": int,
                       "bytes_out": int, "ms": float}
    STAGES = ("queue", "decode", "embed", "search", "commit", "encode")
    SOMETIMES = {"code": str, "ended": str} | {f"{stage}_ms": float for stage in STAGES}
    START = EVERY | {"version": str, "model": str, "fingerprint": str, "precision": str, "kernels": str, "blas_core": str, "threads": int,
                     "start_ms": float}

    def is_well_formed(self, line):
        want = self.REQUEST if line["msg"] == "request" else self.START if line["msg"] == "ready" else self.EVERY
        known = want | (self.SOMETIMES if line["msg"] == "request" else {})
        self.assertLessEqual(set(want), set(line), line)
        self.assertLessEqual(set(line), set(known), line)
        for name, value in line.items():
            self.assertIsInstance(value, (int, float) if known[name] is float else known[name], line)
        self.assertRegex(line["ts"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertIn(line["level"], ("info", "warn", "error"))

    def test_one_line_a_request(self):
        with Server(keys=True) as s:
            s.fill(3)
            sent = []

            def ask(status, method, path, body=None, kind=None, **headers):
                reply = s.request(method, path, body, kind, headers=headers)
                self.assertEqual(reply.status, status, repr(reply))
                length = 0 if method == "HEAD" else len(reply.body)
                code = reply.code if method != "HEAD" else None
                sent.append((reply.header("X-Request-Id"), method, path.split("?")[0], status, code, length, len(body or b"")))

            ask(200, "GET", "/livez", **{"X-Request-Id": "shop-1"})
            ask(200, "POST", SEARCH + "?limit=3", BOOT, "image/jpeg")
            ask(201, "PUT", item_path("a/\u00fc \"x\"\n"[:-1]), BOOT, "image/jpeg")
            ask(404, "GET", item_path("nobody"))
            ask(401, "GET", "/v1/catalogues", Authorization="Bearer x")
            ask(400, "POST", SEARCH, b"{", "application/json")
            ask(405, "BREW", "/livez")
            ask(404, "GET", "/%22%5c%0a")
            ask(200, "HEAD", ITEMS)
            ask(200, "POST", BATCH, ndjson([put_line("b", BOOT), {"id": "c"}]), NDJSON)
            ids = [request[0] for request in sent]
            s.wait(lambda: {line["id"] for line in s.requests_logged()} >= set(ids), PATIENCE, "the log lines")
            lines = {line["id"]: line for line in s.requests_logged()}
            self.assertEqual(len(lines), len(s.requests_logged()), "a request is logged twice")
            for request_id, method, path, status, code, bytes_out, bytes_in in sent:
                line = lines[request_id]
                self.assertEqual((line["method"], line["path"], line["status"], line.get("code"), line["remote"]),
                                 (method, path, status, code, "127.0.0.1"))
                self.assertEqual(line["bytes_out"], bytes_out, line)
                self.assertIn(line["bytes_in"], (bytes_in,) if status < 400 else (0, bytes_in), line)
            self.assertEqual(lines["shop-1"]["route"], "/livez")
            searched = [line for line in lines.values() if line["route"].endswith("/search") and line["status"] == 200][0]
            self.assertGreater(searched["embed_ms"], 0)
            self.assertGreater(searched["ms"], searched["embed_ms"])
            for line in s.log():
                self.is_well_formed(line)
            s.stop()
            self.assertEqual([line["msg"] for line in s.log()][-2:], ["stopping: SIGTERM", "stopped"])

    def test_no_secrets(self):
        """Keys come in headers, by mistake in targets, and in broken requests: none gets into the log, nor does a photo."""
        with Server(keys=True) as s:
            key, connection = s.key, s.connection()
            for path in (f"/v1/catalogues?key={key}", f"/nothing?x=1&access_token={key}", f"http://shop:{key}@x/livez",
                         f"/livez?{key}"):
                s.request("GET", path, on=connection)
            connection.close()
            for broken in (f"GET /livez?key={key}\u00e9 HTTP/1.1\r\nHost: x\r\n\r\n",
                           f"GET /livez?{key} HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
                           f"GET /livez?k={key}&{'x' * 9000} HTTP/1.1\r\nHost: x\r\n\r\n",
                           f"GET /livez HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length : 3\r\n\r\n",
                           f"GET /livez HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n folded: {key}\r\n\r\n",
                           f"Bearer {key}\r\n\r\n", f"GET {key} HTTP/1.1\r\nHost: x\r\n\r\n"):
                with s.raw(broken.encode("latin-1")) as c:
                    c.receive(0.3 * SLOW, lambda data: b"\r\n\r\n" in data)
            s.request("POST", SEARCH, {"image": b64(BOOT)})
            self.ok(s.get("/livez"))
            s.stop()
            text = "".join(s.err)
            self.assertNotIn(key[9:21], text)
            self.assertNotIn(b64(BOOT)[100:140], text)
            for line in s.log():
                self.is_well_formed(line)

    def test_levels(self):
        for level, requests, warnings in (("info", True, True), ("warn", False, True), ("error", False, False)):
            with Server("--log-level", level) as s:  # keyless: that is a warning
                self.ok(s.get("/livez"))
                s.stop()
                self.assertEqual(any(line["msg"] == "request" for line in s.log()), requests)
                self.assertEqual(any(line["level"] == "warn" for line in s.log()), warnings)

    def test_who_reads_the_log_may_go(self):
        """A log that cannot be written stops nothing."""
        data = self.folder / "data"
        reader, writer = os.pipe()
        process = subprocess.Popen([str(PROGRAM), "serve", "--no-keys", "--listen", "127.0.0.1:0", "--data", str(data)],
                                   stdout=subprocess.PIPE, stderr=writer)
        try:
            port = int(process.stdout.readline().rsplit(b":", 1)[1])
            os.close(writer)
            os.close(reader)
            for _ in range(3):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
                connection.request("GET", "/livez")
                self.assertEqual(connection.getresponse().status, 200)
                connection.close()
        finally:
            process.terminate()
            self.assertEqual(process.wait(PATIENCE), 0)
            process.stdout.close()


class Start(Folder):
    def refuses(self, *flags, data=None, returncode=1, **how):
        """The one line that says why."""
        done = run("serve", "--no-keys", "--listen", "127.0.0.1:0", "--data", data or self.folder / "data", *flags, **how)
        self.assertEqual(done.returncode, returncode, done.stderr)
        self.assertNotIn("listening", done.stdout)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        text = done.stderr.rstrip("\n")
        return json.loads(text)["msg"] if text.startswith("{") else text

    def test_names(self):
        """What ps, pgrep and top -H show: the program, not how it started itself again, and whose thread is whose."""
        with Server() as s:
            proc = pathlib.Path(f"/proc/{s.process.pid}")
            self.assertEqual((proc / "comm").read_text(), "likeness\n")
            threads = {(t / "comm").read_text().strip() for t in (proc / "task").iterdir()}
            self.assertLessEqual({"likeness", "compute", "index writer", "index keeper", "index nice", "index idle", "index auditor"}, threads)

    def test_second_server(self):
        with Server() as s:
            s.fill(3)
            why = self.refuses(data=s.data)
            self.assertIn(f"{s.data} is in use by process {s.process.pid}", why)
            self.assertEqual(len(s.search(BOOT).ids()), 3)
            s.kill()
            s.start()  # a killed server leaves no lock
            self.assertEqual(len(s.search(BOOT).ids()), 3)

    def test_address_in_use(self):
        with Server() as s:
            done = run("serve", "--no-keys", "--data", self.folder / "data", "--listen", f"127.0.0.1:{s.port}")
            self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
            self.assertIn(f"cannot listen on 127.0.0.1:{s.port}", done.stderr)

    def test_refused_settings_leave_nothing(self):
        (self.folder / "c").write_text("thread = 3\n")
        for flags, part in ((["--bogus"], "--bogus"), (["--config", self.folder / "c"], 'unknown setting "thread"'),
                            (["--threads=0"], "1..1024")):
            self.assertIn(part, self.refuses(*flags, returncode=2))
        self.assertFalse((self.folder / "data").exists())

    def test_folders_that_cannot_be_written(self):
        user = {}
        if os.geteuid() == 0:  # root may write everywhere; nobody may perhaps not even look into the build folder
            user = {"user": NOBODY, "group": NOBODY, "program": shutil.copy(PROGRAM, self.folder)}
        data = self.folder / "data"
        (self.folder / "file").write_text("x")
        self.assertIn("cannot make the data folder", self.refuses(data=self.folder / "none/data"))
        self.assertRegex(self.refuses(data=self.folder / "file"), "cannot (make|write in) the data folder")
        self.folder.chmod(0o555)
        self.assertRegex(self.refuses(**user), "cannot make the data folder .*: Permission denied")
        self.folder.chmod(0o755)
        data.mkdir()
        data.chmod(0o555)
        self.assertRegex(self.refuses(**user), "cannot write in the data folder .*: Permission denied")
        data.chmod(0o755)
        with Server(data=data) as s:
            s.fill(3)
        (data / "lock").chmod(0o666)
        for path in sorted(data.glob("catalogue*")):
            path.chmod(0o444)
        if user:
            self.assertRegex(self.refuses(**user), "catalogue.sqlite3|the store cannot")

    def test_stores_that_are_none(self):
        data = self.folder / "data"
        data.mkdir()
        (data / "catalogue.sqlite3").write_bytes(b"this is no database, whatever its name says\n" * 100)
        self.assertRegex(self.refuses(), "file is not a database")
        self.assertIn(b"no database", (data / "catalogue.sqlite3").read_bytes(), "left as it is")
        (data / "catalogue.sqlite3").unlink()
        with Server(data=data) as s:
            s.fill(3)
        db = sqlite3.connect(data / "catalogue.sqlite3")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        db.execute("PRAGMA user_version = 99")
        db.close()
        self.assertRegex(self.refuses(), "version 99, this program knows versions up to .*newer")
        db = sqlite3.connect(data / "catalogue.sqlite3")
        db.execute(f"PRAGMA user_version = {version}")
        db.close()
        with Server(data=data) as s:
            self.assertEqual(len(s.search(BOOT).ids()), 3)
        (data / "admin-key").write_text("garbage\n")
        done = run("serve", "--listen", "127.0.0.1:0", "--data", data)
        self.assertEqual(done.returncode, 1)
        self.assertIn("likeness key create", done.stderr)

    def test_models_that_are_none(self):
        (self.folder / "m.onnx").write_bytes(b"nothing" * 100)
        self.assertIn("m.onnx", self.refuses("--model", self.folder / "m.onnx"))
        self.assertIn("none.onnx", self.refuses("--model", self.folder / "none.onnx"))

    def test_before_it_is_ready(self):
        """Alive at once; everything else says that it is not ready until it is. A start is short: it may take several to see."""
        seen = {"/livez": set(), "/readyz": set(), "/v1/catalogues": set()}
        s = Server()
        port = free_port()
        s.command = lambda: [str(PROGRAM), "serve", "--no-keys", "--listen", f"127.0.0.1:{port}", "--data", str(s.data)]
        try:
            for _ in range(20):
                s.start(wait=False)
                s.port = port
                self.watch_start(s, seen)
                s.stop()
                if all(503 in seen[path] for path in ("/readyz", "/v1/catalogues")):
                    break
        finally:
            s.__exit__()
        self.assertEqual(seen, {"/livez": {200}, "/readyz": {200, 503}, "/v1/catalogues": {200, 503}})

    def watch_start(self, server, seen):
        end, ready = time.monotonic() + PATIENCE, set()
        while len(ready) < len(seen):
            self.assertLess(time.monotonic(), end, "it never was ready")
            for path, statuses in seen.items():
                try:
                    reply = server.get(path)
                except OSError:
                    continue  # it does not listen yet
                if reply.status == 503:
                    self.is_problem(reply, 503, "not_ready")
                    self.assertNotIn(path, ready, "it was ready before")
                else:
                    ready.add(path)
                statuses.add(reply.status)


class End(TestCase):
    def ends(self, server, within):
        """SIGTERM was sent: exit 0 in time, and nobody is let in meanwhile."""
        begin = time.monotonic()
        refused = False
        while server.process.poll() is None and time.monotonic() - begin < within + 20:
            try:
                socket.create_connection(("127.0.0.1", server.port), 1).close()
            except OSError:
                refused = True
                break
            time.sleep(0.01)
        self.assertTrue(refused, "new connections are taken while the server ends")
        self.assertLess(time.monotonic() - begin, 1 * SLOW, "new connections were taken for too long")
        server.process.wait(within + 20)
        took = time.monotonic() - begin
        server.stop()
        self.assertEqual(server.process.returncode, 0)
        self.assertLess(took, within)
        return took

    def in_flight(self, server, work):
        """Starts every (callable) of `work`; their results come in the list."""
        results = [None] * len(work)

        def one(i):
            try:
                results[i] = work[i]()
            except (OSError, http.client.HTTPException) as e:
                results[i] = e
        threads = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(len(work))]
        for t in threads:
            t.start()
        return results, threads

    def begin(self, server, method, path, kind, length):
        """A request whose headers the server has read, to be followed by its body: only such a one is not ended as idle."""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n"
        head += "Expect: 100-continue\r\n\r\n"
        c = server.raw(head.encode())
        self.addCleanup(c.socket.close)
        self.assertEqual(c.receive(PATIENCE, lambda data: data.endswith(b"\r\n\r\n")), b"HTTP/1.1 100 Continue\r\n\r\n")
        c.data = b""
        return c

    @staticmethod
    def queue(server, kind):
        return int(server.get("/metrics").body.decode().split(f'\nlikeness_queue_length{{class="{kind}"}} ')[1].split("\n")[0])

    def test_idle(self):
        with Server() as s:
            idle = s.raw(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            half = s.raw(b"")
            idle.replies(1)
            s.terminate()
            self.assertLess(self.ends(s, 8), 2 * SLOW)
            for c, replies in ((idle, 1), (half, 0)):
                self.assertEqual(len(c.until_closed(5)), replies)
                self.assertTrue(c.closed)
                c.socket.close()

    def test_work_ends_well(self):
        """Searches, a write and a batch that run at SIGTERM are answered, and what they wrote is there."""
        with Server("--threads", "1", "--max-queue-age", "60s", "--request-timeout", "60s", "--drain-timeout", "60s") as s:
            s.fill(20)
            lines = ndjson([put_line(f"late-{i}", data) for i, (_, data) in enumerate(photos()[:100 // SLOW])])
            sixteen = json.dumps({"images": [{"data": b64(BOOT)}] * 16}).encode()
            work = [("POST", BATCH, NDJSON, lines)]
            work += [("PUT", item_path(f"sixteen-{i}"), "application/json", sixteen) for i in range(10)]
            work += [("POST", SEARCH, "image/jpeg", BOOT)] * 10
            begun = [self.begin(s, method, path, kind, len(body)) for method, path, kind, body in work]
            for c, (_, _, _, body) in zip(begun, work):
                c.send(body)
            s.terminate()
            self.ends(s, 60)
            begun[0].receive(PATIENCE)
            self.assertEqual(begun[0].data.count(b'"status":201'), lines.count(b"\n"))
            self.assertTrue(begun[0].data.endswith(b"\r\n0\r\n\r\n"))
            replies = [c.replies(1)[0] for c in begun[1:]]
            self.assertEqual([r.status for r in replies], [201] * 10 + [200] * 10)
            self.assertIn("close", [r.header("Connection") for r in replies])  # a quick one may have been answered before
            s.start()
            self.assertEqual(s.get(CATALOGUE).json()["items"], 20 + lines.count(b"\n") + 10)

    def test_body_on_its_way(self):
        """A batch whose lines still come, and a photo that still comes: both are taken to their end."""
        lines = ndjson([put_line(f"i{n}", BOOT) for n in range(20)])
        with Server("--drain-timeout", "30s") as s:
            batch = self.begin(s, "POST", BATCH, NDJSON, len(lines))
            put = self.begin(s, "PUT", item_path("slow"), "image/jpeg", len(BOOT))
            batch.send(lines[:len(lines) // 2])
            put.send(BOOT[:1000])
            s.wait(lambda: s.get(CATALOGUE).json()["items"] >= 5, PATIENCE, "the first lines")
            s.terminate()
            time.sleep(0.3)
            batch.send(lines[len(lines) // 2:])
            put.send(BOOT[1000:])
            self.assertEqual(put.replies(1)[0].status, 201)
            batch.receive(PATIENCE, lambda data: data.endswith(b"0\r\n\r\n"))
            self.assertEqual(batch.data.count(b'"status":201'), 20)
            self.ends(s, 30)
            s.start()
            self.assertEqual(s.get(CATALOGUE).json()["items"], 21)

    def test_drain_timeout(self):
        """Who does not come to an end is ended: the server is gone soon after --drain-timeout."""
        with Server("--drain-timeout", "700") as s:
            head = f"PUT {item_path('x')} HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 100000\r\n\r\n"
            batch = f"POST {BATCH} HTTP/1.1\r\nHost: x\r\nContent-Type: {NDJSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
            held = [s.raw(text.encode()) for text in (head, batch)]
            s.wait(lambda: b"\nlikeness_http_connections 3\n" in s.get("/metrics").body, PATIENCE, "the connections")
            time.sleep(0.2)
            s.terminate()
            took = self.ends(s, 0.7 + 5 * SLOW)
            self.assertGreater(took, 0.6)
            self.assertTrue(any("drain-timeout" in line["msg"] for line in s.log()))
            for c in held:
                c.socket.close()

    def test_queued_work_is_told(self):
        """What still waits for a thread when the time is over gets its answer: 503, to be sent to another server."""
        with Server("--drain-timeout", "0", "--threads", "1", "--max-queue-age", "60s") as s:
            large = {"images": [{"data": b64(huge_png())}] * 12}  # the one that runs takes longer than they can wait
            work = [lambda i=i: s.request("PUT", item_path(f"i{i}"), large) for i in range(20)]
            results, threads = self.in_flight(s, work)
            s.wait(lambda: self.queue(s, "interactive") >= 10, PATIENCE, "a queue of 10")
            s.terminate()
            for t in threads:
                t.join(PATIENCE)
            s.stop()
            told = [r for r in results if not isinstance(r, Exception) and r.status == 503]
            self.assertGreater(len(told), 5, results)
            for reply in told:
                self.is_problem(reply, 503, "shutting_down")
            done = sum(1 for r in results if not isinstance(r, Exception) and r.status == 201)
            s.start()
            items = s.get(CATALOGUE).json()["items"]
            self.assertLessEqual(done, items)
            self.assertLessEqual(items, done + sum(isinstance(r, Exception) for r in results))


if __name__ == "__main__":
    main(__file__)
