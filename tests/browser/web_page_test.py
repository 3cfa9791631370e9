#!/usr/bin/env python3
"""web_page_test.py PROGRAM: starts the server with the demo catalogue and uses its web page as a visitor does, in Chromium.

Ends with 77 (skipped) where there is no Chromium. Each test has a tab of its own; a failure says what it waited for.
"""

import base64
import csv
import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request

import chromium
from chromium import Failure

DEMO = pathlib.Path(__file__).resolve().parents[2] / "deploy/demo"
KETTLE = DEMO / "images/kettle-1.jpg"
ODD_ID = "odd/ id?é%2F#1 \"x\""
STATUS = "document.querySelector('#status').textContent"
IDLE = "document.querySelector('#grid').getAttribute('aria-busy') === 'false'"
CARDS = "document.querySelectorAll('#grid > li').length"
TITLES = "[...document.querySelectorAll('#grid h3')].map(e => e.textContent)"
SCORES = "[...document.querySelectorAll('#grid .score')].map(e => Number(e.lastChild.textContent))"
HREFS = "[...document.querySelectorAll('#grid .like')].map(e => e.getAttribute('href'))"

# Notes what the page asks of the server, and how many blob addresses live.
SPY = """{
window.asked = []; window.blobs = new Set();
const fetchIt = window.fetch, make = URL.createObjectURL, free = URL.revokeObjectURL;
window.fetch = (path, o = {}) => { asked.push({path, method: o.method || 'GET', headers: o.headers || {}, body: o.body}); return fetchIt(path, o); };
URL.createObjectURL = b => { const u = make.call(URL, b); blobs.add(u); return u; };
URL.revokeObjectURL = u => { blobs.delete(u); free.call(URL, u); };
}"""
LAST = "asked.filter(a => a.path.includes('/search') || /items\\?/.test(a.path)).at(-1)"


class Server:
    """The program on a free port, with a data folder of its own."""

    def __init__(self, program, folder, browser, key_file=None):
        self.browser = browser
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.url, self.key = f"http://127.0.0.1:{port}", None
        command = [program, "serve", "--data", str(folder), "--listen", f"127.0.0.1:{port}"]
        if key_file:
            self.key = pathlib.Path(key_file).read_text().strip()
            command += ["--admin-key-file", str(key_file)]
        else:
            command.append("--no-keys")
        self.log = open(pathlib.Path(folder).parent / f"log-{port}", "w+b")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.ask("GET", "/readyz")
                return
            except (OSError, urllib.error.URLError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise Failure(f"the server did not start: {self.text()}") from None
                time.sleep(0.05)

    def text(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-3000:]

    def ask(self, method, path, body=None, kind="application/json"):
        headers = {"Content-Type": kind} if body is not None else {}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        rq = urllib.request.Request(self.url + path, data=body, method=method, headers=headers)
        with urllib.request.urlopen(rq, timeout=60) as rp:
            return rp.read(), rp.headers

    def stop(self):
        """Its exit status: 0 when it had nothing to complain about, a sanitizer included."""
        self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def demo_rows():
    with open(DEMO / "catalog.csv", newline="") as f:
        return list(csv.DictReader(f))


def fill(server):
    """The demo catalogue, one item with a difficult id and no title, and a catalogue with nothing in it."""
    lines = []
    for row in demo_rows():
        photo = base64.b64encode((DEMO / row["image"]).read_bytes()).decode()
        attributes = {k: v for k, v in row.items() if k not in ("id", "image")} | {"price": float(row["price"])}
        lines.append({"id": row["id"], "attributes": attributes, "images": [{"data": photo}]})
    lines.append({"id": ODD_ID, "attributes": {"new": True, "sizes": ["S", "M"]}, "images": [{"data": photo}]})
    body = "\n".join(map(json.dumps, lines)).encode()
    answer, _ = server.ask("POST", "/v1/catalogues/default/items:batch", body, "application/x-ndjson")
    bad = [line for line in answer.decode().splitlines() if json.loads(line)["status"] >= 300]
    if bad:
        raise Failure(f"the demo catalogue is refused: {bad[:3]}")
    server.ask("PUT", "/v1/catalogues/nothing")


def equal(is_, want, what):
    if is_ != want:
        raise Failure(f"{what}: {is_!r}, wanted {want!r}")


def true(ok, what):
    if not ok:
        raise Failure(what)


def opened(server, fragment="", **how):
    page = server.browser.page(**how)
    page.call("Page.addScriptToEvaluateOnNewDocument", source=SPY)
    page.open(server.url + "/" + fragment)
    return page


def settle(page):
    time.sleep(0.05)
    page.wait(f"{IDLE} && {CARDS} > 0")


def photo(page, path=KETTLE):
    page.choose("#choose", path)
    page.wait(f"{STATUS}.includes(' ms') && {IDLE} && {CARDS} > 0")


def arguments(page):
    path = page.run(f"{LAST}.path")
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(path).query))


