"""What the probes of a drill return, and what they show to those who watch the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.plugin_utils.drill.host_probes import Drill, HostProbes
from ansible_collections.katago.fleet.plugins.plugin_utils.drill.plan import Target

TARGET = Target(fault="configuration_corrupted", where="host", host="katago-2", ttl=60)
SEEN = "config.json has the content of the fault"


def probes(root: Path, shown: list[str], answer: Mapping[str, Any] | None, *, reveals: bool) -> HostProbes:
    drill = Drill(root, "drill-2026-12-01-1", "drill-2026-12-01-1", 0.0, {})
    return HostProbes(
        drill, TARGET, lambda *_: answer, shown.append, lambda: "", lambda: False, reveals=reveals
    )


@pytest.mark.parametrize(
    ("reveals", "expected"), [(True, [SEEN]), (False, ["something is wrong on this host"])]
)
def test_people_who_respond_are_not_shown_the_fault(
    tmp_path: Path, expected: list[str], *, reveals: bool
) -> None:
    shown: list[str] = []
    watched = probes(tmp_path, shown, {"landed": True, "seen": SEEN}, reveals=reveals)
    assert [watched.fault(), watched.fault()] == [SEEN, SEEN]
    assert shown == expected


def test_host_that_does_not_answer_is_shown_to_everybody(tmp_path: Path) -> None:
    shown: list[str] = []
    assert probes(tmp_path, shown, None, reveals=False).fault() == "the host does not answer over SSH"
    assert shown == ["the host does not answer over SSH"]


def test_nothing_is_shown_when_the_fault_is_over(tmp_path: Path) -> None:
    shown: list[str] = []
    assert probes(tmp_path, shown, {"landed": False, "seen": SEEN}, reveals=False).fault() == ""
    assert shown == []
