"""Whether a service that was repaired stays well: a window of samples that every breach restarts.

Pure: samples in, verdict out. Figures are judged by the rules of triage. What was not seen is unknown, ends
the window like a breach, and is never recovered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.service import metrics
from ansible_collections.katago.fleet.plugins.module_utils.severity import Level, rank
from ansible_collections.katago.fleet.plugins.module_utils.triage import (
    rules_engine,
    rules_service,
    rules_speed,
    rules_traffic,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage.facts import (
    ServedTraffic,
    TimedAnswer,
    Traffic,
)
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason
from ansible_collections.katago.fleet.plugins.module_utils.watch.samples import (
    Facts,
    Sample,
    ServedMetrics,
    Terms,
    Watched,
)

Result = Literal["recovered", "watching", "breached", "unknown"]

MOST_MINUTES = 120
# As many as triage asks for: the median of fewer cannot be told from noise.
PROBES_COMPARED = 5
CLOCK_SECONDS = 30
LONGEST_WORDS = 300

# Slower by less than this level's percentage is told, and no breach.
_SLOWER: Level = "P2"


@dataclass(frozen=True)
class Identity:
    """What makes a service another one: its process, by number and start; its release; the lowered limits."""

    process: tuple[int, float | None] | None
    release: str | None
    lowered: object


@dataclass(frozen=True)
class Reset:
    """Why a window ended before its time; `began_anew` when the next one began, empty for not yet."""

    at: str
    kind: Literal["breach", "unknown"]
    why: str
    began_anew: str = ""


@dataclass(frozen=True)
class Verdict:
    """The verdict on a host.

    `began`, `ended`: of the window, in seconds since the boot, None without one. `left`: seconds that it
    lacks. `requests` that counted in it. `resets`: the windows before, the newest last.
    """

    verdict: Result
    why: str
    began: float | None = None
    ended: float | None = None
    began_at: str = ""
    left: float = 0.0
    requests: float = 0.0
    resets: tuple[Reset, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class _Window:
    samples: list[Sample] = field(default_factory=list)
    resets: list[Reset] = field(default_factory=list)

    @property
    def span(self) -> float:
        return self.samples[-1].ended - self.samples[0].ended if self.samples else 0.0


def judge(watched: Watched, *, now: float, alive: bool) -> Verdict:
    """The verdict on what was sampled until `now`, in seconds since the boot; `alive`: the sampler works."""
    terms = watched.terms
    window = _Window()
    if watched.rebooted:
        window.resets.append(Reset(watched.begun_at, "unknown", "the host was rebooted"))
    for sample in watched.samples:
        _add(window, sample, terms)
        if _is_full(window, terms):
            since, until = window.samples[0].at, sample.at
            why = f"well for {_minutes(window.span)}, {since} to {until}, with {_requests(window):g} requests"
            return _verdict("recovered", why, window, terms)
    last = watched.samples[-1] if watched.samples else None
    if watched.over:
        return _verdict(_left_with(window), f"{watched.over}{_newest(window)}", window, terms)
    if not alive:
        seen = f"its last sample is of {last.at}" if last else "it took no sample"
        return _verdict("unknown", f"the sampler does not run; {seen}", window, terms)
    silent = now - (last.ended if last else watched.begun)
    if silent > terms.longest_gap + terms.longest_sample:
        return _verdict("unknown", f"no sample for {silent:.0f} s", window, terms)
    if silent < 0:
        return _verdict("unknown", "its samples are of another boot", window, terms)
    if not window.samples and window.resets and window.resets[-1].kind == "unknown" and last:
        return _verdict("unknown", window.resets[-1].why, window, terms)
    if window.span >= terms.seconds:
        counted = f"{_requests(window):g} of {terms.fewest_requests} requests"
        why = f"well for {_minutes(window.span)}, but too quiet to tell: {counted}"
        return _verdict("unknown", why, window, terms)
    if breaches := [reset for reset in window.resets if reset.kind == "breach"]:
        newest = breaches[-1]
        anew = f"began anew {newest.began_anew}" if newest.began_anew else "has not begun anew yet"
        return _verdict("breached", f"{newest.at} {newest.why}; the window {anew}", window, terms)
    return _verdict("watching", f"well for {_minutes(window.span)}{_newest(window)}", window, terms)


def may_join(watched: Watched, verdict: Verdict, *, now: float, running: Identity) -> bool:
    """Whether a window that recovered still tells of now: not long ago, and of the service that runs."""
    if verdict.verdict != "recovered" or verdict.ended is None:
        return False
    recent = 0 <= now - verdict.ended <= watched.terms.seconds
    return recent and identity(watched.samples[-1].facts) == running


def identity(facts: Facts) -> Identity:
    """What identifies the service that a sample is of; None for what was not seen."""
    unit, health = facts.values.get("unit"), facts.values.get("health")
    return Identity(
        process=(unit["pid"], unit["started_at"]) if unit else None,
        release=facts.values.get("release"),
        lowered=health["body"].get("lowered") if health else None,
    )


def as_dict(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain values."""
    return asdict(verdict)


