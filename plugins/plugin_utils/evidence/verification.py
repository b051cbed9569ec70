"""Verifies evidence: reports everything that was changed, removed, added or moved since it was stored."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import bundle


def main(arguments: Sequence[str]) -> int:
    """Verify and print every directory. Exit status: 0 if all are intact, 1 if not, 2 for a usage error."""
    parser = argparse.ArgumentParser(prog="bin/evidence", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    verify = commands.add_parser("verify", help="verify every byte of evidence", description=__doc__)
    verify.add_argument(
        "directories",
        metavar="DIR",
        nargs="+",
        type=Path,
        help="a directory of evidence, or a directory above it, such as RECORDS/evidence/INCIDENT",
    )
    verify.add_argument(
        "--key",
        action="append",
        type=Path,
        help="an accepted public key, from a copy that nobody can change"
        f" (default: the keys in {bundle.KEYS} next to the evidence)",
    )
    options = parser.parse_args(arguments)
    failed = False
    for directory in options.directories:
        bundles = list(kept_below(directory))
        if not bundles:
            print(f"FAILED  {directory}  there is no evidence in this directory")
            failed = True
        for each in bundles:
            finding = bundle.verify(each, options.key or [keys_beside(each)])
            print(finding.summary)
            for problem in finding.problems:
                print(f"        {problem}")
            failed |= bool(finding.problems)
    return 1 if failed else 0


def kept_below(directory: Path) -> Iterator[Path]:
    """The directories of evidence at or below a directory."""
    if not directory.is_dir():
        return
    inside = sorted(path for path in directory.iterdir() if path.is_dir() and path.name != bundle.KEYS)
    if (directory / bundle.MANIFEST).exists() or not inside:
        yield directory
    else:
        for path in inside:
            yield from kept_below(path)


def keys_beside(directory: Path) -> Path:
    """The directory of public keys, next to `directory` or to its nearest parent that has one."""
    above = [directory.resolve(), *directory.resolve().parents]
    return next((path / bundle.KEYS for path in above if (path / bundle.KEYS).is_dir()), Path(bundle.KEYS))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
