"""The security mode of a host: its record, and which procedures it blocks.

In this mode nothing is stopped, restarted or deleted, because processes and disks are evidence. While the
record exists, only the procedures in `ALLOWED` may change the host, and nothing is pruned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import shape

ALLOWED = ("backup", "security_on", "security_off")
"""The procedures that may change a host in the mode. All others would destroy evidence."""

_LONGEST_REASON = 1000


class RefusedError(Exception):
    """The mode cannot be changed; the message has the reason and the remedy, in sentences."""


@dataclass(frozen=True)
class Mode:
    """The record of the mode.

    `since`: UTC, by the host's clock. `isolated`: whether clients must be cut off. `egress`: whether
    outgoing traffic of the service's user must be dropped too. `rules`: the table as nft lists it, empty
    until it is loaded.
    """

    since: str
    who: str
    why: str
    incident: str = ""
    isolated: bool = True
    egress: bool = False
    rules: str = ""

    def __str__(self) -> str:
        text = f"since {self.since}, by {self.who}: {self.why.rstrip('.')}"
        return f"{text} (incident {self.incident})" if self.incident else text


def standing(volatile: Path, lasting: Path) -> Mode | None:
    """The mode of the host; None if the host is not in security mode.

    An unreadable record counts too, because somebody put the host into the mode.
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
    """The content of a record."""
    return json.dumps(asdict(mode), indent=1) + "\n"


def entered(
    before: Mode | None, *, now: str, who: str, why: str, incident: str, isolated: bool, egress: bool
) -> Mode:
    """The mode after a request to enter it. `before`: the current mode, if any.

    If the host is in the mode already, who started it and why stays, and isolation is only extended. Only
    ending the mode removes isolation.

    Raises:
        RefusedError: if the reason is missing or too long.
    """
    if before is not None:
        return replace(before, isolated=before.isolated or isolated, egress=before.egress or egress)
    return Mode(now, who, reason(why), incident, isolated, egress)


def reason(why: str) -> str:
    """The reason on one line.

    Raises:
        RefusedError: if it is empty or too long.
    """
    line = " ".join(why.split())
    if not 0 < len(line) <= _LONGEST_REASON:
        raise RefusedError(
            f"why has {len(line)} characters; give the reason in 1 to {_LONGEST_REASON} characters."
        )
    return line


def ending(host: str) -> str:
    """The command that ends the mode."""
    return f"ansible-playbook playbooks/security_off.yml -l {host} -e 'why=\"the reason\"'"


def refusal(mode: Mapping[str, Any], host: str, procedure: str) -> str:
    """The error for a procedure that is blocked by the mode, with the command that ends the mode."""
    return (
        f"Refused; nothing was changed on this host. {host} is in security mode {Mode(**mode)}."
        f" {procedure} would destroy evidence. These playbooks still work: evidence.yml, triage.yml,"
        f" validate.yml, and backup.yml, which prunes nothing meanwhile. To end the mode: {ending(host)}"
    )
