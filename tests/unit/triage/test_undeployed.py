"""A host that was never deployed, or partly: one finding with the command, without its consequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import workers
from ansible_collections.katago.fleet.plugins.module_utils.release import deployed, layout
from ansible_collections.katago.fleet.plugins.module_utils.triage import checks
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts as triage_facts
from ansible_collections.katago.fleet.plugins.module_utils.triage import verdict as triage_verdict
from ansible_collections.katago.fleet.plugins.plugin_utils.run import procedures
from tests.unit.triage.hosts import NOW, Facts, having

NEVER = "katago-mcp is not deployed on this host"


def bare(why: str = NEVER, **changes: Any) -> Facts:
    """The facts of a host without the service."""
    facts = having(
        unit={"load": "not-found", "active": "inactive", "sub": "dead", "pid": 0, "process_state": None},
        release={"name": None},
        health={"status": None, "body": {}},
        ready={"status": None, "body": {}},
        processes={"engines": []},
        **changes,
    )
    facts["undeployed"]["value"] = why
    facts["limits"]["value"] = None
    facts["config"] = {"unknown": "there is no release that could check it"}
    facts["probe"]["value"] = {"skipped": "/health does not answer"}
    facts["traffic"]["value"] = {"served": False, "why": "is not served"}
    return facts


def judge(facts: Facts) -> triage_verdict.Verdict:
    return triage_verdict.judge(triage_facts.read(facts), now=NOW)


def test_host_that_was_never_deployed_has_one_finding_and_the_command() -> None:
    verdict = judge(bare())
    assert [(each.level, each.rule, each.measured) for each in verdict.reasons] == [("P0", "release", NEVER)]
    assert (verdict.next, verdict.undecided) == ("deploy.yml", ())


def test_findings_about_the_host_itself_remain() -> None:
    verdict = judge(bare(memory={"available_percent": 1.0}))
    assert {(each.level, each.rule) for each in verdict.reasons} == {("P0", "release"), ("P2", "memory")}


@pytest.mark.parametrize("rule", ["config", "health", "unit"])
def test_service_that_was_deployed_keeps_its_findings(rule: str) -> None:
    assert rule in {each.rule for each in judge(bare("")).reasons}


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    here, unit = layout.Layout(tmp_path), tmp_path / "unit"
    assert deployed.undeployed(here, unit) == NEVER
    release = here.release("0.3.0-aa")
    release.mkdir(parents=True)
    (release / layout.MANIFEST).write_text("{}")
    assert deployed.undeployed(here, unit) == (
        "the deployment of katago-mcp did not finish: 0.3.0-aa was built, but not switched to"
    )
    # From here on, something that is missing is damage.
    here.current.symlink_to("releases/gone")
    assert deployed.undeployed(here, unit) == ""
    here.current.unlink()
    unit.symlink_to("nowhere")
    assert deployed.undeployed(here, unit) == ""


def test_configuration_without_a_release_is_unknown_in_plain_words(tmp_path: Path) -> None:
    running = workers.Measuring()
    running.start("config", lambda: checks.checked_config(layout.Layout(tmp_path), tmp_path, tmp_path), 10)
    reason = running.results()["config"]["unknown"]
    assert reason == f"there is no release that could check it: {tmp_path}/current does not exist"


def test_refusal_names_the_command_for_the_host() -> None:
    assert deployed.refusal(NEVER, "katago-2") == (
        "Refused; nothing was changed on this host: katago-mcp is not deployed on this host. Deploy it first:"
        " ansible-playbook playbooks/deploy.yml -l katago-2"
    )


@pytest.mark.parametrize("name", sorted(deployed.NEEDS_RELEASE))
def test_every_procedure_that_needs_a_release_locks_the_host(name: str) -> None:
    assert procedures.PROCEDURES[name].locks
