"""Builds wheel sets for a host's Python: of a release, the server with its dependencies, or of a lock."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker, default_environment

from ansible_collections.katago.fleet.plugins.module_utils.common import digest, endings, redaction
from ansible_collections.katago.fleet.plugins.module_utils.common.file_lock import locked

# Platforms whose wheels run on Debian 12 and newer (PEP 600).
_GLIBC_MINORS = (17, 24, 26, 27, 28, 31, 34, 35)
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")

CONTROL_LOCK = Path(__file__).resolve().parents[3] / "requirements.lock"

Show = Callable[[str], None]


class WheelError(Exception):
    """A wheel set cannot be built; the message quotes pip."""


@dataclass(frozen=True)
class WheelSet:
    """An archive of wheels with a `requirements.txt` of hashes. `sha256` is the digest of its content."""

    archive: Path
    sha256: str
    version: str


def build(server: Path, *, python: str, machine: str, cache: Path, show: Show) -> WheelSet:
    """The wheel set of the server's sources for a Python (`3.11`) and a machine (`x86_64`).

    It is built once for the same sources, lock, Python and machine, and then cached. `show`: shows a message
    before a build.

    Raises:
        WheelError: pip failed.
    """
    version = tomllib.loads((server / "pyproject.toml").read_text())["project"]["version"]
    key = digest.of_json(
        {
            "sources": digest.of_tree(server / "src", skip=_compiled(server / "src")),
            "project": digest.of_file(server / "pyproject.toml"),
            "lock": digest.of_file(server / "requirements.lock"),
            "python": python,
            "machine": machine,
        }
    )
    archive, sha256 = _cached(
        cache / "wheels",
        key,
        lambda scratch: _collect(server, scratch, python, machine),
        lambda: show(f"Building the server's wheel set for Python {python} on {machine}"),
    )
    return WheelSet(archive, sha256, version)


def build_locked(lock: Path, *, python: str, machine: str, cache: Path, show: Callable[[], None]) -> WheelSet:
    """The wheel set of a lock alone, for a Python and a machine. `show`: is called before a build.

    Raises:
        WheelError: pip failed.
    """
    content = lock.read_text()
    key = digest.of_json({"lock": digest.of_text(content), "python": python, "machine": machine})

    def collect(scratch: Path) -> str:
        lines = list(requirements(content, python=python, machine=machine))
        _download(lines, scratch, python, machine)
        return _finish(lines, scratch, python, machine)

    archive, sha256 = _cached(cache / "wheels", key, collect, show)
    return WheelSet(archive, sha256, "")


def _cached(
    root: Path, key: str, collect: Callable[[Path], str], show: Callable[[], None]
) -> tuple[Path, str]:
    """The archive of a wheel set and the digest of its content. `collect` fills a directory with it."""
    directory = root / key
    archive = directory / "wheels.zip"
    record = directory / "sha256"
    root.mkdir(parents=True, exist_ok=True)
    with locked(root / f".{key}.lock"):
        if not record.exists():
            show()
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=directory) as scratch:
                content = collect(Path(scratch))
                partial = archive.with_suffix(".partial")
                _pack(Path(scratch), partial)
                partial.rename(archive)
            record.write_text(content)
    return archive, record.read_text()


def requirements(lock: str, *, python: str, machine: str) -> Iterator[str]:
    """The lines of a lock that apply to a host's Python: `name==version --hash=...`, without markers.

    They are evaluated here because pip evaluates markers for the Python that runs it, the control node's.
    """
    environment = dict(default_environment()) | {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": machine,
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    for line in lock.replace("\\\n", " ").splitlines():
        line = line.split(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        requirement, _, rest = line.partition(" --hash")
        pinned, _, marker = requirement.partition(";")
        if marker.strip() and not Marker(marker.strip()).evaluate(
            {key: str(value) for key, value in environment.items()}
        ):
            continue
        hashes = " ".join(f"--hash={value}" for value in _HASH.findall("--hash" + rest))
        yield f"{pinned.strip()} {hashes}"


def _compiled(root: Path) -> frozenset[str]:
    return frozenset(path.relative_to(root).as_posix() for path in root.rglob("*.pyc"))


def _collect(server: Path, scratch: Path, python: str, machine: str) -> str:
    lines = list(requirements((server / "requirements.lock").read_text(), python=python, machine=machine))
    _download(lines, scratch, python, machine)
    _pip("wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={scratch}", str(server))
    (own,) = scratch.glob("katago_mcp-*.whl")
    lines.append(f"katago-mcp=={own.name.split('-')[1]} --hash=sha256:{digest.of_file(own)}")
    return _finish(lines, scratch, python, machine)


def _download(lines: Sequence[str], scratch: Path, python: str, machine: str) -> None:
    """Download the wheels of locked requirements."""
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in _GLIBC_MINORS]
    locked_file = scratch / "locked.txt"
    locked_file.write_text("\n".join(lines) + "\n")
    _pip(
        "download",
        "--require-hashes",
        "--no-deps",
        "--only-binary=:all:",
        f"--python-version={python}",
        "--implementation=cp",
        *platforms,
        f"--platform=manylinux2014_{machine}",
        f"--platform=manylinux1_{machine}",
        f"--requirement={locked_file}",
        f"--dest={scratch}",
    )
    locked_file.unlink()


def _finish(lines: Sequence[str], scratch: Path, python: str, machine: str) -> str:
    """Add the requirements and an installer; return the digest of the wheels."""
    (scratch / "requirements.txt").write_text("\n".join(lines) + "\n")
    # Hosts install with the control node's locked pip, so an environment needs no pip of its own.
    installer = scratch / "installer.txt"
    installer.write_text(_locked_pip(python, machine))
    _pip(
        "download",
        "--require-hashes",
        "--no-deps",
        "--only-binary=:all:",
        f"--requirement={installer}",
        f"--dest={scratch}",
    )
    installer.unlink()
    wheels = {
        path.name: digest.of_file(path) for path in scratch.iterdir() if not path.name.startswith("pip-")
    }
    return digest.of_json(wheels)


def _locked_pip(python: str, machine: str) -> str:
    lines = requirements(CONTROL_LOCK.read_text(), python=python, machine=machine)
    return next(line for line in lines if line.startswith("pip=="))


def _pip(*arguments: str) -> None:
    environment = {
        **os.environ,
        "SOURCE_DATE_EPOCH": "1577836800",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    result = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        lines = redaction.plain(result.stderr).splitlines()
        errors = "\n".join(line for line in lines if not line.startswith("WARNING"))
        message = endings.describe(errors, "\n".join(lines), status=result.returncode, lines=3)
        raise WheelError(f"The wheel set cannot be built: {message}")


def _pack(directory: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for path in sorted(directory.iterdir()):
            packed.write(path, path.name)
