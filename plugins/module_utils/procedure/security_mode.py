"""The security mode of a host: its record, and what it refuses.

Nothing is stopped, restarted or deleted in it: processes and disks are evidence. While its record is
there, only the procedures of `ALLOWED` work on the host, and nothing is pruned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import shape

ALLOWED = ("backup", "security_on", "security_off")
"""The procedures that may work on a host in the mode; what others would change is evidence."""

_LONGEST_REASON = 1000


class RefusedError(Exception):
    """The mode cannot be changed so; the message says why and the remedy, in sentences."""


@dataclass(frozen=True)
class Mode:
    """Why a host is in the mode: `since` in UTC, by its clock.

    `isolated`: whether clients are to be cut off; `egress`: whether what the service's user sends is to
    be dropped too. `rules`: how nft lists the table that does it, empty until it was loaded.
    """

    since: str
    who: str
    why: str
    incident: str = ""
    isolated: bool = True
    egress: bool = False
    rules: str = ""

    def __str__(self) -> str:
        words = f"since {self.since}, by {self.who}: {self.why.rstrip('.')}"
        return f"{words} (incident {self.incident})" if self.incident else words


def standing(volatile: Path, lasting: Path) -> Mode | None:
    """The mode that the host is in, None when it is in none.

    A record that cannot be read is one all the same: whoever wrote it wanted the host left alone.
    """
    unreadable: Mode | None = None
    for path in (volatile, lasting):
        try:
            return shape.record(Mode, json.loads(path.read_text()))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            why = f"its record {path} cannot be read ({type(error).__name__})"
            unreadable = Mode("an unknown time", "unknown", why, isolated=False)
    return unreadable


def as_text(mode: Mode) -> str:
    """A mode as its files have it."""
    return json.dumps(asdict(mode), indent=1) + "\n"


def entered(
    before: Mode | None, *, now: str, who: str, why: str, incident: str, isolated: bool, egress: bool
) -> Mode:
    """The mode of a host that is put into it, `before` when it is in one.

    Who began it, and why, stays. It never lets through again what it cut off; ending it does.

    Raises:
        RefusedError: without a reason.
    """
    if before is not None:
        return replace(before, isolated=before.isolated or isolated, egress=before.egress or egress)
    return Mode(now, who, reason(why), incident, isolated, egress)


def reason(why: str) -> str:
    """The reason in a line.

    Raises:
        RefusedError: if it is empty or longer than a record takes.
    """
    line = " ".join(why.split())
    if not 0 < len(line) <= _LONGEST_REASON:
        raise RefusedError(f"why has {len(line)} characters; give the reason in 1 to {_LONGEST_REASON}.")
    return line


def ending(host: str) -> str:
    """The command that ends the mode."""
    return f"ansible-playbook playbooks/security.yml -l {host} -e do=off -e 'why=\"...\"'"


def refusal(mode: Mapping[str, Any], host: str, procedure: str) -> str:
    """Why a procedure does not begin on a host in the mode, and what ends that."""
    return (
        f"Refused; nothing was changed on this host. {host} is in security mode {Mode(**mode)}."
        f" {procedure} would destroy evidence. What can be run: evidence.yml, triage.yml, validate.yml,"
        f" backup.yml (which prunes nothing now). What ends the mode: {ending(host)}"
    )
