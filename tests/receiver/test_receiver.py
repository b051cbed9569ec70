"""From a message of Alertmanager to the procedures: the real ansible-rulebook, a stub of ansible-playbook.

Builds the environment that monitoring hosts get, and listens on the loopback interface only.
"""

from __future__ import annotations

import json
import platform
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.katago.fleet.plugins.module_utils import timestamps
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import fleet_state, uptime
from ansible_collections.katago.fleet.plugins.module_utils.self_healing import state as healing_state
from ansible_collections.katago.fleet.plugins.module_utils.self_healing.budget import Clock
from ansible_collections.katago.fleet.plugins.modules import healing_programs
from ansible_collections.katago.fleet.plugins.plugin_utils.deploy import wheels
from ansible_collections.katago.fleet.plugins.plugin_utils.self_healing import allowed, bundle, program
from ansible_collections.katago.fleet.plugins.plugin_utils.self_healing.healer import Healer, Places, World
from tests.unit.self_healing.test_fleet_decision import BROKEN, HOSTS, alert, message, report

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "roles" / "fleet_healing" / "files"
TOKEN = "t" * 64
# Long, because the machine may be busy.
START_SECONDS = 300
PASSED_SECONDS = 300
STUB = """\
#!{python}
import json, pathlib, sys
pathlib.Path("{calls}").open("a").write(json.dumps(sys.argv[1:]) + "\\n")
inputs = {{}}
for each in sys.argv:
    if each.startswith("--extra-vars="):
        inputs |= json.loads(each.partition("=")[2])
if sys.argv[2] == "katago.fleet.triage":
    pathlib.Path(inputs["triage_json"]).write_text(pathlib.Path("{report}").read_text())
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment and the collection, as a monitoring host gets them."""
    root = tmp_path_factory.mktemp("programs")
    wheel_set = wheels.build_locked(
        FILES / "requirements.lock",
        python=".".join(platform.python_version_tuple()[:2]),
        machine=platform.machine(),
        cache=ROOT / ".lab" / "wheels",
        show=lambda: None,
    )
    name = bundle.name(wheel_set.sha256)
    bundle.pack(wheel_set.archive, root / "bundle.zip")
    healing_programs.build(root / "host", name, root / "bundle.zip")
    return root / "host" / healing_programs.CURRENT


@dataclass
class Receiver:
    """A receiver that runs. `spool`: where it puts messages."""

    port: int
    spool: Path

    def post(self, content: Any, token: str = TOKEN) -> int:
        """Send a message as Alertmanager does; return the status."""
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/alerts", json.dumps(content).encode(), headers
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def messages(self) -> list[Path]:
        """Wait for the first message; return all."""
        end = time.monotonic() + PASSED_SECONDS
        while not (found := sorted(self.spool.glob("*.json"))) and time.monotonic() < end:
            time.sleep(0.2)
        return found


@pytest.fixture
def receiver(programs: Path, tmp_path: Path) -> Iterator[Receiver]:
    spool, home = tmp_path / "spool", tmp_path / "home"
    spool.mkdir()
    home.mkdir()
    for name in ("rulebook.yml", "receive.yml", "receiver_inventory.yml"):
        text = (FILES / name).read_text()
        text = text.replace("/etc/katago-healing", str(tmp_path))
        (tmp_path / name).write_text(text.replace("/var/spool/katago-healing", str(spool)))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "receiver.yml").write_text(json.dumps({"healing_token": TOKEN, "healing_port": port}))
    command = [
        str(programs / "venv" / "bin" / "ansible-rulebook"),
        f"--rulebook={tmp_path}/rulebook.yml",
        f"--inventory={tmp_path}/receiver_inventory.yml",
        f"--vars={tmp_path}/receiver.yml",
        "--execution-strategy=sequential",
    ]
    environment = {"PATH": f"{programs}/venv/bin:/usr/bin:/bin", "HOME": str(home), "LC_ALL": "C.UTF-8"}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log)
        try:
            end = time.monotonic() + START_SECONDS
            while time.monotonic() < end:
                with socket.socket() as client:
                    if client.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.2)
            yield Receiver(port, spool)
        finally:
            process.terminate()
            process.wait(START_SECONDS)
            print((tmp_path / "log").read_text()[-3000:])


