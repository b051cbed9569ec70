"""Two hosts. The first is removed and replaced; the second has the repository of its backups."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.removal import parts
from tests import fleet, hosts

FIRST, SECOND = "katago-1", "katago-2"

# Everything on the host's disks, and what of ours may be in memory. Without what every run of Ansible, APT,
# the journal and systemd itself change.
SNAPSHOT = r"""
import hashlib, os, stat, subprocess
elsewhere = (
    *("/proc", "/sys", "/dev", "/tmp", "/var/tmp", "/root", "/srv", "/var/log", "/var/lib/apt"),
    *("/var/cache/apt", "/var/cache/ldconfig", "/run/user", "/run/log", "/run/udev", "/run/sshd"),
    *("/run/lock", "/run/dbus", "/run/credentials", "/etc/.pwd.lock", "/var/lib/systemd/random-seed"),
    *(f"/run/systemd/{name}" for name in ("ask-password", "inhibit", "incoming", "journal", "machines")),
    *("/run/systemd/notify", "/run/systemd/dynamic-uid"),
    *(f"/run/systemd/{name}" for name in ("propagate", "seats", "sessions", "transient", "units", "users")),
    *(f"/etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow")),
)
for directory, names, files in os.walk("/"):
    names[:] = [name for name in names if os.path.join(directory, name) not in elsewhere]
    for path in (os.path.join(directory, name) for name in (*names, *files)):
        if path in elsewhere:
            continue
        status = os.lstat(path)
        content = ""
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(status.st_mode) and not path.startswith(("/run/", "/var/lib/systemd/timers/")):
            with open(path, "rb") as file:
                content = hashlib.sha256(file.read()).hexdigest()
        print("file", path, oct(status.st_mode), status.st_uid, status.st_gid, content)
for command in (
    *("getent passwd", "getent group", "nft list ruleset", "systemctl list-unit-files --no-legend"),
    *(f"systemctl list-{kind} --all --plain --no-legend 'katago*'" for kind in ("units", "timers")),
):
    printed = subprocess.run(command, shell=True, capture_output=True, text=True).stdout
    for line in printed.splitlines():
        print(command, "|", line)
"""


def snapshot(host: Any) -> set[str]:
    """All files with owner, mode and content, and the users, units, timers and firewall tables of a host."""
    return set(host.check_output(f"python3 - <<'END'\n{SNAPSHOT}\nEND").splitlines())


@dataclass(frozen=True)
class Vault:
    """Variables with the repositories of the backups. That of the first host is on the second one."""

    file: Path

    def play(
        self,
        playbook: str,
        *arguments: str,
        kill_before: int | None = None,
        counts_from: str = "",
        **variables: Any,
    ) -> fleet.Run:
        """Run a playbook with these variables. The last value of a variable counts."""
        options = (f"--extra-vars=@{self.file}", f"--extra-vars={json.dumps(variables)}")
        return fleet.play(playbook, *options, *arguments, kill_before=kill_before, counts_from=counts_from)


@pytest.fixture(scope="session")
def first() -> Any:
    return hosts.connect(FIRST)


@pytest.fixture(scope="session")
def second() -> Any:
    return hosts.connect(SECOND)


@pytest.fixture(scope="session")
def vault(second: Any, tmp_path_factory: pytest.TempPathFactory) -> Vault:
    """Create an SFTP-only user on the second host."""
    directory = tmp_path_factory.mktemp("vault")
    key = directory / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "backup", "-f", str(key)], check=True
    )
    public = key.with_suffix(".pub").read_text().strip()
    second.check_output(
        "id vault || useradd --create-home --shell /usr/sbin/nologin vault;"
        " install -d -o vault -m 700 /home/vault/.ssh /srv/vault;"
        f" echo '{public}' > /home/vault/.ssh/authorized_keys; chown vault /home/vault/.ssh/authorized_keys;"
        " printf 'Match User vault\\n ForceCommand internal-sftp\\n' > /etc/ssh/sshd_config.d/vault.conf;"
        " systemctl restart ssh.service"
    )
    kind, value = second.check_output("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
    file = directory / "variables.json"
    file.touch(mode=0o600)
    choice = f"'/srv/own' if inventory_hostname == '{SECOND}' else 'sftp:vault@{SECOND}:/srv/vault/katago'"
    file.write_text(
        json.dumps(
            {
                "backup_repository": f"{{{{ {choice} }}}}",
                "backup_password": "correct horse battery staple",
                "backup_ssh_private_key": key.read_text(),
                "backup_ssh_known_hosts": f"{SECOND} {kind} {value}",
                "backup_validate_engine": False,
            }
        )
    )
    return Vault(file)


@pytest.fixture(scope="session")
def bare(first: Any) -> set[str]:
    """The first host before its first deployment, with the packages that a removal keeps."""
    first.check_output(
        f"apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends"
        f" {' '.join(parts.PACKAGES)}"
    )
    return snapshot(first)


@pytest.fixture(scope="session")
def deployed(bare: set[str], vault: Vault) -> Vault:
    """Deploy both hosts, set up their backups, and back them up."""
    assert bare
    for playbook in ("site.yml", "backup.yml"):
        run = vault.play(playbook)
        assert run.returncode == 0, run.output
    return vault
