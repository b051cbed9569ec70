#!/usr/bin/python
"""Watches a service for a while, by a sampler on its host, and tells the verdict."""

from __future__ import annotations

DOCUMENTATION = r"""
module: watch
short_description: Watch a service for a while and tell whether it stays well
description:
  - Starts a sampler under systemd on the host, C(katago-watch), that goes on without the control node, and
    waits for its verdict; C(recovered), C(watching), C(breached) or C(unknown). One breach starts the
    window anew; what was not sampled does not count.
  - A window that is running, or that ended well less than its own length ago on the same service, is
    joined and not begun anew.
  - Waits until the window is full, until it is breached, or until nothing can come of it any more. The
    verdict is judged on the host, by the rules of C(katago.fleet.triage).
  - On a host in security mode nothing is begun, joined or installed; C(fetch) reads what is there.
options:
  minutes:
    description: The window's length.
    type: int
    required: true
  bounds:
    description: The least and the most minutes that are accepted.
    type: list
    elements: int
    default: [15, 120]
  interval:
    description: Seconds from one sample to the next.
    type: int
    default: 30
  patience:
    description: Seconds for the analyses of a sample; every other check has a third.
    type: int
    default: 30
  fewest_requests:
    description: Requests that a window needs, the sampler's own analyses among them.
    type: int
    default: 20
  probes:
    description: Whether the sampler has positions analysed.
    type: bool
    default: true
  visits:
    description: Visits of the analysis that is compared with the baseline.
    type: int
    default: 32
  wait:
    description: Whether to wait for the verdict.
    type: bool
    default: true
  restart:
    description: Whether to begin anew what is running.
    type: bool
    default: false
  fetch:
    description: Whether to read the verdict only, and to change nothing on the host.
    type: bool
    default: false
  incident:
    description: The incident that it belongs to.
    type: str
    default: ""
  who:
    description: Who orders it.
    type: str
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The service stays well for a quarter of an hour
  katago.fleet.watch:
    minutes: 15
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
verdict:
  description:
    - The verdict; verdict, why, began, ended, began_at, left, requests, resets, notes. Times in seconds
      since the host's boot, those that end in C(at) in UTC by its clock.
  type: dict
  returned: when the host was asked
now:
  description: Seconds since the host's boot.
  type: float
  returned: when the host was asked
minutes:
  description: The length of the window that is running, or ended last; 0 without one.
  type: int
  returned: when the host was asked
security_mode:
  description: The mode that the host is in, by which it is not watched.
  type: dict
  returned: when it is in one, without C(fetch)
joined:
  description: Whether a window was there already.
  type: bool
  returned: when the host was asked
"""

import subprocess
from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import endings, files, os_release
from ansible_collections.katago.fleet.plugins.module_utils.procedure import security_mode
from ansible_collections.katago.fleet.plugins.module_utils.release import layout
from ansible_collections.katago.fleet.plugins.module_utils.watch import sampler, samples, window

NEVER = window.Verdict("unknown", "it was not watched since the host was started")


def systemctl(*arguments: str, required: bool = True) -> None:
    """Have systemd do something."""
    subprocess.run(["systemctl", *arguments], check=required, capture_output=True, text=True, timeout=120)


def look() -> tuple[samples.Watched | None, window.Verdict, bool]:
    """What there is of a watch, the verdict on it, and whether its sampler works."""
    alive = sampler.is_alive()
    try:
        found = sampler.watched(paths.WATCH_SAMPLES)
    except ValueError as error:
        return None, window.Verdict("unknown", f"{paths.WATCH_SAMPLES} is damaged: {error}"), alive
    if found is None:
        return None, NEVER, alive
    return found, window.judge(found, now=sampler.now(), alive=alive), alive


def running_service(terms: samples.Terms) -> window.Identity:
    """The service as it is now, to be compared with the one that was watched."""
    return window.identity(sampler.take(terms, layout.Layout(paths.RELEASE_ROOT)).facts)


def refusal(found: samples.Watched, terms: samples.Terms, alive: bool) -> str:
    """Why a window that is running cannot be joined; empty when it can."""
    if not alive or found.terms == terms:
        return ""
    differ = ", ".join(
        f"{name} {value}" for name, value in asdict(found.terms).items() if value != asdict(terms)[name]
    )
    return (
        f"Refused; nothing was changed on this host. {found.who} has it watched since {found.begun_at} with"
        f" {differ}. The same variables join that window, -e restart=true begins one with yours."
    )


def start(order: dict[str, Any]) -> None:
    """Leave the order and have the sampler work on it, now and after a reboot. Raises OSError."""
    systemctl("stop", paths.WATCH_UNIT, required=False)
    wanted = sampler.unit()
    if not paths.WATCH_UNIT_FILE.is_file() or paths.WATCH_UNIT_FILE.read_text() != wanted:
        files.write(paths.WATCH_UNIT_FILE, wanted.encode(), mode=0o644)
        systemctl("daemon-reload")
    sampler.begin(order, rebooted=False, order_file=paths.WATCH_ORDER, file=paths.WATCH_SAMPLES)
    systemctl("reset-failed", paths.WATCH_UNIT, required=False)
    systemctl("enable", paths.WATCH_UNIT)
    systemctl("start", paths.WATCH_UNIT)


def main() -> None:
    """Tell, join or start."""
    module = AnsibleModule(
        argument_spec={
            "terms": {"type": "dict", "required": True},
            "restart": {"type": "bool", "default": False},
            "fetch": {"type": "bool", "default": False},
            "incident": {"type": "str", "default": ""},
            "who": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    terms = samples.Terms(**module.params["terms"])
    if not module.params["fetch"] and (mode := security_mode.standing(*paths.SECURITY_MODE)):
        module.exit_json(changed=False, security_mode=asdict(mode))
    restart = module.params["restart"]
    try:
        found, verdict, alive = look()
        joined = module.params["fetch"]
        if not joined and found and not restart:
            if msg := refusal(found, terms, alive):
                module.fail_json(msg=msg, refused=True)
            joined = (alive and not found.over) or (
                found.terms == terms
                and window.may_join(found, verdict, now=sampler.now(), running=running_service(terms))
            )
        if not joined and not module.check_mode:
            names = ("incident", "who")
            start({"terms": asdict(terms), **{name: module.params[name] for name in names}})
            found, verdict, alive = look()
    except subprocess.CalledProcessError as error:
        module.fail_json(msg=f"systemd refuses the sampler: {endings.of_error(error)}")
    except (OSError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=f"The service cannot be watched: {error}. It was left as it is.")
    module.exit_json(
        changed=not joined,
        joined=joined,
        verdict=window.as_dict(verdict),
        now=sampler.now(),
        minutes=found.terms.minutes if found else 0,
        who=found.who if found else "",
        alive=alive,
        over=bool(found and found.over),
        untested_system=os_release.warning_of(paths.OS_RELEASE),
    )


if __name__ == "__main__":
    main()
