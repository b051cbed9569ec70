#!/usr/bin/python
"""Configures Prometheus, Alertmanager, the blackbox exporter and the prober on a monitoring host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: monitoring_config
short_description: Configure the programs of a monitoring host from the inventory
description:
  - Targets are all hosts of the groups C(katago), C(load_balancer) and C(monitoring), also those that were
    not set up yet. What the inventory has is also written as metrics, so that a missing target is an alert.
  - Writes all files into a directory of their own, has C(promtool), C(amtool) and the blackbox exporter check
    them, and only then switches to it. A configuration that is rejected changes nothing.
  - Prometheus trusts the certificates that the hosts of this run have reported in C(monitoring_certificate),
    and those that it knows from earlier runs.
options:
  token:
    description: The token of the gateways of all hosts, at least 32 characters.
    type: raw
    required: true
  receivers:
    description: Who is notified; C(name), C(severities), and channels in Alertmanager's own format.
    type: raw
    default: []
  channels:
    description:
      - Which channels of C(incident_channels) are notified; C(group), C(severities), and C(channel), which is
        every channel of the group without it.
      - What Alertmanager cannot do, such as writing a file, is refused.
    type: raw
    default: []
  incident_channels:
    description: The groups of channels of incidents, as in the role C(incident).
    type: raw
    default: []
  heartbeat_url:
    description: The URL that Alertmanager calls each minute as long as monitoring works; empty for none.
    type: str
    default: ""
  reference:
    description: Where people find the reference of alerts, a path or a URL.
    type: str
    default: docs/reference/alerts.md
  fleet:
    description: The name of the fleet, which all alerts have as a label.
    type: str
    default: katago
  prometheus_port:
    description: Prometheus' port on the loopback interface.
    type: int
    default: 9095
  alertmanager_port:
    description: Alertmanager's port on the loopback interface.
    type: int
    default: 9093
  blackbox_port:
    description: The blackbox exporter's port on the loopback interface.
    type: int
    default: 9115
  prober_port:
    description: The prober's port on the loopback interface.
    type: int
    default: 9177
  probe_interval:
    description: Seconds between two probes of a host.
    type: int
    default: 30
  healing_port:
    description:
      - The port on the loopback interface at which the program that repairs the fleet gets alerts.
      - 0 if the fleet is not repaired from this host.
    type: int
    default: 0
  healing_token:
    description: The token for C(healing_port).
    type: raw
    default: ""
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Configure Prometheus and Alertmanager
  katago.fleet.monitoring_config:
    token: "{{ monitoring_token }}"
"""

