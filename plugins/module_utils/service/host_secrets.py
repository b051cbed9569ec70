"""The secrets that a host knows: those that are kept in files, and those that its service was given."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import redaction, secret_values, workers
from ansible_collections.katago.fleet.plugins.module_utils.release import layout as release_layout

LARGEST = 1 << 20
"""Bytes of a file of secrets; a larger one is none that can be searched for."""
_PATIENCE = 10.0
"""Seconds for finding the secrets and taking them out; a process that hangs can keep what it was given."""
# Patterns below the root of a host.
_FILES = (
    f"{paths.CREDENTIALS}/*",
    f"/run/credentials/{paths.SERVICE_UNIT}/*",
    *(
        f"{paths.BACKUP_SECRETS}/{name}"
        for name in (paths.RESTIC_PASSWORD, paths.RESTIC_ENVIRONMENT, paths.RESTIC_SSH_KEY)
    ),
)
# Where a host that keeps the time of incidents has the addresses and passwords of their sinks.
_SINKS = (str(paths.INCIDENT_CHANNELS), f"/run/credentials/{paths.REMINDER_UNIT}/sinks")
_UNITS = tuple(
    f"{place}/{paths.SERVICE_UNIT}{part}"
    for place in ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
    for part in ("", ".d/*.conf")
)


class ConfidentialError(Exception):
    """The secrets of a host cannot be known; the message says which, and why, as part of a sentence."""


def kept(root: Path) -> list[redaction.Secret]:
    """The secrets in files: tokens, keys, passwords, and what unit and configuration are given.

    Raises ConfidentialError when one of the files is there and cannot be read.
    """
    found: list[redaction.Secret] = []
    for path in _matching(root, *_FILES):
        found += secret_values.in_file(path.name, _read(path))
    for path in _matching(root, f"{paths.BACKUP_SECRETS}/{paths.RESTIC_REPOSITORY}"):
        found += secret_values.in_address(path.name, _read(path).strip())
    for path in _matching(root, *_SINKS):
        content = _read(path)
        groups = _parsed(content)
        values = secret_values.in_sinks(groups) if groups is not None else iter(())
        found += [redaction.Secret(value.encode(), path.name) for value in values]
        found += secret_values.in_file(path.name, content)
    for path in _matching(root, *_UNITS):
        text = _read(path).decode(errors="replace")
        found += _named(path.name, secret_values.in_unit(text))
        for name in re.findall(r"^\s*EnvironmentFile=-?(/\S+)", text, re.M):
            for file in _matching(root, name):
                found += _named(file.name, _in_environment_file(_read(file)))
    for path in _configurations(root):
        config = _parsed(_read(path))
        found += _named(path.name, secret_values.in_json(config))
        for name in _named_files(config):
            for file in _matching(root, name):
                found += secret_values.in_file(file.name, _read(file))
    return found


def given(processes: list[int], proc: Path) -> list[redaction.Secret]:
    """The secrets in arguments and environments of processes; those that are gone have none."""
    found: list[redaction.Secret] = []
    for pid in processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            words = texts((proc / str(pid) / "cmdline").read_bytes())
            found += _named(f"argument-of-{pid}", secret_values.in_arguments(words))
            variables = as_variables(texts((proc / str(pid) / "environ").read_bytes()))
            found += _named(f"environment-of-{pid}", secret_values.in_environment(variables))
    return found


def of_unit(proc: Path) -> list[int]:
    """The processes of the service's control group, from /proc alone."""
    found = []
    for directory in proc.iterdir():
        if not directory.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if paths.SERVICE_UNIT in re.split(r"[/\n]", (directory / "cgroup").read_text()):
                found.append(int(directory.name))
    return sorted(found)


def shown(value: Any) -> Any:
    """A JSON value as it may leave the host: its texts without the host's secrets and what looks like one.

    Where the secrets cannot be known, texts of several words are withheld, with the reason.
    """
    looked = workers.Measuring()
    looked.start("texts", lambda: _without_secrets(value), _PATIENCE)
    entry = looked.results()["texts"]
    if "value" in entry:
        return entry["value"]
    withheld = f"[withheld: the secrets of this host are not known: {entry['unknown']}]"
    return _changed(value, lambda text: withheld if len(text.split()) > 1 else text)


def _without_secrets(value: Any) -> Any:
    redactor = redaction.Redactor([*kept(Path("/")), *given(of_unit(paths.PROC), paths.PROC)])
    return _changed(
        value, lambda text: redactor.redact(text.encode(errors="replace"))[0].decode(errors="replace")
    )


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _changed(each, change) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_changed(each, change) for each in value]
    return value


def texts(block: bytes) -> list[str]:
    """The texts of a block of the kernel, each ended by a zero byte."""
    return [part.decode(errors="surrogateescape") for part in block.rstrip(b"\0").split(b"\0")]


def as_variables(words: list[str]) -> dict[str, str]:
    """Words such as `NAME=value` as a mapping."""
    return {name: value for name, equals, value in (word.partition("=") for word in words) if equals}


def _configurations(root: Path) -> Iterator[Path]:
    """The present one, and those of all releases: one of them may run, and the journal is of them all."""
    yield from _matching(root, str(paths.CONFIG))
    layout = release_layout.Layout(root / paths.RELEASE_ROOT.relative_to("/"))
    try:
        found = sorted(layout.releases.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfidentialError(f"{layout.releases}: {error.strerror}") from error
    for release in found:
        yield from _matching(release, paths.CONFIG.name)


def _matching(root: Path, *patterns: str) -> Iterator[Path]:
    """The files that there are; a pattern may have wildcards in its last part."""
    for pattern in patterns:
        wanted = root / pattern.lstrip("/")
        try:
            found = sorted(wanted.parent.iterdir())
            yield from (path for path in found if fnmatch.fnmatch(path.name, wanted.name) and path.is_file())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfidentialError(f"{error.filename or wanted.parent}: {error.strerror}") from error


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
    """The files of tokens and keys that a configuration names."""
    for section, key in (("auth", "tokensFile"), ("tls", "keyFile")):
        settings = config.get(section) if isinstance(config, dict) else None
        name = settings.get(key) if isinstance(settings, dict) else None
        if isinstance(name, str) and name.startswith("/"):
            yield name
