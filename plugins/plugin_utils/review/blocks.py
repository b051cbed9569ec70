"""Renders a document for people as Markdown and as an HTML page that loads nothing else.

Pure. All texts are plain text: markup is escaped; line breaks, control characters and apparent secrets are
removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from ansible_collections.katago.fleet.plugins.module_utils.common import redaction
from ansible_collections.katago.fleet.plugins.module_utils.incident import wording

Tone = Literal["plain", "warning", "good"]

_STYLE = """\
:root{color-scheme:light}
*{box-sizing:border-box}
body{font-family:system-ui,sans-serif;line-height:1.5;max-width:64rem;margin:0 auto;padding:1rem;\
color:#1c1c1c;background:#fff;overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.25}
h2{font-size:1.2rem;margin:2rem 0 .5rem;border-bottom:1px solid #ccc}
h3{font-size:1rem;margin:1.25rem 0 .25rem}
p{margin:.5rem 0}
.warning,.good{padding:.5rem .75rem;border-left:.35rem solid;background:#f5f5f5}
.warning{border-color:#b35900}
.good{border-color:#1a7f37}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem;margin:.5rem 0}
dt{font-weight:600}
dd{margin:0}
ul{padding-left:1.25rem}
table{border-collapse:collapse;width:100%;font-size:.875rem;margin:.5rem 0}
th,td{text-align:left;vertical-align:top;padding:.3rem .5rem;border-bottom:1px solid #ddd}
th{background:#f5f5f5;overflow-wrap:normal}
figure{margin:1rem 0}
.wide{overflow-x:auto}
svg{display:block;width:100%;min-width:34rem;height:auto}
figcaption{font-size:.875rem;color:#595959}
@media (min-width:40.01rem){
.short{white-space:nowrap}
}
@media screen and (max-width:40rem){
dl{grid-template-columns:1fr;gap:0}
dd{margin-bottom:.5rem}
thead{display:none}
tr{display:block;padding:.5rem 0;border-bottom:1px solid #bbb}
td{display:grid;grid-template-columns:6rem 1fr;gap:.5rem;border:0;padding:.1rem 0}
td::before{content:attr(data-label);color:#595959}
}
@media print{
body{max-width:none;padding:0;font-size:10pt}
svg{min-width:0}
tr,figure{break-inside:avoid}
h2,h3{break-after:avoid}
thead{display:table-header-group}
}"""
# Figures are drawn for a white background. A style has precedence over the attributes of a drawing.
_DARK = """\
:root{color-scheme:light dark}
@media screen and (prefers-color-scheme:dark){
body{color:#e6e6e6;background:#161616}
h2{border-color:#555}
.warning,.good,th{background:#262626}
.warning{border-color:#e69138}
.good{border-color:#57ab5a}
th,td,tr{border-color:#444}
td::before,figcaption{color:#a6a6a6}
svg,svg text{fill:#e6e6e6}
svg rect{fill:#33291c}
svg [stroke="#ddd"]{stroke:#3a3a3a}
svg [stroke="#0072b2"]{stroke:#56b4e9}
svg [stroke="#56b4e9"]{stroke:#b8dff5}
}"""
# The page must not load or run anything, whatever its texts contain.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_REDACTOR = redaction.Redactor()
# The most characters of a cell that is not wrapped on wide screens, such as a time or a name.
_SHORT = 20


@dataclass(frozen=True)
class Heading:
    """A heading. The document's title is level 1 and is not one of its blocks."""

    text: str
    level: Literal[2, 3] = 2


@dataclass(frozen=True)
class Paragraph:
    """A paragraph: plain text, a warning, or good news."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """A list of names with their values."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """A table. Each row has as many cells as the head."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Figure:
    """A drawing (`svg`, trusted markup), and the same information as text, for Markdown."""

    svg: str
    caption: str
    lines: tuple[str, ...]


Block = Heading | Paragraph | Bullets | Facts | Table | Figure


@dataclass(frozen=True)
class Document:
    """A title and the blocks of the document."""

    title: str
    blocks: Sequence[Block]


def clean(text: str) -> str:
    """A text on one line, without control characters and with apparent secrets redacted."""
    redacted, _ = _REDACTOR.redact(text.encode(errors="replace"))
    return wording.one_line(redacted.decode(errors="replace"))


def looks_secret(text: str) -> bool:
    """Whether a text contains an apparent secret, which `clean` would redact."""
    return _REDACTOR.redact(text.encode(errors="replace"))[1] > 0


def as_markdown(document: Document) -> str:
    """The document in GitHub's Markdown."""
    parts = [f"# {_plain(document.title)}", *(_markdown(block) for block in document.blocks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def as_html(document: Document, *, dark: bool = False) -> str:
    """The document as one HTML page, readable on a phone and in print.

    `dark`: the page follows a dark setting of the reader's system. Its figures must do so too.
    """
    style = f"{_STYLE}\n{_DARK}" if dark else _STYLE
    title = _safe(document.title)
    body = "\n".join(_html(block) for block in document.blocks)
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_plain(text)}"
        case Paragraph(text, tone):
            return f"**{_plain(text)}**" if tone == "warning" else _plain(text)
        case Bullets(items):
            return "\n".join(f"- {_plain(item)}" for item in items)
        case Facts(rows):
            return "\n".join(f"- **{_plain(name)}**: {_plain(text)}" for name, text in rows)
        case Table(head, rows):
            rendered = ["| " + " | ".join(_inline(cell) for cell in line) + " |" for line in (head, *rows)]
            return "\n".join([rendered[0], "|" + "---|" * len(head), *rendered[1:]])
        case Figure(_, caption, text_lines):
            return "\n".join([_plain(caption), "", *(f"- {_plain(each)}" for each in text_lines)]).strip()


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_safe(text)}</h{level}>"
        case Paragraph(text, tone):
            kind = "" if tone == "plain" else f' class="{tone}"'
            return f"<p{kind}>{_safe(text)}</p>"
        case Bullets(items):
            return "<ul>\n" + "\n".join(f"<li>{_safe(item)}</li>" for item in items) + "\n</ul>"
        case Facts(rows):
            entries = "\n".join(f"<dt>{_safe(name)}</dt><dd>{_safe(text)}</dd>" for name, text in rows)
            return f"<dl>\n{entries}\n</dl>"
        case Table(head, rows):
            top = "".join(f"<th>{_safe(name)}</th>" for name in head)
            body = "\n".join(_row(head, row) for row in rows)
            return f"<table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
        case Figure(svg, caption, _):
            caption = _safe(caption)
            return (
                f'<figure>\n<div class="wide">\n{svg}\n</div>\n<figcaption>{caption}</figcaption>\n</figure>'
            )


def _row(head: Iterable[str], cells: Iterable[str]) -> str:
    rendered = []
    for name, cell in zip(head, cells, strict=True):
        kind = ' class="short"' if len(cell) <= _SHORT else ""
        rendered.append(f'<td{kind} data-label="{_safe(name)}">{_safe(cell)}</td>')
    return f"<tr>{''.join(rendered)}</tr>"


def _safe(text: str) -> str:
    return escape(clean(text))


def _plain(text: str) -> str:
    """A text escaped for Markdown, also at the start of a line."""
    return re.sub(r"^([#+=-]|\d+(?=[.)]))", _escaped_start, _inline(text))


def _inline(text: str) -> str:
    """A text escaped for Markdown within a line, also in a table."""
    rendered = clean(text)
    rendered = rendered.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    rendered = re.sub(r"[\\`*\[\]|~]", r"\\\g<0>", rendered)
    # An underscore inside a word has no meaning in Markdown.
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", rendered)


def _escaped_start(match: re.Match[str]) -> str:
    start = match[0]
    return f"{start}\\" if start.isdigit() else f"\\{start}"


def lines(text: str) -> Iterator[str]:
    """The lines of a text that are not blank."""
    yield from (line for line in text.splitlines() if line.strip())
