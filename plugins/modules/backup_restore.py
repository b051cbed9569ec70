#!/usr/bin/python
"""Carries out one step of restoring a host from a backup."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_restore
short_description: Assess the damage of a host, and repair it from a backup
description:
  - C(plan) compares the host with its manifests and with the snapshot, and lists the actions. It changes
    nothing, and fails if the restore is not possible.
  - C(stage) fetches the files that are needed into staging directories and checks every one. It changes no
    existing file.
  - C(install) moves the staged files into place. Stop the service first. It does not need the repository.
    Replaced files are kept in C(/var/lib/katago-mcp/quarantine/<UTC>/).
  - C(finish) records the result of the restore.
  - To resume a killed restore, run it again.
options:
  step:
    description: The step to carry out.
    type: str
    choices: [plan, stage, install, finish]
    required: true
  at:
    description: C(latest), an id, or a time. A time selects the newest verified snapshot until then.
    type: str
    default: latest
  host:
    description: The host that the snapshot must belong to.
    type: str
    required: true
  fleet:
    description:
      - The name of the fleet that the snapshot must belong to. A snapshot that names no fleet is accepted
        with a warning.
    type: str
    required: true
  scope:
    description:
      - C(damaged) restores what is damaged or missing.
      - C(state) also restores the state and the tokens as of the snapshot.
      - C(all) also switches to the release that was current in the snapshot.
    type: str
    choices: [damaged, state, all]
    default: damaged
  who:
    description: Who runs the restore, for the records.
    type: str
    required: true
  snapshot:
    description: The snapshot's id from the plan. Not used by C(plan).
    type: str
  gpu_vendor:
    description: The vendor of the GPUs to use, as in C(gpu_driver_vendor).
    type: str
    choices: [auto, none, nvidia, amd, intel]
    default: auto
  gpu_devices:
    description: GPUs to use instead of those on the PCI bus, as in C(gpu_driver_devices).
    type: list
    elements: dict
    default: []
  result:
    description: The result of the restore, for C(finish).
    type: str
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Assess the damage
  katago.fleet.backup_restore:
    step: plan
    host: "{{ inventory_hostname }}"
    fleet: "{{ lookup('katago.fleet.fleet_name') }}"
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
snapshot:
  description: The snapshot's id.
  type: str
  returned: success
release:
  description: The current release after the restore.
  type: str
  returned: success
findings:
  description: The condition of every item. Each has item, path, condition, message and expected.
  type: list
  elements: dict
  returned: for C(plan)
actions:
  description: The actions of the restore. Each has path, how and why.
  type: list
  elements: dict
  returned: success
unmended:
  description: The damage that no backup can repair, as text. Empty if there is none.
  type: str
  returned: for C(plan)
assessment:
  description: The findings and the actions in a few lines.
  type: str
  returned: for C(plan)
acts:
  description: Whether the restore has anything to do.
  type: bool
  returned: for C(plan)
unfinished:
  description: The record of an unfinished restore. Null if there is none.
  type: dict
  returned: for C(plan)
gpu:
  description: Whether the host has a GPU that an engine can use.
  type: bool
  returned: for C(plan)
quarantine:
  description: The directory with the replaced files.
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
from ansible_collections.katago.fleet.plugins.module_utils.service import cache, start_check

HOST = Path("/")
_MAX_LINES = 12
# How the operator reads the actions of a plan.
_ACTION_VERBS = {
    "put": "restore",
    "add": "restore",
    "merge": "merge",
    "tokens": "restore",
    "link": "link",
    "set_aside": "quarantine",
    "judge": "check",
}


def choose(
    repository: restic.Repository, at: str, host: str, fleet: str
) -> tuple[restic.Snapshot, restic.Snapshot]:
    """The selected snapshot, and the newest verified one of the same host and fleet."""
    snapshots = repository.snapshots()
    chosen = restic.choose(snapshots, at, host, fleet)
    try:
        return chosen, restic.choose(snapshots, "latest", host, fleet)
    except restic.NoSuchSnapshot:
        return chosen, chosen


def planned(parameters: dict[str, Any]) -> tuple[restic.Snapshot, restore_plan.Planner, restore_plan.Plan]:
    """Make the plan. Returns the snapshot, the planner and the plan."""
    repository = restic.Repository(paths.BACKUP_SECRETS, cache=None)
    at = parameters["snapshot"] or parameters["at"]
    snapshot, newest = choose(repository, at, parameters["host"], parameters["fleet"])
    state, _ = state_or_empty(paths.BACKUP_STATE)
    planner = restore_plan.Planner(
        repository, snapshot, parameters["scope"], newest=newest, last_history=state.history, root=HOST
    )
    # Damage that no backup can repair is only reported in the step `plan`.
    checked = program_checks.findings() if parameters["step"] == "plan" else check_cache()
    return snapshot, planner, planner.plan(checked)


def check_cache() -> list[survey.Finding]:
    """Check this host's cache by its release."""
    return list(program_checks.check_cache(paths.ANSWERS))


