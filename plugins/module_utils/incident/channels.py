"""Channels for messages: files, webhooks, Slack webhooks, mail and the status page.

Errors never quote a channel's address or answer, because either may contain a secret. They give the HTTP
status, the SMTP code or the operating system's error text.
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


INVENTORY_KEY = "channels"
"""The key of a group's channels in `incident_channels`."""
HOST_KEY = "sinks"
"""The same key in the file on the reminder host. It was not renamed, so old and new files are alike."""


class FailedError(Exception):
    """The channel did not accept the message. The text gives the reason, without secrets."""


class UnknownError(Exception):
    """It is unknown whether the channel accepted the message. The text gives the reason, without secrets."""


@dataclass(frozen=True)
class Channel:
    """One destination for messages, with the options of its kind."""

    name: str
    kind: Kind
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Group:
    """Channels with the same readers. A message goes to the first channel that accepts it."""

    name: str
    audience: str
    channels: tuple[Channel, ...]


@dataclass(frozen=True)
class Parcel:
    """A message for one channel. `key` identifies it, so that a receiver can recognise a repetition."""

    key: str
    incident: str
    severity: str
    message: Message
    page: str = ""


def groups(value: object, key: str = INVENTORY_KEY) -> tuple[list[Group], list[str]]:
    """The groups in `incident_channels`, and a sentence for each entry that is not a valid group or channel.

    `key`: the key of a group's channels, INVENTORY_KEY or HOST_KEY.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        return [], ["incident_channels must be a list of groups."]
    valid, problems = [], []
    for number, entry in enumerate(value, start=1):
        where = f"incident_channels, group {number}"
        if isinstance(entry, Mapping) and key not in entry and HOST_KEY in entry:
            problems.append(f"{where}: the key {HOST_KEY} is now called {key}. Rename it.")
            continue
        if not isinstance(entry, Mapping) or not entry.get("group") or not isinstance(entry.get(key), list):
            problems.append(f"{where}: give group (a name), audience and {key} (a list).")
            continue
        if unknown := sorted(set(entry) - {"group", "audience", key}):
            problems.append(
                f"{where}: unknown key {', '.join(unknown)}. A group has group, audience and {key}."
            )
        if entry.get("audience") not in AUDIENCES:
            problems.append(f"{where}: audience must be one of {', '.join(AUDIENCES)}.")
            continue
        members = []
        for each in entry[key]:
            if problem := _shape_problem(each):
                problems.append(f"{where}: {problem}.")
            else:
                options = {name: option for name, option in each.items() if name not in ("name", "kind")}
                members.append(Channel(str(each["name"]), each["kind"], options))
        valid.append(Group(str(entry["group"]), str(entry["audience"]), tuple(members)))
    names = [f"{group.name}/{channel.name}" for group in valid for channel in group.channels]
    problems += [
        f"incident_channels: {name} is defined twice. Give each channel of a group its own name."
        for name in sorted({n for n in names if names.count(n) > 1})
    ]
    return valid, problems


def _shape_problem(entry: object) -> str:
    if not isinstance(entry, Mapping) or not entry.get("name"):
        return "a channel has no name"
    kind = entry.get("kind")
    if kind not in KINDS:
        return f"channel {entry['name']}: kind must be one of {', '.join(KINDS)}"
    allowed = {"name", "kind", *_REQUIRED[kind], *_OPTIONAL[kind]}
    if unknown := sorted(set(entry) - allowed):
        accepted = ", ".join(sorted(allowed))
        return f"channel {entry['name']}: unknown option {', '.join(unknown)}; kind {kind} accepts {accepted}"
    return ""


def problems(channel: Channel, message: Message | None = None) -> Iterator[str]:
    """Why nothing can be sent to a channel with its options. No value is quoted.

    With a message, a missing recipient is reported too.
    """
    options = channel.options
    for name in _REQUIRED[channel.kind]:
        if not options.get(name):
            yield f"{name} is missing"
        elif _is_placeholder(name, str(options[name])):
            yield f"{name} is a placeholder"
    if channel.kind in ("webhook", "slack") and options.get("url"):
        try:
            parts = urlsplit(str(options["url"]))
            port_is_right = parts.port is None or parts.port > 0
        except ValueError:
            parts, port_is_right = urlsplit(""), False
        if parts.scheme not in ("https", "http") or not parts.hostname or not port_is_right:
            yield "url is not an http or https address"
        elif any(c.isspace() or ord(c) < 33 for c in str(options["url"])):
            yield "url contains a space or a control character"
    for name in ("port", "patience"):
        if options.get(name) is not None and not _is_positive(options[name]):
            yield f"{name} must be a number above 0"
    if not isinstance(options.get("headers") or {}, Mapping):
        yield "headers must be a mapping of names to values"
    if channel.kind == "smtp":
        yield from _mail_problems(options, message)


def _mail_problems(options: Mapping[str, Any], message: Message | None) -> Iterator[str]:
    to = _recipients(options, message)
    if message is not None and not to:
        yield "to is missing, and the message has no contact with an email address"
    for address in to:
        if "@" not in address:
            yield "to contains an entry that is not an email address"
        elif wording.is_placeholder(address):
            yield "to contains a placeholder"
    security = options.get("security", "starttls")
    if security not in _SECURITY:
        yield f"security must be one of {', '.join(_SECURITY)}"
    if security == "none" and options.get("password"):
        yield "a password is never sent without TLS; set security to starttls or tls"
    if bool(options.get("username")) != bool(options.get("password")):
        yield "username and password must be set together"


def send(channel: Channel, parcel: Parcel) -> str:
    """Send a message and wait until the channel has accepted it.

    Returns what the channel did not do, such as recipients that it refused; empty if it did everything.
    The text contains no secrets.

    Raises:
        FailedError: if the channel did not accept the message.
        UnknownError: if it is unknown whether the channel accepted it.
    """
    reasons = list(problems(channel, parcel.message))
    if reasons:
        raise FailedError("; ".join(reasons))
    return _SENDERS[channel.kind](channel.options, parcel) or ""


def _file(options: Mapping[str, Any], parcel: Parcel) -> None:
    line = json.dumps(_document(parcel)) + "\n"
    try:
        files.append(Path(options["path"]), line.encode(), mode=0o640)
    except OSError as error:
        raise FailedError(_reason(error)) from None


def _page(options: Mapping[str, Any], parcel: Parcel) -> None:
    try:
        files.write(Path(options["path"]), parcel.page.encode(), mode=0o644)
    except OSError as error:
        raise FailedError(_reason(error)) from None


def _webhook(options: Mapping[str, Any], parcel: Parcel) -> None:
    headers = {"Idempotency-Key": parcel.key, **dict(options.get("headers") or {})}
    _post(options, _document(parcel), headers)


def _slack(options: Mapping[str, Any], parcel: Parcel) -> None:
    # Slack would read these characters as a link or as a mention of everybody.
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
        """Follow no redirect: only the configured address is trusted."""


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
        raise FailedError(f"the server answered {error.code}") from None
    except urllib.error.URLError as error:
        raise FailedError(_reason(error.reason)) from None
    except (http.client.InvalidURL, ValueError):
        raise FailedError("url or headers contain characters that cannot be sent") from None
    except (OSError, http.client.HTTPException) as error:
        raise UnknownError(f"the request was sent, but no answer came ({_reason(error)})") from None
    if not 200 <= status < 300:
        raise FailedError(f"the server answered {status}")


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
        raise FailedError(f"the server refused all {len(error.recipients)} recipients") from None
    except smtplib.SMTPNotSupportedError:
        raise FailedError("the mail server offers neither STARTTLS nor a supported login method") from None
    except smtplib.SMTPResponseException as error:
        kind = type(error).__name__.removeprefix("SMTP")
        raise FailedError(f"the server answered {error.smtp_code} ({kind})") from None
    except (smtplib.SMTPException, OSError, UnicodeError) as error:
        if sending:
            raise UnknownError(f"the connection was lost during the transfer ({_reason(error)})") from None
        raise FailedError(_reason(error)) from None
    contact = parseaddr(parcel.message.to)[1].casefold()
    if contact and contact in {address.casefold() for address in refused}:
        raise FailedError("the server refused the contact's address")
    count = len(_recipients(options, parcel.message))
    return f"the server refused {len(refused)} of {count} recipients" if refused else ""


class _closing:
    """Ends the SMTP session. Ignores a server that is already gone."""

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
        # The same message always has the same ID, so that mail readers show it once.
        mail["Message-ID"] = f"<{parcel.key.replace('/', '.').replace(' ', '-')}@katago-mcp-fleet>"
    except ValueError:
        raise FailedError("from, to or the subject has a character that is not allowed in a header") from None
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
        raise FailedError(f"ca_file cannot be read: {_reason(error)}") from None


def _is_positive(value: object) -> bool:
    try:
        return float(str(value)) > 0
    except ValueError:
        return False


def _is_placeholder(name: str, value: str) -> bool:
    """Whether the value of an option is an example that nobody replaced. A path may be anything."""
    if name == "url":
        try:
            parts = urlsplit(value)
            return wording.is_placeholder_url(parts.hostname or "", parts.path)
        except ValueError:
            return False
    return name != "path" and wording.is_placeholder(value)


def _reason(error: object) -> str:
    """The operating system's text for an error, without the address."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "timed out"
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
