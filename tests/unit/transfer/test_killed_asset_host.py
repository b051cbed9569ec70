"""An asset host that dies while it serves: every other host gets its files from the control node."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ansible_collections.katago.fleet.plugins.module_utils.transfer import asset_server, fetch
from ansible_collections.katago.fleet.plugins.modules import asset_fetch
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer import host_files, sharing
from tests.stubs import module_result

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "a-random-token"
NETWORK = "f" * 64
# Larger than what the sockets of a connection hold, so that a dead server cannot have sent all of it.
SIZE = 1 << 29


# It reports its port, which a host finds by the control group of the unit.
PROGRAM = """\
import runpy, sys
program = runpy.run_path(sys.argv[1])
made = program["server"](program["Order"].from_json(sys.argv[2]), 0)
print(made.server_port, flush=True)
made.serve_forever()
"""


class AssetHost:
    """The server in a process of its own, which a test kills."""

    def __init__(self, directory: Path) -> None:
        bundle = directory / "bundle"
        with bundle.open("wb") as file:
            file.truncate(SIZE)
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        order = asset_server.Order(digest, {NETWORK: (0, SIZE)}, frozenset({"127.0.0.1"}), "127.0.0.1", 0)
        text = json.dumps({**asdict(order), "clients": ["127.0.0.1"]})
        with bundle.open("rb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", PROGRAM, asset_server.__file__, text],
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        bundle.unlink()
        assert self.process.stdout
        with self.process.stdout:
            self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def asset_host(tmp_path: Path) -> Iterator[AssetHost]:
    host = AssetHost(tmp_path)
    yield host
    host.kill()


class Delivery(host_files.AssetAction):
    """A delivery to a host, which really fetches."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._task = SimpleNamespace(check_mode=False)
        self._connection = SimpleNamespace(
            _shell=SimpleNamespace(tmpdir=str(directory), join_path=lambda *parts: "/".join(parts))
        )
        self.sent: list[str] = []

    def _execute_module(self, **parameters: Any) -> dict[str, Any]:
        if parameters["module_name"] == "katago.fleet.asset_fetch":
            return module_result(self._monkeypatch, asset_fetch, **parameters["module_args"])
        return {"changed": "source" in parameters["module_args"], "present": False}

    def _transfer_file(self, local: str, remote: str) -> None:
        # What a broken transfer has left would be in the way, and fill the disk.
        assert not Path(remote).exists()
        self.sent.append(local)

    def _remove_tmp_path(self, path: str, force: bool = False) -> None:
        pass


def test_every_host_gets_its_file_from_the_control_node(
    asset_host: AssetHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tmp_path / "net"
    with network.open("wb") as file:
        file.truncate(SIZE)
    address = sharing.base_url("127.0.0.1", asset_host.port, TOKEN)
    share = sharing.Share("a", "katago-assets-1.service", address, (NETWORK,))
    sources = sharing.sources(NETWORK, mirror="", share=share)
    warnings: list[str] = []
    monkeypatch.setattr(host_files.display, "warning", warnings.append)

    class Digest:
        """Kills the asset host as soon as something of the file was received."""

        def update(self, _: bytes) -> None:
            asset_host.kill()

        def hexdigest(self) -> str:
            return NETWORK

    monkeypatch.setattr(fetch, "hashlib", SimpleNamespace(sha256=Digest))
    for host in ("b", "c"):
        (tmp_path / host).mkdir()
        made = Delivery(tmp_path / host, monkeypatch)
        variables = {"inventory_hostname": host}
        assert made.deliver("network", {"sha256": NETWORK}, str(network), variables, sources)["changed"]
        assert made.sent == [str(network)]
        assert list((tmp_path / host).iterdir()) == []
    assert [warning.partition(" from ")[0] for warning in warnings] == [
        f"[{host}] {NETWORK[:12]} was not fetched" for host in ("b", "c")
    ]
    assert all("the asset host a: " in warning for warning in warnings)
    assert "Connection refused" in warnings[1]
    assert TOKEN not in str(warnings)


def test_hosts_go_on_without_an_asset_host_that_cannot_be_reached(tmp_path: Path) -> None:
    """The tasks are delegated to it. Ansible must not take their own hosts for unreachable."""
    facts = {
        "network": {"path": str(tmp_path / "net"), "sha256": NETWORK, "name": "net"},
        "host": {"lacks": ["network"]},
    }
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "preflight_facts": facts,
    }
    dead = {
        **{"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1},
        "fleet_address": "192.0.2.1",
    }
    inventory = {"katago": {"hosts": {"a": dead, "b": {}, "c": {}}, "vars": variables}}
    share = sharing.Share("a", "katago-assets-1.service", f"http://192.0.2.1:8000/{TOKEN}", (NETWORK,))
    (tmp_path / "share.json").write_text(json.dumps(asdict(share)))
    runs = tmp_path / "local"
    # The directory of the run, where the record of a share lies.
    recording = (
        f"for each in {runs}/ansible-local-*; do cp {tmp_path}/share.json $each/katago-share.json; done"
    )
    delegated = {"delegate_to": "a", "run_once": True}
    tasks = [
        {"katago.fleet.asset_share": {"state": "started", "host": "a"}, **delegated},
        {"ansible.builtin.shell": recording, "run_once": True},
        {"katago.fleet.asset_share": {"state": "stopped"}, **delegated},
        {"ansible.builtin.shell": f"! ls {runs}/*/katago-share.json"},
    ]
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory))
    play = {"hosts": "b,c", "gather_facts": False, "tasks": tasks}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ansible", "playbook", f"--inventory={tmp_path / 'inventory.yml'}"),
            str(tmp_path / "play.yml"),
        ],
        cwd=ROOT,
        env={**environment, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(runs)},
        capture_output=True,
        text=True,
        check=False,
    )
    # Ansible breaks long warnings into lines.
    output = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 0, output
    assert "[a] Files are not shared: " in output
    assert "katago-assets-1.service was not stopped: " in output
    assert "It ends at its time limit" in output
    assert output.count("unreachable=0") == 2
    assert TOKEN not in output
