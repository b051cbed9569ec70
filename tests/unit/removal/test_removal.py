"""What a removal removes: every path of the collection, nothing else, and how it reports that."""

from __future__ import annotations

import json
import os
import pwd
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.removal import (
    obstacles,
    parts,
    remove,
    wording,
)
from ansible_collections.katago.fleet.plugins.module_utils.removal.remove import Removed

ROOT = Path(__file__).resolve().parents[3]
# Paths of our own names in the code of hosts, also in templates. Those of examples have a placeholder.
_OURS = re.compile(r"/(?:etc|opt|run|srv|usr/local|var)/[\w./-]*\bkatago[\w./-]*")
_UNIT = re.compile(r"\bkatago-(?:[\w-]|\{[^}]*\})+\.(?:service|timer|socket|path)\b")

# The settings of the backups name it.
_OF_SETTINGS = "/var/lib/prometheus/node-exporter/katago_backup.prom"


def sources() -> Iterator[Path]:
    for directory in ("plugins/action", "plugins/module_utils", "plugins/modules"):
        yield from (each for each in (ROOT / directory).rglob("*.py") if each.parent.name != "removal")
    for pattern in ("*/tasks/*.yml", "*/templates/*", "*/vars/*.yml", "*/defaults/*.yml"):
        yield from (ROOT / "roles").glob(pattern)


def declared() -> Iterator[tuple[str, Path]]:
    for name, value in vars(paths).items():
        if name.isupper():
            values = value if isinstance(value, tuple) else (value,)
            yield from ((name, each) for each in values if isinstance(each, Path))


def test_every_path_that_is_declared_is_removed_or_stays_for_a_reason() -> None:
    assert [(name, path) for name, path in declared() if not (parts.removes(path) or parts.stays(path))] == []


def test_every_path_of_ours_in_the_code_is_removed_or_stays_for_a_reason() -> None:
    forgotten = {
        match[0]: source.relative_to(ROOT)
        for source in sources()
        for match in _OURS.finditer(source.read_text())
        if not (parts.removes(Path(match[0].rstrip("./"))) or parts.stays(Path(match[0].rstrip("./"))))
        and match[0] != _OF_SETTINGS
        and not any(character in match[0] for character in "<{")
    }
    assert forgotten == {}


def test_every_unit_in_the_code_is_stopped_and_removed() -> None:
    names = {match[0] for source in sources() for match in _UNIT.finditer(source.read_text())}
    assert any("{" in name for name in names)
    assert {name for name in names if not parts.is_unit(name)} == set()


def test_nothing_is_both_removed_and_kept() -> None:
    assert [path for part in parts.PARTS for path in part.paths if parts.stays(path)] == []


def test_paths_of_others_are_not_removed() -> None:
    for path in (
        "/etc/systemd/system/ssh.service",
        "/var/lib/katago-load-balancer/rotation.json",
        "/opt/kata",
    ):
        assert not parts.removes(Path(path))


def test_packages_that_stay_are_those_that_roles_install() -> None:
    text = "".join(path.read_text() for path in (ROOT / "roles").glob("[!l]*/tasks/*.yml"))
    names: set[str] = set()
    for value in re.findall(r"ansible\.builtin\.apt:\n +name: (.*)", text):
        if "{{" not in value:
            loaded = yaml.safe_load(value)
            names |= set(loaded if isinstance(loaded, list) else [loaded])
    engine = yaml.safe_load((ROOT / "roles/katago/vars/main.yml").read_text())["_katago_packages"]
    names |= set(re.findall(r"'([\w-]+)'", engine))
    for value in re.findall(r"_monitoring_packages: (\[.*\])", text):
        names |= set(yaml.safe_load(value))
    assert names == set(parts.PACKAGES)


def test_data_is_removed_unless_it_is_kept() -> None:
    kept = {path for part in parts.to_remove("data") for path in part.paths}
    assert paths.STATE not in kept
    assert paths.CACHE not in kept
    assert paths.RELEASE_ROOT in kept
    assert {part.name for part in parts.to_remove("nothing")} == {part.name for part in parts.PARTS}


