#!/usr/bin/env python3
"""The page at / looked at by Chromium: Tests/Operations/page.py --bin FOLDER [--pictures FOLDER]

Three servers, one of which has just been killed, and clients that write. At 360 and 1280 pixels, by day and by night:
nothing is wider than the screen, all text has a contrast of 4.5, the keyboard reaches every link and table, and nothing
else is loaded. Prints size and first paint, the median of ten. Without JavaScript the same figures are there. With
--pictures screenshots are written. Exit code 77 without Chromium.
"""
import argparse
import base64
import json
import os
import shutil
import statistics
import sys
import threading
import time

from running import Client, Programs, Server, eventually, get

BYTES_MAX = 60 * 1024
# Of every text that is seen: its colour and the colour behind it, as WCAG 2 counts their contrast.
CONTRAST = """(() => {
  const parse = c => (c.match(/[0-9.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = c => { const f = v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]); };
  const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  let [least, text, count] = [99, "", 0];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !e.getClientRects().length || e.closest("script,.skip")) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(parse(e.closest("svg") ? style.fill : style.color)), light(behind(e))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    count += 1;
    if (contrast < least) [least, text] = [contrast, walker.currentNode.data];
  }
  return {least, text, count};
})()"""
WIDE = "document.documentElement.scrollWidth"
PAINT = "(performance.getEntriesByName('first-paint')[0] || {startTime: 0}).startTime"
FOCUS = "(e => e === document.body ? '' : e.tagName + ' ' + (e.getAttribute('aria-label') || e.textContent))" \
    "(document.activeElement)"
SEEN = "(e => { const s = getComputedStyle(e); return s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2 })" \
    "(document.activeElement)"
LOADED = "performance.getEntriesByType('resource').map(e => e.name)"


