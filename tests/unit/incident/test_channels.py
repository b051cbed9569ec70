"""Messages reach real servers once, pass the dead ones, and carry no secret anywhere else."""

from __future__ import annotations

import email
import email.policy
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.incident import channels, delivery
from ansible_collections.katago.fleet.plugins.module_utils.incident.channels import (
    FailedError,
    Group,
    Sink,
    UnknownError,
)
from ansible_collections.katago.fleet.plugins.module_utils.incident.delivery import Letter
from ansible_collections.katago.fleet.plugins.module_utils.incident.messages import Message
from tests import loopback

SECRET = "c4n4ry-s3cr3t"
MESSAGE = Message(
    "declaration", "team", "INCIDENT DECLARED: P1 [i-1]", "INCIDENT DECLARED: P1\nImpact: <b> & more"
)
PARCEL = channels.Parcel("i-1/declaration/team/s", "i-1", "P1", MESSAGE, page="<!DOCTYPE html>page")


def sink(kind: Any, name: str = "s", **options: Any) -> Sink:
    return Sink(name, kind, options)


def refused_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}/services/{SECRET}"


def test_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "messages.jsonl"
    for _ in range(2):
        channels.send(sink("file", path=str(path)), PARCEL)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["text"] for line in lines] == [MESSAGE.text] * 2
    assert (lines[0]["key"], lines[0]["severity"]) == (PARCEL.key, "P1")


def test_page_is_replaced_whole_and_readable_by_all(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text("an earlier page, which is longer than the new one")
    channels.send(sink("page", path=str(path)), PARCEL)
    assert path.read_text() == PARCEL.page
    assert path.stat().st_mode & 0o777 == 0o644


def test_directory_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    for kind in ("file", "page"):
        with pytest.raises(FailedError, match="No such file or directory"):
            channels.send(sink(kind, path=str(tmp_path / "absent" / "x")), PARCEL)


def test_webhook_gets_a_document_with_its_key_and_headers() -> None:
    with loopback.http() as server:
        wanted = sink("webhook", url=url(server.port), headers={"Authorization": f"Bearer {SECRET}"})
        channels.send(wanted, PARCEL)
    ((path, headers, body),) = server.requests
    assert path == f"/services/{SECRET}"
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert headers["Idempotency-Key"] == body["key"] == PARCEL.key
    assert (body["incident"], body["message"], body["text"]) == ("i-1", "declaration", MESSAGE.text)


def test_slack_gets_its_text_escaped() -> None:
    with loopback.http() as server:
        channels.send(sink("slack", url=url(server.port)), PARCEL)
    ((_, _, body),) = server.requests
    assert body == {"text": "INCIDENT DECLARED: P1\nImpact: &lt;b&gt; &amp; more"}


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 429, 500, 503])
def test_webhook_that_refuses_is_a_failure_and_redirects_are_not_followed(status: int) -> None:
    with loopback.http(status=status) as server, pytest.raises(FailedError, match=f"it answered {status}"):
        channels.send(sink("slack", url=url(server.port)), PARCEL)
    assert len(server.requests) == 1


def test_webhook_that_nobody_answers_at_is_a_failure() -> None:
    with pytest.raises(FailedError, match="Connection refused"):
        channels.send(sink("webhook", url=url(refused_port())), PARCEL)


@pytest.mark.parametrize("behaviour", [{"hang": 1.0}, {"drop": True}])
def test_webhook_that_took_it_and_said_nothing_is_unknown(behaviour: dict[str, Any]) -> None:
    with loopback.http(**behaviour) as server, pytest.raises(UnknownError, match="gave no answer"):
        channels.send(sink("webhook", url=url(server.port), patience=0.3), PARCEL)
    assert len(server.requests) == 1


def mail_sink(server: loopback.Smtp, **options: Any) -> Sink:
    given = {
        "host": "127.0.0.1",
        "port": server.port,
        "from": "katago@go.net",
        "to": ["ops@go.net", "lead@go.net"],
        "ca_file": str(server.ca_file),
        "patience": 5,
    }
    return sink("smtp", **{**given, **options})


