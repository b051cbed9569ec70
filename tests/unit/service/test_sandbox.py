"""Drop-ins that weaken the sandbox of the service are found and named, and harmless ones are not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from ansible_collections.katago.fleet.plugins.module_utils.service import sandbox

# What distrobuilder writes into LXC containers at boot.
LXC = """\
# This file was created by distrobuilder
[Service]
ProcSubset=all
ProtectProc=default
ProtectControlGroups=no
ProtectKernelTunables=no
NoNewPrivileges=no
LoadCredential=
PrivateNetwork=no
"""
UNIT = """\
[Unit]
Description=KataGo MCP server

[Service]
User=katago-mcp
Group=katago-mcp
LoadCredential=tls.crt:/etc/katago-mcp/tls.crt
IPAddressDeny=any
IPAddressAllow=localhost
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProtectControlGroups=yes
ProtectKernelTunables=yes
PrivateUsers=yes
PrivateDevices=no
NoNewPrivileges=yes
CapabilityBoundingSet=
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
UMask=0077

[Install]
WantedBy=multi-user.target
"""
SHOWN = {
    "User": "katago-mcp",
    "Group": "katago-mcp",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "ProtectProc": "invisible",
    "ProtectControlGroups": "yes",
    "ProtectKernelTunables": "yes",
    "PrivateUsers": "yes",
    "PrivateDevices": "no",
    "NoNewPrivileges": "yes",
    "UMask": "0077",
}
PLACES = ("etc", "run", "lib")


def drop_in(text: str, path: str = "/etc/x.conf") -> sandbox.DropIn:
    """A drop-in whose [Service] section has this text."""
    return sandbox.DropIn(Path(path), f"[Service]\n{text}\n")


def taken(*texts: str) -> list[str]:
    """The settings that take something away from the unit."""
    drop_ins = [drop_in(text, f"/etc/{number}.conf") for number, text in enumerate(texts)]
    return [each["setting"] for each in sandbox.taken_away(drop_ins)]


def place(root: Path, name: str, text: str = "[Service]\nUMask=0\n") -> Path:
    """Write a drop-in below the directories of units."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def found(root: Path) -> list[str]:
    """The drop-ins of the service in the order in which they apply."""
    drop_ins = sandbox.drop_ins("katago-mcp.service", [root / each for each in PLACES])
    return [str(each.path.relative_to(root)) for each in drop_ins]


def test_drop_in_of_a_container_takes_away_what_it_switches_off() -> None:
    weaknesses = sandbox.taken_away([sandbox.DropIn(Path("/run/zzz-lxc-service.conf"), LXC)])
    assert [each["directive"] for each in weaknesses] == [
        "ProtectProc",
        "ProtectControlGroups",
        "ProtectKernelTunables",
        "NoNewPrivileges",
        "LoadCredential",
    ]
    assert {each["source"] for each in weaknesses} == {"/run/zzz-lxc-service.conf"}


@pytest.mark.parametrize(
    "text",
    [
        "LoadCredential=",
        "LoadCredentialEncrypted=",
        "PrivateTmp=no",
        "NoNewPrivileges=false",
        "PrivateUsers=0",
        "RestrictNamespaces=off",
        "ProtectHome=read-only",
        "ProtectSystem=full",
        "UMask=0022",
        "User=root",
        "User=",
        "SystemCallFilter=",
        "SystemCallFilter=@mount",
        "RestrictAddressFamilies=AF_NETLINK",
        "CapabilityBoundingSet=CAP_SYS_ADMIN",
        "AmbientCapabilities=CAP_NET_RAW",
        "IPAddressDeny=",
        "IPAddressAllow=any",
        "ReadWritePaths=/srv",
        "DeviceAllow=/dev/mem rw",
        "LoadCredential=",
        "PrivateTmp = no",
    ],
)
def test_setting_weakens_the_sandbox(text: str) -> None:
    assert len(taken(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "LimitNOFILE=64\nMemoryMax=2G\nCPUQuota=200%\nNice=5",
        "Environment=KATAGO_LOG_LEVEL=debug",
        "ProtectHome=tmpfs",
        "UMask=0177",
        "PrivateTmp=disconnected",
        "SystemCallFilter=~@mount",
        "CapabilityBoundingSet=~CAP_SYS_ADMIN",
        "IPAddressDeny=10.0.0.0/8",
        "LoadCredential=more:/etc/more",
        "# NoNewPrivileges=no",
        "[Unit]\nNoNewPrivileges=no",
        "Restart=on-failure\nTimeoutStartSec=300",
    ],
)
def test_setting_of_a_site_is_no_weakness(text: str) -> None:
    assert taken(text) == []