@dataclass
class Fleet:
    """The files of the program, and the stub's record of what it ran."""

    places: Places
    calls: Path

    def heal(self) -> fleet_state.State:
        world = World(
            run=program.run,
            incident=lambda _records, _alert: "INC-1",
            clock=uptime.read,
            now=timestamps.now,
            journal=program.journal,
        )
        assert Healer(self.places, world).run() == 0
        return fleet_state.load(self.places.state)

    def procedures(self) -> list[str]:
        """The names of the procedures that ran."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [json.loads(line)[1].removeprefix("katago.fleet.") for line in lines]


@pytest.fixture
def healing(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    stub = tmp_path / "bin" / "ansible-playbook"
    stub.parent.mkdir()
    (tmp_path / "report.json").write_text(json.dumps(report(katago_1=BROKEN)))
    calls = tmp_path / "calls"
    stub.write_text(STUB.format(python=sys.executable, calls=calls, report=tmp_path / "report.json"))
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub.with_name("python")))
    monkeypatch.setenv(program.INVENTORY, str(tmp_path / "inventory.json"))
    places = Places(
        work=tmp_path,
        state=tmp_path / "state.json",
        settings=tmp_path / "settings.json",
        log=tmp_path / "repairs.jsonl",
        events=receiver.spool,
        pause=(tmp_path / "paused",),
    )
    settings = fleet_state.Settings(tuple(allowed.ACTIONS), HOSTS, str(tmp_path), drains=True)
    places.settings.write_text(json.dumps(asdict(settings)))
    healing_state.save(fleet_state.State(Clock("", 0, 0), timestamps.now()), places.state)
    return Fleet(places, calls)


needs_java = pytest.mark.skipif(not shutil.which("java"), reason="Java is not installed")


@needs_java
def test_alert_leads_to_its_procedures(receiver: Receiver, healing: Fleet) -> None:
    assert receiver.post(message(alert())) == 200
    assert len(receiver.messages()) == 1
    state = healing.heal()
    assert healing.procedures() == ["triage", "incident_open", "evidence", "rotation_out"]
    assert [each.result for each in state.repairs] == ["repaired"]
    assert list(receiver.spool.iterdir()) == []


@needs_java
def test_flood_of_10000_messages_is_one_run(receiver: Receiver, healing: Fleet) -> None:
    with ThreadPoolExecutor(8) as pool:
        statuses = set(pool.map(lambda _: receiver.post(message(alert())), range(10_000)))
    assert statuses == {200}
    receiver.messages()
    healing.heal()
    healing.heal()
    assert healing.procedures() == ["triage", "incident_open", "evidence", "rotation_out"]


@needs_java
def test_resolved_alert_runs_nothing(receiver: Receiver, healing: Fleet) -> None:
    receiver.post(message(alert(status="resolved")))
    assert len(receiver.messages()) == 1
    healing.heal()
    assert healing.procedures() == []


@needs_java
def test_wrong_token_is_refused(receiver: Receiver) -> None:
    assert receiver.post(message(alert()), token="x") == 401


@needs_java
def test_texts_of_alerts_are_never_rendered(receiver: Receiver, healing: Fleet, tmp_path: Path) -> None:
    pwned = tmp_path / "pwned"
    each = alert()
    each["annotations"]["summary"] = f"{{{{ lookup('pipe', 'touch {pwned}') }}}} 100 % <ü> \\u0027"
    receiver.post(message(each))
    assert len(receiver.messages()) == 1
    healing.heal()
    assert not pwned.exists()
    assert healing.procedures()[0] == "triage"
    assert not any("{{" in line for line in healing.calls.read_text().splitlines())
