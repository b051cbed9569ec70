"""Messages are sent once, skip channels that fail, and leave no secret anywhere else."""

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
    Channel,
    FailedError,
    Group,
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


def channel(kind: Any, name: str = "s", **options: Any) -> Channel:
    return Channel(name, kind, options)


def refused_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}/services/{SECRET}"


def test_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "messages.jsonl"
    for _ in range(2):
        channels.send(channel("file", path=str(path)), PARCEL)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["text"] for line in lines] == [MESSAGE.text] * 2
    assert (lines[0]["key"], lines[0]["severity"]) == (PARCEL.key, "P1")


def test_page_is_replaced_whole_and_readable_by_all(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text("an earlier page, which is longer than the new one")
    channels.send(channel("page", path=str(path)), PARCEL)
    assert path.read_text() == PARCEL.page
    assert path.stat().st_mode & 0o777 == 0o644


def test_directory_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    for kind in ("file", "page"):
        with pytest.raises(FailedError, match="No such file or directory"):
            channels.send(channel(kind, path=str(tmp_path / "absent" / "x")), PARCEL)


def test_webhook_gets_a_document_with_its_key_and_headers() -> None:
    with loopback.http() as server:
        wanted = channel("webhook", url=url(server.port), headers={"Authorization": f"Bearer {SECRET}"})
        channels.send(wanted, PARCEL)
    ((path, headers, body),) = server.requests
    assert path == f"/services/{SECRET}"
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert headers["Idempotency-Key"] == body["key"] == PARCEL.key
    assert (body["incident"], body["message"], body["text"]) == ("i-1", "declaration", MESSAGE.text)


def test_slack_gets_its_text_escaped() -> None:
    with loopback.http() as server:
        channels.send(channel("slack", url=url(server.port)), PARCEL)
    ((_, _, body),) = server.requests
    assert body == {"text": "INCIDENT DECLARED: P1\nImpact: &lt;b&gt; &amp; more"}


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 429, 500, 503])
def test_webhook_that_refuses_is_a_failure_and_redirects_are_not_followed(status: int) -> None:
    with (
        loopback.http(status=status) as server,
        pytest.raises(FailedError, match=f"the server answered {status}"),
    ):
        channels.send(channel("slack", url=url(server.port)), PARCEL)
    assert len(server.requests) == 1


def test_webhook_without_a_listener_is_a_failure() -> None:
    with pytest.raises(FailedError, match="Connection refused"):
        channels.send(channel("webhook", url=url(refused_port())), PARCEL)


@pytest.mark.parametrize("behaviour", [{"hang": 1.0}, {"drop": True}])
def test_webhook_without_an_answer_is_unknown(behaviour: dict[str, Any]) -> None:
    with loopback.http(**behaviour) as server, pytest.raises(UnknownError, match="no answer came"):
        channels.send(channel("webhook", url=url(server.port), patience=0.3), PARCEL)
    assert len(server.requests) == 1


def mail_channel(server: loopback.Smtp, **options: Any) -> Channel:
    given = {
        "host": "127.0.0.1",
        "port": server.port,
        "from": "katago@go.net",
        "to": ["ops@go.net", "lead@go.net"],
        "ca_file": str(server.ca_file),
        "patience": 5,
    }
    return channel("smtp", **{**given, **options})


def test_mail_is_sent_by_starttls_with_a_login(tmp_path: Path) -> None:
    with loopback.smtp(tmp_path, password=SECRET) as server:
        channels.send(mail_channel(server, username="ops", password=SECRET), PARCEL)
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


def test_mail_is_sent_by_implicit_tls(tmp_path: Path) -> None:
    with loopback.smtp(tmp_path, tls=True, password=SECRET) as server:
        channels.send(mail_channel(server, security="tls", username="ops", password=SECRET), PARCEL)
    assert len(server.mails) == 1


def test_server_without_starttls_gets_no_password_and_no_mail(tmp_path: Path) -> None:
    with (
        loopback.smtp(tmp_path, starttls=False) as server,
        pytest.raises(FailedError, match="offers neither"),
    ):
        channels.send(mail_channel(server, username="ops", password=SECRET), PARCEL)
    assert set(server.commands) <= {"EHLO", "QUIT"}


def test_untrusted_certificate_is_refused(tmp_path: Path) -> None:
    with (
        loopback.smtp(tmp_path) as server,
        pytest.raises(FailedError, match="certificate is not trusted"),
    ):
        channels.send(mail_channel(server, ca_file=None), PARCEL)
    assert server.mails == []


@pytest.mark.parametrize(
    ("behaviour", "error", "words"),
    [
        ({"password": "another"}, FailedError, "535"),
        ({"refuses": "RCPT"}, FailedError, "refused all 2 recipients"),
        ({"refuses": "MAIL"}, FailedError, "550"),
        ({"refuses": "DATA"}, FailedError, "550"),
        ({"drops_at": "AUTH"}, FailedError, "Disconnected"),
        ({"drops_at": "END"}, UnknownError, "lost during the transfer"),
    ],
)
def test_refused_mail_is_a_failure_and_a_lost_connection_is_unknown(
    tmp_path: Path, behaviour: dict[str, Any], error: type[Exception], words: str
) -> None:
    with loopback.smtp(tmp_path, **{"password": SECRET, **behaviour}) as server:
        with pytest.raises(error, match=words) as caught:
            channels.send(mail_channel(server, username="ops", password=SECRET), PARCEL)
        assert server.mails == []
    assert SECRET not in str(caught.value)
    assert "secret words" not in str(caught.value)


