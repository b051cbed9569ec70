"""A recorded night gives the checked review. Counts are exact, and unknown periods stay unknown."""

from __future__ import annotations

import itertools
import json
import random
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import prometheus
from ansible_collections.katago.fleet.plugins.module_utils.incident import state
from ansible_collections.katago.fleet.plugins.module_utils.service import metrics as service_metrics
from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import records as evidence_records
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import statuspage
from ansible_collections.katago.fleet.plugins.plugin_utils.review import (
    answers,
    causes,
    charts,
    records,
    timeline,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.review import blocks as review_blocks
from ansible_collections.katago.fleet.plugins.plugin_utils.review import document as review_document
from ansible_collections.katago.fleet.plugins.plugin_utils.review import impact as review_impact
from ansible_collections.katago.fleet.plugins.plugin_utils.review import sources as review_sources
from ansible_collections.katago.fleet.plugins.plugin_utils.review.impact import Scrape
from ansible_collections.katago.fleet.plugins.plugin_utils.review.timeline import Journal, Row
from tests import recorded

BEGIN, END = recorded.at("02:02"), recorded.at("02:36")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The records of the night."""
    recorded.night(tmp_path)
    return tmp_path


@pytest.fixture
def sources(root: Path) -> review_sources.Sources:
    return review_sources.read(root, recorded.INCIDENT, recorded.FLEET)


def rows(sources: review_sources.Sources) -> list[Row]:
    journals = {host: timeline.merged_journal(sources.of(host)) for host in sources.hosts}
    return timeline.rows(sources, journals)


def text(sources: review_sources.Sources, answer_set: answers.Answers | None = None) -> str:
    return review_blocks.as_markdown(review_document.build(sources, answer_set or answers.Answers()))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The documents for three months of records."""
    return recorded.write_golden(tmp_path_factory.mktemp("records"))


@pytest.mark.parametrize("name", ["review.md", "review.html", "2026Q4.md", "2026Q4.html"])
def test_recorded_night_gives_the_golden_documents(made: dict[str, str], name: str) -> None:
    """`PYTHONPATH=collections:. python -m tests.recorded` renews them."""
    assert made[name] == (recorded.GOLDEN / name).read_text()


class Page(HTMLParser):
    """Checks a page: tags closed in order, nothing loaded, nothing run."""

    VOID = ("meta", "rect", "line", "path")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("script", "link", "img", "iframe", "object", "embed", "base", "form"):
            self.problems.append(f"it has <{tag}>")
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") or name.startswith("on") or "url(" in (value or ""):
                self.problems.append(f"{tag} has {name}={value}")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes what is not open")


def status_page() -> str:
    entry = state.Public(1, "2026-11-03T02:05:00Z", "investigating", recorded.HOSTILE)
    now = timestamps.parse("2026-11-03T03:00:00Z")
    return statuspage.render([statuspage.Published(True, (entry,))], recorded.HOSTILE, now)


@pytest.mark.parametrize("name", ["review.html", "2026Q4.html", "status"])
def test_pages_are_well_formed_and_load_and_run_nothing(made: dict[str, str], name: str) -> None:
    html = status_page() if name == "status" else made[name]
    page = Page()
    page.feed(html)
    assert page.problems == []
    assert page.open == []
    assert "alert(1)" in html or name == "status"
    assert "<script" not in html.lower()
    assert "@import" not in html


def test_rebuilding_gives_the_same_bytes_and_keeps_the_answers(root: Path) -> None:
    first = records.build(root, recorded.INCIDENT, recorded.FLEET, dry=False)
    directory = root / "incidents" / recorded.INCIDENT
    assert {path.name for path in first.written} == {"review.md", "review.html"}
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    second = records.build(root, recorded.INCIDENT, recorded.FLEET, dry=False)
    assert second.written == ()
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    assert before["answers.yml"].decode() == recorded.ANSWERS


def test_check_mode_writes_nothing(root: Path) -> None:
    directory = root / "incidents" / recorded.INCIDENT
    before = sorted(directory.iterdir())
    assert records.build(root, recorded.INCIDENT, recorded.FLEET, dry=True).written
    assert sorted(directory.iterdir()) == before


def test_template_is_created_once_with_all_questions_open(root: Path) -> None:
    directory = root / "incidents" / recorded.INCIDENT
    (directory / "answers.yml").unlink()
    built = records.build(root, recorded.INCIDENT, recorded.FLEET, dry=False)
    assert not built.standing.complete
    parsed = answers.parse((directory / "answers.yml").read_text(), "answers.yml")
    assert parsed == answers.Answers(answers=dict.fromkeys([q.name for q in answers.QUESTIONS], ""))
    assert built.standing.who == "Anna"
    assert built.standing.due == "2026-11-05T02:36:00Z"
    wanted = ("What was the underlying cause?", "Why wasn't it caught earlier?", "What allowed it to happen?")
    assert set(wanted) < set(built.standing.unanswered)


def test_rows_of_hosts_with_different_clocks_are_in_chronological_order(
    sources: review_sources.Sources,
) -> None:
    found = rows(sources)

    def place(words: str) -> int:
        return next(number for number, row in enumerate(found) if words in row.what)

    story = (
        *(f"switched to {recorded.NEW}", "Out of memory", "engine_state: backoff", "opened by the alert"),
        *("systemd: Stopping", "systemd: Started", "restart: changed", f"switched to {recorded.OLD}"),
        *("rollback: changed", "closed:"),
    )
    places = [place(words) for words in story]
    assert places == sorted(places)
    assert found[place("systemd: Stopping")].at == pytest.approx(recorded.at("02:08:05"))


def test_every_row_names_an_existing_source(sources: review_sources.Sources, root: Path) -> None:
    for row in rows(sources):
        path = root / row.source
        assert path.exists(), row
        if row.line:
            assert len(path.read_text(errors="replace").splitlines()) >= row.line, row


def test_entry_in_several_collections_is_one_row(sources: review_sources.Sources) -> None:
    found = [row for row in rows(sources) if "Out of memory" in row.what]
    assert [row.at for row in found] == pytest.approx([recorded.at("02:01:59"), recorded.at("02:11")])


@given(st.randoms(use_true_random=False))
def test_order_of_rows_does_not_depend_on_the_input(dice: random.Random) -> None:
    found = [
        Row(float(number % 7), f"katago-{number % 3}", "error", f"what {number}", "file", number)
        for number in range(30)
    ]
    mixed = found.copy()
    dice.shuffle(mixed)
    assert timeline.ordered(mixed) == timeline.ordered(found)


@given(st.lists(st.tuples(st.floats(0, 5000), st.sampled_from("abc"), st.sampled_from(["error", "service"]))))
def test_repeated_rows_are_merged_and_counted(
    events: list[tuple[float, str, timeline.Kind]],
) -> None:
    found = timeline.ordered(Row(at, "katago-1", kind, what, "f") for at, what, kind in events)
    kept = timeline.collapse(found)
    assert sum(row.times for row in kept) == len(found)
    assert [row.at for row in kept] == sorted(row.at for row in kept)
    assert {row.what for row in kept} == {row.what for row in found}


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100))), st.floats(0, 100))
def test_merged_periods_cover_the_same_times(spans: list[tuple[float, float]], at: float) -> None:
    made = timeline.joined(spans)
    assert any(b <= at <= e for b, e in spans) == any(b <= at <= e for b, e in made)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(made))


