"""What a host remembers of its drill: the fault, its time to live, and everything that undoes it.

There are two copies, so that a damaged one does not lose the undo.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ansible_collections.katago.fleet.plugins.module_utils.common import digest, directories, files, shape

FORMAT = 1
FILES = ("drill.json", "drill.copy.json")
SLACK_SECONDS = 2.0
"""The timer's time of day has whole seconds, and the drill may have been armed at the end of one."""
KEPT = "kept"
"""The directory of files that the fault replaces, and of those that it puts in their place."""

Phase = Literal["armed", "injecting", "injected", "undoing", "undone"]
By = Literal["", "request", "expiry"]


class StateError(Exception):
    """The record of the drill cannot be used; the message says why, as part of a sentence."""


@dataclass(frozen=True)
class Drill:
    """The host's last drill.

    `armed`, `injected`, `expires`, `undone`: UTC, by the host's clock; empty if it did not happen. `ttl`:
    seconds from `armed`. `boot`, `uptime`: when it was armed, by a clock that nobody can set. `steps`: the
    changes of the fault with what undoes them, in the order of the injection. `problem`: why the last undo
    failed; empty if it did not.
    """

    drill: str
    fault: str
    parameters: Mapping[str, Any]
    armed: str
    expires: str
    ttl: int
    boot: str
    uptime: float
    phase: Phase = "armed"
    injected: str = ""
    undone: str = ""
    undone_by: By = ""
    problem: str = ""
    steps: tuple[Mapping[str, Any], ...] = field(default=())
    format: int = FORMAT

    @property
    def is_undone(self) -> bool:
        """Whether nothing of the fault is left on the host."""
        return self.phase == "undone"

    def is_due(self, boot: str, uptime: float, now: float, expires: float) -> bool:
        """Whether the time to live is over.

        Within the boot, the clock does not count: the fault may have moved it. `expires`, `now`: seconds
        since the epoch.
        """
        passed = uptime - self.uptime >= self.ttl - SLACK_SECONDS
        return passed if boot == self.boot else now >= expires


def load(directory: Path) -> Drill | None:
    """The host's drill; None if it never had one. Raises StateError if no copy can be used."""
    problems = []
    for name in FILES:
        path = directory / name
        try:
            return _parsed(path.read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            problems.append(f"{path}: {error}")
    if problems:
        raise StateError(f"the record of the drill cannot be used ({'; '.join(problems)})")
    return None


def current(directory: Path) -> str:
    """The ID of the drill whose fault is not undone; empty if there is none that can be read."""
    try:
        drill = load(directory)
    except StateError:
        return ""
    return "" if drill is None or drill.is_undone else drill.drill


def save(drill: Drill, directory: Path) -> None:
    """Replace both copies. Raises OSError; then at least one of them is whole."""
    directories.make(directory, own=directory, mode=directories.PRIVATE)
    content = asdict(drill)
    text = json.dumps({"sha256": digest.of_json(content), "drill": content}, indent=1) + "\n"
    for name in FILES:
        files.write(directory / name, text.encode(), mode=0o600)


def forget_kept(directory: Path) -> None:
    """Remove the files that the undo no longer needs."""
    kept = directory / KEPT
    if kept.is_dir():
        for path in kept.iterdir():
            path.unlink()
        with contextlib.suppress(OSError):
            kept.rmdir()


def _parsed(content: bytes) -> Drill:
    """Raises ValueError."""
    document = shape.mapping(shape.parsed(content))
    if digest.of_json(document.get("drill")) != document.get("sha256"):
        raise ValueError("it was changed or is incomplete")
    drill = shape.record(Drill, document["drill"])
    if drill.format != FORMAT:
        raise ValueError(f"its format is {drill.format}, not {FORMAT}")
    return drill
