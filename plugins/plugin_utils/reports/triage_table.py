"""The verdicts on a fleet as a table for an operator: the worst host first."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from ansible_collections.katago.fleet.plugins.module_utils.severity import rank
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import Facts
from ansible_collections.katago.fleet.plugins.module_utils.triage.verdict import Fleet, Verdict
from ansible_collections.katago.fleet.plugins.plugin_utils.run import commands as run_commands

_WIDTH = 118
_LAST_LINES = 5


def command(step: str, host: str, inventory: Sequence[str] = ()) -> str:
    """The complete command line for a step such as `restart.yml -e force=true`, limited to one host.

    That is `host`, unless the step names another one.
    """
    playbook, _, arguments = step.partition(" ")
    limited = arguments if arguments.startswith("-l ") else f"-l {host} {arguments}".rstrip()
    return run_commands.proposed(playbook.removesuffix(".yml"), limited, inventory)


def render(
    verdicts: Mapping[str, Verdict],
    fleet: Fleet,
    commands: Mapping[str, str],
    facts: Mapping[str, Facts],
) -> str:
    """One line for each host and one for the fleet, then the details of each host."""
    ordered = sorted(verdicts, key=lambda host: (-rank(verdicts[host].verdict), host))
    rows = [("HOST", "VERDICT", "RESPOND BY", "WHY")]
    rows += [(host, *_row(verdicts[host])) for host in ordered]
    counts = ", ".join(f"{count} {level}" for level, count in fleet.hosts.items())
    rows.append(("FLEET", fleet.verdict, fleet.respond_by or "-", counts or "no hosts"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in rows
    ]
    for host in ordered:
        lines += ["", *_details(host, verdicts[host], commands.get(host), facts.get(host))]
    return "\n".join(["", *lines, ""])


def _row(verdict: Verdict) -> tuple[str, str, str]:
    more = f" (and {len(verdict.reasons) - 1} more)" if len(verdict.reasons) > 1 else ""
    why = (
        f"{verdict.reasons[0].measured.splitlines()[0][:90]}{more}"
        if verdict.reasons
        else "all checks passed"
    )
    return verdict.verdict, verdict.respond_by or "-", why


def _details(host: str, verdict: Verdict, next_command: str | None, facts: Facts | None) -> Iterator[str]:
    yield f"{host}: {verdict.verdict}"
    for reason in verdict.reasons:
        label = reason.level if reason.level != "unknown" else "??"
        yield from _wrapped(f"{label:3} {reason.rule}: ", f"{reason.measured} [expected: {reason.threshold}]")
    for trigger in verdict.escalate:
        yield from _wrapped("ESCALATE: ", trigger)
    for note in verdict.notes:
        yield from _wrapped("note: ", note)
    if verdict.verdict != "healthy":
        for change in verdict.changes:
            yield from _wrapped("changed: ", change)
    for proposal in verdict.proposals:
        for line in proposal.splitlines():
            yield f"  propose: {line}"
    if facts is not None and verdict.verdict in ("P0", "P1"):
        for line in facts.values.get("last_lines", [])[-_LAST_LINES:]:
            yield f"  log: {line[:_WIDTH]}"
    if next_command:
        yield f"  NEXT: {next_command}"


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=f"  {label}", subsequent_indent=" " * 6, break_on_hyphens=False
    )
