"""A fleet of one host whose engine and network come only from the package index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.common import digest
from lab import assets
from tests import fleet, hosts


def test_network_comes_from_the_package_index(host: Any) -> None:
    manifest = json.loads(host.check_output("cat /opt/katago-mcp/current/manifest.json"))
    assert any("g170e-b15c192" in path for path in manifest["stands_on"])


def test_tuning_result_of_the_lab_is_used_and_nothing_was_tuned(host: Any) -> None:
    tuning = host.check_output("sed -n 's/^openclTunerFile = //p' /opt/katago-mcp/current/analysis.cfg")
    assert host.file(tuning).sha256sum == tuning.split("/")[-2] == digest.of_file(assets.PACKAGED_TUNING)
    manifest = json.loads(host.check_output("cat /opt/katago-mcp/current/manifest.json"))
    assert tuning in manifest["stands_on"]
    # A tuner that ran for the device would have left its result here.
    assert host.run("ls /var/cache/katago-tuning/*.txt").rc != 0


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (str(assets.SMALL_TUNING), "is for networks with 96 channels and model version 8"),
        ("tune12_gpupthread_x19_y19_c192_mv8.txt", "cannot be read by the engine 1.18.1"),
    ],
    ids=["other network", "other engine"],
)
def test_unsuitable_tuning_result_is_refused_before_anything_is_changed(
    host: Any, tmp_path: Path, file: str, reason: str
) -> None:
    path = tmp_path / file
    if not path.exists():
        path.write_text(assets.PACKAGED_TUNING.read_text().replace("VERSION=13", "VERSION=12"))
    before = hosts.untouched(host), host.check_output("ls /opt/katago-mcp/releases /opt/katago/tuning")
    run = fleet.play("deploy.yml", variables={"katago_opencl_tuner_file": str(path)})
    assert run.returncode == 2
    assert reason in " ".join(run.output.split())
    assert set(run.changed.values()) == {0}
    after = hosts.untouched(host), host.check_output("ls /opt/katago-mcp/releases /opt/katago/tuning")
    assert after == before


def test_service_is_validated() -> None:
    run = fleet.play("validate.yml")
    assert run.returncode == 0, run.output
