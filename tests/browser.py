"""Pages in a real browser: what it shows of them, what it complains of, and what they ask others for.

The browser is Chromium's without a window, and is talked to over two pipes by its DevTools protocol.
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
_WATCHED = ("Network", "Log", "Runtime", "Page")
_TROUBLE = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")


@dataclass(frozen=True)
class Shown:
    """A page in a window: its visible text, its width in pixels, and what went wrong.

    `asked` are the addresses that were asked for, `trouble` what is in the browser's console.
    """

    text: str
    page_width: int
    asked: list[str]
    trouble: list[str]


class Browser:
    """A browser that runs."""

    def __init__(self, orders: int, answers: int) -> None:
        """`orders` and `answers`: the ends of the pipes to it and from it."""
        self._orders, self._answers = orders, answers
        self._last = 0
        self._rest = b""
        self._events: list[dict[str, Any]] = []
        target = self._do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for name in _WATCHED:
            self._do(f"{name}.enable")

    def show(self, page: Path, width: int, picture: Path | None = None) -> Shown:
        """A page in a window of that many pixels' width, a telephone's below 600.

        `picture` is where it is drawn, as PNG.
        """
        metrics = {"height": _HEIGHT, "deviceScaleFactor": 1, "mobile": width < 600}
        self._do("Emulation.setDeviceMetricsOverride", width=width, **metrics)
        self._events.clear()
        self._do("Page.navigate", url=page.as_uri())
        self._wait_for("Page.loadEventFired")
        text = str(self._value("document.body.innerText"))
        page_width = int(self._value("document.documentElement.scrollWidth"))
        if picture:
            drawn = self._do("Page.captureScreenshot", captureBeyondViewport=True, format="png")
            picture.write_bytes(base64.b64decode(drawn["data"]))
        asked = [
            event["params"]["request"]["url"]
            for event in self._events
            if event["method"] == "Network.requestWillBeSent"
        ]
        trouble = [json.dumps(event["params"]) for event in self._events if event["method"] in _TROUBLE]
        return Shown(text, page_width, asked, trouble)

    def _value(self, expression: str) -> Any:
        return self._do("Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]

    def _do(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        order: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if hasattr(self, "_session"):
            order["sessionId"] = self._session
        os.write(self._orders, json.dumps(order).encode() + b"\0")
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
        """The next message; an event is also kept."""
        end = time.monotonic() + _PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            block = os.read(self._answers, 1 << 16) if ready else b""
            assert block, "the browser does not answer"
            self._rest += block
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self._events.append(message)
        return message


@contextlib.contextmanager
def started(profile: Path) -> Iterator[Browser]:
    """A browser that knows nothing yet; `profile` is a directory of its own."""
    orders_end, orders = os.pipe()
    answers, answers_end = os.pipe()
    # It reads from 3 and writes to 4, whatever has these numbers here.
    words = 'exec "$0" "$@" 3<&"$ORDERS" 4>&"$ANSWERS"'
    arguments = ["--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    with (profile / "said").open("wb") as said:
        process = subprocess.Popen(
            ["bash", "-c", words, PROGRAM, *arguments],
            pass_fds=(orders_end, answers_end),
            env={**os.environ, "ORDERS": str(orders_end), "ANSWERS": str(answers_end)},
            stdout=said,
            stderr=said,
        )
    os.close(orders_end)
    os.close(answers_end)
    try:
        yield Browser(orders, answers)
    finally:
        os.close(orders)
        process.kill()
        process.wait()
        os.close(answers)
