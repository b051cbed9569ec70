"""The baseline: the recorded speed of a healthy service. Later measurements are compared with it."""

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
    """The identity of a machine: host name, GPUs or else processor model, number of processors."""

    name: str
    device: str
    processors: int


class Baseline(TypedDict):
    """The content of `baseline.json`. In older files every key but `median_seconds` may be missing or null.

    `identity`: the digest that the function `identity` returns. `median_seconds`, `fastest_seconds`,
    `slowest_seconds`: seconds per probe, finite and above 0. `spread_seconds`: the median absolute deviation
    of the probes from their median, finite and at least 0. `visits_per_second`: finite and above 0.
    `visits`: of each probe. `probes`: their number. `at`: the time of the recording, UTC.
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
    spread_seconds: NotRequired[float]
    visits_per_second: NotRequired[float]


def read(path: Path) -> Baseline | None:
    """Read the baseline; None if the file does not exist.

    Raises:
        ValueError: the file is not a valid baseline. The message names the file, the key, the value and the
            remedy.
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
    """Return the value if it is a baseline with usable figures. Raises ShapeError otherwise."""
    content = shape.mapping(value, place)
    if "median_seconds" not in content:
        raise shape.ShapeError(f"{place} is not a baseline: median_seconds is missing")
    for key in _FIGURES:
        if key in content and not (_is_finite(content[key], least=0) and content[key]):
            raise shape.ShapeError(f"{place}: {key} is {content[key]!r:.40}, not a finite number above 0")
    if "spread_seconds" in content and not _is_finite(content["spread_seconds"], least=0):
        spread = content["spread_seconds"]
        raise shape.ShapeError(
            f"{place}: spread_seconds is {spread!r:.40}, not a finite number of at least 0"
        )
    return shape.typed(Baseline, content, place)


def write(baseline: Baseline, path: Path) -> None:
    """Replace the baseline atomically. Raises OSError."""
    files.write(path, (json.dumps(baseline, indent=2) + "\n").encode(), mode=0o644)


def identity(manifest: Manifest | None, visits: int) -> str:
    """The digest of what the speed depends on: engine, network, tuning, `analysis.cfg`, visits of a probe."""
    settings = manifest["files"].get("analysis.cfg") if manifest else None
    depends_on = manifest["stands_on"] if manifest else None
    return digest.of_json({"on": depends_on, "settings": settings, "visits": visits})


def network(manifest: Manifest | None) -> str | None:
    """The file name of the network in a release's manifest; None without one."""
    assets = [Path(path) for path in manifest["stands_on"]] if manifest else []
    return next((path.name for path in assets if "networks" in path.parts), None)


def _is_finite(value: object, *, least: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return value >= least and math.isfinite(value)
    except OverflowError:
        return False