@pytest.mark.parametrize(
    ("away", "back"),
    [
        ("NoNewPrivileges=no", "NoNewPrivileges=yes"),
        ("ProtectProc=default", "ProtectProc=invisible"),
        ("LoadCredential=", "LoadCredential=tls.crt:/etc/katago-mcp/tls.crt"),
        ("SystemCallFilter=", "SystemCallFilter=@system-service"),
        ("CapabilityBoundingSet=CAP_SYS_ADMIN", "CapabilityBoundingSet="),
        ("User=root", "User=katago-mcp"),
    ],
)
def test_later_drop_in_gives_back(away: str, back: str) -> None:
    assert taken(away, back) == []
    assert taken(back, away) == [away]


def test_drop_ins_of_all_names_apply_in_the_order_of_their_file_names(tmp_path: Path) -> None:
    place(tmp_path, "run/service.d/zzz-lxc-service.conf")
    place(tmp_path, "etc/katago-mcp.service.d/override.conf")
    place(tmp_path, "lib/katago-.service.d/10-site.conf")
    place(tmp_path, "etc/other.service.d/override.conf")
    assert found(tmp_path) == [
        "lib/katago-.service.d/10-site.conf",
        "etc/katago-mcp.service.d/override.conf",
        "run/service.d/zzz-lxc-service.conf",
    ]


def test_file_in_a_more_specific_directory_replaces_that_of_the_same_name(tmp_path: Path) -> None:
    place(tmp_path, "run/service.d/zzz-lxc-service.conf", LXC)
    disabled = tmp_path / "etc" / "katago-.service.d" / "zzz-lxc-service.conf"
    disabled.parent.mkdir(parents=True)
    disabled.symlink_to("/dev/null")
    assert found(tmp_path) == []


def test_file_in_etc_replaces_that_in_run(tmp_path: Path) -> None:
    place(tmp_path, "run/service.d/a.conf")
    place(tmp_path, "etc/service.d/a.conf")
    assert found(tmp_path) == ["etc/service.d/a.conf"]


def test_running_unit_with_its_own_sandbox_lacks_nothing() -> None:
    assert sandbox.missing(UNIT, SHOWN, []) == []


def test_running_unit_lacks_what_systemd_shows_as_off() -> None:
    shown = {**SHOWN, "NoNewPrivileges": "no", "ProtectProc": "default"}
    weaknesses = sandbox.missing(UNIT, shown, [drop_in(LXC, "/run/zzz.conf")])
    sources = {each["directive"]: each["source"] for each in weaknesses}
    assert sources == {
        "ProtectProc": "/run/zzz.conf",
        "NoNewPrivileges": "/run/zzz.conf",
        "LoadCredential": "/run/zzz.conf",
    }


def test_directive_that_an_old_systemd_does_not_know_is_named() -> None:
    shown = {key: value for key, value in SHOWN.items() if key != "ProtectProc"}
    (weakness,) = sandbox.missing(UNIT, shown, [])
    assert weakness == {
        "directive": "ProtectProc",
        "setting": "unknown to this version of systemd",
        "source": "",
    }


def test_service_that_runs_as_root_is_named() -> None:
    (weakness,) = sandbox.missing(UNIT, {**SHOWN, "User": "root"}, [drop_in("User=root")])
    assert weakness["setting"] == "User=root"