def test_mail_goes_by_starttls_with_a_login(tmp_path: Path) -> None:
    with loopback.smtp(tmp_path, password=SECRET) as server:
        channels.send(mail_sink(server, username="ops", password=SECRET), PARCEL)
    ((recipients, text, encrypted),) = server.mails
    assert encrypted
    assert recipients == ["ops@go.net", "lead@go.net"]
    assert server.commands.index("STARTTLS") < server.commands.index("AUTH") < server.commands.index("MAIL")
    mail = email.message_from_string(text, policy=email.policy.default)
    assert mail["Subject"] == MESSAGE.subject
    assert mail["Message-ID"] == "<i-1.declaration.team.s@katago-mcp-fleet>"
    body = mail.get_body()
    assert body is not None
    assert body.get_content().replace("\r", "").strip() == MESSAGE.text


def test_mail_goes_by_tls_from_the_beginning(tmp_path: Path) -> None:
    with loopback.smtp(tmp_path, tls=True, password=SECRET) as server:
        channels.send(mail_sink(server, security="tls", username="ops", password=SECRET), PARCEL)
    assert len(server.mails) == 1


def test_server_without_starttls_gets_neither_password_nor_mail(tmp_path: Path) -> None:
    with (
        loopback.smtp(tmp_path, starttls=False) as server,
        pytest.raises(FailedError, match="does not offer"),
    ):
        channels.send(mail_sink(server, username="ops", password=SECRET), PARCEL)
    assert set(server.commands) <= {"EHLO", "QUIT"}


def test_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    with (
        loopback.smtp(tmp_path) as server,
        pytest.raises(FailedError, match="certificate is not trusted"),
    ):
        channels.send(mail_sink(server, ca_file=None), PARCEL)
    assert server.mails == []


@pytest.mark.parametrize(
    ("behaviour", "error", "words"),
    [
        ({"password": "another"}, FailedError, "535"),
        ({"refuses": "RCPT"}, FailedError, "refused all 2 recipients"),
        ({"refuses": "MAIL"}, FailedError, "550"),
        ({"refuses": "DATA"}, FailedError, "550"),
        ({"drops_at": "AUTH"}, FailedError, "Disconnected"),
        ({"drops_at": "END"}, UnknownError, "while it was handed over"),
    ],
)
def test_mail_that_is_not_taken_is_a_failure_and_a_lost_one_is_unknown(
    tmp_path: Path, behaviour: dict[str, Any], error: type[Exception], words: str
) -> None:
    with loopback.smtp(tmp_path, **{"password": SECRET, **behaviour}) as server:
        with pytest.raises(error, match=words) as caught:
            channels.send(mail_sink(server, username="ops", password=SECRET), PARCEL)
        assert server.mails == []
    assert SECRET not in str(caught.value)
    assert "secret words" not in str(caught.value)


def test_escalation_goes_to_the_contact_of_the_roster(tmp_path: Path) -> None:
    call = Message("escalation-1", "escalation", "ESCALATION", "text", to="bo@go.net")
    with loopback.smtp(tmp_path) as server:
        channels.send(mail_sink(server, to=[]), channels.Parcel("k", "i-1", "P1", call))
        with pytest.raises(FailedError, match="no contact with an address"):
            channels.send(mail_sink(server, to=[]), PARCEL)
    assert [recipients for recipients, _, _ in server.mails] == [["bo@go.net"]]


def test_recipients_that_are_refused_are_counted_and_not_told(tmp_path: Path) -> None:
    notes = Notes()
    with loopback.smtp(tmp_path, strangers=("lead@go.net",)) as server:
        report = notes.deliver([team(mail_sink(server))])
    assert server.mails[0][0] == ["ops@go.net"]
    assert report.sent == ("declaration to team/s",)
    assert report.passed == ("declaration: team/s has it, but it refused 1 of 2 recipients",)
    assert notes.lines[-1] == ("sent", "s", "it refused 1 of 2 recipients")


