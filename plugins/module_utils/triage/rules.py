"""How bad it is, why, and what to do next: the runbook's levels as rules over measured facts.

Pure: facts in, verdict out. Every rule looks at what was measured and gives reasons; the verdict is
the worst of them. What could not be measured is unknown, and a host with an unknown that matters
is never healthy.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.gpu.nvidia_smi import SLOWDOWNS
from ansible_collections.katago.fleet.plugins.module_utils.service import metrics
from ansible_collections.katago.fleet.plugins.module_utils.severity import LEVELS, RESPONSE, Level, rank

# Percent of judged requests that failed, and percent that a probe takes longer than at the baseline.
# A value on a bound belongs to the worse level.
ERROR_RATE: tuple[tuple[int, Level], ...] = ((50, "P1"), (10, "P2"), (1, "P3"))
# Below 10 % a median of a few probes cannot be told from noise.
SLOWER: tuple[tuple[int, Level], ...] = ((80, "P1"), (20, "P2"), (10, "P3"))
ENGINE_FAILURES = 3
WINDOW_MINUTES = 10
FAILS_AGAIN_SECONDS = 300
RECENT_SWITCH_SECONDS = 3600
EXHAUSTED_PERCENT = 1
SCARCE_PERCENT = 5
MEMORY_EXHAUSTED_PERCENT = 2
STALLED_PERCENT = 20
OPEN_FILES_PERCENT = 90
FEWEST_OPEN_FILES = 1024
HOG_PERCENT_OF_HOST = 25
SKEW_SECONDS = 30
# A client with an old token asks again now and then; who guesses does not stop. Of a busy service, and of a
# long window, the bound grows along.
REFUSED_LOGINS = 20
REFUSED_LOGINS_PER_SECOND = 2
REFUSED_PERCENT_OF_ANSWERED = 10
_LOGIN = ("unauthenticated", "forbidden")
CONSUMERS_SHOWN = 4
MEMORY_CONSUMERS_SHOWN = 3
_GPU_GONE = {"lost": "the GPU is lost", "reset": "the GPU needs a reset"}

ROOM = {
    "/var/cache/katago-mcp-quarantine": "look into it, then remove it by hand",
    "/var/lib/katago-mcp/quarantine": "look into it, then remove it by hand",
    "/var/lib/systemd/coredump": "look into it, then remove it by hand",
    "/var/log/journal": "journalctl --vacuum-size=200M",
    "/var/cache/apt/archives": "apt-get clean",
    "/var/cache/katago-mcp": "katago_mcp_cache_size_mb bounds it",
    "/opt/katago-mcp/releases": "katago_mcp_releases_kept bounds their number",
    "/home": "look whose it is",
}
"""What may fill a host's disks, and how room is made there."""

RESTART = "restart.yml"
FORCE = "restart.yml -e force=true"
RESTORE = "restore.yml"
DEPLOY = "deploy.yml"
MITIGATE = "mitigate.yml"
PURGE = "purge_cache.yml"
DRIVER = "gpu_driver.yml"
SHOW_SECURITY = "security.yml -e do=show"


PRESERVE = (
    "Restarting destroys the evidence, so nothing that changes the host is proposed; if it was one of yours,"
    " security.yml -e do=off gives the other proposals back"
)


def isolation(why: str) -> str:
    """The playbook that preserves a host and cuts it off, with its arguments."""
    # Without both quotes, Ansible takes but the first word.
    return f"security.yml -e do=on -e 'why=\"{why}\"'"


@dataclass(frozen=True)
class Reason:
    """One thing that is not as it should be: what was measured, and what would have been right.

    `escalate` is the runbook's trigger that it is, if any; `next` the playbook that deals with it,
    with its arguments; `suspicious` when somebody may have got in, so that the host is evidence.
    """

    level: Level
    rule: str
    measured: str
    threshold: str
    escalate: str | None = None
    next: str | None = None
    suspicious: bool = False


@dataclass(frozen=True)
class Verdict:
    """The verdict on a host, the worst reasons first.

    `respond_by` in UTC, None for what has no deadline. `undecided` names the rules that could not
    be decided. `next` is the playbook to run, with its arguments and without a limit.
    """

    verdict: Level
    respond_by: str | None
    reasons: tuple[Reason, ...]
    undecided: tuple[str, ...]
    escalate: tuple[str, ...]
    changes: tuple[str, ...]
    notes: tuple[str, ...]
    proposals: tuple[str, ...]
    next: str | None


@dataclass(frozen=True)
class Fleet:
    """The verdict on a fleet: that of its worst host, and how many hosts have which."""

    verdict: Level
    respond_by: str | None
    hosts: Mapping[str, int]
    unknown: tuple[str, ...]


