"""The Alertmanager on this host, through its API, version 2: alerts that fire, and silences.

A silence belongs to the run that its comment names. Two Alertmanagers that form a cluster share their
silences, so one that the other has set is found here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.service import http

ASK_SECONDS = 10
_SILENCES = "/api/v2/silences"
_FIRING = "/api/v2/alerts?active=true&silenced=false&inhibited=false&unprocessed=false"
_GONE = "expired"

Matcher = Mapping[str, Any]
"""`name`, `value`, `isRegex` and `isEqual`, as the API has them."""


class AlertmanagerError(Exception):
    """Alertmanager does not answer, or refuses; the message is a sentence without its end."""


@dataclass(frozen=True)
class Silence:
    """What is silenced, and by whom. `comment` identifies the run that it belongs to."""

    matchers: tuple[Matcher, ...]
    who: str
    comment: str


@dataclass(frozen=True)
class Api:
    """Alertmanager's API on the loopback interface."""

    port: int
    host: str = "127.0.0.1"

    def firing(self) -> list[dict[str, Any]]:
        """The alerts that fire, without those that are silenced or that another alert explains.

        Each has `labels`, `annotations` and `startsAt`. Raises AlertmanagerError.
        """
        return [
            {name: each.get(name) for name in ("labels", "annotations", "startsAt")}
            for each in self._ask(_FIRING)
        ]

    def silences(self, *parts: str) -> list[dict[str, Any]]:
        """The silences that have not expired and whose comments have all parts. Raises AlertmanagerError."""
        return [
            each
            for each in self._ask(_SILENCES)
            if each.get("status", {}).get("state") != _GONE and all(part in each["comment"] for part in parts)
        ]

    def save(self, silence: Silence, starts: datetime, ends: datetime, id: str = "") -> str:
        """Set a silence, or change the one with this id; return its id. Raises AlertmanagerError."""
        document = {
            "matchers": list(silence.matchers),
            "startsAt": starts.isoformat(),
            "endsAt": ends.isoformat(),
            "createdBy": silence.who,
            "comment": silence.comment,
            **({"id": id} if id else {}),
        }
        return str(self._ask(_SILENCES, method="POST", document=document)["silenceID"])

    def remove(self, id: str) -> None:
        """End a silence now. Raises AlertmanagerError."""
        self._ask(f"/api/v2/silence/{id}", method="DELETE")

    def _ask(self, path: str, *, method: str = "GET", document: object = None) -> Any:
        answer = http.ask(self.host, self.port, path, method=method, seconds=ASK_SECONDS, document=document)
        where = f"Alertmanager on {self.host}:{self.port}"
        if answer is None:
            raise AlertmanagerError(f"{where} does not answer")
        status, body = answer
        if status != 200:
            raise AlertmanagerError(f"{where} answered {status}: {body.decode(errors='replace')[:300]}")
        try:
            return json.loads(body) if body.strip() else None
        except ValueError:
            raise AlertmanagerError(f"{where} did not answer in JSON") from None


def hold(api: Api, silences: Sequence[Silence], until: datetime) -> list[str]:
    """Set silences until a time, or extend those that exist; return their ids. Raises AlertmanagerError."""
    ids = []
    for silence in silences:
        existing = _existing(api, silence)
        if existing and _parsed(existing["endsAt"]) >= until:
            ids.append(str(existing["id"]))
            continue
        starts = _parsed(existing["startsAt"]) if existing else datetime.now(UTC)
        ids.append(api.save(silence, starts, until, existing["id"] if existing else ""))
    return ids


def end(api: Api, silences: Sequence[Silence], grace: timedelta) -> list[str]:
    """End silences after `grace`, which never extends one; return their ids. Raises AlertmanagerError."""
    existing = [_existing(api, silence) for silence in silences]
    return _end(api, [each for each in existing if each is not None], grace)


def end_of_any_run(api: Api, parts: Sequence[str], grace: timedelta) -> list[str]:
    """End the silences whose comments have all these parts, as `end` does. Raises AlertmanagerError."""
    return _end(api, api.silences(*parts), grace)


def _end(api: Api, existing: Sequence[Mapping[str, Any]], grace: timedelta) -> list[str]:
    until = datetime.now(UTC) + grace
    for each in existing:
        if not grace:
            api.remove(each["id"])
        elif _parsed(each["endsAt"]) > until:
            silence = Silence(tuple(each["matchers"]), each["createdBy"], each["comment"])
            api.save(silence, _parsed(each["startsAt"]), until, each["id"])
    return [str(each["id"]) for each in existing]


def _existing(api: Api, silence: Silence) -> dict[str, Any] | None:
    """The silence of the same run with the same matchers."""
    same = [
        each
        for each in api.silences(silence.comment)
        if each["comment"] == silence.comment and _key(each["matchers"]) == _key(silence.matchers)
    ]
    return same[0] if same else None


def _key(matchers: Sequence[Matcher]) -> set[tuple[str, str, bool, bool]]:
    return {
        (str(each["name"]), str(each["value"]), bool(each["isRegex"]), bool(each.get("isEqual", True)))
        for each in matchers
    }


def _parsed(time: str) -> datetime:
    return datetime.fromisoformat(time)