def test_what_finds_the_backup_is_removed_last_and_the_current_release_first() -> None:
    order = [path for part in parts.PARTS for path in part.paths]
    assert order[0] == paths.RELEASE_ROOT / "current"
    assert order[-1] == paths.BACKUP_SECRETS


def test_units_are_found_with_drop_ins_and_links(tmp_path: Path) -> None:
    for name in (
        "katago-mcp.service",
        # Only a transient unit of this name is ours.
        "katago-tuning-ab12.service",
        "katago-mcp-proxy.service",
        "ssh.service",
        "katago-load-balancer.service",
    ):
        (tmp_path / name).write_text("[Unit]")
    (tmp_path / "katago-backup.service.d").mkdir()
    (tmp_path / "multi-user.target.wants").mkdir()
    (tmp_path / "multi-user.target.wants" / "katago-mcp.service").symlink_to("/nowhere")
    names = {str(path.relative_to(tmp_path)) for path in parts.unit_files([tmp_path])}
    assert names == {
        "katago-mcp.service",
        "katago-backup.service.d",
        "multi-user.target.wants/katago-mcp.service",
    }


def test_times_of_our_timers_are_found(tmp_path: Path) -> None:
    for name in ("stamp-katago-backup.timer", "stamp-apt-daily.timer"):
        (tmp_path / name).touch()
    assert [path.name for path in parts.stamps(tmp_path)] == ["stamp-katago-backup.timer"]


def test_driver_that_stays_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "etc/apt/preferences.d/katago-gpu-driver"
    file.parent.mkdir(parents=True)
    file.touch()
    ((kept, found),) = parts.kept(tmp_path)
    assert (kept.name, found) == ("the GPU driver with its settings for APT", [file])


def test_link_is_deleted_and_not_what_it_leads_to(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "file").touch()
    link = tmp_path / "state"
    link.symlink_to(target)
    remove.delete(link)
    assert not link.is_symlink()
    assert (target / "file").exists()


def test_deleting_again_changes_nothing(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    for _ in range(2):
        remove.delete(tree)
        assert not tree.exists()


def test_of_a_mount_point_only_the_content_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state" / "below").mkdir(parents=True)
    (tmp_path / "state" / "file").touch()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "state")
    remove.delete(tmp_path / "state")
    assert list((tmp_path / "state").iterdir()) == []


def test_size_counts_files_once_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").symlink_to("a")
    assert remove.size(tmp_path) == 100 + (tmp_path / "c").lstat().st_size
    assert remove.size(tmp_path / "c") == 0
    assert remove.size(tmp_path / "nothing") == 0


def test_result_says_what_was_removed_what_stays_and_where_the_backup_is() -> None:
    removed = Removed(
        {"releases": 65_000_000, "links": 10, "assets": 2_500_000_000}, ["katago-mcp.service"], user=True
    )
    text = wording.message(
        removed, kept=["x (why)"], packages=["restic"], repository="sftp:a:/b", predicted=False
    )
    assert text == (
        "Removed: releases (65 MB), links, assets (2.5 GB), 1 unit, the service's user and group."
        " Kept: x (why); the journal; the packages restic. The backups stay in sftp:a:/b."
    )


def test_bare_host_has_nothing_to_remove() -> None:
    text = wording.message(Removed(), kept=[], packages=[], repository="", predicted=False)
    assert text == "Nothing of this collection is on the host."


def settings(tmp_path: Path, **changes: str) -> Path:
    """The settings of backups in a file."""
    content = {
        "host": "katago-1",
        "assets": True,
        "engine": True,
        "keep": {},
        "read_data": "all",
        "scratch": str(tmp_path / "scratch"),
        "metrics": "",
        "lock_wait": 1,
        "deadline": 1,
    }
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({**content, **changes}))
    return file


@pytest.mark.parametrize("path", ["/", "/etc", "/home", "/etc/passwd"])
def test_metrics_file_that_is_none_of_ours_is_not_removed(tmp_path: Path, path: str) -> None:
    assert remove.Host.of(settings(tmp_path, metrics=path)).metrics is None