def impact(sources: review_sources.Sources, host: str) -> review_impact.HostImpact:
    collections = sources.of(host)
    journal = timeline.merged_journal(collections)
    return review_impact.of_host(host, collections, journal, BEGIN, END)


@pytest.mark.parametrize("host", ["katago-1", "katago-2"])
def test_requests_are_counted_exactly_across_restarts(sources: review_sources.Sources, host: str) -> None:
    truth = [status for when, status in recorded.hosts()[host].calls if BEGIN < when <= END]
    found = impact(sources, host)
    assert found.unknown == ()
    assert service_metrics.judged(found.requests) == len(truth)
    assert service_metrics.failed(found.requests) == truth.count("unavailable")


def test_host_with_incomplete_evidence_is_unknown_and_the_count_is_a_minimum(
    sources: review_sources.Sources,
) -> None:
    (gap,) = impact(sources, "katago-3").unknown
    assert (gap.begin, gap.end) == (BEGIN, END)
    assert "At least 123 of 608 counted requests" in text(sources)


def scrape(at: float, started: float, count: float) -> Scrape:
    lines = (
        f'process_start_time_seconds {started}\nkatago_requests_total{{tool="t",status="error"}} {count}\n'
    )
    return Scrape(at, started, prometheus.parse(lines), f"{at}")


