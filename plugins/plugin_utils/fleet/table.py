"""The overview as a table for a terminal, at most 100 columns wide. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from ansible_collections.katago.fleet.plugins.module_utils.incident import wording
from ansible_collections.katago.fleet.plugins.plugin_utils.fleet.overview import Overview

WIDTH = 100
_LONGEST_HOST = 28
_LONGEST_RELEASE = 24
_LONGEST_CELL = 12
_HEAD = ("HOST", "RELEASE", "SINCE", "STATE", "LB", "BACKUP", "CERT")


def render(overview: Overview) -> str:
    """A line for every host, those with something to say first, then what is to be said."""
    rows: list[tuple[str, ...]] = [_HEAD]
    for host in overview.ordered:
        row = overview.row(host)
        cells = (row.release, row.since, row.state, row.rotation, row.backup, row.certificate)
        others = (shortened(each, _LONGEST_CELL) for each in cells[1:])
        rows.append((shortened(host, _LONGEST_HOST), shortened(cells[0], _LONGEST_RELEASE), *others))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    summary = [overview.headline]
    if len(overview.versions) > 1:
        summary += [f"Versions: {wording.one_line(each)}." for each in overview.versions]
    wrapped = [line for text in summary for line in _wrapped("", text, "  ")]
    return "\n".join(["", *lines, "", *wrapped, *_details(overview), ""])


def shortened(text: str, most: int) -> str:
    """A text without control characters, cut in the middle so that the ends, which differ, remain."""
    text = wording.one_line(text)
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}~{text[-tail:]}"


def _details(overview: Overview) -> Iterator[str]:
    for host in overview.ordered:
        if not overview.findings[host]:
            continue
        yield ""
        yield wording.one_line(host)[:WIDTH]
        for each in overview.findings[host]:
            mark = "!!" if each.urgent else "- "
            yield from _wrapped(f"  {mark} {each.kind}: ", wording.one_line(each.text), "     ")


def _wrapped(start: str, text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=start, subsequent_indent=indent, break_on_hyphens=False)
