"""The history yields the rollback target: the last release that was validated and not rejected since."""

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
    """Records of releases that were deployed one after the other and validated."""
    return [each for release in releases for each in (record(release), record(release, "good"))]


def test_records_are_read_in_the_order_in_which_they_were_appended(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    written = [record("a"), record("a", "good"), record("b", "bad")]
    for each in written:
        history.append(each, path)
    assert history.read(path) == written


def test_truncated_line_is_skipped_and_does_not_damage_the_next(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history.append(record("a", "good"), path)
    path.write_bytes(path.read_bytes() + b'{"at": "2026')
    history.append(record("b", "good"), path)
    assert [each.release for each in history.read(path)] == ["a", "b"]


OLD = {"at": "2026-01-01T00:00:00Z", "who": "anna", "release": "a", "previous": None, "why": "first"}


def test_record_of_an_earlier_version_without_how_is_a_deployment() -> None:
    parsed = history.parse(json.dumps(OLD).encode())
    assert (parsed.how, parsed.verdict, parsed.previous) == ("deployment", None, None)


def test_unknown_keys_of_a_later_version_are_ignored(tmp_path: Path) -> None:
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
def test_malformed_record_is_described_and_skipped(
    tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    line = json.dumps({**OLD, **changed})
    with pytest.raises(ShapeError, match=re.escape(message)):
        history.parse(line.encode())
    (tmp_path / "history.jsonl").write_text(f"{line}\n{json.dumps(OLD)}\n")
    assert len(history.read(tmp_path / "history.jsonl")) == 1


def test_rollback_target_is_the_last_validated_release_that_is_not_current() -> None:
    records = [record("a", "good"), record("b", "good"), record("c")]
    available = ["a", "b", "c"]
    assert history.rollback_targets(records, available=available, besides="c") == ["b", "a"]
    assert history.rollback_targets(records, available=available, besides="b") == ["a"]


def test_target_of_a_rollback_is_preferred_to_the_release_that_it_left() -> None:
    records = [record("a", "good"), record("b", "good"), record("a"), record("a", "good"), record("c")]
    assert history.rollback_targets(records, available=["a", "b", "c"], besides="c")[0] == "a"


def test_release_that_was_rejected_later_is_no_rollback_target() -> None:
    records = [record("a", "good"), record("b", "good"), record("b", "bad")]
    assert history.rollback_targets(records, available=["a", "b"], besides=None) == ["a"]


def test_removed_release_is_no_rollback_target() -> None:
    assert history.rollback_targets([record("a", "good")], available=[], besides=None) == []


def test_verdict_counts_until_the_next_switch_to_the_release() -> None:
    records = [record("a"), record("a", "good"), record("b")]
    assert history.standing(records, "a") == "good"
    assert history.standing(records, "b") is None
    assert history.standing([*records, record("a")], "a") is None


def test_current_release_is_the_release_of_the_newest_switch() -> None:
    assert history.current([record("a"), record("a", "good"), record("b"), record("a", "bad")]) == "b"
    assert history.current([]) is None


def test_second_rollback_goes_further_back_and_never_to_a_release_that_was_left() -> None:
    records = deployed("a", "b", "c")
    records += [record("b", how="rollback"), record("b", "good")]
    assert history.rollback_targets(records, available=["a", "b", "c"], besides="b") == ["a"]
    records += [record("a", how="rollback"), record("a", "good")]
    assert history.rollback_targets(records, available=["a", "b", "c"], besides="a") == []


def test_rollback_target_of_a_deployment_after_a_rollback_is_the_release_that_it_replaced() -> None:
    records = [*deployed("a", "b"), record("a", how="rollback"), record("a", "good"), *deployed("b")]
    assert history.rollback_targets(records, available=["a", "b"], besides="b") == ["a"]


def test_failed_rollback_removes_its_target_and_keeps_the_earlier_targets() -> None:
    records = deployed("a", "b", "c")
    records += [
        record("b", how="rollback"),
        record("b", "bad"),
        record("c", how="return"),
        record("c", "good"),
    ]
    assert history.rollback_targets(records, available=["a", "b", "c"], besides="c") == ["a"]


def test_rollback_is_unfinished_until_its_verdict_and_while_its_procedure_runs() -> None:
    before, after = "2025-12-31T23:59:59Z", "2026-01-01T00:00:01Z"
    switched = [*deployed("a", "b"), record("a", how="rollback")]
    judged = [*switched, record("a", "good")]
    assert history.unfinished_rollback(switched, after) == switched[-1]
    assert history.unfinished_rollback(judged, before) == switched[-1]
    assert history.unfinished_rollback(judged, after) is None
    assert history.unfinished_rollback([*switched, record("a", "bad")], before) is None
    assert history.unfinished_rollback(deployed("a"), before) is None
    assert history.unfinished_rollback([], before) is None


def test_return_of_a_failed_rollback_is_finished_only_by_the_same_procedure() -> None:
    before, after = "2025-12-31T23:59:59Z", "2026-01-01T00:00:01Z"
    failed = [*deployed("a", "b"), record("a", how="rollback"), record("a", "bad")]
    returned = [*failed, record("b", how="return")]
    for records in (returned, [*returned, record("b", "good")]):
        assert history.unfinished_rollback(records, before) == returned[-1]
        assert history.unfinished_rollback(records, after) is None
    assert history.unfinished_rollback([*returned, record("b", "bad")], before) is None


@given(st.lists(st.sampled_from("abcdef"), min_size=1, unique=True))
def test_repeated_rollbacks_visit_every_release_once_newest_first(releases: list[str]) -> None:
    records = deployed(*releases)
    visited = [releases[-1]]
    while targets := history.rollback_targets(records, available=releases, besides=visited[-1]):
        visited.append(targets[0])
        records += [record(targets[0], how="rollback"), record(targets[0], "good")]
    assert visited == releases[::-1]


names = st.sampled_from(["a", "b", "c"])
verdicts = st.sampled_from([None, "good", "bad"])


@given(st.lists(st.builds(record, names, verdicts)), st.lists(names, unique=True), st.none() | names)
def test_newest_verdict_of_every_rollback_target_is_good_and_targets_are_newest_first(
    records: list[Record], available: list[str], besides: str | None
) -> None:
    targets = history.rollback_targets(records, available=available, besides=besides)
    good = {
        each.release: number
        for number, each in enumerate(records)
        if each.verdict == "good" and each.release in available and each.release != besides
    }
    for release in list(good):
        newest = history.verdict_on(records, release)
        if newest is None or newest.verdict != "good":
            del good[release]
    assert targets == sorted(good, key=lambda release: -good[release])
