"""Damage to a release is found, and pruning never removes what a remaining release depends on."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from ansible_collections.katago.fleet.plugins.module_utils.release import history, pruning
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import switch
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts, rules
from ansible_collections.katago.fleet.plugins.modules import release_switch


def built(root: Path, config: str) -> Path:
    """An intact release below `root` that depends on one engine directory and one network file."""
    engine, network = root / "engine", root / "net.bin.gz"
    engine.mkdir(exist_ok=True)
    (engine / "katago").write_text("engine")
    network.write_text("network")
    inputs = {
        "wheels": "ab" * 32,
        "engine_version": "1.18.1",
        "files": {"config.json": digest.of_text(config)},
        "stands_on": {str(path): digest.of_path(path) for path in (engine, network)},
    }
    name = release_layout.name("0.1.0", inputs)
    directory = root / "releases" / name
    (directory / "venv").mkdir(parents=True)
    (directory / "config.json").write_text(config)
    (directory / "venv" / "cli.py").write_text("code")
    manifest = {"name": name, "version": "0.1.0", **inputs, "files": digest.of_tree(directory)}
    (directory / release_layout.MANIFEST).write_text(json.dumps(manifest))
    return directory


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """An intact release."""
    return built(tmp_path, "{}")


def fit(directory: Path) -> None:
    """Change a file of a release, and its digest in the manifest to match."""
    (directory / "config.json").write_text("[]")
    manifest = json.loads((directory / release_layout.MANIFEST).read_text())
    manifest["files"]["config.json"] = digest.of_text("[]")
    (directory / release_layout.MANIFEST).write_text(json.dumps(manifest))


def flip(old: bytes, new: bytes) -> Callable[[Path], None]:
    """A change of one byte in a key of a release's manifest."""

    def flipped(directory: Path) -> None:
        content = (directory / release_layout.MANIFEST).read_bytes()
        assert content.count(old) == 1
        (directory / release_layout.MANIFEST).write_bytes(content.replace(old, new))

    return flipped


def rename(directory: Path) -> None:
    """Replace the manifest of a release with that of another release."""
    other = built(directory.parent.parent, json.dumps(directory.name))
    (other / release_layout.MANIFEST).replace(directory / release_layout.MANIFEST)


changing = pytest.mark.parametrize(
    "change",
    [
        fit,
        flip(b'"files"', b'"fi1es"'),
        flip(b'"stands_on"', b'"stands_om"'),
        flip(b'"name"', b'"nome"'),
        flip(b'"version"', b'"versiom"'),
        rename,
    ],
    ids=["config and its sha256", "files", "stands_on", "name", "version", "another's"],
)


@changing
def test_changed_manifest_is_damage(release: Path, change: Callable[[Path], None]) -> None:
    change(release)
    assert release_layout.damage(release) == ["manifest.json was changed"]


@changing
def test_release_with_a_changed_manifest_is_no_rollback_target(
    tmp_path: Path, release: Path, change: Callable[[Path], None]
) -> None:
    layout = release_layout.Layout(tmp_path)
    newer = built(tmp_path, "{ }")
    records = [
        history.Record("2026-01-01T00:00:00Z", "anna", name, None, "validated", "good")
        for name in (release.name, newer.name)
    ]
    assert switch.last_validated(layout, records, None) == newer.name
    change(newer)
    assert switch.last_validated(layout, records, None) == release.name
    change(release)
    with pytest.raises(switch.SwitchError, match="no earlier release that is validated and intact"):
        switch.last_validated(layout, records, None)


def test_rollback_that_was_killed_after_its_release_failed_continues_with_the_return(
    tmp_path: Path, release: Path
) -> None:
    layout = release_layout.Layout(tmp_path)
    bad, good = release.name, built(tmp_path, "{ }").name
    at, later = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"

    def record(name: str, verdict: history.Verdict | None, how: history.How) -> history.Record:
        return history.Record(at, "anna", name, good if name == bad else bad, "test", verdict, how)

    records = [record(name, "good", "deployment") for name in (bad, good)]
    records += [record(bad, None, "rollback"), record(bad, "bad", "rollback")]
    for current in (bad, good):
        for name in (release_switch.LAST_GOOD, bad):
            parameters = {"release": name, "allow_rejected": False, "since": at}
            assert release_switch.rollback_target(layout, records, parameters, current) == (good, bad)
        with pytest.raises(switch.SwitchError, match="was rejected on"):
            release_switch.rollback_target(
                layout, records, {"release": bad, "allow_rejected": False, "since": later}, current
            )
        allowed = {"release": bad, "allow_rejected": True, "since": at}
        assert release_switch.rollback_target(layout, records, allowed, current) == (bad, current)
        records.append(record(good, None, "return"))