def quiet(page, allowed=0):
    """The console has no error beyond `allowed` refused requests: above all, nothing against the content policy."""
    errors = [c for c in page.console if not (allowed and c.startswith("Failed to load resource"))]
    equal(errors, [], "console")


def test_lists_the_catalogue(server):
    with opened(server) as page:
        settle(page)
        equal(page.run("document.querySelector('#count').textContent"), f"{len(demo_rows()) + 1} items", "count")
        equal(page.run("[...document.querySelector('#catalogue').options].map(o => o.value)"), ["default", "nothing"], "catalogues")
        equal(page.run(CARDS), 24, "cards")
        page.wait("document.querySelector('#grid img').naturalWidth > 0")
        page.run("document.querySelector('#next').click()")
        page.wait(f"{CARDS} === 48")
        hrefs = page.run(HREFS)
        equal(len(set(hrefs)), 48, "different items on two pages")
        quiet(page)


def test_policy_and_types(server):
    types = {"/": "text/html", "/app.js": "text/javascript", "/style.css": "text/css"}
    total = 0
    for path, kind in types.items():
        body, headers = server.ask("GET", path)
        total += len(body)
        true(headers["Content-Type"].startswith(kind), f"{path} is {headers['Content-Type']}")
    policy, forbidden = server.ask("GET", "/")[1]["Content-Security-Policy"], "unsafe"
    true(policy and "default-src 'none'" in policy and forbidden not in policy, f"policy: {policy}")
    true(total < 40000, f"the page has {total} bytes")


def test_photo(server):
    with opened(server) as page:
        settle(page)
        photo(page)
        rq = page.run(f"(a => ({{method: a.method, type: a.headers['Content-Type'], size: a.body.size}}))({LAST})")
        equal(rq, {"method": "POST", "type": "image/jpeg", "size": KETTLE.stat().st_size}, "a small JPEG is sent untouched")
        scores = page.run(SCORES)
        equal([page.run(HREFS)[0], scores[0]], ["#/default/kettle-1", 1], "a photo finds itself")
        equal(scores, sorted(scores, reverse=True), "scores fall")
        page.wait("[...document.querySelectorAll('#grid img')].slice(0, 4).every(i => i.naturalWidth > 0)")
        page.click("#next")
        page.wait(f"{CARDS} === 48")
        equal(len(set(page.run(HREFS))), 48, "different items on two pages")
        page.type("#minscore", str(scores[4]))
        page.wait(f"{IDLE} && {CARDS} < 24")
        true(min(page.run(SCORES)) >= scores[4] - 0.001, "least score")
        page.type("#minscore", "2")
        page.wait("document.querySelector('#minerror').textContent !== ''")
        page.type("#minscore", "")
        page.run("(e => { e.value = '12'; e.dispatchEvent(new Event('change', {bubbles: true})); })(document.querySelector('#limit'))")
        page.wait(f"{IDLE} && {CARDS} === 12")
        page.click("#remove")
        page.wait("document.querySelector('#heading').textContent === 'In this catalogue'")
        equal(page.run("blobs.size"), 0, "blob addresses left")
        quiet(page)


