"""Messages have the runbook's fields or are not sent. The status page shows no host names and no jargon."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils.incident import messages, state, wording
from ansible_collections.katago.fleet.plugins.module_utils.incident.messages import (
    Contact,
    MissingError,
    Setting,
)
from ansible_collections.katago.fleet.plugins.module_utils.incident.state import (
    Escalation,
    Incident,
    Public,
    Status,
    Update,
)
from ansible_collections.katago.fleet.plugins.plugin_utils.incident import outbox, roster, statuspage

DEFAULTS = yaml.safe_load(
    (Path(__file__).resolve().parents[3] / "roles" / "incident" / "defaults" / "main.yml").read_text()
)
NOW = datetime(2026, 1, 31, 8, 47, tzinfo=UTC)
SETTING = Setting("KataGo MCP Server", "https://status.go.net")
SENIOR = Contact("senior", "Bo", "bo@go.net")


def incident(**changed: Any) -> Incident:
    """An incident with every field set."""
    values: dict[str, Any] = {
        "id": "2026-01-31-1",
        "opened_at": "2026-01-31T08:00:00Z",
        "opened_by": "anna@control",
        "started": "2026-01-31T07:42:00Z",
        "severity": "P1",
        "severity_by": "triage",
        "worst": "P0",
        "respond_by": "2026-01-31T08:05:00Z",
        "last_update_at": "2026-01-31T08:00:00Z",
        "fleet_size": 3,
        "findings": {
            "katago-1/unit": state.Finding("katago-1", "P0", "unit", "it is inactive"),
            "katago-2/probe": state.Finding("katago-2", "P1", "probe", "probes fail"),
        },
        "lead": "Anna",
        "impact": "No analyses",
        "summary": "katago-1 is down",
        "next_steps": "roll back",
        "resolution": "rolled back to 1-aa",
        "updates": [Update(1, "2026-01-31T08:20:00Z", ("called the data centre",), {})],
        "escalations": [Escalation(1, "2026-01-31T08:30:00Z", "senior", "stuck")],
        "public": [Public(1, "2026-01-31T08:00:00Z", "investigating", "We look into it.")],
    }
    return Incident(**{**values, **changed})


EVENTS = [
    {"at": "2026-01-31T08:01:00Z", "host": "katago-1", "procedure": "restart", "result": "begun"},
    {
        "at": "2026-01-31T08:04:00Z",
        "host": "katago-1",
        "procedure": "restart",
        "result": "partial",
        "message": "It does not start.\nmore",
    },
    {"at": "2026-01-31T08:05:00Z", "host": "katago-1", "task": "a task", "result": "ok"},
    {
        "at": "2026-01-31T08:06:00Z",
        "host": "katago-1",
        "procedure": "deploy",
        "result": "refused",
        "message": "The host is locked.",
    },
]


def test_declaration_has_the_runbooks_fields() -> None:
    message = messages.declaration(incident(), SETTING)
    assert message.text.splitlines() == [
        "INCIDENT DECLARED: P1",
        "Service: KataGo MCP Server",
        "Impact: No analyses",
        "Started: 2026-01-31T07:42:00Z",
        "Lead: Anna",
        "Respond by: 2026-01-31T08:05:00Z",
        "Incident: 2026-01-31-1",
        "Status page: https://status.go.net",
    ]


def test_update_has_the_runbooks_fields_and_the_results_of_procedures() -> None:
    message = messages.update(incident(), messages.timeline_actions(EVENTS), SETTING)
    assert message.text.splitlines() == [
        "UPDATE: KataGo MCP Server incident",
        "Time: 2026-01-31T08:20:00Z",
        "Status: Investigating",
        "Impact: No analyses",
        "Actions taken:",
        "- 2026-01-31T08:04:00Z restart on katago-1: partial. It does not start.",
        "- 2026-01-31T08:20:00Z called the data centre",
        "Next steps: roll back",
        "ETA: unknown",
        "Lead: Anna",
        "Next update by: 2026-01-31T08:15:00Z",
    ]


def test_stand_down_is_computed() -> None:
    closed = incident(
        status="resolved",
        resolved_at="2026-01-31T08:47:00Z",
        closed_at="2026-01-31T09:30:00Z",
        joins=3,
        recurrences=1,
    )
    done = [*messages.timeline_actions(EVENTS), *messages.reported_actions(closed)]
    message = messages.stand_down(closed, done, SETTING)
    assert message.text.splitlines() == [
        "INCIDENT RESOLVED: 2026-01-31T08:47:00Z",
        "Service: KataGo MCP Server",
        "Duration: 1 h 5 min",
        "Impact: No analyses (highest severity P0, 2 of 3 hosts: P0 on katago-1, P1 on katago-2, 4 alerts,"
        " recurred 1 time)",
        "Resolution: rolled back to 1-aa",
        "- 2026-01-31T08:04:00Z restart on katago-1: partial. It does not start.",
        "- 2026-01-31T08:20:00Z called the data centre",
        "Incident: 2026-01-31-1",
    ]


def test_escalation_has_the_runbooks_fields() -> None:
    message = messages.escalation(incident(), incident().escalations[-1], [], SENIOR, NOW, SETTING)
    assert (message.to, message.audience) == ("bo@go.net", "escalation")
    assert message.text.splitlines() == [
        "ESCALATION NEEDED: KataGo MCP Server incident",
        "Incident ID: 2026-01-31-1",
        "Severity: P1",
        "Duration: 1 h 5 min",
        "Current responder: Anna",
        "Summary: katago-1 is down",
        "Impact: No analyses",
        "Actions taken:",
        "- none yet",
        "Why escalating: stuck",
        "Next person: Bo (senior)",
    ]


MAKERS = {
    "declaration": lambda each: messages.declaration(each, SETTING),
    "update": lambda each: messages.update(each, [], SETTING),
    "stand_down": lambda each: messages.stand_down(each, [], SETTING),
    "escalation": lambda each: messages.escalation(each, each.escalations[-1], [], SENIOR, NOW, SETTING),
}


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("declaration", "lead"),
        ("declaration", "impact"),
        ("update", "lead"),
        ("update", "impact"),
        ("update", "next_steps"),
        ("stand_down", "impact"),
        ("stand_down", "resolution"),
        ("escalation", "lead"),
        ("escalation", "summary"),
        ("escalation", "impact"),
    ],
)
def test_missing_field_is_named_with_the_remedy(message: str, name: str) -> None:
    ended = {"resolved_at": "2026-01-31T08:47:00Z", "closed_at": "2026-01-31T08:47:00Z"}
    whole = incident(**ended)
    assert MAKERS[message](whole)
    with pytest.raises(MissingError, match=rf"^{name} is missing\. Run .*incident_update\.yml.* -e '{name}="):
        MAKERS[message](incident(**ended, **{name: ""}))
    with pytest.raises(MissingError, match=f"^{name} is a placeholder"):
        MAKERS[message](incident(**ended, **{name: "TBD"}))


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "TBD",
        "tbd",
        "your-name",
        "your name here",
        "oncall@company.com",
        "ops@example.com",
        "ops@mail.example.org",
        "https://hooks.example.net/x",
        "hooks.example",
        "+1-555-0100",
        "+1 (555) 010-0199",
        "(212) 555-0134",
        "555-1234",
        "000-000-0000",
        "<name>",
        "xxx",
        "???",
        "changeme",
        "N/A",
    ],
)
def test_placeholder_is_recognised(value: str) -> None:
    assert wording.is_placeholder(value)


@pytest.mark.parametrize(
    "value",
    [
        "anna@go.net",
        "Anna Youngblood",
        "https://hooks.slack.com/services/T0/B0/abcTBDabc",
        "+49 30 5550123",
        "+1-212-867-5309",
        "counterexample.com",
        "127.0.0.1",
        "oncall@na.go.net",
        "Todor Yourcenar",
    ],
)
def test_real_contact_is_accepted(value: str) -> None:
    assert not wording.is_placeholder(value)


@pytest.mark.parametrize("text", ["", "TBD", "tbd.", "n/a", "<what is broken>", "???", "xxx", "TODO"])
def test_filler_text_is_recognised(text: str) -> None:
    assert wording.is_filler(text)


@pytest.mark.parametrize(
    "text",
    [
        "1 of 555 hosts",
        "0 analyses work",
        "Your games are not analysed",
        "the todo list fails",
        "no (TBD later)",
    ],
)
def test_real_text_is_accepted(text: str) -> None:
    assert not wording.is_filler(text)


@pytest.mark.parametrize(
    ("host", "path", "example"),
    [
        ("hooks.slack.com", "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX", True),
        ("hooks.slack.com", "/services/T024BE7LD/B0/abc-TBD-NA", False),
        ("events.na.go.net", "/x", False),
        ("hooks.example.com", "/x", True),
        ("hooks.go.net", "/services/your-token", True),
        ("your-webhook", "/", True),
    ],
)
def test_example_address_is_recognised(host: str, path: str, example: bool) -> None:
    assert wording.is_placeholder_url(host, path) is example


HOSTS = ["katago-1", "db7.go.net", "10.1.2.3"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("We restart KATAGO-1 now.", "katago-1"),
        ("db7 is slow", "db7"),
        ("See db7.go.net", "db7.go.net"),
        ("It is at 192.168.0.7.", "192.168.0.7"),
        ("It is at fe80::1:2, look.", "fe80::1:2"),
        ("Ask box.corp about it", "box.corp"),
        ("The GPUs are out of memory", "'GPU'"),
        ("a ROLLBACK is done", "'rollback'"),
        ("stack  trace: none; root cause found", "'root cause'"),
        ("\uff27\uff30\uff35 trouble", "'GPU'"),
        ("look at /var/log/syslog", "/var/log/syslog"),
        ("", "empty"),
    ],
)
def test_text_that_must_not_be_published_is_reported(text: str, named: str) -> None:
    problems = list(wording.public_problems(text, HOSTS, DEFAULTS["incident_jargon"]))
    assert any(named in problem for problem in problems), problems


@pytest.mark.parametrize("status", state.STATUSES)
def test_default_public_texts_can_be_published(status: Status) -> None:
    text = DEFAULTS["incident_public_texts"][status]
    assert text == statuspage.TEXTS[status]
    assert list(wording.public_problems(text, HOSTS, DEFAULTS["incident_jargon"])) == []


def test_word_that_only_contains_jargon_or_a_host_name_is_accepted() -> None:
    text = "At 10:30 players of katago-12 observed a hostile threadbare position, v1.2.3."
    assert list(wording.public_problems(text, ["katago-1"], ["host", "thread", "server"])) == []


class Page(HTMLParser):
    """Parses a page. Fails if a tag is not closed or something is loaded from elsewhere."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """No tag or attribute may refer to anything outside the page."""
        assert tag not in ("script", "link", "img", "iframe", "object", "base"), tag
        for name, value in attrs:
            assert name not in ("src", "href", "action", "background") and not name.startswith("on"), name
            assert "url(" not in (value or "")
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Tags must be closed in order."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Text, including the style sheet."""
        assert "@import" not in data
        assert "url(" not in data
        self.text += data


