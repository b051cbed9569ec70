"""Debian packages on a host: what is there, what a change would do, and how it is restored."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import endings, redaction

_STATUS = "${Package}\t${Version}\t${db:Status-Abbrev}\n"
# The letters of dpkg-query(1): what is wanted, and what is.
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
    """A command of APT or dpkg failed; the message has its last log lines, `output` all of them."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


@dataclass(frozen=True)
class Packages:
    """Packages of a host: `installed` wholly, `present` also in part, both with versions; `held`."""

    installed: Mapping[str, str]
    present: Mapping[str, str]
    held: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """What APT would do to a package; `old` is empty for a new one, `new` for one that is removed."""

    name: str
    old: str
    new: str


def query() -> Packages:
    """Ask dpkg."""
    return parse_status(run(["dpkg-query", "--show", f"--showformat={_STATUS}"]))


def parse_status(listing: str) -> Packages:
    """What `dpkg-query` lists: name, version, abbreviated status, separated by tabs."""
    rows = [row for row in (line.split("\t") for line in listing.splitlines()) if len(row) == 3]
    return Packages(
        installed={name: version for name, version, status in rows if status[1] == "i"},
        present={name: version for name, version, status in rows if status[1] not in _ABSENT},
        held=tuple(sorted({name for name, _, status in rows if status[0] == "h"})),
    )


def simulate(packages: Sequence[str], archives: Path) -> list[Change]:
    """What installing would do; PackagesError with APT's own message when it cannot be done."""
    return changes(get("install", *packages, archives=archives, simulate=True))


def changes(simulated: str) -> list[Change]:
    """What `apt-get --simulate` prints as `Inst NAME [OLD] (NEW ...)` and `Remv NAME [OLD]`."""
    found = []
    for line in simulated.splitlines():
        if match := re.match(r"(Inst|Remv) (\S+)(?: \[([^\]]+)\])?(?: \((\S+))?", line):
            kind, name, old, new = match.groups("")
            found.append(Change(name, old, new if kind == "Inst" else ""))
    return found


@dataclass(frozen=True)
class Offer:
    """A version of a package, and the address of an archive that has it."""

    version: str
    uri: str


def versions(package: str, options: Sequence[str] = ()) -> list[str]:
    """The versions of a package that APT could install, the newest first."""
    return list(dict.fromkeys(offer.version for offer in offers(package, options)))


def offers(package: str, options: Sequence[str] = ()) -> list[Offer]:
    """The versions of a package that APT could install and where they are, the newest first."""
    rows = (line.split("|") for line in run(["apt-cache", *options, "madison", package]).splitlines())
    return [Offer(row[1].strip(), row[2].split()[0]) for row in rows if len(row) > 2]


def get(*arguments: str, archives: Path, simulate: bool = False) -> str:
    """Run apt-get without questions; downloads are kept in `archives`. Returns its output.

    PackagesError with its last log lines when it fails.
    """
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    how = ["--simulate"] if simulate else []
    return run(["apt-get", *_UNATTENDED, f"--option=Dir::Cache::archives={archives}/", *how, *arguments])


def run(command: Sequence[str]) -> str:
    """Run a command in the C locale; its output, PackagesError with its last log lines when it fails."""
    environment = {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "NEEDRESTART_SUSPEND": "1",
    }
    # Procedures have theirs in memory, where maintainer scripts may not be executable.
    environment.pop("TMPDIR", None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        output = redaction.plain(done.stdout)
        words = unmet(output) or endings.said(
            redaction.plain(done.stderr), output, status=done.returncode, lines=6
        )
        raise PackagesError(f"{' '.join(command[:1])} failed ({done.returncode}): {words}", output)
    return done.stdout


def unmet(output: str) -> str:
    """The dependencies that APT says it cannot meet; empty when it does not say so."""
    _, found, listed = output.partition("unmet dependencies:\n")
    return last_lines(listed) if found else ""


def last_lines(output: str, most: int = 6) -> str:
    """The end of an output in one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return "; ".join(lines[-most:])[-900:]


def hold(names: Iterable[str], *, held: bool) -> None:
    """Mark packages as held, or no longer."""
    if listed := sorted(names):
        run(["apt-mark", "hold" if held else "unhold", *listed])


def archive(archives: Path, name: str, version: str) -> Path | None:
    """The file of a package that was kept, if it was."""
    return next(iter(archives.glob(f"{name}_{version.replace(':', '%3a')}_*.deb")), None)


def unavailable(wanted: Mapping[str, str], archives: Path) -> dict[str, str]:
    """Those of the packages whose wanted version was not kept in `archives`, and which APT does not know."""
    return {
        name: version
        for name, version in wanted.items()
        if archive(archives, name, version) is None and version not in versions(name)
    }


def removable(names: Sequence[str], archives: Path) -> list[str]:
    """Those of the packages whose removal takes none but them, since others may need the rest by now."""

    def alone(removed: Sequence[str]) -> bool:
        found = changes(get("remove", *removed, archives=archives, simulate=True))
        return all(change.name in names for change in found if not change.new)

    return list(names) if not names or alone(names) else [name for name in names if alone([name])]


def restore(removed: Sequence[str], installed: Mapping[str, str], archives: Path) -> None:
    """Purge packages and install others in the versions that they had, from `archives` where they were kept.

    The parts of a package whose installation failed are purged too.
    """
    if removed:
        get("purge", *removed, archives=archives)
    wanted = [
        str(archive(archives, name, version) or f"{name}={version}") for name, version in installed.items()
    ]
    if wanted:
        get("install", *wanted, archives=archives)