@given(st.data())
def test_no_request_is_counted_twice(data: st.DataObject) -> None:
    """Processes with requests are scraped at any time. The count must match the requests in each period."""
    at, lives = 1000.0, []
    for _ in range(data.draw(st.integers(1, 4))):
        begin = at + data.draw(st.integers(1, 50))
        end = begin + data.draw(st.integers(1, 300))
        lives.append(
            (begin, end, sorted(data.draw(st.lists(st.integers(int(begin) + 1, int(end)), max_size=20))))
        )
        at = end
    times = sorted(data.draw(st.sets(st.integers(1001, int(at)), max_size=8)))
    taken = []
    for when in times:
        for begin, end, requests in lives:
            if begin <= when <= end:
                taken.append(scrape(when, begin, sum(each <= when for each in requests)))
    spans = list(review_impact.windows(taken))
    every = [each for *_, requests in lives for each in requests]
    for span in spans:
        assert span.requests["error"] == sum(span.begin < each <= span.end for each in every)
    assert all(one.end <= other.begin for one, other in itertools.pairwise(spans))


def test_changed_clock_between_scrapes_adds_no_requests() -> None:
    """The process reports another start: its total must not count for the time between the scrapes."""
    assert [span.end for span in review_impact.windows([scrape(100, 50, 10), scrape(200, 20, 12)])] == [100]


def test_requests_before_the_incident_are_not_counted() -> None:
    collection = review_sources.Collection(
        "h",
        END,
        "e",
        {"metrics.txt": review_sources.Item("e/metrics.txt", METRICS.format(BEGIN - 86400, 500), 0.0, 0.0)},
    )
    found = review_impact.of_host("h", [collection], Journal(), BEGIN, END)
    assert found.counted == ()
    assert [gap.at_most for gap in found.unknown] == [500]


def evidence_of(
    at: float, delay: float, failures: Sequence[float], *, has_time: bool
) -> review_sources.Collection:
    """Metrics and journal of a host whose calls failed at `failures`, collected `delay` seconds late."""
    taken = at + delay
    began = taken if has_time else None
    calls = [(BEGIN - 60, "ok"), *((when, "error") for when in failures if when <= taken)]
    metrics = METRICS.format(BEGIN - 86400, sum(when <= taken for when in failures))
    items = {
        name: review_sources.Item(f"e/{name}", content, 0.0, 0.0, exit=0, began=began, seconds=0.2)
        for name, content in (("metrics.txt", metrics), ("journal.jsonl", journal_lines(calls)))
    }
    return review_sources.Collection("h", at, f"e/{at}", items)


@pytest.mark.parametrize("has_time", [True, False])
def test_failure_during_the_collection_is_not_counted_twice(has_time: bool) -> None:
    """The directory is created seconds before the host collects."""
    middle = BEGIN + 600
    failures = [middle + 1 + number / 10 for number in range(25)]
    kept = [evidence_of(at, 4, failures, has_time=has_time) for at in (BEGIN + 60, middle, END + 60)]
    found = review_impact.of_host("h", kept, timeline.merged_journal(kept), BEGIN, END)
    assert service_metrics.failed(found.requests) == 25
    if has_time:
        assert found.unknown == ()
    else:
        (doubtful,) = found.unknown
        assert (doubtful.at_most, doubtful.why) == (25, "during a scrape")


