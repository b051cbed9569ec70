"""Which archives belong to a host's own release, and which sources add the driver's components."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.katago.fleet.plugins.module_utils.gpu import apt_sources, driver_files
from tests.unit.gpu.hosts import BARE, DEFAULTS, problems

TARGETS = (
    "http://archive.example.org/debian/|bookworm|main|bookworm|Debian\n"
    "http://archive.example.org/debian/|bookworm|main|bookworm|Debian\n"
    "http://security.example.org/debian-security/|bookworm-security|main|$(CODENAME)|$(ORIGIN)\n"
    "http://repo.example.org/|bookworm|main|bookworm|Somebody\n"
)


ARCHIVES = apt_sources.archives(TARGETS)


def test_only_archives_of_the_distribution_belong_to_the_own_release() -> None:
    assert len(ARCHIVES) == 3
    assert [each.uri for each in apt_sources.own_archives(ARCHIVES, "bookworm")] == [
        "http://archive.example.org/debian/"
    ]
    unread = apt_sources.archives(TARGETS.replace("|bookworm|Debian", "|$(CODENAME)|$(ORIGIN)"))
    assert len(apt_sources.own_archives(unread, "bookworm")) == 3


def test_release_is_identified_by_its_codename_if_its_suite_differs() -> None:
    archives = apt_sources.archives("http://m.example.org/debian/|stable|main|bookworm|Debian\n")
    own = apt_sources.own_archives(archives, "bookworm")
    assert apt_sources.lacking_components(own, "bookworm") == ["contrib", "non-free", "non-free-firmware"]
    texts = {"sources.list": "deb http://m.example.org/debian stable main # ours\n"}
    lines = apt_sources.sources(texts, own, ["non-free"])[driver_files.SOURCES]
    assert lines is not None
    assert lines.splitlines()[1:] == ["deb http://m.example.org/debian stable non-free"]


def test_components_are_added_only_to_the_own_release() -> None:
    assert "None of APT's sources is for bookworm" in " ".join(
        problems(DEFAULTS, replace(BARE, release_known=False))
    )
    unknown = apt_sources.own_archives(ARCHIVES, "trixie")
    texts = {"sources.list": "deb http://archive.example.org/debian bookworm main\n"}
    assert set(apt_sources.sources(texts, unknown, ["non-free"]).values()) == {None}


def test_added_entries_repeat_the_options_of_the_hosts_own_entries() -> None:
    own = apt_sources.archives(
        "http://a.example.org/debian/|bookworm|main|bookworm|Debian\n"
        "http://a.example.org/debian/|bookworm-security|main|bookworm-security|Debian\n"
    )
    texts = {
        "sources.list": (
            "deb [trusted=yes arch=amd64] http://a.example.org/debian bookworm main contrib\n"
            "# deb http://a.example.org/debian bookworm main\n"
            "deb http://a.example.org/debian bookworm non-free\n"
            "deb-src http://a.example.org/debian bookworm main\n"
        ),
        "debian.sources": (
            "Types: deb deb-src\nURIs: http://a.example.org/debian/\n# A note\n"
            "Suites: bookworm-security\n bookworm-backports\nComponents: main\nTrusted: yes\n"
            "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ==\n"
            "\nEnabled: no\nTypes: deb\nURIs: http://a.example.org/debian\n"
            "Suites: bookworm\nComponents: main\n"
        ),
    }
    files = apt_sources.sources(texts, own, ["non-free", "contrib"])
    lines, stanzas = files[driver_files.SOURCES], files[driver_files.STANZAS]
    assert lines is not None
    assert stanzas is not None
    assert lines.splitlines()[1:] == [
        "deb [trusted=yes arch=amd64] http://a.example.org/debian bookworm non-free contrib"
    ]
    assert stanzas.splitlines()[1:] == [
        "Types: deb",
        "URIs: http://a.example.org/debian/",
        "Suites: bookworm-security",
        "Components: non-free contrib",
        "Trusted: yes",
        "Signed-By:",
        " -----BEGIN PGP PUBLIC KEY BLOCK-----",
        " .",
        " mQ==",
    ]


def test_enabled_component_is_not_added_again() -> None:
    have = TARGETS + "http://archive.example.org/debian/|bookworm|non-free|bookworm|Debian\n"
    own = apt_sources.own_archives(apt_sources.archives(have), "bookworm")
    assert apt_sources.lacking_components(own, "bookworm") == ["contrib", "non-free-firmware"]


def test_nvidias_archives_are_identified_by_address_origin_or_mirror() -> None:
    mirror = apt_sources.Archive("http://m.example.org/cuda/", "/", "", "", "NVIDIA")
    assert apt_sources.of_nvidia(f"{apt_sources.NVIDIA_REPOSITORY}/debian12/x86_64", [], "")
    assert apt_sources.of_nvidia("http://m.example.org/cuda", [mirror], "")
    assert apt_sources.of_nvidia("http://m.example.org/cuda", [], "http://m.example.org/cuda/")
    assert apt_sources.of_nvidia("file:/srv/cuda", [], "file:///srv/cuda/")
    secret = replace(mirror, uri="http://user:word@m.example.org/cuda/")
    assert apt_sources.of_nvidia("http://m.example.org/cuda", [secret], "")
    assert not apt_sources.of_nvidia("http://archive.example.org/debian", [mirror], "")


def test_nvidias_repository_is_that_of_the_system_or_a_mirror() -> None:
    assert "/debian12/x86_64/ /" in apt_sources.nvidia_source("debian", "12", "")
    assert "/ubuntu2404/x86_64/ /" in apt_sources.nvidia_source("ubuntu", "24.04", "")
    assert "http://mirror.example.org/ /" in apt_sources.nvidia_source(
        "debian", "12", "http://mirror.example.org/"
    )


def test_third_party_archive_does_not_belong_to_ubuntus_release() -> None:
    archives = apt_sources.archives(
        "http://archive.ubuntu.com/ubuntu/|noble|restricted|noble|Ubuntu\n"
        "http://security.ubuntu.com/ubuntu/|noble-security|main|noble|Ubuntu\n"
        "https://download.docker.com/linux/ubuntu/|noble|stable|noble|Docker\n"
    )
    own = apt_sources.own_archives(archives, "noble")
    assert [each.component for each in own] == ["restricted", "main"]
