"""A host is removed without a trace, and a dead one is replaced, also if runs are killed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.removal import parts
from tests import fleet, hosts

from .conftest import FIRST, SECOND, Vault, snapshot

LIMIT = f"--limit={FIRST}"
BASELINE = "/var/lib/katago-mcp/baseline.json"
MARK = "/var/lib/katago-replacement"
TOKEN = "/etc/katago-mcp/credentials/operator.token"
# One of three tasks; the others are tested by the next kill or by nobody.
STEP = 3
MOST = 200


def killed_at_every_third_task(vault: Vault, playbook: str, **variables: Any) -> fleet.Run:
    """Kill a procedure before its second, its fifth, its eighth task and so on, until a run finishes."""
    for tasks in range(1, MOST, STEP):
        run = vault.play(playbook, LIMIT, kill_before=tasks, **variables)
        if run.returncode == 0:
            return run
        assert run.returncode == -9, run.output
    raise AssertionError(f"{playbook} did not finish")


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        ((), {}, "-l is missing"),
        (("--limit=katago",), {"confirm": "katago"}, "-l katago is a pattern or a group"),
        ((LIMIT,), {}, "-e confirm is missing. To confirm that katago-1 is meant, add: -e confirm=katago-1"),
        ((LIMIT,), {"confirm": SECOND}, "-e confirm is 'katago-2'"),
        (
            (f"--limit={FIRST},{SECOND}",),
            {"confirm": f"{FIRST},{SECOND}"},
            "No host of the fleet would remain",
        ),
        ((LIMIT,), {"confirm": FIRST, "incident_reminder_host": FIRST}, "sends the reminders of incidents"),
    ],
)
def test_removal_that_is_not_meant_is_refused(
    deployed: Vault, first: Any, arguments: tuple[str, ...], variables: dict[str, Any], message: str
) -> None:
    before = hosts.untouched(first)
    run = deployed.play("remove_host.yml", *arguments, **variables)
    assert run.returncode != 0
    assert message in run.output
    assert hosts.untouched(first) == before


def test_removal_in_security_mode_is_refused(deployed: Vault, first: Any) -> None:
    mode = {"since": "2026-01-31T08:05:00Z", "who": "ops", "why": "a test", "isolated": False}
    first.check_output(f"echo '{json.dumps(mode)}' > /run/katago-security.json")
    try:
        before = hosts.untouched(first)
        run = deployed.play("remove_host.yml", LIMIT, confirm=FIRST)
        assert run.returncode != 0
        assert "is in security mode" in run.output
        assert hosts.untouched(first) == before
    finally:
        first.check_output("rm /run/katago-security.json")


def test_repository_on_the_host_is_never_removed(deployed: Vault, second: Any) -> None:
    before = hosts.untouched(second)
    inside = "/var/lib/katago-mcp/backups"
    run = deployed.play(
        "remove_host.yml", f"--limit={SECOND}", confirm=SECOND, without_backup=True, removal_repository=inside
    )
    assert run.returncode != 0
    assert f"The backup repository {inside} is in /var/lib/katago-mcp" in run.output
    # Before the service was stopped.
    assert hosts.untouched(second) == before


def test_check_mode_predicts_the_removal(deployed: Vault, first: Any) -> None:
    before = hosts.untouched(first)
    run = deployed.play("remove_host.yml", LIMIT, "--check", confirm=FIRST)
    assert run.returncode == 0, run.output
    assert "Would remove:" in run.output
    assert hosts.untouched(first) == before


def test_healthy_host_is_not_replaced(deployed: Vault, second: Any) -> None:
    before = hosts.untouched(second)
    run = deployed.play("replace_host.yml", f"--limit={SECOND}")
    assert run.returncode != 0
    assert "katago-2 is not bare: its current release is" in run.output
    assert hosts.untouched(second) == before


def test_kept_data_stays_and_a_deployment_continues_with_it(deployed: Vault, first: Any) -> None:
    before = hosts.history(first)
    run = deployed.play("remove_host.yml", LIMIT, confirm=FIRST, keep="data", without_backup=True)
    assert run.returncode == 0, run.output
    assert "state and history" in run.output
    assert not first.file("/opt/katago-mcp").exists
    assert not first.file("/etc/katago-mcp").exists
    assert hosts.history(first) == before
    refused = deployed.play("replace_host.yml", LIMIT)
    assert refused.returncode != 0
    assert f"its history has {len(before)} records" in refused.output
    run = deployed.play("site.yml", LIMIT)
    assert run.returncode == 0, run.output
    assert hosts.history(first)[: len(before)] == before


def test_removed_host_is_as_bare_as_before_its_first_deployment(
    deployed: Vault, first: Any, second: Any, bare: set[str]
) -> None:
    """Killed at every third task, and repeated each time."""
    # Not their number: every backup removes old ones.
    newest = "ls -t /srv/vault/katago/snapshots | head -1"
    snapshot_before = second.check_output(newest)
    first.check_output(f"echo '{{\"median\": 2}}' > {BASELINE}")
    run = killed_at_every_third_task(deployed, "remove_host.yml", confirm=FIRST)
    assert f"remove {FIRST} from the group katago of the inventory" in run.output
    assert "sftp:vault@katago-2:/srv/vault/katago" in run.output
    after = snapshot(first)
    lock = parts.LOCK.patterns[1]
    differing = {line for line in after ^ bare if f" {lock} " not in line}
    assert differing == set()
    assert second.check_output(newest) != snapshot_before
    again = deployed.play("remove_host.yml", LIMIT, confirm=FIRST)
    assert again.returncode == 0, again.output
    assert "Nothing of this collection is on the host." in again.output
    assert {line for line in snapshot(first) ^ bare if f" {lock} " not in line} == set()


def test_bare_host_without_a_backup_gets_a_new_state(deployed: Vault, first: Any) -> None:
    predicted = deployed.play("replace_host.yml", LIMIT, "--check", without_backup=True)
    assert predicted.returncode == 0, predicted.output
    assert "Would rebuild the host." in predicted.output
    assert not first.file("/opt/katago-mcp").exists
    run = deployed.play("replace_host.yml", LIMIT, without_backup=True)
    assert run.returncode == 0, run.output
    assert "Its backup was not used: its history and its baseline are lost." in run.output
    assert [each["verdict"] for each in hosts.history(first)] == [None, "good"]
    assert first.check_output("systemctl is-active katago-backup.timer") == "active"
    assert not first.file(MARK).exists


def test_dead_host_is_replaced_with_its_state_also_if_the_runs_are_killed(
    deployed: Vault, first: Any
) -> None:
    first.check_output(f"echo '{{\"median\": 3}}' > {BASELINE}")
    before, token = hosts.history(first), first.check_output(f"cat {TOKEN}")
    run = deployed.play("backup.yml", LIMIT)
    assert run.returncode == 0, run.output
    fleet.destroyed(fleet.host_named(FIRST))
    host = hosts.connect(FIRST)
    assert not host.file("/opt/katago-mcp").exists
    run = killed_at_every_third_task(deployed, "replace_host.yml")
    assert "runs and is validated" in run.output
    assert hosts.history(host)[: len(before)] == before
    assert hosts.history(host)[-1]["verdict"] == "good"
    assert json.loads(host.check_output(f"cat {BASELINE}")) == {"median": 3}
    assert host.check_output(f"cat {TOKEN}") != token
    assert host.check_output("systemctl is-active katago-backup.timer") == "active"
    assert host.check_output("systemctl is-enabled katago-mcp.service") == "enabled"
    assert not host.file(MARK).exists
    assert not host.file(hosts.LOCK).exists
    target = fleet.host_named(FIRST)
    assert fleet.get(target, "/ready")[0] == 200
    refused = deployed.play("replace_host.yml", LIMIT)
    assert refused.returncode != 0
    assert "katago-1 is not bare" in refused.output