class Browser:
    """Chromium by its pipe: objects of JSON that end with a zero byte, on its files 3 and 4."""

    def __init__(self, programs):
        to_browser, from_browser = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(to_browser[0], 3)
            os.dup2(from_browser[1], 4)
            os.closerange(5, 256)
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            os.execvp("chromium", [
                "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio",
                f"--user-data-dir={programs.folder}/chromium", "--remote-debugging-pipe", "--hide-scrollbars"])
        os.close(to_browser[0])
        os.close(from_browser[1])
        self.out, self.inp = to_browser[1], os.fdopen(from_browser[0], "rb", buffering=0)
        self.buffer, self.number, self.events = b"", 0, []
        programs.callback(self._end)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.page("Page.enable")

    def _end(self):
        try:
            os.kill(self.pid, 15)
        finally:
            os.waitpid(self.pid, 0)

    def _next(self):
        while b"\0" not in self.buffer:
            piece = self.inp.read(65536)
            if not piece:
                raise SystemExit("Chromium has ended")
            self.buffer += piece
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, session=None, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer.get("method"))

    def page(self, method, **parameters):
        return self.call(method, self.session, **parameters)

    def show(self, address):
        self.events = []
        self.page("Page.navigate", url=address)
        while "Page.loadEventFired" not in self.events:
            self.events.append(self._next().get("method"))

    def value(self, script):
        return self.page("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def screen(self, width, height, scheme):
        self.page("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)
        self.page("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def tab(self):
        for kind in ("keyDown", "keyUp"):
            self.page("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)

    def picture(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.page("Page.captureScreenshot", captureBeyondViewport=True)["data"]))


class Load(threading.Thread):
    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.isOver = port, threading.Event()

    def run(self):
        client, number = Client(self.port), 0
        while not self.isOver.is_set():
            number += 1
            for words in (("SET", f"user:{number % 5000}", "v" * 60), ("GET", f"user:{number * 7 % 6000}")):
                client(*words)
            if number % 50 == 0:
                client("DEL", f"user:{number % 5000}")
                self.isOver.wait(0.01)


def look(browser, address, pictures):
    wrong = []

    def check(what, is_right, found=None):
        if not is_right:
            wrong.append(f"{what}: {found}")

    for scheme in ("light", "dark"):
        for width, height in ((1280, 1000), (360, 740)):
            browser.screen(width, height, scheme)
            browser.show(address)
            where = f"{scheme}, {width} px"
            found = browser.value(CONTRAST)
            check(f"{where}: contrast", found["least"] >= 4.5 and found["count"] > 60, found)
            wide = browser.value(WIDE)
            check(f"{where}: width", wide <= width, wide)
            print(f"{where}: least contrast {found['least']:.1f} of {found['count']} texts, {wide} px wide")
            if pictures:
                browser.picture(os.path.join(pictures, f"page-{scheme}-{width}.png"))
    reached = []
    browser.show(address)
    for _ in range(30):
        browser.tab()
        name = browser.value(FOCUS)
        if not name or name in reached:
            break
        reached.append(name)
        check("focus is seen", browser.value(SEEN) or name.startswith("A To the content"), name)
    wanted = ["A To the content", "DIV Other servers", "DIV Actors"]
    wanted += [f"A {page}" for page in ("metrics", "status.json", "readyz", "healthz")]
    check("the keyboard's way", reached == wanted, reached)
    print(f"by keyboard: {', '.join(reached)}")
    check("nothing else is loaded", browser.value(LOADED) in ([], [address]), browser.value(LOADED))
    with_script = browser.value("document.getElementById('fresh').textContent")
    check("it says that it is renewed", with_script == "New figures every 5 seconds.", with_script)
    browser.page("Emulation.setScriptExecutionDisabled", value=True)
    browser.show(address)
    without = browser.value("document.body.innerText") or ""
    check("without JavaScript", all(part in without for part in ("frankfurt-2", "Actors, last ten minutes", "down")), without)
    browser.page("Emulation.setScriptExecutionDisabled", value=False)
    return wrong


def paint(browser, address, within):
    """The first paint, of a machine that does nothing else."""
    paints = []
    for _ in range(10):
        browser.show(address)
        paints.append(eventually("it is painted", lambda: browser.value(PAINT), 10))
    median = statistics.median(paints)
    print(f"first paint: {median:.0f} ms, the median of {len(paints)} ({min(paints):.0f} to {max(paints):.0f})")
    return [] if within is None or median <= within else [f"first paint: {median}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, help="folder with kvd")
    parser.add_argument("--pictures", help="folder for screenshots")
    parser.add_argument("--within", type=float, help="fail if the first paint comes later; milliseconds")
    parser.add_argument("--seconds", type=int, default=0, help="how long clients write before: charts need a minute")
    options = parser.parse_args()
    if not shutil.which("chromium"):
        print("chromium is not installed")
        sys.exit(77)
    with Programs() as programs:
        one = Server(programs, options.bin, "frankfurt-1", actors=2)
        join = ["--join", f"127.0.0.1:{one.port}"]
        Server(programs, options.bin, "frankfurt-2", arguments=join)
        third = Server(programs, options.bin, "singapore-1", arguments=join)
        loads = [Load(one.client), Load(one.client + 1)]
        for load in loads:
            load.start()
        eventually("all hear each other", lambda: [p["state"] for p in one.report()["peers"]] == ["up", "up"])
        time.sleep(options.seconds)  # For charts; nothing is waited for.
        for words in (("CONFIG", "SET", "slowlog-log-slower-than", "200"), ("KEYS", "user:*"), ("LIST", "user:"),
                      ("CONFIG", "SET", "slowlog-log-slower-than", "10000")):
            Client(one.client)(*words)
        third.process.kill()
        eventually("it is missed", lambda: "down" in [p["state"] for p in one.report()["peers"]], 120)
        size = len(get(one.metrics, "/")[1].encode())
        print(f"size: {size} bytes")
        browser, address = Browser(programs), f"http://127.0.0.1:{one.metrics}/"
        wrong = look(browser, address, options.pictures)
        for load in loads:
            load.isOver.set()
            load.join()
        wrong += paint(browser, address, options.within)
        if size > BYTES_MAX:
            wrong.append(f"size: {size}")
    for line in wrong:
        print(line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
