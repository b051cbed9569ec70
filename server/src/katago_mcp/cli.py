"""The command line: `katago-mcp serve|stdio|validate|version|call`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from katago_mcp import __version__, config


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="katago-mcp", description="KataGo for AI assistants.")
    commands = parser.add_subparsers(dest="command", required=True)
    version = commands.add_parser("version", help="print version and release")
    version.add_argument("--config", type=Path, default=config.DEFAULT_PATH)
    version.add_argument("--json", action="store_true")
    return parser


def _version(arguments: argparse.Namespace) -> int:
    release = config.release_of(arguments.config)
    if arguments.json:
        print(json.dumps({"version": __version__, "release": release}))
    else:
        print(f"katago-mcp {__version__} (release {release or 'none'})")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = _parser().parse_args(argv)
    return _version(arguments)


if __name__ == "__main__":
    sys.exit(main())
