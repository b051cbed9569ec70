#!/usr/bin/python
"""Restores a host from its backup, one step at a time."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_restore
short_description: Assess the damage of a host, and mend it from a backup
description:
  - C(plan) compares the host with its manifests and the snapshot, changes nothing, and refuses
    what cannot be done.
  - C(stage) fetches what is needed beside its place and checks every piece of it. Nothing that is
    there is touched.
  - C(install) is for a stopped service and needs no repository. It keeps what is replaced in
    C(/var/lib/katago-mcp/quarantine/<UTC>/) and renames the new into its place.
  - C(finish) records the end.
  - A restore that was killed is gone on with by running it again.
options:
  step:
    description: What to do.
    type: str
    choices: [plan, stage, install, finish]
    required: true
  at:
    description: C(latest), a snapshot's id, or a time; the newest verified snapshot until then.
    type: str
    default: latest
  host:
    description: Whose snapshot it must be.
    type: str
    required: true
  scope:
    description:
      - C(damaged) mends what is damaged or missing.
      - C(state) also puts the state and the tokens back as they were.
      - C(all) also goes back to the release that was the current one.
    type: str
    choices: [damaged, state, all]
    default: damaged
  who:
    description: Who restores, for the records.
    type: str
    required: true
  snapshot:
    description: The snapshot that the plan found; not for C(plan).
    type: str
  gpu_vendor:
    description: Whose GPUs are used, as C(gpu_driver_vendor).
    type: str
    choices: [auto, none, nvidia, amd, intel]
    default: auto
  gpu_devices:
    description: GPUs in place of those on the PCI bus, as C(gpu_driver_devices).
    type: list
    elements: dict
    default: []
  result:
    description: How it ended, for C(finish).
    type: str
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The damage is known
  katago.fleet.backup_restore:
    step: plan
    host: "{{ inventory_hostname }}"
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
snapshot:
  description: The snapshot's id.
  type: str
  returned: success
release:
  description: The current release afterwards.
  type: str
  returned: success
findings:
  description: What was found of every item; item, path, condition, words.
  type: list
  elements: dict
  returned: for C(plan)
actions:
  description: What is done; path, how, why.
  type: list
  elements: dict
  returned: success
unmended:
  description: What was found that no backup mends, as words; empty when there is nothing of that kind.
  type: str
  returned: for C(plan)
assessment:
  description: The findings and the actions in a few lines.
  type: str
  returned: for C(plan)
acts:
  description: Whether there is anything to do.
  type: bool
  returned: for C(plan)
unfinished:
  description: The restore that was begun and not finished; null when there is none.
  type: dict
  returned: for C(plan)
gpu:
  description: Whether the host has a GPU that an engine can use.
  type: bool
  returned: for C(plan)
quarantine:
  description: Where what was replaced is kept.
  type: str
  returned: for C(install)
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup import (
    program_checks,
    restic,
    restore_apply,
    restore_plan,
    survey,
    validation,
)
from ansible_collections.katago.fleet.plugins.module_utils.backup.settings import state_or_empty
from ansible_collections.katago.fleet.plugins.module_utils.common import disk, shape
from ansible_collections.katago.fleet.plugins.module_utils.release import capacity
from ansible_collections.katago.fleet.plugins.module_utils.service import cache

HOST = Path("/")
_SHOWN = 12


def choose(repository: restic.Repository, at: str, host: str) -> tuple[restic.Snapshot, restic.Snapshot]:
    """The snapshot that is meant, and the newest good one of the same host."""
    snapshots = repository.snapshots()
    chosen = restic.choose(snapshots, at, host)
    try:
        return chosen, restic.choose(snapshots, "latest", host)
    except restic.NoSuchSnapshot:
        return chosen, chosen


def planned(parameters: dict[str, Any]) -> tuple[restic.Snapshot, restore_plan.Planner, restore_plan.Plan]:
    """The plan and what it was made with."""
    repository = restic.Repository(paths.BACKUP_SECRETS, cache=None)
    at = parameters["snapshot"] or parameters["at"]
    snapshot, newest = choose(repository, at, parameters["host"])
    state, _ = state_or_empty(paths.BACKUP_STATE)
    planner = restore_plan.Planner(
        repository, snapshot, parameters["scope"], newest=newest, known=state.history, root=HOST
    )
    # What no backup restores is reported once, when the restore is planned.
    checked = program_checks.findings() if parameters["step"] == "plan" else of_cache()
    return snapshot, planner, planner.plan(checked)


def of_cache() -> list[survey.Finding]:
    """What the release finds in this host's cache."""
    return list(program_checks.of_cache(paths.ANSWERS))


