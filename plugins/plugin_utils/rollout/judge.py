"""Judges the soak of a canary, by samples of it and of hosts that were not switched. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from typing import Any, Literal

from ansible_collections.katago.fleet.plugins.module_utils.procedure import host_lock
from ansible_collections.katago.fleet.plugins.module_utils.rollout.sample import Probe, Sample
from ansible_collections.katago.fleet.plugins.module_utils.service import metrics

FEWEST_PROBES = 5
FEWEST_REQUESTS = 20
"""Of clients. Fewer say nothing about a share or a median."""
FEWEST_FAILED = 3
ERROR_MARGIN = 0.05
TIMES = 2.0
"""A canary fails too often if the share of a kind of failure is `ERROR_MARGIN` above the others' and `TIMES`
theirs."""
LEAST_SECONDS = 0.2
"""A canary is slow if its median is `TIMES` the others', and at least this many seconds above it."""
BUSY = "busy"
"""Failures that load causes, on any release. They are judged only by comparison."""
_KINDS = {"ok": "wrong answer", "rejected": BUSY, "timeout": BUSY, "unknown": "no answer"}
"""Statuses of calls that failed, and the kind of failure if it has another name."""

State = Literal["passed", "failed", "undecided", "unknown"]


@dataclass(frozen=True)
class Calls:
    """Calls of one source: those that count, those that failed by kind, the median seconds of the others."""

    number: float
    failed: Mapping[str, float]
    seconds: float | None

    def share(self, kind: str) -> float:
        """The share of the calls that failed in this way, 0 to 1."""
        return self.failed.get(kind, 0) / self.number if self.number else 0.0


@dataclass(frozen=True)
class Figures:
    """What hosts did during a soak, together.

    `clients`: the requests of clients. `probes`: the known positions, which the soak requests itself.
    `problem`: an example of what is wrong with answers to known positions; empty if nothing is.
    """

    hosts: tuple[str, ...]
    clients: Calls
    probes: Calls
    problem: str = ""

    @property
    def judged(self) -> float:
        """All calls that count."""
        return self.clients.number + self.probes.number

    def describe(self) -> str:
        """The figures in a phrase."""
        parts = []
        for number, name, calls in (
            ("requests of clients", "an analysis", self.clients),
            ("known positions", "a known position", self.probes),
        ):
            if calls.number:
                kinds = [f"{count:g} {kind}" for kind, count in calls.failed.items() if count]
                named = f" ({', '.join(kinds)})" if kinds else ""
                parts.append(f"{sum(calls.failed.values()):g} of {calls.number:g} {number} failed{named}")
            if calls.seconds is not None:
                parts.append(f"{name} takes {calls.seconds:.2f} s")
        return ", ".join(parts) or "nothing was measured"


@dataclass(frozen=True)
class Comparable:
    """The hosts that are as fast as the canary by design, with what they did.

    `analyses`: for the requests of clients. `positions`: for the known positions.
    """

    analyses: Figures
    positions: Figures


@dataclass(frozen=True)
class Verdict:
    """The verdict on a canary.

    `failed`: its release must be rejected. `undecided`: there are too few samples to judge. `unknown`: it
    did not answer, or somebody changed it, so nothing may be concluded. `reasons`: why. `basis`: what the
    verdict rests on, as a sentence.
    """

    state: State
    reasons: tuple[str, ...]
    basis: str
    canary: Figures | None = None
    others: Figures | None = None

    def as_dict(self) -> dict[str, Any]:
        """The verdict as plain values."""
        shown = {
            name: figures.describe()
            for name, figures in (("canary_shown", self.canary), ("others_shown", self.others))
            if figures is not None
        }
        return {**asdict(self), **shown}


def judge(
    canary: str,
    release: str,
    samples: Mapping[str, Sequence[Sample | None]],
) -> Verdict:
    """Judge a canary that must run `release`; `samples` of each host by time, None if it did not answer."""
    own = [sample for sample in samples.get(canary, []) if sample is not None]
    if not own or samples[canary][-1] is None:
        return Verdict("unknown", (f"{canary} did not answer",), "Nothing is known of the canary.")
    if (running := own[-1]["release"]) not in (release, None):
        reason = f"{canary} runs {running} instead of {release}; somebody else changed it"
        return Verdict("unknown", (reason,), "The canary does not run the release that is judged.")
    peers = references(canary, release, samples)
    measured, others = figures({canary: own}), figures(peers)
    comparable = _comparable(own, measured, peers)
    baseline = own[-1]["baseline"] if _is_alone(others) else None
    reasons = [
        *_stopped(canary, own),
        *_failures(measured, others),
        *_slow(measured, comparable, baseline),
    ]
    shown = others if peers else None
    if reasons:
        return Verdict("failed", tuple(reasons), _basis(others, comparable, baseline), measured, shown)
    if measured.judged < FEWEST_PROBES:
        return Verdict(
            "undecided",
            (f"only {measured.judged:g} requests were measured",),
            "The soak cannot judge; the decision rests on the validation of the canary.",
            measured,
            shown,
        )
    if _is_alone(others) and baseline is None:
        missing = "no other host was measured, and there is no baseline"
        return Verdict("undecided", (missing,), _basis(others, comparable, baseline), measured, shown)
    return Verdict("passed", (), _basis(others, comparable, baseline), measured, shown)


