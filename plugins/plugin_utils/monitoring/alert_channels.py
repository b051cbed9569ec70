"""Alertmanager's receivers for the channels of incidents, with their secrets in files of their own.

Alertmanager reads the secrets as credentials of its unit. The URL of a webhook stays in the configuration,
which only root can read, because Alertmanager 0.25 of Debian 12 has no file for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.incident import channels
from ansible_collections.katago.fleet.plugins.plugin_utils.monitoring.configuration import Receiver

SECRETS = "secrets"
"""The directory of the secrets in the configuration's directory."""
_CREDENTIALS = "/run/credentials/katago-alertmanager.service"
_SEVERITIES = ("P0", "P1", "P2", "P3")
_KEYS = {"group", "channel", "severities"}
_IMPLICIT_TLS = 465
"""The only port on which Alertmanager starts with TLS."""
_PORTS = {"tls": _IMPLICIT_TLS}
_SUBMISSION = 587
_TEXT = (
    "{{ range .Alerts }}{{ .Status | toUpper }} {{ .Labels.severity }}: {{ .Annotations.summary }}\n"
    "Next: {{ .Annotations.command }}\n"
    "{{ .Annotations.runbook_url }}\n\n{{ end }}"
)
_SUBJECT = (
    "{{ .Status | toUpper }} {{ (index .Alerts 0).Labels.severity }}:"
    " {{ (index .Alerts 0).Annotations.summary }}"
    "{{ if gt (len .Alerts) 1 }} ({{ len .Alerts }} alerts){{ end }}"
)


@dataclass
class Channels:
    """What Alertmanager needs for the channels: its receivers, and the content of each secret by name.

    `problems`: what it cannot do, as sentences with the variable and the remedy, without secrets.
    """

    receivers: list[Receiver] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def used(routes: object, incident_channels: object) -> Channels:
    """The receivers for `monitoring_channels` and `incident_channels` as they are in the inventory."""
    found = Channels()
    if not routes:
        return found
    groups, problems = channels.groups(incident_channels)
    found.problems += problems
    by_name = {group.name: group for group in groups}
    if not isinstance(routes, Sequence) or isinstance(routes, str):
        found.problems.append("monitoring_channels must be a list of {group, channel, severities}.")
        return found
    for number, route in enumerate(routes, 1):
        where = f"monitoring_channels: entry {number}"
        if problem := _shape_problem(route):
            found.problems.append(f"{where} {problem}")
            continue
        group = by_name.get(str(route["group"]))
        if group is None:
            known = ", ".join(sorted(by_name)) or "none"
            found.problems.append(
                f"{where}: incident_channels has no group {route['group']}; its groups: {known}. Define"
                " incident_channels for all hosts, also for those of the group monitoring."
            )
            continue
        if group.audience == "public":
            found.problems.append(
                f"{where}: the readers of {group.name} are the public. Alerts name hosts: choose another"
                " group."
            )
            continue
        only = route.get("channel")
        members = [each for each in group.channels if only in (None, each.name)]
        if not members:
            names = ", ".join(each.name for each in group.channels) or "none"
            found.problems.append(f"{where}: {group.name} has no channel {only}; its channels: {names}.")
        for member in members:
            _add(found, group.name, member, tuple(map(str, route["severities"])))
    found.problems += _repeated(found.receivers)
    return found


def credentials(routes: object, incident_channels: object) -> list[str]:
    """The lines of LoadCredential= with which the unit of Alertmanager gets the secrets."""
    names = sorted(used(routes, incident_channels).secrets)
    return [f"{name}:/etc/katago-monitoring/current/{SECRETS}/{name}" for name in names]


def _shape_problem(route: object) -> str:
    if not isinstance(route, Mapping) or not route.get("group"):
        return "needs `group`, the name of a group of incident_channels."
    if unknown := sorted(set(map(str, route)) - _KEYS):
        return f"has the unknown key {', '.join(unknown)}; accepted are group, channel and severities."
    severities = route.get("severities")
    if (
        not isinstance(severities, Sequence)
        or isinstance(severities, str)
        or not severities
        or not set(map(str, severities)) <= set(_SEVERITIES)
    ):
        return f"needs `severities`, a list of {', '.join(_SEVERITIES)}."
    return ""


def _repeated(receivers: Sequence[Receiver]) -> Iterator[str]:
    names = [each.name for each in receivers]
    for name in sorted({each for each in names if names.count(each) > 1}):
        yield f"monitoring_channels: {name} is named twice. Give it one entry with all severities."


