"""harness.py: what the black-box tests share: the program on a free port with a data folder of its own, requests by
http.client and by raw bytes, and the record of problem codes that a test file has produced.

Everything here is bounded: a server that hangs fails a test, it does not hang it. A server is ended by its process id.
Run a test file as `python3 NAME_test.py BUILD_DIR [TestCase[.test]]`.
"""

import base64
import http.client
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse
import zlib

TREE = pathlib.Path(__file__).resolve().parents[2]
IMAGES = TREE / "tests/data/images"
HOSTILE = TREE / "tests/data/hostile"
DEMO = TREE / "deploy/demo/images"
BUILD = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else TREE / "build"
PROGRAM = BUILD / "server/likeness"
CODES = BUILD / "tests/http/codes"  # one file for each test file: the problem codes that it saw

_cache = BUILD / "CMakeCache.txt"
SANITIZED = _cache.exists() and re.search(r"^LK_SANITIZE:\w+=.+$", _cache.read_text(), re.M) is not None
SLOW = 4 if SANITIZED else int(os.environ.get("TEST_SLOW", 1))  # what "soon" is multiplied with; more under an emulator
PATIENCE = 60 * SLOW

JSON = "application/json"
NDJSON = "application/x-ndjson"
FORM = "multipart/form-data; boundary=BB"
PROBLEM = "application/problem+json"
CATALOGUE = "/v1/catalogues/default"
SEARCH = CATALOGUE + "/search"
ITEMS = CATALOGUE + "/items"
BATCH = CATALOGUE + "/items:batch"

seen_codes = set()


def photo(name="boot-1"):
    """A packshot of the demo catalogue, or a file of tests/data/images when the name has a suffix."""
    return (IMAGES / name if "." in name else DEMO / f"{name}.jpg").read_bytes()


def photos():
    """All packshots, (id, bytes), by name."""
    return [(p.stem, p.read_bytes()) for p in sorted(DEMO.glob("*.jpg"))]


def huge_png(w=6000, h=4000):
    """24 million pixels of one grey in some kilobytes; interlaced, so that all of them are in memory at once."""
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    rows = zlib.compressobj(9)
    data = b""
    for x, y, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        row = b"\0" + b"\x80" * (3 * ((w - x + dx - 1) // dx))
        for _ in range((h - y + dy - 1) // dy):
            data += rows.compress(row)
    data += rows.flush()
    head = struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def b64(data):
    return base64.b64encode(data).decode()


def item_path(item, catalogue="default"):
    return f"/v1/catalogues/{catalogue}/items/{urllib.parse.quote(item, safe='')}"


def multipart(parts, boundary="BB"):
    """parts: (name, bytes) or (raw header block, bytes) -> (body, content type)."""
    out = b""
    for name, data in parts:
        head = name if ":" in name else f'Content-Disposition: form-data; name="{name}"'
        out += f"--{boundary}\r\n{head}\r\n\r\n".encode() + data + b"\r\n"
    return out + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def ndjson(lines):
    return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)


def put_line(item, data=None, **attributes):
    """A line of items:batch."""
    line = {"id": item, "attributes": attributes}
    if data is not None:
        line["images"] = [{"data": b64(data)}]
    return line


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body
        if self.header("Content-Type") == PROBLEM and body:  # HEAD has the header only
            seen_codes.add(self.json()["code"])
        elif self.header("Content-Type") == NDJSON:
            seen_codes.update(line["code"] for line in self.lines() if "code" in line)

    def header(self, name):
        values = [v for k, v in self.headers if k.lower() == name.lower()]
        return values[0] if values else None

    def json(self):
        return json.loads(self.body)

    def lines(self):
        return [json.loads(line) for line in self.body.split(b"\n") if line]

    @property
    def code(self):
        """The problem's code, or None."""
        return self.json()["code"] if self.header("Content-Type") == PROBLEM else None

    def ids(self):
        return [r["id"] for r in self.json()["results"]]

    def __repr__(self):
        return f"{self.status} {self.body[:300]!r}"


def parse_replies(data):
    """Raw bytes of a connection -> (complete replies, bytes that are left)."""
    replies = []
    while True:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return replies, data
        lines = data[:end].decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.[01] (\d{3}) .*", lines[0])
        if match is None:
            return replies, data
        headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:]]
        length = int(next((v for k, v in headers if k.lower() == "content-length"), 0))
        if len(data) < end + 4 + length:
            return replies, data
        replies.append(Reply(int(match[1]), headers, data[end + 4:end + 4 + length]))
        data = data[end + 4 + length:]


