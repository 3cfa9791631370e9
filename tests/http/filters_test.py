"""filters_test.py: searches with filters, facets, totals, pages and explain against brute force, as somebody with the README sees
them: a catalogue of embeddings of one's own, large enough for a graph, with strings, numbers, booleans and lists."""

import base64
import collections
import json
import math
import random
import struct

from contract import Contract
from harness import PATIENCE, SLOW, Server, TestCase, main, run

DIM, ITEMS, SEED = 32, 1200 if SLOW > 1 else 2600, 11
BASE = "/v1/catalogues/own"
rng = random.Random(SEED)


def unit(v):
    length = math.sqrt(math.fsum(x * x for x in v))
    return [x / length for x in v]


CENTRES = [unit([rng.gauss(0, 1) for _ in range(DIM)]) for _ in range(25)]


def vector(cluster):
    return unit([c + 0.16 * rng.gauss(0, 1) for c in CENTRES[cluster]])


def make_item(i):
    cluster = rng.randrange(len(CENTRES))
    attributes = {"title": f"Item {i}", "brand": f"b{rng.randrange(9)}", "price": rng.randrange(40000) / 4, "new": rng.random() < 0.3,
                  "tags": [t for t in ("sale", "leather", "wool", "gift") if rng.random() < 0.3], "cluster": cluster}
    if rng.random() < 0.2:
        del attributes["brand"]
    if rng.random() < 0.1:
        attributes["size"] = rng.choice(["S", "M", 42, 43.5])  # of mixed kinds, as catalogues are
    return {"id": f"item-{i:05}", "attributes": attributes, "images": [vector(cluster) for _ in range(1 if i % 5 else 1 + i % 16)]}


def close(a, b, slack=2e-5):
    return abs(a - b) <= slack


