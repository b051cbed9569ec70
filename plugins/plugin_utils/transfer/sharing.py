"""Which files of a deployment one host serves to the others, which host that is, and the record of it.

Without sharing, the control node's traffic grows with the fleet: it would send each network to each host.
"""

from __future__ import annotations

import ipaddress
import json
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import files as common_files

# Kinds of files in the facts of the preflight, in the order of their installation.
KINDS = ("engine", "network", "human_network")
_RECORD = "katago-share.json"


@dataclass(frozen=True)
class File:
    """A file on the control node that hosts lack. `hosts`: their names.

    `installed`: its path on a host that has it; empty for an engine, which hosts keep unpacked.
    """

    sha256: str
    path: str
    name: str
    installed: str = ""
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Share:
    """What the asset host serves in this run. `address`: with the token, so it is never shown."""

    host: str
    unit: str
    address: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """Where a host fetches a file. `shown`: for messages. `direct`: without the host's proxy."""

    address: str
    shown: str
    direct: bool


def lacking(facts: Mapping[str, Mapping[str, Any]]) -> list[File]:
    """The files that hosts lack. `facts`: what the preflight found, by host."""
    files: dict[str, File] = {}
    for host, found in facts.items():
        for kind in KINDS:
            if not (asset := found.get(kind)) or kind not in found["host"]["lacks"]:
                continue
            name = str(asset.get("name") or Path(asset["path"]).name)
            installed = "" if kind == "engine" else str(paths.ASSETS / "networks" / asset["sha256"] / name)
            file = files.get(asset["sha256"]) or File(asset["sha256"], str(asset["path"]), name, installed)
            if host not in file.hosts:
                files[file.sha256] = replace(file, hosts=(*file.hosts, host))
    return list(files.values())


def worth_sharing(files: Iterable[File], asset_host: str, *, named: bool, direct_hosts: int) -> list[File]:
    """The files that the asset host serves.

    `named`: the inventory names the asset host. Then it serves whatever another host lacks.
    """
    most = 0 if named else direct_hosts
    return [file for file in files if len(file.hosts) > most and set(file.hosts) - {asset_host}]


def asset_host(named: str, group: Sequence[str], reached: Iterable[str]) -> str | None:
    """The asset host: the one that the inventory names, or the first host of the group that is reached."""
    if named:
        return named if named in group else None
    available = set(reached)
    return next((host for host in group if host in available), None)


def unreachable(host: str, address: str) -> str:
    """Why other hosts cannot reach an asset host at its address; empty if they may."""
    try:
        local = ipaddress.ip_address(address).is_loopback
    except ValueError:
        local = address == "localhost"
    if not local:
        return ""
    return (
        f"its fleet_address is {address}, which other hosts cannot reach. Set fleet_address of {host} to its"
        " address in the network of the fleet"
    )


def base_url(address: str, port: int, token: str) -> str:
    """The address below which the asset host serves each file by its sha256."""
    place = f"[{address}]" if ":" in address else address
    return f"http://{place}:{port}/{token}"


def sources(sha256: str, *, mirror: str, share: Share | None) -> list[Source]:
    """Where a host fetches a file before the control node sends it."""
    if mirror:
        return [Source(f"{mirror.rstrip('/')}/{sha256}", f"the mirror {shown(mirror)}", direct=False)]
    if share and sha256 in share.files:
        return [Source(f"{share.address}/{sha256}", f"the asset host {share.host}", direct=True)]
    return []


def mirror_problem(mirror: str) -> str:
    """Why an address cannot be a mirror; empty if it can. Without its credentials."""
    parts = urllib.parse.urlsplit(mirror)
    if parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment:
        return ""
    return (
        f"katago_asset_mirror is {shown(mirror)!r}; it must be the address of a directory that has each file"
        " under its sha256, such as https://mirror.example.org/katago"
    )


def shown(address: str) -> str:
    """An address without its user, password and query, which may be secret."""
    parts = urllib.parse.urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def write(share: Share, directory: Path) -> None:
    """Record a share for the tasks of this run. `directory`: the run's own, readable by its user only.

    Raises OSError, and leaves no record.
    """
    common_files.write(directory / _RECORD, json.dumps(asdict(share)).encode(), mode=0o600)


def read(directory: Path) -> Share | None:
    """The share of this run; None if there is none."""
    try:
        record = json.loads((directory / _RECORD).read_text())
    except FileNotFoundError:
        return None
    return Share(**{**record, "files": tuple(record["files"])})


def forget(directory: Path) -> None:
    """Remove the record, so that no task uses the share any more."""
    (directory / _RECORD).unlink(missing_ok=True)
