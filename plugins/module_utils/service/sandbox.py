"""The sandbox of the service's unit: what drop-ins take away from it, and what the running unit enforces."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from ansible_collections.katago.fleet.plugins.module_utils import paths

# In the order of precedence: of files with the same name, systemd reads only the first [systemd.unit(5)].
UNIT_DIRECTORIES = tuple(
    map(
        Path,
        (
            "/etc/systemd/system.control",
            "/run/systemd/system.control",
            "/run/systemd/transient",
            "/etc/systemd/system",
            "/run/systemd/system",
            "/run/systemd/generator",
            "/usr/local/lib/systemd/system",
            "/usr/lib/systemd/system",
            "/lib/systemd/system",
            "/run/systemd/generator.late",
        ),
    )
)
LOAD_CREDENTIAL = "LoadCredential"

_OFF = frozenset({"no", "false", "off", "0", "n", "f"})
# Directives that an operator switches off with a value of _OFF, or that systemd then shows as `no`.
SWITCHES = (
    "PrivateTmp",
    "PrivateDevices",
    "PrivateUsers",
    "PrivateMounts",
    "ProtectHostname",
    "ProtectClock",
    "ProtectKernelTunables",
    "ProtectKernelModules",
    "ProtectKernelLogs",
    "ProtectControlGroups",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "NoNewPrivileges",
    "RemoveIPC",
)
# The weakest values of directives with several ones. Every other value protects as the unit's own does.
_WEAK = {
    "ProtectSystem": _OFF | {"yes", "true", "on", "1", "full", ""},
    "ProtectHome": _OFF | {"read-only", ""},
    "ProtectProc": frozenset({"default", "ptraceable", "noaccess", ""}),
    "DevicePolicy": frozenset({"auto", ""}),
    "KeyringMode": frozenset({"inherit", "shared", ""}),
}
# Lists that allow everything if they have no entry.
_OPEN_IF_EMPTY = ("RestrictAddressFamilies", "SystemCallFilter", "SystemCallArchitectures", "IPAddressDeny")
# Lists each entry of which allows something.
_ALLOWING = (
    "RestrictAddressFamilies",
    "SystemCallFilter",
    "SystemCallArchitectures",
    "CapabilityBoundingSet",
    "AmbientCapabilities",
    "DeviceAllow",
    "IPAddressAllow",
    "SupplementaryGroups",
    "ReadWritePaths",
    "BindPaths",
)
_IDENTITY = ("User", "Group")
# Prefixes of the unit's directives that are not part of its sandbox.
_NOT_SANDBOX = (
    "Exec",
    "Type",
    "Restart",
    "Timeout",
    "Watchdog",
    "KillMode",
    "LoadCredential",
    "WorkingDirectory",
)
_UMASK = 0o077
_SHOWN = (*SWITCHES, *_WEAK, *_IDENTITY, "UMask", "DropInPaths", "MainPID")


class Weakness(TypedDict):
    """A protection of the sandbox that is missing.

    `directive`: its name in the unit. `setting`: what applies instead. `source`: the drop-in that sets it;
    empty if it is unknown.
    """

    directive: str
    setting: str
    source: str


@dataclass(frozen=True)
class DropIn:
    """A file that changes a unit. The text is empty if it cannot be read."""

    path: Path
    text: str


def directives(unit: str) -> dict[str, list[str]]:
    """The directives of a unit's [Service] section: every value in order, by directive."""
    values: dict[str, list[str]] = {}
    for key, value in _assignments(unit):
        values.setdefault(key, []).append(value)
    return values


def sandbox_directives(unit: str) -> dict[str, list[str]]:
    """The directives that confine the service, for other units that run its program as the service does."""
    return {key: values for key, values in directives(unit).items() if not key.startswith(_NOT_SANDBOX)}


