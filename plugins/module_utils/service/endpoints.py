"""Access to the service from its own host: probes, metrics, and tool calls through the MCP client."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import endings, prometheus
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.service import credentials, http

# Time for the client to start and to disconnect on a busy host, beyond its own deadline.
_CLIENT_SECONDS = 15

# The service does not count these calls as cache traffic of clients. Releases of 0.2.0 ignore it.
_PROBE = {"KATAGO_MCP_PROBE": "1"}
T = TypeVar("T", str, int)


@dataclass(frozen=True)
class Endpoints:
    """The addresses and ports on which the service and its metrics listen."""

    host: str = "127.0.0.1"
    port: int = 8080
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9090
    tls: bool = False
    metrics_enabled: bool = True

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Endpoints:
        """The endpoints of a configuration. Raises ValueError if a setting is missing or malformed."""
        return cls(
            host=_setting(config, "server", "host", str),
            port=_setting(config, "server", "port", int),
            metrics_host=_setting(config, "metrics", "host", str),
            metrics_port=_setting(config, "metrics", "port", int),
            tls=http.secured(config),
            metrics_enabled=config["metrics"].get("enabled") is not False,
        )

    @classmethod
    def of_release(cls, layout: release_layout.Layout) -> Endpoints:
        """The endpoints of the current release; the defaults if its configuration cannot be used."""
        try:
            return cls.of(json.loads((layout.current / "config.json").read_text()))
        except (OSError, ValueError):
            return cls()

    @property
    def url(self) -> str:
        """The URL of the MCP endpoint, as reached from the host itself."""
        host = http.reachable(self.host)
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}/mcp"

    def probe(self, path: str, seconds: float = http.ASK_SECONDS) -> tuple[int, dict[str, Any]] | None:
        """Status and JSON body of `/health` or `/ready`; None without a response in time."""
        return http.ask_json(self.host, self.port, path, seconds=seconds, tls=self.tls)

    def status_under(self, name: str) -> int | None:
        """The status of a request without a message to `/mcp` under a host name; None without a response."""
        token = credentials.operator_token() or ""
        answer = http.ask(self.host, self.port, "/mcp", token=token, tls=self.tls, limit=0, name=name)
        return None if answer is None else answer[0]

    def answer(self, path: str, seconds: float) -> dict[str, Any]:
        """A probe as a mapping: `status` (None without a response in time), `body`, `seconds` (the limit)."""
        status, body = self.probe(path, seconds) or (None, {})
        return {"status": status, "body": body, "seconds": seconds}

    def exposed(self, seconds: float = http.ASK_SECONDS) -> str | None:
        """The text of the metrics; None if they were not served in time."""
        answer = http.ask(self.metrics_host, self.metrics_port, "/metrics", seconds=seconds)
        if answer is None or answer[0] != 200:
            return None
        return answer[1].decode(errors="replace")

    @property
    def unserved(self) -> str:
        """Why there are no metrics, as the end of a sentence that starts with "/metrics"."""
        if self.metrics_enabled:
            return "is not served"
        return "is off: metrics.enabled is false in the configuration; switch it on and deploy"

    def scrape(self) -> prometheus.Scrape | None:
        """The metrics; None if they are unavailable or not in the exposition format."""
        return http.scrape(self.metrics_host, self.metrics_port)

    def call(self, command: Path, calls: Sequence[Mapping[str, Any]], deadline: float) -> dict[str, Any]:
        """Make tool calls with the MCP client; its output, or only an `error` if the client itself failed.

        `deadline`: seconds for all calls together. The client runs as the user nobody, because any process
        may listen on the service's port.
        """
        token = credentials.operator_token()
        request = {
            "url": self.url,
            "deadline": deadline,
            "protocol": "auto",
            "calls": list(calls),
            **({"certificate": str(paths.PINNED_CERTIFICATE)} if self.tls else {}),
            **({"token": token} if token else {}),
        }
        try:
            done = subprocess.run(
                [command, "call"],
                input=json.dumps(request),
                capture_output=True,
                text=True,
                timeout=deadline + _CLIENT_SECONDS,
                user="nobody",
                group="nogroup",
                extra_groups=[],
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", **_PROBE},
                check=False,
            )
            answer = json.loads(done.stdout)
            return (
                answer if isinstance(answer, dict) else {"error": "the output of the MCP client is no object"}
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return {"error": f"the MCP client did not finish: {error}"}
        except ValueError:
            reason = endings.describe(done.stderr, status=done.returncode)
            return {"error": f"the MCP client failed: {reason}"}


def _setting(config: object, section: str, name: str, kind: type[T]) -> T:
    """A setting of an unchecked configuration. Errors do not show its value, which may be a secret."""
    values = config.get(section) if isinstance(config, Mapping) else None
    value = values.get(name) if isinstance(values, Mapping) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{section}.{name} is missing, or is not {'a text' if kind is str else 'a number'}")
    return value
