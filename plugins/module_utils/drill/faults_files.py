"""Faults of files: release, configuration, cache, disks, credentials, certificate, repository of backups."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.katago.fleet.plugins.module_utils import paths
from ansible_collections.katago.fleet.plugins.module_utils.common import shape
from ansible_collections.katago.fleet.plugins.module_utils.drill import fault, step
from ansible_collections.katago.fleet.plugins.module_utils.drill.fault import Fault, Request, Seen
from ansible_collections.katago.fleet.plugins.module_utils.drill.host import Host, RefusedError
from ansible_collections.katago.fleet.plugins.module_utils.drill.parameters import Parameter
from ansible_collections.katago.fleet.plugins.module_utils.drill.step import Step
from ansible_collections.katago.fleet.plugins.module_utils.drill.steps_files import (
    FILLER,
    MOST_INODES,
    BadRelease,
    Full,
    Pages,
    Replaced,
    bad_manifest,
    tree_bytes,
)
from ansible_collections.katago.fleet.plugins.module_utils.drill.steps_units import Unit
from ansible_collections.katago.fleet.plugins.module_utils.release import layout

_RESTARTED = Unit(paths.SERVICE_UNIT, "restart")
# A database of SQLite consists of pages; ours have the default size.
_PAGE = 4096
_LEAST_PAGES = 3
_MOST_PAGES = 64
# A file system that is larger is not filled, even if it is for the cache alone.
_LARGEST_FILLED = 2 << 30
_COVER_BYTES = 64 << 20
_COVER_INODES = 2000
_RESERVE_BYTES = 256 << 20
_UNREACHABLE = "/nonexistent/katago-drill"


def _release(host: Host) -> Path:
    """The directory of the current release, which must be intact. Raises RefusedError."""
    fault.require_service(host)
    directory = host.layout.current.resolve()
    if problems := layout.damage(directory):
        raise RefusedError(
            f"The current release is damaged: {problems[0]}. Deploy it with playbooks/deploy.yml."
        )
    return directory


def _bad_release(host: Host, request: Request) -> list[Step]:
    original = _release(host)
    file = {"config": "config.json", "engine": "analysis.cfg"}[request.text("damage")]
    if file == "config.json":
        content = _misconfigured(original / file)
    else:
        content = (original / file).read_bytes() + b"\nnumSearchThreadsPerAnalysisThread = none\n"
    free = os.statvfs(original)
    if free.f_bavail * free.f_frsize < 2 * tree_bytes(original) + _RESERVE_BYTES:
        raise RefusedError(f"{original.parent} has no room for a copy of the release.")
    name = bad_manifest(original, file, content)["name"]
    if host.layout.release(name).exists():
        raise RefusedError(f"{host.layout.release(name)} exists already: remove it.")
    bad = BadRelease(request.drill, original.name, name, file, step.keep(host, content))
    return [bad, _RESTARTED]


def _misconfigured(path: Path) -> bytes:
    """A configuration that the server rejects when it starts."""
    config = dict(shape.mapping(shape.parsed(path.read_bytes())))
    config["server"] = {**config["server"], "port": "none"}
    return json.dumps(config, indent=1).encode() + b"\n"


def _is_bad(host: Host, steps: Sequence[Step]) -> Seen:
    shown = [each.remains(host) for each in steps if isinstance(each, BadRelease)]
    return _while_unready(host, all(shown), "; ".join(filter(None, shown)))


def _corrupted_config(host: Host, request: Request) -> list[Step]:
    path = _release(host) / "config.json"
    content = path.read_bytes()
    if request.text("damage") == "truncated":
        return [Replaced.of(host, path, content[: len(content) // 2]), _RESTARTED]
    return [Replaced.of(host, path, _misconfigured(path)), _RESTARTED]


def _is_corrupted(host: Host, steps: Sequence[Step]) -> Seen:
    shown = [each.remains(host) for each in steps if isinstance(each, Replaced)]
    return _while_unready(host, all(shown), "; ".join(filter(None, shown)))


def _while_unready(host: Host, is_there: bool, text: str) -> Seen:
    active = host.active(paths.SERVICE_UNIT)
    ready = host.ready()
    shown = text or "the file is as before"
    return Seen(
        is_there and not ready,
        f"{shown}; {paths.SERVICE_UNIT} is {active} and {'ready' if ready else 'not ready'}",
    )


def _corrupted_cache(host: Host, _request: Request) -> list[Step]:
    path = host.places.answers
    fault.require_service(host)
    pages = path.stat().st_size // _PAGE if path.is_file() else 0
    if pages < _LEAST_PAGES:
        raise RefusedError(f"{path} has {pages} pages, too few to damage. Use the service first.")
    apart = max(1, pages // _MOST_PAGES)
    offsets = tuple(number * _PAGE for number in range(0, pages, apart))[:_MOST_PAGES]
    return [Unit(paths.SERVICE_UNIT), Pages.of(host, path, _PAGE, offsets)]


def _has_bad_pages(host: Host, steps: Sequence[Step]) -> Seen:
    return fault.remains(host, [each for each in steps if isinstance(each, Pages)])


def _full(what: str, host: Host) -> list[Step]:
    fault.require_service(host)
    directory = host.places.cache
    if not directory.is_dir() or directory.is_symlink():
        raise RefusedError(f"{directory} is not a directory.")
    if (directory / FILLER).exists():
        raise RefusedError(f"{directory / FILLER} exists already: remove it.")
    covered = not _may_be_filled(directory, host)
    if covered:
        fault.require_program(host, "mount", "umount")
        if step.mounts(host.places.proc).get(str(directory.resolve())):
            raise RefusedError(
                f"{directory} is a file system of its own that is too large to be filled. Choose another"
                " fault."
            )
    inodes = _COVER_INODES if what == "inodes" else 0
    return [Unit(paths.SERVICE_UNIT), Full(str(directory), what, covered, _COVER_BYTES, inodes)]


def _may_be_filled(directory: Path, host: Host) -> bool:
    """Whether the file system of the directory is small, and for nothing else."""
    is_own = bool(step.mounts(host.places.proc).get(str(directory.resolve())))
    status = os.statvfs(directory)
    is_small = status.f_blocks * status.f_frsize <= _LARGEST_FILLED and status.f_files <= MOST_INODES
    return is_own and is_small


def _is_full(host: Host, steps: Sequence[Step]) -> Seen:
    fulls = [each for each in steps if isinstance(each, Full)]
    shown = fault.remains(host, fulls)
    problems = [text for each in fulls for text in _cannot_write(Path(each.directory))]
    return Seen(shown.landed and bool(problems), "; ".join([shown.text, *problems]))


def _cannot_write(directory: Path) -> list[str]:
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(_PAGE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return [f"{directory} cannot be written: {error.strerror}"]
    return []


def _lost_repository(host: Host, request: Request) -> list[Step]:
    what = request.text("what")
    path = host.places.backup_secrets / what
    if not path.is_file():
        raise RefusedError(
            f"This host has no backups: {path} is missing. Set them up with playbooks/backup.yml."
        )
    content = f"{_UNREACHABLE}\n" if what == paths.RESTIC_REPOSITORY else f"{secrets.token_urlsafe()}\n"
    return [Replaced.of(host, path, content.encode())]


def _rotated(host: Host, _request: Request) -> list[Step]:
    fault.require_service(host)
    path = host.places.tokens
    try:
        document = dict(shape.mapping(shape.parsed(path.read_bytes())))
        tokens = [{**shape.mapping(token), "sha256": secrets.token_hex(32)} for token in document["tokens"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RefusedError(f"The service has no usable tokens in {path}: {error}.") from error
    changed: dict[str, Any] = {**document, "tokens": tokens}
    return [Unit(paths.SERVICE_UNIT), Replaced.of(host, path, json.dumps(changed, indent=1).encode() + b"\n")]


def _is_replaced(host: Host, steps: Sequence[Step]) -> Seen:
    return fault.remains(host, [each for each in steps if isinstance(each, Replaced)])


def _expired(host: Host, _request: Request) -> list[Step]:
    fault.require_service(host)
    fault.require_program(host, "openssl")
    certificate, key = host.places.certificate, host.places.key
    if not certificate.is_file() or not key.is_file():
        raise RefusedError("The service does not use TLS, so it has no certificate that could expire.")
    try:
        content = _expired_certificate(host, certificate, key)
    except OSError as error:
        raise RefusedError(f"An expired certificate cannot be made: {error}.") from error
    return [Replaced.of(host, certificate, content), _RESTARTED]


_AUTHORITY = """\
[ca]
default_ca = own
[own]
new_certs_dir = {0}
database = {0}/index
serial = {0}/serial
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
organizationName = optional
"""


def _expired_certificate(host: Host, certificate: Path, key: Path) -> bytes:
    """A certificate with the same key and names that expired long ago. Raises OSError."""
    with tempfile.TemporaryDirectory(prefix="katago-drill-") as name:
        directory = Path(name)
        (directory / "index").touch()
        (directory / "serial").write_text("01\n")
        (directory / "authority.cnf").write_text(_AUTHORITY.format(directory))
        request, made = directory / "request.pem", directory / "made.pem"
        host.require(
            *("openssl", "x509", "-x509toreq", "-copy_extensions", "copy", "-in", certificate),
            *("-signkey", key, "-out", request),
        )
        host.require(
            *("openssl", "ca", "-batch", "-selfsign", "-notext", "-config", directory / "authority.cnf"),
            *("-keyfile", key, "-in", request, "-out", made),
            *("-startdate", "20200101000000Z", "-enddate", "20200201000000Z"),
        )
        return made.read_bytes()


FAULTS = (
    Fault(
        "release_bad",
        "A release is deployed that does not work: a damaged copy of the current one.",
        "an intact release and room for a copy",
        _bad_release,
        _is_bad,
        (
            Parameter(
                "damage",
                "what is wrong: the server's configuration, or the engine's",
                "config",
                ("config", "engine"),
            ),
        ),
    ),
    Fault(
        "config_corrupted",
        "The configuration of the current release is damaged, and the service restarts.",
        "an intact release",
        _corrupted_config,
        _is_corrupted,
        (
            Parameter(
                "damage",
                "half of the file is missing, or a value is invalid",
                "truncated",
                ("truncated", "invalid"),
            ),
        ),
    ),
    Fault(
        "cache_corrupted",
        "Pages of the file of cached answers are overwritten.",
        "a cache with answers",
        _corrupted_cache,
        _has_bad_pages,
    ),
    Fault(
        "disk_full",
        "The directory of the cache has no room left.",
        "a small file system of the cache, or the right to mount one over it",
        lambda host, _: _full("bytes", host),
        _is_full,
    ),
    Fault(
        "inodes_full",
        "The directory of the cache has no inodes left.",
        "a small file system of the cache, or the right to mount one over it",
        lambda host, _: _full("inodes", host),
        _is_full,
    ),
    Fault(
        "backup_repository_lost",
        "The backups cannot reach their repository.",
        "a host with backups",
        _lost_repository,
        _is_replaced,
        (
            Parameter(
                "what",
                "the wrong setting",
                paths.RESTIC_REPOSITORY,
                (paths.RESTIC_REPOSITORY, paths.RESTIC_PASSWORD),
            ),
        ),
    ),
    Fault(
        "credentials_rotated",
        "The service accepts none of the tokens that clients have.",
        "a service with tokens",
        _rotated,
        _is_replaced,
    ),
    Fault(
        "certificate_expired",
        "The certificate of the service has expired.",
        "a service with TLS, and openssl",
        _expired,
        _is_replaced,
    ),
)
