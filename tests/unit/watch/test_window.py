"""R26: the window of samples and its bounds. An unknown sample never counts as healthy."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils.watch import samples as watch_samples
from ansible_collections.katago.fleet.plugins.module_utils.watch import window
from ansible_collections.katago.fleet.plugins.module_utils.watch.samples import Sample, Terms, Watched
from ansible_collections.katago.fleet.plugins.module_utils.watch.window import Verdict

TERMS = Terms(minutes=15)
START = 1000.0
BEGUN = datetime(2026, 1, 31, 3, 0, tzinfo=UTC)
TOOK = 2.0
OWN = 4
MACHINE = {"name": "katago-1", "device": "4 x CPU", "processors": 4}
BASELINE: dict[str, Any] = {
    "found": {"identity": "i", "machine": MACHINE, "median_seconds": 1.0},
    "identity": "i",
    "machine": MACHINE,
}
UNIT = {
    **{"load": "loaded", "active": "active", "sub": "running", "result": "success", "exit_status": 0},
    **{"pid": 7, "process_state": "S", "restarts": 0, "started_at": 5.0, "drop_ins": []},
}


def facts_of(entries: object) -> watch_samples.Facts:
    """The facts of entries that must have the declared types."""
    facts = watch_samples.read_facts(entries)
    assert not facts.malformed, facts.unknown
    return facts


def sample(number: int, **facts: Any) -> Sample:
    """Sample `number` of a healthy service, with some facts changed; None makes a fact unknown."""
    began = START + number * TERMS.interval
    healthy: dict[str, Any] = {
        "unit": UNIT,
        "health": {"status": 200, "body": {"status": "ok", "lowered": ""}, "seconds": 10},
        "ready": {"status": 200, "body": {"ready": True}, "seconds": 10},
        "release": "r-1",
        "baseline": BASELINE,
        "validation": {"failures": [], "own": ["ok"] * OWN},
        "probe": {"answers": [{"seconds": 1.0, "problems": []}]},
        "metrics": metrics(ok=OWN * (number + 1)),
    }
    entries = {
        name: {"unknown": "no answer"} if value is None else {"value": value}
        for name, value in {**healthy, **facts}.items()
    }
    at = (BEGUN + timedelta(seconds=number * TERMS.interval)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Sample(began=began, ended=began + TOOK, at=at, facts=facts_of(entries))


def metrics(ok: float = 0, error: float = 0, **figures: Any) -> dict[str, Any]:
    """The metrics of a healthy service, with some figures changed."""
    healthy = {"served": True, "engine_up": 1.0, "engine_restarts": 0, "cache_errors": 0.0}
    return {**healthy, "requests": {"ok": ok, "error": error}, **figures}


def samples(count: int = 31, changed: Mapping[int, Mapping[str, Any]] | None = None) -> list[Sample]:
    """Consecutive samples, some with changed facts; 31 samples are 15 minutes."""
    return [sample(number, **(changed or {}).get(number, {})) for number in range(count)]


def watched(taken: Sequence[Sample], terms: Terms = TERMS, **known: Any) -> Watched:
    first = Watched(terms, START, "2026-01-31T03:00:00Z", "anna", "i-1", False, tuple(taken), "")
    return replace(first, **known)


def judge(
    taken: Sequence[Sample], terms: Terms = TERMS, *, after: float = 1, alive: bool = True, **known: Any
) -> Verdict:
    """The verdict `after` seconds after the last sample."""
    now = (taken[-1].ended if taken else START) + after
    return window.judge(watched(taken, terms, **known), now=now, alive=alive)


def test_window_is_complete_at_its_last_second_and_not_before() -> None:
    assert judge(samples(30)).verdict == "watching"
    assert judge(samples(30)).left == pytest.approx(30)
    found = judge(samples(31))
    assert (found.verdict, found.left, found.requests) == ("recovered", 0, 120)
    assert (found.began, found.ended) == (START, START + 900 + TOOK)
    short = samples(31)
    short[-1] = replace(short[-1], ended=short[-1].ended - 0.001)
    assert judge(short).verdict == "watching"


def test_later_samples_do_not_change_a_recovered_verdict() -> None:
    found = judge(samples(40, {35: {"unit": None}}), after=1e6, alive=False)
    assert (found.verdict, found.ended) == ("recovered", START + 900 + TOOK)


BREACHES: dict[str, Mapping[str, Any]] = {
    "katago-mcp.service is failed": {
        "unit": {
            **UNIT,
            **{"active": "failed", "sub": "failed", "result": "exit-code", "pid": 0},
            **{"process_state": None, "exit_status": 1},
        }
    },
    "/health returned HTTP 503: dead": {
        "health": {"status": 503, "body": {"reason": "dead", "lowered": ""}, "seconds": 10}
    },
    "/health did not answer within 10 s": {"health": {"status": None, "body": {}, "seconds": 10}},
    "/ready returned HTTP 503: engine starting": {
        "ready": {"status": 503, "body": {"reason": "engine starting"}, "seconds": 10}
    },
    "mcp: no answers": {"validation": {"failures": ["mcp: no answers"], "own": []}},
    "/metrics is not served": {"metrics": {"served": False, "why": "is not served"}},
    "the service reports its engine as down (katago_engine_up is 0)": {
        "metrics": metrics(ok=400, engine_up=0.0)
    },
    "the service was restarted": {"unit": {**UNIT, "pid": 8, "started_at": 6.0}},
    "the release changed from r-1 to r-2": {"release": "r-2"},
    "the limits changed: lowered": {
        "health": {"status": 200, "body": {"status": "ok", "lowered": "lowered"}, "seconds": 10}
    },
    "the engine was restarted (1 times)": {"metrics": metrics(ok=400, engine_restarts=1)},
    "1 cache operations failed": {"metrics": metrics(ok=400, cache_errors=1.0)},
}


@pytest.mark.parametrize("words", BREACHES)
def test_breach_in_the_last_minute_restarts_the_window(words: str) -> None:
    """R26: a fault at minute 14."""
    found = judge(samples(29, {28: BREACHES[words]}))
    assert found.verdict == "breached"
    assert found.why.startswith(f"{sample(28).at} {words}")
    assert found.left == TERMS.seconds
    # If it persists, the changed service is the watched one from then on, unless it is unhealthy.
    later = judge(samples(59, dict.fromkeys(range(28, 59), BREACHES[words])))
    assert (later.left == 0) is bool(found.resets[-1].began_anew)


UNKNOWN: dict[str, Mapping[str, Any]] = {
    "unit: no answer": {"unit": None},
    "health: no answer": {"health": None},
    "ready: no answer": {"ready": None},
    "metrics: no answer": {"metrics": None},
    "release: no answer": {"release": None},
    "validation: no answer": {"validation": None},
    "katago_requests_total is missing or NaN": {"metrics": metrics(requests=None)},
    "katago_engine_up is missing or NaN": {"metrics": metrics(engine_up=None)},
    "katago_engine_restarts_total is NaN": {"metrics": metrics(engine_restarts=None)},
}


@pytest.mark.parametrize("words", UNKNOWN)
def test_unknown_sample_restarts_the_window(words: str) -> None:
    found = judge(samples(31, {30: UNKNOWN[words]}))
    assert words in found.why
    assert (found.verdict, found.began, found.requests) == ("unknown", None, 0)
    later = judge(samples(59, {28: UNKNOWN[words]}))
    assert later.verdict == "watching"
    assert later.left == pytest.approx(30)
    assert judge(samples(60, {28: UNKNOWN[words]})).verdict == "recovered"


@given(st.integers(0, 1000), st.integers(0, 100))
def test_one_percent_of_failed_client_requests_is_a_breach(answered: int, failed: int) -> None:
    last = metrics(ok=OWN * 31 + answered, error=failed)
    found = judge(samples(31, {30: {"metrics": last}}))
    is_breach = failed > 0 and 100 * failed >= answered + failed
    assert found.verdict == ("breached" if is_breach else "recovered")


def test_own_analyses_do_not_lower_the_error_rate() -> None:
    found = judge(samples(31, {30: {"metrics": metrics(ok=OWN * 31 + 9, error=1)}}))
    assert "1 of 10 client requests failed" in found.why


@given(st.integers(1, 300))
def test_fewer_requests_than_required_are_unknown(fewest: int) -> None:
    found = judge(samples(31), Terms(minutes=15, fewest_requests=fewest))
    assert found.verdict == ("recovered" if fewest <= OWN * 30 else "unknown")
    assert ("too little traffic" in found.why) == (fewest > OWN * 30)


def test_without_probes_an_idle_service_is_unknown_and_a_busy_one_recovers() -> None:
    terms = replace(TERMS, probes=False)
    quiet = {number: {"metrics": metrics(), "validation": None} for number in range(31)}
    found = judge(samples(31, quiet), terms)
    assert (found.verdict, found.requests, found.left) == ("unknown", 0, 0)
    assert judge(samples(31, {n: {"validation": None} for n in range(31)}), terms).verdict == "recovered"


def test_traffic_after_the_window_still_counts() -> None:
    quiet = {
        number: {"metrics": metrics(), "validation": {"failures": [], "own": []}} for number in range(31)
    }
    taken = samples(32, {**quiet, 31: {"metrics": metrics(ok=20), "validation": {"failures": [], "own": []}}})
    assert judge(taken[:31]).verdict == "unknown"
    assert judge(taken).verdict == "recovered"


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(1.1999, "recovered"), (1.2, "breached"), (1.8, "breached")]
)
def test_analyses_a_fifth_slower_than_the_baseline_are_a_breach(seconds: float, verdict: str) -> None:
    slow = {n: {"probe": {"answers": [{"seconds": seconds, "problems": []}]}} for n in range(26, 31)}
    assert judge(samples(31, slow)).verdict == verdict


def test_a_few_slow_analyses_are_no_breach() -> None:
    slow = {n: {"probe": {"answers": [{"seconds": 9.0, "problems": []}]}} for n in range(29, 31)}
    assert judge(samples(31, slow)).verdict == "recovered"


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        ({**BASELINE, "found": None}, "there is no baseline"),
        ({**BASELINE, "identity": "other"}, "the baseline was recorded with another"),
        ({**BASELINE, "machine": {**MACHINE, "name": "katago-3"}}, "but this host is katago-3"),
        (BASELINE, "a probe takes 1.000 s"),
    ],
)
def test_comparison_with_the_baseline_or_its_absence_is_noted(
    baseline: Mapping[str, Any], words: str
) -> None:
    found = judge(samples(31, {number: {"baseline": baseline} for number in range(31)}))
    assert found.verdict == "recovered"
    assert words in " ".join(found.notes)


@pytest.mark.parametrize(("gap", "verdict"), [(0.0, "recovered"), (0.1, "watching")])
def test_time_without_a_sample_does_not_count(gap: float, verdict: str) -> None:
    """For example a frozen host, a stopped sampler, or a full disk."""
    taken = samples(31)
    later = TERMS.longest_gap - (TERMS.interval - TOOK) + gap
    moved = [replace(each, began=each.began + later, ended=each.ended + later) for each in taken[15:]]
    found = judge([*taken[:15], *moved])
    assert found.verdict == verdict
    if gap:
        assert found.resets[-1].why == "no sample for 60 s"


def test_sample_that_took_too_long_is_unknown() -> None:
    taken = samples(31)
    taken[-1] = replace(taken[-1], ended=taken[-1].began + TERMS.longest_sample + 0.1)
    assert judge(taken).verdict == "unknown"


@pytest.mark.parametrize("seconds", [-86400, 86400])
def test_changed_clock_has_no_effect_and_is_noted(seconds: int) -> None:
    stamp = (BEGUN + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    early = samples(5)
    early[-1] = replace(early[-1], at=stamp)
    assert judge(early).verdict == "watching"
    full = samples(31)
    full[-1] = replace(full[-1], at=stamp)
    found = judge(full)
    assert found.verdict == "recovered"
    assert "the host's clock was changed by" in " ".join(found.notes)


def test_samples_of_another_boot_do_not_count() -> None:
    taken = samples(31)
    moved = [replace(each, began=each.began - 900, ended=each.ended - 900) for each in taken[20:]]
    assert judge([*taken[:20], *moved]).resets[-1].why == "the host was rebooted between two samples"
    assert judge(taken[:20], after=-100).verdict == "unknown"


def test_reboot_is_reported_and_the_window_starts_after_it() -> None:
    found = judge(samples(5), rebooted=True)
    assert found.resets[0].why == "the host was rebooted"
    assert found.verdict == "watching"


@pytest.mark.parametrize(
    ("alive", "after", "over", "verdict"),
    [
        (True, 1, "", "watching"),
        (False, 1, "", "unknown"),
        (True, TERMS.longest_gap + TERMS.longest_sample, "", "watching"),
        (True, TERMS.longest_gap + TERMS.longest_sample + 0.1, "", "unknown"),
        (False, 1, "the sampler gave up", "unknown"),
    ],
)
def test_dead_or_silent_sampler_is_unknown(alive: bool, after: float, over: str, verdict: str) -> None:
    assert judge(samples(5), alive=alive, after=after, over=over).verdict == verdict


def test_watch_that_gave_up_after_a_breach_is_breached() -> None:
    taken = samples(5, {4: BREACHES["mcp: no answers"]})
    found = judge(taken, alive=False, over="the sampler gave up after 60 minutes")
    assert found.verdict == "breached"
    assert found.why.startswith("the sampler gave up after 60 minutes; last restart of the window: ")


def test_watch_without_a_sample_is_watching_or_unknown() -> None:
    assert judge([]).verdict == "watching"
    assert judge([], alive=False).why == "the sampler is not running; it took no sample"


def test_outage_is_one_breach_from_its_first_sample() -> None:
    found = judge(samples(12, dict.fromkeys(range(5, 10), BREACHES["mcp: no answers"])))
    (reset,) = found.resets
    assert (reset.at, reset.began_anew) == (sample(5).at, sample(10).at)


FACTS = [{}, {}, {}, *BREACHES.values(), *UNKNOWN.values()]


@given(
    st.lists(st.tuples(st.sampled_from(FACTS), st.floats(0, 200)), max_size=45),
    st.floats(0, 500),
    st.booleans(),
)
def test_recovered_window_has_only_healthy_samples(
    taken: list[tuple[Mapping[str, Any], float]], after: float, alive: bool
) -> None:
    """A recovered window has the full length, without gaps and without an unhealthy or unknown sample."""
    made, lost = [], 0.0
    for number, (facts, gap) in enumerate(taken):
        lost += gap if gap > 150 else 0.0
        each = sample(number, **facts)
        made.append(replace(each, began=each.began + lost, ended=each.ended + lost))
    terms = Terms(minutes=2, fewest_requests=1)
    found = judge(made, terms, after=after, alive=alive)
    if found.verdict != "recovered":
        return
    assert found.began is not None
    assert found.ended is not None
    inside = [each for each in made if found.began <= each.began and each.ended <= found.ended]
    assert found.ended - found.began >= terms.seconds
    for before, now in itertools.pairwise(inside):
        assert now.began - before.ended <= terms.longest_gap
    alone = {"mcp: no answers", "/metrics is not served"}
    unhealthy = [
        facts
        for words, facts in BREACHES.items()
        if words in alone or words.startswith(("/", "katago", "the service reports"))
    ]
    for each in inside:
        facts = taken[made.index(each)][0]
        assert facts not in unhealthy
        assert facts not in list(UNKNOWN.values())


def test_written_file_is_read_back_without_its_truncated_line() -> None:
    first = {
        **watch_samples.header(TERMS, begun=START, who="anna", incident="i-1", rebooted=False),
        "at": "2026-01-31T03:00:00Z",
    }
    lines = [
        first,
        *(watch_samples.as_line(each) for each in samples(3)),
        {"event": "over", "why": "the sampler gave up"},
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    assert watch_samples.read(content + b'{"event": "sam') == watched(samples(3), over="the sampler gave up")


@pytest.mark.parametrize("content", [b"", b"{}\n", b"damaged\n", b'{"event": "sample"}\n', b"[]\n"])
def test_damaged_file_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError):
        watch_samples.read(content)


def test_file_of_the_previous_version_is_read_and_judged() -> None:
    """Recorded with 0.1.0 on a Debian 12 host whose service was stopped after a few minutes."""
    content = Path(__file__).with_name("recorded").joinpath("samples_0.1.0.jsonl").read_bytes()
    found = watch_samples.read(content)
    assert found.terms == TERMS
    assert all(not each.facts.malformed for each in found.samples)
    assert {"unit", "metrics", "validation", "probe"} <= set(found.samples[0].facts.values)
    verdict = window.judge(found, now=found.samples[-1].ended, alive=True)
    (reset,) = verdict.resets
    assert (verdict.verdict, reset.at) == ("breached", "2026-11-28T15:04:24Z")
    assert reset.why == "/metrics is not served (and 5 more)"


def test_malformed_fact_is_unknown_and_restarts_the_window() -> None:
    malformed = watch_samples.as_line(sample(30))
    malformed["facts"]["unit"] = {"value": {**UNIT, "active": None}}
    lines = [watch_samples.as_line(each) for each in samples(30)]
    first = {**watch_samples.header(TERMS, begun=START, who="anna", incident="", rebooted=False), "at": "x"}
    content = "".join(json.dumps(line) + "\n" for line in [first, *lines, malformed]).encode()
    found = watch_samples.read(content)
    verdict = window.judge(found, now=found.samples[-1].ended, alive=True)
    assert verdict.verdict == "unknown"
    assert verdict.why == "unit: the reported value is malformed: unit.active is None, not a string"


@pytest.mark.parametrize("median", [0.0, -1.0, float("inf"), "fast"])
def test_unusable_baseline_is_noted_and_does_not_affect_the_verdict(median: object) -> None:
    found = {**BASELINE["found"], "median_seconds": median}
    facts = watch_samples.read_facts({"baseline": {"value": {**BASELINE, "found": found}}})
    taken = samples(31)
    known = taken[-1].facts
    values = {name: value for name, value in known.values.items() if name != "baseline"}
    taken[-1] = replace(
        taken[-1], facts=replace(known, values=cast(watch_samples.Values, values), unknown=facts.unknown)
    )
    verdict = judge(taken)
    assert verdict.verdict == "recovered"
    assert any("performance is unknown: the reported value is malformed" in note for note in verdict.notes)


@pytest.mark.parametrize(
    ("count", "after", "facts", "joined"),
    [
        (31, 10, {}, True),
        (31, TERMS.seconds, {}, True),
        (31, TERMS.seconds + 0.1, {}, False),
        (31, 10, BREACHES["the service was restarted"], False),
        (31, 10, {"release": "r-2"}, False),
        (30, 10, {}, False),
    ],
)
def test_recovered_window_is_joined_while_it_is_recent_and_of_the_same_service(
    count: int, after: float, facts: Mapping[str, Any], joined: bool
) -> None:
    found = watched(samples(count))
    now = found.samples[-1].ended + after
    verdict = window.judge(found, now=now, alive=False)
    running = window.identity(sample(99, **facts).facts)
    assert window.may_join(found, verdict, now=now, running=running) is joined


@pytest.mark.parametrize(("spread", "verdict"), [(0.02, "breached"), (0.2, "recovered")])
def test_slowdown_within_the_spread_of_the_baseline_is_no_breach(spread: float, verdict: str) -> None:
    found = {**BASELINE["found"], "spread_seconds": spread}
    slow = {
        "baseline": {**BASELINE, "found": found},
        "probe": {"answers": [{"seconds": 1.4, "problems": []}]},
    }
    assert judge(samples(31, dict.fromkeys(range(31), slow))).verdict == verdict


@pytest.mark.parametrize(("requests", "noted"), [(OWN, True), (OWN + 1, False)])
def test_window_without_client_requests_has_no_error_rate(requests: int, noted: bool) -> None:
    taken = samples(31, {number: {"metrics": metrics(ok=requests * number)} for number in range(31)})
    note = "no client requests in the window, so their error rate is unknown"
    assert (note in judge(taken).notes) is noted
