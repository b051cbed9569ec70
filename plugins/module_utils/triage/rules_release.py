"""Rules for what the service runs: its release, as the manifest says, and its configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ansible_collections.katago.fleet.plugins.module_utils.triage import facts, reason
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason


def release(release: facts.Release) -> Iterator[Reason]:
    """There is no release, or it is not as its manifest says; files that came or changed are evidence."""
    damage = release["damage"]
    if release["name"] is None:
        yield Reason("P0", "release", "there is no current release", "a whole one", next=reason.DEPLOY)
    elif damage:
        integrity = any(line.endswith((" was changed", " was added")) for line in damage)
        more = f" and {len(damage) - 3} more" if len(damage) > 3 else ""
        yield Reason(
            "P0",
            "release",
            f"{release['name']} is damaged: {'; '.join(damage[:3])}{more}",
            "as its manifest says",
            escalate=(
                "the configuration is corrupted"
                if _names_config(damage)
                else "data integrity is in doubt"
                if integrity
                else None
            ),
            next=reason.isolation("files of the release were changed") if integrity else reason.RESTORE,
            suspicious=integrity,
        )


def config(config: facts.Config) -> Iterator[Reason]:
    """The release does not accept its configuration."""
    if not config["ok"]:
        yield Reason(
            "P0",
            "config",
            "; ".join(config["problems"][:3]) or "katago-mcp validate refuses it",
            "valid by the release's own schema",
            escalate="the configuration is corrupted",
            next=reason.RESTORE,
        )


def _names_config(damage: Sequence[str]) -> bool:
    return any(line.split(" ")[0] in ("config.json", "analysis.cfg", "manifest.json") for line in damage)
