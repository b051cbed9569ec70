"""Tabletop drills: what triage would show of a scenario, without a fault.

The real rules judge the facts of an example: a healthy fleet, with what the fault of the scenario changes.
The changes are data.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts as triage_facts
from ansible_collections.katago.fleet.plugins.module_utils.triage import verdict as triage_verdict
from ansible_collections.katago.fleet.plugins.plugin_utils.drill import example_facts
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.questions import Marked
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.record import SCHEMA, Record
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.scenarios import Scenario
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import triage_reports

HOSTS = ("katago-1", "katago-2", "katago-3")
LOAD_BALANCERS = ("lb-1", "lb-2")
"""The names in the example if the inventory has no such hosts."""


NOTICE = "This is an exercise: the fleet has no fault. Do not run the commands of the report."


@dataclass(frozen=True)
class Example:
    """What a fault changes in the facts of the fleet.

    `host`: changes to the facts of the host with the fault. A mapping is merged into the value of the fact.
    `replaced`: facts of it that are replaced. `clock_seconds`: by which its clock is ahead. `unreachable`:
    why triage gets no answer from it. `server`: how the load balancers see it. `balancer`: changes to the
    facts of the load balancer with the fault. `certificate_seconds`: until its certificate ends. `out`: the
    record of the host on the load balancers if it is out of rotation; it is as old as the host's lock.
    """

    host: Mapping[str, Any] = field(default_factory=dict)
    replaced: Mapping[str, Any] = field(default_factory=dict)
    clock_seconds: float = 0
    unreachable: str = ""
    server: Mapping[str, Any] = field(default_factory=dict)
    balancer: Mapping[str, Any] = field(default_factory=dict)
    certificate_seconds: float | None = None
    out: Mapping[str, str] = field(default_factory=dict)


_NO_ANSWER: Mapping[str, Any] = {"status": None, "body": {}}
_UNSERVED = {"served": False, "why": "does not answer: Connection refused"}
_NO_PROBE = {"skipped": "the service does not answer"}
_STOPPED = {"active": "failed", "sub": "failed", "pid": 0, "process_state": None}
_DOWN = {"status": "DOWN", "check": "L4CON: Connection refused"}
_TIMEOUT = {"status": "DOWN", "check": "L4TOUT: Layer4 timeout"}
_SPREAD = {"fastest_seconds": 0.46, "slowest_seconds": 0.55, "spread_seconds": 0.02}
_SWITCH = {"who": "anna@control", "release": "0.1.0-aa", "why": "deployment", "verdict": None}
_DISK = ["/", "/opt", "/var", "/var/lib/katago-mcp", "/var/cache/katago-mcp"]


def _service_down(last_lines: Sequence[str], **unit: Any) -> Example:
    """A host whose service does not run. `unit`: further facts of its unit."""
    return Example(
        host={
            "unit": {**_STOPPED, **unit},
            "health": _NO_ANSWER,
            "ready": _NO_ANSWER,
            "processes": {"engines": []},
        },
        replaced={"traffic": _UNSERVED, "probe": _NO_PROBE, "limits": None, "last_lines": list(last_lines)},
        server=_DOWN,
    )


def _filesystem(**changes: Any) -> list[dict[str, Any]]:
    whole = {"paths": _DISK, "device": 7, "free_bytes": 1 << 35, "free_percent": 50.0}
    return [{**whole, "free_inodes_percent": 50.0, "read_only": False, **changes}]


_KILLED = _service_down(
    ["katago-mcp.service: Main process exited, code=killed, status=9/KILL"], result="signal", exit_status=9
)
_NOT_STARTING = _service_down(
    ["katago-mcp.service: Main process exited, code=exited, status=1/FAILURE"],
    result="exit-code",
    exit_status=1,
    restarts=5,
)
_NO_CONFIG = _service_down(
    ["katago-mcp: config.json cannot be read: No such file or directory"], result="exit-code", exit_status=78
)
_LOST_BALANCER: Mapping[str, Any] = {
    "haproxy": {"active": "failed", "sub": "failed", "result": "signal", "started_at": None},
    "rotation": {"servers": None},
    "virtual_address": {"held": "never"},
}
EXAMPLES: Mapping[str, Example] = {
    "service_down": _KILLED,
    "engine_crashing": Example(
        host={
            "engine_journal": {"failures": 6},
            "traffic": {"requests": {"ok": 20.0, "unavailable": 9.0}, "engine_failures_since_start": 6.0},
            "journal": {
                "groups": [
                    {
                        "level": "error",
                        "event": "engine_ended",
                        "code": "signal 11",
                        "count": 6,
                        "exception": False,
                    }
                ]
            },
        },
    ),
    "engine_hung": Example(
        host={
            "ready": {
                "status": 503,
                "body": {"ready": False, "reason": "no recent heartbeat from the engine"},
            },
            "probe": {"error": "no answer within 30 s", "answers": []},
            "traffic": {"requests": {"ok": 5.0, "timeout": 6.0}, "engine_up": 0.0},
        },
        server={"status": "DOWN", "check": "L7STS: HTTP status 503"},
    ),
    "bad_release": Example(
        host={
            **_NOT_STARTING.host,
            "history": {"switch": {"seconds_ago": 240, "how": "deployment"}},
        },
        replaced=_NOT_STARTING.replaced,
        server=_DOWN,
    ),
    "configuration_corrupted": Example(
        host={
            **_NO_CONFIG.host,
            "release": {"damage": ["config.json is missing"]},
            "config": {"ok": False, "problems": ["config.json: no such file"]},
        },
        replaced=_NO_CONFIG.replaced,
        server=_DOWN,
    ),
    "cache_corrupted": Example(
        host={
            "journal": {"cache_trouble": "database disk image is malformed"},
            "traffic": {"cache_errors": 4.0},
        },
    ),
    "disk_full": Example(
        replaced={
            "filesystems": _filesystem(free_bytes=0, free_percent=0.0),
            "consumers": [{"path": "/home", "device": 7, "bytes": 60 << 30, "inodes": 3}],
        },
    ),
    "inodes_exhausted": Example(
        replaced={
            "filesystems": _filesystem(free_inodes_percent=0.0),
            "consumers": [{"path": "/home", "device": 7, "bytes": 90 << 20, "inodes": 4_100_000}],
        },
    ),
    "slow_engine": Example(
        host={
            "probe": {"answers": [{"status": "ok", "seconds": 4.2, "problems": []} for _ in range(5)]},
            "traffic": {"latency_seconds": {"p50": 4.1, "p95": 6.0, "p99": 6.4}},
            "processes": {
                "others": [
                    {
                        "unit": "batch.service",
                        "name": "stress",
                        "largest": "stress",
                        "cpu_percent": 380.0,
                        "memory_bytes": 9 << 20,
                    }
                ]
            },
        },
    ),
    "error_burst": Example(
        host={
            "traffic": {"requests": {"ok": 9.0, "error": 7.0}},
            "journal": {
                "groups": [
                    {
                        "level": "error",
                        "event": "call",
                        "code": "INTERNAL",
                        "count": 41,
                        "exception": False,
                    }
                ]
            },
        },
    ),
    "host_lost": Example(
        unreachable="Failed to connect to the host via ssh: No route to host", server=_TIMEOUT
    ),
    "host_frozen": Example(
        unreachable="Failed to connect to the host via ssh: Connection timed out during banner exchange",
        server={"status": "DOWN", "check": "L7TOUT: Layer7 timeout"},
    ),
    "network_cut": Example(
        host={"clients": {"address": "10.20.0.21:8080", "error": "no answer within 3 s"}}, server=_TIMEOUT
    ),
    "load_balancer_lost": Example(balancer=_LOST_BALANCER),
    # Triage measures services. fleet.yml and the alerts report on backups.
    "backup_repository_lost": Example(),
    "credentials_rotated": Example(
        host={
            "probe": {"error": "HTTP 401: unauthenticated", "answers": []},
            "traffic": {"refused": {"unauthenticated": 14.0, "forbidden": 0.0, "misdirected": 0.0}},
        },
    ),
    "certificate_expired": Example(certificate_seconds=-3600.0),
    "clock_skewed": Example(clock_seconds=3600.0),
    "control_node_lost": Example(
        host={
            "lock": {
                "owner": "anna@control",
                "procedure": "restart",
                "run": "0d3f1b9c",
                "age_seconds": 1500.0,
                "life": "dead",
            },
        },
        server={"status": "MAINT", "weight": 0},
        out={"procedure": "restart", "who": "anna@control", "why": "restart"},
    ),
    "two_faults": Example(
        host=_KILLED.host, replaced=_KILLED.replaced, server=_DOWN, balancer=_LOST_BALANCER
    ),
}
"""The examples by the scenario's name."""


