"""framing_test.py: requests as raw bytes. Whatever is wrong with the framing of a request, there is one answer at most, the
connection ends, and no byte behind it is taken for another request: two servers in a row that disagree about where a
request ends are how requests are smuggled."""

import random
import re
import time

from harness import BATCH, CATALOGUE, NDJSON, SLOW, Server, TestCase, main, photo

HOST = b"Host: x\r\n"
SECOND = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
EMPTY_CHUNKS = b"0\r\n\r\n"


def embed(headers, body=b""):
    return b"POST /v1/embed HTTP/1.1\r\n" + HOST + b"Content-Type: image/jpeg\r\n" + headers + b"\r\n" + body


def batch(headers, body=b"", version=b"1.1"):
    return (f"POST {BATCH} HTTP/".encode() + version + b"\r\n" + HOST + f"Content-Type: {NDJSON}\r\n".encode() + headers + b"\r\n" + body)


def chunked(body):
    return batch(b"Transfer-Encoding: chunked\r\n", body)


def livez(headers=HOST, target=b"/livez", version=b"HTTP/1.1"):
    return b"GET " + target + b" " + version + b"\r\n" + headers + b"\r\n"


# Refused by us: one problem, then the end.
OURS = {
    "length and coding": (400, "bad_request", embed(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", EMPTY_CHUNKS)),
    "coding and length": (400, "bad_request", embed(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", EMPTY_CHUNKS)),
    "unknown coding": (400, "bad_request", batch(b"Transfer-Encoding: xchunked\r\n", EMPTY_CHUNKS)),
    "two codings": (400, "bad_request", batch(b"Transfer-Encoding: gzip, chunked\r\n", EMPTY_CHUNKS)),
    "coding twice": (400, "bad_request", batch(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", EMPTY_CHUNKS)),
    "coding behind a control byte": (400, "bad_request", batch(b"Transfer-Encoding: \x0bchunked\r\n", EMPTY_CHUNKS)),
    "identity": (400, "bad_request", batch(b"Transfer-Encoding: identity\r\n", EMPTY_CHUNKS)),
    "two lengths": (400, "bad_request", embed(b"Content-Length: 3\r\nContent-Length: 0\r\n", b"abc")),
    "the same length twice": (400, "bad_request", embed(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc")),
    "blank before the colon": (400, "bad_request", embed(b"Content-Length : 3\r\n", b"abc")),
    "tab before the colon": (400, "bad_request", embed(b"Content-Length\t: 3\r\n", b"abc")),
    "2^64 - 1": (400, "bad_request", embed(b"Content-Length: 18446744073709551615\r\n", b"abc")),
    "2^63": (400, "bad_request", embed(b"Content-Length: 9223372036854775808\r\n", b"abc")),
    "folded length": (400, "bad_request", embed(b"Content-Length:\r\n 3\r\n", b"abc")),
    "length with a second line": (400, "bad_request", embed(b"Content-Length: 3\r\n 0\r\n", b"abc")),
    "folded coding": (400, "bad_request", batch(b"Transfer-Encoding:\r\n chunked\r\n", EMPTY_CHUNKS)),
    "fold without a header": (400, "bad_request", livez(b" X: y\r\n" + HOST)),
    "header name": (400, "bad_request", livez(HOST + b"A(b): x\r\n")),
    "two hosts": (400, "bad_request", livez(HOST + b"Host: y\r\n")),
    "no host": (400, "bad_request", livez(b"")),
    "content coding": (400, "bad_request", embed(b"Content-Encoding: gzip\r\nContent-Length: 3\r\n", b"abc")),
    "large header": (431, "headers_too_large", livez(HOST + b"A: " + b"x" * 40000 + b"\r\n")),
    "many headers": (431, "headers_too_large", livez(HOST + b"".join(b"A%d: x\r\n" % i for i in range(200)))),
    "long target": (414, "uri_too_long", livez(target=b"/" + b"x" * 16384)),
    "blank in the target": (400, "path_invalid", livez(target=b"/live z")),
    "tab in the target": (400, "path_invalid", livez(target=b"/live\tz")),
    "UTF-8 in the target": (400, "path_invalid", livez(target="/\u00e9".encode())),
    "no path": (400, "bad_request", livez(target=b"livez")),
    "authority": (400, "bad_request", b"CONNECT x:80 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "asterisk": (400, "bad_request", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n"),
    "body of a GET": (400, "body_unexpected", livez(HOST + b"Content-Length: %d\r\n" % len(SECOND))),
    "chunks of a GET": (400, "body_unexpected", livez(HOST + b"Transfer-Encoding: chunked\r\n") + EMPTY_CHUNKS),
    "chunks of a photo": (411, "length_required", embed(b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n")),
    "body too large": (413, "body_too_large", embed(b"Content-Length: 99999999999\r\n", b"abc")),
    "body of no route": (404, "not_found", b"POST /nope HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(SECOND)),
    "body of a wrong method": (405, "method_not_allowed", b"PUT /v1/embed HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\nGET / HTT"),
}

# Refused by libmicrohttpd itself, without asking us; 0.9.75 closes some of them without a word, and says its status line
# and headers twice where a length is malformed.
THEIRS = {
    "two numbers": embed(b"Content-Length: 3, 3\r\n", b"abc"),
    "plus": embed(b"Content-Length: +3\r\n", b"abc"),
    "minus": embed(b"Content-Length: -1\r\n", b"abc"),
    "23 digits": embed(b"Content-Length: 99999999999999999999999\r\n", b"abc"),
    "hexadecimal": embed(b"Content-Length: 0x3\r\n", b"abc"),
    "no number": embed(b"Content-Length: \r\n", b"abc"),
    "blank in a number": embed(b"Content-Length: 3 3\r\n", b"abc"),
    "no colon": livez(HOST + b"foo\r\n"),
    "NUL in a name": livez(HOST + b"A\0b: foo\r\n"),
    "HTTP/2": livez(version=b"HTTP/2.0"),
    "HTTP/0.9": b"GET /livez\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n",
    "carriage returns only": b"GET /livez HTTP/1.1\rHost: x\r\r",
    "80 kB of headers": livez(HOST + b"A: " + b"x" * 80000 + b"\r\n"),
    "1,500 headers": livez(HOST + b"".join(b"A%d: x\r\n" % i for i in range(1500))),
    "80 kB of target": livez(target=b"/" + b"x" * 80000),
    "chunk size": chunked(b"zz\r\n{}\n\r\n0\r\n\r\n"),
    "chunk size with 0x": chunked(b"0x3\r\n{}\n\r\n0\r\n\r\n"),
    "negative chunk size": chunked(b"-3\r\n{}\n\r\n0\r\n\r\n"),
    "chunk size over 64 bits": chunked(b"FFFFFFFFFFFFFFFFF\r\n{}\n\r\n0\r\n\r\n"),
    "chunk without its end": chunked(b"3\r\n{}\nX0\r\n\r\n"),
}

# Of OURS, what libmicrohttpd 1.0 refuses itself: one reply with a page of its own and the end, before we are asked.
THEIRS_SINCE_1_0 = {
    "length and coding", "coding and length", "unknown coding", "two codings", "coding behind a control byte", "identity",
    "blank before the colon", "tab before the colon", "2^64 - 1", "folded length", "length with a second line", "folded coding",
    "fold without a header", "no host", "blank in the target",
}


def status_lines(data):
    return re.findall(rb"HTTP/1\.[01] (\d{3}) ", data)


class Framing(TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--header-timeout", "3s", "--body-timeout", "3s", "--idle-timeout", "3s").start()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()

    def tearDown(self):
        self.assertEqual(self.server.get("/livez").status, 200)
        self.assertFalse(self.smuggled())

    def smuggled(self):
        return any(line["path"] == "/smuggled" for line in self.server.requests_logged())

    def test_refused_with_a_problem(self):
        for name, (status, code, data) in OURS.items():
            with self.subTest(name), self.server.raw(data + SECOND) as c:
                begin = time.monotonic()
                replies = c.until_closed(10 * SLOW)
                self.assertTrue(c.closed, "the connection stays open")
                self.assertLess(time.monotonic() - begin, 2 * SLOW)
                self.assertEqual(len(status_lines(c.data)), 1, c.data)
                self.assertEqual(replies[0].header("Connection"), "close")
                if name in THEIRS_SINCE_1_0 and replies[0].body.startswith(b"<html>"):
                    self.assertIn(replies[0].status, (400, 413))
                else:
                    self.is_problem(replies[0], status, code)

    def test_refused_by_the_library(self):
        for name, data in THEIRS.items():
            with self.subTest(name), self.server.raw(data + SECOND) as c:
                c.receive(10 * SLOW)
                self.assertTrue(c.closed, "the connection stays open")
                self.assertLessEqual(set(status_lines(c.data)), {b"400", b"413", b"414", b"431", b"505"})
                self.assertLessEqual(len(set(status_lines(c.data))), 1, c.data)
                self.assertFalse(self.smuggled())

    def test_tolerated(self):
        """Odd, but every server in a row reads them in the same way: answered, then the next request is."""
        odd = {
            "bare line feeds": b"GET /livez HTTP/1.1\nHost: x\n\n",
            "folded header": livez(HOST + b"X-A: 1\r\n b\r\n"),
            "blanks": b"GET  /livez HTTP/1.1\r\n" + HOST + b"\r\n",
            "leading zero": embed(b"Content-Length: 03\r\n", b"abc"),
            "coding in capitals": batch(b"transfer-encoding: CHUNKED\r\n", EMPTY_CHUNKS),
            "chunk extension": chunked(b"3;a=b\r\n{}\n\r\n0\r\n\r\n"),
            "trailer": chunked(b"3\r\n{}\n\r\n0\r\nContent-Length: 9\r\n\r\n"),
        }
        for name, data in odd.items():
            with self.subTest(name), self.server.raw(data + livez(HOST + b"Connection: close\r\n")) as c:
                c.receive(10 * SLOW)
                self.assertTrue(c.closed)
                first = status_lines(c.data)[0]
                self.assertIn(first, (b"200", b"400", b"415"))
                if len(status_lines(c.data)) > 1:
                    self.assertEqual(status_lines(c.data)[1:], [b"200"])

    def test_endless_chunk(self):
        """A chunk of 2^64 - 2 bytes never ends: the deadline of the body does it."""
        with self.server.raw(chunked(b"FFFFFFFFFFFFFFFE\r\n{}\n\r\n0\r\n\r\n") + SECOND) as c:
            c.receive(20 * SLOW)
            self.assertTrue(c.closed)

    def test_pipelining(self):
        last = livez(HOST + b"Connection: close\r\n")
        with self.server.raw(livez() * 3 + embed(b"Content-Length: 3\r\n", b"abc") + livez(target=b"/second") + last) as c:
            self.assertEqual([r.status for r in c.until_closed()], [200, 200, 200, 415, 404, 200])

    def test_nothing_behind_close(self):
        for data in (livez(HOST + b"Connection: close\r\n"), b"GET /livez HTTP/1.0\r\n\r\n"):
            with self.server.raw(data + SECOND) as c:
                self.assertEqual([r.status for r in c.until_closed()], [200])

    def test_targets(self):
        for target, statuses in ((b"/livez%00", (400, 404)), (b"/livez%0d%0aX:1", (400, 404)), (b"/a/../../etc/passwd", (404,)),
                                 (b"/%2e%2e/livez", (404,)), (b"/livez?x=1", (200, 400)), (b"http://other/livez", (200,)),
                                 (b"HTTPS://other:1/livez", (200,)), (b"http://other", (200,)), (b"/livez#x", (200, 400, 404)),
                                 (f"{CATALOGUE}/items/%00".encode(), (400,)), (f"{CATALOGUE}/items/%0a".encode(), (400,))):
            with self.subTest(target), self.server.raw(livez(HOST + b"Connection: close\r\n", target)) as c:
                replies = c.until_closed()
                self.assertEqual(len(replies), 1)
                self.assertIn(replies[0].status, statuses)
        self.assertFalse([line for line in self.server.err if "\r" in line[:-1]], "a log line holds a raw control byte")

    def test_long_targets(self):
        """The longest target fits together with the longest headers and a body; one byte more is too many."""
        headers = HOST + b"".join(b"A%02d: %b\r\n" % (i, b"x" * 300) for i in range(100)) + b"Connection: close\r\n"
        for n, status in ((8193, 404), (16384, 404), (16385, 414)):
            target = b"/" + b"x" * (n - 1)
            post = b"POST " + target + b" HTTP/1.1\r\n" + headers + b"Content-Length: 90000\r\n\r\n" + b"y" * 90000
            for data in (livez(headers, target), post):
                with self.subTest(n, method=data[:4]), self.server.raw(data) as c:
                    self.is_problem(c.until_closed()[0], status, {404: "not_found", 414: "uri_too_long"}[status])

    def test_expect_continue(self):
        data = photo("boot-1")
        with self.server.raw(embed(b"Expect: 100-continue\r\nContent-Length: %d\r\n" % len(data))) as c:
            self.assertEqual(c.replies(1)[0].status, 100)
            c.send(data)
            self.assertEqual(c.replies(2)[1].status, 200)
        with self.server.raw(embed(b"Expect: 100-continue\r\nContent-Length: 999999999\r\n")) as c:
            self.is_problem(c.until_closed()[0], 413, "body_too_large")
        with self.server.raw(chunked(b"")[:-2] + b"Expect: 100-continue\r\n\r\n") as c:
            self.assertEqual(c.replies(1)[0].status, 100)
            c.send(EMPTY_CHUNKS)
            c.receive(10 * SLOW, lambda d: d.endswith(EMPTY_CHUNKS))
            self.assertEqual(status_lines(c.data), [b"100", b"200"])

    def test_in_pieces(self):
        """One byte at a time, and cut within the line ends: the same answers."""
        data = livez() + embed(b"Content-Length: 3\r\n", b"abc") + livez(HOST + b"Connection: close\r\n")
        with self.server.raw() as c:
            for i in range(len(data)):
                c.send(data[i:i + 1])
            self.assertEqual([r.status for r in c.until_closed()], [200, 415, 200])

    def test_client_leaves(self):
        """In the header, in the body, before the answer: nobody else notices."""
        whole = embed(b"Content-Length: %d\r\n" % len(photo("boot-1")), photo("boot-1"))
        for cut in (1, 30, 100, len(whole) // 2, len(whole)):
            for _ in range(5):
                self.server.raw(whole[:cut]).socket.close()
        self.assertEqual(self.server.request("POST", "/v1/embed", photo("boot-1"), "image/jpeg").status, 200)

    def test_mutations(self):
        """Good requests with bytes changed, dropped and doubled: the server stays, and each connection ends."""
        rng = random.Random(20)
        seeds = [data for _, _, data in OURS.values()] + list(THEIRS.values()) + [livez(), chunked(b"3\r\n{}\n\r\n0\r\n\r\n")]
        seeds = [s for s in seeds if len(s) < 2000]
        for _ in range(250 // SLOW):
            data = bytearray(rng.choice(seeds).replace(b"/smuggled", b"/muggled"))
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(len(data))
                kind = rng.randrange(4)
                if kind == 0:
                    data[at] = rng.randrange(256)
                elif kind == 1:
                    del data[at:at + rng.randint(1, 8)]
                elif kind == 2:
                    data[at:at] = data[at:at + rng.randint(1, 20)]
                else:
                    data[at:at] = rng.choice([b"\r\n", b"\n", b":", b" ", b"\0", b"\xff", b"chunked", b"0"])
                data = data or bytearray(b"x")
            with self.server.raw(bytes(data)) as c:
                c.receive(0.02)
                for status in status_lines(c.data):
                    self.assertNotIn(status, (b"500",), data)
        self.assertIsNone(self.server.process.poll())


if __name__ == "__main__":
    main(__file__)
