"""The lab's inventory works for any number of hosts, and its tuning results fit its networks."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from lab import assets, hosts, paths


def test_every_host_of_a_larger_lab_accepts_its_name(tmp_path: Path) -> None:
    names = [f"katago-{number}" for number in range(1, 5)]
    (tmp_path / "group_vars").symlink_to(paths.ROOT / "inventories" / "lab" / "group_vars")
    (tmp_path / "hosts.yml").write_text(json.dumps({"katago": {"hosts": dict.fromkeys(names)}}))
    command = ["ansible", "katago-4", f"--inventory={tmp_path}", "--connection=local"]
    command += ["--module-name=ansible.builtin.debug", "--args=var=katago_mcp_allowed_hosts"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    for name in names:
        assert f"{name}:*" in done.stdout


@pytest.mark.parametrize(("file", "channels"), [(assets.SMALL_TUNING, 96), (assets.PACKAGED_TUNING, 192)])
def test_tuning_result_fits_the_engine_and_the_network(file: Path, channels: int) -> None:
    assert file.name.startswith("tune13_gpu")
    assert file.name.endswith(f"_x19_y19_c{channels}_mv8.txt")
    assert file.read_text().startswith("VERSION=13\n")


def test_lab_tunes_only_when_enabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "STATE", tmp_path)
    lab = hosts.Lab("some")
    assert not lab.tunes()
    lab.set_tuning(True)
    assert hosts.Lab("some").tunes()
    lab.set_tuning(False)
    assert not lab.tunes()