def drop_ins(unit: str, directories: Iterable[Path] = UNIT_DIRECTORIES) -> list[DropIn]:
    """The drop-ins of a unit that may not exist yet, in the order in which systemd applies them.

    These are the drop-ins of the unit, of all units whose names start like its name (`katago-.service.d`),
    and of all services. A link to /dev/null disables the files of its name in later directories.
    """
    stem, _, kind = unit.rpartition(".")
    parts = stem.split("-")
    prefixes = ["-".join(parts[:count]) + "-" for count in range(len(parts) - 1, 0, -1)]
    names = [f"{stem}.{kind}.d", *(f"{prefix}.{kind}.d" for prefix in prefixes), f"{kind}.d"]
    places = list(directories)
    files: dict[str, Path] = {}
    for name in names:
        for place in places:
            with contextlib.suppress(OSError):
                for path in sorted((place / name).glob("*.conf")):
                    files.setdefault(path.name, path)
    return [read for _, path in sorted(files.items()) if (read := _read(path)).text]


def taken_away(drop_ins: Sequence[DropIn]) -> list[Weakness]:
    """What drop-ins take away from the unit. A later drop-in may give it back."""
    weaknesses: dict[str, Weakness] = {}
    for drop_in in drop_ins:
        for name, value in _assignments(drop_in.text):
            # Both directives fill one list, which an empty value of either resets.
            key = LOAD_CREDENTIAL if (name, value) == (f"{LOAD_CREDENTIAL}Encrypted", "") else name
            weakness = Weakness(directive=key, setting=f"{name}={value}", source=str(drop_in.path))
            effect = _effect(key, value, is_reset=key in weaknesses)
            if effect == "weaker":
                weaknesses[key] = weakness
            elif effect == "restored":
                weaknesses.pop(key, None)
    return list(weaknesses.values())


def missing(unit: str, shown: Mapping[str, str], drop_ins: Sequence[DropIn]) -> list[Weakness]:
    """What the running unit lacks of the sandbox in its release's unit file.

    `shown`: the properties that systemd shows of the running unit. A property that it does not show is one
    that this version of systemd does not know.
    """
    own = {key: values[-1] for key, values in directives(unit).items()}
    taken = {each["directive"]: each for each in taken_away(drop_ins)}
    found: dict[str, Weakness] = {}
    for key in (*SWITCHES, *_WEAK, *_IDENTITY, "UMask"):
        if key not in own or _is_weak(key, own[key]):
            continue
        source = taken[key]["source"] if key in taken else ""
        if key not in shown:
            found[key] = Weakness(directive=key, setting="unknown to this version of systemd", source=source)
        elif _is_weak(key, shown[key]) or (key in _IDENTITY and shown[key] != own[key]):
            found[key] = Weakness(directive=key, setting=f"{key}={shown[key]}", source=source)
    lists = {key: each for key, each in taken.items() if key not in shown and key not in found}
    if LOAD_CREDENTIAL not in own:
        lists.pop(LOAD_CREDENTIAL, None)
    return [*found.values(), *lists.values()]


def unenforced(unit: str, pid: int, proc: Path) -> list[Weakness]:
    """What the kernel does not enforce on the main process, although the unit file asks for it.

    Only what /proc shows: the system call filter, privileges, capabilities, and the process's own view of
    the file systems and users. [] if the process is gone.
    """
    own = {key: values[-1] for key, values in directives(unit).items()}
    try:
        status = dict(re.findall(r"^(\w+):\s*(\S+)", (proc / str(pid) / "status").read_text(), re.M))
        shared = {
            name: (proc / str(pid) / "ns" / name).readlink() == (proc / "1" / "ns" / name).readlink()
            for name in ("mnt", "user")
        }
    except OSError:
        return []
    lacking = {
        "SystemCallFilter": status.get("Seccomp") == "0",
        "NoNewPrivileges": status.get("NoNewPrivs") == "0",
        "CapabilityBoundingSet": own.get("CapabilityBoundingSet") == "" and int(status["CapBnd"], 16) != 0,
        "ProtectSystem": shared["mnt"],
        "PrivateUsers": shared["user"],
    }
    return [
        Weakness(directive=key, setting="not enforced on the running process", source="")
        for key, is_lacking in lacking.items()
        if is_lacking and key in own and not _is_weak(key, own[key])
    ]


