"""The archives that APT takes packages from, and the sources that add those with the driver."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from ansible_collections.katago.fleet.plugins.module_utils.common import apt
from ansible_collections.katago.fleet.plugins.module_utils.gpu import driver_files, kernels, texts

COMPONENTS = ("contrib", "non-free", "non-free-firmware")

DISTRIBUTIONS = ("Debian", "Ubuntu")
NVIDIA_REPOSITORY = "https://developer.download.nvidia.com/compute/cuda/repos"


@dataclass(frozen=True)
class Archive:
    """An index of packages as APT knows it; `codename` and `origin` are empty where it does not tell."""

    uri: str
    suite: str
    component: str
    codename: str = ""
    origin: str = ""


INDEXTARGETS = (
    "apt-get",
    "indextargets",
    "--format",
    "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(CODENAME)|$(ORIGIN)",
    "Created-By: Packages",
)


def address(uri: str) -> str:
    """A source's address as APT names it, by which two that are written differently are the same.

    APT makes `file:/a/` of `file:///a`, reads `%20`, and leaves a user's name out where it tells of packages.
    """
    host = re.sub(r"^([\w.+-]+:)///", r"\1/", unquote(uri))
    return re.sub(r"^([\w.+-]+://)[^/@]*@", r"\1", host).rstrip("/")


def archives(targets: str) -> list[Archive]:
    """What `INDEXTARGETS` prints; APT prints the variable itself where there is no value."""
    rows = ([re.sub(r"\$\(.*", "", field) for field in row.split("|")] for row in targets.splitlines())
    return list(dict.fromkeys(Archive(*row) for row in rows if len(row) == 5))


def own_archives(found: Iterable[Archive], codename: str) -> list[Archive]:
    """Those of the host's own release, its updates and its security, by their codename or their suite."""
    names = {codename, f"{codename}-updates", f"{codename}-security"}
    mine = [each for each in found if names & {each.codename, each.suite}]
    return [each for each in mine if each.origin in DISTRIBUTIONS] or mine


def pinned_releases(own: Iterable[Archive], codename: str) -> tuple[str, ...]:
    """How pins name the releases to which components are added: Debian's, and what a mirror makes of them."""
    usual = [f"o=Debian,n={codename}{kind}" for kind in ("", "-updates", "-security")]
    mirrored = [
        f"o={each.origin},n={each.codename}"
        for each in own
        if each.component == "main" and each.origin and each.codename
    ]
    return tuple(dict.fromkeys([*usual, *mirrored]))


def lacking_components(own: Iterable[Archive], codename: str) -> list[str]:
    """The components with the driver that a host does not take from the archives of its own release."""
    have = {each.component for each in own if codename in (each.codename, each.suite)}
    return [each for each in COMPONENTS if each not in have]


def sources(
    entries: Mapping[str, str], own: Iterable[Archive], components: Sequence[str]
) -> dict[Path, str | None]:
    """The files that take `components` of a host's own archives, None for one that is not needed.

    They repeat the host's own entries with all their options, since APT reads no source at all when two
    entries of an archive differ in them. `entries`: the host's sources by file name. [sources.list(5)]
    """
    known = {(address(each.uri), each.suite) for each in own if each.component == "main"}
    lines: dict[str, None] = {}
    stanzas: dict[str, None] = {}
    for name, text in entries.items():
        if name.endswith(".sources"):
            stanzas |= dict.fromkeys(_stanzas(text, known, components))
        else:
            lines |= dict.fromkeys(_lines(text, known, components))
    return {
        driver_files.SOURCES: driver_files.HEAD.format("#") + "\n".join(lines) + "\n" if lines else None,
        driver_files.STANZAS: driver_files.HEAD.format("#") + "\n".join(stanzas) if stanzas else None,
    }


_LINE = re.compile(
    r"\s*deb\s+(?P<options>\[[^\]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>[^#]+)"
)


