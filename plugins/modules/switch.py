#!/usr/bin/python
"""Makes a release the current one: the only switch there is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: switch
short_description: Make a release the current one
description:
  - Replaces the symlink C(<root>/current) by rename. Unit, configuration and command lead through
    it, so that all of them change at once.
  - Refuses a release that is missing or damaged, before anything is touched.
  - Records the switch in C(/var/lib/katago-mcp/history.jsonl).
  - Does not restart the service; says why it must be.
options:
  release:
    description: The release's name. The last good one besides the current when it is C(last_good).
    type: str
    required: true
  why:
    description: The reason, for the history.
    type: str
    required: true
  who:
    description: Who switches, for the history.
    type: str
    required: true
  root:
    description: Where releases are kept on the host.
    type: path
    default: /opt/katago-mcp
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The release is the current one
  katago.fleet.switch:
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
  description: The release that was the current one before; null when there was none.
  type: str
  returned: always
verdict:
  description: The newest verdict on the release, C(good) or C(bad); null when it was never judged.
  type: str
  returned: success
last_good:
  description: The release to return to, besides this one; null when there is none.
  type: str
  returned: always
restart_reasons:
  description: Why the service must be started or restarted; empty when it runs this release.
  type: list
  elements: str
  returned: success
"""

import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import (
    atomic,
    history,
    releases,
    service,
)

LAST_GOOD = "last_good"


def links(layout: releases.Layout, release: str) -> dict[Path, str]:
    """Every symlink of a switched host; `current` comes last, so a killed switch is no switch."""
    current = layout.current
    return {
        service.CONFIG: str(current / "config.json"),
        service.COMMAND: str(current / "venv" / "bin" / "katago-mcp"),
        service.UNIT_FILE: str(current / service.UNIT),
        current: f"releases/{release}",
    }


def is_link(path: Path, target: str) -> bool:
    """Whether `path` is a symlink to exactly `target`."""
    return path.is_symlink() and str(path.readlink()) == target


def main() -> None:
    """Refuse, or switch and record."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "str", "required": True},
            "why": {"type": "str", "required": True},
            "who": {"type": "str", "required": True},
            "root": {"type": "path", "default": "/opt/katago-mcp"},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    layout = releases.Layout(Path(parameters["root"]))
    previous = layout.current_release()
    records = history.read()
    complete = layout.complete()
    release = parameters["release"]
    if release == LAST_GOOD:
        release = history.last_good(records, available=complete, besides=previous)
        if release is None:
            module.fail_json(
                msg="There is no earlier release that was found good; nothing was switched.",
                previous=previous,
                last_good=None,
            )
    way_back = history.last_good(records, available=complete, besides=release)
    judged = history.verdict_on(records, release)
    answer = {
        "release": release,
        "previous": previous,
        "verdict": judged.verdict if judged else None,
        "last_good": way_back,
    }
    if release not in complete and module.check_mode:
        module.exit_json(changed=True, restart_reasons=["the release is not built yet"], **answer)
    if damage := releases.damage(layout.release(release)):
        module.fail_json(
            msg=(
                f"The release {release} is damaged: {'; '.join(damage[:5])}. Nothing was switched;"
                " what runs was not touched. Deploying it again builds it anew."
            ),
            **answer,
        )
    missing = {path: target for path, target in links(layout, release).items() if not is_link(path, target)}
    if missing and not module.check_mode:
        for path, target in missing.items():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            atomic.link(path, target)
        if previous != release:
            history.append(
                history.Record(
                    at=history.now(),
                    who=parameters["who"],
                    release=release,
                    previous=previous,
                    why=parameters["why"],
                )
            )
    if (missing or service.state().needs_reload) and not module.check_mode:
        subprocess.run(["systemctl", "daemon-reload"], check=True)
    tokens = service.CREDENTIALS / service.TOKENS
    module.exit_json(
        changed=bool(missing),
        restart_reasons=service.restart_reasons(release, tokens.read_bytes() if tokens.exists() else None),
        **answer,
    )


if __name__ == "__main__":
    main()
