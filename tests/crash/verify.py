"""verify.py: what a server shows after it was killed, held to the ledger; and what lies in its data folder."""

import hashlib
import os
import queue
import shutil
import sqlite3
import subprocess
import threading

from harness import BUILD, SLOW, item_path

CHECKER = BUILD / "tests/crash/folder_check"
OF_ITEM = "image BETWEEN first_image AND first_image + length(images) / 40 - 1"
HALVES = {  # what no committed transaction leaves behind
    "an item without images": "SELECT id FROM items WHERE length(images) = 0 OR length(images) % 40 <> 0",
    "an image without its embedding": f"SELECT id FROM items WHERE length(images) / 40 <> (SELECT count(*) FROM embeddings WHERE {OF_ITEM})",
    "an image without its rendition": f"SELECT id FROM items WHERE length(images) / 40 <> (SELECT count(*) FROM renditions WHERE {OF_ITEM})",
    "an embedding without its item": f"SELECT image FROM embeddings WHERE NOT EXISTS (SELECT 1 FROM items WHERE {OF_ITEM})",
    "a rendition without its item": f"SELECT image FROM renditions WHERE NOT EXISTS (SELECT 1 FROM items WHERE {OF_ITEM})",
    "an image that will be numbered again": "SELECT max(image) FROM embeddings HAVING max(image) >= (SELECT max(next_image) FROM catalogues)",
}


