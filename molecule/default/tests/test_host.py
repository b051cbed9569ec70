"""The state of a deployed host, and what its sandbox really prevents."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests import fleet

SERVICE = "katago-mcp.service"
LEAST_TIGHT = 1.2

# Runs in the unit's own sandbox and prints every forbidden action that succeeded.
PROBE = r"""
import ctypes, mmap, os, pathlib, socket
could = []
def attempt(what, action):
    try:
        action()
    except (OSError, PermissionError, ValueError):
        return
    could.append(what)
for directory in (
    "/etc", "/usr", "/opt/katago", "/opt/katago-mcp/current", "/var/lib/katago-mcp", "/home", "/root"
):
    attempt(f"write to {directory}", lambda: pathlib.Path(directory, "probe").write_text(""))
credentials = pathlib.Path("/etc/katago-mcp/credentials")
attempt("list the credentials", lambda: os.listdir(credentials))
attempt("read the operator's token", lambda: (credentials / "operator.token").read_bytes())
attempt("read the key", lambda: (credentials / "tls.key").read_bytes())
attempt("write to the tokens", lambda: (credentials / "tokens.json").open("a").close())
attempt("list /root", lambda: os.listdir("/root"))
attempt("list /home", lambda: os.listdir("/home"))
attempt("see other processes", lambda: os.readlink("/proc/1/exe"))
attempt("open a raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("open a packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("open a netlink socket", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
attempt("write to executable memory", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC))
attempt("write to /proc/sys", lambda: pathlib.Path("/proc/sys/kernel/domainname").write_text("x"))
attempt("open a disk", lambda: os.open("/dev/mem", os.O_RDONLY))
libc = ctypes.CDLL(None, use_errno=True)
def checked(result):
    if result != 0:
        raise OSError(ctypes.get_errno())
attempt("make a namespace", lambda: checked(libc.unshare(0x10000000)))
attempt("mount", lambda: checked(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)))
attempt("become root", lambda: os.setuid(0))
allowed = []
for directory in ("/var/lib/katago-mcp/engine", "/var/cache/katago-mcp", "/tmp"):
    path = pathlib.Path(directory, "probe")
    path.write_text("")
    path.unlink()
    allowed.append(directory)
