"""The record of a driver change, also as written by earlier versions of the role."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.gpu import (
    driver_plan,
    driver_record,
    driver_restore,
)
from ansible_collections.katago.fleet.plugins.module_utils.gpu.driver_record import Record, RecordError
from tests.unit.gpu import places
from tests.unit.gpu.hosts import BARE, DEFAULTS

# The record that version 0.1.0 wrote on a host whose first change was finished.
PREVIOUS: dict[str, Any] = {
    "unfinished": False,
    "begun": "2026-11-20T09:00:00Z",
    "packages": {"libc6": "2.36-9+deb12u13"},
    "changes": {"nvidia-smi": "", "libcuda1": "", "libc6": "2.36-9+deb12u12"},
    "brought": {"nvidia-smi": "535.309.01-1", "libcuda1": "535.309.01-1", "libc6": "2.36-9+deb12u13"},
    "earlier": {},
    "held_before": ["libc6"],
    "held": ["libcuda1", "nvidia-smi"],
    "own_held_before": [],
    "files": {
        "/etc/apt/keyrings/katago-gpu-driver.asc": None,
        "/etc/modprobe.d/katago-gpu-driver.conf": "blacklist nouveau\n",
    },
    "components": ["contrib", "non-free", "non-free-firmware"],
    "components_before": [],
    "target": "NVIDIA's driver 535 (proprietary, the distribution's package)",
    "loaded": None,
    "loaded_kind": None,
    "service": True,
}


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Put the role's files into a directory of the test."""
    places.move(monkeypatch, tmp_path)


def lay(content: object) -> None:
    """Write a record on the host."""
    driver_record.STATE.mkdir(parents=True)
    driver_record.RECORD.write_text(content if isinstance(content, str) else json.dumps(content))


def test_host_whose_driver_was_never_changed_has_an_empty_record() -> None:
    assert driver_record.read() == Record()


def test_record_of_the_previous_version_is_read_whole_and_written_as_it_was() -> None:
    lay(PREVIOUS)
    record = driver_record.read()
    assert (record.held, record.components) == (("libcuda1", "nvidia-smi"), tuple(PREVIOUS["components"]))
    assert record.files["/etc/modprobe.d/katago-gpu-driver.conf"] == "blacklist nouveau\n"
    driver_record.write(record)
    assert json.loads(driver_record.RECORD.read_text()) == PREVIOUS


def test_change_that_the_previous_version_started_is_continued() -> None:
    lay({**PREVIOUS, "unfinished": True})
    plan = driver_plan.plan(DEFAULTS, replace(BARE, record=driver_record.read()))
    assert plan.because[0] == "the change started at 2026-11-20T09:00:00Z was not finished"


def test_record_without_the_keys_of_later_versions_is_read() -> None:
    older = PREVIOUS.keys() - {"earlier", "brought", "own_held_before", "loaded_kind", "service"}
    lay({name: PREVIOUS[name] for name in older})
    assert driver_record.read().service is None
    assert driver_record.read().earlier == {}


def test_unknown_keys_of_another_version_are_ignored() -> None:
    lay({**PREVIOUS, "later": 1})
    assert driver_record.read().begun == PREVIOUS["begun"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"unfinished": tr', "Expecting value"),
        ("[]", "is a list, not an object"),
        ({**PREVIOUS, "held": "nvidia-smi"}, "held is 'nvidia-smi', not a list"),
        ({**PREVIOUS, "changes": {"nvidia-smi": 535}}, "changes.nvidia-smi is 535, not a string"),
    ],
)
def test_damaged_record_is_an_error_with_its_place_and_remedy(content: object, problem: str) -> None:
    lay(content)
    for act in (driver_record.read, driver_restore.restore, driver_restore.finish):
        with pytest.raises(RecordError) as failed:
            act()
        assert problem in str(failed.value)
        assert f"mv {driver_record.RECORD} {driver_record.RECORD}.damaged" in str(failed.value)
