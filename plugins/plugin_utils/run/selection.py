"""Which hosts an operator named, for procedures that must not reach any other. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Selection:
    """What a run selects.

    `limit`: the value of `-l`. `fleet`: all hosts of the fleet. `confirm`: the names that the operator
    repeated; None if they are not asked for. `last_host`: whether all hosts may be
    selected. `reminder_host`: the host that sends reminders of incidents; empty for none.
    """

    procedure: str
    limit: str
    fleet: Sequence[str]
    confirm: str | None = None
    last_host: bool = True
    reminder_host: str = ""


def problems(selection: Selection) -> Iterator[str]:
    """One message for each reason to refuse the selection, with what to type instead."""
    names = sorted(_names(selection.limit))
    if not names or set(names) - set(selection.fleet):
        given = f"-l {selection.limit} is a pattern or a group" if selection.limit else "-l is missing"
        yield (
            f"{given}. {selection.procedure} works only on hosts that -l names one by one:"
            f" ansible-playbook playbooks/{selection.procedure}.yml -l HOST. Hosts of the fleet:"
            f" {', '.join(sorted(selection.fleet))}."
        )
        return
    confirmed = sorted(_names(selection.confirm or ""))
    if selection.confirm is not None and confirmed != names:
        given = f"-e confirm is {selection.confirm!r}" if selection.confirm else "-e confirm is missing"
        yield f"{given}. To confirm that {_are(names)} meant, add: -e confirm={','.join(names)}."
    if not selection.last_host and not set(selection.fleet) - set(names):
        yield (
            f"No host of the fleet would remain: the inventory has only {', '.join(names)}. To continue"
            " anyway: -e last_host=true."
        )
    if selection.reminder_host in names:
        yield (
            f"{selection.reminder_host} sends the reminders of incidents. Set incident_reminder_host to"
            " another host. If an incident is open: ansible-playbook playbooks/incident_update.yml. Then run"
            " again."
        )


def _are(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _names(text: str) -> set[str]:
    return {name for each in text.split(",") if (name := each.strip())}
