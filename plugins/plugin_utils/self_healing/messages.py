"""The alerts in a message of Alertmanager, as the receiver passes it on. Pure.

The message is data from the network: it selects among what is allowed, and nothing of it is executed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.severity import SEVERITIES, Severity
from ansible_collections.katago.fleet.plugins.plugin_utils.self_healing import allowed

MOST_BYTES = 32 << 20
"""The largest message that is read. One of 10,000 alerts has about 8 MB."""
_LONGEST = 200
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


@dataclass(frozen=True)
class Alert:
    """An alert that fires. `host`: of the fleet; empty if it is about no single host of it."""

    name: str
    severity: Severity
    host: str
    starts_at: str
    summary: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What makes two alerts the same one."""
        return self.name, self.host


@dataclass(frozen=True)
class Notice:
    """What a message reports of an alert: whether it fires, or is resolved.

    `labels`: all of them as one text, because alerts of the same name and host may differ in others.
    """

    alert: Alert
    labels: str
    fires: bool


def notices(message: object, hosts: Collection[str]) -> list[Notice]:
    """What a message reports of the alerts that healing is called for; others are skipped.

    `hosts`: those of the fleet. Raises shape.ShapeError if it is no message of Alertmanager.
    """
    content = shape.mapping(message, "the message")
    if not isinstance(content.get("alerts"), list):
        raise shape.ShapeError("the message has no list `alerts`")
    found = (_notice(each, hosts) for each in content["alerts"])
    return [each for each in found if each]


def firing(reported: Collection[Notice]) -> list[Alert]:
    """The alerts that fire, each once, the most severe first. Of the same alert, the newest counts.

    The order of messages is not known, and does not matter: an alert that fires again has another start.
    """
    resolved = {(each.labels, each.alert.starts_at) for each in reported if not each.fires}
    newest: dict[tuple[str, str], Alert] = {}
    for notice in reported:
        each = notice.alert
        if (notice.labels, each.starts_at) in resolved:
            continue
        known = newest.get(each.key)
        if known is None or each.starts_at > known.starts_at:
            newest[each.key] = each
    return sorted(newest.values(), key=lambda each: (SEVERITIES.index(each.severity), each.name, each.host))


def _notice(value: Any, hosts: Collection[str]) -> Notice | None:
    content = shape.mapping(value, "an alert")
    labels, annotations = _texts(content.get("labels")), _texts(content.get("annotations"))
    name, severity = labels.get("alertname", ""), labels.get("severity", "")
    status = content.get("status")
    is_known = status in ("firing", "resolved") and name in allowed.RESPONSES and severity in SEVERITIES
    if not is_known:
        return None
    instance = labels.get("instance", "")
    alert = Alert(
        name,
        SEVERITIES[SEVERITIES.index(severity)],
        instance if instance in hosts else "",
        _plain(str(content.get("startsAt") or "")),
        _plain(annotations.get("summary", "")),
    )
    return Notice(alert, json.dumps(labels, sort_keys=True), status == "firing")


def _texts(value: object) -> dict[str, str]:
    return {str(key): str(each) for key, each in value.items()} if isinstance(value, dict) else {}


def _plain(text: str) -> str:
    """A text for records. Braces would be a template of Ansible."""
    return _UNPRINTABLE.sub(" ", text).replace("{", "(").replace("}", ")")[:_LONGEST]
