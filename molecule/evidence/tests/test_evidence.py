"""R29: evidence is stored whatever is wrong with the host, and its manifest lists what is missing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.evidence import items as evidence_items
from lab import paths
from lab.hosts import Host
from tests import fleet, hosts

FIRST, SECOND = (host.name for host in fleet.LAB.hosts())
LIMIT = f"--limit={FIRST}"
INCIDENT = "2026-11-24-1"


@pytest.fixture
def host() -> Any:
    return hosts.connect(FIRST)


@pytest.fixture
def site(tmp_path: Path) -> dict[str, Any]:
    """Records, a key and an incident for this test."""
    return {
        "incident": INCIDENT,
        "katago_records_dir": str(tmp_path / "records"),
        "evidence_key": str(tmp_path / "key.pem"),
    }


def kept(site: dict[str, Any], name: str = FIRST) -> list[Path]:
    """The directories of a host's evidence, oldest first."""
    parent = Path(site["katago_records_dir"]) / "evidence" / INCIDENT / name
    return sorted(parent.iterdir()) if parent.exists() else []


def entries(directory: Path) -> list[dict[str, Any]]:
    """The entries of a manifest: the first line, the items, and the last line."""
    lines = (directory / "manifest.jsonl").read_text().splitlines()
    return [json.loads(line)["entry"] for line in lines]


def items(directory: Path) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in entries(directory) if "name" in entry}


