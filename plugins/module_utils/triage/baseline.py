"""The recorded speed of a service that was well: what later measurements are compared with."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NotRequired, TypedDict

from ansible_collections.katago.fleet.plugins.module_utils.common import digest, files, shape
from ansible_collections.katago.fleet.plugins.module_utils.release.layout import Manifest

_FIGURES = ("median_seconds", "fastest_seconds", "slowest_seconds", "visits_per_second")
_REMEDY = "record a new one with baseline.yml"


class Machine(TypedDict):
    """What tells one machine from others: its host name, what computes there, its number of processors."""

    name: str
    device: str
    processors: int


class Baseline(TypedDict):
    """A record of speed, as `baseline.json` has it. All but the median may be missing or null in older ones.

    `identity`: the digest of what the speed depends on, as `identity` makes it. `median_seconds`,
    `fastest_seconds`, `slowest_seconds`: of one probe, in seconds, finite and above 0; `visits_per_second`
    likewise. `visits` of each of the `probes`. `at`: when it was recorded, UTC.
    """

    median_seconds: float
    identity: NotRequired[str | None]
    machine: NotRequired[Machine | None]
    at: NotRequired[str]
    release: NotRequired[str | None]
    version: NotRequired[str | None]
    engine_version: NotRequired[str | None]
    network: NotRequired[str | None]
    visits: NotRequired[int]
    probes: NotRequired[int]
    fastest_seconds: NotRequired[float]
    slowest_seconds: NotRequired[float]
    visits_per_second: NotRequired[float]


def read(path: Path) -> Baseline | None:
    """The baseline; None when there is none.

    Raises:
        ValueError: when the file is not a baseline, naming it, the key, the value and the remedy.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        value = json.loads(content)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): {_REMEDY}") from None
    try:
        return check(value, str(path))
    except shape.ShapeError as error:
        raise ValueError(f"{error}: {_REMEDY}") from None


def check(value: object, place: str) -> Baseline:
    """The value, once it is a baseline whose figures can be calculated with. Raises ShapeError."""
    content = shape.mapping(value, place)
    if "median_seconds" not in content:
        raise shape.ShapeError(f"{place} is not a baseline, since it has no median_seconds")
    for key in _FIGURES:
        if key in content and not _is_positive(content[key]):
            raise shape.ShapeError(f"{place}: {key} is {content[key]!r:.40}, no finite number above 0")
    return shape.typed(Baseline, content, place)


def write(baseline: Baseline, path: Path) -> None:
    """Replace the baseline, whole or not at all. Raises OSError."""
    files.write(path, (json.dumps(baseline, indent=2) + "\n").encode(), mode=0o644)


def identity(manifest: Manifest | None, visits: int) -> str:
    """What a speed depends on, as a digest: engine, network, tuning, engine's settings, visits of a probe."""
    settings = manifest["files"].get("analysis.cfg") if manifest else None
    depends_on = manifest["stands_on"] if manifest else None
    return digest.of_json({"on": depends_on, "settings": settings, "visits": visits})


def network(manifest: Manifest | None) -> str | None:
    """The network's file name in a release's manifest."""
    assets = [Path(path) for path in manifest["stands_on"]] if manifest else []
    return next((path.name for path in assets if "networks" in path.parts), None)


def _is_positive(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return value > 0 and math.isfinite(value)
    except OverflowError:
        return False
