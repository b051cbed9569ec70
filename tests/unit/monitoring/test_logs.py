"""What docs/logs.md says about logs: its units and fields exist, and its commands ship a real journal."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from ansible_collections.katago.fleet.plugins.module_utils import paths

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "logs.md").read_text()
REMOTE = Path("/usr/lib/systemd/systemd-journal-remote")
SERVICE = "katago-mcp.service"

needs_journals = pytest.mark.skipif(not REMOTE.exists(), reason="systemd-journal-remote is not installed")


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_cells(title: str) -> set[str]:
    """The names in the first column of the tables of a section."""
    rows = re.findall(r"^\| (`[^|]+) \|", section(title), re.M)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def service_units() -> set[str]:
    """The services of the collection, as the code names them."""
    named = {str(value) for value in vars(paths).values() if isinstance(value, str)}
    variables = yaml.safe_load((ROOT / "roles/monitoring/vars/main.yml").read_text())
    units = [*variables["_monitoring_host_units"], *variables["_monitoring_server_units"]]
    named |= {unit["name"] for unit in units}
    return {name for name in named if re.fullmatch(r"katago-[\w-]+(@\w+)?\.service", name)}


def test_every_service_is_documented_and_no_other_one() -> None:
    documented = first_cells("Which unit writes what")
    assert service_units() - documented == set()
    assert documented - service_units() == {paths.LOAD_BALANCER_UNIT, paths.KEEPALIVED_UNIT}


def test_documented_fields_are_those_that_the_server_writes() -> None:
    sources = [(ROOT / "server/src/katago_mcp" / name).read_text() for name in ("logs.py", "tools.py")]
    fields = first_cells("Fields of the service")
    assert {"ts", "level", "event", "tool", "seconds", "code"} <= fields
    for field in fields:
        assert any(f'"{field}"' in source for source in sources), field


def entry(unit: str, message: str, second: int) -> str:
    """An entry in the journal's export format."""
    return "\n".join(
        (
            f"__REALTIME_TIMESTAMP={1764435600000000 + second * 1000000}",
            f"__MONOTONIC_TIMESTAMP={1000000 * (second + 1)}",
            "_BOOT_ID=0123456789abcdef0123456789abcdef",
            "_HOSTNAME=katago-1",
            f"_SYSTEMD_UNIT={unit}",
            "PRIORITY=6",
            f"MESSAGE={message}",
            "\n",
        )
    )


def write(journal: Path, text: str) -> None:
    subprocess.run(
        [REMOTE, f"--output={journal}", "-"], input=text, text=True, check=True, capture_output=True
    )


def fetch(journal: Path, received: Path) -> None:
    """Run the documented commands with a journal in the place of the host's."""
    (command,) = re.findall(r"```bash\n(.*?)```", TEXT, re.S)
    replaced = {
        "ssh logs@katago-1.example.org journalctl": f"journalctl --file={shlex.quote(str(journal))}",
        "/var/lib/logs/sent": str(journal.with_name("sent")),
        "/var/log/journal/remote/katago-1.journal": str(received),
    }
    for documented, own in replaced.items():
        assert documented in command
        command = command.replace(documented, own)
    subprocess.run(["bash", "-e", "-o", "pipefail", "-c", command], check=True, capture_output=True)


def received_lines(directory: Path) -> list[dict[str, str]]:
    done = subprocess.run(
        ["journalctl", f"--directory={directory}", "--output=json", "--quiet"],
        check=True,
        capture_output=True,
        text=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@needs_journals
def test_documented_commands_ship_every_new_line_once_with_all_fields(tmp_path: Path) -> None:
    call = json.dumps({"event": "call", "status": "timeout", "seconds": 30.0})
    journal, received = tmp_path / "host.journal", tmp_path / "remote" / "katago-1.journal"
    received.parent.mkdir()
    write(journal, entry(SERVICE, call, 0) + entry("cron.service", "of no interest", 1))
    fetch(journal, received)
    # Nothing is new.
    fetch(journal, received)
    write(journal, entry("haproxy.service", "a request", 2))
    fetch(journal, received)
    lines = received_lines(received.parent)
    assert [(line["_SYSTEMD_UNIT"], line["_HOSTNAME"]) for line in lines] == [
        (SERVICE, "katago-1"),
        ("haproxy.service", "katago-1"),
    ]
    assert json.loads(lines[0]["MESSAGE"])["status"] == "timeout"
    documented = first_cells("Fields of the journal") - {"_PID"}
    assert documented <= lines[0].keys()