def _add(found: Channels, group: str, channel: channels.Channel, severities: tuple[str, ...]) -> None:
    name = f"{group}/{channel.name}"
    problems = [*channels.problems(channel), *_unsupported(channel)]
    if problems:
        found.problems += [
            f"incident_channels: Alertmanager cannot use {name} ({channel.kind}): {problem}. To leave it out,"
            " name the other channels of the group in monitoring_channels."
            for problem in problems
        ]
        return
    secrets = _Secrets(re.sub(r"[^A-Za-z0-9]+", "-", name))
    try:
        content = _BUILDERS[channel.kind](channel.options, secrets)
    except OSError as error:
        found.problems.append(f"incident_channels: ca_file of {name} cannot be read: {error.strerror}.")
        return
    found.receivers.append(Receiver(name, severities, content))
    found.secrets |= secrets.content


def _unsupported(channel: channels.Channel) -> Iterator[str]:
    """What Alertmanager cannot do with a channel, without its end."""
    options = channel.options
    if channel.kind == "file":
        yield "Alertmanager does not write files"
    elif channel.kind == "page":
        yield "Alertmanager does not write status pages"
    elif channel.kind == "webhook":
        if others := sorted(
            name for name in options.get("headers") or {} if name.casefold() != "authorization"
        ):
            yield f"Alertmanager sends no header but Authorization, and it has {', '.join(others)}"
    elif channel.kind == "smtp":
        if not options.get("to"):
            yield "to is missing; Alertmanager does not know the contacts of the roster"
        security, port = options.get("security", "starttls"), options.get("port")
        if security == "tls" and port not in (None, _IMPLICIT_TLS):
            yield f"Alertmanager uses TLS from the start on port {_IMPLICIT_TLS} only; use starttls"
        if security != "tls" and port == _IMPLICIT_TLS:
            yield f"Alertmanager uses TLS from the start on port {_IMPLICIT_TLS}; set security to tls"


class _Secrets:
    """Collects the secrets of one channel. `add` returns the path at which Alertmanager reads one."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.content: dict[str, str] = {}

    def add(self, kind: str, content: object) -> str:
        name = f"{self._prefix}.{kind}"
        self.content[name] = str(content)
        return f"{_CREDENTIALS}/{name}"


def _slack(options: Mapping[str, Any], secrets: _Secrets) -> dict[str, Any]:
    return {
        "slack_configs": [
            {
                "api_url_file": secrets.add("url", options["url"]),
                "send_resolved": True,
                "title": _SUBJECT,
                "text": _TEXT,
                **_http(options, secrets),
            }
        ]
    }


def _webhook(options: Mapping[str, Any], secrets: _Secrets) -> dict[str, Any]:
    return {
        "webhook_configs": [{"url": options["url"], "send_resolved": True, **_http(options, secrets)}],
    }


def _smtp(options: Mapping[str, Any], secrets: _Secrets) -> dict[str, Any]:
    security = options.get("security", "starttls")
    port = options.get("port") or _PORTS.get(security, _SUBMISSION)
    to = options["to"]
    login = (
        {
            "auth_username": options["username"],
            "auth_password_file": secrets.add("password", options["password"]),
        }
        if options.get("username")
        else {}
    )
    return {
        "email_configs": [
            {
                "to": to if isinstance(to, str) else ", ".join(map(str, to)),
                "from": options["from"],
                "smarthost": f"{options['host']}:{port}",
                "require_tls": security == "starttls",
                "send_resolved": True,
                "headers": {"Subject": _SUBJECT},
                "text": _TEXT,
                # An empty template sends no HTML.
                "html": "",
                **login,
                **_tls(options, secrets),
            }
        ]
    }


def _http(options: Mapping[str, Any], secrets: _Secrets) -> dict[str, Any]:
    """How requests are sent: the Authorization header, and the authority that signed the certificate."""
    config: dict[str, Any] = {"follow_redirects": False, **_tls(options, secrets)}
    for header in (options.get("headers") or {}).values():
        kind, _, value = str(header).strip().partition(" ")
        config["authorization"] = {"type": kind, "credentials_file": secrets.add("authorization", value)}
    return {"http_config": config}


def _tls(options: Mapping[str, Any], secrets: _Secrets) -> dict[str, Any]:
    if not options.get("ca_file"):
        return {}
    return {"tls_config": {"ca_file": secrets.add("ca", Path(options["ca_file"]).read_text())}}


_BUILDERS = {"slack": _slack, "webhook": _webhook, "smtp": _smtp}