def parsed(text: str) -> Page:
    """The parsed page. Every tag must be closed."""
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert text.startswith("<!DOCTYPE html>")
    return page


def entry(number: int, status: Any, text: str, at: str = "2026-01-31T08:00:00Z") -> Public:
    return Public(number, at, status, text)


def test_page_is_valid_self_contained_and_newest_first() -> None:
    shown = statuspage.Published(
        True, (entry(1, "investigating", "First."), entry(2, "identified", "Second."))
    )
    page = parsed(statuspage.render([shown], "Status", NOW))
    assert page.text.index("Second.") < page.text.rindex("First.")
    assert page.tags.count("li") == 2


def test_page_wraps_long_words() -> None:
    (style,) = re.findall(r"<style>(.*)</style>", statuspage.render([], "Status", NOW))
    assert "overflow-wrap:anywhere" in re.findall(r"^body\{(.*?)\}", style)[0]


def test_page_without_recent_incidents_shows_normal_operation() -> None:
    old = statuspage.Published(False, (entry(1, "resolved", "Old.", "2026-01-01T00:00:00Z"),))
    page = parsed(statuspage.render([old], "Status", NOW))
    assert "Everything works normally." in page.text
    assert "Old." not in page.text


def test_page_shows_every_open_incident() -> None:
    shown = [statuspage.Published(True, (entry(1, "investigating", text),)) for text in ("One.", "Two.")]
    page = parsed(statuspage.render(shown, "Status", NOW))
    assert page.tags.count("section") == 2
    assert "Everything works" not in page.text


