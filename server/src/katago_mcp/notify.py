"""Messages to systemd: readiness, status and the watchdog [sd_notify(3)]."""

import contextlib
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends messages to the socket in `NOTIFY_SOCKET`. Does nothing without this variable.

    `watchdog_seconds` is the interval within which systemd expects WATCHDOG=1, or None.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        microseconds = environ.get("WATCHDOG_USEC", "")
        watchdog_pid = environ.get("WATCHDOG_PID", str(os.getpid()))
        watched = self._address and microseconds.isdecimal() and watchdog_pid == str(os.getpid())
        self.watchdog_seconds = int(microseconds) / 1e6 if watched and int(microseconds) else None

    def ready(self) -> None:
        """Report that the server listens."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Report the server's status in one line."""
        self._send("STATUS=" + text.replace("\n", " "))

    def watchdog(self) -> None:
        """Report that the supervisor's loop is alive."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Report that the server is stopping."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            # A full or missing socket must not stop the server. systemd acts if messages stop.
            with contextlib.suppress(OSError):
                sock.sendto(message.encode(), address)