def test_metrics_file_of_the_backups_is_removed_without_directories_of_others(tmp_path: Path) -> None:
    file = tmp_path / "own" / "katago.prom"
    file.parent.mkdir()
    file.write_text("katago_backup_last_success 1\n")
    host = remove.Host.of(settings(tmp_path, metrics=str(file)))
    removed = [path for part in remove._parts("nothing", host) for path in part.paths]
    assert file in removed
    assert file.parent not in removed


MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 8:2 / {0}/disk rw - ext4 /dev/sdb1 rw
41 22 0:50 / {0}/remote rw - nfs4 nas:/go rw
42 40 0:51 / {0}/disk/a\\040b rw - tmpfs tmpfs rw
"""


def test_links_and_mount_points_that_lead_elsewhere_are_obstacles(tmp_path: Path) -> None:
    for name in ("disk", "remote", "plain", "private/ours"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to("/home")
    (tmp_path / "ours").symlink_to("private/ours")
    mounted = obstacles.mounts(MOUNTINFO.format(tmp_path))
    removed = [tmp_path / name for name in ("disk", "remote", "plain", "link", "ours", "missing")]
    first, second, third = obstacles.of_paths(removed, mounted)
    assert first == f"{tmp_path}/disk/a b is a mount point in {tmp_path}/disk. Unmount it"
    assert second.startswith(f"{tmp_path}/remote is on a remote file system (nfs4)")
    assert third.startswith(f"{tmp_path}/link is a symlink to /home, which is not followed.")


def test_a_program_of_others_is_an_obstacle(tmp_path: Path) -> None:
    command, releases = tmp_path / "katago-mcp", tmp_path / "releases"
    assert list(obstacles.of_command(command, releases)) == []
    command.symlink_to(releases / "current/venv/bin/katago-mcp")
    assert list(obstacles.of_command(command, releases)) == []
    command.unlink()
    command.write_text("#!/bin/sh\n")
    (reason,) = obstacles.of_command(command, releases)
    assert reason.startswith(f"{command} is not the link to the release")


@pytest.mark.parametrize(
    ("repository", "inside"),
    [
        ("/srv/katago", None),
        ("/var/lib/katago-backup/repository", "/var/lib/katago-backup"),
        ("/srv/../var/lib/katago-mcp/backups", "/var/lib/katago-mcp"),
        ("/var/lib", "/var/lib/katago-mcp"),
        ("/opt/katago", "/opt/katago"),
    ],
)
def test_repository_that_would_be_removed_is_an_obstacle(repository: str, inside: str | None) -> None:
    removed = [path for part in parts.to_remove("nothing") for path in part.paths]
    reasons = list(obstacles.of_repositories([Path(repository)], removed))
    assert [reason.split(" is in ")[1].partition(",")[0] for reason in reasons] == [inside] * bool(inside)


def test_processes_of_the_user_that_are_not_of_our_units_are_an_obstacle(tmp_path: Path) -> None:
    for pid, unit in (("10", "katago-mcp.service"), ("11", "session-3.scope"), ("12", "katago-x.service")):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cgroup").write_text(f"0::/system.slice/{unit}\n")
        (tmp_path / pid / "comm").write_text(f"program{pid}\n")
    (reason,) = obstacles.of_processes(os.getuid(), tmp_path)
    assert "has processes of its own: program11 (11), program12 (12). End them" in reason
    assert list(obstacles.of_processes(os.getuid() + 1, tmp_path)) == []


@pytest.mark.parametrize(
    ("home", "shell", "members", "ours"),
    [
        ("/nonexistent", "/usr/sbin/nologin", [], True),
        ("/nonexistent", "/usr/sbin/nologin", ["anna"], False),
        ("/home/katago-mcp", "/usr/sbin/nologin", [], False),
        ("/nonexistent", "/bin/bash", [], False),
    ],
)
def test_user_that_no_deployment_created_stays(home: str, shell: str, members: list[str], ours: bool) -> None:
    account = pwd.struct_passwd(("katago-mcp", "x", 990, 990, "", home, shell))
    assert remove.is_our_user(account, members) is ours
