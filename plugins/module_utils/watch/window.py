"""Whether a service that was mended stays well: a window of samples that every breach begins anew.

Pure: samples in, verdict out. Time is the seconds since the host was started (CLOCK_BOOTTIME), so a clock
that is set decides nothing. Figures are judged by the rules of triage. What was not seen is unknown, ends
the window like a breach, and is never recovered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.service import metrics
from ansible_collections.katago.fleet.plugins.module_utils.severity import Level, rank
from ansible_collections.katago.fleet.plugins.module_utils.triage import rules

Result = Literal["recovered", "watching", "breached", "unknown"]
Identity = tuple[object, object, object]

MOST_MINUTES = 120
CLIENT_SECONDS = 20
WINDOWS_AT_MOST = 4
# As many as triage asks for: the median of fewer cannot be told from noise.
PROBES_COMPARED = 5
CLOCK_SECONDS = 30
LONGEST_WORDS = 300

# Rules of triage that look at one sample, and at all of a window.
_OF_SAMPLE = ("unit", "health", "ready")
_OF_WINDOW = ("error_rate", "engine_up", "cache")
# Slower by less than this level's percentage is told, and no breach.
_SLOWER: Level = "P2"
# The counter of given up operations says of a window what the journal would.
_QUIET_JOURNAL = {"journal": {"value": {"cache_trouble": None}}}


@dataclass(frozen=True)
class Terms:
    """What is asked of a window.

    `minutes`: its length. `interval`, `patience`: seconds from sample to sample, and for a sample's checks.
    `fewest_requests`: requests that count, its own analyses among them. `probes`: whether a sample has
    analyses made, one of them with `visits`, the baseline's number.
    """

    minutes: int
    interval: int = 30
    patience: int = 30
    fewest_requests: int = 20
    probes: bool = True
    visits: int = 32

    @property
    def seconds(self) -> float:
        """The window's length."""
        return 60.0 * self.minutes

    @property
    def longest_gap(self) -> float:
        """Seconds between two samples that still count as watched."""
        return 2.0 * self.interval

    @property
    def longest_sample(self) -> float:
        """Seconds beyond all deadlines of a sample's checks."""
        return 2.0 * self.patience + CLIENT_SECONDS

    @property
    def at_most(self) -> float:
        """Seconds after which the sampler gives up."""
        return WINDOWS_AT_MOST * self.seconds


@dataclass(frozen=True)
class Sample:
    """What was measured from `began` to `ended`, in seconds since the boot; `at` by the host's clock, UTC.

    `facts`: entries with `value`, or `unknown` and the reason. As triage has them: `unit`, `health`,
    `ready`, `baseline`, `probe`. Besides: `release` that runs; `metrics` with `served`, `requests` by
    their ends, `engine_up`, `engine_restarts`, `cache_errors`; `validation` with `failures` and, in
    `own`, the status that the server counts each of its requests by.
    """

    began: float
    ended: float
    at: str
    facts: Mapping[str, Mapping[str, Any]]

    def value(self, name: str) -> Any:
        """A fact that is known."""
        return self.facts[name]["value"]


@dataclass(frozen=True)
class Reset:
    """Why a window ended before its time; `began_anew` when the next one began, empty for not yet."""

    at: str
    kind: Literal["breach", "unknown"]
    why: str
    began_anew: str = ""


@dataclass(frozen=True)
class Watched:
    """All that a host has of a watch: what its file tells.

    `begun`: seconds since the boot. `over`: why the sampler ended, empty while it works.
    """

    terms: Terms
    begun: float
    begun_at: str
    who: str
    incident: str
    rebooted: bool
    samples: tuple[Sample, ...]
    over: str


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


def identity(facts: Mapping[str, Mapping[str, Any]]) -> Identity:
    """What makes a service another one: its process and when it was started, release, lowered limits."""
    unit = facts.get("unit", {}).get("value", {})
    health = facts.get("health", {}).get("value", {}).get("body", {})
    # A list, as a file of JSON lines gives it back.
    process = [unit.get("pid"), unit.get("started_at")]
    return process, facts.get("release", {}).get("value"), health.get("lowered")


