"""routes_test.py: every route with good and bad input. Each reply is held to /openapi.json; a closing test states that
every operation of that document was answered with success at least once."""

import base64
import hashlib
import json
import shutil
import struct
import tempfile
import zlib

from contract import Contract
from harness import (BATCH, CATALOGUE, FORM, HOSTILE, IMAGES, ITEMS, JSON, NDJSON, SEARCH, TREE, Server, TestCase, b64, item_path, main,
                     multipart, photo, put_line)

BOOT, OTHER = photo("boot-1"), photo("kettle-2")


def hierarchical_jpeg():
    """A frame header of a kind of JPEG that no decoder in use handles: SOF5."""
    return photo("baseline.jpg").replace(b"\xff\xc0", b"\xff\xc5", 1)


def tall_png():
    """1 x 40,000: few pixels, but a side over the limit."""
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 40000, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(bytes(80000))) + chunk(b"IEND", b""))


class Routes(TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server().start()
        cls.contract = Contract(cls.server.get("/openapi.json").json())
        cls.server.check = cls.contract.check
        cls.ids = cls.server.fill(24)

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()

    # ---- catalogues

    def test_catalogue_life(self):
        s, path = self.server, "/v1/catalogues/summer_2026-b"
        made = self.ok(s.request("PUT", path), 201)
        self.assertEqual(made.header("Location"), path)
        self.assertEqual((made.json()["items"], made.json()["images"], made.json()["dim"]), (0, 0, 256))
        again = self.ok(s.request("PUT", path, {}), 200)
        self.assertEqual(again.json()["created"], made.json()["created"])
        self.ok(s.put("a", BOOT, catalogue="summer_2026-b"), 201)
        self.assertEqual(s.get(path).json()["items"], 1)
        names = [c["name"] for c in s.get("/v1/catalogues").json()["catalogues"]]
        self.assertEqual(names, sorted(names))
        self.assertIn("summer_2026-b", names)
        self.assertIn("default", names)
        self.ok(s.request("DELETE", path), 204)
        self.is_problem(s.get(path), 404, "catalogue_not_found")
        self.is_problem(s.request("DELETE", path), 404, "catalogue_not_found")
        self.ok(s.request("PUT", path), 201)
        self.assertEqual(s.get(path).json()["items"], 0, "a new catalogue holds what the deleted one held")
        self.ok(s.request("DELETE", path), 204)

    def test_catalogues_are_apart(self):
        s = self.server
        self.ok(s.request("PUT", "/v1/catalogues/apart"), 201)
        self.ok(s.put("only-here", OTHER, catalogue="apart"), 201)
        self.is_problem(s.get(item_path("only-here")), 404, "item_not_found")
        self.assertEqual(s.search(OTHER, catalogue="apart").ids(), ["only-here"])
        self.assertNotIn("only-here", s.search(OTHER, "?limit=100").ids())
        self.ok(s.request("DELETE", "/v1/catalogues/apart"), 204)

    def test_external_embeddings(self):
        s, path = self.server, "/v1/catalogues/mine"
        self.assertEqual(self.ok(s.request("PUT", path, {"model": "external", "dim": 3}), 201).json()["dim"], 3)
        self.assertEqual(self.ok(s.request("PUT", path, b'{"model":"external","dim":3.0}', JSON), 200).json()["dim"], 3)  # JSON has one kind of number
        self.ok(s.request("PUT", item_path("east", catalogue="mine"), {"embedding": [2, 0, 0], "attributes": {"side": "e"}}), 201)
        lines = [{"id": "north", "embedding": b64(struct.pack("<3f", 0, 1, 0))}, {"id": "short", "embedding": [1, 2]},
                 {"id": "both", "images": [{"embedding": [0, 0, 1]}, {"embedding": [0.6, 0.8, 0]}]}]
        body = "".join(json.dumps(line) + "\n" for line in lines)
        answers = self.ok(s.request("POST", path + "/items:batch", body.encode(), NDJSON), 200).lines()
        self.assertEqual([(a["status"], a.get("code"), a.get("field")) for a in answers],
                         [(201, None, None), (400, "field_invalid", "embedding"), (201, None, None)])
        for query in ([0, 5, 0], b64(struct.pack("<3f", 0, 5, 0))):
            found = self.ok(s.request("POST", path + "/search", {"embedding": query}), 200)
            self.assertEqual(found.ids(), ["north", "both", "east"])
            self.assertEqual(found.json()["results"][1]["image"], {"n": 1})
        item = self.ok(s.get(item_path("east", catalogue="mine")), 200).json()
        self.assertEqual(set(item["images"][0]), {"n", "sha256"})
        self.is_problem(s.put("photo", BOOT, catalogue="mine"), 409, "model_mismatch")
        self.ok(s.request("DELETE", path), 204)

    # ---- items

    def test_put_raw_and_get(self):
        s = self.server
        made = self.ok(s.put("raw", BOOT), 201)
        self.assertEqual(made.header("Location"), item_path("raw"))
        self.assertEqual({k: made.json()[k] for k in ("id", "created", "images")}, {"id": "raw", "created": True, "images": 1})
        item = self.ok(s.get(item_path("raw"))).json()
        image = item["images"][0]
        self.assertEqual(item["attributes"], {})
        self.assertEqual((image["n"], image["width"], image["height"]), (0, 384, 384))
        self.assertEqual(image["sha256"], hashlib.sha256(BOOT).hexdigest())
        self.assertEqual(image["url"], item_path("raw") + "/images/0?v=" + image["sha256"][:16])
        again = self.ok(s.put("raw", OTHER), 200)
        self.assertEqual(again.json()["created"], False)
        self.assertGreater(again.json()["generation"], made.json()["generation"])
        after = s.get(item_path("raw")).json()
        self.assertEqual(after["created"], item["created"])
        self.assertGreater(after["updated"], item["updated"])
        self.ok(s.request("PUT", item_path("raw"), BOOT, "application/octet-stream"), 200)
        self.ok(s.request("DELETE", item_path("raw")), 204)
        self.is_problem(s.request("DELETE", item_path("raw")), 404, "item_not_found")

    def test_put_json(self):
        s = self.server
        attributes = {"name": "Stiefel \u00e9 \U0001f45f", "price": 12.5, "stock": 3, "new": True, "sizes": ["S", "M"], "": "no"}
        self.is_problem(s.put("json", BOOT, attributes), 400, "attributes_invalid")
        del attributes[""]
        self.ok(s.put("json", BOOT, attributes), 201)
        self.assertEqual(s.get(item_path("json")).json()["attributes"], attributes)
        kept = self.ok(s.put("json", attributes={"price": 1}), 200).json()
        self.assertNotIn("images", kept)
        item = s.get(item_path("json")).json()
        self.assertEqual((item["attributes"], len(item["images"])), ({"price": 1}, 1))
        many = {"images": [{"data": b64(BOOT)}] * 16}
        self.assertEqual(self.ok(s.request("PUT", item_path("json"), many), 200).json()["images"], 16)
        self.assertEqual(s.get(item_path("json")).json()["attributes"], {})
        self.ok(s.request("DELETE", item_path("json")), 204)

    def test_put_multipart(self):
        s = self.server
        body, kind = multipart([("image", BOOT), ("attributes", b'{"kind":"form"}'), ("image", OTHER)])
        self.assertEqual(self.ok(s.request("PUT", item_path("form"), body, kind), 201).json()["images"], 2)
        item = s.get(item_path("form")).json()
        self.assertEqual([i["sha256"] for i in item["images"]], [hashlib.sha256(x).hexdigest() for x in (BOOT, OTHER)])
        self.assertEqual(item["attributes"], {"kind": "form"})
        self.ok(s.request("DELETE", item_path("form")), 204)

    def test_create_only(self):
        s, path = self.server, item_path("once")
        self.ok(s.request("PUT", path + "?create_only=true", BOOT, "image/jpeg"), 201)
        self.is_problem(s.request("PUT", path + "?create_only=true", OTHER, "image/jpeg"), 409, "item_exists")
        self.assertEqual(s.get(path).json()["images"][0]["sha256"], hashlib.sha256(BOOT).hexdigest())
        self.ok(s.request("PUT", path + "?create_only=false", OTHER, "image/jpeg"), 200)
        self.is_problem(s.request("PUT", path + "?create_only=1", OTHER, "image/jpeg"), 400, "parameter_invalid", "create_only")
        self.ok(s.request("DELETE", path), 204)

    def test_patch(self):
        s, path = self.server, item_path("patched")
        self.ok(s.put("patched", BOOT, {"price": 10, "old": "x", "tags": ["a", "b"]}), 201)
        before = s.search(BOOT, "?limit=100").json()["results"]
        body = {"attributes": {"price": 9.5, "old": None, "tags": ["c"], "fresh": True}}
        first = self.ok(s.request("PATCH", path, body, "application/merge-patch+json")).json()
        self.assertEqual(first["id"], "patched")
        self.assertEqual(s.get(path).json()["attributes"], {"price": 9.5, "tags": ["c"], "fresh": True})
        self.ok(s.request("PATCH", path, {"attributes": {}}))
        after = s.search(BOOT, "?limit=100").json()["results"]
        self.assertEqual([(r["id"], r["score"]) for r in before], [(r["id"], r["score"]) for r in after])
        self.is_problem(s.request("PATCH", item_path("nobody"), body), 404, "item_not_found")
        self.is_problem(s.request("PATCH", path, {"attributes": {"a": {"b": 1}}}), 400, "attributes_invalid")
        self.is_problem(s.request("PATCH", path, {"attributes": {}, "images": []}), 400, "field_unknown", "images")
        self.is_problem(s.request("PATCH", path, body, "text/plain"), 415, "content_type_unsupported")
        self.ok(s.request("DELETE", path), 204)

    def test_list_pages(self):
        s, seen, token = self.server, [], ""
        for _ in range(100):
            page = self.ok(s.get(f"{ITEMS}?limit=5&fields=n{token}")).json()
            seen += [i["id"] for i in page["items"]]
            self.assertLessEqual(len(page["items"]), 5)
            self.assertTrue(all(set(i["attributes"]) <= {"n"} for i in page["items"]))
            if "next_page_token" not in page:
                break
            token = "&page_token=" + page["next_page_token"]
        self.assertEqual(seen, sorted(seen))
        self.assertTrue(set(self.ids) <= set(seen))
        found = self.ok(s.get(ITEMS + "?filter=kind+%3D+%22boot%22+AND+n+%3E+0&limit=100")).json()
        self.assertEqual([i["id"] for i in found["items"]], [i for i in self.ids if i.startswith("boot")])
        self.assertEqual(s.get(ITEMS + "?filter=kind%3D%22none%22").json(), {"items": []})
        self.is_problem(s.get(ITEMS + "?filter=n%3E1&page_token=" + page.get("next_page_token", "AAAA")), 400, "page_token_invalid")

    def test_awkward_ids(self):
        s = self.server
        for item in ("a/b", "..%2F", "50% off?", "#1", "\u00fc \U0001f45f", "items:batch", "search", "x" * 256, "'\"\\<>&"):
            with self.subTest(item=item):
                made = self.ok(s.put(item, BOOT), 201)
                self.assertEqual(made.header("Location"), item_path(item))
                self.assertEqual(self.ok(s.get(made.header("Location"))).json()["id"], item)
                url = s.get(item_path(item)).json()["images"][0]["url"]
                self.ok(s.get(url))
                like = self.ok(s.request("POST", SEARCH, {"item": item, "limit": 100}))
                self.assertNotIn(item, like.ids())
                self.ok(s.request("DELETE", item_path(item)), 204)

    # ---- renditions, conditional requests, HEAD

    def test_rendition(self):
        s = self.server
        url = s.get(item_path("boot-1")).json()["images"][0]["url"]
        good = self.ok(s.get(url))
        self.assertEqual(good.header("Content-Type"), "image/jpeg")
        self.assertTrue(good.body.startswith(b"\xff\xd8\xff"))
        self.assertIn("immutable", good.header("Cache-Control"))
        plain = self.ok(s.get(url.split("?")[0]))
        self.assertEqual(plain.body, good.body)
        self.assertNotIn("immutable", plain.header("Cache-Control"))
        self.assertNotIn("immutable", s.get(url.split("?")[0] + "?v=0000000000000000").header("Cache-Control"))
        for tag in (good.header("ETag"), "*", f'"x", {good.header("ETag")}', "W/" + good.header("ETag")):
            same = s.get(url, headers={"If-None-Match": tag})
            self.assertEqual((same.status, same.body, same.header("ETag")), (304, b"", good.header("ETag")), tag)
        self.ok(s.get(url, headers={"If-None-Match": '"other"'}))
        self.is_problem(s.get(item_path("boot-1") + "/images/1"), 404, "image_not_found")
        self.is_problem(s.get(item_path("boot-1") + "/images/16"), 404, "image_not_found")
        self.is_problem(s.get(item_path("boot-1") + "/images/x"), 404, "image_not_found")
        self.is_problem(s.get(item_path("nobody") + "/images/0"), 404, "item_not_found")
        self.is_problem(s.get(url + "&w=3"), 400, "parameter_unknown", "w")

    def test_etag_of_items(self):
        s, path = self.server, item_path("tagged")
        self.ok(s.put("tagged", BOOT, {"n": 1}), 201)
        tag = s.get(path).header("ETag")
        self.assertEqual(s.get(path, headers={"If-None-Match": tag}).status, 304)
        self.ok(s.request("PATCH", path, {"attributes": {"n": 2}}))
        self.assertNotEqual(self.ok(s.get(path, headers={"If-None-Match": tag})).header("ETag"), tag)
        self.ok(s.request("DELETE", path), 204)

    def test_head(self):
        s = self.server
        url = s.get(item_path("boot-1")).json()["images"][0]["url"]
        for path in ("/", "/livez", "/readyz", "/metrics", "/openapi.json", "/v1/catalogues", CATALOGUE, ITEMS, item_path("boot-1"), url):
            with self.subTest(path=path):
                get, head = s.get(path), s.request("HEAD", path)
                self.assertEqual((head.status, head.body), (get.status, b""))
                self.assertEqual(head.header("Content-Type"), get.header("Content-Type"))
                if path not in ("/readyz", "/metrics"):  # they tell the time
                    self.assertEqual(head.header("Content-Length"), str(len(get.body)))
        self.assertEqual(s.request("HEAD", item_path("nobody")).status, 404)
        self.assertEqual(s.request("HEAD", SEARCH).status, 405)

    # ---- search and embed

    def test_search_forms_agree(self):
        s = self.server
        want = self.ok(s.search(BOOT, "?limit=5")).json()["results"]
        self.assertEqual(want[0]["id"], "boot-1")
        self.assertGreater(want[0]["score"], 0.999)
        self.assertEqual([r["score"] for r in want], sorted((r["score"] for r in want), reverse=True))
        form, kind = multipart([("options", b'{"limit":5}'), ("image", BOOT)])
        bare, _ = multipart([("image", BOOT)])
        for name, got in (("base64", s.request("POST", SEARCH, {"image": b64(BOOT), "limit": 5})),
                          ("both places", s.request("POST", SEARCH + "?limit=5", {"image": b64(BOOT)})),
                          ("multipart", s.request("POST", SEARCH, form, kind)),
                          ("multipart, query string", s.request("POST", SEARCH + "?limit=5", bare, kind)),
                          ("octets", s.request("POST", SEARCH + "?limit=5", BOOT, "application/octet-stream")),
                          ("exact", s.search(BOOT, "?limit=5&exact=true"))):
            with self.subTest(name):
                self.assertEqual(self.ok(got).json()["results"], want)

    def test_search_options(self):
        s = self.server
        everything = s.search(BOOT, "?limit=100").json()
        self.assertNotIn("next_page_token", everything)
        floor = everything["results"][3]["score"]
        self.assertTrue(all(r["score"] >= floor - 1e-5 for r in s.search(BOOT, f"?min_score={floor - 1e-6:.7f}").json()["results"]))
        self.assertEqual(s.search(BOOT, "?min_score=1").json()["results"][1:], [])
        self.assertEqual(s.search(BOOT, "?fields=").json()["results"][0]["attributes"], {})
        self.assertEqual(s.search(BOOT, "?fields=kind").json()["results"][0]["attributes"], {"kind": "boot"})
        some = s.search(BOOT, "?limit=100&filter=NOT+kind+%3D+%22boot%22").ids()
        self.assertEqual(some, [r["id"] for r in everything["results"] if r["attributes"].get("kind") != "boot"])
        crop = self.ok(s.search(BOOT, "?crop=0.25,0.25,0.5,0.5")).json()["results"]
        same = self.ok(s.request("POST", SEARCH, {"image": b64(BOOT), "crop": {"x": 0.25, "y": 0.25, "w": 0.5, "h": 0.5}}))
        self.assertEqual(same.json()["results"], crop)
        self.assertNotEqual(crop, everything["results"][:10])
        like = self.ok(s.request("POST", SEARCH, {"item": "boot-1", "limit": 100})).ids()
        self.assertNotIn("boot-1", like)
        self.assertEqual(len(like), len(everything["results"]) - 1)

    def test_facets_and_totals(self):
        s = self.server
        everything = s.search(BOOT, "?limit=100").json()
        kinds = {}
        for r in everything["results"]:
            if "kind" in r["attributes"]:
                kinds[r["attributes"]["kind"]] = kinds.get(r["attributes"]["kind"], 0) + 1
        want = sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))
        total = len(everything["results"])
        self.assertEqual(everything["total"], {"items": total, "exact": True})
        found = self.ok(s.search(BOOT, "?limit=1&facets=kind:100,n:..3%7C3..&explain=true")).json()
        kind, n = found["facets"]["fields"]
        self.assertEqual([(v["value"], v["count"]) for v in kind["values"]], want)
        self.assertEqual((kind["distinct"], kind["with"] + kind["without"]), (len(want), total))
        numbers = [r["attributes"]["n"] for r in everything["results"] if isinstance(r["attributes"].get("n"), int)]
        self.assertEqual([r["count"] for r in n["ranges"]], [sum(x < 3 for x in numbers), sum(x >= 3 for x in numbers)])
        self.assertEqual((n["min"], n["max"]), (min(numbers), max(numbers)))
        self.assertEqual({k: found["facets"][k] for k in ("over", "items", "exact")}, {"over": "matches", "items": total, "exact": True})
        self.assertEqual((found["explain"]["plan"], found["explain"]["matches"]), ("flat", total))
        body = {"image": b64(BOOT), "limit": 1, "filter": 'kind = "boot"', "facets_top": 2, "explain": True,
                "facets": ["kind", {"field": "n", "ranges": [{"from": 0, "to": 1e6}, {}]}]}
        found = self.ok(s.request("POST", SEARCH, body)).json()
        self.assertEqual(found["facets"]["fields"][0]["values"], [{"value": "boot", "count": 2}])
        self.assertEqual([r["count"] for r in found["facets"]["fields"][1]["ranges"]], [2, 2])
        self.assertEqual((found["facets"]["over"], found["facets"]["items"], found["facets"]["exact"]), ("top", 2, False))
        self.assertEqual((found["explain"]["plan"], found["total"]["items"]), ("scan", kinds["boot"]))

    def test_search_pages(self):
        s = self.server
        want, got, token = s.search(BOOT, "?limit=100").ids(), [], ""
        while True:
            page = self.ok(s.search(BOOT, "?limit=7" + token)).json()
            got += [r["id"] for r in page["results"]]
            if "next_page_token" not in page:
                break
            last, token = page["next_page_token"], "&page_token=" + page["next_page_token"]
        self.assertEqual(got, want)
        for other in (s.search(OTHER, "?page_token=" + last), s.search(BOOT, "?min_score=0.1&page_token=" + last),
                      s.search(BOOT, "?crop=0,0,1,0.5&page_token=" + last), s.search(BOOT, "?filter=n%3E1&page_token=" + last),
                      s.search(BOOT, "?page_token=" + last[:-1]), s.get(ITEMS + "?page_token=" + last)):
            self.is_problem(other, 400, "page_token_invalid", "page_token")

    def test_embed(self):
        s = self.server
        plain = self.ok(s.request("POST", "/v1/embed", BOOT, "image/jpeg")).json()
        self.assertEqual(len(plain["embedding"]), plain["dim"])
        self.assertAlmostEqual(sum(x * x for x in plain["embedding"]), 1, places=4)
        packed = self.ok(s.request("POST", "/v1/embed?encoding=base64", {"image": b64(BOOT)})).json()["embedding"]
        self.assertEqual(len(base64.b64decode(packed)), 4 * plain["dim"])
        for a, b in zip(struct.unpack(f"<{plain['dim']}f", base64.b64decode(packed)), plain["embedding"]):
            self.assertAlmostEqual(a, b, places=6)
        form, kind = multipart([("image", BOOT), ("options", b'{"crop":{"x":0,"y":0,"w":0.5,"h":0.5}}')])
        self.assertNotEqual(self.ok(s.request("POST", "/v1/embed", form, kind)).json()["embedding"], plain["embedding"])
        self.is_problem(s.request("POST", "/v1/embed", {"item": "boot-1"}), 400, "field_unknown", "item")
        self.is_problem(s.request("POST", "/v1/embed?limit=3", BOOT, "image/jpeg"), 400, "parameter_unknown", "limit")
        self.is_problem(s.request("POST", "/v1/embed?encoding=hex", BOOT, "image/jpeg"), 400, "parameter_invalid", "encoding")

    def test_every_kind_of_picture(self):
        for file in sorted(IMAGES.glob("*.*")):
            if file.suffix in (".jpg", ".png", ".webp"):
                with self.subTest(file.name):  # the declared type does not matter, the bytes do
                    self.ok(self.server.request("POST", "/v1/embed", file.read_bytes(), "image/gif"))

    # ---- batch, documents

    def test_batch(self):
        s = self.server
        answers = self.ok(s.batch([put_line("b1", BOOT, price=3), {"op": "patch", "id": "b1", "attributes": {"price": 4}},
                                   put_line("b1", price=5), {"op": "delete", "id": "b1"}])).lines()
        self.assertEqual([(a["line"], a["id"], a["status"]) for a in answers],
                         [(1, "b1", 201), (2, "b1", 200), (3, "b1", 200), (4, "b1", 204)])
        self.assertEqual((answers[0]["created"], answers[2]["created"]), (True, False))

    def test_documents(self):
        s = self.server
        self.assertEqual(self.ok(s.get("/livez")).json()["status"], "alive")
        ready = self.ok(s.get("/readyz")).json()
        self.assertEqual(ready["status"], "ready")
        self.assertRegex(ready["model"]["fingerprint"], "^[0-9a-f]{64}$")
        for path, kind in (("/", "text/html"), ("/app.js", "text/javascript"), ("/style.css", "text/css")):
            page = self.ok(s.get(path))
            self.assertTrue(page.header("Content-Type").startswith(kind))
            self.assertEqual(page.header("X-Content-Type-Options"), "nosniff")
        self.assertIn("default-src 'none'", s.get("/").header("Content-Security-Policy"))
        for path in ("/livez", "/", "/metrics", "/openapi.json"):
            self.is_problem(s.request("DELETE", path), 405, "method_not_allowed")

    def test_request_id(self):
        s = self.server
        for given in ("a", "Shop_1.x-9", "z" * 64):
            self.assertEqual(s.get("/livez", headers={"X-Request-Id": given}).header("X-Request-Id"), given)
        made = set()
        for given in (None, "", "z" * 65, "a b", "a\tb", "\"", "<x>", "\u00e9"):
            got = s.get("/livez", headers={"X-Request-Id": given}).header("X-Request-Id")
            self.assertRegex(got, r"^[0-9a-f]{16}$")
            made.add(got)
        self.assertEqual(len(made), 8)

    # ---- refusals

    def test_refusals_of_paths(self):
        long_id = "y" * 257
        for path, status, code in (
                ("/nothing", 404, "not_found"), ("/v1", 404, "not_found"), ("/v1/", 404, "not_found"), ("//livez", 404, "not_found"),
                ("/livez/", 404, "not_found"), ("/v1/catalogues/", 400, "catalogue_name_invalid"),
                ("/v1/catalogues/Big", 400, "catalogue_name_invalid"), ("/v1/catalogues/" + "x" * 65, 400, "catalogue_name_invalid"),
                ("/v1/catalogues/nope", 404, "catalogue_not_found"), ("/v1/catalogues/nope/items", 404, "catalogue_not_found"),
                ("/v1/catalogues/nope/items/x", 404, "catalogue_not_found"), (ITEMS + "/", 400, "item_id_invalid"),
                (ITEMS + "/" + long_id, 400, "item_id_invalid"), (ITEMS + "/%", 400, "path_invalid"), (ITEMS + "/%zz", 400, "path_invalid"),
                (ITEMS + "/%00", 400, "path_invalid"), (ITEMS + "/a%0d%0aX:", 400, "path_invalid"), (ITEMS + "/%c3", 400, "path_invalid"),
                (ITEMS + "/%7f", 400, "path_invalid"), (ITEMS + "/a/b", 404, "not_found"), (ITEMS + "/../..", 404, "not_found"),
                ("/..%2f..%2fetc/passwd", 404, "not_found"), ("/" + "x" * 16384, 414, "uri_too_long"),
                (CATALOGUE + "?x=1", 400, "parameter_unknown"), (ITEMS + "?limit=1&limit=1", 400, "query_invalid"),
                (ITEMS + "?limit=%", 400, "query_invalid"), (ITEMS + "?limit=%00", 400, "query_invalid"),
                (ITEMS + "?limit=0", 400, "parameter_invalid"), (ITEMS + "?limit=101", 400, "parameter_invalid"),
                (ITEMS + "?limit=nan", 400, "parameter_invalid"), (ITEMS + "?filter=price+%3C", 400, "filter_invalid"),
                (ITEMS + "?filter=" + "(" * 2000, 400, "filter_invalid"), (ITEMS + "?page_token=!!", 400, "page_token_invalid")):
            with self.subTest(path[:60]):
                problem = self.is_problem(self.server.get(path), status, code)
                if status == 414:
                    continue
                self.assertNotIn(long_id, problem["detail"])

    def test_refusals_of_methods(self):
        s = self.server
        for method, path, allow in (("POST", ITEMS, "GET, HEAD"), ("DELETE", SEARCH, "POST"), ("GET", SEARCH, "POST"), ("GET", BATCH, "POST"),
                                    ("PUT", "/v1/embed", "POST"), ("POST", item_path("x"), "GET, HEAD, PUT, PATCH, DELETE"),
                                    ("PATCH", CATALOGUE, "GET, HEAD, PUT, DELETE"), ("OPTIONS", CATALOGUE, "GET, HEAD, PUT, DELETE"),
                                    ("BREW", CATALOGUE, "GET, HEAD, PUT, DELETE"), ("POST", "/readyz", "GET, HEAD")):
            with self.subTest(f"{method} {path}"):
                reply = s.request(method, path)
                self.is_problem(reply, 405, "method_not_allowed")
                self.assertEqual(set(reply.header("Allow").split(", ")), set(allow.split(", ")))

    def test_refusals_of_puts(self):
        good = {"data": b64(BOOT)}
        for name, body, kind, status, code, field in (
                ("no body", b"", "image/jpeg", 400, "body_missing", None), ("no type", BOOT, "text/plain", 415, "content_type_unsupported", None),
                ("not JSON", b"{", JSON, 400, "json_invalid", None), ("a list", b"[]", JSON, 400, "json_invalid", None),
                ("doubled member", b'{"attributes":{},"attributes":{}}', JSON, 400, "json_invalid", None),
                ("bad UTF-8", b'{"attributes":{"a":"\xff"}}', JSON, 400, "json_invalid", None),
                ("unknown member", {"image": "x"}, JSON, 400, "field_unknown", "image"),
                ("images no list", {"images": {}}, JSON, 400, "field_invalid", "images"),
                ("data no text", {"images": [{"data": 1}]}, JSON, 400, "field_invalid", "images[0].data"),
                ("no images", {"images": []}, JSON, 400, "images_missing", "images"),
                ("new without images", {"attributes": {}}, JSON, 400, "images_missing", None),
                ("17 images", {"images": [good] * 17}, JSON, 400, "too_many_images", "images"),
                ("base64", {"images": [good, {"data": "a$=="}]}, JSON, 400, "base64_invalid", "images[1].data"),
                ("null", {"attributes": {"a": None}, "images": [good]}, JSON, 400, "attributes_invalid", "attributes.a"),
                ("nested", {"attributes": {"a": [1]}, "images": [good]}, JSON, 400, "attributes_invalid", None),
                ("65 names", {"attributes": {f"a{i}": 1 for i in range(65)}, "images": [good]}, JSON, 400, "attributes_invalid", None),
                ("huge JSON", {"attributes": {"a": ["x" * 1000] * 70}}, JSON, 413, "json_too_large", None),
                ("no boundary", b"x", "multipart/form-data", 400, "multipart_invalid", None),
                ("no parts", b"--BB--\r\n", FORM, 400, None, None),
                ("other part", multipart([("image", BOOT), ("file", b"x")])[0], FORM, 400, "multipart_invalid", None),
                ("no image", multipart([("attributes", b"{}")])[0], FORM, 400, "images_missing", "image"),
                ("17 parts", multipart([("image", BOOT)] * 17)[0], FORM, 400, "too_many_images", "image"),
                ("text", (HOSTILE / "text.bin").read_bytes(), "image/jpeg", 415, "image_format_unsupported", None),
                ("damaged", (HOSTILE / "truncated.png").read_bytes(), "image/png", 422, "image_damaged", None),
                ("hierarchical", hierarchical_jpeg(), "image/jpeg", 422, "image_unsupported", None),
                ("huge", (HOSTILE / "huge_sof.jpg").read_bytes(), "image/jpeg", 413, "image_too_large", None),
                ("tall", tall_png(), "image/png", 413, "image_too_large", None)):
            with self.subTest(name):
                reply = self.server.request("PUT", item_path("refused"), body, kind)
                self.is_problem(reply, status, code or reply.code, field)
                self.is_problem(self.server.get(item_path("refused")), 404, "item_not_found")

    def test_refusals_of_searches(self):
        image = b64(BOOT)
        for name, query, body, kind, status, code, field in (
                ("no body", "", b"", "image/jpeg", 400, "body_missing", None), ("no query", "", {}, JSON, 400, "query_missing", "image"),
                ("two queries", "", {"image": image, "item": "boot-1"}, JSON, 400, "query_conflict", "item"),
                ("two parts", "", multipart([("image", BOOT)] * 2)[0], FORM, 400, "query_conflict", "image"),
                ("no part", "", multipart([("options", b"{}")])[0], FORM, 400, "query_missing", "image"),
                ("type", "", b"x", "text/html", 415, "content_type_unsupported", None),
                ("no item", "", {"item": "nobody"}, JSON, 404, "item_not_found", None),
                ("bad item", "", {"item": ""}, JSON, 400, "item_id_invalid", None),
                ("crop of an item", "", {"item": "boot-1", "crop": {"x": 0, "y": 0, "w": 1, "h": 1}}, JSON, 400, "field_invalid", "crop"),
                ("limit", "?limit=0", BOOT, "image/jpeg", 400, "parameter_invalid", "limit"),
                ("limit in JSON", "", {"image": image, "limit": "5"}, JSON, 400, "field_invalid", "limit"),
                ("limit twice", "?limit=5", {"image": image, "limit": 5}, JSON, 400, "parameter_invalid", "limit"),
                ("min_score", "?min_score=1.5", BOOT, "image/jpeg", 400, "parameter_invalid", "min_score"),
                ("crop", "?crop=0.5,0.5,0.6,0.5", BOOT, "image/jpeg", 400, "parameter_invalid", "crop"),
                ("crop of three", "?crop=0,0,1", BOOT, "image/jpeg", 400, "parameter_invalid", "crop"),
                ("exact", "?exact=yes", BOOT, "image/jpeg", 400, "parameter_invalid", "exact"),
                ("fields", "", {"image": image, "fields": [1]}, JSON, 400, "field_invalid", "fields"),
                ("facets", "?facets=a:0", BOOT, "image/jpeg", 400, "parameter_invalid", "facets"),
                ("facets in JSON", "", {"image": image, "facets": [{"field": "a", "ranges": [{"from": 2, "to": 1}]}]}, JSON, 400, "field_invalid", "facets"),
                ("unknown in a facet", "", {"image": image, "facets": [{"field": "a", "sort": 1}]}, JSON, 400, "field_unknown", None),
                ("facets_top", "?facets_top=1001", BOOT, "image/jpeg", 400, "parameter_invalid", "facets_top"),
                ("explain", "?explain=1", BOOT, "image/jpeg", 400, "parameter_invalid", "explain"),
                ("order of a boolean", "?filter=a%3Ctrue", BOOT, "image/jpeg", 400, "filter_invalid", "filter"),
                ("filter", "?filter=%22", BOOT, "image/jpeg", 400, "filter_invalid", "filter"),
                ("unknown", "?k=3", BOOT, "image/jpeg", 400, "parameter_unknown", "k"),
                ("unknown member", "", {"image": image, "k": 3}, JSON, 400, "field_unknown", "k"),
                ("unknown option", "", multipart([("image", BOOT), ("options", b'{"k":1}')])[0], FORM, 400, "field_unknown", None),
                ("base64", "", {"image": "????"}, JSON, 400, "base64_invalid", "image"),
                ("empty part", "", multipart([("image", b"")])[0], FORM, 422, "image_damaged", "image")):
            with self.subTest(name):
                self.is_problem(self.server.request("POST", SEARCH + query, body, kind), status, code, field)
        self.is_problem(self.server.search(BOOT, catalogue="nope"), 404, "catalogue_not_found")

    def test_refusals_of_conditions(self):
        """A write that is bound to a condition is not done without a look at it."""
        s, path = self.server, item_path("bound")
        self.ok(s.put("bound", BOOT, {"n": 1}), 201)
        tag = s.get(path).header("ETag")
        for name, value in (("If-Match", '"other"'), ("If-Match", tag), ("If-None-Match", "*"), ("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")):
            with self.subTest(f"{name}: {value}"):
                for method, where, body, kind in (("PUT", path, BOOT, "image/jpeg"), ("PATCH", path, b'{"attributes":{"n":2}}', JSON), ("DELETE", path, None, None),
                                                  ("DELETE", CATALOGUE, None, None), ("POST", BATCH, b'{"id":"bound","op":"delete"}\n', NDJSON)):
                    refused = self.is_problem(s.request(method, where, body, kind, {name: value}), 400, "condition_unsupported")
                    self.assertIn(name, refused["detail"])
        self.assertEqual(s.get(path).json()["attributes"], {"n": 1})
        self.ok(s.search(BOOT, headers={"If-Match": tag}))
        self.ok(s.request("DELETE", path), 204)

    def test_byte_order_mark(self):
        """Files of some editors begin with one. Nobody sees it, so that the refusal has to say what it is."""
        s, mark = self.server, b"\xef\xbb\xbf"
        problem = self.is_problem(s.request("PUT", "/v1/catalogues/marked", mark + b"{}", JSON), 400, "json_invalid")
        self.assertIn("byte order mark", problem["detail"])
        answers = self.ok(s.batch(mark + b'{"id":"a","op":"delete"}\n{"id":"a","op":"delete"}\n')).lines()
        self.assertEqual([(a["status"], a["code"]) for a in answers], [(400, "json_invalid"), (404, "item_not_found")])
        self.assertIn("byte order mark", answers[0]["detail"])

    def test_refusals_of_bodies(self):
        s = self.server
        self.is_problem(s.request("GET", CATALOGUE, b"x", JSON), 400, "body_unexpected")
        self.is_problem(s.request("DELETE", item_path("boot-1"), b"x", JSON), 400, "body_unexpected")
        self.is_problem(s.request("GET", "/livez", b"x", JSON), 400, "body_unexpected")
        self.is_problem(s.request("PUT", "/v1/catalogues/x", b"[]", JSON), 400, "json_invalid")
        self.is_problem(s.request("PUT", "/v1/catalogues/x", {"size": 3}), 400, "field_unknown", "size")
        self.is_problem(s.request("PUT", "/v1/catalogues/x", {"model": "m"}), 400, "field_invalid", "model")
        for dim, said in ((0, "0"), (2.5, "2.5"), (16385, "16385"), (-1, "-1")):
            self.assertIn(f"dim is {said},", self.is_problem(s.request("PUT", "/v1/catalogues/x", {"model": "external", "dim": dim}), 400, "field_invalid", "dim")["detail"])
        problem = self.is_problem(s.request("POST", SEARCH, {"item": "boot-1", "min_score": -1.0000001}), 400, "field_invalid", "min_score")
        self.assertIn("min_score is -1.0000001,", problem["detail"])
        self.is_problem(s.batch([], catalogue="nope"), 404, "catalogue_not_found")
        self.is_problem(s.request("POST", BATCH, b"{}", JSON), 415, "content_type_unsupported")
        self.is_problem(s.request("POST", BATCH + "?x=1", b"{}\n", NDJSON), 400, "parameter_unknown", "x")
        self.ok(s.get(item_path("boot-1")))

    def test_zz_every_operation_was_seen(self):
        """Runs last (unittest sorts by name)."""
        document = self.contract.document
        done = {(m.lower(), path) for m, path, status in self.contract.used if status < 300}
        missing = [f"{m} {path}" for path, item in document["paths"].items() for m in item
                   if m in ("get", "put", "post", "patch", "delete") and (m, path) not in done]
        self.assertEqual(missing, [])


