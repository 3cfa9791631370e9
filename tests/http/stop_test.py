"""stop_test.py: SIGTERM while something is going on. The server ends with 0 in bounded time whatever its clients do; what it
has answered is there at the next start."""

import errno
import os
import socket
import tempfile
import threading
import time

from harness import BATCH, NDJSON, SLOW, Server, TestCase, item_path, main, multipart, ndjson, photo, photos, put_line

BOOT = photo("boot-1")


class Stop(TestCase):
    def test_kept_connections(self):
        """Clients that ask again and again on one connection: the next request comes right when the last one has ended."""
        request = f"DELETE {item_path('nobody')} HTTP/1.1\r\nHost: x\r\n\r\n".encode()

        def ask(server):
            try:
                with server.raw() as c:
                    while c.send(request) and len(c.replies(1, 5 * SLOW)) == 1:
                        c.data = b""
            except OSError:
                pass
        for _ in range(12):
            with Server() as s:
                clients = [threading.Thread(target=ask, args=(s,), daemon=True) for _ in range(2)]
                for c in clients:
                    c.start()
                time.sleep(0.1)
                s.stop()
                for c in clients:
                    c.join(30 * SLOW)
                    self.assertFalse(c.is_alive())

    def test_in_every_state(self):
        """Requests that wait, are computed, arrive, or are answered to a client that does not read: without time for them they
        are told or cut, with some time the short ones are served."""
        for drain in (0, 2 * SLOW):
            with self.subTest(drain=drain), \
                    Server("--threads", "1", "--max-queue-age", "60s", "--drain-timeout", f"{drain}s") as s:
                s.fill(20)
                head = f"POST {BATCH} HTTP/1.1\r\nHost: x\r\nContent-Type: {NDJSON}\r\n".encode()
                search = b"POST /v1/catalogues/default/search HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n" \
                         b"Content-Length: %d\r\n\r\n" % len(BOOT)
                lines = ndjson(put_line(f"late-{name}", data) for name, data in photos())
                answers = ndjson({"op": "delete", "id": "x" * 200} for _ in range(20000 // SLOW))
                chunk = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n"
                slow = s.raw(receive_buffer=4096)  # its answers fill the socket
                slow.send(head + b"Content-Length: %d\r\n\r\n" % len(answers) + answers)
                open_ones = [slow] + [s.raw(data) for data in (
                    b"", b"GET /liv", b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
                    search, search + BOOT[:5000], head + b"Content-Length: 100000\r\n\r\n", chunk % (len(lines), lines),
                    head + b"Content-Length: %d\r\n\r\n" % len(lines) + lines)]
                body, kind = multipart([("image", BOOT)] * 16)  # some work for each
                put = f"PUT {item_path('many')} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
                queued = [s.raw(put.encode() + body) for _ in range(20)]
                s.wait(lambda: self.waiting(s) > 5, 20 * SLOW, "a queue")
                took = s.stop()
                self.assertLess(took, drain + 5 * SLOW)
                statuses = []
                for c in queued:
                    statuses += [(r.status, r.code) for r in c.until_closed(5 * SLOW)]
                for c in open_ones + queued:
                    c.socket.close()
                self.assertGreaterEqual(len(statuses), 19)  # one may be in hand for longer than is left
                self.assertLessEqual(set(statuses), {(201, None), (200, None), (503, "shutting_down")})
                self.assertIn((503, "shutting_down") if drain == 0 else (200, None), statuses)

    def test_before_it_is_ready(self):
        """A start that takes long (here a model that never comes) can be stopped."""
        with tempfile.TemporaryDirectory() as folder:
            os.mkfifo(f"{folder}/model.onnx")
            s = Server("--model", f"{folder}/model.onnx", data=f"{folder}/data")
            for pause in (0, 0.1, 0.5):
                s.start(wait=False)
                s.wait(lambda: self.owner(s) == str(s.process.pid), 10 * SLOW, "the data folder")
                time.sleep(pause)
                self.assertLess(s.stop(), 5 * SLOW)

    @staticmethod
    def owner(server):
        lock = server.data / "lock"
        return lock.read_text().strip() if lock.exists() else None

    def test_new_connections(self):
        """While the last ones are served nobody else can connect: a proxy in front takes another server then."""
        with Server("--drain-timeout", "30s") as s:
            with s.raw(b"POST /v1/embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(BOOT)) as c:
                c.send(BOOT[:100])
                s.wait(lambda: b"\nlikeness_http_connections 2\n" in s.get("/metrics").body, 10 * SLOW, "the connection")
                s.terminate()
                s.wait(lambda: self.is_refused(s), 10 * SLOW, "the end of listening")
                c.send(BOOT[100:])
                reply = c.until_closed()[0]
                self.assertEqual((reply.status, reply.header("Connection")), (200, "close"))
            s.stop()

    @staticmethod
    def is_refused(server):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", server.port)) == errno.ECONNREFUSED

    @staticmethod
    def waiting(server):
        return int(server.get("/metrics").body.split(b'likeness_queue_length{class="interactive"} ')[1].split(b"\n")[0])

    def test_answered_is_there(self):
        """Writers whose server goes: what they were told is what the next start finds."""
        with Server("--drain-timeout", "0") as s:
            for round_ in range(3):
                told, tried = [], []

                def write(k):
                    try:
                        for i in range(1000):
                            item = f"w{round_}-{k}-{i}"
                            tried.append(item)
                            if s.put(item, BOOT).status == 201:
                                told.append(item)
                    except OSError:
                        pass
                writers = [threading.Thread(target=write, args=(k,), daemon=True) for k in range(4)]
                for w in writers:
                    w.start()
                s.wait(lambda: len(told) > 20, 30 * SLOW, "writes")
                s.stop()
                for w in writers:
                    w.join(30 * SLOW)
                s.start()
                there = {item for item in tried if s.get(item_path(item)).status == 200}
                self.assertLessEqual(set(told), there)
                self.assertGreater(len(told), 20)


if __name__ == "__main__":
    main(__file__)
