"""Every kind of damage is found and repaired, to any point in time, also if the restore is killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import testinfra

from tests import fleet
from tests.hosts import LOCK, drop_in

from .conftest import FIRST, INVENTORY, SECOND, Vault, run_unit, state

HISTORY = "/var/lib/katago-mcp/history.jsonl"
BASELINE = "/var/lib/katago-mcp/baseline.json"
# Kills the service until its unit is permanently stopped. Then writes its number of processes.
RACER = """
group=$(systemctl show katago-mcp.service --property=ControlGroup --value)
until systemctl is-active katago-mcp.service | grep --quiet --line-regexp -e inactive -e failed; do
    systemctl kill --signal=KILL katago-mcp.service
    sleep 0.2
done
cat /sys/fs/cgroup/*$group/cgroup.procs /sys/fs/cgroup$group/cgroup.procs 2>/dev/null | wc -l > /run/stopped
"""
# Waits until the file in its argument is replaced, and writes the unit's number of processes at that moment.
WITNESS = """
group=$(systemctl show katago-mcp.service --property=ControlGroup --value)
before=$(stat --format=%i $1)
until [ "$(stat --format=%i $1)" != $before ]; do sleep 0.05; done
cat /sys/fs/cgroup/*$group/cgroup.procs /sys/fs/cgroup$group/cgroup.procs 2>/dev/null | wc -l > /run/witness
"""
TIMER = "/etc/systemd/system/katago-backup.timer"
CURRENT = "/opt/katago-mcp/current"
FILES = {
    "config": f"readlink --canonicalize {CURRENT}/config.json",
    "release": f"readlink --canonicalize {CURRENT}/venv/lib/python3*/site-packages/katago_mcp/cli.py",
    "engine": "ls /opt/katago/engines/*/usr/bin/katago",
    "network": "ls /opt/katago/networks/*/*",
    "tuning": "ls /opt/katago/tuning/*/tuning.txt",
    "cache": "ls /var/cache/katago-mcp/answers.sqlite3",
    "history": f"ls {HISTORY}",
}


@pytest.fixture(scope="module", autouse=True)
def backed_up(hosts: dict[str, Any], vault: Vault) -> None:
    """Make a verified backup of both hosts."""
    run = vault.play("backup.yml", f"--limit={FIRST}:{SECOND}")
    assert run.returncode == 0, run.output


def health(host: Any) -> str:
    return str(host.run("systemctl is-active katago-mcp.service").stdout.strip())


def main_pid(host: Any) -> str:
    return str(host.check_output("systemctl show katago-mcp.service --property=MainPID --value"))


def records(host: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in host.check_output(f"cat {HISTORY}").splitlines()]


def quarantine(host: Any) -> str:
    """The newest quarantine."""
    return str(host.check_output("ls -d /var/lib/katago-mcp/quarantine/*/ | tail -1").rstrip("/"))


def test_one_changed_byte_in_each_item_is_reported_repaired_and_quarantined(
    hosts: dict[str, Any], vault: Vault, flip: Callable[[Any, str, int], None]
) -> None:
    host = hosts[SECOND]
    # A running service quarantines a damaged cache automatically.
    host.check_output("systemctl stop katago-mcp.service")
    files = {item: host.check_output(command) for item, command in FILES.items()}
    whole = {item: host.file(path).sha256sum for item, path in files.items()}
    before = records(host)
    for item, path in files.items():
        flip(host, path, 0 if item == "cache" else 333)
    broken = {item: host.file(path).sha256sum for item, path in files.items()}

    predicted = vault.play("restore.yml", f"--limit={SECOND}", "--check")
    assert predicted.returncode == 0, predicted.output
    for path in files.values():
        assert path in predicted.output
    assert {item: host.file(path).sha256sum for item, path in files.items()} == broken

    run = vault.play("restore.yml", f"--limit={SECOND}")
    assert run.returncode == 0, run.output
    for item, path in files.items():
        assert path in run.output, item
        kept = f"{quarantine(host)}{path}"
        assert host.file(kept).sha256sum == broken[item], item
        if item not in ("cache", "history"):
            assert host.file(path).sha256sum == whole[item], item
    assert records(host)[: len(before)] == before
    restored, verdict = records(host)[-2:]
    assert (restored["how"], restored["verdict"]) == ("restore", None)
    assert (verdict["release"], verdict["verdict"]) == (restored["release"], "good")
    assert health(host) == "active"


