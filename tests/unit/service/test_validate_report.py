"""The report of a release is checked before it is used."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common.shape import ShapeError
from ansible_collections.katago.fleet.plugins.module_utils.service import validate_report

# As the server of version 0.1.0 prints it.
REPORT: dict[str, Any] = {
    "ok": False,
    "release": "0.1.0-aa",
    "version": "0.1.0",
    "engineVersion": None,
    "network": None,
    "checks": [
        {"name": "config", "ok": True, "message": "is valid", "seconds": 0.1},
        {"name": "engine", "ok": False, "message": "the engine did not start", "seconds": 2},
    ],
}


def test_report_of_the_previous_version_is_read() -> None:
    report = validate_report.parse(json.dumps(REPORT))
    (failed,) = validate_report.failed(report)
    assert (report["ok"], validate_report.as_words(failed)) == (False, "engine: the engine did not start")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is not JSON"),
        ("[]", "the report of katago-mcp validate is a list, not an object"),
        ("{}", "validate.checks is missing"),
        (json.dumps({**REPORT, "checks": [1]}), r"validate.checks\[0\] is 1, not an object"),
        (json.dumps({**REPORT, "ok": "yes"}), "validate.ok is 'yes', not true or false"),
        (json.dumps({**REPORT, "checks": [{"name": "x", "ok": True}]}), r"checks\[0\].message is missing"),
    ],
)
def test_malformed_report_is_described(text: str, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        validate_report.parse(text)
