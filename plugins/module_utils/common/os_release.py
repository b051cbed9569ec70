"""The operating system of a host, read from os-release(5), and whether this collection was tested on it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TESTED: Mapping[str, tuple[str, ...]] = {"debian": ("12", "13")}
_TESTED_NAMES = "Debian 12 and 13"


class OsReleaseError(Exception):
    """The host's system is unknown. The message names the file, the problem and what is expected."""


@dataclass(frozen=True)
class System:
    """An operating system.

    `id`: such as debian. `version`: such as 13, empty for a rolling release. `codename`: such as trixie.
    `name`: the name for people. `like`: the ids of the systems that it is derived from.
    """

    id: str
    version: str = ""
    codename: str = ""
    name: str = ""
    like: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The name, and the id and version by which the system is recognized."""
        release = f"{self.id} {self.version or _rolling(self.codename)}"
        return f"{self.name} ({release})" if self.name else release

    @property
    def is_tested(self) -> bool:
        """Whether this collection is tested on the system."""
        return self.version in TESTED.get(self.id, ())

    @property
    def has_apt(self) -> bool:
        """Whether the system is Debian or derived from it. The roles need APT."""
        return bool({"debian", "ubuntu"} & {self.id, *self.like})


def read(path: Path) -> System:
    """Read the host's system from its os-release file.

    Raises:
        OsReleaseError: the file is missing or malformed, or does not name a system.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise OsReleaseError(
            f"{path} cannot be read: {error.strerror or error}. This file names the host's system. The"
            " package base-files provides it, as a link to ../usr/lib/os-release."
        ) from error
    return parse(text, str(path))


def parse(text: str, place: str) -> System:
    """Parse the text of an os-release file. `place`: where it was read, for error messages.

    Raises:
        OsReleaseError: the message names the malformed line or the missing field.
    """
    fields: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, assigned, value = stripped.partition("=")
        try:
            values = shlex.split(value) if assigned else []
        except ValueError as error:
            raise _malformed(place, number, stripped, f"{error}".lower()) from error
        if not assigned or len(values) > 1:
            raise _malformed(place, number, stripped, "it does not assign exactly one value")
        fields[name] = "".join(values)
    if not fields.get("ID"):
        raise OsReleaseError(
            f"{place} has no line such as ID=debian, so the host's system is unknown. Repair it, for"
            " example with `apt-get install --reinstall base-files`; os-release(5) describes it."
        )
    return System(
        id=fields["ID"],
        version=fields.get("VERSION_ID", ""),
        codename=fields.get("VERSION_CODENAME", ""),
        name=fields.get("PRETTY_NAME", ""),
        like=tuple(fields.get("ID_LIKE", "").split()),
    )


def warning(system: System) -> str:
    """The warning for every report on a host with an untested system; empty for a tested system."""
    return "" if system.is_tested else f"untested system: {system}; tested: {_TESTED_NAMES}"


def warning_of(path: Path) -> str:
    """Like `warning`, for the system that the file names. Also warns if the file cannot be used."""
    try:
        return warning(read(path))
    except OsReleaseError as error:
        return f"unknown system: {error}"


def refusal(system: System) -> str:
    """Why a host with an untested system is refused, and how to use it anyway."""
    cause = f"The host runs {system}; tested: {_TESTED_NAMES}."
    if not system.has_apt:
        return f"{cause} The roles need APT, which this system is not known to have."
    return f"{cause} To use it anyway, with a warning in every report: preflight_untested_system: true"


def _rolling(codename: str) -> str:
    return f"without VERSION_ID, {codename}" if codename else "without VERSION_ID"


def _malformed(place: str, number: int, line: str, why: str) -> OsReleaseError:
    return OsReleaseError(
        f"{place} is malformed in line {number}, {line[:80]!r}: {why}. Expected: lines as described in"
        ' os-release(5), for example ID=debian or VERSION_ID="13".'
    )