def test_invalid_configuration_is_reported_with_the_releases_reasons_and_repaired(
    hosts: dict[str, Any], vault: Vault
) -> None:
    host = hosts[SECOND]
    config = host.check_output(FILES["config"])
    token = host.check_output("cat /etc/katago-mcp/credentials/operator.token")
    wrong = f'-e \'s/"port": 9090/"pork": 9090/\' -e \'s/"port": 8080/"port": "{token}"/\''
    host.check_output(f"sed --in-place {wrong} {config} && grep pork {config} && grep '{token}' {config}")
    predicted = vault.play("restore.yml", f"--limit={SECOND}", "--check")
    assert predicted.returncode == 0, predicted.output
    assert "/etc/katago-mcp/config.json is not valid for the current release" in predicted.output
    assert "pork" in predicted.output
    assert "server.port" in predicted.output
    assert token not in predicted.output
    run = vault.play("restore.yml", f"--limit={SECOND}")
    assert run.returncode == 0, run.output
    assert "no backup can repair" not in run.output.lower()
    host.check_output("katago-mcp validate --no-engine --config /etc/katago-mcp/config.json")


def test_damaged_journal_is_reported_as_not_repairable_while_the_journal_is_written(
    hosts: dict[str, Any], vault: Vault, flip: Callable[[Any, str, int], None]
) -> None:
    host = hosts[SECOND]
    host.check_output("journalctl --rotate")
    journal = host.check_output("ls --sort=time /var/log/journal/*/system@*.journal | head -1")
    flip(host, journal, 333333)
    broken = host.file(journal).sha256sum
    # The verification of a growing file sometimes fails although it is not damaged.
    noise = "for i in $(seq 9000); do logger --tag noise $(seq 200); done"
    host.check_output(f"systemd-run --quiet --collect --unit=noise sh -c '{noise}'")
    try:
        run = vault.play("restore.yml", f"--limit={SECOND}")
        assert run.returncode == 0, run.output
        assert f"Only damage that no backup can repair was found ({journal} is damaged: " in run.output
        assert "/system.journal is damaged" not in run.output
        assert "runs, validated" in run.output
        assert host.file(journal).sha256sum == broken
    finally:
        host.check_output(f"systemctl stop noise.service; rm {journal}")
    assert "no backup can repair" not in vault.play("restore.yml", f"--limit={SECOND}").output


def test_service_that_restarts_automatically_is_stopped_anyway(
    hosts: dict[str, Any], vault: Vault, flip: Callable[[Any, str, int], None]
) -> None:
    """A script kills the service repeatedly and systemd restarts it at once, until the restore stops it."""
    host = hosts[SECOND]
    config = host.check_output(FILES["config"])
    whole = host.file(config).sha256sum
    restarts = "systemctl show katago-mcp.service --property=NRestarts --value"
    with drop_in(host, "Restart=always", "RestartSec=0", "[Unit]", "StartLimitIntervalSec=0"):
        flip(host, config, 50)
        host.check_output(f"cat > /run/racer <<'END'\n{RACER}\nEND")
        host.check_output("rm -f /run/stopped; setsid sh /run/racer > /dev/null 2>&1 < /dev/null & true")
        fleet.eventually(
            lambda: int(host.check_output(restarts)) > 2, within=60, what="systemd starts it again and again"
        )
        run = vault.play("restore.yml", f"--limit={SECOND}")
        assert run.returncode == 0, run.output
        fleet.eventually(lambda: host.file("/run/stopped").exists, within=10, what="the service is stopped")
    assert host.file("/run/stopped").content_string.split() == ["0"]
    assert host.file(config).sha256sum == whole
    assert health(host) == "active"
    assert "runs, validated" in run.output


