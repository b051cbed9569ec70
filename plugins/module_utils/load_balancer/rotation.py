"""Which hosts are out of rotation, by whom and why, and whether a further one may leave."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import (
    directories,
    file_lock,
    file_set,
    shape,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.server_state import ServerState
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import LoadBalancerError

VERSION = 1
PERMANENT = ("rotation_out", "security_on")
"""Procedures after which a host stays out until an operator admits it."""
ADMITS = {"rotation_in": None, "security_off": "security_on"}
"""Procedures that admit a host that somebody took out, and the procedure that did so; None for any."""
REMOVES = "remove_host"
"""The procedure after which a host does not come back."""
LOCK_SECONDS = 60
"""How long the configuration of a load balancer may take, which holds the lock too."""
_SHARE = re.compile(r"([1-9][0-9]?|100)%")
_COUNT = re.compile(r"[1-9][0-9]*")


@dataclass(frozen=True)
class Entry:
    """Why a host is out of rotation. `since`: UTC, by the load balancer's clock."""

    procedure: str
    who: str
    since: str
    why: str

    def __str__(self) -> str:
        return f"{self.who} took it out for {self.procedure} at {self.since}: {self.why.rstrip('.')}"


@dataclass(frozen=True)
class _Content:
    version: int
    out: Mapping[str, Entry]


def read(path: Path) -> dict[str, Entry]:
    """The hosts that are out, by name; none if there is no record. Raises LoadBalancerError."""
    try:
        content = shape.record(_Content, shape.parsed(path.read_bytes()))
        if content.version != VERSION:
            raise shape.ShapeError(f"version is {content.version}, not {VERSION}")
        return {name: shape.record(Entry, entry, f"out.{name}") for name, entry in content.out.items()}
    except FileNotFoundError:
        return {}
    except (OSError, shape.ShapeError) as error:
        raise LoadBalancerError(
            f"The record of hosts that are out of rotation cannot be used: {path}: {error}. Correct it, or"
            " remove it and take the hosts out again with playbooks/rotation_out.yml"
        ) from error


def record(path: Path, out: Mapping[str, Entry]) -> file_set.File:
    """The file with the record of these hosts."""
    content = {"version": VERSION, "out": {name: asdict(entry) for name, entry in sorted(out.items())}}
    return file_set.File(path, json.dumps(content, indent=1).encode() + b"\n")


def locked(path: Path) -> AbstractContextManager[None]:
    """Keep other processes from changing the record, and the configuration that agrees with it.

    Raises OSError; TimeoutError if another process keeps the lock.
    """
    directories.make(path.parent, own=path.parent)
    return file_lock.locked(path.with_name(f"{path.name}.lock"), LOCK_SECONDS)


def without_removed(out: Mapping[str, Entry], servers: Collection[str]) -> dict[str, Entry]:
    """The entries without those of hosts that were removed and that are no `servers` any more.

    Otherwise a new host with the name of a removed one would stay out. An operator's entry stays.
    """
    return {name: entry for name, entry in out.items() if name in servers or entry.procedure != REMOVES}


def taken_out(before: Entry | None, claim: Entry) -> Entry:
    """The entry of a host after a request to take it out. `before`: its entry, if it is out already.

    The lock of a host lets one procedure at a time change it. So an entry of the same person is left by a
    run that was killed, or by one that could not validate the host: its procedure continues under `claim`.
    The entry of somebody else stays. An operator's entry replaces that of a procedure.
    """
    if before is None:
        return claim
    if before.procedure in PERMANENT:
        return before
    if claim.procedure in PERMANENT:
        return claim
    if before.who == claim.who:
        return replace(before, procedure=claim.procedure, why=claim.why)
    return before


def may_admit(entry: Entry, procedure: str, who: str) -> bool:
    """Whether a procedure may admit a host with this entry: its own one, or one that it is there to end."""
    if (entry.procedure, entry.who) == (procedure, who):
        return True
    if procedure in ADMITS:
        return ADMITS[procedure] in (None, entry.procedure)
    return entry.procedure not in PERMANENT and entry.who == who


def must_stay(least: str, fleet: int) -> int:
    """How many of `fleet` hosts must stay in rotation and up. `least`: a number or a share such as 50%.

    Raises:
        LoadBalancerError: if `least` is neither.
    """
    text = least.strip()
    if _COUNT.fullmatch(text):
        return int(text)
    if share := _SHARE.fullmatch(text):
        return max(1, -(-fleet * int(share[1]) // 100))
    raise LoadBalancerError(
        f"fleet_min_available is {least!r}; give a whole number of hosts, 1 or more, or a share such as 50%"
    )


def shortage(name: str, servers: Mapping[str, ServerState], out: Mapping[str, Entry], least: str) -> str:
    """Why a host may not leave rotation, in sentences; empty if it may.

    A host that serves nobody may always leave. Raises LoadBalancerError if `least` is not valid.
    """
    required = must_stay(least, len(servers))
    serving = [each for each, server in servers.items() if server.is_up and each not in out]
    if name not in serving or len(serving) - 1 >= required:
        return ""
    absent = "; ".join(
        f"{each} is out ({out[each]})" if each in out else f"{each} is {server}"
        for each, server in sorted(servers.items())
        if each not in serving
    )
    return (
        f"{len(serving)} of {len(servers)} hosts serve requests, and {required} must stay in rotation"
        f" (fleet_min_available is {least}), so {name} may not leave."
        f" {absent or 'No other host is out or down'}."
    )


def remedy(least: str, fleet: int) -> str:
    """What to do about a shortage in a fleet of so many hosts, as a sentence without its full stop.

    Raises LoadBalancerError if `least` is not valid.
    """
    anyway = "continue anyway: -e without_drain=true"
    if must_stay(least, fleet) < fleet:
        return f"Wait until another host serves again, admit one, or {anyway}"
    if fleet < 2:
        return f"The only host of a fleet may never leave. Add a host, or {anyway}"
    return (
        f"With this value, none of {fleet} hosts may ever leave. Lower fleet_min_available to {fleet - 1},"
        f" add a host, or {anyway}"
    )
