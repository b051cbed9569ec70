"""HAProxy's view of its servers. Pure; `runtime` asks for it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import (
    BACKEND,
    LoadBalancerError,
)

# The names of check states in `show stat` [HAProxy's management guide, 9.1].
_CHECKS = {
    "L4TOUT": "no answer to the connection",
    "L4CON": "the connection was refused or failed",
    "L6TOUT": "no answer in the TLS handshake",
    "L6RSP": "the TLS handshake failed",
    "L7TOUT": "no answer to /ready",
    "L7RSP": "the answer to /ready is not HTTP",
    "L7STS": "/ready reports that the server is not ready",
    "L7OK": "",
    "INI": "not checked yet",
}


@dataclass(frozen=True)
class ServerState:
    """A server in HAProxy's view.

    `status`: as in `show stat`, such as UP, DOWN or MAINT. `check`: what the last health check got. `weight`:
    0 while the server leaves.
    """

    name: str
    address: str
    status: str
    weight: int
    sessions: int
    check: str = ""

    @property
    def is_up(self) -> bool:
        """Whether the server gets requests. A server that is checked for the first time counts too."""
        return self.status.startswith("UP") and self.weight > 0

    @property
    def is_in_maintenance(self) -> bool:
        """Whether an administrator, or the configuration, has taken the server out."""
        return self.status.startswith("MAINT")

    @property
    def is_out(self) -> bool:
        """Whether the server is out of rotation, or leaves."""
        return self.is_in_maintenance or (self.status.startswith("UP") and self.weight == 0)

    @property
    def has_passed(self) -> bool:
        """Whether the server has passed its last check.

        After maintenance, HAProxy first assumes that a server is up, and shows it as UP 1/2.
        """
        return self.status == "UP"

    @property
    def is_served(self) -> bool:
        """Whether the server gets requests and has passed its last check."""
        return self.is_up and self.has_passed

    def __str__(self) -> str:
        check = f", last check: {self.check}" if self.check else ""
        return f"{self.status} (weight {self.weight}{check})"


def parsed(text: str) -> dict[str, ServerState]:
    """The servers in an answer to `show stat`, by name. Raises LoadBalancerError if it has another form."""
    rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
    try:
        servers = {
            row["svname"]: ServerState(
                name=row["svname"],
                address=row.get("addr") or "",
                status=row["status"],
                weight=int(row["weight"] or 0),
                sessions=int(row["scur"] or 0),
                check=_check(row),
            )
            for row in rows
            if row.get("pxname") == BACKEND and row.get("svname") not in ("FRONTEND", "BACKEND")
        }
    except (KeyError, ValueError, TypeError) as error:
        raise LoadBalancerError(f"HAProxy's statistics have an unknown form: {error!r}") from error
    if not servers:
        first = text.strip().partition("\n")[0]
        raise LoadBalancerError(
            f"HAProxy has no backend {BACKEND}; it answered {first[:80]!r}. It does not run with the"
            " configuration of the fleet. Set it up: ansible-playbook playbooks/load_balancer.yml"
        )
    return servers


def down_sentences(states: Iterable[ServerState]) -> list[str]:
    """One text for each server that gets no request: its name, its address and the reason."""
    texts = []
    for state in states:
        if state.is_out:
            texts.append(f"{state.name} ({state.address}) is out of rotation")
        elif not state.is_up:
            reason = f": {state.check}" if state.check else ""
            texts.append(f"{state.name} ({state.address}) is {state.status}{reason}")
    return texts


def _check(row: dict[str, str]) -> str:
    status, code, last = row.get("check_status") or "", row.get("check_code") or "", row.get("last_chk") or ""
    description = _CHECKS.get(status.removeprefix("* "), status)
    details = [f"HTTP status {code}"] if code and code != "0" else []
    if last and last not in description:
        details.append(last)
    return ", ".join([each for each in (description, *details) if each])
