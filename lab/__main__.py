"""The commands of `bin/lab`. Molecule uses `hosts` and `down` to create and destroy its hosts."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from lab import assets, image, paths, runtime
from lab.hosts import FLEET, LOAD_BALANCER, Host, Lab, build_images

DEFAULT_COUNT = int(os.environ.get("LAB_COUNT", "2"))
DEFAULT_LOAD_BALANCERS = int(os.environ.get("LAB_LOAD_BALANCERS", "0"))
DEFAULT_TUNE = os.environ.get("LAB_TUNE") == "true"


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Print the title of a step, and how long it took."""
    print(f"\n\033[1m== {title}\033[0m", flush=True)
    start = time.monotonic()
    yield
    print(f"   {time.monotonic() - start:.0f} s", flush=True)


def hosts(lab: Lab, count: int, load_balancers: int, *, tune: bool) -> None:
    """Boot hosts until the lab has `count`, and as many load balancers. With `tune`, deployments tune."""
    with step("Host images"):
        for suite in build_images(max(count, load_balancers)):
            print(f"   built {suite}")
        print(f"   runtime: {runtime.detect(image.name(image.SUITES[0]))}")
    with step(f"{count} hosts" + (f", {load_balancers} load balancers" if load_balancers else "")):
        lab.set_tuning(tune)
        started = lab.create(count, load_balancers)
        for host in lab.hosts():
            state = "started" if host.name in started else "already running"
            print(f"   {host.name} ({host.suite}): {state}")


def up(lab: Lab, count: int, load_balancers: int, *, tune: bool) -> int:
    """Boot the hosts, deploy the service, and print how to call it."""
    start = time.monotonic()
    hosts(lab, count, load_balancers, tune=tune)
    with step("Deployment (ansible-playbook playbooks/site.yml)"):
        deployed = subprocess.run(["ansible-playbook", "playbooks/site.yml"], cwd=paths.ROOT, check=False)
    if deployed.returncode != 0:
        print("\nThe deployment failed, see the message above. Fix the cause, then run bin/lab up again.")
        return deployed.returncode
    status(lab)
    print(
        f"\nDone in {time.monotonic() - start:.0f} s."
        "\nNext: bin/fleet triage, bin/lab ssh katago-1, or bin/test"
    )
    return 0


def status(lab: Lab) -> int:
    """Print every host's address and how a client connects to it."""
    if not lab.hosts():
        print("There are no hosts. Create some: bin/lab up")
        return 1
    for host in lab.hosts():
        running = "running" if lab.is_running(host) else "not running"
        print(f"\n\033[1m{host.name}\033[0m ({host.suite}, {running})")
        if host.group == FLEET:
            print(f"   MCP      http://127.0.0.1:{host.ports['mcp']}/mcp")
        else:
            print(f"   MCP      http://127.0.0.1:{host.ports['http']}/mcp, on any host of the fleet")
        print(f"   metrics  http://127.0.0.1:{host.ports['metrics']}/metrics")
        print(f"   shell    bin/lab ssh {host.name}")
        print(f"   client   {_client(lab, host)}")
    if address := lab.virtual_address():
        print(f"\nThe load balancers share http://{address.partition('/')[0]}/mcp")
    print(f"\nTokens: {_shown(lab.token)} (analyze), {_shown(lab.admin_token)} (admin)")
    return 0


def _client(lab: Lab, host: Host) -> str:
    """The command that adds the host to a client."""
    port = host.ports["mcp" if host.group == FLEET else "http"]
    return (
        f"claude mcp add --transport http {host.name} http://127.0.0.1:{port}/mcp"
        f' --header "Authorization: Bearer $(cat {_shown(lab.token)})"'
    )


