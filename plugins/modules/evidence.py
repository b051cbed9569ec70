#!/usr/bin/python
"""Collects the volatile evidence of a host; changes nothing on it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence
short_description: Keep the volatile evidence of a host on the control node
description:
  - Collects journal, metrics, processes, memory and disk of a host, all at once, each with a deadline
    of its own, and keeps them on the control node as
    C(<records_dir>/evidence/<incident>/<host>/<UTC time>/), readable by their owner alone and never
    overwritten, with a manifest of the sha256, the size and the duration of every item.
  - A collector that hangs or fails costs its own entry, which says so. Needs no disk on the host.
  - Arguments and environments of processes are not collected, since they may hold secrets.
  - In check mode nothing is collected.
options:
  records_dir:
    description: Where records are kept on the control node.
    type: path
    required: true
  incident:
    description: The incident that the evidence belongs to.
    type: str
    required: true
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The volatile evidence is kept
  katago.fleet.evidence:
    records_dir: records
    incident: 2026-11-24-1
"""

RETURN = r"""
directory:
  description: Where the evidence lies on the control node.
  type: str
  returned: when it was collected
items:
  description: What was collected; name, sha256, bytes, seconds, problem.
  type: list
  elements: dict
  returned: when it was collected
"""

import base64
import json
import subprocess
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import collectors, history, probes, service


def collect(collector: collectors.Collector) -> collectors.Item:
    """Run one collector; whatever goes wrong becomes its item's `problem`."""
    begun = time.monotonic()
    try:
        content, problem = _content(collector)
    except (OSError, ValueError, KeyError) as error:
        content, problem = b"", str(error)
    return collectors.Item(collector.name, content, time.monotonic() - begun, problem)


def _content(collector: collectors.Collector) -> tuple[bytes, str]:
    if collector.command:
        return _output(collector)
    if collector.file:
        with Path(collector.file).open("rb") as file:
            return file.read(collectors.LIMIT), ""
    section, _, path = collector.address.partition(":")
    # That of the running process, whatever is the current one.
    config = json.loads(Path(f"/proc/{service.state().pid}/cwd/config.json").read_text())
    answer = probes.ask(
        config[section]["host"],
        config[section]["port"],
        path,
        seconds=collector.seconds,
        tls=section == "server" and probes.secured(config),
    )
    if answer is None:
        return b"", "no answer"
    return answer[1][: collectors.LIMIT], "" if answer[0] == 200 else f"status {answer[0]}"


def _output(collector: collectors.Collector) -> tuple[bytes, str]:
    process = subprocess.Popen(
        collector.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        output, errors = process.communicate(timeout=collector.seconds)
    except subprocess.TimeoutExpired as expired:
        process.kill()
        return (expired.stdout or b"")[-collectors.LIMIT :], f"no end within {collector.seconds:g} s"
    words = errors.decode(errors="replace").strip()[-200:]
    return output[-collectors.LIMIT :], f"status {process.returncode}: {words}" if process.returncode else ""


def main() -> None:
    """Collect everything at once and send it."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    with ThreadPoolExecutor(len(collectors.VOLATILE)) as pool:
        items = list(pool.map(collect, collectors.VOLATILE))
    packed: list[dict[str, Any]] = [
        {
            "name": item.name,
            "content": base64.b64encode(zlib.compress(item.content)).decode(),
            "seconds": item.seconds,
            "problem": item.problem,
        }
        for item in items
    ]
    module.exit_json(changed=False, at=history.now(), packed=packed)


if __name__ == "__main__":
    main()
