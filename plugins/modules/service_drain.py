#!/usr/bin/python
"""Waits until the service works on nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_drain
short_description: Wait until the service works on nothing
description:
  - Waits until C(/ready) reports that no analysis is in flight, or until the deadline. Stops nothing.
  - A service that does not answer several times in a row is not waited for. What still runs after the
    deadline is ended when the service stops; its clients get an error that says that they can try again.
options:
  deadline:
    description: Seconds to wait.
    type: int
    default: 60
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Wait until nothing is in flight
  katago.fleet.service_drain:
    deadline: 60
"""

RETURN = r"""
in_flight:
  description: The analyses that still run; null if the service does not report them.
  type: int
  returned: always
message:
  description: What still runs, as a sentence; empty if nothing does.
  type: str
  returned: always
"""

import time
from collections.abc import Callable

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils.service import admin

POLL_SECONDS = 0.2
SETTLED_LOOKS = 3
"""How often in a row nothing must be in flight, or the service not answer.

The first time, an answer may still be on its way to its client, or the service may only be slow.
"""


def reported() -> int | None:
    """The analyses in flight; None if the service does not report them."""
    config = admin.running_config()
    answer = admin.get(config, "/ready") if config else None
    number = answer[1].get("inFlight") if answer else None
    return number if isinstance(number, int) else None


def drained(
    look: Callable[[], int | None], deadline: float, sleep: Callable[[float], object] = time.sleep
) -> int | None:
    """Wait until nothing is in flight, or nothing answers, for a moment; return the number at the end."""
    end = time.monotonic() + deadline
    numbers: list[int | None] = []
    while True:
        numbers.append(look())
        last = numbers[-SETTLED_LOOKS:]
        is_settled = len(last) == SETTLED_LOOKS and (last.count(0) or last.count(None)) == SETTLED_LOOKS
        if is_settled or time.monotonic() >= end:
            return last[-1]
        sleep(POLL_SECONDS)


def main() -> None:
    """Wait, and report."""
    module = AnsibleModule(
        argument_spec={"deadline": {"type": "int", "default": 60}}, supports_check_mode=True
    )
    deadline = 0 if module.check_mode else module.params["deadline"]
    number = drained(reported, deadline)
    message = ""
    if number and not module.check_mode:
        message = f"{number} {'analyses' if number > 1 else 'analysis'} did not finish within {deadline} s."
        module.warn(f"{message} The service ends what still runs; clients can try again.")
    module.exit_json(changed=False, in_flight=number, message=message)


if __name__ == "__main__":
    main()
