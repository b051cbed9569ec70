"""What a journal shows: an empty one is not a journal without errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.service import journal_view
from ansible_collections.katago.fleet.plugins.module_utils.service.journal_view import Reading, view

NOW, BOOT = 1_800_000_000.0, 90_000.0
"""The two clocks, in seconds; the host was booted BOOT seconds ago."""


def entry(seconds_ago: float, *, jumped: float = 0, **fields: str) -> dict[str, Any]:
    """An entry. `jumped`: by how much the clock was changed since."""
    return {
        "__REALTIME_TIMESTAMP": str(int((NOW - seconds_ago - jumped) * 1e6)),
        "__MONOTONIC_TIMESTAMP": str(int((BOOT - seconds_ago) * 1e6)),
        **fields,
    }


WHOLE = Reading(
    journald={"ActiveState": "active", "ExecMainStartTimestampMonotonic": str(int(1e6))},
    unit={"LoadState": "loaded", "StandardError": "inherit", "LogNamespace": "", "LogLevelMax": "-1"},
    storage="",
    stored="",
    files=True,
    oldest=entry(89_000),
    newest=[entry(900), entry(300), entry(2)],
    dropped=[],
    problems=[],
    realtime=NOW,
    monotonic=BOOT,
)
EMPTY = replace(WHOLE, oldest=None, newest=[])


def test_whole_journal_shows_everything() -> None:
    assert view(WHOLE, 10) == {"blind": "", "gaps": []}


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        (replace(EMPTY, storage="none"), "journald keeps no messages on this host"),
        (replace(EMPTY, files=False), "journald keeps no messages on this host"),
        # Older files, from a time before Storage=none, are still there.
        (
            replace(
                WHOLE,
                storage="none",
                journald={
                    "ActiveState": "active",
                    "ExecMainStartTimestampMonotonic": str(int((BOOT - 1) * 1e6)),
                },
            ),
            "journald keeps no messages on this host",
        ),
        (replace(WHOLE, journald={"ActiveState": "inactive"}), "systemd-journald.service is inactive"),
        (replace(WHOLE, journald={}), "systemd-journald.service is in an unknown state"),
        (replace(WHOLE, unit={**WHOLE.unit, "StandardError": "null"}), "StandardError=null"),
        (replace(WHOLE, unit={**WHOLE.unit, "StandardError": "append:/x"}), "StandardError=append:/x"),
        (replace(WHOLE, unit={**WHOLE.unit, "LogNamespace": "noise"}), "journal namespace noise"),
        (replace(WHOLE, stored="notice"), "MaxLevelStore= in journald.conf: notice"),
        (replace(WHOLE, stored="3"), "MaxLevelStore= in journald.conf: 3"),
        (replace(WHOLE, unit={**WHOLE.unit, "LogLevelMax": "4"}), "LogLevelMax= of the unit: 4"),
    ],
)
def test_journal_that_shows_nothing_says_why(reading: Reading, reason: str) -> None:
    assert reason in view(reading, 10)["blind"]


@pytest.mark.parametrize(
    "reading",
    [
        # Emptied a moment ago, with nothing logged since.
        EMPTY,
        # Storage=none was written to the file, but journald was not restarted.
        replace(WHOLE, storage="none"),
        replace(WHOLE, storage="volatile"),
        replace(WHOLE, unit={"LoadState": "not-found", "StandardError": "", "LogNamespace": ""}),
    ],
)
def test_journal_that_can_show_the_service_is_not_blind(reading: Reading) -> None:
    assert view(reading, 10)["blind"] == ""


@pytest.mark.parametrize(
    ("reading", "gap"),
    [
        (replace(WHOLE, oldest=entry(120)), "its oldest entry is only 120 s old; older ones were deleted"),
        (
            replace(WHOLE, dropped=["Suppressed 812 messages from katago-mcp.service"]),
            "journald's rate limit dropped messages: Suppressed 812 messages from katago-mcp.service",
        ),
        (
            replace(WHOLE, problems=["Journal file x corrupted, ignoring file."]),
            "Journal file x corrupted, ignoring file.",
        ),
        (
            replace(WHOLE, newest=[entry(300, jumped=3600), entry(2)]),
            "the host's clock was changed by +3600 s, so times in the journal are not comparable",
        ),
        (
            replace(WHOLE, newest=[entry(300, jumped=-86400), entry(2)]),
            "the host's clock was changed by -86400 s, so times in the journal are not comparable",
        ),
    ],
)
def test_gap_of_the_period_is_named(reading: Reading, gap: str) -> None:
    assert view(reading, 10) == {"blind": "", "gaps": [gap]}


@pytest.mark.parametrize(
    "reading",
    [
        replace(WHOLE, oldest=entry(601)),
        replace(WHOLE, dropped=["Suppressed 812 messages from other.service"]),
        replace(WHOLE, newest=[entry(300, jumped=5), entry(2)]),
        # The clock was changed before the period.
        replace(WHOLE, newest=[entry(900, jumped=3600), entry(2)]),
        # Booted two minutes ago: there is nothing older.
        replace(
            WHOLE,
            monotonic=120.0,
            oldest={
                "__MONOTONIC_TIMESTAMP": "1500000",
                "__REALTIME_TIMESTAMP": str(int((NOW - 118.5) * 1e6)),
            },
            newest=[
                {"__MONOTONIC_TIMESTAMP": "119000000", "__REALTIME_TIMESTAMP": str(int((NOW - 1) * 1e6))}
            ],
        ),
    ],
)
def test_what_does_not_concern_the_period_or_the_service_is_no_gap(reading: Reading) -> None:
    assert view(reading, 10)["gaps"] == []


@pytest.mark.parametrize("level", ["info", "debug", "6", "7"])
def test_levels_that_include_those_of_the_service_hide_nothing(level: str) -> None:
    assert view(replace(WHOLE, stored=level), 10)["blind"] == ""


def test_setting_is_the_last_one(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "systemd-analyze"
    program.write_text(
        "#!/bin/sh\nprintf '#Storage=auto\\n[Journal]\\nStorage=auto\\nMaxLevelStore=err\\n"
        "[Journal]\\n Storage = None\\n'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert journal_view._settings() == {"Storage": "none", "MaxLevelStore": "err"}
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert journal_view._settings() == {}