class Raw:
    """A connection on which a test sends the bytes that it wants."""

    def __init__(self, port, receive_buffer=None):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data, self.closed = b"", False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """False when the other side has closed."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def receive(self, seconds, enough=lambda data: False):
        """Reads until the server closes, `enough` says so, or the time is over; returns all bytes so far."""
        end = time.monotonic() + seconds
        while not self.closed and not enough(self.data) and time.monotonic() < end:
            self.socket.settimeout(max(0.001, end - time.monotonic()))
            try:
                got = self.socket.recv(65536)
            except (TimeoutError, socket.timeout):
                break
            except ConnectionResetError:
                got = b""
            self.closed = got == b""
            self.data += got
        return self.data

    def replies(self, n, seconds=None):
        """The first n replies, and whatever else comes with them."""
        self.receive(PATIENCE if seconds is None else seconds, lambda data: len(parse_replies(data)[0]) >= n)
        return parse_replies(self.data)[0]

    def until_closed(self, seconds=None):
        self.receive(PATIENCE if seconds is None else seconds)
        return parse_replies(self.data)[0]


class Server:
    """`likeness serve` as a context manager. Keyless unless keys=True; `data` keeps a folder over restarts."""

    def __init__(self, *flags, data=None, keys=False, env=None):
        self.own_folder = None if data else tempfile.mkdtemp(prefix="likeness-http-")
        self.data = pathlib.Path(data) if data else pathlib.Path(self.own_folder) / "data"
        self.flags, self.env = list(flags) + ([] if keys else ["--no-keys"]), env or {}
        self.key = self.process = self.port = None
        self.check = None  # called with (method, path, reply) for every reply of request()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
        if self.own_folder:
            shutil.rmtree(self.own_folder, ignore_errors=True)

    def command(self):
        return [str(PROGRAM), "serve", "--listen", "127.0.0.1:0", "--data", str(self.data), *self.flags]

    def start(self, wait=True):
        self.out, self.err, self.port = [], [], None
        env = {k: v for k, v in os.environ.items() if not k.startswith("LIKENESS_")} | self.env
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=env)
        self.readers = [threading.Thread(target=self._read, args=pair, daemon=True)
                        for pair in ((self.process.stdout, self.out), (self.process.stderr, self.err))]
        for reader in self.readers:
            reader.start()
        if wait:
            self.wait_ready()
        return self

    @staticmethod
    def _read(pipe, lines):
        for line in iter(pipe.readline, b""):
            lines.append(line.decode(errors="replace"))
        pipe.close()

    def wait_ready(self):
        self.wait(lambda: self._find_port() or self.process.poll() is not None, PATIENCE, "the address")
        if self.port is None:
            self._ended()
            raise AssertionError(f"the server did not start: {self.text()}")
        self.wait(lambda: self.request("GET", "/readyz").status == 200, PATIENCE, "/readyz")

    def _find_port(self):
        for line in list(self.out):
            match = re.match(r"listening on http://127\.0\.0\.1:(\d+)$", line.rstrip("\n"))
            if match:
                self.port = int(match[1])
            match = re.match(r"admin key: (\S+)$", line.rstrip("\n"))
            if match:
                self.key = match[1]
        return self.port is not None

    @staticmethod
    def wait(condition, seconds, what):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"waited {seconds} s for {what}")
            time.sleep(0.01)

    def text(self):
        return "".join(self.out[-20:] + self.err[-40:])

    def log(self):
        """The log lines so far, parsed."""
        return [json.loads(line) for line in list(self.err)]

    def requests_logged(self):
        return [line for line in self.log() if line["msg"] == "request"]

    # ---- end

    def _ended(self):
        status = self.process.wait(PATIENCE)
        for reader in self.readers:
            reader.join(PATIENCE)
        return status

    def kill(self):
        """SIGKILL: nothing is written any more."""
        self.process.kill()
        self._ended()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self):
        """SIGTERM; fails when the server does not end well. Returns how long it took."""
        if self.process is None or self.process.returncode is not None:
            return 0.0
        if self.process.poll() is None:
            self.terminate()
        begin = time.monotonic()
        try:
            status = self.process.wait(30 * SLOW)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"SIGTERM did not end the server: {self.text()}") from None
        self._ended()
        if status != 0:
            raise AssertionError(f"the server ended with {status}: {self.text()}")
        return time.monotonic() - begin

    # ---- requests

    def raw(self, data=b"", receive_buffer=None):
        connection = Raw(self.port, receive_buffer)
        connection.send(data)
        return connection

    def connection(self, timeout=None):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout or PATIENCE)

    def request(self, method, path, body=None, kind=None, headers=None, on=None, timeout=None):
        """One request; `on`: a connection to use and keep, otherwise a new one."""
        sent = {}
        if body is not None:
            if not isinstance(body, (bytes, bytearray)):
                kind, body = kind or JSON, json.dumps(body).encode()
            sent["Content-Type"] = kind or JSON
        if self.key:
            sent["Authorization"] = f"Bearer {self.key}"
        sent.update(headers or {})
        connection = on or self.connection(timeout)
        try:
            connection.request(method, path, body=body, headers={k: v for k, v in sent.items() if v is not None})
            got = connection.getresponse()
            reply = Reply(got.status, got.getheaders(), got.read())
        finally:
            if on is None:
                connection.close()
        if self.check is not None:
            self.check(method, path, reply)
        return reply

    def get(self, path, **how):
        return self.request("GET", path, **how)

    def gauge(self, name):
        """A whole number of /metrics."""
        return int(self.get("/metrics").body.split(b"\nlikeness_%b " % name.encode())[1].split(b"\n")[0])

    def put(self, item, data=None, attributes=None, catalogue="default", **how):
        """An item: the raw photo, or JSON where there are attributes."""
        path = item_path(item, catalogue)
        if attributes is None:
            return self.request("PUT", path, data, "image/jpeg", **how)
        body = {"attributes": attributes} | ({"images": [{"data": b64(data)}]} if data is not None else {})
        return self.request("PUT", path, body, **how)

    def search(self, data, query="", catalogue="default", **how):
        return self.request("POST", f"/v1/catalogues/{catalogue}/search{query}", data, "image/jpeg", **how)

    def batch(self, lines, catalogue="default", **how):
        body = lines if isinstance(lines, bytes) else ndjson(lines)
        return self.request("POST", f"/v1/catalogues/{catalogue}/items:batch", body, NDJSON, **how)

    def fill(self, n=None, catalogue="default"):
        """The demo catalogue (its first n), attribute `n` = number, `kind` = the name before the dash; returns the ids."""
        lines = [put_line(name, data, n=i, kind=name.rsplit("-", 1)[0])
                 for i, (name, data) in enumerate(itertools.islice(photos(), n))]
        reply = self.batch(lines, catalogue)
        bad = [line for line in reply.lines() if line["status"] != 201]
        if reply.status != 200 or bad:
            raise AssertionError(f"the demo catalogue is refused: {reply!r} {bad[:3]}")
        return [line["id"] for line in lines]


def run(*args, env=None, feed=None, program=PROGRAM, timeout=PATIENCE, **how):
    """A command of the program, to its end."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("LIKENESS_")} | (env or {})
    return subprocess.run([str(program), *map(str, args)], env=clean, input=feed, capture_output=True, text=True,
                          timeout=timeout, **how)


