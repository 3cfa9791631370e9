"""keys_test.py: the admin key: shown once, stored as a hash, exchanged while the server runs, refused in every wrong form."""

import hashlib
import re
import threading

from harness import PATIENCE, SEARCH, SLOW, Folder, Server, item_path, main, photo, run

BOOT = photo("boot-1")
KEY = re.compile(r"lk_[A-Za-z0-9_-]{43}")


class Keys(Folder):
    def holds(self, data, secret):
        """Files of the data folder in which any 12 characters of the secret stand, one after the other."""
        parts = [secret[i:i + 12].encode() for i in range(9, len(secret) - 11)]  # the first 9 are shown on purpose
        return [p.name for p in data.rglob("*") if p.is_file() and any(part in p.read_bytes() for part in parts)]

    def test_first_start(self):
        data = self.folder / "data"
        with Server(data=data, keys=True) as s:
            shown = [line for line in s.out if KEY.search(line)]
            self.assertEqual(len(shown), 1, "the key is printed once")
            self.assertRegex(s.key, f"^{KEY.pattern}$")
            self.ok(s.get("/v1/catalogues"))
            s.fill(5)
            self.assertEqual(s.get("/v1/catalogues", headers={"Authorization": "Bearer " + s.key + "x"}).status, 401)
            self.assertEqual(self.holds(data, s.key), [])
            stored = (data / "admin-key").read_text()
            self.assertIn(hashlib.sha256(s.key.encode()).hexdigest(), stored)
            self.assertEqual((data / "admin-key").stat().st_mode & 0o777, 0o600)
            key = s.key
            s.stop()
            self.assertEqual(self.holds(data, key), [])
            self.assertEqual([line for line in s.err if key[9:21] in line], [], "the key is logged")
            s.key = None
            s.start()
            self.assertIsNone(s.key, "a second start shows the key again, or makes another")
            self.assertEqual((data / "admin-key").read_text(), stored)
            self.ok(s.get("/v1/catalogues", headers={"Authorization": "Bearer " + key}))

    def test_forms_of_401(self):
        with Server(keys=True) as s:
            key = s.key
            s.key = None
            for given in (f"Bearer {key}", f"bearer {key}", f"BEARER   {key}"):
                self.ok(s.get("/v1/catalogues", headers={"Authorization": given}))
            swapped = key[:3] + key[3:].swapcase()
            for given in (None, "", "Bearer", "Bearer ", key, f"Basic {key}", f"Bearer{key}", f"Bearer {key}x",
                          f"Bearer {key[:-1]}", f"Bearer {swapped}", f"Bearer {key} {key}", f"Bearer {key},", f'Bearer "{key}"',
                          "Bearer " + "x" * 4000, "Bearer " + hashlib.sha256(key.encode()).hexdigest(), f"Token {key}"):
                with self.subTest(given):
                    reply = s.get("/v1/catalogues", headers={"Authorization": given})
                    self.is_problem(reply, 401, "unauthorized")
                    self.assertTrue(reply.header("WWW-Authenticate").startswith("Bearer"))
                    self.assertNotIn(key[9:], reply.body.decode())
            self.is_problem(s.get(f"/v1/catalogues?key={key}"), 401, "unauthorized")
            self.is_problem(s.get("/v1/catalogues", headers={"X-Api-Key": key}), 401, "unauthorized")
            self.is_problem(s.get("/nothing"), 401, "unauthorized")  # who has no key does not learn what there is
            two = f"GET /livez HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nAuthorization: Bearer x\r\n\r\n"
            with s.raw(two.encode()) as c:
                self.is_problem(c.replies(1)[0], 400, "bad_request")
            # A body is refused before it is sent, and what follows is no request.
            head = f"PUT {item_path('x')} HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 9000000\r\n\r\n"
            with s.raw(head.encode()) as c:
                self.is_problem(c.replies(1)[0], 401, "unauthorized")
                c.until_closed()
                self.assertTrue(c.closed)

    def test_what_is_open(self):
        """Exactly what the contract says, and the page."""
        with Server(keys=True) as s:
            document = s.get("/openapi.json", headers={"Authorization": None}).json()
            for path, item in document["paths"].items():
                for method in (m for m in item if m in ("get", "put", "post", "patch", "delete")):
                    target = path.replace("{catalogue}", "default").replace("{item}", "x").replace("{n}", "0")
                    status = s.request(method.upper(), target, headers={"Authorization": None}).status
                    opened = item[method].get("security", document["security"]) == []
                    self.assertEqual(status != 401, opened, f"{method} {path}: {status}")
            for path in ("/", "/app.js", "/style.css"):
                self.ok(s.get(path, headers={"Authorization": None}))

    def test_rotation_under_load(self):
        """While keys change, a request is answered or refused, nothing else; a new key counts from the moment it is shown."""
        with Server(keys=True) as s:
            s.fill(5)
            stop, odd, old = threading.Event(), [], s.key

            def shopper(key):
                connection, bearer = s.connection(), {"Authorization": f"Bearer {key}"}
                while not stop.is_set():
                    status = s.request("POST", SEARCH, BOOT, "image/jpeg", headers=bearer, on=connection).status
                    if status not in (200, 401):
                        odd.append(status)
                connection.close()

            threads = [threading.Thread(target=shopper, args=(key,), daemon=True) for key in (old, "lk_wrong")]
            for t in threads:
                t.start()
            try:
                for _ in range(20 // SLOW):
                    fresh = run("key", "create", "--data", s.data).stdout.strip()
                    self.assertRegex(fresh, f"^{KEY.pattern}$")
                    self.assertEqual(s.get("/v1/catalogues", headers={"Authorization": f"Bearer {fresh}"}).status, 200)
                    self.assertEqual(s.get("/v1/catalogues", headers={"Authorization": f"Bearer {old}"}).status, 401)
                    self.assertEqual(self.holds(s.data, fresh), [])
                    old = fresh
            finally:
                stop.set()
                for t in threads:
                    t.join(PATIENCE)
            self.assertEqual(odd, [])
            s.key = old
            s.stop()
            s.start()
            self.ok(s.get("/v1/catalogues"))

    def test_key_of_ones_own(self):
        file = self.folder / "key"
        file.write_text("a key of sixteen+\nsecond line\n")
        with Server("--admin-key-file", str(file), keys=True) as s:
            self.assertIsNone(s.key)
            s.key = "a key of sixteen+"
            self.ok(s.get("/v1/catalogues"))
            self.assertFalse((s.data / "admin-key").exists())
            self.assertEqual([p.name for p in s.data.rglob("*") if p.is_file() and b"sixteen" in p.read_bytes()], [])
        for content, part in (("short\n", "5 characters"), ("", "empty"), (None, "No such file")):
            file.unlink(missing_ok=True)
            if content is not None:
                file.write_text(content)
            done = run("serve", "--data", self.folder / "d", "--admin-key-file", file)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
            self.assertIn(part, done.stderr)


if __name__ == "__main__":
    main(__file__)
