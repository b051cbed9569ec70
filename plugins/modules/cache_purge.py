#!/usr/bin/python
"""Replaces the engine and clears the cache through the running service, and verifies both."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cache_purge
short_description: Clear the running service's caches and verify it
description:
  - Makes the service replace its engine, together with the engine's own cache, and waits until the new
    engine is ready. Then makes the service clear its cached answers, and compares the service's response,
    its metrics, and the result of C(katago-mcp cache verify).
  - Does not fail if the service is down or does not respond, or if its cache is damaged. C(problem) then
    has the reason, so that the role can quarantine the cache and restart the service. A damaged cache stays
    unchanged, because it is evidence.
  - On a full disk, clears the cache first, also if the service is down, because that makes room. Replaces
    the engine only if there is room then, because it could not start otherwise; if there is none, fails.
  - Refuses a cache directory that is a symlink, a read-only disk, and a damaged cache on a full disk, before
    anything is changed.
options:
  user:
    description: The service's user, as which the cache's file is verified.
    type: str
    required: true
  engine:
    description: Whether to replace the engine.
    type: bool
    default: true
  renewed:
    description: Whether the cache was just quarantined. Problems of the disk are then returned, not refused.
    type: bool
    default: false
  deadline:
    description:
      - Seconds until the new engine must be ready.
      - Time in which it is starting and makes progress does not count.
    type: int
    default: 120
  start_deadline:
    description: Seconds until the new engine must be ready, in total.
    type: int
    default: 7800
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Clear the caches
  katago.fleet.cache_purge:
    user: katago-mcp
"""

RETURN = r"""
cleared:
  description: Whether the cache was verified to be empty. In check mode, whether it would be cleared.
  type: bool
  returned: success
problem:
  description: Why the cache was not cleared, as part of a sentence; or null.
  type: str
  returned: success
engine_problem:
  description: Why the engine was not replaced, as part of a sentence; or null.
  type: str
  returned: success
answers:
  description: Whether the service responds at all.
  type: bool
  returned: success
message:
  description: What was done, in sentences; empty if nothing was.
  type: str
  returned: success
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import disk
from ansible_collections.katago.fleet.plugins.module_utils.service import admin, cache, unit
from ansible_collections.katago.fleet.plugins.module_utils.service.patience import Patience

POLL_SECONDS = 0.2
ORDER_SECONDS = 10
# The service itself gives up after 20 s.
CLEAR_SECONDS = 30
# If there were few answers, clients may have added as many meanwhile.
ATTEMPTS = 3


class RefusedError(Exception):
    """The service must not be touched; the message has the reason and the remedy, in sentences."""


class FullError(Exception):
    """The disk is full although the cache was cleared; the message has what to do, in sentences."""


def replace_engine(config: dict[str, Any], deadline: float, start_deadline: float) -> tuple[str, str | None]:
    """Replace the engine and wait until the new one is ready; return what was done, and the problem."""
    answer = admin.post(config, "/admin/engine/restart", seconds=ORDER_SECONDS)
    if answer is None:
        return "", "the service did not respond to the request to replace the engine"
    if answer[0] != 202:
        response = f"{answer[0]} {answer[1].get('message') or ''}".strip()
        return "", f"the service responded to the request to replace the engine with status {response}"
    before = answer[1].get("before", {}).get("pid")
    start, patience = time.monotonic(), Patience(deadline, start_deadline)
    while True:
        health = admin.get(config, "/health")
        engine = health[1].get("engine", {}) if health else {}
        now, state = engine.get("pid"), engine.get("state")
        if state == "ready" and now not in (None, before) and not is_running(before):
            return f"The engine {now} replaced {before or 'none'}.", None
        if patience.is_over(health):
            reason = f": {engine['reason']}" if engine.get("reason") else ""
            seconds = f"{time.monotonic() - start:.1f} s"
            return "", f"no new engine instead of {before} was ready after {seconds} (state {state}{reason})"
        time.sleep(POLL_SECONDS)


def is_running(pid: int | None) -> bool:
    """Whether a process of the service has this id."""
    return pid in [each["pid"] for each in unit.processes(unit.control_group())]


def clear(config: dict[str, Any], user: str) -> tuple[str, str | None]:
    """Clear the cache; return what was done, and why the cache may not be empty."""
    for _ in range(ATTEMPTS):
        answer = admin.post(config, "/admin/cache/clear", seconds=CLEAR_SECONDS)
        problem = cache.problem(answer, cache.size_in_metrics(admin.scrape(config)))
        if problem is None:
            break
    else:
        return "", problem
    try:
        problems = cache.verified(user, paths.COMMAND, paths.CONFIG)["problems"]
    except cache.UnverifiedError as error:
        problems = [str(error)]
    dropped = cache.size(answer[1]["before"]) if answer else None
    problem = f"the cache was not intact afterwards: {'; '.join(problems)}" if problems else None
    return f"The cache was cleared: {dropped}.", problem


def make_room(
    config: dict[str, Any], parameters: dict[str, Any], obstacles: str, down: str | None, *, check_mode: bool
) -> dict[str, Any]:
    """Clear the cache because the disk is full, then replace the engine; the module's result.

    `obstacles`: what the full disk prevents. `down`: why the service cannot clear the cache itself.

    Raises:
        RefusedError: if the cache is damaged, so that it must be kept.
        FullError: if the disk is still full afterwards.
    """
    report = cache.verified(parameters["user"], paths.COMMAND, paths.CONFIG)
    if report["problems"]:
        raise RefusedError(
            f"{obstacles}, and the cache is damaged ({'; '.join(report['problems'])}), so it is kept as"
            " evidence. Collect the evidence with playbooks/evidence.yml, make room on the disk, then run"
            " again."
        )
    if check_mode:
        message = f"The cache would be cleared: {cache.size(report)}."
        return {"cleared": True, "problem": None, "engine_problem": down, "message": message}
    if down:
        deleted = cache.clear_stopped(parameters["user"], paths.COMMAND, paths.CONFIG)
        message, problem = f"The cache was cleared: {deleted}.", None
    else:
        message, problem = clear(config, parameters["user"])
    if remaining := "; ".join(disk.obstacles()):
        raise FullError(
            f"{message or f'The cache was not cleared: {problem}.'} The disk still has no room: {remaining}."
            " The service was not restarted. Free space there (`du -xh --max-depth=2 /var | sort -h` shows"
            " what fills it), then run again."
        )
    replaced, engine_problem = "", down
    if parameters["engine"] and not down:
        replaced, engine_problem = replace_engine(
            config, parameters["deadline"], parameters["start_deadline"]
        )
    return {
        "cleared": problem is None,
        "problem": problem,
        "engine_problem": engine_problem,
        "message": f"{message} {replaced}".strip(),
    }


def purge(config: dict[str, Any], parameters: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Replace the engine and clear the cache, or predict it in check mode; the module's result."""
    report = cache.verified(parameters["user"], paths.COMMAND, paths.CONFIG)
    if report["problems"]:
        return unable(f"the cache is damaged ({'; '.join(report['problems'])})")
    if check_mode:
        message = f"The cache would be cleared: {cache.size(report)}."
        message += " The engine would be replaced." if parameters["engine"] else ""
        return {"cleared": True, "problem": None, "engine_problem": None, "message": message}
    replaced, engine_problem = "", None
    if parameters["engine"]:
        replaced, engine_problem = replace_engine(
            config, parameters["deadline"], parameters["start_deadline"]
        )
    cleared, problem = clear(config, parameters["user"])
    return {
        "cleared": problem is None,
        "problem": problem,
        "engine_problem": engine_problem,
        "message": f"{replaced} {cleared}".strip(),
    }