def test_files_are_replaced_only_after_all_processes_of_a_slow_service_have_exited(
    hosts: dict[str, Any], vault: Vault, flip: Callable[[Any, str, int], None]
) -> None:
    """R22."""
    host = hosts[SECOND]
    config = host.check_output(FILES["config"])
    flip(host, config, 50)
    host.check_output(f"cat > /run/witness.sh <<'END'\n{WITNESS}\nEND")
    host.check_output(f"systemd-run --quiet --collect --unit=witness sh /run/witness.sh {config}")
    try:
        with drop_in(host, "ExecStop=/bin/sleep 10"):
            run = vault.play("restore.yml", f"--limit={SECOND}")
            assert run.returncode == 0, run.output
    finally:
        host.run("systemctl stop witness.service")
    assert host.check_output("cat /run/witness") == "0"
    assert health(host) == "active"


def test_stopped_service_of_an_intact_host_is_started_and_validated(
    hosts: dict[str, Any], vault: Vault
) -> None:
    host = hosts[SECOND]
    host.check_output("systemctl stop katago-mcp.service")
    predicted = vault.play("restore.yml", f"--limit={SECOND}", "--check")
    assert predicted.returncode == 0, predicted.output
    assert "restore: changed (predicted). No damage was found; no file was changed" in predicted.output
    assert health(host) == "inactive"
    run = vault.play("restore.yml", f"--limit={SECOND}")
    assert run.returncode == 0, run.output
    assert "the service was inactive and was started" in run.output
    assert "runs, validated" in run.output
    assert health(host) == "active"


def test_service_that_does_not_start_on_an_intact_host_is_reported_with_the_restart_as_next_step(
    hosts: dict[str, Any], vault: Vault
) -> None:
    host = hosts[SECOND]
    host.check_output("systemctl stop katago-mcp.service")
    try:
        with drop_in(host, "ExecStartPre=/bin/false"):
            run = vault.play("restore.yml", f"--limit={SECOND}")
    finally:
        host.check_output("systemctl reset-failed katago-mcp.service; systemctl start katago-mcp.service")
    assert run.returncode != 0
    assert "No damage was found, but the service does not work." in run.output
    assert "the unit does not start" in run.output
    assert f"Next: ansible-playbook playbooks/restart.yml -l {SECOND}" in run.output


def test_nothing_changes_on_an_intact_host_or_without_a_matching_snapshot(
    hosts: dict[str, Any], vault: Vault
) -> None:
    host = hosts[SECOND]
    pid = main_pid(host)
    run = vault.play("restore.yml", f"--limit={SECOND}")
    assert run.returncode == 0, run.output
    assert "No damage was found; no file was changed" in run.output
    assert "runs, validated" in run.output
    refused = vault.play("restore.yml", f"--limit={SECOND}", at="2020-01-01")
    assert refused.returncode != 0
    assert "Refused; nothing was changed on this host" in refused.output
    assert f"no verified snapshot of {SECOND} at or before 2020-01-01T00:00:00Z" in refused.output
    assert main_pid(host) == pid


def test_wrong_password_is_refused_and_replaces_nothing(hosts: dict[str, Any], vault: Vault) -> None:
    host = hosts[SECOND]
    pid = main_pid(host)
    refused = vault.play("restore.yml", f"--limit={SECOND}", backup_password="not-the-password-at-all")
    assert refused.returncode != 0
    assert "the password does not open the repository" in refused.output
    assert "not-the-password-at-all" not in refused.output
    assert host.check_output("cat /etc/katago-backup/password") == vault.password
    assert main_pid(host) == pid


