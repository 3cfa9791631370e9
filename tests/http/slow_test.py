"""slow_test.py: clients that take their time. A deadline is for the whole of what it guards: bytes that drip in do not
renew it, and nobody else waits meanwhile."""

import threading
import time

from harness import BATCH, ITEMS, SLOW, Server, TestCase, main, ndjson, parse_replies, photo, put_line

LIMIT = 1.5  # seconds, of every deadline below
START = b"POST /v1/embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"


class Slow(TestCase):
    @classmethod
    def setUpClass(cls):
        ms = str(int(LIMIT * 1000))
        cls.server = Server("--header-timeout", ms, "--body-timeout", ms, "--idle-timeout", ms).start()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()

    def drip(self, first, piece, seconds=LIMIT * 4 * SLOW):
        """Sends `first`, then piece after piece, until the server ends it: (connection, how long it lived)."""
        c = self.server.raw(first)
        self.addCleanup(c.socket.close)
        begin = time.monotonic()
        while not c.closed and time.monotonic() - begin < seconds:
            c.send(piece)
            c.receive(0.1)
        return c, time.monotonic() - begin

    def is_cut(self, c, lived, answer=True):
        self.assertTrue(c.closed, f"still open after {lived:.1f} s")
        self.assertGreater(lived, LIMIT * 0.8)
        self.assertLess(lived, LIMIT * 1.5 + SLOW)
        if answer:
            replies, rest = parse_replies(c.data)
            self.assertEqual([r.status for r in replies], [408], c.data)
            self.assertEqual((replies[0].code, rest), ("request_timeout", b""))
        c.socket.close()

    def test_nothing_at_all(self):
        self.is_cut(*self.drip(b"", b""), answer=False)

    def test_request_line(self):
        self.is_cut(*self.drip(b"GET /", b"x"), answer=False)

    def test_header(self):
        self.is_cut(*self.drip(b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"A: b\r\n"))

    def test_header_after_another_request(self):
        c, lived = self.drip(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\n", b"A: b\r\n")
        self.assertEqual([r.status for r in parse_replies(c.data)[0]], [200, 408])
        self.assertLess(lived, LIMIT * 1.5 + SLOW)
        c.socket.close()

    def test_body(self):
        self.is_cut(*self.drip(START + b"Content-Length: 100000\r\n\r\n", b"x"))

    def test_body_that_stops(self):
        self.is_cut(*self.drip(START + b"Content-Length: 100000\r\n\r\n" + b"x" * 50000, b""))

    def test_batch(self):
        """Lines may come for hours, but not byte by byte."""
        head = f"POST {BATCH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n".encode()
        self.is_cut(*self.drip(head + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"))
        self.is_cut(*self.drip(head + b"Content-Length: 100000\r\n\r\n", b" "))

    def test_batch_that_moves(self):
        """A client that sends all the time is not cut, however long it takes."""
        line = ndjson([{"op": "delete", "id": "x" * 200}]) * 200
        head = f"POST {BATCH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        with self.server.raw(head.encode()) as c:
            begin, sent = time.monotonic(), 0
            while time.monotonic() - begin < LIMIT * 2.5:
                self.assertTrue(c.send(b"%x\r\n%b\r\n" % (len(line), line)), "cut")
                sent += 200
                time.sleep(0.3)
            c.send(b"0\r\n\r\n")
            c.receive(30 * SLOW, lambda d: d.endswith(b"\r\n0\r\n\r\n"))
            self.assertEqual(c.data.count(b'"item_not_found"'), sent)

    def test_idle(self):
        with self.server.raw(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n") as c:
            self.assertEqual(c.replies(1)[0].status, 200)
            begin = time.monotonic()
            c.receive(LIMIT * 4 * SLOW)
            self.is_cut(c, time.monotonic() - begin, answer=False)

    def test_slow_reader(self):
        """A reply that nobody fetches does not hold the connection for good."""
        self.server.fill(100)
        with self.server.raw(receive_buffer=4096) as c:
            c.send(f"GET {ITEMS}?limit=100 HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 400)
            time.sleep(LIMIT * 2 * SLOW)
            c.receive(LIMIT * 8 * SLOW)
            self.assertTrue(c.closed)
            self.assertLess(c.data.count(b"HTTP/1.1 200"), 400)

    def test_others_do_not_wait(self):
        """200 slow clients of every kind, and shoppers are answered as ever."""
        kinds = [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n", START + b"Content-Length: 100000\r\n\r\nx"]
        slow = [self.server.raw(kinds[i % 4]) for i in range(200)]
        try:
            for _ in range(20):
                begin = time.monotonic()
                self.ok(self.server.search(photo("boot-1")), 200)
                self.assertLess(time.monotonic() - begin, 0.5 * SLOW)
            for c in slow:
                c.receive(LIMIT * 3 * SLOW)
                self.assertTrue(c.closed)
        finally:
            for c in slow:
                c.socket.close()
        text = self.ok(self.server.get("/metrics")).body.decode()
        cut = float(text.split("\nlikeness_connections_cut_total ")[1].split("\n")[0])
        self.assertGreaterEqual(cut, 100)
        self.assertTrue(any(line.get("ended") == "body" for line in self.server.requests_logged()))

    def test_large_body_in_time(self):
        """The deadline of a body grows with what has come: 2 MB in three times the limit is a normal upload."""
        data = photo("boot-1") + b"\0" * 2_000_000
        with self.server.raw(START + b"Content-Length: %d\r\n\r\n" % len(data)) as c:
            step = len(data) // 30 + 1
            for at in range(0, len(data), step):
                self.assertTrue(c.send(data[at:at + step]), "cut")
                time.sleep(LIMIT * 3 / 30)
            self.assertEqual(c.replies(1)[0].status, 200)


if __name__ == "__main__":
    main(__file__)