def ssh(lab: Lab, name: str, command: list[str]) -> int:
    """Open a shell on a host, or run a command there."""
    for host in lab.hosts():
        if host.name == name:
            login = ["ssh", *lab.ssh_arguments().split(), "-i", str(lab.key)]
            login += ["-p", str(host.ports["ssh"]), "root@127.0.0.1", *command]
            return subprocess.run(login, check=False).returncode
    names = ", ".join(host.name for host in lab.hosts()) or "none; create some: bin/lab up"
    print(f"There is no host {name!r}. Hosts: {names}.", file=sys.stderr)
    return 2


def engine() -> int:
    """Print shell commands that export where the server's tests find an engine."""
    # Imported here, because the other commands need only the standard library.
    from lab.engine import environment

    with contextlib.redirect_stdout(sys.stderr):
        variables = environment(shared=assets.may_use_shared())
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def down(lab: Lab, *, everything: bool) -> int:
    """Remove hosts, network, keys and tokens. With `everything`, also remove images and downloads."""
    for container in lab.remove():
        print(f"removed {container}")
    if everything:
        for removed in image.remove_all():
            print(f"removed {removed}")
        shutil.rmtree(paths.CACHE, ignore_errors=True)
        print(f"removed {_shown(paths.CACHE)}")
    remaining = [path for path in paths.STATE.glob("*") if path.is_dir()]
    if not remaining:
        shutil.rmtree(paths.STATE, ignore_errors=True)
    return 0


def _shown(path: Path) -> str:
    return os.path.relpath(path, paths.ROOT) if path.is_relative_to(paths.ROOT) else str(path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("up", "boot hosts and deploy on them"), ("hosts", "boot bare hosts")):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "--count",
            type=_count,
            help=f"number of hosts (default: the current number, or {DEFAULT_COUNT})",
        )
        command.add_argument(
            "--load-balancers",
            type=_load_balancers,
            help="number of load balancers, 0 to 4 (default: the current number, or LAB_LOAD_BALANCERS)",
        )
        command.add_argument(
            "--tune",
            action="store_true",
            default=DEFAULT_TUNE,
            help="tune the engine for this machine's processor, which takes minutes",
        )
    commands.add_parser("engine", help="print where the server's tests find an engine on this machine")
    commands.add_parser("status", help="print which hosts run and how to call them")
    shell = commands.add_parser("ssh", help="open a shell or run a command on a host")
    shell.add_argument("host")
    shell.add_argument("remote", nargs=argparse.REMAINDER)
    removal = commands.add_parser("down", help="remove hosts, network, keys and tokens")
    removal.add_argument("--all", action="store_true", help="also remove images and downloads")
    return parser.parse_args()


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 16:
        raise argparse.ArgumentTypeError(f"{count} is not allowed; a lab has 1 to 16 hosts")
    return count


def _load_balancers(text: str) -> int:
    count = int(text)
    if not 0 <= count <= 4:
        raise argparse.ArgumentTypeError(f"{count} is not allowed; a lab has 0 to 4 load balancers")
    return count


def _number_of_load_balancers(lab: Lab, arguments: argparse.Namespace) -> int:
    if arguments.load_balancers is not None:
        return int(arguments.load_balancers)
    return len(lab.of_group(LOAD_BALANCER)) or DEFAULT_LOAD_BALANCERS


def main() -> int:
    """Run one command. Print an error as one message."""
    arguments = _arguments()
    lab = Lab(paths.lab_name())
    try:
        match arguments.command:
            case "up":
                count = arguments.count or len(lab.of_group(FLEET)) or DEFAULT_COUNT
                return up(lab, count, _number_of_load_balancers(lab, arguments), tune=arguments.tune)
            case "hosts":
                load_balancers = _number_of_load_balancers(lab, arguments)
                hosts(lab, arguments.count or DEFAULT_COUNT, load_balancers, tune=arguments.tune)
                return 0
            case "engine":
                return engine()
            case "status":
                return status(lab)
            case "ssh":
                return ssh(lab, arguments.host, arguments.remote)
            case _:
                return down(lab, everything=arguments.all)
    except (runtime.PodmanError, RuntimeError) as error:
        print(f"bin/lab {arguments.command}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
