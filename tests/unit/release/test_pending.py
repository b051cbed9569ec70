"""A host is visited only if something that was observed on it differs."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.release import history, pending


def reasons(**differing: Any) -> list[str]:
    same: dict[str, Any] = {
        "current": "new",
        "damaged_links": [],
        "restart_reasons": [],
        "verdict": "good",
        "credentials": [],
        "enabled": True,
    }
    return pending.reasons("new", **same | differing)


def test_host_that_runs_the_release_validated_is_not_pending() -> None:
    assert reasons() == []


@pytest.mark.parametrize(
    ("differing", "reason"),
    [
        ({"current": "old"}, "the current release is old"),
        ({"current": None}, "the current release is none"),
        ({"damaged_links": ["/etc/x is missing"]}, "/etc/x is missing"),
        ({"restart_reasons": ["the unit is failed"]}, "the unit is failed"),
        ({"verdict": None}, "the release is not validated"),
        ({"verdict": "bad"}, "the release was rejected"),
        ({"enabled": False}, "the service is not enabled at boot"),
        ({"credentials": ["tls.key", "tokens.json"]}, "credentials differ: tls.key, tokens.json"),
    ],
    ids=str,
)
def test_whatever_differs_is_a_reason(differing: dict[str, Any], reason: str) -> None:
    assert reasons(**differing) == [reason]


def test_another_release_hides_what_the_switch_corrects_anyway() -> None:
    observed = reasons(current="old", restart_reasons=["it runs old"], verdict=None, credentials=["tls.crt"])
    assert observed == ["the current release is old", "credentials differ: tls.crt"]


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [("bad", "on 2026-11-29T04:00:00Z: - ready: 503 - mcp: no response"), ("good", "")],
)
def test_release_is_rejected_by_its_newest_verdict(verdict: history.Verdict, expected: str) -> None:
    why = "- ready: 503\n- mcp: no response."
    record = history.Record("2026-11-29T04:00:00Z", "anna", "new", None, why, verdict)
    assert pending.rejected(record) == expected
    assert pending.rejected(None) == ""
