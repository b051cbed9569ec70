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
  planned_from:
    description:
      - The release that was current when the switch was planned; empty if there was none. If another one is
        current, somebody else has switched the host since, and the switch is refused.
      - The check is left out without this option.
    type: str
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
from typing import Any, get_args

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import disk
from ansible_collections.katago.fleet.plugins.module_utils.release import catalogue, history, links
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import restart, switch

LAST_GOOD = "last_good"


def rollback_target(
    layout: release_layout.Layout,
    records: list[history.Record],
    parameters: dict[str, Any],
    current: str | None,
) -> tuple[str, str | None]:
    """The target of a rollback, and the release that it leaves.

    If this procedure rejected the requested release before it was killed, the rollback continues with the
    return from that release. Raises switch.SwitchError for an unknown or rejected release.
    """
    requested: str = parameters["release"]
    verdict = history.verdict_on(records, requested)
    bad = verdict is not None and verdict.verdict == "bad" and not parameters["allow_rejected"]
    if requested == LAST_GOOD or (verdict and bad and verdict.at >= parameters["since"]):
        if unfinished := history.unfinished_rollback(records, parameters["since"]):
            return unfinished.release, unfinished.previous
        return switch.last_validated(layout, records, current), current
    if requested not in layout.complete():
        known = catalogue.describe(layout, records, current)
        listed = "; ".join(f"{name} ({facts})" for name, facts in known.items())
        problem = f"{requested} is incomplete" if requested in known else f"there is no release {requested!r}"
        raise switch.SwitchError(f"{problem}; available releases: {listed or 'none'}")
    if verdict and bad:
        raise switch.SwitchError(
            f"{requested} was rejected on {verdict.at}: {verdict.why}."
            " To roll back to it anyway, add -e allow_rejected=true"
        )
    return requested, current


def require_planned(planned_from: str | None, current: str | None, origin: str | None) -> None:
    """Raise switch.SwitchError if somebody else has switched the host since its switch was planned.

    `planned_from`: None if nothing was planned. `origin`: the release that an unfinished rollback left.
    """
    if planned_from is not None and planned_from not in (current or "", origin or ""):
        raise switch.SwitchError(
            f"{planned_from or 'no release'} was current when the rollout was planned, and now it is"
            f" {current or 'none'}. Somebody else has switched this host. Run the same command again to plan"
            " again"
        )


def main() -> None:
    """Check the request, then switch and record, or fail."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "str", "required": True},
            "how": {"choices": list(get_args(history.How)), "default": "deployment"},
            "allow_rejected": {"type": "bool", "default": False},
            "since": {"type": "str", "default": "9999"},
            "planned_from": {"type": "str"},
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
            raise switch.SwitchError(f"{'; '.join(problems)}. Repair the disk first")
        if parameters["how"] == "rollback":
            release, origin = rollback_target(layout, history.read(paths.HISTORY), parameters, previous)
        elif release == LAST_GOOD:
            release = switch.last_validated(layout, history.read(paths.HISTORY), previous)
        require_planned(parameters["planned_from"], previous, origin)
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
            raise switch.SwitchError(
                f"the release {release} is damaged: {'; '.join(damage[:5])}. Deploy it again to rebuild it"
            )
        unit_file = (layout.release(release) / paths.SERVICE_UNIT).read_text()
        changed = bool(links.damage(links.of_host(layout, release)))
        reasons = restart.reasons(release, unit_file)
        # After a failure nothing runs that a failed start could interrupt.
        checks_start = parameters["how"] != "return" and not parameters["without_start_check"]
        if (changed or reasons) and checks_start:
            switch.require_start(layout.release(release), unit_file)
        if not module.check_mode:
            changed = switch.switch(
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
    except (switch.SwitchError, OSError, subprocess.CalledProcessError) as error:
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
