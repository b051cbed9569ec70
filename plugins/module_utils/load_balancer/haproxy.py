"""Checks a configuration with HAProxy itself, and translates its messages."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.common import commands, endings
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer import config
from ansible_collections.katago.fleet.plugins.module_utils.load_balancer.settings import Settings

CHECK_SECONDS = 60
# "[ALERT] (123) : config : parsing [/path/haproxy.cfg:12] : 'bind' : unknown keyword"
_MESSAGE = re.compile(r"\[(?P<level>ALERT|WARNING)\]\s*\(\d+\) : (?P<text>.*)")
_PLACE = re.compile(r"(?:config : )?(?:parsing )?\[(?P<file>[^\]]+):(?P<line>\d+)\]\s*:?\s*(?P<text>.*)")
# What follows every error and adds nothing.
_SUMMARY = re.compile(
    r"(config : )?(Error\(s\) found in configuration file|Fatal errors found|.*has no errors)"
)


def problems(program: Path, settings: Settings, out: frozenset[str], certificate: str, ca: str) -> list[str]:
    """What HAProxy rejects or warns of, each with its line; [] if the configuration is clean.

    `certificate`, `ca`: the PEM texts that the settings name as files. They and the configuration lie in a
    private directory meanwhile. Raises OSError.
    """
    with tempfile.TemporaryDirectory(prefix="katago-load-balancer-") as scratch:
        directory = Path(scratch)
        staged = replace(
            settings,
            certificate=_staged(directory / "certificate.pem", certificate),
            ca_file=_staged(directory / "ca.pem", ca),
        )
        text = config.render(staged, out)
        file = directory / "haproxy.cfg"
        file.write_text(text)
        status, output = commands.ask([str(program), "-c", "-f", str(file)], CHECK_SECONDS)
    return translated(output, text) or ([] if status == 0 else [endings.describe(output, status=status)])


def _staged(path: Path, content: str) -> str:
    if not content:
        return ""
    path.touch(mode=0o600)
    path.write_text(content)
    return str(path)


def translated(output: str, text: str) -> list[str]:
    """HAProxy's errors and warnings about a configuration; each names the line and quotes it."""
    found = []
    lines = text.splitlines()
    for line in output.splitlines():
        message = _MESSAGE.search(line)
        if not message or _SUMMARY.match(message["text"]):
            continue
        place = _PLACE.match(message["text"])
        if not place:
            found.append(message["text"].removeprefix("config : "))
            continue
        number = int(place["line"])
        quoted = lines[number - 1].strip() if 0 < number <= len(lines) else ""
        found.append(f"line {number}, `{quoted[:120]}`: {place['text']}")
    return found