def deadlines(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The deadline of each tier in seconds. Checks that the deadlines of its items are shorter."""
    bounds = {each["tier"]: each["tier_deadline_seconds"] for each in found.values()}
    for each in found.values():
        assert 0 < each["deadline_seconds"] < each["tier_deadline_seconds"] == bounds[each["tier"]]
    return bounds


def arrived(site: dict[str, Any], names: list[str]) -> bool:
    """Whether these items are stored already. The manifest may still be written."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return set(names) <= items(kept(site)[0]).keys()
    return False


def verified(*directories: Path) -> subprocess.CompletedProcess[str]:
    """The result of `bin/evidence verify`."""
    return subprocess.run(
        ["bin/evidence", "verify", *map(str, directories)],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def timeline(site: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of procedures in the timeline, without the events of tasks."""
    path = Path(site["katago_records_dir"]) / "incidents" / INCIDENT / "timeline.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [event for event in events if "procedure" in event]


@contextlib.contextmanager
def replaced(host: Any, program: str, script: str) -> Iterator[None]:
    """Replace a program of the host by a script."""
    path = host.check_output(f"readlink --canonicalize $(command -v {program})")
    host.check_output(f"printf '#!/bin/sh\\n{script}\\n' > /run/{program} && chmod 755 /run/{program}")
    host.check_output(f"mount --bind /run/{program} {path}")
    try:
        yield
    finally:
        host.check_output(f"umount --lazy {path} && rm /run/{program}")


def kill(pid: int) -> None:
    """Kill a process and its descendants, as if the control node died: workers have their own sessions."""
    below = subprocess.run(["pgrep", "--parent", str(pid)], capture_output=True, text=True, check=False)
    os.kill(pid, signal.SIGKILL)
    for child in below.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            kill(int(child))


def test_evidence_of_all_hosts_is_stored_within_a_minute_and_nothing_is_changed(site: dict[str, Any]) -> None:
    before = [hosts.untouched(hosts.connect(name)) for name in (FIRST, SECOND)]
    run = fleet.play("evidence.yml", variables=site)
    assert run.returncode == 0, run.output
    assert set(run.changed.values()) == {0}
    assert [hosts.untouched(hosts.connect(name)) for name in (FIRST, SECOND)] == before
    for name in (FIRST, SECOND):
        (directory,) = kept(site, name)
        found = items(directory)
        assert list(found) == evidence_items.names("hot", "full")
        assert not [each for each in found.values() if each["withheld"]]
        bounds = deadlines(found)
        assert bounds["hot"] <= 10
        assert sum(bounds.values()) <= 60
        assert (
            abs(found["metrics.txt"]["clock_offset_seconds"])
            <= found["metrics.txt"]["clock_uncertainty_seconds"] + 1
        )
        assert "katago_engine_up 1" in (directory / "metrics.txt").read_text()
        assert "ProtectSystem=strict" in (directory / "unit-properties.txt").read_text()
        assert "Max open files" in (directory / "limits.txt").read_text()
        assert '"event"' in (directory / "journal.jsonl").read_text().replace("\\", "")
        assert "cgroup.procs" in (directory / "control-group.txt").read_text()
        assert f"{name}: ok. {len(found)} items, 0 withheld" in run.output
        assert str(directory) in run.output
    assert {event["host"] for event in timeline(site)} == {FIRST, SECOND}
    assert verified(Path(site["katago_records_dir"]) / "evidence").returncode == 0


def test_harmless_content_is_not_redacted(host: Any, site: dict[str, Any]) -> None:
    assert fleet.play("evidence.yml", LIMIT, variables=site).returncode == 0
    (directory,) = kept(site)
    found = items(directory)
    for name in (
        "metrics.txt",
        "config.json",
        "release.txt",
        "packages.txt",
        "control-group.txt",
        "disk.txt",
    ):
        assert found[name]["redacted"] == 0, name
    config = host.check_output("cat /etc/katago-mcp/config.json")
    assert (directory / "config.json").read_text().rstrip() == config.rstrip()


@pytest.mark.parametrize("fault", [hosts.no_space, hosts.no_inodes, hosts.read_only])
def test_disk_that_cannot_be_written_affects_no_item(
    host: Any, site: dict[str, Any], fault: Callable[[Any], contextlib.AbstractContextManager[str]]
) -> None:
    with fault(host):
        run = fleet.play("evidence.yml", LIMIT, variables=site)
    assert run.returncode == 0, run.output
    (directory,) = kept(site)
    assert entries(directory)[-1]["complete"] is True
    assert verified(directory).returncode == 0


def test_hanging_and_endless_collectors_affect_only_their_own_items(host: Any, site: dict[str, Any]) -> None:
    with replaced(host, "journalctl", "sleep 600"), replaced(host, "dpkg-query", "yes a line"):
        assert host.run("timeout 1 journalctl").rc == 124
        run = fleet.play("evidence.yml", LIMIT, variables=site)
    assert run.returncode == 0, run.output
    (directory,) = kept(site)
    found = items(directory)
    for name in ("journal.jsonl", "journal-long.jsonl"):
        hung = found[name]
        assert hung["problem"] == f"did not finish within {hung['deadline_seconds']:.3g} s"
        # The collector had its full time, and its tier finished within the tier's deadline.
        assert hung["deadline_seconds"] <= hung["seconds"] <= hung["tier_seconds"]
        assert hung["tier_seconds"] <= hung["tier_deadline_seconds"] == deadlines(found)[hung["tier"]]
    assert found["packages.txt"]["problem"] == "the first 1048576 bytes are kept"
    assert (directory / "packages.txt").read_text().startswith("a line\na line\n")
    assert not found["metrics.txt"]["problem"]
    assert host.run("pgrep --full 'slee[p] 600|ye[s] a line'").rc == 1
    assert verified(directory).returncode == 0


def test_frozen_service_affects_only_its_own_items(host: Any, site: dict[str, Any]) -> None:
    process = hosts.main_pid(host)
    host.check_output(f"kill -STOP {process}")
    try:
        run = fleet.play("evidence.yml", LIMIT, variables=site)
    finally:
        host.check_output(f"kill -CONT {process}")
    assert run.returncode == 0, run.output
    found = items(kept(site)[0])
    assert found["health.json"]["problem"]
    assert not found["unit-processes.jsonl"]["problem"]
    assert "State:\\tT" in (kept(site)[0] / "unit-processes.jsonl").read_text()


@pytest.mark.parametrize("gone", [fleet.frozen, fleet.absent])
def test_unreachable_host_is_reported_and_does_not_affect_the_others(
    site: dict[str, Any], gone: Callable[[Host], contextlib.AbstractContextManager[None]]
) -> None:
    with gone(fleet.host_named(SECOND)):
        run = fleet.play("evidence.yml", variables=site)
    assert run.returncode == 2, run.output
    assert f"The evidence of {SECOND} is missing or incomplete" in run.output
    assert f"{FIRST}: ok." in run.output
    (directory,) = kept(site)
    assert verified(directory).returncode == 0
    assert next(event for event in timeline(site) if event["host"] == SECOND)["result"] == "unknown"


def test_killed_run_leaves_its_items_and_a_correct_manifest(host: Any, site: dict[str, Any]) -> None:
    with replaced(host, "dpkg-query", "sleep 600"):
        run = subprocess.Popen(
            ["ansible-playbook", "playbooks/evidence.yml", LIMIT, f"--extra-vars={json.dumps(site)}"],
            cwd=paths.ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg"), "LAB_NAME": fleet.LAB.name},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            fleet.eventually(
                lambda: arrived(site, evidence_items.names("hot")),
                within=60,
                what="the volatile evidence is stored",
            )
        finally:
            kill(run.pid)
            run.wait()
    (directory,) = kept(site)
    assert list(items(directory)) == evidence_items.names("hot")
    verification = verified(directory)
    assert verification.returncode == 1
    assert "has no last line: the run was interrupted" in verification.stdout
    assert "packages.txt" in verification.stdout
    assert "was changed" not in verification.stdout
    again = fleet.play("evidence.yml", LIMIT, variables=site)
    assert again.returncode == 0, again.output
    assert len(kept(site)) == 2
    assert list(items(directory)) == evidence_items.names("hot")


def test_killed_procedure_has_its_evidence(site: dict[str, Any]) -> None:
    killed = fleet.play("restart.yml", LIMIT, variables=site, kill_before=5)
    assert killed.returncode == -9, killed.output
    (directory,) = kept(site)
    assert list(items(directory)) == evidence_items.names("hot")
    assert verified(directory).returncode == 0
    assert fleet.play("restart.yml", LIMIT, variables=site).returncode == 0


def test_failed_procedure_stores_evidence_before_and_after(host: Any, site: dict[str, Any]) -> None:
    with hosts.drop_in(host, "ExecStartPre=/bin/false"):
        run = fleet.play("restart.yml", LIMIT, variables={**site, "force": True})
    assert run.returncode != 0
    assert "The service was not restarted" in run.output
    before, after = kept(site)
    assert "ActiveState=active" in (before / "unit.txt").read_text()
    assert "ActiveState=active" not in (after / "unit.txt").read_text()
    assert verified(before, after).returncode == 0
    assert fleet.play("restart.yml", LIMIT, variables=site).returncode == 0


def test_procedure_without_evidence_is_refused_unless_it_is_allowed(host: Any, site: dict[str, Any]) -> None:
    Path(site["evidence_key"]).write_text("no key")
    Path(site["evidence_key"]).chmod(0o600)
    before = hosts.untouched(host)
    refused = fleet.play("restart.yml", LIMIT, variables=site)
    assert refused.returncode != 0
    assert "Refused; nothing was changed on this host. The evidence cannot be stored:" in refused.output
    assert hosts.untouched(host) == before
    run = fleet.play("restart.yml", LIMIT, variables={**site, "without_evidence": True})
    assert run.returncode == 0, run.output
    assert any("Continues without evidence" in event["message"] for event in timeline(site))


@pytest.mark.parametrize("playbook", ["evidence.yml", "restart.yml"])
def test_misspelt_incident_is_refused(host: Any, site: dict[str, Any], playbook: str) -> None:
    before = hosts.untouched(host)
    site["incedent"] = site.pop("incident")
    run = fleet.play(playbook, LIMIT, variables=site)
    assert run.returncode != 0
    assert "Did you mean incident?" in run.output
    assert hosts.untouched(host) == before


def test_changed_evidence_is_found(site: dict[str, Any]) -> None:
    assert fleet.play("evidence.yml", LIMIT, variables=site).returncode == 0
    (directory,) = kept(site)
    journal = directory / "journal.jsonl"
    content = bytearray(journal.read_bytes())
    content[len(content) // 2] ^= 1
    journal.write_bytes(content)
    (directory / "memory.txt").unlink()
    verification = verified(directory)
    assert verification.returncode == 1
    assert "journal.jsonl was changed" in verification.stdout
    assert "memory.txt is missing" in verification.stdout