def test_request_during_a_scrape_is_uncertain() -> None:
    at = BEGIN + 600
    failures = [at + 4.1]
    kept = [evidence_of(each, 4, failures, has_time=True) for each in (BEGIN + 60, at, END + 60)]
    found = review_impact.of_host("h", kept, timeline.merged_journal(kept), BEGIN, END)
    assert service_metrics.failed(found.requests) == 0
    assert [(gap.begin, gap.end, gap.at_most) for gap in found.unknown] == [(at + 4, at + 4.2, 1)]


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=8))
def test_measurements_of_a_clock_are_combined_and_contain_the_true_offset(errors: list[float]) -> None:
    offsets = [120.0 + error for error in errors]
    collections = [
        review_sources.Collection("h", at, f"e/{at}", {"x": review_sources.Item("e", "", offset, 2.0)})
        for at, offset in enumerate(offsets)
    ]
    items = [each.items["x"] for each in review_sources.agreed(collections)]
    assert len({item.offset for item in items}) == 1
    assert all(abs(120.0 - (item.offset or 0)) <= item.uncertainty + 0.001 for item in items)
    assert all(item.uncertainty <= 2.001 for item in items)


def test_changed_clock_keeps_both_offsets() -> None:
    measured = [(0.0, 0.5), (0.6, 0.5), (60.0, 0.5), (60.4, 0.1)]
    collections = [
        review_sources.Collection("h", at, f"e/{at}", {"x": review_sources.Item("e", "", offset, doubt)})
        for at, (offset, doubt) in enumerate(measured)
    ]
    offsets = [each.items["x"].offset for each in review_sources.agreed(collections)]
    assert offsets == pytest.approx([0.3, 0.3, 60.4, 60.4])


def test_rows_around_a_clock_change_are_uncertain_by_the_whole_change() -> None:
    """The clock is set one minute ahead between the first and the second evidence."""
    lines = [(BEGIN, 0.0), (BEGIN + 50, 0.0), (BEGIN + 250, 60.0), (BEGIN + 350, 60.0)]
    kept = []
    for taken, offset in ((BEGIN + 100, 0.0), (BEGIN + 300, 60.0), (BEGIN + 400, 60.0)):
        calls = [(at + ahead, "error" if at > BEGIN else "ok") for at, ahead in lines if at <= taken]
        item = review_sources.Item(
            "e/journal.jsonl", journal_lines(calls), offset, 0.1, exit=0, began=taken + offset
        )
        kept.append(review_sources.Collection("h", taken, f"e/{taken}", {"journal.jsonl": item}))
    found = list(review_sources.moved(review_sources.agreed(kept)))
    journal = timeline.merged_journal(found)
    doubts = [(row.at - BEGIN, row.uncertainty) for row in journal.rows]
    expected = [(50, 0.1), (250, 60.1), (350, 0.1)]
    assert [each for each, _ in doubts] == pytest.approx([each for each, _ in expected])
    assert [each for _, each in doubts] == pytest.approx([each for _, each in expected])
    assert not journal.covers(BEGIN + 150, BEGIN + 250)
    assert journal.covers(BEGIN + 10, BEGIN + 90)
    assert journal.covers(BEGIN + 310, BEGIN + 390)


METRICS = 'process_start_time_seconds {}\nkatago_requests_total{{tool="t",status="error"}} {}\n'


@pytest.mark.parametrize("content", ["", "no metrics at all", METRICS.format("NaN", "NaN")])
def test_unusable_metrics_are_unknown_and_not_zero(content: str) -> None:
    item = review_sources.Item("e/metrics.txt", content, 0.0, 0.0)
    collection = review_sources.Collection("h", END, "e", {"metrics.txt": item})
    found = review_impact.of_host("h", [collection], Journal(), BEGIN, END)
    assert found.counted == ()
    assert [(gap.begin, gap.end, gap.at_most) for gap in found.unknown] == [(BEGIN, END, None)]


def test_journal_without_the_log_level_of_calls_counts_nothing() -> None:
    calls = (timeline.Call(BEGIN + 1, "unavailable", None, "t"),)
    silent = Journal(calls=calls, covered=((BEGIN, END),), complete=False)
    assert review_impact.of_host("h", [], silent, BEGIN, END).counted == ()
    whole = Journal(calls=calls, covered=((BEGIN, END),), complete=True)
    (span,) = review_impact.of_host("h", [], whole, BEGIN, END).counted
    assert span.requests == {"unavailable": 1}


def journal_lines(calls: Iterable[tuple[float, str]]) -> str:
    """A journal of calls, as journalctl prints it."""
    host = recorded.Host("katago-1", [])
    for when, status in calls:
        host.call(when, status, 0.1)
    return host.journal(END + 3600).decode()


