"""The history finds the way back: the last release that was good and is not bad since."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils import history
from ansible_collections.katago.fleet.plugins.module_utils.history import Record, Verdict


def record(release: str, verdict: Verdict | None = None) -> Record:
    return Record("2026-01-01T00:00:00Z", "anna@control", release, None, "test", verdict)


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


def test_way_back_is_the_last_good_release_besides_the_present_one() -> None:
    records = [record("a", "good"), record("b", "good"), record("c")]
    available = ["a", "b", "c"]
    assert history.last_good(records, available=available, besides="c") == "b"
    assert history.last_good(records, available=available, besides="b") == "a"


def test_release_that_was_found_bad_since_is_no_way_back() -> None:
    records = [record("a", "good"), record("b", "good"), record("b", "bad")]
    assert history.last_good(records, available=["a", "b"], besides=None) == "a"


def test_release_that_is_no_longer_there_is_no_way_back() -> None:
    assert history.last_good([record("a", "good")], available=[], besides=None) is None


names = st.sampled_from(["a", "b", "c"])
verdicts = st.sampled_from([None, "good", "bad"])


@given(st.lists(st.builds(record, names, verdicts)), st.lists(names, unique=True), st.none() | names)
def test_way_back_was_good_at_its_newest_verdict(
    records: list[Record], available: list[str], besides: str | None
) -> None:
    found = history.last_good(records, available=available, besides=besides)
    candidates = {
        each.release
        for each in records
        if each.release in available
        and each.release != besides
        and (newest := history.verdict_on(records, each.release)) is not None
        and newest.verdict == "good"
    }
    assert found in candidates if candidates else found is None