def unable(problem: str) -> dict[str, Any]:
    """The module's result if nothing was done, so that the role quarantines the cache."""
    return {"cleared": False, "problem": problem, "engine_problem": None, "message": ""}


def main() -> None:
    """Replace, clear and verify, or refuse."""
    module = AnsibleModule(
        argument_spec={
            "user": {"type": "str", "required": True},
            "engine": {"type": "bool", "default": True},
            "renewed": {"type": "bool", "default": False},
            "deadline": {"type": "int", "default": 120},
            "start_deadline": {"type": "int", "default": 7800},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    try:
        cache.directory(paths.SERVICE_UNIT_FILE, paths.CONFIG)
        config = admin.running_config()
        answers = config is not None and admin.get(config, "/health") is not None
        down = None
        if not answers:
            down = "the service does not respond" if unit.state().pid else "the service is down"
        obstacles = "; ".join(disk.obstacles())
        if parameters["renewed"] and obstacles:
            result = unable(obstacles)
        elif failing := "; ".join(disk.obstacles(full=False)):
            raise RefusedError(
                f"{failing}, so the cache cannot be cleared and the engine cannot be restarted. Repair the"
                " disk first."
            )
        elif obstacles:
            result = make_room(config or {}, parameters, obstacles, down, check_mode=module.check_mode)
        elif config is None or down:
            result = unable(down or "the service is down")
        else:
            result = purge(config, parameters, check_mode=module.check_mode)
    except FullError as full:
        module.fail_json(msg=str(full), changed=True)
    except (RefusedError, cache.RefusedError, cache.UnverifiedError) as refused:
        module.fail_json(msg=f"Refused; nothing was changed on this host. {refused}", refused=True)
    module.exit_json(changed=module.check_mode or bool(result["message"]), answers=answers, **result)


if __name__ == "__main__":
    main()
