"""A release is whole or says what is wrong with it; pruning never takes what is needed."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils import digest, releases


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A whole release that stands on one engine directory and one network file."""
    engine = tmp_path / "engine"
    engine.mkdir()
    (engine / "katago").write_text("engine")
    network = tmp_path / "net.bin.gz"
    network.write_text("network")
    directory = tmp_path / "releases" / "0.1.0-aa"
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    manifest = {
        "files": digest.of_tree(directory),
        "stands_on": {str(path): digest.of_path(path) for path in (engine, network)},
    }
    (directory / releases.MANIFEST).write_text(json.dumps(manifest))
    return directory


def test_whole_release_has_no_damage(release: Path) -> None:
    assert releases.damage(release) == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("config.json", "config.json was changed"),
        ("../../net.bin.gz", "net.bin.gz was changed"),
        ("../../engine/katago", "engine was changed"),
    ],
)
def test_one_changed_byte_anywhere_is_damage(release: Path, path: str, words: str) -> None:
    (release / path).write_text("x")
    assert [problem.endswith(words) for problem in releases.damage(release)] == [True]


def test_missing_network_is_damage(release: Path) -> None:
    (release / "../../net.bin.gz").resolve().unlink()
    assert releases.damage(release)[0].endswith("net.bin.gz is missing")


@pytest.mark.parametrize("content", [None, "", "[]", "{"])
def test_release_without_a_readable_manifest_is_damaged(release: Path, content: str | None) -> None:
    manifest = release / releases.MANIFEST
    if content is None:
        manifest.unlink()
    else:
        manifest.write_text(content)
    assert releases.damage(release) == ["manifest.json is missing or cannot be read"]


def test_name_depends_on_every_input() -> None:
    inputs = {"wheels": "1", "files": {"config.json": "2"}}
    changed = {"wheels": "1", "files": {"config.json": "3"}}
    assert releases.name("0.1.0", inputs) != releases.name("0.1.0", changed)
    assert releases.name("0.1.0", inputs).startswith("0.1.0-")


def test_only_releases_with_a_manifest_are_complete(release: Path) -> None:
    unfinished = release.parent / "0.1.0-bb"
    unfinished.mkdir()
    quarantined = release.parent / ".damaged-0.1.0-cc"
    quarantined.mkdir()
    (quarantined / releases.MANIFEST).write_text("{}")
    assert releases.Layout(release.parent.parent).complete() == ["0.1.0-aa"]


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 1e9)),
    st.integers(1, 10),
    st.lists(st.sampled_from("abcdefgh"), max_size=2),
)
def test_pruning_keeps_the_newest_and_all_protected(
    built: dict[str, float], keep: int, protected: list[str]
) -> None:
    pruned = releases.to_prune(built, keep=keep, protected=protected)
    remaining = built.keys() - set(pruned)
    assert remaining >= set(protected) & built.keys()
    assert len(remaining) == min(len(built), max(keep, len(set(protected) & built.keys())))
    assert all(built[old] <= built[kept] for old in pruned for kept in remaining - set(protected))
