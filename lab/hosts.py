"""The hosts of one lab: create them, reach them by SSH with strict host keys, remove them completely."""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import image, paths, runtime

FLEET = "katago"
LOAD_BALANCER = "load_balancer"
BOOT_SECONDS = 60


@dataclass(frozen=True)
class Group:
    """The hosts of one group of the inventory.

    `prefix`: of their names. `ports`: of a host by service. `first_ports`: those of the first host on this
    machine. `offset`: where their addresses start in the lab's network.
    """

    prefix: str
    ports: dict[str, int]
    first_ports: dict[str, int]
    offset: int


GROUPS = {
    FLEET: Group(
        "katago",
        {"ssh": 22, "mcp": 8080, "metrics": 9090},
        {"ssh": 2201, "mcp": 8081, "metrics": 9091},
        10,
    ),
    LOAD_BALANCER: Group(
        "balancer",
        {"ssh": 22, "http": 80, "https": 443, "metrics": 8404},
        {"ssh": 2301, "http": 8181, "https": 8441, "metrics": 9191},
        100,
    ),
}
VIRTUAL_ADDRESS_OFFSET = 200


@dataclass(frozen=True)
class Host:
    """A host in the inventory. Its ports are on this machine's loopback interface.

    `address`: in the lab's network; empty for a host of an earlier version, which has no fixed one.
    """

    name: str
    suite: str
    container: str
    ports: dict[str, int]
    group: str = FLEET
    address: str = ""


