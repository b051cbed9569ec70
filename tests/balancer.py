"""HAProxy on this machine with the product's own configuration, in front of servers on loopback."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import config
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.runtime import (
    NotRunningError,
    Runtime,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import Server, Settings

_START_SECONDS = 30


def program() -> str:
    """HAProxy on this machine. Raises LookupError if it is not installed."""
    found = shutil.which("haproxy", path="/usr/sbin:/usr/bin")
    if found is None:
        raise LookupError("haproxy is not installed. Install it: apt-get install haproxy")
    return found


def unprivileged(text: str, socket: Path) -> str:
    """A configuration that runs without root's privileges, and with a runtime socket of its own."""
    text = re.sub(r"^  (user|group|chroot) .*\n", "", text, flags=re.M)
    return text.replace("/run/haproxy/admin.sock mode 660 user root group root", f"{socket} mode 600")


class Balancer:
    """A load balancer of servers on loopback, by name and port.

    `ports`: for clients, for metrics, for its own peer, and for late requests after a reload.
    """

    def __init__(self, directory: Path, servers: Mapping[str, int], ports: tuple[int, int, int, int]) -> None:
        self._directory = directory
        self._socket = directory / "admin.sock"
        self.url = f"http://127.0.0.1:{ports[0]}/mcp"
        self.runtime = Runtime(self._socket)
        self._settings = Settings(
            version=1,
            local_name="here",
            servers=tuple(
                Server(name, number, "127.0.0.1", port)
                for number, (name, port) in enumerate(servers.items(), 1)
            ),
            listen_addresses=("127.0.0.1",),
            http_port=ports[0],
            metrics_port=ports[1],
            peers_port=ports[2],
            relay_port=ports[3],
            # All clients have the same address.
            rate_limit=0,
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run HAProxy while the context lasts; it has checked every server when it begins."""
        file = self._directory / "haproxy.cfg"
        file.write_text(unprivileged(config.render(self._settings, ()), self._socket))
        process = subprocess.Popen(
            [program(), "-db", "-f", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            self._wait_until_it_serves()
            yield
        finally:
            process.terminate()
            process.wait()

    def _wait_until_it_serves(self) -> None:
        end = time.monotonic() + _START_SECONDS
        while not self._serves():
            if time.monotonic() > end:
                raise LookupError(f"HAProxy did not find all servers ready within {_START_SECONDS} s")
            time.sleep(0.1)

    def _serves(self) -> bool:
        # The socket exists before HAProxy listens on it.
        try:
            return all(each.is_served for each in self.runtime.servers().values())
        except NotRunningError:
            return False
