"""The secrets of a host: those in files, and those in arguments and environments of processes."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import (
    redaction,
    secret_text,
    secret_values,
    workers,
)
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout

LARGEST = 1 << 20
"""The largest size of a file of secrets, in bytes. A larger file is an error."""
_PATIENCE = 10.0
"""Seconds for redacting texts. Reading the arguments of a hanging process can block."""
# Patterns of paths below the host's root.
_FILES = (
    f"{paths.CREDENTIALS}/*",
    f"/run/credentials/{paths.SERVICE_UNIT}/*",
    *(
        f"{paths.BACKUP_SECRETS}/{name}"
        for name in (paths.RESTIC_PASSWORD, paths.RESTIC_ENVIRONMENT, paths.RESTIC_SSH_KEY)
    ),
)
# Addresses and passwords of the channels, on a host that runs the reminder timer of incidents.
_SINKS = (str(paths.INCIDENT_CHANNELS), f"/run/credentials/{paths.REMINDER_UNIT}/sinks")
_UNITS = tuple(
    f"{place}/{paths.SERVICE_UNIT}{part}"
    for place in ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
    for part in ("", ".d/*.conf")
)


class ConfidentialError(Exception):
    """The host's secrets cannot be read; the message has the file and the reason, as part of a sentence."""


def in_files(root: Path) -> list[redaction.Secret]:
    """The secrets in files: tokens, keys, passwords, and secrets in unit files and configurations.

    Raises ConfidentialError if an existing file cannot be read.
    """
    secrets: list[redaction.Secret] = []
    for path in _matching(root, *_FILES):
        secrets += secret_values.in_file(path.name, _read(path))
    for path in _matching(root, f"{paths.BACKUP_SECRETS}/{paths.RESTIC_REPOSITORY}"):
        secrets += secret_values.in_address(path.name, _read(path).strip())
    for path in _matching(root, *_SINKS):
        content = _read(path)
        groups = _parsed(content)
        values = secret_values.in_sinks(groups) if groups is not None else iter(())
        secrets += [redaction.Secret(value.encode(), path.name) for value in values]
        secrets += secret_values.in_file(path.name, content)
    for path in _matching(root, *_UNITS):
        text = _read(path).decode(errors="replace")
        secrets += _named(path.name, secret_values.in_unit(text))
        for name in re.findall(r"^\s*EnvironmentFile=-?(/\S+)", text, re.M):
            for file in _matching(root, name):
                secrets += _named(file.name, _in_environment_file(_read(file)))
    for path in _configurations(root):
        config = _parsed(_read(path))
        secrets += _named(path.name, secret_values.in_json(config))
        for name in _named_files(config):
            for file in _matching(root, name):
                secrets += secret_values.in_file(file.name, _read(file))
    return secrets


def in_processes(processes: list[int], proc: Path) -> list[redaction.Secret]:
    """The secrets in arguments and environments of processes. Processes that have ended are skipped."""
    secrets: list[redaction.Secret] = []
    for pid in processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            arguments = texts((proc / str(pid) / "cmdline").read_bytes())
            secrets += _named(f"argument-of-{pid}", secret_values.in_arguments(arguments))
            variables = as_variables(texts((proc / str(pid) / "environ").read_bytes()))
            secrets += _named(f"environment-of-{pid}", secret_values.in_environment(variables))
    return secrets


def unit_processes(proc: Path) -> list[int]:
    """The ids of the processes in the service's control group, read from /proc alone."""
    pids = []
    for directory in proc.iterdir():
        if not directory.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if paths.SERVICE_UNIT in re.split(r"[/\n]", (directory / "cgroup").read_text()):
                pids.append(int(directory.name))
    return sorted(pids)


def redacted(value: Any) -> Any:
    """Redact the host's secrets, and what looks like a secret, in all texts of a JSON value.

    If the secrets cannot be read, every text of more than one word is replaced with the reason.
    """
    redacting = workers.Measuring()
    redacting.start("texts", lambda: _without_secrets(value), _PATIENCE)
    entry = redacting.results()["texts"]
    if "value" in entry:
        return entry["value"]
    withheld = f"[withheld: the secrets of this host cannot be read: {entry['unknown']}]"
    return _changed(value, lambda text: withheld if len(text.split()) > 1 else text)


def _without_secrets(value: Any) -> Any:
    redactor = redaction.Redactor(
        [*in_files(Path("/")), *in_processes(unit_processes(paths.PROC), paths.PROC)]
    )
    changed = _changed(
        value, lambda text: redactor.redact(text.encode(errors="replace"))[0].decode(errors="replace")
    )
    if isinstance(changed, str):
        return changed
    # Names of keys and options before a value also show that it is a secret.
    return json.loads(secret_text.redact(json.dumps(changed))[0])


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _changed(each, change) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_changed(each, change) for each in value]
    return value


def texts(block: bytes) -> list[str]:
    """The texts of a file of /proc in which a zero byte ends each of them."""
    return [part.decode(errors="surrogateescape") for part in block.rstrip(b"\0").split(b"\0")]


def as_variables(assignments: list[str]) -> dict[str, str]:
    """Texts such as `NAME=value` as a mapping."""
    return {name: value for name, equals, value in (each.partition("=") for each in assignments) if equals}


def _configurations(root: Path) -> Iterator[Path]:
    """The current configuration and those of all releases: any of them may run, or be in the journal."""
    yield from _matching(root, str(paths.CONFIG))
    layout = release_layout.Layout(root / paths.RELEASE_ROOT.relative_to("/"))
    try:
        releases = sorted(layout.releases.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfidentialError(f"{layout.releases}: {error.strerror}") from error
    for release in releases:
        yield from _matching(release, paths.CONFIG.name)


def _matching(root: Path, *patterns: str) -> Iterator[Path]:
    """The existing files that match; a pattern may have wildcards in its last part."""
    for pattern in patterns:
        match = root / pattern.lstrip("/")
        try:
            files = sorted(match.parent.iterdir())
            yield from (path for path in files if fnmatch.fnmatch(path.name, match.name) and path.is_file())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfidentialError(f"{error.filename or match.parent}: {error.strerror}") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ConfidentialError(f"{path}: {error.strerror}") from error
    if len(content) > LARGEST:
        raise ConfidentialError(f"{path} has more than {LARGEST} bytes")
    return content


def _named(name: str, values: Iterator[str]) -> list[redaction.Secret]:
    return [
        redaction.Secret(value.encode(errors="surrogateescape"), name)
        for value in values
        if secret_values.worth_searching(value)
    ]


def _in_environment_file(content: bytes) -> Iterator[str]:
    lines = content.decode(errors="surrogateescape").splitlines()
    variables = as_variables([line.strip().removeprefix("export ") for line in lines])
    yield from secret_values.in_environment({name: value.strip("\"'") for name, value in variables.items()})


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _named_files(config: Any) -> Iterator[str]:
    """The tokens file and the key file of a configuration."""
    for section, key in (("auth", "tokensFile"), ("tls", "keyFile")):
        settings = config.get(section) if isinstance(config, dict) else None
        name = settings.get(key) if isinstance(settings, dict) else None
        if isinstance(name, str) and name.startswith("/"):
            yield name
