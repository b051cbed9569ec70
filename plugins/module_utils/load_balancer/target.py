"""What a load balancer shall have, as files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import digest, file_set, shape
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import config, rotation
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import (
    VERSION,
    LoadBalancerError,
    Server,
    Settings,
    check,
    numbered,
    parsed,
)

PREVIOUS = ".previous"
CERTIFICATE = "tls"
CA = "ca"


@dataclass(frozen=True)
class Target:
    """What the host shall have.

    `out`: the servers that are out of rotation. `record`: of these, if it differs from the present one.
    """

    settings: Settings
    text: str
    out: frozenset[str]
    certificate: str
    ca: str
    record: file_set.File | None = None

    def files(self) -> list[file_set.File]:
        """The files, in the order in which they are written. Those with a secret have mode 0600."""
        found = []
        if self.certificate:
            found.append(file_set.File(Path(self.settings.certificate), self.certificate.encode(), 0o600))
        if self.ca:
            found.append(file_set.File(Path(self.settings.ca_file), self.ca.encode()))
        return [
            *found,
            *([self.record] if self.record else []),
            *_with_previous(file_set.File(paths.LOAD_BALANCER_SETTINGS, self.settings.content())),
            *_with_previous(file_set.File(paths.HAPROXY_CONFIG, self.text.encode())),
        ]


def _with_previous(file: file_set.File) -> list[file_set.File]:
    """A file, and before it a copy of the one that it replaces."""
    before = present(file.path)
    if before is None or file.is_current():
        return [file]
    return [file_set.File(file.path.with_name(file.path.name + PREVIOUS), before), file]


def requested(
    request: Mapping[str, Any], previous: Settings | None, entries: Mapping[str, rotation.Entry]
) -> Target:
    """The settings and the configuration for a request of the control node. Raises ShapeError.

    `entries`: the hosts that are out of rotation, also those that are no servers any more.
    """
    certificate, ca = request["certificate"], request["ca"]
    known = {server.name: server.id for server in previous.servers} if previous else {}
    numbers = numbered([server["name"] for server in request["servers"]], known)
    settings = parsed(
        {
            **request["settings"],
            "version": VERSION,
            "servers": [{**server, "id": numbers[server["name"]]} for server in request["servers"]],
            "certificate": _path(CERTIFICATE, certificate),
            "ca_file": _path(CA, ca),
        }
    )
    kept = rotation.without_removed(entries, numbers)
    record = rotation.record(paths.ROTATION, kept) if kept != entries else None
    out = frozenset(kept) & numbers.keys()
    return Target(settings, config.render(settings, out), out, certificate, ca, record)


def calling(
    server: Server, ca: str, settings: Settings, entries: Mapping[str, rotation.Entry]
) -> Target | None:
    """The settings with another way to call one server, all else as it is; None if nothing differs.

    `ca`: the CA in PEM that verifies the server's certificate, if it uses TLS. It is added to the present
    one, which other servers may still need. Raises OSError, LoadBalancerError.
    """
    present_ca = pem_of(settings.ca_file)
    if server.tls and not (ca or present_ca):
        raise LoadBalancerError(
            f"{server.name} serves with TLS, but load_balancer_server_ca is empty, so HAProxy cannot verify"
            " its certificate. Set it to the CA that signed the certificate, and admit the host:"
            f" ansible-playbook playbooks/rotation_in.yml -l {server.name}"
        )
    missing = [each for each in certificates(ca) if each not in present_ca] if server.tls else []
    if server in settings.servers and not missing:
        return None
    wanted_ca = present_ca
    if missing:
        wanted_ca = "".join(f"{each.strip()}\n" for each in (present_ca, *missing) if each)
    changed = replace(
        settings,
        servers=tuple(server if each.name == server.name else each for each in settings.servers),
        ca_file=_path(CA, wanted_ca),
    )
    try:
        check(changed)
    except shape.ShapeError as error:
        raise LoadBalancerError(f"HAProxy cannot call {server.name}: {error}") from error
    out = frozenset(entries) & {each.name for each in changed.servers}
    return Target(changed, config.render(changed, out), out, pem_of(settings.certificate), wanted_ca)


def _path(kind: str, content: str) -> str:
    """A file that is named by its content, so that the previous configuration keeps its own."""
    if not content:
        return ""
    return str(paths.LOAD_BALANCER_DIRECTORY / f"{kind}-{digest.of_text(content)[:16]}.pem")


def previous_settings(path: Path) -> Settings | None:
    """The settings that the host has; None if it has none that can be read."""
    try:
        return Settings.load(path)
    except (OSError, LoadBalancerError):
        return None


def present(path: Path) -> bytes | None:
    """The content of a file as it is; None if there is none. Raises OSError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def certificates(pem: str) -> list[str]:
    """The certificates of a PEM text, each as text."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    return [begin + each.partition(end)[0] + end for each in pem.split(begin)[1:]]


def pem_of(path: str) -> str:
    """The content of a file of the settings; empty if there is none. Raises OSError."""
    return (present(Path(path)) or b"").decode() if path else ""


def remove_unused(settings: Settings) -> None:
    """Remove certificates that neither the new configuration nor the previous one uses."""
    previous = previous_settings(
        paths.LOAD_BALANCER_SETTINGS.with_name(paths.LOAD_BALANCER_SETTINGS.name + PREVIOUS)
    )
    used = {each.certificate for each in (settings, previous) if each}
    used |= {each.ca_file for each in (settings, previous) if each}
    for kind in (CERTIFICATE, CA):
        for path in paths.LOAD_BALANCER_DIRECTORY.glob(f"{kind}-*.pem"):
            if str(path) not in used:
                path.unlink(missing_ok=True)
