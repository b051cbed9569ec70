"""A Valkey or Redis server of the tests on a socket or a loopback port, with the faults of a real one."""

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import redis

from support import PATIENCE, eventually, free_ports

PROGRAM = shutil.which("valkey-server") or shutil.which("redis-server")
PASSWORD = "password-of-the-shared-cache"


class CacheServer:
    """A server in a directory of its own. It can be stopped and started again, and frozen."""

    def __init__(self, directory: Path, *options: str, socket: bool = False, tls: bool = False) -> None:
        directory.mkdir()
        (self.port,) = free_ports(1)
        self.socket = directory / "cache.sock"
        self._process: subprocess.Popen[bytes] | None = None
        listening: tuple[str, ...] = ("--port", str(self.port))
        if tls:
            listening = ("--tls-port", str(self.port), "--port", "0")
        if socket:
            listening = ("--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700")
        self._options = (*listening, "--bind", "127.0.0.1", "--save", "", "--dir", str(directory), *options)
        self.url = f"unix://{self.socket}" if socket else f"redis{'s' * tls}://127.0.0.1:{self.port}/0"
        self._tls = tls

    def start(self) -> None:
        """Start it, and wait until it listens."""
        assert PROGRAM is not None
        self._process = subprocess.Popen([PROGRAM, *self._options], stdout=subprocess.DEVNULL)
        eventually(self._listens, "the shared cache listens")

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It accepts connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def client(self) -> "redis.Redis":
        """A client for the tests' own look at what is in it."""
        if self.url.startswith("unix"):
            return redis.Redis(unix_socket_path=str(self.socket), password=self.password)
        return redis.Redis(
            port=self.port,
            password=self.password,
            ssl=self._tls,
            ssl_cert_reqs="none",
            socket_timeout=PATIENCE,
        )

    @property
    def password(self) -> str | None:
        """The password that clients need."""
        return PASSWORD if "--requirepass" in self._options else None

    def entries(self) -> list[bytes]:
        """The names of the answers."""
        return sorted(self.client().scan_iter("katago-mcp:answer:*"))

    def _listens(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.ConnectionError:
            return False


@contextlib.contextmanager
def running(directory: Path, *options: str, socket: bool = False, tls: bool = False) -> Iterator[CacheServer]:
    """A server that runs while the context lasts."""
    server = CacheServer(directory, *options, socket=socket, tls=tls)
    server.start()
    try:
        yield server
    finally:
        server.stop()
