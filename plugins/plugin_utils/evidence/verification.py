"""Checks directories of evidence: whether anything was changed, lost, added or moved since it was kept."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ansible_collections.katago.fleet.plugins.plugin_utils.evidence import bundle


def main(arguments: Sequence[str]) -> int:
    """Print what was found in every directory; 0 when all is intact, 1 when not, 2 for a wrong call."""
    parser = argparse.ArgumentParser(prog="bin/evidence", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    verify = commands.add_parser("verify", help="check evidence byte for byte", description=__doc__)
    verify.add_argument(
        "directories",
        metavar="DIR",
        nargs="+",
        type=Path,
        help="a host's evidence of one time, or a directory above such, as RECORDS/evidence/INCIDENT",
    )
    verify.add_argument(
        "--key",
        action="append",
        type=Path,
        help="a public key that may have signed it, kept where nobody can change it"
        f" (default: those in {bundle.KEYS} beside the evidence)",
    )
    asked = parser.parse_args(arguments)
    wrong = False
    for directory in asked.directories:
        found = list(kept_below(directory))
        if not found:
            print(f"WRONG   {directory}  no evidence is there")
            wrong = True
        for each in found:
            finding = bundle.verify(each, asked.key or [keys_beside(each)])
            print(finding.summary)
            for problem in finding.problems:
                print(f"        {problem}")
            wrong |= bool(finding.problems)
    return 1 if wrong else 0


def kept_below(directory: Path) -> Iterator[Path]:
    """The directories of evidence in a directory: itself, or those of its incidents, hosts and times."""
    if not directory.is_dir():
        return
    inside = sorted(path for path in directory.iterdir() if path.is_dir() and path.name != bundle.KEYS)
    if (directory / bundle.MANIFEST).exists() or not inside:
        yield directory
    else:
        for path in inside:
            yield from kept_below(path)


def keys_beside(directory: Path) -> Path:
    """Where the public keys are: beside the nearest directory above that has them beside it."""
    above = [directory.resolve(), *directory.resolve().parents]
    return next((path / bundle.KEYS for path in above if (path / bundle.KEYS).is_dir()), Path(bundle.KEYS))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
