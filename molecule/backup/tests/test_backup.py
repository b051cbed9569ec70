"""Backups by the playbook and by the timer are verified or failed, and leak no secret."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import prometheus
from tests import fleet

from .conftest import FIRST, SECOND, STATE, Vault, run_unit, state

METRICS = "/var/lib/prometheus/node-exporter/katago_backup.prom"
# Watches the arguments of every process until it is stopped.
SAMPLER = """
import pathlib, time
secret, seen, restic = SECRET, set(), 0
while True:
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes()
        except OSError:
            continue
        restic += arguments.startswith(b"restic")
        if secret in arguments:
            seen.add(arguments)
    pathlib.Path("/run/sampled").write_text(f"{restic} {len(seen)}")
    time.sleep(0.02)
"""


def metric(host: Any, name: str) -> float | None:
    return prometheus.parse(host.check_output(f"cat {METRICS}")).value(f"katago_backup_{name}")


@pytest.fixture(scope="module")
def first_backup(hosts: dict[str, Any], vault: Vault) -> fleet.Run:
    """The first backup of both hosts, with the most verbose output, while all processes are watched."""
    half = len(vault.password) // 2
    # In two halves, so that the sampler's own arguments and file do not contain the password.
    secret = f"b'{vault.password[:half]}' + b'{vault.password[half:]}'"
    for host in hosts.values():
        host.run_expect([0], f"cat > /run/sampler.py <<'END'\n{SAMPLER.replace('SECRET', secret)}\nEND")
        host.check_output("systemd-run --unit=sampler --collect python3 /run/sampler.py")
    run = vault.play("backup.yml", "-vvv", "--diff", f"--limit={FIRST}:{SECOND}")
    for host in hosts.values():
        host.check_output("systemctl stop sampler.service")
    assert run.returncode == 0, run.output[-5000:]
    return run


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_backup_by_the_playbook_is_verified_and_reported(
    hosts: dict[str, Any], first_backup: fleet.Run, name: str
) -> None:
    host = hosts[name]
    good = state(host)["last_good"]
    assert good == state(host)["last_run"]
    assert f"{good['snapshot']} of {good['release']} is verified" in first_backup.output
    assert "release=" + good["release"] in host.check_output("katago-backup snapshots").replace(
        "release ", "release="
    )
    checks = " ".join(good["checks"])
    for check in ("read back (all)", "matches its manifest", "config.json is valid", "empty board: Black"):
        assert check in checks
    assert metric(host, "last_run_success") == 1
    assert metric(host, "last_good_timestamp_seconds") == metric(host, "last_run_timestamp_seconds")
    assert host.run("ls -A /var/lib/katago-backup").stdout.split() == ["state.json"]


@pytest.mark.usefixtures("first_backup")
@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_password_and_key_leak_nowhere(
    hosts: dict[str, Any], vault: Vault, first_backup: fleet.Run, name: str
) -> None:
    host = hosts[name]
    restic_processes, leaking_processes = host.check_output("cat /run/sampled").split()
    assert int(restic_processes) > 0
    assert int(leaking_processes) == 0
    line = vault.key.splitlines()[2]
    for secret in (vault.password, line):
        assert secret not in first_backup.output
        found = host.run(
            "grep --recursive --files-with-matches --fixed-strings --binary-files=text"
            f" --regexp={secret} /etc /opt/katago-mcp /var /run /root /srv /tmp 2>/dev/null"
        ).stdout.split()
        assert set(found) <= {"/etc/katago-backup/password", "/etc/katago-backup/ssh_key"}
        assert host.run(f"journalctl --no-pager | grep --fixed-strings -e {secret}").rc == 1
    modes = host.check_output("stat --format='%a %U' /etc/katago-backup /etc/katago-backup/[ekpr]*")
    assert set(modes.splitlines()) == {"700 root", "600 root"}


@pytest.mark.usefixtures("first_backup")
def test_timer_makes_a_verified_backup(hosts: dict[str, Any]) -> None:
    host = hosts[FIRST]
    before = state(host)["last_good"]["snapshot"]
    dropin = "/run/systemd/system/katago-backup.timer.d"
    host.check_output(
        f"mkdir -p {dropin} && printf '[Timer]\\nOnCalendar=\\nOnCalendar=*:*:0/2\\nRandomizedDelaySec=0\\n'"
        f" > {dropin}/soon.conf && systemctl daemon-reload && systemctl restart katago-backup.timer"
    )
    try:
        fleet.eventually(
            lambda: state(host)["running"] != "", within=30, what="the timer has started a backup"
        )
    finally:
        host.check_output(
            f"rm -r {dropin} && systemctl daemon-reload && systemctl restart katago-backup.timer"
        )
    fleet.eventually(lambda: state(host)["running"] == "", within=240, what="the backup has finished")
    after = state(host)
    assert after["last_run"]["ok"], after["last_run"]
    assert after["last_good"]["snapshot"] != before


@pytest.mark.usefixtures("first_backup")
@pytest.mark.parametrize(
    ("path", "sed", "message"),
    [
        ("/etc/katago-backup/password", "s/./x/", "the password does not open the repository"),
        ("/etc/katago-backup/repository", "s|.*|/srv/nowhere|", "there is no repository"),
        (
            "/etc/katago-backup/repository",
            f"s|.*|sftp://vault@{SECOND}:9//srv/vault/katago|",
            "the repository cannot be reached",
        ),
        ("/etc/katago-backup/settings.json", 's|"deadline": [0-9]*|"deadline": 0|', "did not finish within"),
    ],
    ids=["password", "absent", "unreachable", "slow"],
)
def test_failed_backup_reports_why_and_does_not_count(
    hosts: dict[str, Any], changed_file: Callable[[str, str], None], path: str, sed: str, message: str
) -> None:
    host = hosts[SECOND]
    good = state(host)["last_good"]
    changed_file(path, sed)
    status, outcome = run_unit(host)
    assert status != 0
    assert message in outcome["message"]
    assert f"The last verified backup, {good['snapshot']}" in outcome["message"]
    assert state(host)["last_good"] == good
    assert metric(host, "last_run_success") == 0
    assert not host.file("/srv/nowhere").exists


@pytest.mark.usefixtures("first_backup")
def test_damaged_repository_is_reported(hosts: dict[str, Any], flip: Callable[[Any, str, int], None]) -> None:
    host = hosts[SECOND]
    good = state(host)["last_good"]
    pack = host.check_output("find /srv/katago/data -type f -size +1M | sort | head -1")
    host.check_output(f"cp --preserve {pack} /root/pack")
    try:
        flip(host, pack, 5000)
        status, outcome = run_unit(host)
    finally:
        host.check_output(f"cp --preserve /root/pack {pack} && rm /root/pack")
    assert status != 0
    assert outcome["step"] == "read_back"
    assert "the repository is damaged" in outcome["message"]
    assert pack.rpartition("/")[2] in outcome["message"]
    assert state(host)["last_good"] == good
    assert "not verified" in host.check_output("katago-backup snapshots")


@pytest.mark.usefixtures("first_backup")
def test_full_repository_is_reported(hosts: dict[str, Any], changed_file: Callable[[str, str], None]) -> None:
    host = hosts[SECOND]
    host.check_output(
        "mkdir -p /srv/small && mount -t tmpfs -o size=8m tmpfs /srv/small && restic init"
        " --repo=/srv/small/katago --password-file=/etc/katago-backup/password"
    )
    # The unit's sandbox only allows writing to its own repository.
    dropin = "/run/systemd/system/katago-backup.service.d"
    host.check_output(
        f"mkdir -p {dropin} && printf '[Service]\\nReadWritePaths=/srv/small\\n' > {dropin}/small.conf"
        " && systemctl daemon-reload"
    )
    try:
        changed_file("/etc/katago-backup/repository", "s|.*|/srv/small/katago|")
        status, outcome = run_unit(host)
    finally:
        host.check_output(f"umount /srv/small && rm -r {dropin} && systemctl daemon-reload")
    assert status != 0
    assert "the repository has no space left" in outcome["message"]
    assert "No snapshot was made" in outcome["message"]


@pytest.mark.usefixtures("first_backup")
def test_retention_keeps_verified_snapshots_and_stale_locks_are_reported(
    hosts: dict[str, Any], changed_file: Callable[[str, str], None]
) -> None:
    """The lock of a dead process is reported and removed; then old snapshots are removed."""
    host = hosts[SECOND]
    restic = "restic --repo=/srv/katago --password-file=/etc/katago-backup/password --no-cache"
    host.check_output(
        "systemd-run --unit=holder --collect --setenv=HOME=/root"
        f" sh -c '(echo x; sleep 60) | {restic} --quiet backup --stdin'"
    )
    fleet.eventually(
        lambda: host.run(f"{restic} list locks --no-lock").stdout != "", within=30, what="there is a lock"
    )
    lock = host.check_output(f"{restic} list locks --no-lock").split()[0]
    host.check_output("systemctl kill --signal=KILL holder.service")
    changed_file("/etc/katago-backup/settings.json", "")
    settings = json.loads(host.check_output("tr -d '\\n' < /etc/katago-backup/settings.json"))
    settings["keep"] = {"last": 1}
    host.run_expect([0], f"cat > /etc/katago-backup/settings.json <<'END'\n{json.dumps(settings)}\nEND")
    status, outcome = run_unit(host)
    assert status == 0, outcome
    log = host.check_output("journalctl --unit=katago-backup --no-pager --output=cat --lines=40")
    assert f"Removed a stale lock {lock[:8]} of process" in log
    snapshots = host.check_output("katago-backup snapshots").splitlines()
    verified = [line for line in snapshots if "not verified" not in line]
    assert [line.split()[0] for line in verified] == [outcome["snapshot"]]
    assert len(snapshots) > len(verified)


@pytest.mark.usefixtures("first_backup")
def test_killed_backup_is_recorded_as_failed(hosts: dict[str, Any]) -> None:
    host = hosts[SECOND]
    good = state(host)["last_good"]
    host.check_output("systemctl start --no-block katago-backup.service")
    fleet.eventually(lambda: state(host)["running"] != "", within=60, what="the backup runs")
    host.check_output("systemctl kill --signal=KILL katago-backup.service")
    fleet.eventually(lambda: state(host)["running"] == "", within=60, what=f"{STATE} records the end")
    after = state(host)
    assert not after["last_run"]["ok"]
    assert "The backup was killed" in after["last_run"]["message"]
    assert after["last_good"] == good
    assert metric(host, "last_run_success") == 0
