"""Checks that the service would start again, before a procedure stops it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    disk,
    redaction,
    shape,
    sockets,
    systemd_run,
    transient_unit,
)
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout
from ansible_collections.katago.fleet.plugins.module_utils.release import links
from ansible_collections.katago.fleet.plugins.module_utils.service import (
    credentials,
    host_secrets,
    sandbox,
    unit,
    validate_report,
)

UNIT = "katago-mcp-start-check.service"
_PATIENCE = 60
_DEADLINE = 600
_SPARE_SECONDS = 60
_MOST_LINES = 5
DIRECTORY_ROOTS = {
    "StateDirectory": Path("/var/lib"),
    "CacheDirectory": Path("/var/cache"),
    "LogsDirectory": Path("/var/log"),
}
"""Where systemd creates the directories of a unit, by directive."""
# With such a certificate the server starts, and reports it.
_NOT_VALID_NOW = ("expired at", "is not valid before")

REBUILD = (
    "ansible-playbook playbooks/deploy.yml -l HOST builds the release and its credentials again;"
    " ansible-playbook playbooks/restore.yml -l HOST restores them from the backup"
)
REPAIR_DISK = "Repair the disk first"
REPAIR_PORT = "Stop that process, or deploy another address or port"
INSTALL = "Install it with ansible-playbook playbooks/deploy.yml -l HOST"
REPLACE_LINK = "Replace it with a directory; to keep the files on another disk, mount that disk there"
ISOLATE = "ansible-playbook playbooks/security_on.yml -l HOST -e 'why=\"files of the release were changed\"'"


@dataclass(frozen=True)
class Problem:
    """What would keep the service from starting, and how it is repaired."""

    message: str
    repair: str


@dataclass(frozen=True)
class Findings:
    """The result for the current release. `problems`: those that prevent the start.

    `changed`: files and links that somebody changed, one phrase for each. The service may start with them.
    """

    problems: list[Problem]
    changed: list[str]


def current(layout: release_layout.Layout, *, makes_room: bool = False) -> Findings:
    """Check everything that a start of the current release uses.

    `makes_room`: whether the procedure makes room before the start, so that a full disk is no problem.
    """
    if not paths.SERVICE_UNIT_FILE.exists():
        message = f"the service is not installed: {paths.SERVICE_UNIT_FILE} is missing or a broken symlink"
        return Findings([Problem(message, INSTALL)], [])
    damage = release_layout.damage(layout.current)
    replaced = links.damage(links.of_host(layout, layout.current_release() or ""))
    changed = [*release_layout.changed(damage), *(line for line in replaced if "is missing" not in line)]
    missing = [line for line in (*damage, *replaced) if line not in changed]
    problems = [Problem(f"the release is damaged: {_few(missing)}", REBUILD)] if missing else []
    problems += [Problem(obstacle, REPAIR_DISK) for obstacle in disk.obstacles(full=not makes_room)]
    unit_file = (credentials.content(paths.SERVICE_UNIT_FILE) or b"").decode(errors="replace")
    symlinks = list(directory_problems(unit_file, DIRECTORY_ROOTS))
    problems += [Problem(symlink, REPLACE_LINK) for symlink in symlinks]
    # In both cases the release's own check would fail for the same reason.
    if not symlinks and not any(disk.obstacles()):
        problems += of_release(layout.current, paths.CONFIG, unit_file)
    return Findings(problems, changed)


def of_release(directory: Path, config: Path, unit_file: str) -> list[Problem]:
    """Check credentials, configuration and ports that a start of a release uses.

    `unit_file`: the content of its unit file. The release's own check runs as the service's user, in the
    sandbox of the service.
    """
    content = credentials.content(config) or b""
    missing = [
        Problem(f"{path} is missing or empty, and the unit passes it to the service as {name}", REBUILD)
        for name, path in credentials.in_unit(unit_file).items()
        if not credentials.content(path)
    ]
    refusals = [] if missing else [Problem(each, REBUILD) for each in _refusals(directory, config, unit_file)]
    return [*missing, *refusals, *(Problem(each, REPAIR_PORT) for each in port_problems(content))]


def directory_problems(unit_file: str, roots: Mapping[str, Path]) -> Iterator[str]:
    """The directories of the unit that are symlinks. systemd starts no service with one.

    `roots`: as `DIRECTORY_ROOTS`.
    """
    for directive, values in sandbox.directives(unit_file).items():
        if directive not in roots:
            continue
        for name in " ".join(values).split():
            path = roots[directive] / name.partition(":")[0]
            if path.is_symlink():
                yield f"{path} is a symlink to {path.readlink()}, which systemd does not follow ({directive})"


def port_problems(content: bytes) -> Iterator[str]:
    """The ports of a configuration on which the service could not listen, and why.

    Yields nothing for a damaged configuration: the release's own check reports it.
    """
    try:
        config = shape.mapping(shape.parsed(content))
    except shape.ShapeError:
        return
    own = [process["pid"] for process in unit.processes(unit.control_group())]
    for section in ("server", "metrics"):
        settings = config.get(section)
        if not isinstance(settings, dict) or settings.get("enabled") is False:
            continue
        host, port = settings.get("host"), settings.get("port")
        if isinstance(host, str) and isinstance(port, int):
            problem = sockets.bind_problem(host, port, own, paths.PROC)
            if problem is not None:
                yield f"the service cannot listen on {host} port {port} ({section}.port): {problem}"


def refusal(findings: Findings, *, starts: bool, allow_changed_files: bool) -> str | None:
    """Why the service must not be stopped, with the repair; None if it may be.

    `starts`: whether it must be able to start again. The reason stands first.
    """
    problems = findings.problems if starts else []
    changed = [] if allow_changed_files else findings.changed
    if not problems and not changed:
        return None
    lines = ["Refused; nothing was changed on this host."]
    options = []
    if problems:
        lines[0] += " The service would not start again:"
        lines += [f"- {problem.message}" for problem in problems]
        options.append("-e without_start_check=true")
    if changed:
        lines += [
            "Files were changed since the release was built, which may be traces of an intruder:"
            f" {_few(changed)}."
        ]
        options.append("-e allow_changed_files=true")
    repairs = dict.fromkeys(
        problem.repair for problem in problems if not changed or problem.repair != REBUILD
    )
    lines += [f"Repair: {repair}." for repair in repairs]
    lines += [advice()] if changed else []
    return "\n".join([*lines, f"To continue anyway: {' '.join(options)}"])


def advice() -> str:
    """What to do about a release whose files were changed."""
    return f"Repair: {REBUILD}. If nobody of you changed the files, isolate the host first: {ISOLATE}"


def _few(lines: list[str]) -> str:
    more = f"; and {len(lines) - _MOST_LINES} more" if len(lines) > _MOST_LINES else ""
    return f"{'; '.join(lines[:_MOST_LINES])}{more}"


def _refusals(directory: Path, config: Path, unit_file: str) -> list[str]:
    """What the release's own check finds wrong with configuration, files, tokens and certificate."""
    directives: dict[str, Any] = dict(sandbox.sandbox_directives(unit_file))
    directives |= {
        "WorkingDirectory": str(directory),
        "LoadCredential": [f"{name}:{path}" for name, path in credentials.in_unit(unit_file).items()],
        "RuntimeMaxSec": str(_DEADLINE + _SPARE_SECONDS),
    }
    command = [str(directory / "venv" / "bin" / "katago-mcp"), "validate", "--no-engine", "--json"]
    run = transient_unit.watched(
        systemd_run.command(directives, [*command, "--config", str(config)], unit=UNIT, collect=False),
        UNIT,
        patience=_PATIENCE,
        deadline=_DEADLINE,
    )
    problems = _verdict(run)
    # The messages quote the wrong value, which may be a secret in the wrong place.
    return list(host_secrets.redacted(problems)) if problems else []


def _verdict(run: transient_unit.Run) -> list[str]:
    try:
        report = validate_report.parse(run.output)
    except shape.ShapeError:
        return [f"the release's own check failed: {run.words(redaction.plain)}"]
    return [
        check["message"]
        for check in validate_report.failed(report)
        if check["name"] != "certificate" or not any(words in check["message"] for words in _NOT_VALID_NOW)
    ]