def _lines(text: str, known: Container[tuple[str, str]], components: Sequence[str]) -> Iterator[str]:
    for found in filter(None, map(_LINE.match, text.splitlines())):
        is_known = (address(found["uri"]), found["suite"]) in known
        if is_known and "main" in found["components"].split():
            yield f"deb {found['options'] or ''}{found['uri']} {found['suite']} {' '.join(components)}"


def _stanzas(text: str, known: Container[tuple[str, str]], components: Sequence[str]) -> Iterator[str]:
    written = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", written):
        fields = {
            found[1].lower(): found[0].rstrip()
            for found in re.finditer(r"^(\S+?):.*(?:\n[ \t].*)*", stanza, re.M)
        }
        values = {name: field.partition(":")[2].split() for name, field in fields.items()}
        if values.get("enabled", ["yes"])[0].lower() in ("no", "false", "off", "0", "without", "disable"):
            continue
        uris = values.get("uris", [])
        suites = [
            suite for suite in values.get("suites", []) if any((address(uri), suite) in known for uri in uris)
        ]
        if suites and "deb" in values.get("types", []) and "main" in values.get("components", []):
            fields |= {
                "types": "Types: deb",
                "suites": f"Suites: {' '.join(suites)}",
                "components": f"Components: {' '.join(components)}",
            }
            yield "\n".join(fields.values()) + "\n"


def of_nvidia(uri: str, archives: Iterable[Archive], url: str) -> bool:
    """Whether an archive is NVIDIA's, or the mirror of it at `url`."""
    ours = (NVIDIA_REPOSITORY, *([address(url)] if url else []))
    return address(uri).startswith(ours) or any(
        each.origin == "NVIDIA" and address(each.uri) == address(uri) for each in archives
    )


def nvidia_source(system: str, release: str, url: str) -> str:
    """The line of NVIDIA's own repository, or of a mirror of it, for a system."""
    uri = url or f"{NVIDIA_REPOSITORY}/{system}{release.replace('.', '')}/x86_64/"
    return driver_files.HEAD.format("#") + f"deb [signed-by={driver_files.KEYRING}] {uri} /\n"


APT = Path("/etc/apt")


def index_targets(options: Sequence[str] = ()) -> str:
    """What APT takes packages from."""
    command, *arguments = INDEXTARGETS
    return apt.run([command, *options, *arguments])


@contextlib.contextmanager
def readable_sources() -> Iterator[tuple[str, tuple[str, ...]]]:
    """APT's error where this role's own sources keep it from reading any, and options that leave them out."""
    ours = (driver_files.SOURCES, driver_files.STANZAS)
    try:
        index_targets()
        trouble = ""
    except apt.PackagesError as error:
        if not any(path.exists() for path in ours):
            raise
        trouble = str(error)
    if not trouble:
        yield "", ()
        return
    with tempfile.TemporaryDirectory(prefix="katago-gpu-driver.") as parts:
        for path in (APT / "sources.list.d").iterdir():
            if path not in ours:
                Path(parts, path.name).symlink_to(path)
        yield trouble, (f"--option=Dir::Etc::SourceParts={parts}",)


def header_versions(
    images: Iterable[str], own: Iterable[Archive], options: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The versions that APT knows of the headers for packages with kernels.

    Those of one kernel are left out where APT has read none of the `own` archives, and cannot tell.
    """
    # What has no origin was not read.
    tells = any(each.origin for each in own)
    names = [kernels.header_package(name) for name in images if tells or kernels.follows(name)]
    return {name: tuple(apt.versions(name, options)) for name in names}


def sources_of_host() -> dict[str, str]:
    """APT's sources by file name, without this role's own."""
    paths = [APT / "sources.list", *sorted((APT / "sources.list.d").glob("*"))]
    ours = (driver_files.SOURCES, driver_files.STANZAS)
    return {
        path.name: texts.read(path) or ""
        for path in paths
        if path.suffix in (".list", ".sources") and path not in ours
    }
