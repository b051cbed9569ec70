"""Decides whether a repaired service stays healthy: a window of samples, restarted by every breach.

Pure: samples in, verdict out. The rules of triage judge the samples. A missing or unknown sample restarts the
window like a breach, so unknown never becomes recovered.
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
# The number of triage's probes. The median of fewer cannot be distinguished from noise.
PROBES_COMPARED = 5
CLOCK_SECONDS = 30
LONGEST_REASON = 300

# A slowdown below this level is shown in a note and is no breach.
_SLOWER: Level = "P2"


@dataclass(frozen=True)
class Identity:
    """What identifies a service: its process (PID and start time), its release, the lowered limits."""

    process: tuple[int, float | None] | None
    release: str | None
    lowered: object


@dataclass(frozen=True)
class Reset:
    """Why a window was restarted. `began_anew`: when the next window started, empty if it has not yet."""

    at: str
    kind: Literal["breach", "unknown"]
    why: str
    began_anew: str = ""


@dataclass(frozen=True)
class Verdict:
    """The verdict on a host.

    `began`, `ended`: of the window, in seconds since the boot; None without a window. `left`: remaining
    seconds. `requests`: the requests that count. `resets`: why earlier windows were restarted, newest last.
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
    """The verdict on the samples until `now`, in seconds since the boot. `alive`: the sampler is running."""
    terms = watched.terms
    window = _Window()
    if watched.rebooted:
        window.resets.append(Reset(watched.begun_at, "unknown", "the host was rebooted"))
    for sample in watched.samples:
        _add(window, sample, terms)
        if _is_full(window, terms):
            since, until = window.samples[0].at, sample.at
            period = f"{_minutes(window.span)} ({since} to {until})"
            why = f"healthy for {period}, with {_requests(window):g} requests"
            return _verdict("recovered", why, window, terms)
    last = watched.samples[-1] if watched.samples else None
    if watched.over:
        return _verdict(_result_without_recovery(window), f"{watched.over}{_newest(window)}", window, terms)
    if not alive:
        progress = f"it took its last sample at {last.at}" if last else "it took no sample"
        return _verdict("unknown", f"the sampler is not running; {progress}", window, terms)
    silent = now - (last.ended if last else watched.begun)
    if silent > terms.longest_gap + terms.longest_sample:
        return _verdict("unknown", f"no sample for {silent:.0f} s", window, terms)
    if silent < 0:
        return _verdict("unknown", "the host was rebooted after the last sample", window, terms)
    if not window.samples and window.resets and window.resets[-1].kind == "unknown" and last:
        return _verdict("unknown", window.resets[-1].why, window, terms)
    if window.span >= terms.seconds:
        counted = f"{_requests(window):g} of {terms.fewest_requests} requests"
        why = f"healthy for {_minutes(window.span)}, but with too little traffic: {counted}"
        return _verdict("unknown", why, window, terms)
    if breaches := [reset for reset in window.resets if reset.kind == "breach"]:
        newest = breaches[-1]
        state = f"restarted at {newest.began_anew}" if newest.began_anew else "has not restarted yet"
        return _verdict("breached", f"{newest.at} {newest.why}; the window {state}", window, terms)
    return _verdict("watching", f"healthy for {_minutes(window.span)}{_newest(window)}", window, terms)


def may_join(watched: Watched, verdict: Verdict, *, now: float, running: Identity) -> bool:
    """Whether the verdict `recovered` still applies: it is recent, and the same service is running."""
    if verdict.verdict != "recovered" or verdict.ended is None:
        return False
    recent = 0 <= now - verdict.ended <= watched.terms.seconds
    return recent and identity(watched.samples[-1].facts) == running