class Verify:
    def __init__(self, server, ledger, photos, renditions):
        self.server, self.ledger, self.photos = server, ledger, photos
        self.renditions = renditions  # photo's SHA-256 -> digest of its rendition, over all rounds
        self.wrong = []
        self.items = self.images = self.late = self.lost = 0

    def fail(self, text):
        self.wrong.append(text)

    def get(self, path, **how):
        reply = self.server.get(path, **how)
        if reply.status != 200:
            self.fail(f"GET {path}: {reply!r}")
        return reply

    def everything(self):
        self.catalogues()
        for name, catalogue in sorted(self.ledger.catalogues.items()):
            if not catalogue.exists.base:
                continue
            found = self.listing(name)
            self.compare(name, catalogue, found)
            self.counters(name, found)
            self.searches(name, found)
        return self.wrong

    # ---- catalogues and items

    def settle(self, what, entry, state):
        """Is this one of the states that the ledger allows? Then it is the one to go on from."""
        may_be, open_writes = entry.may_be(), len(entry.open)
        if state not in may_be:
            self.fail(f"{what} is {state}, which is none of {may_be}")
        late = entry.settle(state)
        self.late += late
        self.lost += open_writes > 0 and not late

    def catalogues(self):
        there = {c["name"] for c in self.get("/v1/catalogues").json()["catalogues"]}
        for name in there - set(self.ledger.catalogues):
            self.fail(f"catalogue {name} was never made")
        for name, catalogue in self.ledger.catalogues.items():
            self.settle(f"catalogue {name}: its existence", catalogue.exists, name in there)
            if name not in there:
                catalogue.items.clear()

    def listing(self, catalogue):
        found, token = {}, ""
        while True:
            page = self.get(f"/v1/catalogues/{catalogue}/items?limit=50{token}").json()
            for item in page["items"]:
                if item["id"] in found:
                    self.fail(f"{catalogue}/{item['id']} is listed twice")
                found[item["id"]] = item
            if "next_page_token" not in page:
                return found
            token = "&page_token=" + page["next_page_token"]

    def compare(self, name, catalogue, found):
        for item_id in set(found) - set(catalogue.items):
            self.fail(f"{name}/{item_id} was never written")
        for item_id, entry in catalogue.items.items():
            item = found.get(item_id)
            state = (item["attributes"], [i["sha256"] for i in item["images"]]) if item else None
            self.settle(f"{name}/{item_id}", entry, state)
            one = self.server.get(item_path(item_id, name))
            if item is None and one.status != 404:
                self.fail(f"{name}/{item_id} is not listed, but there: {one!r}")
            elif item is not None and (one.status != 200 or one.json() != item):
                self.fail(f"{name}/{item_id} is listed as {item}, but is {one!r}")

    def counters(self, name, found):
        images = sum(len(i["images"]) for i in found.values())
        self.items += len(found)
        self.images += images
        state = self.get(f"/v1/catalogues/{name}").json()
        if (state["items"], state["images"]) != (len(found), images):
            self.fail(f"catalogue {name} counts {state['items']} items and {state['images']} images, "
                      f"listed are {len(found)} and {images}")
        if state["index"]["fresh"] + state["index"]["sealed"] != images:
            self.fail(f"catalogue {name}: {state['index']} does not make {images} images")
        text = self.get("/metrics").body.decode()
        for metric, want in (("items", len(found)), ("images", images)):
            if f'likeness_catalogue_{metric}{{catalogue="{name}"}} {want}\n' not in text:
                self.fail(f"/metrics counts the {metric} of {name} in another way")

    # ---- pictures and searches

    def searches(self, name, found):
        """Each photo of the whole run finds the items that have it, and no other; each image has its own rendition."""
        owners = {sha: {} for sha in self.photos}
        for item_id, item in found.items():
            for image in item["images"]:
                owners[image["sha256"]][item_id] = image["n"]
        work = queue.SimpleQueue()
        for sha in self.photos:
            work.put((self.photo, (name, sha, owners[sha], found)))
        for item in found.values():
            for image in item["images"]:
                work.put((self.rendition, (image,)))
        errors = []
        threads = [threading.Thread(target=self.worker, args=(work, errors), daemon=True) for _ in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(120 * SLOW)
            if t.is_alive():
                self.fail("a search hangs")
        self.wrong += errors

    def worker(self, work, errors):
        connection = self.server.connection()
        try:
            while True:
                what, arguments = work.get_nowait()
                what(connection, *arguments)
        except queue.Empty:
            pass
        except Exception as e:  # of any kind: the thread has nobody to tell
            errors.append(f"while searching: {e!r}")
        finally:
            connection.close()

    def photo(self, connection, name, sha, owners, found):
        for how in ("", "&exact=true"):
            reply = self.server.search(self.photos[sha], f"?limit=100&min_score=0.999{how}", name, on=connection)
            if reply.status != 200:
                self.fail(f"search: {reply!r}")
                continue
            hits = {r["id"]: r["image"]["n"] for r in reply.json()["results"]}
            if hits != owners:
                self.fail(f"{name}: the photo {sha[:12]} finds {hits} instead of {owners} ({how or 'graph'})")
            for r in reply.json()["results"]:
                if r["id"] in found and r["attributes"] != found[r["id"]]["attributes"]:
                    self.fail(f"{name}/{r['id']} is found with {r['attributes']}, but has {found[r['id']]['attributes']}")
        for item_id in owners:
            version = found[item_id]["attributes"].get("v")
            if version is None:
                continue
            reply = self.server.search(self.photos[sha], f"?filter=v%3D{version}", name, on=connection)
            if reply.status != 200 or reply.ids() != [item_id] or reply.json()["results"][0]["score"] < 0.999:
                self.fail(f"{name}/{item_id}: the filter v = {version} finds {reply!r}")

    def rendition(self, connection, image):
        reply = self.server.get(image["url"], on=connection)
        digest = hashlib.sha256(reply.body).hexdigest()
        if reply.status != 200 or not reply.body.startswith(b"\xff\xd8\xff"):
            self.fail(f"GET {image['url']}: {reply!r}")
        elif self.renditions.setdefault(image["sha256"], digest) != digest:
            self.fail(f"{image['url']} is the rendition of another photo")


def folder(data, copy):
    """A copy of a dead server's folder: SQLite's own checks, halves, and every invariant of the index.
    (what is wrong, numbers of the catalogues)"""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(data, copy)
    wrong = []
    db = sqlite3.connect(copy / "catalogue.sqlite3")
    try:
        wrong += [f"integrity_check: {row[0]}" for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
        wrong += [f"foreign_key_check: {row}" for row in db.execute("PRAGMA foreign_key_check")]
        for what, query in HALVES.items():
            wrong += [f"{what}: {row[0]}" for row in db.execute(query)]
        living = {str(row[0]) for row in db.execute("SELECT id FROM catalogues")}
    finally:
        db.close()
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([str(CHECKER), str(copy)], capture_output=True, text=True, timeout=60 * SLOW, env=env)
    if done.returncode != 0:
        wrong.append(f"folder_check ends with {done.returncode}: {done.stderr.strip()[:500]}")
    shutil.rmtree(copy, ignore_errors=True)
    return wrong, living
