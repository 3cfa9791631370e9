"""batch_test.py: items:batch as importers use it: thousands of lines, bad ones among them, chunked or with a length, read
slowly or not at all, cut off in the middle. One answer a line, in order; and what was answered is there."""

import json
import socket
import threading
import time

from harness import BATCH, CATALOGUE, ITEMS, NDJSON, SANITIZED, SLOW, Raw, Server, TestCase, b64, item_path, main, ndjson, photo, photos, put_line

BOOT = photo("boot-1")
HEAD = f"POST {BATCH} HTTP/1.1\r\nHost: x\r\nContent-Type: {NDJSON}\r\n".encode()
MANY = 1000 // SLOW


def unchunk(data):
    """The body of a chunked reply: (bytes, whether its end has come)."""
    body, at = b"", data.index(b"\r\n\r\n") + 4
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return body, False
        size = int(data[at:end].split(b";")[0], 16)
        if size == 0:
            return body, data[end:].endswith(b"\r\n\r\n")
        body += data[end + 2:end + 2 + size]
        at = end + 2 + size + 2
        if at > len(data):
            return body, False


class Batch(TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--body-timeout", "60s").start()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()

    def setUp(self):
        self.server.request("DELETE", CATALOGUE)
        self.ok(self.server.request("PUT", CATALOGUE), 201)

    def send_chunked(self, pieces):
        """The answer lines to a body sent in chunks."""
        with self.server.raw(HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n") as c:
            for piece in pieces:
                c.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            c.send(b"0\r\n\r\n")
            c.receive(60 * SLOW)
            body, whole = unchunk(c.data)
            self.assertTrue(whole, c.data[-200:])
            return [json.loads(line) for line in body.splitlines()]

    # ---- order

    def test_thousands_of_lines(self):
        """In order, and each item as its last line says; with every kind of line."""
        lines, want = [], {}
        for i, (name, data) in enumerate(photos() * (1 if SANITIZED else 4)):
            item = f"{name}-{i % 200}"
            lines.append(put_line(item, data, i=i))
            want[item] = {"i": i}
            if i % 3 == 0:
                lines.append({"op": "patch", "id": item, "attributes": {"i": -i, "p": True}})
                want[item] = {"i": -i, "p": True}
            if i % 5 == 0:
                lines.append(put_line(item, again=i))
                want[item] = {"again": i}
            if i % 7 == 0:
                lines.append({"op": "delete", "id": item})
                del want[item]
        lines += [{"op": "delete", "id": f"nobody-{i}"} for i in range(3 * MANY)]
        answers = self.ok(self.server.batch(lines)).lines()
        self.assertEqual([a["line"] for a in answers], list(range(1, len(lines) + 1)))
        self.assertEqual([a["id"] for a in answers], [line["id"] for line in lines])
        for line, answer in zip(lines, answers):
            kind = line.get("op", "put")
            good = {"put": (200, 201), "patch": (200,), "delete": (204,)}[kind]
            self.assertIn(answer["status"], (404,) if line["id"].startswith("nobody") else good, (line["id"], answer))
        self.assertEqual(self.all_items(), want)
        self.assertEqual(self.server.get(CATALOGUE).json()["items"], len(want))

    def all_items(self):
        found, token = {}, ""
        while True:
            page = self.ok(self.server.get(f"{ITEMS}?limit=100{token}")).json()
            found |= {i["id"]: i["attributes"] for i in page["items"]}
            if "next_page_token" not in page:
                return found
            token = "&page_token=" + page["next_page_token"]

    def test_one_item_many_times(self):
        """Lines are worked on at once by several threads; the last one wins."""
        lines = [put_line("same", data, i=i) for i, (_, data) in enumerate(photos()[:60])]
        answers = self.ok(self.server.batch(lines)).lines()
        self.assertEqual([a["status"] for a in answers], [201] + [200] * 59)
        item = self.server.get(item_path("same")).json()
        self.assertEqual(item["attributes"], {"i": 59})
        self.assertEqual(self.server.search(photos()[59][1]).json()["results"][0]["score"], 1.0)

    # ---- bad lines

    def test_bad_lines(self):
        good = json.dumps(put_line("good", BOOT)).encode()
        lines = [
            (b"{", None, 400, "json_invalid"), (b"[]", None, 400, "json_invalid"), (b"null", None, 400, "json_invalid"),
            (b"", None, None, None), (b"   \t", None, None, None), (b"\r", None, None, None),
            (good, "good", 201, None), (b"{}", None, 400, "item_id_invalid"), (b'{"id":7}', None, 400, "item_id_invalid"),
            (b'{"id":""}', None, 400, "item_id_invalid"), (b'{"id":"' + b"x" * 257 + b'"}', None, 400, "item_id_invalid"),
            (b'{"id":"a","op":"upsert"}', "a", 400, "field_invalid"), (b'{"id":"a","image":"x"}', "a", 400, "field_unknown"),
            (b'{"id":"a"}', "a", 400, "images_missing"), (b'{"id":"a","images":[]}', "a", 400, "images_missing"),
            (b'{"id":"a","images":[{"data":"!"}]}', "a", 400, "base64_invalid"),
            (b'{"id":"a","images":[{"data":"AAAA"}]}', "a", 415, "image_format_unsupported"),
            (b'{"id":"a","images":[{"data":"' + b64(BOOT[:900]).encode() + b'"}]}', "a", 422, "image_damaged"),
            (b'{"id":"a","attributes":{"x":null}}', "a", 400, "attributes_invalid"),
            (b'{"id":"a","id":"b"}', None, 400, "json_invalid"), (b'\xff\xfe', None, 400, "json_invalid"), (b'{"id":"\xff"}', None, 400, "json_invalid"),
            (b'{"op":"delete","id":"a","attributes":{}}', "a", 400, None), (b'{"op":"patch","id":"a"}', "a", 400, None),
            (b'{"op":"patch","id":"a","attributes":{}}', "a", 404, "item_not_found"),
            (b'{"op":"patch","id":"good","attributes":{"x":1}}\r', "good", 200, None), (b'{"op":"delete","id":"a"}', "a", 404, "item_not_found"),
            (good, "good", 200, None),
        ]
        answers = iter(self.ok(self.server.batch(b"\n".join(line for line, *_ in lines))).lines())
        for number, (line, item, status, code) in enumerate(lines, 1):
            if status is None:
                continue
            answer = next(answers)
            with self.subTest(line[:60]):
                self.assertEqual((answer["line"], answer.get("id"), answer["status"]), (number, item, status), answer)
                if code is not None:
                    self.assertEqual(answer["code"], code)
                if status >= 400:
                    self.assertTrue(answer["detail"])
        self.assertIsNone(next(answers, None))
        self.assertEqual(list(self.all_items()), ["good"])

    def test_nothing(self):
        for body in (b"", b"\n", b"\n\n \n"):
            reply = self.ok(self.server.batch(body))
            self.assertEqual((reply.body, reply.header("Content-Type")), (b"", NDJSON))
        self.assertEqual(self.send_chunked([]), [])

    def test_types(self):
        for kind in ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-ndjson; charset=utf-8"):
            reply = self.server.request("POST", BATCH, b'{"op":"delete","id":"x"}\n', kind)
            self.assertEqual([a["code"] for a in self.ok(reply).lines()], ["item_not_found"])

    # ---- transport

    def test_chunks(self):
        """Lines cut anywhere: within UTF-8, within a number, one byte at a time."""
        body = ndjson([put_line(f"\u00fc{i}", BOOT, name="\u00e9\U0001f45f", price=12.5) for i in range(3)])
        raw = json.dumps({"op": "patch", "id": "\u00fc0", "attributes": {"name": "\u00e9\U0001f45f"}}, ensure_ascii=False).encode() + b"\n"
        self.assertEqual([a["status"] for a in self.send_chunked([raw[i:i + 1] for i in range(len(raw))])], [404])
        for size in (1000, 4096, 65536, len(body)):
            answers = self.send_chunked([body[i:i + size] for i in range(0, len(body), size)] + [raw])
            self.assertIn([a["status"] for a in answers], ([201] * 3 + [200], [200] * 4))
        self.assertEqual(self.server.get(item_path("\u00fc0")).json()["attributes"]["name"], "\u00e9\U0001f45f")

    def test_without_the_last_line_end(self):
        self.assertEqual([a["status"] for a in self.server.batch(ndjson([put_line("a", BOOT)])[:-1]).lines()], [201])
        self.assertEqual([a["status"] for a in self.send_chunked([b'{"op":"delete",', b'"id":"a"}'])], [204])

    def test_kept_connection(self):
        """Batches and other requests one after the other on one connection."""
        connection = self.server.connection()
        for i in range(20):
            self.ok(self.server.batch([put_line("a", BOOT, i=i)], on=connection))
            self.assertEqual(self.server.get(item_path("a"), on=connection).json()["attributes"], {"i": i})
        connection.close()

    def test_client_that_sends_all_first(self):
        """A reader that starts only after its last byte, with more answers than the socket holds."""
        lines = ndjson({"op": "delete", "id": f"nobody-{i}-{'x' * 200}"} for i in range(20 * MANY))
        with Raw(self.server.port, receive_buffer=4096) as c:
            sender_failed = not c.send(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(lines) + lines)
            self.assertFalse(sender_failed)
            time.sleep(0.5)
            self.ok(self.server.search(BOOT))
            c.receive(60 * SLOW)
            body, whole = unchunk(c.data)
            self.assertTrue(whole)
            self.assertEqual(len(body.splitlines()), 20 * MANY)
            self.assertEqual(json.loads(body.splitlines()[-1])["line"], 20 * MANY)

    def test_pressure(self):
        """A sender is slowed to the pace of the work: the server does not take it all into memory."""
        line = ndjson([put_line("big", BOOT + bytes(1_000_000))])
        n = 120 // SLOW
        before = self.memory()
        peak, stop = [0], threading.Event()

        def watch():
            while not stop.is_set():
                peak[0] = max(peak[0], self.memory())
                time.sleep(0.02)
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        answers = self.ok(self.server.batch(line * n)).lines()
        stop.set()
        watcher.join()
        self.assertEqual({a["status"] for a in answers} | {201}, {200, 201})
        self.assertEqual(len(answers), n)
        if not SANITIZED:
            # 2 x 32 MB of lines may be in flight; all of them would be 160 MB.
            self.assertLess((peak[0] - before) / 1e6, 130)

    def memory(self):
        return int(self.server.get("/metrics").body.split(b"\nprocess_resident_memory_bytes ")[1].split(b"\n")[0])

    # ---- clients that leave

    def test_client_leaves(self):
        """In the middle of a line, of the body, of the work and of the answers: whole lines count, half ones do not."""
        lines = [put_line(f"i{n}", data) for n, (_, data) in enumerate(photos()[:40])]
        body = ndjson(lines)
        head = HEAD + b"Content-Length: %d\r\n\r\n" % len(body)
        for cut in (0, 10, len(body) // 3, len(body) // 2, len(body) - 10, len(body)):
            with self.subTest(cut=cut):
                before = self.begun()
                c = self.server.raw(head + body[:cut])
                self.server.wait(lambda: self.begun() > before, 30 * SLOW, "the begin of the batch")
                time.sleep(0.05)
                c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not a farewell
                c.socket.close()
                whole = body[:cut].count(b"\n")
                self.server.wait(lambda: self.is_idle(self.server), 30 * SLOW, "the end of the batch")
                items = self.all_items()
                self.assertLessEqual(set(items), {f"i{n}" for n in range(whole)})
                self.assertEqual(self.server.get(CATALOGUE).json()["items"], len(items))
                self.assertEqual(self.server.gauge("body_memory_bytes"), 0)
        self.assertEqual([a["status"] for a in self.ok(self.server.batch(lines)).lines()][-1:], [200] if "i39" in items else [201])

    def begun(self):
        return self.server.gauge("batches_total") + self.server.gauge("batches_in_progress")

    def is_idle(self, server):
        """No connection but the one that asks, and no batch: in this order, as only a connection can begin one."""
        return server.gauge("http_connections") == 1 and server.gauge("batches_in_progress") == 0

    def test_many_leave_at_once(self):
        """libmicrohttpd does not see an end that arrives together with bytes: the deadline of the body does it then."""
        with Server("--body-timeout", "2s") as s:
            lines = ndjson([put_line(f"z{n}", BOOT) for n in range(20 // SLOW)])
            for _ in range(5):
                open_ones = [s.raw(HEAD + b"Content-Length: %d\r\n\r\n" % (2 * len(lines)) + lines) for _ in range(5)]
                for c in open_ones:
                    c.socket.close()
            s.wait(lambda: self.is_idle(s), 60 * SLOW, "the end of the batches")
            self.ok(s.search(BOOT))
            self.assertEqual(s.get(CATALOGUE).json()["items"], 20 // SLOW)

    def test_catalogue_goes(self):
        """Lines behind the end of their catalogue fail with its name; nothing of them stays."""
        self.ok(self.server.request("PUT", "/v1/catalogues/gone"), 201)
        first, rest = ndjson([put_line("a", BOOT)]), ndjson([put_line(f"b{i}", BOOT) for i in range(10)])
        with self.server.raw((HEAD.replace(b"/default/", b"/gone/")) + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n") as c:
            c.send(b"%x\r\n%b\r\n" % (len(first), first))
            self.server.wait(lambda: self.server.get("/v1/catalogues/gone").json()["items"] == 1, 20 * SLOW, "the first line")
            self.ok(self.server.request("DELETE", "/v1/catalogues/gone"), 204)
            c.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest))
            c.receive(30 * SLOW)
            answers = [json.loads(line) for line in unchunk(c.data)[0].splitlines()]
        self.assertEqual([a.get("code") for a in answers], [None] + ["catalogue_not_found"] * 10)
        self.is_problem(self.server.get("/v1/catalogues/gone"), 404, "catalogue_not_found")


if __name__ == "__main__":
    main(__file__)