def test_unit_without_credentials_does_not_lack_them() -> None:
    unit = UNIT.replace("LoadCredential=tls.crt:/etc/katago-mcp/tls.crt\n", "")
    assert sandbox.missing(unit, SHOWN, [drop_in("LoadCredential=")]) == []


def process(root: Path, status: Mapping[str, str], namespaces: Mapping[str, str]) -> Path:
    """A /proc with PID 1 and a process 7 with this status and these namespaces."""
    own = {"Seccomp": "2", "NoNewPrivs": "1", "CapBnd": "0000000000000000", **status}
    for pid, names in (("1", {}), ("7", {"mnt": "own", "user": "own", **namespaces})):
        (root / pid / "ns").mkdir(parents=True)
        (root / pid / "status").write_text("".join(f"{key}:\t{value}\n" for key, value in own.items()))
        for name in ("mnt", "user"):
            (root / pid / "ns" / name).symlink_to(names.get(name, "host"))
    return root


@pytest.mark.parametrize(
    ("status", "namespaces", "directive"),
    [
        ({"Seccomp": "0"}, {}, "SystemCallFilter"),
        ({"NoNewPrivs": "0"}, {}, "NoNewPrivileges"),
        ({"CapBnd": "000001ffffffffff"}, {}, "CapabilityBoundingSet"),
        ({}, {"mnt": "host"}, "ProtectSystem"),
        ({}, {"user": "host"}, "PrivateUsers"),
    ],
)
def test_protection_that_the_kernel_does_not_enforce_is_named(
    tmp_path: Path, status: Mapping[str, str], namespaces: Mapping[str, str], directive: str
) -> None:
    proc = process(tmp_path, status, namespaces)
    assert [each["directive"] for each in sandbox.unenforced(UNIT, 7, proc)] == [directive]


def test_enforced_sandbox_and_a_lost_process_have_no_weakness(tmp_path: Path) -> None:
    proc = process(tmp_path, {}, {})
    assert sandbox.unenforced(UNIT, 7, proc) == []
    assert sandbox.unenforced(UNIT, 8, proc) == []


def test_running_unit_is_read_from_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lxc = place(tmp_path, "run/service.d/zzz.conf", LXC)
    unit = place(tmp_path, "unit", UNIT)
    shown = {**SHOWN, "NoNewPrivileges": "no", "MainPID": "7", "DropInPaths": str(lxc)}
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    lines = "\n".join(f"{key}={value}" for key, value in shown.items())
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    proc = process(tmp_path / "proc", {"Seccomp": "0", "NoNewPrivs": "0"}, {})
    weaknesses = sandbox.of_running_unit(unit, proc)
    assert [each["directive"] for each in weaknesses] == [
        "NoNewPrivileges",
        "LoadCredential",
        "SystemCallFilter",
    ]


def test_remedy_for_a_drop_in_of_all_services_is_limited_to_ours() -> None:
    (text,) = sandbox.sentences(
        sandbox.taken_away([sandbox.DropIn(Path("/run/systemd/system/service.d/zzz.conf"), LXC)])
    )
    assert "ProtectProc=default" in text
    assert "ln -s /dev/null /etc/systemd/system/katago-.service.d/zzz.conf" in text


def test_remedy_for_a_drop_in_of_the_unit_is_to_change_it() -> None:
    (text,) = sandbox.sentences(
        sandbox.taken_away([drop_in("User=root", "/etc/katago-mcp.service.d/x.conf")])
    )
    assert text.startswith(
        "/etc/katago-mcp.service.d/x.conf weakens the sandbox of katago-mcp.service: User=root."
    )
    assert "/dev/null" not in text


def test_masked_unit_is_named(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    unit = tmp_path / "etc" / "katago-mcp.service"
    assert sandbox.is_masked("katago-mcp.service", [tmp_path / "etc"]) == ""
    unit.symlink_to("/dev/null")
    assert sandbox.is_masked("katago-mcp.service", [tmp_path / "etc"]) == str(unit)
    unit.unlink()
    unit.write_text(UNIT)
    assert sandbox.is_masked("katago-mcp.service", [tmp_path / "etc"]) == ""
