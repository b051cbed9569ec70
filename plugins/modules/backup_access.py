#!/usr/bin/python
"""Keeps what opens the backup repository on a host, for root alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_access
short_description: Keep the address and the secrets of the backup repository
description:
  - Writes C(repository), C(password), C(environment), C(ssh_key) and C(known_hosts) into a
    directory of root's, which systemd hands to the backup's unit. What is not given is not there.
  - restic can be used with them by hand, as
    C(restic --repository-file /etc/katago-backup/repository --password-file /etc/katago-backup/password).
  - New ones are tried before they replace what is there. Where they do not open the repository,
    nothing is replaced.
  - No value is in the result, in a diff or in an error.
options:
  repository:
    description: The repository in restic's own syntax; it may hold a password.
    type: raw
    required: true
  password:
    description: The repository's password.
    type: raw
    required: true
  environment:
    description: Further environment of restic, such as C(AWS_SECRET_ACCESS_KEY).
    type: raw
    default: {}
  ssh_private_key:
    description: The private key for an SFTP repository.
    type: raw
    default: ""
  ssh_known_hosts:
    description: The known_hosts lines of an SFTP repository's host; root's own are used when it is empty.
    type: str
    default: ""
  existing:
    description:
      - Refuse an address where there is no repository, and look at it also when nothing is to be written.
      - Without it such an address is taken, for a repository to be made there.
    type: bool
    default: false
  directory:
    description: Where they are kept on the host.
    type: path
    default: /etc/katago-backup
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: The repository's address and secrets are in place
  katago.fleet.backup_access:
    repository: "{{ backup_repository }}"
    password: "{{ backup_password }}"
"""

RETURN = r"""
files:
  description: The names of the files that are kept.
  type: list
  elements: str
  returned: always
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.backup import restic
from ansible_collections.katago.fleet.plugins.module_utils.common import files as common_files

MODE = 0o600
SHORTEST_PASSWORD = 12


def problems(parameters: Mapping[str, Any]) -> list[str]:
    """What is wrong with what was given; no message has a value."""
    environment = parameters["environment"]
    wrong = [
        f"backup_{name} must be a text."
        for name in ("repository", "password", "ssh_private_key")
        if not isinstance(parameters[name], str)
    ]
    if wrong:
        return wrong
    if not parameters["repository"].strip():
        wrong.append("backup_repository is empty; it must be a repository in restic's own syntax.")
    if len(parameters["password"].strip()) < SHORTEST_PASSWORD:
        wrong.append(f"backup_password must have {SHORTEST_PASSWORD} or more characters.")
    if not isinstance(environment, Mapping) or any("\n" in str(value) for value in environment.values()):
        wrong.append("backup_environment must be a mapping of names to single lines.")
    return wrong


def files(parameters: Mapping[str, Any]) -> dict[str, str]:
    """The files by name with their content; an empty one is one that should not be there."""

    def ended(text: str) -> str:
        return f"{text.rstrip()}\n" if text.strip() else ""

    environment = "".join(f"{name}={value}\n" for name, value in sorted(parameters["environment"].items()))
    return {
        paths.RESTIC_REPOSITORY: ended(parameters["repository"]),
        paths.RESTIC_PASSWORD: ended(parameters["password"]),
        paths.RESTIC_ENVIRONMENT: environment,
        paths.RESTIC_SSH_KEY: ended(parameters["ssh_private_key"]),
        paths.RESTIC_KNOWN_HOSTS: ended(parameters["ssh_known_hosts"]),
    }


def is_kept(path: Path, content: str) -> bool:
    """Whether a file is as it should be: that content for root alone, or not there."""
    if not path.exists():
        return not content
    return bool(content) and path.stat().st_mode & 0o777 == MODE and path.read_text() == content


def trouble(wanted: Mapping[str, str], *, existing: bool) -> str:
    """Why these do not open the repository; empty when they do.

    Unless it is to be an `existing` one, none to be opened yet is no trouble.
    """
    with tempfile.TemporaryDirectory(prefix="katago-backup-") as directory:
        for name, content in wanted.items():
            if content:
                common_files.write(Path(directory, name), content.encode(), mode=MODE)
        try:
            restic.Repository(Path(directory), cache=None).probe()
        except restic.ResticError as error:
            if error.kind == "absent":
                address = restic.shown(wanted[paths.RESTIC_REPOSITORY].strip())
                return f"{address}: {error}" if existing else ""
            return str(error)
    return ""


def main() -> None:
    """Write what differs, remove what is not given."""
    module = AnsibleModule(
        argument_spec={
            # Raw, since a value of the wrong type would be told in the error.
            "repository": {"type": "raw", "required": True, "no_log": True},
            "password": {"type": "raw", "required": True, "no_log": True},
            "environment": {"type": "raw", "default": {}, "no_log": True},
            "ssh_private_key": {"type": "raw", "default": "", "no_log": True},
            "ssh_known_hosts": {"type": "str", "default": ""},
            "existing": {"type": "bool", "default": False},
            "directory": {"type": "path", "default": str(paths.BACKUP_SECRETS)},
        },
        supports_check_mode=True,
    )
    directory = Path(module.params["directory"])
    refused = "Refused; what was there was not touched."
    if wrong := problems(module.params):
        module.fail_json(msg=f"{refused} {' '.join(wrong)} docs/backup.md has examples.", refused=True)
    address = module.params["repository"]
    if restic.shown(address) == address:
        # Nothing in it is secret, and a message that hides it could not say which repository is meant.
        module.no_log_values.discard(address)
    wanted = files(module.params)
    wrong_mode = not directory.is_dir() or directory.stat().st_mode & 0o777 != 0o700
    differing = {name: text for name, text in wanted.items() if not is_kept(directory / name, text)}
    existing = module.params["existing"]
    looked_at = (differing or existing) and shutil.which("restic")
    if looked_at and (words := trouble(wanted, existing=existing)):
        module.fail_json(
            msg=f"{refused} The backup repository cannot be opened: {words}",
            refused=True,
        )
    if not module.check_mode and (wrong_mode or differing):
        directory.mkdir(exist_ok=True)
        directory.chmod(0o700)
        for name, content in differing.items():
            if content:
                common_files.write(directory / name, content.encode(), mode=MODE)
            else:
                (directory / name).unlink()
    module.exit_json(
        changed=wrong_mode or bool(differing), files=[name for name, text in wanted.items() if text]
    )


if __name__ == "__main__":
    main()
