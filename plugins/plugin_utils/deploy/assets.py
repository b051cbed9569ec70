"""Engines and networks on the control node: fetches them once, verifies them and caches them by sha256."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils.common import digest, endings, redaction
from ansible_collections.katago.fleet.plugins.module_utils.common.file_lock import locked
from ansible_collections.katago.fleet.plugins.plugin_utils.transfer.sharing import shown

RELEASE_ADDRESS = "https://github.com/lightvector/KataGo/releases/download/v{version}/{name}"
RELEASE_NAME = "katago-v{version}-{backend}-linux-x64.zip"
_TIMEOUT_SECONDS = 60
_LOCK = ".lock"
_MEMBER_RECORD = "sha256"

Show = Callable[[str], None]


class AssetError(Exception):
    """An asset cannot be fetched or does not match its sha256; the message states the fix."""


@dataclass(frozen=True)
class Asset:
    """A verified file in the cache. `sha256` is its own, not that of the archive that contains it."""

    path: Path
    sha256: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name


def obtain(variable: str, spec: Mapping[str, Any], cache: Path, show: Show) -> Asset:
    """The file that `spec` describes, from the cache, a mirror or its source.

    `variable`: the variable that holds the spec, for messages. `show`: shows a message about a slow step.

    Raises:
        AssetError: the file cannot be fetched or does not match its sha256.
    """
    expected = str(spec["sha256"])
    directory = cache / "downloads" / expected
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory / _LOCK):
        archive = _cached(directory, expected) or _fetch(variable, spec, directory, show)
        member = _member(spec)
        if member is None or not zipfile.is_zipfile(archive):
            return Asset(archive, expected)
        return _extract(variable, archive, member, directory)


def known_sha256(spec: Mapping[str, Any], cache: Path) -> str:
    """The sha256 of the asset's own file, without a download; empty if it is not known here."""
    expected, member = str(spec.get("sha256") or ""), _member(spec)
    if member is None or not expected:
        return expected
    try:
        return (cache / "downloads" / expected / digest.of_text(member) / _MEMBER_RECORD).read_text()
    except OSError:
        return ""


def _member(spec: Mapping[str, Any]) -> str | None:
    """The name of the asset's file in its archive; None if the file itself is downloaded."""
    member = spec.get("member") or ("katago" if spec.get("source") == "release" else None)
    return None if member is None else str(member)


def _cached(directory: Path, expected: str) -> Path | None:
    for path in _files(directory):
        if digest.of_file(path) == expected:
            return path
        path.unlink()
    return None


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.is_file() and path.name != _LOCK]


def _fetch(variable: str, spec: Mapping[str, Any], directory: Path, show: Show) -> Path:
    failures = []
    for place, fetch in _places(spec):
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            if spec["source"] != "file":
                show(f"Fetching {variable} from {place}")
            try:
                fetched = fetch(Path(scratch))
            except (OSError, subprocess.CalledProcessError) as error:
                failures.append(f"{place}: {_reason(error)}")
                continue
            actual = digest.of_file(fetched)
            if actual != spec["sha256"]:
                failures.append(f"{place}: its sha256 is {actual}, not {spec['sha256']}")
                continue
            return fetched.rename(directory / fetched.name)
    raise AssetError(
        f"{variable} cannot be fetched. "
        + "; ".join(failures)
        + ". Correct the source or the sha256 (compare it with the upstream value),"
        + f" or add a mirror to {variable}.mirrors."
    )


def _places(spec: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[Path], Path]]]:
    mirrors: Sequence[str] = spec.get("mirrors") or []
    source = spec["source"]
    if source == "pypi":
        for index in [*mirrors, None]:
            place = shown(index) if index else "the configured package index"
            yield (
                f"{spec['requirement']} from {place}",
                functools.partial(_pip_download, str(spec["requirement"]), index),
            )
        return
    if source == "release":
        name = spec.get("name") or RELEASE_NAME.format(version=spec["version"], backend=spec["backend"])
        origin = RELEASE_ADDRESS.format(version=spec["version"], name=name)
    elif source == "url":
        origin = str(spec["url"])
        name = Path(urllib.parse.urlsplit(origin).path).name
    else:
        origin = Path(spec["path"]).expanduser().absolute().as_uri()
        name = Path(spec["path"]).name
    for address in [*(f"{mirror.rstrip('/')}/{name}" for mirror in mirrors), origin]:
        yield shown(address), functools.partial(_download, address, name)


def _download(address: str, name: str, scratch: Path) -> Path:
    target = scratch / name
    # S310: the file scheme is allowed, because a file on the control node is a valid source.
    with (
        urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as response,  # noqa: S310 (see above)
        target.open("wb") as file,
    ):
        shutil.copyfileobj(response, file, 1 << 20)
    return target


def _pip_download(requirement: str, index: str | None, scratch: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
    ]
    command += ["--disable-pip-version-check", f"--dest={scratch}", requirement]
    environment = {**os.environ, **({"PIP_INDEX_URL": index} if index else {})}
    subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    (wheel,) = scratch.glob("*.whl")
    return wheel


def _extract(variable: str, archive: Path, member: str, directory: Path) -> Asset:
    folder = directory / digest.of_text(member)
    record = folder / _MEMBER_RECORD
    target = folder / Path(member).name
    if target.exists() and record.exists() and digest.of_file(target) == record.read_text():
        return Asset(target, record.read_text())
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=directory) as scratch, zipfile.ZipFile(archive) as opened:
        try:
            info = opened.getinfo(member)
        except KeyError:
            raise AssetError(
                f"{variable}: {archive.name} has no member {member!r}."
                f" List its members with `unzip -l`, and set {variable}.member."
            ) from None
        extracted = Path(scratch, target.name)
        with opened.open(info) as source, extracted.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        folder.mkdir()
        extracted.rename(target)
    record.write_text(digest.of_file(target))
    return Asset(target, record.read_text())


def _reason(error: OSError | subprocess.CalledProcessError) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        output = redaction.plain(error.stderr or "").strip()
        lines = [line for line in output.splitlines() if line.startswith("ERROR")]
        return lines[-1] if lines else endings.describe(output, status=error.returncode, most=300)
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        return str(error.reason)
    return str(error)