def of_running_unit(unit_file: Path, proc: Path = paths.PROC) -> list[Weakness]:
    """What the sandbox of the running service lacks. [] without a main process.

    `unit_file`: the unit file of the release. Raises OSError, and subprocess.SubprocessError if systemd does
    not answer.
    """
    done = subprocess.run(
        ["systemctl", "show", paths.SERVICE_UNIT, f"--property={','.join(_SHOWN)}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    shown = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if not (pid := int(shown.pop("MainPID", "0"))):
        return []
    unit = unit_file.read_text()
    loaded = [_read(Path(path)) for path in shown.pop("DropInPaths", "").split()]
    weaknesses = missing(unit, shown, loaded)
    listed = {each["directive"] for each in weaknesses}
    return [*weaknesses, *(each for each in unenforced(unit, pid, proc) if each["directive"] not in listed)]


def sentences(weaknesses: Iterable[Weakness]) -> list[str]:
    """One text for each source: the drop-in, what it takes away, and the remedy."""
    by_source: dict[str, list[str]] = {}
    for each in weaknesses:
        setting = each["setting"]
        text = setting if setting.startswith(each["directive"]) else f"{each['directive']} ({setting})"
        by_source.setdefault(each["source"], []).append(text)
    return [
        f"{source} weakens the sandbox of {paths.SERVICE_UNIT}: {', '.join(settings)}. {remedy(source)}"
        if source
        else f"The sandbox of {paths.SERVICE_UNIT} is incomplete: {', '.join(settings)}."
        for source, settings in by_source.items()
    ]


def remedy(source: str) -> str:
    """How to undo a drop-in, as a sentence."""
    path = Path(source)
    if path.parent.name != "service.d":
        return "Remove these settings from the file, run `systemctl daemon-reload`, and restart the service."
    disabled = paths.SYSTEM_UNITS / "katago-.service.d"
    return (
        f"To disable it for KataGo's units only: `mkdir -p {disabled} && ln -s /dev/null"
        f" {disabled / path.name} && systemctl daemon-reload`; then restart the service."
    )


def is_masked(unit: str = paths.SERVICE_UNIT, directories: Iterable[Path] = UNIT_DIRECTORIES) -> str:
    """The path of the link that masks a unit; empty if the unit is not masked."""
    for directory in directories:
        path = directory / unit
        if path.is_symlink() or path.exists():
            return str(path) if path.is_symlink() and str(path.resolve()) == "/dev/null" else ""
    return ""


def _effect(key: str, value: str, *, is_reset: bool) -> str:
    """`weaker`, `restored` (what an earlier assignment took away is back), or empty for neither."""
    if key in SWITCHES or key in _WEAK or key == "UMask":
        return "weaker" if _is_weak(key, value) else "restored"
    if key in _IDENTITY:
        return "weaker" if value != paths.SERVICE_USER else "restored"
    if value == "":
        if key in _OPEN_IF_EMPTY or key == LOAD_CREDENTIAL:
            return "weaker"
        return "restored" if key in _ALLOWING else ""
    if is_reset and (key in _OPEN_IF_EMPTY or key == LOAD_CREDENTIAL):
        return "restored"
    return "weaker" if key in _ALLOWING and not value.startswith("~") else ""


def _is_weak(key: str, value: str) -> bool:
    if key in SWITCHES:
        return value.lower() in _OFF or value == ""
    if key in _WEAK:
        return value.lower() in _WEAK[key]
    if key == "UMask":
        return not re.fullmatch(r"[0-7]+", value) or int(value, 8) & _UMASK != _UMASK
    return False


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    """The assignments of the [Service] section of a unit or a drop-in."""
    section = ""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith(("#", ";")):
            key, value = line.split("=", 1)
            yield key.strip(), value.strip()


def _read(path: Path) -> DropIn:
    try:
        return DropIn(path, path.read_text(errors="replace"))
    except OSError:
        return DropIn(path, "")
