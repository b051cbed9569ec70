"""A reason for a verdict: what was measured, what was expected, and the playbook that fixes it."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.severity import Level

RESTART = "restart.yml"
FORCE = "restart.yml -e force=true"
RESTORE = "restore.yml"
DEPLOY = "deploy.yml"
MITIGATE = "mitigate.yml"
PURGE = "purge_cache.yml"
DRIVER = "gpu_driver.yml"
VALIDATE = "validate.yml"
TRIAGE = "triage.yml"
SHOW_SECURITY = "security_show.yml"
LOAD_BALANCER = "load_balancer.yml"
ROTATION_IN = "rotation_in.yml"

DEFECT = "a bug in katago-mcp-fleet"


@dataclass(frozen=True)
class Reason:
    """One finding. `measured`: what is wrong. `threshold`: what was expected.

    `escalate`: the runbook's escalation trigger, or None. `next`: the playbook that fixes it, with its
    arguments. `suspicious`: an intrusion is possible, so the host is evidence.
    """

    level: Level
    rule: str
    measured: str
    threshold: str
    escalate: str | None = None
    next: str | None = None
    suspicious: bool = False


def unknown(rule: str, why: str) -> Reason:
    """The reason for a rule that could not be decided."""
    return Reason("unknown", rule, why, "a result")


def defective(rule: str, error: Exception) -> Reason:
    """The reason for a rule whose code raised an exception."""
    return Reason("unknown", rule, defect(error), "a result")


def defect(error: Exception) -> str:
    """Describe an exception of our own code: its place, type and message. It is no finding about the host."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}, line {frame.lineno}"
    return f"{DEFECT}, not a problem of the host; report it ({place}): {type(error).__name__}: {error}"


def mitigation(max_visits: int | None, finding: str) -> str:
    """The playbook that lowers limits, with its arguments: half of the visits that a call may request now."""
    limit = f"visits={max(1, max_visits // 2)}" if max_visits and max_visits > 1 else "concurrent=1"
    return f"{MITIGATE} -e {limit} -e minutes=60 -e 'why=\"triage reports {finding}\"'"


def on(step: str, host: str) -> str:
    """The step for another host than the one of the finding."""
    playbook, _, arguments = step.partition(" ")
    return f"{playbook} -l {host} {arguments}".rstrip()


def isolation(why: str) -> str:
    """The playbook that puts a host into security mode, with its arguments."""
    # Both pairs of quotes are needed: otherwise Ansible cuts the value at the first space.
    return f"security_on.yml -e 'why=\"{why}\"'"