def _add(window: _Window, sample: Sample, terms: Terms) -> None:
    """Go on with a sample, or end the window: what is ill by itself is no beginning of a new one."""
    reset = _by_itself(sample, terms)
    begins = reset is None
    if reset is None:
        reset = _in_the_way(window, sample, terms)
    if reset is None:
        window.samples.append(sample)
    else:
        window.samples = [sample] if begins else []
        _note(window.resets, Reset(sample.at, reset[0], reset[1][:LONGEST_WORDS]))
    if len(window.samples) == 1 and window.resets and not window.resets[-1].began_anew:
        window.resets[-1] = replace(window.resets[-1], began_anew=sample.at)


def _note(resets: list[Reset], reset: Reset) -> None:
    """Add a reset, unless it only goes on with what the newest one began."""
    goes_on = bool(resets) and not resets[-1].began_anew and resets[-1].kind in ("breach", reset.kind)
    if not goes_on:
        resets.append(reset)


_Why = tuple[Literal["breach", "unknown"], str]


def _by_itself(sample: Sample, terms: Terms) -> _Why | None:
    """What is ill or unknown in a sample alone; what is ill says more than what is unknown."""
    values = sample.facts.values
    reasons = sorted(_reasons(sample.facts), key=lambda each: -rank(each.level))
    ill = [reason.measured for reason in reasons if reason.level != "unknown"]
    needed = ["unit", "health", "ready", "metrics", "release", *(["validation"] if terms.probes else [])]
    unknown = [f"{name}: {sample.facts.why(name)}" for name in needed if name not in values]
    unknown += [f"{reason.rule}: {reason.measured}" for reason in reasons if reason.level == "unknown"]
    if terms.probes and "validation" in values:
        ill += values["validation"]["failures"]
    seen = values.get("metrics")
    if seen and seen["served"] and seen["engine_restarts"] is None:
        unknown.append("katago_engine_restarts_total is NaN")
    if sample.ended - sample.began > terms.longest_sample:
        unknown.append(f"the sample took {sample.ended - sample.began:.0f} s")
    if ill:
        return "breach", _first(ill)
    return ("unknown", _first(unknown)) if unknown else None


def _reasons(facts: Facts) -> Iterator[Reason]:
    """What the rules of triage say of a sample; nothing of what is not known."""
    values = facts.values
    if "unit" in values:
        yield from rules_service.unit(values["unit"])
    if "health" in values:
        yield from rules_service.health(values["health"])
    if "ready" in values:
        yield from rules_service.ready(values["ready"])
    if "metrics" in values:
        seen = values["metrics"]
        if seen["served"]:
            yield from _judged(_traffic(seen, seen, 0.0), [])
        else:
            yield from _judged({"served": False, "why": seen["why"]}, [])


def _judged(traffic: Traffic, own: Sequence[str]) -> Iterator[Reason]:
    """What the rules of triage say of the traffic. `own`: the statuses of the sampler's own requests."""
    yield from rules_traffic.error_rate(traffic, own)
    yield from rules_engine.engine_up(traffic)
    # The counter of given up operations says of a window what the journal would.
    yield from rules_service.cache(None, traffic)


def _in_the_way(window: _Window, sample: Sample, terms: Terms) -> _Why | None:
    """What of the window and a sample that is well by itself do not belong together, or make an illness."""
    if not window.samples:
        return None
    first, last = window.samples[0], window.samples[-1]
    if sample.began < last.ended:
        return "unknown", "its samples are of two boots"
    if (gap := sample.began - last.ended) > terms.longest_gap:
        return "unknown", f"no sample for {gap:.0f} s"
    if changed := list(_changes(last, sample)):
        return "breach", _first(changed)
    own = [status for each in [*window.samples[1:], sample] for status in _own(each)]
    traffic = _traffic(_served(first), _served(sample), sample.ended - first.ended)
    ill = list(_judged(traffic, own))
    samples = [*window.samples, sample]
    if "baseline" in sample.facts.values:
        slow = rules_speed.slower(sample.facts.values["baseline"], _probed(samples))
        ill += [each for each in slow if rank(each.level) >= rank(_SLOWER)]
    kind: Literal["breach", "unknown"] = "unknown"
    if any(each.level != "unknown" for each in ill):
        kind = "breach"
    return (kind, _first([each.measured for each in ill])) if ill else None