(credentials / "tokens.json").read_bytes()
allowed.append("tokens")
print("PROBE", os.getuid() != 0, could, allowed)
"""


@pytest.fixture
def engine_pid(host: Any) -> int:
    """The engine's process, a child of the unit's main process."""
    main = host.check_output(f"systemctl show {SERVICE} --property=MainPID --value")
    return int(host.check_output(f"pgrep --parent {main}").split()[0])


def test_service_runs_and_starts_with_the_host(host: Any) -> None:
    service = host.service("katago-mcp")
    assert service.is_running, host.run(f"journalctl --unit={SERVICE} --lines=30 --no-pager").stdout
    assert service.is_enabled


def test_user_has_no_login_shell_and_no_home(host: Any) -> None:
    user = host.user("katago-mcp")
    assert user.shell == "/usr/sbin/nologin"
    assert user.home == "/nonexistent"
    assert user.uid < 1000


@pytest.mark.parametrize("tree", ["/opt/katago", "/opt/katago-mcp", "/etc/katago-mcp"])
def test_service_cannot_write_to_its_own_programs_and_configuration(host: Any, tree: str) -> None:
    writable = host.run(f"runuser -u katago-mcp -- find {tree} ! -type l -writable 2>/dev/null").stdout
    assert writable == ""
    assert host.check_output(f"find {tree} ! -user root") == ""


def test_strict_umask_of_the_host_has_no_effect_on_our_files(host: Any) -> None:
    assert host.check_output("umask") in ("0077", "0027")
    trees = "/opt/katago /opt/katago-mcp"
    assert host.check_output(f"find {trees} -type d ! -perm 0755") == ""
    assert host.check_output(f"find {trees} -type f ! -perm 0644 ! -perm 0755") == ""
    modes = host.check_output(
        "stat --format='%n %a %U:%G' /etc/katago-mcp /etc/katago-mcp/credentials /var/lib/katago-mcp"
        " /var/lib/katago-mcp/history.jsonl"
    )
    assert modes.splitlines() == [
        "/etc/katago-mcp 755 root:root",
        "/etc/katago-mcp/credentials 710 root:katago-mcp",
        "/var/lib/katago-mcp 755 root:root",
        "/var/lib/katago-mcp/history.jsonl 644 root:root",
    ]


def test_service_listens_only_on_its_two_ports(host: Any) -> None:
    listening = host.check_output("ss --listening --tcp --udp --numeric --no-header")
    ports = sorted({int(line.split()[4].rsplit(":", 1)[1]) for line in listening.splitlines()})
    assert ports == [22, 8080, 9090]


def test_paths_of_the_runbook_lead_to_the_current_release(host: Any) -> None:
    release = host.check_output("readlink /opt/katago-mcp/current").removeprefix("releases/")
    root = f"/opt/katago-mcp/releases/{release}"
    assert host.check_output("realpath /etc/katago-mcp/config.json") == f"{root}/config.json"
    assert host.check_output("readlink /usr/local/bin/katago-mcp") == (
        "/opt/katago-mcp/current/venv/bin/katago-mcp"
    )
    manifest = json.loads(host.check_output(f"cat {root}/manifest.json"))
    assert manifest["name"] == release
    kinds = sorted(path.split("/")[3] for path in manifest["stands_on"])
    assert kinds == ["engines", "networks", "tuning"]


def test_history_has_the_switch_with_its_author_and_the_verdict(host: Any) -> None:
    lines = host.check_output("cat /var/lib/katago-mcp/history.jsonl").splitlines()
    switch, verdict = [json.loads(line) for line in lines]
    assert (switch["why"], switch["verdict"]) == ("deployment", None)
    assert "@" in switch["who"]
    assert (verdict["release"], verdict["verdict"]) == (switch["release"], "good")


def test_exposure_level_of_the_unit_is_low(host: Any) -> None:
    report = host.check_output(f"systemd-analyze security --no-pager {SERVICE}")
    match = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert match, report
    assert float(match[1]) <= LEAST_TIGHT, report


def test_sandbox_of_the_unit_is_enforced(host: Any) -> None:
    """Runs the unit file itself, with a probe instead of the server."""
    unit = "/run/systemd/system/katago-mcp-probe.service"
    host.check_output("mkdir -p /run/systemd/system")
    host.run_expect([0], f"umask 022; cat > /run/katago-mcp-probe.py <<'END'\n{PROBE}\nEND")
    host.check_output(
        "sed -e 's/^Type=.*/Type=oneshot/' -e '/^\\(WatchdogSec\\|Restart\\|RestartSec\\)=/d'"
        " -e 's|^ExecStart=.*|ExecStart=/usr/bin/python3 /run/katago-mcp-probe.py|'"
        f" /etc/systemd/system/{SERVICE} > {unit}"
    )
    host.check_output("systemctl daemon-reload")
    started = "journalctl --unit=katago-mcp-probe.service --output=cat --no-pager"
    try:
        cursor = host.check_output("journalctl --lines=0 --show-cursor --quiet").partition(": ")[2].strip()
        host.run("systemctl start katago-mcp-probe.service")
        output = host.check_output(f"journalctl --sync; {started} --after-cursor='{cursor}'")
    finally:
        host.check_output(f"rm {unit} /run/katago-mcp-probe.py && systemctl daemon-reload")
    assert "PROBE True [] ['/var/lib/katago-mcp/engine', '/var/cache/katago-mcp', '/tmp', 'tokens']" in output


def test_running_processes_have_no_privileges(host: Any, engine_pid: int) -> None:
    main = host.check_output(f"systemctl show {SERVICE} --property=MainPID --value")
    for pid in (main, engine_pid):
        status = dict(
            line.split(":\t", 1) for line in host.check_output(f"cat /proc/{pid}/status").splitlines()
        )
        assert {status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert "0" not in status["Uid"].split()


def test_engine_gets_no_secret(host: Any, engine_pid: int) -> None:
    environment = host.check_output(f"tr '\\0' '\\n' < /proc/{engine_pid}/environ")
    assert "CREDENTIALS_DIRECTORY" not in environment
    assert "NOTIFY_SOCKET" not in environment


def test_override_lowers_limits_with_a_reload_and_without_a_restart(host: Any) -> None:
    overlay = "/var/lib/katago-mcp/overlay.json"
    end = (datetime.now(UTC) + timedelta(minutes=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
    override = {"set": {"katago.maxVisits": 50}, "expiresAt": end, "why": "a test", "who": "tests"}
    show = f"systemctl show {SERVICE} --property=MainPID --value"
    before = host.check_output(show)

    def keys() -> Any:
        shown = json.loads(host.check_output("curl --silent --fail http://127.0.0.1:8080/health"))["overlay"]
        return shown and shown["keys"]

    assert keys() is None
    try:
        host.run_expect([0], f"umask 022; cat > {overlay} <<'END'\n{json.dumps(override)}\nEND")
        host.check_output(f"systemctl reload {SERVICE}")
        lowered = {"katago.maxVisits": 50, "katago.defaultVisits": 50}
        fleet.eventually(lambda: keys() == lowered, within=60, what="the override is in force")
    finally:
        host.check_output(f"rm {overlay} && systemctl reload {SERVICE}")
    fleet.eventually(lambda: keys() is None, within=60, what="the override is removed")
    assert host.check_output(show) == before


def test_process_is_named_katago_mcp(host: Any) -> None:
    main = host.check_output(f"systemctl show {SERVICE} --property=MainPID --value")
    assert main in host.check_output("pgrep katago-mcp").split()
