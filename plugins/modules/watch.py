#!/usr/bin/python
"""Watches a service with a sampler on its host, and returns the verdict."""

from __future__ import annotations

DOCUMENTATION = r"""
module: watch
short_description: Watch a service and report whether it stays healthy
description:
  - Starts the sampler C(katago-watch) under systemd on the host and waits for the verdict, which is
    C(recovered), C(watching), C(breached) or C(unknown). The sampler does not need the control node.
  - Any failed sample restarts the window. Time without samples does not count.
  - Joins a window that is running. Also joins a window that ended as C(recovered), if the same service is
    still running and the end is not longer ago than the window's length.
  - Waits until the window is complete, until a breach, or until the sampler has stopped. The host computes
    the verdict with the rules of C(katago.fleet.triage).
  - In security mode the module starts, joins and installs nothing; C(fetch) still reads the verdict.
options:
  minutes:
    description: Length of the window in minutes.
    type: int
    required: true
  bounds:
    description: Minimum and maximum of C(minutes).
    type: list
    elements: int
    default: [15, 120]
  interval:
    description: Seconds from one sample to the next.
    type: int
    default: 30
  patience:
    description: Deadline in seconds of a sample's analyses. Every other check gets a third of it.
    type: int
    default: 30
  fewest_requests:
    description: Minimum number of requests in a window, including the sampler's own analyses.
    type: int
    default: 20
  probes:
    description: Whether the sampler sends analyses.
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
    description: Whether to replace a running window with a new one.
    type: bool
    default: false
  fetch:
    description: Whether to only read the verdict and change nothing on the host.
    type: bool
    default: false
  incident:
    description: The incident that the watch belongs to.
    type: str
    default: ""
  who:
    description: Who starts the watch.
    type: str
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Watch the service for 15 minutes
  katago.fleet.watch:
    minutes: 15
    who: "{{ lookup('katago.fleet.actor') }}"
"""

RETURN = r"""
verdict:
  description:
    - The verdict with the keys verdict, why, began, ended, began_at, left, requests, resets and notes. Times
      are seconds since the host booted; times in keys that end in C(at) are UTC by the host's clock.
  type: dict
  returned: when the module ran on the host
now:
  description: Seconds since the host booted.
  type: float
  returned: when the module ran on the host
minutes:
  description: Length in minutes of the running or most recent window; 0 without one.
  type: int
  returned: when the module ran on the host
security_mode:
  description: The host's security mode, because of which it is not watched.
  type: dict
  returned: when the host is in security mode, without C(fetch)
joined:
  description: Whether an existing window was joined.
  type: bool
  returned: when the module ran on the host
"""

import subprocess
from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import endings, files, os_release
from ansible_collections.katago.fleet.plugins.module_utils.procedure import security_mode
from ansible_collections.katago.fleet.plugins.module_utils.release import deployed, layout
from ansible_collections.katago.fleet.plugins.module_utils.watch import sampler, samples, window

NEVER = window.Verdict("unknown", "no watch was started since the host booted")


def systemctl(*arguments: str, required: bool = True) -> None:
    """Run systemctl. Raises CalledProcessError if it fails and is `required`."""
    subprocess.run(["systemctl", *arguments], check=required, capture_output=True, text=True, timeout=120)


def look() -> tuple[samples.Watched | None, window.Verdict, bool]:
    """The existing watch, the verdict on it, and whether its sampler is running."""
    alive = sampler.is_alive()
    try:
        watched = sampler.read_samples(paths.WATCH_SAMPLES)
    except ValueError as error:
        why = f"{paths.WATCH_SAMPLES} is damaged: {error}; run watch.yml to start a new watch"
        return None, window.Verdict("unknown", why), alive
    if watched is None:
        return None, NEVER, alive
    return watched, window.judge(watched, now=sampler.now(), alive=alive), alive


def running_service(terms: samples.Terms) -> window.Identity:
    """The identity of the running service, to compare it with that of the watched one."""
    return window.identity(sampler.take(terms, layout.Layout(paths.RELEASE_ROOT)).facts)


def refusal(watched: samples.Watched, terms: samples.Terms, alive: bool) -> str:
    """Why the running window cannot be joined; empty if it can."""
    if not alive or watched.terms == terms:
        return ""
    differ = ", ".join(
        f"{name} {value}" for name, value in asdict(watched.terms).items() if value != asdict(terms)[name]
    )
    return (
        f"Refused; nothing was changed on this host. A watch of {watched.who} has been running since"
        f" {watched.begun_at} with {differ}. To join it, use these values. To replace it, add"
        " -e restart=true."
    )


def start(order: dict[str, Any]) -> None:
    """Write the order and start the sampler, which also starts after a reboot. Raises OSError."""
    systemctl("stop", paths.WATCH_UNIT, required=False)
    unit = sampler.unit()
    if not paths.WATCH_UNIT_FILE.is_file() or paths.WATCH_UNIT_FILE.read_text() != unit:
        files.write(paths.WATCH_UNIT_FILE, unit.encode(), mode=0o644)
    # Always: a run may have been killed after it had written the unit.
    systemctl("daemon-reload")
    sampler.start_watch(order, rebooted=False, order_file=paths.WATCH_ORDER, file=paths.WATCH_SAMPLES)
    systemctl("reset-failed", paths.WATCH_UNIT, required=False)
    systemctl("enable", paths.WATCH_UNIT)
    systemctl("start", paths.WATCH_UNIT)


def main() -> None:
    """Read the verdict, join a window or start one."""
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
    release_layout = layout.Layout(paths.RELEASE_ROOT)
    if not module.params["fetch"] and (why := deployed.undeployed(release_layout, paths.SERVICE_UNIT_FILE)):
        module.exit_json(changed=False, undeployed=why)
    restart = module.params["restart"]
    try:
        watched, verdict, alive = look()
        joined = module.params["fetch"]
        if not joined and watched and not restart:
            if msg := refusal(watched, terms, alive):
                module.fail_json(msg=msg, refused=True)
            joined = (alive and not watched.over) or (
                watched.terms == terms
                and window.may_join(watched, verdict, now=sampler.now(), running=running_service(terms))
            )
        if not joined and not module.check_mode:
            names = ("incident", "who")
            start({"terms": asdict(terms), **{name: module.params[name] for name in names}})
            watched, verdict, alive = look()
    except subprocess.CalledProcessError as error:
        module.fail_json(
            msg=f"systemd could not start {paths.WATCH_UNIT}: {endings.of_error(error)}."
            " The service was not changed."
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=f"The watch could not be started: {error}. The service was not changed.")
    module.exit_json(
        changed=not joined,
        joined=joined,
        verdict=window.as_dict(verdict),
        now=sampler.now(),
        minutes=watched.terms.minutes if watched else 0,
        who=watched.who if watched else "",
        alive=alive,
        over=bool(watched and watched.over),
        untested_system=os_release.warning_of(paths.OS_RELEASE),
    )


if __name__ == "__main__":
    main()
