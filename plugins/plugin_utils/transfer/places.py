"""Directories of a host for temporary files: which ones work, and which one replaces a full one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Where programs look if TMPDIR is not set, then what works on a full or read-only disk.
ALTERNATIVES = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 (names only, the files in them are random)
# For files in transit. Only root can write to its parent.
TRANSIT = "/var/cache/katago-ansible"

# Prints one line for each directory that it tries: its name, a tab, and the error (empty if it works). It
# stops at the first one of each list that works, since the disks may be evidence. A missing directory is
# represented by the one in which it would be created.
_SCRIPT = """\
LC_ALL=C; export LC_ALL; umask 077
try() {{
  bytes=$1; shift
  for place; do
    case $place in '~/'*) at=$HOME/${{place#'~/'}};; *) at=$place;; esac
    while [ ! -d "$at" ]; do at=$(dirname "$at"); done
    if file=$(mktemp "$at/.katago.XXXXXXXX" 2>&1); then
      error=$(head -c "$bytes" /dev/zero 2>&1 >"$file"); rm -f "$file"
    else
      error=$file
    fi
    printf '%s\\t%s\\n' "$place" "$(printf %s "$error" | tr '\\n\\t' '  ')"
    [ -n "$error" ] || break
  done
}}
try {bytes} {temporary}
try {transit_bytes} {transit}
"""
_TRANSIT_BYTES = 256 << 10


@dataclass(frozen=True)
class Choice:
    """What a procedure uses for temporary files.

    `directory`: instead of the preferred directory; empty if that works. `transit`: likewise for files in
    transit. `warnings`: the directories that do not work, with the remedy. `refusal`: why there is no
    directory for temporary files; empty if there is one.
    """

    directory: str = ""
    transit: str = ""
    warnings: tuple[str, ...] = ()
    refusal: str = ""


def script(temporary: Sequence[str], transit: Sequence[str], megabytes: int) -> str:
    """A shell script that tries directories by writing to them, and leaves nothing behind.

    `temporary`: directories for temporary files, in which `megabytes` must be free. `transit`: directories
    for files in transit.
    """
    return _SCRIPT.format(
        bytes=megabytes << 20,
        transit_bytes=_TRANSIT_BYTES,
        temporary=" ".join(map(shlex.quote, temporary)),
        transit=" ".join(map(shlex.quote, transit)),
    )


def parse(output: str) -> dict[str, str]:
    """The output of the script: place to error, which is empty if the place works."""
    lines = (line.split("\t", 1) for line in output.splitlines() if "\t" in line)
    return {place: error.rpartition(": ")[2].strip() or error.strip() for place, error in lines}


def choose(errors: Mapping[str, str], *, preferred: str, transit: str, host: str) -> Choice:
    """The directories to use. `preferred`, `transit`: those that Ansible would use."""
    usable = [place for place in (preferred, *ALTERNATIVES) if errors.get(place) == ""]
    if not usable:
        tried = "; ".join(f"{place}: {errors.get(place) or 'no answer'}" for place in _tried(preferred))
        return Choice(
            refusal=(
                f"Refused; nothing was changed on this host. {host} has no directory for temporary files:"
                f" {tried}. Free space in one of them (see `df -h` and `df -i`), or mount it writable,"
                " then run again."
            )
        )
    warnings = []
    directory = "" if usable[0] == preferred else usable[0]
    if directory:
        warnings.append(f"{_lack(host, preferred, errors[preferred])}; {directory} is used instead.{_FREE}")
    other = ""
    if errors.get(transit):
        other = TRANSIT if errors.get(TRANSIT) == "" else ""
        instead = f"{other} is used instead" if other else "no file can be sent to the host"
        warnings.append(f"{_lack(host, transit, errors[transit])}; {instead}.{_FREE}")
    return Choice(directory=directory, transit=other, warnings=tuple(warnings))


_FREE = " Free space there (see `df -h` and `df -i`)."


def _lack(host: str, place: str, error: str) -> str:
    return f"{place} on {host} cannot be used for temporary files ({error})"


def _tried(preferred: str) -> list[str]:
    return list(dict.fromkeys((preferred, *ALTERNATIVES)))
