"""metrics_test.py: /metrics is text that a strict reader takes, and counts what was done; /openapi.json names every route that
the server has, and no other."""

import random
import re
import shutil
import tempfile

import prometheus
from contract import Contract
from harness import (BATCH, CATALOGUE, ITEMS, PATIENCE, SEARCH, TREE, Server, TestCase, item_path, main, photo, put_line)

BOOT = photo("boot-1")
METHODS = ("GET", "PUT", "POST", "PATCH", "DELETE")
PAGES = {"/", "/app.js", "/style.css"}  # the web page: for people, not for programs


class Metrics(TestCase):
    def scrape(self, server):
        reply = self.ok(server.get("/metrics"))
        self.assertEqual(reply.header("Content-Type"), "text/plain; version=0.0.4; charset=utf-8")
        return prometheus.parse(reply.body.decode())

    def value(self, families, name, sample=None, **labels):
        return families[name].samples.get((sample or name, tuple(sorted(labels.items()))), 0)

    def test_text_and_counts(self):
        with Server() as s:
            self.scrape(s)  # of a server that has done nothing
            s.fill(20)
            s.wait(lambda: self.value(self.scrape(s), "likeness_batches_total") == 1, PATIENCE, "the end of the batch")
            before = self.scrape(s)
            route = "/v1/catalogues/{catalogue}/search"
            for _ in range(7):
                self.ok(s.search(BOOT))
            self.is_problem(s.search(b"x" * 10), 415, "image_format_unsupported")
            self.is_problem(s.get(item_path("nobody")), 404, "item_not_found")
            self.ok(s.put("mine", BOOT), 201)
            answers = self.ok(s.batch([put_line("a", BOOT), {"op": "delete", "id": "nobody"}])).lines()
            self.assertEqual([a["status"] for a in answers], [201, 404])

            def grown(name, sample=None, **labels):
                return self.value(after, name, sample, **labels) - self.value(before, name, sample, **labels)

            after = None

            def all_counted():
                nonlocal after
                after = self.scrape(s)
                return grown("likeness_batches_total") == 1
            s.wait(all_counted, PATIENCE, "the batch to be counted")
            self.assertEqual(grown("likeness_http_requests_total", method="POST", route=route, status="200"), 7)
            self.assertEqual(grown("likeness_http_requests_total", method="POST", route=route, status="415"), 1)
            seconds = "likeness_http_request_duration_seconds"
            self.assertEqual(grown(seconds, seconds + "_count", route=route), 8)
            self.assertEqual(grown("likeness_http_request_bytes_total", method="POST", route=route, status="200"), 7 * len(BOOT))
            self.assertEqual(grown("likeness_problems_total", code="item_not_found"), 1)
            self.assertEqual(grown("likeness_images_embedded_total"), 9)
            self.assertEqual(grown("likeness_batch_lines_total", outcome="ok"), 1)
            self.assertEqual(grown("likeness_batch_lines_total", outcome="failed"), 1)
            self.assertEqual(grown("likeness_committed_writes_total"), 2)
            self.assertEqual(self.value(after, "likeness_catalogue_items", catalogue="default"), 22)
            self.assertEqual(self.value(after, "likeness_ready"), 1)
            for name, family in before.items():  # counters grow, or stay
                for (sample, labels), value in family.samples.items():
                    if family.kind != "gauge":
                        self.assertGreaterEqual(after[name].samples[(sample, labels)], value, (sample, labels))

    def test_recall_is_seen(self):
        """A catalogue large enough for a graph: live searches are audited, and the metric is what `bench recall` finds."""
        rows, dim = 1500, 8
        rng = random.Random(3)
        vectors = [[rng.uniform(-1, 1) for _ in range(dim)] for _ in range(rows)]
        with Server("--segment-images", "1000", "--recall-target", "0.9", "--ef-search", "64") as s:
            self.ok(s.request("PUT", "/v1/catalogues/own", {"model": "external", "dim": dim}), 201)
            lines = [{"id": f"i{i}", "embedding": v, "attributes": {"n": i}} for i, v in enumerate(vectors)]
            self.ok(s.batch(lines, "own"))
            sealed = lambda: self.value(self.scrape(s), "likeness_index_sealed_images", catalogue="own")  # noqa: E731
            s.wait(lambda: sealed() > 0, PATIENCE, "a graph")
            self.assertEqual(self.value(self.scrape(s), "likeness_ef_search", catalogue="own", kind="plain"), 64)
            audits = lambda kind: self.value(self.scrape(s), "likeness_search_audits_total", catalogue="own", kind=kind)  # noqa: E731

            def audited():
                self.ok(s.request("POST", "/v1/catalogues/own/search", {"embedding": vectors[rng.randrange(rows)]}))
                return audits("plain") >= 3
            s.wait(audited, PATIENCE, "audits")
            recall = self.value(self.scrape(s), "likeness_search_recall_at_10", catalogue="own", kind="plain")
            self.assertTrue(0.8 <= recall <= 1, recall)
            shown = self.ok(s.get("/v1/catalogues/own")).json()["index"]["plain"]
            self.assertTrue(0.8 <= shown["recall_at_10"] <= 1 and shown["ef_search"] >= 16, shown)
            self.assertEqual(audits("filtered"), 0)
            self.assertNotIn(("likeness_search_recall_at_10", (("catalogue", "own"), ("kind", "filtered"))),
                             self.scrape(s)["likeness_search_recall_at_10"].samples)
        with Server("--recall-target", "0") as s:
            self.assertEqual(self.value(self.scrape(s), "likeness_search_audits_total", catalogue="default", kind="plain"), 0)

    def test_requests_add_up(self):
        """The histogram of a route counts what the series of that route count together."""
        with Server() as s:
            s.fill(5)
            for path in (ITEMS, item_path("boot-1"), item_path("nobody"), "/livez", "/nothing", CATALOGUE):
                for _ in range(3):
                    s.get(path)
            s.wait(lambda: len(s.requests_logged()) >= 19, PATIENCE, "the requests")
            families = self.scrape(s)
            by_route = {}
            for (_, labels), value in families["likeness_http_requests_total"].samples.items():
                by_route[dict(labels)["route"]] = by_route.get(dict(labels)["route"], 0) + value
            for route, n in by_route.items():
                name = "likeness_http_request_duration_seconds"
                self.assertEqual(self.value(families, name, name + "_count", route=route), n, route)
            self.assertEqual(by_route["unmatched"], 3)

    def test_what_strangers_send_makes_no_series(self):
        """Methods, paths, ids and catalogue names do not become labels: a scraper would drown."""
        with Server() as s:
            s.get("/first")
            s.request("BREW", "/first")
            s.wait(lambda: len(s.requests_logged()) >= 2, PATIENCE, "the requests")
            series = lambda f: set(f["likeness_http_requests_total"].samples)  # noqa: E731
            before = series(self.scrape(s))
            for i in range(50):
                s.get(f"/x{i}\"\\")
                s.request(f"METHOD{i}", f"/y{i}")
            with s.raw(b'GET /"\\%0a HTTP/1.1\r\nHost: x\r\n\r\n') as c:
                c.replies(1)
            new = series(self.scrape(s)) - before
            self.assertLessEqual(len(new), 3, new)

    def test_names_of_files(self):
        """The model's file and its name are the operator's: quotes in them stay within their label."""
        folder = tempfile.mkdtemp(prefix='likeness-"q\\-')
        try:
            model = shutil.copy(TREE / "tests/data/onnx/residual.onnx", f'{folder}/a"b\\c{{d}}.onnx')
            with Server("--model", model) as s:
                families = self.scrape(s)
                (_, labels), = families["likeness_info"].samples
                self.assertEqual(s.get("/readyz").json()["model"]["source"].split("/")[-1], 'a"b\\c{d}.onnx')
                self.assertEqual(set(dict(labels)), {"version", "model", "precision", "kernels", "blas_core"})
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def test_catalogues_come_and_go(self):
        with Server() as s:
            for name in ("b", "a-1"):
                self.ok(s.request("PUT", f"/v1/catalogues/{name}"), 201)
            names = {dict(labels)["catalogue"] for _, labels in self.scrape(s)["likeness_catalogue_items"].samples}
            self.assertEqual(names, {"a-1", "b", "default"})
            for name in ("a-1", "b", "default"):
                self.ok(s.request("DELETE", f"/v1/catalogues/{name}"), 204)
            self.assertEqual(self.scrape(s)["likeness_catalogue_items"].samples, {})