@given(text=st.text(max_size=60), title=st.text(max_size=20))
def test_no_text_adds_markup_to_the_page(text: str, title: str) -> None:
    quiet = parsed(statuspage.render([statuspage.Published(True, (entry(1, "resolved", "x"),))], "t", NOW))
    page = parsed(statuspage.render([statuspage.Published(True, (entry(1, "resolved", text),))], title, NOW))
    assert page.tags == quiet.tags


def test_markup_in_a_text_is_shown_as_text() -> None:
    shown = statuspage.Published(True, (entry(1, "investigating", "<script>alert(1)</script>"),))
    assert "<script>alert(1)</script>" in parsed(statuspage.render([shown], "Status", NOW)).text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3900, "1 h 5 min"), (90000, "1 d 1 h")]
)
def test_duration_text(seconds: int, text: str) -> None:
    assert messages.duration_text(timedelta(seconds=seconds)) == text


ROSTER = {
    "verify_by": "2026-06-30",
    "contacts": {
        "senior": {"name": "Bo", "email": "bo@go.net"},
        "security": {"name": "Cy", "phone": "+49 30 1"},
    },
}


def test_valid_roster_has_no_problems() -> None:
    assert list(roster.problems(ROSTER, date(2026, 6, 30))) == []
    assert roster.contact(ROSTER, "senior") == Contact("senior", "Bo", "bo@go.net")


