"""What a fault of a drill is: its parameters, its steps on a host, and how it shows there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.drill.host import Host, RefusedError
from ansible_collections.katago.fleet.plugins.module_utils.drill.parameters import Parameter, Value
from ansible_collections.katago.fleet.plugins.module_utils.drill.step import Step


@dataclass(frozen=True)
class Request:
    """A fault for a host. `values`: every parameter. `ttl`: seconds until the host undoes it."""

    drill: str
    ttl: int
    values: Mapping[str, Value]

    def number(self, name: str) -> int:
        """A parameter that is a number."""
        return int(self.values[name])

    def text(self, name: str) -> str:
        """A parameter that is a choice."""
        return str(self.values[name])


@dataclass(frozen=True)
class Seen:
    """Whether the fault shows on the host, and what does."""

    landed: bool
    text: str


@dataclass(frozen=True)
class Fault:
    """A fault that a drill can inject.

    `needs`: what the host must have, for people. `plan`: the steps on a host, without changing it except for
    kept files; raises RefusedError if the host cannot have the fault. `look`: how it shows now.
    """

    name: str
    description: str
    needs: str
    plan: Callable[[Host, Request], list[Step]]
    look: Callable[[Host, Sequence[Step]], Seen]
    parameters: tuple[Parameter, ...] = ()


def remains(host: Host, steps: Sequence[Step]) -> Seen:
    """The fault shows if every step of it does."""
    texts = [each.remains(host) for each in steps]
    return Seen(bool(texts) and all(texts), "; ".join(filter(None, texts)) or "nothing of the fault")


def require_service(host: Host) -> None:
    """Raise RefusedError unless the service is deployed and runs."""
    require_running(host, paths.SERVICE_UNIT, "Start it with playbooks/restart.yml")
    if host.layout.current_release() is None:
        raise RefusedError("The host has no current release. Deploy it with playbooks/deploy.yml.")


def require_running(host: Host, unit: str, repair: str) -> None:
    """Raise RefusedError unless a unit is active."""
    if (active := host.active(unit)) != "active":
        raise RefusedError(f"{unit} is {active}, not active. {repair}, or choose another fault.")


def require_program(host: Host, *commands: str) -> None:
    """Raise RefusedError unless programs can be run."""
    for command in commands:
        if host.run(command, "--version")[0] == 127:
            raise RefusedError(f"The fault needs {command}, which is not installed on this host.")
