"""Drives a headless Chromium over its debugging pipe (file descriptors 3 and 4, messages end with NUL): standard library only."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time


def find():
    """Path of a Chromium or Chrome, or None."""
    names = [os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
    return next((p for p in map(shutil.which, filter(None, names)) if p), None)


class Failure(Exception):
    pass


class Browser:
    """One browser process with a profile of its own. Use it in a `with`; page() opens tabs that share nothing."""

    def __init__(self):
        self.profile = tempfile.TemporaryDirectory(prefix="likeness-browser-", ignore_cleanup_errors=True)
        self.next_id, self.buffer, self.pages = 0, b"", {}
        to_browser, self.write_fd = os.pipe()
        self.read_fd, from_browser = os.pipe()
        command = [find(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                   "--remote-debugging-pipe", "--no-proxy-server", "--disable-background-networking", "--mute-audio",
                   f"--user-data-dir={self.profile.name}", "about:blank"]
        # The shell moves the pipe's ends to 3 and 4, by way of two numbers that neither has, and becomes the browser.
        a = max(to_browser, from_browser, 4) + 1
        shell = f'exec {a}<&{to_browser} {a + 1}>&{from_browser}; exec 3<&{a} 4>&{a + 1} {a}<&- {a + 1}>&-; exec "$@"'
        self.process = subprocess.Popen(["bash", "-c", shell, "browser", *command], pass_fds=(to_browser, from_browser),
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            try:
                self.call("Browser.close", patience=5)
                self.process.wait(5)
            except (Failure, OSError, subprocess.TimeoutExpired):
                self.process.kill()
        self.process.wait()
        os.close(self.write_fd)
        os.close(self.read_fd)
        self.profile.cleanup()

    def _receive(self, deadline):
        while b"\0" not in self.buffer:
            ready = select.select([self.read_fd], [], [], max(0.0, deadline - time.monotonic()))[0]
            chunk = os.read(self.read_fd, 1 << 20) if ready else b""
            if not chunk:
                raise Failure("the browser has ended" if ready else "the browser does not answer")
            self.buffer += chunk
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, session=None, patience=30, **params):
        self.next_id += 1
        message = {"id": self.next_id, "method": method, "params": params} | ({"sessionId": session} if session else {})
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.write_fd, data):]
        deadline = time.monotonic() + patience
        while True:
            reply = self._receive(deadline)
            if reply.get("id") == self.next_id:
                if "error" in reply:
                    raise Failure(f"{method}: {reply['error']['message']}")
                return reply["result"]
            page = self.pages.get(reply.get("sessionId"))
            if page:
                page.note(reply)

    def page(self, **how):
        return Page(self, **how)


class Page:
    """A tab with storage of its own. Use it in a `with`."""

    def __init__(self, browser, width=1280, height=900, dark=False, touch=False):
        self.browser, self.console = browser, []  # console: errors and refusals that the page caused
        self.context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=self.context)["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        browser.pages[self.session] = self
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.browser.pages.pop(self.session)
        self.browser.call("Target.disposeBrowserContext", browserContextId=self.context)

    def call(self, method, **params):
        return self.browser.call(method, session=self.session, **params)

    def note(self, message):
        method, p = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            d = p["exceptionDetails"]
            self.console.append(d.get("exception", {}).get("description", d["text"]))
        elif method == "Runtime.consoleAPICalled" and p["type"] == "error":
            self.console.append(" ".join(str(a.get("value", a.get("description"))) for a in p["args"]))
        elif method == "Log.entryAdded" and p["entry"]["level"] == "error":
            self.console.append(p["entry"]["text"])

    def run(self, script):
        """Value of a JavaScript expression in the page; promises are awaited."""
        r = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in r:
            raise Failure(r["exceptionDetails"].get("exception", {}).get("description", "exception") + "\n  in: " + script)
        return r["result"].get("value")

    def wait(self, script, patience=15):
        """Waits until the expression is true."""
        deadline = time.monotonic() + patience
        while not self.run(f"!!({script})"):
            if time.monotonic() > deadline:
                raise Failure(f"not within {patience} s: {script}\n  page: {self.run('document.body.innerText')[:400]!r}\n"
                              f"  console: {self.console}")
            time.sleep(0.05)

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def choose(self, selector, path):
        """Gives a file input a file, as the file dialogue does."""
        node = self.call("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")["result"]["objectId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], objectId=node)

    def box(self, selector):
        """Left, top, width, height in the window, scrolled into view."""
        return self.run(f"(e => {{ e.scrollIntoView({{block: 'nearest'}}); const r = e.getBoundingClientRect();"
                        f" return [r.x, r.y, r.width, r.height]; }})(document.querySelector({json.dumps(selector)}))")

    def mouse(self, kind, x, y):
        self.call("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, button="left", buttons=0 if kind == "Released" else 1,
                  clickCount=1)

    def drag(self, x0, y0, x1, y1):
        self.mouse("Pressed", x0, y0)
        for i in range(1, 6):
            self.mouse("Moved", x0 + (x1 - x0) * i / 5, y0 + (y1 - y0) * i / 5)
        self.mouse("Released", x1, y1)

    def click(self, selector):
        x, y, w, h = self.box(selector)
        self.mouse("Pressed", x + w / 2, y + h / 2)
        self.mouse("Released", x + w / 2, y + h / 2)

    def key(self, key, shift=False, text=""):
        codes = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Escape": 27, "Tab": 9, "Enter": 13}
        extra = {"text": text} if text else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes.get(key, 0),
                      modifiers=8 if shift else 0, **extra)
            extra = {}

    def type(self, selector, text):
        """Replaces a field's text and presses Enter."""
        self.run(f"(e => {{ e.focus(); e.select(); }})(document.querySelector({json.dumps(selector)}))")
        if text:
            self.call("Input.insertText", text=text)
        else:
            self.run(f"document.querySelector({json.dumps(selector)}).value = ''")
        self.key("Enter", text="\r")

    def screenshot(self, path, whole=False):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))
