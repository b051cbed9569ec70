"""A fleet of one host whose engine and network came from the package index alone."""

from __future__ import annotations

import json
from typing import Any

from tests import fleet


def test_network_is_the_packaged_one(host: Any) -> None:
    manifest = json.loads(host.check_output("cat /opt/katago-mcp/current/manifest.json"))
    assert any("g170e-b15c192" in path for path in manifest["stands_on"])


def test_tuning_result_is_kept_on_the_control_node_and_given_to_the_host(host: Any) -> None:
    tuning = host.check_output("sed -n 's/^openclTunerFile = //p' /opt/katago-mcp/current/analysis.cfg")
    assert host.file(tuning).sha256sum == tuning.split("/")[-2]


def test_service_analyses() -> None:
    run = fleet.play("validate.yml")
    assert run.returncode == 0, run.output