def test_call_that_its_person_does_not_get_goes_to_the_next_sink(tmp_path: Path) -> None:
    call = Message("escalation-1", "escalation", "ESCALATION", "text", to="Bo <bo@go.net>")
    notes = Notes()
    with loopback.smtp(tmp_path, strangers=("Bo@go.net",)) as server, loopback.http() as well:
        group = team(
            mail_sink(server, to=["ops@go.net", "Bo@go.net"]),
            sink("slack", "next", url=url(well.port)),
            audience="escalation",
        )
        report = delivery.deliver([Letter("i-1", "P1", call)], [group], {}, notes)
    assert report.sent == ("escalation-1 to team/next",)
    assert notes.lines[1] == ("failed", "s", "it refused the one who is called")
    assert "go.net" not in json.dumps([notes.lines, report.passed])


def test_message_that_the_disk_has_no_room_for_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "messages.jsonl"
    channels.send(sink("file", path=str(path)), PARCEL)
    before = path.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, content: write(file, content[: len(content) // 2]))
    with pytest.raises(FailedError, match="No space left on device"):
        channels.send(sink("file", path=str(path)), PARCEL)
    assert path.read_bytes() == before


def test_header_that_would_end_the_headers_is_a_failure(tmp_path: Path) -> None:
    evil = Message("declaration", "team", "a\r\nBcc: x@go.net", "text")
    with loopback.smtp(tmp_path) as server, pytest.raises(FailedError, match="cannot stand in a header"):
        channels.send(mail_sink(server), channels.Parcel("k", "i-1", "P1", evil))
    assert server.mails == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "slack", "url": f"https://hooks.example.com/{SECRET}"}, "url is a placeholder"),
        ({"kind": "slack", "url": f"https://your-webhook/{SECRET}"}, "url is a placeholder"),
        ({"kind": "slack", "url": f"ftp://go.net/{SECRET}"}, "url is no http or https address"),
        ({"kind": "slack", "url": f"https://go.net:x/{SECRET}"}, "url is no http or https address"),
        ({"kind": "slack", "url": f"https://go.net/{SECRET} x"}, "url has a blank"),
        ({"kind": "webhook", "url": ""}, "url is not given"),
        ({"kind": "webhook", "url": "http://go.net", "headers": SECRET}, "headers must be names"),
        ({"kind": "webhook", "url": "http://go.net", "patience": "long"}, "patience must be a number"),
        ({"kind": "smtp", "host": "go.net", "from": "a@example.com"}, "from is a placeholder"),
        (
            {"kind": "smtp", "host": "go.net", "from": "a@go.net", "to": "x@company.com"},
            "to has a placeholder",
        ),
        ({"kind": "smtp", "host": "go.net", "from": "a@go.net", "port": "x"}, "port must be a number"),
        ({"kind": "smtp", "host": "go.net", "from": "a@go.net", "username": "x"}, "go together"),
        (
            {"kind": "smtp", "host": "go.net", "from": "a@go.net", "security": "none", "password": SECRET},
            "a password is not sent without TLS",
        ),
    ],
)
def test_sink_that_cannot_work_is_refused_without_its_values(options: dict[str, Any], words: str) -> None:
    found = list(channels.problems(sink(**{**options})))
    assert any(words in problem for problem in found), found
    assert SECRET not in " ".join(found)


def test_shape_of_groups_is_checked_without_telling_values() -> None:
    given = [
        {"group": "team", "audience": "team", "sinks": [{"name": "a", "kind": "slak", "url": SECRET}]},
        {"group": "team", "audience": "all", "sinks": []},
        {"sinks": []},
        {
            "group": "x",
            "audience": "team",
            "sinks": [{"name": "a", "kind": "file", "path": "/x", "urll": SECRET}],
        },
        {"group": "y", "audience": "team", "sinks": [{"name": "b", "kind": "file", "path": "/x"}] * 2},
    ]
    groups, problems = channels.groups(given)
    told = " ".join(problems)
    for words in (
        "kind must be one of file",
        "audience must be one of",
        "needs group",
        "has urll",
        "y/b twice",
    ):
        assert words in told
    assert SECRET not in told
    assert [group.name for group in groups] == ["team", "x", "y"]
    assert channels.groups("x")[1] == ["incident_sinks must be a list of groups"]