def test_state_is_restored_to_a_point_in_time(hosts: dict[str, Any], vault: Vault) -> None:
    host = hosts[FIRST]
    host.check_output(f"echo '{{\"median\": 1}}' > {BASELINE}")
    assert run_unit(host)[0] == 0
    then = host.check_output("date --utc --iso-8601=seconds")
    host.check_output(f"sleep 1; echo '{{\"median\": 2}}' > {BASELINE}")
    assert run_unit(host)[0] == 0
    before = records(host)
    run = vault.play("restore.yml", f"--limit={FIRST}", at=then, scope="state")
    assert run.returncode == 0, run.output
    assert json.loads(host.check_output(f"cat {BASELINE}")) == {"median": 1}
    assert json.loads(host.check_output(f"cat {quarantine(host)}{BASELINE}")) == {"median": 2}
    assert records(host)[: len(before)] == before


def test_restore_killed_between_any_two_tasks_finishes_when_run_again(
    hosts: dict[str, Any], vault: Vault, flip: Callable[[Any, str, int], None]
) -> None:
    host = hosts[SECOND]
    config = host.check_output(FILES["config"])
    whole = host.file(config).sha256sum
    flip(host, config, 50)
    damaged = host.file(config).sha256sum
    before = records(host)
    limit = f"--limit={SECOND}"
    fleet.killed_everywhere(lambda tasks: vault.play("restore.yml", limit, kill_before=tasks), 80)
    assert host.file(config).sha256sum == whole
    assert health(host) == "active"
    assert records(host)[: len(before)] == before
    assert records(host)[-1]["verdict"] == "good"
    assert host.file(f"{quarantine(host)}{config}").sha256sum == damaged
    record = json.loads(host.check_output(f"cat {quarantine(host)}/restore.json"))
    assert record["result"] == "validated"
    assert host.run("ls -d /opt/katago/.restore /opt/katago-mcp/.restore").rc != 0
    assert not host.file(LOCK).exists


def test_bare_host_is_rebuilt_from_the_backup_of_another_host(hosts: dict[str, Any], vault: Vault) -> None:
    """Engine, network, tuning and environment come from the backup, not from the control node's cache."""
    fleet.LAB.create(3)
    limit = "--limit=katago-3"
    # Another path to the same inventory, because testinfra caches the hosts of an inventory that it has read.
    host = testinfra.get_host("ansible://katago-3", ansible_inventory=f"{INVENTORY}/.")
    mistyped = vault.play("restore.yml", limit, from_host=FIRST, backup_repository="/srv/katgo")
    assert mistyped.returncode != 0
    assert "/srv/katgo: there is no repository" in mistyped.output
    for path in ("/srv/katgo", "/etc/katago-backup", TIMER):
        assert not host.file(path).exists, path
    alone = vault.play("restore.yml", limit)
    assert alone.returncode != 0
    assert "no verified snapshot of katago-3" in alone.output
    assert not host.file(TIMER).exists
    run = vault.play("restore.yml", limit, from_host=FIRST, katago_cache_dir="/nonexistent")
    assert run.returncode == 0, run.output
    assert host.check_output("systemctl is-active katago-backup.timer") == "active"
    release = state(hosts[FIRST])["last_good"]["release"]
    assert host.check_output("readlink /opt/katago-mcp/current") == f"releases/{release}"
    assert json.loads(host.check_output(f"cat {BASELINE}")) == {"median": 2}
    assert health(host) == "active"
    target = fleet.host_named("katago-3")
    assert fleet.get(target, "/ready")[0] == 200
    headers = {"Authorization": f"Bearer {fleet.token()}", "Content-Type": "application/json"}
    assert fleet.get(target, "/mcp", method="POST", headers=headers)[0] not in (401, 403)
    place = "/etc/katago-mcp/credentials"
    modes = host.check_output(f"stat --format='%a %U %G' {place} {place}/tokens.json {place}/operator.token")
    assert modes.splitlines() == ["710 root katago-mcp", "640 root katago-mcp", "600 root root"]
    own = host.check_output("cat /etc/katago-mcp/credentials/operator.token")
    assert own != hosts[FIRST].check_output("cat /etc/katago-mcp/credentials/operator.token")
