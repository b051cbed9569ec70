"""Bytes that leave the control node when hosts get a new network, with and without the asset host.

They are counted where they leave: at the interface of the bridge that connects this machine to the lab. What
hosts send to each other does not pass this counter.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils import paths as host_paths
from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from lab import paths, runtime
from lab.hosts import Host
from tests import fleet
from tests.bench.report import Figure, Report

MOST_RATIO = 1.1


def options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument(
        "--megabytes", type=int, default=200, help="size of the network (default: %(default)s)"
    )
    parser.add_argument("--hosts", default="", help="numbers of hosts, with commas (default: 1 and all)")


def measure(arguments: argparse.Namespace) -> Report:
    """Install a new network on parts of the lab, and on the largest one without the asset host."""
    hosts = fleet.LAB.hosts()
    sizes = sorted({int(size) for size in arguments.hosts.split(",") if size} or {1, len(hosts)})
    most = max(sizes[-1], 3)
    if len(hosts) < most:
        raise RuntimeError(f"the lab has {len(hosts)} hosts, but needs {most}: bin/lab up --count {most}")
    # Leaves the engine on every host, and nothing but the network to send.
    _sent(hosts, megabytes=1, direct=False)
    sent = [_sent(hosts[:size], arguments.megabytes, direct=False) for size in sizes]
    direct = _sent(hosts[: sizes[-1]], arguments.megabytes, direct=True)
    ratio = f"{_count(sizes[-1])} / {_count(sizes[0])}"
    figures = (
        *(Figure(_count(size), each, "MB") for size, each in zip(sizes, sent, strict=True)),
        Figure(f"{_count(sizes[-1])}, each from the control node", direct, "MB"),
        Figure(ratio, sent[-1] / sent[0], at_most=MOST_RATIO),
        Figure(f"{ratio}, each from the control node", direct / sent[0]),
    )
    return Report("distribution", f"a network of {arguments.megabytes} MB, sent by SSH", figures)


def _count(hosts: int) -> str:
    return "1 host" if hosts == 1 else f"{hosts} hosts"


def _sent(hosts: list[Host], megabytes: int, *, direct: bool) -> float:
    """The megabytes that leave this machine for the lab while hosts get a new network."""
    with tempfile.TemporaryDirectory(prefix="katago-bench-") as scratch:
        network = Path(scratch, "random.bin.gz")
        network.write_bytes(os.urandom(megabytes * 10**6))
        sha256 = digest.of_file(network)
        try:
            before = _counter()
            run = fleet.play(
                "../tests/bench/distribution.yml",
                f"--limit={','.join(host.name for host in hosts)}",
                variables={
                    "katago_network": {"source": "file", "path": str(network), "sha256": sha256},
                    # Podman's network resolves the names of hosts.
                    "fleet_address": "{{ inventory_hostname }}",
                    **({"katago_asset_direct_hosts": len(hosts)} if direct else {}),
                },
            )
            after = _counter()
        finally:
            shutil.rmtree(paths.CACHE / "downloads" / sha256, ignore_errors=True)
            for host in hosts:
                directory = host_paths.ASSETS / "networks" / sha256
                runtime.exec_in(host.container, ["rm", "-rf", str(directory)])
    if run.returncode != 0:
        raise RuntimeError(run.output)
    return (after - before) / 1e6


def _counter() -> int:
    """The bytes that this machine has sent into the lab's network."""
    name = runtime.podman("network", "inspect", "--format={{.NetworkInterface}}", fleet.LAB.name)
    return int(Path(f"/sys/class/net/{name}/statistics/tx_bytes").read_text())