class Notes:
    """What a run records, for the next one to know."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self.lines: list[tuple[str, str, str]] = []

    def __call__(self, outcome: Any, key: str, why: str) -> None:
        self.known[key] = outcome
        self.lines.append((outcome, key.rpartition("/")[2], why))

    def deliver(self, groups: Sequence[Group], **arguments: Any) -> delivery.Report:
        """One run."""
        return delivery.deliver([Letter("i-1", "P1", MESSAGE)], groups, dict(self.known), self, **arguments)


def team(*members: Sink, audience: str = "team") -> Group:
    return Group("team", audience, members)


def test_dead_sink_falls_through_to_the_next_and_is_on_record() -> None:
    notes = Notes()
    with loopback.http(status=503) as ill, loopback.http() as well, loopback.http() as never:
        group = team(
            sink("slack", "dead", url=url(refused_port())),
            sink("slack", "ill", url=url(ill.port)),
            sink("slack", "well", url=url(well.port)),
            sink("slack", "never", url=url(never.port)),
        )
        report = notes.deliver([group])
        assert report.sent == ("declaration to team/well",)
        assert report.problems == ()
        assert len(report.passed) == 2
        again = notes.deliver([group])
    assert again == delivery.Report()
    assert (len(well.requests), len(never.requests)) == (1, 0)
    assert notes.lines == [
        ("sending", "dead", ""),
        ("failed", "dead", "Connection refused"),
        ("sending", "ill", ""),
        ("failed", "ill", "it answered 503"),
        ("sending", "well", ""),
        ("sent", "well", ""),
    ]
    assert SECRET not in json.dumps([notes.lines, report.passed])


def test_group_of_dead_sinks_is_a_problem_and_tried_again_by_the_next_run() -> None:
    notes = Notes()
    with loopback.http(status=500) as server:
        group = team(sink("slack", url=url(server.port)))
        report = notes.deliver([group])
        assert "nobody in team has it for certain" in report.problems[-1]
        server.status = 200
        assert notes.deliver([group]).sent == ("declaration to team/s",)
    assert len(server.requests) == 2


class Killed(BaseException):
    """The end of the process."""


def test_run_that_was_killed_while_sending_leaves_unknown_and_is_not_repeated() -> None:
    notes = Notes()

    def killed(*_: Any) -> None:
        raise Killed

    with loopback.http() as server:
        group = team(sink("slack", url=url(server.port)))
        with pytest.raises(Killed):
            notes.deliver([group], send=killed)
        assert notes.lines == [("sending", "s", "")]
        for _ in range(2):
            report = notes.deliver([group])
            assert "unknown whether team/s has it" in report.problems[0]
            assert "-e resend=true" in report.problems[0]
        assert server.requests == []
        assert notes.deliver([group], resend=True).sent
        assert notes.deliver([group], resend=True) == delivery.Report()
    assert len(server.requests) == 1


def test_sink_that_may_have_it_is_not_asked_again_but_others_are() -> None:
    notes = Notes()
    with loopback.http(drop=True) as silent, loopback.http(status=500) as other:
        group = team(
            sink("slack", "silent", url=url(silent.port)), sink("slack", "other", url=url(other.port))
        )
        assert notes.deliver([group]).problems
        other.status = 200
        assert notes.deliver([group]).sent == ("declaration to team/other",)
    assert (len(silent.requests), len(other.requests)) == (1, 2)


def test_nothing_is_sent_that_cannot_be_recorded() -> None:
    def full(outcome: Any, key: str, why: str) -> None:
        raise OSError(28, "No space left on device")

    with loopback.http() as server, pytest.raises(OSError, match="No space"):
        delivery.deliver(
            [Letter("i-1", "P1", MESSAGE)], [team(sink("slack", url=url(server.port)))], {}, full
        )
    assert server.requests == []


def test_every_group_of_an_audience_is_told_and_no_other(tmp_path: Path) -> None:
    notes = Notes()
    groups = [
        Group(name, audience, (sink("file", path=str(tmp_path / name)),))
        for name, audience in (("a", "team"), ("b", "team"), ("c", "public"), ("d", "escalation"))
    ]
    assert notes.deliver(groups).sent == ("declaration to a/s", "declaration to b/s")
    call = Message("escalation-1", "escalation", "s", "t")
    assert [group.name for group in delivery.receivers(call, groups)] == ["d"]
    assert [group.name for group in delivery.receivers(call, groups[:3])] == ["a", "b"]
    assert "no group that it goes to" in Notes().deliver(groups[2:]).problems[0]