def test_escalation_goes_to_the_contact_of_the_roster(tmp_path: Path) -> None:
    call = Message("escalation-1", "escalation", "ESCALATION", "text", to="bo@go.net")
    with loopback.smtp(tmp_path) as server:
        channels.send(mail_channel(server, to=[]), channels.Parcel("k", "i-1", "P1", call))
        with pytest.raises(FailedError, match="no contact with an email address"):
            channels.send(mail_channel(server, to=[]), PARCEL)
    assert [recipients for recipients, _, _ in server.mails] == [["bo@go.net"]]


def test_refused_recipients_are_counted_but_not_named(tmp_path: Path) -> None:
    notes = Notes()
    with loopback.smtp(tmp_path, strangers=("lead@go.net",)) as server:
        report = notes.deliver([team(mail_channel(server))])
    assert server.mails[0][0] == ["ops@go.net"]
    assert report.sent == ("declaration to team/s",)
    assert report.passed == ("declaration: team/s has it, but the server refused 1 of 2 recipients.",)
    assert notes.lines[-1] == ("sent", "s", "the server refused 1 of 2 recipients")


def test_escalation_goes_to_the_next_channel_if_the_contact_is_refused(tmp_path: Path) -> None:
    call = Message("escalation-1", "escalation", "ESCALATION", "text", to="Bo <bo@go.net>")
    notes = Notes()
    with loopback.smtp(tmp_path, strangers=("Bo@go.net",)) as server, loopback.http() as well:
        group = team(
            mail_channel(server, to=["ops@go.net", "Bo@go.net"]),
            channel("slack", "next", url=url(well.port)),
            audience="escalation",
        )
        report = delivery.deliver([Letter("i-1", "P1", call)], [group], {}, notes)
    assert report.sent == ("escalation-1 to team/next",)
    assert notes.lines[1] == ("failed", "s", "the server refused the contact's address")
    assert "go.net" not in json.dumps([notes.lines, report.passed])


def test_full_disk_leaves_no_incomplete_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "messages.jsonl"
    channels.send(channel("file", path=str(path)), PARCEL)
    before = path.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, content: write(file, content[: len(content) // 2]))
    with pytest.raises(FailedError, match="No space left on device"):
        channels.send(channel("file", path=str(path)), PARCEL)
    assert path.read_bytes() == before


def test_line_break_in_a_header_is_a_failure(tmp_path: Path) -> None:
    evil = Message("declaration", "team", "a\r\nBcc: x@go.net", "text")
    with loopback.smtp(tmp_path) as server, pytest.raises(FailedError, match="not allowed in a header"):
        channels.send(mail_channel(server), channels.Parcel("k", "i-1", "P1", evil))
    assert server.mails == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "slack", "url": f"https://hooks.example.com/{SECRET}"}, "url is a placeholder"),
        ({"kind": "slack", "url": f"https://your-webhook/{SECRET}"}, "url is a placeholder"),
        ({"kind": "slack", "url": f"ftp://go.net/{SECRET}"}, "url is not an http or https address"),
        ({"kind": "slack", "url": f"https://go.net:x/{SECRET}"}, "url is not an http or https address"),
        ({"kind": "slack", "url": f"https://go.net/{SECRET} x"}, "url contains a space"),
        ({"kind": "webhook", "url": ""}, "url is missing"),
        ({"kind": "webhook", "url": "http://go.net", "headers": SECRET}, "headers must be a mapping"),
        ({"kind": "webhook", "url": "http://go.net", "patience": "long"}, "patience must be a number"),
        ({"kind": "smtp", "host": "go.net", "from": "a@example.com"}, "from is a placeholder"),
        (
            {"kind": "smtp", "host": "go.net", "from": "a@go.net", "to": "x@company.com"},
            "to contains a placeholder",
        ),
        ({"kind": "smtp", "host": "go.net", "from": "a@go.net", "port": "x"}, "port must be a number"),
        ({"kind": "smtp", "host": "go.net", "from": "a@go.net", "username": "x"}, "must be set together"),
        (
            {"kind": "smtp", "host": "go.net", "from": "a@go.net", "security": "none", "password": SECRET},
            "a password is never sent without TLS",
        ),
    ],
)
def test_invalid_channel_is_refused_without_quoting_its_values(options: dict[str, Any], words: str) -> None:
    found = list(channels.problems(channel(**{**options})))
    assert any(words in problem for problem in found), found
    assert SECRET not in " ".join(found)


