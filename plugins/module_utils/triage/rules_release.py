"""Rules for the current release: its files against the manifest, and its configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ansible_collections.katago.fleet.plugins.module_utils.release import layout
from ansible_collections.katago.fleet.plugins.module_utils.triage import facts, reason
from ansible_collections.katago.fleet.plugins.module_utils.triage.reason import Reason

# The rules that a host without the service cannot pass.
_OF_THE_SERVICE = (
    "cache",
    "clients",
    "config",
    "engine_failures",
    "engine_up",
    "engines",
    "error_rate",
    "fails_again",
    "health",
    "journal",
    "limits",
    "logged_errors",
    "metrics",
    "performance",
    "probe",
    "ready",
    "refused_logins",
    "unit",
)


def release(release: facts.Release, undeployed: str = "") -> Iterator[Reason]:
    """Report a missing or damaged release. Files that were changed or added are evidence.

    `undeployed`: why the service is not deployed, empty if it is.
    """
    damage = release["damage"]
    if undeployed:
        yield Reason("P0", "release", undeployed, "deployed", next=reason.DEPLOY)
    elif release["name"] is None:
        yield Reason("P0", "release", "no release is installed", "a complete release", next=reason.DEPLOY)
    elif damage:
        integrity = bool(layout.changed(damage))
        more = f" and {len(damage) - 3} more" if len(damage) > 3 else ""
        yield Reason(
            "P0",
            "release",
            f"{release['name']} is damaged: {'; '.join(damage[:3])}{more}",
            "all files match the manifest",
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


def without_consequences(reasons: Sequence[Reason]) -> list[Reason]:
    """The reasons without those that only say that a service which is not deployed does not work."""
    return [each for each in reasons if each.rule not in _OF_THE_SERVICE]


def config(config: facts.Config) -> Iterator[Reason]:
    """Report that the release rejects its configuration."""
    if not config["ok"]:
        yield Reason(
            "P0",
            "config",
            "the configuration is invalid: "
            + ("; ".join(config["problems"][:3]) or "`katago-mcp validate` rejects it"),
            "valid by the release's schema",
            escalate="the configuration is corrupted",
            next=reason.RESTORE,
        )


def _names_config(damage: Sequence[str]) -> bool:
    return any(line.split(" ")[0] in ("config.json", "analysis.cfg", "manifest.json") for line in damage)
