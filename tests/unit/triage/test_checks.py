"""The checks of triage on a host: what they return is what `facts.py` declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.release import history, layout
from ansible_collections.katago.fleet.plugins.module_utils.service import endpoints
from ansible_collections.katago.fleet.plugins.module_utils.triage import checks


class Service(endpoints.Endpoints):
    """A service that answers with what it was asked for, in so far as its overlay allows it."""

    def probe(self, path: str, seconds: float = 0) -> tuple[int, dict[str, Any]]:
        assert path == "/health"
        keys = {"katago.maxVisits": 10}
        return 200, {"status": "ok", "overlay": {"keys": keys} if self.host == "lowered" else None}

    def call(self, command: Path, calls: Sequence[Mapping[str, Any]], deadline: float) -> dict[str, Any]:
        visits = [each["arguments"]["maxVisits"] for each in calls]
        well = {"scoreLead": 70.0, "winrate": 0.99, "cached": False, "moves": [{"move": "E6"}]}
        return {
            "results": [
                {
                    "ok": True,
                    "text": "",
                    "error": None,
                    "seconds": 0.1,
                    "structured": {**well, "visits": each},
                }
                for each in visits
            ]
        }


@pytest.mark.parametrize(
    ("config", "host", "visits"),
    [
        ('{"katago": {"maxVisits": 1000}}', "as configured", 32),
        ('{"katago": {"maxVisits": 20}}', "as configured", 20),
        ('{"katago": {"maxVisits": 1000}}', "lowered", 10),
        ('{"katago": {"maxVisits": 5}}', "as configured", 5),
        ("{", "as configured", 32),
        ("[]", "lowered", 32),
    ],
)
def test_probe_asks_for_no_more_visits_than_are_allowed(
    config: str, host: str, visits: int, tmp_path: Path
) -> None:
    release = tmp_path / "releases" / "r"
    release.mkdir(parents=True)
    (release / "config.json").write_text(config)
    (tmp_path / "current").symlink_to("releases/r")
    place = layout.Layout(tmp_path)
    found = checks.probes(Service(host=host), place, count=3, visits=32, seconds=30)
    assert found["visits"] == visits
    assert [answer["problems"] for answer in found["answers"]] == [[], [], []]


def test_restore_of_the_same_release_is_no_switch_that_a_rollback_could_undo() -> None:
    deployed = history.Record("2026-11-23T02:00:00Z", "anna", "0.2.0-bb", "0.1.0-aa", "deployment")
    restored = history.Record(
        "2026-11-24T02:30:00Z", "anna", "0.2.0-bb", "0.2.0-bb", "damaged", how="restore"
    )
    assert checks.newest_switch([deployed, restored]) == deployed
    assert checks.newest_switch([restored]) is None
