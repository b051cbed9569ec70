"""Messages to systemd: readiness, status and the watchdog [sd_notify(3)]."""

import contextlib
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Talks to the socket in `NOTIFY_SOCKET`; without that variable it does nothing.

    `watchdog_seconds` is the interval within which systemd wants WATCHDOG=1, or None.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        microseconds = environ.get("WATCHDOG_USEC", "")
        meant_for = environ.get("WATCHDOG_PID", str(os.getpid()))
        watched = self._address and microseconds.isdecimal() and meant_for == str(os.getpid())
        self.watchdog_seconds = int(microseconds) / 1e6 if watched and int(microseconds) else None

    def ready(self) -> None:
        """Say that the server listens."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Say in one line what the server is doing."""
        self._send("STATUS=" + text.replace("\n", " "))

    def watchdog(self) -> None:
        """Say that the supervisor's loop is alive."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the server is on its way out."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            # A full or vanished socket must not take the server down; systemd acts on silence.
            with contextlib.suppress(OSError):
                sock.sendto(message.encode(), address)