def summary(
    snapshot: restic.Snapshot,
    plan: restore_plan.Plan,
    unfinished: restore_apply.Record | None,
) -> str:
    """What an operator reads before the host is touched."""
    bad = survey.damaged(plan.findings)
    whole = sorted({finding.item for finding in plan.findings} - {finding.item for finding in bad})
    lines = [f"Snapshot {snapshot}"]
    if unfinished:
        order = unfinished.orders[-1]
        lines.append(f"A restore of {order.who}, started {order.at}, was not finished; resuming it")
    lines += _list("Damaged or missing", [finding.words for finding in bad])
    lines += _list("To do", [f"{action.how.replace('_', ' ')} {action.path}" for action in plan.actions])
    if plan.unmended:
        lines += _list("Mended by no backup", [finding.words for finding in plan.unmended])
    lines.append(f"Whole: {', '.join(whole) or 'nothing'}")
    return "\n".join(lines)


def _list(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return [f"{title}: nothing"]
    more = [f"- and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return [f"{title}:", *(f"- {line}" for line in lines[:_SHOWN]), *more]


def install(module: AnsibleModule) -> None:
    """Put what was staged in its place; the record of the restore says what that is."""
    begun = restore_apply.Restoration.unfinished(HOST)
    if begun is None:
        module.fail_json(msg="Refused; nothing was changed on this host. Nothing is staged.", refused=True)
    else:
        aside = begun.carry_out(of_cache)
        warm_up(begun.record.orders[-1].release)
        module.exit_json(changed=True, quarantine=str(begun.directory), set_aside=aside)


def warm_up(release: str) -> None:
    """Have the device's kernels compiled on a host that never ran an engine; the validation judges.

    Without them, the first analysis takes so long that it is cut off.
    """
    if not (paths.CACHE / cache.KERNELS).exists():
        validation.try_out(validation.command(HOST, release, assets=True, engine=True))


def finish(module: AnsibleModule) -> None:
    """Record the end, and forget what the last backup said of a history that was mended since."""
    unfinished = restore_apply.Restoration.unfinished(HOST)
    if unfinished:
        unfinished.finish(str(module.params["result"]))
        state, _ = state_or_empty(paths.BACKUP_STATE)
        found = survey.Survey(root=HOST, known=state.history).history()
        if state.history and any(finding.condition != "whole" for finding in found):
            state.history = None
            state.write(paths.BACKUP_STATE)
    module.exit_json(changed=unfinished is not None)


def main() -> None:
    """Do one step."""
    module = AnsibleModule(
        argument_spec={
            "step": {"choices": ["plan", "stage", "install", "finish"], "required": True},
            "at": {"type": "str", "default": "latest"},
            "host": {"type": "str", "required": True},
            "scope": {"choices": ["damaged", "state", "all"], "default": "damaged"},
            "who": {"type": "str", "required": True},
            "snapshot": {"type": "str"},
            "result": {"type": "str"},
            "gpu_vendor": {"choices": ["auto", "none", "nvidia", "amd", "intel"], "default": "auto"},
            "gpu_devices": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    step = parameters["step"]
    if module.check_mode and step != "plan":
        module.exit_json(changed=True, quarantine=str(paths.QUARANTINE))
    if module.check_mode and not shutil.which("restic"):
        module.fail_json(
            msg="The restore cannot be predicted: restic is not on this host yet. The real run installs it.",
            refused=True,
        )
    untouched = (
        "Refused; nothing was changed on this host but what reads a backup"
        f" (restic and its access in {paths.BACKUP_SECRETS})."
    )
    refused = step in ("plan", "stage")
    try:
        if step == "finish":
            untouched = "The end of the restore was not recorded."
            finish(module)
        if step == "install":
            untouched = (
                "The restore stopped half way; what it replaced is kept, and running it again goes on."
            )
            install(module)
        snapshot, planner, plan = planned(parameters)
        actions = [{"path": a.path, "how": a.how, "why": a.why} for a in plan.actions]
        result: dict[str, Any] = {"snapshot": snapshot.id, "release": plan.release, "actions": actions}
        if step == "plan":
            unfinished = restore_apply.Restoration.unfinished(HOST)
            record = unfinished.record if unfinished else None
            result["findings"] = [asdict(finding) for finding in plan.findings]
            result["unmended"] = "; ".join(finding.words for finding in plan.unmended)
            result["assessment"] = summary(snapshot, plan, record)
            result["unfinished"] = asdict(record) if record else None
            result["acts"] = bool(actions or record)
            if result["acts"] and (problems := list(disk.obstacles())):
                raise restore_plan.RestoreError(
                    f"{'; '.join(problems)}: a restored engine would not start. Mend the disk first"
                )
            result["gpu"] = (
                capacity.usable_gpu(parameters["gpu_vendor"], parameters["gpu_devices"]) is not None
            )
            module.exit_json(changed=False, **result)
        restore_apply.stage(planner, snapshot.id, plan.actions)
        restore_apply.Restoration.begin(HOST, parameters["who"], snapshot.id, plan)
        module.exit_json(changed=bool(actions), **result)
    except (
        restore_plan.RestoreError,
        restic.NoSuchSnapshot,
        restic.ResticError,
        shape.ShapeError,
    ) as error:
        module.fail_json(msg=f"{untouched} {sentence(str(error))}", refused=refused)
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"{untouched} {type(error).__name__}: {error}.", refused=refused)


def sentence(words: str) -> str:
    """With a capital letter and one full stop."""
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."


if __name__ == "__main__":
    main()
