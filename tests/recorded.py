"""A recorded incident: clocks 120 s apart, a killed engine, a restart, a rollback, incomplete evidence.

`PYTHONPATH=collections:. python -m tests.recorded` regenerates the golden files of tests/unit/review.
Check the changes before you commit them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import files
from ansible_collections.katago.fleet.plugins.module_utils.incident import state as incident_state
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import archive
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import report as drill_report
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import SCENARIOS
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import records, signing
from ansible_collections.katago.fleet.plugins.plugin_utils.review import quarterly
from ansible_collections.katago.fleet.plugins.plugin_utils.review import records as review_records

GOLDEN = Path(__file__).resolve().parent / "unit" / "review" / "golden"
INCIDENT = "2026-11-03-1"
FLEET = ("katago-1", "katago-2", "katago-3")
AHEAD = {"katago-1": 0.0, "katago-2": 120.0, "katago-3": -0.4}
"""Seconds by which the clock of each host is ahead."""
DELAY = 3.0
"""Seconds from the creation of an evidence directory until its host starts to collect."""
OLD, NEW = "0.1.0-1f0368f2a11c", "0.2.0-9c01aa7be310"
HOSTILE = "<script>alert(1)</script> | **bold** | [a](https://evil.example)"
ROSTER = {"verify_by": "2026-10-31", "contacts": {"senior": {"name": "Bo", "email": "bo@go.net"}}}
ANSWERS = f"""\
lead: Anna
concluded: 2026-11-04
answers:
  trigger: |
    The deployment of {NEW}.
    It doubled the engine's threads.
  customer_impact: Some analyses failed for a quarter of an hour.
  cause: The engine ran out of memory, {HOSTILE}
  not_caught: The pre-flight validation ran one query at a time.
  allowed: Nothing compares memory during validation with memory in service.
action_items:
  - what: Limit threads by the host's memory
    owner: Anna
    due: 2026-11-20
    priority: High
  - what: Alert when MemAvailable is below 5 %
    owner: Bo
    due: 2027-01-15
    priority: Medium
  - what: Read the documentation of the pre-flight validation
    owner: Cy
    due: 2026-11-10
    priority: Low
    status: done
    done_on: 2026-11-09
"""


def at(clock: str, day: str = "2026-11-03") -> float:
    """The time `HH:MM` or `HH:MM:SS` in UTC as seconds since the epoch."""
    return datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=UTC).timestamp()


def stamp(seconds: float) -> str:
    """A time in the format of records."""
    return timestamps.stamp(seconds)


@dataclass
class Host:
    """A host during the incident. Journal lines, calls and starts of the service have the true time."""

    name: str
    started: list[float]
    lines: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    calls: list[tuple[float, str]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    def log(self, when: float, event: str, level: str = "info", **fields: object) -> None:
        """Add a log line of the server."""
        message = json.dumps({"level": level, "event": event, **fields})
        self.lines.append((when, {"MESSAGE": message, "_PID": "812", "SYSLOG_IDENTIFIER": "katago-mcp"}))

    def systemd(self, when: float, text: str, message_id: str = "") -> None:
        """Add a log line of systemd."""
        entry = {"MESSAGE": text, "_PID": "1", "SYSLOG_IDENTIFIER": "systemd", "UNIT": "katago-mcp.service"}
        self.lines.append((when, {**entry, **({"MESSAGE_ID": message_id} if message_id else {})}))

    def call(self, when: float, status: str, seconds: float, code: str = "") -> None:
        """Add a tool call to the journal and to the counters."""
        level = "info" if status == "ok" else "warning"
        fields = {"tool": "analyzePosition", "caller": "assistant", "status": status, "seconds": seconds}
        self.log(when, "call", level, **fields, **({"code": code} if code else {}))
        self.calls.append((when, status))

    def switch(self, when: float, release: str, previous: str, how: str) -> None:
        """Add a line to the history of releases, with the host's time."""
        record = {"at": stamp(when + AHEAD[self.name]), "who": "anna@control", "release": release}
        self.history.append({**record, "previous": previous, "why": how, "verdict": None, "how": how})

    def journal(self, until: float, *, kernel: bool = False) -> bytes:
        """The journal of the service or of the kernel, as journalctl prints it, with the host's time."""
        entries = []
        for number, (when, entry) in enumerate(sorted(self.lines, key=lambda line: line[0])):
            if when <= until and (entry["_PID"] == "0") is kernel:
                own = str(int((when + AHEAD[self.name]) * 1e6))
                entries.append({"__CURSOR": f"{self.name};{number}", "__REALTIME_TIMESTAMP": own, **entry})
        return "".join(json.dumps(entry) + "\n" for entry in entries).encode()

    def metrics(self, until: float) -> bytes:
        """A scrape: counters since the last start of the service."""
        started = max((each for each in self.started if each <= until), default=self.started[0])
        counts = dict.fromkeys(("ok", "invalid", "unavailable"), 0)
        for when, status in self.calls:
            if started <= when <= until:
                counts[status] += 1
        lines = [f"process_start_time_seconds {started + AHEAD[self.name]}"]
        lines += [
            f'katago_requests_total{{tool="analyzePosition",status="{status}"}} {count}'
            for status, count in counts.items()
        ]
        return ("\n".join(lines) + "\n").encode()


