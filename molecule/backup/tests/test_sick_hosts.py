"""With full or read-only disks and unreachable hosts, backup and restore report it and change nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import fleet
from tests import hosts as seen

from .conftest import SECOND, Vault, state

CONFIG = "/opt/katago-mcp/current/config.json"
LIMIT = f"--limit={SECOND}"
PLAYBOOKS = ("backup.yml", "restore.yml")
# The scratch directory and the repository of a backup, and the message when each cannot be written.
WRITTEN = {
    "/var/lib/katago-backup": "/var/lib/katago-backup cannot be written: No space left on device",
    "/srv/katago": "the repository has no space left: /srv/katago",
}


@pytest.fixture(scope="module", autouse=True)
def backed_up(vault: Vault) -> None:
    """Make a verified backup."""
    run = vault.play("backup.yml", LIMIT)
    assert run.returncode == 0, run.output


@pytest.fixture
def host(hosts: dict[str, Any]) -> Iterator[Any]:
    """The host. After each test its release, history and last verified backup are unchanged. It is ready."""
    host = hosts[SECOND]
    release, _, history, _ = seen.untouched(host)
    good = state(host)["last_good"]
    yield host
    assert seen.current(host) == release
    assert seen.history(host) == history
    assert state(host)["last_good"] == good
    assert not host.file(seen.LOCK).exists
    target = fleet.host_named(SECOND)
    fleet.eventually(lambda: fleet.get(target, "/ready")[0] == 200, within=60, what="ready as before")


@pytest.mark.parametrize("fault", [seen.no_space, seen.no_inodes, seen.read_only])
def test_restore_onto_a_disk_that_cannot_be_written_leaves_the_service_running(
    host: Any,
    vault: Vault,
    flip: Callable[[Any, str, int], None],
    fault: Callable[[Any], contextlib.AbstractContextManager[str]],
) -> None:
    path = host.check_output(f"readlink --canonicalize {CONFIG}")
    whole = host.file(path).sha256sum
    flip(host, path, 50)
    damaged = host.file(path).sha256sum
    before = seen.main_pid(host)
    with fault(host) as message:
        run = vault.play("restore.yml", LIMIT)
        assert run.returncode != 0
        assert message in run.output
        assert seen.main_pid(host) == before
        assert host.file(path).sha256sum == damaged
    flip(host, path, 50)
    assert host.file(path).sha256sum == whole


def test_backup_of_a_read_only_host_fails(host: Any, vault: Vault) -> None:
    before = seen.main_pid(host)
    with seen.read_only(host) as message:
        run = vault.play("backup.yml", LIMIT)
        assert seen.main_pid(host) == before
    assert run.returncode != 0
    assert message in run.output


@pytest.mark.parametrize(("directory", "message"), WRITTEN.items(), ids=WRITTEN)
@pytest.mark.parametrize("fault", [seen.no_space, seen.no_inodes])
def test_backup_onto_a_disk_that_cannot_be_written_fails(
    host: Any,
    vault: Vault,
    fault: Callable[[Any, str], contextlib.AbstractContextManager[str]],
    directory: str,
    message: str,
) -> None:
    before = seen.main_pid(host)
    with fault(host, directory):
        run = vault.play("backup.yml", LIMIT)
        assert seen.main_pid(host) == before
    assert run.returncode != 0
    assert message in run.output


@pytest.mark.parametrize("playbook", PLAYBOOKS)
@pytest.mark.usefixtures("host")
def test_frozen_and_absent_hosts_are_reported_unreachable(vault: Vault, playbook: str) -> None:
    target = fleet.host_named(SECOND)
    for gone in (fleet.frozen, fleet.absent):
        with gone(target):
            run = vault.play(playbook, LIMIT, "--timeout=5")
        assert run.returncode == 4
        assert "UNREACHABLE" in run.output