def identity(facts: Facts) -> Identity:
    """The identity of the sampled service; None for a fact that is unknown."""
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
    """Add a sample to the window, or restart the window. An unhealthy sample does not start a new window."""
    reset = _fault_in(sample, terms)
    may_start = reset is None
    if reset is None:
        reset = _fault_between(window, sample, terms)
    if reset is None:
        window.samples.append(sample)
    else:
        window.samples = [sample] if may_start else []
        _record(window.resets, Reset(sample.at, reset[0], reset[1][:LONGEST_REASON]))
    if len(window.samples) == 1 and window.resets and not window.resets[-1].began_anew:
        window.resets[-1] = replace(window.resets[-1], began_anew=sample.at)


def _record(resets: list[Reset], reset: Reset) -> None:
    """Add a reset, unless it continues the newest one."""
    continues = bool(resets) and not resets[-1].began_anew and resets[-1].kind in ("breach", reset.kind)
    if not continues:
        resets.append(reset)


_Fault = tuple[Literal["breach", "unknown"], str]


def _fault_in(sample: Sample, terms: Terms) -> _Fault | None:
    """The fault of a single sample: a breach, or else something unknown; None if it is healthy."""
    values = sample.facts.values
    reasons = sorted(_reasons(sample.facts), key=lambda each: -rank(each.level))
    breaches = [reason.measured for reason in reasons if reason.level != "unknown"]
    needed = ["unit", "health", "ready", "metrics", "release", *(["validation"] if terms.probes else [])]
    unknown = [f"{name}: {sample.facts.why(name)}" for name in needed if name not in values]
    unknown += [f"{reason.rule}: {reason.measured}" for reason in reasons if reason.level == "unknown"]
    if terms.probes and "validation" in values:
        breaches += values["validation"]["failures"]
    scraped = values.get("metrics")
    if scraped and scraped["served"] and scraped["engine_restarts"] is None:
        unknown.append("katago_engine_restarts_total is NaN")
    if sample.ended - sample.began > terms.longest_sample:
        taken = sample.ended - sample.began
        unknown.append(f"the sample took {taken:.0f} s; at most {terms.longest_sample:.0f} s are allowed")
    if breaches:
        return "breach", _first(breaches)
    return ("unknown", _first(unknown)) if unknown else None


def _reasons(facts: Facts) -> Iterator[Reason]:
    """The findings of the triage rules on a sample. Unknown facts yield none."""
    values = facts.values
    if "unit" in values:
        yield from rules_service.unit(values["unit"])
    if "health" in values:
        yield from rules_service.health(values["health"])
    if "ready" in values:
        yield from rules_service.ready(values["ready"])
    if "metrics" in values:
        scraped = values["metrics"]
        if scraped["served"]:
            yield from _judged(_traffic(scraped, scraped, 0.0), [])
        else:
            yield from _judged({"served": False, "why": scraped["why"]}, [])


def _judged(traffic: Traffic, own: Sequence[str]) -> Iterator[Reason]:
    """The findings of the triage rules on the traffic. `own`: the statuses of the sampler's own requests."""
    yield from rules_traffic.error_rate(traffic, own)
    yield from rules_engine.engine_up(traffic)
    # The counter of failed cache operations replaces the journal, which the sampler does not read.
    yield from rules_service.cache(None, traffic)


def _fault_between(window: _Window, sample: Sample, terms: Terms) -> _Fault | None:
    """The fault that shows only together with the window's earlier samples; None if there is none."""
    if not window.samples:
        return None
    first, last = window.samples[0], window.samples[-1]
    if sample.began < last.ended:
        return "unknown", "the host was rebooted between two samples"
    if (gap := sample.began - last.ended) > terms.longest_gap:
        return "unknown", f"no sample for {gap:.0f} s"
    if changed := list(_changes(last, sample)):
        return "breach", _first(changed)
    own = [status for each in [*window.samples[1:], sample] for status in _own(each)]
    traffic = _traffic(_served(first), _served(sample), sample.ended - first.ended)
    reasons = list(_judged(traffic, own))
    samples = [*window.samples, sample]
    if "baseline" in sample.facts.values:
        slow = rules_speed.slower(sample.facts.values["baseline"], _probed(samples))
        reasons += [each for each in slow if rank(each.level) >= rank(_SLOWER)]
    kind: Literal["breach", "unknown"] = "unknown"
    if any(each.level != "unknown" for each in reasons):
        kind = "breach"
    return (kind, _first([each.measured for each in reasons])) if reasons else None