def references(
    canary: str, release: str, samples: Mapping[str, Sequence[Sample | None]]
) -> dict[str, list[Sample]]:
    """The hosts with which a canary is compared: they ran one other release, in every sample."""
    taken = {
        host: [sample for sample in sequence if sample is not None]
        for host, sequence in samples.items()
        if host != canary
    }
    releases = {host: {sample["release"] for sample in sequence} for host, sequence in taken.items()}
    return {
        host: sequence
        for host, sequence in taken.items()
        if len(releases[host]) == 1 and not releases[host] & {release, None}
    }


def wants_probes(
    canary: str, release: str, samples: Mapping[str, Sequence[Sample | None]], progress: float
) -> bool:
    """Whether known positions are needed: clients send too little at this pace, or nothing is comparable.

    `progress` of the soak, 0 to 1.
    """
    own = [sample for sample in samples.get(canary, []) if sample is not None]
    peers = references(canary, release, samples)
    least = FEWEST_REQUESTS * progress
    hosts = [taken for taken in (own, *peers.values()) if taken]
    too_few = any(figures({"": taken}).clients.number < least for taken in hosts)
    return progress <= 0 or not peers or too_few


def figures(samples: Mapping[str, Sequence[Sample]]) -> Figures:
    """The figures of hosts together."""
    requests: dict[str, float] = {}
    durations: dict[float, float] = {}
    probes: list[Probe] = []
    counted: list[Probe] = []
    for taken in samples.values():
        probes += [probe for sample in taken for probe in sample["probes"]]
        # The counters of the first sample have its probes already.
        counted += [probe for sample in taken[1:] for probe in sample["probes"]]
        for before, after in pairwise(taken):
            _add(requests, _rise(before, after, "requests"))
            _add(durations, {float(le): count for le, count in _rise(before, after, "durations").items()})
    own = Counter(probe["status"] for probe in counted)
    clients = {
        status: max(0.0, count - own[status])
        for status, count in requests.items()
        if status not in metrics.NOT_JUDGED
    }
    analyses = max(0.0, durations.get(math.inf, 0) - own["ok"])
    medians = metrics.interpolated(durations, [0.5]) if analyses >= FEWEST_REQUESTS else None
    answered = [probe["seconds"] for probe in probes if not probe["problems"]]
    problems = [problem for probe in probes for problem in probe["problems"][:1]]
    failed: dict[str, float] = {}
    for status in metrics.FAILED:
        _add(failed, {_kind(status): clients.get(status, 0)})
    return Figures(
        hosts=tuple(samples),
        clients=Calls(sum(clients.values()), failed, medians[0] if medians else None),
        probes=Calls(
            len(probes),
            dict(Counter(_kind(probe["status"]) for probe in probes if probe["problems"])),
            statistics.median(answered) if answered else None,
        ),
        problem=problems[0] if problems else "",
    )


def _kind(status: str) -> str:
    """The kind of a failure with this status."""
    return _KINDS.get(status, status)


def _comparable(
    own: Sequence[Sample], measured: Figures, peers: Mapping[str, Sequence[Sample]]
) -> Comparable:
    """Which hosts are as fast as the canary by design.

    Clients may request more where the limits are higher. Known positions cost the same everywhere, but wait
    for the requests of clients.
    """
    similar = {host: taken for host, taken in peers.items() if taken[-1]["workload"] == own[-1]["workload"]}
    within = {
        host: taken
        for host, taken in similar.items()
        if all(_is_within(mine, theirs) for mine, theirs in product(own, taken))
    }
    is_idle = measured.clients.number < FEWEST_REQUESTS
    return Comparable(analyses=figures(within), positions=figures(similar if is_idle else within))


def _is_within(own: Sample, other: Sample) -> bool:
    """Whether no limit is higher than that of the other host."""
    pairs = [(limit, other["limits"].get(name)) for name, limit in own["limits"].items()]
    return all(
        limit == usual or (limit is not None and usual is not None and limit < usual)
        for limit, usual in pairs
    )


def _rise(before: Sample, after: Sample, name: Literal["requests", "durations"]) -> dict[str, float]:
    """By how much counters rose between two samples, also across a restart of the service."""
    later, earlier = after[name] or {}, before[name] or {}
    if before["started"] != after["started"]:
        earlier = {}
    return {key: max(0.0, value - earlier.get(key, 0)) for key, value in later.items()}