def as_dict(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain values."""
    return asdict(verdict)


def header(terms: Terms, *, begun: float, who: str, incident: str, rebooted: bool) -> dict[str, Any]:
    """The first line of a watch's file."""
    return {
        "event": "begun",
        "begun": begun,
        "terms": asdict(terms),
        "who": who,
        "incident": incident,
        "rebooted": rebooted,
    }


def as_line(sample: Sample) -> dict[str, Any]:
    """A sample's line."""
    return {"event": "sample", **asdict(sample)}


def read(content: bytes) -> Watched:
    """What a watch's file tells; a last line that was cut short is left out.

    Raises ValueError, KeyError or TypeError when it is no such file, or damaged.
    """
    first, *lines = [json.loads(line) for line in content.split(b"\n")[:-1]]
    if first["event"] != "begun":
        raise ValueError(f"it begins with {first['event']!r}")
    names = ("began", "ended", "at", "facts")
    return Watched(
        terms=Terms(**first["terms"]),
        begun=float(first["begun"]),
        begun_at=str(first["at"]),
        who=str(first["who"]),
        incident=str(first["incident"]),
        rebooted=bool(first["rebooted"]),
        samples=tuple(
            Sample(**{name: line[name] for name in names}) for line in lines if line["event"] == "sample"
        ),
        over=next((str(line["why"]) for line in lines if line["event"] == "over"), ""),
    )


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
    facts = {**sample.facts, **_QUIET_JOURNAL, "traffic": _traffic(sample, sample), "probe": {}}
    reasons = sorted(rules.examine(facts, [*_OF_SAMPLE, *_OF_WINDOW]), key=lambda each: -rank(each.level))
    ill = [reason.measured for reason in reasons if reason.level != "unknown"]
    unknown = [f"{reason.rule}: {reason.measured}" for reason in reasons if reason.level == "unknown"]
    if "value" not in sample.facts.get("release", {}):
        unknown.append("release: which one runs was not seen")
    if terms.probes:
        checked = sample.facts.get("validation", {"unknown": "was not made"})
        ill += [] if "unknown" in checked else checked["value"]["failures"]
        unknown += [f"validation: {checked['unknown']}"] if "unknown" in checked else []
    seen = sample.facts.get("metrics", {}).get("value", {})
    if seen.get("served") and seen["engine_restarts"] is None:
        unknown.append("katago_engine_restarts_total is NaN")
    if sample.ended - sample.began > terms.longest_sample:
        unknown.append(f"the sample took {sample.ended - sample.began:.0f} s")
    if ill:
        return "breach", _first(ill)
    return ("unknown", _first(unknown)) if unknown else None


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
    facts = {**sample.facts, **_QUIET_JOURNAL, "traffic": _traffic(first, sample)}
    facts["probe"] = {"value": {"answers": list(_own([*window.samples[1:], sample]))}}
    ill = rules.examine(facts, _OF_WINDOW)
    slow = rules.examine(_probed([*window.samples, sample]), ["performance"])
    ill += [each for each in slow if rank(each.level) >= rank(_SLOWER)]
    kind: Literal["breach", "unknown"] = "unknown"
    if any(each.level != "unknown" for each in ill):
        kind = "breach"
    return (kind, _first([each.measured for each in ill])) if ill else None


def _first(words: Sequence[str]) -> str:
    """The worst of what was seen, and how much more there is."""
    return words[0] if len(words) == 1 else f"{words[0]} (and {len(words) - 1} more)"


def _changes(before: Sample, after: Sample) -> Iterator[str]:
    process, release, limits = identity(before.facts)
    process_now, release_now, limits_now = identity(after.facts)
    if release_now != release:
        yield f"the release changed from {release} to {release_now}"
    elif process_now != process:
        yield "the service was restarted"
    if limits_now != limits:
        yield f"the limits changed: {limits_now or 'they are the configured ones again'}"
    ends = after.value("metrics")["engine_restarts"] - before.value("metrics")["engine_restarts"]
    if process_now == process and ends > 0:
        yield f"the engine was restarted ({ends:g} times)"


def _traffic(first: Sample, last: Sample) -> dict[str, Any]:
    """The entry of triage's `traffic` from one sample to another of the same process."""
    entry = last.facts.get("metrics", {"unknown": "it was not measured"})
    if "unknown" in entry:
        return dict(entry)
    after, before = entry["value"], first.value("metrics")
    if not after["served"]:
        return {"value": after}
    requests = after["requests"]
    if requests is not None:
        requests = {status: count - before["requests"].get(status, 0) for status, count in requests.items()}
    errors = after["cache_errors"]
    return {
        "value": {
            **after,
            "seconds": last.ended - first.ended,
            "requests": requests,
            "cache_errors": None if errors is None else errors - (before["cache_errors"] or 0),
        }
    }


def _own(samples: Iterable[Sample]) -> Iterator[dict[str, Any]]:
    """The sampler's own requests among all, by their ends."""
    for sample in samples:
        for status in sample.facts.get("validation", {}).get("value", {}).get("own", ()):
            yield {"status": status}


def _probed(samples: Sequence[Sample]) -> dict[str, dict[str, Any]]:
    """The facts that the rule of performance looks at: the newest probes, none while they are too few."""
    answers = [
        answer
        for sample in samples[-PROBES_COMPARED:]
        for answer in sample.facts.get("probe", {}).get("value", {}).get("answers", ())
    ]
    facts = {"baseline": dict(samples[-1].facts.get("baseline", {"unknown": "it was not measured"}))}
    if len(answers) >= PROBES_COMPARED:
        facts["probe"] = {"value": {"answers": answers}}
    return facts


def _requests(window: _Window) -> float:
    if len(window.samples) < 2:
        return 0.0
    seen = _traffic(window.samples[0], window.samples[-1])
    return metrics.judged(seen["value"]["requests"])


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
    if lowered := identity(last.facts)[2]:
        yield str(lowered)
    yield from rules.performance_notes(_probed(samples))
    jump = (_seconds(last.at) - _seconds(first.at)) - (last.ended - first.ended)
    if abs(jump) > CLOCK_SECONDS:
        yield f"its clock was set by {jump:+.0f} s meanwhile, which does not count"


def _seconds(at: str) -> float:
    return timestamps.parse(at).timestamp()
