"""Shows pages in a real browser, and reports their text, their errors and the addresses that they load.

The browser is headless Chromium. Two pipes carry its DevTools protocol.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = "chromium-headless-shell"
_PATIENCE = 120.0
_HEIGHT = 900
_DOMAINS = ("Network", "Log", "Runtime", "Page")
_ERRORS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")


@dataclass(frozen=True)
class Shown:
    """A page in a window: its visible text, its width in pixels, and its problems.

    `asked`: the addresses that it loaded. `trouble`: the entries of the browser's console.
    """

    text: str
    page_width: int
    asked: list[str]
    trouble: list[str]


class Browser:
    """A running browser."""

    def __init__(self, commands: int, replies: int) -> None:
        """`commands` and `replies`: descriptors of the pipes to the browser and from it."""
        self._commands, self._replies = commands, replies
        self._last = 0
        self._rest = b""
        self._events: list[dict[str, Any]] = []
        target = self._do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for name in _DOMAINS:
            self._do(f"{name}.enable")

    def show(self, page: Path | str, width: int, picture: Path | None = None, *, dark: bool = False) -> Shown:
        """Show a page in a window of that width in pixels; below 600 it is a telephone.

        `page`: a file, or an address. `picture` is the path of a screenshot in PNG. `dark`: the reader's
        system is set to dark colours.
        """
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._do("Emulation.setEmulatedMedia", features=[scheme])
        metrics = {"height": _HEIGHT, "deviceScaleFactor": 1, "mobile": width < 600}
        self._do("Emulation.setDeviceMetricsOverride", width=width, **metrics)
        self._events.clear()
        self._do("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        self._wait_for("Page.loadEventFired")
        text = str(self._value("document.body.innerText"))
        page_width = int(self._value("document.documentElement.scrollWidth"))
        if picture:
            drawn = self._do("Page.captureScreenshot", captureBeyondViewport=True, format="png")
            picture.write_bytes(base64.b64decode(drawn["data"]))
        requests = [
            event["params"]["request"]["url"]
            for event in self._events
            if event["method"] == "Network.requestWillBeSent"
        ]
        errors = [json.dumps(event["params"]) for event in self._events if event["method"] in _ERRORS]
        return Shown(text, page_width, requests, errors)

    def _value(self, expression: str) -> Any:
        return self._do("Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]

    def _do(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        command: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if hasattr(self, "_session"):
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._last:
                assert "error" not in message, (method, message)
                result: dict[str, Any] = message["result"]
                return result

    def _wait_for(self, event: str) -> None:
        while not any(each["method"] == event for each in self._events):
            self._next()

    def _next(self) -> dict[str, Any]:
        """Return the next message. Store it if it is an event."""
        end = time.monotonic() + _PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._replies], [], [], max(0.0, end - time.monotonic()))
            block = os.read(self._replies, 1 << 16) if ready else b""
            assert block, f"the browser did not answer within {_PATIENCE:g} s"
            self._rest += block
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self._events.append(message)
        return message


@contextlib.contextmanager
def started(profile: Path) -> Iterator[Browser]:
    """Start a browser with an empty profile in the directory `profile`."""
    browser_input, commands = os.pipe()
    replies, browser_output = os.pipe()
    # The browser reads from descriptor 3 and writes to 4.
    script = 'exec "$0" "$@" 3<&"$INPUT" 4>&"$OUTPUT"'
    arguments = ["--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    with (profile / "output").open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-c", script, PROGRAM, *arguments],
            pass_fds=(browser_input, browser_output),
            env={**os.environ, "INPUT": str(browser_input), "OUTPUT": str(browser_output)},
            stdout=output,
            stderr=output,
        )
    os.close(browser_input)
    os.close(browser_output)
    try:
        yield Browser(commands, replies)
    finally:
        os.close(commands)
        process.kill()
        process.wait()
        os.close(replies)
