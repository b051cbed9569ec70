"""The service as its own host reaches it: probes, metrics, and tool calls by the MCP client."""

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
from ansible_collections.katago.fleet.plugins.module_utils.service import http

# What the client takes to start and to say goodbye on a busy host, beyond its own deadline.
_CLIENT_SECONDS = 15

T = TypeVar("T", str, int)


@dataclass(frozen=True)
class Endpoints:
    """Where the service and its metrics are bound."""

    host: str = "127.0.0.1"
    port: int = 8080
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9090
    tls: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Endpoints:
        """Those of a configuration. Raises ValueError when it does not say."""
        return cls(
            host=_setting(config, "server", "host", str),
            port=_setting(config, "server", "port", int),
            metrics_host=_setting(config, "metrics", "host", str),
            metrics_port=_setting(config, "metrics", "port", int),
            tls=http.secured(config),
        )

    @classmethod
    def of_release(cls, layout: release_layout.Layout) -> Endpoints:
        """Those of the current release; the defaults when its configuration cannot be read."""
        try:
            return cls.of(json.loads((layout.current / "config.json").read_text()))
        except (OSError, ValueError):
            return cls()

    @property
    def url(self) -> str:
        """The address of MCP as the host itself reaches it."""
        host = http.reachable(self.host)
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}/mcp"

    def probe(self, path: str, seconds: float = http.ASK_SECONDS) -> tuple[int, dict[str, Any]] | None:
        """Status and JSON body of `/health` or `/ready`; None when there was no answer in time."""
        return http.ask_json(self.host, self.port, path, seconds=seconds, tls=self.tls)

    def answer(self, path: str, seconds: float) -> dict[str, Any]:
        """A probe's `status`, None when there was none in time, `body`, and the `seconds` that it had."""
        status, body = self.probe(path, seconds) or (None, {})
        return {"status": status, "body": body, "seconds": seconds}

    def exposed(self, seconds: float = http.ASK_SECONDS) -> str | None:
        """The text of the metrics; None when they were not served in time."""
        answer = http.ask(self.metrics_host, self.metrics_port, "/metrics", seconds=seconds)
        if answer is None or answer[0] != 200:
            return None
        return answer[1].decode(errors="replace")

    def scrape(self) -> prometheus.Scrape | None:
        """The metrics, None when there are none in the exposition format."""
        return http.scrape(self.metrics_host, self.metrics_port)

    def call(self, command: Path, calls: Sequence[Mapping[str, Any]], deadline: float) -> dict[str, Any]:
        """What the MCP client got for tool calls; its own failure is an answer with an error alone.

        `deadline` in seconds is for all calls together. The client runs as nobody: it talks to a
        service that may be anything.
        """
        token = paths.CREDENTIALS / paths.OPERATOR_TOKEN
        request = {
            "url": self.url,
            "deadline": deadline,
            "protocol": "auto",
            "calls": list(calls),
            **({"certificate": str(paths.PINNED_CERTIFICATE)} if self.tls else {}),
            **({"token": token.read_text().strip()} if token.exists() else {}),
        }
        try:
            asked = subprocess.run(
                [command, "call"],
                input=json.dumps(request),
                capture_output=True,
                text=True,
                timeout=deadline + _CLIENT_SECONDS,
                user="nobody",
                group="nogroup",
                extra_groups=[],
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"},
                check=False,
            )
            answer = json.loads(asked.stdout)
            return answer if isinstance(answer, dict) else {"error": "the client's answer is no object"}
        except (OSError, subprocess.TimeoutExpired) as error:
            return {"error": f"the MCP client did not end: {error}"}
        except ValueError:
            said = endings.said(asked.stderr, status=asked.returncode)
            return {"error": f"the MCP client failed: {said}"}


def _setting(config: object, section: str, name: str, kind: type[T]) -> T:
    """A setting of a configuration that nobody has checked. Its value stays unsaid: it may be a secret."""
    values = config.get(section) if isinstance(config, Mapping) else None
    value = values.get(name) if isinstance(values, Mapping) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{section}.{name} is missing, or is not {'a text' if kind is str else 'a number'}")
    return value
