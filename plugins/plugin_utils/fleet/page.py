"""The overview as one HTML page that loads nothing else. Pure; all texts are escaped by `review.blocks`."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.plugin_utils.fleet.findings import Host
from ansible_collections.katago.fleet.plugins.plugin_utils.fleet.overview import NOTHING, Overview
from ansible_collections.katago.fleet.plugins.plugin_utils.review import blocks

_HEAD = ("Host", "Release", "Since", "State", "Rotation", "Backup", "Certificate", "Driver", "Findings")


def render(overview: Overview) -> str:
    """The page: the fleet in a table, then each host with its findings and details."""
    return blocks.as_html(blocks.Document("The fleet", tuple(_blocks(overview))), dark=True)


def _blocks(overview: Overview) -> Iterator[blocks.Block]:
    urgent = any(each.urgent for found in overview.findings.values() for each in found)
    yield blocks.Paragraph(
        f"{overview.headline} As of {timestamps.stamp(overview.now)}.", "warning" if urgent else "good"
    )
    if len(overview.versions) > 1:
        yield blocks.Bullets(tuple(overview.versions))
    rows = []
    for host in overview.ordered:
        row, found = overview.row(host), overview.findings[host]
        kinds = ", ".join(dict.fromkeys(each.kind for each in found))
        cells = (row.release, row.since, row.state, row.rotation, row.backup, row.certificate, row.driver)
        rows.append((host, *cells, kinds or NOTHING))
    yield blocks.Table(_HEAD, tuple(rows))
    for host in overview.ordered:
        yield blocks.Heading(host)
        for each in overview.findings[host]:
            yield blocks.Paragraph(f"{each.kind}: {each.text}", "warning" if each.urgent else "plain")
        if facts := tuple(_facts(overview.hosts[host])):
            yield blocks.Facts(facts)


def _facts(host: Host) -> Iterator[tuple[str, str]]:
    values = host.facts.values
    if (release := values.get("release")) and release["current"]:
        verdict = {"good": "validated", "bad": "rejected"}.get(str(release["verdict"]), "not validated")
        since = f", since {release['since']}" if release["since"] else ""
        yield "Release", f"{release['current']}, {verdict}{since}"
        yield "Running", release["running"] or "nothing"
        yield "Previous", release["previous"] or "none"
        yield "Rollback target", release["target"] or "none"
        if "version" in release:
            yield "Server, engine", f"{release['version']}, {release.get('engine_version') or 'unknown'}"
    if (service := values.get("service")) and service["started_at"]:
        yield "Started", timestamps.stamp(service["started_at"])
    if host.rotation:
        yield "Rotation", ": ".join(filter(None, (host.rotation.state, host.rotation.why)))
    if (backup := values.get("backup")) and backup["verified_at"]:
        yield "Verified backup", f"{backup['snapshot']} of {backup['verified_at']}"
    if reboot := values.get("reboot"):
        newest = f", newest installed: {reboot['newest']}" if reboot["newest"] else ""
        yield "Kernel", f"{reboot['running']}{newest}"
    if driver := values.get("driver"):
        yield "GPU driver", driver
    if host.skew is not None:
        yield "Clock", f"{host.skew:+.1f} s"