def _first(faults: Sequence[str]) -> str:
    """The worst fault, and the number of the others."""
    return faults[0] if len(faults) == 1 else f"{faults[0]} (and {len(faults) - 1} more)"


def _changes(before: Sample, after: Sample) -> Iterator[str]:
    was, now = identity(before.facts), identity(after.facts)
    if now.release != was.release:
        yield f"the release changed from {was.release} to {now.release}"
    elif now.process != was.process:
        yield "the service was restarted"
    if now.lowered != was.lowered:
        yield f"the limits changed: {now.lowered or 'the configured limits are in effect again'}"
    restarts = (_served(after)["engine_restarts"] or 0) - (_served(before)["engine_restarts"] or 0)
    if now.process == was.process and restarts > 0:
        yield f"the engine was restarted ({restarts:g} times)"


def _served(sample: Sample) -> ServedMetrics:
    """The metrics of a healthy sample. Raises ValueError if the sample has none."""
    scraped = sample.facts.values["metrics"]
    if not scraped["served"]:
        raise ValueError(f"the sample of {sample.at} has no metrics")
    return scraped


def _traffic(before: ServedMetrics, after: ServedMetrics, seconds: float) -> ServedTraffic:
    """The traffic between two samples of the same process, as triage's rules read it.

    None for figures that these rules do not need.
    """
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
    """The newest probes, by which the speed is judged; [] while there are too few."""
    newest = [sample.facts.values for sample in samples[-PROBES_COMPARED:]]
    answers = [answer for values in newest if "probe" in values for answer in values["probe"]["answers"]]
    return answers if len(answers) >= PROBES_COMPARED else []


def _requests(window: _Window) -> float:
    if len(window.samples) < 2:
        return 0.0
    traffic = _traffic(_served(window.samples[0]), _served(window.samples[-1]), 0.0)
    return metrics.judged(traffic["requests"] or {})


def _is_full(window: _Window, terms: Terms) -> bool:
    return window.span >= terms.seconds and _requests(window) >= terms.fewest_requests


def _result_without_recovery(window: _Window) -> Result:
    return "breached" if any(reset.kind == "breach" for reset in window.resets) else "unknown"


def _newest(window: _Window) -> str:
    if not window.resets:
        return ""
    newest = window.resets[-1]
    return f"; last restart of the window: {newest.at} {newest.why}"


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
    if len(samples) > 1 and not _of_clients(samples):
        yield "no client requests in the window, so their error rate is unknown"
    jump = (_seconds(last.at) - _seconds(first.at)) - (last.ended - first.ended)
    if abs(jump) > CLOCK_SECONDS:
        yield f"the host's clock was changed by {jump:+.0f} s during the window, without effect on it"


def _of_clients(samples: Sequence[Sample]) -> float:
    """The number of client requests in a window that count."""
    traffic = _traffic(_served(samples[0]), _served(samples[-1]), 0.0)
    own = [status for each in samples[1:] for status in _own(each)]
    return rules_traffic.of_others(traffic["requests"] or {}, own)[0]


def _speed(samples: Sequence[Sample]) -> Iterator[str]:
    facts = samples[-1].facts
    if "baseline" not in facts.values:
        return rules_speed.note(facts.why("baseline"), None)
    baseline = facts.values["baseline"]
    return rules_speed.note(rules_speed.incomparable(baseline), baseline, _probed(samples))


def _seconds(at: str) -> float:
    return timestamps.parse(at).timestamp()