def hosts() -> dict[str, Host]:
    """The hosts during the incident."""
    one = Host("katago-1", [at("00:00", "2026-11-01")])
    for number in range(540):
        one.call(at("01:30") + 10 * number, "ok", 0.4)
    two = Host("katago-2", [at("01:40:05"), at("02:08:10"), at("02:15:20")])
    two.switch(at("01:40"), NEW, OLD, "deployment")
    two.switch(at("02:15:15"), OLD, NEW, "rollback")
    two.log(at("01:40:06"), "listening", release=NEW)
    two.log(at("01:40:08"), "engine_state", state="ready", reason=None)
    for number in range(1, 960):
        when = at("01:40:05") + 5 * number
        if any(start - 6 < when < start + 3 for start in two.started):
            continue
        dead = at("02:02") <= when < at("02:08:10") or at("02:11") <= when < at("02:15:20")
        slow = 0.5 if when < at("01:58") else 2.5 if when < at("02:15:20") else 0.5
        two.call(when, "unavailable" if dead else "ok", 0.01 if dead else slow, "engine_gone" if dead else "")
    for clock in ("02:01:59", "02:11"):
        two.lines.append((at(clock), {"MESSAGE": "Out of memory: Killed process 1313 (katago)", "_PID": "0"}))
        two.log(
            at(clock) + 1, "engine_state", "warning", state="backoff", reason=f"ended by signal 9 {HOSTILE}"
        )
    two.systemd(at("02:08:05"), "Stopping katago-mcp.service - KataGo MCP server...")
    two.systemd(
        at("02:08:10"), "Started katago-mcp.service - KataGo MCP server.", "39f53479d3a045ac8e11786248231fbf"
    )
    two.log(at("02:08:11"), "listening", release=NEW)
    two.log(at("02:15:21"), "listening", release=OLD)
    two.log(at("02:15:23"), "engine_state", state="ready", reason=None)
    return {"katago-1": one, "katago-2": two, "katago-3": Host("katago-3", [at("00:00")])}


