#!/usr/bin/python
"""Runs the pre-flight validation of a release beside the running service, before the switch."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_trial
short_description: Validate a release before the switch
description:
  - Runs the release's own C(katago-mcp validate) as the service's user, in the service's sandbox. It checks
    the configuration, starts a second engine with small caches, and analyses one position.
  - If memory does not allow a second engine, only the configuration is checked. The rest is deferred to the
    validation after the switch; the module returns the reason.
  - Stops when there is no progress for a while, not after a fixed time. A busy host only makes it slower.
  - Does nothing for a release that the service already runs.
options:
  release:
    description: The name of the release.
    type: str
    required: true
  user:
    description: The service's user.
    type: str
    required: true
  tokens:
    description: The tokens of the service after the switch; name, scopes, sha256.
    type: list
    elements: dict
    required: true
  certificate:
    description: The certificate of the service after the switch, in PEM; empty without TLS.
    type: str
    default: ""
  key:
    description: The certificate's key, in PEM.
    type: str
    default: ""
  sandbox:
    description: The systemd directives of the sandbox.
    type: dict
    required: true
  memory_needed_mb:
    description: Memory in MB that a second engine needs.
    type: int
    required: true
  patience:
    description:
      - Seconds without progress after which the pre-flight validation is stopped.
      - Progress is a line of output, processor time, or waiting for a processor.
      - Must be longer than the server itself waits for its engine.
    type: int
    default: 120
  deadline:
    description: Seconds after which the pre-flight validation is stopped, even if it makes progress.
    type: int
    default: 7800
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Validate the release beside the running service
  katago.fleet.release_trial:
    release: 0.1.0-2f6a9c0d1e3b
    user: katago-mcp
    tokens: "{{ katago_mcp_tokens | katago.fleet.hashed_tokens }}"
    sandbox: "{{ katago_sandbox }}"
    memory_needed_mb: 600
"""

RETURN = r"""
checks:
  description: The checks; name, ok, message, seconds.
  type: list
  elements: dict
  returned: when the validation ran
deferred:
  description: Why no second engine was started.
  type: str
  returned: when no second engine was started
"""

import json
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    directories,
    files,
    redaction,
    shape,
    systemd_run,
    transient_unit,
)
from ansible_collections.katago.fleet.plugins.module_utils.release import capacity, layout
from ansible_collections.katago.fleet.plugins.module_utils.service import credentials as service_credentials
from ansible_collections.katago.fleet.plugins.module_utils.service import unit, validate_report

UNIT = "katago-mcp-trial.service"
# The service's own credentials are not touched before the switch.
CREDENTIALS = Path("/run/katago-mcp-trial")
SPARE_SECONDS = 60


def credentials(parameters: dict[str, Any]) -> dict[str, str]:
    """The credentials of the service after the switch: name to content."""
    contents = {}
    if parameters["tokens"]:
        contents[paths.TOKENS] = json.dumps({"tokens": parameters["tokens"]})
    if parameters["certificate"]:
        contents |= {paths.CERTIFICATE: parameters["certificate"], paths.KEY: parameters["key"]}
    return contents


def command(parameters: dict[str, Any], directory: Path, *, engine: bool) -> list[str]:
    """The command line of the pre-flight validation, in the sandbox."""
    directives = {
        **parameters["sandbox"],
        "User": parameters["user"],
        "Group": parameters["user"],
        "WorkingDirectory": str(directory),
        "StateDirectory": "katago-mcp/engine",
        "CacheDirectory": "katago-mcp",
        "Environment": [
            *parameters["sandbox"].get("Environment", ()),
            "POCL_CACHE_DIR=/var/cache/katago-mcp/pocl",
            service_credentials.HANDED_TOKENS,
        ],
        "LoadCredential": [f"{name}:{CREDENTIALS / name}" for name in credentials(parameters)],
        # Longer than this module waits; it ends the unit if the module was killed.
        "RuntimeMaxSec": str(parameters["deadline"] + SPARE_SECONDS),
    }
    argv = [str(directory / "venv" / "bin" / "katago-mcp"), "validate", "--json", "--verbose"]
    argv += ["--config", str(directory / "config.json"), *([] if engine else ["--no-engine"])]
    return systemd_run.command(directives, argv, unit=UNIT, collect=False)


def judged(tried: transient_unit.Run) -> tuple[list[validate_report.Check], list[str]]:
    """The checks that the validation made, and its problems; no problems mean that it passed."""
    try:
        report = validate_report.parse(tried.output)
    except shape.ShapeError:
        return [], [f"- validation: {tried.words(redaction.plain)}"]
    problems = [f"- {validate_report.as_words(check)}" for check in validate_report.failed(report)]
    if not problems and not (report["ok"] and tried.status == 0):
        problems = [f"- validation: {tried.words(redaction.plain)}"]
    return report["checks"], problems


def main() -> None:
    """Validate the release and report its own verdict."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "str", "required": True},
            "user": {"type": "str", "required": True},
            "tokens": {"type": "list", "elements": "dict", "required": True, "no_log": False},
            "certificate": {"type": "str", "default": ""},
            "key": {"type": "str", "default": "", "no_log": True},
            "sandbox": {"type": "dict", "required": True},
            "memory_needed_mb": {"type": "int", "required": True},
            "patience": {"type": "int", "default": 120},
            "deadline": {"type": "int", "default": 7800},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    release = parameters["release"]
    directory = layout.Layout(paths.RELEASE_ROOT).release(release)
    now = unit.state()
    if now.active == "active" and unit.running_release(now.pid) == release:
        module.exit_json(changed=False, deferred="the service already runs this release")
    if module.check_mode:
        module.exit_json(changed=False, deferred="check mode")
    deferred = capacity.reason_to_defer(parameters["memory_needed_mb"])
    # Remove what a run with a lost connection may have left.
    transient_unit.clear(UNIT)
    shutil.rmtree(CREDENTIALS, ignore_errors=True)
    directories.make(CREDENTIALS, own=CREDENTIALS, mode=directories.PRIVATE)
    try:
        for name, content in credentials(parameters).items():
            files.write(CREDENTIALS / name, content.encode(), mode=0o600)
        tried = transient_unit.watched(
            command(parameters, directory, engine=deferred is None),
            UNIT,
            patience=parameters["patience"],
            deadline=parameters["deadline"],
        )
    finally:
        shutil.rmtree(CREDENTIALS)
    checks, problems = judged(tried)
    if problems:
        module.fail_json(
            msg="\n".join(
                [
                    f"The release {release} does not work. No release was switched; the running service was"
                    " not touched.",
                    *problems,
                ]
            )
        )
    module.exit_json(changed=False, checks=checks, **({"deferred": deferred} if deferred else {}))


if __name__ == "__main__":
    main()