def test_crop_with_the_mouse(server):
    with opened(server) as page:
        settle(page)
        photo(page)
        x, y, w, h = page.box("#photo")
        page.drag(x + w * 0.25, y + h * 0.2, x + w * 0.75, y + h * 0.9)
        page.wait(f"{STATUS}.includes('part of the photo')")
        crop = [float(v) for v in arguments(page)["crop"].split(",")]
        true(all(abs(a - b) < 0.01 for a, b in zip(crop, (0.25, 0.2, 0.5, 0.7))), f"drawn crop: {crop}")
        page.drag(x + w * 0.5, y + h * 0.5, x + w * 0.9, y + h * 0.9)  # moves it, as far as the corner
        page.wait(f"{IDLE} && {LAST}.path.includes('crop=0.5')")
        crop = [float(v) for v in arguments(page)["crop"].split(",")]
        true(all(abs(a - b) < 0.01 for a, b in zip(crop, (0.5, 0.3, 0.5, 0.7))), f"moved crop: {crop}")
        page.drag(x + w * 0.5 + 3, y + h * 0.3 + 3, x + w * 0.1, y + h * 0.1)  # its left top corner
        page.wait(f"{IDLE} && {LAST}.path.includes('crop=0.1')")
        crop = [float(v) for v in arguments(page)["crop"].split(",")]
        true(all(abs(a - b) < 0.02 for a, b in zip(crop, (0.1, 0.1, 0.9, 0.9))), f"pulled crop: {crop}")
        page.click("#whole")
        page.wait(f"{IDLE} && !{LAST}.path.includes('crop')")
        true(page.run("document.querySelector('#whole').hidden"), "nothing to reset")
        quiet(page)


def test_crop_with_the_keyboard(server):
    with opened(server) as page:
        settle(page)
        photo(page)
        page.run("document.querySelector('#crop').focus()")
        for _ in range(10):
            page.key("ArrowLeft", shift=True)
        page.key("ArrowRight")
        page.key("ArrowUp", shift=True)
        page.wait(f"{STATUS}.includes('part of the photo')")
        equal(arguments(page)["crop"], "0.02,0,0.8,0.98", "crop")
        true("2 to 82 percent across" in page.run("document.querySelector('#cropsay').textContent"), "the crop is told")
        page.key("Escape")
        page.wait(f"{IDLE} && !{LAST}.path.includes('crop')")
        quiet(page)


