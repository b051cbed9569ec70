"""The file of triage's JSON report: never left with the verdict of an earlier run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import files
from ansible_collections.katago.fleet.plugins.module_utils.triage import verdict as triage_verdict

UNFINISHED = "unfinished"
"""The key that only the report of a run that has not finished has; its value says so."""


def begin(path: Path, now: datetime) -> bool:
    """Replace the report of an earlier run by the verdict `unknown`; False if there is none.

    Whoever reads the file while triage runs, or after it was killed, does not take the old verdict for the
    new one. Raises OSError.
    """
    if not path.is_file():
        return False
    write(
        path,
        {
            "at": timestamps.stamp(now),
            **triage_verdict.as_dict(triage_verdict.fleet({}, now=now)),
            "counts": {},
            UNFINISHED: f"The triage that started at {timestamps.stamp(now)} has not finished.",
        },
    )
    return True


def write(path: Path, report: Mapping[str, Any]) -> None:
    """Replace the file atomically. Raises OSError."""
    files.write(path, (json.dumps(report, indent=2, default=str) + "\n").encode(), mode=0o600)
