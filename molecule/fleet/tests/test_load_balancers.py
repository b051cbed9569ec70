"""Triage reports every fault of a load balancer, and the command that it proposes repairs it.

Each test verifies the fault before it runs triage. Evidence of load balancers has no secret.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab import paths, runtime
from lab.hosts import FLEET, LOAD_BALANCER, Host
from tests import fleet, hosts, loopback

SECOND = fleet.LAB.of_group(FLEET)[1]
FIRST_BALANCER, SECOND_BALANCER = fleet.LAB.of_group(LOAD_BALANCER)
BOTH = (FIRST_BALANCER.name, SECOND_BALANCER.name)
ADDRESS = fleet.LAB.virtual_address().partition("/")[0]
# The lab's hosts share the processors of this machine, so checks need long deadlines.
QUICK = {"triage_window": 2, "triage_patience": 60}
RECORD = "/var/lib/katago-load-balancer/rotation.json"
KEEPALIVED = "/etc/keepalived/keepalived.conf"
PASSWORD = "fleet123"
NOTICED = 15


def on(balancer: Host) -> Any:
    """A load balancer, by SSH."""
    return hosts.connect(balancer.name)


def triaged(directory: Path, limit: str = LOAD_BALANCER) -> dict[str, Any]:
    """The verdicts by host."""
    report = directory / "triage.json"
    run = fleet.play("triage.yml", f"--limit={limit}", variables={**QUICK, "triage_json": str(report)})
    assert run.returncode == 0, run.output
    verdicts: dict[str, Any] = json.loads(report.read_text())["hosts"]
    return verdicts


def findings(verdict: dict[str, Any]) -> dict[str, str]:
    """The level by rule; the worst one comes first."""
    return {each["rule"]: each["level"] for each in reversed(verdict["reasons"])}


def text(verdict: dict[str, Any], rule: str) -> str:
    """What the worst finding of a rule says."""
    return str(next(each["measured"] for each in verdict["reasons"] if each["rule"] == rule))


def run_proposed(verdict: dict[str, Any]) -> None:
    """Run the command after `NEXT:` as it is."""
    done = fleet.proposed(verdict["command"])
    assert done.returncode == 0, done.output


def expect_repaired(directory: Path) -> None:
    verdicts = triaged(directory)
    assert {name: each["verdict"] for name, each in verdicts.items()} == dict.fromkeys(BOTH, "healthy"), (
        verdicts
    )


def admin(balancer: Host, command: str) -> None:
    """Change HAProxy by hand."""
    code = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock');"
        f" s.sendall({command!r}.encode() + b'\\n'); print(s.recv(9999).decode())"
    )
    answer = on(balancer).check_output(f"python3 -c {shlex.quote(code)}")
    assert answer.strip() == "", answer


@contextlib.contextmanager
def repaired_by_load_balancer() -> Iterator[None]:
    try:
        yield
    finally:
        back = fleet.play("load_balancer.yml")
        assert back.returncode == 0, back.output


def test_healthy_load_balancers_are_in_the_report_of_the_fleet(tmp_path: Path) -> None:
    verdicts = triaged(tmp_path, "all")
    assert {host.name for host in fleet.LAB.hosts()} | set(BOTH) == verdicts.keys()
    for name in BOTH:
        assert verdicts[name]["verdict"] == "healthy", verdicts[name]
        assert any(note.startswith("3 of 3 hosts get requests") for note in verdicts[name]["notes"])


def test_haproxy_that_is_down(tmp_path: Path) -> None:
    on(FIRST_BALANCER).check_output("systemctl stop haproxy")
    verdict = triaged(tmp_path)[FIRST_BALANCER.name]
    assert findings(verdict)["haproxy"] == "P1"
    assert "haproxy.service is inactive" in text(verdict, "haproxy")
    run_proposed(verdict)
    expect_repaired(tmp_path)


def test_configuration_that_is_not_valid(tmp_path: Path) -> None:
    on(FIRST_BALANCER).check_output("echo '  nonsense 5' >> /etc/haproxy/haproxy.cfg")
    verdict = triaged(tmp_path)[FIRST_BALANCER.name]
    assert findings(verdict) == {"haproxy_config": "P2"}
    assert "`nonsense 5`" in text(verdict, "haproxy_config")
    run_proposed(verdict)
    expect_repaired(tmp_path)


def test_host_that_an_operator_took_out(tmp_path: Path) -> None:
    done = fleet.command("rotation_out", f"--limit={SECOND.name}", why="new disk")
    assert done.returncode == 0, done.output
    verdicts = triaged(tmp_path)
    for name in BOTH:
        assert findings(verdicts[name]) == {"rotation": "P3"}
        assert f"{SECOND.name} is out of rotation: " in text(verdicts[name], "rotation")
        assert text(verdicts[name], "rotation").endswith(": new disk")
    run_proposed(verdicts[BOTH[0]])
    expect_repaired(tmp_path)


def test_host_in_rotation_that_does_not_answer(tmp_path: Path) -> None:
    with fleet.frozen(SECOND):
        fleet.eventually(
            lambda: f"mcp,{SECOND.name},DOWN" in seen(FIRST_BALANCER), within=NOTICED, what="HAProxy sees it"
        )
        verdict = triaged(tmp_path)[FIRST_BALANCER.name]
    assert findings(verdict) == {"rotation": "P2"}
    assert f"{SECOND.name} (" in text(verdict, "rotation")
    assert "HAProxy calls it DOWN: no answer to /ready" in text(verdict, "rotation")
    assert f"validate.yml -l {SECOND.name}" in verdict["command"]
    fleet.eventually(
        lambda: f"mcp,{SECOND.name},UP" in seen(FIRST_BALANCER),
        within=60,
        what="HAProxy sends requests again",
    )


def test_host_taken_out_by_hand_and_record_that_haproxy_does_not_follow(tmp_path: Path) -> None:
    admin(FIRST_BALANCER, f"set weight mcp/{SECOND.name} 0")
    verdict = triaged(tmp_path)[FIRST_BALANCER.name]
    assert "taken out of rotation in HAProxy by hand" in text(verdict, "rotation")
    run_proposed(verdict)
    expect_repaired(tmp_path)

    done = fleet.command("rotation_out", f"--limit={SECOND.name}", why="test")
    assert done.returncode == 0, done.output
    admin(FIRST_BALANCER, f"set server mcp/{SECOND.name} state ready")
    admin(FIRST_BALANCER, f"set weight mcp/{SECOND.name} 100%")
    verdict = triaged(tmp_path)[FIRST_BALANCER.name]
    assert findings(verdict) == {"rotation": "P2"}
    assert "HAProxy may send requests to" in text(verdict, "rotation")
    run_proposed(verdict)
    verdict = triaged(tmp_path)[FIRST_BALANCER.name]
    assert findings(verdict) == {"rotation": "P3"}
    run_proposed(verdict)
    expect_repaired(tmp_path)


def test_record_that_only_one_load_balancer_has(tmp_path: Path) -> None:
    """As after the loss of the other one, which was set up again."""
    done = fleet.command("rotation_out", f"--limit={SECOND.name}", why="new disk")
    assert done.returncode == 0, done.output
    on(SECOND_BALANCER).check_output(f"rm {RECORD} && systemctl stop haproxy")
    back = fleet.play("load_balancer.yml")
    assert back.returncode == 0, back.output
    verdict = triaged(tmp_path)[SECOND_BALANCER.name]
    assert f"is in rotation here, but out on {FIRST_BALANCER.name}" in text(verdict, "rotation")
    run_proposed(verdict)
    assert findings(triaged(tmp_path)[SECOND_BALANCER.name]) == {"rotation": "P3"}
    done = fleet.command("rotation_in", f"--limit={SECOND.name}")
    assert done.returncode == 0, done.output
    expect_repaired(tmp_path)


def test_virtual_address_that_nobody_has(tmp_path: Path) -> None:
    with repaired_by_load_balancer():
        for balancer in (FIRST_BALANCER, SECOND_BALANCER):
            on(balancer).check_output("systemctl stop keepalived")
        verdicts = triaged(tmp_path)
        for name in BOTH:
            levels = [(each["level"], each["rule"]) for each in verdicts[name]["reasons"]]
            assert levels == [("P0", "virtual_address"), ("P2", "virtual_address")]
            assert f"no load balancer has {ADDRESS}, and nothing answers" in text(
                verdicts[name], "virtual_address"
            )
            assert "load_balancer.yml" in verdicts[name]["command"]
    expect_repaired(tmp_path)


def test_virtual_address_that_both_have(tmp_path: Path) -> None:
    changed = f"sed -i 's/virtual_router_id .*/virtual_router_id 99/' {KEEPALIVED}"
    on(FIRST_BALANCER).check_output(f"{changed} && systemctl reload keepalived")
    with repaired_by_load_balancer():
        fleet.eventually(
            lambda: all(has_address(each) for each in (FIRST_BALANCER, SECOND_BALANCER)),
            within=30,
            what="both load balancers have the address",
        )
        verdicts = triaged(tmp_path)
        for name in BOTH:
            assert findings(verdicts[name]) == {"virtual_address": "P1"}
            assert "is held by" in text(verdicts[name], "virtual_address")
            assert "load_balancer.yml" in verdicts[name]["command"]
    expect_repaired(tmp_path)


def test_certificate_that_ends_soon(tmp_path: Path) -> None:
    names = [name for each in (FIRST_BALANCER, SECOND_BALANCER) for name in (each.name, each.address)]
    pair = loopback.certified(5, *names, ADDRESS, "127.0.0.1")
    certificate, key = (pem.decode() for pem in pair)
    variables = {"load_balancer_tls_certificate": certificate, "load_balancer_tls_key": key}
    with repaired_by_load_balancer():
        done = fleet.play("load_balancer.yml", f"--limit={SECOND_BALANCER.name}", variables=variables)
        assert done.returncode == 0, done.output
        verdict = triaged(tmp_path, SECOND_BALANCER.name)[SECOND_BALANCER.name]
        assert findings(verdict) == {"certificate": "P3"}
        assert "expires in 5 days" in text(verdict, "certificate")
        assert "load_balancer.yml" in verdict["command"]
    expect_repaired(tmp_path)


def test_load_balancer_that_is_gone_is_unknown_and_the_other_one_is_judged(tmp_path: Path) -> None:
    with fleet.frozen(FIRST_BALANCER):
        verdicts = triaged(tmp_path)
    assert {name: each["verdict"] for name, each in verdicts.items()} == {
        FIRST_BALANCER.name: "unknown",
        SECOND_BALANCER.name: "healthy",
    }


def test_evidence_of_a_load_balancer_has_its_items_and_no_secret(tmp_path: Path) -> None:
    variables = {"load_balancer_vrrp_password": PASSWORD}
    with repaired_by_load_balancer():
        done = fleet.play("load_balancer.yml", variables=variables)
        assert done.returncode == 0, done.output
        assert PASSWORD in on(FIRST_BALANCER).check_output(f"cat {KEEPALIVED}")
        run = fleet.play(
            "evidence.yml",
            f"--limit={FIRST_BALANCER.name}",
            variables={"incident": "balancers-1", "katago_records_dir": str(tmp_path)},
        )
    assert run.returncode == 0, run.output
    (directory,) = (tmp_path / "evidence" / "balancers-1" / FIRST_BALANCER.name).iterdir()
    kept = {path.name: path.read_text() for path in directory.iterdir()}
    assert f"mcp,{SECOND.name}," in kept["haproxy-servers.csv"]
    assert "Name: HAProxy" in kept["haproxy-info.txt"]
    assert SECOND.name in kept["haproxy-servers-state.txt"]
    assert kept["haproxy.cfg"] == on(FIRST_BALANCER).check_output("cat /etc/haproxy/haproxy.cfg") + "\n"
    assert "auth_pass [redacted" in kept["keepalived.conf"]
    assert json.loads(kept["rotation.json"])["out"] == {}
    assert "haproxy" in kept["journal-haproxy.jsonl"]
    assert "keepalived" in kept["journal-keepalived.jsonl"].lower()
    assert "metrics.txt" not in kept
    assert not any(PASSWORD in content for content in kept.values())
    verified = subprocess.run(
        [paths.ROOT / "bin" / "evidence", "verify", directory], capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr


def seen(balancer: Host) -> str:
    """`mcp,HOST,STATUS` for each host, as HAProxy sees them."""
    answer = fleet.get(balancer, "/statistics;csv", service="metrics")[1]
    rows = [line.split(",") for line in answer.splitlines() if line.startswith("mcp,")]
    return "\n".join(f"mcp,{row[1]},{row[17]}" for row in rows)


def has_address(balancer: Host) -> bool:
    return ADDRESS in runtime.exec_in(balancer.container, ["ip", "-brief", "address"])
