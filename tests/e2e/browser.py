"""Chromium without a screen, driven through its DevTools protocol.

By `--remote-debugging-pipe`: values of JSON on descriptors 3 and 4, each ended by a zero byte. So no client of
WebSockets is needed, and no port that others could reach.
https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["Browser", "Page", "find_chromium", "started"]

Json = dict[str, Any]

ANSWER_S: Final = 20.0
END_S: Final = 10.0
FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # which root cannot have
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
)
# Descriptors 3 and 4 may be anybody's here; there they are put in their places.
EXEC: Final = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for number, end in zip((3, 4), ends): os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
KEYS: Final[Mapping[str, int]] = {"Enter": 13, "Escape": 27, "Tab": 9}
CTRL: Final = 2


class Browser:
    """A process, and the two pipes to it."""

    def __init__(self, program: str, profile: Path) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        ends = (theirs_in, theirs_out)
        line = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", EXEC, *map(str, ends), *line],
            pass_fds=ends,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in ends:
            os.close(end)
        self._number = 0
        self._rest = b""
        self._pages: dict[str, Page] = {}

    def open(self, beside: Page | None = None) -> Page:
        """Open a tab in a window of its own, or before another in its window, which is then out of sight."""
        context = beside.context if beside is not None else self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session, context)
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            page.call(f"{domain}.enable")
        return page

    def call(self, method: str, session: str = "", **params: object) -> Json:
        """Ask for something, and return what is answered; events that come before are noted."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + ANSWER_S
        while True:
            answer = self._read(end)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            page = self._pages.get(answer.get("sessionId", ""))
            if page is not None and "method" in answer:
                page.note(answer["method"], answer["params"])

    def close(self) -> None:
        """End the process; whatever it has started ends with it."""
        with contextlib.suppress(AssertionError, OSError):
            self.call("Browser.close")
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._in)
        os.close(self._out)

    def _read(self, end: float) -> Json:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._in, 1 << 20)
            assert data, f"the browser has ended with {self.process.poll()}"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))


@dataclass
class Page:
    """One tab: what a person does in it, and what is seen of it."""

    browser: Browser
    session: str
    context: str
    """Of its window, and of what it keeps."""
    problems: list[str] = field(default_factory=list)
    """Errors and warnings in its console: exceptions, refusals of its policy, what could not be loaded."""
    requests: list[str] = field(default_factory=list)
    """Addresses that it asked for."""

    def call(self, method: str, **params: object) -> Json:
        """Ask the tab for something."""
        return self.browser.call(method, self.session, **params)

    def go(self, url: str) -> None:
        """Open an address, and wait until it is loaded."""
        self.call("Page.navigate", url=url)
        self.wait(f"document.readyState === 'complete' && location.href === {json.dumps(url)}")

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, f"{expression}: {found['exceptionDetails']}"
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        self.wait_for(lambda: self.evaluate(f"!!({expression})"), expression)

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait until something holds, while the tab's events are read."""
        end = time.monotonic() + ANSWER_S
        while not condition():
            assert time.monotonic() < end, f"waited in vain: {what}; console: {self.problems}; {self.text('main')}"
            self.evaluate("new Promise((done) => setTimeout(done, 15))")

    def show(self) -> None:
        """Bring it before the other tabs of its window."""
        self.call("Page.bringToFront")

    def forget(self) -> None:
        """Leave where it is, and forget what was seen."""
        self.go("about:blank")
        self.emulate()
        self.problems.clear()
        self.requests.clear()

    def text(self, selector: str) -> str:
        """Return the text of an element as it is shown."""
        script = "((element) => element?.checkVisibility() ? element.innerText : '')"
        return str(self.evaluate(f"{script}(document.querySelector({json.dumps(selector)}))"))

    def type(self, selector: str, text: str) -> None:
        """Put text into a field in place of what is there."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, ctrl: bool = False) -> None:
        """Press a key where the focus is."""
        params = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key], "modifiers": CTRL if ctrl else 0}
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, **params)

    def click(self, selector: str) -> None:
        """Click into the middle of an element."""
        x, y = self._middle(selector)
        params = {"x": x, "y": y, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **params)

    def choose(self, selector: str, path: Path) -> None:
        """Choose a file in a field for files."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def drop(self, selector: str, path: Path) -> None:
        """Drag a file from outside, and drop it on an element."""
        x, y = self._middle(selector)
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def emulate(self, *, scheme: str = "light", width: int = 1280, height: int = 800) -> None:
        """Be another screen, with a person of another taste before it."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def screenshot(self, path: Path) -> None:
        """Save what is seen."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]))

    def _middle(self, selector: str) -> tuple[float, float]:
        """Scroll an element into sight, and return where it is."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{element}.scrollIntoView({{block: 'center'}})")
        x, y, width, height = self.evaluate(f"Object.values({element}.getBoundingClientRect().toJSON()).slice(0, 4)")
        return x + width / 2, y + height / 2

    def note(self, method: str, params: Json) -> None:
        """Take an event."""
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.problems.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            entry = params["entry"]
            self.problems.append(f"{entry['text']} {entry.get('url', '')}")


def find_chromium() -> str | None:
    """Return the program, where there is one."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextlib.contextmanager
def started(program: str, profile: Path) -> Iterator[Browser]:
    """Start a browser, and end it."""
    browser = Browser(program, profile)
    try:
        yield browser
    finally:
        browser.close()