class TestCase(unittest.TestCase):
    maxDiff = 4000

    def is_problem(self, reply, status, code, field=None):
        """The reply is this problem, well-formed."""
        self.assertEqual((reply.status, reply.code), (status, code), repr(reply))
        problem = reply.json()
        self.assertEqual(list(problem)[:6], ["type", "title", "status", "detail", "code", "instance"])
        self.assertEqual(problem["type"], f"urn:likeness:problem:{code}")
        self.assertEqual(problem["status"], status)
        self.assertEqual(problem["instance"], reply.header("X-Request-Id"))
        self.assertTrue(problem["title"] and problem["detail"])
        if field is not None:
            self.assertEqual(problem.get("field"), field, repr(reply))
        self.assertEqual(reply.header("Retry-After") is not None, status in (503, 507), repr(reply))
        return problem

    def ok(self, reply, *statuses):
        self.assertIn(reply.status, statuses or (200,), repr(reply))
        return reply


class Folder(TestCase):
    """Tests with a folder of their own."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="likeness-http-"))
        self.folder.chmod(0o755)  # another user tries to start there
        self.addCleanup(shutil.rmtree, self.folder, True)


def main(file):
    """unittest, with the build folder taken from the command line; leaves the problem codes that were seen."""
    record = CODES / (pathlib.Path(file).stem + ".txt")
    record.unlink(missing_ok=True)
    if not PROGRAM.exists():
        sys.exit(f"{PROGRAM} is missing: python3 {pathlib.Path(file).name} BUILD_DIR")
    ended = unittest.main(module="__main__", argv=[sys.argv[0]] + sys.argv[2:], exit=False, verbosity=1).result
    CODES.mkdir(parents=True, exist_ok=True)
    record.write_text("".join(f"{code}\n" for code in sorted(seen_codes)))
    sys.exit(0 if ended.wasSuccessful() else 1)