class _Facts:
    """Entries as `katago.fleet.triage` measured them: `value`, or `unknown` with the reason."""

    def __init__(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        self._entries = entries

    def known(self, name: str) -> bool:
        return "value" in self._entries.get(name, {})

    def why(self, name: str) -> str:
        return str(self._entries.get(name, {}).get("unknown", "it was not measured"))

    def __getitem__(self, name: str) -> Any:
        return self._entries[name]["value"]


_Rule = Callable[[_Facts], Iterator[Reason]]
_Told = TypeVar("_Told")
_RECORD = "run baseline.yml while all is well"
_UNFIT = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What a rule trips over in a fact that is not as it was measured to be; it costs that rule alone."""


def judge(facts: Mapping[str, Mapping[str, Any]], *, now: datetime, breach: bool = False) -> Verdict:
    """The verdict on a host that answered. `breach` is what an operator says, and no host can."""
    known = _Facts(facts)
    reasons = [*([_breach()] if breach else []), *examine(facts, _RULES)]
    reasons.sort(key=lambda reason: -rank(reason.level))
    suspicious = [reason for reason in reasons if reason.suspicious]
    if suspicious:
        # What restarts, rolls back, purges or makes room destroys what tells who was there.
        return _verdict(
            [reason if reason.suspicious else replace(reason, next=None) for reason in reasons],
            now,
            changes=_attempt(_changes, known),
            notes=[
                PRESERVE,
                *_described(known, _system_note, _notes, _gpu_notes),
                *_attempt(_skew, known, now),
            ],
            next_step=_isolating(suspicious),
        )
    return _verdict(
        reasons,
        now,
        changes=_attempt(_changes, known),
        notes=[
            *_described(known, _system_note, _notes, _gpu_notes, _performance_notes),
            *_attempt(_skew, known, now),
        ],
        proposals=_attempt(_proposals, known),
        next_step=_next(known, reasons),
    )


def examine(facts: Mapping[str, Mapping[str, Any]], rules: Iterable[str]) -> list[Reason]:
    """What the rules of these names find in facts; a rule that lacks what it needs is unknown."""
    known = _Facts(facts)
    reasons: list[Reason] = []
    for rule in rules:
        needs, check = _RULES[rule]
        if missing := [name for name in needs if not known.known(name)]:
            reasons += [_unknown(rule, f"{name}: {known.why(name)}") for name in missing]
            continue
        try:
            reasons += list(check(known))
        except _UNFIT as error:
            reasons.append(_unknown(rule, f"cannot be judged: {type(error).__name__}: {error}"))
    return reasons


def performance_notes(facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How the probes compare with the baseline, or why that is not known."""
    return _attempt(_performance_notes, _Facts(facts))


def unreachable(why: str, *, now: datetime, breach: bool = False) -> Verdict:
    """The verdict on a host that could not be asked: unknown, never healthy."""
    reasons = [*([_breach()] if breach else []), _unknown("reachable", why)]
    note = "its service may run or not: try another network, the console, the balancer's view"
    return _verdict(reasons, now, notes=[note])


def fleet(hosts: Mapping[str, Verdict], *, now: datetime) -> Fleet:
    """The verdict on all hosts together; a fleet without hosts is unknown."""
    levels = [verdict.verdict for verdict in hosts.values()]
    worst = _worst(levels) if levels else "unknown"
    return Fleet(
        verdict=worst,
        respond_by=_respond_by(worst, now),
        hosts={level: levels.count(level) for level in reversed(LEVELS) if level in levels},
        unknown=tuple(sorted(host for host, verdict in hosts.items() if verdict.verdict == "unknown")),
    )


def _worst(levels: Sequence[Level]) -> Level:
    return max(levels, key=rank)


def as_dict(verdict: Verdict | Fleet) -> dict[str, Any]:
    """A verdict as plain values."""
    return asdict(verdict)


def as_verdict(value: Mapping[str, Any]) -> Verdict:
    """What `as_dict` made plain."""
    return Verdict(
        verdict=value["verdict"],
        respond_by=value["respond_by"],
        reasons=tuple(Reason(**reason) for reason in value["reasons"]),
        next=value["next"],
        **{name: tuple(value[name]) for name in ("undecided", "escalate", "changes", "notes", "proposals")},
    )


def median_seconds(probe: Mapping[str, Any]) -> float | None:
    """The median time of the probe analyses; a failed one took forever. None when that is the median."""
    seconds = [math.inf if answer["problems"] else answer["seconds"] for answer in probe["answers"]]
    median = statistics.median_high(seconds) if seconds else math.inf
    return None if math.isinf(median) else median


def baseline_problems(
    verdict: Verdict, facts: Mapping[str, Mapping[str, Any]], *, least_uptime: float
) -> list[str]:
    """Why what was measured is no baseline: not healthy, or not warmed up; [] when it is one.

    `least_uptime` of the service in seconds.
    """
    problems = [f"{each.level} {each.rule}: {each.measured}" for each in verdict.reasons]
    if verdict.verdict != "healthy":
        return problems or [f"the host is {verdict.verdict}"]
    body = facts["health"]["value"]["body"]
    uptime, state = body.get("uptimeSeconds"), (body.get("engine") or {}).get("state")
    if not isinstance(uptime, (int, float)) or uptime < least_uptime:
        problems.append(f"the service is up for {uptime} s, and must be for {least_uptime:g} s")
    if state != "ready":
        problems.append(f"its engine is {state}, and must be ready")
    if failures := facts["engine_journal"]["value"]["failures"]:
        problems.append(f"its engine failed {failures} times in the last {WINDOW_MINUTES} minutes")
    if why := _fewer_visits(facts["probe"]["value"], facts["baseline"]["value"]):
        problems.append(why)
    return problems


def baseline(facts: Mapping[str, Mapping[str, Any]], *, now: datetime) -> dict[str, Any]:
    """The record of a host's speed, from facts without `baseline_problems`."""
    probe, found = facts["probe"]["value"], facts["baseline"]["value"]
    seconds = [answer["seconds"] for answer in probe["answers"]]
    median = median_seconds(probe)
    if median is None:
        raise ValueError("the probes that were measured have no median")
    return {
        "at": timestamps.stamp(now),
        "identity": found["identity"],
        "release": found["manifest"]["name"],
        "version": found["manifest"]["version"],
        "engine_version": found["manifest"]["engine_version"],
        "network": found["network"],
        "machine": found["machine"],
        "visits": found["visits"],
        "probes": len(seconds),
        "median_seconds": median,
        "fastest_seconds": min(seconds),
        "slowest_seconds": max(seconds),
        "visits_per_second": round(found["visits"] / median, 1),
    }


def _verdict(
    reasons: Sequence[Reason],
    now: datetime,
    *,
    changes: Iterable[str] = (),
    notes: Iterable[str] = (),
    proposals: Iterable[str] = (),
    next_step: str | None = None,
) -> Verdict:
    level = _worst(["healthy", *(reason.level for reason in reasons)])
    return Verdict(
        verdict=level,
        respond_by=_respond_by(level, now),
        reasons=tuple(reason for reason in reasons if reason.level != "healthy"),
        undecided=tuple(dict.fromkeys(each.rule for each in reasons if each.level == "unknown")),
        escalate=tuple(dict.fromkeys(each.escalate for each in reasons if each.escalate)),
        changes=tuple(changes),
        notes=tuple(notes),
        proposals=tuple(proposals),
        next=next_step,
    )


def _respond_by(level: Level, now: datetime) -> str | None:
    if level not in RESPONSE:
        return None
    return timestamps.stamp(now + RESPONSE[level])


def _unknown(rule: str, why: str) -> Reason:
    return Reason("unknown", rule, why, "known")


def _breach() -> Reason:
    return Reason(
        "P0",
        "breach",
        "an operator says so",
        "none",
        escalate="security breach",
        next=isolation("a breach is known"),
        suspicious=True,
    )


def _security(facts: _Facts) -> Iterator[Reason]:
    seen = facts["security"]
    if (mode := seen["mode"]) is None:
        return
    lost = seen["isolated"] is False
    words = "and clients are NOT cut off, as they are to be" if lost else "and left as it is until that ends"
    yield Reason(
        "P0",
        "security_mode",
        f"the host is in security mode since {mode['since']}, by {mode['who']} ({mode['why']}), {words}",
        "isolated as the mode says" if lost else "no mode",
        escalate="security breach suspected",
        next=isolation("the isolation was taken away") if lost else SHOW_SECURITY,
        suspicious=True,
    )


def _refused_logins(facts: _Facts) -> Iterator[Reason]:
    seen = facts["traffic"]
    if not seen["served"]:
        return
    if seen["refused"] is None:
        yield _unknown("refused_logins", "katago_mcp_http_refused_total is missing or NaN")
        return
    counts = {reason: seen["refused"].get(reason, 0) for reason in _LOGIN}
    refused = sum(counts.values())
    # Those that failed do not count: a burst must not hide behind the trouble that it makes.
    judged, failed = _foreign(seen["requests"] or {}, _own(facts))
    answered = judged - failed
    bound = max(
        REFUSED_LOGINS,
        REFUSED_LOGINS_PER_SECOND * seen["seconds"],
        REFUSED_PERCENT_OF_ANSWERED * answered / 100,
    )
    if refused >= bound:
        told = ", ".join(f"{count:g} {reason}" for reason, count in counts.items())
        yield Reason(
            "P1",
            "refused_logins",
            f"{refused:g} logins were refused in {seen['seconds']:.0f} s ({told}), beside {answered:g}"
            " requests that were answered",
            f"fewer than {bound:g}",
            escalate="unusual access",
            next=isolation("a burst of refused logins"),
            suspicious=True,
        )


def _unit(facts: _Facts) -> Iterator[Reason]:
    unit = facts["unit"]
    active, process = unit["active"], unit["process_state"]
    if unit["load"] == "not-found":
        yield Reason("P0", "unit", "katago-mcp.service does not exist", "deployed", next=DEPLOY)
    elif active != "active":
        seen = f"katago-mcp.service is {active} ({unit['sub']}, result {unit['result']})"
        does_not_start = (
            active == "failed"
            or unit["result"] == "start-limit-hit"
            or unit["exit_status"] == 78
            or (active == "activating" and unit["restarts"] >= ENGINE_FAILURES)
        )
        yield Reason(
            "P0",
            "unit",
            seen,
            "active",
            escalate="the service does not start" if does_not_start else None,
            next=FORCE if does_not_start else RESTART,
        )
    elif process in ("T", "t"):
        seen = f"the main process {unit['pid']} is frozen (state {process})"
        yield Reason("P0", "unit", seen, "running", next=FORCE)
    elif process in (None, "Z", "X"):
        yield Reason("P0", "unit", "the unit is active without a main process", "running", next=FORCE)


def _health(facts: _Facts) -> Iterator[Reason]:
    health = facts["health"]
    status, body = health["status"], health["body"]
    if status is None:
        seen = f"/health gave no answer within {health['seconds']:g} s"
        yield Reason("P0", "health", seen, "200", next=FORCE)
    elif status != 200 or body.get("status") != "ok":
        words = body.get("reason") or "with a body that is not the service's"
        yield Reason("P0", "health", f"/health answered {status} {words}", "200 with status ok", next=FORCE)


def _ready(facts: _Facts) -> Iterator[Reason]:
    ready = facts["ready"]
    status, reason = ready["status"], str(ready["body"].get("reason") or "")
    if status is None:
        seen = f"/ready gave no answer within {ready['seconds']:g} s"
        yield Reason("P0", "ready", seen, "200", next=FORCE)
    elif status == 200 and ready["body"].get("ready") is True:
        return
    elif reason == "draining":
        yield Reason("P2", "ready", "it is drained and takes no analyses", "undrained or out of rotation")
    elif reason == "saturated":
        seen = "it is saturated and refuses analyses"
        yield Reason("P2", "ready", seen, "room for analyses", next=MITIGATE)
    else:
        seen = f"/ready answered {status} {reason or 'without a reason'}"
        yield Reason("P1", "ready", seen, "200 with ready true", next=RESTART)


def _release(facts: _Facts) -> Iterator[Reason]:
    release = facts["release"]
    damage = release["damage"]
    if release["name"] is None:
        yield Reason("P0", "release", "there is no current release", "a whole one", next=DEPLOY)
    elif damage:
        integrity = any(line.endswith((" was changed", " was added")) for line in damage)
        more = f" and {len(damage) - 3} more" if len(damage) > 3 else ""
        yield Reason(
            "P0",
            "release",
            f"{release['name']} is damaged: {'; '.join(damage[:3])}{more}",
            "as its manifest says",
            escalate=(
                "the configuration is corrupted"
                if _names_config(damage)
                else "data integrity is in doubt"
                if integrity
                else None
            ),
            next=isolation("files of the release were changed") if integrity else RESTORE,
            suspicious=integrity,
        )


def _names_config(damage: Sequence[str]) -> bool:
    return any(line.split(" ")[0] in ("config.json", "analysis.cfg", "manifest.json") for line in damage)


def _config(facts: _Facts) -> Iterator[Reason]:
    config = facts["config"]
    if not config["ok"]:
        seen = "; ".join(config["problems"][:3]) or "katago-mcp validate refuses it"
        yield Reason(
            "P0",
            "config",
            seen,
            "valid by the release's own schema",
            escalate="the configuration is corrupted",
            next=RESTORE,
        )


def _engines(facts: _Facts) -> Iterator[Reason]:
    engines = facts["processes"]["engines"]
    # Without a main process there is no engine either, and the unit's rule says so.
    if facts["unit"]["process_state"] is None or len(engines) == 1:
        return
    if engines:
        pids = ", ".join(str(pid) for pid in engines)
        yield Reason("P2", "engines", f"{len(engines)} engines run ({pids})", "1", next=FORCE)
    else:
        yield Reason("P1", "engines", "no engine process runs", "1", next=RESTART)


def _engine_failures(facts: _Facts) -> Iterator[Reason]:
    counted = facts["engine_journal"]["failures"]
    if facts.known("traffic") and facts["traffic"].get("engine_failures_since_start"):
        counted = max(counted, int(facts["traffic"]["engine_failures_since_start"]))
    if counted >= ENGINE_FAILURES:
        yield Reason(
            "P1",
            "engine_failures",
            f"the engine failed {counted} times in {WINDOW_MINUTES} minutes",
            f"fewer than {ENGINE_FAILURES}",
            next=RESTART,
        )


def _fails_again(facts: _Facts) -> Iterator[Reason]:
    runs = facts["runs"]
    for failed in runs["failed"]:
        started = max((at for at in runs["started"] if at <= failed), default=None)
        if started is not None and failed - started <= FAILS_AGAIN_SECONDS:
            yield Reason(
                "P1",
                "fails_again",
                f"the service failed {failed - started:.0f} s after it was started",
                f"more than {FAILS_AGAIN_SECONDS} s",
                escalate="it failed again within 5 minutes after a restart",
            )
            return


def _error_rate(facts: _Facts) -> Iterator[Reason]:
    seen = facts["traffic"]
    if not seen["served"]:
        yield Reason("P3", "metrics", f"/metrics {seen['why']}", "served", next=RESTART)
        yield _unknown("error_rate", "not known without metrics")
        return
    if seen["requests"] is None:
        yield _unknown("error_rate", "katago_requests_total is missing or NaN")
        return
    judged, failed = _foreign(seen["requests"], _own(facts))
    for percent, level in ERROR_RATE:
        if judged and 100 * failed >= percent * judged:
            yield Reason(
                level,
                "error_rate",
                f"{failed:g} of {judged:g} requests failed in {seen['seconds']:.0f} s"
                f" ({100 * failed / judged:.1f} %)",
                f"below {percent} %",
                next=RESTART if rank(level) >= rank("P2") else None,
            )
            return


def _own(facts: _Facts) -> Sequence[Mapping[str, Any]]:
    """The answers to triage's own calls; none where the probe is unknown or was skipped."""
    return facts["probe"].get("answers", ()) if facts.known("probe") else ()


def _foreign(requests: Mapping[str, float], own: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """How many requests of others count, and how many of them failed.

    `own`: triage's own calls, each with the `status` that the server counts it by.
    """
    own_failed = sum(answer["status"] in metrics.FAILED for answer in own)
    own_answered = sum(answer["status"] == "ok" for answer in own)
    failed = max(0.0, metrics.failed(dict(requests)) - own_failed)
    answered = max(0.0, metrics.judged(dict(requests)) - metrics.failed(dict(requests)))
    return failed + max(0.0, answered - own_answered), failed


def _engine_up(facts: _Facts) -> Iterator[Reason]:
    seen = facts["traffic"]
    if not seen["served"]:
        return
    if seen["engine_up"] is None:
        yield _unknown("engine_up", "katago_engine_up is missing or NaN")
    elif seen["engine_up"] != 1:
        yield Reason("P1", "engine_up", f"katago_engine_up is {seen['engine_up']:g}", "1", next=RESTART)


def _probe(facts: _Facts) -> Iterator[Reason]:
    probe = facts["probe"]
    if probe.get("skipped"):
        yield _unknown("probe", f"no analysis was asked for, since {probe['skipped']}")
        return
    answers, asked = probe["answers"], probe["asked"]
    bad = [answer for answer in answers if answer["problems"]]
    failed = asked - len(answers) + len(bad)
    if failed:
        words = bad[0]["problems"][0] if bad else probe["error"] or "no answer"
        yield Reason(
            "P1" if 2 * failed >= asked else "P2",
            "probe",
            f"{failed} of {asked} probe analyses failed: {words}",
            "all analyse a known position",
            next=RESTART,
        )


def _performance(facts: _Facts) -> Iterator[Reason]:
    figures = _compared(facts)
    if figures is None:
        return
    median, baseline = figures
    for percent, level in SLOWER:
        # In whole microseconds: a value on a bound must not depend on how a float was rounded.
        if round(median * 1e6) * 100 >= round(baseline * 1e6) * (100 + percent):
            yield Reason(
                level,
                "performance",
                f"a probe takes {median:.3f} s, {100 * (median / baseline - 1):.0f} % more than the"
                f" baseline's {baseline:.3f} s",
                f"less than {percent} % more",
                next=MITIGATE if rank(level) >= rank("P2") else None,
            )
            return


def _compared(facts: _Facts) -> tuple[float, float] | None:
    """The median of the probes and of the baseline in seconds; None without a baseline that fits."""
    if not facts.known("probe") or _incomparable(facts):
        return None
    median = median_seconds(facts["probe"]) if _own(facts) else None
    return None if median is None else (median, float(facts["baseline"]["found"]["median_seconds"]))


def _incomparable(facts: _Facts) -> str | None:
    """Why nothing can be compared with the baseline; None when it fits."""
    if not facts.known("baseline"):
        return facts.why("baseline")
    baseline = facts["baseline"]
    found = baseline["found"]
    if not found:
        return f"there is no baseline; {_RECORD}"
    if found.get("identity") != baseline["identity"]:
        return (
            "the baseline is of another engine, network or configuration, or of another number of visits;"
            f" {_RECORD}"
        )
    if found.get("machine") != baseline["machine"]:
        recorded = _machine(found.get("machine"))
        return f"the baseline is of {recorded}, and this is {_machine(baseline['machine'])}; {_RECORD}"
    return _fewer_visits(facts["probe"], baseline) if facts.known("probe") else None


def _machine(machine: Mapping[str, Any] | None) -> str:
    if machine is None:
        return "a machine that it does not name"
    return f"{machine['name']} ({machine['processors']} processors, {machine['device']})"


def _fewer_visits(probe: Mapping[str, Any], baseline: Mapping[str, Any]) -> str | None:
    """Why probes of fewer visits than a baseline's say nothing of speed; None when they have as many."""
    if probe.get("visits", baseline.get("visits")) == baseline.get("visits"):
        return None
    return (
        f"the limits are lowered, so a probe has {probe['visits']} visits, and the baseline is of"
        f" {baseline['visits']}; it is known again when they are given back (mitigate.yml -e undo=true)"
    )


def _cache(facts: _Facts) -> Iterator[Reason]:
    trouble = facts["journal"]["cache_trouble"]
    errors = facts["traffic"].get("cache_errors") if facts.known("traffic") else None
    if trouble:
        yield Reason("P2", "cache", f"the cache does not work: {trouble}", "no trouble", next=PURGE)
    elif errors:
        seen = f"{errors:g} cache operations were given up"
        yield Reason("P2", "cache", seen, "none", next=PURGE)


def _logged(facts: _Facts) -> Iterator[Reason]:
    errors = [group for group in facts["journal"]["groups"] if group["level"] in ("error", "critical")]
    if errors:
        first = errors[0]
        yield Reason(
            "P3",
            "logged_errors",
            f"{sum(group['count'] for group in errors)} errors were logged in {WINDOW_MINUTES} minutes,"
            f" first {first['event']} {first['code']}".rstrip(),
            "none",
        )


def _filesystems(facts: _Facts) -> Iterator[Reason]:
    for each in facts["filesystems"]:
        where = ", ".join(each["paths"])
        written = any(path.startswith("/var") for path in each["paths"])
        if each["read_only"]:
            level: Level = "P2" if written else "P3"
            yield Reason(level, "filesystems", f"{where} is mounted read-only", "writable")
        # No playbook makes room: what lies there may be evidence. The proposals say what it is.
        for what, percent in (("space", each["free_percent"]), ("inodes", each["free_inodes_percent"])):
            yield from _scarce("filesystems", percent, f"the {what} of {where} is free", EXHAUSTED_PERCENT)


def _memory(facts: _Facts) -> Iterator[Reason]:
    percent = facts["memory"]["available_percent"]
    yield from _scarce("memory", percent, "the memory is available", MEMORY_EXHAUSTED_PERCENT, next=MITIGATE)


def _scarce(
    rule: str, percent: float | None, what: str, exhausted_percent: int, *, next: str | None = None
) -> Iterator[Reason]:
    """Too few percent of something, where that is known; `next` is for when it is exhausted."""
    if percent is None or percent >= SCARCE_PERCENT:
        return
    exhausted = percent < exhausted_percent
    yield Reason(
        "P2" if exhausted else "P3",
        rule,
        f"{percent:g} % of {what}",
        f"{exhausted_percent if exhausted else SCARCE_PERCENT} % or more",
        escalate="resources are exhausted" if exhausted else None,
        next=next if exhausted else None,
    )


def _pressure(facts: _Facts) -> Iterator[Reason]:
    stalled = facts["pressure"].get("memory", {}).get("full", {}).get("avg60", 0)
    if stalled >= STALLED_PERCENT:
        yield Reason(
            "P2",
            "pressure",
            f"everything waited for memory for {stalled:g} % of the last minute",
            f"below {STALLED_PERCENT} %",
            escalate="resources are exhausted",
            next=MITIGATE,
        )


def _limits(facts: _Facts) -> Iterator[Reason]:
    found = facts["limits"]
    if found is None or found["open_files_limit"] is None:
        return
    limit, used, expected = found["open_files_limit"], found["open_files"], found["open_files_expected"]
    if 100 * used >= OPEN_FILES_PERCENT * limit:
        yield Reason(
            "P2",
            "limits",
            f"{used} of {limit} files are open",
            f"below {OPEN_FILES_PERCENT} %",
            escalate="resources are exhausted",
            next=RESTART,
        )
    if limit < min(expected, FEWEST_OPEN_FILES):
        seen = f"the process may open {limit} files"
        yield Reason("P2", "limits", seen, f"{expected} of the release's unit", next=DEPLOY)
    elif limit < expected:
        seen = f"the process may open {limit} files"
        yield Reason("P3", "limits", seen, f"{expected} of the release's unit", next=DEPLOY)


def _gpu(facts: _Facts) -> Iterator[Reason]:
    found = facts["gpu"]
    if found is None:
        return
    if found["trouble"]:
        # No driver that is installed anew brings these back.
        escalate = _GPU_GONE.get(found["trouble"])
        yield Reason(
            "P1",
            "gpu",
            f"nvidia-smi: {found['words']}",
            f"{found['devices']} devices that answer",
            escalate=escalate,
            next=None if escalate else DRIVER,
        )
    elif len(found["cards"]) < found["devices"]:
        seen = f"the driver names {len(found['cards'])} of {found['devices']} GPUs"
        yield Reason("P2", "gpu", seen, "all that are on the bus", next=DRIVER)
    if found["unread"]:
        yield _unknown("gpu", f"nvidia-smi -q: {found['unread']}")
    for each in found["conditions"]:
        yield from _gpu_heat(each)
        yield from _gpu_memory(each)
        if each["recovery"]:
            yield Reason(
                "P2",
                "gpu",
                f"the driver asks of {each['address']}: {each['recovery']}",
                "nothing",
                escalate="the GPU reports a hardware fault",
            )
    for xid in found["xids"]:
        if xid["fatal"]:
            seen = f"Xid {xid['code']} of {xid['device']}, {xid['count']} times: {xid['text']}"
            yield Reason(
                "P2",
                "gpu",
                f"{seen}; it needs: {xid['action']}",
                "none that needs more than a restart of the service",
                escalate="the GPU reports a hardware fault",
            )


def _gpu_heat(card: Mapping[str, Any]) -> Iterator[Reason]:
    degrees, where = card["temperature"], card["address"]
    limits: tuple[tuple[str, Level, str], ...] = (
        ("slow_at", "P2", "its hardware slows it down"),
        ("warm_at", "P3", "it is to be no warmer"),
    )
    for name, level, words in limits:
        limit = card[name]
        if degrees is not None and limit is not None and degrees >= limit:
            step = MITIGATE if level == "P2" else None
            seen = f"{where} has {degrees} °C; at {limit} °C {words}"
            yield Reason(level, "gpu", seen, f"below {limit} °C", next=step)
            break
    if card["slowed"]:
        by_hardware = any(name.startswith("hw_") for name in card["slowed"])
        yield Reason(
            "P2" if by_hardware else "P3",
            "gpu",
            f"{where} is slowed down by {' and '.join(SLOWDOWNS[name] for name in card['slowed'])}",
            "by nothing",
            next=MITIGATE if by_hardware else None,
        )


def _gpu_memory(card: Mapping[str, Any]) -> Iterator[Reason]:
    # An engine takes its memory when it starts; `nvidia-smi` names who else has some.
    what = f"the memory of {card['address']} is free"
    yield from _scarce("gpu", card["free_percent"], what, MEMORY_EXHAUSTED_PERCENT)


_RULES: dict[str, tuple[tuple[str, ...], _Rule]] = {
    "unit": (("unit",), _unit),
    "release": (("release",), _release),
    "security_mode": (("security",), _security),
    "refused_logins": (("traffic",), _refused_logins),
    "config": (("config",), _config),
    "health": (("health",), _health),
    "ready": (("ready",), _ready),
    "fails_again": (("runs",), _fails_again),
    "engine_failures": (("engine_journal",), _engine_failures),
    "engines": (("processes", "unit"), _engines),
    "engine_up": (("traffic",), _engine_up),
    "probe": (("probe",), _probe),
    "error_rate": (("traffic",), _error_rate),
    "performance": ((), _performance),
    "limits": (("limits",), _limits),
    "filesystems": (("filesystems",), _filesystems),
    "memory": (("memory",), _memory),
    "pressure": (("pressure",), _pressure),
    "gpu": (("gpu",), _gpu),
    "cache": (("journal",), _cache),
    "logged_errors": (("journal",), _logged),
}


def _isolating(suspicious: Sequence[Reason]) -> str | None:
    """The playbook for a host that is evidence: what its mode says, or what puts it into the mode."""
    modes = [reason for reason in suspicious if reason.rule == "security_mode"]
    return (modes or suspicious)[0].next


def _next(facts: _Facts, reasons: Sequence[Reason]) -> str | None:
    """The playbook for the worst reason; the way back instead of a restart after a recent switch."""
    if any(reason.rule == "filesystems" and reason.level == "P2" for reason in reasons):
        # The procedures refuse where the service could not write: an engine would not come up again.
        return None
    steps = [reason.next for reason in reasons if reason.next]
    again = any(reason.rule == "fails_again" and reason.level != "unknown" for reason in reasons)
    if not steps and not again:
        undecided = any(reason.level == "unknown" for reason in reasons)
        return "validate.yml" if undecided else None
    step = steps[0] if steps else FORCE
    severe = rank(reasons[0].level) >= rank("P1")
    if step in (RESTART, FORCE) and severe and (way_back := _way_back(facts, again=again)):
        return f"rollback.yml -e release={way_back}"
    return step


def _way_back(facts: _Facts, *, again: bool) -> str | None:
    if not facts.known("history"):
        return None
    history = facts["history"]
    switch = history["switch"]
    recent = bool(switch) and switch["seconds_ago"] <= RECENT_SWITCH_SECONDS
    return history["way_back"] if recent or again else None


def _changes(facts: _Facts) -> Iterator[str]:
    if facts.known("security") and (mode := facts["security"]["mode"]):
        yield f"{mode['since']} security mode by {mode['who']} ({mode['why']})"[:200]
    if facts.known("history"):
        for record in facts["history"]["records"]:
            what = f"found {record['verdict']}" if record["verdict"] else "switched to"
            yield f"{record['at']} {what} {record['release']} by {record['who']} ({record['why']})"[:200]
    if facts.known("unit"):
        unit = facts["unit"]
        if unit["started_at"] is not None:
            at = timestamps.stamp(unit["started_at"])
            yield f"{at} the service was started; systemd restarted it {unit['restarts']} times"
        for path in unit["drop_ins"]:
            yield f"the unit is changed by {path}"
    if facts.known("health") and (overlay := facts["health"]["body"].get("overlay")):
        words = ", ".join(f"{key} {value}" for key, value in overlay.items())
        yield f"an overlay is in effect: {words}"
    if facts.known("packages") and (packages := facts["packages"]):
        more = f" and {len(packages) - 5} more" if len(packages) > 5 else ""
        yield f"packages installed or upgraded in the last 24 hours: {', '.join(packages[:5])}{more}"


def _notes(facts: _Facts) -> Iterator[str]:
    yield _traffic_note(facts)
    if facts.known("pressure") and (absent := facts["pressure"].get("absent")):
        yield f"pressure is not accounted here ({absent})"
    if facts.known("processes"):
        for hog in _hogs(facts):
            yield f"{hog['unit']} ({hog['name']}) takes {hog['cpu_percent']:g} % of a processor"
        if any(_attempt(rule, facts) for rule in (_memory, _pressure)):
            for unit, name, size in _largest(facts)[:MEMORY_CONSUMERS_SHOWN]:
                yield f"{unit} ({name}) holds {size / (1 << 20):.0f} MB of memory"


def _traffic_note(facts: _Facts) -> str:
    """The requests of others, how fast and from where analyses were answered; what is not known, and why."""
    if not facts.known("traffic"):
        return f"requests, latency and hit rate unknown: {facts.why('traffic')}"
    seen = facts["traffic"]
    if not seen["served"]:
        return f"requests, latency and hit rate unknown: /metrics {seen['why']}"
    requests, latency, hit_rate = seen["requests"], seen["latency_seconds"], seen["hit_rate"]
    if requests is None:
        words = "requests unknown: katago_requests_total is missing or NaN"
    else:
        judged, failed = _foreign(requests, _own(facts))
        words = f"{judged:g} requests of others in {seen['seconds']:.0f} s, {failed:g} failed"
    if latency is None:
        words += f"; latency unknown: {_no_latency(seen['analyses'])}"
    else:
        words += f"; analyses p50 {latency['p50']:.2f} s, p95 {latency['p95']:.2f} s"
    if hit_rate is None:
        return f"{words}; hit rate unknown: the cache was not asked in the window"
    return f"{words}; {100 * hit_rate:.0f} % from the cache"


def _no_latency(analyses: float | None) -> str:
    if analyses is None:
        return "katago_analysis_duration_seconds is NaN"
    return "no analyses in the window"


def _system_note(facts: _Facts) -> Iterator[str]:
    if facts.known("system") and (warning := facts["system"]["untested"]):
        yield warning


def _gpu_notes(facts: _Facts) -> Iterator[str]:
    found = facts["gpu"] if facts.known("gpu") else None
    for card in found["cards"] if found else ():
        temperature = "unknown" if card["temperature"] is None else f"{card['temperature']} °C"
        memory = f"{card['memory_used_mb']} of {card['memory_mb']} MB"
        yield f"{card['name']}: {temperature}, {memory} of its memory used, driver {card['driver']}"
    yield from found["notes"] if found else ()
    for each in found["conditions"] if found else ():
        if each["temperature"] is None or each["slow_at"] is None:
            yield f"{each['address']} does not tell at what temperature it slows down, or how warm it is"
    for xid in found["xids"] if found else ():
        if not xid["fatal"]:
            yield f"Xid {xid['code']} of {xid['device']}, {xid['count']} times: {xid['text']}"


def _performance_notes(facts: _Facts) -> Iterator[str]:
    if why := _incomparable(facts):
        yield f"performance is unknown: {why}"
    elif figures := _compared(facts):
        yield f"a probe takes {figures[0]:.3f} s, at the baseline {figures[1]:.3f} s"


def _skew(facts: _Facts, now: datetime) -> Iterator[str]:
    if facts.known("clock"):
        skew = facts["clock"] - now.timestamp()
        # Measured while the checks ran, so a few seconds behind.
        if abs(skew) > SKEW_SECONDS:
            yield f"its clock differs from this machine's by {skew:+.0f} s"


def _hogs(facts: _Facts) -> list[dict[str, Any]]:
    processes = facts["processes"]
    bound = HOG_PERCENT_OF_HOST * processes["processors"]
    return [each for each in processes["others"] if each["cpu_percent"] >= bound]


def _largest(facts: _Facts) -> list[tuple[str, str, int]]:
    """The units with the most memory, the service's own among them: name, its largest process, bytes."""
    own = facts["processes"]["unit"]
    units = [(each["unit"], each["largest"], each["memory_bytes"]) for each in facts["processes"]["others"]]
    if own:
        largest = max(own["processes"], key=lambda each: each["memory_bytes"])
        units.append((own["unit"], largest["name"], own["memory_bytes"]))
    return sorted(units, key=lambda each: -each[2])


def _proposals(facts: _Facts) -> Iterator[str]:
    if facts.known("filesystems") and facts.known("consumers"):
        yield from _room(facts)
    if facts.known("processes"):
        for hog in _hogs(facts):
            if hog["unit"].endswith((".service", ".scope")):
                yield f"systemctl set-property --runtime {hog['unit']} CPUWeight=20"
    if facts.known("memory") and facts["memory"]["available_percent"] < SCARCE_PERCENT:
        size = facts["traffic"].get("cache_max_bytes") if facts.known("traffic") else None
        if size:
            mb = int(size) >> 20
            yield f"-katago_mcp_cache_size_mb: {mb}\n+katago_mcp_cache_size_mb: {max(1, mb // 2)}"
    if facts.known("limits") and facts["limits"] and facts.known("unit"):
        limit = facts["limits"]["open_files_limit"]
        if limit is not None and limit < facts["limits"]["open_files_expected"]:
            for path in facts["unit"]["drop_ins"]:
                yield f"look at {path}; without it: rm {path} && systemctl daemon-reload"


def _room(facts: _Facts) -> Iterator[str]:
    """What takes the room of the file systems that have little left, and how it is made."""
    scarce = {
        each["device"]
        for each in facts["filesystems"]
        for percent in (each["free_percent"], each["free_inodes_percent"])
        if percent is not None and percent < SCARCE_PERCENT
    }
    on_them = [each for each in facts["consumers"] if each["device"] in scarce and each["inodes"]]
    for each in on_them[:CONSUMERS_SHOWN]:
        size = f"{each['bytes'] / (1 << 20):.0f} MB in {each['inodes']} files"
        yield f"{each['path']} takes {size}: {ROOM[each['path']]}"


def _attempt(describe: Callable[..., Iterator[_Told]], *arguments: Any) -> list[_Told]:
    """What a description says; one that trips over a fact it does not know says nothing."""
    try:
        return list(describe(*arguments))
    except _UNFIT:
        return []


def _described(facts: _Facts, *descriptions: Callable[[_Facts], Iterator[str]]) -> list[str]:
    return [note for describe in descriptions for note in _attempt(describe, facts)]