class Filters(TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--segment-images", "1000", "--recall-target", "0").start()
        cls.server.check = Contract(cls.server.get("/openapi.json").json()).check
        cls.items = [make_item(i) for i in range(ITEMS)]
        assert cls.server.request("PUT", BASE, {"model": "external", "dim": DIM, "storage": "float32"}).status == 201
        lines = [{**item, "images": [{"embedding": v} for v in item["images"]]} for item in cls.items]
        for at in range(0, ITEMS, 500):
            answers = cls.server.batch(lines[at:at + 500], "own").lines()
            assert all(a["status"] == 201 for a in answers), answers
        images = sum(len(item["images"]) for item in cls.items)
        cls.server.wait(lambda: cls.server.get(BASE).json()["index"]["sealed"] == images, PATIENCE, "the graph")

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()

    def ask(self, query, status=200, **options):
        reply = self.server.request("POST", BASE + "/search", {"embedding": query, **options})
        return self.ok(reply, status).json()

    def want(self, query, holds=lambda a: True, min_score=-2.0):
        """(score, id) of all that match, the best first."""
        found = [(max(math.fsum(x * y for x, y in zip(query, v)) for v in item["images"]), item["id"])
                 for item in self.items if holds(item["attributes"])]
        return sorted((f for f in found if f[0] >= min_score), key=lambda f: (-f[0], f[1]))

    def agrees(self, results, want):
        """The same items in the same order, but for scores that are equal within rounding."""
        self.assertEqual(len(results), len(want))
        by_id = {i: s for s, i in want}
        for r, (score, _) in zip(results, want):
            self.assertTrue(close(r["score"], score) and close(by_id.get(r["id"], 9), score), (r, score))

    LANGUAGE = (
        ('brand = "b3"', lambda a: a.get("brand") == "b3"),
        ("brand = b3 OR brand = b4", lambda a: a.get("brand") in ("b3", "b4")),
        ('brand != "b3"', lambda a: a.get("brand", "b3") != "b3"),
        ('NOT brand = "b3"', lambda a: a.get("brand") != "b3"),
        ('-brand = "b3"', lambda a: a.get("brand") != "b3"),
        ("brand:*", lambda a: "brand" in a),
        ("NOT brand:*", lambda a: "brand" not in a),
        ('title = "Item 1*"', lambda a: a["title"].startswith("Item 1")),
        ('title = "*99"', lambda a: a["title"].endswith("99")),
        ("price < 1000", lambda a: a["price"] < 1000),
        ("price >= 250 AND price <= 2500.5", lambda a: 250 <= a["price"] <= 2500.5),
        ("price > 9.9e3", lambda a: a["price"] > 9900),
        ("price = 0.25 OR price > 9990", lambda a: a["price"] == 0.25 or a["price"] > 9990),
        ("new = true", lambda a: a["new"]),
        ("new = false AND price < 500", lambda a: not a["new"] and a["price"] < 500),
        ("tags:sale", lambda a: "sale" in a["tags"]),
        ('tags:"sale" tags:"wool"', lambda a: {"sale", "wool"} <= set(a["tags"])),
        ("NOT tags:leather", lambda a: "leather" not in a["tags"]),
        ('tags:"*eat*"', lambda a: "leather" in a["tags"]),
        ("(tags:gift OR new = true) AND NOT (brand = b1 OR price > 5000)",
         lambda a: ("gift" in a["tags"] or a["new"]) and not (a.get("brand") == "b1" or a["price"] > 5000)),
        ("new = true AND brand = b1 OR brand = b2", lambda a: a["new"] and a.get("brand") in ("b1", "b2")),  # AIP-160: OR goes first
        ("size = 42", lambda a: a.get("size") == 42),
        ('size = "M"', lambda a: a.get("size") == "M"),
        ("size > 42", lambda a: a.get("size") == 43.5),
        ("cluster = 7", lambda a: a["cluster"] == 7),
        ("price > 1e9", lambda a: False),
        ("nothing = 3", lambda a: False),
    )

    def test_language(self):
        """Every filter matches what it says: totals, and the best of them, exactly and through whatever plan is chosen."""
        for text, holds in self.LANGUAGE:
            with self.subTest(text):
                query = vector(7)
                want = self.want(query, holds)
                found = self.ask(query, filter=text, exact=True, limit=100, explain=True)
                self.agrees(found["results"], want[:100])
                self.assertEqual(found["total"], {"items": len(want), "exact": True})
                self.assertEqual((found["explain"]["matches"], found["explain"]["plan"]), (len(want), "scan"))
                quick = self.ask(query, filter=text, limit=20, fields=["title"])
                self.assertEqual(quick["total"], found["total"])
                self.assertEqual(len(quick["results"]), min(20, len(want)))
                names = {i for _, i in want}
                self.assertTrue(all(r["id"] in names for r in quick["results"]))
                best = {i for _, i in want[:20]}
                self.assertGreaterEqual(sum(r["id"] in best for r in quick["results"]), 0.9 * len(best))
        listed = self.ok(self.server.get(BASE + "/items?limit=100&filter=brand%20%3D%20b3%20AND%20new%20%3D%20true")).json()["items"]
        self.assertEqual([i["id"] for i in listed], [i["id"] for i in self.items if i["attributes"].get("brand") == "b3" and i["attributes"]["new"]][:100])

    def test_refused(self):
        for text, part in (("brand =", "column"), ("(new = true", "column"), ("price ~ 3", "column"), ("AND", "column"), ("x" * 4097, "4096")):
            reply = self.server.request("POST", BASE + "/search", {"embedding": vector(0), "filter": text})
            self.assertIn(part, self.is_problem(reply, 400, "filter_invalid")["detail"])

    def test_as_long_as_may_be(self):
        """What a body may hold fits a query string, too, three times as long when nothing of it is ASCII."""
        query = self.items[0]["images"][0]
        for more, status in ((0, 200), (1, 400)):
            text = "title>" + "\u0436" * 2045 + "x" * more
            self.assertEqual(len(text.encode()), 4096 + more)
            path = "?filter=" + "".join(f"%{b:02X}" for b in text.encode())
            for reply in (self.server.get(f"{BASE}/items{path}"), self.server.request("POST", f"{BASE}/search{path}", {"embedding": query}),
                          self.server.request("POST", BASE + "/search", {"embedding": query, "filter": text})):
                self.assertEqual(reply.status, status, reply.body)
                if status == 400:
                    self.assertIn("4096", self.is_problem(reply, 400, "filter_invalid")["detail"])

    def test_explain(self):
        """The plan follows how many match, and says what it cost."""
        query = vector(3)
        plain = self.ask(query, explain=True)["explain"]
        self.assertEqual((plain["plan"], plain["matches"]), ("hnsw", ITEMS))
        self.assertTrue(1 <= plain["segments"] <= 4 and 10 <= plain["distances"] < ITEMS * 3, plain)
        flat = self.ask(query, explain=True, exact=True)["explain"]
        images = sum(len(i["images"]) for i in self.items)
        self.assertEqual((flat["plan"], flat["matches"]), ("flat", ITEMS))
        self.assertGreaterEqual(flat["distances"], images)
        few = self.ask(query, explain=True, filter='title = "Item 77"')["explain"]
        self.assertEqual((few["plan"], few["matches"]), ("scan", 1))
        self.assertLess(few["distances"], 40)
        wide = self.ask(query, explain=True, filter="price < 9990")["explain"]
        self.assertIn(wide["plan"], ("lists", "hnsw+filter"))
        self.assertTrue(wide["segments"] >= 1 and wide["effort"] > 0 and wide["distances"] > 10)
        self.assertNotIn("explain", self.ask(query))

    def test_exact(self):
        """Whatever the filter lets through: one flag, and nothing is missed."""
        for text, holds in ((None, lambda a: True), ("price < 8000", lambda a: a["price"] < 8000), ("cluster = 2", lambda a: a["cluster"] == 2)):
            query = vector(2)
            options = {"filter": text} if text else {}
            self.agrees(self.ask(query, exact=True, limit=50, **options)["results"], self.want(query, holds)[:50])

    def test_facets(self):
        query = vector(5)
        facets = [{"field": "brand", "limit": 4}, "tags", {"field": "price", "ranges": [{"to": 1000}, {"from": 1000, "to": 5000}, {"from": 5000}]}, "new",
                  {"field": "size", "limit": 10}, "missing"]
        for text, holds, top in ((None, lambda a: True, None), ("price < 3000 AND NOT tags:gift", lambda a: a["price"] < 3000 and "gift" not in a["tags"], None),
                                 ("new = true", lambda a: a["new"], 150), (None, lambda a: True, 1000)):
            with self.subTest(filter=text, top=top):
                options = {"facets": facets, "limit": 3, **({"filter": text} if text else {}), **({"facets_top": top, "exact": True} if top else {})}
                found = self.ask(query, **options)["facets"]
                ids = [i for _, i in self.want(query, holds)][:top]
                over = [self.items[int(i[5:])]["attributes"] for i in ids]
                self.assertEqual((found["over"], found["items"], found["exact"]), ("top" if top else "matches", len(over), top is None))
                brand, tags, price, new, size, missing = found["fields"]
                counts = collections.Counter(a["brand"] for a in over if "brand" in a)
                self.assertEqual([(v["value"], v["count"]) for v in brand["values"]], sorted(counts.items(), key=lambda c: (-c[1], c[0]))[:4])
                self.assertEqual((brand["with"], brand["without"], brand["distinct"]), (sum(counts.values()), len(over) - sum(counts.values()), len(counts)))
                self.assertEqual({v["value"]: v["count"] for v in tags["values"]}, collections.Counter(t for a in over for t in a["tags"]))
                self.assertEqual([r["count"] for r in price["ranges"]], [sum(a["price"] < 1000 for a in over), sum(1000 <= a["price"] < 5000 for a in over),
                                                                         sum(a["price"] >= 5000 for a in over)])
                self.assertEqual((price["min"], price["max"]), (min(a["price"] for a in over), max(a["price"] for a in over)))
                self.assertEqual({v["value"]: v["count"] for v in new["values"]}, collections.Counter(a["new"] for a in over))
                self.assertEqual({v["value"]: v["count"] for v in size["values"]}, collections.Counter(a["size"] for a in over if "size" in a))
                self.assertEqual((missing["with"], missing["values"]), (0, []))

    def pages(self, query, deep, **options):
        """All results down to `deep`, with the number of items on each page."""
        got, sizes, token = [], [], {}
        while len(got) < deep:
            page = self.ask(query, **options, **token)
            got += page["results"]
            sizes.append(len(page["results"]))
            if "next_page_token" not in page:
                break
            token = {"page_token": page["next_page_token"]}
        return got, sizes

    def test_pages(self):
        """A thousand items deep: each once, in order, full pages; with `exact` none is missing. Items of 16 images fill no page alone."""
        for text, holds in ((None, lambda a: True), ("new = false", lambda a: not a["new"]), ("brand = b3", lambda a: a.get("brand") == "b3")):
            for exact in (True, False):
                with self.subTest(filter=text, exact=exact):
                    query = vector(9)
                    want = self.want(query, holds)
                    deep = min(1000, len(want))
                    got, sizes = self.pages(query, deep, limit=100, exact=exact, **({"filter": text} if text else {}))
                    self.assertEqual(sizes, [100] * (deep // 100) + ([deep % 100] if deep % 100 else []))
                    ids = [r["id"] for r in got]
                    self.assertEqual(len(set(ids)), len(ids))
                    scores = [r["score"] for r in got]
                    self.assertEqual(scores, sorted(scores, reverse=True))
                    if exact:
                        self.agrees(got, want[:deep])
                    again, _ = self.pages(query, deep, limit=100, exact=exact, **({"filter": text} if text else {}))
                    self.assertEqual([r["id"] for r in again], ids, "stable")
                    best = {i for _, i in want[:deep]}
                    self.assertGreaterEqual(sum(i in best for i in ids), 0.98 * deep)

    def test_limit_is_filled(self):
        """However many images of few items lie nearest: as many items as there are."""
        item = self.items[15]  # of 16 images
        self.assertEqual(len(item["images"]), 16)
        for n in (1, 17, 100):
            found = self.ask(item["images"][3], limit=n)["results"]
            self.assertEqual(len({r["id"] for r in found}), n)
            self.assertEqual((found[0]["id"], found[0]["image"]["n"]), (item["id"], 3))

    def test_totals(self):
        query = vector(6)
        for floor in (0.9, 0.5):
            want = self.want(query, min_score=floor)
            exact = self.ask(query, min_score=floor, exact=True)["total"]
            self.assertEqual(exact["exact"], True)
            self.assertLessEqual(abs(exact["items"] - len(want)), 1)  # a score on the floor
            quick = self.ask(query, min_score=floor)["total"]
            self.assertTrue(quick["items"] <= len(want) + 1 and (not quick["exact"] or abs(quick["items"] - len(want)) <= 1), (quick, len(want)))
        like = self.ok(self.server.request("POST", BASE + "/search", {"item": "item-00004", "filter": "price >= 0"})).json()
        self.assertEqual(like["total"], {"items": ITEMS - 1, "exact": True})

    def test_embedding_in_base64(self):
        query = vector(1)
        packed = base64.b64encode(struct.pack(f"<{DIM}f", *query)).decode()
        self.assertEqual(self.ask(packed, filter="new = true")["results"], self.ask(query, filter="new = true")["results"])
        self.is_problem(self.server.request("POST", BASE + "/search", {"embedding": packed[:-8]}), 400, "field_invalid", "embedding")

    def test_bench_recall(self):
        url = f"http://127.0.0.1:{self.server.port}"
        plain = json.loads(run("bench", "recall", "--url", url, "--catalogue", "own", "--queries", "40", "--json").stdout)
        self.assertEqual((plain["queries"], plain["plans"]), (40, {"hnsw": 40}))
        self.assertTrue(0.9 <= plain["recall"] <= 1, plain)
        few = json.loads(run("bench", "recall", "--url", url, "--catalogue", "own", "--queries", "20", "--filter", "cluster = 3", "--json").stdout)
        self.assertEqual((few["recall"], few["plans"]), (1.0, {"scan": 20}))


class Auditor(TestCase):
    def test_effort_rises_until_recall_holds(self):
        """Embeddings without structure want more effort than the searches begin with; audits of live searches find that out."""
        rows, dim, draw = 2500, 48, random.Random(4)
        vectors = [[draw.gauss(0, 1) for _ in range(dim)] for _ in range(rows)]
        with Server("--segment-images", "1000", "--recall-target", "0.98", "--ef-search", "16") as s:
            self.ok(s.request("PUT", "/v1/catalogues/own", {"model": "external", "dim": dim}), 201)
            for at in range(0, rows, 500):
                self.ok(s.batch([{"id": f"i{i}", "embedding": vectors[i], "attributes": {"n": i}} for i in range(at, at + 500)], "own"))
            index = lambda: s.get("/v1/catalogues/own").json()["index"]  # noqa: E731
            s.wait(lambda: index()["sealed"] == rows, PATIENCE, "a graph")
            self.assertEqual((index()["plain"], index()["filtered"]), ({"ef_search": 16}, {"ef_search": 16}))

            def both_rose():
                v = [draw.gauss(0, 1) for _ in range(dim)]
                self.ok(s.request("POST", "/v1/catalogues/own/search", {"embedding": v}))
                self.ok(s.request("POST", "/v1/catalogues/own/search", {"embedding": v, "filter": "n < 2400"}))
                return index()["plain"]["ef_search"] > 20 and "recall_at_10" in index()["filtered"]
            s.wait(both_rose, PATIENCE, "audits to raise ef_search")
            metrics = s.get("/metrics").body.decode()
            for kind in ("plain", "filtered"):
                self.assertIn(f'likeness_search_recall_at_10{{catalogue="own",kind="{kind}"}} 0.', metrics)
            self.assertIn("ef_search goes from 16 to", " ".join(line["msg"] for line in s.log()))  # text() has the end alone


if __name__ == "__main__":
    main(__file__)