def report(
    scenario: Scenario,
    hosts: Sequence[str],
    load_balancers: Sequence[str],
    now: datetime,
    sources: Sequence[str] = (),
) -> triage_reports.Report:
    """What triage would report of a fleet in which the first host, or load balancer, has the fault.

    `sources`: the inventories of the run, for the commands in the report.
    """
    hosts, load_balancers = tuple(hosts) or HOSTS, tuple(load_balancers) or LOAD_BALANCERS
    example = EXAMPLES[scenario.name]
    results = {host: _result(_host(Example(), now), now) for host in hosts}
    if example.unreachable:
        results[hosts[0]] = {"msg": example.unreachable}
    else:
        results[hosts[0]] = _result(_host(example, now), now)
    names = hosts, load_balancers
    for number, name in enumerate(load_balancers):
        results[name] = _result(_load_balancer(example, names, number, now), now)
    variables = {
        "hostvars": {name: {"triage_result": result} for name, result in results.items()},
        "ansible_play_hosts_all": list(results),
        "groups": {},
        "ansible_inventory_sources": list(sources),
    }
    return triage_reports.gather(variables, now, breach=False)


def record(
    drill: str, scenario: Scenario, participants: Sequence[str], fleet: str, now: str, *, sealed: bool
) -> Record:
    """The record of a tabletop drill, which ends as soon as it was shown."""
    return {
        "schema": SCHEMA,
        "id": drill,
        "scenario": scenario.name,
        "sealed": sealed,
        "mode": "tabletop",
        "fleet": fleet,
        "hosts": [],
        "participants": list(participants),
        "incident": "",
        "level": scenario.level,
        "started": now,
        "ended": now,
        "outcome": "passed",
        "reason": "",
        "steady_state": {"healthy": True, "problems": []},
        "fault": {"injected": None, "landed": None, "seen": ""},
        "times": {"detect": None, "acknowledge": None, "mitigate": None, "recover": None},
        "targets": scenario.targets,
        "traffic": {"interval": 0.0, "requests": 0, "failed": 0, "sessions": 0, "sessions_lost": 0},
        "data": {"writes": 0, "lost": 0, "rpo_seconds": None},
        "actions": [],
        "messages": [],
        "undo": {"armed": None, "expires": None, "done": None, "by": ""},
        "differences": [],
        "answers": {},
    }