class Lab:
    """The hosts of one lab: `katago-1`, ..., `balancer-1`, ..., alternately bookworm and trixie."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.directory = paths.STATE / name
        self.key = self.directory / "id_ed25519"
        self.known_hosts = self.directory / "known_hosts"
        self.token = self.directory / "token"
        self.admin_token = self.directory / "admin-token"
        self.session_key = self.directory / "session-key"
        self.monitoring_token = self.directory / "monitoring-token"
        self._tune = self.directory / "tune"
        self._state = self.directory / "hosts.json"

    def hosts(self) -> list[Host]:
        """The hosts of this lab."""
        if not self._state.exists():
            return []
        return [Host(**host) for host in json.loads(self._state.read_text())]

    def tunes(self) -> bool:
        """Whether deployments tune the engine for this machine's processor."""
        return self._tune.exists()

    def set_tuning(self, enabled: bool) -> None:
        """Set whether deployments tune the engine, or use the lab's own tuning results."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if enabled:
            self._tune.touch()
        else:
            self._tune.unlink(missing_ok=True)

    def of_group(self, group: str) -> list[Host]:
        """The hosts of this lab in a group."""
        return [host for host in self.hosts() if host.group == group]

    def virtual_address(self) -> str:
        """The address that two load balancers share, with its prefix length; empty with fewer of them."""
        if len(self.of_group(LOAD_BALANCER)) < 2:
            return ""
        subnet = self._subnet()
        return f"{subnet[VIRTUAL_ADDRESS_OFFSET]}/{subnet.prefixlen}"

    def create(self, count: int, load_balancers: int | None = None) -> list[str]:
        """Create, start or remove hosts until `count` run, and as many load balancers; None keeps theirs.

        Returns the names of those created or started.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self._create_secrets()
        if not runtime.succeeds("network", "exists", self.name):
            runtime.podman("network", "create", self.name)
        counts = {
            FLEET: count,
            LOAD_BALANCER: len(self.of_group(LOAD_BALANCER)) if load_balancers is None else load_balancers,
        }
        hosts: list[Host] = []
        started: list[str] = []
        for group, number in counts.items():
            hosts += self._create_group(group, number, started)
        self._state.write_text(json.dumps([asdict(host) for host in hosts], indent=2) + "\n")
        for host in hosts:
            self._wait_until_booted(host)
        self._write_known_hosts(hosts)
        return started

    def _create_group(self, group: str, count: int, started: list[str]) -> list[Host]:
        hosts = self.of_group(group)
        for surplus in hosts[count:]:
            runtime.podman("rm", "--force", "--time=0", surplus.container)
        hosts = hosts[:count]
        for number in range(1, count + 1):
            if number > len(hosts):
                host = self._new_host(group, number)
                self._run(host)
                hosts.append(host)
                started.append(host.name)
            elif not self.is_running(hosts[number - 1]):
                host = hosts[number - 1]
                if not runtime.succeeds("start", host.container):
                    self._run(host)
                started.append(host.name)
        return hosts

    def remove(self) -> list[str]:
        """Remove containers, network, keys and state; return the names of the removed hosts."""
        containers = runtime.podman(
            "ps", "--all", "--filter", f"label=katago-lab={self.name}", "--format", "{{.Names}}"
        ).split()
        for container in containers:
            runtime.podman("rm", "--force", "--time=0", "--volumes", container)
        if runtime.succeeds("network", "exists", self.name):
            runtime.podman("network", "rm", self.name)
        shutil.rmtree(self.directory, ignore_errors=True)
        return containers

    def is_running(self, host: Host) -> bool:
        """Whether the container of the host runs."""
        state = runtime.podman("inspect", "--format", "{{.State.Running}}", host.container, check=False)
        return state == "true"

    def tokens(self) -> list[dict[str, object]]:
        """The value of `katago_mcp_tokens`: one token to analyse, one to administer."""
        return [
            {"name": name, "scopes": [scope], "token": path.read_text().strip()}
            for name, scope, path in (
                ("lab", "analyze", self.token),
                ("lab-admin", "admin", self.admin_token),
            )
            if path.exists()
        ]

    def ssh_arguments(self) -> str:
        """SSH options for every host of the lab, with literal paths."""
        return (
            f"-o UserKnownHostsFile={self.known_hosts} -o GlobalKnownHostsFile=/dev/null"
            " -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
        )

    def _subnet(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        network = json.loads(runtime.podman("network", "inspect", self.name))[0]
        return ipaddress.ip_network(network["subnets"][0]["subnet"])

    def _new_host(self, group: str, number: int) -> Host:
        kind = GROUPS[group]
        name = f"{kind.prefix}-{number}"
        return Host(
            name=name,
            suite=image.SUITES[(number - 1) % len(image.SUITES)],
            container=f"{self.name}-{name}",
            ports={
                service: _free_port(first + number - 1 if self.name == "lab" else 0)
                for service, first in kind.first_ports.items()
            },
            group=group,
            address=str(self._subnet()[kind.offset + number]),
        )

    def _run(self, host: Host) -> None:
        # The rights that systemd and its sandboxing need. --privileged would also allow the host to set
        # this machine's clock.
        publish = [
            f"--publish=127.0.0.1:{host.ports[service]}:{port}"
            for service, port in GROUPS[host.group].ports.items()
        ]
        # Other hosts know the address, so a host keeps it when it is restarted.
        fixed = [f"--ip={host.address}"] if host.address else []
        runtime.podman(
            "run",
            "--detach",
            "--replace",
            f"--name={host.container}",
            f"--hostname={host.name}",
            f"--network={self.name}",
            f"--network-alias={host.name}",
            f"--label=katago-lab={self.name}",
            "--cap-add=ALL",
            "--cap-drop=SYS_TIME",
            "--security-opt=seccomp=unconfined",
            "--security-opt=apparmor=unconfined",
            "--security-opt=unmask=ALL",
            "--systemd=always",
            "--restart=always",
            f"--volume={self.key}.pub:/root/.ssh/authorized_keys:ro",
            *publish,
            *fixed,
            image.name(host.suite),
        )

    def _wait_until_booted(self, host: Host) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            try:
                runtime.exec_in(host.container, ["systemctl", "is-active", "--quiet", "ssh.service"])
            except runtime.PodmanError:
                time.sleep(0.3)
                continue
            return
        raise RuntimeError(
            f"{host.name}: sshd did not start within {BOOT_SECONDS} s."
            f" See: podman exec {host.container} journalctl -b"
        )

    def _create_secrets(self) -> None:
        for path in (self.token, self.admin_token, self.session_key, self.monitoring_token):
            if not path.exists():
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "w") as file:
                    file.write(secrets.token_urlsafe(32) + "\n")
        if self.key.exists():
            return
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", str(self.key)],
            check=True,
        )

    def _write_known_hosts(self, hosts: list[Host]) -> None:
        # Podman reads the keys, not the network, so there is no trust on first use.
        lines = []
        for host in hosts:
            key = runtime.exec_in(host.container, ["cat", "/etc/ssh/ssh_host_ed25519_key.pub"])
            kind, value = key.split()[:2]
            lines.append(f"[127.0.0.1]:{host.ports['ssh']} {kind} {value}\n")
        self.known_hosts.write_text("".join(lines))


def build_images(count: int) -> list[str]:
    """Build the images that `count` hosts need; return the suites that had to be built."""
    with tempfile.TemporaryDirectory(prefix="katago-lab-") as scratch:
        return [suite for suite in image.SUITES[:count] if image.build(suite, Path(scratch))]


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            chosen: int = probe.getsockname()[1]
            return chosen
    raise RuntimeError("this machine has no free port on its loopback interface")
