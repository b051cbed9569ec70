"""The configuration in force: whether HAProxy uses what it shall have, and how it comes to use it."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import directories, file_set, sockets
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import config, haproxy, target, units
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.runtime import Runtime
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import (
    LoadBalancerError,
    Settings,
    reachable,
)
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.target import Target

VERIFY_SECONDS = 20
RELOAD_SECONDS = 5
_POLL_SECONDS = 0.25


def rejections(wanted: Target) -> list[str]:
    """Why HAProxy rejects the configuration; [] if it does not, or if it is not installed. Raises OSError."""
    if not paths.HAPROXY.exists():
        return []
    found = haproxy.problems(paths.HAPROXY, wanted.settings, wanted.out, wanted.certificate, wanted.ca)
    return [f"HAProxy rejects the configuration: {problem}" for problem in found]


def plan(wanted: Target, sandbox: bytes) -> units.Plan:
    """What HAProxy needs to use the target. Raises OSError, subprocess.SubprocessError."""
    return units.plan(
        paths.LOAD_BALANCER_UNIT,
        file_set.File(units.drop_in(paths.LOAD_BALANCER_UNIT), sandbox),
        wanted.files(),
        is_new=not paths.LOAD_BALANCER_SETTINGS.exists(),
        is_loaded=is_loaded(wanted, Runtime(paths.HAPROXY_SOCKET)),
    )


def apply(wanted: Target, needed: units.Plan) -> None:
    """Have HAProxy use the target. Raises OSError; LoadBalancerError, and then all is as it was."""
    directories.make(paths.LOAD_BALANCER_DIRECTORY, own=paths.LOAD_BALANCER_DIRECTORY)
    units.apply(needed, lambda: verify(wanted, needed.action))
    target.remove_unused(wanted.settings)


def call(wanted: Target) -> None:
    """Have HAProxy use the target with the sandbox that it has. Raises OSError, LoadBalancerError."""
    if found := rejections(wanted):
        raise LoadBalancerError("\n".join(found))
    try:
        needed = plan(wanted, units.drop_in(paths.LOAD_BALANCER_UNIT).read_bytes())
    except subprocess.SubprocessError as error:
        raise LoadBalancerError(f"The state of HAProxy cannot be read: {error}. Run again") from error
    apply(wanted, needed)


def is_loaded(wanted: Target, running: Runtime) -> bool:
    """Whether the running process uses the settings, and sends no requests to servers that are out."""
    try:
        if running.digest() != config.digest(wanted.settings):
            return False
        admitted = {name for name, state in running.servers().items() if not state.is_out}
    except LoadBalancerError:
        return False
    return not admitted & wanted.out


def verify(wanted: Target, action: units.Action) -> None:
    """Wait until the running process uses the target. Raises LoadBalancerError if it does not in time."""
    now = time.monotonic()
    end, again = now + VERIFY_SECONDS, now + RELOAD_SECONDS
    while problem := running_problem(wanted, paths.PROC):
        now = time.monotonic()
        if now > end:
            raise LoadBalancerError(
                f"HAProxy was {action}, but {problem}. Last log lines: {units.log(paths.LOAD_BALANCER_UNIT)}"
            )
        # HAProxy's master process loses a signal that arrives while it finishes the reload before.
        if action == "reloaded" and now > again:
            units.reload(paths.LOAD_BALANCER_UNIT)
            again = now + RELOAD_SECONDS
        time.sleep(_POLL_SECONDS)


def running_problem(wanted: Target, proc: Path) -> str:
    """Why the running HAProxy does not use the target yet; empty if it does."""
    try:
        loaded = Runtime(paths.HAPROXY_SOCKET).digest()
    except LoadBalancerError:
        return f"it does not answer on {paths.HAPROXY_SOCKET}"
    if loaded != config.digest(wanted.settings):
        return "the running process still uses other settings"
    ports = sockets.ports_of(units.processes(paths.LOAD_BALANCER_UNIT, proc), proc)
    if missing := sorted({each.port for each in wanted.settings.sockets()} - ports):
        return f"it does not listen on port {missing[0]}"
    if wanted.certificate and served_certificate(wanted.settings) != ssl.PEM_cert_to_DER_cert(
        target.certificates(wanted.certificate)[0]
    ):
        return "it presents another certificate"
    return ""


def served_certificate(settings: Settings) -> bytes | None:
    """The certificate that HAProxy presents, in DER; None without an answer."""
    # The certificate is compared, so it need not be verified.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    place = (reachable(settings.listen_addresses[0]), settings.https_port)
    try:
        with (
            socket.create_connection(place, timeout=5) as plain,
            context.wrap_socket(plain) as connection,
        ):
            return connection.getpeercert(binary_form=True)
    except OSError:
        return None