def test_overdue_roster_or_placeholder_is_reported_without_the_contact() -> None:
    (overdue,) = roster.problems(ROSTER, date(2026, 7, 1))
    assert "by 2026-06-30" in overdue
    secret = {
        "verify_by": "2026-06-30",
        "contacts": {"senior": {"name": "Bo", "email": "bo.secret@example.com"}},
    }
    (problem,) = roster.problems(secret, date(2026, 1, 1))
    assert problem == "incident_roster.contacts.senior.email is a placeholder"
    with pytest.raises(roster.RosterError, match=r"senior\.email is a placeholder"):
        roster.contact(secret, "senior")
    with pytest.raises(
        roster.RosterError, match="incident_roster has no contact 'boss'; its contacts: security, senior"
    ):
        roster.contact(ROSTER, "boss")


def desk(**changed: Any) -> outbox.Desk:
    values = {"now": NOW, "setting": SETTING, "page_title": "Status", "roster": ROSTER, "all": [incident()]}
    return outbox.Desk(**{**values, **changed})


def test_only_the_newest_message_of_each_kind_is_due() -> None:
    letters, problems = outbox.letters(incident(), EVENTS, desk())
    assert [each.message.name for each in letters] == ["declaration", "update-1", "escalation-1", "status-1"]
    assert problems == []
    ended = incident(closed_at="2026-01-31T08:47:00Z", resolved_at="2026-01-31T08:47:00Z")
    letters, _ = outbox.letters(ended, EVENTS, desk())
    assert [each.message.name for each in letters] == ["stand-down", "status-1"]


def test_without_a_lead_only_the_status_page_is_updated() -> None:
    letters, problems = outbox.letters(incident(lead=""), EVENTS, desk())
    assert [each.message.name for each in letters] == ["status-1"]
    assert [problem.split(" was not sent: lead is missing")[0] for problem in problems] == [
        "declaration",
        "update",
        "escalation",
    ]


def test_automatic_escalation_needs_no_lead_and_does_not_replace_others() -> None:
    calls = [
        state.Escalation(number, "2026-01-31T08:30:00Z", to, "new", frozenset({"x"}), automatic=True)
        for number, to in ((1, "senior"), (2, "security"), (3, "senior"))
    ]
    letters, _ = outbox.letters(incident(lead="", escalations=calls), EVENTS, desk())
    texts = {each.message.name: each.message.text for each in letters}
    assert list(texts) == ["escalation-1", "escalation-2", "escalation-3", "status-1"]
    assert "Current responder: nobody yet" in texts["escalation-2"]
    assert "(security)" in texts["escalation-2"]


def test_invalid_lines_of_a_timeline_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    assert outbox.read_timeline(path) == []
    path.write_text('{"at": "2026-01-31T08:00:00Z"}\n{"at": "20\n[]\n{"no": 1}\n{"at": "2026')
    assert outbox.read_timeline(path) == [{"at": "2026-01-31T08:00:00Z"}]


@pytest.mark.parametrize(("number", "mark"), [("drill-2026-12-01-12", "DRILL: "), ("drill-sergeant", "")])
def test_every_message_of_a_drill_says_so(number: str, mark: str) -> None:
    public = [Public(1, "2026-01-31T08:10:00Z", "investigating", "We look into it.")]
    drill = incident(id=number, updates=[Update(1, "2026-01-31T08:10:00Z", (), {})], public=public)
    for sent in (messages.declaration(drill, SETTING), messages.update(drill, [], SETTING)):
        assert sent.subject.startswith(f"{mark}{'INCIDENT' if 'DECLARED' in sent.subject else 'UPDATE'}")
        assert sent.text.startswith(sent.subject.partition(" [")[0])
    assert messages.public(drill).text.startswith(f"{mark}2026-01-31T08:10:00Z - We look")
