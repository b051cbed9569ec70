"""Every command that triage proposes, for every rule, can be pasted into a shell and is accepted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from ansible.parsing.splitter import parse_kv

from ansible_collections.katago.fleet.plugins.module_utils.triage import facts as triage_facts
from ansible_collections.katago.fleet.plugins.module_utils.triage import reason
from ansible_collections.katago.fleet.plugins.module_utils.triage import verdict as triage_verdict
from ansible_collections.katago.fleet.plugins.plugin_utils.reports import triage_table
from ansible_collections.katago.fleet.plugins.plugin_utils.run import commands as run_commands
from ansible_collections.katago.fleet.plugins.plugin_utils.run import inputs, procedures
from lab import paths
from tests.unit.triage.hosts import NOW, Facts, balancing, having, server
from tests.unit.triage.test_rules import WORSE, after

INVENTORY = run_commands.inventory_arguments(["inventories/my fleet"])
DROP_IN = "/etc/systemd/system/katago-mcp.service.d/my limits.conf"
# Unit names hold backslashes for characters that systemd escapes.
UNIT = "dbus-:1.2-org.example\\x2dname.service"


def _others() -> Iterator[tuple[str, Facts]]:
    """Facts whose next step the worsened ones do not cover."""
    crash: Any = {"started": [NOW.timestamp() - 100], "failed": [NOW.timestamp() - 50]}
    yield "rollback", having(runs=crash, unit={"active": "failed"})
    yield "gpu", having(unit={"load": "not-found", "active": "inactive", "process_state": None})
    yield "saturated", having(ready={"status": 503, "body": {"ready": False, "reason": "saturated"}})
    yield "damaged", having(release={"damage": ["venv/x.py is missing"]})
    locked = having(unit={"active": "inactive"})
    locked["lock"]["value"] = {
        **dict.fromkeys(("owner", "run"), "x"),
        "procedure": "deploy",
        "since": "2026-11-24T02:57:00Z",
        "age_seconds": 1.0,
    }
    yield "locked", locked
    bare = having(release={"name": None})
    bare["undeployed"]["value"] = "not deployed"
    yield "undeployed", bare


def _load_balancers() -> Iterator[tuple[str, Facts]]:
    """Facts of a load balancer whose next step is for itself, or for another host."""
    yield "haproxy", balancing(haproxy={"active": "failed"})
    entry = {"who": "x", "since": "2026-11-24T01:00:00Z", "why": "y"}
    for procedure in ("restart", "rotation_out", "security_on"):
        out = {"katago-2": {**entry, "procedure": procedure}}
        servers = {"katago-1": server(), "katago-2": server(status="MAINT", weight=0)}
        yield procedure, balancing(rotation={"out": out, "servers": servers})
    down = {"katago-1": server(), "katago-2": server(status="DOWN")}
    yield "down", balancing(rotation={"servers": down})


CASES = {**{name: after([name] * 3) for name in WORSE}, **dict(_others()), **dict(_load_balancers())}


@pytest.mark.parametrize("name", CASES)
def test_next_command_is_accepted_as_it_is(name: str) -> None:
    verdict = triage_verdict.judge(triage_facts.read(CASES[name]), now=NOW)
    assert verdict.verdict != "healthy"
    if verdict.next is None:
        return
    words = shlex.split(triage_table.command(verdict.next, "katago-1", INVENTORY))
    assert words[:3] == ["ansible-playbook", "-i", "inventories/my fleet"]
    playbook, *arguments = words[3:]
    assert (paths.ROOT / playbook).is_file()
    assert (arguments[0], arguments[1]) in {("-l", "katago-1"), ("-l", "katago-2")}
    assert arguments[2::2] == ["-e"] * (len(arguments) // 2 - 1)
    extra: dict[str, Any] = {}
    for argument in arguments[3::2]:
        extra |= parse_kv(argument)
    procedure = playbook.removeprefix("playbooks/").removesuffix(".yml")
    assert procedure in procedures.PROCEDURES
    declared = procedures.inputs_of(procedure)
    assert extra.keys() <= declared.keys()
    assert {each for each in declared if declared[each].required} <= extra.keys()
    inputs.values(extra, procedure, {})


def test_every_playbook_of_a_reason_exists() -> None:
    steps = {value for name, value in vars(reason).items() if name.isupper() and str(value).find(".yml") > 0}
    assert steps
    for step in steps:
        assert (paths.ROOT / "playbooks" / str(step).partition(" ")[0]).is_file()


def test_every_playbook_that_a_message_names_exists() -> None:
    named = re.compile(r"playbooks/([a-z_]+)\.yml")
    sources = [*(paths.ROOT / "plugins").rglob("*.py"), *(paths.ROOT / "roles").rglob("*.yml")]
    found = {name for path in sources for name in named.findall(path.read_text())}
    assert len(found) > 10
    assert [name for name in sorted(found) if not (paths.ROOT / "playbooks" / f"{name}.yml").is_file()] == []


def test_proposed_shell_commands_keep_every_character() -> None:
    busy = {
        "unit": UNIT,
        "name": "x",
        "largest": "x",
        "cpu_percent": 390.0,
        "memory_bytes": 1,
    }
    facts = having(
        processes={"others": [busy]},
        unit={"drop_ins": [DROP_IN]},
        limits={"open_files_limit": 64},
    )
    throttle, remove = triage_verdict.judge(triage_facts.read(facts), now=NOW).proposals
    assert shlex.split(throttle) == ["systemctl", "set-property", "--runtime", UNIT, "CPUWeight=20"]
    assert shlex.split(remove.partition("to remove it: ")[2])[:2] == ["rm", DROP_IN]
