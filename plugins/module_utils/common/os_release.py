"""The operating system of a host, by os-release(5), and whether this collection was tested on it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TESTED: Mapping[str, tuple[str, ...]] = {"debian": ("12", "13")}
_TESTED_NAMES = "Debian 12 and 13"


class OsReleaseError(Exception):
    """A host does not tell what system it runs; the message says where, why and what is expected."""


@dataclass(frozen=True)
class System:
    """A system: `id` as debian, `version` as 13 and empty for a rolling one, `codename` as trixie.

    `name`: for people. `like`: the ids of the systems that it is derived from.
    """

    id: str
    version: str = ""
    codename: str = ""
    name: str = ""
    like: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Its name, and what decides."""
        release = f"{self.id} {self.version or _rolling(self.codename)}"
        return f"{self.name} ({release})" if self.name else release

    @property
    def is_tested(self) -> bool:
        """Whether the scenarios of this collection run on it."""
        return self.version in TESTED.get(self.id, ())

    @property
    def has_apt(self) -> bool:
        """Whether its packages are Debian's or made like them, which the roles need."""
        return bool({"debian", "ubuntu"} & {self.id, *self.like})


def read(path: Path) -> System:
    """The system that a host's os-release names.

    Raises:
        OsReleaseError: there is no such file, or it does not name a system.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise OsReleaseError(
            f"{path} cannot be read: {error.strerror or error}. It names the host's system; the package"
            " base-files has it, as a link to ../usr/lib/os-release."
        ) from error
    return parse(text, str(path))


def parse(text: str, place: str) -> System:
    """The system that the text of an os-release names; `place` is where it was read, for errors.

    Raises:
        OsReleaseError: naming the line, or the field that is missing.
    """
    fields: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, assigned, value = stripped.partition("=")
        try:
            words = shlex.split(value) if assigned else []
        except ValueError as error:
            raise _malformed(place, number, stripped, f"{error}".lower()) from error
        if not assigned or len(words) > 1:
            raise _malformed(place, number, stripped, "it is no assignment of one value")
        fields[name] = "".join(words)
    if not fields.get("ID"):
        raise OsReleaseError(
            f"{place} has no ID, so the host's system is unknown. Expected is a file as os-release(5)"
            " describes it, with ID=debian for example."
        )
    return System(
        id=fields["ID"],
        version=fields.get("VERSION_ID", ""),
        codename=fields.get("VERSION_CODENAME", ""),
        name=fields.get("PRETTY_NAME", ""),
        like=tuple(fields.get("ID_LIKE", "").split()),
    )


def warning(system: System) -> str:
    """What every report says of a host whose system was not tested; empty for one that was."""
    return "" if system.is_tested else f"untested system: {system}; tested are {_TESTED_NAMES}"


def warning_of(path: Path) -> str:
    """As `warning`, of the host itself; also where its system cannot be told."""
    try:
        return warning(read(path))
    except OsReleaseError as error:
        return f"unknown system: {error}"


def refusal(system: System) -> str:
    """Why a host with a system that was not tested is refused, and how it is tried anyway."""
    words = f"The host runs {system}; tested are {_TESTED_NAMES}."
    if not system.has_apt:
        return f"{words} Packages are installed with APT, which this system is not known to have."
    return f"{words} To try it anyway, with a warning in every report: preflight_untested_system: true"


def _rolling(codename: str) -> str:
    return f"without VERSION_ID, {codename}" if codename else "without VERSION_ID"


def _malformed(place: str, number: int, line: str, why: str) -> OsReleaseError:
    return OsReleaseError(
        f"{place} is malformed in line {number}, {line[:80]!r}: {why}. Expected are lines as os-release(5)"
        ' describes them, ID=debian or VERSION_ID="13" for example.'
    )
