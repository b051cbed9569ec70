"""The recorded speed: read, written whole, and of one engine, network and configuration only."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import baselines

MANIFEST = {
    "files": {"analysis.cfg": "aa", "config.json": "bb"},
    "stands_on": {
        "/opt/katago/engines/11": "1",
        "/opt/katago/networks/22/net.bin.gz": "2",
        "/opt/katago/tuning/33/tune_gpuX.txt": "3",
    },
}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    assert baselines.read(path) is None
    baselines.write({"median_seconds": 0.5}, path)
    assert baselines.read(path) == {"median_seconds": 0.5}
    assert [each.name for each in tmp_path.iterdir()] == ["baseline.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"median_seconds": "fast"}'])
def test_file_that_is_no_baseline_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(ValueError):
        baselines.read(path)


def test_speed_depends_on_engine_network_settings_and_visits_alone() -> None:
    same = baselines.identity(MANIFEST, 32)
    other_server = {**MANIFEST, "files": {"analysis.cfg": "aa", "config.json": "cc"}}
    assert baselines.identity(other_server, 32) == same
    assert baselines.identity(MANIFEST, 64) != same
    assert baselines.identity({**MANIFEST, "files": {"analysis.cfg": "dd"}}, 32) != same
    assert baselines.identity({**MANIFEST, "stands_on": {}}, 32) != same


def test_network_is_named() -> None:
    assert baselines.network(MANIFEST) == "net.bin.gz"
    assert baselines.network({}) is None