RETURN = r"""
targets:
  description: The number of monitored hosts.
  type: int
  returned: success
unknown:
  description: Monitored hosts whose certificate is not known, because they were never set up.
  type: list
  elements: str
  returned: success
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import commands, digest, directories, files

CHECK_SECONDS = 60
CERTIFICATES, MONITORS = "exporters.pem", "monitors.pem"
# Alertmanager's file may have passwords of channels, and those of incidents have files of their own.
SECRET = re.compile(r"alertmanager\.yml|secrets/.+")
TOKEN, PROBE_TOKEN = "token", "probe_token"
CHECKS: tuple[tuple[str, ...], ...] = (
    ("/usr/bin/promtool", "check", "config", "--syntax-only", "prometheus.yml"),
    ("/usr/bin/promtool", "check", "rules", "rules.yml"),
    ("/usr/bin/amtool", "check-config", "alertmanager.yml"),
    ("/usr/bin/prometheus-blackbox-exporter", "--config.check", "--config.file=blackbox.yml"),
)


def with_certificates(
    configured: Mapping[str, str],
    given: Mapping[str, str],
    known: Mapping[str, str],
    hosts: list[str],
    monitors: Sequence[str] = (),
) -> tuple[dict[str, str], list[str]]:
    """The files with the certificates of all gateways, and the hosts whose certificate is not known.

    `given`: those of this run. `known`: those of earlier runs. `monitors`: the monitoring hosts.
    """
    found = {host: given.get(host) or known.get(host) or "" for host in hosts}
    kept = {f"certificates/{host}.pem": pem for host, pem in found.items() if pem}
    unknown = [host for host, pem in found.items() if not pem]
    of_monitors = "".join(found.get(host, "") for host in monitors)
    joined = {CERTIFICATES: "".join(kept.values()), MONITORS: of_monitors}
    return {**configured, **kept, **joined}, unknown


def known_certificates(directory: Path) -> dict[str, str]:
    """The certificates in a configuration, by host."""
    return {path.stem: path.read_text() for path in directory.glob("certificates/*.pem")}


def rejected(directory: Path, checks: tuple[tuple[str, ...], ...] = CHECKS) -> str:
    """What the programs say against the configuration in a directory; empty if they accept it."""
    for command in checks:
        located = [str(directory / word) if (directory / word).is_file() else word for word in command]
        located = [
            f"--config.file={directory / word.partition('=')[2]}"
            if word.startswith("--config.file=")
            else word
            for word in located
        ]
        status, output = commands.ask(located, CHECK_SECONDS)
        if status:
            return f"{Path(command[0]).name}: {' '.join(output.split())[-600:]}"
    return ""


def write(directory: Path, content: Mapping[str, str]) -> None:
    """Write the files of a configuration into a new directory."""
    shutil.rmtree(directory, ignore_errors=True)
    for name, text in content.items():
        path = directory / name
        directories.make(path.parent, own=directory.parent)
        files.write(path, text.encode(), mode=0o600 if SECRET.fullmatch(name) else 0o644)


def is_intact(directory: Path, content: Mapping[str, str]) -> bool:
    """Whether a directory has exactly these files."""
    try:
        found = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
        return found == content.keys() and all(
            (directory / name).read_text() == text for name, text in content.items()
        )
    except OSError:
        return False


def switch(root: Path, directory: Path) -> None:
    """Make `current` the link to a configuration, and remove the others."""
    files.link(root / "current", str(directory.relative_to(root)))
    for other in directory.parent.iterdir():
        if other != directory:
            shutil.rmtree(other)


def differs(path: Path, text: str, mode: int) -> bool:
    """Whether a file has another content or mode."""
    try:
        return path.read_text() != text or path.stat().st_mode & 0o777 != mode
    except OSError:
        return True


def others(parameters: Mapping[str, Any], root: Path) -> dict[Path, tuple[str, int]]:
    """The files outside of the checked configuration: content and mode by path."""
    return {
        root / TOKEN: (f"{parameters['token']}\n", 0o600),
        root / PROBE_TOKEN: (f"{parameters['probe_token']}\n", 0o600),
        paths.PROBER_ORDER: (parameters["order"], 0o644),
        paths.INVENTORY_METRICS: (parameters["inventory"], 0o644),
    }


def main() -> None:
    """Check the configuration, write it and switch to it."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "dict", "required": True, "no_log": True},
            "hosts": {"type": "list", "elements": "str", "required": True},
            "monitors": {"type": "list", "elements": "str", "required": True},
            "certificates": {"type": "dict", "default": {}},
            "token": {"type": "raw", "required": True, "no_log": True},
            "probe_token": {"type": "raw", "required": True, "no_log": True},
            "order": {"type": "raw", "required": True},
            "inventory": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    given, root = module.params, paths.MONITORING
    current = root / "current"
    content, unknown = with_certificates(
        given["files"], given["certificates"], known_certificates(current), given["hosts"], given["monitors"]
    )
    directory = root / "configs" / digest.of_json(content)[:16]
    changed_files = [path for path, (text, mode) in others(given, root).items() if differs(path, text, mode)]
    is_current = current.resolve() == directory and is_intact(directory, content)
    result = {
        "changed": bool(changed_files) or not is_current,
        "targets": len(given["hosts"]),
        "unknown": unknown,
    }
    if module.check_mode or not result["changed"]:
        module.exit_json(**result)
    try:
        directories.make(root, own=root)
        if not is_current:
            write(directory, content)
            if problem := rejected(directory):
                shutil.rmtree(directory)
                module.fail_json(msg=f"Refused; the configuration was not changed. {problem}", refused=True)
        for path in changed_files:
            text, mode = others(given, root)[path]
            files.write(path, text.encode(), mode=mode)
        switch(root, directory)
    except OSError as error:
        module.fail_json(msg=f"The configuration was not changed completely: {error}. Run again.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
