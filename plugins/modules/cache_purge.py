#!/usr/bin/python
"""Replaces the engine and empties the cache through the running service, and proves it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cache_purge
short_description: Empty the running service's caches and prove it
description:
  - Has the service replace its engine, whose own cache goes with it, and waits until another one is
    ready. Then has it drop its cached answers, and compares what it says, what its metrics show and
    what C(katago-mcp cache verify) finds in the file.
  - Does not fail where the service is down, does not answer, or its cache is damaged; says so, for the
    cache to be set aside and the service to be restarted. A damaged cache is left as it is, for it is
    evidence.
  - Refuses, before anything is changed, a cache directory that is a symlink; and a full or read-only
    disk while the service answers, since no other engine would come up.
options:
  user:
    description: The service's user, as whom the file is verified.
    type: str
    required: true
  engine:
    description: Whether the engine is replaced.
    type: bool
    default: true
  renewed:
    description: Whether the cache was just set aside. What is wrong then is told, not refused.
    type: bool
    default: false
  deadline:
    description:
      - Seconds until the other engine must be ready.
      - The time in which it starts and makes progress does not count.
    type: int
    default: 120
  start_deadline:
    description: Seconds until the other engine must be ready in all.
    type: int
    default: 7800
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The caches are empty
  katago.fleet.cache_purge:
    user: katago-mcp
"""

RETURN = r"""
cleared:
  description: Whether the cache is proven to be empty. In check mode, whether that would be tried.
  type: bool
  returned: success
problem:
  description: Why it is not, as part of a sentence; or null.
  type: str
  returned: success
engine_problem:
  description: Why the engine was not replaced, as part of a sentence; or null.
  type: str
  returned: success
answers:
  description: Whether the service answers at all.
  type: bool
  returned: success
message:
  description: What was done, in a sentence.
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
# Clients may put as many new answers there as there were, when these were few.
ATTEMPTS = 3


class RefusedError(Exception):
    """The service is not touched; the message says why and the remedy, in sentences."""


def replace_engine(config: dict[str, Any], deadline: float, start_deadline: float) -> tuple[str, str | None]:
    """Order another engine and wait until it is ready; return what was done, and what went wrong."""
    answer = admin.post(config, "/admin/engine/restart", seconds=ORDER_SECONDS)
    if answer is None or answer[0] != 202:
        words = "no answer" if answer is None else f"{answer[0]} {answer[1].get('message') or ''}".strip()
        return "", f"the service's answer to the order to replace the engine is {words}"
    before = answer[1].get("before", {}).get("pid")
    began, patience = time.monotonic(), Patience(deadline, start_deadline)
    while True:
        health = admin.get(config, "/health")
        engine = health[1].get("engine", {}) if health else {}
        now, state = engine.get("pid"), engine.get("state")
        if state == "ready" and now not in (None, before) and not is_running(before):
            return f"The engine {now} replaced {before or 'none'}.", None
        if patience.is_over(health):
            reason = f": {engine['reason']}" if engine.get("reason") else ""
            took = f"{time.monotonic() - began:.1f} s"
            return "", f"no other engine than {before} is ready after {took} ({state}{reason})"
        time.sleep(POLL_SECONDS)


def is_running(pid: int | None) -> bool:
    """Whether a process of the service has this id."""
    return pid in [each["pid"] for each in unit.processes(unit.control_group())]


def clear(config: dict[str, Any], user: str) -> tuple[str, str | None]:
    """Empty the cache; return what was done, and why that is not proven."""
    for _ in range(ATTEMPTS):
        answer = admin.post(config, "/admin/cache/clear", seconds=CLEAR_SECONDS)
        problem = cache.problem(answer, cache.shown(admin.scrape(config)))
        if problem is None:
            break
    else:
        return "", problem
    try:
        problems = cache.verified(user, paths.COMMAND, paths.CONFIG)["problems"]
    except cache.UnverifiedError as error:
        problems = [str(error)]
    dropped = cache.size(answer[1]["before"]) if answer else None
    return f"The cache was emptied: {dropped}.", f"afterwards, {'; '.join(problems)}" if problems else None


def purge(config: dict[str, Any], parameters: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Do, or predict, all that the running service can be had to do; the module's result."""
    found = cache.verified(parameters["user"], paths.COMMAND, paths.CONFIG)
    if found["problems"]:
        return unable(f"the cache is damaged ({'; '.join(found['problems'])})")
    if check_mode:
        words = f"The cache would be emptied: {cache.size(found)}."
        words += " The engine would be replaced." if parameters["engine"] else ""
        return {"cleared": True, "problem": None, "engine_problem": None, "message": words}
    replaced, engine_problem = "", None
    if parameters["engine"]:
        replaced, engine_problem = replace_engine(
            config, parameters["deadline"], parameters["start_deadline"]
        )
    emptied, problem = clear(config, parameters["user"])
    return {
        "cleared": problem is None,
        "problem": problem,
        "engine_problem": engine_problem,
        "message": f"{replaced} {emptied}".strip(),
    }


def unable(problem: str) -> dict[str, Any]:
    """The module's result when nothing was done, for the cache to be set aside."""
    return {"cleared": False, "problem": problem, "engine_problem": None, "message": ""}


def main() -> None:
    """Refuse, or replace, clear and verify."""
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
        obstacles = "; ".join(disk.obstacles())
        if config is None or not answers:
            words = "the service does not answer" if unit.state().pid else "the service is down"
            result = unable(words)
        elif not obstacles:
            result = purge(config, parameters, check_mode=module.check_mode)
        elif parameters["renewed"]:
            result = unable(obstacles)
        else:
            raise RefusedError(
                f"{obstacles}: neither can the cache be emptied nor would another engine come up. Mend the"
                " disk first."
            )
    except (RefusedError, cache.RefusedError, cache.UnverifiedError) as refused:
        module.fail_json(msg=f"Refused; nothing was changed on this host. {refused}", refused=True)
    module.exit_json(changed=module.check_mode or bool(result["message"]), answers=answers, **result)


if __name__ == "__main__":
    main()
