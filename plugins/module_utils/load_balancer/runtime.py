"""The running HAProxy: the only place that asks it, and that changes which servers it sends requests to."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import server_state
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.server_state import ServerState
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import (
    BACKEND,
    LoadBalancerError,
)

POLL_SECONDS = 0.25
_ANSWER_SECONDS = 5
_NO_SERVER = "No such server"


class NotRunningError(LoadBalancerError):
    """HAProxy does not run on this load balancer, so it sends no requests to anybody."""


class Runtime:
    """The runtime API of HAProxy on a Unix socket. Every method raises LoadBalancerError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def servers(self) -> dict[str, ServerState]:
        """Every server of the fleet's backend by name."""
        return server_state.parsed(self._ask(f"show stat {BACKEND} 4 -1"))

    def digest(self) -> str:
        """The digest of the settings that HAProxy uses; empty if they are not those of the fleet."""
        lines = self._ask("show info").splitlines()
        return dict(line.split(": ", 1) for line in lines if ": " in line).get("description", "")

    def shown(self, command: str) -> str:
        """The answer to a command that shows something."""
        return self._ask(command)

    def silence(self) -> str:
        """Why HAProxy does not answer; empty if it does."""
        try:
            self._answer("show info")
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def leave(self, name: str) -> None:
        """Send no new requests to a server, sessions included. What it has in progress ends normally."""
        self._act(name, f"set weight {BACKEND}/{name} 0")

    def out(self, name: str) -> None:
        """End the checks of a server, and whatever it still has in progress."""
        self._act(name, f"set server {BACKEND}/{name} state maint")

    def check(self, name: str) -> None:
        """Start the checks of a server, without sending requests to it."""
        self.leave(name)
        self._act(name, f"set server {BACKEND}/{name} state ready")

    def join(self, name: str) -> None:
        """Send requests to a server while its checks pass."""
        self._act(name, f"set weight {BACKEND}/{name} 100%")

    def await_checked(
        self, name: str, seconds: float, sleep: Callable[[float], object] = time.sleep
    ) -> ServerState | None:
        """Wait until a server has passed a check; return it as last seen.

        Returns earlier if the server is in maintenance, because then it is not checked. None if HAProxy does
        not have the server.
        """
        end = time.monotonic() + seconds
        while True:
            server = self.servers().get(name)
            if server is None or server.has_passed or server.is_in_maintenance or time.monotonic() >= end:
                return server
            sleep(POLL_SECONDS)

    def _act(self, name: str, command: str) -> None:
        """Run a command that answers nothing if it succeeds."""
        answer = self._ask(command).strip()
        if answer.startswith(_NO_SERVER):
            raise LoadBalancerError(
                f"HAProxy has no server {name} in its backend {BACKEND}. Add it:"
                " ansible-playbook playbooks/load_balancer.yml"
            )
        if answer:
            raise LoadBalancerError(f"HAProxy refused `{command}`: {answer}")

    def _ask(self, command: str) -> str:
        try:
            return self._answer(command)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotRunningError(
                f"HAProxy does not run: nothing answers at {self._path} ({error.strerror})."
                " Start it: `systemctl start haproxy`. If it does not start: `journalctl -u haproxy`"
            ) from error
        except TimeoutError as error:
            raise LoadBalancerError(
                f"HAProxy did not answer `{command}` in time at {self._path}."
                " Check its load, or restart it: `systemctl restart haproxy`"
            ) from error
        except OSError as error:
            raise LoadBalancerError(f"{self._path} cannot be used: {error.strerror or error}") from error

    def _answer(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            connection.connect(str(self._path))
            connection.sendall(f"{command}\n".encode())
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts).decode(errors="replace")
