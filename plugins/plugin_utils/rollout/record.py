"""The record of an unfinished rollout, on the control node: with it, a run that was killed is continued."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import directories, files, shape
from ansible_collections.katago.fleet.plugins.plugin_utils.rollout.plan import Host, PlanError

FILE = "rollout.json"
SUMMARY = "rollout_result.json"
"""What a rollout has done, which the callback `results` writes at the end of the run."""


@dataclass(frozen=True)
class Record:
    """A rollout: its procedure, the requested release (empty if none was), and the target of each host.

    `targets`: of the hosts that it switches. `run`, `who`: the run that works on it, and its operator.
    """

    procedure: str
    release: str
    targets: dict[str, str]
    run: str = ""
    who: str = ""


@dataclass(frozen=True)
class Resumed:
    """The hosts of a run as they are to be planned. `done`: those that an unfinished run has switched.

    `targets`: of the recorded rollout, if this run continues it.
    """

    hosts: list[Host]
    done: frozenset[str] = frozenset()
    targets: Mapping[str, str] = field(default_factory=dict)


def read(path: Path) -> Record | None:
    """The record; None if there is none or it cannot be used. Then a rollout starts from the beginning."""
    try:
        content = shape.mapping(json.loads(path.read_text()))
        names = ("procedure", "release", "targets", "run", "who")
        return shape.record(Record, {name: content[name] for name in names if name in content})
    except (OSError, ValueError):
        return None


def write(record: Record, path: Path) -> None:
    """Replace the record. Raises OSError."""
    directories.make(path.parent, mode=directories.PRIVATE)
    files.write(path, (json.dumps(asdict(record), indent=1) + "\n").encode(), mode=0o600)


def resume(record: Record | None, procedure: str, release: str, hosts: Sequence[Host]) -> Resumed:
    """Continue the recorded rollout if it is the same one and is not finished.

    A rollback moves a host further back each time. So a host that an unfinished rollback has switched is
    marked as needing no change.
    """
    if record is None or (record.procedure, record.release) != (procedure, release):
        return Resumed(list(hosts))
    targets = record.targets
    if procedure == "deploy":
        if any(host.reasons and host.target != targets.get(host.name, host.target) for host in hosts):
            return Resumed(list(hosts))
        resumed = list(hosts)
    else:
        # A run that was killed on a host has left its lock, so the host finishes that rollback first.
        switched = {
            host.name
            for host in hosts
            if host.current == targets.get(host.name) and host.current != host.target
        }
        if len(switched) == len(hosts):
            return Resumed(list(hosts))
        resumed = [
            replace(host, target=host.current or "", reasons=(), problem="")
            if host.name in switched
            else host
            for host in hosts
        ]
    done = (host.name for host in resumed if not host.reasons and host.target == targets.get(host.name))
    return Resumed(resumed, frozenset(done), targets)


def check_apart(record: Record, names: Sequence[str]) -> None:
    """Raise PlanError if a rollout that another run works on has one of these hosts."""
    if shared := [name for name in names if name in record.targets]:
        raise PlanError(
            f"{record.who} is rolling out {record.procedure} on {', '.join(shared)}. Wait until that run"
            " finishes, or leave these hosts out with -l"
        )


def is_covered(targets: Iterable[str], names: Collection[str], fleet: Collection[str]) -> bool:
    """Whether a run over `names` finishes a rollout with these targets, as far as they are in the fleet."""
    return all(host in names for host in targets if host in fleet)