def _first(words: Sequence[str]) -> str:
    """The worst of what was seen, and how much more there is."""
    return words[0] if len(words) == 1 else f"{words[0]} (and {len(words) - 1} more)"


def _changes(before: Sample, after: Sample) -> Iterator[str]:
    was, now = identity(before.facts), identity(after.facts)
    if now.release != was.release:
        yield f"the release changed from {was.release} to {now.release}"
    elif now.process != was.process:
        yield "the service was restarted"
    if now.lowered != was.lowered:
        yield f"the limits changed: {now.lowered or 'they are the configured ones again'}"
    ends = (_served(after)["engine_restarts"] or 0) - (_served(before)["engine_restarts"] or 0)
    if now.process == was.process and ends > 0:
        yield f"the engine was restarted ({ends:g} times)"


def _served(sample: Sample) -> ServedMetrics:
    """The metrics of a sample that is well by itself, so that there are some."""
    seen = sample.facts.values["metrics"]
    if not seen["served"]:
        raise ValueError(f"the sample of {sample.at} has no metrics")
    return seen


def _traffic(before: ServedMetrics, after: ServedMetrics, seconds: float) -> ServedTraffic:
    """Triage's traffic between two samples of the same process; None for what decides nothing here."""
    counted = before["requests"] or {}
    requests = after["requests"]
    if requests is not None:
        requests = {status: count - counted.get(status, 0) for status, count in requests.items()}
    errors = after["cache_errors"]
    return {
        "served": True,
        "seconds": seconds,
        "requests": requests,
        "engine_up": after["engine_up"],
        "cache_errors": None if errors is None else errors - (before["cache_errors"] or 0),
        "refused": None,
        "engine_failures": None,
        "engine_failures_since_start": None,
        "latency_seconds": None,
        "analyses": None,
        "hit_rate": None,
        "cache_bytes": None,
        "cache_max_bytes": None,
        "overlay_active": None,
    }


def _own(sample: Sample) -> list[str]:
    """The statuses of the sampler's own requests."""
    values = sample.facts.values
    return values["validation"]["own"] if "validation" in values else []


def _probed(samples: Sequence[Sample]) -> list[TimedAnswer]:
    """The newest probes, which the speed is judged by; none while they are too few."""
    newest = [sample.facts.values for sample in samples[-PROBES_COMPARED:]]
    answers = [answer for values in newest if "probe" in values for answer in values["probe"]["answers"]]
    return answers if len(answers) >= PROBES_COMPARED else []


def _requests(window: _Window) -> float:
    if len(window.samples) < 2:
        return 0.0
    seen = _traffic(_served(window.samples[0]), _served(window.samples[-1]), 0.0)
    return metrics.judged(seen["requests"] or {})


def _is_full(window: _Window, terms: Terms) -> bool:
    return window.span >= terms.seconds and _requests(window) >= terms.fewest_requests


def _left_with(window: _Window) -> Result:
    return "breached" if any(reset.kind == "breach" for reset in window.resets) else "unknown"


def _newest(window: _Window) -> str:
    return f"; last {window.resets[-1].at} {window.resets[-1].why}" if window.resets else ""


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def _verdict(result: Result, why: str, window: _Window, terms: Terms) -> Verdict:
    samples = window.samples
    return Verdict(
        verdict=result,
        why=why,
        began=samples[0].began if samples else None,
        ended=samples[-1].ended if samples else None,
        began_at=samples[0].at if samples else "",
        left=max(0.0, terms.seconds - window.span),
        requests=_requests(window),
        resets=tuple(window.resets),
        notes=tuple(_notes(samples)),
    )


def _notes(samples: Sequence[Sample]) -> Iterator[str]:
    if not samples:
        return
    first, last = samples[0], samples[-1]
    if lowered := identity(last.facts).lowered:
        yield str(lowered)
    yield from _speed(samples)
    jump = (_seconds(last.at) - _seconds(first.at)) - (last.ended - first.ended)
    if abs(jump) > CLOCK_SECONDS:
        yield f"its clock was set by {jump:+.0f} s meanwhile, which does not count"


def _speed(samples: Sequence[Sample]) -> Iterator[str]:
    facts = samples[-1].facts
    if "baseline" not in facts.values:
        return rules_speed.note(facts.why("baseline"), None)
    baseline = facts.values["baseline"]
    return rules_speed.note(
        rules_speed.incomparable(baseline), rules_speed.compared(baseline, _probed(samples))
    )


def _seconds(at: str) -> float:
    return timestamps.parse(at).timestamp()
