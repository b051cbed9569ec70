"""Renders the public status page: one HTML file that loads nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.incident import messages
from ansible_collections.katago.fleet.plugins.module_utils.incident import state as incident_state

KEPT = timedelta(days=7)

_STYLE = (
    "body{font-family:system-ui,sans-serif;line-height:1.5;max-width:42rem;margin:2rem auto;padding:0 1rem;"
    "color:#1c1c1c;background:#fff;overflow-wrap:anywhere}"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin-bottom:0}"
    ".now{padding:.75rem 1rem;border-left:.4rem solid;background:#f5f5f5}"
    ".normal{border-color:#1a7f37}.trouble{border-color:#b35900}"
    "ol{list-style:none;padding:0}li{margin:.75rem 0}time{color:#595959;font-size:.9rem;display:block}"
)
_HEADINGS = {
    "investigating": "Investigating",
    "identified": "Identified",
    "monitoring": "Monitoring",
    "resolved": "Resolved",
}
TEXTS: Mapping[incident_state.Status, str] = {
    "investigating": "Some analyses may fail or take longer than usual. We are looking into it.",
    "identified": "We know why some analyses fail or take longer than usual. We are working on a fix.",
    "monitoring": "The problem is fixed. We are watching closely to make sure that it stays fixed.",
    "resolved": "Analyses work normally again. We are sorry for the trouble.",
}
"""The default texts: what the page shows for a status unless the site or a person sets another text."""


@dataclass(frozen=True)
class Published:
    """The published part of an incident; its entries, the oldest first."""

    is_open: bool
    entries: tuple[incident_state.Public, ...]


def published(incident: incident_state.Incident) -> Published:
    """The published part of an incident."""
    return Published(incident.is_open and incident.status != "resolved", tuple(incident.public))


def render(incidents: Sequence[Published], title: str, now: datetime) -> str:
    """The page: the current state, then each incident that is open or ended within a week, newest first."""
    recent = [
        each
        for each in incidents
        if each.entries and (each.is_open or timestamps.parse(each.entries[-1].at) >= now - KEPT)
    ]
    recent.sort(key=lambda each: each.entries[0].at, reverse=True)
    current = [each for each in recent if each.is_open]
    state = "trouble" if current else "normal"
    text = current[0].entries[-1].text if current else "Everything works normally."
    sections = "\n".join(_section(each) for each in recent)
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
<p class="now {state}">{escape(text)}</p>
{sections or "<p>No incidents in the last seven days.</p>"}
<p><time datetime="{timestamps.stamp(now)}">Last updated: {messages.moment(now)}</time></p>
</main>
</body>
</html>
"""


def _section(each: Published) -> str:
    entries = "\n".join(
        f'<li><time datetime="{entry.at}">{messages.moment(timestamps.parse(entry.at))}</time>'
        f"<strong>{_HEADINGS[entry.status]}</strong> {escape(entry.text)}</li>"
        for entry in reversed(each.entries)
    )
    heading = _HEADINGS[each.entries[-1].status]
    return f"<section>\n<h2>{heading}</h2>\n<ol>\n{entries}\n</ol>\n</section>"
