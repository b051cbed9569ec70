"""Where messages go: files, webhooks, Slack's kind of them, mail, a status page; sent once, secrets kept.

What a sink answers is never quoted, nor is its address: either may carry a secret. Errors are told by
status, code or the system's own words.
"""

from __future__ import annotations

import http.client
import json
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import parseaddr
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from ansible_collections.katago.fleet.plugins.module_utils.common import files
from ansible_collections.katago.fleet.plugins.module_utils.incident import wording
from ansible_collections.katago.fleet.plugins.module_utils.incident.messages import Message

Kind = Literal["file", "webhook", "slack", "smtp", "page"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PATIENCE = 10.0

_REQUIRED: Mapping[Kind, tuple[str, ...]] = {
    "file": ("path",),
    "webhook": ("url",),
    "slack": ("url",),
    "smtp": ("host", "from"),
    "page": ("path",),
}
_OPTIONAL: Mapping[Kind, tuple[str, ...]] = {
    "file": (),
    "webhook": ("headers", "ca_file", "patience"),
    "slack": ("ca_file", "patience"),
    "smtp": ("port", "to", "username", "password", "security", "ca_file", "patience"),
    "page": (),
}
_SECURITY = ("starttls", "tls", "none")
AUDIENCES = ("team", "escalation", "public")


class FailedError(Exception):
    """The sink did not take the message; the text says why, without secrets."""


class UnknownError(Exception):
    """The sink may have taken the message or not; the text says why, without secrets."""


@dataclass(frozen=True)
class Sink:
    """One place, with the options of its kind."""

    name: str
    kind: Kind
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Group:
    """Sinks that stand in for each other: a message goes to the first that takes it."""

    name: str
    audience: str
    sinks: tuple[Sink, ...]


@dataclass(frozen=True)
class Parcel:
    """A message on its way to a sink. `key` makes it the same when it is sent again."""

    key: str
    incident: str
    severity: str
    message: Message
    page: str = ""


def groups(given: object) -> tuple[list[Group], list[str]]:
    """The groups of the inventory, and a message for everything in them that is no group or sink."""
    if not isinstance(given, Sequence) or isinstance(given, str):
        return [], ["incident_sinks must be a list of groups"]
    found, problems = [], []
    for number, entry in enumerate(given, start=1):
        where = f"incident_sinks, group {number}"
        if (
            not isinstance(entry, Mapping)
            or not entry.get("group")
            or not isinstance(entry.get("sinks"), list)
        ):
            problems.append(f"{where} needs group (its name), audience and sinks (a list)")
            continue
        if unknown := sorted(set(entry) - {"group", "audience", "sinks"}):
            problems.append(f"{where} has {', '.join(unknown)}, which no group has")
        if entry.get("audience") not in AUDIENCES:
            problems.append(f"{where}: audience must be one of {', '.join(AUDIENCES)}")
            continue
        sinks = []
        for each in entry["sinks"]:
            if problem := _shape(each):
                problems.append(f"{where}: {problem}")
            else:
                options = {name: value for name, value in each.items() if name not in ("name", "kind")}
                sinks.append(Sink(str(each["name"]), each["kind"], options))
        found.append(Group(str(entry["group"]), str(entry["audience"]), tuple(sinks)))
    names = [f"{group.name}/{sink.name}" for group in found for sink in group.sinks]
    problems += [
        f"incident_sinks has {name} twice" for name in sorted({n for n in names if names.count(n) > 1})
    ]
    return found, problems


def _shape(given: object) -> str:
    if not isinstance(given, Mapping) or not given.get("name"):
        return "a sink needs a name"
    kind = given.get("kind")
    if kind not in KINDS:
        return f"sink {given['name']}: kind must be one of {', '.join(KINDS)}"
    allowed = {"name", "kind", *_REQUIRED[kind], *_OPTIONAL[kind]}
    if unknown := sorted(set(given) - allowed):
        return f"sink {given['name']} has {', '.join(unknown)}, which {kind} does not take"
    return ""


def problems(sink: Sink, message: Message | None = None) -> Iterator[str]:
    """Why nothing can be sent to a sink as it is described; no value of it is told.

    With a message, whether there is somebody to send it to is told too.
    """
    options = sink.options
    for name in _REQUIRED[sink.kind]:
        if not options.get(name):
            yield f"{name} is not given"
        elif _is_placeholder(name, str(options[name])):
            yield f"{name} is a placeholder"
    if sink.kind in ("webhook", "slack") and options.get("url"):
        try:
            parts = urlsplit(str(options["url"]))
            port_is_right = parts.port is None or parts.port > 0
        except ValueError:
            parts, port_is_right = urlsplit(""), False
        if parts.scheme not in ("https", "http") or not parts.hostname or not port_is_right:
            yield "url is no http or https address"
        elif any(c.isspace() or ord(c) < 33 for c in str(options["url"])):
            yield "url has a blank or a control character"
    for name in ("port", "patience"):
        if options.get(name) is not None and not _is_positive(options[name]):
            yield f"{name} must be a number above 0"
    if not isinstance(options.get("headers") or {}, Mapping):
        yield "headers must be names with values"
    if sink.kind == "smtp":
        yield from _mail_problems(options, message)


def _mail_problems(options: Mapping[str, Any], message: Message | None) -> Iterator[str]:
    to = _recipients(options, message)
    if message is not None and not to:
        yield "to is not given, and the message has no contact with an address"
    for address in to:
        if "@" not in address:
            yield "to has something that is no address"
        elif wording.is_placeholder(address):
            yield "to has a placeholder"
    security = options.get("security", "starttls")
    if security not in _SECURITY:
        yield f"security must be one of {', '.join(_SECURITY)}"
    if security == "none" and options.get("password"):
        yield "a password is not sent without TLS; set security to starttls or tls"
    if bool(options.get("username")) != bool(options.get("password")):
        yield "username and password go together"


def send(sink: Sink, parcel: Parcel) -> str:
    """Send; returns when the sink has said that it took it, with what it left undone, without secrets.

    Raises:
        FailedError: if it did not take it.
        UnknownError: if it cannot be told whether it did.
    """
    found = list(problems(sink, parcel.message))
    if found:
        raise FailedError("; ".join(found))
    return _SENDERS[sink.kind](sink.options, parcel) or ""


def _file(options: Mapping[str, Any], parcel: Parcel) -> None:
    line = json.dumps(_document(parcel)) + "\n"
    try:
        files.append(Path(options["path"]), line.encode(), mode=0o640)
    except OSError as error:
        raise FailedError(_words(error)) from None


def _page(options: Mapping[str, Any], parcel: Parcel) -> None:
    try:
        files.write(Path(options["path"]), parcel.page.encode(), mode=0o644)
    except OSError as error:
        raise FailedError(_words(error)) from None


def _webhook(options: Mapping[str, Any], parcel: Parcel) -> None:
    headers = {"Idempotency-Key": parcel.key, **dict(options.get("headers") or {})}
    _post(options, _document(parcel), headers)


def _slack(options: Mapping[str, Any], parcel: Parcel) -> None:
    # What Slack would take for a link or for a call to everybody.
    text = parcel.message.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    _post(options, {"text": text}, {})


def _document(parcel: Parcel) -> dict[str, str]:
    message = parcel.message
    return {
        "key": parcel.key,
        "incident": parcel.incident,
        "severity": parcel.severity,
        "audience": message.audience,
        "message": message.name,
        "subject": message.subject,
        "text": message.text,
    }


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none: the address that was given is the one that is trusted."""


def _post(options: Mapping[str, Any], document: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    try:
        opener = urllib.request.build_opener(
            _NoRedirects(), urllib.request.HTTPSHandler(context=_tls(options))
        )
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            str(options["url"]),
            data=json.dumps(document).encode(),
            headers={**headers, "Content-Type": "application/json"},
            method="POST",
        )
        with opener.open(request, timeout=float(options.get("patience", PATIENCE))) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        error.close()
        raise FailedError(f"it answered {error.code}") from None
    except urllib.error.URLError as error:
        raise FailedError(_words(error.reason)) from None
    except (http.client.InvalidURL, ValueError):
        raise FailedError("its url or its headers cannot be sent") from None
    except (OSError, http.client.HTTPException) as error:
        raise UnknownError(f"it took the request and gave no answer: {_words(error)}") from None
    if not 200 <= status < 300:
        raise FailedError(f"it answered {status}")


def _smtp(options: Mapping[str, Any], parcel: Parcel) -> str:
    mail = _mail(options, parcel)
    security = options.get("security", "starttls")
    patience = float(options.get("patience", PATIENCE))
    host, port = str(options["host"]), int(options.get("port") or {"tls": 465}.get(security, 587))
    sending = False
    try:
        server = (
            smtplib.SMTP_SSL(host, port, timeout=patience, context=_tls(options))
            if security == "tls"
            else smtplib.SMTP(host, port, timeout=patience)
        )
        with _closing(server):
            if security == "starttls":
                server.starttls(context=_tls(options))
            if options.get("username"):
                server.login(str(options["username"]), str(options["password"]))
            sending = True
            refused = server.send_message(mail)
    except smtplib.SMTPRecipientsRefused as error:
        raise FailedError(f"it refused all {len(error.recipients)} recipients") from None
    except smtplib.SMTPNotSupportedError:
        raise FailedError("it does not offer what is wanted of it: TLS, or a way to log in") from None
    except smtplib.SMTPResponseException as error:
        kind = type(error).__name__.removeprefix("SMTP")
        raise FailedError(f"it answered {error.smtp_code} ({kind})") from None
    except (smtplib.SMTPException, OSError, UnicodeError) as error:
        if sending:
            raise UnknownError(f"the connection was lost while it was handed over: {_words(error)}") from None
        raise FailedError(_words(error)) from None
    called = parseaddr(parcel.message.to)[1].casefold()
    if called and called in {address.casefold() for address in refused}:
        raise FailedError("it refused the one who is called")
    count = len(_recipients(options, parcel.message))
    return f"it refused {len(refused)} of {count} recipients" if refused else ""


class _closing:
    """Says goodbye, and does not mind when nobody listens any more."""

    def __init__(self, server: smtplib.SMTP) -> None:
        self._server = server

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        with suppress(smtplib.SMTPException, OSError):
            self._server.quit()
        self._server.close()


def _mail(options: Mapping[str, Any], parcel: Parcel) -> EmailMessage:
    mail = EmailMessage()
    try:
        mail["From"] = str(options["from"])
        mail["To"] = ", ".join(_recipients(options, parcel.message))
        mail["Subject"] = parcel.message.subject
        # The same for the same message, so that readers show it once.
        mail["Message-ID"] = f"<{parcel.key.replace('/', '.').replace(' ', '-')}@katago-mcp-fleet>"
    except ValueError:
        raise FailedError("from, to or the subject cannot stand in a header") from None
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(parcel.message.text)
    return mail


def _recipients(options: Mapping[str, Any], message: Message | None) -> list[str]:
    to = options.get("to") or (message.to if message else "")
    return [str(each) for each in ([to] if isinstance(to, str) else to) if each]


def _tls(options: Mapping[str, Any]) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=options.get("ca_file") or None)
    except OSError as error:
        raise FailedError(f"ca_file cannot be read: {_words(error)}") from None


def _is_positive(value: object) -> bool:
    try:
        return float(str(value)) > 0
    except ValueError:
        return False


def _is_placeholder(name: str, value: str) -> bool:
    """Whether an option stands for one that nobody gave; a file may be called anything."""
    if name == "url":
        try:
            parts = urlsplit(value)
            return wording.is_placeholder_url(parts.hostname or "", parts.path)
        except ValueError:
            return False
    return name != "path" and wording.is_placeholder(value)


def _words(error: object) -> str:
    """The system's words for an error, none of the address's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


_SENDERS: Mapping[Kind, Callable[[Mapping[str, Any], Parcel], str | None]] = {
    "file": _file,
    "webhook": _webhook,
    "slack": _slack,
    "smtp": _smtp,
    "page": _page,
}
