#!/usr/bin/python
"""Makes a release the current one: the only switch there is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_switch
short_description: Make a release the current one
description:
  - Replaces the symlink C(/opt/katago-mcp/current) by rename. Unit, configuration and command lead through
    it, so that all of them change at once.
  - Refuses a release that is missing or damaged, before anything is touched.
  - Records the switch in C(/var/lib/katago-mcp/history.jsonl).
  - Does not restart the service; says why it must be.
options:
  release:
    description:
      - The release's name; or C(last_good) for the one that was found good last, besides the current,
        was not found bad since, and is whole.
      - A rollback to C(last_good) that was killed is brought to its end, or to that of its return where the
        release had failed. One after the other goes further back, never to what was left.
    type: str
    required: true
  how:
    description: What the switch is part of, for the history.
    type: str
    choices: [deployment, rollback, return, restore]
    default: deployment
  allow_bad:
    description: Whether a rollback may lead to a release that was found bad.
    type: bool
    default: false
  since:
    description:
      - When the procedure began, by the host's clock; that of an earlier run that was killed, when this one
        brings it to its end. The time that its lock tells.
    type: str
    default: "9999"
  why:
    description: The reason, for the history.
    type: str
    required: true
  who:
    description: Who switches, for the history.
    type: str
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The release is the current one
  katago.fleet.release_switch:
    release: 0.1.0-2f6a9c0d1e3b
    why: deployment
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
release:
  description: The release that is the current one now.
  type: str
  returned: success
previous:
  description:
    - The release that was the current one before, also where a switch that was killed is brought to its end;
      null when there was none.
  type: str
  returned: always
verdict:
  description: The verdict on the release since it was switched to, C(good) or C(bad); or null.
  type: str
  returned: success
restart_reasons:
  description: Why the service must be started or restarted; empty when it runs this release.
  type: list
  elements: str
  returned: success
"""

import subprocess
from pathlib import Path
from typing import Any, get_args

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths, timestamps
from ansible_collections.katago.fleet.plugins.module_utils.common import disk, files
from ansible_collections.katago.fleet.plugins.module_utils.release import history, links
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import restart

LAST_GOOD = "last_good"


class SwitchError(Exception):
    """The switch cannot be made; the message says why, as part of a sentence."""


def is_link(path: Path, target: str) -> bool:
    """Whether `path` is a symlink to exactly `target`."""
    return path.is_symlink() and str(path.readlink()) == target


def way_back(layout: release_layout.Layout, records: list[history.Record], previous: str | None) -> str:
    """The best release to return to that is whole; refuses when there is none."""
    candidates = history.ways_back(records, available=layout.complete(), besides=previous)
    for release in candidates:
        if not release_layout.damage(layout.release(release)):
            return release
    damaged = f" ({', '.join(candidates)}: damaged)" if candidates else ""
    raise SwitchError(f"there is no earlier release that was found good and is whole{damaged}")


def rollback_target(
    layout: release_layout.Layout,
    records: list[history.Record],
    parameters: dict[str, Any],
    current: str | None,
) -> tuple[str, str | None]:
    """The release that a rollback leads to, and the one that it leaves; refuses one unknown or found bad.

    What the same procedure found bad before it was killed is no target any more, but what it returns from.
    """
    wanted: str = parameters["release"]
    judged = history.verdict_on(records, wanted)
    bad = judged is not None and judged.verdict == "bad" and not parameters["allow_bad"]
    if wanted == LAST_GOOD or (judged and bad and judged.at >= parameters["since"]):
        if unfinished := history.unfinished_rollback(records, parameters["since"]):
            return unfinished.release, unfinished.previous
        return way_back(layout, records, current), current
    if wanted not in layout.complete():
        raise SwitchError(
            f"there is no release {wanted!r}; there are {', '.join(layout.complete()) or 'none'}"
        )
    if judged and bad:
        raise SwitchError(
            f"{wanted} was found bad on {judged.at}: {judged.why}. -e allow_bad=true goes there all the same"
        )
    return wanted, current


def switch(layout: release_layout.Layout, record: history.Record, history_file: Path) -> bool:
    """Record the switch and make it; return whether there was anything to do.

    The record comes first: a killed run leaves a release without a verdict, never one that runs
    unrecorded. What fails after the rename is undone.
    """
    missing = {
        path: target
        for path, target in links.of_host(layout, record.release).items()
        if not is_link(path, target)
    }
    try:
        if history.current(history.read(history_file)) != record.release:
            history.append(record, history_file)
        for path, target in missing.items():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            files.link(path, target)
    except OSError as error:
        if record.previous and layout.current_release() != record.previous:
            files.link(layout.current, f"releases/{record.previous}")
        raise SwitchError(str(error)) from error
    return bool(missing)


def main() -> None:
    """Refuse, or switch and record."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "str", "required": True},
            "how": {"choices": list(get_args(history.How)), "default": "deployment"},
            "allow_bad": {"type": "bool", "default": False},
            "since": {"type": "str", "default": "9999"},
            "why": {"type": "str", "required": True},
            "who": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    layout = release_layout.Layout(paths.RELEASE_ROOT)
    left = previous = layout.current_release()
    try:
        release = parameters["release"]
        if problems := list(disk.obstacles()):
            raise SwitchError(f"{'; '.join(problems)}. Mend the disk first")
        if parameters["how"] == "rollback":
            release, left = rollback_target(layout, history.read(paths.HISTORY), parameters, previous)
        elif release == LAST_GOOD:
            release = way_back(layout, history.read(paths.HISTORY), previous)
        damage = release_layout.damage(layout.release(release))
        if damage and module.check_mode and parameters["how"] == "deployment":
            # Nothing was built in check mode; a deployment would have built it anew.
            module.exit_json(
                changed=True,
                release=release,
                previous=previous,
                verdict=None,
                restart_reasons=["the release is not built yet"],
            )
        if damage:
            raise SwitchError(
                f"the release {release} is damaged: {'; '.join(damage[:5])}."
                " Deploying it again builds it anew"
            )
        changed = any(not is_link(path, to) for path, to in links.of_host(layout, release).items())
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
        reasons = restart.reasons(release, (layout.release(release) / paths.SERVICE_UNIT).read_text())
        if (changed or reasons) and not module.check_mode:
            restart.prepare()
    except (SwitchError, OSError, subprocess.CalledProcessError) as error:
        module.fail_json(
            msg=f"Nothing was switched on this host: {error}. What runs was not touched.",
            previous=previous,
            refused=True,
        )
    module.exit_json(
        changed=changed,
        release=release,
        previous=left,
        verdict=history.standing(history.read(paths.HISTORY), release),
        restart_reasons=reasons,
    )


if __name__ == "__main__":
    main()
