#!/usr/bin/python
"""Switches a host to a release. No other module switches releases."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_switch
short_description: Switch to a release
description:
  - Replaces the symlink C(/opt/katago-mcp/current) by a rename. The paths of unit, configuration and command
    go through this symlink, so all of them change at once.
  - Refuses a missing or damaged release before it changes anything, and one with which the service would not
    start, because of its configuration, its credentials or a port.
  - What is in the place of a symlink is kept under another name.
  - Records the switch in C(/var/lib/katago-mcp/history.jsonl).
  - Does not restart the service. Returns the reasons why the service must be restarted.
options:
  release:
    description:
      - The name of the release, or C(last_good). C(last_good) is the last validated release that is intact,
        is not the current one, and was not rejected since.
      - An interrupted rollback to C(last_good) is finished. If its release had failed, the return to the
        previous release is finished instead.
      - Repeated rollbacks go further back, and never to a release that a rollback has left.
    type: str
    required: true
  how:
    description: What the switch is part of, recorded in the history.
    type: str
    choices: [deployment, rollback, return, restore]
    default: deployment
  allow_rejected:
    description: Whether a rollback may lead to a rejected release.
    type: bool
    default: false
  since:
    description:
      - When the procedure started, by the host's clock, as the host's lock has it.
      - If this run finishes a run that was killed, the time when that run started.
    type: str
    default: "9999"
  without_start_check:
    description: Whether to switch without a check that the service would start with the release.
    type: bool
    default: false
  why:
    description: The reason, recorded in the history.
    type: str
    required: true
  who:
    description: Who switches, recorded in the history.
    type: str
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Switch to the release
  katago.fleet.release_switch:
    release: 0.1.0-2f6a9c0d1e3b
    why: deployment
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
release:
  description: The current release after the switch.
  type: str
  returned: success
previous:
  description:
    - The release that was current before the switch; null if there was none. If an interrupted switch is
      finished, the release that was current before that switch.
  type: str
  returned: always
verdict:
  description: The verdict on the release since the last switch to it, C(good) or C(bad); null if it has none.
  type: str
  returned: success
restart_reasons:
  description: Why the service must be started or restarted; empty if it already runs this release.
  type: list
  elements: str
  returned: success
"""

import subprocess
from pathlib import Path
from typing import Any, get_args

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import directories, disk, files
from ansible_collections.katago.fleet.plugins.module_utils.release import catalogue, history, links
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import restart, start_check

LAST_GOOD = "last_good"


class SwitchError(Exception):
    """The switch is not possible; the message has the reason, as part of a sentence."""


def last_validated(layout: release_layout.Layout, records: list[history.Record], current: str | None) -> str:
    """The best rollback target that is intact. Raises SwitchError if there is none."""
    candidates = history.rollback_targets(records, available=layout.complete(), besides=current)
    for release in candidates:
        if not release_layout.damage(layout.release(release)):
            return release
    known = catalogue.describe(layout, records, current)
    command = catalogue.selectable(layout, records, current)
    take = f"To take one of them: {command}. Or deploy" if command else "Deploy"
    raise SwitchError(
        "\n".join(
            [
                "there is no earlier release that is validated and intact. On this host:",
                *(f"- {name}: {facts}" for name, facts in known.items()),
                f"{take} the inputs of an earlier release",
            ]
        )
    )


def rollback_target(
    layout: release_layout.Layout,
    records: list[history.Record],
    parameters: dict[str, Any],
    current: str | None,
) -> tuple[str, str | None]:
    """The target of a rollback, and the release that it leaves.

    If this procedure rejected the requested release before it was killed, the rollback continues with the
    return from that release. Raises SwitchError for an unknown or rejected release.
    """
    requested: str = parameters["release"]
    verdict = history.verdict_on(records, requested)
    bad = verdict is not None and verdict.verdict == "bad" and not parameters["allow_rejected"]
    if requested == LAST_GOOD or (verdict and bad and verdict.at >= parameters["since"]):
        if unfinished := history.unfinished_rollback(records, parameters["since"]):
            return unfinished.release, unfinished.previous
        return last_validated(layout, records, current), current
    if requested not in layout.complete():
        known = catalogue.describe(layout, records, current)
        listed = "; ".join(f"{name} ({facts})" for name, facts in known.items())
        problem = f"{requested} is incomplete" if requested in known else f"there is no release {requested!r}"
        raise SwitchError(f"{problem}; available releases: {listed or 'none'}")
    if verdict and bad:
        raise SwitchError(
            f"{requested} was rejected on {verdict.at}: {verdict.why}."
            " To roll back to it anyway, add -e allow_rejected=true"
        )
    return requested, current


