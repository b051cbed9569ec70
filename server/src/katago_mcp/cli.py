"""The command line: `katago-mcp serve|stdio|validate|version|call|cache`."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from katago_mcp import __version__, config, logs

EX_CONFIG = 78
"""Exit status for a configuration error [sysexits.h]; systemd must not restart the service."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="katago-mcp", description="An MCP server that analyses Go games with KataGo."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    def takes_config(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--config",
            type=Path,
            default=config.DEFAULT_PATH,
            metavar="FILE",
            help="configuration (default: %(default)s)",
        )

    serve = command("serve", "serve MCP over Streamable HTTP")
    takes_config(serve)
    serve.add_argument(
        "--overlay",
        type=Path,
        metavar="FILE",
        help="file with temporary lower limits; it may be missing (default: none)",
    )
    takes_config(command("stdio", "serve MCP over stdin and stdout"))
    validate = command(
        "validate", "check the configuration, the files and the engine; status 1 if a check fails"
    )
    takes_config(validate)
    validate.add_argument("--no-engine", action="store_true", help="skip the engine checks")
    validate.add_argument("--json", action="store_true", help="print JSON")
    validate.add_argument("--verbose", action="store_true", help="print what the engine logs on stderr")
    version = command("version", "print version and release")
    takes_config(version)
    version.add_argument("--json", action="store_true", help="print JSON")
    command("call", "call tools of a server: reads a JSON request from stdin, prints a JSON report")
    cache = command("cache", "check or clear the cache on disk; the server may be running")
    actions = cache.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, text in (
        ("verify", "check the file and every entry; status 1 if anything is damaged"),
        ("clear", "delete all cached answers; a damaged file is quarantined"),
    ):
        action_parser = actions.add_parser(action, help=text, description=text)
        takes_config(action_parser)
        action_parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _serve(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    # Imported here: importing the MCP SDK takes over a second, and `version` does not need it.
    from katago_mcp import serve
    from katago_mcp.http import BindError

    try:
        loaded = config.load(arguments.config, environ)
        logs.configure(loaded.config.logging.level, loaded.config.logging.format)
        if arguments.command == "serve":
            asyncio.run(serve.serve(loaded, environ, arguments.overlay))
        else:
            asyncio.run(serve.stdio(loaded, environ))
    except config.ConfigError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return EX_CONFIG
    except BindError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _validate(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from katago_mcp.validate import validate

    logs.configure("debug" if arguments.verbose else "error", "text")
    report = asyncio.run(validate(arguments.config, environ, engine=not arguments.no_engine))
    print(json.dumps(report.as_json()) if arguments.json else report.as_text())
    return 0 if report.ok else 1


def _version(arguments: argparse.Namespace, _: Mapping[str, str]) -> int:
    release = config.release_of(arguments.config)
    if arguments.json:
        print(json.dumps({"version": __version__, "release": release}))
    else:
        print(f"katago-mcp {__version__} (release {release or 'none'})")
    return 0


def _call(_arguments: argparse.Namespace, _: Mapping[str, str]) -> int:
    from katago_mcp.client import call

    logs.configure("error", "text")
    report = asyncio.run(call(sys.stdin.buffer.read()))
    print(json.dumps(report))
    return 0 if report["ok"] else 1


def _cache(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from katago_mcp import cache

    logs.configure("error", "text")
    try:
        loaded = config.load(arguments.config, environ, serving=False).config
    except config.ConfigError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return EX_CONFIG
    settings = loaded.cache
    report: dict[str, object]
    if arguments.action == "verify":
        verdict = cache.verify(settings)
        ok = not verdict.problems
        report = {
            "present": verdict.present,
            "entries": verdict.entries,
            "bytes": verdict.bytes,
            "damagedEntries": verdict.damaged,
            "expiredEntries": verdict.expired,
            "problems": list(verdict.problems),
        }
        text = f"{verdict.entries} answers, {verdict.bytes} bytes, {verdict.expired} expired"
        text = "; ".join([text if verdict.present else "no cache file yet", *verdict.problems])
    else:
        try:
            before, after, quarantined = cache.clear(settings, shared=loaded.shared_cache.url is not None)
        except cache.CacheTrouble as error:
            ok, report, text = False, {"problems": [str(error)]}, str(error)
        else:
            ok = True
            report = {
                "before": asdict(before),
                "after": asdict(after),
                "quarantine": None if quarantined is None else quarantined.name,
            }
            text = f"deleted {before.entries} answers, {before.bytes} bytes"
            if quarantined is not None:
                text = (
                    f"the file was damaged and moved to {quarantined.name}; the server will create a new one"
                )
    path = settings.directory / cache.FILE
    if arguments.json:
        print(json.dumps({"ok": ok, "file": str(path), **report}))
    else:
        print(f"{'ok' if ok else 'FAIL'}  {path}: {text}")
    return 0 if ok else 1


_COMMANDS = {
    "serve": _serve,
    "stdio": _serve,
    "validate": _validate,
    "version": _version,
    "call": _call,
    "cache": _cache,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 on failure, 78 on a configuration error."""
    arguments = _parser().parse_args(argv)
    return _COMMANDS[arguments.command](arguments, os.environ)


if __name__ == "__main__":
    sys.exit(main())
