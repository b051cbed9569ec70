"""The running service's configuration and admin endpoints, used from its own host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import prometheus
from ansible_collections.katago.fleet.plugins.module_utils.service import credentials, http, unit

Answer = tuple[int, dict[str, Any]]


def read_config(directory: Path) -> dict[str, Any]:
    """The configuration in a release's directory. Raises OSError or ValueError if it is unusable."""
    config = json.loads((directory / "config.json").read_text())
    if not isinstance(config, dict):
        raise ValueError("config.json is not an object")
    return config


def running_config() -> dict[str, Any] | None:
    """The configuration with which the process was started, even if another one is current now.

    None if there is no process or its configuration is unusable.
    """
    pid = unit.state().pid
    if not pid:
        return None
    try:
        config = read_config(Path(f"/proc/{pid}/cwd"))
    except (OSError, ValueError):
        return None
    sections = [config.get(name) for name in ("server", "katago", "cache", "metrics")]
    return config if all(isinstance(section, dict) for section in sections) else None


def get(config: dict[str, Any], path: str) -> Answer | None:
    """Status and body of `/health` or `/ready`; None if there is no response."""
    server = config["server"]
    return http.ask_json(server["host"], server["port"], path, tls=http.secured(config))


def post(config: dict[str, Any], path: str, *, seconds: float) -> Answer | None:
    """Call an admin endpoint with the host's own token; None if there is no response."""
    server = config["server"]
    return http.ask_json(
        server["host"],
        server["port"],
        path,
        method="POST",
        token=credentials.operator_token(),
        seconds=seconds,
        tls=http.secured(config),
    )


def scrape(config: dict[str, Any]) -> prometheus.Scrape | None:
    """The metrics; None if they are unavailable."""
    return http.scrape(config["metrics"]["host"], config["metrics"]["port"])
