"""clients.py: those who write while the server is killed. Each notes a write in the ledger before it goes out and again when
it is answered, and holds every answer to what its status must be."""

import http.client
import json
import random
import threading
import time

from harness import BATCH, ITEMS, NDJSON, SEARCH, SLOW, b64, item_path, multipart, ndjson

SHARED_ITEMS = 6
PATCH_KIND = "application/merge-patch+json"


class Unexpected(Exception):
    pass


class Round:
    """One life of the server: what its clients share."""

    def __init__(self, server, ledger, photos, seed):
        self.server, self.ledger, self.photos, self.seed = server, ledger, photos, seed
        self.ending = False   # set before the kill: from here on connections may break
        self.draining = False  # set before SIGTERM: from here on 503 is an answer
        self.errors = []
        self.sent = self.answered = 0
        self.lock = threading.Lock()

    def count(self, sent=0, answered=0):
        with self.lock:
            self.sent += sent
            self.answered += answered


class Client(threading.Thread):
    def __init__(self, round_, name):
        super().__init__(daemon=True, name=name)
        self.round, self.rng = round_, random.Random(f"{round_.seed} {name}")
        self.connection = None

    def run(self):
        try:
            while not self.round.ending:
                self.step()
        except (OSError, http.client.HTTPException) as e:
            if not self.round.ending and not self.round.draining:
                self.round.errors.append(f"{self.name}: the connection broke: {e!r}")
        except Unexpected as e:
            self.round.errors.append(f"{self.name}: {e}")
        finally:
            if self.connection is not None:
                self.connection.close()

    def request(self, method, path, body=None, kind=None):
        """(status, body or None): an answer counts from its status line on, whatever becomes of the rest."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.round.server.port, timeout=60 * SLOW)
        if body is not None and not isinstance(body, bytes):
            body, kind = json.dumps(body).encode(), kind or "application/json"
        self.connection.request(method, path, body, {"Content-Type": kind} if body is not None else {})
        reply = self.connection.getresponse()
        try:
            return reply.status, reply.read()
        except (OSError, http.client.HTTPException):
            return reply.status, None

    def is_one_of(self, status, want, what, body=b""):
        """True: done. False: refused. None: nobody knows."""
        if status == 503 and self.round.draining:
            return None
        if status not in want:
            raise Unexpected(f"{what}: {status} instead of {' or '.join(map(str, want))}: {(body or b'')[:300]!r}")
        return status < 300

    def picture(self, n):
        shas = self.rng.sample(sorted(self.round.photos), n)
        return shas, [self.round.photos[sha] for sha in shas]

    def attributes(self, **more):
        """A number that no other version has, and some of every type."""
        version = self.rng.getrandbits(48)
        few = {"text": f"v{version % 7}", "price": version % 1000 / 8, "sale": version % 2 == 0,
               "tags": [f"t{version % 3}", "all"]}
        return {"v": version} | dict(self.rng.sample(sorted(few.items()), self.rng.randrange(5))) | more


class Writer(Client):
    """One write at a time on items of its own."""

    ITEMS = 14

    def step(self):
        item_id = f"{self.name}/{self.rng.randrange(self.ITEMS)} \u00fc"
        item, path = self.round.ledger.own("default", item_id), item_path(item_id)
        now = item.now()
        kinds = ["raw", "form", "json", "json"] + (["keep", "patch", "patch", "delete", "refused"] if now else [])
        state, want, request = getattr(self, self.rng.choice(kinds))(now, path)
        item.sent(state)
        self.round.count(sent=1)
        status, body = self.request(*request)
        done = self.is_one_of(status, want, f"{request[0]} {item_id}", body)
        if done is None:
            raise OSError("draining")
        item.answered(refused=not done)
        self.round.count(answered=1)

    def raw(self, now, path):
        shas, pictures = self.picture(1)
        return ({}, shas), (200 if now else 201,), ("PUT", path, pictures[0], "image/png")

    def form(self, now, path):
        shas, pictures = self.picture(self.rng.randint(1, 3))
        attributes = self.attributes()
        body, kind = multipart([("image", p) for p in pictures] + [("attributes", json.dumps(attributes).encode())])
        return (attributes, shas), (200 if now else 201,), ("PUT", path, body, kind)

    def json(self, now, path):
        shas, pictures = self.picture(self.rng.randint(1, 4))
        attributes = self.attributes()
        body = {"attributes": attributes, "images": [{"data": b64(p)} for p in pictures]}
        return (attributes, shas), (200 if now else 201,), ("PUT", path, body)

    def keep(self, now, path):
        attributes = self.attributes()
        return (attributes, now[1]), (200,), ("PUT", path, {"attributes": attributes})

    def patch(self, now, path):
        attributes = self.attributes()
        gone = self.rng.sample(sorted(now[0]), min(len(now[0]), 1))
        merged = {k: v for k, v in now[0].items() if k not in gone} | attributes
        return (merged, now[1]), (200,), ("PATCH", path, {"attributes": dict.fromkeys(gone) | attributes}, PATCH_KIND)

    def delete(self, now, path):
        return None, (204,), ("DELETE", path)

    def refused(self, now, path):
        """A write that must leave nothing: the item is there."""
        _, pictures = self.picture(1)
        return now, (409,), ("PUT", path + "?create_only=true", pictures[0], "image/png")


class Sharer(Client):
    """Whole puts and deletes of items that other Sharers write as well; in a catalogue that comes and goes, too."""

    def step(self):
        catalogue = self.rng.choice(["default", "race"])
        item_id = f"shared-{self.rng.randrange(SHARED_ITEMS)}"
        item, path = self.round.ledger.shared(catalogue, item_id), item_path(item_id, catalogue)
        if self.rng.random() < 0.25:
            state, want, request = None, (204, 404), ("DELETE", path)
        else:
            shas, pictures = self.picture(self.rng.randint(1, 3))
            state, want = (self.attributes(), shas), (200, 201) if catalogue == "default" else (200, 201, 404)
            request = ("PUT", path, {"attributes": state[0], "images": [{"data": b64(p)} for p in pictures]})
        write = item.sent(state)
        self.round.count(sent=1)
        status, body = self.request(*request)
        done = self.is_one_of(status, want, f"{request[0]} {catalogue}/{item_id}", body)
        if done is None:
            raise OSError("draining")
        item.answered(write, refused=not done)
        self.round.count(answered=1)


class Cataloguer(Client):
    """Makes catalogues, puts some items into them, deletes them; "race" is one that others write to meanwhile."""

    def step(self):
        name = self.rng.choice(["race", "season-1", "season-2"])
        catalogue = self.round.ledger.catalogues[name]
        if not catalogue.exists.now():
            self.exists(catalogue, True, ("PUT", f"/v1/catalogues/{name}"), 201)
        elif self.rng.random() < 0.3:
            began = time.monotonic()
            self.exists(catalogue, False, ("DELETE", f"/v1/catalogues/{name}"), 204)
            catalogue.gone(began)
        elif name != "race":
            for _ in range(self.rng.randrange(5)):
                self.put(name)
        else:
            time.sleep(0.01)

    def exists(self, catalogue, state, request, want):
        catalogue.exists.sent(state)
        self.round.count(sent=1)
        status, body = self.request(*request)
        if self.is_one_of(status, (want,), " ".join(request), body) is None:
            raise OSError("draining")
        catalogue.exists.answered()
        self.round.count(answered=1)

    def put(self, catalogue):
        item_id = f"i{self.rng.randrange(8)}"
        item = self.round.ledger.own(catalogue, item_id)
        shas, pictures = self.picture(self.rng.randint(1, 2))
        attributes = self.attributes()
        want = 200 if item.now() else 201
        item.sent((attributes, shas))
        self.round.count(sent=1)
        body = {"attributes": attributes, "images": [{"data": b64(p)} for p in pictures]}
        status, reply = self.request("PUT", item_path(item_id, catalogue), body)
        if self.is_one_of(status, (want,), f"PUT {catalogue}/{item_id}", reply) is None:
            raise OSError("draining")
        item.answered()
        self.round.count(answered=1)


class Reader(Client):
    """Searches and lists meanwhile; what they find is looked at when nobody writes."""

    def step(self):
        _, (picture,) = self.picture(1)
        for request in (("POST", SEARCH + "?limit=20", picture, "image/png"), ("GET", ITEMS + "?limit=20")):
            status, body = self.request(*request)
            if self.is_one_of(status, (200,), " ".join(request[:2]), body) is None:
                raise OSError("draining")
        time.sleep(0.02)


class Batcher(Client):
    """items:batch: lines of every kind, several about the same item, in chunks that end anywhere."""

    ITEMS = 30

    def step(self):
        lines, notes = [], []
        now = {}
        for _ in range(self.rng.randint(5, 80)):
            item_id = f"{self.name}-{self.rng.randrange(self.ITEMS)}"
            item = self.round.ledger.own("default", item_id)
            line, state, want = self.line(item_id, now[item_id] if item_id in now else item.now())
            lines.append(line)
            if want < 300:
                now[item_id] = state
            notes.append((item, state, want))
        self.send(ndjson(lines), notes)

    def line(self, item_id, now):
        """(line, state after it, status)"""
        kind = self.rng.choice(["put", "put", "put", "keep", "patch", "delete"])
        attributes = self.attributes()
        if kind == "put":
            shas, pictures = self.picture(self.rng.randint(1, 2))
            line = {"id": item_id, "attributes": attributes, "images": [{"data": b64(p)} for p in pictures]}
            return line, (attributes, shas), 200 if now else 201
        if kind == "keep":
            return {"id": item_id, "attributes": attributes}, (attributes, now[1]) if now else None, 200 if now else 400
        if kind == "patch":
            line = {"op": "patch", "id": item_id, "attributes": attributes}
            return line, (now[0] | attributes, now[1]) if now else None, 200 if now else 404
        return {"op": "delete", "id": item_id}, None, 204 if now else 404

    def send(self, body, notes):
        """In pieces; a line is noted before its last byte goes out, so that one which never left cannot be there."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.round.server.port, timeout=60 * SLOW)
        c, noted, at = self.connection, 0, 0
        c.putrequest("POST", BATCH)
        c.putheader("Content-Type", NDJSON)
        c.putheader("Transfer-Encoding", "chunked")
        c.endheaders()
        while at < len(body):
            piece = body[at:at + self.rng.choice([1, 100, 4000, 70000])]
            at += len(piece)
            while noted < body.count(b"\n", 0, at):
                item, state, want = notes[noted]
                if want < 300:
                    item.sent(state)
                noted += 1
                self.round.count(sent=1)
            c.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        c.send(b"0\r\n\r\n")
        reply = c.getresponse()
        if self.is_one_of(reply.status, (200,), "items:batch") is None:
            raise OSError("draining")
        self.read(reply, notes)

    def read(self, reply, notes):
        """Every whole line that arrives is an answer."""
        for number, (item, _, want) in enumerate(notes, 1):
            text = reply.readline()
            if not text.endswith(b"\n"):
                raise OSError("the answers end early")
            answer = json.loads(text)
            done = self.is_one_of(answer["status"], (want,), f"line {number} of items:batch", text)
            if done is None:
                raise OSError("draining")
            if answer["line"] != number:
                raise Unexpected(f"line {answer['line']} is answered in the place of {number}")
            if done:
                item.answered()
            self.round.count(answered=1)
        if reply.read():
            raise Unexpected("more answers than lines")


def start(round_):
    made = [Writer(round_, "w1"), Writer(round_, "w2"), Sharer(round_, "s1"), Sharer(round_, "s2"), Cataloguer(round_, "c1"),
            Batcher(round_, "b1"), Batcher(round_, "b2"), Reader(round_, "r1")]
    for client in made:
        client.start()
    return made
