"""The history finds the way back: the last release that was good and is not bad since."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils.common.shape import ShapeError
from ansible_collections.katago.fleet.plugins.module_utils.release import history
from ansible_collections.katago.fleet.plugins.module_utils.release.history import How, Record, Verdict


def record(release: str, verdict: Verdict | None = None, how: How = "deployment") -> Record:
    return Record("2026-01-01T00:00:00Z", "anna@control", release, None, "test", verdict, how)


def deployed(*releases: str) -> list[Record]:
    """Releases that were deployed one after the other and found good."""
    return [each for release in releases for each in (record(release), record(release, "good"))]


def test_what_is_appended_is_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    written = [record("a"), record("a", "good"), record("b", "bad")]
    for each in written:
        history.append(each, path)
    assert history.read(path) == written


def test_half_a_line_is_passed_over_and_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history.append(record("a", "good"), path)
    path.write_bytes(path.read_bytes() + b'{"at": "2026')
    history.append(record("b", "good"), path)
    assert [each.release for each in history.read(path)] == ["a", "b"]


OLD = {"at": "2026-01-01T00:00:00Z", "who": "anna", "release": "a", "previous": None, "why": "first"}


def test_record_of_an_earlier_version_says_nothing_of_how_and_is_a_deployment() -> None:
    found = history.parse(json.dumps(OLD).encode())
    assert (found.how, found.verdict, found.previous) == ("deployment", None, None)


def test_what_a_later_version_adds_to_a_record_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(json.dumps({**OLD, "signed": "by anna"}) + "\n")
    assert [each.release for each in history.read(path)] == ["a"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"at": "yesterday"}, "at is 'yesterday', not a time such as 2026-11-24T06:00:00Z"),
        ({"who": None}, "who is None, not a string"),
        ({"verdict": "fine"}, "verdict is 'fine', not one of good, bad"),
        ({"how": "magic"}, "how is 'magic', not one of deployment, rollback, return, restore"),
        ({"previous": 3}, "previous is 3, not a string"),
    ],
)
def test_line_that_is_no_record_is_named_and_passed_over(
    tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    line = json.dumps({**OLD, **changed})
    with pytest.raises(ShapeError, match=re.escape(message)):
        history.parse(line.encode())
    (tmp_path / "history.jsonl").write_text(f"{line}\n{json.dumps(OLD)}\n")
    assert len(history.read(tmp_path / "history.jsonl")) == 1


def test_way_back_is_the_last_good_release_besides_the_present_one() -> None:
    records = [record("a", "good"), record("b", "good"), record("c")]
    available = ["a", "b", "c"]
    assert history.ways_back(records, available=available, besides="c") == ["b", "a"]
    assert history.ways_back(records, available=available, besides="b") == ["a"]


def test_release_that_was_gone_back_to_comes_before_the_one_that_was_left() -> None:
    records = [record("a", "good"), record("b", "good"), record("a"), record("a", "good"), record("c")]
    assert history.ways_back(records, available=["a", "b", "c"], besides="c")[0] == "a"


def test_release_that_was_found_bad_since_is_no_way_back() -> None:
    records = [record("a", "good"), record("b", "good"), record("b", "bad")]
    assert history.ways_back(records, available=["a", "b"], besides=None) == ["a"]


def test_release_that_is_no_longer_there_is_no_way_back() -> None:
    assert history.ways_back([record("a", "good")], available=[], besides=None) == []


def test_verdict_stands_until_the_release_is_switched_to_again() -> None:
    records = [record("a"), record("a", "good"), record("b")]
    assert history.standing(records, "a") == "good"
    assert history.standing(records, "b") is None
    assert history.standing([*records, record("a")], "a") is None


def test_current_release_is_that_of_the_newest_switch() -> None:
    assert history.current([record("a"), record("a", "good"), record("b"), record("a", "bad")]) == "b"
    assert history.current([]) is None


def test_going_back_again_goes_further_back_and_never_to_what_was_left() -> None:
    records = deployed("a", "b", "c")
    records += [record("b", how="rollback"), record("b", "good")]
    assert history.ways_back(records, available=["a", "b", "c"], besides="b") == ["a"]
    records += [record("a", how="rollback"), record("a", "good")]
    assert history.ways_back(records, available=["a", "b", "c"], besides="a") == []


def test_deployment_after_going_back_leads_back_to_what_ran_before_it() -> None:
    records = [*deployed("a", "b"), record("a", how="rollback"), record("a", "good"), *deployed("b")]
    assert history.ways_back(records, available=["a", "b"], besides="b") == ["a"]


def test_release_whose_rollback_failed_is_no_way_back_and_the_one_returned_to_keeps_its_own() -> None:
    records = deployed("a", "b", "c")
    records += [
        record("b", how="rollback"),
        record("b", "bad"),
        record("c", how="return"),
        record("c", "good"),
    ]
    assert history.ways_back(records, available=["a", "b", "c"], besides="c") == ["a"]


def test_rollback_that_was_killed_is_known_until_its_verdict_and_while_its_procedure_goes_on() -> None:
    before, after = "2025-12-31T23:59:59Z", "2026-01-01T00:00:01Z"
    switched = [*deployed("a", "b"), record("a", how="rollback")]
    judged = [*switched, record("a", "good")]
    assert history.unfinished_rollback(switched, after) == switched[-1]
    assert history.unfinished_rollback(judged, before) == switched[-1]
    assert history.unfinished_rollback(judged, after) is None
    assert history.unfinished_rollback([*switched, record("a", "bad")], before) is None
    assert history.unfinished_rollback(deployed("a"), before) is None
    assert history.unfinished_rollback([], before) is None


def test_return_of_a_rollback_is_brought_to_its_end_by_its_own_procedure_alone() -> None:
    before, after = "2025-12-31T23:59:59Z", "2026-01-01T00:00:01Z"
    failed = [*deployed("a", "b"), record("a", how="rollback"), record("a", "bad")]
    returned = [*failed, record("b", how="return")]
    for records in (returned, [*returned, record("b", "good")]):
        assert history.unfinished_rollback(records, before) == returned[-1]
        assert history.unfinished_rollback(records, after) is None
    assert history.unfinished_rollback([*returned, record("b", "bad")], before) is None


@given(st.lists(st.sampled_from("abcdef"), min_size=1, unique=True))
def test_going_back_to_the_end_visits_every_release_once_newest_first(releases: list[str]) -> None:
    records = deployed(*releases)
    visited = [releases[-1]]
    while ways := history.ways_back(records, available=releases, besides=visited[-1]):
        visited.append(ways[0])
        records += [record(ways[0], how="rollback"), record(ways[0], "good")]
    assert visited == releases[::-1]


names = st.sampled_from(["a", "b", "c"])
verdicts = st.sampled_from([None, "good", "bad"])


@given(st.lists(st.builds(record, names, verdicts)), st.lists(names, unique=True), st.none() | names)
def test_ways_back_are_good_at_their_newest_verdict_and_newest_first(
    records: list[Record], available: list[str], besides: str | None
) -> None:
    found = history.ways_back(records, available=available, besides=besides)
    good = {
        each.release: number
        for number, each in enumerate(records)
        if each.verdict == "good" and each.release in available and each.release != besides
    }
    for release in list(good):
        newest = history.verdict_on(records, release)
        if newest is None or newest.verdict != "good":
            del good[release]
    assert found == sorted(good, key=lambda release: -good[release])
