"""The recorded speed of a service that was well: what later measurements are compared with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, files

_FIGURES = ("median_seconds", "fastest_seconds", "slowest_seconds", "visits_per_second")
_REMEDY = "record one anew with baseline.yml"


def read(path: Path = paths.BASELINE) -> dict[str, Any] | None:
    """The baseline; None when there is none.

    Raises:
        ValueError: when the file is not a baseline, naming it, the key, the value and the remedy.
    """
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): {_REMEDY}") from None
    if not isinstance(found, dict) or "median_seconds" not in found:
        raise ValueError(f"{path} is not a baseline, since it has no median_seconds: {_REMEDY}")
    for key in _FIGURES:
        if key in found and not _is_positive(found[key]):
            raise ValueError(f"{path}: {key} is {found[key]!r:.40}, no finite number above 0: {_REMEDY}")
    return found


def write(baseline: Mapping[str, Any], path: Path = paths.BASELINE) -> None:
    """Replace the baseline, whole or not at all."""
    files.write(path, (json.dumps(baseline, indent=2) + "\n").encode(), mode=0o644)


def identity(manifest: Mapping[str, Any], visits: int) -> str:
    """What a speed depends on, as a digest: engine, network, tuning, engine's settings, visits of a probe."""
    settings = manifest.get("files", {}).get("analysis.cfg")
    return digest.of_json({"on": manifest.get("stands_on"), "settings": settings, "visits": visits})


def network(manifest: Mapping[str, Any]) -> str | None:
    """The network's file name in a release's manifest."""
    assets = [Path(path) for path in manifest.get("stands_on", {})]
    return next((path.name for path in assets if "networks" in path.parts), None)


def _is_positive(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return value > 0 and math.isfinite(value)
    except OverflowError:
        return False