def test_crop_with_a_finger(server):
    with opened(server, width=390, height=844, touch=True) as page:
        settle(page)
        photo(page)
        x, y, w, h = page.box("#photo")

        def touch(kind, *points):
            page.call("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=[{"x": px, "y": py} for px, py in points])

        touch("Start", (x + w - 8, y + h - 8))
        for i in range(1, 6):
            touch("Move", (x + w - 8 - w * 0.08 * i, y + h - 8 - h * 0.06 * i))
        touch("End")
        page.wait(f"{STATUS}.includes('part of the photo')")
        crop = [float(v) for v in arguments(page)["crop"].split(",")]
        true(crop[:2] == [0, 0] and 0.5 < crop[2] < 0.7 and 0.6 < crop[3] < 0.8, f"crop: {crop}")
        equal(page.run("document.documentElement.scrollWidth"), 390, "width of the page")
        quiet(page)


def test_filter(server):
    with opened(server) as page:
        settle(page)
        photo(page)
        page.type("#filter", "colour == red")
        page.wait("document.querySelector('#filtererror').textContent.includes('column')")
        equal(page.run("document.querySelector('#filter').getAttribute('aria-invalid')"), "true", "aria-invalid")
        equal(page.run(CARDS), 0, "cards beside a broken filter")
        page.type("#filter", 'colour = "red" AND price < 60')
        page.wait(f"{IDLE} && {CARDS} > 0")
        equal(page.run("document.querySelector('#filtererror').textContent"), "", "filter error")
        rows = [r for r in demo_rows() if r["colour"] == "red" and float(r["price"]) < 60]
        equal(sorted(page.run(TITLES)), sorted(r["title"] for r in rows), "filtered items")
        page.type("#filter", 'colour = "no such colour"')
        page.wait(f"{STATUS} === 'Nothing passes this filter.'")
        quiet(page, allowed=1)


def test_facets(server):
    chips = "[...document.querySelectorAll('#facets button')].map(b => b.textContent)"
    with opened(server) as page:
        settle(page)
        equal(page.run(chips), [], "facets of the catalogue's list")
        photo(page)
        true("facets" in arguments(page), "names are known from the list")
        rows = demo_rows()
        red = sum(r["colour"] == "red" for r in rows)
        true(f"red {red}" in page.run(chips), f"red {red} among {page.run(chips)}")
        page.run("[...document.querySelectorAll('#facets button')].find(b => b.textContent.startsWith('red ')).click()")
        page.wait(f"{IDLE} && {STATUS}.startsWith('{red} result')")
        equal(page.run("document.querySelector('#filter').value"), '"colour":"red"', "the filter")
        equal(sorted(page.run(TITLES)), sorted(r["title"] for r in rows if r["colour"] == "red"), "red items")
        quiet(page)


def test_more_like_this(server):
    with opened(server) as page:
        settle(page)
        photo(page)
        first = page.run(TITLES)[0]
        page.click("#grid li:first-child .like")
        page.wait(f"document.querySelector('#heading').textContent === {json.dumps('Most like ' + first)} && {IDLE}")
        equal(page.run("document.activeElement.id"), "heading", "focus")
        true(page.run("location.hash").startswith("#/default/"), "address")
        true(page.run("location.hash") not in page.run(HREFS), "the item itself is left out")
        page.wait("document.querySelector('#itemphoto').naturalWidth > 0")
        page.run("history.back()")
        page.wait(f"document.querySelector('#heading').textContent === 'Most like your photo' && {IDLE} && {CARDS} > 0")
        quiet(page)
    fragment = "#/default/" + urllib.parse.quote(ODD_ID, safe="")
    with opened(server, fragment) as page:
        settle(page)
        page.wait("document.querySelector('#itemphoto').naturalWidth > 0")
        equal(page.run("document.querySelector('#itemtitle').textContent"), ODD_ID, "title of an item without one")
        equal(json.loads(page.run(f"{LAST}.body")), {"item": ODD_ID}, "query")
        quiet(page)
    with opened(server, "#/default/no-such-item") as page:
        page.wait("document.querySelector('#errortext').textContent.includes('no-such-item')")


def with_orientation(jpeg, orientation):
    """The JPEG with an EXIF segment that says how it was held."""
    tiff = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + struct.pack(">HH", 0xFFE1, len(body) + 2) + body + jpeg[2:]


def test_large_photos_are_shrunk_upright(server):
    with opened(server) as page, tempfile.TemporaryDirectory() as folder:
        settle(page)
        page.run("""new Promise(done => {
            const c = document.createElement('canvas'), g = c.getContext('2d');
            c.width = 2400; c.height = 1200;
            g.fillStyle = '#f00'; g.fillRect(0, 0, 1200, 1200);
            g.fillStyle = '#00f'; g.fillRect(1200, 0, 1200, 1200);
            window.drawn = c.toDataURL('image/jpeg', .9); done(); })""")
        jpeg = base64.b64decode(page.run("drawn").split(",", 1)[1])
        path = pathlib.Path(folder) / "held.jpg"
        path.write_bytes(with_orientation(jpeg, 6))
        page.choose("#choose", path)
        page.wait(f"{STATUS}.includes(' ms')")
        sent = page.run(f"""createImageBitmap({LAST}.body).then(b => {{
            const c = document.createElement('canvas'), g = c.getContext('2d');
            c.width = b.width; c.height = b.height; g.drawImage(b, 0, 0);
            const red = (x, y) => {{ const [r, , bl] = g.getImageData(x, y, 1, 1).data; return r > bl; }};
            return {{type: {LAST}.body.type, w: b.width, h: b.height, top: red(256, 100), bottom: red(256, 900)}}; }})""")
        equal(sent, {"type": "image/jpeg", "w": 512, "h": 1024, "top": True, "bottom": False}, "what is sent")
        x, y, w, h = page.box("#photo")
        true(h > 1.9 * w, f"shown upright: {w} x {h}")
        quiet(page)


def test_drop_and_paste(server):
    with opened(server) as page:
        settle(page)
        data = {"items": [], "files": [str(DEMO / "images/mug-2.jpg")], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            page.call("Input.dispatchDragEvent", type=kind, x=700, y=500, data=data)
        page.wait(f"{STATUS}.includes(' ms') && {IDLE}")
        equal(page.run(HREFS)[0], "#/default/mug-2", "a photo finds itself")
        equal(page.run("document.body.classList.contains('dropping')"), False, "drop mark")
        page.run("document.querySelector('#grid').replaceChildren()")
        page.run("""new Promise(done => {
            const c = document.createElement('canvas'); c.width = c.height = 64;
            c.toBlob(b => { const d = new DataTransfer(); d.items.add(new File([b], 'p.png', {type: 'image/png'}));
                window.dispatchEvent(new ClipboardEvent('paste', {clipboardData: d, cancelable: true})); done(); }); })""")
        page.wait(f"{CARDS} > 0 && {LAST}.headers['Content-Type'] === 'image/png'")
        with tempfile.NamedTemporaryFile(suffix=".jpg") as f:
            f.write(b"this is no picture")
            f.flush()
            page.choose("#choose", f.name)
            page.wait("document.querySelector('#photoerror').textContent.includes('not a picture')")
        quiet(page)


def test_empty_catalogue(server):
    with opened(server) as page:
        settle(page)
        page.run("(e => { e.value = 'nothing'; e.dispatchEvent(new Event('change')); })(document.querySelector('#catalogue'))")
        page.wait("!document.querySelector('#empty').hidden")
        true("likeness import" in page.run("document.querySelector('#empty').innerText"), "hint")
        equal(page.run("location.hash"), "#/nothing", "address")
        page.run("history.back()")
        settle(page)
        true(page.run("document.querySelector('#empty').hidden"), "hint is gone")
        quiet(page)


def test_names_and_widths(server):
    """Everything that can be used has a name for those who cannot see it, and no width from 360 on scrolls sideways."""
    for width in (360, 768, 1280, 2200):
        with opened(server, width=width, height=800, dark=width == 768) as page:
            settle(page)
            photo(page)
            true(page.run("document.documentElement.scrollWidth") <= width, f"{width} px scroll sideways")
            nodes = page.call("Accessibility.getFullAXTree")["nodes"]
            roles = ("button", "link", "textbox", "spinbutton", "combobox", "checkbox", "application", "image", "DisclosureTriangle")
            nameless = [n["role"]["value"] for n in nodes
                        if not n.get("ignored") and n["role"]["value"] in roles and not n.get("name", {}).get("value")]
            equal(nameless, [], "nameless")


def test_key(server):
    with opened(server) as page:
        page.wait("!document.querySelector('#keyform').hidden")
        equal(page.run("document.activeElement.id"), "key", "focus")
        equal(page.run("document.querySelector('#keyerror').textContent"), "", "no blame at first")
        page.type("#key", "lk_wrong")
        page.wait("document.querySelector('#keyerror').textContent.includes('does not accept')")
        page.type("#key", server.key)
        page.wait(f"document.querySelector('#keyform').hidden && {CARDS} > 0")
        page.wait("document.querySelector('#grid img').naturalWidth > 0")
        true(page.run("document.querySelector('#grid img').src").startswith("blob:"), "pictures come with the key")
        photo(page)
        page.wait("document.querySelector('#grid img').naturalWidth > 0")
        left = page.run("blobs.size - [...document.querySelectorAll('#grid img')].filter(i => i.src).length")
        equal(left, 1, "blob addresses beside the cards': the photo's")
        page.call("Page.reload")
        page.wait(f"document.readyState === 'complete' && {CARDS} > 0")  # the tab remembers the key
        page.click("#keybutton")
        page.click("#keyforget")
        page.wait(f"!document.querySelector('#keyform').hidden && {CARDS} === 0")
        equal(page.run("[sessionStorage.length, localStorage.length, blobs.size]"), [0, 0, 0], "what is left")
        quiet(page, allowed=1)


def run(tests, server):
    failed = 0
    for test in tests:
        began = time.monotonic()
        try:
            test(server)
            print(f"ok   {test.__name__} {time.monotonic() - began:.1f} s", flush=True)
        except Exception as e:  # one failure must not hide the others
            failed += 1
            where = traceback.extract_tb(e.__traceback__)[1:2]
            print(f"FAIL {test.__name__}, line {where[0].lineno if where else '?'}: {e}", flush=True)
    return failed


def main():
    if chromium.find() is None:
        print("skipped: no Chromium here (apt-get install chromium)")
        return 77
    names = sys.argv[2:]
    open_tests = [f for n, f in globals().items() if n.startswith("test_") and n != "test_key" and (not names or n in names)]
    key_tests = [test_key] if not names or "test_key" in names else []
    failed = 0
    with tempfile.TemporaryDirectory(prefix="likeness-web-") as folder, chromium.Browser() as browser:
        key_file = pathlib.Path(folder) / "key"
        key_file.write_text("lk_" + base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=") + "\n")
        key_file.chmod(0o600)
        for tests, key in ((open_tests, None), (key_tests, key_file)):
            if not tests:
                continue
            server = Server(sys.argv[1], pathlib.Path(folder) / ("closed" if key else "open"), browser, key)
            try:
                fill(server)
                failed += run(tests, server)
            finally:
                status = server.stop()
                if status != 0:
                    failed += 1
                    print(f"FAIL the server ended with {status}: {server.text()}")
    print(f"{failed} failed" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
