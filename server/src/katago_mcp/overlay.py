"""The overlay: limits that operators lower for a while, in a file beside the configuration.

    {"set": {"katago.maxVisits": 100}, "expiresAt": "2026-11-24T06:30:00Z", "why": "load", "who": "anna"}

It lowers and never raises: of two values the smaller one is in force. It ends by itself.
"""

import difflib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
)
from pydantic.alias_generators import to_camel

from katago_mcp.config import KEYS, SECTIONS, Config, ConfigError, read_object, value_of, with_values

LOWERABLE = (
    "katago.maxVisits",
    "katago.defaultVisits",
    "katago.maxTime",
    "katago.maxReviewVisits",
    "katago.maxReviewTime",
    "katago.maxConcurrent",
    "server.maxQueued",
    "cache.maxSizeBytes",
)
"""The keys that an overlay may lower."""

_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


class OverlayError(Exception):
    """The file cannot be used; `problems` holds every problem, naming key, value and remedy."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def _adapter(key: str) -> TypeAdapter[Any]:
    section, attribute = key.split(".")[0], KEYS[key][1]
    field = SECTIONS[section].model_fields[attribute]
    kind: Any = Annotated[field.annotation, *field.metadata]
    return TypeAdapter(kind, config=ConfigDict(strict=True))


_ADAPTERS = {key: _adapter(key) for key in LOWERABLE}


def _moment(text: object) -> datetime:
    if not isinstance(text, str) or _UTC.fullmatch(text) is None:
        raise ValueError("give a time in UTC such as 2026-11-24T06:30:00Z")
    return datetime.fromisoformat(text)


class Overlay(BaseModel):
    """What is lowered, until when, why, and by whom."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True, strict=True)

    limits: Annotated[dict[str, Any], Field(alias="set", min_length=1)]
    expires_at: Annotated[datetime, BeforeValidator(_moment)]
    why: Annotated[str, Field(min_length=1, max_length=1000)]
    who: Annotated[str, Field(min_length=1, max_length=200)]

    @field_validator("limits")
    @classmethod
    def _fit(cls, limits: dict[str, Any]) -> dict[str, Any]:
        problems = []
        for key, value in limits.items():
            if key not in LOWERABLE:
                nearest = difflib.get_close_matches(key, LOWERABLE, n=1, cutoff=0)[0]
                problems.append(f"{key} cannot be lowered: did you mean {nearest}?")
                continue
            try:
                _ADAPTERS[key].validate_python(value)
            except ValidationError as error:
                problems.append(f"{key}: {value!r} is not accepted: {error.errors()[0]['msg']}")
        if problems:
            raise ValueError("; ".join(problems))
        return limits

    def expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return now >= self.expires_at

    def as_json(self, config: Config) -> dict[str, Any]:
        """What it changes of a configuration, as `/health` shows it: keys, expiresAt, why, who."""
        return {
            "keys": dict(self.lowered(config)),
            "expiresAt": self.expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "why": self.why,
            "who": self.who,
        }

    def lowered(self, config: Config) -> Mapping[str, Any]:
        """The keys of a configuration that it lowers, with their values then.

        `katago.defaultVisits` is lowered along with `katago.maxVisits`.
        """
        values = {key: value_of(config, key) for key in LOWERABLE}
        wanted = {**values, **self.limits}
        wanted["katago.defaultVisits"] = min(wanted["katago.defaultVisits"], wanted["katago.maxVisits"])
        return {key: value for key, value in wanted.items() if value < values[key]}

    def over(self, config: Config) -> Config:
        """The configuration with what it lowers."""
        return with_values(config, self.lowered(config))


def read(path: Path) -> Overlay | None:
    """The overlay in a file; None when there is no file.

    Raises:
        OverlayError: if there is one that cannot be used.
    """
    try:
        document = read_object(
            path, absent="make it a readable file, or remove it", shape="with set, expiresAt, why and who"
        )
        return Overlay.model_validate(document, by_alias=True, by_name=False)
    except ConfigError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise OverlayError(list(error.problems)) from error
    except ValidationError as error:
        raise OverlayError(
            [
                f"{path}: {'.'.join(map(str, detail['loc']))}: "
                f"{detail['msg'].removeprefix('Value error, ')}: correct it, or remove the file"
                for detail in error.errors(include_url=False, include_input=False)
            ]
        ) from error
