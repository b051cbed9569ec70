"""What `katago-mcp validate --json` of a release says, checked before it is used."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.katago.fleet.plugins.module_utils.common.fields import Fields


@dataclass(frozen=True)
class Check:
    """One thing that the release looked at; `seconds` is what it took."""

    name: str
    ok: bool
    message: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"


@dataclass(frozen=True)
class Report:
    """The verdict of a release on itself."""

    ok: bool
    checks: tuple[Check, ...]

    @property
    def failed(self) -> list[Check]:
        """The checks that did not pass."""
        return [check for check in self.checks if not check.ok]


def parse(text: str) -> Report:
    """The report that a release printed. Raises fields.MalformedError."""
    report = Fields.parse(text, "the report of katago-mcp validate")
    checks = (
        Check(
            name=check.get("name", str),
            ok=check.get("ok", bool),
            message=check.get("message", str),
            seconds=check.get("seconds", float, 0.0),
        )
        for check in report.sections("checks")
    )
    return Report(report.get("ok", bool), tuple(checks))
