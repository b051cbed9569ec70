#!/usr/bin/python
"""Writes the address and the credentials of the backup repository to a host, readable by root only."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_access
short_description: Store the address and the credentials of the backup repository
description:
  - Writes C(repository), C(password), C(environment), C(ssh_key) and C(known_hosts) into a directory that
    only root can read. systemd passes them to the backup's unit. A file whose option is empty is removed.
  - To use restic by hand, run
    C(restic --repository-file /etc/katago-backup/repository --password-file /etc/katago-backup/password).
  - New values are tested before they replace the old ones. If they do not open the repository, nothing is
    replaced.
  - Results, diffs and errors contain no values.
options:
  repository:
    description: The repository in restic's syntax. It may contain a password.
    type: raw
    required: true
  password:
    description: The repository's password.
    type: raw
    required: true
  environment:
    description: Additional environment variables for restic, such as C(AWS_SECRET_ACCESS_KEY).
    type: raw
    default: {}
  ssh_private_key:
    description: The private key for an SFTP repository.
    type: raw
    default: ""
  ssh_known_hosts:
    description: The known_hosts lines of an SFTP repository's host. If empty, root's own known_hosts is used.
    type: str
    default: ""
  existing:
    description:
      - Fail if there is no repository at the address. The repository is then also tested if nothing changes.
      - If false, an address without a repository is accepted, so that one can be created there.
    type: bool
    default: false
  directory:
    description: The directory on the host.
    type: path
    default: /etc/katago-backup
author: The katago-mcp-fleet maintainers
"""

EXAMPLES = r"""
- name: Store the repository's address and credentials
  katago.fleet.backup_access:
    repository: "{{ backup_repository }}"
    password: "{{ backup_password }}"
"""

RETURN = r"""
files:
  description: The names of the files in the directory.
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
from ansible_collections.katago.fleet.plugins.module_utils.common import directories
from ansible_collections.katago.fleet.plugins.module_utils.common import files as common_files

MODE = 0o600
SHORTEST_PASSWORD = 12


def problems(parameters: Mapping[str, Any]) -> list[str]:
    """The problems with the parameters. No message contains a value."""
    environment = parameters["environment"]
    found = [
        f"backup_{name} must be a text."
        for name in ("repository", "password", "ssh_private_key")
        if not isinstance(parameters[name], str)
    ]
    if found:
        return found
    if not parameters["repository"].strip():
        found.append(
            "backup_repository is empty, so this host has no backups. Set it to a repository in restic's"
            " syntax. Without backups, `ansible-playbook playbooks/deploy.yml` rebuilds a damaged release."
        )
    if len(parameters["password"].strip()) < SHORTEST_PASSWORD:
        found.append(f"backup_password must have {SHORTEST_PASSWORD} or more characters.")
    if not isinstance(environment, Mapping) or any("\n" in str(value) for value in environment.values()):
        found.append("backup_environment must be a mapping of names to values without line breaks.")
    return found


def files(parameters: Mapping[str, Any]) -> dict[str, str]:
    """The content of each file, by name. Empty content means that the file must not exist."""

    def with_newline(text: str) -> str:
        return f"{text.rstrip()}\n" if text.strip() else ""

    environment = "".join(f"{name}={value}\n" for name, value in sorted(parameters["environment"].items()))
    return {
        paths.RESTIC_REPOSITORY: with_newline(parameters["repository"]),
        paths.RESTIC_PASSWORD: with_newline(parameters["password"]),
        paths.RESTIC_ENVIRONMENT: environment,
        paths.RESTIC_SSH_KEY: with_newline(parameters["ssh_private_key"]),
        paths.RESTIC_KNOWN_HOSTS: with_newline(parameters["ssh_known_hosts"]),
    }


def is_up_to_date(path: Path, content: str) -> bool:
    """Whether a file has this content and mode 0600, or, for empty content, does not exist."""
    if not path.exists():
        return not content
    return bool(content) and path.stat().st_mode & 0o777 == MODE and path.read_text() == content


def access_problem(contents: Mapping[str, str], *, existing: bool, place: Path) -> str:
    """Why these files do not open the repository; empty if they do.

    Without `existing`, an address without a repository is not a problem. `place`: where they lie meanwhile;
    `/tmp` may be full. Raises OSError if they cannot be written there.
    """
    with tempfile.TemporaryDirectory(prefix=".katago-backup-", dir=place) as directory:
        for name, content in contents.items():
            if content:
                common_files.write(Path(directory, name), content.encode(), mode=MODE)
        try:
            restic.Repository(Path(directory), cache=None).probe()
        except restic.ResticError as error:
            if error.kind == "absent":
                address = restic.redacted_address(contents[paths.RESTIC_REPOSITORY].strip())
                return f"{address}: {error}" if existing else ""
            return str(error)
    return ""


def main() -> None:
    """Write the files that differ, and remove those without content."""
    module = AnsibleModule(
        argument_spec={
            # Raw, because Ansible's error for a wrong type quotes the value.
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
    refused = "Refused; the stored access was not changed."
    if invalid := problems(module.params):
        module.fail_json(msg=f"{refused} {' '.join(invalid)} See docs/backup.md for examples.", refused=True)
    address = module.params["repository"]
    if restic.redacted_address(address) == address:
        # The address contains no secret, and messages must be able to name the repository.
        module.no_log_values.discard(address)
    contents = files(module.params)
    wrong_mode = directories.make(directory, own=directory, mode=directories.PRIVATE, check=True)
    differing = {name: text for name, text in contents.items() if not is_up_to_date(directory / name, text)}
    existing = module.params["existing"]
    is_tested = (differing or existing) and shutil.which("restic")
    try:
        problem = access_problem(contents, existing=existing, place=directory.parent) if is_tested else ""
    except OSError as error:
        problem = (
            f"the credentials cannot be tested in {directory.parent}: {error.strerror}. Free space there"
        )
    if problem:
        module.fail_json(
            msg=f"{refused} The backup repository cannot be opened: {problem}",
            refused=True,
        )
    if not module.check_mode and (wrong_mode or differing):
        directories.make(directory, own=directory, mode=directories.PRIVATE)
        for name, content in differing.items():
            if content:
                common_files.write(directory / name, content.encode(), mode=MODE)
            else:
                (directory / name).unlink()
    module.exit_json(
        changed=wrong_mode or bool(differing), files=[name for name, text in contents.items() if text]
    )


if __name__ == "__main__":
    main()