@pytest.mark.parametrize(
    ("entry", "is_whole"),
    [
        ({"exit": 0, "problem": None}, True),
        ({"exit": 0, "problem": "the newest 4194304 bytes are kept"}, True),
        ({"exit": None, "problem": "did not finish within 5 s"}, False),
        ({"exit": None, "problem": "did not finish within 5 s; the newest 4194304 bytes are kept"}, False),
        ({"exit": 1, "problem": "status 1: Bad message"}, False),
        ({}, True),
    ],
)
def test_cut_journal_counts_only_until_its_last_line(
    tmp_path: Path, entry: dict[str, object], is_whole: bool
) -> None:
    """The outage started after the last line that was read before the deadline."""
    _, opened = next(recorded.state())
    recorded.write_lines(tmp_path / "incidents" / recorded.INCIDENT / "state.jsonl", [(BEGIN, opened)])
    kept = evidence_records.Records(tmp_path, recorded.INCIDENT).begin_evidence(
        "katago-1", recorded.stamp(END + 60), ["journal.jsonl"], recorded.signer()
    )
    lines = journal_lines((at, "ok") for at in range(int(BEGIN) - 60, int(END) - 600, 10))
    kept.keep({"name": "journal.jsonl", "clock_offset_seconds": 0.0, **entry}, lines.encode())
    kept.close(complete=True)
    (collection,) = review_sources.read(tmp_path, recorded.INCIDENT, []).collections
    journal = timeline.merged_journal([collection])
    last = END + 60 if is_whole else END - 610
    assert journal.covered == ((BEGIN - 60, last),)
    found = review_impact.of_host("katago-1", [collection], journal, BEGIN, END)
    assert (found.unknown == ()) is is_whole


def test_candidates_are_changes_before_the_start_and_exhausted_resources(
    sources: review_sources.Sources,
) -> None:
    found = causes.candidates(sources, rows(sources))
    listed = {(each.kind, each.what.partition(":")[0]) for each in found}
    assert ("Engine failure", "engine_state") in listed
    assert ("Resource exhausted", "Out of memory") in listed
    assert ("Resource exhausted", "memory") in listed
    (change,) = [each for each in found if each.kind == "Change before the incident"]
    assert change.what.startswith(f"switched to {recorded.NEW}")
    assert causes.relation(change.at, BEGIN) == "22 min before the start"
    assert [each.at for each in found if each.at and each.at <= BEGIN] == sorted(
        (each.at for each in found if each.at and each.at <= BEGIN), reverse=True
    )


DISK = "Filesystem Type 1024-blocks Used Available Capacity Mounted on\n{} 10 9 1 {}% /var\n"


@pytest.mark.parametrize(
    ("name", "content", "exhausted"),
    [
        ("disk.txt", DISK.format("/dev/vda1 ext4", 99), True),
        ("disk.txt", DISK.format("/dev/vda1 ext4", 98), False),
        ("disk.txt", DISK.format("/dev/loop1 squashfs", 100), False),
        ("inodes.txt", DISK.format("/dev/vda1", 100), True),
        ("memory.txt", "MemTotal: 100 kB\nMemAvailable: 2 kB\n", True),
        ("memory.txt", "MemTotal: 100 kB\nMemAvailable: 3 kB\n", False),
        ("memory.txt", "MemTotal: 0 kB\n", False),
    ],
)
def test_resource_is_exhausted_at_its_limit(name: str, content: str, exhausted: bool) -> None:
    collection = review_sources.Collection("h", 0, "e", {name: review_sources.Item(name, content, 0, 0)})
    assert bool(list(causes.exhausted(collection))) is exhausted


def test_changed_evidence_is_not_verified(root: Path) -> None:
    (path,) = root.glob("evidence/*/katago-1/*/journal.jsonl")
    path.write_bytes(path.read_bytes() + b"{}\n")
    found = text(review_sources.read(root, recorded.INCIDENT, recorded.FLEET))
    assert "not verified: journal.jsonl was changed" in found
    assert "(not verified)" in found