class Limits(TestCase):
    def test_small_limits(self):
        with Server("--max-image-bytes", "1024", "--max-line-bytes", "2K", "--max-lines", "5", "--max-body-bytes", "8K",
                    "--max-body-memory", "1M", "--max-pixels", "10000") as s:
            one = photo("one.jpg")
            self.assertLess(len(one), 1024)
            self.ok(s.put("one", one), 201)
            self.is_problem(s.put("big", BOOT[:2000]), 413, "image_too_large")
            self.is_problem(s.put("big", photo("bit.png") if len(photo("bit.png")) > 1024 else bytes(1025)), 413, "image_too_large")
            with s.raw(b"PUT /v1/catalogues/default/items/big HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
                       b"Content-Length: 9000\r\n\r\n") as c:
                self.is_problem(c.replies(1)[0], 413, "body_too_large")
            lines = [{"id": "x", "attributes": {"a": "x" * 3000}}] + [{"op": "delete", "id": f"n{i}"} for i in range(9)]
            answers = self.ok(s.batch(lines)).lines()
            self.assertEqual([a.get("code") for a in answers], ["line_too_long"] + ["item_not_found"] * 4 + ["too_many_lines"])

    def test_deadline(self):
        with Server("--request-timeout", "10") as s:
            slow = [s.request("PUT", item_path("x"), {"images": [{"data": b64(BOOT)}] * 16}) for _ in range(3)]
            self.is_problem(slow[-1], 503, "deadline_exceeded")
            self.is_problem(s.get(item_path("x")), 404, "item_not_found")

    def test_full_disk(self):
        folder = tempfile.mkdtemp(prefix="likeness-http-")
        try:
            with Server(data=folder) as s:
                self.ok(s.put("kept", BOOT), 201)
            with Server("--disk-floor", "1000000G", data=folder) as s:
                self.is_problem(s.put("new", BOOT), 507, "storage_full")
                self.assertEqual(s.batch([put_line("new", BOOT)]).lines()[0]["code"], "storage_full")
                self.assertEqual(s.search(BOOT).ids(), ["kept"])
            with Server(data=folder) as s:
                self.ok(s.put("new", BOOT), 201)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def test_another_model(self):
        """Catalogues made by another model are shown, but neither written nor searched."""
        folder, other = tempfile.mkdtemp(prefix="likeness-http-"), str(TREE / "tests/data/onnx/residual.onnx")
        try:
            with Server(data=folder) as s:
                self.ok(s.request("PUT", "/v1/catalogues/old"), 201)
                self.ok(s.put("kept", BOOT, catalogue="old"), 201)
                self.ok(s.request("DELETE", CATALOGUE), 204)
            with Server("--model", other, data=folder) as s:
                self.is_problem(s.request("PUT", "/v1/catalogues/old"), 409, "catalogue_exists")
                self.is_problem(s.search(BOOT, catalogue="old"), 409, "model_mismatch")
                self.is_problem(s.put("new", BOOT, catalogue="old"), 409, "model_mismatch")
                self.ok(s.get("/v1/catalogues/old"))
                self.ok(s.put("new", BOOT), 201)
                self.assertEqual(s.search(BOOT).ids(), ["new"])
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(__file__)
