"""A run writes only whole lines to the timeline, even on a full disk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.katago.fleet.plugins.callback.timeline import CallbackModule


@pytest.fixture
def callback(tmp_path: Path) -> Iterator[CallbackModule]:
    """The callback of a run that belongs to an incident."""
    made = CallbackModule()
    made._root, made._incident = tmp_path, "2026-01"
    yield made
    made.v2_playbook_on_stats(None)


def result() -> SimpleNamespace:
    """A successful result, as Ansible passes it."""
    return SimpleNamespace(
        host=SimpleNamespace(get_name=lambda: "katago-1"),
        task=SimpleNamespace(action="katago.fleet.service_restart", _ds={"name": "Check the service"}),
        result={},
    )


def test_full_disk_leaves_no_incomplete_line(
    callback: CallbackModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(callback._display, "warning", warnings.append)
    write = os.write
    callback.v2_runner_on_ok(result())
    monkeypatch.setattr(os, "write", lambda file, content: write(file, content[: len(content) // 2]))
    callback.v2_runner_on_ok(result())
    monkeypatch.undo()
    callback.v2_runner_on_ok(result())
    (timeline,) = tmp_path.rglob("timeline.jsonl")
    events = [json.loads(line) for line in timeline.read_text().splitlines()]
    assert [event["task"] for event in events] == ["Check the service"] * 2
    assert "No space left on device" in warnings[0]