def _add(totals: dict[Any, float], more: Mapping[Any, float]) -> None:
    for key, value in more.items():
        totals[key] = totals.get(key, 0) + value


def _stopped(canary: str, samples: Sequence[Sample]) -> Iterator[str]:
    starts = {sample["started"] for sample in samples if sample["started"] is not None}
    if samples[-1]["release"] is None:
        yield f"the service of {canary} does not run"
    elif len(starts) == 2:
        yield f"the service of {canary} was restarted"
    elif len(starts) > 2:
        yield f"the service of {canary} was restarted {len(starts) - 1} times"


def _failures(canary: Figures, others: Figures) -> Iterator[str]:
    """How the canary fails more often than the others, by kind of failure."""
    for what, own, usual, fewest in (
        ("requests of clients", canary.clients, others.clients, FEWEST_REQUESTS),
        ("known positions", canary.probes, others.probes, FEWEST_PROBES),
    ):
        is_compared = usual.number >= fewest
        for kind, count in own.failed.items():
            share = usual.share(kind) if is_compared else 0.0
            is_more = own.share(kind) >= max(share + ERROR_MARGIN, TIMES * share)
            if count < FEWEST_FAILED or not is_more or (kind == BUSY and not is_compared):
                continue
            compared = f", on the others {100 * share:.0f} %" if is_compared else ""
            example = f", such as: {canary.problem}" if own is canary.probes and canary.problem else ""
            yield (
                f"{count:g} of {own.number:g} {what} failed ({kind}, {100 * own.share(kind):.0f} %){compared}"
                f"{example}"
            )


def _slow(canary: Figures, others: Comparable, baseline: float | None) -> Iterator[str]:
    """Why the canary is slow. `baseline`: None if a host was measured at the same time."""
    analyses, positions = others.analyses.clients, others.positions.probes
    comparisons = [("an analysis", canary.clients.seconds, "on the others", analyses.seconds)]
    if canary.probes.number >= FEWEST_PROBES:
        usual = positions.seconds if positions.number >= FEWEST_PROBES else None
        comparisons += [
            ("a known position", canary.probes.seconds, "on the others", usual),
            ("a known position", canary.probes.seconds, "by its baseline", baseline),
        ]
    for what, own, where, other in comparisons:
        if own is not None and other is not None and _is_slower(own, other):
            yield f"{what} takes {own:.2f} s, {where} {other:.2f} s"


def _is_slower(seconds: float, usual: float) -> bool:
    return seconds >= TIMES * usual and seconds - usual >= LEAST_SECONDS


def _is_alone(others: Figures) -> bool:
    """Whether nothing was measured with which the canary can be compared."""
    return others.judged < FEWEST_PROBES


def _basis(others: Figures, comparable: Comparable, baseline: float | None) -> str:
    """What a verdict rests on."""
    if _is_alone(others):
        speed = (
            "its speed is compared with its baseline"
            if baseline is not None
            else "its speed could not be compared with anything"
        )
        return f"No other host was measured: the canary's own failures are judged, and {speed}."
    compared = f"The canary is compared with {', '.join(others.hosts)}."
    analyses, positions = comparable.analyses.hosts, comparable.positions.hosts
    if analyses == positions == others.hosts:
        return compared
    return (
        f"{compared} Networks, limits or devices differ, so the speed of analyses is compared with"
        f" {_named(analyses)}, and that of known positions with {_named(positions)}."
    )


def _named(hosts: Sequence[str]) -> str:
    return ", ".join(hosts) or "none of them"


@dataclass(frozen=True)
class Schedule:
    """The samples of a soak: one at its start, and one at the end of each of `rounds` of `seconds` each.

    `probes`: the known positions of a sample, where the clients send too little.
    """

    rounds: int
    seconds: float
    probes: int


def schedule(minutes: float) -> Schedule:
    """When to sample: every half a minute, but 3 to 40 times."""
    rounds = min(40, max(3, round(2 * minutes)))
    return Schedule(rounds, 60 * minutes / rounds, math.ceil(2 * FEWEST_PROBES / (rounds + 1)))


def describe(canary: str, verdict: Verdict, left: float) -> str:
    """A line on a soak that has `left` seconds left; 0 if it is over. Until then, no verdict is final."""
    shown = f"{canary}: {verdict.canary.describe()}" if verdict.canary else canary
    others = f"; others: {verdict.others.describe()}" if verdict.others else ""
    if left:
        return f"Rollout: soak, about {host_lock.duration(left)} left. {shown}{others}"
    why = f": {'; '.join(verdict.reasons)}" if verdict.reasons else ""
    return f"Rollout: soak: {verdict.state}{why}. {shown}{others}"
