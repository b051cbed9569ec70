"""The overview of a fleet as one value: rows, findings, and its rendering as JSON. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.triage import entries
from ansible_collections.katago.fleet.plugins.plugin_utils.fleet import findings as judgements
from ansible_collections.katago.fleet.plugins.plugin_utils.fleet.findings import Finding, Host

SCHEMA = 1
NOTHING = "-"


@dataclass(frozen=True)
class Row:
    """A host in a table. Each field is short text; `-` is nothing, `?` is unknown."""

    host: str
    release: str
    since: str
    state: str
    rotation: str
    backup: str
    certificate: str
    driver: str


@dataclass(frozen=True)
class Overview:
    """All hosts with what is known and what is worth saying about them."""

    now: datetime
    hosts: Mapping[str, Host]
    findings: Mapping[str, Sequence[Finding]]

    @classmethod
    def of(cls, hosts: Mapping[str, Host], thresholds: judgements.Thresholds, now: datetime) -> Overview:
        """Compare the hosts, and judge them."""
        return cls(now, hosts, judgements.of_fleet(hosts, thresholds, now))

    @property
    def ordered(self) -> list[str]:
        """The hosts with something urgent first, then those with something to say, then the others."""

        def rank(host: str) -> tuple[bool, bool, str]:
            found = self.findings[host]
            return not any(each.urgent for each in found), not found, host

        return sorted(self.hosts, key=rank)

    @property
    def headline(self) -> str:
        """How many hosts there are, and how many have findings, in a sentence."""
        urgent = sum(any(each.urgent for each in found) for found in self.findings.values())
        others = sum(bool(found) for found in self.findings.values()) - urgent
        count = len(self.hosts)
        parts = [f"{urgent} with urgent findings"] if urgent else []
        parts += [f"{others} with findings"] if others else []
        return f"{count} {'host' if count == 1 else 'hosts'}: {', '.join(parts) or 'nothing to report'}."

    @property
    def versions(self) -> list[str]:
        """What hosts have in common, the most frequent first: `2 hosts: server ...`."""
        counts = Counter(str(each) for host in self.hosts.values() if (each := judgements.version(host)))
        ordered = sorted(counts, key=lambda each: (-counts[each], each))
        return [f"{counts[each]} {'host' if counts[each] == 1 else 'hosts'}: {each}" for each in ordered]

    def row(self, name: str) -> Row:
        """A host as short texts."""
        host = self.hosts[name]
        if host.unreachable:
            return Row(name, "?", "?", "unreachable", _rotation(host), "?", "?", "?")
        values = host.facts.values
        release = values.get("release")
        end = judgements.certificate_end(values)
        return Row(
            name,
            (release["running"] or release["current"] or NOTHING) if release else "?",
            self._age(release["since"]) if release else "?",
            _state(host),
            _rotation(host),
            self._backup(host),
            f"{(end - self.now).days} d" if end else NOTHING,
            ((values["driver"] or NOTHING) if "driver" in values else "?"),
        )

    def as_dict(self) -> dict[str, Any]:
        """The overview as a JSON object for programs."""
        return {
            "schema": SCHEMA,
            "at": timestamps.stamp(self.now),
            "versions": self.versions,
            "hosts": {
                name: {
                    "row": {key: value for key, value in asdict(self.row(name)).items() if key != "host"},
                    "findings": [asdict(each) for each in self.findings[name]],
                    "unreachable": host.unreachable,
                    "rotation": asdict(host.rotation) if host.rotation else None,
                    "skew": host.skew,
                    "expected": host.expected,
                    "built": host.built,
                    "facts": entries.as_entries(host.facts),
                }
                for name, host in ((each, self.hosts[each]) for each in self.ordered)
            },
        }

    def _age(self, moment: str) -> str:
        if not moment:
            return NOTHING
        seconds = judgements.age(moment, self.now)
        return "?" if seconds is None else duration(seconds)

    def _backup(self, host: Host) -> str:
        backup = host.facts.values.get("backup")
        if backup is None:
            return "?"
        if not backup["set_up"]:
            return NOTHING
        return self._age(backup["verified_at"]) if backup["verified_at"] else "none"


def duration(seconds: float) -> str:
    """A short duration: `5 min`, `3 h`, `12 d`."""
    minutes = max(0, int(seconds // 60))
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < 48 else f"{hours // 24} d"


def _state(host: Host) -> str:
    values = host.facts.values
    security = values.get("security")
    if security and security["mode"]:
        return "security"
    if values.get("undeployed"):
        return "undeployed"
    service = values.get("service")
    if service is None:
        return "?"
    if service["active"] != "active":
        return service["active"]
    return ("lowered" if service["override"] else "ready") if service["ready"] else "not ready"


def _rotation(host: Host) -> str:
    return {"unknown": "?"}.get(host.rotation.state, host.rotation.state) if host.rotation else NOTHING