def test_invalid_groups_are_reported_without_quoting_values() -> None:
    given = [
        {"group": "team", "audience": "team", "channels": [{"name": "a", "kind": "slak", "url": SECRET}]},
        {"group": "team", "audience": "all", "channels": []},
        {"channels": []},
        {
            "group": "x",
            "audience": "team",
            "channels": [{"name": "a", "kind": "file", "path": "/x", "urll": SECRET}],
        },
        {"group": "y", "audience": "team", "channels": [{"name": "b", "kind": "file", "path": "/x"}] * 2},
    ]
    groups, problems = channels.groups(given)
    text = " ".join(problems)
    for words in (
        "kind must be one of file",
        "audience must be one of",
        "give group",
        "unknown option urll",
        "y/b is defined twice",
    ):
        assert words in text
    assert SECRET not in text
    assert [group.name for group in groups] == ["team", "x", "y"]
    assert channels.groups("x")[1] == ["incident_channels must be a list of groups."]


def test_entry_with_the_old_key_is_refused_with_the_new_key() -> None:
    old = {"group": "team", "audience": "team", "sinks": [{"name": "a", "kind": "file", "path": "/x"}]}
    assert channels.groups([old]) == (
        [],
        ["incident_channels, group 1: the key sinks is now called channels. Rename it."],
    )


def test_file_on_a_reminder_host_keeps_the_old_key() -> None:
    old = {"group": "team", "audience": "team", "sinks": [{"name": "a", "kind": "file", "path": "/x"}]}
    groups, problems = channels.groups([old], channels.HOST_KEY)
    assert problems == []
    assert [(group.name, [each.name for each in group.channels]) for group in groups] == [("team", ["a"])]


class Notes:
    """The outcomes that a run records for the next run."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Any] = {}
        self.lines: list[tuple[str, str, str]] = []

    def __call__(self, outcome: Any, key: str, why: str) -> None:
        self.outcomes[key] = outcome
        self.lines.append((outcome, key.rpartition("/")[2], why))

    def deliver(self, groups: Sequence[Group], **arguments: Any) -> delivery.Report:
        """One run."""
        return delivery.deliver(
            [Letter("i-1", "P1", MESSAGE)], groups, dict(self.outcomes), self, **arguments
        )


def team(*members: Channel, audience: str = "team") -> Group:
    return Group("team", audience, members)


def test_dead_sink_falls_through_to_the_next_and_is_on_record() -> None:
    notes = Notes()
    with loopback.http(status=503) as failing, loopback.http() as working, loopback.http() as never:
        group = team(
            channel("slack", "dead", url=url(refused_port())),
            channel("slack", "failing", url=url(failing.port)),
            channel("slack", "working", url=url(working.port)),
            channel("slack", "never", url=url(never.port)),
        )
        report = notes.deliver([group])
        assert report.sent == ("declaration to team/working",)
        assert report.problems == ()
        assert len(report.passed) == 2
        again = notes.deliver([group])
    assert again == delivery.Report()
    assert (len(working.requests), len(never.requests)) == (1, 0)
    assert notes.lines == [
        ("sending", "dead", ""),
        ("failed", "dead", "Connection refused"),
        ("sending", "failing", ""),
        ("failed", "failing", "the server answered 503"),
        ("sending", "working", ""),
        ("sent", "working", ""),
    ]
    assert SECRET not in json.dumps([notes.lines, report.passed])


def test_group_of_dead_sinks_is_a_problem_and_tried_again_by_the_next_run() -> None:
    notes = Notes()
    with loopback.http(status=500) as server:
        group = team(channel("slack", url=url(server.port)))
        report = notes.deliver([group])
        assert "no channel of the group team confirmed it" in report.problems[-1]
        server.status = 200
        assert notes.deliver([group]).sent == ("declaration to team/s",)
    assert len(server.requests) == 2


class Killed(BaseException):
    """Stands for the process being killed."""


def test_message_of_a_killed_run_is_unknown_and_not_sent_again() -> None:
    notes = Notes()

    def killed(*_: Any) -> None:
        raise Killed

    with loopback.http() as server:
        group = team(channel("slack", url=url(server.port)))
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


def test_channel_that_may_have_the_message_is_skipped_but_others_are_tried() -> None:
    notes = Notes()
    with loopback.http(drop=True) as silent, loopback.http(status=500) as other:
        group = team(
            channel("slack", "silent", url=url(silent.port)), channel("slack", "other", url=url(other.port))
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
            [Letter("i-1", "P1", MESSAGE)], [team(channel("slack", url=url(server.port)))], {}, full
        )
    assert server.requests == []


def test_message_goes_to_every_group_of_its_audience_and_no_other(tmp_path: Path) -> None:
    notes = Notes()
    groups = [
        Group(name, audience, (channel("file", path=str(tmp_path / name)),))
        for name, audience in (("a", "team"), ("b", "team"), ("c", "public"), ("d", "escalation"))
    ]
    assert notes.deliver(groups).sent == ("declaration to a/s", "declaration to b/s")
    call = Message("escalation-1", "escalation", "s", "t")
    assert [group.name for group in delivery.receivers(call, groups)] == ["d"]
    assert [group.name for group in delivery.receivers(call, groups[:3])] == ["a", "b"]
    assert "has no group with the audience team" in Notes().deliver(groups[2:]).problems[0]
