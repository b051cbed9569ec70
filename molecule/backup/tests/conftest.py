"""Two hosts, each with a repository: one on its own disk, one over SFTP on the other host."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra

from lab import paths
from tests import fleet

FIRST, SECOND = "katago-1", "katago-2"
STATE = "/var/lib/katago-backup/state.json"
INVENTORY = str(paths.ROOT / "inventories" / "lab")


def on(name: str) -> Any:
    """Connect to a host of the lab."""
    return testinfra.get_host(f"ansible://{name}", ansible_inventory=INVENTORY)


@dataclass(frozen=True)
class Vault:
    """The repositories' secrets, and a file of Ansible variables that contains them."""

    password: str
    key: str
    file: Path

    def play(
        self, playbook: str, *arguments: str, kill_before: int | None = None, **variables: Any
    ) -> fleet.Run:
        """Run a playbook with these variables."""
        # If a variable is set twice, the last value wins.
        options = (f"--extra-vars=@{self.file}", f"--extra-vars={json.dumps(variables)}")
        return fleet.play(playbook, *options, *arguments, kill_before=kill_before)


@pytest.fixture(scope="session")
def hosts() -> dict[str, Any]:
    """Both hosts by name."""
    return {name: on(name) for name in (FIRST, SECOND)}


@pytest.fixture(scope="session")
def vault(hosts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Vault:
    """Create an SFTP-only user on the second host, and the variables with each host's repository."""
    directory = tmp_path_factory.mktemp("vault")
    key = directory / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "backup", "-f", str(key)], check=True
    )
    public = key.with_suffix(".pub").read_text().strip()
    host = hosts[SECOND]
    host.check_output(
        "id vault || useradd --create-home --shell /usr/sbin/nologin vault;"
        " install -d -o vault -m 700 /home/vault/.ssh /srv/vault;"
        f" echo '{public}' > /home/vault/.ssh/authorized_keys; chown vault /home/vault/.ssh/authorized_keys;"
        " printf 'Match User vault\\n ForceCommand internal-sftp\\n' > /etc/ssh/sshd_config.d/vault.conf;"
        " systemctl restart ssh.service"
    )
    for each in hosts.values():
        # The machine runs other work, which would starve a program with a low priority.
        each.check_output(
            "mkdir -p /etc/systemd/system/katago-backup.service.d && printf '[Service]\\nNice=0\\n"
            "IOSchedulingClass=best-effort\\n' > /etc/systemd/system/katago-backup.service.d/lab.conf"
        )
    kind, value = host.check_output("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
    password = secrets.token_urlsafe(24)
    file = directory / "variables.json"
    file.touch(mode=0o600)
    local = f"inventory_hostname == '{SECOND}'"
    repository = f"{{{{ '/srv/katago' if {local} else 'sftp:vault@{SECOND}:/srv/vault/katago' }}}}"
    file.write_text(
        json.dumps(
            {
                "backup_repository": repository,
                "backup_password": password,
                "backup_ssh_private_key": key.read_text(),
                "backup_ssh_known_hosts": f"{SECOND} {kind} {value}",
                "backup_lock_wait": 8,
            }
        )
    )
    return Vault(password, key.read_text(), file)


def state(host: Any) -> dict[str, Any]:
    """The recorded state of a host's backups."""
    content: dict[str, Any] = json.loads(host.check_output(f"cat {STATE}"))
    return content


def run_unit(host: Any) -> tuple[int, dict[str, Any]]:
    """Start the unit as the timer does. Returns its exit status and the recorded outcome."""
    done = host.run("systemctl start katago-backup.service")
    last_run: dict[str, Any] = state(host)["last_run"]
    return done.rc, last_run


@pytest.fixture
def changed_file(hosts: dict[str, Any]) -> Any:
    """Changes a file on the second host, and restores it after the test."""
    undo: list[str] = []

    def change(path: str, sed: str) -> None:
        hosts[SECOND].check_output(f"cp --preserve {path} {path}.kept && sed --in-place '{sed}' {path}")
        undo.append(f"mv {path}.kept {path}")

    yield change
    for command in undo:
        hosts[SECOND].check_output(command)


FLIP = """
import os, pathlib, shutil, sys
path = pathlib.Path(sys.argv[1])
content = bytearray(path.read_bytes())
place = int(sys.argv[2]) % len(content)
content[place] ^= 0x01
# Write a new file and rename it, because a running program cannot be written to.
scratch = path.with_name(path.name + ".flipped")
shutil.copy2(path, scratch)
os.chown(scratch, path.stat().st_uid, path.stat().st_gid)
scratch.write_bytes(content)
scratch.rename(path)
"""


@pytest.fixture(scope="session")
def flip(hosts: dict[str, Any]) -> Callable[[Any, str, int], None]:
    """Flips one bit of one byte of a file, and checks that the file changed."""

    def do(host: Any, path: str, place: int) -> None:
        before = host.file(path).sha256sum
        host.run_expect([0], f"python3 - {path} {place} <<'END'\n{FLIP}\nEND")
        assert host.file(path).sha256sum != before

    return do