class Reader(TestCase):
    GOOD = ("# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"1\"} 1\na_total{x=\"\\\\\\\"\\n\"} 2\n"
            "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3.5\nh_count 2\n")

    def test_it_is_strict(self):
        families = prometheus.parse(self.GOOD)
        self.assertEqual(families["a_total"].samples[("a_total", (("x", '\\"\n'),))], 2)
        for old, new in (("# HELP a_total A.\n", ""), ("# TYPE a_total counter\n", ""), ('x="1"', 'x="1'), ('x="1"', "x=1"),
                         ('"} 2\n#', '"} 2 \n#'), ('a_total{x="1"} 1\n', 'a_total{x="1"} 1\na_total{x="1"} 1\n'), ("a_total", "a"),
                         ('le="1"} 1', 'le="1"} 3'), ("h_count 2", "h_count 3"), ("h_sum 3.5\n", ""), ("h_count 2\n", ""),
                         ('h_bucket{le="+Inf"} 2\n', ""), ('le="1"', 'le="0x1"'), ("} 1\n", "} one\n"),
                         ("} 1\n", "} -1\n"),
                         ("h_count 2\n", "h_count 2\nb 1\n"), ("\n# HELP h", "\n\n# HELP h"), ('x="1"', 'x="1",'),
                         ('x="1"', 'x="1",x="1"'), ("h_count 2\n", "h_count 2"), ('x="1"', 'x="\\1"')):
            self.assertIn(old, self.GOOD)
            with self.assertRaises((AssertionError, ValueError), msg=f"{old!r} -> {new!r}"):
                prometheus.parse(self.GOOD.replace(old, new, 1) if old != "a_total" else self.GOOD.replace(old, new))