def _host(example: Example, now: datetime) -> example_facts.Entries:
    facts = example_facts.healthy(now)
    facts["last_lines"]["value"] = []
    facts["baseline"]["value"]["found"] |= _SPREAD
    _change(facts, example.host)
    for name, value in example.replaced.items():
        facts[name]["value"] = copy.deepcopy(value)
    facts["clock"]["value"] += example.clock_seconds
    if lock := facts["lock"]["value"]:
        lock["since"] = timestamps.stamp(now.timestamp() - lock["age_seconds"])
    history = facts["history"]["value"]
    if switch := history["switch"]:
        at = timestamps.stamp(now.timestamp() - switch["seconds_ago"])
        history["records"] = [{**_SWITCH, "at": at}]
        facts["unit"]["value"]["started_at"] = now.timestamp() - switch["seconds_ago"]
    return facts


def _load_balancer(
    example: Example, names: tuple[Sequence[str], Sequence[str]], number: int, now: datetime
) -> example_facts.Entries:
    """The facts of a load balancer; the first one may have the fault, and else it has the virtual address."""
    hosts, load_balancers = names
    facts = example_facts.load_balancer(now, hosts, load_balancers)
    facts["last_lines"]["value"] = []
    rotation = facts["rotation"]["value"]
    rotation["servers"][hosts[0]] = example_facts.server(**example.server)
    if example.out:
        since = timestamps.stamp(now.timestamp() - example.host["lock"]["age_seconds"])
        rotation["out"][hosts[0]] = {**example.out, "since": since}
    holder = int("virtual_address" in example.balancer)
    facts["virtual_address"]["value"]["held"] = "always" if number == holder else "never"
    if number == 0:
        _change(facts, example.balancer)
        if example.certificate_seconds is not None:
            facts["certificate"]["value"]["ends_at"] = now.timestamp() + example.certificate_seconds
    return facts


def _change(facts: example_facts.Entries, changes: Mapping[str, Any]) -> None:
    for name, change in changes.items():
        facts[name]["value"] = {**(facts[name]["value"] or {}), **copy.deepcopy(dict(change))}


def _result(facts: example_facts.Entries, now: datetime) -> dict[str, Any]:
    """What `katago.fleet.triage` would return on the host."""
    verdict = triage_verdict.judge(triage_facts.read(facts), now=now, contain=True)
    return {"facts": facts, "verdict": triage_verdict.as_dict(verdict)}


def situation(scenario: Scenario, *, is_sealed: bool) -> list[str]:
    """What people notice, as lines. `is_sealed`: the scenario is not named."""
    name = "a scenario that was drawn at random" if is_sealed else f"{scenario.name}: {scenario.title}"
    return [
        f"TABLETOP DRILL, {name}",
        NOTICE,
        "",
        "What people notice:",
        *(f"  - {each}" for each in scenario.symptoms),
    ]


def asked(questions: Sequence[Marked]) -> list[str]:
    """The questions, as lines with their IDs."""
    return [NOTICE, "", "Questions:", *(f"  {each.id}: {each.text}" for each in questions)]


def answered(scenario: Scenario, questions: Sequence[Marked]) -> list[str]:
    """The scenario with the right response and the right answers, as lines."""
    ways = [
        ", then ".join(each) or "nothing: the fleet recovers automatically"
        for each in scenario.right_procedures
    ]
    lines = [f"{scenario.name}: {scenario.title} ({scenario.level})", "", "Right procedures, one of:"]
    lines += [f"  - {way}" for way in ways]
    if scenario.harmful_procedures:
        lines.append(f"Harmful: {', '.join(scenario.harmful_procedures)}")
    lines.append(f"Inform: {', '.join(scenario.audience)}")
    for each in questions:
        lines += ["", f"{each.id}: {each.text}", f"  {each.answer}"]
    return [*lines, ""]
