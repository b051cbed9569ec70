#!/usr/bin/python
"""Tries a release beside the running service, before it is switched to."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_trial
short_description: Try a release before it is switched to
description:
  - Runs the release's own C(katago-mcp validate) as the service's user in the service's sandbox.
    It checks the configuration, starts a second engine with small caches, and analyses once.
  - Deferred to the validation after the switch, with the reason, where memory does not allow a
    second engine. The configuration is checked all the same.
  - A release that the service runs already is not tried again.
options:
  release:
    description: The release's name.
    type: str
    required: true
  user:
    description: The service's user.
    type: str
    required: true
  tokens:
    description: The tokens that the service will have; name, scopes, sha256.
    type: list
    elements: dict
    required: true
  certificate:
    description: The certificate that the service will have, in PEM; empty without TLS.
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
    description: Memory in MB that a second engine takes.
    type: int
    required: true
  deadline:
    description: Seconds after which the trial counts as failed.
    type: int
    default: 120
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The release works beside the running one
  katago.fleet.release_trial:
    release: 0.1.0-2f6a9c0d1e3b
    user: katago-mcp
    tokens: "{{ katago_mcp_tokens | katago.fleet.hashed_tokens }}"
    sandbox: "{{ katago_sandbox }}"
    memory_needed_mb: 600
"""

RETURN = r"""
checks:
  description: What was checked; name, ok, message, seconds.
  type: list
  elements: dict
  returned: when it was tried
deferred:
  description: Why no second engine was started.
  type: str
  returned: when it was not
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import files, systemd_run
from ansible_collections.katago.fleet.plugins.module_utils.release import capacity, layout
from ansible_collections.katago.fleet.plugins.module_utils.service import unit

UNIT = "katago-mcp-trial.service"
# The credentials that the service has are not touched before the switch.
CREDENTIALS = Path("/run/katago-mcp-trial")


def credentials(parameters: dict[str, Any]) -> dict[str, str]:
    """What the service will be handed: the content of each credential."""
    found = {}
    if parameters["tokens"]:
        found[paths.TOKENS] = json.dumps({"tokens": parameters["tokens"]})
    if parameters["certificate"]:
        found |= {paths.CERTIFICATE: parameters["certificate"], paths.KEY: parameters["key"]}
    return found


def command(parameters: dict[str, Any], directory: Path, *, engine: bool) -> list[str]:
    """The trial's command line, in the sandbox."""
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
            unit.HANDED_TOKENS,
        ],
        "LoadCredential": [f"{name}:{CREDENTIALS / name}" for name in credentials(parameters)],
        "RuntimeMaxSec": str(parameters["deadline"]),
    }
    argv = [str(directory / "venv" / "bin" / "katago-mcp"), "validate", "--json"]
    argv += ["--config", str(directory / "config.json"), *([] if engine else ["--no-engine"])]
    return systemd_run.command(directives, argv, unit=UNIT)


def main() -> None:
    """Try the release and pass its own verdict on."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "str", "required": True},
            "user": {"type": "str", "required": True},
            "tokens": {"type": "list", "elements": "dict", "required": True, "no_log": False},
            "certificate": {"type": "str", "default": ""},
            "key": {"type": "str", "default": "", "no_log": True},
            "sandbox": {"type": "dict", "required": True},
            "memory_needed_mb": {"type": "int", "required": True},
            "deadline": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    release = parameters["release"]
    directory = layout.Layout(paths.RELEASE_ROOT).release(release)
    now = unit.state()
    if now.active == "active" and unit.running_release(now.pid) == release:
        module.exit_json(changed=False, deferred="the service runs this release already")
    if module.check_mode:
        module.exit_json(changed=False, deferred="check mode")
    deferred = capacity.reason_to_defer(parameters["memory_needed_mb"])
    # What a run whose connection was lost left behind.
    subprocess.run(["systemctl", "stop", UNIT], check=False, capture_output=True)
    shutil.rmtree(CREDENTIALS, ignore_errors=True)
    CREDENTIALS.mkdir(mode=0o700)
    try:
        for name, content in credentials(parameters).items():
            files.write(CREDENTIALS / name, content.encode(), mode=0o600)
        tried = subprocess.run(
            command(parameters, directory, engine=deferred is None),
            capture_output=True,
            text=True,
            timeout=parameters["deadline"] + 10,
            check=False,
        )
        report = json.loads(tried.stdout)
        failed = [check for check in report["checks"] if not check["ok"]]
        problems = [f"- {check['name']}: {check['message']}" for check in failed]
        ok = report["ok"] and not failed and tried.returncode == 0
    except subprocess.TimeoutExpired:
        problems, ok = [f"- no answer within {parameters['deadline']} s"], False
    except (ValueError, KeyError, TypeError):
        words = (tried.stderr or tried.stdout).strip().splitlines()[-5:]
        problems, ok = [f"- it does not run: {' '.join(words)}"], False
    finally:
        shutil.rmtree(CREDENTIALS)
    if not ok:
        module.fail_json(
            msg="\n".join(
                [
                    f"The release {release} does not work. Nothing was switched; what runs was not touched.",
                    *problems,
                ]
            )
        )
    module.exit_json(changed=False, checks=report["checks"], **({"deferred": deferred} if deferred else {}))


if __name__ == "__main__":
    main()
