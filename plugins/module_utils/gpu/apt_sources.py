"""APT's archives, and the sources that add the archives with the driver."""

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
    """A package index as APT reports it; `codename` and `origin` are empty if APT does not report them."""

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
    """Normalise a source's address the way APT does, so that two spellings of one address compare equal.

    APT turns `file:///a` into `file:/a/`, decodes `%20`, and omits the user name in its output.
    """
    host = re.sub(r"^([\w.+-]+:)///", r"\1/", unquote(uri))
    return re.sub(r"^([\w.+-]+://)[^/@]*@", r"\1", host).rstrip("/")


def archives(targets: str) -> list[Archive]:
    """Parse the output of `INDEXTARGETS`. APT prints the variable itself if it has no value."""
    rows = ([re.sub(r"\$\(.*", "", field) for field in row.split("|")] for row in targets.splitlines())
    return list(dict.fromkeys(Archive(*row) for row in rows if len(row) == 5))


def own_archives(archives: Iterable[Archive], codename: str) -> list[Archive]:
    """The archives of the host's own release, with its updates and security, by codename or suite."""
    names = {codename, f"{codename}-updates", f"{codename}-security"}
    mine = [each for each in archives if names & {each.codename, each.suite}]
    return [each for each in mine if each.origin in DISTRIBUTIONS] or mine


def pinned_releases(own: Iterable[Archive], codename: str) -> tuple[str, ...]:
    """Pin expressions for the releases that get added components: Debian's own names and a mirror's names."""
    usual = [f"o=Debian,n={codename}{kind}" for kind in ("", "-updates", "-security")]
    mirrored = [
        f"o={each.origin},n={each.codename}"
        for each in own
        if each.component == "main" and each.origin and each.codename
    ]
    return tuple(dict.fromkeys([*usual, *mirrored]))


def lacking_components(own: Iterable[Archive], codename: str) -> list[str]:
    """The components with the driver that the host's own release does not enable."""
    enabled = {each.component for each in own if codename in (each.codename, each.suite)}
    return [each for each in COMPONENTS if each not in enabled]


def sources(
    entries: Mapping[str, str], own: Iterable[Archive], components: Sequence[str]
) -> dict[Path, str | None]:
    """The source files that enable `components` of the host's own archives; None for a file not needed.

    They repeat the options of the host's own entries: APT reads no source at all if two entries of one
    archive have different options. `entries`: the host's sources by file name. [sources.list(5)]
    """
    main_archives = {(address(each.uri), each.suite) for each in own if each.component == "main"}
    lines: dict[str, None] = {}
    stanzas: dict[str, None] = {}
    for name, text in entries.items():
        if name.endswith(".sources"):
            stanzas |= dict.fromkeys(_stanzas(text, main_archives, components))
        else:
            lines |= dict.fromkeys(_lines(text, main_archives, components))
    return {
        driver_files.SOURCES: driver_files.HEAD.format("#") + "\n".join(lines) + "\n" if lines else None,
        driver_files.STANZAS: driver_files.HEAD.format("#") + "\n".join(stanzas) if stanzas else None,
    }


_LINE = re.compile(
    r"\s*deb\s+(?P<options>\[[^\]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>[^#]+)"
)


def _lines(text: str, main_archives: Container[tuple[str, str]], components: Sequence[str]) -> Iterator[str]:
    for entry in filter(None, map(_LINE.match, text.splitlines())):
        is_own = (address(entry["uri"]), entry["suite"]) in main_archives
        if is_own and "main" in entry["components"].split():
            yield f"deb {entry['options'] or ''}{entry['uri']} {entry['suite']} {' '.join(components)}"


def _stanzas(
    text: str, main_archives: Container[tuple[str, str]], components: Sequence[str]
) -> Iterator[str]:
    written = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", written):
        fields = {
            field[1].lower(): field[0].rstrip()
            for field in re.finditer(r"^(\S+?):.*(?:\n[ \t].*)*", stanza, re.M)
        }
        values = {name: field.partition(":")[2].split() for name, field in fields.items()}
        if values.get("enabled", ["yes"])[0].lower() in ("no", "false", "off", "0", "without", "disable"):
            continue
        uris = values.get("uris", [])
        suites = [
            suite
            for suite in values.get("suites", [])
            if any((address(uri), suite) in main_archives for uri in uris)
        ]
        if suites and "deb" in values.get("types", []) and "main" in values.get("components", []):
            fields |= {
                "types": "Types: deb",
                "suites": f"Suites: {' '.join(suites)}",
                "components": f"Components: {' '.join(components)}",
            }
            yield "\n".join(fields.values()) + "\n"


def of_nvidia(uri: str, archives: Iterable[Archive], url: str) -> bool:
    """Whether an archive is NVIDIA's repository or its mirror at `url`."""
    ours = (NVIDIA_REPOSITORY, *([address(url)] if url else []))
    return address(uri).startswith(ours) or any(
        each.origin == "NVIDIA" and address(each.uri) == address(uri) for each in archives
    )


def nvidia_source(system: str, release: str, url: str) -> str:
    """The APT source line for NVIDIA's repository, or for its mirror at `url`."""
    uri = url or f"{NVIDIA_REPOSITORY}/{system}{release.replace('.', '')}/x86_64/"
    return driver_files.HEAD.format("#") + f"deb [signed-by={driver_files.KEYRING}] {uri} /\n"


APT = Path("/etc/apt")


def index_targets(options: Sequence[str] = ()) -> str:
    """APT's report of its package indexes."""
    command, *arguments = INDEXTARGETS
    return apt.run([command, *options, *arguments])


@contextlib.contextmanager
def readable_sources() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield APT's error and options to work around it.

    Both are empty if APT can read its sources. If this role's own sources break APT, the options leave them
    out.
    """
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
    """The available versions of the header package of each kernel package.

    If APT has not read any of the `own` archives, header packages of a single kernel are left out, since
    their availability is unknown.
    """
    # An archive without an origin has not been read.
    is_read = any(each.origin for each in own)
    names = [kernels.header_package(name) for name in images if is_read or kernels.follows(name)]
    return {name: tuple(apt.versions(name, options)) for name in names}


def sources_of_host() -> dict[str, str]:
    """The text of APT's source files by file name, without this role's own files."""
    paths = [APT / "sources.list", *sorted((APT / "sources.list.d").glob("*"))]
    ours = (driver_files.SOURCES, driver_files.STANZAS)
    return {
        path.name: texts.read(path) or ""
        for path in paths
        if path.suffix in (".list", ".sources") and path not in ours
    }