def test_missing_data_is_listed(root: Path) -> None:
    found = text(review_sources.read(root, recorded.INCIDENT, [*recorded.FLEET, "katago-9"]))
    assert "katago-9: no evidence was collected from this host." in found
    assert "timeline.jsonl: invalid lines: 7" in found
    assert "the run was interrupted" in found
    assert "T023700Z: incomplete: disk.txt: it ended with status 1" in found
    assert "katago-3: the requests from 2026-11-03 02:02:00 to 2026-11-03 02:36:00 are unknown." in found
    assert "katago-2: its clock was 120.0 s ahead (±0.1 s). Times are corrected." in found


def test_evidence_without_a_manifest_has_an_unknown_clock(root: Path) -> None:
    for path in root.glob("evidence/*/katago-2/*/manifest.jsonl"):
        path.unlink()
    found = text(review_sources.read(root, recorded.INCIDENT, recorded.FLEET))
    assert "katago-2: the error of its clock is unknown. Its times are not corrected." in found
    assert "(clock unknown)" in found


def test_unknown_incident_is_refused_with_the_recorded_ones(root: Path) -> None:
    with pytest.raises(
        evidence_records.RecordError,
        match=f"There is no incident 'x'. Recorded incidents: {recorded.INCIDENT}",
    ):
        review_sources.read(root, "x", [])


def test_incident_without_evidence_has_a_review(tmp_path: Path) -> None:
    _, opened = next(recorded.state())
    recorded.write_lines(tmp_path / "incidents" / recorded.INCIDENT / "state.jsonl", [(BEGIN + 60, opened)])
    found = text(review_sources.read(tmp_path, recorded.INCIDENT, ["katago-1"]))
    assert "Unknown: the evidence has no usable counters and no complete journal." in found
    assert "The close of the incident: it is still open" in found
    assert "timeline.jsonl: the file does not exist" in found


GOOD = recorded.ANSWERS
ITEMS = "".join(GOOD.partition("action_items:")[1:])


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            *("priority: High", "priority: Urgent"),
            "line 15: action_items[1].priority is 'Urgent'; accepted: High, Medium, Low",
        ),
        (
            "due: 2026-11-20",
            "due: soon",
            "line 14: action_items[1].due is 'soon'; give a day such as 2026-01-31",
        ),
        (
            "due: 2026-11-20",
            "due: 2026-02-30",
            "line 14: action_items[1].due is '2026-02-30'; give a day such as",
        ),
        ("owner: Bo", "owner: TBD", "line 17: action_items[2].owner is required"),
        ("    owner: Bo\n", "", "line 16: action_items[2].owner is required"),
        (
            *("status: done\n", "status: finished\n"),
            "line 24: action_items[3].status is 'finished'; accepted: open, done, dropped",
        ),
        (
            *("    done_on: 2026-11-09\n", ""),
            "line 24: action_items[3].status is done, so done_on is required; give the day",
        ),
        ("  cause:", "  casue:", "line 8: answers has the unknown key 'casue'; did you mean cause?"),
        ("lead: Anna", "lead: [Anna]", "line 1: lead must be text"),
        ("lead: Anna", "lead: Anna\nlead: Bo", "line 2: the file has the key lead twice"),
        (
            "concluded: 2026-11-04",
            "concluded: yesterday",
            "line 2: concluded is 'yesterday'; give a day such as",
        ),
    ],
)
def test_invalid_answers_are_refused_with_line_and_field(old: str, new: str, problem: str) -> None:
    assert old in GOOD
    with pytest.raises(answers.AnswersError) as caught:
        answers.parse(GOOD.replace(old, new, 1), "answers.yml")
    assert f"answers.yml, {problem}" in str(caught.value)


def test_invalid_yaml_is_refused_with_the_line() -> None:
    with pytest.raises(answers.AnswersError, match="line 2"):
        answers.parse("lead: Anna\n\tx: y\n", "answers.yml")


@given(st.text())
def test_any_text_is_parsed_or_refused(content: str) -> None:
    try:
        assert isinstance(answers.parse(content, "answers.yml"), answers.Answers)
    except answers.AnswersError as error:
        assert "answers.yml" in str(error)