@changing
def test_changed_manifest_of_the_current_release_is_p0_and_suspicious(
    release: Path, change: Callable[[Path], None]
) -> None:
    change(release)
    entry = {"value": {"name": release.name, "damage": release_layout.damage(release)}}
    (reason,) = rules.examine(facts.read({"release": entry}), ["release"])
    assert (reason.level, reason.suspicious) == ("P0", True)
    assert reason.measured == f"{release.name} is damaged: manifest.json was changed"
    assert reason.escalate == "the configuration is corrupted"


@changing
def test_dependencies_of_a_release_are_unknown_if_its_manifest_was_changed(
    tmp_path: Path, release: Path, change: Callable[[Path], None]
) -> None:
    layout = release_layout.Layout(tmp_path)
    assert pruning.needed(layout, [release.name]) == {tmp_path / "engine", tmp_path / "net.bin.gz"}
    change(release)
    assert pruning.needed(layout, [release.name]) is None


def test_file_that_cannot_be_read_is_damage(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: Path) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(digest, "of_file", failing)
    (problem,) = release_layout.damage(release)
    assert problem.endswith("cannot be read: Input/output error")
    assert problem.startswith(str(release))


def test_intact_release_has_no_damage(release: Path) -> None:
    assert release_layout.damage(release) == []


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("config.json", "config.json was changed"),
        ("../../net.bin.gz", "net.bin.gz was changed"),
        ("../../engine/katago", "engine was changed"),
    ],
)
def test_one_changed_byte_anywhere_is_damage(release: Path, path: str, problem: str) -> None:
    (release / path).write_text("x")
    assert [each.endswith(problem) for each in release_layout.damage(release)] == [True]


def test_missing_network_is_damage(release: Path) -> None:
    (release / "../../net.bin.gz").resolve().unlink()
    assert release_layout.damage(release)[0].endswith("net.bin.gz is missing")


@pytest.mark.parametrize("content", [None, "", "[]", "{"])
def test_release_without_a_readable_manifest_is_damaged(release: Path, content: str | None) -> None:
    manifest = release / release_layout.MANIFEST
    if content is None:
        manifest.unlink()
    else:
        manifest.write_text(content)
    assert release_layout.damage(release) == ["manifest.json is missing or cannot be read"]


@pytest.mark.parametrize(
    "changed",
    [{"files": []}, {"stands_on": {"/x": 1}}, {"version": 1}, {"engine_version": None}, {"name": {}}],
)
def test_malformed_manifest_is_unusable_and_counts_as_damage(
    release: Path, changed: dict[str, object]
) -> None:
    path = release / release_layout.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    assert release_layout.manifest(release) is None
    assert release_layout.damage(release) == ["manifest.json was changed"]


def test_manifest_of_the_previous_version_is_read_with_its_extra_keys(release: Path) -> None:
    manifest = release_layout.manifest(release)
    assert manifest is not None
    assert manifest["engine_version"] == "1.18.1"
    assert dict(manifest)["wheels"] == "ab" * 32
    assert release_layout.fits_name(manifest)


def test_name_depends_on_every_input() -> None:
    inputs = {"wheels": "1", "files": {"config.json": "2"}}
    changed = {"wheels": "1", "files": {"config.json": "3"}}
    assert release_layout.name("0.1.0", inputs) != release_layout.name("0.1.0", changed)
    assert release_layout.name("0.1.0", inputs).startswith("0.1.0-")


def test_only_releases_with_a_manifest_are_complete(release: Path) -> None:
    unfinished = release.parent / "0.1.0-bb"
    unfinished.mkdir()
    quarantined = release.parent / ".damaged-0.1.0-cc"
    quarantined.mkdir()
    (quarantined / release_layout.MANIFEST).write_text("{}")
    assert release_layout.Layout(release.parent.parent).complete() == [release.name]


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 1e9)),
    st.integers(1, 10),
    st.lists(st.sampled_from("abcdefgh"), max_size=2),
)
def test_pruning_keeps_the_newest_and_all_protected_releases(
    built: dict[str, float], keep: int, protected: list[str]
) -> None:
    pruned = release_layout.to_prune(built, keep=keep, protected=protected)
    remaining = built.keys() - set(pruned)
    assert remaining >= set(protected) & built.keys()
    assert len(remaining) == min(len(built), max(keep, len(set(protected) & built.keys())))
    assert all(built[old] <= built[kept] for old in pruned for kept in remaining - set(protected))
