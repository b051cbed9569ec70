"""The baseline: reading, atomic writing, validation, and its identity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.release import layout
from ansible_collections.katago.fleet.plugins.module_utils.triage import baseline

MANIFEST: layout.Manifest = {
    "name": "0.1.0-aa",
    "version": "0.1.0",
    "engine_version": "1.18.1",
    "files": {"analysis.cfg": "aa", "config.json": "bb"},
    "stands_on": {
        "/opt/katago/engines/11": "1",
        "/opt/katago/networks/22/net.bin.gz": "2",
        "/opt/katago/tuning/33/tune_gpuX.txt": "3",
    },
}


def test_written_baseline_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    assert baseline.read(path) is None
    baseline.write({"median_seconds": 0.5}, path)
    assert baseline.read(path) == {"median_seconds": 0.5}
    assert [each.name for each in tmp_path.iterdir()] == ["baseline.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"median_seconds": "fast"}'])
def test_file_without_a_baseline_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(ValueError):
        baseline.read(path)


@pytest.mark.parametrize(
    "value", ["0.0", "0", "-1", "Infinity", "NaN", "1e999", f"1{'0' * 400}", "true", '"1"']
)
@pytest.mark.parametrize("key", ["median_seconds", "visits_per_second"])
def test_unusable_figure_is_reported_with_its_file_and_the_remedy(
    key: str, value: str, tmp_path: Path
) -> None:
    path = tmp_path / "baseline.json"
    other = "visits_per_second" if key == "median_seconds" else "median_seconds"
    path.write_text(f'{{"{other}": 0.5, "{key}": {value}}}')
    with pytest.raises(ValueError) as refused:
        baseline.read(path)
    shown = repr(json.loads(value))[:40]
    assert str(refused.value) == (
        f"{path}: {key} is {shown}, not a finite number above 0: record a new one with baseline.yml"
    )


@pytest.mark.parametrize("text", ["", "{", '{"visits": 32}'])
def test_invalid_file_is_reported_with_the_remedy(text: str, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"{path} is .*: record a new one with baseline\.yml"):
        baseline.read(path)


def test_identity_depends_only_on_engine_network_settings_and_visits() -> None:
    same = baseline.identity(MANIFEST, 32)
    other_server: layout.Manifest = {**MANIFEST, "files": {"analysis.cfg": "aa", "config.json": "cc"}}
    assert baseline.identity(other_server, 32) == same
    assert baseline.identity(MANIFEST, 64) != same
    assert baseline.identity({**MANIFEST, "files": {"analysis.cfg": "dd"}}, 32) != same
    assert baseline.identity({**MANIFEST, "stands_on": {}}, 32) != same


def test_network_is_read_from_the_manifest() -> None:
    assert baseline.network(MANIFEST) == "net.bin.gz"
    assert baseline.network(None) is None