def port_problems(planner: restore_plan.Planner, release: str) -> list[str]:
    """Why the restored service could not listen on its ports."""
    place = f"{paths.RELEASE_ROOT}/releases/{release}/config.json"
    content = planner.content(place)
    if content is None and Path(place).is_file():
        content = Path(place).read_bytes()
    return list(start_check.port_problems(content or b""))


def summary(
    snapshot: restic.Snapshot,
    plan: restore_plan.Plan,
    unfinished: restore_apply.Record | None,
) -> str:
    """The assessment that the operator reads before anything changes."""
    damaged = survey.damaged(plan.findings)
    intact = sorted({finding.item for finding in plan.findings} - {finding.item for finding in damaged})
    lines = [f"Snapshot {snapshot}"]
    if unfinished:
        order = unfinished.orders[-1]
        lines.append(f"An unfinished restore by {order.who}, started {order.at}, was found; resuming it")
    lines += _list("Damaged or missing", [finding.message for finding in damaged])
    lines += _list("Actions", [f"{_ACTION_VERBS[action.how]} {action.path}" for action in plan.actions])
    if plan.unmended:
        lines += _list("No backup can repair", [finding.message for finding in plan.unmended])
    lines.append(f"Intact: {', '.join(intact) or 'nothing'}")
    return "\n".join(lines)


def _list(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return [f"{title}: nothing"]
    more = [f"- and {len(lines) - _MAX_LINES} more"] if len(lines) > _MAX_LINES else []
    return [f"{title}:", *(f"- {line}" for line in lines[:_MAX_LINES]), *more]


def install(module: AnsibleModule) -> None:
    """Install the staged files, as the record of the restore orders."""
    restoration = restore_apply.Restoration.unfinished(HOST)
    if restoration is None:
        module.fail_json(
            msg=(
                "Refused; nothing was changed on this host. No restore is staged."
                " Run `ansible-playbook playbooks/restore.yml`."
            ),
            refused=True,
        )
    else:
        quarantined = restoration.carry_out(check_cache)
        warm_up(restoration.record.orders[-1].release)
        module.exit_json(changed=True, quarantine=str(restoration.directory), set_aside=quarantined)


def warm_up(release: str) -> None:
    """Compile the GPU kernels on a host that has never run an engine.

    Without them, the first analysis takes so long that it times out. The result is not checked here; the
    validation after the restore does that.
    """
    if not (paths.CACHE / cache.KERNELS).exists():
        validation.run_validation(validation.command(HOST, release, assets=True, engine=True))


def finish(module: AnsibleModule) -> None:
    """Record the result, and drop the last backup's history checksum if the history no longer matches it."""
    unfinished = restore_apply.Restoration.unfinished(HOST)
    if unfinished:
        unfinished.finish(str(module.params["result"]))
        state, _ = state_or_empty(paths.BACKUP_STATE)
        findings = survey.Survey(root=HOST, last_history=state.history).history()
        if state.history and any(finding.condition != "whole" for finding in findings):
            state.history = None
            state.write(paths.BACKUP_STATE)
    module.exit_json(changed=unfinished is not None)


def main() -> None:
    """Carry out one step."""
    module = AnsibleModule(
        argument_spec={
            "step": {"choices": ["plan", "stage", "install", "finish"], "required": True},
            "at": {"type": "str", "default": "latest"},
            "host": {"type": "str", "required": True},
            "fleet": {"type": "str", "required": True},
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
            msg=(
                "The restore cannot be predicted: restic is not installed on this host."
                " Run without --check; the restore installs restic first."
            ),
            refused=True,
        )
    untouched = (
        "Refused; nothing was changed on this host. Only restic and its credentials"
        f" (in {paths.BACKUP_SECRETS}) have been installed so far."
    )
    refused = step in ("plan", "stage")
    try:
        if step == "finish":
            untouched = "The result of the restore was not recorded."
            finish(module)
        if step == "install":
            untouched = (
                "The restore stopped before it finished. All replaced files are kept."
                " To resume the restore, run it again."
            )
            install(module)
        snapshot, planner, plan = planned(parameters)
        actions = [{"path": a.path, "how": a.how, "why": a.why} for a in plan.actions]
        result: dict[str, Any] = {"snapshot": snapshot.id, "release": plan.release, "actions": actions}
        if step == "plan":
            if note := restic.fleet_note(snapshot, parameters["fleet"]):
                module.warn(note)
            unfinished = restore_apply.Restoration.unfinished(HOST)
            record = unfinished.record if unfinished else None
            result["findings"] = [asdict(finding) for finding in plan.findings]
            result["unmended"] = "; ".join(finding.message for finding in plan.unmended)
            result["assessment"] = summary(snapshot, plan, record)
            result["unfinished"] = asdict(record) if record else None
            result["acts"] = bool(actions or record)
            if result["acts"] and (problems := list(disk.obstacles())):
                raise restore_plan.RestoreError(
                    f"{'; '.join(problems)}: a restored engine could not start. Repair the disk first"
                )
            if result["acts"] and (conflicts := port_problems(planner, plan.release)):
                raise restore_plan.RestoreError(
                    f"{'; '.join(conflicts)}: a restored service could not start. Stop that process first"
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


def sentence(text: str) -> str:
    """The text with a capital letter and one full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


if __name__ == "__main__":
    main()