@pytest.mark.parametrize(
    ("old", "new", "left"),
    [
        ("", "", ()),
        (
            *("The pre-flight validation ran one query at a time.", "TBD"),
            ("Why wasn't it caught earlier?",),
        ),
        (ITEMS, "", ("Action items, or the reason for having none (no_action_items)",)),
        (ITEMS, "no_action_items: it cannot be helped", ()),
        ("concluded: 2026-11-04", "", ("The day on which the review was concluded (concluded)",)),
    ],
)
def test_blank_answers_keep_the_review_open(
    sources: review_sources.Sources, old: str, new: str, left: tuple[str, ...]
) -> None:
    assert old in GOOD
    answer_set = answers.parse(GOOD.replace(old, new, 1), "answers.yml")
    standing = answers.standing(sources.incident, answer_set)
    assert standing.unanswered == left
    assert standing.is_overdue("2026-11-05T02:36:01Z") is bool(left)
    assert not standing.is_overdue("2026-11-05T02:36:00Z")


def test_late_review_is_marked_as_late(sources: review_sources.Sources) -> None:
    answer_set = answers.parse(GOOD.replace("2026-11-04", "2026-11-06"), "answers.yml")
    assert "concluded on 2026-11-06, after its due date (2026-11-05 02:36:00)" in text(sources, answer_set)


def test_secret_in_the_answers_is_redacted_and_its_line_reported(
    sources: review_sources.Sources,
) -> None:
    typed = GOOD.replace("cause: The", "cause: the password=Tr0ub4dor+3, the")
    answer_set = answers.parse(typed, "answers.yml")
    assert answer_set.secrets == ("answers.yml, line 8: answers.cause",)
    document = review_document.build(sources, answer_set)
    for page in (review_blocks.as_markdown(document), review_blocks.as_html(document)):
        assert "Tr0ub4dor" not in page
        assert "hunter2hunter2" not in page


@given(st.text())
def test_html_escapes_any_text(words: str) -> None:
    blocks: list[review_blocks.Block] = [
        review_blocks.Paragraph(words),
        review_blocks.Table(("a",), ((words,),)),
        review_blocks.Bullets((words,)),
    ]
    html = review_blocks.as_html(review_blocks.Document(words, blocks))
    page = Page()
    page.feed(html)
    assert page.problems == []
    assert page.open == []


@given(st.text(alphabet="|\\`*_[]<>~#-+=1.) \nab&", min_size=1))
def test_markdown_keeps_any_text_in_its_cell(words: str) -> None:
    table = review_blocks.as_markdown(
        review_blocks.Document("t", [review_blocks.Table(("a", "b"), ((words, "x"),))])
    )
    (row,) = table.splitlines()[4:]
    bare = row.replace("\\\\", "").replace("\\|", "")
    assert bare.count("|") == 3
    assert "<" not in row


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e3), st.floats(0, 1e9))))
def test_graph_is_valid_and_within_its_frame(steps: list[tuple[float, float, float]]) -> None:
    line = [charts.Step(begin, begin + length, value) for begin, length, value in steps]
    frame = charts.Frame(0, 1e4, (10, 20))
    svg = charts.steps("a <b> & c", "%", {"<i>": line, "j": []}, frame, [charts.Mark(5, 1)])
    drawing = ElementTree.fromstring(svg)  # noqa: S314 - it is our own
    assert drawing.tag == "svg"
    for each in drawing.iter("path"):
        numbers = [float(part) for part in each.attrib["d"].replace("M", " ").replace("L", " ").split()]
        assert all(0 <= number <= 720 for number in numbers)


def test_incomplete_last_line_of_the_record_is_reported(root: Path) -> None:
    with (root / "incidents" / recorded.INCIDENT / "state.jsonl").open("a") as file:
        file.write('{"at": ')
    assert "the last line is incomplete" in text(review_sources.read(root, recorded.INCIDENT, []))


def test_journal_line_that_is_not_json_is_skipped(root: Path) -> None:
    (path,) = root.glob("evidence/*/katago-1/*/journal.jsonl")
    path.write_text("no json\n[1]\n" + json.dumps({"MESSAGE": "x"}) + "\n" + path.read_text())
    found = review_sources.read(root, recorded.INCIDENT, [])
    assert timeline.merged_journal(found.of("katago-1")).calls
