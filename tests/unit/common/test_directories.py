"""Directories and trees get their owner and modes whatever the umask is, and existing ones are corrected."""

from __future__ import annotations

import ast
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import directories, files

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
HELPER = "directories.py"
CREATING = ("mkdir", "makedirs")
OTHER = 65534


@pytest.fixture(autouse=True, params=[0o000, 0o022, 0o027, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """The umask of the process."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    """The permission bits of a path."""
    return stat.S_IMODE(path.lstat().st_mode)


def test_new_directories_have_the_mode(tmp_path: Path) -> None:
    assert directories.make(tmp_path / "ours" / "a" / "b", own=tmp_path / "ours")
    assert [mode(tmp_path / each) for each in ("ours", "ours/a", "ours/a/b")] == [0o755] * 3


def test_private_directory_has_open_parents(tmp_path: Path) -> None:
    directories.make(tmp_path / "a" / "ours" / "b", own=tmp_path / "a" / "ours", mode=directories.PRIVATE)
    assert [mode(tmp_path / each) for each in ("a", "a/ours", "a/ours/b")] == [0o755, 0o700, 0o700]


def test_missing_directories_of_others_have_the_mode(tmp_path: Path) -> None:
    assert directories.make(tmp_path / "apt" / "keyrings")
    assert [mode(tmp_path / each) for each in ("apt", "apt/keyrings")] == [0o755, 0o755]


@pytest.mark.parametrize("wrong", [0o700, 0o750, 0o777])
def test_existing_directories_of_ours_are_corrected(tmp_path: Path, wrong: int) -> None:
    tree = tmp_path / "ours" / "a"
    tree.mkdir(parents=True)
    for path in (tmp_path, tmp_path / "ours", tree):
        path.chmod(wrong)
    assert directories.make(tree, own=tmp_path / "ours")
    assert [mode(path) for path in (tmp_path, tmp_path / "ours", tree)] == [wrong, 0o755, 0o755]
    assert not directories.make(tree, own=tmp_path / "ours")


def test_existing_directories_of_others_are_not_changed(tmp_path: Path) -> None:
    (tmp_path / "apt").mkdir()
    (tmp_path / "apt").chmod(0o750)
    assert not directories.make(tmp_path / "apt")
    assert mode(tmp_path / "apt") == 0o750


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes owners")
def test_owner_and_group_are_corrected(tmp_path: Path) -> None:
    path = tmp_path / "ours"
    path.mkdir()
    os.chown(path, OTHER, OTHER)
    assert directories.make(path, own=path)
    assert (path.stat().st_uid, path.stat().st_gid) == (0, 0)
    assert directories.make(path, own=path, mode=0o710, group=OTHER)
    assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (0, OTHER, 0o710)
    assert not directories.make(path, own=path, mode=0o710, group=OTHER)


def test_check_changes_nothing(tmp_path: Path) -> None:
    existing = tmp_path / "existing"
    existing.mkdir()
    existing.chmod(0o750)
    assert directories.make(tmp_path / "new" / "a", own=tmp_path / "new", check=True)
    assert directories.make(existing, own=existing, check=True)
    assert (sorted(tmp_path.iterdir()), mode(existing)) == ([existing], 0o750)


def test_link_of_the_owner_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk").chmod(0o700)
    (tmp_path / "ours").symlink_to("disk")
    tmp_path.chmod(0o755)
    assert directories.make(tmp_path / "ours" / "a", own=tmp_path / "ours")
    assert (mode(tmp_path / "disk"), mode(tmp_path / "disk" / "a")) == (0o755, 0o755)


@pytest.mark.parametrize("writable", [0o777, 0o1777, 0o775])
def test_link_that_another_user_may_have_made_is_refused(tmp_path: Path, writable: int) -> None:
    (tmp_path / "secret").mkdir(mode=0o700)
    (tmp_path / "secret").chmod(0o700)
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "ours").symlink_to("../secret")
    (tmp_path / "open").chmod(writable)
    with pytest.raises(PermissionError, match=r"open/ours") as error:
        directories.make(tmp_path / "open" / "ours", own=tmp_path / "open" / "ours")
    assert "symlink" in str(error.value)
    assert mode(tmp_path / "secret") == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories away")
def test_link_in_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "ours").symlink_to("../secret")
    (tmp_path / "theirs").chmod(0o755)
    os.chown(tmp_path / "theirs", OTHER, OTHER)
    with pytest.raises(PermissionError):
        directories.make(tmp_path / "theirs" / "ours" / "a", own=tmp_path / "theirs" / "ours")
    assert not (tmp_path / "secret" / "a").exists()


def test_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "ours").touch()
    with pytest.raises(OSError, match=str(tmp_path / "ours")):
        directories.make(tmp_path / "ours" / "a", own=tmp_path / "ours")


def test_tree_is_sealed(tmp_path: Path, umask: int) -> None:
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "program").touch()
    (tree / "bin" / "program").chmod(0o700)
    (tree / "text").write_text("")
    (tree / "text").chmod(0o600)
    outside = tmp_path / "outside"
    outside.touch(0o600)
    (tree / "link").symlink_to(outside)
    before = mode(outside)
    tree.chmod(0o700)
    assert directories.seal(tree, check=True)
    assert mode(tree) == 0o700
    assert directories.seal(tree)
    modes = {each: mode(tree / each) for each in (".", "bin", "bin/program", "text")}
    assert modes == {".": 0o755, "bin": 0o755, "bin/program": 0o755, "text": 0o644}
    assert mode(outside) == before
    assert not directories.seal(tree)


def test_file_is_sealed(tmp_path: Path) -> None:
    path = tmp_path / "net.bin.gz"
    path.touch()
    path.chmod(0o600)
    assert directories.seal(path)
    assert mode(path) == 0o644


def test_new_file_of_lines_has_its_mode(tmp_path: Path) -> None:
    files.append(tmp_path / "history.jsonl", b"{}\n", mode=0o644)
    assert mode(tmp_path / "history.jsonl") == 0o644


def test_own_directories_are_known() -> None:
    assert paths.own(Path("/opt/katago/engines/abc")) == paths.ASSETS
    assert paths.own(Path("/opt/katago-mcp")) == paths.RELEASE_ROOT
    assert paths.own(paths.CREDENTIALS) == Path("/etc/katago-mcp")
    assert paths.own(Path("/etc/systemd/system")) is None
    assert paths.own(Path("/opt")) is None


def creations(source: str) -> list[ast.Call]:
    """The calls in a source that create a directory, other than through the helper."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [call for call in calls if getattr(call.func, "attr", getattr(call.func, "id", "")) in CREATING]


def test_directories_on_hosts_are_created_by_the_helper_only() -> None:
    sources = [*(PLUGINS / "modules").glob("*.py"), *(PLUGINS / "module_utils").rglob("*.py")]
    assert len(sources) > 100
    assert [path.name for path in sources if path.name != HELPER and creations(path.read_text())] == []


def test_directories_with_a_mode_are_created_by_the_helper_only() -> None:
    bare = []
    for path in PLUGINS.rglob("*.py"):
        calls = creations(path.read_text()) if path.name != HELPER else []
        bare += [path.name for call in calls if any(keyword.arg == "mode" for keyword in call.keywords)]
    assert bare == []


@pytest.mark.parametrize(
    "source",
    ["Path('a').mkdir(parents=True, mode=0o755)", "os.makedirs('a')", "os.mkdir('a')", "mkdir('a')"],
)
def test_bare_creation_is_detected(source: str) -> None:
    assert len(creations(f"x = 1\n{source}\n")) == 1


def test_directory_that_other_users_cannot_pass_through_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for name, bits in (("open", 0o711), ("closed", 0o750)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(bits)
    above = list(directories.closed([tmp_path / "open/x/y", tmp_path / "closed/x"]))
    own = [line for line in above if line.startswith(str(tmp_path))]
    assert own == [f"{tmp_path}/closed has mode 0750 and belongs to user {os.geteuid()}"]


def test_directory_with_an_access_control_list_is_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir(0o750)
    monkeypatch.setattr(os, "listxattr", lambda _: ["system.posix_acl_access"])
    assert list(directories.closed([tmp_path / "closed/x"])) == []


def test_file_system_without_extended_attributes_is_judged_by_the_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> list[str]:
        raise OSError(errno.ENOTSUP, "no")

    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o700)
    monkeypatch.setattr(os, "listxattr", fail)
    assert f"{tmp_path}/closed has mode 0700" in "; ".join(directories.closed([tmp_path / "closed/x"]))