class Routes(TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server().start()
        cls.server.fill(3)
        cls.document = cls.server.get("/openapi.json").json()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()

    def target(self, template):
        return template.replace("{catalogue}", "default").replace("{item}", "armchair-1").replace("{n}", "0")

    def test_every_documented_route_is_there(self):
        """And no method besides: 405 names exactly the documented ones."""
        self.assertGreater(len(self.document["paths"]), 10)
        for template, item in self.document["paths"].items():
            known = {m.upper() for m in item if m.upper() in METHODS}
            for method in sorted(known - {"DELETE"}) + ["BREW"] + sorted(set(METHODS) - known):
                with self.subTest(f"{method} {template}"):
                    reply = self.server.request(method, self.target(template))
                    self.assertNotEqual(reply.code, "not_found", repr(reply))
                    if method in known:
                        self.assertNotEqual(reply.status, 405)
                        continue
                    self.is_problem(reply, 405, "method_not_allowed")
                    allowed = set(re.split(", *", reply.header("Allow")))
                    self.assertEqual(allowed, known | ({"HEAD"} if "GET" in known else set()))

    def test_every_route_is_documented(self):
        """What the tests call, and what the server calls its routes in the log."""
        contract = Contract(self.document)
        url = self.server.get(item_path("armchair-1")).json()["images"][0]["url"]
        for path in (CATALOGUE, SEARCH, ITEMS, BATCH, item_path("armchair-1"), url, "/v1/embed", "/v1/catalogues", "/livez",
                     "/readyz", "/metrics", "/openapi.json", *PAGES):
            template, _ = contract.find("GET", path)
            self.assertEqual(template is None, path in PAGES, path)
            reply = self.server.get(path)
            request_id = reply.header("X-Request-Id")
            routes = lambda: [r["route"] for r in self.server.requests_logged() if r["id"] == request_id]  # noqa: E731
            self.server.wait(routes, PATIENCE, "the log")
            self.assertEqual(routes(), [template or path])


if __name__ == "__main__":
    main(__file__)