def require_start(directory: Path, unit_file: str) -> None:
    """Raise SwitchError if the service would not start with a release that is intact."""
    problems = start_check.of_release(directory, directory / "config.json", unit_file)
    if problems:
        lines = [f"- {problem.message}" for problem in problems]
        repairs = dict.fromkeys(f"Repair: {problem.repair}" for problem in problems)
        raise SwitchError(
            "\n".join([f"the service would not start with {directory.name}:", *lines, *repairs])
        )


def switch(layout: release_layout.Layout, record: history.Record, history_file: Path) -> bool:
    """Record the switch, then make it; return whether anything changed.

    The record comes first: a run that is killed may leave a release without a verdict, but never a switch
    without a record. A switch that fails is undone. Raises SwitchError.
    """
    missing = {
        path: target
        for path, target in links.of_host(layout, record.release).items()
        if not links.is_link(path, target)
    }
    try:
        if history.current(history.read(history_file)) != record.release:
            history.append(record, history_file)
        for path, target in missing.items():
            directories.make(path.parent, own=paths.own(path.parent))
            if path.exists() and not path.is_symlink():
                # Somebody's own file, or a copy of the release: a rename would overwrite it, or fail.
                path.rename(path.with_name(f".replaced-{path.name}-{record.at.replace(':', '')}"))
            files.link(path, target)
    except OSError as error:
        if record.previous and layout.current_release() != record.previous:
            files.link(layout.current, f"releases/{record.previous}")
        raise SwitchError(str(error)) from error
    return bool(missing)


def main() -> None:
    """Check the request, then switch and record, or fail."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "str", "required": True},
            "how": {"choices": list(get_args(history.How)), "default": "deployment"},
            "allow_rejected": {"type": "bool", "default": False},
            "since": {"type": "str", "default": "9999"},
            "without_start_check": {"type": "bool", "default": False},
            "why": {"type": "str", "required": True},
            "who": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    layout = release_layout.Layout(paths.RELEASE_ROOT)
    origin = previous = layout.current_release()
    try:
        release = parameters["release"]
        if problems := list(disk.obstacles()):
            raise SwitchError(f"{'; '.join(problems)}. Repair the disk first")
        if parameters["how"] == "rollback":
            release, origin = rollback_target(layout, history.read(paths.HISTORY), parameters, previous)
        elif release == LAST_GOOD:
            release = last_validated(layout, history.read(paths.HISTORY), previous)
        damage = release_layout.damage(layout.release(release))
        if damage and module.check_mode and parameters["how"] == "deployment":
            # Check mode builds no release; a real deployment would have built it.
            module.exit_json(
                changed=True,
                release=release,
                previous=previous,
                verdict=None,
                restart_reasons=["the release is not built yet"],
            )
        if damage:
            raise SwitchError(
                f"the release {release} is damaged: {'; '.join(damage[:5])}. Deploy it again to rebuild it"
            )
        unit_file = (layout.release(release) / paths.SERVICE_UNIT).read_text()
        changed = bool(links.damage(links.of_host(layout, release)))
        reasons = restart.reasons(release, unit_file)
        # After a failure nothing runs that a failed start could interrupt.
        checks_start = parameters["how"] != "return" and not parameters["without_start_check"]
        if (changed or reasons) and checks_start:
            require_start(layout.release(release), unit_file)
        if not module.check_mode:
            changed = switch(
                layout,
                history.Record(
                    at=timestamps.now(),
                    who=parameters["who"],
                    release=release,
                    previous=previous,
                    why=parameters["why"],
                    how=parameters["how"],
                ),
                paths.HISTORY,
            )
        if (changed or reasons) and not module.check_mode:
            restart.prepare()
    except (SwitchError, OSError, subprocess.CalledProcessError) as error:
        module.fail_json(
            msg=f"No release was switched on this host, and the running service was not touched: {error}.",
            previous=previous,
            refused=True,
        )
    module.exit_json(
        changed=changed,
        release=release,
        previous=origin,
        verdict=history.standing(history.read(paths.HISTORY), release),
        restart_reasons=reasons,
    )


if __name__ == "__main__":
    main()