def signer() -> signing.Signer:
    """A constant key, so that equal evidence has equal bytes."""
    return signing.Signer(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


def keep(root: Path, host: Host, when: float, incident: str = INCIDENT, *, cut: bool = False) -> Path:
    """Keep evidence of a host, started at a time. `cut`: the run was killed after the metrics."""
    taken = when + DELAY
    memory = 100 if host.name == "katago-2" and when < at("02:15") else 6000
    disk = "Filesystem Type 1024-blocks Used Available Capacity Mounted on\n/dev/vda1 ext4 100 40 60 40% /\n"
    by_then = [line for line in host.history if line["at"] <= stamp(taken + AHEAD[host.name])]
    items = {
        "metrics.txt": host.metrics(taken),
        "memory.txt": f"MemTotal: 8000 kB\nMemAvailable: {memory} kB\n".encode(),
        "disk.txt": disk.encode(),
        "history.jsonl": "".join(json.dumps(line) + "\n" for line in by_then).encode(),
        "journal.jsonl": host.journal(taken),
        "journal-host.jsonl": host.journal(taken, kernel=True),
    }
    kept = records.Records(root, incident).begin_evidence(
        host.name, stamp(when), [*items, "gpu.txt"], signer()
    )
    clocks = {
        **{"clock_offset_seconds": AHEAD[host.name], "clock_uncertainty_seconds": 0.12},
        **{"began": taken + AHEAD[host.name], "seconds": 0.05},
    }
    for name, content in items.items():
        problem = "it ended with status 1" if name == "disk.txt" and host.name == "katago-1" else None
        kept.keep({"name": name, "tier": "hot", "problem": problem, "withheld": None, **clocks}, content)
        if cut:
            return kept.directory
    kept.keep({"name": "gpu.txt", "tier": "hot", "withheld": "it is no text", **clocks}, None)
    kept.close(complete=True)
    return kept.directory


def state() -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of the incident's record with their times."""
    finding = {
        "host": "katago-2",
        "level": "P1",
        "rule": "error_rate",
        "measured": "61 % of 83 requests failed",
    }
    opened = {
        **{"event": "opened", "id": INCIDENT, "started": stamp(at("02:02")), "severity": "P1"},
        **{
            "severity_by": "triage",
            "worst": "P1",
            "respond_by": stamp(at("02:35")),
            "alert": "KatagoErrorRate",
        },
        **{"fleet_size": 3, "findings": [finding], "errors": [], "unfamiliar": [], "lead": "Anna"},
        **{"impact": f"Analyses fail on katago-2, {HOSTILE} password=hunter2hunter2"},
        "summary": "katago-2: P1 error_rate: 61 % of 83 requests failed",
    }
    yield "02:05", opened
    for clock in ("02:05:30", "02:06", "02:06:30"):
        yield clock, {"event": "joined", "alert": "KatagoErrorRate", "findings": [finding], "errors": []}
    yield "02:05:02", {"event": "sent", "key": "declaration team/chat"}
    yield "02:12", {"event": "updated", "status": "identified", "next_steps": "roll back"}
    yield "02:16", {"event": "updated", "status": "monitoring", "next_steps": "watch for 15 minutes"}
    yield "02:36", {"event": "closed", "resolution": f"rolled back to {OLD}"}


def timeline() -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of the timeline with their times."""
    who = "anna@control"
    for clock, name, result, message in (
        ("02:07", "restart", "begun", ""),
        ("02:08:30", "restart", "changed", "Restarted and validated."),
        ("02:14:50", "rollback", "begun", ""),
        ("02:15:40", "rollback", "changed", f"Rolled back to {OLD} and validated.\nMore."),
    ):
        event = {"host": "katago-2", "who": who, "procedure": name, "result": result, "message": message}
        yield clock, event
    for clock, task, result in (
        ("02:07:01", "The lock is taken", "ok"),
        ("02:08:20", "It is ready", "failed"),
    ):
        command = "ansible-playbook playbooks/restart.yml -l katago-2"
        yield clock, {"host": "katago-2", "who": who, "command": command, "task": task, "result": result}


def write_lines(
    path: Path, lines: Sequence[tuple[float, Mapping[str, Any]]], who: str = "anna@control"
) -> None:
    """Write a record, each line with its time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for when, line in lines:
        files.append_events(path, line, at=stamp(when), who=who)


def night(root: Path) -> None:
    """Write the whole incident to a records directory."""
    directory = root / "incidents" / INCIDENT
    write_lines(directory / "state.jsonl", [(at(clock), line) for clock, line in state()])
    write_lines(directory / "timeline.jsonl", [(at(clock), line) for clock, line in timeline()])
    with (directory / "timeline.jsonl").open("a") as file:
        file.write('{"at": "2026-11-03T02:3')
    (directory / "answers.yml").write_text(ANSWERS)
    fleet = hosts()
    for name, clock in (
        ("katago-2", "02:07:05"),
        ("katago-2", "02:14:55"),
        ("katago-1", "02:37"),
        ("katago-2", "02:37"),
    ):
        keep(root, fleet[name], at(clock))
    keep(root, fleet["katago-3"], at("02:37"), cut=True)


def quarter(root: Path) -> None:
    """Write three months of records, which include the incident, and one incident of the previous quarter."""
    night(root)
    for day, severity, minutes, lead in (
        ("2026-08-12", "P2", 40, "Bo"),
        ("2026-10-05", "P0", 25, "Anna"),
        ("2026-12-01", "P3", 300, ""),
    ):
        start = at("10:00", day)
        opened = {
            **{"event": "opened", "id": f"{day}-1", "started": stamp(start), "severity": severity},
            **{"severity_by": "triage", "worst": severity, "lead": lead, "impact": "Analyses are slow"},
            "respond_by": incident_state.respond_by(severity, datetime.fromtimestamp(start, UTC)),  # type: ignore[arg-type]
            "recurrence_of": INCIDENT if day == "2026-12-01" else "",
            "findings": [{"host": "katago-1", "level": severity, "rule": "performance", "measured": "slow"}],
        }
        lines: list[tuple[float, Mapping[str, Any]]] = [(start + 60, opened)]
        if severity != "P3":
            lines.append((start + 60 * minutes, {"event": "closed", "resolution": "mended"}))
        write_lines(root / "incidents" / f"{day}-1" / "state.jsonl", lines)
        event = {"host": "katago-1", "procedure": "restart", "result": "refused", "message": ""}
        write_lines(root / "incidents" / f"{day}-1" / "timeline.jsonl", [(start + 400, event)])
    other = root / "incidents" / "no-incident" / "timeline.jsonl"
    write_lines(
        other, [(at("09:00", "2026-11-20"), {"host": "katago-1", "procedure": "backup", "result": "ok"})]
    )
    drill = {
        **{"event": "opened", "id": "2026-11-15-drill", "started": stamp(at("09:00", "2026-11-15"))},
        **{"severity": "P1", "severity_by": "drill", "worst": "P1", "lead": "Cy"},
        "respond_by": stamp(at("09:30", "2026-11-15")),
    }
    lines = [
        (at("09:01", "2026-11-15"), drill),
        (at("09:21", "2026-11-15"), {"event": "closed", "resolution": "undone"}),
    ]
    write_lines(root / "drills" / "2026-11-15-drill" / "state.jsonl", lines)


def write_golden(root: Path) -> dict[str, str]:
    """Build the documents of three months of records. Return their texts by name."""
    quarter(root)
    review_records.build(root, INCIDENT, FLEET, dry=False)
    records_of_fleet = review_records.read_all(root)
    last, end = quarterly.Quarter(2026, 4), date(2026, 12, 31)
    drills = drill_report.quarter_blocks(drill_report.build(archive.read_all(root), SCENARIOS, last, end))
    document = quarterly.build(records_of_fleet, last, end, ROSTER, drills)
    review_records.report(root, "2026Q4", document, dry=False)
    documents = [
        *(root / "incidents" / INCIDENT / name for name in ("review.md", "review.html")),
        *(root / "reports" / name for name in ("2026Q4.md", "2026Q4.html")),
    ]
    return {path.name: path.read_text() for path in documents}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        GOLDEN.mkdir(exist_ok=True)
        for name, text in write_golden(Path(scratch)).items():
            (GOLDEN / name).write_text(text)
