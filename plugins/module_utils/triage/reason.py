"""A reason for a verdict: what was measured, its threshold, and the playbook that deals with it."""

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
SHOW_SECURITY = "security.yml -e do=show"

DEFECT = "a defect of this product"


@dataclass(frozen=True)
class Reason:
    """One thing that is not as it should be: what was measured, and what would have been right.

    `escalate` is the runbook's trigger that it is, if any; `next` the playbook that deals with it,
    with its arguments; `suspicious` when somebody may have got in, so that the host is evidence.
    """

    level: Level
    rule: str
    measured: str
    threshold: str
    escalate: str | None = None
    next: str | None = None
    suspicious: bool = False


def unknown(rule: str, why: str) -> Reason:
    """That a rule could not be decided."""
    return Reason("unknown", rule, why, "known")


def defective(rule: str, error: Exception) -> Reason:
    """That a rule failed by an error of its own code."""
    return Reason("unknown", rule, defect(error), "judged")


def defect(error: Exception) -> str:
    """An error of our own code: its place, type and message. It says nothing of the host."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}, line {frame.lineno}"
    return f"{DEFECT}, not of the host ({place}): {type(error).__name__}: {error}"


def isolation(why: str) -> str:
    """The playbook that preserves a host and cuts it off, with its arguments."""
    # Without both quotes, Ansible takes but the first word.
    return f"security.yml -e do=on -e 'why=\"{why}\"'"
