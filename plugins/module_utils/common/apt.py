"""Debian packages on a host: queries, simulated changes, installation, and restoring earlier versions."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import directories, endings, redaction

_STATUS = "${Package}\t${Version}\t${db:Status-Abbrev}\n"
# Status letters of dpkg-query(1) for a package that is not installed, or of which only configuration is left.
_ABSENT = frozenset("nc")
_UNATTENDED = (
    "--yes",
    "--quiet",
    "--no-install-recommends",
    "--allow-downgrades",
    "--allow-change-held-packages",
    "--option=DPkg::Lock::Timeout=600",
    "--option=Dpkg::Use-Pty=0",
    "--option=Dpkg::Options::=--force-confdef",
    "--option=Dpkg::Options::=--force-confold",
)


class PackagesError(Exception):
    """A command of APT or dpkg failed. The message has its last log lines; `output` has all of its output."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


@dataclass(frozen=True)
class Packages:
    """The packages of a host with their versions.

    `installed`: completely installed. `present`: completely or partly installed. `held`: names on hold.
    """

    installed: Mapping[str, str]
    present: Mapping[str, str]
    held: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """A change of a package by APT. `old`: empty for a new package. `new`: empty for a removed package."""

    name: str
    old: str
    new: str


def query() -> Packages:
    """Query dpkg for all packages of the host."""
    return parse_status(run(["dpkg-query", "--show", f"--showformat={_STATUS}"]))


def parse_status(listing: str) -> Packages:
    """Parse the output of `dpkg-query`: lines of name, version and abbreviated status, separated by tabs."""
    rows = [row for row in (line.split("\t") for line in listing.splitlines()) if len(row) == 3]
    return Packages(
        installed={name: version for name, version, status in rows if status[1] == "i"},
        present={name: version for name, version, status in rows if status[1] not in _ABSENT},
        held=tuple(sorted({name for name, _, status in rows if status[0] == "h"})),
    )


def simulate(packages: Sequence[str], archives: Path) -> list[Change]:
    """The changes that an installation would make. Raises PackagesError with APT's message if it fails."""
    return changes(get("install", *packages, archives=archives, simulate=True))


def changes(simulated: str) -> list[Change]:
    """Parse the output of `apt-get --simulate`: lines `Inst NAME [OLD] (NEW ...)` and `Remv NAME [OLD]`."""
    planned = []
    for line in simulated.splitlines():
        if match := re.match(r"(Inst|Remv) (\S+)(?: \[([^\]]+)\])?(?: \((\S+))?", line):
            kind, name, old, new = match.groups("")
            planned.append(Change(name, old, new if kind == "Inst" else ""))
    return planned


@dataclass(frozen=True)
class Offer:
    """A version of a package, and the address of the archive that offers it."""

    version: str
    uri: str


def versions(package: str, options: Sequence[str] = ()) -> list[str]:
    """The versions of a package that APT can install, the newest first."""
    return list(dict.fromkeys(offer.version for offer in offers(package, options)))


def offers(package: str, options: Sequence[str] = ()) -> list[Offer]:
    """The versions of a package that APT can install, and their archives, the newest first."""
    rows = (line.split("|") for line in run(["apt-cache", *options, "madison", package]).splitlines())
    return [Offer(row[1].strip(), row[2].split()[0]) for row in rows if len(row) > 2]


def get(*arguments: str, archives: Path, simulate: bool = False) -> str:
    """Run apt-get without prompts and return its output. Downloads are kept in `archives`.

    Raises PackagesError with its last log lines if it fails.
    """
    directories.make(archives, own=archives)
    directories.make(archives / "partial")
    how = ["--simulate"] if simulate else []
    return run(["apt-get", *_UNATTENDED, f"--option=Dir::Cache::archives={archives}/", *how, *arguments])


def run(command: Sequence[str]) -> str:
    """Run a command in the C locale and return its output.

    Raises PackagesError with its last log lines if it fails.
    """
    environment = {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "NEEDRESTART_SUSPEND": "1",
    }
    # The playbooks set TMPDIR to a file system in memory, which may forbid executing maintainer scripts.
    environment.pop("TMPDIR", None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        output = redaction.plain(done.stdout)
        cause = unmet(output) or endings.describe(
            redaction.plain(done.stderr), output, status=done.returncode, lines=6
        )
        raise PackagesError(f"{' '.join(command[:1])} failed ({done.returncode}): {cause}", output)
    return done.stdout


def unmet(output: str) -> str:
    """The dependencies that APT reports as unmet; empty if it reports none."""
    _, heading, listed = output.partition("unmet dependencies:\n")
    return last_lines(listed) if heading else ""


def reason(output: str, status: int) -> str:
    """The last lines of a program's output; if there are none, its exit status."""
    return last_lines(output) or endings.describe(status=status)


def last_lines(output: str, most: int = 6) -> str:
    """The last lines of an output, joined into one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return "; ".join(lines[-most:])[-900:]


def hold(names: Iterable[str], *, held: bool) -> None:
    """Put packages on hold, or remove the hold."""
    if listed := sorted(names):
        run(["apt-mark", "hold" if held else "unhold", *listed])


def archive(archives: Path, name: str, version: str) -> Path | None:
    """The package's file in `archives`; None if it was not kept."""
    return next(iter(archives.glob(f"{name}_{version.replace(':', '%3a')}_*.deb")), None)


def unavailable(packages: Mapping[str, str], archives: Path) -> dict[str, str]:
    """The packages (name: version) that neither `archives` nor APT's sources have in this version."""
    return {
        name: version
        for name, version in packages.items()
        if archive(archives, name, version) is None and version not in versions(name)
    }


def removable(names: Sequence[str], archives: Path) -> list[str]:
    """The packages that can be removed without removing others, since others may depend on them by now."""

    def alone(removed: Sequence[str]) -> bool:
        planned = changes(get("remove", *removed, archives=archives, simulate=True))
        return all(change.name in names for change in planned if not change.new)

    return list(names) if not names or alone(names) else [name for name in names if alone([name])]


def restore(removed: Sequence[str], installed: Mapping[str, str], archives: Path) -> None:
    """Purge the packages in `removed`, and install those in `installed` (name: version).

    Files in `archives` are preferred. Partly installed packages are purged too.
    """
    if removed:
        get("purge", *removed, archives=archives)
    packages = [
        str(archive(archives, name, version) or f"{name}={version}") for name, version in installed.items()
    ]
    if packages:
        get("install", *packages, archives=archives)
