"""The overlay: a file with temporary lower limits, set by operators.

    {"set": {"katago.maxVisits": 100}, "expiresAt": "2026-11-24T06:30:00Z", "why": "load", "who": "anna"}

The smaller of the configured value and the overlay's value is in force, so an overlay never raises a limit.
It ends automatically at `expiresAt`.
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
"""The keys that an overlay can lower."""

_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


class OverlayError(Exception):
    """The file is not valid. `problems` lists all problems, with key, value and fix."""

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
        raise ValueError("the time must be in UTC, such as 2026-11-24T06:30:00Z")
    return datetime.fromisoformat(text)


class Overlay(BaseModel):
    """The lowered limits, their end, the reason, and who set them."""

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
                problems.append(f"{key} is not a key that an overlay can lower: did you mean {nearest}?")
                continue
            try:
                _ADAPTERS[key].validate_python(value)
            except ValidationError as error:
                problems.append(f"{key}: {value!r} is not accepted: {error.errors()[0]['msg']}")
        if problems:
            raise ValueError("; ".join(problems))
        return limits

    def expired(self, now: datetime) -> bool:
        """Whether the overlay has expired."""
        return now >= self.expires_at

    def as_json(self, config: Config) -> dict[str, Any]:
        """The overlay's effect on a configuration, as `/health` shows it: keys, expiresAt, why, who."""
        return {
            "keys": dict(self.lowered(config)),
            "expiresAt": self.expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "why": self.why,
            "who": self.who,
        }

    def lowered(self, config: Config) -> Mapping[str, Any]:
        """The keys of a configuration that the overlay lowers, with the resulting values.

        `katago.defaultVisits` is lowered along with `katago.maxVisits`.
        """
        values = {key: value_of(config, key) for key in LOWERABLE}
        limits = {**values, **self.limits}
        limits["katago.defaultVisits"] = min(limits["katago.defaultVisits"], limits["katago.maxVisits"])
        return {key: value for key, value in limits.items() if value < values[key]}

    def over(self, config: Config) -> Config:
        """The configuration with the lowered limits."""
        return with_values(config, self.lowered(config))


def read(path: Path) -> Overlay | None:
    """Read the overlay from a file; None if there is no file.

    Raises:
        OverlayError: if the file is not valid.
    """
    try:
        document = read_object(
            path, absent="make it readable, or remove it", shape="with set, expiresAt, why and who"
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
