"""Whether the service is deployed on a host, and what a host says on which it is not."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.katago.fleet.plugins.module_utils.release.layout import Layout

NEEDS_RELEASE = frozenset(
    {"backup", "baseline", "mitigate", "mitigate_undo", "purge_cache", "restart", "rollback"}
)
"""The procedures that lock a host and have nothing to do on one without a deployment."""


def undeployed(layout: Layout, unit_file: Path) -> str:
    """Why the service is not deployed, as a sentence without its end; empty if it is.

    A host that has a unit was deployed once: what is missing there is damage. `unit_file`: the unit's file.
    """
    if layout.current.is_symlink() or unit_file.exists() or unit_file.is_symlink():
        return ""
    if built := layout.complete():
        return (
            f"the deployment of katago-mcp did not finish: {', '.join(built)} was built, but not switched to"
        )
    return "katago-mcp is not deployed on this host"


def refusal(why: str, host: str) -> str:
    """The error of a procedure on a host that `undeployed` describes."""
    return f"Refused; nothing was changed on this host: {why}. Deploy it first: {command(host)}"


def command(host: str) -> str:
    """The command that deploys the service on a host."""
    return f"ansible-playbook playbooks/deploy.yml -l {host}"
